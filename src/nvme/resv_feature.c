/*
 * Features of reservations (base 5.21.1.20, 5.21.1.21): Notification Mask 82h, which is a
 * namespace's at a controller, and Persistence 83h, which is the namespace's.
 */
#include "nvme/nvme_impl.h"

#define RESV_MASK_BITS                                                                             \
	(1u << NVME_RESV_REGISTRATION_PREEMPTED | 1u << NVME_RESV_RELEASED |                       \
	 1u << NVME_RESV_PREEMPTED)

/* Why this nsid has no attachment here. */
static enum nvme_status nsid_status(const struct nvme_ctrl *ctrl, uint32_t nsid)
{
	if (nsid == NVME_NSID_ALL || !nvme_ns_find(ctrl->subsys, nsid))
		return NVME_SC_INVALID_NS;
	return nvme_att_find(ctrl, nsid) ? NVME_SC_SUCCESS : NVME_SC_INVALID_FIELD;
}

enum nvme_status nvme_resv_mask_set(struct nvme_ctrl *ctrl, uint32_t nsid, uint32_t mask)
{
	enum nvme_status status = nsid_status(ctrl, nsid);
	struct nvme_att *att;
	struct nvme_ns *ns;

	if (nsid != NVME_NSID_ALL && status != NVME_SC_SUCCESS)
		return status;
	list_for_each(ns, &ctrl->subsys->namespaces, node) {
		att = nvme_att_find(ctrl, ns->nsid);
		if (att && (nsid == NVME_NSID_ALL || nsid == ns->nsid))
			att->resv_mask = mask & RESV_MASK_BITS;
	}
	return NVME_SC_SUCCESS;
}

enum nvme_status nvme_resv_mask_get(const struct nvme_ctrl *ctrl, uint32_t nsid, uint32_t *ret_mask)
{
	enum nvme_status status = nsid_status(ctrl, nsid);

	if (status == NVME_SC_SUCCESS)
		*ret_mask = nvme_att_find(ctrl, nsid)->resv_mask;
	return status;
}

enum nvme_status nvme_resv_ptpl_get(const struct nvme_ctrl *ctrl, uint32_t nsid, uint32_t *ret_ptpl)
{
	enum nvme_status status = nsid_status(ctrl, nsid);

	if (status == NVME_SC_SUCCESS)
		*ret_ptpl = nvme_ns_find(ctrl->subsys, nsid)->resv.ptpl;
	return status;
}

#define VAR_PENDING 0
#define VAR_FAILED  1

static void ptpl_put(struct nvme_cmd *c)
{
	if (!--c->vars[VAR_PENDING])
		nvme_cmd_end(c, c->vars[VAR_FAILED] ? NVME_SC_INTERNAL_ERROR : NVME_SC_SUCCESS);
}

static void ptpl_saved(void *arg, bool ok)
{
	struct nvme_cmd *c = arg;

	c->vars[VAR_FAILED] |= !ok;
	ptpl_put(c);
}

void nvme_resv_ptpl_set(struct nvme_cmd *c, struct nvme_ctrl *ctrl, uint32_t nsid, bool ptpl)
{
	enum nvme_status status = nsid_status(ctrl, nsid);
	struct nvme_ns *ns;

	if (nsid != NVME_NSID_ALL && status != NVME_SC_SUCCESS) {
		nvme_cmd_end(c, status);
		return;
	}
	list_for_each(ns, &ctrl->subsys->namespaces, node) {
		if (!ptpl || ns->state_path || !nvme_att_find(ctrl, ns->nsid))
			continue;
		if (nsid != NVME_NSID_ALL && nsid != ns->nsid)
			continue;
		nvme_cmd_end(c, NVME_SC_FEATURE_NOT_CHANGEABLE);
		return;
	}
	c->vars[VAR_PENDING] = 1;
	c->vars[VAR_FAILED] = 0;
	list_for_each(ns, &ctrl->subsys->namespaces, node) {
		if (ns->resv.ptpl == ptpl || !nvme_att_find(ctrl, ns->nsid) ||
		    (nsid != NVME_NSID_ALL && nsid != ns->nsid))
			continue;
		ns->resv.ptpl = ptpl;
		c->vars[VAR_PENDING]++;
		nvme_ns_state_save(ns, ptpl_saved, c);
	}
	ptpl_put(c);
}
