/*
 * LOG SENSE (SPC-5, 6.8 and 7.3). One row a page.
 *
 * Not among them: self-test results and application client pages, because nothing here runs a
 * self-test or takes LOG SELECT; logical block provisioning, because the block layer does not
 * count what is mapped, and the page's thresholds are optional (SBC-4, 4.7.3.7.2).
 */
#include <string.h>

#include "scsi/handlers.h"
#include "scsi/scsi_impl.h"

#define SUBPAGE_ALL	 0xff
#define LOG_BYTES_MAX	 256
#define TEMPERATURE_NONE 0xff
#define PC_CUMULATIVE	 1
#define BINARY_LIST	 0x03 /* FORMAT AND LINKING 11b (SPC-5, 7.3.2.2.2) */

struct log {
	const struct scsi_task *t;
	uint32_t from; /* PARAMETER POINTER */
	uint8_t bytes[LOG_BYTES_MAX];
	size_t len;
};

/* A parameter: the len bytes of its value; NULL when the initiator starts after it. */
static uint8_t *log_param(struct log *l, uint16_t code, uint8_t control, uint8_t len)
{
	uint8_t *b = l->bytes + l->len;

	if (code < l->from)
		return NULL;
	ASSERT(l->len + 4 + len <= LOG_BYTES_MAX);
	cdb_put16(b, code);
	b[2] = control;
	b[3] = len;
	l->len += 4u + len;
	return b + 4;
}

/* Temperature (SPC-5, 7.3.22): a disk that is a file has none. */
static void log_temperature(struct log *l)
{
	for (uint16_t code = 0; code <= 1; code++) {
		uint8_t *b = log_param(l, code, BINARY_LIST, 2);

		if (b)
			b[1] = TEMPERATURE_NONE;
	}
}

/* Informational exceptions (SPC-5, 7.3.11): none. */
static void log_exceptions(struct log *l)
{
	uint8_t *b = log_param(l, 0, BINARY_LIST, 4);

	if (b)
		b[2] = TEMPERATURE_NONE;
}

/* General statistics and performance (SPC-5, 7.3.9): of the block node, all initiators. */
static void log_statistics(struct log *l)
{
	const struct scsi_lu *lu = task_lu(l->t);
	struct blk_stats stats = { 0 };
	uint8_t *b = log_param(l, 1, BINARY_LIST, 64);

	if (b) {
		blk_dev_stats(lu->dev, &stats);
		cdb_put64(b, stats.ops[BLK_READ]);
		cdb_put64(b + 8, stats.ops[BLK_WRITE]);
		cdb_put64(b + 16, stats.bytes[BLK_WRITE] >> lu->block_shift);
		cdb_put64(b + 24, stats.bytes[BLK_READ] >> lu->block_shift);
	}
	/* processing and idle times are not measured: no intervals, of a millisecond each */
	log_param(l, 2, BINARY_LIST, 8);
	b = log_param(l, 3, BINARY_LIST, 8);
	if (b) {
		cdb_put32(b, 3);
		cdb_put32(b + 4, 1);
	}
}

static const struct log_page {
	uint8_t code;
	uint8_t code_max;	      /* greatest parameter code */
	bool counters;		      /* bounded counters, so that PC tells values from limits */
	void (*build)(struct log *l); /* NULL: supported pages */
} log_pages[] = {
	{ 0x00, 0, false, NULL },
	{ 0x0d, 1, false, log_temperature },
	{ 0x19, 3, true, log_statistics },
	{ 0x2f, 0, false, log_exceptions },
};

static const struct log_page *log_page_find(uint8_t code)
{
	for (size_t i = 0; i < ARRAY_SIZE(log_pages); i++)
		if (log_pages[i].code == code)
			return &log_pages[i];
	return NULL;
}

/* Supported pages (00h/00h), pages and subpages (00h/FFh), subpages of a page (xx/FFh). */
static void log_supported(struct log *l, const struct log_page *of, uint8_t subpage)
{
	for (size_t i = 0; i < ARRAY_SIZE(log_pages); i++) {
		if (of->code && of != &log_pages[i])
			continue;
		l->bytes[l->len++] = log_pages[i].code;
		if (subpage != SUBPAGE_ALL)
			continue;
		l->bytes[l->len++] = 0;
		l->bytes[l->len++] = log_pages[i].code;
		l->bytes[l->len++] = SUBPAGE_ALL;
	}
}

void scsi_log_sense(struct scsi_task *t)
{
	uint8_t pc = t->cdb[2] >> 6, subpage = t->cdb[3];
	const struct log_page *page = log_page_find(t->cdb[2] & 0x3f);
	struct log l = { .t = t, .from = cdb_u16(t->cdb + 5), .len = 4 };
	bool lists = page && (!page->build || subpage == SUBPAGE_ALL);

	if (t->cdb[1] & 0x03) { /* PPC, obsolete; SP: nothing is saved */
		scsi_task_bad_cdb(t, 1, t->cdb[1] & 0x02 ? 1 : 0);
		return;
	}
	if (!page) {
		scsi_task_bad_cdb(t, 2, 5);
		return;
	}
	if (subpage && subpage != SUBPAGE_ALL) {
		scsi_task_bad_cdb(t, 3, -1);
		return;
	}
	if (!lists && page->counters && pc != PC_CUMULATIVE) { /* no thresholds, no defaults */
		scsi_task_bad_cdb(t, 2, 7);
		return;
	}
	if (l.from > (lists ? 0 : page->code_max)) {
		scsi_task_bad_cdb(t, 5, -1);
		return;
	}
	if (lists)
		log_supported(&l, page, subpage);
	else
		page->build(&l);
	l.bytes[0] = page->code | (subpage ? 0x40 : 0); /* SPF */
	l.bytes[1] = subpage;
	cdb_put16(l.bytes + 2, (uint16_t)(l.len - 4));
	scsi_task_reply(t, l.bytes, l.len, cdb_u16(t->cdb + 7));
}
