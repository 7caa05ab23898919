/*
 * Notifications of a ring with more than iops_threshold requests a second are held back: after one
 * the next comes no sooner than delay_base_us * (rate - iops_threshold) / iops_threshold later, as
 * SPDK has it, and no later than VRING_DELAY_MAX_NS. The rate is that of the last
 * VRING_RATE_WINDOW_NS or longer; at or below the threshold nothing is held back.
 */
#ifndef VIRTIO_COALESCING_H
#define VIRTIO_COALESCING_H

#include <stdint.h>

struct vring_coalescing {
	uint32_t delay_base_us;	 /* 0: off; at most VRING_DELAY_BASE_MAX_US */
	uint32_t iops_threshold; /* at least 1, unless off */
};

#define VRING_DELAY_BASE_MAX_US 1000000u
#define VRING_RATE_WINDOW_NS	10000000ull
#define VRING_DELAY_MAX_NS	VRING_RATE_WINDOW_NS

#endif
