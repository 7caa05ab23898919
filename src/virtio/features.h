/*
 * virtio-blk on the wire (virtio 1.3, 5.2): feature masks, request types, status values, the
 * request header, a discard / write-zeroes segment, and the configuration space.
 */
#ifndef VIRTIO_FEATURES_H
#define VIRTIO_FEATURES_H

#include "base/types.h"

/* virtio 1.3, 5.2.3 */
#define VIRTIO_BLK_F_SIZE_MAX	  (1ull << 1)
#define VIRTIO_BLK_F_SEG_MAX	  (1ull << 2)
#define VIRTIO_BLK_F_GEOMETRY	  (1ull << 4)
#define VIRTIO_BLK_F_RO		  (1ull << 5)
#define VIRTIO_BLK_F_BLK_SIZE	  (1ull << 6)
#define VIRTIO_BLK_F_FLUSH	  (1ull << 9)
#define VIRTIO_BLK_F_TOPOLOGY	  (1ull << 10)
#define VIRTIO_BLK_F_CONFIG_WCE	  (1ull << 11)
#define VIRTIO_BLK_F_MQ		  (1ull << 12)
#define VIRTIO_BLK_F_DISCARD	  (1ull << 13)
#define VIRTIO_BLK_F_WRITE_ZEROES (1ull << 14)
#define VIRTIO_BLK_F_LIFETIME	  (1ull << 15)
#define VIRTIO_BLK_F_SECURE_ERASE (1ull << 16)

/* virtio 1.3, 5.2.6. SCSI_CMD (2) and the legacy barrier bit are not served: see UNSUPP. */
enum virtio_blk_type {
	VIRTIO_BLK_T_IN = 0,
	VIRTIO_BLK_T_OUT = 1,
	VIRTIO_BLK_T_FLUSH = 4,
	VIRTIO_BLK_T_GET_ID = 8,
	VIRTIO_BLK_T_GET_LIFETIME = 10,
	VIRTIO_BLK_T_DISCARD = 11,
	VIRTIO_BLK_T_WRITE_ZEROES = 13,
	VIRTIO_BLK_T_SECURE_ERASE = 14,
};

enum virtio_blk_status {
	VIRTIO_BLK_S_OK = 0,
	VIRTIO_BLK_S_IOERR = 1,
	VIRTIO_BLK_S_UNSUPP = 2,
};

#define VIRTIO_BLK_SECTOR_SHIFT 9 /* sectors are 512 bytes whatever the block size is */
#define VIRTIO_BLK_ID_BYTES	20
#define VIRTIO_BLK_SEG_UNMAP	1u /* the one flag of a segment */

struct virtio_blk_hdr {
	struct le32 type;
	struct le32 reserved;
	struct le64 sector512;
};

struct virtio_blk_seg {
	struct le64 sector512;
	struct le32 num_sectors512;
	struct le32 flags;
};

/* virtio 1.3, 5.2.4. Counts of "sectors" are of 512 bytes, "blocks" of blk_size. */
struct virtio_blk_config {
	struct le64 capacity_sectors512;
	struct le32 size_max_bytes;
	struct le32 seg_max;
	struct le16 cylinders;
	uint8_t heads;
	uint8_t sectors;
	struct le32 blk_size_bytes;
	uint8_t physical_block_exp;
	uint8_t alignment_offset_blocks;
	struct le16 min_io_size_blocks;
	struct le32 opt_io_size_blocks;
	uint8_t writeback;
	uint8_t unused0;
	struct le16 num_queues;
	struct le32 max_discard_sectors512;
	struct le32 max_discard_seg;
	struct le32 discard_sector_alignment512;
	struct le32 max_write_zeroes_sectors512;
	struct le32 max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap;
	uint8_t unused1[3];
	struct le32 max_secure_erase_sectors512;
	struct le32 max_secure_erase_seg;
	struct le32 secure_erase_sector_alignment512;
};

_Static_assert(sizeof(struct virtio_blk_hdr) == 16, "5.2.6");
_Static_assert(sizeof(struct virtio_blk_seg) == 16, "5.2.6");
_Static_assert(offsetof(struct virtio_blk_config, blk_size_bytes) == 20, "5.2.4");
_Static_assert(offsetof(struct virtio_blk_config, writeback) == 32, "5.2.4");
_Static_assert(offsetof(struct virtio_blk_config, max_discard_sectors512) == 36, "5.2.4");
_Static_assert(offsetof(struct virtio_blk_config, write_zeroes_may_unmap) == 56, "5.2.4");
_Static_assert(sizeof(struct virtio_blk_config) == 72, "5.2.4 less the zoned part");

#endif
