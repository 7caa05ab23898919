/*
 * See limit.h. A link is what main and a member's loop have of each other: it outlives the member
 * while a message to it is under way. Several changes may share one message; what counts is what
 * is true when it arrives.
 */
#include "blk/limit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "blk/blk_impl.h"
#include "blk/filter/qos_hold.h"

struct blk_limits {
	char *name;
	uint32_t refs; /* atomic */
	struct qos_budget budget;
	pthread_mutex_t lock; /* members that come and go, against main; never on the data path */
	struct list links;
};

struct blk_limit_link {
	struct list node;
	struct blk_limits *limits;	 /* a reference */
	struct blk_limit_member *member; /* NULL: it has left; its loop's */
	struct loop *loop;
	bool busy;    /* msg is under way; under the lock */
	bool limited; /* as the member knows; its loop's */
	struct loop_msg msg;
};

struct limit_chan {
	struct blk_chan chan;
	struct blk_chan *disk;
	struct blk_limits *limits; /* a reference */
	struct qos_hold hold;
};

/* ---- the limits ---- */

struct blk_limits *blk_limits_new(const char *name)
{
	struct blk_limits *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->name = strdup(name);
	if (!l->name) {
		free(l);
		return NULL;
	}
	l->refs = 1;
	list_init(&l->links);
	pthread_mutex_init(&l->lock, NULL);
	return l;
}

struct blk_limits *blk_limits_ref(struct blk_limits *l)
{
	if (l)
		__atomic_add_fetch(&l->refs, 1, __ATOMIC_RELAXED);
	return l;
}

void blk_limits_unref(struct blk_limits *l)
{
	if (!l || __atomic_sub_fetch(&l->refs, 1, __ATOMIC_ACQ_REL))
		return;
	ASSERT(list_empty(&l->links));
	pthread_mutex_destroy(&l->lock);
	free(l->name);
	free(l);
}

static bool limits_any(struct blk_limits *l)
{
	return __atomic_load_n(&l->budget.mask, __ATOMIC_RELAXED);
}

static void link_on_msg(struct loop_msg *msg)
{
	struct blk_limit_link *link = container_of(msg, struct blk_limit_link, msg);
	struct blk_limits *l = link->limits;
	bool limited;

	pthread_mutex_lock(&l->lock);
	link->busy = false;
	limited = limits_any(l);
	pthread_mutex_unlock(&l->lock);
	if (!link->member) {
		free(link);
		blk_limits_unref(l);
	} else if (limited != link->limited) {
		link->limited = limited;
		link->member->changed(link->member, limited);
	}
}

int blk_limits_set(struct blk_limits *l, const struct blk_qos_limits *to, struct err *reterr)
{
	struct blk_limit_link *link;
	bool before = limits_any(l);
	int r;

	pthread_mutex_lock(&l->lock);
	r = qos_budget_set(&l->budget, l->name, to, reterr);
	if (r == 0 && before != limits_any(l))
		list_for_each(link, &l->links, node) {
			if (link->busy)
				continue;
			link->busy = true;
			link->msg.fn = link_on_msg;
			loop_post(link->loop, &link->msg);
		}
	pthread_mutex_unlock(&l->lock);
	return r;
}

const struct blk_qos_limits *blk_limits_get(const struct blk_limits *l)
{
	return &l->budget.limits;
}

uint64_t blk_limits_waiting(const struct blk_limits *l)
{
	return __atomic_load_n(&l->budget.waiting, __ATOMIC_RELAXED);
}

uint64_t blk_limits_waited(const struct blk_limits *l)
{
	return __atomic_load_n(&l->budget.waited, __ATOMIC_RELAXED);
}

/* ---- members ---- */

int blk_limits_join(struct blk_limits *l, struct loop *loop, struct blk_limit_member *member,
		    bool *ret_limited)
{
	struct blk_limit_link *link;

	member->link = NULL;
	*ret_limited = false;
	if (!l)
		return 0;
	link = calloc(1, sizeof(*link));
	if (!link)
		return -ENOMEM;
	link->limits = blk_limits_ref(l);
	link->member = member;
	link->loop = loop;
	member->link = link;
	pthread_mutex_lock(&l->lock);
	list_append(&l->links, &link->node);
	link->limited = limits_any(l);
	pthread_mutex_unlock(&l->lock);
	*ret_limited = link->limited;
	return 0;
}

void blk_limits_leave(struct blk_limit_member *member)
{
	struct blk_limit_link *link = member->link;
	struct blk_limits *l;
	bool busy;

	if (!link)
		return;
	l = link->limits;
	member->link = NULL;
	pthread_mutex_lock(&l->lock);
	list_remove(&link->node);
	link->member = NULL;
	busy = link->busy;
	pthread_mutex_unlock(&l->lock);
	if (busy)
		return;
	free(link);
	blk_limits_unref(l);
}

/* ---- channels ---- */

static struct limit_chan *limit_of(struct blk_chan *chan)
{
	return container_of(chan, struct limit_chan, chan);
}

static void limit_send(struct blk_req *req)
{
	blk_pass(limit_of(req->chan)->disk, req);
}

static void limit_submit(struct blk_chan *chan, struct blk_req *req)
{
	qos_hold_submit(&limit_of(chan)->hold, req);
}

/* What has been sent on is the disk's. */
static void limit_cancel(struct blk_req *req)
{
	ASSERT(qos_hold_cancel(&limit_of(req->chan)->hold, req));
}

void blk_limit_cancel(struct blk_req *req)
{
	if (req->status == BLK_ST_PENDING && req->chan->cancel == limit_cancel)
		blk_cancel(req);
}

int blk_limit_chan_open(struct blk_limits *l, struct blk_chan *base, struct blk_chan **ret_chan)
{
	size_t bytes = num_round_up(sizeof(struct limit_chan), 64);
	struct limit_chan *lc = aligned_alloc(64, bytes);

	if (!lc)
		return -ENOMEM;
	memset(lc, 0, bytes);
	lc->disk = base;
	lc->limits = blk_limits_ref(l);
	qos_hold_init(&lc->hold, &l->budget, base->loop, limit_send);
	blk_chan_enter(&lc->chan, base->dev, base->loop);
	lc->chan.submit = limit_submit;
	lc->chan.cancel = limit_cancel;
	*ret_chan = &lc->chan;
	return 0;
}

void blk_limit_chan_close(struct blk_chan *chan)
{
	struct limit_chan *lc;

	if (!chan)
		return;
	lc = limit_of(chan);
	qos_hold_open(&lc->hold, true);
	qos_hold_fini(&lc->hold);
	blk_chan_leave(chan);
	blk_limits_unref(lc->limits);
	free(lc);
}

void blk_limit_chan_hurry(struct blk_chan *chan, bool on)
{
	qos_hold_open(&limit_of(chan)->hold, on);
}

/* ---- one channel of one disk ---- */

/* Without memory it goes on without limits, rather than without its disk. */
static void way_limit(struct blk_way *way)
{
	if (blk_limit_chan_open(way->limits, way->base, &way->chan) < 0)
		return;
	if (way->hurry)
		blk_limit_chan_hurry(way->chan, true);
}

static void way_unlimit(struct blk_way *way)
{
	if (way->chan != way->base)
		blk_limit_chan_close(way->chan);
	way->chan = way->base;
}

static void way_on_changed(struct blk_limit_member *member, bool limited)
{
	struct blk_way *way = container_of(member, struct blk_way, member);

	way_unlimit(way);
	if (limited)
		way_limit(way);
}

int blk_way_open(struct blk_way *way, struct blk_dev *dev, struct loop *loop,
		 struct blk_limits *limits, struct err *reterr)
{
	bool limited;
	int r = blk_chan_open(dev, loop, &way->base, reterr);

	if (r < 0)
		return r;
	way->chan = way->base;
	way->limits = limits;
	way->hurry = false;
	way->member.changed = way_on_changed;
	if (blk_limits_join(limits, loop, &way->member, &limited) < 0) {
		blk_chan_close(way->base);
		return err_set(reterr, -ENOMEM, "no memory");
	}
	if (limited)
		way_limit(way);
	return 0;
}

void blk_way_close(struct blk_way *way)
{
	blk_limits_leave(&way->member);
	way_unlimit(way);
	blk_chan_close(way->base);
}

void blk_way_hurry(struct blk_way *way, bool on)
{
	way->hurry = on;
	if (way->chan != way->base)
		blk_limit_chan_hurry(way->chan, on);
}
