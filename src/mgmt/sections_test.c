#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mgmt/sections.h"

struct object {
	const char *name;
	int calls;
};

static void object_write(json_t *calls, const void *obj)
{
	const struct object *o = obj;

	for (int i = 0; i < o->calls; i++)
		json_array_append_new(calls, json_pack("{s:s, s:{s:s, s:i}}", "method", "make",
						       "params", "name", o->name, "n", i));
}

static bool skip_none(const char *method, const json_t *params)
{
	return false;
}

static bool skip_b(const char *method, const json_t *params)
{
	return !strcmp(json_string_value(json_object_get(params, "name")), "b");
}

/* The text of the objects, as one section. */
static char *walk(bool (*skip)(const char *method, const json_t *params),
		  struct section_text keep[], const uint32_t parts[], const struct object objects[],
		  size_t count)
{
	char *text;
	size_t bytes;
	struct section_out out = { .to = open_memstream(&text, &bytes), .skip = skip };

	assert_non_null(out.to);
	for (size_t i = 0; i < count; i++)
		section_object(&out, keep ? &keep[i] : NULL, parts ? parts[i] : 0, object_write,
			       &objects[i]);
	assert_false(out.failed);
	assert_int_equal(fclose(out.to), 0);
	return text;
}

static void expect(char *text, const char *wanted)
{
	assert_string_equal(text, wanted);
	free(text);
}

#define LINE(name, n)                                                                              \
	"\n   {\"method\": \"make\", \"params\": {\"name\": \"" name "\", \"n\": " n "}}"

static void each_call_is_a_line_and_lines_are_separated(void **state)
{
	static const struct object objects[] = { { "a", 2 }, { "none", 0 }, { "b", 1 } };
	struct section_text keep[3] = { 0 };

	expect(walk(skip_none, NULL, NULL, objects, 3),
	       LINE("a", "0") "," LINE("a", "1") "," LINE("b", "0"));
	for (int again = 0; again < 3; again++)
		expect(walk(skip_none, keep, NULL, objects, 3),
		       LINE("a", "0") "," LINE("a", "1") "," LINE("b", "0"));
	expect(walk(skip_none, NULL, NULL, &objects[1], 1), "");
	for (int i = 0; i < 3; i++)
		section_drop(&keep[i]);
}

static void what_is_left_out_leaves_no_separator(void **state)
{
	static const struct object objects[] = { { "b", 2 }, { "a", 1 }, { "b", 1 } };

	expect(walk(skip_b, NULL, NULL, objects, 3), LINE("a", "0"));
	expect(walk(skip_b, NULL, NULL, objects, 1), "");
}

static void a_text_is_kept_until_it_is_dropped_or_a_part_goes(void **state)
{
	struct object o = { "a", 2 };
	struct section_text keep = { 0 };
	uint32_t parts = 2;
	const char *made;

	expect(walk(skip_none, &keep, &parts, &o, 1), LINE("a", "0") "," LINE("a", "1"));
	made = keep.text;
	expect(walk(skip_none, &keep, &parts, &o, 1), LINE("a", "0") "," LINE("a", "1"));
	assert_ptr_equal(keep.text, made);

	o.calls = 1;
	parts = 1;
	expect(walk(skip_none, &keep, &parts, &o, 1), LINE("a", "0"));

	o.calls = 3;
	section_drop(&keep);
	assert_null(keep.text);
	expect(walk(skip_none, &keep, &parts, &o, 1),
	       LINE("a", "0") "," LINE("a", "1") "," LINE("a", "2"));
	section_drop(&keep);
	section_drop(&keep);
}

static void as_json_nothing_is_kept_and_nothing_left_out(void **state)
{
	const struct object o = { "b", 2 };
	struct section_text keep = { 0 };
	struct section_out out = { .calls = json_array() };

	section_object(&out, &keep, 0, object_write, &o);
	assert_int_equal(json_array_size(out.calls), 2);
	assert_null(keep.text);
	json_decref(out.calls);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_call_is_a_line_and_lines_are_separated),
		cmocka_unit_test(what_is_left_out_leaves_no_separator),
		cmocka_unit_test(a_text_is_kept_until_it_is_dropped_or_a_part_goes),
		cmocka_unit_test(as_json_nothing_is_kept_and_nothing_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
