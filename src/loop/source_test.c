#include "test_util.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"

/* A ring's stand-in: `work` units are there, a kick is due only while notifications are on. */
struct test_source {
	struct loop_source s;
	int work, handled, polls, arm_calls, disarms, stops;
	int work_at_arm;    /* appears just before arm looks */
	int work_after_arm; /* appears just after arm looked, with its kick */
	bool notify, stop_in_poll;
	struct test_source *victim; /* stopped in poll */
};

static void source_stopped(struct loop_source *s)
{
	struct test_source *t = container_of(s, struct test_source, s);

	assert_int_equal(s->state, SOURCE_OFF);
	t->stops++;
}

static void stop(struct test_source *t)
{
	loop_source_stop(&t->s, source_stopped);
	assert_int_equal(t->stops, 0);
}

static uint32_t source_poll(struct loop_source *s)
{
	struct test_source *t = container_of(s, struct test_source, s);
	int n = t->work > 4 ? 4 : t->work; /* the budget */

	assert_int_equal(s->state, SOURCE_ACTIVE);
	t->polls++;
	t->work -= n;
	t->handled += n;
	if (t->victim) {
		stop(t->victim);
		t->victim = NULL;
	}
	if (t->stop_in_poll)
		stop(t);
	return (uint32_t)n;
}

static bool source_arm(struct loop_source *s)
{
	struct test_source *t = container_of(s, struct test_source, s);

	t->arm_calls++;
	t->work += t->work_at_arm;
	t->work_at_arm = 0;
	t->notify = !t->work;
	if (t->work)
		return false;
	if (t->work_after_arm) {
		t->work = t->work_after_arm;
		t->work_after_arm = 0;
		eventfd_write(s->kick_fd, 1);
	}
	return true;
}

static void source_disarm(struct loop_source *s)
{
	struct test_source *t = container_of(s, struct test_source, s);

	t->notify = false;
	t->disarms++;
}

static const struct loop_source_ops test_ops = { source_poll, source_arm, source_disarm };

static void start(struct loop *loop, struct test_source *t, int efd_flags, uint32_t spin_max_ns)
{
	t->s.ops = &test_ops;
	t->s.kick_fd = eventfd(0, EFD_CLOEXEC | efd_flags);
	t->s.spin_max_ns = spin_max_ns;
	loop_source_start(loop, &t->s);
}

static void end(struct loop *loop, struct test_source *t)
{
	if (t->s.state == SOURCE_ACTIVE || t->s.state == SOURCE_ARMED)
		stop(t);
	test_run_until(loop, t->stops);
	for (int i = 0; i < 5; i++)
		loop_run_once(loop, false);
	assert_int_equal(t->stops, 1);
	if (t->s.kick_fd >= 0)
		close(t->s.kick_fd);
}

static void run_until_armed(struct loop *loop, struct test_source *t)
{
	while (t->s.state != SOURCE_ARMED)
		loop_run_once(loop, false);
	loop_run_once(loop, false); /* the poll of the kick is in the kernel */
}

static void kick_wakes(int efd_flags)
{
	struct loop *loop = test_loop("source");
	struct test_source t = { 0 };

	start(loop, &t, efd_flags, 0);
	for (int i = 1; i <= 100; i++) {
		run_until_armed(loop, &t);
		assert_true(t.notify);
		t.work = 1;
		eventfd_write(t.s.kick_fd, 1);
		test_run_until(loop, t.handled == i);
		assert_false(t.notify);
	}
	assert_int_equal(t.s.kicks, 100);
	assert_int_equal(t.s.kick_errors, 0);
	end(loop, &t);
	loop_free(loop);
}

static void a_kick_wakes_an_armed_source(void **state)
{
	kick_wakes(0);
}

static void a_kick_wakes_although_the_front_end_set_o_nonblock(void **state)
{
	kick_wakes(EFD_NONBLOCK);
}

static void work_and_kick_from_before_the_start_are_found(void **state)
{
	struct loop *loop = test_loop("source");
	struct test_source t = { .work = 9 };

	start(loop, &t, 0, 0);
	eventfd_write(t.s.kick_fd, 1);
	test_run_until(loop, t.handled == 9);
	end(loop, &t);
	loop_free(loop);
}

static void a_source_is_polled_at_least_once(void **state)
{
	struct loop *loop = test_loop("source");
	struct test_source t = { 0 };

	start(loop, &t, 0, 0);
	run_until_armed(loop, &t);
	assert_int_equal(t.polls, 1);
	assert_int_equal(t.s.kicks, 0);
	end(loop, &t);
	loop_free(loop);
}

static void work_that_appears_while_arming_is_found(void **state)
{
	struct loop *loop = test_loop("source");
	struct test_source t = { .work_at_arm = 1 };

	start(loop, &t, 0, 0);
	test_run_until(loop, t.handled == 1);
	t.work_after_arm = 1;
	test_run_until(loop, t.handled == 2);
	end(loop, &t);
	loop_free(loop);
}

static void a_stop_while_armed_calls_stopped_once(void **state)
{
	struct loop *loop = test_loop("source");
	struct test_source t = { 0 };

	start(loop, &t, 0, 0);
	run_until_armed(loop, &t);
	stop(&t);
	end(loop, &t);
	assert_int_equal(t.polls, 1);
	loop_free(loop);
}

static void started_sources_are_counted(void **state)
{
	struct loop *loop = test_loop("source");
	struct test_source t = { 0 };
	struct loop_stats stats;

	start(loop, &t, 0, 0);
	run_until_armed(loop, &t);
	loop_stats_get(loop, &stats);
	assert_int_equal(stats.sources, 1);
	assert_int_equal(stats.tid, gettid());
	assert_int_equal(stats.cpu, -1);
	stop(&t);
	end(loop, &t);
	loop_stats_get(loop, &stats);
	assert_int_equal(stats.sources, 0);
	loop_free(loop);
}

static void a_stop_racing_with_a_kick_calls_stopped_once(void **state)
{
	struct loop *loop = test_loop("source");
	struct test_source t = { 0 };

	start(loop, &t, 0, 0);
	run_until_armed(loop, &t);
	eventfd_write(t.s.kick_fd, 1);
	stop(&t);
	end(loop, &t);
	assert_int_equal(t.polls, 1);
	loop_free(loop);
}

static void a_source_may_stop_itself_and_others_in_poll(void **state)
{
	struct loop *loop = test_loop("source");
	struct test_source t[4] = { [0].victim = &t[1], [2].stop_in_poll = true };

	for (int i = 0; i < 4; i++)
		start(loop, &t[i], 0, 1000000000);
	loop_run_once(loop, false);
	/* started ones go in front: 3 2 1 0 */
	assert_int_equal(t[3].polls, 1);
	assert_int_equal(t[2].polls, 1);
	assert_int_equal(t[0].polls, 1);
	t[0].victim = &t[3];
	loop_run_once(loop, false);
	loop_run_once(loop, false);
	assert_int_equal(t[2].polls, 1);
	for (int i = 0; i < 4; i++)
		end(loop, &t[i]);
	loop_free(loop);
}

static void the_next_source_stopped_in_poll_is_not_polled(void **state)
{
	struct loop *loop = test_loop("source");
	struct test_source first = { 0 }, second = { 0 }, third = { 0 };

	start(loop, &third, 0, 1000000000);
	start(loop, &second, 0, 1000000000);
	start(loop, &first, 0, 1000000000);
	first.victim = &second;
	loop_run_once(loop, false);
	assert_int_equal(first.polls, 1);
	assert_int_equal(second.polls, 0);
	assert_int_equal(third.polls, 1);
	end(loop, &first);
	end(loop, &second);
	end(loop, &third);
	loop_free(loop);
}

static void a_flood_of_kicks_on_a_busy_source_is_one_kick(void **state)
{
	struct loop *loop = test_loop("source");
	struct test_source t = { 0 };
	struct loop_stats before, after;

	start(loop, &t, 0, 0);
	run_until_armed(loop, &t);
	t.work = 4000;
	eventfd_write(t.s.kick_fd, 1);
	test_run_until(loop, t.handled);
	loop_stats_get(loop, &before);
	while (t.work) {
		eventfd_write(t.s.kick_fd, 1);
		loop_run_once(loop, true);
	}
	loop_stats_get(loop, &after);
	assert_int_equal(t.s.kicks, 1);
	assert_in_range(after.enters - before.enters, 0, 2);
	end(loop, &t);
	loop_free(loop);
}

static void a_source_without_a_kick_is_always_polled(void **state)
{
	struct loop *loop = test_loop("source");
	struct test_source t = { .s.ops = &test_ops, .s.kick_fd = -1 };

	loop_source_start(loop, &t.s);
	for (int i = 0; i < 100; i++)
		loop_run_once(loop, true);
	assert_int_equal(t.polls, 100);
	assert_int_equal(t.arm_calls, 0);
	stop(&t);
	test_run_until(loop, t.stops);
	loop_free(loop);
}

static void a_broken_kick_is_counted_and_looked_at_now_and_then(void **state)
{
	struct loop *loop = test_loop("source");
	struct test_source t = { .s.ops = &test_ops };
	struct loop_stats stats;

	t.s.kick_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	loop_source_start(loop, &t.s);
	test_run_until(loop, t.polls == 3);
	assert_int_equal(t.s.kick_errors, 1);
	assert_int_equal(t.s.kicks, 0);
	loop_stats_get(loop, &stats);
	assert_in_range(stats.sleeps, 2, 4);
	end(loop, &t);
	loop_free(loop);
}

static void the_spin_grows_with_soon_kicks_and_shrinks_with_late_ones(void **state)
{
	struct loop *loop = test_loop("source");
	struct test_source t = { 0 };
	uint64_t kicks = 0;

	start(loop, &t, 0, 8000);
	run_until_armed(loop, &t);
	for (int i = 0; i < 8; i++) {
		t.s.quiet_since_ns -= 1000000000; /* the kick comes a second later */
		eventfd_write(t.s.kick_fd, 1);
		kicks++;
		test_run_until(loop, t.s.kicks == kicks);
		run_until_armed(loop, &t);
	}
	assert_int_equal(t.s.spin_ns, 0);
	t.s.spin_max_ns = 1000000000; /* soon, on a loaded machine as well */
	for (int i = 0; i < 5; i++) { /* the first comes long after the last work */
		t.work = 1;
		eventfd_write(t.s.kick_fd, 1);
		kicks++;
		test_run_until(loop, t.s.kicks == kicks);
		run_until_armed(loop, &t);
	}
	assert_int_equal(t.s.spin_ns, 8000);
	end(loop, &t);
	loop_free(loop);
}

static void wake_makes_an_armed_source_active_without_a_kick(void **state)
{
	struct loop *loop = test_loop("source");
	struct test_source t = { 0 };

	start(loop, &t, 0, 0);
	run_until_armed(loop, &t);
	t.work = 1;
	loop_source_wake(&t.s);
	loop_source_wake(&t.s);
	test_run_until(loop, t.handled == 1);
	assert_int_equal(t.disarms, 1);
	assert_int_equal(t.s.kicks, 0);
	end(loop, &t);
	loop_free(loop);
}

static void start_without_kick(struct loop *loop, struct test_source *t, int kick)
{
	t->s.ops = &test_ops;
	t->s.kick_fd = kick;
	loop_source_start(loop, &t->s);
}

static void a_source_without_descriptor_sleeps_until_it_is_woken(void **state)
{
	struct loop *loop = test_loop("source");
	struct test_source t = { 0 };

	start_without_kick(loop, &t, LOOP_KICK_WAKE);
	run_until_armed(loop, &t);
	t.work = 1;
	for (int i = 0; i < 5; i++)
		loop_run_once(loop, false);
	assert_int_equal(t.handled, 0);
	loop_source_wake(&t.s);
	test_run_until(loop, t.handled == 1);
	assert_int_equal(t.arm_calls, 1);
	end(loop, &t);
	loop_free(loop);
}

static void a_source_with_a_timer_finds_work_and_looks_rarely_when_idle(void **state)
{
	struct loop *loop = test_loop("source");
	struct test_source t = { 0 };
	uint64_t from_ns = loop_clock_ns();
	int looks;

	start_without_kick(loop, &t, LOOP_KICK_TIMER);
	while (loop_clock_ns() - from_ns < 100000000)
		loop_run_once(loop, true);
	looks = t.arm_calls;
	/* 32 us, then 1/16 of the idle time: some 60 looks in 32 ms, then one in two milliseconds
	 */
	assert_in_range(looks, 20, 200);
	assert_int_equal(t.handled, 0);
	t.work = 3;
	from_ns = loop_clock_ns();
	test_run_until(loop, t.handled == 3);
	end(loop, &t);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_kick_wakes_an_armed_source),
		cmocka_unit_test(a_kick_wakes_although_the_front_end_set_o_nonblock),
		cmocka_unit_test(work_and_kick_from_before_the_start_are_found),
		cmocka_unit_test(a_source_is_polled_at_least_once),
		cmocka_unit_test(work_that_appears_while_arming_is_found),
		cmocka_unit_test(a_stop_while_armed_calls_stopped_once),
		cmocka_unit_test(started_sources_are_counted),
		cmocka_unit_test(a_stop_racing_with_a_kick_calls_stopped_once),
		cmocka_unit_test(a_source_may_stop_itself_and_others_in_poll),
		cmocka_unit_test(the_next_source_stopped_in_poll_is_not_polled),
		cmocka_unit_test(a_flood_of_kicks_on_a_busy_source_is_one_kick),
		cmocka_unit_test(a_source_without_a_kick_is_always_polled),
		cmocka_unit_test(a_broken_kick_is_counted_and_looked_at_now_and_then),
		cmocka_unit_test(the_spin_grows_with_soon_kicks_and_shrinks_with_late_ones),
		cmocka_unit_test(wake_makes_an_armed_source_active_without_a_kick),
		cmocka_unit_test(a_source_without_descriptor_sleeps_until_it_is_woken),
		cmocka_unit_test(a_source_with_a_timer_finds_work_and_looks_rarely_when_idle),
	};

	return cmocka_run_group_tests_name("source", tests, NULL, NULL);
}
