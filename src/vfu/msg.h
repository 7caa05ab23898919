/*
 * vfio-user messages: their bytes, and one table that says for each what it may look like.
 *
 * msg.def holds a row per command of the client: number, name, payload size, how many descriptors,
 * and when the device must stand still while it is handled. The handler of row NAME is
 * vfu_handle_NAME(). All integers are in native byte order.
 *
 * A message lies in one buffer, header first. The handler writes the answer's payload over the
 * request's, and the buffer is sent.
 * Source: QEMU docs/interop/vfio-user.
 */
#ifndef VFU_MSG_H
#define VFU_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "vfu/dev.h"

#define VFU_HDR_BYTES	16u
#define VFU_FDS_MAX	16u	  /* descriptors with one message; told in VERSION */
#define VFU_XFER_MAX	0x100000u /* max_data_xfer_size, the protocol's default */
#define VFU_PAYLOAD_MAX (VFU_XFER_MAX + 64)
#define VFU_VERSION_MAX 4096u
#define VFU_INFO_MAX	4096u
#define VFU_WRITES_MAX	200u	 /* in one REGION_WRITE_MULTI, as clients send at most */
#define VFU_KEEP_BYTES	0x10000u /* a buffer larger than this is not kept */

/* hdr.flags */
#define VFU_TYPE_MASK	 0xfu
#define VFU_TYPE_COMMAND 0u
#define VFU_TYPE_REPLY	 1u
#define VFU_NO_REPLY	 0x10u
#define VFU_ERROR	 0x20u

/* Server to client. */
#define VFU_DMA_READ  11u
#define VFU_DMA_WRITE 12u

struct vfu_hdr {
	uint16_t id, command;
	uint32_t size; /* with the header */
	uint32_t flags, error;
};

struct vfu_dma_map {
	uint32_t argsz, flags;
	uint64_t offset, iova, size;
};
#define VFU_MAP_READ  0x1u
#define VFU_MAP_WRITE 0x2u

struct vfu_dma_unmap {
	uint32_t argsz, flags;
	uint64_t iova, size;
};
#define VFU_UNMAP_ALL 0x2u

struct vfu_device_info {
	uint32_t argsz, flags, num_regions, num_irqs;
};

struct vfu_region_info {
	uint32_t argsz, flags, index, cap_offset;
	uint64_t size, offset;
};
#define VFU_REGION_READ	 0x1u
#define VFU_REGION_WRITE 0x2u
#define VFU_REGION_MMAP	 0x4u
#define VFU_REGION_CAPS	 0x8u

struct vfu_region_sparse {
	uint16_t id, version; /* 1, 1 */
	uint32_t next, nr_areas, reserved;
	uint64_t offset, size;
};

enum vfu_region_index {
	VFU_REGION_BAR0 = 0,
	VFU_REGION_ROM = 6,
	VFU_REGION_CONFIG = 7,
	VFU_REGION_VGA = 8,
	VFU_REGIONS = 9,
};

struct vfu_irq_info {
	uint32_t argsz, flags, index, count;
};
#define VFU_IRQ_EVENTFD	   0x1u
#define VFU_IRQ_MASKABLE   0x2u
#define VFU_IRQ_AUTOMASKED 0x4u

enum vfu_irq_index {
	VFU_IRQ_INTX,
	VFU_IRQ_MSI,
	VFU_IRQ_MSIX,
	VFU_IRQ_ERR,
	VFU_IRQ_REQ,
	VFU_IRQS,
};

struct vfu_irq_set {
	uint32_t argsz, flags, index, start, count;
	uint8_t bools[];
};
#define VFU_IRQ_DATA_NONE      0x01u
#define VFU_IRQ_DATA_BOOL      0x02u
#define VFU_IRQ_DATA_EVENTFD   0x04u
#define VFU_IRQ_ACTION_MASK    0x08u
#define VFU_IRQ_ACTION_UNMASK  0x10u
#define VFU_IRQ_ACTION_TRIGGER 0x20u

struct vfu_region_io {
	uint64_t offset;
	uint32_t region, count;
	uint8_t bytes[];
};

struct vfu_write_multi {
	uint64_t count;
	struct vfu_write {
		uint64_t offset;
		uint32_t region, count;
		uint8_t bytes[8];
	} writes[];
};

struct vfu_dma_io {
	uint64_t iova, count;
	uint8_t bytes[];
};

struct vfu_feature {
	uint32_t argsz, flags;
	uint8_t bytes[];
};
#define VFU_FEATURE_MASK  0x0000ffffu
#define VFU_FEATURE_GET	  0x00010000u
#define VFU_FEATURE_SET	  0x00020000u
#define VFU_FEATURE_PROBE 0x00040000u

struct vfu_mig_data {
	uint32_t argsz, size;
	uint8_t bytes[];
};

struct vfu_msg {
	struct list node;
	struct vfu_hdr hdr;
	uint8_t *buf;	  /* header and payload, VFU_HDR_BYTES + capacity; NULL: none */
	size_t capacity;  /* of payload */
	uint32_t payload; /* bytes that are there */
	int fds[VFU_FDS_MAX];
	uint32_t fd_count;
	/* the answer, by the handler */
	uint32_t reply_bytes;
	int reply_fd; /* a copy is sent; -1: none */
};

/* When the device stands still while a message is handled. */
enum vfu_quiet {
	VFU_QUIET_NONE,
	VFU_QUIET_FD,	   /* a map that we can use: it has a descriptor */
	VFU_QUIET_UNMAP,   /* one that we use is to go */
	VFU_QUIET_FEATURE, /* migration state and dirty logging are set */
};

enum vfu_number {
#define VFU_MSG(number, name, ...) VFU_CMD_##name = number,
#include "vfu/msg.def"
#undef VFU_MSG
};

struct vfu_session;

struct vfu_row {
	uint32_t number;
	const char *name;
	uint32_t size_min, size_max, fd_max;
	enum vfu_quiet quiet;
	/* Returns 0, or -errno: refused, nothing changed; the client gets the errno. */
	int (*handle)(struct vfu_session *s, struct vfu_msg *m, struct err *reterr);
};

/* NULL: unknown. */
const struct vfu_row *vfu_row_find(uint32_t number);
/* Does the message fit its row? -EINVAL with the message named. Thread: any. */
int vfu_msg_check(const struct vfu_row *row, const struct vfu_msg *m, struct err *reterr);

static inline void *vfu_msg_bytes(const struct vfu_msg *m)
{
	return m->buf + VFU_HDR_BYTES;
}

/* Room for a payload of at most VFU_PAYLOAD_MAX (what is there is kept). -ENOMEM. */
int vfu_msg_reserve(struct vfu_msg *m, size_t payload);
/* Descriptor i is the caller's from now on; -1 when there is none. */
int vfu_msg_fd_take(struct vfu_msg *m, uint32_t i);
/* Closes what is left; keeps a small buffer for the next message. */
void vfu_msg_drop(struct vfu_msg *m);
/* Also frees the buffer. Any number of times. */
void vfu_msg_fini(struct vfu_msg *m);

#define VFU_MSG(number, name, ...)                                                                 \
	int vfu_handle_##name(struct vfu_session *s, struct vfu_msg *m, struct err *reterr);
#include "vfu/msg.def"
#undef VFU_MSG

#endif
