/*
 * Requests that take long: those that have ended, of which blk/tally.h tells each, with all that is
 * known of it; and those that are still under way, which a timer finds: it looks at the oldest
 * request of each queue, four times in the threshold. One that was found under way and then ends is
 * one entry.
 *
 * The newest SLOW_MAX are kept. However many there are, only so many in a time are kept, and fewer
 * become lines of the log and events; the others are counted.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/log.h"
#include "base/num.h"
#include "blk/tally.h"
#include "loop/queue_stats.h"
#include "mgmt/ctrlr.h"
#include "mgmt/framework.h"
#include "mgmt/sections.h"
#include "mgmt/tables.h"

#define SLOW_MAX	  64
#define SLOW_LOOK_MIN_NS  5000000ull
#define SLOW_SAME_NS	  2000000ull /* of one request, begun at one time, seen twice */
#define SLOW_THRESHOLD_MS 600000
#define SLOW_KEEP_EACH_NS 100000000ull /* at most SLOW_MAX are kept in this time */
#define SLOW_TELL_MAX	  8	       /* events in ... */
#define SLOW_TELL_EACH_NS 1000000000ull
#define NS_PER_MS	  1000000ull
#define SESSION_UNKNOWN	  UINT32_MAX

struct slow_request {
	char name[BLK_TALLY_NAME_BYTES];
	uint32_t session; /* SESSION_UNKNOWN: its queue was gone when it was told of */
	uint32_t queue;
	uint64_t begin_ns, age_ns; /* CLOCK_MONOTONIC; so far, or until it ended */
	bool ended;		   /* the rest is known */
	struct blk_slow blk;
};

/* So many in a time. */
struct slow_budget {
	uint64_t until_ns;
	uint32_t used;
};

static struct {
	uint64_t threshold_ns; /* 0: nothing is looked for */
	struct loop_timer timer;
	struct slow_request seen[SLOW_MAX]; /* the newest */
	uint64_t count;			    /* of all that were kept */
	uint64_t missed;		    /* of all that were not */
	struct slow_budget keep, tell;
	struct log_limit limit;
} slow;

static bool budget_take(struct slow_budget *b, uint32_t max, uint64_t each_ns)
{
	const uint64_t now_ns = loop_clock_ns();

	if (now_ns >= b->until_ns)
		*b = (struct slow_budget){ .until_ns = now_ns + each_ns };
	if (b->used >= max)
		return false;
	b->used++;
	return true;
}

/* The first that is kept. */
static uint64_t slow_first(void)
{
	return slow.count > SLOW_MAX ? slow.count - SLOW_MAX : 0;
}

/* One of that queue, found under way, that began about then; NULL: none. */
static struct slow_request *slow_find(const char *name, uint32_t session, uint32_t queue,
				      uint64_t begin_ns)
{
	for (uint64_t i = slow_first(); i < slow.count; i++) {
		struct slow_request *r = &slow.seen[i % SLOW_MAX];

		if (!r->ended && r->session == session && r->queue == queue &&
		    r->begin_ns < begin_ns + SLOW_SAME_NS &&
		    begin_ns < r->begin_ns + SLOW_SAME_NS && !strcmp(r->name, name))
			return r;
	}
	return NULL;
}

static struct slow_request *slow_add(const char *name, uint32_t session, uint32_t queue,
				     uint64_t begin_ns)
{
	struct slow_request *r = &slow.seen[slow.count++ % SLOW_MAX];

	*r = (struct slow_request){ .session = session, .queue = queue, .begin_ns = begin_ns };
	snprintf(r->name, sizeof(r->name), "%s", name);
	return r;
}

static void slow_tell(const struct slow_request *r)
{
	const unsigned long long ms = r->age_ns / NS_PER_MS;
	char what[128], ctx[256];

	if (r->ended)
		snprintf(what, sizeof(what), "%s of %llu bytes at %llu took %llu ms: %s",
			 blk_op_name((enum blk_op)r->blk.op), (unsigned long long)r->blk.len_bytes,
			 (unsigned long long)r->blk.offset_bytes, ms,
			 blk_status_name((enum blk_status)r->blk.status));
	else
		snprintf(what, sizeof(what), "a request takes %llu ms so far", ms);
	snprintf(ctx, sizeof(ctx), "%.64s: queue %u: %s", r->name, r->queue, what);
	log_limited(&slow.limit, LOG_WARNING, "%s", ctx);
	if (budget_take(&slow.tell, SLOW_TELL_MAX, SLOW_TELL_EACH_NS))
		rpc_notify("vhost_slow", ctx);
}

/* ---- those that have ended ---- */

struct session_look {
	const struct blk_tally *tally;
	uint32_t session;
};

static void session_queue_look(const struct queue_stats *q, void *arg)
{
	struct session_look *look = arg;

	if (q->tally == look->tally)
		look->session = q->conn;
}

static uint32_t session_of(const struct blk_tally *tally, const char *name)
{
	struct session_look look = { .tally = tally, .session = SESSION_UNKNOWN };

	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev))
		if (!strncmp(dev->def->name, name, BLK_TALLY_NAME_BYTES - 1))
			device_queues_visit(dev, session_queue_look, &look);
	return look.session;
}

static void slow_on_noted(const struct blk_tally *tally, const char *name, uint32_t queue,
			  const struct blk_slow *blk)
{
	struct slow_request *r;
	uint32_t session;

	if (!slow.threshold_ns)
		return;
	if (!budget_take(&slow.keep, SLOW_MAX, SLOW_KEEP_EACH_NS)) {
		slow.missed++;
		return;
	}
	session = session_of(tally, name);
	r = slow_find(name, session, queue, blk->start_ns);
	if (!r)
		r = slow_add(name, session, queue, blk->start_ns);
	r->ended = true;
	r->age_ns = blk->took_ns;
	r->blk = *blk;
	slow_tell(r);
}

static void slow_on_missed(uint64_t count)
{
	slow.missed += count;
}

static const struct blk_slow_watcher slow_watcher = { slow_on_noted, slow_on_missed };

/* ---- those that are under way ---- */

struct slow_look {
	char name[BLK_TALLY_NAME_BYTES];
	uint64_t now_ns;
};

static void slow_queue_look(const struct queue_stats *q, void *arg)
{
	const struct slow_look *look = arg;
	const uint64_t begin_ns = look->now_ns - q->oldest_ns;
	struct slow_request *r;

	if (q->oldest_ns < slow.threshold_ns)
		return;
	r = slow_find(look->name, q->conn, q->idx, begin_ns);
	if (r) {
		r->age_ns = q->oldest_ns;
		return;
	}
	if (!budget_take(&slow.keep, SLOW_MAX, SLOW_KEEP_EACH_NS)) {
		slow.missed++;
		return;
	}
	r = slow_add(look->name, q->conn, q->idx, begin_ns);
	r->age_ns = q->oldest_ns;
	slow_tell(r);
}

static void slow_on_timer(struct loop_timer *t)
{
	struct slow_look look = { .now_ns = loop_clock_ns() };

	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev)) {
		snprintf(look.name, sizeof(look.name), "%s", dev->def->name);
		device_queues_visit(dev, slow_queue_look, &look);
	}
	loop_timer_start(framework_get()->main_loop, t,
			 look.now_ns + MAX(slow.threshold_ns / 4, SLOW_LOOK_MIN_NS));
}

/* ---- methods ---- */

struct slow_params {
	uint32_t threshold_ms;
};

static const struct opts_row slow_rows[] = {
	{ "threshold_ms", OPTS_U32, offsetof(struct slow_params, threshold_ms), 0,
	  SLOW_THRESHOLD_MS, .help = "requests that take longer are noted; 0: none",
	  .required = true },
};
static const struct opts_table slow_params = { "device_set_slow_threshold", slow_rows, 1 };

static void set_slow_threshold(struct rpc_call *call, void *params)
{
	struct loop *main_loop = framework_get()->main_loop;
	const struct slow_params *p = params;

	if (!slow.timer.fn) {
		loop_timer_init(&slow.timer, slow_on_timer);
		slow.limit = LOG_LIMIT_DEFAULT;
	}
	loop_timer_stop(&slow.timer);
	slow.threshold_ns = p->threshold_ms * NS_PER_MS;
	blk_slow_watch(slow.threshold_ns ? slow.threshold_ns : UINT64_MAX, main_loop,
		       &slow_watcher);
	if (slow.threshold_ns)
		slow_on_timer(&slow.timer);
	rpc_result_saved(call, json_true());
}

static void write_slow(json_t *calls, const void *obj)
{
	ctrlr_write_call(
		calls, "device_set_slow_threshold",
		json_pack("{s:I}", "threshold_ms", (json_int_t)(slow.threshold_ns / NS_PER_MS)));
}

void m_device_write(struct section_out *out)
{
	if (slow.threshold_ns)
		section_object(out, NULL, 0, write_slow, NULL);
	m_device_disk_write(out);
}

/* When it began, in UTC: "2026-01-31T12:00:00.123Z". */
static json_t *began_json(const struct slow_request *r)
{
	const uint64_t ago_ns = loop_clock_ns() - r->begin_ns;
	char text[48];
	struct timespec now;
	uint64_t ms;
	time_t seconds;
	struct tm tm;
	size_t len;

	clock_gettime(CLOCK_REALTIME, &now);
	ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS - ago_ns / NS_PER_MS;
	seconds = (time_t)(ms / 1000);
	gmtime_r(&seconds, &tm);
	len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + len, sizeof(text) - len, ".%03uZ", (unsigned int)(ms % 1000));
	return json_string(text);
}

static json_t *request_json(const struct slow_request *r, uint64_t id)
{
	json_t *o = json_pack(
		"{s:o, s:o, s:i, s:s, s:o, s:I, s:I}", "name", ctrlr_text(r->name), "session",
		r->session == SESSION_UNKNOWN ? json_null() : json_integer(r->session), "queue",
		(int)r->queue, "state", r->ended ? "ended" : "in_flight", "began", began_json(r),
		"age_ms", (json_int_t)(r->age_ns / NS_PER_MS), "id", (json_int_t)id);

	if (!r->ended)
		return o;
	json_object_set_new(o, "operation", json_string(blk_op_name((enum blk_op)r->blk.op)));
	json_object_set_new(o, "offset_bytes", json_integer((json_int_t)r->blk.offset_bytes));
	json_object_set_new(o, "length_bytes", json_integer((json_int_t)r->blk.len_bytes));
	json_object_set_new(o, "status",
			    json_string(blk_status_name((enum blk_status)r->blk.status)));
	return o;
}

static void get_slow_requests(struct rpc_call *call, void *params)
{
	json_t *list = json_array();

	for (uint64_t i = slow_first(); i < slow.count; i++)
		json_array_append_new(list, request_json(&slow.seen[i % SLOW_MAX], i));
	rpc_result(call, json_pack("{s:I, s:I, s:I, s:o}", "threshold_ms",
				   (json_int_t)(slow.threshold_ns / NS_PER_MS), "count",
				   (json_int_t)slow.count, "missed", (json_int_t)slow.missed,
				   "requests", list));
}

const struct rpc_method m_device_slow[] = {
	{ "device_set_slow_threshold", NULL, &slow_params, sizeof(struct slow_params), RPC_SAVES,
	  RPC_INVALID_PARAMS, set_slow_threshold,
	  "notes requests that take longer: in the log, as events (vhost_slow), for "
	  "device_get_slow_requests",
	  "true" },
	{ "device_get_slow_requests", .flags = RPC_READS, .run = get_slow_requests,
	  .help = "the last of these: at most 64; what is known of one that has ended is more",
	  .result = "{threshold_ms, count, missed, requests[{name, session, queue, state, began, "
		    "age_ms, id, operation, offset_bytes, length_bytes, status}]}" },
	{ NULL },
};
