/*
 * The waist: contract checks on the way in, exactly-once and counters on the way out. See blk.h.
 *
 * Start and end are the loop's cached clock: a latency is right to one iteration, and costs no
 * clock read. The number of requests is not counted by itself, it is the sum of the histogram.
 */
#include "blk/blk_impl.h"

#include <errno.h>

#include "base/num.h"
#include "blk/filter/bounce.h"

const char *blk_op_name(enum blk_op op)
{
	static const char *const names[] = {
#define X(n, s) s,
		BLK_OPS(X)
#undef X
	};

	return (unsigned int)op < BLK_OP_COUNT ? names[op] : "unknown";
}

const char *blk_status_name(enum blk_status st)
{
	static const char *const names[] = {
#define X(n, s) s,
		BLK_STATUSES(X)
#undef X
	};

	return (unsigned int)st < BLK_ST_COUNT ? names[st] : "unknown";
}

enum blk_status blk_status_from_errno(int code)
{
	switch (-code) {
	case 0:
		return BLK_ST_OK;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return BLK_ST_NO_SPACE;
	case ENODEV:
	case ENXIO:
	case ENOMEDIUM:
	case ESTALE:
	case ESHUTDOWN:
	case ENOTCONN:
		return BLK_ST_GONE;
	case EOPNOTSUPP:
	case ENOSYS:
	case ENOTTY:
		return BLK_ST_UNSUPP;
	case EROFS:
		return BLK_ST_READ_ONLY;
	case ECANCELED:
		return BLK_ST_ABORTED;
	default:
		return BLK_ST_IOERR;
	}
}

/*
 * One writer, any number of racy readers. An aligned 64-bit add does not tear on the machines we
 * run on, and is one instruction where a relaxed store of a sum is four; TSan is told the truth.
 */
static inline void counter_add(uint64_t *counter, uint64_t n)
{
#ifdef __SANITIZE_THREAD__
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
#else
	*counter += n;
#endif
}

static inline uint32_t hist_bucket(uint64_t ns)
{
	uint32_t log2 = 63 - (uint32_t)__builtin_clzll(ns | 1);

	return MIN(log2, (uint32_t)BLK_HIST_BUCKETS - 1);
}

static inline void latency_add(struct blk_stats *stats, uint8_t op, uint64_t ns)
{
	counter_add(&stats->hist[op][hist_bucket(ns)], 1);
	counter_add(&stats->latency_ns[op], ns);
	/* main may reset them meanwhile: what is stored is a new sample all the same */
	if (unlikely(ns < __atomic_load_n(&stats->min_ns[op], __ATOMIC_RELAXED)))
		__atomic_store_n(&stats->min_ns[op], ns, __ATOMIC_RELAXED);
	if (unlikely(ns > __atomic_load_n(&stats->max_ns[op], __ATOMIC_RELAXED)))
		__atomic_store_n(&stats->max_ns[op], ns, __ATOMIC_RELAXED);
}

/* req was the last of its channel, for now. Apart, so that the others need no stack frame. */
static __attribute__((noinline)) void req_done_last(struct blk_chan *chan, struct blk_req *req)
{
	ASSERT(!chan->in_flight);
	if (chan->idle_work)
		loop_defer(chan->loop, chan->idle_work);
	req->done(req);
}

/* The last use of chan and req: done may close or reuse either. */
static inline void req_done(struct blk_chan *chan, struct blk_req *req)
{
	if (unlikely((int32_t)blk_chan_count(chan, -1) <= 0))
		req_done_last(chan, req);
	else
		req->done(req);
}

static void req_finish(struct loop_work *work)
{
	struct blk_req *req = container_of(work, struct blk_req, work);
	struct blk_chan *chan = req->chan;
	struct blk_stats *stats = &chan->stats;
	uint64_t ns = loop_now_ns(chan->loop) - req->start_ns;
	uint8_t op = req->op;

	/* What ends in the iteration in which it began adds nothing to sum and extremes. */
	if (!ns)
		counter_add(&stats->hist[op][0], 1);
	else
		latency_add(stats, op, ns);
	if (likely(req->status == BLK_ST_OK))
		counter_add(&stats->bytes[op], req->len_bytes);
	else
		counter_add(&stats->errors[req->status], 1);
	req_done(chan, req);
}

/* For what is not even an op: it has no row in the histogram. */
static void req_finish_unknown(struct loop_work *work)
{
	struct blk_req *req = container_of(work, struct blk_req, work);
	struct blk_chan *chan = req->chan;

	counter_add(&chan->stats.errors[req->status], 1);
	req_done(chan, req);
}

/* Why a request is refused, once one of the quick tests said that something is unusual. */
static enum blk_status req_check(const struct blk_chan *chan, const struct blk_req *req)
{
	const struct blk_caps *caps = &chan->dev->caps;

	if (req->op >= BLK_OP_COUNT)
		return BLK_ST_UNSUPP;
	if (!(chan->op_mask & 1u << req->op))
		return caps->read_only ? BLK_ST_READ_ONLY : BLK_ST_UNSUPP;
	if (req->flags & ~chan->flag_mask)
		return BLK_ST_UNSUPP;
	if (req->op == BLK_FLUSH)
		return BLK_ST_OK; /* its offset and length mean nothing */
	if ((req->offset_bytes | req->len_bytes) & chan->block_mask)
		return BLK_ST_ALIGN;
	if (!num_range_ok(req->offset_bytes, req->len_bytes, blk_size_bytes(chan->dev)))
		return BLK_ST_RANGE;
	return BLK_ST_OK;
}

static enum blk_status req_check_limits(const struct blk_chan *chan, const struct blk_req *req)
{
	const struct blk_caps *caps = &chan->dev->caps;
	uint64_t max = req->op == BLK_DISCARD	     ? caps->max_discard_bytes
		       : req->op == BLK_WRITE_ZEROES ? caps->max_zeroes_bytes
						     : 0;

	return max && req->len_bytes > max ? BLK_ST_UNSUPP : BLK_ST_OK;
}

static bool req_memory_aligned(const struct blk_chan *chan, const struct blk_req *req)
{
	uint64_t bases = 0, lens = 0;

	for (uint32_t i = 0; i < req->iov_count; i++) {
		bases |= (uintptr_t)req->iov[i].iov_base;
		lens |= req->iov[i].iov_len;
	}
	return !(bases & chan->memory_mask) && !(lens & chan->block_mask);
}

__attribute__((noinline)) void blk_pass_unusual(struct blk_chan *chan, struct blk_req *req)
{
	enum blk_status st = req_check(chan, req);

	if (st == BLK_ST_OK)
		st = req_check_limits(chan, req);
	if (st == BLK_ST_OK) {
		chan->submit(chan, req);
		return;
	}
	if (req->op >= BLK_OP_COUNT)
		req->work.fn = req_finish_unknown;
	blk_complete(req, st);
}

__attribute__((noinline)) void blk_pass_checked_memory(struct blk_chan *chan, struct blk_req *req)
{
	if (req_memory_aligned(chan, req))
		chan->submit(chan, req);
	else
		bounce_submit(chan, req);
}

void blk_submit(struct blk_chan *chan, struct blk_req *req)
{
	uint64_t off = req->offset_bytes, len = req->len_bytes;

	req->chan = chan;
	req->status = BLK_ST_PENDING;
	req->cancelled = false;
	req->work.fn = req_finish;
	req->start_ns = loop_now_ns(chan->loop);
	blk_chan_count(chan, 1);

	/* READ is 0 and WRITE is 1; everything else is rare enough for the long way. */
	if (unlikely(req->op > BLK_WRITE || !(chan->op_mask & 1u << req->op) ||
		     (req->flags & ~chan->flag_mask) || ((off | len) & chan->block_mask) ||
		     !num_range_ok(off, len, blk_size_bytes(chan->dev)))) {
		blk_pass_unusual(chan, req);
		return;
	}
	if (chan->memory_mask)
		blk_pass_checked_memory(chan, req);
	else
		chan->submit(chan, req);
}
_Static_assert(BLK_READ == 0 && BLK_WRITE == 1, "blk_submit: quick test");

void blk_cancel(struct blk_req *req)
{
	const struct blk_chan *chan = req->chan;

	/* one that completed only waits for the phase "done" */
	if (req->status != BLK_ST_PENDING || req->cancelled)
		return;
	req->cancelled = true;
	if (chan->bounce && bounce_cancel(chan->bounce, req))
		return;
	if (chan->cancel)
		chan->cancel(req);
}
