/*
 * Queues in guest memory that has no mapping here: a local shadow of the ring, and messages
 * (nvme_port_ops.dma). The rest of the room works on the shadow and knows nothing of it:
 *
 *   doorbell --> nvme_ring_remote_look: entries behind the last one known are read into the shadow
 *     --> done: the shadow's tail moves, and the queue is polled
 *   completions are put into the shadow --> nvme_ring_remote_publish: written to the guest
 *     --> done: the interrupt
 *
 * One transfer at a time for each ring. A quiesce and a stop wait for those under way. One that
 * fails is made again, since memory may be gone for a moment while a client changes its maps, and a
 * client that waits for an answer of ours may serve nothing; at last the controller has failed.
 */
#include "nvme/ring_remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nvme/nvme_impl.h"

#define FETCH_MAX    1024u /* entries */
#define RETRY_NS     5000000ull
#define RETRY_COUNT  100u
#define LOST_WHY_MAX 128

/* One ring: of a submission queue, or of a completion queue. */
struct nvme_ring_remote {
	bool on;	 /* else its ring is mapped, or not there */
	bool busy;	 /* a transfer, or the wait before the next try */
	bool waiting;	 /* the latter */
	bool lost;	 /* the controller is to fail */
	bool owes;	 /* completion queue: those from `at` on are here, and nowhere else */
	uint32_t at;	 /* entries before it have been moved */
	uint32_t moving; /* entries of the transfer */
	uint32_t tries;
	uint32_t late; /* completions that no interrupt told of yet */
	uint32_t tail; /* submission queue: the word that is looked at instead, little-endian */
	const uint32_t *doorbell;
	struct nvme_cq *cq;
	struct nvme_sq *sq; /* NULL: it is the completion queue's */
	struct nvme_dma dma;
	struct loop_timer timer;
	struct loop_msg lost_msg;
	int rc;
	uint32_t entry_bytes;
	uint8_t shadow[]; /* the entries */
};

static void ring_again(struct nvme_ring_remote *r);

/* ---- a transfer that fails ---- */

static void ring_lost_main(struct loop_msg *msg)
{
	struct nvme_ring_remote *r = container_of(msg, struct nvme_ring_remote, lost_msg);
	struct nvme_ctrl *ctrl = r->cq->ctrl;
	char why[LOST_WHY_MAX];

	if (ctrl->state != NVME_READY)
		return;
	snprintf(why, sizeof(why), "%s queue %u: a message for 0x%llx failed: %s",
		 r->sq ? "submission" : "completion", r->sq ? r->sq->qid : r->cq->qid,
		 (unsigned long long)r->dma.iova, strerror(-r->rc));
	nvme_ctrl_fatal(ctrl, why);
}

static void ring_lose(struct nvme_ring_remote *r)
{
	r->lost = true;
	r->lost_msg.fn = ring_lost_main;
	loop_post(r->cq->ctrl->params.main_loop, &r->lost_msg);
}

/* No transfer begins now: what there is to fetch stays where it is, completions are written. */
static bool ring_holds(const struct nvme_ring_remote *r)
{
	return r->cq->gate & (r->sq ? CQ_HOLD : CQ_STILL);
}

/* The transfer, or the wait, is over. The queue may be gone afterwards. */
static void ring_idle(struct nvme_ring_remote *r, bool go_on)
{
	struct nvme_cq *cq = r->cq;

	r->busy = false;
	if (go_on)
		ring_again(r);
	if (cq->settle)
		nvme_cq_settle(cq);
}

static void ring_on_timer(struct loop_timer *t)
{
	struct nvme_ring_remote *r = container_of(t, struct nvme_ring_remote, timer);

	r->waiting = false;
	ring_idle(r, !ring_holds(r));
}

/* ---- transfers ---- */

static uint32_t ring_size(const struct nvme_ring_remote *r)
{
	return r->sq ? r->sq->size : r->cq->size;
}

static void ring_moved(struct nvme_ring_remote *r)
{
	uint32_t count = r->moving;

	r->tries = 0;
	r->at = (r->at + count) % ring_size(r);
	if (!r->sq) {
		if (r->cq->ien && !(r->cq->gate & CQ_STOPPING))
			nvme_irq_posted(r->cq, count);
		return;
	}
	__atomic_store_n(&r->tail, htole32(r->at), __ATOMIC_RELEASE);
	loop_source_wake(&r->cq->source);
}

static void ring_done(struct nvme_dma *dma, int rc)
{
	struct nvme_ring_remote *r = container_of(dma, struct nvme_ring_remote, dma);

	if (rc == 0) {
		ring_moved(r);
		/* Completions are all written before the queue is quiet. */
		ring_idle(r, !(r->cq->gate & (r->sq ? CQ_HOLD : CQ_STOPPING)));
	} else if (ring_holds(r)) {
		ring_idle(r, false); /* again when it goes on */
	} else if (r->tries++ < RETRY_COUNT) {
		r->waiting = true;
		loop_timer_start(r->cq->loop, &r->timer, loop_clock_ns() + RETRY_NS);
	} else {
		r->rc = rc;
		ring_lose(r);
		ring_idle(r, false);
	}
}

/* Entries from r->at up to end, or to the end of the ring. */
static void ring_move(struct nvme_ring_remote *r, uint32_t end, uint64_t base)
{
	const struct nvme_ctrl_params *p = &r->cq->ctrl->params;
	uint32_t count = (end > r->at ? end : ring_size(r)) - r->at;
	uint64_t off;

	count = MIN(count, FETCH_MAX);
	off = (uint64_t)r->at * r->entry_bytes;
	r->busy = true;
	r->moving = count;
	r->dma = (struct nvme_dma){ .iova = base + off,
				    .buf = r->shadow + off,
				    .len_bytes = (uint64_t)count * r->entry_bytes,
				    .to_guest = !r->sq,
				    .loop = r->cq->loop,
				    .done = ring_done };
	p->ops->dma(p->port, &r->dma);
}

static void sq_look(struct nvme_sq *sq)
{
	struct nvme_ring_remote *r = sq->remote;
	uint32_t tail;

	if (!r || !r->on || r->busy || r->lost || sq->deleting)
		return;
	tail = le32toh(__atomic_load_n(r->doorbell, __ATOMIC_ACQUIRE)) & 0xffff;
	if (tail >= sq->size)
		nvme_sq_lie(sq, tail);
	else if (tail != r->at)
		ring_move(r, tail, sq->base);
}

void nvme_ring_remote_look(struct nvme_cq *cq)
{
	struct nvme_sq *sq;

	list_for_each(sq, &cq->sqs, node)
		sq_look(sq);
}

bool nvme_ring_remote_publish(struct nvme_cq *cq)
{
	struct nvme_ring_remote *r = cq->remote;
	/* Less those that are held, which are not in the shadow yet. */
	uint32_t end = (cq->tail + cq->size - cq->held) % cq->size;

	if (!r || !r->on)
		return false;
	if (!r->busy && !r->lost && r->at != end)
		ring_move(r, end, cq->base);
	return true;
}

static void ring_again(struct nvme_ring_remote *r)
{
	if (r->sq)
		sq_look(r->sq);
	else
		nvme_ring_remote_publish(r->cq);
}

/* ---- what others wait for ---- */

bool nvme_ring_remote_is_busy(const struct nvme_ring_remote *r)
{
	return r && r->busy;
}

bool nvme_ring_remote_any_busy(const struct nvme_cq *cq)
{
	const struct nvme_sq *sq;

	if (nvme_ring_remote_is_busy(cq->remote))
		return true;
	list_for_each(sq, &cq->sqs, node)
		if (nvme_ring_remote_is_busy(sq->remote))
			return true;
	return false;
}

void nvme_ring_remote_gate(struct nvme_cq *cq)
{
	bool on = cq->remote && cq->remote->on;
	struct nvme_sq *sq;

	list_for_each(sq, &cq->sqs, node)
		on |= sq->remote && sq->remote->on;
	if (on)
		cq->gate |= CQ_REMOTE;
	else
		cq->gate &= ~CQ_REMOTE;
	if (on && !(cq->gate & CQ_STILL))
		nvme_ring_remote_publish(cq);
	if (!cq->remote || !cq->remote->late)
		return;
	if (cq->ien)
		nvme_irq_posted(cq, cq->remote->late);
	cq->remote->late = 0;
}

static void ring_unwait(struct nvme_ring_remote *r)
{
	if (!r || !r->waiting)
		return;
	loop_timer_stop(&r->timer);
	r->waiting = r->busy = false;
}

void nvme_ring_remote_unwait(struct nvme_cq *cq)
{
	struct nvme_sq *sq;

	ring_unwait(cq->remote);
	list_for_each(sq, &cq->sqs, node)
		ring_unwait(sq->remote);
}

/* ---- binding: main, with the queue new or quiet ---- */

static struct nvme_ring_remote *ring_new(uint32_t size, uint32_t entry_bytes)
{
	struct nvme_ring_remote *r = calloc(1, sizeof(*r) + (size_t)size * entry_bytes);

	if (!r)
		return NULL;
	r->entry_bytes = entry_bytes;
	loop_timer_init(&r->timer, ring_on_timer);
	return r;
}

static bool ring_is_offered(const struct nvme_ctrl *ctrl, uint64_t base, uint64_t bytes,
			    bool to_guest)
{
	const struct nvme_port_ops *ops = ctrl->params.ops;

	return ops->dma && ops->dma_has && ops->dma_has(ctrl->params.port, base, bytes, to_guest);
}

const uint32_t *nvme_sq_remote_bind(struct nvme_sq *sq, const uint32_t *doorbell)
{
	struct nvme_ring_remote *r = sq->remote;
	uint64_t bytes = (uint64_t)sq->size * sizeof(struct nvme_sqe);

	if (r)
		r->on = false;
	if (sq->ring || !doorbell || !ring_is_offered(sq->cq->ctrl, sq->base, bytes, false))
		return NULL;
	if (!r)
		r = sq->remote = ring_new(sq->size, sizeof(struct nvme_sqe));
	if (!r)
		return NULL;
	r->on = true;
	r->cq = sq->cq;
	r->sq = sq;
	r->doorbell = doorbell;
	r->at = sq->tail = sq->head;
	r->tail = htole32(r->at);
	sq->ring = (const struct nvme_sqe *)r->shadow;
	return &r->tail;
}

void nvme_sq_remote_doorbell(struct nvme_sq *sq, const uint32_t *doorbell)
{
	sq->remote->doorbell = doorbell;
}

bool nvme_sq_is_remote(const struct nvme_sq *sq)
{
	return sq->remote && sq->remote->on;
}

/* The ring is mapped: what could not be written while the queue was going to be quiet. */
static void ring_settle_debt(struct nvme_ring_remote *r, struct nvme_cq *cq)
{
	for (; r->owes && r->at != cq->tail; r->at = (r->at + 1) % cq->size, r->late++)
		memcpy(&cq->ring[r->at], r->shadow + (size_t)r->at * r->entry_bytes,
		       r->entry_bytes);
	r->owes = false;
}

void nvme_cq_remote_bind(struct nvme_cq *cq)
{
	struct nvme_ring_remote *r = cq->remote;
	uint64_t bytes = (uint64_t)cq->size * sizeof(struct nvme_cqe);

	if (r)
		r->on = false;
	if (r && cq->ring)
		ring_settle_debt(r, cq);
	if (cq->ring || !ring_is_offered(cq->ctrl, cq->base, bytes, true))
		return;
	if (!r)
		r = cq->remote = ring_new(cq->size, sizeof(struct nvme_cqe));
	if (!r)
		return;
	r->on = true;
	r->cq = cq;
	if (!r->owes) /* what was put into memory that was mapped is there */
		r->at = cq->tail;
	r->owes = true;
	cq->ring = (struct nvme_cqe *)r->shadow;
}

uint32_t nvme_cq_unwritten(const struct nvme_cq *cq)
{
	const struct nvme_ring_remote *r = cq->remote;

	return r && r->owes ? (cq->tail + cq->size - r->at) % cq->size : 0;
}

const struct nvme_cqe *nvme_cq_unwritten_at(const struct nvme_cq *cq, uint32_t i)
{
	const struct nvme_ring_remote *r = cq->remote;

	return (const struct nvme_cqe *)r->shadow + (r->at + i) % cq->size;
}

int nvme_cq_owe(struct nvme_cq *cq, const struct nvme_cqe *cqes, uint32_t count)
{
	struct nvme_ring_remote *r = ring_new(cq->size, sizeof(struct nvme_cqe));

	if (!r)
		return -ENOMEM;
	cq->remote = r;
	r->cq = cq;
	r->owes = true;
	r->at = (cq->tail + cq->size - count) % cq->size;
	for (uint32_t i = 0; i < count; i++)
		memcpy(r->shadow + (size_t)((r->at + i) % cq->size) * r->entry_bytes, &cqes[i],
		       sizeof(cqes[i]));
	return 0;
}

void nvme_ring_remote_free(struct nvme_ring_remote *r)
{
	ASSERT(!nvme_ring_remote_is_busy(r));
	free(r);
}
