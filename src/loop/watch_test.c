#include "test_util.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"

struct test_watch {
	struct loop_watch watch;
	int fd, calls, stops, stop_at, pause_at;
	uint32_t revents;
	bool drain;
};

static void watch_stopped(struct loop_watch *w)
{
	container_of(w, struct test_watch, watch)->stops++;
}

static void watch_fn(struct loop_watch *w, uint32_t revents)
{
	struct test_watch *t = container_of(w, struct test_watch, watch);
	uint64_t value;

	t->calls++;
	t->revents = revents;
	if (t->drain)
		assert_int_equal(read(t->fd, &value, sizeof(value)), sizeof(value));
	if (t->calls == t->pause_at)
		loop_watch_pause(w);
	if (t->calls == t->stop_at) {
		loop_watch_stop(w, watch_stopped);
		assert_int_equal(t->stops, 0);
	}
}

static void set_up(struct loop *loop, struct test_watch *t, uint64_t count)
{
	t->fd = eventfd((unsigned int)count, EFD_CLOEXEC);
	loop_watch_start(loop, &t->watch, t->fd, POLLIN, watch_fn);
}

static void tear_down(struct loop *loop, struct test_watch *t)
{
	if (!t->watch.stopping)
		loop_watch_stop(&t->watch, watch_stopped);
	test_run_until(loop, t->stops);
	for (int i = 0; i < 5; i++)
		loop_run_once(loop, false);
	assert_int_equal(t->stops, 1);
	close(t->fd);
	loop_free(loop);
}

static void what_is_not_read_is_called_again(void **state)
{
	struct loop *loop = test_loop("watch");
	struct test_watch t = { 0 };

	set_up(loop, &t, 1);
	test_run_until(loop, t.calls == 5);
	assert_int_equal(t.revents, POLLIN);
	tear_down(loop, &t);
}

static void what_was_read_is_not_called_again(void **state)
{
	struct loop *loop = test_loop("watch");
	struct test_watch t = { .drain = true };

	set_up(loop, &t, 1);
	test_run_until(loop, t.calls == 1);
	for (int i = 0; i < 10; i++)
		loop_run_once(loop, false);
	assert_int_equal(t.calls, 1);
	assert_int_equal(eventfd_write(t.fd, 1), 0);
	test_run_until(loop, t.calls == 2);
	tear_down(loop, &t);
}

static void stop_while_waiting_calls_stopped_once(void **state)
{
	struct loop *loop = test_loop("watch");
	struct test_watch t = { 0 };

	set_up(loop, &t, 0);
	loop_run_once(loop, false);
	loop_watch_stop(&t.watch, watch_stopped);
	assert_int_equal(t.stops, 0);
	tear_down(loop, &t);
	assert_int_equal(t.calls, 0);
}

static void stop_from_within_the_callback_ends_the_calls(void **state)
{
	struct loop *loop = test_loop("watch");
	struct test_watch t = { .stop_at = 2 };

	set_up(loop, &t, 1);
	test_run_until(loop, t.stops);
	tear_down(loop, &t);
	assert_int_equal(t.calls, 2);
}

static void stop_racing_with_readiness_calls_stopped_once_and_nothing_else(void **state)
{
	struct loop *loop = test_loop("watch");
	struct test_watch t = { 0 };

	set_up(loop, &t, 0);
	loop_run_once(loop, false);
	assert_int_equal(eventfd_write(t.fd, 1), 0);
	loop_watch_stop(&t.watch, watch_stopped);
	tear_down(loop, &t);
	assert_int_equal(t.calls, 0);
}

static void a_paused_watch_is_silent_until_resumed(void **state)
{
	struct loop *loop = test_loop("watch");
	struct test_watch t = { .pause_at = 1 };

	set_up(loop, &t, 1);
	test_run_until(loop, t.calls == 1);
	for (int i = 0; i < 10; i++)
		loop_run_once(loop, false);
	assert_int_equal(t.calls, 1);
	loop_watch_resume(&t.watch);
	test_run_until(loop, t.calls == 2);
	loop_watch_pause(&t.watch);
	for (int i = 0; i < 10; i++)
		loop_run_once(loop, false);
	assert_int_equal(t.calls, 2);
	tear_down(loop, &t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_read_is_called_again),
		cmocka_unit_test(what_was_read_is_not_called_again),
		cmocka_unit_test(stop_while_waiting_calls_stopped_once),
		cmocka_unit_test(stop_from_within_the_callback_ends_the_calls),
		cmocka_unit_test(stop_racing_with_readiness_calls_stopped_once_and_nothing_else),
		cmocka_unit_test(a_paused_watch_is_silent_until_resumed),
	};

	return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
