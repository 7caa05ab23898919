/*
 * What swap.c and insert.c share, and what the graph does for the latter: a node that becomes a
 * swap while it is used. See insert.c.
 */
#ifndef BLK_FILTER_SWAP_IMPL_H
#define BLK_FILTER_SWAP_IMPL_H

#include "blk/blk_impl.h"
#include "blk/filter/swap.h"

struct insert;

/* blk_swap of a back-end, whose next was checked. -ENOMEM. Thread: main. */
int blk_insert(struct blk_dev *dev, struct blk_dev *next, void (*done)(void *arg, int rc),
	       void *arg, struct err *reterr);
/* The last job on a node that waits for that has let it go; with shape_lock. Thread: job. */
void blk_insert_idle(struct insert *in);

/* ---- Thread: owner loop; both with the node's shape_lock ---- */

/* A channel of a node that is becoming a swap: it waits. -ENOMEM. */
int blk_insert_chan_open(struct blk_chan *chan, struct err *reterr);
/* One that waits is closed; true: its back-end's part is not there (any more). */
bool blk_insert_chan_close(struct blk_chan *chan);
/* A channel of which only struct blk_chan is there becomes one of a swap; after an error its
 * requests end as GONE. Without shape_lock. */
int blk_swap_chan_become(struct blk_chan *chan);

#endif
