/*
 * Registrations, the persistent reservation, and the gates that follow from them: see resv.h.
 * RESERVE and RELEASE of SPC-2.
 */
#include <stdlib.h>
#include <string.h>

#include "scsi/handlers.h"
#include "scsi/resv.h"

/* ---- types ---- */

bool resv_type_valid(uint32_t type)
{
	return type < 16 && (1u << type) & (1u << RESV_WE | 1u << RESV_EA | 1u << RESV_WE_RO |
					    1u << RESV_EA_RO | 1u << RESV_WE_AR | 1u << RESV_EA_AR);
}

bool resv_type_all_registrants(uint32_t type)
{
	return type == RESV_WE_AR || type == RESV_EA_AR;
}

bool resv_type_shared(uint32_t type)
{
	return type >= RESV_WE_RO;
}

/* What it stops for those who may not pass (SPC-5, table 73). */
static uint32_t resv_type_gate(uint32_t type)
{
	bool exclusive = type == RESV_EA || type == RESV_EA_RO || type == RESV_EA_AR;

	return exclusive ? GATE_RESV_READ | GATE_RESV_WRITE : GATE_RESV_WRITE;
}

/* ---- gates ---- */

bool resv_holds(const struct scsi_lu *lu, const struct resv_reg *reg)
{
	if (!reg || !lu->resv.type)
		return false;
	return lu->resv.all_registrants || lu->resv.holder == reg;
}

static uint32_t resv_gate(const struct scsi_lu *lu, const struct scsi_itl *itl)
{
	const struct scsi_resv *resv = &lu->resv;
	bool passes = resv_type_shared(resv->type) ? itl->reg != NULL : resv_holds(lu, itl->reg);
	uint32_t gate = 0;

	if (resv->type && !passes)
		gate = resv_type_gate(resv->type);
	if (resv->legacy_holder && resv->legacy_holder != itl)
		gate |= GATE_RESV_READ | GATE_RESV_WRITE | GATE_LEGACY;
	return gate;
}

static void resv_gate_update(struct scsi_lu *lu, struct scsi_itl *itl)
{
	const uint32_t all = GATE_RESV_READ | GATE_RESV_WRITE | GATE_LEGACY;
	uint32_t gate = resv_gate(lu, itl);

	/* on before off: a command that passes between the two was stopped for no reason at most */
	if (gate)
		scsi_gate_set(itl, gate, true);
	if (gate != all)
		scsi_gate_set(itl, all & ~gate, false);
}

void resv_gates_update(struct scsi_lu *lu)
{
	struct scsi_itl *itl;

	list_for_each(itl, &lu->itls, node)
		resv_gate_update(lu, itl);
}

void resv_ua(struct scsi_lu *lu, const struct resv_reg *reg, const struct resv_reg *but,
	     enum scsi_ua ua)
{
	struct scsi_itl *itl;

	list_for_each(itl, &lu->itls, node)
		if (itl->reg && itl->reg != but && (!reg || itl->reg == reg))
			scsi_ua_add(itl, ua);
}

bool scsi_resv_conflict(struct scsi_task *t)
{
	if (!(atomic_load_explicit(&t->itl->gate, memory_order_acquire) & GATE_RESV_WRITE))
		return false;
	scsi_task_end_status(t, SCSI_RESERVATION_CONFLICT);
	return true;
}

/* ---- registrations ---- */

static bool resv_is_of(const struct resv_reg *reg, const struct scsi_itl *itl)
{
	return !strcmp(reg->initiator, itl->nexus->name) &&
	       !strcmp(reg->host, itl->nexus->host->name);
}

struct resv_reg *resv_find(const struct scsi_lu *lu, const char *initiator, const char *host)
{
	struct resv_reg *reg;

	list_for_each(reg, &lu->resv.registrations, node)
		if (!strcmp(reg->initiator, initiator) && !strcmp(reg->host, host))
			return reg;
	return NULL;
}

struct resv_reg *resv_add(struct scsi_lu *lu, const char *initiator, const char *host, uint64_t key)
{
	size_t name_bytes = strlen(initiator) + 1, host_bytes = strlen(host) + 1;
	struct resv_reg *reg = calloc(1, sizeof(*reg) + name_bytes + host_bytes);
	struct scsi_itl *itl;

	if (!reg)
		return NULL;
	memcpy(reg->initiator, initiator, name_bytes);
	reg->host = reg->initiator + name_bytes;
	memcpy(reg->host, host, host_bytes);
	reg->key = key;
	list_append(&lu->resv.registrations, &reg->node);
	lu->resv.registration_count++;
	list_for_each(itl, &lu->itls, node)
		if (resv_is_of(reg, itl))
			itl->reg = reg;
	return reg;
}

void resv_remove(struct scsi_lu *lu, struct resv_reg *reg)
{
	struct scsi_resv *resv = &lu->resv;
	struct scsi_itl *itl;

	list_for_each(itl, &lu->itls, node)
		if (itl->reg == reg)
			itl->reg = NULL;
	list_remove(&reg->node);
	resv->registration_count--;
	if (resv->holder == reg || (resv->all_registrants && !resv->registration_count))
		resv_release(lu);
	free(reg);
}

void resv_reserve(struct scsi_lu *lu, uint8_t type, struct resv_reg *holder)
{
	lu->resv.type = type;
	lu->resv.all_registrants = resv_type_all_registrants(type);
	lu->resv.holder = lu->resv.all_registrants ? NULL : holder;
}

void resv_release(struct scsi_lu *lu)
{
	lu->resv.type = 0;
	lu->resv.all_registrants = false;
	lu->resv.holder = NULL;
}

/* ---- life ---- */

void scsi_resv_init(struct scsi_lu *lu)
{
	list_init(&lu->resv.registrations);
}

void scsi_resv_fini(struct scsi_lu *lu)
{
	struct resv_reg *reg, *next;

	list_for_each_safe(reg, next, &lu->resv.registrations, node)
		resv_remove(lu, reg);
}

/* A port that was not there when the initiator registered with all of them. */
static struct resv_reg *resv_attach_all_ports(struct scsi_itl *itl)
{
	struct scsi_lu *lu = itl->lu;
	struct resv_reg *reg, *more;

	if (lu->resv.registration_count >= RESV_REGISTRATIONS_MAX)
		return NULL;
	list_for_each(reg, &lu->resv.registrations, node) {
		if (!reg->all_ports || strcmp(reg->initiator, itl->nexus->name) != 0)
			continue;
		more = resv_add(lu, reg->initiator, itl->nexus->host->name, reg->key);
		if (more)
			more->all_ports = true;
		return more;
	}
	return NULL;
}

void scsi_resv_attach(struct scsi_itl *itl)
{
	itl->reg = resv_find(itl->lu, itl->nexus->name, itl->nexus->host->name);
	if (!itl->reg)
		itl->reg = resv_attach_all_ports(itl);
	resv_gate_update(itl->lu, itl);
}

void scsi_resv_detach(struct scsi_itl *itl)
{
	scsi_resv_legacy_release(itl->lu, itl);
	itl->reg = NULL;
}

/* ---- RESERVE and RELEASE (SPC-2, 7.21, 7.22, 7.17, 7.18) ---- */

void scsi_resv_legacy_release(struct scsi_lu *lu, const struct scsi_itl *holder_or_null)
{
	struct scsi_resv *resv = &lu->resv;

	if (!resv->legacy_holder || (holder_or_null && resv->legacy_holder != holder_or_null))
		return;
	resv->legacy_holder = NULL;
	resv_gates_update(lu);
}

/* Third party, long identifiers and extents are not offered: true, and the command ended. */
static bool legacy_bad_cdb(struct scsi_task *t)
{
	uint8_t bad = t->cdb[1] & (t->row->len_bytes == 10 ? 0x13 : 0x11);

	if (!bad)
		return false;
	scsi_task_bad_cdb(t, 1, 31 - __builtin_clz(bad));
	return true;
}

/*
 * Who passes the persistent reservation gets GOOD and nothing changes; any other registration
 * makes them conflict (SPC-4, 5.13.3, with CRH 1). Lock held.
 */
static bool legacy_ignored(const struct scsi_lu *lu, const struct scsi_itl *itl)
{
	return resv_type_shared(lu->resv.type) ? itl->reg != NULL : resv_holds(lu, itl->reg);
}

void scsi_reserve(struct scsi_task *t)
{
	struct scsi_lu *lu = task_lu(t);
	bool conflict;

	if (legacy_bad_cdb(t))
		return;
	pthread_mutex_lock(&lu->lock);
	if (legacy_ignored(lu, t->itl)) {
		conflict = false;
	} else if (lu->resv.registration_count ||
		   (lu->resv.legacy_holder && lu->resv.legacy_holder != t->itl)) {
		conflict = true;
	} else {
		conflict = false;
		lu->resv.legacy_holder = t->itl;
		resv_gates_update(lu);
	}
	pthread_mutex_unlock(&lu->lock);
	scsi_task_end_status(t, conflict ? SCSI_RESERVATION_CONFLICT : SCSI_GOOD);
}

/* Of another's reservation it is no error, and does nothing. */
void scsi_release(struct scsi_task *t)
{
	struct scsi_lu *lu = task_lu(t);
	bool conflict;

	if (legacy_bad_cdb(t))
		return;
	pthread_mutex_lock(&lu->lock);
	conflict = lu->resv.registration_count && !legacy_ignored(lu, t->itl);
	if (!conflict)
		scsi_resv_legacy_release(lu, t->itl);
	pthread_mutex_unlock(&lu->lock);
	scsi_task_end_status(t, conflict ? SCSI_RESERVATION_CONFLICT : SCSI_GOOD);
}
