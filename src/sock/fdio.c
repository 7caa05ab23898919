#include "sock/fdio.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"

union fdio_control {
	struct cmsghdr align;
	char buf[CMSG_SPACE(sizeof(int) * FDIO_FDS_MAX)];
};

/* Keeps the descriptors of one control message; false when there are too many. */
static bool fdio_keep(struct fdio_fds *keep, const struct cmsghdr *cm)
{
	uint32_t n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	bool fits = true;

	for (uint32_t i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(fd));
		if (keep->count < keep->max) {
			keep->fds[keep->count++] = fd;
		} else {
			close(fd);
			fits = false;
		}
	}
	return fits;
}

ssize_t fdio_recv(int sock, void *dst, size_t len_bytes, struct fdio_fds *keep, struct err *reterr)
{
	union fdio_control control;
	struct iovec iov = { dst, len_bytes };
	struct msghdr mh = { .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.buf,
			     .msg_controllen = sizeof(control.buf) };
	bool fits = true;
	ssize_t n;

	do {
		n = recvmsg(sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? -EAGAIN
				       : err_set(reterr, -errno, "recvmsg: %s", strerror(errno));
	for (struct cmsghdr *cm = CMSG_FIRSTHDR(&mh); cm; cm = CMSG_NXTHDR(&mh, cm)) {
		if (cm->cmsg_level == SOL_SOCKET && cm->cmsg_type == SCM_RIGHTS)
			fits &= fdio_keep(keep, cm);
	}
	if (!fits || mh.msg_flags & MSG_CTRUNC)
		return err_set(reterr, -EMFILE,
			       "descriptors: expected at most %u with a message, got more "
			       "(or this process has no free descriptor)",
			       keep->max);
	return n;
}

ssize_t fdio_send(int sock, const void *src, size_t len_bytes, const int *fds, uint32_t fd_count)
{
	union fdio_control control = { 0 };
	struct iovec iov = { (void *)src, len_bytes };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	ASSERT(fd_count <= FDIO_FDS_MAX);
	if (fd_count) {
		struct cmsghdr *cm;

		mh.msg_control = control.buf;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(cm), fds, sizeof(int) * fd_count);
	}
	do {
		n = sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}
