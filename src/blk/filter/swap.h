/*
 * Swap: a node that stands for another, its base, which can be taken away or exchanged while
 * channels are open and requests under way. Type "swap" of blk_dev_open_on.
 *
 * Requests are handed to the base's channel as they are, and count there: what blk_dev_stats tells
 * of this node is what all its bases did in its place. A disk that is shown keeps its properties
 * whatever comes behind it, so the node says from the start that it may have a volatile cache.
 *
 * An exchange goes over all loops by messages, each with one answer to main:
 *
 *   STEADY --blk_swap--> DRAINING: a channel lets requests wait, ends its base's requests, closes
 *                        the base's channel
 *          --all have--> RESUMING: the base is the new one; a channel opens its way into it and
 *                        sends what waited; without a base it ends as GONE
 *          --all have--> STEADY, done
 *
 * A channel that is opened while DRAINING waits with the others; one that is closed answers.
 *
 * A back-end that has no such node before it can be exchanged all the same: it becomes one, with
 * the channels that are open, at its first blk_swap (insert.c). Nothing is paid for it before.
 */
#ifndef BLK_FILTER_SWAP_H
#define BLK_FILTER_SWAP_H

#include <stdbool.h>

#include "base/err.h"
#include "blk/blk.h"

/*
 * Exchanges dev's base for next (or what a back-end dev is), of which a reference is taken; NULL:
 * takes the base away. done(arg, rc) once, maybe before this returns: the old base is closed; rc: a
 * channel could not be opened on some loop (-ENOMEM, -EMFILE), whose requests end as GONE. Returns
 * 0, or without done: -EBUSY another exchange is under way; -ENODEV the base was taken away;
 * -EINVAL next cannot take its place (block size, smaller, read-only ...), or dev is another
 * filter; -ENOMEM.
 * Thread: main, in its loop if channels are open.
 */
int blk_swap(struct blk_dev *dev, struct blk_dev *next, void (*done)(void *arg, int rc), void *arg,
	     struct err *reterr);

/* What it stands for; NULL: taken away, or a back-end. No reference. Thread: main. */
struct blk_dev *blk_swap_base(const struct blk_dev *dev);

#endif
