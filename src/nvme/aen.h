/*
 * Asynchronous events (base 5.2): requests that wait, and events that wait for requests.
 * Thread: main.
 */
#ifndef NVME_AEN_H
#define NVME_AEN_H

#include <stdbool.h>
#include <stdint.h>

struct nvme_ctrl;
struct nvme_subsys;
struct nvme_cmd;

enum nvme_event_type {
	NVME_EVENT_ERROR = 0,
	NVME_EVENT_SMART = 1,
	NVME_EVENT_NOTICE = 2,
	NVME_EVENT_IO = 6, /* reservation log page available, sanitize */
};

struct nvme_aen {
	struct nvme_cmd *waiting[4];
	uint32_t waiting_count;
	uint32_t masked; /* 1 << type: reported, its log page not read yet */
	uint32_t pending_count;
	uint32_t pending[16]; /* dword 0 of events that wait */
};

/* Event information and log page, as dword 0 has them. Dropped when the guest does not want it. */
void nvme_event(struct nvme_ctrl *ctrl, enum nvme_event_type type, uint8_t info, uint8_t log_page);
/* The guest read log_page (without Retain Asynchronous Event). */
void nvme_event_read(struct nvme_ctrl *ctrl, uint8_t log_page);
/* Waiting requests are dropped, with no completion: reset. */
void nvme_aen_reset(struct nvme_ctrl *ctrl);
/* Abort: ends a waiting request of this identifier as ABORT_REQUESTED; false: none. */
bool nvme_aen_abort(struct nvme_ctrl *ctrl, uint16_t cid);

#endif
