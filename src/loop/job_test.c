#include "test_util.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/check.h"
#include "loop/job.h"

#define JOBS 500

struct test_job {
	struct job job;
	bool ran, called;
	struct loop *peer;
};

static int home_count;

static void set_true(void *arg)
{
	*(bool *)arg = true;
}

static void job_fn(struct job *job)
{
	struct test_job *t = container_of(job, struct test_job, job);

	ASSERT(!loop_current());
	if (t->peer)
		loop_call(t->peer, set_true, &t->called);
	t->ran = true;
}

static void job_done(struct job *job)
{
	struct test_job *t = container_of(job, struct test_job, job);

	assert_true(t->ran);
	assert_non_null(loop_current());
	home_count++;
}

static struct test_job test_jobs[JOBS];

static void start_all(struct loop_work *work)
{
	for (int i = 0; i < JOBS; i++)
		job_start(&test_jobs[i].job);
}

static void run_jobs(struct loop *loop, struct loop *peer, uint32_t threads)
{
	struct loop_work work = { .fn = start_all };
	struct err err;

	home_count = 0;
	for (int i = 0; i < JOBS; i++)
		test_jobs[i] = (struct test_job){
			.job = { .fn = job_fn, .done = job_done },
			.peer = peer,
		};
	assert_int_equal(job_threads_start(threads, &err), 0);
	loop_defer(loop, &work);
	test_run_until(loop, home_count == JOBS);
	job_threads_stop();
}

static void jobs_run_elsewhere_and_come_home(void **state)
{
	struct loop *loop = test_loop("home");

	run_jobs(loop, NULL, 3);
	loop_free(loop);
}

static void a_job_may_call_another_loop_and_its_own(void **state)
{
	struct loop *loop = test_loop("home"), *peer = test_loop("peer");
	struct err err;

	assert_int_equal(loop_thread_start(peer, &err), 0);
	run_jobs(loop, peer, 2);
	for (int i = 0; i < JOBS; i++)
		assert_true(test_jobs[i].called);
	run_jobs(loop, loop, 2);
	for (int i = 0; i < JOBS; i++)
		assert_true(test_jobs[i].called);
	loop_free(peer);
	loop_free(loop);
}

static void stopping_runs_what_was_started(void **state)
{
	struct loop *loop = test_loop("home");
	struct loop_work work = { .fn = start_all };
	struct err err;

	for (int i = 0; i < JOBS; i++)
		test_jobs[i] = (struct test_job){ .job = { .fn = job_fn, .done = job_done } };
	home_count = 0;
	assert_int_equal(job_threads_start(1, &err), 0);
	loop_defer(loop, &work);
	loop_run_once(loop, false);
	job_threads_stop();
	test_run_until(loop, home_count == JOBS);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jobs_run_elsewhere_and_come_home),
		cmocka_unit_test(a_job_may_call_another_loop_and_its_own),
		cmocka_unit_test(stopping_runs_what_was_started),
	};

	return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}
