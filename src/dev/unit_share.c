/*
 * Which units are one: each share name, image path, serial number, wwn, state file and place is a
 * key; sorted, equal keys are neighbours.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev/device.h"
#include "dev/unit.h"
#include "base/check.h"

/* In the order in which they are looked at: units join before it is asked whether they differ. */
enum share_kind {
	SHARE_NAME,
	SHARE_FILE,
	SHARE_NSID,
	SHARE_IMAGE,
	SHARE_SERIAL,
	SHARE_WWN,
	SHARE_UUID,
	SHARE_NGUID,
	SHARE_EUI64,
	SHARE_STATE,
	SHARE_PLACE,
	SHARE_KIND_COUNT
};

#define SHARE_NUMBER SIZE_MAX /* no text: see share_number */

static const struct {
	const char *key;
	const struct unit_kind *of; /* NULL: all */
	size_t offset;		    /* of the text in struct unit_def */
	bool joins;		    /* units that have it in common are one */
} share_rows[SHARE_KIND_COUNT] = {
	[SHARE_NAME] = { "share", &unit_scsi, offsetof(struct unit_def, share), true },
	[SHARE_FILE] = { "file", &unit_scsi, offsetof(struct unit_def, back.file), true },
	[SHARE_NSID] = { "subsystem and nsid", &unit_nvme, SHARE_NUMBER, true },
	[SHARE_IMAGE] = { "file", &unit_nvme, offsetof(struct unit_def, back.file), false },
	[SHARE_SERIAL] = { "serial", &unit_scsi, offsetof(struct unit_def, serial), false },
	[SHARE_WWN] = { "wwn", &unit_scsi, SHARE_NUMBER, false },
	[SHARE_UUID] = { "uuid", &unit_nvme, offsetof(struct unit_def, uuid), false },
	[SHARE_NGUID] = { "nguid", &unit_nvme, offsetof(struct unit_def, nguid), false },
	[SHARE_EUI64] = { "eui64", &unit_nvme, offsetof(struct unit_def, eui64), false },
	[SHARE_STATE] = { "state", NULL, offsetof(struct unit_def, state), false },
	[SHARE_PLACE] = { "place", NULL, SHARE_NUMBER, false },
};

struct share_ref {
	struct unit_def *unit;
	uint32_t device; /* which shows it */
};

struct share_key {
	enum share_kind kind;
	const char *text;
	uint64_t number; /* of those with SHARE_NUMBER */
	uint32_t ref;
};

struct share_set {
	struct share_ref *refs;
	uint32_t ref_count;
	struct share_key *keys;
	uint32_t key_count;
};

/* False: the unit has no such key. */
static bool share_number(const struct share_ref *ref, enum share_kind kind,
			 const struct device_def *defs, uint64_t *ret_number)
{
	const struct unit_place *place = &ref->unit->place;
	const uint64_t at = (uint64_t)place->number << 16 | place->lun;

	if (kind == SHARE_WWN)
		*ret_number = ref->unit->naa;
	else if (kind == SHARE_NSID)
		*ret_number = (uint64_t)ref->device << 32 | at;
	else
		*ret_number = (uint64_t)(ref->unit->owner - defs) << 32 | at;
	return kind != SHARE_WWN || ref->unit->naa;
}

static void share_keys_add(struct share_set *set, const struct device_def *defs, uint32_t ref)
{
	const struct unit_def *unit = set->refs[ref].unit;

	for (enum share_kind kind = 0; kind < SHARE_KIND_COUNT; kind++) {
		const size_t offset = share_rows[kind].offset;
		struct share_key key = { .kind = kind, .text = "", .ref = ref };

		if (share_rows[kind].of && share_rows[kind].of != unit->place.kind)
			continue;
		if (offset == SHARE_NUMBER) {
			if (!share_number(&set->refs[ref], kind, defs, &key.number))
				continue;
		} else {
			key.text = *(char *const *)((const char *)unit + offset);
			if (!key.text || (kind == SHARE_STATE && !strcmp(key.text, "none")))
				continue;
		}
		set->keys[set->key_count++] = key;
	}
}

static void share_set_fini(struct share_set *set)
{
	free(set->refs);
	free(set->keys);
}

static int share_set_init(struct share_set *set, struct device_def *defs, uint32_t def_count,
			  struct err *reterr)
{
	uint32_t count = 0;

	memset(set, 0, sizeof(*set));
	for (uint32_t d = 0; d < def_count; d++)
		count += defs[d].unit_count;
	set->refs = calloc(count + 1, sizeof(*set->refs));
	set->keys = calloc((size_t)count * SHARE_KIND_COUNT + 1, sizeof(*set->keys));
	if (!set->refs || !set->keys)
		return err_set(reterr, -ENOMEM, "out of memory");
	for (uint32_t d = 0; d < def_count; d++) {
		for (uint32_t u = 0; u < defs[d].unit_count; u++) {
			struct unit_def *unit = &defs[d].units[u];
			const uint32_t ref = set->ref_count++;

			set->refs[ref] = (struct share_ref){ .unit = unit, .device = d };
			unit->leader = NULL;
			share_keys_add(set, defs, ref);
		}
	}
	return 0;
}

static int share_key_order(const void *left, const void *right)
{
	const struct share_key *a = left, *b = right;
	int order = (a->kind > b->kind) - (a->kind < b->kind);

	if (!order)
		order = strcmp(a->text, b->text);
	if (!order)
		order = (a->number > b->number) - (a->number < b->number);
	return order ? order : (a->ref > b->ref) - (a->ref < b->ref);
}

static bool share_key_same(const struct share_key *a, const struct share_key *b)
{
	return a->kind == b->kind && a->number == b->number && !strcmp(a->text, b->text);
}

/* Prefixes with the place of `ref`, after the other's was put into the message. */
static int share_fail(const struct share_ref *ref, struct err *reterr)
{
	char where[UNIT_WHERE_MAX];

	return err_prefix(reterr, -EINVAL, "%s: %s", ref->unit->owner->where,
			  unit_where(&ref->unit->place, where));
}

static struct unit_def *share_leader(struct unit_def *unit)
{
	while (unit->leader)
		unit = unit->leader;
	return unit;
}

/* The later one's leader becomes a follower of the earlier one's. */
static int share_join(const struct share_set *set, const struct share_key *first,
		      const struct share_key *later, struct err *reterr)
{
	const struct share_ref *a = &set->refs[first->ref], *b = &set->refs[later->ref];
	struct unit_def *leader = share_leader(a->unit), *other = share_leader(b->unit);
	char where[UNIT_WHERE_MAX], buf_a[32], buf_b[32];
	const struct opts_row *row;
	int rc;

	if (leader == other)
		return 0;
	row = unit_differs(leader, other, true);
	if (row) {
		err_set(reterr, -EINVAL,
			"%s: '%.64s' is not the '%.64s' of %s: %s, which has the "
			"same %s: one %s",
			row->name, opts_text(row, other, buf_b, sizeof(buf_b)),
			opts_text(row, leader, buf_a, sizeof(buf_a)), a->unit->owner->where,
			unit_where(&a->unit->place, where), share_rows[first->kind].key,
			leader->place.kind->noun);
		return share_fail(b, reterr);
	}
	rc = unit_copy(leader, other, reterr);
	other->leader = leader;
	return rc;
}

static int share_refuse(const struct share_set *set, const struct share_key *first,
			const struct share_key *later, struct err *reterr)
{
	const struct share_ref *a = &set->refs[first->ref], *b = &set->refs[later->ref];
	char where[UNIT_WHERE_MAX];

	if (first->kind == SHARE_PLACE) {
		err_set(reterr, -EINVAL, "%s: given twice", unit_where(&b->unit->place, where));
		return err_prefix(reterr, -EINVAL, "%s", b->unit->owner->where);
	}
	if (share_leader(a->unit) == share_leader(b->unit))
		return 0;
	/* guests of two subsystems may read one image */
	if (first->kind == SHARE_IMAGE && a->device != b->device && a->unit->back.read_only &&
	    b->unit->back.read_only)
		return 0;
	err_set(reterr, -EINVAL, "%s: '%.64s' is also that of %s: %s, another %s%s",
		share_rows[first->kind].key, first->kind == SHARE_WWN ? b->unit->wwn : later->text,
		a->unit->owner->where, unit_where(&a->unit->place, where),
		a->unit->place.kind->noun,
		first->kind == SHARE_IMAGE && a->device != b->device
			? ": give both devices the same subsystem=NAME"
			: "");
	return share_fail(b, reterr);
}

static int share_keys_walk(struct share_set *set, struct err *reterr)
{
	int rc = 0;

	qsort(set->keys, set->key_count, sizeof(*set->keys), share_key_order);
	for (uint32_t i = 1; i < set->key_count && rc == 0; i++) {
		const struct share_key *first = &set->keys[i - 1], *later = &set->keys[i];

		if (!share_key_same(first, later))
			continue;
		if (share_rows[first->kind].joins)
			rc = share_join(set, first, later, reterr);
		else
			rc = share_refuse(set, first, later, reterr);
	}
	return rc;
}

/* Of namespaces that are one, only the leader is kept: it is in one place. */
static void share_drop_followers(struct device_def *def)
{
	uint32_t kept = 0;

	if (!def->type->units || def->type->units->detach)
		return;
	for (uint32_t u = 0; u < def->unit_count; u++) {
		if (def->units[u].leader)
			unit_fini(&def->units[u]);
		else
			def->units[kept++] = def->units[u];
	}
	def->unit_count = kept;
}

int units_resolve(struct device_def *defs, uint32_t def_count, struct err *reterr)
{
	struct share_set set;
	int rc = share_set_init(&set, defs, def_count, reterr);

	if (rc == 0)
		rc = share_keys_walk(&set, reterr);
	for (uint32_t i = 0; i < set.ref_count && rc == 0; i++) {
		if (set.refs[i].unit->leader)
			continue;
		rc = backend_check(&set.refs[i].unit->back, reterr);
		if (rc < 0)
			share_fail(&set.refs[i], reterr);
	}
	share_set_fini(&set);
	for (uint32_t d = 0; d < def_count && rc == 0; d++)
		share_drop_followers(&defs[d]);
	return rc;
}
