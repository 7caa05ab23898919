/* One unit of a scsi device, as the command line or the configuration file has it. */
#include "app/unit.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/num.h"
#include "scsi/scsi.h"

#define ROW(key, kind, field, lo, hi, dflt, text)                                                  \
	DEF_ROW(unit_def, key, kind, field, lo, hi, dflt, text)

#define UNIT_PLACE_ROWS	 2 /* the first rows: where it is shown, not what it is */
#define UNIT_SERIAL_MAX	 64
#define UNIT_VENDOR_MAX	 8
#define UNIT_PRODUCT_MAX 16

static const struct opts_row unit_rows[] = {
	ROW("target", OPTS_U32, target, 0, SCSI_TARGETS_MAX - 1, NULL, "where it is shown"),
	ROW("lun", OPTS_U32, lun, 0, SCSI_LUNS_MAX - 1, NULL, "and as which unit of the target"),
	BACKEND_ROWS(unit_def, back),
	{ .name = "pi-type",
	  .type = OPTS_ENUM,
	  .offset = offsetof(struct unit_def, back.pi_type),
	  .names = backend_pi_names,
	  .def = "0",
	  .help = "keep protection information of this type (ram)" },
	ROW("serial", OPTS_STR, serial, 0, 0, NULL, "at most 64 characters; default: made of path"),
	ROW("wwn", OPTS_STR, wwn, 0, 0, NULL,
	    "NAA name, 16 hex digits; default: made of the serial number"),
	ROW("vendor", OPTS_STR, vendor, 0, 0, NULL, "at most 8 characters"),
	ROW("product", OPTS_STR, product, 0, 0, NULL, "at most 16 characters"),
	ROW("rotation-rpm", OPTS_U16, rotation_rpm, 0, 65534, "1", "0: not told, 1: no disc turns"),
	ROW("removable", OPTS_BOOL, removable, 0, 0, "off", "the guest may eject and load it"),
	ROW("physical-block-size", OPTS_U32, phys_bytes, 512, 1 << 20, NULL,
	    "physical block told to the guest, power of two; default: the back-end's"),
	ROW("state", OPTS_STR, state, 0, 0, NULL,
	    "file for what survives a restart, or none; default for an image file: its path and "
	    ".scsi-state"),
	ROW("share", OPTS_STR, share, 0, 0, NULL,
	    "units of this name are one, also across devices"),
};

const struct opts_table unit_table = {
	.what = "scsi unit",
	.rows = unit_rows,
	.count = ARRAY_SIZE(unit_rows),
};

int unit_init(struct unit_def *unit, struct err *reterr)
{
	memset(unit, 0, sizeof(*unit));
	return opts_defaults(&unit_table, unit, reterr);
}

void unit_fini(struct unit_def *unit)
{
	opts_free(&unit_table, unit);
}

int unit_set(struct unit_def *unit, const char *key, const char *value, struct err *reterr)
{
	int rc = opts_set(&unit_table, unit, key, value, reterr);

	for (size_t i = 0; rc == 0 && i < unit_table.count; i++)
		if (!strcmp(unit_rows[i].name, key))
			unit->given |= 1u << i;
	return rc;
}

static int unit_set_word(void *arg, const char *key, const char *value, struct err *reterr)
{
	return unit_set(arg, key, value, reterr);
}

int unit_parse(struct unit_def *unit, const char *text, struct err *reterr)
{
	size_t len = strcspn(text, ":");
	char where[UNIT_WHERE_MAX], *lun;
	int rc;

	snprintf(where, sizeof(where), "%.*s", (int)MIN(len, sizeof(where)), text);
	lun = strchr(where, '/');
	if (lun)
		*lun++ = '\0';
	if (!*where)
		return err_set(reterr, -EINVAL,
			       "target: expected N[/LUN]:KEY=VALUE:..., got '%.64s'", text);
	rc = unit_set(unit, "target", where, reterr);
	if (rc == 0 && lun)
		rc = unit_set(unit, "lun", lun, reterr);
	if (rc < 0 || !text[len])
		return rc;
	rc = opts_words(text + len + 1, ':', unit_set_word, unit, reterr);
	return rc < 0 ? err_prefix(reterr, rc, "%s", unit_where(unit->target, unit->lun, where))
		      : 0;
}

const char *unit_where(uint32_t target, uint32_t lun, char buf[UNIT_WHERE_MAX])
{
	if (lun)
		snprintf(buf, UNIT_WHERE_MAX, "target %u/%u", target, lun);
	else
		snprintf(buf, UNIT_WHERE_MAX, "target %u", target);
	return buf;
}

/* Text that goes into INQUIRY data (SPC-5, 4.3.1: ASCII, 20h to 7Eh). */
static int unit_check_text(const char *key, const char *text, size_t max, struct err *reterr)
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

/* The forms of a name of 64 bits begin with 2, 3 or 5 (SPC-5, 7.7.6.6). */
static int unit_check_wwn(struct unit_def *unit, struct err *reterr)
{
	const char *text = unit->wwn;

	if (!text)
		return 0;
	if (strlen(text) != 16 || strspn(text, "0123456789abcdefABCDEF") != 16)
		return err_set(reterr, -EINVAL, "wwn: expected 16 hex digits, got '%.64s'", text);
	if (!strchr("235", text[0]))
		return err_set(reterr, -EINVAL,
			       "wwn: expected the first digit (NAA) to be 2, 3 or 5, got '%s'",
			       text);
	unit->naa = strtoull(text, NULL, 16);
	return 0;
}

int unit_check(struct unit_def *unit, struct err *reterr)
{
	const unsigned rpm = unit->rotation_rpm;
	int rc = unit_check_text("serial", unit->serial, UNIT_SERIAL_MAX, reterr);

	if (rc == 0)
		rc = unit_check_wwn(unit, reterr);
	if (rc == 0)
		rc = unit_check_text("vendor", unit->vendor, UNIT_VENDOR_MAX, reterr);
	if (rc == 0)
		rc = unit_check_text("product", unit->product, UNIT_PRODUCT_MAX, reterr);
	if (rc == 0)
		rc = unit_check_text("share", unit->share, 64, reterr);
	if (rc < 0)
		return rc;
	if (unit->phys_bytes && !num_is_pow2(unit->phys_bytes))
		return err_set(reterr, -EINVAL,
			       "physical-block-size: expected a power of two, got %u",
			       unit->phys_bytes);
	/* SBC-4, 6.6.2: values between are reserved */
	if (rpm > 1 && rpm < 0x401)
		return err_set(reterr, -EINVAL,
			       "rotation-rpm: expected 0, 1 or 1025..65534, got %u", rpm);
	if (unit->state && !*unit->state)
		return err_set(reterr, -EINVAL, "state: expected a path or none, got ''");
	return 0;
}

int unit_copy(struct unit_def *dst, const struct unit_def *src, struct err *reterr)
{
	char buf[32];

	for (size_t i = UNIT_PLACE_ROWS; i < unit_table.count; i++) {
		const struct opts_row *row = &unit_rows[i];
		int rc;

		if (!(src->given & ~dst->given & 1u << i))
			continue;
		rc = unit_set(dst, row->name, opts_text(row, src, buf, sizeof(buf)), reterr);
		if (rc < 0)
			return rc;
	}
	dst->naa = dst->naa ? dst->naa : src->naa;
	return 0;
}

const struct opts_row *unit_differs(const struct unit_def *a, const struct unit_def *b,
				    bool only_given)
{
	char buf_a[32], buf_b[32];

	for (size_t i = UNIT_PLACE_ROWS; i < unit_table.count; i++) {
		const struct opts_row *row = &unit_rows[i];

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
