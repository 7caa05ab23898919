/*
 * What this room keeps on each data loop, and sweeps over all of them: see scsi_impl.h.
 *
 * A scsi_loop lives from the first queue on its loop to the last, or to the last part of a sweep
 * that was posted to it. Its channels are opened by the first command for a unit.
 *
 * A part counts the matching tasks that were there when it ran and marks them as swept; they are
 * told from later ones by the loop's epoch, so a stream of new commands does not keep a sweep
 * waiting.
 */
#include <stdlib.h>

#include "scsi/scsi_impl.h"

struct sweep_part {
	struct loop_msg msg;
	struct list node; /* sl->waiters */
	struct sweep *sweep;
	struct scsi_loop *sl;
	uint64_t epoch; /* tasks that it waits for have an older one */
	uint32_t count;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list loops = { &loops, &loops };

/* ---- loops ---- */

static struct scsi_loop *loop_find(struct loop *loop)
{
	struct scsi_loop *sl;

	list_for_each(sl, &loops, node)
		if (sl->loop == loop)
			return sl;
	return NULL;
}

static struct scsi_loop *loop_new_locked(struct loop *loop)
{
	struct scsi_loop *sl = calloc(1, sizeof(*sl));

	if (!sl)
		return NULL;
	sl->loop = loop;
	list_init(&sl->limited);
	list_init(&sl->tasks);
	list_init(&sl->waiters);
	list_append(&loops, &sl->node);
	return sl;
}

struct scsi_loop *scsi_loop_get(struct loop *loop)
{
	struct scsi_loop *sl;

	pthread_mutex_lock(&lock);
	sl = loop_find(loop);
	if (!sl)
		sl = loop_new_locked(loop);
	if (sl)
		sl->refs++;
	pthread_mutex_unlock(&lock);
	return sl;
}

void scsi_loop_put(struct scsi_loop *sl)
{
	bool last;

	pthread_mutex_lock(&lock);
	last = !--sl->refs;
	if (last)
		list_remove(&sl->node);
	pthread_mutex_unlock(&lock);
	if (!last)
		return;
	ASSERT(list_empty(&sl->tasks) && list_empty(&sl->waiters));
	for (uint32_t i = 0; i < sl->chans.count; i++)
		blk_chan_close(sl->chans.at[i]);
	free(sl->chans.at);
	free(sl);
}

bool scsi_loops_any(void)
{
	bool any;

	pthread_mutex_lock(&lock);
	any = !list_empty(&loops);
	pthread_mutex_unlock(&lock);
	return any;
}

struct blk_chan **scsi_chans_at(struct scsi_chans *c, const struct scsi_lu *lu)
{
	uint32_t count = MAX(2 * c->count, num_round_up(lu->idx + 1, 16));
	struct blk_chan **more;

	if (lu->idx < c->count)
		return &c->at[lu->idx];
	more = realloc(c->at, count * sizeof(struct blk_chan *));
	if (!more)
		return NULL;
	for (uint32_t i = c->count; i < count; i++)
		more[i] = NULL;
	c->at = more;
	c->count = count;
	return &c->at[lu->idx];
}

struct blk_chan *scsi_loop_chan_open(struct scsi_loop *sl, struct scsi_lu *lu)
{
	struct blk_chan **at = scsi_chans_at(&sl->chans, lu);
	struct err err;

	if (!at)
		return NULL;
	if (blk_chan_open(lu->dev, sl->loop, at, &err) < 0)
		*at = NULL;
	return *at;
}

/* ---- sweeps ---- */

/*
 * A copy may be using any unit of its nexus, so each is waited for before one of them goes. Of a
 * task this is the same from its start to its end.
 */
static bool sweep_is_held_by_copy(const struct sweep *s, const struct scsi_task *t)
{
	return s->action == SWEEP_WAIT && s->itl && t->row && t->row->flags & CDB_COPIES &&
	       t->queue->nexus == s->itl->nexus;
}

static bool sweep_matches(const struct sweep *s, const struct scsi_task *t)
{
	if (t == s->but || !t->itl)
		return false;
	/* Two PREEMPT AND ABORT would wait for each other; PERSISTENT RESERVE OUT does no I/O. */
	if (s->but && t->cdb[0] == 0x5f)
		return false;
	if (sweep_is_held_by_copy(s, t))
		return true;
	if ((s->lu && t->itl->lu != s->lu) || (s->itl && t->itl != s->itl))
		return false;
	if (s->nexus &&
	    (t->queue->nexus != s->nexus || (s->target != UINT32_MAX && t->target != s->target)))
		return false;
	if (s->row_flags && !(t->row && t->row->flags & s->row_flags))
		return false;
	return !s->has_tag || t->tag == s->tag;
}

static void sweep_abort(const struct sweep *s, struct scsi_task *t)
{
	bool other = s->own && t->queue->nexus != s->own;

	if (t->abort_end)
		return;
	t->abort_end = (uint8_t)s->abort_end;
	t->abort_status =
		other && atomic_load_explicit(&t->itl->lu->mode.tas, memory_order_relaxed);
	blk_limit_cancel(&t->blk);
}

static void sweep_finish(struct loop_msg *msg)
{
	struct sweep *s = container_of(msg, struct sweep, msg);

	free(s->parts);
	s->parts = NULL;
	s->done(s);
}

static void part_done(struct sweep_part *p)
{
	struct sweep *s = p->sweep;

	scsi_loop_put(p->sl);
	if (atomic_fetch_sub(&s->pending, 1) != 1)
		return;
	s->msg.fn = sweep_finish;
	loop_post(s->home, &s->msg);
}

static void chan_drop(struct scsi_loop *sl, const struct scsi_lu *lu)
{
	scsi_limits_drop(sl, lu);
	if (lu->idx >= sl->chans.count)
		return;
	blk_chan_close(sl->chans.at[lu->idx]);
	sl->chans.at[lu->idx] = NULL;
}

static void part_run(struct loop_msg *msg)
{
	struct sweep_part *p = container_of(msg, struct sweep_part, msg);
	struct sweep *s = p->sweep;
	struct scsi_task *t;

	p->epoch = ++p->sl->epoch;
	list_for_each(t, &p->sl->tasks, node) {
		if (!sweep_matches(s, t))
			continue;
		atomic_store_explicit(&s->found, true, memory_order_relaxed);
		if (s->action == SWEEP_ABORT)
			sweep_abort(s, t);
		if (s->action == SWEEP_FIND)
			continue;
		t->swept = true;
		p->count++;
	}
	if (s->action == SWEEP_CLOSE_CHAN) {
		ASSERT(!p->count); /* no nexus has the unit any more */
		chan_drop(p->sl, s->lu);
	}
	if (p->count)
		list_append(&p->sl->waiters, &p->node);
	else
		part_done(p);
}

void sweep_task_ended(struct scsi_task *t)
{
	struct scsi_loop *sl = t->queue->sl;
	struct sweep_part *p, *next;

	list_for_each_safe(p, next, &sl->waiters, node) {
		if (t->epoch >= p->epoch || !sweep_matches(p->sweep, t) || --p->count)
			continue;
		list_remove(&p->node);
		part_done(p);
	}
}

bool sweep_start(struct sweep *s)
{
	struct scsi_loop *sl;
	uint32_t n = 0;

	atomic_store(&s->found, false);
	pthread_mutex_lock(&lock);
	s->home = loop_current();
	if (!s->home) { /* who runs its loops by hand (unit tests) has one thread for all */
		ASSERT(!list_empty(&loops));
		s->home = list_entry(loops.next, struct scsi_loop, node)->loop;
	}
	list_for_each(sl, &loops, node)
		n++;
	s->parts = calloc(n + 1, sizeof(*s->parts));
	if (!s->parts) {
		pthread_mutex_unlock(&lock);
		return false;
	}
	/* One for ourselves, so that it ends after the last post whatever the parts do. */
	atomic_store(&s->pending, n + 1);
	n = 0;
	list_for_each(sl, &loops, node) {
		struct sweep_part *p = &s->parts[n++];

		p->sweep = s;
		p->sl = sl;
		p->msg.fn = part_run;
		sl->refs++;
		loop_post(sl->loop, &p->msg);
	}
	pthread_mutex_unlock(&lock);
	if (atomic_fetch_sub(&s->pending, 1) == 1) {
		s->msg.fn = sweep_finish;
		loop_post(s->home, &s->msg);
	}
	return true;
}

/* ---- for handlers ---- */

struct abort_all {
	struct sweep sweep;
	struct scsi_task *by;
	void (*done)(struct scsi_task *by);
};

static void abort_all_done(struct sweep *sweep)
{
	struct abort_all *a = container_of(sweep, struct abort_all, sweep);
	void (*done)(struct scsi_task * by) = a->done;
	struct scsi_task *by = a->by;

	free(a);
	done(by);
}

bool scsi_abort_tasks(struct scsi_task *by, struct scsi_nexus *nexus_or_null,
		      void (*done)(struct scsi_task *by))
{
	struct abort_all *a = calloc(1, sizeof(*a));

	if (!a)
		return false;
	a->by = by;
	a->done = done;
	a->sweep.action = SWEEP_ABORT;
	a->sweep.lu = task_lu(by);
	a->sweep.nexus = nexus_or_null;
	a->sweep.target = UINT32_MAX;
	a->sweep.but = by;
	a->sweep.abort_end = SCSI_END_ABORTED;
	a->sweep.own = by->queue->nexus;
	a->sweep.done = abort_all_done;
	if (sweep_start(&a->sweep))
		return true;
	free(a);
	return false;
}
