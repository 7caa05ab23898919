/*
 * virtio over PCI: migration and hand-over. What the driver set up and how far its queues are; what
 * is in the rings is in the guest's memory. The model has no state of its own but the configuration
 * fields that a driver may write, and what it packs itself (events on their way).
 */
#include "vfu/bind_virtio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/num.h"
#include "base/parcel.h"

#define SAVE_VERSION 1u
#define SAVE_ENABLED 1u
#define SAVE_RAN     2u
#define SAVE_FAILED  4u

struct save_device {
	struct le32 version, queue_count, device_id;
	struct le32 device_feature_select, driver_feature_select;
	struct le16 config_vector, queue_select;
	struct le64 driver_features;
	uint8_t status, config_generation, isr, reserved[5];
	uint8_t config[VDEV_CONFIG_MAX];
};

struct save_queue {
	struct le32 size, base;
	struct le16 vector, flags;
	struct le32 reserved;
	struct le64 desc, driver, device;
};

/* virtio 1.3, 5.2.4 and 5.6.4: fields that the driver writes. */
static const struct {
	uint32_t device_id, off, len;
} writable[] = {
	{ 2, 32, 1 }, /* writeback */
	{ 8, 20, 4 }, /* sense_size */
	{ 8, 24, 4 }, /* cdb_size */
};

int vpci_save(const struct vfu_dev *dev, void **ret_bytes, size_t *ret_len)
{
	const struct vpci *d = container_of(dev, struct vpci, dev);
	size_t len = sizeof(struct save_device) + d->queue_count * sizeof(struct save_queue);
	struct save_device *s = calloc(1, len);
	struct save_queue *sq = (struct save_queue *)(s + 1);

	if (!s)
		return -ENOMEM;
	s->version = le32(SAVE_VERSION);
	s->queue_count = le32(d->queue_count);
	s->device_id = le32(d->vdev->ops->device_id);
	s->device_feature_select = le32(d->device_feature_select);
	s->driver_feature_select = le32(d->driver_feature_select);
	s->config_vector = le16(d->config_vector);
	s->queue_select = le16(d->queue_select);
	s->driver_features = le64(d->driver_features);
	s->status = d->status;
	s->config_generation = d->config_generation;
	s->isr = (uint8_t)((d->isr_queues ? 1 : 0) | (d->isr_config ? 2 : 0));
	d->vdev->ops->config_read(d->vdev, s->config);
	for (uint32_t i = 0; i < d->queue_count; i++) {
		const struct vpci_queue *q = &d->queues[i];

		sq[i] = (struct save_queue){
			.size = le32(q->size),
			.base = le32(q->v.base),
			.vector = le16(q->vector),
			.flags = le16((uint16_t)((q->enabled ? SAVE_ENABLED : 0) |
						 (q->ran ? SAVE_RAN : 0) |
						 (q->failed ? SAVE_FAILED : 0))),
			.desc = le64(q->place.desc),
			.driver = le64(q->place.driver),
			.device = le64(q->place.device),
		};
	}
	*ret_bytes = s;
	*ret_len = len;
	return 0;
}

static int save_device_check(const struct vpci *d, const struct save_device *s, struct err *reterr)
{
	uint64_t features = le64_get(s->driver_features);

	if (le32_get(s->version) != SAVE_VERSION)
		return err_set(reterr, -EINVAL, "state: version: expected %u, got %u", SAVE_VERSION,
			       le32_get(s->version));
	if (le32_get(s->device_id) != d->vdev->ops->device_id)
		return err_set(reterr, -EINVAL, "state: virtio device: expected %u, got %u",
			       d->vdev->ops->device_id, le32_get(s->device_id));
	if (le32_get(s->queue_count) != d->queue_count)
		return err_set(reterr, -EINVAL, "state: queues: expected %u, got %u",
			       d->queue_count, le32_get(s->queue_count));
	if (s->status & VPCI_STATUS_FEATURES_OK && features & ~vpci_features_offered(d))
		return err_set(reterr, -EINVAL, "state: features 0x%llx are not offered here",
			       (unsigned long long)(features & ~vpci_features_offered(d)));
	if (s->status & VPCI_STATUS_DRIVER_OK && !(s->status & VPCI_STATUS_FEATURES_OK))
		return err_set(reterr, -EINVAL, "state: device status 0x%x cannot be", s->status);
	return 0;
}

static int save_queue_check(const struct vpci *d, uint32_t idx, const struct save_queue *sq,
			    struct err *reterr)
{
	uint32_t size = le32_get(sq->size), max = d->vdev->queue_size_max;

	if (size == 0 || size > max)
		return err_set(reterr, -EINVAL, "state: queue %u: size: expected 1..%u, got %u",
			       idx, max, size);
	return 0;
}

static uint16_t save_vector(const struct vpci *d, struct le16 vector)
{
	uint16_t v = le16_get(vector);

	return v < d->dev.pci.msix_vectors ? v : VPCI_NO_VECTOR;
}

static void save_config_load(struct vpci *d, const struct save_device *s)
{
	const struct vdev_ops *ops = d->vdev->ops;

	for (size_t i = 0; i < ARRAY_SIZE(writable); i++) {
		if (writable[i].device_id == ops->device_id && ops->config_write)
			ops->config_write(d->vdev, writable[i].off, s->config + writable[i].off,
					  writable[i].len);
	}
}

static void save_queue_load(struct vpci *d, struct vpci_queue *q, const struct save_queue *sq)
{
	uint16_t flags = le16_get(sq->flags);

	q->size = le32_get(sq->size);
	q->v.base = le32_get(sq->base);
	q->vector = save_vector(d, sq->vector);
	q->enabled = flags & SAVE_ENABLED;
	q->placed = q->ran = flags & SAVE_RAN;
	q->failed = flags & SAVE_FAILED;
	q->place = (struct vring_place){ .desc = le64_get(sq->desc),
					 .driver = le64_get(sq->driver),
					 .device = le64_get(sq->device) };
	q->call_stale = true;
}

int vpci_load(struct vfu_dev *dev, const void *bytes, size_t len, struct err *reterr)
{
	struct vpci *d = vpci_of(dev);
	struct bytes b = bytes_of(bytes, len);
	struct save_queue sq;
	struct save_device s;
	int rc;

	bytes_take(&b, &s, sizeof(s));
	if (b.failed || b.left_bytes != d->queue_count * sizeof(sq))
		return err_set(reterr, -EINVAL, "state: %zu bytes are not %u queues", len,
			       d->queue_count);
	rc = save_device_check(d, &s, reterr);
	for (uint32_t i = 0; !rc && i < d->queue_count; i++) {
		memcpy(&sq, b.at + i * sizeof(sq), sizeof(sq));
		rc = save_queue_check(d, i, &sq, reterr);
	}
	if (rc)
		return rc;
	d->device_feature_select = le32_get(s.device_feature_select);
	d->driver_feature_select = le32_get(s.driver_feature_select);
	d->driver_features = le64_get(s.driver_features);
	d->config_vector = save_vector(d, s.config_vector);
	d->queue_select = le16_get(s.queue_select);
	d->status = s.status;
	d->config_generation = (uint8_t)(s.config_generation + 1);
	d->isr_config = s.isr & 2;
	__atomic_store_n(&d->isr_queues, s.isr & 1, __ATOMIC_RELAXED);
	d->features = s.status & VPCI_STATUS_FEATURES_OK ? d->driver_features : 0;
	if (s.status & VPCI_STATUS_FEATURES_OK && d->vdev->ops->features_set)
		d->vdev->ops->features_set(d->vdev, d->features);
	save_config_load(d, &s);
	for (uint32_t i = 0; i < d->queue_count; i++) {
		bytes_take(&b, &sq, sizeof(sq));
		save_queue_load(d, &d->queues[i], &sq);
	}
	vpci_config_bell_update(d);
	return 0;
}

/* ---- hand-over ---- */

#define VPCI_TAG     "vpci"
#define VPCI_VERSION 1

/* Nobody looks at what is in the page: the client's writes only have to end somewhere. */
int vpci_map_set(struct vfu_dev *dev, uint32_t bar, int fd, struct err *reterr)
{
	struct vpci *d = vpci_of(dev);

	vring_fd_set(&d->notify_fd, fd);
	dev->pci.bars[bar].map_fd = fd;
	return 0;
}

int vpci_pack(const struct vfu_dev *dev, struct parcel *p, struct err *reterr)
{
	const struct vpci *d = container_of(dev, const struct vpci, dev);
	struct parcel_section s;
	int rc = 0;

	parcel_section_begin(p, &s, VPCI_TAG, VPCI_VERSION);
	/* A bell that rang just now may not have been heard. */
	parcel_put_u32(p, d->config_bell.busy || d->config_bell.owed);
	if (d->vdev->ops->pack)
		rc = d->vdev->ops->pack(d->vdev, p, reterr);
	parcel_section_done(p, &s);
	return rc;
}

int vpci_unpack(struct vfu_dev *dev, struct parcel *p, struct err *reterr)
{
	struct vpci *d = vpci_of(dev);
	struct parcel_section s;
	bool ring;
	int rc = parcel_section_enter(p, &s, VPCI_TAG, VPCI_VERSION, reterr);

	if (rc < 0)
		return rc;
	ring = parcel_take_bool(p);
	if (d->vdev->ops->unpack)
		rc = d->vdev->ops->unpack(d->vdev, p, reterr);
	if (rc == 0 && ring)
		notify_send(&d->config_bell);
	return rc < 0 ? rc : parcel_section_end(p, &s, VPCI_TAG, reterr);
}
