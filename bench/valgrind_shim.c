/*
 * Lets a program that sleeps in io_uring run under valgrind 3.19; preloaded by instructions.py.
 *
 * That valgrind does not know that io_uring_enter may block: it keeps its one big lock for the
 * whole sleep, and no other thread of the program runs again. Here the sleep is a poll() on the
 * ring's descriptor, which it knows, and the system call on the ring never waits. A ring whose
 * completions are deferred to its task (DEFER_TASKRUN) does not wake a poll(), so those flags are
 * taken away at set-up.
 */
#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>

#define SHOWN __attribute__((visibility("default")))

/* IORING_SETUP_: R_DISABLED, COOP_TASKRUN, TASKRUN_FLAG, SINGLE_ISSUER, DEFER_TASKRUN. */
#define DEFERRING_FLAGS ((1u << 6) | (1u << 8) | (1u << 9) | (1u << 12) | (1u << 13))

SHOWN int io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
				     struct io_uring_params *p)
{
	int (*real)(unsigned, struct io_uring *, struct io_uring_params *);

	p->flags &= ~DEFERRING_FLAGS;
	*(void **)&real = dlsym(RTLD_NEXT, "io_uring_queue_init_params");
	return real ? real(entries, ring, p) : -ENOSYS;
}

static int submit_and_sleep(struct io_uring *ring, unsigned wait_count,
			    const struct __kernel_timespec *ts)
{
	struct pollfd p = { .fd = ring->ring_fd, .events = POLLIN };
	int timeout_ms = -1;
	int rc = io_uring_submit(ring);

	if (rc < 0)
		return rc;
	if (ts)
		timeout_ms = (int)(ts->tv_sec * 1000 + (ts->tv_nsec + 999999) / 1000000);
	while (wait_count && !io_uring_cq_ready(ring)) {
		int n = poll(&p, 1, timeout_ms);

		if (n < 0)
			return -errno;
		io_uring_get_events(ring);
		if (!n && !io_uring_cq_ready(ring))
			return -ETIME;
	}
	return rc;
}

SHOWN int io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **ret_cqe,
					   unsigned wait_count, struct __kernel_timespec *ts,
					   sigset_t *mask)
{
	int rc = submit_and_sleep(ring, wait_count, ts);

	(void)mask; /* nobody here passes one */
	if (ret_cqe) {
		*ret_cqe = NULL;
		if (rc >= 0)
			io_uring_peek_cqe(ring, ret_cqe);
	}
	return rc;
}

SHOWN int io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_count)
{
	return submit_and_sleep(ring, wait_count, NULL);
}
