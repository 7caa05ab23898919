/* The access state of a path: of all controllers that one front made. */
#include <string.h>

#include "nvme/nvme_impl.h"

void nvme_subsys_ana_set(struct nvme_subsys *subsys, const char *name, enum nvme_ana state)
{
	struct nvme_ctrl *ctrl;

	list_for_each(ctrl, &subsys->ctrls, node) {
		if (ctrl->ana != state && !strcmp(ctrl->params.name, name))
			nvme_ctrl_ana_set(ctrl, state);
	}
}

uint16_t nvme_subsys_cntlid(const struct nvme_subsys *subsys, const char *name)
{
	const struct nvme_ctrl *ctrl;

	list_for_each(ctrl, &subsys->ctrls, node)
		if (!strcmp(ctrl->params.name, name))
			return ctrl->cntlid;
	return 0;
}
