/* See erase.h. */
#include "nvme/erase.h"

#include <stdlib.h>

#include "nvme/nvme_impl.h"

#define STEP_BYTES     (1u << 20)   /* what is written from memory at a time */
#define STEP_MAX_BYTES (256u << 20) /* of what the back-end does by itself */

bool nvme_erase_has_native(const struct nvme_ns *ns)
{
	return ns->caps->secure_erase || ns->caps->write_zeroes;
}

void nvme_erase_user_data(struct nvme_erase *e, struct nvme_ns *ns)
{
	e->ns = ns;
	e->pass_count = 0;
	if (ns->caps->secure_erase)
		e->pass_op[e->pass_count++] = BLK_SECURE_ERASE;
	/* What is left by a secure erase is not defined, and what is read must be. */
	e->pass_op[e->pass_count++] = ns->caps->write_zeroes ? BLK_WRITE_ZEROES : BLK_WRITE;
}

uint16_t nvme_erase_progress(const struct nvme_erase *e)
{
	uint64_t part = e->total_bytes ? e->done_bytes / (e->total_bytes / 65535 + 1) : 0;

	if (!e->pass_count || e->pass >= e->pass_count)
		return 65535;
	return (uint16_t)((e->pass * 65535ull + part) / e->pass_count);
}

static void erase_end(struct nvme_erase *e, enum blk_status status)
{
	blk_chan_close(e->chan);
	e->chan = NULL;
	free(e->buf);
	e->buf = NULL;
	e->done(e, status);
}

static void erase_submit(struct nvme_erase *e, enum blk_op op, uint8_t flags, uint64_t len_bytes,
			 void (*done)(struct blk_req *req))
{
	e->iov = (struct iovec){ .iov_base = e->buf, .iov_len = len_bytes };
	e->req.op = (uint8_t)op;
	e->req.flags = flags;
	e->req.iov = &e->iov;
	e->req.iov_count = op == BLK_WRITE ? 1 : 0;
	e->req.offset_bytes = op == BLK_FLUSH ? 0 : e->done_bytes;
	e->req.len_bytes = len_bytes;
	e->req.done = done;
	blk_submit(e->chan, &e->req);
}

static void erase_step(struct nvme_erase *e);

static void erase_flushed(struct blk_req *req)
{
	struct nvme_erase *e = container_of(req, struct nvme_erase, req);
	uint32_t *words = e->buf;

	if (req->status != BLK_ST_OK) {
		erase_end(e, (enum blk_status)req->status);
		return;
	}
	for (uint32_t i = 0; words && e->invert && i < STEP_BYTES / sizeof(*words); i++)
		words[i] = ~words[i];
	e->done_bytes = 0;
	e->pass++;
	erase_step(e);
}

static void erase_stepped(struct blk_req *req)
{
	struct nvme_erase *e = container_of(req, struct nvme_erase, req);

	e->done_bytes += req->len_bytes;
	if (e->stepped)
		e->stepped(e);
	if (req->status != BLK_ST_OK)
		erase_end(e, (enum blk_status)req->status);
	else
		erase_step(e);
}

static uint64_t erase_step_max(const struct nvme_erase *e, enum blk_op op)
{
	const struct blk_caps *caps = e->ns->caps;
	uint64_t max = op == BLK_DISCARD	? caps->max_discard_bytes
		       : op == BLK_WRITE_ZEROES ? caps->max_zeroes_bytes
						: 0;

	if (op == BLK_WRITE)
		return STEP_BYTES;
	max = max ? MIN(max, (uint64_t)STEP_MAX_BYTES) : STEP_MAX_BYTES;
	return MAX(num_round_down(max, caps->block_bytes), (uint64_t)caps->block_bytes);
}

/* Each pass is made durable, so that the next one does not only replace it in a cache. */
static void erase_step(struct nvme_erase *e)
{
	enum blk_op op = BLK_FLUSH;
	uint64_t left = e->total_bytes - e->done_bytes;

	if (e->pass < e->pass_count)
		op = (enum blk_op)e->pass_op[e->pass];
	if (e->stop)
		erase_end(e, BLK_ST_ABORTED);
	else if (e->pass == e->pass_count)
		erase_end(e, BLK_ST_OK);
	else if (!left)
		erase_submit(e, BLK_FLUSH, 0, 0, erase_flushed);
	else
		erase_submit(e, op, op == BLK_WRITE_ZEROES && !e->keep_allocated ? BLK_UNMAP : 0,
			     MIN(left, erase_step_max(e, op)), erase_stepped);
}

static void erase_begin(struct loop_msg *msg)
{
	struct nvme_erase *e = container_of(msg, struct nvme_erase, msg);

	if (e->status == BLK_ST_OK)
		erase_step(e);
	else
		erase_end(e, e->status);
}

static bool erase_buf_make(struct nvme_erase *e)
{
	struct le32 pattern = le32(e->pattern);
	bool needed = false;
	struct le32 *words;

	for (uint32_t i = 0; i < e->pass_count; i++)
		needed |= e->pass_op[i] == BLK_WRITE;
	if (!needed)
		return true;
	e->buf = aligned_alloc(NVME_PAGE_BYTES, STEP_BYTES);
	words = e->buf;
	for (uint32_t i = 0; words && i < STEP_BYTES / sizeof(*words); i++)
		words[i] = pattern;
	return words;
}

void nvme_erase_start(struct nvme_erase *e)
{
	struct loop *loop = loop_current();
	struct err err;

	ASSERT(loop && e->pass_count <= NVME_ERASE_PASSES_MAX);
	e->pass = 0;
	e->done_bytes = 0;
	e->total_bytes = nvme_ns_blocks(e->ns) << e->ns->block_shift;
	e->stop = false;
	e->status = BLK_ST_OK;
	if (!erase_buf_make(e) || blk_chan_open(e->ns->dev, loop, &e->chan, &err) < 0)
		e->status = BLK_ST_IOERR;
	e->msg.fn = erase_begin;
	loop_post(loop, &e->msg);
}
