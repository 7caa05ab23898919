/*
 * Sessions over a socketpair, with the real rings and a device model that gives chains back at
 * once or keeps them. One loop is main and data loop, so each test is one thread.
 */
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

#define MEM_BYTES  (1u << 20)
#define MEM_GPA	   0x100000ull
#define MEM_UVA	   0x7f1200000000ull
#define RING_SIZE  8
#define RING_OFF(i) (0x10000u * ((i) + 1)) /* desc, + 0x1000 avail, + 0x2000 used, + 0x3000 data */
#define FEATURES   (VIRTIO_F_VERSION_1 | VHOST_USER_F_PROTOCOL)

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
	f.vdev = (struct vdev){ .ops = &model_ops,
				.name = "test",
				.queue_count_max = 2,
				.queue_size_max = 256 };
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

static struct reply ask_fds(struct fixture *f, uint32_t request, const void *payload,
			    uint32_t size, const int *fds, uint32_t fd_count)
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

/* ---- the normal course ---- */

static void a_request_is_served_and_the_driver_is_notified(void **state)
{
	struct fixture *f = *state;

	start(f);
	assert_int_equal(f->session->state, SESSION_ACTIVE);
	PUMP_UNTIL(f, rang(f->call[0])); /* the one after every start */
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
	PUMP_UNTIL(f, rang(f->call[0]));
	assert_int_equal(f->model_features, FEATURES);
}

static void get_vring_base_stops_the_ring_and_tells_its_position(void **state)
{
	struct fixture *f = *state;
	struct msg_state ring = { 0, 0 };

	start(f);
	for (int i = 1; i <= 3; i++) {
		submit(f, 0);
		PUMP_UNTIL(f, used_idx(f, 0) == i);
	}
	assert_int_equal(ask(f, MSG_GET_VRING_BASE, &ring, 8).state.num, 3);
	assert_int_equal(f->session->rings[0].state, VRING_STOPPED);
	submit(f, 0);
	pump_ms(f, 20);
	assert_int_equal(used_idx(f, 0), 3);
	/* It starts at the kick descriptor, at the position where it stopped. */
	must_fd(f, MSG_SET_VRING_KICK, 0, f->kick[0]);
	PUMP_UNTIL(f, used_idx(f, 0) == 4);
}

static void get_vring_base_with_io_in_flight_parks_until_it_is_drained(void **state)
{
	struct fixture *f = *state;
	struct msg_state ring = { 0, 0 };
	struct reply r;

	start(f);
	f->keep = true;
	submit(f, 0);
	PUMP_UNTIL(f, f->kept_count == 1);
	tell(f, MSG_GET_VRING_BASE, &ring, 8);
	PUMP_UNTIL(f, f->session->state == SESSION_PARKED);
	tell(f, MSG_GET_FEATURES, NULL, 0);
	pump_ms(f, 20);
	assert_int_equal(f->session->state, SESSION_PARKED);
	assert_int_equal(f->session->rings[0].state, VRING_DRAINING);
	give_back(f);
	PUMP_UNTIL(f, f->session->state == SESSION_ACTIVE);
	assert_int_equal(recv(f->peer, &r.hdr, 12, 0), 12);
	assert_int_equal(recv(f->peer, &r.state, 8, 0), 8);
	assert_int_equal(r.state.num, 1);
	assert_int_equal(used_idx(f, 0), 1);
	assert_true(reply_get(f, &r));
	assert_int_equal(r.hdr.request, MSG_GET_FEATURES);
}

static void a_memory_table_under_io_waits_for_it_and_the_ring_goes_on(void **state)
{
	struct fixture *f = *state;
	struct msg_mem_table t = mem_table();
	struct reply r;

	start(f);
	f->keep = true;
	submit(f, 0);
	PUMP_UNTIL(f, f->kept_count == 1);
	tell_fds(f, MSG_SET_MEM_TABLE, MSG_NEED_REPLY, &t, 40, &f->memfd, 1);
	PUMP_UNTIL(f, f->session->state == SESSION_PARKED);
	give_back(f);
	f->keep = false;
	assert_true(reply_get(f, &r));
	assert_int_equal(r.u64, 0);
	assert_int_equal(f->session->rings[0].state, VRING_RUNNING);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 2);
}

static void regions_are_added_to_running_rings_and_taken_away(void **state)
{
	struct fixture *f = *state;
	struct msg_mem_reg reg = { .region = { 1ull << 32, 0x10000, 1ull << 40, 0 } };

	start(f);
	assert_int_equal(ask(f, MSG_GET_MAX_MEM_SLOTS, NULL, 0).u64, 509);
	f->keep = true;
	submit(f, 0);
	PUMP_UNTIL(f, f->kept_count == 1);
	for (int i = 0; i < 508; i++) {
		assert_int_equal(ask_fds(f, MSG_ADD_MEM_REG, &reg, 40, &f->memfd, 1).u64, 0);
		reg.region.gpa += 0x10000;
		reg.region.uva += 0x10000;
	}
	assert_int_not_equal(ask_fds(f, MSG_ADD_MEM_REG, &reg, 40, &f->memfd, 1).u64, 0);
	give_back(f);
	f->keep = false;
	reg.region.gpa -= 0x10000;
	reg.region.uva -= 0x10000;
	/* A descriptor nobody asked for comes along, and is closed. */
	assert_int_equal(ask_fds(f, MSG_REM_MEM_REG, &reg, 40, &f->memfd, 1).u64, 0);
	assert_int_not_equal(ask(f, MSG_REM_MEM_REG, &reg, 40).u64, 0);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 2);
}

static void memory_taken_from_under_a_ring_stops_that_ring_only(void **state)
{
	struct fixture *f = *state;
	struct msg_mem_table t = mem_table();
	struct msg_addr addr = ring_addr(1);

	start(f);
	start_ring(f, 1);
	t.regions[0].size_bytes = RING_OFF(1); /* only ring 0 is inside */
	assert_int_not_equal(ask_fds(f, MSG_SET_MEM_TABLE, &t, 40, &f->memfd, 1).u64, 0);
	assert_int_equal(f->session->rings[0].state, VRING_RUNNING);
	assert_int_equal(f->session->rings[1].state, VRING_STOPPED);
	PUMP_UNTIL(f, rang(f->err[1]));
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
	set_memory(f);
	must(f, MSG_SET_VRING_ADDR, &addr, sizeof(addr));
	assert_int_equal(f->session->rings[1].state, VRING_RUNNING);
}

static void disabling_drains_and_enabling_starts_again(void **state)
{
	struct fixture *f = *state;

	start(f);
	must_state(f, MSG_SET_VRING_ENABLE, 0, 0);
	submit(f, 0);
	pump_ms(f, 10);
	assert_int_equal(used_idx(f, 0), 0);
	must_state(f, MSG_SET_VRING_ENABLE, 0, 0xffff0000); /* a boolean */
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
}

static void a_packed_ring_is_accepted_and_stopped_again(void **state)
{
	struct fixture *f = *state;
	struct msg_addr addr = ring_addr(0);
	struct msg_state ring = { 0, 0 };

	negotiate(f, FEATURES | VIRTIO_F_RING_PACKED);
	set_memory(f);
	must_state(f, MSG_SET_VRING_NUM, 0, 7); /* packed: any size */
	must_state(f, MSG_SET_VRING_BASE, 0, 0x80008000);
	must(f, MSG_SET_VRING_ADDR, &addr, sizeof(addr));
	must_fd(f, MSG_SET_VRING_KICK, 0, f->kick[0]);
	must_state(f, MSG_SET_VRING_ENABLE, 0, 1);
	assert_int_equal(f->session->rings[0].state, VRING_RUNNING);
	assert_int_equal(ask(f, MSG_GET_VRING_BASE, &ring, 8).state.num, 0x80008000);
}

/* ---- quirks of front-ends ---- */

static void without_the_protocol_feature_rings_start_enabled(void **state)
{
	struct fixture *f = *state;
	uint64_t features = 0, idx = 0;
	struct msg_mem_table t = mem_table();
	struct msg_addr addr = ring_addr(0);
	struct msg_state num = { 0, RING_SIZE };

	tell(f, MSG_SET_FEATURES, &features, 8); /* a legacy driver: no VERSION_1 either */
	tell_fds(f, MSG_SET_MEM_TABLE, 0, &t, 40, &f->memfd, 1);
	tell(f, MSG_SET_VRING_NUM, &num, 8);
	tell(f, MSG_SET_VRING_ADDR, &addr, sizeof(addr));
	tell_fds(f, MSG_SET_VRING_KICK, 0, &idx, 8, f->kick, 1);
	tell_fds(f, MSG_SET_VRING_CALL, 0, &idx, 8, f->call, 1);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
}

static void kick_may_come_before_call_and_the_request_is_notified_then(void **state)
{
	struct fixture *f = *state;

	negotiate(f, FEATURES);
	set_memory(f);
	set_ring(f, 0);
	must_state(f, MSG_SET_VRING_ENABLE, 0, 1);
	submit(f, 0);
	must_fd(f, MSG_SET_VRING_KICK, 0, f->kick[0]);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
	assert_false(rang(f->call[0]));
	must_fd(f, MSG_SET_VRING_CALL, 0, f->call[0]);
	PUMP_UNTIL(f, rang(f->call[0]));
}

static void bit_8_of_kick_means_polling_without_a_descriptor(void **state)
{
	struct fixture *f = *state;

	negotiate(f, FEATURES);
	set_memory(f);
	set_ring(f, 0);
	must_u64(f, MSG_SET_VRING_KICK, MSG_VRING_NOFD);
	must_state(f, MSG_SET_VRING_ENABLE, 0, 1);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
	/* and a missing descriptor does not become polling by itself */
	assert_int_not_equal(ask(f, MSG_SET_VRING_KICK, &(uint64_t){ 1 }, 8).u64, 0);
}

static void the_call_descriptor_may_change_while_the_ring_runs(void **state)
{
	struct fixture *f = *state;

	start(f);
	pump_ms(f, 5);
	for (int i = 0; i < 50; i++)
		must_fd(f, MSG_SET_VRING_CALL, 0, f->call[i % 2]);
	while (rang(f->call[0]) || rang(f->call[1]))
		;
	submit(f, 0);
	PUMP_UNTIL(f, rang(f->call[1]));
	assert_int_equal(used_idx(f, 0), 1);
}

static void a_pipe_is_good_as_call_but_not_as_kick(void **state)
{
	struct fixture *f = *state;
	uint64_t idx = 0, value;
	int p[2];

	start(f);
	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	must_fd(f, MSG_SET_VRING_CALL, 0, p[1]);
	assert_int_not_equal(ask_fds(f, MSG_SET_VRING_KICK, &idx, 8, p, 1).u64, 0);
	assert_int_not_equal(ask_fds(f, MSG_SET_VRING_CALL, &idx, 8, &f->memfd, 1).u64, 0);
	submit(f, 0);
	PUMP_UNTIL(f, read(p[0], &value, 8) == 8);
	close(p[0]);
	close(p[1]);
}

static void reset_owner_of_older_front_ends_stops_and_resets(void **state)
{
	struct fixture *f = *state;

	start(f);
	must(f, MSG_RESET_OWNER, NULL, 0);
	assert_int_equal(f->resets, 1);
	assert_int_equal(f->session->rings[0].state, VRING_STOPPED);
	start_ring(f, 0);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
}

static void reset_device_and_status_zero_reset(void **state)
{
	struct fixture *f = *state;

	start(f);
	must_u64(f, MSG_SET_STATUS, 15);
	assert_int_equal(ask(f, MSG_GET_STATUS, NULL, 0).u64, 15);
	assert_int_equal(f->session->rings[0].state, VRING_RUNNING);
	must_u64(f, MSG_SET_STATUS, 0);
	assert_int_equal(f->session->rings[0].state, VRING_STOPPED);
	start_ring(f, 0);
	must(f, MSG_RESET_DEVICE, NULL, 0);
	assert_int_equal(f->session->rings[0].state, VRING_STOPPED);
	assert_int_equal(f->resets, 2);
}

static void config_is_answered_for_any_range_up_to_256_bytes(void **state)
{
	struct fixture *f = *state;
	struct msg_config c = { 0, 256, 0, { 0 } };
	struct reply r;

	negotiate(f, FEATURES);
	r = ask(f, MSG_GET_CONFIG, &c, 12 + 256);
	assert_int_equal(r.hdr.size, 268);
	assert_int_equal(r.config.bytes[59], 60);
	assert_int_equal(r.config.bytes[60], 0);
	c.offset = 20;
	c.size = 2;
	r = ask(f, MSG_GET_CONFIG, &c, 14);
	assert_int_equal(r.hdr.size, 14);
	assert_int_equal(r.config.bytes[1], 22);
	c.offset = 0xffffffff; /* wraps with the size */
	assert_int_equal(ask(f, MSG_GET_CONFIG, &c, 14).hdr.size, 0);
	c.offset = 255;
	assert_int_equal(ask(f, MSG_GET_CONFIG, &c, 14).hdr.size, 0);
	c.offset = 0;
	assert_int_equal(ask(f, MSG_GET_CONFIG, &c, 13).hdr.size, 0);
	c.offset = 32;
	c.size = 1;
	assert_int_equal(ask(f, MSG_SET_CONFIG, &c, 13).u64, 0);
	c.offset = 0;
	assert_int_not_equal(ask(f, MSG_SET_CONFIG, &c, 13).u64, 0);
}

static void a_config_change_reaches_the_back_end_channel(void **state)
{
	struct fixture *f = *state;
	struct msg_hdr hdr;
	int sv[2];

	negotiate(f, FEATURES);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(ask_fds(f, MSG_SET_BACKEND_REQ_FD, NULL, 0, &sv[1], 1).u64, 0);
	close(sv[1]);
	f->vdev.on_config_change(&f->vdev, f->vdev.front);
	assert_int_equal(recv(sv[0], &hdr, sizeof(hdr), MSG_DONTWAIT), sizeof(hdr));
	assert_int_equal(hdr.request, MSG_BACKEND_CONFIG_CHANGE);
	/* what comes back is read, and its end is no harm */
	assert_int_equal(write(sv[0], "0123456789012345678", 20), 20);
	close(sv[0]);
	pump_ms(f, 10);
	f->vdev.on_config_change(&f->vdev, f->vdev.front);
	assert_int_equal(ask(f, MSG_GET_QUEUE_NUM, NULL, 0).u64, 2);
}

static void the_in_flight_area_is_made_sealed_and_taken_back(void **state)
{
	struct fixture *f = *state;
	struct msg_inflight in = { .queue_count = 2, .queue_size = RING_SIZE };
	struct reply r;

	negotiate(f, FEATURES);
	for (int i = 0; i < 3; i++) { /* asked for twice, and before any ring */
		r = ask(f, MSG_GET_INFLIGHT_FD, &in, 24);
		assert_int_equal(r.hdr.size, 24);
		assert_true(r.fd >= 0);
		assert_true(fcntl(r.fd, F_GET_SEALS) & F_SEAL_SHRINK);
		if (i < 2)
			close(r.fd);
	}
	in = r.inflight;
	for (int i = 0; i < 2; i++)
		assert_int_equal(ask_fds(f, MSG_SET_INFLIGHT_FD, &in, 20, &r.fd, 1).u64, 0);
	set_memory(f);
	start_ring(f, 0);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
	in.mmap_size += 1;
	assert_int_not_equal(ask_fds(f, MSG_SET_INFLIGHT_FD, &in, 20, &r.fd, 1).u64, 0);
	in.mmap_size = ~0ull;
	assert_int_not_equal(ask_fds(f, MSG_SET_INFLIGHT_FD, &in, 20, &r.fd, 1).u64, 0);
	close(r.fd);
}

static void the_dirty_log_is_set_and_answered(void **state)
{
	struct fixture *f = *state;
	struct msg_log log = { 4096, 0 };
	struct reply r;

	start(f);
	tell_fds(f, MSG_SET_LOG_BASE, 0, &log, 16, &f->memfd, 1);
	assert_true(reply_get(f, &r));
	assert_int_equal(r.hdr.size, 8);
	must_u64(f, MSG_SET_FEATURES, FEATURES | VHOST_F_LOG_ALL);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
	log.offset_bytes = ~0ull - 100; /* wraps */
	tell_fds(f, MSG_SET_LOG_BASE, 0, &log, 16, &f->memfd, 1);
	assert_true(ended(f));
}

/* ---- lies ---- */

static void features_that_were_not_offered_end_the_session(void **state)
{
	struct fixture *f = *state;
	uint64_t features = FEATURES | VIRTIO_F_ACCESS_PLATFORM;

	tell(f, MSG_SET_FEATURES, &features, 8);
	assert_true(ended(f));
}

static void protocol_features_that_were_not_offered_end_the_session(void **state)
{
	struct fixture *f = *state;
	uint64_t features = 1ull << 21;

	tell(f, MSG_SET_PROTOCOL_FEATURES, &features, 8);
	assert_true(ended(f));
}

static void an_unknown_message_is_refused_or_ends_the_session(void **state)
{
	struct fixture *f = *state;

	negotiate(f, FEATURES);
	assert_int_not_equal(ask(f, 19, &(uint64_t){ 0 }, 8).u64, 0);
	assert_int_not_equal(ask(f, 4711, NULL, 0).u64, 0);
	must(f, MSG_SET_OWNER, NULL, 0);
	tell(f, 4711, NULL, 0);
	assert_true(ended(f));
}

static void a_message_without_its_feature_is_refused(void **state)
{
	struct fixture *f = *state;

	tell(f, MSG_GET_MAX_MEM_SLOTS, NULL, 0);
	assert_true(ended(f));
}

static void a_queue_index_is_checked_in_its_full_width(void **state)
{
	struct fixture *f = *state;
	struct msg_state s = { 0x10000, RING_SIZE };

	negotiate(f, FEATURES);
	assert_int_not_equal(ask(f, MSG_SET_VRING_NUM, &s, 8).u64, 0);
	s.idx = 2;
	assert_int_not_equal(ask(f, MSG_SET_VRING_NUM, &s, 8).u64, 0);
	s = (struct msg_state){ 0, 512 };
	assert_int_not_equal(ask(f, MSG_SET_VRING_NUM, &s, 8).u64, 0);
	s = (struct msg_state){ 0, 6 };
	assert_int_not_equal(ask(f, MSG_SET_VRING_NUM, &s, 8).u64, 0);
	s = (struct msg_state){ 0, 0x10000 };
	assert_int_not_equal(ask(f, MSG_SET_VRING_BASE, &s, 8).u64, 0);
	s = (struct msg_state){ 0xffffffff, 0 };
	tell(f, MSG_GET_VRING_BASE, &s, 8); /* an answer that cannot be given */
	assert_true(ended(f));
}

static void a_memory_table_that_contradicts_itself_is_refused_and_the_old_one_stays(void **state)
{
	struct fixture *f = *state;
	struct msg_mem_table t = mem_table();
	int fds[2] = { f->memfd, f->memfd };

	start(f);
	assert_int_not_equal(ask_fds(f, MSG_SET_MEM_TABLE, &t, 40, fds, 2).u64, 0);
	assert_int_not_equal(ask_fds(f, MSG_SET_MEM_TABLE, &t, 72, fds, 1).u64, 0);
	t.count = 0;
	assert_int_not_equal(ask_fds(f, MSG_SET_MEM_TABLE, &t, 8, fds, 0).u64, 0);
	t.count = 0x10000001;
	assert_int_not_equal(ask_fds(f, MSG_SET_MEM_TABLE, &t, 40, fds, 1).u64, 0);
	t.count = 1;
	t.regions[0].size_bytes = ~0ull;
	assert_int_not_equal(ask_fds(f, MSG_SET_MEM_TABLE, &t, 40, fds, 1).u64, 0);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
}

static void in_flight_sizes_beyond_the_device_are_refused(void **state)
{
	struct fixture *f = *state;
	struct msg_inflight in = { .queue_count = 0xffff, .queue_size = 0xffff };

	negotiate(f, FEATURES);
	tell(f, MSG_GET_INFLIGHT_FD, &in, 20);
	assert_true(ended(f));
}

static void a_broken_ring_rings_its_err_bell_and_the_other_goes_on(void **state)
{
	struct fixture *f = *state;
	struct msg_state ring = { 0, 0 };

	start(f);
	start_ring(f, 1);
	submit_head(f, 0, RING_SIZE + 7);
	PUMP_UNTIL(f, rang(f->err[0]));
	assert_int_equal(f->session->rings[0].state, VRING_BROKEN);
	assert_int_equal(ask(f, MSG_GET_STATUS, NULL, 0).u64 & 0x40, 0x40);
	submit(f, 1);
	PUMP_UNTIL(f, used_idx(f, 1) == 1);
	ask(f, MSG_GET_VRING_BASE, &ring, 8);
	assert_int_equal(f->session->rings[0].state, VRING_STOPPED);
}

static void a_call_descriptor_that_blocks_holds_up_nobody(void **state)
{
	struct fixture *f = *state;
	int blocking = eventfd(0, EFD_CLOEXEC);

	start(f);
	start_ring(f, 1);
	assert_int_equal(eventfd_write(blocking, 0xfffffffffffffffe), 0);
	must_fd(f, MSG_SET_VRING_CALL, 0, blocking);
	for (int i = 1; i <= 20; i++) {
		submit(f, 0);
		PUMP_UNTIL(f, used_idx(f, 0) == i);
		submit(f, 1);
		PUMP_UNTIL(f, used_idx(f, 1) == i);
	}
	/* Changing it does not wait for it either. */
	must_fd(f, MSG_SET_VRING_CALL, 0, blocking);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 21);
	close(blocking);
}

static void half_a_message_and_silence_end_the_session_in_time(void **state)
{
	struct fixture *f = *state;

	f->session->params.stall_ns = 30000000;
	assert_int_equal(write(f->peer, "abcdef", 6), 6);
	pump_ms(f, 10);
	assert_non_null(f->session);
	PUMP_UNTIL(f, !f->session);
}

static void questions_without_listening_end_the_session_in_time(void **state)
{
	struct fixture *f = *state;
	struct msg_hdr hdr = { MSG_GET_FEATURES, MSG_VERSION, 0 };

	f->session->params.stall_ns = 30000000;
	PUMP_UNTIL(f, !f->session ||
			      (send(f->peer, &hdr, sizeof(hdr), MSG_DONTWAIT | MSG_NOSIGNAL), 0));
}

static void leaving_after_each_message_of_a_start_releases_everything(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 10; i++) {
		int step = 0;

		f->frees = 0;
		f->keep = false;
#define STEP(x)                                                                                    \
	do {                                                                                       \
		if (step++ < i)                                                                    \
			x;                                                                         \
	} while (0)
		STEP(negotiate(f, FEATURES));
		STEP(set_memory(f));
		STEP(set_ring(f, 0));
		STEP(must_fd(f, MSG_SET_VRING_CALL, 0, f->call[0]));
		STEP(must_fd(f, MSG_SET_VRING_ERR, 0, f->err[0]));
		STEP(must_state(f, MSG_SET_VRING_ENABLE, 0, 1));
		STEP(must_fd(f, MSG_SET_VRING_KICK, 0, f->kick[0]));
		STEP(f->keep = true);
		STEP(submit(f, 0));
#undef STEP
		pump_ms(f, 5);
		close(f->peer);
		pump_ms(f, 5);
		assert_int_equal(f->session != NULL, f->kept_count != 0);
		give_back(f);
		PUMP_UNTIL(f, !f->session);
		assert_int_equal(f->frees, 1);
		memset(f->mem, 0, MEM_BYTES);
		connect_session(f);
	}
	f->frees = 0;
}

static void a_front_end_that_truncates_its_memory_loses_its_session(void **state)
{
	struct fixture *f = *state;

	start(f);
	session_check_lost(f->session);
	assert_int_equal(f->session->state, SESSION_ACTIVE);
	/* as the fault handler leaves it */
	__atomic_store_n(&f->session->inflight.lost, true, __ATOMIC_RELEASE);
	session_check_lost(f->session);
	PUMP_UNTIL(f, !f->session);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(a_request_is_served_and_the_driver_is_notified),
		T(get_vring_base_stops_the_ring_and_tells_its_position),
		T(get_vring_base_with_io_in_flight_parks_until_it_is_drained),
		T(a_memory_table_under_io_waits_for_it_and_the_ring_goes_on),
		T(regions_are_added_to_running_rings_and_taken_away),
		T(memory_taken_from_under_a_ring_stops_that_ring_only),
		T(disabling_drains_and_enabling_starts_again),
		T(a_packed_ring_is_accepted_and_stopped_again),
		T(without_the_protocol_feature_rings_start_enabled),
		T(kick_may_come_before_call_and_the_request_is_notified_then),
		T(bit_8_of_kick_means_polling_without_a_descriptor),
		T(the_call_descriptor_may_change_while_the_ring_runs),
		T(a_pipe_is_good_as_call_but_not_as_kick),
		T(reset_owner_of_older_front_ends_stops_and_resets),
		T(reset_device_and_status_zero_reset),
		T(config_is_answered_for_any_range_up_to_256_bytes),
		T(a_config_change_reaches_the_back_end_channel),
		T(the_in_flight_area_is_made_sealed_and_taken_back),
		T(the_dirty_log_is_set_and_answered),
		T(features_that_were_not_offered_end_the_session),
		T(protocol_features_that_were_not_offered_end_the_session),
		T(an_unknown_message_is_refused_or_ends_the_session),
		T(a_message_without_its_feature_is_refused),
		T(a_queue_index_is_checked_in_its_full_width),
		T(a_memory_table_that_contradicts_itself_is_refused_and_the_old_one_stays),
		T(in_flight_sizes_beyond_the_device_are_refused),
		T(a_broken_ring_rings_its_err_bell_and_the_other_goes_on),
		T(a_call_descriptor_that_blocks_holds_up_nobody),
		T(half_a_message_and_silence_end_the_session_in_time),
		T(questions_without_listening_end_the_session_in_time),
		T(leaving_after_each_message_of_a_start_releases_everything),
		T(a_front_end_that_truncates_its_memory_loses_its_session),
#undef T
	};

	/* As vhost_endpoint_start does: an io_uring write to a pipe without reader raises it. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
