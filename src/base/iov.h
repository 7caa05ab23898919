/*
 * Cursor over an array of struct iovec: what a descriptor chain looks like to a device model.
 * It counts what is left, copies, and cuts out parts; it never walks past its end.
 *
 * The memory behind it belongs to a guest that changes it at any time: everything that is checked
 * must first be copied out with iov_cur_read(), and only the copy is used.
 */
#ifndef BASE_IOV_H
#define BASE_IOV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include "base/check.h"

struct iov_cur {
	struct iovec *iov;   /* current element */
	uint32_t count;	     /* elements left, the current one included */
	size_t skip_bytes;   /* already consumed of the current element */
	uint64_t left_bytes; /* total left */
};

static inline void iov_cur_init(struct iov_cur *c, struct iovec *iov, uint32_t count,
				uint64_t total_bytes)
{
	c->iov = iov;
	c->count = count;
	c->skip_bytes = 0;
	c->left_bytes = total_bytes;
}

/*
 * Copy len bytes out of / into the cursor and advance. Returns false, with the cursor and the
 * memory untouched, when fewer than len bytes are left. Thread: owner's.
 */
bool iov_cur_read_slow(struct iov_cur *c, void *dst, size_t len);
bool iov_cur_write_slow(struct iov_cur *c, const void *src, size_t len);
/* Advances without copying; false, untouched, when fewer than len bytes are left. */
bool iov_cur_skip(struct iov_cur *c, uint64_t len);

static inline bool iov_cur_read(struct iov_cur *c, void *dst, size_t len)
{
	if (likely(c->count && c->iov->iov_len - c->skip_bytes > len)) {
		memcpy(dst, (char *)c->iov->iov_base + c->skip_bytes, len);
		c->skip_bytes += len;
		c->left_bytes -= len;
		return true;
	}
	if (likely(c->count && c->iov->iov_len - c->skip_bytes == len)) {
		memcpy(dst, (char *)c->iov->iov_base + c->skip_bytes, len);
		c->iov++;
		c->count--;
		c->skip_bytes = 0;
		c->left_bytes -= len;
		return true;
	}
	return iov_cur_read_slow(c, dst, len);
}

/* Fills len bytes with zero and advances; false, untouched, when fewer are left. */
bool iov_cur_zero(struct iov_cur *c, uint64_t len);

/*
 * All that is left, as a plain array in the cursor's own memory (the current element is shortened
 * from its front by what was consumed); the cursor is empty afterwards.
 */
static inline uint32_t iov_cur_rest(struct iov_cur *c, struct iovec **ret_iov)
{
	uint32_t count = c->count;

	*ret_iov = c->iov;
	if (c->skip_bytes) {
		c->iov->iov_base = (char *)c->iov->iov_base + c->skip_bytes;
		c->iov->iov_len -= c->skip_bytes;
		c->skip_bytes = 0;
	}
	c->iov += count;
	c->count = 0;
	c->left_bytes = 0;
	return count;
}

/*
 * Its first len bytes, at most what is left (ASSERT), as a plain array in the cursor's own memory;
 * the cursor is empty afterwards, the rest is dropped.
 */
uint32_t iov_cur_first_slow(struct iov_cur *c, uint64_t len, struct iovec **ret_iov);

static inline uint32_t iov_cur_first(struct iov_cur *c, uint64_t len, struct iovec **ret_iov)
{
	if (likely(c->left_bytes == len))
		return iov_cur_rest(c, ret_iov);
	return iov_cur_first_slow(c, len, ret_iov);
}

/*
 * Takes its first head_bytes away into ret_head, which has room for c->count elements; the cursor
 * goes on behind them. Returns the number of elements; fewer bytes when fewer are left.
 */
uint32_t iov_cur_split_head(struct iov_cur *c, uint64_t head_bytes, struct iovec *ret_head);

/*
 * Splits the last tail_bytes off the cursor's end: they are copied to, or later written from, a
 * separate small array of at most max elements (the virtio-blk status byte is the last byte of a
 * chain, wherever the descriptors end). Returns the number of elements in ret_tail, 0 when
 * tail_bytes are not there or need more than max elements. The cursor then ends before the tail.
 */
uint32_t iov_cur_split_tail(struct iov_cur *c, uint64_t tail_bytes, struct iovec *ret_tail,
			    uint32_t max);

/* Total bytes of an array; the caller knows that it does not wrap. */
uint64_t iov_bytes(const struct iovec *iov, uint32_t count);
/* Copy between an array, from offset on, and flat memory; the range must lie inside (ASSERT). */
void iov_copy_out(const struct iovec *iov, uint32_t count, uint64_t off, void *dst, size_t len);
void iov_copy_in(const struct iovec *iov, uint32_t count, uint64_t off, const void *src,
		 size_t len);

#endif
