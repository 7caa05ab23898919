/*
 * file: image locks, with open-file-description locks (fcntl F_OFD_SETLK), which belong to the
 * open file and not to the process, so that two devices of one daemon exclude each other too.
 *
 *   writer       write lock on the whole range
 *   read-only    read locks on single bytes
 *
 * The bytes are those on which QEMU's file driver announces what it does with an image (byte
 * 100 + n: it does n; 200 + n: it forbids n to others; n = 0 consistent read, 1 write, 3 resize):
 * so a reader of ours and a reader of QEMU's share an image, and any writer excludes the other.
 */
#include "blk/backend/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* How long a lock without a process is waited for: 5 s. */
#define LOCK_WAIT_STEPS	  500
#define LOCK_WAIT_STEP_NS 10000000

enum {
	BYTE_READS = 100,
	BYTE_WRITES = 101,
	BYTE_FORBIDS_WRITE = 201,
	BYTE_FORBIDS_RESIZE = 203
};

static int lock_range(int fd, int cmd, short type, off_t start, off_t len)
{
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };

	if (fcntl(fd, cmd, &fl) < 0)
		return -errno;
	if (cmd == F_OFD_GETLK && fl.l_type != F_UNLCK)
		return -EAGAIN;
	return 0;
}

static int lock_take(int fd, bool writer)
{
	static const off_t reader_bytes[] = { BYTE_READS, BYTE_FORBIDS_WRITE, BYTE_FORBIDS_RESIZE };
	int r = 0;

	if (writer)
		return lock_range(fd, F_OFD_SETLK, F_WRLCK, 0, 0);
	for (size_t i = 0; i < ARRAY_SIZE(reader_bytes) && !r; i++)
		r = lock_range(fd, F_OFD_SETLK, F_RDLCK, reader_bytes[i], 1);
	if (!r)
		r = lock_range(fd, F_OFD_GETLK, F_WRLCK, BYTE_WRITES, 1);
	return r;
}

/* ---- who holds it ---- */

static bool fdinfo_has_lock(int proc_fd, const char *pid, const char *fd_name)
{
	char path[64], line[256];
	bool found = false;
	FILE *f;
	int fd;

	snprintf(path, sizeof(path), "%.20s/fdinfo/%.20s", pid, fd_name);
	fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	f = fdopen(fd, "r");
	if (!f) {
		close(fd);
		return false;
	}
	while (!found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "lock:", 5);
	fclose(f);
	return found;
}

/* Does this process have the file open under a lock, through another descriptor than skip_fd? */
static bool process_holds(int proc_fd, const char *pid, const struct stat *st, int skip_fd)
{
	char path[64];
	bool found = false, self = atoll(pid) == (long long)getpid();
	struct dirent *e;
	struct stat other;
	DIR *dir;
	int fd;

	snprintf(path, sizeof(path), "%.20s/fd", pid);
	fd = openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return false;
	}
	while (!found && (e = readdir(dir))) {
		if (e->d_name[0] == '.' || (self && strtol(e->d_name, NULL, 10) == skip_fd))
			continue;
		found = !fstatat(fd, e->d_name, &other, 0) && other.st_dev == st->st_dev &&
			other.st_ino == st->st_ino && fdinfo_has_lock(proc_fd, pid, e->d_name);
	}
	closedir(dir);
	return found;
}

static void process_name(int proc_fd, const char *pid, char *buf, size_t buf_bytes)
{
	char path[64], comm[32] = "";
	int fd;

	snprintf(path, sizeof(path), "%.20s/comm", pid);
	fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		ssize_t n = read(fd, comm, sizeof(comm) - 1);

		comm[n > 0 ? n : 0] = '\0';
		comm[strcspn(comm, "\n")] = '\0';
		close(fd);
	}
	snprintf(buf, buf_bytes, "PID %.20s (%s)", pid, comm[0] ? comm : "?");
}

/*
 * /proc/locks shows no process for these locks, so: each process's descriptors of this file, and
 * of those the one whose fdinfo has a lock. Only on the way to an error, so cost does not matter.
 */
bool file_lock_holder(int fd, char *buf, size_t buf_bytes)
{
	struct dirent *e;
	struct stat st;
	bool found = false;
	DIR *proc;

	if (fstat(fd, &st) < 0)
		return false;
	proc = opendir("/proc");
	if (!proc)
		return false;
	while (!found && (e = readdir(proc))) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		found = process_holds(dirfd(proc), e->d_name, &st, fd);
		if (found)
			process_name(dirfd(proc), e->d_name, buf, buf_bytes);
	}
	closedir(proc);
	return found;
}

static bool lock_refused(int r)
{
	return r == -EAGAIN || r == -EACCES;
}

int file_lock(int fd, const char *path, bool writer, struct err *reterr)
{
	int r = lock_take(fd, writer);
	char holder[80] = "another process";

	/*
	 * A killed daemon's io_uring lives until its requests have ended, and keeps the lock: a
	 * lock that no process has goes away by itself. It is right to wait, as its writes may
	 * still land.
	 */
	for (unsigned i = 0; lock_refused(r) && i < LOCK_WAIT_STEPS; i++) {
		if (file_lock_holder(fd, holder, sizeof(holder)))
			break;
		nanosleep(&(struct timespec){ .tv_nsec = LOCK_WAIT_STEP_NS }, NULL);
		r = lock_take(fd, writer);
	}
	if (!r || r == -EINVAL || r == -ENOLCK || r == -EOPNOTSUPP || r == -ENOSYS)
		return 0;
	if (!lock_refused(r))
		return err_set(reterr, r, "image %s: cannot lock it: %s (lock=off does without)",
			       path, strerror(-r));
	return err_set(reterr, -EBUSY, "image %s is locked by %s", path, holder);
}
