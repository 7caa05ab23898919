#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

int gdirty_new_private(uint64_t first, uint64_t len_bytes, struct gdirty **ret_log,
		       struct err *reterr)
{
	struct gdirty *log = calloc(1, sizeof(*log));
	void *map;

	if (!log)
		return err_set(reterr, -ENOMEM, "out of memory");
	log->first_page = first / GDIRTY_PAGE_BYTES;
	log->size_bytes = (len_bytes / GDIRTY_PAGE_BYTES + 1 + 7) / 8;
	map = mmap(NULL, log->size_bytes, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED) {
		free(log);
		return err_set(reterr, -ENOMEM,
			       "dirty log: no memory for addresses 0x%llx to "
			       "0x%llx",
			       (unsigned long long)first, (unsigned long long)(first + len_bytes));
	}
	log->map = map;
	log->refs = 1;
	*ret_log = log;
	return 0;
}

/* ---- hand-over ---- */

#define GDIRTY_TAG	   "dlog"
#define GDIRTY_VERSION	   1
#define GDIRTY_CHUNK_BYTES 512u
#define GDIRTY_PRIVATE_MAX (1ull << 28) /* bytes of a log of our own */
#define GDIRTY_PRIVATE_END UINT64_MAX

enum gdirty_kind {
	GDIRTY_NONE,
	GDIRTY_SHARED,
	GDIRTY_PRIVATE,
};

static bool chunk_is_clear(const uint8_t *chunk, size_t len)
{
	return !chunk[0] && !memcmp(chunk, chunk + 1, len - 1);
}

/* Where it begins, its size, and the chunks that have marks, each behind its offset. */
static void private_pack(const struct gdirty *log, struct parcel *p)
{
	parcel_put_u64(p, gdirty_first(log));
	parcel_put_u64(p, log->size_bytes);
	for (uint64_t at = 0; at < log->size_bytes; at += GDIRTY_CHUNK_BYTES) {
		size_t len = MIN(log->size_bytes - at, (uint64_t)GDIRTY_CHUNK_BYTES);

		if (chunk_is_clear(log->map + at, len))
			continue;
		parcel_put_u64(p, at);
		parcel_put(p, log->map + at, len);
	}
	parcel_put_u64(p, GDIRTY_PRIVATE_END);
}

static int private_unpack(struct parcel *p, struct gdirty **ret_log, struct err *reterr)
{
	const uint64_t first = parcel_take_u64(p), size = parcel_take_u64(p);
	uint64_t at;
	int rc;

	if (p->failed || !size || size > GDIRTY_PRIVATE_MAX || first % GDIRTY_PAGE_BYTES)
		return err_set(reterr, -EPROTO, "dirty log: expected at most %llu bytes, got %llu",
			       GDIRTY_PRIVATE_MAX, (unsigned long long)size);
	rc = gdirty_new_private(first, (size * 8 - 1) * GDIRTY_PAGE_BYTES, ret_log, reterr);
	while (rc == 0 && (at = parcel_take_u64(p)) != GDIRTY_PRIVATE_END && !p->failed) {
		if (at >= size)
			rc = err_set(reterr, -EPROTO, "dirty log: marks at %llu of %llu bytes",
				     (unsigned long long)at, (unsigned long long)size);
		else
			parcel_take(p, (*ret_log)->map + at,
				    MIN(size - at, (uint64_t)GDIRTY_CHUNK_BYTES));
	}
	return rc;
}

int gdirty_pack(const struct gdirty *log, struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc = 0;

	parcel_section_begin(p, &s, GDIRTY_TAG, GDIRTY_VERSION);
	parcel_put_u32(p, !log ? GDIRTY_NONE : log->mapping ? GDIRTY_SHARED : GDIRTY_PRIVATE);
	if (log)
		parcel_put_u64(p, log->dropped_pages);
	if (log && log->mapping)
		rc = gmem_mapping_pack(log->mapping, (const char *)log->map, log->size_bytes, p,
				       reterr);
	else if (log)
		private_pack(log, p);
	parcel_section_done(p, &s);
	return rc;
}

static int shared_unpack(struct parcel *p, struct gdirty **ret_log, struct err *reterr)
{
	const int fd = parcel_take_fd(p);
	const uint64_t offset = parcel_take_u64(p), size = parcel_take_u64(p);
	int rc = p->failed ? 0 : gdirty_new(fd, size, offset, ret_log, reterr);

	if (fd >= 0)
		close(fd);
	return rc;
}

int gdirty_unpack(struct parcel *p, struct gdirty **ret_log, struct err *reterr)
{
	struct parcel_section s;
	struct gdirty *log = NULL;
	int rc = parcel_section_enter(p, &s, GDIRTY_TAG, GDIRTY_VERSION, reterr);
	uint32_t kind = rc < 0 ? GDIRTY_NONE : parcel_take_count(p, GDIRTY_PRIVATE);
	uint64_t dropped = kind ? parcel_take_u64(p) : 0;

	if (kind == GDIRTY_SHARED)
		rc = shared_unpack(p, &log, reterr);
	else if (kind == GDIRTY_PRIVATE)
		rc = private_unpack(p, &log, reterr);
	if (log)
		log->dropped_pages = dropped;
	if (rc == 0)
		rc = parcel_section_end(p, &s, GDIRTY_TAG, reterr);
	if (rc < 0)
		gdirty_unref(log);
	else
		*ret_log = log;
	return rc;
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
	if (log->mapping)
		gmem_mapping_unref(log->mapping);
	else
		munmap(log->map, log->size_bytes);
	free(log);
}

bool gdirty_lost(const struct gdirty *log)
{
	return log->mapping && __atomic_load_n(&log->mapping->lost, __ATOMIC_ACQUIRE);
}

void gdirty_mark(struct gdirty *log, struct gpa addr, uint64_t len_bytes)
{
	uint64_t last, page = addr.v / GDIRTY_PAGE_BYTES;

	if (!len_bytes)
		return;
	if (!num_add(addr.v, len_bytes - 1, &last))
		last = UINT64_MAX;
	last /= GDIRTY_PAGE_BYTES;
	if (page < log->first_page) {
		uint64_t end_out = MIN(last + 1, log->first_page);

		__atomic_add_fetch(&log->dropped_pages, end_out - page, __ATOMIC_RELAXED);
		if (last < log->first_page)
			return;
		page = log->first_page;
	}
	page -= log->first_page;
	last -= log->first_page;
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

bool gdirty_covers(const struct gdirty *log, struct gpa addr, uint64_t len_bytes)
{
	return addr.v >= gdirty_first(log) && num_range_ok(addr.v - gdirty_first(log), len_bytes,
							   log->size_bytes * 8 * GDIRTY_PAGE_BYTES);
}

/* The first bit that is set from bit on; the number of bits when there is none. */
static uint64_t gdirty_find(const struct gdirty *log, uint64_t bit)
{
	uint64_t bits = log->size_bytes * 8;

	while (bit < bits) {
		const uint8_t *byte = &log->map[bit / 8];

		if (bit % 64 == 0 && bits - bit >= 64 &&
		    !__atomic_load_n((const uint64_t *)byte, __ATOMIC_RELAXED))
			bit += 64;
		else if (bit % 8 == 0 && !__atomic_load_n(byte, __ATOMIC_RELAXED))
			bit += 8;
		else if (__atomic_load_n(byte, __ATOMIC_RELAXED) >> bit % 8 & 1)
			return bit;
		else
			bit++;
	}
	return bits;
}

bool gdirty_take(struct gdirty *log, struct gpa from, struct gpa end, struct gpa *ret_page)
{
	uint64_t page = MAX(from.v / GDIRTY_PAGE_BYTES, log->first_page);
	uint64_t bit = gdirty_find(log, page - log->first_page);

	*ret_page = gpa((log->first_page + bit) * GDIRTY_PAGE_BYTES);
	if (bit == log->size_bytes * 8 || ret_page->v >= end.v)
		return false;
	/* Acquire: who sees the bit sees the page as it was written before the bit was set. */
	__atomic_fetch_and(&log->map[bit / 8], (uint8_t) ~(1u << bit % 8), __ATOMIC_ACQ_REL);
	return true;
}

void gdirty_merge(struct gdirty *log, const struct gdirty *from)
{
	uint64_t bits = from->size_bytes * 8;

	for (uint64_t bit = gdirty_find(from, 0); bit < bits; bit = gdirty_find(from, bit + 1))
		gdirty_mark(log, gpa((from->first_page + bit) * GDIRTY_PAGE_BYTES), 1);
}
