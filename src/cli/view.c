#include "cli/view.h"

#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/num.h"
#include "cli/format.h"

#define BAR_COLUMNS 30

/* Per 100,000: what is shown of a latency. */
#define P50  50000
#define P99  99000
#define P999 99900

static enum table_colour state_colour(const char *state)
{
	if (!strcmp(state, "serving") || !strcmp(state, "running"))
		return TABLE_GOOD;
	if (!strcmp(state, "broken"))
		return TABLE_BAD;
	return strcmp(state, "connected") ? TABLE_DIM : TABLE_WARN;
}

void view_summary(const struct rates *r, FILE *out)
{
	const struct rates_op_sum *all = &r->total.all;
	char iops[FORMAT_BYTES], bandwidth[FORMAT_BYTES], p50[FORMAT_BYTES], p99[FORMAT_BYTES];

	fprintf(out, "%u device%s, %u serving; %s IOPS, %s; latency p50 %s, p99 %s\n",
		r->device_count, r->device_count == 1 ? "" : "s", r->serving_count,
		format_rate(all->iops, iops), format_bandwidth(all->bytes_per_s, bandwidth),
		format_ns(hist_percentile(&all->latency, P50), p50),
		format_ns(hist_percentile(&all->latency, P99), p99));
}

void view_loops(const struct rates *r, FILE *out)
{
	char bar[BAR_COLUMNS + 1], percent[FORMAT_BYTES], sleeps[FORMAT_BYTES];
	uint32_t width = 0;

	for (uint32_t i = 0; i < r->loop_count; i++)
		width = MAX(width, table_width(r->loops[i].name));
	for (uint32_t i = 0; i < r->loop_count; i++) {
		const struct rates_loop *l = &r->loops[i];
		const double share = MIN(MAX(l->busy_percent, 0.0), 100.0) / 100;
		const size_t full = (size_t)(share * BAR_COLUMNS + 0.5);

		memset(bar, ' ', BAR_COLUMNS);
		memset(bar, '|', full);
		bar[BAR_COLUMNS] = '\0';
		fprintf(out, "%-*s [%s] %5s  %3" PRIu64 " queues  %s sleeps/s\n", (int)width,
			l->name, bar, format_percent(l->busy_percent, percent), l->queues,
			format_rate(l->sleeps, sleeps));
	}
}

void view_loop_table(const struct rates *r, FILE *out, bool colour)
{
	static const char *const titles[] = { "LOOP",	   ">BUSY",	">QUEUES", ">ROUNDS/S",
					      ">SLEEPS/S", ">ENTERS/S", NULL };
	struct table *t = table_new(titles);
	char buf[FORMAT_BYTES];

	for (uint32_t i = 0; i < r->loop_count; i++) {
		const struct rates_loop *l = &r->loops[i];

		table_row(t);
		table_cell(t, l->name);
		table_cell(t, format_percent(l->busy_percent, buf));
		table_cellf(t, "%" PRIu64, l->queues);
		table_cell(t, format_rate(l->iterations, buf));
		table_cell(t, format_rate(l->sleeps, buf));
		table_cell(t, format_rate(l->enters, buf));
	}
	table_print(t, out, colour, "no loops");
	table_free(t);
}

static void latency_cells(struct table *t, const struct hist *h)
{
	char buf[FORMAT_BYTES];

	table_cell(t, format_ns(hist_percentile(h, P50), buf));
	table_cell(t, format_ns(hist_percentile(h, P99), buf));
	table_cell(t, format_ns(hist_percentile(h, P999), buf));
}

static void rate_cell(struct table *t, double per_s)
{
	char buf[FORMAT_BYTES];

	table_cell(t, format_rate(per_s, buf));
}

static void errors_cell(struct table *t, uint64_t errors)
{
	char buf[FORMAT_BYTES];

	snprintf(buf, sizeof(buf), "%" PRIu64, errors);
	table_cell_colour(t, errors ? TABLE_BAD : TABLE_PLAIN, buf);
}

void view_devices(const struct rates *r, FILE *out, bool colour)
{
	static const char *const titles[] = {
		"DEVICE", "TYPE", "STATE",  ">READ/S", ">WRITE/S", ">READ",   ">WRITE",
		">P50",	  ">P99", ">P99.9", ">QD",     ">OLDEST",  ">ERRORS", NULL,
	};
	struct table *t = table_new(titles);
	char buf[FORMAT_BYTES];

	for (uint32_t i = 0; i < r->device_count; i++) {
		const struct rates_device *d = &r->devices[i];

		table_row(t);
		table_cell(t, d->name);
		table_cell(t, d->type);
		table_cell_colour(t, state_colour(d->state), d->state);
		rate_cell(t, d->op[RATES_READ].iops);
		rate_cell(t, d->op[RATES_WRITE].iops);
		table_cell(t, format_bandwidth(d->op[RATES_READ].bytes_per_s, buf));
		table_cell(t, format_bandwidth(d->op[RATES_WRITE].bytes_per_s, buf));
		latency_cells(t, &d->all.latency);
		table_cellf(t, "%" PRIu64, d->in_flight);
		table_cell(t, format_ns(d->oldest_ns, buf));
		errors_cell(t, d->errors_total);
	}
	table_print(t, out, colour, "no devices: vhostctl disk add NAME --file PATH");
	table_free(t);
}

static void queue_row(struct table *t, const struct rates_queue *q, bool sums)
{
	const double told = q->interrupts + q->suppressed;
	char buf[FORMAT_BYTES];

	table_row(t);
	table_cell(t, q->device);
	table_cellf(t, "%" PRIu64 ".%" PRIu64, q->connection, q->queue);
	table_cell_colour(t, state_colour(q->state), q->state);
	table_cell(t, q->loop);
	rate_cell(t, q->requests);
	rate_cell(t, q->op[RATES_READ].iops);
	rate_cell(t, q->op[RATES_WRITE].iops);
	table_cell(t, sums ? format_size(q->all.bytes, buf)
			   : format_bandwidth(q->all.bytes_per_s, buf));
	table_cell(t, format_ns(hist_percentile(&q->all.latency, P50), buf));
	table_cell(t, format_ns(hist_percentile(&q->all.latency, P99), buf));
	table_cellf(t, "%" PRIu64, q->in_flight);
	table_cell(t, format_ns(q->oldest_ns, buf));
	errors_cell(t, q->all.errors);
	table_cellf(t, "%.1f", q->batch);
	rate_cell(t, q->kicks);
	rate_cell(t, q->interrupts);
	table_cell(t, format_percent(told > 0 ? 100 * q->suppressed / told : -1, buf));
	table_cell(t, q->kind);
	table_cellf(t, "%" PRIu64, q->size);
}

/* In order; device NULL: of all. sums: since the start, not rates. */
static void queues_each(const struct rates *r, const char *device, struct table *t,
			void (*row)(struct table *t, const struct rates_queue *q, bool sums))
{
	for (uint32_t i = 0; i < r->device_count; i++) {
		const struct rates_device *d = &r->devices[i];

		for (uint32_t q = 0; q < d->queue_count; q++)
			if (!device || !strcmp(d->name, device))
				row(t, &d->queues[q], r->seconds <= 0);
	}
}

void view_queues(const struct rates *r, const char *device, FILE *out, bool colour)
{
	static const char *const sums[] = {
		"DEVICE", "QUEUE", "STATE",   "LOOP", ">REQUESTS", ">READS",  ">WRITES",
		">BYTES", ">P50",  ">P99",    ">QD",  ">OLDEST",   ">ERRORS", ">BATCH",
		">KICKS", ">IRQS", ">NO IRQ", "KIND", ">SIZE",	   NULL,
	};
	static const char *const titles[] = {
		"DEVICE",     "QUEUE",	"STATE",   "LOOP", ">REQ/S",  ">READ/S", ">WRITE/S",
		">BANDWIDTH", ">P50",	">P99",	   ">QD",  ">OLDEST", ">ERRORS", ">BATCH",
		">KICK/S",    ">IRQ/S", ">NO IRQ", "KIND", ">SIZE",   NULL,
	};
	struct table *t = table_new(r->seconds > 0 ? titles : sums);

	queues_each(r, device, t, queue_row);
	table_print(t, out, colour, "no queue is set up: no guest's driver runs");
	table_free(t);
}

static void queue_operation_rows(struct table *t, const struct rates_queue *q, bool sums)
{
	char buf[FORMAT_BYTES];

	for (uint32_t op = 0; op < RATES_OP_COUNT; op++) {
		const struct rates_op_sum *sum = &q->op[op];

		if (!sum->ops)
			continue;
		table_row(t);
		table_cell(t, q->device);
		table_cellf(t, "%" PRIu64 ".%" PRIu64, q->connection, q->queue);
		table_cell(t, rates_op_names[op]);
		rate_cell(t, sum->iops);
		table_cell(t, format_size(sum->bytes, buf));
		latency_cells(t, &sum->latency);
		errors_cell(t, sum->errors);
	}
}

void view_queue_operations(const struct rates *r, const char *device, FILE *out, bool colour)
{
	static const char *const titles[] = { "DEVICE", "QUEUE", "OPERATION", ">COUNT",	 ">BYTES",
					      ">P50",	">P99",	 ">P99.9",    ">ERRORS", NULL };
	struct table *t = table_new(titles);

	queues_each(r, device, t, queue_operation_rows);
	table_print(t, out, colour, "no operation yet");
	table_free(t);
}

void view_operations(const struct rates_device *d, FILE *out, bool colour)
{
	static const char *const titles[] = { "OPERATION", ">PER SECOND", ">BANDWIDTH", ">P50",
					      ">P99",	   ">P99.9",	  NULL };
	struct table *t = table_new(titles);
	char buf[FORMAT_BYTES];

	for (uint32_t op = 0; op < RATES_OP_COUNT; op++) {
		if (op > RATES_WRITE && !d->op[op].ops)
			continue;
		table_row(t);
		table_cell(t, rates_op_names[op]);
		rate_cell(t, d->op[op].iops);
		table_cell(t, format_bandwidth(d->op[op].bytes_per_s, buf));
		latency_cells(t, &d->op[op].latency);
	}
	table_print(t, out, colour, "");
	table_free(t);
}

const struct rates_device *view_device_find(const struct rates *r, const char *name)
{
	for (uint32_t i = 0; i < r->device_count; i++)
		if (!strcmp(r->devices[i].name, name))
			return &r->devices[i];
	return NULL;
}

void view_totals(const struct rates *r, FILE *out, bool colour)
{
	static const char *const titles[] = {
		"DEVICE", "STATE",  ">READS", ">WRITES", ">READ",	">WRITTEN", ">P50",
		">P99",	  ">P99.9", ">QD",    ">ERRORS", ">RECONNECTS", NULL,
	};
	struct table *t = table_new(titles);
	char buf[FORMAT_BYTES];

	for (uint32_t i = 0; i < r->device_count; i++) {
		const struct rates_device *d = &r->devices[i];

		table_row(t);
		table_cell(t, d->name);
		table_cell_colour(t, state_colour(d->state), d->state);
		table_cellf(t, "%" PRIu64, d->op[RATES_READ].ops);
		table_cellf(t, "%" PRIu64, d->op[RATES_WRITE].ops);
		table_cell(t, format_size(d->op[RATES_READ].bytes, buf));
		table_cell(t, format_size(d->op[RATES_WRITE].bytes, buf));
		latency_cells(t, &d->all.latency);
		table_cellf(t, "%" PRIu64, d->in_flight);
		table_cellf(t, "%" PRIu64, d->errors_total);
		table_cellf(t, "%" PRIu64, d->reconnects);
	}
	table_print(t, out, colour, "no devices: vhostctl disk add NAME --file PATH");
	table_free(t);
}
