/*
 * The poller: see "Polling and sleeping" in loop.h.
 *
 *            start                  arm: nothing there
 *     OFF ----------> ACTIVE ------------------------------> ARMED
 *      ^               | ^  <------------------------------    |
 *      |          stop | |     kick, loop_source_wake          | stop
 *      |               v                                       v
 *      +----------- STOPPING <---------------------------------+
 *         the kernel let go of kick_fd
 *
 * Invariants
 *  1. A source is in loop->active if and only if it is ACTIVE.
 *  2. At most one poll of kick_fd is in the kernel (kick_pending). It may outlive ARMED: a kick
 *     that comes while ACTIVE uses it up, and those after it cost nothing until the next arming.
 *  3. Arming with no poll pending first empties the eventfd, then turns notifications on and looks
 *     at the ring (ops->arm), then polls. A kick before the look is found by the look, one after
 *     it by the poll.
 *
 * A source without a descriptor is woken by its owner (LOOP_KICK_WAKE), or looked at by a timer
 * (LOOP_KICK_TIMER): ops->arm is then the look, and what it finds makes the source ACTIVE.
 *
 * The kick is polled, not read, by the io_uring: front-ends pass descriptors with O_NONBLOCK, on
 * which an io_uring read gives EAGAIN instead of waiting, and the flag belongs to the open file
 * that we share with them. It is emptied with RWF_NOWAIT, which never blocks whatever the flag is,
 * and while arming, where nobody waits for us.
 */
#include <errno.h>
#include <poll.h>
#include <sys/uio.h>

#include "base/num.h"
#include "loop_impl.h"

#define BROKEN_KICK_RETRY_NS 10000000ull
#define SPIN_STEP_NS	     1000u
/* After a request more of the same burst may follow; then the storage has the word. */
#define SPIN_AFTER_POLL_NS 5000u

static void source_activate(struct loop_source *s)
{
	if (s->kick_broken || s->kick_fd == LOOP_KICK_TIMER)
		loop_timer_stop(&s->retry);
	s->state = SOURCE_ACTIVE;
	/* In front: the round of sources_poll that may be running does not come by there again. */
	list_append(s->loop->active.next, &s->node);
}

static void source_deactivate(struct loop_source *s)
{
	if (s->loop->poll_next == &s->node)
		s->loop->poll_next = s->node.next;
	list_remove(&s->node);
}

/*
 * Spinning pays if the next kick comes soon after the last answer or request: a spin that had not
 * given up would have seen it. Judged when the kick comes: had the spin been cut by half at each
 * arming, a kick just after it would only give that half back, for ever.
 */
static void source_adapt_spin(struct loop_source *s)
{
	uint64_t waited_ns = loop_now_ns(s->loop) - s->quiet_since_ns;

	if (waited_ns <= s->spin_max_ns)
		s->spin_ns = (uint32_t)MIN(MAX(2ull * s->spin_ns, (uint64_t)SPIN_STEP_NS),
					   (uint64_t)s->spin_max_ns);
	else
		s->spin_ns = s->spin_ns > SPIN_STEP_NS ? s->spin_ns / 2 : 0;
}

static void source_finish_stop(struct loop_source *s)
{
	s->state = SOURCE_OFF;
	loop_count(&s->loop->sources, UINT64_MAX); /* one less */
	s->stopped(s);
}

static void source_stop_run(struct loop_work *work)
{
	source_finish_stop(container_of(work, struct loop_source, stop_work));
}

static void kick_failed(struct loop_source *s)
{
	s->kick_broken = true;
	s->kick_errors++;
}

static void kick_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct loop_source *s = container_of(op, struct loop_source, kick_op);

	s->kick_pending = false;
	if (s->state == SOURCE_STOPPING) {
		source_finish_stop(s);
		return;
	}
	if (res >= 0 && (res & POLLIN))
		s->kicks++;
	else
		kick_failed(s);
	if (s->state != SOURCE_ARMED)
		return;
	source_adapt_spin(s);
	loop_source_wake(s);
}

/* At most 1/16 later than work comes; at a common multiple, so that one wake-up serves many. */
static void look_later(struct loop_source *s)
{
	uint64_t now_ns = loop_now_ns(s->loop);
	uint64_t gap_ns = (now_ns - s->quiet_since_ns) / LOOP_LOOK_FRACTION;

	gap_ns = MIN(MAX(gap_ns, (uint64_t)LOOP_LOOK_MIN_NS), (uint64_t)LOOP_LOOK_MAX_NS);
	gap_ns = 1ull << (63 - __builtin_clzll(gap_ns / LOOP_LOOK_MIN_NS));
	gap_ns *= LOOP_LOOK_MIN_NS;
	loop_timer_start(s->loop, &s->retry, (now_ns / gap_ns + 1) * gap_ns);
}

static void retry_fn(struct loop_timer *t)
{
	struct loop_source *s = container_of(t, struct loop_source, retry);

	/* A look is not a kick: it opens no new window, so that looks become rarer. */
	if (s->kick_fd == LOOP_KICK_TIMER && s->state == SOURCE_ARMED && s->ops->arm(s))
		look_later(s);
	else
		loop_source_wake(s);
}

/* Empties the eventfd; false: it can not be read, so it can not be waited for either. */
static bool kick_drain(struct loop_source *s)
{
	uint64_t value;
	struct iovec iov = { &value, sizeof(value) };
	ssize_t got = preadv2(s->kick_fd, &iov, 1, -1, RWF_NOWAIT);

	return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

static void kick_wait(struct loop_source *s)
{
	struct io_uring_sqe *sqe;

	if (s->kick_fd == LOOP_KICK_WAKE)
		return;
	if (s->kick_fd == LOOP_KICK_TIMER) {
		look_later(s);
		return;
	}
	if (s->kick_broken) {
		loop_timer_start(s->loop, &s->retry, loop_now_ns(s->loop) + BROKEN_KICK_RETRY_NS);
		return;
	}
	if (s->kick_pending)
		return;
	sqe = loop_sqe(s->loop);
	io_uring_prep_poll_add(sqe, s->kick_fd, POLLIN);
	loop_sqe_set_op(sqe, &s->kick_op);
	s->kick_pending = true;
}

static void source_arm(struct loop_source *s)
{
	if (s->kick_fd >= 0 && !s->kick_pending && !s->kick_broken && !kick_drain(s))
		kick_failed(s);
	if (!s->ops->arm(s) || s->state != SOURCE_ACTIVE)
		return;
	s->arms++;
	source_deactivate(s);
	s->state = SOURCE_ARMED;
	kick_wait(s);
}

/* Opens, or moves on, the time in which it is polled without work. */
static inline void source_window(struct loop_source *s, uint32_t spin_ns)
{
	s->quiet_since_ns = loop_now_ns(s->loop);
	s->spin_until_ns = s->quiet_since_ns + spin_ns;
}

/* It found nothing: has it looked for long enough, and is nothing about to be answered? */
static void source_idle(struct loop_source *s)
{
	if (s->state != SOURCE_ACTIVE || s->kick_fd == LOOP_KICK_NONE)
		return;
	if (loop_now_ns(s->loop) < s->spin_until_ns || !fifo_empty(&s->loop->fifos.publish))
		return;
	source_arm(s);
}

void sources_poll(struct loop *loop)
{
	struct list *n = loop->active.next;

	while (n != &loop->active) {
		struct loop_source *s = list_entry(n, struct loop_source, node);

		/* poll may stop any source: source_deactivate moves poll_next on. */
		loop->poll_next = n->next;
		if (likely(s->ops->poll(s)))
			source_window(s, MIN(s->spin_ns, SPIN_AFTER_POLL_NS));
		else
			source_idle(s);
		n = loop->poll_next;
	}
	loop->poll_next = &loop->active;
}

void loop_source_start(struct loop *loop, struct loop_source *s)
{
	loop_assert_owner(loop);
	s->loop = loop;
	s->kick_op.done = kick_done;
	s->stop_work.fn = source_stop_run;
	loop_timer_init(&s->retry, retry_fn);
	list_init(&s->node);
	s->spin_ns = s->spin_max_ns;
	source_window(s, 0);
	s->kick_pending = false;
	s->kick_broken = false;
	s->kicks = s->arms = s->kick_errors = 0;
	loop_count(&loop->sources, 1);
	source_activate(s);
}

void loop_source_stop(struct loop_source *s, void (*stopped)(struct loop_source *s))
{
	loop_assert_owner(s->loop);
	ASSERT(s->state == SOURCE_ACTIVE || s->state == SOURCE_ARMED);
	source_deactivate(s);
	loop_timer_stop(&s->retry);
	s->state = SOURCE_STOPPING;
	s->stopped = stopped;
	if (s->kick_pending)
		loop_op_cancel(s->loop, &s->kick_op);
	else
		loop_defer(s->loop, &s->stop_work);
}

void loop_source_answered(struct loop_source *s)
{
	source_window(s, s->spin_ns);
	if (s->spin_ns)
		loop_source_wake(s);
}

void loop_source_wake(struct loop_source *s)
{
	loop_assert_owner(s->loop);
	if (s->state != SOURCE_ARMED)
		return;
	s->ops->disarm(s);
	source_activate(s);
}
