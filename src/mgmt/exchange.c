#include "mgmt/exchange.h"

#include <stdlib.h>

#include "base/check.h"

static bool exchanges_stopped;

void exchanges_stop(void)
{
	exchanges_stopped = true;
}

struct exchange *exchange_new(void (*done)(struct exchange *ex), void *owner, bool admin)
{
	struct exchange *ex = calloc(1, sizeof(*ex));

	if (!ex)
		return NULL;
	ex->done = done;
	ex->owner = owner;
	ex->admin = admin;
	list_init(&ex->node);
	return ex;
}

void exchange_free(struct exchange *ex)
{
	if (!ex)
		return;
	ASSERT(!ex->current && !ex->pumping);
	list_remove(&ex->node);
	json_decref(ex->body);
	jsonrpc_out_fini(&ex->reply);
	free(ex);
}

/* "[", "," and "]" of a batch. */
static void exchange_put(struct exchange *ex, const char *text)
{
	if (!jsonrpc_out_append(&ex->reply, text, 1, SIZE_MAX))
		ex->failed = true;
}

void exchange_answer(struct exchange *ex, const json_t *id, bool notification, const json_t *result,
		     int code, const char *text)
{
	if (notification)
		return;
	if (ex->batch)
		exchange_put(ex, ex->reply.len_bytes ? "," : "[");
	if (!(result ? jsonrpc_result(&ex->reply, id, result)
		     : jsonrpc_error(&ex->reply, id, code, text)))
		ex->failed = true;
}

static void exchange_pump(struct exchange *ex);

static void exchange_on_more(struct loop_msg *msg)
{
	exchange_pump(container_of(msg, struct exchange, more));
}

static void exchange_finish(struct exchange *ex)
{
	if (ex->reply.len_bytes) {
		if (ex->batch)
			exchange_put(ex, "]");
		exchange_put(ex, "\n");
	}
	ex->done(ex);
}

static void exchange_pump(struct exchange *ex)
{
	const uint64_t until_ns = loop_clock_ns() + EXCHANGE_TURN_NS;
	bool first = true;

	if (ex->pumping)
		return;
	ex->pumping = true;
	if (exchanges_stopped)
		ex->next = ex->count;
	while (!ex->current && ex->next < ex->count) {
		if (!first && loop_current() && loop_clock_ns() > until_ns) {
			ex->pumping = false;
			ex->more.fn = exchange_on_more;
			loop_post(loop_current(), &ex->more);
			return;
		}
		first = false;
		if (!call_start(ex, ex->batch ? json_array_get(ex->body, ex->next++)
					      : (ex->next++, ex->body)))
			ex->failed = true;
	}
	ex->pumping = false;
	if (!ex->current)
		exchange_finish(ex);
}

void exchange_refuse(struct exchange *ex, int code, const char *text)
{
	exchange_answer(ex, NULL, false, NULL, code, text);
	exchange_put(ex, "\n");
}

void exchange_run(struct exchange *ex, json_t *body)
{
	ex->body = body;
	if (json_is_array(body) && !json_array_size(body)) {
		exchange_answer(ex, NULL, false, NULL, RPC_INVALID_REQUEST,
				"Invalid request: the batch is empty");
	} else {
		ex->batch = json_is_array(body);
		ex->count = ex->batch ? json_array_size(body) : 1;
	}
	exchange_pump(ex);
}

void exchange_next(struct exchange *ex)
{
	ASSERT(ex->current);
	ex->current = NULL;
	exchange_pump(ex);
}
