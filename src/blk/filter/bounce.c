/* See bounce.h. The buffers are made when the first misaligned request of a channel comes. */
#include "blk/filter/bounce.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/iov.h"
#include "base/num.h"
#include "blk/blk_impl.h"

struct bounce_slot {
	struct fifo_node node; /* free */
	struct bounce *bounce;
	char *buf;
	struct iovec iov;
	struct blk_req step;   /* what the back-end sees */
	struct blk_req *whole; /* whom it is for */
	uint64_t done_bytes;
};

struct bounce {
	struct fifo free;
	struct fifo waiters; /* struct bounce_wait */
	char *memory;
	struct bounce_slot slots[BOUNCE_BUF_COUNT];
};

/* In a waiting request's impl. */
struct bounce_wait {
	struct fifo_node node;
};

static void step_done(struct loop_work *work);

static struct bounce *bounce_new(void)
{
	struct bounce *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->memory = mmap(NULL, (size_t)BOUNCE_BUF_COUNT * BOUNCE_BUF_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (b->memory == MAP_FAILED) {
		free(b);
		return NULL;
	}
	fifo_init(&b->free);
	fifo_init(&b->waiters);
	for (uint32_t i = 0; i < BOUNCE_BUF_COUNT; i++) {
		b->slots[i].bounce = b;
		b->slots[i].buf = b->memory + (size_t)i * BOUNCE_BUF_BYTES;
		fifo_push(&b->free, &b->slots[i].node);
	}
	return b;
}

void bounce_free(struct bounce *b)
{
	if (!b)
		return;
	ASSERT(fifo_empty(&b->waiters));
	munmap(b->memory, (size_t)BOUNCE_BUF_COUNT * BOUNCE_BUF_BYTES);
	free(b);
}

static void slot_step(struct bounce_slot *s)
{
	struct blk_req *whole = s->whole;
	uint64_t len = MIN(whole->len_bytes - s->done_bytes, (uint64_t)BOUNCE_BUF_BYTES);
	struct blk_chan *chan = whole->chan;

	if (whole->op == BLK_WRITE)
		iov_copy_out(whole->iov, whole->iov_count, s->done_bytes, s->buf, len);
	s->iov = (struct iovec){ .iov_base = s->buf, .iov_len = len };
	s->step.op = whole->op;
	s->step.flags = whole->flags;
	s->step.iov = &s->iov;
	s->step.iov_count = 1;
	s->step.offset_bytes = whole->offset_bytes + s->done_bytes;
	s->step.len_bytes = len;
	s->step.status = BLK_ST_PENDING;
	s->step.cancelled = false;
	s->step.work.fn = step_done;
	s->step.chan = chan;
	/* whatever the channel does with new requests: the whole one has been taken */
	chan->dev->impl->submit(chan, &s->step);
}

static void slot_start(struct bounce_slot *s, struct blk_req *whole)
{
	s->whole = whole;
	s->done_bytes = 0;
	slot_step(s);
}

static void slot_finish(struct bounce_slot *s, enum blk_status status)
{
	struct fifo_node *waiter = fifo_pop(&s->bounce->waiters);
	struct blk_req *whole = s->whole;

	if (waiter) {
		void *impl = container_of(waiter, struct bounce_wait, node);

		slot_start(s, container_of(impl, struct blk_req, impl));
	} else {
		s->whole = NULL;
		fifo_push(&s->bounce->free, &s->node);
	}
	blk_complete(whole, status);
}

static void step_done(struct loop_work *work)
{
	struct blk_req *step = container_of(work, struct blk_req, work);
	struct bounce_slot *s = container_of(step, struct bounce_slot, step);
	struct blk_req *whole = s->whole;

	if (step->status != BLK_ST_OK) {
		whole->nvme_status = step->nvme_status;
		slot_finish(s, step->status);
		return;
	}
	if (whole->op == BLK_READ)
		iov_copy_in(whole->iov, whole->iov_count, s->done_bytes, s->buf, step->len_bytes);
	s->done_bytes += step->len_bytes;
	if (s->done_bytes == whole->len_bytes)
		slot_finish(s, BLK_ST_OK);
	else if (whole->cancelled)
		slot_finish(s, BLK_ST_ABORTED);
	else
		slot_step(s);
}

static void slot_cancel(struct bounce_slot *s)
{
	const struct blk_impl *impl = s->step.chan->dev->impl;

	if (s->step.status != BLK_ST_PENDING)
		return;
	s->step.cancelled = true;
	if (impl->cancel)
		impl->cancel(&s->step);
}

/* Out of the queue of those that wait for a buffer, if it is there. */
static bool waiter_cancel(struct bounce *b, struct blk_req *req)
{
	struct fifo_node *next, *n = fifo_take(&b->waiters);
	struct bounce_wait *wait = (struct bounce_wait *)req->impl;
	bool found = false;

	for (; n; n = next) {
		next = n->next;
		if (n == &wait->node)
			found = true;
		else
			fifo_push(&b->waiters, n);
	}
	if (found)
		blk_complete(req, BLK_ST_ABORTED);
	return found;
}

bool bounce_cancel(struct bounce *b, struct blk_req *req)
{
	for (uint32_t i = 0; i < BOUNCE_BUF_COUNT; i++)
		if (b->slots[i].whole == req) {
			slot_cancel(&b->slots[i]);
			return true;
		}
	return waiter_cancel(b, req);
}

void bounce_submit(struct blk_chan *chan, struct blk_req *req)
{
	struct bounce_wait *wait = (struct bounce_wait *)req->impl;
	struct fifo_node *slot;

	if (!chan->bounce) {
		chan->bounce = bounce_new();
		if (!chan->bounce) {
			blk_complete(req, BLK_ST_IOERR);
			return;
		}
	}
	slot = fifo_pop(&chan->bounce->free);
	if (!slot) {
		fifo_push(&chan->bounce->waiters, &wait->node);
		return;
	}
	slot_start(container_of(slot, struct bounce_slot, node), req);
}
