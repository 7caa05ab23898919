/*
 * Blocks marked by Write Uncorrectable (NVM command set): reads of them fail until they are
 * written. Ranges, with a lock of their own; loops look only when GATE_UNCOR is set.
 */
#ifndef NVME_UNCOR_H
#define NVME_UNCOR_H

#include <pthread.h>
#include <stdint.h>

struct nvme_uncor {
	pthread_mutex_t lock;
	struct nvme_uncor_range *ranges; /* sorted, disjoint */
	uint32_t count, room;
};

#endif
