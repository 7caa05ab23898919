/* WRITE SAME (SBC-4, 5.52, 5.53): zeroes by the back-end's own means, all else by writing it. */
#include <stdlib.h>
#include <string.h>

#include "scsi/handlers.h"
#include "scsi/limits.h"
#include "scsi/sbc.h"

#define SAME_ANCHOR   0x10 /* byte 1 */
#define SAME_UNMAP    0x08
#define SAME_OBSOLETE 0x06 /* PBDATA, LBDATA */
#define SAME_NDOB     0x01 /* of the 16-byte form */

static bool all_zero(const uint8_t *block, size_t len)
{
	return !block[0] && !memcmp(block, block + 1, len - 1);
}

static void same_end(struct scsi_task *t)
{
	scsi_task_durable(t, false);
}

/* ---- writing the pattern ---- */

static void same_step(struct scsi_task *t);

static void same_written(struct scsi_task *t, enum blk_status status)
{
	if (sbc_step_ended(t, status))
		same_step(t);
}

static void same_step(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);
	uint64_t n = sbc_step_blocks(lu, t->blocks, SBC_STEP_BYTES);

	if (!n)
		same_end(t);
	else
		scsi_task_io_buf(t, NULL, BLK_WRITE, scsi_write_flags(lu, false),
				 t->lba << lu->block_shift, 0, n << lu->block_shift, same_written);
}

/* The block at the start of t->buf, as often as a step has it. */
static void same_pattern(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);
	uint64_t n = sbc_step_blocks(lu, t->blocks, SBC_STEP_BYTES);
	uint8_t *buf;

	if (!scsi_task_buf_fits(t, n << lu->block_shift)) {
		scsi_task_end_status(t, SCSI_TASK_SET_FULL);
		return;
	}
	buf = realloc(t->buf, n << lu->block_shift);
	if (!buf) {
		scsi_task_check(t, SCSI_CAUSE_INSUFFICIENT_RESOURCES);
		return;
	}
	scsi_task_buf_set(t, buf, n << lu->block_shift);
	for (uint64_t i = 1; i < n; i++)
		memcpy(buf + (i << lu->block_shift), buf, lu->block_bytes);
	same_step(t);
}

/* ---- the command ---- */

static bool same_cdb_ok(struct scsi_task *t)
{
	uint8_t flags = t->cdb[1];

	if (!sbc_protect_ok(t))
		return false;
	if (flags & SAME_ANCHOR) /* ANC_SUP is 0 */
		scsi_task_bad_cdb(t, 1, 4);
	else if (flags & SAME_UNMAP && !task_lu(t)->caps->discard)
		scsi_task_bad_cdb(t, 1, 3);
	else if (flags & SAME_OBSOLETE)
		scsi_task_bad_cdb(t, 1, flags & 0x04 ? 2 : 1);
	else if (flags & SAME_NDOB && t->row->len_bytes == 10)
		scsi_task_bad_cdb(t, 1, 0);
	else
		return true;
	return false;
}

static bool same_blocks_ok(struct scsi_task *t)
{
	cdb_lba_get(t->cdb, t->row->len_bytes, &t->lba, &t->blocks);
	if (!scsi_task_range(t, t->lba, t->blocks))
		return false;
	/* None would be "to the end": not with WSNZ. */
	if (!t->blocks || t->blocks > scsi_write_same_blocks_max(task_lu(t))) {
		scsi_task_bad_cdb(t, t->row->len_bytes == 10 ? 7 : 10, -1);
		return false;
	}
	return true;
}

/* UNMAP may unmap what then reads as the block of data-out, or as anything (SBC-4, table 134). */
static bool same_may_unmap(const struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);

	return t->cdb[1] & SAME_UNMAP && (!scsi_lu_lbprz(lu) || all_zero(t->buf, lu->block_bytes));
}

static void same_unmap(struct scsi_task *t, uint8_t flags)
{
	if (scsi_lu_lbprz(task_lu(t)))
		sbc_erase(t, BLK_WRITE_ZEROES, flags | BLK_UNMAP, same_end);
	else
		sbc_erase(t, BLK_DISCARD, 0, same_end);
}

void scsi_write_same(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);
	bool ndob = t->cdb[1] & SAME_NDOB;
	uint8_t flags = scsi_write_flags(lu, false);

	if (!same_cdb_ok(t) || !same_blocks_ok(t))
		return;
	if (!ndob && t->out->left_bytes != lu->block_bytes) {
		/* Data-out is one block, whatever the CDB says; another length is a mistake. */
		scsi_task_check(t, SCSI_CAUSE_INVALID_FIELD_CDB);
		return;
	}
	if (ndob ? !scsi_task_scratch(t, lu->block_bytes) : !scsi_task_list(t, lu->block_bytes))
		return;
	if (same_may_unmap(t)) {
		same_unmap(t, flags);
		return;
	}
	if (!lu->caps->write_zeroes || !all_zero(t->buf, lu->block_bytes)) {
		same_pattern(t);
		return;
	}
	sbc_erase(t, BLK_WRITE_ZEROES, flags, same_end);
}
