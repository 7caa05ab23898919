/*
 * Namespaces: adding, attaching and removing them while guests run.
 *
 * An attachment is found by loops, under ctrl->lock, once for each namespace and completion queue;
 * they keep what they found. So one that goes is taken out of ctrl->atts first, and freed when a
 * sweep over the queues has dropped it everywhere.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nvme/names.h"
#include "nvme/nvme_impl.h"

struct nvme_ns *nvme_ns_find(const struct nvme_subsys *subsys, uint32_t nsid)
{
	struct nvme_ns *ns;

	list_for_each(ns, &subsys->namespaces, node)
		if (ns->nsid == nsid)
			return ns;
	return NULL;
}

struct nvme_att *nvme_att_find(const struct nvme_ctrl *ctrl, uint32_t nsid)
{
	return nsid && nsid <= NVME_NSID_MAX ? ctrl->atts[nsid] : NULL;
}

uint32_t nvme_ns_nsid(const struct nvme_ns *ns)
{
	return ns->nsid;
}

/* ---- gates ---- */

static uint32_t ns_gate(struct nvme_ns *ns, const struct nvme_ctrl *ctrl)
{
	uint32_t gate = nvme_resv_gate(ns, ctrl);

	if (nvme_medium_status(ns) != NVME_SC_SUCCESS)
		gate |= CMD_MEDIUM;
	if (ns->read_only || ns->write_protect)
		gate |= CMD_WRITES;
	if (nvme_uncor_any(&ns->uncor))
		gate |= CMD_WRITES | GATE_UNCOR;
	if (nvme_ana_status(ctrl) != NVME_SC_SUCCESS)
		gate |= GATE_ANA;
	return gate;
}

static void att_gate_update(struct nvme_att *att)
{
	atomic_store_explicit(&att->gate, ns_gate(att->ns, att->ctrl), memory_order_release);
}

void nvme_gates_update(struct nvme_ns *ns)
{
	struct nvme_att *att;

	list_for_each(att, &ns->atts, node)
		att_gate_update(att);
}

/* ---- attachments ---- */

struct nvme_att *nvme_att_new(struct nvme_ns *ns, struct nvme_ctrl *ctrl)
{
	struct nvme_att *att = calloc(1, sizeof(*att));

	if (!att)
		return NULL;
	att->ns = ns;
	att->ctrl = ctrl;
	list_append(&ns->atts, &att->node);
	att_gate_update(att);
	return att;
}

static void att_publish(struct nvme_ctrl *ctrl, uint32_t nsid, struct nvme_att *att)
{
	pthread_mutex_lock(&ctrl->lock);
	ctrl->atts[nsid] = att;
	pthread_mutex_unlock(&ctrl->lock);
	nvme_log_ns_changed(ctrl, nsid);
}

int nvme_ns_attach(struct nvme_ns *ns, struct nvme_ctrl *ctrl)
{
	struct nvme_att *att;

	if (nvme_att_find(ctrl, ns->nsid))
		return -EEXIST;
	att = nvme_att_new(ns, ctrl);
	if (!att)
		return -ENOMEM;
	ns->detached &= ~(1ull << (ctrl->cntlid - 1));
	att_publish(ctrl, ns->nsid, att);
	return 0;
}

struct ns_closing {
	struct nvme_sweep sweep;
	struct nvme_ns *ns;
	struct list atts; /* what nobody finds any more */
	void (*done)(void *arg);
	void *arg;
};

static struct ns_closing *ns_closing_new(struct nvme_ns *ns, void (*done)(void *arg), void *arg,
					 void (*swept)(struct nvme_sweep *s))
{
	struct ns_closing *closing = calloc(1, sizeof(*closing));

	if (!closing)
		return NULL;
	closing->ns = ns;
	closing->done = done;
	closing->arg = arg;
	closing->sweep.action = NVME_SWEEP_DROP;
	closing->sweep.subsys = ns->subsys;
	closing->sweep.ns = ns;
	closing->sweep.done = swept;
	list_init(&closing->atts);
	return closing;
}

static void ns_closing_take(struct ns_closing *closing, struct nvme_att *att)
{
	list_remove(&att->node);
	list_append(&closing->atts, &att->node);
	att_publish(att->ctrl, closing->ns->nsid, NULL);
}

static void ns_closing_free(struct ns_closing *closing)
{
	struct list *node;

	while ((node = list_pop(&closing->atts)))
		free(list_entry(node, struct nvme_att, node));
	free(closing);
}

static void ns_detached(struct nvme_sweep *s)
{
	struct ns_closing *closing = container_of(s, struct ns_closing, sweep);
	void (*done)(void *arg) = closing->done;
	void *arg = closing->arg;

	ns_closing_free(closing);
	done(arg);
}

int nvme_ns_detach(struct nvme_ns *ns, struct nvme_ctrl *ctrl, void (*done)(void *arg), void *arg)
{
	struct nvme_att *att = nvme_att_find(ctrl, ns->nsid);
	struct ns_closing *closing;

	if (!att)
		return -ENOENT;
	closing = ns_closing_new(ns, done, arg, ns_detached);
	if (!closing)
		return -ENOMEM;
	closing->sweep.ctrl = ctrl;
	ns->detached |= 1ull << (ctrl->cntlid - 1);
	ns_closing_take(closing, att);
	ASSERT(nvme_sweep_start(&closing->sweep) == 0);
	return 0;
}

/* ---- life ---- */

void nvme_ns_changed(struct nvme_ns *ns)
{
	struct nvme_att *att;

	list_for_each(att, &ns->atts, node)
		nvme_log_ns_changed(att->ctrl, ns->nsid);
}

static void ns_on_resized(struct blk_listener *l)
{
	nvme_ns_changed(container_of(l, struct nvme_ns, listener));
}

static void ns_free(struct nvme_ns *ns)
{
	struct list *node;

	while ((node = list_pop(&ns->atts)))
		free(list_entry(node, struct nvme_att, node));
	nvme_resv_fini(ns);
	nvme_uncor_fini(&ns->uncor);
	pthread_mutex_destroy(&ns->lock);
	blk_dev_unlisten(&ns->listener);
	blk_dev_unref(ns->dev);
	free(ns->state_path);
	free(ns);
}

static void ns_names(struct nvme_ns *ns, const struct nvme_ns_params *p)
{
	if (p->uuid)
		memcpy(ns->uuid, p->uuid, sizeof(ns->uuid));
	else
		nvme_uuid_make(ns->uuid, p->identity);
	if (p->nguid)
		memcpy(ns->nguid, p->nguid, sizeof(ns->nguid));
	else
		nvme_nguid_make(ns->nguid, p->identity);
	if (p->eui64)
		memcpy(ns->eui64, p->eui64, sizeof(ns->eui64));
}

static struct nvme_ns *ns_alloc(struct nvme_subsys *subsys, const struct nvme_ns_params *p)
{
	struct nvme_ns *ns = calloc(1, sizeof(*ns));

	if (!ns)
		return NULL;
	ns->state_path = p->state_path ? strdup(p->state_path) : NULL;
	if (p->state_path && !ns->state_path) {
		free(ns);
		return NULL;
	}
	ns->subsys = subsys;
	ns->nsid = p->nsid;
	ns->dev = blk_dev_ref(p->dev);
	ns->caps = blk_dev_caps(p->dev);
	ns->block_bytes = ns->caps->block_bytes;
	ns->block_shift = (uint32_t)__builtin_ctz(ns->block_bytes);
	ns->read_only = p->read_only || ns->caps->read_only;
	ns_names(ns, p);
	list_init(&ns->node);
	list_init(&ns->atts);
	list_init(&ns->turn_waiters);
	nvme_resv_init(ns);
	pthread_mutex_init(&ns->lock, NULL);
	nvme_uncor_init(&ns->uncor);
	ns->listener.resized = ns_on_resized;
	blk_dev_listen(ns->dev, &ns->listener);
	return ns;
}

/* All attachments are made before the first one is shown: a failure undoes them unseen. */
static int ns_atts_make(struct nvme_ns *ns)
{
	struct nvme_ctrl *ctrl;
	struct nvme_att *att;

	list_for_each(ctrl, &ns->subsys->ctrls, node)
		if (!(ns->detached & 1ull << (ctrl->cntlid - 1)) && !nvme_att_new(ns, ctrl))
			return -ENOMEM;
	list_for_each(att, &ns->atts, node)
		att_publish(att->ctrl, ns->nsid, att);
	return 0;
}

static void ns_insert(struct nvme_subsys *subsys, struct nvme_ns *ns)
{
	struct nvme_ns *behind;

	list_for_each(behind, &subsys->namespaces, node)
		if (behind->nsid > ns->nsid)
			break;
	list_append(&behind->node, &ns->node);
}

int nvme_ns_new(struct nvme_subsys *subsys, const struct nvme_ns_params *params, uint64_t detached,
		struct nvme_ns **ret_ns, struct err *reterr)
{
	struct nvme_ns *ns;
	int rc;

	if (!params->nsid || params->nsid > NVME_NSID_MAX)
		return err_set(reterr, -ERANGE, "namespace: expected 1 to %d, got %u",
			       NVME_NSID_MAX, params->nsid);
	if (nvme_ns_find(subsys, params->nsid))
		return err_set(reterr, -EEXIST, "namespace %u is there already", params->nsid);
	ns = ns_alloc(subsys, params);
	if (!ns)
		return err_set(reterr, -ENOMEM, "out of memory");
	ns->detached = detached;
	rc = nvme_ns_state_load(ns, reterr);
	if (rc == 0 && ns_atts_make(ns) < 0)
		rc = err_set(reterr, -ENOMEM, "out of memory");
	if (rc < 0) {
		ns_free(ns);
		return rc;
	}
	ns_insert(subsys, ns);
	nvme_sanitize_resume(subsys, loop_current());
	*ret_ns = ns;
	return 0;
}

int nvme_ns_add(struct nvme_subsys *subsys, const struct nvme_ns_params *params,
		struct nvme_ns **ret_ns, struct err *reterr)
{
	return nvme_ns_new(subsys, params, 0, ret_ns, reterr);
}

static void ns_unpinned(struct nvme_ns *ns)
{
	struct ns_closing *closing = ns->closing;
	struct nvme_subsys *subsys = closing->ns->subsys;
	void (*removed)(void *arg) = closing->done;
	void *arg = closing->arg;

	ns_free(closing->ns);
	ns_closing_free(closing);
	removed(arg);
	nvme_subsys_unref(subsys);
}

static void ns_removed(struct nvme_sweep *s)
{
	struct ns_closing *closing = container_of(s, struct ns_closing, sweep);
	struct nvme_ns *ns = closing->ns;

	ns->closing = closing;
	if (ns->pins)
		ns->unpinned = ns_unpinned;
	else
		ns_unpinned(ns);
}

void nvme_ns_remove(struct nvme_ns *ns, void (*removed)(void *arg), void *arg)
{
	struct ns_closing *closing = ns_closing_new(ns, removed, arg, ns_removed);
	struct nvme_att *att, *next;

	ASSERT(closing);
	nvme_subsys_ref(ns->subsys);
	ns->removing = true;
	list_remove(&ns->node);
	list_for_each_safe(att, next, &ns->atts, node)
		ns_closing_take(closing, att);
	ASSERT(nvme_sweep_start(&closing->sweep) == 0);
}
