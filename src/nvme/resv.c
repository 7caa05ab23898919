#include "nvme/nvme_impl.h"

void nvme_resv_register(struct nvme_cmd *c)
{
	nvme_cmd_end(c, NVME_SC_INVALID_OPCODE);
}

void nvme_resv_report(struct nvme_cmd *c)
{
	nvme_cmd_end(c, NVME_SC_INVALID_OPCODE);
}

void nvme_resv_acquire(struct nvme_cmd *c)
{
	nvme_cmd_end(c, NVME_SC_INVALID_OPCODE);
}

void nvme_resv_release(struct nvme_cmd *c)
{
	nvme_cmd_end(c, NVME_SC_INVALID_OPCODE);
}

uint32_t nvme_resv_gate(const struct nvme_ns *ns, const struct nvme_ctrl *ctrl)
{
	return 0;
}

void nvme_resv_fini(struct nvme_ns *ns)
{
}

void nvme_resv_host_changed(struct nvme_ctrl *ctrl)
{
}
