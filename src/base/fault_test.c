#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/capture_test.h"
#include "base/fault.h"

/* Arms from text; what stderr got is in ret_told. */
static void arm(const char *text, char *ret_told, size_t size)
{
	struct capture c;

	setenv("VHOSTD_FAULT", text, 1);
	capture_begin(&c);
	fault_init_from_env();
	capture_end(&c, ret_told, size);
	unsetenv("VHOSTD_FAULT");
}

static void skip_without_fault_points(void)
{
#if !VHOSTD_DEBUG
	print_message("a release build has no fault points\n");
	skip();
#endif
}

static void malformed_settings_are_told_once_and_arm_nothing(void **state)
{
	static const char *const bad[] = {
		"",	   ":1",	 "=5",	       "point:",      "point:0",
		"point:x", "point:1x",	 "point=",     "point=x",     "point=-5",
		"point=0", "point=5000", "point=10ms", "point=kill ", "point:1:2",
	};
	char told[512], want[512];

	skip_without_fault_points();
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		arm(bad[i], told, sizeof(told));
		snprintf(want, sizeof(want),
			 "vhostd: VHOSTD_FAULT: expected name[:nth][=errno|kill|<n>us], got '%s'\n",
			 bad[i]);
		assert_string_equal(told, want);
		assert_int_equal(FAULT("point"), 0);
	}
}

static void the_nth_hit_of_the_named_point_fails(void **state)
{
	char told[512];

	skip_without_fault_points();
	arm("point:2=28", told, sizeof(told));
	assert_string_equal(told, "");
	assert_int_equal(FAULT("other"), 0);
	assert_int_equal(FAULT("point"), 0);
	assert_int_equal(FAULT("point"), -ENOSPC);
	assert_int_equal(FAULT("point"), 0);
	arm("point", told, sizeof(told));
	assert_int_equal(FAULT("point"), -EIO);
	assert_int_equal(FAULT("point"), -EIO);
	arm("point=1us", told, sizeof(told));
	assert_string_equal(told, "");
	assert_int_equal(FAULT("point"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(malformed_settings_are_told_once_and_arm_nothing),
		cmocka_unit_test(the_nth_hit_of_the_named_point_fails),
	};

	unsetenv("JOURNAL_STREAM");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
