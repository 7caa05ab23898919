#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/parcel_rig.h"

static int null_open(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* Two values, a text, no text, a descriptor and none. */
static void fill(struct parcel *p, int fd)
{
	struct parcel_section s;

	parcel_init(p);
	parcel_section_begin(p, &s, "outr", 2);
	parcel_put_u32(p, 7);
	parcel_put_str(p, "seven");
	parcel_put_str(p, NULL);
	parcel_put_fd(p, fd);
	parcel_put_fd(p, -1);
	parcel_put_u64(p, 1ull << 40);
	parcel_section_done(p, &s);
	assert_false(p->failed);
}

static void what_was_put_is_taken_in_order(void **state)
{
	struct parcel out, in;
	struct parcel_section s;
	struct err err = { 0 };
	int fd = null_open(), got;
	char *text;

	fill(&out, fd);
	parcel_arrives(&out, &in);
	assert_true(parcel_section_is_next(&in, "outr"));
	assert_int_equal(parcel_section_enter(&in, &s, "outr", 3, &err), 0);
	assert_int_equal(s.version, 2);
	assert_int_equal(parcel_take_u32(&in), 7);
	text = parcel_take_str(&in);
	assert_string_equal(text, "seven");
	free(text);
	assert_null(parcel_take_str(&in));
	got = parcel_take_fd(&in);
	assert_true(is_open(got) && got != fd);
	assert_int_equal(parcel_take_fd(&in), -1);
	assert_int_equal(parcel_take_u64(&in), 1ull << 40);
	assert_int_equal(parcel_section_end(&in, &s, "outr", &err), 0);
	assert_false(parcel_section_is_next(&in, "outr"));
	parcel_fini(&in);
	assert_true(is_open(got)); /* taken: the taker's */
	close(got);
	parcel_fini(&out);
	assert_true(is_open(fd)); /* borrowed */
	close(fd);
}

static void descriptors_that_nobody_took_are_closed(void **state)
{
	struct parcel out, in;
	struct parcel_section s;
	struct err err = { 0 };
	int fd = null_open(), theirs;

	fill(&out, fd);
	parcel_arrives(&out, &in);
	theirs = in.fds[0];
	parcel_fini(&in);
	assert_false(is_open(theirs));
	parcel_arrives(&out, &in);
	theirs = in.fds[0];
	assert_int_equal(parcel_section_enter(&in, &s, "outr", 2, &err), 0);
	assert_int_equal(parcel_section_end(&in, &s, "outr", &err), 0);
	assert_false(is_open(theirs)); /* passed over with its section */
	parcel_fini(&in);
	parcel_fini(&out);
	close(fd);
}

static void a_reader_passes_over_what_a_newer_writer_added(void **state)
{
	struct parcel p;
	struct parcel_section outer, inner;
	struct err err = { 0 };

	parcel_init(&p);
	parcel_section_begin(&p, &outer, "list", 1);
	for (uint32_t i = 0; i < 2; i++) {
		parcel_section_begin(&p, &inner, "item", 1);
		parcel_put_u32(&p, i);
		parcel_put_str(&p, "more than the reader knows");
		parcel_section_done(&p, &inner);
	}
	parcel_section_done(&p, &outer);
	parcel_rewind(&p);
	assert_int_equal(parcel_section_enter(&p, &outer, "list", 1, &err), 0);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(parcel_section_enter(&p, &inner, "item", 1, &err), 0);
		assert_int_equal(parcel_take_u32(&p), i);
		assert_int_equal(parcel_section_end(&p, &inner, "item", &err), 0);
	}
	assert_int_equal(parcel_section_enter(&p, &inner, "item", 1, &err), -EPROTO);
	assert_string_equal(err.msg, "hand-over: section 'item': it is not there");
	parcel_fini(&p);
}

static void a_reader_does_without_what_an_older_writer_has_not(void **state)
{
	for (uint32_t newer = 0; newer < 2; newer++) {
		struct parcel p, came;
		struct parcel_section s;
		struct err err = { 0 };

		parcel_init(&p);
		parcel_section_begin(&p, &s, "sect", 1);
		parcel_put_u32(&p, 1);
		if (newer)
			parcel_put_u32(&p, 2);
		parcel_section_done(&p, &s);
		parcel_put_u32(&p, 3); /* of what is around it */
		parcel_arrives(&p, &came);
		parcel_fini(&p);
		assert_int_equal(parcel_section_enter(&came, &s, "sect", 1, &err), 0);
		assert_int_equal(parcel_take_u32(&came), 1);
		assert_int_equal(parcel_section_has_more(&came), newer);
		if (newer)
			assert_int_equal(parcel_take_u32(&came), 2);
		assert_false(parcel_section_has_more(&came));
		assert_int_equal(parcel_section_end(&came, &s, "sect", &err), 0);
		assert_int_equal(parcel_take_u32(&came), 3);
		parcel_take_u32(&came);
		assert_true(came.failed);
		assert_false(parcel_section_has_more(&came));
		parcel_fini(&came);
	}
}

static void another_section_and_a_newer_version_are_refused_by_name(void **state)
{
	struct parcel p;
	struct parcel_section s;
	struct err err = { 0 };

	fill(&p, -1);
	parcel_rewind(&p);
	assert_int_equal(parcel_section_enter(&p, &s, "othr", 2, &err), -EPROTO);
	assert_string_equal(err.msg, "hand-over: section 'othr': another one is in its place");
	assert_true(p.failed);
	p.failed = false;
	parcel_rewind(&p);
	assert_int_equal(parcel_section_enter(&p, &s, "outr", 1, &err), -EPROTO);
	assert_string_equal(err.msg, "hand-over: section 'outr': expected version 1..1, got 2");
	parcel_fini(&p);
}

static void nothing_is_read_beyond_a_section(void **state)
{
	struct parcel p;
	struct parcel_section s;
	struct err err = { 0 };
	uint8_t zeroes[16] = { 0 }, got[16];

	fill(&p, -1);
	parcel_put(&p, "after it 0123456789", 20);
	parcel_rewind(&p);
	assert_int_equal(parcel_section_enter(&p, &s, "outr", 2, &err), 0);
	assert_true(parcel_take(&p, got, 16));
	memset(got, 1, sizeof(got));
	for (uint32_t i = 0; i < 5; i++)
		parcel_take(&p, got, 16);
	assert_memory_equal(got, zeroes, 16);
	assert_true(p.failed);
	assert_int_equal(parcel_take_u64(&p), 0);
	assert_null(parcel_take_str(&p));
	assert_int_equal(parcel_take_fd(&p), -1);
	assert_int_equal(parcel_section_end(&p, &s, "outr", &err), -EPROTO);
	assert_string_equal(err.msg, "hand-over: section 'outr': it is cut off, or a value is out "
				     "of range");
	parcel_fini(&p);
}

static void counts_and_booleans_out_of_range_fail(void **state)
{
	struct parcel p;

	parcel_init(&p);
	parcel_put_u32(&p, 5);
	parcel_rewind(&p);
	assert_int_equal(parcel_take_count(&p, 5), 5);
	parcel_rewind(&p);
	assert_int_equal(parcel_take_count(&p, 4), 0);
	assert_true(p.failed);
	p.failed = false;
	parcel_rewind(&p);
	assert_false(parcel_take_bool(&p));
	assert_true(p.failed);
	parcel_fini(&p);
}

/* Each byte of a good parcel gets other values, and it is cut at each length. */
static void no_bytes_make_a_reader_leave_what_came(void **state)
{
	struct parcel good, p;
	struct parcel_section s;
	struct err err = { 0 };
	int fd = null_open();

	fill(&good, fd);
	for (size_t at = 0; at < good.len * 4; at++) {
		struct parcel in;
		const uint8_t values[] = { 0, 0x7f, 0x80, 0xff };

		parcel_arrives(&good, &in);
		in.bytes[at / 4] = values[at % 4];
		if (parcel_section_enter(&in, &s, "outr", 2, &err) == 0) {
			int got;

			parcel_take_u32(&in);
			free(parcel_take_str(&in));
			free(parcel_take_str(&in));
			got = parcel_take_fd(&in);
			if (got >= 0)
				close(got);
			parcel_take_fd(&in);
			parcel_take_u64(&in);
			(void)parcel_section_end(&in, &s, "outr", &err);
		}
		parcel_fini(&in);
	}
	for (size_t len = 0; len < good.len; len++) {
		int one = dup(fd);

		assert_int_equal(parcel_open(&p, good.bytes, len, &one, 1, &err), 0);
		assert_int_equal(parcel_section_enter(&p, &s, "outr", 2, &err), -EPROTO);
		parcel_fini(&p);
	}
	parcel_fini(&good);
	close(fd);
}

static void a_parcel_has_limits(void **state)
{
	struct parcel p;
	struct err err = { 0 };

	assert_int_equal(parcel_open(&p, NULL, (size_t)PARCEL_BYTES_MAX + 1, NULL, 0, &err),
			 -E2BIG);
	assert_non_null(strstr(err.msg, "expected at most 268435456 bytes"));
	parcel_fini(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_is_taken_in_order),
		cmocka_unit_test(descriptors_that_nobody_took_are_closed),
		cmocka_unit_test(a_reader_passes_over_what_a_newer_writer_added),
		cmocka_unit_test(a_reader_does_without_what_an_older_writer_has_not),
		cmocka_unit_test(another_section_and_a_newer_version_are_refused_by_name),
		cmocka_unit_test(nothing_is_read_beyond_a_section),
		cmocka_unit_test(counts_and_booleans_out_of_range_fail),
		cmocka_unit_test(no_bytes_make_a_reader_leave_what_came),
		cmocka_unit_test(a_parcel_has_limits),
	};

	return cmocka_run_group_tests_name("base / parcel", tests, NULL, NULL);
}
