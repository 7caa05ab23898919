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
