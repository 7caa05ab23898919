#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

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

static void translate_spans_adjacent_regions_and_refuses_gaps(void **state)
{
	int fd = memfd(8 * PAGE), fds[] = { fd, fd, fd };
	struct gmem_region_desc d[] = { { 0x2000, PAGE, 0x92000, 5 * PAGE + 512 },
					{ 0x1000, PAGE, 0x91000, 0 },
					{ 0x9000, PAGE, 0x99000, 3 * PAGE } };
	struct iovec iov[2];
	struct gmem *map;
	uint32_t hint = 500;

	assert_int_equal(gmem_new(d, fds, 3, &map, NULL), 0);
	assert_int_equal(gmem_translate(map, gpa(0x1ff0), 32, iov, 2, &hint), 2);
	assert_int_equal(iov[0].iov_len, 16);
	assert_int_equal(iov[1].iov_len, 16);
	assert_int_equal(gmem_translate(map, gpa(0x1ff0), 32, iov, 1, &hint), 0);
	assert_int_equal(gmem_translate(map, gpa(0x2ff0), 32, iov, 2, &hint), 0);
	assert_int_equal(gmem_translate(map, gpa(0x1000), 0, iov, 2, &hint), 0);
	assert_int_equal(gmem_translate(map, gpa(UINT64_MAX), 2, iov, 2, &hint), 0);
	assert_int_equal(gmem_translate(map, gpa(0x9000), PAGE, iov, 2, &hint), 1);
	gmem_unref(map);
	assert_int_equal(gmem_new(NULL, NULL, 0, &map, NULL), 0);
	hint = 0;
	assert_int_equal(gmem_translate(map, gpa(0), 1, iov, 2, &hint), 0);
	gmem_unref(map);
	close(fd);
}

static void same_piece_is_mapped_once(void **state)
{
	int fd = memfd(PAGE);
	struct gmem_region_desc d = { 0, PAGE, 0, 0 };
	struct gmem *a, *b;

	assert_int_equal(gmem_new(&d, &fd, 1, &a, NULL), 0);
	assert_int_equal(gmem_new(&d, &fd, 1, &b, NULL), 0);
	assert_ptr_equal(a->regions[0].base, b->regions[0].base);
	gmem_unref(a);
	gmem_unref(b);
	close(fd);
}

static void bad_regions_are_refused_by_name(void **state)
{
	static const struct {
		struct gmem_region_desc d;
		const char *text;
	} bad[] = {
		{ { 0x8000, 0, 0x8000, 0 }, "got 0" },
		{ { UINT64_MAX - 1, PAGE, 0x8000, 0 }, "guest address" },
		{ { 0x8000, PAGE, UINT64_MAX - 1, 0 }, "user address" },
		{ { 0x1800, PAGE, 0x8000, 0 }, "overlaps" },
		{ { 0x8000, PAGE, 0x1800, 0 }, "overlaps" },
		{ { 0x8000, PAGE, 0x8000, PAGE + 1 }, "at most the file's" },
		{ { 0x8000, PAGE, 0x8000, UINT64_MAX - 1 }, "wraps" },
	};
	int fd = memfd(2 * PAGE), pipes[2];
	struct gmem_region_desc d = { 0x1000, PAGE, 0x1000, 0 };
	struct gmem *a, *b = NULL;
	struct err e = { 0 };

	assert_int_equal(gmem_new(&d, &fd, 1, &a, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(gmem_new_with(a, &bad[i].d, fd, &b, &e), -EINVAL);
		assert_non_null(strstr(e.msg, bad[i].text));
	}
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(gmem_new(&d, pipes, 1, &b, &e), -EINVAL);
	assert_int_equal(gmem_new_without(a, &bad[0].d, &b, &e), -ENOENT);
	gmem_unref(a);
	close(pipes[0]);
	close(pipes[1]);
	close(fd);
}

static void truncation_is_survived_and_wakes_main(void **state)
{
	/* On a file that cannot be sealed: memfd_create without MFD_ALLOW_SEALING. */
	int fd = memfd(4 * PAGE), wake = eventfd(0, EFD_NONBLOCK);
	struct gmem_region_desc d = { 0, 4 * PAGE, 0, 0 };
	struct gmem *map;
	uint64_t n;

	assert_int_equal(gmem_fault_install(wake, NULL), 0);
	assert_int_equal(gmem_new(&d, &fd, 1, &map, NULL), 0);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_false(gmem_lost(map));
	*(volatile char *)(map->regions[0].base + 2 * PAGE + 5) = 1;
	assert_true(gmem_lost(map));
	assert_int_equal(read(wake, &n, sizeof(n)), sizeof(n));
	gmem_unref(map);
	close(fd);
	close(wake);
}

static void dirty_bits_cover_each_page_and_stop_at_the_end(void **state)
{
	int fd = memfd(PAGE);
	struct gdirty *log;

	assert_int_equal(gdirty_new(fd, 2, 100, &log, NULL), 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(translate_spans_adjacent_regions_and_refuses_gaps),
		cmocka_unit_test(same_piece_is_mapped_once),
		cmocka_unit_test(bad_regions_are_refused_by_name),
		cmocka_unit_test(truncation_is_survived_and_wakes_main),
		cmocka_unit_test(dirty_bits_cover_each_page_and_stop_at_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
