/*
 * See error.h. Main writes an injection and then how many are left, which the loops take with a
 * compare and swap. What is held is looked at by a timer of the channel, which runs only meanwhile.
 */
#include "blk/filter/error.h"

#include <errno.h>
#include <stdlib.h>

#include "base/iov.h"
#include "blk/filter/forward.h"

#define ERROR_POLL_NS  1000000u
#define ERROR_NOMEM_NS 1000000u

/* Fields are atomic: main writes, loops read. */
struct error_rule {
	uint32_t left;
	uint32_t queue_depth;
	uint64_t corrupt_offset;
	uint8_t kind, corrupt_value;
	uint16_t nvme_status;
};

struct error_dev {
	struct blk_dev dev;
	struct error_rule rules[BLK_OP_COUNT];
	uint32_t resumes; /* atomic: blk_error_resume counts */
};

struct error_chan {
	struct forward forward;
	struct loop_timer timer;
	struct list held; /* struct error_io */
};

/* In the impl of a request. */
struct error_io {
	struct forward_mark mark;
	struct list node;   /* while it is held */
	struct iovec copy;  /* WRITE: corrupted, of malloc; base NULL: none */
	uint32_t resumes;   /* pending: as it was then */
	uint16_t nomem : 1; /* held only until the next look */
	uint16_t held : 1;
	uint16_t corrupt : 1; /* READ: when it is done */
};
_Static_assert(sizeof(struct error_io) <= sizeof(((struct blk_req *)0)->impl), "error_io");

#define GET(field)     __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define SET(field, to) __atomic_store_n(&(field), (to), __ATOMIC_RELAXED)

static struct error_dev *error_of(const struct blk_dev *dev)
{
	return container_of(dev, struct error_dev, dev);
}

static struct error_chan *error_chan_of(struct blk_chan *chan)
{
	return container_of(forward_of(chan), struct error_chan, forward);
}

static struct error_io *error_io_of(struct blk_req *req)
{
	return (struct error_io *)req->impl;
}

static struct error_rule *error_rule_of(const struct blk_req *req)
{
	return &error_of(req->chan->dev)->rules[req->op];
}

/* ---- data path ---- */

/* Takes one of those that are left. */
static bool rule_take(struct error_rule *rule)
{
	uint32_t left = __atomic_load_n(&rule->left, __ATOMIC_ACQUIRE);

	while (left)
		if (__atomic_compare_exchange_n(&rule->left, &left, left - 1, false,
						__ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE))
			return true;
	return false;
}

static bool rule_concerns(const struct error_rule *rule, const struct blk_req *req)
{
	if (req->chan->in_flight <= GET(rule->queue_depth))
		return false;
	return GET(rule->kind) != BLK_ERROR_CORRUPT ||
	       (req->op <= BLK_WRITE && GET(rule->corrupt_offset) < req->len_bytes);
}

static void error_hold(struct error_chan *ec, struct blk_req *req, bool nomem)
{
	struct error_io *io = error_io_of(req);

	io->nomem = nomem;
	io->held = true;
	io->resumes = GET(error_of(ec->forward.chan.dev)->resumes);
	list_append(&ec->held, &io->node);
	if (list_entry(ec->held.next, struct error_io, node) == io)
		loop_timer_start(ec->forward.chan.loop, &ec->timer,
				 loop_now_ns(ec->forward.chan.loop) +
					 (nomem ? ERROR_NOMEM_NS : ERROR_POLL_NS));
}

static void error_on_timer(struct loop_timer *t)
{
	struct error_chan *ec = container_of(t, struct error_chan, timer);
	struct blk_chan *chan = &ec->forward.chan;
	uint32_t resumes = GET(error_of(chan->dev)->resumes);
	struct error_io *io, *next;

	list_for_each_safe(io, next, &ec->held, node) {
		if (!io->nomem && io->resumes == resumes)
			continue;
		list_remove(&io->node);
		io->held = false;
		forward_submit(chan, forward_req_of(&io->mark.node));
	}
	if (!list_empty(&ec->held))
		loop_timer_start(chan->loop, t, loop_now_ns(chan->loop) + ERROR_POLL_NS);
}

/* Stores something else than was written, out of a copy: the guest's memory is not ours. */
static void error_corrupt_write(struct error_chan *ec, struct blk_req *req)
{
	const struct error_rule *rule = error_rule_of(req);
	struct error_io *io = error_io_of(req);
	uint8_t *copy = aligned_alloc(4096, (req->len_bytes + 4095) & ~4095ull);

	if (!copy) {
		blk_complete(req, BLK_ST_IOERR);
		return;
	}
	iov_copy_out(req->iov, req->iov_count, 0, copy, req->len_bytes);
	copy[GET(rule->corrupt_offset)] ^= GET(rule->corrupt_value);
	io->copy = (struct iovec){ .iov_base = copy, .iov_len = req->len_bytes };
	if (forward_submit_from(&ec->forward.chan, req, &io->copy))
		return;
	free(copy);
	blk_complete(req, BLK_ST_IOERR);
}

static void error_corrupt_read(const struct blk_req *req)
{
	const struct error_rule *rule = error_rule_of(req);
	uint64_t at = GET(rule->corrupt_offset);
	uint8_t byte;

	if (at >= req->len_bytes) /* the rule is another by now */
		return;
	iov_copy_out(req->iov, req->iov_count, at, &byte, 1);
	byte ^= GET(rule->corrupt_value);
	iov_copy_in(req->iov, req->iov_count, at, &byte, 1);
}

static void error_submit(struct blk_chan *chan, struct blk_req *req)
{
	struct error_chan *ec = error_chan_of(chan);
	struct error_rule *rule = error_rule_of(req);
	struct error_io *io = error_io_of(req);

	*io = (struct error_io){ 0 };
	if (likely(!GET(rule->left)) || !rule_concerns(rule, req) || !rule_take(rule)) {
		forward_submit(chan, req);
		return;
	}
	switch ((enum blk_error_kind)GET(rule->kind)) {
	case BLK_ERROR_FAILURE:
	case BLK_ERROR_KIND_COUNT:
		blk_complete(req, BLK_ST_IOERR);
		return;
	case BLK_ERROR_NVME:
		req->nvme_status = GET(rule->nvme_status);
		blk_complete(req, req->nvme_status ? BLK_ST_NVME : BLK_ST_IOERR);
		return;
	case BLK_ERROR_PENDING:
		error_hold(ec, req, false);
		return;
	case BLK_ERROR_NOMEM:
		error_hold(ec, req, true);
		return;
	case BLK_ERROR_CORRUPT:
		if (req->op == BLK_WRITE) {
			error_corrupt_write(ec, req);
			return;
		}
		io->corrupt = true;
		forward_submit(chan, req);
		return;
	}
}

static void error_done(struct forward *f, struct blk_req *req, enum blk_status status)
{
	struct error_io *io = error_io_of(req);

	free(io->copy.iov_base);
	if (io->corrupt && status == BLK_ST_OK)
		error_corrupt_read(req);
	blk_complete(req, status);
}

static void error_cancel(struct blk_req *req)
{
	struct error_io *io = error_io_of(req);

	if (!io->held) {
		forward_cancel(req);
		return;
	}
	list_remove(&io->node);
	blk_complete(req, BLK_ST_ABORTED);
}

/* ---- channel and node ---- */

static int error_chan_open(struct blk_chan *chan, struct err *reterr)
{
	struct error_chan *ec = error_chan_of(chan);

	list_init(&ec->held);
	loop_timer_init(&ec->timer, error_on_timer);
	ec->forward.done = error_done;
	return forward_chan_open(chan, reterr);
}

static void error_chan_close(struct blk_chan *chan)
{
	loop_timer_stop(&error_chan_of(chan)->timer);
	forward_chan_close(chan);
}

const struct blk_impl blk_error = {
	.type = "error",
	.filter = true,
	.dev_bytes = sizeof(struct error_dev),
	.chan_bytes = sizeof(struct error_chan),
	.chan_open = error_chan_open,
	.chan_close = error_chan_close,
	.submit = error_submit,
	.cancel = error_cancel,
};

static int error_check(const struct blk_dev *dev, const struct blk_error_injection *in,
		       struct err *reterr)
{
	const uint32_t bytes_mask = 1u << BLK_READ | 1u << BLK_WRITE;

	if (dev->impl != &blk_error)
		return err_set(reterr, -EINVAL, "%s is of type %s, expected error", dev->name,
			       dev->impl->type);
	if (!in->op_mask || in->op_mask & ~BLK_ERROR_ALL)
		return err_set(reterr, -EINVAL, "%s: operations 0x%x: expected some of 0x%x",
			       dev->name, in->op_mask, BLK_ERROR_ALL);
	if ((unsigned int)in->kind >= BLK_ERROR_KIND_COUNT)
		return err_set(reterr, -EINVAL, "%s: unknown kind of error", dev->name);
	if (in->kind == BLK_ERROR_NVME && in->num &&
	    (in->nvme_sct > 7 || !(in->nvme_sct | in->nvme_sc)))
		return err_set(reterr, -EINVAL,
			       "%s: NVMe status code type %u, status code %u: expected a failure: "
			       "0..7 and 0..255, not both 0",
			       dev->name, in->nvme_sct, in->nvme_sc);
	if (in->kind != BLK_ERROR_CORRUPT || !in->num)
		return 0;
	if (!(in->op_mask & bytes_mask))
		return err_set(reterr, -EINVAL,
			       "%s: only what reads and writes carry can be corrupted", dev->name);
	if (!in->corrupt_value)
		return err_set(reterr, -EINVAL,
			       "%s: corrupt value 0 changes nothing; expected 1 to 255", dev->name);
	return 0;
}

int blk_error_inject(struct blk_dev *dev, const struct blk_error_injection *in, struct err *reterr)
{
	int r = error_check(dev, in, reterr);

	for (int op = 0; r == 0 && op < BLK_OP_COUNT; op++) {
		struct error_rule *rule = &error_of(dev)->rules[op];

		if (!(in->op_mask & 1u << op))
			continue;
		SET(rule->left, 0);
		SET(rule->kind, (uint8_t)in->kind);
		SET(rule->queue_depth, in->queue_depth);
		SET(rule->corrupt_offset, in->corrupt_offset);
		SET(rule->corrupt_value, in->corrupt_value);
		SET(rule->nvme_status, (uint16_t)(in->nvme_sct << 8 | in->nvme_sc));
		__atomic_store_n(&rule->left, in->num, __ATOMIC_RELEASE);
	}
	return r;
}

void blk_error_clear(struct blk_dev *dev)
{
	ASSERT(dev->impl == &blk_error);
	for (int op = 0; op < BLK_OP_COUNT; op++)
		SET(error_of(dev)->rules[op].left, 0);
}

void blk_error_resume(struct blk_dev *dev)
{
	ASSERT(dev->impl == &blk_error);
	__atomic_add_fetch(&error_of(dev)->resumes, 1, __ATOMIC_RELAXED);
}
