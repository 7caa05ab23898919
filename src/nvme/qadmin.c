/*
 * Admin commands for queues (base 5.1 and 5.3 to 5.6): Create and Delete, and Abort.
 *
 * A queue is in queues.cq[] or sq[] from the command that creates it to the end of the one that
 * deletes it; while one is under way its identifier is taken, and not yet, or no more, one that can
 * be deleted. The front-end of NVME_PROFILE_VHOST may create a queue twice: after an unclean
 * restart of the guest nothing else tells its queues apart. A command that could create the new one
 * then deletes the old one first, a completion queue with the submission queues on it.
 */
#include <stdlib.h>

#include "loop/placement.h"
#include "nvme/nvme_impl.h"

#define QFLAG_PC  (1u << 0) /* physically contiguous: CAP.CQR */
#define QFLAG_IEN (1u << 1)

/* Fields that the two Create commands share. */
struct create {
	uint16_t qid, size0; /* entries - 1 */
	uint32_t cdw11;
	uint64_t base;
};

static enum nvme_status create_read(const struct nvme_cmd *c, struct create *ret)
{
	const struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);

	*ret = (struct create){ .qid = (uint16_t)nvme_cdw10(c),
				.size0 = (uint16_t)(nvme_cdw10(c) >> 16),
				.cdw11 = nvme_cdw11(c),
				.base = le64_get(c->sqe.prp1) };
	if (!ret->qid || ret->qid > ctrl->params.num_queues)
		return NVME_SC_INVALID_QID;
	if (!ret->size0 || ret->size0 >= ctrl->params.queue_size_max)
		return NVME_SC_INVALID_QUEUE_SIZE;
	if (NVME_CC_IOSQES(ctrl->cc) != NVME_SQE_SHIFT ||
	    NVME_CC_IOCQES(ctrl->cc) != NVME_CQE_SHIFT)
		return NVME_SC_INVALID_QUEUE_SIZE;
	if (!(ret->cdw11 & QFLAG_PC))
		return NVME_SC_INVALID_FIELD;
	if (ret->base % NVME_PAGE_BYTES)
		return NVME_SC_INVALID_PRP_OFFSET;
	return nvme_ctrl_is_running(ctrl) ? NVME_SC_SUCCESS : NVME_SC_SEQUENCE_ERROR;
}

static bool replaces(const struct nvme_cmd *c)
{
	return nvme_cmd_ctrl(c)->params.profile == NVME_PROFILE_VHOST;
}

/* ---- completion queues ---- */

static bool cq_is_settled(const struct nvme_cq *cq)
{
	return cq && !cq->starting && !cq->stopping;
}

/* Submission queues that are on it go with it: nvme_cq_on_stopped. */
static void cq_delete_start(struct nvme_cq *cq, struct nvme_cmd *by)
{
	/* There its vector is its own, and the front-end gives the next one an eventfd anew. */
	if (replaces(by))
		nvme_ctrl_vector_fd_set(cq->ctrl, cq->vector, -1);
	cq->by = by;
	nvme_cq_stop(cq);
}

static enum nvme_status cq_make(struct nvme_cmd *c, const struct create *a)
{
	struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	struct loop *loop = nvme_steer_place(ctrl, a->qid);
	struct nvme_cq *cq = nvme_cq_new(ctrl, a->qid, a->size0 + 1u, a->base, loop);

	if (!cq) {
		placement_give(loop);
		return NVME_SC_INTERNAL_ERROR;
	}
	cq->has_loop = true;
	cq->vector = (uint16_t)(a->cdw11 >> 16);
	cq->ien = a->cdw11 & QFLAG_IEN;
	nvme_doorbell_zero(ctrl, a->qid, true);
	nvme_cq_bind(cq);
	if (!nvme_cq_is_bound(cq)) {
		nvme_cq_free(cq);
		return NVME_SC_INVALID_FIELD;
	}
	nvme_irq_setup(cq);
	cq->by = c;
	ctrl->queues.cq[a->qid] = cq;
	ctrl->queues.cq_count++;
	nvme_cq_start(cq);
	return NVME_SC_SUCCESS;
}

void nvme_create_cq(struct nvme_cmd *c)
{
	struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	struct create a;
	enum nvme_status status = create_read(c, &a);
	struct nvme_cq *old = status == NVME_SC_SUCCESS ? ctrl->queues.cq[a.qid] : NULL;

	if (status == NVME_SC_SUCCESS && a.cdw11 >> 16 >= ctrl->params.vectors)
		status = NVME_SC_INVALID_VECTOR;
	if (status == NVME_SC_SUCCESS && old) {
		if (replaces(c) && cq_is_settled(old)) {
			cq_delete_start(old, c);
			return;
		}
		status = NVME_SC_INVALID_QID;
	}
	if (status == NVME_SC_SUCCESS)
		status = cq_make(c, &a);
	if (status != NVME_SC_SUCCESS)
		nvme_cmd_end(c, status);
}

void nvme_cq_on_started(struct nvme_cq *cq)
{
	struct nvme_cmd *by = cq->by;

	cq->by = NULL;
	if (by)
		nvme_cmd_end(by, NVME_SC_SUCCESS);
}

static bool cq_has_sqs(const struct nvme_ctrl *ctrl, const struct nvme_cq *cq)
{
	for (uint32_t qid = 1; qid <= NVME_QPAIRS_MAX; qid++)
		if (ctrl->queues.sq[qid] && ctrl->queues.sq[qid]->cq == cq)
			return true;
	return false;
}

void nvme_delete_cq(struct nvme_cmd *c)
{
	struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	uint16_t qid = (uint16_t)nvme_cdw10(c);
	struct nvme_cq *cq = qid && qid <= NVME_QPAIRS_MAX ? ctrl->queues.cq[qid] : NULL;

	if (!cq_is_settled(cq))
		nvme_cmd_end(c, NVME_SC_INVALID_QID);
	else if (cq_has_sqs(ctrl, cq))
		nvme_cmd_end(c, NVME_SC_INVALID_QUEUE_DELETION);
	else
		cq_delete_start(cq, c);
}

void nvme_cq_delete_done(struct nvme_cmd *by)
{
	if (by->row->opcode == NVME_ADMIN_CREATE_CQ)
		nvme_create_cq(by);
	else
		nvme_cmd_end(by, NVME_SC_SUCCESS);
}

/* ---- submission queues ---- */

static enum nvme_status sq_make(struct nvme_cmd *c, const struct create *a, struct nvme_cq *cq)
{
	struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	struct nvme_sq *sq = nvme_sq_new(cq, a->qid, a->size0 + 1u, a->base);

	if (!sq)
		return NVME_SC_INTERNAL_ERROR;
	nvme_doorbell_zero(ctrl, a->qid, false);
	nvme_sq_bind(sq);
	if (!nvme_sq_is_bound(sq)) {
		nvme_sq_free(sq);
		return NVME_SC_INVALID_FIELD;
	}
	sq->by = c;
	ctrl->queues.sq[a->qid] = sq;
	nvme_sq_add(sq);
	return NVME_SC_SUCCESS;
}

static void sq_delete_start(struct nvme_sq *sq, struct nvme_cmd *by)
{
	sq->by = by;
	nvme_sq_delete(sq);
}

static bool sq_is_settled(const struct nvme_sq *sq)
{
	return sq && !sq->adding && !sq->leaving && !sq->cq->stopping;
}

void nvme_create_sq(struct nvme_cmd *c)
{
	struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	struct create a;
	enum nvme_status status = create_read(c, &a);
	struct nvme_sq *old = status == NVME_SC_SUCCESS ? ctrl->queues.sq[a.qid] : NULL;
	uint32_t cqid = a.cdw11 >> 16;
	struct nvme_cq *cq = NULL;

	if (status == NVME_SC_SUCCESS) {
		/* CQ identifiers that cannot be are told from those that are not there (5.4) */
		if (!cqid || cqid > ctrl->params.num_queues)
			status = NVME_SC_INVALID_QID;
		else if (cq = ctrl->queues.cq[cqid], !cq_is_settled(cq))
			status = NVME_SC_INVALID_CQ;
	}
	if (status == NVME_SC_SUCCESS && old) {
		if (replaces(c) && sq_is_settled(old)) {
			sq_delete_start(old, c);
			return;
		}
		status = NVME_SC_INVALID_QID;
	}
	if (status == NVME_SC_SUCCESS)
		status = sq_make(c, &a, cq);
	if (status != NVME_SC_SUCCESS)
		nvme_cmd_end(c, status);
}

void nvme_sq_on_added(struct nvme_sq *sq)
{
	struct nvme_cmd *by = sq->by;

	sq->by = NULL;
	nvme_cmd_end(by, NVME_SC_SUCCESS);
}

void nvme_delete_sq(struct nvme_cmd *c)
{
	struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	uint16_t qid = (uint16_t)nvme_cdw10(c);
	struct nvme_sq *sq = qid && qid <= NVME_QPAIRS_MAX ? ctrl->queues.sq[qid] : NULL;

	if (sq_is_settled(sq))
		sq_delete_start(sq, c);
	else
		nvme_cmd_end(c, NVME_SC_INVALID_QID);
}

void nvme_sq_on_deleted(struct nvme_sq *sq)
{
	struct nvme_cmd *by = sq->by;

	sq->cq->ctrl->queues.sq[sq->qid] = NULL;
	nvme_sq_free(sq);
	if (by->row->opcode == NVME_ADMIN_CREATE_SQ)
		nvme_create_sq(by);
	else
		nvme_cmd_end(by, NVME_SC_SUCCESS);
}

/* ---- Abort ---- */

#define ABORT_NOT_DONE 1u /* dword 0, bit 0 */

struct abort {
	struct nvme_sweep sweep;
	struct nvme_cmd *by;
};

static void abort_end(struct nvme_cmd *c, bool aborted)
{
	nvme_cmd_ctrl(c)->queues.aborts--;
	c->dw0 = aborted ? 0 : ABORT_NOT_DONE;
	nvme_cmd_end(c, NVME_SC_SUCCESS);
}

static void abort_swept(struct nvme_sweep *s)
{
	struct abort *a = container_of(s, struct abort, sweep);
	struct nvme_cmd *c = a->by;
	bool found = atomic_load(&s->found);

	free(a);
	abort_end(c, found);
}

/* Its completion comes after that of the command that it aborted (base 5.1). */
void nvme_abort(struct nvme_cmd *c)
{
	struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	uint16_t sqid = (uint16_t)nvme_cdw10(c), cid = (uint16_t)(nvme_cdw10(c) >> 16);
	struct abort *a;

	if (ctrl->queues.aborts >= NVME_ABORT_MAX) {
		nvme_cmd_end(c, NVME_SC_ABORT_LIMIT);
		return;
	}
	if (sqid > NVME_QPAIRS_MAX || !ctrl->queues.sq[sqid]) {
		c->dw0 = ABORT_NOT_DONE;
		nvme_cmd_end(c, NVME_SC_INVALID_FIELD);
		return;
	}
	ctrl->queues.aborts++;
	if (!sqid && nvme_aen_abort(ctrl, cid)) {
		abort_end(c, true);
		return;
	}
	a = calloc(1, sizeof(*a));
	if (a) {
		a->by = c;
		a->sweep = (struct nvme_sweep){ .action = NVME_SWEEP_ABORT,
						.subsys = ctrl->subsys,
						.ctrl = ctrl,
						.has_id = true,
						.sqid = sqid,
						.cid = cid,
						.but = c,
						.abort_status = NVME_SC_ABORT_REQUESTED,
						.done = abort_swept };
		if (nvme_sweep_start(&a->sweep) == 0)
			return;
		free(a);
	}
	abort_end(c, false);
}
