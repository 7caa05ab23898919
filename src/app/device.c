#include "app/device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/num.h"
#include "blk/blk.h"
#include "vhost/vhost.h"
#include "virtio/vdev.h"

#define ROW(key, kind, field, lo, hi, dflt, text)                                                  \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct device_def, field),           \
		.min = lo, .max = hi, .def = dflt, .help = text                                    \
	}

static const char *const device_direct_names[] = { "auto", "on", "off", NULL };

static const struct opts_row device_blk_rows[] = {
	ROW("name", OPTS_STR, name, 0, 0, NULL, "name for messages and socket activation"),
	ROW("socket", OPTS_STR, socket, 0, 0, NULL, "path of the vhost-user socket"),
	ROW("file", OPTS_STR, file, 0, 0, NULL, "image file or block device"),
	ROW("null", OPTS_SIZE, null_bytes, 512, INT64_MAX, NULL,
	    "a disk of this size that keeps nothing"),
	ROW("ram", OPTS_SIZE, ram_bytes, 512, INT64_MAX, NULL, "a disk of this size in memory"),
	ROW("num-queues", OPTS_U16, num_queues, 1, 256, "64", "most virtqueues"),
	ROW("queue-size", OPTS_U32, queue_size, 4, VIRTQ_SIZE_MAX, "1024", "most ring entries"),
	ROW("serial", OPTS_STR, serial, 0, 0, NULL, "at most 20 bytes"),
	ROW("read-only", OPTS_BOOL, read_only, 0, 0, "off", "refuse writes"),
	ROW("block-size", OPTS_U32, block_bytes, 512, 65536, NULL, "logical block, power of two"),
	{ .name = "direct",
	  .type = OPTS_ENUM,
	  .offset = offsetof(struct device_def, direct),
	  .names = device_direct_names,
	  .def = "auto",
	  .help = "O_DIRECT (file)" },
	ROW("lock", OPTS_BOOL, lock, 0, 0, "on", "lock the image against others (file)"),
	ROW("discard", OPTS_BOOL, discard, 0, 0, "on", "offer discard (file)"),
	ROW("guest-buffers", OPTS_BOOL, guest_buffers, 0, 0, "off",
	    "pin all guest memory for less CPU time per I/O; no balloon (file)"),
	ROW("spin-us", OPTS_U32, spin_us, 0, 1000000, "50", "look this long before sleeping"),
	ROW("packed", OPTS_BOOL, packed, 0, 0, "on", "offer packed rings"),
	ROW("socket-mode", OPTS_STR, socket_mode, 0, 0, "0600", "permissions, octal"),
	ROW("connections", OPTS_U32, connections, 1, 64, "1", "front-ends at a time"),
	ROW("client", OPTS_BOOL, client, 0, 0, "off", "connect to the socket instead"),
	ROW("reconnect-ms", OPTS_U32, reconnect_ms, 0, 3600000, "1000", "client: 0: once only"),
	ROW("seg-max", OPTS_U32, seg_max, 1, VIRTQ_IOV_MAX - 2, NULL, "data pieces a request"),
	ROW("size-max", OPTS_U32, size_max, 4096, UINT32_MAX, NULL, "most bytes of a piece"),
};

const struct opts_table device_blk_table = {
	.what = "blk device",
	.rows = device_blk_rows,
	.count = ARRAY_SIZE(device_blk_rows),
};

int device_def_init(struct device_def *def, const char *where, struct err *reterr)
{
	memset(def, 0, sizeof(*def));
	def->fd = -1;
	snprintf(def->where, sizeof(def->where), "%s", where);
	return opts_defaults(&device_blk_table, def, reterr);
}

void device_def_fini(struct device_def *def)
{
	opts_free(&device_blk_table, def);
	if (def->fd >= 0)
		close(def->fd);
	def->fd = -1;
}

int device_type_check(const struct device_def *def, const char *type, struct err *reterr)
{
	if (!strcmp(type, "blk"))
		return 0;
	err_set(reterr, -EINVAL, "type: expected blk, got '%.64s'", type);
	return err_prefix(reterr, -EINVAL, "%s", def->where);
}

int device_def_parse(struct device_def *def, const char *text, struct err *reterr)
{
	size_t len = strcspn(text, ",");
	char type[32];
	int rc;

	snprintf(type, sizeof(type), "%.*s", (int)MIN(len, sizeof(type)), text);
	rc = device_type_check(def, type, reterr);
	if (rc < 0 || !text[len])
		return rc;
	rc = opts_parse(&device_blk_table, def, text + len + 1, reterr);
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
	int backends = !!def->file + !!def->null_bytes + !!def->ram_bytes;

	if (backends != 1)
		return err_set(reterr, -EINVAL,
			       "expected exactly one of file=, null= and ram=, "
			       "got %d",
			       backends);
	if (def->file && !*def->file)
		return err_set(reterr, -EINVAL, "file: expected a path, got ''");
	if (!def->file && def->direct)
		return err_set(reterr, -EINVAL, "direct: only with file=");
	if (!def->file && def->guest_buffers)
		return err_set(reterr, -EINVAL, "guest-buffers: only with file=");
	if (!def->socket && def->fd < 0)
		return err_set(reterr, -EINVAL,
			       "socket: expected a path, or a descriptor from "
			       "LISTEN_FDS");
	if (def->socket && !*def->socket)
		return err_set(reterr, -EINVAL, "socket: expected a path, got ''");
	if (def->client && def->fd >= 0)
		return err_set(reterr, -EINVAL, "client: not with an inherited socket");
	if (def->block_bytes && !num_is_pow2(def->block_bytes))
		return err_set(reterr, -EINVAL, "block-size: expected a power of two, got %u",
			       def->block_bytes);
	if (def->serial && strlen(def->serial) > 20)
		return err_set(reterr, -EINVAL, "serial: expected at most 20 bytes, got %zu",
			       strlen(def->serial));
	return device_mode_parse(def, reterr);
}

int device_def_check(struct device_def *def, struct err *reterr)
{
	int rc = device_def_check_fields(def, reterr);

	return rc < 0 ? err_prefix(reterr, rc, "%s", def->where) : 0;
}

/* ---- the running device ---- */

/* Parameters as text for a back-end's own table; fails once, at the end. */
struct device_text {
	char text[8192];
	size_t len;
	bool full;
};

static void device_text_add(struct device_text *t, const char *key, const char *value)
{
	int n = snprintf(t->text + t->len, sizeof(t->text) - t->len, "%s%s=", t->len ? "," : "",
			 key);

	t->len += (size_t)n;
	for (; *value && t->len < sizeof(t->text) - 128; value++) {
		if (*value == ',')
			t->text[t->len++] = '\\';
		t->text[t->len++] = *value;
	}
	t->text[t->len] = '\0';
	if (*value)
		t->full = true;
}

static const char *device_backend_params(const struct device_def *def, struct device_text *t)
{
	uint64_t size = def->null_bytes + def->ram_bytes; /* one of them is 0 */
	char number[32];

	if (def->block_bytes) {
		snprintf(number, sizeof(number), "%u", def->block_bytes);
		device_text_add(t, "block-size", number);
	}
	if (!def->file) {
		snprintf(number, sizeof(number), "%llu", (unsigned long long)size);
		device_text_add(t, "size", number);
		return def->null_bytes ? "null" : "ram";
	}
	device_text_add(t, "direct", device_direct_names[def->direct]);
	device_text_add(t, "lock", def->lock ? "on" : "off");
	device_text_add(t, "discard", def->discard ? "on" : "off");
	device_text_add(t, "read-only", def->read_only ? "on" : "off");
	/* the path last: one that ends in a backslash must not escape a comma of ours */
	device_text_add(t, "path", def->file);
	return "file";
}

int device_open(struct device *dev, struct device_def *def, struct err *reterr)
{
	struct device_text params = { 0 };
	const char *type = device_backend_params(def, &params);
	int rc;

	dev->def = def;
	dev->inherited = def->fd >= 0;
	if (params.full)
		rc = err_set(reterr, -ENAMETOOLONG, "file: path too long");
	else
		rc = blk_dev_open(type, def->name, params.text, &dev->blk, reterr);
	return rc < 0 ? err_prefix(reterr, rc, "%s", def->where) : 0;
}

static int device_vdev_make(void *arg, struct vdev **ret_vdev, struct err *reterr)
{
	struct device *dev = arg;
	const struct device_def *def = dev->def;
	const struct vblk_params params = {
		.name = def->name,
		.serial = def->serial ? def->serial : def->name,
		.num_queues = def->num_queues,
		.queue_size_max = def->queue_size,
		.read_only = def->read_only,
		.packed = def->packed,
		.seg_max = def->seg_max,
		.size_max = def->size_max,
		.guest_buffers = def->guest_buffers,
	};

	return vblk_new(dev->blk, &params, ret_vdev, reterr);
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
		.vdev_make = device_vdev_make,
		.arg = dev,
		.on_done = device_on_done,
	};
	int rc = vhost_endpoint_start(&params, &dev->ep, reterr);

	def->fd = -1; /* the endpoint closes it, whatever came of it */
	return rc < 0 ? err_prefix(reterr, rc, "%s", def->where) : 0;
}

static void device_on_stopped(void *arg)
{
	struct device *dev = arg;

	dev->ep = NULL;
	dev->stopped(dev);
}

void device_stop(struct device *dev)
{
	vhost_endpoint_stop(dev->ep, device_on_stopped, dev);
}

void device_close(struct device *dev)
{
	ASSERT(!dev->ep);
	blk_dev_unref(dev->blk);
	dev->blk = NULL;
}

int device_rescan(struct device *dev, struct err *reterr)
{
	int rc = blk_dev_rescan(dev->blk, reterr);

	return rc < 0 ? err_prefix(reterr, rc, "%s", dev->def->name) : 0;
}
