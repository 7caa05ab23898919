/* An endpoint (sock/endpoint.h) whose connections are vhost-user-nvme sessions. See vhost.h. */
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "loop/queue_stats.h"
#include "nvme/subsys.h"
#include "vhost/nvme_session.h"

struct vhost_nvme_endpoint {
	struct vhost_nvme_params params; /* sock: name, path, from: only good during the start */
	struct endpoint *ep;
	bool drained;
};

static void nvme_endpoint_on_session_ended(struct nvme_session *s)
{
	endpoint_conn_ended(&s->endpoint_conn);
}

static int nvme_endpoint_serve(void *arg, struct endpoint *ep, int fd,
			       struct endpoint_conn **ret_conn, struct err *reterr)
{
	struct vhost_nvme_endpoint *v = arg;
	struct vhost_nvme_params p = v->params;
	struct nvme_session *s;
	int rc;

	p.sock.name = endpoint_name(ep);
	rc = nvme_session_new(&p, endpoint_limit(ep), fd, nvme_endpoint_on_session_ended, &s,
			      reterr);
	if (rc)
		return rc;
	nvme_session_drain(s, v->drained);
	*ret_conn = &s->endpoint_conn;
	return 0;
}

static void nvme_endpoint_close(struct endpoint_conn *conn)
{
	nvme_session_close(container_of(conn, struct nvme_session, endpoint_conn), LOG_INFO,
			   "the endpoint stops");
}

static void nvme_endpoint_released(void *arg)
{
	struct vhost_nvme_endpoint *v = arg;

	nvme_subsys_unref(v->params.subsys);
	free(v);
}

/* ---- hand-over ---- */

static void nvme_endpoint_freeze(struct endpoint_conn *conn, bool frozen)
{
	nvme_session_freeze(container_of(conn, struct nvme_session, endpoint_conn), frozen);
}

static bool nvme_endpoint_is_quiet(const struct endpoint_conn *conn)
{
	return nvme_session_is_quiet(container_of(conn, const struct nvme_session, endpoint_conn));
}

static int nvme_endpoint_pack(const struct endpoint_conn *conn, struct parcel *p,
			      struct err *reterr)
{
	return nvme_session_pack(container_of(conn, const struct nvme_session, endpoint_conn), p,
				 reterr);
}

static int nvme_endpoint_unpack(void *arg, struct endpoint *ep, struct parcel *p,
				struct endpoint_conn **ret_conn, struct err *reterr)
{
	struct vhost_nvme_endpoint *v = arg;
	struct vhost_nvme_params params = v->params;
	struct nvme_session *s;
	int rc;

	params.sock.name = endpoint_name(ep);
	rc = nvme_session_unpack(&params, endpoint_limit(ep), nvme_endpoint_on_session_ended, p, &s,
				 reterr);
	if (rc == 0)
		*ret_conn = &s->endpoint_conn;
	return rc;
}

static const struct endpoint_ops nvme_endpoint_ops = {
	.serve = nvme_endpoint_serve,
	.close = nvme_endpoint_close,
	.released = nvme_endpoint_released,
	.freeze = nvme_endpoint_freeze,
	.is_quiet = nvme_endpoint_is_quiet,
	.pack = nvme_endpoint_pack,
	.unpack = nvme_endpoint_unpack,
};

static void nvme_endpoint_conn_check_lost(struct endpoint_conn *conn)
{
	nvme_session_check_lost(container_of(conn, struct nvme_session, endpoint_conn));
}

void vhost_nvme_check_lost(void)
{
	endpoint_conns_visit(&nvme_endpoint_ops, nvme_endpoint_conn_check_lost);
}

void vhost_nvme_endpoint_stop(struct vhost_nvme_endpoint *v, void (*stopped)(void *arg), void *arg)
{
	endpoint_stop(v->ep, stopped, arg);
}

static int nvme_endpoint_check(const struct vhost_nvme_params *p, struct err *reterr)
{
	if (!p->loop_count || !p->subsys)
		return err_set(reterr, -EINVAL, "endpoint: loops and subsystem are needed");
	if (p->num_queues < 1 || p->num_queues > VHOST_NVME_QUEUES_MAX)
		return err_set(reterr, -EINVAL, "%s: queues: expected 1..%u, got %u", p->sock.name,
			       VHOST_NVME_QUEUES_MAX, p->num_queues);
	return 0;
}

int vhost_nvme_endpoint_start(const struct vhost_nvme_params *p,
			      struct vhost_nvme_endpoint **ret_ep, struct err *reterr)
{
	struct vhost_nvme_endpoint *v;
	int rc = nvme_endpoint_check(p, reterr);

	if (rc)
		return rc;
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(reterr, -ENOMEM, "%s: no memory", p->sock.name);
	v->params = *p;
	nvme_subsys_ref(p->subsys);
	v->params.sock.ops = &nvme_endpoint_ops;
	v->params.sock.arg = v;
	rc = endpoint_start(&v->params.sock, &v->ep, reterr);
	if (rc) {
		nvme_subsys_unref(p->subsys);
		free(v);
		return rc;
	}
	*ret_ep = v;
	return 0;
}

static void vhost_nvme_endpoint_conn_visit(struct endpoint_conn *conn, uint32_t idx, void *arg)
{
	const struct nvme_session *s = container_of(conn, struct nvme_session, endpoint_conn);
	const struct queue_visitor v =
		queue_visitor_enter(arg, idx, nvme_session_state_name(s->state));

	if (s->ctrl)
		nvme_ctrl_queues_visit(s->ctrl, &v);
}

void vhost_nvme_endpoint_visit(const struct vhost_nvme_endpoint *e, const struct queue_visitor *v)
{
	endpoint_visit(e->ep, vhost_nvme_endpoint_conn_visit, (void *)v);
}

static void vhost_nvme_session_drain(struct endpoint_conn *conn, uint32_t idx, void *arg)
{
	nvme_session_drain(container_of(conn, struct nvme_session, endpoint_conn),
			   *(const bool *)arg);
}

void vhost_nvme_endpoint_drain(struct vhost_nvme_endpoint *e, bool drained)
{
	e->drained = drained;
	endpoint_visit(e->ep, vhost_nvme_session_drain, &drained);
}

static int vhost_nvme_session_move(struct endpoint_conn *conn, uint32_t idx, struct loop *loop,
				   struct err *reterr)
{
	return nvme_session_queue_move(container_of(conn, struct nvme_session, endpoint_conn), idx,
				       loop, reterr);
}

int vhost_nvme_endpoint_queue_move(struct vhost_nvme_endpoint *e, uint32_t idx, struct loop *loop,
				   struct err *reterr)
{
	return endpoint_queue_move(e->ep, vhost_nvme_session_move, idx, loop, reterr);
}

struct endpoint *vhost_nvme_endpoint_socket(const struct vhost_nvme_endpoint *e)
{
	return e->ep;
}
