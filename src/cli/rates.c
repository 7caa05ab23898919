#include "cli/rates.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/num.h"

const char *const rates_op_names[RATES_OP_COUNT] = {
#define X(n, s) s,
	RATES_OPS(X)
#undef X
};

const char *const rates_sort_names[] = {
#define X(n, s) s,
	RATES_SORTS(X)
#undef X
		NULL
};

static uint64_t u64_of(const json_t *object, const char *key)
{
	const json_int_t v = json_integer_value(json_object_get(object, key));

	return v > 0 ? (uint64_t)v : 0;
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

/* What was counted between; a counter that went back began anew. */
static uint64_t grown(const json_t *later, const json_t *before, const char *key)
{
	const uint64_t now = u64_of(later, key), then = u64_of(before, key);

	return now >= then ? now - then : now;
}

/* seconds 0: the sum itself. */
static double per_second(uint64_t count, double seconds)
{
	return seconds > 0 ? (double)count / seconds : (double)count;
}

/* The element of before that is the same thing as this one; NULL: it is new. */
static const json_t *same(const json_t *before, const json_t *later, const char *key,
			  const char *key2)
{
	const json_t *one;
	size_t i;

	json_array_foreach(before, i, one)
	{
		if (json_equal(json_object_get(one, key), json_object_get(later, key)) &&
		    (!key2 || json_equal(json_object_get(one, key2), json_object_get(later, key2))))
			return one;
	}
	return NULL;
}

/* ---- disks ---- */

static void op_add(struct rates_op_sum *sum, uint64_t ops, uint64_t bytes, const struct hist *h,
		   double seconds)
{
	sum->ops += ops;
	sum->bytes += bytes;
	sum->iops += per_second(ops, seconds);
	sum->bytes_per_s += per_second(bytes, seconds);
	hist_add(&sum->latency, h);
}

/* With "errors": by cause. */
static uint64_t errors_of(const json_t *object)
{
	json_t *errors = json_object_get(object, "errors"), *n;
	const char *cause;
	uint64_t sum = 0;

	json_object_foreach(errors, cause, n) sum += (uint64_t)MAX(json_integer_value(n), 0);
	return sum;
}

/* "operations" of a disk or a queue: to each sum, and to that of all. */
static void ops_take(struct rates_op_sum *sums, struct rates_op_sum *all, const json_t *later,
		     const json_t *before, double seconds)
{
	const json_t *ops = json_object_get(later, "operations");
	const json_t *ops_before = json_object_get(before, "operations");

	for (uint32_t op = 0; op < RATES_OP_COUNT; op++) {
		const json_t *one = json_object_get(ops, rates_op_names[op]);
		const json_t *then = json_object_get(ops_before, rates_op_names[op]);
		struct hist now = { .count = { 0 } }, was = { .count = { 0 } }, between;

		if (!one)
			continue;
		hist_add_json(&now, json_object_get(one, "histogram"));
		hist_add_json(&was, json_object_get(then, "histogram"));
		hist_diff(&between, &now, &was);
		op_add(&sums[op], grown(one, then, "ops"), grown(one, then, "bytes"), &between,
		       seconds);
		op_add(all, grown(one, then, "ops"), grown(one, then, "bytes"), &between, seconds);
		sums[op].errors += errors_of(one);
		all->errors += errors_of(one);
	}
	all->errors += errors_of(json_object_get(ops, "unknown"));
}

static void disk_add(struct rates_device *d, const json_t *later, const json_t *before,
		     double seconds)
{
	const uint64_t errors = errors_of(later), errors_before = errors_of(before);

	ops_take(d->op, &d->all, later, before, seconds);
	d->in_flight += u64_of(later, "in_flight");
	d->errors_total += errors;
	d->errors += per_second(errors >= errors_before ? errors - errors_before : errors, seconds);
}

/* ---- queues ---- */

/* polls[i]: looks that found i requests. */
static void polls_take(struct rates_queue *q, const json_t *later, const json_t *before,
		       double seconds)
{
	const json_t *now = json_object_get(later, "polls");
	const json_t *was = json_object_get(before, "polls");
	struct hist n = { .count = { 0 } }, w = { .count = { 0 } }, between;
	uint64_t looks = 0, found = 0;

	hist_add_json(&n, now);
	hist_add_json(&w, was);
	hist_diff(&between, &n, &w);
	for (uint32_t i = 1; i < HIST_BUCKETS; i++) {
		looks += between.count[i];
		found += between.count[i] * i;
	}
	q->batch = looks ? (double)found / (double)looks : 0;
	q->empty = per_second(between.count[0], seconds);
}

static void queue_take(struct rates_queue *q, const char *device, const json_t *later,
		       const json_t *before, double seconds)
{
	*q = (struct rates_queue){
		.device = device,
		.kind = text_of(later, "kind"),
		.state = text_of(later, "state"),
		.loop = text_of(later, "loop"),
		.connection = u64_of(later, "connection"),
		.queue = u64_of(later, "queue"),
		.size = u64_of(later, "size"),
		.in_flight = u64_of(later, "in_flight"),
		.oldest_ns = u64_of(later, "oldest_ns"),
		.requests = per_second(grown(later, before, "requests"), seconds),
		.kicks = per_second(grown(later, before, "kicks"), seconds),
		.interrupts = per_second(grown(later, before, "interrupts"), seconds),
		.suppressed = per_second(grown(later, before, "interrupts_suppressed"), seconds),
	};
	polls_take(q, later, before, seconds);
	ops_take(q->op, &q->all, later, before, seconds);
}

/* ---- devices, loops ---- */

static void device_take(struct rates_device *d, const json_t *later, const json_t *before,
			double seconds)
{
	const json_t *list = json_object_get(later, "disks"), *one;
	const json_t *list_before = json_object_get(before, "disks");
	size_t i;

	d->name = text_of(later, "name");
	d->type = text_of(later, "type");
	d->transport = text_of(later, "transport");
	d->state = text_of(later, "state");
	d->connections = u64_of(later, "connections");
	d->accepted = u64_of(later, "accepted");
	d->reconnects = u64_of(later, "reconnects");
	json_array_foreach(list, i, one)
		disk_add(d, one, same(list_before, one, "unit", NULL), seconds);
	list = json_object_get(later, "queues");
	list_before = json_object_get(before, "queues");
	d->queues = calloc(json_array_size(list) + 1, sizeof(*d->queues));
	ASSERT(d->queues);
	json_array_foreach(list, i, one)
	{
		struct rates_queue *q = &d->queues[d->queue_count++];

		queue_take(q, d->name, one, same(list_before, one, "connection", "queue"), seconds);
		d->oldest_ns = MAX(d->oldest_ns, q->oldest_ns);
	}
}

static void loop_take(struct rates_loop *l, const json_t *later, const json_t *before,
		      double seconds)
{
	const double busy = (double)grown(later, before, "busy_ns");
	const double all = busy + (double)grown(later, before, "idle_ns");

	*l = (struct rates_loop){
		.name = text_of(later, "name"),
		.busy_percent = all > 0 ? 100 * busy / all : -1,
		.iterations = per_second(grown(later, before, "iterations"), seconds),
		.sleeps = per_second(grown(later, before, "sleeps"), seconds),
		.enters = per_second(grown(later, before, "enters"), seconds),
		.queues = u64_of(later, "queues"),
	};
}

static void total_add(struct rates_device *total, const struct rates_device *d)
{
	for (uint32_t op = 0; op < RATES_OP_COUNT; op++) {
		total->op[op].iops += d->op[op].iops;
		total->op[op].bytes_per_s += d->op[op].bytes_per_s;
		hist_add(&total->op[op].latency, &d->op[op].latency);
	}
	total->all.iops += d->all.iops;
	total->all.bytes_per_s += d->all.bytes_per_s;
	hist_add(&total->all.latency, &d->all.latency);
	total->errors += d->errors;
	total->in_flight += d->in_flight;
	total->oldest_ns = MAX(total->oldest_ns, d->oldest_ns);
}

struct rates *rates_new(const json_t *later, const json_t *before)
{
	const json_t *devices = json_object_get(later, "devices"), *one;
	const json_t *loops = json_object_get(later, "loops");
	const json_t *devices_before = json_object_get(before, "devices");
	const json_t *loops_before = json_object_get(before, "loops");
	struct rates *r = calloc(1, sizeof(*r));
	size_t i;

	ASSERT(r);
	if (before)
		r->seconds = (double)MAX(grown(later, before, "time_ns"), 1ull) / 1e9;
	r->devices = calloc(json_array_size(devices) + 1, sizeof(*r->devices));
	r->loops = calloc(json_array_size(loops) + 1, sizeof(*r->loops));
	ASSERT(r->devices && r->loops);
	json_array_foreach(devices, i, one)
	{
		struct rates_device *d = &r->devices[r->device_count++];

		device_take(d, one, same(devices_before, one, "name", NULL), r->seconds);
		r->serving_count += !strcmp(d->state, "serving");
		total_add(&r->total, d);
	}
	json_array_foreach(loops, i, one) loop_take(
		&r->loops[r->loop_count++], one, same(loops_before, one, "name", NULL), r->seconds);
	return r;
}

void rates_free(struct rates *r)
{
	if (!r)
		return;
	for (uint32_t i = 0; i < r->device_count; i++)
		free(r->devices[i].queues);
	free(r->devices);
	free(r->loops);
	free(r);
}

/* ---- order ---- */

static double device_key(const struct rates_device *d, enum rates_sort by)
{
	switch (by) {
	case RATES_BY_IOPS:
		return d->all.iops;
	case RATES_BY_BANDWIDTH:
		return d->all.bytes_per_s;
	case RATES_BY_LATENCY:
		return (double)hist_percentile(&d->all.latency, 99000);
	case RATES_BY_ERRORS:
		return (double)d->errors_total;
	case RATES_BY_NAME:
	case RATES_SORT_COUNT:
		break;
	}
	return 0;
}

static double queue_key(const struct rates_queue *q, enum rates_sort by)
{
	switch (by) {
	case RATES_BY_LATENCY:
		return (double)q->oldest_ns;
	case RATES_BY_BANDWIDTH:
		return q->all.bytes_per_s;
	case RATES_BY_ERRORS:
		return (double)q->all.errors;
	case RATES_BY_IOPS:
		return q->requests;
	case RATES_BY_NAME:
	case RATES_SORT_COUNT:
		break;
	}
	return 0;
}

static int device_compare(const void *a, const void *b, void *arg)
{
	const struct rates_device *x = a, *y = b;
	const double kx = device_key(x, *(enum rates_sort *)arg);
	const double ky = device_key(y, *(enum rates_sort *)arg);

	return kx > ky ? -1 : kx < ky ? 1 : strcmp(x->name, y->name);
}

static int queue_compare(const void *a, const void *b, void *arg)
{
	const struct rates_queue *x = a, *y = b;
	const double kx = queue_key(x, *(enum rates_sort *)arg);
	const double ky = queue_key(y, *(enum rates_sort *)arg);

	if (kx != ky)
		return kx > ky ? -1 : 1;
	if (x->connection != y->connection)
		return x->connection < y->connection ? -1 : 1;
	return x->queue < y->queue ? -1 : x->queue > y->queue;
}

void rates_sort(struct rates *r, enum rates_sort by)
{
	qsort_r(r->devices, r->device_count, sizeof(*r->devices), device_compare, &by);
	for (uint32_t i = 0; i < r->device_count; i++)
		qsort_r(r->devices[i].queues, r->devices[i].queue_count,
			sizeof(*r->devices[i].queues), queue_compare, &by);
}
