/*
 * libFuzzer: an NVMe controller, without a transport. A guest with an admin queue and an I/O queue,
 * which writes submission queue entries, its memory and registers as the input says.
 *
 * Input: a byte for the world (disks, memory by messages, state file), then steps: a struct step,
 * a submission queue entry for commands, bytes for memory. Guest memory is small, in regions with a
 * border inside a page, one of them read-only; the guest may point its queues anywhere in it.
 * Checked: a controller that is disabled, quiet or gone writes nothing more to guest memory, and
 * comes to that within END_NS; the sanitizers see the rest.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "base/num.h"
#include "blk/backend/sim.h"
#include "blk/blk.h"
#include "loop/job.h"
#include "nvme/ctrl.h"
#include "nvme/subsys.h"

#define STEPS_MAX  64
#define END_NS	   8000000000ull
#define KIB	   1024u
#define MEM_BYTES  (1024 * KIB)
#define BORDER	   (700 * KIB + 2048) /* here the second region begins */
#define RO_GPA	   (2048 * KIB)
#define RO_BYTES   (64 * KIB)
#define FAR_GPA	   (3072 * KIB)
#define FAR_BYTES  (64 * KIB)
#define QUEUE_SIZE 16u
#define NAMESPACES 2

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

enum world {
	WORLD_SIM = 1,
	WORLD_BLOCK_4K = 2,
	WORLD_READ_ONLY = 4,
	WORLD_STATE = 8,
	WORLD_FAR = 16,
	WORLD_POLLED = 32,
	WORLD_FAILS = 64,
};

enum step_how {
	HOW_IO_QUEUE = 1,
	HOW_NO_WAIT = 2,
	HOW_WILD = 4, /* addresses of the entry as they are */
	HOW_NO_BELL = 8,
	HOW_OTHER = 128,
};

enum other {
	OTHER_HOLD,
	OTHER_RELEASE,
	OTHER_REENABLE,
	OTHER_REGISTER,
	OTHER_QUIESCE, /* less a region, or all of them again */
	OTHER_RESET,
	OTHER_UNPLUG,
	OTHER_PLUG,
	OTHER_RESIZE,
	OTHER_ANA,
	OTHER_KINDS,
};

struct step {
	uint8_t how, kind, arg, fill_bytes;
	uint32_t at; /* memory that is filled, or a register */
};

static struct loop *main_loop, *data_loop;
static char folder[64], state_path[80];
static int mem_fd = -1;
static uint8_t *mem; /* both regions, then what is read-only */
static uint8_t far_memory[FAR_BYTES];

/* One input's world. */
static struct nvme_subsys *subsys;
static struct blk_dev *disks[NAMESPACES];
static struct nvme_ns *spaces[NAMESPACES];
static struct nvme_ctrl *ctrl;
static struct nvme_port_ops port_ops;
static uint32_t removing, quiet_count, freed_count;
static uint16_t tails[2], next_cid;
static uint8_t how_world;

static void folder_remove(void)
{
	unlink(state_path);
	rmdir(folder);
}

static void world_make(void)
{
	log_set_level(LOG_ERROR);
	snprintf(folder, sizeof(folder), "/tmp/fuzz-nvme-XXXXXX");
	ASSERT(mkdtemp(folder));
	snprintf(state_path, sizeof(state_path), "%s/state", folder);
	atexit(folder_remove);
	ASSERT(!loop_new(&(struct loop_params){ .name = "main", .cpu = -1 }, &main_loop, NULL));
	ASSERT(!loop_new(&(struct loop_params){ .name = "data", .cpu = -1 }, &data_loop, NULL));
	ASSERT(!job_threads_start(1, NULL));
	mem_fd = memfd_create("guest", MFD_CLOEXEC);
	ASSERT(mem_fd >= 0 && !ftruncate(mem_fd, MEM_BYTES + RO_BYTES));
	mem = mmap(NULL, MEM_BYTES + RO_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, mem_fd, 0);
	ASSERT(mem != MAP_FAILED);
}

static void turn(void)
{
	loop_run_once(main_loop, false);
	loop_run_once(data_loop, false);
}

#define turn_until(cond)                                                                           \
	do {                                                                                       \
		uint64_t end_ns_ = loop_clock_ns() + END_NS;                                       \
		while (!(cond)) {                                                                  \
			ASSERT(loop_clock_ns() < end_ns_);                                         \
			turn();                                                                    \
		}                                                                                  \
	} while (0)

/* ---- the port ---- */

static void far_run(struct loop_msg *msg)
{
	struct nvme_dma *dma = container_of(msg, struct nvme_dma, msg);
	uint64_t off = dma->iova - FAR_GPA;

	if (dma->iova < FAR_GPA || off > FAR_BYTES || dma->len_bytes > FAR_BYTES - off) {
		dma->done(dma, -EFAULT);
		return;
	}
	if (dma->to_guest)
		memcpy(far_memory + off, dma->buf, dma->len_bytes);
	else
		memcpy(dma->buf, far_memory + off, dma->len_bytes);
	dma->done(dma, 0);
}

static void far_dma(void *port, struct nvme_dma *dma)
{
	dma->msg.fn = far_run;
	loop_post(dma->loop, &dma->msg);
}

static void on_quiet(void *port)
{
	quiet_count++;
}

static void on_freed(void *port)
{
	freed_count++;
}

static void on_removed(void *arg)
{
	removing--;
}

/* ---- memory ---- */

static void maps_set(unsigned regions)
{
	struct gmem_region_desc d[3] = {
		{ .gpa = 0, .size_bytes = BORDER, .uva = 0 },
		{ .gpa = BORDER,
		  .size_bytes = MEM_BYTES - BORDER,
		  .uva = BORDER,
		  .mmap_offset_bytes = BORDER },
		{ .gpa = RO_GPA,
		  .size_bytes = RO_BYTES,
		  .uva = RO_GPA,
		  .mmap_offset_bytes = MEM_BYTES },
	};
	int fds[3] = { mem_fd, mem_fd, mem_fd };
	struct gmem *readable = NULL, *writable = NULL;

	if (regions) {
		ASSERT(!gmem_new(d, fds, regions, &readable, NULL));
		ASSERT(!gmem_new(d, fds, MIN(regions, 2u), &writable, NULL));
	}
	nvme_ctrl_maps_set(ctrl, readable, writable);
	gmem_unref(readable);
	gmem_unref(writable);
}

static uint64_t mem_sum(void)
{
	uint64_t sum = 1, word;

	for (size_t at = 0; at < MEM_BYTES + RO_BYTES; at += sizeof(word)) {
		memcpy(&word, mem + at, sizeof(word));
		sum = sum * 31 + word;
	}
	return sum;
}

/* Nothing is written any more. */
static void silence_check(void)
{
	uint64_t before = mem_sum();

	for (int i = 0; i < 4; i++)
		turn();
	ASSERT(mem_sum() == before);
}

/* ---- registers and queues ---- */

static void reg32_set(uint32_t off, uint32_t value)
{
	struct le32 v = le32(value);

	nvme_ctrl_reg_write(ctrl, off, &v, sizeof(v));
}

static uint32_t reg32(uint32_t off)
{
	struct le32 v;

	nvme_ctrl_reg_read(ctrl, off, &v, sizeof(v));
	return le32_get(v);
}

static uint64_t sq_gpa(unsigned q)
{
	return 0x4000ull * q;
}

static uint64_t cq_gpa(unsigned q)
{
	return 0x4000ull * q + 0x2000;
}

static void bell(unsigned q)
{
	reg32_set(NVME_REG_DOORBELLS + 8 * q, tails[q]);
	/* all completions are taken at once: the guest does not look at them */
	for (uint32_t head = 0; head < QUEUE_SIZE; head++)
		reg32_set(NVME_REG_DOORBELLS + 8 * q + 4, head);
}

static void sqe_send(unsigned q, struct nvme_sqe *sqe, bool ring)
{
	sqe->cid = le16(next_cid++);
	memcpy(mem + sq_gpa(q) + tails[q] * sizeof(*sqe), sqe, sizeof(*sqe));
	tails[q] = (uint16_t)((tails[q] + 1u) % QUEUE_SIZE);
	if (ring)
		bell(q);
}

static void holds_release(void)
{
	for (unsigned i = 0; how_world & WORLD_SIM && i < NAMESPACES; i++)
		if (disks[i])
			blk_sim_hold(disks[i], false);
}

static void queue_create(uint8_t opcode, uint64_t gpa, uint32_t dw11)
{
	struct nvme_sqe sqe = { .opcode = opcode };

	sqe.prp1 = le64(gpa);
	sqe.cdw10 = le32(1 | (QUEUE_SIZE - 1) << 16);
	sqe.cdw11 = le32(dw11);
	sqe_send(0, &sqe, true);
	for (int i = 0; i < 8; i++)
		turn();
}

static void enable(void)
{
	tails[0] = tails[1] = 0;
	reg32_set(NVME_REG_AQA, (QUEUE_SIZE - 1) | (QUEUE_SIZE - 1) << 16);
	reg32_set(NVME_REG_ASQ, (uint32_t)sq_gpa(0));
	reg32_set(NVME_REG_ASQ + 4, 0);
	reg32_set(NVME_REG_ACQ, (uint32_t)cq_gpa(0));
	reg32_set(NVME_REG_ACQ + 4, 0);
	reg32_set(NVME_REG_CC, NVME_CC_EN | 6u << 16 | 4u << 20);
	turn_until(reg32(NVME_REG_CSTS) & (NVME_CSTS_RDY | NVME_CSTS_CFS));
	queue_create(NVME_ADMIN_CREATE_CQ, cq_gpa(1), 3);
	queue_create(NVME_ADMIN_CREATE_SQ, sq_gpa(1), 1 << 16 | 1);
}

static void disable(void)
{
	holds_release();
	reg32_set(NVME_REG_CC, 0);
	turn_until(!(reg32(NVME_REG_CSTS) & NVME_CSTS_RDY) && nvme_ctrl_is_idle(ctrl));
	silence_check();
}

/* ---- the world ---- */

static void space_open(unsigned i)
{
	const char *type = how_world & WORLD_SIM ? "sim" : "ram";
	struct nvme_ns_params p = { .nsid = i + 1,
				    .identity = i ? "one" : "zero",
				    .read_only = i && how_world & WORLD_READ_ONLY };
	char text[128];

	snprintf(text, sizeof(text), "size=256K%s%s",
		 i && how_world & WORLD_BLOCK_4K ? ",block-size=4096" : "",
		 how_world & WORLD_SIM && how_world & WORLD_FAILS ? ",fail-every=7" : "");
	if (!disks[i])
		ASSERT(!blk_dev_open(type, p.identity, text, &disks[i], NULL));
	p.dev = disks[i];
	if (!i && how_world & WORLD_STATE)
		p.state_path = state_path;
	ASSERT(!nvme_ns_add(subsys, &p, &spaces[i], NULL));
}

static void space_close(unsigned i)
{
	if (!spaces[i])
		return;
	removing++;
	nvme_ns_remove(spaces[i], on_removed, NULL);
	spaces[i] = NULL;
	holds_release();
	turn_until(!removing);
}

static void world_open(uint8_t how)
{
	struct loop *loops[1] = { data_loop };
	static struct loop *loops_kept[1];
	struct nvme_ctrl_params p = {
		.name = "fuzz",
		.num_queues = 4,
		.queue_size_max = 64,
		.vectors = 4,
		.doorbells_polled = how & WORLD_POLLED,
		.ops = &port_ops,
		.main_loop = main_loop,
		.loops = loops_kept,
		.loop_count = 1,
	};

	loops_kept[0] = loops[0];
	how_world = how;
	port_ops.dma = how & WORLD_FAR ? far_dma : NULL;
	unlink(state_path);
	memset(mem, 0, MEM_BYTES + RO_BYTES);
	ASSERT(!nvme_subsys_new(&(struct nvme_subsys_params){ .name = "fuzz" }, &subsys, NULL));
	for (unsigned i = 0; i < NAMESPACES; i++)
		space_open(i);
	ASSERT(!nvme_ctrl_new(subsys, &p, &ctrl, NULL));
	maps_set(3);
	enable();
}

static void world_close(void)
{
	uint32_t before = freed_count;

	holds_release();
	nvme_ctrl_free(ctrl, on_freed);
	turn_until(freed_count != before);
	silence_check();
	for (unsigned i = 0; i < NAMESPACES; i++) {
		space_close(i);
		blk_dev_unref(disks[i]);
		disks[i] = NULL;
	}
	nvme_subsys_unref(subsys);
	turn();
}

/* ---- steps ---- */

static void regions_change(unsigned regions)
{
	uint32_t before = quiet_count;

	holds_release();
	nvme_ctrl_quiesce(ctrl, on_quiet);
	turn_until(quiet_count != before);
	silence_check();
	maps_set(regions);
	nvme_ctrl_resume(ctrl);
}

static void register_write(const struct step *s, struct bytes *in)
{
	uint8_t value[8] = { 0 };
	uint32_t len = s->arg % 8 + 1, off = s->at % (NVME_BAR0_BYTES - 8);

	bytes_take(in, value, MIN((size_t)len, in->left_bytes));
	nvme_ctrl_reg_write(ctrl, off, value, len);
	nvme_ctrl_reg_read(ctrl, off, value, len);
}

static void other_do(const struct step *s, struct bytes *in)
{
	unsigned i = s->arg % NAMESPACES;

	switch ((enum other)(s->kind % OTHER_KINDS)) {
	case OTHER_HOLD:
	case OTHER_RELEASE:
		if (how_world & WORLD_SIM)
			blk_sim_hold(disks[i], s->kind % OTHER_KINDS == OTHER_HOLD);
		return;
	case OTHER_REENABLE:
		disable();
		enable();
		return;
	case OTHER_REGISTER:
		register_write(s, in);
		return;
	case OTHER_QUIESCE:
		regions_change(s->arg % 4);
		return;
	case OTHER_RESET:
		nvme_ctrl_reset(ctrl);
		return;
	case OTHER_UNPLUG:
		space_close(i);
		return;
	case OTHER_PLUG:
		if (!spaces[i])
			space_open(i);
		return;
	case OTHER_RESIZE:
		if (!(how_world & WORLD_SIM))
			return;
		blk_sim_resize(disks[i], (1 + s->at % 64) * 4096ull);
		ASSERT(!blk_dev_rescan(disks[i], NULL));
		return;
	case OTHER_ANA:
		nvme_ctrl_ana_set(ctrl, s->arg % 4 + 1);
		return;
	case OTHER_KINDS:
		break;
	}
	UNREACHABLE();
}

static void command_do(const struct step *s, struct bytes *in)
{
	struct nvme_sqe sqe = { 0 };
	unsigned q = s->how & HOW_IO_QUEUE;

	bytes_take(in, &sqe, MIN(sizeof(sqe), in->left_bytes));
	sqe.opcode = s->kind;
	if (!(s->how & HOW_WILD)) {
		sqe.prp1 = le64(le64_get(sqe.prp1) % (4096 * KIB));
		sqe.prp2 =
			le64(sqe.flags >> NVME_SQE_PSDT_SHIFT ? le64_get(sqe.prp2)
							      : le64_get(sqe.prp2) % (4096 * KIB));
	}
	sqe_send(q, &sqe, !(s->how & HOW_NO_BELL));
}

static uint8_t *memory_at(uint32_t at, size_t len)
{
	if (at >= FAR_GPA && at - FAR_GPA <= FAR_BYTES - len)
		return far_memory + (at - FAR_GPA);
	if (at >= RO_GPA && at - RO_GPA <= RO_BYTES - len)
		return mem + MEM_BYTES + (at - RO_GPA);
	return mem + at % (MEM_BYTES - len);
}

static bool step_take(struct bytes *in)
{
	struct step s;
	size_t fill;

	if (!bytes_take(in, &s, sizeof(s)))
		return false;
	fill = MIN((size_t)s.fill_bytes, in->left_bytes);
	if (fill)
		bytes_take(in, memory_at(s.at, fill), fill);
	if (s.how & HOW_OTHER)
		other_do(&s, in);
	else
		command_do(&s, in);
	for (int i = 0; i < (s.how & HOW_NO_WAIT ? 1 : 12); i++)
		turn();
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	struct bytes left = bytes_of(in, len);
	uint8_t how = 0;

	if (!main_loop)
		world_make();
	bytes_take(&left, &how, 1);
	world_open(how);
	for (unsigned i = 0; i < STEPS_MAX && step_take(&left); i++)
		;
	world_close();
	return 0;
}
