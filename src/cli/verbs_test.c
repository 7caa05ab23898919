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

#include "base/check.h"
#include "cli/cli.h"

static const struct verb *find(const char *const *words, int *ret_used)
{
	int count = 0;

	while (words[count])
		count++;
	return verb_find(count, (char *const *)words, ret_used);
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void a_verb_is_found_by_all_of_its_words(void **state)
{
	int used;

	assert_string_equal(find(WORDS("disk", "add", "vm1"), &used)->name, "disk add");
	assert_int_equal(used, 2);
	assert_string_equal(find(WORDS("nvme", "ns", "add"), &used)->name, "nvme ns add");
	assert_int_equal(used, 3);
	assert_string_equal(find(WORDS("status"), &used)->name, "status");
	assert_null(find(WORDS("disk"), &used));
	assert_null(find(WORDS("disk", "ad"), &used));
	assert_null(find(WORDS("nvme", "ns"), &used));
	assert_null(find(WORDS("stat"), &used));
}

static void a_part_of_a_verb_tells_how_many_there_are(void **state)
{
	assert_int_equal(verb_prefix_count(2, (char *[]){ "nvme", "ns" }), 2);
	assert_int_equal(verb_prefix_count(1, (char *[]){ "completion" }), 1);
	assert_int_equal(verb_prefix_count(1, (char *[]){ "dis" }), 0);
	assert_int_equal(verb_prefix_count(2, (char *[]){ "status", "x" }), 0);
}

static void each_row_is_whole(void **state)
{
	for (const struct verb *v = verbs; v->name; v++) {
		bool optional = false;

		assert_non_null(v->help);
		assert_true(v->run || v->methods[0]);
		for (const struct arg *a = v->args; a && a->name; a++) {
			if (!a->help || (a->type == ARG_ENUM && !a->names))
				fail_msg("%s: %s", v->name, a->name);
			if (a->name[0] == '-')
				assert_string_equal(a->name, strstr(a->name, "--"));
			/* What must be given does not stand behind what may. */
			if (a->name[0] != '-' && a->name[0] != '[')
				assert_false(optional);
			optional |= a->name[0] == '[';
		}
	}
}

static void exit_codes_are_as_documented(void **state)
{
	assert_int_equal(cli_exit_of(0), 0);
	assert_int_equal(cli_exit_of(-EREMOTEIO), 1);
	assert_int_equal(cli_exit_of(-ENODEV), 1);
	assert_int_equal(cli_exit_of(-EINVAL), 2);
	assert_int_equal(cli_exit_of(-ENOTCONN), 3);
	assert_int_equal(cli_exit_of(-EPIPE), 3);
	assert_int_equal(cli_exit_of(-ETIMEDOUT), 4);
	assert_int_equal(cli_exit_of(-EPROTO), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_verb_is_found_by_all_of_its_words),
		cmocka_unit_test(a_part_of_a_verb_tells_how_many_there_are),
		cmocka_unit_test(each_row_is_whole),
		cmocka_unit_test(exit_codes_are_as_documented),
	};

	return cmocka_run_group_tests_name("cli / verbs", tests, NULL, NULL);
}
