/* What another room does not have yet: devices that need it cannot be started. */
#include <errno.h>

#include "base/check.h"
#include "nvme/subsys.h"
#include "vfu/vfu.h"

#define WEAK __attribute__((weak))

WEAK int nvme_subsys_new(const struct nvme_subsys_params *params, struct nvme_subsys **ret_subsys,
			 struct err *reterr)
{
	return err_set(reterr, -ENOSYS, "nvme is not there yet");
}

WEAK struct nvme_subsys *nvme_subsys_ref(struct nvme_subsys *subsys)
{
	UNREACHABLE();
}

WEAK void nvme_subsys_unref(struct nvme_subsys *subsys)
{
}

WEAK int nvme_ns_add(struct nvme_subsys *subsys, const struct nvme_ns_params *params,
		     struct nvme_ns **ret_ns, struct err *reterr)
{
	UNREACHABLE();
}

WEAK void nvme_ns_remove(struct nvme_ns *ns, void (*removed)(void *arg), void *arg)
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
