/*
 * Which units are one: each share name, image path, serial number, wwn, state file and place is a
 * key; sorted,
 * equal keys are neighbours.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/device.h"
#include "app/unit.h"
#include "base/check.h"

/* In the order in which they are looked at: units join before it is asked whether they differ. */
enum share_kind {
	SHARE_NAME,
	SHARE_FILE,
	SHARE_SERIAL,
	SHARE_WWN,
	SHARE_STATE,
	SHARE_PLACE,
	SHARE_KIND_COUNT
};

static const char *const share_kind_keys[SHARE_KIND_COUNT] = {
	[SHARE_NAME] = "share", [SHARE_FILE] = "file",	 [SHARE_SERIAL] = "serial",
	[SHARE_WWN] = "wwn",	[SHARE_STATE] = "state", [SHARE_PLACE] = "place",
};

struct share_ref {
	struct unit_def *unit;
	const struct device_def *owner;
};

struct share_key {
	enum share_kind kind;
	const char *text;
	uint64_t number; /* of SHARE_PLACE and SHARE_WWN */
	uint32_t ref;
};

struct share_set {
	struct share_ref *refs;
	uint32_t ref_count;
	struct share_key *keys;
	uint32_t key_count;
};

static void share_key_add(struct share_set *set, enum share_kind kind, const char *text,
			  uint64_t number, uint32_t ref)
{
	set->keys[set->key_count++] =
		(struct share_key){ .kind = kind, .text = text, .number = number, .ref = ref };
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

			set->refs[ref] = (struct share_ref){ .unit = unit, .owner = &defs[d] };
			unit->leader = NULL;
			if (unit->share)
				share_key_add(set, SHARE_NAME, unit->share, 0, ref);
			if (unit->back.file)
				share_key_add(set, SHARE_FILE, unit->back.file, 0, ref);
			if (unit->serial)
				share_key_add(set, SHARE_SERIAL, unit->serial, 0, ref);
			if (unit->naa)
				share_key_add(set, SHARE_WWN, "", unit->naa, ref);
			if (unit->state && strcmp(unit->state, "none") != 0)
				share_key_add(set, SHARE_STATE, unit->state, 0, ref);
			share_key_add(set, SHARE_PLACE, "",
				      (uint64_t)d << 32 | unit->target << 16 | unit->lun, ref);
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

	return err_prefix(reterr, -EINVAL, "%s: %s", ref->owner->where,
			  unit_where(ref->unit->target, ref->unit->lun, where));
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
			"same %s: one unit",
			row->name, opts_text(row, other, buf_b, sizeof(buf_b)),
			opts_text(row, leader, buf_a, sizeof(buf_a)), a->owner->where,
			unit_where(a->unit->target, a->unit->lun, where),
			share_kind_keys[first->kind]);
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
		err_set(reterr, -EINVAL, "%s: given twice",
			unit_where(b->unit->target, b->unit->lun, where));
		return err_prefix(reterr, -EINVAL, "%s", b->owner->where);
	}
	if (share_leader(a->unit) == share_leader(b->unit))
		return 0;
	err_set(reterr, -EINVAL, "%s: '%.64s' is also that of %s: %s, another unit",
		share_kind_keys[first->kind], first->kind == SHARE_WWN ? b->unit->wwn : later->text,
		a->owner->where, unit_where(a->unit->target, a->unit->lun, where));
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
		if (first->kind == SHARE_NAME || first->kind == SHARE_FILE)
			rc = share_join(set, first, later, reterr);
		else
			rc = share_refuse(set, first, later, reterr);
	}
	return rc;
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
	return rc;
}
