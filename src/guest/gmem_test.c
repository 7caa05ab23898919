#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <sys/mman.h>
#include <unistd.h>

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

static void contiguous_pieces_are_merged(void **state)
{
	/* Both halves lie in one page of the file, hence in one mapping. */
	int fd = memfd(PAGE), fds[] = { fd, fd };
	struct gmem_region_desc d[] = { { 0x1000, 2048, 0x91000, 0 },
					{ 0x1800, 2048, 0x91800, 2048 } };
	struct iovec iov[1];
	struct gmem *map;
	uint32_t hint = 0;

	assert_int_equal(gmem_new(d, fds, 2, &map, NULL), 0);
	assert_int_equal(gmem_translate(map, gpa(0x1700), 0x200, iov, 1, &hint), 1);
	assert_ptr_equal(iov[0].iov_base, map->regions[0].base + 0x700);
	assert_int_equal(iov[0].iov_len, 0x200);
	assert_int_equal(gmem_translate(map, gpa(0x1000), PAGE, iov, 1, &hint), 1);
	assert_int_equal(gmem_translate(map, gpa(0x1000), PAGE + 1, iov, 1, &hint), 0);
	gmem_unref(map);
	close(fd);
}

static void look_ups_refuse_a_tail_that_is_not_mapped(void **state)
{
	int fd = memfd(2 * PAGE);
	struct gmem_region_desc d = { 0x1000, 2 * PAGE, 0x91000, 0 };
	struct gmem *map;
	struct gpa addr = gpa(7);
	char *base;

	assert_int_equal(gmem_new(&d, &fd, 1, &map, NULL), 0);
	base = map->regions[0].base;
	assert_ptr_equal(gmem_uva_to_host(map, uva(0x91000), 2 * PAGE), base);
	assert_ptr_equal(gmem_uva_to_host(map, uva(0x92fff), 1), base + 2 * PAGE - 1);
	assert_null(gmem_uva_to_host(map, uva(0x91000), 2 * PAGE + 1));
	assert_null(gmem_uva_to_host(map, uva(0x92fff), 2));
	assert_null(gmem_uva_to_host(map, uva(0x93000), 1));
	assert_null(gmem_uva_to_host(map, uva(0x90fff), 2));
	assert_null(gmem_uva_to_host(map, uva(0x91000), 0));
	assert_null(gmem_uva_to_host(map, uva(0x91001), UINT64_MAX));
	assert_null(gmem_uva_to_host(map, uva(UINT64_MAX), UINT64_MAX));
	assert_ptr_equal(gmem_gpa_to_host(map, gpa(0x1000), 2 * PAGE), base);
	assert_ptr_equal(gmem_gpa_to_host(map, gpa(0x2fff), 1), base + 2 * PAGE - 1);
	assert_null(gmem_gpa_to_host(map, gpa(0x1000), 2 * PAGE + 1));
	assert_null(gmem_gpa_to_host(map, gpa(0x2fff), 2));
	assert_null(gmem_gpa_to_host(map, gpa(0x3000), 1));
	assert_null(gmem_gpa_to_host(map, gpa(0xfff), 2));
	assert_null(gmem_gpa_to_host(map, gpa(0x1000), 0));
	assert_null(gmem_gpa_to_host(map, gpa(0x1001), UINT64_MAX));
	assert_false(gmem_uva_to_gpa(map, uva(0x92fff), 2, &addr));
	assert_false(gmem_uva_to_gpa(map, uva(0x1000), 1, &addr));
	assert_int_equal(addr.v, 7);
	assert_true(gmem_uva_to_gpa(map, uva(0x92fff), 1, &addr));
	assert_int_equal(addr.v, 0x2fff);
	assert_false(gmem_host_to_gpa(map, base - 1, &addr));
	assert_false(gmem_host_to_gpa(map, base + 2 * PAGE, &addr));
	assert_true(gmem_host_to_gpa(map, base + 2 * PAGE - 1, &addr));
	assert_int_equal(addr.v, 0x2fff);
	assert_true(gmem_host_to_gpa(map, base, &addr));
	assert_int_equal(addr.v, 0x1000);
	gmem_unref(map);
	close(fd);
}

static void single_region_look_ups_refuse_a_range_over_two_regions(void **state)
{
	int fd = memfd(2 * PAGE), fds[] = { fd, fd };
	struct gmem_region_desc d[] = { { 0x1000, PAGE, 0x91000, 0 },
					{ 0x2000, PAGE, 0x92000, PAGE } };
	struct gmem *map;

	assert_int_equal(gmem_new(d, fds, 2, &map, NULL), 0);
	assert_null(gmem_uva_to_host(map, uva(0x91fff), 2));
	assert_null(gmem_gpa_to_host(map, gpa(0x1fff), 2));
	assert_ptr_equal(gmem_gpa_to_host(map, gpa(0x2000), PAGE), map->regions[1].base);
	gmem_unref(map);
	close(fd);
}

static void adding_and_removing_make_new_maps_and_keep_the_old(void **state)
{
	int fd = memfd(2 * PAGE);
	struct gmem_region_desc low = { 0x1000, PAGE, 0x91000, 0 };
	struct gmem_region_desc high = { 0x8000, PAGE, 0x98000, PAGE };
	struct gmem_region_desc wrong = { 0x1000, PAGE, 0x98000, 0 };
	struct gmem *one, *two, *rest, *none, *untouched = NULL;
	struct err e = { 0 };

	assert_int_equal(gmem_new(&high, &fd, 1, &one, NULL), 0);
	assert_int_equal(gmem_new_with(one, &low, fd, &two, NULL), 0);
	assert_int_equal(one->count, 1);
	assert_int_equal(two->count, 2);
	assert_int_equal(two->regions[0].gpa, 0x1000);
	assert_ptr_equal(two->regions[1].base, one->regions[0].base);
	assert_int_equal(gmem_new_without(two, &wrong, &untouched, &e), -ENOENT);
	assert_string_equal(e.msg, "memory region: none at guest 0x1000 user 0x98000 size 0x1000");
	assert_null(untouched);
	assert_int_equal(gmem_new_without(two, &high, &rest, NULL), 0);
	gmem_unref(one);
	gmem_unref(two);
	assert_int_equal(rest->count, 1);
	assert_null(gmem_region_find(rest, gpa(0x8000)));
	memset(gmem_gpa_to_host(rest, gpa(0x1000), PAGE), 1, PAGE);
	assert_int_equal(gmem_new_without(rest, &low, &none, NULL), 0);
	gmem_unref(rest);
	assert_int_equal(none->count, 0);
	assert_null(gmem_region_find(none, gpa(0x1000)));
	gmem_unref(none);
	close(fd);
}

static void as_many_regions_as_announced_fit_and_no_more(void **state)
{
	struct gmem_region_desc d[GMEM_REGIONS_MAX + 1];
	int fds[GMEM_REGIONS_MAX + 1], fd = memfd(PAGE);
	struct gmem *map, *none = NULL;
	struct err e = { 0 };

	for (uint32_t i = 0; i < ARRAY_SIZE(d); i++) {
		d[i] = (struct gmem_region_desc){ i * PAGE, PAGE, i * PAGE, 0 };
		fds[i] = fd;
	}
	assert_int_equal(gmem_new(d, fds, GMEM_REGIONS_MAX + 1, &none, &e), -EINVAL);
	assert_string_equal(e.msg, "memory regions: expected at most 509, got 510");
	assert_int_equal(gmem_new(d, fds, GMEM_REGIONS_MAX, &map, NULL), 0);
	assert_int_equal(gmem_new_with(map, &d[GMEM_REGIONS_MAX], fd, &none, &e), -EINVAL);
	assert_string_equal(e.msg, "memory regions: expected at most 509, got 510");
	assert_null(none);
	assert_non_null(gmem_gpa_to_host(map, gpa((GMEM_REGIONS_MAX - 1) * PAGE), PAGE));
	gmem_unref(map);
	close(fd);
}

static void bad_regions_are_refused_by_name(void **state)
{
	/* clang-format off */
	static const struct {
		struct gmem_region_desc d;
		const char *text;
	} bad[] = {
		{ { 0x8000, 0, 0x8000, 0 }, "memory region: size: expected at least 1, got 0" },
		{ { UINT64_MAX - 1, PAGE, 0x8000, 0 },
		  "memory region: guest address 0xfffffffffffffffe + size 0x1000 wraps" },
		{ { 0x8000, PAGE, UINT64_MAX - 1, 0 },
		  "memory region: user address 0xfffffffffffffffe + size 0x1000 wraps" },
		{ { 0x8000, UINT64_MAX, 0, 0 },
		  "memory region: guest address 0x8000 + size 0xffffffffffffffff wraps" },
		{ { 0x1800, PAGE, 0x98000, 0 },
		  "memory region: guest address 0x1800 size 0x1000 overlaps 0x1000 size 0x1000" },
		{ { 0, 0x1001, 0x98000, 0 },
		  "memory region: guest address 0x0 size 0x1001 overlaps 0x1000 size 0x1000" },
		{ { 0x8000, PAGE, 0x91fff, 0 },
		  "memory region: user address 0x91fff size 0x1000 overlaps 0x91000 size 0x1000" },
		{ { 0x8000, PAGE, 0x98000, PAGE + 1 },
		  "memory region: offset + size: expected at most the file's 8192 bytes, "
		  "got 8193" },
		{ { 0x8000, PAGE, 0x98000, UINT64_MAX - 1 },
		  "memory region: offset 0xfffffffffffffffe + size 0x1000 wraps" },
	};
	/* clang-format on */
	int fd = memfd(2 * PAGE);
	struct gmem_region_desc d = { 0x1000, PAGE, 0x91000, 0 };
	struct gmem *a, *b = NULL;
	struct err e = { 0 };

	assert_int_equal(gmem_new(&d, &fd, 1, &a, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(gmem_new_with(a, &bad[i].d, fd, &b, &e), -EINVAL);
		assert_string_equal(e.msg, bad[i].text);
		assert_null(b);
	}
	gmem_unref(a);
	close(fd);
}

static void descriptors_that_cannot_be_guest_memory_are_refused(void **state)
{
	struct gmem_region_desc d[] = { { 0x1000, PAGE, 0x1000, 0 }, { 0x8000, PAGE, 0x8000, 0 } };
	int fd = memfd(PAGE), pipes[2], fds[2], read_only;
	struct gmem *map = NULL;
	struct err e = { 0 };
	char path[64];

	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(gmem_new(d, pipes, 1, &map, &e), -EINVAL);
	assert_string_equal(e.msg, "memory region 0: fd: expected a memfd or a regular file, got "
				   "file type 010000");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read_only >= 0);
	fds[0] = fd;
	fds[1] = read_only;
	assert_int_equal(gmem_new(d, fds, 2, &map, &e), -EINVAL);
	assert_string_equal(e.msg, "memory region 1: fd: expected open for reading and writing");
	fds[1] = -1;
	assert_int_equal(gmem_new(d, fds, 2, &map, &e), -EBADF);
	assert_null(map);
	close(read_only);
	close(pipes[0]);
	close(pipes[1]);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(translate_spans_adjacent_regions_and_refuses_gaps),
		cmocka_unit_test(same_piece_is_mapped_once),
		cmocka_unit_test(contiguous_pieces_are_merged),
		cmocka_unit_test(look_ups_refuse_a_tail_that_is_not_mapped),
		cmocka_unit_test(single_region_look_ups_refuse_a_range_over_two_regions),
		cmocka_unit_test(adding_and_removing_make_new_maps_and_keep_the_old),
		cmocka_unit_test(as_many_regions_as_announced_fit_and_no_more),
		cmocka_unit_test(bad_regions_are_refused_by_name),
		cmocka_unit_test(descriptors_that_cannot_be_guest_memory_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
