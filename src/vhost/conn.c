#include "vhost/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"

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

/* Moves the descriptors of one control message into the message; false when there are too many. */
static bool conn_fds_keep(struct msg *m, const struct cmsghdr *cm)
{
	uint32_t n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	bool fits = true;

	for (uint32_t i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(fd));
		if (m->fd_count < MSG_FDS_MAX) {
			m->fds[m->fd_count++] = fd;
		} else {
			close(fd);
			fits = false;
		}
	}
	return fits;
}

/* Receives up to len bytes and whatever descriptors come with them. */
static ssize_t conn_recv(struct conn *c, void *dst, size_t len, struct err *reterr)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int) * MSG_FDS_MAX)];
	} control;
	struct iovec iov = { dst, len };
	struct msghdr mh = { .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.buf,
			     .msg_controllen = sizeof(control.buf) };
	bool fits = true;
	ssize_t n;

	do {
		n = recvmsg(c->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? -EAGAIN
				       : err_set(reterr, -errno, "recvmsg: %s", strerror(errno));
	for (struct cmsghdr *cm = CMSG_FIRSTHDR(&mh); cm; cm = CMSG_NXTHDR(&mh, cm)) {
		if (cm->cmsg_level == SOL_SOCKET && cm->cmsg_type == SCM_RIGHTS)
			fits &= conn_fds_keep(&c->msg, cm);
	}
	if (!fits || mh.msg_flags & MSG_CTRUNC)
		return err_set(reterr, -EMFILE,
			       "descriptors: expected at most %u with a message, got more "
			       "(or this process has no free descriptor)",
			       MSG_FDS_MAX);
	return n;
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
		ssize_t n = conn_recv(c, (char *)dst + *have, want - *have, reterr);

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

static ssize_t conn_send(struct conn *c)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { c->out + c->out_done, c->out_bytes - c->out_done };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (c->out_fd >= 0) {
		struct cmsghdr *cm;

		mh.msg_control = control.buf;
		mh.msg_controllen = sizeof(control.buf);
		cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &c->out_fd, sizeof(int));
	}
	return sendmsg(c->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int conn_flush(struct conn *c)
{
	while (conn_sending(c)) {
		ssize_t n = conn_send(c);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		c->out_done += (size_t)n;
		if (c->out_fd >= 0)
			close(c->out_fd);
		c->out_fd = -1;
	}
	return 0;
}
