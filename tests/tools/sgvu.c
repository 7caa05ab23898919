/*
 * sgvu.so: SCSI generic devices that are vhost-user-scsi sockets, with no guest and no kernel.
 *
 * LD_PRELOADed into a program that talks SG_IO (sg3_utils, iscsi-test-cu), it answers for
 * /dev/sgN when the environment variable SGVU_N places it:
 *
 *	SGVU_900=/run/scsi.sock,0,3	/dev/sg900 is target 0, LUN 3 behind that socket
 *	SGVU_901=/run/other.sock,0,3	a unit as seen by another initiator
 *
 * A socket is connected to when a device on it is first opened, and the connection stays until the
 * program ends. For all of them:
 *
 *	SGVU_PACKED=1		packed rings
 *	SGVU_SEGMENT=BYTES	data in descriptors of at most that size
 *	SGVU_ATTENTIONS=1	the program gets the unit attentions of a new connection; otherwise
 *				they are eaten, as the kernel's scan would
 *	SGVU_TRACE=FILE		appends each command and how it ended
 */
#undef _FILE_OFFSET_BITS /* here open and open64 are two functions */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sgvu_dev.h"

#define EXPORT __attribute__((visibility("default")))

#define NODES_MAX	   8
#define FDS_MAX		   64
#define SG_MAJOR	   21
#define SG_VERSION	   30536 /* 3.5.36: has SG_IO, has not the version 4 interface */
#define SG_TRANSFER_BYTES  (32 << 20)
#define SCSI_IOCTL_GET_ID  0x5382 /* scsi/scsi_ioctl.h of the kernel */
#define SCSI_IOCTL_GET_BUS 0x5386

/* A /dev/sgN, from its first open on. */
struct node {
	unsigned number;
	struct sgvu_dev *dev;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct node nodes[NODES_MAX];
/* The program's descriptors that are ours; each is /dev/null to the kernel. */
static struct {
	int fd;
	struct node *node;
} fds[FDS_MAX];

const struct sgvu_options *sgvu_options(void)
{
	static struct sgvu_options options;
	static bool known;

	if (!known) {
		const char *segment = getenv("SGVU_SEGMENT");

		options.packed = getenv("SGVU_PACKED") != NULL;
		options.keep_attentions = getenv("SGVU_ATTENTIONS") != NULL;
		options.segment_bytes = segment ? (unsigned)strtoul(segment, NULL, 0) : 0;
		options.trace_path = getenv("SGVU_TRACE");
		known = true;
	}
	return &options;
}

/* The next definition of a function, the C library's. */
static void *real(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);

	if (!function) {
		fprintf(stderr, "sgvu: the C library has no %s\n", name);
		_exit(99);
	}
	return function;
}

/* Where SGVU_N places the device of this path; NULL: it is none of ours. */
static const char *place_of(const char *path, unsigned *ret_number)
{
	char variable[32], end;

	if (!path || sscanf(path, "/dev/sg%u%c", ret_number, &end) != 1)
		return NULL;
	snprintf(variable, sizeof(variable), "SGVU_%u", *ret_number);
	return getenv(variable);
}

static struct node *node_open(unsigned number, const char *place)
{
	for (struct node *n = nodes; n < nodes + NODES_MAX; n++) {
		if (n->dev && n->number != number)
			continue;
		if (!n->dev) {
			n->number = number;
			n->dev = sgvu_dev_new(place);
		}
		return n->dev ? n : NULL;
	}
	errno = ENFILE;
	return NULL;
}

static int open_ours(unsigned number, const char *place)
{
	int (*open_real)(const char *, int, ...) = real("open");
	struct node *node;
	int fd = -1;

	pthread_mutex_lock(&lock);
	node = node_open(number, place);
	if (node)
		fd = open_real("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; fd >= 0 && i <= FDS_MAX; i++) {
		if (i == FDS_MAX) {
			fprintf(stderr, "sgvu: more than %d open descriptors\n", FDS_MAX);
			_exit(99);
		}
		if (fds[i].node)
			continue;
		fds[i].fd = fd;
		fds[i].node = node;
		break;
	}
	pthread_mutex_unlock(&lock);
	return fd;
}

static struct node *node_of(int fd)
{
	struct node *node = NULL;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < FDS_MAX; i++)
		if (fds[i].node && fds[i].fd == fd)
			node = fds[i].node;
	pthread_mutex_unlock(&lock);
	return node;
}

static int open_any(const char *name, const char *path, int flags, mode_t mode)
{
	int (*open_real)(const char *, int, ...);
	unsigned number;
	const char *place = place_of(path, &number);

	if (place)
		return open_ours(number, place);
	open_real = real(name);
	return open_real(path, flags, mode);
}

EXPORT int open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	return open_any("open", path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	return open_any("open64", path, flags, mode);
}

/* What open becomes in a fortified program; the C library's headers do not declare them. */
EXPORT int __open_2(const char *path, int flags);
EXPORT int __open64_2(const char *path, int flags);

EXPORT int __open_2(const char *path, int flags)
{
	return open_any("open", path, flags, 0);
}

EXPORT int __open64_2(const char *path, int flags)
{
	return open_any("open64", path, flags, 0);
}

EXPORT int close(int fd)
{
	int (*close_real)(int) = real("close");

	pthread_mutex_lock(&lock);
	for (int i = 0; i < FDS_MAX; i++)
		if (fds[i].node && fds[i].fd == fd)
			fds[i].node = NULL;
	pthread_mutex_unlock(&lock);
	return close_real(fd);
}

/* struct stat and struct stat64 are the same on 64-bit machines. */
static int stat_of_sg(unsigned number, struct stat *ret_stat)
{
	memset(ret_stat, 0, sizeof(*ret_stat));
	ret_stat->st_mode = S_IFCHR | 0600;
	ret_stat->st_rdev = makedev(SG_MAJOR, number);
	return 0;
}

EXPORT int stat(const char *path, struct stat *ret_stat)
{
	int (*stat_real)(const char *, struct stat *);
	unsigned number;

	if (place_of(path, &number))
		return stat_of_sg(number, ret_stat);
	stat_real = real("stat");
	return stat_real(path, ret_stat);
}

EXPORT int stat64(const char *path, struct stat64 *ret_stat)
{
	return stat(path, (struct stat *)ret_stat);
}

EXPORT int fstat(int fd, struct stat *ret_stat)
{
	int (*fstat_real)(int, struct stat *);
	struct node *node = node_of(fd);

	if (node)
		return stat_of_sg(node->number, ret_stat);
	fstat_real = real("fstat");
	return fstat_real(fd, ret_stat);
}

EXPORT int fstat64(int fd, struct stat64 *ret_stat)
{
	return fstat(fd, (struct stat *)ret_stat);
}

static int command(struct node *node, struct sg_io_hdr *hdr)
{
	int rc;

	if (hdr->interface_id != 'S') {
		errno = ENOSYS; /* as the driver says to the version 4 interface */
		return -1;
	}
	pthread_mutex_lock(&lock);
	rc = sgvu_dev_command(node->dev, hdr);
	pthread_mutex_unlock(&lock);
	return rc;
}

static int reset(struct node *node, int what)
{
	int rc;

	pthread_mutex_lock(&lock);
	rc = sgvu_dev_reset(node->dev, what);
	pthread_mutex_unlock(&lock);
	return rc;
}

static int ioctl_ours(struct node *node, unsigned long request, void *argument)
{
	int *value = argument;

	switch (request) {
	case SG_IO:
		return command(node, argument);
	case SG_SCSI_RESET:
		return reset(node, *value);
	case SG_GET_VERSION_NUM:
		*value = SG_VERSION;
		return 0;
	case SG_GET_RESERVED_SIZE:
	case BLKSECTGET: /* of a character device: in bytes */
		*value = SG_TRANSFER_BYTES;
		return 0;
	case SG_GET_TIMEOUT:
		return 6000;
	case SG_SET_RESERVED_SIZE:
	case SG_SET_TIMEOUT:
		return 0;
	case SCSI_IOCTL_GET_ID:
		value[0] = value[1] = 0;
		return 0;
	case SCSI_IOCTL_GET_BUS:
		*value = 0;
		return 0;
	default:
		errno = ENOTTY;
		return -1;
	}
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	int (*ioctl_real)(int, unsigned long, ...);
	struct node *node = node_of(fd);
	void *argument;
	va_list ap;

	va_start(ap, request);
	argument = va_arg(ap, void *);
	va_end(ap);
	if (node)
		return ioctl_ours(node, request, argument);
	ioctl_real = real("ioctl");
	return ioctl_real(fd, request, argument);
}
