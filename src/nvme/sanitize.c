#include "nvme/nvme_impl.h"

void nvme_sanitize(struct nvme_cmd *c)
{
	nvme_cmd_end(c, NVME_SC_INVALID_OPCODE);
}
