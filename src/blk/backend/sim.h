/*
 * sim: the fake of the block port, for tests. A ram disk whose requests complete after a seeded
 * random delay (so out of order), and fail when told to. Everything it does follows from its seed
 * and the order of submissions. Parameters: size, block-size, seed, delay-min-ns, delay-max-ns,
 * fail-every (each Nth request), fail-op, fail-status, read-only, volatile-cache, mem-align.
 *
 * A write takes effect when it completes, and a read sees the disk as it is then.
 */
#ifndef BLK_BACKEND_SIM_H
#define BLK_BACKEND_SIM_H

#include "blk/blk.h"

/* While on, nothing completes; what was submitted waits. Thread: any. */
void blk_sim_hold(struct blk_dev *dev, bool on);
/* The disk's bytes, for a test to look at or set while nothing is in flight. */
void *blk_sim_memory(struct blk_dev *dev);
/* What a resize behind our back looks like; tell the node with blk_dev_rescan. At most the size it
 * was opened with. Thread: main. */
void blk_sim_resize(struct blk_dev *dev, uint64_t size_bytes);

#endif
