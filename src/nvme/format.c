/*
 * Format NVM (base 5.23). There is one LBA format; what a format does is to erase.
 *
 *   check -> not ready, gates -> for each namespace: wait for its commands -> erase -> ready
 *
 * The command ends when all is done. Its namespaces are pinned; one that is removed meanwhile, and
 * an abort of the command, stop it at the next step.
 */
#include <stdlib.h>

#include "nvme/erase.h"
#include "nvme/nvme_impl.h"

#define FORMAT_LBAF(cdw10)  ((cdw10)&0xf)
#define FORMAT_PI(cdw10)    (((cdw10) >> 5) & 7)
#define FORMAT_SES(cdw10)   (((cdw10) >> 9) & 7)
#define FORMAT_LBAFU(cdw10) (((cdw10) >> 12) & 3)

#define SES_NONE      0
#define SES_USER_DATA 1

#define FPI_OFFERED 0x80

/* In the command's scratch memory. */
struct format {
	struct nvme_cmd *c;
	struct nvme_sweep sweep;
	struct nvme_erase erase;
	enum nvme_status status;
	uint32_t at, count;
	struct nvme_ns *ns[]; /* pinned */
};

uint8_t nvme_format_progress(const struct nvme_ns *ns)
{
	const struct nvme_formatting *f = &ns->formatting;
	uint64_t left = f->total_bytes - f->done_bytes;

	if (!atomic_load(&ns->not_ready) || !f->total_bytes)
		return FPI_OFFERED;
	return (uint8_t)(FPI_OFFERED | MIN(left / (f->total_bytes / 100 + 1), (uint64_t)100));
}

void nvme_subsys_work_visit(const struct nvme_subsys *subsys,
			    void (*fn)(uint32_t nsid, const char *kind, uint64_t done_bytes,
				       uint64_t total_bytes, void *arg),
			    void *arg)
{
	const struct nvme_ns *ns;
	uint64_t done_bytes, total_bytes;

	if (nvme_sanitize_progress(subsys, &done_bytes, &total_bytes))
		fn(0, "sanitize", done_bytes, total_bytes, arg);
	list_for_each(ns, &subsys->namespaces, node)
		if (ns->formatting.total_bytes)
			fn(ns->nsid, "format", ns->formatting.done_bytes,
			   ns->formatting.total_bytes, arg);
}

/* ---- one namespace after the other ---- */

static void format_next(struct format *f);

static void format_tell(struct nvme_ns *ns, const struct nvme_ctrl *by)
{
	struct nvme_att *att;

	list_for_each(att, &ns->atts, node)
		if (att->ctrl != by)
			nvme_log_ns_changed(att->ctrl, ns->nsid);
}

static void format_ns_end(struct format *f, bool tell)
{
	struct nvme_ns *ns = f->ns[f->at++];

	atomic_store(&ns->not_ready, false);
	ns->formatting = (struct nvme_formatting){ 0 };
	nvme_gates_update(ns);
	if (tell)
		format_tell(ns, nvme_cmd_ctrl(f->c));
	nvme_ns_unpin(ns);
}

static void format_saved(void *arg, bool ok)
{
	struct format *f = arg;

	if (!ok)
		f->status = NVME_SC_INTERNAL_ERROR;
	format_ns_end(f, true);
	format_next(f);
}

static void format_erased(struct nvme_erase *e, enum blk_status status)
{
	struct format *f = container_of(e, struct format, erase);

	if (status == BLK_ST_OK) {
		nvme_uncor_clear_all(&e->ns->uncor);
		nvme_ns_state_save(e->ns, format_saved, f);
		return;
	}
	if (f->status == NVME_SC_SUCCESS)
		f->status = nvme_blk_status(&e->req, status);
	format_ns_end(f, true);
	format_next(f);
}

static void format_stepped(struct nvme_erase *e)
{
	struct format *f = container_of(e, struct format, erase);
	struct nvme_formatting *progress = &e->ns->formatting;

	progress->done_bytes = e->pass * e->total_bytes + e->done_bytes;
	progress->total_bytes = e->pass_count * e->total_bytes;
	e->stop = f->c->abort || e->ns->removing;
}

/* No command of the medium is under way on it any more. */
static void format_swept(struct nvme_sweep *s)
{
	struct format *f = container_of(s, struct format, sweep);
	struct nvme_ns *ns = f->ns[f->at];

	f->erase = (struct nvme_erase){ .stepped = format_stepped, .done = format_erased };
	nvme_erase_user_data(&f->erase, ns);
	if (FORMAT_SES(nvme_cdw10(f->c)) == SES_NONE) {
		f->erase.pass_op[0] = BLK_DISCARD;
		f->erase.pass_count = ns->caps->discard;
	}
	nvme_erase_start(&f->erase);
}

/* One that fails ends it: those behind it are as they were. */
static void format_next(struct format *f)
{
	if (f->at < f->count && f->status == NVME_SC_SUCCESS && !f->c->abort) {
		f->sweep = (struct nvme_sweep){
			.action = NVME_SWEEP_WAIT,
			.subsys = f->ns[f->at]->subsys,
			.ns = f->ns[f->at],
			.row_flags = CMD_MEDIUM,
			.but = f->c,
			.done = format_swept,
		};
		if (nvme_sweep_start(&f->sweep) == 0)
			return;
		f->status = NVME_SC_INTERNAL_ERROR;
	}
	while (f->at < f->count)
		format_ns_end(f, false);
	nvme_cmd_end(f->c, f->status);
}

/* ---- the command ---- */

static enum nvme_status format_cdw10_check(uint32_t cdw10)
{
	if (FORMAT_LBAF(cdw10) || FORMAT_LBAFU(cdw10) || FORMAT_PI(cdw10))
		return NVME_SC_INVALID_FORMAT;
	if (FORMAT_SES(cdw10) > SES_USER_DATA)
		return NVME_SC_INVALID_FIELD;
	return NVME_SC_SUCCESS;
}

static enum nvme_status format_ns_check(const struct nvme_ns *ns, const struct nvme_ctrl *ctrl)
{
	enum nvme_status status = nvme_medium_status(ns);

	if (status != NVME_SC_SUCCESS)
		return status;
	if (nvme_resv_gate(ns, ctrl) & CMD_RESV_WRITE)
		return NVME_SC_RESERVATION_CONFLICT;
	if (ns->read_only || ns->write_protect)
		return NVME_SC_NS_WRITE_PROTECTED;
	return NVME_SC_SUCCESS;
}

/* Is it one of those that the command is for? */
static bool format_names(const struct nvme_cmd *c, const struct nvme_ns *ns)
{
	return (c->nsid == NVME_NSID_ALL || c->nsid == ns->nsid) &&
	       nvme_att_find(nvme_cmd_ctrl(c), ns->nsid);
}

static enum nvme_status format_check(const struct nvme_cmd *c, uint32_t *ret_count)
{
	const struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	enum nvme_status status = format_cdw10_check(nvme_cdw10(c));
	const struct nvme_ns *ns;

	*ret_count = 0;
	if (status != NVME_SC_SUCCESS)
		return status;
	if (c->nsid != NVME_NSID_ALL && !nvme_ns_find(ctrl->subsys, c->nsid))
		return NVME_SC_INVALID_NS;
	status = nvme_ana_status(ctrl);
	list_for_each(ns, &ctrl->subsys->namespaces, node) {
		if (status != NVME_SC_SUCCESS)
			return status;
		if (!format_names(c, ns))
			continue;
		++*ret_count;
		status = format_ns_check(ns, ctrl);
	}
	if (status == NVME_SC_SUCCESS && !*ret_count)
		return NVME_SC_INVALID_FIELD; /* base 6.1.5: not active here */
	return status;
}

void nvme_format(struct nvme_cmd *c)
{
	enum nvme_status status;
	struct format *f;
	struct nvme_ns *ns;
	uint32_t count;

	status = format_check(c, &count);
	if (status != NVME_SC_SUCCESS) {
		nvme_cmd_end(c, status);
		return;
	}
	if (!nvme_cmd_scratch(c, sizeof(*f) + count * sizeof(f->ns[0])))
		return;
	f = (struct format *)c->buf;
	f->c = c;
	list_for_each(ns, &nvme_cmd_ctrl(c)->subsys->namespaces, node) {
		if (!format_names(c, ns))
			continue;
		nvme_ns_pin(ns);
		atomic_store(&ns->not_ready, true);
		/* all of it is left, until the first step has ended */
		ns->formatting.total_bytes = nvme_ns_blocks(ns) << ns->block_shift;
		nvme_gates_update(ns);
		f->ns[f->count++] = ns;
	}
	format_next(f);
}
