/* A stack of filters under load from two loops, while main changes everything that can be. */
#include "blk/filter/filter_rig.h"

#include "blk/filter/delay.h"
#include "blk/filter/error.h"
#include "blk/filter/qos.h"

#define LOAD_DEPTH 16
#define LOOPS	   2
#define ROUNDS	   40

struct load {
	struct loop *loop;
	struct blk_dev *dev;
	struct blk_chan *chan;
	struct load_req {
		struct blk_req req;
		struct load *load;
		struct iovec iov;
		char buf[512];
	} reqs[LOAD_DEPTH];
	uint32_t idx, in_flight;
	_Atomic uint64_t done, failed;
	_Atomic bool stop, idle;
};

static struct load loads[LOOPS];

static void load_submit(struct load_req *r)
{
	r->load->in_flight++;
	blk_submit(r->load->chan, &r->req);
}

static void load_done(struct blk_req *req)
{
	struct load_req *r = container_of(req, struct load_req, req);
	struct load *l = r->load;

	l->in_flight--;
	l->done++;
	l->failed += req->status != BLK_ST_OK;
	if (!l->stop)
		load_submit(r);
	else if (!l->in_flight)
		l->idle = true;
}

static void load_start(void *arg)
{
	static const uint8_t ops[] = { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD };
	struct load *l = arg;

	assert_int_equal(blk_chan_open(l->dev, l->loop, &l->chan, NULL), 0);
	for (uint32_t i = 0; i < LOAD_DEPTH; i++) {
		struct load_req *r = &l->reqs[i];
		uint8_t op = ops[i % 4];

		r->load = l;
		r->iov = (struct iovec){ .iov_base = r->buf, .iov_len = 512 };
		r->req = (struct blk_req){ .op = op,
					   .iov = &r->iov,
					   .iov_count = op <= BLK_WRITE,
					   .offset_bytes = (i + l->idx * LOAD_DEPTH) * 512ull,
					   .len_bytes = op == BLK_FLUSH ? 0 : 512,
					   .done = load_done };
		load_submit(r);
	}
}

static void load_cancel(void *arg)
{
	struct load *l = arg;

	for (uint32_t i = 0; i < LOAD_DEPTH; i++)
		blk_cancel(&l->reqs[i].req);
}

static void load_stop(void *arg)
{
	struct load *l = arg;

	l->stop = true;
	load_cancel(l);
}

static void load_end(void *arg)
{
	blk_chan_close(((struct load *)arg)->chan);
}

static void look(void *arg)
{
}

static struct blk_dev *on(const char *type, const char *params, struct blk_dev *base)
{
	struct err err = { 0 };
	struct blk_dev *dev;

	if (blk_dev_open_on(type, type, params, base, &dev, &err) < 0)
		fail_msg("%s", err.msg);
	blk_dev_unref(base);
	return dev;
}

/* Other limits and latencies each time, some errors, and sometimes nothing of all that. */
static void change(uint32_t round, struct blk_dev *qos, struct blk_dev *delay,
		   struct blk_dev *error)
{
	static const enum blk_error_kind kinds[] = { BLK_ERROR_FAILURE, BLK_ERROR_PENDING,
						     BLK_ERROR_CORRUPT, BLK_ERROR_NOMEM };
	struct blk_qos_limits limits = { 0 };
	struct blk_error_injection in = { .kind = kinds[round % 4],
					  .op_mask = BLK_ERROR_ALL,
					  .num = round % 3,
					  .corrupt_value = 1 };

	limits.rate[round % BLK_QOS_COUNT] = round % 5 ? 1000000 + round : 0;
	assert_int_equal(blk_qos_set(qos, &limits, NULL), 0);
	assert_int_equal(blk_delay_set(delay, round % BLK_DELAY_COUNT, round % 3 * 100, NULL), 0);
	assert_int_equal(blk_error_inject(error, &in, NULL), 0);
	blk_error_resume(error);
}

static void everything_changes_under_load_of_two_loops_and_each_request_ends(void **state)
{
	struct blk_dev *sim = filter_base("sim", "size=1M,delay-max-ns=50000");
	struct blk_dev *error = on("error", NULL, blk_dev_ref(sim));
	struct blk_dev *delay = on("delay", NULL, blk_dev_ref(error));
	struct blk_dev *qos = on("qos", NULL, blk_dev_ref(delay));
	struct blk_dev *part = on("part", "start=64K", blk_dev_ref(qos));
	struct blk_stats stats;
	uint64_t done = 0;

	for (uint32_t i = 0; i < LOOPS; i++) {
		struct loop_params lp = { .name = "data", .cpu = -1, .sq_count = 64 };

		assert_int_equal(loop_new(&lp, &loads[i].loop, NULL), 0);
		assert_int_equal(loop_thread_start(loads[i].loop, NULL), 0);
		loads[i].dev = part;
		loads[i].idx = i;
		loop_call(loads[i].loop, load_start, &loads[i]);
	}
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct load *l = &loads[round % LOOPS];
		uint64_t seen = l->done;

		change(round, qos, delay, error);
		blk_sim_resize(sim, round & 1 ? 1 << 20 : 512 << 10);
		assert_int_equal(blk_dev_rescan(part, NULL), 0);
		blk_dev_iostat_reset(part, round & 2);
		if (round % 7 == 0)
			loop_call(l->loop, load_cancel, l);
		while (l->done < seen + 50) {
			blk_error_resume(error);
			loop_call(l->loop, look, NULL);
		}
	}
	for (uint32_t i = 0; i < LOOPS; i++) {
		loop_call(loads[i].loop, load_stop, &loads[i]);
		while (!loads[i].idle)
			loop_call(loads[i].loop, look, NULL);
		done += loads[i].done;
		loop_call(loads[i].loop, load_end, &loads[i]);
		loop_free(loads[i].loop);
	}
	blk_dev_stats(part, &stats);
	for (int op = 0; op < BLK_OP_COUNT; op++)
		done -= stats.ops[op];
	assert_int_equal(done, 0);
	blk_dev_unref(part);
	blk_dev_unref(qos);
	blk_dev_unref(delay);
	blk_dev_unref(error);
	blk_dev_unref(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_changes_under_load_of_two_loops_and_each_request_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
