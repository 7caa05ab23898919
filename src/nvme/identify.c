/*
 * Identify (base 5.15). One row a CNS value. Optional commands and features are told by asking
 * whether their row is offered, so that this cannot say anything else than what is true.
 */
#include <string.h>

#include "nvme/caps.h"
#include "nvme/identify.h"
#include "nvme/limits.h"
#include "nvme/nvme_impl.h"

#define ID_LIST_MAX	   1024 /* namespace identifiers in a list */
#define ID_CTRL_LIST_MAX   2047
#define CNS_NSID_RESERVED  0xfffffffeu
#define CMIC_PORTS	   (1u << 0)
#define CMIC_CTRLS	   (1u << 1)
#define CMIC_ANA	   (1u << 3)
#define CTRATT_HOSTID_128  (1u << 0)
#define ONCS_SAVE_SELECT   (1u << 4)
#define ONCS_TIMESTAMP	   (1u << 6)
#define FRMW_ONE_READ_ONLY 0x03
#define LPA_SMART_NS	   (1u << 0)
#define LPA_EFFECTS	   (1u << 1)
#define LPA_EXTENDED	   (1u << 2)
#define VWC_PRESENT	   (1u << 0)
#define VWC_FLUSH_ONE	   (2u << 1) /* Flush needs the NSID of one namespace */
#define ANACAP_ALL_STATES  0x1f
#define ANACAP_GROUP_FIXED (1u << 6)
#define NWPC_WRITE_PROTECT (1u << 0)
#define NWPC_POWER_CYCLE   (1u << 1)
#define NSFEAT_ATOMIC	   (1u << 1) /* NAWUN, NAWUPF, NACWU count, not the controller's */
#define NSFEAT_OPTPERF	   (1u << 4)
#define NMIC_SHARED	   (1u << 0)
#define OCFS_FORMAT_0	   (1u << 0)
#define DLFEAT_ZEROES	   (1u << 0)
#define DLFEAT_WZ_DEAC	   (1u << 3)

/* ---- the controller (CNS 01h) ---- */

static bool id_offers(const struct nvme_ctrl *ctrl, bool admin, uint8_t opcode)
{
	for (uint32_t i = 0; i < nvme_row_count; i++)
		if (nvme_rows[i].admin == admin && nvme_rows[i].opcode == opcode)
			return nvme_row_offered(ctrl, &nvme_rows[i]);
	return false;
}

/* Commands that OACS and ONCS tell of. */
static const struct {
	bool admin;
	uint8_t opcode;
	uint16_t mask;
} optional_commands[] = {
	{ true, NVME_ADMIN_FORMAT_NVM, 1u << 1 },
	{ true, NVME_ADMIN_NS_MANAGEMENT, 1u << 3 },
	{ true, NVME_ADMIN_DOORBELL_BUFFER_CONFIG, 1u << 8 },
	{ false, NVME_IO_COMPARE, 1u << 0 },
	{ false, NVME_IO_WRITE_UNCORRECTABLE, 1u << 1 },
	{ false, NVME_IO_DATASET_MANAGEMENT, 1u << 2 },
	{ false, NVME_IO_WRITE_ZEROES, 1u << 3 },
	{ false, NVME_IO_RESV_REGISTER, 1u << 5 },
	{ false, NVME_IO_VERIFY, 1u << 7 },
	{ false, NVME_IO_COPY, 1u << 8 },
};

static uint16_t id_optional(const struct nvme_ctrl *ctrl, bool admin)
{
	uint16_t mask = 0;

	for (size_t i = 0; i < ARRAY_SIZE(optional_commands); i++)
		if (optional_commands[i].admin == admin &&
		    id_offers(ctrl, admin, optional_commands[i].opcode))
			mask |= optional_commands[i].mask;
	return mask;
}

static uint64_t id_attached_bytes(const struct nvme_subsys *subsys)
{
	const struct nvme_ns *ns;
	uint64_t bytes = 0;

	list_for_each(ns, &subsys->namespaces, node)
		bytes += nvme_ns_blocks(ns) << ns->block_shift;
	return bytes;
}

void nvme_firmware_revision(char fr[8])
{
	memset(fr, ' ', 8);
	memcpy(fr, VHOSTD_VERSION, MIN(sizeof(VHOSTD_VERSION) - 1, (size_t)8));
}

static void id_ctrl_common(const struct nvme_ctrl *ctrl, struct nvme_id_ctrl *id)
{
	const struct nvme_subsys *subsys = ctrl->subsys;

	id->vid = id->ssvid =
		le16(ctrl->params.pci_vendor ? ctrl->params.pci_vendor : NVME_PCI_VENDOR);
	memcpy(id->sn, subsys->serial, sizeof(id->sn));
	memcpy(id->mn, subsys->model, sizeof(id->mn));
	nvme_firmware_revision(id->fr);
	id->rab = 6;
	memcpy(id->ieee, (const uint8_t[3])NVME_OUI, 3);
	id->cntlid = le16(ctrl->cntlid);
	id->oacs = le16(id_optional(ctrl, true));
	id->frmw = FRMW_ONE_READ_ONLY;
	id->sqes = 0x66; /* 64 bytes, the least and the most */
	id->cqes = 0x44; /* 16 bytes */
	id->oncs = le16(id_optional(ctrl, false));
	id->vwc = VWC_PRESENT;
}

static void id_ctrl_pci(const struct nvme_ctrl *ctrl, struct nvme_id_ctrl *id)
{
	const struct nvme_subsys *subsys = ctrl->subsys;
	uint64_t free_bytes =
		subsys->pool.total_bytes - MIN(subsys->pool.used_bytes, subsys->pool.total_bytes);

	id->cmic = CMIC_PORTS | CMIC_CTRLS | CMIC_ANA;
	id->mdts = NVME_MDTS;
	id->ver = le32(NVME_VS_1_4);
	id->oaes = le32(NVME_OAES);
	id->ctratt = le32(CTRATT_HOSTID_128);
	id->cntrltype = 1; /* I/O controller */
	id->acl = NVME_ABORT_MAX - 1;
	id->aerl = NVME_AER_MAX - 1;
	id->lpa = LPA_SMART_NS | LPA_EFFECTS | LPA_EXTENDED;
	id->elpe = NVME_ERROR_ENTRIES - 1;
	id->npss = NVME_POWER_STATE_COUNT - 1;
	id->wctemp = le16(NVME_WCTEMP_K);
	id->cctemp = le16(NVME_CCTEMP_K);
	id->tnvmcap[0] = le64(id_attached_bytes(subsys) + free_bytes);
	id->unvmcap[0] = le64(free_bytes);
	id->kas = le16(NVME_KAS_100MS);
	id->sanicap = le32(nvme_sanitize_cap(subsys));
	id->anatt = NVME_ANATT_S;
	id->anacap = ANACAP_ALL_STATES | ANACAP_GROUP_FIXED;
	id->anagrpmax = id->nanagrpid = le32(1);
	id->nn = id->mnan = le32(NVME_NSID_MAX);
	id->oncs = le16(le16_get(id->oncs) | ONCS_SAVE_SELECT | ONCS_TIMESTAMP);
	id->fuses = le16(id_offers(ctrl, false, NVME_IO_COMPARE));
	id->acwu = le16(NVME_ACWU);
	id->ocfs = le16(id_offers(ctrl, false, NVME_IO_COPY) ? OCFS_FORMAT_0 : 0);
	id->vwc |= VWC_FLUSH_ONE;
	id->nwpc = NWPC_WRITE_PROTECT | NWPC_POWER_CYCLE;
	id->sgls = le32(NVME_SGLS);
	memcpy(id->subnqn, subsys->nqn, strlen(subsys->nqn));
}

/* Version 1.0: a front-end that knows nothing newer, and asks namespaces 1 to NN. */
static void id_ctrl_vhost(const struct nvme_ctrl *ctrl, struct nvme_id_ctrl *id)
{
	const struct list *last = ctrl->subsys->namespaces.prev;

	id->mdts = NVME_VHOST_MDTS;
	id->ver = le32(NVME_VS_1_0);
	if (last != &ctrl->subsys->namespaces)
		id->nn = le32(list_entry(last, struct nvme_ns, node)->nsid);
}

static enum nvme_status id_ctrl(struct nvme_cmd *c, void *page)
{
	const struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);

	id_ctrl_common(ctrl, page);
	switch (ctrl->params.profile) {
	case NVME_PROFILE_PCI:
		id_ctrl_pci(ctrl, page);
		break;
	case NVME_PROFILE_VHOST:
		id_ctrl_vhost(ctrl, page);
		break;
	}
	return NVME_SC_SUCCESS;
}

/* ---- a namespace (CNS 00h, 11h) ---- */

/* Blocks as a number from 0; what does not fit is the most that does. */
static struct le16 id_blocks0(const struct nvme_ns *ns, uint64_t bytes)
{
	uint64_t blocks = MAX(bytes >> ns->block_shift, 1ull);

	return le16((uint16_t)(MIN(blocks, 65536ull) - 1));
}

static void id_ns_fill(const struct nvme_ns *ns, const struct nvme_ctrl *ctrl,
		       struct nvme_id_ns *id)
{
	const struct blk_caps *caps = ns->caps;
	uint64_t blocks = nvme_ns_blocks(ns);
	uint32_t discard_bytes = MAX(caps->discard_align_bytes, ns->block_bytes);

	id->nsze = id->ncap = le64(blocks);
	if (nvme_ana_status(ctrl) == NVME_SC_SUCCESS) /* base 8.20.3 */
		id->nuse = le64(blocks);
	id->lbaf[0].lbads = (uint8_t)ns->block_shift;
	if (ctrl->params.profile == NVME_PROFILE_VHOST)
		return;
	id->nsfeat = NSFEAT_ATOMIC | NSFEAT_OPTPERF;
	id->nacwu = le16(nvme_acwu(ns));
	id->nmic = ns->exclusive ? 0 : NMIC_SHARED;
	id->rescap = nvme_resv_cap(ns);
	id->fpi = nvme_format_progress(ns);
	id->dlfeat = nvme_deallocated_is_zero(caps) ? DLFEAT_ZEROES | DLFEAT_WZ_DEAC : 0;
	id->nvmcap[0] = le64(blocks << ns->block_shift);
	id->npwg = id->npwa = id_blocks0(ns, caps->phys_bytes);
	id->npdg = id->npda = id_blocks0(ns, discard_bytes);
	id->nows = id_blocks0(ns, MAX(caps->opt_io_bytes, caps->phys_bytes));
	id->mssrl = le16(nvme_mssrl(ns));
	id->mcl = le32(nvme_mcl(ns));
	id->msrc = NVME_COPY_RANGES_MAX - 1;
	id->anagrpid = le32(NVME_ANA_GROUP);
	id->nsattr = ns->read_only || ns->write_protect;
	memcpy(id->nguid, ns->nguid, sizeof(id->nguid));
	memcpy(id->eui64, ns->eui64, sizeof(id->eui64));
}

static bool id_nsid_valid(uint32_t nsid)
{
	return nsid && nsid <= NVME_NSID_MAX;
}

/* What all namespaces have in common, for who wants to create one. */
static void id_ns_common(struct nvme_id_ns *id)
{
	id->nmic = NMIC_SHARED;
	id->lbaf[0].lbads = 9;
}

static enum nvme_status id_ns(struct nvme_cmd *c, void *page)
{
	const struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	uint32_t nsid = le32_get(c->sqe.nsid);
	const struct nvme_att *att = nvme_att_find(ctrl, nsid);

	if (nsid == NVME_NSID_ALL && id_offers(ctrl, true, NVME_ADMIN_NS_MANAGEMENT)) {
		id_ns_common(page);
		return NVME_SC_SUCCESS;
	}
	if (!id_nsid_valid(nsid))
		return NVME_SC_INVALID_NS;
	if (att)
		id_ns_fill(att->ns, ctrl, page);
	return NVME_SC_SUCCESS; /* inactive: all zero */
}

static enum nvme_status id_allocated_ns(struct nvme_cmd *c, void *page)
{
	const struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	uint32_t nsid = le32_get(c->sqe.nsid);
	const struct nvme_ns *ns = nvme_ns_find(ctrl->subsys, nsid);

	if (!id_nsid_valid(nsid))
		return NVME_SC_INVALID_NS;
	if (ns)
		id_ns_fill(ns, ctrl, page);
	return NVME_SC_SUCCESS;
}

/* base 5.15.2.3 */
static uint8_t *id_desc(uint8_t *at, uint8_t type, const uint8_t *name, uint8_t len)
{
	static const uint8_t none[16];

	if (!memcmp(name, none, len))
		return at;
	at[0] = type;
	at[1] = len;
	memcpy(at + 4, name, len);
	return at + 4 + len;
}

static enum nvme_status id_ns_desc(struct nvme_cmd *c, void *page)
{
	const struct nvme_att *att = nvme_att_find(nvme_cmd_ctrl(c), le32_get(c->sqe.nsid));
	uint8_t *at = page;

	if (!att)
		return NVME_SC_INVALID_NS;
	at = id_desc(at, 1, att->ns->eui64, sizeof(att->ns->eui64));
	at = id_desc(at, 2, att->ns->nguid, sizeof(att->ns->nguid));
	id_desc(at, 3, att->ns->uuid, sizeof(att->ns->uuid));
	return NVME_SC_SUCCESS;
}

/*
 * What later versions ask for an I/O command set (CSI): that of NVM has nothing to add here, all
 * fields are "no limit" and "not supported".
 */
static bool id_csi_is_nvm(const struct nvme_cmd *c)
{
	return nvme_cdw11(c) >> 24 == 0;
}

static enum nvme_status id_csi_ns(struct nvme_cmd *c, void *page)
{
	if (!id_csi_is_nvm(c))
		return NVME_SC_INVALID_FIELD;
	return id_nsid_valid(le32_get(c->sqe.nsid)) ? NVME_SC_SUCCESS : NVME_SC_INVALID_NS;
}

static enum nvme_status id_csi_ctrl(struct nvme_cmd *c, void *page)
{
	return id_csi_is_nvm(c) ? NVME_SC_SUCCESS : NVME_SC_INVALID_FIELD;
}

/* ---- lists ---- */

static enum nvme_status id_ns_list(struct nvme_cmd *c, struct le32 *list, bool attached)
{
	const struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	uint32_t above = le32_get(c->sqe.nsid), count = 0;
	const struct nvme_ns *ns;

	if (above >= CNS_NSID_RESERVED)
		return NVME_SC_INVALID_NS;
	list_for_each(ns, &ctrl->subsys->namespaces, node) {
		if (ns->nsid <= above || (attached && !nvme_att_find(ctrl, ns->nsid)))
			continue;
		if (count == ID_LIST_MAX)
			break;
		list[count++] = le32(ns->nsid);
	}
	return NVME_SC_SUCCESS;
}

static enum nvme_status id_active_ns(struct nvme_cmd *c, void *page)
{
	return id_ns_list(c, page, true);
}

static enum nvme_status id_allocated_ns_list(struct nvme_cmd *c, void *page)
{
	return id_ns_list(c, page, false);
}

/* base 4.9: a count and identifiers in ascending order. ns NULL: of the subsystem. */
static void id_ctrl_list(const struct nvme_cmd *c, struct le16 *list, uint32_t nsid)
{
	const struct nvme_subsys *subsys = nvme_cmd_ctrl(c)->subsys;
	uint16_t from = (uint16_t)(nvme_cdw10(c) >> 16), count = 0;
	const struct nvme_ctrl *ctrl;
	uint64_t found = 0;

	_Static_assert(NVME_CTRLS_MAX <= ID_CTRL_LIST_MAX, "a list has room for all");
	list_for_each(ctrl, &subsys->ctrls, node)
		if (ctrl->cntlid >= from && (!nsid || nvme_att_find(ctrl, nsid)))
			found |= 1ull << (ctrl->cntlid - 1);
	for (uint16_t bit = 0; bit < NVME_CTRLS_MAX; bit++)
		if (found & 1ull << bit)
			list[++count] = le16((uint16_t)(bit + 1));
	list[0] = le16(count);
}

static enum nvme_status id_ns_ctrls(struct nvme_cmd *c, void *page)
{
	uint32_t nsid = le32_get(c->sqe.nsid);

	if (nsid == NVME_NSID_ALL)
		return NVME_SC_INVALID_FIELD;
	if (!id_nsid_valid(nsid))
		return NVME_SC_INVALID_NS;
	id_ctrl_list(c, page, nsid);
	return NVME_SC_SUCCESS;
}

static enum nvme_status id_ctrls(struct nvme_cmd *c, void *page)
{
	id_ctrl_list(c, page, 0);
	return NVME_SC_SUCCESS;
}

/*
 * Not among them: NVM sets (04h), primary and secondary controllers (14h, 15h), granularities
 * (16h) and UUIDs (17h) are of capabilities that are not told.
 */
static const struct {
	uint8_t cns;
	enum nvme_status (*build)(struct nvme_cmd *c, void *page); /* page: zeroes */
} id_rows[] = {
	{ NVME_CNS_NS, id_ns },
	{ NVME_CNS_CTRL, id_ctrl },
	{ NVME_CNS_ACTIVE_NS, id_active_ns },
	{ NVME_CNS_NS_DESC, id_ns_desc },
	{ NVME_CNS_CSI_NS, id_csi_ns },
	{ NVME_CNS_CSI_CTRL, id_csi_ctrl },
	{ NVME_CNS_ALLOCATED_NS_LIST, id_allocated_ns_list },
	{ NVME_CNS_ALLOCATED_NS, id_allocated_ns },
	{ NVME_CNS_NS_CTRLS, id_ns_ctrls },
	{ NVME_CNS_CTRLS, id_ctrls },
};

void nvme_identify(struct nvme_cmd *c)
{
	uint8_t page[NVME_IDENTIFY_BYTES] __attribute__((aligned(8))) = { 0 };
	enum nvme_status status = NVME_SC_INVALID_FIELD;

	for (size_t i = 0; i < ARRAY_SIZE(id_rows); i++)
		if (id_rows[i].cns == (nvme_cdw10(c) & 0xff))
			status = id_rows[i].build(c, page);
	if (status != NVME_SC_SUCCESS)
		nvme_cmd_end(c, status);
	else
		nvme_cmd_reply(c, page, sizeof(page), sizeof(page));
}
