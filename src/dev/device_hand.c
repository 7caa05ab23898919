/*
 * Devices in a hand-over: brought to a halt, written, and taken over by the same devices of the
 * successor, which it has opened from the same definitions. Thread: main.
 *
 *   "devs"  a "dsta" for each device: name, type, transport, what the type packs; and a "disk" for
 *           each of its disks: unit, what was counted
 *           a "dcon" for each that is started: name, drained or not, its endpoint
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/parcel.h"
#include "blk/blk.h"
#include "dev/devices.h"
#include "sock/endpoint.h"

#define HAND_VERSION 1
#define HAND_ALL     "devs"
#define HAND_STATE   "dsta"
#define HAND_CONNS   "dcon"
#define HAND_DISK    "disk"

static const struct device_front *hand_front(const struct device *dev)
{
	return dev->def->type->fronts[dev->def->transport];
}

static struct endpoint *hand_endpoint(const struct device *dev)
{
	return dev->ep ? hand_front(dev)->socket(dev) : NULL;
}

int device_hand_check(const struct device *dev, struct err *reterr)
{
	const struct device_type *type = dev->def->type;
	const struct endpoint *ep = hand_endpoint(dev);

	if (type->pack && (!ep || endpoint_can_pack(ep)))
		return type->hand_check ? type->hand_check(dev, reterr) : 0;
	return err_set(reterr, -EOPNOTSUPP, "%s: a %s device over %s cannot be handed over",
		       dev->def->name, type->name, device_transport_names[dev->def->transport]);
}

void device_freeze(struct device *dev, bool frozen)
{
	const struct device_type *type = dev->def->type;
	struct endpoint *ep = hand_endpoint(dev);

	if (!frozen && type->freeze)
		type->freeze(dev, false);
	if (ep)
		endpoint_freeze(ep, frozen);
	if (frozen && type->freeze)
		type->freeze(dev, true);
}

bool device_is_quiet(const struct device *dev)
{
	const struct device_type *type = dev->def->type;
	const struct endpoint *ep = hand_endpoint(dev);

	return (!ep || endpoint_is_quiet(ep)) && (!type->is_quiet || type->is_quiet(dev)) &&
	       !dev->leaving;
}

/* ---- writing ---- */

/* ---- counters of disks ---- */

/* Most are 0: those that are not, each with its place. */
#define HAND_COUNTERS ((uint32_t)(sizeof(struct blk_stats) / sizeof(uint64_t)))

static void hand_stats_pack(const struct blk_stats *stats, struct parcel *p)
{
	const uint64_t *value = (const uint64_t *)stats;

	for (uint32_t i = 0; i < HAND_COUNTERS; i++) {
		if (!value[i])
			continue;
		parcel_put_u32(p, i);
		parcel_put_u64(p, value[i]);
	}
	parcel_put_u32(p, HAND_COUNTERS);
}

static void hand_stats_unpack(struct blk_stats *stats, struct parcel *p)
{
	uint64_t *value = (uint64_t *)stats;

	memset(stats, 0, sizeof(*stats));
	while (!p->failed) {
		uint32_t at = parcel_take_count(p, HAND_COUNTERS);

		if (at == HAND_COUNTERS)
			break;
		value[at] = parcel_take_u64(p);
	}
}

static void hand_disk_pack(const char *unit, const struct blk_dev *blk, void *arg)
{
	struct parcel *p = arg;
	struct parcel_section s;
	struct blk_stats stats;

	parcel_section_begin(p, &s, HAND_DISK, HAND_VERSION);
	parcel_put_str(p, unit);
	parcel_put_u32(p, HAND_COUNTERS);
	blk_dev_stats(blk, &stats);
	hand_stats_pack(&stats, p);
	blk_dev_iostat(blk, &stats);
	hand_stats_pack(&stats, p);
	parcel_section_done(p, &s);
}

struct hand_disk {
	const char *unit;
	struct blk_stats all, iostat;
};

static void hand_disk_inherit(const char *unit, const struct blk_dev *blk, void *arg)
{
	const struct hand_disk *disk = arg;

	if (disk->unit && !strcmp(unit, disk->unit))
		blk_dev_stats_inherit((struct blk_dev *)blk, &disk->all, &disk->iostat);
}

static int hand_disk_unpack(struct device *dev, struct parcel *p, struct err *reterr)
{
	struct hand_disk disk;
	struct parcel_section s;
	char *unit;
	int rc = parcel_section_enter(p, &s, HAND_DISK, HAND_VERSION, reterr);

	if (rc < 0)
		return rc;
	disk.unit = unit = parcel_take_str(p);
	/* Who counts something else begins anew. */
	if (parcel_take_u32(p) == HAND_COUNTERS) {
		hand_stats_unpack(&disk.all, p);
		hand_stats_unpack(&disk.iostat, p);
		if (!p->failed)
			device_disks_visit(dev, hand_disk_inherit, &disk);
	}
	free(unit);
	return parcel_section_end(p, &s, HAND_DISK, reterr);
}

/* ---- one device ---- */

int device_pack(struct device *dev, struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc;

	parcel_section_begin(p, &s, HAND_STATE, HAND_VERSION);
	parcel_put_str(p, dev->def->name);
	parcel_put_str(p, dev->def->type->name);
	parcel_put_str(p, device_transport_names[dev->def->transport]);
	parcel_put_u32(p, dev->coalescing.delay_base_us);
	parcel_put_u32(p, dev->coalescing.iops_threshold);
	rc = dev->def->type->pack(dev, p, reterr);
	device_disks_visit(dev, hand_disk_pack, p);
	parcel_section_done(p, &s);
	return rc < 0 ? err_prefix(reterr, rc, "%s", dev->def->name) : 0;
}

int device_conns_pack(struct device *dev, struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc;

	parcel_section_begin(p, &s, HAND_CONNS, HAND_VERSION);
	parcel_put_str(p, dev->def->name);
	parcel_put_u32(p, dev->drained);
	rc = endpoint_pack(hand_endpoint(dev), p, reterr);
	parcel_section_done(p, &s);
	return rc;
}

/* ---- taking over ---- */

static int hand_find(struct parcel *p, struct device **ret_dev, struct err *reterr)
{
	char *name = parcel_take_str(p);
	int rc = 0;

	*ret_dev = name ? devices_find(name) : NULL;
	if (!*ret_dev)
		rc = err_set(reterr, -ENODEV,
			     "%.64s: the process that serves it has this device, and what is "
			     "configured now has not",
			     name ? name : "(no name)");
	free(name);
	return rc;
}

static int hand_word_check(struct parcel *p, const struct device *dev, const char *what,
			   const char *now, struct err *reterr)
{
	char *was = parcel_take_str(p);
	int rc = 0;

	if (!was || strcmp(was, now) != 0)
		rc = err_set(reterr, -EINVAL, "%s: %s: it is %.64s, and %s is configured now",
			     dev->def->name, what, was ? was : "(none)", now);
	free(was);
	return rc;
}

static int hand_coalesce(struct parcel *p, struct device *dev, struct err *reterr)
{
	const struct vring_coalescing c = { .delay_base_us = parcel_take_u32(p),
					    .iops_threshold = parcel_take_u32(p) };

	return c.delay_base_us && !p->failed ? device_coalesce(dev, &c, reterr) : 0;
}

static int hand_state_unpack(struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	struct device *dev;
	int rc = parcel_section_enter(p, &s, HAND_STATE, HAND_VERSION, reterr);

	if (rc == 0)
		rc = hand_find(p, &dev, reterr);
	if (rc < 0)
		return rc;
	rc = hand_word_check(p, dev, "type", dev->def->type->name, reterr);
	if (rc == 0)
		rc = hand_word_check(p, dev, "transport",
				     device_transport_names[dev->def->transport], reterr);
	if (rc < 0)
		return rc;
	rc = hand_coalesce(p, dev, reterr);
	if (rc < 0)
		return rc;
	if (!dev->def->type->unpack)
		return device_hand_check(dev, reterr);
	rc = dev->def->type->unpack(dev, p, reterr);
	while (rc == 0 && parcel_section_is_next(p, HAND_DISK))
		rc = hand_disk_unpack(dev, p, reterr);
	return rc < 0 ? err_prefix(reterr, rc, "%s", dev->def->name)
		      : parcel_section_end(p, &s, HAND_STATE, reterr);
}

static int hand_conns_unpack(struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	struct device *dev;
	bool drained;
	int rc = parcel_section_enter(p, &s, HAND_CONNS, HAND_VERSION, reterr);

	if (rc == 0)
		rc = hand_find(p, &dev, reterr);
	if (rc < 0)
		return rc;
	drained = parcel_take_bool(p);
	if (!devices_release(dev))
		return err_set(reterr, -EINVAL,
			       "%s: the process that serves it has it started, and it is not to "
			       "be started now",
			       dev->def->name);
	dev->from = p;
	rc = devices_start(dev, reterr);
	dev->from = NULL;
	if (rc == 0 && drained)
		rc = device_drain(dev, true, reterr);
	return rc < 0 ? rc : parcel_section_end(p, &s, HAND_CONNS, reterr);
}

/* ---- all of them ---- */

int devices_hand_check(struct err *reterr)
{
	int rc = 0;

	for (struct device *dev = devices_next(NULL); dev && rc == 0; dev = devices_next(dev))
		rc = device_hand_check(dev, reterr);
	return rc;
}

void devices_freeze(bool frozen)
{
	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev))
		device_freeze(dev, frozen);
}

const char *devices_hand_waits(void)
{
	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev))
		if (!device_is_quiet(dev))
			return dev->def->name;
	return devices_leaving();
}

int devices_pack(struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc = 0;

	parcel_section_begin(p, &s, HAND_ALL, HAND_VERSION);
	for (struct device *dev = devices_next(NULL); dev && rc == 0; dev = devices_next(dev))
		rc = device_pack(dev, p, reterr);
	for (struct device *dev = devices_next(NULL); dev && rc == 0; dev = devices_next(dev))
		if (dev->ep)
			rc = device_conns_pack(dev, p, reterr);
	parcel_section_done(p, &s);
	return rc;
}

int devices_unpack(struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc = parcel_section_enter(p, &s, HAND_ALL, HAND_VERSION, reterr);

	while (rc == 0 && parcel_section_is_next(p, HAND_STATE))
		rc = hand_state_unpack(p, reterr);
	while (rc == 0 && parcel_section_is_next(p, HAND_CONNS))
		rc = hand_conns_unpack(p, reterr);
	if (rc == 0)
		rc = parcel_section_end(p, &s, HAND_ALL, reterr);
	return rc < 0 ? rc : devices_start_all(reterr);
}
