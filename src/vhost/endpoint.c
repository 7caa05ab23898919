/*
 * Endpoints: where connections come from, and one session for each. See vhost.h.
 *
 * The listener is watched only while a slot is free; who connects meanwhile waits in the backlog
 * and not in our memory. The socket stays open from start to stop, so that a front-end that
 * reconnects never finds it missing.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/list.h"
#include "base/log.h"
#include "vhost/listen.h"
#include "vhost/session.h"
#include "vhost/vhost.h"

/* After accept failed for want of descriptors or memory. */
#define ENDPOINT_ACCEPT_PAUSE_NS 100000000ull

struct vhost_endpoint {
	struct list node;
	struct vhost_endpoint_params params;
	char *name, *path;
	struct log_limit limit;

	int listen_fd; /* owned; -1: none */
	struct listen_file file;
	struct loop_watch watch;
	bool watching; /* started, stopped() not yet called */
	bool accepting;
	struct loop_timer timer; /* client: next attempt; server: accept again */

	struct list sessions;
	uint32_t session_count;

	bool stopping;
	void (*stopped)(void *arg);
	void *stopped_arg;
	struct loop_msg event; /* out of the caller's stack: stopped, or on_done */
};

static struct list endpoints = { &endpoints, &endpoints };

static void endpoint_step(struct vhost_endpoint *ep);

static void endpoint_accepting_update(struct vhost_endpoint *ep)
{
	bool want = !ep->stopping && ep->session_count < ep->params.connections_max;

	if (!ep->watching || ep->stopping || want == ep->accepting)
		return;
	if (want)
		loop_watch_resume(&ep->watch);
	else
		loop_watch_pause(&ep->watch);
	ep->accepting = want;
}

/* ---- sessions ---- */

static void endpoint_on_session_ended(struct session *s, void *arg)
{
	struct vhost_endpoint *ep = arg;

	list_remove(&s->node);
	ep->session_count--;
	endpoint_step(ep);
}

/* Takes fd. */
static int endpoint_serve(struct vhost_endpoint *ep, int fd, struct err *reterr)
{
	const struct vhost_endpoint_params *p = &ep->params;
	struct session_params sp = {
		.name = ep->name,
		.main_loop = p->main_loop,
		.loops = p->loops,
		.loop_count = p->loop_count,
		.spin_ns = p->spin_ns,
		.packed = p->packed,
		.limit = &ep->limit,
		.ended = endpoint_on_session_ended,
		.arg = ep,
	};
	struct session *s;
	struct vdev *vdev;
	int rc = p->vdev_make(p->arg, &vdev, reterr);

	if (rc) {
		close(fd);
		return rc;
	}
	rc = session_new(&sp, fd, vdev, &s, reterr);
	if (rc)
		return rc;
	list_append(&ep->sessions, &s->node);
	ep->session_count++;
	return 0;
}

static void endpoint_on_connection(struct loop_watch *w, uint32_t revents)
{
	struct vhost_endpoint *ep = container_of(w, struct vhost_endpoint, watch);
	struct err err = { 0 };
	int fd;

	if (ep->stopping || !ep->accepting)
		return;
	fd = accept4(ep->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0) {
		if (endpoint_serve(ep, fd, &err))
			log_limited(&ep->limit, LOG_WARNING, "%s: connection refused: %s", ep->name,
				    err.msg);
		endpoint_accepting_update(ep);
		return;
	}
	if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
		return;
	log_limited(&ep->limit, LOG_WARNING, "%s: accept: %s", ep->name, strerror(errno));
	loop_watch_pause(w);
	ep->accepting = false;
	loop_timer_start(ep->params.main_loop, &ep->timer,
			 loop_clock_ns() + ENDPOINT_ACCEPT_PAUSE_NS);
}

/* ---- client mode ---- */

static void endpoint_connect_later(struct vhost_endpoint *ep)
{
	loop_timer_start(ep->params.main_loop, &ep->timer,
			 loop_clock_ns() + ep->params.reconnect_ms * 1000000ull);
}

static int endpoint_connect(struct vhost_endpoint *ep, struct err *reterr)
{
	int fd, rc = listen_connect(ep->path, &fd, reterr);

	return rc ? rc : endpoint_serve(ep, fd, reterr);
}

static void endpoint_on_timer(struct loop_timer *t)
{
	struct vhost_endpoint *ep = container_of(t, struct vhost_endpoint, timer);
	struct err err = { 0 };

	if (ep->stopping)
		return;
	if (!ep->params.client) {
		endpoint_accepting_update(ep);
		return;
	}
	if (endpoint_connect(ep, &err)) {
		log_limited(&ep->limit, LOG_INFO, "%s: %s", ep->name, err.msg);
		endpoint_connect_later(ep);
	}
}

/* ---- ends ---- */

static void endpoint_free(struct vhost_endpoint *ep)
{
	if (ep->listen_fd >= 0)
		close(ep->listen_fd);
	listen_file_remove(&ep->file);
	free(ep->name);
	free(ep->path);
	free(ep);
}

static void endpoint_on_stopped(struct loop_msg *msg)
{
	struct vhost_endpoint *ep = container_of(msg, struct vhost_endpoint, event);
	void (*stopped)(void *arg) = ep->stopped;
	void *arg = ep->stopped_arg;

	list_remove(&ep->node);
	endpoint_free(ep);
	stopped(arg);
}

static void endpoint_on_watch_stopped(struct loop_watch *w)
{
	struct vhost_endpoint *ep = container_of(w, struct vhost_endpoint, watch);

	ep->watching = false;
	endpoint_step(ep);
}

/* A session ended, or a part of stopping did: what next? */
static void endpoint_step(struct vhost_endpoint *ep)
{
	if (ep->stopping) {
		if (ep->session_count || ep->watching)
			return;
		ep->event.fn = endpoint_on_stopped;
		loop_post(ep->params.main_loop, &ep->event);
		return;
	}
	if (ep->watching)
		endpoint_accepting_update(ep);
	else if (ep->params.client && ep->params.reconnect_ms)
		endpoint_connect_later(ep);
	else if (ep->params.on_done)
		ep->params.on_done(ep->params.arg);
}

void vhost_endpoint_stop(struct vhost_endpoint *ep, void (*stopped)(void *arg), void *arg)
{
	struct session *s, *tmp;

	ASSERT(!ep->stopping);
	ep->stopping = true;
	ep->stopped = stopped;
	ep->stopped_arg = arg;
	loop_timer_stop(&ep->timer);
	/* A guard against finishing inside the loop below. */
	ep->session_count++;
	if (ep->watching)
		loop_watch_stop(&ep->watch, endpoint_on_watch_stopped);
	list_for_each_safe(s, tmp, &ep->sessions, node)
		session_close(s, LOG_INFO, "the endpoint stops");
	ep->session_count--;
	endpoint_step(ep);
}

void vhost_check_lost(void)
{
	struct vhost_endpoint *ep;
	struct session *s, *tmp;

	list_for_each(ep, &endpoints, node) {
		list_for_each_safe(s, tmp, &ep->sessions, node)
			session_check_lost(s);
	}
}

/* ---- start ---- */

static int endpoint_params_check(const struct vhost_endpoint_params *p, struct err *reterr)
{
	if (!p->name || !p->main_loop || !p->loop_count || !p->vdev_make)
		return err_set(reterr, -EINVAL, "endpoint: name, loops and device are needed");
	if (!p->socket_path == (p->fd < 0))
		return err_set(reterr, -EINVAL, "%s: expected either a socket path or a descriptor",
			       p->name);
	if (p->client && !p->socket_path)
		return err_set(reterr, -EINVAL, "%s: client mode needs a socket path", p->name);
	if (!p->connections_max)
		return err_set(reterr, -EINVAL, "%s: connections: expected at least 1, got 0",
			       p->name);
	return 0;
}

static void endpoint_listen(struct vhost_endpoint *ep, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (flags >= 0) /* an inherited one may block in accept */
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	ep->listen_fd = fd;
	ep->watching = ep->accepting = true;
	loop_watch_start(ep->params.main_loop, &ep->watch, fd, POLLIN, endpoint_on_connection);
}

static int endpoint_open(struct vhost_endpoint *ep, struct err *reterr)
{
	const struct vhost_endpoint_params *p = &ep->params;
	int listening = 0, fd, rc;
	socklen_t len = sizeof(listening);

	if (p->client) {
		rc = endpoint_connect(ep, reterr);
		if (rc && p->reconnect_ms) {
			endpoint_connect_later(ep);
			rc = 0;
		}
		return rc;
	}
	if (ep->path) {
		rc = listen_open(ep->path, p->socket_mode, &ep->file, &fd, reterr);
		if (!rc)
			endpoint_listen(ep, fd);
		return rc;
	}
	if (getsockopt(p->fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len))
		return err_set(reterr, -errno, "descriptor %d: expected a socket: %s", p->fd,
			       strerror(errno));
	if (listening)
		endpoint_listen(ep, p->fd);
	return listening ? 0 : endpoint_serve(ep, p->fd, reterr);
}

int vhost_endpoint_start(const struct vhost_endpoint_params *params, struct vhost_endpoint **ret_ep,
			 struct err *reterr)
{
	struct vhost_endpoint *ep;
	int rc = endpoint_params_check(params, reterr);

	if (rc)
		return rc;
	ep = calloc(1, sizeof(*ep));
	if (!ep)
		return err_set(reterr, -ENOMEM, "%s: no memory", params->name);
	ep->params = *params;
	ep->listen_fd = -1;
	ep->limit = LOG_LIMIT_DEFAULT;
	list_init(&ep->sessions);
	loop_timer_init(&ep->timer, endpoint_on_timer);
	ep->name = strdup(params->name);
	ep->path = params->socket_path ? strdup(params->socket_path) : NULL;
	if (!ep->name || (params->socket_path && !ep->path)) {
		rc = err_set(reterr, -ENOMEM, "%s: no memory", params->name);
		goto free_ep;
	}
	/* A call or err pipe whose reader is gone must not end the process. */
	signal(SIGPIPE, SIG_IGN);
	rc = endpoint_open(ep, reterr);
	if (rc) {
		err_prefix(reterr, rc, "%s", params->name);
		goto free_ep;
	}
	list_append(&endpoints, &ep->node);
	*ret_ep = ep;
	return 0;
free_ep:
	endpoint_free(ep);
	return rc;
}
