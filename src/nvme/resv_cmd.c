/*
 * Reservation Register, Acquire and Release (base 6.11, 6.10, 6.12), and the features of
 * reservations. The keys are read on the queue's loop; the rest is main's:
 *
 *   act -> gates -> (Preempt and Abort: wait for what it aborts) -> on disk (PTPL) -> end
 *
 * A command that fails changed nothing. Those that ran before a change go on: the change came
 * after them.
 */
#include <stdlib.h>
#include <string.h>

#include "nvme/nvme_impl.h"

#define RESV_ACTION(cdw10) ((cdw10)&7)
#define RESV_IEKEY	   (1u << 3)
#define RESV_TYPE(cdw10)   (((cdw10) >> 8) & 0xff)
#define RESV_CPTPL(cdw10)  ((cdw10) >> 30)

enum resv_register_action {
	RREGA_REGISTER = 0,
	RREGA_UNREGISTER = 1,
	RREGA_REPLACE = 2,
};

enum resv_cptpl {
	CPTPL_KEEP = 0,
	CPTPL_OFF = 2,
	CPTPL_ON = 3,
};

enum resv_acquire_action {
	RACQA_ACQUIRE = 0,
	RACQA_PREEMPT = 1,
	RACQA_PREEMPT_ABORT = 2,
};

enum resv_release_action {
	RRELA_RELEASE = 0,
	RRELA_CLEAR = 1,
};

struct resv_abort {
	struct nvme_sweep sweep;
	struct resv_aborts *all;
};

/* In the scratch memory of Preempt and Abort: one sweep for each controller of preempted hosts. */
struct resv_aborts {
	struct nvme_cmd *c;
	uint32_t count, pending;
	bool failed;
	struct resv_abort one[];
};

struct resv_act {
	struct nvme_cmd *c;
	struct nvme_ns *ns;
	struct nvme_ctrl *ctrl;
	struct nvme_registrant *own; /* of the controller's host, NULL: none */
	uint64_t crkey, key;	     /* key: NRKEY, PRKEY */
	uint32_t cdw10;
	struct resv_aborts *aborts; /* NULL: not asked for */
};

/* ---- Register (base 8.8.3, 8.8.5) ---- */

static enum nvme_status register_new(struct resv_act *a)
{
	static const uint8_t none[16];
	struct nvme_registrant *reg;

	if (!a->key)
		return NVME_SC_INVALID_FIELD;
	if (a->ns->resv.registrant_count >= NVME_REGISTRANTS_MAX)
		return NVME_SC_INTERNAL_ERROR;
	reg = nvme_resv_add(a->ns, a->key);
	if (!reg)
		return NVME_SC_INTERNAL_ERROR;
	memcpy(reg->host_id, a->ctrl->features.host_id, sizeof(reg->host_id));
	reg->extended = a->ctrl->features.host_id_extended;
	if (!memcmp(reg->host_id, none, sizeof(none)))
		reg->ctrl = a->ctrl;
	return NVME_SC_SUCCESS;
}

static enum nvme_status register_drop(struct resv_act *a)
{
	enum nvme_resv_type type = a->ns->resv.type;
	bool held = a->ns->resv.holder == a->own;

	nvme_resv_remove(a->ns, a->own);
	if (held && nvme_resv_type_shared(type))
		nvme_resv_notify(a->ns, NULL, a->ctrl, NVME_RESV_RELEASED);
	return NVME_SC_SUCCESS;
}

static enum nvme_status register_action(struct resv_act *a)
{
	bool ignore = a->cdw10 & RESV_IEKEY;

	switch (RESV_ACTION(a->cdw10)) {
	case RREGA_REGISTER:
		if (!a->own)
			return register_new(a);
		return a->own->key == a->key ? NVME_SC_SUCCESS : NVME_SC_RESERVATION_CONFLICT;
	case RREGA_UNREGISTER:
		if (!a->own || (!ignore && a->own->key != a->crkey))
			return NVME_SC_RESERVATION_CONFLICT;
		return register_drop(a);
	case RREGA_REPLACE:
		if (!a->own && ignore)
			return register_new(a);
		if (!a->own || (!ignore && a->own->key != a->crkey))
			return NVME_SC_RESERVATION_CONFLICT;
		if (!a->key)
			return NVME_SC_INVALID_FIELD;
		a->own->key = a->key;
		return NVME_SC_SUCCESS;
	default:
		return NVME_SC_INVALID_FIELD;
	}
}

static enum nvme_status act_register(struct resv_act *a)
{
	uint32_t cptpl = RESV_CPTPL(a->cdw10);
	enum nvme_status status;

	if (cptpl != CPTPL_KEEP && cptpl != CPTPL_OFF && cptpl != CPTPL_ON)
		return NVME_SC_INVALID_FIELD;
	if (cptpl == CPTPL_ON && !a->ns->state_path)
		return NVME_SC_INVALID_FIELD;
	status = register_action(a);
	if (status != NVME_SC_SUCCESS)
		return status;
	a->ns->resv.generation++;
	if (cptpl != CPTPL_KEEP)
		a->ns->resv.ptpl = cptpl == CPTPL_ON;
	return NVME_SC_SUCCESS;
}

/* ---- Acquire (base 8.8.4, 8.8.7) ---- */

static bool resv_type_valid(uint32_t type)
{
	return type != NVME_RESV_NONE && type < NVME_RESV_TYPE_COUNT;
}

/* The commands of reg's host are to be aborted. */
static void abort_host(struct resv_act *a, const struct nvme_registrant *reg)
{
	struct resv_aborts *all = a->aborts;
	struct nvme_ctrl *ctrl;

	list_for_each(ctrl, &a->ns->subsys->ctrls, node) {
		if (!nvme_resv_is_of(reg, ctrl))
			continue;
		all->one[all->count].all = all;
		all->one[all->count++].sweep = (struct nvme_sweep){
			.action = NVME_SWEEP_ABORT,
			.subsys = a->ns->subsys,
			.ctrl = ctrl,
			.ns = a->ns,
			/* not those of reservations: two could wait for each other */
			.row_flags = CMD_MEDIUM,
			.but = a->c,
			.abort_status = NVME_SC_ABORTED_PREEMPTED,
		};
	}
}

/* The registrants with the key (0: all) but `keep`; how many there were. */
static uint32_t preempt_remove(struct resv_act *a, const struct nvme_registrant *keep)
{
	struct nvme_registrant *reg, *next;
	uint64_t key = a->key;
	uint32_t count = 0;

	list_for_each_safe(reg, next, &a->ns->resv.registrants, node) {
		if (reg == keep || (key && reg->key != key))
			continue;
		count++;
		nvme_resv_notify(a->ns, reg, a->ctrl, NVME_RESV_REGISTRATION_PREEMPTED);
		if (a->aborts)
			abort_host(a, reg);
		nvme_resv_remove(a->ns, reg);
	}
	return count;
}

static enum nvme_status preempt_reservation(struct resv_act *a)
{
	enum nvme_resv_type type = (enum nvme_resv_type)RESV_TYPE(a->cdw10);
	enum nvme_resv_type old_type = a->ns->resv.type;

	if (!resv_type_valid(type))
		return NVME_SC_INVALID_FIELD;
	preempt_remove(a, a->own);
	nvme_resv_take(a->ns, type, a->own);
	if (old_type != type)
		nvme_resv_notify(a->ns, NULL, a->ctrl, NVME_RESV_RELEASED);
	return NVME_SC_SUCCESS;
}

static enum nvme_status preempt(struct resv_act *a)
{
	const struct nvme_resv *resv = &a->ns->resv;
	enum nvme_status status = NVME_SC_SUCCESS;

	if (nvme_resv_type_all(resv->type) ? !a->key : resv->holder && resv->holder->key == a->key)
		status = preempt_reservation(a);
	else if (!a->key)
		status = NVME_SC_INVALID_FIELD;
	else if (!preempt_remove(a, NULL))
		status = NVME_SC_RESERVATION_CONFLICT;
	if (status == NVME_SC_SUCCESS)
		a->ns->resv.generation++;
	return status;
}

static enum nvme_status acquire(struct resv_act *a)
{
	enum nvme_resv_type type = (enum nvme_resv_type)RESV_TYPE(a->cdw10);
	const struct nvme_resv *resv = &a->ns->resv;

	if (!resv_type_valid(type))
		return NVME_SC_INVALID_FIELD;
	if (resv->type == NVME_RESV_NONE)
		nvme_resv_take(a->ns, type, a->own);
	else if (!nvme_resv_holds(a->ns, a->own) || resv->type != type)
		return NVME_SC_RESERVATION_CONFLICT;
	return NVME_SC_SUCCESS;
}

static enum nvme_status act_acquire(struct resv_act *a)
{
	if (a->cdw10 & RESV_IEKEY)
		return NVME_SC_INVALID_FIELD;
	if (RESV_ACTION(a->cdw10) > RACQA_PREEMPT_ABORT)
		return NVME_SC_INVALID_FIELD;
	if (!a->own || a->own->key != a->crkey)
		return NVME_SC_RESERVATION_CONFLICT;
	return RESV_ACTION(a->cdw10) == RACQA_ACQUIRE ? acquire(a) : preempt(a);
}

/* ---- Release (base 8.8.6, 8.8.8) ---- */

static enum nvme_status release(struct resv_act *a)
{
	enum nvme_resv_type type = a->ns->resv.type;

	if (type == NVME_RESV_NONE)
		return NVME_SC_SUCCESS;
	if (RESV_TYPE(a->cdw10) != type)
		return NVME_SC_INVALID_FIELD;
	if (!nvme_resv_holds(a->ns, a->own))
		return NVME_SC_SUCCESS;
	nvme_resv_drop(a->ns);
	if (nvme_resv_type_shared(type))
		nvme_resv_notify(a->ns, NULL, a->ctrl, NVME_RESV_RELEASED);
	return NVME_SC_SUCCESS;
}

static enum nvme_status clear(struct resv_act *a)
{
	struct nvme_registrant *reg, *next;

	nvme_resv_notify(a->ns, NULL, a->ctrl, NVME_RESV_PREEMPTED);
	list_for_each_safe(reg, next, &a->ns->resv.registrants, node)
		nvme_resv_remove(a->ns, reg);
	a->ns->resv.generation++;
	return NVME_SC_SUCCESS;
}

static enum nvme_status act_release(struct resv_act *a)
{
	if (a->cdw10 & RESV_IEKEY)
		return NVME_SC_INVALID_FIELD;
	if (RESV_ACTION(a->cdw10) > RRELA_CLEAR)
		return NVME_SC_INVALID_FIELD;
	if (!a->own || a->own->key != a->crkey)
		return NVME_SC_RESERVATION_CONFLICT;
	return RESV_ACTION(a->cdw10) == RRELA_CLEAR ? clear(a) : release(a);
}

/* ---- the command ---- */

static void resv_saved(void *arg, bool ok)
{
	nvme_cmd_end(arg, ok ? NVME_SC_SUCCESS : NVME_SC_INTERNAL_ERROR);
}

#define VAR_CRKEY 0
#define VAR_KEY	  1
#define VAR_SAVE  2 /* PTPL was on: the file is to change even if it is off now */

static void resv_settled(struct nvme_cmd *c)
{
	struct nvme_ns *ns = c->nsq->ns;

	if (c->vars[VAR_SAVE] || ns->resv.ptpl)
		nvme_ns_state_save(ns, resv_saved, c);
	else
		nvme_cmd_end(c, NVME_SC_SUCCESS);
}

static void aborts_put(struct resv_aborts *all)
{
	if (--all->pending)
		return;
	if (all->failed)
		nvme_cmd_end(all->c, NVME_SC_INTERNAL_ERROR);
	else
		resv_settled(all->c);
}

static void abort_swept(struct nvme_sweep *s)
{
	aborts_put(container_of(s, struct resv_abort, sweep)->all);
}

/* Ends when all that was aborted has ended. */
static void aborts_start(struct resv_aborts *all)
{
	all->pending = 1;
	for (uint32_t i = 0; i < all->count; i++) {
		struct nvme_sweep *s = &all->one[i].sweep;

		s->done = abort_swept;
		all->pending++;
		if (nvme_sweep_start(s) == 0)
			continue;
		all->pending--;
		all->failed = true;
	}
	aborts_put(all);
}

/* Memory for one sweep for each controller that there is; false: the command has ended. */
static bool aborts_new(struct resv_act *a)
{
	const struct nvme_ctrl *ctrl;
	size_t count = 0;

	list_for_each(ctrl, &a->ns->subsys->ctrls, node)
		count++;
	if (!nvme_cmd_scratch(a->c, sizeof(*a->aborts) + count * sizeof(a->aborts->one[0])))
		return false;
	a->aborts = (struct resv_aborts *)a->c->buf;
	a->aborts->c = a->c;
	return true;
}

static enum nvme_status resv_act(struct resv_act *a)
{
	switch (a->c->sqe.opcode) {
	case NVME_IO_RESV_REGISTER:
		return act_register(a);
	case NVME_IO_RESV_ACQUIRE:
		return act_acquire(a);
	case NVME_IO_RESV_RELEASE:
		return act_release(a);
	default:
		return NVME_SC_INVALID_OPCODE;
	}
}

static void resv_on_main(struct nvme_cmd *c)
{
	struct resv_act a = {
		.c = c,
		.ns = c->nsq->ns,
		.ctrl = c->nsq->att->ctrl,
		.own = nvme_resv_find(c->nsq->ns, c->nsq->att->ctrl),
		.crkey = c->vars[VAR_CRKEY],
		.key = c->vars[VAR_KEY],
		.cdw10 = nvme_cdw10(c),
	};
	enum nvme_status status = nvme_sanitize_status(a.ns->subsys);

	c->vars[VAR_SAVE] = a.ns->resv.ptpl;
	if (status == NVME_SC_SUCCESS && c->sqe.opcode == NVME_IO_RESV_ACQUIRE &&
	    RESV_ACTION(a.cdw10) == RACQA_PREEMPT_ABORT && !aborts_new(&a))
		return;
	if (status == NVME_SC_SUCCESS)
		status = resv_act(&a);
	if (status != NVME_SC_SUCCESS) {
		nvme_cmd_end(c, status);
		return;
	}
	nvme_gates_update(a.ns);
	if (a.aborts)
		aborts_start(a.aborts);
	else
		resv_settled(c);
}

static void resv_keys_read(struct nvme_cmd *c)
{
	struct le64 keys[2] = { 0 };

	if (!iov_cur_read(&c->data, keys, c->sqe.opcode == NVME_IO_RESV_RELEASE ? 8 : 16)) {
		nvme_cmd_end(c, NVME_SC_DATA_TRANSFER_ERROR);
		return;
	}
	c->vars[VAR_CRKEY] = le64_get(keys[0]);
	c->vars[VAR_KEY] = le64_get(keys[1]);
	nvme_cmd_to_main(c, resv_on_main);
}

void nvme_resv_register(struct nvme_cmd *c)
{
	nvme_data(c, 16, NVME_FROM_GUEST, resv_keys_read);
}

void nvme_resv_acquire(struct nvme_cmd *c)
{
	nvme_data(c, 16, NVME_FROM_GUEST, resv_keys_read);
}

void nvme_resv_release(struct nvme_cmd *c)
{
	nvme_data(c, 8, NVME_FROM_GUEST, resv_keys_read);
}
