/*
 * COMPARE AND WRITE, ORWRITE and WRITE ATOMIC (SBC-4, 5.2, 5.6, 5.48): one at a time on a unit,
 * from whichever queue they come. A READ or WRITE does not wait for them: its order against them is
 * undefined as long as both are under way (SAM-6, 8.9 with the simple task attribute).
 */
#include <string.h>

#include "base/iov.h"
#include "scsi/handlers.h"
#include "scsi/limits.h"
#include "scsi/sbc.h"

static bool atomic_fua(const struct scsi_task *t)
{
	return t->cdb[1] & SCSI_RW_FUA;
}

/* ---- writing straight from data-out ---- */

static void atomic_written(struct scsi_task *t, enum blk_status status)
{
	if (status != BLK_ST_OK)
		scsi_task_blk_failed(t, status, t->lba);
	else
		scsi_task_durable(t, atomic_fua(t));
}

/* All t->blocks blocks in one request. */
static void atomic_write(struct scsi_task *t)
{
	struct scsi_lu *lu = task_lu(t);
	uint64_t bytes = t->blocks << lu->block_shift;
	struct iovec *iov;
	uint32_t count;

	count = iov_cur_first(t->out, bytes, &iov);
	t->out_bytes += bytes;
	scsi_task_io(t, NULL, BLK_WRITE, scsi_write_flags(lu, atomic_fua(t)),
		     t->lba << lu->block_shift, bytes, iov, count, atomic_written);
}

/* ---- COMPARE AND WRITE ---- */

static void caw_step(struct scsi_task *t);

static void caw_read(struct scsi_task *t, enum blk_status status)
{
	const struct scsi_lu *lu = task_lu(t);
	size_t len = t->blk.len_bytes, off;

	if (status != BLK_ST_OK) {
		scsi_task_blk_failed(t, status, t->lba + t->done_blocks);
		return;
	}
	if (!sbc_out_equal(t, t->buf, len, &off)) {
		scsi_task_check_info(t, SCSI_CAUSE_MISCOMPARE,
				     (t->done_blocks << lu->block_shift) + off);
		return;
	}
	t->done_blocks += len >> lu->block_shift;
	caw_step(t);
}

/* Nothing is written before all of it has been compared. */
static void caw_step(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);
	uint64_t n = sbc_step_blocks(lu, t->blocks - t->done_blocks, SBC_STEP_BYTES);

	if (!n)
		atomic_write(t);
	else
		scsi_task_io_buf(t, NULL, BLK_READ, 0, (t->lba + t->done_blocks) << lu->block_shift,
				 0, n << lu->block_shift, caw_read);
}

void scsi_compare_and_write(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);

	t->lba = cdb_u64(t->cdb + 2);
	t->blocks = t->cdb[13]; /* one byte: at most SCSI_CAW_BLOCKS_MAX */
	t->done_blocks = 0;
	if (!sbc_protect_ok(t) || !scsi_task_range(t, t->lba, t->blocks))
		return;
	if (!t->blocks) {
		scsi_task_good(t);
		return;
	}
	if (t->out->left_bytes != 2 * t->blocks << lu->block_shift) {
		/* Where the second half begins would be a guess. */
		scsi_task_bad_cdb(t, 13, -1);
		return;
	}
	if (scsi_task_scratch(t, sbc_step_blocks(lu, t->blocks, SBC_STEP_BYTES) << lu->block_shift))
		scsi_turn_take(t, caw_step);
}

/* ---- ORWRITE ---- */

static void orwrite_step(struct scsi_task *t);

static void orwrite_written(struct scsi_task *t, enum blk_status status)
{
	if (status != BLK_ST_OK) {
		scsi_task_blk_failed(t, status, t->lba + t->done_blocks);
		return;
	}
	t->done_blocks += t->blk.len_bytes >> task_lu(t)->block_shift;
	orwrite_step(t);
}

static void orwrite_read(struct scsi_task *t, enum blk_status status)
{
	const struct scsi_lu *lu = task_lu(t);
	size_t len = t->blk.len_bytes;
	uint8_t part[512];

	if (status != BLK_ST_OK) {
		scsi_task_blk_failed(t, status, t->lba + t->done_blocks);
		return;
	}
	for (size_t at = 0; at < len; at += sizeof(part)) { /* a block is a multiple of 512 */
		if (!iov_cur_read(t->out, part, sizeof(part)))
			UNREACHABLE();
		for (size_t i = 0; i < sizeof(part); i++)
			t->buf[at + i] |= part[i];
	}
	t->out_bytes += len;
	scsi_task_io_buf(t, NULL, BLK_WRITE, scsi_write_flags(lu, atomic_fua(t)),
			 t->blk.offset_bytes, 0, len, orwrite_written);
}

static void orwrite_step(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);
	uint64_t n = sbc_step_blocks(lu, t->blocks - t->done_blocks, SBC_STEP_BYTES);

	if (!n)
		scsi_task_durable(t, atomic_fua(t));
	else
		scsi_task_io_buf(t, NULL, BLK_READ, 0, (t->lba + t->done_blocks) << lu->block_shift,
				 0, n << lu->block_shift, orwrite_read);
}

/* Range and data-out of t->lba and t->blocks. false: the task ended, an empty one well. */
static bool atomic_ready(struct scsi_task *t)
{
	if (t->out->left_bytes < t->blocks << task_lu(t)->block_shift) {
		scsi_task_end_as(t, SCSI_END_OVERRUN);
		return false;
	}
	if (!t->blocks) {
		scsi_task_good(t);
		return false;
	}
	return true;
}

void scsi_orwrite(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);

	cdb_lba_get(t->cdb, 16, &t->lba, &t->blocks);
	t->done_blocks = 0;
	if (!sbc_protect_ok(t) || !scsi_task_range(t, t->lba, t->blocks) || !atomic_ready(t))
		return;
	if (scsi_task_scratch(t, sbc_step_blocks(lu, t->blocks, SBC_STEP_BYTES) << lu->block_shift))
		scsi_turn_take(t, orwrite_step);
}

/* ---- WRITE ATOMIC ---- */

void scsi_write_atomic(struct scsi_task *t)
{
	t->lba = cdb_u64(t->cdb + 2);
	t->blocks = cdb_u16(t->cdb + 12);
	if (!sbc_protect_ok(t) || !scsi_task_range(t, t->lba, t->blocks))
		return;
	if (cdb_u16(t->cdb + 10)) {
		scsi_task_bad_cdb(t, 10, -1); /* ATOMIC BOUNDARY: the largest is 0 */
		return;
	}
	if (t->blocks > scsi_atomic_blocks_max(task_lu(t))) {
		scsi_task_bad_cdb(t, 12, -1);
		return;
	}
	if (atomic_ready(t))
		scsi_turn_take(t, atomic_write);
}
