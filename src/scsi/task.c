/*
 * One command from start to end: see scsi.h and scsi_impl.h.
 *
 *   scsi_task_start -> look-up of the unit -> row -> gate -> handler -> one of the scsi_task_ ends
 *                                                              | ^
 *                                                              v | scsi_task_io ... next
 *                                                            block request
 *
 * Invariants
 *  1. A task is in sl->tasks from the start to its end.
 *  2. done is called once. While `starting` (the handler runs inside scsi_task_start) the end is
 *     put off to the phase "done".
 *  3. A task that was aborted (abort_end) ends when its block request comes back: the memory that
 *     it uses is the initiator's again only then.
 */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "scsi/copy.h"
#include "scsi/scsi_impl.h"

#define CONTROL_NACA 0x04 /* SAM-6, 5.2 */

/* ---- the end ---- */

void scsi_task_finish_slow(struct scsi_task *t)
{
	list_remove(&t->node);
	if (t->has_buf) {
		if (t->row->flags & CDB_COPIES)
			scsi_copy_ended(t);
		free(t->buf);
		scsi_task_buf_set(t, NULL, 0);
	}
	if (t->exclusive)
		scsi_turn_give(t);
	if (t->swept)
		sweep_task_ended(t);
	t->done(t);
}

static void task_finish_work(struct loop_work *work)
{
	scsi_task_finish(container_of(work, struct scsi_task, work));
}

static inline void task_end(struct scsi_task *t)
{
	if (likely(!t->starting)) {
		scsi_task_finish(t);
		return;
	}
	t->work.fn = task_finish_work;
	loop_defer(t->queue->sl->loop, &t->work);
}

static void task_end_aborted(struct scsi_task *t)
{
	t->sense_len = 0;
	t->in_bytes = t->out_bytes = 0;
	t->end = t->abort_status ? SCSI_END_COMPLETE : t->abort_end;
	t->status = t->abort_status ? SCSI_TASK_ABORTED : SCSI_GOOD;
	task_end(t);
}

void scsi_task_good(struct scsi_task *t)
{
	if (unlikely(t->abort_end)) {
		task_end_aborted(t);
		return;
	}
	t->end = SCSI_END_COMPLETE;
	t->status = SCSI_GOOD;
	t->sense_len = 0;
	task_end(t);
}

void scsi_task_end_status(struct scsi_task *t, enum scsi_status status)
{
	if (unlikely(t->abort_end)) {
		task_end_aborted(t);
		return;
	}
	t->end = SCSI_END_COMPLETE;
	t->status = (uint8_t)status;
	t->sense_len = 0;
	task_end(t);
}

void scsi_task_end_as(struct scsi_task *t, enum scsi_end end)
{
	t->end = (uint8_t)end;
	t->status = SCSI_GOOD;
	t->sense_len = 0;
	task_end(t);
}

static bool task_descriptor_sense(const struct scsi_task *t)
{
	return t->itl && atomic_load_explicit(&task_lu(t)->mode.d_sense, memory_order_relaxed);
}

void scsi_task_check_extra(struct scsi_task *t, enum scsi_cause cause,
			   const struct sense_extra *extra)
{
	if (unlikely(t->abort_end)) {
		task_end_aborted(t);
		return;
	}
	t->end = SCSI_END_COMPLETE;
	t->status = SCSI_CHECK_CONDITION;
	t->sense_len = sense_build(t->sense, task_descriptor_sense(t), cause, extra);
	task_end(t);
}

void scsi_task_check(struct scsi_task *t, enum scsi_cause cause)
{
	scsi_task_check_extra(t, cause, NULL);
}

void scsi_task_check_info(struct scsi_task *t, enum scsi_cause cause, uint64_t info)
{
	const struct sense_extra extra = { .has_info = true, .info = info };

	scsi_task_check_extra(t, cause, &extra);
}

static void task_bad_field(struct scsi_task *t, enum scsi_cause cause, bool in_cdb, uint32_t byte,
			   int bit)
{
	const struct sense_extra extra = { .has_field = true,
					   .field_in_cdb = in_cdb,
					   .field_bit = (int8_t)bit,
					   .field_byte =
						   (uint16_t)MIN(byte, (uint32_t)UINT16_MAX) };

	scsi_task_check_extra(t, cause, &extra);
}

void scsi_task_bad_cdb(struct scsi_task *t, uint32_t byte, int bit)
{
	task_bad_field(t, SCSI_CAUSE_INVALID_FIELD_CDB, true, byte, bit);
}

void scsi_task_bad_list(struct scsi_task *t, uint32_t byte, int bit)
{
	task_bad_field(t, SCSI_CAUSE_INVALID_FIELD_LIST, false, byte, bit);
}

void scsi_task_blk_failed(struct scsi_task *t, enum blk_status status, uint64_t lba)
{
	bool reads = t->blk.op == BLK_READ;

	switch (status) {
	case BLK_ST_RANGE:
		scsi_task_check_info(t, SCSI_CAUSE_LBA_OUT_OF_RANGE, lba);
		return;
	case BLK_ST_READ_ONLY:
		scsi_task_check(t, SCSI_CAUSE_WRITE_PROTECTED);
		return;
	case BLK_ST_NO_SPACE:
		scsi_task_check(t, SCSI_CAUSE_SPACE_ALLOC_FAILED);
		return;
	case BLK_ST_IOERR:
	case BLK_ST_GONE:
	case BLK_ST_ABORTED:
	case BLK_ST_NVME:
		scsi_task_check_info(t, reads ? SCSI_CAUSE_READ_ERROR : SCSI_CAUSE_WRITE_ERROR,
				     lba);
		return;
	case BLK_ST_UNSUPP:
	case BLK_ST_ALIGN:
		scsi_task_check(t, SCSI_CAUSE_INTERNAL_FAILURE);
		return;
	case BLK_ST_OK:
	case BLK_ST_COUNT:
		break;
	}
	UNREACHABLE();
}

/* ---- data ---- */

void scsi_task_reply(struct scsi_task *t, const void *from, size_t len, size_t alloc_len)
{
	len = MIN(len, alloc_len);
	len = MIN(len, (size_t)t->in->left_bytes);
	if (len && !t->abort_end) {
		iov_cur_write_slow(t->in, from, len);
		t->in_bytes += len;
	}
	scsi_task_good(t);
}

bool scsi_task_buf_fits(const struct scsi_task *t, size_t len)
{
	return atomic_load(&t->queue->nexus->buf_bytes) + len <= SCSI_BUF_MAX_BYTES;
}

void scsi_task_buf_set(struct scsi_task *t, uint8_t *buf, size_t len)
{
	atomic_size_t *sum = &t->queue->nexus->buf_bytes;

	if (t->has_buf)
		atomic_fetch_sub(sum, t->buf_bytes);
	t->buf = buf;
	t->has_buf = buf;
	t->buf_bytes = buf ? (uint32_t)len : 0;
	atomic_fetch_add(sum, t->buf_bytes);
}

bool scsi_task_scratch(struct scsi_task *t, size_t len)
{
	ASSERT(!t->has_buf);
	len = MAX(len, (size_t)1);
	if (!scsi_task_buf_fits(t, len)) {
		scsi_task_end_status(t, SCSI_TASK_SET_FULL);
		return false;
	}
	scsi_task_buf_set(t, calloc(1, len), len);
	if (!t->buf)
		scsi_task_check(t, SCSI_CAUSE_INSUFFICIENT_RESOURCES);
	return t->buf;
}

bool scsi_task_list(struct scsi_task *t, size_t len)
{
	if (len > t->out->left_bytes) {
		scsi_task_end_as(t, SCSI_END_OVERRUN);
		return false;
	}
	if (!scsi_task_scratch(t, len))
		return false;
	if (len)
		iov_cur_read_slow(t->out, t->buf, len);
	t->out_bytes += len;
	return true;
}

bool scsi_task_range(struct scsi_task *t, uint64_t lba, uint64_t blocks)
{
	if (likely(num_range_ok(lba, blocks, scsi_lu_blocks(task_lu(t)))))
		return true;
	scsi_task_check_info(t, SCSI_CAUSE_LBA_OUT_OF_RANGE, lba);
	return false;
}

/* ---- block requests ---- */

static void task_io_done(struct blk_req *blk)
{
	struct scsi_task *t = container_of(blk, struct scsi_task, blk);

	if (unlikely(t->abort_end))
		task_end_aborted(t);
	else
		t->next(t, (enum blk_status)blk->status);
}

void scsi_task_io(struct scsi_task *t, struct scsi_lu *on, enum blk_op op, uint8_t flags,
		  uint64_t offset_bytes, uint64_t len_bytes, struct iovec *iov, uint32_t iov_count,
		  void (*next)(struct scsi_task *t, enum blk_status status))
{
	struct blk_chan *chan = scsi_queue_chan(t->queue, on ? on : task_lu(t));

	if (unlikely(!chan)) {
		scsi_task_check(t, SCSI_CAUSE_INSUFFICIENT_RESOURCES);
		return;
	}
	t->next = next;
	t->blk.op = (uint8_t)op;
	t->blk.flags = flags;
	t->blk.iov = iov;
	t->blk.iov_count = iov_count;
	t->blk.offset_bytes = offset_bytes;
	t->blk.len_bytes = len_bytes;
	t->blk.done = task_io_done;
	blk_submit(chan, &t->blk);
}

void scsi_task_io_buf(struct scsi_task *t, struct scsi_lu *on, enum blk_op op, uint8_t flags,
		      uint64_t offset_bytes, size_t buf_off, size_t len_bytes,
		      void (*next)(struct scsi_task *t, enum blk_status status))
{
	t->iov = (struct iovec){ .iov_base = t->buf + buf_off, .iov_len = len_bytes };
	scsi_task_io(t, on, op, flags, offset_bytes, len_bytes, &t->iov, 1, next);
}

uint8_t scsi_write_flags(const struct scsi_lu *lu, bool fua)
{
	bool through = !atomic_load_explicit(&lu->mode.wce, memory_order_relaxed);

	return (fua || through) && lu->caps->volatile_cache && lu->caps->fua ? BLK_FUA : 0;
}

static void task_flushed(struct scsi_task *t, enum blk_status status)
{
	if (status == BLK_ST_OK)
		scsi_task_good(t);
	else
		scsi_task_blk_failed(t, status, t->lba);
}

void scsi_task_durable(struct scsi_task *t, bool fua)
{
	const struct scsi_lu *lu = task_lu(t);
	bool through = !atomic_load_explicit(&lu->mode.wce, memory_order_relaxed);

	if (likely(!(fua || through) || !lu->caps->volatile_cache || lu->caps->fua || t->abort_end))
		scsi_task_good(t);
	else
		scsi_task_io(t, NULL, BLK_FLUSH, 0, 0, 0, NULL, 0, task_flushed);
}

/* ---- the start ---- */

bool scsi_row_offered(const struct scsi_lu *lu, const struct cdb_row *row)
{
	if (row->flags & CDB_MAP)
		return lu->caps->discard;
	if (row->flags & CDB_SANITIZE)
		return lu->caps->write_zeroes || lu->caps->secure_erase;
	return true;
}

static void task_check_ua(struct scsi_task *t, enum scsi_ua ua)
{
	t->end = SCSI_END_COMPLETE;
	t->status = SCSI_CHECK_CONDITION;
	t->sense_len = sense_build_ua(t->sense, task_descriptor_sense(t), ua);
	task_end(t);
}

/*
 * Something in the gate may stop it. RESERVATION CONFLICT comes before a unit attention (SAM-6,
 * 5.3.3), that before what the unit's state forbids. true: it was stopped, and ended.
 */
static __attribute__((noinline)) bool task_gate(struct scsi_task *t, uint32_t gate)
{
	struct scsi_lu *lu = task_lu(t);
	uint32_t flags = t->row->flags;
	struct sense_extra extra = { 0 };
	enum scsi_cause cause = SCSI_CAUSE_NONE;
	enum scsi_ua ua = SCSI_UA_COUNT;

	if (flags & gate & (GATE_RESV_READ | GATE_RESV_WRITE | GATE_LEGACY)) {
		scsi_task_end_status(t, SCSI_RESERVATION_CONFLICT);
		return true;
	}
	pthread_mutex_lock(&lu->lock);
	if (gate & GATE_UA && !(flags & CDB_NO_UA))
		ua = scsi_ua_take(t->itl);
	if (ua == SCSI_UA_COUNT) {
		if (gate & GATE_ALUA)
			cause = scsi_alua_cause(lu, t->row);
		if (cause == SCSI_CAUSE_NONE && flags & gate & GATE_MEDIUM)
			cause = scsi_lu_not_ready(lu, &extra);
	}
	pthread_mutex_unlock(&lu->lock);
	if (ua != SCSI_UA_COUNT)
		task_check_ua(t, ua);
	else if (cause != SCSI_CAUSE_NONE)
		scsi_task_check_extra(t, cause, &extra);
	return ua != SCSI_UA_COUNT || cause != SCSI_CAUSE_NONE;
}

static bool task_write_protected(const struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);

	return lu->read_only || atomic_load_explicit(&lu->mode.swp, memory_order_relaxed);
}

/* No unit there: some commands are answered all the same (SPC-5, 6.6.1). */
static __attribute__((noinline)) void task_no_lun(struct scsi_task *t, enum cdb_found found)
{
	if (!scsi_target_exists(t->queue, t->target))
		scsi_task_end_as(t, SCSI_END_BAD_TARGET);
	else if (found == CDB_FOUND && t->row->flags & CDB_ANY_LUN)
		t->row->run(t);
	else
		scsi_task_check(t, SCSI_CAUSE_LU_NOT_SUPPORTED);
}

static void task_run_stopped(struct scsi_task *t, uint32_t gate)
{
	if (t->row->flags & gate & GATE_WRITES)
		scsi_token_on_write(t);
	t->row->run(t);
}

/* Everything that is checked, in the order of the standards. */
static __attribute__((noinline)) void task_dispatch(struct scsi_task *t)
{
	enum cdb_found found = cdb_find(t->cdb, &t->row);
	uint32_t gate;

	if (!t->itl) {
		task_no_lun(t, found);
		return;
	}
	if (found == CDB_BAD_OPCODE ||
	    (found == CDB_FOUND && !scsi_row_offered(task_lu(t), t->row))) {
		scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
		return;
	}
	if (found == CDB_BAD_SA) {
		scsi_task_bad_cdb(t, cdb_sa_byte(t->cdb[0]), 4);
		return;
	}
	gate = atomic_load_explicit(&t->itl->gate, memory_order_acquire);
	if (task_gate(t, gate))
		return;
	/* NACA: no ACA here (NormACA is 0) */
	if (t->cdb[t->row->len_bytes - 1] & CONTROL_NACA)
		scsi_task_bad_cdb(t, t->row->len_bytes - 1u, 2);
	else if (t->row->flags & CDB_WRITES && task_write_protected(t))
		scsi_task_check(t, SCSI_CAUSE_WRITE_PROTECTED);
	else
		task_run_stopped(t, gate);
}

/* Nothing for task_dispatch to find: what the flags of an ordinary command tell in one look. */
static inline bool task_is_ordinary(const struct scsi_task *t, const struct cdb_row *row,
				    const struct scsi_itl *itl)
{
	uint32_t flags = row->flags;
	uint32_t gate = atomic_load_explicit(&itl->gate, memory_order_acquire);

	return !((gate & (flags | GATE_ALUA | GATE_UA)) | (flags & (CDB_MAP | CDB_SANITIZE)) |
		 (t->cdb[row->len_bytes - 1u] & CONTROL_NACA));
}

void scsi_task_start(struct scsi_queue *queue, struct scsi_task *t)
{
	const struct cdb_row *row = cdb_plain[t->cdb[0]];
	struct scsi_itl *itl = scsi_itl_find(queue, t->target, t->lun);
	struct scsi_loop *sl = queue->sl;

	t->queue = queue;
	t->row = row;
	t->itl = itl;
	t->unusual = 0;
	t->starting = true;
	t->epoch = sl->epoch;
	t->in_bytes = 0;
	t->out_bytes = 0;
	list_append(&sl->tasks, &t->node);
	if (likely(itl && task_is_ordinary(t, row, itl)))
		row->run(t);
	else
		task_dispatch(t);
	t->starting = false;
}
