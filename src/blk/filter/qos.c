/*
 * See qos.h. Each channel has a small share of each limit's tokens, of which a request takes
 * without looking at anything shared. A request goes when each share that it needs is above 0, and
 * takes all it needs, so that a share may be below 0 after a large one. A channel that has none
 * left takes a share from the bucket, once at a time, and lets requests wait until that is due.
 *
 * Reads and writes wait apart, each in order, so that writes that are held do not hold reads.
 */
#include "blk/filter/qos.h"

#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "blk/filter/forward.h"
#include "blk/filter/qos_bucket.h"

/* A limit that was set meanwhile is seen after this, however long a share is away. */
#define QOS_LOOK_NS	   10000000u
#define QOS_SHARES_AT_ONCE 8

enum qos_dir {
	QOS_READ,
	QOS_WRITE,
	QOS_DIR_COUNT
};

/* Operations without a row are never held. */
static const struct {
	uint8_t dir, mask;
	bool limited;
} qos_ops[BLK_OP_COUNT] = {
#define OP(d, m)                                                                                   \
	{                                                                                          \
		.dir = (d), .mask = (m), .limited = true                                           \
	}
	[BLK_READ] = OP(QOS_READ, 1u << BLK_QOS_RW_IOPS | 1u << BLK_QOS_R_IOPS |
					  1u << BLK_QOS_RW_BYTES | 1u << BLK_QOS_R_BYTES),
	[BLK_WRITE] = OP(QOS_WRITE, 1u << BLK_QOS_RW_IOPS | 1u << BLK_QOS_W_IOPS |
					    1u << BLK_QOS_RW_BYTES | 1u << BLK_QOS_W_BYTES),
	[BLK_DISCARD] = OP(QOS_WRITE, 1u << BLK_QOS_RW_IOPS | 1u << BLK_QOS_W_IOPS),
	[BLK_WRITE_ZEROES] = OP(QOS_WRITE, 1u << BLK_QOS_RW_IOPS | 1u << BLK_QOS_W_IOPS),
	[BLK_SECURE_ERASE] = OP(QOS_WRITE, 1u << BLK_QOS_RW_IOPS | 1u << BLK_QOS_W_IOPS),
#undef OP
};

struct qos_dev {
	struct blk_dev dev;
	struct blk_qos_limits limits; /* of main */
	uint32_t mask;		      /* 1 << enum blk_qos: the limits that there are; atomic */
	uint32_t epoch;		      /* atomic: blk_qos_set counts */
	struct qos_bucket buckets[BLK_QOS_COUNT];
};

struct qos_share {
	int64_t left;
	uint64_t coming;  /* taken from the bucket; 0: nothing */
	uint64_t due_ns;  /* when it comes */
	uint64_t came_ns; /* when the last did, */
	uint32_t came;	  /* and how many in that iteration */
};

struct qos_chan {
	struct forward forward;
	uint32_t epoch;
	struct qos_share shares[BLK_QOS_COUNT];
	struct fifo held[QOS_DIR_COUNT];
	enum qos_dir turn; /* which goes first */
	struct loop_timer timer;
};

/* In the impl of a request; node: while it is held. */
struct qos_io {
	struct forward_mark mark;
	bool held;
};

static struct qos_dev *qos_of(const struct blk_dev *dev)
{
	return container_of(dev, struct qos_dev, dev);
}

static struct qos_chan *qos_chan_of(struct blk_chan *chan)
{
	return container_of(forward_of(chan), struct qos_chan, forward);
}

static struct qos_io *qos_io_of(struct blk_req *req)
{
	return (struct qos_io *)req->impl;
}

static bool qos_is_bytes(int which)
{
	return which >= BLK_QOS_RW_BYTES;
}

/* ---- data path ---- */

static void qos_pay(struct qos_chan *qc, const struct blk_req *req, uint32_t mask)
{
	for (; mask; mask &= mask - 1) {
		int i = __builtin_ctz(mask);

		qc->shares[i].left -= qos_is_bytes(i) ? (int64_t)req->len_bytes : 1;
	}
}

/*
 * A share for what is at or below 0. false: it is not due yet; *next_ns: when, if that is sooner.
 * So many an iteration, so that after a standstill not all that accrued goes to the loop that looks
 * first.
 */
static bool qos_refill(struct qos_share *share, struct qos_bucket *bucket, uint64_t now,
		       uint64_t *next_ns)
{
	if (!share->coming) {
		share->coming =
			__atomic_load_n(&bucket->share, __ATOMIC_RELAXED) + (uint64_t)-share->left;
		share->due_ns = qos_bucket_take(bucket, share->coming, now);
	}
	if (share->came_ns != now) {
		share->came_ns = now;
		share->came = 0;
	}
	if (share->due_ns > now || share->came == QOS_SHARES_AT_ONCE) {
		*next_ns = MIN(*next_ns, MAX(share->due_ns, now));
		return false;
	}
	share->left += (int64_t)share->coming;
	share->coming = 0;
	share->came++;
	return share->left > 0;
}

/* Is there something of each limit? All that are not are asked for. */
static bool qos_may_go(struct qos_chan *qc, uint32_t mask, uint64_t *next_ns)
{
	struct qos_dev *qos = qos_of(qc->forward.chan.dev);
	uint64_t now = loop_now_ns(qc->forward.chan.loop);
	bool may = true;

	for (; mask; mask &= mask - 1) {
		int i = __builtin_ctz(mask);

		if (unlikely(qc->shares[i].left <= 0) &&
		    !qos_refill(&qc->shares[i], &qos->buckets[i], now, next_ns))
			may = false;
	}
	return may;
}

/* The limits as they are now; what was taken by the old ones is forgotten. */
static uint32_t qos_look(struct qos_chan *qc)
{
	struct qos_dev *qos = qos_of(qc->forward.chan.dev);
	uint32_t epoch = __atomic_load_n(&qos->epoch, __ATOMIC_ACQUIRE);

	if (unlikely(epoch != qc->epoch)) {
		qc->epoch = epoch;
		memset(qc->shares, 0, sizeof(qc->shares));
	}
	return __atomic_load_n(&qos->mask, __ATOMIC_RELAXED);
}

/* Sends the first that is held in this direction, if it may go. */
static bool qos_send_one(struct qos_chan *qc, enum qos_dir dir, uint32_t limits, uint64_t *next_ns)
{
	struct blk_req *req;
	uint32_t mask;

	if (fifo_empty(&qc->held[dir]))
		return false;
	req = forward_req_of(qc->held[dir].head);
	mask = limits & qos_ops[req->op].mask;
	if (!qos_may_go(qc, mask, next_ns))
		return false;
	fifo_pop(&qc->held[dir]);
	qos_io_of(req)->held = false;
	qos_pay(qc, req, mask);
	forward_submit(&qc->forward.chan, req);
	return true;
}

/* Reads and writes take turns, beginning with those that did not go last. */
static void qos_send(struct qos_chan *qc)
{
	struct loop *loop = qc->forward.chan.loop;
	uint64_t next_ns = loop_now_ns(loop) + QOS_LOOK_NS;
	uint32_t limits = qos_look(qc), stuck = 0;

	while (stuck < QOS_DIR_COUNT) {
		stuck = qos_send_one(qc, qc->turn, limits, &next_ns) ? 0 : stuck + 1;
		qc->turn = qc->turn == QOS_READ ? QOS_WRITE : QOS_READ;
	}
	if (!fifo_empty(&qc->held[QOS_READ]) || !fifo_empty(&qc->held[QOS_WRITE]))
		loop_timer_start(loop, &qc->timer, next_ns);
}

static void qos_on_timer(struct loop_timer *t)
{
	qos_send(container_of(t, struct qos_chan, timer));
}

static void qos_submit(struct blk_chan *chan, struct blk_req *req)
{
	struct qos_chan *qc = qos_chan_of(chan);
	uint32_t mask = qos_look(qc) & qos_ops[req->op].mask;
	enum qos_dir dir = (enum qos_dir)qos_ops[req->op].dir;
	uint64_t next_ns = UINT64_MAX;
	bool first = fifo_empty(&qc->held[QOS_READ]) && fifo_empty(&qc->held[QOS_WRITE]);

	qos_io_of(req)->held = false;
	if (!qos_ops[req->op].limited ||
	    (fifo_empty(&qc->held[dir]) && qos_may_go(qc, mask, &next_ns))) {
		qos_pay(qc, req, mask);
		forward_submit(chan, req);
		return;
	}
	qos_io_of(req)->held = true;
	fifo_push(&qc->held[dir], &qos_io_of(req)->mark.node);
	if (first || next_ns < qc->timer.due_ns)
		loop_timer_start(chan->loop, &qc->timer,
				 MIN(next_ns, loop_now_ns(chan->loop) + QOS_LOOK_NS));
}

static void qos_cancel(struct blk_req *req)
{
	struct qos_chan *qc = qos_chan_of(req->chan);

	if (!qos_io_of(req)->held) {
		forward_cancel(req);
		return;
	}
	ASSERT(forward_unqueue(&qc->held[qos_ops[req->op].dir], req));
	blk_complete(req, BLK_ST_ABORTED);
}

static int qos_chan_open(struct blk_chan *chan, struct err *reterr)
{
	struct qos_chan *qc = qos_chan_of(chan);

	fifo_init(&qc->held[QOS_READ]);
	fifo_init(&qc->held[QOS_WRITE]);
	loop_timer_init(&qc->timer, qos_on_timer);
	return forward_chan_open(chan, reterr);
}

static void qos_chan_close(struct blk_chan *chan)
{
	struct qos_chan *qc = qos_chan_of(chan);

	ASSERT(fifo_empty(&qc->held[QOS_READ]) && fifo_empty(&qc->held[QOS_WRITE]));
	loop_timer_stop(&qc->timer);
	forward_chan_close(chan);
}

/* ---- limits (Thread: main) ---- */

#define ROW(n, f, h)                                                                               \
	{                                                                                          \
		.name = (n), .type = OPTS_SIZE, .offset = offsetof(struct blk_qos_limits, f),      \
		.min = 0, .max = BLK_QOS_MAX, .def = "0", .help = (h)                              \
	}
static const struct opts_row qos_rows[] = {
	ROW("rw-iops", rate[BLK_QOS_RW_IOPS], "operations per second, 0: no limit"),
	ROW("r-iops", rate[BLK_QOS_R_IOPS], "reads per second"),
	ROW("w-iops", rate[BLK_QOS_W_IOPS], "writes per second"),
	ROW("rw-bytes", rate[BLK_QOS_RW_BYTES], "bytes per second"),
	ROW("r-bytes", rate[BLK_QOS_R_BYTES], "bytes read per second"),
	ROW("w-bytes", rate[BLK_QOS_W_BYTES], "bytes written per second"),
	ROW("rw-iops-burst", burst[BLK_QOS_RW_IOPS], "operations that an idle disk saves up"),
	ROW("r-iops-burst", burst[BLK_QOS_R_IOPS], "reads that an idle disk saves up"),
	ROW("w-iops-burst", burst[BLK_QOS_W_IOPS], "writes that an idle disk saves up"),
	ROW("rw-bytes-burst", burst[BLK_QOS_RW_BYTES], "bytes that an idle disk saves up"),
	ROW("r-bytes-burst", burst[BLK_QOS_R_BYTES], "bytes to read that it saves up"),
	ROW("w-bytes-burst", burst[BLK_QOS_W_BYTES], "bytes to write that it saves up"),
};
#undef ROW
static const struct opts_table qos_table = { "qos", qos_rows, ARRAY_SIZE(qos_rows) };

static int qos_check(const char *name, const struct blk_qos_limits *l, struct err *reterr)
{
	for (int i = 0; i < BLK_QOS_COUNT; i++) {
		uint64_t most = MAX(l->rate[i], l->burst[i]);

		if (most > BLK_QOS_MAX)
			return err_set(reterr, -ERANGE, "%s: %s: expected at most %llu, got %llu",
				       name, qos_rows[i].name, BLK_QOS_MAX,
				       (unsigned long long)most);
		if (l->burst[i] && !l->rate[i])
			return err_set(reterr, -EINVAL, "%s: %s-burst without %s: set that too",
				       name, qos_rows[i].name, qos_rows[i].name);
	}
	return 0;
}

static void qos_apply(struct qos_dev *qos, const struct blk_qos_limits *l)
{
	uint64_t now = loop_clock_ns();
	uint32_t mask = 0;

	for (int i = 0; i < BLK_QOS_COUNT; i++) {
		qos_bucket_set(&qos->buckets[i], l->rate[i], l->burst[i],
			       qos_is_bytes(i) ? QOS_SHARE_BYTES : QOS_SHARE_OPS, now);
		mask |= (uint32_t)(l->rate[i] > 0) << i;
	}
	qos->limits = *l;
	__atomic_store_n(&qos->mask, mask, __ATOMIC_RELAXED);
	__atomic_add_fetch(&qos->epoch, 1, __ATOMIC_RELEASE);
}

static int qos_open(struct blk_dev *dev, void *params, struct err *reterr)
{
	int r = qos_check(dev->name, params, reterr);

	if (r == 0)
		qos_apply(qos_of(dev), params);
	return r;
}

const struct blk_impl blk_qos_impl = {
	.type = "qos",
	.params = &qos_table,
	.params_bytes = sizeof(struct blk_qos_limits),
	.filter = true,
	.dev_bytes = sizeof(struct qos_dev),
	.chan_bytes = sizeof(struct qos_chan),
	.open = qos_open,
	.chan_open = qos_chan_open,
	.chan_close = qos_chan_close,
	.submit = qos_submit,
	.cancel = qos_cancel,
};

int blk_qos_set(struct blk_dev *dev, const struct blk_qos_limits *limits, struct err *reterr)
{
	int r;

	if (dev->impl != &blk_qos_impl)
		return err_set(reterr, -EINVAL, "%s is of type %s, expected qos", dev->name,
			       dev->impl->type);
	r = qos_check(dev->name, limits, reterr);
	if (r == 0)
		qos_apply(qos_of(dev), limits);
	return r;
}

void blk_qos_get(const struct blk_dev *dev, struct blk_qos_limits *ret_limits)
{
	memset(ret_limits, 0, sizeof(*ret_limits));
	if (dev->impl == &blk_qos_impl)
		*ret_limits = qos_of(dev)->limits;
}
