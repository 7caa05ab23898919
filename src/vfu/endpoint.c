/* An endpoint (sock/endpoint.h) whose connections are vfio-user sessions. See vfu.h. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "loop/queue_stats.h"
#include "vfu/session.h"
#include "vfu/vfu.h"

struct vfu_endpoint {
	struct vfu_endpoint_params params; /* sock: name, path, from: only good during the start */
	struct endpoint *ep;
	bool drained;
};

static void vfu_endpoint_on_session_ended(struct vfu_session *s, void *arg)
{
	endpoint_conn_ended(&s->endpoint_conn);
}

static struct vfu_session_params vfu_endpoint_session_params(const struct vfu_endpoint *v,
							     struct endpoint *ep)
{
	return (struct vfu_session_params){
		.name = endpoint_name(ep),
		.main_loop = v->params.sock.main_loop,
		.limit = endpoint_limit(ep),
		.ended = vfu_endpoint_on_session_ended,
	};
}

static int vfu_endpoint_serve(void *arg, struct endpoint *ep, int fd,
			      struct endpoint_conn **ret_conn, struct err *reterr)
{
	struct vfu_endpoint *v = arg;
	const struct vfu_session_params sp = vfu_endpoint_session_params(v, ep);
	struct vfu_session *s;
	struct vfu_dev *dev;
	int rc = v->params.dev_make(v->params.arg, &dev, reterr);

	if (rc) {
		close(fd);
		return rc;
	}
	if (v->drained)
		dev->ops->queues_drain(dev, true);
	rc = vfu_session_new(&sp, fd, dev, &s, reterr);
	if (!rc)
		*ret_conn = &s->endpoint_conn;
	return rc;
}

static void vfu_endpoint_close(struct endpoint_conn *conn)
{
	vfu_session_close(container_of(conn, struct vfu_session, endpoint_conn), LOG_INFO,
			  "the endpoint stops");
}

/* ---- hand-over ---- */

static void vfu_endpoint_freeze(struct endpoint_conn *conn, bool frozen)
{
	vfu_session_freeze(container_of(conn, struct vfu_session, endpoint_conn), frozen);
}

static bool vfu_endpoint_is_quiet(const struct endpoint_conn *conn)
{
	return vfu_session_is_quiet(container_of(conn, const struct vfu_session, endpoint_conn));
}

static int vfu_endpoint_pack(const struct endpoint_conn *conn, struct parcel *p, struct err *reterr)
{
	return vfu_session_pack(container_of(conn, const struct vfu_session, endpoint_conn), p,
				reterr);
}

static int vfu_endpoint_unpack(void *arg, struct endpoint *ep, struct parcel *p,
			       struct endpoint_conn **ret_conn, struct err *reterr)
{
	struct vfu_endpoint *v = arg;
	const struct vfu_session_params sp = vfu_endpoint_session_params(v, ep);
	struct vfu_session *s;
	struct vfu_dev *dev;
	int rc = v->params.dev_make(v->params.arg, &dev, reterr);

	if (rc == 0)
		rc = vfu_session_unpack(&sp, dev, p, &s, reterr);
	if (rc == 0)
		*ret_conn = &s->endpoint_conn;
	return rc;
}

static const struct endpoint_ops vfu_endpoint_ops = {
	.serve = vfu_endpoint_serve,
	.close = vfu_endpoint_close,
	.released = free,
	.freeze = vfu_endpoint_freeze,
	.is_quiet = vfu_endpoint_is_quiet,
	.pack = vfu_endpoint_pack,
	.unpack = vfu_endpoint_unpack,
};

void vfu_endpoint_stop(struct vfu_endpoint *v, void (*stopped)(void *arg), void *arg)
{
	endpoint_stop(v->ep, stopped, arg);
}

static void vfu_endpoint_check_lost(struct endpoint_conn *conn)
{
	vfu_session_check_lost(container_of(conn, struct vfu_session, endpoint_conn));
}

void vfu_check_lost(void)
{
	endpoint_conns_visit(&vfu_endpoint_ops, vfu_endpoint_check_lost);
}

int vfu_endpoint_start(const struct vfu_endpoint_params *p, struct vfu_endpoint **ret_ep,
		       struct err *reterr)
{
	struct vfu_endpoint *v;
	int rc;

	if (!p->dev_make)
		return err_set(reterr, -EINVAL, "endpoint: a device is needed");
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(reterr, -ENOMEM, "%s: no memory", p->sock.name);
	v->params = *p;
	v->params.sock.ops = &vfu_endpoint_ops;
	v->params.sock.arg = v;
	rc = endpoint_start(&v->params.sock, &v->ep, reterr);
	if (rc) {
		free(v);
		return rc;
	}
	*ret_ep = v;
	return 0;
}

static void vfu_endpoint_conn_visit(struct endpoint_conn *conn, uint32_t idx, void *arg)
{
	const struct vfu_session *s = container_of(conn, struct vfu_session, endpoint_conn);
	const struct queue_visitor v =
		queue_visitor_enter(arg, idx, vfu_session_state_name(s->state));

	if (s->dev && s->dev->ops->queues_visit)
		s->dev->ops->queues_visit(s->dev, &v);
}

void vfu_endpoint_visit(const struct vfu_endpoint *e, const struct queue_visitor *v)
{
	endpoint_visit(e->ep, vfu_endpoint_conn_visit, (void *)v);
}

struct endpoint *vfu_endpoint_socket(const struct vfu_endpoint *e)
{
	return e->ep;
}

static bool vfu_session_has_queues(const struct vfu_session *s)
{
	return s->dev && s->state != VFU_SESSION_CLOSING;
}

static void vfu_session_drain(struct endpoint_conn *conn, uint32_t idx, void *arg)
{
	const struct vfu_session *s = container_of(conn, struct vfu_session, endpoint_conn);

	if (vfu_session_has_queues(s))
		s->dev->ops->queues_drain(s->dev, *(const bool *)arg);
}

void vfu_endpoint_drain(struct vfu_endpoint *e, bool drained)
{
	e->drained = drained;
	endpoint_visit(e->ep, vfu_session_drain, &drained);
}

static void vfu_session_coalesce(struct endpoint_conn *conn, uint32_t idx, void *arg)
{
	const struct vfu_session *s = container_of(conn, struct vfu_session, endpoint_conn);

	if (vfu_session_has_queues(s) && s->dev->ops->coalesce)
		s->dev->ops->coalesce(s->dev, arg);
}

void vfu_endpoint_coalesce(struct vfu_endpoint *e, const struct vring_coalescing *c)
{
	struct vring_coalescing copy = *c;

	endpoint_visit(e->ep, vfu_session_coalesce, &copy);
}

static int vfu_session_move(struct endpoint_conn *conn, uint32_t idx, struct loop *loop,
			    struct err *reterr)
{
	const struct vfu_session *s = container_of(conn, struct vfu_session, endpoint_conn);

	return vfu_session_has_queues(s) ? s->dev->ops->queue_move(s->dev, idx, loop, reterr) : 0;
}

int vfu_endpoint_queue_move(struct vfu_endpoint *e, uint32_t idx, struct loop *loop,
			    struct err *reterr)
{
	return endpoint_queue_move(e->ep, vfu_session_move, idx, loop, reterr);
}
