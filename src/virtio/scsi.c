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

#define REQ_DEFAULT_BYTES  (sizeof(struct virtio_scsi_req_head) + VSCSI_CDB_DEFAULT_BYTES)
#define RESP_DEFAULT_BYTES (sizeof(struct virtio_scsi_resp_head) + VSCSI_SENSE_DEFAULT_BYTES)

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

/* With sense data, or anything else out of the ordinary. */
static __attribute__((noinline)) void req_done_slow(struct vscsi_req *r)
{
	uint32_t room = r->queue->sense_bytes;
	uint32_t sense_len = MIN((uint32_t)r->task.sense_len, room);
	struct virtio_scsi_resp_head resp;

	resp_fill(r, &resp, sense_len);
	if (r->resp) { /* of default size */
		memcpy(r->resp, &resp, sizeof(resp));
		memcpy(r->resp + 1, r->task.sense, sense_len);
		memset((uint8_t *)(r->resp + 1) + sense_len, 0, room - sense_len);
	} else {
		if (r->shared)
			*r->shared = r->shared_orig;
		iov_cur_write_slow(&r->resp_cur, &resp, sizeof(resp));
		if (sense_len)
			iov_cur_write_slow(&r->resp_cur, r->task.sense, sense_len);
		iov_cur_zero(&r->resp_cur, room - sense_len);
	}
	virtq_push(r->queue->vq, &r->chain, (uint32_t)(sizeof(resp) + room + r->task.in_bytes));
}

/*
 * Zeroes the room for sense data. Looking first pays: a driver leaves it as the last answer did,
 * and stores behind one that waits for the driver's cache line are what an answer takes longest
 * for. In vectors: GCC 12 makes "rep stos" of a memset.
 */
static inline void sense_clear(void *sense)
{
	typedef uint64_t vec __attribute__((vector_size(16), aligned(1), may_alias));
	vec *v = sense, zero = { 0, 0 }, any = v[0] | v[1] | v[2] | v[3] | v[4] | v[5];

	_Static_assert(VSCSI_SENSE_DEFAULT_BYTES == 6 * sizeof(vec), "six of them");
	if (likely(!(any[0] | any[1])))
		return;
	v[0] = zero;
	v[1] = zero;
	v[2] = zero;
	v[3] = zero;
	v[4] = zero;
	v[5] = zero;
}

static void req_done(struct scsi_task *t)
{
	struct vscsi_req *r = container_of(t, struct vscsi_req, task);
	struct virtio_scsi_resp_head *resp = r->resp;

	if (unlikely(t->unusual || !resp)) {
		req_done_slow(r);
		return;
	}
	/* GOOD, without sense data: all zero but the residual. */
	*resp = (struct virtio_scsi_resp_head){
		.residual_bytes = le32((uint32_t)(r->expected_bytes - t->in_bytes - t->out_bytes))
	};
	sense_clear(resp + 1);
	virtq_push(r->queue->vq, &r->chain,
		   (uint32_t)(sizeof(*resp) + VSCSI_SENSE_DEFAULT_BYTES + t->in_bytes));
}

static void fail_fn(struct loop_work *work)
{
	struct vscsi_req *r = container_of(work, struct vscsi_req, work);
	struct virtio_scsi_resp_head resp = { .response = VIRTIO_SCSI_S_FAILURE };

	if (r->shared)
		*r->shared = r->shared_orig;
	iov_cur_write_slow(&r->resp_cur, &resp, sizeof(resp));
	virtq_push(r->queue->vq, &r->chain, sizeof(resp));
}

/* ---- the request ---- */

/* Takes the response off the front of the device's side. */
static bool resp_take(struct vscsi_req *r)
{
	uint64_t len = sizeof(struct virtio_scsi_resp_head) + r->queue->sense_bytes;
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

static bool cdb_read(struct vscsi_req *r)
{
	uint32_t cdb_bytes = r->queue->cdb_bytes;
	uint32_t take = MIN(cdb_bytes, (uint32_t)SCSI_CDB_MAX);

	memset(r->task.cdb, 0, sizeof(r->task.cdb));
	return r->chain.out.left_bytes >= cdb_bytes &&
	       iov_cur_read_slow(&r->chain.out, r->task.cdb, take) &&
	       iov_cur_skip(&r->chain.out, cdb_bytes - take);
}

static void fail_later(struct vscsi_req *r)
{
	r->work.fn = fail_fn;
	loop_defer(r->queue->loop, &r->work);
}

__attribute__((noinline)) bool vscsi_lun_decode_slow(uint64_t lun, uint32_t *ret_target,
						     uint32_t *ret_lun)
{
	uint8_t single[8] = { 0 };

	*ret_target = (uint8_t)(lun >> 8);
	for (int i = 0; i < 6; i++)
		single[i] = (uint8_t)(lun >> (8 * (i + 2)));
	*ret_lun = scsi_lun_decode(single);
	return (uint8_t)lun == 1;
}

/* pi_bytes: protection information that was taken away from in front of the data. */
static inline void task_start(struct vscsi_req *r, uint64_t pi_bytes)
{
	struct scsi_task *t = &r->task;

	if (unlikely(!vscsi_lun_decode(r->lun, &t->target, &t->lun))) {
		t->target = SCSI_TARGETS_MAX; /* BAD_TARGET */
		t->lun = SCSI_LUN_NONE;
	}
	t->out = &r->chain.out;
	t->in = &r->chain.in;
	r->expected_bytes = t->out->left_bytes + t->in->left_bytes + pi_bytes;
	scsi_task_start(r->queue->scsi, t);
}

/* Any layout, any sizes. */
static __attribute__((noinline)) void request_slow(struct vscsi_req *r)
{
	struct virtio_scsi_req_head head;

	if (!resp_take(r)) {
		vscsi_drop_later(r);
		return;
	}
	if (!iov_cur_read(&r->chain.out, &head, sizeof(head)) || !cdb_read(r)) {
		fail_later(r);
		return;
	}
	r->lun = le64_get(head.lun);
	r->task.tag = le64_get(head.id);
	task_start(r, 0);
}

/* Copied once: the guest may change it meanwhile. The first branch is what all drivers do. */
void vscsi_on_request(struct vscsi_queue *q, struct vq_chain *chain)
{
	struct vscsi_req *r = container_of(chain, struct vscsi_req, chain);
	struct iov_cur *in = &chain->in, *out = &chain->out;
	const struct virtio_scsi_req_head *head;

	r->queue = q;
	r->task.done = req_done;
	if (unlikely(!q->default_sizes || !in->count || !out->count ||
		     in->iov->iov_len != RESP_DEFAULT_BYTES ||
		     out->iov->iov_len != REQ_DEFAULT_BYTES)) {
		request_slow(r);
		return;
	}
	r->resp = in->iov->iov_base;
	head = out->iov->iov_base;
	r->lun = le64_get(head->lun);
	r->task.tag = le64_get(head->id);
	memcpy(r->task.cdb, head + 1, SCSI_CDB_MAX);
	__asm__ volatile("" ::: "memory"); /* only the copies count from here */
	in->iov++;
	in->count--;
	in->left_bytes -= RESP_DEFAULT_BYTES;
	out->iov++;
	out->count--;
	out->left_bytes -= REQ_DEFAULT_BYTES;
	task_start(r, 0);
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
	if (!resp_take(r)) {
		vscsi_drop_later(r);
		return;
	}
	if (!iov_cur_read(&chain->out, &head, sizeof(head)) || !cdb_read(r) ||
	    !pi_take(r, le32_get(head.pi_out_bytes), le32_get(head.pi_in_bytes))) {
		fail_later(r);
		return;
	}
	r->task.tag = le64_get(head.head.id);
	r->task.done = req_pi_done;
	r->lun = le64_get(head.head.lun);
	task_start(r, r->pi_out.left_bytes + r->pi_in.left_bytes);
}
