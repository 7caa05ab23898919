#include "vfu/remote.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/num.h"
#include "base/parcel.h"
#include "vfu/session.h"

/* Pieces are no larger than this, so that one buffer of that size is all that they cost. */
#define VFU_REMOTE_PIECE_MAX 0x10000u

void vfu_remote_init(struct vfu_remote *r)
{
	list_init(&r->waiting);
	r->msg.reply_fd = -1;
}

void vfu_remote_fini(struct vfu_remote *r)
{
	vfu_msg_fini(&r->msg);
}

bool vfu_remote_is_busy(const struct vfu_remote *r)
{
	if (!list_empty(&r->waiting))
		return true;
	for (uint32_t i = 0; i < VFU_REMOTE_OUT_MAX; i++) {
		if (r->out[i].dma)
			return true;
	}
	return false;
}

static void vfu_remote_on_done(struct loop_msg *msg)
{
	struct nvme_dma *dma = container_of(msg, struct nvme_dma, msg);

	dma->done(dma, dma->rc);
}

static void vfu_remote_end(struct nvme_dma *dma, int rc)
{
	dma->rc = rc;
	dma->msg.fn = vfu_remote_on_done;
	loop_post(dma->loop, &dma->msg);
}

static void vfu_remote_arrive(struct vfu_session *s, struct nvme_dma *dma)
{
	struct vfu_remote *r = &s->remote;

	if (r->failing || s->state == VFU_SESSION_CLOSING) {
		vfu_remote_end(dma, -EIO);
		return;
	}
	/* "This address must have been previously exported to the server". */
	if (!vfu_dma_is_mapped(&s->dma, dma->iova, dma->len_bytes,
			       dma->to_guest ? VFU_MAP_WRITE : VFU_MAP_READ)) {
		vfu_remote_end(dma, -EFAULT);
		return;
	}
	list_append(&r->waiting, &dma->node);
	vfu_session_remote_changed(s);
}

static void vfu_remote_on_message(struct loop_msg *msg)
{
	struct nvme_dma *dma = container_of(msg, struct nvme_dma, msg);

	vfu_remote_arrive(dma->owner, dma);
}

void vfu_remote_start(struct vfu_session *s, struct nvme_dma *dma)
{
	dma->done_bytes = 0;
	dma->owner = s;
	dma->msg.fn = vfu_remote_on_message;
	loop_post(s->params.main_loop, &dma->msg);
}

/* ---- requests out ---- */

static int vfu_remote_slot_find(const struct vfu_remote *r)
{
	for (int i = 0; i < VFU_REMOTE_OUT_MAX; i++) {
		if (!r->out[i].id_used)
			return i;
	}
	return -1;
}

/* An id that no request under way has. */
static uint16_t vfu_remote_id(struct vfu_remote *r)
{
	for (;;) {
		uint16_t id = r->next_id++;
		bool used = false;

		for (uint32_t i = 0; i < VFU_REMOTE_OUT_MAX; i++)
			used |= r->out[i].id_used && r->out[i].id == id;
		if (!used)
			return id;
	}
}

static void vfu_remote_send(struct vfu_session *s, struct nvme_dma *dma, int slot)
{
	struct vfu_remote *r = &s->remote;
	uint64_t left = dma->len_bytes - dma->done_bytes;
	uint32_t max = MIN(s->peer_xfer_max, VFU_REMOTE_PIECE_MAX);
	uint32_t count = (uint32_t)MIN(left, (uint64_t)max);
	uint32_t data = dma->to_guest ? count : 0;
	struct vfu_hdr hdr = { .id = vfu_remote_id(r),
			       .command = dma->to_guest ? VFU_DMA_WRITE : VFU_DMA_READ,
			       .size = VFU_HDR_BYTES + sizeof(struct vfu_dma_io) + data };
	struct vfu_dma_io *io;

	if (vfu_msg_reserve(&r->msg, sizeof(*io) + data)) {
		vfu_remote_end(dma, -EIO);
		return;
	}
	io = vfu_msg_bytes(&r->msg);
	io->iova = dma->iova + dma->done_bytes;
	io->count = count;
	if (data)
		memcpy(io->bytes, (char *)dma->buf + dma->done_bytes, data);
	r->out[slot].dma = dma;
	r->out[slot].id_used = true;
	r->out[slot].id = hdr.id;
	r->out[slot].count = count;
	r->out_count++;
	vfu_session_send(s, &hdr, &r->msg);
}

void vfu_remote_pump(struct vfu_session *s)
{
	struct vfu_remote *r = &s->remote;

	while (s->state != VFU_SESSION_CLOSING && !vfu_conn_sending(&s->conn)) {
		int slot = vfu_remote_slot_find(r);
		struct list *n = slot < 0 ? NULL : list_pop(&r->waiting);

		if (!n)
			return;
		vfu_remote_send(s, list_entry(n, struct nvme_dma, node), slot);
	}
}

/* ---- answers in ---- */

/* Does the answer fit what was asked? 0, or the transfer's end. */
static int vfu_remote_take(struct nvme_dma *dma, uint32_t count, const struct vfu_msg *m)
{
	const struct vfu_dma_io *io = vfu_msg_bytes(m);
	/* Of a write's answer some clients send only 12 bytes, the count in four. */
	size_t need = dma->to_guest ? 12 : sizeof(*io) + count;

	if (m->hdr.flags & VFU_ERROR)
		return -EFAULT;
	if (m->payload < need || io->iova != dma->iova + dma->done_bytes)
		return -EIO;
	if (dma->to_guest)
		return 0;
	if (io->count != count)
		return -EIO;
	memcpy((char *)dma->buf + dma->done_bytes, io->bytes, count);
	return 0;
}

int vfu_remote_on_reply(struct vfu_session *s, const struct vfu_msg *m, struct err *reterr)
{
	struct vfu_remote *r = &s->remote;
	struct nvme_dma *dma;
	uint32_t slot = 0;
	int rc;

	while (slot < VFU_REMOTE_OUT_MAX && !(r->out[slot].id_used && r->out[slot].id == m->hdr.id))
		slot++;
	if (slot == VFU_REMOTE_OUT_MAX)
		return err_set(reterr, -EPROTO, "an answer with id %u, which nothing of ours has",
			       m->hdr.id);
	dma = r->out[slot].dma;
	r->out[slot].dma = NULL;
	r->out[slot].id_used = false;
	r->out_count--;
	if (!dma) /* it came too late */
		return 0;
	rc = vfu_remote_take(dma, r->out[slot].count, m);
	dma->done_bytes += r->out[slot].count;
	if (rc || dma->done_bytes == dma->len_bytes)
		vfu_remote_end(dma, rc);
	else
		list_append(&r->waiting, &dma->node);
	return 0;
}

void vfu_remote_fail(struct vfu_session *s, bool on)
{
	struct vfu_remote *r = &s->remote;
	struct list *n;

	r->failing = on;
	while ((n = list_pop(&r->waiting)))
		vfu_remote_end(list_entry(n, struct nvme_dma, node), -EIO);
	/* Their answers may still come: the ids stay in use until then. */
	for (uint32_t i = 0; i < VFU_REMOTE_OUT_MAX; i++) {
		if (r->out[i].dma)
			vfu_remote_end(r->out[i].dma, -EIO);
		r->out[i].dma = NULL;
	}
}

/* ---- hand-over ---- */

#define VFU_REMOTE_TAG	   "dmas"
#define VFU_REMOTE_VERSION 1

void vfu_remote_pack(const struct vfu_remote *r, struct parcel *p)
{
	struct parcel_section s;

	ASSERT(!vfu_remote_is_busy(r));
	parcel_section_begin(p, &s, VFU_REMOTE_TAG, VFU_REMOTE_VERSION);
	parcel_put_u32(p, r->next_id);
	parcel_put_u32(p, r->out_count);
	for (uint32_t i = 0; i < VFU_REMOTE_OUT_MAX; i++) {
		if (!r->out[i].id_used)
			continue;
		parcel_put_u32(p, r->out[i].id);
		parcel_put_u32(p, r->out[i].count);
	}
	parcel_section_done(p, &s);
}

int vfu_remote_unpack(struct vfu_remote *r, struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	uint32_t count;
	int rc = parcel_section_enter(p, &s, VFU_REMOTE_TAG, VFU_REMOTE_VERSION, reterr);

	if (rc < 0)
		return rc;
	r->next_id = (uint16_t)parcel_take_count(p, UINT16_MAX);
	count = parcel_take_count(p, VFU_REMOTE_OUT_MAX);
	for (; r->out_count < count; r->out_count++) {
		r->out[r->out_count].id = (uint16_t)parcel_take_count(p, UINT16_MAX);
		r->out[r->out_count].count = parcel_take_count(p, VFU_REMOTE_PIECE_MAX);
		r->out[r->out_count].id_used = true;
	}
	return parcel_section_end(p, &s, VFU_REMOTE_TAG, reterr);
}
