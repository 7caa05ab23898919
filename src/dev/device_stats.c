/* What management is told of a running device: connections, queues, disks. Thread: main. */
#include <stdio.h>
#include <string.h>

#include "blk/blk.h"
#include "dev/device.h"
#include "loop/queue_stats.h"
#include "nvme/subsys.h"
#include "scsi/scsi.h"
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

static void stats_place(const struct device_unit *unit, char place[UNIT_WHERE_MAX])
{
	if (unit->place.kind == &unit_scsi)
		snprintf(place, UNIT_WHERE_MAX, "%u/%u", unit->place.number, unit->place.lun);
	else
		snprintf(place, UNIT_WHERE_MAX, "%u", unit->place.number);
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
		stats_place(unit, place);
		fn(place, blk, arg);
	}
}

struct blk_dev *device_disk_find(const struct device *dev, const char *unit)
{
	const struct device_unit *u;

	if (dev->blk)
		return *unit ? NULL : dev->blk;
	list_for_each(u, &dev->units, node) {
		char place[UNIT_WHERE_MAX];

		stats_place(u, place);
		if (u->open && !strcmp(place, unit))
			return unit_open_blk(u->open);
	}
	return NULL;
}

/* ---- what guests have begun ---- */

struct work_look {
	void (*fn)(const char *unit, const struct device_work *work, void *arg);
	void *arg;
};

static void work_nvme(uint32_t nsid, const char *kind, uint64_t done_bytes, uint64_t total_bytes,
		      void *arg)
{
	const struct device_work work = { kind, done_bytes, total_bytes };
	const struct work_look *look = arg;
	char place[UNIT_WHERE_MAX] = "";

	if (nsid)
		snprintf(place, sizeof(place), "%u", nsid);
	look->fn(place, &work, look->arg);
}

static void work_scsi(const struct device_unit *unit, const struct work_look *look)
{
	struct device_work work = { .kind = "sanitize" };
	char place[UNIT_WHERE_MAX];
	uint32_t progress;

	if (!unit->open || !unit->open->lu || !unit_open_blk(unit->open) ||
	    !scsi_lu_sanitize_progress(unit->open->lu, &progress))
		return;
	work.total_bytes = blk_dev_caps(unit_open_blk(unit->open))->size_bytes;
	work.done_bytes = work.total_bytes / 65536 * progress;
	stats_place(unit, place);
	look->fn(place, &work, look->arg);
}

void device_work_visit(const struct device *dev,
		       void (*fn)(const char *unit, const struct device_work *work, void *arg),
		       void *arg)
{
	struct work_look look = { fn, arg };
	const struct device_unit *unit;

	/* a subsystem's are its first device's */
	if (dev->subsys && !dev->def->leader)
		nvme_subsys_work_visit(dev->subsys, work_nvme, &look);
	list_for_each(unit, &dev->units, node)
		if (unit->place.kind == &unit_scsi)
			work_scsi(unit, &look);
}
