/* Swap: exchange and removal of a base, alone and under load over two loops. */
#include "blk/filter/swap_rig.h"

static void requests_reach_the_base_and_count_there_once(void **state)
{
	struct blk_stats s;
	struct rig rig;

	rig_open(&rig, "sim", "size=1M");
	memset(page, 0x11, sizeof(page));
	assert_int_equal(disk_do(&rig.disk, BLK_WRITE, 0, 4096, 4096, page), BLK_ST_OK);
	assert_memory_equal((char *)blk_sim_memory(rig.base) + 4096, page, 4096);
	assert_int_equal(disk_do(&rig.disk, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_OK);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 1 << 20, 512, page), BLK_ST_RANGE);
	blk_dev_stats(rig.disk.dev, &s);
	assert_int_equal(s.ops[BLK_WRITE], 1);
	assert_int_equal(s.bytes[BLK_WRITE], 4096);
	assert_int_equal(s.ops[BLK_FLUSH], 1);
	assert_int_equal(blk_stats_errors(&s, BLK_ST_RANGE), 1);
	rig_close(&rig);
}

static void memory_that_the_base_cannot_use_is_bounced(void **state)
{
	char *buf = disk_buf(8192 + 8, 3);
	struct rig rig;

	rig_open(&rig, "sim", "size=1M,mem-align=512");
	assert_int_equal(disk_do(&rig.disk, BLK_WRITE, 0, 0, 8192, buf + 1), BLK_ST_OK);
	assert_memory_equal(blk_sim_memory(rig.base), buf + 1, 8192);
	rig_close(&rig);
	free(buf);
}

static void exchange_ends_what_is_under_way_and_lets_the_rest_wait(void **state)
{
	struct disk_req before, during;
	struct blk_dev *next;
	struct blk_stats s;
	struct rig rig;

	rig_open(&rig, "sim", "size=1M");
	next = node("sim", "size=2M");
	memset(page, 0x22, sizeof(page));
	blk_sim_hold(rig.base, true);
	disk_start(&rig.disk, &before, BLK_WRITE, 0, 0, 512, page);
	assert_int_equal(swap_start(&rig, next, NULL), 0);
	assert_int_equal(swap_start(&rig, next, NULL), -EBUSY);
	for (int i = 0; i < 10; i++)
		loop_run_once(rig.disk.loop, true);
	disk_start(&rig.disk, &during, BLK_WRITE, 0, 512, 512, page);
	for (int i = 0; i < 10; i++)
		loop_run_once(rig.disk.loop, true);
	assert_false(before.done || during.done || rig.done_count);
	blk_sim_hold(rig.base, false);
	assert_int_equal(disk_wait(&rig.disk, &during), BLK_ST_OK);
	assert_true(before.done);
	assert_int_equal(before.req.status, BLK_ST_OK);
	swap_wait(&rig);
	assert_int_equal(rig.rc, 0);
	assert_true(disk_all_zero((char *)blk_sim_memory(rig.base) + 512, 512));
	assert_memory_equal((char *)blk_sim_memory(next) + 512, page, 512);
	assert_true(disk_all_zero(blk_sim_memory(next), 512));
	assert_ptr_equal(blk_swap_base(rig.disk.dev), next);
	assert_int_equal(blk_dev_caps(rig.disk.dev)->size_bytes, 2 << 20);
	/* both bases' requests are this node's */
	blk_dev_stats(rig.disk.dev, &s);
	assert_int_equal(s.ops[BLK_WRITE], 2);
	blk_dev_unref(next);
	rig_close(&rig);
}

static void only_a_base_that_needs_a_clock_has_one(void **state)
{
	struct blk_dev *next[] = { node("sim", "size=1M"), node("null", "size=1M") };
	struct blk_stats s;
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	assert_true(rig.disk.chan->at_once);
	for (unsigned i = 0; i < ARRAY_SIZE(next); i++) {
		assert_int_equal(swap_start(&rig, next[i], NULL), 0);
		swap_wait(&rig);
		assert_int_equal(rig.disk.chan->at_once, i == 1);
		assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
		blk_dev_unref(next[i]);
	}
	assert_int_equal(swap_start(&rig, NULL, NULL), 0);
	swap_wait(&rig);
	assert_false(rig.disk.chan->at_once);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_GONE);
	blk_dev_stats(rig.disk.dev, &s);
	assert_int_equal(s.ops[BLK_READ], 3);
	assert_int_equal(blk_stats_errors(&s, BLK_ST_GONE), 1);
	rig_close(&rig);
}

static void removal_ends_what_is_under_way_and_refuses_the_rest(void **state)
{
	struct disk_req before, during, after;
	struct rig rig;
	struct err err;

	rig_open(&rig, "sim", "size=1M");
	blk_sim_hold(rig.base, true);
	disk_start(&rig.disk, &before, BLK_READ, 0, 0, 512, page);
	assert_int_equal(swap_start(&rig, NULL, NULL), 0);
	for (int i = 0; i < 10; i++)
		loop_run_once(rig.disk.loop, true);
	disk_start(&rig.disk, &during, BLK_READ, 0, 0, 512, page);
	for (int i = 0; i < 10; i++)
		loop_run_once(rig.disk.loop, true);
	blk_sim_hold(rig.base, false);
	swap_wait(&rig);
	assert_int_equal(disk_wait(&rig.disk, &before), BLK_ST_OK);
	assert_int_equal(disk_wait(&rig.disk, &during), BLK_ST_GONE);
	disk_start(&rig.disk, &after, BLK_READ, 0, 0, 512, page);
	assert_int_equal(disk_wait(&rig.disk, &after), BLK_ST_GONE);
	assert_null(blk_swap_base(rig.disk.dev));
	assert_int_equal(swap_start(&rig, NULL, NULL), -ENODEV);
	assert_int_equal(blk_dev_rescan(rig.disk.dev, &err), -ENODEV);
	rig_close(&rig);
}

static void channel_that_is_opened_during_an_exchange_waits_with_the_others(void **state)
{
	struct disk_req before, during;
	struct blk_dev *next;
	struct disk late;
	struct rig rig;

	rig_open(&rig, "sim", "size=1M");
	next = node("sim", "size=1M");
	blk_sim_hold(rig.base, true);
	disk_start(&rig.disk, &before, BLK_READ, 0, 0, 512, page);
	assert_int_equal(swap_start(&rig, next, NULL), 0);
	late = rig.disk;
	assert_int_equal(blk_chan_open(late.dev, late.loop, &late.chan, NULL), 0);
	disk_start(&late, &during, BLK_WRITE, 0, 0, 512, page);
	for (int i = 0; i < 10; i++)
		loop_run_once(late.loop, true);
	assert_false(during.done);
	blk_sim_hold(rig.base, false);
	assert_int_equal(disk_wait(&late, &during), BLK_ST_OK);
	assert_memory_equal(blk_sim_memory(next), page, 512);
	swap_wait(&rig);
	blk_chan_close(late.chan);
	blk_dev_unref(next);
	rig_close(&rig);
}

static void channel_that_is_closed_during_an_exchange_does_not_hold_it_up(void **state)
{
	struct blk_dev *next;
	struct rig rig;

	rig_open(&rig, "sim", "size=1M");
	next = node("sim", "size=1M");
	assert_int_equal(swap_start(&rig, next, NULL), 0);
	blk_chan_close(rig.disk.chan);
	swap_wait(&rig);
	assert_int_equal(rig.rc, 0);
	assert_int_equal(blk_chan_open(rig.disk.dev, rig.disk.loop, &rig.disk.chan, NULL), 0);
	blk_dev_unref(next);
	rig_close(&rig);
}

static void cancel_reaches_the_base_and_what_waits(void **state)
{
	struct disk_req in_base, waits;
	struct blk_dev *next;
	struct rig rig;

	rig_open(&rig, "sim", "size=1M");
	next = node("sim", "size=1M");
	blk_sim_hold(rig.base, true);
	disk_start(&rig.disk, &in_base, BLK_READ, 0, 0, 512, page);
	assert_int_equal(swap_start(&rig, next, NULL), 0);
	for (int i = 0; i < 10; i++)
		loop_run_once(rig.disk.loop, true);
	disk_start(&rig.disk, &waits, BLK_READ, 0, 0, 512, page);
	blk_cancel(&waits.req);
	assert_int_equal(disk_wait(&rig.disk, &waits), BLK_ST_ABORTED);
	blk_cancel(&in_base.req);
	assert_int_equal(disk_wait(&rig.disk, &in_base), BLK_ST_ABORTED);
	swap_wait(&rig);
	blk_sim_hold(rig.base, false);
	blk_dev_unref(next);
	rig_close(&rig);
}

static void base_that_cannot_take_the_place_is_refused_with_the_reason(void **state)
{
	static const struct {
		const char *params, *reason;
	} cases[] = {
		{ "size=512K", "524288 bytes are less than the 1048576 of d0" },
		{ "size=1M,block-size=4096", "block size 4096 in place of d0's 512" },
		{ "size=1M,read-only=on", "read-only" },
	};
	struct err err = { 0 };
	struct rig rig;

	rig_open(&rig, "sim", "size=1M");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct blk_dev *next = node("sim", cases[i].params);

		assert_int_equal(swap_start(&rig, next, &err), -EINVAL);
		assert_non_null(strstr(err.msg, cases[i].reason));
		blk_dev_unref(next);
	}
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	rig_close(&rig);
}

static int resizes;

static void on_resized(struct blk_listener *l)
{
	resizes++;
}

static void listeners_hear_of_resizes_of_the_base_and_by_exchange(void **state)
{
	struct blk_listener l = { .resized = on_resized };
	struct blk_dev *next;
	struct rig rig;

	resizes = 0;
	rig_open(&rig, "sim", "size=2M");
	next = node("sim", "size=4M");
	blk_dev_listen(rig.disk.dev, &l);
	blk_sim_resize(rig.base, 1 << 20);
	assert_int_equal(blk_dev_rescan(rig.disk.dev, NULL), 0);
	assert_int_equal(resizes, 1);
	assert_int_equal(blk_dev_caps(rig.disk.dev)->size_bytes, 1 << 20);
	assert_int_equal(swap_start(&rig, next, NULL), 0);
	swap_wait(&rig);
	assert_int_equal(resizes, 2);
	assert_int_equal(blk_dev_caps(rig.disk.dev)->size_bytes, 4 << 20);
	blk_dev_unlisten(&l);
	blk_dev_unref(next);
	rig_close(&rig);
}

static void without_channels_the_exchange_is_done_at_once(void **state)
{
	struct blk_dev *dev, *base = node("ram", "size=1M"), *next = node("null", "size=1M");
	struct rig rig = { 0 };

	assert_int_equal(blk_dev_open_on("swap", "d0", NULL, base, &dev, NULL), 0);
	assert_int_equal(blk_swap(dev, next, on_swapped, &rig, NULL), 0);
	assert_int_equal(rig.done_count, 1);
	blk_dev_unref(base);
	blk_dev_unref(next);
	blk_dev_unref(dev);
}

static void map_is_the_bases(void **state)
{
	struct blk_dev *dev, *base = node("ram", "size=1M"), *next = node("null", "size=1M");
	struct rig rig = { 0 };
	uint64_t end;
	bool mapped;

	assert_int_equal(blk_dev_open_on("swap", "d0", NULL, base, &dev, NULL), 0);
	assert_true(blk_dev_can_map(dev));
	assert_int_equal(blk_dev_map(dev, 0, 1 << 20, &end, &mapped), 0);
	assert_false(mapped);
	assert_int_equal(end, 1 << 20);
	assert_int_equal(blk_swap(dev, next, on_swapped, &rig, NULL), 0);
	assert_int_equal(blk_dev_map(dev, 0, 1 << 20, &end, &mapped), -EOPNOTSUPP);
	assert_int_equal(blk_swap(dev, NULL, on_swapped, &rig, NULL), 0);
	assert_int_equal(blk_dev_map(dev, 0, 1 << 20, &end, &mapped), -EOPNOTSUPP);
	assert_int_equal(rig.done_count, 2);
	blk_dev_unref(base);
	blk_dev_unref(next);
	blk_dev_unref(dev);
}

static void filter_needs_a_base_and_a_back_end_takes_none(void **state)
{
	struct blk_dev *dev, *base = node("null", "size=1M");
	struct err err = { 0 };

	assert_int_equal(blk_dev_open("swap", "d0", NULL, &dev, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "needs a base"));
	assert_int_equal(blk_dev_open_on("null", "d0", NULL, base, &dev, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "stands alone"));
	blk_dev_unref(base);
}

static void two_loops_under_load_see_every_exchange_and_no_error_until_removal(void **state)
{
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	loads_run(rig.disk.loop, &rig);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_reach_the_base_and_count_there_once),
		cmocka_unit_test(memory_that_the_base_cannot_use_is_bounced),
		cmocka_unit_test(exchange_ends_what_is_under_way_and_lets_the_rest_wait),
		cmocka_unit_test(only_a_base_that_needs_a_clock_has_one),
		cmocka_unit_test(removal_ends_what_is_under_way_and_refuses_the_rest),
		cmocka_unit_test(channel_that_is_opened_during_an_exchange_waits_with_the_others),
		cmocka_unit_test(channel_that_is_closed_during_an_exchange_does_not_hold_it_up),
		cmocka_unit_test(cancel_reaches_the_base_and_what_waits),
		cmocka_unit_test(base_that_cannot_take_the_place_is_refused_with_the_reason),
		cmocka_unit_test(listeners_hear_of_resizes_of_the_base_and_by_exchange),
		cmocka_unit_test(without_channels_the_exchange_is_done_at_once),
		cmocka_unit_test(map_is_the_bases),
		cmocka_unit_test(filter_needs_a_base_and_a_back_end_takes_none),
		cmocka_unit_test(
			two_loops_under_load_see_every_exchange_and_no_error_until_removal),
	};

	return cmocka_run_group_tests_name("blk swap", tests, NULL, NULL);
}
