/*
 * Cursor over untrusted flat bytes (messages, CDB parameter lists). Takes integers in either byte
 * order, and once it ran past the end it stays failed and gives zeroes: the caller checks once,
 * at the end.
 */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct bytes {
	const uint8_t *at;
	size_t left_bytes;
	bool failed;
};

static inline struct bytes bytes_of(const void *p, size_t len)
{
	return (struct bytes){ .at = p, .left_bytes = len };
}

/* Copies len bytes out, or zeroes them and marks the cursor failed. */
static inline bool bytes_take(struct bytes *b, void *dst, size_t len)
{
	if (b->failed || len > b->left_bytes) {
		b->failed = true;
		memset(dst, 0, len);
		return false;
	}
	memcpy(dst, b->at, len);
	b->at += len;
	b->left_bytes -= len;
	return true;
}

#endif
