#include "app/device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/num.h"
#include "vhost/vhost.h"

const struct device_type *const device_types[] = { &device_blk, &device_scsi, NULL };

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
		len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", i ? " or " : "",
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
	return unit_init(*ret_unit, reterr);
}

static int device_set_word(void *arg, const char *key, const char *value, struct err *reterr)
{
	struct device_def *def = arg;
	struct unit_def *unit;
	int rc;

	if (!def->type->has_units || strcmp(key, "target") != 0)
		return opts_set(def->type->table, def, key, value, reterr);
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

static int device_def_check_fields(struct device_def *def, struct err *reterr)
{
	int rc = def->type->check(def, reterr);

	if (rc < 0)
		return rc;
	if (!def->socket && !def->inherited)
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
	int rc;

	dev->def = def;
	def->running = dev;
	list_init(&dev->units);
	rc = def->type->open(dev, reterr);
	if (rc == 0)
		return 0;
	def->type->close(dev);
	return err_prefix(reterr, rc, "%s", def->where);
}

static void device_on_done(void *arg)
{
	struct device *dev = arg;

	dev->on_done(dev);
}

int device_start(struct device *dev, struct loop *main_loop, struct loop **loops,
		 uint32_t loop_count, struct err *reterr)
{
	struct device_def *def = dev->def;
	const struct vhost_endpoint_params params = {
		.name = def->name,
		.socket_path = def->fd >= 0 ? NULL : def->socket,
		.fd = def->fd,
		.client = def->client,
		.reconnect_ms = def->reconnect_ms,
		.socket_mode = def->mode,
		.connections_max = def->connections,
		.spin_ns = def->spin_us * 1000,
		.packed = def->packed,
		.main_loop = main_loop,
		.loops = loops,
		.loop_count = loop_count,
		.vdev_make = def->type->vdev_make,
		.arg = dev,
		.on_done = device_on_done,
	};
	int rc = vhost_endpoint_start(&params, &dev->ep, reterr);

	def->fd = -1; /* the endpoint closes it, whatever came of it */
	return rc < 0 ? err_prefix(reterr, rc, "%s", def->where) : 0;
}

void device_on_left(struct device *dev)
{
	if (!dev->stopping || dev->ep || dev->leaving)
		return;
	if (dev->def->type->release)
		dev->def->type->release(dev);
	dev->stopped(dev);
}

static void device_on_stopped(void *arg)
{
	struct device *dev = arg;

	dev->ep = NULL;
	device_on_left(dev);
}

void device_stop(struct device *dev)
{
	dev->stopping = true;
	vhost_endpoint_stop(dev->ep, device_on_stopped, dev);
}

void device_close(struct device *dev)
{
	ASSERT(!dev->ep && !dev->leaving);
	dev->def->type->close(dev);
}

int device_rescan(struct device *dev, struct err *reterr)
{
	int rc = dev->def->type->rescan(dev, reterr);

	return rc < 0 ? err_prefix(reterr, rc, "%s", dev->def->name) : 0;
}
