#include "vhost/inflight_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"
#include "base/parcel.h"
#include "guest/gmem.h"
#include "vhost/session.h"

int inflight_area_create(uint64_t bytes, int *ret_fd, struct err *reterr)
{
	int fd = memfd_create("vhost-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return err_set(reterr, -errno, "memfd_create: %s", strerror(errno));
	if (ftruncate(fd, (off_t)bytes) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)) {
		int rc = err_set(reterr, -errno, "in-flight area of %llu bytes: %s",
				 (unsigned long long)bytes, strerror(errno));

		close(fd);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

int inflight_area_map(struct inflight_area *a, int fd, uint64_t offset_bytes, uint64_t size_bytes,
		      struct err *reterr)
{
	uint64_t start = num_round_down(offset_bytes, 4096);
	struct stat st;
	size_t len;
	void *p;
	int rc;

	if (fstat(fd, &st))
		return err_set(reterr, -errno, "fstat: %s", strerror(errno));
	if (!size_bytes || st.st_size < 0 ||
	    !num_range_ok(offset_bytes, size_bytes, (uint64_t)st.st_size))
		return err_set(reterr, -EINVAL,
			       "area: %llu bytes at %llu are not in a file of %lld bytes",
			       (unsigned long long)size_bytes, (unsigned long long)offset_bytes,
			       (long long)st.st_size);
	if (offset_bytes %
	    INFLIGHT_PART_ALIGN) /* the records are 64-bit integers, the parts 64-byte aligned */
		return err_set(reterr, -EINVAL, "area: offset: expected a multiple of 64, got %llu",
			       (unsigned long long)offset_bytes);
	/* Where the file can be sealed, nobody can cut it any more. */
	(void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
	len = (size_t)(offset_bytes - start + size_bytes);
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)start);
	if (p == MAP_FAILED)
		return err_set(reterr, -errno, "mmap: %s", strerror(errno));
	a->lost = false;
	rc = gmem_fault_range_add(p, len, &a->lost);
	if (rc) {
		munmap(p, len);
		return err_set(reterr, rc, "too many shared areas");
	}
	a->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	a->offset_bytes = offset_bytes;
	a->mapping = p;
	a->mapping_bytes = len;
	a->base = (char *)p + (offset_bytes - start);
	a->size_bytes = size_bytes;
	return 0;
}

void inflight_area_unmap(struct inflight_area *a)
{
	if (!a->mapping)
		return;
	gmem_fault_range_del(a->mapping);
	munmap(a->mapping, a->mapping_bytes);
	if (a->fd >= 0)
		close(a->fd);
	*a = (struct inflight_area){ 0 };
}

#define INFLIGHT_TAG	 "infl"
#define INFLIGHT_VERSION 1

int inflight_area_pack(const struct inflight_area *a, struct parcel *p, struct err *reterr)
{
	struct parcel_section s;

	if (a->base && a->fd < 0)
		return err_set(reterr, -EMFILE,
			       "in-flight area: there was no free descriptor to keep it by "
			       "(RLIMIT_NOFILE)");
	parcel_section_begin(p, &s, INFLIGHT_TAG, INFLIGHT_VERSION);
	parcel_put_u32(p, a->queue_count);
	parcel_put_u64(p, a->offset_bytes);
	parcel_put_u64(p, a->size_bytes);
	parcel_put_fd(p, a->base ? a->fd : -1);
	parcel_section_done(p, &s);
	return 0;
}

int inflight_area_unpack(struct inflight_area *a, struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	uint64_t offset, size;
	uint32_t count;
	int fd, rc = parcel_section_enter(p, &s, INFLIGHT_TAG, INFLIGHT_VERSION, reterr);

	if (rc < 0)
		return rc;
	count = parcel_take_count(p, MSG_QUEUES_MAX);
	offset = parcel_take_u64(p);
	size = parcel_take_u64(p);
	fd = parcel_take_fd(p);
	if (fd >= 0) {
		rc = count ? inflight_area_map(a, fd, offset, size, reterr)
			   : err_set(reterr, -EPROTO, "area: of no queues");
		close(fd);
		a->queue_count = count;
	}
	return rc < 0 ? err_prefix(reterr, rc, "in-flight area")
		      : parcel_section_end(p, &s, INFLIGHT_TAG, reterr);
}

void *inflight_area_queue(const struct inflight_area *a, uint32_t idx, uint64_t *ret_bytes)
{
	uint64_t part_bytes;

	*ret_bytes = 0;
	if (!a->base || idx >= a->queue_count)
		return NULL;
	part_bytes = num_round_down(a->size_bytes / a->queue_count, INFLIGHT_PART_ALIGN);
	*ret_bytes = part_bytes;
	return a->base + part_bytes * idx;
}

/* ---- messages ---- */

static int inflight_check(const struct session *s, const struct msg_inflight *in,
			  struct err *reterr)
{
	if (in->queue_count == 0 || in->queue_count > s->ring_count)
		return err_set(reterr, -EINVAL, "num_queues: expected 1..%u, got %u", s->ring_count,
			       in->queue_count);
	if (in->queue_size == 0 || in->queue_size > s->vdev->queue_size_max)
		return err_set(reterr, -EINVAL, "queue_size: expected 1..%u, got %u",
			       s->vdev->queue_size_max, in->queue_size);
	return 0;
}

int session_handle_GET_INFLIGHT_FD(struct session *s, struct msg *m, struct err *reterr)
{
	struct msg_inflight *in = &m->inflight;
	uint64_t bytes;
	int rc = inflight_check(s, in, reterr);

	if (rc)
		return rc;
	/*
	 * Room for the largest queue, not for the size asked for: QEMU asks with its queue-size
	 * property, and a guest on virtio-mmio then sets up rings of 1024. Untouched, it costs
	 * nothing.
	 */
	bytes = virtq_inflight_bytes(s->features, s->vdev->queue_size_max);
	if (!s->features_set &&
	    s->params.packed) /* asked before SET_FEATURES: room for either ring */
		bytes = MAX(bytes,
			    virtq_inflight_bytes(VIRTIO_F_RING_PACKED, s->vdev->queue_size_max));
	bytes = num_round_up(bytes, INFLIGHT_PART_ALIGN) * in->queue_count;
	rc = inflight_area_create(bytes, &s->answer_fd, reterr);
	if (rc)
		return rc;
	in->mmap_size = bytes;
	in->mmap_offset = 0;
	return 0;
}

int session_handle_SET_INFLIGHT_FD(struct session *s, struct msg *m, struct err *reterr)
{
	const struct msg_inflight *in = &m->inflight;
	uint64_t max = virtq_inflight_bytes(0, VIRTQ_SIZE_MAX) +
		       virtq_inflight_bytes(VIRTIO_F_RING_PACKED, VIRTQ_SIZE_MAX);
	int rc = inflight_check(s, in, reterr);

	if (rc)
		return rc;
	if (in->mmap_size > max * MSG_QUEUES_MAX)
		return err_set(reterr, -EINVAL, "mmap_size: expected at most %llu bytes, got %llu",
			       (unsigned long long)max * MSG_QUEUES_MAX,
			       (unsigned long long)in->mmap_size);
	/* &s->inflight.lost is what the fault handler remembers: unmap first, then map in place. */
	inflight_area_unmap(&s->inflight);
	rc = inflight_area_map(&s->inflight, m->fds[0], in->mmap_offset, in->mmap_size, reterr);
	if (rc)
		return rc;
	s->inflight.queue_count = in->queue_count;
	return 0;
}
