/*
 * Namespace write protection (base 8.19, feature 84h). Thread: main.
 *
 *   NONE <--Set Features--> PROTECTED          survives restarts: the namespace has a state file
 *     |                        |
 *     +---> UNTIL_POWER_CYCLE <+               until the daemon ends
 */
#ifndef NVME_PROTECT_H
#define NVME_PROTECT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct nvme_cmd;
struct nvme_ns;

enum nvme_write_protect {
	NVME_WP_NONE,
	NVME_WP_PROTECTED,
	NVME_WP_UNTIL_POWER_CYCLE,
};

/*
 * Set Features; ends the command. New writes are refused from here on; those under way, and what is
 * in volatile caches, reach the medium first, and then the state is on disk.
 */
void nvme_protect_set(struct nvme_cmd *c);

/* The line of the state file, as the others of state.c. */
void nvme_protect_state_write(const struct nvme_ns *ns, FILE *to);
const char *nvme_protect_state_read(struct nvme_ns *ns, const char *line, bool *ret_mine);

#endif
