/*
 * What survives a restart: a text file for each namespace and one for the subsystem
 * (loop/statefile.h). Thread: main, all of it.
 *
 *   vhostd-nvme-ns 1
 *   ptpl 1, register ..., reserve ...   reservations that persist through power loss (resv_state.c)
 *   write-protect 1                     (protect.c)
 *   uncorrectable ...                   blocks marked so (uncor.c)
 *   end
 *
 *   vhostd-nvme-subsys 1
 *   sanitize STATE CDW10 CDW11          the last sanitize operation (sanitize.c)
 *   namespace ...                       created by guests (nsmgmt.c)
 *   end
 */
#ifndef NVME_STATE_H
#define NVME_STATE_H

#include <stdbool.h>

#include "base/err.h"

struct nvme_cmd;
struct nvme_ns;
struct nvme_subsys;

/*
 * Saves all that is to survive; then done(arg, ok), once, maybe before this returns. ok false: it
 * may not be on disk. Without a state path nothing survives, and ok is true. The namespace is
 * pinned, the subsystem referenced, until then. Thread: main, with its loop running.
 */
void nvme_ns_state_save(struct nvme_ns *ns, void (*done)(void *arg, bool ok), void *arg);
void nvme_subsys_state_save(struct nvme_subsys *subsys, void (*done)(void *arg, bool ok),
			    void *arg);

/* Reads it, before anybody else knows the object. Errors: of statefile_load. */
int nvme_ns_state_load(struct nvme_ns *ns, struct err *reterr);
int nvme_subsys_state_load(struct nvme_subsys *subsys, struct err *reterr);

#endif
