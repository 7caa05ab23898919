/* What log pages count and keep for a controller (base 5.14). Thread: main. */
#ifndef NVME_LOGPAGE_H
#define NVME_LOGPAGE_H

#include <stdint.h>

#include "nvme/spec.h"

struct nvme_ctrl;
struct nvme_cmd;

/* Log page identifiers (base 5.14.1); 80h and 81h are in resv.h and sanitize.h. */
enum nvme_log {
	NVME_LOG_ERROR = 0x01,
	NVME_LOG_SMART = 0x02,
	NVME_LOG_FIRMWARE = 0x03,
	NVME_LOG_CHANGED_NS = 0x04,
	NVME_LOG_EFFECTS = 0x05,
	NVME_LOG_ANA = 0x0c,
};

#define NVME_ERROR_ENTRIES 64

struct nvme_error_entry {
	uint64_t count, lba;
	uint16_t sqid, cid, status, location;
	uint32_t nsid;
};

struct nvme_logs {
	/* under ctrl->lock: */
	struct nvme_error_entry
		errors[NVME_ERROR_ENTRIES]; /* newest at (error_count - 1) % entries */
	uint64_t error_count;

	uint64_t changed_ns[1024 / 64 + 1]; /* bitmap by nsid, since log page 04h was read */
	uint64_t ana_changes;
	uint8_t critical_warning; /* as last told */
};

/* A command failed in a way that belongs into the error log. Thread: any. */
void nvme_log_error(struct nvme_cmd *c, uint16_t status_field);
/* The same without a command; count of it is filled. Thread: any. */
void nvme_log_error_add(struct nvme_ctrl *ctrl, const struct nvme_error_entry *entry);
/* The temperature thresholds have changed: maybe an event. */
void nvme_smart_check(struct nvme_ctrl *ctrl);
/* Namespace nsid is in the changed namespace list from now; the event goes out. */
void nvme_log_ns_changed(struct nvme_ctrl *ctrl, uint32_t nsid);

#endif
