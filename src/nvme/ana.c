/*
 * Asymmetric namespace access (base 8.20). A state belongs to a controller: all its namespaces are
 * in one group, the same for all controllers, and the group has another state at each.
 */
#include "nvme/nvme_impl.h"

#define NOTICE_ANA_CHANGE 0x03

enum nvme_status nvme_ana_status(const struct nvme_ctrl *ctrl)
{
	enum nvme_ana state = __atomic_load_n(&ctrl->ana, __ATOMIC_RELAXED);

	switch (state) {
	case NVME_ANA_OPTIMIZED:
	case NVME_ANA_NON_OPTIMIZED:
		return NVME_SC_SUCCESS;
	case NVME_ANA_INACCESSIBLE:
		return NVME_SC_ANA_INACCESSIBLE;
	case NVME_ANA_PERSISTENT_LOSS:
		return NVME_SC_ANA_PERSISTENT_LOSS;
	case NVME_ANA_CHANGE:
		return NVME_SC_ANA_TRANSITION;
	}
	UNREACHABLE();
}

void nvme_ctrl_ana_set(struct nvme_ctrl *ctrl, enum nvme_ana state)
{
	struct nvme_ns *ns;

	if (ctrl->ana == state)
		return;
	__atomic_store_n(&ctrl->ana, state, __ATOMIC_RELAXED);
	ctrl->logs.ana_changes++;
	list_for_each(ns, &ctrl->subsys->namespaces, node)
		nvme_gates_update(ns);
	nvme_event(ctrl, NVME_EVENT_NOTICE, NOTICE_ANA_CHANGE, NVME_LOG_ANA);
}
