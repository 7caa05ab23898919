#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/check.h"
#include "base/opts.h"

struct sample {
	char *path;
	bool wce;
	uint64_t wide;
	uint32_t depth;
	uint16_t queues;
	uint64_t size_bytes;
	int mode;
	int32_t node, offset;
};

static const char *const mode_names[] = { "direct", "buffered", "auto", NULL };

/* clang-format off */
static const struct opts_row rows[] = {
	{ "path",   OPTS_STR,  offsetof(struct sample, path), .def = NULL },
	{ "wce",    OPTS_BOOL, offsetof(struct sample, wce), .def = "on" },
	{ "wide",   OPTS_U64,  offsetof(struct sample, wide), .def = NULL },
	{ "depth",  OPTS_U32,  offsetof(struct sample, depth), .def = "128" },
	{ "queues", OPTS_U16,  offsetof(struct sample, queues), .min = 1, .max = 256, .def = "1" },
	{ "size",   OPTS_SIZE, offsetof(struct sample, size_bytes), .def = NULL },
	{ "mode",   OPTS_ENUM, offsetof(struct sample, mode), .names = mode_names, .def = "auto" },
	{ "node",   OPTS_I32,  offsetof(struct sample, node), .min = (uint64_t)-1, .max = 64,
	  .def = "-1" },
	{ "offset", OPTS_I32,  offsetof(struct sample, offset), .def = NULL },
};
/* clang-format on */

static const struct opts_table table = { "a sample", rows, ARRAY_SIZE(rows) };

static void expect_ok(struct sample *s, const char *name, const char *value)
{
	struct err e = { 0 };

	if (opts_set(&table, s, name, value, &e))
		fail_msg("%s=%s: %s", name, value, e.msg);
}

static void expect_error(const char *name, const char *value, int code, const char *text)
{
	struct sample s, before;
	struct err e = { 0 };

	memset(&s, 0, sizeof(s));
	assert_int_equal(opts_defaults(&table, &s, NULL), 0);
	before = s;
	assert_int_equal(opts_set(&table, &s, name, value, &e), code);
	assert_int_equal(e.code, code);
	assert_string_equal(e.msg, text);
	assert_memory_equal(&s, &before, sizeof(s));
	assert_int_equal(opts_set(&table, &s, name, value, NULL), code);
	opts_free(&table, &s);
}

static void defaults_fill_every_field(void **state)
{
	struct sample s;

	memset(&s, 0xff, sizeof(s));
	assert_int_equal(opts_defaults(&table, &s, NULL), 0);
	assert_null(s.path);
	assert_true(s.wce);
	assert_int_equal(s.wide, 0);
	assert_int_equal(s.depth, 128);
	assert_int_equal(s.queues, 1);
	assert_int_equal(s.size_bytes, 0);
	assert_int_equal(s.mode, 2);
	assert_int_equal(s.node, -1);
	assert_int_equal(s.offset, 0);
}

static void each_type_takes_its_values_up_to_its_limits(void **state)
{
	struct sample s = { 0 };

	expect_ok(&s, "path", "/tmp/a");
	expect_ok(&s, "path", "");
	assert_string_equal(s.path, "");
	expect_ok(&s, "wide", "18446744073709551615");
	assert_true(s.wide == UINT64_MAX);
	expect_ok(&s, "wide", "0xFf");
	assert_int_equal(s.wide, 255);
	expect_ok(&s, "depth", "4294967295");
	assert_true(s.depth == UINT32_MAX);
	expect_ok(&s, "queues", "256");
	assert_int_equal(s.queues, 256);
	expect_ok(&s, "queues", "1");
	expect_ok(&s, "node", "-1");
	assert_int_equal(s.node, -1);
	expect_ok(&s, "node", "64");
	assert_int_equal(s.node, 64);
	expect_ok(&s, "offset", "-2147483648");
	assert_true(s.offset == INT32_MIN);
	expect_ok(&s, "offset", "2147483647");
	assert_true(s.offset == INT32_MAX);
	expect_ok(&s, "offset", "-0");
	assert_int_equal(s.offset, 0);
	expect_ok(&s, "mode", "direct");
	assert_int_equal(s.mode, 0);
	expect_ok(&s, "mode", "buffered");
	assert_int_equal(s.mode, 1);
	opts_free(&table, &s);
	assert_null(s.path);
}

static void all_bool_words_are_taken_and_no_others(void **state)
{
	static const char *const on[] = { "on", "true", "yes", "1" };
	static const char *const off[] = { "off", "false", "no", "0" };
	struct sample s = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(on); i++) {
		expect_ok(&s, "wce", on[i]);
		assert_true(s.wce);
		expect_ok(&s, "wce", off[i]);
		assert_false(s.wce);
	}
	expect_error("wce", "maybe", -EINVAL, "wce: expected on|off, got 'maybe'");
	expect_error("wce", "ON", -EINVAL, "wce: expected on|off, got 'ON'");
	expect_error("wce", "", -EINVAL, "wce: expected on|off, got ''");
}

static void unknown_names_are_refused_with_the_table_named(void **state)
{
	expect_error("colour", "red", -ENOENT, "colour: no parameter of a sample");
	expect_error("", "red", -ENOENT, ": no parameter of a sample");
	expect_error("pat", "red", -ENOENT, "pat: no parameter of a sample");
}

static void bad_enum_words_are_refused_with_the_list(void **state)
{
	expect_error("mode", "fast", -EINVAL, "mode: expected direct|buffered|auto, got 'fast'");
	expect_error("mode", "", -EINVAL, "mode: expected direct|buffered|auto, got ''");
}

static void what_is_no_number_is_refused(void **state)
{
	static const char *const bad[] = {
		"", "-1", "+1", " 1", "1 ", "1x", "0x", "x", "1K", "1.5"
	};
	struct sample s = { 0 };
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(opts_set(&table, &s, "depth", bad[i], &e), -EINVAL);
		assert_non_null(strstr(e.msg, "depth: expected a number, got '"));
	}
	expect_error("depth", "12q", -EINVAL, "depth: expected a number, got '12q'");
	expect_error("node", "-", -EINVAL, "node: expected a number, got '-'");
	expect_error("node", "--1", -EINVAL, "node: expected a number, got '--1'");
	expect_error("node", "- 1", -EINVAL, "node: expected a number, got '- 1'");
	expect_error("node", "-1x", -EINVAL, "node: expected a number, got '-1x'");
}

static void numbers_out_of_range_are_refused_with_the_limits(void **state)
{
	expect_error("queues", "0", -ERANGE, "queues: expected 1..256, got 0");
	expect_error("queues", "257", -ERANGE, "queues: expected 1..256, got 257");
	expect_error("queues", "65537", -ERANGE, "queues: expected 1..256, got 65537");
	expect_error("depth", "4294967296", -ERANGE,
		     "depth: expected 0..4294967295, got 4294967296");
	expect_error("node", "-2", -ERANGE, "node: expected -1..64, got -2");
	expect_error("node", "65", -ERANGE, "node: expected -1..64, got 65");
	expect_error("node", "18446744073709551615", -ERANGE,
		     "node: expected -1..64, got 18446744073709551615");
	expect_error("node", "-18446744073709551615", -ERANGE,
		     "node: expected -1..64, got -18446744073709551615");
	expect_error("offset", "2147483648", -ERANGE,
		     "offset: expected -2147483648..2147483647, got 2147483648");
	expect_error("offset", "-2147483649", -ERANGE,
		     "offset: expected -2147483648..2147483647, got -2147483649");
	expect_error("wide", "18446744073709551616", -ERANGE,
		     "wide: expected 0..18446744073709551615, got 18446744073709551616");
}

static void sizes_take_suffixes_and_refuse_overflow(void **state)
{
	/* clang-format off */
	static const struct { const char *text; uint64_t bytes; } good[] = {
		{ "0", 0 }, { "512", 512 }, { "4k", 4096 }, { "4K", 4096 }, { "64M", 64ull << 20 },
		{ "1G", 1ull << 30 }, { "2t", 2ull << 40 }, { "3P", 3ull << 50 },
		{ "0x10K", 16384 }, { "16383P", 16383ull << 50 },
		{ "18446744073709551615", UINT64_MAX },
	};
	/* clang-format on */
	static const char *const over[] = { "16384P", "16777216T", "18446744073709551616",
					    "18014398509481984K" };
	static const char *const bad[] = { "", "K", "1KB", "1 K", "1Q", "-1K", "1KK" };
	uint64_t v = 7;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(opts_parse_size(good[i].text, &v), 0);
		assert_true(v == good[i].bytes);
	}
	v = 7;
	for (size_t i = 0; i < ARRAY_SIZE(over); i++)
		assert_int_equal(opts_parse_size(over[i], &v), -ERANGE);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(opts_parse_size(bad[i], &v), -EINVAL);
	assert_int_equal(v, 7);
	expect_error("size", "16384P", -ERANGE,
		     "size: expected 0..18446744073709551615, got 16384P");
	expect_error("size", "big", -EINVAL,
		     "size: expected a size (number with K, M, G, T or P), got 'big'");
}

static void a_line_of_pairs_sets_each_and_bare_bools(void **state)
{
	struct sample s = { 0 };

	assert_int_equal(opts_parse(&table, &s, "path=/a=b,wce,queues=4,,size=1K,", NULL), 0);
	assert_string_equal(s.path, "/a=b");
	assert_true(s.wce);
	assert_int_equal(s.queues, 4);
	assert_int_equal(s.size_bytes, 1024);
	assert_int_equal(opts_parse(&table, &s, "", NULL), 0);
	opts_free(&table, &s);
}

static void escaped_commas_belong_to_the_value(void **state)
{
	struct sample s = { 0 };

	assert_int_equal(opts_parse(&table, &s, "path=a\\,b\\\\c\\,,queues=2", NULL), 0);
	assert_string_equal(s.path, "a,b\\\\c,");
	assert_int_equal(s.queues, 2);
	assert_int_equal(opts_parse(&table, &s, "path=end\\", NULL), 0);
	assert_string_equal(s.path, "end\\");
	opts_free(&table, &s);
}

static void a_line_stops_at_its_first_error(void **state)
{
	struct sample s = { 0 };
	struct err e = { 0 };

	assert_int_equal(opts_parse(&table, &s, "queues=2,depth,queues=3", &e), -EINVAL);
	assert_string_equal(e.msg, "depth: expected depth=value, got no value");
	assert_int_equal(s.queues, 2);
	assert_int_equal(opts_parse(&table, &s, "path=x,shade=3,queues=3", &e), -ENOENT);
	assert_string_equal(e.msg, "shade: no parameter of a sample");
	assert_int_equal(s.queues, 2);
	opts_free(&table, &s);
}

/* Notes what it is called with: "name=value;" or "name;". */
static int note_word(void *arg, const char *name, const char *value, struct err *reterr)
{
	char *notes = arg;
	size_t len = strlen(notes);

	snprintf(notes + len, 128 - len, "%s%s%s;", name, value ? "=" : "", value ? value : "");
	return strcmp(name, "bad") ? 0 : err_set(reterr, -EINVAL, "bad word");
}

static void words_are_split_at_the_separator_asked_for(void **state)
{
	char notes[128] = "";
	struct err e = { 0 };

	assert_int_equal(opts_words("a=1:b::c=x\\:y\\,z=:d=", ':', note_word, notes, &e), 0);
	assert_string_equal(notes, "a=1;b;c=x:y\\,z=;d=;");
	notes[0] = '\0';
	assert_int_equal(opts_words("a:bad:c", ':', note_word, notes, &e), -EINVAL);
	assert_string_equal(notes, "a;bad;");
	assert_string_equal(e.msg, "bad word");
}

static void values_are_told_as_the_text_that_sets_them(void **state)
{
	static const char *const texts[] = { "/a,b",	"off",	    "77", "5", "3",
					     "1048576", "buffered", "-1", "-7" };
	struct sample s = { 0 };
	char buf[32];

	assert_string_equal(opts_text(&rows[0], &s, buf, sizeof(buf)), "");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(opts_set(&table, &s, rows[i].name, texts[i], NULL), 0);
		assert_string_equal(opts_text(&rows[i], &s, buf, sizeof(buf)), texts[i]);
	}
	opts_free(&table, &s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_fill_every_field),
		cmocka_unit_test(each_type_takes_its_values_up_to_its_limits),
		cmocka_unit_test(all_bool_words_are_taken_and_no_others),
		cmocka_unit_test(unknown_names_are_refused_with_the_table_named),
		cmocka_unit_test(bad_enum_words_are_refused_with_the_list),
		cmocka_unit_test(what_is_no_number_is_refused),
		cmocka_unit_test(numbers_out_of_range_are_refused_with_the_limits),
		cmocka_unit_test(sizes_take_suffixes_and_refuse_overflow),
		cmocka_unit_test(a_line_of_pairs_sets_each_and_bare_bools),
		cmocka_unit_test(escaped_commas_belong_to_the_value),
		cmocka_unit_test(a_line_stops_at_its_first_error),
		cmocka_unit_test(words_are_split_at_the_separator_asked_for),
		cmocka_unit_test(values_are_told_as_the_text_that_sets_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
