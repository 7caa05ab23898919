#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"

static void prefixes_stack_in_front_and_keep_the_code(void **state)
{
	struct err e = { 0 };

	assert_int_equal(err_set(&e, -EINVAL, "size: expected 1..%d, got %d", 8, 9), -EINVAL);
	assert_int_equal(err_prefix(&e, -EIO, "region %u", 3), -EINVAL);
	assert_int_equal(err_prefix(&e, -EIO, "device '%s'", "a"), -EINVAL);
	assert_int_equal(e.code, -EINVAL);
	assert_string_equal(e.msg, "device 'a': region 3: size: expected 1..8, got 9");
}

static void the_callers_code_fills_an_empty_one(void **state)
{
	struct err e = { 0 };

	assert_int_equal(err_prefix(&e, -EIO, "open"), -EIO);
	assert_int_equal(e.code, -EIO);
}

static void without_detail_only_the_code_is_returned(void **state)
{
	assert_int_equal(err_set(NULL, -ENOMEM, "x"), -ENOMEM);
	assert_int_equal(err_prefix(NULL, -ENOMEM, "x"), -ENOMEM);
}

static void messages_that_do_not_fit_are_cut_at_the_end(void **state)
{
	char wide[2 * ERR_MSG_MAX];
	struct err e = { 0 };

	memset(wide, 'x', sizeof(wide) - 1);
	wide[sizeof(wide) - 1] = '\0';
	err_set(&e, -EINVAL, "%s", wide);
	assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
	err_prefix(&e, -EINVAL, "front");
	assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
	assert_memory_equal(e.msg, "front: xxx", 10);
	for (int len = ERR_MSG_MAX - 5; len <= ERR_MSG_MAX + 1; len++) {
		err_prefix(&e, -EINVAL, "%.*s", len, wide);
		assert_int_equal(e.msg[ERR_MSG_MAX - 1], '\0');
		assert_in_range(strlen(e.msg), ERR_MSG_MAX - 5, ERR_MSG_MAX - 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prefixes_stack_in_front_and_keep_the_code),
		cmocka_unit_test(the_callers_code_fills_an_empty_one),
		cmocka_unit_test(without_detail_only_the_code_is_returned),
		cmocka_unit_test(messages_that_do_not_fit_are_cut_at_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
