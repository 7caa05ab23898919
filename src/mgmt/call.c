/*
 * Calls: from a request to its method, and back to who asked.
 */
#include "mgmt/call.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "mgmt/exchange.h"
#include "mgmt/params.h"
#include "mgmt/registry.h"
#include "mgmt/state.h"

static bool call_in_runtime, call_held;
static uint32_t changing;

bool call_runtime(void)
{
	return call_in_runtime;
}

void call_runtime_begin(void)
{
	call_in_runtime = true;
}

void call_hold(bool held)
{
	call_held = held;
}

uint32_t call_changing(void)
{
	return changing;
}

static bool call_changes(const struct rpc_method *m)
{
	return m->flags & RPC_SAVES || !(m->flags & (RPC_READS | RPC_ANYTIME));
}

bool call_allowed(const struct rpc_method *method)
{
	return method->flags & RPC_ANYTIME || !(method->flags & RPC_STARTUP) == call_in_runtime;
}

/* ---- answers ---- */

/* The call's last word: result, or an error when it is NULL. */
static void call_end(struct rpc_call *call, const json_t *result, int code, const char *text)
{
	struct exchange *ex = call->ex;

	changing -= call_changes(call->method);
	if (ex)
		exchange_answer(ex, call->id, call->notification, result, code, text);
	else
		call->done(call->done_arg, result ? 0 : code, text);
	json_decref(call->request);
	free(call);
	if (ex)
		exchange_next(ex);
}

void rpc_result(struct rpc_call *call, json_t *result)
{
	call_end(call, result, RPC_INTERNAL_ERROR, result ? "" : "out of memory");
	json_decref(result);
}

void rpc_result_true(struct rpc_call *call)
{
	rpc_result(call, json_true());
}

void rpc_error(struct rpc_call *call, int code, const char *fmt, ...)
{
	char text[ERR_MSG_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	call_end(call, NULL, code, text);
}

void rpc_fail(struct rpc_call *call, int rc, const struct err *err)
{
	const int code = call->method->fail_code ? call->method->fail_code : rc;

	rpc_error(call, code, "%s", err && *err->msg ? err->msg : strerror(-rc));
}

bool rpc_client_gone(const struct rpc_call *call)
{
	return call->ex && !call->ex->owner;
}

bool rpc_is_replayed(const struct rpc_call *call)
{
	return !call->ex;
}

const json_t *rpc_param(const struct rpc_call *call, const char *name)
{
	const json_t *value = json_object_get(call->params, name);

	return json_is_null(value) ? NULL : value;
}

bool rpc_given(const struct rpc_call *call, const char *name)
{
	return rpc_param(call, name);
}

/* ---- from a request to its method ---- */

/*
 * SPDK's handlers answer parameters that they cannot take with the same code as all else that is
 * wrong with a call, those whose errors are an errno with an internal error.
 */
static int call_params_code(const struct rpc_method *m)
{
	return m->fail_code ? m->fail_code : RPC_INTERNAL_ERROR;
}

static void call_run(struct rpc_call *call)
{
	const struct rpc_method *m = call->method;
	struct err err = { 0 };
	void *params = calloc(1, m->params_bytes ? m->params_bytes : 1);

	if (!params) {
		rpc_error(call, RPC_INTERNAL_ERROR, "out of memory");
		return;
	}
	if (m->params && json_is_array(call->params) && json_array_size(call->params))
		rpc_error(call, call_params_code(m),
			  "params: expected an object of named parameters, got an array");
	else if (!m->params && json_array_size(call->params) + json_object_size(call->params))
		rpc_error(call, RPC_INVALID_PARAMS, "%s method requires no parameters", m->name);
	else if (m->params &&
		 params_fill(m->params, params, json_is_object(call->params) ? call->params : NULL,
			     &err) < 0)
		rpc_error(call, call_params_code(m), "%s", err.msg);
	else
		m->run(call, params);
	if (m->params)
		opts_free(m->params, params);
	free(params);
}

/* One that changes what lasts comes when there is room to save it. */
static void call_dispatch(struct rpc_call *call)
{
	const bool saves = call->method->flags & RPC_SAVES && !call->unsaved;

	changing += call_changes(call->method);
	if (!saves || !state_admit(call, call->params, call_run))
		call_run(call);
}

/* NULL: it may be called. */
static const char *call_refused(const struct rpc_method *m, bool admin, int *ret_code)
{
	*ret_code = RPC_INVALID_STATE;
	if (!call_allowed(m))
		return m->flags & RPC_STARTUP
			       ? "Method may only be called before framework is initialized. Use "
				 "--wait-for-rpc command line parameter and then issue this RPC "
				 "before the framework_start_init RPC."
			       : "Method may only be called after framework is initialized. Use "
				 "framework_start_init RPC.";
	if (!admin && !(m->flags & RPC_READS))
		return "This socket is read-only, and the method changes something: use the "
		       "socket that --rpc-socket names.";
	return NULL;
}

/* Why it is no request; NULL: it is one. */
static const char *request_wrong(const json_t *request)
{
	const json_t *version = json_object_get(request, "jsonrpc");
	const json_t *params = json_object_get(request, "params");
	const json_t *id = json_object_get(request, "id");
	const char *key;
	json_t *value;

	if (!json_is_object(request))
		return "expected an object";
	if (version && (!json_is_string(version) || strcmp(json_string_value(version), "2.0")))
		return "jsonrpc: expected \"2.0\"";
	if (!json_is_string(json_object_get(request, "method")))
		return "method: expected a string";
	if (params && !json_is_object(params) && !json_is_array(params) && !json_is_null(params))
		return "params: expected an object";
	if (id && !json_is_string(id) && !json_is_number(id) && !json_is_null(id))
		return "id: expected a string, a number or null";
	if (id && json_is_string(id) && *json_string_value(id) == JSONRPC_BIG)
		return "id: expected at most 9223372036854775807";
	json_object_foreach((json_t *)request, key, value)
	{
		if (strcmp(key, "jsonrpc") && strcmp(key, "method") && strcmp(key, "params") &&
		    strcmp(key, "id"))
			return "expected only jsonrpc, method, params and id";
	}
	return NULL;
}

static struct rpc_call *call_new(const struct rpc_method *method, json_t *request)
{
	struct rpc_call *call = calloc(1, sizeof(*call));

	if (!call)
		return NULL;
	call->method = method;
	call->request = json_incref(request);
	return call;
}

bool call_start(struct exchange *ex, json_t *request)
{
	const json_t *id = json_object_get(request, "id");
	const char *wrong = request_wrong(request), *name, *refused;
	const struct rpc_method *m;
	struct rpc_call *call;
	char text[ERR_MSG_MAX];
	int code;

	if (wrong) {
		snprintf(text, sizeof(text), "Invalid request: %s", wrong);
		exchange_answer(ex, NULL, false, NULL, RPC_INVALID_REQUEST, text);
		return true;
	}
	name = json_string_value(json_object_get(request, "method"));
	m = registry_find(name);
	if (!m) {
		snprintf(text, sizeof(text),
			 "Method not found: '%.64s'; rpc_get_methods lists those there are", name);
		exchange_answer(ex, id, !id, NULL, RPC_METHOD_NOT_FOUND, text);
		return true;
	}
	refused = call_refused(m, ex->admin, &code);
	if (!refused && call_held && call_changes(m)) /* not what runs without a client: an undo */
		refused = "A hand-over to a new process is under way, and nothing is changed "
			  "meanwhile: try again in a moment, at the same socket.";
	if (refused) {
		exchange_answer(ex, id, !id, NULL, code, refused);
		return true;
	}
	call = call_new(m, request);
	if (!call)
		return false;
	call->ex = ex;
	call->params = json_object_get(request, "params");
	call->id = id;
	call->notification = !id;
	ex->current = call;
	call_dispatch(call);
	return true;
}

static void run_for(const char *method, const json_t *params, bool unsaved,
		    void (*done)(void *arg, int code, const char *text), void *arg)
{
	const struct rpc_method *m = registry_find(method);
	struct rpc_call *call;
	const char *refused;
	char text[128];
	int code;

	if (!m) {
		snprintf(text, sizeof(text), "unknown method '%.64s'", method);
		done(arg, RPC_METHOD_NOT_FOUND, text);
		return;
	}
	refused = call_refused(m, true, &code);
	if (refused && call_in_runtime) { /* what is read at the start has both kinds */
		done(arg, code, refused);
		return;
	}
	call = call_new(m, (json_t *)params);
	if (!call) {
		done(arg, RPC_INTERNAL_ERROR, "out of memory");
		return;
	}
	call->params = params;
	call->unsaved = unsaved;
	call->done = done;
	call->done_arg = arg;
	call_dispatch(call);
}

void rpc_run(const char *method, const json_t *params,
	     void (*done)(void *arg, int code, const char *text), void *arg)
{
	run_for(method, params, false, done, arg);
}

void rpc_run_unsaved(const char *method, const json_t *params,
		     void (*done)(void *arg, int code, const char *text), void *arg)
{
	run_for(method, params, true, done, arg);
}
