#include "vfu/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/parcel.h"
#include "sock/fdio.h"

void vfu_conn_init(struct vfu_conn *c, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	*c = (struct vfu_conn){ .fd = fd };
	c->msg.reply_fd = c->out.reply_fd = -1;
	/* Every call also says MSG_DONTWAIT: the peer may share this description. */
	if (flags >= 0)
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void vfu_conn_fini(struct vfu_conn *c)
{
	vfu_msg_fini(&c->msg);
	vfu_msg_fini(&c->out);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->out_bytes = c->out_done = 0;
}

bool vfu_conn_mid_message(const struct vfu_conn *c)
{
	return c->hdr_have && (c->hdr_have < VFU_HDR_BYTES || c->payload_have < c->msg.payload);
}

/* One more step; VFU_CONN_MESSAGE here means: this part is whole. */
static enum vfu_conn_read vfu_conn_part(struct vfu_conn *c, void *dst, size_t *have, size_t want,
					struct err *reterr)
{
	while (*have < want) {
		struct fdio_fds keep = { c->msg.fds, c->msg.fd_count, VFU_FDS_MAX };
		ssize_t n = fdio_recv(c->fd, (char *)dst + *have, want - *have, &keep, reterr);

		c->msg.fd_count = keep.count;
		if (n == -EAGAIN)
			return VFU_CONN_AGAIN;
		if (n < 0)
			return VFU_CONN_ERROR;
		if (n == 0) {
			if (!c->hdr_have)
				return VFU_CONN_EOF;
			err_set(reterr, -ECONNRESET, "the client left in the middle of a message");
			return VFU_CONN_ERROR;
		}
		*have += (size_t)n;
	}
	return VFU_CONN_MESSAGE;
}

void vfu_conn_message_drop(struct vfu_conn *c)
{
	vfu_msg_drop(&c->msg);
	c->hdr_have = c->payload_have = 0;
}

enum vfu_conn_read vfu_conn_read(struct vfu_conn *c, struct err *reterr)
{
	struct vfu_hdr *hdr = &c->msg.hdr;
	enum vfu_conn_read got = vfu_conn_part(c, hdr, &c->hdr_have, sizeof(*hdr), reterr);

	if (got != VFU_CONN_MESSAGE)
		return got;
	if (hdr->size < VFU_HDR_BYTES || hdr->size > VFU_HDR_BYTES + VFU_PAYLOAD_MAX) {
		err_set(reterr, -EMSGSIZE, "command %u: size: expected %u..%u, got %u",
			hdr->command, VFU_HDR_BYTES, VFU_HDR_BYTES + VFU_PAYLOAD_MAX, hdr->size);
		return VFU_CONN_ERROR;
	}
	c->msg.payload = hdr->size - VFU_HDR_BYTES;
	if (vfu_msg_reserve(&c->msg, c->msg.payload)) {
		err_set(reterr, -ENOMEM, "command %u: no memory for %u bytes", hdr->command,
			hdr->size);
		return VFU_CONN_ERROR;
	}
	return vfu_conn_part(c, vfu_msg_bytes(&c->msg), &c->payload_have, c->msg.payload, reterr);
}

void vfu_conn_send(struct vfu_conn *c, const struct vfu_hdr *hdr, struct vfu_msg *m)
{
	struct vfu_msg old = c->out;

	ASSERT(!vfu_conn_sending(c));
	ASSERT(hdr->size >= VFU_HDR_BYTES && hdr->size - VFU_HDR_BYTES <= m->capacity);
	c->out.buf = m->buf;
	c->out.capacity = m->capacity;
	c->out.reply_fd = m->reply_fd;
	m->buf = old.buf;
	m->capacity = old.capacity;
	memcpy(c->out.buf, hdr, sizeof(*hdr));
	c->out_bytes = hdr->size;
	c->out_done = 0;
}

int vfu_conn_flush(struct vfu_conn *c)
{
	while (vfu_conn_sending(c)) {
		ssize_t n = fdio_send(c->fd, c->out.buf + c->out_done, c->out_bytes - c->out_done,
				      &c->out.reply_fd, c->out.reply_fd >= 0);

		if (n < 0)
			return (int)n;
		c->out_done += (size_t)n;
		c->out.reply_fd = -1;
	}
	vfu_msg_drop(&c->out);
	return 0;
}

/* ---- hand-over ---- */

#define VFU_CONN_TAG	 "sock"
#define VFU_CONN_VERSION 1

void vfu_msg_pack(const struct vfu_msg *m, size_t hdr_have, size_t payload_have, struct parcel *p)
{
	parcel_put_u32(p, (uint32_t)hdr_have);
	parcel_put(p, &m->hdr, hdr_have);
	parcel_put_u32(p, (uint32_t)payload_have);
	if (payload_have)
		parcel_put(p, vfu_msg_bytes(m), payload_have);
	parcel_put_u32(p, m->fd_count);
	for (uint32_t i = 0; i < m->fd_count; i++)
		parcel_put_fd(p, m->fds[i]);
}

int vfu_msg_unpack(struct vfu_msg *m, size_t *ret_hdr_have, size_t *ret_payload_have,
		   struct parcel *p, struct err *reterr)
{
	size_t hdr_have = parcel_take_count(p, VFU_HDR_BYTES), payload_have;
	uint32_t fds;

	parcel_take(p, &m->hdr, hdr_have);
	payload_have = parcel_take_count(p, hdr_have == VFU_HDR_BYTES ? VFU_PAYLOAD_MAX : 0);
	if (hdr_have == VFU_HDR_BYTES) {
		if (p->failed || m->hdr.size < VFU_HDR_BYTES ||
		    m->hdr.size > VFU_HDR_BYTES + VFU_PAYLOAD_MAX ||
		    payload_have > m->hdr.size - VFU_HDR_BYTES)
			return err_set(reterr, -EPROTO, "message: %zu bytes of a payload of %u",
				       payload_have, m->hdr.size);
		m->payload = m->hdr.size - VFU_HDR_BYTES;
		if (vfu_msg_reserve(m, m->payload))
			return err_set(reterr, -ENOMEM, "no memory for a message");
		parcel_take(p, vfu_msg_bytes(m), payload_have);
	}
	fds = parcel_take_count(p, VFU_FDS_MAX);
	for (uint32_t i = 0; i < fds; i++)
		m->fds[m->fd_count++] = parcel_take_fd(p);
	*ret_hdr_have = hdr_have;
	*ret_payload_have = payload_have;
	return p->failed ? err_set(reterr, -EPROTO, "a message is cut off") : 0;
}

void vfu_conn_pack(const struct vfu_conn *c, struct parcel *p)
{
	const size_t out = c->out_bytes - c->out_done;
	struct parcel_section s;

	ASSERT(!c->hdr_have || vfu_conn_mid_message(c));
	parcel_section_begin(p, &s, VFU_CONN_TAG, VFU_CONN_VERSION);
	parcel_put_fd(p, c->fd);
	vfu_msg_pack(&c->msg, c->hdr_have, c->payload_have, p);
	parcel_put_u32(p, (uint32_t)out);
	if (out)
		parcel_put(p, c->out.buf + c->out_done, out);
	parcel_section_done(p, &s);
}

static int vfu_conn_out_unpack(struct vfu_conn *c, struct parcel *p, struct err *reterr)
{
	const uint32_t out = parcel_take_count(p, VFU_HDR_BYTES + VFU_PAYLOAD_MAX);

	if (!out)
		return 0;
	if (vfu_msg_reserve(&c->out, out > VFU_HDR_BYTES ? out - VFU_HDR_BYTES : 0))
		return err_set(reterr, -ENOMEM, "no memory for a message");
	parcel_take(p, c->out.buf, out);
	c->out_bytes = out;
	return 0;
}

int vfu_conn_unpack(struct vfu_conn *c, struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc = parcel_section_enter(p, &s, VFU_CONN_TAG, VFU_CONN_VERSION, reterr);

	vfu_conn_init(c, rc < 0 ? -1 : parcel_take_fd(p));
	if (rc == 0)
		rc = vfu_msg_unpack(&c->msg, &c->hdr_have, &c->payload_have, p, reterr);
	if (rc == 0)
		rc = vfu_conn_out_unpack(c, p, reterr);
	if (rc == 0)
		rc = parcel_section_end(p, &s, VFU_CONN_TAG, reterr);
	if (rc == 0 && (c->fd < 0 || (c->hdr_have && !vfu_conn_mid_message(c))))
		rc = err_set(reterr, -EPROTO, "connection: expected a socket and no whole message");
	return rc;
}
