/*
 * For the session tests: a session over a socketpair, with the real rings and a device model that
 * gives chains back at once or keeps them, and the front-end's side of the conversation. One loop
 * is main and data loop, so each test is one thread.
 */
#ifndef VHOST_SESSION_RIG_H
#define VHOST_SESSION_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhost/session.h"

/* Each test file uses its part of what follows. */
#pragma GCC diagnostic ignored "-Wunused-function"

#define MEM_BYTES (1u << 20)
#define MEM_GPA	  0x100000ull
#define MEM_UVA	  0x7f1200000000ull
#define RING_SIZE 8
#define RING_OFF(i)                                                                                \
	(0x10000u * ((i) + 1)) /* desc, + 0x1000 avail, + 0x2000 used, + 0x3000 data               \
				*/
#define FEATURES (VIRTIO_F_VERSION_1 | VHOST_USER_F_PROTOCOL)

struct fixture {
	struct loop *loop;
	struct session *session; /* NULL when ended */
	struct session_params params;
	struct vdev vdev;
	int peer, memfd, fds_before;
	uint8_t *mem;
	int kick[2], call[2], err[2];
	bool keep; /* the model keeps chains */
	struct vq_chain *kept[RING_SIZE];
	struct virtq *kept_vq;
	uint32_t kept_count, chains, resets, frees, queue_starts, queue_stops;
	uint64_t model_features;
};

static struct fixture *fix; /* for the model's callbacks */

struct reply {
	struct msg_hdr hdr;
	union {
		uint64_t u64;
		struct msg_state state;
		struct msg_config config;
		struct msg_inflight inflight;
		uint8_t bytes[512];
	};
	int fd;
};

/* ---- the device model ---- */

static uint64_t model_features(const struct vdev *dev)
{
	return 1ull << 9;
}

static void model_features_set(struct vdev *dev, uint64_t negotiated)
{
	fix->model_features = negotiated;
}

static void model_config_read(const struct vdev *dev, uint8_t config[VDEV_CONFIG_MAX])
{
	for (int i = 0; i < 60; i++)
		config[i] = (uint8_t)(i + 1);
}

static int model_config_write(struct vdev *dev, uint32_t off, const void *src, uint32_t len)
{
	return off == 32 && len == 1 ? 0 : -EINVAL;
}

static void model_reset(struct vdev *dev)
{
	fix->resets++;
}

static void model_free(struct vdev *dev)
{
	fix->frees++;
}

static int model_queue_start(struct vdev *dev, uint32_t idx, struct virtq *vq, struct loop *loop,
			     void **ret_queue, struct err *reterr)
{
	fix->queue_starts++;
	*ret_queue = vq;
	return 0;
}

static void model_complete(struct loop_work *work);
static struct vq_chain *model_now[64];
static struct virtq *model_now_vq[64];
static uint32_t model_now_count;
static struct loop_work model_work = { .fn = model_complete };

static void model_complete(struct loop_work *work)
{
	for (uint32_t i = 0; i < model_now_count; i++)
		virtq_push(model_now_vq[i], model_now[i], 0);
	model_now_count = 0;
}

static void model_on_chain(void *queue, struct vq_chain *chain)
{
	fix->chains++;
	if (fix->keep) {
		fix->kept[fix->kept_count++] = chain;
		fix->kept_vq = queue;
		return;
	}
	if (!model_now_count)
		loop_defer(fix->loop, &model_work);
	model_now_vq[model_now_count] = queue;
	model_now[model_now_count++] = chain;
}

static void model_queue_stop(void *queue)
{
	fix->queue_stops++;
}

static const struct vdev_ops model_ops = {
	.type = "test",
	.slot_bytes = sizeof(struct vq_chain),
	.features = model_features,
	.features_set = model_features_set,
	.config_read = model_config_read,
	.config_write = model_config_write,
	.reset = model_reset,
	.free = model_free,
	.queue_start = model_queue_start,
	.on_chain = model_on_chain,
	.queue_stop = model_queue_stop,
};

/* ---- the fixture ---- */

static int fds_open(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void on_ended(struct session *s, void *arg)
{
	struct fixture *f = arg;

	f->session = NULL;
}

static void connect_session(struct fixture *f)
{
	struct err err;
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	f->peer = sv[1];
	assert_int_equal(session_new(&f->params, sv[0], &f->vdev, &f->session, &err), 0);
}

static int setup(void **state)
{
	static struct fixture f;
	struct err err;

	f = (struct fixture){ 0 };
	fix = &f;
	model_now_count = 0;
	if (loop_new(&(struct loop_params){ .name = "test", .cpu = -1 }, &f.loop, &err))
		return -1;
	f.fds_before = fds_open();
	f.memfd = memfd_create("guest", MFD_CLOEXEC);
	if (ftruncate(f.memfd, MEM_BYTES))
		return -1;
	f.mem = mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, f.memfd, 0);
	for (int i = 0; i < 2; i++) {
		f.kick[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		f.call[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		f.err[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	}
	f.vdev = (struct vdev){
		.ops = &model_ops, .name = "test", .queue_count_max = 2, .queue_size_max = 256
	};
	f.params = (struct session_params){ .name = "test",
					    .main_loop = f.loop,
					    .loops = &f.loop,
					    .loop_count = 1,
					    .packed = true,
					    .ended = on_ended,
					    .arg = &f };
	connect_session(&f);
	*state = &f;
	return 0;
}

#define PUMP_UNTIL(f, cond)                                                                        \
	do {                                                                                       \
		uint64_t end_ = loop_clock_ns() + 5000000000ull;                                   \
		while (!(cond)) {                                                                  \
			loop_run_once((f)->loop, false);                                           \
			assert_true(loop_clock_ns() < end_);                                       \
		}                                                                                  \
	} while (0)

static void pump_ms(struct fixture *f, uint64_t ms)
{
	uint64_t end = loop_clock_ns() + ms * 1000000;

	while (loop_clock_ns() < end)
		loop_run_once(f->loop, false);
}

static void give_back(struct fixture *f)
{
	while (f->kept_count)
		virtq_push(f->kept_vq, f->kept[--f->kept_count], 0);
}

/* Ends the session, and checks that nothing of it is left. */
static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->peer >= 0)
		close(f->peer);
	give_back(f);
	PUMP_UNTIL(f, !f->session);
	assert_int_equal(f->frees, 1);
	assert_int_equal(f->queue_starts, f->queue_stops);
	for (int i = 0; i < 2; i++) {
		close(f->kick[i]);
		close(f->call[i]);
		close(f->err[i]);
	}
	munmap(f->mem, MEM_BYTES);
	close(f->memfd);
	assert_int_equal(fds_open(), f->fds_before);
	loop_free(f->loop);
	return 0;
}

/* ---- the front-end ---- */

static void tell_fds(struct fixture *f, uint32_t request, uint32_t flags, const void *payload,
		     uint32_t size, const int *fds, uint32_t fd_count)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int) * 8)];
	} control = { 0 };
	struct msg_hdr hdr = { request, MSG_VERSION | flags, size };
	struct iovec iov[2] = { { &hdr, sizeof(hdr) }, { (void *)payload, size } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2 };

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
	assert_int_equal(sendmsg(f->peer, &mh, MSG_NOSIGNAL), sizeof(hdr) + size);
}

static void tell(struct fixture *f, uint32_t request, const void *payload, uint32_t size)
{
	tell_fds(f, request, 0, payload, size, NULL, 0);
}

/* A reply if one comes; false: the session ended first. */
static bool reply_get(struct fixture *f, struct reply *r)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	/* one after the other on the wire, a gap between them in the struct */
	struct iovec iov[2] = { { &r->hdr, sizeof(r->hdr) }, { r->bytes, sizeof(r->bytes) } };
	struct msghdr mh = { .msg_iov = iov,
			     .msg_iovlen = 2,
			     .msg_control = control.buf,
			     .msg_controllen = sizeof(control.buf) };
	struct cmsghdr *cm;
	ssize_t n = -1;

	memset(r, 0, sizeof(*r));
	PUMP_UNTIL(f, (n = recvmsg(f->peer, &mh, MSG_DONTWAIT)) >= 0 || !f->session);
	if (n <= 0)
		return false;
	assert_int_equal(n, sizeof(r->hdr) + r->hdr.size);
	assert_int_equal(r->hdr.flags, MSG_VERSION | MSG_REPLY);
	cm = CMSG_FIRSTHDR(&mh);
	r->fd = -1;
	if (cm)
		memcpy(&r->fd, CMSG_DATA(cm), sizeof(int));
	return true;
}

static struct reply ask_fds(struct fixture *f, uint32_t request, const void *payload, uint32_t size,
			    const int *fds, uint32_t fd_count)
{
	struct reply r;

	tell_fds(f, request, MSG_NEED_REPLY, payload, size, fds, fd_count);
	assert_true(reply_get(f, &r));
	assert_int_equal(r.hdr.request, request);
	return r;
}

static struct reply ask(struct fixture *f, uint32_t request, const void *payload, uint32_t size)
{
	return ask_fds(f, request, payload, size, NULL, 0);
}

static void must(struct fixture *f, uint32_t request, const void *payload, uint32_t size)
{
	assert_int_equal(ask(f, request, payload, size).u64, 0);
}

static void must_u64(struct fixture *f, uint32_t request, uint64_t value)
{
	must(f, request, &value, sizeof(value));
}

static void must_state(struct fixture *f, uint32_t request, uint32_t idx, uint32_t num)
{
	must(f, request, &(struct msg_state){ idx, num }, sizeof(struct msg_state));
}

static void must_fd(struct fixture *f, uint32_t request, uint64_t idx, int fd)
{
	assert_int_equal(ask_fds(f, request, &idx, sizeof(idx), &fd, 1).u64, 0);
}

static bool ended(struct fixture *f)
{
	struct reply r;

	return !reply_get(f, &r);
}

static void negotiate(struct fixture *f, uint64_t features)
{
	uint64_t pf = session_proto_features_offered();

	tell(f, MSG_SET_PROTOCOL_FEATURES, &pf, sizeof(pf));
	must(f, MSG_SET_OWNER, NULL, 0);
	must_u64(f, MSG_SET_FEATURES, features);
}

static struct msg_mem_table mem_table(void)
{
	return (struct msg_mem_table){ .count = 1,
				       .regions[0] = { MEM_GPA, MEM_BYTES, MEM_UVA, 0 } };
}

static void set_memory(struct fixture *f)
{
	struct msg_mem_table t = mem_table();

	assert_int_equal(ask_fds(f, MSG_SET_MEM_TABLE, &t, 40, &f->memfd, 1).u64, 0);
}

static struct msg_addr ring_addr(uint32_t i)
{
	uint64_t at = MEM_UVA + RING_OFF(i);

	return (struct msg_addr){ .idx = i, .desc = at, .avail = at + 0x1000, .used = at + 0x2000 };
}

static void set_ring(struct fixture *f, uint32_t i)
{
	struct msg_addr addr = ring_addr(i);

	must_state(f, MSG_SET_VRING_NUM, i, RING_SIZE);
	must_state(f, MSG_SET_VRING_BASE, i, 0);
	must(f, MSG_SET_VRING_ADDR, &addr, sizeof(addr));
}

static void start_ring(struct fixture *f, uint32_t i)
{
	set_ring(f, i);
	must_fd(f, MSG_SET_VRING_CALL, i, f->call[i]);
	must_fd(f, MSG_SET_VRING_ERR, i, f->err[i]);
	must_fd(f, MSG_SET_VRING_KICK, i, f->kick[i]);
	must_state(f, MSG_SET_VRING_ENABLE, i, 1);
}

static void start(struct fixture *f)
{
	negotiate(f, FEATURES);
	set_memory(f);
	start_ring(f, 0);
}

/* One descriptor of 64 readable bytes, at the given head. */
static void submit_head(struct fixture *f, uint32_t ring, uint16_t head)
{
	uint8_t *base = f->mem + RING_OFF(ring);
	uint16_t *avail = (uint16_t *)(base + 0x1000);
	uint64_t addr = MEM_GPA + RING_OFF(ring) + 0x3000;
	uint32_t len = 64;

	memset(base, 0, 16 * RING_SIZE);
	for (int i = 0; i < RING_SIZE; i++) {
		memcpy(base + 16 * i, &addr, 8);
		memcpy(base + 16 * i + 8, &len, 4);
	}
	avail[2 + avail[1] % RING_SIZE] = head;
	__atomic_store_n(&avail[1], (uint16_t)(avail[1] + 1), __ATOMIC_SEQ_CST);
	assert_int_equal(eventfd_write(f->kick[ring], 1), 0);
}

static void submit(struct fixture *f, uint32_t ring)
{
	uint16_t *avail = (uint16_t *)(f->mem + RING_OFF(ring) + 0x1000);

	submit_head(f, ring, avail[1] % RING_SIZE);
}

static uint16_t used_idx(const struct fixture *f, uint32_t ring)
{
	return __atomic_load_n((uint16_t *)(f->mem + RING_OFF(ring) + 0x2002), __ATOMIC_SEQ_CST);
}

static bool rang(int fd)
{
	eventfd_t v;

	return eventfd_read(fd, &v) == 0;
}

#endif
