#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/trace.h"
#include "loop_impl.h"

static _Thread_local struct loop *current;

struct loop *loop_current(void)
{
	return current;
}

const char *loop_name(const struct loop *loop)
{
	return loop->name;
}

int loop_new(const struct loop_params *params, struct loop **ret_loop, struct err *reterr)
{
	struct loop *loop = aligned_alloc(alignof(struct loop), sizeof(*loop));
	int r;

	if (!loop)
		return err_set(reterr, -ENOMEM, "loop %s: out of memory", params->name);
	memset(loop, 0, sizeof(*loop));
	strncpy(loop->name, params->name, sizeof(loop->name) - 1);
	loop->cpu = params->cpu;
	fifo_init(&loop->fifos.done);
	fifo_init(&loop->fifos.publish);
	list_init(&loop->active);
	list_init(&loop->timers);
	loop->poll_next = &loop->active;
	loop->timer_next_ns = LOOP_NEVER_NS;
	clock_init(&loop->clock);
	clock_refresh(loop);
	r = mailbox_init(loop, reterr);
	if (r < 0)
		goto free_loop;
	r = uring_init(loop, params->sq_count, reterr);
	if (r < 0)
		goto fini_mailbox;
	*ret_loop = loop;
	return 0;

fini_mailbox:
	mailbox_fini(loop);
free_loop:
	free(loop);
	return r;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	if (loop->has_thread) {
		loop_quit(loop);
		pthread_join(loop->thread, NULL);
	}
	uring_fini(loop);
	mailbox_fini(loop);
	free(loop);
}

void loop_quit(struct loop *loop)
{
	atomic_store_explicit(&loop->quit, true, memory_order_relaxed);
	mailbox_wake(loop);
}

/* ---- the iteration ---- */

static void fifo_run(struct fifo *fifo)
{
	struct fifo_node *n = fifo_take(fifo);

	while (n) {
		struct loop_work *work = container_of(n, struct loop_work, node);

		n = n->next; /* fn may free or queue it again */
		work->fn(work);
	}
}

static bool loop_is_idle(const struct loop *loop)
{
	return list_empty(&loop->active) && fifo_empty(&loop->fifos.done) &&
	       fifo_empty(&loop->fifos.publish) && !uring_has_cqe(loop);
}

/* false: there was a reason to stay awake. */
static bool loop_sleep(struct loop *loop)
{
	uint64_t timeout_ns = LOOP_NEVER_NS, start_ns;

	if (loop->timer_next_ns != LOOP_NEVER_NS) {
		clock_refresh(loop);
		if (loop->timer_next_ns <= loop_now_ns(loop))
			return false;
		timeout_ns = loop->timer_next_ns - loop_now_ns(loop);
	}
	if (!mailbox_sleep_begin(loop))
		return false;
	clock_refresh(loop);
	start_ns = loop_now_ns(loop);
	atomic_store_explicit(&loop->asleep_since_ns, start_ns, memory_order_relaxed);
	loop_count(&loop->sleeps, 1);
	uring_wait(loop, timeout_ns);
	mailbox_sleep_end(loop);
	clock_refresh(loop);
	loop_count(&loop->idle_ns, loop_now_ns(loop) - start_ns);
	atomic_store_explicit(&loop->asleep_since_ns, 0, memory_order_relaxed);
	return true;
}

static inline void loop_iterate(struct loop *loop, bool may_sleep)
{
	loop_count(&loop->iterations, 1);
	/* Sleeping comes first, so that one call sees through what ended the sleep. */
	if (may_sleep && unlikely(loop_is_idle(loop)) && !loop_sleep(loop) &&
	    uring_wants_enter(loop))
		uring_enter(loop);
	clock_refresh(loop);
	if (unlikely(mpsc_maybe(&loop->mail)))
		mailbox_run(loop);
	if (unlikely(loop->timer_next_ns != LOOP_NEVER_NS) &&
	    loop->timer_next_ns <= loop_now_ns(loop))
		timers_run(loop);
	if (uring_has_cqe(loop))
		uring_reap(loop);
	if (!fifo_empty(&loop->fifos.done))
		fifo_run(&loop->fifos.done);
	sources_poll(loop);
	if (!fifo_empty(&loop->fifos.done))
		fifo_run(&loop->fifos.done);
	if (!fifo_empty(&loop->fifos.publish))
		fifo_run(&loop->fifos.publish);
	/* An idle loop's entries go with the enter it sleeps in. */
	if (unlikely(uring_wants_enter(loop)) && !(may_sleep && loop_is_idle(loop)))
		uring_enter(loop);
}

static void loop_begin(struct loop *loop)
{
	current = loop;
	ASSERT(uring_claim(loop) == 0);
	if (!atomic_load_explicit(&loop->started_ns, memory_order_relaxed))
		atomic_store_explicit(&loop->started_ns, loop_clock_ns(), memory_order_relaxed);
}

void loop_run_once(struct loop *loop, bool may_sleep)
{
	struct loop *before = current;

	loop_begin(loop);
	loop_iterate(loop, may_sleep);
	current = before;
}

void loop_run(struct loop *loop)
{
	ASSERT(!current);
	loop_begin(loop);
	while (likely(!atomic_load_explicit(&loop->quit, memory_order_relaxed)))
		loop_iterate(loop, true);
	atomic_store_explicit(&loop->quit, false, memory_order_relaxed);
	current = NULL;
}

/* ---- its thread ---- */

struct start {
	struct loop *loop;
	int result;
	const char *failed;
	sem_t told;
};

static int thread_set_up(struct start *start)
{
	struct loop *loop = start->loop;
	cpu_set_t set;

	pthread_setname_np(pthread_self(), loop->name);
	if (loop->cpu >= 0) {
		start->failed = "pinning to its CPU";
		CPU_ZERO(&set);
		if (loop->cpu >= CPU_SETSIZE)
			return -EINVAL;
		CPU_SET(loop->cpu, &set);
		if (sched_setaffinity(0, sizeof(set), &set) < 0)
			return -errno;
	}
	start->failed = "enabling its io_uring";
	return uring_claim(loop);
}

static void *thread_main(void *arg)
{
	struct start *start = arg;
	struct loop *loop = start->loop;
	int r = thread_set_up(start);

	start->result = r;
	sem_post(&start->told); /* start is gone from here */
	if (r == 0)
		loop_run(loop);
	return NULL;
}

int loop_pthread_create(pthread_t *thread, void *(*fn)(void *arg), void *arg)
{
	sigset_t block, old;
	int r;

	sigfillset(&block);
	sigdelset(&block, SIGBUS);
	sigdelset(&block, SIGSEGV);
	sigdelset(&block, SIGILL);
	sigdelset(&block, SIGFPE);
	sigdelset(&block, SIGABRT);
	sigdelset(&block, SIGTRAP);
	sigdelset(&block, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &block, &old);
	r = pthread_create(thread, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

int loop_thread_start(struct loop *loop, struct err *reterr)
{
	struct start start = { .loop = loop, .failed = "starting its thread" };
	int r;

	ASSERT(!loop->claimed && !loop->has_thread);
	sem_init(&start.told, 0, 0);
	r = loop_pthread_create(&loop->thread, thread_main, &start);
	if (r == 0) {
		while (sem_wait(&start.told) < 0)
			ASSERT(errno == EINTR);
		r = start.result;
		if (r < 0)
			pthread_join(loop->thread, NULL);
	}
	sem_destroy(&start.told);
	if (r < 0)
		return err_set(reterr, r, "loop %s: %s: %s", loop->name, start.failed,
			       strerror(-r));
	loop->has_thread = true;
	return 0;
}

/* ---- counters ---- */

void loop_stats_get(const struct loop *loop, struct loop_stats *ret_stats)
{
	uint64_t since = atomic_load_explicit(&loop->asleep_since_ns, memory_order_relaxed);
	uint64_t started = atomic_load_explicit(&loop->started_ns, memory_order_relaxed);
	uint64_t now = loop_clock_ns();
	uint64_t idle = atomic_load_explicit(&loop->idle_ns, memory_order_relaxed);
	uint64_t total = started && now > started ? now - started : 0;

	if (since && now > since)
		idle += now - since;
	idle = MIN(idle, total);
	*ret_stats = (struct loop_stats){
		.iterations = atomic_load_explicit(&loop->iterations, memory_order_relaxed),
		.sleeps = atomic_load_explicit(&loop->sleeps, memory_order_relaxed),
		.enters = atomic_load_explicit(&loop->enters, memory_order_relaxed),
		.busy_ns = total - idle,
		.idle_ns = idle,
		.sources = (uint32_t)atomic_load_explicit(&loop->sources, memory_order_relaxed),
		.asleep = since,
		.tid = atomic_load_explicit(&loop->tid, memory_order_relaxed),
		.cpu = loop->cpu,
	};
}
