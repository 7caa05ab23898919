/*
 * A connection to the daemon's management socket: one JSON-RPC call at a time, each with a
 * deadline. Answers follow each other without a separator, so one is read up to the bracket that
 * closes it.
 * Thread: the only one.
 */
#ifndef CLI_CONN_H
#define CLI_CONN_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"

struct conn;

/*
 * Nothing is sent yet. timeout_ms: of this and of each call; 0: none. Returns 0; -ENAMETOOLONG;
 * connect(2)'s errno or -ETIMEDOUT, and reterr says what to do. Owner: the caller, conn_close.
 */
int conn_open(const char *path, uint32_t timeout_ms, struct conn **ret_conn, struct err *reterr);
void conn_close(struct conn *conn);

/*
 * Calls method and waits for the answer. params: NULL: none; a reference is stolen. Returns 0 and
 * a new reference; -EREMOTEIO: the daemon answered an error, reterr has its text and conn_code its
 * code; -ETIMEDOUT, -EPIPE (the daemon has gone), -EPROTO (no JSON-RPC came): of no use any more.
 */
int conn_call(struct conn *conn, const char *method, json_t *params, json_t **ret_result,
	      struct err *reterr);
/* JSON-RPC's code of the last error, 0: none. */
int conn_code(const struct conn *conn);
/* Of the next calls: those that wait for long work get another. 0: none. */
void conn_timeout_set(struct conn *conn, uint32_t timeout_ms);

#endif
