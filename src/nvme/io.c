#include "nvme/nvme_impl.h"

void nvme_write_uncorrectable(struct nvme_cmd *c)
{
	nvme_cmd_end(c, NVME_SC_INVALID_OPCODE);
}

void nvme_compare(struct nvme_cmd *c)
{
	nvme_cmd_end(c, NVME_SC_INVALID_OPCODE);
}

void nvme_write_zeroes(struct nvme_cmd *c)
{
	nvme_cmd_end(c, NVME_SC_INVALID_OPCODE);
}

void nvme_dataset_management(struct nvme_cmd *c)
{
	nvme_cmd_end(c, NVME_SC_INVALID_OPCODE);
}

void nvme_verify(struct nvme_cmd *c)
{
	nvme_cmd_end(c, NVME_SC_INVALID_OPCODE);
}

void nvme_copy(struct nvme_cmd *c)
{
	nvme_cmd_end(c, NVME_SC_INVALID_OPCODE);
}
