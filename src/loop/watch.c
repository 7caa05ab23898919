/*
 * Watches: a one-shot poll, asked for again after each call. So it is level-triggered, and a
 * callback that stops, pauses or does not read everything needs no special case.
 */
#include <errno.h>
#include <poll.h>

#include "loop_impl.h"

static void watch_arm(struct loop_watch *w)
{
	struct io_uring_sqe *sqe;

	if (w->armed || w->stopping || w->paused)
		return;
	sqe = loop_sqe(w->loop);
	io_uring_prep_poll_add(sqe, w->fd, w->events);
	loop_sqe_set_op(sqe, &w->op);
	w->armed = true;
}

static void watch_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct loop_watch *w = container_of(op, struct loop_watch, op);

	w->armed = false;
	if (w->stopping) {
		w->stopped(w);
		return;
	}
	/* While paused it only becomes unarmed: what is ready is still ready when resumed. */
	if (!w->paused && res != -ECANCELED)
		w->fn(w, res < 0 ? POLLERR | POLLNVAL : (uint32_t)res);
	watch_arm(w);
}

static void watch_stop_run(struct loop_work *work)
{
	struct loop_watch *w = container_of(work, struct loop_watch, stop_work);

	w->stopped(w);
}

void loop_watch_start(struct loop *loop, struct loop_watch *w, int fd, uint32_t events,
		      void (*fn)(struct loop_watch *w, uint32_t revents))
{
	loop_assert_owner(loop);
	*w = (struct loop_watch){
		.fn = fn,
		.loop = loop,
		.op.done = watch_done,
		.fd = fd,
		.events = events,
		.stop_work.fn = watch_stop_run,
	};
	watch_arm(w);
}

void loop_watch_stop(struct loop_watch *w, void (*stopped)(struct loop_watch *w))
{
	loop_assert_owner(w->loop);
	ASSERT(!w->stopping);
	w->stopping = true;
	w->stopped = stopped;
	if (w->armed)
		loop_op_cancel(w->loop, &w->op);
	else
		loop_defer(w->loop, &w->stop_work);
}

void loop_watch_pause(struct loop_watch *w)
{
	loop_assert_owner(w->loop);
	w->paused = true;
}

/* From within fn, watch_done arms it; here arming at once is right as well, it is idempotent. */
void loop_watch_resume(struct loop_watch *w)
{
	loop_assert_owner(w->loop);
	w->paused = false;
	watch_arm(w);
}
