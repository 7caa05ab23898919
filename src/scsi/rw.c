/*
 * READ and WRITE (SBC-4, 5.11 to 5.16, 5.37 to 5.43): straight from the initiator's memory to the
 * back-end. The one path of this room that counts instructions.
 */
#include "scsi/handlers.h"
#include "scsi/scsi_impl.h"

static __attribute__((noinline)) void rw_end(struct scsi_task *t)
{
	if (t->blk.status != BLK_ST_OK) {
		t->in_bytes = 0;
		scsi_task_blk_failed(t, (enum blk_status)t->blk.status, t->lba);
	} else if (t->blk.op == BLK_READ) {
		scsi_task_good(t); /* or as aborted */
	} else {
		scsi_task_durable(t, t->row->len_bytes != 6 && t->cdb[1] & SCSI_RW_FUA);
	}
}

static void rw_done(struct blk_req *blk)
{
	struct scsi_task *t = container_of(blk, struct scsi_task, blk);

	if (likely(blk->op == BLK_READ && blk->status == BLK_ST_OK && !t->unusual))
		scsi_task_finish(t);
	else
		rw_end(t);
}

static __attribute__((noinline)) struct blk_chan *rw_chan_open(struct scsi_task *t)
{
	struct blk_chan *chan = scsi_loop_chan(t->queue->sl, task_lu(t));

	if (t->itl == t->queue->last_itl)
		t->queue->last_chan = chan;
	if (!chan)
		scsi_task_check(t, SCSI_CAUSE_INSUFFICIENT_RESOURCES);
	return chan;
}

/* What is wrong with it, or out of the ordinary; true: it was ended, or goes another way. */
static __attribute__((noinline)) bool rw_unusual(struct scsi_task *t, enum blk_op op,
						 const struct iov_cur *cur, uint64_t blocks)
{
	struct scsi_lu *lu = task_lu(t);

	if (t->row->len_bytes != 6 && t->cdb[1] & SCSI_RW_PROTECT && !lu->pi_type) {
		scsi_task_bad_cdb(t, 1, 7);
		return true;
	}
	if (!scsi_task_range(t, t->lba, blocks))
		return true;
	if (!blocks) {
		scsi_task_good(t);
		return true;
	}
	if (lu->pi_type) {
		t->blocks = blocks;
		scsi_rw_pi(t, op);
		return true;
	}
	if (cur->left_bytes < blocks << lu->block_shift) {
		scsi_task_end_as(t, SCSI_END_OVERRUN);
		return true;
	}
	return false;
}

/* Also for a FUA read: what it must not miss are writes that completed, and those we see. */
static inline void rw_start(struct scsi_task *t, enum blk_op op, struct iov_cur *cur)
{
	struct scsi_queue *q = t->queue;
	struct scsi_lu *lu = task_lu(t);
	struct blk_chan *chan = q->last_chan;
	uint64_t blocks, bytes;

	cdb_lba_get(t->cdb, t->row->len_bytes, &t->lba, &blocks);
	bytes = blocks << lu->block_shift;
	/* The whole buffer, as drivers give it, and not the protection bits of byte 1; the rest is
	 * looked at in order. */
	if (unlikely(cur->left_bytes != bytes || !blocks || lu->pi_type ||
		     t->cdb[1] & SCSI_RW_PROTECT ||
		     !num_range_ok(t->lba, blocks, scsi_lu_blocks(lu))) &&
	    rw_unusual(t, op, cur, blocks))
		return;
	if (unlikely(!chan)) {
		chan = rw_chan_open(t);
		if (!chan)
			return;
	}
	t->blk.op = (uint8_t)op;
	t->blk.flags = 0;
	if (op == BLK_WRITE) {
		t->blk.flags =
			scsi_write_flags(lu, t->row->len_bytes != 6 && t->cdb[1] & SCSI_RW_FUA);
		t->out_bytes = bytes;
	} else {
		t->in_bytes = bytes;
	}
	t->blk.iov_count = iov_cur_first(cur, bytes, &t->blk.iov);
	t->blk.offset_bytes = t->lba << lu->block_shift;
	t->blk.len_bytes = bytes;
	t->blk.done = rw_done;
	blk_submit(chan, &t->blk);
}

void scsi_read(struct scsi_task *t)
{
	rw_start(t, BLK_READ, t->in);
}

void scsi_write(struct scsi_task *t)
{
	rw_start(t, BLK_WRITE, t->out);
}
