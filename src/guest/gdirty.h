/*
 * The dirty log: a bitmap shared with the front-end, one bit per 4 KiB page of guest physical
 * memory, set with atomic OR for every page we write while migration runs.
 * Source: vhost-user, "Migration"; the log must cover the highest address (bounds are checked on
 * every mark, a page outside is counted and dropped).
 */
#ifndef GUEST_GDIRTY_H
#define GUEST_GDIRTY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/types.h"

#define GDIRTY_PAGE_BYTES 4096

struct gmem;
struct gmem_mapping;

struct gdirty {
	uint8_t *map; /* our mapping of the log */
	uint64_t size_bytes;
	uint64_t dropped_pages; /* atomic: marks outside the log */
	/* private: */
	uint32_t refs; /* atomic */
	struct gmem_mapping *mapping;
};

/* Maps [offset, offset + size) of fd (checked against the file's size). fd stays the caller's. */
int gdirty_new(int fd, uint64_t size_bytes, uint64_t offset_bytes, struct gdirty **ret_log,
	       struct err *reterr);
struct gdirty *gdirty_ref(struct gdirty *log);
/* NULL is allowed. The last one unmaps. Thread: main. */
void gdirty_unref(struct gdirty *log);
/* Was a page of the log lost to truncation? Thread: any. */
bool gdirty_lost(const struct gdirty *log);

/* Marks all pages of [gpa, gpa + len). Thread: any. */
void gdirty_mark(struct gdirty *log, struct gpa addr, uint64_t len_bytes);
/* Marks the first len_bytes of what the pieces cover (they point into map). */
void gdirty_mark_iov(struct gdirty *log, const struct gmem *map, const struct iovec *iov,
		     uint32_t count, uint64_t len_bytes);

#endif
