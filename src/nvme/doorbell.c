/*
 * Doorbells: the page of words, and shadow doorbells (base 5.7, B.5).
 *
 * A doorbell is a word in memory. The guest writes it itself, into a page that it has mapped or
 * into a shadow page of its own; or the front does it for the guest, and then tells us. Queue q has
 * its tail in word 2q and the head of its completion queue in 2q + 1. The admin queue never uses
 * shadow doorbells.
 *
 * Shadow pages are guest memory: they are looked up anew when that changes, and while they are gone
 * the queues stand still.
 */
#include <errno.h>
#include <stdlib.h>

#include "nvme/nvme_impl.h"

#define WORDS (NVME_DOORBELLS_BYTES / 4)

/* nvme_event: error information (base 5.2, figure of error events) */
enum {
	ERROR_INVALID_DOORBELL = 0x00,
	ERROR_INVALID_DOORBELL_VALUE = 0x01,
};
#define LOG_ERROR_PAGE 0x01

static uint32_t word_idx(uint16_t qid, bool is_cq)
{
	return 2u * qid + is_cq;
}

const uint32_t *nvme_doorbell_word(const struct nvme_ctrl *ctrl, uint16_t qid, bool is_cq)
{
	const struct nvme_queues *q = &ctrl->queues;

	if (!qid || !q->dbbuf.on)
		return q->doorbells ? &q->doorbells[word_idx(qid, is_cq)] : NULL;
	return q->dbbuf.shadow && q->dbbuf.event ? &q->dbbuf.shadow[word_idx(qid, is_cq)] : NULL;
}

uint32_t *nvme_doorbell_event_word(const struct nvme_ctrl *ctrl, uint16_t qid, bool is_cq)
{
	const struct nvme_dbbuf *d = &ctrl->queues.dbbuf;

	return qid && d->on && d->shadow && d->event ? &d->event[word_idx(qid, is_cq)] : NULL;
}

static void shadow_set(struct nvme_ctrl *ctrl, uint32_t idx, uint32_t value)
{
	struct nvme_dbbuf *d = &ctrl->queues.dbbuf;

	if (!d->on || !d->shadow || !d->event)
		return;
	__atomic_store_n(&d->shadow[idx], value, __ATOMIC_RELAXED);
	__atomic_store_n(&d->event[idx], 0, __ATOMIC_RELAXED);
	if (!ctrl->dirty)
		return;
	gdirty_mark(ctrl->dirty, gpa(d->shadow_base), NVME_PAGE_BYTES);
	gdirty_mark(ctrl->dirty, gpa(d->event_base), NVME_PAGE_BYTES);
}

void nvme_doorbell_zero(struct nvme_ctrl *ctrl, uint16_t qid, bool is_cq)
{
	uint32_t idx = word_idx(qid, is_cq);

	if (ctrl->queues.doorbells)
		__atomic_store_n(&ctrl->queues.doorbells[idx], 0, __ATOMIC_RELAXED);
	/* Linux of old leaves what an earlier queue of this number wrote. */
	if (qid)
		shadow_set(ctrl, idx, 0);
}

void nvme_doorbells_clear(struct nvme_ctrl *ctrl)
{
	for (uint32_t i = 0; i < WORDS && ctrl->queues.doorbells; i++)
		__atomic_store_n(&ctrl->queues.doorbells[i], 0, __ATOMIC_RELAXED);
}

int nvme_doorbells_init(struct nvme_ctrl *ctrl)
{
	struct nvme_queues *q = &ctrl->queues;

	/* Also where a page may come later, or go: queues are made before shadow doorbells are. */
	q->own_doorbells = calloc(WORDS, sizeof(*q->own_doorbells));
	q->doorbells = ctrl->params.doorbells ? ctrl->params.doorbells : q->own_doorbells;
	return q->own_doorbells ? 0 : -ENOMEM;
}

void nvme_ctrl_doorbells_set(struct nvme_ctrl *ctrl, uint32_t *doorbells)
{
	ctrl->params.doorbells = doorbells;
	ctrl->queues.doorbells = doorbells ? doorbells : ctrl->queues.own_doorbells;
	ctrl->queues.doorbells_live = doorbells;
	nvme_ctrl_bind(ctrl);
}

/* ---- writes that reach us ---- */

void nvme_doorbell_write(struct nvme_ctrl *ctrl, uint32_t idx, uint32_t value)
{
	struct nvme_queues *q = &ctrl->queues;
	uint32_t qid = idx / 2;
	struct nvme_cq *cq = NULL;

	if (idx >= WORDS || !q->doorbells || !nvme_ctrl_is_running(ctrl))
		return;
	if (qid <= NVME_QPAIRS_MAX) {
		if (idx % 2)
			cq = q->cq[qid];
		else if (q->sq[qid])
			cq = q->sq[qid]->cq;
	}
	if (!cq) {
		nvme_event(ctrl, NVME_EVENT_ERROR, ERROR_INVALID_DOORBELL, LOG_ERROR_PAGE);
		return;
	}
	__atomic_store_n(&q->doorbells[idx], htole32(value), __ATOMIC_RELEASE);
	nvme_cq_wake(cq);
}

/* ---- values out of range ---- */

static void lie_event(struct nvme_ctrl *ctrl)
{
	nvme_event(ctrl, NVME_EVENT_ERROR, ERROR_INVALID_DOORBELL_VALUE, LOG_ERROR_PAGE);
}

static void sq_lie_main(struct loop_msg *msg)
{
	struct nvme_sq *sq = container_of(msg, struct nvme_sq, lie_msg);

	atomic_store(&sq->lie_posted, false);
	lie_event(sq->cq->ctrl);
}

static void cq_lie_main(struct loop_msg *msg)
{
	struct nvme_cq *cq = container_of(msg, struct nvme_cq, lie_msg);

	atomic_store(&cq->lie_posted, false);
	lie_event(cq->ctrl);
}

void nvme_sq_lie_init(struct nvme_sq *sq)
{
	sq->lie_msg.fn = sq_lie_main;
}

void nvme_cq_lie_init(struct nvme_cq *cq)
{
	cq->lie_msg.fn = cq_lie_main;
}

void nvme_sq_lie(struct nvme_sq *sq, uint32_t tail)
{
	if (sq->lie == tail)
		return;
	sq->lie = tail;
	if (!atomic_exchange(&sq->lie_posted, true))
		loop_post(sq->cq->ctrl->params.main_loop, &sq->lie_msg);
}

void nvme_cq_lie(struct nvme_cq *cq, uint32_t head)
{
	if (cq->lie == head)
		return;
	cq->lie = head;
	if (!atomic_exchange(&cq->lie_posted, true))
		loop_post(cq->ctrl->params.main_loop, &cq->lie_msg);
}

/* ---- Doorbell Buffer Config ---- */

void nvme_dbbuf_bind(struct nvme_ctrl *ctrl)
{
	struct nvme_dbbuf *d = &ctrl->queues.dbbuf;

	d->shadow = d->event = NULL;
	if (!d->on || !ctrl->writable)
		return;
	d->shadow = gmem_gpa_to_host(ctrl->writable, gpa(d->shadow_base), NVME_PAGE_BYTES);
	d->event = gmem_gpa_to_host(ctrl->writable, gpa(d->event_base), NVME_PAGE_BYTES);
}

void nvme_dbbuf_drop(struct nvme_ctrl *ctrl)
{
	ctrl->queues.dbbuf = (struct nvme_dbbuf){ 0 };
}

static bool dbbuf_map(struct nvme_ctrl *ctrl, uint64_t shadow, uint64_t event)
{
	struct nvme_dbbuf *d = &ctrl->queues.dbbuf;
	struct nvme_dbbuf old = *d;

	*d = (struct nvme_dbbuf){ .on = true, .shadow_base = shadow, .event_base = event };
	nvme_dbbuf_bind(ctrl);
	if (d->shadow && d->event)
		return true;
	*d = old;
	return false;
}

/* Queues that are there go on from where they are: the guest has told it by the old doorbells. */
static void dbbuf_fill(struct nvme_ctrl *ctrl)
{
	const struct nvme_queues *q = &ctrl->queues;

	for (uint32_t idx = 0; idx < WORDS; idx++)
		shadow_set(ctrl, idx, 0);
	for (uint32_t qid = 1; qid <= NVME_QPAIRS_MAX; qid++) {
		uint32_t at = word_idx((uint16_t)qid, false);

		if (q->sq[qid] && q->doorbells)
			shadow_set(ctrl, at, __atomic_load_n(&q->doorbells[at], __ATOMIC_RELAXED));
		if (q->cq[qid] && q->doorbells)
			shadow_set(ctrl, at + 1,
				   __atomic_load_n(&q->doorbells[at + 1], __ATOMIC_RELAXED));
	}
}

static void dbbuf_bound(struct nvme_cmd *c)
{
	nvme_cmd_end(c, NVME_SC_SUCCESS);
}

void nvme_doorbell_buffer_config(struct nvme_cmd *c)
{
	struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	uint64_t shadow = le64_get(c->sqe.prp1), event = le64_get(c->sqe.prp2);

	if (ctrl->queues.rebind.left) /* one is under way */
		nvme_cmd_end(c, NVME_SC_SEQUENCE_ERROR);
	else if (shadow % NVME_PAGE_BYTES || event % NVME_PAGE_BYTES)
		nvme_cmd_end(c, NVME_SC_INVALID_PRP_OFFSET);
	else if (shadow == event || !dbbuf_map(ctrl, shadow, event))
		nvme_cmd_end(c, NVME_SC_INVALID_FIELD);
	else {
		dbbuf_fill(ctrl);
		nvme_cqs_rebind(ctrl, c, dbbuf_bound);
	}
}
