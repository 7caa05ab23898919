/*
 * blk_swap of a node that is no swap yet, a back-end: the node itself becomes one, with its
 * channels, so that nobody who holds either has to know, and nothing is paid for it before.
 *
 *   a channel: its back-end's --insert_on_drain--> waits; its requests end --> bare: only the part
 *              that all channels have --insert_on_resume--> a channel of a swap
 *   the node:  a back-end --all channels are bare, no job uses it--> a swap
 *
 * Channels that are opened meanwhile are bare from the start. The node's statistics go on. Memory
 * that was told of (blk_chan_buffers_set) is forgotten: that costs speed, nothing else.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "blk/filter/swap_impl.h"

struct insert_link {
	struct list node; /* insert.links; under the node's shape_lock, as chan is for main */
	struct insert *insert;
	struct blk_chan *chan; /* NULL: closed */
	struct loop *loop;
	struct fifo waiters;
	struct loop_msg msg;
	struct loop_work idle_work;
	int rc;
};

struct insert {
	struct blk_dev *dev, *next; /* references */
	struct list links;
	uint32_t unanswered;
	struct loop *main_loop;
	struct loop_msg idle_msg;
	int rc;
	void (*done)(void *arg, int rc);
	void *arg;
};

/* In a waiting request's impl. */
struct insert_wait {
	struct fifo_node node;
};

static struct blk_req *insert_waiter(struct fifo_node *n)
{
	void *impl = container_of(n, struct insert_wait, node);

	return container_of(impl, struct blk_req, impl);
}

/* ---- a channel that waits (Thread: owner loop) ---- */

/* What waits does not count: in_flight is what the back-end has. */
static void insert_submit_wait(struct blk_chan *chan, struct blk_req *req)
{
	struct insert_wait *wait = (struct insert_wait *)req->impl;

	blk_chan_count(chan, -1);
	fifo_push(&chan->link->waiters, &wait->node);
}

static void insert_cancel(struct blk_req *req)
{
	struct blk_chan *chan = req->chan;
	struct fifo_node *next, *n = fifo_take(&chan->link->waiters);
	bool found = false;

	for (; n; n = next) {
		next = n->next;
		if (insert_waiter(n) == req)
			found = true;
		else
			fifo_push(&chan->link->waiters, n);
	}
	if (found) {
		if (!chan->in_flight) /* it is known that the back-end is idle */
			chan->idle_work = NULL;
		blk_chan_count(chan, 1);
		blk_complete(req, BLK_ST_ABORTED);
	} else if (chan->dev->impl->cancel) {
		chan->dev->impl->cancel(req);
	}
}

static void insert_wait(struct blk_chan *chan)
{
	chan->submit = insert_submit_wait;
	chan->cancel = insert_cancel;
	chan->memory_mask = 0;
}

static struct insert_link *link_new(struct insert *in, struct blk_chan *chan, struct loop *loop)
{
	struct insert_link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	link->insert = in;
	link->chan = chan;
	link->loop = loop;
	fifo_init(&link->waiters);
	list_append(&in->links, &link->node);
	chan->link = link;
	return link;
}

int blk_insert_chan_open(struct blk_chan *chan, struct err *reterr)
{
	if (!link_new(chan->dev->inserting, chan, chan->loop))
		return err_set(reterr, -ENOMEM, "no memory for a channel");
	insert_wait(chan);
	return 0;
}

bool blk_insert_chan_close(struct blk_chan *chan)
{
	struct insert_link *link = chan->link;
	bool bare = chan->bare;

	ASSERT(fifo_empty(&link->waiters));
	link->chan = NULL;
	chan->link = NULL;
	return bare;
}

/* ---- messages, on a channel's loop ---- */

static void insert_on_answer(struct loop_msg *msg);

static void link_answer(struct insert_link *link)
{
	link->msg.fn = insert_on_answer;
	loop_post(link->insert->main_loop, &link->msg);
}

/* The back-end's part of the channel goes. */
static void chan_strip(struct blk_chan *chan)
{
	const struct blk_impl *impl = chan->dev->impl;

	chan->idle_work = NULL;
	if (impl->chan_close)
		impl->chan_close(chan);
	blk_chan_bounce_free(chan);
	memset(chan + 1, 0, blk_chan_bytes(impl) - sizeof(*chan));
	chan->bare = true;
}

static void link_on_idle(struct loop_work *work)
{
	struct insert_link *link = container_of(work, struct insert_link, idle_work);

	if (link->chan)
		chan_strip(link->chan);
	link_answer(link);
}

static void insert_on_drain(struct loop_msg *msg)
{
	struct insert_link *link = container_of(msg, struct insert_link, msg);
	struct blk_chan *chan = link->chan;

	if (chan)
		insert_wait(chan);
	if (chan && chan->in_flight) {
		link->idle_work.fn = link_on_idle;
		chan->idle_work = &link->idle_work;
	} else {
		link_on_idle(&link->idle_work);
	}
}

static void insert_on_resume(struct loop_msg *msg)
{
	struct insert_link *link = container_of(msg, struct insert_link, msg);
	struct blk_chan *chan = link->chan;
	struct fifo_node *next, *n;

	if (chan) {
		chan->link = NULL;
		chan->bare = false;
		chan->cancel = blk_swap_impl.cancel;
		link->rc = blk_swap_chan_become(chan);
		for (n = fifo_take(&link->waiters); n; n = next) {
			next = n->next;
			blk_chan_count(chan, 1);
			chan->submit(chan, insert_waiter(n));
		}
	}
	link_answer(link);
}

/* ---- on main ---- */

static void insert_finish(struct insert *in)
{
	struct insert_link *link, *tmp;
	struct blk_dev *dev = in->dev;

	dev->exchanging = false;
	blk_dev_resize_to(dev, in->next->caps.size_bytes);
	list_for_each_safe(link, tmp, &in->links, node)
		free(link);
	in->done(in->arg, in->rc);
	blk_dev_unref(in->next);
	blk_dev_unref(dev);
	free(in);
}

/* All channels are bare, and no job uses the node. */
static void insert_become(struct insert *in)
{
	struct insert_link *link;
	struct blk_dev *dev = in->dev;
	int rc;

	pthread_mutex_lock(&dev->shape_lock);
	if (dev->impl->close)
		dev->impl->close(dev);
	memset(dev + 1, 0, blk_dev_bytes(dev->impl) - sizeof(*dev));
	dev->impl = &blk_swap_impl;
	blk_dev_rebase(dev, blk_dev_ref(in->next));
	rc = dev->impl->open(dev, NULL, NULL);
	ASSERT(rc == 0); /* a few bytes, when the old node has just been given back */
	dev->inserting = NULL;
	list_for_each(link, &in->links, node) {
		in->unanswered++;
		link->msg.fn = insert_on_resume;
		loop_post(link->loop, &link->msg);
	}
	pthread_mutex_unlock(&dev->shape_lock);
	if (!in->unanswered)
		insert_finish(in);
}

static void insert_on_idle(struct loop_msg *msg)
{
	insert_become(container_of(msg, struct insert, idle_msg));
}

void blk_insert_idle(struct insert *in)
{
	in->idle_msg.fn = insert_on_idle;
	loop_post(in->main_loop, &in->idle_msg);
}

static void insert_on_drained(struct insert *in)
{
	bool busy;

	pthread_mutex_lock(&in->dev->shape_lock);
	busy = in->dev->jobs;
	in->dev->idle_insert = busy ? in : NULL;
	pthread_mutex_unlock(&in->dev->shape_lock);
	if (!busy)
		insert_become(in);
}

static void insert_on_answer(struct loop_msg *msg)
{
	struct insert_link *link = container_of(msg, struct insert_link, msg);
	struct insert *in = link->insert;

	if (link->rc < 0 && !in->rc)
		in->rc = link->rc;
	if (--in->unanswered)
		return;
	if (in->dev->inserting)
		insert_on_drained(in);
	else
		insert_finish(in);
}

/* A link for each channel of the node's making. */
static int insert_links(struct insert *in)
{
	struct blk_chan *chan;

	list_for_each(chan, &in->dev->chans, node)
		if (!chan->foreign && !link_new(in, chan, chan->loop))
			return -ENOMEM;
	return 0;
}

static void insert_drop(struct insert *in)
{
	struct insert_link *link, *tmp;

	list_for_each_safe(link, tmp, &in->links, node) {
		link->chan->link = NULL;
		free(link);
	}
	free(in);
}

int blk_insert(struct blk_dev *dev, struct blk_dev *next, void (*done)(void *arg, int rc),
	       void *arg, struct err *reterr)
{
	struct insert *in = calloc(1, sizeof(*in));
	struct insert_link *link;
	int r = in ? 0 : -ENOMEM;

	if (in) {
		*in = (struct insert){ .dev = dev, .next = next, .done = done, .arg = arg };
		in->main_loop = loop_current();
		list_init(&in->links);
		pthread_mutex_lock(&dev->shape_lock);
		r = insert_links(in);
		if (r < 0)
			insert_drop(in);
		else
			dev->inserting = in;
	}
	if (r == 0) {
		dev->exchanging = true;
		blk_dev_ref(dev);
		blk_dev_ref(next);
		list_for_each(link, &in->links, node) {
			in->unanswered++;
			link->msg.fn = insert_on_drain;
			loop_post(link->loop, &link->msg);
		}
	}
	if (in)
		pthread_mutex_unlock(&dev->shape_lock);
	if (r < 0)
		return err_set(reterr, r, "%s: no memory", dev->name);
	if (in->unanswered)
		ASSERT(in->main_loop);
	else
		insert_on_drained(in);
	return 0;
}
