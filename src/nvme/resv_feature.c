/*
 * The feature Reservation Persistence (83h, base 5.21.1.21): of a namespace, and on disk when the
 * command ends. The mask of notifications (82h) is a field of the attachment: feature.c.
 */
#include "nvme/nvme_impl.h"

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

/* Is it one of those that the command is for? */
static bool ptpl_names(const struct nvme_cmd *c, const struct nvme_ns *ns)
{
	uint32_t nsid = le32_get(c->sqe.nsid);

	return (nsid == NVME_NSID_ALL || nsid == ns->nsid) &&
	       nvme_att_find(nvme_cmd_ctrl(c), ns->nsid);
}

static enum nvme_status ptpl_check(const struct nvme_cmd *c, bool ptpl)
{
	const struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	uint32_t nsid = le32_get(c->sqe.nsid);
	const struct nvme_ns *ns;

	if (nsid != NVME_NSID_ALL && !nvme_att_find(ctrl, nsid))
		return NVME_SC_INVALID_NS;
	list_for_each(ns, &ctrl->subsys->namespaces, node)
		if (ptpl && !ns->state_path && ptpl_names(c, ns))
			return NVME_SC_FEATURE_NOT_CHANGEABLE;
	return nvme_ana_status(ctrl);
}

void nvme_resv_ptpl_set(struct nvme_cmd *c)
{
	bool ptpl = nvme_cdw11(c) & 1;
	enum nvme_status status = ptpl_check(c, ptpl);
	struct nvme_ns *ns;

	if (status != NVME_SC_SUCCESS) {
		nvme_cmd_end(c, status);
		return;
	}
	c->vars[VAR_PENDING] = 1;
	c->vars[VAR_FAILED] = 0;
	list_for_each(ns, &nvme_cmd_ctrl(c)->subsys->namespaces, node) {
		if (ns->resv.ptpl == ptpl || !ptpl_names(c, ns))
			continue;
		ns->resv.ptpl = ptpl;
		c->vars[VAR_PENDING]++;
		nvme_ns_state_save(ns, ptpl_saved, c);
	}
	ptpl_put(c);
}
