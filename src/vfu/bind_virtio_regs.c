/*
 * virtio over PCI: the four structures of the BAR (virtio 1.3, 4.1.4). The common configuration is
 * a table of fields.
 */
#include "vfu/bind_virtio.h"

#include <string.h>

#include "base/check.h"
#include "base/num.h"

uint64_t vpci_features_offered(const struct vpci *d)
{
	uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
			    VIRTIO_F_IN_ORDER | VIRTIO_F_NOTIFICATION_DATA | VIRTIO_F_RING_RESET |
			    VIRTIO_F_ACCESS_PLATFORM;

	if (d->params.packed)
		features |= VIRTIO_F_RING_PACKED;
	return features | d->vdev->ops->features(d->vdev);
}

/* ---- device status (virtio 1.3, 2.1 and 3.1.1) ---- */

static uint64_t status_get(const struct vpci *d)
{
	return d->resetting && !d->status ? d->status_before : d->status;
}

static bool features_agree(struct vpci *d)
{
	uint64_t extra = d->driver_features & ~vpci_features_offered(d);

	if (extra)
		log_limited(&d->limit, LOG_WARNING, "%s: features: bits 0x%llx were not offered",
			    d->dev.name, (unsigned long long)extra);
	else if (!(d->driver_features & VIRTIO_F_VERSION_1))
		log_limited(&d->limit, LOG_WARNING, "%s: features: VERSION_1 is needed",
			    d->dev.name);
	else
		return true;
	return false;
}

static void status_set(struct vpci *d, uint64_t value)
{
	uint8_t news = (uint8_t)(value & ~d->status & ~VPCI_STATUS_NEEDS_RESET);

	if (!value) {
		uint8_t before = (uint8_t)status_get(d);

		vpci_registers_reset(d);
		d->status_before = before;
		d->resetting = true;
		vpci_step(d);
		return;
	}
	if (news & VPCI_STATUS_FEATURES_OK) {
		if (features_agree(d)) {
			d->features = d->driver_features;
			if (!d->resetting && d->vdev->ops->features_set)
				d->vdev->ops->features_set(d->vdev, d->features);
		} else {
			news &= (uint8_t)~VPCI_STATUS_FEATURES_OK;
		}
	}
	/* 3.1.1: not before the features were agreed on */
	if (!((d->status | news) & VPCI_STATUS_FEATURES_OK))
		news &= (uint8_t)~VPCI_STATUS_DRIVER_OK;
	d->status |= news;
	vpci_step(d);
}

/* ---- the other fields ---- */

static struct vpci_queue *selected(const struct vpci *d)
{
	return d->queue_select < d->queue_count ? &d->queues[d->queue_select] : NULL;
}

static uint64_t device_feature_select_get(const struct vpci *d)
{
	return d->device_feature_select;
}

static void device_feature_select_set(struct vpci *d, uint64_t value)
{
	d->device_feature_select = (uint32_t)value;
}

static uint64_t device_feature_get(const struct vpci *d)
{
	uint32_t n = d->device_feature_select;

	return n < 2 ? vpci_features_offered(d) >> 32 * n & UINT32_MAX : 0;
}

static uint64_t driver_feature_select_get(const struct vpci *d)
{
	return d->driver_feature_select;
}

static void driver_feature_select_set(struct vpci *d, uint64_t value)
{
	d->driver_feature_select = (uint32_t)value;
}

static uint64_t driver_feature_get(const struct vpci *d)
{
	uint32_t n = d->driver_feature_select;

	return n < 2 ? d->driver_features >> 32 * n & UINT32_MAX : 0;
}

static void driver_feature_set(struct vpci *d, uint64_t value)
{
	uint32_t n = d->driver_feature_select;

	if (n >= 2 || d->status & VPCI_STATUS_FEATURES_OK)
		return;
	d->driver_features &= ~((uint64_t)UINT32_MAX << 32 * n);
	d->driver_features |= value << 32 * n;
}

/* 4.1.5.1.2: what cannot be mapped reads back as NO_VECTOR */
static uint16_t vector_check(struct vpci *d, uint64_t value)
{
	if (value < d->dev.pci.msix_vectors)
		return (uint16_t)value;
	if (value != VPCI_NO_VECTOR)
		log_limited(&d->limit, LOG_WARNING, "%s: vector: expected 0..%u, got %llu",
			    d->dev.name, d->dev.pci.msix_vectors - 1, (unsigned long long)value);
	return VPCI_NO_VECTOR;
}

static uint64_t config_msix_vector_get(const struct vpci *d)
{
	return d->config_vector;
}

static void config_msix_vector_set(struct vpci *d, uint64_t value)
{
	d->config_vector = vector_check(d, value);
	vpci_config_bell_update(d);
}

static uint64_t num_queues_get(const struct vpci *d)
{
	return d->queue_count;
}

static uint64_t config_generation_get(const struct vpci *d)
{
	return d->config_generation;
}

static uint64_t queue_select_get(const struct vpci *d)
{
	return d->queue_select;
}

static void queue_select_set(struct vpci *d, uint64_t value)
{
	d->queue_select = (uint16_t)value;
}

static uint64_t queue_size_get(const struct vpci *d)
{
	const struct vpci_queue *q = selected(d);

	return q ? q->size : 0;
}

static void queue_size_set(struct vpci *d, uint64_t value)
{
	struct vpci_queue *q = selected(d);
	uint32_t max = d->vdev->queue_size_max;

	if (!q || q->enabled)
		return;
	if (value == 0 || value > max)
		log_limited(&d->limit, LOG_WARNING, "%s: queue %u: size: expected 1..%u, got %llu",
			    d->dev.name, q->v.idx, max, (unsigned long long)value);
	else
		q->size = (uint32_t)value;
}

static uint64_t queue_msix_vector_get(const struct vpci *d)
{
	const struct vpci_queue *q = selected(d);

	return q ? q->vector : VPCI_NO_VECTOR;
}

static void queue_msix_vector_set(struct vpci *d, uint64_t value)
{
	struct vpci_queue *q = selected(d);

	if (!q)
		return;
	q->vector = vector_check(d, value);
	q->call_stale = true;
	vpci_step(d);
}

static uint64_t queue_enable_get(const struct vpci *d)
{
	const struct vpci_queue *q = selected(d);

	return q && q->enabled;
}

/* 4.1.4.3.2: only 1 is written */
static void queue_enable_set(struct vpci *d, uint64_t value)
{
	struct vpci_queue *q = selected(d);

	if (!q || q->enabled || q->resetting || value != 1)
		return;
	q->enabled = true;
	vpci_step(d);
}

static uint64_t queue_notify_off_get(const struct vpci *d)
{
	return selected(d) ? d->queue_select : 0;
}

static uint64_t queue_desc_get(const struct vpci *d)
{
	return selected(d) ? selected(d)->place.desc : 0;
}

static void queue_desc_set(struct vpci *d, uint64_t value)
{
	if (selected(d) && !selected(d)->enabled)
		selected(d)->place.desc = value;
}

static uint64_t queue_driver_get(const struct vpci *d)
{
	return selected(d) ? selected(d)->place.driver : 0;
}

static void queue_driver_set(struct vpci *d, uint64_t value)
{
	if (selected(d) && !selected(d)->enabled)
		selected(d)->place.driver = value;
}

static uint64_t queue_device_get(const struct vpci *d)
{
	return selected(d) ? selected(d)->place.device : 0;
}

static void queue_device_set(struct vpci *d, uint64_t value)
{
	if (selected(d) && !selected(d)->enabled)
		selected(d)->place.device = value;
}

static uint64_t queue_reset_get(const struct vpci *d)
{
	return selected(d) && selected(d)->resetting;
}

static void queue_reset_set(struct vpci *d, uint64_t value)
{
	if (selected(d) && value == 1 && d->features & VIRTIO_F_RING_RESET)
		vpci_queue_reset(d, selected(d));
}

/* ---- the common configuration (virtio 1.3, 4.1.4.3) ---- */

struct vpci_field {
	uint8_t off, bytes;
	uint64_t (*get)(const struct vpci *d);
	void (*set)(struct vpci *d, uint64_t value);
};

#define RW(off, bytes, name)                                                                       \
	{                                                                                          \
		off, bytes, name##_get, name##_set                                                 \
	}
#define RO(off, bytes, name)                                                                       \
	{                                                                                          \
		off, bytes, name##_get, NULL                                                       \
	}

static const struct vpci_field fields[] = {
	RW(0x00, 4, device_feature_select),
	RO(0x04, 4, device_feature),
	RW(0x08, 4, driver_feature_select),
	RW(0x0c, 4, driver_feature),
	RW(0x10, 2, config_msix_vector),
	RO(0x12, 2, num_queues),
	RW(0x14, 1, status),
	RO(0x15, 1, config_generation),
	RW(0x16, 2, queue_select),
	RW(0x18, 2, queue_size),
	RW(0x1a, 2, queue_msix_vector),
	RW(0x1c, 2, queue_enable),
	RO(0x1e, 2, queue_notify_off),
	RW(0x20, 8, queue_desc),
	RW(0x28, 8, queue_driver),
	RW(0x30, 8, queue_device),
	RW(0x3a, 2, queue_reset),
};

static void common_read(const struct vpci *d, uint32_t off, uint8_t *buf, uint32_t len)
{
	uint8_t bytes[VPCI_COMMON_BYTES] = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct vpci_field *f = &fields[i];
		struct le64 value;

		if (f->off >= off + len || f->off + f->bytes <= off)
			continue;
		value = le64(f->get(d));
		memcpy(bytes + f->off, &value, f->bytes);
	}
	memcpy(buf, bytes + off, len);
}

/* 4.1.3.1: a field in its own width, 64-bit ones also in halves. Others are no writes. */
static void common_write(struct vpci *d, uint32_t off, const uint8_t *buf, uint32_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct vpci_field *f = &fields[i];
		struct le64 value = le64(0);
		bool whole = f->off == off && f->bytes == len;
		bool half = f->bytes == 8 && len == 4 && off >= f->off && off < f->off + 8u;

		if (!f->set || !(whole || half))
			continue;
		if (half)
			value = le64(f->get(d));
		memcpy((uint8_t *)&value + (off - f->off), buf, len);
		f->set(d, le64_get(value));
		return;
	}
}

/* ---- the BAR ---- */

static void config_write(struct vpci *d, uint32_t off, const uint8_t *buf, uint32_t len)
{
	const struct vdev_ops *ops = d->vdev->ops;

	if (!ops->config_write || ops->config_write(d->vdev, off, buf, len))
		log_limited(&d->limit, LOG_WARNING,
			    "%s: configuration: %u bytes at %u: not writable, or not a legal value",
			    d->dev.name, len, off);
}

void vpci_bar_read(struct vfu_dev *dev, uint32_t bar, uint32_t off, void *buf, uint32_t len_bytes)
{
	struct vpci *d = vpci_of(dev);
	uint8_t config[VDEV_CONFIG_MAX] = { 0 };

	memset(buf, 0, len_bytes);
	if (bar != VPCI_BAR)
		return;
	if (num_range_ok(off, len_bytes, VPCI_COMMON_BYTES))
		common_read(d, off, buf, len_bytes);
	else if (off == VPCI_ISR)
		*(uint8_t *)buf = vpci_isr_take(d);
	else if (off >= VPCI_CONFIG && num_range_ok(off - VPCI_CONFIG, len_bytes, sizeof(config))) {
		d->vdev->ops->config_read(d->vdev, config);
		memcpy(buf, config + (off - VPCI_CONFIG), len_bytes);
	}
}

void vpci_bar_write(struct vfu_dev *dev, uint32_t bar, uint32_t off, const void *buf,
		    uint32_t len_bytes)
{
	struct vpci *d = vpci_of(dev);
	uint32_t idx = (off - VPCI_NOTIFY) / VPCI_NOTIFY_STRIDE;

	if (bar != VPCI_BAR)
		return;
	/* The place of a notification names the queue; its value is a hint (4.1.5.2) */
	if (off >= VPCI_NOTIFY && off % VPCI_NOTIFY_STRIDE == 0) {
		if (idx < d->queue_count)
			vring_wake(&d->queues[idx].v);
	} else if (num_range_ok(off, len_bytes, VPCI_COMMON_BYTES)) {
		common_write(d, off, buf, len_bytes);
	} else if (off >= VPCI_CONFIG &&
		   num_range_ok(off - VPCI_CONFIG, len_bytes, VDEV_CONFIG_MAX)) {
		config_write(d, off - VPCI_CONFIG, buf, len_bytes);
	}
}
