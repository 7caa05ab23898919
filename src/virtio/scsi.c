/*
 * virtio-scsi requests (virtio 1.3, 5.6.6.1): from a chain to a SCSI task and back. Thin: what a
 * command means is src/scsi's.
 *
 * The driver's side is a header with the CDB, then data-out; the device's side is the response with
 * room for sense data, then data-in; where descriptors begin and end means nothing.
 *
 * Invariants
 *  1. Every chain is pushed exactly once, never before on_chain returned.
 *  2. A chain without room for a response is given back with used length 0, never dropped. One
 *     with a response but less than a header gets FAILURE.
 *  3. The used length is what was written: the response, room for sense data included (zeroed
 *     behind the sense), and data-in.
 *  4. When data-in begins inside the piece that the response ends in, that piece is changed by the
 *     cursor for the data and restored before the response is written.
 */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "virtio/scsi_impl.h"

_Static_assert(offsetof(struct vscsi_req, chain) == 0, "virtq sizes slots by this");

static const uint8_t end_wire[SCSI_END_COUNT] = {
	[SCSI_END_COMPLETE] = VIRTIO_SCSI_S_OK,
	[SCSI_END_OVERRUN] = VIRTIO_SCSI_S_OVERRUN,
	[SCSI_END_BAD_TARGET] = VIRTIO_SCSI_S_BAD_TARGET,
	[SCSI_END_ABORTED] = VIRTIO_SCSI_S_ABORTED,
	[SCSI_END_RESET] = VIRTIO_SCSI_S_RESET,
};

/* ---- the answer ---- */

static void drop_fn(struct loop_work *work)
{
	struct vscsi_req *r = container_of(work, struct vscsi_req, work);

	virtq_push(r->queue->vq, &r->chain, 0);
}

void vscsi_drop_later(struct vscsi_req *r)
{
	r->work.fn = drop_fn;
	loop_defer(r->queue->loop, &r->work);
}

static void resp_fill(const struct vscsi_req *r, struct virtio_scsi_resp_head *resp,
		      uint32_t sense_len)
{
	const struct scsi_task *t = &r->task;
	uint64_t moved = t->in_bytes + t->out_bytes;

	resp->sense_len_bytes = le32(sense_len);
	resp->residual_bytes = le32((uint32_t)(r->expected_bytes - MIN(moved, r->expected_bytes)));
	resp->status_qualifier = le16(0);
	resp->status = t->status;
	resp->response = end_wire[t->end];
}

/* The response is in several pieces, or shares one with data. */
static __attribute__((noinline)) void resp_write_slow(struct vscsi_req *r, uint32_t sense_len)
{
	struct virtio_scsi_resp_head resp;

	if (r->shared)
		*r->shared = r->shared_orig;
	resp_fill(r, &resp, sense_len);
	iov_cur_write_slow(&r->resp_cur, &resp, sizeof(resp));
	if (sense_len)
		iov_cur_write_slow(&r->resp_cur, r->task.sense, sense_len);
	if (r->sense_room_bytes > sense_len)
		iov_cur_zero(&r->resp_cur, r->sense_room_bytes - sense_len);
}

static void req_done(struct scsi_task *t)
{
	struct vscsi_req *r = container_of(t, struct vscsi_req, task);
	uint32_t room = r->sense_room_bytes;
	uint32_t sense_len = MIN((uint32_t)t->sense_len, room);

	if (likely(r->resp)) {
		uint8_t *sense = (uint8_t *)(r->resp + 1);

		resp_fill(r, r->resp, sense_len);
		if (unlikely(sense_len))
			memcpy(sense, t->sense, sense_len);
		if (likely(room == VSCSI_SENSE_DEFAULT_BYTES && !sense_len))
			memset(sense, 0, VSCSI_SENSE_DEFAULT_BYTES);
		else
			memset(sense + sense_len, 0, room - sense_len);
	} else {
		resp_write_slow(r, sense_len);
	}
	virtq_push(r->queue->vq, &r->chain, (uint32_t)(sizeof(*r->resp) + room + t->in_bytes));
}

static void fail_fn(struct loop_work *work)
{
	struct vscsi_req *r = container_of(work, struct vscsi_req, work);
	struct virtio_scsi_resp_head resp = { .response = VIRTIO_SCSI_S_FAILURE };

	if (r->resp)
		memcpy(r->resp, &resp, sizeof(resp));
	else if (iov_cur_write_slow(&r->resp_cur, &resp, sizeof(resp)) && r->shared)
		*r->shared = r->shared_orig;
	virtq_push(r->queue->vq, &r->chain, sizeof(resp));
}

/* ---- the request ---- */

static __attribute__((noinline)) bool resp_take_slow(struct vscsi_req *r, uint64_t len)
{
	struct iov_cur *in = &r->chain.in;

	r->resp = NULL;
	r->resp_cur = *in;
	r->shared = NULL;
	if (!iov_cur_skip(in, len))
		return false;
	r->resp_cur.left_bytes = len;
	if (in->count && in->skip_bytes) {
		r->shared = in->iov;
		r->shared_orig = *in->iov;
	}
	return true;
}

/* Takes the response off the front of the device's side. */
static inline bool resp_take(struct vscsi_req *r, uint32_t sense_bytes)
{
	struct iov_cur *in = &r->chain.in;
	uint64_t len = sizeof(*r->resp) + sense_bytes;

	r->sense_room_bytes = sense_bytes;
	if (unlikely(!in->count || in->iov->iov_len != len ||
		     (uintptr_t)in->iov->iov_base % _Alignof(struct le32)))
		return resp_take_slow(r, len);
	r->resp = in->iov->iov_base;
	in->iov++;
	in->count--;
	in->left_bytes -= len;
	return true;
}

static bool cdb_read_slow(struct vscsi_req *r, uint32_t cdb_bytes)
{
	uint32_t take = MIN(cdb_bytes, (uint32_t)SCSI_CDB_MAX);

	memset(r->task.cdb, 0, sizeof(r->task.cdb));
	return r->chain.out.left_bytes >= cdb_bytes &&
	       iov_cur_read_slow(&r->chain.out, r->task.cdb, take) &&
	       iov_cur_skip(&r->chain.out, cdb_bytes - take);
}

/* Copied once: the guest may change it meanwhile. The first branch is what all drivers do. */
static inline bool req_read(struct vscsi_req *r, struct virtio_scsi_req_head *head,
			    uint32_t cdb_bytes)
{
	struct iov_cur *out = &r->chain.out;

	if (unlikely(!out->count || cdb_bytes != SCSI_CDB_MAX ||
		     out->iov->iov_len != sizeof(*head) + SCSI_CDB_MAX))
		return iov_cur_read(out, head, sizeof(*head)) && cdb_read_slow(r, cdb_bytes);
	memcpy(head, out->iov->iov_base, sizeof(*head));
	memcpy(r->task.cdb, (char *)out->iov->iov_base + sizeof(*head), SCSI_CDB_MAX);
	__asm__ volatile("" ::: "memory");
	out->iov++;
	out->count--;
	out->left_bytes -= sizeof(*head) + SCSI_CDB_MAX;
	return true;
}

static void fail_later(struct vscsi_req *r)
{
	r->work.fn = fail_fn;
	loop_defer(r->queue->loop, &r->work);
}

static inline void task_start(struct vscsi_req *r, const struct virtio_scsi_req_head *head)
{
	struct scsi_task *t = &r->task;

	if (unlikely(!vscsi_lun_decode(head->lun, &t->target, &t->lun))) {
		t->target = SCSI_TARGETS_MAX; /* BAD_TARGET */
		t->lun = SCSI_LUN_NONE;
	}
	t->tag = le64_get(head->id);
	t->out = &r->chain.out;
	t->in = &r->chain.in;
	r->expected_bytes = t->out->left_bytes + t->in->left_bytes;
	scsi_task_start(r->queue->scsi, t);
}

void vscsi_on_request(struct vscsi_queue *q, struct vq_chain *chain)
{
	struct vscsi_req *r = container_of(chain, struct vscsi_req, chain);
	struct virtio_scsi_req_head head;

	r->queue = q;
	if (unlikely(!resp_take(
		    r, atomic_load_explicit(&q->dev->sense_bytes, memory_order_relaxed)))) {
		vscsi_drop_later(r);
		return;
	}
	if (unlikely(!req_read(r, &head,
			       atomic_load_explicit(&q->dev->cdb_bytes, memory_order_relaxed)))) {
		fail_later(r);
		return;
	}
	r->task.pi_out = r->task.pi_in = NULL;
	r->task.done = req_done;
	task_start(r, &head);
}

/* ---- with protection information in front of the data (T10_PI) ---- */

static void req_pi_done(struct scsi_task *t)
{
	struct vscsi_req *r = container_of(t, struct vscsi_req, task);

	free(r->pi_iov);
	req_done(t);
}

/* Their pieces are copied: the data's cursor changes those of the chain. */
static bool pi_take(struct vscsi_req *r, uint32_t out_bytes, uint32_t in_bytes)
{
	struct iov_cur *out = &r->chain.out, *in = &r->chain.in;
	uint32_t room = out->count, count;

	if (out_bytes > out->left_bytes || in_bytes > in->left_bytes)
		return false;
	r->pi_iov = malloc((out->count + in->count + 1) * sizeof(*r->pi_iov));
	if (!r->pi_iov)
		return false;
	count = iov_cur_split_head(out, out_bytes, r->pi_iov);
	iov_cur_init(&r->pi_out, r->pi_iov, count, out_bytes);
	count = iov_cur_split_head(in, in_bytes, r->pi_iov + room);
	iov_cur_init(&r->pi_in, r->pi_iov + room, count, in_bytes);
	r->task.pi_out = &r->pi_out;
	r->task.pi_in = &r->pi_in;
	return true;
}

void vscsi_on_request_pi(struct vscsi_queue *q, struct vq_chain *chain)
{
	struct vscsi_req *r = container_of(chain, struct vscsi_req, chain);
	struct virtio_scsi_req_pi_head head;

	r->queue = q;
	r->pi_iov = NULL;
	if (!resp_take(r, q->dev->sense_bytes)) {
		vscsi_drop_later(r);
		return;
	}
	if (!iov_cur_read(&chain->out, &head, sizeof(head)) ||
	    !cdb_read_slow(r, q->dev->cdb_bytes) ||
	    !pi_take(r, le32_get(head.pi_out_bytes), le32_get(head.pi_in_bytes))) {
		fail_later(r);
		return;
	}
	r->task.done = req_pi_done;
	task_start(r, &head.head);
}
