/*
 * Sanitize (base 5.24, 8.15) of all namespaces of a subsystem.
 *
 *   NEVER, DONE, FAILED, LEFT --Sanitize--> RUNNING --last flush--> DONE
 *                                              |  ^
 *                                       error  |  | after a restart: what is not done
 *                                              v  |
 *                                            FAILED --Exit Failure Mode--> LEFT
 *
 * While it runs, and after a failure, commands of the medium are refused. Thread: main; data loops
 * ask nvme_medium_status.
 */
#ifndef NVME_SANITIZE_H
#define NVME_SANITIZE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/list.h"
#include "nvme/spec.h"

struct loop;
struct nvme_ctrl;
struct nvme_ns;
struct nvme_subsys;

#define NVME_LOG_SANITIZE	0x81
#define NVME_SANITIZE_LOG_BYTES 512

enum nvme_sanitize_state {
	NVME_SANITIZE_NEVER,
	NVME_SANITIZE_DONE,
	NVME_SANITIZE_RUNNING,
	NVME_SANITIZE_FAILED,
	NVME_SANITIZE_LEFT, /* failed, and commands are let through all the same */
};

struct nvme_sanitize {
	_Atomic uint32_t state; /* enum nvme_sanitize_state */
	uint32_t cdw10, cdw11;	/* of the command that began it */
	uint32_t passes;	/* completed */
	uint16_t progress;
	/*
	 * The namespaces that there were when the command came and that are not done, of
	 * sanitize.c: one that the operator adds later must not lose its data.
	 */
	struct list todo;
	struct sanitize_run *run; /* of sanitize.c, NULL: nothing is under way */
};

void nvme_sanitize_init(struct nvme_sanitize *s);
/* Nothing of it is under way. */
void nvme_sanitize_fini(struct nvme_sanitize *s);

/* SANICAP of Identify Controller. */
uint32_t nvme_sanitize_cap(const struct nvme_subsys *subsys);
/* Log page 81h. */
void nvme_sanitize_log(const struct nvme_subsys *subsys, uint8_t ret_page[NVME_SANITIZE_LOG_BYTES]);
/*
 * Why a command of the medium does not run (the gate has CMD_MEDIUM): Format, Sanitize, or what
 * failed; SUCCESS: nothing stops it any more. Thread: any.
 */
enum nvme_status nvme_medium_status(const struct nvme_ns *ns);
/* The same for admin commands that are not allowed meanwhile (base 8.15, figure of commands). */
enum nvme_status nvme_sanitize_status(const struct nvme_subsys *subsys);
/* Is this log page one of those that can be read meanwhile? */
bool nvme_sanitize_log_allowed(uint8_t log_page);
/* false: none runs. How far it is, of all that it erases. */
bool nvme_sanitize_progress(const struct nvme_subsys *subsys, uint64_t *ret_done_bytes,
			    uint64_t *ret_total_bytes);
/* A namespace or a controller is there: goes on with what a restart interrupted. */
void nvme_sanitize_resume(struct nvme_subsys *subsys, struct loop *loop);

/* Lines of the state file. */
void nvme_sanitize_state_write(const struct nvme_subsys *subsys, FILE *to);
const char *nvme_sanitize_state_read(struct nvme_subsys *subsys, const char *line, bool *ret_mine);

#endif
