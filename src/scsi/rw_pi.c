/*
 * READ and WRITE on a unit with protection information (SBC-4, 4.21 and 5.11): made where the
 * initiator gives none, checked on the way in and on the way out, stored by the back-end. The
 * transport carries it beside the data (task->pi_out, task->pi_in); one that cannot gets the data
 * alone, and RDPROTECT or WRPROTECT is then an invalid field.
 */
#include "scsi/limits.h"
#include "scsi/pi.h"
#include "scsi/scsi_impl.h"

#define VAR_CHECKS 0 /* of task->vars: PI_CHECK_ bits */

static void rw_pi_job(const struct scsi_task *t, struct pi_job *job)
{
	const struct scsi_lu *lu = task_lu(t);

	*job = (struct pi_job){ .type = lu->pi_type,
				.block_bytes = lu->block_bytes,
				.lba = t->lba,
				.blocks = t->blocks,
				.iov = t->blk.iov,
				.iov_count = t->blk.iov_count };
}

/* false: it ended with what is wrong. */
static bool rw_pi_verified(struct scsi_task *t)
{
	struct pi_job job;
	enum scsi_cause cause;
	uint64_t lba;

	rw_pi_job(t, &job);
	cause = pi_verify(&job, t->buf, (uint32_t)t->vars[VAR_CHECKS], &lba);
	if (cause == SCSI_CAUSE_NONE)
		return true;
	t->in_bytes = 0;
	scsi_task_check_info(t, cause, lba);
	return false;
}

static void rw_pi_read_done(struct scsi_task *t, enum blk_status status)
{
	uint64_t pi_bytes = t->blocks * BLK_PI_BYTES;

	if (status != BLK_ST_OK) {
		t->in_bytes = 0;
		scsi_task_blk_failed(t, status, t->lba);
		return;
	}
	if (!rw_pi_verified(t))
		return;
	if (t->cdb[1] & SCSI_RW_PROTECT) {
		iov_cur_write_slow(t->pi_in, t->buf, pi_bytes);
		t->in_bytes += pi_bytes;
	}
	scsi_task_good(t);
}

static void rw_pi_write_done(struct scsi_task *t, enum blk_status status)
{
	if (status == BLK_ST_OK)
		scsi_task_durable(t, t->cdb[1] & SCSI_RW_FUA);
	else
		scsi_task_blk_failed(t, status, t->lba);
}

static void rw_pi_write(struct scsi_task *t, uint64_t bytes, bool given)
{
	struct scsi_lu *lu = task_lu(t);
	uint8_t flags = scsi_write_flags(lu, t->cdb[1] & SCSI_RW_FUA) | BLK_PI;
	struct pi_job job;

	t->blk.iov_count = iov_cur_first(t->out, bytes, &t->blk.iov);
	t->out_bytes = bytes;
	rw_pi_job(t, &job);
	if (!given) {
		pi_generate(&job, t->buf);
	} else {
		t->out_bytes += t->blocks * BLK_PI_BYTES;
		iov_cur_read_slow(t->pi_out, t->buf, t->blocks * BLK_PI_BYTES);
		if (!rw_pi_verified(t))
			return;
	}
	t->blk.pi = t->buf;
	scsi_task_io(t, lu, BLK_WRITE, flags, t->lba << lu->block_shift, bytes, t->blk.iov,
		     t->blk.iov_count, rw_pi_write_done);
}

void scsi_rw_pi(struct scsi_task *t, enum blk_op op)
{
	struct scsi_lu *lu = task_lu(t);
	/* the 6-byte forms have no such field */
	uint8_t protect = t->row->len_bytes == 6 ? 0 : t->cdb[1] >> 5;
	struct iov_cur *pi = !t->queue->carries_pi ? NULL : op == BLK_READ ? t->pi_in : t->pi_out;
	uint64_t bytes = t->blocks << lu->block_shift;
	uint32_t checks;

	if (!pi_checks(protect, op == BLK_WRITE, &checks) || (protect && !pi)) {
		scsi_task_bad_cdb(t, 1, 7);
		return;
	}
	if (t->blocks > scsi_transfer_blocks_max(lu)) {
		scsi_task_bad_cdb(t, t->row->len_bytes == 12 ? 6 : 10, -1);
		return;
	}
	if ((protect && pi->left_bytes < t->blocks * BLK_PI_BYTES) ||
	    (op == BLK_READ ? t->in : t->out)->left_bytes < bytes) {
		scsi_task_end_as(t, SCSI_END_OVERRUN);
		return;
	}
	if (!scsi_task_scratch(t, t->blocks * BLK_PI_BYTES))
		return;
	t->vars[VAR_CHECKS] = checks;
	if (op == BLK_WRITE) {
		rw_pi_write(t, bytes, protect);
		return;
	}
	t->blk.iov_count = iov_cur_first(t->in, bytes, &t->blk.iov);
	t->in_bytes = bytes;
	t->blk.pi = t->buf;
	scsi_task_io(t, lu, BLK_READ, BLK_PI, t->lba << lu->block_shift, bytes, t->blk.iov,
		     t->blk.iov_count, rw_pi_read_done);
}
