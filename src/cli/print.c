/*
 * Printers: what people read. Programs take --json, whose keys stay; these words may change.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cli/backend.h"
#include "cli/format.h"
#include "cli/progress.h"

void print_json(struct cli *cli, const json_t *value)
{
	json_dumpf(value, cli->out, JSON_INDENT(2) | JSON_ENCODE_ANY);
	fputc('\n', cli->out);
}

void print_text(struct cli *cli, const json_t *result)
{
	if (json_is_string(result))
		fprintf(cli->out, "%s\n", json_string_value(result));
	else
		print_json(cli, result);
}

static void size_cell(struct table *t, uint64_t bytes)
{
	char buf[FORMAT_BYTES];

	table_cell(t, bytes ? format_size(bytes, buf) : NULL);
}

static enum table_colour state_colour(const char *state)
{
	if (!strcmp(state, "running"))
		return TABLE_GOOD;
	return strcmp(state, "connected") ? TABLE_DIM : TABLE_WARN;
}

/* ---- disks ---- */

void print_disks(struct cli *cli, const json_t *result)
{
	static const char *const titles[] = { "NAME", ">SIZE", "MODE",	 "STATE",
					      "BDEV", "FILE",  "SOCKET", NULL };
	struct table *t = table_new(titles);
	const json_t *d;
	size_t i;

	json_array_foreach(result, i, d)
	{
		table_row(t);
		table_cell(t, member_str(d, "name"));
		size_cell(t, (uint64_t)member_int(d, "size_bytes"));
		table_cell(t, member_true(d, "read_only") ? "ro" : "rw");
		table_cell_colour(t, state_colour(member_str(d, "state")), member_str(d, "state"));
		table_cell(t, member_str(d, "bdev"));
		table_cell(t, member_str(d, "file"));
		table_cell(t, member_str(d, "socket"));
	}
	table_print(t, cli->out, cli->colour, "no disks: vhostctl disk add NAME --file PATH");
	table_free(t);
}

/* "key: value" lines, the values aligned. */
static void pair(struct cli *cli, const char *key, const char *value)
{
	fprintf(cli->out, "%-20s %s\n", key, *value ? value : "-");
}

void print_disk(struct cli *cli, const json_t *d)
{
	char size[FORMAT_BYTES], sessions[FORMAT_BYTES];

	pair(cli, "name", member_str(d, "name"));
	pair(cli, "socket", member_str(d, "socket"));
	pair(cli, "transport", member_str(d, "transport"));
	pair(cli, "size", format_size((uint64_t)member_int(d, "size_bytes"), size));
	pair(cli, "mode", member_true(d, "read_only") ? "read-only" : "read-write");
	pair(cli, "bdev", member_str(d, "bdev"));
	pair(cli, "file", member_str(d, "file"));
	pair(cli, "state", member_str(d, "state"));
	snprintf(sessions, sizeof(sessions), "%lld", member_int(d, "sessions"));
	pair(cli, "front-ends", sessions);
}

/* Of assigned_rate_limits. */
static const struct {
	const char *key, *what;
	bool mbytes;
} limit_rows[] = {
	{ "rw_ios_per_sec", "limit", false },	    { "r_ios_per_sec", "read limit", false },
	{ "w_ios_per_sec", "write limit", false },  { "rw_mbytes_per_sec", "limit", true },
	{ "r_mbytes_per_sec", "read limit", true }, { "w_mbytes_per_sec", "write limit", true },
};

/* false: it is none. */
static bool limit_text(const json_t *limits, size_t row, char text[FORMAT_BYTES])
{
	const json_int_t v = member_int(limits, limit_rows[row].key);

	if (limit_rows[row].mbytes)
		format_bandwidth((double)v * (1 << 20), text);
	else
		snprintf(text, FORMAT_BYTES, "%lld IOPS", v);
	return v;
}

static void print_limits(struct cli *cli, const json_t *limits)
{
	char text[FORMAT_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(limit_rows); i++)
		if (limit_text(limits, i, text))
			pair(cli, limit_rows[i].what, text);
}

/* "20000 IOPS, read 100 MiB/s"; "": none. */
static const char *limits_line(const json_t *limits, char line[256])
{
	char text[FORMAT_BYTES];
	size_t len = 0;

	*line = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(limit_rows); i++)
		if (limit_text(limits, i, text))
			len += (size_t)snprintf(line + len, 256 - len, "%s%.*s%s", len ? ", " : "",
						(int)(strlen(limit_rows[i].what) - strlen("limit")),
						limit_rows[i].what, text);
	return line;
}

void print_devices(struct cli *cli, const json_t *result)
{
	static const char *const titles[] = { "NAME",	     "TYPE",   "TRANSPORT", ">DISKS",
					      ">FRONT-ENDS", "LIMITS", "SOCKET",    NULL };
	struct table *t = table_new(titles);
	char limits[256];
	const json_t *d;
	size_t i;

	json_array_foreach(result, i, d)
	{
		table_row(t);
		table_cell(t, member_str(d, "name"));
		table_cell(t, member_str(d, "type"));
		table_cell(t, member_str(d, "transport"));
		table_cellf(t, "%zu", json_array_size(json_object_get(d, "disks")));
		table_cellf(t, "%zu", json_array_size(json_object_get(d, "sessions")));
		table_cell(t, limits_line(json_object_get(d, "assigned_rate_limits"), limits));
		table_cell(t, member_str(d, "socket"));
	}
	table_print(t, cli->out, cli->colour, "no devices: vhostctl disk add NAME --file PATH");
	table_free(t);
}

static void print_device_disks(struct cli *cli, const json_t *device)
{
	static const char *const titles[] = { "DEVICE", "UNIT", ">SIZE", ">BLOCK", NULL };
	struct table *t = table_new(titles);
	const json_t *d;
	size_t i;

	json_array_foreach(json_object_get(device, "disks"), i, d)
	{
		table_row(t);
		table_cell(t, member_str(device, "name"));
		table_cell(t, member_str(d, "unit"));
		size_cell(t, (uint64_t)member_int(d, "size_bytes"));
		table_cellf(t, "%lld", member_int(d, "block_size"));
	}
	table_print(t, cli->out, cli->colour, "no disks");
	table_free(t);
}

/* ---- scsi, nvme ---- */

void print_scsi(struct cli *cli, const json_t *result)
{
	static const char *const titles[] = { "NAME",  ">TARGET", ">LUN", "BDEV",
					      "STATE", "SOCKET",  NULL };
	struct table *t = table_new(titles);
	const json_t *c, *target, *lun;
	size_t i, j, k;

	json_array_foreach(result, i, c)
	{
		const json_t *targets =
			json_object_get(json_object_get(c, "backend_specific"), "scsi");
		const char *state =
			json_array_size(json_object_get(c, "sessions")) ? "connected" : "waiting";

		if (!json_array_size(targets)) {
			table_row(t);
			table_cell(t, member_str(c, "ctrlr"));
			table_cell(t, NULL);
			table_cell(t, NULL);
			table_cell(t, NULL);
			table_cell_colour(t, state_colour(state), state);
			table_cell(t, member_str(c, "socket"));
		}
		json_array_foreach(targets, j, target)
			json_array_foreach(json_object_get(target, "luns"), k, lun)
		{
			table_row(t);
			table_cell(t, member_str(c, "ctrlr"));
			table_cellf(t, "%lld", member_int(target, "scsi_dev_num"));
			table_cellf(t, "%lld", member_int(lun, "id"));
			table_cell(t, member_str(lun, "bdev_name"));
			table_cell_colour(t, state_colour(state), state);
			table_cell(t, member_str(c, "socket"));
		}
	}
	table_print(t, cli->out, cli->colour, "no virtio-scsi controllers: vhostctl scsi add NAME");
	table_free(t);
}

static void nvme_row(struct table *t, const json_t *c, const json_t *space)
{
	table_row(t);
	table_cell(t, member_str(c, "name"));
	if (space)
		table_cellf(t, "%lld", member_int(space, "nsid"));
	else
		table_cell(t, NULL);
	table_cell(t, member_str(space, "bdev"));
	table_cell(t, member_str(c, "transport"));
	table_cell(t, member_str(c, "address"));
}

void print_nvme(struct cli *cli, const json_t *result)
{
	static const char *const titles[] = {
		"NAME", ">NSID", "BDEV", "TRANSPORT", "ADDRESS", NULL
	};
	struct table *t = table_new(titles);
	const json_t *c, *space;
	size_t i, j;

	json_array_foreach(result, i, c)
	{
		const json_t *spaces = json_object_get(c, "namespaces");

		if (!json_array_size(spaces))
			nvme_row(t, c, NULL);
		json_array_foreach(spaces, j, space) nvme_row(t, c, space);
	}
	table_print(t, cli->out, cli->colour, "no NVMe controllers: vhostctl nvme add NAME");
	table_free(t);
}

/* ---- bdevs ---- */

void print_bdevs(struct cli *cli, const json_t *result)
{
	static const char *const titles[] = { "NAME",	 "KIND", ">SIZE", ">BLOCK",
					      "CLAIMED", "UUID", NULL };
	struct table *t = table_new(titles);
	const json_t *b;
	size_t i;

	json_array_foreach(result, i, b)
	{
		table_row(t);
		table_cell(t, member_str(b, "name"));
		table_cell(t, member_str(b, "product_name"));
		size_cell(t, bdev_bytes(b));
		table_cellf(t, "%lld", member_int(b, "block_size"));
		table_cell(t, member_true(b, "claimed") ? "yes" : "no");
		table_cell(t, member_str(b, "uuid"));
	}
	table_print(t, cli->out, cli->colour, "no bdevs: vhostctl disk add makes one");
	table_free(t);
}

/* An object's members, and those of objects in it. */
static void print_members(struct cli *cli, json_t *object)
{
	const char *key;
	json_t *v;

	json_object_foreach(object, key, v)
	{
		char *value = json_is_string(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY);

		if (json_is_object(v))
			print_members(cli, v);
		else
			pair(cli, key, value ? value : json_string_value(v));
		free(value);
	}
}

static void print_one_bdev(struct cli *cli, const json_t *b)
{
	char buf[FORMAT_BYTES], text[64];

	pair(cli, "name", member_str(b, "name"));
	pair(cli, "kind", member_str(b, "product_name"));
	pair(cli, "uuid", member_str(b, "uuid"));
	pair(cli, "size", format_size(bdev_bytes(b), buf));
	snprintf(text, sizeof(text), "%lld bytes", member_int(b, "block_size"));
	pair(cli, "block", text);
	pair(cli, "claimed", member_true(b, "claimed") ? "yes" : "no");
	if (*member_str(b, "incomplete"))
		pair(cli, "incomplete", member_str(b, "incomplete"));
	print_limits(cli, json_object_get(b, "assigned_rate_limits"));
	print_members(cli, json_object_get(b, "driver_specific"));
}

void print_bdev(struct cli *cli, const json_t *result)
{
	const json_t *b;
	size_t i;

	json_array_foreach(result, i, b)
	{
		if (i)
			fputc('\n', cli->out);
		print_one_bdev(cli, b);
	}
}

/* ---- long work ---- */

static enum table_colour job_colour(const char *state)
{
	if (!strcmp(state, "running"))
		return TABLE_WARN;
	return strcmp(state, "done") ? TABLE_BAD : TABLE_GOOD;
}

static void job_row(struct table *t, const json_t *job)
{
	const json_t *id = json_object_get(job, "id"), *ms = json_object_get(job, "elapsed_ms");
	const uint64_t done = (uint64_t)member_int(job, "done_bytes");
	const uint64_t total = (uint64_t)member_int(job, "total_bytes");
	char text[FORMAT_BYTES];

	table_row(t);
	if (json_is_integer(id))
		table_cellf(t, "%lld", json_integer_value(id));
	else
		table_cell(t, NULL); /* a guest's */
	table_cell(t, member_str(job, "kind"));
	if (*member_str(job, "unit"))
		table_cellf(t, "%s %s", member_str(job, "name"), member_str(job, "unit"));
	else
		table_cell(t, member_str(job, "name"));
	table_cell(t, member_str(job, "source"));
	table_cell_colour(t, job_colour(member_str(job, "state")), member_str(job, "state"));
	table_cell(t, format_percent(total ? 100.0 * (double)done / (double)total : -1, text));
	size_cell(t, total);
	table_cell(t, json_is_integer(ms) ? progress_time((double)json_integer_value(ms) / 1000,
							  text, sizeof(text))
					  : NULL);
}

/* A list of them, or one. */
void print_jobs(struct cli *cli, const json_t *result)
{
	static const char *const titles[] = { "ID", "KIND",  "NAME",  "FROM", "STATE",
					      ">%", ">SIZE", ">TIME", NULL };
	struct table *t = table_new(titles);
	const json_t *job;
	size_t i;

	json_array_foreach(result, i, job) job_row(t, job);
	table_print(t, cli->out, cli->colour, "no jobs: nothing that takes long runs");
	table_free(t);
	json_array_foreach(result, i, job)
	{
		if (*member_str(job, "error"))
			fprintf(cli->out, "job %lld: %s\n", member_int(job, "id"),
				member_str(job, "error"));
	}
}

/* One that has ended, or goes on in the background. */
void print_job(struct cli *cli, const json_t *job)
{
	const bool runs = !strcmp(member_str(job, "state"), "running");
	char size[FORMAT_BYTES], took[FORMAT_BYTES];

	if (runs)
		fprintf(cli->out, "job %lld: goes on; vhostctl jobs wait %lld\n",
			member_int(job, "id"), member_int(job, "id"));
	else
		fprintf(cli->out, "job %lld: %s of %s, %s in %s\n", member_int(job, "id"),
			member_str(job, "kind"), member_str(job, "name"),
			format_size((uint64_t)member_int(job, "total_bytes"), size),
			progress_time((double)member_int(job, "elapsed_ms") / 1000, took,
				      sizeof(took)));
}

void print_resized(struct cli *cli, const json_t *result)
{
	if (json_is_object(result))
		print_job(cli, result);
	else if (json_object_get(json_array_get(result, 0), "disks"))
		print_device_disks(cli, json_array_get(result, 0));
	else
		print_bdev(cli, result);
}

/* ---- the daemon ---- */

/* The share of its time that a loop was busy since it began; -1: it had none. */
static double busy_percent(const json_t *reactor)
{
	const double busy = (double)member_int(reactor, "busy");
	const double all = busy + (double)member_int(reactor, "idle");

	return all > 0 ? 100 * busy / all : -1;
}

void print_status(struct cli *cli, const json_t *s)
{
	static const char *const titles[] = { "LOOP", ">BUSY", ">QUEUES", NULL };
	const json_t *reactors = json_object_get(s, "reactors"), *list, *r;
	const json_t *devices = json_object_get(s, "devices");
	struct table *t = table_new(titles);
	uint32_t connected = 0;
	char buf[64];
	size_t i;

	json_array_foreach(devices, i, r) connected +=
		json_array_size(json_object_get(r, "sessions")) != 0;
	pair(cli, "daemon", member_str(json_object_get(s, "version"), "version"));
	snprintf(buf, sizeof(buf), "%lld", member_int(reactors, "pid"));
	pair(cli, "pid", buf);
	pair(cli, "socket", member_str(s, "socket"));
	snprintf(buf, sizeof(buf), "%zu, %u with a front-end", json_array_size(devices), connected);
	pair(cli, "devices", buf);
	snprintf(buf, sizeof(buf), "%zu", json_array_size(json_object_get(s, "bdevs")));
	pair(cli, "bdevs", buf);
	pair(cli, "log level", member_str(s, "log_level"));
	fputc('\n', cli->out);
	list = json_object_get(reactors, "reactors");
	json_array_foreach(list, i, r)
	{
		const json_t *thread = json_array_get(json_object_get(r, "lw_threads"), 0);

		table_row(t);
		table_cell(t, member_str(thread, "name"));
		table_cell(t, format_percent(busy_percent(r), buf));
		table_cellf(t, "%lld", member_int(r, "queues"));
	}
	table_print(t, cli->out, cli->colour, "no loops");
	table_free(t);
}

void print_event(struct cli *cli, const json_t *event)
{
	fprintf(cli->out, "%6lld  %-18s ", member_int(event, "id"), member_str(event, "type"));
	/* A name may hold what a terminal obeys. */
	for (const char *p = member_str(event, "ctx"); *p; p++)
		fputc((unsigned char)*p < ' ' || *p == 127 ? '?' : *p, cli->out);
	fputc('\n', cli->out);
}
