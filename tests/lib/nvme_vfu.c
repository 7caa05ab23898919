/* See nvme_vfu.h. */
#include "nvme_vfu.h"

#include <poll.h>

static int nvme_vfu_doorbell(void *t, uint32_t index, uint32_t value)
{
	struct vfe *v = t;
	uint32_t off = SPEC_NVME_DOORBELL + 4 * index;

	return v->posted ? vfe_region_post(v, 0, off, &value, 4)
			 : vfe_region_write(v, 0, off, &value, 4);
}

/* The server reads and writes by message what it has no mapping of. */
static int nvme_vfu_idle(void *t)
{
	struct vfe *v = t;
	struct pollfd p = { .fd = v->fe.sock, .events = POLLIN };

	while (poll(&p, 1, 0) == 1) {
		struct vfe_msg msg;
		int rc = vfe_recv(v, &msg);

		if (!rc)
			rc = vfe_dma_serve(v, &msg);
		if (rc)
			return rc;
	}
	return 0;
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
		.idle = nvme_vfu_idle,
	};

	if (v->bar_map && !trapped)
		tr.doorbells = (uint32_t *)(v->bar_map + (SPEC_NVME_DOORBELL - v->bar_map_offset));
	return tr;
}
