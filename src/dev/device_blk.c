/* The blk device: one disk. */
#include <errno.h>
#include <string.h>

#include "dev/device.h"
#include "base/check.h"
#include "blk/blk.h"
#include "virtio/vdev.h"

#define ROW(key, kind, field, lo, hi, dflt, text)                                                  \
	DEF_ROW(device_def, key, kind, field, lo, hi, dflt, text)

static const struct opts_row device_blk_rows[] = {
	DEVICE_VIRTIO_ROWS(256),
	BACKEND_ROWS(device_def, back),
	ROW("serial", OPTS_STR, serial, 0, 0, NULL, "at most 20 bytes"),
	ROW("guest-buffers", OPTS_BOOL, guest_buffers, 0, 0, "off",
	    "pin all guest memory for less CPU time per I/O; no balloon (file)"),
	ROW("size-max", OPTS_U32, size_max, 4096, UINT32_MAX, NULL, "most bytes of a piece"),
};

static const struct opts_table device_blk_table = {
	.what = "blk device",
	.rows = device_blk_rows,
	.count = ARRAY_SIZE(device_blk_rows),
};

static int device_blk_check(struct device_def *def, struct err *reterr)
{
	int rc = backend_check(&def->back, reterr);

	if (rc < 0)
		return rc;
	if (!def->back.file && !def->back.bdev && def->guest_buffers)
		return err_set(reterr, -EINVAL, "guest-buffers: only with file= or bdev=");
	if (def->serial && strlen(def->serial) > 20)
		return err_set(reterr, -EINVAL, "serial: expected at most 20 bytes, got %zu",
			       strlen(def->serial));
	return 0;
}

static int device_blk_open(struct device *dev, struct err *reterr)
{
	return backend_open(&dev->def->back, dev->def->name, &dev->blk, reterr);
}

static void device_blk_close(struct device *dev)
{
	backend_close(dev->blk);
	dev->blk = NULL;
}

static int device_blk_rescan(struct device *dev, struct err *reterr)
{
	return blk_dev_rescan(dev->blk, reterr);
}

static int device_blk_vdev_make(void *arg, struct vdev **ret_vdev, struct err *reterr)
{
	struct device *dev = arg;
	const struct device_def *def = dev->def;
	const struct vblk_params params = {
		.name = def->name,
		.serial = def->serial ? def->serial : def->name,
		.num_queues = def->num_queues,
		.queue_size_max = def->queue_size,
		.read_only = def->back.read_only,
		.packed = def->packed,
		.seg_max = def->seg_max,
		.size_max = def->size_max,
		.guest_buffers = def->guest_buffers,
		.limits = dev->limits,
	};

	return vblk_new(dev->blk, &params, ret_vdev, reterr);
}

/* Its connections know everything. */
static int device_blk_pack(struct device *dev, struct parcel *p, struct err *reterr)
{
	return 0;
}

const struct device_type device_blk = {
	.name = "blk",
	.table = &device_blk_table,
	.fronts = { [TRANSPORT_VHOST_USER] = &front_vhost, [TRANSPORT_VFIO_USER] = &front_vfu },
	.check = device_blk_check,
	.open = device_blk_open,
	.close = device_blk_close,
	.rescan = device_blk_rescan,
	.vdev_make = device_blk_vdev_make,
	.vfu_make = front_vfu_virtio_make,
	.pack = device_blk_pack,
	.unpack = device_blk_pack,
};
