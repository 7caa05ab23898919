/* Sockets, descriptors and the 12-byte header; see fe.h. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "fe.h"

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

const char *fe_req_name(uint32_t req)
{
	switch (req) {
#define X(n, name)                                                                                 \
	case n:                                                                                    \
		return #name;
		FE_MSGS(X)
#undef X
	default:
		return "unknown";
	}
}

void fe_init(struct fe *fe)
{
	memset(fe, 0, sizeof(*fe));
	fe->sock = -1;
	fe->back_sock = -1;
	fe->log_fd = -1;
	fe->inflight.fd = -1;
	fe->timeout_ms = 5000;
	fe->want_ack = true;
	for (unsigned i = 0; i < FE_QUEUE_MAX; i++) {
		fe->vring[i].kick_fd = -1;
		fe->vring[i].call_fd = -1;
		fe->vring[i].err_fd = -1;
	}
}

int fe_connect(struct fe *fe, const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int64_t end = now_ms() + fe->timeout_ms;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	for (;;) {
		int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int err;

		if (s < 0)
			return -errno;
		if (!connect(s, (struct sockaddr *)&sa, sizeof(sa))) {
			fe->sock = s;
			return 0;
		}
		err = errno;
		close(s);
		if ((err != ENOENT && err != ECONNREFUSED && err != EAGAIN) || now_ms() >= end)
			return -err;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

void fe_adopt(struct fe *fe, int sock)
{
	fe->sock = sock;
}

int fe_accept(struct fe *fe, int listen_sock)
{
	struct pollfd p = { .fd = listen_sock, .events = POLLIN };
	int s;

	if (poll(&p, 1, fe->timeout_ms) != 1)
		return -ETIMEDOUT;
	s = accept4(listen_sock, NULL, NULL, SOCK_CLOEXEC);
	if (s < 0)
		return -errno;
	fe->sock = s;
	return 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void fe_hangup(struct fe *fe)
{
	close_fd(&fe->sock);
	close_fd(&fe->back_sock);
	fe->proto = 0;
	for (unsigned i = 0; i < fe->region_count; i++)
		fe->region[i].known = false;
}

void fe_fini(struct fe *fe)
{
	if (fe->transport) {
		fe->transport->fini(fe);
		return;
	}
	fe_hangup(fe);
	for (unsigned i = 0; i < fe->region_count; i++) {
		munmap(fe->region[i].host, fe->region[i].wire.size_bytes);
		close_fd(&fe->region[i].fd);
	}
	for (unsigned i = 0; i < FE_QUEUE_MAX; i++) {
		close_fd(&fe->vring[i].kick_fd);
		close_fd(&fe->vring[i].call_fd);
		close_fd(&fe->vring[i].err_fd);
	}
	if (fe->inflight.host)
		munmap(fe->inflight.host, fe->inflight.wire.mmap_size_bytes);
	close_fd(&fe->inflight.fd);
	if (fe->log)
		munmap(fe->log, fe->log_bytes);
	close_fd(&fe->log_fd);
	fe_init(fe);
}

union ctl {
	struct cmsghdr align;
	char space[CMSG_SPACE(sizeof(int) * FE_FD_MAX)];
};

static void put_fds(struct msghdr *mh, union ctl *ctl, const int *fds, unsigned fd_count)
{
	struct cmsghdr *c;

	if (!fd_count)
		return;
	memset(ctl, 0, sizeof(*ctl));
	mh->msg_control = ctl;
	mh->msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
	c = CMSG_FIRSTHDR(mh);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
	memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
}

static int send_all(int sock, const void *bytes, size_t len, const int *fds, unsigned fd_count,
		    int timeout_ms)
{
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	int64_t end = now_ms() + timeout_ms;
	union ctl ctl;

	if (fd_count > FE_FD_MAX)
		return -EINVAL;
	put_fds(&mh, &ctl, fds, fd_count);
	while (iov.iov_len) {
		struct pollfd p = { .fd = sock, .events = POLLOUT };
		int64_t left = end - now_ms();
		ssize_t n;

		if (poll(&p, 1, left > 0 ? (int)left : 0) != 1)
			return -ETIMEDOUT;
		n = sendmsg(sock, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n < 0)
			return errno == EPIPE ? -ECONNRESET : -errno;
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
		mh.msg_control = NULL;
		mh.msg_controllen = 0;
	}
	return 0;
}

int fe_send_raw(struct fe *fe, const void *bytes, size_t len, const int *fds, unsigned fd_count)
{
	return send_all(fe->sock, bytes, len, fds, fd_count, fe->timeout_ms);
}

static int send_on(struct fe *fe, int sock, struct fe_hdr hdr, const void *payload, uint32_t len,
		   const int *fds, unsigned fd_count)
{
	uint8_t buf[sizeof(hdr) + FE_PAYLOAD_MAX];

	if (len > FE_PAYLOAD_MAX)
		return -EMSGSIZE;
	memcpy(buf, &hdr, sizeof(hdr));
	if (len)
		memcpy(buf + sizeof(hdr), payload, len);
	return send_all(sock, buf, sizeof(hdr) + len, fds, fd_count, fe->timeout_ms);
}

int fe_send(struct fe *fe, uint32_t req, uint32_t flags, const void *payload, uint32_t len,
	    const int *fds, unsigned fd_count)
{
	return send_on(fe, fe->sock, (struct fe_hdr){ req, flags, len }, payload, len, fds,
		       fd_count);
}

static void take_fds(struct msghdr *mh, struct fe_msg *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		unsigned n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (unsigned i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (msg->fd_count < FE_FD_MAX)
				msg->fds[msg->fd_count++] = fd;
			else
				close(fd);
		}
	}
}

static int recv_all(struct fe *fe, int sock, void *to, size_t len, struct fe_msg *msg)
{
	int64_t end = now_ms() + fe->timeout_ms;
	size_t done = 0;
	union ctl ctl;

	while (done < len) {
		struct pollfd p = { .fd = sock, .events = POLLIN };
		struct iovec iov = { (char *)to + done, len - done };
		struct msghdr mh = { .msg_iov = &iov,
				     .msg_iovlen = 1,
				     .msg_control = &ctl,
				     .msg_controllen = sizeof(ctl) };
		int64_t left = end - now_ms();
		ssize_t n;

		if (poll(&p, 1, left > 0 ? (int)left : 0) != 1)
			return -ETIMEDOUT;
		n = recvmsg(sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -ECONNRESET;
		take_fds(&mh, msg);
		done += (size_t)n;
	}
	return 0;
}

int fe_recv_raw(struct fe *fe, void *to, size_t len, struct fe_msg *msg)
{
	return recv_all(fe, fe->sock, to, len, msg);
}

int fe_recv_on(struct fe *fe, int sock, struct fe_msg *ret_msg)
{
	int rc;

	ret_msg->fd_count = 0;
	rc = recv_all(fe, sock, &ret_msg->hdr, sizeof(ret_msg->hdr), ret_msg);
	if (!rc && ret_msg->hdr.size_bytes > sizeof(ret_msg->payload)) {
		snprintf(fe->why, sizeof(fe->why), "message %u announces %u bytes",
			 ret_msg->hdr.req, ret_msg->hdr.size_bytes);
		rc = -EPROTO;
	}
	if (!rc)
		rc = recv_all(fe, sock, ret_msg->payload, ret_msg->hdr.size_bytes, ret_msg);
	if (rc)
		fe_msg_close(ret_msg);
	return rc;
}

int fe_recv(struct fe *fe, struct fe_msg *ret_msg)
{
	return fe_recv_on(fe, fe->sock, ret_msg);
}

void fe_msg_close(struct fe_msg *msg)
{
	for (unsigned i = 0; i < msg->fd_count; i++)
		close_fd(&msg->fds[i]);
	msg->fd_count = 0;
}

/* No NEED_REPLY here: a request with an answer of its own must not ask for a second one. */
int fe_call(struct fe *fe, uint32_t req, const void *payload, uint32_t len, const int *fds,
	    unsigned fd_count, struct fe_msg *ret_msg)
{
	return fe_call_flags(fe, req, FE_FLAG_VERSION, payload, len, fds, fd_count, ret_msg);
}

int fe_call_flags(struct fe *fe, uint32_t req, uint32_t flags, const void *payload, uint32_t len,
		  const int *fds, unsigned fd_count, struct fe_msg *ret_msg)
{
	int rc = fe_send(fe, req, flags, payload, len, fds, fd_count);

	if (!rc)
		rc = fe_recv(fe, ret_msg);
	if (rc)
		return rc;
	if (ret_msg->hdr.req == req && ret_msg->hdr.flags == (FE_FLAG_VERSION | FE_FLAG_REPLY))
		return 0;
	snprintf(fe->why, sizeof(fe->why), "%s answered by %s with flags 0x%x", fe_req_name(req),
		 fe_req_name(ret_msg->hdr.req), ret_msg->hdr.flags);
	fe_msg_close(ret_msg);
	return -EPROTO;
}

int fe_wait_closed(struct fe *fe)
{
	struct pollfd p = { .fd = fe->sock, .events = POLLIN };
	char c;

	if (poll(&p, 1, fe->timeout_ms) != 1)
		return -ETIMEDOUT;
	return recv(fe->sock, &c, 1, MSG_DONTWAIT | MSG_PEEK) > 0 ? -EPROTO : 0;
}

int fe_back_recv(struct fe *fe, struct fe_msg *ret_msg)
{
	return fe_recv_on(fe, fe->back_sock, ret_msg);
}

int fe_back_ack(struct fe *fe, const struct fe_msg *msg, uint64_t v)
{
	struct fe_hdr hdr = { msg->hdr.req, FE_FLAG_VERSION | FE_FLAG_REPLY, sizeof(v) };

	return send_on(fe, fe->back_sock, hdr, &v, sizeof(v), NULL, 0);
}
