/*
 * vhostctl status, log, slow, rpc and events: the daemon itself.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/num.h"
#include "cli/cli.h"

#define EVENTS_POLL_MS 250
#define EVENTS_BATCH   512

/* ---- status ---- */

static int status_add(struct cli *cli, json_t *status, const char *key, const char *method)
{
	json_t *result;
	const int rc = cli_call(cli, method, NULL, &result);

	if (rc < 0)
		return rc;
	json_object_set_new(status, key, result);
	return 0;
}

int status_run(struct cli *cli, json_t **ret_result)
{
	static const char *const parts[][2] = {
		{ "version", "spdk_get_version" },	{ "reactors", "framework_get_reactors" },
		{ "devices", "device_get_devices" },	{ "bdevs", "bdev_get_bdevs" },
		{ "log_level", "log_get_print_level" },
	};
	json_t *status = json_pack("{s:s}", "socket", cli->socket);

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		const int rc = status_add(cli, status, parts[i][0], parts[i][1]);

		if (rc < 0) {
			json_decref(status);
			return rc;
		}
	}
	*ret_result = status;
	return 0;
}

int log_level_run(struct cli *cli, json_t **ret_result)
{
	if (cli_given(cli, "level")) {
		const int rc = cli_do(cli, "log_set_print_level", cli_params(cli, 0));

		if (rc < 0)
			return rc;
	}
	return cli_call(cli, "log_get_print_level", NULL, ret_result);
}

int slow_run(struct cli *cli, json_t **ret_result)
{
	if (cli_given(cli, "threshold")) {
		const json_int_t ms = (json_int_t)cli_u64(cli, "threshold", 0);
		const int rc = cli_do(cli, "device_set_slow_threshold",
				      json_pack("{s:I}", "threshold_ms", ms));

		if (rc < 0)
			return rc;
	}
	return cli_call(cli, "device_get_slow_requests", NULL, ret_result);
}

/* ---- upgrade ---- */

/* Who answers at the same socket now is the successor. */
int upgrade_run(struct cli *cli, json_t **ret_result)
{
	json_t *result, *version;
	int rc = cli_call(cli, "framework_hand_over", cli_params(cli, 0), &result);

	if (rc < 0)
		return rc;
	conn_close(cli->conn);
	cli->conn = NULL;
	rc = cli_call(cli, "spdk_get_version", NULL, &version);
	if (rc < 0) {
		json_decref(result);
		return rc;
	}
	json_object_set(result, "version", json_object_get(version, "version"));
	json_decref(version);
	*ret_result = result;
	return 0;
}

void print_upgrade(struct cli *cli, const json_t *result)
{
	const json_int_t us = member_int(result, "pause_us");

	fprintf(cli->out,
		"%s serves, as process %" JSON_INTEGER_FORMAT "; front-ends waited %d.%d ms\n",
		member_str(result, "version"), member_int(result, "pid"), (int)(us / 1000),
		(int)(us / 100 % 10));
}

/* ---- rpc ---- */

int rpc_run_verb(struct cli *cli, json_t **ret_result)
{
	const char *text = cli_str(cli, "params");
	json_t *params = NULL;
	json_error_t detail;

	if (text) {
		params = strcmp(text, "-") ? json_loads(text, 0, &detail)
					   : json_loadf(stdin, 0, &detail);
		if (!params)
			return err_set(&cli->err, -EINVAL,
				       "PARAMS: expected a JSON object, column %d: %s",
				       detail.column, detail.text);
	}
	return cli_call(cli, cli_str(cli, "method"), params, ret_result);
}

/* ---- events ---- */

static volatile sig_atomic_t interrupted;

static void on_signal(int signo)
{
	interrupted = 1;
}

struct events {
	uint64_t next, told, count;
	const char *type;
};

/* One request's events: those that count are printed. *ret_came: how many there were. */
static int events_poll(struct cli *cli, struct events *e, size_t *ret_came)
{
	json_t *list, *one;
	size_t i;
	int rc = cli_call(cli, "notify_get_notifications",
			  json_pack("{s:I, s:i}", "id", (json_int_t)e->next, "max", EVENTS_BATCH),
			  &list);

	if (rc < 0)
		return rc;
	*ret_came = json_array_size(list);
	json_array_foreach(list, i, one)
	{
		e->next = (uint64_t)member_int(one, "id") + 1;
		if (e->told >= e->count || (e->type && strcmp(e->type, member_str(one, "type"))))
			continue;
		e->told++;
		if (cli->json)
			json_dumpf(one, cli->out, JSON_COMPACT), fputc('\n', cli->out);
		else
			print_event(cli, one);
	}
	fflush(cli->out);
	json_decref(list);
	return 0;
}

int events_run(struct cli *cli, json_t **ret_result)
{
	const struct timespec pause = { .tv_nsec = EVENTS_POLL_MS * 1000000l };
	const bool follow = cli_flag(cli, "follow");
	struct events e = { .next = cli_u64(cli, "since", 0),
			    .count = cli_u64(cli, "count", UINT64_MAX),
			    .type = cli_str(cli, "type") };

	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	cli->printed = true;
	*ret_result = json_true();
	while (!interrupted && e.told < e.count) {
		size_t came;
		const int rc = events_poll(cli, &e, &came);

		if (rc < 0)
			return rc;
		if (came < EVENTS_BATCH && !follow)
			break;
		if (came < EVENTS_BATCH && e.told < e.count)
			nanosleep(&pause, NULL);
	}
	return 0;
}
