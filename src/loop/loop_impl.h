/*
 * What the files of this room share. Nobody outside includes it.
 *
 * Wake-up protocol between a poster and a loop about to sleep (mailbox.c):
 *
 *   loop:    sleeping = 1; full fence; mailbox or quit? -> do not sleep : sleep
 *   poster:  push;         full fence; sleeping?        -> swap to 0, write wake_fd
 *
 * One of the two sees the other's store, whatever the order. The loop reads wake_fd through its
 * io_uring, so that there is one place to sleep.
 */
#ifndef LOOP_IMPL_H
#define LOOP_IMPL_H

#include <liburing.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

#include "loop/loop.h"

#define LOOP_NEVER_NS UINT64_MAX

struct loop_table { /* a registered table of the io_uring and its free slots */
	int *free_slots;
	uint32_t free_count;
	bool tried;
};

struct loop_buf { /* by slot of the registered buffers */
	void *base;
	size_t len_bytes;
	uint32_t refs; /* 0: a free slot */
};

struct loop_clock { /* the time-stamp counter as CLOCK_MONOTONIC; mult 0: not usable */
	uint64_t base_tsc, base_ns;
	uint64_t mult; /* ns per tick, 32 binary places */
	uint64_t span_ticks;
};

struct loop {
	struct loop_fifos fifos; /* first: loop_fifos() */
	struct list active;
	struct list *poll_next;
	bool claimed; /* the io_uring belongs to a thread */
	bool wake_pending;
	bool has_thread;
	uint64_t timer_next_ns;
	struct io_uring ring;
	struct list timers;
	struct loop_clock clock;
	struct loop_op wake_op;
	uint64_t wake_value;
	struct loop_table files, bufs;
	struct loop_buf *buf_slots; /* NULL until the first */
	/* written by the loop, read by any: relaxed */
	_Atomic uint64_t iterations, sleeps, enters, idle_ns, started_ns, asleep_since_ns;
	_Atomic uint64_t sources;
	_Atomic int tid;
	pthread_t thread;
	char name[16];
	int cpu;
	int wake_fd;
	alignas(64) struct mpsc mail;
	alignas(64) atomic_bool sleeping;
	atomic_bool quit;
};

_Static_assert(offsetof(struct loop, fifos) == 0, "loop_fifos() relies on it");

static inline void loop_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* The calling thread may touch this loop: it runs it, or runs none (before the start). */
static inline void loop_assert_owner(const struct loop *loop)
{
	struct loop *current = loop_current();

	ASSERT(!current || current == loop);
}

/* clock.c */
void clock_init(struct loop_clock *c);
uint64_t clock_read(struct loop_clock *c);
/* Reads it for loop_now_ns. */
void clock_refresh(struct loop *loop);

/* uring.c */
int uring_init(struct loop *loop, uint32_t sq_count, struct err *reterr);
void uring_fini(struct loop *loop);
/* Makes the calling thread the one that submits; once, the first time it runs. */
int uring_claim(struct loop *loop);
void uring_reap(struct loop *loop);
void uring_enter(struct loop *loop);
/* Submits and waits for a completion or timeout_ns (LOOP_NEVER_NS: no limit). */
void uring_wait(struct loop *loop, uint64_t timeout_ns);

static inline bool uring_has_cqe(const struct loop *loop)
{
	return *loop->ring.cq.khead != io_uring_smp_load_acquire(loop->ring.cq.ktail);
}

/* Entries not yet taken by the kernel, or work it only does when entered (DEFER_TASKRUN). */
static inline bool uring_wants_enter(const struct loop *loop)
{
	const struct io_uring_sq *sq = &loop->ring.sq;

	return sq->sqe_tail != IO_URING_READ_ONCE(*sq->khead) ||
	       (IO_URING_READ_ONCE(*sq->kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}

/* timer.c */
void timers_run(struct loop *loop);

/* mailbox.c */
int mailbox_init(struct loop *loop, struct err *reterr);
void mailbox_fini(struct loop *loop);
void mailbox_run(struct loop *loop);
/* Announces sleep; false: something came, stay awake. */
bool mailbox_sleep_begin(struct loop *loop);
void mailbox_sleep_end(struct loop *loop);
void mailbox_wake(struct loop *loop);

/* source.c */
void sources_poll(struct loop *loop);

/* loop.c: a thread whose signals are blocked, except those a fault raises in it. */
int loop_pthread_create(pthread_t *thread, void *(*fn)(void *arg), void *arg);

#endif
