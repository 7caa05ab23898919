/*
 * Timers: a list sorted by due time. There are few (time-outs of sessions, retries), and most are
 * started later than all others, which the search from the end makes cheap.
 */
#include "loop_impl.h"

void loop_timer_init(struct loop_timer *t, void (*fn)(struct loop_timer *t))
{
	t->fn = fn;
	list_init(&t->node);
	t->due_ns = 0;
}

static uint64_t timers_next(const struct loop *loop)
{
	if (list_empty(&loop->timers))
		return LOOP_NEVER_NS;
	return list_entry(loop->timers.next, struct loop_timer, node)->due_ns;
}

void loop_timer_start(struct loop *loop, struct loop_timer *t, uint64_t due_ns)
{
	struct list *at = loop->timers.prev;

	loop_assert_owner(loop);
	if (at == &t->node)
		at = at->prev;
	list_remove(&t->node);
	t->due_ns = due_ns;
	while (at != &loop->timers && list_entry(at, struct loop_timer, node)->due_ns > due_ns)
		at = at->prev;
	list_append(at->next, &t->node);
	loop->timer_next_ns = timers_next(loop);
}

/*
 * timer_next_ns may stay too early: then one look finds nothing due and sets it right. So a timer
 * needs no pointer to its loop.
 */
void loop_timer_stop(struct loop_timer *t)
{
	list_remove(&t->node);
}

/* Those due now, in order of their time; one that restarts itself for now waits for the next round.
 */
void timers_run(struct loop *loop)
{
	uint64_t now = loop_now_ns(loop);
	struct list due;

	list_init(&due);
	while (timers_next(loop) <= now)
		list_append(&due, list_pop(&loop->timers));
	while (!list_empty(&due)) {
		struct loop_timer *t = list_entry(list_pop(&due), struct loop_timer, node);

		t->fn(t);
	}
	loop->timer_next_ns = timers_next(loop);
}
