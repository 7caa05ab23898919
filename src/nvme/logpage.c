#include "nvme/nvme_impl.h"

void nvme_get_log_page(struct nvme_cmd *c)
{
	nvme_cmd_end(c, NVME_SC_INVALID_OPCODE);
}

void nvme_log_error(struct nvme_cmd *c, uint16_t status_field)
{
}
