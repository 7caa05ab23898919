/*
 * NVMe over vfio-user under load: controller resets, resets of the function, memory that goes away
 * and comes back, clients that leave. Nothing is lost, nothing is written late, nothing is kept.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nvmerig.h"

#define QUEUES 4
#define DEVICE "num-queues=4,ns=1:ram=64M"

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

/* In flight at each: up to 64 commands. */
static void resets(enum nrig_way way, unsigned count)
{
	struct daemon *d = &rig_get()->d;
	struct nconn *c = loaded(way);
	unsigned long rss = 0;
	unsigned fds = 0;

	for (unsigned i = 0; i < count; i++) {
		nvmeload_run(&load, 1 + i % 40);
		nvmeload_fill(&load);
		if (i % 3 == 1)
			assert_ok(nvmedrv_sq_delete(&c->n, 1 + i % QUEUES));
		if (i % 3 == 2)
			assert_ok(nvmedrv_shutdown(&c->n, i % 2));
		assert_ok(nvmedrv_disable(&c->n));
		nvmeload_forget(&load);
		nvmeload_poison(&load);
		if (i % 16 == 0)
			pause_us(2000);
		nvmeload_poison_check(&load);
		nrig_enable(c, 64);
		if (i == count / 4) {
			fds = daemon_fd_count(d);
			rss = daemon_rss_kib(d);
		}
	}
	nvmeload_verify(&load);
	assert_in_range(daemon_fd_count(d), fds - 2, fds + 2);
	assert_true(daemon_rss_kib(d) < rss + 65536);
}

static void resets_with_mapped_doorbells(void **state)
{
	resets(NRIG_MAPPED, 1000);
}

static void resets_with_trapped_doorbells(void **state)
{
	resets(NRIG_TRAPPED, 300);
}

static void resets_with_shadow_doorbells(void **state)
{
	resets(NRIG_SHADOW, 300);
}

/* The function's own reset, as a client sends it at the start and at system_reset. */
static void resets_of_the_function(void **state)
{
	struct nconn *c = loaded(NRIG_MAPPED);

	for (unsigned i = 0; i < 100; i++) {
		nvmeload_run(&load, 30);
		nvmeload_fill(&load);
		assert_ok(vfe_reset(&c->v));
		nvmeload_forget(&load);
		assert_ok(nvmedrv_csts_wait(&c->n, SPEC_NVME_RDY, 0));
		nvmeload_poison(&load);
		pause_us(500);
		nvmeload_poison_check(&load);
		assert_ok(vfe_vectors_set(&c->v, QUEUES + 1));
		nrig_enable(c, 64);
	}
	nvmeload_verify(&load);
}

/* What QEMU does when firmware changes the shadow RAM: all of it, while queues exist. */
static void memory_that_goes_away_and_comes_back(void **state)
{
	for (int way = 0; way < NRIG_WAYS; way++) {
		struct nconn *c;

		nrig_stop();
		c = loaded((enum nrig_way)way);
		for (unsigned i = 0; i < 100; i++) {
			nvmeload_fill(&load);
			assert_ok(vfe_region_unmap(&c->v, 0));
			assert_ok(vfe_region_map(&c->v, 0, 3, true));
			nvmeload_run(&load, 20);
		}
		nvmeload_verify(&load);
	}
}

static void clients_that_leave_under_load(void **state)
{
	struct daemon *d = &rig_get()->d;
	struct nconn *c = loaded(NRIG_MAPPED);
	unsigned fds = 0;

	for (unsigned i = 0; i < 50; i++) {
		nvmeload_run(&load, 50);
		nvmeload_fill(&load);
		c = nrig_up(0, "n.sock", NRIG_MAPPED, QUEUES, 64);
		/* Which of the writes in flight were done is not known. */
		nvmeload_init(&load, &c->n, 1, c->block_bytes, QUEUES, now_us());
		nvmeload_zero(&load);
		if (i == 10)
			fds = daemon_fd_count(d);
	}
	assert_in_range(daemon_fd_count(d), fds - 2, fds + 2);
	nvmeload_verify(&load);
}

/* With completions by interrupt, and none lost: each wait is for one. */
static void every_completion_has_its_interrupt(void **state)
{
	for (int way = 0; way < NRIG_WAYS; way++) {
		struct nconn *c;

		nrig_stop();
		nrig_start((enum nrig_way)way, DEVICE);
		c = nrig_up(0, "n.sock", (enum nrig_way)way, 2, 64);
		for (unsigned i = 0; i < 300; i++) {
			/* Sometimes after it has gone to sleep. */
			if (i % 50 == 0)
				pause_us(20000);
			nrig_io(c, 1 + i % 2, 0, 1);
		}
		assert_true(c->n.interrupts >= 100);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, nrig_setup, nrig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(resets_with_mapped_doorbells),	 T(resets_with_trapped_doorbells),
		T(resets_with_shadow_doorbells),	 T(resets_of_the_function),
		T(memory_that_goes_away_and_comes_back), T(clients_that_leave_under_load),
		T(every_completion_has_its_interrupt),
	};

	/* Its memory is looked at: what a sanitizer keeps of what was freed is not to count. */
	setenv("ASAN_OPTIONS", "quarantine_size_mb=2", 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
