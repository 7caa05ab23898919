#include "sock/passing.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"
#include "loop/loop.h"
#include "sock/fdio.h"

#define PASSING_MAGIC	 0x76686f31u /* "vho1" */
#define PASSING_TEXT_MAX 480

struct passing_msg {
	uint32_t magic, kind;
	uint64_t bytes;	   /* PARCEL: of it */
	uint32_t fd_count; /* PARCEL: of it */
	uint32_t reserved;
	char text[PASSING_TEXT_MAX];
};

static const char *const passing_names[] = {
#define X(n) #n,
	PASSING_KINDS(X)
#undef X
};

/* Until the socket is ready for events. */
static int passing_wait(int sock, short events, uint64_t deadline_ns, struct err *reterr)
{
	struct pollfd pfd = { .fd = sock, .events = events };
	int n;

	do {
		uint64_t now_ns = loop_clock_ns();
		uint64_t left_ms =
			now_ns < deadline_ns ? (deadline_ns - now_ns + 999999) / 1000000 : 0;

		if (!left_ms)
			return err_set(reterr, -ETIMEDOUT, "the other process did not answer");
		n = poll(&pfd, 1, (int)MIN(left_ms, (uint64_t)1000));
	} while (n == 0 || (n < 0 && errno == EINTR));
	return n < 0 ? err_set(reterr, -errno, "poll: %s", strerror(errno)) : 0;
}

static int passing_put(int sock, const struct passing_msg *m, const int *fds, uint32_t fd_count,
		       uint64_t deadline_ns, struct err *reterr)
{
	ssize_t n;

	while ((n = fdio_send(sock, m, sizeof(*m), fds, fd_count)) == -EAGAIN) {
		int rc = passing_wait(sock, POLLOUT, deadline_ns, reterr);

		if (rc < 0)
			return rc;
	}
	if (n == -EPIPE || n == -ECONNRESET)
		return err_set(reterr, -ECONNRESET, "the other process has ended");
	return n < 0 ? err_set(reterr, (int)n, "sendmsg: %s", strerror((int)-n)) : 0;
}

int passing_send(int sock, enum passing_kind kind, const char *text, uint64_t deadline_ns,
		 struct err *reterr)
{
	struct passing_msg m = { .magic = PASSING_MAGIC, .kind = kind };

	snprintf(m.text, sizeof(m.text), "%s", text ? text : "");
	return passing_put(sock, &m, NULL, 0, deadline_ns, reterr);
}

static int passing_get(int sock, struct passing_msg *m, struct fdio_fds *keep, uint64_t deadline_ns,
		       struct err *reterr)
{
	ssize_t n;

	while ((n = fdio_recv(sock, m, sizeof(*m), keep, reterr)) == -EAGAIN) {
		int rc = passing_wait(sock, POLLIN, deadline_ns, reterr);

		if (rc < 0)
			return rc;
	}
	if (n == 0 || n == -ECONNRESET)
		return err_set(reterr, -ECONNRESET, "the other process has ended");
	if (n < 0)
		return (int)n;
	if (n != sizeof(*m) || m->magic != PASSING_MAGIC || m->kind >= PASSING_KIND_COUNT)
		return err_set(reterr, -EPROTO,
			       "%zd bytes that are no message of a hand-over: the two programs do "
			       "not fit together",
			       n);
	m->text[sizeof(m->text) - 1] = '\0';
	return 0;
}

static int passing_want(int sock, enum passing_kind kind, struct passing_msg *m,
			struct fdio_fds *keep, uint64_t deadline_ns, struct err *reterr)
{
	int rc = passing_get(sock, m, keep, deadline_ns, reterr);

	if (rc < 0)
		return rc;
	if (m->kind == PASSING_FAILED)
		return err_set(reterr, -ECANCELED, "%s", m->text);
	if (m->kind != kind)
		return err_set(reterr, -EPROTO, "expected %s, got %s", passing_names[kind],
			       passing_names[m->kind]);
	return 0;
}

int passing_expect(int sock, enum passing_kind kind, uint64_t deadline_ns, struct err *reterr)
{
	struct fdio_fds none = { 0 };
	struct passing_msg m;

	return passing_want(sock, kind, &m, &none, deadline_ns, reterr);
}

/* ---- parcels ---- */

static int parcel_to_memfd(const struct parcel *p, struct err *reterr)
{
	int fd = memfd_create("vhostd-hand-over", MFD_CLOEXEC);
	size_t done = 0;

	while (fd >= 0 && done < p->len) {
		ssize_t n = write(fd, p->bytes + done, p->len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			close(fd);
			fd = -1;
			break;
		}
		done += (size_t)n;
	}
	return fd >= 0 ? fd : err_set(reterr, -ENOMEM, "memfd: %s", strerror(errno));
}

int passing_send_parcel(int sock, const struct parcel *p, uint64_t deadline_ns, struct err *reterr)
{
	struct passing_msg m = { .magic = PASSING_MAGIC,
				 .kind = PASSING_PARCEL,
				 .bytes = p->len,
				 .fd_count = p->fd_count };
	int fd, rc;

	if (p->failed)
		return err_set(reterr, -ENOMEM, "no memory for what is to be handed over");
	fd = parcel_to_memfd(p, reterr);
	if (fd < 0)
		return fd;
	rc = passing_put(sock, &m, &fd, 1, deadline_ns, reterr);
	close(fd);
	m.kind = PASSING_FDS;
	for (uint32_t at = 0; rc == 0 && at < p->fd_count; at += FDIO_FDS_MAX)
		rc = passing_put(sock, &m, p->fds + at,
				 MIN(p->fd_count - at, (uint32_t)FDIO_FDS_MAX), deadline_ns,
				 reterr);
	return rc;
}

/* All that were announced; those that came are in keep in every case. */
static int passing_fds_recv(int sock, struct fdio_fds *keep, uint64_t deadline_ns,
			    struct err *reterr)
{
	struct passing_msg m;

	while (keep->count < keep->max) {
		const uint32_t before = keep->count;
		int rc = passing_want(sock, PASSING_FDS, &m, keep, deadline_ns, reterr);

		if (rc < 0)
			return rc;
		if (keep->count == before)
			return err_set(reterr, -EPROTO, "expected descriptors, got none");
	}
	return 0;
}

static int passing_bytes_read(int fd, void *bytes, uint64_t len, struct err *reterr)
{
	for (uint64_t at = 0; at < len;) {
		ssize_t n = pread(fd, (char *)bytes + at, len - at, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(reterr, -EPROTO, "expected %llu bytes, got %llu",
				       (unsigned long long)len, (unsigned long long)at);
		at += (uint64_t)n;
	}
	return 0;
}

/* fd: the bytes' memfd. */
static int passing_parcel_recv(int sock, const struct passing_msg *m, int fd, struct parcel *ret,
			       uint64_t deadline_ns, struct err *reterr)
{
	struct fdio_fds keep = { .max = m->fd_count };
	void *bytes;
	int rc;

	if (m->bytes > PARCEL_BYTES_MAX || m->fd_count > PARCEL_FDS_MAX)
		return err_set(reterr, -E2BIG,
			       "expected at most %u bytes and %u descriptors, got %llu and %u",
			       PARCEL_BYTES_MAX, PARCEL_FDS_MAX, (unsigned long long)m->bytes,
			       m->fd_count);
	bytes = malloc(m->bytes + 1);
	keep.fds = calloc(m->fd_count + 1ul, sizeof(int));
	rc = bytes && keep.fds ? 0 : err_set(reterr, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = passing_bytes_read(fd, bytes, m->bytes, reterr);
	if (rc == 0)
		rc = passing_fds_recv(sock, &keep, deadline_ns, reterr);
	if (rc == 0)
		rc = parcel_open(ret, bytes, m->bytes, keep.fds, keep.count, reterr);
	else
		for (uint32_t i = 0; i < keep.count; i++)
			close(keep.fds[i]);
	free(bytes);
	free(keep.fds);
	return rc;
}

int passing_recv_parcel(int sock, struct parcel *ret_parcel, uint64_t deadline_ns,
			struct err *reterr)
{
	struct passing_msg m;
	int fd = -1;
	struct fdio_fds keep = { .fds = &fd, .max = 1 };
	int rc = passing_want(sock, PASSING_PARCEL, &m, &keep, deadline_ns, reterr);

	if (rc == 0 && fd < 0)
		rc = err_set(reterr, -EPROTO, "expected the parcel's memfd, got none");
	if (rc == 0)
		rc = passing_parcel_recv(sock, &m, fd, ret_parcel, deadline_ns, reterr);
	if (fd >= 0)
		close(fd);
	return rc;
}
