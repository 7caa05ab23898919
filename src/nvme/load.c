/* Loading a controller's saved state: all of it is checked first. See save.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loop/placement.h"
#include "nvme/ring_remote.h"
#include "nvme/save.h"

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
		{ "controller identifier", s->cntlid, 1, NVME_CTRLS_MAX },
		{ "critical warning", s->critical_warning, 0, UINT8_MAX },
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

/* Entries that the guest has not taken, as far as we have seen. */
static uint64_t used(const struct saved_cq *q)
{
	return q->size ? (q->tail + q->size - q->head) % q->size : 0;
}

/* Queue identifiers rise, so that none comes twice. */
static int check_cqs(const struct saved *s, const struct nvme_ctrl *ctrl, struct err *reterr)
{
	const struct nvme_ctrl_params *p = &ctrl->params;
	uint64_t next = 0, unwritten = 0;
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
			{ "completions not written", q->unwritten, 0, used(q) },
		};

		rc = rows_check(rows, ARRAY_SIZE(rows), reterr);
		next = q->qid + 1;
		unwritten += q->unwritten;
	}
	if (rc == 0 && unwritten != s->cqe_count)
		rc = err_set(reterr, -EINVAL, "state: %llu completions not written, and %llu here",
			     (unsigned long long)unwritten, (unsigned long long)s->cqe_count);
	return rc;
}

/* Logs, reservations' masks. */
static int check_logs(const struct saved *s, struct err *reterr)
{
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < s->error_count; i++) {
		const struct saved_error *e = &s->error[i];
		const struct check_row rows[] = {
			{ "error of queue", e->sqid, 0, UINT16_MAX },
			{ "error of command", e->cid, 0, UINT16_MAX },
			{ "error status", e->status, 0, UINT16_MAX },
			{ "error location", e->location, 0, UINT16_MAX },
			{ "error of namespace", e->nsid, 0, UINT32_MAX },
		};

		rc = rows_check(rows, ARRAY_SIZE(rows), reterr);
	}
	for (uint64_t i = 0; rc == 0 && i < s->resv_count; i++) {
		const struct check_row rows[] = {
			{ "reservation event of namespace", s->resv[i].nsid, 1, NVME_NSID_MAX },
			{ "reservation event", s->resv[i].event, 1, NVME_RESV_PREEMPTED },
		};

		rc = rows_check(rows, ARRAY_SIZE(rows), reterr);
	}
	for (uint64_t i = 0; rc == 0 && i < s->att_count; i++) {
		const struct check_row rows[] = {
			{ "features of namespace", s->att[i].nsid, 1, NVME_NSID_MAX },
			{ "reservation mask", s->att[i].resv_mask, 0, NVME_RESV_EVENT_MASK },
			{ "error recovery", s->att[i].tler, 0, UINT16_MAX },
		};

		rc = rows_check(rows, ARRAY_SIZE(rows), reterr);
	}
	if (rc == 0 && s->error_count > s->error_total)
		rc = err_set(reterr, -EINVAL, "state: %llu errors of %llu",
			     (unsigned long long)s->error_count,
			     (unsigned long long)s->error_total);
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
	cq->irq.untold = cq->ien;
	return cq;
}

/* Completions that never reached the guest, the next of all at *cqe. */
static int load_debt(struct nvme_cq *cq, uint32_t count, const struct saved_cqe **cqe)
{
	struct nvme_cqe *cqes;
	int rc;

	if (!count)
		return 0;
	cqes = calloc(count, sizeof(*cqes));
	if (!cqes)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++, (*cqe)++) {
		const uint64_t word[2] = { htole64((*cqe)->word[0]), htole64((*cqe)->word[1]) };

		memcpy(&cqes[i], word, sizeof(cqes[i]));
	}
	rc = nvme_cq_owe(cq, cqes, count);
	free(cqes);
	return rc;
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
	const struct saved_cqe *cqe = s->cqe;

	for (uint64_t i = 0; i < s->cq_count; i++) {
		struct nvme_cq *cq = load_cq(ctrl, &s->cq[i]);

		if (!cq)
			return -ENOMEM;
		q->cq[cq->qid] = cq;
		q->cq_count++;
		if (load_debt(cq, (uint32_t)s->cq[i].unwritten, &cqe) < 0)
			return -ENOMEM;
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

static void load_logs(struct nvme_ctrl *ctrl, const struct saved *s)
{
	struct nvme_resv_log *resv = &ctrl->resv_log;
	struct nvme_logs *logs = &ctrl->logs;

	logs->error_count = s->error_total;
	for (uint64_t i = 0; i < s->error_count; i++) {
		const struct saved_error *e = &s->error[i];

		logs->errors[(s->error_total - s->error_count + i) % NVME_ERROR_ENTRIES] =
			(struct nvme_error_entry){ .count = e->count,
						   .lba = e->lba,
						   .sqid = (uint16_t)e->sqid,
						   .cid = (uint16_t)e->cid,
						   .status = (uint16_t)e->status,
						   .location = (uint16_t)e->location,
						   .nsid = (uint32_t)e->nsid };
	}
	memcpy(logs->changed_ns, s->changed_ns, sizeof(logs->changed_ns));
	logs->ana_changes = s->ana_changes;
	logs->critical_warning = (uint8_t)s->critical_warning;
	resv->count = s->resv_total;
	resv->unread = (uint32_t)s->resv_count;
	for (uint32_t i = 0; i < resv->unread; i++) {
		resv->entries[i].count = s->resv[i].count;
		resv->entries[i].nsid = (uint32_t)s->resv[i].nsid;
		resv->entries[i].event = (uint8_t)s->resv[i].event;
	}
	for (uint64_t i = 0; i < s->att_count; i++) {
		struct nvme_att *att = nvme_att_find(ctrl, (uint32_t)s->att[i].nsid);

		if (!att)
			continue;
		att->resv_mask = (uint32_t)s->att[i].resv_mask;
		att->tler = (uint16_t)s->att[i].tler;
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

	if (!page || ctrl->queues.doorbells_live)
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
	load_logs(ctrl, s);
	nvme_resv_came(ctrl);
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
	if (rc == 0)
		rc = check_logs(s, reterr);
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
	if (rc == 0)
		rc = nvme_subsys_rejoin(ctrl, (uint16_t)s->cntlid, reterr);
	if (rc == 0 && load_queues(ctrl, s) < 0) {
		load_undo(ctrl);
		rc = err_set(reterr, -ENOMEM, "out of memory");
	}
	if (rc == 0)
		load_commit(ctrl, s);
	saved_free(s);
	return rc;
}
