/* PERSISTENT RESERVE IN (SPC-5, 6.16). */
#include <stdlib.h>

#include "scsi/handlers.h"
#include "scsi/resv.h"

#define HEADER_BYTES	   8 /* PRGENERATION, ADDITIONAL LENGTH */
#define KEY_BYTES	   8
#define RESERVATION_BYTES  16
#define CAPABILITIES_BYTES 8
#define STATUS_BYTES	   24  /* of a full status descriptor, before its TransportID */
#define TRANSPORT_ID_MAX   232 /* see scsi_transport_id */

enum in_sa {
	IN_READ_KEYS,
	IN_READ_RESERVATION,
	IN_REPORT_CAPABILITIES,
	IN_READ_FULL_STATUS,
};

/* Each writes what follows the header, and returns its length. Lock held. */

static size_t in_keys(const struct scsi_lu *lu, uint8_t *to)
{
	const struct resv_reg *reg;
	size_t len = 0;

	list_for_each(reg, &lu->resv.registrations, node) {
		cdb_put64(to + len, reg->key);
		len += KEY_BYTES;
	}
	return len;
}

/* The key is zero when every registrant holds it (SPC-5, 6.16.3.2). */
static size_t in_reservation(const struct scsi_lu *lu, uint8_t *to)
{
	if (!lu->resv.type)
		return 0;
	cdb_put64(to, lu->resv.holder ? lu->resv.holder->key : 0);
	to[13] = lu->resv.type; /* scope 0: the logical unit */
	return RESERVATION_BYTES;
}

static size_t in_full_status(const struct scsi_lu *lu, uint8_t *to)
{
	const struct resv_reg *reg;
	size_t len = 0, id_len;

	list_for_each(reg, &lu->resv.registrations, node) {
		uint8_t *d = to + len;

		cdb_put64(d, reg->key);
		if (resv_holds(lu, reg)) {
			d[12] = 0x01; /* R_HOLDER */
			d[13] = lu->resv.type;
		}
		cdb_put16(d + 18, RESV_PORT);
		id_len = scsi_transport_id(reg->initiator, d + STATUS_BYTES);
		cdb_put32(d + 20, (uint32_t)id_len);
		len += STATUS_BYTES + id_len;
	}
	return len;
}

static void in_capabilities(const struct scsi_lu *lu, uint8_t *cap)
{
	bool persists = lu->state_path;

	cap[1] = CAPABILITIES_BYTES;
	/* CRH, SIP_C, ATP_C, PTPL_C */
	cap[2] = (uint8_t)(0x10 | 0x08 | 0x04 | persists);
	/* TMV; ALLOW COMMANDS 3: TEST UNIT READY always, MODE SENSE through write exclusive */
	cap[3] = (uint8_t)(0x80 | 3 << 4 | lu->resv.aptpl);
	cap[4] = 1u << RESV_WE_AR | 1u << RESV_EA_RO | 1u << RESV_WE_RO | 1u << RESV_EA |
		 1u << RESV_WE;
	cap[5] = 1u << (RESV_EA_AR - 8);
}

/* Into t->buf; its length, 0: no memory. Lock held. */
static size_t in_build(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);
	size_t len = HEADER_BYTES + RESERVATION_BYTES +
		     lu->resv.registration_count * (STATUS_BYTES + TRANSPORT_ID_MAX);

	if (!scsi_task_buf_fits(t, len))
		return 0;
	scsi_task_buf_set(t, calloc(1, len), len);
	if (!t->buf)
		return 0;
	switch (t->cdb[1] & 0x1f) {
	case IN_REPORT_CAPABILITIES:
		in_capabilities(lu, t->buf);
		return CAPABILITIES_BYTES;
	case IN_READ_KEYS:
		len = in_keys(lu, t->buf + HEADER_BYTES);
		break;
	case IN_READ_RESERVATION:
		len = in_reservation(lu, t->buf + HEADER_BYTES);
		break;
	default: /* READ FULL STATUS: cdb.def has no other */
		len = in_full_status(lu, t->buf + HEADER_BYTES);
		break;
	}
	cdb_put32(t->buf, lu->resv.generation);
	cdb_put32(t->buf + 4, (uint32_t)len);
	return HEADER_BYTES + len;
}

void scsi_pr_in(struct scsi_task *t)
{
	struct scsi_lu *lu = task_lu(t);
	size_t len = 0;
	bool conflict;

	pthread_mutex_lock(&lu->lock);
	conflict = resv_legacy(lu);
	if (!conflict)
		len = in_build(t);
	pthread_mutex_unlock(&lu->lock);
	if (conflict)
		scsi_task_end_status(t, SCSI_RESERVATION_CONFLICT);
	else if (!len)
		scsi_task_check(t, SCSI_CAUSE_INSUFFICIENT_RESOURCES);
	else
		scsi_task_reply(t, t->buf, len, cdb_u16(t->cdb + 7));
}
