/* The registry of bdevs: names, UUIDs, claims, users, events, and the end of each. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/text.h"
#include "dev/backend.h"
#include "dev/bdev.h"

static struct blk_dev *node(const char *params)
{
	struct blk_dev *dev;

	assert_int_equal(blk_dev_open("null", "node", params, &dev, NULL), 0);
	return dev;
}

static int frees;

static void origin_free(void *origin)
{
	frees++;
}

static int add(const struct bdev_params *p, struct bdev **ret_bdev, struct err *reterr)
{
	struct bdev_params params = *p;

	params.product = params.product ? params.product : "Null disk";
	params.origin_free = origin_free;
	return bdev_add(&params, node("size=1M"), ret_bdev, reterr);
}

static struct bdev *made(const char *name)
{
	const struct bdev_params p = { .name = name };
	struct bdev *bdev;

	assert_int_equal(add(&p, &bdev, NULL), 0);
	return bdev;
}

static int ended, ended_rc;

static void on_end(void *arg, int rc)
{
	ended++;
	ended_rc = rc;
}

static void gone(struct bdev *bdev)
{
	ended = 0;
	bdev_delete(bdev, on_end, NULL);
	assert_int_equal(ended, 1);
	assert_int_equal(ended_rc, 0);
}

static void bdev_is_found_by_name_and_by_uuid_in_order_of_creation(void **state)
{
	struct bdev *a = made("b"), *b = made("a");
	char uuid[TEXT_UUID_BYTES];

	assert_ptr_equal(bdev_find("b"), a);
	text_uuid(b->uuid, uuid);
	assert_ptr_equal(bdev_find(uuid), b);
	assert_null(bdev_find("c"));
	assert_null(bdev_find(""));
	assert_ptr_equal(bdev_next(NULL), a);
	assert_ptr_equal(bdev_next(a), b);
	assert_null(bdev_next(b));
	frees = 0;
	gone(a);
	assert_null(bdev_find("b"));
	gone(b);
	assert_null(bdev_next(NULL));
	assert_int_equal(frees, 2);
}

static void name_or_uuid_in_use_is_refused_and_named(void **state)
{
	static const char text[] = "11111111-2222-4333-8444-555555555555";
	uint8_t uuid[16];
	struct bdev_params p = { .name = "a", .uuid = uuid };
	struct err err = { 0 };
	struct bdev *a, *none;

	assert_int_equal(bdev_uuid_parse(text, uuid, &err), 0);
	assert_int_equal(add(&p, &a, &err), 0);
	frees = 0;
	assert_int_equal(add(&p, &none, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "\"a\""));
	p.name = "b";
	assert_int_equal(add(&p, &none, &err), -EEXIST);
	assert_non_null(strstr(err.msg, text));
	p.name = text; /* a name that is another's UUID would be ambiguous */
	p.uuid = NULL;
	assert_int_equal(add(&p, &none, &err), -EEXIST);
	p.name = "";
	assert_int_equal(add(&p, &none, &err), -EINVAL);
	p.name = "a\nb";
	assert_int_equal(add(&p, &none, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "0x0a"));
	assert_int_equal(frees, 0); /* origin stays the caller's */
	gone(a);
}

static void uuid_that_is_none_is_refused(void **state)
{
	static const char *const wrong[] = {
		"",
		"1",
		"00000000-0000-0000-0000-000000000000",
		"11111111-2222-4333-8444-55555555555",
		"11111111-2222-4333-8444-5555555555555",
		"11111111-2222-4333-8444-55555555555g",
		"1111111-12222-4333-8444-555555555555",
		"11111111222243338444555555555555",
		"11111111-2222-4333-8444-555555555555-",
	};
	struct err err = { 0 };
	uint8_t uuid[16];

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(bdev_uuid_parse(wrong[i], uuid, &err), -EINVAL);
	assert_int_equal(bdev_uuid_parse("ABCDEFab-2222-4333-8444-555555555555", uuid, &err), 0);
	assert_int_equal(uuid[0], 0xab);
	assert_int_equal(uuid[3], 0xab);
}

static void unnamed_ones_are_numbered_by_kind(void **state)
{
	const struct bdev_params p = { .product = "Test disk" }, q = { .product = "Other disk" };
	struct bdev *a, *b, *c;

	assert_int_equal(add(&p, &a, NULL), 0);
	assert_int_equal(add(&p, &b, NULL), 0);
	assert_int_equal(add(&q, &c, NULL), 0);
	assert_string_equal(a->name, "Test0");
	assert_string_equal(b->name, "Test1");
	assert_string_equal(c->name, "Other0");
	gone(a);
	gone(b);
	gone(c);
}

static void claimed_bdev_takes_no_other_and_stays_until_that_is_gone(void **state)
{
	struct bdev *base = made("base"), *on, *none;
	struct bdev_params p = { .name = "on", .base = base };
	struct backend_def def = { .bdev = "base" };
	struct blk_dev *blk;
	struct err err = { 0 };

	assert_int_equal(add(&p, &on, NULL), 0);
	assert_true(base->claimed);
	p.name = "second";
	assert_int_equal(add(&p, &none, &err), -EPERM);
	assert_non_null(strstr(err.msg, "\"base\""));
	assert_int_equal(backend_open(&def, "disk", &blk, &err), -EPERM);
	def.read_only = true;
	assert_int_equal(backend_open(&def, "disk", &blk, &err), 0);
	backend_close(blk);
	ended = 0;
	bdev_delete(base, on_end, NULL);
	assert_int_equal(ended, 1);
	assert_int_equal(ended_rc, -EBUSY);
	gone(on);
	assert_false(base->claimed);
	gone(base);
}

static void parts_share_a_claim(void **state)
{
	struct bdev *base = made("base"), *a, *b, *none;
	struct bdev_params p = { .name = "p0", .base = base, .part = true };

	assert_int_equal(add(&p, &a, NULL), 0);
	p.name = "p1";
	assert_int_equal(add(&p, &b, NULL), 0);
	p.name = "filter";
	p.part = false;
	assert_int_equal(add(&p, &none, NULL), -EPERM);
	gone(a);
	assert_true(base->claimed);
	gone(b);
	assert_false(base->claimed);
	gone(base);
}

static void user_keeps_the_handle_when_the_bdev_is_deleted(void **state)
{
	struct backend_def def = { .bdev = "a" };
	struct bdev *bdev = made("a"), *again;
	struct blk_dev *blk;
	struct err err = { 0 };

	assert_int_equal(backend_open(&def, "disk", &blk, &err), 0);
	assert_int_equal(bdev->users, 1);
	assert_ptr_equal(bdev_of(blk), bdev);
	gone(bdev);
	assert_null(bdev_of(blk));
	assert_int_equal(blk_dev_caps(blk)->size_bytes, 1 << 20);
	assert_int_equal(blk_dev_rescan(blk, &err), -ENODEV);
	assert_int_equal(backend_open(&def, "disk", &blk, &err), -ENODEV);
	assert_non_null(strstr(err.msg, "\"a\""));
	again = made("a");
	backend_close(blk); /* not a user of the new one */
	assert_int_equal(again->users, 0);
	gone(again);
}

static void exchange_gives_another_size_and_refuses_a_smaller_one(void **state)
{
	struct bdev *bdev = made("a");
	struct err err = { 0 };

	ended = 0;
	assert_int_equal(bdev_swap(bdev, node("size=2M"), on_end, NULL, &err), 0);
	assert_int_equal(ended, 1);
	assert_int_equal(ended_rc, 0);
	assert_int_equal(blk_dev_caps(bdev->dev)->size_bytes, 2 << 20);
	assert_int_equal(bdev_swap(bdev, node("size=1M"), on_end, NULL, &err), -EINVAL);
	assert_int_equal(bdev_swap(bdev, node("size=2M,block-size=4096"), on_end, NULL, &err),
			 -EINVAL);
	assert_int_equal(ended, 1);
	gone(bdev);
}

static void long_work_has_a_bdev_to_itself_until_it_ends(void **state)
{
	struct backend_def def = { .bdev = "a", .read_only = true };
	struct bdev *a = made("a");
	struct blk_dev *handle, *other;
	struct err err = { 0 };

	assert_int_equal(bdev_usable(a, &err), 0);
	assert_int_equal(bdev_work_begin(a, "copy", &handle, &err), 0);
	assert_int_equal(bdev_work_begin(a, "format", &other, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "a copy to it is under way"));
	assert_int_equal(bdev_usable(a, &err), -EBUSY);
	assert_int_equal(backend_open(&def, "d", &other, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "bdev: bdev \"a\""));
	assert_int_equal(
		bdev_add(&(struct bdev_params){ .name = "on", .product = "Null disk", .base = a },
			 node("size=1M"), NULL, &err),
		-EBUSY);
	bdev_work_end(handle);
	assert_int_equal(backend_open(&def, "d", &other, &err), 0);
	assert_int_equal(bdev_work_begin(a, "copy", &handle, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "used (by 1 devices"));
	backend_close(other);
	/* its deletion is no business of the work's */
	assert_int_equal(bdev_work_begin(a, "copy", &handle, &err), 0);
	gone(a);
	assert_null(bdev_of(handle));
	bdev_work_end(handle);
}

static void what_is_not_whole_is_for_long_work_only(void **state)
{
	struct backend_def def = { .bdev = "a" };
	struct bdev *a = made("a");
	struct blk_dev *handle, *other;
	struct err err = { 0 };

	assert_int_equal(bdev_incomplete_set(a, "copy of b", &err), 0);
	assert_int_equal(backend_open(&def, "d", &other, &err), -EPERM);
	assert_non_null(strstr(err.msg, "not whole: a copy of b did not come to its end"));
	assert_int_equal(bdev_work_begin(a, "copy", &handle, &err), 0);
	bdev_work_end(handle);
	assert_int_equal(bdev_usable(a, &err), -EPERM);
	assert_int_equal(bdev_incomplete_set(a, NULL, &err), 0);
	assert_int_equal(backend_open(&def, "d", &other, &err), 0);
	backend_close(other);
	assert_int_equal(bdev_incomplete_set(a, "format", &err), 0); /* freed with it */
	gone(a);
}

static char told[64];

static void on_event(struct bdev_watcher *w, struct bdev *bdev, enum bdev_event event)
{
	static const char *const names[] = { "+", "=", "-" };

	strncat(told, names[event], sizeof(told) - strlen(told) - 1);
	strncat(told, bdev->name, sizeof(told) - strlen(told) - 1);
}

static void watchers_hear_what_comes_changes_and_goes(void **state)
{
	struct bdev_watcher w = { .fn = on_event };
	struct bdev *a, *b;

	told[0] = '\0';
	bdev_watch(&w);
	a = made("a");
	b = made("b");
	assert_int_equal(blk_dev_resize(a->dev, 4 << 20, false, NULL), 0);
	gone(a);
	bdev_unwatch(&w);
	gone(b);
	assert_string_equal(told, "+a+b=a-a");
}

static void backend_is_exactly_one(void **state)
{
	struct backend_def def = { .bdev = "a", .null_bytes = 512 };
	struct err err = { 0 };

	assert_int_equal(backend_check(&def, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "got 2"));
	def.null_bytes = 0;
	def.block_bytes = 512;
	assert_int_equal(backend_check(&def, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "block-size"));
	def.block_bytes = 0;
	assert_int_equal(backend_check(&def, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bdev_is_found_by_name_and_by_uuid_in_order_of_creation),
		cmocka_unit_test(name_or_uuid_in_use_is_refused_and_named),
		cmocka_unit_test(uuid_that_is_none_is_refused),
		cmocka_unit_test(unnamed_ones_are_numbered_by_kind),
		cmocka_unit_test(claimed_bdev_takes_no_other_and_stays_until_that_is_gone),
		cmocka_unit_test(parts_share_a_claim),
		cmocka_unit_test(user_keeps_the_handle_when_the_bdev_is_deleted),
		cmocka_unit_test(exchange_gives_another_size_and_refuses_a_smaller_one),
		cmocka_unit_test(long_work_has_a_bdev_to_itself_until_it_ends),
		cmocka_unit_test(what_is_not_whole_is_for_long_work_only),
		cmocka_unit_test(watchers_hear_what_comes_changes_and_goes),
		cmocka_unit_test(backend_is_exactly_one),
	};

	return cmocka_run_group_tests_name("dev/bdev", tests, NULL, NULL);
}
