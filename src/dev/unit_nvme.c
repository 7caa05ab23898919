/* The units of nvme devices: namespaces, each in one subsystem, which all its controllers show. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev/device.h"
#include "dev/unit.h"
#include "base/check.h"
#include "nvme/subsys.h"

#define ROW(key, kind, field, lo, hi, dflt, text)                                                  \
	DEF_ROW(unit_def, key, kind, field, lo, hi, dflt, text)

static const struct opts_row unit_nvme_rows[] = {
	ROW("nsid", OPTS_U32, place.number, 1, NVME_NSID_MAX, "1", "namespace identifier"),
	BACKEND_ROWS(unit_def, back),
	ROW("uuid", OPTS_STR, uuid, 0, 0, NULL,
	    "8-4-4-4-12 hex digits; default: made of the path, or of subsystem and nsid"),
	ROW("nguid", OPTS_STR, nguid, 0, 0, NULL, "32 hex digits; default: made in the same way"),
	ROW("eui64", OPTS_STR, eui64, 0, 0, NULL, "16 hex digits; default: none"),
	ROW("state", OPTS_STR, state, 0, 0, NULL,
	    "file for reservations and blocks marked bad, or none; default for an image file that "
	    "is not read-only: its path and .nvme-state"),
};

static const struct opts_table unit_nvme_table = {
	.what = "nvme namespace",
	.rows = unit_nvme_rows,
	.count = ARRAY_SIZE(unit_nvme_rows),
};

static unsigned unit_nvme_digit(char c)
{
	return (unsigned)(isdigit((unsigned char)c) ? c - '0' : c - 'a' + 10);
}

/*
 * Hex digits to len bytes; groups: lengths between hyphens, as text of one character each, NULL:
 * none. The text becomes lower case, so that equal names are equal texts. All zero means "none" on
 * the wire (base 5.15.2.3), so it is no name.
 */
static int unit_nvme_hex(const char *key, char *text, const char *groups, uint8_t *ret_bytes,
			 size_t len, struct err *reterr)
{
	const char *form = groups ? "8-4-4-4-12" : len == 16 ? "32" : "16";
	size_t digits = 0, in_group = 0;
	bool any = false;

	memset(ret_bytes, 0, len);
	if (!text)
		return 0;
	for (char *c = text; *c; c++) {
		if (groups && groups[1] && in_group == unit_nvme_digit(*groups) && *c == '-') {
			groups++;
			in_group = 0;
			continue;
		}
		*c = (char)tolower((unsigned char)*c);
		if (!isxdigit((unsigned char)*c) || digits == 2 * len ||
		    (groups && in_group == unit_nvme_digit(*groups)))
			goto refused;
		ret_bytes[digits / 2] |= (uint8_t)(unit_nvme_digit(*c) << (digits % 2 ? 0 : 4));
		any = any || *c != '0';
		digits++;
		in_group++;
	}
	if (digits == 2 * len && any)
		return 0;
refused:
	return err_set(reterr, -EINVAL, "%s: expected %s hex digits, not all 0, got '%.64s'", key,
		       form, text);
}

static int unit_nvme_check(struct unit_def *unit, struct err *reterr)
{
	int rc = unit_nvme_hex("uuid", unit->uuid, "8444c", unit->uuid_bytes, 16, reterr);

	if (rc == 0)
		rc = unit_nvme_hex("nguid", unit->nguid, NULL, unit->nguid_bytes, 16, reterr);
	if (rc == 0)
		rc = unit_nvme_hex("eui64", unit->eui64, NULL, unit->eui64_bytes, 8, reterr);
	return rc;
}

/* ---- open units ---- */

static void unit_nvme_name(const struct unit_def *unit, const struct device_def *owner, char *buf,
			   size_t size)
{
	snprintf(buf, size, "%.96s-ns%u", owner->name, unit->place.number);
}

/*
 * At the same place, or with the same image, of which the file's lock lets many read and one write.
 */
static bool unit_nvme_same(const struct unit_open *open, const struct unit_def *unit,
			   const struct device *dev)
{
	const struct unit_def *def = &open->def;

	if (open->subsys == dev->subsys && def->place.number == unit->place.number)
		return true;
	return def->back.file && unit->back.file && !strcmp(def->back.file, unit->back.file) &&
	       !(def->back.read_only && unit->back.read_only);
}

/* The reference keeps the subsystem until the namespace has left it. */
static int unit_nvme_open(struct unit_open *open, const char *name, const struct device *dev,
			  struct err *reterr)
{
	open->subsys = nvme_subsys_ref(dev->subsys);
	return 0;
}

static void unit_nvme_on_removed(void *arg)
{
	struct unit_open *open = arg;

	nvme_subsys_unref(open->subsys);
	unit_open_on_closed(open);
}

static void unit_nvme_close(struct unit_open *open)
{
	if (open->ns)
		nvme_ns_remove(open->ns, unit_nvme_on_removed, open);
	else
		unit_nvme_on_removed(open);
}

static int unit_nvme_attach(struct device_unit *unit, struct err *reterr)
{
	struct unit_open *open = unit->open;
	const struct unit_def *def = &open->def;
	char *lasting = backend_identity(&def->back), place[192];
	const struct nvme_ns_params params = {
		.nsid = def->place.number,
		.dev = open->blk,
		.uuid = def->uuid ? def->uuid_bytes : NULL,
		.nguid = def->nguid ? def->nguid_bytes : NULL,
		.eui64 = def->eui64 ? def->eui64_bytes : NULL,
		.identity = lasting ? lasting : place,
		.read_only = def->back.read_only,
		.state_path = open->state_path,
	};
	int rc;

	snprintf(place, sizeof(place), "%.160s/%u", device_nvme_lasting_name(unit->dev->def),
		 def->place.number);
	rc = nvme_ns_add(open->subsys, &params, &open->ns, reterr);
	free(lasting);
	return rc;
}

const struct unit_kind unit_nvme = {
	.table = &unit_nvme_table,
	.place_rows = 1,
	.key = "ns",
	.form = "NSID",
	.list_key = "namespaces",
	.noun = "namespace",
	.docs = "And its namespaces: `ns=NSID:KEY=VALUE:...` on the command line, as often as "
		"there are\n"
		"namespaces (a colon in a value is written `\\:`, a comma `\\,`); in the JSON "
		"file\n"
		"`\"namespaces\": [{\"nsid\": 1, \"file\": \"/srv/a.img\"}, ...]`.\n"
		"Devices of the same `subsystem` are controllers of one subsystem: they all show "
		"all its\n"
		"namespaces, whichever of them gives these (one is enough), and share "
		"reservations. "
		"What they\n"
		"say of the subsystem or of one namespace adds up. A guest that has two of them "
		"has "
		"two paths.\n",
	.check = unit_nvme_check,
	.state_suffix = ".nvme-state",
	.state_written = true,
	.name = unit_nvme_name,
	.same = unit_nvme_same,
	.open = unit_nvme_open,
	.close = unit_nvme_close,
	.attach = unit_nvme_attach,
};
