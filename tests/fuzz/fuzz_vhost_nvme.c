/*
 * libFuzzer: a front-end of vhost-user-nvme and its guest. The input is a program for them: one
 * byte names the operation, the next ones are its operands; after the input's end operands are 0.
 * Messages right and wrong, queues made and made again, submission queue entries of all opcodes
 * with PRP and SGL data pointers, doorbells, guest memory written and cut, in any order. On the
 * other end of the socket is a real session with a real controller, and a namespace on a ram or
 * slow disk; main loop and data loop take turns on this thread.
 *
 * Checked, besides what the sanitizers see: the session ends when the front-end goes, and takes
 * every descriptor with it.
 */
#include <sanitizer/common_interface_defs.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "blk/backend/sim.h"
#include "blk/blk.h"
#include "guest/gmem.h"
#include "nvme/subsys.h"
#include "sock/fdio.h"
#include "vhost/nvme_session.h"
#include "fuzz_left.h"

#define OPS_MAX	  64u
#define TURNS_MAX 64u
#define END_NS	  5000000000ull
#define QUEUES	  3u
#define ENTRIES	  16u

/* Guest memory: queues, the shadow pages, then data and lists. */
#define MEM_BYTES   0x40000u
#define CQ_AT(q)    ((q)*0x1000u)
#define SQ_AT(q)    (0x8000u + (q)*0x1000u)
#define SHADOW_AT   0x10000u
#define EVENTIDX_AT 0x11000u
#define DATA_AT	    0x12000u
#define DATA_PAGES  ((MEM_BYTES - DATA_AT) / 0x1000u)

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

enum op {
	OP_START, /* memory, start, queues, shadow doorbells: a whole legal start */
	OP_MESSAGE,
	OP_ADMIN, /* an admin command, more or less legal */
	OP_ENTRY, /* one entry in a submission queue, and its doorbell */
	OP_DOORBELL,
	OP_WRITE, /* bytes into guest memory */
	OP_STOP,
	OP_MEMORY, /* SET_MEM_TABLE, of one or two regions */
	OP_BAR,
	OP_CUT, /* the memory's file becomes shorter */
	OP_WAIT,
	OP_HOLD, /* the disk completes nothing, or goes on */
	OP_HANG_UP,
	OP_COUNT,
};

struct front {
	struct nvme_session *session; /* NULL: it has ended */
	struct nvme_subsys *subsys;
	struct nvme_ns *ns;
	struct blk_dev *disk;
	struct bytes in;
	int peer, mem, bar, call;
	bool sim;
	uint16_t tail[QUEUES + 1];
};

static struct loop *main_loop, *data_loop;
static struct log_limit limit = LOG_LIMIT_DEFAULT;
static int lost_fd;
static struct front *only; /* for the session's end */

static uint8_t take8(struct front *f)
{
	uint8_t v;

	bytes_take(&f->in, &v, sizeof(v));
	return v;
}

static uint16_t take16(struct front *f)
{
	uint16_t v;

	bytes_take(&f->in, &v, sizeof(v));
	return v;
}

/* ---- the world ---- */

static void world_make(void)
{
	char text[64];

	/* Starts its helper now, with two pipes, and not in the middle of an input. */
	__sanitizer_symbolize_pc(__builtin_return_address(0), "%f", text, sizeof(text));
	log_set_level(LOG_ERROR);
	lost_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ASSERT(lost_fd >= 0 && !gmem_fault_install(lost_fd, NULL));
	ASSERT(!loop_new(&(struct loop_params){ .name = "main", .cpu = -1 }, &main_loop, NULL));
	ASSERT(!loop_new(&(struct loop_params){ .name = "data", .cpu = -1 }, &data_loop, NULL));
	loop_run_once(main_loop, false);
	loop_run_once(data_loop, false);
}

static void on_ended(struct nvme_session *s)
{
	only->session = NULL;
}

static void front_connect(struct front *f)
{
	const struct vhost_nvme_params params = {
		.sock = { .name = "fuzz", .main_loop = main_loop },
		.subsys = f->subsys,
		.num_queues = QUEUES,
		.queue_size_max = 64,
		.loops = &data_loop,
		.loop_count = 1,
	};
	int sv[2];

	memset(f->tail, 0, sizeof(f->tail));
	ASSERT(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv));
	f->peer = sv[0];
	ASSERT(!nvme_session_new(&params, &limit, sv[1], on_ended, &f->session, NULL));
}

static void loops_turn(struct front *f)
{
	uint64_t count;

	loop_run_once(main_loop, false);
	loop_run_once(data_loop, false);
	if (read(lost_fd, &count, sizeof(count)) == (ssize_t)sizeof(count) && f->session)
		nvme_session_check_lost(f->session);
}

static void front_disconnect(struct front *f)
{
	uint64_t end_ns = loop_clock_ns() + END_NS;

	if (f->sim)
		blk_sim_hold(f->disk, false);
	close(f->peer);
	while (f->session) {
		ASSERT(loop_clock_ns() < end_ns);
		loops_turn(f);
	}
	loops_turn(f);
}

static int file_open(uint64_t bytes)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	ASSERT(fd >= 0 && !ftruncate(fd, (off_t)bytes));
	return fd;
}

static void front_open(struct front *f, const uint8_t *in, size_t len)
{
	static const char *const disks[][2] = {
		{ "ram", "size=1M" },
		{ "null", "size=1M" },
		{ "sim", "size=1M,delay-min-ns=0,delay-max-ns=50000,volatile-cache=on" },
		{ "sim", "size=1M,mem-align=512,fail-every=5" },
	};
	uint8_t how;

	*f = (struct front){ .in = bytes_of(in, len) };
	only = f;
	how = take8(f) & 3;
	f->sim = how & 2;
	f->mem = file_open(MEM_BYTES);
	f->bar = file_open(0x2000);
	f->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ASSERT(!blk_dev_open(disks[how][0], "fuzz", disks[how][1], &f->disk, NULL));
	ASSERT(!nvme_subsys_new(&(struct nvme_subsys_params){ .name = "fuzz" }, &f->subsys, NULL));
	ASSERT(!nvme_ns_add(
		f->subsys,
		&(struct nvme_ns_params){ .nsid = 1, .dev = f->disk, .identity = "fuzz" }, &f->ns,
		NULL));
	front_connect(f);
}

static void on_removed(void *arg)
{
	*(bool *)arg = true;
}

static void front_close(struct front *f)
{
	uint64_t end_ns = loop_clock_ns() + END_NS;
	bool removed = false;

	front_disconnect(f);
	nvme_ns_remove(f->ns, on_removed, &removed);
	while (!removed) {
		ASSERT(loop_clock_ns() < end_ns);
		loops_turn(f);
	}
	nvme_subsys_unref(f->subsys);
	blk_dev_unref(f->disk);
	close(f->mem);
	close(f->bar);
	close(f->call);
}

/* ---- words to the session ---- */

static void front_listen(struct front *f)
{
	char bytes[512];

	while (recv(f->peer, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		continue;
}

static void front_turn(struct front *f, uint32_t turns)
{
	for (uint32_t i = 0; i < turns; i++) {
		loops_turn(f);
		front_listen(f);
	}
}

static void say(struct front *f, uint32_t request, uint32_t flags, const void *payload,
		uint32_t size, int fd)
{
	struct msg_hdr hdr = { request, flags, size };
	uint8_t wire[MSG_HDR_BYTES + MSG_PAYLOAD_MAX];

	ASSERT(size <= MSG_PAYLOAD_MAX);
	memcpy(wire, &hdr, sizeof(hdr));
	memcpy(wire + sizeof(hdr), payload, size);
	(void)fdio_send(f->peer, wire, sizeof(hdr) + size, &fd, fd >= 0);
	front_turn(f, 3);
	/* One that waits for the disk, or for us, is let wait. */
	for (uint32_t i = 0; i < TURNS_MAX && f->session && f->session->row; i++)
		front_turn(f, 1);
}

static void say_u64(struct front *f, uint32_t request, uint64_t v, int fd)
{
	say(f, request, MSG_VERSION, &v, sizeof(v), fd);
}

/* Not through a mapping of our own: a file that was cut would fault on us, so it just grows. */
static void mem_write(struct front *f, uint32_t at, const void *bytes, size_t len)
{
	(void)!pwrite(f->mem, bytes, len, at);
}

/* ---- operations ---- */

static void op_memory(struct front *f)
{
	uint8_t how = take8(f);
	uint64_t first = how & 1 ? MEM_BYTES / 2 : MEM_BYTES;
	struct msg_mem_table t = { .count = 1,
				   .regions = { { .gpa = how & 2 ? 0x1000 : 0,
						  .size_bytes = first,
						  .mmap_offset = how & 4 ? 0x1000 : 0 } } };

	say(f, 5, MSG_VERSION, &t, 40, f->mem);
}

static void admin(struct front *f, const struct nvme_sqe *sqe)
{
	say(f, 80, MSG_VERSION, sqe, sizeof(*sqe), -1);
}

static void queue_make(struct front *f, uint32_t qid, uint32_t cqid)
{
	struct nvme_sqe cq = { .opcode = NVME_ADMIN_CREATE_CQ,
			       .cdw10 = le32((ENTRIES - 1) << 16 | qid),
			       .cdw11 = le32(3) };
	struct nvme_sqe sq = { .opcode = NVME_ADMIN_CREATE_SQ,
			       .cdw10 = le32((ENTRIES - 1) << 16 | qid),
			       .cdw11 = le32(cqid << 16 | 1) };

	cq.prp1 = le64(CQ_AT(qid));
	sq.prp1 = le64(SQ_AT(qid));
	if (qid == cqid) {
		admin(f, &cq);
		say_u64(f, 81, qid, f->call);
	}
	admin(f, &sq);
	f->tail[qid] = 0;
}

static void op_start(struct front *f)
{
	struct msg_mem_table t = { .count = 1, .regions = { { .size_bytes = MEM_BYTES } } };
	uint8_t how = take8(f);

	say(f, 5, MSG_VERSION, &t, 40, f->mem);
	say_u64(f, 83, 1, -1);
	queue_make(f, 1, 1);
	queue_make(f, 2, how & 1 ? 1 : 2);
	if (how & 2) {
		struct nvme_sqe sqe = { .opcode = NVME_ADMIN_DOORBELL_BUFFER_CONFIG };

		sqe.prp1 = le64(SHADOW_AT);
		sqe.prp2 = le64(EVENTIDX_AT);
		admin(f, &sqe);
	}
}

/* A data pointer that is somewhere near guest memory. */
static uint64_t address(struct front *f)
{
	uint16_t v = take16(f);

	if (v == 0xffff)
		return ~0ull;
	return DATA_AT + (uint64_t)(v >> 8) % (DATA_PAGES + 1) * 0x1000 + (v & 0xff) * 8;
}

static void op_admin(struct front *f)
{
	static const uint8_t opcodes[] = { 0x00, 0x01, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0a, 0x7c };
	uint8_t which = take8(f);
	struct nvme_sqe sqe = { .opcode = which < 0x80 ? opcodes[which % sizeof(opcodes)] : which };

	sqe.nsid = le32(take8(f));
	sqe.cdw10 = le32(take16(f) % 256u << 16 | take8(f));
	sqe.cdw11 = le32((uint32_t)take8(f) << 16 | take8(f));
	sqe.prp1 = le64(address(f) & ~0xfffull);
	sqe.prp2 = le64(address(f) & ~0xfffull);
	admin(f, &sqe);
}

static void doorbell(struct front *f, uint32_t type, uint32_t qid, uint32_t value)
{
	uint32_t m[3] = { type, qid, value };

	/* Both ways: the one that is not in use does nothing. */
	mem_write(f, SHADOW_AT + 8 * (qid & 0xff) + (type == 2 ? 4 : 0), &value, 4);
	say(f, 84, MSG_VERSION, m, sizeof(m), -1);
}

static void op_entry(struct front *f)
{
	uint32_t qid = 1 + take8(f) % QUEUES;
	struct nvme_sqe sqe = { .opcode = take8(f) };

	sqe.flags = take8(f);
	sqe.cid = le16(take8(f));
	sqe.nsid = le32(sqe.flags & 0x10 ? take8(f) : 1);
	sqe.prp1 = le64(address(f));
	sqe.prp2 = le64(address(f));
	if (sqe.flags & 0xc0) {
		sqe.sgl1.length = le32(take16(f));
		sqe.sgl1.type = take8(f);
	}
	sqe.cdw10 = le32(take16(f));
	sqe.cdw11 = le32(take8(f));
	sqe.cdw12 = le32((uint32_t)take8(f) << 24 | take8(f));
	mem_write(f, SQ_AT(qid) + f->tail[qid] % ENTRIES * (uint32_t)sizeof(sqe), &sqe,
		  sizeof(sqe));
	f->tail[qid] = (uint16_t)((f->tail[qid] + 1) % ENTRIES);
	/* The first half of a pair waits for the second. */
	if (!(sqe.flags & 1))
		doorbell(f, 1, qid, f->tail[qid]);
}

static void op_write(struct front *f)
{
	uint8_t bytes[64];
	uint32_t at = (uint32_t)(address(f) % MEM_BYTES), len = take8(f) % sizeof(bytes);

	for (uint32_t i = 0; i < len; i++)
		bytes[i] = take8(f);
	/* Lists want whole addresses. */
	if (len && bytes[0] == 0) {
		uint64_t entry = address(f);

		memcpy(bytes, &entry, 8);
		len = 8;
	}
	mem_write(f, at, bytes, len);
}

static void op_message(struct front *f)
{
	uint8_t bytes[128];
	uint32_t request = 78 + take8(f) % 10, size = take8(f), how = take8(f);

	for (uint32_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = i < 16 || how & 8 ? take8(f) : 0;
	say(f, how & 16 ? 5 : request, how & 1 ? how : MSG_VERSION | (how & MSG_NEED_REPLY), bytes,
	    MIN(size, (uint32_t)sizeof(bytes)),
	    how & 32   ? f->call
	    : how & 64 ? f->mem
		       : -1);
}

static void op_bar(struct front *f)
{
	struct msg_mem_table t = { .count = 1,
				   .regions = { { .size_bytes = 0x1000u * (take8(f) % 4) } } };

	say(f, 85, MSG_VERSION | MSG_NEED_REPLY, &t, 40, f->bar);
}

static void op_run(struct front *f, enum op op)
{
	switch (op) {
	case OP_START:
		op_start(f);
		break;
	case OP_MESSAGE:
		op_message(f);
		break;
	case OP_ADMIN:
		op_admin(f);
		break;
	case OP_ENTRY:
		op_entry(f);
		break;
	case OP_DOORBELL:
		doorbell(f, 1 + take8(f) % 2, take8(f) % (QUEUES + 2), take16(f));
		break;
	case OP_WRITE:
		op_write(f);
		break;
	case OP_STOP:
		say_u64(f, 83, 0, -1);
		break;
	case OP_MEMORY:
		op_memory(f);
		break;
	case OP_BAR:
		op_bar(f);
		break;
	case OP_CUT:
		(void)!ftruncate(f->mem, (off_t)(take8(f) * 0x1000u));
		break;
	case OP_WAIT:
		front_turn(f, take8(f) % TURNS_MAX);
		break;
	case OP_HOLD:
		if (f->sim)
			blk_sim_hold(f->disk, take8(f) & 1);
		break;
	case OP_HANG_UP:
		front_disconnect(f);
		front_connect(f);
		break;
	case OP_COUNT:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	static bool begun;
	struct front f;

	if (!main_loop)
		world_make();
	front_open(&f, in, len);
	for (uint32_t n = 0; n < OPS_MAX && !f.in.failed && f.session; n++)
		op_run(&f, take8(&f) % OP_COUNT);
	front_close(&f);
	if (!begun)
		left_begin();
	begun = true;
	left_check("memfd:fuzz", "memfd:vfio-user");
	return 0;
}
