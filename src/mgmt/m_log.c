/*
 * log_*: the log goes to stderr only, so the level of what is logged and of what is printed, which
 * SPDK has apart, are one.
 */
#include <stddef.h>

#include "base/check.h"
#include "base/log.h"
#include "mgmt/tables.h"

static const char *const log_levels[] = {
	[LOG_ERROR] = "ERROR", [LOG_WARNING] = "WARNING", [LOG_NOTICE] = "NOTICE",
	[LOG_INFO] = "INFO",   [LOG_DEBUG] = "DEBUG",	  NULL,
};

struct log_params {
	int level;
	char *flag;
	bool enabled;
};

static const struct opts_row level_rows[] = {
	{ "level", OPTS_ENUM, offsetof(struct log_params, level), .names = log_levels,
	  .help = "the least urgent that is written", .required = true },
};
static const struct opts_row flag_rows[] = {
	{ "flag", OPTS_STR, offsetof(struct log_params, flag), .help = "name of a flag",
	  .required = true },
};
static const struct opts_row timestamps_rows[] = {
	{ "enabled", OPTS_BOOL, offsetof(struct log_params, enabled),
	  .help = "lines begin with date and time (UTC)", .required = true },
};

#define TABLE(name, rows)                                                                          \
	static const struct opts_table name##_params = { #name, rows, ARRAY_SIZE(rows) }

TABLE(log_set_print_level, level_rows);
TABLE(log_set_level, level_rows);
TABLE(log_set_flag, flag_rows);
TABLE(log_clear_flag, flag_rows);
TABLE(log_enable_timestamps, timestamps_rows);

static void set_level(struct rpc_call *call, void *params)
{
	const struct log_params *p = params;

	log_set_level((enum log_level)p->level);
	rpc_result_true(call);
}

static void get_level(struct rpc_call *call, void *params)
{
	rpc_result(call, json_string(log_levels[log_get_level()]));
}

static void change_flag(struct rpc_call *call, void *params)
{
	const struct log_params *p = params;

	rpc_error(call, RPC_INVALID_PARAMS,
		  "flag: there are no log flags, got '%.64s'; log_set_level DEBUG shows all that "
		  "is logged, trace_enable_tpoint_group chooses what is traced",
		  p->flag);
}

static void get_flags(struct rpc_call *call, void *params)
{
	rpc_result(call, json_object());
}

static void enable_timestamps(struct rpc_call *call, void *params)
{
	const struct log_params *p = params;

	log_set_timestamps(p->enabled);
	rpc_result_true(call);
}

#define LEVEL_HELP "the least urgent level that is written to stderr"

const struct rpc_method m_log[] = {
	{ "log_set_print_level", "set_log_print_level", &log_set_print_level_params,
	  sizeof(struct log_params), RPC_ANYTIME, RPC_INVALID_PARAMS, set_level, "sets " LEVEL_HELP,
	  "true" },
	{ "log_get_print_level", "get_log_print_level", .flags = RPC_READS | RPC_ANYTIME,
	  .run = get_level, .help = LEVEL_HELP, .result = "\"NOTICE\"" },
	{ "log_set_level", "set_log_level", &log_set_level_params, sizeof(struct log_params),
	  RPC_ANYTIME, RPC_INVALID_PARAMS, set_level,
	  "sets " LEVEL_HELP " (the same as log_set_print_level)", "true" },
	{ "log_get_level", "get_log_level", .flags = RPC_READS | RPC_ANYTIME, .run = get_level,
	  .help = LEVEL_HELP, .result = "\"NOTICE\"" },
	{ "log_set_flag", "set_log_flag", &log_set_flag_params, sizeof(struct log_params),
	  RPC_ANYTIME, RPC_INVALID_PARAMS, change_flag, "fails: there are no log flags", "never" },
	{ "log_clear_flag", "clear_log_flag", &log_clear_flag_params, sizeof(struct log_params),
	  RPC_ANYTIME, RPC_INVALID_PARAMS, change_flag, "fails: there are no log flags", "never" },
	{ "log_get_flags", "get_log_flags", .flags = RPC_READS | RPC_ANYTIME, .run = get_flags,
	  .help = "log flags, of which there are none", .result = "{}" },
	{ "log_enable_timestamps", .params = &log_enable_timestamps_params,
	  .params_bytes = sizeof(struct log_params), .flags = RPC_ANYTIME,
	  .fail_code = RPC_INVALID_PARAMS, .run = enable_timestamps,
	  .help = "date and time in front of log lines (off at the start)", .result = "true" },
	{ NULL },
};
