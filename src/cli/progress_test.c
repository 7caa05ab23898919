#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/check.h"
#include "cli/progress.h"
#include "cli/table.h"

#define MIB (1ull << 20)

static json_t *job(const char *name, const char *source, uint64_t done, uint64_t total)
{
	json_t *o = json_pack("{s:i, s:s, s:s, s:s, s:I, s:I, s:I}", "id", 1, "kind", "copy",
			      "name", name, "state", "running", "done_bytes", (json_int_t)done,
			      "total_bytes", (json_int_t)total, "elapsed_ms", (json_int_t)1000);

	if (source)
		json_object_set_new(o, "source", json_string(source));
	return o;
}

static void shows(uint32_t width, const char *name, const char *source, uint64_t done,
		  uint64_t total, double rate, const char *text)
{
	json_t *j = job(name, source, done, total);
	char buf[PROGRESS_TEXT_MAX];

	progress_text(j, rate, width, buf);
	assert_string_equal(buf, text);
	json_decref(j);
}

static void a_line_tells_percentage_rate_and_time_left(void **state)
{
	shows(0, "b", "a", 25 * MIB, 100 * MIB, 5.0 * MIB,
	      "copy a to b   25 %  25 MiB of 100 MiB  5.00 MiB/s  15 s left");
	shows(0, "b", NULL, 0, 100 * MIB, 0, "copy b    0 %  0 B of 100 MiB");
	shows(0, "b", NULL, 100 * MIB, 100 * MIB, 5.0 * MIB,
	      "copy b  100 %  100 MiB of 100 MiB  5.00 MiB/s");
	shows(0, "b", NULL, 0, 0, 0, "copy b    0 %  0 B of 0 B");
}

static void a_bar_fills_what_the_line_leaves(void **state)
{
	shows(90, "b", "a", 25 * MIB, 100 * MIB, 5.0 * MIB,
	      "copy a to b  [======>                  ]   25 %  25 MiB of 100 MiB  5.00 MiB/s  15 "
	      "s "
	      "left");
	shows(80, "b", NULL, 100 * MIB, 100 * MIB, 0,
	      "copy b  [========================================]  100 %  100 MiB of 100 MiB");
	shows(64, "b", "a", 25 * MIB, 100 * MIB, 5.0 * MIB,
	      "copy a to b   25 %  25 MiB of 100 MiB  5.00 MiB/s  15 s left");
}

static void no_line_is_wider_than_the_terminal(void **state)
{
	char name[256];

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	for (uint32_t width = 1; width < 300; width++) {
		json_t *j = job(name, name, 3 * MIB, 100 * MIB);
		char buf[PROGRESS_TEXT_MAX];

		progress_text(j, 123456789, width, buf);
		assert_true(table_width(buf) < width || width < 8);
		json_decref(j);
	}
}

static void names_cannot_talk_to_the_terminal(void **state)
{
	shows(0, "b\033[2J", NULL, 0, MIB, 0, "copy b?[2J    0 %  0 B of 1 MiB");
}

static void the_rate_is_that_of_the_last_seconds(void **state)
{
	struct progress p = { .out = stderr };

	assert_true(progress_rate(&p, 0, 0) == 0);
	assert_true(progress_rate(&p, 1000, 10 * MIB) == 10.0 * MIB);
	/* it gets slower: what was long ago does not count any more */
	for (uint64_t s = 2; s <= 40; s++)
		progress_rate(&p, s * 1000, 10 * MIB + (s - 1) * MIB);
	assert_true(progress_rate(&p, 41000, 50 * MIB) == 1.0 * MIB);
	/* a clock that stands still, bytes that go back */
	assert_true(progress_rate(&p, 25000, 0) == 0);
}

static void times_are_short(void **state)
{
	static const struct {
		double seconds;
		const char *text;
	} cases[] = {
		{ 0, "0 s" },
		{ 59.4, "59 s" },
		{ 60, "1 min 00 s" },
		{ 200, "3 min 20 s" },
		{ 3600, "1 h 00 min" },
		{ 7500, "2 h 05 min" },
		{ 99 * 3600.0, "99 h 00 min" },
		{ 1e12, "-" },
	};
	char buf[32];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(progress_time(cases[i].seconds, buf, sizeof(buf)),
				    cases[i].text);
}

/* Not a terminal: a line now and then, and none for work that was short. */
static void lines_are_seconds_apart(void **state)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	struct progress p = { .out = out };
	int lines = 0;

	for (uint64_t ms = 0; ms < 30000; ms += 250) {
		json_t *j = job("b", NULL, ms, 30000);

		json_object_set_new(j, "elapsed_ms", json_integer((json_int_t)ms));
		progress_tell(&p, j);
		json_decref(j);
	}
	progress_end(&p);
	fclose(out);
	for (const char *c = text; *c; c++)
		lines += *c == '\n';
	assert_int_equal(lines, 5);
	assert_null(strchr(text, '\r'));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_tells_percentage_rate_and_time_left),
		cmocka_unit_test(a_bar_fills_what_the_line_leaves),
		cmocka_unit_test(no_line_is_wider_than_the_terminal),
		cmocka_unit_test(names_cannot_talk_to_the_terminal),
		cmocka_unit_test(the_rate_is_that_of_the_last_seconds),
		cmocka_unit_test(times_are_short),
		cmocka_unit_test(lines_are_seconds_apart),
	};

	return cmocka_run_group_tests_name("cli / progress", tests, NULL, NULL);
}
