/* Limits of a controller: channels that hold and hand on, and ways that change under load. */
#include <errno.h>

#include "blk/test_disk.h"

#include "blk/backend/sim.h"
#include "blk/limit.h"

static char page[4096] __attribute__((aligned(4096)));

/* A disk of test_disk.h whose channel is a way's, which may change. */
struct rig {
	struct disk disk;
	struct blk_way way;
	struct blk_limits *limits;
};

static void rig_open(struct rig *rig)
{
	struct loop_params lp = { .name = "test", .cpu = -1, .sq_count = 64 };
	struct err err = { 0 };

	memset(rig, 0, sizeof(*rig));
	assert_int_equal(loop_new(&lp, &rig->disk.loop, &err), 0);
	assert_int_equal(blk_dev_open("sim", "d0", "size=1M", &rig->disk.dev, &err), 0);
	rig->limits = blk_limits_new("c0");
	assert_non_null(rig->limits);
	assert_int_equal(blk_way_open(&rig->way, rig->disk.dev, rig->disk.loop, rig->limits, &err),
			 0);
	rig->disk.chan = rig->way.chan;
}

static void rig_close(struct rig *rig)
{
	blk_way_close(&rig->way);
	blk_limits_unref(rig->limits);
	blk_dev_unref(rig->disk.dev);
	loop_free(rig->disk.loop);
}

static void set(struct rig *rig, enum blk_qos which, uint64_t rate)
{
	struct blk_qos_limits limits = { 0 };

	limits.rate[which] = rate;
	assert_int_equal(blk_limits_set(rig->limits, &limits, NULL), 0);
	loop_run_once(rig->disk.loop, false);
	rig->disk.chan = rig->way.chan;
}

/* Takes what there is, so that what follows waits. */
static void exhaust(struct rig *rig)
{
	for (int i = 0; i < 4; i++)
		assert_int_equal(disk_do(&rig->disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
}

static void turn(struct rig *rig, int times)
{
	while (times--)
		loop_run_once(rig->disk.loop, false);
}

static void without_limits_the_way_is_the_disk_s_channel(void **state)
{
	struct rig rig;

	rig_open(&rig);
	assert_ptr_equal(rig.way.chan, rig.way.base);
	set(&rig, BLK_QOS_RW_IOPS, 1000);
	assert_ptr_not_equal(rig.way.chan, rig.way.base);
	set(&rig, BLK_QOS_RW_IOPS, 0);
	assert_ptr_equal(rig.way.chan, rig.way.base);
	rig_close(&rig);
}

static void a_way_that_opens_under_limits_has_them(void **state)
{
	struct disk_req r;
	struct rig rig;

	rig_open(&rig);
	set(&rig, BLK_QOS_RW_IOPS, 1);
	blk_way_close(&rig.way);
	assert_int_equal(blk_way_open(&rig.way, rig.disk.dev, rig.disk.loop, rig.limits, NULL), 0);
	rig.disk.chan = rig.way.chan;
	assert_ptr_not_equal(rig.way.chan, rig.way.base);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	disk_start(&rig.disk, &r, BLK_READ, 0, 0, 512, page);
	turn(&rig, 20);
	assert_false(r.done);
	assert_int_equal(blk_limits_waiting(rig.limits), 1);
	blk_cancel(&r.req);
	assert_int_equal(disk_wait(&rig.disk, &r), BLK_ST_ABORTED);
	rig_close(&rig);
}

static void flush_is_not_held_by_what_waits(void **state)
{
	struct disk_req w;
	struct rig rig;

	rig_open(&rig);
	set(&rig, BLK_QOS_W_IOPS, 1);
	assert_int_equal(disk_do(&rig.disk, BLK_WRITE, 0, 0, 512, page), BLK_ST_OK);
	disk_start(&rig.disk, &w, BLK_WRITE, 0, 512, 512, page);
	assert_int_equal(disk_do(&rig.disk, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_OK);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	assert_false(w.done);
	blk_cancel(&w.req);
	assert_int_equal(disk_wait(&rig.disk, &w), BLK_ST_ABORTED);
	rig_close(&rig);
}

static void what_waits_goes_in_order_when_the_limit_goes(void **state)
{
	struct disk_req r[8];
	struct rig rig;

	rig_open(&rig);
	set(&rig, BLK_QOS_RW_IOPS, 1);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	for (int i = 0; i < 8; i++)
		disk_start(&rig.disk, &r[i], BLK_READ, 0, 512u * (uint64_t)i, 512, page);
	turn(&rig, 20);
	assert_int_equal(blk_limits_waiting(rig.limits), 8);
	assert_int_equal(blk_limits_waited(rig.limits), 8);
	set(&rig, BLK_QOS_RW_IOPS, 0);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(disk_wait(&rig.disk, &r[i]), BLK_ST_OK);
		assert_true(!i || r[i].nth == r[i - 1].nth + 1);
	}
	assert_int_equal(blk_limits_waiting(rig.limits), 0);
	rig_close(&rig);
}

static void a_queue_that_stops_does_not_wait_and_pays_later(void **state)
{
	struct disk_req r[8];
	struct rig rig;

	rig_open(&rig);
	set(&rig, BLK_QOS_RW_IOPS, 1);
	for (int i = 0; i < 8; i++)
		disk_start(&rig.disk, &r[i], BLK_READ, 0, 0, 512, page);
	turn(&rig, 20);
	assert_false(r[7].done);
	blk_way_hurry(&rig.way, true);
	for (int i = 0; i < 8; i++)
		assert_int_equal(disk_wait(&rig.disk, &r[i]), BLK_ST_OK);
	exhaust(&rig); /* comes while it hurries: does not wait */
	blk_way_close(&rig.way);
	/* Another way of the same: it waits for all that the first took. */
	assert_int_equal(blk_way_open(&rig.way, rig.disk.dev, rig.disk.loop, rig.limits, NULL), 0);
	rig.disk.chan = rig.way.chan;
	disk_start(&rig.disk, &r[0], BLK_READ, 0, 0, 512, page);
	turn(&rig, 20);
	assert_false(r[0].done);
	set(&rig, BLK_QOS_RW_IOPS, 0);
	assert_int_equal(disk_wait(&rig.disk, &r[0]), BLK_ST_OK);
	rig_close(&rig);
}

static void requests_under_way_are_not_concerned_by_a_change(void **state)
{
	struct disk_req r;
	struct rig rig;

	rig_open(&rig);
	disk_start(&rig.disk, &r, BLK_READ, 0, 0, 512, page);
	set(&rig, BLK_QOS_RW_IOPS, 1000);
	assert_int_equal(disk_wait(&rig.disk, &r), BLK_ST_OK);
	disk_start(&rig.disk, &r, BLK_READ, 0, 0, 512, page);
	set(&rig, BLK_QOS_RW_IOPS, 0);
	assert_int_equal(disk_wait(&rig.disk, &r), BLK_ST_OK);
	rig_close(&rig);
}

static void a_member_that_leaves_is_not_told(void **state)
{
	struct blk_qos_limits limits = { .rate[BLK_QOS_R_IOPS] = 5 };
	struct rig rig;

	rig_open(&rig);
	assert_int_equal(blk_limits_set(rig.limits, &limits, NULL), 0);
	blk_way_close(&rig.way); /* with the message under way */
	turn(&rig, 3);
	assert_int_equal(blk_way_open(&rig.way, rig.disk.dev, rig.disk.loop, rig.limits, NULL), 0);
	memset(&limits, 0, sizeof(limits));
	assert_int_equal(blk_limits_set(rig.limits, &limits, NULL), 0);
	limits.rate[BLK_QOS_R_IOPS] = 7;
	assert_int_equal(blk_limits_set(rig.limits, &limits, NULL), 0);
	turn(&rig, 3);
	assert_ptr_not_equal(rig.way.chan, rig.way.base);
	assert_int_equal(blk_limits_get(rig.limits)->rate[BLK_QOS_R_IOPS], 7);
	rig_close(&rig);
}

static void what_is_counted_is_the_disk_s(void **state)
{
	struct blk_stats s;
	struct disk_req r;
	struct rig rig;

	rig_open(&rig);
	set(&rig, BLK_QOS_RW_IOPS, 1);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 1 << 20, 512, page), BLK_ST_RANGE);
	disk_start(&rig.disk, &r, BLK_READ, 0, 0, 512, page);
	blk_dev_stats(rig.disk.dev, &s);
	assert_int_equal(s.in_flight, 1);
	blk_cancel(&r.req);
	assert_int_equal(disk_wait(&rig.disk, &r), BLK_ST_ABORTED);
	set(&rig, BLK_QOS_RW_IOPS, 0);
	blk_dev_stats(rig.disk.dev, &s);
	assert_int_equal(s.ops[BLK_READ], 3);
	assert_int_equal(s.bytes[BLK_READ], 512);
	assert_int_equal(s.errors[BLK_ST_RANGE], 1);
	assert_int_equal(s.errors[BLK_ST_ABORTED], 1);
	rig_close(&rig);
}

static void only_what_waits_is_cancelled_for_its_limits(void **state)
{
	struct disk_req a, b;
	struct blk_req never = { 0 };
	struct rig rig;

	rig_open(&rig);
	blk_limit_cancel(&never);
	disk_start(&rig.disk, &a, BLK_READ, 0, 0, 512, page);
	blk_limit_cancel(&a.req);
	assert_int_equal(disk_wait(&rig.disk, &a), BLK_ST_OK);
	blk_limit_cancel(&a.req);
	set(&rig, BLK_QOS_RW_IOPS, 1);
	assert_int_equal(disk_do(&rig.disk, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	disk_start(&rig.disk, &b, BLK_READ, 0, 0, 512, page);
	blk_limit_cancel(&b.req);
	assert_int_equal(disk_wait(&rig.disk, &b), BLK_ST_ABORTED);
	rig_close(&rig);
}

static void a_burst_without_its_limit_is_refused_and_nothing_changes(void **state)
{
	struct blk_qos_limits limits = { .burst[BLK_QOS_W_BYTES] = 5 };
	struct err err = { 0 };
	struct rig rig;

	rig_open(&rig);
	set(&rig, BLK_QOS_RW_IOPS, 1000);
	assert_int_equal(blk_limits_set(rig.limits, &limits, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "c0: w-bytes-burst without w-bytes"));
	assert_int_equal(blk_limits_get(rig.limits)->rate[BLK_QOS_RW_IOPS], 1000);
	limits = (struct blk_qos_limits){ .rate[BLK_QOS_R_IOPS] = BLK_QOS_MAX + 1 };
	assert_int_equal(blk_limits_set(rig.limits, &limits, &err), -ERANGE);
	rig_close(&rig);
}

/* ---- under load from two loops ---- */

#define LOOPS 2
#define DEPTH 16

struct load {
	struct loop *loop;
	struct blk_dev *dev;
	struct blk_limits *limits;
	struct blk_way way;
	struct load_req {
		struct blk_req req;
		struct load *load;
		struct iovec iov;
		char buf[512];
	} reqs[DEPTH];
	uint32_t in_flight;
	_Atomic uint64_t done, failed;
	_Atomic bool stop, idle;
};

static struct load loads[LOOPS];

static void load_done(struct blk_req *req)
{
	struct load_req *r = container_of(req, struct load_req, req);
	struct load *l = r->load;

	l->done++;
	l->failed += req->status != BLK_ST_OK;
	if (!l->stop)
		blk_submit(l->way.chan, req);
	else if (!--l->in_flight)
		l->idle = true;
}

static void load_start(void *arg)
{
	struct load *l = arg;

	assert_int_equal(blk_way_open(&l->way, l->dev, l->loop, l->limits, NULL), 0);
	for (uint32_t i = 0; i < DEPTH; i++) {
		struct load_req *r = &l->reqs[i];

		r->load = l;
		r->iov = (struct iovec){ .iov_base = r->buf, .iov_len = 512 };
		r->req = (struct blk_req){ .op = i % 4 == 3   ? BLK_FLUSH
						 : i % 4 == 2 ? BLK_WRITE
							      : BLK_READ,
					   .iov = &r->iov,
					   .iov_count = 1,
					   .offset_bytes = i * 512ull,
					   .len_bytes = 512,
					   .done = load_done };
		l->in_flight++;
		blk_submit(l->way.chan, &r->req);
	}
}

static void load_stop(void *arg)
{
	struct load *l = arg;

	l->stop = true;
	blk_way_hurry(&l->way, true);
}

static void load_end(void *arg)
{
	blk_way_close(&((struct load *)arg)->way);
}

static void look(void *arg)
{
}

static void limits_come_change_and_go_under_load_of_two_loops(void **state)
{
	struct blk_limits *limits = blk_limits_new("c0");
	struct blk_dev *dev;
	struct err err = { 0 };

	assert_int_equal(blk_dev_open("null", "d0", "size=1M", &dev, &err), 0);
	for (int i = 0; i < LOOPS; i++) {
		struct loop_params lp = { .name = "data", .cpu = -1, .sq_count = 64 };
		struct load *l = &loads[i];

		l->dev = dev;
		l->limits = limits;
		assert_int_equal(loop_new(&lp, &l->loop, &err), 0);
		assert_int_equal(loop_thread_start(l->loop, &err), 0);
		loop_call(l->loop, load_start, l);
	}
	for (uint64_t round = 0; round < 60; round++) {
		struct blk_qos_limits to = { 0 };
		uint64_t at = loads[0].done + loads[1].done;

		if (round % 3)
			to.rate[round % BLK_QOS_COUNT] = 1000000 + round;
		assert_int_equal(blk_limits_set(limits, &to, &err), 0);
		while (loads[0].done + loads[1].done < at + 100)
			loop_call(loads[round % LOOPS].loop, look, NULL);
	}
	for (int i = 0; i < LOOPS; i++) {
		struct load *l = &loads[i];

		loop_call(l->loop, load_stop, l);
		while (!l->idle)
			loop_call(l->loop, look, NULL);
		assert_int_equal(l->failed, 0);
		loop_call(l->loop, load_end, l);
		loop_free(l->loop);
	}
	assert_int_equal(blk_limits_waiting(limits), 0);
	blk_limits_unref(limits);
	blk_dev_unref(dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test(fn)
		T(without_limits_the_way_is_the_disk_s_channel),
		T(a_way_that_opens_under_limits_has_them),
		T(flush_is_not_held_by_what_waits),
		T(what_waits_goes_in_order_when_the_limit_goes),
		T(a_queue_that_stops_does_not_wait_and_pays_later),
		T(requests_under_way_are_not_concerned_by_a_change),
		T(a_member_that_leaves_is_not_told),
		T(what_is_counted_is_the_disk_s),
		T(only_what_waits_is_cancelled_for_its_limits),
		T(a_burst_without_its_limit_is_refused_and_nothing_changes),
		T(limits_come_change_and_go_under_load_of_two_loops),
#undef T
	};

	return cmocka_run_group_tests_name("blk limit", tests, NULL, NULL);
}
