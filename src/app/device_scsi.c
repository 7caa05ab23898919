/* The scsi device: a SCSI host with units, which come and go while it runs. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/device.h"
#include "base/check.h"
#include "scsi/scsi.h"
#include "virtio/vdev.h"

#define LASTING_BYTES	      128
#define SCSI_INITIATOR_PREFIX "iqn.2026-01.io.vhostd:"
#define SCSI_INITIATOR_MAX    (SCSI_NAME_MAX - sizeof("-64") + 1)

static const struct opts_row device_scsi_rows[] = {
	DEVICE_ROWS(253),
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
	char buf[SCSI_NAME_MAX + 1], where[UNIT_WHERE_MAX];

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
	for (uint32_t i = 0; i < def->unit_count; i++) {
		int rc = unit_check(&def->units[i], reterr);

		if (rc < 0)
			return err_prefix(
				reterr, rc, "%s",
				unit_where(def->units[i].target, def->units[i].lun, where));
	}
	return 0;
}

/* ---- units ---- */

int device_unit_new(struct device *dev, const struct unit_def *def, struct device_unit **ret_unit,
		    struct err *reterr)
{
	struct device_unit *unit = calloc(1, sizeof(*unit));
	int rc;

	if (!unit)
		return err_set(reterr, -ENOMEM, "out of memory");
	unit->dev = dev;
	unit->target = def->target;
	unit->lun = def->lun;
	list_init(&unit->node);
	rc = unit_open(def, dev->def, &unit->open, reterr);
	if (rc < 0) {
		free(unit);
		return rc;
	}
	*ret_unit = unit;
	return 0;
}

void device_unit_free(struct device_unit *unit)
{
	list_remove(&unit->node);
	unit_close(unit->open);
	free(unit);
}

int device_unit_attach(struct device_unit *unit, struct err *reterr)
{
	struct device *dev = unit->dev;
	int rc = scsi_host_attach(dev->host, unit->target, unit->lun, unit_open_lu(unit->open),
				  reterr);

	if (rc < 0)
		return rc;
	list_remove(&unit->node);
	list_append(&dev->units, &unit->node);
	return 0;
}

static void device_unit_on_detached(void *arg)
{
	struct device_unit *unit = arg;
	struct device *dev = unit->dev;

	device_unit_free(unit);
	dev->leaving--;
	device_on_left(dev);
}

int device_unit_detach(struct device_unit *unit, struct err *reterr)
{
	int rc;

	unit->leaving = true;
	unit->dev->leaving++;
	rc = scsi_host_detach(unit->dev->host, unit->target, unit->lun, device_unit_on_detached,
			      unit, reterr);
	if (rc < 0) {
		unit->leaving = false;
		unit->dev->leaving--;
	}
	return rc;
}

/* ---- the device ---- */

static int device_scsi_open(struct device *dev, struct err *reterr)
{
	const struct device_def *def = dev->def;
	char where[UNIT_WHERE_MAX], lasting[LASTING_BYTES];
	int rc = scsi_host_new(device_scsi_lasting_name(def, lasting), &dev->host, reterr);

	for (uint32_t i = 0; i < def->unit_count && rc == 0; i++) {
		struct device_unit *unit;

		rc = device_unit_new(dev, &def->units[i], &unit, reterr);
		if (rc == 0) {
			rc = device_unit_attach(unit, reterr);
			if (rc < 0)
				device_unit_free(unit);
		}
		if (rc < 0)
			err_prefix(reterr, rc, "%s",
				   unit_where(def->units[i].target, def->units[i].lun, where));
	}
	return rc;
}

/* No nexus is open: the host lets its units go itself. */
static void device_scsi_close(struct device *dev)
{
	struct list *node;

	if (dev->host)
		scsi_host_unref(dev->host);
	dev->host = NULL;
	while ((node = list_pop(&dev->units)) != NULL)
		device_unit_free(list_entry(node, struct device_unit, node));
}

static int device_scsi_rescan(struct device *dev, struct err *reterr)
{
	struct device_unit *unit;
	int rc = 0;

	list_for_each(unit, &dev->units, node) {
		struct err err = { 0 };
		char where[UNIT_WHERE_MAX];

		/* all are looked at; the first failure is told */
		if (unit_open_rescan(unit->open, &err) == 0 || rc < 0)
			continue;
		rc = err_set(reterr, err.code, "%s: %s", unit_where(unit->target, unit->lun, where),
			     err.msg);
	}
	return rc;
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

const struct device_type device_scsi = {
	.name = "scsi",
	.table = &device_scsi_table,
	.has_units = true,
	.check = device_scsi_check,
	.open = device_scsi_open,
	.release = device_scsi_close,
	.close = device_scsi_close,
	.rescan = device_scsi_rescan,
	.vdev_make = device_scsi_vdev_make,
};
