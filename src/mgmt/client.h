/*
 * A client of the management socket: bytes in, exchanges, bytes out.
 *
 *   OPEN --end of stream, or bytes that are no request--> LAST --all answered and sent--> ENDING
 *     \_______________broken, or it does not read_____________________________________/
 *
 * OPEN    requests are read and run. Reading pauses while too many are not answered, or too much
 *         of the answers was not read: a client that does not read costs what is in the limits of
 *         client.c, and nobody else waits for it
 * LAST    nothing is read any more
 * ENDING  its watches stop; then it is freed. Answers to what it asked are dropped
 *
 * Thread: main.
 */
#ifndef MGMT_CLIENT_H
#define MGMT_CLIENT_H

#include <stdbool.h>

#include "base/err.h"
#include "loop/loop.h"
#include "sock/endpoint.h"

/* Takes the connected socket fd in every case. admin: may call what changes something. -ENOMEM. */
int client_new(int fd, bool admin, struct loop *loop, struct endpoint_conn **ret_conn,
	       struct err *reterr);
/* Begins to end it: endpoint_ops.close. */
void client_close(struct endpoint_conn *conn);

#endif
