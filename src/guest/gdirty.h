/*
 * The dirty log: a bitmap shared with the front-end, or one of our own that is asked for by
 * message; one bit per 4 KiB page of guest physical memory, set with atomic OR for every page we
 * write while migration runs.
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
struct parcel;

struct gdirty {
	uint8_t *map; /* our mapping of the log */
	uint64_t size_bytes;
	uint64_t first_page;	/* of the guest's, that the first bit stands for */
	uint64_t dropped_pages; /* atomic: marks outside the log */
	/* private: */
	uint32_t refs;		      /* atomic */
	struct gmem_mapping *mapping; /* NULL: the log is our own */
};

/* Maps [offset, offset + size) of fd (checked against the file's size). fd stays the caller's. */
int gdirty_new(int fd, uint64_t size_bytes, uint64_t offset_bytes, struct gdirty **ret_log,
	       struct err *reterr);
/*
 * A log of our own for [first, first + len) of the guest's addresses, first a multiple of the page
 * size. It takes memory only where pages are marked. -ENOMEM, named.
 */
int gdirty_new_private(uint64_t first, uint64_t len_bytes, struct gdirty **ret_log,
		       struct err *reterr);
/*
 * Hand-over: a log (NULL: none) with its marks, in which nobody marks, and the same in the
 * successor. Errors: -EMFILE, -EPROTO, gdirty_new's; named. Thread: main.
 */
int gdirty_pack(const struct gdirty *log, struct parcel *p, struct err *reterr);
int gdirty_unpack(struct parcel *p, struct gdirty **ret_log, struct err *reterr);
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

/* ---- reading a log of our own; whole bytes of bits, so the end may be later than asked ---- */

static inline uint64_t gdirty_first(const struct gdirty *log)
{
	return log->first_page * GDIRTY_PAGE_BYTES;
}
static inline uint64_t gdirty_end(const struct gdirty *log)
{
	uint64_t end, len = log->size_bytes * 8 * GDIRTY_PAGE_BYTES;

	return __builtin_add_overflow(gdirty_first(log), len, &end) ? UINT64_MAX : end;
}
/* Has it bits for all of [gpa, gpa + len)? */
bool gdirty_covers(const struct gdirty *log, struct gpa addr, uint64_t len_bytes);
/*
 * The first marked page that lies, even in part, in [from, end): its mark is cleared before what
 * it stands for is read by anybody. False: there is none. Thread: any.
 */
bool gdirty_take(struct gdirty *log, struct gpa from, struct gpa end, struct gpa *ret_page);
/* Marks in log what is marked in from, which log covers. Nobody marks in either meanwhile. */
void gdirty_merge(struct gdirty *log, const struct gdirty *from);

#endif
