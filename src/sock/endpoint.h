/*
 * An endpoint: where connections of one kind come from. A front says with struct endpoint_ops what
 * serves a connection; the endpoint has the socket.
 *
 * Server mode listens (on a path it creates, or on an inherited listening descriptor), has up to
 * connections_max connections served at a time and keeps further ones in the backlog; after one
 * ended the next is accepted. Client mode connects to the path and, when the connection ended,
 * tries again every reconnect_ms. An inherited connected socket is served once.
 *
 * Each connection embeds a struct endpoint_conn. It ends when its session says so
 * (endpoint_conn_ended), by itself or after ops->close.
 *
 * Thread: main, all of it.
 */
#ifndef SOCK_ENDPOINT_H
#define SOCK_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"

struct endpoint;
struct loop;
struct parcel;

struct endpoint_conn {
	/* private: */
	struct list node;
	struct endpoint *ep;
};

/* What happens to connections, for whoever watches: see endpoint_watch. */
enum endpoint_event {
	ENDPOINT_CONNECTED,
	ENDPOINT_DISCONNECTED,
	ENDPOINT_ERROR,	    /* the front-end lied, or something of it broke: text says what */
	ENDPOINT_MIGRATION, /* the front-end follows changes of memory, or stopped to: text */
};

struct endpoint_ops {
	/*
	 * Serves the connected socket fd, which is taken in every case. ep is good for
	 * endpoint_name and endpoint_limit. Never ends the connection before it returns.
	 */
	int (*serve)(void *arg, struct endpoint *ep, int fd, struct endpoint_conn **ret_conn,
		     struct err *reterr);
	/* The endpoint stops: begin to end. Does nothing for one that is already ending. */
	void (*close)(struct endpoint_conn *conn);
	/* Optional: a started endpoint has stopped, and arg may go. Before stopped() is called. */
	void (*released)(void *arg);

	/* ---- hand-over; all four, or none: then only the socket is handed over ---- */

	/*
	 * True: reads nothing more, and what is under way ends, requests included; false: goes on
	 * as if nothing had been. Does nothing for one that is ending.
	 */
	void (*freeze)(struct endpoint_conn *conn, bool frozen);
	/* Frozen: has everything come to its end? From then on nothing changes by itself. */
	bool (*is_quiet)(const struct endpoint_conn *conn);
	/* Writes a quiet one, its socket included; it stays as it is. */
	int (*pack)(const struct endpoint_conn *conn, struct parcel *p, struct err *reterr);
	/*
	 * In the successor: as serve, of what pack wrote; frozen until freeze(conn, false). p may
	 * be of another version: checked, named errors, and nothing is left of it after one.
	 */
	int (*unpack)(void *arg, struct endpoint *ep, struct parcel *p,
		      struct endpoint_conn **ret_conn, struct err *reterr);
};

struct endpoint_params {
	const char *name;	 /* for messages */
	const char *socket_path; /* NULL when fd is given */
	int fd;	     /* inherited descriptor, -1: none; a listening or a connected socket */
	bool client; /* connect instead of listen */
	uint32_t reconnect_ms;	  /* client mode; 0: once only, then on_done */
	mode_t socket_mode;	  /* permissions of the socket file, e.g. 0600 */
	uint32_t connections_max; /* at least 1 */
	bool watched;		  /* of a device: see endpoint_watch */
	/*
	 * Takes over what endpoint_pack wrote, in place of making a socket; it is frozen then.
	 * NULL: it starts anew. After an error with it nothing is left but what conns hold: the
	 * process has to end.
	 */
	struct parcel *from;
	struct loop *main_loop;

	/* What a connection is: rooms that serve devices set these two themselves. */
	const struct endpoint_ops *ops;
	void *arg;
	/* Optional: an inherited connected socket or a one-shot client has ended (the program
	 * exits). */
	void (*on_done)(void *done_arg);
	void *done_arg;
};

/*
 * Starts it: after return the socket exists and listens. Errors: -EADDRINUSE (a live server holds
 * the path; a stale socket file is replaced), -EINVAL, bind's errno; named in reterr, and nothing
 * is left behind.
 */
int endpoint_start(const struct endpoint_params *params, struct endpoint **ret_ep,
		   struct err *reterr);
/*
 * Closes the listener, ends the connections, removes the socket file that it created; then
 * stopped(arg) comes once, from main's loop, and ep is gone.
 */
void endpoint_stop(struct endpoint *ep, void (*stopped)(void *arg), void *arg);

/* ---- hand-over ---- */

/* Can its connections be handed over? */
bool endpoint_can_pack(const struct endpoint *ep);
/* True: accepts and reads nothing more; false: goes on. See endpoint_ops. */
void endpoint_freeze(struct endpoint *ep, bool frozen);
/* Frozen: are all its connections quiet? */
bool endpoint_is_quiet(const struct endpoint *ep);
/* The listener, connections, counters; changes nothing. Frozen and quiet. ops->pack's errors. */
int endpoint_pack(const struct endpoint *ep, struct parcel *p, struct err *reterr);

/* A copy, which lives as long as ep. */
const char *endpoint_name(const struct endpoint *ep);
/* One budget for all its connections, so that one who reconnects gets no new one. */
struct log_limit *endpoint_limit(struct endpoint *ep);

/* From now on fn is told of all endpoints that are watched; NULL: nobody is. */
void endpoint_watch(void (*fn)(const char *name, enum endpoint_event event, const char *text));
/* For the connection's session. text "": none. */
void endpoint_tell(const struct endpoint_conn *conn, enum endpoint_event event, const char *text);

/* The connection's last word; conn may go after it. */
void endpoint_conn_ended(struct endpoint_conn *conn);
/* fn with every connection of this one, in the order in which they came. */
void endpoint_visit(const struct endpoint *ep,
		    void (*fn)(struct endpoint_conn *conn, uint32_t idx, void *arg), void *arg);
/*
 * move with every connection: its queue idx is to run on loop. -ENOTCONN: there is none; else the
 * first error of move, which begins the move at each.
 */
int endpoint_queue_move(const struct endpoint *ep,
			int (*move)(struct endpoint_conn *conn, uint32_t idx, struct loop *loop,
				    struct err *reterr),
			uint32_t idx, struct loop *loop, struct err *reterr);

struct endpoint_stats {
	uint32_t connections; /* now */
	uint64_t accepted;    /* since the start, refused ones aside; or made, in client mode */
};
void endpoint_stats_get(const struct endpoint *ep, struct endpoint_stats *ret_stats);
/* fn with every connection of every endpoint with these ops; fn may end it. */
void endpoint_conns_visit(const struct endpoint_ops *ops, void (*fn)(struct endpoint_conn *conn));

#endif
