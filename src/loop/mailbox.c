#include <errno.h>
#include <semaphore.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop_impl.h"

#define MESSAGES_PER_ITERATION 64

static void wake_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct loop *loop = container_of(op, struct loop, wake_op);

	loop->wake_pending = false;
}

int mailbox_init(struct loop *loop, struct err *reterr)
{
	mpsc_init(&loop->mail);
	atomic_init(&loop->sleeping, false);
	atomic_init(&loop->quit, false);
	loop->wake_op.done = wake_done;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (loop->wake_fd < 0)
		return err_set(reterr, -errno, "eventfd of loop %s: %s", loop->name,
			       strerror(errno));
	return 0;
}

void mailbox_fini(struct loop *loop)
{
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
}

void mailbox_run(struct loop *loop)
{
	struct mpsc_node *n;

	for (int i = 0; i < MESSAGES_PER_ITERATION && (n = mpsc_pop(&loop->mail)); i++) {
		struct loop_msg *msg = container_of(n, struct loop_msg, node);

		msg->fn(msg);
	}
}

void mailbox_wake(struct loop *loop)
{
	const uint64_t one = 1;

	/* Partner: the fence in mailbox_sleep_begin. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(&loop->sleeping, memory_order_relaxed))
		return;
	/* A counter of 2^64 - 2 wake-ups would be needed to make this block or fail. */
	if (atomic_exchange(&loop->sleeping, false)) {
		ssize_t wrote = write(loop->wake_fd, &one, sizeof(one));

		ASSERT(wrote == sizeof(one));
	}
}

void loop_post(struct loop *loop, struct loop_msg *msg)
{
	mpsc_push(&loop->mail, &msg->node);
	mailbox_wake(loop);
}

bool mailbox_sleep_begin(struct loop *loop)
{
	if (!loop->wake_pending) {
		struct io_uring_sqe *sqe = loop_sqe(loop);

		io_uring_prep_read(sqe, loop->wake_fd, &loop->wake_value, sizeof(loop->wake_value),
				   0);
		loop_sqe_set_op(sqe, &loop->wake_op);
		loop->wake_pending = true;
	}
	atomic_store_explicit(&loop->sleeping, true, memory_order_relaxed);
	/* Partner: the fence in mailbox_wake. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!mpsc_maybe(&loop->mail) && !atomic_load_explicit(&loop->quit, memory_order_relaxed))
		return true;
	mailbox_sleep_end(loop);
	return false;
}

void mailbox_sleep_end(struct loop *loop)
{
	atomic_store_explicit(&loop->sleeping, false, memory_order_relaxed);
}

/* ---- loop_call ---- */

struct call {
	struct loop_msg msg;
	void (*fn)(void *arg);
	void *arg;
	sem_t ran;
};

static void call_run(struct loop_msg *msg)
{
	struct call *call = container_of(msg, struct call, msg);

	call->fn(call->arg);
	sem_post(&call->ran);
}

void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	struct call call = { .msg.fn = call_run, .fn = fn, .arg = arg };

	ASSERT(!loop_current());
	sem_init(&call.ran, 0, 0);
	loop_post(loop, &call.msg);
	while (sem_wait(&call.ran) < 0)
		ASSERT(errno == EINTR);
	sem_destroy(&call.ran);
}
