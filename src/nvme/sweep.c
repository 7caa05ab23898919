/*
 * Sweeps over the commands of all queues of a subsystem.
 *
 * A part goes to each completion queue. It counts the commands that match and were there when it
 * ran, and is done when these have ended; they are told from later ones by the queue's epoch, so a
 * stream of new commands does not keep a sweep waiting. Main keeps the queues until the sweep's
 * end, also those that are stopped meanwhile: their last commands are waited for like all others.
 */
#include <errno.h>
#include <stdlib.h>

#include "nvme/nvme_impl.h"

struct nvme_sweep_part {
	struct loop_msg msg;
	struct list node; /* cq->parts */
	struct nvme_sweep *sweep;
	struct nvme_cq *cq;
	struct nvme_nsq *nsq; /* DROP: out of nsqs, to be closed */
	uint64_t epoch;	      /* commands that it waits for have an older one */
	uint32_t count;
};

static bool sweep_matches(const struct nvme_sweep *s, const struct nvme_cmd *c)
{
	if (c == s->but || (s->ctrl && nvme_cmd_ctrl(c) != s->ctrl))
		return false;
	if (s->ns && (!c->nsq || c->nsq->ns != s->ns))
		return false;
	if (s->row_flags && !(c->row && c->row->flags & s->row_flags))
		return false;
	if (!s->has_id)
		return true;
	/* Two Abort commands that name each other would wait for each other. */
	return c->sq->qid == s->sqid && c->cid == s->cid && !(c->row && c->row->run == nvme_abort);
}

static void sweep_finish(struct loop_msg *msg)
{
	struct nvme_sweep *s = container_of(msg, struct nvme_sweep, msg);

	for (uint32_t i = 0; i < s->part_count; i++)
		nvme_cq_unref(s->parts[i].cq);
	free(s->parts);
	s->parts = NULL;
	s->done(s);
}

static void sweep_part_ended(struct nvme_sweep *s)
{
	if (atomic_fetch_sub(&s->pending, 1) != 1)
		return;
	s->msg.fn = sweep_finish;
	if (likely(s->main_loop))
		loop_post(s->main_loop, &s->msg);
	else /* no loop and no controller: nothing to wait for */
		sweep_finish(&s->msg);
}

static void part_done(struct nvme_sweep_part *p)
{
	if (p->nsq)
		nvme_nsq_close(p->nsq);
	sweep_part_ended(p->sweep);
}

static void cmd_abort(const struct nvme_sweep *s, struct nvme_cmd *c)
{
	if (c->abort)
		return;
	__atomic_store_n(&c->abort_status, (uint16_t)s->abort_status, __ATOMIC_RELAXED);
	__atomic_store_n(&c->abort, NVME_ABORT_ASKED, __ATOMIC_RELAXED);
	if (c->row && c->row->run == nvme_aer) /* which came after the Abort had looked for it */
		nvme_aen_abort_cmd(c);
	else
		blk_cancel(&c->blk);
}

static void part_sq(struct nvme_sweep_part *p, struct nvme_sq *sq)
{
	struct nvme_sweep *s = p->sweep;

	for (uint32_t i = 0; i < sq->slots_used; i++) {
		struct nvme_cmd *c = &sq->slots[i];

		if (!c->busy || __atomic_load_n(&c->extra, __ATOMIC_RELAXED) & NVME_CMD_STUCK ||
		    !sweep_matches(s, c))
			continue;
		atomic_fetch_add_explicit(&s->found, 1, memory_order_relaxed);
		__atomic_store_n(&c->swept, true, __ATOMIC_RELAXED);
		p->count++;
	}
}

static void part_run(struct loop_msg *msg)
{
	struct nvme_sweep_part *p = container_of(msg, struct nvme_sweep_part, msg);
	struct nvme_sweep *s = p->sweep;
	struct nvme_cq *cq = p->cq;
	struct nvme_sq *sq, *next;

	p->epoch = ++cq->epoch;
	list_for_each(sq, &cq->sqs, node)
		part_sq(p, sq);
	if (s->action == NVME_SWEEP_DROP && (!s->ctrl || cq->ctrl == s->ctrl)) {
		p->nsq = cq->nsqs[s->ns->nsid];
		cq->nsqs[s->ns->nsid] = NULL;
	}
	if (!p->count) {
		part_done(p);
		return;
	}
	list_append(&cq->parts, &p->node);
	if (s->action != NVME_SWEEP_ABORT)
		return;
	/* A cancel may end the command at once, and with the last one the part. */
	p->count++;
	list_for_each_safe(sq, next, &cq->sqs, node)
		for (uint32_t i = 0; i < sq->slots_used; i++)
			if (sq->slots[i].swept && sq->slots[i].epoch < p->epoch &&
			    sweep_matches(s, &sq->slots[i]))
				cmd_abort(s, &sq->slots[i]);
	if (!--p->count) {
		list_remove(&p->node);
		part_done(p);
	}
}

void nvme_sweep_cmd_ended(struct nvme_cmd *c)
{
	struct nvme_cq *cq = c->sq->cq;
	struct nvme_sweep_part *p, *next;

	list_for_each_safe(p, next, &cq->parts, node) {
		if (c->epoch >= p->epoch || !sweep_matches(p->sweep, c) || --p->count)
			continue;
		list_remove(&p->node);
		part_done(p);
	}
}

static uint32_t sweep_queues(struct nvme_sweep *s, struct nvme_sweep_part *parts)
{
	struct nvme_ctrl *ctrl;
	uint32_t n = 0;

	list_for_each(ctrl, &s->subsys->ctrls, node) {
		if (s->ctrl && ctrl != s->ctrl)
			continue;
		s->main_loop = ctrl->params.main_loop;
		for (uint32_t qid = 0; qid <= NVME_QPAIRS_MAX; qid++) {
			struct nvme_cq *cq = ctrl->queues.cq[qid];

			if (!cq)
				continue;
			if (parts)
				parts[n] = (struct nvme_sweep_part){ .msg.fn = part_run,
								     .sweep = s,
								     .cq = cq };
			n++;
		}
	}
	return n;
}

int nvme_sweep_start(struct nvme_sweep *s)
{
	uint32_t n;

	atomic_store(&s->found, 0);
	s->main_loop = loop_current(); /* of a subsystem without controllers */
	n = sweep_queues(s, NULL);
	s->parts = calloc(n + 1, sizeof(*s->parts));
	if (!s->parts)
		return -ENOMEM;
	s->part_count = n;
	sweep_queues(s, s->parts);
	/* One for ourselves, so that it ends after the last post whatever the parts do. */
	atomic_store(&s->pending, n + 1);
	for (uint32_t i = 0; i < n; i++)
		s->parts[i].cq->refs++;
	for (uint32_t i = 0; i < n; i++)
		nvme_cq_post(s->parts[i].cq, &s->parts[i].msg);
	sweep_part_ended(s);
	return 0;
}
