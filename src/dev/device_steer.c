/* Management's hand on the queues of a running device. Thread: main. */
#include <errno.h>

#include "dev/device.h"
#include "loop/queue_stats.h"

static const struct device_front *steer_front(const struct device *dev)
{
	return dev->ep ? dev->def->type->fronts[dev->def->transport] : NULL;
}

static int steer_refuse(const struct device *dev, struct err *reterr)
{
	return err_set(reterr, -EOPNOTSUPP, "%s: a %s device over %s: its driver places the queues",
		       dev->def->name, dev->def->type->name,
		       device_transport_names[dev->def->transport]);
}

int device_drain(struct device *dev, bool drained, struct err *reterr)
{
	const struct device_front *front = steer_front(dev);
	int rc;

	if (!front)
		return err_set(reterr, -ENOTCONN, "%s: is not started", dev->def->name);
	rc = front->drain ? front->drain(dev, drained, reterr) : steer_refuse(dev, reterr);
	if (rc == 0)
		dev->drained = drained;
	return rc;
}

int device_queue_move(struct device *dev, uint32_t idx, struct loop *loop, struct err *reterr)
{
	const struct device_front *front = steer_front(dev);

	if (!front)
		return err_set(reterr, -ENOTCONN, "%s: is not started", dev->def->name);
	return front->queue_move ? front->queue_move(dev, idx, loop, reterr)
				 : steer_refuse(dev, reterr);
}

static void steer_look(const struct queue_stats *queue, void *arg)
{
	if (queue->state != QUEUE_STOPPED)
		*(bool *)arg = true;
}

bool device_is_drained(const struct device *dev)
{
	bool runs = false;

	device_queues_visit(dev, steer_look, &runs);
	return !runs;
}
