/* An endpoint (sock/endpoint.h) whose connections are vhost-user sessions. See vhost.h. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "loop/queue_stats.h"
#include "vhost/session.h"
#include "vhost/vhost.h"

struct vhost_endpoint {
	/* sock: name, path, from: only good during the start */
	struct vhost_endpoint_params params;
	struct endpoint *ep;
	bool drained;
};

static void vhost_endpoint_on_session_ended(struct session *s, void *arg)
{
	endpoint_conn_ended(&s->endpoint_conn);
}

static struct session_params vhost_session_params(const struct vhost_endpoint *v,
						  struct endpoint *ep)
{
	const struct vhost_endpoint_params *p = &v->params;

	return (struct session_params){
		.name = endpoint_name(ep),
		.main_loop = p->sock.main_loop,
		.loops = p->loops,
		.loop_count = p->loop_count,
		.spin_ns = p->spin_ns,
		.packed = p->packed,
		.drained = v->drained,
		.coalescing = p->coalescing,
		.limit = endpoint_limit(ep),
		.ended = vhost_endpoint_on_session_ended,
	};
}

static int vhost_endpoint_serve(void *arg, struct endpoint *ep, int fd,
				struct endpoint_conn **ret_conn, struct err *reterr)
{
	struct vhost_endpoint *v = arg;
	const struct vhost_endpoint_params *p = &v->params;
	const struct session_params sp = vhost_session_params(v, ep);
	struct session *s;
	struct vdev *vdev;
	int rc = p->vdev_make(p->arg, &vdev, reterr);

	if (rc) {
		close(fd);
		return rc;
	}
	rc = session_new(&sp, fd, vdev, &s, reterr);
	if (!rc)
		*ret_conn = &s->endpoint_conn;
	return rc;
}

static void vhost_endpoint_close(struct endpoint_conn *conn)
{
	session_close(container_of(conn, struct session, endpoint_conn), LOG_INFO,
		      "the endpoint stops");
}

/* ---- hand-over ---- */

static void vhost_endpoint_freeze(struct endpoint_conn *conn, bool frozen)
{
	session_freeze(container_of(conn, struct session, endpoint_conn), frozen);
}

static bool vhost_endpoint_is_quiet(const struct endpoint_conn *conn)
{
	return session_is_quiet(container_of(conn, const struct session, endpoint_conn));
}

static int vhost_endpoint_pack(const struct endpoint_conn *conn, struct parcel *p,
			       struct err *reterr)
{
	return session_pack(container_of(conn, const struct session, endpoint_conn), p, reterr);
}

static int vhost_endpoint_unpack(void *arg, struct endpoint *ep, struct parcel *p,
				 struct endpoint_conn **ret_conn, struct err *reterr)
{
	struct vhost_endpoint *v = arg;
	struct session_params sp = vhost_session_params(v, ep);
	struct session *s;
	struct vdev *vdev;
	int rc = v->params.vdev_make(v->params.arg, &vdev, reterr);

	sp.frozen = true;
	if (rc == 0)
		rc = session_unpack(&sp, vdev, p, &s, reterr);
	if (rc == 0)
		*ret_conn = &s->endpoint_conn;
	return rc;
}

static const struct endpoint_ops vhost_endpoint_ops = {
	.serve = vhost_endpoint_serve,
	.close = vhost_endpoint_close,
	.released = free,
	.freeze = vhost_endpoint_freeze,
	.is_quiet = vhost_endpoint_is_quiet,
	.pack = vhost_endpoint_pack,
	.unpack = vhost_endpoint_unpack,
};

void vhost_endpoint_stop(struct vhost_endpoint *v, void (*stopped)(void *arg), void *arg)
{
	endpoint_stop(v->ep, stopped, arg);
}

static void vhost_session_check_lost(struct endpoint_conn *conn)
{
	session_check_lost(container_of(conn, struct session, endpoint_conn));
}

void vhost_check_lost(void)
{
	endpoint_conns_visit(&vhost_endpoint_ops, vhost_session_check_lost);
}

int vhost_endpoint_start(const struct vhost_endpoint_params *p, struct vhost_endpoint **ret_ep,
			 struct err *reterr)
{
	struct vhost_endpoint *v;
	int rc;

	if (!p->loop_count || !p->vdev_make)
		return err_set(reterr, -EINVAL, "endpoint: loops and device are needed");
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(reterr, -ENOMEM, "%s: no memory", p->sock.name);
	v->params = *p;
	v->params.sock.ops = &vhost_endpoint_ops;
	v->params.sock.arg = v;
	rc = endpoint_start(&v->params.sock, &v->ep, reterr);
	if (rc) {
		free(v);
		return rc;
	}
	*ret_ep = v;
	return 0;
}

static void vhost_endpoint_conn_visit(struct endpoint_conn *conn, uint32_t idx, void *arg)
{
	const struct session *s = container_of(conn, struct session, endpoint_conn);
	const struct queue_visitor v = queue_visitor_enter(arg, idx, session_state_name(s->state));

	for (uint32_t i = 0; v.queue && i < s->ring_count; i++) {
		struct queue_stats q;

		vring_stats(&s->rings[i].v, &q);
		q.conn = idx;
		v.queue(&q, v.arg);
	}
}

void vhost_endpoint_visit(const struct vhost_endpoint *e, const struct queue_visitor *v)
{
	endpoint_visit(e->ep, vhost_endpoint_conn_visit, (void *)v);
}

struct endpoint *vhost_endpoint_socket(const struct vhost_endpoint *e)
{
	return e->ep;
}

static void vhost_session_drain(struct endpoint_conn *conn, uint32_t idx, void *arg)
{
	session_drain(container_of(conn, struct session, endpoint_conn), *(const bool *)arg);
}

void vhost_endpoint_drain(struct vhost_endpoint *e, bool drained)
{
	e->drained = drained;
	endpoint_visit(e->ep, vhost_session_drain, &drained);
}

static void vhost_session_coalesce(struct endpoint_conn *conn, uint32_t idx, void *arg)
{
	session_coalesce(container_of(conn, struct session, endpoint_conn), arg);
}

void vhost_endpoint_coalesce(struct vhost_endpoint *e, const struct vring_coalescing *c)
{
	e->params.coalescing = *c;
	endpoint_visit(e->ep, vhost_session_coalesce, &e->params.coalescing);
}

static int vhost_session_move(struct endpoint_conn *conn, uint32_t idx, struct loop *loop,
			      struct err *reterr)
{
	return session_ring_move(container_of(conn, struct session, endpoint_conn), idx, loop,
				 reterr);
}

int vhost_endpoint_queue_move(struct vhost_endpoint *e, uint32_t idx, struct loop *loop,
			      struct err *reterr)
{
	return endpoint_queue_move(e->ep, vhost_session_move, idx, loop, reterr);
}
