#include "nvme/nvme_impl.h"

void nvme_data(struct nvme_cmd *c, uint64_t len_bytes, enum nvme_dir dir,
	       void (*next)(struct nvme_cmd *c))
{
	nvme_cmd_end(c, NVME_SC_INVALID_FIELD);
}

void nvme_cmd_reply(struct nvme_cmd *c, const void *from, size_t len, size_t alloc_bytes)
{
	nvme_cmd_end(c, NVME_SC_INVALID_FIELD);
}
