/* The units of scsi devices: logical units, each shown in one place or several. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev/bdev.h"
#include "dev/device.h"
#include "dev/unit.h"
#include "base/check.h"
#include "base/num.h"
#include "base/text.h"
#include "scsi/scsi.h"

#define ROW(key, kind, field, lo, hi, dflt, text)                                                  \
	DEF_ROW(unit_def, key, kind, field, lo, hi, dflt, text)

#define UNIT_SERIAL_MAX	 64
#define UNIT_VENDOR_MAX	 8
#define UNIT_PRODUCT_MAX 16

static const struct opts_row unit_scsi_rows[] = {
	ROW("target", OPTS_U32, place.number, 0, SCSI_TARGETS_MAX - 1, NULL, "where it is shown"),
	ROW("lun", OPTS_U32, place.lun, 0, SCSI_LUNS_MAX - 1, NULL,
	    "and as which unit of the target"),
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

static const struct opts_table unit_scsi_table = {
	.what = "scsi unit",
	.rows = unit_scsi_rows,
	.count = ARRAY_SIZE(unit_scsi_rows),
};

/* The forms of a name of 64 bits begin with 2, 3 or 5 (SPC-5, 7.7.6.6). */
static int unit_scsi_check_wwn(struct unit_def *unit, struct err *reterr)
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

static int unit_scsi_check(struct unit_def *unit, struct err *reterr)
{
	const unsigned rpm = unit->rotation_rpm;
	int rc = unit_check_text("serial", unit->serial, UNIT_SERIAL_MAX, reterr);

	if (rc == 0)
		rc = unit_scsi_check_wwn(unit, reterr);
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
	return 0;
}

/* ---- open units ---- */

static void unit_scsi_name(const struct unit_def *unit, const struct device_def *owner, char *buf,
			   size_t size)
{
	if (unit->share)
		snprintf(buf, size, "%s", unit->share);
	else
		snprintf(buf, size, "%.96s-%u-%u", owner->name, unit->place.number,
			 unit->place.lun);
}

/* And not one that was deleted and made again under its name. */
static bool unit_scsi_same_bdev(const struct unit_open *open, const struct unit_def *unit)
{
	const struct bdev *bdev = unit->back.bdev && open->blk ? bdev_find(unit->back.bdev) : NULL;

	return bdev && bdev_of(open->blk) == bdev;
}

/* By its share name, its image or its bdev. */
static bool unit_scsi_same(const struct unit_open *open, const struct unit_def *unit,
			   const struct device *dev)
{
	const struct unit_def *def = &open->def;

	return (unit->share && def->share && !strcmp(unit->share, def->share)) ||
	       (unit->back.file && def->back.file && !strcmp(unit->back.file, def->back.file)) ||
	       unit_scsi_same_bdev(open, unit);
}

/* Of the text and its end, so that where one text ends and the next begins counts. */
static uint64_t unit_scsi_hash(uint64_t hash, const char *text)
{
	return text_hash(hash, text) * 0x100000001b3ull;
}

/*
 * A serial number for a unit that was given none. Guests take two disks of one serial number for
 * two ways to one disk, so it must differ from that of each other vhostd on this host: made of the
 * image's path or the bdev's UUID, or of the socket and the place.
 */
static void unit_scsi_serial_make(const struct unit_def *unit, const struct device_def *owner,
				  char ret_serial[17])
{
	uint64_t hash = TEXT_HASH_START;
	char where[UNIT_WHERE_MAX], *lasting = backend_identity(&unit->back);

	if (lasting) {
		hash = unit_scsi_hash(hash, lasting);
	} else {
		hash = unit_scsi_hash(hash, owner->socket ? owner->socket : owner->name);
		hash = unit_scsi_hash(hash, unit_where(&unit->place, where));
	}
	free(lasting);
	snprintf(ret_serial, 17, "%016llx", (unsigned long long)hash);
}

static int unit_scsi_open(struct unit_open *open, const char *name, const struct device *dev,
			  struct err *reterr)
{
	const struct unit_def *def = &open->def;
	char serial[17];
	struct scsi_lu_params params = {
		.name = name,
		.dev = open->blk,
		.serial = def->serial,
		.wwn = def->naa,
		.vendor = def->vendor,
		.product = def->product,
		.read_only = def->back.read_only,
		.rotation_rpm = def->rotation_rpm,
		.removable = def->removable,
		.phys_bytes = def->phys_bytes,
		.state_path = open->state_path,
		.closed = unit_open_on_closed,
		.arg = open,
	};

	if (!def->serial) {
		unit_scsi_serial_make(def, dev->def, serial);
		params.serial = serial;
	}
	return scsi_lu_new(&params, &open->lu, reterr);
}

static void unit_scsi_close(struct unit_open *open)
{
	struct blk_dev *blk = open->blk;

	open->blk = NULL;
	backend_close(blk); /* the logical unit has its own reference */
	scsi_lu_unref(open->lu);
}

static int unit_scsi_attach(struct device_unit *unit, struct err *reterr)
{
	return scsi_host_attach(unit->dev->host, unit->place.number, unit->place.lun,
				unit->open->lu, reterr);
}

static int unit_scsi_detach(struct device_unit *unit, void (*done)(void *unit), struct err *reterr)
{
	return scsi_host_detach(unit->dev->host, unit->place.number, unit->place.lun, done, unit,
				reterr);
}

const struct unit_kind unit_scsi = {
	.table = &unit_scsi_table,
	.place_rows = 2,
	.key = "target",
	.form = "N[/LUN]",
	.list_key = "targets",
	.noun = "unit",
	.docs = "And its units: `target=N[/LUN]:KEY=VALUE:...` on the command line, as often as "
		"there are\n"
		"units (a colon in a value is written `\\:`, a comma `\\,`); in the JSON file\n"
		"`\"targets\": [{\"target\": 0, \"lun\": 0, \"file\": \"/srv/a.img\"}, ...]`.\n"
		"Units that have a `share` name, an image's path or a bdev in common, of one "
		"device or several, are one\n"
		"unit: opened once, with the same reservations; what they say of it adds up.\n",
	.check = unit_scsi_check,
	.state_suffix = ".scsi-state",
	.name = unit_scsi_name,
	.same = unit_scsi_same,
	.open = unit_scsi_open,
	.close = unit_scsi_close,
	.attach = unit_scsi_attach,
	.detach = unit_scsi_detach,
};
