/*
 * Notifications that are held back (vhost_controller_set_coalescing), as a driver counts them: few
 * for many requests, at once when there are few requests, and always one for the last.
 */
#include <stdio.h>
#include <string.h>

#include "daemon.h"

#define DEPTH	 8
#define REQUESTS 4000
#define TURNS	 20

static const struct {
	const char *name;
	struct fe_up_opts up;
} formats[] = {
	{ "split", { .queues = 1 } },
	{ "split, event index", { .event_idx = true } },
	{ "packed", { .packed = true } },
	{ "packed, event index", { .packed = true, .event_idx = true } },
};

static void coalesce(uint32_t delay_base_us, uint32_t iops_threshold)
{
	char params[96];

	snprintf(params, sizeof(params),
		 "{\"ctrlr\":\"b\",\"delay_base_us\":%u,\"iops_threshold\":%u}", delay_base_us,
		 iops_threshold);
	daemon_call(&rig_get()->d, "vhost_controller_set_coalescing", params);
}

static struct rig *up(unsigned format)
{
	struct rig *r = rig_get();

	rig_drop(r);
	rig_up(r, &formats[format].up);
	drv_call_enable(&r->q, true);
	return r;
}

static void reads_add(struct rig *r, struct blkdrv_req *req, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		assert_ok(blkdrv_add(&r->b, &req[i], SPEC_BLK_IN, i * 8, NULL, 0, 512));
	assert_true(drv_publish(&r->q) >= 0);
}

static void reads_reap(struct rig *r, unsigned count, bool wait)
{
	while (count) {
		struct blkdrv_req *req;
		uint8_t status;
		int rc = blkdrv_reap(&r->b, &req, &status, wait);

		if (rc < 0)
			fail_msg("%d %s %s", rc, r->b.why, r->q.why);
		if (!rc)
			continue;
		assert_int_equal(status, SPEC_BLK_S_OK);
		blkdrv_put(&r->b, req);
		count--;
	}
}

/* A driver that looks at the ring, and would be told all the same. */
static uint64_t busy_interrupts(struct rig *r)
{
	struct blkdrv_req req[DEPTH];

	drv_call_count(&r->q);
	for (unsigned i = 0; i < REQUESTS / DEPTH; i++) {
		reads_add(r, req, DEPTH);
		reads_reap(r, DEPTH, false);
		drv_call_enable(&r->q, true); /* of the next one */
	}
	return drv_call_count(&r->q);
}

static void a_busy_queue_interrupts_less_and_the_last_request_is_told_of(void **state)
{
	daemon_start(&rig_get()->d, "--rpc-socket", "@rpc", "--device",
		     "blk,name=b,socket=@a.sock,ram=16M,num-queues=1", NULL);
	for (unsigned f = 0; f < 4; f++) {
		struct rig *r = up(f);
		struct blkdrv_req req[DEPTH];
		uint64_t plain = busy_interrupts(r), begin_us, held = 0, limit = 0;

		coalesce(1000, 100);
		busy_interrupts(r); /* the rate is seen */
		/* One that stood still meanwhile, on a busy machine, had a low rate: once more. */
		for (unsigned turn = 0; turn < TURNS; turn++) {
			begin_us = now_us();
			held = busy_interrupts(r);
			/* at most one a delay of 10 ms, and one at each look at the rate */
			limit = (now_us() - begin_us) / 5000 + 4;
			if (held <= limit)
				break;
		}
		print_message("%s: %llu interrupts, %llu coalesced, %d requests\n", formats[f].name,
			      (unsigned long long)plain, (unsigned long long)held, REQUESTS);
		if (held > limit || held * 2 > plain)
			fail_msg("%s: expected at most %llu and half of %llu", formats[f].name,
				 (unsigned long long)limit, (unsigned long long)plain);
		for (unsigned i = 0; i < 100; i++) {
			reads_add(r, req, 1 + i % DEPTH);
			reads_reap(r, 1 + i % DEPTH, true); /* sleeps until it is told */
		}
		/* switched off on a queue that runs */
		coalesce(0, 100);
		if (busy_interrupts(r) < plain / 4)
			fail_msg("%s: still coalesced", formats[f].name);
	}
}

static void at_a_low_rate_nothing_waits(void **state)
{
	daemon_start(&rig_get()->d, "--rpc-socket", "@rpc", "--device",
		     "blk,name=b,socket=@a.sock,ram=16M,num-queues=1", NULL);
	coalesce(1000000, 1000000000); /* before anybody comes */
	for (unsigned f = 0; f < 4; f++) {
		struct rig *r = up(f);
		struct blkdrv_req req;
		uint64_t best_us = UINT64_MAX;

		for (unsigned i = 0; i < 50; i++) {
			uint64_t begin_us = now_us(), took_us;

			reads_add(r, &req, 1);
			reads_reap(r, 1, true);
			took_us = now_us() - begin_us;
			best_us = took_us < best_us ? took_us : best_us;
		}
		if (best_us > 5000)
			fail_msg("%s: no request took less than %llu us", formats[f].name,
				 (unsigned long long)best_us);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, rig_own_setup, rig_own_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_busy_queue_interrupts_less_and_the_last_request_is_told_of),
		T(at_a_low_rate_nothing_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
