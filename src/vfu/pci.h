/*
 * PCI configuration space, as a table of fields: where, reset value, bits that may be written.
 * Capabilities are laid out one after the other from 40h: PM, PCI Express (an endpoint with
 * function level reset), MSI-X, and the device's own. There is no ROM, and the extended space
 * reads as zeroes. Also the MSI-X table and pending bits, in a BAR of their own: the client
 * emulates both, so that here they are only memory.
 * Source: PCI 3.0, 6.1 and 6.7; PCI Express 3.0, 7.8; virtual or not, only what drivers look at.
 * Thread: main.
 */
#ifndef VFU_PCI_H
#define VFU_PCI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "vfu/dev.h"

#define VFU_CONFIG_BYTES   4096u /* as a region */
#define VFU_CONFIG_LEGACY  256u	 /* what is kept; the rest reads as zeroes */
#define VFU_MSIX_BAR_BYTES 0x2000u
#define VFU_MSIX_PBA	   0x1000u

struct vfu_session;

struct vfu_space {
	uint8_t bytes[VFU_CONFIG_LEGACY];
	uint8_t writable[VFU_CONFIG_LEGACY];
	uint8_t reset[VFU_CONFIG_LEGACY];
	uint32_t express_at;	       /* the PCI Express capability */
	uint32_t cap_at[VFU_CAPS_MAX]; /* the device's */
	uint8_t msix_table[VFU_MSIX_VECTORS_MAX * 16];
};

/* Lays it out. -EINVAL: it does not fit, or BARs are not as dev.h says. */
int vfu_space_init(struct vfu_space *p, const struct vfu_dev *dev, struct err *reterr);
/* Everything as at the start. */
void vfu_space_reset(struct vfu_space *p);

/* Did the guest turn the interrupt pin off (Command register)? */
bool vfu_config_intx_is_off(const struct vfu_space *p);

/* [off, off + len) lies within VFU_CONFIG_BYTES. */
void vfu_config_read(struct vfu_session *s, uint32_t off, uint8_t *dst, uint32_t len);
/* May ask the session for a reset of the device. */
void vfu_config_write(struct vfu_session *s, uint32_t off, const uint8_t *src, uint32_t len);

/* The MSI-X BAR; [off, off + len) lies within VFU_MSIX_BAR_BYTES. */
void vfu_msix_read(const struct vfu_space *p, const struct vfu_pci *pci, uint32_t off, uint8_t *dst,
		   uint32_t len);
void vfu_msix_write(struct vfu_space *p, const struct vfu_pci *pci, uint32_t off,
		    const uint8_t *src, uint32_t len);

#endif
