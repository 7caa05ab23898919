/*
 * For the tests of what is main's alone (reservations, Format NVM, Sanitize, Namespace Management):
 * a subsystem with four controllers and namespace 1 on the sim back-end, and commands whose data is
 * a buffer. Queues are not there: a command begins on main, and a sweep finds nothing, or waits
 * until the test lets it go on.
 */
#ifndef NVME_RESV_RIG_H
#define NVME_RESV_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "blk/backend/sim.h"
#include "loop/job.h"
#include "nvme/nvme_impl.h"

#define RIG_CTRLS      4 /* CNTLID 1 to 4 */
#define RIG_BUF_BYTES  8192
#define RIG_SWEEPS_MAX 16

struct rig {
	struct loop *loop;
	struct nvme_subsys *subsys;
	struct nvme_ctrl *ctrl[RIG_CTRLS];
	struct nvme_ns *ns; /* namespace 1; NULL: the test took it away */
	struct blk_dev *dev;
	/* of the last command that ended: */
	uint32_t dw0;
	uint8_t out[RIG_BUF_BYTES];
	/* while on, sweeps are kept, and the test posts their msg */
	bool hold_sweeps;
	struct nvme_sweep *held[RIG_SWEEPS_MAX];
	uint32_t held_count, sweep_count;
};

struct rig_cmd {
	struct nvme_cmd c; /* first */
	struct nvme_nsq nsq;
	struct nvme_ctrl *ctrl;
	bool ended;
	struct loop_msg msg;
	void (*next)(struct nvme_cmd *c);
	struct iovec iov;
	uint8_t buf[RIG_BUF_BYTES]; /* data from the guest, or to it */
};

#define rig_until(r, cond)                                                                         \
	do {                                                                                       \
		while (!(cond))                                                                    \
			loop_run_once((r)->loop, true);                                            \
	} while (0)

/* ---- what is not there: queues, data pointers and logs ---- */

static struct rig *the_rig;

#define ADMIN(op, run, flags, effects) { NVME_ADMIN_##op, true, #op, NULL, flags, effects },
#define IO(op, run, flags, effects)    { NVME_IO_##op, false, #op, NULL, flags, effects },
const struct nvme_row nvme_rows[] = {
#include "nvme/cmd.def"
};
#undef ADMIN
#undef IO
const uint32_t nvme_row_count = ARRAY_SIZE(nvme_rows);

static inline struct rig_cmd *rig_cmd_of(const struct nvme_cmd *c)
{
	return (struct rig_cmd *)(uintptr_t)c;
}

struct nvme_ctrl *nvme_cmd_ctrl(const struct nvme_cmd *c)
{
	return rig_cmd_of(c)->ctrl;
}

void nvme_cmd_end(struct nvme_cmd *c, enum nvme_status status)
{
	ASSERT(!rig_cmd_of(c)->ended);
	rig_cmd_of(c)->ended = true;
	c->status = (uint16_t)(c->abort ? c->abort_status : status);
	free(c->buf);
}

static void rig_msg(struct loop_msg *msg)
{
	struct rig_cmd *rc = container_of(msg, struct rig_cmd, msg);

	rc->next(&rc->c);
}

void nvme_cmd_to_main(struct nvme_cmd *c, void (*fn)(struct nvme_cmd *c))
{
	struct rig_cmd *rc = rig_cmd_of(c);

	rc->next = fn;
	rc->msg.fn = rig_msg;
	loop_post(the_rig->loop, &rc->msg);
}

bool nvme_cmd_scratch(struct nvme_cmd *c, size_t len)
{
	c->buf = calloc(1, len);
	ASSERT(c->buf);
	return true;
}

enum nvme_status nvme_blk_status(const struct blk_req *req, enum blk_status status)
{
	return status == BLK_ST_OK ? NVME_SC_SUCCESS : NVME_SC_WRITE_FAULT;
}

void nvme_data(struct nvme_cmd *c, uint64_t len_bytes, enum nvme_dir dir,
	       void (*next)(struct nvme_cmd *c))
{
	struct rig_cmd *rc = rig_cmd_of(c);

	ASSERT(len_bytes <= RIG_BUF_BYTES);
	rc->iov = (struct iovec){ .iov_base = rc->buf, .iov_len = len_bytes };
	iov_cur_init(&c->data, &rc->iov, 1, len_bytes);
	next(c);
}

void nvme_cmd_reply(struct nvme_cmd *c, const void *from, size_t len, size_t alloc_bytes)
{
	struct rig_cmd *rc = rig_cmd_of(c);

	memset(rc->buf, 0xee, sizeof(rc->buf));
	memset(rc->buf, 0, MIN(alloc_bytes, sizeof(rc->buf)));
	len = MIN(len, alloc_bytes);
	memcpy(rc->buf, from, MIN(len, sizeof(rc->buf)));
	nvme_cmd_end(c, NVME_SC_SUCCESS);
}

static void rig_swept(struct loop_msg *msg)
{
	struct nvme_sweep *s = container_of(msg, struct nvme_sweep, msg);

	s->done(s);
}

int nvme_sweep_start(struct nvme_sweep *s)
{
	s->msg.fn = rig_swept;
	the_rig->sweep_count++;
	if (!the_rig->hold_sweeps) {
		loop_post(the_rig->loop, &s->msg);
		return 0;
	}
	ASSERT(the_rig->held_count < RIG_SWEEPS_MAX);
	the_rig->held[the_rig->held_count++] = s;
	return 0;
}

/* The first sixteen, as dword 0 of their completions. */
void nvme_event(struct nvme_ctrl *ctrl, enum nvme_event_type type, uint8_t info, uint8_t log_page)
{
	struct nvme_aen *aen = &ctrl->aen;

	if (aen->pending_count < ARRAY_SIZE(aen->pending))
		aen->pending[aen->pending_count++] =
			(uint32_t)type | (uint32_t)info << 8 | (uint32_t)log_page << 16;
}

void nvme_log_ns_changed(struct nvme_ctrl *ctrl, uint32_t nsid)
{
	ctrl->logs.changed_ns[nsid / 64] |= 1ull << nsid % 64;
}

/* ---- the subsystem ---- */

static inline void rig_flag(void *arg)
{
	*(bool *)arg = true;
}

static inline void rig_ctrls_make(struct rig *r)
{
	struct err err = { 0 };

	for (uint32_t i = 0; i < RIG_CTRLS; i++) {
		r->ctrl[i] = calloc(1, sizeof(*r->ctrl[i]));
		assert_non_null(r->ctrl[i]);
		r->ctrl[i]->params.main_loop = r->loop;
		r->ctrl[i]->ana = NVME_ANA_OPTIMIZED;
		if (nvme_subsys_join(r->subsys, r->ctrl[i], &err) < 0)
			fail_msg("%s", err.msg);
	}
}

/* sp: NULL: no pool, no state file. ns_state_path may be NULL. disk: parameters of sim, NULL: 1M */
static inline void rig_open(struct rig *r, const struct nvme_subsys_params *sp,
			    const char *ns_state_path, const char *disk)
{
	const struct nvme_subsys_params plain = { .name = "s" };
	const struct loop_params lp = { .name = "test", .cpu = -1, .sq_count = 64 };
	struct nvme_ns_params p = { .nsid = 1, .identity = "x", .state_path = ns_state_path };
	struct err err = { 0 };

	memset(r, 0, sizeof(*r));
	the_rig = r;
	assert_int_equal(loop_new(&lp, &r->loop, &err), 0);
	assert_int_equal(job_threads_start(1, &err), 0);
	if (blk_dev_open("sim", "disk", disk ? disk : "size=1M", &r->dev, &err) < 0 ||
	    nvme_subsys_new(sp ? sp : &plain, &r->subsys, &err) < 0)
		fail_msg("%s", err.msg);
	p.dev = r->dev;
	if (nvme_ns_add(r->subsys, &p, &r->ns, &err) < 0)
		fail_msg("%s", err.msg);
	rig_ctrls_make(r);
}

/* From within the loop, as the application does: *flag is set when it is gone. */
struct rig_removal {
	struct loop_work work;
	struct nvme_ns *ns;
	struct nvme_subsys *subsys; /* or its pool */
	bool gone;
};

static void rig_remove_now(struct loop_work *work)
{
	struct rig_removal *removal = container_of(work, struct rig_removal, work);

	if (removal->ns)
		nvme_ns_remove(removal->ns, rig_flag, &removal->gone);
	else if (!nvme_pool_close(removal->subsys, rig_flag, &removal->gone))
		removal->gone = true;
}

static inline void rig_remove(struct rig *r, struct rig_removal *removal, struct nvme_ns *ns)
{
	*removal = (struct rig_removal){ .work.fn = rig_remove_now, .ns = ns, .subsys = r->subsys };
	loop_defer(r->loop, &removal->work);
}

static inline void rig_shut(struct rig *r)
{
	struct rig_removal pool, disk = { .gone = true };

	for (uint32_t i = 0; i < RIG_CTRLS; i++) {
		nvme_subsys_leave(r->ctrl[i]);
		free(r->ctrl[i]);
	}
	rig_remove(r, &pool, NULL);
	if (r->ns)
		rig_remove(r, &disk, r->ns);
	rig_until(r, pool.gone && disk.gone && r->subsys->refs == 1);
	nvme_subsys_unref(r->subsys);
	blk_dev_unref(r->dev);
	job_threads_stop();
	loop_free(r->loop);
}

/* Set Features, Host Identifier: 8 bytes, 0: none. */
static inline void rig_host(struct rig *r, uint32_t ctrl, uint64_t id)
{
	struct nvme_features *f = &r->ctrl[ctrl]->features;
	struct le64 wire = le64(id);

	memset(f->host_id, 0, sizeof(f->host_id));
	memcpy(f->host_id, &wire, sizeof(wire));
	f->host_id_extended = false;
	nvme_resv_host_changed(r->ctrl[ctrl]);
}

/* 16 bytes */
static inline void rig_host_extended(struct rig *r, uint32_t ctrl, uint8_t byte)
{
	struct nvme_features *f = &r->ctrl[ctrl]->features;

	memset(f->host_id, byte, sizeof(f->host_id));
	f->host_id_extended = true;
	nvme_resv_host_changed(r->ctrl[ctrl]);
}

/* ---- commands ---- */

static void (*const rig_admin_runs[256])(struct nvme_cmd *c) = {
	[NVME_ADMIN_FORMAT_NVM] = nvme_format,
	[NVME_ADMIN_SANITIZE] = nvme_sanitize,
	[NVME_ADMIN_NS_MANAGEMENT] = nvme_ns_management,
	[NVME_ADMIN_NS_ATTACHMENT] = nvme_ns_attachment,
	[NVME_ADMIN_SET_FEATURES] = nvme_resv_ptpl_set,
};

static void (*const rig_io_runs[256])(struct nvme_cmd *c) = {
	[NVME_IO_RESV_REGISTER] = nvme_resv_register,
	[NVME_IO_RESV_ACQUIRE] = nvme_resv_acquire,
	[NVME_IO_RESV_RELEASE] = nvme_resv_release,
	[NVME_IO_RESV_REPORT] = nvme_resv_report,
};

struct rig_sqe {
	bool admin;
	uint8_t opcode;
	uint32_t nsid, cdw10, cdw11;
	const void *data; /* NULL: none */
	size_t data_bytes;
};

/* Begins it in the next iteration; ends with rig_wait. */
static inline struct rig_cmd *rig_start(struct rig *r, uint32_t ctrl, const struct rig_sqe *sqe)
{
	struct rig_cmd *rc = calloc(1, sizeof(*rc));

	assert_non_null(rc);
	rc->ctrl = r->ctrl[ctrl];
	rc->c.nsid = sqe->nsid;
	rc->c.sqe.opcode = sqe->opcode;
	rc->c.sqe.nsid = le32(sqe->nsid);
	rc->c.sqe.cdw10 = le32(sqe->cdw10);
	rc->c.sqe.cdw11 = le32(sqe->cdw11);
	if (!sqe->admin) {
		rc->nsq.ns = nvme_ns_find(r->subsys, sqe->nsid);
		rc->nsq.att = nvme_att_find(r->ctrl[ctrl], sqe->nsid);
		rc->c.nsq = &rc->nsq;
	}
	if (sqe->data)
		memcpy(rc->buf, sqe->data, sqe->data_bytes);
	nvme_cmd_to_main(&rc->c, (sqe->admin ? rig_admin_runs : rig_io_runs)[sqe->opcode]);
	return rc;
}

static inline enum nvme_status rig_wait(struct rig *r, struct rig_cmd *rc)
{
	enum nvme_status status;

	rig_until(r, rc->ended);
	memcpy(r->out, rc->buf, sizeof(r->out));
	r->dw0 = rc->c.dw0;
	status = rc->c.status;
	free(rc);
	return status;
}

static inline enum nvme_status rig_admin(struct rig *r, uint32_t ctrl, uint8_t opcode,
					 uint32_t nsid, uint32_t cdw10, uint32_t cdw11)
{
	const struct rig_sqe sqe = { true, opcode, nsid, cdw10, cdw11, NULL, 0 };

	return rig_wait(r, rig_start(r, ctrl, &sqe));
}

/* On namespace 1. */
static inline enum nvme_status rig_io(struct rig *r, uint32_t ctrl, uint8_t opcode, uint32_t cdw10,
				      uint32_t cdw11, const void *data, size_t data_bytes)
{
	const struct rig_sqe sqe = { false, opcode, 1, cdw10, cdw11, data, data_bytes };

	return rig_wait(r, rig_start(r, ctrl, &sqe));
}

/* A command of reservations with its two keys. */
static inline enum nvme_status rig_keys(struct rig *r, uint32_t ctrl, uint8_t opcode,
					uint32_t cdw10, uint64_t crkey, uint64_t key)
{
	const struct le64 data[2] = { le64(crkey), le64(key) };

	return rig_io(r, ctrl, opcode, cdw10, 0, data, sizeof(data));
}

#define GOOD(x) assert_int_equal((x), NVME_SC_SUCCESS)

#endif
