/* Copies and zeroes: contents, holes, failures, and the end in the middle. */
#include <errno.h>

#include "blk/test_disk.h"

#include "blk/backend/sim.h"
#include "blk/bulk.h"
#include "blk/filter/error.h"

#define MIB (1u << 20)

struct rig {
	struct loop *loop; /* main's and the work's */
	struct blk_dev *src, *dst;
	struct blk_bulk bulk;
	int done;
	struct loop_msg start;
};

static struct blk_dev *node(const char *type, const char *params)
{
	struct blk_dev *dev;
	struct err err = { 0 };

	if (blk_dev_open(type, type, params, &dev, &err) < 0)
		fail_msg("%s", err.msg);
	return dev;
}

static void rig_open(struct rig *rig, struct blk_dev *src, struct blk_dev *dst)
{
	struct loop_params lp = { .name = "test", .cpu = -1, .sq_count = 64 };
	struct err err = { 0 };

	memset(rig, 0, sizeof(*rig));
	assert_int_equal(loop_new(&lp, &rig->loop, &err), 0);
	assert_int_equal(job_threads_start(1, &err), 0);
	rig->src = src;
	rig->dst = dst;
}

static void rig_close(struct rig *rig)
{
	job_threads_stop();
	blk_dev_unref(rig->src);
	blk_dev_unref(rig->dst);
	loop_free(rig->loop);
}

static void on_done(struct blk_bulk *bulk)
{
	container_of(bulk, struct rig, bulk)->done++;
}

static void on_start(struct loop_msg *msg)
{
	struct rig *rig = container_of(msg, struct rig, start);

	blk_bulk_start(&rig->bulk, rig->loop);
}

static void begin(struct rig *rig)
{
	memset(&rig->bulk, 0, sizeof(rig->bulk));
	rig->bulk.src = rig->src;
	rig->bulk.dst = rig->dst;
	rig->bulk.bytes = blk_dev_caps(rig->src ? rig->src : rig->dst)->size_bytes;
	rig->bulk.done = on_done;
	rig->done = 0;
	rig->start.fn = on_start;
	loop_post(rig->loop, &rig->start);
	loop_run_once(rig->loop, true);
}

static enum blk_status finish(struct rig *rig)
{
	while (!rig->done)
		loop_run_once(rig->loop, true);
	assert_int_equal(rig->done, 1);
	return rig->bulk.status;
}

/* Writes to src as a guest does. */
static void put(struct rig *rig, struct blk_dev *dev, uint64_t at, const void *bytes, size_t len)
{
	struct disk d = { .loop = rig->loop, .dev = dev };
	struct err err = { 0 };

	assert_int_equal(blk_chan_open(dev, rig->loop, &d.chan, &err), 0);
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, at, len, (void *)bytes), BLK_ST_OK);
	blk_chan_close(d.chan);
}

static void fill(struct rig *rig, struct blk_dev *dev)
{
	size_t len = blk_dev_caps(dev)->size_bytes;
	char *buf = disk_buf(len, 3);

	put(rig, dev, 0, buf, len);
	free(buf);
}

static void a_copy_has_every_byte_and_leaves_what_is_beyond(void **state)
{
	struct rig rig;
	char *src, *dst;
	/* beyond several pieces, and the last one is a short one */
	struct blk_dev *from = node("sim", "size=3584K,delay-max-ns=300000,seed=5");
	struct blk_dev *to = node("sim", "size=4M,delay-max-ns=300000,seed=9,block-size=4096");

	rig_open(&rig, from, to);
	fill(&rig, from);
	src = blk_sim_memory(from);
	memset(src + 700 * 1024, 0, 900 * 1024); /* written, and zero */
	dst = blk_sim_memory(to);
	memset(dst, 0x55, 4 * MIB);
	begin(&rig);
	assert_int_equal(finish(&rig), BLK_ST_OK);
	assert_memory_equal(src, dst, 3584 * 1024);
	assert_int_equal(dst[3584 * 1024], 0x55);
	assert_int_equal(dst[4 * MIB - 1], 0x55);
	assert_int_equal(atomic_load(&rig.bulk.done_bytes), 3584 * 1024);
	rig_close(&rig);
}

static void holes_and_zeroes_are_not_written_as_data(void **state)
{
	struct rig rig;
	struct blk_stats stats;
	struct blk_dev *from = node("sim", "size=64M"), *to = node("sim", "size=64M");
	char *page = disk_buf(4096, 1), *zeroes = calloc(1, MIB);

	rig_open(&rig, from, to);
	memset(blk_sim_memory(to), 0x55, 64 * MIB);
	put(&rig, from, 20 * MIB, page, 4096);
	put(&rig, from, 50 * MIB, zeroes, MIB); /* data that is zero */
	begin(&rig);
	assert_int_equal(finish(&rig), BLK_ST_OK);
	assert_memory_equal(blk_sim_memory(from), blk_sim_memory(to), 64 * MIB);
	blk_dev_stats(from, &stats);
	assert_in_range(stats.bytes[BLK_READ], MIB, 2 * MIB);
	blk_dev_stats(to, &stats);
	assert_in_range(stats.bytes[BLK_WRITE], 4096, 65536);
	assert_int_equal(stats.bytes[BLK_WRITE] + stats.bytes[BLK_WRITE_ZEROES], 64 * MIB);
	assert_int_equal(stats.ops[BLK_FLUSH], 1);
	free(page);
	free(zeroes);
	rig_close(&rig);
}

static void a_source_in_small_fragments_is_copied(void **state)
{
	struct rig rig;
	struct blk_dev *from = node("sim", "size=4M"), *to = node("sim", "size=4M");
	char *page = disk_buf(4096, 1);

	rig_open(&rig, from, to);
	memset(blk_sim_memory(to), 0x55, 4 * MIB);
	for (uint32_t at = 4096; at < 4 * MIB; at += 3 * 4096)
		put(&rig, from, at, page, 4096);
	begin(&rig);
	assert_int_equal(finish(&rig), BLK_ST_OK);
	assert_memory_equal(blk_sim_memory(from), blk_sim_memory(to), 4 * MIB);
	free(page);
	rig_close(&rig);
}

static void protection_information_is_copied_too(void **state)
{
	struct rig rig;
	struct disk d;
	struct disk_req r = { 0 };
	struct err err = { 0 };
	struct blk_dev *from = node("ram", "size=2M,pi-type=1"),
		       *to = node("ram", "size=2M,pi-type=1");
	struct blk_dev *bare = node("ram", "size=2M");
	char *page = disk_buf(4096, 1), *back = disk_buf(4096, 2);
	uint8_t pi[64], got[64];

	rig_open(&rig, from, to);
	assert_int_equal(blk_bulk_check(from, bare, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "would be lost"));
	d = (struct disk){ .loop = rig.loop, .dev = from };
	for (uint32_t i = 0; i < sizeof(pi); i++)
		pi[i] = (uint8_t)(i + 1);
	assert_int_equal(blk_chan_open(from, rig.loop, &d.chan, &err), 0);
	r.req = (struct blk_req){ .op = BLK_WRITE,
				  .flags = BLK_PI,
				  .offset_bytes = MIB,
				  .len_bytes = 4096,
				  .iov = r.iov,
				  .iov_count = 1,
				  .pi = pi,
				  .done = disk_req_done };
	r.iov[0] = (struct iovec){ page, 4096 };
	blk_submit(d.chan, &r.req);
	assert_int_equal(disk_wait(&d, &r), BLK_ST_OK);
	blk_chan_close(d.chan);
	begin(&rig);
	assert_int_equal(finish(&rig), BLK_ST_OK);
	assert_int_equal(blk_chan_open(to, rig.loop, &d.chan, &err), 0);
	r.done = false;
	r.req.op = BLK_READ;
	r.req.pi = got;
	r.iov[0].iov_base = back;
	blk_submit(d.chan, &r.req);
	assert_int_equal(disk_wait(&d, &r), BLK_ST_OK);
	assert_memory_equal(back, page, 4096);
	assert_memory_equal(got, pi, sizeof(pi));
	blk_chan_close(d.chan);
	blk_dev_unref(bare);
	free(page);
	free(back);
	rig_close(&rig);
}

static void zeroes_fill_all_of_it(void **state)
{
	struct rig rig;
	struct blk_dev *to = node("sim", "size=40M");

	rig_open(&rig, NULL, to);
	memset(blk_sim_memory(to), 0x55, 40 * MIB);
	begin(&rig);
	assert_int_equal(finish(&rig), BLK_ST_OK);
	assert_true(disk_all_zero(blk_sim_memory(to), 40 * MIB));
	assert_int_equal(atomic_load(&rig.bulk.done_bytes), 40 * MIB);
	rig_close(&rig);
}

static void zeroes_are_written_where_the_back_end_cannot_make_them(void **state)
{
	struct rig rig;
	/* every request for zeroes is refused as unknown */
	struct blk_dev *to = node("sim", "size=40M,fail-every=1,fail-op=write-zeroes,"
					 "fail-status=UNSUPP");

	rig_open(&rig, NULL, to);
	memset(blk_sim_memory(to), 0x55, 40 * MIB);
	begin(&rig);
	assert_int_equal(finish(&rig), BLK_ST_OK);
	assert_true(disk_all_zero(blk_sim_memory(to), 40 * MIB));
	rig_close(&rig);
}

static void a_failure_names_its_side_and_place(void **state)
{
	static const struct {
		const char *src, *dst, *failed;
		bool read;
		enum blk_status status;
	} cases[] = {
		{ "size=8M,fail-every=5,fail-op=read", "size=8M", "read", true, BLK_ST_IOERR },
		{ "size=8M", "size=8M,fail-every=7,fail-op=write,fail-status=NO_SPACE", "write",
		  false, BLK_ST_NO_SPACE },
		{ "size=8M", "size=8M,fail-every=1,fail-op=flush", "flush", false, BLK_ST_IOERR },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct rig rig;

		rig_open(&rig, node("sim", cases[i].src), node("sim", cases[i].dst));
		fill(&rig, rig.src);
		begin(&rig);
		assert_int_equal(finish(&rig), cases[i].status);
		assert_string_equal(rig.bulk.failed, cases[i].failed);
		assert_int_equal(rig.bulk.read_failed, cases[i].read);
		rig_close(&rig);
	}
}

static void a_stop_ends_what_hangs(void **state)
{
	struct rig rig;

	rig_open(&rig, node("sim", "size=8M"), node("sim", "size=8M"));
	fill(&rig, rig.src);
	blk_sim_hold(rig.dst, true);
	begin(&rig);
	for (int i = 0; i < 20; i++)
		loop_run_once(rig.loop, true);
	assert_int_equal(rig.done, 0);
	blk_bulk_stop(&rig.bulk);
	blk_bulk_stop(&rig.bulk);
	assert_int_equal(finish(&rig), BLK_ST_ABORTED);
	assert_true(atomic_load(&rig.bulk.done_bytes) < 8 * MIB);
	rig_close(&rig);
}

/* The end and the stop are on their way at the same time. */
static void a_stop_at_any_moment_has_one_end(void **state)
{
	for (int turns = 0; turns < 60; turns++) {
		struct rig rig;

		rig_open(&rig, node("sim", "size=2M"), node("sim", "size=2M"));
		fill(&rig, rig.src);
		begin(&rig);
		for (int i = 0; i < turns && !rig.done; i++)
			loop_run_once(rig.loop, true);
		if (!rig.done) {
			blk_bulk_stop(&rig.bulk);
			finish(&rig);
		}
		if (rig.bulk.status == BLK_ST_OK)
			assert_memory_equal(blk_sim_memory(rig.src), blk_sim_memory(rig.dst),
					    2 * MIB);
		rig_close(&rig);
	}
}

static void what_does_not_fit_is_refused_by_name(void **state)
{
	static const struct {
		const char *src, *dst, *said;
		int rc;
	} cases[] = {
		{ "size=8M", "size=4M", "expected at least sim's, 8388608", -EINVAL },
		{ "size=8M", "size=8M,read-only=on", "sim is read-only", -EROFS },
		{ "size=1049088", "size=8M,block-size=4096",
		  "not a multiple of sim's block size, 4096", -EINVAL },
		{ "size=8M,block-size=4096", "size=8M", "", 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct blk_dev *src = node("sim", cases[i].src), *dst = node("sim", cases[i].dst);
		struct err err = { 0 };

		assert_int_equal(blk_bulk_check(src, dst, &err), cases[i].rc);
		if (!strstr(err.msg, cases[i].said))
			fail_msg("'%s' does not say '%s'", err.msg, cases[i].said);
		blk_dev_unref(src);
		blk_dev_unref(dst);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_copy_has_every_byte_and_leaves_what_is_beyond),
		cmocka_unit_test(holes_and_zeroes_are_not_written_as_data),
		cmocka_unit_test(a_source_in_small_fragments_is_copied),
		cmocka_unit_test(protection_information_is_copied_too),
		cmocka_unit_test(zeroes_fill_all_of_it),
		cmocka_unit_test(zeroes_are_written_where_the_back_end_cannot_make_them),
		cmocka_unit_test(a_failure_names_its_side_and_place),
		cmocka_unit_test(a_stop_ends_what_hangs),
		cmocka_unit_test(a_stop_at_any_moment_has_one_end),
		cmocka_unit_test(what_does_not_fit_is_refused_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
