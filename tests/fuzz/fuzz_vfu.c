/*
 * libFuzzer: a vfio-user client and its guest. The input is a program for them: messages right and
 * wrong, with descriptors of all kinds and in pieces; registers and doorbells written; guest memory
 * written, mapped, unmapped and cut; answers to the server's own requests, right, wrong and never.
 * On the other end of the socket is a real session with a real device behind it, by the first byte
 * a virtio-blk or an NVMe controller, doorbells trapped or mapped; main loop and data loop take
 * turns on this thread.
 *
 * Checked, besides what the sanitizers see: the session ends when the client goes, and takes every
 * descriptor and every mapping with it.
 */
#include <fcntl.h>
#include <linux/sockios.h>
#include <sanitizer/common_interface_defs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "blk/blk.h"
#include "loop/loop.h"
#include "nvme/subsys.h"
#include "sock/fdio.h"
#include "vfu/session.h"
#include "vfu/vfu.h"
#include "virtio/vdev.h"
#include "fuzz_left.h"

#define OPS_MAX	   64u
#define TURNS_MAX  64
#define END_NS	   5000000000ull
#define FILE_BYTES 0x10000u

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

enum fd_kind {
	FD_MEM_A,
	FD_MEM_B,
	FD_BELL,
	FD_EMPTY_FILE,
	FD_HUGE_FILE,
	FD_READ_ONLY_FILE,
	FD_FULL_BELL,
	FD_PIPE,
	FD_FOLDER,
	FD_KINDS,
};

enum device {
	DEVICE_VIRTIO_TRAPPED,
	DEVICE_VIRTIO_MAPPED,
	DEVICE_NVME_TRAPPED,
	DEVICE_NVME_MAPPED,
	DEVICES,
};

struct client {
	struct vfu_session *session; /* NULL: it has ended */
	struct blk_dev *disk;
	struct nvme_subsys *subsys;
	struct nvme_ns *ns;
	enum device device;
	struct bytes in;
	int peer;
	int fds[FD_KINDS], other_end; /* of the pipe */
	uint16_t next_id;
	bool deaf; /* reads nothing */
	bool mute; /* answers no request */
};

static struct loop *main_loop, *data_loop;
static int lost_fd;
static bool ns_gone;

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
	/* Whatever they open on first use is theirs and stays. */
	loop_run_once(main_loop, false);
	loop_run_once(data_loop, false);
}

static void on_ended(struct vfu_session *s, void *arg)
{
	((struct client *)arg)->session = NULL;
}

static struct vfu_dev *virtio_make(struct client *c)
{
	const struct vblk_params blk = { .serial = "fuzz", .num_queues = 2, .queue_size_max = 64 };
	const struct vfu_virtio_params params = { .name = "fuzz",
						  .packed = true,
						  .mapped_notify =
							  c->device == DEVICE_VIRTIO_MAPPED,
						  .main_loop = main_loop,
						  .loops = &data_loop,
						  .loop_count = 1 };
	struct vfu_dev *dev;
	struct vdev *vdev;

	ASSERT(!vblk_new(c->disk, &blk, &vdev, NULL));
	ASSERT(!vfu_virtio_new(&params, vdev, &dev, NULL));
	return dev;
}

static struct vfu_dev *nvme_make(struct client *c)
{
	const struct vfu_nvme_params params = { .name = "fuzz",
						.subsys = c->subsys,
						.num_queues = 2,
						.queue_size_max = 64,
						.mapped_doorbells = c->device == DEVICE_NVME_MAPPED,
						.main_loop = main_loop,
						.loops = &data_loop,
						.loop_count = 1 };
	struct vfu_dev *dev;

	ASSERT(!vfu_nvme_new(&params, &dev, NULL));
	return dev;
}

static void loops_turn(struct client *c)
{
	uint64_t count;

	loop_run_once(main_loop, false);
	loop_run_once(data_loop, false);
	if (read(lost_fd, &count, sizeof(count)) == (ssize_t)sizeof(count) && c->session)
		vfu_session_check_lost(c->session);
}

static void on_ns_removed(void *arg)
{
	ns_gone = true;
}

static void client_open(struct client *c, const uint8_t *in, size_t len)
{
	const struct vfu_session_params params = { .name = "fuzz",
						   .main_loop = main_loop,
						   .grace_ns = 1000000,
						   .ended = on_ended,
						   .arg = c };
	uint8_t how = 0;
	int sv[2];

	*c = (struct client){ .in = bytes_of(in, len), .other_end = -1 };
	for (int i = 0; i < FD_KINDS; i++)
		c->fds[i] = -1;
	bytes_take(&c->in, &how, 1);
	c->device = how % DEVICES;
	ASSERT(!blk_dev_open("ram", "fuzz", "size=1M", &c->disk, NULL));
	if (c->device >= DEVICE_NVME_TRAPPED) {
		ASSERT(!nvme_subsys_new(&(struct nvme_subsys_params){ .name = "fuzz" }, &c->subsys,
					NULL));
		ASSERT(!nvme_ns_add(
			c->subsys,
			&(struct nvme_ns_params){ .nsid = 1, .dev = c->disk, .identity = "fuzz" },
			&c->ns, NULL));
	}
	ASSERT(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv));
	c->peer = sv[0];
	ASSERT(!vfu_session_new(&params, sv[1], c->subsys ? nvme_make(c) : virtio_make(c),
				&c->session, NULL));
}

static void client_close(struct client *c)
{
	uint64_t end_ns = loop_clock_ns() + END_NS;

	/* A shutdown, as the session may hold another descriptor of our end. */
	shutdown(c->peer, SHUT_RDWR);
	close(c->peer);
	while (c->session) {
		ASSERT(loop_clock_ns() < end_ns);
		loops_turn(c);
	}
	if (c->subsys) {
		ns_gone = false;
		nvme_ns_remove(c->ns, on_ns_removed, NULL);
		while (!ns_gone) {
			ASSERT(loop_clock_ns() < end_ns);
			loops_turn(c);
		}
		nvme_subsys_unref(c->subsys);
	}
	/* Cancelled entries come back. */
	loops_turn(c);
	blk_dev_unref(c->disk);
	for (int i = 0; i < FD_KINDS; i++)
		if (c->fds[i] >= 0)
			close(c->fds[i]);
	if (c->other_end >= 0)
		close(c->other_end);
}

/* ---- descriptors ---- */

static int file_open(uint64_t bytes)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	ASSERT(fd >= 0 && !ftruncate(fd, (off_t)bytes));
	return fd;
}

static int read_only_open(void)
{
	char path[64];
	int fd = file_open(FILE_BYTES), again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	close(fd);
	return again;
}

static int fd_open(struct client *c, enum fd_kind kind)
{
	int p[2];

	switch (kind) {
	case FD_MEM_A:
	case FD_MEM_B:
		return file_open(FILE_BYTES);
	case FD_BELL:
		return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	case FD_EMPTY_FILE:
		return file_open(0);
	case FD_HUGE_FILE:
		return file_open(1ull << 40);
	case FD_READ_ONLY_FILE:
		return read_only_open();
	case FD_FULL_BELL:
		return eventfd(0xffffffffu, EFD_CLOEXEC | EFD_SEMAPHORE);
	case FD_PIPE:
		ASSERT(!pipe2(p, O_CLOEXEC | O_NONBLOCK));
		c->other_end = p[0];
		return p[1];
	case FD_FOLDER:
		return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case FD_KINDS:
		break;
	}
	return -1;
}

static int client_fd(struct client *c, uint32_t kind)
{
	kind %= FD_KINDS;
	if (c->fds[kind] < 0)
		c->fds[kind] = fd_open(c, kind);
	ASSERT(c->fds[kind] >= 0);
	return c->fds[kind];
}

/* ---- words of the input ---- */

static uint8_t take8(struct client *c)
{
	uint8_t v = 0;

	bytes_take(&c->in, &v, sizeof(v));
	return v;
}

static uint16_t take16(struct client *c)
{
	uint16_t v = 0;

	bytes_take(&c->in, &v, sizeof(v));
	return v;
}

/* A number of which small and large, aligned and odd ones are likely. */
static uint64_t take_number(struct client *c)
{
	uint8_t how = take8(c);
	uint64_t v = take16(c);

	switch (how % 8) {
	case 0:
		return v;
	case 1:
		return v << 12;
	case 2:
		return v & 0xf;
	case 3:
		return FILE_BYTES * (v & 3);
	case 4:
		return ~v;
	case 5:
		return v << 48 | v;
	case 6:
		return 1ull << (v & 63);
	default:
		return (v & 0xf) << 12;
	}
}

static void fill(struct client *c, void *to, size_t len)
{
	size_t n = len < c->in.left_bytes ? len : c->in.left_bytes;

	memset(to, 0, len);
	if (n)
		bytes_take(&c->in, to, n);
}

/* ---- messages ---- */

static void say(struct client *c, const void *bytes, size_t len, const int *fds, uint32_t count)
{
	/* A full socket or one that the session closed: then these words are lost. */
	(void)fdio_send(c->peer, bytes, len, fds, count);
}

/* flags: bit 0 no answer, bit 1 in two pieces, bit 2 a wrong size. */
static void command(struct client *c, uint16_t number, const void *payload, uint32_t len,
		    const int *fds, uint32_t count, uint8_t flags)
{
	uint8_t bytes[VFU_HDR_BYTES + 4096];
	struct vfu_hdr hdr = { .id = c->next_id++,
			       .command = number,
			       .size = VFU_HDR_BYTES + len + (flags & 4 ? 1 : 0),
			       .flags = flags & 1 ? VFU_NO_REPLY : 0 };
	uint32_t cut = flags & 2 ? (VFU_HDR_BYTES + len) / 2 : VFU_HDR_BYTES + len;

	memcpy(bytes, &hdr, sizeof(hdr));
	if (len)
		memcpy(bytes + sizeof(hdr), payload, len);
	say(c, bytes, cut, fds, count);
	if (flags & 2) {
		loops_turn(c);
		say(c, bytes + cut, VFU_HDR_BYTES + len - cut, NULL, 0);
	}
}

static void op_version(struct client *c)
{
	static const char *const texts[] = {
		"",
		"{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":64}}",
		"{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,"
		"\"migration\":{\"pgsize\":4096}}}",
		"{\"capabilities\":[]}",
	};
	const char *text = texts[take8(c) % ARRAY_SIZE(texts)];
	uint8_t bytes[256] = { 0 };

	memcpy(bytes + 4, text, strlen(text));
	command(c, VFU_CMD_VERSION, bytes, *text ? 5 + (uint32_t)strlen(text) : 4, NULL, 0, 0);
}

static void op_map(struct client *c)
{
	uint8_t how = take8(c);
	int fd = client_fd(c, how & 0x80 ? take8(c) : FD_MEM_A + (how & 1));
	struct vfu_dma_map map = { .argsz = sizeof(map),
				   .flags = how >> 1 & 3,
				   .offset = how & 0x10 ? take_number(c) : 0,
				   .iova = take_number(c),
				   .size = take_number(c) };

	command(c, VFU_CMD_DMA_MAP, &map, sizeof(map), &fd, !(how & 0x20), how >> 3 & 2);
}

static void op_unmap(struct client *c)
{
	uint8_t how = take8(c);
	struct vfu_dma_unmap unmap = { .argsz = sizeof(unmap), .flags = how & 2 };

	if (!(how & 2)) {
		unmap.iova = take_number(c);
		unmap.size = take_number(c);
	}
	command(c, VFU_CMD_DMA_UNMAP, &unmap, sizeof(unmap), NULL, 0, how >> 3 & 3);
}

/* The head of struct vfu_region_io. */
struct access {
	uint64_t offset;
	uint32_t region, count;
};

static void op_access(struct client *c)
{
	uint8_t how = take8(c);
	struct {
		struct access io;
		uint8_t bytes[64];
	} m = { .io = { .offset = how & 0x40 ? take_number(c) : take16(c) & 0x3fff,
			.region = how & 0x20 ? take8(c) : how & 7,
			.count = how & 0x10 ? (uint32_t)take_number(c)
					    : 1u << (how >> 3 & 1) * 2 } };
	uint32_t n = m.io.count <= sizeof(m.bytes) ? m.io.count : 0;

	if (how & 0x80) {
		command(c, VFU_CMD_REGION_READ, &m, sizeof(m.io), NULL, 0, 0);
		return;
	}
	fill(c, m.bytes, n);
	command(c, VFU_CMD_REGION_WRITE, &m, (uint32_t)sizeof(m.io) + n, NULL, 0, how >> 2 & 1);
}

/* A register of the device's main BAR that matters, and a value for it. */
static void op_register(struct client *c)
{
	static const uint16_t nvme[] = { 0x0c, 0x10, 0x14,   0x20,   0x24,   0x28,   0x2c,
					 0x30, 0x34, 0x1000, 0x1004, 0x1008, 0x100c, 0x1010 };
	static const uint16_t virtio[] = { 0x00, 0x08, 0x0c, 0x10, 0x14, 0x16, 0x18,   0x1a,  0x1c,
					   0x20, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x3000, 0x3004 };
	uint8_t which = take8(c);
	struct {
		struct access io;
		uint32_t value;
	} m = { .io = { .count = 4 } };

	if (c->subsys) {
		m.io.offset = nvme[which % ARRAY_SIZE(nvme)];
		m.value = m.io.offset == 0x14 && which & 0x80 ? 0x460001 : (uint32_t)take_number(c);
	} else {
		m.io.region = 4;
		m.io.offset = virtio[which % ARRAY_SIZE(virtio)];
		m.io.count = which & 0x80 ? 4 : which & 0x40 ? 2 : 1;
		m.value = (uint32_t)take_number(c);
	}
	command(c, VFU_CMD_REGION_WRITE, &m, (uint32_t)sizeof(m.io) + m.io.count, NULL, 0,
		which >> 5 & 1);
}

static void op_multi(struct client *c)
{
	struct {
		uint64_t count;
		struct vfu_write w[4];
	} m = { .count = take8(c) & 7 };
	uint32_t n = m.count <= 4 ? (uint32_t)m.count : 0;

	for (uint32_t i = 0; i < n; i++) {
		m.w[i] = (struct vfu_write){ .offset = take16(c),
					     .region = take8(c) & 7,
					     .count = take8(c) & 15 };
		fill(c, m.w[i].bytes, 8);
	}
	command(c, VFU_CMD_REGION_WRITE_MULTI, &m, 8 + n * (uint32_t)sizeof(m.w[0]), NULL, 0, 0);
}

static void op_irqs(struct client *c)
{
	uint8_t how = take8(c), count = take8(c);
	struct {
		struct {
			uint32_t argsz, flags, index, start, count;
		} set;
		uint8_t bools[16];
	} m = { .set = { .argsz = sizeof(m),
			 .flags = take8(c),
			 .index = how & 7,
			 .start = how & 0x10 ? (uint32_t)take_number(c) : how >> 5 & 3,
			 .count = how & 8 ? count : count & 3 } };
	int fds[4];

	for (uint32_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = client_fd(c, how & 0x80 ? take8(c) : FD_BELL);
	fill(c, m.bools, sizeof(m.bools));
	command(c, VFU_CMD_DEVICE_SET_IRQS, &m, sizeof(m), fds,
		m.set.flags & VFU_IRQ_DATA_EVENTFD ? m.set.count & 3 : 0, 0);
}

static void op_feature(struct client *c)
{
	uint8_t how = take8(c);
	struct {
		uint32_t argsz, flags;
		uint64_t words[4];
	} m = { .argsz = how & 0x10 ? (uint32_t)take_number(c) : 4096,
		.flags = (how & 15) | (uint32_t)(how >> 5) << 16 };

	switch (how & 15) {
	case 2:
		m.words[0] = take8(c) & 7;
		break;
	case 6:
		m.words[0] = 4096;
		m.words[1] = take8(c) & 1;
		m.words[2] = take_number(c);
		m.words[3] = take_number(c);
		break;
	default:
		for (int i = 0; i < 3; i++)
			m.words[i] = take_number(c);
		break;
	}
	command(c, VFU_CMD_DEVICE_FEATURE, &m, sizeof(m), NULL, 0, 0);
}

static void op_mig_data(struct client *c)
{
	uint8_t how = take8(c);
	struct {
		uint32_t argsz, size;
		uint8_t bytes[3000];
	} m = { .argsz = sizeof(m), .size = how & 1 ? sizeof(m.bytes) : how };

	if (how & 2) {
		fill(c, m.bytes, 64);
		command(c, VFU_CMD_MIG_DATA_WRITE, &m, 8 + m.size, NULL, 0, 0);
	} else {
		command(c, VFU_CMD_MIG_DATA_READ, &m, 8, NULL, 0, 0);
	}
}

static void op_any(struct client *c)
{
	uint8_t number = take8(c), len = take8(c), fds = take8(c), bytes[256];
	int some[2] = { client_fd(c, fds), client_fd(c, FD_MEM_A) };

	fill(c, bytes, len);
	command(c, number & 31, bytes, len, some, fds >> 6 & 3 ? (fds >> 6 & 3) - 1u : 0,
		number >> 5);
}

static void op_raw(struct client *c)
{
	uint8_t len = take8(c), bytes[256];

	fill(c, bytes, len);
	if (len)
		say(c, bytes, len, NULL, 0);
}

static void op_memory(struct client *c)
{
	uint8_t how = take8(c), bytes[64];
	uint32_t at = take16(c);

	if (how == 0xff) {
		(void)!ftruncate(client_fd(c, FD_MEM_A + (at & 1)), at & 2 ? 0 : FILE_BYTES);
		return;
	}
	/* Not through a mapping of our own: a file that was cut would fault on us. */
	fill(c, bytes, how >> 1 & 63);
	(void)!pwrite(client_fd(c, FD_MEM_A + (how & 1)), bytes, how >> 1 & 63, at);
}

static void op_manners(struct client *c)
{
	uint8_t how = take8(c);

	c->deaf = how & 1;
	c->mute = how & 2;
}

static void op_reset(struct client *c)
{
	command(c, VFU_CMD_DEVICE_RESET, NULL, 0, NULL, 0, take8(c) & 1);
}

static void (*const ops[])(struct client *c) = {
	op_version,  op_map,	op_map,	   op_unmap,   op_access,   op_register,
	op_register, op_multi,	op_irqs,   op_feature, op_mig_data, op_any,
	op_raw,	     op_memory, op_memory, op_manners, op_reset,    op_register,
};

/* ---- what the session says ---- */

/* One request of the server's: answered by what the input says. */
static void request_answer(struct client *c, const struct vfu_hdr *ask, const uint8_t *payload)
{
	uint8_t how = take8(c), bytes[VFU_HDR_BYTES + 16 + 4096] = { 0 };
	const struct vfu_dma_io *io = (const void *)payload;
	uint32_t data = ask->command == VFU_DMA_READ ? (uint32_t)io->count & 4095 : 0;
	struct vfu_hdr hdr = { .id = ask->id,
			       .command = ask->command,
			       .size = VFU_HDR_BYTES + 16 + data,
			       .flags = VFU_TYPE_REPLY };

	if (c->mute)
		return;
	if ((how & 0xe0) == 0xe0) {
		hdr.flags |= VFU_ERROR;
		hdr.error = 5;
		hdr.size = VFU_HDR_BYTES;
	}
	memcpy(bytes, &hdr, sizeof(hdr));
	memcpy(bytes + sizeof(hdr), payload, 16);
	say(c, bytes, (how & 0xf8) == 0xc0 ? hdr.size / 2 : hdr.size, NULL, 0);
}

static void client_listen(struct client *c)
{
	static uint8_t bytes[0x20000];
	int fds[8];
	struct fdio_fds keep = { fds, 0, ARRAY_SIZE(fds) };
	ssize_t n, at = 0;

	n = fdio_recv(c->peer, bytes, sizeof(bytes), &keep, NULL);
	for (uint32_t i = 0; i < keep.count; i++)
		close(fds[i]);
	while (n - at >= (ssize_t)VFU_HDR_BYTES) {
		struct vfu_hdr hdr;

		memcpy(&hdr, bytes + at, sizeof(hdr));
		if ((hdr.flags & VFU_TYPE_MASK) == VFU_TYPE_COMMAND &&
		    n - at >= (ssize_t)(VFU_HDR_BYTES + 16))
			request_answer(c, &hdr, bytes + at + VFU_HDR_BYTES);
		if (hdr.size < VFU_HDR_BYTES)
			break;
		at += hdr.size;
	}
}

/* Until the session has dealt with all that was sent; one that waits for us is let wait. */
static void client_settle(struct client *c)
{
	int turns = 0, unread = 1;

	while (c->session && turns++ < TURNS_MAX &&
	       (unread || c->session->phase != VFU_PHASE_IDLE)) {
		loops_turn(c);
		if (!c->deaf)
			client_listen(c);
		if (ioctl(c->peer, SIOCOUTQ, &unread))
			unread = 0;
	}
	for (turns = 0; c->session && turns < 3; turns++)
		loops_turn(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	static bool begun;
	struct client c;

	if (!begun) {
		world_make();
		client_open(&c, in, 0);
		client_close(&c);
		left_begin();
		begun = true;
	}
	client_open(&c, in, len);
	op_version(&c);
	client_settle(&c);
	for (uint32_t i = 0; i < OPS_MAX && c.in.left_bytes && c.session; i++) {
		ops[take8(&c) % ARRAY_SIZE(ops)](&c);
		client_settle(&c);
	}
	client_close(&c);
	left_check("memfd:fuzz", "memfd:vfio-user");
	return 0;
}
