#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/check.h"
#include "mgmt/jobs.h"

/* What a job is told by and tells. */
struct work {
	uint64_t done_bytes;
	uint32_t cancels;
};

static uint64_t done_bytes(void *arg)
{
	return ((struct work *)arg)->done_bytes;
}

static void cancel(void *arg)
{
	((struct work *)arg)->cancels++;
}

static int try_begin(struct work *w, const char *name, const char *source, struct long_job **ret,
		     struct err *reterr)
{
	const struct jobs_params params = {
		.kind = source ? JOB_COPY : JOB_FORMAT,
		.name = name,
		.source = source,
		.total_bytes = 100,
		.done_bytes = done_bytes,
		.cancel = cancel,
		.arg = w,
	};

	return jobs_begin(&params, ret, reterr);
}

static struct long_job *begun(struct work *w, const char *name, const char *source)
{
	struct long_job *job;
	struct err err = { 0 };

	if (try_begin(w, name, source, &job, &err) < 0)
		fail_msg("%s", err.msg);
	return job;
}

static void tells(const struct long_job *job, const char *key, const char *text)
{
	json_t *o = jobs_json(job);

	assert_string_equal(json_string_value(json_object_get(o, key)), text);
	json_decref(o);
}

static json_int_t number(const struct long_job *job, const char *key)
{
	json_t *o = jobs_json(job);
	const json_int_t n = json_integer_value(json_object_get(o, key));

	json_decref(o);
	return n;
}

static int teardown(void **state)
{
	jobs_fini();
	return 0;
}

static void a_job_tells_how_far_it_is_and_what_it_came_to(void **state)
{
	struct work w = { .done_bytes = 7 }, other = { 0 };
	struct err err = { .code = -EIO, .msg = "dst: broken" };
	struct long_job *job = begun(&w, "b", "a"), *format = begun(&other, "c", NULL);

	tells(job, "state", "running");
	tells(job, "kind", "copy");
	assert_int_equal(number(job, "done_bytes"), 7);
	w.done_bytes = 50;
	assert_int_equal(number(job, "done_bytes"), 50);
	assert_true(jobs_concerns(job, "a") && jobs_concerns(job, "b"));
	assert_false(jobs_concerns(job, "c") || jobs_concerns(format, "b"));
	jobs_end(job, -EIO, &err);
	w.done_bytes = 99; /* nobody asks it any more */
	tells(job, "state", "failed");
	tells(job, "error", "dst: broken");
	assert_int_equal(number(job, "done_bytes"), 50);
	jobs_end(format, 0, &err);
	tells(format, "state", "done");
	assert_ptr_equal(jobs_find(jobs_id(format)), format);
	assert_ptr_equal(jobs_next(NULL), job);
	assert_ptr_equal(jobs_next(job), format);
	assert_null(jobs_next(format));
}

static void it_is_asked_to_end_once(void **state)
{
	struct work w = { 0 };
	struct long_job *job = begun(&w, "b", NULL);

	jobs_cancel(job);
	jobs_cancel(job);
	assert_int_equal(w.cancels, 1);
	tells(job, "state", "running"); /* until it has */
	jobs_end(job, -ECANCELED, NULL);
	tells(job, "state", "cancelled");
	jobs_cancel(job);
	assert_int_equal(w.cancels, 1);
}

static void so_many_run_and_the_last_that_ended_are_kept(void **state)
{
	struct work w = { 0 };
	struct long_job *running[JOBS_RUNNING_MAX], *job = NULL;
	struct err err = { 0 };
	uint64_t counts[JOB_KIND_COUNT], first;
	uint32_t count = 0;

	for (uint32_t i = 0; i < JOBS_RUNNING_MAX; i++)
		running[i] = begun(&w, "b", i % 2 ? "a" : NULL);
	first = jobs_id(running[0]);
	jobs_counts(counts);
	assert_int_equal(counts[JOB_COPY], JOBS_RUNNING_MAX / 2);
	assert_int_equal(counts[JOB_FORMAT], JOBS_RUNNING_MAX / 2);
	assert_int_equal(try_begin(&w, "c", NULL, &job, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "16 jobs run already"));
	for (uint32_t i = 1; i < JOBS_RUNNING_MAX; i++)
		jobs_end(running[i], 0, NULL);
	for (uint32_t i = 0; i < 2 * JOBS_ENDED_MAX; i++)
		jobs_end(begun(&w, "c", NULL), 0, NULL);
	/* the oldest of all still runs, and stays */
	assert_ptr_equal(jobs_find(first), running[0]);
	assert_null(jobs_find(first + 1));
	while ((job = jobs_next(job)) != NULL)
		count++;
	assert_int_equal(count, JOBS_ENDED_MAX + 1);
	jobs_end(running[0], 0, NULL);
}

static void on_stopped(void *arg)
{
	++*(int *)arg;
}

/* Last: nothing begins after it. */
static void the_end_cancels_all_and_waits_for_them(void **state)
{
	struct work w = { 0 };
	struct long_job *a = begun(&w, "a", NULL), *b = begun(&w, "b", NULL);
	struct err err = { 0 };
	int stopped = 0;

	jobs_stop(on_stopped, &stopped);
	assert_int_equal(w.cancels, 2);
	assert_int_equal(try_begin(&w, "c", NULL, &a, &err), -ESHUTDOWN);
	jobs_end(b, -ECANCELED, NULL);
	assert_int_equal(stopped, 0);
	jobs_end(jobs_next(NULL), 0, NULL);
	assert_int_equal(stopped, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(a_job_tells_how_far_it_is_and_what_it_came_to, teardown),
		cmocka_unit_test_teardown(it_is_asked_to_end_once, teardown),
		cmocka_unit_test_teardown(so_many_run_and_the_last_that_ended_are_kept, teardown),
		cmocka_unit_test_teardown(the_end_cancels_all_and_waits_for_them, teardown),
	};

	return cmocka_run_group_tests_name("mgmt / jobs", tests, NULL, NULL);
}
