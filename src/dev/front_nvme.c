/* vhost-user-nvme: the front-end has registers and admin queue. Thread: main. */
#include "dev/device.h"
#include "vhost/vhost.h"

static int front_vhost_nvme_start(struct device *dev, struct err *reterr)
{
	const struct device_def *def = dev->def;
	const struct vhost_nvme_params params = {
		.sock = front_sock(dev),
		.spin_ns = def->spin_us * 1000,
		.loops = dev->loops,
		.loop_count = dev->loop_count,
		.subsys = dev->subsys,
		.limits = dev->limits,
		.num_queues = def->num_queues,
		.queue_size_max = def->queue_size,
		.generation_1804 = def->generation,
	};
	struct vhost_nvme_endpoint *ep;
	int rc = vhost_nvme_endpoint_start(&params, &ep, reterr);

	if (rc == 0)
		dev->ep = ep;
	return rc;
}

static void front_vhost_nvme_stop(struct device *dev)
{
	vhost_nvme_endpoint_stop(dev->ep, device_on_stopped, dev);
}

static void front_vhost_nvme_visit(const struct device *dev, const struct queue_visitor *v)
{
	vhost_nvme_endpoint_visit(dev->ep, v);
}

static struct endpoint *front_vhost_nvme_socket(const struct device *dev)
{
	return vhost_nvme_endpoint_socket(dev->ep);
}

static void front_vhost_nvme_drain(struct device *dev, bool drained)
{
	vhost_nvme_endpoint_drain(dev->ep, drained);
}

static int front_vhost_nvme_queue_move(struct device *dev, uint32_t idx, struct loop *loop,
				       struct err *reterr)
{
	return vhost_nvme_endpoint_queue_move(dev->ep, idx, loop, reterr);
}

const struct device_front front_vhost_nvme = { .start = front_vhost_nvme_start,
					       .stop = front_vhost_nvme_stop,
					       .visit = front_vhost_nvme_visit,
					       .socket = front_vhost_nvme_socket,
					       .drain = front_vhost_nvme_drain,
					       .queue_move = front_vhost_nvme_queue_move };
