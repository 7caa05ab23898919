/* The control queue: task management and asynchronous notification (virtio 1.3, 5.6.6.2). */
#include "virtio/scsi_impl.h"

/* Subtypes, in the order of their numbers. */
static const enum scsi_tmf_fn subtypes[] = {
	SCSI_TMF_ABORT_TASK,	 SCSI_TMF_ABORT_TASK_SET,  SCSI_TMF_CLEAR_ACA,
	SCSI_TMF_CLEAR_TASK_SET, SCSI_TMF_I_T_NEXUS_RESET, SCSI_TMF_LOGICAL_UNIT_RESET,
	SCSI_TMF_QUERY_TASK,	 SCSI_TMF_QUERY_TASK_SET,
};

static const uint8_t results_wire[] = {
	[SCSI_TMF_COMPLETE] = VIRTIO_SCSI_S_OK,
	[SCSI_TMF_SUCCEEDED] = VIRTIO_SCSI_S_FUNCTION_SUCCEEDED,
	[SCSI_TMF_REJECTED] = VIRTIO_SCSI_S_FUNCTION_REJECTED,
	[SCSI_TMF_BAD_TARGET] = VIRTIO_SCSI_S_BAD_TARGET,
	[SCSI_TMF_BAD_LUN] = VIRTIO_SCSI_S_INCORRECT_LUN,
};

static void ctrl_answer(struct vscsi_req *r, const void *resp, uint32_t len)
{
	if (!iov_cur_write_slow(&r->chain.in, resp, len))
		len = 0;
	virtq_push(r->queue->vq, &r->chain, len);
}

static void tmf_done(struct scsi_tmf *tmf)
{
	uint8_t response = results_wire[tmf->result];

	ctrl_answer(container_of(tmf, struct vscsi_req, tmf), &response, sizeof(response));
}

static void rejected_fn(struct loop_work *work)
{
	const uint8_t response = VIRTIO_SCSI_S_FUNCTION_REJECTED;

	ctrl_answer(container_of(work, struct vscsi_req, work), &response, sizeof(response));
}

static void bad_target_fn(struct loop_work *work)
{
	const uint8_t response = VIRTIO_SCSI_S_BAD_TARGET;

	ctrl_answer(container_of(work, struct vscsi_req, work), &response, sizeof(response));
}

/* No unit has events of its own to subscribe to: none of those asked for is there. */
static void an_fn(struct loop_work *work)
{
	const struct virtio_scsi_an_resp resp = { .event_actual = le32(0),
						  .response = VIRTIO_SCSI_S_OK };

	ctrl_answer(container_of(work, struct vscsi_req, work), &resp, sizeof(resp));
}

static void ctrl_later(struct vscsi_req *r, void (*fn)(struct loop_work *work))
{
	r->work.fn = fn;
	loop_defer(r->queue->loop, &r->work);
}

static void ctrl_tmf(struct vscsi_req *r)
{
	struct virtio_scsi_tmf_req req = { 0 };
	uint32_t subtype;

	/* the type was read; what follows it is the rest */
	if (!iov_cur_read(&r->chain.out, &req.subtype, sizeof(req) - sizeof(req.type))) {
		ctrl_later(r, rejected_fn);
		return;
	}
	subtype = le32_get(req.subtype);
	if (subtype >= ARRAY_SIZE(subtypes)) {
		ctrl_later(r, rejected_fn);
		return;
	}
	if (!vscsi_lun_decode(le64_get(req.lun), &r->tmf.target, &r->tmf.lun)) {
		ctrl_later(r, bad_target_fn);
		return;
	}
	r->tmf.fn = subtypes[subtype];
	r->tmf.tag = le64_get(req.id);
	r->tmf.done = tmf_done;
	scsi_tmf_start(r->queue->scsi, &r->tmf);
}

void vscsi_on_ctrl(struct vscsi_queue *q, struct vq_chain *chain)
{
	struct vscsi_req *r = container_of(chain, struct vscsi_req, chain);
	struct le32 type;

	r->queue = q;
	if (!chain->in.left_bytes) {
		vscsi_drop_later(r);
		return;
	}
	if (!iov_cur_read(&chain->out, &type, sizeof(type))) {
		ctrl_later(r, rejected_fn);
		return;
	}
	switch (le32_get(type)) {
	case VIRTIO_SCSI_T_TMF:
		ctrl_tmf(r);
		return;
	case VIRTIO_SCSI_T_AN_QUERY:
	case VIRTIO_SCSI_T_AN_SUBSCRIBE:
		ctrl_later(r, chain->in.left_bytes < sizeof(struct virtio_scsi_an_resp)
				      ? rejected_fn
				      : an_fn);
		return;
	default:
		ctrl_later(r, rejected_fn);
		return;
	}
}
