/*
 * device_*: what SPDK has no name for, for every device of whatever kind: what is there, its
 * queues, what takes long, and the queues in hand: drained, resumed, moved to another loop.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "blk/blk.h"
#include "blk/limit.h"
#include "loop/queue_stats.h"
#include "mgmt/ctrlr.h"
#include "mgmt/framework.h"
#include "mgmt/m_bdev.h"
#include "mgmt/qos.h"
#include "mgmt/resize.h"
#include "mgmt/sections.h"
#include "mgmt/tables.h"

#define WAIT_STEP_NS 1000000ull

struct device_params {
	char *name, *unit;
	struct resize_how how;
	uint32_t queue, loop, timeout_ms, threshold_ms;
};

#define ROW(key, kind, field, need, text)                                                          \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct device_params, field),        \
		.required = need, .help = text                                                     \
	}

static const struct opts_row maybe_rows[] = {
	ROW("name", OPTS_STR, name, false, "only this device; default: all"),
};
static const struct opts_table get_devices_params = { "device_get_devices", maybe_rows, 1 };
static const struct opts_table get_queues_params = { "device_get_queues", maybe_rows, 1 };
static const struct opts_row one_rows[] = {
	ROW("name", OPTS_STR, name, true, "the device"),
};
static const struct opts_table resume_params = { "device_resume", one_rows, 1 };
static const struct opts_row resize_rows[] = {
	ROW("name", OPTS_STR, name, true, "the device"),
	ROW("unit", OPTS_STR, unit, false,
	    "with new_size: which of its disks, as device_get_devices tells it; default: the only "
	    "one"),
	RESIZE_ROWS(struct device_params, how, false),
};
static const struct opts_table resize_params = { "device_resize", resize_rows,
						 ARRAY_SIZE(resize_rows) };

#define TIMEOUT_ROW                                                                                \
	{                                                                                          \
		"timeout_ms", OPTS_U32, offsetof(struct device_params, timeout_ms), 1, 3600000,    \
			.def = "30000", .help = "after this time it is undone, and the call fails" \
	}

static const struct opts_row drain_rows[] = {
	ROW("name", OPTS_STR, name, true, "the device"),
	TIMEOUT_ROW,
};
static const struct opts_table drain_params = { "device_drain", drain_rows,
						ARRAY_SIZE(drain_rows) };
static const struct opts_row migrate_rows[] = {
	ROW("name", OPTS_STR, name, true, "the device"),
	ROW("queue", OPTS_U32, queue, true,
	    "number of the queue, of each front-end; NVMe: identifier of the completion queue"),
	ROW("loop", OPTS_U32, loop, true, "number of the data loop"),
	TIMEOUT_ROW,
};
static const struct opts_table migrate_params = { "device_migrate_queue", migrate_rows,
						  ARRAY_SIZE(migrate_rows) };

/* NULL: the call was answered. */
static struct device *find(struct rpc_call *call, const char *name)
{
	struct err err = { 0 };
	struct device *dev = ctrlr_find("name", name, CTRLR_ALL_KINDS, &err);

	if (!dev)
		ctrlr_fail(call, -ENODEV, &err);
	return dev;
}

/* Of all devices, or of the one that is named. Answers. */
static void each(struct rpc_call *call, const char *name, json_t *(*fn)(struct device *dev))
{
	struct device *dev = name ? find(call, name) : devices_next(NULL);
	json_t *list;

	if (name && !dev)
		return;
	list = json_array();
	for (; dev; dev = name ? NULL : devices_next(dev))
		json_array_append_new(list, fn(dev));
	rpc_result(call, list);
}

/* ---- what there is ---- */

struct disks {
	const struct device *dev;
	json_t *list;
};

static void disk_json(const char *unit, const struct blk_dev *blk, void *arg)
{
	const struct blk_caps *caps = blk_dev_caps(blk);
	struct disks *disks = arg;

	json_array_append_new(disks->list,
			      json_pack("{s:s, s:I, s:I, s:b}", "unit", unit, "size_bytes",
					(json_int_t)caps->size_bytes, "block_size",
					(json_int_t)caps->block_bytes, "readonly",
					caps->read_only || disks->dev->def->back.read_only));
}

static json_t *device_json(struct device *dev)
{
	const struct device_def *def = dev->def;
	struct disks disks = { .dev = dev, .list = json_array() };
	char mask[80];

	device_disks_visit(dev, disk_json, &disks);
	return json_pack("{s:o, s:s, s:s, s:o, s:s, s:b, s:b, s:o, s:I, s:o, s:o, s:o*}", "name",
			 ctrlr_text(def->name), "type", def->type->name, "transport",
			 device_transport_names[def->transport], "socket", ctrlr_text(def->socket),
			 "cpumask", devices_mask_text(dev, mask, sizeof(mask)), "started",
			 dev->ep != NULL, "from_command_line", ctrlr_of(dev) == NULL,
			 "assigned_rate_limits", qos_json(device_limits_get(dev)),
			 "waiting_for_limits", (json_int_t)blk_limits_waiting(dev->limits),
			 "sessions", ctrlr_sessions_json(dev), "disks", disks.list, "targets",
			 def->type == &device_scsi ? ctrlr_targets_json(dev) : NULL);
}

static void get_devices(struct rpc_call *call, void *params)
{
	each(call, ((const struct device_params *)params)->name, device_json);
}

/* -1: none of ours. */
static int loop_number(const char *name)
{
	const struct framework *f = framework_get();

	for (uint32_t i = 0; name && i < *f->loop_count; i++)
		if (!strcmp(loop_name(f->loops[i]), name))
			return (int)i;
	return -1;
}

static void queue_json(const struct queue_stats *q, void *queues)
{
	const int loop = loop_number(q->loop);

	json_array_append_new(
		queues,
		json_pack("{s:i, s:i, s:s, s:s, s:o, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
			  "s:I}",
			  "session", (int)q->conn, "queue", (int)q->idx, "kind", q->kind, "state",
			  queue_state_names[q->state], "loop",
			  loop < 0 ? json_null() : json_integer(loop), "size", (int)q->size,
			  "in_flight", (int)q->in_flight, "oldest_us",
			  (json_int_t)(q->oldest_ns / 1000), "requests", (json_int_t)q->requests,
			  "publishes", (json_int_t)q->publishes, "notifications_sent",
			  (json_int_t)q->interrupts, "notifications_suppressed",
			  (json_int_t)q->interrupts_suppressed, "kicks", (json_int_t)q->kicks,
			  "kick_errors", (json_int_t)q->kick_errors, "empty_polls",
			  (json_int_t)q->polls[0]));
}

static json_t *queues_json(struct device *dev)
{
	json_t *queues = json_array();

	device_queues_visit(dev, queue_json, queues);
	return json_pack("{s:o, s:o}", "name", ctrlr_text(dev->def->name), "queues", queues);
}

static void get_queues(struct rpc_call *call, void *params)
{
	each(call, ((const struct device_params *)params)->name, queues_json);
}

/* The disk that is named, or the only one. */
static int resize_find(const struct device *dev, const char *unit, struct resize_disk *ret_disk,
		       char *buf, size_t size, struct err *reterr)
{
	*ret_disk = (struct resize_disk){ .name = dev->def->name, .unit = buf };
	return ctrlr_disk_find(dev, unit, buf, size, &ret_disk->node, reterr);
}

/* Without a size: those of all its disks are looked at again. */
static void resize(struct rpc_call *call, void *params)
{
	const struct device_params *p = params;
	struct device *dev = find(call, p->name);
	struct resize_disk disk = { 0 };
	struct err err = { 0 };
	char unit[32];
	int rc = 0;

	if (!dev)
		return;
	if (p->how.new_size)
		rc = resize_find(dev, p->unit, &disk, unit, sizeof(unit), &err);
	else if (p->unit || p->how.allocate || p->how.force)
		rc = err_set(&err, -EINVAL, "new_size: missing: unit, allocate and force need it");
	else
		rc = device_rescan(dev, &err);
	if (rc < 0)
		ctrlr_fail(call, rc, &err);
	else if (!p->how.new_size)
		rpc_result_saved(call, json_true());
	else if (bdev_of(disk.node))
		m_bdev_resize_answer(call, bdev_of(disk.node), &p->how);
	else
		resize_answer(call, &disk, &p->how, NULL);
}

/* ---- queues in hand ---- */

/* A call that waits for its device, which may go meanwhile. */
struct wait {
	struct rpc_call *call;
	char *name;
	struct loop_timer timer;
	uint64_t until_ns;
	struct loop *loop; /* of migrate; NULL: drain */
	uint32_t queue;
	bool pending; /* set by what is looked at */
};

static void wait_queue_look(const struct queue_stats *q, void *arg)
{
	struct wait *w = arg;

	if (q->idx != w->queue)
		return;
	if (q->state == QUEUE_CHANGING || (q->loop && strcmp(q->loop, loop_name(w->loop)) != 0))
		w->pending = true;
}

static bool wait_is_over(struct wait *w, const struct device *dev)
{
	if (!w->loop)
		return device_is_drained(dev);
	w->pending = false;
	device_queues_visit(dev, wait_queue_look, w);
	return !w->pending;
}

static void wait_end(struct wait *w, int rc, struct err *err)
{
	if (rc < 0)
		ctrlr_fail(w->call, rc, err);
	else
		rpc_result_true(w->call);
	free(w->name);
	free(w);
}

static void wait_on_timer(struct loop_timer *t)
{
	struct wait *w = container_of(t, struct wait, timer);
	struct device *dev = devices_find(w->name);
	struct err err = { 0 };
	int rc = 0;

	if (!dev) {
		rc = err_set(&err, -ENODEV, "name: '%.64s' was removed meanwhile", w->name);
	} else if (!wait_is_over(w, dev)) {
		if (loop_clock_ns() < w->until_ns) {
			loop_timer_start(framework_get()->main_loop, t,
					 loop_clock_ns() + WAIT_STEP_NS);
			return;
		}
		if (!w->loop)
			device_drain(dev, false, NULL);
		rc = err_set(&err, -ETIMEDOUT,
			     "timeout_ms: requests of '%.64s' have not ended in time%s; see "
			     "device_get_queues",
			     w->name, w->loop ? "" : ", it goes on");
	}
	wait_end(w, rc, &err);
}

static void wait_begin(struct rpc_call *call, const struct device_params *p, struct loop *loop)
{
	struct wait *w = calloc(1, sizeof(*w));
	char *name = w ? strdup(p->name) : NULL;

	if (!name) {
		free(w);
		rpc_error(call, RPC_INTERNAL_ERROR, "out of memory");
		return;
	}
	*w = (struct wait){ .call = call, .name = name, .loop = loop, .queue = p->queue };
	w->until_ns = loop_clock_ns() + p->timeout_ms * 1000000ull;
	loop_timer_init(&w->timer, wait_on_timer);
	wait_on_timer(&w->timer);
}

static void drain(struct rpc_call *call, void *params)
{
	const struct device_params *p = params;
	struct device *dev = find(call, p->name);
	struct err err = { 0 };
	int rc;

	if (!dev)
		return;
	rc = device_drain(dev, true, &err);
	if (rc < 0)
		ctrlr_fail(call, rc, &err);
	else
		wait_begin(call, p, NULL);
}

static void resume(struct rpc_call *call, void *params)
{
	struct device *dev = find(call, ((const struct device_params *)params)->name);
	struct err err = { 0 };
	int rc;

	if (!dev)
		return;
	rc = device_drain(dev, false, &err);
	if (rc < 0)
		ctrlr_fail(call, rc, &err);
	else
		rpc_result_true(call);
}

static int migrate_start(struct device *dev, const struct device_params *p, struct loop **ret_loop,
			 struct err *reterr)
{
	const struct framework *f = framework_get();

	if (p->loop >= *f->loop_count)
		return err_set(reterr, -ERANGE, "loop: expected 0..%u, got %u", *f->loop_count - 1,
			       p->loop);
	*ret_loop = f->loops[p->loop];
	for (uint32_t i = 0; i < dev->loop_count; i++)
		if (dev->loops[i] == *ret_loop)
			return device_queue_move(dev, p->queue, *ret_loop, reterr);
	return err_set(reterr, dev->ep ? -EPERM : -ENOTCONN, "loop: %u is not in the cpumask of %s",
		       p->loop, dev->def->name);
}

static void migrate_queue(struct rpc_call *call, void *params)
{
	const struct device_params *p = params;
	struct device *dev = find(call, p->name);
	struct err err = { 0 };
	struct loop *loop;
	int rc;

	if (!dev)
		return;
	rc = migrate_start(dev, p, &loop, &err);
	if (rc < 0)
		ctrlr_fail(call, rc, &err);
	else
		wait_begin(call, p, loop);
}

/* ---- what takes long ---- */

#define SLOW_MAX	  64
#define SLOW_NAME	  64
#define SLOW_LOOK_MIN_NS  5000000ull
#define SLOW_SAME_NS	  2000000ull /* of one request, begun at one time, seen twice */
#define SLOW_THRESHOLD_MS 600000

struct slow_request {
	char name[SLOW_NAME];
	uint32_t session, queue;
	uint64_t begin_ns, age_ns;
};

static struct {
	uint64_t threshold_ns; /* 0: nothing is looked for */
	struct loop_timer timer;
	struct slow_request seen[SLOW_MAX]; /* the newest */
	uint64_t count;			    /* of all */
	struct log_limit limit;
} slow;

struct slow_look {
	const char *name;
	uint64_t now_ns;
};

static struct slow_request *slow_find(const struct slow_look *look, const struct queue_stats *q)
{
	const uint64_t begin_ns = look->now_ns - q->oldest_ns;

	for (uint64_t i = slow.count > SLOW_MAX ? slow.count - SLOW_MAX : 0; i < slow.count; i++) {
		struct slow_request *r = &slow.seen[i % SLOW_MAX];

		if (r->session == q->conn && r->queue == q->idx &&
		    r->begin_ns < begin_ns + SLOW_SAME_NS &&
		    begin_ns < r->begin_ns + SLOW_SAME_NS && !strcmp(r->name, look->name))
			return r;
	}
	return NULL;
}

static void slow_queue_look(const struct queue_stats *q, void *arg)
{
	const struct slow_look *look = arg;
	struct slow_request *r;

	if (q->oldest_ns < slow.threshold_ns)
		return;
	r = slow_find(look, q);
	if (!r) {
		r = &slow.seen[slow.count++ % SLOW_MAX];
		*r = (struct slow_request){ .session = q->conn,
					    .queue = q->idx,
					    .begin_ns = look->now_ns - q->oldest_ns };
		snprintf(r->name, sizeof(r->name), "%s", look->name);
		log_limited(&slow.limit, LOG_WARNING,
			    "%s: queue %u: a request takes %llu ms so far, %u are in flight",
			    look->name, q->idx, (unsigned long long)(q->oldest_ns / 1000000),
			    q->in_flight);
	}
	r->age_ns = q->oldest_ns;
}

static void slow_on_timer(struct loop_timer *t)
{
	struct slow_look look = { .now_ns = loop_clock_ns() };
	uint64_t every_ns = slow.threshold_ns / 4;

	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev)) {
		char name[SLOW_NAME];

		snprintf(name, sizeof(name), "%s", dev->def->name);
		look.name = name;
		device_queues_visit(dev, slow_queue_look, &look);
	}
	if (every_ns < SLOW_LOOK_MIN_NS)
		every_ns = SLOW_LOOK_MIN_NS;
	loop_timer_start(framework_get()->main_loop, t, look.now_ns + every_ns);
}

static const struct opts_row slow_rows[] = {
	{ "threshold_ms", OPTS_U32, offsetof(struct device_params, threshold_ms), 0,
	  SLOW_THRESHOLD_MS, .help = "requests older than this are logged; 0: none",
	  .required = true },
};
static const struct opts_table slow_params = { "device_set_slow_threshold", slow_rows, 1 };

static void set_slow_threshold(struct rpc_call *call, void *params)
{
	const struct device_params *p = params;

	if (!slow.timer.fn) {
		loop_timer_init(&slow.timer, slow_on_timer);
		slow.limit = LOG_LIMIT_DEFAULT;
	}
	loop_timer_stop(&slow.timer);
	slow.threshold_ns = p->threshold_ms * 1000000ull;
	if (slow.threshold_ns)
		slow_on_timer(&slow.timer);
	rpc_result_saved(call, json_true());
}

static void write_slow(json_t *calls, const void *obj)
{
	ctrlr_write_call(
		calls, "device_set_slow_threshold",
		json_pack("{s:I}", "threshold_ms", (json_int_t)(slow.threshold_ns / 1000000)));
}

void m_device_write(struct section_out *out)
{
	if (slow.threshold_ns)
		section_object(out, NULL, 0, write_slow, NULL);
	m_device_disk_write(out);
}

static void get_slow_requests(struct rpc_call *call, void *params)
{
	json_t *list = json_array();

	for (uint64_t i = slow.count > SLOW_MAX ? slow.count - SLOW_MAX : 0; i < slow.count; i++) {
		const struct slow_request *r = &slow.seen[i % SLOW_MAX];

		json_array_append_new(list, json_pack("{s:o, s:i, s:i, s:I, s:I}", "name",
						      ctrlr_text(r->name), "session",
						      (int)r->session, "queue", (int)r->queue,
						      "age_ms", (json_int_t)(r->age_ns / 1000000),
						      "id", (json_int_t)i));
	}
	rpc_result(call, json_pack("{s:I, s:o}", "threshold_ms",
				   (json_int_t)(slow.threshold_ns / 1000000), "requests", list));
}

#define METHOD(name, table, flags, fn, help, result)                                               \
	{                                                                                          \
		name, NULL, table, sizeof(struct device_params), flags, RPC_INVALID_PARAMS, fn,    \
			help, result                                                               \
	}

const struct rpc_method m_device[] = {
	METHOD("device_get_devices", &get_devices_params, RPC_READS, get_devices,
	       "all devices, whoever made them",
	       "[{name, type, transport, socket, cpumask, started, from_command_line, "
	       "assigned_rate_limits{rw_ios_per_sec ...}, waiting_for_limits, "
	       "sessions[{vid, id, name, started, max_queues, inflight_task_cnt, state}], "
	       "disks[{unit, size_bytes, block_size, readonly}], and of scsi devices "
	       "targets[{scsi_dev_num, id, target_name, luns[{id, bdev_name}]}]}]"),
	METHOD("device_get_queues", &get_queues_params, RPC_READS, get_queues,
	       "what is counted of each queue, and the age of its oldest request in flight",
	       "[{name, queues[{session, queue, kind, state, loop, size, in_flight, oldest_us, "
	       "requests, publishes, notifications_sent, notifications_suppressed, kicks, "
	       "kick_errors, empty_polls}]}]"),
	METHOD("device_resize", &resize_params, RPC_SAVES, resize,
	       "looks at the sizes of its disks again, or gives one of them another; guests are "
	       "told",
	       "true; with allocate, what job_wait tells of the job"),
	METHOD("device_drain", &drain_params, 0, drain,
	       "takes no more requests, and answers when those under way have ended; admin queues "
	       "of "
	       "NVMe controllers go on",
	       "true"),
	METHOD("device_resume", &resume_params, 0, resume, "after device_drain: goes on", "true"),
	METHOD("device_migrate_queue", &migrate_params, 0, migrate_queue,
	       "moves a queue to another data loop; requests under way end first", "true"),
	METHOD("device_set_slow_threshold", &slow_params, RPC_SAVES, set_slow_threshold,
	       "logs requests that take longer", "true"),
	{ "device_get_slow_requests", .flags = RPC_READS, .run = get_slow_requests,
	  .help = "the last of these: at most 64",
	  .result = "{threshold_ms, requests[{name, session, queue, age_ms, id}]}" },
	{ NULL },
};
