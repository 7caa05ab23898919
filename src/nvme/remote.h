/* Memory that the maps lack, by the port's messages: see remote.c. */
#ifndef NVME_REMOTE_H
#define NVME_REMOTE_H

#include "nvme/nvme_impl.h"

/* nvme_data goes on here; c->next, dir and data_bytes are set. */
void nvme_remote_start(struct nvme_cmd *c, struct nvme_mem *m);
/* nvme_data_end of such a command. */
bool nvme_remote_end(struct nvme_cmd *c, struct nvme_mem *m, bool success);
/* One that waits goes on if there is room now; false: none does. */
bool nvme_remote_wake(struct nvme_mem *m);

#endif
