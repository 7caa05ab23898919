#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/capture_test.h"
#include "base/log.h"

static void limit_passes_the_burst_then_counts_and_tells_the_count(void **state)
{
	struct log_limit l = { .burst = 3, .interval_ns = UINT64_MAX };
	struct capture c;
	char text[4096];

	capture_begin(&c);
	for (int i = 0; i < 7; i++)
		log_limited(&l, LOG_ERROR, "line %d", i);
	assert_int_equal(l.suppressed, 4);
	capture_end(&c, text, sizeof(text));
	assert_string_equal(text, "vhostd: line 0\nvhostd: line 1\nvhostd: line 2\n");
	l.interval_ns = 0; /* the next line opens a new window */
	capture_begin(&c);
	log_limited(&l, LOG_ERROR, "line 7");
	log_limited(&l, LOG_ERROR, "line 8");
	capture_end(&c, text, sizeof(text));
	assert_string_equal(text, "vhostd: 4 similar lines suppressed\nvhostd: line 7\n"
				  "vhostd: line 8\n");
	assert_int_equal(l.suppressed, 0);
}

static void lines_above_the_level_are_not_written(void **state)
{
	enum log_level level;
	struct capture c;
	char text[256];

	capture_begin(&c);
	log_info("quiet");
	assert_true(log_level_parse("info", &level));
	log_set_level(level);
	log_info("loud");
	log_debug("quiet");
	log_set_level(LOG_NOTICE);
	capture_end(&c, text, sizeof(text));
	assert_string_equal(text, "vhostd: loud\n");
	assert_false(log_level_parse("shout", &level));
	assert_int_equal(level, LOG_INFO);
}

static void time_stamps_stand_in_front_when_asked_for(void **state)
{
	struct capture c;
	char text[256];

	assert_int_equal(log_get_level(), LOG_NOTICE);
	assert_string_equal(log_level_name(LOG_NOTICE), "notice");
	capture_begin(&c);
	log_set_timestamps(true);
	log_notice("now");
	log_set_timestamps(false);
	capture_end(&c, text, sizeof(text));
	assert_int_equal(strlen(text), strlen("[2026-01-01 00:00:00.000000] vhostd: now\n"));
	assert_int_equal(text[0], '[');
	assert_string_equal(text + 27, "] vhostd: now\n");
}

static void control_characters_of_a_peer_cannot_forge_a_line(void **state)
{
	struct capture c;
	char text[256];

	capture_begin(&c);
	log_error("got '%s'", "a\nvhostd: b\x1b[2J\x7f\t");
	capture_end(&c, text, sizeof(text));
	assert_string_equal(text, "vhostd: got 'a?vhostd: b?[2J?\?'\n");
}

static void a_line_that_is_too_long_is_cut_and_still_ends(void **state)
{
	char wide[3000], text[4096];
	struct capture c;

	memset(wide, 'x', sizeof(wide) - 1);
	wide[sizeof(wide) - 1] = '\0';
	capture_begin(&c);
	log_error("%s", wide);
	capture_end(&c, text, sizeof(text));
	assert_in_range(strlen(text), 1000, 1024);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void the_journal_gets_the_level_as_a_prefix(void **state)
{
	struct capture c;
	char text[256];

	setenv("JOURNAL_STREAM", "1:2", 1);
	capture_begin(&c);
	log_error("bad");
	log_warning("odd");
	capture_end(&c, text, sizeof(text));
	unsetenv("JOURNAL_STREAM");
	assert_string_equal(text, "<3>vhostd: bad\n<4>vhostd: odd\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limit_passes_the_burst_then_counts_and_tells_the_count),
		cmocka_unit_test(lines_above_the_level_are_not_written),
		cmocka_unit_test(time_stamps_stand_in_front_when_asked_for),
		cmocka_unit_test(control_characters_of_a_peer_cannot_forge_a_line),
		cmocka_unit_test(a_line_that_is_too_long_is_cut_and_still_ends),
		cmocka_unit_test(the_journal_gets_the_level_as_a_prefix),
	};

	unsetenv("JOURNAL_STREAM");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
