/* What is told of queues: see loop/queue_stats.h. Thread: main. */
#include <string.h>

#include "nvme/nvme_impl.h"

static uint64_t cmd_fetched_ns(const struct nvme_cmd *c)
{
	/* What is parked waits for an event, and not for us. */
	if (!__atomic_load_n(&c->busy, __ATOMIC_ACQUIRE) || c->extra & NVME_CMD_PARKED)
		return 0;
	return __atomic_load_n(&c->fetched_ns, __ATOMIC_RELAXED);
}

static uint64_t sq_oldest(const struct nvme_sq *sq)
{
	/* A slot that was just taken still has its last time: the one found is looked at again. */
	for (int tries = 0; tries < 4; tries++) {
		const struct nvme_cmd *oldest = NULL;
		uint64_t oldest_ns = 0;

		for (uint32_t i = 0; i < sq->slots_used && sq->outstanding; i++) {
			uint64_t ns = cmd_fetched_ns(&sq->slots[i]);

			if (ns && (!oldest || ns < oldest_ns)) {
				oldest = &sq->slots[i];
				oldest_ns = ns;
			}
		}
		if (!oldest)
			return 0;
		if (cmd_fetched_ns(oldest) == oldest_ns)
			return oldest_ns;
	}
	return 0;
}

/* Main has the submission queues, and frees none that the loop uses: they are there, too. */
static void cq_in_flight(const struct nvme_cq *cq, struct queue_stats *s)
{
	uint64_t oldest_ns = 0;

	for (uint32_t qid = 0; qid <= NVME_QPAIRS_MAX; qid++) {
		const struct nvme_sq *sq = cq->ctrl->queues.sq[qid];
		uint32_t outstanding, parked;
		uint64_t ns;

		if (!sq || sq->cq != cq || sq->adding || sq->leaving)
			continue;
		outstanding = sq->outstanding;
		parked = sq->parked;
		s->in_flight += outstanding > parked ? outstanding - parked : 0;
		ns = sq_oldest(sq);
		if (ns && (!oldest_ns || ns < oldest_ns))
			oldest_ns = ns;
	}
	s->oldest_ns = queue_age_ns(oldest_ns);
}

void nvme_cq_stats(const struct nvme_cq *cq, struct queue_stats *s)
{
	const struct queue_counts *c = &cq->counts;

	*s = (struct queue_stats){ .idx = cq->qid, .kind = cq->qid ? "io" : "admin" };
	if (cq->starting || cq->stopping || cq->steer.state == NVME_STEER_LEAVING) {
		s->state = QUEUE_CHANGING;
		return;
	}
	s->state = cq->ctrl->quiet ? QUEUE_QUIET : QUEUE_RUNNING;
	if (cq->steer.state == NVME_STEER_DRAINED)
		s->state = QUEUE_DRAINED;
	s->loop = loop_name(cq->loop);
	s->size = cq->size;
	s->requests = c->completed;
	s->publishes = c->publishes;
	s->interrupts = c->interrupts;
	s->interrupts_suppressed = s->publishes > s->interrupts ? s->publishes - s->interrupts : 0;
	s->kicks = cq->source.kicks + c->wakes;
	s->kick_errors = cq->source.kick_errors;
	s->arms = cq->source.arms;
	memcpy(s->polls, c->polls, sizeof(s->polls));
	cq_in_flight(cq, s);
}

void nvme_ctrl_queues_visit(const struct nvme_ctrl *ctrl, const struct queue_visitor *v)
{
	for (uint32_t qid = 0; v->queue && qid <= NVME_QPAIRS_MAX; qid++) {
		struct queue_stats stats;

		if (!ctrl->queues.cq[qid])
			continue;
		nvme_cq_stats(ctrl->queues.cq[qid], &stats);
		stats.conn = v->conn_idx;
		v->queue(&stats, v->arg);
	}
}
