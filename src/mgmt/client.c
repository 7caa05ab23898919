#include "mgmt/client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/list.h"
#include "base/log.h"
#include "mgmt/exchange.h"
#include "mgmt/jsonrpc.h"

#define CLIENT_READ_BYTES    65536
#define CLIENT_EXCHANGES_MAX 64		    /* not answered yet */
#define CLIENT_UNREAD_MAX    (256u << 10)   /* bytes of answers not read by the client */
#define CLIENT_STALL_NS	     60000000000ull /* it reads nothing of its answers for so long */

enum client_state {
	CLIENT_OPEN,
	CLIENT_LAST,
	CLIENT_ENDING
};

struct client {
	struct endpoint_conn conn;
	struct loop *loop;
	int fd;
	bool admin;
	enum client_state state;
	/* bytes[scanned_bytes..len_bytes) were not looked at; from begin on: the present request */
	struct {
		char *bytes;
		size_t begin, scanned_bytes, len_bytes, size_bytes;
		struct jsonrpc_scan scan;
	} in;
	struct jsonrpc_out out;
	size_t sent_bytes;
	struct list exchanges;
	uint32_t exchange_count;
	struct loop_watch in_watch, out_watch;
	bool in_paused, out_started;
	uint32_t stopping; /* watches, and a message, that must come back before it is freed */
	struct loop_msg more;
	bool more_posted, in_turn;
	struct loop_timer stall;
};

static void client_update(struct client *c);

static size_t client_unread(const struct client *c)
{
	return c->out.len_bytes - c->sent_bytes;
}

static bool client_blocked(const struct client *c)
{
	return c->exchange_count >= CLIENT_EXCHANGES_MAX || client_unread(c) > CLIENT_UNREAD_MAX;
}

/* ---- the end ---- */

static void client_stopping_leave(struct client *c)
{
	ASSERT(c->stopping);
	if (--c->stopping)
		return;
	close(c->fd);
	free(c->in.bytes);
	jsonrpc_out_fini(&c->out);
	endpoint_conn_ended(&c->conn);
	free(c);
}

static void client_on_watch_stopped(struct loop_watch *w)
{
	struct client *c = container_of(w, struct client, in_watch);

	client_stopping_leave(c);
}

static void client_on_out_stopped(struct loop_watch *w)
{
	struct client *c = container_of(w, struct client, out_watch);

	client_stopping_leave(c);
}

static void client_end(struct client *c)
{
	struct exchange *ex, *tmp;

	if (c->state == CLIENT_ENDING)
		return;
	c->state = CLIENT_ENDING;
	list_for_each_safe(ex, tmp, &c->exchanges, node) {
		list_remove(&ex->node);
		ex->done = exchange_free;
		ex->owner = NULL;
	}
	loop_timer_stop(&c->stall);
	c->stopping = 1 + c->out_started + c->more_posted;
	loop_watch_stop(&c->in_watch, client_on_watch_stopped);
	if (c->out_started)
		loop_watch_stop(&c->out_watch, client_on_out_stopped);
}

void client_close(struct endpoint_conn *conn)
{
	client_end(container_of(conn, struct client, conn));
}

/* ---- answers ---- */

static void client_on_stall(struct loop_timer *t)
{
	struct client *c = container_of(t, struct client, stall);

	log_info("management socket: a client that did not read its answers was cut off");
	client_end(c);
}

static void client_on_writable(struct loop_watch *w, uint32_t revents);

/* The rest goes when the socket takes it. */
static void client_send_later(struct client *c)
{
	loop_timer_start(c->loop, &c->stall, loop_now_ns(c->loop) + CLIENT_STALL_NS);
	if (c->out_started) {
		loop_watch_resume(&c->out_watch);
		return;
	}
	c->out_started = true;
	loop_watch_start(c->loop, &c->out_watch, c->fd, POLLOUT, client_on_writable);
}

static void client_send(struct client *c)
{
	while (client_unread(c)) {
		ssize_t n = send(c->fd, c->out.bytes + c->sent_bytes, client_unread(c),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0) {
			c->sent_bytes += (size_t)n;
		} else if (errno == EAGAIN) {
			client_send_later(c);
			return;
		} else if (errno != EINTR) {
			client_end(c);
			return;
		}
	}
	c->sent_bytes = 0;
	jsonrpc_out_fini(&c->out);
	loop_timer_stop(&c->stall);
}

static void client_on_writable(struct loop_watch *w, uint32_t revents)
{
	struct client *c = container_of(w, struct client, out_watch);

	loop_watch_pause(w);
	client_send(c);
	client_update(c);
}

/* What was sent makes room: one who reads slowly, but all the time, may never have read all. */
static void client_out_compact(struct client *c)
{
	if (c->sent_bytes < client_unread(c))
		return;
	memmove(c->out.bytes, c->out.bytes + c->sent_bytes, client_unread(c));
	c->out.len_bytes = client_unread(c);
	c->sent_bytes = 0;
}

/* Takes ex's reply; a buffer is not copied when there is nothing before it. */
static void client_reply(struct client *c, struct exchange *ex)
{
	const bool idle = !client_unread(c);

	if (c->sent_bytes)
		client_out_compact(c);
	if (idle && !c->out.bytes) {
		c->out = ex->reply;
		ex->reply = (struct jsonrpc_out){ 0 };
	} else if (!jsonrpc_out_append(&c->out, ex->reply.bytes, ex->reply.len_bytes, SIZE_MAX)) {
		ex->failed = true;
	}
	if (ex->failed) {
		log_error("management socket: out of memory for an answer");
		client_end(c);
	} else if (idle) {
		client_send(c);
	}
}

static void client_on_answered(struct exchange *ex)
{
	struct client *c = ex->owner;

	list_remove(&ex->node);
	c->exchange_count--;
	client_reply(c, ex);
	exchange_free(ex);
	client_update(c);
}

/* ---- requests ---- */

/* What is no request is answered, and nothing after it is read: nobody knows where it ends. */
static void client_refuse(struct client *c, int code, const struct err *err)
{
	struct exchange *ex = exchange_new(NULL, NULL, c->admin);
	char text[ERR_MSG_MAX];

	c->state = CLIENT_LAST;
	if (!ex) {
		client_end(c);
		return;
	}
	snprintf(text, sizeof(text), "%s: %.400s",
		 code == RPC_PARSE_ERROR ? "Parse error" : "Invalid request", err->msg);
	exchange_refuse(ex, code, text);
	client_reply(c, ex);
	exchange_free(ex);
}

static void client_request(struct client *c, const char *bytes, size_t len_bytes)
{
	struct exchange *ex;
	struct err err = { 0 };
	json_t *body;

	if (jsonrpc_parse(bytes, len_bytes, &body, &err) < 0) {
		client_refuse(c, RPC_PARSE_ERROR, &err);
		return;
	}
	ex = exchange_new(client_on_answered, c, c->admin);
	if (!ex) {
		json_decref(body);
		client_end(c);
		return;
	}
	list_append(&c->exchanges, &ex->node);
	c->exchange_count++;
	exchange_run(ex, body);
}

/* Looks for one request in what was read; false: it is not whole, or not one. */
static bool client_take(struct client *c)
{
	struct err err = { 0 };
	enum jsonrpc_found found;
	size_t used;

	if (c->in.scanned_bytes == c->in.len_bytes)
		return false;
	found = jsonrpc_scan(&c->in.scan, c->in.bytes + c->in.scanned_bytes,
			     c->in.len_bytes - c->in.scanned_bytes, &used, &err);
	c->in.scanned_bytes += used;
	if (found != JSONRPC_BAD && c->in.scanned_bytes - c->in.begin > JSONRPC_REQUEST_BYTES_MAX) {
		err_set(&err, -EMSGSIZE, "expected at most %u bytes, got more",
			JSONRPC_REQUEST_BYTES_MAX);
		client_refuse(c, RPC_INVALID_REQUEST, &err);
		return false;
	}
	if (found == JSONRPC_BAD) {
		client_refuse(c, RPC_PARSE_ERROR, &err);
		return false;
	}
	if (found == JSONRPC_MORE)
		return false;
	used = c->in.begin;
	c->in.begin = c->in.scanned_bytes;
	client_request(c, c->in.bytes + used, c->in.begin - used);
	return true;
}

static void client_on_more(struct loop_msg *msg)
{
	struct client *c = container_of(msg, struct client, more);

	c->more_posted = false;
	if (c->state == CLIENT_ENDING)
		client_stopping_leave(c);
	else
		client_update(c);
}

/* Runs what was read, as much as its turn allows. */
static void client_turn(struct client *c)
{
	const uint64_t until_ns = loop_clock_ns() + EXCHANGE_TURN_NS;
	bool more = true;

	c->in_turn = true;
	while (c->state == CLIENT_OPEN && !client_blocked(c) && (more = client_take(c)) &&
	       loop_clock_ns() < until_ns)
		;
	c->in_turn = false;
	if (c->state == CLIENT_OPEN && !client_blocked(c) && more && !c->more_posted) {
		c->more_posted = true;
		c->more.fn = client_on_more;
		loop_post(c->loop, &c->more);
	}
}

/* Something has changed: what is to be done now? */
static void client_update(struct client *c)
{
	bool pause;

	if (c->in_turn || c->state == CLIENT_ENDING)
		return;
	if (!c->more_posted)
		client_turn(c);
	if (c->state == CLIENT_LAST && !c->exchange_count && !client_unread(c))
		client_end(c);
	if (c->state == CLIENT_ENDING)
		return;
	pause = c->state != CLIENT_OPEN || client_blocked(c) || c->more_posted;
	if (pause && !c->in_paused)
		loop_watch_pause(&c->in_watch);
	else if (!pause && c->in_paused)
		loop_watch_resume(&c->in_watch);
	c->in_paused = pause;
}

/* ---- bytes ---- */

/* Room for one more read, behind what is not done with. */
static bool client_make_room(struct client *c)
{
	const size_t left = c->in.len_bytes - c->in.begin;
	size_t size = c->in.size_bytes ? c->in.size_bytes : CLIENT_READ_BYTES;
	char *more;

	if (!left && size > CLIENT_READ_BYTES) { /* a large request is over */
		free(c->in.bytes);
		c->in.bytes = NULL;
		c->in.size_bytes = 0;
		size = CLIENT_READ_BYTES;
	}
	if (c->in.begin && c->in.bytes)
		memmove(c->in.bytes, c->in.bytes + c->in.begin, left);
	c->in.scanned_bytes -= c->in.begin;
	c->in.len_bytes = left;
	c->in.begin = 0;
	while (size - left < CLIENT_READ_BYTES / 2)
		size *= 2;
	if (size == c->in.size_bytes)
		return true;
	more = realloc(c->in.bytes, size);
	if (!more)
		return false;
	c->in.bytes = more;
	c->in.size_bytes = size;
	return true;
}

static void client_on_readable(struct loop_watch *w, uint32_t revents)
{
	struct client *c = container_of(w, struct client, in_watch);
	ssize_t n;

	if (c->in_paused)
		return;
	if (!client_make_room(c)) {
		client_end(c);
		return;
	}
	n = recv(c->fd, c->in.bytes + c->in.len_bytes, c->in.size_bytes - c->in.len_bytes,
		 MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0 || (n == 0 && revents & POLLHUP)) { /* nobody would read an answer */
		client_end(c);
		return;
	}
	if (n == 0)
		c->state = CLIENT_LAST;
	c->in.len_bytes += (size_t)n;
	client_update(c);
}

int client_new(int fd, bool admin, struct loop *loop, struct endpoint_conn **ret_conn,
	       struct err *reterr)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return err_set(reterr, -ENOMEM, "out of memory");
	}
	c->loop = loop;
	c->fd = fd;
	c->admin = admin;
	list_init(&c->exchanges);
	loop_timer_init(&c->stall, client_on_stall);
	loop_watch_start(loop, &c->in_watch, fd, POLLIN, client_on_readable);
	*ret_conn = &c->conn;
	return 0;
}
