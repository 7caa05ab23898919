/* Queues from when main makes them to when it frees them: see queue.h. */
#include <stdlib.h>
#include <sys/mman.h>

#include "blk/tally.h"
#include "loop/placement.h"
#include "nvme/nvme_impl.h"
#include "nvme/ring_remote.h"

static void cq_msgs_init(struct nvme_cq *cq);
static void sq_msgs_init(struct nvme_sq *sq);

/* ---- memory ---- */

struct nvme_cq *nvme_cq_new(struct nvme_ctrl *ctrl, uint16_t qid, uint32_t size, uint64_t base,
			    struct loop *loop)
{
	struct nvme_cq *cq = calloc(1, sizeof(*cq));

	if (!cq)
		return NULL;
	cq->nsqs = calloc(NVME_NSID_MAX + 1, sizeof(*cq->nsqs));
	cq->tally = blk_tally_new(ctrl->params.name, qid);
	if (!cq->nsqs || !cq->tally) {
		blk_tally_free(cq->tally);
		free(cq->nsqs);
		free(cq);
		return NULL;
	}
	cq->ctrl = ctrl;
	cq->qid = qid;
	cq->size = size;
	cq->base = base;
	cq->loop = loop;
	cq->phase = 1;
	cq->credits = size - 1;
	cq->rows = qid ? ctrl->io_rows : ctrl->admin_rows;
	list_init(&cq->sqs);
	list_init(&cq->stuck);
	list_init(&cq->parts);
	nvme_mem_init(&cq->mem, ctrl, loop);
	nvme_irq_init(cq);
	cq_msgs_init(cq);
	nvme_steer_init(cq);
	nvme_cq_loop_init(cq);
	return cq;
}

void nvme_cq_free(struct nvme_cq *cq)
{
	if (!cq)
		return;
	ASSERT(list_empty(&cq->sqs) && list_empty(&cq->parts) && !cq->refs);
	nvme_irq_fini(cq);
	if (cq->has_loop)
		placement_give(cq->loop);
	nvme_ring_remote_free(cq->remote);
	blk_tally_free(cq->tally);
	free(cq->nsqs);
	free(cq);
}

void nvme_cq_unref(struct nvme_cq *cq)
{
	if (!--cq->refs && cq->dead)
		nvme_cq_free(cq);
}

/* Zeroed pages that cost nothing until touched. */
static void *pages_new(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

struct nvme_sq *nvme_sq_new(struct nvme_cq *cq, uint16_t qid, uint32_t size, uint64_t base)
{
	struct nvme_sq *sq = calloc(1, sizeof(*sq));

	if (!sq)
		return NULL;
	sq->slot_count = MIN(size, (uint32_t)NVME_SLOTS_MAX);
	sq->slots_bytes = sq->slot_count * sizeof(*sq->slots);
	sq->slots = pages_new(sq->slots_bytes);
	if (!sq->slots) {
		free(sq);
		return NULL;
	}
	sq->cq = cq;
	sq->qid = qid;
	sq->size = size;
	sq->base = base;
	list_init(&sq->node);
	sq_msgs_init(sq);
	return sq;
}

void nvme_sq_free(struct nvme_sq *sq)
{
	if (!sq)
		return;
	ASSERT(!sq->outstanding);
	nvme_ring_remote_free(sq->remote);
	munmap(sq->slots, sq->slots_bytes);
	free(sq);
}

/* ---- rings ---- */

void nvme_sq_bind(struct nvme_sq *sq)
{
	struct nvme_ctrl *ctrl = sq->cq->ctrl;
	const uint32_t *word = nvme_doorbell_word(ctrl, sq->qid, false);

	sq->ring = ctrl->readable ? gmem_gpa_to_host(ctrl->readable, gpa(sq->base),
						     (uint64_t)sq->size * sizeof(*sq->ring))
				  : NULL;
	sq->event_word = nvme_doorbell_event_word(ctrl, sq->qid, false);
	if (!sq->ring || sq->remote) {
		const uint32_t *remote = nvme_sq_remote_bind(sq, word);

		word = remote ? remote : word;
	}
	if (sq->ring && word && !sq->deleting) {
		sq->tail_word = word;
		return;
	}
	sq->frozen = htole32(sq->head);
	sq->tail = sq->head;
	sq->tail_word = &sq->frozen;
	sq->event_word = NULL;
}

void nvme_cq_bind(struct nvme_cq *cq)
{
	struct nvme_ctrl *ctrl = cq->ctrl;

	nvme_mem_maps_set(&cq->mem, ctrl->readable, ctrl->writable, ctrl->dirty);
	cq->ring = ctrl->writable ? gmem_gpa_to_host(ctrl->writable, gpa(cq->base),
						     (uint64_t)cq->size * sizeof(*cq->ring))
				  : NULL;
	nvme_cq_remote_bind(cq);
	cq->head_word = nvme_doorbell_word(ctrl, cq->qid, true);
	cq->event_word = nvme_doorbell_event_word(ctrl, cq->qid, true);
	if (cq->ring && cq->head_word)
		cq->gate &= ~CQ_NO_RING;
	else
		cq->gate |= CQ_NO_RING;
}

bool nvme_cq_is_bound(const struct nvme_cq *cq)
{
	return !(cq->gate & CQ_NO_RING);
}

bool nvme_sq_is_bound(const struct nvme_sq *sq)
{
	return sq->tail_word != &sq->frozen;
}

/* ---- namespaces ---- */

/* Whole regions: the memory stays as long as the queue runs, and is given up when it is quiet. */
static void nsq_buffers_set(struct nvme_cq *cq, struct nvme_nsq *nsq)
{
	struct iovec regions[GMEM_REGIONS_MAX];
	const struct gmem *map = cq->mem.to_guest.map;
	uint32_t count = map ? gmem_regions(map, regions, GMEM_REGIONS_MAX) : 0;
	struct err err = { 0 };

	if (blk_chan_buffers_set(nsq->way.base, regions, count, &err) < 0)
		log_notice("guest-buffers: %s; going on without", err.msg);
}

static void cq_buffers_set(struct nvme_cq *cq, bool on)
{
	for (uint32_t nsid = 1; nsid <= NVME_NSID_MAX; nsid++) {
		struct err err = { 0 };

		if (!cq->nsqs[nsid])
			continue;
		if (on)
			nsq_buffers_set(cq, cq->nsqs[nsid]);
		else
			blk_chan_buffers_set(cq->nsqs[nsid]->way.base, NULL, 0, &err);
	}
}

struct nvme_nsq *nvme_nsq_get(struct nvme_cq *cq, uint32_t nsid)
{
	struct nvme_ctrl *ctrl = cq->ctrl;
	struct nvme_att *att;
	struct nvme_nsq *nsq;
	struct err err;

	if (!nsid || nsid > NVME_NSID_MAX)
		return NULL;
	if (cq->nsqs[nsid])
		return cq->nsqs[nsid];
	pthread_mutex_lock(&ctrl->lock);
	att = ctrl->atts[nsid];
	pthread_mutex_unlock(&ctrl->lock);
	nsq = att ? calloc(1, sizeof(*nsq)) : NULL;
	if (!nsq)
		return NULL;
	nsq->att = att;
	nsq->ns = att->ns;
	nsq->caps = att->ns->caps;
	nsq->block_shift = att->ns->block_shift;
	if (blk_way_open(&nsq->way, att->ns->dev, cq->loop, ctrl->params.limits, &err) < 0) {
		free(nsq);
		return NULL;
	}
	blk_way_tally(&nsq->way, cq->tally);
	nsq_buffers_set(cq, nsq);
	cq->nsqs[nsid] = nsq;
	return nsq;
}

void nvme_nsq_close(struct nvme_nsq *nsq)
{
	blk_way_close(&nsq->way);
	free(nsq);
}

static void cq_hurry(struct nvme_cq *cq, bool on)
{
	for (uint32_t nsid = 1; nsid <= NVME_NSID_MAX; nsid++)
		if (cq->nsqs[nsid])
			blk_way_hurry(&cq->nsqs[nsid]->way, on);
}

void nvme_cq_limits_gate(struct nvme_cq *cq)
{
	cq_hurry(cq, cq->gate & CQ_HOLD);
}

void nvme_nsqs_close(struct nvme_cq *cq)
{
	for (uint32_t nsid = 1; nsid <= NVME_NSID_MAX; nsid++) {
		if (cq->nsqs[nsid])
			nvme_nsq_close(cq->nsqs[nsid]);
		cq->nsqs[nsid] = NULL;
	}
}

/* ---- the loop's side: ends ---- */

static bool cq_is_drained(const struct nvme_cq *cq, bool parked_too)
{
	const struct nvme_sq *sq;

	if (nvme_ring_remote_any_busy(cq))
		return false;
	list_for_each(sq, &cq->sqs, node)
		if (sq->outstanding != (parked_too ? 0 : sq->parked))
			return false;
	return true;
}

static void cq_bell_idle(struct nvme_cq *cq)
{
	struct list *node;

	nvme_nsqs_close(cq);
	nvme_mem_fini(&cq->mem);
	while ((node = list_pop(&cq->sqs)))
		; /* main has them all in queues.sq[] */
	loop_post(cq->ctrl->params.main_loop, &cq->stop_done_msg);
}

bool nvme_cq_settle(struct nvme_cq *cq)
{
	struct loop *main_loop = cq->ctrl->params.main_loop;
	struct nvme_sq *sq, *next;
	bool deleting = false, drained;

	if (cq->unpublished || cq->bell_stopped)
		return cq->bell_stopped;
	list_for_each_safe(sq, next, &cq->sqs, node) {
		if (sq->deleting && !sq->outstanding && !nvme_ring_remote_is_busy(sq->remote)) {
			list_remove(&sq->node);
			loop_post(main_loop, &sq->done_msg);
		} else if (sq->deleting) {
			deleting = true;
		}
	}
	/* In the next phase "done": come back after it. */
	if (cq->mem.work_queued || cq->settle_queued) {
		if (!cq->settle_queued)
			loop_defer(cq->loop, &cq->settle_work);
		cq->settle_queued = true;
		return false;
	}
	drained = cq_is_drained(cq, false);
	if (cq->quiet_wanted && drained) {
		cq->quiet_wanted = false;
		cq_buffers_set(cq, false);
		loop_post(main_loop, &cq->quiet_done_msg);
	}
	cq->settle = deleting || cq->quiet_wanted || cq->gate & CQ_STOPPING;
	if (nvme_steer_settle(cq, drained))
		return true;
	if (!(cq->gate & CQ_STOPPING) || !cq->source_stopped || !cq_is_drained(cq, true))
		return false;
	cq->bell_stopped = true;
	nvme_irq_stop(cq, cq_bell_idle);
	return true;
}

static void cq_settle_work(struct loop_work *work)
{
	struct nvme_cq *cq = container_of(work, struct nvme_cq, settle_work);

	cq->settle_queued = false;
	nvme_cq_settle(cq);
}

/* ---- the loop's side: messages ---- */

static void cq_run_start(struct loop_msg *msg)
{
	struct nvme_cq *cq = container_of(msg, struct nvme_cq, msg);

	nvme_ring_remote_gate(cq);
	loop_source_start(cq->loop, &cq->source);
	nvme_irq_start(cq);
	loop_post(cq->ctrl->params.main_loop, &cq->done_msg);
}

static void cq_on_source_stopped(struct loop_source *source)
{
	struct nvme_cq *cq = container_of(source, struct nvme_cq, source);

	cq->source_stopped = true;
	nvme_cq_settle(cq);
}

void nvme_cq_source_stop(struct nvme_cq *cq)
{
	loop_source_stop(&cq->source, cq_on_source_stopped);
}

void nvme_sq_drop(struct nvme_sq *sq)
{
	for (uint32_t i = 0; i < sq->slots_used; i++) {
		struct nvme_cmd *c = &sq->slots[i];

		if (!c->busy)
			continue;
		__atomic_store_n(&c->abort, NVME_ABORT_DROP, __ATOMIC_RELAXED);
		blk_cancel(&c->blk);
	}
}

static void cq_drop(struct nvme_cq *cq)
{
	struct nvme_sq *sq;
	struct list *node;

	list_for_each(sq, &cq->sqs, node) {
		nvme_sq_drop(sq);
		sq->frozen = htole32(sq->head);
		sq->tail_word = &sq->frozen;
		sq->event_word = NULL;
	}
	while ((node = list_pop(&cq->stuck)))
		nvme_cmd_complete(list_entry(node, struct nvme_cmd, wait_node));
	if (cq->qid)
		return;
	nvme_aen_reset(cq->ctrl);
	list_for_each(sq, &cq->sqs, node)
		for (uint32_t i = 0; i < sq->slots_used; i++)
			if (sq->slots[i].busy && sq->slots[i].extra & NVME_CMD_PARKED)
				nvme_cmd_complete(&sq->slots[i]);
}

static void cq_run_stop(struct loop_msg *msg)
{
	struct nvme_cq *cq = container_of(msg, struct nvme_cq, stop_msg);

	cq->gate |= CQ_STOPPING;
	cq->settle = true;
	nvme_ring_remote_unwait(cq);
	nvme_cq_source_stop(cq);
	cq_drop(cq);
}

static void cq_run_quiesce(struct loop_msg *msg)
{
	struct nvme_cq *cq = container_of(msg, struct nvme_cq, quiet_msg);

	cq->gate |= CQ_QUIET;
	cq->quiet_wanted = cq->settle = true;
	nvme_cq_limits_gate(cq);
	nvme_ring_remote_unwait(cq);
	nvme_cq_settle(cq);
}

static void cq_run_resume(struct loop_msg *msg)
{
	struct nvme_cq *cq = container_of(msg, struct nvme_cq, resume_msg);

	cq->gate &= ~CQ_QUIET;
	nvme_cq_limits_gate(cq);
	nvme_ring_remote_gate(cq);
	cq_buffers_set(cq, true);
	if (unlikely(cq->irq.untold))
		nvme_irq_resumed(cq);
	loop_source_wake(&cq->source);
}

static void cq_run_wake(struct loop_msg *msg)
{
	struct nvme_cq *cq = container_of(msg, struct nvme_cq, wake_msg);

	/* Before the look: a word written after it is told of again. */
	atomic_store(&cq->wake_posted, false);
	cq->counts.wakes++;
	loop_source_wake(&cq->source);
}

static void sq_run_add(struct loop_msg *msg)
{
	struct nvme_sq *sq = container_of(msg, struct nvme_sq, msg);

	list_append(&sq->cq->sqs, &sq->node);
	nvme_ring_remote_gate(sq->cq);
	loop_source_wake(&sq->cq->source);
	loop_post(sq->cq->ctrl->params.main_loop, &sq->done_msg);
}

static void sq_run_delete(struct loop_msg *msg)
{
	struct nvme_sq *sq = container_of(msg, struct nvme_sq, msg);

	sq->deleting = true;
	sq->frozen = htole32(sq->head);
	sq->tail = sq->head;
	sq->tail_word = &sq->frozen;
	sq->event_word = NULL;
	sq->cq->settle = true;
	cq_hurry(sq->cq, true);
	nvme_cq_limits_gate(sq->cq);
	nvme_cq_settle(sq->cq);
}

/* What is looked at for the bind is main's, and is not written while this is under way. */
static void cq_run_bind(struct loop_msg *msg)
{
	struct nvme_cq *cq = container_of(msg, struct nvme_cq, bind_msg);
	struct nvme_sq *sq;

	if (!(cq->gate & CQ_STOPPING)) {
		cq->head_word = nvme_doorbell_word(cq->ctrl, cq->qid, true);
		cq->event_word = nvme_doorbell_event_word(cq->ctrl, cq->qid, true);
		list_for_each(sq, &cq->sqs, node) {
			if (nvme_sq_is_remote(sq))
				nvme_sq_remote_doorbell(
					sq, nvme_doorbell_word(cq->ctrl, sq->qid, false));
			else
				nvme_sq_bind(sq);
		}
		loop_source_wake(&cq->source);
	}
	loop_post(cq->ctrl->params.main_loop, &cq->bind_done_msg);
}

/* ---- main's side ---- */

void nvme_cq_post(struct nvme_cq *cq, struct loop_msg *msg)
{
	if (cq->steer.state == NVME_STEER_LEAVING)
		mpsc_push(&cq->steer.kept, &msg->node);
	else
		loop_post(cq->loop, msg);
}

static void cq_done_started(struct loop_msg *msg)
{
	struct nvme_cq *cq = container_of(msg, struct nvme_cq, done_msg);

	cq->starting = false;
	nvme_cq_on_started(cq);
}

static void cq_done_stopped(struct loop_msg *msg)
{
	nvme_cq_on_stopped(container_of(msg, struct nvme_cq, stop_done_msg));
}

static void cq_done_quiet(struct loop_msg *msg)
{
	nvme_cq_on_quiet(container_of(msg, struct nvme_cq, quiet_done_msg));
}

static void sq_done_added(struct loop_msg *msg)
{
	struct nvme_sq *sq = container_of(msg, struct nvme_sq, done_msg);

	sq->adding = false;
	nvme_sq_on_added(sq);
}

static void sq_done_deleted(struct loop_msg *msg)
{
	nvme_sq_on_deleted(container_of(msg, struct nvme_sq, done_msg));
}

static void rebind_ended(struct nvme_ctrl *ctrl)
{
	if (!--ctrl->queues.rebind.left)
		ctrl->queues.rebind.then(ctrl->queues.rebind.by);
}

static void cq_done_bind(struct loop_msg *msg)
{
	rebind_ended(container_of(msg, struct nvme_cq, bind_done_msg)->ctrl);
}

void nvme_cqs_rebind(struct nvme_ctrl *ctrl, struct nvme_cmd *c, void (*then)(struct nvme_cmd *c))
{
	struct nvme_queues *q = &ctrl->queues;

	q->rebind.by = c;
	q->rebind.then = then;
	q->rebind.left = 1;
	for (uint32_t qid = 1; qid <= NVME_QPAIRS_MAX; qid++) {
		if (!q->cq[qid] || q->cq[qid]->stopping)
			continue;
		q->rebind.left++;
		nvme_cq_post(q->cq[qid], &q->cq[qid]->bind_msg);
	}
	rebind_ended(ctrl);
}

static void cq_msgs_init(struct nvme_cq *cq)
{
	cq->bind_msg.fn = cq_run_bind;
	cq->bind_done_msg.fn = cq_done_bind;
	cq->quiet_done_msg.fn = cq_done_quiet;
	cq->wake_msg.fn = cq_run_wake;
	cq->settle_work.fn = cq_settle_work;
	nvme_cq_lie_init(cq);
}

static void sq_msgs_init(struct nvme_sq *sq)
{
	nvme_sq_lie_init(sq);
}

void nvme_cq_start(struct nvme_cq *cq)
{
	if (cq->ctrl->quiet)
		cq->gate |= CQ_QUIET;
	nvme_steer_start(cq);
	cq->starting = true;
	cq->msg.fn = cq_run_start;
	cq->done_msg.fn = cq_done_started;
	loop_post(cq->loop, &cq->msg);
}

void nvme_cq_stop(struct nvme_cq *cq)
{
	ASSERT(!cq->stopping);
	cq->stopping = true;
	cq->ctrl->queues.stopping++;
	cq->stop_msg.fn = cq_run_stop;
	cq->stop_done_msg.fn = cq_done_stopped;
	nvme_cq_post(cq, &cq->stop_msg);
}

void nvme_cq_quiesce(struct nvme_cq *cq)
{
	cq->quiet_msg.fn = cq_run_quiesce;
	nvme_cq_post(cq, &cq->quiet_msg);
}

void nvme_cq_resume(struct nvme_cq *cq)
{
	/* A message of its own: the next quiesce may be asked for before this has run. */
	cq->resume_msg.fn = cq_run_resume;
	nvme_cq_post(cq, &cq->resume_msg);
}

void nvme_cq_wake(struct nvme_cq *cq)
{
	if (cq->stopping)
		return;
	if (!cq->qid && !cq->starting)
		loop_source_wake(&cq->source);
	else if (!atomic_exchange(&cq->wake_posted, true))
		nvme_cq_post(cq, &cq->wake_msg); /* behind a start */
}

void nvme_sq_add(struct nvme_sq *sq)
{
	sq->adding = true;
	sq->msg.fn = sq_run_add;
	sq->done_msg.fn = sq_done_added;
	nvme_cq_post(sq->cq, &sq->msg);
}

void nvme_sq_delete(struct nvme_sq *sq)
{
	sq->leaving = true;
	sq->msg.fn = sq_run_delete;
	sq->done_msg.fn = sq_done_deleted;
	nvme_cq_post(sq->cq, &sq->msg);
}
