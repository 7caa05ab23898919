/*
 * What one queue did, with however many disks: the sum over the channels that were opened for it.
 * A channel counts for its node (blk_dev_stats) and, if it was told of a tally, for that too; the
 * data path counts once.
 *
 * And requests that took long: each that a channel with a tally saw take longer than the threshold
 * of blk_slow_watch is noted in the tally's ring by its loop, and told on main. A loop that finds
 * the ring full counts what it could not note. While nothing is watched for, a request costs no
 * more than without this: one compare in the way of those that did not end at once.
 *
 * A tally is of one loop at a time, its channels are all of that loop.
 */
#ifndef BLK_TALLY_H
#define BLK_TALLY_H

#include "blk/blk.h"

struct blk_tally;

#define BLK_TALLY_NAME_BYTES 256
#define BLK_SLOW_RING	     16 /* noted between two looks of main */

/* name (a copy is kept, cut to BLK_TALLY_NAME_BYTES) and queue: for who is told of slow requests.
 * NULL: no memory. Thread: any. */
struct blk_tally *blk_tally_new(const char *name, uint32_t queue);
/* It has no channel any more (ASSERT), and messages of their loop to main have run. NULL allowed.
 * Thread: main. */
void blk_tally_free(struct blk_tally *tally);
/* From now on chan counts for tally, and so do those below it that do its work ("swap"). Once, when
 * nothing was submitted. Thread: owner loop. */
void blk_chan_tally(struct blk_chan *chan, struct blk_tally *tally);

/* As blk_dev_stats, but that a reset of a node's extremes changes them here as well. Thread: main.
 */
void blk_tally_stats(const struct blk_tally *tally, struct blk_stats *ret_stats);

struct blk_slow {
	uint64_t start_ns, took_ns; /* CLOCK_MONOTONIC at blk_submit; until it ended */
	uint64_t offset_bytes, len_bytes;
	uint8_t op, status; /* enum blk_op, enum blk_status */
};

struct blk_slow_watcher {
	/* One request of queue `queue` of the device `name`. Thread: main. */
	void (*noted)(const struct blk_tally *tally, const char *name, uint32_t queue,
		      const struct blk_slow *slow);
	/* So many more were not noted, the ring being full. Thread: main. */
	void (*missed)(uint64_t count);
};

/*
 * Requests that take longer than threshold_ns are told to watcher (constant) from now on;
 * UINT64_MAX: none is. Those that are under way count from their start. Thread: main, which is
 * main_loop's (NULL, with UINT64_MAX: there is none yet).
 */
void blk_slow_watch(uint64_t threshold_ns, struct loop *main_loop,
		    const struct blk_slow_watcher *watcher);

#endif
