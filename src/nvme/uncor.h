/*
 * Blocks marked by Write Uncorrectable (NVM command set): reads of them fail until they are
 * written. Ranges, with a lock of their own; loops look only when GATE_UNCOR is set, which
 * nvme_gates_update derives from nvme_uncor_any.
 */
#ifndef NVME_UNCOR_H
#define NVME_UNCOR_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct nvme_uncor {
	pthread_mutex_t lock;
	struct nvme_uncor_range *ranges; /* sorted, disjoint, not adjacent */
	uint32_t count, room;
};

void nvme_uncor_init(struct nvme_uncor *u);
void nvme_uncor_fini(struct nvme_uncor *u);

/* All of these: Thread: any. Units: blocks; count at least 1, and no wrap. */

bool nvme_uncor_any(struct nvme_uncor *u);
/* Is any of these blocks marked? */
bool nvme_uncor_hits(struct nvme_uncor *u, uint64_t lba, uint64_t count);
/* false: no room (NVME_UNCOR_RANGES_MAX); nothing was marked. */
bool nvme_uncor_mark(struct nvme_uncor *u, uint64_t lba, uint64_t count);
/* *ret_changed: some were marked. false: no room to cut a range in two; nothing was cleared. */
bool nvme_uncor_clear(struct nvme_uncor *u, uint64_t lba, uint64_t count, bool *ret_changed);
void nvme_uncor_clear_all(struct nvme_uncor *u);

/* ---- the namespace's state file: lines "uncorrectable LBA COUNT" ---- */

void nvme_uncor_state_write(struct nvme_uncor *u, FILE *f);
/* One such line, without its newline. false: it is not one, or there are too many. */
bool nvme_uncor_state_read(struct nvme_uncor *u, const char *line);

#endif
