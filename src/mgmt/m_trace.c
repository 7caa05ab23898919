/*
 * trace_*: which events the threads record (base/trace.h). They are in a ring of each thread, which
 * is dumped on an assertion; there is no shared memory of them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/trace.h"
#include "mgmt/tables.h"

struct trace_params {
	char *name;
	uint64_t tpoint_mask;
};

#define NAME_ROW                                                                                   \
	{                                                                                          \
		"name", OPTS_STR, offsetof(struct trace_params, name),                             \
			.help = "name of a group, or all", .required = true                        \
	}

static const struct opts_row group_rows[] = { NAME_ROW };
static const struct opts_row mask_rows[] = {
	NAME_ROW,
	{ "tpoint_mask", OPTS_U64, offsetof(struct trace_params, tpoint_mask),
	  .help = "bits of the events in the group", .required = true },
};

#define TABLE(name, rows)                                                                          \
	static const struct opts_table name##_params = { #name, rows, ARRAY_SIZE(rows) }

TABLE(trace_enable_tpoint_group, group_rows);
TABLE(trace_disable_tpoint_group, group_rows);
TABLE(trace_set_tpoint_mask, mask_rows);
TABLE(trace_clear_tpoint_mask, mask_rows);

/* Bit n of a group's mask is its n-th event. */
static uint64_t group_to_events(enum trace_group group, uint64_t bits)
{
	uint64_t events = trace_group_events(group), mask = 0;

	for (; events; events &= events - 1, bits >>= 1)
		if (bits & 1)
			mask |= events & -events;
	return mask;
}

static uint64_t group_from_events(enum trace_group group, uint64_t mask)
{
	uint64_t events = trace_group_events(group), bits = 0;

	for (uint32_t n = 0; events; events &= events - 1, n++)
		if (mask & events & -events)
			bits |= 1ull << n;
	return bits;
}

/* The events that name and bits mean; false: it was answered. */
static bool events_of(struct rpc_call *call, const struct trace_params *p, uint64_t bits,
		      uint64_t *ret_mask)
{
	bool found = !strcmp(p->name, "all");
	const bool every = found;
	char all[128] = "all";
	size_t len = 3;

	*ret_mask = 0;
	for (int g = 0; g < TRACE_GROUP_COUNT; g++) {
		const char *name = trace_group_name((enum trace_group)g);

		if (every || !strcmp(p->name, name)) {
			*ret_mask |= group_to_events((enum trace_group)g, bits);
			found = true;
		}
		len += (size_t)snprintf(all + len, sizeof(all) - len, ", %s", name);
	}
	if (found)
		return true;
	rpc_error(call, RPC_INVALID_PARAMS, "name: expected %s, got '%.64s'", all, p->name);
	return false;
}

static void change(struct rpc_call *call, const struct trace_params *p, uint64_t bits, bool on)
{
	uint64_t mask;

	if (!events_of(call, p, bits, &mask))
		return;
	trace_mask_set(on ? trace_mask() | mask : trace_mask() & ~mask);
	rpc_result_true(call);
}

static void enable_group(struct rpc_call *call, void *params)
{
	change(call, params, UINT64_MAX, true);
}

static void disable_group(struct rpc_call *call, void *params)
{
	change(call, params, UINT64_MAX, false);
}

static void set_mask(struct rpc_call *call, void *params)
{
	const struct trace_params *p = params;

	change(call, p, p->tpoint_mask, true);
}

static void clear_mask(struct rpc_call *call, void *params)
{
	const struct trace_params *p = params;

	change(call, p, p->tpoint_mask, false);
}

static json_t *hex(uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%" PRIx64, v);
	return json_string(text);
}

static uint64_t group_mask(void)
{
	uint64_t mask = 0;

	for (int g = 0; g < TRACE_GROUP_COUNT; g++)
		if (trace_mask() & trace_group_events((enum trace_group)g))
			mask |= 1ull << g;
	return mask;
}

static void get_group_mask(struct rpc_call *call, void *params)
{
	json_t *result = json_pack("{s:o}", "tpoint_group_mask", hex(group_mask()));

	for (int g = 0; result && g < TRACE_GROUP_COUNT; g++)
		json_object_set_new(result, trace_group_name((enum trace_group)g),
				    json_pack("{s:b, s:o}", "enabled", (int)(group_mask() >> g & 1),
					      "mask", hex(1ull << g)));
	rpc_result(call, result);
}

static void get_info(struct rpc_call *call, void *params)
{
	json_t *result = json_pack("{s:s, s:o}", "tpoint_shm_path", "", "tpoint_group_mask",
				   hex(group_mask()));

	for (int g = 0; result && g < TRACE_GROUP_COUNT; g++) {
		const enum trace_group group = (enum trace_group)g;

		json_object_set_new(result, trace_group_name(group),
				    json_pack("{s:o, s:o}", "mask", hex(1ull << g), "tpoint_mask",
					      hex(group_from_events(group, trace_mask()))));
	}
	rpc_result(call, result);
}

static void clear(struct rpc_call *call, void *params)
{
	trace_clear();
	rpc_result_true(call);
}

const struct rpc_method m_trace[] = {
	{ "trace_enable_tpoint_group", "enable_tpoint_group", &trace_enable_tpoint_group_params,
	  sizeof(struct trace_params), RPC_ANYTIME, RPC_INVALID_PARAMS, enable_group,
	  "records the events of a group (all are at the start)", "true" },
	{ "trace_disable_tpoint_group", "disable_tpoint_group", &trace_disable_tpoint_group_params,
	  sizeof(struct trace_params), RPC_ANYTIME, RPC_INVALID_PARAMS, disable_group,
	  "records them no more", "true" },
	{ "trace_set_tpoint_mask", NULL, &trace_set_tpoint_mask_params, sizeof(struct trace_params),
	  RPC_ANYTIME, RPC_INVALID_PARAMS, set_mask, "records these events of a group, too",
	  "true" },
	{ "trace_clear_tpoint_mask", NULL, &trace_clear_tpoint_mask_params,
	  sizeof(struct trace_params), RPC_ANYTIME, RPC_INVALID_PARAMS, clear_mask,
	  "records these events of a group no more", "true" },
	{ "trace_get_tpoint_group_mask", "get_tpoint_group_mask", .flags = RPC_READS | RPC_ANYTIME,
	  .run = get_group_mask, .help = "groups of which something is recorded",
	  .result = "{tpoint_group_mask, GROUP{enabled, mask}, ...}" },
	{ "trace_clear", .flags = RPC_ANYTIME, .run = clear, .help = "forgets what was recorded",
	  .result = "true" },
	{ "trace_get_info", .flags = RPC_READS | RPC_ANYTIME, .run = get_info,
	  .help = "what is recorded; tpoint_shm_path is empty: the rings are of the threads",
	  .result = "{tpoint_shm_path, tpoint_group_mask, GROUP{mask, tpoint_mask}, ...}" },
	{ NULL },
};
