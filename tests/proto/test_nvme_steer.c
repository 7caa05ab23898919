/*
 * Management's hand on NVMe queues, under load with an oracle: drained, resumed, moved from loop to
 * loop, for each way in which a guest rings; and what a guest does to a drained controller.
 */
#include <stdio.h>
#include <stdlib.h>

#include "nvmerig.h"

#define QUEUES 4
#define DEVICE "name=n,num-queues=4,ns=1:ram=64M"

static struct nvmeload load;

static struct nconn *loaded(enum nrig_way way)
{
	struct nconn *c;

	nrig_start(way, DEVICE);
	c = nrig_up(0, "n.sock", way, QUEUES, 64);
	nvmeload_init(&load, &c->n, 1, c->block_bytes, QUEUES, now_us());
	print_message("seed %llu\n", (unsigned long long)load.rng);
	return c;
}

static void drain(void)
{
	daemon_call(&rig_get()->d, "device_drain", "{\"name\":\"n\"}");
}

static void resume(void)
{
	daemon_call(&rig_get()->d, "device_resume", "{\"name\":\"n\"}");
}

/* Commands begin and end all the while; what the guest has to do for them it does. */
static void moves(enum nrig_way way, unsigned count)
{
	struct daemon *d = &rig_get()->d;
	struct nconn *c = loaded(way);
	unsigned fds = 0;
	uint64_t done;

	nvmeload_run(&load, 100);
	done = load.done;
	for (unsigned i = 0; i < count; i++) {
		char params[96];

		snprintf(params, sizeof(params), "{\"name\":\"n\",\"queue\":%u,\"loop\":%u}",
			 1 + i % QUEUES, i / QUEUES % 2);
		daemon_call_begin(d, "device_migrate_queue", params);
		do {
			nvmeload_fill(&load);
			nvmeload_reap(&load);
			assert_ok(nvmedrv_idle(&c->n));
		} while (!daemon_call_ended(d));
		if (i == count / 4)
			fds = daemon_fd_count(d);
	}
	assert_true(load.done > done + count);
	nvmeload_verify(&load);
	assert_in_range(daemon_fd_count(d), fds - 2, fds + 2);
	/* Where they are now their interrupts come. */
	for (unsigned q = 1; q <= QUEUES; q++)
		nrig_io(c, q, q, 1);
}

static void queues_move_a_thousand_times_with_mapped_doorbells(void **state)
{
	moves(NRIG_MAPPED, 1000);
}

static void queues_move_a_thousand_times_with_trapped_doorbells(void **state)
{
	moves(NRIG_TRAPPED, 1000);
}

static void queues_move_a_thousand_times_with_shadow_doorbells(void **state)
{
	moves(NRIG_SHADOW, 1000);
}

static void a_drained_controller_completes_nothing_until_it_is_resumed(void **state)
{
	for (int way = 0; way < NRIG_WAYS; way++) {
		nrig_stop();
		loaded((enum nrig_way)way);
		for (unsigned i = 0; i < 30; i++) {
			uint64_t done;

			nvmeload_run(&load, 20);
			nvmeload_fill(&load);
			drain();
			nvmeload_reap(&load);
			nvmeload_fill(&load);
			done = load.done;
			pause_us(3000);
			assert_int_equal(nvmeload_reap(&load), 0);
			resume();
			nvmeload_run(&load, 20);
			assert_true(load.done >= done + 20);
		}
		nvmeload_verify(&load);
	}
}

static void a_drained_controller_is_reset_and_its_queues_deleted(void **state)
{
	for (int way = 0; way < NRIG_WAYS; way++) {
		struct nconn *c;

		nrig_stop();
		c = loaded((enum nrig_way)way);
		for (unsigned i = 0; i < 12; i++) {
			nvmeload_run(&load, 20);
			nvmeload_fill(&load);
			drain();
			nvmeload_reap(&load);
			nvmeload_fill(&load);
			if (i % 4 == 1)
				assert_ok(nvmedrv_sq_delete(&c->n, 1));
			if (i % 4 == 2)
				assert_ok(nvmedrv_shutdown(&c->n, false));
			if (i % 4 == 3)
				assert_ok(vfe_reset(&c->v));
			else
				assert_ok(nvmedrv_disable(&c->n));
			nvmeload_forget(&load);
			assert_ok(nvmedrv_csts_wait(&c->n, SPEC_NVME_RDY, 0));
			if (i % 4 == 3)
				assert_ok(vfe_vectors_set(&c->v, QUEUES + 1));
			nrig_enable(c, 64);
			nvmeload_fill(&load);
			pause_us(1000);
			assert_int_equal(nvmeload_reap(&load), 0);
			resume();
			nvmeload_run(&load, 20);
		}
		nvmeload_verify(&load);
	}
}

static void a_client_leaves_a_drained_device_and_the_next_one_waits(void **state)
{
	const struct spec_nvme_sqe flush = { .opcode = SPEC_NVME_FLUSH, .nsid = 1 };
	struct nconn *c = loaded(NRIG_MAPPED);

	for (unsigned i = 0; i < 5; i++) {
		struct nvmedrv_done end;

		nvmeload_run(&load, 50);
		nvmeload_fill(&load);
		drain();
		nvmeload_reap(&load);
		nvmeload_fill(&load);
		c = nrig_up(0, "n.sock", NRIG_MAPPED, QUEUES, 64);
		assert_true(nvmedrv_submit(&c->n, 1, &flush, NULL) >= 0);
		assert_ok(nvmedrv_sq_ring(&c->n, 1));
		pause_us(3000);
		assert_int_equal(nvmedrv_reap(&c->n, 1, &end), 0);
		resume();
		nrig_wait(c, 1, &end);
		/* Which of the writes in flight were done is not known. */
		nvmeload_init(&load, &c->n, 1, c->block_bytes, QUEUES, now_us());
		nvmeload_zero(&load);
	}
	nvmeload_verify(&load);
}

/* The daemon's end does not wait for the operator. */
static void a_drained_daemon_is_stopped(void **state)
{
	loaded(NRIG_TRAPPED);
	nvmeload_run(&load, 50);
	drain();
	nvmeload_reap(&load);
	nvmeload_fill(&load);
	daemon_stop(&rig_get()->d);
}

#define T(name) cmocka_unit_test_setup_teardown(name, nrig_setup, nrig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(queues_move_a_thousand_times_with_mapped_doorbells),
		T(queues_move_a_thousand_times_with_trapped_doorbells),
		T(queues_move_a_thousand_times_with_shadow_doorbells),
		T(a_drained_controller_completes_nothing_until_it_is_resumed),
		T(a_drained_controller_is_reset_and_its_queues_deleted),
		T(a_client_leaves_a_drained_device_and_the_next_one_waits),
		T(a_drained_daemon_is_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
