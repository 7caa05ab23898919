/*
 * Numbers and layouts of the specifications, written down a second time on purpose.
 *
 * The tests must not learn the protocol from the code they test: everything here comes from the
 * vhost-user text and from virtio 1.3 (2.7 split, 2.8 packed, 5.2 block, 5.6 SCSI host). Ring
 * structures are little-endian on the wire; the tests run on little-endian hosts only, which is
 * asserted.
 */
#ifndef TESTS_LIB_SPEC_H
#define TESTS_LIB_SPEC_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "the fake guest writes rings in host order");

/* Feature masks: virtio 1.3, 5.2.3 and 6. */
#define SPEC_BLK_F_SIZE_MAX	(1ull << 1)
#define SPEC_BLK_F_SEG_MAX	(1ull << 2)
#define SPEC_BLK_F_GEOMETRY	(1ull << 4)
#define SPEC_BLK_F_RO		(1ull << 5)
#define SPEC_BLK_F_BLK_SIZE	(1ull << 6)
#define SPEC_BLK_F_FLUSH	(1ull << 9)
#define SPEC_BLK_F_TOPOLOGY	(1ull << 10)
#define SPEC_BLK_F_CONFIG_WCE	(1ull << 11)
#define SPEC_BLK_F_MQ		(1ull << 12)
#define SPEC_BLK_F_DISCARD	(1ull << 13)
#define SPEC_BLK_F_WRITE_ZEROES (1ull << 14)
#define SPEC_BLK_F_LIFETIME	(1ull << 15)
#define SPEC_BLK_F_SECURE_ERASE (1ull << 16)
#define SPEC_F_NOTIFY_ON_EMPTY	(1ull << 24)
#define SPEC_F_LOG_ALL		(1ull << 26)
#define SPEC_F_ANY_LAYOUT	(1ull << 27)
#define SPEC_F_INDIRECT		(1ull << 28)
#define SPEC_F_EVENT_IDX	(1ull << 29)
#define SPEC_F_PROTOCOL		(1ull << 30)
#define SPEC_F_VERSION_1	(1ull << 32)
#define SPEC_F_ACCESS_PLATFORM	(1ull << 33)
#define SPEC_F_RING_PACKED	(1ull << 34)
#define SPEC_F_IN_ORDER		(1ull << 35)
#define SPEC_F_NOTIF_DATA	(1ull << 38)
#define SPEC_F_RING_RESET	(1ull << 40)

/* Protocol feature masks: vhost-user, "Protocol features". */
#define SPEC_PF_MQ		(1ull << 0)
#define SPEC_PF_LOG_SHMFD	(1ull << 1)
#define SPEC_PF_REPLY_ACK	(1ull << 3)
#define SPEC_PF_BACKEND_REQ	(1ull << 5)
#define SPEC_PF_CONFIG		(1ull << 9)
#define SPEC_PF_BACKEND_SEND_FD (1ull << 10)
#define SPEC_PF_INFLIGHT	(1ull << 12)
#define SPEC_PF_RESET_DEVICE	(1ull << 13)
#define SPEC_PF_INBAND		(1ull << 14)
#define SPEC_PF_MEM_SLOTS	(1ull << 15)
#define SPEC_PF_STATUS		(1ull << 16)

/* Split ring: virtio 1.3, 2.7. */
#define SPEC_DESC_NEXT		1
#define SPEC_DESC_WRITE		2
#define SPEC_DESC_INDIRECT	4
#define SPEC_AVAIL_NO_INTERRUPT 1
#define SPEC_USED_NO_NOTIFY	1

struct spec_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct spec_avail {
	uint16_t flags;
	uint16_t idx;
	uint16_t ring[]; /* [size], then used_event */
};

struct spec_used_elem {
	uint32_t id;
	uint32_t len;
};

struct spec_used {
	uint16_t flags;
	uint16_t idx;
	struct spec_used_elem ring[]; /* [size], then avail_event */
};

/* Packed ring: virtio 1.3, 2.8. */
#define SPEC_PDESC_AVAIL   (1u << 7)
#define SPEC_PDESC_USED	   (1u << 15)
#define SPEC_EVENT_ENABLE  0
#define SPEC_EVENT_DISABLE 1
#define SPEC_EVENT_DESC	   2

struct spec_pdesc {
	uint64_t addr;
	uint32_t len;
	uint16_t id;
	uint16_t flags;
};

struct spec_pevent {
	uint16_t off_wrap; /* bits 0-14 offset, 15 wrap counter */
	uint16_t flags;
};

/* Block requests: virtio 1.3, 5.2.6. */
enum {
	SPEC_BLK_IN = 0,
	SPEC_BLK_OUT = 1,
	SPEC_BLK_FLUSH = 4,
	SPEC_BLK_GET_ID = 8,
	SPEC_BLK_GET_LIFETIME = 10,
	SPEC_BLK_DISCARD = 11,
	SPEC_BLK_WRITE_ZEROES = 13,
	SPEC_BLK_SECURE_ERASE = 14,
};

enum {
	SPEC_BLK_S_OK = 0,
	SPEC_BLK_S_IOERR = 1,
	SPEC_BLK_S_UNSUPP = 2,
};

struct spec_blk_hdr {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};

struct spec_blk_range {
	uint64_t sector;
	uint32_t sectors512;
	uint32_t flags; /* bit 0: unmap */
};

/* virtio 1.3, 5.2.4. */
struct spec_blk_config {
	uint64_t capacity;
	uint32_t size_max;
	uint32_t seg_max;
	uint16_t cylinders;
	uint8_t heads;
	uint8_t sectors;
	uint32_t blk_size;
	uint8_t physical_block_exp;
	uint8_t alignment_offset;
	uint16_t min_io_size;
	uint32_t opt_io_size;
	uint8_t wce;
	uint8_t unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors;
	uint32_t max_discard_seg;
	uint32_t discard_sector_alignment;
	uint32_t max_write_zeroes_sectors;
	uint32_t max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap;
	uint8_t unused1[3];
	uint32_t max_secure_erase_sectors;
	uint32_t max_secure_erase_seg;
	uint32_t secure_erase_sector_alignment;
} __attribute__((packed));

_Static_assert(offsetof(struct spec_blk_config, num_queues) == 34, "virtio 1.3, 5.2.4");
_Static_assert(sizeof(struct spec_blk_config) == 72, "virtio 1.3, 5.2.4 without zones");

/* SCSI host: virtio 1.3, 5.6. */
#define SPEC_SCSI_F_INOUT   (1ull << 0)
#define SPEC_SCSI_F_HOTPLUG (1ull << 1)
#define SPEC_SCSI_F_CHANGE  (1ull << 2)
#define SPEC_SCSI_F_T10_PI  (1ull << 3)

enum {
	SPEC_SCSI_Q_CONTROL = 0,
	SPEC_SCSI_Q_EVENT = 1,
	SPEC_SCSI_Q_REQUEST = 2, /* the first one */
};

#define SPEC_SCSI_CDB_SIZE   32 /* defaults of the configuration fields */
#define SPEC_SCSI_SENSE_SIZE 96

/* 5.6.4 */
struct spec_scsi_config {
	uint32_t num_queues;
	uint32_t seg_max;
	uint32_t max_sectors;
	uint32_t cmd_per_lun;
	uint32_t event_info_size;
	uint32_t sense_size;
	uint32_t cdb_size;
	uint16_t max_channel;
	uint16_t max_target;
	uint32_t max_lun;
};

/* 5.6.6.1, with the default CDB size and without T10_PI. */
struct spec_scsi_req {
	uint8_t lun[8];
	uint64_t id;
	uint8_t task_attr;
	uint8_t prio;
	uint8_t crn;
	uint8_t cdb[SPEC_SCSI_CDB_SIZE];
} __attribute__((packed));

struct spec_scsi_resp {
	uint32_t sense_len;
	uint32_t residual;
	uint16_t status_qualifier;
	uint8_t status;
	uint8_t response;
	uint8_t sense[SPEC_SCSI_SENSE_SIZE];
};

_Static_assert(sizeof(struct spec_scsi_config) == 36, "virtio 1.3, 5.6.4");
_Static_assert(sizeof(struct spec_scsi_req) == 51, "virtio 1.3, 5.6.6.1");
_Static_assert(sizeof(struct spec_scsi_resp) == 108, "virtio 1.3, 5.6.6.1");

enum {
	SPEC_SCSI_S_OK = 0,
	SPEC_SCSI_S_OVERRUN = 1,
	SPEC_SCSI_S_ABORTED = 2,
	SPEC_SCSI_S_BAD_TARGET = 3,
	SPEC_SCSI_S_RESET = 4,
	SPEC_SCSI_S_BUSY = 5,
	SPEC_SCSI_S_TRANSPORT_FAILURE = 6,
	SPEC_SCSI_S_TARGET_FAILURE = 7,
	SPEC_SCSI_S_NEXUS_FAILURE = 8,
	SPEC_SCSI_S_FAILURE = 9,
	SPEC_SCSI_S_FUNCTION_SUCCEEDED = 10,
	SPEC_SCSI_S_FUNCTION_REJECTED = 11,
	SPEC_SCSI_S_INCORRECT_LUN = 12,
};

/* 5.6.6.2 */
enum {
	SPEC_SCSI_T_TMF = 0,
	SPEC_SCSI_T_AN_QUERY = 1,
	SPEC_SCSI_T_AN_SUBSCRIBE = 2,
};

enum {
	SPEC_SCSI_TMF_ABORT_TASK = 0,
	SPEC_SCSI_TMF_ABORT_TASK_SET = 1,
	SPEC_SCSI_TMF_CLEAR_ACA = 2,
	SPEC_SCSI_TMF_CLEAR_TASK_SET = 3,
	SPEC_SCSI_TMF_I_T_NEXUS_RESET = 4,
	SPEC_SCSI_TMF_LOGICAL_UNIT_RESET = 5,
	SPEC_SCSI_TMF_QUERY_TASK = 6,
	SPEC_SCSI_TMF_QUERY_TASK_SET = 7,
};

struct spec_scsi_tmf {
	uint32_t type, subtype;
	uint8_t lun[8];
	uint64_t id;
}; /* then the response, one byte */

struct spec_scsi_an {
	uint32_t type;
	uint8_t lun[8];
	uint32_t event_requested;
};

struct spec_scsi_an_resp {
	uint32_t event_actual;
	uint8_t response;
} __attribute__((packed));

/* 5.6.6.3 */
#define SPEC_SCSI_EVENTS_MISSED 0x80000000u
enum {
	SPEC_SCSI_NO_EVENT = 0,
	SPEC_SCSI_TRANSPORT_RESET = 1,
	SPEC_SCSI_ASYNC_NOTIFY = 2,
	SPEC_SCSI_PARAM_CHANGE = 3,
};

enum {
	SPEC_SCSI_RESET_HARD = 0,
	SPEC_SCSI_RESET_RESCAN = 1,
	SPEC_SCSI_RESET_REMOVED = 2,
};

struct spec_scsi_event {
	uint32_t event;
	uint8_t lun[8];
	uint32_t reason;
};

#endif
