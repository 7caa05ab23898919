/* Management's hand on the queues of a running device. Thread: main. */
#include <errno.h>
#include <string.h>

#include "dev/device.h"
#include "loop/queue_stats.h"

/* NULL: it is not started. */
static const struct device_front *steer_front(const struct device *dev, struct err *reterr)
{
	if (dev->ep)
		return dev->def->type->fronts[dev->def->transport];
	err_set(reterr, -ENOTCONN, "%s: is not started", dev->def->name);
	return NULL;
}

int device_drain(struct device *dev, bool drained, struct err *reterr)
{
	const struct device_front *front = steer_front(dev, reterr);

	if (!front)
		return -ENOTCONN;
	front->drain(dev, drained);
	dev->drained = drained;
	return 0;
}

int device_queue_move(struct device *dev, uint32_t idx, struct loop *loop, struct err *reterr)
{
	const struct device_front *front = steer_front(dev, reterr);

	return front ? front->queue_move(dev, idx, loop, reterr) : -ENOTCONN;
}

int device_coalesce(struct device *dev, const struct vring_coalescing *c, struct err *reterr)
{
	const struct device_front *front = dev->ep ? steer_front(dev, reterr) : NULL;

	if (!dev->def->type->vdev_make)
		return err_set(reterr, -EOPNOTSUPP,
			       "%s: interrupts of NVMe controllers are coalesced when their "
			       "driver asks for it (feature 08h)",
			       dev->def->name);
	if (c->delay_base_us > VRING_DELAY_BASE_MAX_US)
		return err_set(reterr, -EINVAL, "delay_base_us: expected 0..%u, got %u",
			       VRING_DELAY_BASE_MAX_US, c->delay_base_us);
	if (c->delay_base_us && !c->iops_threshold)
		return err_set(reterr, -EINVAL,
			       "iops_threshold: expected at least 1 with a delay, got 0");
	dev->coalescing = *c;
	if (front && front->coalesce)
		front->coalesce(dev);
	return 0;
}

static void steer_look(const struct queue_stats *queue, void *arg)
{
	const bool admin = !strcmp(queue->kind, "admin");
	bool *runs = arg;

	if (queue->state == QUEUE_CHANGING || queue->in_flight)
		*runs = true;
	else if (queue->state != QUEUE_STOPPED && queue->state != QUEUE_DRAINED && !admin)
		*runs = true;
}

bool device_is_drained(const struct device *dev)
{
	bool runs = false;

	device_queues_visit(dev, steer_look, &runs);
	return !runs;
}
