/* qos: the bucket by a clock of the test's own, and the filter over several loops by the real one.
 */
#include "blk/filter/filter_rig.h"

#include "blk/filter/qos.h"
#include "blk/filter/qos_bucket.h"

#define SECOND QOS_SECOND_NS
#define LOOPS  3
#define DEPTH  64

/* ---- the bucket ---- */

/* Tokens that are there within ns when they are taken in shares by takers in turn. */
static uint64_t bucket_yield(struct qos_bucket *b, uint64_t share, uint64_t start, uint64_t ns)
{
	uint64_t tokens = 0, now = start;

	for (;;) {
		uint64_t due = qos_bucket_take(b, share, now);

		if (due > start + ns)
			return tokens;
		if (due > now)
			now = due;
		tokens += share;
	}
}

static void bucket_yields_its_rate(void **state)
{
	static const uint64_t rates[] = {
		1,	    10,		 1000, 20000, 1234567, 10000000,
		1ull << 30, 20ull << 30, 3,    999,   65537,   1ull << 40
	};

	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		struct qos_bucket b = { 0 };
		uint64_t n;

		qos_bucket_set(&b, rates[i], 0, QOS_SHARE_BYTES, SECOND);
		n = bucket_yield(&b, b.share, SECOND, 10 * SECOND);
		if (n < rates[i] * 999 / 100 || n > rates[i] * 1001 / 100 + 1)
			fail_msg("rate %llu gave %llu in 10 s", (unsigned long long)rates[i],
				 (unsigned long long)n);
	}
}

static void bucket_that_was_idle_saves_20_ms_and_the_burst(void **state)
{
	struct qos_bucket b = { 0 };
	uint64_t n;

	qos_bucket_set(&b, 10000, 0, QOS_SHARE_OPS, SECOND);
	n = bucket_yield(&b, 1, 100 * SECOND, SECOND);
	assert_in_range(n, 10000, 10201);
	qos_bucket_set(&b, 10000, 5000, QOS_SHARE_OPS, 200 * SECOND);
	n = bucket_yield(&b, 1, 200 * SECOND, SECOND);
	assert_in_range(n, 15000, 15010);
	n = bucket_yield(&b, 1, 300 * SECOND, SECOND);
	assert_in_range(n, 15000, 15201);
}

/* ---- the filter ---- */

struct driver {
	struct loop *loop;
	struct blk_chan *chan;
	struct driver_req {
		struct blk_req req;
		struct driver *driver;
		struct iovec iov;
	} reqs[DEPTH];
	uint64_t done[2]; /* reads, writes */
	uint32_t in_flight;
	bool stop;
};

static struct driver drivers[LOOPS];
static uint64_t test_now_ns;
static char memory[1 << 20] __attribute__((aligned(4096)));

static void driver_done(struct blk_req *req)
{
	struct driver_req *r = container_of(req, struct driver_req, req);
	struct driver *d = r->driver;

	d->in_flight--;
	if (req->status == BLK_ST_OK)
		d->done[req->op == BLK_WRITE]++;
	if (!d->stop) {
		d->in_flight++;
		blk_submit(d->chan, req);
	}
}

#define STEP_NS	 50000u
#define AHEAD_NS (1000 * SECOND)

static void driver_step(struct driver *d)
{
	loop_fifos(d->loop)->now_ns = test_now_ns;
	loop_run_once(d->loop, false);
	assert_int_equal(loop_now_ns(d->loop), test_now_ns);
}

/* write_every: each so-many-th request of the driver writes; 0: none. */
static void driver_start(struct driver *d, struct blk_dev *dev, uint32_t depth, uint64_t len,
			 uint32_t write_every)
{
	struct loop_params lp = { .name = "data", .cpu = -1, .sq_count = 64 };

	memset(d, 0, sizeof(*d));
	assert_int_equal(loop_new(&lp, &d->loop, NULL), 0);
	assert_int_equal(blk_chan_open(dev, d->loop, &d->chan, NULL), 0);
	if (!test_now_ns)
		test_now_ns = loop_clock_ns() + AHEAD_NS;
	driver_step(d);
	for (uint32_t i = 0; i < depth; i++) {
		struct driver_req *r = &d->reqs[i];
		bool writes = write_every && i % write_every == 0;

		r->driver = d;
		r->iov = (struct iovec){ .iov_base = memory, .iov_len = len };
		r->req = (struct blk_req){ .op = writes ? BLK_WRITE : BLK_READ,
					   .iov = &r->iov,
					   .iov_count = 1,
					   .len_bytes = len,
					   .done = driver_done };
		d->in_flight++;
		blk_submit(d->chan, &r->req);
	}
}

static void drivers_run(uint32_t n, uint64_t ns)
{
	for (uint64_t end = test_now_ns + ns; test_now_ns < end; test_now_ns += STEP_NS)
		for (uint32_t i = 0; i < n; i++)
			driver_step(&drivers[i]);
}

static void drivers_stop(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct driver *d = &drivers[i];

		d->stop = true;
		for (uint32_t r = 0; r < DEPTH; r++)
			if (d->reqs[r].driver)
				blk_cancel(&d->reqs[r].req);
		while (d->in_flight)
			driver_step(d);
		blk_chan_close(d->chan);
		loop_free(d->loop);
	}
}

static struct blk_dev *qos_dev(const char *params, struct blk_dev **ret_base)
{
	struct err err = { 0 };
	struct blk_dev *dev;

	*ret_base = filter_base("null", "size=1G");
	if (blk_dev_open_on("qos", "q", params, *ret_base, &dev, &err) < 0)
		fail_msg("%s", err.msg);
	return dev;
}

static void dev_close(struct blk_dev *dev, struct blk_dev *base)
{
	blk_dev_unref(dev);
	blk_dev_unref(base);
}

/* value within 3 % of what a second should give */
static void assert_rate(uint64_t value, uint64_t rate)
{
	if (value > rate * 103 / 100 + 1 || value < rate * 97 / 100)
		fail_msg("%llu, expected %llu", (unsigned long long)value,
			 (unsigned long long)rate);
}

/* A second of load on all loops; done by all, and shares that are within 5 % of each other. */
static uint64_t second_of(struct blk_dev *dev, uint32_t loops, uint64_t len)
{
	uint64_t sum = 0, least = UINT64_MAX, most = 0;

	for (uint32_t i = 0; i < loops; i++)
		driver_start(&drivers[i], dev, DEPTH, len, 0);
	drivers_run(loops, SECOND);
	for (uint32_t i = 0; i < loops; i++) {
		uint64_t n = drivers[i].done[0];

		sum += n;
		least = n < least ? n : least;
		most = n > most ? n : most;
	}
	if (most - least > sum / loops / 20 + 2)
		fail_msg("not fair: from %llu to %llu", (unsigned long long)least,
			 (unsigned long long)most);
	drivers_stop(loops);
	return sum;
}

static void operations_of_several_loops_keep_the_limit_and_share_it(void **state)
{
	static const struct {
		const char *params;
		uint64_t rate;
	} cases[] = { { "rw-iops=20000", 20000 }, { "r-iops=500", 500 } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct blk_dev *base, *dev = qos_dev(cases[i].params, &base);

		assert_rate(second_of(dev, LOOPS, 4096), cases[i].rate);
		dev_close(dev, base);
	}
}

static void bytes_keep_the_limit_whatever_the_size_of_requests(void **state)
{
	struct blk_dev *base, *dev = qos_dev("rw-bytes=100M", &base);

	assert_rate(second_of(dev, LOOPS, 4096) * 4096, 100ull << 20);
	/* each larger than a share by far */
	assert_in_range(second_of(dev, 2, 1 << 20), 98, 104);
	dev_close(dev, base);
}

static void held_writes_do_not_hold_reads(void **state)
{
	struct blk_dev *base, *dev = qos_dev("w-iops=100,r-iops=5000", &base);
	struct driver *d = drivers;

	driver_start(d, dev, DEPTH, 4096, 2);
	drivers_run(1, SECOND);
	assert_in_range(d->done[1], 95, 104);
	assert_rate(d->done[0], 5000);
	drivers_stop(1);
	dev_close(dev, base);
}

static void burst_is_used_at_once(void **state)
{
	struct blk_dev *base, *dev = qos_dev("rw-iops=1000,rw-iops-burst=3000", &base);
	struct driver *d = drivers;

	driver_start(d, dev, DEPTH, 512, 0);
	drivers_run(1, SECOND / 10);
	assert_in_range(d->done[0], 3100, 3121); /* and 20 ms, saved by the test's clock */
	drivers_stop(1);
	dev_close(dev, base);
}

static void limits_change_while_requests_wait(void **state)
{
	struct blk_dev *base, *dev = qos_dev("rw-iops=1", &base);
	struct blk_qos_limits limits = { .rate[BLK_QOS_RW_IOPS] = 50000 }, got;
	struct driver *d = drivers;

	driver_start(d, dev, DEPTH, 512, 0);
	drivers_run(1, SECOND / 20);
	assert_in_range(d->done[0], 1, 2);
	assert_int_equal(blk_qos_set(dev, &limits, NULL), 0);
	blk_qos_get(dev, &got);
	assert_int_equal(got.rate[BLK_QOS_RW_IOPS], 50000);
	drivers_run(1, SECOND / 20);
	/* and the 20 ms that the new limit's bucket has saved by the test's clock */
	assert_in_range(d->done[0], 2425, 3605);
	limits.rate[BLK_QOS_RW_IOPS] = 0;
	assert_int_equal(blk_qos_set(dev, &limits, NULL), 0);
	d->done[0] = 0;
	drivers_run(1, SECOND / 20);
	assert_true(d->done[0] > 5000);
	drivers_stop(1);
	dev_close(dev, base);
}

static void what_waits_can_be_cancelled_and_flush_never_waits(void **state)
{
	struct filter_rig rig;
	struct disk_req r[3];
	char buf[512];

	filter_open(&rig, "ram", "size=1M", "qos", "rw-iops=1");
	loop_run_once(rig.disk.loop, false);
	for (int i = 0; i < 3; i++)
		disk_start(&rig.disk, &r[i], i == 2 ? BLK_DISCARD : BLK_WRITE, 0, 0, 512, buf);
	assert_int_equal(disk_wait(&rig.disk, &r[0]), BLK_ST_OK);
	assert_int_equal(disk_do(&rig.disk, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_OK);
	assert_false(r[1].done || r[2].done);
	blk_cancel(&r[1].req);
	blk_cancel(&r[2].req);
	assert_int_equal(disk_wait(&rig.disk, &r[1]), BLK_ST_ABORTED);
	assert_int_equal(disk_wait(&rig.disk, &r[2]), BLK_ST_ABORTED);
	filter_close(&rig);
}

static void limits_that_make_no_sense_are_refused(void **state)
{
	struct blk_dev *base, *dev = qos_dev(NULL, &base);
	struct blk_qos_limits burst = { .burst[BLK_QOS_W_BYTES] = 1 };
	struct blk_qos_limits much = { .rate[BLK_QOS_R_IOPS] = BLK_QOS_MAX + 1 };
	struct err err = { 0 };

	filter_refused("qos", "rw-iops=-1", -EINVAL, "rw-iops");
	filter_refused("qos", "r-bytes=2T", -ERANGE, "r-bytes");
	filter_refused("qos", "rw-bytes-burst=5", -EINVAL, "rw-bytes");
	assert_int_equal(blk_qos_set(dev, &burst, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "w-bytes-burst"));
	assert_int_equal(blk_qos_set(dev, &much, &err), -ERANGE);
	assert_int_equal(blk_qos_set(base, &much, &err), -EINVAL);
	dev_close(dev, base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bucket_yields_its_rate),
		cmocka_unit_test(bucket_that_was_idle_saves_20_ms_and_the_burst),
		cmocka_unit_test(operations_of_several_loops_keep_the_limit_and_share_it),
		cmocka_unit_test(bytes_keep_the_limit_whatever_the_size_of_requests),
		cmocka_unit_test(held_writes_do_not_hold_reads),
		cmocka_unit_test(burst_is_used_at_once),
		cmocka_unit_test(limits_change_while_requests_wait),
		cmocka_unit_test(what_waits_can_be_cancelled_and_flush_never_waits),
		cmocka_unit_test(limits_that_make_no_sense_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
