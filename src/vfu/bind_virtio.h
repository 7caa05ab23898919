/*
 * A virtio device model as a PCI function: the modern transport of virtio 1.3, 4.1, between
 * dev.h (what a session wants) and vdev.h (what a model offers). The model does not know it.
 *
 * One BAR (4) has the four structures, a page each: common configuration, ISR status, the model's
 * configuration, notifications. MSI-X is the session's, in BAR 1. Registers are main's. A queue
 * that should run is a vring on a data loop, and whether it should is derived from the registers
 * after everything that happens (vpci_step):
 *
 *   runs     DRIVER_OK, queue_enable, not broken, its memory there, and nothing of:
 *   stands   the device resets, its queue resets, the session wants quiet, the end
 *
 * Invariants
 *  1. A write of 0 to device_status resets all registers at once; status reads as it was until all
 *     queues are drained, or as the driver that does not wait for that writes it meanwhile. No
 *     queue starts before, and the model is reset then.
 *  2. quiet() is told when no queue runs and no command is under way; resume starts them where
 *     they stopped.
 *  3. A queue whose memory was mapped when it got ready (DRIVER_OK and queue_enable), and is not
 *     now, waits for it. One whose memory was not tells DEVICE_NEEDS_RESET: its driver lied.
 *  4. Each queue, and the configuration interrupt, write to a descriptor of their own (a copy of
 *     the vector's): none is closed while an eventfd write of it is in the kernel.
 * Thread: main.
 */
#ifndef VFU_BIND_VIRTIO_H
#define VFU_BIND_VIRTIO_H

#include "base/log.h"
#include "loop/notify.h"
#include "vfu/dev.h"
#include "vfu/vfu.h"
#include "virtio/vdev.h"
#include "virtio/vring.h"

#define VPCI_BAR	   4
#define VPCI_MSIX_BAR	   1
#define VPCI_BAR_BYTES	   0x4000u
#define VPCI_COMMON	   0x0000u
#define VPCI_COMMON_BYTES  0x40u
#define VPCI_ISR	   0x1000u
#define VPCI_CONFIG	   0x2000u
#define VPCI_NOTIFY	   0x3000u
#define VPCI_NOTIFY_BYTES  0x1000u
#define VPCI_NOTIFY_STRIDE 4u /* notify_off_multiplier */
#define VPCI_QUEUES_MAX	   (VPCI_NOTIFY_BYTES / VPCI_NOTIFY_STRIDE)
#define VPCI_NO_VECTOR	   0xffffu /* virtio 1.3, 4.1.5.1.2 */

/* virtio 1.3, 2.1 */
#define VPCI_STATUS_DRIVER_OK	0x04u
#define VPCI_STATUS_FEATURES_OK 0x08u
#define VPCI_STATUS_NEEDS_RESET 0x40u

struct vpci_queue {
	struct vring v;
	/* registers */
	uint32_t size;
	uint16_t vector;
	bool enabled, resetting; /* queue_reset was written: until it is drained */
	struct vring_place place;

	bool placed;	   /* its memory was there when the driver said that it is ready */
	bool ran;	   /* since it was enabled: v.base is its position */
	bool failed;	   /* broke or could not start */
	bool call_stale;   /* its interrupt changed */
	bool moving;	   /* it is drained, to start on loop */
	struct loop *loop; /* where management wants it; NULL: anywhere */
};

struct vpci {
	struct vfu_dev dev;
	struct vfu_virtio_params params;
	struct vdev *vdev;
	struct vring_owner owner;
	struct log_limit limit;
	int notify_fd; /* the mappable page; -1: notifications are messages */

	/* registers */
	uint32_t device_feature_select, driver_feature_select;
	uint64_t driver_features, features; /* as written; as agreed at FEATURES_OK */
	uint16_t config_vector, queue_select;
	uint8_t status, status_before, config_generation;
	bool resetting; /* status 0 was written: until all queues are drained */

	struct vpci_queue *queues;
	uint32_t queue_count;
	struct gmem *map; /* NULL: none */
	struct gdirty *dirty;
	bool halted, quiet_told; /* between quiesce and resume */
	bool freeing;
	bool drained; /* by management */

	/* interrupts: irq.c's part */
	int vectors[VFU_MSIX_VECTORS_MAX], intx_fd; /* owned; -1: none */
	bool msix_on;
	uint32_t isr_queues; /* atomic, set by data loops */
	bool isr_config;
	struct notify config_bell;
	int config_fd; /* owned */
	bool config_swapping, config_stale;
};

static inline struct vpci *vpci_of(struct vfu_dev *dev)
{
	return container_of(dev, struct vpci, dev);
}

/* ---- bind_virtio.c ---- */

/* Goes on after anything that changed: starts and drains queues, ends a reset, tells quiet and
 * freed. d may be gone after it. */
void vpci_step(struct vpci *d);
/* All registers as after power on. */
void vpci_registers_reset(struct vpci *d);
/* The driver wrote queue_reset: as after power on, when it is drained. */
void vpci_queue_reset(struct vpci *d, struct vpci_queue *q);
/* DEVICE_NEEDS_RESET, and the driver is told. */
void vpci_needs_reset(struct vpci *d);

/* ---- bind_virtio_regs.c ---- */

uint64_t vpci_features_offered(const struct vpci *d);
/* Operations of vfu_dev_ops. */
void vpci_bar_read(struct vfu_dev *dev, uint32_t bar, uint32_t off, void *buf, uint32_t len_bytes);
void vpci_bar_write(struct vfu_dev *dev, uint32_t bar, uint32_t off, const void *buf,
		    uint32_t len_bytes);

/* ---- bind_virtio_caps.c ---- */

/* The configuration space's and BARs' description. */
void vpci_describe(struct vpci *d);
/* Operations of vfu_dev_ops. */
void vpci_cap_read(struct vfu_dev *dev, uint32_t cap, uint8_t *bytes, uint32_t off,
		   uint32_t len_bytes);
void vpci_cap_write(struct vfu_dev *dev, uint32_t cap, uint8_t *bytes, uint32_t off,
		    uint32_t len_bytes);

/* ---- bind_virtio_irq.c ---- */

void vpci_irq_init(struct vpci *d);
/* Closes all descriptors; the configuration interrupt is idle. */
void vpci_irq_fini(struct vpci *d);
/* What a queue interrupts: a copy of a descriptor (-1: none), and the status that goes with it. */
int vpci_queue_call(struct vpci *d, const struct vpci_queue *q, uint32_t **ret_isr);
/* The configuration changed, or the device needs a reset. */
void vpci_config_interrupt(struct vpci *d);
/* config_vector, or what it leads to, changed. */
void vpci_config_bell_update(struct vpci *d);
/* Reads and clears the ISR status (virtio 1.3, 4.1.4.5). */
uint8_t vpci_isr_take(struct vpci *d);
/* Operations of vfu_dev_ops. */
void vpci_vector_fd_set(struct vfu_dev *dev, uint32_t vector, int fd);
void vpci_intx_fd_set(struct vfu_dev *dev, int fd);
void vpci_msix_enable(struct vfu_dev *dev, bool on);
void vpci_intx_unmask(struct vfu_dev *dev);

/* ---- bind_virtio_save.c ---- */

int vpci_save(const struct vfu_dev *dev, void **ret_bytes, size_t *ret_len);
int vpci_load(struct vfu_dev *dev, const void *bytes, size_t len, struct err *reterr);
int vpci_map_set(struct vfu_dev *dev, uint32_t bar, int fd, struct err *reterr);
int vpci_pack(const struct vfu_dev *dev, struct parcel *p, struct err *reterr);
int vpci_unpack(struct vfu_dev *dev, struct parcel *p, struct err *reterr);

#endif
