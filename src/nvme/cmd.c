/*
 * Commands from start to end, less the way that ordinary ones take, which is in queue.c.
 *
 * Here is: which commands there are; what is checked of one before its handler runs, when it is not
 * an ordinary one; the ways to main and back; and the end of one that needs more than an entry in
 * the completion queue.
 */
#include <stdlib.h>
#include <string.h>

#include "nvme/nvme_impl.h"

/* Scratch memory of all commands of a controller. */
#define SCRATCH_BYTES_MAX (16u << 20)

/* ---- tables ---- */

const struct nvme_row nvme_rows[] = {
#define ADMIN(op, run, flags, effects)                                                             \
	{ NVME_ADMIN_##op, true, #op, run, flags, EFFECT_CSUPP | (effects) },
#define IO(op, run, flags, effects)                                                                \
	{ NVME_IO_##op, false, #op, run, flags, EFFECT_CSUPP | (effects) },
#include "nvme/cmd.def"
#undef ADMIN
#undef IO
};

const uint32_t nvme_row_count = ARRAY_SIZE(nvme_rows);

struct status_row {
	uint16_t code;
	bool dnr;
	const char *text;
};

static const struct status_row status_rows[] = {
#define X(n, code, dnr, text) { code, dnr, text },
	NVME_STATUSES(X)
#undef X
};

static const struct status_row *status_find(enum nvme_status status)
{
	for (size_t i = 0; i < ARRAY_SIZE(status_rows); i++)
		if (status_rows[i].code == (uint32_t)status)
			return &status_rows[i];
	return NULL;
}

bool nvme_status_dnr(enum nvme_status status)
{
	const struct status_row *row = status_find(status);

	return row && row->dnr;
}

const char *nvme_status_text(enum nvme_status status)
{
	const struct status_row *row = status_find(status);

	return row ? row->text : "unknown status";
}

/* What the front-end of NVME_PROFILE_VHOST passes on, and the I/O commands of its version. */
static bool row_vhost(const struct nvme_row *row)
{
	if (!row->admin)
		return row->opcode < NVME_IO_VERIFY;
	switch (row->opcode) {
	case NVME_ADMIN_DELETE_SQ:
	case NVME_ADMIN_CREATE_SQ:
	case NVME_ADMIN_DELETE_CQ:
	case NVME_ADMIN_CREATE_CQ:
	case NVME_ADMIN_IDENTIFY:
	case NVME_ADMIN_ABORT:
	case NVME_ADMIN_SET_FEATURES:
	case NVME_ADMIN_GET_FEATURES:
	case NVME_ADMIN_DOORBELL_BUFFER_CONFIG:
		return true;
	default:
		return false;
	}
}

bool nvme_row_offered(const struct nvme_ctrl *ctrl, const struct nvme_row *row)
{
	if (ctrl->params.profile == NVME_PROFILE_VHOST)
		return row_vhost(row);
	if (!row->admin)
		return true;
	switch (row->opcode) {
	case NVME_ADMIN_DOORBELL_BUFFER_CONFIG:
		return !ctrl->params.doorbells_polled;
	case NVME_ADMIN_NS_MANAGEMENT:
	case NVME_ADMIN_NS_ATTACHMENT:
		return nvme_pool_offered(&ctrl->subsys->pool);
	case NVME_ADMIN_SANITIZE:
		return nvme_sanitize_cap(ctrl->subsys);
	default:
		return true;
	}
}

void nvme_ctrl_rows_init(struct nvme_ctrl *ctrl)
{
	for (uint32_t i = 0; i < nvme_row_count; i++) {
		const struct nvme_row *row = &nvme_rows[i];

		if (row->admin)
			ctrl->admin_rows[row->opcode] = row;
		else if (nvme_row_offered(ctrl, row))
			ctrl->io_rows[row->opcode] = row;
	}
}

struct nvme_ctrl *nvme_cmd_ctrl(const struct nvme_cmd *c)
{
	return c->sq->cq->ctrl;
}

uint16_t nvme_cmd_sqid(const struct nvme_cmd *c)
{
	return c->sq->qid;
}

/* ---- the start of those that are not ordinary ---- */

enum nvme_status nvme_gate_status(const struct nvme_cmd *c, uint32_t gate)
{
	const struct nvme_ns *ns = c->nsq->ns;
	uint32_t closed = gate & c->row->flags;
	enum nvme_status status = NVME_SC_SUCCESS;

	if (gate & GATE_ANA)
		status = nvme_ana_status(nvme_cmd_ctrl(c));
	if (status == NVME_SC_SUCCESS && closed & CMD_MEDIUM)
		status = nvme_medium_status(ns);
	if (status == NVME_SC_SUCCESS && closed & (CMD_RESV_READ | CMD_RESV_WRITE))
		status = NVME_SC_RESERVATION_CONFLICT;
	if (status == NVME_SC_SUCCESS && closed & CMD_WRITES && nvme_ns_write_protected(ns))
		status = NVME_SC_NS_WRITE_PROTECTED;
	return status;
}

void nvme_cmd_start_gated(struct nvme_cmd *c, uint32_t gate)
{
	enum nvme_status status = nvme_gate_status(c, gate);

	if (status == NVME_SC_SUCCESS)
		c->row->run(c);
	else
		nvme_cmd_end(c, status);
}

/* Everything but what its row says of namespaces. */
static enum nvme_status cmd_check(const struct nvme_cmd *c)
{
	uint32_t psdt = c->sqe.flags >> NVME_SQE_PSDT_SHIFT;

	if (!c->row || (c->row->admin && !nvme_row_offered(nvme_cmd_ctrl(c), c->row)))
		return NVME_SC_INVALID_OPCODE;
	/* base 4.2: admin commands have PRPs here; 11b is reserved */
	if (psdt == 3 || (psdt && c->row->admin))
		return NVME_SC_INVALID_FIELD;
	return NVME_SC_SUCCESS;
}

/* The namespace of an I/O command; INVALID_NS: it has none. */
static enum nvme_status cmd_ns_find(struct nvme_cmd *c)
{
	if (!(c->row->flags & CMD_NS) || (c->nsid == NVME_NSID_ALL && c->row->flags & CMD_NS_ALL))
		return NVME_SC_SUCCESS;
	c->nsq = nvme_nsq_get(c->sq->cq, c->nsid);
	if (!c->nsq)
		return NVME_SC_INVALID_NS;
	return nvme_gate_status(c, atomic_load_explicit(&c->nsq->att->gate, memory_order_relaxed));
}

void nvme_cmd_start_slow(struct nvme_cmd *c)
{
	enum nvme_status status = cmd_check(c);

	if (status == NVME_SC_SUCCESS)
		status = cmd_ns_find(c);
	if (status != NVME_SC_SUCCESS) {
		nvme_cmd_end(c, status);
		return;
	}
	if (c->row->admin && c->row->opcode == NVME_ADMIN_AER)
		nvme_cmd_park(c);
	c->row->run(c);
}

static enum nvme_status fused_check(struct nvme_cmd *c, uint32_t role)
{
	enum nvme_status status = cmd_check(c);

	if (status == NVME_SC_SUCCESS && !(c->row->flags & role))
		status = NVME_SC_INVALID_FIELD;
	if (status == NVME_SC_SUCCESS)
		status = cmd_ns_find(c);
	return status;
}

/* base 6.1: what is wrong with one half ends the other one too. */
void nvme_cmd_start_fused(struct nvme_cmd *first, struct nvme_cmd *second)
{
	enum nvme_status a = fused_check(first, CMD_FUSE_FIRST);
	enum nvme_status b = fused_check(second, CMD_FUSE_SECOND);

	if (a == NVME_SC_SUCCESS && b == NVME_SC_SUCCESS && first->nsq != second->nsq)
		a = b = NVME_SC_INVALID_NS;
	if (a != NVME_SC_SUCCESS || b != NVME_SC_SUCCESS) {
		nvme_cmd_end(first, a != NVME_SC_SUCCESS ? a : NVME_SC_ABORTED_FAILED_FUSED);
		nvme_cmd_end(second, b != NVME_SC_SUCCESS ? b : NVME_SC_ABORTED_FAILED_FUSED);
		return;
	}
	first->fused = second;
	second->fused = first;
	first->row->run(first);
}

void nvme_cmd_park(struct nvme_cmd *c)
{
	if (c->extra & (NVME_CMD_PARKED | NVME_CMD_FRONT))
		return;
	c->extra |= NVME_CMD_PARKED;
	c->sq->parked++;
	c->sq->cq->credits++;
}

/* ---- main and back ---- */

static void cmd_msg_run(struct loop_msg *msg)
{
	struct nvme_cmd *c = container_of(msg, struct nvme_cmd, msg);

	c->pass(c);
}

static void cmd_post(struct nvme_cmd *c, struct loop *loop, void (*fn)(struct nvme_cmd *c))
{
	c->pass = fn;
	c->msg.fn = cmd_msg_run;
	loop_post(loop, &c->msg);
}

void nvme_cmd_to_main(struct nvme_cmd *c, void (*fn)(struct nvme_cmd *c))
{
	struct nvme_cq *cq = c->sq->cq;
	struct loop *main_loop = cq->ctrl->params.main_loop;

	if (cq->loop != main_loop)
		__atomic_store_n(&c->extra, c->extra | NVME_CMD_ON_MAIN, __ATOMIC_RELAXED);
	cmd_post(c, main_loop, fn);
}

void nvme_cmd_to_home(struct nvme_cmd *c, void (*fn)(struct nvme_cmd *c))
{
	__atomic_store_n(&c->extra, c->extra & (uint8_t)~NVME_CMD_ON_MAIN, __ATOMIC_RELAXED);
	cmd_post(c, c->sq->cq->loop, fn);
}

/* ---- the end of those that are not ordinary ---- */

static void cmd_end_home(struct nvme_cmd *c)
{
	nvme_cmd_end(c, (enum nvme_status)c->status);
}

/* The error log is for what surprises a host, not for what it asked for (base 5.14.1.1). */
static bool status_is_logged(enum nvme_status status)
{
	switch ((uint32_t)status) {
	case NVME_SC_SUCCESS:
	case NVME_SC_ABORT_REQUESTED:
	case NVME_SC_ABORTED_SQ_DELETION:
	case NVME_SC_ABORTED_FAILED_FUSED:
	case NVME_SC_ABORTED_PREEMPTED:
	case NVME_SC_COMPARE_FAILURE:
	case NVME_SC_AER_LIMIT:
		return false;
	default:
		return true;
	}
}

static void cmd_end_front(struct nvme_cmd *c)
{
	struct nvme_sq *sq = c->sq;
	uint16_t dnr = nvme_status_dnr((enum nvme_status)c->status) ? 1u << 15 : 0;
	struct nvme_cqe cqe = {
		.dw0 = le32(c->dw0),
		.dw1 = le32(c->dw1),
		.cid = le16(c->cid),
		.status = le16((uint16_t)(c->status << 1 | dnr)),
	};

	c->unusual = 0;
	c->busy = false;
	sq->outstanding--;
	nvme_ctrl_on_admin_done(nvme_cmd_ctrl(c), &cqe);
}

void nvme_cmd_end_slow(struct nvme_cmd *c)
{
	enum nvme_status status = (enum nvme_status)c->status;

	if (c->data_bits && nvme_data_is_here(c) && !nvme_data_end(c, status == NVME_SC_SUCCESS))
		return;
	if (c->extra & NVME_CMD_ON_MAIN) {
		nvme_cmd_to_home(c, cmd_end_home);
		return;
	}
	if (c->abort == NVME_ABORT_ASKED)
		c->status = c->abort_status;
	if (c->exclusive)
		nvme_fused_end(c, c->status == NVME_SC_SUCCESS);
	if (c->has_buf)
		nvme_cmd_scratch_free(c);
	if (c->abort != NVME_ABORT_DROP && status_is_logged((enum nvme_status)c->status))
		nvme_log_error(c, (uint16_t)(c->status << 1));
	if (c->extra & NVME_CMD_FRONT)
		cmd_end_front(c);
	else
		nvme_cmd_complete(c);
}

/* ---- for handlers ---- */

bool nvme_cmd_scratch(struct nvme_cmd *c, size_t len)
{
	struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);

	nvme_cmd_scratch_free(c);
	if (atomic_fetch_add(&ctrl->scratch_bytes, len) + len <= SCRATCH_BYTES_MAX)
		c->buf = calloc(1, len ? len : 1);
	if (!c->buf) {
		atomic_fetch_sub(&ctrl->scratch_bytes, len);
		nvme_cmd_end(c, NVME_SC_INTERNAL_ERROR);
		return false;
	}
	c->buf_bytes = len;
	c->has_buf = 1;
	return true;
}

void nvme_cmd_scratch_free(struct nvme_cmd *c)
{
	if (!c->has_buf)
		return;
	free(c->buf);
	c->buf = NULL;
	c->has_buf = 0;
	atomic_fetch_sub(&nvme_cmd_ctrl(c)->scratch_bytes, c->buf_bytes);
}

static void cmd_blk_done(struct blk_req *req)
{
	struct nvme_cmd *c = container_of(req, struct nvme_cmd, blk);

	c->blk_next(c, (enum blk_status)req->status);
}

void nvme_cmd_blk(struct nvme_cmd *c, enum blk_op op, uint8_t flags, uint64_t offset_bytes,
		  uint64_t len_bytes, struct iovec *iov, uint32_t iov_count,
		  void (*blk_next)(struct nvme_cmd *c, enum blk_status status))
{
	c->blk.op = (uint8_t)op;
	c->blk.flags = flags;
	c->blk.iov = iov;
	c->blk.iov_count = iov_count;
	c->blk.offset_bytes = offset_bytes;
	c->blk.len_bytes = len_bytes;
	c->blk.done = cmd_blk_done;
	c->blk_next = blk_next;
	blk_submit(c->nsq->way.chan, &c->blk);
	if (unlikely(c->abort)) /* its next step, which nobody wants */
		blk_cancel(&c->blk);
}
