/* REPORT SUPPORTED OPERATION CODES and TASK MANAGEMENT FUNCTIONS (SPC-5, 6.37 and 6.38). */
#include <string.h>

#include "scsi/handlers.h"
#include "scsi/scsi_impl.h"

#define DESCRIPTOR_BYTES 8
#define TIMEOUTS_BYTES	 12
#define USAGE_AT	 4

/* REPORTING OPTIONS (SPC-5, table 203) */
enum {
	REPORT_ALL,
	REPORT_OPCODE,	  /* an opcode that has no service actions */
	REPORT_SA,	  /* an opcode and service action */
	REPORT_OPCODE_SA, /* either; service action 0 where there are none */
	REPORT_COUNT
};

#define SUPPORT_NONE	 1
#define SUPPORT_STANDARD 3

/* Command timeouts descriptor (SPC-5, 6.37.4): zeroes say that there is nothing to say. */
static size_t timeouts(uint8_t *b, bool rctd)
{
	if (rctd)
		cdb_put16(b, TIMEOUTS_BYTES - 2);
	return rctd ? TIMEOUTS_BYTES : 0;
}

static void report_all(struct scsi_task *t, bool rctd, uint32_t alloc_len)
{
	size_t len = 4;

	if (!scsi_task_scratch(t, len + cdb_row_count * (DESCRIPTOR_BYTES + TIMEOUTS_BYTES)))
		return;
	for (size_t i = 0; i < cdb_row_count; i++) {
		const struct cdb_row *row = &cdb_rows[i];
		uint8_t *b = t->buf + len;

		if (!scsi_row_offered(task_lu(t), row))
			continue;
		b[0] = row->opcode;
		if (row->sa != CDB_NO_SA) {
			cdb_put16(b + 2, (uint16_t)row->sa);
			b[5] = 0x01; /* SERVACTV */
		}
		b[5] |= rctd ? 0x02 : 0; /* CTDP */
		cdb_put16(b + 6, row->len_bytes);
		len += DESCRIPTOR_BYTES;
		len += timeouts(t->buf + len, rctd);
	}
	cdb_put32(t->buf, (uint32_t)(len - 4));
	scsi_task_reply(t, t->buf, len, alloc_len);
}

/* row NULL: not supported. */
static void report_one(struct scsi_task *t, const struct cdb_row *row, bool rctd,
		       uint32_t alloc_len)
{
	uint8_t b[USAGE_AT + SCSI_CDB_MAX + TIMEOUTS_BYTES] = { 0 };
	size_t len = USAGE_AT;

	b[1] = row ? SUPPORT_STANDARD : SUPPORT_NONE;
	if (row) {
		b[1] |= rctd ? 0x80 : 0; /* CTDP */
		cdb_put16(b + 2, row->len_bytes);
		memcpy(b + len, row->usage, row->len_bytes);
		len += row->len_bytes;
		len += timeouts(b + len, rctd);
	}
	scsi_task_reply(t, b, len, alloc_len);
}

/* The row that the CDB asks for; *ret_known: this unit has commands with the opcode. */
static const struct cdb_row *report_find(const struct scsi_lu *lu, uint8_t opcode, uint16_t sa,
					 bool *ret_known, bool *ret_has_sa)
{
	const struct cdb_row *found = NULL;

	*ret_known = *ret_has_sa = false;
	for (size_t i = 0; i < cdb_row_count; i++) {
		const struct cdb_row *row = &cdb_rows[i];

		if (row->opcode != opcode || !scsi_row_offered(lu, row))
			continue;
		*ret_known = true;
		*ret_has_sa = row->sa != CDB_NO_SA;
		if (row->sa == CDB_NO_SA ? !sa : (uint16_t)row->sa == sa)
			found = row;
	}
	return found;
}

void scsi_report_opcodes(struct scsi_task *t)
{
	bool rctd = t->cdb[2] & 0x80, known, has_sa;
	uint8_t option = t->cdb[2] & 0x07;
	uint16_t sa = cdb_u16(t->cdb + 4);
	uint32_t alloc_len = cdb_u32(t->cdb + 6);
	const struct cdb_row *row;

	if (option >= REPORT_COUNT) {
		scsi_task_bad_cdb(t, 2, 2);
		return;
	}
	if (option == REPORT_ALL) {
		report_all(t, rctd, alloc_len);
		return;
	}
	/* the service action is looked at with the other two options only */
	row = report_find(task_lu(t), t->cdb[3], option == REPORT_OPCODE ? 0 : sa, &known, &has_sa);
	if (known && has_sa && option == REPORT_OPCODE)
		scsi_task_bad_cdb(t, 2, 2);
	else if (known && !has_sa && option == REPORT_SA)
		scsi_task_bad_cdb(t, 2, 2);
	else
		report_one(t, row, rctd, alloc_len);
}

/* SPC-5, 6.38 */
void scsi_report_tmfs(struct scsi_task *t)
{
	bool repd = t->cdb[2] & 0x80;
	uint32_t alloc_len = cdb_u32(t->cdb + 6);
	uint8_t b[16] = { 0 };

	if (alloc_len < 4) {
		scsi_task_bad_cdb(t, 6, -1);
		return;
	}
	b[0] = 0xfc; /* ATS, ATSS, CACAS, CTSS, LURS, QTS */
	b[1] = 0x07; /* QAES, QTSS, ITNRS */
	b[3] = repd ? sizeof(b) - 4 : 0;
	scsi_task_reply(t, b, repd ? sizeof(b) : 4, alloc_len);
}
