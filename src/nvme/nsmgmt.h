/*
 * Namespace Management and Attachment (base 5.19, 5.20): namespaces as sparse files in a folder.
 * Thread: main.
 */
#ifndef NVME_NSMGMT_H
#define NVME_NSMGMT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/list.h"

struct nvme_subsys;

struct nvme_pool {
	char *path; /* NULL: none, and nothing of this is offered */
	uint64_t total_bytes, used_bytes;
	struct list files; /* of nsmgmt.c */
};

static inline bool nvme_pool_offered(const struct nvme_pool *pool)
{
	return pool->path;
}

/* Before nvme_subsys_state_load; -ENOMEM. path may be NULL. */
int nvme_pool_init(struct nvme_subsys *subsys, const char *path, uint64_t bytes,
		   struct err *reterr);
/* After it: opens and adds the namespaces that are in the state file. */
int nvme_pool_restore(struct nvme_subsys *subsys, struct err *reterr);
/* See nvme_pool_close. */
void nvme_pool_fini(struct nvme_subsys *subsys);

/* Lines of the state file. */
void nvme_pool_state_write(const struct nvme_subsys *subsys, FILE *to);
const char *nvme_pool_state_read(struct nvme_subsys *subsys, const char *line, bool *ret_mine);

#endif
