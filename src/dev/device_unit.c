/* The units of a running device: opened, shown, taken away. Thread: main. */
#include <errno.h>
#include <stdlib.h>

#include "dev/device.h"
#include "base/check.h"

int device_unit_new(struct device *dev, const struct unit_def *def, struct device_unit **ret_unit,
		    struct err *reterr)
{
	struct device_unit *unit = calloc(1, sizeof(*unit));
	int rc;

	if (!unit)
		return err_set(reterr, -ENOMEM, "out of memory");
	unit->dev = dev;
	unit->place = def->place;
	list_init(&unit->node);
	rc = unit_open(def, dev, &unit->open, reterr);
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
	unit_close(unit->open, unit->left, unit->left_arg);
	free(unit);
}

int device_unit_attach(struct device_unit *unit, struct err *reterr)
{
	struct device *dev = unit->dev;
	int rc = unit->place.kind->attach(unit, reterr);

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

	if (!unit->place.kind->detach) {
		device_unit_free(unit);
		return 0;
	}
	unit->leaving = true;
	unit->dev->leaving++;
	rc = unit->place.kind->detach(unit, device_unit_on_detached, reterr);
	if (rc < 0) {
		unit->leaving = false;
		unit->dev->leaving--;
	}
	return rc;
}

int device_unit_leave(struct device_unit *unit, void (*left)(void *arg), void *arg,
		      struct err *reterr)
{
	int rc;

	unit->left = left;
	unit->left_arg = arg;
	rc = device_unit_detach(unit, reterr);
	if (rc < 0)
		unit->left = NULL;
	return rc;
}

struct device_unit *device_unit_find(struct device *dev, uint32_t number, uint32_t lun)
{
	struct device_unit *unit;

	list_for_each(unit, &dev->units, node)
		if (!unit->leaving && unit->place.number == number && unit->place.lun == lun)
			return unit;
	return NULL;
}

int device_units_open(struct device *dev, struct err *reterr)
{
	const struct device_def *def = dev->def;
	char where[UNIT_WHERE_MAX];
	int rc = 0;

	for (uint32_t i = 0; i < def->unit_count && rc == 0; i++) {
		struct device_unit *unit;

		rc = device_unit_new(dev, &def->units[i], &unit, reterr);
		if (rc == 0) {
			rc = device_unit_attach(unit, reterr);
			if (rc < 0)
				device_unit_free(unit);
		}
		if (rc < 0)
			err_prefix(reterr, rc, "%s", unit_where(&def->units[i].place, where));
	}
	return rc;
}

void device_units_free(struct device *dev)
{
	struct list *node;

	while ((node = list_pop(&dev->units)) != NULL)
		device_unit_free(list_entry(node, struct device_unit, node));
}

int device_units_rescan(struct device *dev, struct err *reterr)
{
	struct device_unit *unit;
	int rc = 0;

	list_for_each(unit, &dev->units, node) {
		struct err err = { 0 };
		char where[UNIT_WHERE_MAX];

		if (unit_open_rescan(unit->open, &err) == 0 || rc < 0)
			continue;
		rc = err_set(reterr, err.code, "%s: %s", unit_where(&unit->place, where), err.msg);
	}
	return rc;
}
