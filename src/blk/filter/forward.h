/*
 * Forward: what filters share that see the end of their requests. Each is sent to the base as one
 * of the channel's own (FORWARD_COUNT of them), with the same memory and at an offset of its own;
 * the base's status is given to the filter, or ends the request. Those that find none free wait in
 * order. Nothing is allocated or copied.
 *
 * The channel of such a filter begins with a struct forward; forward_chan_open, _close, _cancel and
 * forward_done are its chan_open, chan_close and cancel, or are called by them.
 * Thread: owner loop.
 */
#ifndef BLK_FILTER_FORWARD_H
#define BLK_FILTER_FORWARD_H

#include "blk/blk_impl.h"

#define FORWARD_COUNT 128

struct forward_io {
	struct fifo_node node; /* free */
	struct blk_req *whole; /* whom it is for */
	struct blk_req req;    /* what the base sees */
};

struct forward {
	struct blk_chan chan;
	/* The base's end of whole: the filter completes it. NULL: with the same status. */
	void (*done)(struct forward *f, struct blk_req *whole, enum blk_status status);
	uint64_t offset_bytes; /* added to each request's; constant */
	struct fifo free;
	struct fifo waiters; /* struct forward_mark */
	struct forward_io ios[FORWARD_COUNT];
};

/*
 * In the impl of a request that the filter has. The filter's own state begins with it, so that a
 * request is either here (io, or waiting) or in the filter's hands.
 */
struct forward_mark {
	struct fifo_node node;
	struct forward_io *io; /* NULL: waits for one */
};

static inline struct forward *forward_of(struct blk_chan *chan)
{
	return container_of(chan, struct forward, chan);
}

static inline struct forward_mark *forward_mark(struct blk_req *whole)
{
	return (struct forward_mark *)whole->impl;
}

/* The request whose impl n is in, where n is its first member. */
static inline struct blk_req *forward_req_of(struct fifo_node *n)
{
	void *impl = n;

	return container_of(impl, struct blk_req, impl);
}

int forward_chan_open(struct blk_chan *chan, struct err *reterr);
void forward_chan_close(struct blk_chan *chan);
/* A submit: to the base, as it is but for the offset. */
void forward_submit(struct blk_chan *chan, struct blk_req *whole);
/* The same with one piece of other memory, which the filter keeps until done. false: none of the
 * channel's own is free, nothing was done. */
bool forward_submit_from(struct blk_chan *chan, struct blk_req *whole, struct iovec *iov);
/* A cancel, of a request that forward_submit got and done did not. */
void forward_cancel(struct blk_req *whole);
/* Takes a request out of a FIFO of those that wait in the filter. false: it is not there. */
bool forward_unqueue(struct fifo *f, struct blk_req *whole);

#endif
