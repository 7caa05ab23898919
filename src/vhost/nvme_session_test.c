/*
 * A vhost-user-nvme session over a socketpair, on a fake controller (port 4: nvme/ctrl.h) that
 * answers at once, or when the test says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "guest/gmem.h"
#include "vhost/nvme_session.h"

#define MEM_BYTES (1u << 20)
#define QUEUES	  4
#define CAP	  0x00000020010100ffull

/* ---- the controller ---- */

struct nvme_ctrl {
	void *port;
	bool started, quiet, later, msix, drained;
	struct loop *moved_to;
	uint32_t starts, stops, maps, resumes, frees, admins, deletes;
	uint32_t *doorbells;
	struct gmem *map;
	int fd[QUEUES + 1];
	uint32_t reg_off, reg_value;
	struct nvme_sqe sqe[8];
	uint32_t sqe_count;
	uint16_t status;
	void (*port_done)(void *port);
	void (*admin_done)(void *port, const struct nvme_cqe *cqe);
};

static struct nvme_ctrl ctrl;

int nvme_ctrl_new(struct nvme_subsys *subsys, const struct nvme_ctrl_params *params,
		  struct nvme_ctrl **ret_ctrl, struct err *reterr)
{
	bool later = ctrl.later;

	if (ctrl.status)
		return err_set(reterr, -ENOSPC, "too many controllers");
	assert_int_equal(params->profile, NVME_PROFILE_VHOST);
	assert_true(params->doorbells_polled);
	assert_int_equal(params->vectors, QUEUES + 1);
	ctrl = (struct nvme_ctrl){ .port = params->port, .later = later };
	memset(ctrl.fd, 0xff, sizeof(ctrl.fd));
	*ret_ctrl = &ctrl;
	return 0;
}

/* What takes time: now, or when the test calls done_now. */
static void wait_for(void (*done)(void *port))
{
	assert_null(ctrl.port_done);
	assert_null(ctrl.admin_done);
	if (ctrl.later)
		ctrl.port_done = done;
	else
		done(ctrl.port);
}

static void done_now(void)
{
	void (*done)(void *port) = ctrl.port_done;

	ctrl.port_done = NULL;
	assert_non_null(done);
	done(ctrl.port);
}

void nvme_ctrl_free(struct nvme_ctrl *c, void (*freed)(void *port))
{
	for (int i = 0; i <= QUEUES; i++)
		nvme_ctrl_vector_fd_set(c, (uint32_t)i, -1);
	gmem_unref(c->map);
	c->map = NULL;
	c->frees++;
	wait_for(freed);
}

void nvme_ctrl_quiesce(struct nvme_ctrl *c, void (*quiet)(void *port))
{
	c->quiet = true;
	wait_for(quiet);
}

void nvme_ctrl_resume(struct nvme_ctrl *c)
{
	assert_true(c->quiet);
	c->quiet = false;
	c->resumes++;
}

void nvme_ctrl_maps_set(struct nvme_ctrl *c, struct gmem *readable, struct gmem *writable)
{
	assert_true(c->quiet);
	assert_ptr_equal(readable, writable);
	gmem_unref(c->map);
	c->map = gmem_ref(readable);
	c->maps++;
}

void nvme_ctrl_doorbells_set(struct nvme_ctrl *c, uint32_t *doorbells)
{
	assert_true(c->quiet);
	c->doorbells = doorbells;
}

void nvme_ctrl_reg_read(struct nvme_ctrl *c, uint32_t off, void *buf, uint32_t len_bytes)
{
	uint64_t cap = CAP;

	assert_int_equal(off, NVME_REG_CAP);
	assert_int_equal(len_bytes, 8);
	memcpy(buf, &cap, 8);
}

void nvme_ctrl_reg_write(struct nvme_ctrl *c, uint32_t off, const void *buf, uint32_t len_bytes)
{
	assert_int_equal(len_bytes, 4);
	c->reg_off = off;
	memcpy(&c->reg_value, buf, 4);
}

void nvme_ctrl_vector_fd_set(struct nvme_ctrl *c, uint32_t vector, int fd)
{
	assert_true(vector <= QUEUES);
	if (c->fd[vector] >= 0)
		close(c->fd[vector]);
	c->fd[vector] = fd;
}

void nvme_ctrl_msix_enable(struct nvme_ctrl *c, bool on)
{
	c->msix = on;
}

void nvme_ctrl_start(struct nvme_ctrl *c)
{
	c->started = true;
	c->starts++;
}

void nvme_ctrl_stop(struct nvme_ctrl *c, void (*stopped)(void *port))
{
	c->started = false;
	c->stops++;
	wait_for(stopped);
}

void nvme_ctrl_drain(struct nvme_ctrl *c, bool drained)
{
	c->drained = drained;
}

int nvme_ctrl_queue_move(struct nvme_ctrl *c, uint32_t qid, struct loop *loop, struct err *reterr)
{
	if (!qid || qid > QUEUES)
		return err_set(reterr, -ERANGE, "queue %u", qid);
	c->moved_to = loop;
	return 0;
}

static void admin_end(void)
{
	void (*done)(void *port, const struct nvme_cqe *cqe) = ctrl.admin_done;
	struct nvme_cqe cqe = { .dw0 = le32(0x30003) };

	cqe.status = le16((uint16_t)(ctrl.status << 1));
	ctrl.admin_done = NULL;
	assert_non_null(done);
	done(ctrl.port, &cqe);
}

void nvme_ctrl_admin(struct nvme_ctrl *c, const struct nvme_sqe *sqe, void *buf,
		     void (*done)(void *port, const struct nvme_cqe *cqe))
{
	assert_null(c->admin_done);
	assert_null(c->port_done);
	c->admins++;
	c->sqe[c->sqe_count++ % 8] = *sqe;
	if (sqe->opcode == NVME_ADMIN_IDENTIFY) {
		for (uint32_t i = 0; i < NVME_IDENTIFY_BYTES; i++)
			((uint8_t *)buf)[i] = (uint8_t)(i * 7);
	}
	c->admin_done = done;
	if (!c->later)
		admin_end();
}

/* ---- the fixture ---- */

struct fixture {
	struct loop *loop;
	struct nvme_session *session; /* NULL when ended */
	struct vhost_nvme_params params;
	struct log_limit limit;
	int peer, memfd, fds_before;
};

static struct fixture *fix;

struct reply {
	struct msg_hdr hdr;
	union {
		uint64_t u64;
		struct nvme_cqe cqe;
		uint8_t bytes[MSG_REPLY_MAX];
	};
};

static int fds_open(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void on_ended(struct nvme_session *s)
{
	fix->session = NULL;
}

#define PUMP_UNTIL(f, cond)                                                                        \
	do {                                                                                       \
		uint64_t end_ = loop_clock_ns() + 5000000000ull;                                   \
		while (!(cond)) {                                                                  \
			loop_run_once((f)->loop, false);                                           \
			assert_true(loop_clock_ns() < end_);                                       \
		}                                                                                  \
	} while (0)

static int connect_session(struct fixture *f, struct err *reterr)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	f->peer = sv[1];
	return nvme_session_new(&f->params, &f->limit, sv[0], on_ended, &f->session, reterr);
}

static int setup(void **state)
{
	static struct fixture f;
	struct err err;

	f = (struct fixture){ .limit = LOG_LIMIT_DEFAULT };
	fix = &f;
	ctrl = (struct nvme_ctrl){ 0 };
	if (loop_new(&(struct loop_params){ .name = "test", .cpu = -1 }, &f.loop, &err))
		return -1;
	f.memfd = memfd_create("guest", MFD_CLOEXEC);
	if (ftruncate(f.memfd, MEM_BYTES))
		return -1;
	f.fds_before = fds_open();
	f.params = (struct vhost_nvme_params){ .name = "test",
					       .main_loop = f.loop,
					       .loops = &f.loop,
					       .loop_count = 1,
					       .num_queues = QUEUES,
					       .queue_size_max = 256 };
	if (connect_session(&f, &err))
		return -1;
	*state = &f;
	return 0;
}

static void hang_up(struct fixture *f)
{
	if (f->peer >= 0)
		close(f->peer);
	f->peer = -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	hang_up(f);
	ctrl.later = false;
	PUMP_UNTIL(f, !f->session);
	assert_int_equal(fds_open(), f->fds_before);
	loop_free(f->loop);
	close(f->memfd);
	return 0;
}

static void say_flags(struct fixture *f, uint32_t request, uint32_t flags, const void *payload,
		      uint32_t len, int fd)
{
	struct msg_hdr hdr = { request, flags, len };
	struct iovec iov[2] = { { &hdr, sizeof(hdr) }, { (void *)(uintptr_t)payload, len } };
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2 };

	if (fd >= 0) {
		mh.msg_control = control.buf;
		mh.msg_controllen = sizeof(control.buf);
		CMSG_FIRSTHDR(&mh)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&mh)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&mh)->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&mh)), &fd, sizeof(fd));
	}
	assert_int_equal(sendmsg(f->peer, &mh, MSG_NOSIGNAL), sizeof(hdr) + len);
}

static void say(struct fixture *f, uint32_t request, const void *payload, uint32_t len, int fd)
{
	say_flags(f, request, MSG_VERSION, payload, len, fd);
}

static void say_u64(struct fixture *f, uint32_t request, uint64_t v, int fd)
{
	say(f, request, &v, sizeof(v), fd);
}

static void hear(struct fixture *f, struct reply *ret)
{
	uint8_t wire[MSG_HDR_BYTES + MSG_REPLY_MAX];
	size_t have = 0, want = MSG_HDR_BYTES;

	memset(ret, 0, sizeof(*ret));
	PUMP_UNTIL(f, ({
			   ssize_t n = recv(f->peer, wire + have, want - have, MSG_DONTWAIT);

			   if (n > 0)
				   have += (size_t)n;
			   if (have == MSG_HDR_BYTES) {
				   memcpy(&ret->hdr, wire, MSG_HDR_BYTES);
				   want = MSG_HDR_BYTES + ret->hdr.size;
			   }
			   have == want;
		   }));
	memcpy(ret->bytes, wire + MSG_HDR_BYTES, ret->hdr.size);
	assert_int_equal(ret->hdr.flags, MSG_VERSION | MSG_REPLY);
}

/* The next message is only answered when those before it have been handled. */
static void settle(struct fixture *f)
{
	struct reply r;

	say(f, 82, NULL, 0, -1);
	hear(f, &r);
	assert_int_equal(r.hdr.request, 82);
	assert_int_equal(r.u64, CAP);
}

static void admin(struct fixture *f, const struct nvme_sqe *sqe, struct reply *ret)
{
	say(f, 80, sqe, sizeof(*sqe), -1);
	hear(f, ret);
	assert_int_equal(ret->hdr.request, 80);
}

static struct nvme_sqe create_cq(uint16_t qid, uint32_t cdw11)
{
	return (struct nvme_sqe){ .opcode = NVME_ADMIN_CREATE_CQ,
				  .cdw10 = le32(63u << 16 | qid),
				  .cdw11 = le32(cdw11) };
}

static struct nvme_sqe create_sq(uint16_t qid, uint16_t cqid)
{
	return (struct nvme_sqe){ .opcode = NVME_ADMIN_CREATE_SQ,
				  .cdw10 = le32(63u << 16 | qid),
				  .cdw11 = le32((uint32_t)cqid << 16 | 1) };
}

static struct msg_mem_table table(uint64_t size_bytes)
{
	return (struct msg_mem_table){ .count = 1, .regions = { { .size_bytes = size_bytes } } };
}

static void set_table(struct fixture *f)
{
	struct msg_mem_table t = table(MEM_BYTES);

	say(f, 5, &t, 40, f->memfd);
}

static void expect_end(struct fixture *f)
{
	PUMP_UNTIL(f, !f->session);
	assert_int_equal(ctrl.frees, 1);
}

/* ---- tests ---- */

static void capabilities_and_identify_come_before_any_memory(void **state)
{
	struct fixture *f = *state;
	struct nvme_sqe sqe;
	struct reply r;

	settle(f);
	memset(&sqe, 0xa5, sizeof(sqe));
	sqe.opcode = NVME_ADMIN_IDENTIFY;
	sqe.nsid = le32(0);
	sqe.cdw10 = le32(1);
	admin(f, &sqe, &r);
	assert_int_equal(r.hdr.size, 4112);
	for (uint32_t i = 0; i < 4112 - 64; i++)
		assert_int_equal(r.bytes[64 + i], (uint8_t)(i * 7));
	/* Only what the front-end sets was passed on. */
	assert_int_equal(ctrl.sqe[0].flags, 0);
	assert_int_equal(le64_get(ctrl.sqe[0].prp1), 0);
	assert_int_equal(le32_get(ctrl.sqe[0].cdw10), 1);
	assert_int_equal(le32_get(ctrl.sqe[0].cdw11), 0);
}

static void features_answer_as_the_generation_expects(void **state)
{
	struct fixture *f = *state;
	struct nvme_sqe sqe = { .opcode = NVME_ADMIN_SET_FEATURES, .cdw10 = le32(7) };
	struct reply r;
	uint32_t dw0;

	admin(f, &sqe, &r);
	assert_int_equal(r.hdr.size, 16);
	assert_int_equal(le32_get(r.cqe.dw0), 0x30003);
	f->session->params.generation_1804 = true;
	admin(f, &sqe, &r);
	assert_int_equal(r.hdr.size, 4112);
	assert_int_equal(le32_get(r.cqe.dw0), 0x30003);
	memcpy(&dw0, r.bytes + 64, 4);
	assert_int_equal(dw0, 0x30003);
}

static void what_a_front_end_never_passes_on_is_refused_here(void **state)
{
	struct fixture *f = *state;
	static const uint8_t opcodes[] = { 0x02, 0x0c, 0x0d, 0x18, 0x80, 0xff };
	struct nvme_sqe sqe = { 0 };
	struct reply r;

	for (uint32_t i = 0; i < ARRAY_SIZE(opcodes); i++) {
		sqe.opcode = opcodes[i];
		admin(f, &sqe, &r);
		assert_int_equal(r.hdr.size, 16);
		assert_int_equal(le16_get(r.cqe.status), NVME_SC_INVALID_OPCODE << 1 | 0x8000);
	}
	sqe = (struct nvme_sqe){ .opcode = NVME_ADMIN_SET_FEATURES, .cdw10 = le32(0x0e) };
	admin(f, &sqe, &r);
	assert_int_equal(le16_get(r.cqe.status), NVME_SC_INVALID_FIELD << 1 | 0x8000);
	assert_int_equal(ctrl.admins, 0);
}

static void start_and_stop_may_come_twice(void **state)
{
	struct fixture *f = *state;

	set_table(f);
	say_u64(f, 83, 1, -1);
	say_u64(f, 83, 1, -1);
	settle(f);
	assert_true(ctrl.started);
	assert_int_equal(ctrl.maps, 1);
	say_u64(f, 83, 0, -1);
	say_u64(f, 83, 0, -1);
	settle(f);
	assert_false(ctrl.started);
	assert_int_equal(ctrl.stops, 2);
}

static void the_next_message_waits_for_the_stop(void **state)
{
	struct fixture *f = *state;

	ctrl.later = true;
	say_u64(f, 83, 0, -1);
	say_u64(f, 83, 1, -1);
	PUMP_UNTIL(f, ctrl.port_done);
	assert_int_equal(f->session->state, NVME_SESSION_PARKED);
	for (int i = 0; i < 20; i++)
		loop_run_once(f->loop, false);
	assert_int_equal(ctrl.starts, 0);
	done_now();
	ctrl.later = false;
	settle(f);
	assert_int_equal(ctrl.starts, 1);
}

static void the_next_message_waits_for_the_memory(void **state)
{
	struct fixture *f = *state;
	struct reply r;

	ctrl.later = true;
	set_table(f);
	say(f, 82, NULL, 0, -1);
	PUMP_UNTIL(f, ctrl.port_done);
	assert_int_equal(ctrl.maps, 0);
	done_now();
	assert_int_equal(ctrl.maps, 1);
	assert_int_equal(ctrl.resumes, 1);
	hear(f, &r);
	ctrl.later = false;
}

static void vectors_are_completion_queues(void **state)
{
	struct fixture *f = *state;
	struct nvme_sqe sqe = create_cq(3, 17u << 16 | 3);
	struct reply r;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	admin(f, &sqe, &r);
	assert_int_equal(le32_get(ctrl.sqe[0].cdw11), 3u << 16 | 3);
	say_u64(f, 81, 3, fd);
	settle(f);
	assert_true(ctrl.fd[3] >= 0);
	say_u64(f, 81, 3, fd);
	settle(f);
	assert_true(ctrl.fd[3] >= 0);
	say_u64(f, 81, 3 | 0x100, -1);
	settle(f);
	assert_int_equal(ctrl.fd[3], -1);
	say_u64(f, 81, 2, fd);
	say_u64(f, 83, 0, -1);
	settle(f);
	assert_int_equal(ctrl.fd[2], -1);
	close(fd);
}

static void a_queue_created_twice_is_replaced_with_what_is_on_it(void **state)
{
	struct fixture *f = *state;
	struct nvme_sqe cq = create_cq(1, 1), sq1 = create_sq(1, 1), sq2 = create_sq(2, 1);
	static const uint8_t expected[] = { NVME_ADMIN_DELETE_SQ, NVME_ADMIN_DELETE_SQ,
					    NVME_ADMIN_DELETE_CQ, NVME_ADMIN_CREATE_CQ };
	struct reply r;

	admin(f, &cq, &r);
	admin(f, &sq1, &r);
	admin(f, &sq2, &r);
	assert_int_equal(ctrl.sqe_count, 3);
	ctrl.sqe_count = 0;
	admin(f, &cq, &r);
	assert_int_equal(ctrl.sqe_count, 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(ctrl.sqe[i].opcode, expected[i]);
	ctrl.sqe_count = 0;
	admin(f, &sq1, &r);
	admin(f, &sq1, &r);
	assert_int_equal(ctrl.sqe_count, 3);
	assert_int_equal(ctrl.sqe[1].opcode, NVME_ADMIN_DELETE_SQ);
	assert_int_equal(ctrl.sqe[2].opcode, NVME_ADMIN_CREATE_SQ);
}

static void a_refused_queue_is_not_there(void **state)
{
	struct fixture *f = *state;
	struct nvme_sqe cq = create_cq(1, 1);
	struct reply r;

	ctrl.status = NVME_SC_INVALID_QUEUE_SIZE;
	admin(f, &cq, &r);
	assert_int_equal(le16_get(r.cqe.status), NVME_SC_INVALID_QUEUE_SIZE << 1);
	ctrl.status = 0;
	admin(f, &cq, &r);
	assert_int_equal(ctrl.sqe_count, 2);
}

static void the_shadow_bar_is_the_page_of_doorbells(void **state)
{
	struct fixture *f = *state;
	struct msg_mem_table t = table(0x4000);
	uint32_t *mem = mmap(NULL, 0x4000, PROT_READ | PROT_WRITE, MAP_SHARED, f->memfd, 0);

	t.regions[0].gpa = 0x20000000;
	say(f, 85, &t, 40, f->memfd);
	settle(f);
	assert_non_null(ctrl.doorbells);
	mem[0x1000 / 4 + 2] = 5;
	assert_int_equal(ctrl.doorbells[2], 5);
	/* It survives the stop, with doorbells as at the start. */
	say_u64(f, 83, 0, -1);
	settle(f);
	assert_int_equal(ctrl.doorbells[2], 0);
	munmap(mem, 0x4000);
}

static void doorbells_by_message_are_written_to_the_registers(void **state)
{
	struct fixture *f = *state;
	uint32_t tail[3] = { 1, 2, 9 }, head[3] = { 2, 3, 4 };

	say(f, 84, tail, sizeof(tail), -1);
	settle(f);
	assert_int_equal(ctrl.reg_off, 0x1010);
	assert_int_equal(ctrl.reg_value, 9);
	say(f, 84, head, sizeof(head), -1);
	settle(f);
	assert_int_equal(ctrl.reg_off, 0x101c);
	assert_int_equal(ctrl.reg_value, 4);
}

static void who_asks_for_an_acknowledgement_gets_one(void **state)
{
	struct fixture *f = *state;
	uint64_t one = 1, wrong = 2, cq0 = 0;
	uint32_t io[3] = { 3, 1, 1 }, io_queue[3] = { 1, QUEUES + 1, 1 };
	struct msg_mem_table t = table(0x1000);
	struct reply r;

	say_flags(f, 83, MSG_VERSION | MSG_NEED_REPLY, &one, 8, -1);
	hear(f, &r);
	assert_int_equal(r.u64, 0);
	say_flags(f, 83, MSG_VERSION | MSG_NEED_REPLY, &wrong, 8, -1);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	say_flags(f, 81, MSG_VERSION | MSG_NEED_REPLY, &cq0, 8, -1);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	cq0 = 1;
	say_flags(f, 81, MSG_VERSION | MSG_NEED_REPLY, &cq0, 8, f->memfd);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	cq0 = 0x101;
	say_flags(f, 81, MSG_VERSION | MSG_NEED_REPLY, &cq0, 8, f->memfd);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	say_flags(f, 84, MSG_VERSION | MSG_NEED_REPLY, io, 12, -1);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	say_flags(f, 84, MSG_VERSION | MSG_NEED_REPLY, io_queue, 12, -1);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	say_flags(f, 85, MSG_VERSION | MSG_NEED_REPLY, &t, 40, f->memfd);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	t = table(0x2000);
	t.regions[0].mmap_offset = 8;
	say_flags(f, 85, MSG_VERSION | MSG_NEED_REPLY, &t, 40, f->memfd);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	t.count = 0;
	say_flags(f, 5, MSG_VERSION | MSG_NEED_REPLY, &t, 8, -1);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	settle(f);
}

static void a_wrong_message_ends_the_session(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint32_t request, len;
	} wrong[] = { { 1, 0 },	 { 80, 63 }, { 80, 65 }, { 82, 8 }, { 83, 4 },
		      { 84, 8 }, { 85, 40 }, { 86, 0 },	 { 5, 8 } };
	uint8_t bytes[128] = { 0 };

	for (uint32_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct err err;

		say(f, wrong[i].request, bytes, wrong[i].len, -1);
		expect_end(f);
		hang_up(f);
		assert_int_equal(connect_session(f, &err), 0);
	}
}

static void a_front_end_may_leave_while_the_controller_is_busy(void **state)
{
	struct fixture *f = *state;

	ctrl.later = true;
	say_u64(f, 83, 0, -1);
	PUMP_UNTIL(f, ctrl.port_done);
	nvme_session_close(f->session, LOG_INFO, "the test says so");
	for (int i = 0; i < 20; i++)
		loop_run_once(f->loop, false);
	assert_int_equal(ctrl.frees, 0);
	done_now(); /* the stop */
	assert_int_equal(ctrl.frees, 1);
	assert_non_null(f->session);
	done_now(); /* the controller */
	PUMP_UNTIL(f, !f->session);
}

static void a_front_end_may_leave_during_a_command(void **state)
{
	struct fixture *f = *state;
	struct nvme_sqe sqe = create_cq(1, 1);

	ctrl.later = true;
	say(f, 80, &sqe, sizeof(sqe), -1);
	PUMP_UNTIL(f, ctrl.admin_done);
	nvme_session_close(f->session, LOG_INFO, "the test says so");
	ctrl.later = false;
	admin_end();
	expect_end(f);
}

static void truncated_memory_ends_the_session(void **state)
{
	struct fixture *f = *state;

	set_table(f);
	settle(f);
	nvme_session_check_lost(f->session);
	assert_int_equal(f->session->state, NVME_SESSION_ACTIVE);
	assert_int_equal(gmem_fault_install(-1, NULL), 0);
	assert_int_equal(ftruncate(f->memfd, 0), 0);
	*(volatile char *)gmem_gpa_to_host(f->session->map, (struct gpa){ 0 }, 1);
	nvme_session_check_lost(f->session);
	expect_end(f);
}

static void management_reaches_the_controller_until_it_is_gone(void **state)
{
	struct fixture *f = *state;
	struct err err = { 0 };

	nvme_session_drain(f->session, true);
	assert_true(ctrl.drained);
	assert_int_equal(nvme_session_queue_move(f->session, 1, f->loop, &err), 0);
	assert_ptr_equal(ctrl.moved_to, f->loop);
	assert_int_equal(nvme_session_queue_move(f->session, QUEUES + 1, f->loop, &err), -ERANGE);
	hang_up(f);
	PUMP_UNTIL(f, !f->session);
}

static void no_controller_is_no_session(void **state)
{
	struct fixture *f = *state;
	struct err err;

	hang_up(f);
	PUMP_UNTIL(f, !f->session);
	ctrl.status = 1;
	assert_int_equal(connect_session(f, &err), -ENOSPC);
	ctrl.status = 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(capabilities_and_identify_come_before_any_memory),
		T(features_answer_as_the_generation_expects),
		T(what_a_front_end_never_passes_on_is_refused_here),
		T(start_and_stop_may_come_twice),
		T(the_next_message_waits_for_the_stop),
		T(the_next_message_waits_for_the_memory),
		T(vectors_are_completion_queues),
		T(a_queue_created_twice_is_replaced_with_what_is_on_it),
		T(a_refused_queue_is_not_there),
		T(the_shadow_bar_is_the_page_of_doorbells),
		T(doorbells_by_message_are_written_to_the_registers),
		T(who_asks_for_an_acknowledgement_gets_one),
		T(a_wrong_message_ends_the_session),
		T(a_front_end_may_leave_while_the_controller_is_busy),
		T(a_front_end_may_leave_during_a_command),
		T(truncated_memory_ends_the_session),
		T(management_reaches_the_controller_until_it_is_gone),
		T(no_controller_is_no_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
