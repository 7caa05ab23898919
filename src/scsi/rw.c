/*
 * READ and WRITE (SBC-4, 5.11 to 5.16, 5.37 to 5.43): straight from the initiator's memory to the
 * back-end. The one path of this room that counts instructions.
 */
#include "scsi/handlers.h"
#include "scsi/scsi_impl.h"

static void rw_done(struct scsi_task *t, enum blk_status status)
{
	if (unlikely(status != BLK_ST_OK)) {
		t->in_bytes = 0;
		scsi_task_blk_failed(t, status, t->lba);
		return;
	}
	if (t->blk.op == BLK_READ)
		scsi_task_good(t);
	else
		scsi_task_durable(t, t->row->len_bytes != 6 && t->cdb[1] & SCSI_RW_FUA);
}

/* Also for a FUA read: what it must not miss are writes that completed, and those we see. */
static inline void rw_start(struct scsi_task *t, enum blk_op op, struct iov_cur *cur)
{
	struct scsi_lu *lu = task_lu(t);
	uint64_t blocks, bytes;
	uint32_t count, len_bytes = t->row->len_bytes;
	struct iovec *iov;
	uint8_t flags = 0;

	cdb_lba_get(t->cdb, len_bytes, &t->lba, &blocks);
	if (unlikely(len_bytes != 6 && t->cdb[1] & SCSI_RW_PROTECT && !lu->pi_type)) {
		scsi_task_bad_cdb(t, 1, 7);
		return;
	}
	if (unlikely(!scsi_task_range(t, t->lba, blocks)))
		return;
	if (unlikely(lu->pi_type && blocks)) {
		t->blocks = blocks;
		scsi_rw_pi(t, op);
		return;
	}
	bytes = blocks << lu->block_shift;
	if (unlikely(cur->left_bytes < bytes)) {
		scsi_task_end_as(t, SCSI_END_OVERRUN);
		return;
	}
	if (unlikely(!blocks)) {
		scsi_task_good(t);
		return;
	}
	if (op == BLK_WRITE) {
		flags = scsi_write_flags(lu, len_bytes != 6 && t->cdb[1] & SCSI_RW_FUA);
		t->out_bytes = bytes;
	} else {
		t->in_bytes = bytes;
	}
	count = iov_cur_first(cur, bytes, &iov);
	scsi_task_io(t, lu, op, flags, t->lba << lu->block_shift, bytes, iov, count, rw_done);
}

void scsi_read(struct scsi_task *t)
{
	rw_start(t, BLK_READ, t->in);
}

void scsi_write(struct scsi_task *t)
{
	rw_start(t, BLK_WRITE, t->out);
}
