/*
 * framework_*, spdk_* and rpc_get_methods: the daemon itself.
 */
#include "mgmt/framework.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "mgmt/call.h"
#include "mgmt/registry.h"
#include "mgmt/sections.h"
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

/*
 * Those whose clients did not wait so long make room. The next request of a batch may come from
 * within an answer, so the list is in order before the first is given.
 */
static void waiters_purge(void)
{
	struct rpc_call *gone[WAITERS_MAX];
	uint32_t kept = 0, gone_count = 0;

	for (uint32_t i = 0; i < waiting.count; i++) {
		struct rpc_call *call = waiting.calls[i];

		if (rpc_client_gone(call))
			gone[gone_count++] = call;
		else
			waiting.calls[kept++] = call;
	}
	waiting.count = kept;
	while (gone_count)
		rpc_result_true(gone[--gone_count]);
}

static bool wait_for_init(struct rpc_call *call)
{
	if (rpc_client_gone(call)) {
		rpc_result_true(call);
		return false;
	}
	waiters_purge();
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

/* ---- its end ---- */

static const char *const kill_names[] = { "SIGINT",  "SIGTERM", "SIGQUIT", "SIGHUP",
					  "SIGKILL", "SIGUSR1", NULL };
static const int kill_signals[] = { SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGKILL, SIGUSR1 };

struct kill_instance {
	int sig_name;
};

static const struct opts_row kill_rows[] = {
	{ "sig_name", OPTS_ENUM, offsetof(struct kill_instance, sig_name), .names = kill_names,
	  .help = "SIGTERM ends it in order; SIGHUP reads the configuration again",
	  .required = true },
};
static const struct opts_table kill_params = { "spdk_kill_instance", kill_rows,
					       ARRAY_SIZE(kill_rows) };

static void spdk_kill_instance(struct rpc_call *call, void *params)
{
	const struct kill_instance *p = params;

	rpc_result_true(call);
	kill(getpid(), kill_signals[p->sig_name]);
}

struct hand_over {
	uint32_t timeout_ms;
};

static const struct opts_row hand_over_rows[] = {
	{ "timeout_ms", OPTS_U32, offsetof(struct hand_over, timeout_ms), 100, 600000,
	  .def = "10000", .help = "after this time it is undone, and the call fails" },
};
static const struct opts_table hand_over_params = { "framework_hand_over", hand_over_rows,
						    ARRAY_SIZE(hand_over_rows) };

/* One at a time: a second one is refused before it would be here. */
static struct rpc_call *handing_over;

static void hand_over_done(const struct handed_over *r)
{
	struct rpc_call *call = handing_over;

	handing_over = NULL;
	if (r->rc < 0)
		rpc_fail(call, r->rc, r->err);
	else
		rpc_result(call, json_pack("{s:i, s:I}", "pid", r->pid, "pause_us",
					   (json_int_t)(r->pause_ns / 1000)));
}

static void framework_hand_over(struct rpc_call *call, void *params)
{
	const struct hand_over *p = params;

	if (handing_over) {
		rpc_error(call, RPC_INTERNAL_ERROR, "a hand-over is under way");
		return;
	}
	handing_over = call;
	framework.hand_over(p->timeout_ms, hand_over_done);
}

/* ---- what it is made of, and what recreates its state ---- */

static void get_pci_devices(struct rpc_call *call, void *params)
{
	rpc_result(call, json_array());
}

static void get_subsystems(struct rpc_call *call, void *params)
{
	json_t *all = json_array();

	for (uint32_t i = 0; all && i < rpc_section_count; i++) {
		const struct rpc_section *s = &rpc_sections[i];
		json_t *depends_on = json_array();

		for (uint32_t k = 0; k < ARRAY_SIZE(s->depends_on) && s->depends_on[k]; k++)
			json_array_append_new(depends_on, json_string(s->depends_on[k]));
		json_array_append_new(all, json_pack("{s:s, s:o}", "subsystem", s->name,
						     "depends_on", depends_on));
	}
	rpc_result(call, all);
}

struct get_config {
	char *name;
	bool with_batches;
};

static const struct opts_row get_config_rows[] = {
	{ "name", OPTS_STR, offsetof(struct get_config, name), .required = true,
	  .help = "of framework_get_subsystems" },
	{ "with_batches", OPTS_BOOL, offsetof(struct get_config, with_batches), .def = "false",
	  .help = "no effect: there are no calls that must come in one batch" },
};
static const struct opts_table get_config_params = { "framework_get_config", get_config_rows,
						     ARRAY_SIZE(get_config_rows) };

static void get_config(struct rpc_call *call, void *params)
{
	const struct get_config *p = params;
	char all[256] = "";
	size_t len = 0;

	for (uint32_t i = 0; i < rpc_section_count; i++) {
		struct section_out out = { 0 };

		if (strcmp(rpc_sections[i].name, p->name)) {
			if (len < sizeof(all))
				len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s",
							len ? ", " : "", rpc_sections[i].name);
			continue;
		}
		out.calls = json_array();
		if (out.calls && rpc_sections[i].write)
			rpc_sections[i].write(&out);
		rpc_result(call, out.calls);
		return;
	}
	rpc_error(call, RPC_INVALID_PARAMS, "name: expected %s, got '%.64s'", all, p->name);
}

const struct rpc_method m_framework[] = {
	{ "spdk_kill_instance", "kill_instance", &kill_params, sizeof(struct kill_instance),
	  RPC_ANYTIME, RPC_INVALID_PARAMS, spdk_kill_instance, "sends the daemon a signal",
	  "true" },
	{ "framework_hand_over", .params = &hand_over_params,
	  .params_bytes = sizeof(struct hand_over), .flags = RPC_ANYTIME,
	  .fail_code = RPC_INTERNAL_ERROR, .run = framework_hand_over,
	  .help = "starts the program's file anew, and gives it all devices and front-ends",
	  .result = "{pid, pause_us}: of the process that serves now" },
	{ "framework_get_pci_devices", .flags = RPC_READS | RPC_ANYTIME, .run = get_pci_devices,
	  .help = "PCI devices that are driven from here, of which there are none",
	  .result = "[]" },
	{ "framework_get_subsystems", "get_subsystems", .flags = RPC_READS | RPC_ANYTIME,
	  .run = get_subsystems, .help = "parts that have a configuration, in order of loading",
	  .result = "[{subsystem, depends_on[]}, ...]" },
	{ "framework_get_config", "get_subsystem_config", &get_config_params,
	  sizeof(struct get_config), RPC_READS | RPC_ANYTIME, RPC_INVALID_PARAMS, get_config,
	  "calls that recreate what a part has now", "[{method, params}, ...]" },
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
