#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/capture_test.h"
#include "base/trace.h"

static const char *dumped(char *text, size_t size)
{
	struct capture c;

	capture_begin(&c);
	trace_dump(STDERR_FILENO);
	capture_end(&c, text, size);
	return text;
}

static void what_was_recorded_is_dumped_oldest_first_until_it_is_cleared(void **state)
{
	char text[4096];

	trace_put(TRACE_MSG_IN, 0xab, 1);
	trace_put(TRACE_VRING_STATE, 2, 0);
	dumped(text, sizeof(text));
	assert_non_null(strstr(text, " MSG_IN ab 1\n"));
	assert_non_null(strstr(strstr(text, "MSG_IN"), " VRING_STATE 2 0\n"));
	trace_clear();
	assert_string_equal(dumped(text, sizeof(text)), "");
	trace_put(TRACE_MSG_IN, 0xcd, 1);
	assert_non_null(strstr(dumped(text, sizeof(text)), " MSG_IN cd 1\n"));
	trace_clear();
}

static void events_that_are_turned_off_are_not_recorded(void **state)
{
	const uint64_t all = trace_mask();
	char text[4096];

	trace_mask_set(all & ~(1ull << TRACE_MSG_IN));
	trace_put(TRACE_MSG_IN, 1, 1);
	trace_put(TRACE_LOOP_WAKE, 1, 1);
	trace_mask_set(all);
	dumped(text, sizeof(text));
	assert_null(strstr(text, "MSG_IN"));
	assert_non_null(strstr(text, "LOOP_WAKE"));
	trace_clear();
}

static void each_event_is_of_one_group(void **state)
{
	uint64_t seen = 0;

	for (int g = 0; g < TRACE_GROUP_COUNT; g++) {
		const uint64_t events = trace_group_events((enum trace_group)g);

		assert_int_not_equal(events, 0);
		assert_int_equal(seen & events, 0);
		assert_true(strlen(trace_group_name((enum trace_group)g)) > 0);
		seen |= events;
	}
	assert_int_equal(seen, (1ull << TRACE_EVENT_COUNT) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_recorded_is_dumped_oldest_first_until_it_is_cleared),
		cmocka_unit_test(events_that_are_turned_off_are_not_recorded),
		cmocka_unit_test(each_event_is_of_one_group),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
