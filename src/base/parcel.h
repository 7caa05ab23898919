/*
 * A parcel: what one process writes once and its successor reads once, bytes and descriptors in
 * the order in which they were put. Who reads may be of another version than who wrote, so that
 * everything is checked, and what does not fit is an error that names it, never an ASSERT.
 *
 * Writing cannot fail on the way: out of memory is remembered (failed) and told at the end by who
 * sends it. Reading past the end, or a section that is not the expected one, leaves the parcel
 * failed too; from there on takes give zeroes, and the reader asks once, at the end of what
 * belongs together (parcel_section_end).
 *
 *   section: tag (4 characters), version, length of its bytes, how many descriptors it has
 *
 * A section tells its length, so that an older reader can pass over what a newer writer put at
 * its end, and a whole section that it does not know. Sections may lie in sections.
 * Thread: any, one at a time.
 */
#ifndef BASE_PARCEL_H
#define BASE_PARCEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PARCEL_BYTES_MAX (256u << 20)
#define PARCEL_FDS_MAX	 (1u << 20)
#define PARCEL_TAG_BYTES 4

struct parcel_section {
	uint32_t version; /* as written */
	/* private: */
	size_t end;	 /* reading: the first byte after it; writing: where it began */
	uint32_t fd_end; /* reading: the first descriptor after it; writing: where it began */
	size_t outer_end;
	uint32_t outer_fd_end;
};

struct parcel {
	uint8_t *bytes; /* owned */
	size_t len, capacity;
	int *fds; /* the array is owned; those in it: owns_fds */
	uint32_t fd_count, fd_capacity;
	bool failed;   /* out of memory, or read past the end */
	bool owns_fds; /* those that were received and not taken: closed by parcel_fini */
	/* private: */
	size_t at, end; /* reading: the next byte, and the end of the innermost section */
	uint32_t fd_at, fd_end;
};

/* An empty one to write to. */
void parcel_init(struct parcel *p);
/*
 * One to read: bytes and fds are copied; the descriptors are the parcel's from here on, also when
 * this fails. -ENOMEM, -E2BIG, named.
 */
int parcel_open(struct parcel *p, const void *bytes, size_t len, const int *fds, uint32_t fd_count,
		struct err *reterr);
/* Reads again from the start what was written: for tests, and what stays in this process. The
 * descriptors stay whose they were. */
void parcel_rewind(struct parcel *p);
/* Frees it, and closes the descriptors that nobody took, if they are its own. */
void parcel_fini(struct parcel *p);

/* ---- writing ---- */

void parcel_put(struct parcel *p, const void *src, size_t len);
void parcel_put_u32(struct parcel *p, uint32_t v);
void parcel_put_u64(struct parcel *p, uint64_t v);
void parcel_put_str(struct parcel *p, const char *text); /* NULL allowed */
/* Borrowed: open until the parcel was sent. -1: none. */
void parcel_put_fd(struct parcel *p, int fd);
/* Everything put until parcel_section_done is its content. tag: PARCEL_TAG_BYTES characters. */
void parcel_section_begin(struct parcel *p, struct parcel_section *s, const char *tag,
			  uint32_t version);
void parcel_section_done(struct parcel *p, struct parcel_section *s);

/* ---- reading ---- */

/* False: there is not so much left; dst is zeroed. */
bool parcel_take(struct parcel *p, void *dst, size_t len);
uint32_t parcel_take_u32(struct parcel *p);
uint64_t parcel_take_u64(struct parcel *p);
/* NULL: it was NULL, or failed. Owner: the caller, free(). */
char *parcel_take_str(struct parcel *p);
/* -1: none, or failed. Owner: the caller. A parcel that does not own its descriptors gives what
 * was put. */
int parcel_take_fd(struct parcel *p);
/* A number that must be at most max; else the parcel fails and it is 0. */
uint32_t parcel_take_count(struct parcel *p, uint32_t max);
bool parcel_take_bool(struct parcel *p);
/*
 * The next section, which must be of this tag and of at most this version (at least 1): its
 * content follows, up to parcel_section_end. -EPROTO, named: it is another, or newer, or none.
 */
int parcel_section_enter(struct parcel *p, struct parcel_section *s, const char *tag,
			 uint32_t version_max, struct err *reterr);
/*
 * Leaves it: what was not read of it is passed over, and its descriptors are closed. -EPROTO, named
 * by tag: more was read than there is.
 */
int parcel_section_end(struct parcel *p, struct parcel_section *s, const char *tag,
		       struct err *reterr);
/* Has the section that was entered more? What was added at its end an older writer has not. */
bool parcel_section_has_more(const struct parcel *p);
/* Is the next thing a section of this tag? */
bool parcel_section_is_next(const struct parcel *p, const char *tag);

#endif
