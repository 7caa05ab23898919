/*
 * vhost-user-nvme over the socket of the real binary: the messages in the order and with the
 * contents that QEMU's device sends, and wrong ones; I/O with shadow doorbells, with the shadow of
 * BAR 0, and with doorbells by message; resets, new memory and hang-ups under load.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nvmeload.h"
#include "vnvmefe.h"

#define QUEUES 4
#define DISK   (64ull << 20)
#define RAM    (32ull << 20)

struct vnvme {
	struct daemon d;
	struct fe fe;
	struct vnvmefe v;
	struct nvmedrv n;
	struct nvmeload load;
	uint32_t block_bytes;
	bool up;
};

static struct vnvme rig;

/* ---- the rig ---- */

static void drop(struct vnvme *r)
{
	if (r->up) {
		nvmedrv_fini(&r->n);
		vnvmefe_fini(&r->v);
		fe_fini(&r->fe);
	}
	r->up = false;
}

static void connect_to(struct vnvme *r, const char *name)
{
	struct nvmedrv_transport tr;

	drop(r);
	fe_init(&r->fe);
	r->up = true;
	assert_ok(fe_connect(&r->fe, daemon_path(&r->d, name)));
	assert_true(fe_mem_new(&r->fe, 0x100000, 0x7f0000100000, RAM) == 0);
	vnvmefe_init(&r->v, &r->fe);
	r->v.drv = &r->n;
	tr = vnvmefe_transport(&r->v);
	assert_ok(nvmedrv_init(&r->n, &tr));
	r->block_bytes = 512;
}

static void up(struct vnvme *r, const char *name, unsigned queues)
{
	if (!r->up)
		connect_to(r, name);
	assert_ok(nvmedrv_enable(&r->n, 0));
	for (unsigned q = 1; q <= queues; q++)
		assert_ok(nvmedrv_pair_create(&r->n, q, 64, 0));
}

/* With shadow doorbells, as a Linux guest. */
static void up_dbbuf(struct vnvme *r, unsigned queues)
{
	up(r, "n.sock", queues);
	assert_ok(nvmedrv_dbbuf(&r->n));
}

static int setup(void **state)
{
	rig.up = false;
	daemon_init(&rig.d);
	fe_init(&rig.fe);
	daemon_start(&rig.d, "--cores", "2", "--rpc-socket", "@rpc", "--device",
		     "nvme,name=n,socket=@n.sock,transport=vhost-user,num-queues=4,ns=1:ram=64M,"
		     "ns=2:null=1G",
		     "--device",
		     "nvme,socket=@old.sock,transport=vhost-user,generation=18.04,num-queues=4,"
		     "ns=1:ram=64M",
		     NULL);
	return 0;
}

/* The daemon lives, and serves the next one. */
static int teardown(void **state)
{
	uint64_t cap;

	drop(&rig);
	if (daemon_alive(&rig.d)) {
		connect_to(&rig, "n.sock");
		assert_ok(vnvmefe_get_cap(&rig.v, &cap));
		drop(&rig);
	}
	daemon_stop(&rig.d);
	daemon_fini(&rig.d);
	return 0;
}

static void io(struct vnvme *r, unsigned q, uint64_t lba)
{
	uint64_t out = nvmedrv_alloc(&r->n, 8192, 4096), in = nvmedrv_alloc(&r->n, 8192, 4096);
	int rc;

	fill_pattern(nvmedrv_host(&r->n, out, 8192), 8192, now_us());
	rc = nvmedrv_rw(&r->n, q, SPEC_NVME_WRITE, 1, lba, 8192 / r->block_bytes, out,
			r->block_bytes);
	if (!rc)
		rc = nvmedrv_rw(&r->n, q, SPEC_NVME_READ, 1, lba, 8192 / r->block_bytes, in,
				r->block_bytes);
	if (rc)
		fail_msg("queue %u: %d %s", q, rc, r->n.why);
	assert_memory_equal(nvmedrv_host(&r->n, out, 8192), nvmedrv_host(&r->n, in, 8192), 8192);
}

/* ---- the sequence of QEMU ---- */

static uint64_t get_le(const uint8_t *at, unsigned bytes)
{
	uint64_t v = 0;

	memcpy(&v, at, bytes);
	return v;
}

static void a_device_starts_as_qemu_starts_it(void **state)
{
	struct vnvme *r = &rig;
	struct spec_nvme_sqe sqe;
	struct spec_nvme_cqe cqe;
	uint8_t ctrl[4096], ns[4096];
	uint32_t dw0 = 0;
	uint64_t cap;

	connect_to(r, "n.sock");
	assert_ok(vnvmefe_get_cap(&r->v, &cap));
	assert_in_range(cap & 0xffff, 1, 65535);
	assert_int_equal(cap >> 16 & 1, 1);    /* CQR */
	assert_int_equal(cap >> 32 & 0xf, 0);  /* DSTRD */
	assert_int_equal(cap >> 37 & 1, 1);    /* CSS: NVM */
	assert_int_equal(cap >> 48 & 0xff, 0); /* MPSMIN, MPSMAX */
	/* Of the command only opcode, namespace and CNS are set. */
	memset(&sqe, 0xa5, sizeof(sqe));
	sqe.opcode = SPEC_NVME_IDENTIFY;
	sqe.nsid = 0;
	sqe.cdw10 = 1;
	assert_ok(vnvmefe_admin(&r->v, &sqe, ctrl, &cqe));
	assert_int_equal(cqe.status >> 1, 0);
	assert_int_equal(get_le(ctrl + 80, 4), 0x00010000); /* VER */
	assert_int_equal(get_le(ctrl + 92, 4), 0);	    /* OAES */
	assert_in_range(ctrl[77], 1, 5);		    /* MDTS */
	assert_true(get_le(ctrl + 256, 2) & 0x100);	    /* OACS: doorbell buffers */
	assert_int_equal(ctrl[512], 0x66);
	assert_int_equal(ctrl[513], 0x44);
	assert_int_equal(get_le(ctrl + 516, 4), 2); /* NN */
	sqe.cdw10 = 0;
	sqe.nsid = 1;
	assert_ok(vnvmefe_admin(&r->v, &sqe, ns, &cqe));
	assert_int_equal(cqe.status >> 1, 0);
	assert_int_equal(get_le(ns, 8) << ns[130], DISK);
	/* The guest enables it. */
	assert_ok(vnvmefe_start(&r->v));
	assert_ok(nvmedrv_set_feature(&r->n, 7, 63 << 16 | 63, 0, NULL, 0, &dw0));
	assert_int_equal(dw0, (QUEUES - 1) << 16 | (QUEUES - 1));
	for (unsigned q = 1; q <= QUEUES; q++)
		assert_ok(nvmedrv_pair_create(&r->n, q, 64, (int)q));
	assert_ok(nvmedrv_dbbuf(&r->n));
	for (unsigned q = 1; q <= QUEUES; q++)
		io(r, q, q * 1000);
	assert_true(r->n.interrupts >= 2 * QUEUES);
	for (unsigned q = 1; q <= QUEUES; q++)
		assert_ok(nvmedrv_sq_delete(&r->n, q));
	for (unsigned q = 1; q <= QUEUES; q++)
		assert_ok(nvmedrv_cq_delete(&r->n, q));
	assert_ok(nvmedrv_disable(&r->n));
	assert_ok(nvmedrv_disable(&r->n));
}

static void namespaces_that_are_not_there_are_refused(void **state)
{
	struct vnvme *r = &rig;
	uint64_t at;

	up_dbbuf(r, 1);
	at = nvmedrv_alloc(&r->n, 4096, 4096);
	assert_int_equal(nvmedrv_rw(&r->n, 1, SPEC_NVME_READ, 3, 0, 1, at, 512),
			 SPEC_NVME_INVALID_NS);
	assert_ok(nvmedrv_rw(&r->n, 1, SPEC_NVME_READ, 2, 0, 1, at, 512));
	assert_int_equal(nvmedrv_rw(&r->n, 1, SPEC_NVME_READ, 1, DISK / 512, 1, at, 512),
			 SPEC_NVME_LBA_RANGE);
}

static void start_and_stop_may_come_twice(void **state)
{
	struct vnvme *r = &rig;

	connect_to(r, "n.sock");
	assert_ok(nvmedrv_disable(&r->n)); /* before any start */
	up_dbbuf(r, 2);
	assert_ok(vnvmefe_start_stop(&r->v, 1));
	io(r, 1, 0);
	assert_ok(nvmedrv_disable(&r->n));
	assert_ok(nvmedrv_disable(&r->n));
	up_dbbuf(r, 2);
	io(r, 2, 0);
}

static void queues_created_twice_are_replaced(void **state)
{
	struct vnvme *r = &rig;

	/* Firmware, polled and without a shadow page; then the operating system. */
	connect_to(r, "n.sock");
	assert_ok(vnvmefe_bar(&r->v, 0x4000));
	assert_ok(nvmedrv_enable(&r->n, 0));
	assert_ok(nvmedrv_pair_create(&r->n, 1, 2, -1));
	io(r, 1, 0);
	for (unsigned q = 1; q <= QUEUES; q++)
		assert_ok(nvmedrv_pair_create(&r->n, q, 128, (int)q));
	for (unsigned q = 1; q <= QUEUES; q++)
		io(r, q, q * 16);
	/* A completion queue under two others' submission queues. */
	assert_ok(nvmedrv_sq_create(&r->n, 2, 32, 1));
	assert_ok(nvmedrv_sq_create(&r->n, 3, 32, 1));
	io(r, 2, 5000);
	assert_ok(nvmedrv_cq_create(&r->n, 1, 32, 1));
	assert_ok(nvmedrv_sq_create(&r->n, 1, 32, 1));
	io(r, 1, 6000);
}

static void wrong_queues_are_refused(void **state)
{
	struct vnvme *r = &rig;
	struct spec_nvme_sqe sqe = { .opcode = SPEC_NVME_CREATE_CQ, .cdw11 = 1 };

	up(r, "n.sock", 0);
	sqe.prp1 = 0x100000 + RAM - 4096; /* two pages of entries, one of memory */
	sqe.cdw10 = 511u << 16 | 1;
	assert_true(nvmedrv_admin(&r->n, &sqe, NULL, 0, false, NULL) > 0);
	sqe.prp1 = 0xffffffffff000;
	assert_true(nvmedrv_admin(&r->n, &sqe, NULL, 0, false, NULL) > 0);
	sqe.prp1 = 0x100000;
	sqe.cdw10 = 63u << 16 | (QUEUES + 1);
	assert_int_equal(nvmedrv_admin(&r->n, &sqe, NULL, 0, false, NULL), SPEC_NVME_INVALID_QID);
	sqe.cdw10 = 63u << 16;
	assert_int_equal(nvmedrv_admin(&r->n, &sqe, NULL, 0, false, NULL), SPEC_NVME_INVALID_QID);
	assert_int_equal(nvmedrv_sq_create(&r->n, 1, 64, 1), SPEC_NVME_INVALID_CQ);
	assert_int_equal(nvmedrv_sq_delete(&r->n, 1), SPEC_NVME_INVALID_QID);
	assert_ok(nvmedrv_pair_create(&r->n, 1, 64, -1));
	assert_int_equal(nvmedrv_cq_delete(&r->n, 1), SPEC_NVME_INVALID_DELETION);
}

static bool signalled(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t v;

	return poll(&p, 1, timeout_ms) == 1 && read(fd, &v, 8) == 8;
}

/* An interrupt may follow a completion that was found before it. */
static void forget_signals(int fd)
{
	while (signalled(fd, 50))
		continue;
}

static void a_new_call_descriptor_takes_the_place_of_the_old_one(void **state)
{
	struct vnvme *r = &rig;
	int old = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int fresh = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	up_dbbuf(r, 1);
	assert_ok(vnvmefe_cq_call(&r->v, 1, old));
	r->n.cq[1].fd = old;
	r->n.cq[1].own_fd = false;
	io(r, 1, 0);
	assert_ok(vnvmefe_cq_call(&r->v, 1, fresh));
	r->n.cq[1].fd = fresh;
	io(r, 1, 0);
	forget_signals(old);
	io(r, 1, 0);
	assert_false(signalled(old, 50));
	assert_ok(vnvmefe_cq_call(&r->v, 1, -1));
	r->n.cq[1].fd = -1;
	io(r, 1, 0);
	forget_signals(fresh);
	io(r, 1, 0);
	assert_false(signalled(fresh, 50));
	close(old);
	close(fresh);
}

static void admin_commands_that_qemu_keeps_are_refused(void **state)
{
	static const uint8_t opcodes[] = { SPEC_NVME_GET_LOG,
					   SPEC_NVME_AER,
					   SPEC_NVME_NS_MANAGEMENT,
					   SPEC_NVME_KEEP_ALIVE,
					   SPEC_NVME_FORMAT,
					   SPEC_NVME_SANITIZE,
					   0xc0 };
	struct vnvme *r = &rig;
	uint32_t dw0 = 0;

	up(r, "n.sock", 1);
	for (unsigned i = 0; i < sizeof(opcodes); i++) {
		struct spec_nvme_sqe sqe = { .opcode = opcodes[i] };

		assert_int_equal(nvmedrv_admin(&r->n, &sqe, NULL, 0, false, NULL),
				 SPEC_NVME_INVALID_OPCODE);
	}
	assert_int_equal(nvmedrv_set_feature(&r->n, 0x0e, 0, 0, NULL, 0, NULL),
			 SPEC_NVME_INVALID_FIELD);
	assert_ok(nvmedrv_abort(&r->n, 1, 7, &dw0));
	assert_int_equal(dw0, 1); /* not aborted */
}

/* ---- doorbells ---- */

static void the_shadow_bar_is_enough_without_shadow_doorbells(void **state)
{
	struct vnvme *r = &rig;

	connect_to(r, "n.sock");
	assert_ok(vnvmefe_bar(&r->v, 0x2000));
	up(r, "n.sock", QUEUES);
	for (unsigned q = 1; q <= QUEUES; q++)
		io(r, q, q * 100);
	/* It survives the stop; its words start from zero. */
	assert_ok(nvmedrv_disable(&r->n));
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(r->n.tr.doorbells[i], 0);
	up(r, "n.sock", QUEUES);
	io(r, 1, 0);
	/* Another one in its place, and shadow doorbells over it. */
	assert_ok(nvmedrv_disable(&r->n));
	assert_ok(vnvmefe_bar(&r->v, 0x8000));
	up(r, "n.sock", QUEUES);
	io(r, 2, 0);
	assert_ok(nvmedrv_dbbuf(&r->n));
	io(r, 3, 0);
}

static void the_generation_of_18_04_rings_by_message(void **state)
{
	struct vnvme *r = &rig;
	uint32_t dw0 = 0;

	connect_to(r, "old.sock");
	r->v.old_generation = true;
	assert_ok(nvmedrv_enable(&r->n, 0));
	assert_ok(nvmedrv_set_feature(&r->n, 7, 0x1f001f, 0, NULL, 0, &dw0));
	assert_int_equal(dw0, (QUEUES - 1) << 16 | (QUEUES - 1));
	for (unsigned q = 1; q <= QUEUES; q++)
		assert_ok(nvmedrv_pair_create(&r->n, q, 16, (int)q));
	for (unsigned q = 1; q <= QUEUES; q++)
		for (unsigned i = 0; i < 20; i++)
			io(r, q, q * 100);
	assert_ok(nvmedrv_dbbuf(&r->n));
	io(r, 1, 0);
}

static void wild_doorbells_cost_the_controller_nothing_else(void **state)
{
	struct vnvme *r = &rig;

	up_dbbuf(r, 2);
	r->n.shadow[2] = 0xffffffff;
	r->n.shadow[3] = 0x12345;
	r->n.shadow[700] = 1;
	pause_us(20000);
	assert_ok(nvmedrv_disable(&r->n));
	up_dbbuf(r, 1);
	io(r, 1, 0);
}

/* ---- wrong messages ---- */

static void wrong_messages_end_the_session_and_nothing_else(void **state)
{
	static const struct {
		uint32_t req, len;
		unsigned fds;
	} wrong[] = {
		{ FE_GET_FEATURES, 0, 0 },
		{ FE_SET_OWNER, 0, 0 },
		{ 86, 0, 0 },
		{ 24, 64, 0 },
		{ VNVMEFE_ADMIN, 63, 0 },
		{ VNVMEFE_ADMIN, 128, 0 },
		{ VNVMEFE_ADMIN, 64, 1 },
		{ VNVMEFE_GET_CAP, 8, 0 },
		{ VNVMEFE_START_STOP, 0, 0 },
		{ VNVMEFE_START_STOP, 16, 0 },
		{ VNVMEFE_SET_CQ_CALL, 8, 0 }, /* queue 0 */
		{ VNVMEFE_SET_CQ_CALL, 8, 2 },
		{ VNVMEFE_IO_CMD, 12, 0 },
		{ VNVMEFE_IO_CMD, 8, 0 },
		{ VNVMEFE_SET_BAR_MR, 40, 0 },
		{ VNVMEFE_SET_BAR_MR, 40, 1 },
		{ FE_SET_MEM_TABLE, 8, 0 },
		{ FE_SET_MEM_TABLE, 40, 1 },
		{ FE_SET_MEM_TABLE, 39, 1 },
	};
	struct vnvme *r = &rig;
	uint8_t bytes[256] = { 0 };

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int fds[2];

		connect_to(r, "n.sock");
		fds[0] = fds[1] = r->fe.region[0].fd;
		assert_ok(fe_send(&r->fe, wrong[i].req, FE_FLAG_VERSION, bytes, wrong[i].len, fds,
				  wrong[i].fds));
		if (fe_wait_closed(&r->fe))
			fail_msg("case %u: the session lives on", i);
	}
}

static void wrong_regions_are_refused_and_the_session_lives(void **state)
{
	struct {
		uint32_t count, pad;
		struct fe_wire_region region;
	} m = { .count = 1, .region = { .gpa = 0, .size_bytes = RAM * 2 } };
	struct vnvme *r = &rig;
	struct fe_msg msg;
	uint64_t v;

	connect_to(r, "n.sock");
	for (unsigned i = 0; i < 2; i++) {
		assert_ok(fe_call_flags(&r->fe, i ? FE_SET_MEM_TABLE : VNVMEFE_SET_BAR_MR,
					FE_FLAG_VERSION | FE_FLAG_NEED_REPLY, &m, sizeof(m),
					&r->fe.region[0].fd, 1, &msg));
		memcpy(&v, msg.payload, sizeof(v));
		m.region.mmap_off = RAM; /* beyond the end for the second */
		if (i)
			assert_true(v != 0);
		fe_msg_close(&msg);
	}
	up_dbbuf(r, 1);
	io(r, 1, 0);
}

/* ---- under load ---- */

static void load_init(struct vnvme *r, unsigned queues)
{
	nvmeload_init(&r->load, &r->n, 1, r->block_bytes, queues, now_us());
	print_message("seed %llu\n", (unsigned long long)r->load.rng);
	nvmeload_zero(&r->load);
}

static void load_is_answered_in_full(void **state)
{
	struct vnvme *r = &rig;

	up_dbbuf(r, QUEUES);
	load_init(r, QUEUES);
	nvmeload_run(&r->load, 20000);
	nvmeload_verify(&r->load);
}

static void queues_are_drained_and_moved_under_load(void **state)
{
	struct vnvme *r = &rig;
	char params[96];

	up_dbbuf(r, QUEUES);
	load_init(r, QUEUES);
	for (unsigned i = 0; i < 200; i++) {
		snprintf(params, sizeof(params), "{\"name\":\"n\",\"queue\":%u,\"loop\":%u}",
			 1 + i % QUEUES, i / QUEUES % 2);
		daemon_call_begin(&r->d, "device_migrate_queue", params);
		do {
			nvmeload_fill(&r->load);
			nvmeload_reap(&r->load);
		} while (!daemon_call_ended(&r->d));
		if (i % 10)
			continue;
		daemon_call(&r->d, "device_drain", "{\"name\":\"n\"}");
		nvmeload_reap(&r->load);
		nvmeload_fill(&r->load);
		pause_us(2000);
		assert_int_equal(nvmeload_reap(&r->load), 0);
		if (i % 20) { /* the guest resets meanwhile */
			assert_ok(nvmedrv_disable(&r->n));
			nvmeload_forget(&r->load);
			up_dbbuf(r, QUEUES);
		}
		daemon_call(&r->d, "device_resume", "{\"name\":\"n\"}");
		nvmeload_run(&r->load, 50);
	}
	nvmeload_verify(&r->load);
}

static void handed_over_under_load(void **state)
{
	struct vnvme *r = &rig;
	unsigned fds = 0;

	up_dbbuf(r, QUEUES);
	load_init(r, QUEUES);
	for (unsigned i = 0; i < 20; i++) {
		daemon_hand_over_begin(&r->d);
		do {
			nvmeload_fill(&r->load);
			nvmeload_reap(&r->load);
		} while (!daemon_hand_over_ended(&r->d));
		nvmeload_run(&r->load, 50);
		if (i == 10) { /* a queue that is in the way is known to be */
			nvmeload_drain(&r->load);
			assert_ok(nvmedrv_disable(&r->n));
			up_dbbuf(r, QUEUES);
		}
		if (i == 2)
			fds = daemon_fd_count(&r->d);
	}
	nvmeload_verify(&r->load);
	assert_in_range(daemon_fd_count(&r->d), fds - 2, fds + 2);
}

static void new_memory_while_commands_run(void **state)
{
	struct vnvme *r = &rig;

	up_dbbuf(r, QUEUES);
	load_init(r, QUEUES);
	for (unsigned i = 0; i < 200; i++) {
		nvmeload_fill(&r->load);
		assert_ok(fe_set_mem_table(&r->fe));
		nvmeload_run(&r->load, 20);
	}
	nvmeload_verify(&r->load);
}

static void a_thousand_resets_lose_nothing_and_write_nothing_late(void **state)
{
	struct vnvme *r = &rig;
	unsigned fds = 0;

	up_dbbuf(r, QUEUES);
	load_init(r, QUEUES);
	for (unsigned i = 0; i < 1000; i++) {
		nvmeload_run(&r->load, 1 + i % 50);
		nvmeload_fill(&r->load);
		/* Half of them without deleting anything. */
		if (i % 2)
			assert_ok(nvmedrv_sq_delete(&r->n, 1 + i % QUEUES));
		assert_ok(nvmedrv_disable(&r->n));
		nvmeload_forget(&r->load);
		nvmeload_poison(&r->load);
		if (i % 16 == 0)
			pause_us(2000);
		nvmeload_poison_check(&r->load);
		up_dbbuf(r, QUEUES);
		if (i == 10)
			fds = daemon_fd_count(&r->d);
	}
	nvmeload_verify(&r->load);
	assert_in_range(daemon_fd_count(&r->d), fds - 2, fds + 2);
}

static void front_ends_that_leave_under_load_leave_nothing_behind(void **state)
{
	struct vnvme *r = &rig;
	unsigned long rss = 0;
	unsigned fds = 0;

	for (unsigned i = 0; i < 60; i++) {
		up_dbbuf(r, QUEUES);
		load_init(r, QUEUES);
		nvmeload_run(&r->load, 50);
		nvmeload_fill(&r->load);
		if (i == 10) {
			fds = daemon_fd_count(&r->d);
			rss = daemon_rss_kib(&r->d);
		}
		drop(r);
	}
	up_dbbuf(r, QUEUES);
	assert_in_range(daemon_fd_count(&r->d), fds - 4, fds + 4);
	/* Sanitizers keep freed memory for a while. */
	assert_true(daemon_rss_kib(&r->d) < rss + 65536);
	io(r, 1, 0);
}

/* Files that can be sealed are, and then they cannot be cut. */
static void memory_unseal(struct fe_region *region)
{
	munmap(region->host, region->wire.size_bytes);
	close(region->fd);
	region->fd = memfd_create("guest", MFD_CLOEXEC);
	assert_true(region->fd >= 0);
	assert_ok(ftruncate(region->fd, (off_t)region->wire.size_bytes));
	region->host = mmap(NULL, region->wire.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			    region->fd, 0);
	assert_true(region->host != MAP_FAILED);
}

static void a_front_end_that_truncates_its_memory_loses_its_session(void **state)
{
	struct vnvme *r = &rig;

	connect_to(r, "n.sock");
	memory_unseal(&r->fe.region[0]);
	up_dbbuf(r, QUEUES);
	assert_ok(ftruncate(r->fe.region[0].fd, 0));
	/* The queues look at their doorbells by themselves. */
	assert_ok(fe_wait_closed(&r->fe));
}

static uint64_t cpu_us(pid_t pid)
{
	unsigned long user = 0, sys = 0;
	char path[64], line[1024];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	if (f && fgets(line, sizeof(line), f) && strrchr(line, ')'))
		sscanf(strrchr(line, ')') + 2,
		       "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys);
	if (f)
		fclose(f);
	return (user + sys) * 1000000ull / (uint64_t)sysconf(_SC_CLK_TCK);
}

/* A sanitizer triples what a look costs. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IDLE_PERCENT 8
#else
#define IDLE_PERCENT 2
#endif

static void an_idle_device_costs_next_to_nothing_and_wakes_up(void **state)
{
	struct vnvme *r = &rig;
	uint64_t before, start, used, took;

	up_dbbuf(r, QUEUES);
	io(r, 1, 0);
	pause_us(200000);
	before = cpu_us(r->d.pid);
	start = now_us();
	pause_us(2000000);
	used = cpu_us(r->d.pid) - before;
	took = now_us() - start;
	print_message("idle: %.2f %% of a core\n", (double)used * 100 / (double)took);
	assert_true(used * 100 < took * IDLE_PERCENT);
	io(r, 2, 0);
}

static void one_front_end_at_a_time(void **state)
{
	struct vnvme *r = &rig;
	struct fe other;
	struct vnvmefe v;
	struct fe_msg m;
	uint64_t cap;

	up_dbbuf(r, 1);
	fe_init(&other);
	vnvmefe_init(&v, &other);
	other.timeout_ms = 300;
	assert_ok(fe_connect(&other, daemon_path(&r->d, "n.sock")));
	assert_int_equal(vnvmefe_get_cap(&v, &cap), -ETIMEDOUT);
	io(r, 1, 0);
	drop(r);
	/* Its turn. */
	other.timeout_ms = 5000;
	assert_ok(fe_recv(&other, &m));
	assert_int_equal(m.hdr.req, VNVMEFE_GET_CAP);
	fe_fini(&other);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_device_starts_as_qemu_starts_it),
		T(namespaces_that_are_not_there_are_refused),
		T(start_and_stop_may_come_twice),
		T(queues_created_twice_are_replaced),
		T(wrong_queues_are_refused),
		T(a_new_call_descriptor_takes_the_place_of_the_old_one),
		T(admin_commands_that_qemu_keeps_are_refused),
		T(the_shadow_bar_is_enough_without_shadow_doorbells),
		T(the_generation_of_18_04_rings_by_message),
		T(wild_doorbells_cost_the_controller_nothing_else),
		T(wrong_messages_end_the_session_and_nothing_else),
		T(wrong_regions_are_refused_and_the_session_lives),
		T(load_is_answered_in_full),
		T(queues_are_drained_and_moved_under_load),
		T(handed_over_under_load),
		T(new_memory_while_commands_run),
		T(a_thousand_resets_lose_nothing_and_write_nothing_late),
		T(front_ends_that_leave_under_load_leave_nothing_behind),
		T(a_front_end_that_truncates_its_memory_loses_its_session),
		T(an_idle_device_costs_next_to_nothing_and_wakes_up),
		T(one_front_end_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
