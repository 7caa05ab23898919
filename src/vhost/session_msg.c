/*
 * Messages about the device as a whole: features, owner, queues, config space, status, reset.
 */
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "vhost/session.h"

/* virtio 1.3, 2.1: device status bits */
#define STATUS_NEEDS_RESET 0x40

static void answer_u64(struct msg *m, uint64_t value)
{
	m->u64 = value;
	m->hdr.size = sizeof(value);
}

int session_handle_GET_FEATURES(struct session *s, struct msg *m, struct err *reterr)
{
	answer_u64(m, session_features_offered(s));
	return 0;
}

int session_handle_SET_FEATURES(struct session *s, struct msg *m, struct err *reterr)
{
	uint64_t extra = m->u64 & ~session_features_offered(s);

	if (extra)
		return err_set(reterr, -EPROTO, "bits 0x%llx were not offered",
			       (unsigned long long)extra);
	if ((s->features ^ m->u64) & VHOST_F_LOG_ALL)
		endpoint_tell(&s->endpoint_conn, ENDPOINT_MIGRATION,
			      m->u64 & VHOST_F_LOG_ALL ? "memory is logged"
						       : "memory is no longer logged");
	s->features = m->u64;
	s->features_set = true;
	if (s->vdev->ops->features_set)
		s->vdev->ops->features_set(s->vdev, s->features);
	/* Without the protocol feature all rings are enabled at once (ring states). */
	if (!(s->features & VHOST_USER_F_PROTOCOL)) {
		for (uint32_t i = 0; i < s->ring_count; i++)
			s->rings[i].enabled = true;
	}
	return 0;
}

int session_handle_SET_OWNER(struct session *s, struct msg *m, struct err *reterr)
{
	return 0;
}

/* Deprecated, and meant differently by different front-ends: older QEMU resets with it. */
int session_handle_RESET_OWNER(struct session *s, struct msg *m, struct err *reterr)
{
	session_device_reset(s);
	return 0;
}

int session_handle_RESET_DEVICE(struct session *s, struct msg *m, struct err *reterr)
{
	session_device_reset(s);
	return 0;
}

int session_handle_GET_PROTOCOL_FEATURES(struct session *s, struct msg *m, struct err *reterr)
{
	answer_u64(m, session_proto_features_offered());
	return 0;
}

int session_handle_SET_PROTOCOL_FEATURES(struct session *s, struct msg *m, struct err *reterr)
{
	uint64_t extra = m->u64 & ~session_proto_features_offered();

	if (extra)
		return err_set(reterr, -EPROTO, "bits 0x%llx were not offered",
			       (unsigned long long)extra);
	s->proto_features = m->u64;
	/* User Mode Linux wants the very message acknowledged that brings REPLY_ACK. */
	s->ack_wanted = m->hdr.flags & MSG_NEED_REPLY && m->u64 & VHOST_PF_REPLY_ACK;
	return 0;
}

int session_handle_GET_QUEUE_NUM(struct session *s, struct msg *m, struct err *reterr)
{
	answer_u64(m, s->ring_count);
	return 0;
}

int session_handle_SET_BACKEND_REQ_FD(struct session *s, struct msg *m, struct err *reterr)
{
	back_channel_set(&s->back, msg_fd_take(m, 0));
	return 0;
}

static bool config_range_ok(const struct msg *m)
{
	const struct msg_config *c = &m->config;

	return c->size && num_range_ok(c->offset, c->size, MSG_CONFIG_MAX) &&
	       m->hdr.size == MSG_CONFIG_HDR_BYTES + c->size;
}

/* An answer without payload means "no": the front-end decides what to make of it. */
int session_handle_GET_CONFIG(struct session *s, struct msg *m, struct err *reterr)
{
	uint8_t config[VDEV_CONFIG_MAX] = { 0 };

	if (!config_range_ok(m)) {
		log_limited(s->limit, LOG_WARNING,
			    "%s: GET_CONFIG: %u bytes at %u (payload %u) are not in 0..%u",
			    s->params.name, m->config.size, m->config.offset, m->hdr.size,
			    MSG_CONFIG_MAX);
		m->hdr.size = 0;
		return 0;
	}
	s->vdev->ops->config_read(s->vdev, config);
	memcpy(m->config.bytes, config + m->config.offset, m->config.size);
	return 0;
}

int session_handle_SET_CONFIG(struct session *s, struct msg *m, struct err *reterr)
{
	const struct msg_config *c = &m->config;
	int rc;

	if (!config_range_ok(m))
		return err_set(reterr, -EINVAL, "%u bytes at %u (payload %u) are not in 0..%u",
			       c->size, c->offset, m->hdr.size, MSG_CONFIG_MAX);
	if (c->flags > 1)
		return err_set(reterr, -EINVAL, "flags: expected 0 or 1, got %u", c->flags);
	if (!s->vdev->ops->config_write)
		return err_set(reterr, -EINVAL, "the device has no writable fields");
	rc = s->vdev->ops->config_write(s->vdev, c->offset, c->bytes, c->size);
	if (rc)
		return err_set(reterr, rc, "%u bytes at %u: not writable, or not a legal value",
			       c->size, c->offset);
	return 0;
}

int session_handle_SET_STATUS(struct session *s, struct msg *m, struct err *reterr)
{
	if (m->u64 > UINT8_MAX)
		return err_set(reterr, -EINVAL, "status: expected 0..255, got 0x%llx",
			       (unsigned long long)m->u64);
	if (m->u64 == 0)
		session_device_reset(s);
	s->status = (uint8_t)m->u64;
	return 0;
}

int session_handle_GET_STATUS(struct session *s, struct msg *m, struct err *reterr)
{
	uint64_t status = s->status;

	for (uint32_t i = 0; i < s->ring_count; i++) {
		if (s->rings[i].v.failed)
			status |= STATUS_NEEDS_RESET;
	}
	answer_u64(m, status);
	return 0;
}
