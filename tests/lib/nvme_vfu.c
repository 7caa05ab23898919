/* See nvme_vfu.h. */
#include "nvme_vfu.h"

static int nvme_vfu_doorbell(void *t, uint32_t index, uint32_t value)
{
	struct vfe *v = t;
	uint32_t off = SPEC_NVME_DOORBELL + 4 * index;

	return v->posted ? vfe_region_post(v, 0, off, &value, 4)
			 : vfe_region_write(v, 0, off, &value, 4);
}

struct nvmedrv_transport nvme_vfu_transport(struct vfe *v, bool trapped)
{
	struct nvmedrv_transport tr = {
		.name = "vfio-user",
		.t = v,
		.reg_read = vfe_reg_read,
		.reg_write = vfe_reg_write,
		.doorbell = nvme_vfu_doorbell,
		.mem_alloc = vfe_mem_alloc,
		.mem_host = vfe_mem_host,
		.vector_fd = vfe_vector_fd,
	};

	if (v->bar_map && !trapped)
		tr.doorbells = (uint32_t *)(v->bar_map + (SPEC_NVME_DOORBELL - v->bar_map_offset));
	return tr;
}
