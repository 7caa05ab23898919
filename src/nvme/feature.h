/* What Set Features keeps for a controller (base 5.21). Thread: main. */
#ifndef NVME_FEATURE_H
#define NVME_FEATURE_H

#include <stdbool.h>
#include <stdint.h>

#include "nvme/ctrl.h"

/* Feature 84h: states of a namespace (base 5.21.1.32). */
enum nvme_write_protect {
	NVME_WP_NONE,
	NVME_WP_PROTECTED,
	NVME_WP_UNTIL_POWER_CYCLE,
	NVME_WP_PERMANENT,
};

struct nvme_features {
	uint32_t value[32]; /* by feature identifier, those that are one dword */
	/* 09h: bit by vector: Coalescing Disable */
	uint64_t coalescing_disable[NVME_VECTORS_MAX / 64];
	uint8_t host_id[16];   /* zero: not set */
	bool host_id_extended; /* 16 bytes, else 8 */
	int64_t timestamp_offset_ms;
	bool timestamp_set;
};

/* The values after a reset. The host identifier goes too. */
void nvme_features_reset(struct nvme_ctrl *ctrl);

#endif
