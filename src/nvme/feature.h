/* What Set Features keeps for a controller (base 5.21). Thread: main. */
#ifndef NVME_FEATURE_H
#define NVME_FEATURE_H

#include <stdbool.h>
#include <stdint.h>

#include "nvme/ctrl.h"

/* Feature identifiers (base 5.21.1) */
enum nvme_feature {
	NVME_FEAT_ARBITRATION = 0x01,
	NVME_FEAT_POWER = 0x02,
	NVME_FEAT_TEMPERATURE = 0x04,
	NVME_FEAT_ERROR_RECOVERY = 0x05,
	NVME_FEAT_WRITE_CACHE = 0x06,
	NVME_FEAT_QUEUES = 0x07,
	NVME_FEAT_COALESCING = 0x08,
	NVME_FEAT_VECTOR = 0x09,
	NVME_FEAT_ATOMICITY = 0x0a,
	NVME_FEAT_EVENTS = 0x0b,
	NVME_FEAT_TIMESTAMP = 0x0e,
	NVME_FEAT_KEEP_ALIVE = 0x0f,
	NVME_FEAT_HOST_ID = 0x81,
	NVME_FEAT_RESV_MASK = 0x82,
	NVME_FEAT_RESV_PERSISTENCE = 0x83,
	NVME_FEAT_WRITE_PROTECT = 0x84,
};

struct nvme_features {
	uint32_t value[32]; /* by feature identifier, those that are one dword */
	uint32_t under_temperature_k;
	/* 09h: bit by vector: Coalescing Disable */
	uint64_t coalescing_disable[NVME_VECTORS_MAX / 64];
	uint8_t host_id[16];	     /* zero: not set */
	bool host_id_extended;	     /* 16 bytes, else 8 */
	int64_t timestamp_offset_ms; /* to loop_clock_ns */
	bool timestamp_set;	     /* by the host, else it counts from the reset */
	struct loop_timer keep_alive;
};

/*
 * The values after a reset, and at the start. The host identifier goes too; the keep alive timer is
 * stopped, and nothing of this runs until the next Set Features.
 */
void nvme_features_reset(struct nvme_ctrl *ctrl);

#endif
