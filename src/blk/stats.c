/*
 * Statistics: each channel's counters are written by its loop; here they are read, summed, kept
 * when a channel closes, and reset. A reset of counters remembers where they stood; only the
 * extremes are set anew, which may lose a sample of that moment and no other.
 */
#include <string.h>

#include "base/count.h"
#include "base/num.h"
#include "blk/blk_impl.h"

void blk_stats_init(struct blk_stats *stats)
{
	memset(stats->min_ns, 0xff, sizeof(stats->min_ns));
}

/* The extremes of an operation, of which anything was counted in s, into those of sum. */
static void extremes_add(struct blk_stats *sum, int op, uint64_t min_ns, uint64_t max_ns)
{
	sum->min_ns[op] = MIN(sum->min_ns[op], min_ns);
	sum->max_ns[op] = MAX(sum->max_ns[op], max_ns);
}

/* Of an operation, of which there was any: either ended at once, or took some time. */
static bool op_was(const struct blk_stats *s, int op)
{
	return count_get(&s->ops[op]) || count_get(&s->hist[op][0]) ||
	       count_get(&s->latency_ns[op]);
}

/*
 * What only grows; sign 1 or -1. A channel has in ops[] what ended at once: a sum has it in the
 * first bucket, and its ops[] are 0 until it is completed.
 */
static void counters_add(struct blk_stats *sum, const struct blk_stats *s, uint64_t sign)
{
	for (int op = 0; op < BLK_OP_COUNT; op++) {
		if (!op_was(s, op))
			continue;
		sum->bytes[op] += sign * count_get(&s->bytes[op]);
		sum->latency_ns[op] += sign * count_get(&s->latency_ns[op]);
		sum->hist[op][0] += sign * count_get(&s->ops[op]);
		for (int i = 0; i < BLK_HIST_BUCKETS; i++)
			sum->hist[op][i] += sign * count_get(&s->hist[op][i]);
		for (int st = 0; st < BLK_ST_COUNT; st++)
			sum->errors[op][st] += sign * count_get(&s->errors[op][st]);
	}
	for (int st = 0; st < BLK_ST_COUNT; st++)
		sum->errors[BLK_OP_COUNT][st] += sign * count_get(&s->errors[BLK_OP_COUNT][st]);
}
#define PLUS  1ull
#define MINUS UINT64_MAX

void blk_stats_add(struct blk_stats *sum, const struct blk_stats *s)
{
	counters_add(sum, s, PLUS);
	sum->in_flight += s->in_flight;
	for (int op = 0; op < BLK_OP_COUNT; op++)
		extremes_add(sum, op, s->min_ns[op], s->max_ns[op]);
}

/* A channel's, with min_ns of what ended at once, which its loop does not write down. */
void blk_stats_add_chan(struct blk_stats *sum, const struct blk_chan *chan)
{
	const struct blk_stats *s = &chan->stats;

	counters_add(sum, s, PLUS);
	sum->in_flight += __atomic_load_n(&chan->in_flight, __ATOMIC_RELAXED);
	for (int op = 0; op < BLK_OP_COUNT; op++) {
		bool at_once = count_get(&s->ops[op]) != chan->reset_at_once[op];

		extremes_add(sum, op, at_once ? 0 : count_get(&s->min_ns[op]),
			     count_get(&s->max_ns[op]));
	}
}

/* The number of operations; and no minimum of nothing. */
void blk_stats_complete(struct blk_stats *s)
{
	for (int op = 0; op < BLK_OP_COUNT; op++) {
		s->ops[op] = 0;
		for (int i = 0; i < BLK_HIST_BUCKETS; i++)
			s->ops[op] += s->hist[op][i];
		if (s->min_ns[op] == UINT64_MAX)
			s->min_ns[op] = 0;
	}
}

uint64_t blk_stats_errors(const struct blk_stats *stats, enum blk_status cause)
{
	uint64_t sum = 0;

	for (int op = 0; op <= BLK_OP_COUNT; op++)
		for (int st = BLK_ST_OK + 1; st < BLK_ST_COUNT; st++)
			if (cause == BLK_ST_OK || (int)cause == st)
				sum += stats->errors[op][st];
	return sum;
}

void blk_stats_close(struct blk_chan *chan)
{
	blk_stats_add_chan(&chan->dev->closed_stats, chan);
}

/* Sums without stats_complete: a minimum of nothing is UINT64_MAX. */
static void stats_sum(const struct blk_dev *dev, struct blk_stats *sum)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)&dev->chans_lock;
	struct blk_stats base;
	struct blk_chan *chan;

	memset(sum, 0, sizeof(*sum));
	blk_stats_init(sum);
	pthread_mutex_lock(lock);
	blk_stats_add(sum, &dev->closed_stats);
	list_for_each(chan, &dev->chans, node)
		blk_stats_add_chan(sum, chan);
	pthread_mutex_unlock(lock);
	if (!dev->base || !dev->impl->passes)
		return;
	stats_sum(dev->base, &base);
	blk_stats_add(sum, &base);
	counters_add(sum, &dev->base_before, MINUS);
}

void blk_stats_rebase(struct blk_dev *dev, const struct blk_dev *base)
{
	struct blk_stats stats;

	if (dev->base) {
		stats_sum(dev->base, &stats);
		stats.in_flight = 0;
		pthread_mutex_lock(&dev->chans_lock);
		blk_stats_add(&dev->closed_stats, &stats);
		counters_add(&dev->closed_stats, &dev->base_before, MINUS);
		pthread_mutex_unlock(&dev->chans_lock);
	}
	if (base)
		stats_sum(base, &dev->base_before);
}

void blk_dev_stats(const struct blk_dev *dev, struct blk_stats *ret_stats)
{
	stats_sum(dev, ret_stats);
	blk_stats_complete(ret_stats);
}

void blk_dev_iostat(const struct blk_dev *dev, struct blk_stats *ret_stats)
{
	stats_sum(dev, ret_stats);
	counters_add(ret_stats, &dev->reset_stats, MINUS);
	blk_stats_complete(ret_stats);
}

void blk_dev_iostat_each(const struct blk_dev *dev,
			 void (*fn)(void *arg, const struct loop *loop,
				    const struct blk_stats *stats),
			 void *arg)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)&dev->chans_lock;
	struct blk_stats stats;
	struct blk_chan *chan;

	if (dev->impl->passes) {
		if (dev->base)
			blk_dev_iostat_each(dev->base, fn, arg);
		return;
	}
	pthread_mutex_lock(lock);
	list_for_each(chan, &dev->chans, node) {
		memset(&stats, 0, sizeof(stats));
		blk_stats_init(&stats);
		blk_stats_add_chan(&stats, chan);
		counters_add(&stats, &chan->reset_stats, MINUS);
		blk_stats_complete(&stats);
		fn(arg, chan->loop, &stats);
	}
	pthread_mutex_unlock(lock);
}

static void chan_reset(struct blk_chan *chan, bool extremes_only)
{
	struct blk_stats *s = &chan->stats;

	if (!extremes_only) {
		memset(&chan->reset_stats, 0, sizeof(chan->reset_stats));
		counters_add(&chan->reset_stats, s, PLUS);
	}
	for (int op = 0; op < BLK_OP_COUNT; op++) {
		chan->reset_at_once[op] = count_get(&s->ops[op]);
		__atomic_store_n(&s->min_ns[op], UINT64_MAX, __ATOMIC_RELAXED);
		__atomic_store_n(&s->max_ns[op], 0, __ATOMIC_RELAXED);
	}
}

void blk_dev_iostat_reset(struct blk_dev *dev, bool extremes_only)
{
	struct blk_chan *chan;

	if (dev->base && dev->impl->passes)
		blk_dev_iostat_reset(dev->base, extremes_only);
	pthread_mutex_lock(&dev->chans_lock);
	list_for_each(chan, &dev->chans, node)
		chan_reset(chan, extremes_only);
	blk_stats_init(&dev->closed_stats);
	memset(dev->closed_stats.max_ns, 0, sizeof(dev->closed_stats.max_ns));
	pthread_mutex_unlock(&dev->chans_lock);
	if (!extremes_only)
		stats_sum(dev, &dev->reset_stats);
}

void blk_dev_stats_inherit(struct blk_dev *dev, const struct blk_stats *all,
			   const struct blk_stats *iostat)
{
	struct blk_stats was = *all, since = *iostat;

	if (dev->inherited)
		return;
	dev->inherited = true;
	/* those of a sum: see counters_add */
	memset(was.ops, 0, sizeof(was.ops));
	memset(since.ops, 0, sizeof(since.ops));
	pthread_mutex_lock(&dev->chans_lock);
	counters_add(&dev->closed_stats, &was, PLUS);
	for (int op = 0; op < BLK_OP_COUNT; op++) {
		if (op_was(&was, op))
			extremes_add(&dev->closed_stats, op, was.min_ns[op], was.max_ns[op]);
	}
	pthread_mutex_unlock(&dev->chans_lock);
	counters_add(&dev->reset_stats, &was, PLUS);
	counters_add(&dev->reset_stats, &since, MINUS);
}
