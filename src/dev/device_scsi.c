/* The scsi device: a SCSI host with units, which come and go while it runs. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev/devices.h"
#include "base/check.h"
#include "base/parcel.h"
#include "scsi/scsi.h"
#include "virtio/vdev.h"

#define LASTING_BYTES	      128
#define SCSI_INITIATOR_PREFIX "iqn.2026-01.io.vhostd:"
#define SCSI_INITIATOR_MAX    (SCSI_NAME_MAX - sizeof("-64") + 1)

static const struct opts_row device_scsi_rows[] = {
	DEVICE_VIRTIO_ROWS(253),
	DEF_ROW(device_def, "initiator", OPTS_STR, initiator, 0, 0, NULL,
		"initiator port's name, for reservations; with connections above 1, -1, -2 ... are "
		"appended; default: " SCSI_INITIATOR_PREFIX "NAME, without a name the socket path"),
};

static const struct opts_table device_scsi_table = {
	.what = "scsi device",
	.rows = device_scsi_rows,
	.count = ARRAY_SIZE(device_scsi_rows),
};

/*
 * What registrations that survive a restart know the device by. A name that we made ("scsi0") goes
 * by the place in the command line; the socket's path stays.
 */
static const char *device_scsi_lasting_name(const struct device_def *def, char buf[LASTING_BYTES])
{
	const char *path = def->socket;
	size_t len;

	if (!def->name_made || !path)
		return def->name;
	len = strlen(path);
	if (len >= LASTING_BYTES) {
		path += len - (LASTING_BYTES - 1);
		len = LASTING_BYTES - 1;
	}
	for (size_t i = 0; i <= len; i++)
		buf[i] = (char)(!path[i] || isalnum((unsigned char)path[i]) || path[i] == '.'
					? path[i]
					: '-');
	return buf;
}

static int device_scsi_initiator(const struct device_def *def, uint32_t slot,
				 char buf[SCSI_NAME_MAX + 1])
{
	char number[8] = "", lasting[LASTING_BYTES];
	int n;

	if (def->connections > 1)
		snprintf(number, sizeof(number), "-%u", slot);
	n = snprintf(buf, SCSI_NAME_MAX + 1, "%s%s%s", def->initiator ? "" : SCSI_INITIATOR_PREFIX,
		     def->initiator ? def->initiator : device_scsi_lasting_name(def, lasting),
		     number);
	return n <= SCSI_NAME_MAX ? 0 : -ENAMETOOLONG;
}

static int device_scsi_check(struct device_def *def, struct err *reterr)
{
	const char *name = def->initiator;
	char buf[SCSI_NAME_MAX + 1];

	if (name && (!*name || strlen(name) > SCSI_INITIATOR_MAX))
		return err_set(reterr, -EINVAL, "initiator: expected 1..%zu characters, got %zu",
			       SCSI_INITIATOR_MAX, strlen(name));
	for (size_t i = 0; name && name[i]; i++)
		if (name[i] <= 0x20 || name[i] > 0x7e || name[i] == ',')
			return err_set(reterr, -EINVAL,
				       "initiator: expected printable ASCII without spaces and "
				       "commas, got byte 0x%02x",
				       (unsigned char)name[i]);
	if (device_scsi_initiator(def, def->connections, buf) < 0)
		return err_set(reterr, -EINVAL,
			       "name: expected at most %zu characters for the initiator's name, "
			       "got %zu",
			       SCSI_INITIATOR_MAX - strlen(SCSI_INITIATOR_PREFIX),
			       strlen(def->name));
	return 0;
}

static int device_scsi_open(struct device *dev, struct err *reterr)
{
	char lasting[LASTING_BYTES];
	int rc = scsi_host_new(device_scsi_lasting_name(dev->def, lasting), &dev->host, reterr);

	if (rc < 0)
		return rc;
	scsi_host_limits_set(dev->host, dev->limits);
	return device_units_open(dev, reterr);
}

/* No nexus is open: the host lets its units go itself. */
static void device_scsi_close(struct device *dev)
{
	if (dev->host)
		scsi_host_unref(dev->host);
	dev->host = NULL;
	device_units_free(dev);
}

static int device_scsi_vdev_make(void *arg, struct vdev **ret_vdev, struct err *reterr)
{
	struct device *dev = arg;
	const struct device_def *def = dev->def;
	char initiator[SCSI_NAME_MAX + 1];
	const struct vscsi_params params = {
		.name = def->name,
		.initiator_name = initiator,
		.num_queues = def->num_queues,
		.queue_size_max = def->queue_size,
		.seg_max = def->seg_max,
	};
	int rc = -EEXIST;

	/* the lowest free number: a guest that comes back finds its registrations */
	for (uint32_t slot = 1; slot <= def->connections && rc == -EEXIST; slot++) {
		device_scsi_initiator(def, slot, initiator);
		rc = vscsi_new(dev->host, &params, ret_vdev, reterr);
	}
	return rc;
}

/*
 * ---- hand-over ----
 *
 *   for each unit that no device before shows   "unit": target, lun, its text (scsi_lu_pack)
 */

#define SCSI_UNIT_TAG	  "unit"
#define SCSI_UNIT_VERSION 1

static int device_scsi_hand_check(const struct device *dev, struct err *reterr)
{
	const struct device_unit *unit;
	int rc = 0;

	list_for_each(unit, &dev->units, node)
		if (rc == 0)
			rc = scsi_lu_hand_check(unit->open->lu, reterr);
	return rc;
}

static bool device_scsi_is_quiet(const struct device *dev)
{
	const struct device_unit *unit;

	list_for_each(unit, &dev->units, node)
		if (!scsi_lu_is_quiet(unit->open->lu))
			return false;
	return true;
}

/* Shared units go with the first place that shows them. */
static bool device_scsi_is_first(struct device *dev, const struct device_unit *unit)
{
	for (struct device *d = devices_next(NULL); d && unit->open->refs > 1;
	     d = devices_next(d)) {
		const struct device_unit *other;

		list_for_each(other, &d->units, node) {
			if (other == unit)
				return true;
			if (other->open == unit->open)
				return false;
		}
		if (d == dev)
			break;
	}
	return true;
}

static int device_scsi_pack(struct device *dev, struct parcel *p, struct err *reterr)
{
	const struct device_unit *unit;
	struct parcel_section s;
	int rc = 0;

	list_for_each(unit, &dev->units, node) {
		char *text = NULL;
		size_t len;

		if (!device_scsi_is_first(dev, unit))
			continue;
		rc = scsi_lu_pack(unit->open->lu, &text, &len, reterr);
		if (rc < 0)
			return rc;
		parcel_section_begin(p, &s, SCSI_UNIT_TAG, SCSI_UNIT_VERSION);
		parcel_put_u32(p, unit->place.number);
		parcel_put_u32(p, unit->place.lun);
		parcel_put_str(p, text);
		parcel_section_done(p, &s);
		free(text);
	}
	return 0;
}

static int device_scsi_unit_unpack(struct device *dev, struct parcel *p, struct err *reterr)
{
	const uint32_t target = parcel_take_u32(p), lun = parcel_take_u32(p);
	const struct device_unit *unit = device_unit_find(dev, target, lun);
	char *text = parcel_take_str(p);
	int rc;

	if (!text)
		rc = err_set(reterr, -EPROTO, "a unit's state is cut off");
	else if (!unit)
		rc = err_set(reterr, -EINVAL,
			     "target %u/%u: it has a unit there, and none is configured now",
			     target, lun);
	else
		rc = scsi_lu_unpack(unit->open->lu, text, strlen(text), reterr);
	free(text);
	return rc;
}

static int device_scsi_unpack(struct device *dev, struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc = 0;

	while (rc == 0 && parcel_section_is_next(p, SCSI_UNIT_TAG)) {
		rc = parcel_section_enter(p, &s, SCSI_UNIT_TAG, SCSI_UNIT_VERSION, reterr);
		if (rc == 0)
			rc = device_scsi_unit_unpack(dev, p, reterr);
		if (rc == 0)
			rc = parcel_section_end(p, &s, SCSI_UNIT_TAG, reterr);
	}
	return rc;
}

const struct device_type device_scsi = {
	.name = "scsi",
	.table = &device_scsi_table,
	.units = &unit_scsi,
	.fronts = { [TRANSPORT_VHOST_USER] = &front_vhost, [TRANSPORT_VFIO_USER] = &front_vfu },
	.check = device_scsi_check,
	.open = device_scsi_open,
	.release = device_scsi_close,
	.close = device_scsi_close,
	.rescan = device_units_rescan,
	.vdev_make = device_scsi_vdev_make,
	.vfu_make = front_vfu_virtio_make,
	.hand_check = device_scsi_hand_check,
	.is_quiet = device_scsi_is_quiet,
	.pack = device_scsi_pack,
	.unpack = device_scsi_unpack,
};
