/*
 * Read, Write, Flush (base 6.8, 6.9, 6.15), and what all commands that name blocks share.
 *
 * Read and Write of one or two pages go straight to the back-end: nothing is looked at twice, and
 * the range is checked by the waist alone. LR and the hints in DSM are ignored. FUA of a read is,
 * too: there is no cache of ours that could be newer than what a read finds.
 */
#include "nvme/rw.h"

#include "nvme/limits.h"

/* ---- status ---- */

enum nvme_status nvme_blk_status(const struct blk_req *req, enum blk_status status)
{
	static const uint16_t table[BLK_ST_COUNT] = {
		[BLK_ST_OK] = NVME_SC_SUCCESS,
		[BLK_ST_IOERR] = NVME_SC_UNRECOVERED_READ_ERROR,
		[BLK_ST_UNSUPP] = NVME_SC_INVALID_FIELD,
		[BLK_ST_RANGE] = NVME_SC_LBA_OUT_OF_RANGE,
		[BLK_ST_ALIGN] = NVME_SC_INTERNAL_ERROR,
		[BLK_ST_READ_ONLY] = NVME_SC_NS_WRITE_PROTECTED,
		[BLK_ST_NO_SPACE] = NVME_SC_CAPACITY_EXCEEDED,
		[BLK_ST_ABORTED] = NVME_SC_ABORT_REQUESTED,
		[BLK_ST_GONE] = NVME_SC_INTERNAL_ERROR,
	};

	ASSERT(status < BLK_ST_COUNT);
	if (status == BLK_ST_NVME)
		return (enum nvme_status)req->nvme_status;
	if (status == BLK_ST_IOERR && req->op != BLK_READ)
		return NVME_SC_WRITE_FAULT;
	return (enum nvme_status)table[status];
}

bool nvme_step_failed(struct nvme_cmd *c, enum blk_status status)
{
	if (likely(status == BLK_ST_OK))
		return false;
	nvme_cmd_end(c, nvme_blk_status(&c->blk, status));
	return true;
}

/* ---- blocks ---- */

bool nvme_blocks_ok(struct nvme_cmd *c)
{
	if (nvme_cdw12(c) & NVME_RW_PRINFO) {
		nvme_cmd_end(c, NVME_SC_INVALID_PROTECTION_INFO);
		return false;
	}
	if (!num_range_ok(nvme_slba(c), nvme_nlb(c), nvme_ns_blocks(c->nsq->ns))) {
		nvme_cmd_end(c, NVME_SC_LBA_OUT_OF_RANGE);
		return false;
	}
	return true;
}

bool nvme_uncor_stops(struct nvme_cmd *c, uint64_t lba, uint64_t count)
{
	if (!nvme_uncor_gate(c) || !nvme_uncor_hits(&c->nsq->ns->uncor, lba, count))
		return false;
	nvme_cmd_end(c, NVME_SC_UNRECOVERED_READ_ERROR);
	return true;
}

/* ---- after a write ---- */

static bool must_persist(const struct nvme_cmd *c, bool fua)
{
	return (fua || atomic_load_explicit(&c->mem->ctrl->write_through, memory_order_relaxed)) &&
	       c->nsq->caps->volatile_cache;
}

uint8_t nvme_write_flags(const struct nvme_cmd *c, bool fua)
{
	return must_persist(c, fua) && c->nsq->caps->fua ? BLK_FUA : 0;
}

static void written_marks(struct nvme_cmd *c)
{
	bool changed = false;

	if (nvme_uncor_gate(c) &&
	    !nvme_uncor_clear(&c->nsq->ns->uncor, c->vars[6], c->vars[7], &changed))
		nvme_cmd_end(c, NVME_SC_WRITE_FAULT);
	else if (changed)
		nvme_uncor_changed(c);
	else
		nvme_cmd_end(c, NVME_SC_SUCCESS);
}

static void written_flushed(struct nvme_cmd *c, enum blk_status status)
{
	if (!nvme_step_failed(c, status))
		written_marks(c);
}

void nvme_written(struct nvme_cmd *c, uint64_t lba, uint64_t count, bool fua)
{
	c->vars[6] = lba;
	c->vars[7] = count;
	if (must_persist(c, fua) && !c->nsq->caps->fua)
		nvme_cmd_blk(c, BLK_FLUSH, 0, 0, 0, NULL, 0, written_flushed);
	else
		written_marks(c);
}

static void uncor_home(struct nvme_cmd *c)
{
	nvme_cmd_end(c, c->vars[0] ? NVME_SC_SUCCESS : NVME_SC_INTERNAL_ERROR);
}

static void uncor_saved(void *arg, bool ok)
{
	struct nvme_cmd *c = arg;

	c->vars[0] = ok;
	nvme_cmd_to_home(c, uncor_home);
}

static void uncor_main(struct nvme_cmd *c)
{
	struct nvme_ns *ns = c->nsq->ns;

	nvme_gates_update(ns);
	nvme_ns_state_save(ns, uncor_saved, c);
}

void nvme_uncor_changed(struct nvme_cmd *c)
{
	nvme_cmd_to_main(c, uncor_main);
}

/* ---- Read and Write ---- */

static void rw_done(struct blk_req *blk)
{
	struct nvme_cmd *c = container_of(blk, struct nvme_cmd, blk);

	if (likely(blk->status == BLK_ST_OK))
		nvme_cmd_end(c, NVME_SC_SUCCESS);
	else
		nvme_cmd_end(c, nvme_blk_status(blk, (enum blk_status)blk->status));
}

/* Marks may have to go, or a flush has to follow. */
static void write_done_unusual(struct blk_req *blk)
{
	struct nvme_cmd *c = container_of(blk, struct nvme_cmd, blk);

	if (!nvme_step_failed(c, (enum blk_status)blk->status))
		nvme_written(c, nvme_slba(c), nvme_nlb(c), nvme_cdw12(c) & NVME_RW_FUA);
}

static void rw_refuse(struct nvme_cmd *c)
{
	nvme_cmd_end(c, nvme_cdw12(c) & NVME_RW_PRINFO ? NVME_SC_INVALID_PROTECTION_INFO
						       : NVME_SC_LBA_OUT_OF_RANGE);
}

static inline bool rw_sane(const struct nvme_cmd *c)
{
	return likely(!(nvme_cdw12(c) & NVME_RW_PRINFO)) && likely(nvme_slba(c) < NVME_LBA_LIMIT);
}

/* c->blk.done, op and flags are set. */
static inline void rw_submit(struct nvme_cmd *c, struct iovec *iov, uint32_t count, uint64_t len)
{
	c->blk.iov = iov;
	c->blk.iov_count = count;
	c->blk.offset_bytes = nvme_slba(c) << c->nsq->block_shift;
	c->blk.len_bytes = len;
	blk_submit(c->nsq->way.chan, &c->blk);
}

static void rw_data(struct nvme_cmd *c)
{
	rw_submit(c, c->iov, c->iov_count, c->data_bytes);
}

void nvme_read(struct nvme_cmd *c)
{
	uint64_t len = (uint64_t)nvme_nlb(c) << c->nsq->block_shift;
	uint32_t count;

	if (!rw_sane(c)) {
		rw_refuse(c);
		return;
	}
	if (nvme_uncor_gate(c) && nvme_uncor_stops(c, nvme_slba(c), nvme_nlb(c)))
		return;
	c->blk.op = BLK_READ;
	c->blk.flags = 0;
	c->blk.done = rw_done;
	count = nvme_data_quick(c, &c->mem->to_guest, len);
	if (likely(count))
		rw_submit(c, c->own, count, len);
	else
		nvme_data(c, len, NVME_TO_GUEST, rw_data);
}

void nvme_write(struct nvme_cmd *c)
{
	uint64_t len = (uint64_t)nvme_nlb(c) << c->nsq->block_shift;
	bool persist = must_persist(c, nvme_cdw12(c) & NVME_RW_FUA);
	uint32_t count;

	if (!rw_sane(c)) {
		rw_refuse(c);
		return;
	}
	c->blk.op = BLK_WRITE;
	c->blk.flags = persist && c->nsq->caps->fua ? BLK_FUA : 0;
	c->blk.done = unlikely(persist && !c->nsq->caps->fua) || nvme_uncor_gate(c)
			      ? write_done_unusual
			      : rw_done;
	count = nvme_data_quick(c, &c->mem->from_guest, len);
	if (likely(count))
		rw_submit(c, c->own, count, len);
	else
		nvme_data(c, len, NVME_FROM_GUEST, rw_data);
}

/* ---- Flush ---- */

static void flush_done(struct nvme_cmd *c, enum blk_status status)
{
	if (!nvme_step_failed(c, status))
		nvme_cmd_end(c, NVME_SC_SUCCESS);
}

static void flush_all_next(struct nvme_cmd *c);

static void flush_all_done(struct nvme_cmd *c, enum blk_status status)
{
	if (!nvme_step_failed(c, status))
		flush_all_next(c);
}

/* NSID_ALL: every attached namespace, one after the other (base 6.8). */
static void flush_all_next(struct nvme_cmd *c)
{
	enum nvme_status status;

	while (c->vars[0] < NVME_NSID_MAX) {
		c->nsq = nvme_nsq_get(c->sq->cq, (uint32_t)++c->vars[0]);
		if (!c->nsq)
			continue;
		status = nvme_gate_status(
			c, atomic_load_explicit(&c->nsq->att->gate, memory_order_relaxed));
		if (status != NVME_SC_SUCCESS) {
			nvme_cmd_end(c, status);
			return;
		}
		nvme_cmd_blk(c, BLK_FLUSH, 0, 0, 0, NULL, 0, flush_all_done);
		return;
	}
	nvme_cmd_end(c, NVME_SC_SUCCESS);
}

void nvme_flush(struct nvme_cmd *c)
{
	if (c->nsq) {
		nvme_cmd_blk(c, BLK_FLUSH, 0, 0, 0, NULL, 0, flush_done);
		return;
	}
	c->vars[0] = 0;
	flush_all_next(c);
}
