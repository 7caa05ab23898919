/*
 * Shared by the files of this room: one mmap of a front-end's memory object, counted, cached by
 * (device, inode, offset, size), and registered with the SIGBUS handler.
 */
#ifndef GUEST_GMEM_IMPL_H
#define GUEST_GMEM_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/parcel.h"

struct gmem_mapping {
	struct list node;
	uint64_t dev, ino;
	uint64_t offset_bytes; /* in the file, a multiple of the page size */
	size_t len_bytes;
	char *addr;
	int fd; /* a duplicate of the front-end's, for a successor; -1: there was none to be had */
	uint32_t refs;
	bool lost; /* atomic: set by the SIGBUS handler */
};

/*
 * Maps the pages that hold [offset, offset + size) of fd, or takes the mapping that is there;
 * *ret_base is our address of the first byte. -EINVAL: not a file of that size open for both
 * reading and writing; else mmap's errno; all named in reterr. Thread: main.
 */
int gmem_mapping_get(int fd, uint64_t offset_bytes, uint64_t size_bytes,
		     struct gmem_mapping **ret_mapping, char **ret_base, struct err *reterr);
/* Hand-over: [offset, offset + size) of the object, as gmem_mapping_get takes it. base: our address
 * of its first byte. -EMFILE, named: there is no descriptor of it. */
int gmem_mapping_pack(const struct gmem_mapping *m, const char *base, uint64_t size_bytes,
		      struct parcel *p, struct err *reterr);
struct gmem_mapping *gmem_mapping_ref(struct gmem_mapping *m);
void gmem_mapping_unref(struct gmem_mapping *m);

/* As gmem_fault_range_add, for huge pages. */
int gmem_fault_range_add_paged(void *start, size_t len_bytes, size_t page_bytes, bool *lost);

#endif
