#include "nvme/nvme_impl.h"

void nvme_aer(struct nvme_cmd *c)
{
	nvme_cmd_end(c, NVME_SC_INVALID_OPCODE);
}

void nvme_event(struct nvme_ctrl *ctrl, enum nvme_event_type type, uint8_t info, uint8_t log_page)
{
}

void nvme_event_read(struct nvme_ctrl *ctrl, uint8_t log_page)
{
}

void nvme_aen_reset(struct nvme_ctrl *ctrl)
{
}

bool nvme_aen_abort(struct nvme_ctrl *ctrl, uint16_t cid)
{
	return false;
}
