/*
 * device_get_stats: everything that is counted of the devices, their disks and queues, and of the
 * loops, in one answer: whoever shows rates asks twice and subtracts. Counters begin when their
 * object does: one that went back belongs to a new one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "blk/blk.h"
#include "blk/tally.h"
#include "dev/device.h"
#include "dev/devices.h"
#include "loop/loop.h"
#include "loop/queue_stats.h"
#include "mgmt/framework.h"
#include "mgmt/m_device.h"
#include "mgmt/tables.h"

struct stats_params {
	char *name;
};

static const struct opts_row stats_rows[] = {
	{ "name", OPTS_STR, offsetof(struct stats_params, name),
	  .help = "only this device; default: all" },
};
static const struct opts_table stats_table = { "device_get_stats", stats_rows,
					       ARRAY_SIZE(stats_rows) };

/* ---- loops ---- */

static json_t *loop_json(const struct loop *loop)
{
	struct loop_stats s;

	loop_stats_get(loop, &s);
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "name", loop_name(loop),
			 "busy_ns", (json_int_t)s.busy_ns, "idle_ns", (json_int_t)s.idle_ns,
			 "iterations", (json_int_t)s.iterations, "sleeps", (json_int_t)s.sleeps,
			 "enters", (json_int_t)s.enters, "queues", (json_int_t)s.sources, "asleep",
			 (int)s.asleep);
}

static json_t *loops_json(void)
{
	const struct framework *f = framework_get();
	json_t *loops = json_array();

	for (uint32_t i = 0; i < *f->loop_count; i++)
		json_array_append_new(loops, loop_json(f->loops[i]));
	json_array_append_new(loops, loop_json(f->main_loop));
	return loops;
}

/* ---- disks ---- */

/* Without the zeroes at its end. */
static json_t *counts_json(const uint64_t *counts, size_t count)
{
	json_t *list = json_array();

	while (count && !counts[count - 1])
		count--;
	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, json_integer((json_int_t)counts[i]));
	return list;
}

/* By cause, those that never were left out. */
static json_t *errors_json(const uint64_t *errors)
{
	json_t *o = json_object();

	for (int st = BLK_ST_OK + 1; st < BLK_ST_COUNT; st++)
		if (errors[st])
			json_object_set_new(o, blk_status_name((enum blk_status)st),
					    json_integer((json_int_t)errors[st]));
	return o;
}

json_t *m_device_ops_json(const struct blk_stats *s)
{
	json_t *ops = json_object(), *unknown = errors_json(s->errors[BLK_OP_COUNT]);

	for (int op = 0; op < BLK_OP_COUNT; op++) {
		if (!s->ops[op])
			continue;
		json_object_set_new(
			ops, blk_op_name((enum blk_op)op),
			json_pack("{s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "ops",
				  (json_int_t)s->ops[op], "bytes", (json_int_t)s->bytes[op],
				  "latency_ns", (json_int_t)s->latency_ns[op], "min_ns",
				  (json_int_t)s->min_ns[op], "max_ns", (json_int_t)s->max_ns[op],
				  "histogram", counts_json(s->hist[op], BLK_HIST_BUCKETS), "errors",
				  errors_json(s->errors[op])));
	}
	if (json_object_size(unknown))
		json_object_set_new(ops, blk_op_name(BLK_OP_COUNT),
				    json_pack("{s:O}", "errors", unknown));
	json_decref(unknown);
	return ops;
}

json_t *m_device_tally_json(const struct blk_tally *tally)
{
	struct blk_stats s;

	if (!tally)
		return json_object();
	blk_tally_stats(tally, &s);
	return m_device_ops_json(&s);
}

static void disk_append(const char *unit, const struct blk_dev *blk, void *disks)
{
	uint64_t errors[BLK_ST_COUNT];
	struct blk_stats s;

	blk_dev_stats(blk, &s);
	for (int st = 0; st < BLK_ST_COUNT; st++)
		errors[st] = blk_stats_errors(&s, (enum blk_status)st);
	json_array_append_new(disks,
			      json_pack("{s:s, s:I, s:o, s:o}", "unit", unit, "in_flight",
					(json_int_t)s.in_flight, "operations",
					m_device_ops_json(&s), "errors", errors_json(errors)));
}

/* ---- queues ---- */

static void queue_append(const struct queue_stats *q, void *queues)
{
	if (q->state == QUEUE_STOPPED) /* most of those that a device could have never are */
		return;
	json_array_append_new(
		queues,
		json_pack("{s:I, s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I,"
			  " s:I, s:o, s:o}",
			  "connection", (json_int_t)q->conn, "queue", (json_int_t)q->idx, "kind",
			  q->kind, "state", queue_state_names[q->state], "loop",
			  q->loop ? q->loop : "", "size", (json_int_t)q->size, "in_flight",
			  (json_int_t)q->in_flight, "oldest_ns", (json_int_t)q->oldest_ns,
			  "requests", (json_int_t)q->requests, "publishes",
			  (json_int_t)q->publishes, "interrupts", (json_int_t)q->interrupts,
			  "interrupts_suppressed", (json_int_t)q->interrupts_suppressed, "kicks",
			  (json_int_t)q->kicks, "kick_errors", (json_int_t)q->kick_errors, "arms",
			  (json_int_t)q->arms, "polls", counts_json(q->polls, QUEUE_BATCH_MAX + 1),
			  "operations", m_device_tally_json(q->tally)));
}

static void queue_seek_running(const struct queue_stats *q, void *running)
{
	*(bool *)running |= q->state == QUEUE_RUNNING;
}

static json_t *device_json(const struct device *dev)
{
	json_t *disks = json_array(), *queues = json_array();
	struct device_conns conns;
	bool running = false;

	device_conns_get(dev, &conns);
	device_disks_visit(dev, disk_append, disks);
	device_queues_visit(dev, queue_append, queues);
	device_queues_visit(dev, queue_seek_running, &running);
	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:o, s:o}", "name", dev->def->name,
			 "type", dev->def->type->name, "transport",
			 device_transport_names[dev->def->transport], "state",
			 running     ? "serving"
			 : conns.now ? "connected"
				     : "disconnected",
			 "connections", (json_int_t)conns.now, "accepted",
			 (json_int_t)conns.accepted, "reconnects", (json_int_t)conns.reconnects,
			 "disks", disks, "queues", queues);
}

static void get_stats(struct rpc_call *call, void *params)
{
	const struct stats_params *p = params;
	json_t *devices = json_array();

	if (p->name && !devices_find(p->name)) {
		json_decref(devices);
		rpc_error(call, -ENODEV, "name: no device '%.128s'", p->name);
		return;
	}
	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev))
		if (!p->name || !strcmp(dev->def->name, p->name))
			json_array_append_new(devices, device_json(dev));
	rpc_result(call, json_pack("{s:I, s:o, s:o}", "time_ns", (json_int_t)loop_clock_ns(),
				   "loops", loops_json(), "devices", devices));
}

const struct rpc_method m_device_stats[] = {
	{ "device_get_stats", .params = &stats_table, .params_bytes = sizeof(struct stats_params),
	  .flags = RPC_READS, .run = get_stats,
	  .help = "what is counted of devices, disks, queues and loops; histogram[i]: requests "
		  "that took 2^i to 2^(i+1) ns",
	  .result = "{time_ns, loops[{name, busy_ns, idle_ns, ...}], devices[{name, type, "
		    "transport, state, connections, accepted, reconnects, disks[{unit, in_flight, "
		    "operations{read{ops, bytes, latency_ns, min_ns, max_ns, histogram[], "
		    "errors{}}, ...}, errors{}}], queues[{connection, queue, kind, state, loop, "
		    "size, in_flight, "
		    "oldest_ns, requests, publishes, interrupts, interrupts_suppressed, kicks, "
		    "kick_errors, arms, polls[], operations{}}]}]}" },
	{ NULL },
};
