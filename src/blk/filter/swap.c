/*
 * See swap.h. What a loop and main tell each other of a channel is in a struct swap_link, which
 * outlives the channel while a message about it is under way.
 */
#include "blk/filter/swap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "blk/filter/swap_impl.h"
#include "blk/tally.h"

enum swap_state {
	SWAP_STEADY,
	SWAP_DRAINING,
	SWAP_RESUMING,
};

/* The base as blk_dev_map's job threads see it. */
struct swap_side {
	struct blk_dev *base; /* a reference */
	struct swap_dev *swap;
	uint32_t mappers;
	bool dropped; /* the last mapper sends msg to main */
	struct loop_msg msg;
};

struct swap_dev {
	struct blk_dev dev;
	/* Never on the data path: channels that open and close, and mappers, against main. */
	pthread_mutex_t lock;
	struct list links;	/* struct swap_link of open channels */
	enum swap_state state;	/* written by main, under the lock */
	struct swap_side *side; /* NULL: no base */
	/* of an exchange; main only */
	struct loop *main_loop;
	struct swap_side *next;
	uint32_t unanswered;
	int rc;
	void (*done)(void *arg, int rc);
	void *arg;
};

struct swap_chan {
	struct blk_chan chan; /* chan.base: NULL while it waits, and when the base is gone */
	struct swap_link *link;
	struct fifo waiters; /* struct swap_wait */
	struct iovec *regions;
	uint32_t region_count;
};

struct swap_link {
	struct list node;
	struct swap_dev *swap;
	struct swap_chan *chan; /* NULL: closed; under the lock, or on its loop */
	struct loop *loop;
	bool busy; /* msg is under way; under the lock */
	struct loop_msg msg;
	struct loop_work idle_work;
	int rc;
};

/* In a waiting request's impl. */
struct swap_wait {
	struct fifo_node node;
};

static struct swap_dev *swap_of(const struct blk_dev *dev)
{
	return container_of(dev, struct swap_dev, dev);
}

static struct swap_chan *swap_chan_of(struct blk_chan *chan)
{
	return container_of(chan, struct swap_chan, chan);
}

/* ---- data path ---- */

static void swap_submit(struct blk_chan *chan, struct blk_req *req)
{
	blk_pass(chan->base, req);
}

static void swap_submit_wait(struct blk_chan *chan, struct blk_req *req)
{
	struct swap_wait *wait = (struct swap_wait *)req->impl;

	fifo_push(&swap_chan_of(chan)->waiters, &wait->node);
}

static void swap_submit_gone(struct blk_chan *chan, struct blk_req *req)
{
	blk_complete(req, BLK_ST_GONE);
}

static struct blk_req *swap_waiter(struct fifo_node *n)
{
	void *impl = container_of(n, struct swap_wait, node);

	return container_of(impl, struct blk_req, impl);
}

/* Only those that wait are ours: the others' channel is the base's. */
static void swap_cancel(struct blk_req *req)
{
	struct swap_chan *sc = swap_chan_of(req->chan);
	struct fifo_node *next, *n = fifo_take(&sc->waiters);

	for (; n; n = next) {
		next = n->next;
		if (swap_waiter(n) == req)
			blk_complete(req, BLK_ST_ABORTED);
		else
			fifo_push(&sc->waiters, n);
	}
}

/* ---- channels (Thread: owner loop) ---- */

/* Opens its way into the base, if there is one. */
static int swap_chan_connect(struct swap_chan *sc, struct err *reterr)
{
	struct blk_dev *base = sc->chan.dev->base;
	int r;

	sc->chan.submit = swap_submit_gone;
	if (!base)
		return 0;
	r = blk_chan_open(base, sc->chan.loop, &sc->chan.base, reterr);
	if (r < 0)
		return r;
	sc->chan.submit = swap_submit;
	sc->chan.at_once = sc->chan.base->at_once; /* no clock for what needs none behind us */
	if (sc->chan.tally)
		blk_chan_tally(sc->chan.base, sc->chan.tally);
	/* a refusal was told to whoever set them */
	if (sc->region_count)
		blk_chan_buffers_set(sc->chan.base, sc->regions, sc->region_count, NULL);
	return 0;
}

static void link_on_idle(struct loop_work *work);

static int swap_chan_open(struct blk_chan *chan, struct err *reterr)
{
	struct swap_dev *swap = swap_of(chan->dev);
	struct swap_chan *sc = swap_chan_of(chan);
	struct swap_link *link = calloc(1, sizeof(*link));
	int r = 0;

	if (!link)
		return err_set(reterr, -ENOMEM, "no memory for a channel");
	fifo_init(&sc->waiters);
	chan->memory_mask = 0; /* the base's channel looks */
	sc->link = link;
	link->swap = swap;
	link->chan = sc;
	link->loop = chan->loop;
	link->idle_work.fn = link_on_idle;
	pthread_mutex_lock(&swap->lock);
	if (swap->state == SWAP_DRAINING)
		chan->submit = swap_submit_wait;
	else
		r = swap_chan_connect(sc, reterr);
	if (r == 0)
		list_append(&swap->links, &link->node);
	pthread_mutex_unlock(&swap->lock);
	if (r < 0)
		free(link);
	return r;
}

static void swap_chan_close(struct blk_chan *chan)
{
	struct swap_dev *swap = swap_of(chan->dev);
	struct swap_chan *sc = swap_chan_of(chan);
	struct swap_link *link = sc->link;
	bool busy;

	ASSERT(fifo_empty(&sc->waiters));
	blk_chan_close(chan->base);
	free(sc->regions);
	if (!link)
		return;
	pthread_mutex_lock(&swap->lock);
	list_remove(&link->node);
	link->chan = NULL;
	busy = link->busy;
	pthread_mutex_unlock(&swap->lock);
	if (!busy)
		free(link);
}

int blk_swap_chan_become(struct blk_chan *chan)
{
	int r = swap_chan_open(chan, NULL);

	if (r < 0) {
		swap_chan_of(chan)->link = NULL;
		chan->submit = swap_submit_gone;
	}
	return r;
}

static int swap_buffers_set(struct blk_chan *chan, const struct iovec *regions, uint32_t count,
			    struct err *reterr)
{
	struct swap_chan *sc = swap_chan_of(chan);
	struct iovec *copy = NULL;

	if (count) {
		copy = calloc(count, sizeof(*copy));
		if (!copy)
			return err_set(reterr, -ENOMEM, "no memory for %u regions", count);
		memcpy(copy, regions, count * sizeof(*copy));
	}
	free(sc->regions);
	sc->regions = copy;
	sc->region_count = count;
	return chan->base ? blk_chan_buffers_set(chan->base, regions, count, reterr) : 0;
}

/* ---- the exchange, on a channel's loop ---- */

static void link_on_answer(struct loop_msg *msg);

static void link_answer(struct swap_link *link)
{
	link->msg.fn = link_on_answer;
	loop_post(link->swap->main_loop, &link->msg);
}

static void link_drained(struct swap_link *link)
{
	struct swap_chan *sc = link->chan;

	if (sc) {
		blk_chan_close(sc->chan.base);
		sc->chan.base = NULL;
	}
	link_answer(link);
}

static void link_on_idle(struct loop_work *work)
{
	link_drained(container_of(work, struct swap_link, idle_work));
}

static void link_on_drain(struct loop_msg *msg)
{
	struct swap_link *link = container_of(msg, struct swap_link, msg);
	struct swap_chan *sc = link->chan;

	if (sc) {
		sc->chan.submit = swap_submit_wait;
		sc->chan.at_once = false;
	}
	if (sc && sc->chan.base && sc->chan.base->in_flight)
		sc->chan.base->idle_work = &link->idle_work;
	else
		link_drained(link);
}

static void link_on_resume(struct loop_msg *msg)
{
	struct swap_link *link = container_of(msg, struct swap_link, msg);
	struct swap_chan *sc = link->chan;
	struct fifo_node *next, *n;

	if (sc) {
		link->rc = swap_chan_connect(sc, NULL);
		for (n = fifo_take(&sc->waiters); n; n = next) {
			next = n->next;
			sc->chan.submit(&sc->chan, swap_waiter(n));
		}
	}
	link_answer(link);
}

/* ---- the exchange, on main ---- */

static void side_free(struct swap_side *side)
{
	if (!side)
		return;
	blk_dev_unref(side->base);
	free(side);
}

static void swap_finish(struct swap_dev *swap)
{
	void (*done)(void *arg, int rc) = swap->done;

	pthread_mutex_lock(&swap->lock);
	swap->state = SWAP_STEADY;
	pthread_mutex_unlock(&swap->lock);
	if (swap->dev.base)
		blk_dev_resize_to(&swap->dev, swap->dev.base->caps.size_bytes);
	done(swap->arg, swap->rc);
	blk_dev_unref(&swap->dev);
}

/* Sends a step to all channels. How many there are; the lock is held. */
static void links_post(struct swap_dev *swap, void (*step)(struct loop_msg *msg))
{
	struct swap_link *link;

	list_for_each(link, &swap->links, node) {
		ASSERT(!link->busy);
		link->busy = true;
		link->msg.fn = step;
		swap->unanswered++;
		loop_post(link->loop, &link->msg);
	}
}

static void side_on_dropped(struct loop_msg *msg)
{
	struct swap_side *side = container_of(msg, struct swap_side, msg);
	struct swap_dev *swap = side->swap;

	side_free(side);
	if (!--swap->unanswered)
		swap_finish(swap);
}

static void swap_on_drained(struct swap_dev *swap)
{
	struct swap_side *old = swap->side;
	bool mapped = false;

	pthread_mutex_lock(&swap->lock);
	swap->state = SWAP_RESUMING;
	swap->side = swap->next;
	swap->next = NULL;
	blk_dev_unref(
		blk_dev_rebase(&swap->dev, swap->side ? blk_dev_ref(swap->side->base) : NULL));
	if (old && old->mappers) {
		old->msg.fn = side_on_dropped;
		old->dropped = mapped = true;
		swap->unanswered++;
	}
	links_post(swap, link_on_resume);
	pthread_mutex_unlock(&swap->lock);
	if (!mapped)
		side_free(old);
	if (!swap->unanswered)
		swap_finish(swap);
}

static void link_on_answer(struct loop_msg *msg)
{
	struct swap_link *link = container_of(msg, struct swap_link, msg);
	struct swap_dev *swap = link->swap;
	bool closed;

	if (link->rc < 0 && !swap->rc)
		swap->rc = link->rc;
	link->rc = 0;
	pthread_mutex_lock(&swap->lock);
	link->busy = false;
	closed = !link->chan;
	pthread_mutex_unlock(&swap->lock);
	if (closed)
		free(link);
	if (--swap->unanswered)
		return;
	if (swap->state == SWAP_DRAINING)
		swap_on_drained(swap);
	else
		swap_finish(swap);
}

/* Can next stand behind what was told of dev? */
static int swap_check(const struct blk_dev *dev, const struct blk_dev *next, struct err *reterr)
{
	const struct blk_caps *old = &dev->caps, *new = &next->caps;

	if (new->block_bytes != old->block_bytes)
		return err_set(reterr, -EINVAL, "%s: block size %u in place of %s's %u", next->name,
			       new->block_bytes, dev->name, old->block_bytes);
	if (new->size_bytes < old->size_bytes)
		return err_set(reterr, -EINVAL,
			       "%s: %llu bytes are less than the %llu of %s; make it larger first",
			       next->name, (unsigned long long)new->size_bytes,
			       (unsigned long long)old->size_bytes, dev->name);
	if (new->read_only && !old->read_only)
		return err_set(reterr, -EINVAL, "%s is read-only, %s is not", next->name,
			       dev->name);
	if (old->pi_type && new->pi_type != old->pi_type)
		return err_set(reterr, -EINVAL,
			       "%s: protection information of type %u, expected %s's, %u",
			       next->name, new->pi_type, dev->name, old->pi_type);
	if (old->fua && !new->fua)
		return err_set(reterr, -EINVAL, "%s has no FUA, and %s was said to have it",
			       next->name, dev->name);
	return 0;
}

static struct swap_side *side_new(struct swap_dev *swap, struct blk_dev *base)
{
	struct swap_side *side = calloc(1, sizeof(*side));

	if (!side)
		return NULL;
	side->base = blk_dev_ref(base);
	side->swap = swap;
	return side;
}

int blk_swap(struct blk_dev *dev, struct blk_dev *next, void (*done)(void *arg, int rc), void *arg,
	     struct err *reterr)
{
	struct swap_dev *swap = swap_of(dev);
	bool inserts = dev->impl != &blk_swap_impl;
	int r;

	if (dev->exchanging || (!inserts && swap->state != SWAP_STEADY))
		return err_set(reterr, -EBUSY,
			       "%s: its back-end is being exchanged; try again when that is done",
			       dev->name);
	if (inserts && (dev->impl->filter || !next))
		return err_set(reterr, -EINVAL, "%s is of type %s, expected a back-end", dev->name,
			       dev->impl->type);
	if (!inserts && !dev->base)
		return err_set(reterr, -ENODEV, "%s: its back-end was taken away", dev->name);
	r = next ? swap_check(dev, next, reterr) : 0;
	if (r < 0)
		return r;
	if (inserts)
		return blk_insert(dev, next, done, arg, reterr);
	if (next) {
		swap->next = side_new(swap, next);
		if (!swap->next)
			return err_set(reterr, -ENOMEM, "%s: no memory", dev->name);
	}
	blk_dev_ref(dev);
	swap->done = done;
	swap->arg = arg;
	swap->rc = 0;
	swap->main_loop = loop_current();
	pthread_mutex_lock(&swap->lock);
	swap->state = SWAP_DRAINING;
	links_post(swap, link_on_drain);
	pthread_mutex_unlock(&swap->lock);
	if (swap->unanswered)
		ASSERT(swap->main_loop);
	else
		swap_on_drained(swap);
	return 0;
}

struct blk_dev *blk_swap_base(const struct blk_dev *dev)
{
	return dev->base;
}

/* ---- the node ---- */

static int swap_open(struct blk_dev *dev, void *params, struct err *reterr)
{
	struct swap_dev *swap = swap_of(dev);

	list_init(&swap->links);
	pthread_mutex_init(&swap->lock, NULL);
	swap->side = side_new(swap, dev->base);
	if (!swap->side)
		return err_set(reterr, -ENOMEM, "no memory");
	dev->caps.volatile_cache = true;
	return 0;
}

static void swap_close(struct blk_dev *dev)
{
	struct swap_dev *swap = swap_of(dev);

	side_free(swap->side);
	pthread_mutex_destroy(&swap->lock);
}

static int swap_rescan(struct blk_dev *dev, uint64_t *ret_size_bytes, struct err *reterr)
{
	int r;

	if (!dev->base)
		return err_set(reterr, -ENODEV, "its back-end was taken away");
	r = blk_dev_rescan(dev->base, reterr);
	if (r == 0)
		*ret_size_bytes = dev->base->caps.size_bytes;
	return r;
}

static int swap_map(struct blk_dev *dev, uint64_t offset_bytes, uint64_t end_bytes,
		    uint64_t *ret_end_bytes, bool *ret_mapped)
{
	struct swap_dev *swap = swap_of(dev);
	struct swap_side *side;
	int r;

	pthread_mutex_lock(&swap->lock);
	side = swap->side;
	if (side)
		side->mappers++;
	pthread_mutex_unlock(&swap->lock);
	if (!side)
		return -EOPNOTSUPP;
	r = blk_dev_map(side->base, offset_bytes, end_bytes, ret_end_bytes, ret_mapped);
	pthread_mutex_lock(&swap->lock);
	if (!--side->mappers && side->dropped)
		loop_post(swap->main_loop, &side->msg);
	pthread_mutex_unlock(&swap->lock);
	return r;
}

const struct blk_impl blk_swap_impl = {
	.type = "swap",
	.hidden = true,
	.filter = true,
	.passes = true,
	.dev_bytes = sizeof(struct swap_dev),
	.chan_bytes = sizeof(struct swap_chan),
	.open = swap_open,
	.close = swap_close,
	.rescan = swap_rescan,
	.map = swap_map,
	.chan_open = swap_chan_open,
	.chan_close = swap_chan_close,
	.buffers_set = swap_buffers_set,
	.submit = swap_submit,
	.cancel = swap_cancel,
};
