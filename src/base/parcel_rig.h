/* For the tests of what is handed over: a parcel as it comes to another process, whole or bad. */
#ifndef BASE_PARCEL_RIG_H
#define BASE_PARCEL_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>

#include "base/parcel.h"

/* Its first len bytes, and all descriptors, which are its own then. sent stays as it is. */
static inline void parcel_arrives_cut(const struct parcel *sent, size_t len,
				      struct parcel *ret_parcel)
{
	int *fds = calloc(sent->fd_count + 1ul, sizeof(int));
	struct err err = { 0 };

	assert_non_null(fds);
	for (uint32_t i = 0; i < sent->fd_count; i++)
		fds[i] = fcntl(sent->fds[i], F_DUPFD_CLOEXEC, 3);
	assert_int_equal(parcel_open(ret_parcel, sent->bytes, len, fds, sent->fd_count, &err), 0);
	free(fds);
}

static inline void parcel_arrives(const struct parcel *sent, struct parcel *ret_parcel)
{
	parcel_arrives_cut(sent, sent->len, ret_parcel);
}

/* The idx-th of 2 * sent->len bad ones: cut at each length, then a wrong bit in each byte. */
static inline void parcel_arrives_bad(const struct parcel *sent, size_t idx,
				      struct parcel *ret_parcel)
{
	size_t at = idx % sent->len;

	if (idx < sent->len) {
		parcel_arrives_cut(sent, idx, ret_parcel);
		return;
	}
	parcel_arrives(sent, ret_parcel);
	ret_parcel->bytes[at] ^= (uint8_t)(0x80 >> at % 8);
}

#endif
