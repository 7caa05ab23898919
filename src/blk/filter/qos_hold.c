/* See qos_hold.h. */
#include "blk/filter/qos_hold.h"

#include <errno.h>
#include <string.h>

#include "base/num.h"

/* A limit that was set meanwhile is seen after this, however long a share is away. */
#define QOS_LOOK_NS	   10000000u
#define QOS_SHARES_AT_ONCE 8

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

static struct qos_io *qos_io_of(struct blk_req *req)
{
	return (struct qos_io *)req->impl;
}

static bool qos_is_bytes(int which)
{
	return which >= BLK_QOS_RW_BYTES;
}

static void qos_pay(struct qos_hold *h, const struct blk_req *req, uint32_t mask)
{
	for (; mask; mask &= mask - 1) {
		int i = __builtin_ctz(mask);

		h->shares[i].left -= qos_is_bytes(i) ? (int64_t)req->len_bytes : 1;
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
static bool qos_may_go(struct qos_hold *h, uint32_t mask, uint64_t *next_ns)
{
	uint64_t now = loop_now_ns(h->loop);
	bool may = true;

	for (; mask; mask &= mask - 1) {
		int i = __builtin_ctz(mask);

		if (unlikely(h->shares[i].left <= 0) &&
		    !qos_refill(&h->shares[i], &h->budget->buckets[i], now, next_ns))
			may = false;
	}
	return may;
}

/* The limits as they are now; what was taken by the old ones is forgotten. */
static uint32_t qos_look(struct qos_hold *h)
{
	uint32_t epoch = __atomic_load_n(&h->budget->epoch, __ATOMIC_ACQUIRE);

	if (unlikely(epoch != h->epoch)) {
		h->epoch = epoch;
		memset(h->shares, 0, sizeof(h->shares));
	}
	return __atomic_load_n(&h->budget->mask, __ATOMIC_RELAXED);
}

static void qos_unhold(struct qos_hold *h, struct blk_req *req)
{
	qos_io_of(req)->held = false;
	__atomic_sub_fetch(&h->budget->waiting, 1, __ATOMIC_RELAXED);
}

/* Sends the first that is held in this direction, if it may go. */
static bool qos_send_one(struct qos_hold *h, enum qos_dir dir, uint32_t limits, uint64_t *next_ns)
{
	struct blk_req *req;
	uint32_t mask;

	if (fifo_empty(&h->held[dir]))
		return false;
	req = forward_req_of(h->held[dir].head);
	mask = limits & qos_ops[req->op].mask;
	if (!qos_may_go(h, mask, next_ns))
		return false;
	fifo_pop(&h->held[dir]);
	qos_pay(h, req, mask);
	qos_unhold(h, req);
	h->send(req);
	return true;
}

/* Reads and writes take turns, beginning with those that did not go last. */
static void qos_send(struct qos_hold *h)
{
	uint64_t next_ns = loop_now_ns(h->loop) + QOS_LOOK_NS;
	uint32_t limits = qos_look(h), stuck = 0;

	while (stuck < QOS_DIR_COUNT) {
		stuck = qos_send_one(h, h->turn, limits, &next_ns) ? 0 : stuck + 1;
		h->turn = h->turn == QOS_READ ? QOS_WRITE : QOS_READ;
	}
	if (!fifo_empty(&h->held[QOS_READ]) || !fifo_empty(&h->held[QOS_WRITE]))
		loop_timer_start(h->loop, &h->timer, next_ns);
}

static void qos_on_timer(struct loop_timer *t)
{
	qos_send(container_of(t, struct qos_hold, timer));
}

static bool qos_anything_held(const struct qos_hold *h)
{
	return !fifo_empty(&h->held[QOS_READ]) || !fifo_empty(&h->held[QOS_WRITE]);
}

void qos_hold_submit(struct qos_hold *h, struct blk_req *req)
{
	uint32_t mask = qos_look(h) & qos_ops[req->op].mask;
	enum qos_dir dir = (enum qos_dir)qos_ops[req->op].dir;
	uint64_t next_ns = UINT64_MAX;
	bool first = !qos_anything_held(h);

	qos_io_of(req)->held = false;
	if (!qos_ops[req->op].limited || h->open ||
	    (fifo_empty(&h->held[dir]) && qos_may_go(h, mask, &next_ns))) {
		qos_pay(h, req, mask);
		h->send(req);
		return;
	}
	qos_io_of(req)->held = true;
	fifo_push(&h->held[dir], &qos_io_of(req)->mark.node);
	__atomic_add_fetch(&h->budget->waiting, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&h->budget->waited, 1, __ATOMIC_RELAXED);
	if (first || next_ns < h->timer.due_ns)
		loop_timer_start(h->loop, &h->timer,
				 MIN(next_ns, loop_now_ns(h->loop) + QOS_LOOK_NS));
}

bool qos_hold_cancel(struct qos_hold *h, struct blk_req *req)
{
	if (!qos_io_of(req)->held)
		return false;
	ASSERT(forward_unqueue(&h->held[qos_ops[req->op].dir], req));
	qos_unhold(h, req);
	blk_complete(req, BLK_ST_ABORTED);
	return true;
}

void qos_hold_open(struct qos_hold *h, bool on)
{
	uint32_t limits = qos_look(h);
	struct fifo_node *n;

	h->open = on;
	for (int dir = 0; on && dir < QOS_DIR_COUNT; dir++) {
		while ((n = fifo_pop(&h->held[dir])) != NULL) {
			struct blk_req *req = forward_req_of(n);

			qos_pay(h, req, limits & qos_ops[req->op].mask);
			qos_unhold(h, req);
			h->send(req);
		}
	}
}

void qos_hold_init(struct qos_hold *h, struct qos_budget *b, struct loop *loop,
		   void (*send)(struct blk_req *req))
{
	h->budget = b;
	h->loop = loop;
	h->send = send;
	fifo_init(&h->held[QOS_READ]);
	fifo_init(&h->held[QOS_WRITE]);
	loop_timer_init(&h->timer, qos_on_timer);
}

void qos_hold_fini(struct qos_hold *h)
{
	uint32_t limits = qos_look(h);

	ASSERT(!qos_anything_held(h));
	loop_timer_stop(&h->timer);
	for (; limits; limits &= limits - 1) {
		int i = __builtin_ctz(limits);
		int64_t left = h->shares[i].left + (int64_t)h->shares[i].coming;

		if (left < 0)
			qos_bucket_take(&h->budget->buckets[i], (uint64_t)-left,
					loop_now_ns(h->loop));
	}
}

/* ---- limits (Thread: main) ---- */

int blk_qos_check(const struct blk_qos_limits *l, struct err *reterr)
{
	static const char *const names[] = {
#define X(n, key, unit) key,
		BLK_QOS_LIMITS(X)
#undef X
	};

	for (int i = 0; i < BLK_QOS_COUNT; i++) {
		uint64_t most = MAX(l->rate[i], l->burst[i]);

		if (most > BLK_QOS_MAX)
			return err_set(reterr, -ERANGE, "%s: expected at most %llu, got %llu",
				       names[i], BLK_QOS_MAX, (unsigned long long)most);
		if (l->burst[i] && !l->rate[i])
			return err_set(reterr, -EINVAL, "%s-burst without %s: set that too",
				       names[i], names[i]);
	}
	return 0;
}

int qos_budget_set(struct qos_budget *b, const char *name, const struct blk_qos_limits *l,
		   struct err *reterr)
{
	uint64_t now = loop_clock_ns();
	uint32_t mask = 0;
	int r = blk_qos_check(l, reterr);

	if (r < 0)
		return err_prefix(reterr, r, "%s", name);
	for (int i = 0; i < BLK_QOS_COUNT; i++) {
		qos_bucket_set(&b->buckets[i], l->rate[i], l->burst[i],
			       qos_is_bytes(i) ? QOS_SHARE_BYTES : QOS_SHARE_OPS, now);
		mask |= (uint32_t)(l->rate[i] > 0) << i;
	}
	b->limits = *l;
	__atomic_store_n(&b->mask, mask, __ATOMIC_RELAXED);
	__atomic_add_fetch(&b->epoch, 1, __ATOMIC_RELEASE);
	return 0;
}
