/* The list of devices: names, masks, and who goes when. */
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "dev/devices.h"
#include "loop/test_util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LOOPS 3

static struct {
	struct loop *main_loop, *loops[LOOPS];
	uint32_t loop_count, removed, drained, owners_freed;
	char dir[64];
} fix;

static struct err err;

static void on_done(void *arg)
{
}

static void on_drained(void *arg)
{
	fix.drained++;
}

static void on_removed(void *arg)
{
	fix.removed++;
}

static void owner_free(void *owner)
{
	fix.owners_freed++;
	free(owner);
}

static int setup(void **state)
{
	memset(&fix, 0, sizeof(fix));
	fix.main_loop = test_loop("main");
	fix.loop_count = LOOPS;
	for (uint32_t i = 0; i < LOOPS; i++)
		fix.loops[i] = test_loop("data");
	snprintf(fix.dir, sizeof(fix.dir), "/tmp/vhostd-test-XXXXXX");
	assert_non_null(mkdtemp(fix.dir));
	devices_init(&(struct devices_params){ .main_loop = fix.main_loop,
					       .loops = fix.loops,
					       .loop_count = &fix.loop_count,
					       .on_done = on_done,
					       .on_drained = on_drained });
	return 0;
}

static int teardown(void **state)
{
	devices_stop_all();
	test_run_until(fix.main_loop, fix.drained);
	assert_null(devices_next(NULL));
	for (uint32_t i = 0; i < LOOPS; i++)
		loop_free(fix.loops[i]);
	loop_free(fix.main_loop);
	assert_int_equal(rmdir(fix.dir), 0); /* every socket is gone */
	return 0;
}

/* A definition as a method makes it; text: of type and parameters. */
static struct device_def *def_make(const char *name, const char *text)
{
	struct device_def *def = calloc(1, sizeof(*def));
	char socket[128];

	assert_non_null(def);
	device_def_init(def, name);
	assert_int_equal(device_def_parse(def, text, &err), 0);
	snprintf(socket, sizeof(socket), "%s/%s", fix.dir, name);
	assert_int_equal(device_def_set(def, "name", name, &err), 0);
	assert_int_equal(device_def_set(def, "socket", socket, &err), 0);
	return def;
}

static int add(const char *name, const char *text, struct device **ret_dev)
{
	memset(&err, 0, sizeof(err));
	return devices_add(def_make(name, text), malloc(1), owner_free, ret_dev, &err);
}

static void removes(struct device *dev)
{
	const uint32_t before = fix.removed;

	devices_remove(dev, on_removed, NULL);
	assert_int_equal(fix.removed, before); /* later */
	test_run_until(fix.main_loop, fix.removed > before);
}

static void test_a_device_is_found_until_it_leaves(void **state)
{
	struct device *a, *b;

	assert_int_equal(add("a", "blk,ram=1M", &a), 0);
	assert_int_equal(add("b", "blk,null=1M", &b), 0);
	assert_ptr_equal(devices_find("a"), a);
	assert_ptr_equal(devices_next(NULL), a);
	assert_ptr_equal(devices_next(a), b);
	assert_null(devices_next(b));
	assert_non_null(devices_owner(a));
	devices_remove(a, on_removed, NULL);
	assert_null(devices_find("a"));
	assert_ptr_equal(devices_next(NULL), b);
	test_run_until(fix.main_loop, fix.removed);
	assert_int_equal(fix.owners_freed, 1);
	assert_int_equal(add("a", "blk,ram=1M", &a), 0);
}

static void test_names_and_sockets_are_unique_also_of_those_that_leave(void **state)
{
	struct device *a, *b;
	struct device_def *def;

	assert_int_equal(add("a", "blk,ram=1M", &a), 0);
	assert_int_equal(add("a", "blk,ram=1M", &b), -EEXIST);
	assert_string_equal(err.msg, "name: 'a' is also that of another device");
	assert_int_equal(fix.owners_freed, 1);
	def = def_make("b", "blk,ram=1M");
	assert_int_equal(device_def_set(def, "socket", a->def->socket, &err), 0);
	assert_int_equal(devices_add(def, malloc(1), owner_free, &b, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "is also that of a"));
	devices_remove(a, on_removed, NULL);
	assert_int_equal(add("a", "blk,ram=1M", &b), -EEXIST);
	assert_non_null(strstr(err.msg, "being removed"));
	test_run_until(fix.main_loop, fix.removed);
}

static void test_one_that_cannot_start_leaves_nothing(void **state)
{
	struct device_def *def = def_make("a", "blk,ram=1M");
	struct device *a;

	assert_int_equal(device_def_set(def, "socket", "/nowhere/at/all", &err), 0);
	assert_true(devices_add(def, malloc(1), owner_free, &a, &err) < 0);
	assert_null(devices_find("a"));
	test_run_until(fix.main_loop, fix.owners_freed == 1);
	assert_int_equal(add("a", "blk,file=/nowhere/at/all", &a), -ENOENT);
	assert_int_equal(fix.owners_freed, 2);
	assert_int_equal(add("a", "blk,ram=1M", &a), 0);
}

static void test_a_subsystem_outlives_the_devices_that_show_it(void **state)
{
	struct device_def *def = def_make("s", "nvme,ns=1:ram=1M"), *member;
	struct device *subsystem, *controller;

	free(def->socket);
	def->socket = NULL;
	def->unserved = true;
	assert_int_equal(devices_open(def, malloc(1), owner_free, &subsystem, &err), 0);
	assert_null(subsystem->ep);
	member = def_make("c", "nvme");
	member->leader = def;
	assert_int_equal(devices_add(member, malloc(1), owner_free, &controller, &err), 0);
	assert_ptr_equal(controller->subsys, subsystem->subsys);
	removes(subsystem);
	assert_int_equal(fix.owners_freed, 0); /* the controller still has it */
	removes(controller);
	assert_int_equal(fix.owners_freed, 2);
	test_run_until(fix.main_loop, !units_closing());
}

static void mask_is(const char *text, uint64_t mask)
{
	uint64_t words[DEVICE_MASK_WORDS];

	memset(&err, 0, sizeof(err));
	assert_int_equal(devices_mask_parse(text, words, &err), 0);
	assert_int_equal(words[0], mask);
}

static void mask_fails(const char *text, const char *word)
{
	uint64_t words[DEVICE_MASK_WORDS];

	memset(&err, 0, sizeof(err));
	assert_int_equal(devices_mask_parse(text, words, &err), -EINVAL);
	if (!strstr(err.msg, word))
		fail_msg("'%s' is not in: %s", word, err.msg);
}

static void test_masks_are_hexadecimal_or_lists_of_loops_that_there_are(void **state)
{
	mask_is(NULL, 0);
	mask_is("0x1", 1);
	mask_is("5", 5);
	mask_is("0X07", 7);
	mask_is("[0]", 1);
	mask_is("[0,2]", 5);
	mask_is("[1-2]", 6);
	mask_is("[0-1,2]", 7);
	mask_fails("", "hexadecimal");
	mask_fails("0x", "hexadecimal");
	mask_fails("0xg", "'0xg'");
	mask_fails("0", "at least one");
	mask_fails("0x8", "0..2");
	mask_fails("ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		   "0..2");
	mask_fails("[3]", "0..2");
	mask_fails("[2-1]", "0..2");
	mask_fails("[99999999999999999999]", "0..2");
	for (const char *const *bad = (const char *const[]){ "[", "[]", "[0", "[0,]", "[-1]",
							     "[0-]", "[0]x", "[ 0]", NULL };
	     *bad; bad++)
		mask_fails(*bad, "hexadecimal");
}

static void test_a_device_has_the_loops_of_its_mask(void **state)
{
	struct device_def *def = def_make("a", "blk,ram=1M");
	struct device *a, *b;
	char text[80];

	assert_int_equal(devices_mask_parse("0x6", def->loop_mask, &err), 0);
	assert_int_equal(devices_add(def, malloc(1), owner_free, &a, &err), 0);
	assert_int_equal(a->loop_count, 2);
	assert_ptr_equal(a->loops[0], fix.loops[1]);
	assert_ptr_equal(a->loops[1], fix.loops[2]);
	assert_string_equal(devices_mask_text(a, text, sizeof(text)), "0x6");
	assert_int_equal(add("b", "blk,ram=1M", &b), 0);
	assert_int_equal(b->loop_count, LOOPS);
	assert_string_equal(devices_mask_text(b, text, sizeof(text)), "0x7");
}

static void test_nothing_is_made_while_the_daemon_stops(void **state)
{
	struct device *a;

	devices_stop_all();
	assert_int_equal(fix.drained, 1);
	assert_int_equal(add("a", "blk,ram=1M", &a), -ESHUTDOWN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_device_is_found_until_it_leaves),
		TEST(test_names_and_sockets_are_unique_also_of_those_that_leave),
		TEST(test_one_that_cannot_start_leaves_nothing),
		TEST(test_a_subsystem_outlives_the_devices_that_show_it),
		TEST(test_masks_are_hexadecimal_or_lists_of_loops_that_there_are),
		TEST(test_a_device_has_the_loops_of_its_mask),
		TEST(test_nothing_is_made_while_the_daemon_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
