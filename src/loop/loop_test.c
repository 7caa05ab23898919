#include "test_util.h"

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

/* ---- timers ---- */

struct test_timer {
	struct loop_timer timer;
	int id;
};

static int fired[8], fired_count;

static void timer_fn(struct loop_timer *t)
{
	fired[fired_count++] = container_of(t, struct test_timer, timer)->id;
}

static void timers_fire_in_order_of_their_time(void **state)
{
	struct loop *loop = test_loop("timers");
	uint64_t now = loop_clock_ns();
	struct test_timer t[4];
	const uint64_t due[4] = { 3000000, 1000000, 2000000, 0 };

	fired_count = 0;
	for (int i = 0; i < 4; i++) {
		t[i].id = i;
		loop_timer_init(&t[i].timer, timer_fn);
		loop_timer_start(loop, &t[i].timer, now + due[i]);
	}
	test_run_until(loop, fired_count == 4);
	assert_true(loop_now_ns(loop) >= now + 3000000);
	assert_int_equal(fired[0], 3);
	assert_int_equal(fired[1], 1);
	assert_int_equal(fired[2], 2);
	assert_int_equal(fired[3], 0);
	loop_free(loop);
}

static void a_stopped_timer_does_not_fire_and_a_restarted_one_fires_once(void **state)
{
	struct loop *loop = test_loop("timers");
	uint64_t now = loop_clock_ns();
	struct test_timer t[3];

	fired_count = 0;
	for (int i = 0; i < 3; i++) {
		t[i].id = i;
		loop_timer_init(&t[i].timer, timer_fn);
		loop_timer_start(loop, &t[i].timer, now);
	}
	loop_timer_stop(&t[0].timer);
	loop_timer_stop(&t[0].timer);
	loop_timer_start(loop, &t[1].timer, now + 2000000);
	test_run_until(loop, fired_count == 2);
	assert_int_equal(fired[0], 2);
	assert_int_equal(fired[1], 1);
	loop_free(loop);
}

static void time_never_goes_back_and_stays_near_the_clock(void **state)
{
	struct loop *loop = test_loop("clock");
	uint64_t last = 0, start = loop_clock_ns(), before;

	while (last < start + 30000000) { /* longer than the span of one calibration */
		uint64_t now;

		before = loop_clock_ns();
		loop_run_once(loop, false);
		now = loop_now_ns(loop);
		assert_true(now >= last);
		assert_true(now + 1000000 > before);
		assert_true(now < loop_clock_ns() + 1000000);
		last = now;
	}
	loop_free(loop);
}

/* ---- messages ---- */

#define POSTERS	 4
#define MESSAGES 20000

struct test_msg {
	struct loop_msg msg;
	int poster, seq;
};

static struct test_msg messages[POSTERS][MESSAGES];
static struct loop *mail_loop;
static int next_seq[POSTERS], received;

static void msg_fn(struct loop_msg *msg)
{
	struct test_msg *m = container_of(msg, struct test_msg, msg);

	assert_true(loop_current() == mail_loop);
	assert_int_equal(m->seq, next_seq[m->poster]++);
	received++;
}

static void *poster_main(void *arg)
{
	struct test_msg *m = arg;

	for (int i = 0; i < MESSAGES; i++)
		loop_post(mail_loop, &m[i].msg);
	return NULL;
}

static void messages_of_four_threads_arrive_in_order_and_none_is_lost(void **state)
{
	pthread_t threads[POSTERS];

	mail_loop = test_loop("mail");
	received = 0;
	for (int p = 0; p < POSTERS; p++) {
		next_seq[p] = 0;
		for (int i = 0; i < MESSAGES; i++)
			messages[p][i] = (struct test_msg){ { .fn = msg_fn }, p, i };
		pthread_create(&threads[p], NULL, poster_main, messages[p]);
	}
	test_run_until(mail_loop, received == POSTERS * MESSAGES);
	for (int p = 0; p < POSTERS; p++)
		pthread_join(threads[p], NULL);
	loop_free(mail_loop);
}

static void count_up(void *arg)
{
	++*(int *)arg;
}

static void loop_call_returns_after_it_ran_on_the_loops_thread(void **state)
{
	struct loop *loop = test_loop("called");
	struct err err;
	int count = 0;

	assert_int_equal(loop_thread_start(loop, &err), 0);
	for (int i = 0; i < 2000; i++) {
		loop_call(loop, count_up, &count);
		assert_int_equal(count, i + 1);
	}
	loop_free(loop);
}

static void a_thread_that_cannot_be_pinned_is_a_named_error(void **state)
{
	struct loop_params params = { .name = "pinned", .cpu = 1000000 };
	struct loop *loop;
	struct err err;

	loop_free(test_loop("probe"));
	assert_int_equal(loop_new(&params, &loop, &err), 0);
	assert_true(loop_thread_start(loop, &err) < 0);
	assert_non_null(strstr(err.msg, "pinning"));
	loop_free(loop);
}

/* ---- deferred work ---- */

static int worked;

static void work_fn(struct loop_work *work)
{
	if (++worked < 3)
		loop_defer(loop_current(), work);
}

static void deferred_work_runs_later_and_twice_an_iteration_at_most(void **state)
{
	struct loop *loop = test_loop("defer");
	struct loop_work work = { .fn = work_fn };

	worked = 0;
	loop_defer(loop, &work);
	assert_int_equal(worked, 0);
	loop_run_once(loop, true);
	assert_int_equal(worked, 2);
	loop_run_once(loop, true);
	assert_int_equal(worked, 3);
	loop_free(loop);
}

/* ---- operations ---- */

struct test_op {
	struct loop_op op;
	int done, res;
};

static int ops_done;

static void op_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct test_op *t = container_of(op, struct test_op, op);

	t->done++;
	t->res = res;
	ops_done++;
}

static void more_operations_than_the_queues_hold_all_complete_once(void **state)
{
	enum {
		COUNT = 5000
	}; /* over 64 submission and 512 completion entries */
	static struct test_op ops[COUNT];
	struct loop *loop = test_loop("ops");

	ops_done = 0;
	for (int i = 0; i < COUNT; i++) {
		struct io_uring_sqe *sqe = loop_sqe(loop);

		ops[i] = (struct test_op){ .op.done = op_done };
		io_uring_prep_nop(sqe);
		loop_sqe_set_op(sqe, &ops[i].op);
	}
	test_run_until(loop, ops_done == COUNT);
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(ops[i].done, 1);
	loop_free(loop);
}

static void a_cancelled_operation_completes_once(void **state)
{
	struct loop *loop = test_loop("cancel");
	struct test_op op = { .op.done = op_done };
	struct io_uring_sqe *sqe = loop_sqe(loop);
	int fd = eventfd(0, EFD_CLOEXEC);
	uint64_t value;

	ops_done = 0;
	io_uring_prep_read(sqe, fd, &value, sizeof(value), 0);
	loop_sqe_set_op(sqe, &op.op);
	loop_run_once(loop, false);
	loop_op_cancel(loop, &op.op);
	test_run_until(loop, op.done);
	assert_int_equal(op.res, -ECANCELED);
	close(fd);
	loop_free(loop);
}

static void files_and_buffers_register_until_the_table_is_full(void **state)
{
	struct loop *loop = test_loop("tables");
	int fd = eventfd(1, EFD_CLOEXEC), slot = loop_file_register(loop, fd), count = 1, r;
	static uint64_t page[512];
	struct test_op op = { .op.done = op_done };
	struct io_uring_sqe *sqe = loop_sqe(loop);

	assert_true(slot >= 0);
	r = loop_buf_register(loop, page, sizeof(page));
	assert_true(r >= 0);
	io_uring_prep_read_fixed(sqe, slot, page, 8, 0, r);
	sqe->flags |= IOSQE_FIXED_FILE;
	loop_sqe_set_op(sqe, &op.op);
	test_run_until(loop, op.done);
	assert_int_equal(op.res, 8);
	assert_int_equal(page[0], 1);
	assert_int_equal(loop_buf_register(loop, page, sizeof(page)), r); /* shared */
	loop_buf_unregister(loop, r);
	loop_buf_unregister(loop, r);
	while ((r = loop_file_register(loop, fd)) >= 0)
		count++;
	assert_int_equal(r, -ENOSPC);
	loop_file_unregister(loop, slot);
	assert_int_equal(loop_file_register(loop, fd), slot);
	assert_true(count > 100);
	close(fd);
	loop_free(loop);
}

/* ---- sleeping ---- */

static uint64_t thread_cpu_ns(struct timespec *ts)
{
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, ts);
	return (uint64_t)ts->tv_sec * 1000000000ull + (uint64_t)ts->tv_nsec;
}

static void an_idle_loop_sleeps_once_and_uses_no_cpu(void **state)
{
	struct loop *loop = test_loop("idle");
	struct test_timer t = { .id = 0 };
	struct loop_stats before, after;
	struct timespec ts;
	uint64_t cpu_ns;

	loop_run_once(loop, false);
	fired_count = 0;
	loop_timer_init(&t.timer, timer_fn);
	loop_timer_start(loop, &t.timer, loop_clock_ns() + 200000000);
	loop_stats_get(loop, &before);
	cpu_ns = thread_cpu_ns(&ts);
	test_run_until(loop, fired_count);
	cpu_ns = thread_cpu_ns(&ts) - cpu_ns;
	loop_stats_get(loop, &after);
	/* a clock that is late by less than a tick may make it look twice */
	assert_in_range(after.sleeps - before.sleeps, 1, 2);
	assert_in_range(after.enters - before.enters, 1, 3);
	assert_true(after.idle_ns - before.idle_ns > 190000000);
	assert_true(cpu_ns < 2000000); /* 1 % */
	loop_free(loop);
}

static void *quit_main(void *arg)
{
	loop_quit(arg);
	return NULL;
}

static void quit_from_another_thread_ends_a_sleeping_loop(void **state)
{
	for (int i = 0; i < 200; i++) {
		struct loop *loop = test_loop("quit");
		pthread_t thread;

		pthread_create(&thread, NULL, quit_main, loop);
		loop_run(loop);
		pthread_join(thread, NULL);
		assert_null(loop_current());
		loop_free(loop);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timers_fire_in_order_of_their_time),
		cmocka_unit_test(a_stopped_timer_does_not_fire_and_a_restarted_one_fires_once),
		cmocka_unit_test(time_never_goes_back_and_stays_near_the_clock),
		cmocka_unit_test(messages_of_four_threads_arrive_in_order_and_none_is_lost),
		cmocka_unit_test(loop_call_returns_after_it_ran_on_the_loops_thread),
		cmocka_unit_test(a_thread_that_cannot_be_pinned_is_a_named_error),
		cmocka_unit_test(deferred_work_runs_later_and_twice_an_iteration_at_most),
		cmocka_unit_test(more_operations_than_the_queues_hold_all_complete_once),
		cmocka_unit_test(a_cancelled_operation_completes_once),
		cmocka_unit_test(files_and_buffers_register_until_the_table_is_full),
		cmocka_unit_test(an_idle_loop_sleeps_once_and_uses_no_cpu),
		cmocka_unit_test(quit_from_another_thread_ends_a_sleeping_loop),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
