/* passthru, part, split, delay and error on the sim and ram back-ends; and what a node counts. */
#include "blk/filter/filter_rig.h"

#include "blk/filter/delay.h"
#include "blk/filter/error.h"
#include "blk/filter/forward.h"
#include "blk/filter/part.h"
#include "blk/filter/swap.h"

#define KIB 1024ull
#define MS  1000000ull

static char page[4096] __attribute__((aligned(4096)));

/* ---- passthru, and forwarding ---- */

static void passthru_changes_nothing_and_counts_for_itself(void **state)
{
	struct filter_rig rig;
	struct blk_stats stats;
	char *buf = disk_buf(4096, 1);

	filter_open(&rig, "sim", "size=1M", "passthru", NULL);
	assert_int_equal(disk_do(&rig.disk, BLK_WRITE, BLK_FUA, 8192, 4096, buf), BLK_ST_OK);
	assert_int_equal(disk_do(&rig.disk, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_OK);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 8192, 4096, page), BLK_ST_OK);
	assert_memory_equal(page, buf, 4096);
	assert_memory_equal((char *)blk_sim_memory(rig.base) + 8192, buf, 4096);
	assert_int_equal(disk_do(&rig.disk, BLK_DISCARD, 0, 8192, 4096, NULL), BLK_ST_OK);
	assert_true(disk_all_zero((char *)blk_sim_memory(rig.base) + 8192, 4096));
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 1 << 20, 512, page), BLK_ST_RANGE);
	blk_dev_stats(rig.disk.dev, &stats);
	assert_int_equal(stats.ops[BLK_WRITE], 1);
	assert_int_equal(stats.ops[BLK_FLUSH], 1);
	assert_int_equal(stats.bytes[BLK_READ], 4096);
	assert_int_equal(blk_stats_errors(&stats, BLK_ST_RANGE), 1);
	blk_dev_stats(rig.base, &stats);
	assert_int_equal(stats.ops[BLK_WRITE], 1);
	assert_int_equal(blk_stats_errors(&stats, BLK_ST_RANGE), 0);
	free(buf);
	filter_close(&rig);
}

static void more_requests_than_a_channel_has_wait_and_end_in_order(void **state)
{
	enum {
		COUNT = FORWARD_COUNT + 40
	};
	static struct disk_req reqs[COUNT];
	struct filter_rig rig;

	filter_open(&rig, "sim", "size=1M", "passthru", NULL);
	blk_sim_hold(rig.base, true);
	for (int i = 0; i < COUNT; i++)
		disk_start(&rig.disk, &reqs[i], BLK_READ, 0, 0, 512, page);
	/* one that waits, and one that the base has */
	blk_cancel(&reqs[COUNT - 1].req);
	blk_cancel(&reqs[0].req);
	assert_int_equal(disk_wait(&rig.disk, &reqs[COUNT - 1]), BLK_ST_ABORTED);
	assert_int_equal(disk_wait(&rig.disk, &reqs[0]), BLK_ST_ABORTED);
	blk_sim_hold(rig.base, false);
	for (int i = 1; i < COUNT - 1; i++) {
		assert_int_equal(disk_wait(&rig.disk, &reqs[i]), BLK_ST_OK);
		assert_true(i == 1 || reqs[i].nth > reqs[i - 1].nth);
	}
	filter_close(&rig);
}

static void memory_that_the_base_cannot_use_is_bounced_below(void **state)
{
	struct filter_rig rig;
	char *buf = disk_buf(8192, 3);

	filter_open(&rig, "sim", "size=1M,mem-align=512", "passthru", NULL);
	assert_int_equal(disk_do(&rig.disk, BLK_WRITE, 0, 0, 4096, buf + 1), BLK_ST_OK);
	assert_memory_equal(blk_sim_memory(rig.base), buf + 1, 4096);
	free(buf);
	filter_close(&rig);
}

static void on_swapped(void *arg, int rc)
{
	*(int *)arg = rc;
}

struct take_away {
	struct loop_work work;
	struct blk_dev *dev;
	int rc;
};

static void take_away_run(struct loop_work *work)
{
	struct take_away *t = container_of(work, struct take_away, work);

	assert_int_equal(blk_swap(t->dev, NULL, on_swapped, &t->rc, NULL), 0);
}

static void base_that_is_taken_away_ends_what_comes_as_gone(void **state)
{
	struct blk_dev *sim = filter_base("sim", "size=1M");
	struct loop_params lp = { .name = "test", .cpu = -1, .sq_count = 64 };
	struct take_away t = { .work.fn = take_away_run, .rc = 1 };
	struct blk_dev *swap;
	struct disk d;

	assert_int_equal(loop_new(&lp, &d.loop, NULL), 0);
	assert_int_equal(blk_dev_open_on("swap", "s", NULL, sim, &swap, NULL), 0);
	assert_int_equal(blk_part_open(swap, "p", 4096, 8192, &d.dev, NULL), 0);
	assert_int_equal(blk_chan_open(d.dev, d.loop, &d.chan, NULL), 0);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	t.dev = swap;
	loop_defer(d.loop, &t.work);
	while (t.rc == 1)
		loop_run_once(d.loop, true);
	assert_int_equal(t.rc, 0);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 0, 512, page), BLK_ST_GONE);
	disk_close(&d);
	blk_dev_unref(swap);
	blk_dev_unref(sim);
}

/* ---- part and split ---- */

static void part_is_its_range_and_nothing_else(void **state)
{
	struct filter_rig rig;
	char *buf = disk_buf(4096, 5), *disk;

	filter_open(&rig, "sim", "size=1M", "part", "start=64K,length=8K");
	disk = blk_sim_memory(rig.base);
	assert_int_equal(blk_dev_caps(rig.disk.dev)->size_bytes, 8 * KIB);
	assert_int_equal(disk_do(&rig.disk, BLK_WRITE, 0, 4096, 4096, buf), BLK_ST_OK);
	assert_memory_equal(disk + 68 * KIB, buf, 4096);
	assert_true(disk_all_zero(disk, 68 * KIB));
	assert_int_equal(disk_do(&rig.disk, BLK_WRITE, 0, 4096, 4608, buf), BLK_ST_RANGE);
	assert_int_equal(disk_do(&rig.disk, BLK_WRITE_ZEROES, 0, 4096, 4096, NULL), BLK_ST_OK);
	assert_true(disk_all_zero(disk, KIB * KIB));
	assert_int_equal(disk_do(&rig.disk, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_OK);
	free(buf);
	filter_close(&rig);
}

static void part_without_length_follows_the_base_and_with_one_only_shrinks(void **state)
{
	struct blk_dev *rest, *fixed;
	struct filter_rig rig;

	filter_open(&rig, "sim", "size=1M", "part", "start=512K");
	rest = rig.disk.dev;
	assert_int_equal(blk_part_open(rig.base, "f", 512 * KIB, 256 * KIB, &fixed, NULL), 0);
	assert_int_equal(blk_dev_caps(rest)->size_bytes, 512 * KIB);
	blk_sim_resize(rig.base, 640 * KIB);
	assert_int_equal(blk_dev_rescan(rest, NULL), 0);
	assert_int_equal(blk_dev_caps(rest)->size_bytes, 128 * KIB);
	assert_int_equal(blk_dev_caps(fixed)->size_bytes, 128 * KIB);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 128 * KIB, 512, page), BLK_ST_RANGE);
	blk_sim_resize(rig.base, 256 * KIB);
	assert_int_equal(blk_dev_rescan(fixed, NULL), 0);
	assert_int_equal(blk_dev_caps(rest)->size_bytes, 0);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_RANGE);
	blk_sim_resize(rig.base, KIB * KIB);
	assert_int_equal(blk_dev_rescan(rest, NULL), 0);
	assert_int_equal(blk_dev_caps(rest)->size_bytes, 512 * KIB);
	assert_int_equal(blk_dev_caps(fixed)->size_bytes, 256 * KIB);
	blk_dev_unref(fixed);
	filter_close(&rig);
}

static void part_that_does_not_fit_is_refused_with_the_numbers(void **state)
{
	filter_refused("part", "start=100", -EINVAL, "start=100");
	filter_refused("part", "length=513", -EINVAL, "block size, 512");
	filter_refused("part", "start=1M", -ERANGE, "has 1048576 bytes");
	filter_refused("part", "start=512K,length=513K", -ERANGE, "has 524288 bytes");
	filter_refused("part", "offset=1", -ENOENT, "offset");
}

static void part_maps_its_range_of_the_base(void **state)
{
	struct filter_rig rig;
	uint64_t end;
	bool mapped;

	filter_open(&rig, "ram", "size=1M", "part", "start=64K");
	assert_true(blk_dev_can_map(rig.disk.dev));
	assert_int_equal(disk_do(&rig.disk, BLK_WRITE, 0, 8192, 4096, page), BLK_ST_OK);
	assert_int_equal(blk_dev_map(rig.disk.dev, 0, 64 * KIB, &end, &mapped), 0);
	assert_false(mapped);
	assert_int_equal(end, 8192);
	assert_int_equal(blk_dev_map(rig.disk.dev, end, 64 * KIB, &end, &mapped), 0);
	assert_true(mapped);
	assert_int_equal(end, 12288);
	assert_int_equal(blk_dev_map(rig.disk.dev, 0, 1 << 20, &end, &mapped), -EINVAL);
	filter_close(&rig);
}

static void part_is_aligned_no_better_than_its_start(void **state)
{
	struct filter_rig rig;

	filter_open(&rig, "null", "size=1M", "part", "start=1K");
	assert_int_equal(blk_dev_caps(rig.disk.dev)->phys_bytes, 1024);
	filter_close(&rig);
	filter_open(&rig, "ram", "size=1M", "part", "start=1K");
	assert_int_equal(blk_dev_caps(rig.disk.dev)->discard_align_bytes, 512);
	filter_close(&rig);
}

static void split_is_by_number_or_by_size(void **state)
{
	struct blk_dev *base = filter_base("sim", "size=1M");
	struct err err = { 0 };
	uint64_t bytes;
	uint32_t n;

	assert_int_equal(blk_split_plan(base, 3, 0, &n, &bytes, &err), 0);
	assert_int_equal(n, 3);
	assert_int_equal(bytes, 349184);
	assert_int_equal(blk_split_plan(base, 0, 300 * KIB, &n, &bytes, &err), 0);
	assert_int_equal(n, 3);
	assert_int_equal(blk_split_plan(base, 2, 512 * KIB, &n, &bytes, &err), 0);
	assert_int_equal(n, 2);
	assert_int_equal(blk_split_plan(base, 3, 512 * KIB, &n, &bytes, &err), -ERANGE);
	assert_int_equal(blk_split_plan(base, 0, 2048 * KIB, &n, &bytes, &err), -ERANGE);
	assert_int_equal(blk_split_plan(base, 0, 0, &n, &bytes, &err), -EINVAL);
	assert_int_equal(blk_split_plan(base, 0, 512, &n, &bytes, &err), -EINVAL);
	assert_int_equal(blk_split_plan(base, 2, 1000, &n, &bytes, &err), -EINVAL);
	assert_int_equal(blk_split_plan(base, BLK_SPLIT_MAX + 1, 0, &n, &bytes, &err), -EINVAL);
	blk_dev_unref(base);
}

/* ---- delay ---- */

static uint64_t took_ns(struct disk *d, enum blk_op op)
{
	uint64_t start;

	loop_run_once(d->loop, false); /* its clock is right */
	start = loop_now_ns(d->loop);
	assert_int_equal(disk_do(d, op, 0, 0, op == BLK_FLUSH ? 0 : 512, page), BLK_ST_OK);
	return loop_clock_ns() - start;
}

static void reads_and_writes_are_late_and_nothing_else_is(void **state)
{
	struct filter_rig rig;

	filter_open(&rig, "ram", "size=1M", "delay",
		    "avg-read=5000,avg-write=20000,p99-read=5000,p99-write=20000");
	assert_true(took_ns(&rig.disk, BLK_READ) >= 5 * MS);
	assert_true(took_ns(&rig.disk, BLK_WRITE) >= 20 * MS);
	blk_delay_set(rig.disk.dev, BLK_DELAY_AVG_READ, BLK_DELAY_MAX_US, NULL);
	blk_delay_set(rig.disk.dev, BLK_DELAY_AVG_WRITE, BLK_DELAY_MAX_US, NULL);
	took_ns(&rig.disk, BLK_FLUSH);
	took_ns(&rig.disk, BLK_DISCARD);
	filter_close(&rig);
}

static void each_hundredth_read_takes_the_99th_percentile(void **state)
{
	struct filter_rig rig;
	struct blk_stats stats;

	filter_open(&rig, "ram", "size=1M", "delay", "p99-read=30000");
	for (int i = 0; i < 200; i++)
		assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	blk_dev_stats(rig.disk.dev, &stats);
	assert_true(stats.latency_ns[BLK_READ] >= 60 * MS);
	assert_true(stats.max_ns[BLK_READ] >= 30 * MS);
	assert_true(stats.min_ns[BLK_READ] < 30 * MS);
	filter_close(&rig);
}

static void latency_changes_while_it_runs_and_a_shorter_one_overtakes(void **state)
{
	struct filter_rig rig;
	struct disk_req late, soon;

	filter_open(&rig, "ram", "size=1M", "delay", "avg-read=60000000,avg-write=60000000");
	assert_int_equal(blk_delay_get(rig.disk.dev, BLK_DELAY_AVG_READ), 60000000);
	disk_start(&rig.disk, &late, BLK_READ, 0, 0, 512, page);
	loop_run_once(rig.disk.loop, false);
	assert_int_equal(blk_delay_set(rig.disk.dev, BLK_DELAY_AVG_READ, 1000, NULL), 0);
	disk_start(&rig.disk, &soon, BLK_READ, 0, 0, 512, page);
	assert_int_equal(disk_wait(&rig.disk, &soon), BLK_ST_OK);
	assert_false(late.done);
	/* the base has done it: cancelling only ends the wait */
	blk_cancel(&late.req);
	assert_int_equal(disk_wait(&rig.disk, &late), BLK_ST_OK);
	filter_close(&rig);
}

static void delay_refuses_what_is_too_long_or_no_delay(void **state)
{
	struct filter_rig rig;
	struct err err = { 0 };

	filter_refused("delay", "avg-read=99999999999", -ERANGE, "avg-read");
	filter_open(&rig, "ram", "size=1M", "delay", NULL);
	assert_int_equal(
		blk_delay_set(rig.disk.dev, BLK_DELAY_P99_WRITE, BLK_DELAY_MAX_US + 1, &err),
		-ERANGE);
	assert_non_null(strstr(err.msg, "p99-write"));
	assert_int_equal(blk_delay_set(rig.base, BLK_DELAY_P99_WRITE, 1, &err), -EINVAL);
	assert_int_equal(blk_delay_get(rig.base, BLK_DELAY_P99_WRITE), 0);
	filter_close(&rig);
}

/* ---- error ---- */

static void inject(struct filter_rig *rig, enum blk_error_kind kind, uint32_t op_mask, uint32_t num)
{
	struct blk_error_injection in = {
		.kind = kind,
		.op_mask = op_mask,
		.num = num,
		.corrupt_offset = 513,
		.corrupt_value = 0xff,
	};

	assert_int_equal(blk_error_inject(rig->disk.dev, &in, NULL), 0);
}

static void failure_hits_so_many_requests_of_its_operation(void **state)
{
	struct filter_rig rig;
	struct blk_stats stats;

	filter_open(&rig, "sim", "size=1M", "error", NULL);
	inject(&rig, BLK_ERROR_FAILURE, 1u << BLK_WRITE | 1u << BLK_FLUSH, 2);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	assert_int_equal(disk_do(&rig.disk, BLK_WRITE, 0, 0, 512, page), BLK_ST_IOERR);
	assert_int_equal(disk_do(&rig.disk, BLK_WRITE, 0, 0, 512, page), BLK_ST_IOERR);
	assert_int_equal(disk_do(&rig.disk, BLK_WRITE, 0, 0, 512, page), BLK_ST_OK);
	assert_int_equal(disk_do(&rig.disk, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_IOERR);
	blk_error_clear(rig.disk.dev);
	assert_int_equal(disk_do(&rig.disk, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_OK);
	inject(&rig, BLK_ERROR_FAILURE, BLK_ERROR_ALL, 1);
	assert_int_equal(disk_do(&rig.disk, BLK_DISCARD, 0, 0, 512, NULL), BLK_ST_IOERR);
	assert_int_equal(disk_do(&rig.disk, BLK_WRITE_ZEROES, 0, 0, 512, NULL), BLK_ST_IOERR);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_IOERR);
	blk_dev_stats(rig.base, &stats);
	assert_int_equal(blk_stats_errors(&stats, BLK_ST_IOERR), 0);
	blk_dev_stats(rig.disk.dev, &stats);
	assert_int_equal(blk_stats_errors(&stats, BLK_ST_IOERR), 6);
	filter_close(&rig);
}

static void pending_waits_for_resume_or_cancel(void **state)
{
	struct filter_rig rig;
	struct disk_req a, b;

	filter_open(&rig, "ram", "size=1M", "error", NULL);
	inject(&rig, BLK_ERROR_PENDING, 1u << BLK_READ, 2);
	disk_start(&rig.disk, &a, BLK_READ, 0, 0, 512, page);
	disk_start(&rig.disk, &b, BLK_READ, 0, 0, 512, page);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	for (int i = 0; i < 5; i++)
		loop_run_once(rig.disk.loop, true);
	assert_false(a.done || b.done);
	blk_cancel(&a.req);
	assert_int_equal(disk_wait(&rig.disk, &a), BLK_ST_ABORTED);
	assert_false(b.done);
	blk_error_resume(rig.disk.dev);
	assert_int_equal(disk_wait(&rig.disk, &b), BLK_ST_OK);
	filter_close(&rig);
}

static void corruption_changes_one_byte_of_what_is_read_or_stored(void **state)
{
	struct filter_rig rig;
	char *buf = disk_buf(4096, 9), *stored;

	filter_open(&rig, "sim", "size=1M", "error", NULL);
	stored = blk_sim_memory(rig.base);
	inject(&rig, BLK_ERROR_CORRUPT, BLK_ERROR_ALL, 1);
	/* too short to have that byte, and without bytes: left alone */
	assert_int_equal(disk_do(&rig.disk, BLK_WRITE, 0, 0, 512, buf), BLK_ST_OK);
	assert_memory_equal(stored, buf, 512);
	assert_int_equal(disk_do(&rig.disk, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_OK);

	assert_int_equal(disk_do(&rig.disk, BLK_WRITE, 0, 0, 4096, buf), BLK_ST_OK);
	assert_int_equal((uint8_t)(stored[513] ^ buf[513]), 0xff);
	stored[513] = buf[513];
	assert_memory_equal(stored, buf, 4096);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 4096, page), BLK_ST_OK);
	assert_int_equal((uint8_t)(page[513] ^ buf[513]), 0xff);
	assert_memory_equal(page, buf, 513);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 4096, page), BLK_ST_OK);
	assert_memory_equal(page, buf, 4096);
	free(buf);
	filter_close(&rig);
}

static void status_of_nvme_comes_through_other_filters(void **state)
{
	struct blk_error_injection in = { .kind = BLK_ERROR_NVME,
					  .op_mask = 1u << BLK_READ,
					  .num = 2,
					  .nvme_sct = 2,
					  .nvme_sc = 0x81 };
	struct filter_rig rig;
	struct blk_chan *chan;
	struct blk_dev *part;
	struct disk_req r;

	filter_open(&rig, "sim", "size=1M", "error", NULL);
	assert_int_equal(blk_dev_open_on("part", "p", "length=64K", rig.disk.dev, &part, NULL), 0);
	assert_int_equal(blk_error_inject(rig.disk.dev, &in, NULL), 0);
	disk_start(&rig.disk, &r, BLK_READ, 0, 0, 512, page);
	assert_int_equal(disk_wait(&rig.disk, &r), BLK_ST_NVME);
	assert_int_equal(r.req.nvme_status, 0x281);
	chan = rig.disk.chan;
	assert_int_equal(blk_chan_open(part, rig.disk.loop, &rig.disk.chan, NULL), 0);
	disk_start(&rig.disk, &r, BLK_READ, 0, 0, 512, page);
	assert_int_equal(disk_wait(&rig.disk, &r), BLK_ST_NVME);
	assert_int_equal(r.req.nvme_status, 0x281);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	blk_chan_close(rig.disk.chan);
	rig.disk.chan = chan;
	blk_dev_unref(part);
	in.nvme_sct = in.nvme_sc = 0;
	assert_int_equal(blk_error_inject(rig.disk.dev, &in, NULL), -EINVAL);
	in.nvme_sct = 8;
	assert_int_equal(blk_error_inject(rig.disk.dev, &in, NULL), -EINVAL);
	filter_close(&rig);
}

static void short_memory_only_makes_it_late(void **state)
{
	struct filter_rig rig;

	filter_open(&rig, "ram", "size=1M", "error", NULL);
	inject(&rig, BLK_ERROR_NOMEM, BLK_ERROR_ALL, 1);
	assert_true(took_ns(&rig.disk, BLK_READ) >= MS);
	assert_true(took_ns(&rig.disk, BLK_WRITE) >= MS);
	filter_close(&rig);
}

static void queue_depth_says_which_requests_are_hit(void **state)
{
	struct blk_error_injection in = { .op_mask = 1u << BLK_READ, .num = 10, .queue_depth = 2 };
	struct filter_rig rig;
	struct disk_req r[4];

	filter_open(&rig, "sim", "size=1M", "error", NULL);
	assert_int_equal(blk_error_inject(rig.disk.dev, &in, NULL), 0);
	blk_sim_hold(rig.base, true);
	for (int i = 0; i < 4; i++)
		disk_start(&rig.disk, &r[i], BLK_READ, 0, 0, 512, page);
	blk_sim_hold(rig.base, false);
	for (int i = 0; i < 4; i++)
		assert_int_equal(disk_wait(&rig.disk, &r[i]), i < 2 ? BLK_ST_OK : BLK_ST_IOERR);
	filter_close(&rig);
}

static void injection_that_means_nothing_is_refused(void **state)
{
	struct filter_rig rig;
	struct err err = { 0 };
	struct blk_error_injection none = { .num = 1 };
	struct blk_error_injection same = { .kind = BLK_ERROR_CORRUPT, .op_mask = 1, .num = 1 };
	struct blk_error_injection flush = {
		.kind = BLK_ERROR_CORRUPT, .op_mask = 1u << BLK_FLUSH, .num = 1, .corrupt_value = 1
	};

	filter_open(&rig, "sim", "size=1M", "error", NULL);
	assert_int_equal(blk_error_inject(rig.disk.dev, &none, &err), -EINVAL);
	assert_int_equal(blk_error_inject(rig.disk.dev, &same, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "1 to 255"));
	assert_int_equal(blk_error_inject(rig.disk.dev, &flush, &err), -EINVAL);
	assert_int_equal(blk_error_inject(rig.base, &flush, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "expected error"));
	filter_close(&rig);
}

/* ---- what a node counts ---- */

static void iostat_begins_anew_at_a_reset_and_the_node_still_knows_all(void **state)
{
	struct filter_rig rig;
	struct blk_stats s;

	filter_open(&rig, "ram", "size=1M", "delay", "avg-read=2000,avg-write=1");
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	blk_dev_iostat(rig.disk.dev, &s);
	assert_int_equal(s.ops[BLK_READ], 1);
	assert_true(s.min_ns[BLK_READ] >= 2 * MS && s.min_ns[BLK_READ] == s.max_ns[BLK_READ]);
	assert_int_equal(s.latency_ns[BLK_READ], s.max_ns[BLK_READ]);
	assert_int_equal(s.min_ns[BLK_WRITE], 0);

	blk_dev_iostat_reset(rig.disk.dev, true);
	blk_dev_iostat(rig.disk.dev, &s);
	assert_int_equal(s.ops[BLK_READ], 1);
	assert_int_equal(s.max_ns[BLK_READ], 0);
	blk_dev_iostat_reset(rig.disk.dev, false);
	blk_dev_iostat(rig.disk.dev, &s);
	assert_int_equal(s.ops[BLK_READ] + s.bytes[BLK_READ] + s.latency_ns[BLK_READ], 0);
	blk_dev_stats(rig.disk.dev, &s);
	assert_int_equal(s.ops[BLK_READ], 1);
	filter_close(&rig);
}

static void same_counters(const struct blk_stats *a, const struct blk_stats *b)
{
	assert_memory_equal(a->ops, b->ops, sizeof(a->ops));
	assert_memory_equal(a->bytes, b->bytes, sizeof(a->bytes));
	assert_memory_equal(a->hist, b->hist, sizeof(a->hist));
	assert_memory_equal(a->latency_ns, b->latency_ns, sizeof(a->latency_ns));
	assert_memory_equal(a->errors, b->errors, sizeof(a->errors));
}

static void counters_go_on_from_those_of_another_process(void **state)
{
	struct filter_rig was, is;
	struct blk_stats all, iostat, s;

	filter_open(&was, "ram", "size=1M", "swap", NULL);
	assert_int_equal(disk_do(&was.disk, BLK_WRITE, 0, 0, 512, page), BLK_ST_OK);
	blk_dev_iostat_reset(was.disk.dev, false);
	for (int i = 0; i < 3; i++)
		assert_int_equal(disk_do(&was.disk, BLK_READ, 0, 0, 1024, page), BLK_ST_OK);
	assert_int_equal(disk_do(&was.disk, BLK_READ, 0, 1u << 30, 512, page), BLK_ST_RANGE);
	blk_dev_stats(was.disk.dev, &all);
	blk_dev_iostat(was.disk.dev, &iostat);
	filter_close(&was);

	filter_open(&is, "ram", "size=1M", "swap", NULL);
	for (int i = 0; i < 2; i++) /* a disk of two units is told twice */
		blk_dev_stats_inherit(is.disk.dev, &all, &iostat);
	blk_dev_stats(is.disk.dev, &s);
	same_counters(&s, &all);
	blk_dev_iostat(is.disk.dev, &s);
	same_counters(&s, &iostat);
	assert_int_equal(s.max_ns[BLK_READ], all.max_ns[BLK_READ]);
	assert_int_equal(disk_do(&is.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	blk_dev_stats(is.disk.dev, &s);
	assert_int_equal(s.ops[BLK_READ], 5);
	assert_int_equal(s.bytes[BLK_READ], 3 * 1024 + 512);
	assert_int_equal(s.ops[BLK_WRITE], 1);
	assert_int_equal(blk_stats_errors(&s, BLK_ST_RANGE), 1);
	blk_dev_iostat(is.disk.dev, &s);
	assert_int_equal(s.ops[BLK_READ], 5);
	assert_int_equal(s.ops[BLK_WRITE], 0);
	filter_close(&is);
}

struct seen {
	uint32_t chans;
	uint64_t ops, in_flight;
};

static void seen_add(void *arg, const struct loop *loop, const struct blk_stats *s)
{
	struct seen *seen = arg;

	seen->chans++;
	seen->ops += s->ops[BLK_READ];
	seen->in_flight += s->in_flight;
	assert_string_equal(loop_name(loop), "test");
}

static void each_channel_has_its_part_also_through_a_swap(void **state)
{
	struct filter_rig rig;
	struct seen seen = { 0 };
	struct blk_chan *second;
	struct blk_stats s;
	struct disk_req held;

	filter_open(&rig, "sim", "size=1M", "swap", NULL);
	assert_int_equal(blk_chan_open(rig.disk.dev, rig.disk.loop, &second, NULL), 0);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	blk_sim_hold(rig.base, true);
	disk_start(&rig.disk, &held, BLK_READ, 0, 0, 512, page);
	blk_dev_iostat_each(rig.disk.dev, seen_add, &seen);
	assert_int_equal(seen.chans, 2);
	assert_int_equal(seen.ops, 1);
	assert_int_equal(seen.in_flight, 1);
	blk_dev_iostat(rig.disk.dev, &s);
	assert_int_equal(s.in_flight, 1);
	blk_dev_iostat_reset(rig.disk.dev, false);
	blk_sim_hold(rig.base, false);
	assert_int_equal(disk_wait(&rig.disk, &held), BLK_ST_OK);
	blk_chan_close(second);
	blk_dev_iostat(rig.disk.dev, &s);
	assert_int_equal(s.ops[BLK_READ], 1);
	seen = (struct seen){ 0 };
	blk_dev_iostat_each(rig.disk.dev, seen_add, &seen);
	assert_int_equal(seen.ops, 1);
	filter_close(&rig);
}

static void swap_to_a_filter_on_the_same_base_counts_nothing_twice(void **state)
{
	struct filter_rig rig;
	struct blk_dev *over;
	struct blk_stats s;
	int rc = 1;

	filter_open(&rig, "ram", "size=1M", "swap", NULL);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	blk_chan_close(rig.disk.chan);
	assert_int_equal(blk_dev_open_on("passthru", "p", NULL, rig.base, &over, NULL), 0);
	assert_int_equal(blk_swap(rig.disk.dev, over, on_swapped, &rc, NULL), 0);
	assert_int_equal(rc, 0);
	blk_dev_unref(over);
	assert_int_equal(blk_chan_open(rig.disk.dev, rig.disk.loop, &rig.disk.chan, NULL), 0);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	blk_dev_stats(rig.disk.dev, &s);
	assert_int_equal(s.ops[BLK_READ], 2);
	blk_chan_close(rig.disk.chan);
	assert_int_equal(blk_swap(rig.disk.dev, rig.base, on_swapped, &rc, NULL), 0);
	assert_int_equal(blk_chan_open(rig.disk.dev, rig.disk.loop, &rig.disk.chan, NULL), 0);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	blk_dev_stats(rig.disk.dev, &s);
	assert_int_equal(s.ops[BLK_READ], 3);
	filter_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passthru_changes_nothing_and_counts_for_itself),
		cmocka_unit_test(more_requests_than_a_channel_has_wait_and_end_in_order),
		cmocka_unit_test(memory_that_the_base_cannot_use_is_bounced_below),
		cmocka_unit_test(base_that_is_taken_away_ends_what_comes_as_gone),
		cmocka_unit_test(part_is_its_range_and_nothing_else),
		cmocka_unit_test(part_without_length_follows_the_base_and_with_one_only_shrinks),
		cmocka_unit_test(part_that_does_not_fit_is_refused_with_the_numbers),
		cmocka_unit_test(part_maps_its_range_of_the_base),
		cmocka_unit_test(part_is_aligned_no_better_than_its_start),
		cmocka_unit_test(split_is_by_number_or_by_size),
		cmocka_unit_test(reads_and_writes_are_late_and_nothing_else_is),
		cmocka_unit_test(each_hundredth_read_takes_the_99th_percentile),
		cmocka_unit_test(latency_changes_while_it_runs_and_a_shorter_one_overtakes),
		cmocka_unit_test(delay_refuses_what_is_too_long_or_no_delay),
		cmocka_unit_test(failure_hits_so_many_requests_of_its_operation),
		cmocka_unit_test(pending_waits_for_resume_or_cancel),
		cmocka_unit_test(corruption_changes_one_byte_of_what_is_read_or_stored),
		cmocka_unit_test(status_of_nvme_comes_through_other_filters),
		cmocka_unit_test(short_memory_only_makes_it_late),
		cmocka_unit_test(queue_depth_says_which_requests_are_hit),
		cmocka_unit_test(injection_that_means_nothing_is_refused),
		cmocka_unit_test(iostat_begins_anew_at_a_reset_and_the_node_still_knows_all),
		cmocka_unit_test(counters_go_on_from_those_of_another_process),
		cmocka_unit_test(each_channel_has_its_part_also_through_a_swap),
		cmocka_unit_test(swap_to_a_filter_on_the_same_base_counts_nothing_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
