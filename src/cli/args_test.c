#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <limits.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/args.h"

static const char *const levels[] = { "ERROR", "NOTICE", NULL };

static const struct arg rows[] = {
	{ "NAME", ARG_STR, .help = "its name", .param = "ctrlr", .call = 1 },
	{ "[SIZE]", ARG_SIZE, .help = "its size", .param = "new_size" },
	{ "--file", ARG_PATH, .help = "a file", .param = "filename" },
	{ "--read-only", ARG_FLAG, .help = "refuse writes", .param = "readonly", .call = 1 },
	{ "--level", ARG_ENUM, .help = "a level", .names = levels },
	{ "--count", ARG_U64, .help = "a count", .letter = 'n' },
	{ "--wait", ARG_MSEC, .help = "a time" },
	{ "--json-value", ARG_JSON, .help = "JSON" },
	{ "--set", ARG_KEY, .help = "others", .call = 1 },
	{ NULL },
};

static const struct arg more[] = {
	{ "--json", ARG_FLAG, .help = "for programs" },
	{ NULL },
};

/* words end with NULL. *ret_values: as JSON text, keys in order. */
static int parse(const char *const *words, char *ret_values, size_t size, struct err *reterr)
{
	struct args args = { rows, more, json_object(), json_object() };
	int count = 0, rc;
	char *text;

	while (words[count])
		count++;
	rc = args_parse(&args, count, (char *const *)words, reterr);
	text = json_dumps(args.values, JSON_SORT_KEYS | JSON_COMPACT);
	snprintf(ret_values, size, "%s%s", text, json_object_size(args.more_values) ? "+" : "");
	free(text);
	json_decref(args.values);
	json_decref(args.more_values);
	return rc;
}

static void expect(const char *const *words, const char *values)
{
	struct err e = { 0 };
	char got[512];

	if (parse(words, got, sizeof(got), &e))
		fail_msg("%s", e.msg);
	assert_string_equal(got, values);
}

static void refuse(const char *const *words, const char *text)
{
	struct err e = { 0 };
	char got[512];

	assert_int_equal(parse(words, got, sizeof(got), &e), -EINVAL);
	assert_string_equal(e.msg, text);
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void options_stand_anywhere(void **state)
{
	expect(WORDS("vm1", "--file", "/a", "8M"),
	       "{\"file\":\"/a\",\"name\":\"vm1\",\"size\":8388608}");
	expect(WORDS("--file=/a", "-n", "3", "vm1"),
	       "{\"count\":3,\"file\":\"/a\",\"name\":\"vm1\"}");
	expect(WORDS("vm1", "-n3"), "{\"count\":3,\"name\":\"vm1\"}");
	expect(WORDS("vm1", "--read-only", "--json"), "{\"name\":\"vm1\",\"read-only\":true}+");
	expect(WORDS("--", "--file"), "{\"name\":\"--file\"}");
	expect(WORDS("-"), "{\"name\":\"-\"}");
}

static void values_have_the_types_of_their_rows(void **state)
{
	expect(WORDS("v", "--level", "notice"), "{\"level\":\"NOTICE\",\"name\":\"v\"}");
	expect(WORDS("v", "--wait", "500ms"), "{\"name\":\"v\",\"wait\":500}");
	expect(WORDS("v", "--wait", "1.5"), "{\"name\":\"v\",\"wait\":1500}");
	expect(WORDS("v", "--wait", "2m"), "{\"name\":\"v\",\"wait\":120000}");
	expect(WORDS("v", "--json-value", "[1]"), "{\"json-value\":[1],\"name\":\"v\"}");
	expect(WORDS("v", "--set", "a=1", "--set", "b=x", "--set", "c=\"1\""),
	       "{\"name\":\"v\",\"set\":{\"a\":1,\"b\":\"x\",\"c\":\"1\"}}");
}

static void a_wrong_value_is_named_with_what_was_expected(void **state)
{
	refuse(WORDS("v", "8X"), "[SIZE]: expected a size: a number and K, M, G, T or P, got '8X'");
	refuse(WORDS("v", "--count", "-1"),
	       "--count: expected a number, 0..9223372036854775807, got '-1'");
	refuse(WORDS("v", "--count", "9223372036854775808"),
	       "--count: expected a number, 0..9223372036854775807, got '9223372036854775808'");
	refuse(WORDS("v", "--level", "loud"), "--level: expected ERROR, NOTICE, got 'loud'");
	refuse(WORDS("v", "--wait", "5x"),
	       "--wait: expected a time: 500ms, 5s, 2m, at most 11 days, got '5x'");
	refuse(WORDS("v", "--set", "=1"), "--set: expected KEY=VALUE, got '=1'");
	refuse(WORDS("v", "--json-value", "{"), "--json-value: expected JSON, got '{'");
	refuse(WORDS("\xff"), "NAME: expected a text of UTF-8, got '\xff'");
	refuse(WORDS("v", "--file", ""), "--file: expected a path of UTF-8, got ''");
}

static void what_is_missing_or_too_much_is_named(void **state)
{
	refuse(WORDS("--read-only"), "NAME: must be given: its name");
	refuse(WORDS("v", "1M", "x"), "one argument too many: 'x'");
	refuse(WORDS("v", "--colour=red"), "unknown option --colour");
	refuse(WORDS("v", "-x"), "unknown option -x");
	refuse(WORDS("v", "--file"), "--file: expected a path of UTF-8 behind it");
	refuse(WORDS("v", "--read-only=1"), "--read-only: takes no value, got '1'");
	refuse(WORDS("v", "--file=a", "--file=b"), "--file: given twice");
}

static void a_path_becomes_absolute(void **state)
{
	struct args args = { rows, NULL, json_object(), NULL };
	char cwd[PATH_MAX], want[PATH_MAX + 16];

	assert_non_null(getcwd(cwd, sizeof(cwd)));
	snprintf(want, sizeof(want), "%s/disk.img", cwd);
	assert_int_equal(args_parse(&args, 3, (char *[]){ "v", "--file", "disk.img" }, NULL), 0);
	assert_string_equal(json_string_value(json_object_get(args.values, "file")), want);
	json_decref(args.values);
}

static void each_call_gets_its_own_parameters(void **state)
{
	json_t *values = json_pack("{s:s, s:s, s:b, s:i, s:{s:i}}", "name", "v", "file", "/a",
				   "read-only", 1, "count", 3, "set", "serial", 7);
	json_t *first = args_params(rows, values, 0), *second = args_params(rows, values, 1);
	json_t *want = json_pack("{s:s, s:b, s:i}", "ctrlr", "v", "readonly", 1, "serial", 7);

	assert_int_equal(json_object_size(first), 1);
	assert_string_equal(json_string_value(json_object_get(first, "filename")), "/a");
	assert_true(json_equal(second, want));
	json_decref(values);
	json_decref(first);
	json_decref(second);
	json_decref(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_stand_anywhere),
		cmocka_unit_test(values_have_the_types_of_their_rows),
		cmocka_unit_test(a_wrong_value_is_named_with_what_was_expected),
		cmocka_unit_test(what_is_missing_or_too_much_is_named),
		cmocka_unit_test(a_path_becomes_absolute),
		cmocka_unit_test(each_call_gets_its_own_parameters),
	};

	return cmocka_run_group_tests_name("cli / args", tests, NULL, NULL);
}
