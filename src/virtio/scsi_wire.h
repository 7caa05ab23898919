/*
 * virtio-scsi on the wire (virtio 1.3, 5.6): feature masks, requests, responses, control requests,
 * events, and the configuration space.
 */
#ifndef VIRTIO_SCSI_WIRE_H
#define VIRTIO_SCSI_WIRE_H

#include "base/types.h"

/* 5.6.3 */
#define VIRTIO_SCSI_F_INOUT   (1ull << 0)
#define VIRTIO_SCSI_F_HOTPLUG (1ull << 1)
#define VIRTIO_SCSI_F_CHANGE  (1ull << 2)
#define VIRTIO_SCSI_F_T10_PI  (1ull << 3)

/* 5.6.6.1 and 5.6.6.2 */
enum virtio_scsi_response {
	VIRTIO_SCSI_S_OK = 0, /* for a task management function: complete */
	VIRTIO_SCSI_S_OVERRUN = 1,
	VIRTIO_SCSI_S_ABORTED = 2,
	VIRTIO_SCSI_S_BAD_TARGET = 3,
	VIRTIO_SCSI_S_RESET = 4,
	VIRTIO_SCSI_S_BUSY = 5,
	VIRTIO_SCSI_S_TRANSPORT_FAILURE = 6,
	VIRTIO_SCSI_S_TARGET_FAILURE = 7,
	VIRTIO_SCSI_S_NEXUS_FAILURE = 8,
	VIRTIO_SCSI_S_FAILURE = 9,
	VIRTIO_SCSI_S_FUNCTION_SUCCEEDED = 10,
	VIRTIO_SCSI_S_FUNCTION_REJECTED = 11,
	VIRTIO_SCSI_S_INCORRECT_LUN = 12,
};

/* What precedes the CDB, which has cdb_size bytes. */
struct virtio_scsi_req_head {
	struct le64 lun; /* eight bytes, not a number: see vscsi_lun_decode */
	struct le64 id;
	uint8_t task_attr;
	uint8_t prio;
	uint8_t crn;
} __attribute__((packed));

/* The same with T10_PI negotiated. */
struct virtio_scsi_req_pi_head {
	struct virtio_scsi_req_head head;
	struct le32 pi_out_bytes; /* protection information in front of data-out */
	struct le32 pi_in_bytes;
} __attribute__((packed));

/* What precedes the sense data, which has sense_size bytes. */
struct virtio_scsi_resp_head {
	struct le32 sense_len_bytes;
	struct le32 residual_bytes;
	struct le16 status_qualifier;
	uint8_t status;
	uint8_t response;
} __attribute__((packed)); /* at any address */

/* 5.6.6.2: control requests */
enum virtio_scsi_ctrl_type {
	VIRTIO_SCSI_T_TMF = 0,
	VIRTIO_SCSI_T_AN_QUERY = 1,
	VIRTIO_SCSI_T_AN_SUBSCRIBE = 2,
};

struct virtio_scsi_tmf_req {
	struct le32 type, subtype;
	struct le64 lun;
	struct le64 id;
};

struct virtio_scsi_an_req {
	struct le32 type;
	uint8_t lun[8];
	struct le32 event_requested;
};

struct virtio_scsi_an_resp {
	struct le32 event_actual;
	uint8_t response;
} __attribute__((packed));

/* 5.6.6.3 */
#define VIRTIO_SCSI_T_EVENTS_MISSED   0x80000000u
#define VIRTIO_SCSI_T_NO_EVENT	      0u
#define VIRTIO_SCSI_T_TRANSPORT_RESET 1u
#define VIRTIO_SCSI_T_PARAM_CHANGE    3u
#define VIRTIO_SCSI_EVT_RESET_RESCAN  1u
#define VIRTIO_SCSI_EVT_RESET_REMOVED 2u

struct virtio_scsi_event {
	struct le32 event;
	uint8_t lun[8];
	struct le32 reason;
};

/* 5.6.4. Only sense_size and cdb_size are writable. */
struct virtio_scsi_config {
	struct le32 num_queues;
	struct le32 seg_max;
	struct le32 max_sectors;
	struct le32 cmd_per_lun;
	struct le32 event_info_size_bytes;
	struct le32 sense_size_bytes;
	struct le32 cdb_size_bytes;
	struct le16 max_channel;
	struct le16 max_target;
	struct le32 max_lun;
};

_Static_assert(sizeof(struct virtio_scsi_req_head) == 19, "5.6.6.1");
_Static_assert(sizeof(struct virtio_scsi_req_pi_head) == 27, "5.6.6.1");
_Static_assert(sizeof(struct virtio_scsi_resp_head) == 12, "5.6.6.1");
_Static_assert(sizeof(struct virtio_scsi_tmf_req) == 24, "5.6.6.2");
_Static_assert(sizeof(struct virtio_scsi_an_req) == 16, "5.6.6.2");
_Static_assert(sizeof(struct virtio_scsi_event) == 16, "5.6.6.3");
_Static_assert(sizeof(struct virtio_scsi_config) == 36, "5.6.4");

#endif
