/*
 * For the unit tests of data and NVM commands: a namespace on a sim disk, guest memory, and
 * commands without queues. What cmd.c and others do around a handler is done here in the plainest
 * way.
 *
 *   gpa 0           4 MiB, the last 2 KiB of its last page belong to the next region
 *   gpa 4 MiB - 2K  up to 8 MiB, elsewhere in our memory
 *   gpa RO_GPA      1 MiB that we may only read
 *   gpa FAR_GPA     1 MiB without a mapping: by messages, when io_rig.dma is on
 */
#ifndef NVME_IO_RIG_H
#define NVME_IO_RIG_H

#include <setjmp.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "blk/backend/sim.h"
#include "nvme/limits.h"
#include "nvme/rw.h"

#define MIB	      (1ull << 20)
#define BORDER_GPA    (4 * MIB - 2048)
#define RO_GPA	      0x40000000ull
#define FAR_GPA	      0x80000000ull
#define RIG_CMDS      96
#define RIG_DISK_MIB  64
#define RIG_NOT_ENDED 0xffff

struct io_rig {
	struct loop *loop;
	struct blk_dev *dev;
	struct nvme_ctrl ctrl;
	struct nvme_port_ops ops;
	struct nvme_ns ns;
	struct nvme_att att;
	struct nvme_nsq nsq;
	struct nvme_mem mem;
	struct gmem *readable, *writable;
	char *host; /* of the memory object: 16 MiB */
	char far_memory[MIB];
	uint32_t dma_count, dma_fail_at; /* the nth fails; 0: none */
	uint32_t saves;
	bool save_fails;
	struct nvme_sq sq;
	struct nvme_cmd cmd[RIG_CMDS];
	uint16_t status[RIG_CMDS];
};

static struct io_rig *rig;

/* ---- what is around a handler ---- */

void nvme_cmd_end(struct nvme_cmd *c, enum nvme_status status)
{
	if (c->data_bits && !nvme_data_end(c, status == NVME_SC_SUCCESS))
		return;
	if (c->exclusive)
		nvme_fused_end(c, status == NVME_SC_SUCCESS);
	if (c->has_buf) {
		free(c->buf);
		c->buf = NULL;
	}
	assert_int_equal(rig->status[c - rig->cmd], RIG_NOT_ENDED);
	rig->status[c - rig->cmd] = (uint16_t)status;
}

bool nvme_cmd_scratch(struct nvme_cmd *c, size_t len)
{
	c->buf = calloc(1, len);
	c->has_buf = 1;
	c->buf_bytes = len;
	assert_non_null(c->buf);
	return true;
}

static void rig_blk_done(struct blk_req *blk)
{
	struct nvme_cmd *c = container_of(blk, struct nvme_cmd, blk);

	c->blk_next(c, (enum blk_status)blk->status);
}

void nvme_cmd_blk(struct nvme_cmd *c, enum blk_op op, uint8_t flags, uint64_t offset_bytes,
		  uint64_t len_bytes, struct iovec *iov, uint32_t iov_count,
		  void (*blk_next)(struct nvme_cmd *c, enum blk_status status))
{
	c->blk.op = (uint8_t)op;
	c->blk.flags = flags;
	c->blk.offset_bytes = offset_bytes;
	c->blk.len_bytes = len_bytes;
	c->blk.iov = iov;
	c->blk.iov_count = iov_count;
	c->blk.done = rig_blk_done;
	c->blk_next = blk_next;
	blk_submit(c->nsq->way.chan, &c->blk);
}

static void rig_pass(struct loop_msg *msg)
{
	struct nvme_cmd *c = container_of(msg, struct nvme_cmd, msg);

	c->next(c);
}

void nvme_cmd_to_main(struct nvme_cmd *c, void (*fn)(struct nvme_cmd *c))
{
	c->next = fn;
	c->msg.fn = rig_pass;
	loop_post(rig->loop, &c->msg);
}

void nvme_cmd_to_home(struct nvme_cmd *c, void (*fn)(struct nvme_cmd *c))
{
	nvme_cmd_to_main(c, fn);
}

enum nvme_status nvme_gate_status(const struct nvme_cmd *c, uint32_t gate)
{
	return NVME_SC_SUCCESS;
}

/* Two namespaces, on one disk. */
struct nvme_nsq *nvme_nsq_get(struct nvme_cq *cq, uint32_t nsid)
{
	return nsid == 1 || nsid == 7 ? &rig->nsq : NULL;
}

void nvme_gates_update(struct nvme_ns *ns)
{
	atomic_store(&rig->att.gate, nvme_uncor_any(&ns->uncor) ? CMD_WRITES | GATE_UNCOR : 0);
}

void nvme_ns_state_save(struct nvme_ns *ns, void (*done)(void *arg, bool ok), void *arg)
{
	rig->saves++;
	done(arg, !rig->save_fails);
}

static inline void rig_dma(void *port, struct nvme_dma *dma)
{
	uint64_t off = dma->iova - FAR_GPA;

	assert_ptr_equal(dma->loop, rig->loop);
	if (++rig->dma_count == rig->dma_fail_at) {
		dma->done(dma, -EIO);
	} else if (off > MIB || dma->len_bytes > MIB - off) {
		dma->done(dma, -EFAULT);
	} else {
		if (dma->to_guest)
			memcpy(rig->far_memory + off, dma->buf, dma->len_bytes);
		else
			memcpy(dma->buf, rig->far_memory + off, dma->len_bytes);
		dma->done(dma, 0);
	}
}

/* ---- memory ---- */

static inline char *rig_host(uint64_t addr)
{
	if (addr >= FAR_GPA)
		return rig->far_memory + (addr - FAR_GPA);
	if (addr >= RO_GPA)
		return rig->host + 14 * MIB + (addr - RO_GPA);
	if (addr >= BORDER_GPA)
		return rig->host + 8 * MIB + (addr - BORDER_GPA);
	return rig->host + addr;
}

static inline void rig_fill(uint64_t addr, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i++)
		*rig_host(addr + i) = (char)(i * 7 + i / 251 + seed);
}

static inline void rig_put64(uint64_t addr, uint64_t value)
{
	struct le64 v = le64(value);

	for (size_t i = 0; i < sizeof(v); i++)
		*rig_host(addr + i) = ((char *)&v)[i];
}

static inline void rig_memory_open(void)
{
	struct gmem_region_desc d[3] = {
		{ .gpa = 0, .size_bytes = BORDER_GPA, .uva = 0, .mmap_offset_bytes = 0 },
		{ .gpa = BORDER_GPA,
		  .size_bytes = 4 * MIB + 2048,
		  .uva = BORDER_GPA,
		  .mmap_offset_bytes = 8 * MIB },
		{ .gpa = RO_GPA, .size_bytes = MIB, .uva = RO_GPA, .mmap_offset_bytes = 14 * MIB },
	};
	int fd = memfd_create("guest", MFD_CLOEXEC), fds[3] = { fd, fd, fd };
	struct err err = { 0 };

	assert_int_equal(ftruncate(fd, 16 * MIB), 0);
	if (gmem_new(d, fds, 3, &rig->readable, &err) < 0 ||
	    gmem_new(d, fds, 2, &rig->writable, &err) < 0)
		fail_msg("%s", err.msg);
	rig->host = mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(rig->host, MAP_FAILED);
	close(fd);
}

/* ---- life ---- */

static inline void rig_open(const char *disk_params)
{
	struct loop_params lp = { .name = "test", .cpu = -1, .sq_count = 64 };
	struct err err = { 0 };
	char params[256];

	rig = calloc(1, sizeof(*rig));
	assert_int_equal(loop_new(&lp, &rig->loop, &err), 0);
	snprintf(params, sizeof(params), "size=%dM%s", RIG_DISK_MIB, disk_params);
	if (blk_dev_open("sim", "d0", params, &rig->dev, &err) < 0)
		fail_msg("%s", err.msg);
	rig->ctrl.params.ops = &rig->ops;
	rig->ctrl.params.main_loop = rig->loop;
	rig->ns.nsid = 1;
	rig->ns.dev = rig->dev;
	rig->ns.caps = rig->nsq.caps = blk_dev_caps(rig->dev);
	rig->ns.block_bytes = rig->ns.caps->block_bytes;
	rig->ns.block_shift = (uint32_t)__builtin_ctz(rig->ns.block_bytes);
	rig->nsq.block_shift = rig->ns.block_shift;
	rig->nsq.ns = rig->att.ns = &rig->ns;
	rig->nsq.att = &rig->att;
	rig->att.ctrl = &rig->ctrl;
	nvme_uncor_init(&rig->ns.uncor);
	pthread_mutex_init(&rig->ns.lock, NULL);
	list_init(&rig->ns.turn_waiters);
	assert_int_equal(blk_way_open(&rig->nsq.way, rig->dev, rig->loop, NULL, &err), 0);
	rig_memory_open();
	nvme_mem_init(&rig->mem, &rig->ctrl, rig->loop);
	nvme_mem_maps_set(&rig->mem, rig->readable, rig->writable, NULL);
	for (uint32_t i = 0; i < RIG_CMDS; i++)
		rig->status[i] = RIG_NOT_ENDED;
}

static inline void rig_close(void)
{
	nvme_mem_fini(&rig->mem);
	blk_way_close(&rig->nsq.way);
	blk_dev_unref(rig->dev);
	nvme_uncor_fini(&rig->ns.uncor);
	pthread_mutex_destroy(&rig->ns.lock);
	gmem_unref(rig->readable);
	gmem_unref(rig->writable);
	munmap(rig->host, 16 * MIB);
	loop_free(rig->loop);
	free(rig);
	rig = NULL;
}

/* ---- commands ---- */

static const struct nvme_row rig_rows[] = {
#define ADMIN(op, run, f, e) { NVME_ADMIN_##op, true, #op, NULL, f, e },
#define IO(op, run, f, e)    { NVME_IO_##op, false, #op, NULL, f, e },
#include "nvme/cmd.def"
#undef ADMIN
#undef IO
};

static inline struct nvme_cmd *rig_cmd(uint32_t i, bool admin, uint8_t opcode)
{
	struct nvme_cmd *c = &rig->cmd[i];

	memset(c, 0, sizeof(*c));
	for (size_t k = 0; k < ARRAY_SIZE(rig_rows); k++)
		if (rig_rows[k].admin == admin && rig_rows[k].opcode == opcode)
			c->row = &rig_rows[k];
	assert_non_null(c->row);
	c->sq = &rig->sq;
	c->mem = &rig->mem;
	c->nsq = &rig->nsq;
	c->nsid = 1;
	c->sqe.opcode = opcode;
	rig->status[i] = RIG_NOT_ENDED;
	return c;
}

/* A command that names blocks, with PRPs. */
static inline struct nvme_cmd *rig_io(uint32_t i, uint8_t opcode, uint64_t lba, uint32_t blocks,
				      uint64_t prp1, uint64_t prp2)
{
	struct nvme_cmd *c = rig_cmd(i, false, opcode);

	c->sqe.prp1 = le64(prp1);
	c->sqe.prp2 = le64(prp2);
	c->sqe.cdw10 = le32((uint32_t)lba);
	c->sqe.cdw11 = le32((uint32_t)(lba >> 32));
	c->sqe.cdw12 = le32(blocks - 1);
	return c;
}

static inline bool rig_ended(const struct nvme_cmd *c)
{
	return rig->status[c - rig->cmd] != RIG_NOT_ENDED;
}

static inline void rig_turns(void)
{
	for (int i = 0; i < 20; i++)
		loop_run_once(rig->loop, false);
}

static inline enum nvme_status rig_wait(const struct nvme_cmd *c)
{
	for (int i = 0; i < 100000 && !rig_ended(c); i++)
		loop_run_once(rig->loop, false);
	assert_true(rig_ended(c));
	return rig->status[c - rig->cmd];
}

static inline char *rig_disk(void)
{
	return blk_sim_memory(rig->dev);
}

#endif
