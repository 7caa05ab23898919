/*
 * framework_*, spdk_* and rpc_get_methods: the daemon itself.
 */
#include "mgmt/framework.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "mgmt/call.h"
#include "mgmt/registry.h"
#include "mgmt/tables.h"

/* ---- what the daemon is ---- */

static struct framework framework;

void framework_set(const struct framework *f)
{
	framework = *f;
}

const struct framework *framework_get(void)
{
	return &framework;
}

static void spdk_get_version(struct rpc_call *call, void *params)
{
	static const char version[] = VHOSTD_VERSION;
	unsigned fields[3] = { 0 };
	const char *p = version;

	for (uint32_t i = 0; i < ARRAY_SIZE(fields); i++) {
		char *end;

		fields[i] = (unsigned)strtoul(p, &end, 10);
		p = *end == '.' ? end + 1 : end;
	}
	rpc_result(call, json_pack("{s:s, s:{s:i, s:i, s:i, s:s}}", "version",
				   "vhostd v" VHOSTD_VERSION, "fields", "major", fields[0], "minor",
				   fields[1], "patch", fields[2], "suffix", p));
}

struct get_methods {
	bool current, include_aliases;
};

static const struct opts_row get_methods_rows[] = {
	{ "current", OPTS_BOOL, offsetof(struct get_methods, current), .def = "false",
	  .help = "only those that may be called now" },
	{ "include_aliases", OPTS_BOOL, offsetof(struct get_methods, include_aliases),
	  .def = "false", .help = "old names, too" },
};

static const struct opts_table get_methods_params = { "rpc_get_methods", get_methods_rows,
						      ARRAY_SIZE(get_methods_rows) };

static void rpc_get_methods(struct rpc_call *call, void *params)
{
	const struct get_methods *p = params;
	json_t *names = json_array();
	size_t count;
	const struct registry_entry *all = registry_all(&count);

	for (size_t i = 0; i < count && names; i++) {
		if (all[i].name != all[i].method->name && !p->include_aliases)
			continue;
		if (p->current && !call_allowed(all[i].method))
			continue;
		json_array_append_new(names, json_string(all[i].name));
	}
	rpc_result(call, names);
}

/* ---- its start ---- */

/* Those who wait for it: framework_start_init, and any number of framework_wait_init. */
#define WAITERS_MAX 256

static struct {
	struct rpc_call *calls[WAITERS_MAX];
	uint32_t count;
	bool starting;
} waiting;

void framework_inited(int rc, const struct err *err)
{
	if (rc == 0)
		call_runtime_begin();
	while (waiting.count) {
		struct rpc_call *call = waiting.calls[--waiting.count];

		if (rc == 0)
			rpc_result_true(call);
		else
			rpc_error(call, RPC_INTERNAL_ERROR, "the start failed: %s", err->msg);
	}
}

static bool wait_for_init(struct rpc_call *call)
{
	if (waiting.count == WAITERS_MAX) {
		rpc_error(call, RPC_INTERNAL_ERROR,
			  "expected at most %d calls that wait for the start", WAITERS_MAX);
		return false;
	}
	waiting.calls[waiting.count++] = call;
	return true;
}

static void framework_start_init(struct rpc_call *call, void *params)
{
	if (!wait_for_init(call) || waiting.starting)
		return;
	waiting.starting = true;
	framework.start_init();
}

static void framework_wait_init(struct rpc_call *call, void *params)
{
	if (call_runtime())
		rpc_result_true(call);
	else
		wait_for_init(call);
}

const struct rpc_method m_framework[] = {
	{ "spdk_get_version", .flags = RPC_READS | RPC_ANYTIME, .run = spdk_get_version,
	  .help = "which program this is",
	  .result = "{version, fields{major, minor, patch, suffix}}" },
	{ "rpc_get_methods", "get_rpc_methods", &get_methods_params, sizeof(struct get_methods),
	  RPC_READS | RPC_ANYTIME, .run = rpc_get_methods, .help = "names of the methods",
	  .result = "[name, ...]" },
	{ "framework_start_init", "start_subsystem_init", .flags = RPC_STARTUP,
	  .run = framework_start_init,
	  .help = "with --wait-for-rpc: starts what the command line and the calls so far say",
	  .result = "true" },
	{ "framework_wait_init", "wait_subsystem_init", .flags = RPC_READS | RPC_ANYTIME,
	  .run = framework_wait_init, .help = "answers when the daemon has started",
	  .result = "true" },
	{ NULL },
};
