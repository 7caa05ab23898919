/*
 * A session in a hand-over: brought to a halt between two commands with the device quiesced,
 * written, and made again in the successor. The device is saved and loaded as in a migration; what
 * a migration leaves to the client (memory, descriptors, how far the conversation is) goes along.
 * Thread: main.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/parcel.h"
#include "vfu/session.h"

#define VFU_SESSION_TAG	    "vuse"
#define VFU_SESSION_VERSION 1

void vfu_session_freeze(struct vfu_session *s, bool frozen)
{
	if (s->state == VFU_SESSION_CLOSING || s->frozen == frozen)
		return;
	s->frozen = frozen;
	if (frozen) {
		loop_timer_stop(&s->resume_timer);
		vfu_session_quiesce(s);
		vfu_session_run(s);
		return;
	}
	if (s->resume_later)
		vfu_session_memory_changed(s);
	vfu_irqs_resume(s);
	if (vfu_conn_sending(&s->conn))
		vfu_session_flush(s);
	vfu_session_run(s);
}

bool vfu_session_is_quiet(const struct vfu_session *s)
{
	const struct vfu_dev *dev = s->dev; /* gone while it is CLOSING */

	return (s->state == VFU_SESSION_NEGOTIATE || s->state == VFU_SESSION_ACTIVE) &&
	       s->phase == VFU_PHASE_IDLE && s->dev_state == VFU_DEV_QUIESCED &&
	       !vfu_remote_is_busy(&s->remote) &&
	       (!dev->ops->is_settled || dev->ops->is_settled(dev));
}

/* ---- what the client has mapped of the device ---- */

static void vfu_session_areas_pack(const struct vfu_session *s, struct parcel *p)
{
	for (uint32_t i = 0; i < VFU_BARS; i++)
		parcel_put_fd(p, s->dev->pci.bars[i].map_bytes ? s->dev->pci.bars[i].map_fd : -1);
}

static int vfu_session_areas_unpack(struct vfu_session *s, struct parcel *p, struct err *reterr)
{
	int rc = 0;

	for (uint32_t i = 0; i < VFU_BARS && rc == 0; i++) {
		int fd = parcel_take_fd(p);

		if (fd < 0)
			continue;
		if (s->dev->pci.bars[i].map_bytes && s->dev->ops->map_set) {
			rc = s->dev->ops->map_set(s->dev, i, fd, reterr);
		} else {
			close(fd);
			rc = err_set(
				reterr, -EINVAL,
				"BAR %u: the client may have mapped it, and it cannot be as it "
				"is configured now",
				i);
		}
	}
	return rc;
}

/* ---- messages ---- */

static void vfu_session_backlog_pack(const struct vfu_session *s, struct parcel *p)
{
	const struct vfu_msg *m;

	parcel_put_u32(p, s->backlog_count);
	list_for_each(m, &s->backlog, node)
		vfu_msg_pack(m, VFU_HDR_BYTES, m->payload, p);
}

static int vfu_session_backlog_unpack(struct vfu_session *s, struct parcel *p, struct err *reterr)
{
	const uint32_t count = parcel_take_count(p, VFU_BACKLOG_FROZEN_MAX);
	int rc = 0;

	for (uint32_t i = 0; i < count && rc == 0; i++) {
		struct vfu_msg *m = calloc(1, sizeof(*m));
		size_t hdr_have, payload_have;

		if (!m)
			return err_set(reterr, -ENOMEM, "no memory for a message");
		m->reply_fd = -1;
		list_append(&s->backlog, &m->node);
		s->backlog_count++;
		rc = vfu_msg_unpack(m, &hdr_have, &payload_have, p, reterr);
		if (rc == 0 && (hdr_have != VFU_HDR_BYTES || payload_have != m->payload))
			rc = err_set(reterr, -EPROTO, "expected a whole message");
		s->backlog_bytes += m->payload;
	}
	return rc;
}

/* The descriptor that goes with what waits to be sent is that of a BAR: its number, 1 up. */
static uint32_t vfu_session_reply_bar(const struct vfu_session *s)
{
	int fd = vfu_conn_sending(&s->conn) ? s->conn.out.reply_fd : -1;

	for (uint32_t i = 0; i < VFU_BARS && fd >= 0; i++)
		if (s->dev->pci.bars[i].map_bytes && s->dev->pci.bars[i].map_fd == fd)
			return i + 1;
	return 0;
}

/* ---- the session ---- */

int vfu_session_pack(const struct vfu_session *s, struct parcel *p, struct err *reterr)
{
	struct parcel_section section;
	int rc;

	ASSERT(vfu_session_is_quiet(s));
	parcel_section_begin(p, &section, VFU_SESSION_TAG, VFU_SESSION_VERSION);
	parcel_put_u32(p, s->negotiated);
	parcel_put_u32(p, s->peer_fds_max);
	parcel_put_u32(p, s->peer_xfer_max);
	parcel_put_u32(p, s->resume_later);
	vfu_session_areas_pack(s, p);
	rc = vfu_dma_pack(&s->dma, p, reterr);
	vfu_irqs_pack(s, p);
	if (rc == 0)
		rc = vfu_migr_pack(s, p, reterr);
	if (rc == 0 && s->dev->ops->pack)
		rc = s->dev->ops->pack(s->dev, p, reterr);
	vfu_remote_pack(&s->remote, p);
	vfu_session_backlog_pack(s, p);
	parcel_put_u32(p, vfu_session_reply_bar(s));
	vfu_conn_pack(&s->conn, p);
	parcel_section_done(p, &section);
	return rc;
}

/* The device has its memory and interrupts before it has its state. */
static int vfu_session_device_unpack(struct vfu_session *s, struct parcel *p, struct err *reterr)
{
	int rc = vfu_session_areas_unpack(s, p, reterr);

	if (rc == 0)
		rc = vfu_dma_unpack(&s->dma, p, reterr);
	if (rc < 0)
		return rc;
	s->dev->ops->maps_set(s->dev, s->dma.readable, s->dma.writable);
	rc = vfu_irqs_unpack(s, p, reterr);
	if (rc == 0)
		rc = vfu_migr_unpack(s, p, reterr);
	if (rc == 0 && s->dev->ops->unpack)
		rc = s->dev->ops->unpack(s->dev, p, reterr);
	return rc;
}

static int vfu_session_talk_unpack(struct vfu_session *s, struct parcel *p, struct err *reterr)
{
	uint32_t bar;
	int rc = vfu_remote_unpack(&s->remote, p, reterr);

	if (rc == 0)
		rc = vfu_session_backlog_unpack(s, p, reterr);
	if (rc < 0)
		return rc;
	bar = parcel_take_count(p, VFU_BARS);
	rc = vfu_conn_unpack(&s->conn, p, reterr);
	if (rc == 0 && bar && s->dev->pci.bars[bar - 1].map_bytes)
		s->conn.out.reply_fd = s->dev->pci.bars[bar - 1].map_fd;
	return rc;
}

static int vfu_session_parts_unpack(struct vfu_session *s, struct parcel *p, struct err *reterr)
{
	struct parcel_section section;
	int rc = parcel_section_enter(p, &section, VFU_SESSION_TAG, VFU_SESSION_VERSION, reterr);

	if (rc < 0)
		return rc;
	s->negotiated = parcel_take_bool(p);
	s->peer_fds_max = MAX(parcel_take_u32(p), 1u);
	s->peer_xfer_max = MAX(parcel_take_u32(p), 1u);
	s->resume_later = parcel_take_bool(p);
	rc = vfu_session_device_unpack(s, p, reterr);
	if (rc == 0)
		rc = vfu_session_talk_unpack(s, p, reterr);
	return rc < 0 ? rc : parcel_section_end(p, &section, VFU_SESSION_TAG, reterr);
}

static void vfu_session_on_forgotten(struct vfu_session *s, void *arg)
{
}

int vfu_session_unpack(const struct vfu_session_params *params, struct vfu_dev *dev,
		       struct parcel *p, struct vfu_session **ret_session, struct err *reterr)
{
	struct vfu_session *s;
	int rc = vfu_session_make(params, dev, &s, reterr);

	if (rc < 0)
		return rc;
	s->frozen = true;
	vfu_session_quiesce(s);
	ASSERT(s->dev_state == VFU_DEV_QUIESCED); /* a new one has nothing to wait for */
	rc = vfu_session_parts_unpack(s, p, reterr);
	if (rc == 0) {
		vfu_session_open(s);
		vfu_session_run(s);
		*ret_session = s;
		return 0;
	}
	s->params.ended = vfu_session_on_forgotten;
	vfu_session_forget(s);
	return rc;
}
