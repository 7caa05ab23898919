#include "mgmt/metrics.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "mgmt/http.h"

#define NS_PER_S ((uint64_t)1000000000)
/* Latencies: the first bucket ends at 2^10 ns, the last before infinity at 2^35. */
#define LATENCY_FIRST 10
#define LATENCY_LAST  35

enum metric_type {
	METRIC_COUNTER,
	METRIC_GAUGE,
	METRIC_HISTOGRAM,
	METRIC_INFO,
	METRIC_STATESET,
};

/* By type: its names in both formats, and what is behind the name of its samples. */
static const struct {
	const char *openmetrics, *prometheus, *suffix;
} metric_types[] = {
	[METRIC_COUNTER] = { "counter", "counter", "_total" },
	[METRIC_GAUGE] = { "gauge", "gauge", "" },
	[METRIC_HISTOGRAM] = { "histogram", "histogram", "" },
	[METRIC_INFO] = { "info", "gauge", "_info" },
	[METRIC_STATESET] = { "stateset", "gauge", "" },
};

enum metric_scope {
	SCOPE_PROCESS,
	SCOPE_LOOP,
	SCOPE_JOB_KIND,
	SCOPE_DEVICE,
	SCOPE_CONN,
	SCOPE_DISK_OP,
	SCOPE_DISK_CAUSE,
	SCOPE_QUEUE,
};

enum metric_get {
	GET_NUMBER,
	GET_SECONDS,
	/* more than a number: by metric_write_item */
	GET_BUILD,
	GET_DEVICE_INFO,
	GET_DEVICE_STATE,
	GET_CONN_INFO,
	GET_LATENCY,
	GET_QUEUE_STATE,
	GET_BATCH,
};

struct metric {
	const char *name;
	enum metric_type type;
	enum metric_scope scope;
	enum metric_get get;
	size_t offset, bytes; /* of the number, in the scope's structure */
	const char *help;
};

#define OF_PROCESS    struct snap_process
#define OF_LOOP	      struct loop_stats
#define OF_JOB_KIND   struct snap_jobs
#define OF_DEVICE     struct snap_device
#define OF_DISK_OP    struct blk_stats
#define OF_DISK_CAUSE struct blk_stats
#define OF_QUEUE      struct queue_stats

#define ROW(id, kind, whose, how, field, text)                                                     \
	{ .name = #id,                                                                             \
	  .type = METRIC_##kind,                                                                   \
	  .scope = SCOPE_##whose,                                                                  \
	  .get = GET_##how,                                                                        \
	  .offset = offsetof(OF_##whose, field),                                                   \
	  .bytes = sizeof(((OF_##whose *)NULL)->field),                                            \
	  .help = text },
#define NUMBER(id, kind, whose, field, text)  ROW(id, kind, whose, NUMBER, field, text)
#define SECONDS(id, kind, whose, field, text) ROW(id, kind, whose, SECONDS, field, text)
#define MORE(id, kind, whose, how, text)                                                           \
	{ .name = #id,                                                                             \
	  .type = METRIC_##kind,                                                                   \
	  .scope = SCOPE_##whose,                                                                  \
	  .get = GET_##how,                                                                        \
	  .help = text },

static const struct metric metrics[] = {
#include "mgmt/metrics.def"
};

#undef NUMBER
#undef SECONDS
#undef MORE

/* By scope, for the page. */
static const char *const scope_labels[] = {
	[SCOPE_PROCESS] = "",
	[SCOPE_LOOP] = "loop",
	[SCOPE_JOB_KIND] = "kind",
	[SCOPE_DEVICE] = "device",
	[SCOPE_CONN] = "device, connection",
	[SCOPE_DISK_OP] = "device, unit, op",
	[SCOPE_DISK_CAUSE] = "device, unit, cause",
	[SCOPE_QUEUE] = "device, connection, queue",
};

const char *const metrics_content_types[] = {
	[METRICS_OPENMETRICS] = "application/openmetrics-text; version=1.0.0; charset=utf-8",
	[METRICS_PROMETHEUS] = "text/plain; version=0.0.4; charset=utf-8",
};

/* The unit is the end of the name; only these are used. */
static const char *metric_unit(const struct metric *m)
{
	static const char *const units[] = { "seconds", "bytes" };
	size_t len = strlen(m->name);

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		size_t unit_len = strlen(units[i]);

		if (len > unit_len && m->name[len - unit_len - 1] == '_' &&
		    !strcmp(m->name + len - unit_len, units[i]))
			return units[i];
	}
	return NULL;
}

enum metrics_format metrics_format_accepted(const char *accept)
{
	if (!accept || strstr(accept, "application/openmetrics-text") ||
	    !strstr(accept, "text/plain"))
		return METRICS_OPENMETRICS;
	return METRICS_PROMETHEUS;
}

/* ---- one sample ---- */

/* Whose a sample is: what makes its labels, and where its number is. */
struct item {
	const struct metric *m;
	FILE *out;
	const void *at; /* the scope's structure; NULL: none */
	uint32_t sub;	/* operation, cause, kind */
	const char *loop;
	const struct snap_device *device;
	const struct snap_disk *disk;
	const struct conn_stats *conn;
	const struct queue_stats *queue;
};

void metrics_write_escaped(FILE *out, const char *value)
{
	for (const char *p = value; *p; p++) {
		if (*p == '\n')
			fputs("\\n", out);
		else if (*p == '\\' || *p == '"')
			fprintf(out, "\\%c", *p);
		else
			fputc(*p, out);
	}
}

static void label_write(const struct item *it, char *sep, const char *key, const char *value)
{
	fprintf(it->out, "%c%s=\"", *sep, key);
	metrics_write_escaped(it->out, value);
	fputc('"', it->out);
	*sep = ',';
}

static void label_write_number(const struct item *it, char *sep, const char *key, uint32_t value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	label_write(it, sep, key, text);
}

/* Name and labels; key NULL: no further label. What is next is the value. */
static void sample_begin(const struct item *it, const char *suffix, const char *key,
			 const char *value)
{
	char sep = '{';

	fprintf(it->out, "%s%s", it->m->name, suffix);
	if (it->loop)
		label_write(it, &sep, "loop", it->loop);
	if (it->device)
		label_write(it, &sep, "device", it->device->name);
	if (it->disk && *it->disk->unit)
		label_write(it, &sep, "unit", it->disk->unit);
	if (it->m->scope == SCOPE_JOB_KIND)
		label_write(it, &sep, "kind", job_kind_names[it->sub]);
	if (it->m->scope == SCOPE_DISK_OP)
		label_write(it, &sep, "op", blk_op_name((enum blk_op)it->sub));
	if (it->m->scope == SCOPE_DISK_CAUSE)
		label_write(it, &sep, "cause", blk_status_name((enum blk_status)it->sub));
	if (it->conn)
		label_write_number(it, &sep, "connection", it->conn->idx);
	if (it->queue) {
		label_write_number(it, &sep, "connection", it->queue->conn);
		label_write_number(it, &sep, "queue", it->queue->idx);
	}
	if (key)
		label_write(it, &sep, key, value);
	fputs(sep == ',' ? "} " : " ", it->out);
}

static void seconds_write(FILE *out, uint64_t ns)
{
	fprintf(out, "%" PRIu64 ".%09u\n", ns / NS_PER_S, (unsigned int)(ns % NS_PER_S));
}

static uint64_t item_number(const struct item *it)
{
	const char *at = (const char *)it->at + it->m->offset + it->sub * it->m->bytes;
	uint32_t small;
	uint64_t number;

	if (it->m->bytes == sizeof(small)) {
		memcpy(&small, at, sizeof(small));
		return small;
	}
	ASSERT(it->m->bytes == sizeof(number));
	memcpy(&number, at, sizeof(number));
	return number;
}

/* ---- what is more than a number ---- */

static void info_write(const struct item *it, char *sep, const char *key, const char *value)
{
	label_write(it, sep, key, value);
}

/* Infos have labels of their own, in place of sample_begin's. */
static void info_item_write(const struct item *it)
{
	char sep = '{';

	fprintf(it->out, "%s_info", it->m->name);
	if (it->device)
		info_write(it, &sep, "device", it->device->name);
	if (it->m->get == GET_BUILD) {
		info_write(it, &sep, "version", VHOSTD_VERSION);
	} else if (it->m->get == GET_DEVICE_INFO) {
		info_write(it, &sep, "transport", it->device->transport);
		info_write(it, &sep, "type", it->device->type);
	} else {
		label_write_number(it, &sep, "connection", it->conn->idx);
		info_write(it, &sep, "state", it->conn->state);
	}
	fputs("} 1\n", it->out);
}

static void stateset_write(const struct item *it, const char *const *names, uint32_t count,
			   uint32_t state)
{
	for (uint32_t i = 0; i < count; i++) {
		sample_begin(it, "", it->m->name, names[i]);
		fprintf(it->out, "%d\n", i == state);
	}
}

static void bucket_write(const struct item *it, const char *le, uint64_t count)
{
	sample_begin(it, "_bucket", "le", le);
	fprintf(it->out, "%" PRIu64 "\n", count);
}

static void histogram_end(const struct item *it, uint64_t count)
{
	bucket_write(it, "+Inf", count);
	sample_begin(it, "_count", NULL, NULL);
	fprintf(it->out, "%" PRIu64 "\n", count);
	sample_begin(it, "_sum", NULL, NULL);
}

/* Bucket i of the source has [2^i, 2^(i + 1)) ns, so that it counts below the end 2^(i + 1). */
static void latency_write(const struct item *it)
{
	const struct blk_stats *s = it->at;
	const uint64_t *hist = s->hist[it->sub];
	uint64_t count = 0;

	for (uint32_t i = 0; i < BLK_HIST_BUCKETS; i++) {
		char le[32];

		count += hist[i];
		if (i + 1 < LATENCY_FIRST || i + 1 > LATENCY_LAST)
			continue;
		snprintf(le, sizeof(le), "%.12g", (double)(1ull << (i + 1)) / NS_PER_S);
		bucket_write(it, le, count);
	}
	histogram_end(it, count);
	seconds_write(it->out, s->latency_ns[it->sub]);
}

static void batch_write(const struct item *it)
{
	const uint64_t *polls = it->queue->polls;
	uint64_t count = 0, sum = 0;

	for (uint32_t i = 1; i <= QUEUE_BATCH_MAX; i++) {
		char le[32];

		count += polls[i];
		sum += i * polls[i];
		if (i & (i - 1) || i == QUEUE_BATCH_MAX)
			continue;
		snprintf(le, sizeof(le), "%u.0", i);
		bucket_write(it, le, count);
	}
	histogram_end(it, count);
	fprintf(it->out, "%" PRIu64 "\n", sum);
}

static void item_write(const struct item *it)
{
	switch (it->m->get) {
	case GET_NUMBER:
		sample_begin(it, metric_types[it->m->type].suffix, NULL, NULL);
		fprintf(it->out, "%" PRIu64 "\n", item_number(it));
		break;
	case GET_SECONDS:
		sample_begin(it, metric_types[it->m->type].suffix, NULL, NULL);
		seconds_write(it->out, item_number(it));
		break;
	case GET_BUILD:
	case GET_DEVICE_INFO:
	case GET_CONN_INFO:
		info_item_write(it);
		break;
	case GET_DEVICE_STATE:
		stateset_write(it, snap_device_state_names, SNAP_DEVICE_STATE_COUNT,
			       it->device->state);
		break;
	case GET_QUEUE_STATE:
		stateset_write(it, queue_state_names, QUEUE_STATE_COUNT, it->queue->state);
		break;
	case GET_LATENCY:
		/* A bucket each for what never happened would be most of the text. */
		if (((const struct blk_stats *)it->at)->ops[it->sub])
			latency_write(it);
		break;
	case GET_BATCH:
		batch_write(it);
		break;
	}
}

/* ---- all of a metric ---- */

static void disk_write(struct item it, const struct snap_disk *disk)
{
	bool op = it.m->scope == SCOPE_DISK_OP;

	it.disk = disk;
	it.at = &disk->stats;
	for (it.sub = op ? 0 : BLK_ST_OK + 1; it.sub < (op ? BLK_OP_COUNT : BLK_ST_COUNT); it.sub++)
		item_write(&it);
}

static void device_write(struct item it, const struct snapshot *snap, const struct snap_device *d)
{
	it.device = d;
	it.at = d;
	if (it.m->scope == SCOPE_DEVICE)
		item_write(&it);
	for (uint32_t i = 0; it.m->scope == SCOPE_CONN && i < d->conn_count; i++) {
		it.at = it.conn = &snap->conns[d->first_conn + i];
		item_write(&it);
	}
	for (uint32_t i = 0; it.m->scope == SCOPE_QUEUE && i < d->queue_count; i++) {
		it.at = it.queue = &snap->queues[d->first_queue + i];
		item_write(&it);
	}
	if (it.m->scope != SCOPE_DISK_OP && it.m->scope != SCOPE_DISK_CAUSE)
		return;
	for (uint32_t i = 0; i < d->disk_count; i++)
		disk_write(it, &snap->disks[d->first_disk + i]);
}

static void head_write(const struct metric *m, enum metrics_format format, FILE *out)
{
	bool open = format == METRICS_OPENMETRICS;
	const char *type =
		open ? metric_types[m->type].openmetrics : metric_types[m->type].prometheus;
	const char *suffix = open ? "" : metric_types[m->type].suffix;

	fprintf(out, "# HELP %s%s %s.\n# TYPE %s%s %s\n", m->name, suffix, m->help, m->name, suffix,
		type);
	if (open && metric_unit(m))
		fprintf(out, "# UNIT %s %s\n", m->name, metric_unit(m));
}

static void metric_write(const struct snapshot *snap, const struct metric *m, FILE *out)
{
	struct item it = { .m = m, .out = out };

	switch (m->scope) {
	case SCOPE_PROCESS:
		it.at = &snap->process;
		item_write(&it);
		break;
	case SCOPE_LOOP:
		for (uint32_t i = 0; i < snap->loop_count; i++) {
			it.loop = snap->loops[i].name;
			it.at = &snap->loops[i].stats;
			item_write(&it);
		}
		break;
	case SCOPE_JOB_KIND:
		it.at = &snap->jobs;
		for (it.sub = 0; it.sub < JOB_KIND_COUNT; it.sub++)
			item_write(&it);
		break;
	case SCOPE_DEVICE:
	case SCOPE_CONN:
	case SCOPE_DISK_OP:
	case SCOPE_DISK_CAUSE:
	case SCOPE_QUEUE:
		for (uint32_t i = 0; i < snap->device_count; i++)
			device_write(it, snap, &snap->devices[i]);
		break;
	}
}

void metrics_write(const struct snapshot *snap, enum metrics_format format, FILE *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(metrics); i++) {
		head_write(&metrics[i], format, out);
		metric_write(snap, &metrics[i], out);
	}
	if (format == METRICS_OPENMETRICS)
		fputs("# EOF\n", out);
}

static void docs_options(void)
{
	fputs("| option | value | default | what |\n|---|---|---|---|\n", stdout);
	for (size_t i = 0; i < http_options_table.count; i++) {
		const struct opts_row *row = &http_options_table.rows[i];

		printf("| --%s | %s | %s | %s |\n", row->name,
		       row->type == OPTS_BOOL  ? ""
		       : row->type == OPTS_U32 ? "number"
					       : "text",
		       row->type != OPTS_BOOL && row->def ? row->def : "", row->help);
	}
}

void metrics_docs_print(void)
{
	fputs("# Metrics\n\n"
	      "Metrics (`/metrics`), a status page (`/`) and what it reads (`/status.json`), over "
	      "HTTP on a\nunix socket, and on request on 127.0.0.1. Without options, unless the "
	      "daemon serves one\ndisk for a monitor, the socket is " HTTP_SOCKET_DEFAULT
	      ", if it can be made.\nThis page is printed by `vhostd --help-metrics`; "
	      "`grafana-vhostd.json` beside it is a\ndashboard for Grafana.\n\n",
	      stdout);
	docs_options();
	fputs("\nCounters begin at 0 with the daemon; those of a queue, with the queue. Latencies "
	      "are in\nbuckets of powers of two, for operations that happened, and right to one "
	      "iteration of the\nloop. A disk that several devices show counts what all of them "
	      "do.\n\n"
	      "| metric | type | labels | what |\n|---|---|---|---|\n",
	      stdout);
	for (size_t i = 0; i < ARRAY_SIZE(metrics); i++) {
		const struct metric *m = &metrics[i];

		printf("| %s%s | %s | %s | %s |\n", m->name, metric_types[m->type].suffix,
		       metric_types[m->type].openmetrics, scope_labels[m->scope], m->help);
	}
}
