/*
 * Reservations (base 8.8).
 *
 * A registrant is a host, known by its Host Identifier; all controllers with that identifier are
 * the host's. A controller without one is a host of its own, until it gets one or is reset. All of
 * it is main's: commands are passed there, and what data loops need is in the gates.
 *
 *   nothing --Register--> registrant --Acquire--> holder
 *      ^                    |  ^                     |
 *      +- Unregister, Clear +  +--- Release, Preempt-+
 *         Preempt by another          by another
 *
 *   resv.c         registrants, the reservation, gates, notifications
 *   resv_cmd.c     Register, Acquire, Release
 *   resv_feature.c Persistence
 *   resv_report.c  Report
 *   resv_state.c   lines of the namespace's state file
 */
#ifndef NVME_RESV_H
#define NVME_RESV_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/list.h"
#include "nvme/spec.h"

struct nvme_cmd;
struct nvme_ctrl;
struct nvme_ns;

#define NVME_REGISTRANTS_MAX 1024
#define NVME_RESV_LOG_MAX    64
#define NVME_RESV_LOG_BYTES  64
#define NVME_LOG_RESV	     0x80 /* log page: Reservation Notification */
#define NVME_RESCAP	     0xfe /* all six types, and Ignore Existing Key as of 1.3 */
#define NVME_RESCAP_PTPL     0x01

enum nvme_resv_type {
	NVME_RESV_NONE,
	NVME_RESV_WRITE_EXCLUSIVE,
	NVME_RESV_EXCLUSIVE_ACCESS,
	NVME_RESV_WRITE_EXCLUSIVE_REG,
	NVME_RESV_EXCLUSIVE_ACCESS_REG,
	NVME_RESV_WRITE_EXCLUSIVE_ALL,
	NVME_RESV_EXCLUSIVE_ACCESS_ALL,
	NVME_RESV_TYPE_COUNT
};

struct nvme_registrant {
	struct list node; /* resv->registrants, in the order of registering */
	uint64_t key;
	uint8_t host_id[16];
	bool extended;		/* all 16 bytes, else 8 */
	struct nvme_ctrl *ctrl; /* without a host identifier: the one that it is */
	uint16_t cntlid; /* the same, of a controller that is yet to come (a hand-over); else 0 */
};

struct nvme_resv {
	struct list registrants;
	uint32_t registrant_count;
	uint32_t generation;
	enum nvme_resv_type type;
	struct nvme_registrant *holder; /* NULL: none, or all registrants */
	bool ptpl;			/* persist through power loss */
};

/* ---- notifications (base 5.14.1.9.1) ---- */

enum nvme_resv_event {
	NVME_RESV_REGISTRATION_PREEMPTED = 1,
	NVME_RESV_RELEASED = 2,
	NVME_RESV_PREEMPTED = 3,
};
#define NVME_RESV_EVENT_MASK 0xeu /* 1 << each: feature 82h */

/* Of a controller: those not read yet, oldest first; with too many the oldest go. */
struct nvme_resv_log {
	uint64_t count; /* of all that there were */
	uint32_t first, unread;
	struct {
		uint64_t count;
		uint32_t nsid;
		uint8_t event;
	} entries[NVME_RESV_LOG_MAX];
};

/* Log page 80h: the oldest one not read yet, which is read now; zeroes: there is none. */
void nvme_resv_log_take(struct nvme_ctrl *ctrl, uint8_t ret_page[NVME_RESV_LOG_BYTES]);

/* ---- for the other files of the room ---- */

void nvme_resv_init(struct nvme_ns *ns);
/* Frees what is kept. */
void nvme_resv_fini(struct nvme_ns *ns);
/* RESCAP of Identify Namespace. */
uint8_t nvme_resv_cap(const struct nvme_ns *ns);
/* The gate bits CMD_RESV_READ and CMD_RESV_WRITE for this controller's host. */
uint32_t nvme_resv_gate(const struct nvme_ns *ns, const struct nvme_ctrl *ctrl);
/*
 * The host behind a controller is another now: Set Features (Host Identifier), also before the
 * controller goes. What it registered without an identifier goes.
 */
void nvme_resv_host_changed(struct nvme_ctrl *ctrl);
/* A reset: also notifications and masks go. After the host identifier is cleared. */
void nvme_resv_reset(struct nvme_ctrl *ctrl);

/* Set Features 83h (base 5.21.1.21): ends the command when it is on disk. */
void nvme_resv_ptpl_set(struct nvme_cmd *c);

/* ---- among the files of reservations ---- */

bool nvme_resv_is_of(const struct nvme_registrant *reg, const struct nvme_ctrl *ctrl);
/* NULL: the controller's host is no registrant. */
struct nvme_registrant *nvme_resv_find(const struct nvme_ns *ns, const struct nvme_ctrl *ctrl);
/* All registrants hold a reservation of this type; registrants may do what its holder may. */
bool nvme_resv_type_all(enum nvme_resv_type type);
bool nvme_resv_type_shared(enum nvme_resv_type type);
bool nvme_resv_holds(const struct nvme_ns *ns, const struct nvme_registrant *reg);
/* NULL: no memory. At the end of the list; host_id, extended and ctrl are the caller's to set. */
struct nvme_registrant *nvme_resv_add(struct nvme_ns *ns, uint64_t key);
/* Also the reservation, if it was the holder or the last registrant of all. */
void nvme_resv_remove(struct nvme_ns *ns, struct nvme_registrant *reg);
void nvme_resv_take(struct nvme_ns *ns, enum nvme_resv_type type, struct nvme_registrant *holder);
void nvme_resv_drop(struct nvme_ns *ns);
/* Tells the controllers of reg's host, NULL: of all registrants; not those of by's host. */
void nvme_resv_notify(struct nvme_ns *ns, const struct nvme_registrant *reg,
		      const struct nvme_ctrl *by, enum nvme_resv_event event);

/* Registrants that waited for a controller of this identifier are it from here on. */
void nvme_resv_came(struct nvme_ctrl *ctrl);

/*
 * Lines for a hand-over (live.c): all of it, whatever is to survive a restart, `resv PTPL
 * GENERATION` first. Reading: as nvme_resv_state_read, into a namespace without registrants.
 */
void nvme_resv_live_write(const struct nvme_ns *ns, FILE *to);
const char *nvme_resv_live_read(struct nvme_ns *ns, const char *line, bool *ret_mine);
/* Lines of the state file: nothing when it is not to survive. */
void nvme_resv_state_write(const struct nvme_ns *ns, FILE *to);
/* NULL, or why it is wrong. *ret_mine: it is a line of reservations. */
const char *nvme_resv_state_read(struct nvme_ns *ns, const char *line, bool *ret_mine);

#endif
