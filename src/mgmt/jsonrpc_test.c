#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/check.h"
#include "mgmt/jsonrpc.h"

static const char *const texts[] = {
	"{}",
	"[]",
	"{\"a\":\"}\"}",
	"[\"]\",\"\\\"]\",{\"x\":[1,2,{}]}]",
	" \t\r\n{\"a\":\"\\\\\"}",
	"{\"\\\"}\":[[],[{}]]}",
};

static void each_text_of_a_stream_is_found_whatever_the_pieces(void **state)
{
	char stream[512] = "";
	size_t ends[ARRAY_SIZE(texts)], len = 0;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		len += (size_t)snprintf(stream + len, sizeof(stream) - len, "%s", texts[i]);
		ends[i] = len;
	}
	for (size_t piece = 1; piece <= len; piece++) {
		struct jsonrpc_scan s = { 0 };
		size_t at = 0, found = 0;

		while (at < len) {
			size_t used, n = piece - at % piece;
			enum jsonrpc_found got;

			n = at + n > len ? len - at : n;
			got = jsonrpc_scan(&s, stream + at, n, &used, NULL);
			at += used;
			assert_int_not_equal(got, JSONRPC_BAD);
			if (got == JSONRPC_COMPLETE)
				assert_int_equal(at, ends[found++]);
		}
		assert_int_equal(found, ARRAY_SIZE(texts));
	}
}

static void what_is_no_object_and_no_array_is_bad(void **state)
{
	static const char *const bad[] = { "x", "1", "\"a\"", "}", "]", " ,", "null", "\x01" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct jsonrpc_scan s = { 0 };
		struct err err = { 0 };
		size_t used;

		assert_int_equal(jsonrpc_scan(&s, bad[i], strlen(bad[i]), &used, &err),
				 JSONRPC_BAD);
		assert_non_null(strstr(err.msg, "expected a JSON object or array, got byte 0x"));
	}
}

/* Scans n times one character, then the rest. */
static enum jsonrpc_found scan_many(const char *first, char c, size_t n, struct err *err)
{
	struct jsonrpc_scan s = { 0 };
	char *text = malloc(n);
	enum jsonrpc_found got;
	size_t used;

	memset(text, c, n);
	assert_int_equal(jsonrpc_scan(&s, first, strlen(first), &used, err), JSONRPC_MORE);
	got = jsonrpc_scan(&s, text, n, &used, err);
	free(text);
	return got;
}

static void nesting_and_the_number_of_values_have_limits(void **state)
{
	struct err err = { 0 };

	assert_int_equal(scan_many("[", '[', JSONRPC_DEPTH_MAX - 1, &err), JSONRPC_MORE);
	assert_int_equal(scan_many("[", '[', JSONRPC_DEPTH_MAX, &err), JSONRPC_BAD);
	assert_string_equal(err.msg, "nesting: expected at most 64 levels");
	assert_int_equal(scan_many("[", ',', JSONRPC_VALUES_MAX - 1, &err), JSONRPC_MORE);
	assert_int_equal(scan_many("[", ',', JSONRPC_VALUES_MAX, &err), JSONRPC_BAD);
	assert_string_equal(err.msg, "expected at most 65536 values in a request");
	assert_int_equal(scan_many("[\"", ',', JSONRPC_VALUES_MAX, &err), JSONRPC_MORE);
}

static void a_megabyte_byte_by_byte_is_scanned_once(void **state)
{
	struct jsonrpc_scan s = { 0 };
	size_t used, looked = 0;

	assert_int_equal(jsonrpc_scan(&s, "[\"", 2, &used, NULL), JSONRPC_MORE);
	for (size_t i = 0; i < JSONRPC_REQUEST_BYTES_MAX; i++) {
		assert_int_equal(jsonrpc_scan(&s, "x", 1, &used, NULL), JSONRPC_MORE);
		looked += used;
	}
	assert_int_equal(looked, JSONRPC_REQUEST_BYTES_MAX);
	assert_int_equal(jsonrpc_scan(&s, "\"]", 2, &used, NULL), JSONRPC_COMPLETE);
}

static void numbers_beyond_63_bits_are_marked_strings(void **state)
{
	static const char text[] =
		"{\"a\":18446744073709551615,\"b\":-9223372036854775809,\"c\":9223372036854775807,"
		"\"d\":\"18446744073709551615\",\"e\":[1e5,\"\\\"99999999999999999999\\\\\"],"
		"\"f\":99999999999999999999.5}";
	json_t *v;

	assert_int_equal(jsonrpc_parse(text, strlen(text), &v, NULL), 0);
	assert_string_equal(json_string_value(json_object_get(v, "a")), "\x01"
									"18446744073709551615");
	assert_string_equal(json_string_value(json_object_get(v, "b")), "\x01"
									"-9223372036854775809");
	assert_true(json_integer_value(json_object_get(v, "c")) == INT64_MAX);
	assert_string_equal(json_string_value(json_object_get(v, "d")), "18446744073709551615");
	assert_string_equal(json_string_value(json_array_get(json_object_get(v, "e"), 1)),
			    "\"99999999999999999999\\");
	assert_true(json_is_real(json_object_get(v, "f")));
	json_decref(v);
}

static void what_is_not_json_is_an_error_with_its_place(void **state)
{
	static const char *const bad[] = { "{\"a\":}",		"[1,]",		  "{a:1}",
					   "{\"a\":1,\"a\":2}", "[\"\\u0000\"]x", "{]",
					   "[\"\xff\"]" };
	struct err err;
	json_t *v;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err = (struct err){ 0 };
		assert_int_equal(jsonrpc_parse(bad[i], strlen(bad[i]), &v, &err), -EINVAL);
		assert_non_null(strstr(err.msg, "line 1, column"));
	}
}

static void answers_have_the_order_of_spdk(void **state)
{
	struct jsonrpc_out out = { 0 };
	json_t *id = json_integer(7), *result = json_pack("{s:i}", "a", 1);

	assert_true(jsonrpc_result(&out, id, result));
	assert_true(jsonrpc_error(&out, NULL, -32601, "no"));
	assert_true(jsonrpc_out_append(&out, "", 1, SIZE_MAX));
	assert_string_equal(out.bytes,
			    "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"a\":1}}"
			    "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32601,"
			    "\"message\":\"no\"}}");
	json_decref(id);
	json_decref(result);
	jsonrpc_out_fini(&out);
}

static void an_answer_that_is_too_long_becomes_an_error(void **state)
{
	struct jsonrpc_out out = { 0 };
	char *text = malloc(JSONRPC_REPLY_BYTES_MAX + 1);
	json_t *result;

	memset(text, 'x', JSONRPC_REPLY_BYTES_MAX);
	text[JSONRPC_REPLY_BYTES_MAX] = '\0';
	result = json_string(text);
	assert_true(jsonrpc_result(&out, NULL, result));
	assert_true(out.len_bytes < 256);
	assert_true(jsonrpc_out_append(&out, "", 1, SIZE_MAX));
	assert_non_null(strstr(out.bytes, "the answer would be longer than 33554432 bytes"));
	json_decref(result);
	free(text);
	jsonrpc_out_fini(&out);
}

static void an_error_text_with_half_a_character_is_told_without_it(void **state)
{
	struct jsonrpc_out out = { 0 };

	assert_true(jsonrpc_error(&out, NULL, -1, "caf\xc3"));
	assert_true(jsonrpc_out_append(&out, "", 1, SIZE_MAX));
	assert_non_null(strstr(out.bytes, "\"caf?\""));
	jsonrpc_out_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_text_of_a_stream_is_found_whatever_the_pieces),
		cmocka_unit_test(what_is_no_object_and_no_array_is_bad),
		cmocka_unit_test(nesting_and_the_number_of_values_have_limits),
		cmocka_unit_test(a_megabyte_byte_by_byte_is_scanned_once),
		cmocka_unit_test(numbers_beyond_63_bits_are_marked_strings),
		cmocka_unit_test(what_is_not_json_is_an_error_with_its_place),
		cmocka_unit_test(answers_have_the_order_of_spdk),
		cmocka_unit_test(an_answer_that_is_too_long_becomes_an_error),
		cmocka_unit_test(an_error_text_with_half_a_character_is_told_without_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
