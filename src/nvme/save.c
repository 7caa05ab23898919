/*
 * A controller's state as bytes, for migration: what the guest can know of it.
 *
 * struct saved has all of it as plain numbers; saved_xfer passes over it field by field, to write
 * or to read, so that the two cannot differ. All fields are 8 bytes, little-endian. What is read
 * comes from outside: it is checked whole before anything of the controller changes.
 *
 * Queues are quiet, so that no command is under way but those that are parked: requests for events,
 * of which the identifiers are saved.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loop/placement.h"
#include "nvme/nvme_impl.h"

#define SAVE_MAGIC   0x4c5254434d564eull /* "NVMCTRL" */
#define SAVE_VERSION 1

struct saved_cq {
	uint64_t qid, size, base, vector, ien, head, tail, phase, word;
};

struct saved_sq {
	uint64_t qid, cqid, size, base, head, word;
};

/* A request for an event: with done, its completion waits for an entry of the queue. */
struct saved_aer {
	uint64_t cid, done, status, dw0;
};

struct saved {
	uint64_t magic, version;
	uint64_t profile, num_queues, queue_size_max, vectors;
	uint64_t state, cc, csts, aqa, asq, acq, intm, nssro;
	uint64_t dbbuf_on, shadow_base, event_base;
	uint64_t write_through, value[32], under_temperature_k;
	uint64_t coalescing_disable[NVME_VECTORS_MAX / 64];
	uint64_t host_id[2], host_id_extended, timestamp_ms, timestamp_set;
	uint64_t masked, masked_log[NVME_EVENT_TYPES];
	uint64_t pending_count, pending[NVME_EVENT_PENDING_MAX];
	uint64_t aer_count, cq_count, sq_count;
	struct saved_aer aer[NVME_AER_MAX];
	struct saved_cq cq[NVME_QPAIRS_MAX + 1];
	struct saved_sq sq[NVME_QPAIRS_MAX + 1];
};

/* ---- bytes ---- */

struct xfer {
	uint8_t *at, *end;
	bool reading, failed;
};

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

/* The arrays at the end are as long as the counts in front of them say. */
static void saved_xfer(struct xfer *x, struct saved *s)
{
	xfer_words(x, s, offsetof(struct saved, aer));
	if (s->aer_count > ARRAY_SIZE(s->aer) || s->cq_count > ARRAY_SIZE(s->cq) ||
	    s->sq_count > ARRAY_SIZE(s->sq)) {
		x->failed = true;
		return;
	}
	xfer_words(x, s->aer, s->aer_count * sizeof(s->aer[0]));
	xfer_words(x, s->cq, s->cq_count * sizeof(s->cq[0]));
	xfer_words(x, s->sq, s->sq_count * sizeof(s->sq[0]));
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
						   .word = doorbell_value(ctrl, 2 * qid + 1) };
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

int nvme_ctrl_save(const struct nvme_ctrl *ctrl, void **ret_bytes, size_t *ret_len)
{
	struct saved *s = calloc(1, sizeof(*s));
	struct xfer x = { .at = malloc(sizeof(*s)) };
	uint8_t *bytes = x.at;

	if (!s || !bytes) {
		free(s);
		free(bytes);
		return -ENOMEM;
	}
	s->magic = SAVE_MAGIC;
	s->version = SAVE_VERSION;
	s->profile = ctrl->params.profile;
	s->num_queues = ctrl->params.num_queues;
	s->queue_size_max = ctrl->params.queue_size_max;
	s->vectors = ctrl->params.vectors;
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
	save_features(s, ctrl);
	save_aen(s, ctrl);
	save_queues(s, ctrl);
	x.end = bytes + sizeof(*s);
	saved_xfer(&x, s);
	ASSERT(!x.failed);
	free(s);
	*ret_bytes = bytes;
	*ret_len = (size_t)(x.at - bytes);
	return 0;
}

/* ---- checking ---- */

struct check_row {
	const char *name;
	uint64_t value, min, max;
};

static int rows_check(const struct check_row *rows, size_t count, struct err *reterr)
{
	for (size_t i = 0; i < count; i++)
		if (rows[i].value < rows[i].min || rows[i].value > rows[i].max)
			return err_set(
				reterr, -EINVAL, "state: %s: expected %llu to %llu, got %llu",
				rows[i].name, (unsigned long long)rows[i].min,
				(unsigned long long)rows[i].max, (unsigned long long)rows[i].value);
	return 0;
}

static bool state_is_saved(uint64_t state)
{
	return state == NVME_DISABLED || state == NVME_READY || state == NVME_SHUTTING_DOWN ||
	       state == NVME_SHUTDOWN || state == NVME_FATAL;
}

static int check_head(const struct saved *s, const struct nvme_ctrl *ctrl, struct err *reterr)
{
	const struct nvme_ctrl_params *p = &ctrl->params;
	const struct check_row rows[] = {
		{ "format", s->magic, SAVE_MAGIC, SAVE_MAGIC },
		{ "version", s->version, SAVE_VERSION, SAVE_VERSION },
		{ "profile", s->profile, p->profile, p->profile },
		{ "queues", s->num_queues, p->num_queues, p->num_queues },
		{ "queue size", s->queue_size_max, p->queue_size_max, p->queue_size_max },
		{ "vectors", s->vectors, p->vectors, p->vectors },
		{ "CC", s->cc, 0, 0x00fffff1 },
		{ "CSTS", s->csts, 0, 0x0f },
		{ "AQA", s->aqa & ~0x0fff0fffull, 0, 0 },
		{ "ASQ", s->asq % NVME_PAGE_BYTES, 0, 0 },
		{ "ACQ", s->acq % NVME_PAGE_BYTES, 0, 0 },
		{ "INTMS", s->intm, 0, UINT32_MAX },
		{ "NSSRO", s->nssro, 0, 1 },
		{ "shadow doorbells", s->dbbuf_on, 0, 1 },
		{ "shadow doorbell address", s->shadow_base % NVME_PAGE_BYTES, 0, 0 },
		{ "EventIdx address", s->event_base % NVME_PAGE_BYTES, 0, 0 },
		{ "write cache", s->write_through, 0, 1 },
		{ "host identifier size", s->host_id_extended, 0, 1 },
		{ "timestamp origin", s->timestamp_set, 0, 1 },
		{ "masked events", s->masked, 0, (1u << NVME_EVENT_TYPES) - 1 },
		{ "waiting events", s->pending_count, 0, NVME_EVENT_PENDING_MAX },
		{ "completion queues", s->cq_count, 0, p->num_queues + 1u },
		{ "submission queues", s->sq_count, 0, p->num_queues + 1u },
	};
	int rc = rows_check(rows, ARRAY_SIZE(rows), reterr);

	if (rc == 0 && !state_is_saved(s->state))
		rc = err_set(reterr, -EINVAL, "state: controller state %llu: not one to be saved",
			     (unsigned long long)s->state);
	if (rc == 0 && s->state != NVME_READY && (s->cq_count || s->sq_count || s->aer_count))
		rc = err_set(reterr, -EINVAL, "state: queues of a controller that is %s",
			     nvme_state_name((enum nvme_state)s->state));
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(s->value); i++)
		if (s->value[i] > UINT32_MAX)
			rc = err_set(reterr, -EINVAL, "state: feature %02zxh: over 32 bits", i);
	return rc;
}

/* Queue identifiers rise, so that none comes twice. */
static int check_cqs(const struct saved *s, const struct nvme_ctrl *ctrl, struct err *reterr)
{
	const struct nvme_ctrl_params *p = &ctrl->params;
	uint64_t next = 0;
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < s->cq_count; i++) {
		const struct saved_cq *q = &s->cq[i];
		const uint64_t max = q->qid ? p->queue_size_max : 4096;
		const struct check_row rows[] = {
			{ "completion queue identifier", q->qid, next, p->num_queues },
			{ "completion queue size", q->size, 2, max },
			{ "completion queue address", q->base % NVME_PAGE_BYTES, 0, 0 },
			{ "completion queue vector", q->vector, 0, p->vectors - 1u },
			{ "completion queue interrupts", q->ien, 0, 1 },
			{ "completion queue head", q->head, 0, q->size - 1 },
			{ "completion queue tail", q->tail, 0, q->size - 1 },
			{ "completion queue phase", q->phase, 0, 1 },
			{ "completion queue doorbell", q->word, 0, UINT32_MAX },
		};

		rc = rows_check(rows, ARRAY_SIZE(rows), reterr);
		next = q->qid + 1;
	}
	return rc;
}

static const struct saved_cq *cq_of(const struct saved *s, uint64_t qid)
{
	for (uint64_t i = 0; i < s->cq_count; i++)
		if (s->cq[i].qid == qid)
			return &s->cq[i];
	return NULL;
}

static int check_sqs(const struct saved *s, const struct nvme_ctrl *ctrl, struct err *reterr)
{
	const struct nvme_ctrl_params *p = &ctrl->params;
	uint64_t next = 0;
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < s->sq_count; i++) {
		const struct saved_sq *q = &s->sq[i];
		const uint64_t max = q->qid ? p->queue_size_max : 4096;
		const struct check_row rows[] = {
			{ "submission queue identifier", q->qid, next, p->num_queues },
			{ "submission queue size", q->size, 2, max },
			{ "submission queue address", q->base % NVME_PAGE_BYTES, 0, 0 },
			{ "submission queue head", q->head, 0, q->size - 1 },
			{ "submission queue doorbell", q->word, 0, UINT32_MAX },
		};

		rc = rows_check(rows, ARRAY_SIZE(rows), reterr);
		if (rc == 0 && (!cq_of(s, q->cqid) || !q->cqid != !q->qid))
			rc = err_set(reterr, -EINVAL,
				     "state: submission queue %llu: no completion queue %llu",
				     (unsigned long long)q->qid, (unsigned long long)q->cqid);
		next = q->qid + 1;
	}
	if (rc == 0 && s->aer_count && (!s->sq_count || s->sq[0].qid))
		rc = err_set(reterr, -EINVAL, "state: event requests without an admin queue");
	if (rc == 0 && s->aer_count && s->aer_count > s->sq[0].size)
		rc = err_set(reterr, -EINVAL,
			     "state: %llu event requests in a queue of %llu entries",
			     (unsigned long long)s->aer_count, (unsigned long long)s->sq[0].size);
	if (rc == 0 && s->state == NVME_READY && p->profile == NVME_PROFILE_PCI &&
	    (!s->sq_count || s->sq[0].qid))
		rc = err_set(reterr, -EINVAL, "state: no admin queue");
	return rc;
}

/* ---- loading ---- */

static struct nvme_cq *load_cq(struct nvme_ctrl *ctrl, const struct saved_cq *q)
{
	struct loop *loop =
		q->qid ? nvme_steer_place(ctrl, (uint16_t)q->qid) : ctrl->params.main_loop;
	struct nvme_cq *cq = nvme_cq_new(ctrl, (uint16_t)q->qid, (uint32_t)q->size, q->base, loop);

	if (!cq) {
		if (q->qid)
			placement_give(loop);
		return NULL;
	}
	cq->has_loop = q->qid;
	cq->vector = (uint16_t)q->vector;
	cq->ien = q->ien;
	cq->head = (uint32_t)q->head;
	cq->tail = (uint32_t)q->tail;
	cq->phase = (uint32_t)q->phase;
	cq->credits -= (cq->tail + cq->size - cq->head) % cq->size;
	return cq;
}

static void load_undo(struct nvme_ctrl *ctrl)
{
	struct nvme_queues *q = &ctrl->queues;

	for (uint32_t qid = 0; qid <= NVME_QPAIRS_MAX; qid++) {
		if (q->sq[qid])
			list_remove(&q->sq[qid]->node);
		nvme_sq_free(q->sq[qid]);
		q->sq[qid] = NULL;
	}
	for (uint32_t qid = 0; qid <= NVME_QPAIRS_MAX; qid++) {
		nvme_cq_free(q->cq[qid]);
		q->cq[qid] = NULL;
	}
	q->cq_count = 0;
}

static int load_queues(struct nvme_ctrl *ctrl, const struct saved *s)
{
	struct nvme_queues *q = &ctrl->queues;

	for (uint64_t i = 0; i < s->cq_count; i++) {
		struct nvme_cq *cq = load_cq(ctrl, &s->cq[i]);

		if (!cq)
			return -ENOMEM;
		q->cq[cq->qid] = cq;
		q->cq_count++;
	}
	for (uint64_t i = 0; i < s->sq_count; i++) {
		struct nvme_cq *cq = q->cq[s->sq[i].cqid];
		struct nvme_sq *sq = nvme_sq_new(cq, (uint16_t)s->sq[i].qid,
						 (uint32_t)s->sq[i].size, s->sq[i].base);

		if (!sq)
			return -ENOMEM;
		sq->head = sq->tail = (uint32_t)s->sq[i].head;
		list_append(&cq->sqs, &sq->node);
		q->sq[sq->qid] = sq;
	}
	return 0;
}

static void load_features(struct nvme_ctrl *ctrl, const struct saved *s)
{
	struct nvme_features *f = &ctrl->features;

	atomic_store_explicit(&ctrl->write_through, s->write_through, memory_order_relaxed);
	for (size_t i = 0; i < ARRAY_SIZE(f->value); i++)
		f->value[i] = (uint32_t)s->value[i];
	f->under_temperature_k = (uint32_t)s->under_temperature_k;
	memcpy(f->coalescing_disable, s->coalescing_disable, sizeof(s->coalescing_disable));
	memcpy(f->host_id, s->host_id, sizeof(s->host_id));
	f->host_id_extended = s->host_id_extended;
	f->timestamp_offset_ms = (int64_t)(s->timestamp_ms - loop_clock_ns() / 1000000);
	f->timestamp_set = s->timestamp_set;
	if (f->value[NVME_FEAT_KEEP_ALIVE])
		loop_timer_start(ctrl->params.main_loop, &f->keep_alive,
				 loop_clock_ns() + f->value[NVME_FEAT_KEEP_ALIVE] * 1000000ull);
	nvme_resv_host_changed(ctrl);
}

static void load_aen(struct nvme_ctrl *ctrl, const struct saved *s)
{
	struct nvme_aen *aen = &ctrl->aen;

	aen->masked = (uint32_t)s->masked;
	for (size_t i = 0; i < NVME_EVENT_TYPES; i++)
		aen->masked_log[i] = (uint8_t)s->masked_log[i];
	aen->pending_count = (uint32_t)s->pending_count;
	for (size_t i = 0; i < aen->pending_count; i++)
		aen->pending[i] = (uint32_t)s->pending[i];
	for (size_t i = 0; i < s->aer_count; i++) {
		struct nvme_cmd *c = nvme_cmd_restore(ctrl->queues.sq[0], (uint16_t)s->aer[i].cid);

		if (s->aer[i].done) {
			c->dw0 = (uint32_t)s->aer[i].dw0;
			nvme_cmd_restore_done(c, (uint16_t)(s->aer[i].status & 0x7ff));
		} else {
			aen->waiting[aen->waiting_count++] = c;
		}
	}
}

static void load_registers(struct nvme_ctrl *ctrl, const struct saved *s)
{
	ctrl->state = (enum nvme_state)s->state;
	ctrl->cc = (uint32_t)s->cc;
	ctrl->csts = (uint32_t)s->csts;
	ctrl->aqa = (uint32_t)s->aqa;
	ctrl->asq = s->asq;
	ctrl->acq = s->acq;
	ctrl->nssro = s->nssro;
	nvme_irq_mask(ctrl, (uint32_t)s->intm, ~(uint32_t)s->intm);
	ctrl->queues.dbbuf = (struct nvme_dbbuf){ .on = s->dbbuf_on,
						  .shadow_base = s->shadow_base,
						  .event_base = s->event_base };
}

static void load_doorbells(struct nvme_ctrl *ctrl, const struct saved *s)
{
	uint32_t *page = ctrl->queues.doorbells;

	if (!page)
		return;
	for (uint64_t i = 0; i < s->cq_count; i++)
		__atomic_store_n(&page[2 * s->cq[i].qid + 1], htole32((uint32_t)s->cq[i].word),
				 __ATOMIC_RELAXED);
	for (uint64_t i = 0; i < s->sq_count; i++)
		__atomic_store_n(&page[2 * s->sq[i].qid], htole32((uint32_t)s->sq[i].word),
				 __ATOMIC_RELAXED);
}

static void load_commit(struct nvme_ctrl *ctrl, const struct saved *s)
{
	load_registers(ctrl, s);
	load_features(ctrl, s);
	load_doorbells(ctrl, s);
	nvme_ctrl_bind(ctrl);
	load_aen(ctrl, s);
	for (uint32_t qid = 0; qid <= NVME_QPAIRS_MAX; qid++) {
		if (!ctrl->queues.cq[qid])
			continue;
		nvme_irq_setup(ctrl->queues.cq[qid]);
		nvme_cq_start(ctrl->queues.cq[qid]);
	}
	if (ctrl->state == NVME_SHUTTING_DOWN)
		nvme_ctrl_flush(ctrl);
}

static int saved_read(struct saved *s, struct nvme_ctrl *ctrl, const void *bytes, size_t len,
		      struct err *reterr)
{
	/* The bytes are only read. */
	struct xfer x = { .at = (uint8_t *)(uintptr_t)bytes, .reading = true };
	int rc;

	x.end = x.at + len;
	saved_xfer(&x, s);
	if (x.failed || x.at != x.end)
		return err_set(reterr, -EINVAL, "state: %zu bytes are not what its counts say",
			       len);
	rc = check_head(s, ctrl, reterr);
	if (rc == 0)
		rc = check_cqs(s, ctrl, reterr);
	return rc ? rc : check_sqs(s, ctrl, reterr);
}

int nvme_ctrl_load(struct nvme_ctrl *ctrl, const void *bytes, size_t len, struct err *reterr)
{
	struct saved *s;
	int rc;

	if (ctrl->state != NVME_DISABLED || ctrl->queues.cq_count)
		return err_set(reterr, -EINVAL, "state: the controller is in use (%s)",
			       nvme_state_name(ctrl->state));
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(reterr, -ENOMEM, "out of memory");
	rc = saved_read(s, ctrl, bytes, len, reterr);
	if (rc == 0 && load_queues(ctrl, s) < 0) {
		load_undo(ctrl);
		rc = err_set(reterr, -ENOMEM, "out of memory");
	}
	if (rc == 0)
		load_commit(ctrl, s);
	free(s);
	return rc;
}
