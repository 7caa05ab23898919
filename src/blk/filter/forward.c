/* See forward.h. */
#include "blk/filter/forward.h"

static void forward_step(struct forward *f, struct forward_io *io, struct blk_req *whole)
{
	struct blk_req *req = &io->req;

	io->whole = whole;
	forward_mark(whole)->io = io;
	req->op = whole->op;
	req->flags = whole->flags;
	req->iov = whole->iov;
	req->iov_count = whole->iov_count;
	req->pi = whole->pi;
	req->offset_bytes = whole->offset_bytes + f->offset_bytes;
	req->len_bytes = whole->len_bytes;
}

static void forward_end(struct forward *f, struct blk_req *whole, enum blk_status status)
{
	if (f->done)
		f->done(f, whole, status);
	else
		blk_complete(whole, status);
}

static void forward_on_done(struct blk_req *req)
{
	struct forward_io *io = container_of(req, struct forward_io, req);
	struct blk_req *whole = io->whole;
	struct forward *f = forward_of(whole->chan);
	enum blk_status status = (enum blk_status)req->status;
	uint16_t nvme_status = req->nvme_status;
	struct fifo_node *waiter = fifo_pop(&f->waiters);

	io->whole = NULL;
	if (waiter) {
		forward_step(f, io, forward_req_of(waiter));
		blk_submit(f->chan.base, &io->req);
	} else {
		fifo_push(&f->free, &io->node);
	}
	whole->nvme_status = nvme_status;
	forward_end(f, whole, status);
}

static struct forward_io *forward_take(struct forward *f, struct blk_req *whole)
{
	struct fifo_node *n = fifo_pop(&f->free);
	struct forward_io *io;

	if (!n)
		return NULL;
	io = container_of(n, struct forward_io, node);
	forward_step(f, io, whole);
	return io;
}

void forward_submit(struct blk_chan *chan, struct blk_req *whole)
{
	struct forward *f = forward_of(chan);
	struct forward_io *io = forward_take(f, whole);

	if (likely(io != NULL)) {
		blk_submit(chan->base, &io->req);
		return;
	}
	forward_mark(whole)->io = NULL;
	fifo_push(&f->waiters, &forward_mark(whole)->node);
}

bool forward_submit_from(struct blk_chan *chan, struct blk_req *whole, struct iovec *iov)
{
	struct forward_io *io = forward_take(forward_of(chan), whole);

	if (!io)
		return false;
	io->req.iov = iov;
	io->req.iov_count = 1;
	blk_submit(chan->base, &io->req);
	return true;
}

bool forward_unqueue(struct fifo *f, struct blk_req *whole)
{
	struct fifo_node *next, *n = fifo_take(f);
	bool found = false;

	for (; n; n = next) {
		next = n->next;
		if (forward_req_of(n) == whole)
			found = true;
		else
			fifo_push(f, n);
	}
	return found;
}

void forward_cancel(struct blk_req *whole)
{
	struct forward_io *io = forward_mark(whole)->io;

	if (io) {
		blk_cancel(&io->req);
		return;
	}
	ASSERT(forward_unqueue(&forward_of(whole->chan)->waiters, whole));
	blk_complete(whole, BLK_ST_ABORTED);
}

int forward_chan_open(struct blk_chan *chan, struct err *reterr)
{
	struct forward *f = forward_of(chan);

	chan->memory_mask = 0; /* the base's channel looks */
	fifo_init(&f->free);
	fifo_init(&f->waiters);
	for (uint32_t i = 0; i < FORWARD_COUNT; i++) {
		f->ios[i].req.done = forward_on_done;
		fifo_push(&f->free, &f->ios[i].node);
	}
	return 0;
}

void forward_chan_close(struct blk_chan *chan)
{
	ASSERT(fifo_empty(&forward_of(chan)->waiters));
}
