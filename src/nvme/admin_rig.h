/*
 * For the tests of admin commands: a subsystem with two controllers and namespaces on the sim
 * back-end, and commands whose data is a buffer.
 */
#ifndef NVME_ADMIN_RIG_H
#define NVME_ADMIN_RIG_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nvme/nvme_impl.h"

#define RIG_CTRLS     2
#define RIG_NS_MAX    8
#define RIG_BUF_BYTES 8192
#define RIG_VECTORS   5

struct rig_cmd {
	struct nvme_cmd c; /* first */
	struct nvme_ctrl *ctrl;
	bool started, ended;
	struct loop_msg msg;
	struct iovec iov;
	size_t reply_bytes;	    /* allocated by the command */
	uint8_t buf[RIG_BUF_BYTES]; /* data from the guest, or to it */
};

struct rig {
	struct loop *loop;
	struct nvme_subsys *subsys;
	struct nvme_ctrl *ctrl[RIG_CTRLS];
	struct nvme_ns *ns[RIG_NS_MAX];
	struct rig_cmd cmd; /* of rig_send */
	uint32_t cdw12, cdw13;
	const char *state_path; /* of the next namespace */
	uint32_t removed;
};

/* ---- what is not there: queues ---- */

/* Only the commands that are tested have something to run. */
#define ADMIN(op, run, flags, effects) { NVME_ADMIN_##op, true, #op, NULL, flags, effects },
#define IO(op, run, flags, effects)    { NVME_IO_##op, false, #op, NULL, flags, effects },
const struct nvme_row nvme_rows[] = {
#include "nvme/cmd.def"
};
#undef ADMIN
#undef IO
const uint32_t nvme_row_count = ARRAY_SIZE(nvme_rows);

static const struct {
	uint8_t opcode;
	void (*run)(struct nvme_cmd *c);
} rig_runs[] = {
	{ NVME_ADMIN_GET_LOG_PAGE, nvme_get_log_page },
	{ NVME_ADMIN_IDENTIFY, nvme_identify },
	{ NVME_ADMIN_SET_FEATURES, nvme_set_features },
	{ NVME_ADMIN_GET_FEATURES, nvme_get_features },
	{ NVME_ADMIN_AER, nvme_aer },
	{ NVME_ADMIN_KEEP_ALIVE, nvme_keep_alive },
};

static struct rig *the_rig;
static uint8_t rig_not_offered[4]; /* admin opcodes; 0: none */
static const char *rig_fatal;
static uint32_t rig_coalescing_changes;

static inline struct rig_cmd *rig_cmd_of(const struct nvme_cmd *c)
{
	return (struct rig_cmd *)(uintptr_t)c;
}

bool nvme_row_offered(const struct nvme_ctrl *ctrl, const struct nvme_row *row)
{
	for (size_t i = 0; i < ARRAY_SIZE(rig_not_offered); i++)
		if (row->admin && rig_not_offered[i] && row->opcode == rig_not_offered[i])
			return false;
	return true;
}

struct nvme_ctrl *nvme_cmd_ctrl(const struct nvme_cmd *c)
{
	return rig_cmd_of(c)->ctrl;
}

uint16_t nvme_cmd_sqid(const struct nvme_cmd *c)
{
	return 7;
}

void nvme_cmd_end(struct nvme_cmd *c, enum nvme_status status)
{
	assert_false(rig_cmd_of(c)->ended);
	rig_cmd_of(c)->ended = true;
	c->status = (uint16_t)status;
}

void nvme_cmd_reply(struct nvme_cmd *c, const void *from, size_t len, size_t alloc_bytes)
{
	struct rig_cmd *rc = rig_cmd_of(c);

	memset(rc->buf, 0xee, sizeof(rc->buf));
	memset(rc->buf, 0, MIN(alloc_bytes, sizeof(rc->buf)));
	memcpy(rc->buf, from, MIN(len, alloc_bytes));
	rc->reply_bytes = alloc_bytes;
	nvme_cmd_end(c, NVME_SC_SUCCESS);
}

void nvme_data(struct nvme_cmd *c, uint64_t len_bytes, enum nvme_dir dir,
	       void (*next)(struct nvme_cmd *c))
{
	struct rig_cmd *rc = rig_cmd_of(c);

	rc->iov = (struct iovec){ .iov_base = rc->buf, .iov_len = len_bytes };
	iov_cur_init(&c->data, &rc->iov, 1, len_bytes);
	next(c);
}

void nvme_ctrl_fatal(struct nvme_ctrl *ctrl, const char *why)
{
	rig_fatal = why;
}

void nvme_irq_coalescing_changed(struct nvme_ctrl *ctrl)
{
	rig_coalescing_changes++;
}

static struct nvme_sweep rig_last_sweep;

static void rig_swept(struct loop_msg *msg)
{
	struct nvme_sweep *s = container_of(msg, struct nvme_sweep, msg);

	s->done(s);
}

int nvme_sweep_start(struct nvme_sweep *s)
{
	rig_last_sweep = *s;
	s->msg.fn = rig_swept;
	loop_post(the_rig->loop, &s->msg);
	return 0;
}

void nvme_cmd_to_main(struct nvme_cmd *c, void (*fn)(struct nvme_cmd *c))
{
	fn(c);
}

bool nvme_cmd_scratch(struct nvme_cmd *c, size_t len)
{
	fail_msg("no command here has scratch memory");
	return false;
}

enum nvme_status nvme_blk_status(const struct blk_req *req, enum blk_status status)
{
	return NVME_SC_INTERNAL_ERROR;
}

static struct nvme_ctrl *rig_ctrl_new(struct rig *r, enum nvme_profile profile)
{
	struct nvme_ctrl *ctrl = calloc(1, sizeof(*ctrl));
	struct err err = { 0 };

	assert_non_null(ctrl);
	ctrl->params.name = "c";
	ctrl->params.profile = profile;
	ctrl->params.num_queues = 16;
	ctrl->params.vectors = RIG_VECTORS;
	ctrl->params.main_loop = r->loop;
	if (nvme_subsys_join(r->subsys, ctrl, &err) < 0)
		fail_msg("%s", err.msg);
	nvme_features_reset(ctrl);
	return ctrl;
}

static void rig_ctrl_free(struct nvme_ctrl *ctrl)
{
	nvme_features_reset(ctrl);
	nvme_subsys_leave(ctrl);
	free(ctrl);
}

/* ---- the subsystem ---- */

static inline void rig_ns_add(struct rig *r, uint32_t nsid, const char *disk)
{
	struct nvme_ns_params p = { .nsid = nsid, .state_path = r->state_path };
	struct blk_dev *dev;
	struct err err = { 0 };
	char identity[16];

	snprintf(identity, sizeof(identity), "disk%u", nsid);
	p.identity = identity;
	if (blk_dev_open("sim", identity, disk, &dev, &err) < 0)
		fail_msg("%s", err.msg);
	p.dev = dev;
	if (nvme_ns_add(r->subsys, &p, &r->ns[nsid], &err) < 0)
		fail_msg("%s", err.msg);
	blk_dev_unref(dev);
}

static inline void rig_removed(void *arg)
{
	((struct rig *)arg)->removed++;
}

static inline void rig_ns_remove(struct rig *r, uint32_t nsid)
{
	uint32_t before = r->removed;

	nvme_ns_remove(r->ns[nsid], rig_removed, r);
	r->ns[nsid] = NULL;
	while (r->removed == before)
		loop_run_once(r->loop, true);
}

static inline void rig_open_as(struct rig *r, enum nvme_profile profile)
{
	const struct nvme_subsys_params sp = { .name = "s0", .nqn = "nqn.2026-01.test:s0" };
	const struct loop_params lp = { .name = "test", .cpu = -1, .sq_count = 64 };
	struct err err = { 0 };

	memset(r, 0, sizeof(*r));
	memset(rig_not_offered, 0, sizeof(rig_not_offered));
	rig_fatal = NULL;
	the_rig = r;
	assert_int_equal(loop_new(&lp, &r->loop, &err), 0);
	if (nvme_subsys_new(&sp, &r->subsys, &err) < 0)
		fail_msg("%s", err.msg);
	for (uint32_t i = 0; i < RIG_CTRLS; i++)
		r->ctrl[i] = rig_ctrl_new(r, profile);
	rig_ns_add(r, 1, "size=1M");
}

static inline void rig_open(struct rig *r)
{
	rig_open_as(r, NVME_PROFILE_PCI);
}

static inline void rig_close(struct rig *r)
{
	for (uint32_t nsid = 1; nsid < RIG_NS_MAX; nsid++)
		if (r->ns[nsid])
			rig_ns_remove(r, nsid);
	for (uint32_t i = 0; i < RIG_CTRLS; i++)
		rig_ctrl_free(r->ctrl[i]);
	nvme_subsys_unref(r->subsys);
	loop_free(r->loop);
}

/* ---- commands ---- */

static inline void rig_run(struct loop_msg *msg)
{
	struct rig_cmd *rc = container_of(msg, struct rig_cmd, msg);

	rc->started = true;
	for (size_t i = 0; i < ARRAY_SIZE(rig_runs); i++)
		if (rig_runs[i].opcode == rc->c.sqe.opcode) {
			rig_runs[i].run(&rc->c);
			return;
		}
	fail_msg("no command %02x", rc->c.sqe.opcode);
}

/* It has started, on the loop. */
static inline void rig_start(struct rig *r, struct rig_cmd *rc, uint32_t ctrl, uint8_t opcode,
			     uint32_t nsid, uint32_t cdw10, uint32_t cdw11)
{
	memset(&rc->c, 0, sizeof(rc->c));
	rc->ctrl = r->ctrl[ctrl];
	rc->ended = false;
	rc->reply_bytes = 0;
	rc->c.sqe.opcode = opcode;
	rc->c.sqe.nsid = le32(nsid);
	rc->c.sqe.cdw10 = le32(cdw10);
	rc->c.sqe.cdw11 = le32(cdw11);
	rc->c.sqe.cdw12 = le32(r->cdw12);
	rc->c.sqe.cdw13 = le32(r->cdw13);
	rc->started = false;
	rc->msg.fn = rig_run;
	loop_post(r->loop, &rc->msg);
	while (!rc->started)
		loop_run_once(r->loop, true);
}

/* Its status, when it has ended. Its data is in r->cmd.buf. */
static inline enum nvme_status rig_send_to(struct rig *r, uint32_t ctrl, uint8_t opcode,
					   uint32_t nsid, uint32_t cdw10, uint32_t cdw11)
{
	rig_start(r, &r->cmd, ctrl, opcode, nsid, cdw10, cdw11);
	while (!r->cmd.ended)
		loop_run_once(r->loop, true);
	return r->cmd.c.status;
}

static inline enum nvme_status rig_send(struct rig *r, uint8_t opcode, uint32_t nsid,
					uint32_t cdw10, uint32_t cdw11)
{
	return rig_send_to(r, 0, opcode, nsid, cdw10, cdw11);
}

#define assert_status(call, status) assert_int_equal(call, NVME_SC_##status)

/* ---- what came back ---- */

static inline void assert_bytes(const struct rig *r, size_t at, const char *hex)
{
	uint8_t want[512];
	size_t len = 0;

	for (; *hex; hex++) {
		unsigned int byte;

		if (*hex == ' ')
			continue;
		assert_int_equal(sscanf(hex, "%2x", &byte), 1);
		assert_true(len < sizeof(want));
		want[len++] = (uint8_t)byte;
		hex++;
	}
	for (size_t i = 0; i < len; i++)
		if (r->cmd.buf[at + i] != want[i])
			fail_msg("byte %zu: got %02x, expected %02x", at + i, r->cmd.buf[at + i],
				 want[i]);
}

static inline void assert_zeroes(const struct rig *r, size_t from, size_t end)
{
	for (size_t i = from; i < end; i++)
		if (r->cmd.buf[i])
			fail_msg("byte %zu: got %02x, expected 0", i, r->cmd.buf[i]);
}

static inline uint64_t rig_le(const struct rig *r, size_t at, size_t bytes)
{
	uint64_t v = 0;

	for (size_t i = bytes; i-- > 0;)
		v = v << 8 | r->cmd.buf[at + i];
	return v;
}

#endif
