/*
 * What scsi.c (requests), scsi_ctrl.c (control queue), scsi_event.c (event queue) and scsi_dev.c
 * (features, configuration space, life) share.
 */
#ifndef VIRTIO_SCSI_IMPL_H
#define VIRTIO_SCSI_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "scsi/scsi.h"
#include "virtio/scsi_wire.h"
#include "virtio/vdev.h"

#define VSCSI_QUEUE_CTRL	  0
#define VSCSI_QUEUE_EVENT	  1
#define VSCSI_QUEUE_FIRST	  2 /* request queue */
#define VSCSI_REQUEST_QUEUES_MAX  253
#define VSCSI_QUEUE_SIZE_MIN	  4
#define VSCSI_SEG_MAX_DEFAULT	  126 /* with request and response, a queue of 128 */
#define VSCSI_CDB_DEFAULT_BYTES	  32u
#define VSCSI_CDB_MAX_BYTES	  255u /* what is beyond 32 is read over */
#define VSCSI_SENSE_DEFAULT_BYTES 96u
#define VSCSI_SENSE_MAX_BYTES	  252u /* SPC-5, 4.4.1 */
#define VSCSI_EVENTS_MAX	  64   /* waiting for buffers; more are missed */

struct vscsi_queue;

/*
 * Events on their way to the event queue, posted from any thread. It outlives the device while a
 * message is under way.
 */
struct vscsi_events {
	atomic_uint refs;
	pthread_mutex_t lock;
	/* under lock: */
	struct scsi_event waiting[VSCSI_EVENTS_MAX];
	uint32_t first, count;
	bool missed;		   /* EVENTS_MISSED goes with the next one */
	bool posted;		   /* msg is under way */
	struct vscsi_queue *queue; /* started event queue, NULL: none */
	uint64_t negotiated;
	struct loop_msg msg;
};

struct vscsi {
	struct vdev vdev;
	struct scsi_host *host;
	struct scsi_nexus *nexus;
	struct vscsi_events *events;
	char *name;
	uint16_t num_queues;
	uint32_t seg_max;
	_Atomic uint32_t cdb_bytes, sense_bytes; /* written on main; for queues that start */
};

struct vscsi_queue {
	struct vscsi *dev;
	struct virtq *vq;
	struct loop *loop;
	struct scsi_queue *scsi;
	void (*on_chain)(struct vscsi_queue *q, struct vq_chain *chain);
	/* As they were when the queue started: the driver sets them before (5.6.4). */
	uint32_t cdb_bytes, sense_bytes;
	bool default_sizes;
};

/* One chain of any of the queues; first what every request needs, on few cache lines. */
struct vscsi_req {
	struct vq_chain chain; /* first */
	struct vscsi_queue *queue;
	uint64_t lun; /* as it came: see vscsi_lun_decode */
	/* the response: of default size in one piece, or NULL: through resp_cur, with shared
	 * restored before */
	struct virtio_scsi_resp_head *resp;
	uint64_t expected_bytes; /* data both ways */
	union {
		struct scsi_task task;
		struct scsi_tmf tmf;
	};
	struct iov_cur resp_cur;
	struct iovec *shared; /* the piece that holds the end of the response and data */
	struct iovec shared_orig;
	/* With T10_PI, and protection information there: both cursors' pieces, freed at the end. */
	struct iovec *pi_iov;
	struct iov_cur pi_out, pi_in;
	struct loop_work work;
};

static inline struct vscsi *vscsi_of(struct vdev *vdev)
{
	return container_of(vdev, struct vscsi, vdev);
}

static inline const struct vscsi *vscsi_of_const(const struct vdev *vdev)
{
	return container_of(vdev, const struct vscsi, vdev);
}

/* lun[0] must be 1; then target, then a single level LUN structure. false: no such address. */
bool vscsi_lun_decode_slow(uint64_t lun, uint32_t *ret_target, uint32_t *ret_lun);

/* lun: its eight bytes as a little-endian number. */
static inline bool vscsi_lun_decode(uint64_t lun, uint32_t *ret_target, uint32_t *ret_lun)
{
	*ret_target = (uint8_t)(lun >> 8);
	*ret_lun = (uint8_t)(lun >> 24);
	/* 1, target, 0 or 40h, LUN, zeroes: what drivers use below 256 */
	if (likely((lun & 0xffffffff00bf00ff) == 1))
		return true;
	return vscsi_lun_decode_slow(lun, ret_target, ret_lun);
}

/* scsi.c */
void vscsi_on_request(struct vscsi_queue *q, struct vq_chain *chain);
void vscsi_on_request_pi(struct vscsi_queue *q, struct vq_chain *chain); /* with T10_PI */
/* Ends a chain that has no room for an answer, later. */
void vscsi_drop_later(struct vscsi_req *r);

/* scsi_ctrl.c */
void vscsi_on_ctrl(struct vscsi_queue *q, struct vq_chain *chain);

/* scsi_event.c */
struct vscsi_events *vscsi_events_new(void);
void vscsi_events_unref(struct vscsi_events *e);
void vscsi_on_event(void *events, const struct scsi_event *event); /* Thread: any */
void vscsi_events_queue_set(struct vscsi_events *e, struct vscsi_queue *q);
void vscsi_events_queue_clear(struct vscsi_events *e, const struct vscsi_queue *q); /* if it is */
/* Thread: main, with no queue there; who reads checks the parcel afterwards. */
void vscsi_events_pack(struct vscsi_events *e, struct parcel *p);
void vscsi_events_unpack(struct vscsi_events *e, struct parcel *p);
/* vdev_ops.on_lazy */
bool vscsi_events_deliver(struct vscsi_queue *q);

/* scsi_dev.c's tables; see vdev_ops */
uint64_t vscsi_features(const struct vdev *vdev);

#endif
