/*
 * virtio-scsi: what is offered, the configuration space, life (virtio 1.3, 5.6.2 to 5.6.5).
 * Thread: main, but for starting and stopping queues.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/parcel.h"
#include "virtio/scsi_impl.h"

uint64_t vscsi_features(const struct vdev *vdev)
{
	const struct vscsi *v = vscsi_of_const(vdev);

	return VIRTIO_SCSI_F_INOUT | VIRTIO_SCSI_F_HOTPLUG | VIRTIO_SCSI_F_CHANGE |
	       (scsi_host_has_pi(v->host) ? VIRTIO_SCSI_F_T10_PI : 0);
}

static void vscsi_features_set(struct vdev *vdev, uint64_t negotiated)
{
	struct vscsi_events *e = vscsi_of(vdev)->events;

	pthread_mutex_lock(&e->lock);
	e->negotiated = negotiated;
	pthread_mutex_unlock(&e->lock);
}

static void vscsi_config_read(const struct vdev *vdev, uint8_t config[VDEV_CONFIG_MAX])
{
	const struct vscsi *v = vscsi_of_const(vdev);
	const struct virtio_scsi_config c = {
		.num_queues = le32(v->num_queues),
		.seg_max = le32(v->seg_max),
		.max_sectors = le32(0xffff),
		.cmd_per_lun = le32(MIN(vdev->queue_size_max, 128u)),
		.event_info_size_bytes = le32(sizeof(struct virtio_scsi_event)),
		.sense_size_bytes = le32(v->sense_bytes),
		.cdb_size_bytes = le32(v->cdb_bytes),
		.max_channel = le16(0),
		.max_target = le16((uint16_t)scsi_host_target_max(v->host)),
		.max_lun = le32(scsi_host_lun_max(v->host)),
	};

	memset(config, 0, VDEV_CONFIG_MAX);
	memcpy(config, &c, sizeof(c));
}

/* Only sense_size and cdb_size may change; a wider piece is taken when the rest is as we gave it.
 */
static int vscsi_config_write(struct vdev *vdev, uint32_t off, const void *src, uint32_t len)
{
	struct vscsi *v = vscsi_of(vdev);
	uint8_t bytes[VDEV_CONFIG_MAX];
	struct virtio_scsi_config old, new;
	uint32_t sense, cdb;

	if (!num_range_ok(off, len, VDEV_CONFIG_MAX))
		return -EINVAL;
	vscsi_config_read(vdev, bytes);
	memcpy(&old, bytes, sizeof(old));
	memcpy(bytes + off, src, len);
	memcpy(&new, bytes, sizeof(new));
	sense = le32_get(new.sense_size_bytes);
	cdb = le32_get(new.cdb_size_bytes);
	old.sense_size_bytes = new.sense_size_bytes;
	old.cdb_size_bytes = new.cdb_size_bytes;
	if (memcmp(&old, &new, sizeof(new)) || sense > VSCSI_SENSE_MAX_BYTES || !cdb ||
	    cdb > VSCSI_CDB_MAX_BYTES)
		return -EINVAL;
	v->sense_bytes = sense;
	v->cdb_bytes = cdb;
	return 0;
}

static void vscsi_reset(struct vdev *vdev)
{
	struct vscsi *v = vscsi_of(vdev);

	v->cdb_bytes = VSCSI_CDB_DEFAULT_BYTES;
	v->sense_bytes = VSCSI_SENSE_DEFAULT_BYTES;
	vscsi_features_set(vdev, 0);
}

/*
 * ---- a hand-over ----
 *
 *   "vscs"  u32 sense_size, u32 cdb_size, events on their way (scsi_event.c)
 *
 * What the nexus has is its units' to tell (scsi_lu_pack).
 */

#define VSCSI_TAG     "vscs"
#define VSCSI_VERSION 1

static int vscsi_pack(const struct vdev *vdev, struct parcel *p, struct err *reterr)
{
	const struct vscsi *v = vscsi_of_const(vdev);
	struct parcel_section s;

	parcel_section_begin(p, &s, VSCSI_TAG, VSCSI_VERSION);
	parcel_put_u32(p, v->sense_bytes);
	parcel_put_u32(p, v->cdb_bytes);
	vscsi_events_pack(v->events, p);
	parcel_section_done(p, &s);
	return 0;
}

static int vscsi_unpack(struct vdev *vdev, struct parcel *p, struct err *reterr)
{
	struct vscsi *v = vscsi_of(vdev);
	struct parcel_section s;
	int rc = parcel_section_enter(p, &s, VSCSI_TAG, VSCSI_VERSION, reterr);

	if (rc < 0)
		return rc;
	v->sense_bytes = parcel_take_count(p, VSCSI_SENSE_MAX_BYTES);
	v->cdb_bytes = MAX(parcel_take_count(p, VSCSI_CDB_MAX_BYTES), 1u);
	vscsi_events_unpack(v->events, p);
	return parcel_section_end(p, &s, VSCSI_TAG, reterr);
}

static void vscsi_free(struct vdev *vdev)
{
	struct vscsi *v;

	if (!vdev)
		return;
	v = vscsi_of(vdev);
	scsi_nexus_close(v->nexus);
	vscsi_events_unref(v->events);
	scsi_host_unref(v->host);
	free(v->name);
	free(v);
}

/* ---- queues (Thread: owner loop) ---- */

static int vscsi_queue_start(struct vdev *vdev, uint32_t idx, struct virtq *vq, struct loop *loop,
			     void **ret_queue, struct err *reterr)
{
	struct vscsi *v = vscsi_of(vdev);
	struct vscsi_queue *q = calloc(1, sizeof(*q));
	int rc;

	if (!q)
		return err_set(reterr, -ENOMEM, "queue %u: out of memory", idx);
	q->dev = v;
	q->vq = vq;
	q->loop = loop;
	q->cdb_bytes = v->cdb_bytes;
	q->sense_bytes = v->sense_bytes;
	q->default_sizes = q->cdb_bytes == VSCSI_CDB_DEFAULT_BYTES &&
			   q->sense_bytes == VSCSI_SENSE_DEFAULT_BYTES;
	if (idx == VSCSI_QUEUE_CTRL)
		q->on_chain = vscsi_on_ctrl;
	else
		q->on_chain = virtq_features(vq) & VIRTIO_SCSI_F_T10_PI ? vscsi_on_request_pi
									: vscsi_on_request;
	rc = scsi_queue_open(v->nexus, loop, &q->scsi, reterr);
	if (rc < 0) {
		free(q);
		return err_prefix(reterr, rc, "queue %u", idx);
	}
	if (virtq_features(vq) & VIRTIO_SCSI_F_T10_PI)
		scsi_queue_carries_pi(q->scsi);
	*ret_queue = q;
	if (idx == VSCSI_QUEUE_EVENT)
		vscsi_events_queue_set(v->events, q);
	return 0;
}

static void vscsi_queue_tally(void *queue, struct blk_tally *tally)
{
	scsi_queue_tally(((struct vscsi_queue *)queue)->scsi, tally);
}

static void vscsi_on_chain(void *queue, struct vq_chain *chain)
{
	struct vscsi_queue *q = queue;

	q->on_chain(q, chain);
}

static void vscsi_queue_stop(void *queue)
{
	struct vscsi_queue *q = queue;

	vscsi_events_queue_clear(q->dev->events, q);
	scsi_queue_close(q->scsi);
	free(q);
}

static void vscsi_queue_drain(void *queue)
{
	scsi_queue_hurry(((struct vscsi_queue *)queue)->scsi);
}

static bool vscsi_queue_is_lazy(const struct vdev *vdev, uint32_t idx)
{
	return idx == VSCSI_QUEUE_EVENT;
}

static bool vscsi_on_lazy(void *queue)
{
	return vscsi_events_deliver(queue);
}

static const struct vdev_ops vscsi_ops = {
	.type = "scsi",
	.device_id = 8,
	.slot_bytes = sizeof(struct vscsi_req),
	.features = vscsi_features,
	.features_set = vscsi_features_set,
	.config_read = vscsi_config_read,
	.config_write = vscsi_config_write,
	.reset = vscsi_reset,
	.free = vscsi_free,
	.pack = vscsi_pack,
	.unpack = vscsi_unpack,
	.queue_start = vscsi_queue_start,
	.queue_tally = vscsi_queue_tally,
	.on_chain = vscsi_on_chain,
	.queue_drain = vscsi_queue_drain,
	.queue_stop = vscsi_queue_stop,
	.queue_is_lazy = vscsi_queue_is_lazy,
	.on_lazy = vscsi_on_lazy,
};

static int vscsi_params_check(const struct vscsi_params *p, struct err *reterr)
{
	if (p->num_queues < 1 || p->num_queues > VSCSI_REQUEST_QUEUES_MAX)
		return err_set(reterr, -EINVAL, "num-queues: expected 1..%d, got %u",
			       VSCSI_REQUEST_QUEUES_MAX, p->num_queues);
	if (p->queue_size_max < VSCSI_QUEUE_SIZE_MIN || p->queue_size_max > VIRTQ_SIZE_MAX)
		return err_set(reterr, -EINVAL, "queue-size: expected %d..%d, got %u",
			       VSCSI_QUEUE_SIZE_MIN, VIRTQ_SIZE_MAX, p->queue_size_max);
	if (p->seg_max > VIRTQ_IOV_MAX - 2)
		return err_set(reterr, -EINVAL, "seg-max: expected 1..%d, got %u",
			       VIRTQ_IOV_MAX - 2, p->seg_max);
	return 0;
}

int vscsi_new(struct scsi_host *host, const struct vscsi_params *p, struct vdev **ret_vdev,
	      struct err *reterr)
{
	int rc = vscsi_params_check(p, reterr);
	struct vscsi *v;

	if (rc < 0)
		return rc;
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(reterr, -ENOMEM, "out of memory");
	v->host = scsi_host_ref(host);
	v->name = strdup(p->name ? p->name : "scsi");
	v->events = vscsi_events_new();
	rc = v->name && v->events ? 0 : err_set(reterr, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = scsi_nexus_open(host, p->initiator_name, vscsi_on_event, v->events, &v->nexus,
				     reterr);
	if (rc < 0) {
		vscsi_free(&v->vdev);
		return rc;
	}
	v->num_queues = p->num_queues;
	v->seg_max = p->seg_max ? p->seg_max
				: MIN((uint32_t)VSCSI_SEG_MAX_DEFAULT, p->queue_size_max - 2);
	v->vdev.ops = &vscsi_ops;
	v->vdev.name = v->name;
	v->vdev.queue_count_max = VSCSI_QUEUE_FIRST + p->num_queues;
	v->vdev.queue_size_max = p->queue_size_max;
	vscsi_reset(&v->vdev);
	*ret_vdev = &v->vdev;
	return 0;
}
