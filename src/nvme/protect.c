/* See protect.h. */
#include "nvme/protect.h"

#include <stdlib.h>
#include <string.h>

#include "nvme/nvme_impl.h"

#define PROTECT_LINE "write-protect 1"

#define VAR_PENDING 0
#define VAR_STATUS  1

/* One namespace on its way to another state; pinned. */
struct protecting {
	struct nvme_sweep sweep;
	struct nvme_cmd *c;
	struct nvme_ns *ns;
	struct blk_chan *chan;
	struct blk_req req;
};

static void protect_put(struct nvme_cmd *c)
{
	if (!--c->vars[VAR_PENDING])
		nvme_cmd_end(c, (enum nvme_status)c->vars[VAR_STATUS]);
}

static void protecting_end(struct protecting *p, enum nvme_status status)
{
	struct nvme_cmd *c = p->c;

	if (c->vars[VAR_STATUS] == NVME_SC_SUCCESS)
		c->vars[VAR_STATUS] = status;
	nvme_ns_unpin(p->ns);
	free(p);
	protect_put(c);
}

static void protecting_saved(void *arg, bool ok)
{
	protecting_end(arg, ok ? NVME_SC_SUCCESS : NVME_SC_INTERNAL_ERROR);
}

static void protecting_flushed(struct blk_req *req)
{
	struct protecting *p = container_of(req, struct protecting, req);

	blk_chan_close(p->chan);
	if (req->status == BLK_ST_OK)
		nvme_ns_state_save(p->ns, protecting_saved, p);
	else
		protecting_end(p, nvme_blk_status(req, (enum blk_status)req->status));
}

static void protecting_swept(struct nvme_sweep *s)
{
	struct protecting *p = container_of(s, struct protecting, sweep);
	struct loop *loop = nvme_cmd_ctrl(p->c)->params.main_loop;
	struct err err;

	if (blk_chan_open(p->ns->dev, loop, &p->chan, &err) < 0) {
		protecting_end(p, NVME_SC_INTERNAL_ERROR);
		return;
	}
	p->req.op = BLK_FLUSH;
	p->req.done = protecting_flushed;
	blk_submit(p->chan, &p->req);
}

static void protecting_start(struct nvme_cmd *c, struct nvme_ns *ns, uint8_t state)
{
	struct protecting *p = calloc(1, sizeof(*p));

	if (!p) {
		c->vars[VAR_STATUS] = NVME_SC_INTERNAL_ERROR;
		return;
	}
	p->c = c;
	p->ns = ns;
	p->sweep.action = NVME_SWEEP_WAIT;
	p->sweep.subsys = ns->subsys;
	p->sweep.ns = ns;
	p->sweep.row_flags = CMD_WRITES;
	p->sweep.done = protecting_swept;
	c->vars[VAR_PENDING]++;
	nvme_ns_pin(ns);
	ns->write_protect = state;
	nvme_gates_update(ns);
	nvme_ns_changed(ns);
	if (state == NVME_WP_NONE)
		nvme_ns_state_save(ns, protecting_saved, p);
	else if (nvme_sweep_start(&p->sweep) < 0)
		protecting_end(p, NVME_SC_INTERNAL_ERROR);
}

/* Is it one of those that the command is for? */
static bool protect_names(const struct nvme_cmd *c, const struct nvme_ns *ns)
{
	uint32_t nsid = le32_get(c->sqe.nsid);

	return (nsid == NVME_NSID_ALL || nsid == ns->nsid) &&
	       nvme_att_find(nvme_cmd_ctrl(c), ns->nsid);
}

static enum nvme_status protect_check(const struct nvme_cmd *c, uint32_t state)
{
	const struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	uint32_t nsid = le32_get(c->sqe.nsid);
	const struct nvme_ns *ns;

	if (nsid != NVME_NSID_ALL && !nvme_att_find(ctrl, nsid))
		return NVME_SC_INVALID_NS;
	if (state > NVME_WP_UNTIL_POWER_CYCLE)
		return NVME_SC_INVALID_FIELD;
	list_for_each(ns, &ctrl->subsys->namespaces, node) {
		if (!protect_names(c, ns) || ns->write_protect == state)
			continue;
		if (ns->write_protect == NVME_WP_UNTIL_POWER_CYCLE ||
		    (state == NVME_WP_PROTECTED && !ns->state_path))
			return NVME_SC_FEATURE_NOT_CHANGEABLE;
	}
	return nvme_ana_status(ctrl);
}

void nvme_protect_set(struct nvme_cmd *c)
{
	uint32_t state = nvme_cdw11(c) & 0x7;
	enum nvme_status status = protect_check(c, state);
	struct nvme_ns *ns;

	if (status != NVME_SC_SUCCESS) {
		nvme_cmd_end(c, status);
		return;
	}
	c->vars[VAR_PENDING] = 1;
	c->vars[VAR_STATUS] = NVME_SC_SUCCESS;
	list_for_each(ns, &nvme_cmd_ctrl(c)->subsys->namespaces, node)
		if (protect_names(c, ns) && ns->write_protect != state)
			protecting_start(c, ns, (uint8_t)state);
	protect_put(c);
}

void nvme_protect_state_write(const struct nvme_ns *ns, FILE *to)
{
	if (ns->write_protect == NVME_WP_PROTECTED)
		fputs(PROTECT_LINE "\n", to);
}

const char *nvme_protect_state_read(struct nvme_ns *ns, const char *line, bool *ret_mine)
{
	static const char key[] = "write-protect ";

	*ret_mine = !strncmp(line, key, sizeof(key) - 1);
	if (!*ret_mine)
		return NULL;
	if (strcmp(line, PROTECT_LINE) != 0)
		return "expected '" PROTECT_LINE "'";
	ns->write_protect = NVME_WP_PROTECTED;
	return NULL;
}
