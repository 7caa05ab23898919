/*
 * A scripted monitor and guest for a virtio device behind vfio-user: virtio over PCI, written from
 * virtio 1.3, 4.1, on the vfio-user client of vfufe.h.
 *
 * It is a transport of struct fe: what fe.h says of fe_up(), fe_vring_start(), fe_get_config(),
 * fe_set_config() and fe_fini() is then done over vfio-user, and drv.h, blkdrv.h and scsidrv.h
 * work as ever on its memory and rings.
 *
 *	vpcife_init(&p); fe_connect(&p.v.fe, path); fe_up(&p.v.fe, &opts); drv_init(&q, &p.v.fe, 0);
 *
 * Interrupts: vector 0 is the configuration's, vector i + 1 queue i's; with `pin` all share INTx.
 * Results as in vfufe.h.
 */
#ifndef TESTS_LIB_VPCIFE_H
#define TESTS_LIB_VPCIFE_H

#include "vfufe.h"

#define VPCI_ACKNOWLEDGE 1u
#define VPCI_DRIVER	 2u
#define VPCI_DRIVER_OK	 4u
#define VPCI_FEATURES_OK 8u
#define VPCI_NEEDS_RESET 0x40u
#define VPCI_NO_VECTOR	 0xffffu

/* Fields of the common configuration: 4.1.4.3. */
enum {
	VPCI_DEVICE_FEATURE_SELECT = 0x00,
	VPCI_DEVICE_FEATURE = 0x04,
	VPCI_DRIVER_FEATURE_SELECT = 0x08,
	VPCI_DRIVER_FEATURE = 0x0c,
	VPCI_CONFIG_MSIX_VECTOR = 0x10,
	VPCI_NUM_QUEUES = 0x12,
	VPCI_DEVICE_STATUS = 0x14,
	VPCI_CONFIG_GENERATION = 0x15,
	VPCI_QUEUE_SELECT = 0x16,
	VPCI_QUEUE_SIZE = 0x18,
	VPCI_QUEUE_MSIX_VECTOR = 0x1a,
	VPCI_QUEUE_ENABLE = 0x1c,
	VPCI_QUEUE_NOTIFY_OFF = 0x1e,
	VPCI_QUEUE_DESC = 0x20,
	VPCI_QUEUE_DRIVER = 0x28,
	VPCI_QUEUE_DEVICE = 0x30,
	VPCI_QUEUE_RESET = 0x3a,
};

/* Where a structure is: 4.1.4. */
struct vpci_place {
	uint32_t bar, off, len;
};

struct vpcife {
	struct vfe v; /* first, and fe is first in it */
	bool pin;     /* set before fe_up: INTx instead of MSI-X */
	bool window;  /* notifications go through configuration space: 4.1.4.9 */
	struct vpci_place common, isr, config, notify;
	uint32_t notify_stride, window_at; /* PCI_CAP_PCI's place in configuration space */
};

/* -ENOMEM. fe_fini(&p->v.fe) ends it, and makes a vhost-user front-end of it. */
int vpcife_init(struct vpcife *p);

/* A field of the common configuration, or anything of a structure. */
int vpcife_get(struct vpcife *p, uint32_t field, uint32_t len, uint64_t *ret_value);
int vpcife_set(struct vpcife *p, uint32_t field, uint32_t len, uint64_t value);
int vpcife_read(struct vpcife *p, const struct vpci_place *at, uint32_t off, void *ret,
		uint32_t len);
int vpcife_write(struct vpcife *p, const struct vpci_place *at, uint32_t off, const void *bytes,
		 uint32_t len);
int vpcife_status(struct vpcife *p, uint8_t *ret_status);
/* Writes 0 and waits until it reads back: 4.1.4.3.2. */
int vpcife_reset(struct vpcife *p);
/* From reset to FEATURES_OK; fe.features is what was agreed. -EREMOTEIO: refused. */
int vpcife_negotiate(struct vpcife *p, uint64_t wanted);
/* Writes the registers of a queue that fe_vring_place() has placed, and enables it. */
int vpcife_queue_up(struct vpcife *p, unsigned idx, bool interrupts);
/* queue_reset, and waits for its end. */
int vpcife_queue_reset(struct vpcife *p, unsigned idx);
int vpcife_driver_ok(struct vpcife *p);
/* A write, or a read, through the window in configuration space: 4.1.4.9. */
int vpcife_window_write(struct vpcife *p, const struct vpci_place *at, uint32_t off, uint32_t len,
			uint32_t value);
int vpcife_window_read(struct vpcife *p, const struct vpci_place *at, uint32_t off, uint32_t len,
		       uint32_t *ret_value);

#endif
