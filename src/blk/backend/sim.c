/* See sim.h. */
#include "blk/backend/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/iov.h"
#include "base/num.h"
#include "blk/blk_impl.h"

#define SIM_HOLD_POLL_NS 100000u

struct sim_params {
	uint64_t size_bytes, block_bytes, seed;
	uint64_t delay_min_ns, delay_max_ns, fail_every;
	uint32_t mem_align;
	int fail_op, fail_status;
	bool read_only, volatile_cache;
};

struct sim_dev {
	struct blk_dev dev;
	struct sim_params params;
	char *memory;
	bool *written; /* each block: since it was last deallocated */
	uint64_t new_size_bytes;
	uint32_t chan_count; /* gives each channel a seed of its own */
	bool hold;
};

struct sim_chan {
	struct blk_chan chan;
	struct loop_timer timer;
	struct list pending; /* by due time, then by submission */
	uint64_t base_ns; /* delays of one batch count from here: their order is the seed's alone */
	uint64_t random, submitted;
};

struct sim_io {
	struct list node;
	uint64_t due_ns;
	bool fails;
};

static const char *const fail_op_names[] = {
#define X(n, s) s,
	BLK_OPS(X)
#undef X
		"any",
	NULL
};
static const char *const fail_status_names[] = {
#define X(n, s) #n,
	BLK_STATUSES(X)
#undef X
		NULL
};

#define ROW(n, t, f, ...)                                                                          \
	{                                                                                          \
		.name = (n), .type = (t), .offset = offsetof(struct sim_params, f), __VA_ARGS__    \
	}
static const struct opts_row sim_rows[] = {
	ROW("size", OPTS_SIZE, size_bytes, .min = 512, .max = 1ull << 32, .def = "1M",
	    .help = "size of the disk"),
	ROW("block-size", OPTS_SIZE, block_bytes, .min = 512, .max = 65536, .def = "512",
	    .help = "logical block size"),
	ROW("seed", OPTS_U64, seed, .def = "1", .help = "of everything random"),
	ROW("delay-min-ns", OPTS_U64, delay_min_ns, .max = 1000000000000, .def = "0",
	    .help = "shortest delay"),
	ROW("delay-max-ns", OPTS_U64, delay_max_ns, .max = 1000000000000, .def = "0",
	    .help = "longest delay"),
	ROW("fail-every", OPTS_U64, fail_every, .def = "0",
	    .help = "fail each Nth request, 0: none"),
	ROW("fail-op", OPTS_ENUM, fail_op, .names = fail_op_names, .def = "any",
	    .help = "and only this operation"),
	ROW("fail-status", OPTS_ENUM, fail_status, .names = fail_status_names, .def = "IOERR",
	    .help = "with this status"),
	ROW("mem-align", OPTS_U32, mem_align, .min = 1, .max = 65536, .def = "1",
	    .help = "memory alignment it demands"),
	ROW("read-only", OPTS_BOOL, read_only, .def = "off", .help = "refuse writes"),
	ROW("volatile-cache", OPTS_BOOL, volatile_cache, .def = "off", .help = "claim to have one"),
};
#undef ROW
static const struct opts_table sim_table = { "sim block device", sim_rows, ARRAY_SIZE(sim_rows) };

static struct sim_dev *sim_of(const struct blk_dev *dev)
{
	return container_of(dev, struct sim_dev, dev);
}

static int sim_open(struct blk_dev *dev, void *params, struct err *reterr)
{
	struct sim_dev *sim = sim_of(dev);
	struct sim_params *p = params;

	if (p->delay_max_ns < p->delay_min_ns)
		p->delay_max_ns = p->delay_min_ns;
	sim->params = *p;
	sim->new_size_bytes = p->size_bytes;
	sim->memory = calloc(1, p->size_bytes);
	sim->written = calloc(p->size_bytes / p->block_bytes + 1, sizeof(bool));
	if (!sim->memory || !sim->written)
		return err_set(reterr, -ENOMEM, "no memory");
	dev->caps = (struct blk_caps){
		.size_bytes = p->size_bytes,
		.block_bytes = (uint32_t)p->block_bytes,
		.mem_align = p->mem_align,
		.read_only = p->read_only,
		.volatile_cache = p->volatile_cache,
		.fua = true,
		.discard = true,
		.write_zeroes = true,
		.zeroes_unmap = true,
		.secure_erase = true,
	};
	return 0;
}

static void sim_close(struct blk_dev *dev)
{
	free(sim_of(dev)->memory);
	free(sim_of(dev)->written);
}

static int sim_rescan(struct blk_dev *dev, uint64_t *ret_size_bytes, struct err *reterr)
{
	*ret_size_bytes = sim_of(dev)->new_size_bytes;
	return 0;
}

void blk_sim_hold(struct blk_dev *dev, bool on)
{
	__atomic_store_n(&sim_of(dev)->hold, on, __ATOMIC_RELEASE);
}

void *blk_sim_memory(struct blk_dev *dev)
{
	return sim_of(dev)->memory;
}

void blk_sim_resize(struct blk_dev *dev, uint64_t size_bytes)
{
	ASSERT(size_bytes <= sim_of(dev)->params.size_bytes);
	sim_of(dev)->new_size_bytes = size_bytes;
}

/* ---- data path ---- */

/* xorshift64*: small, repeatable, and nothing here needs more */
static uint64_t sim_random(struct sim_chan *sc)
{
	sc->random ^= sc->random >> 12;
	sc->random ^= sc->random << 25;
	sc->random ^= sc->random >> 27;
	return sc->random * 0x2545f4914f6cdd1dull;
}

static struct sim_io *sim_io_of(struct blk_req *req)
{
	_Static_assert(sizeof(struct sim_io) <= sizeof(req->impl), "impl");
	return (struct sim_io *)req->impl;
}

static int sim_map(struct blk_dev *dev, uint64_t offset_bytes, uint64_t end_bytes,
		   uint64_t *ret_end_bytes, bool *ret_mapped)
{
	struct sim_dev *sim = sim_of(dev);
	uint64_t block = offset_bytes / dev->caps.block_bytes;
	uint64_t end = end_bytes / dev->caps.block_bytes;

	*ret_mapped = sim->written[block];
	while (block < end && sim->written[block] == *ret_mapped)
		block++;
	*ret_end_bytes = block * dev->caps.block_bytes;
	return 0;
}

static void sim_written_set(struct sim_dev *sim, const struct blk_req *req)
{
	uint64_t block_bytes = sim->dev.caps.block_bytes;
	bool written =
		req->op == BLK_WRITE || (req->op == BLK_WRITE_ZEROES && !(req->flags & BLK_UNMAP));

	memset(sim->written + req->offset_bytes / block_bytes, written,
	       req->len_bytes / block_bytes);
}

static void sim_apply(struct sim_dev *sim, struct blk_req *req)
{
	char *at = sim->memory + req->offset_bytes;

	if (req->op != BLK_READ && req->op != BLK_FLUSH)
		sim_written_set(sim, req);

	switch ((enum blk_op)req->op) {
	case BLK_READ:
		iov_copy_in(req->iov, req->iov_count, 0, at, req->len_bytes);
		break;
	case BLK_WRITE:
		iov_copy_out(req->iov, req->iov_count, 0, at, req->len_bytes);
		break;
	case BLK_DISCARD:
	case BLK_WRITE_ZEROES:
	case BLK_SECURE_ERASE:
		memset(at, 0, req->len_bytes);
		break;
	case BLK_FLUSH:
	case BLK_OP_COUNT:
		break;
	}
}

static void sim_complete(struct sim_chan *sc, struct blk_req *req)
{
	struct sim_dev *sim = sim_of(sc->chan.dev);

	if (sim_io_of(req)->fails) {
		blk_complete(req, (enum blk_status)sim->params.fail_status);
		return;
	}
	sim_apply(sim, req);
	blk_complete(req, BLK_ST_OK);
}

static void sim_on_timer(struct loop_timer *t)
{
	struct sim_chan *sc = container_of(t, struct sim_chan, timer);
	struct sim_dev *sim = sim_of(sc->chan.dev);
	uint64_t now = loop_now_ns(sc->chan.loop);
	bool hold = __atomic_load_n(&sim->hold, __ATOMIC_ACQUIRE);
	struct sim_io *io, *next;

	list_for_each_safe(io, next, &sc->pending, node) {
		void *impl = io;

		if (hold || io->due_ns > now)
			break;
		list_remove(&io->node);
		sim_complete(sc, container_of(impl, struct blk_req, impl));
	}
	if (list_empty(&sc->pending))
		return;
	io = list_entry(sc->pending.next, struct sim_io, node);
	loop_timer_start(sc->chan.loop, t, hold ? now + SIM_HOLD_POLL_NS : io->due_ns);
}

static bool sim_should_fail(struct sim_chan *sc, const struct blk_req *req)
{
	const struct sim_params *p = &sim_of(sc->chan.dev)->params;

	return p->fail_every && sc->submitted % p->fail_every == 0 &&
	       (p->fail_op == BLK_OP_COUNT || p->fail_op == req->op);
}

static void sim_submit(struct blk_chan *chan, struct blk_req *req)
{
	struct sim_chan *sc = container_of(chan, struct sim_chan, chan);
	const struct sim_params *p = &sim_of(chan->dev)->params;
	struct sim_io *io = sim_io_of(req), *first;
	struct list *before = &sc->pending;
	uint64_t now = loop_now_ns(chan->loop);

	if (list_empty(&sc->pending) || now - sc->base_ns > p->delay_max_ns)
		sc->base_ns = now;
	sc->submitted++;
	io->fails = sim_should_fail(sc, req);
	io->due_ns = sc->base_ns + p->delay_min_ns +
		     sim_random(sc) % (p->delay_max_ns - p->delay_min_ns + 1);
	while (before->prev != &sc->pending &&
	       list_entry(before->prev, struct sim_io, node)->due_ns > io->due_ns)
		before = before->prev;
	list_append(before, &io->node); /* in front of `before` */
	first = list_entry(sc->pending.next, struct sim_io, node);
	loop_timer_start(chan->loop, &sc->timer, first->due_ns);
}

/* Held or only late: it has had no effect yet. */
static void sim_cancel(struct blk_req *req)
{
	list_remove(&sim_io_of(req)->node);
	blk_complete(req, BLK_ST_ABORTED);
}

static int sim_chan_open(struct blk_chan *chan, struct err *reterr)
{
	struct sim_chan *sc = container_of(chan, struct sim_chan, chan);
	struct sim_dev *sim = sim_of(chan->dev);
	uint32_t nth = __atomic_add_fetch(&sim->chan_count, 1, __ATOMIC_RELAXED);

	list_init(&sc->pending);
	loop_timer_init(&sc->timer, sim_on_timer);
	sc->random = (sim->params.seed + 1) * 0x9e3779b97f4a7c15ull + nth;
	if (!sc->random)
		sc->random = 1;
	return 0;
}

static void sim_chan_close(struct blk_chan *chan)
{
	struct sim_chan *sc = container_of(chan, struct sim_chan, chan);

	ASSERT(list_empty(&sc->pending));
	loop_timer_stop(&sc->timer);
}

const struct blk_impl blk_sim = {
	.type = "sim",
	.params = &sim_table,
	.params_bytes = sizeof(struct sim_params),
	.dev_bytes = sizeof(struct sim_dev),
	.chan_bytes = sizeof(struct sim_chan),
	.hidden = true,
	.open = sim_open,
	.close = sim_close,
	.rescan = sim_rescan,
	.map = sim_map,
	.chan_open = sim_chan_open,
	.chan_close = sim_chan_close,
	.submit = sim_submit,
	.cancel = sim_cancel,
};
