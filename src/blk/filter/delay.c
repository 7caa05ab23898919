/*
 * See delay.h. A channel has a list for each of the four latencies, sorted by the time that a
 * request is due: since all in a list wait equally long, a new one nearly always goes to its end.
 * One timer serves them.
 */
#include "blk/filter/delay.h"

#include <errno.h>

#include "base/num.h"
#include "blk/filter/forward.h"

#define DELAY_P99_EVERY 100

struct delay_params {
	uint64_t us[BLK_DELAY_COUNT];
};

struct delay_dev {
	struct blk_dev dev;
	uint64_t ns[BLK_DELAY_COUNT]; /* atomic: main writes */
};

struct delay_chan {
	struct forward forward;
	struct list late[BLK_DELAY_COUNT]; /* struct delay_io */
	struct loop_timer timer;
	uint32_t done_count[2]; /* reads, writes */
};

/* In the impl of a request. */
struct delay_io {
	struct forward_mark mark;
	struct list node;
	uint64_t due_ns;
	bool late; /* the base has done it */
	uint8_t status;
};
_Static_assert(sizeof(struct delay_io) <= sizeof(((struct blk_req *)0)->impl), "delay_io");

#define ROW(n, i, h)                                                                               \
	{                                                                                          \
		.name = (n), .type = OPTS_U64, .offset = offsetof(struct delay_params, us[i]),     \
		.min = 0, .max = BLK_DELAY_MAX_US, .def = "0", .help = (h)                         \
	}
static const struct opts_row delay_rows[] = {
	ROW("avg-read", BLK_DELAY_AVG_READ, "added to each read, in microseconds"),
	ROW("p99-read", BLK_DELAY_P99_READ, "added to each hundredth read instead"),
	ROW("avg-write", BLK_DELAY_AVG_WRITE, "added to each write, in microseconds"),
	ROW("p99-write", BLK_DELAY_P99_WRITE, "added to each hundredth write instead"),
};
#undef ROW
static const struct opts_table delay_table = { "delay", delay_rows, ARRAY_SIZE(delay_rows) };

static struct delay_dev *delay_of(const struct blk_dev *dev)
{
	return container_of(dev, struct delay_dev, dev);
}

static struct delay_chan *delay_chan_of(struct blk_chan *chan)
{
	return container_of(forward_of(chan), struct delay_chan, forward);
}

static struct delay_io *delay_io_of(struct blk_req *req)
{
	return (struct delay_io *)req->impl;
}

static struct blk_req *delay_req_of(struct delay_io *io)
{
	return forward_req_of(&io->mark.node);
}

/* ---- data path ---- */

static void delay_end(struct delay_io *io)
{
	list_remove(&io->node);
	blk_complete(delay_req_of(io), (enum blk_status)io->status);
}

/* For the first that is due, if there is one. */
static void delay_timer_set(struct delay_chan *dc)
{
	uint64_t first = UINT64_MAX;

	for (int i = 0; i < BLK_DELAY_COUNT; i++)
		if (!list_empty(&dc->late[i]))
			first = MIN(first,
				    list_entry(dc->late[i].next, struct delay_io, node)->due_ns);
	if (first != UINT64_MAX)
		loop_timer_start(dc->forward.chan.loop, &dc->timer, first);
}

static void delay_on_timer(struct loop_timer *t)
{
	struct delay_chan *dc = container_of(t, struct delay_chan, timer);
	uint64_t now = loop_now_ns(dc->forward.chan.loop);
	struct delay_io *io, *next;

	for (int i = 0; i < BLK_DELAY_COUNT; i++)
		list_for_each_safe(io, next, &dc->late[i], node) {
			if (io->due_ns > now)
				break;
			delay_end(io);
		}
	delay_timer_set(dc);
}

static enum blk_delay delay_choose(struct delay_chan *dc, enum blk_op op)
{
	bool p99 = ++dc->done_count[op == BLK_WRITE] % DELAY_P99_EVERY == 0;

	if (op == BLK_READ)
		return p99 ? BLK_DELAY_P99_READ : BLK_DELAY_AVG_READ;
	return p99 ? BLK_DELAY_P99_WRITE : BLK_DELAY_AVG_WRITE;
}

static void delay_done(struct forward *f, struct blk_req *req, enum blk_status status)
{
	struct delay_chan *dc = container_of(f, struct delay_chan, forward);
	struct delay_io *io = delay_io_of(req);
	enum blk_delay which;
	struct list *at;
	uint64_t ns;

	if (req->cancelled || (req->op != BLK_READ && req->op != BLK_WRITE)) {
		blk_complete(req, status);
		return;
	}
	which = delay_choose(dc, (enum blk_op)req->op);
	ns = __atomic_load_n(&delay_of(f->chan.dev)->ns[which], __ATOMIC_RELAXED);
	if (!ns) {
		blk_complete(req, status);
		return;
	}
	io->late = true;
	io->status = (uint8_t)status;
	io->due_ns = loop_now_ns(f->chan.loop) + ns;
	for (at = &dc->late[which];
	     at->prev != &dc->late[which] &&
	     list_entry(at->prev, struct delay_io, node)->due_ns > io->due_ns;)
		at = at->prev;
	list_append(at, &io->node); /* in front of it */
	if (dc->late[which].next == &io->node)
		delay_timer_set(dc);
}

static void delay_submit(struct blk_chan *chan, struct blk_req *req)
{
	delay_io_of(req)->late = false;
	forward_submit(chan, req);
}

static void delay_cancel(struct blk_req *req)
{
	if (delay_io_of(req)->late)
		delay_end(delay_io_of(req));
	else
		forward_cancel(req);
}

/* ---- channel and node ---- */

static int delay_chan_open(struct blk_chan *chan, struct err *reterr)
{
	struct delay_chan *dc = delay_chan_of(chan);

	for (int i = 0; i < BLK_DELAY_COUNT; i++)
		list_init(&dc->late[i]);
	loop_timer_init(&dc->timer, delay_on_timer);
	dc->forward.done = delay_done;
	return forward_chan_open(chan, reterr);
}

static void delay_chan_close(struct blk_chan *chan)
{
	loop_timer_stop(&delay_chan_of(chan)->timer);
	forward_chan_close(chan);
}

static int delay_open(struct blk_dev *dev, void *params, struct err *reterr)
{
	const struct delay_params *p = params;

	for (int i = 0; i < BLK_DELAY_COUNT; i++)
		delay_of(dev)->ns[i] = p->us[i] * 1000;
	return 0;
}

const struct blk_impl blk_delay = {
	.type = "delay",
	.params = &delay_table,
	.params_bytes = sizeof(struct delay_params),
	.filter = true,
	.dev_bytes = sizeof(struct delay_dev),
	.chan_bytes = sizeof(struct delay_chan),
	.open = delay_open,
	.chan_open = delay_chan_open,
	.chan_close = delay_chan_close,
	.submit = delay_submit,
	.cancel = delay_cancel,
};

int blk_delay_set(struct blk_dev *dev, enum blk_delay which, uint64_t us, struct err *reterr)
{
	ASSERT((unsigned int)which < BLK_DELAY_COUNT);
	if (dev->impl != &blk_delay)
		return err_set(reterr, -EINVAL, "%s is of type %s, expected delay", dev->name,
			       dev->impl->type);
	if (us > BLK_DELAY_MAX_US)
		return err_set(reterr, -ERANGE,
			       "%s: %s: expected at most %llu microseconds, got %llu", dev->name,
			       delay_rows[which].name, BLK_DELAY_MAX_US, (unsigned long long)us);
	__atomic_store_n(&delay_of(dev)->ns[which], us * 1000, __ATOMIC_RELAXED);
	return 0;
}

uint64_t blk_delay_get(const struct blk_dev *dev, enum blk_delay which)
{
	return dev->impl == &blk_delay ? delay_of(dev)->ns[which] / 1000 : 0;
}
