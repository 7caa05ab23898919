/*
 * vhostctl top and stats.
 */
#include "cli/top.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/view.h"

#define INTERVAL_MS	1000
#define INTERVAL_MIN_MS 100

int top_sample(struct top *top)
{
	json_t *answer;
	int rc = cli_call(top->cli, "device_get_stats", NULL, &answer);

	if (rc < 0)
		return rc;
	json_decref(top->before);
	top->before = top->now;
	top->now = answer;
	rates_free(top->rates);
	top->rates = rates_new(top->now, top->before);
	rates_sort(top->rates, top->by);
	return 0;
}

static void pause_ms(uint64_t ms)
{
	const struct timespec t = { .tv_sec = (time_t)(ms / 1000),
				    .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

/* ---- batch ---- */

static json_t *latency_json(const struct hist *h)
{
	return json_pack("{s:I, s:I, s:I}", "p50_ns", (json_int_t)hist_percentile(h, 50000),
			 "p99_ns", (json_int_t)hist_percentile(h, 99000), "p999_ns",
			 (json_int_t)hist_percentile(h, 99900));
}

/* Those that were. */
static json_t *ops_json(const struct rates_op_sum *sums)
{
	json_t *ops = json_object();

	for (uint32_t op = 0; op < RATES_OP_COUNT; op++)
		if (sums[op].ops)
			json_object_set_new(ops, rates_op_names[op],
					    json_pack("{s:f, s:f, s:o, s:I}", "iops", sums[op].iops,
						      "bytes_per_s", sums[op].bytes_per_s,
						      "latency", latency_json(&sums[op].latency),
						      "errors", (json_int_t)sums[op].errors));
	return ops;
}

static json_t *queues_json(const struct rates_device *d)
{
	json_t *queues = json_array();

	for (uint32_t i = 0; i < d->queue_count; i++) {
		const struct rates_queue *q = &d->queues[i];

		json_array_append_new(queues,
				      json_pack("{s:I, s:I, s:s, s:f, s:I, s:I, s:I, s:o}",
						"connection", (json_int_t)q->connection, "queue",
						(json_int_t)q->queue, "state", q->state, "requests",
						q->requests, "in_flight", (json_int_t)q->in_flight,
						"oldest_ns", (json_int_t)q->oldest_ns, "errors",
						(json_int_t)q->all.errors, "operations",
						ops_json(q->op)));
	}
	return queues;
}

static json_t *device_json(const struct rates_device *d)
{
	return json_pack(
		"{s:s, s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:o, s:I, s:I, s:I, s:I, s:o}", "name",
		d->name, "type", d->type, "transport", d->transport, "state", d->state, "read_iops",
		d->op[RATES_READ].iops, "write_iops", d->op[RATES_WRITE].iops, "read_bytes_per_s",
		d->op[RATES_READ].bytes_per_s, "write_bytes_per_s", d->op[RATES_WRITE].bytes_per_s,
		"latency", latency_json(&d->all.latency), "in_flight", (json_int_t)d->in_flight,
		"oldest_ns", (json_int_t)d->oldest_ns, "errors", (json_int_t)d->errors_total,
		"reconnects", (json_int_t)d->reconnects, "queues", queues_json(d));
}

static json_t *loop_json(const struct rates_loop *l)
{
	return json_pack("{s:s, s:f, s:I}", "name", l->name, "busy_percent", l->busy_percent,
			 "queues", (json_int_t)l->queues);
}

/* One line a round. */
static void batch_json(const struct top *top)
{
	json_t *devices = json_array(), *loops = json_array(), *round;

	for (uint32_t i = 0; i < top->rates->device_count; i++)
		json_array_append_new(devices, device_json(&top->rates->devices[i]));
	for (uint32_t i = 0; i < top->rates->loop_count; i++)
		json_array_append_new(loops, loop_json(&top->rates->loops[i]));
	round = json_pack("{s:f, s:o, s:o}", "seconds", top->rates->seconds, "devices", devices,
			  "loops", loops);
	json_dumpf(round, top->cli->out, JSON_COMPACT | JSON_REAL_PRECISION(9));
	fputc('\n', top->cli->out);
	json_decref(round);
}

static void batch_text(const struct top *top)
{
	FILE *out = top->cli->out;
	const bool colour = top->cli->colour;
	const struct rates_device *d =
		top->device ? view_device_find(top->rates, top->device) : NULL;

	view_summary(top->rates, out);
	view_loop_table(top->rates, out, colour);
	if (d)
		view_operations(d, out, colour);
	if (top->queues)
		view_queues(top->rates, top->device, out, colour);
	else
		view_devices(top->rates, out, colour);
	fputc('\n', out);
}

static int batch_run(struct top *top)
{
	int rc = top_sample(top);

	for (uint64_t n = 0; rc == 0 && n < top->count; n++) {
		pause_ms(top->interval_ms);
		rc = top_sample(top);
		if (rc < 0)
			break;
		if (top->cli->json)
			batch_json(top);
		else
			batch_text(top);
		if (fflush(top->cli->out))
			break;
	}
	return rc;
}

/* ---- verbs ---- */

static int sort_find(struct cli *cli, enum rates_sort *ret_by)
{
	const char *name = cli_str(cli, "sort");

	*ret_by = RATES_BY_NAME;
	for (uint32_t i = 0; name && i < RATES_SORT_COUNT; i++) {
		if (!strcmp(name, rates_sort_names[i])) {
			*ret_by = (enum rates_sort)i;
			return 0;
		}
	}
	return name ? err_set(&cli->err, -EINVAL, "--sort: expected a key, got '%.40s'", name) : 0;
}

static void top_fini(struct top *top)
{
	rates_free(top->rates);
	json_decref(top->now);
	json_decref(top->before);
	free(top->device);
}

/* -ENODEV: the device that was named is not there. */
static int top_check_device(struct top *top)
{
	json_t *answer;
	int rc = cli_call(top->cli, "device_get_stats", object_of("name", top->device), &answer);

	if (rc == 0)
		json_decref(answer);
	return rc;
}

int top_run(struct cli *cli, json_t **ret_result)
{
	const char *name = cli_str(cli, "name");
	struct top top = { .cli = cli,
			   .interval_ms = cli_u64(cli, "interval", INTERVAL_MS),
			   .count = cli_u64(cli, "count", UINT64_MAX),
			   .queues = cli_flag(cli, "queues") || name,
			   .device = name ? strdup(name) : NULL };
	int rc = sort_find(cli, &top.by);

	cli->printed = true;
	*ret_result = json_true();
	if (rc == 0 && top.interval_ms < INTERVAL_MIN_MS)
		rc = err_set(&cli->err, -EINVAL, "--interval: expected at least %d ms, got %d",
			     INTERVAL_MIN_MS, (int)top.interval_ms);
	if (rc == 0 && name)
		rc = top_check_device(&top);
	if (rc == 0)
		rc = cli_flag(cli, "batch") || cli->json ? batch_run(&top) : screen_run(&top);
	top_fini(&top);
	return rc;
}

int stats_run(struct cli *cli, json_t **ret_result)
{
	const char *name = cli_str(cli, "name");
	struct rates *rates;
	int rc = cli_call(cli, "device_get_stats", name ? object_of("name", name) : NULL,
			  ret_result);

	if (rc < 0 || cli->json)
		return rc;
	rates = rates_new(*ret_result, NULL);
	view_totals(rates, cli->out, cli->colour);
	if (cli_flag(cli, "queues")) {
		fputc('\n', cli->out);
		view_queues(rates, NULL, cli->out, cli->colour);
		fputc('\n', cli->out);
		view_queue_operations(rates, NULL, cli->out, cli->colour);
	}
	rates_free(rates);
	cli->printed = true;
	return 0;
}
