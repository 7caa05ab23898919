#include "vhost/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/parcel.h"
#include "sock/fdio.h"

void conn_init(struct conn *c, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	*c = (struct conn){ .fd = fd, .out_fd = -1 };
	/* Every call also says MSG_DONTWAIT: the peer may share this description. */
	if (flags >= 0)
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void conn_fini(struct conn *c)
{
	msg_fds_close(&c->msg);
	if (c->out_fd >= 0)
		close(c->out_fd);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = c->out_fd = -1;
	c->out_bytes = c->out_done = 0;
}

bool conn_mid_message(const struct conn *c)
{
	return c->hdr_have && (c->hdr_have < MSG_HDR_BYTES || c->payload_have < c->msg.hdr.size);
}

/* One more step; CONN_MESSAGE here means: this part is whole. */
static enum conn_read conn_part(struct conn *c, void *dst, size_t *have, size_t want,
				struct err *reterr)
{
	while (*have < want) {
		struct fdio_fds keep = { c->msg.fds, c->msg.fd_count, MSG_FDS_MAX };
		ssize_t n = fdio_recv(c->fd, (char *)dst + *have, want - *have, &keep, reterr);

		c->msg.fd_count = keep.count;
		if (n == -EAGAIN)
			return CONN_AGAIN;
		if (n < 0)
			return CONN_ERROR;
		if (n == 0) {
			if (!c->hdr_have)
				return CONN_EOF;
			err_set(reterr, -ECONNRESET,
				"the front-end left in the middle of a message");
			return CONN_ERROR;
		}
		*have += (size_t)n;
	}
	return CONN_MESSAGE;
}

void conn_message_drop(struct conn *c)
{
	msg_fds_close(&c->msg);
	c->hdr_have = c->payload_have = 0;
}

enum conn_read conn_read(struct conn *c, struct err *reterr)
{
	enum conn_read got;

	got = conn_part(c, &c->msg.hdr, &c->hdr_have, MSG_HDR_BYTES, reterr);
	if (got != CONN_MESSAGE)
		return got;
	if (c->msg.hdr.size > MSG_PAYLOAD_MAX) {
		err_set(reterr, -EMSGSIZE, "message %u: payload: expected at most %u bytes, got %u",
			c->msg.hdr.request, MSG_PAYLOAD_MAX, c->msg.hdr.size);
		return CONN_ERROR;
	}
	return conn_part(c, c->msg.bytes, &c->payload_have, c->msg.hdr.size, reterr);
}

void conn_reply(struct conn *c, const struct msg_hdr *hdr, const void *payload, int fd)
{
	ASSERT(!conn_sending(c));
	ASSERT(hdr->size <= sizeof(c->out) - MSG_HDR_BYTES);
	memcpy(c->out, hdr, MSG_HDR_BYTES);
	memcpy(c->out + MSG_HDR_BYTES, payload, hdr->size);
	c->out_bytes = MSG_HDR_BYTES + hdr->size;
	c->out_done = 0;
	c->out_fd = fd;
}

int conn_flush(struct conn *c)
{
	while (conn_sending(c)) {
		ssize_t n = fdio_send(c->fd, c->out + c->out_done, c->out_bytes - c->out_done,
				      &c->out_fd, c->out_fd >= 0);

		if (n < 0)
			return (int)n;
		c->out_done += (size_t)n;
		if (c->out_fd >= 0)
			close(c->out_fd);
		c->out_fd = -1;
	}
	return 0;
}

/* ---- hand-over ---- */

#define CONN_TAG     "sock"
#define CONN_VERSION 1

void conn_pack(const struct conn *c, struct parcel *p)
{
	const size_t out = c->out_bytes - c->out_done;
	struct parcel_section s;

	ASSERT(c->hdr_have < MSG_HDR_BYTES || conn_mid_message(c));
	parcel_section_begin(p, &s, CONN_TAG, CONN_VERSION);
	parcel_put_fd(p, c->fd);
	parcel_put_u32(p, (uint32_t)c->hdr_have);
	parcel_put_u32(p, (uint32_t)c->payload_have);
	parcel_put(p, &c->msg.hdr, c->hdr_have);
	parcel_put(p, c->msg.bytes, c->payload_have);
	parcel_put_u32(p, c->msg.fd_count);
	for (uint32_t i = 0; i < c->msg.fd_count; i++)
		parcel_put_fd(p, c->msg.fds[i]);
	parcel_put_u32(p, (uint32_t)out);
	parcel_put(p, c->out + c->out_done, out);
	parcel_put_fd(p, c->out_fd);
	parcel_section_done(p, &s);
}

int conn_unpack(struct conn *c, struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int fd, rc = parcel_section_enter(p, &s, CONN_TAG, CONN_VERSION, reterr);

	fd = rc < 0 ? -1 : parcel_take_fd(p);
	conn_init(c, fd);
	if (rc < 0)
		return rc;
	c->hdr_have = parcel_take_count(p, MSG_HDR_BYTES);
	c->payload_have = parcel_take_count(p, MSG_PAYLOAD_MAX);
	parcel_take(p, &c->msg.hdr, c->hdr_have);
	parcel_take(p, c->msg.bytes, c->payload_have);
	c->msg.fd_count = parcel_take_count(p, MSG_FDS_MAX);
	for (uint32_t i = 0; i < c->msg.fd_count; i++)
		c->msg.fds[i] = parcel_take_fd(p);
	c->out_bytes = parcel_take_count(p, sizeof(c->out));
	parcel_take(p, c->out, c->out_bytes);
	c->out_fd = parcel_take_fd(p);
	rc = parcel_section_end(p, &s, CONN_TAG, reterr);
	if (rc < 0)
		return rc;
	if (fd < 0)
		return err_set(reterr, -EPROTO, "connection: there is no socket");
	if (c->hdr_have == MSG_HDR_BYTES && c->payload_have >= c->msg.hdr.size)
		return err_set(reterr, -EPROTO, "connection: expected no whole message");
	return 0;
}
