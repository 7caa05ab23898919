#include "dev/device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/num.h"
#include "blk/limit.h"

const struct device_type *const device_types[] = { &device_blk, &device_scsi, &device_nvme, NULL };

const char *const device_doorbells_names[] = { "trapped", "mapped", NULL };

const char *const device_transport_names[] = {
	[TRANSPORT_VHOST_USER] = "vhost-user",
	[TRANSPORT_VFIO_USER] = "vfio-user",
	[TRANSPORT_COUNT] = NULL,
};

void device_def_init(struct device_def *def, const char *where)
{
	memset(def, 0, sizeof(*def));
	def->fd = -1;
	snprintf(def->where, sizeof(def->where), "%s", where);
}

void device_def_fini(struct device_def *def)
{
	if (def->type)
		opts_free(def->type->table, def);
	for (uint32_t i = 0; i < def->unit_count; i++)
		unit_fini(&def->units[i]);
	free(def->units);
	def->units = NULL;
	def->unit_count = 0;
	if (def->fd >= 0)
		close(def->fd);
	def->fd = -1;
}

int device_def_type_set(struct device_def *def, const char *type, struct err *reterr)
{
	char all[64] = "";
	size_t len = 0;

	for (size_t i = 0; device_types[i]; i++) {
		if (!strcmp(type, device_types[i]->name)) {
			def->type = device_types[i];
			return opts_defaults(def->type->table, def, reterr);
		}
		len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s",
					!i		      ? ""
					: device_types[i + 1] ? ", "
							      : " or ",
					device_types[i]->name);
	}
	err_set(reterr, -EINVAL, "type: expected %s, got '%.64s'", all, type);
	return err_prefix(reterr, -EINVAL, "%s", def->where);
}

int device_unit_add(struct device_def *def, struct unit_def **ret_unit, struct err *reterr)
{
	const size_t count = def->unit_count;
	struct unit_def *more = def->units;

	/* room for the next power of two of them */
	if (!(count & (count - 1)))
		more = realloc(more, (count ? count * 2 : 1) * sizeof(*more));
	if (!more)
		return err_set(reterr, -ENOMEM, "out of memory");
	def->units = more;
	*ret_unit = &more[def->unit_count++];
	return unit_init(*ret_unit, def->type->units, reterr);
}

int device_def_set(struct device_def *def, const char *key, const char *value, struct err *reterr)
{
	const struct opts_table *table = def->type->table;
	int rc = opts_set(table, def, key, value, reterr);

	for (size_t i = 0; rc == 0 && i < table->count; i++)
		if (!strcmp(table->rows[i].name, key))
			def->given |= 1ull << i;
	return rc;
}

static int device_set_word(void *arg, const char *key, const char *value, struct err *reterr)
{
	struct device_def *def = arg;
	struct unit_def *unit;
	int rc;

	if (!def->type->units || strcmp(key, def->type->units->key) != 0)
		return device_def_set(def, key, value, reterr);
	rc = device_unit_add(def, &unit, reterr);
	return rc < 0 ? rc : unit_parse(unit, value ? value : "", reterr);
}

int device_def_parse(struct device_def *def, const char *text, struct err *reterr)
{
	size_t len = strcspn(text, ",");
	char type[32];
	int rc;

	snprintf(type, sizeof(type), "%.*s", (int)MIN(len, sizeof(type)), text);
	rc = device_def_type_set(def, type, reterr);
	if (rc < 0 || !text[len])
		return rc;
	rc = opts_words(text + len + 1, ',', device_set_word, def, reterr);
	return rc < 0 ? err_prefix(reterr, rc, "%s", def->where) : 0;
}

static int device_mode_parse(struct device_def *def, struct err *reterr)
{
	const char *text = def->socket_mode;
	size_t len = strlen(text);
	unsigned long mode = strtoul(text, NULL, 8);

	if (!len || strspn(text, "01234567") != len || mode > 0777)
		return err_set(reterr, -EINVAL, "socket-mode: expected octal 0..0777, got '%.64s'",
			       text);
	def->mode = (mode_t)mode;
	return 0;
}

/* What only one transport has. */
static const struct {
	const char *key;
	enum device_transport transport;
} device_only[] = {
	{ "doorbells", TRANSPORT_VFIO_USER },  { "notifications", TRANSPORT_VFIO_USER },
	{ "vectors", TRANSPORT_VFIO_USER },    { "pci-vendor", TRANSPORT_VFIO_USER },
	{ "pci-device", TRANSPORT_VFIO_USER }, { "generation", TRANSPORT_VHOST_USER },
	{ "ana", TRANSPORT_VFIO_USER },
};

static bool device_row_given(const struct device_def *def, const char *key)
{
	const struct opts_table *table = def->type->table;

	for (size_t i = 0; i < table->count; i++)
		if (def->given & 1ull << i && !strcmp(table->rows[i].name, key))
			return true;
	return false;
}

static int device_check_transport(const struct device_def *def, struct err *reterr)
{
	for (size_t i = 0; i < ARRAY_SIZE(device_only); i++)
		if (def->transport != (int)device_only[i].transport &&
		    device_row_given(def, device_only[i].key))
			return err_set(reterr, -EINVAL, "%s: only with transport=%s, got %s",
				       device_only[i].key,
				       device_transport_names[device_only[i].transport],
				       device_transport_names[def->transport]);
	return 0;
}

static int device_def_check_fields(struct device_def *def, struct err *reterr)
{
	char where[UNIT_WHERE_MAX];
	int rc = device_check_transport(def, reterr);

	if (rc == 0)
		rc = blk_qos_check(&def->limits, reterr);
	if (rc == 0)
		rc = def->type->check(def, reterr);
	for (uint32_t i = 0; rc == 0 && i < def->unit_count; i++) {
		rc = unit_check(&def->units[i], reterr);
		if (rc < 0)
			err_prefix(reterr, rc, "%s", unit_where(&def->units[i].place, where));
	}
	if (rc < 0)
		return rc;
	if (!def->socket && !def->inherited && !def->unserved)
		return err_set(reterr, -EINVAL,
			       "socket: expected a path, or a descriptor from "
			       "LISTEN_FDS");
	if (def->socket && !*def->socket)
		return err_set(reterr, -EINVAL, "socket: expected a path, got ''");
	if (def->client && def->inherited)
		return err_set(reterr, -EINVAL, "client: not with an inherited socket");
	return device_mode_parse(def, reterr);
}

int device_def_check(struct device_def *def, struct err *reterr)
{
	int rc = device_def_check_fields(def, reterr);

	return rc < 0 ? err_prefix(reterr, rc, "%s", def->where) : 0;
}

/* ---- the running device ---- */

int device_open(struct device *dev, struct device_def *def, struct err *reterr)
{
	int rc = 0;

	dev->def = def;
	def->running = dev;
	list_init(&dev->units);
	dev->limits = blk_limits_new(def->name);
	if (!dev->limits)
		rc = err_set(reterr, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = blk_limits_set(dev->limits, &def->limits, reterr);
	if (rc == 0)
		rc = def->type->open(dev, reterr);
	if (rc == 0)
		return 0;
	device_close(dev);
	return err_prefix(reterr, rc, "%s", def->where);
}

void device_on_done(void *arg)
{
	struct device *dev = arg;

	dev->on_done(dev);
}

static const struct device_front *device_front(const struct device *dev)
{
	return dev->def->type->fronts[dev->def->transport];
}

int device_start(struct device *dev, struct loop *main_loop, struct loop **loops,
		 uint32_t loop_count, struct err *reterr)
{
	int rc;

	dev->main_loop = main_loop;
	dev->loops = loops;
	dev->loop_count = loop_count;
	rc = device_front(dev)->start(dev, reterr);
	dev->def->fd = -1; /* the endpoint closes it, whatever came of it */
	return rc < 0 ? err_prefix(reterr, rc, "%s", dev->def->where) : 0;
}

void device_release(struct device *dev)
{
	if (dev->def->type->release)
		dev->def->type->release(dev);
}

void device_on_left(struct device *dev)
{
	if (!dev->stopping || dev->ep || dev->leaving)
		return;
	device_release(dev);
	dev->stopped(dev);
}

void device_on_stopped(void *arg)
{
	struct device *dev = arg;

	dev->ep = NULL;
	device_on_left(dev);
}

void device_stop(struct device *dev)
{
	dev->stopping = true;
	device_front(dev)->stop(dev);
}

void device_close(struct device *dev)
{
	ASSERT(!dev->ep && !dev->leaving);
	dev->def->type->close(dev);
	blk_limits_unref(dev->limits);
	dev->limits = NULL;
}

int device_limits_set(struct device *dev, const struct blk_qos_limits *limits, struct err *reterr)
{
	return blk_limits_set(dev->limits, limits, reterr);
}

const struct blk_qos_limits *device_limits_get(const struct device *dev)
{
	return blk_limits_get(dev->limits);
}

static bool device_is_limit(const struct opts_row *row)
{
	const size_t first = offsetof(struct device_def, limits);

	return row->offset >= first && row->offset < first + sizeof(struct blk_qos_limits);
}

bool device_adopt(struct device *dev, const struct device_def *next, const struct opts_row *row)
{
	if (!device_is_limit(row))
		return dev->def->type->adopt && dev->def->type->adopt(dev, next, row);
	dev->def->limits = next->limits;
	device_limits_set(dev, &next->limits, NULL);
	log_notice("%s: limits: as they are configured now", dev->def->name);
	return true;
}

int device_rescan(struct device *dev, struct err *reterr)
{
	int rc = dev->def->type->rescan(dev, reterr);

	return rc < 0 ? err_prefix(reterr, rc, "%s", dev->def->name) : 0;
}
