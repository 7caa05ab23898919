/*
 * NVMe over vfio-user on the socket of the real binary: what QEMU and SPDK's initiator send, I/O
 * with doorbells trapped, mapped and shadowed, memory that is unmapped and mapped under load or
 * reached by messages, resets, migration from one controller to another, the dirty log, hang-ups.
 * One message at a time is the unit tests' subject (src/vfu).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nvme_vfu.h"
#include "nvmeload.h"

#define QUEUES	4
#define RAM	(32ull << 20)
#define FAR	0x100000000ull /* a second region, of FAR_RAM */
#define FAR_RAM (4ull << 20)
#define BLOCK	512u

struct vnvme {
	struct daemon d;
	struct vfe v;
	struct nvmedrv n;
	struct nvmeload load;
	bool up;
};

static struct vnvme rig;

static int group_setup(void **state)
{
	daemon_init(&rig.d);
	daemon_start(&rig.d, "--cores", "2", "--device",
		     "nvme,socket=@trapped.sock,num-queues=4,ns=1:ram=64M", "--device",
		     "nvme,socket=@mapped.sock,doorbells=mapped,num-queues=4,ns=1:ram=64M",
		     "--device", "nvme,socket=@a.sock,subsystem=pair,num-queues=4,ns=1:ram=64M",
		     "--device", "nvme,socket=@b.sock,subsystem=pair,num-queues=4", NULL);
	return 0;
}

static int group_teardown(void **state)
{
	daemon_stop(&rig.d);
	daemon_fini(&rig.d);
	return 0;
}

/* ---- the rig ---- */

static void drop(struct vnvme *r)
{
	if (r->up) {
		nvmedrv_fini(&r->n);
		vfe_fini(&r->v);
	}
	r->up = false;
}

static void connect_to(struct vnvme *r, const char *name, const struct vfe_up_opts *o)
{
	struct nvmedrv_transport tr;

	drop(r);
	assert_ok(vfe_init(&r->v));
	r->up = true;
	assert_ok(fe_connect(&r->v.fe, daemon_path(&r->d, name)));
	assert_true(fe_mem_new(&r->v.fe, 0, 0, RAM) == 0);
	fe_alloc(&r->v.fe, 0, 4096, 4096);
	if (vfe_up(&r->v, o))
		fail_msg("%s: %s", name, r->v.fe.why);
	tr = nvme_vfu_transport(&r->v, false);
	assert_ok(nvmedrv_init(&r->n, &tr));
}

static void queues_up(struct vnvme *r, unsigned queues)
{
	int rc = nvmedrv_enable(&r->n, 0);

	if (rc)
		fail_msg("enable: %d %s %s", rc, r->n.why, r->v.fe.why);
	for (unsigned q = 1; q <= queues; q++)
		assert_ok(nvmedrv_pair_create(&r->n, q, 64, (int)q));
}

static void up(struct vnvme *r, const char *name, unsigned queues)
{
	connect_to(r, name, &(struct vfe_up_opts){ .vectors = QUEUES + 1 });
	queues_up(r, queues);
}

static int setup(void **state)
{
	rig.up = false;
	return 0;
}

static int teardown(void **state)
{
	uint32_t info[4];

	drop(&rig);
	if (!daemon_alive(&rig.d))
		return -1;
	connect_to(&rig, "trapped.sock", &(struct vfe_up_opts){ 0 });
	if (vfe_get_info(&rig.v, info))
		return -1;
	drop(&rig);
	return daemon_log_check(&rig.d);
}

static void io(struct vnvme *r, unsigned q, uint64_t lba)
{
	uint64_t out = nvmedrv_alloc(&r->n, 8192, 4096), in = nvmedrv_alloc(&r->n, 8192, 4096);
	int rc;

	fill_pattern(nvmedrv_host(&r->n, out, 8192), 8192, now_us());
	rc = nvmedrv_rw(&r->n, q, SPEC_NVME_WRITE, 1, lba, 8192 / BLOCK, out, BLOCK);
	if (!rc)
		rc = nvmedrv_rw(&r->n, q, SPEC_NVME_READ, 1, lba, 8192 / BLOCK, in, BLOCK);
	if (rc)
		fail_msg("queue %u: %d %s", q, rc, r->n.why);
	assert_memory_equal(nvmedrv_host(&r->n, out, 8192), nvmedrv_host(&r->n, in, 8192), 8192);
}

static void load_start(struct vnvme *r, unsigned queues)
{
	nvmeload_init(&r->load, &r->n, 1, BLOCK, queues, now_us());
	nvmeload_zero(&r->load);
	nvmeload_fill(&r->load);
}

/* ---- what clients do ---- */

static void qemu_s_start_is_answered_and_io_runs_with_trapped_doorbells(void **state)
{
	struct vnvme *r = &rig;

	up(r, "trapped.sock", QUEUES);
	assert_null(r->v.bar_map);
	assert_true(r->v.posted);
	for (unsigned q = 1; q <= QUEUES; q++)
		io(r, q, q * 100);
	assert_true(r->n.interrupts > 0);
	assert_ok(nvmedrv_shutdown(&r->n, false));
}

static void io_runs_with_mapped_doorbells(void **state)
{
	struct vnvme *r = &rig;

	up(r, "mapped.sock", QUEUES);
	assert_non_null(r->v.bar_map);
	for (unsigned q = 1; q <= QUEUES; q++)
		io(r, q, q * 100);
	/* QEMU takes the mapping away now and then: writes by message work, too. */
	r->n.tr.doorbells = NULL;
	io(r, 1, 0);
}

static void io_runs_with_shadow_doorbells(void **state)
{
	struct vnvme *r = &rig;

	up(r, "trapped.sock", QUEUES);
	assert_ok(nvmedrv_dbbuf(&r->n));
	for (unsigned q = 1; q <= QUEUES; q++)
		io(r, q, q * 100);
}

static void the_controller_is_what_its_configuration_space_says(void **state)
{
	struct vnvme *r = &rig;
	uint8_t id[4096];
	uint32_t v;

	up(r, "trapped.sock", 0);
	assert_ok(vfe_cfg_read(&r->v, 8, 4, &v));
	assert_int_equal(v >> 8, 0x010802);
	assert_ok(vfe_cfg_read(&r->v, 0, 4, &v));
	assert_ok(nvmedrv_identify(&r->n, 1, 0, id));
	assert_int_equal(id[0] | id[1] << 8, v & 0xffff);
	assert_ok(vfe_cfg_write(&r->v, 0x10, 4, 0xffffffff));
	assert_ok(vfe_cfg_read(&r->v, 0x10, 4, &v));
	assert_int_equal(v, 0xffffc000);
}

static void spdk_s_initiator_is_served(void **state)
{
	struct vnvme *r = &rig;
	uint8_t cap[8], question[4064] = { 0 };
	struct vfe_msg m;

	connect_to(r, "mapped.sock", &(struct vfe_up_opts){ .no_json = true, .vectors = 1 });
	assert_string_equal(r->v.version_json, "");
	*(uint32_t *)question = sizeof(question);
	assert_ok(vfe_call(&r->v, VFE_DEVICE_GET_REGION_INFO, question, sizeof(question), NULL, 0,
			   sizeof(question), &m));
	assert_int_equal(m.fd_count, 1);
	assert_int_equal(m.len, 64);
	vfe_msg_close(&m);
	assert_ok(vfe_region_read(&r->v, 0, 0, cap, 8));
	assert_ok(nvmedrv_enable(&r->n, 256));
	/* It polls: no interrupts. */
	assert_ok(nvmedrv_pair_create(&r->n, 1, 64, -1));
	io(r, 1, 0);
}

static void the_pin_interrupts_while_msix_is_off(void **state)
{
	struct vnvme *r = &rig;
	uint64_t count = 0;
	uint8_t id[4096];

	connect_to(r, "trapped.sock", &(struct vfe_up_opts){ .vectors = 1 });
	assert_ok(vfe_vectors_set(&r->v, 0));
	assert_ok(vfe_cfg_write(&r->v, 4, 2, 0x0006));
	assert_ok(vfe_intx_set(&r->v));
	/* No eventfd of a vector: the admin queue is polled. */
	assert_ok(nvmedrv_enable(&r->n, 0));
	assert_ok(nvmedrv_identify(&r->n, 1, 0, id));
	for (int i = 0; i < 1000 && read(r->v.intx_fd, &count, 8) != 8; i++)
		pause_us(1000);
	assert_true(count >= 1);
}

/* ---- memory ---- */

/* One DMA_MAP or DMA_UNMAP; the answer is not waited for. */
static int map_send(struct vnvme *r, uint64_t iova, uint64_t size, uint32_t flags)
{
	struct {
		uint32_t argsz, flags;
		uint64_t off, iova, size;
	} p = { sizeof(p), flags, iova, iova, size };

	return vfe_send(&r->v, VFE_DMA_MAP, 0, &p, sizeof(p), &r->v.fe.region[0].fd, 1);
}

static int unmap_send(struct vnvme *r, uint64_t iova, uint64_t size)
{
	struct {
		uint32_t argsz, flags;
		uint64_t iova, size;
	} p = { sizeof(p), 0, iova, size };

	return vfe_send(&r->v, VFE_DMA_UNMAP, 0, &p, sizeof(p), NULL, 0);
}

/* As QEMU when SeaBIOS shadows its ROM: one map becomes three, one of them perhaps read-only. */
static void remap(struct vnvme *r, bool to_pieces, bool read_only)
{
	static const uint64_t at[] = { 0, 0xc0000, 0xe0000, RAM };
	int ids[4];
	struct vfe_msg m;

	for (unsigned i = 0; i < 3; i++) {
		uint64_t size = at[i + 1] - at[i];

		ids[i] = !to_pieces ? unmap_send(r, at[i], size)
			 : !i	    ? unmap_send(r, 0, RAM)
				    : map_send(r, at[i - 1], at[i] - at[i - 1],
					       read_only && i == 2 ? 1 : 3);
	}
	ids[3] = to_pieces ? map_send(r, at[2], RAM - at[2], 3) : map_send(r, 0, RAM, 3);
	for (unsigned i = 0; i < 4; i++) {
		bool is_unmap = to_pieces ? !i : i < 3;
		int rc = vfe_answer(&r->v, ids[i], is_unmap ? VFE_DMA_UNMAP : VFE_DMA_MAP,
				    is_unmap ? 24 : 0, &m);

		if (rc)
			fail_msg("message %u: %d %s", i, rc, r->v.fe.why);
	}
}

static void memory_is_unmapped_and_mapped_in_pieces_under_load(void **state)
{
	struct vnvme *r = &rig;
	static const char *const sockets[] = { "trapped.sock", "mapped.sock" };

	for (unsigned s = 0; s < 2; s++) {
		up(r, sockets[s], QUEUES);
		/* What lies in the part that is read-only for a while is not the driver's. */
		assert_true(fe_alloc(&r->v.fe, 0, 0xe0000, 4096) != 0);
		load_start(r, QUEUES);
		for (unsigned i = 0; i < 50; i++) {
			remap(r, true, i & 1);
			nvmeload_run(&r->load, 20);
			remap(r, false, false);
			nvmeload_run(&r->load, 20);
		}
		/* All away: nothing is written. Back: it goes on. */
		assert_ok(vfe_dma_unmap(&r->v, 0, 0, 2));
		nvmeload_reap(&r->load);
		nvmeload_fill(&r->load);
		pause_us(20000);
		assert_int_equal(nvmeload_reap(&r->load), 0);
		assert_ok(vfe_dma_map(&r->v, 0, RAM, 0, 3, r->v.fe.region[0].fd));
		nvmeload_drain(&r->load);
		nvmeload_verify(&r->load);
	}
}

/* The driver's wait, but requests of the server are served meanwhile. */
static unsigned wait_serving(struct vnvme *r, unsigned q)
{
	uint64_t end = now_us() + 5000000;
	struct nvmedrv_done done;
	uint32_t info[4];
	int rc;

	while ((rc = nvmedrv_reap(&r->n, q, &done)) == 0) {
		assert_true(now_us() < end);
		assert_ok(vfe_get_info(&r->v, info));
	}
	if (rc < 0)
		fail_msg("%s", r->n.why);
	return done.status;
}

static void data_without_a_descriptor_goes_by_messages(void **state)
{
	struct vnvme *r = &rig;
	struct spec_nvme_sqe sqe;
	uint8_t *far;

	up(r, "trapped.sock", 1);
	assert_int_equal(fe_mem_new(&r->v.fe, FAR, FAR, FAR_RAM), 1);
	assert_ok(vfe_region_map(&r->v, 1, 3, false));
	far = fe_host(&r->v.fe, FAR, FAR_RAM);
	fill_pattern(far, 65536, 1);
	for (unsigned i = 0; i < 2; i++) {
		sqe = nvmedrv_rw_sqe(i ? SPEC_NVME_READ : SPEC_NVME_WRITE, 1, 64, 32768 / BLOCK);
		assert_ok(nvmedrv_prp(&r->n, &sqe, FAR + 512 + i * 0x100000, 32768));
		assert_true(nvmedrv_submit(&r->n, 1, &sqe, NULL) >= 0);
		assert_ok(nvmedrv_sq_ring(&r->n, 1));
		assert_int_equal(wait_serving(r, 1), 0);
	}
	assert_true(r->v.dma_reads > 0 && r->v.dma_writes > 0);
	assert_memory_equal(far + 512, far + 512 + 0x100000, 32768);
	/* Memory that nobody mapped is a data transfer error, or the like; the queue lives. */
	sqe = nvmedrv_rw_sqe(SPEC_NVME_READ, 1, 0, 8);
	assert_ok(nvmedrv_prp(&r->n, &sqe, FAR + 2 * FAR_RAM, 4096));
	assert_true(nvmedrv_submit(&r->n, 1, &sqe, NULL) >= 0);
	assert_ok(nvmedrv_sq_ring(&r->n, 1));
	assert_int_not_equal(wait_serving(r, 1), 0);
	io(r, 1, 0);
}

/* Keys of a reservation are fetched on the queue's thread, and what it does is main's. */
static void reservations_and_data_by_messages_share_a_queue(void **state)
{
	struct spec_nvme_sqe unregister = { .opcode = SPEC_NVME_RESV_REGISTER, .nsid = 1 };
	struct vnvme *r = &rig;
	struct spec_nvme_sqe sqe;

	up(r, "trapped.sock", 1);
	assert_int_equal(fe_mem_new(&r->v.fe, FAR, FAR, FAR_RAM), 1);
	assert_ok(vfe_region_map(&r->v, 1, 3, false));
	unregister.cdw10 = 1u << 3 | 1; /* IEKEY */
	assert_ok(nvmedrv_prp(&r->n, &unregister, FAR, 16));
	sqe = nvmedrv_rw_sqe(SPEC_NVME_WRITE, 1, 64, 1);
	assert_ok(nvmedrv_prp(&r->n, &sqe, FAR + 4096, BLOCK));
	for (unsigned round = 0; round < 200; round++) {
		for (unsigned i = 0; i < 16; i++)
			assert_true(nvmedrv_submit(&r->n, 1, i % 2 ? &unregister : &sqe, NULL) >=
				    0);
		assert_ok(nvmedrv_sq_ring(&r->n, 1));
		for (unsigned i = 0; i < 16; i++)
			wait_serving(r, 1);
	}
	assert_true(r->v.dma_reads >= 16 * 200);
	assert_ok(nvmedrv_disable(&r->n));
	queues_up(r, 1);
	io(r, 1, 0);
}

static void transfers_that_are_not_served_hold_up_no_unmap(void **state)
{
	struct vnvme *r = &rig;
	struct spec_nvme_sqe sqe;

	up(r, "trapped.sock", 1);
	assert_int_equal(fe_mem_new(&r->v.fe, FAR, FAR, FAR_RAM), 1);
	assert_ok(vfe_region_map(&r->v, 1, 3, false));
	r->v.dma_deaf = true;
	sqe = nvmedrv_rw_sqe(SPEC_NVME_WRITE, 1, 64, 8);
	assert_ok(nvmedrv_prp(&r->n, &sqe, FAR, 4096));
	assert_true(nvmedrv_submit(&r->n, 1, &sqe, NULL) >= 0);
	assert_ok(nvmedrv_sq_ring(&r->n, 1));
	pause_us(50000);
	assert_ok(vfe_region_unmap(&r->v, 0));
	assert_ok(vfe_region_map(&r->v, 0, 3, true));
	assert_int_not_equal(wait_serving(r, 1), 0);
	io(r, 1, 0);
}

/* Queues, lists and data: nothing of it is mapped by the server. */
static void a_guest_without_any_descriptor_is_served_by_messages(void **state)
{
	static const char *const sockets[] = { "trapped.sock", "mapped.sock" };
	struct vnvme *r = &rig;
	uint8_t id[4096];

	for (unsigned s = 0; s < 2; s++) {
		connect_to(r, sockets[s],
			   &(struct vfe_up_opts){ .vectors = QUEUES + 1, .no_fd = true });
		queues_up(r, QUEUES);
		assert_ok(nvmedrv_identify(&r->n, 1, 0, id));
		assert_memory_equal(id + 24, "vhostd", 6);
		for (unsigned q = 1; q <= QUEUES; q++)
			io(r, q, q * 100);
		assert_true(r->n.interrupts > 0);
		load_start(r, QUEUES);
		for (unsigned i = 0; i < 4; i++) {
			nvmeload_run(&r->load, 300); /* more than once round the rings */
			nvmeload_fill(&r->load);
			assert_ok(nvmedrv_disable(&r->n));
			nvmeload_forget(&r->load);
			nvmeload_poison(&r->load);
			pause_us(2000);
			assert_ok(nvmedrv_idle(&r->n));
			nvmeload_poison_check(&r->load);
			queues_up(r, QUEUES);
		}
		nvmeload_verify(&r->load);
	}
}

static void queues_whose_memory_goes_for_good_fail_the_controller_only(void **state)
{
	struct vnvme *r = &rig;

	connect_to(r, "trapped.sock", &(struct vfe_up_opts){ .vectors = 2, .no_fd = true });
	queues_up(r, 1);
	load_start(r, 1);
	assert_ok(vfe_region_unmap(&r->v, 0));
	assert_ok(nvmedrv_doorbell(&r->n, 2, 0, r->n.sq[1].tail ^ 1));
	assert_ok(nvmedrv_csts_wait(&r->n, SPEC_NVME_CFS, SPEC_NVME_CFS));
	assert_ok(vfe_region_map(&r->v, 0, 3, false));
	assert_ok(nvmedrv_disable(&r->n));
	queues_up(r, 1);
	io(r, 1, 0);
}

static void memory_that_the_client_cuts_ends_its_session_only(void **state)
{
	struct vnvme *r = &rig;
	struct spec_nvme_sqe sqe = nvmedrv_rw_sqe(SPEC_NVME_WRITE, 1, 0, 8);
	int fd = memfd_create("cut", MFD_CLOEXEC); /* cannot be sealed */

	up(r, "trapped.sock", 1);
	assert_ok(ftruncate(fd, FAR_RAM));
	assert_ok(vfe_dma_map(&r->v, FAR, FAR_RAM, 0, 3, fd));
	assert_ok(ftruncate(fd, 0));
	assert_ok(nvmedrv_prp(&r->n, &sqe, FAR, 4096));
	assert_true(nvmedrv_submit(&r->n, 1, &sqe, NULL) >= 0);
	assert_ok(nvmedrv_sq_ring(&r->n, 1));
	assert_ok(fe_wait_closed(&r->v.fe));
	close(fd);
}

/* ---- resets and ends ---- */

static void a_thousand_resets_under_load_lose_nothing_and_write_nothing_late(void **state)
{
	struct vnvme *r = &rig;

	up(r, "trapped.sock", QUEUES);
	load_start(r, QUEUES);
	for (unsigned i = 0; i < 1000; i++) {
		uint32_t csts;

		nvmeload_run(&r->load, 20);
		if (i & 1)
			assert_ok(vfe_reset(&r->v));
		else /* PCI Express capability, Device Control: function level reset */
			assert_ok(vfe_cfg_write(&r->v, 0x50, 2, 0x8000));
		nvmedrv_forget(&r->n);
		nvmeload_forget(&r->load);
		nvmeload_poison(&r->load);
		pause_us(200);
		assert_ok(nvmedrv_csts_wait(&r->n, SPEC_NVME_RDY, 0));
		assert_ok(nvmedrv_reg32(&r->n, SPEC_NVME_CSTS, &csts));
		nvmeload_poison_check(&r->load);
		assert_ok(vfe_cfg_write(&r->v, 4, 2, 0x0406));
		queues_up(r, QUEUES);
		nvmeload_fill(&r->load);
	}
	nvmeload_drain(&r->load);
	nvmeload_verify(&r->load);
}

static void clients_that_leave_under_load_leave_nothing_behind(void **state)
{
	struct vnvme *r = &rig;
	unsigned fds = 0;

	for (unsigned i = 0; i < 20; i++) {
		up(r, i & 1 ? "mapped.sock" : "trapped.sock", QUEUES);
		load_start(r, QUEUES);
		if (i == 3)
			fds = daemon_fd_count(&r->d);
		if (i == 19)
			assert_in_range(daemon_fd_count(&r->d), 0, fds + 2);
		drop(r);
	}
}

static void one_client_at_a_time(void **state)
{
	struct vnvme *r = &rig;
	struct vfe second;
	struct vfe_msg m;
	int id;

	up(r, "trapped.sock", 1);
	assert_ok(vfe_init(&second));
	second.fe.timeout_ms = 200;
	assert_ok(fe_connect(&second.fe, daemon_path(&r->d, "trapped.sock")));
	id = vfe_send(&second, VFE_VERSION, 0, "\0\0\0\0", 4, NULL, 0);
	assert_int_equal(vfe_answer(&second, id, VFE_VERSION, 4, &m), -ETIMEDOUT);
	io(r, 1, 0);
	drop(r);
	second.fe.timeout_ms = 5000;
	assert_ok(vfe_answer(&second, id, VFE_VERSION, 4, &m));
	vfe_fini(&second);
}

/* ---- migration ---- */

/* Everything from one side to the other; the source stays in STOP_COPY. */
static void state_move(struct vfe *from, struct vfe *to)
{
	uint8_t bytes[1000];
	int n;

	assert_ok(vfe_state_set(from, VFE_STATE_PRE_COPY));
	assert_int_equal(vfe_mig_read(from, bytes, sizeof(bytes)), 0);
	assert_ok(vfe_state_set(from, VFE_STATE_STOP_COPY));
	assert_ok(vfe_state_set(to, VFE_STATE_RESUMING));
	do {
		n = vfe_mig_read(from, bytes, sizeof(bytes));
		assert_true(n >= 0);
		assert_ok(vfe_mig_write(to, bytes, (uint32_t)n));
	} while (n == sizeof(bytes));
}

static void a_controller_moves_to_another_with_its_queues(void **state)
{
	struct vnvme *r = &rig;
	struct vfe to;

	up(r, "a.sock", 2);
	io(r, 1, 0);
	io(r, 2, 8);
	/* The destination has the same memory, and interrupts of its own. */
	assert_ok(vfe_init(&to));
	assert_ok(fe_connect(&to.fe, daemon_path(&r->d, "b.sock")));
	assert_ok(vfe_version(&to, 0, 0, NULL));
	assert_ok(vfe_dma_map(&to, 0, RAM, 0, 3, r->v.fe.region[0].fd));
	for (unsigned i = 0; i <= QUEUES; i++)
		assert_ok(vfe_set_irqs(&to, VFE_DATA_EVENTFD | VFE_TRIGGER, VFE_IRQ_MSIX, i, 1,
				       NULL, &r->v.vector_fd[i], 1));
	state_move(&r->v, &to);
	assert_ok(vfe_state_set(&to, VFE_STATE_RUNNING));
	/* The driver goes on, on the other socket. */
	close(r->v.fe.sock);
	r->v.fe.sock = to.fe.sock;
	r->v.posted = true;
	to.fe.sock = -1;
	vfe_fini(&to);
	for (unsigned i = 0; i < 100; i++)
		io(r, 1 + (i & 1), i * 16);
	assert_ok(nvmedrv_pair_create(&r->n, 3, 32, 3));
	io(r, 3, 0);
	assert_ok(nvmedrv_disable(&r->n));
}

static void a_stopped_controller_answers_registers_and_does_nothing_else(void **state)
{
	struct vnvme *r = &rig;
	struct spec_nvme_sqe sqe = nvmedrv_rw_sqe(SPEC_NVME_FLUSH, 1, 0, 1);
	struct nvmedrv_done done;
	uint32_t csts;

	up(r, "trapped.sock", 1);
	assert_ok(vfe_state_set(&r->v, VFE_STATE_STOP));
	assert_true(nvmedrv_submit(&r->n, 1, &sqe, NULL) >= 0);
	assert_ok(nvmedrv_sq_ring(&r->n, 1));
	assert_ok(nvmedrv_reg32(&r->n, SPEC_NVME_CSTS, &csts));
	assert_int_equal(csts, SPEC_NVME_RDY);
	pause_us(20000);
	assert_int_equal(nvmedrv_reap(&r->n, 1, &done), 0);
	assert_ok(vfe_state_set(&r->v, VFE_STATE_RUNNING));
	assert_ok(nvmedrv_wait(&r->n, 1, &done));
	assert_int_equal(done.status, 0);
}

static void the_dirty_log_has_what_the_controller_wrote_and_no_more(void **state)
{
	struct vnvme *r = &rig;
	uint64_t start[2] = { 4096, 0 }, ask[3] = { 0, RAM, 4096 };
	uint64_t report[3 + RAM / 4096 / 64], data, other;

	up(r, "trapped.sock", 1);
	data = nvmedrv_alloc(&r->n, 3 * 4096, 4096);
	other = nvmedrv_alloc(&r->n, 4096, 4096);
	assert_ok(vfe_feature(&r->v, VFE_FEATURE_LOG_START | VFE_FEATURE_SET, start, sizeof(start),
			      NULL, 0));
	assert_ok(nvmedrv_rw(&r->n, 1, SPEC_NVME_READ, 1, 0, 2 * 4096 / BLOCK, data + 512, BLOCK));
	assert_ok(nvmedrv_rw(&r->n, 1, SPEC_NVME_WRITE, 1, 0, 4096 / BLOCK, other, BLOCK));
	assert_ok(vfe_feature(&r->v, VFE_FEATURE_LOG_REPORT | VFE_FEATURE_GET, ask, sizeof(ask),
			      report, sizeof(report)));
#define IS_DIRTY(iova) (report[3 + (iova) / 4096 / 64] >> (iova) / 4096 % 64 & 1)
	for (unsigned i = 0; i < 3; i++)
		assert_true(IS_DIRTY(data + i * 4096));
	assert_false(IS_DIRTY(other));
	assert_true(IS_DIRTY(r->n.cq[1].iova));
	assert_false(IS_DIRTY(r->n.sq[1].iova));
	assert_ok(vfe_feature(&r->v, VFE_FEATURE_LOG_REPORT | VFE_FEATURE_GET, ask, sizeof(ask),
			      report, sizeof(report)));
	for (unsigned i = 0; i < RAM / 4096 / 64; i++)
		assert_int_equal(report[3 + i], 0);
	assert_ok(vfe_feature(&r->v, VFE_FEATURE_LOG_STOP | VFE_FEATURE_SET, NULL, 0, NULL, 0));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(qemu_s_start_is_answered_and_io_runs_with_trapped_doorbells),
		T(io_runs_with_mapped_doorbells),
		T(io_runs_with_shadow_doorbells),
		T(the_controller_is_what_its_configuration_space_says),
		T(spdk_s_initiator_is_served),
		T(the_pin_interrupts_while_msix_is_off),
		T(memory_is_unmapped_and_mapped_in_pieces_under_load),
		T(data_without_a_descriptor_goes_by_messages),
		T(reservations_and_data_by_messages_share_a_queue),
		T(a_guest_without_any_descriptor_is_served_by_messages),
		T(queues_whose_memory_goes_for_good_fail_the_controller_only),
		T(transfers_that_are_not_served_hold_up_no_unmap),
		T(memory_that_the_client_cuts_ends_its_session_only),
		T(a_thousand_resets_under_load_lose_nothing_and_write_nothing_late),
		T(clients_that_leave_under_load_leave_nothing_behind),
		T(one_client_at_a_time),
		T(a_controller_moves_to_another_with_its_queues),
		T(a_stopped_controller_answers_registers_and_does_nothing_else),
		T(the_dirty_log_has_what_the_controller_wrote_and_no_more),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
