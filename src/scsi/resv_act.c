/*
 * What each service action of PERSISTENT RESERVE OUT does (SPC-5, 5.14). lu->lock is held in all
 * of this file; the tables of the standard that decide are named at each function.
 */
#include <string.h>

#include "scsi/resv.h"

enum resv_verdict resv_bad_list(struct resv_out *out, size_t byte, int bit)
{
	out->field_byte = (uint32_t)byte;
	out->field_bit = bit;
	return RESV_BAD_LIST;
}

static enum resv_verdict act_bad_cdb(struct resv_out *out, uint32_t byte, int bit)
{
	out->field_byte = byte;
	out->field_bit = bit;
	return RESV_BAD_CDB;
}

static enum resv_verdict act_cause(struct resv_out *out, enum scsi_cause cause)
{
	out->cause = cause;
	return RESV_CAUSE;
}

static const char *act_name(const struct resv_out *out)
{
	return out->t->itl->nexus->name;
}

static const char *act_host(const struct resv_out *out)
{
	return out->t->itl->nexus->host->name;
}

/* Both fields are bytes of the CDB. */
static enum resv_verdict act_scope_type(struct resv_out *out)
{
	if (out->scope)
		return act_bad_cdb(out, 2, 7);
	if (!resv_type_valid(out->type))
		return act_bad_cdb(out, 2, 3);
	return RESV_DONE;
}

/* ---- REGISTER, REGISTER AND IGNORE EXISTING KEY (5.14.7) ---- */

/*
 * All hosts are the relative port 1 of their device, so a TransportID names an initiator port, not
 * which of our ports: that of the command when the initiator is known there, else where it is.
 */
static const char *act_host_of(const struct resv_out *out, const char *name)
{
	const char *found = NULL;
	const struct scsi_itl *itl;
	const struct resv_reg *reg;

	list_for_each(itl, &out->lu->itls, node) {
		if (strcmp(itl->nexus->name, name) != 0)
			continue;
		if (itl->nexus->host == out->t->itl->nexus->host)
			return act_host(out);
		found = itl->nexus->host->name;
	}
	list_for_each(reg, &out->lu->resv.registrations, node) {
		if (strcmp(reg->initiator, name) != 0)
			continue;
		if (!strcmp(reg->host, act_host(out)))
			return act_host(out);
		if (!found)
			found = reg->host;
	}
	return found ? found : act_host(out);
}

/* One nexus more. One that is registered already is as a REGISTER on it: a conflict. */
static enum resv_verdict register_one(struct resv_out *out, const char *name, const char *host)
{
	struct resv_reg *reg = resv_find(out->lu, name, host);

	if (reg && reg->fresh)
		return RESV_DONE; /* named twice */
	if (reg && out->sa == RESV_SA_REGISTER)
		return RESV_CONFLICT;
	if (reg) {
		reg->key = out->sa_key;
		return RESV_DONE;
	}
	if (out->lu->resv.registration_count >= RESV_REGISTRATIONS_MAX)
		return act_cause(out, SCSI_CAUSE_REGISTRATION_RESOURCES);
	reg = resv_add(out->lu, name, host, out->sa_key);
	if (!reg)
		return act_cause(out, SCSI_CAUSE_REGISTRATION_RESOURCES);
	reg->fresh = true;
	reg->all_ports = out->all_tg_pt;
	return RESV_DONE;
}

/* On the port where it is, and with ALL_TG_PT on each other where it is. */
static enum resv_verdict register_name(struct resv_out *out, const char *name, const char *host)
{
	enum resv_verdict v = register_one(out, name, host);
	const struct scsi_itl *itl;

	if (!out->all_tg_pt)
		return v;
	list_for_each(itl, &out->lu->itls, node) {
		if (v != RESV_DONE)
			break;
		if (!strcmp(itl->nexus->name, name))
			v = register_one(out, name, itl->nexus->host->name);
	}
	return v;
}

static enum resv_verdict register_ids(struct resv_out *out)
{
	enum resv_verdict v = RESV_DONE;
	const char *name, *host;
	size_t at = 0, len;

	for (; at < out->ids_bytes && v == RESV_DONE; at += len) {
		len = resv_transport_id(out->ids, at, out->ids_bytes, &name);
		host = act_host_of(out, name);
		if (!strcmp(name, act_name(out)) && !strcmp(host, act_host(out)))
			return resv_bad_list(out, out->ids_at + at, -1);
		v = register_name(out, name, host);
	}
	return v;
}

/* All of them or none. */
static enum resv_verdict register_new(struct resv_out *out)
{
	struct resv_reg *reg, *next;
	enum resv_verdict v;

	if (!out->sa_key)
		return RESV_DONE;
	v = register_ids(out);
	if (v == RESV_DONE)
		v = register_name(out, act_name(out), act_host(out));
	list_for_each_safe(reg, next, &out->lu->resv.registrations, node) {
		if (reg->fresh && v != RESV_DONE)
			resv_remove(out->lu, reg);
		else
			reg->fresh = false;
	}
	if (v == RESV_DONE)
		out->lu->resv.generation++;
	return v;
}

/* The others hear of a reservation that they had a share in (5.14.11.2.2). */
static void act_unregister(struct resv_out *out, struct resv_reg *reg)
{
	struct scsi_lu *lu = out->lu;
	struct resv_reg *other;

	list_for_each(other, &lu->resv.registrations, node)
		if (!strcmp(other->initiator, reg->initiator))
			other->all_ports = false;
	if (lu->resv.holder == reg && resv_type_shared(lu->resv.type))
		resv_ua(lu, NULL, reg, SCSI_UA_RESV_RELEASED);
	if (out->own == reg)
		out->own = NULL;
	resv_remove(lu, reg);
}

/* A new key, or none; with ALL_TG_PT also where the same port is registered with the same key. */
static enum resv_verdict register_change(struct resv_out *out)
{
	struct resv_reg *own = out->own, *reg, *next;
	uint64_t old_key = own->key;

	out->lu->resv.generation++;
	list_for_each_safe(reg, next, &out->lu->resv.registrations, node) {
		bool also = out->all_tg_pt && reg->key == old_key &&
			    !strcmp(reg->initiator, act_name(out));

		if (reg != own && !also)
			continue;
		if (out->sa_key)
			reg->key = out->sa_key;
		else
			act_unregister(out, reg);
	}
	return RESV_DONE;
}

static enum resv_verdict act_register(struct resv_out *out)
{
	enum resv_verdict v;

	if (out->own && out->spec_i_pt)
		return resv_bad_list(out, 20, 3);
	v = out->own ? register_change(out) : register_new(out);
	if (v == RESV_DONE)
		out->lu->resv.aptpl = out->aptpl;
	return v;
}

/* ---- RESERVE, RELEASE, CLEAR ---- */

/* 5.14.9 */
static enum resv_verdict act_reserve(struct resv_out *out)
{
	struct scsi_lu *lu = out->lu;
	enum resv_verdict v = act_scope_type(out);

	if (v != RESV_DONE)
		return v;
	if (!lu->resv.type)
		resv_reserve(lu, out->type, out->own);
	else if (!resv_holds(lu, out->own) || lu->resv.type != out->type)
		return RESV_CONFLICT;
	return RESV_DONE;
}

/* 5.14.11.2 */
static enum resv_verdict act_release(struct resv_out *out)
{
	struct scsi_lu *lu = out->lu;
	enum resv_verdict v = act_scope_type(out);

	if (v != RESV_DONE)
		return v;
	if (!resv_holds(lu, out->own))
		return RESV_DONE;
	if (lu->resv.type != out->type)
		return act_cause(out, SCSI_CAUSE_INVALID_RELEASE);
	if (resv_type_shared(lu->resv.type))
		resv_ua(lu, NULL, out->own, SCSI_UA_RESV_RELEASED);
	resv_release(lu);
	return RESV_DONE;
}

/* 5.14.11.6 */
static enum resv_verdict act_clear(struct resv_out *out)
{
	struct scsi_lu *lu = out->lu;
	struct resv_reg *reg, *next;

	resv_ua(lu, NULL, out->own, SCSI_UA_RESV_PREEMPTED);
	resv_release(lu);
	list_for_each_safe(reg, next, &lu->resv.registrations, node)
		resv_remove(lu, reg);
	lu->resv.generation++;
	return RESV_DONE;
}

/* ---- PREEMPT, PREEMPT AND ABORT (5.14.11.4, 5.14.11.5) ---- */

/* The registrations with the key (0: all) but `keep`'s; how many there were. */
static uint32_t preempt_remove(struct resv_out *out, const struct resv_reg *keep)
{
	struct scsi_lu *lu = out->lu;
	struct resv_reg *reg, *next;
	struct scsi_itl *itl;
	uint32_t count = 0;

	list_for_each_safe(reg, next, &lu->resv.registrations, node) {
		if (reg == keep || (out->sa_key && reg->key != out->sa_key))
			continue;
		count++;
		resv_ua(lu, reg, out->own, SCSI_UA_REGISTRATIONS_PREEMPTED);
		list_for_each(itl, &lu->itls, node)
			if (out->sa == RESV_SA_PREEMPT_ABORT && itl->reg == reg)
				resv_out_abort(out, itl->nexus);
		resv_remove(lu, reg);
	}
	return count;
}

static enum resv_verdict preempt_reservation(struct resv_out *out)
{
	struct scsi_lu *lu = out->lu;
	uint8_t old_type = lu->resv.type;
	enum resv_verdict v = act_scope_type(out);

	if (v != RESV_DONE)
		return v;
	preempt_remove(out, out->own);
	resv_reserve(lu, out->type, out->own);
	if (old_type != out->type)
		resv_ua(lu, NULL, out->own, SCSI_UA_RESV_RELEASED);
	lu->resv.generation++;
	return RESV_DONE;
}

static enum resv_verdict act_preempt(struct resv_out *out)
{
	const struct scsi_resv *resv = &out->lu->resv;

	if (resv->all_registrants ? !out->sa_key : resv->type && resv->holder->key == out->sa_key)
		return preempt_reservation(out);
	if (!out->sa_key)
		return resv_bad_list(out, 8, -1);
	if (!preempt_remove(out, NULL))
		return RESV_CONFLICT;
	out->lu->resv.generation++;
	return RESV_DONE;
}

/* ---- REGISTER AND MOVE (5.14.8) ---- */

static enum resv_verdict act_move(struct resv_out *out)
{
	struct scsi_lu *lu = out->lu;
	struct resv_reg *to;
	const char *name, *host;
	uint8_t type = lu->resv.type;

	if (resv_type_all_registrants(type))
		return RESV_CONFLICT;
	if (!resv_holds(lu, out->own))
		return act_bad_cdb(out, 1, 4);
	if (!out->sa_key)
		return resv_bad_list(out, 8, -1);
	resv_transport_id(out->ids, 0, out->ids_bytes, &name);
	host = act_host_of(out, name);
	to = resv_find(lu, name, host);
	if (to == out->own)
		return resv_bad_list(out, out->ids_at, -1);
	if (!to && lu->resv.registration_count >= RESV_REGISTRATIONS_MAX && !out->unreg)
		return act_cause(out, SCSI_CAUSE_REGISTRATION_RESOURCES);
	if (!to)
		to = resv_add(lu, name, host, out->sa_key);
	if (!to)
		return act_cause(out, SCSI_CAUSE_REGISTRATION_RESOURCES);
	to->key = out->sa_key;
	resv_reserve(lu, type, to);
	if (out->unreg)
		act_unregister(out, out->own);
	lu->resv.aptpl = out->aptpl;
	lu->resv.generation++;
	return RESV_DONE;
}

/* ---- all ---- */

/* The key must be that of the nexus, whatever else is wrong (6.17.3). */
static bool act_key_right(const struct resv_out *out)
{
	if (out->sa == RESV_SA_REGISTER_IGNORE)
		return true;
	if (out->sa == RESV_SA_REGISTER && !out->own)
		return out->key == 0;
	return out->own && out->own->key == out->key;
}

enum resv_verdict resv_act(struct resv_out *out)
{
	static enum resv_verdict (*const acts[RESV_SA_COUNT])(struct resv_out * out) = {
		[RESV_SA_REGISTER] = act_register,	  [RESV_SA_RESERVE] = act_reserve,
		[RESV_SA_RELEASE] = act_release,	  [RESV_SA_CLEAR] = act_clear,
		[RESV_SA_PREEMPT] = act_preempt,	  [RESV_SA_PREEMPT_ABORT] = act_preempt,
		[RESV_SA_REGISTER_IGNORE] = act_register, [RESV_SA_MOVE] = act_move,
	};
	enum resv_verdict v;

	out->own = out->t->itl->reg;
	if (resv_legacy(out->lu) || !act_key_right(out))
		return RESV_CONFLICT;
	v = acts[out->sa](out);
	resv_gates_update(out->lu);
	return v;
}
