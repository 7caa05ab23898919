#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/parcel_rig.h"
#include "loop/inherit.h"

static int null_open(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

/* What is kept here comes to the successor, which is this process, too. */
static void hand_over(void)
{
	struct parcel out, in;
	struct err err = { 0 };

	parcel_init(&out);
	assert_int_equal(inherit_pack(&out, &err), 0);
	parcel_arrives(&out, &in);
	assert_int_equal(inherit_unpack(&in, &err), 0);
	parcel_fini(&in);
	parcel_fini(&out);
}

static void what_is_kept_is_taken_by_its_text_once(void **state)
{
	int a = null_open(), b = null_open(), got;

	inherit_keep(a, "image a", false, NULL);
	inherit_keep(b, "image b", false, NULL);
	hand_over();
	assert_int_equal(inherit_take("image c", NULL), -1);
	got = inherit_take("image b", NULL);
	assert_true(got >= 0 && got != b);
	close(got);
	assert_int_equal(inherit_take("image b", NULL), -1);
	assert_string_equal(inherit_left(), "image a");
	got = inherit_take("image a", NULL);
	assert_null(inherit_left());
	close(got);
	inherit_drop(a, "image a");
	inherit_drop(b, "image b");
	close(a);
	close(b);
}

static void the_same_text_twice_gives_two(void **state)
{
	int a = null_open(), got[2];

	inherit_keep(a, "image", false, NULL);
	inherit_keep(a, "image", false, NULL);
	hand_over();
	for (int i = 0; i < 2; i++)
		assert_true((got[i] = inherit_take("image", NULL)) >= 0);
	assert_int_equal(inherit_take("image", NULL), -1);
	inherit_drop(a, "image");
	inherit_drop(a, "image");
	close(a);
	close(got[0]);
	close(got[1]);
}

static void a_mark_goes_along_as_it_is_then(void **state)
{
	int a = null_open(), got;
	bool mark = false, came = true;

	inherit_keep(a, "image", false, &mark);
	hand_over();
	got = inherit_take("image", &came);
	assert_false(came);
	close(got);
	mark = true;
	hand_over();
	got = inherit_take("image", &came);
	assert_true(came);
	close(got);
	inherit_drop(a, "image");
	close(a);
}

static void what_was_closed_does_not_go_along(void **state)
{
	int a = null_open();

	inherit_keep(a, "image", false, NULL);
	inherit_rename(a, "image", "other");
	inherit_drop(a, "other");
	hand_over();
	assert_null(inherit_left());
	close(a);
}

static void memory_of_one_name_twice_is_refused(void **state)
{
	struct parcel p;
	struct err err = { 0 };
	int a = null_open(), b = null_open();

	inherit_keep(a, "memory of m0", true, NULL);
	inherit_keep(b, "memory of m1", true, NULL);
	parcel_init(&p);
	assert_int_equal(inherit_pack(&p, &err), 0);
	inherit_rename(b, "memory of m1", "memory of m0");
	assert_int_equal(inherit_pack(&p, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "memory of m0: two disks in memory have this name"));
	parcel_fini(&p);
	inherit_drop(a, "memory of m0");
	inherit_drop(b, "memory of m0");
	close(a);
	close(b);
}

static void what_has_no_descriptor_is_refused_by_name(void **state)
{
	struct parcel p;
	struct err err = { 0 };

	parcel_init(&p);
	inherit_keep(-1, "memory of m0", true, NULL);
	assert_int_equal(inherit_pack(&p, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.msg, "memory of m0: there is no descriptor of it"));
	inherit_drop(-1, "memory of m0");
	assert_int_equal(inherit_pack(&p, &err), 0);
	parcel_fini(&p);
}

static void what_nobody_took_is_closed_at_the_end(void **state)
{
	int a = null_open(), next;

	inherit_keep(a, "image", false, NULL);
	hand_over();
	inherit_drop(a, "image");
	inherit_fini();
	assert_null(inherit_left());
	next = null_open();
	assert_int_equal(next, a + 1);
	close(next);
	close(a);
}

static void no_bytes_break_it(void **state)
{
	struct parcel out, in;
	struct err err = { 0 };
	int a = null_open();

	inherit_keep(a, "image", false, NULL);
	parcel_init(&out);
	assert_int_equal(inherit_pack(&out, &err), 0);
	for (size_t at = 0; at < out.len * 8; at++) {
		int fd = fcntl(a, F_DUPFD_CLOEXEC, 3);

		assert_int_equal(parcel_open(&in, out.bytes, out.len, &fd, 1, &err), 0);
		in.bytes[at / 8] ^= (uint8_t)(1u << at % 8);
		(void)inherit_unpack(&in, &err);
		parcel_fini(&in);
		inherit_fini();
	}
	parcel_fini(&out);
	inherit_drop(a, "image");
	close(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_kept_is_taken_by_its_text_once),
		cmocka_unit_test(the_same_text_twice_gives_two),
		cmocka_unit_test(a_mark_goes_along_as_it_is_then),
		cmocka_unit_test(what_was_closed_does_not_go_along),
		cmocka_unit_test(memory_of_one_name_twice_is_refused),
		cmocka_unit_test(what_has_no_descriptor_is_refused_by_name),
		cmocka_unit_test(what_nobody_took_is_closed_at_the_end),
		cmocka_unit_test(no_bytes_break_it),
	};

	return cmocka_run_group_tests_name("loop / inherit", tests, NULL, NULL);
}
