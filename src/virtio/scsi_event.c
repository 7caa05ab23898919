/*
 * The event queue (virtio 1.3, 5.6.6.3). Its buffers stay in the ring until there is an event: the
 * queue is a lazy one (vdev_ops.on_lazy), so nothing is in flight on it and it drains at once.
 *
 * Events come from any thread, with locks of the SCSI room held: they are put into a small box, and
 * a message wakes the queue's loop. What finds the box full, or no buffer in the ring, is told by
 * EVENTS_MISSED with the next event that is delivered, or alone once there is a buffer.
 */
#include <stdlib.h>

#include "base/parcel.h"
#include "virtio/scsi_impl.h"

struct vscsi_events *vscsi_events_new(void)
{
	struct vscsi_events *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	atomic_store(&e->refs, 1);
	pthread_mutex_init(&e->lock, NULL);
	return e;
}

void vscsi_events_unref(struct vscsi_events *e)
{
	if (!e || atomic_fetch_sub(&e->refs, 1) != 1)
		return;
	pthread_mutex_destroy(&e->lock);
	free(e);
}

static uint64_t event_feature(enum scsi_event_type type)
{
	return type == SCSI_EVENT_PARAM_CHANGED ? VIRTIO_SCSI_F_CHANGE : VIRTIO_SCSI_F_HOTPLUG;
}

static void event_fill(struct virtio_scsi_event *wire, const struct scsi_event *event)
{
	uint8_t lun[8];

	/* As REPORT LUNS has it: Linux looks the unit up by these bytes as they are. */
	scsi_lun_encode(event->lun, lun);
	*wire = (struct virtio_scsi_event){ .lun = { 1, (uint8_t)event->target, lun[0], lun[1] } };
	switch (event->type) {
	case SCSI_EVENT_LUN_ADDED:
		wire->event = le32(VIRTIO_SCSI_T_TRANSPORT_RESET);
		wire->reason = le32(VIRTIO_SCSI_EVT_RESET_RESCAN);
		return;
	case SCSI_EVENT_LUN_REMOVED:
		wire->event = le32(VIRTIO_SCSI_T_TRANSPORT_RESET);
		wire->reason = le32(VIRTIO_SCSI_EVT_RESET_REMOVED);
		return;
	case SCSI_EVENT_PARAM_CHANGED:
		wire->event = le32(VIRTIO_SCSI_T_PARAM_CHANGE);
		wire->reason = le32(event->asc | (uint32_t)event->ascq << 8);
		return;
	}
}

/* One buffer with one event; false: there is no buffer. A buffer that is too small is given back
 * empty and the event is missed. */
static bool event_send(struct vscsi_queue *q, struct vscsi_events *e, struct virtio_scsi_event *w)
{
	struct vq_chain *chain = virtq_pop(q->vq);
	uint32_t len = sizeof(*w);

	if (!chain)
		return false;
	if (e->missed)
		w->event = le32(le32_get(w->event) | VIRTIO_SCSI_T_EVENTS_MISSED);
	e->missed = !iov_cur_write_slow(&chain->in, w, sizeof(*w));
	if (e->missed)
		len = 0;
	virtq_push(q->vq, chain, len);
	return true;
}

static bool events_deliver_locked(struct vscsi_queue *q, struct vscsi_events *e)
{
	struct virtio_scsi_event wire;

	while (e->count) {
		event_fill(&wire, &e->waiting[e->first]);
		if (!event_send(q, e, &wire)) {
			/* 5.6.6.3: dropped, and told when there is a buffer */
			e->count = 0;
			e->missed = true;
			break;
		}
		e->first = (e->first + 1) % VSCSI_EVENTS_MAX;
		e->count--;
	}
	wire = (struct virtio_scsi_event){ .event = le32(VIRTIO_SCSI_T_NO_EVENT) };
	if (e->missed)
		event_send(q, e, &wire);
	return e->missed;
}

bool vscsi_events_deliver(struct vscsi_queue *q)
{
	struct vscsi_events *e = q->dev->events;
	bool waits;

	pthread_mutex_lock(&e->lock);
	waits = events_deliver_locked(q, e);
	pthread_mutex_unlock(&e->lock);
	return waits;
}

static void events_on_msg(struct loop_msg *msg)
{
	struct vscsi_events *e = container_of(msg, struct vscsi_events, msg);

	pthread_mutex_lock(&e->lock);
	e->posted = false;
	if (e->queue)
		e->queue->dev->vdev.wake_queue(&e->queue->dev->vdev, e->queue->dev->vdev.front,
					       VSCSI_QUEUE_EVENT);
	pthread_mutex_unlock(&e->lock);
	vscsi_events_unref(e);
}

/* lock is held */
static void events_post(struct vscsi_events *e)
{
	if (!e->queue || e->posted)
		return;
	e->posted = true;
	atomic_fetch_add(&e->refs, 1);
	e->msg.fn = events_on_msg;
	loop_post(e->queue->loop, &e->msg);
}

void vscsi_on_event(void *events, const struct scsi_event *event)
{
	struct vscsi_events *e = events;

	pthread_mutex_lock(&e->lock);
	if (e->negotiated & event_feature(event->type)) {
		if (e->count == VSCSI_EVENTS_MAX)
			e->missed = true;
		else
			e->waiting[(e->first + e->count++) % VSCSI_EVENTS_MAX] = *event;
		events_post(e);
	}
	pthread_mutex_unlock(&e->lock);
}

/* ---- a hand-over: u32 count, u32 missed, and each event's type, target, lun, asc, ascq ---- */

void vscsi_events_pack(struct vscsi_events *e, struct parcel *p)
{
	pthread_mutex_lock(&e->lock);
	parcel_put_u32(p, e->count);
	parcel_put_u32(p, e->missed);
	for (uint32_t i = 0; i < e->count; i++) {
		const struct scsi_event *event = &e->waiting[(e->first + i) % VSCSI_EVENTS_MAX];

		parcel_put_u32(p, event->type);
		parcel_put_u32(p, event->target);
		parcel_put_u32(p, event->lun);
		parcel_put_u32(p, event->asc);
		parcel_put_u32(p, event->ascq);
	}
	pthread_mutex_unlock(&e->lock);
}

void vscsi_events_unpack(struct vscsi_events *e, struct parcel *p)
{
	uint32_t count = parcel_take_count(p, VSCSI_EVENTS_MAX);

	pthread_mutex_lock(&e->lock);
	e->first = 0;
	e->count = count;
	e->missed = parcel_take_bool(p);
	for (uint32_t i = 0; i < count; i++)
		e->waiting[i] = (struct scsi_event){
			.type = (enum scsi_event_type)parcel_take_count(p,
									SCSI_EVENT_PARAM_CHANGED),
			.target = parcel_take_count(p, SCSI_TARGETS_MAX - 1),
			.lun = parcel_take_count(p, SCSI_LUNS_MAX - 1),
			.asc = (uint8_t)parcel_take_count(p, UINT8_MAX),
			.ascq = (uint8_t)parcel_take_count(p, UINT8_MAX),
		};
	pthread_mutex_unlock(&e->lock);
}

void vscsi_events_queue_set(struct vscsi_events *e, struct vscsi_queue *q)
{
	pthread_mutex_lock(&e->lock);
	e->queue = q;
	if (e->count || e->missed)
		events_post(e);
	pthread_mutex_unlock(&e->lock);
}

void vscsi_events_queue_clear(struct vscsi_events *e, const struct vscsi_queue *q)
{
	pthread_mutex_lock(&e->lock);
	if (e->queue == q)
		e->queue = NULL;
	pthread_mutex_unlock(&e->lock);
}
