#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/check.h"
#include "mgmt/jsonrpc.h"
#include "mgmt/params.h"

struct sample {
	char *name;
	bool on;
	uint64_t wide, size_bytes;
	uint32_t depth;
	uint16_t queues;
	int mode;
	int32_t node;
};

static const char *const modes[] = { "fast", "slow", NULL };

/* clang-format off */
static const struct opts_row rows[] = {
	{ "name",   OPTS_STR,  offsetof(struct sample, name), .required = true, .help = "of it" },
	{ "on",     OPTS_BOOL, offsetof(struct sample, on), .def = "true" },
	{ "wide",   OPTS_U64,  offsetof(struct sample, wide), .def = NULL },
	{ "size",   OPTS_SIZE, offsetof(struct sample, size_bytes), .min = 512, .max = 1u << 30 },
	{ "depth",  OPTS_U32,  offsetof(struct sample, depth), .def = "8" },
	{ "queues", OPTS_U16,  offsetof(struct sample, queues), .min = 1, .max = 64, .def = "1" },
	{ "mode",   OPTS_ENUM, offsetof(struct sample, mode), .names = modes, .def = "slow" },
	{ .name = "list", .type = OPTS_JSON },
	{ "node",   OPTS_I32,  offsetof(struct sample, node), .min = (uint64_t)-1, .max = 64,
	  .def = "-1" },
};
/* clang-format on */
static const struct opts_table table = { "a_sample", rows, ARRAY_SIZE(rows) };

static int fill(struct sample *s, const char *text, struct err *err)
{
	json_t *given;
	int rc;

	assert_int_equal(jsonrpc_parse(text, strlen(text), &given, NULL), 0);
	memset(s, 0, sizeof(*s));
	rc = params_fill(&table, s, given, err);
	json_decref(given);
	return rc;
}

static void what_is_not_given_has_its_default(void **state)
{
	struct sample s;

	assert_int_equal(fill(&s, "{\"name\":\"x\",\"depth\":null}", NULL), 0);
	assert_string_equal(s.name, "x");
	assert_true(s.on);
	assert_int_equal(s.wide, 0);
	assert_int_equal(s.depth, 8);
	assert_int_equal(s.mode, 1);
	opts_free(&table, &s);
}

static void each_type_takes_its_values(void **state)
{
	struct sample s;

	assert_int_equal(fill(&s,
			      "{\"name\":\"\\u00e9\",\"on\":false,\"wide\":18446744073709551615,"
			      "\"size\":\"1G\",\"depth\":4294967295,\"queues\":6.4e1,"
			      "\"mode\":\"fast\",\"list\":[1,{}],\"node\":-1}",
			      NULL),
			 0);
	assert_string_equal(s.name, "\xc3\xa9");
	assert_false(s.on);
	assert_true(s.wide == UINT64_MAX);
	assert_int_equal(s.size_bytes, 1u << 30);
	assert_int_equal(s.depth, UINT32_MAX);
	assert_int_equal(s.queues, 64);
	assert_int_equal(s.mode, 0);
	assert_int_equal(s.node, -1);
	opts_free(&table, &s);
}

static const struct {
	const char *given, *text;
	int code;
} bad[] = {
	{ "{}", "name: missing: a_sample needs it (of it)", -EINVAL },
	{ "{\"name\":null}", "name: missing: a_sample needs it (of it)", -EINVAL },
	{ "{\"name\":1}", "name: expected a string, got 1", -EINVAL },
	{ "{\"name\":18446744073709551616}", "name: expected a string, got 18446744073709551616",
	  -EINVAL },
	{ "{\"name\":[]}", "name: expected a string, got []", -EINVAL },
	{ "{\"name\":\"a\",\"colour\":1}",
	  "colour: unknown parameter of a_sample, which takes name, on, wide, size, depth, queues, "
	  "mode, list, node",
	  -ENOENT },
	{ "{\"on\":1}", "on: expected true or false, got 1", -EINVAL },
	{ "{\"on\":\"true\"}", "on: expected true or false, got \"true\"", -EINVAL },
	{ "{\"wide\":\"1\"}", "wide: expected a number, got \"1\"", -EINVAL },
	{ "{\"wide\":-1}", "wide: expected 0..18446744073709551615, got -1", -ERANGE },
	{ "{\"wide\":18446744073709551616}",
	  "wide: expected 0..18446744073709551615, got 18446744073709551616", -ERANGE },
	{ "{\"wide\":-9223372036854775809}",
	  "wide: expected 0..18446744073709551615, got -9223372036854775809", -ERANGE },
	{ "{\"wide\":0.5}", "wide: expected a whole number, got 0.5", -EINVAL },
	{ "{\"depth\":4294967296}", "depth: expected 0..4294967295, got 4294967296", -ERANGE },
	{ "{\"queues\":0}", "queues: expected 1..64, got 0", -ERANGE },
	{ "{\"queues\":65}", "queues: expected 1..64, got 65", -ERANGE },
	{ "{\"queues\":true}", "queues: expected a number, got true", -EINVAL },
	{ "{\"size\":511}", "size: expected 512..1073741824, got 511", -ERANGE },
	{ "{\"size\":\"2X\"}", "size: expected a size (number with K, M, G, T or P), got '2X'",
	  -EINVAL },
	{ "{\"size\":true}",
	  "size: expected a size (a number, or text with K, M, G, T or P), got true", -EINVAL },
	{ "{\"mode\":\"odd\"}", "mode: expected fast|slow, got 'odd'", -EINVAL },
	{ "{\"mode\":0}", "mode: expected a string, got 0", -EINVAL },
	{ "{\"node\":-2}", "node: expected -1..64, got -2", -ERANGE },
	{ "{\"node\":65}", "node: expected -1..64, got 65", -ERANGE },
	{ "{\"node\":-9223372036854775809}", "node: expected -1..64, got -9223372036854775809",
	  -ERANGE },
	{ "{\"node\":18446744073709551616}", "node: expected -1..64, got 18446744073709551616",
	  -ERANGE },
	{ "{\"node\":-0.5}", "node: expected a whole number, got -0.5", -EINVAL },
	{ "{\"node\":\"-1\"}", "node: expected a number, got \"-1\"", -EINVAL },
	{ "{\"list\":1}", "list: expected an array or an object, got 1", -EINVAL },
	{ "{\"on\":\"0123456789012345678901234567890123456789012345678901234567890123456789"
	  "01234567890123456789012345\"}",
	  "on: expected true or false, got a long string", -EINVAL },
};

static void an_error_names_parameter_value_and_limit(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err err = { 0 };
		struct sample s;

		assert_int_equal(fill(&s, bad[i].given, &err), bad[i].code);
		assert_string_equal(err.msg, bad[i].text);
		opts_free(&table, &s);
	}
}

static void nothing_given_is_an_empty_object(void **state)
{
	struct sample s = { 0 };
	struct err err = { 0 };

	assert_int_equal(params_fill(&table, &s, NULL, &err), -EINVAL);
	assert_string_equal(err.msg, "name: missing: a_sample needs it (of it)");
	opts_free(&table, &s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_given_has_its_default),
		cmocka_unit_test(each_type_takes_its_values),
		cmocka_unit_test(an_error_names_parameter_value_and_limit),
		cmocka_unit_test(nothing_given_is_an_empty_object),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
