/*
 * What blk.c (requests) and blk_config.c (features and configuration space) share.
 */
#ifndef VIRTIO_BLK_IMPL_H
#define VIRTIO_BLK_IMPL_H

#include <stdatomic.h>

#include "blk/blk.h"
#include "blk/limit.h"
#include "virtio/features.h"
#include "virtio/vdev.h"

/* Segments of one discard / write-zeroes / secure-erase request; each is at most 1 GiB. */
#define VBLK_SEGS_MAX	     16
#define VBLK_SEG_SECTORS_MAX (1u << 21)
#define VBLK_SEG_MAX_DEFAULT 126 /* with header and status, a queue of 128 */
#define VBLK_NUM_QUEUES_MAX  256
#define VBLK_QUEUE_SIZE_MIN  4

struct vblk {
	struct vdev vdev;
	struct blk_dev *dev;
	struct blk_limits *limits; /* NULL: none */
	struct blk_listener listener;
	char *name;
	char serial[VIRTIO_BLK_ID_BYTES]; /* NUL padded, not terminated when full */
	bool read_only;
	bool guest_buffers;
	uint16_t num_queues;
	uint32_t seg_max;
	uint32_t size_max; /* 0: not offered */
	uint64_t negotiated;
	bool writeback; /* the configuration field, as the driver left it */
	/*
	 * Each write must be durable when it completes. Written on main; data loops read it
	 * relaxed: a change takes effect for requests popped a moment later, as on hardware.
	 */
	atomic_bool write_through;
};

static inline struct vblk *vblk_of(struct vdev *vdev)
{
	return container_of(vdev, struct vblk, vdev);
}

static inline const struct vblk *vblk_of_const(const struct vdev *vdev)
{
	return container_of(vdev, const struct vblk, vdev);
}

uint64_t vblk_features(const struct vdev *vdev);
void vblk_features_set(struct vdev *vdev, uint64_t negotiated);
void vblk_config_read(const struct vdev *vdev, uint8_t config[VDEV_CONFIG_MAX]);
int vblk_config_write(struct vdev *vdev, uint32_t off, const void *src, uint32_t len);
void vblk_reset(struct vdev *vdev);
int vblk_pack(const struct vdev *vdev, struct parcel *p, struct err *reterr);
int vblk_unpack(struct vdev *vdev, struct parcel *p, struct err *reterr);

/* Most sectors one segment may have: the back-end's limit, or ours. */
uint32_t vblk_seg_sectors_max(uint64_t limit_bytes, uint32_t block_bytes);

#endif
