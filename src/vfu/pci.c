#include "vfu/pci.h"

#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "vfu/session.h"

#define PCI_COMMAND	     0x04u
#define PCI_COMMAND_INTX_OFF 0x0400u
#define PCI_BAR0	     0x10u
#define PCI_CAPS	     0x40u
#define PCI_CAP_MSIX	     0x11u
#define PCI_CAP_VENDOR	     0x09u
#define EXP_DEVICE_CONTROL   0x08u
#define EXP_FLR		     0x8000u

/* One field: its value at reset and the bits of it that may be written. */
struct vfu_field {
	uint8_t off, width;
	uint32_t reset, writable;
};

/* The header (type 0). Identity, class, BARs and subsystem are filled in. PCI 3.0, 6.1. */
static const struct vfu_field vfu_header[] = {
	{ PCI_COMMAND, 2, 0x0000, 0x0546 }, /* memory, master, parity, SERR, INTx off */
	{ 0x06, 2, 0x0010, 0x0000 },	    /* status: has capabilities */
	{ 0x0c, 1, 0x00, 0xff },	    /* cache line size */
	{ 0x0d, 1, 0x00, 0xff },	    /* latency timer */
	{ 0x34, 1, PCI_CAPS, 0x00 },
	{ 0x3c, 1, 0x00, 0xff }, /* interrupt line */
	{ 0x3d, 1, 0x01, 0x00 }, /* interrupt pin A */
};

/* PCI power management 1.2, 3.2: state D0 or D3hot, no reset on the way back. */
static const struct vfu_field vfu_cap_pm[] = {
	{ 0x00, 1, 0x01, 0 },
	{ 0x02, 2, 0x0003, 0 },
	{ 0x04, 2, 0x0008, 0x0003 },
};

/* PCI Express 3.0, 7.8: version 2, endpoint, function level reset; a link that looks trained. */
static const struct vfu_field vfu_cap_express[] = {
	{ 0x00, 1, 0x10, 0 },
	{ 0x02, 2, 0x0002, 0 },
	{ 0x04, 4, 0x10008000, 0 }, /* device capabilities: FLR, role-based errors */
	{ EXP_DEVICE_CONTROL, 2, 0x2810, 0x78ff },
	{ 0x0c, 4, 0x00000043, 0 }, /* link capabilities: 8 GT/s, 4 lanes */
	{ 0x10, 2, 0x0000, 0x00c3 },
	{ 0x12, 2, 0x0043, 0 },
	{ 0x24, 4, 0x00000010, 0 }, /* device capabilities 2: completion timeout disable */
	{ 0x28, 2, 0x0000, 0x001f },
	{ 0x2c, 4, 0x0000000e, 0 }, /* link capabilities 2 */
	{ 0x30, 2, 0x0003, 0x000f },
};
#define EXP_BYTES 0x3cu

/* PCI 3.0, 6.8.2. The count and the BAR are filled in. */
static const struct vfu_field vfu_cap_msix[] = {
	{ 0x00, 1, PCI_CAP_MSIX, 0 },
	{ 0x02, 2, 0x0000, 0xc000 },
};
#define MSIX_BYTES 12u

static void vfu_put(uint8_t *bytes, uint32_t at, uint32_t width, uint32_t value)
{
	for (uint32_t i = 0; i < width; i++)
		bytes[at + i] = (uint8_t)(value >> 8 * i);
}

static void vfu_fields_put(struct vfu_space *p, uint32_t at, const struct vfu_field *fields,
			   uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		vfu_put(p->reset, at + fields[i].off, fields[i].width, fields[i].reset);
		vfu_put(p->writable, at + fields[i].off, fields[i].width, fields[i].writable);
	}
}

/* ---- the layout ---- */

/* Appends a capability: links it to the one before, whose next field is at *link. */
static int vfu_cap_place(uint32_t *end, uint32_t len, struct vfu_space *p, uint32_t *link,
			 uint32_t *ret_at, struct err *reterr)
{
	if (!num_range_ok(*end, len, VFU_CONFIG_LEGACY))
		return err_set(reterr, -EINVAL, "capabilities pass the %u bytes of the header",
			       VFU_CONFIG_LEGACY);
	vfu_put(p->reset, *link, 1, *end);
	*link = *end + 1;
	*ret_at = *end;
	*end += len;
	return 0;
}

static int vfu_caps_place(struct vfu_space *p, const struct vfu_pci *pci, struct err *reterr)
{
	uint32_t end = PCI_CAPS, link = 0x34, at;
	int rc = vfu_cap_place(&end, 8, p, &link, &at, reterr);

	if (!rc)
		vfu_fields_put(p, at, vfu_cap_pm, ARRAY_SIZE(vfu_cap_pm));
	if (!rc)
		rc = vfu_cap_place(&end, EXP_BYTES, p, &link, &p->express_at, reterr);
	if (!rc)
		vfu_fields_put(p, p->express_at, vfu_cap_express, ARRAY_SIZE(vfu_cap_express));
	if (!rc)
		rc = vfu_cap_place(&end, MSIX_BYTES, p, &link, &at, reterr);
	if (rc)
		return rc;
	vfu_fields_put(p, at, vfu_cap_msix, ARRAY_SIZE(vfu_cap_msix));
	vfu_put(p->reset, at + 2, 2, pci->msix_vectors - 1u);
	vfu_put(p->reset, at + 4, 4, pci->msix_bar);
	vfu_put(p->reset, at + 8, 4, VFU_MSIX_PBA | pci->msix_bar);
	for (uint32_t i = 0; i < pci->cap_count; i++) {
		const struct vfu_cap *cap = &pci->caps[i];

		rc = vfu_cap_place(&end, cap->len_bytes, p, &link, &at, reterr);
		if (rc)
			return rc;
		memcpy(p->reset + at + 3, cap->bytes + 3, cap->len_bytes - 3);
		memcpy(p->writable + at + 3, cap->writable + 3, cap->len_bytes - 3);
		p->reset[at] = PCI_CAP_VENDOR;
		p->reset[at + 2] = (uint8_t)cap->len_bytes;
		p->cap_at[i] = at;
	}
	return 0;
}

static int vfu_pci_check(const struct vfu_pci *pci, struct err *reterr)
{
	if (!pci->msix_vectors || pci->msix_vectors > VFU_MSIX_VECTORS_MAX)
		return err_set(reterr, -EINVAL, "vectors: expected 1..%u, got %u",
			       VFU_MSIX_VECTORS_MAX, pci->msix_vectors);
	if (pci->msix_bar >= VFU_BARS || pci->bars[pci->msix_bar].size_bytes)
		return err_set(reterr, -EINVAL, "MSI-X needs a BAR of its own, got %u",
			       pci->msix_bar);
	for (uint32_t i = 0; i < VFU_BARS; i++) {
		const struct vfu_bar *bar = &pci->bars[i];

		if (!bar->size_bytes)
			continue;
		if (!num_is_pow2(bar->size_bytes) || bar->size_bytes < 0x1000 ||
		    bar->size_bytes > VFU_BAR_BYTES_MAX ||
		    !num_range_ok(bar->map_offset, bar->map_bytes, bar->size_bytes))
			return err_set(reterr, -EINVAL, "BAR %u: a size of %u cannot be", i,
				       bar->size_bytes);
	}
	if (pci->cap_count > VFU_CAPS_MAX)
		return err_set(reterr, -EINVAL, "capabilities: expected at most %u, got %u",
			       VFU_CAPS_MAX, pci->cap_count);
	for (uint32_t i = 0; i < pci->cap_count; i++) {
		uint32_t len = pci->caps[i].len_bytes;

		if (len < 4 || len > VFU_CAP_BYTES_MAX || len % 4)
			return err_set(reterr, -EINVAL, "capability %u: %u bytes cannot be", i,
				       len);
	}
	return 0;
}

int vfu_space_init(struct vfu_space *p, const struct vfu_dev *dev, struct err *reterr)
{
	const struct vfu_pci *pci = &dev->pci;
	int rc = vfu_pci_check(pci, reterr);

	if (rc)
		return rc;
	*p = (struct vfu_space){ 0 };
	vfu_fields_put(p, 0, vfu_header, ARRAY_SIZE(vfu_header));
	vfu_put(p->reset, 0x00, 2, pci->vendor);
	vfu_put(p->reset, 0x02, 2, pci->device);
	vfu_put(p->reset, 0x08, 4, pci->class_code << 8 | pci->revision);
	vfu_put(p->reset, 0x2c, 2, pci->subsys_vendor);
	vfu_put(p->reset, 0x2e, 2, pci->subsys);
	for (uint32_t i = 0; i < VFU_BARS; i++) {
		uint32_t size = i == pci->msix_bar ? VFU_MSIX_BAR_BYTES : pci->bars[i].size_bytes;

		/* The size shows in the bits that stay 0. No BAR: all of them do. */
		if (size)
			vfu_put(p->writable, PCI_BAR0 + 4 * i, 4, ~(size - 1));
	}
	rc = vfu_caps_place(p, pci, reterr);
	if (!rc)
		vfu_space_reset(p);
	return rc;
}

void vfu_space_reset(struct vfu_space *p)
{
	memcpy(p->bytes, p->reset, sizeof(p->bytes));
	memset(p->msix_table, 0, sizeof(p->msix_table));
	/* Vectors start masked. */
	for (uint32_t i = 0; i < VFU_MSIX_VECTORS_MAX; i++)
		p->msix_table[i * 16 + 12] = 1;
}

bool vfu_config_intx_is_off(const struct vfu_space *p)
{
	return p->bytes[PCI_COMMAND + 1] & PCI_COMMAND_INTX_OFF >> 8;
}

/* ---- accesses ---- */

typedef void vfu_cap_hook(struct vfu_dev *dev, uint32_t cap, uint8_t *bytes, uint32_t off,
			  uint32_t len);

/* Calls hook for the device's capabilities that [off, off + len) touches. */
static void vfu_caps_visit(struct vfu_session *s, uint32_t off, uint32_t len, vfu_cap_hook *hook)
{
	struct vfu_space *p = &s->pci;

	for (uint32_t i = 0; hook && i < s->dev->pci.cap_count; i++) {
		uint32_t at = p->cap_at[i], end = at + s->dev->pci.caps[i].len_bytes;
		uint32_t lo = MAX(off, at), hi = MIN(off + len, end);

		if (lo < hi)
			hook(s->dev, i, p->bytes + at, lo - at, hi - lo);
	}
}

void vfu_config_read(struct vfu_session *s, uint32_t off, uint8_t *dst, uint32_t len)
{
	vfu_caps_visit(s, off, len, s->dev->ops->cap_read);
	for (uint32_t i = 0; i < len; i++)
		dst[i] = off + i < VFU_CONFIG_LEGACY ? s->pci.bytes[off + i] : 0;
}

void vfu_config_write(struct vfu_session *s, uint32_t off, const uint8_t *src, uint32_t len)
{
	struct vfu_space *p = &s->pci;
	uint32_t flr_at = p->express_at + EXP_DEVICE_CONTROL + 1;
	bool intx_was_off = vfu_config_intx_is_off(p);

	for (uint32_t i = 0; i < len && off + i < VFU_CONFIG_LEGACY; i++) {
		uint8_t *byte = &p->bytes[off + i], mask = p->writable[off + i];

		*byte = (*byte & ~mask) | (src[i] & mask);
		if (off + i == flr_at && src[i] & EXP_FLR >> 8)
			vfu_session_reset_wanted(s);
	}
	vfu_caps_visit(s, off, len, s->dev->ops->cap_write);
	if (vfu_config_intx_is_off(p) != intx_was_off)
		vfu_irqs_intx_update(s);
}

void vfu_msix_read(const struct vfu_space *p, const struct vfu_pci *pci, uint32_t off, uint8_t *dst,
		   uint32_t len)
{
	/* Pending bits are the client's to keep: none are ever set here. */
	for (uint32_t i = 0; i < len; i++)
		dst[i] = off + i < pci->msix_vectors * 16u ? p->msix_table[off + i] : 0;
}

void vfu_msix_write(struct vfu_space *p, const struct vfu_pci *pci, uint32_t off,
		    const uint8_t *src, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++) {
		if (off + i < pci->msix_vectors * 16u)
			p->msix_table[off + i] = src[i];
	}
}
