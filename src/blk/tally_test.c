/* What queues count: tallies, slow requests, the finer histogram. */
#include <stdio.h>

#include "blk/test_disk.h"

#include "base/num.h"
#include "blk/filter/swap.h"
#include "blk/fine.h"
#include "blk/tally.h"

#define DELAY	 "size=1M,delay-min-ns=2000000,delay-max-ns=2000000"
#define DELAY_NS 2000000ull

static char page[4096] __attribute__((aligned(4096)));

/* ---- tallies ---- */

static void a_tally_is_the_sum_of_its_channels_of_now_and_before(void **state)
{
	struct blk_tally *tally = blk_tally_new("d", 3);
	struct disk first, second;
	struct blk_stats s;

	disk_open(&first, "null", "size=1M");
	disk_open(&second, "null", "size=1M");
	blk_chan_tally(first.chan, tally);
	blk_chan_tally(second.chan, tally);
	disk_do(&first, BLK_READ, 0, 0, 1024, page);
	disk_do(&second, BLK_READ, 0, 0, 512, page);
	disk_do(&second, BLK_FLUSH, 0, 0, 0, NULL);
	blk_chan_close(first.chan);
	/* of its node only */
	assert_int_equal(blk_chan_open(first.dev, first.loop, &first.chan, NULL), 0);
	disk_do(&first, BLK_READ, 0, 0, 4096, page);
	blk_tally_stats(tally, &s);
	assert_int_equal(s.ops[BLK_READ], 2);
	assert_int_equal(s.bytes[BLK_READ], 1536);
	assert_int_equal(s.ops[BLK_FLUSH], 1);
	assert_int_equal(s.ops[BLK_WRITE], 0);
	assert_int_equal(s.min_ns[BLK_WRITE], 0);
	disk_close(&second);
	blk_tally_stats(tally, &s);
	assert_int_equal(s.ops[BLK_READ], 2);
	blk_tally_free(tally);
	disk_close(&first);
}

static void errors_are_told_by_operation_and_cause(void **state)
{
	struct blk_tally *tally = blk_tally_new("d", 0);
	struct blk_stats s;
	struct disk d;

	disk_open(&d, "null", "size=1M");
	blk_chan_tally(d.chan, tally);
	disk_do(&d, BLK_READ, 0, 1 << 20, 512, page);
	disk_do(&d, BLK_WRITE, 0, 1, 512, page);
	disk_do(&d, (enum blk_op)99, 0, 0, 512, page);
	blk_chan_count_refused(d.chan, BLK_DISCARD, BLK_ST_READ_ONLY);
	blk_chan_count_refused(d.chan, BLK_OP_COUNT, BLK_ST_IOERR);
	blk_tally_stats(tally, &s);
	assert_int_equal(s.errors[BLK_READ][BLK_ST_RANGE], 1);
	assert_int_equal(s.errors[BLK_WRITE][BLK_ST_ALIGN], 1);
	assert_int_equal(s.errors[BLK_WRITE][BLK_ST_RANGE], 0);
	assert_int_equal(s.errors[BLK_DISCARD][BLK_ST_READ_ONLY], 1);
	assert_int_equal(s.ops[BLK_DISCARD], 1);
	assert_int_equal(s.errors[BLK_OP_COUNT][BLK_ST_UNSUPP], 1);
	assert_int_equal(s.errors[BLK_OP_COUNT][BLK_ST_IOERR], 1);
	assert_int_equal(blk_stats_errors(&s, BLK_ST_OK), 5);
	assert_int_equal(blk_stats_errors(&s, BLK_ST_IOERR), 1);
	disk_close(&d);
	blk_tally_free(tally);
}

/* ---- behind a base that is exchanged ---- */

struct swap_rig {
	struct disk disk;
	struct blk_dev *base, *next;
	struct loop_work work;
	bool over;
};

static void swap_rig_open(struct swap_rig *r, const char *type, const char *params)
{
	struct loop_params lp = { .name = "test", .cpu = -1, .sq_count = 64 };

	memset(r, 0, sizeof(*r));
	assert_int_equal(loop_new(&lp, &r->disk.loop, NULL), 0);
	assert_int_equal(blk_dev_open(type, "base", params, &r->base, NULL), 0);
	assert_int_equal(blk_dev_open(type, "next", params, &r->next, NULL), 0);
	assert_int_equal(blk_dev_open_on("swap", "d0", NULL, r->base, &r->disk.dev, NULL), 0);
	assert_int_equal(blk_chan_open(r->disk.dev, r->disk.loop, &r->disk.chan, NULL), 0);
}

static void swap_rig_on_swapped(void *arg, int rc)
{
	((struct swap_rig *)arg)->over = true;
	assert_int_equal(rc, 0);
}

/* In the loop, as from main's. */
static void swap_rig_start(struct loop_work *work)
{
	struct swap_rig *r = container_of(work, struct swap_rig, work);

	assert_int_equal(blk_swap(r->disk.dev, r->next, swap_rig_on_swapped, r, NULL), 0);
}

static void swap_rig_swap(struct swap_rig *r)
{
	r->work.fn = swap_rig_start;
	loop_defer(r->disk.loop, &r->work);
	while (!r->over)
		loop_run_once(r->disk.loop, true);
}

static void swap_rig_close(struct swap_rig *r)
{
	disk_close(&r->disk);
	blk_dev_unref(r->base);
	blk_dev_unref(r->next);
}

static void a_tally_goes_on_when_the_base_is_exchanged(void **state)
{
	struct blk_tally *tally = blk_tally_new("d", 0);
	struct blk_stats s;
	struct swap_rig r;

	swap_rig_open(&r, "null", "size=1M");
	blk_chan_tally(r.disk.chan, tally);
	disk_do(&r.disk, BLK_READ, 0, 0, 512, page);
	swap_rig_swap(&r);
	disk_do(&r.disk, BLK_READ, 0, 0, 512, page);
	disk_do(&r.disk, BLK_READ, 0, 1 << 20, 512, page);
	blk_tally_stats(tally, &s);
	assert_int_equal(s.ops[BLK_READ], 3);
	assert_int_equal(s.errors[BLK_READ][BLK_ST_RANGE], 1);
	swap_rig_close(&r);
	blk_tally_free(tally);
}

/* ---- slow requests ---- */

static struct {
	uint32_t noted, queue;
	uint64_t missed;
	char name[BLK_TALLY_NAME_BYTES];
	struct blk_slow last;
} told;

static void on_noted(const struct blk_tally *tally, const char *name, uint32_t queue,
		     const struct blk_slow *slow)
{
	told.noted++;
	told.queue = queue;
	told.last = *slow;
	snprintf(told.name, sizeof(told.name), "%s", name);
}

static void on_missed(uint64_t count)
{
	told.missed += count;
}

static const struct blk_slow_watcher watcher = { on_noted, on_missed };

static void what_takes_longer_than_the_threshold_is_told_with_all_that_is_known(void **state)
{
	struct blk_tally *tally = blk_tally_new("vm1", 7);
	struct disk d;

	memset(&told, 0, sizeof(told));
	disk_open(&d, "sim", DELAY);
	blk_chan_tally(d.chan, tally);
	blk_slow_watch(2 * DELAY_NS * 1000, d.loop, &watcher);
	disk_do(&d, BLK_WRITE, 0, 8192, 1024, page);
	loop_run_once(d.loop, false);
	assert_int_equal(told.noted, 0);

	blk_slow_watch(DELAY_NS / 2, d.loop, &watcher);
	disk_do(&d, BLK_WRITE, 0, 8192, 1024, page);
	loop_run_once(d.loop, false);
	assert_int_equal(told.noted, 1);
	assert_string_equal(told.name, "vm1");
	assert_int_equal(told.queue, 7);
	assert_int_equal(told.last.op, BLK_WRITE);
	assert_int_equal(told.last.status, BLK_ST_OK);
	assert_int_equal(told.last.offset_bytes, 8192);
	assert_int_equal(told.last.len_bytes, 1024);
	assert_true(told.last.took_ns >= DELAY_NS);
	assert_true(told.last.start_ns + told.last.took_ns <= loop_clock_ns());

	/* what is fast is not told of, nor what no queue asked for, nor anything when it is off */
	disk_do(&d, BLK_READ, 0, 1 << 20, 512, page);
	blk_slow_watch(UINT64_MAX, d.loop, &watcher);
	disk_do(&d, BLK_WRITE, 0, 8192, 1024, page);
	blk_slow_watch(DELAY_NS / 2, d.loop, &watcher);
	blk_chan_close(d.chan);
	assert_int_equal(blk_chan_open(d.dev, d.loop, &d.chan, NULL), 0);
	disk_do(&d, BLK_WRITE, 0, 8192, 1024, page);
	loop_run_once(d.loop, false);
	assert_int_equal(told.noted, 1);
	assert_int_equal(told.missed, 0);
	blk_slow_watch(UINT64_MAX, NULL, NULL);
	blk_tally_free(tally);
	disk_close(&d);
}

static void what_the_ring_has_no_room_for_is_counted(void **state)
{
	enum {
		COUNT = BLK_SLOW_RING + 5
	};
	struct blk_tally *tally = blk_tally_new("d", 0);
	struct disk_req r[COUNT];
	struct disk d;

	memset(&told, 0, sizeof(told));
	disk_open(&d, "sim", DELAY);
	blk_chan_tally(d.chan, tally);
	blk_slow_watch(DELAY_NS / 2, d.loop, &watcher);
	for (int i = 0; i < COUNT; i++)
		disk_start(&d, &r[i], BLK_READ, 0, 0, 512, page);
	for (int i = 0; i < COUNT; i++)
		disk_wait(&d, &r[i]);
	while (told.noted + told.missed < COUNT)
		loop_run_once(d.loop, false);
	assert_int_equal(told.noted + told.missed, COUNT);
	assert_true(told.noted >= BLK_SLOW_RING);
	disk_do(&d, BLK_READ, 0, 0, 512, page);
	loop_run_once(d.loop, false);
	assert_int_equal(told.noted + told.missed, COUNT + 1);
	blk_slow_watch(UINT64_MAX, NULL, NULL);
	disk_close(&d);
	blk_tally_free(tally);
}

/* ---- the finer histogram ---- */

static void fine_buckets_join_and_are_a_part_of_128_of_their_power_of_two(void **state)
{
	for (uint32_t i = 0; i < BLK_FINE_BUCKETS; i++) {
		uint64_t from = blk_fine_ns(i);

		assert_int_equal(blk_fine_bucket(from), i);
		if (!i)
			continue;
		assert_int_equal(blk_fine_bucket(from - 1), i - 1);
		assert_true((from - blk_fine_ns(i - 1)) * 128 <= MAX(from, 128ull));
	}
	assert_int_equal(blk_fine_bucket(UINT64_MAX), BLK_FINE_BUCKETS - 1);
	assert_int_equal(blk_fine_ns(BLK_FINE_BUCKETS - 1) >> (BLK_HIST_BUCKETS - 1), 1);
}

static uint64_t fine_sum_of(const struct blk_dev *dev, enum blk_op op, uint64_t *ret_shortest_ns)
{
	struct blk_fine *fine = malloc(sizeof(*fine));
	uint64_t sum = 0;

	assert_non_null(fine);
	blk_dev_fine(dev, fine);
	for (uint32_t i = BLK_FINE_BUCKETS; i--;) {
		sum += fine->count[op][i];
		if (fine->count[op][i] && ret_shortest_ns)
			*ret_shortest_ns = blk_fine_ns(i);
	}
	free(fine);
	return sum;
}

static void a_fine_histogram_counts_while_it_is_on(void **state)
{
	uint64_t shortest_ns = 0;
	struct disk d;

	disk_open(&d, "sim", DELAY);
	disk_do(&d, BLK_READ, 0, 0, 512, page);
	assert_int_equal(fine_sum_of(d.dev, BLK_READ, NULL), 0);
	assert_int_equal(blk_dev_fine_set(d.dev, true, NULL), 0);
	disk_do(&d, BLK_READ, 0, 0, 512, page);
	disk_do(&d, BLK_WRITE, 0, 0, 512, page);
	/* so does a channel that comes later, and what one that goes had counted stays */
	blk_chan_close(d.chan);
	assert_int_equal(blk_chan_open(d.dev, d.loop, &d.chan, NULL), 0);
	disk_do(&d, BLK_READ, 0, 0, 512, page);
	assert_int_equal(blk_dev_fine_set(d.dev, false, NULL), 0);
	disk_do(&d, BLK_READ, 0, 0, 512, page);
	assert_int_equal(fine_sum_of(d.dev, BLK_READ, &shortest_ns), 2);
	assert_int_equal(fine_sum_of(d.dev, BLK_WRITE, NULL), 1);
	assert_true(shortest_ns >= DELAY_NS - DELAY_NS / 64);
	disk_close(&d);
}

static void a_fine_histogram_goes_on_when_the_base_is_exchanged(void **state)
{
	struct swap_rig r;

	swap_rig_open(&r, "sim", DELAY);
	assert_int_equal(blk_dev_fine_set(r.disk.dev, true, NULL), 0);
	disk_do(&r.disk, BLK_READ, 0, 0, 512, page);
	swap_rig_swap(&r);
	assert_int_equal(fine_sum_of(r.disk.dev, BLK_READ, NULL), 1);
	disk_do(&r.disk, BLK_READ, 0, 0, 512, page);
	assert_int_equal(fine_sum_of(r.disk.dev, BLK_READ, NULL), 2);
	assert_int_equal(blk_dev_fine_set(r.disk.dev, false, NULL), 0);
	disk_do(&r.disk, BLK_READ, 0, 0, 512, page);
	assert_int_equal(fine_sum_of(r.disk.dev, BLK_READ, NULL), 2);
	swap_rig_close(&r);
}

static void slow_requests_and_a_fine_histogram_do_not_disturb_each_other(void **state)
{
	struct blk_tally *tally = blk_tally_new("d", 0);
	struct disk d;

	memset(&told, 0, sizeof(told));
	disk_open(&d, "sim", DELAY);
	blk_chan_tally(d.chan, tally);
	blk_slow_watch(1000 * DELAY_NS, d.loop, &watcher);
	assert_int_equal(blk_dev_fine_set(d.dev, true, NULL), 0);
	disk_do(&d, BLK_READ, 0, 0, 512, page);
	loop_run_once(d.loop, false);
	assert_int_equal(told.noted, 0);
	blk_slow_watch(DELAY_NS / 2, d.loop, &watcher);
	assert_int_equal(blk_dev_fine_set(d.dev, false, NULL), 0);
	disk_do(&d, BLK_READ, 0, 0, 512, page);
	loop_run_once(d.loop, false);
	assert_int_equal(told.noted, 1);
	assert_int_equal(fine_sum_of(d.dev, BLK_READ, NULL), 1);
	blk_slow_watch(UINT64_MAX, NULL, NULL);
	disk_close(&d);
	blk_tally_free(tally);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tally_is_the_sum_of_its_channels_of_now_and_before),
		cmocka_unit_test(errors_are_told_by_operation_and_cause),
		cmocka_unit_test(a_tally_goes_on_when_the_base_is_exchanged),
		cmocka_unit_test(
			what_takes_longer_than_the_threshold_is_told_with_all_that_is_known),
		cmocka_unit_test(what_the_ring_has_no_room_for_is_counted),
		cmocka_unit_test(fine_buckets_join_and_are_a_part_of_128_of_their_power_of_two),
		cmocka_unit_test(a_fine_histogram_counts_while_it_is_on),
		cmocka_unit_test(a_fine_histogram_goes_on_when_the_base_is_exchanged),
		cmocka_unit_test(slow_requests_and_a_fine_histogram_do_not_disturb_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
