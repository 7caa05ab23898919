#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/parcel.h"
#include "guest/gdirty.h"
#include "guest/gmem.h"

#define PAGE 4096

static int memfd(size_t len)
{
	int fd = memfd_create("gmem", 0);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, len), 0);
	return fd;
}

static void dirty_bits_cover_each_page_and_stop_at_the_end(void **state)
{
	int fd = memfd(PAGE);
	struct gdirty *log;

	assert_int_equal(gdirty_new(fd, 2, 100, &log, NULL), 0);
	gdirty_mark(log, gpa(0), 0);
	assert_int_equal(log->map[0], 0);
	gdirty_mark(log, gpa(7 * PAGE + 4095), 2);
	assert_int_equal(log->map[0], 0x80);
	assert_int_equal(log->map[1], 0x01);
	gdirty_mark(log, gpa(15 * PAGE), 3 * PAGE);
	assert_int_equal(log->map[1], 0x81);
	assert_int_equal(log->map[2], 0);
	assert_int_equal(log->dropped_pages, 2);
	gdirty_mark(log, gpa(UINT64_MAX), UINT64_MAX);
	assert_int_equal(log->map[2], 0);
	gdirty_unref(log);
	close(fd);
}

static void a_log_beyond_its_file_or_without_size_is_refused(void **state)
{
	int fd = memfd(PAGE);
	struct gdirty *log = NULL;
	struct err e = { 0 };

	assert_int_equal(gdirty_new(fd, 0, 0, &log, &e), -EINVAL);
	assert_string_equal(e.msg, "dirty log: size: expected at least 1, got 0");
	assert_int_equal(gdirty_new(fd, PAGE, 1, &log, &e), -EINVAL);
	assert_string_equal(e.msg, "dirty log: offset + size: expected at most the file's 4096 "
				   "bytes, got 4097");
	assert_null(log);
	close(fd);
}

static void pieces_are_marked_by_guest_address_up_to_the_length(void **state)
{
	int fd = memfd(4 * PAGE), log_fd = memfd(PAGE), fds[] = { fd, fd };
	struct gmem_region_desc d[] = { { PAGE, PAGE, PAGE, 0 },
					{ 3 * PAGE, 3 * PAGE, 3 * PAGE, PAGE } };
	struct gdirty *log;
	struct iovec iov[3];
	struct gmem *map;
	char elsewhere[10];

	assert_int_equal(gmem_new(d, fds, 2, &map, NULL), 0);
	assert_int_equal(gdirty_new(log_fd, 2, 0, &log, NULL), 0);
	iov[0] = (struct iovec){ map->regions[0].base + 100, 10 };
	iov[1] = (struct iovec){ map->regions[1].base + PAGE - 1, 2 };
	iov[2] = (struct iovec){ elsewhere, sizeof(elsewhere) };
	gdirty_mark_iov(log, map, iov, 3, 0);
	assert_int_equal(log->map[0], 0);
	gdirty_mark_iov(log, map, iov, 3, 10);
	assert_int_equal(log->map[0], 1 << 1);
	gdirty_mark_iov(log, map, iov, 3, 11);
	assert_int_equal(log->map[0], 1 << 1 | 1 << 3);
	gdirty_mark_iov(log, map, iov, 3, UINT64_MAX);
	assert_int_equal(log->map[0], 1 << 1 | 1 << 3 | 1 << 4);
	assert_int_equal(log->dropped_pages, 0);
	gdirty_unref(log);
	gmem_unref(map);
	close(fd);
	close(log_fd);
}

static void memory_seen_at_two_guest_addresses_is_marked_at_both(void **state)
{
	int fd = memfd(PAGE), log_fd = memfd(PAGE), fds[] = { fd, fd };
	struct gmem_region_desc d[] = { { PAGE, PAGE, PAGE, 0 }, { 5 * PAGE, PAGE, 5 * PAGE, 0 } };
	struct gdirty *log;
	struct iovec iov;
	struct gmem *map;

	assert_int_equal(gmem_new(d, fds, 2, &map, NULL), 0);
	assert_int_equal(gdirty_new(log_fd, 2, 0, &log, NULL), 0);
	iov = (struct iovec){ map->regions[0].base, 1 };
	gdirty_mark_iov(log, map, &iov, 1, 1);
	assert_int_equal(log->map[0], 1 << 1 | 1 << 5);
	gdirty_unref(log);
	gmem_unref(map);
	close(fd);
	close(log_fd);
}

static void a_truncated_log_is_lost_and_marking_goes_on(void **state)
{
	int fd = memfd(2 * PAGE);
	struct gdirty *log;

	assert_int_equal(gmem_fault_install(-1, NULL), 0);
	assert_int_equal(gdirty_new(fd, 2 * PAGE, 0, &log, NULL), 0);
	gdirty_mark(log, gpa(0), 1);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_false(gdirty_lost(log));
	gdirty_mark(log, gpa(0), 1);
	assert_true(gdirty_lost(log));
	gdirty_mark(log, gpa(PAGE * 8ull * PAGE), 1);
	assert_int_equal(log->map[PAGE], 1);
	gdirty_unref(log);
	close(fd);
}

static void a_log_of_our_own_has_its_range_and_gives_each_page_once(void **state)
{
	const uint64_t first = 5ull << 40;
	struct gdirty *log;
	struct gpa page = gpa(0);

	assert_int_equal(gdirty_new_private(first, 1000 * PAGE, &log, NULL), 0);
	assert_false(gdirty_lost(log));
	assert_true(gdirty_covers(log, gpa(first), 1000 * PAGE));
	assert_false(gdirty_covers(log, gpa(first - 1), 1));
	assert_false(gdirty_covers(log, gpa(first), 2000 * PAGE));
	assert_false(gdirty_take(log, gpa(0), gpa(UINT64_MAX), &page));
	gdirty_mark(log, gpa(first - 2 * PAGE), 3 * PAGE); /* two of them are outside */
	gdirty_mark(log, gpa(0), PAGE);
	assert_int_equal(log->dropped_pages, 3);
	gdirty_mark(log, gpa(first + 130 * PAGE + 5), 1);
	gdirty_mark(log, gpa(first + 999 * PAGE), 1);
	assert_true(gdirty_take(log, gpa(0), gpa(UINT64_MAX), &page));
	assert_int_equal(page.v, first);
	assert_false(gdirty_take(log, gpa(first), gpa(first + 130 * PAGE), &page));
	assert_true(gdirty_take(log, gpa(first), gpa(first + 130 * PAGE + 1), &page));
	assert_int_equal(page.v, first + 130 * PAGE);
	assert_true(gdirty_take(log, gpa(first), gpa(UINT64_MAX), &page));
	assert_int_equal(page.v, first + 999 * PAGE);
	assert_false(gdirty_take(log, gpa(0), gpa(UINT64_MAX), &page));
	gdirty_unref(log);
}

static void a_larger_log_takes_over_the_marks_of_a_smaller_one(void **state)
{
	struct gdirty *small, *large;
	struct gpa page;

	assert_int_equal(gdirty_new_private(64 * PAGE, 100 * PAGE, &small, NULL), 0);
	assert_int_equal(gdirty_new_private(0, 1000 * PAGE, &large, NULL), 0);
	gdirty_mark(small, gpa(64 * PAGE), PAGE);
	gdirty_mark(small, gpa(163 * PAGE), PAGE);
	gdirty_merge(large, small);
	assert_true(gdirty_take(large, gpa(0), gpa(UINT64_MAX), &page));
	assert_int_equal(page.v, 64 * PAGE);
	assert_true(gdirty_take(large, gpa(0), gpa(UINT64_MAX), &page));
	assert_int_equal(page.v, 163 * PAGE);
	assert_false(gdirty_take(large, gpa(0), gpa(UINT64_MAX), &page));
	gdirty_unref(small);
	gdirty_unref(large);
}

static void a_log_of_our_own_is_the_same_in_another_process(void **state)
{
	const uint64_t first = 64 * PAGE;
	struct gdirty *log, *other;
	struct err err = { 0 };
	struct parcel p;
	struct gpa page;

	assert_int_equal(gdirty_new_private(first, 100000 * PAGE, &log, NULL), 0);
	gdirty_mark(log, gpa(first + 3 * PAGE), PAGE);
	gdirty_mark(log, gpa(first + 99999 * PAGE), PAGE);
	gdirty_mark(log, gpa(0), PAGE);
	parcel_init(&p);
	assert_int_equal(gdirty_pack(log, &p, &err), 0);
	assert_true(p.len < 2000); /* what has no marks costs nothing */
	parcel_rewind(&p);
	assert_int_equal(gdirty_unpack(&p, &other, &err), 0);
	assert_int_equal(gdirty_first(other), gdirty_first(log));
	assert_int_equal(gdirty_end(other), gdirty_end(log));
	assert_int_equal(other->dropped_pages, 1);
	assert_true(gdirty_take(other, gpa(0), gpa(UINT64_MAX), &page));
	assert_int_equal(page.v, first + 3 * PAGE);
	assert_true(gdirty_take(other, gpa(0), gpa(UINT64_MAX), &page));
	assert_int_equal(page.v, first + 99999 * PAGE);
	assert_false(gdirty_take(other, gpa(0), gpa(UINT64_MAX), &page));
	gdirty_unref(other);
	/* cut anywhere it is refused, and nothing is left of it */
	for (size_t cut = 0; cut < p.len; cut++) {
		struct parcel some;

		assert_int_equal(parcel_open(&some, p.bytes, cut, NULL, 0, &err), 0);
		assert_true(gdirty_unpack(&some, &other, &err) < 0);
		parcel_fini(&some);
	}
	parcel_fini(&p);
	gdirty_unref(log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dirty_bits_cover_each_page_and_stop_at_the_end),
		cmocka_unit_test(a_log_of_our_own_has_its_range_and_gives_each_page_once),
		cmocka_unit_test(a_larger_log_takes_over_the_marks_of_a_smaller_one),
		cmocka_unit_test(a_log_of_our_own_is_the_same_in_another_process),
		cmocka_unit_test(a_log_beyond_its_file_or_without_size_is_refused),
		cmocka_unit_test(pieces_are_marked_by_guest_address_up_to_the_length),
		cmocka_unit_test(memory_seen_at_two_guest_addresses_is_marked_at_both),
		cmocka_unit_test(a_truncated_log_is_lost_and_marking_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
