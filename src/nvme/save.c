/* Saving a controller: see save.h. */
#include "nvme/save.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nvme/ring_remote.h"

/* ---- bytes ---- */

static void xfer_words(struct xfer *x, void *words, size_t bytes)
{
	uint64_t *v = words;

	for (size_t i = 0; i < bytes / sizeof(*v); i++) {
		struct le64 wire = le64(v[i]);

		if ((size_t)(x->end - x->at) < sizeof(wire)) {
			x->failed = true;
			return;
		}
		if (x->reading) {
			memcpy(&wire, x->at, sizeof(wire));
			v[i] = le64_get(wire);
		} else {
			memcpy(x->at, &wire, sizeof(wire));
		}
		x->at += sizeof(wire);
	}
}

static bool xfer_counts_ok(const struct saved *s)
{
	return s->aer_count <= ARRAY_SIZE(s->aer) && s->cq_count <= ARRAY_SIZE(s->cq) &&
	       s->sq_count <= ARRAY_SIZE(s->sq) && s->error_count <= ARRAY_SIZE(s->error) &&
	       s->resv_count <= ARRAY_SIZE(s->resv) && s->att_count <= ARRAY_SIZE(s->att) &&
	       s->cqe_count <= SAVED_CQES_MAX;
}

/* The arrays at the end are as long as the counts in front of them say. */
void saved_xfer(struct xfer *x, struct saved *s)
{
	xfer_words(x, s, offsetof(struct saved, aer));
	if (x->failed || !xfer_counts_ok(s)) {
		x->failed = true;
		return;
	}
	if (x->reading)
		s->cqe = calloc(s->cqe_count + 1, sizeof(*s->cqe));
	if (!s->cqe) {
		x->failed = true;
		return;
	}
	xfer_words(x, s->aer, s->aer_count * sizeof(s->aer[0]));
	xfer_words(x, s->cq, s->cq_count * sizeof(s->cq[0]));
	xfer_words(x, s->sq, s->sq_count * sizeof(s->sq[0]));
	xfer_words(x, s->error, s->error_count * sizeof(s->error[0]));
	xfer_words(x, s->resv, s->resv_count * sizeof(s->resv[0]));
	xfer_words(x, s->att, s->att_count * sizeof(s->att[0]));
	xfer_words(x, s->cqe, s->cqe_count * sizeof(s->cqe[0]));
}

void saved_free(struct saved *s)
{
	if (s)
		free(s->cqe);
	free(s);
}

/* ---- saving ---- */

static void save_features(struct saved *s, const struct nvme_ctrl *ctrl)
{
	const struct nvme_features *f = &ctrl->features;

	s->write_through = atomic_load_explicit(&ctrl->write_through, memory_order_relaxed);
	for (size_t i = 0; i < ARRAY_SIZE(f->value); i++)
		s->value[i] = f->value[i];
	s->under_temperature_k = f->under_temperature_k;
	memcpy(s->coalescing_disable, f->coalescing_disable, sizeof(s->coalescing_disable));
	memcpy(s->host_id, f->host_id, sizeof(s->host_id));
	s->host_id_extended = f->host_id_extended;
	/* what the guest would read now: the other machine's clock is another one */
	s->timestamp_ms = loop_clock_ns() / 1000000 + (uint64_t)f->timestamp_offset_ms;
	s->timestamp_set = f->timestamp_set;
}

static void save_aen(struct saved *s, const struct nvme_ctrl *ctrl)
{
	const struct nvme_aen *aen = &ctrl->aen;
	const struct nvme_cq *cq = ctrl->queues.cq[0];
	struct nvme_cmd *c;

	s->masked = aen->masked;
	for (size_t i = 0; i < NVME_EVENT_TYPES; i++)
		s->masked_log[i] = aen->masked_log[i];
	s->pending_count = aen->pending_count;
	for (size_t i = 0; i < aen->pending_count; i++)
		s->pending[i] = aen->pending[i];
	if (!cq)
		return;
	list_for_each(c, &cq->stuck, wait_node) {
		if (s->aer_count == NVME_AER_MAX)
			return;
		s->aer[s->aer_count++] = (struct saved_aer){
			.cid = c->cid, .done = 1, .status = c->status & 0x7ff, .dw0 = c->dw0
		};
	}
	for (size_t i = 0; i < aen->waiting_count && s->aer_count < NVME_AER_MAX; i++)
		s->aer[s->aer_count++] = (struct saved_aer){ .cid = aen->waiting[i]->cid };
}

static uint64_t doorbell_value(const struct nvme_ctrl *ctrl, uint32_t idx)
{
	const uint32_t *page = ctrl->queues.doorbells;

	return page ? le32toh(__atomic_load_n(&page[idx], __ATOMIC_RELAXED)) : 0;
}

static void save_queues(struct saved *s, const struct nvme_ctrl *ctrl)
{
	for (uint32_t qid = 0; qid <= NVME_QPAIRS_MAX; qid++) {
		const struct nvme_cq *cq = ctrl->queues.cq[qid];
		const struct nvme_sq *sq = ctrl->queues.sq[qid];

		if (cq)
			s->cq[s->cq_count++] =
				(struct saved_cq){ .qid = qid,
						   .size = cq->size,
						   .base = cq->base,
						   .vector = cq->vector,
						   .ien = cq->ien,
						   .head = cq->head,
						   .tail = cq->tail,
						   .phase = cq->phase,
						   .word = doorbell_value(ctrl, 2 * qid + 1),
						   .unwritten = nvme_cq_unwritten(cq) };
		if (sq)
			s->sq[s->sq_count++] =
				(struct saved_sq){ .qid = qid,
						   .cqid = sq->cq->qid,
						   .size = sq->size,
						   .base = sq->base,
						   .head = sq->head,
						   .word = doorbell_value(ctrl, 2 * qid) };
	}
}

static void save_logs(struct saved *s, struct nvme_ctrl *ctrl)
{
	const struct nvme_resv_log *resv = &ctrl->resv_log;
	const struct nvme_logs *logs = &ctrl->logs;

	pthread_mutex_lock(&ctrl->lock);
	s->error_total = logs->error_count;
	s->error_count = MIN(logs->error_count, (uint64_t)NVME_ERROR_ENTRIES);
	for (uint64_t i = 0; i < s->error_count; i++) {
		const struct nvme_error_entry *e =
			&logs->errors[(s->error_total - s->error_count + i) % NVME_ERROR_ENTRIES];

		s->error[i] = (struct saved_error){ .count = e->count,
						    .lba = e->lba,
						    .sqid = e->sqid,
						    .cid = e->cid,
						    .status = e->status,
						    .location = e->location,
						    .nsid = e->nsid };
	}
	pthread_mutex_unlock(&ctrl->lock);
	memcpy(s->changed_ns, logs->changed_ns, sizeof(s->changed_ns));
	s->ana_changes = logs->ana_changes;
	s->critical_warning = logs->critical_warning;
	s->resv_total = resv->count;
	for (uint32_t i = 0; i < resv->unread; i++) {
		uint32_t at = (resv->first + i) % NVME_RESV_LOG_MAX;

		s->resv[s->resv_count++] =
			(struct saved_resv_event){ .count = resv->entries[at].count,
						   .nsid = resv->entries[at].nsid,
						   .event = resv->entries[at].event };
	}
}

static void save_atts(struct saved *s, const struct nvme_ctrl *ctrl)
{
	for (uint32_t nsid = 1; nsid <= NVME_NSID_MAX; nsid++) {
		const struct nvme_att *att = nvme_att_find(ctrl, nsid);

		if (att && (att->resv_mask || att->tler))
			s->att[s->att_count++] = (struct saved_att){ .nsid = nsid,
								     .resv_mask = att->resv_mask,
								     .tler = att->tler };
	}
}

/* -ENOMEM, -ENOSPC. */
static int save_cqes(struct saved *s, const struct nvme_ctrl *ctrl)
{
	struct saved_cqe *to;

	for (uint64_t i = 0; i < s->cq_count; i++)
		s->cqe_count += s->cq[i].unwritten;
	if (s->cqe_count > SAVED_CQES_MAX)
		return -ENOSPC;
	to = s->cqe = calloc(s->cqe_count + 1, sizeof(*s->cqe));
	if (!to)
		return -ENOMEM;
	for (uint64_t i = 0; i < s->cq_count; i++)
		for (uint32_t n = 0; n < s->cq[i].unwritten; n++, to++) {
			memcpy(to, nvme_cq_unwritten_at(ctrl->queues.cq[s->cq[i].qid], n),
			       sizeof(*to));
			to->word[0] = le64toh(to->word[0]);
			to->word[1] = le64toh(to->word[1]);
		}
	return 0;
}

bool nvme_ctrl_is_saveable(const struct nvme_ctrl *ctrl)
{
	return ctrl->state != NVME_ENABLING && ctrl->state != NVME_RESETTING &&
	       !(ctrl->state == NVME_DISABLED && ctrl->queues.cq_count);
}

static void save_registers(struct saved *s, const struct nvme_ctrl *ctrl)
{
	s->magic = SAVE_MAGIC;
	s->version = SAVE_VERSION;
	s->profile = ctrl->params.profile;
	s->num_queues = ctrl->params.num_queues;
	s->queue_size_max = ctrl->params.queue_size_max;
	s->vectors = ctrl->params.vectors;
	s->cntlid = ctrl->cntlid;
	s->state = ctrl->state;
	s->cc = ctrl->cc;
	s->csts = ctrl->csts;
	s->aqa = ctrl->aqa;
	s->asq = ctrl->asq;
	s->acq = ctrl->acq;
	s->intm = ctrl->intm;
	s->nssro = ctrl->nssro;
	s->dbbuf_on = ctrl->queues.dbbuf.on;
	s->shadow_base = ctrl->queues.dbbuf.shadow_base;
	s->event_base = ctrl->queues.dbbuf.event_base;
}

int nvme_ctrl_save(struct nvme_ctrl *ctrl, void **ret_bytes, size_t *ret_len)
{
	struct saved *s = calloc(1, sizeof(*s));
	struct xfer x = { 0 };
	uint8_t *bytes = NULL;
	size_t room;
	int rc = s ? 0 : -ENOMEM;

	if (rc == 0) {
		save_registers(s, ctrl);
		save_features(s, ctrl);
		save_aen(s, ctrl);
		save_queues(s, ctrl);
		save_logs(s, ctrl);
		save_atts(s, ctrl);
		rc = save_cqes(s, ctrl);
	}
	if (rc == 0) {
		room = sizeof(*s) + s->cqe_count * sizeof(*s->cqe);
		bytes = malloc(room);
		rc = bytes ? 0 : -ENOMEM;
	}
	if (rc == 0) {
		x = (struct xfer){ .at = bytes, .end = bytes + room };
		saved_xfer(&x, s);
		ASSERT(!x.failed);
		*ret_bytes = bytes;
		*ret_len = (size_t)(x.at - bytes);
	}
	saved_free(s);
	return rc;
}
