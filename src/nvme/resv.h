/* Reservations (base 8.8): registrants are hosts, by host identifier. Thread: main. */
#ifndef NVME_RESV_H
#define NVME_RESV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct nvme_ctrl;
struct nvme_ns;

enum nvme_resv_type {
	NVME_RESV_NONE,
	NVME_RESV_WRITE_EXCLUSIVE,
	NVME_RESV_EXCLUSIVE_ACCESS,
	NVME_RESV_WRITE_EXCLUSIVE_REG,
	NVME_RESV_EXCLUSIVE_ACCESS_REG,
	NVME_RESV_WRITE_EXCLUSIVE_ALL,
	NVME_RESV_EXCLUSIVE_ACCESS_ALL,
};

struct nvme_resv {
	struct list registrants; /* of resv.c */
	uint32_t registrant_count;
	uint32_t generation;
	enum nvme_resv_type type;
	bool ptpl; /* persist through power loss */
};

/* The gate bits CMD_RESV_READ and CMD_RESV_WRITE for this controller's host. */
uint32_t nvme_resv_gate(const struct nvme_ns *ns, const struct nvme_ctrl *ctrl);
/* Frees what is kept. */
void nvme_resv_fini(struct nvme_ns *ns);
/* The host behind a controller is another now (Set Features, Host Identifier; reset). */
void nvme_resv_host_changed(struct nvme_ctrl *ctrl);

#endif
