#include "sock/fdkind.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int fdkind_check_bell(int fd, bool fifo_ok, const char *what, struct err *reterr)
{
	const char *expected = fifo_ok ? "an eventfd, a pipe or a socket" : "an eventfd";
	char path[64], target[64];
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st))
		return err_set(reterr, -EINVAL, "%s: fstat: %s", what, strerror(errno));
	if (fifo_ok && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
		return 0;
	/* Anonymous inodes have no type bits. */
	if (st.st_mode & S_IFMT)
		return err_set(reterr, -EINVAL, "%s: expected %s, got a descriptor of mode 0%o",
			       what, expected, st.st_mode);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0) /* no /proc in this sandbox: the type bits must do */
		return 0;
	target[n] = '\0';
	if (strcmp(target, "anon_inode:[eventfd]"))
		return err_set(reterr, -EINVAL, "%s: expected %s, got %s", what, expected, target);
	return 0;
}
