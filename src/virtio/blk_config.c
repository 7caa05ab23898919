/*
 * virtio-blk: what is offered, and the configuration space (virtio 1.3, 5.2.3 to 5.2.5).
 * Everything follows from the back-end's capabilities and the device's parameters. Thread: main.
 */
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "base/parcel.h"
#include "virtio/blk_impl.h"

uint32_t vblk_seg_sectors_max(uint64_t limit_bytes, uint32_t block_bytes)
{
	uint64_t bytes = (uint64_t)VBLK_SEG_SECTORS_MAX << VIRTIO_BLK_SECTOR_SHIFT;

	if (limit_bytes)
		bytes = MIN(bytes, limit_bytes);
	bytes = MAX(num_round_down(bytes, block_bytes), (uint64_t)block_bytes);
	return (uint32_t)(bytes >> VIRTIO_BLK_SECTOR_SHIFT);
}

/* One row a feature: is it offered on this device? */
uint64_t vblk_features(const struct vdev *vdev)
{
	const struct vblk *v = vblk_of_const(vdev);
	const struct blk_caps *caps = blk_dev_caps(v->dev);
	bool writable = !v->read_only;
	const struct {
		uint64_t mask;
		bool offered;
	} rows[] = {
		/* a SIZE_MAX of 0 makes some drivers cut everything into sectors */
		{ VIRTIO_BLK_F_SIZE_MAX, v->size_max != 0 },
		{ VIRTIO_BLK_F_SEG_MAX, true },
		{ VIRTIO_BLK_F_GEOMETRY, true },
		{ VIRTIO_BLK_F_RO, v->read_only },
		{ VIRTIO_BLK_F_BLK_SIZE, true },
		{ VIRTIO_BLK_F_FLUSH, true }, /* 5.2.5.2: MUST with CONFIG_WCE */
		{ VIRTIO_BLK_F_TOPOLOGY, true },
		{ VIRTIO_BLK_F_CONFIG_WCE, true },
		{ VIRTIO_BLK_F_MQ, true },
		{ VIRTIO_BLK_F_DISCARD, caps->discard && writable },
		{ VIRTIO_BLK_F_WRITE_ZEROES, caps->write_zeroes && writable },
		{ VIRTIO_BLK_F_SECURE_ERASE, caps->secure_erase && writable },
	};
	uint64_t features = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].offered)
			features |= rows[i].mask;
	return features;
}

/*
 * A driver that cannot flush (no FLUSH), or that turned the cache off (writeback = 0), counts on
 * completed writes being durable (5.2.6.2).
 */
static void vblk_cache_mode_update(struct vblk *v)
{
	bool flushes = v->negotiated & VIRTIO_BLK_F_FLUSH;
	bool cache_off = (v->negotiated & VIRTIO_BLK_F_CONFIG_WCE) && !v->writeback;

	atomic_store_explicit(&v->write_through,
			      blk_dev_caps(v->dev)->volatile_cache && (!flushes || cache_off),
			      memory_order_relaxed);
}

void vblk_features_set(struct vdev *vdev, uint64_t negotiated)
{
	struct vblk *v = vblk_of(vdev);

	v->negotiated = negotiated;
	/* 5.2.5.2: CONFIG_WCE without FLUSH: writeback MUST start as 0 */
	if ((negotiated & VIRTIO_BLK_F_CONFIG_WCE) && !(negotiated & VIRTIO_BLK_F_FLUSH))
		v->writeback = false;
	vblk_cache_mode_update(v);
}

void vblk_reset(struct vdev *vdev)
{
	struct vblk *v = vblk_of(vdev);

	v->negotiated = 0;
	v->writeback = blk_dev_caps(v->dev)->volatile_cache;
	vblk_cache_mode_update(v);
}

static void vblk_config_topology(const struct vblk *v, const struct blk_caps *caps,
				 struct virtio_blk_config *c)
{
	uint32_t block = caps->block_bytes;
	uint32_t phys = MAX(caps->phys_bytes, block);
	uint64_t sectors512 = caps->size_bytes >> VIRTIO_BLK_SECTOR_SHIFT;
	const uint32_t heads = 255, track = 63; /* the usual invention where there are no tracks */

	c->cylinders = le16((uint16_t)MIN(sectors512 / (heads * track), (uint64_t)UINT16_MAX));
	c->heads = (uint8_t)heads;
	c->sectors = (uint8_t)track;
	c->blk_size_bytes = le32(block);
	c->physical_block_exp = (uint8_t)(__builtin_ctz(phys) - __builtin_ctz(block));
	c->min_io_size_blocks = le16((uint16_t)MIN(phys / block, (uint32_t)UINT16_MAX));
	c->opt_io_size_blocks = le32(caps->opt_io_bytes / block);
}

static void vblk_config_ranges(const struct vblk *v, const struct blk_caps *caps,
			       struct virtio_blk_config *c)
{
	uint32_t block = caps->block_bytes;
	uint32_t align = MAX(caps->discard_align_bytes, block) >> VIRTIO_BLK_SECTOR_SHIFT;

	if (v->read_only)
		return;
	if (caps->discard) {
		c->max_discard_sectors512 =
			le32(vblk_seg_sectors_max(caps->max_discard_bytes, block));
		c->max_discard_seg = le32(VBLK_SEGS_MAX);
		c->discard_sector_alignment512 = le32(align);
	}
	if (caps->write_zeroes) {
		c->max_write_zeroes_sectors512 =
			le32(vblk_seg_sectors_max(caps->max_zeroes_bytes, block));
		c->max_write_zeroes_seg = le32(VBLK_SEGS_MAX);
		c->write_zeroes_may_unmap = caps->zeroes_unmap;
	}
	if (caps->secure_erase) {
		c->max_secure_erase_sectors512 =
			le32(vblk_seg_sectors_max(caps->max_discard_bytes, block));
		c->max_secure_erase_seg = le32(VBLK_SEGS_MAX);
		c->secure_erase_sector_alignment512 = le32(align);
	}
}

void vblk_config_read(const struct vdev *vdev, uint8_t config[VDEV_CONFIG_MAX])
{
	const struct vblk *v = vblk_of_const(vdev);
	const struct blk_caps *caps = blk_dev_caps(v->dev);
	struct virtio_blk_config c = {
		.capacity_sectors512 = le64(caps->size_bytes >> VIRTIO_BLK_SECTOR_SHIFT),
		.size_max_bytes = le32(v->size_max),
		.seg_max = le32(v->seg_max),
		.writeback = v->writeback,
		.num_queues = le16(v->num_queues),
	};

	vblk_config_topology(v, caps, &c);
	vblk_config_ranges(v, caps, &c);
	memset(config, 0, VDEV_CONFIG_MAX);
	memcpy(config, &c, sizeof(c));
}

/*
 * Only writeback may change. A front-end that writes a wider piece back (some write the whole
 * space) is served as long as everything else in it is as we gave it.
 */
int vblk_config_write(struct vdev *vdev, uint32_t off, const void *src, uint32_t len)
{
	const uint32_t field = offsetof(struct virtio_blk_config, writeback);
	struct vblk *v = vblk_of(vdev);
	uint8_t old[VDEV_CONFIG_MAX], new[VDEV_CONFIG_MAX];

	if (!num_range_ok(off, len, VDEV_CONFIG_MAX))
		return -EINVAL;
	vblk_config_read(vdev, old);
	memcpy(new, old, sizeof(new));
	memcpy(new + off, src, len);
	if (new[field] > 1)
		return -EINVAL;
	old[field] = new[field];
	if (off > field || off + len <= field || memcmp(old, new, sizeof(new)))
		return -EINVAL;
	v->writeback = new[field];
	vblk_cache_mode_update(v);
	return 0;
}

/* ---- hand-over ---- */

#define VBLK_TAG     "vblk"
#define VBLK_VERSION 1

int vblk_pack(const struct vdev *vdev, struct parcel *p, struct err *reterr)
{
	struct parcel_section s;

	parcel_section_begin(p, &s, VBLK_TAG, VBLK_VERSION);
	parcel_put_u32(p, vblk_of_const(vdev)->writeback);
	parcel_section_done(p, &s);
	return 0;
}

int vblk_unpack(struct vdev *vdev, struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc = parcel_section_enter(p, &s, VBLK_TAG, VBLK_VERSION, reterr);

	if (rc < 0)
		return rc;
	vblk_of(vdev)->writeback = parcel_take_bool(p);
	vblk_cache_mode_update(vblk_of(vdev));
	return parcel_section_end(p, &s, VBLK_TAG, reterr);
}
