#include "loop/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loop_impl.h"

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct fifo waiting; /* under lock, as is stopping */
	bool stopping;
	pthread_t *threads;
	uint32_t count;
} jobs = { .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER };

/* The next one; NULL: stopping, and none waits. */
static struct job *job_next(void)
{
	struct fifo_node *n;

	pthread_mutex_lock(&jobs.lock);
	while (!(n = fifo_pop(&jobs.waiting)) && !jobs.stopping)
		pthread_cond_wait(&jobs.wake, &jobs.lock);
	pthread_mutex_unlock(&jobs.lock);
	return n ? container_of(n, struct job, node) : NULL;
}

static void *job_thread_main(void *arg)
{
	struct job *job;

	pthread_setname_np(pthread_self(), "job");
	while ((job = job_next())) {
		job->fn(job);
		loop_post(job->home, &job->msg); /* job may be gone from here */
	}
	return NULL;
}

int job_threads_start(uint32_t count, struct err *reterr)
{
	ASSERT(!jobs.threads && count);
	fifo_init(&jobs.waiting);
	jobs.stopping = false;
	jobs.threads = calloc(count, sizeof(*jobs.threads));
	if (!jobs.threads)
		return err_set(reterr, -ENOMEM, "job threads: out of memory");
	for (; jobs.count < count; jobs.count++) {
		int r = loop_pthread_create(&jobs.threads[jobs.count], job_thread_main, NULL);

		if (r < 0) {
			err_set(reterr, r, "job thread %u of %u: %s", jobs.count + 1, count,
				strerror(-r));
			job_threads_stop();
			return r;
		}
	}
	return 0;
}

void job_threads_stop(void)
{
	pthread_mutex_lock(&jobs.lock);
	jobs.stopping = true;
	pthread_cond_broadcast(&jobs.wake);
	pthread_mutex_unlock(&jobs.lock);
	while (jobs.count)
		pthread_join(jobs.threads[--jobs.count], NULL);
	free(jobs.threads);
	jobs.threads = NULL;
}

static void job_come_home(struct loop_msg *msg)
{
	struct job *job = container_of(msg, struct job, msg);

	job->done(job);
}

void job_start(struct job *job)
{
	job->home = loop_current();
	job->msg.fn = job_come_home;
	ASSERT(job->home && jobs.threads);
	pthread_mutex_lock(&jobs.lock);
	ASSERT(!jobs.stopping);
	fifo_push(&jobs.waiting, &job->node);
	pthread_cond_signal(&jobs.wake);
	pthread_mutex_unlock(&jobs.lock);
}
