/*
 * Management's hand on I/O queues: drained, and moved to another loop. See enum nvme_steer_state.
 *
 * A drained queue fetches nothing; what the guest submits stays in its rings, and completions that
 * it has not taken stay in theirs. Doorbells need no care: they are words that say where the guest
 * is, wherever they are, and are looked at when the queue goes on.
 *
 * To move is to drain, to let the old loop go of the queue (its source, channels and interrupt) and
 * to start it on the new one. All that main posts to a queue goes by nvme_cq_post, which keeps it
 * while the queue is between two loops: so what was posted before runs on the old loop, before the
 * queue leaves it, and the rest on the new one, behind the arrival. Nobody else posts to a queue
 * without commands under way.
 */
#include <errno.h>

#include "loop/placement.h"
#include "nvme/nvme_impl.h"

static struct nvme_cq *cq_of(struct nvme_steer *s)
{
	return container_of(s, struct nvme_cq, steer);
}

/* ---- on the queue's loop ---- */

static void steer_left(struct nvme_cq *cq)
{
	nvme_nsqs_close(cq);
	loop_post(cq->ctrl->params.main_loop, &cq->steer.done_msg);
}

bool nvme_steer_settle(struct nvme_cq *cq, bool drained)
{
	struct nvme_steer *s = &cq->steer;

	if (s->drain_wanted && drained) {
		s->drain_wanted = false;
		loop_post(cq->ctrl->params.main_loop, &s->done_msg);
	}
	if (s->leave_wanted && cq->source_stopped && drained) {
		cq->bell_stopped = true;
		nvme_irq_leave(cq, steer_left);
		return true;
	}
	cq->settle |= s->drain_wanted || s->leave_wanted;
	return false;
}

static void steer_run_drain(struct loop_msg *msg)
{
	struct nvme_cq *cq = cq_of(container_of(msg, struct nvme_steer, msg));

	cq->gate |= CQ_DRAINED;
	nvme_cq_limits_gate(cq);
	cq->steer.drain_wanted = cq->settle = true;
	nvme_cq_settle(cq);
}

static void steer_run_release(struct loop_msg *msg)
{
	struct nvme_cq *cq = cq_of(container_of(msg, struct nvme_steer, release_msg));

	cq->gate &= ~CQ_DRAINED;
	nvme_cq_limits_gate(cq);
	cq->steer.drain_wanted = false;
	loop_source_wake(&cq->source);
	loop_post(cq->ctrl->params.main_loop, &cq->steer.release_done_msg);
}

static void steer_run_leave(struct loop_msg *msg)
{
	struct nvme_cq *cq = cq_of(container_of(msg, struct nvme_steer, msg));

	cq->steer.leave_wanted = cq->settle = true;
	nvme_cq_source_stop(cq);
}

static void steer_run_arrive(struct loop_msg *msg)
{
	struct nvme_cq *cq = cq_of(container_of(msg, struct nvme_steer, msg));

	cq->steer.leave_wanted = cq->source_stopped = cq->bell_stopped = cq->settle = false;
	loop_source_start(cq->loop, &cq->source);
	nvme_irq_start(cq);
}

/* ---- main ---- */

static void steer_post(struct nvme_cq *cq, enum nvme_steer_state state,
		       void (*fn)(struct loop_msg *msg))
{
	cq->steer.msg.fn = fn;
	nvme_cq_post(cq, &cq->steer.msg);
	cq->steer.state = state;
}

static void steer_release(struct nvme_cq *cq)
{
	nvme_cq_post(cq, &cq->steer.release_msg);
	cq->steer.state = NVME_STEER_RELEASING;
}

/* The next step to where management wants the queue; its answer comes here again. */
static void steer_step(struct nvme_cq *cq)
{
	bool drain = cq->ctrl->queues.drained || cq->steer.to;

	if (cq->stopping)
		return;
	switch (cq->steer.state) {
	case NVME_STEER_RUNS:
		if (drain)
			steer_post(cq, NVME_STEER_DRAINING, steer_run_drain);
		break;
	case NVME_STEER_DRAINING:
		if (!drain)
			steer_release(cq);
		break;
	case NVME_STEER_DRAINED:
		if (cq->steer.to)
			steer_post(cq, NVME_STEER_LEAVING, steer_run_leave);
		else if (!drain)
			steer_release(cq);
		break;
	case NVME_STEER_RELEASING:
	case NVME_STEER_LEAVING:
		break;
	}
}

/* No loop has it now. */
static void steer_arrive(struct nvme_cq *cq)
{
	struct nvme_steer *s = &cq->steer;
	struct mpsc_node *node;

	placement_give(cq->loop);
	cq->loop = placement_take(&s->to, 1);
	cq->mem.loop = cq->loop;
	s->to = NULL;
	s->msg.fn = steer_run_arrive;
	loop_post(cq->loop, &s->msg);
	while ((node = mpsc_pop(&s->kept)))
		loop_post(cq->loop, container_of(node, struct loop_msg, node));
	s->state = NVME_STEER_DRAINED;
}

static void steer_on_done(struct loop_msg *msg)
{
	struct nvme_cq *cq = cq_of(container_of(msg, struct nvme_steer, done_msg));

	if (cq->steer.state == NVME_STEER_LEAVING)
		steer_arrive(cq);
	else if (cq->steer.state == NVME_STEER_DRAINING)
		cq->steer.state = NVME_STEER_DRAINED;
	/* else it was called off */
	steer_step(cq);
}

static void steer_on_released(struct loop_msg *msg)
{
	struct nvme_cq *cq = cq_of(container_of(msg, struct nvme_steer, release_done_msg));

	cq->steer.state = NVME_STEER_RUNS;
	steer_step(cq);
}

void nvme_steer_init(struct nvme_cq *cq)
{
	struct nvme_steer *s = &cq->steer;

	mpsc_init(&s->kept);
	s->done_msg.fn = steer_on_done;
	s->release_msg.fn = steer_run_release;
	s->release_done_msg.fn = steer_on_released;
}

void nvme_steer_start(struct nvme_cq *cq)
{
	if (!cq->qid || !cq->ctrl->queues.drained)
		return;
	cq->gate |= CQ_DRAINED;
	cq->steer.state = NVME_STEER_DRAINED;
}

struct loop *nvme_steer_place(const struct nvme_ctrl *ctrl, uint16_t qid)
{
	const struct nvme_ctrl_params *p = &ctrl->params;
	struct loop *const *place = &ctrl->queues.place[qid];

	return *place ? placement_take(place, 1) : placement_take(p->loops, p->loop_count);
}

void nvme_ctrl_drain(struct nvme_ctrl *ctrl, bool drained)
{
	ctrl->queues.drained = drained;
	for (uint32_t qid = 1; qid <= NVME_QPAIRS_MAX; qid++)
		if (ctrl->queues.cq[qid])
			steer_step(ctrl->queues.cq[qid]);
}

int nvme_ctrl_queue_move(struct nvme_ctrl *ctrl, uint32_t qid, struct loop *loop,
			 struct err *reterr)
{
	struct nvme_cq *cq;
	bool leaving;

	if (!qid || qid > ctrl->params.num_queues)
		return err_set(
			reterr, -ERANGE,
			"queue: expected 1..%u, the identifier of a completion queue, got %u",
			ctrl->params.num_queues, qid);
	ctrl->queues.place[qid] = loop;
	cq = ctrl->queues.cq[qid];
	if (!cq)
		return 0;
	leaving = cq->steer.state == NVME_STEER_LEAVING; /* it arrives somewhere */
	cq->steer.to = loop == cq->loop && !leaving ? NULL : loop;
	steer_step(cq);
	return 0;
}
