#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/iov.h"

static void reads_and_skips_cross_elements_and_stop_at_the_end(void **state)
{
	char a[] = "abc", b[] = "defg", got[8] = "";
	struct iovec iov[] = { { a, 3 }, { a, 0 }, { b, 4 } };
	struct iov_cur c;

	iov_cur_init(&c, iov, 3, 7);
	assert_true(iov_cur_read(&c, got, 2));
	assert_true(iov_cur_read(&c, got, 3));
	assert_memory_equal(got, "cde", 3);
	assert_false(iov_cur_read(&c, got, 3));
	assert_int_equal(c.left_bytes, 2);
	assert_true(iov_cur_skip(&c, 2));
	assert_false(iov_cur_skip(&c, 1));
}

static void tail_is_split_over_elements(void **state)
{
	char a[] = "abc", b[] = "d";
	struct iovec iov[] = { { a, 3 }, { b, 1 } }, tail[2];
	struct iov_cur c;

	iov_cur_init(&c, iov, 2, 4);
	assert_true(iov_cur_skip(&c, 1));
	assert_int_equal(iov_cur_split_tail(&c, 2, tail, 1), 0);
	assert_int_equal(iov_cur_split_tail(&c, 4, tail, 2), 0);
	assert_int_equal(c.left_bytes, 3);
	assert_int_equal(iov_cur_split_tail(&c, 2, tail, 2), 2);
	assert_ptr_equal(tail[0].iov_base, a + 2);
	assert_int_equal(tail[0].iov_len, 1);
	assert_int_equal(c.left_bytes, 1);
	assert_int_equal(c.count, 1);
	assert_int_equal(iov_cur_split_tail(&c, 1, tail, 2), 1);
	assert_ptr_equal(tail[0].iov_base, a + 1);
	assert_int_equal(c.count, 0);
}

static void zero_and_write_cover_pieces_and_nothing_else(void **state)
{
	char a[] = "abc", b[] = "defg", c0[] = "hij";
	struct iovec iov[] = { { a, 3 }, { NULL, 0 }, { b, 4 }, { c0, 2 } };
	struct iov_cur c;

	iov_cur_init(&c, iov, 4, 9);
	assert_true(iov_cur_skip(&c, 1));
	assert_true(iov_cur_write_slow(&c, "12345", 5));
	assert_memory_equal(a, "a12", 3);
	assert_memory_equal(b, "345g", 4);
	assert_false(iov_cur_write_slow(&c, "xxxx", 4));
	assert_false(iov_cur_zero(&c, 4));
	assert_memory_equal(b, "345g", 4);
	assert_int_equal(c.left_bytes, 3);
	assert_true(iov_cur_zero(&c, 0));
	assert_true(iov_cur_zero(&c, 3));
	assert_memory_equal(b, "345\0", 4);
	assert_memory_equal(c0, "\0\0j", 3);
	assert_int_equal(c.left_bytes, 0);
	assert_int_equal(c.count, 0);
	assert_false(iov_cur_zero(&c, 1));
	assert_true(iov_cur_zero(&c, 0));
}

static void rest_after_a_partial_read_begins_where_the_read_ended(void **state)
{
	char a[] = "abc", b[] = "defg", got[2];
	struct iovec iov[] = { { a, 3 }, { b, 4 } }, *rest;
	struct iov_cur c;

	iov_cur_init(&c, iov, 2, 7);
	assert_true(iov_cur_read(&c, got, 2));
	assert_int_equal(iov_cur_rest(&c, &rest), 2);
	assert_ptr_equal(rest, iov);
	assert_ptr_equal(rest[0].iov_base, a + 2);
	assert_int_equal(rest[0].iov_len, 1);
	assert_ptr_equal(rest[1].iov_base, b);
	assert_int_equal(rest[1].iov_len, 4);
	assert_int_equal(c.left_bytes, 0);
	assert_int_equal(iov_cur_rest(&c, &rest), 0);
	assert_false(iov_cur_read(&c, got, 1));
}

static void rest_after_a_whole_element_begins_with_the_next(void **state)
{
	char a[] = "abc", b[] = "defg", got[3];
	struct iovec iov[] = { { a, 3 }, { b, 4 } }, *rest;
	struct iov_cur c;

	iov_cur_init(&c, iov, 2, 7);
	assert_true(iov_cur_read(&c, got, 3));
	assert_int_equal(iov_cur_rest(&c, &rest), 1);
	assert_ptr_equal(rest[0].iov_base, b);
	assert_int_equal(rest[0].iov_len, 4);
}

static void copies_in_and_out_work_at_any_offset(void **state)
{
	char a[4], b[1], c0[5], flat[11], got[11];
	struct iovec iov[] = { { a, 4 }, { b, 1 }, { NULL, 0 }, { c0, 5 } };

	assert_int_equal(iov_bytes(iov, 4), 10);
	assert_int_equal(iov_bytes(NULL, 0), 0);
	for (uint32_t off = 0; off <= 10; off++) {
		for (uint32_t len = 0; off + len <= 10; len++) {
			iov_copy_in(iov, 4, 0, "..........", 10);
			iov_copy_in(iov, 4, off, "0123456789", len);
			memset(flat, '.', sizeof(flat));
			memcpy(flat + off, "0123456789", len);
			iov_copy_out(iov, 4, 0, got, 10);
			assert_memory_equal(got, flat, 10);
			memset(got, '#', sizeof(got));
			iov_copy_out(iov, 4, off, got, len);
			assert_memory_equal(got, "0123456789", len);
			assert_int_equal(got[len], '#');
		}
	}
}

/* The cursor's next 4 bytes in pieces of 2, 0, 1 and 1, the first element read up to skip_bytes. */
static void split_case(uint32_t skip_bytes, uint64_t tail_bytes, uint32_t want_count)
{
	char a[] = "..ab", b[] = "c", d[] = "d", got[4], want[] = "abcd";
	struct iovec iov[] = { { a, 4 }, { NULL, 0 }, { b, 1 }, { d, 1 } }, tail[4];
	struct iov_cur c;

	iov[0].iov_base = a + 2 - skip_bytes;
	iov[0].iov_len = 2 + skip_bytes;
	iov_cur_init(&c, iov, 4, 4 + skip_bytes);
	assert_true(iov_cur_skip(&c, skip_bytes));
	assert_int_equal(iov_cur_split_tail(&c, tail_bytes, tail, 4), want_count);
	assert_int_equal(c.left_bytes, 4 - tail_bytes);
	assert_int_equal(iov_bytes(tail, want_count), tail_bytes);
	iov_copy_out(tail, want_count, 0, got, tail_bytes);
	assert_memory_equal(got, want + 4 - tail_bytes, tail_bytes);
	assert_true(iov_cur_read(&c, got, 4 - tail_bytes));
	assert_memory_equal(got, want, 4 - tail_bytes);
	assert_int_equal(c.left_bytes, 0);
	assert_false(iov_cur_read(&c, got, 1));
}

static void tail_and_rest_share_the_bytes_wherever_the_cut_falls(void **state)
{
	for (uint32_t skip_bytes = 0; skip_bytes <= 2; skip_bytes++) {
		split_case(skip_bytes, 1, 1);
		split_case(skip_bytes, 2, 2);
		split_case(skip_bytes, 3, 4);
		split_case(skip_bytes, 4, 4);
	}
}

static void a_tail_that_cannot_be_split_leaves_everything_untouched(void **state)
{
	static const struct {
		uint64_t tail_bytes;
		uint32_t max;
	} bad[] = { { 0, 2 }, { 4, 1 }, { 5, 2 }, { 6, 2 }, { 7, 4 }, { UINT64_MAX, 4 }, { 1, 0 } };
	char a[] = "abc", b[] = "de", d[] = "fg";
	struct iovec iov[] = { { a, 3 }, { b, 2 }, { d, 2 } }, tail[4], tail_before[4];
	struct iovec iov_before[ARRAY_SIZE(iov)];
	struct iov_cur c, c_before;

	iov_cur_init(&c, iov, 3, 7);
	assert_true(iov_cur_skip(&c, 1));
	memset(tail, 0x5a, sizeof(tail));
	memcpy(iov_before, iov, sizeof(iov));
	memcpy(tail_before, tail, sizeof(tail));
	c_before = c;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(iov_cur_split_tail(&c, bad[i].tail_bytes, tail, bad[i].max), 0);
		assert_memory_equal(iov, iov_before, sizeof(iov));
		assert_memory_equal(tail, tail_before, sizeof(tail));
		assert_ptr_equal(c.iov, c_before.iov);
		assert_int_equal(c.count, c_before.count);
		assert_int_equal(c.skip_bytes, c_before.skip_bytes);
		assert_int_equal(c.left_bytes, c_before.left_bytes);
	}
	assert_memory_equal(a, "abc", 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_and_skips_cross_elements_and_stop_at_the_end),
		cmocka_unit_test(tail_is_split_over_elements),
		cmocka_unit_test(zero_and_write_cover_pieces_and_nothing_else),
		cmocka_unit_test(rest_after_a_partial_read_begins_where_the_read_ended),
		cmocka_unit_test(rest_after_a_whole_element_begins_with_the_next),
		cmocka_unit_test(copies_in_and_out_work_at_any_offset),
		cmocka_unit_test(tail_and_rest_share_the_bytes_wherever_the_cut_falls),
		cmocka_unit_test(a_tail_that_cannot_be_split_leaves_everything_untouched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
