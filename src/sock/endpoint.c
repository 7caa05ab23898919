/*
 * The listener is watched only while a slot is free; who connects meanwhile waits in the backlog
 * and not in our memory. The socket stays open from start to stop, so that a front-end that
 * reconnects never finds it missing.
 */
#include "sock/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/parcel.h"
#include "loop/loop.h"
#include "sock/listen.h"

/* After accept failed for want of descriptors or memory. */
#define ENDPOINT_ACCEPT_PAUSE_NS 100000000ull

struct endpoint {
	struct list node;
	struct endpoint_params params;
	char *name, *path;
	struct log_limit limit;

	int listen_fd; /* owned; -1: none */
	struct listen_file file;
	struct loop_watch watch;
	bool watching; /* started, stopped() not yet called */
	bool accepting;
	bool frozen;
	bool taken;		 /* over from another process */
	struct loop_timer timer; /* client: next attempt; server: accept again */

	struct list conns;
	uint32_t conn_count;
	uint64_t accepted;

	bool stopping;
	void (*stopped)(void *arg);
	void *stopped_arg;
	struct loop_msg event; /* out of the caller's stack: stopped, or on_done */
};

static struct list endpoints = { &endpoints, &endpoints };

static void (*watcher)(const char *name, enum endpoint_event event, const char *text);

static void endpoint_step(struct endpoint *ep);

static void endpoint_accepting_update(struct endpoint *ep)
{
	bool want = !ep->stopping && !ep->frozen && ep->conn_count < ep->params.connections_max;

	if (!ep->watching || ep->stopping || want == ep->accepting)
		return;
	if (want)
		loop_watch_resume(&ep->watch);
	else
		loop_watch_pause(&ep->watch);
	ep->accepting = want;
}

/* ---- connections ---- */

const char *endpoint_name(const struct endpoint *ep)
{
	return ep->name;
}

struct log_limit *endpoint_limit(struct endpoint *ep)
{
	return &ep->limit;
}

void endpoint_watch(void (*fn)(const char *name, enum endpoint_event event, const char *text))
{
	watcher = fn;
}

void endpoint_tell(const struct endpoint_conn *conn, enum endpoint_event event, const char *text)
{
	/* not yet: it is still being made */
	if (watcher && conn->ep && conn->ep->params.watched)
		watcher(conn->ep->name, event, text);
}

void endpoint_conn_ended(struct endpoint_conn *conn)
{
	struct endpoint *ep = conn->ep;

	endpoint_tell(conn, ENDPOINT_DISCONNECTED, "");
	list_remove(&conn->node);
	ep->conn_count--;
	endpoint_step(ep);
}

void endpoint_conns_visit(const struct endpoint_ops *ops, void (*fn)(struct endpoint_conn *conn))
{
	struct endpoint_conn *conn, *tmp;
	struct endpoint *ep;

	list_for_each(ep, &endpoints, node) {
		if (ep->params.ops != ops)
			continue;
		list_for_each_safe(conn, tmp, &ep->conns, node)
			fn(conn);
	}
}

void endpoint_visit(const struct endpoint *ep,
		    void (*fn)(struct endpoint_conn *conn, uint32_t idx, void *arg), void *arg)
{
	struct endpoint_conn *conn;
	uint32_t idx = 0;

	list_for_each(conn, &ep->conns, node)
		fn(conn, idx++, arg);
}

int endpoint_queue_move(const struct endpoint *ep,
			int (*move)(struct endpoint_conn *conn, uint32_t idx, struct loop *loop,
				    struct err *reterr),
			uint32_t idx, struct loop *loop, struct err *reterr)
{
	struct endpoint_conn *conn;
	int first = 0;

	if (list_empty(&ep->conns))
		return err_set(reterr, -ENOTCONN, "no front-end is connected");
	list_for_each(conn, &ep->conns, node) {
		int rc = move(conn, idx, loop, first ? NULL : reterr);

		first = first ? first : rc;
	}
	return first;
}

void endpoint_stats_get(const struct endpoint *ep, struct endpoint_stats *ret_stats)
{
	*ret_stats =
		(struct endpoint_stats){ .connections = ep->conn_count, .accepted = ep->accepted };
}

static void endpoint_conn_add(struct endpoint *ep, struct endpoint_conn *conn)
{
	conn->ep = ep;
	list_append(&ep->conns, &conn->node);
	ep->conn_count++;
}

/* Takes fd. */
static int endpoint_serve(struct endpoint *ep, int fd, struct err *reterr)
{
	struct endpoint_conn *conn;
	int rc = ep->params.ops->serve(ep->params.arg, ep, fd, &conn, reterr);

	if (rc)
		return rc;
	endpoint_conn_add(ep, conn);
	endpoint_tell(conn, ENDPOINT_CONNECTED, "");
	ep->accepted++;
	return 0;
}

static void endpoint_on_connection(struct loop_watch *w, uint32_t revents)
{
	struct endpoint *ep = container_of(w, struct endpoint, watch);
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

static void endpoint_connect_later(struct endpoint *ep)
{
	loop_timer_start(ep->params.main_loop, &ep->timer,
			 loop_clock_ns() + ep->params.reconnect_ms * 1000000ull);
}

static int endpoint_connect(struct endpoint *ep, struct err *reterr)
{
	int fd, rc = listen_connect(ep->path, &fd, reterr);

	return rc ? rc : endpoint_serve(ep, fd, reterr);
}

static void endpoint_on_timer(struct loop_timer *t)
{
	struct endpoint *ep = container_of(t, struct endpoint, timer);
	struct err err = { 0 };

	if (ep->stopping || ep->frozen)
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

static void endpoint_free(struct endpoint *ep)
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
	struct endpoint *ep = container_of(msg, struct endpoint, event);
	void (*stopped)(void *arg) = ep->stopped;
	void *arg = ep->stopped_arg;
	const struct endpoint_params p = ep->params;

	list_remove(&ep->node);
	endpoint_free(ep);
	if (p.ops->released)
		p.ops->released(p.arg);
	stopped(arg);
}

static void endpoint_on_watch_stopped(struct loop_watch *w)
{
	struct endpoint *ep = container_of(w, struct endpoint, watch);

	ep->watching = false;
	endpoint_step(ep);
}

/* A connection ended, or a part of stopping did: what next? */
static void endpoint_step(struct endpoint *ep)
{
	if (ep->stopping) {
		if (ep->conn_count || ep->watching)
			return;
		ep->event.fn = endpoint_on_stopped;
		loop_post(ep->params.main_loop, &ep->event);
		return;
	}
	if (ep->frozen) /* endpoint_freeze sees to it */
		return;
	if (ep->watching)
		endpoint_accepting_update(ep);
	else if (ep->params.client && ep->params.reconnect_ms)
		endpoint_connect_later(ep);
	else if (ep->params.on_done)
		ep->params.on_done(ep->params.done_arg);
}

void endpoint_stop(struct endpoint *ep, void (*stopped)(void *arg), void *arg)
{
	struct endpoint_conn *conn, *tmp;

	ASSERT(!ep->stopping);
	ep->stopping = true;
	ep->stopped = stopped;
	ep->stopped_arg = arg;
	loop_timer_stop(&ep->timer);
	/* A guard against finishing inside the loop below. */
	ep->conn_count++;
	if (ep->watching)
		loop_watch_stop(&ep->watch, endpoint_on_watch_stopped);
	list_for_each_safe(conn, tmp, &ep->conns, node)
		ep->params.ops->close(conn);
	ep->conn_count--;
	endpoint_step(ep);
}

/* ---- start ---- */

static int endpoint_params_check(const struct endpoint_params *p, struct err *reterr)
{
	if (!p->name || !p->main_loop || !p->ops)
		return err_set(reterr, -EINVAL, "endpoint: name, loop and server are needed");
	if (!p->from && !p->socket_path == (p->fd < 0))
		return err_set(reterr, -EINVAL, "%s: expected either a socket path or a descriptor",
			       p->name);
	if (p->client && !p->socket_path)
		return err_set(reterr, -EINVAL, "%s: client mode needs a socket path", p->name);
	if (!p->connections_max)
		return err_set(reterr, -EINVAL, "%s: connections: expected at least 1, got 0",
			       p->name);
	return 0;
}

static void endpoint_listen(struct endpoint *ep, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (flags >= 0) /* an inherited one may block in accept */
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	ep->listen_fd = fd;
	ep->watching = ep->accepting = true;
	loop_watch_start(ep->params.main_loop, &ep->watch, fd, POLLIN, endpoint_on_connection);
}

/* ---- hand-over ---- */

#define ENDPOINT_TAG	     "endp"
#define ENDPOINT_VERSION     1
#define ENDPOINT_CONN_TAG    "conn"
#define ENDPOINT_CONNS_LIMIT 65536

bool endpoint_can_pack(const struct endpoint *ep)
{
	return ep->params.ops->pack != NULL;
}

void endpoint_freeze(struct endpoint *ep, bool frozen)
{
	struct endpoint_conn *conn, *tmp;

	if (ep->stopping || ep->frozen == frozen)
		return;
	ep->frozen = frozen;
	if (frozen)
		loop_timer_stop(&ep->timer);
	else if (ep->taken && ep->file.path)
		listen_again(ep->listen_fd);
	endpoint_accepting_update(ep);
	/* A guard, as in endpoint_stop. */
	ep->conn_count++;
	list_for_each_safe(conn, tmp, &ep->conns, node)
		if (ep->params.ops->freeze)
			ep->params.ops->freeze(conn, frozen);
	ep->conn_count--;
	if (!frozen && !ep->conn_count)
		endpoint_step(ep);
}

bool endpoint_is_quiet(const struct endpoint *ep)
{
	struct endpoint_conn *conn;

	list_for_each(conn, &ep->conns, node)
		if (ep->params.ops->is_quiet && !ep->params.ops->is_quiet(conn))
			return false;
	return true;
}

int endpoint_pack(const struct endpoint *ep, struct parcel *p, struct err *reterr)
{
	struct parcel_section s, c;
	struct endpoint_conn *conn;
	int rc = 0;

	ASSERT(ep->frozen);
	parcel_section_begin(p, &s, ENDPOINT_TAG, ENDPOINT_VERSION);
	parcel_put_str(p, ep->path);
	parcel_put_fd(p, ep->watching ? ep->listen_fd : -1);
	parcel_put_u32(p, ep->file.path != NULL);
	parcel_put_u64(p, ep->file.dev);
	parcel_put_u64(p, ep->file.ino);
	parcel_put_u64(p, ep->accepted);
	parcel_put_u32(p, endpoint_can_pack(ep) ? ep->conn_count : 0);
	list_for_each(conn, &ep->conns, node) {
		if (!endpoint_can_pack(ep))
			break;
		parcel_section_begin(p, &c, ENDPOINT_CONN_TAG, ENDPOINT_VERSION);
		if (rc == 0)
			rc = ep->params.ops->pack(conn, p, reterr);
		parcel_section_done(p, &c);
	}
	parcel_section_done(p, &s);
	return rc < 0 ? err_prefix(reterr, rc, "%s", ep->name) : 0;
}

static int endpoint_conn_unpack(struct endpoint *ep, struct parcel *p, struct err *reterr)
{
	struct endpoint_conn *conn;
	struct parcel_section s;
	int rc = parcel_section_enter(p, &s, ENDPOINT_CONN_TAG, ENDPOINT_VERSION, reterr);

	if (rc == 0)
		rc = ep->params.ops->unpack(ep->params.arg, ep, p, &conn, reterr);
	if (rc < 0)
		return rc;
	endpoint_conn_add(ep, conn);
	return parcel_section_end(p, &s, ENDPOINT_CONN_TAG, reterr);
}

/* The socket is at the same place, or it is none of the same kind. */
static int endpoint_path_unpack(struct endpoint *ep, struct parcel *p, struct err *reterr)
{
	char *path = parcel_take_str(p);
	int rc = 0;

	if (path && ep->path ? strcmp(path, ep->path) != 0 : path != ep->path)
		rc = err_set(reterr, -EINVAL,
			     "socket: it is at %.108s, and %.108s is asked for now: a hand-over "
			     "keeps sockets where they are",
			     path ? path : "(inherited)", ep->path ? ep->path : "(inherited)");
	free(path);
	return rc;
}

static int endpoint_unpack(struct endpoint *ep, struct err *reterr)
{
	struct parcel *p = ep->params.from;
	struct parcel_section s;
	uint32_t count;
	int fd, rc = parcel_section_enter(p, &s, ENDPOINT_TAG, ENDPOINT_VERSION, reterr);

	if (rc == 0)
		rc = endpoint_path_unpack(ep, p, reterr);
	if (rc < 0)
		return rc;
	ep->frozen = ep->taken = true;
	fd = parcel_take_fd(p);
	if (fd >= 0)
		endpoint_listen(ep, fd);
	if (parcel_take_bool(p) && ep->path)
		ep->file.path = strdup(ep->path);
	ep->file.dev = parcel_take_u64(p);
	ep->file.ino = parcel_take_u64(p);
	ep->accepted = parcel_take_u64(p);
	count = parcel_take_count(p, endpoint_can_pack(ep) ? ENDPOINT_CONNS_LIMIT : 0);
	endpoint_accepting_update(ep);
	for (uint32_t i = 0; i < count && rc == 0; i++)
		rc = endpoint_conn_unpack(ep, p, reterr);
	return rc < 0 ? rc : parcel_section_end(p, &s, ENDPOINT_TAG, reterr);
}

static int endpoint_open(struct endpoint *ep, struct err *reterr)
{
	const struct endpoint_params *p = &ep->params;
	int listening = 0, fd, rc;
	socklen_t len = sizeof(listening);

	if (p->from)
		return endpoint_unpack(ep, reterr);
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

int endpoint_start(const struct endpoint_params *params, struct endpoint **ret_ep,
		   struct err *reterr)
{
	struct endpoint *ep;
	int rc = endpoint_params_check(params, reterr);

	if (rc)
		return rc;
	ep = calloc(1, sizeof(*ep));
	if (!ep)
		return err_set(reterr, -ENOMEM, "%s: no memory", params->name);
	ep->params = *params;
	ep->listen_fd = -1;
	ep->limit = LOG_LIMIT_DEFAULT;
	list_init(&ep->conns);
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
		/* see endpoint_params.from */
		if (params->from && (ep->watching || ep->conn_count))
			return rc;
		goto free_ep;
	}
	ep->params.from = NULL;
	list_append(&endpoints, &ep->node);
	*ret_ep = ep;
	return 0;
free_ep:
	endpoint_free(ep);
	return rc;
}
