#include "loop/notify.h"

#include <errno.h>
#include <liburing.h>

#include "base/check.h"

static void notify_settle(struct notify *n)
{
	void (*idle)(struct notify * n) = n->idle;

	loop_timer_stop(&n->grace);
	n->idle = NULL;
	n->fd = -1;
	idle(n);
}

static void notify_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct notify *n = container_of(op, struct notify, op);

	n->busy = false;
	if (res == -ECANCELED)
		n->owed = true;
	/* Other errors: -EAGAIN is a full, unread bell; the rest is a bell that the peer broke. */
	if (n->idle)
		notify_settle(n);
	else if (n->owed)
		notify_send(n);
}

static void notify_on_grace(struct loop_timer *t)
{
	struct notify *n = container_of(t, struct notify, grace);

	if (n->busy)
		loop_op_cancel(n->loop, &n->op);
}

void notify_init(struct notify *n)
{
	*n = (struct notify){ .fd = -1, .one = 1, .op.done = notify_done };
	loop_timer_init(&n->grace, notify_on_grace);
}

void notify_start(struct notify *n, struct loop *loop, int fd)
{
	ASSERT(!n->busy && !n->idle);
	n->loop = loop;
	n->fd = fd;
	if (n->owed && fd >= 0)
		notify_send(n);
}

void notify_send(struct notify *n)
{
	struct io_uring_sqe *sqe;

	if (n->fd < 0 || n->busy || n->idle) {
		n->owed = true;
		return;
	}
	sqe = loop_sqe(n->loop);
	io_uring_prep_write(sqe, n->fd, &n->one, sizeof(n->one), 0);
	loop_sqe_set_op(sqe, &n->op);
	n->owed = false;
	n->busy = true;
}

void notify_stop(struct notify *n, uint64_t grace_ns, void (*idle)(struct notify *n))
{
	ASSERT(!n->idle);
	n->idle = idle;
	if (!n->busy)
		notify_settle(n);
	else if (grace_ns)
		loop_timer_start(n->loop, &n->grace, loop_now_ns(n->loop) + grace_ns);
	else
		loop_op_cancel(n->loop, &n->op);
}
