/*
 * For the unit tests of this room: a guest with memory of its own, a main loop and a data loop that
 * are run by hand, a subsystem with namespace 1 on a block node, and one controller (or more).
 *
 *   struct rig rig;
 *   rig_open(&rig, "ram", "size=1M");       the controller is disabled
 *   rig_enable(&rig);                       CC.EN 1, admin queues of RIG_ADMIN_SIZE
 *   rig_io_queues(&rig, 1, 64);             queue pair 1, of 64 entries
 *   rig_sqe(&rig, NVME_IO_READ, 1);         rig.sqe is made, to be filled further
 *   assert_int_equal(rig_io(&rig, 1), NVME_SC_SUCCESS);
 *   rig_close(&rig);
 *
 * Guest memory: RIG_MEM_BYTES at guest address 0. The queues of pair q are at rig_sq_gpa(q) and
 * rig_cq_gpa(q), data from RIG_DATA on. rig_write_sqe, rig_ring and rig_reap are the single steps.
 * A second guest on the same subsystem is a struct rig_guest of its own.
 */
#ifndef NVME_NVME_RIG_H
#define NVME_NVME_RIG_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "blk/backend/sim.h"
#include "nvme/nvme_impl.h"

#define RIG_QUEUES	8
#define RIG_QUEUE_BYTES (1u << 18) /* for entries of one queue: 4096 of 64 bytes */
#define RIG_DATA	0x1000000u
#define RIG_MEM_BYTES	0x2000000u
#define RIG_ADMIN_SIZE	32
#define RIG_VECTORS	8
#define RIG_CIDS	65536
#define RIG_WAIT_NS	20000000000ull

/* The guest's side of a queue pair. A completion queue may have several submission queues. */
struct rig_queue {
	uint32_t sq_size, cq_size;
	uint32_t tail, sq_head, cq_head;
	uint32_t phase;
	uint16_t cqid; /* of the submission queue */
};

struct rig_guest {
	struct nvme_ctrl *ctrl;
	int mem_fd;
	uint8_t *mem; /* RIG_MEM_BYTES */
	struct gmem *map;
	struct rig_queue q[RIG_QUEUES + 1];
	uint16_t next_cid;
	int vector_fd[RIG_VECTORS];
	uint32_t quiet, freed, stopped, state_changes;
};

struct rig {
	struct loop *main_loop, *data_loop;
	struct loop *loops[1];
	struct loop *other_loop; /* NULL; or a test's own, for queues that move */
	struct nvme_subsys *subsys;
	struct blk_dev *dev;
	struct nvme_ns *ns;	/* namespace 1 */
	struct rig_guest guest; /* of the only controller, or the first */
	struct nvme_ctrl_params params;
	struct nvme_sqe sqe; /* the next command of rig_io, rig_admin */
	struct nvme_cqe cqe; /* the last completion */
	uint32_t removed;
	bool front_done; /* of nvme_ctrl_admin */
};

static inline void rig_state_changed(void *port)
{
	((struct rig_guest *)port)->state_changes++;
}

static const struct nvme_port_ops rig_port_ops = { .state_changed = rig_state_changed };

/* ---- loops ---- */

static inline void rig_turn(struct rig *rig)
{
	loop_run_once(rig->main_loop, false);
	loop_run_once(rig->data_loop, false);
	if (rig->other_loop)
		loop_run_once(rig->other_loop, false);
}

#define rig_until(rig, cond)                                                                       \
	do {                                                                                       \
		uint64_t limit_ns_ = loop_clock_ns() + RIG_WAIT_NS;                                \
		while (!(cond)) {                                                                  \
			rig_turn(rig);                                                             \
			if (loop_clock_ns() > limit_ns_)                                           \
				fail_msg("waited too long for: %s", #cond);                        \
		}                                                                                  \
	} while (0)

/* What is on the way gets there. */
static inline void rig_settle(struct rig *rig)
{
	for (uint32_t i = 0; i < 8; i++)
		rig_turn(rig);
}

/* ---- the guest ---- */

static inline uint64_t rig_sq_gpa(uint16_t qid)
{
	return 0x10000 + 2ull * qid * RIG_QUEUE_BYTES;
}

static inline uint64_t rig_cq_gpa(uint16_t qid)
{
	return rig_sq_gpa(qid) + RIG_QUEUE_BYTES;
}

static inline void *rig_mem(struct rig *rig, uint64_t gpa)
{
	return rig->guest.mem + gpa;
}

static inline void rig_guest_map(struct rig_guest *g, struct gmem **ret_map)
{
	struct gmem_region_desc desc = { .gpa = 0, .size_bytes = RIG_MEM_BYTES };
	struct err err = { 0 };

	if (gmem_new(&desc, &g->mem_fd, 1, ret_map, &err) < 0)
		fail_msg("%s", err.msg);
}

static inline void rig_guest_open(struct rig *rig, struct rig_guest *g)
{
	struct nvme_ctrl_params params = rig->params;
	struct err err = { 0 };

	memset(g, 0, sizeof(*g));
	g->mem_fd = memfd_create("guest", MFD_CLOEXEC);
	assert_true(g->mem_fd >= 0);
	assert_int_equal(ftruncate(g->mem_fd, RIG_MEM_BYTES), 0);
	g->mem = mmap(NULL, RIG_MEM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, g->mem_fd, 0);
	assert_true(g->mem != MAP_FAILED);
	rig_guest_map(g, &g->map);
	params.port = g;
	if (nvme_ctrl_new(rig->subsys, &params, &g->ctrl, &err) < 0)
		fail_msg("%s", err.msg);
	nvme_ctrl_maps_set(g->ctrl, g->map, g->map);
	for (uint32_t v = 0; v < RIG_VECTORS; v++) {
		g->vector_fd[v] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_true(g->vector_fd[v] >= 0);
		nvme_ctrl_vector_fd_set(g->ctrl, v, dup(g->vector_fd[v]));
	}
	nvme_ctrl_msix_enable(g->ctrl, true);
}

static inline void rig_freed(void *port)
{
	((struct rig_guest *)port)->freed++;
}

static inline void rig_guest_close(struct rig *rig, struct rig_guest *g)
{
	nvme_ctrl_free(g->ctrl, rig_freed);
	rig_until(rig, g->freed);
	gmem_unref(g->map);
	munmap(g->mem, RIG_MEM_BYTES);
	close(g->mem_fd);
	for (uint32_t v = 0; v < RIG_VECTORS; v++)
		close(g->vector_fd[v]);
}

/* Interrupts since the last look. */
static inline uint64_t rig_interrupts(struct rig *rig, uint32_t vector)
{
	uint64_t n = 0;

	rig_settle(rig);
	if (read(rig->guest.vector_fd[vector], &n, sizeof(n)) != sizeof(n))
		return 0;
	return n;
}

/* ---- registers ---- */

static inline uint32_t rig_reg32(struct rig *rig, uint32_t off)
{
	struct le32 v;

	nvme_ctrl_reg_read(rig->guest.ctrl, off, &v, sizeof(v));
	return le32_get(v);
}

static inline uint64_t rig_reg64(struct rig *rig, uint32_t off)
{
	struct le64 v;

	nvme_ctrl_reg_read(rig->guest.ctrl, off, &v, sizeof(v));
	return le64_get(v);
}

static inline void rig_reg32_set(struct rig *rig, uint32_t off, uint32_t value)
{
	struct le32 v = le32(value);

	nvme_ctrl_reg_write(rig->guest.ctrl, off, &v, sizeof(v));
}

static inline void rig_reg64_set(struct rig *rig, uint32_t off, uint64_t value)
{
	struct le64 v = le64(value);

	nvme_ctrl_reg_write(rig->guest.ctrl, off, &v, sizeof(v));
}

#define RIG_CC (NVME_CC_EN | NVME_SQE_SHIFT << 16 | NVME_CQE_SHIFT << 20)

static inline void rig_queue_init(struct rig *rig, uint16_t qid, uint32_t sq_size, uint32_t cq_size)
{
	rig->guest.q[qid] = (struct rig_queue){
		.sq_size = sq_size, .cq_size = cq_size, .phase = 1, .cqid = qid
	};
	if (cq_size)
		memset(rig_mem(rig, rig_cq_gpa(qid)), 0, cq_size * sizeof(struct nvme_cqe));
}

static inline void rig_enable(struct rig *rig)
{
	rig_queue_init(rig, 0, RIG_ADMIN_SIZE, RIG_ADMIN_SIZE);
	rig_reg32_set(rig, NVME_REG_AQA, (RIG_ADMIN_SIZE - 1) | (RIG_ADMIN_SIZE - 1) << 16);
	rig_reg64_set(rig, NVME_REG_ASQ, rig_sq_gpa(0));
	rig_reg64_set(rig, NVME_REG_ACQ, rig_cq_gpa(0));
	rig_reg32_set(rig, NVME_REG_CC, RIG_CC);
	rig_until(rig, rig_reg32(rig, NVME_REG_CSTS) & (NVME_CSTS_RDY | NVME_CSTS_CFS));
}

static inline void rig_disable(struct rig *rig)
{
	rig_reg32_set(rig, NVME_REG_CC, 0);
	rig_until(rig, !(rig_reg32(rig, NVME_REG_CSTS) & NVME_CSTS_RDY));
}

/* ---- queues ---- */

static inline void rig_ring(struct rig *rig, uint16_t qid)
{
	rig_reg32_set(rig, NVME_REG_DOORBELLS + 8u * qid, rig->guest.q[qid].tail);
}

/* One more entry, not rung; returns its CID. */
static inline uint16_t rig_write_sqe(struct rig *rig, uint16_t qid, const struct nvme_sqe *sqe)
{
	struct rig_queue *q = &rig->guest.q[qid];
	struct nvme_sqe *at = rig_mem(rig, rig_sq_gpa(qid));
	uint16_t cid = rig->guest.next_cid++;

	at[q->tail] = *sqe;
	at[q->tail].cid = le16(cid);
	q->tail = (q->tail + 1) % q->sq_size;
	return cid;
}

/* The next completion, if there is one, without the doorbell of the completion queue. */
static inline bool rig_peek(struct rig *rig, uint16_t cqid)
{
	struct rig_queue *q = &rig->guest.q[cqid];
	struct nvme_cqe *at = (struct nvme_cqe *)rig_mem(rig, rig_cq_gpa(cqid)) + q->cq_head;
	uint16_t status = __atomic_load_n(&at->status.wire, __ATOMIC_ACQUIRE);

	if ((le16toh(status) & 1u) != q->phase)
		return false;
	rig->cqe = *at;
	if (++q->cq_head == q->cq_size) {
		q->cq_head = 0;
		q->phase ^= 1;
	}
	return true;
}

static inline void rig_ring_cq(struct rig *rig, uint16_t cqid)
{
	rig_reg32_set(rig, NVME_REG_DOORBELLS + 8u * cqid + 4, rig->guest.q[cqid].cq_head);
}

/* Waits for the next completion of the queue: rig->cqe. */
static inline void rig_reap(struct rig *rig, uint16_t cqid)
{
	rig_until(rig, rig_peek(rig, cqid));
	rig_ring_cq(rig, cqid);
}

/* Status code type and code. */
static inline enum nvme_status rig_status(const struct rig *rig)
{
	return (enum nvme_status)(le16_get(rig->cqe.status) >> 1 & 0x7ff);
}

static inline bool rig_dnr(const struct rig *rig)
{
	return le16_get(rig->cqe.status) >> 15;
}

/* rig->sqe to a queue, and its completion. */
static inline enum nvme_status rig_io(struct rig *rig, uint16_t qid)
{
	uint16_t cid = rig_write_sqe(rig, qid, &rig->sqe);

	rig_ring(rig, qid);
	rig_reap(rig, rig->guest.q[qid].cqid);
	assert_int_equal(le16_get(rig->cqe.cid), cid);
	assert_int_equal(le16_get(rig->cqe.sqid), qid);
	return rig_status(rig);
}

static inline enum nvme_status rig_admin(struct rig *rig)
{
	return rig_io(rig, 0);
}

/* A command with its data at RIG_DATA, up to two pages. */
static inline struct nvme_sqe *rig_sqe(struct rig *rig, uint8_t opcode, uint32_t nsid)
{
	rig->sqe = (struct nvme_sqe){ .opcode = opcode, .nsid = le32(nsid) };
	rig->sqe.prp1 = le64(RIG_DATA);
	rig->sqe.prp2 = le64(RIG_DATA + NVME_PAGE_BYTES);
	return &rig->sqe;
}

/* A read, write or the like of blocks. */
static inline struct nvme_sqe *rig_sqe_rw(struct rig *rig, uint8_t opcode, uint64_t lba,
					  uint32_t blocks)
{
	struct nvme_sqe *sqe = rig_sqe(rig, opcode, 1);

	sqe->cdw10 = le32((uint32_t)lba);
	sqe->cdw11 = le32((uint32_t)(lba >> 32));
	sqe->cdw12 = le32(blocks - 1);
	return sqe;
}

static inline void rig_sqe_create_cq(struct rig *rig, uint16_t qid, uint32_t size, uint16_t vector)
{
	rig_sqe(rig, NVME_ADMIN_CREATE_CQ, 0);
	rig->sqe.prp1 = le64(rig_cq_gpa(qid));
	rig->sqe.cdw10 = le32(qid | (size - 1) << 16);
	rig->sqe.cdw11 = le32((uint32_t)vector << 16 | 3);
}

static inline void rig_sqe_create_sq(struct rig *rig, uint16_t qid, uint32_t size, uint16_t cqid)
{
	rig_sqe(rig, NVME_ADMIN_CREATE_SQ, 0);
	rig->sqe.prp1 = le64(rig_sq_gpa(qid));
	rig->sqe.cdw10 = le32(qid | (size - 1) << 16);
	rig->sqe.cdw11 = le32((uint32_t)cqid << 16 | 1);
}

static inline enum nvme_status rig_create_cq(struct rig *rig, uint16_t qid, uint32_t size,
					     uint16_t vector)
{
	rig_queue_init(rig, qid, rig->guest.q[qid].sq_size, size);
	rig_sqe_create_cq(rig, qid, size, vector);
	return rig_admin(rig);
}

static inline enum nvme_status rig_create_sq(struct rig *rig, uint16_t qid, uint32_t size,
					     uint16_t cqid)
{
	struct rig_queue *q = &rig->guest.q[qid];

	q->sq_size = size;
	q->tail = 0;
	q->cqid = cqid;
	rig_sqe_create_sq(rig, qid, size, cqid);
	return rig_admin(rig);
}

static inline enum nvme_status rig_delete_queue(struct rig *rig, uint8_t opcode, uint16_t qid)
{
	rig_sqe(rig, opcode, 0);
	rig->sqe.cdw10 = le32(qid);
	return rig_admin(rig);
}

/* A pair on vector qid % RIG_VECTORS. */
static inline void rig_io_queues(struct rig *rig, uint16_t qid, uint32_t size)
{
	assert_int_equal(rig_create_cq(rig, qid, size, qid % RIG_VECTORS), NVME_SC_SUCCESS);
	assert_int_equal(rig_create_sq(rig, qid, size, qid), NVME_SC_SUCCESS);
}

/* ---- quiescing ---- */

static inline void rig_quiet(void *port)
{
	((struct rig_guest *)port)->quiet++;
}

static inline void rig_quiesce(struct rig *rig)
{
	uint32_t before = rig->guest.quiet;

	nvme_ctrl_quiesce(rig->guest.ctrl, rig_quiet);
	rig_until(rig, rig->guest.quiet != before);
}

/* ---- opening and closing ---- */

/* Everything but namespaces and controllers; rig->params may be changed then. */
static inline void rig_init(struct rig *rig)
{
	const struct nvme_subsys_params sp = { .name = "s0" };
	struct loop_params lp = { .name = "main", .cpu = -1, .sq_count = 64 };
	struct err err = { 0 };

	memset(rig, 0, sizeof(*rig));
	assert_int_equal(loop_new(&lp, &rig->main_loop, &err), 0);
	lp.name = "data";
	assert_int_equal(loop_new(&lp, &rig->data_loop, &err), 0);
	rig->loops[0] = rig->data_loop;
	if (nvme_subsys_new(&sp, &rig->subsys, &err) < 0)
		fail_msg("%s", err.msg);
	rig->params = (struct nvme_ctrl_params){
		.name = "test",
		.profile = NVME_PROFILE_PCI,
		.num_queues = RIG_QUEUES,
		.queue_size_max = 4096,
		.vectors = RIG_VECTORS,
		.ops = &rig_port_ops,
		.main_loop = rig->main_loop,
		.loops = rig->loops,
		.loop_count = 1,
	};
}

static inline void rig_removed(void *arg)
{
	((struct rig *)arg)->removed++;
}

static inline void rig_ns_add(struct rig *rig, const char *type, const char *disk)
{
	struct nvme_ns_params p = { .nsid = 1, .identity = "disk" };
	struct err err = { 0 };

	if (blk_dev_open(type, "disk", disk, &rig->dev, &err) < 0)
		fail_msg("%s", err.msg);
	p.dev = rig->dev;
	if (nvme_ns_add(rig->subsys, &p, &rig->ns, &err) < 0)
		fail_msg("%s", err.msg);
}

static inline void rig_ns_remove(struct rig *rig)
{
	uint32_t before = rig->removed;

	nvme_ns_remove(rig->ns, rig_removed, rig);
	rig_until(rig, rig->removed != before);
	blk_dev_unref(rig->dev);
	rig->ns = NULL;
	rig->dev = NULL;
}

static inline void rig_open(struct rig *rig, const char *type, const char *disk)
{
	rig_init(rig);
	rig_ns_add(rig, type, disk);
	rig_guest_open(rig, &rig->guest);
}

/* Enabled, with one pair of 64 entries. */
static inline void rig_open_ready(struct rig *rig, const char *type, const char *disk)
{
	rig_open(rig, type, disk);
	rig_enable(rig);
	assert_int_equal(rig_reg32(rig, NVME_REG_CSTS), NVME_CSTS_RDY);
	rig_io_queues(rig, 1, 64);
}

static inline void rig_close(struct rig *rig)
{
	if (rig->guest.ctrl)
		rig_guest_close(rig, &rig->guest);
	if (rig->ns)
		rig_ns_remove(rig);
	nvme_subsys_unref(rig->subsys);
	rig_settle(rig);
	if (rig->other_loop)
		loop_free(rig->other_loop);
	loop_free(rig->data_loop);
	loop_free(rig->main_loop);
}

#define assert_status(call, status) assert_int_equal(call, NVME_SC_##status)

#endif
