/* An exchange of a back-end that has no swap before it: the node becomes one, in use. */
#include "blk/filter/swap_rig.h"

static void turn(struct rig *rig)
{
	for (int i = 0; i < 10; i++)
		loop_run_once(rig->disk.loop, true);
}

static void back_end_becomes_another_with_its_channel(void **state)
{
	struct disk_req before, during;
	struct blk_dev *next;
	struct blk_stats s;
	struct rig rig;

	rig_open_as(&rig, "sim", "size=1M", true);
	next = node("sim", "size=2M");
	memset(page, 0x22, sizeof(page));
	blk_sim_hold(rig.base, true);
	disk_start(&rig.disk, &before, BLK_WRITE, 0, 0, 512, page);
	assert_int_equal(swap_start(&rig, next, NULL), 0);
	assert_int_equal(swap_start(&rig, next, NULL), -EBUSY);
	turn(&rig);
	disk_start(&rig.disk, &during, BLK_WRITE, 0, 512, 512, page);
	turn(&rig);
	assert_false(before.done || during.done || rig.done_count);
	blk_sim_hold(rig.base, false);
	assert_int_equal(disk_wait(&rig.disk, &during), BLK_ST_OK);
	assert_true(before.done);
	assert_int_equal(before.req.status, BLK_ST_OK);
	swap_wait(&rig);
	assert_int_equal(rig.rc, 0);
	assert_memory_equal((char *)blk_sim_memory(next) + 512, page, 512);
	assert_true(disk_all_zero(blk_sim_memory(next), 512));
	assert_ptr_equal(blk_swap_base(rig.disk.dev), next);
	assert_int_equal(blk_dev_caps(rig.disk.dev)->size_bytes, 2 << 20);
	assert_int_equal(disk_do(&rig.disk, BLK_WRITE, 0, 0, 4096, page), BLK_ST_OK);
	assert_memory_equal(blk_sim_memory(next), page, 4096);
	blk_dev_stats(rig.disk.dev, &s);
	assert_int_equal(s.ops[BLK_WRITE], 3);
	assert_int_equal(s.bytes[BLK_WRITE], 512 + 512 + 4096);
	blk_dev_unref(next);
	rig_close(&rig);
}

static void without_channels_it_becomes_one_at_once(void **state)
{
	struct blk_dev *dev = node("ram", "size=1M"), *next = node("null", "size=2M");
	struct blk_dev *part;
	struct err err = { 0 };
	struct rig rig = { 0 };

	assert_int_equal(blk_swap(dev, NULL, on_swapped, &rig, &err), -EINVAL);
	assert_int_equal(blk_swap(dev, next, on_swapped, &rig, NULL), 0);
	assert_int_equal(rig.done_count, 1);
	assert_int_equal(blk_dev_caps(dev)->size_bytes, 2 << 20);
	assert_int_equal(blk_swap(dev, NULL, on_swapped, &rig, NULL), 0);
	assert_int_equal(rig.done_count, 2);
	blk_dev_unref(dev);
	assert_int_equal(blk_dev_open_on("part", "p", NULL, next, &part, NULL), 0);
	assert_int_equal(blk_swap(part, next, on_swapped, &rig, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "type part"));
	blk_dev_unref(part);
	blk_dev_unref(next);
}

static void channel_that_is_opened_meanwhile_waits_with_the_others(void **state)
{
	struct disk_req before, during;
	struct blk_dev *next;
	struct disk late;
	struct rig rig;

	rig_open_as(&rig, "sim", "size=1M", true);
	next = node("sim", "size=1M");
	memset(page, 0x33, sizeof(page));
	blk_sim_hold(rig.base, true);
	disk_start(&rig.disk, &before, BLK_READ, 0, 0, 512, page + 512);
	assert_int_equal(swap_start(&rig, next, NULL), 0);
	late = rig.disk;
	assert_int_equal(blk_chan_open(late.dev, late.loop, &late.chan, NULL), 0);
	assert_int_equal(blk_chan_buffers_set(late.chan, NULL, 0, NULL), 0);
	disk_start(&late, &during, BLK_WRITE, 0, 0, 512, page);
	turn(&rig);
	assert_false(during.done);
	blk_sim_hold(rig.base, false);
	assert_int_equal(disk_wait(&late, &during), BLK_ST_OK);
	assert_memory_equal(blk_sim_memory(next), page, 512);
	swap_wait(&rig);
	blk_chan_close(late.chan);
	blk_dev_unref(next);
	rig_close(&rig);
}

static void channels_that_are_closed_meanwhile_do_not_hold_it_up(void **state)
{
	struct blk_dev *next;
	struct disk late;
	struct rig rig;

	rig_open_as(&rig, "sim", "size=1M", true);
	next = node("sim", "size=1M");
	assert_int_equal(swap_start(&rig, next, NULL), 0);
	late = rig.disk;
	assert_int_equal(blk_chan_open(late.dev, late.loop, &late.chan, NULL), 0);
	blk_chan_close(late.chan);
	blk_chan_close(rig.disk.chan);
	swap_wait(&rig);
	assert_int_equal(rig.rc, 0);
	assert_int_equal(blk_chan_open(rig.disk.dev, rig.disk.loop, &rig.disk.chan, NULL), 0);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	blk_dev_unref(next);
	rig_close(&rig);
}

static void cancel_reaches_the_old_back_end_and_what_waits(void **state)
{
	struct disk_req in_base, waits[2];
	struct blk_dev *next;
	struct rig rig;

	rig_open_as(&rig, "sim", "size=1M", true);
	next = node("sim", "size=1M");
	blk_sim_hold(rig.base, true);
	disk_start(&rig.disk, &in_base, BLK_READ, 0, 0, 512, page);
	assert_int_equal(swap_start(&rig, next, NULL), 0);
	turn(&rig);
	disk_start(&rig.disk, &waits[0], BLK_READ, 0, 0, 512, page);
	disk_start(&rig.disk, &waits[1], BLK_READ, 0, 0, 512, page);
	blk_cancel(&waits[0].req);
	assert_int_equal(disk_wait(&rig.disk, &waits[0]), BLK_ST_ABORTED);
	blk_cancel(&waits[1].req);
	blk_cancel(&in_base.req);
	assert_int_equal(disk_wait(&rig.disk, &in_base), BLK_ST_ABORTED);
	assert_int_equal(disk_wait(&rig.disk, &waits[1]), BLK_ST_ABORTED);
	swap_wait(&rig);
	blk_dev_unref(next);
	rig_close(&rig);
}

/* A request in many steps goes on to its end, and one that would be bounced waits whole. */
static void what_is_bounced_ends_in_the_old_back_end(void **state)
{
	const size_t len = 768 << 10;
	char *buf = disk_buf(len + 8, 3);
	struct disk_req before, during;
	struct blk_dev *next;
	struct rig rig;

	rig_open_as(&rig, "sim", "size=1M,mem-align=512", true);
	next = node("sim", "size=1M,mem-align=512");
	blk_sim_hold(rig.base, true);
	disk_start(&rig.disk, &before, BLK_WRITE, 0, 0, len, buf + 1);
	assert_int_equal(swap_start(&rig, next, NULL), 0);
	turn(&rig);
	disk_start(&rig.disk, &during, BLK_WRITE, 0, 0, 8192, buf + 3);
	blk_sim_hold(rig.base, false);
	swap_wait(&rig);
	assert_true(before.done);
	assert_int_equal(before.req.status, BLK_ST_OK);
	assert_int_equal(disk_wait(&rig.disk, &during), BLK_ST_OK);
	assert_memory_equal(blk_sim_memory(next), buf + 3, 8192);
	assert_true(disk_all_zero((char *)blk_sim_memory(next) + 8192, 4096));
	blk_dev_unref(next);
	rig_close(&rig);
	free(buf);
}

static void two_loops_under_load_see_every_exchange_and_no_error(void **state)
{
	for (int i = 0; i < 5; i++) {
		struct rig rig;

		rig_open_as(&rig, "ram", "size=1M", true);
		loads_run(rig.disk.loop, &rig);
		rig_close(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(back_end_becomes_another_with_its_channel),
		cmocka_unit_test(without_channels_it_becomes_one_at_once),
		cmocka_unit_test(channel_that_is_opened_meanwhile_waits_with_the_others),
		cmocka_unit_test(channels_that_are_closed_meanwhile_do_not_hold_it_up),
		cmocka_unit_test(cancel_reaches_the_old_back_end_and_what_waits),
		cmocka_unit_test(what_is_bounced_ends_in_the_old_back_end),
		cmocka_unit_test(two_loops_under_load_see_every_exchange_and_no_error),
	};

	return cmocka_run_group_tests_name("blk insert", tests, NULL, NULL);
}
