/* One call a message; see fe.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fe.h"

int fe_set(struct fe *fe, uint32_t req, const void *payload, uint32_t len, const int *fds,
	   unsigned fd_count)
{
	struct fe_msg msg;
	uint64_t v;
	int rc;

	if (!fe->want_ack || !(fe->proto & SPEC_PF_REPLY_ACK))
		return fe_send(fe, req, FE_FLAG_VERSION, payload, len, fds, fd_count);
	rc = fe_call_flags(fe, req, FE_FLAG_VERSION | FE_FLAG_NEED_REPLY, payload, len, fds,
			   fd_count, &msg);
	if (rc)
		return rc;
	fe_msg_close(&msg);
	if (msg.hdr.size_bytes != sizeof(v)) {
		snprintf(fe->why, sizeof(fe->why), "%s acknowledged with %u bytes",
			 fe_req_name(req), msg.hdr.size_bytes);
		return -EPROTO;
	}
	memcpy(&v, msg.payload, sizeof(v));
	return v ? -EREMOTEIO : 0;
}

int fe_set_u64(struct fe *fe, uint32_t req, uint64_t v)
{
	return fe_set(fe, req, &v, sizeof(v), NULL, 0);
}

int fe_get_u64(struct fe *fe, uint32_t req, uint64_t *ret_v)
{
	struct fe_msg msg;
	int rc = fe_call(fe, req, NULL, 0, NULL, 0, &msg);

	if (rc)
		return rc;
	fe_msg_close(&msg);
	if (msg.hdr.size_bytes != sizeof(*ret_v))
		return -EPROTO;
	memcpy(ret_v, msg.payload, sizeof(*ret_v));
	return 0;
}

int fe_negotiate(struct fe *fe, uint64_t features_want, uint64_t proto_want)
{
	int rc = fe_get_u64(fe, FE_GET_FEATURES, &fe->features_offered);

	if (rc)
		return rc;
	fe->features = fe->features_offered & features_want;
	if (fe->features_offered & SPEC_F_PROTOCOL) {
		rc = fe_get_u64(fe, FE_GET_PROTOCOL_FEATURES, &fe->proto_offered);
		if (!rc)
			rc = fe_set_u64(fe, FE_SET_PROTOCOL_FEATURES,
					fe->proto_offered & proto_want);
		if (rc)
			return rc;
		fe->proto = fe->proto_offered & proto_want;
	}
	return fe_set_u64(fe, FE_SET_FEATURES, fe->features);
}

static int set_state(struct fe *fe, uint32_t req, uint32_t idx, uint32_t num)
{
	struct fe_wire_state s = { idx, num };

	return fe_set(fe, req, &s, sizeof(s), NULL, 0);
}

int fe_set_vring_num(struct fe *fe, uint32_t idx, uint32_t num)
{
	return set_state(fe, FE_SET_VRING_NUM, idx, num);
}

int fe_set_vring_base(struct fe *fe, uint32_t idx, uint32_t num)
{
	return set_state(fe, FE_SET_VRING_BASE, idx, num);
}

int fe_set_vring_enable(struct fe *fe, uint32_t idx, uint32_t on)
{
	return set_state(fe, FE_SET_VRING_ENABLE, idx, on);
}

int fe_get_vring_base(struct fe *fe, uint32_t idx, uint32_t *ret_num)
{
	struct fe_wire_state s = { idx, 0 };
	struct fe_msg msg;
	int rc = fe_call(fe, FE_GET_VRING_BASE, &s, sizeof(s), NULL, 0, &msg);

	if (rc)
		return rc;
	fe_msg_close(&msg);
	if (msg.hdr.size_bytes != sizeof(s))
		return -EPROTO;
	memcpy(&s, msg.payload, sizeof(s));
	if (s.idx != idx)
		return -EPROTO;
	*ret_num = s.num;
	return 0;
}

int fe_set_vring_addr(struct fe *fe, const struct fe_vring *vr, uint32_t flags, uint64_t log_gpa)
{
	struct fe_wire_addr a = {
		.idx = vr->idx,
		.flags = flags,
		.desc_uva = fe_uva(fe, vr->desc_gpa),
		.used_uva = fe_uva(fe, vr->used_gpa),
		.avail_uva = fe_uva(fe, vr->avail_gpa),
		.log_gpa = log_gpa,
	};

	return fe_set(fe, FE_SET_VRING_ADDR, &a, sizeof(a), NULL, 0);
}

int fe_set_vring_fd(struct fe *fe, uint32_t req, uint32_t idx, int fd)
{
	uint64_t v = idx | (fd < 0 ? FE_VRING_NO_FD : 0);

	return fe_set(fe, req, &v, sizeof(v), &fd, fd < 0 ? 0 : 1);
}

int fe_get_config(struct fe *fe, uint32_t off, void *ret_bytes, uint32_t len)
{
	struct fe_wire_config c = { .off = off, .size_bytes = len };
	uint32_t head = (uint32_t)offsetof(struct fe_wire_config, bytes);
	struct fe_msg msg;
	int rc;

	if (fe->transport)
		return fe->transport->get_config(fe, off, ret_bytes, len);
	if (len > sizeof(c.bytes))
		return -EMSGSIZE;
	rc = fe_call(fe, FE_GET_CONFIG, &c, head + len, NULL, 0, &msg);
	if (rc)
		return rc;
	fe_msg_close(&msg);
	if (!msg.hdr.size_bytes)
		return -EREMOTEIO;
	if (msg.hdr.size_bytes != head + len)
		return -EPROTO;
	memcpy(ret_bytes, msg.payload + head, len);
	return 0;
}

int fe_set_config(struct fe *fe, uint32_t off, const void *bytes, uint32_t len, uint32_t flags)
{
	struct fe_wire_config c = { .off = off, .size_bytes = len, .flags = flags };

	if (fe->transport)
		return fe->transport->set_config(fe, off, bytes, len, flags);
	if (len > sizeof(c.bytes))
		return -EMSGSIZE;
	memcpy(c.bytes, bytes, len);
	return fe_set(fe, FE_SET_CONFIG, &c, (uint32_t)offsetof(struct fe_wire_config, bytes) + len,
		      NULL, 0);
}

int fe_open_back_channel(struct fe *fe)
{
	int sv[2];
	int rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		return -errno;
	if (fe->back_sock >= 0)
		close(fe->back_sock);
	fe->back_sock = sv[0];
	rc = fe_set(fe, FE_SET_BACKEND_REQ_FD, NULL, 0, &sv[1], 1);
	close(sv[1]);
	return rc;
}
