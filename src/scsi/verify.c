/*
 * VERIFY and WRITE AND VERIFY (SBC-4, 5.33 to 5.35, 5.45 to 5.47), in steps: what has been read of
 * the medium is in the first part of t->buf, what it is compared with (a copy of what was written,
 * or the one block of BYTCHK 11b) behind it.
 */
#include <string.h>

#include "base/iov.h"
#include "scsi/handlers.h"
#include "scsi/sbc.h"

#define HALF_BYTES (SBC_STEP_BYTES / 2)

enum {
	VAR_BYTCHK,
	VAR_STEP_BYTES
}; /* in t->vars */

enum bytchk {
	BYTCHK_NONE,
	BYTCHK_ALL, /* with data-out of as many blocks */
	BYTCHK_RESERVED,
	BYTCHK_ONE /* each with the one block of data-out */
};

static uint8_t *verify_second(struct scsi_task *t)
{
	return t->buf + t->vars[VAR_STEP_BYTES];
}

static uint64_t verify_left(const struct scsi_task *t)
{
	return t->blocks - t->done_blocks;
}

static uint64_t verify_at_bytes(const struct scsi_task *t)
{
	return (t->lba + t->done_blocks) << task_lu(t)->block_shift;
}

/* Memory for a step, and second_bytes behind it (0: as much). */
static bool verify_scratch(struct scsi_task *t, size_t second_bytes)
{
	const struct scsi_lu *lu = task_lu(t);

	t->done_blocks = 0;
	t->vars[VAR_STEP_BYTES] = sbc_step_blocks(lu, t->blocks, HALF_BYTES) << lu->block_shift;
	return scsi_task_scratch(t,
				 t->vars[VAR_STEP_BYTES] +
					 (second_bytes ? second_bytes : t->vars[VAR_STEP_BYTES]));
}

/* INFORMATION: where in data-out the first difference is (SPC-5, 4.4.2.2). */
static void verify_miscompare(struct scsi_task *t, uint64_t off)
{
	scsi_task_check_info(t, SCSI_CAUSE_MISCOMPARE, off);
}

/* ---- VERIFY ---- */

static void verify_step(struct scsi_task *t);

static bool verify_one_block(struct scsi_task *t, size_t len, size_t *ret_off)
{
	size_t block_bytes = task_lu(t)->block_bytes;

	for (size_t at = 0; at < len; at += block_bytes) {
		if (!memcmp(t->buf + at, verify_second(t), block_bytes))
			continue;
		*ret_off = sbc_first_difference(t->buf + at, verify_second(t), block_bytes);
		return false;
	}
	return true;
}

static void verify_read(struct scsi_task *t, enum blk_status status)
{
	const struct scsi_lu *lu = task_lu(t);
	size_t len = t->blk.len_bytes, off = 0;
	uint64_t base = 0;
	bool same = true;

	if (status != BLK_ST_OK) {
		scsi_task_blk_failed(t, status, t->lba + t->done_blocks);
		return;
	}
	if (t->vars[VAR_BYTCHK] == BYTCHK_ALL) {
		base = t->done_blocks << lu->block_shift;
		same = sbc_out_equal(t, t->buf, len, &off);
	} else if (t->vars[VAR_BYTCHK] == BYTCHK_ONE) {
		same = verify_one_block(t, len, &off);
	}
	if (!same) {
		verify_miscompare(t, base + off);
		return;
	}
	t->done_blocks += len >> lu->block_shift;
	verify_step(t);
}

static void verify_step(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);
	uint64_t n = sbc_step_blocks(lu, verify_left(t), HALF_BYTES);

	if (!n)
		scsi_task_good(t);
	else
		scsi_task_io_buf(t, NULL, BLK_READ, 0, verify_at_bytes(t), 0, n << lu->block_shift,
				 verify_read);
}

void scsi_verify(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);
	uint32_t bytchk = t->cdb[1] >> 1 & 3;
	uint64_t out_bytes;

	if (!sbc_protect_ok(t))
		return;
	if (bytchk == BYTCHK_RESERVED) {
		scsi_task_bad_cdb(t, 1, 2);
		return;
	}
	cdb_lba_get(t->cdb, t->row->len_bytes, &t->lba, &t->blocks);
	if (!scsi_task_range(t, t->lba, t->blocks))
		return;
	if (!t->blocks) {
		scsi_task_good(t);
		return;
	}
	out_bytes = bytchk == BYTCHK_ALL   ? t->blocks << lu->block_shift
		    : bytchk == BYTCHK_ONE ? lu->block_bytes
					   : 0;
	if (t->out->left_bytes < out_bytes) {
		scsi_task_end_as(t, SCSI_END_OVERRUN);
		return;
	}
	if (!verify_scratch(t, lu->block_bytes))
		return;
	t->vars[VAR_BYTCHK] = bytchk;
	if (bytchk == BYTCHK_ONE) {
		if (!iov_cur_read(t->out, verify_second(t), lu->block_bytes))
			UNREACHABLE();
		t->out_bytes = lu->block_bytes;
	}
	verify_step(t);
}

/* ---- WRITE AND VERIFY ---- */

static void write_verify_step(struct scsi_task *t);

static void write_verify_read(struct scsi_task *t, enum blk_status status)
{
	const struct scsi_lu *lu = task_lu(t);
	size_t len = t->blk.len_bytes;

	if (status != BLK_ST_OK) {
		scsi_task_blk_failed(t, status, t->lba + t->done_blocks);
		return;
	}
	if (t->vars[VAR_BYTCHK] == BYTCHK_ALL && memcmp(t->buf, verify_second(t), len)) {
		verify_miscompare(t, (t->done_blocks << lu->block_shift) +
					     sbc_first_difference(t->buf, verify_second(t), len));
		return;
	}
	t->done_blocks += len >> lu->block_shift;
	write_verify_step(t);
}

static void write_verify_written(struct scsi_task *t, enum blk_status status)
{
	if (status != BLK_ST_OK)
		scsi_task_blk_failed(t, status, t->lba + t->done_blocks);
	else
		scsi_task_io_buf(t, NULL, BLK_READ, 0, verify_at_bytes(t), 0, t->blk.len_bytes,
				 write_verify_read);
}

/* On the medium, not in a cache, is where they are to be verified: each write is durable. */
static void write_verify_step(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);
	uint64_t n = sbc_step_blocks(lu, verify_left(t), HALF_BYTES);
	size_t len = n << lu->block_shift;

	if (!n) {
		scsi_task_durable(t, true);
		return;
	}
	if (!iov_cur_read(t->out, verify_second(t), len))
		UNREACHABLE();
	t->out_bytes += len;
	scsi_task_io_buf(t, NULL, BLK_WRITE, scsi_write_flags(lu, true), verify_at_bytes(t),
			 t->vars[VAR_STEP_BYTES], len, write_verify_written);
}

void scsi_write_verify(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);
	uint32_t bytchk = t->cdb[1] >> 1 & 3;

	if (!sbc_protect_ok(t))
		return;
	if (bytchk > BYTCHK_ALL) { /* 10b and 11b are reserved here */
		scsi_task_bad_cdb(t, 1, 2);
		return;
	}
	cdb_lba_get(t->cdb, t->row->len_bytes, &t->lba, &t->blocks);
	if (!scsi_task_range(t, t->lba, t->blocks))
		return;
	if (t->out->left_bytes < t->blocks << lu->block_shift) {
		scsi_task_end_as(t, SCSI_END_OVERRUN);
		return;
	}
	if (!t->blocks) {
		scsi_task_good(t);
		return;
	}
	if (!verify_scratch(t, 0))
		return;
	t->vars[VAR_BYTCHK] = bytchk;
	write_verify_step(t);
}
