/*
 * A finer histogram of latencies, counted while somebody asks for it: 128 buckets for each power of
 * two, as SPDK's histograms have by default (granularity 7). While it is off a request costs no
 * more than without this: it shares the compare of slow requests (tally.h).
 *
 * What ended in the iteration in which it began is not counted here, but in hist[][0] of
 * struct blk_stats only.
 */
#ifndef BLK_FINE_H
#define BLK_FINE_H

#include "blk/blk.h"

#define BLK_FINE_SHIFT	 7
#define BLK_FINE_BUCKETS ((BLK_HIST_BUCKETS - BLK_FINE_SHIFT + 1) << BLK_FINE_SHIFT)

struct blk_fine {
	uint64_t count[BLK_OP_COUNT][BLK_FINE_BUCKETS];
};

/* The bucket of a latency: of 1 ns below 2^7, then 2^7 to a power of two; the last has the rest. */
uint32_t blk_fine_bucket(uint64_t ns);
/* The shortest latency of a bucket. */
uint64_t blk_fine_ns(uint32_t bucket);

/*
 * From now on dev's requests are counted, or not. -ENOMEM, named: then it is off. Memory (some 200
 * KiB of a channel, of which what is touched is there) stays until the channels are closed.
 * Thread: main.
 */
int blk_dev_fine_set(struct blk_dev *dev, bool on, struct err *reterr);
/* All that was counted since dev was opened; it only grows. Thread: main. */
void blk_dev_fine(const struct blk_dev *dev, struct blk_fine *ret_fine);

#endif
