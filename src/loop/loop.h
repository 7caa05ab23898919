/*
 * The reactor: one thread, one io_uring, bounded phases. Port 1 of the house plan.
 *
 * Every iteration runs, in this order, each bounded:
 *
 *   messages  mailbox: what other threads asked (loop_post)
 *   timers    those that are due
 *   reap      completions of this loop's io_uring (struct loop_op)
 *   done      deferred work (loop_defer): the block layer's completions
 *   poll      the ACTIVE sources: pop rings, submit requests
 *   done      once more: what completed at once (memory) is answered in the same iteration
 *   publish   what marked itself dirty since: store used indexes, decide on notifications
 *   flush     at most one io_uring_enter for everything queued since the last one
 *
 * Polling and sleeping are the same program. A source (a started vring) is ACTIVE while it finds
 * work and for a bounded spin after; then it is *armed* (notifications on, full barrier, ring
 * looked at once more) and costs nothing until its kick arrives through the io_uring. When no
 * source is active the loop sleeps in io_uring_enter, on which kicks, mailbox, timers and
 * completions all arrive. 999 idle sources do not lengthen a busy one's iteration.
 *
 * Threads: a loop belongs to the thread that runs it. Only loop_post (and what says "any") may be
 * called from elsewhere. There is no lock.
 */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/mpsc.h"

struct loop;
struct io_uring_sqe;

/* ---- life ---- */

struct loop_params {
	const char *name;  /* thread name, at most 15 characters */
	int cpu;	   /* pin to this CPU, -1: not pinned */
	uint32_t sq_count; /* io_uring submission entries, power of two, 0: default */
};

/* Makes a loop with its io_uring. Errors: io_uring_setup's, named. Thread: main. */
int loop_new(const struct loop_params *params, struct loop **ret_loop, struct err *reterr);
/* Starts a thread that runs it. Thread: main. */
int loop_thread_start(struct loop *loop, struct err *reterr);
/* Runs the loop on the calling thread until loop_quit. */
void loop_run(struct loop *loop);
/* One iteration; may_sleep: when nothing is active, wait. For tests and loop_run. */
void loop_run_once(struct loop *loop, bool may_sleep);
/* Asks it to return from loop_run. Thread: any. */
void loop_quit(struct loop *loop);
/* Joins its thread (if it has one) and frees it. NULL allowed. Thread: main. */
void loop_free(struct loop *loop);
/* The loop this thread runs, NULL when none. Thread: any. */
struct loop *loop_current(void);
const char *loop_name(const struct loop *loop);

/* ---- time ---- */

/* CLOCK_MONOTONIC now; see loop_now_ns for the cheap one. Thread: any. */
uint64_t loop_clock_ns(void);

struct loop_timer {
	void (*fn)(struct loop_timer *t);
	/* private: */
	struct list node;
	uint64_t due_ns;
};

void loop_timer_init(struct loop_timer *t, void (*fn)(struct loop_timer *t));
/* (Re)starts it. One shot. Thread: owner loop. */
void loop_timer_start(struct loop *loop, struct loop_timer *t, uint64_t due_ns);
void loop_timer_stop(struct loop_timer *t);

/* ---- messages ---- */

struct loop_msg {
	struct mpsc_node node; /* private */
	void (*fn)(struct loop_msg *msg);
};

/* Runs msg->fn(msg) on loop's thread, in order of posting. msg is the caller's until it ran.
 * Thread: any. */
void loop_post(struct loop *loop, struct loop_msg *msg);
/* Posts and waits for it to have run. Thread: job threads and tests, never a loop (ASSERT). */
void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg);

/* ---- deferred work: phase "done", and phase "publish" ---- */

struct loop_work {
	struct fifo_node node; /* private */
	void (*fn)(struct loop_work *work);
};

/* The two FIFOs; a room that does not know loop is given them as `struct fifo *`. And the time. */
struct loop_fifos {
	struct fifo done;    /* struct loop_work, run in phase "done" */
	struct fifo publish; /* struct loop_work, run in phase "publish" */
	uint64_t now_ns;     /* private: loop_now_ns() */
};

/* loop begins with its struct loop_fifos, so that this needs no look-up. */
static inline struct loop_fifos *loop_fifos(struct loop *loop)
{
	return (struct loop_fifos *)loop;
}

/* CLOCK_MONOTONIC when this iteration began (after its sleep); never goes back. Thread: owner loop.
 */
static inline uint64_t loop_now_ns(const struct loop *loop)
{
	return ((const struct loop_fifos *)loop)->now_ns;
}

/*
 * Runs work->fn in the next "done" phase, never before this returns. Work that defers itself runs
 * at most twice an iteration. Thread: owner loop.
 */
static inline void loop_defer(struct loop *loop, struct loop_work *work)
{
	fifo_push(&loop_fifos(loop)->done, &work->node);
}

/* ---- the io_uring ---- */

/* One operation in flight. Embedded in the caller's object, which must live until done ran. */
struct loop_op {
	void (*done)(struct loop_op *op, int res, uint32_t cqe_flags);
};

/*
 * A submission entry, with user_data already set to op; the caller prepares it (io_uring_prep_x
 * clears user_data: call loop_sqe_prep_end(sqe, op) after it). Submits on its own when the queue
 * is full; never NULL. It reaches the kernel in the phase "flush". Thread: owner loop.
 */
struct io_uring_sqe *loop_sqe(struct loop *loop);
void loop_sqe_set_op(struct io_uring_sqe *sqe, struct loop_op *op);
/*
 * For storage, after each entry: hands a few (4) to the kernel as soon as they are there. A device
 * then works on the first while the rest of a burst is prepared, which is worth more than the
 * calls saved by waiting for the phase "flush" (at a depth of 32: 10 % of the rate).
 */
void loop_sqe_early(struct loop *loop);
/* Asks to cancel; op->done still comes, once. Thread: owner loop. */
void loop_op_cancel(struct loop *loop, struct loop_op *op);
/* Registered files and buffers (sparse tables); -ENOSPC when full, -ENOTSUP when the kernel has
 * none. */
int loop_file_register(struct loop *loop, int fd); /* returns the slot */
void loop_file_unregister(struct loop *loop, int slot);
/*
 * For IORING_OP_READ_FIXED and WRITE_FIXED: pins the memory. At most 1 GiB; the same range again
 * gives the same slot, to be unregistered as often. The caller keeps the range mapped, and to the
 * same memory, until then. Also -ENOMEM (RLIMIT_MEMLOCK), -EFAULT, -EOPNOTSUPP (mapped files).
 */
int loop_buf_register(struct loop *loop, void *base, size_t len_bytes);
void loop_buf_unregister(struct loop *loop, int slot);

/* ---- readiness of descriptors (main loop: sockets, signals, inotify) ---- */

struct loop_watch {
	void (*fn)(struct loop_watch *w, uint32_t revents);
	/* private: */
	struct loop *loop;
	struct loop_op op;
	int fd;
	uint32_t events;
	bool armed, stopping, paused;
	void (*stopped)(struct loop_watch *w);
	struct loop_work stop_work;
};

/* fn is called each time fd is ready, until stopped; it is level-triggered. Thread: owner loop. */
void loop_watch_start(struct loop *loop, struct loop_watch *w, int fd, uint32_t events,
		      void (*fn)(struct loop_watch *w, uint32_t revents));
/* fn is not called any more; stopped(w) comes once, later, and then w and fd may go. */
void loop_watch_stop(struct loop_watch *w, void (*stopped)(struct loop_watch *w));
/* Stops being called until resumed (a parked session does not read its socket). */
void loop_watch_pause(struct loop_watch *w);
void loop_watch_resume(struct loop_watch *w);

/* ---- sources: what is polled ---- */

struct loop_source;

struct loop_source_ops {
	/* Handle what is there, at most a budget's worth; returns how many units were handled. */
	uint32_t (*poll)(struct loop_source *s);
	/*
	 * Turn notifications on, full barrier, look again. true: nothing there, sleeping is safe.
	 * false: there is work (notifications are off again).
	 */
	bool (*arm)(struct loop_source *s);
	/* Turn notifications off: we are looking anyway. */
	void (*disarm)(struct loop_source *s);
};

/* In place of a kick descriptor. */
#define LOOP_KICK_NONE -1 /* none comes: never armed, always active */
#define LOOP_KICK_WAKE -2 /* loop_source_wake comes instead */
#define LOOP_KICK_TIMER                                                                            \
	-3 /* none comes: when idle it is looked at by a timer, less and less often */

/*
 * LOOP_KICK_TIMER: the longest time between two looks; the shortest; and how much later than work
 * came it may be found, as a part of the time that it was idle (1/16). All idle sources of a loop
 * are looked at in one wake-up, since their times are multiples of the shortest.
 */
#define LOOP_LOOK_MAX_NS   2000000u
#define LOOP_LOOK_MIN_NS   31250u
#define LOOP_LOOK_FRACTION 16

struct loop_source {
	const struct loop_source_ops *ops;
	int kick_fd;	      /* eventfd, or LOOP_KICK_ */
	uint32_t spin_max_ns; /* how long to look without work before arming; 0: at once */
	/* private: */
	struct loop *loop;
	struct list node; /* in the active list */
	struct loop_op kick_op;
	struct loop_work stop_work;
	struct loop_timer retry; /* looks again now and then: no kick, or a broken one */
	uint64_t spin_until_ns, quiet_since_ns;
	uint32_t spin_ns; /* adaptive: grows when kicks come soon after answers */
	enum {
		SOURCE_OFF,
		SOURCE_ACTIVE,
		SOURCE_ARMED,
		SOURCE_STOPPING
	} state;
	bool kick_pending; /* the poll for the kick is in the kernel */
	bool kick_broken;  /* kick_fd gave an error: never waited for again */
	void (*stopped)(struct loop_source *s);
	uint64_t kicks, arms, kick_errors; /* counters */
};

/*
 * Starts to poll s; it is looked at once whatever its notifications say (a kick may have come
 * before). The kick descriptor stays the caller's. Thread: owner loop.
 */
void loop_source_start(struct loop *loop, struct loop_source *s);
/* No poll() any more from here; stopped(s) comes once, later, when the kernel has let go of
 * kick_fd. */
void loop_source_stop(struct loop_source *s, void (*stopped)(struct loop_source *s));
/*
 * An answer went out: the next request may follow soon, so it is polled for the spin from here on.
 * While requests only wait for their storage there is nothing to spin for.
 */
void loop_source_answered(struct loop_source *s);
/* Makes an armed source active now (it got work by another way than its kick). */
void loop_source_wake(struct loop_source *s);

/* ---- counters (read by any thread; each written by its loop only) ---- */

struct loop_stats {
	uint64_t iterations, sleeps, enters, busy_ns, idle_ns;
	uint32_t sources; /* started ones: active or armed */
	bool asleep;
	int tid; /* of the thread that runs it, 0: not yet */
	int cpu; /* it is pinned to, -1: not pinned */
};
void loop_stats_get(const struct loop *loop, struct loop_stats *ret_stats);

#endif
