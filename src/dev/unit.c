/* One unit of a device, as the command line or the configuration file has it. */
#include "dev/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/num.h"

int unit_init(struct unit_def *unit, const struct unit_kind *kind, struct err *reterr)
{
	memset(unit, 0, sizeof(*unit));
	unit->place.kind = kind;
	return opts_defaults(kind->table, unit, reterr);
}

void unit_fini(struct unit_def *unit)
{
	opts_free(unit->place.kind->table, unit);
}

int unit_set(struct unit_def *unit, const char *key, const char *value, struct err *reterr)
{
	const struct opts_table *table = unit->place.kind->table;
	int rc = opts_set(table, unit, key, value, reterr);

	for (size_t i = 0; rc == 0 && i < table->count; i++)
		if (!strcmp(table->rows[i].name, key))
			unit->given |= 1u << i;
	return rc;
}

static int unit_set_word(void *arg, const char *key, const char *value, struct err *reterr)
{
	return unit_set(arg, key, value, reterr);
}

int unit_parse(struct unit_def *unit, const char *text, struct err *reterr)
{
	const struct unit_kind *kind = unit->place.kind;
	const struct opts_row *rows = kind->table->rows;
	size_t len = strcspn(text, ":");
	char where[UNIT_WHERE_MAX], *lun;
	int rc;

	snprintf(where, sizeof(where), "%.*s", (int)MIN(len, sizeof(where)), text);
	lun = kind->place_rows > 1 ? strchr(where, '/') : NULL;
	if (lun)
		*lun++ = '\0';
	if (!*where)
		return err_set(reterr, -EINVAL, "%s: expected %s:KEY=VALUE:..., got '%.64s'",
			       kind->key, kind->form, text);
	rc = unit_set(unit, rows[0].name, where, reterr);
	if (rc == 0 && lun)
		rc = unit_set(unit, rows[1].name, lun, reterr);
	if (rc < 0 || !text[len])
		return rc;
	rc = opts_words(text + len + 1, ':', unit_set_word, unit, reterr);
	return rc < 0 ? err_prefix(reterr, rc, "%s", unit_where(&unit->place, where)) : 0;
}

const char *unit_where(const struct unit_place *place, char buf[UNIT_WHERE_MAX])
{
	if (place->lun)
		snprintf(buf, UNIT_WHERE_MAX, "%s %u/%u", place->kind->key, place->number,
			 place->lun);
	else
		snprintf(buf, UNIT_WHERE_MAX, "%s %u", place->kind->key, place->number);
	return buf;
}

int unit_place_order(const struct unit_place *a, const struct unit_place *b)
{
	int order = (a->number > b->number) - (a->number < b->number);

	return order ? order : (a->lun > b->lun) - (a->lun < b->lun);
}

/* Text that goes into INQUIRY data (SPC-5, 4.3.1) and Identify data: ASCII, 20h to 7Eh. */
int unit_check_text(const char *key, const char *text, size_t max, struct err *reterr)
{
	size_t len = text ? strlen(text) : 0;

	if (text && (!len || len > max))
		return err_set(reterr, -EINVAL, "%s: expected 1..%zu characters, got %zu", key, max,
			       len);
	for (size_t i = 0; i < len; i++)
		if (text[i] < 0x20 || text[i] > 0x7e)
			return err_set(reterr, -EINVAL,
				       "%s: expected printable ASCII, got byte 0x%02x", key,
				       (unsigned char)text[i]);
	return 0;
}

int unit_check(struct unit_def *unit, struct err *reterr)
{
	int rc = unit->place.kind->check(unit, reterr);

	if (rc == 0 && unit->state && !*unit->state)
		return err_set(reterr, -EINVAL, "state: expected a path or none, got ''");
	return rc;
}

int unit_copy(struct unit_def *dst, const struct unit_def *src, struct err *reterr)
{
	const struct opts_table *table = dst->place.kind->table;
	char buf[32];

	for (size_t i = dst->place.kind->place_rows; i < table->count; i++) {
		const struct opts_row *row = &table->rows[i];
		int rc;

		if (!(src->given & ~dst->given & 1u << i))
			continue;
		rc = unit_set(dst, row->name, opts_text(row, src, buf, sizeof(buf)), reterr);
		if (rc < 0)
			return rc;
	}
	return dst->place.kind->check(dst, reterr);
}

const struct opts_row *unit_differs(const struct unit_def *a, const struct unit_def *b,
				    bool only_given)
{
	const struct opts_table *table = a->place.kind->table;
	char buf_a[32], buf_b[32];

	for (size_t i = a->place.kind->place_rows; i < table->count; i++) {
		const struct opts_row *row = &table->rows[i];

		if (only_given && !(a->given & b->given & 1u << i))
			continue;
		if (strcmp(opts_text(row, a, buf_a, sizeof(buf_a)),
			   opts_text(row, b, buf_b, sizeof(buf_b))) != 0)
			return row;
	}
	return NULL;
}

const struct unit_def *unit_leader(const struct unit_def *unit)
{
	while (unit->leader)
		unit = unit->leader;
	return unit;
}
