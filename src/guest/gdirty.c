#include <errno.h>
#include <stdlib.h>

#include "guest/gdirty.h"
#include "guest/gmem.h"
#include "guest/gmem_impl.h"

int gdirty_new(int fd, uint64_t size_bytes, uint64_t offset_bytes, struct gdirty **ret_log,
	       struct err *reterr)
{
	struct gdirty *log = calloc(1, sizeof(*log));
	char *base;
	int rc;

	if (!log)
		return err_set(reterr, -ENOMEM, "out of memory");
	rc = gmem_mapping_get(fd, offset_bytes, size_bytes, &log->mapping, &base, reterr);
	if (rc) {
		free(log);
		return err_prefix(reterr, rc, "dirty log");
	}
	log->map = (uint8_t *)base;
	log->size_bytes = size_bytes;
	log->refs = 1;
	*ret_log = log;
	return 0;
}

struct gdirty *gdirty_ref(struct gdirty *log)
{
	__atomic_add_fetch(&log->refs, 1, __ATOMIC_RELAXED);
	return log;
}

void gdirty_unref(struct gdirty *log)
{
	if (!log || __atomic_sub_fetch(&log->refs, 1, __ATOMIC_ACQ_REL))
		return;
	gmem_mapping_unref(log->mapping);
	free(log);
}

bool gdirty_lost(const struct gdirty *log)
{
	return __atomic_load_n(&log->mapping->lost, __ATOMIC_ACQUIRE);
}

void gdirty_mark(struct gdirty *log, struct gpa addr, uint64_t len_bytes)
{
	uint64_t last, page = addr.v / GDIRTY_PAGE_BYTES;

	if (!len_bytes)
		return;
	if (!num_add(addr.v, len_bytes - 1, &last))
		last = UINT64_MAX;
	last /= GDIRTY_PAGE_BYTES;
	if (last / 8 >= log->size_bytes) {
		uint64_t first_out = MAX(page, log->size_bytes * 8);

		__atomic_add_fetch(&log->dropped_pages, last - first_out + 1, __ATOMIC_RELAXED);
		last = log->size_bytes * 8 - 1;
	}
	/*
	 * Always the OR, never a look before it: the front-end may clear the bit between our
	 * write of the page and the look. Release: the page is written before its bit.
	 */
	while (page <= last) {
		uint8_t *byte = &log->map[page / 8];
		uint8_t mask = 0;

		do
			mask |= 1u << page % 8;
		while (page++ % 8 != 7 && page <= last);
		__atomic_fetch_or(byte, mask, __ATOMIC_RELEASE);
	}
}

void gdirty_mark_iov(struct gdirty *log, const struct gmem *map, const struct iovec *iov,
		     uint32_t count, uint64_t len_bytes)
{
	for (uint32_t i = 0; len_bytes && i < count; i++) {
		uintptr_t from = (uintptr_t)iov[i].iov_base;
		uint64_t part = MIN((uint64_t)iov[i].iov_len, len_bytes);

		len_bytes -= part;
		/* A piece may span regions, and a region may alias another's memory: mark all. */
		for (uint32_t k = 0; part && k < map->count; k++) {
			const struct gmem_region *r = &map->regions[k];
			uintptr_t base = (uintptr_t)r->base;
			uintptr_t lo = MAX(from, base);
			uintptr_t hi = MIN(from + part, base + r->size_bytes);

			if (lo < hi)
				gdirty_mark(log, gpa(r->gpa + (lo - base)), hi - lo);
		}
	}
}
