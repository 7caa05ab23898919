/*
 * Metrics and the status page over HTTP, by libmicrohttpd:
 *
 *   --metrics-socket   a unix socket
 *   --metrics-port     TCP on 127.0.0.1, for Prometheus and browsers
 *
 * The server has a thread of its own. For what it answers it asks main for a snapshot by a message
 * and makes the text itself: neither main nor a data loop ever waits for a client, and a client
 * never for more than main's next turn. Only GET and HEAD; nothing can be changed.
 *
 * Bounds: HTTP_CLIENTS_MAX connections of a socket (more are refused), HTTP_MEMORY_BYTES of request
 * each, HTTP_PATIENCE_S for a request to arrive and an answer to be taken, and a new snapshot every
 * 20 ms at most. Over TCP the Host header must be this machine's name for itself, so that a web
 * page from elsewhere whose name was made to mean 127.0.0.1 reads nothing.
 *
 * One may be inherited instead of the first (socket activation: LISTEN_FDNAMES has "metrics"),
 * which may be one of TCP, too. Without options the default path is tried, and not missed when it
 * cannot be made. Thread: main.
 */
#ifndef MGMT_HTTP_H
#define MGMT_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/opts.h"
#include "mgmt/snapshot.h"

#define HTTP_SOCKET_DEFAULT "/var/run/vhostd/metrics.sock"
#define HTTP_CLIENTS_MAX    16
#define HTTP_MEMORY_BYTES   16384
#define HTTP_PATIENCE_S	    10

struct parcel;

struct http_options {
	char *socket, *mode;
	uint32_t port;
	bool no_metrics;
	bool port_given; /* not of the table: 0 is any free port */
	int socket_fd;	 /* nor this: an inherited listening socket; 0: none */
};

/* The rows are command-line options: "metrics-socket" is --metrics-socket. */
extern const struct opts_table http_options_table;

/* What no single option can tell. -EINVAL, named. */
int http_options_check(const struct http_options *options, struct err *reterr);

/*
 * Creates the sockets. try_default: the default socket, when none is named. Errors are bind's for
 * what was asked for; http_stop follows in every case.
 */
int http_start(const struct http_options *options, bool try_default,
	       const struct snapshot_source *source, struct err *reterr);
/* Hand-over: the sockets that listen, which go on listening here. */
void http_pack(struct parcel *p);
/* In the successor, before http_start, which then takes these. -EPROTO, named. */
int http_unpack(struct parcel *p, struct err *reterr);
/* Ends clients and removes the socket; stopped(arg) once, later. Also when it was not started. */
void http_stop(struct loop *main_loop, void (*stopped)(void *arg), void *arg);
/* Removes the socket file at once: the process is about to end. */
void http_unlink(void);

#endif
