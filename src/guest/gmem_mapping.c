#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "guest/gmem.h"
#include "guest/gmem_impl.h"

static struct list mappings = { &mappings, &mappings };

static int gmem_file_check(int fd, uint64_t offset, uint64_t size, struct stat *st,
			   struct err *reterr)
{
	uint64_t end;
	int flags;

	if (!size)
		return err_set(reterr, -EINVAL, "size: expected at least 1, got 0");
	if (!num_add(offset, size, &end))
		return err_set(reterr, -EINVAL, "offset 0x%llx + size 0x%llx wraps",
			       (unsigned long long)offset, (unsigned long long)size);
	if (fstat(fd, st) < 0)
		return err_set(reterr, -errno, "fstat: %s", strerror(errno));
	if (!S_ISREG(st->st_mode))
		return err_set(reterr, -EINVAL,
			       "fd: expected a memfd or a regular file, got file type 0%o",
			       st->st_mode & S_IFMT);
	if (end > (uint64_t)st->st_size)
		return err_set(reterr, -EINVAL,
			       "offset + size: expected at most the file's %llu bytes, got %llu",
			       (unsigned long long)st->st_size, (unsigned long long)end);
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || (flags & O_ACCMODE) != O_RDWR)
		return err_set(reterr, -EINVAL, "fd: expected open for reading and writing");
	return 0;
}

static uint64_t gmem_file_page_bytes(int fd)
{
	uint64_t page = sysconf(_SC_PAGESIZE);
	struct statfs fs;

	/* tmpfs with huge=always also tells 2 MiB, but maps at any page: only hugetlbfs counts. */
	if (!fstatfs(fd, &fs) && fs.f_type == HUGETLBFS_MAGIC && num_is_pow2(fs.f_bsize))
		page = MAX(page, (uint64_t)fs.f_bsize);
	return page;
}

static int gmem_mapping_new(int fd, uint64_t page, struct gmem_mapping *m, struct err *reterr)
{
	int rc;

	/* Not every object can be sealed; those that cannot are left to the SIGBUS handler. */
	(void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
	m->addr = mmap(NULL, m->len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		       m->offset_bytes);
	if (m->addr == MAP_FAILED)
		return err_set(reterr, -errno, "mmap of %zu bytes: %s", m->len_bytes,
			       strerror(errno));
	(void)madvise(m->addr, m->len_bytes, MADV_DONTDUMP);
	rc = gmem_fault_range_add_paged(m->addr, m->len_bytes, page, &m->lost);
	if (rc) {
		munmap(m->addr, m->len_bytes);
		return err_set(reterr, rc, "too many mappings in the process");
	}
	m->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	m->refs = 1;
	list_append(&mappings, &m->node);
	return 0;
}

int gmem_mapping_get(int fd, uint64_t offset_bytes, uint64_t size_bytes,
		     struct gmem_mapping **ret_mapping, char **ret_base, struct err *reterr)
{
	struct gmem_mapping *m;
	struct stat st;
	uint64_t page, start, len;
	int rc = gmem_file_check(fd, offset_bytes, size_bytes, &st, reterr);

	if (rc)
		return rc;
	page = gmem_file_page_bytes(fd);
	start = num_round_down(offset_bytes, page);
	/* Cannot wrap: offset + size is at most st_size, which is signed. */
	len = num_round_up(offset_bytes + size_bytes, page) - start;
	list_for_each(m, &mappings, node) {
		/* A lost one has zero pages in it: never handed out again. */
		if (m->dev == st.st_dev && m->ino == st.st_ino && m->offset_bytes == start &&
		    m->len_bytes == len && !__atomic_load_n(&m->lost, __ATOMIC_ACQUIRE)) {
			m->refs++;
			goto found;
		}
	}
	m = calloc(1, sizeof(*m));
	if (!m)
		return err_set(reterr, -ENOMEM, "out of memory");
	m->dev = st.st_dev;
	m->ino = st.st_ino;
	m->offset_bytes = start;
	m->len_bytes = len;
	rc = gmem_mapping_new(fd, page, m, reterr);
	if (rc) {
		free(m);
		return rc;
	}
found:
	*ret_mapping = m;
	*ret_base = m->addr + (offset_bytes - start);
	return 0;
}

struct gmem_mapping *gmem_mapping_ref(struct gmem_mapping *m)
{
	m->refs++;
	return m;
}

void gmem_mapping_unref(struct gmem_mapping *m)
{
	if (!m || --m->refs)
		return;
	list_remove(&m->node);
	gmem_fault_range_del(m->addr);
	munmap(m->addr, m->len_bytes);
	if (m->fd >= 0)
		close(m->fd);
	free(m);
}

int gmem_mapping_pack(const struct gmem_mapping *m, const char *base, uint64_t size_bytes,
		      struct parcel *p, struct err *reterr)
{
	if (m->fd < 0)
		return err_set(reterr, -EMFILE,
			       "guest memory: there was no free descriptor to keep it by "
			       "(RLIMIT_NOFILE)");
	parcel_put_fd(p, m->fd);
	parcel_put_u64(p, m->offset_bytes + (uint64_t)(base - m->addr));
	parcel_put_u64(p, size_bytes);
	return 0;
}
