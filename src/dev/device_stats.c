/* What management is told of a running device: connections, queues, disks. Thread: main. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "dev/device.h"
#include "loop/queue_stats.h"
#include "sock/endpoint.h"

static const struct device_front *stats_front(const struct device *dev)
{
	return dev->ep ? dev->def->type->fronts[dev->def->transport] : NULL;
}

void device_visit(const struct device *dev, const struct queue_visitor *v)
{
	const struct device_front *front = stats_front(dev);

	if (front)
		front->visit(dev, v);
}

void device_queues_visit(const struct device *dev,
			 void (*fn)(const struct queue_stats *queue, void *arg), void *arg)
{
	device_visit(dev, &(struct queue_visitor){ .queue = fn, .arg = arg });
}

void device_conns_get(const struct device *dev, struct device_conns *ret_conns)
{
	const struct device_front *front = stats_front(dev);
	struct endpoint_stats stats = { 0 };

	if (front)
		endpoint_stats_get(front->socket(dev), &stats);
	*ret_conns = (struct device_conns){ .now = stats.connections, .accepted = stats.accepted };
	ret_conns->reconnects = stats.accepted ? stats.accepted - 1 : 0;
}

typedef void disk_fn(const char *unit, struct blk_dev *blk, void *arg);

static void disks_each(const struct device *dev, disk_fn *fn, void *arg)
{
	const struct device_unit *unit;

	if (dev->blk)
		fn("", dev->blk, arg);
	list_for_each(unit, &dev->units, node) {
		struct blk_dev *blk = unit->open ? unit_open_blk(unit->open) : NULL;
		char place[UNIT_WHERE_MAX];

		if (!blk)
			continue;
		if (unit->place.kind == &unit_scsi)
			snprintf(place, sizeof(place), "%u/%u", unit->place.number,
				 unit->place.lun);
		else
			snprintf(place, sizeof(place), "%u", unit->place.number);
		fn(place, blk, arg);
	}
}

struct disk_visit {
	void (*fn)(const char *unit, const struct blk_dev *blk, void *arg);
	void *arg;
};

static void disk_visit(const char *unit, struct blk_dev *blk, void *arg)
{
	const struct disk_visit *v = arg;

	v->fn(unit, blk, v->arg);
}

void device_disks_visit(const struct device *dev,
			void (*fn)(const char *unit, const struct blk_dev *blk, void *arg),
			void *arg)
{
	disks_each(dev, disk_visit, &(struct disk_visit){ .fn = fn, .arg = arg });
}

struct disk_seek {
	const char *unit;
	struct blk_dev *found;
	uint32_t count;
};

static void disk_seek(const char *unit, struct blk_dev *blk, void *arg)
{
	struct disk_seek *s = arg;
	const size_t len = s->unit ? strlen(s->unit) : 0;

	if (s->unit && strcmp(unit, s->unit) != 0 &&
	    (strncmp(unit, s->unit, len) != 0 || strcmp(unit + len, "/0") != 0))
		return;
	s->found = blk;
	s->count++;
}

int device_disk_find(const struct device *dev, const char *unit, struct blk_dev **ret_blk,
		     struct err *reterr)
{
	struct disk_seek s = { .unit = unit };

	disks_each(dev, disk_seek, &s);
	if (!s.count)
		return err_set(reterr, -ENODEV, "unit: %s has no disk%s%.32s", dev->def->name,
			       unit ? " at " : "", unit ? unit : "");
	if (s.count > 1)
		return err_set(reterr, -EINVAL, "unit: %s has %u disks; expected which one",
			       dev->def->name, s.count);
	*ret_blk = s.found;
	return 0;
}
