/*
 * What a device model offers a vfio-user session: a PCI function. bind_nvme.c and bind_virtio.c
 * implement it; session, configuration space, regions, interrupts and migration know no more of a
 * device than this.
 *
 * The session has the configuration space (built from struct vfu_pci and the vendor capabilities),
 * the BAR with the MSI-X table, the maps of the guest's memory, the client's descriptors and the
 * migration states. The device has its other BARs, its queues and whatever is behind them.
 *
 *            quiesce               quiet()              resume
 *   RUNNING ---------> QUIESCING ---------> QUIESCED ------------> RUNNING
 *
 * Invariants
 *  1. All calls are main's. None waits: what takes time is told by a callback, once, maybe before
 *     the call returns.
 *  2. maps_set, dirty_set, reset, save and load come only while QUIESCED; bar_read, bar_write and
 *     the interrupt calls at any time. One quiesce at a time.
 *  3. After quiet() nothing of the guest's memory is read or written until resume.
 *  4. With a memory map taken away queues stay defined by their guest addresses, and go on when the
 *     memory is back (a client unmaps and maps all memory while queues are live).
 *  5. free comes once, at any time, also while QUIESCING: quiet() is then no longer called.
 */
#ifndef VFU_DEV_H
#define VFU_DEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define VFU_BARS	     6
#define VFU_BAR_BYTES_MAX    0x100000u
#define VFU_CAPS_MAX	     6
#define VFU_CAP_BYTES_MAX    32
#define VFU_MSIX_VECTORS_MAX 128

struct gdirty;
struct gmem;
struct loop;
struct parcel;
struct queue_visitor;
struct vfu_dev;
struct vring_coalescing;

/* One BAR of memory, 32-bit, not prefetchable. */
struct vfu_bar {
	uint32_t size_bytes; /* a power of two from 4096 on; 0: there is no such BAR */
	/*
	 * What the client may map: [map_offset, map_offset + map_bytes) of the BAR is at the same
	 * offset in map_fd (the device's). At most one area (clients take one descriptor for a
	 * region). All page-aligned; map_bytes 0: none, every access is a message.
	 */
	uint32_t map_offset, map_bytes;
	int map_fd;
};

/* A vendor-specific capability (id 09h). */
struct vfu_cap {
	uint32_t len_bytes;		     /* a multiple of 4, with the header's three bytes */
	uint8_t bytes[VFU_CAP_BYTES_MAX];    /* id, next and length are filled in */
	uint8_t writable[VFU_CAP_BYTES_MAX]; /* mask: bits that the guest may write */
};

struct vfu_pci {
	uint16_t vendor, device, subsys_vendor, subsys;
	uint32_t class_code; /* 24 bits, e.g. 010802h */
	uint8_t revision;
	uint16_t msix_vectors; /* 1 to VFU_MSIX_VECTORS_MAX */
	/* This BAR is the session's: table at 0, pending bits at 1000h. The device leaves it
	 * empty in bars. */
	uint8_t msix_bar;
	struct vfu_bar bars[VFU_BARS];
	uint32_t cap_count;
	struct vfu_cap caps[VFU_CAPS_MAX];
};

struct vfu_dev_ops {
	const char *type; /* "nvme": goes into the migration stream */

	/*
	 * len_bytes is 1, 2, 4 or 8 and off a multiple of it, within the BAR: the session has
	 * checked, and cut what was longer or not aligned. Reserved offsets read as 0 and ignore
	 * writes.
	 */
	void (*bar_read)(struct vfu_dev *dev, uint32_t bar, uint32_t off, void *buf,
			 uint32_t len_bytes);
	void (*bar_write)(struct vfu_dev *dev, uint32_t bar, uint32_t off, const void *buf,
			  uint32_t len_bytes);
	/*
	 * Optional, both: bytes of capability cap (of pci->caps) are about to be read from `bytes`;
	 * [off, off + len) of it has just been written there.
	 */
	void (*cap_read)(struct vfu_dev *dev, uint32_t cap, uint8_t *bytes, uint32_t off,
			 uint32_t len_bytes);
	void (*cap_write)(struct vfu_dev *dev, uint32_t cap, uint8_t *bytes, uint32_t off,
			  uint32_t len_bytes);

	/*
	 * The descriptor of an MSI-X vector, the device's from now on; -1: none. The device closes
	 * the old one when nobody writes to it any more.
	 */
	void (*vector_fd_set)(struct vfu_dev *dev, uint32_t vector, int fd);
	/* The same for the interrupt pin, which is used while MSI-X is off. */
	void (*intx_fd_set)(struct vfu_dev *dev, int fd);
	void (*msix_enable)(struct vfu_dev *dev, bool on);
	/* The guest ended its interrupt of the pin: again, if its cause is still there. */
	void (*intx_unmask)(struct vfu_dev *dev);

	/* See invariant 3. vfu_dev_quiet(dev) comes once. */
	void (*quiesce)(struct vfu_dev *dev);
	void (*resume)(struct vfu_dev *dev);
	/*
	 * readable: all that the guest gave; writable: what may be written (the same, or less
	 * read-only regions). User addresses of the regions are the guest's (iova). NULL: none.
	 * The device takes references and gives those on the old ones back.
	 */
	void (*maps_set)(struct vfu_dev *dev, struct gmem *readable, struct gmem *writable);
	/* Pages that the device writes are marked in it; NULL: none. A reference is taken. */
	void (*dirty_set)(struct vfu_dev *dev, struct gdirty *dirty);
	/* As after power on; memory and interrupt descriptors stay. */
	void (*reset)(struct vfu_dev *dev);

	/* Everything that the guest can know of the device: malloc'ed, the caller's. -ENOMEM,
	 * -ENOTSUP. */
	int (*save)(const struct vfu_dev *dev, void **ret_bytes, size_t *ret_len);
	/* Into a device that was just reset. -EINVAL, named; nothing was changed. */
	int (*load)(struct vfu_dev *dev, const void *bytes, size_t len, struct err *reterr);

	/*
	 * Hand-over, while QUIESCED; save and load are called as well. is_settled: optional; false:
	 * it is in a state that passes by, and save is not to be called. map_set: the area of this
	 * BAR that the client may map is in fd from now on, which is the device's in every case;
	 * where it has one. Before load; -EINVAL, -errno, named. pack and unpack (after load):
	 * optional, what a guest cannot know; p is checked: -EPROTO, -EINVAL, named.
	 */
	bool (*is_settled)(const struct vfu_dev *dev);
	int (*map_set)(struct vfu_dev *dev, uint32_t bar, int fd, struct err *reterr);
	int (*pack)(const struct vfu_dev *dev, struct parcel *p, struct err *reterr);
	int (*unpack)(struct vfu_dev *dev, struct parcel *p, struct err *reterr);

	/* Optional: its queues now; v->conn_idx is theirs. */
	void (*queues_visit)(const struct vfu_dev *dev, const struct queue_visitor *v);

	/* As vfu_endpoint_drain and vfu_endpoint_queue_move. */
	void (*queues_drain)(struct vfu_dev *dev, bool drained);
	int (*queue_move)(struct vfu_dev *dev, uint32_t idx, struct loop *loop, struct err *reterr);
	/* Optional: as vfu_endpoint_coalesce. */
	void (*coalesce)(struct vfu_dev *dev, const struct vring_coalescing *c);

	/* Drains and releases everything; vfu_dev_freed(dev) comes once, as the last thing: dev may
	 * be freed by the device after it. */
	void (*free)(struct vfu_dev *dev);
};

struct vfu_dev {
	const struct vfu_dev_ops *ops;
	const char *name; /* for messages */
	struct vfu_pci pci;

	/* The session's, set before the first call. */
	void *front;
	void (*quiet)(void *front);
	void (*freed)(void *front);
};

static inline void vfu_dev_quiet(struct vfu_dev *dev)
{
	dev->quiet(dev->front);
}

/* Nothing of the device may be used by the session after this. */
static inline void vfu_dev_freed(struct vfu_dev *dev)
{
	dev->freed(dev->front);
}

#endif
