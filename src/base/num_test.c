#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/check.h"
#include "base/num.h"

static void range_check_holds_at_every_edge_and_cannot_wrap(void **state)
{
	static const struct {
		uint64_t start, count, limit;
		bool inside;
	} cases[] = {
		{ 0, 0, 0, true },
		{ 0, 1, 0, false },
		{ 1, 0, 0, false },
		{ 0, 8, 8, true },
		{ 0, 9, 8, false },
		{ 7, 1, 8, true },
		{ 7, 2, 8, false },
		{ 8, 0, 8, true },
		{ 8, 1, 8, false },
		{ 9, 0, 8, false },
		{ UINT64_MAX, 1, 8, false },
		{ UINT64_MAX, 0, 8, false },
		{ UINT64_MAX, UINT64_MAX, 8, false },
		{ UINT64_MAX - 3, 8, 8, false },
		{ 4, UINT64_MAX - 3, 8, false },
		{ 4, UINT64_MAX - 3, UINT64_MAX, false },
		{ 3, UINT64_MAX - 3, UINT64_MAX, true },
		{ 0, UINT64_MAX, UINT64_MAX, true },
		{ UINT64_MAX, 0, UINT64_MAX, true },
		{ UINT64_MAX, 1, UINT64_MAX, false },
		{ UINT64_MAX, UINT64_MAX, UINT64_MAX, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (num_range_ok(cases[i].start, cases[i].count, cases[i].limit) != cases[i].inside)
			fail_msg("case %zu", i);
	}
}

static void sums_and_products_tell_when_they_wrap(void **state)
{
	uint64_t v;

	assert_true(num_add(UINT64_MAX - 1, 1, &v));
	assert_true(v == UINT64_MAX);
	assert_false(num_add(UINT64_MAX, 1, &v));
	assert_true(num_mul(1ull << 32, (1ull << 32) - 1, &v));
	assert_true(v == (UINT64_MAX - UINT32_MAX));
	assert_false(num_mul(1ull << 32, 1ull << 32, &v));
	assert_true(num_mul(UINT64_MAX, 0, &v));
	assert_int_equal(v, 0);
}

static void rounding_keeps_multiples_and_moves_the_rest(void **state)
{
	assert_int_equal(num_round_up(0, 4096), 0);
	assert_int_equal(num_round_up(1, 4096), 4096);
	assert_int_equal(num_round_up(4096, 4096), 4096);
	assert_int_equal(num_round_down(4095, 4096), 0);
	assert_int_equal(num_round_down(8191, 4096), 4096);
	assert_true(num_round_down(UINT64_MAX, 512) == UINT64_MAX - 511);
}

static void powers_of_two_are_told_from_the_rest(void **state)
{
	assert_false(num_is_pow2(0));
	assert_true(num_is_pow2(1));
	assert_true(num_is_pow2(1ull << 63));
	assert_false(num_is_pow2(3));
	assert_false(num_is_pow2(UINT64_MAX));
}

static void min_and_max_evaluate_their_arguments_once(void **state)
{
	int a = 1, b = 5;

	assert_int_equal(MIN(a++, b++), 1);
	assert_int_equal(MAX(a++, b++), 6);
	assert_int_equal(a, 3);
	assert_int_equal(b, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(range_check_holds_at_every_edge_and_cannot_wrap),
		cmocka_unit_test(sums_and_products_tell_when_they_wrap),
		cmocka_unit_test(rounding_keeps_multiples_and_moves_the_rest),
		cmocka_unit_test(powers_of_two_are_told_from_the_rest),
		cmocka_unit_test(min_and_max_evaluate_their_arguments_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
