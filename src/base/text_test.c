#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/text.h"

static void text_is_padded_with_spaces(void **state)
{
	char field[5] = "?????";
	struct err err = { 0 };

	assert_int_equal(text_pad(field, 4, "name", "ab", &err), 0);
	assert_memory_equal(field, "ab  ?", 5);
	assert_int_equal(text_pad(field, 4, "name", "abcd", &err), 0);
	assert_memory_equal(field, "abcd?", 5);
	assert_int_equal(text_pad(field, 4, "name", "", &err), 0);
	assert_memory_equal(field, "    ?", 5);
}

static void what_does_not_fit_is_refused(void **state)
{
	char field[4] = "1234";
	struct err err = { 0 };

	assert_int_equal(text_pad(field, 4, "name", "abcde", &err), -EINVAL);
	assert_string_equal(err.msg, "name: expected at most 4 characters, got 5");
	assert_int_equal(text_pad(field, 4, "name", "a\tb", &err), -EINVAL);
	assert_string_equal(err.msg, "name: expected printable ASCII, got byte 0x09");
	assert_int_equal(text_pad(field, 4, "name", "\xc3\xa4", &err), -EINVAL);
	assert_string_equal(err.msg, "name: expected printable ASCII, got byte 0xc3");
	assert_memory_equal(field, "1234", 4);
}

static void the_hash_is_fnv_1a(void **state)
{
	assert_int_equal(text_hash(TEXT_HASH_START, ""), 0xcbf29ce484222325ull);
	assert_int_equal(text_hash(TEXT_HASH_START, "a"), 0xaf63dc4c8601ec8cull);
	assert_int_equal(text_hash(TEXT_HASH_START, "foobar"), 0x85944171f73967e8ull);
	assert_int_equal(text_hash(text_hash(TEXT_HASH_START, "foo"), "bar"),
			 0x85944171f73967e8ull);
}

static void bytes_are_hexadecimal_digits_and_back(void **state)
{
	const uint8_t bytes[] = { 0x00, 0x9a, 0xff };
	uint8_t back[3];
	const char *line;
	char *text;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	text_hex_write(bytes, sizeof(bytes), to);
	fclose(to);
	assert_string_equal(text, "009aff");
	line = text;
	assert_true(text_hex_read(&line, back, sizeof(back)));
	assert_ptr_equal(line, text + 6);
	assert_memory_equal(back, bytes, sizeof(bytes));
	free(text);
	line = "009af";
	assert_false(text_hex_read(&line, back, sizeof(back)));
	line = "0G";
	assert_false(text_hex_read(&line, back, 1));
	line = "FF";
	assert_false(text_hex_read(&line, back, 1));
}

static void a_uuid_is_written_as_rfc_9562_says(void **state)
{
	const uint8_t uuid[16] = { 0xc1, 0x2a, 0x73, 0x28, 0xf8, 0x1f, 0x11, 0xd2,
				   0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b };
	char text[TEXT_UUID_BYTES];

	text_uuid(uuid, text);
	assert_string_equal(text, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_padded_with_spaces),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(a_uuid_is_written_as_rfc_9562_says),
		cmocka_unit_test(the_hash_is_fnv_1a),
		cmocka_unit_test(bytes_are_hexadecimal_digits_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
