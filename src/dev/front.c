/* How front-ends reach a device: the endpoint of its transport. Thread: main. */
#include "dev/device.h"
#include "vfu/vfu.h"
#include "vhost/vhost.h"

struct endpoint_params front_sock(struct device *dev)
{
	const struct device_def *def = dev->def;

	return (struct endpoint_params){
		.name = def->name,
		.socket_path = def->fd >= 0 ? NULL : def->socket,
		.fd = def->fd,
		.client = def->client,
		.reconnect_ms = def->reconnect_ms,
		.socket_mode = def->mode,
		.connections_max = def->connections,
		.watched = true,
		.from = dev->from,
		.main_loop = dev->main_loop,
		.on_done = device_on_done,
		.done_arg = dev,
	};
}

/* ---- vhost-user: virtio devices ---- */

static int front_vhost_start(struct device *dev, struct err *reterr)
{
	const struct device_def *def = dev->def;
	const struct vhost_endpoint_params params = {
		.sock = front_sock(dev),
		.spin_ns = def->spin_us * 1000,
		.packed = def->packed,
		.coalescing = dev->coalescing,
		.loops = dev->loops,
		.loop_count = dev->loop_count,
		.vdev_make = def->type->vdev_make,
		.arg = dev,
	};
	struct vhost_endpoint *ep;
	int rc = vhost_endpoint_start(&params, &ep, reterr);

	if (rc == 0)
		dev->ep = ep;
	return rc;
}

static void front_vhost_stop(struct device *dev)
{
	vhost_endpoint_stop(dev->ep, device_on_stopped, dev);
}

static void front_vhost_visit(const struct device *dev, const struct queue_visitor *v)
{
	vhost_endpoint_visit(dev->ep, v);
}

static struct endpoint *front_vhost_socket(const struct device *dev)
{
	return vhost_endpoint_socket(dev->ep);
}

static void front_vhost_drain(struct device *dev, bool drained)
{
	vhost_endpoint_drain(dev->ep, drained);
}

static int front_vhost_queue_move(struct device *dev, uint32_t idx, struct loop *loop,
				  struct err *reterr)
{
	return vhost_endpoint_queue_move(dev->ep, idx, loop, reterr);
}

static void front_vhost_coalesce(struct device *dev)
{
	vhost_endpoint_coalesce(dev->ep, &dev->coalescing);
}

const struct device_front front_vhost = {
	front_vhost_start, front_vhost_stop,	   front_vhost_visit,	 front_vhost_socket,
	front_vhost_drain, front_vhost_queue_move, front_vhost_coalesce,
};

/* ---- vfio-user ---- */

static int front_vfu_start(struct device *dev, struct err *reterr)
{
	const struct vfu_endpoint_params params = {
		.sock = front_sock(dev),
		.dev_make = dev->def->type->vfu_make,
		.arg = dev,
	};
	struct vfu_endpoint *ep;
	int rc = vfu_endpoint_start(&params, &ep, reterr);

	if (rc == 0)
		dev->ep = ep;
	return rc;
}

static void front_vfu_stop(struct device *dev)
{
	vfu_endpoint_stop(dev->ep, device_on_stopped, dev);
}

static void front_vfu_visit(const struct device *dev, const struct queue_visitor *v)
{
	vfu_endpoint_visit(dev->ep, v);
}

static struct endpoint *front_vfu_socket(const struct device *dev)
{
	return vfu_endpoint_socket(dev->ep);
}

static void front_vfu_drain(struct device *dev, bool drained)
{
	vfu_endpoint_drain(dev->ep, drained);
}

static int front_vfu_queue_move(struct device *dev, uint32_t idx, struct loop *loop,
				struct err *reterr)
{
	return vfu_endpoint_queue_move(dev->ep, idx, loop, reterr);
}

static void front_vfu_coalesce(struct device *dev)
{
	vfu_endpoint_coalesce(dev->ep, &dev->coalescing);
}

const struct device_front front_vfu = {
	front_vfu_start, front_vfu_stop,       front_vfu_visit,	   front_vfu_socket,
	front_vfu_drain, front_vfu_queue_move, front_vfu_coalesce,
};

int front_vfu_virtio_make(void *arg, struct vfu_dev **ret_dev, struct err *reterr)
{
	struct device *dev = arg;
	const struct device_def *def = dev->def;
	const struct vfu_virtio_params params = {
		.name = def->name,
		.spin_ns = def->spin_us * 1000,
		.packed = def->packed,
		.mapped_notify = def->doorbells,
		.coalescing = dev->coalescing,
		.main_loop = dev->main_loop,
		.loops = dev->loops,
		.loop_count = dev->loop_count,
	};
	struct vdev *vdev;
	int rc = def->type->vdev_make(dev, &vdev, reterr);

	return rc < 0 ? rc : vfu_virtio_new(&params, vdev, ret_dev, reterr);
}
