/* What management is told of a running device: connections, queues, disks. Thread: main. */
#include <stdio.h>

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

void device_disks_visit(const struct device *dev,
			void (*fn)(const char *unit, const struct blk_dev *blk, void *arg),
			void *arg)
{
	const struct device_unit *unit;

	if (dev->blk)
		fn("", dev->blk, arg);
	list_for_each(unit, &dev->units, node) {
		const struct blk_dev *blk = unit->open ? unit_open_blk(unit->open) : NULL;
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
