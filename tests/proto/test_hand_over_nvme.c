/*
 * NVMe controllers under load with an oracle while the daemon is handed over to a new process,
 * again and again: no command is lost, none done twice, no interrupt missed, and what only the
 * process knew (reservations, features, requests for events) is known by the next one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Commands begin and end all the while; what the guest has to do for them it does. */
static void hand_over_under_load(struct nconn *c)
{
	struct daemon *d = &rig_get()->d;

	daemon_hand_over_begin(d);
	do {
		nvmeload_fill(&load);
		nvmeload_reap(&load);
		assert_ok(nvmedrv_idle(&c->n));
	} while (!daemon_hand_over_ended(d));
}

static void hand_overs(enum nrig_way way, unsigned count)
{
	struct daemon *d = &rig_get()->d;
	struct nconn *c = loaded(way);
	unsigned fds = 0;

	nvmeload_run(&load, 100);
	for (unsigned i = 0; i < count; i++) {
		hand_over_under_load(c);
		nvmeload_run(&load, 50);
		if (i == 2)
			fds = daemon_fd_count(d);
	}
	nvmeload_verify(&load);
	assert_in_range(daemon_fd_settled(d, fds + 2), 1, fds + 2);
	/* Each completion has its interrupt. */
	for (unsigned q = 1; q <= QUEUES; q++)
		nrig_io(c, q, 100000 + q, 1);
	/* and the controller can be begun anew */
	assert_ok(nvmedrv_disable(&c->n));
	nvmeload_forget(&load);
	nrig_enable(c, 64);
	nvmeload_run(&load, 100);
	nvmeload_verify(&load);
}

static void handed_over_with_mapped_doorbells(void **state)
{
	hand_overs(NRIG_MAPPED, 20);
}

static void handed_over_with_trapped_doorbells(void **state)
{
	hand_overs(NRIG_TRAPPED, 20);
}

static void handed_over_with_shadow_doorbells(void **state)
{
	hand_overs(NRIG_SHADOW, 20);
}

/* Requests of the server are under way at any time, and completions that wait to be written. */
static void handed_over_with_memory_by_messages(void **state)
{
	struct nconn *c;

	nrig_start(NRIG_TRAPPED, DEVICE);
	c = nrig_up_by_messages(0, "n.sock", NRIG_TRAPPED, QUEUES, 64);
	nvmeload_init(&load, &c->n, 1, c->block_bytes, QUEUES, now_us());
	for (unsigned i = 0; i < 20; i++) {
		hand_over_under_load(c);
		nvmeload_run(&load, 50);
	}
	nvmeload_verify(&load);
}

static uint32_t feature(struct nconn *c, uint32_t fid)
{
	uint32_t dw0 = 0;

	assert_ok(nvmedrv_get_feature(&c->n, fid, 0, 0, NULL, 0, &dw0));
	return dw0;
}

static void what_a_host_set_and_waits_for_is_known_to_the_next_process(void **state)
{
	uint8_t first[4096], second[4096], log[64], health[512], counted[512];
	uint8_t host[8] = { 7 }, keys[16] = { [8] = 0xaa };
	struct spec_nvme_sqe sqe = { .opcode = 0x0d, .nsid = 1 };
	struct nconn *c = loaded(NRIG_TRAPPED);
	uint32_t event;
	uint64_t iova;

	assert_ok(nvmedrv_set_feature(&c->n, 0x01, 0x03, 0, NULL, 0, NULL));
	assert_ok(nvmedrv_set_feature(&c->n, 0x0b, 0x100, 0, NULL, 0, NULL));
	assert_ok(nvmedrv_set_feature(&c->n, 0x81, 0, 0, host, 8, NULL));
	assert_ok(nvmedrv_aer(&c->n));
	assert_ok(nvmedrv_identify(&c->n, 1, 0, first));
	/* Reservation Register, then Acquire of Write Exclusive: no PTPL, so in memory only */
	iova = nvmedrv_alloc(&c->n, 4096, 4096);
	memcpy(nrig_host(c, iova, 16), keys, 16);
	assert_ok(nvmedrv_prp(&c->n, &sqe, iova, 16));
	assert_int_equal(nrig_do(c, 1, &sqe), 0);
	memcpy(nrig_host(c, iova, 16), keys + 8, 8);
	sqe = (struct spec_nvme_sqe){ .opcode = 0x11, .nsid = 1, .cdw10 = 1u << 8 };
	assert_ok(nvmedrv_prp(&c->n, &sqe, iova, 16));
	assert_int_equal(nrig_do(c, 1, &sqe), 0);
	/* an error for the log */
	sqe = (struct spec_nvme_sqe){ .opcode = 0x02, .nsid = 1, .cdw10 = 0xffffffff };
	assert_ok(nvmedrv_prp(&c->n, &sqe, iova, 512));
	assert_int_not_equal(nrig_do(c, 1, &sqe), 0);
	nrig_io(c, 1, 100000, 8);
	assert_ok(nvmedrv_get_log(&c->n, 0x02, 0xffffffff, counted, sizeof(counted)));
	assert_int_not_equal(counted[80], 0); /* Host Write Commands */
	for (int i = 0; i < 3; i++) {
		daemon_hand_over(&rig_get()->d);
		assert_int_equal(feature(c, 0x01), 0x03);
		assert_int_equal(feature(c, 0x0b), 0x100);
		assert_ok(nvmedrv_identify(&c->n, 1, 0, second));
		assert_memory_equal(first, second, 4096);
		assert_ok(nvmedrv_get_log(&c->n, 0x01, 0xffffffff, log, 64));
		assert_int_equal(log[0], 1);
		assert_ok(nvmedrv_get_log(&c->n, 0x02, 0xffffffff, health, sizeof(health)));
		assert_memory_equal(health, counted, sizeof(health));
		/* Reservation Report */
		sqe = (struct spec_nvme_sqe){ .opcode = 0x0e, .nsid = 1, .cdw10 = 11 };
		assert_ok(nvmedrv_prp(&c->n, &sqe, iova, 48));
		assert_int_equal(nrig_do(c, 2, &sqe), 0);
		memcpy(log, nrig_host(c, iova, 48), 48);
		assert_int_equal(log[4], 1);  /* RTYPE */
		assert_int_equal(log[5], 1);  /* REGCTL */
		assert_int_equal(log[26], 1); /* RCSTS: holds it */
		assert_int_equal(log[32], 7); /* HOSTID */
		assert_int_equal(log[40], 0xaa);
	}
	/* the request for an event that was sent to the first process is answered by the last */
	assert_ok(nvmedrv_doorbell(&c->n, 2 * 200, 0, 1));
	assert_ok(nvmedrv_event_wait(&c->n, &event));
	assert_int_equal(event & 7, 0);
	nvmeload_run(&load, 50);
	nvmeload_verify(&load);
}

static void two_controllers_of_a_subsystem_stay_two(void **state)
{
	struct nconn *a, *b;
	uint8_t id[4096];

	nrig_config("{\"nsid\": 1, \"ram\": \"64M\"}");
	daemon_start(&rig_get()->d, "-c", "@cfg", "--cores", "2", "--rpc-socket", "@rpc", NULL);
	a = nrig_up(0, "a.sock", NRIG_TRAPPED, 2, 64);
	b = nrig_up(1, "b.sock", NRIG_TRAPPED, 2, 64);
	/* the first one comes anew, and gets the identifier that is free */
	a = nrig_up(0, "a.sock", NRIG_TRAPPED, 2, 64);
	nvmeload_init(&load, &a->n, 1, a->block_bytes, 2, now_us());
	for (int i = 0; i < 5; i++) {
		hand_over_under_load(a);
		assert_ok(nvmedrv_identify(&a->n, 1, 0, id));
		assert_int_equal(id[78], 1);
		assert_ok(nvmedrv_identify(&b->n, 1, 0, id));
		assert_int_equal(id[78], 2);
		nrig_io(b, 1, 100000, 8);
	}
	nvmeload_verify(&load);
}

#define T(name) cmocka_unit_test_setup_teardown(name, nrig_setup, nrig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(handed_over_with_mapped_doorbells),
		T(handed_over_with_trapped_doorbells),
		T(handed_over_with_shadow_doorbells),
		T(handed_over_with_memory_by_messages),
		T(what_a_host_set_and_waits_for_is_known_to_the_next_process),
		T(two_controllers_of_a_subsystem_stay_two),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
