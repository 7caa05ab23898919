/*
 * JSON-RPC methods: what a method is, and how it answers.
 *
 * A method is one row of a table (m_*.c): its name, its parameters as a table of base/opts.h, and a
 * function. The server checks and converts the parameters before the function runs: an unknown
 * key, a missing or wrong one is an error that names the parameter, the value and the limit.
 * rpc_get_methods, docs/rpc.md and vhostctl's completion are printed from the same rows.
 *
 * A call is answered exactly once, at once or later, with rpc_result or one of the errors. The
 * client may have gone meanwhile: the answer is dropped then.
 * Thread: main, all of it.
 */
#ifndef MGMT_RPC_H
#define MGMT_RPC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/opts.h"

/* JSON-RPC 2.0, 5.1, and what SPDK adds. */
enum rpc_code {
	RPC_PARSE_ERROR = -32700,
	RPC_INVALID_REQUEST = -32600,
	RPC_METHOD_NOT_FOUND = -32601,
	RPC_INVALID_PARAMS = -32602,
	RPC_INTERNAL_ERROR = -32603,
	RPC_INVALID_STATE = -1,
};

struct rpc_call;

/* rpc_method.flags */
#define RPC_READS   (1u << 0) /* changes nothing: also for clients of the read-only socket */
#define RPC_STARTUP (1u << 1) /* only before framework_start_init (--wait-for-rpc) */
#define RPC_ANYTIME (1u << 2) /* before and after it; a method with neither: after it */
#define RPC_SAVES   (1u << 3) /* changes what --state keeps: ends with rpc_result_saved */

struct rpc_method {
	const char *name;
	const char *alias; /* SPDK's old name, NULL: none. Answers alike, listed on request only */
	const struct opts_table *params; /* NULL: none are taken */
	size_t params_bytes;		 /* of the structure that the table fills */
	uint32_t flags;
	/* The code of rpc_fail: 0: the negative errno itself, as SPDK's bdev methods have it. */
	int fail_code;
	/* params is freed (strings too) after run returned: what is kept is copied. */
	void (*run)(struct rpc_call *call, void *params);
	const char *help, *result; /* one line each, for docs/rpc.md */
};

/* A table of methods, NULL-terminated by name; registry.c lists the tables. */
extern const struct rpc_method *const rpc_tables[];

/* Answers; result is the call's from now on (a reference is stolen). NULL: out of memory. */
void rpc_result(struct rpc_call *call, json_t *result);
void rpc_result_true(struct rpc_call *call);
void rpc_error(struct rpc_call *call, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The method's fail_code (or rc) and err's text, which says what to do. rc: -errno. */
void rpc_fail(struct rpc_call *call, int rc, const struct err *err);

/* The client has gone: the answer, which must be given all the same, goes to nobody. */
bool rpc_client_gone(const struct rpc_call *call);

/*
 * The parameters as they came, for arrays and objects, which tables name but do not convert
 * (OPTS_JSON). NULL: not given. The call's reference.
 */
const json_t *rpc_param(const struct rpc_call *call, const char *name);
/* Was the parameter given? */
bool rpc_given(const struct rpc_call *call, const char *name);

/* It comes from a file of calls, not from a client: rpc_run. */
bool rpc_is_replayed(const struct rpc_call *call);

/*
 * Runs a method as if a client had called it, with no client: state files and configuration go
 * through here. done(arg, code, text) once; code 0: it succeeded. params: borrowed.
 */
void rpc_run(const char *method, const json_t *params,
	     void (*done)(void *arg, int code, const char *text), void *arg);
/* The same; its change is not saved: it undoes one that could not be. */
void rpc_run_unsaved(const char *method, const json_t *params,
		     void (*done)(void *arg, int code, const char *text), void *arg);

/*
 * What recreates the present state: each room of methods has a section, and writes the calls in
 * the order in which they must come. framework_get_config, --state and vhostctl save use it.
 */
struct section_out;
struct rpc_section {
	const char *name;			/* SPDK's subsystem: "bdev", "vhost_blk" ... */
	const char *depends_on[4];		/* NULL-terminated */
	void (*write)(struct section_out *out); /* sections.h; NULL: nothing */
};
extern const struct rpc_section rpc_sections[];
extern const uint32_t rpc_section_count;

/*
 * Something that lasts has changed: the state is saved. A method that changes something (RPC_SAVES)
 * calls this instead of rpc_result: it answers when the change is on disk (at once without
 * --state). When it cannot be written the call is undone, if that is possible (undo.h), and
 * answered with an error that says what has become of the change.
 */
void rpc_result_saved(struct rpc_call *call, json_t *result);

/* notify_get_notifications: type is one of notify_get_types. */
void rpc_notify(const char *type, const char *ctx);

#endif
