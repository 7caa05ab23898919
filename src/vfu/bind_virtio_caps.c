/*
 * virtio over PCI: what the device says of itself in its configuration space, with the capability
 * for each structure, and the window through which configuration accesses reach them all
 * (virtio 1.3, 4.1.2 and 4.1.4.9).
 */
#include "vfu/bind_virtio.h"

#include <string.h>

#include "base/check.h"
#include "base/num.h"

/* virtio 1.3, 4.1.2 */
#define VPCI_VENDOR	 0x1af4u
#define VPCI_DEVICE_BASE 0x1040u
#define VPCI_SUBSYS	 0x1100u   /* 40h or more for a device that is not transitional */
#define VPCI_CLASS	 0x010000u /* mass storage, SCSI: what drivers are used to */

/* Capability types, and the bytes of the one through which all structures can be reached. */
#define VPCI_CAP_COMMON	   1u
#define VPCI_CAP_NOTIFY	   2u
#define VPCI_CAP_ISR	   3u
#define VPCI_CAP_DEVICE	   4u
#define VPCI_CAP_PCI	   5u
#define VPCI_CAP_BAR_AT	   4u
#define VPCI_CAP_OFFSET_AT 8u
#define VPCI_CAP_LENGTH_AT 12u
#define VPCI_CAP_DATA_AT   16u

/* ---- capabilities (virtio 1.3, 4.1.4) ---- */

static const struct {
	uint32_t type, off, len;
} structures[] = {
	{ VPCI_CAP_COMMON, VPCI_COMMON, VPCI_COMMON_BYTES },
	{ VPCI_CAP_NOTIFY, VPCI_NOTIFY, VPCI_NOTIFY_BYTES },
	{ VPCI_CAP_ISR, VPCI_ISR, 1 },
	{ VPCI_CAP_DEVICE, VPCI_CONFIG, VDEV_CONFIG_MAX },
	{ VPCI_CAP_PCI, 0, 0 },
};

static void put32(uint8_t *at, uint32_t value)
{
	struct le32 le = le32(value);

	memcpy(at, &le, sizeof(le));
}

static uint32_t take32(const uint8_t *at)
{
	struct le32 le;

	memcpy(&le, at, sizeof(le));
	return le32_get(le);
}

/* Does the access at [off, off + len) of the capability mean the window, and which of the BAR? */
static bool window_open(const uint8_t *bytes, uint32_t off, uint32_t len, uint32_t *ret_off,
			uint32_t *ret_len)
{
	*ret_off = take32(bytes + VPCI_CAP_OFFSET_AT);
	*ret_len = take32(bytes + VPCI_CAP_LENGTH_AT);
	return off + len > VPCI_CAP_DATA_AT && bytes[VPCI_CAP_BAR_AT] == VPCI_BAR &&
	       (*ret_len == 1 || *ret_len == 2 || *ret_len == 4) && *ret_off % *ret_len == 0 &&
	       num_range_ok(*ret_off, *ret_len, VPCI_BAR_BYTES);
}

static bool cap_is_window(const struct vfu_dev *dev, uint32_t cap)
{
	return cap < ARRAY_SIZE(structures) && structures[cap].type == VPCI_CAP_PCI;
}

void vpci_cap_read(struct vfu_dev *dev, uint32_t cap, uint8_t *bytes, uint32_t off,
		   uint32_t len_bytes)
{
	uint32_t bar_off, bar_len;

	if (cap_is_window(dev, cap) && window_open(bytes, off, len_bytes, &bar_off, &bar_len))
		vpci_bar_read(dev, VPCI_BAR, bar_off, bytes + VPCI_CAP_DATA_AT, bar_len);
}

void vpci_cap_write(struct vfu_dev *dev, uint32_t cap, uint8_t *bytes, uint32_t off,
		    uint32_t len_bytes)
{
	uint32_t bar_off, bar_len;

	if (cap_is_window(dev, cap) && window_open(bytes, off, len_bytes, &bar_off, &bar_len))
		vpci_bar_write(dev, VPCI_BAR, bar_off, bytes + VPCI_CAP_DATA_AT, bar_len);
}

static void describe_caps(struct vfu_pci *pci)
{
	for (size_t i = 0; i < ARRAY_SIZE(structures); i++) {
		struct vfu_cap *cap = &pci->caps[pci->cap_count++];
		bool more =
			structures[i].type == VPCI_CAP_NOTIFY || structures[i].type == VPCI_CAP_PCI;

		cap->len_bytes = more ? 20 : 16;
		cap->bytes[3] = (uint8_t)structures[i].type;
		cap->bytes[VPCI_CAP_BAR_AT] = structures[i].len ? VPCI_BAR : 0;
		put32(cap->bytes + VPCI_CAP_OFFSET_AT, structures[i].off);
		put32(cap->bytes + VPCI_CAP_LENGTH_AT, structures[i].len);
		if (structures[i].type == VPCI_CAP_NOTIFY)
			put32(cap->bytes + VPCI_CAP_DATA_AT, VPCI_NOTIFY_STRIDE);
		if (structures[i].type == VPCI_CAP_PCI) {
			cap->writable[VPCI_CAP_BAR_AT] = 0xff;
			memset(cap->writable + VPCI_CAP_OFFSET_AT, 0xff, 12);
		}
	}
}

void vpci_describe(struct vpci *d)
{
	struct vfu_pci *pci = &d->dev.pci;

	*pci = (struct vfu_pci){
		.vendor = VPCI_VENDOR,
		.device = (uint16_t)(VPCI_DEVICE_BASE + d->vdev->ops->device_id),
		.subsys_vendor = VPCI_VENDOR,
		.subsys = VPCI_SUBSYS,
		.class_code = VPCI_CLASS,
		.revision = 1,
		/* One for each queue and one for the configuration, as far as they go. */
		.msix_vectors = (uint16_t)MIN(d->queue_count + 1, (uint32_t)VFU_MSIX_VECTORS_MAX),
		.msix_bar = VPCI_MSIX_BAR,
	};
	pci->bars[VPCI_BAR] =
		(struct vfu_bar){ .size_bytes = VPCI_BAR_BYTES, .map_fd = d->notify_fd };
	if (d->notify_fd >= 0) {
		pci->bars[VPCI_BAR].map_offset = VPCI_NOTIFY;
		pci->bars[VPCI_BAR].map_bytes = VPCI_NOTIFY_BYTES;
	}
	describe_caps(pci);
}
