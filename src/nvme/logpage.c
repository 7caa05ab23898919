#include "nvme/nvme_impl.h"

void nvme_get_log_page(struct nvme_cmd *c)
{
	nvme_cmd_end(c, NVME_SC_INVALID_OPCODE);
}

void nvme_log_error(struct nvme_cmd *c, uint16_t status_field)
{
}

void nvme_log_ns_changed(struct nvme_ctrl *ctrl, uint32_t nsid)
{
	ctrl->logs.changed_ns[nsid / 64] |= 1ull << nsid % 64;
	nvme_event(ctrl, NVME_EVENT_NOTICE, 0x00, 0x04);
}
