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

static void rw_on_done(struct blk_req *blk)
{
	struct scsi_task *t = container_of(blk, struct scsi_task, blk);

	if (likely(blk->op == BLK_READ && blk->status == BLK_ST_OK && !t->unusual))
		scsi_task_finish_usual(t);
	else
		rw_end(t);
}

static inline void rw_submit(struct scsi_task *t, enum blk_op op, const struct iov_cur *cur,
			     struct blk_chan *chan)
{
	const struct scsi_lu *lu = task_lu(t);
	uint64_t bytes = cur->left_bytes;

	t->blk.op = (uint8_t)op;
	t->blk.flags = 0;
	if (op == BLK_WRITE) {
		t->blk.flags =
			scsi_write_flags(lu, t->row->len_bytes != 6 && t->cdb[1] & SCSI_RW_FUA);
		t->out_bytes = bytes;
	} else {
		t->in_bytes = bytes;
	}
	t->blk.iov = cur->iov;
	t->blk.iov_count = cur->count;
	t->blk.offset_bytes = t->lba << lu->block_shift;
	t->blk.len_bytes = bytes;
	t->blk.done = rw_on_done;
	blk_submit(chan, &t->blk);
}

static struct blk_chan *rw_chan(struct scsi_task *t)
{
	struct scsi_queue *q = t->queue;
	struct blk_chan *chan = scsi_queue_chan(q, task_lu(t));

	if (t->itl == q->last_itl && !task_lu(t)->pi_type)
		q->last_chan = chan;
	return chan;
}

/* What is wrong with it, or out of the ordinary, in the order of the standard. */
static __attribute__((noinline)) void rw_unusual(struct scsi_task *t, enum blk_op op,
						 struct iov_cur *cur, uint64_t blocks)
{
	struct scsi_lu *lu = task_lu(t);
	struct blk_chan *chan = rw_chan(t);
	struct iovec *iov;
	uint32_t count;

	if (t->row->len_bytes != 6 && t->cdb[1] & SCSI_RW_PROTECT && !lu->pi_type) {
		scsi_task_bad_cdb(t, 1, 7);
	} else if (!scsi_task_range(t, t->lba, blocks)) {
		return;
	} else if (!blocks) {
		scsi_task_good(t);
	} else if (lu->pi_type) {
		t->blocks = blocks;
		scsi_rw_pi(t, op);
	} else if (cur->left_bytes < blocks << lu->block_shift) {
		scsi_task_end_as(t, SCSI_END_OVERRUN);
	} else if (!chan) {
		scsi_task_check(t, SCSI_CAUSE_INSUFFICIENT_RESOURCES);
	} else {
		count = iov_cur_first(cur, blocks << lu->block_shift, &iov);
		iov_cur_init(cur, iov, count, blocks << lu->block_shift);
		rw_submit(t, op, cur, chan);
	}
}

/*
 * Ordinary is: a buffer of exactly the right size, as drivers give it, and none of the protection
 * bits; a unit with protection information has no last_chan. The range of such a one is left to the
 * waist; here only the shift must not wrap. Also for a FUA read: what it must not miss are writes
 * that completed, and those we see.
 */
static inline void rw_start(struct scsi_task *t, enum blk_op op, struct iov_cur *cur)
{
	const struct scsi_lu *lu = task_lu(t);
	struct blk_chan *chan = t->queue->last_chan;
	uint64_t lba, blocks;

	cdb_lba_get(t->cdb, t->row->len_bytes, &lba, &blocks);
	t->lba = lba;
	if (unlikely(cur->left_bytes != blocks << lu->block_shift || !blocks || cur->skip_bytes ||
		     lba > UINT64_MAX >> 16 || t->cdb[1] & SCSI_RW_PROTECT || !chan))
		rw_unusual(t, op, cur, blocks);
	else
		rw_submit(t, op, cur, chan);
}

void scsi_read(struct scsi_task *t)
{
	rw_start(t, BLK_READ, t->in);
}

void scsi_write(struct scsi_task *t)
{
	rw_start(t, BLK_WRITE, t->out);
}
