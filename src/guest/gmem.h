/*
 * The guest's memory as the front-end described it: an immutable, reference-counted map of regions
 * from guest physical (and front-end virtual) addresses to our mappings.
 *
 * A new memory table, or one more region, makes a new map; who still uses the old one keeps it by
 * reference until its requests are done (a ring's loop is given the new map by message). Regions
 * may have any size and alignment. The same piece of the same memory object that several disks of
 * one guest pass is mapped once (key: device, inode, offset, size).
 *
 * Every look-up takes a length and succeeds only when every byte of the range is mapped; a range
 * over the border of two adjacent regions gives several pieces.
 *
 * A front-end can truncate the file under us: SIGBUS then lands in our access. The handler
 * (gmem_fault_install) maps zero memory over the page, marks the mapping lost and wakes main,
 * which ends the sessions that use it.
 */
#ifndef GUEST_GMEM_H
#define GUEST_GMEM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/check.h"
#include "base/err.h"
#include "base/num.h"
#include "base/types.h"

#define GMEM_REGIONS_MAX 509

/* One region as announced: vhost-user "memory region description". */
struct gmem_region_desc {
	uint64_t gpa;
	uint64_t size_bytes;
	uint64_t uva;
	uint64_t mmap_offset_bytes;
};

struct parcel;
struct gmem_mapping; /* one mmap, shared and reference-counted */

struct gmem_region {
	uint64_t gpa;
	uint64_t size_bytes;
	uint64_t uva;
	char *base; /* our address of the region's first byte */
	struct gmem_mapping *mapping;
};

struct gmem {
	uint32_t count;
	/* private: */
	uint32_t refs;		      /* atomic */
	struct gmem_region regions[]; /* by gpa; one of size 0 ends them */
};

/*
 * Builds a map of `count` regions. fds[i] is the memory object of region i; the fds stay the
 * caller's (a mapping needs none after mmap). Returns 0 and a map with one reference; -EINVAL
 * (overlap in guest or in user addresses, wrap, zero size, beyond the file's end, too many: named
 * in reterr), -ENOMEM, or mmap's errno. Thread: main.
 * Source: vhost-user, "Memory region description".
 */
int gmem_new(const struct gmem_region_desc *descs, const int *fds, uint32_t count,
	     struct gmem **ret_map, struct err *reterr);
/* A copy of old plus one region. Errors as gmem_new. old keeps its reference. Thread: main. */
int gmem_new_with(const struct gmem *old, const struct gmem_region_desc *desc, int fd,
		  struct gmem **ret_map, struct err *reterr);
/* A copy of old less the region with this gpa, uva and size; -ENOENT when there is none. */
int gmem_new_without(const struct gmem *old, const struct gmem_region_desc *desc,
		     struct gmem **ret_map, struct err *reterr);

/*
 * Hand-over: a map (NULL: none), and the same in the successor, with one reference. Errors:
 * -EMFILE, -EPROTO, gmem_new's; named. Thread: main.
 */
int gmem_pack(const struct gmem *map, struct parcel *p, struct err *reterr);
int gmem_unpack(struct parcel *p, struct gmem **ret_map, struct err *reterr);

struct gmem *gmem_ref(struct gmem *map);
/* NULL is allowed. The last one unmaps. Thread: main (data loops hand theirs back by message). */
void gmem_unref(struct gmem *map);

/* Was a page of this map lost to truncation? Thread: any. */
bool gmem_lost(const struct gmem *map);

/* Our addresses of the first max regions, whole; returns how many. */
uint32_t gmem_regions(const struct gmem *map, struct iovec *ret_iov, uint32_t max);
/* The region holding gpa, NULL when none. */
const struct gmem_region *gmem_region_find(const struct gmem *map, struct gpa addr);

/*
 * Our address of [uva, uva + len), all within one region (rings are); NULL when any byte is not
 * mapped. Source: SET_VRING_ADDR gives user addresses.
 */
void *gmem_uva_to_host(const struct gmem *map, struct uva addr, uint64_t len_bytes);
/* The guest physical address of a user address; false when not mapped. */
bool gmem_uva_to_gpa(const struct gmem *map, struct uva addr, uint64_t len_bytes,
		     struct gpa *ret_gpa);
/* Our address of [gpa, gpa + len) within one region, or NULL. */
void *gmem_gpa_to_host(const struct gmem *map, struct gpa addr, uint64_t len_bytes);
/* The inverse, for the dirty log: guest address of a host pointer inside the map. */
bool gmem_host_to_gpa(const struct gmem *map, const void *p, struct gpa *ret_gpa);

/* Slow half of gmem_translate. */
uint32_t gmem_translate_slow(const struct gmem *map, struct gpa addr, uint64_t len_bytes,
			     struct iovec *ret_iov, uint32_t max, uint32_t *hint);

/*
 * The one address translation: [gpa, gpa + len) as at most max pieces in ret_iov. Returns the
 * number of pieces; 0 when any byte is unmapped, when len is 0, or when max is too small.
 * *hint is the caller's memory of the last region (start with 0).
 * Thread: any that holds a reference.
 */
static inline uint32_t gmem_translate(const struct gmem *map, struct gpa addr, uint64_t len_bytes,
				      struct iovec *ret_iov, uint32_t max, uint32_t *hint)
{
	/* Checked each time: the hint may stem from a larger map. */
	if (likely(*hint < map->count && max)) {
		const struct gmem_region *r = &map->regions[*hint];
		uint64_t off = addr.v - r->gpa;

		/* len 0 wraps to the largest number and fails. */
		if (likely(off < r->size_bytes && len_bytes - 1 < r->size_bytes - off)) {
			ret_iov->iov_base = r->base + off;
			ret_iov->iov_len = len_bytes;
			return 1;
		}
	}
	return gmem_translate_slow(map, addr, len_bytes, ret_iov, max, hint);
}

/*
 * Installs the process-wide SIGBUS handler for guest mappings (also the dirty log's and the
 * in-flight region's, which register with gmem_fault_range_add). wake_fd: an eventfd written when
 * a page was lost, so that main looks. A SIGBUS anywhere else ends the process as it always did.
 * Thread: main, once.
 */
int gmem_fault_install(int wake_fd, struct err *reterr);
/*
 * Registers another shared mapping before its address is given to anybody; *lost is set
 * (atomically) by the handler. 0 or -ENOSPC. Thread: main.
 */
int gmem_fault_range_add(void *start, size_t len_bytes, bool *lost);
/* Before munmap, when nobody accesses the mapping any more. Thread: main. */
void gmem_fault_range_del(void *start);

#endif
