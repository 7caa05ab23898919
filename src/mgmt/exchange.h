/*
 * One JSON text of a client and what is answered to it: a request, or a batch whose requests run
 * one after another. Knows no socket.
 *
 *   exchange_run --> each request: a call (call.c) --answered--> the next --> done(ex), once
 *
 * Thread: main.
 */
#ifndef MGMT_EXCHANGE_H
#define MGMT_EXCHANGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"
#include "loop/loop.h"
#include "mgmt/jsonrpc.h"
#include "mgmt/rpc.h"

/* Who has asked for much gives way after this time, so that others wait for one request of his. */
#define EXCHANGE_TURN_NS 200000

struct exchange {
	/*
	 * All is answered: reply has it, or is empty when nothing is to be answered. ex is the
	 * callee's to free. May be replaced while it has not come.
	 */
	void (*done)(struct exchange *ex);
	struct list node; /* the owner's */
	void *owner;	  /* NULL: nobody waits for the reply */
	bool admin;	  /* may call methods that change something */
	bool failed;	  /* out of memory: the reply is not whole */
	struct jsonrpc_out reply;
	/* private: */
	json_t *body;
	size_t next, count;
	bool batch, pumping;
	struct rpc_call *current;
	struct loop_msg more;
};

/* NULL: out of memory. */
struct exchange *exchange_new(void (*done)(struct exchange *ex), void *owner, bool admin);
/* Not while it runs. */
void exchange_free(struct exchange *ex);
/* Takes the reference on body. done may be called before this returns. */
void exchange_run(struct exchange *ex, json_t *body);
/* The daemon ends: requests of batches that have not begun never do. */
void exchanges_stop(void);
/* The only answer, to what was no request at all; done is not called. */
void exchange_refuse(struct exchange *ex, int code, const char *text);

/* ---- between exchange.c and call.c ---- */

struct rpc_call {
	struct exchange *ex; /* NULL: of rpc_run */
	void (*done)(void *arg, int code, const char *text);
	void *done_arg;
	const struct rpc_method *method;
	json_t *request; /* a reference: what follows is in it */
	const json_t *params, *id;
	bool notification;
	bool unsaved; /* it undoes what could not be saved: it neither waits for room nor is saved
		       */
};

/* Starts a request: checks it, and runs its method. False: out of memory, nothing was started. */
bool call_start(struct exchange *ex, json_t *request);
/* The answer to ex's current request: result, or an error when it is NULL. */
void exchange_answer(struct exchange *ex, const json_t *id, bool notification, const json_t *result,
		     int code, const char *text);
/* The current call has ended. */
void exchange_next(struct exchange *ex);

#endif
