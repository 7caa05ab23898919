/*
 * Namespace Attachment (base 5.19): a list of controllers gets a namespace, or gives it back; all
 * of them or none. See nsmgmt.c for how namespaces come to be.
 */
#include "nvme/nvme_impl.h"

#define SEL(cdw10) ((cdw10)&0xf)
#define SEL_ATTACH 0
#define SEL_DETACH 1

#define LIST_IDS_MAX 2047 /* base 4.9 */

struct ctrl_list {
	struct le16 count;
	struct le16 ids[LIST_IDS_MAX];
};
_Static_assert(sizeof(struct ctrl_list) == NVME_IDENTIFY_BYTES, "base 4.9, controller list");

/* In the command's scratch memory: the list, and the controllers that it names. */
struct attach {
	struct ctrl_list list;
	struct nvme_cmd *c;
	struct nvme_ns *ns; /* pinned, while it is detached */
	struct nvme_ctrl *ctrls[NVME_CTRLS_MAX];
	uint32_t count, pending;
	enum nvme_status status;
};

static struct nvme_ctrl *ctrl_find(const struct nvme_subsys *subsys, uint16_t cntlid)
{
	struct nvme_ctrl *ctrl;

	list_for_each(ctrl, &subsys->ctrls, node)
		if (ctrl->cntlid == cntlid)
			return ctrl;
	return NULL;
}

/* Identifiers that rise, each of a controller that there is. */
static enum nvme_status attach_list(struct attach *a)
{
	const struct nvme_subsys *subsys = nvme_cmd_ctrl(a->c)->subsys;
	uint32_t count = le16_get(a->list.count);
	struct nvme_ctrl *ctrl;

	if (!count || count > LIST_IDS_MAX)
		return NVME_SC_INVALID_CTRL_LIST;
	for (uint32_t i = 0; i < count; i++) {
		ctrl = ctrl_find(subsys, le16_get(a->list.ids[i]));
		if (!ctrl || (i && ctrl->cntlid <= le16_get(a->list.ids[i - 1])))
			return NVME_SC_INVALID_CTRL_LIST;
		a->ctrls[a->count++] = ctrl; /* rising: at most NVME_CTRLS_MAX */
	}
	return NVME_SC_SUCCESS;
}

static enum nvme_status attach_check(const struct attach *a, bool attach)
{
	const struct nvme_ctrl *by = nvme_cmd_ctrl(a->c);

	for (uint32_t i = 0; i < a->count; i++) {
		const struct nvme_att *att = nvme_att_find(a->ctrls[i], a->ns->nsid);

		if (attach && att)
			return NVME_SC_NS_ALREADY_ATTACHED;
		if (!attach && !att)
			return NVME_SC_NS_NOT_ATTACHED;
	}
	if (attach && a->ns->exclusive && (a->count > 1 || !list_empty(&a->ns->atts)))
		return NVME_SC_NS_PRIVATE;
	if (nvme_resv_gate(a->ns, by) & CMD_RESV_WRITE)
		return NVME_SC_RESERVATION_CONFLICT;
	return NVME_SC_SUCCESS;
}

static void attach_put(struct attach *a)
{
	struct nvme_ns *ns = a->ns;

	if (--a->pending)
		return;
	nvme_cmd_end(a->c, a->status);
	nvme_ns_unpin(ns);
}

static void attach_detached(void *arg)
{
	attach_put(arg);
}

static void attach_run(struct attach *a, bool attach)
{
	nvme_ns_pin(a->ns);
	a->pending = 1;
	for (uint32_t i = 0; i < a->count; i++) {
		int rc;

		a->pending += !attach;
		if (attach)
			rc = nvme_ns_attach(a->ns, a->ctrls[i]);
		else
			rc = nvme_ns_detach(a->ns, a->ctrls[i], attach_detached, a);
		if (rc == 0)
			continue;
		a->pending -= !attach;
		a->status = NVME_SC_INTERNAL_ERROR;
	}
	attach_put(a);
}

static void attach_start(struct nvme_cmd *c)
{
	bool attach = SEL(nvme_cdw10(c)) == SEL_ATTACH;
	struct attach *a = (struct attach *)c->buf;
	enum nvme_status status;

	a->c = c;
	a->ns = nvme_ns_find(nvme_cmd_ctrl(c)->subsys, c->nsid);
	if (!iov_cur_read(&c->data, &a->list, sizeof(a->list)))
		status = NVME_SC_DATA_TRANSFER_ERROR;
	else if (!a->ns)
		status = NVME_SC_INVALID_NS;
	else
		status = attach_list(a);
	if (status == NVME_SC_SUCCESS)
		status = attach_check(a, attach);
	if (status == NVME_SC_SUCCESS)
		attach_run(a, attach);
	else
		nvme_cmd_end(c, status);
}

void nvme_ns_attachment(struct nvme_cmd *c)
{
	enum nvme_status status = nvme_sanitize_status(nvme_cmd_ctrl(c)->subsys);

	if (status == NVME_SC_SUCCESS && !nvme_pool_offered(&nvme_cmd_ctrl(c)->subsys->pool))
		status = NVME_SC_INVALID_OPCODE;
	if (status == NVME_SC_SUCCESS && SEL(nvme_cdw10(c)) > SEL_DETACH)
		status = NVME_SC_INVALID_FIELD;
	if (status == NVME_SC_SUCCESS && c->nsid == NVME_NSID_ALL)
		status = NVME_SC_INVALID_FIELD;
	if (status != NVME_SC_SUCCESS)
		nvme_cmd_end(c, status);
	else if (nvme_cmd_scratch(c, sizeof(struct attach)))
		nvme_data(c, NVME_IDENTIFY_BYTES, NVME_FROM_GUEST, attach_start);
}
