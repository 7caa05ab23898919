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

#include <locale.h>

#include "cli/table.h"

static const char *const titles[] = { "NAME", ">SIZE", "STATE", NULL };

static char *print(const struct table *t, bool colour)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	table_print(t, out, colour, "nothing");
	fclose(out);
	return text;
}

static void expect(struct table *t, bool colour, const char *want)
{
	char *text = print(t, colour);

	assert_string_equal(text, want);
	free(text);
	table_free(t);
}

static struct table *two_rows(const char *name)
{
	struct table *t = table_new(titles);

	table_row(t);
	table_cell(t, name);
	table_cellf(t, "%d", 7);
	table_cell_colour(t, TABLE_GOOD, "up");
	table_row(t);
	table_cell(t, "b");
	table_cell(t, "1000000");
	return t;
}

static void columns_are_as_wide_as_their_widest_cell(void **state)
{
	expect(two_rows("abcdef"), false,
	       "NAME       SIZE  STATE\n"
	       "abcdef        7  up\n"
	       "b       1000000  -\n");
}

static void colour_changes_no_width(void **state)
{
	struct table *t = two_rows("a");
	char *plain = print(t, false), *text = print(t, true), *to = text;

	assert_non_null(strstr(text, "\033[32mup\033[0m\n"));
	for (char *p = text; *p; p++) {
		if (*p == '\033')
			p = strchr(p, 'm');
		else
			*to++ = *p;
	}
	*to = '\0';
	assert_string_equal(text, plain);
	free(plain);
	free(text);
	table_free(t);
}

static void a_name_cannot_talk_to_the_terminal(void **state)
{
	expect(two_rows("x\033[2Jy\n"), false,
	       "NAME        SIZE  STATE\n"
	       "x?[2Jy?        7  up\n"
	       "b        1000000  -\n");
}

static void wide_characters_count_as_many_columns(void **state)
{
	if (!setlocale(LC_ALL, "C.UTF-8"))
		skip();
	assert_int_equal(table_width("häß"), 3);
	assert_int_equal(table_width("\xe6\x97\xa5"), 2);
	assert_int_equal(table_width("\xff"), 1);
	setlocale(LC_ALL, "C");
}

static void an_empty_table_says_so(void **state)
{
	expect(table_new(titles), true, "nothing\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(columns_are_as_wide_as_their_widest_cell),
		cmocka_unit_test(colour_changes_no_width),
		cmocka_unit_test(a_name_cannot_talk_to_the_terminal),
		cmocka_unit_test(wide_characters_count_as_many_columns),
		cmocka_unit_test(an_empty_table_says_so),
	};

	return cmocka_run_group_tests_name("cli / table", tests, NULL, NULL);
}
