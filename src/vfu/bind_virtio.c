/*
 * virtio over PCI: the life of the device, and its queues from registers to running.
 */
#include "vfu/bind_virtio.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/num.h"
#include "loop/placement.h"

/* A fresh packed ring: both positions 0, both wrap counters 1 (virtio 1.3, 2.8.1). */
#define VPCI_PACKED_BASE   0x80008000u
#define VPCI_BELL_GRACE_NS 100000000ull

/* ---- queues ---- */

static struct vpci *vpci_of_ring(struct vring *v)
{
	return container_of(v->owner, struct vpci, owner);
}

static void vpci_queue_fault(struct vpci *d, struct vpci_queue *q, const char *text)
{
	log_limited(&d->limit, LOG_WARNING, "%s: queue %u: %s", d->dev.name, q->v.idx, text);
	q->failed = true;
	vpci_needs_reset(d);
}

static bool vpci_queue_stands(const struct vpci *d, const struct vpci_queue *q)
{
	return d->resetting || d->halted || d->freeing || d->drained || q->resetting || q->moving ||
	       !q->enabled || !(d->status & VPCI_STATUS_DRIVER_OK);
}

static void vpci_queue_call_update(struct vpci *d, struct vpci_queue *q)
{
	uint32_t *isr;
	int fd = vpci_queue_call(d, q, &isr);

	q->call_stale = false;
	vring_call_set(&q->v, fd, isr);
}

static int vpci_queue_setup(const struct vpci *d, const struct vpci_queue *q,
			    struct virtq_setup *setup, struct err *reterr)
{
	bool packed = d->features & VIRTIO_F_RING_PACKED;

	*setup = (struct virtq_setup){
		.features = d->features,
		.size = q->size,
		.base = q->ran	 ? q->v.base
			: packed ? VPCI_PACKED_BASE
				 : 0,
		.base_from_used = !packed,
		.log_used = d->dirty,
		.log_used_gpa = q->place.device,
		.map = d->map,
		.dirty = d->dirty,
		.slot_bytes = d->vdev->ops->slot_bytes,
	};
	return d->map ? vring_place_setup(&q->place, setup, reterr)
		      : err_set(reterr, -EFAULT, "no memory is mapped");
}

/* When the driver says that the queue is ready its memory is there, or never was: invariant 3. */
static void vpci_queue_judge(struct vpci *d, struct vpci_queue *q)
{
	struct virtq_setup setup;
	struct err err = { 0 };

	if (q->placed || q->failed || q->resetting || d->resetting || !q->enabled ||
	    !(d->status & VPCI_STATUS_DRIVER_OK))
		return;
	if (vpci_queue_setup(d, q, &setup, &err))
		vpci_queue_fault(d, q, err.msg);
	else
		q->placed = true;
}

static void vpci_queue_start(struct vpci *d, struct vpci_queue *q)
{
	struct virtq_setup setup;
	struct err err = { 0 };

	if (vpci_queue_setup(d, q, &setup, &err)) {
		log_limited(&d->limit, LOG_INFO, "%s: queue %u waits for memory: %s", d->dev.name,
			    q->v.idx, err.msg);
		return;
	}
	q->ran = true;
	vring_start(&q->v,
		    q->loop ? placement_take(&q->loop, 1)
			    : placement_take(d->params.loops, d->params.loop_count),
		    &setup);
}

/* Returns whether the queue is stopped, for good as far as the registers say. */
static bool vpci_queue_step(struct vpci *d, struct vpci_queue *q)
{
	bool stands;

	vpci_queue_judge(d, q);
	if (q->v.cmd != VRING_CMD_NONE)
		return false;
	if (q->v.state == VRING_STOPPED)
		q->moving = false;
	stands = vpci_queue_stands(d, q);
	if (q->v.state == VRING_STOPPED) {
		q->resetting = false;
		if (q->call_stale)
			vpci_queue_call_update(d, q);
		if (!stands && !q->failed)
			vpci_queue_start(d, q);
	} else if (stands) {
		vring_drain(&q->v);
	} else if (q->call_stale) {
		vpci_queue_call_update(d, q);
	}
	return q->v.state == VRING_STOPPED;
}

static void vpci_on_ring_done(struct vring *v)
{
	struct vpci *d = vpci_of_ring(v);

	if (v->state == VRING_STOPPED)
		placement_give(v->loop);
	if (v->result) {
		v->result = 0;
		vpci_queue_fault(d, container_of(v, struct vpci_queue, v), v->err.msg);
	}
	vpci_step(d);
}

static void vpci_on_ring_broken(struct vring *v, enum virtq_cause cause)
{
	struct vpci_queue *q = container_of(v, struct vpci_queue, v);
	struct vpci *d = vpci_of_ring(v);

	/* After a reset it is a fault of the driver before. */
	if (q->enabled && !d->resetting)
		vpci_queue_fault(d, q, virtq_cause_text(cause));
}

/* ---- the device ---- */

static void vpci_queue_registers_reset(struct vpci *d, struct vpci_queue *q)
{
	q->size = d->vdev->queue_size_max;
	q->vector = VPCI_NO_VECTOR;
	q->enabled = q->placed = q->ran = q->failed = false;
	q->place = (struct vring_place){ 0 };
	q->call_stale = true;
}

void vpci_queue_reset(struct vpci *d, struct vpci_queue *q)
{
	vpci_queue_registers_reset(d, q);
	q->resetting = true;
	vpci_step(d);
}

void vpci_registers_reset(struct vpci *d)
{
	d->device_feature_select = d->driver_feature_select = 0;
	d->driver_features = d->features = 0;
	d->config_vector = VPCI_NO_VECTOR;
	d->queue_select = 0;
	d->status = 0;
	d->isr_config = false;
	__atomic_store_n(&d->isr_queues, 0, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < d->queue_count; i++)
		vpci_queue_registers_reset(d, &d->queues[i]);
	vpci_config_bell_update(d);
}

void vpci_needs_reset(struct vpci *d)
{
	if (d->status & VPCI_STATUS_NEEDS_RESET)
		return;
	d->status |= VPCI_STATUS_NEEDS_RESET;
	vpci_config_interrupt(d);
}

static void vpci_reset_end(struct vpci *d)
{
	d->resetting = false;
	if (d->vdev->ops->reset)
		d->vdev->ops->reset(d->vdev);
	/* A driver that did not wait may be that far. */
	if (d->status & VPCI_STATUS_FEATURES_OK && d->vdev->ops->features_set)
		d->vdev->ops->features_set(d->vdev, d->features);
}

static void vpci_freed(struct vpci *d)
{
	for (uint32_t i = 0; i < d->queue_count; i++)
		vring_fini(&d->queues[i].v);
	vpci_irq_fini(d);
	gmem_unref(d->map);
	if (d->dirty)
		gdirty_unref(d->dirty);
	if (d->notify_fd >= 0)
		close(d->notify_fd);
	d->vdev->on_config_change = NULL;
	d->vdev->front = NULL;
	d->vdev->ops->free(d->vdev);
	vfu_dev_freed(&d->dev);
	free(d->queues);
	free(d);
}

static void vpci_on_config_idle(struct notify *n)
{
	vpci_freed(container_of(n, struct vpci, config_bell));
}

void vpci_step(struct vpci *d)
{
	bool stopped = true;

	for (uint32_t i = 0; i < d->queue_count; i++)
		stopped &= vpci_queue_step(d, &d->queues[i]);
	if (!stopped)
		return;
	if (d->resetting) {
		vpci_reset_end(d);
		vpci_step(d);
	} else if (d->freeing) {
		if (d->config_swapping)
			return;
		d->config_swapping = true;
		notify_stop(&d->config_bell, VPCI_BELL_GRACE_NS, vpci_on_config_idle);
	} else if (d->halted && !d->quiet_told) {
		d->quiet_told = true;
		vfu_dev_quiet(&d->dev);
	}
}

/* ---- operations of the session ---- */

static void vpci_quiesce(struct vfu_dev *dev)
{
	struct vpci *d = vpci_of(dev);

	d->halted = true;
	d->quiet_told = false;
	vpci_step(d);
}

static void vpci_resume(struct vfu_dev *dev)
{
	struct vpci *d = vpci_of(dev);

	d->halted = false;
	vpci_step(d);
}

/*
 * The writable map is all that a queue knows: virtq has one map, and what is read-only (firmware)
 * holds no buffers.
 */
static void vpci_maps_set(struct vfu_dev *dev, struct gmem *readable, struct gmem *writable)
{
	struct vpci *d = vpci_of(dev);
	struct gmem *old = d->map;

	d->map = writable ? gmem_ref(writable) : NULL;
	gmem_unref(old);
}

static void vpci_dirty_set(struct vfu_dev *dev, struct gdirty *dirty)
{
	struct vpci *d = vpci_of(dev);
	struct gdirty *old = d->dirty;

	d->dirty = dirty ? gdirty_ref(dirty) : NULL;
	if (old)
		gdirty_unref(old);
}

/* The queues stand. */
static void vpci_reset(struct vfu_dev *dev)
{
	struct vpci *d = vpci_of(dev);

	vpci_registers_reset(d);
	vpci_reset_end(d);
}

static void vpci_free(struct vfu_dev *dev)
{
	struct vpci *d = vpci_of(dev);

	d->freeing = true;
	vpci_step(d);
}

static void vpci_queues_visit(const struct vfu_dev *dev, const struct queue_visitor *v)
{
	const struct vpci *d = container_of(dev, const struct vpci, dev);

	for (uint32_t i = 0; v->queue && i < d->queue_count; i++) {
		struct queue_stats q;

		vring_stats(&d->queues[i].v, &q);
		q.conn = v->conn_idx;
		v->queue(&q, v->arg);
	}
}

static void vpci_queues_drain(struct vfu_dev *dev, bool drained)
{
	struct vpci *d = vpci_of(dev);

	d->drained = drained;
	vpci_step(d);
}

static int vpci_queue_move(struct vfu_dev *dev, uint32_t idx, struct loop *loop, struct err *reterr)
{
	struct vpci *d = vpci_of(dev);

	if (idx >= d->queue_count)
		return err_set(reterr, -ERANGE, "queue: expected 0..%u, got %u", d->queue_count - 1,
			       idx);
	d->queues[idx].loop = loop;
	d->queues[idx].moving = d->queues[idx].v.loop != loop;
	vpci_step(d);
	return 0;
}

static void vpci_coalesce(struct vfu_dev *dev, const struct vring_coalescing *c)
{
	struct vpci *d = vpci_of(dev);

	vring_owner_coalesce(&d->owner, c);
	for (uint32_t i = 0; i < d->queue_count; i++)
		vring_coalesce(&d->queues[i].v);
}

static const struct vfu_dev_ops vpci_ops = {
	.type = "virtio",
	.bar_read = vpci_bar_read,
	.bar_write = vpci_bar_write,
	.cap_read = vpci_cap_read,
	.cap_write = vpci_cap_write,
	.vector_fd_set = vpci_vector_fd_set,
	.intx_fd_set = vpci_intx_fd_set,
	.msix_enable = vpci_msix_enable,
	.intx_unmask = vpci_intx_unmask,
	.quiesce = vpci_quiesce,
	.resume = vpci_resume,
	.maps_set = vpci_maps_set,
	.dirty_set = vpci_dirty_set,
	.reset = vpci_reset,
	.save = vpci_save,
	.load = vpci_load,
	.map_set = vpci_map_set,
	.pack = vpci_pack,
	.unpack = vpci_unpack,
	.queues_visit = vpci_queues_visit,
	.queues_drain = vpci_queues_drain,
	.queue_move = vpci_queue_move,
	.coalesce = vpci_coalesce,
	.free = vpci_free,
};

/* ---- the model's side ---- */

static void vpci_on_config_change(struct vdev *vdev, void *front)
{
	struct vpci *d = front;

	d->config_generation++;
	vpci_config_interrupt(d);
}

static void vpci_wake_queue(struct vdev *vdev, void *front, uint32_t idx)
{
	struct vpci *d = front;

	vring_loop_wake(&d->queues[idx].v);
}

/* ---- life ---- */

static void vpci_queues_init(struct vpci *d)
{
	d->owner = (struct vring_owner){ .main_loop = d->params.main_loop,
					 .vdev = d->vdev,
					 .spin_ns = d->params.spin_ns,
					 .on_done = vpci_on_ring_done,
					 .on_broken = vpci_on_ring_broken };
	vring_owner_coalesce(&d->owner, &d->params.coalescing);
	for (uint32_t i = 0; i < d->queue_count; i++) {
		struct vpci_queue *q = &d->queues[i];

		vring_init(&q->v, &d->owner, i);
		q->v.kick_fd = d->params.mapped_notify ? LOOP_KICK_TIMER : LOOP_KICK_WAKE;
	}
}

static int vpci_notify_page_new(struct vpci *d, struct err *reterr)
{
	if (!d->params.mapped_notify)
		return 0;
	d->notify_fd = memfd_create("virtio-notify", MFD_CLOEXEC);
	if (d->notify_fd < 0 || ftruncate(d->notify_fd, VPCI_BAR_BYTES))
		return err_set(reterr, -errno, "%s: no memory for the notification page: errno %d",
			       d->params.name, errno);
	return 0;
}

int vfu_virtio_new(const struct vfu_virtio_params *params, struct vdev *vdev,
		   struct vfu_dev **ret_dev, struct err *reterr)
{
	uint32_t count = vdev->queue_count_max;
	struct vpci *d = calloc(1, sizeof(*d));
	int rc = -ENOMEM;

	if (count == 0 || count > VPCI_QUEUES_MAX) {
		rc = err_set(reterr, -EINVAL, "%s: queues: expected 1..%u, got %u", params->name,
			     VPCI_QUEUES_MAX, count);
		goto fail;
	}
	if (d)
		d->queues = calloc(count, sizeof(*d->queues));
	if (!d || !d->queues) {
		err_set(reterr, rc, "%s: no memory for a device", params->name);
		goto fail;
	}
	d->params = *params;
	d->vdev = vdev;
	d->queue_count = count;
	d->limit = LOG_LIMIT_DEFAULT;
	d->notify_fd = -1;
	d->dev.ops = &vpci_ops;
	d->dev.name = params->name;
	rc = vpci_notify_page_new(d, reterr);
	if (rc)
		goto fail;
	vpci_describe(d);
	vpci_irq_init(d);
	vpci_queues_init(d);
	vpci_registers_reset(d);
	vdev->front = d;
	vdev->wake_queue = vpci_wake_queue;
	vdev->on_config_change = vpci_on_config_change;
	*ret_dev = &d->dev;
	return 0;
fail:
	if (d) {
		if (d->notify_fd > 0)
			close(d->notify_fd);
		free(d->queues);
	}
	free(d);
	vdev->ops->free(vdev);
	return rc;
}
