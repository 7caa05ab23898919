/*
 * libFuzzer: a front-end and its guest. The input is a program for them (fuzz_vhost_ops.h reads
 * it): messages right and wrong with descriptors of all kinds, guest memory written, chains made
 * available, bells rung, files truncated, in any order. On the other end of the socket is a real
 * session with real rings and a virtio-blk on a null, ram or slow disk; main loop and data loop
 * take turns on this thread.
 *
 * Checked, besides what the sanitizers see: the session ends when the front-end goes, and takes
 * every descriptor and every mapping with it.
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
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "blk/backend/sim.h"
#include "blk/blk.h"
#include "loop/loop.h"
#include "vhost/session.h"
#include "virtio/vdev.h"
#include "fuzz_left.h"

#define OPS_MAX	  64u
#define TURNS_MAX 64
#define END_NS	  5000000000ull

/* Guest memory: two regions of two files. Rings in the first, data in the second. */
#define FILE_BYTES   0x10000u
#define UVA(i)	     ((uint64_t)((i) + 1) << 32)
#define RINGS	     3u
#define RING_AT(r)   ((r)*0x4000u)
#define AVAIL_AT     0x1000u
#define USED_AT	     0x2000u
#define RING_ENTRIES 16u

#define DESC_NEXT     1u
#define DESC_WRITE    2u
#define DESC_INDIRECT 4u
#define DESC_AVAIL    0x80u
#define DESC_USED     0x8000u

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

enum fd_kind {
	FD_MEM_A,
	FD_MEM_B,
	FD_KICK,
	FD_CALL,
	FD_LOG,
	FD_INFLIGHT, /* what GET_INFLIGHT_FD gave, or a file of ours */
	FD_ODD_FILE, /* 4095 bytes */
	FD_HUGE_FILE,
	FD_EMPTY_FILE,
	FD_READ_ONLY_FILE,
	FD_PIPE_READ,
	FD_PIPE_WRITE,
	FD_FULL_EVENTFD,
	FD_SOCKET,
	FD_FOLDER,
	FD_PATH,
	FD_KINDS,
};

struct guest_ring {
	uint16_t avail; /* split: free running; packed: position */
	uint16_t next_desc;
	bool wrap;
};

struct front {
	struct session *session; /* NULL: it has ended */
	struct blk_dev *disk;
	struct bytes in;
	int peer;
	int fds[FD_KINDS], other_end[2]; /* of the pipe, of the socket */
	bool sealable;			 /* files are, so they cannot be cut once they are mapped */
	uint64_t features;
	struct guest_ring rings[RINGS];
	bool deaf; /* takes no replies */
	bool sim;  /* the disk can hold requests back */
};

static struct loop *main_loop, *data_loop;
static int lost_fd;

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

static void on_ended(struct session *s, void *arg)
{
	struct front *f = arg;

	f->session = NULL;
}

/* Its end of a new session. */
static void front_connect(struct front *f)
{
	const struct vblk_params blk = { .serial = "fuzz",
					 .num_queues = RINGS,
					 .queue_size_max = 256 };
	const struct session_params params = {
		.name = "fuzz",
		.main_loop = main_loop,
		.loops = &data_loop,
		.loop_count = 1,
		.packed = true,
		.ended = on_ended,
		.arg = f,
	};
	struct vdev *vdev;
	int sv[2];

	ASSERT(!vblk_new(f->disk, &blk, &vdev, NULL));
	ASSERT(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv));
	f->peer = sv[0];
	ASSERT(!session_new(&params, sv[1], vdev, &f->session, NULL));
}

static void loops_turn(struct front *f)
{
	uint64_t count;

	loop_run_once(main_loop, false);
	loop_run_once(data_loop, false);
	if (read(lost_fd, &count, sizeof(count)) == (ssize_t)sizeof(count) && f->session)
		session_check_lost(f->session);
}

static void front_disconnect(struct front *f)
{
	uint64_t end_ns = loop_clock_ns() + END_NS;

	if (f->sim)
		blk_sim_hold(f->disk, false);
	/* A shutdown, as the session may hold another descriptor of our end. */
	shutdown(f->peer, SHUT_RDWR);
	close(f->peer);
	while (f->session) {
		ASSERT(loop_clock_ns() < end_ns);
		loops_turn(f);
	}
	/* Cancelled entries come back. */
	loops_turn(f);
}

static void front_open(struct front *f, const uint8_t *in, size_t len)
{
	static const char *const disks[][2] = {
		{ "null", "size=1M" },
		{ "ram", "size=1M" },
		{ "sim", "size=1M,delay-min-ns=0,delay-max-ns=50000,volatile-cache=on" },
		{ "sim", "size=1M,mem-align=512,fail-every=5" },
	};
	uint8_t how;

	*f = (struct front){ .in = bytes_of(in, len), .other_end = { -1, -1 } };
	for (int i = 0; i < FD_KINDS; i++)
		f->fds[i] = -1;
	bytes_take(&f->in, &how, 1);
	f->sealable = how & 4;
	f->sim = how & 2;
	ASSERT(!blk_dev_open(disks[how & 3][0], "fuzz", disks[how & 3][1], &f->disk, NULL));
	front_connect(f);
}

static void front_close(struct front *f)
{
	front_disconnect(f);
	blk_dev_unref(f->disk);
	for (int i = 0; i < FD_KINDS; i++)
		if (f->fds[i] >= 0)
			close(f->fds[i]);
	for (int i = 0; i < 2; i++)
		if (f->other_end[i] >= 0)
			close(f->other_end[i]);
}

/* ---- descriptors ---- */

static int file_open(const struct front *f, uint64_t bytes)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC | (f->sealable ? MFD_ALLOW_SEALING : 0));

	ASSERT(fd >= 0 && !ftruncate(fd, (off_t)bytes));
	return fd;
}

static int read_only_open(const struct front *f)
{
	char path[64];
	int fd = file_open(f, FILE_BYTES), again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	close(fd);
	return again;
}

static int pair_open(struct front *f, bool pipe_wanted, int which)
{
	int sv[2];

	if (pipe_wanted)
		ASSERT(!pipe2(sv, O_CLOEXEC | O_NONBLOCK));
	else
		ASSERT(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv));
	f->other_end[pipe_wanted] = sv[!which];
	return sv[which];
}

static int fd_open(struct front *f, enum fd_kind kind)
{
	switch (kind) {
	case FD_MEM_A:
	case FD_MEM_B:
	case FD_LOG:
	case FD_INFLIGHT:
		return file_open(f, FILE_BYTES);
	case FD_KICK:
	case FD_CALL:
		return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	case FD_ODD_FILE:
		return file_open(f, 4095);
	case FD_HUGE_FILE:
		return file_open(f, 1ull << 40);
	case FD_EMPTY_FILE:
		return file_open(f, 0);
	case FD_READ_ONLY_FILE:
		return read_only_open(f);
	case FD_PIPE_READ:
	case FD_PIPE_WRITE:
		/* one pipe: who asks for both ends gets the one twice */
		return f->other_end[1] < 0 ? pair_open(f, true, kind == FD_PIPE_WRITE)
					   : dup(f->other_end[1]);
	case FD_FULL_EVENTFD:
		return eventfd(0xffffffffu, EFD_CLOEXEC | EFD_SEMAPHORE);
	case FD_SOCKET:
		return pair_open(f, false, 0);
	case FD_FOLDER:
		return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case FD_PATH:
		return open("/proc/self/exe", O_PATH | O_CLOEXEC);
	case FD_KINDS:
		break;
	}
	return -1;
}

static int front_fd(struct front *f, uint32_t kind)
{
	kind %= FD_KINDS;
	if (f->fds[kind] < 0)
		f->fds[kind] = fd_open(f, kind);
	ASSERT(f->fds[kind] >= 0);
	return f->fds[kind];
}

/* Not through a mapping of our own: a file that was cut would fault on us, so it just grows. */
static void front_write(struct front *f, enum fd_kind kind, uint32_t at, const void *bytes,
			size_t len)
{
	(void)!pwrite(front_fd(f, kind), bytes, len, at);
}

/* ---- words to the session ---- */

/* Takes what the session said; an in-flight descriptor is kept for SET_INFLIGHT_FD. */
static void front_listen(struct front *f)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	char bytes[512];
	ssize_t n;

	do {
		struct iovec iov = { bytes, sizeof(bytes) };
		struct msghdr mh = { .msg_iov = &iov,
				     .msg_iovlen = 1,
				     .msg_control = control.buf,
				     .msg_controllen = sizeof(control.buf) };
		struct cmsghdr *cm;

		n = recvmsg(f->peer, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		cm = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL;
		if (!cm)
			continue;
		if (f->fds[FD_INFLIGHT] >= 0)
			close(f->fds[FD_INFLIGHT]);
		memcpy(&f->fds[FD_INFLIGHT], CMSG_DATA(cm), sizeof(int));
	} while (n > 0);
}

/* Until the session has dealt with all that was sent; one that waits for us is let wait. */
static void front_settle(struct front *f)
{
	int turns = 0, unread = 1;

	while (f->session && turns++ < TURNS_MAX && (unread || f->session->phase != SESSION_IDLE)) {
		loops_turn(f);
		if (!f->deaf)
			front_listen(f);
		if (ioctl(f->peer, SIOCOUTQ, &unread))
			unread = 0;
	}
	for (turns = 0; f->session && turns < 3; turns++)
		loops_turn(f);
}

static void front_send(struct front *f, const void *bytes, size_t len, const int *fds,
		       uint32_t fd_count)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int) * 64)];
	} control = { 0 };
	struct iovec iov = { (void *)bytes, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd_count) {
		struct cmsghdr *cm;

		mh.msg_control = control.buf;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(cm), fds, sizeof(int) * fd_count);
	}
	/* A full socket or one that the session closed: then these words are lost. */
	(void)!sendmsg(f->peer, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
}

#include "fuzz_vhost_ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	static bool begun;
	struct front f;

	if (!begun) {
		world_make();
		front_open(&f, in, 0);
		front_close(&f);
		left_begin();
		begun = true;
	}
	front_open(&f, in, len);
	for (uint32_t i = 0; i < OPS_MAX && f.in.left_bytes && f.session; i++) {
		front_op(&f);
		front_settle(&f);
	}
	front_close(&f);
	left_check("memfd:fuzz", "memfd:vhost-inflight");
	return 0;
}
