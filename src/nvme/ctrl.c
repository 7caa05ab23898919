/*
 * A controller's life: see the states in ctrl.h.
 *
 * Whatever ends the work of a controller (CC.EN 0, a reset, a shutdown, a failure, a front that
 * goes) stops all its queues; what comes then is decided when the last one is gone, by the state
 * (nvme_ctrl_on_drained). Nothing here waits.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nvme/nvme_impl.h"

#define FRONT_QUEUE_SIZE 2

const char *nvme_state_name(enum nvme_state state)
{
	static const char *const names[] = {
#define X(n) #n,
		NVME_STATES(X)
#undef X
	};

	return state < NVME_STATE_COUNT ? names[state] : "unknown";
}

static void ctrl_tell(struct nvme_ctrl *ctrl)
{
	if (ctrl->params.ops->state_changed && !ctrl->freed_fn)
		ctrl->params.ops->state_changed(ctrl->params.port);
}

/* ---- making and freeing ---- */

static int params_check(const struct nvme_ctrl_params *p, struct err *reterr)
{
	if (!p->num_queues || p->num_queues > NVME_QPAIRS_MAX)
		return err_set(reterr, -EINVAL, "queues: expected 1 to %d, got %u", NVME_QPAIRS_MAX,
			       p->num_queues);
	if (p->queue_size_max < 2 || p->queue_size_max > NVME_QUEUE_SIZE_MAX)
		return err_set(reterr, -EINVAL, "queue size: expected 2 to %d entries, got %u",
			       NVME_QUEUE_SIZE_MAX, p->queue_size_max);
	if (!p->vectors || p->vectors > NVME_VECTORS_MAX)
		return err_set(reterr, -EINVAL, "vectors: expected 1 to %d, got %u",
			       NVME_VECTORS_MAX, p->vectors);
	ASSERT(p->name && p->ops && p->main_loop && p->loop_count);
	return 0;
}

static int front_init(struct nvme_ctrl *ctrl)
{
	struct nvme_front *f = &ctrl->front;

	if (ctrl->params.profile != NVME_PROFILE_VHOST)
		return 0;
	f->cq = nvme_cq_new(ctrl, 0, FRONT_QUEUE_SIZE, 0, ctrl->params.main_loop);
	f->sq = f->cq ? nvme_sq_new(f->cq, 0, FRONT_QUEUE_SIZE, 0) : NULL;
	if (!f->sq)
		return -ENOMEM;
	f->sq->slots[0].sq = f->sq;
	f->sq->slots[0].mem = &f->cq->mem;
	return 0;
}

static void ctrl_fini(struct nvme_ctrl *ctrl)
{
	nvme_features_reset(ctrl);
	if (ctrl->subsys) {
		nvme_resv_host_changed(ctrl);
		nvme_subsys_leave(ctrl);
	}
	if (ctrl->front.cq)
		nvme_mem_fini(&ctrl->front.cq->mem);
	nvme_sq_free(ctrl->front.sq);
	nvme_cq_free(ctrl->front.cq);
	nvme_mem_fini(&ctrl->mem);
	nvme_irq_ctrl_fini(ctrl);
	gmem_unref(ctrl->readable);
	gmem_unref(ctrl->writable);
	if (ctrl->dirty)
		gdirty_unref(ctrl->dirty);
	free(ctrl->queues.own_doorbells);
	free(ctrl);
}

int nvme_ctrl_new(struct nvme_subsys *subsys, const struct nvme_ctrl_params *params,
		  struct nvme_ctrl **ret_ctrl, struct err *reterr)
{
	struct nvme_ctrl *ctrl;
	int rc = params_check(params, reterr);

	if (rc < 0)
		return rc;
	ctrl = calloc(1, sizeof(*ctrl));
	if (!ctrl)
		return err_set(reterr, -ENOMEM, "out of memory");
	ctrl->params = *params;
	ctrl->ana = NVME_ANA_OPTIMIZED;
	ctrl->log_limit = LOG_LIMIT_DEFAULT;
	nvme_mem_init(&ctrl->mem, ctrl, params->main_loop);
	nvme_irq_ctrl_init(ctrl);
	rc = nvme_subsys_join(subsys, ctrl, reterr);
	if (rc == 0 && (nvme_doorbells_init(ctrl) < 0 || front_init(ctrl) < 0))
		rc = err_set(reterr, -ENOMEM, "out of memory");
	if (rc < 0) {
		ctrl_fini(ctrl);
		return rc;
	}
	nvme_ctrl_rows_init(ctrl);
	nvme_features_reset(ctrl);
	nvme_sanitize_resume(subsys, params->main_loop);
	*ret_ctrl = ctrl;
	return 0;
}

/* ---- stopping everything ---- */

static bool ctrl_is_busy(const struct nvme_ctrl *ctrl)
{
	return ctrl->queues.cq_count || ctrl->flushes || ctrl->front.done;
}

static void queues_stop(struct nvme_ctrl *ctrl)
{
	for (uint32_t qid = 0; qid <= NVME_QPAIRS_MAX; qid++) {
		struct nvme_cq *cq = ctrl->queues.cq[qid];

		if (cq && !cq->stopping)
			nvme_cq_stop(cq);
	}
	if (!ctrl_is_busy(ctrl))
		nvme_ctrl_on_drained(ctrl);
}

/* What a controller level reset does to all but registers (base 7.3.2). */
static void reset_finish(struct nvme_ctrl *ctrl)
{
	nvme_aen_reset(ctrl);
	nvme_dbbuf_drop(ctrl);
	nvme_features_reset(ctrl);
	ctrl->csts = 0;
	ctrl->state = NVME_DISABLED;
	ctrl_tell(ctrl);
}

static void quiet_check(struct nvme_ctrl *ctrl)
{
	void (*quiet)(void *port) = ctrl->quiet_fn;

	if (!quiet || ctrl->queues.quiet_left || ctrl->queues.stopping)
		return;
	/* Event words are written too often to be logged each time. */
	if (ctrl->dirty && ctrl->queues.dbbuf.on)
		gdirty_mark(ctrl->dirty, gpa(ctrl->queues.dbbuf.event_base), NVME_PAGE_BYTES);
	ctrl->quiet_fn = NULL;
	quiet(ctrl->params.port);
}

static void stopped_check(struct nvme_ctrl *ctrl)
{
	void (*stopped)(void *port) = ctrl->stopped_fn;

	ctrl->stopped_fn = NULL;
	if (stopped)
		stopped(ctrl->params.port);
}

static void ctrl_free_again(struct loop_work *work)
{
	nvme_ctrl_on_drained(container_of(work, struct nvme_ctrl, free_work));
}

/* The end of nvme_ctrl_free; what the last commands left to the phase "done" comes first. */
static void ctrl_free_end(struct nvme_ctrl *ctrl)
{
	void (*freed)(void *port) = ctrl->freed_fn;
	void *port = ctrl->params.port;

	if (ctrl->mem.work_queued || (ctrl->front.cq && ctrl->front.cq->mem.work_queued)) {
		ctrl->free_work.fn = ctrl_free_again;
		loop_defer(ctrl->params.main_loop, &ctrl->free_work);
		return;
	}
	ctrl_fini(ctrl);
	freed(port);
}

void nvme_ctrl_on_drained(struct nvme_ctrl *ctrl)
{

	if (ctrl_is_busy(ctrl))
		return;
	switch (ctrl->state) {
	case NVME_SHUTTING_DOWN:
		nvme_ctrl_flush(ctrl);
		break;
	case NVME_RESETTING:
		reset_finish(ctrl);
		break;
	case NVME_DISABLED:
	case NVME_ENABLING:
	case NVME_READY:
	case NVME_SHUTDOWN:
	case NVME_FATAL:
	case NVME_STATE_COUNT:
		break;
	}
	if (ctrl->freed_fn) {
		ctrl_free_end(ctrl);
		return;
	}
	if (ctrl->state == NVME_DISABLED && ctrl->cc & NVME_CC_EN) {
		if (ctrl->params.profile == NVME_PROFILE_VHOST)
			nvme_ctrl_start(ctrl);
		else
			nvme_ctrl_enable(ctrl);
	}
	stopped_check(ctrl); /* may free it */
}

void nvme_ctrl_free(struct nvme_ctrl *ctrl, void (*freed)(void *port))
{
	ASSERT(!ctrl->freed_fn);
	ctrl->freed_fn = freed;
	ctrl->cc = 0;
	ctrl->quiet_fn = ctrl->stopped_fn = NULL;
	ctrl->state = NVME_RESETTING;
	queues_stop(ctrl);
}

void nvme_ctrl_disable(struct nvme_ctrl *ctrl)
{
	if (ctrl->state == NVME_DISABLED || ctrl->state == NVME_RESETTING)
		return;
	ctrl->state = NVME_RESETTING;
	queues_stop(ctrl);
}

void nvme_ctrl_reset(struct nvme_ctrl *ctrl)
{
	ctrl->cc = ctrl->aqa = 0;
	ctrl->asq = ctrl->acq = 0;
	ctrl->nssro = false;
	nvme_irq_mask(ctrl, 0, UINT32_MAX);
	nvme_ctrl_disable(ctrl);
}

void nvme_subsys_reset(struct nvme_subsys *subsys)
{
	struct nvme_ctrl *ctrl, *next;

	list_for_each_safe(ctrl, next, &subsys->ctrls, node) {
		nvme_ctrl_reset(ctrl);
		ctrl->nssro = true;
	}
}

bool nvme_ctrl_is_idle(const struct nvme_ctrl *ctrl)
{
	return !ctrl_is_busy(ctrl);
}

bool nvme_ctrl_is_running(const struct nvme_ctrl *ctrl)
{
	return ctrl->state == NVME_READY;
}

void nvme_ctrl_fatal(struct nvme_ctrl *ctrl, const char *why)
{
	log_limited(&ctrl->log_limit, LOG_WARNING, "%s: controller failed: %s", ctrl->params.name,
		    why);
	ctrl->csts |= NVME_CSTS_CFS;
	ctrl->state = NVME_FATAL;
	ctrl_tell(ctrl);
	queues_stop(ctrl);
}

/* ---- enabling ---- */

/* A field of CC or AQA, and what it may be. */
static bool enable_check(const struct nvme_ctrl *ctrl, char *why, size_t why_bytes)
{
	const struct {
		const char *name;
		uint32_t value, min, max;
		bool or_zero;
	} rows[] = {
		{ "CC.CSS", NVME_CC_CSS(ctrl->cc), 0, 0, false },
		{ "CC.MPS", NVME_CC_MPS(ctrl->cc), 0, 0, false },
		{ "CC.AMS", NVME_CC_AMS(ctrl->cc), 0, 0, false },
		/* needed when I/O queues are created (base 3.1.5) */
		{ "CC.IOSQES", NVME_CC_IOSQES(ctrl->cc), NVME_SQE_SHIFT, NVME_SQE_SHIFT, true },
		{ "CC.IOCQES", NVME_CC_IOCQES(ctrl->cc), NVME_CQE_SHIFT, NVME_CQE_SHIFT, true },
		{ "AQA.ASQS", ctrl->aqa & 0xfff, 1, 0xfff, false },
		{ "AQA.ACQS", ctrl->aqa >> 16 & 0xfff, 1, 0xfff, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint32_t v = rows[i].value;

		if ((v >= rows[i].min && v <= rows[i].max) || (rows[i].or_zero && !v))
			continue;
		snprintf(why, why_bytes, "%s: expected %u to %u, got %u", rows[i].name, rows[i].min,
			 rows[i].max, v);
		return false;
	}
	return true;
}

/* NULL: made; else what is wrong. */
static const char *admin_queue_make(struct nvme_ctrl *ctrl)
{
	struct nvme_queues *q = &ctrl->queues;
	struct nvme_cq *cq =
		nvme_cq_new(ctrl, 0, (ctrl->aqa >> 16) + 1, ctrl->acq, ctrl->params.main_loop);
	struct nvme_sq *sq = cq ? nvme_sq_new(cq, 0, (ctrl->aqa & 0xfff) + 1, ctrl->asq) : NULL;
	const char *why = NULL;

	if (!sq) {
		nvme_cq_free(cq);
		return "no memory for the admin queue";
	}
	nvme_doorbell_zero(ctrl, 0, false);
	nvme_doorbell_zero(ctrl, 0, true);
	nvme_cq_bind(cq);
	nvme_sq_bind(sq);
	if (!nvme_sq_is_bound(sq))
		why = "ASQ: not in the guest's memory";
	else if (!nvme_cq_is_bound(cq))
		why = "ACQ: not in the guest's memory";
	if (why) {
		nvme_sq_free(sq);
		nvme_cq_free(cq);
		return why;
	}
	q->cq[0] = cq;
	q->sq[0] = sq;
	q->cq_count++;
	cq->ien = true;
	nvme_irq_setup(cq);
	list_append(&cq->sqs, &sq->node);
	nvme_cq_start(cq);
	return NULL;
}

void nvme_ctrl_enable(struct nvme_ctrl *ctrl)
{
	char text[128];
	const char *why = text;

	if (ctrl->state != NVME_DISABLED)
		return; /* comes again when the reset has ended */
	ctrl->state = NVME_ENABLING;
	if (enable_check(ctrl, text, sizeof(text)))
		why = admin_queue_make(ctrl);
	if (why) {
		nvme_ctrl_fatal(ctrl, why);
		return;
	}
	ctrl->state = NVME_READY;
	ctrl->csts = NVME_CSTS_RDY;
	ctrl_tell(ctrl);
	if (NVME_CC_SHN(ctrl->cc))
		nvme_ctrl_shutdown(ctrl);
}

/* ---- shutdown ---- */

/* A cache that is flushed before a shutdown is told to be complete (base 7.6.2). */
struct ctrl_flush {
	struct nvme_ctrl *ctrl;
	struct nvme_ns *ns;
	struct blk_chan *chan;
	struct blk_req req;
};

static void shutdown_finish(struct nvme_ctrl *ctrl)
{
	if (ctrl->state != NVME_SHUTTING_DOWN)
		return;
	ctrl->state = NVME_SHUTDOWN;
	ctrl->csts = (ctrl->csts & ~NVME_CSTS_SHST(3)) | NVME_CSTS_SHST(2);
	ctrl_tell(ctrl);
}

static void flush_done(struct blk_req *req)
{
	struct ctrl_flush *f = container_of(req, struct ctrl_flush, req);
	struct nvme_ctrl *ctrl = f->ctrl;
	struct nvme_ns *ns = f->ns;

	if (req->status != BLK_ST_OK)
		log_limited(&ctrl->log_limit, LOG_WARNING,
			    "%s: shutdown: flush of namespace %u: %s", ctrl->params.name, ns->nsid,
			    blk_status_name((enum blk_status)req->status));
	blk_chan_close(f->chan);
	free(f);
	nvme_ns_unpin(ns);
	if (--ctrl->flushes)
		return;
	if (ctrl->state == NVME_SHUTTING_DOWN)
		shutdown_finish(ctrl);
	else
		nvme_ctrl_on_drained(ctrl);
}

static void ns_flush(struct nvme_ctrl *ctrl, struct nvme_ns *ns)
{
	struct ctrl_flush *f = calloc(1, sizeof(*f));
	struct err err = { 0 };

	if (!f || blk_chan_open(ns->dev, ctrl->params.main_loop, &f->chan, &err) < 0) {
		log_limited(&ctrl->log_limit, LOG_WARNING,
			    "%s: shutdown: namespace %u is not flushed: %s", ctrl->params.name,
			    ns->nsid, f ? err.msg : "out of memory");
		free(f);
		return;
	}
	f->ctrl = ctrl;
	f->ns = ns;
	f->req.op = BLK_FLUSH;
	f->req.done = flush_done;
	nvme_ns_pin(ns);
	ctrl->flushes++;
	blk_submit(f->chan, &f->req);
}

void nvme_ctrl_flush(struct nvme_ctrl *ctrl)
{
	for (uint32_t nsid = 1; nsid <= NVME_NSID_MAX; nsid++)
		if (ctrl->atts[nsid] && ctrl->atts[nsid]->ns->caps->volatile_cache)
			ns_flush(ctrl, ctrl->atts[nsid]->ns);
	if (!ctrl->flushes)
		shutdown_finish(ctrl);
}

void nvme_ctrl_shutdown(struct nvme_ctrl *ctrl)
{
	if (ctrl->state != NVME_READY)
		return;
	ctrl->state = NVME_SHUTTING_DOWN;
	ctrl->csts = (ctrl->csts & ~NVME_CSTS_SHST(3)) | NVME_CSTS_SHST(1);
	queues_stop(ctrl);
}

/* ---- what queues tell ---- */

void nvme_cq_on_stopped(struct nvme_cq *cq)
{
	struct nvme_ctrl *ctrl = cq->ctrl;
	struct nvme_queues *q = &ctrl->queues;
	struct nvme_cmd *by = cq->by;

	for (uint32_t qid = 0; qid <= NVME_QPAIRS_MAX; qid++) {
		if (!q->sq[qid] || q->sq[qid]->cq != cq)
			continue;
		nvme_sq_free(q->sq[qid]);
		q->sq[qid] = NULL;
	}
	q->cq[cq->qid] = NULL;
	q->cq_count--;
	q->stopping--;
	cq->dead = true;
	if (!cq->refs)
		nvme_cq_free(cq);
	quiet_check(ctrl);
	nvme_ctrl_on_drained(ctrl);
	if (by) /* which is of another queue, or of the front: the controller is still there */
		nvme_cq_delete_done(by);
}

void nvme_cq_on_quiet(struct nvme_cq *cq)
{
	cq->ctrl->queues.quiet_left--;
	quiet_check(cq->ctrl);
}

/* ---- memory ---- */

void nvme_ctrl_quiesce(struct nvme_ctrl *ctrl, void (*quiet)(void *port))
{
	struct nvme_queues *q = &ctrl->queues;

	ASSERT(!ctrl->quiet);
	ctrl->quiet = true;
	ctrl->quiet_fn = quiet;
	for (uint32_t qid = 0; qid <= NVME_QPAIRS_MAX; qid++) {
		if (!q->cq[qid] || q->cq[qid]->stopping)
			continue;
		q->quiet_left++;
		nvme_cq_quiesce(q->cq[qid]);
	}
	quiet_check(ctrl);
}

void nvme_ctrl_resume(struct nvme_ctrl *ctrl)
{
	ASSERT(ctrl->quiet && !ctrl->quiet_fn);
	ctrl->quiet = false;
	for (uint32_t qid = 0; qid <= NVME_QPAIRS_MAX; qid++)
		if (ctrl->queues.cq[qid] && !ctrl->queues.cq[qid]->stopping)
			nvme_cq_resume(ctrl->queues.cq[qid]);
}

/* Queues stand still: no loop has what is written here. */
void nvme_ctrl_bind(struct nvme_ctrl *ctrl)
{
	struct nvme_queues *q = &ctrl->queues;

	nvme_mem_maps_set(&ctrl->mem, ctrl->readable, ctrl->writable, ctrl->dirty);
	nvme_dbbuf_bind(ctrl);
	for (uint32_t qid = 0; qid <= NVME_QPAIRS_MAX; qid++) {
		if (q->cq[qid] && !q->cq[qid]->stopping)
			nvme_cq_bind(q->cq[qid]);
		if (q->sq[qid] && !q->sq[qid]->cq->stopping)
			nvme_sq_bind(q->sq[qid]);
	}
}

static void still_assert(const struct nvme_ctrl *ctrl)
{
	ASSERT((ctrl->quiet && !ctrl->quiet_fn) || !ctrl->queues.cq_count);
}

void nvme_ctrl_maps_set(struct nvme_ctrl *ctrl, struct gmem *readable, struct gmem *writable)
{
	struct gmem *old_readable = ctrl->readable, *old_writable = ctrl->writable;

	still_assert(ctrl);
	ctrl->readable = readable ? gmem_ref(readable) : NULL;
	ctrl->writable = writable ? gmem_ref(writable) : NULL;
	nvme_ctrl_bind(ctrl);
	gmem_unref(old_readable);
	gmem_unref(old_writable);
}

void nvme_ctrl_dirty_set(struct nvme_ctrl *ctrl, struct gdirty *dirty)
{
	struct gdirty *old = ctrl->dirty;

	still_assert(ctrl);
	ctrl->dirty = dirty ? gdirty_ref(dirty) : NULL;
	nvme_ctrl_bind(ctrl);
	if (old)
		gdirty_unref(old);
}

/* ---- a front that has registers and admin queue itself ---- */

void nvme_ctrl_start(struct nvme_ctrl *ctrl)
{
	ctrl->cc = NVME_CC_EN | NVME_SQE_SHIFT << 16 | NVME_CQE_SHIFT << 20;
	if (ctrl->state != NVME_DISABLED)
		return;
	ctrl->state = NVME_READY;
	ctrl->csts = NVME_CSTS_RDY;
}

void nvme_ctrl_stop(struct nvme_ctrl *ctrl, void (*stopped)(void *port))
{
	ASSERT(!ctrl->stopped_fn);
	ctrl->cc = 0;
	ctrl->stopped_fn = stopped;
	if (ctrl->state == NVME_DISABLED)
		stopped_check(ctrl);
	else
		nvme_ctrl_disable(ctrl);
}

void nvme_ctrl_on_admin_done(struct nvme_ctrl *ctrl, const struct nvme_cqe *cqe)
{
	void (*done)(void *port, const struct nvme_cqe *cqe) = ctrl->front.done;
	bool waited_for = ctrl->freed_fn || ctrl->stopped_fn;

	ctrl->front.done = NULL;
	done(ctrl->params.port, cqe); /* may free it, if nobody has asked for that yet */
	if (waited_for)
		nvme_ctrl_on_drained(ctrl);
}

void nvme_ctrl_admin(struct nvme_ctrl *ctrl, const struct nvme_sqe *sqe, void *buf,
		     void (*done)(void *port, const struct nvme_cqe *cqe))
{
	struct nvme_front *f = &ctrl->front;
	struct nvme_cmd *c = &f->sq->slots[0];

	ASSERT(!f->done);
	f->done = done;
	f->cq->mem.flat = buf;
	f->sq->outstanding++;
	c->sqe = *sqe;
	c->cid = le16_get(sqe->cid);
	c->nsid = le32_get(sqe->nsid);
	c->dw0 = c->dw1 = 0;
	c->row = f->cq->rows[sqe->opcode];
	c->nsq = NULL;
	c->busy = true;
	c->extra = NVME_CMD_FRONT;
	nvme_cmd_start_slow(c);
}
