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

#define NVME_AER_MAX	       4 /* AERL 3 */
#define NVME_EVENT_TYPES       8
#define NVME_EVENT_PENDING_MAX 16

/*
 * A type is masked from the time when an event of it was reported until the guest has read the log
 * page of that event; what happens meanwhile waits. What waits for a log page is dropped when the
 * page is read: it tells the guest nothing new.
 */
struct nvme_aen {
	struct nvme_cmd *waiting[NVME_AER_MAX]; /* oldest first */
	uint32_t waiting_count;
	uint32_t masked;		      /* 1 << type */
	uint8_t masked_log[NVME_EVENT_TYPES]; /* the log page that ends it */
	uint32_t pending_count;
	uint32_t pending[NVME_EVENT_PENDING_MAX]; /* dword 0 of each, oldest first */
};

/*
 * Event information and log page, as dword 0 has them. Dropped when the guest does not want it
 * (feature 0Bh), when it waits already, or when too many do.
 */
void nvme_event(struct nvme_ctrl *ctrl, enum nvme_event_type type, uint8_t info, uint8_t log_page);
/* The guest read log_page (without Retain Asynchronous Event). */
void nvme_event_read(struct nvme_ctrl *ctrl, uint8_t log_page);
/* Waiting requests are dropped, with no completion: reset. Events go too. */
void nvme_aen_reset(struct nvme_ctrl *ctrl);
/* Abort: ends a waiting request of this identifier as ABORT_REQUESTED; false: none. */
bool nvme_aen_abort(struct nvme_ctrl *ctrl, uint16_t cid);
/* Ends this request, if it waits for an event. */
void nvme_aen_abort_cmd(struct nvme_cmd *c);

#endif
