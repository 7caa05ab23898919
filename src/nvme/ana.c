/* Asymmetric namespace access (base 8.20). */
#include "nvme/nvme_impl.h"

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
	return NVME_SC_SUCCESS; /* 0: before nvme_subsys_join */
}
