/* Registrants, the reservation, the gates that follow from them, and notifications: see resv.h. */
#include <stdlib.h>
#include <string.h>

#include "nvme/nvme_impl.h"

/* ---- types (base 8.8, figure of reservation types) ---- */

bool nvme_resv_type_all(enum nvme_resv_type type)
{
	return type >= NVME_RESV_WRITE_EXCLUSIVE_ALL;
}

bool nvme_resv_type_shared(enum nvme_resv_type type)
{
	return type >= NVME_RESV_WRITE_EXCLUSIVE_REG;
}

/* What it stops for those who may not pass (base 8.8, command behavior). */
static uint32_t resv_type_gate(enum nvme_resv_type type)
{
	bool exclusive = type == NVME_RESV_EXCLUSIVE_ACCESS ||
			 type == NVME_RESV_EXCLUSIVE_ACCESS_REG ||
			 type == NVME_RESV_EXCLUSIVE_ACCESS_ALL;

	return exclusive ? CMD_RESV_READ | CMD_RESV_WRITE : CMD_RESV_WRITE;
}

uint8_t nvme_resv_cap(const struct nvme_ns *ns)
{
	return NVME_RESCAP | (ns->state_path ? NVME_RESCAP_PTPL : 0);
}

uint32_t nvme_resv_gate(const struct nvme_ns *ns, const struct nvme_ctrl *ctrl)
{
	const struct nvme_registrant *reg = nvme_resv_find(ns, ctrl);
	enum nvme_resv_type type = ns->resv.type;
	bool passes = nvme_resv_type_shared(type) ? reg != NULL : nvme_resv_holds(ns, reg);

	return type == NVME_RESV_NONE || passes ? 0 : resv_type_gate(type);
}

/* ---- registrants ---- */

static bool host_id_is_set(const struct nvme_ctrl *ctrl)
{
	static const uint8_t none[16];

	return memcmp(ctrl->features.host_id, none, sizeof(none)) != 0;
}

bool nvme_resv_is_of(const struct nvme_registrant *reg, const struct nvme_ctrl *ctrl)
{
	if (!host_id_is_set(ctrl))
		return reg->ctrl == ctrl;
	return !reg->ctrl && reg->extended == ctrl->features.host_id_extended &&
	       !memcmp(reg->host_id, ctrl->features.host_id, sizeof(reg->host_id));
}

struct nvme_registrant *nvme_resv_find(const struct nvme_ns *ns, const struct nvme_ctrl *ctrl)
{
	struct nvme_registrant *reg;

	list_for_each(reg, &ns->resv.registrants, node)
		if (nvme_resv_is_of(reg, ctrl))
			return reg;
	return NULL;
}

bool nvme_resv_holds(const struct nvme_ns *ns, const struct nvme_registrant *reg)
{
	if (!reg || ns->resv.type == NVME_RESV_NONE)
		return false;
	return nvme_resv_type_all(ns->resv.type) || ns->resv.holder == reg;
}

struct nvme_registrant *nvme_resv_add(struct nvme_ns *ns, uint64_t key)
{
	struct nvme_registrant *reg = calloc(1, sizeof(*reg));

	if (!reg)
		return NULL;
	reg->key = key;
	list_append(&ns->resv.registrants, &reg->node);
	ns->resv.registrant_count++;
	return reg;
}

void nvme_resv_take(struct nvme_ns *ns, enum nvme_resv_type type, struct nvme_registrant *holder)
{
	ns->resv.type = type;
	ns->resv.holder = nvme_resv_type_all(type) ? NULL : holder;
}

void nvme_resv_drop(struct nvme_ns *ns)
{
	ns->resv.type = NVME_RESV_NONE;
	ns->resv.holder = NULL;
}

void nvme_resv_remove(struct nvme_ns *ns, struct nvme_registrant *reg)
{
	struct nvme_resv *resv = &ns->resv;

	list_remove(&reg->node);
	resv->registrant_count--;
	if (resv->holder == reg || !resv->registrant_count)
		nvme_resv_drop(ns);
	free(reg);
}

void nvme_resv_init(struct nvme_ns *ns)
{
	list_init(&ns->resv.registrants);
}

void nvme_resv_fini(struct nvme_ns *ns)
{
	struct nvme_registrant *reg, *next;

	list_for_each_safe(reg, next, &ns->resv.registrants, node)
		nvme_resv_remove(ns, reg);
}

/* ---- a controller's host changes ---- */

/* As if it had unregistered (base 8.8.5). */
static void resv_forget(struct nvme_ns *ns, struct nvme_registrant *reg,
			const struct nvme_ctrl *ctrl)
{
	enum nvme_resv_type type = ns->resv.type;
	bool held = ns->resv.holder == reg;

	nvme_resv_remove(ns, reg);
	if (held && nvme_resv_type_shared(type))
		nvme_resv_notify(ns, NULL, ctrl, NVME_RESV_RELEASED);
}

void nvme_resv_host_changed(struct nvme_ctrl *ctrl)
{
	struct nvme_registrant *reg, *next;
	struct nvme_ns *ns;

	list_for_each(ns, &ctrl->subsys->namespaces, node) {
		list_for_each_safe(reg, next, &ns->resv.registrants, node)
			if (reg->ctrl == ctrl)
				resv_forget(ns, reg, ctrl);
		nvme_gates_update(ns);
	}
}

void nvme_resv_came(struct nvme_ctrl *ctrl)
{
	struct nvme_registrant *reg;
	struct nvme_ns *ns;

	list_for_each(ns, &ctrl->subsys->namespaces, node) {
		list_for_each(reg, &ns->resv.registrants, node) {
			if (reg->cntlid != ctrl->cntlid)
				continue;
			reg->ctrl = ctrl;
			reg->cntlid = 0;
		}
		nvme_gates_update(ns);
	}
}

void nvme_resv_reset(struct nvme_ctrl *ctrl)
{
	struct nvme_att *att;
	struct nvme_ns *ns;

	list_for_each(ns, &ctrl->subsys->namespaces, node) {
		att = nvme_att_find(ctrl, ns->nsid);
		if (att)
			att->resv_mask = 0;
	}
	ctrl->resv_log = (struct nvme_resv_log){ 0 };
	nvme_resv_host_changed(ctrl);
}

/* ---- notifications ---- */

static void log_add(struct nvme_resv_log *log, uint32_t nsid, enum nvme_resv_event event)
{
	uint32_t at;

	log->count += log->count == UINT64_MAX ? 2 : 1; /* never 0 */
	if (log->unread == NVME_RESV_LOG_MAX) {
		log->first = (log->first + 1) % NVME_RESV_LOG_MAX;
		log->unread--;
	}
	at = (log->first + log->unread++) % NVME_RESV_LOG_MAX;
	log->entries[at].count = log->count;
	log->entries[at].nsid = nsid;
	log->entries[at].event = (uint8_t)event;
}

void nvme_resv_log_take(struct nvme_ctrl *ctrl, uint8_t ret_page[NVME_RESV_LOG_BYTES])
{
	struct nvme_resv_log *log = &ctrl->resv_log;
	struct {
		struct le64 count;
		uint8_t event, unread, reserved[2];
		struct le32 nsid;
	} page = { 0 };

	memset(ret_page, 0, NVME_RESV_LOG_BYTES);
	if (!log->unread)
		return;
	page.count = le64(log->entries[log->first].count);
	page.event = log->entries[log->first].event;
	page.nsid = le32(log->entries[log->first].nsid);
	log->first = (log->first + 1) % NVME_RESV_LOG_MAX;
	page.unread = (uint8_t)--log->unread;
	memcpy(ret_page, &page, sizeof(page));
}

void nvme_resv_notify(struct nvme_ns *ns, const struct nvme_registrant *reg,
		      const struct nvme_ctrl *by, enum nvme_resv_event event)
{
	const struct nvme_registrant *own = nvme_resv_find(ns, by), *other;
	struct nvme_att *att;

	list_for_each(att, &ns->atts, node) {
		other = nvme_resv_find(ns, att->ctrl);
		if (!other || other == own || att->ctrl == by || (reg && other != reg))
			continue;
		if (att->resv_mask & 1u << event)
			continue;
		log_add(&att->ctrl->resv_log, ns->nsid, event);
		nvme_event(att->ctrl, NVME_EVENT_IO, 0, NVME_LOG_RESV);
	}
}
