/*
 * The in-flight area: shared memory in which the rings record what is under way, so that a new
 * back-end process can go on. We create it (GET_INFLIGHT_FD), the front-end keeps it and hands it
 * back (SET_INFLIGHT_FD) on each start; what comes back is untrusted.
 * Source: vhost-user, "Inflight I/O tracking".
 */
#ifndef VHOST_INFLIGHT_FD_H
#define VHOST_INFLIGHT_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define INFLIGHT_PART_ALIGN 64

struct parcel;

struct inflight_area {
	char *base; /* NULL: none */
	uint64_t size_bytes;
	uint32_t queue_count;
	bool lost;
	/* private: */
	void *mapping;
	size_t mapping_bytes;
	int fd; /* a duplicate, for a successor; -1: none was to be had. With base only */
	uint64_t offset_bytes;
};

/* A sealed, zeroed memfd for the given queues. Sizes were checked by the caller. */
int inflight_area_create(uint64_t bytes, int *ret_fd, struct err *reterr);
/* Maps [offset, offset + size) of fd (checked against the file). fd stays the caller's. */
int inflight_area_map(struct inflight_area *a, int fd, uint64_t offset_bytes, uint64_t size_bytes,
		      struct err *reterr);
void inflight_area_unmap(struct inflight_area *a);
/* Hand-over: the area, if there is one. -EMFILE, -EPROTO, inflight_area_map's; named. */
int inflight_area_pack(const struct inflight_area *a, struct parcel *p, struct err *reterr);
int inflight_area_unpack(struct inflight_area *a, struct parcel *p, struct err *reterr);
/*
 * The part of queue idx and its size: the area divided evenly. NULL when there is no area, or no
 * part for that queue.
 */
void *inflight_area_queue(const struct inflight_area *a, uint32_t idx, uint64_t *ret_bytes);

#endif
