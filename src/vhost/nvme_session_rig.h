/*
 * For the tests of a vhost-user-nvme session: one over a socketpair, on a fake controller (port 4:
 * nvme/ctrl.h) that answers at once, or when the test says so.
 */
#ifndef VHOST_NVME_SESSION_RIG_H
#define VHOST_NVME_SESSION_RIG_H

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
#include "sock/fdio.h"
#include "vhost/nvme_session.h"

#define MEM_BYTES  (1u << 20)
#define QUEUES	   4
#define CAP	   0x00000020010100ffull
#define CTRL_SAVED "what it knows"

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
	char loaded[16]; /* of nvme_ctrl_load */
	int load_rc;
	bool passing_by; /* nvme_ctrl_is_saveable says no */
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
static inline void wait_for(void (*done)(void *port))
{
	assert_null(ctrl.port_done);
	assert_null(ctrl.admin_done);
	if (ctrl.later)
		ctrl.port_done = done;
	else
		done(ctrl.port);
}

static inline void done_now(void)
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
	c->map = readable ? gmem_ref(readable) : NULL;
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

static inline void admin_end(void)
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

int nvme_ctrl_vector_fd(const struct nvme_ctrl *c, uint32_t vector)
{
	return c->fd[vector];
}

bool nvme_ctrl_is_saveable(const struct nvme_ctrl *c)
{
	return !c->passing_by;
}

int nvme_ctrl_save(struct nvme_ctrl *c, void **ret_bytes, size_t *ret_len)
{
	assert_true(c->quiet);
	*ret_bytes = strdup(CTRL_SAVED);
	*ret_len = sizeof(CTRL_SAVED);
	return 0;
}

int nvme_ctrl_load(struct nvme_ctrl *c, const void *bytes, size_t len, struct err *reterr)
{
	assert_true(c->quiet);
	if (c->load_rc || len != sizeof(CTRL_SAVED) || memcmp(bytes, CTRL_SAVED, len) != 0)
		return err_set(reterr, -EINVAL, "state: bad bytes");
	memcpy(c->loaded, bytes, len);
	return 0;
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

static inline int fds_open(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static inline void on_ended(struct nvme_session *s)
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

static inline int connect_session(struct fixture *f, struct err *reterr)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	f->peer = sv[1];
	return nvme_session_new(&f->params, &f->limit, sv[0], on_ended, &f->session, reterr);
}

static inline int setup(void **state)
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
	f.params = (struct vhost_nvme_params){ .sock = { .name = "test", .main_loop = f.loop },
					       .loops = &f.loop,
					       .loop_count = 1,
					       .num_queues = QUEUES,
					       .queue_size_max = 256 };
	if (connect_session(&f, &err))
		return -1;
	*state = &f;
	return 0;
}

static inline void hang_up(struct fixture *f)
{
	if (f->peer >= 0)
		close(f->peer);
	f->peer = -1;
}

static inline int teardown(void **state)
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

static inline void say_flags(struct fixture *f, uint32_t request, uint32_t flags,
			     const void *payload, uint32_t len, int fd)
{
	struct msg_hdr hdr = { request, flags, len };
	uint8_t wire[MSG_HDR_BYTES + MSG_PAYLOAD_MAX];

	assert_true(len <= MSG_PAYLOAD_MAX);
	memcpy(wire, &hdr, sizeof(hdr));
	if (len)
		memcpy(wire + sizeof(hdr), payload, len);
	assert_int_equal(fdio_send(f->peer, wire, sizeof(hdr) + len, &fd, fd >= 0),
			 sizeof(hdr) + len);
}

static inline void say(struct fixture *f, uint32_t request, const void *payload, uint32_t len,
		       int fd)
{
	say_flags(f, request, MSG_VERSION, payload, len, fd);
}

static inline void say_u64(struct fixture *f, uint32_t request, uint64_t v, int fd)
{
	say(f, request, &v, sizeof(v), fd);
}

static inline void hear(struct fixture *f, struct reply *ret)
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
static inline void settle(struct fixture *f)
{
	struct reply r;

	say(f, 82, NULL, 0, -1);
	hear(f, &r);
	assert_int_equal(r.hdr.request, 82);
	assert_int_equal(r.u64, CAP);
}

static inline void admin(struct fixture *f, const struct nvme_sqe *sqe, struct reply *ret)
{
	say(f, 80, sqe, sizeof(*sqe), -1);
	hear(f, ret);
	assert_int_equal(ret->hdr.request, 80);
}

static inline struct nvme_sqe create_cq(uint16_t qid, uint32_t cdw11)
{
	return (struct nvme_sqe){ .opcode = NVME_ADMIN_CREATE_CQ,
				  .cdw10 = le32(63u << 16 | qid),
				  .cdw11 = le32(cdw11) };
}

static inline struct nvme_sqe create_sq(uint16_t qid, uint16_t cqid)
{
	return (struct nvme_sqe){ .opcode = NVME_ADMIN_CREATE_SQ,
				  .cdw10 = le32(63u << 16 | qid),
				  .cdw11 = le32((uint32_t)cqid << 16 | 1) };
}

static inline struct msg_mem_table table(uint64_t size_bytes)
{
	return (struct msg_mem_table){ .count = 1, .regions = { { .size_bytes = size_bytes } } };
}

static inline void set_table(struct fixture *f)
{
	struct msg_mem_table t = table(MEM_BYTES);

	say(f, 5, &t, 40, f->memfd);
}

static inline void expect_end(struct fixture *f)
{
	PUMP_UNTIL(f, !f->session);
	assert_int_equal(ctrl.frees, 1);
}

#endif
