#include "sock/listen.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LISTEN_BACKLOG	       128
#define LISTEN_ORPHAN_TRIES    200
#define LISTEN_ORPHAN_PAUSE_NS 5000000

static int listen_address(const char *path, struct sockaddr_un *ret_sun, struct err *reterr)
{
	size_t len = strlen(path);

	*ret_sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (len == 0 || len >= sizeof(ret_sun->sun_path))
		return err_set(reterr, len ? -ENAMETOOLONG : -EINVAL,
			       "socket path: expected 1..%zu bytes, got %zu: %s",
			       sizeof(ret_sun->sun_path) - 1, len, path);
	memcpy(ret_sun->sun_path, path, len + 1);
	return 0;
}

static int listen_socket(struct err *reterr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 ? fd : err_set(reterr, -errno, "socket: %s", strerror(errno));
}

int listen_connect(const char *path, int *ret_fd, struct err *reterr)
{
	struct sockaddr_un sun;
	int fd, rc = listen_address(path, &sun, reterr);

	if (rc)
		return rc;
	fd = listen_socket(reterr);
	if (fd < 0)
		return fd;
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		rc = err_set(reterr, -errno, "connect to %s: %s", path, strerror(errno));
		close(fd);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

/* Has the process that listens at the other end of fd ended? Its io_uring may hold the socket. */
static bool listen_is_orphan(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.pid > 0 &&
	       kill(cred.pid, 0) < 0 && errno == ESRCH;
}

/* 0: somebody listens there; else why not. One whose process has just been killed is waited for. */
static int listen_probe(const char *path)
{
	const struct timespec pause = { .tv_nsec = LISTEN_ORPHAN_PAUSE_NS };

	for (int tries = 0;; tries++) {
		int fd, rc = listen_connect(path, &fd, NULL);
		bool orphan;

		if (rc)
			return rc;
		orphan = listen_is_orphan(fd);
		close(fd);
		if (!orphan || tries == LISTEN_ORPHAN_TRIES)
			return 0;
		nanosleep(&pause, NULL);
	}
}

/* Makes way at path: 0 when nothing is there any more. */
static int listen_path_clear(const char *path, struct err *reterr)
{
	struct stat st;
	int rc;

	if (lstat(path, &st))
		return errno == ENOENT ? 0
				       : err_set(reterr, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return err_set(reterr, -EADDRINUSE, "%s exists and is not a socket", path);
	rc = listen_probe(path);
	/* -EAGAIN: alive, with a full backlog. Only a refusal says that nobody is there. */
	if (rc != -ECONNREFUSED)
		return err_set(reterr, -EADDRINUSE, "%s: another server listens there", path);
	if (unlink(path) && errno != ENOENT)
		return err_set(reterr, -errno, "stale socket %s: %s", path, strerror(errno));
	return 0;
}

static int listen_bind(int fd, const struct sockaddr_un *sun, mode_t mode)
{
	mode_t old = umask(0777 & ~mode);
	int rc = bind(fd, (const struct sockaddr *)sun, sizeof(*sun)) ? -errno : 0;

	umask(old);
	return rc;
}

int listen_open(const char *path, mode_t mode, struct listen_file *ret_file, int *ret_fd,
		struct err *reterr)
{
	struct listen_file file = { 0 };
	struct sockaddr_un sun;
	struct stat st;
	int fd, rc = listen_address(path, &sun, reterr);

	if (rc)
		return rc;
	rc = listen_path_clear(path, reterr);
	if (rc)
		return rc;
	fd = listen_socket(reterr);
	if (fd < 0)
		return fd;
	rc = listen_bind(fd, &sun, mode);
	if (rc) {
		err_set(reterr, rc, "bind %s: %s", path, strerror(-rc));
		goto close_fd;
	}
	file.path = strdup(path);
	if (!file.path || lstat(path, &st) || listen(fd, LISTEN_BACKLOG)) {
		rc = err_set(reterr, -errno, "listen on %s: %s", path, strerror(errno));
		unlink(path);
		goto free_path;
	}
	file.dev = st.st_dev;
	file.ino = st.st_ino;
	*ret_file = file;
	*ret_fd = fd;
	return 0;
free_path:
	free(file.path);
close_fd:
	close(fd);
	return rc;
}

void listen_again(int fd)
{
	(void)listen(fd, LISTEN_BACKLOG);
}

void listen_file_remove(struct listen_file *file)
{
	struct stat st;

	if (!file->path)
		return;
	if (!lstat(file->path, &st) && st.st_dev == file->dev && st.st_ino == file->ino)
		unlink(file->path);
	free(file->path);
	file->path = NULL;
}
