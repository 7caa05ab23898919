/* What log pages count and keep for a controller (base 5.14). Thread: main. */
#ifndef NVME_LOGPAGE_H
#define NVME_LOGPAGE_H

#include <stdint.h>

#include "nvme/spec.h"

struct nvme_ctrl;
struct nvme_cmd;

#define NVME_ERROR_ENTRIES 64

struct nvme_error_entry {
	uint64_t count, lba;
	uint16_t sqid, cid, status, location;
	uint32_t nsid;
};

struct nvme_logs {
	struct nvme_error_entry
		errors[NVME_ERROR_ENTRIES]; /* newest at (error_count - 1) % entries */
	uint64_t error_count;
	uint64_t changed_ns[1024 / 64 + 1]; /* bitmap by nsid, since log page 04h was read */
	uint64_t ana_changes;
};

/* A command failed in a way that belongs into the error log. Thread: any (it passes to main). */
void nvme_log_error(struct nvme_cmd *c, uint16_t status_field);
/* Namespace nsid is in the changed namespace list from now; the event goes out. */
void nvme_log_ns_changed(struct nvme_ctrl *ctrl, uint32_t nsid);

#endif
