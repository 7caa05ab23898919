/* What another room does not have yet: devices that need it cannot be started. */
#include <errno.h>

#include "base/check.h"
#include "nvme/spec.h"
#include "nvme/subsys.h"
#include "vfu/vfu.h"

#define WEAK __attribute__((weak))

struct nvme_cmd;
struct nvme_sweep;
void nvme_cmd_end(struct nvme_cmd *c, enum nvme_status status);
int nvme_sweep_start(struct nvme_sweep *s);

WEAK void nvme_cmd_end(struct nvme_cmd *c, enum nvme_status status)
{
	UNREACHABLE();
}

WEAK int nvme_sweep_start(struct nvme_sweep *s)
{
	UNREACHABLE();
}

WEAK void nvme_ctrl_ana_set(struct nvme_ctrl *ctrl, enum nvme_ana state)
{
	UNREACHABLE();
}

WEAK int vfu_endpoint_start(const struct vfu_endpoint_params *params, struct vfu_endpoint **ret_ep,
			    struct err *reterr)
{
	return err_set(reterr, -ENOSYS, "vfio-user is not there yet");
}

WEAK void vfu_endpoint_stop(struct vfu_endpoint *ep, void (*stopped)(void *arg), void *arg)
{
	UNREACHABLE();
}

WEAK void vfu_check_lost(void)
{
}

WEAK int vfu_nvme_new(const struct vfu_nvme_params *params, struct vfu_dev **ret_dev,
		      struct err *reterr)
{
	UNREACHABLE();
}
