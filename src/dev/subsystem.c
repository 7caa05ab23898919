/* Which nvme devices are controllers of one subsystem, and what they say of it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/device.h"
#include "base/check.h"

/* The parameters that are the subsystem's; unique: no two subsystems have the same. */
static const struct {
	const char *key;
	bool unique;
} subsystem_keys[] = {
	{ "serial", false }, { "model", false },  { "nqn", true },
	{ "state", true },   { "ns-pool", true }, { "ns-pool-size", false },
};

const char *device_nvme_lasting_name(const struct device_def *def)
{
	if (def->subsystem)
		return def->subsystem;
	return def->name_made && def->socket ? def->socket : def->name;
}

static const struct opts_row *subsystem_row(const struct device_def *def, const char *key,
					    uint64_t *ret_bit)
{
	const struct opts_table *table = def->type->table;

	for (size_t i = 0; i < table->count; i++) {
		if (strcmp(table->rows[i].name, key) != 0)
			continue;
		*ret_bit = 1ull << i;
		return &table->rows[i];
	}
	UNREACHABLE();
}

/* Adds what def says of the subsystem to what the leader says. */
static int subsystem_join(struct device_def *leader, const struct device_def *def,
			  struct err *reterr)
{
	char old[32], new[32];

	for (size_t i = 0; i < ARRAY_SIZE(subsystem_keys); i++) {
		uint64_t bit;
		const struct opts_row *row = subsystem_row(def, subsystem_keys[i].key, &bit);
		const char *new_text = opts_text(row, def, new, sizeof(new));
		const char *old_text = opts_text(row, leader, old, sizeof(old));
		int rc;

		if (!(def->given & bit))
			continue;
		if (leader->given & bit && strcmp(old_text, new_text) != 0)
			return err_set(reterr, -EINVAL,
				       "%s: '%.64s' is not the '%.64s' of %s, which has the same "
				       "subsystem",
				       row->name, new_text, old_text, leader->where);
		rc = device_def_set(leader, row->name, new_text, reterr);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int subsystem_check_unique(const struct device_def *a, const struct device_def *b,
				  struct err *reterr)
{
	char buf_a[32], buf_b[32];

	for (size_t i = 0; i < ARRAY_SIZE(subsystem_keys); i++) {
		uint64_t bit;
		const struct opts_row *row = subsystem_row(a, subsystem_keys[i].key, &bit);
		const char *text = opts_text(row, b, buf_b, sizeof(buf_b));

		if (!subsystem_keys[i].unique || !(a->given & b->given & bit) ||
		    !strcmp(text, "none") ||
		    strcmp(opts_text(row, a, buf_a, sizeof(buf_a)), text) != 0)
			continue;
		return err_set(reterr, -EINVAL,
			       "%s: '%.64s' is also that of %s, another subsystem: give both "
			       "devices the same subsystem=NAME",
			       row->name, text, a->where);
	}
	return 0;
}

/* Namespaces are in one place: with the leader. */
static int subsystem_units_move(struct device_def *leader, struct device_def *def,
				struct err *reterr)
{
	for (uint32_t u = 0; u < def->unit_count; u++) {
		struct unit_def *unit;
		int rc = device_unit_add(leader, &unit, reterr);

		if (rc < 0)
			return rc;
		unit_fini(unit);
		*unit = def->units[u];
		/* what is left there owns nothing */
		memset(&def->units[u], 0, sizeof(def->units[u]));
		def->units[u].place.kind = unit->place.kind;
	}
	def->unit_count = 0;
	return 0;
}

static int subsystem_resolve(struct device_def *defs, struct device_def *def, struct err *reterr)
{
	int rc = 0;

	for (struct device_def *other = defs; other < def && rc == 0; other++) {
		if (other->type != &device_nvme || other->leader)
			continue;
		if (!def->subsystem || !other->subsystem ||
		    strcmp(other->subsystem, def->subsystem) != 0) {
			rc = subsystem_check_unique(other, def, reterr);
			continue;
		}
		def->leader = other;
		rc = subsystem_join(other, def, reterr);
		return rc < 0 ? rc : subsystem_units_move(other, def, reterr);
	}
	return rc;
}

int subsystems_resolve(struct device_def *defs, uint32_t def_count, struct err *reterr)
{
	for (uint32_t d = 0; d < def_count; d++)
		for (uint32_t u = 0; u < defs[d].unit_count; u++)
			defs[d].units[u].owner = &defs[d];
	for (uint32_t d = 0; d < def_count; d++) {
		int rc;

		if (defs[d].type != &device_nvme)
			continue;
		rc = subsystem_resolve(defs, &defs[d], reterr);
		if (rc < 0)
			return err_prefix(reterr, rc, "%s", defs[d].where);
	}
	return 0;
}
