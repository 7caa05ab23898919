/* file: opening, geometry, size. See file.h. */
#include "blk/backend/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/log.h"
#include "base/num.h"
#include "loop/inherit.h"

/* linux/stat.h, Linux 6.1 */
#ifndef STATX_DIOALIGN
#error "needs the kernel headers of Linux 6.1"
#endif

#define BLOCK_MIN_BYTES 512u

/* What direct I/O on this file demands. */
struct dio_align {
	uint32_t memory_bytes, offset_bytes;
};

static int size_get(const struct file_dev *file, uint64_t *ret_size, struct err *reterr)
{
	struct stat st;

	if (file->block_device) {
		if (ioctl(file->fd, BLKGETSIZE64, ret_size) < 0)
			return err_set(reterr, -errno, "%s: cannot get its size: %s", file->path,
				       strerror(errno));
		return 0;
	}
	if (fstat(file->fd, &st) < 0)
		return err_set(reterr, -errno, "%s: fstat: %s", file->path, strerror(errno));
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

/* Without STATX_DIOALIGN (an old kernel): the smallest aligned read that is not refused. */
static uint32_t dio_probe(int fd)
{
	uint32_t align = BLOCK_MIN_BYTES;
	void *buf = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (buf == MAP_FAILED)
		return 4096;
	while (align < 4096 && pread(fd, buf, align, 0) < 0 && errno == EINVAL)
		align *= 2;
	munmap(buf, 4096);
	return align;
}

/* false: the file system says that it does no direct I/O on this file. */
static bool dio_align_get(const struct file_dev *file, struct dio_align *ret_align)
{
	struct statx stx = { 0 };
	int sector;

	if (!statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) &&
	    stx.stx_mask & STATX_DIOALIGN) {
		if (!stx.stx_dio_offset_align)
			return false;
		ret_align->memory_bytes = stx.stx_dio_mem_align;
		ret_align->offset_bytes = stx.stx_dio_offset_align;
		return true;
	}
	if (file->block_device && !ioctl(file->fd, BLKSSZGET, &sector))
		ret_align->offset_bytes = (uint32_t)sector;
	else
		ret_align->offset_bytes = dio_probe(file->fd);
	ret_align->memory_bytes = ret_align->offset_bytes;
	return true;
}

static uint64_t sysfs_queue_number(dev_t rdev, const char *name)
{
	/* a partition has no queue of its own, its disk (..) has */
	static const char *const dirs[] = { "queue", "../queue" };
	unsigned long long value = 0;

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		char path[128];
		FILE *f;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", major(rdev), minor(rdev),
			 dirs[i], name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fscanf(f, "%llu", &value) != 1)
			value = 0;
		fclose(f);
		break;
	}
	return value;
}

/* ---- opening ---- */

/* The kernel says only "busy": who has the device open under a lock? */
static int busy_device(const struct file_params *p, struct err *reterr)
{
	int fd = open(p->path, O_RDONLY | O_CLOEXEC);
	char holder[80];
	bool found = fd >= 0 && file_lock_holder(fd, holder, sizeof(holder));

	if (fd >= 0)
		close(fd);
	if (found)
		return err_set(reterr, -EBUSY, "image %s is locked by %s", p->path, holder);
	return err_set(reterr, -EBUSY, "block device %s is in use (mounted, or opened exclusively)",
		       p->path);
}

/* Under what a successor finds it: all that matters of how it is opened. */
static int kept_text(struct file_dev *file, const struct file_params *p, struct err *reterr)
{
	if (asprintf(&file->kept, "image %s (read-only=%s,lock=%s,direct=%d)", p->path,
		     p->read_only ? "on" : "off", p->lock ? "on" : "off", p->direct) >= 0)
		return 0;
	file->kept = NULL;
	return err_set(reterr, -ENOMEM, "no memory");
}

/* Of the process that we take over from, with its locks. False: it had none such. */
static bool fd_inherit(struct file_dev *file)
{
	int flags;

	file->fd = inherit_take(file->kept, &file->sync_failed);
	if (file->fd < 0)
		return false;
	file->opened = true;
	flags = fcntl(file->fd, F_GETFL);
	file->direct = flags >= 0 && flags & O_DIRECT;
	return true;
}

static int fd_open(struct file_dev *file, const struct file_params *p, struct err *reterr)
{
	int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (p->read_only ? O_RDONLY : O_RDWR);

	if (fd_inherit(file))
		return 0;
	/* O_EXCL without O_CREAT: a block device that nobody else mounted or claimed (open(2)) */
	if (file->block_device && p->lock && !p->read_only)
		flags |= O_EXCL;
	file->fd = open(p->path, flags | (file->direct ? O_DIRECT : 0));
	if (file->fd < 0 && errno == EINVAL && file->direct) {
		if (p->direct == FILE_DIRECT_ON)
			return err_set(reterr, -EINVAL,
				       "%s: its file system has no direct I/O; use direct=off",
				       p->path);
		log_notice("%s: its file system has no direct I/O, buffered I/O is used", p->path);
		file->direct = false;
		file->fd = open(p->path, flags);
	}
	if (file->fd < 0 && errno == EBUSY)
		return busy_device(p, reterr);
	if (file->fd < 0)
		return err_set(reterr, -errno, "cannot open %s for %s: %s%s", p->path,
			       p->read_only ? "reading" : "writing", strerror(errno),
			       !p->read_only && (errno == EROFS || errno == EACCES)
				       ? " (read-only=on would do without)"
				       : "");
	file->opened = true;
	/* O_NONBLOCK was only so that a FIFO put in its place cannot hold us up */
	fcntl(file->fd, F_SETFL, fcntl(file->fd, F_GETFL) & ~O_NONBLOCK);
	return 0;
}

static int kind_check(const char *path, const struct stat *st, struct err *reterr)
{
	if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
		return 0;
	return err_set(reterr, -ENOTBLK, "%s is neither a regular file nor a block device", path);
}

/* Goes on without O_DIRECT where the user leaves the choice to us. */
static int direct_give_up(struct file_dev *file, const struct file_params *p, const char *why,
			  struct err *reterr)
{
	int flags = fcntl(file->fd, F_GETFL);

	if (p->direct == FILE_DIRECT_ON)
		return err_set(reterr, -EINVAL, "%s: direct=on: %s; use direct=off", p->path, why);
	if (flags < 0 || fcntl(file->fd, F_SETFL, flags & ~O_DIRECT) < 0)
		return err_set(reterr, -errno, "%s: cannot switch direct I/O off: %s", p->path,
			       strerror(errno));
	log_notice("%s: %s, buffered I/O is used", p->path, why);
	file->direct = false;
	return 0;
}

/* Block size and alignment: what the user says, what direct I/O demands, what fits the size. */
static int geometry_set(struct file_dev *file, const struct file_params *p, uint64_t size,
			struct err *reterr)
{
	struct dio_align align = { 1, BLOCK_MIN_BYTES };
	struct blk_caps *caps = &file->dev.caps;
	const char *why = NULL;
	int sector, r = 0;

	if (file->direct) {
		if (!dio_align_get(file, &align))
			why = "its file system has no direct I/O for it";
		else if (p->block_bytes && p->block_bytes < align.offset_bytes)
			why = "block-size is smaller than direct I/O needs";
		else if (!p->block_bytes && size % align.offset_bytes &&
			 size % BLOCK_MIN_BYTES == 0)
			why = "its size is not a multiple of what direct I/O needs";
		r = why ? direct_give_up(file, p, why, reterr) : 0;
	}
	if (r < 0)
		return r;
	if (!file->direct) {
		align = (struct dio_align){ 1, BLOCK_MIN_BYTES };
		if (file->block_device && !ioctl(file->fd, BLKSSZGET, &sector))
			align.offset_bytes = (uint32_t)sector;
	}
	caps->mem_align = align.memory_bytes;
	caps->block_bytes = p->block_bytes ? (uint32_t)p->block_bytes
					   : MAX(align.offset_bytes, BLOCK_MIN_BYTES);
	caps->size_bytes = size;
	if (!size)
		return err_set(reterr, -EINVAL,
			       "image %s: expected at least one block, got 0 bytes", p->path);
	if (size % caps->block_bytes)
		return err_set(reterr, -EINVAL,
			       "image %s: its size %llu is not a multiple of the block size %u",
			       p->path, (unsigned long long)size, caps->block_bytes);
	return 0;
}

static void file_caps_fill(struct file_dev *file, const struct file_params *p,
			   const struct stat *st, uint64_t size)
{
	struct blk_caps *caps = &file->dev.caps;

	caps->phys_bytes = (uint32_t)st->st_blksize;
	caps->discard_align_bytes = (uint32_t)st->st_blksize;
	/* Behind the end there is nothing to lose, and the answer is the same. */
	if (p->discard && !p->read_only)
		caps->discard = !fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					   (off_t)size, caps->block_bytes);
}

static void device_caps_fill(struct file_dev *file, const struct file_params *p,
			     const struct stat *st)
{
	struct blk_caps *caps = &file->dev.caps;
	uint64_t misaligned[2] = { 1, 1 };
	unsigned int phys, opt;

	if (!ioctl(file->fd, BLKPBSZGET, &phys))
		caps->phys_bytes = phys;
	if (!ioctl(file->fd, BLKIOOPT, &opt))
		caps->opt_io_bytes = opt;
	if (p->read_only || !p->discard)
		return;
	caps->discard = sysfs_queue_number(st->st_rdev, "discard_max_bytes") > 0;
	caps->discard_align_bytes =
		(uint32_t)sysfs_queue_number(st->st_rdev, "discard_granularity");
	/* Refused as misaligned where it is known, as unsupported where not; erases nothing. */
	caps->secure_erase = ioctl(file->fd, BLKSECDISCARD, misaligned) < 0 && errno == EINVAL;
}

static int zeroes_map(struct file_dev *file, struct err *reterr)
{
	void *zeroes = mmap(NULL, FILE_ZEROES_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (zeroes == MAP_FAILED)
		return err_set(reterr, -errno, "no memory for zeroes: %s", strerror(errno));
	file->zeroes = zeroes;
	return 0;
}

int file_open(struct blk_dev *dev, void *params, struct err *reterr)
{
	struct file_dev *file = container_of(dev, struct file_dev, dev);
	struct file_params *p = params;
	struct stat st, looked;
	uint64_t size;
	int r;

	if (!p->path || !p->path[0])
		return err_set(reterr, -EINVAL, "path: expected the path of a file");
	file->path = strdup(p->path);
	if (!file->path)
		return err_set(reterr, -ENOMEM, "no memory");
	if (stat(p->path, &st) < 0)
		return err_set(reterr, -errno, "cannot open %s: %s", p->path, strerror(errno));
	file->block_device = S_ISBLK(st.st_mode);
	file->direct = p->direct != FILE_DIRECT_OFF;
	r = kept_text(file, p, reterr);
	if (r >= 0)
		r = kind_check(p->path, &st, reterr);
	if (r >= 0)
		r = fd_open(file, p, reterr);
	if (r < 0)
		return r;
	looked = st;
	/* What was opened may not be what was looked at. */
	if (fstat(file->fd, &st) < 0 || S_ISBLK(st.st_mode) != file->block_device ||
	    kind_check(p->path, &st, reterr) < 0)
		return err_set(reterr, -ENOTBLK, "%s changed its kind while it was opened",
			       p->path);
	if (st.st_dev != looked.st_dev || st.st_ino != looked.st_ino)
		return err_set(reterr, -ESTALE,
			       "%s: another file is there than the one that was opened (in a "
			       "hand-over: than the one that is served)",
			       p->path);
	if (p->lock)
		r = file_lock(file->fd, p->path, !p->read_only, reterr);
	if (r >= 0)
		r = size_get(file, &size, reterr);
	if (r >= 0)
		r = geometry_set(file, p, size, reterr);
	if (r >= 0)
		r = zeroes_map(file, reterr);
	if (r < 0)
		return r;
	dev->caps.read_only = p->read_only;
	dev->caps.volatile_cache = true;
	dev->caps.fua = true;
	dev->caps.write_zeroes = true;
	if (file->block_device)
		device_caps_fill(file, p, &st);
	else
		file_caps_fill(file, p, &st, size);
	dev->caps.zeroes_unmap = dev->caps.discard;
	inherit_keep(file->fd, file->kept, false, &file->sync_failed);
	return 0;
}

void file_close(struct blk_dev *dev)
{
	struct file_dev *file = container_of(dev, struct file_dev, dev);

	if (file->zeroes)
		munmap(file->zeroes, FILE_ZEROES_BYTES);
	if (file->opened) {
		inherit_drop(file->fd, file->kept);
		close(file->fd);
	}
	free(file->kept);
	free(file->path);
}

int file_rescan(struct blk_dev *dev, uint64_t *ret_size_bytes, struct err *reterr)
{
	return size_get(container_of(dev, struct file_dev, dev), ret_size_bytes, reterr);
}

int file_resize(struct blk_dev *dev, uint64_t size_bytes, struct err *reterr)
{
	struct file_dev *file = container_of(dev, struct file_dev, dev);

	if (file->block_device)
		return err_set(reterr, -EOPNOTSUPP,
			       "%s is a block device: make that larger, then rescan", file->path);
	if (dev->caps.read_only)
		return err_set(reterr, -EROFS, "%s was opened read-only", file->path);
	if (ftruncate(file->fd, (off_t)size_bytes) < 0)
		return err_set(reterr, -errno, "%s: cannot make it %llu bytes large: %s",
			       file->path, (unsigned long long)size_bytes, strerror(errno));
	return 0;
}

/* Is there so much? What a file system does not tell is found out by trying. */
static bool has_room(const struct file_dev *file, uint64_t bytes)
{
	struct statvfs fs;

	return fstatvfs(file->fd, &fs) < 0 || !fs.f_blocks ||
	       bytes / MAX(fs.f_frsize, 1ul) <= fs.f_bavail;
}

/* Beyond the end it stays without a size until ftruncate: who is killed here has changed nothing.
 */
int file_allocate(struct blk_dev *dev, uint64_t offset_bytes, uint64_t len_bytes,
		  uint64_t more_bytes)
{
	struct file_dev *file = container_of(dev, struct file_dev, dev);
	int r;

	if (file->block_device)
		return -EOPNOTSUPP;
	if (dev->caps.read_only)
		return -EROFS;
	if (!has_room(file, len_bytes + more_bytes))
		return -ENOSPC;
	do
		r = fallocate(file->fd, FALLOC_FL_KEEP_SIZE, (off_t)offset_bytes, (off_t)len_bytes);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* Truncating a file to the size that it has frees what is allocated behind it. */
void file_allocate_undo(struct blk_dev *dev)
{
	struct file_dev *file = container_of(dev, struct file_dev, dev);
	struct stat st;

	if (fstat(file->fd, &st) < 0 || ftruncate(file->fd, st.st_size) < 0)
		log_warning("%s: what was allocated beyond its end stays: %s", file->path,
			    strerror(errno));
}

/* Regular files only: a block device calls all of itself data. */
int file_map(struct blk_dev *dev, uint64_t offset_bytes, uint64_t end_bytes,
	     uint64_t *ret_end_bytes, bool *ret_mapped)
{
	struct file_dev *file = container_of(dev, struct file_dev, dev);
	off_t at;

	if (file->block_device)
		return -EOPNOTSUPP;
	/* The file's position is nobody's: every transfer names its own. */
	at = lseek(file->fd, (off_t)offset_bytes, SEEK_DATA);
	if (at < 0 && errno != ENXIO) /* ENXIO: no data from here to the end */
		return -errno;
	*ret_mapped = at == (off_t)offset_bytes;
	if (*ret_mapped)
		at = lseek(file->fd, (off_t)offset_bytes, SEEK_HOLE);
	*ret_end_bytes = at < 0 ? end_bytes : (uint64_t)at;
	return 0;
}
