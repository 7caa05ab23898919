/*
 * Bytes and descriptors over a unix socket, without waiting. Descriptors that come are taken with
 * close-on-exec and counted; more than the caller has room for, or a control message that the
 * kernel cut, is an error, and those that had no room are closed.
 * Thread: any.
 */
#ifndef SOCK_FDIO_H
#define SOCK_FDIO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define FDIO_FDS_MAX 32 /* with one call */

/* Descriptors that belong to a message. */
struct fdio_fds {
	int *fds; /* the caller's array of max */
	uint32_t count, max;
};

/*
 * Receives up to len bytes and appends what descriptors come with them to keep. Returns how many
 * bytes, 0 at the end; -EAGAIN; -EMFILE (too many descriptors) and recvmsg's errno, named. What is
 * in keep is the caller's in every case.
 */
ssize_t fdio_recv(int sock, void *dst, size_t len_bytes, struct fdio_fds *keep, struct err *reterr);

/*
 * Sends up to len bytes, and fd_count (at most FDIO_FDS_MAX) descriptors, which stay the caller's,
 * with the first of them. Returns how many bytes, or -errno; EINTR is dealt with.
 */
ssize_t fdio_send(int sock, const void *src, size_t len_bytes, const int *fds, uint32_t fd_count);

#endif
