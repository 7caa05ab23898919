/*
 * framework_get_reactors, the scheduler's methods and thread_*: the loops. A loop is what SPDK has
 * as a reactor and a thread on it: the data loops are lcore 0 and up, the main loop is the last.
 * Times are nanoseconds, so the tick rate is 1,000,000,000.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "mgmt/framework.h"
#include "mgmt/tables.h"

#define TICK_RATE	  1000000000
#define MAIN_ID		  1	       /* thread ids: the main loop, then the data loops */
#define MAIN_THREAD	  "app_thread" /* SPDK's name */
#define CPUMASK_HEX	  (CPU_SETSIZE / 4)
#define SWITCHES_EVERY_NS 1000000000ull

static uint32_t reactor_count(void)
{
	return framework_get()->loop_count ? *framework_get()->loop_count + 1 : 0;
}

static const struct loop *reactor(uint32_t lcore)
{
	const struct framework *f = framework_get();

	return lcore < *f->loop_count ? f->loops[lcore] : f->main_loop;
}

static bool reactor_is_main(uint32_t lcore)
{
	return lcore == *framework_get()->loop_count;
}

static uint32_t reactor_thread_id(uint32_t lcore)
{
	return reactor_is_main(lcore) ? MAIN_ID : MAIN_ID + 1 + lcore;
}

uint32_t framework_thread_id(const struct loop *loop)
{
	for (uint32_t lcore = 0; lcore < reactor_count(); lcore++)
		if (reactor(lcore) == loop)
			return reactor_thread_id(lcore);
	return 0;
}

static const char *reactor_thread_name(uint32_t lcore)
{
	return reactor_is_main(lcore) ? MAIN_THREAD : loop_name(reactor(lcore));
}

/* ---- what the kernel knows of a thread ---- */

/* The CPUs it may run on, as SPDK writes masks: hexadecimal without 0x. */
static const char *cpumask_text(int tid, char text[CPUMASK_HEX + 1])
{
	cpu_set_t set;
	size_t len = 0;

	CPU_ZERO(&set);
	if (sched_getaffinity(tid, sizeof(set), &set) < 0)
		CPU_ZERO(&set);
	for (int digit = CPUMASK_HEX - 1; digit >= 0; digit--) {
		int v = 0;

		for (int bit = 0; bit < 4; bit++)
			v |= CPU_ISSET(4 * digit + bit, &set) ? 1 << bit : 0;
		if (len || v || !digit)
			text[len++] = "0123456789abcdef"[v];
	}
	text[len] = '\0';
	return text;
}

/* -EINVAL: no mask. "0x3", "3", "[0-1]" and "[0,1]" are. */
static int cpumask_parse_list(const char *text, cpu_set_t *set)
{
	unsigned first, last;
	int used;

	for (text++; *text && *text != ']'; text += *text == ',') {
		if (sscanf(text, "%4u-%4u%n", &first, &last, &used) != 2) {
			if (sscanf(text, "%4u%n", &first, &used) != 1)
				return -EINVAL;
			last = first;
		}
		if (first > last || last >= CPU_SETSIZE)
			return -EINVAL;
		for (; first <= last; first++)
			CPU_SET(first, set);
		text += used;
		if (*text != ',' && *text != ']')
			return -EINVAL;
	}
	return strcmp(text, "]") ? -EINVAL : 0;
}

static int cpumask_parse(const char *text, cpu_set_t *set)
{
	size_t len;

	CPU_ZERO(set);
	if (*text == '[')
		return cpumask_parse_list(text, set);
	if (!strncmp(text, "0x", 2))
		text += 2;
	len = strlen(text);
	if (!len || len > CPUMASK_HEX || strspn(text, "0123456789abcdefABCDEF") != len)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		const char c = text[len - 1 - i];
		const int v = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;

		for (int bit = 0; bit < 4; bit++)
			if (v >> bit & 1)
				CPU_SET(4 * i + (size_t)bit, set);
	}
	return 0;
}

/* User and system time in clock ticks; 0 when it cannot be read. */
static void thread_times(int tid, uint64_t *ret_usr, uint64_t *ret_sys)
{
	char path[64], line[512];
	const char *p;
	FILE *f;

	*ret_usr = *ret_sys = 0;
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(line, sizeof(line), f) && (p = strrchr(line, ')')) &&
	    sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64,
		   ret_usr, ret_sys) != 2)
		*ret_usr = *ret_sys = 0;
	fclose(f);
}

/* The node of the CPU that it is pinned to; -1: any. */
static int numa_id(int cpu)
{
	char path[80];

	for (int node = 0; cpu >= 0 && node < 64; node++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/node%d", cpu, node);
		if (access(path, F_OK) == 0)
			return node;
	}
	return -1;
}

/* ---- reactors ---- */

static json_t *reactor_json(uint32_t lcore)
{
	char mask[CPUMASK_HEX + 1];
	struct loop_stats s;
	uint64_t usr, sys;

	loop_stats_get(reactor(lcore), &s);
	thread_times(s.tid, &usr, &sys);
	return json_pack("{s:I, s:i, s:i, s:I, s:I, s:b, s:i, s:I, s:I, s:[{s:s, s:I, s:s, s:I}],"
			 " s:i, s:I, s:I, s:I, s:I}",
			 "lcore", (json_int_t)lcore, "numa_id", numa_id(s.cpu), "tid", s.tid,
			 "busy", (json_int_t)s.busy_ns, "idle", (json_int_t)s.idle_ns,
			 "in_interrupt", (int)s.asleep, "irq", 0, "sys", (json_int_t)sys, "usr",
			 (json_int_t)usr, "lw_threads", "name", reactor_thread_name(lcore), "id",
			 (json_int_t)reactor_thread_id(lcore), "cpumask", cpumask_text(s.tid, mask),
			 "elapsed", (json_int_t)(s.busy_ns + s.idle_ns), "cpu", s.cpu, "iterations",
			 (json_int_t)s.iterations, "sleeps", (json_int_t)s.sleeps, "enters",
			 (json_int_t)s.enters, "queues", (json_int_t)s.sources);
}

static void get_reactors(struct rpc_call *call, void *params)
{
	json_t *reactors = json_array();

	for (uint32_t i = 0; reactors && i < reactor_count(); i++)
		json_array_append_new(reactors, reactor_json(i));
	rpc_result(call, json_pack("{s:i, s:i, s:o}", "tick_rate", TICK_RATE, "pid", (int)getpid(),
				   "reactors", reactors));
}

/* ---- threads ---- */

static json_t *thread_stats_json(uint32_t lcore)
{
	char mask[CPUMASK_HEX + 1];
	struct loop_stats s;

	loop_stats_get(reactor(lcore), &s);
	return json_pack("{s:s, s:I, s:s, s:I, s:I, s:b, s:I, s:i, s:i}", "name",
			 reactor_thread_name(lcore), "id", (json_int_t)reactor_thread_id(lcore),
			 "cpumask", cpumask_text(s.tid, mask), "busy", (json_int_t)s.busy_ns,
			 "idle", (json_int_t)s.idle_ns, "in_interrupt", (int)s.asleep,
			 "active_pollers_count", (json_int_t)s.sources, "timed_pollers_count", 0,
			 "paused_pollers_count", 0);
}

static json_t *thread_pollers_json(uint32_t lcore)
{
	struct loop_stats s;

	loop_stats_get(reactor(lcore), &s);
	return json_pack("{s:s, s:I, s:[{s:s, s:i, s:s, s:I, s:I}], s:[], s:[]}", "name",
			 reactor_thread_name(lcore), "id", (json_int_t)reactor_thread_id(lcore),
			 "active_pollers", "name", "loop", "id", 1, "state",
			 s.asleep ? "waiting" : "running", "run_count", (json_int_t)s.iterations,
			 "busy_count", (json_int_t)(s.iterations - s.sleeps), "timed_pollers",
			 "paused_pollers");
}

static json_t *thread_channels_json(uint32_t lcore)
{
	struct loop_stats s;

	loop_stats_get(reactor(lcore), &s);
	return json_pack("{s:s, s:[{s:s, s:I}]}", "name", reactor_thread_name(lcore), "io_channels",
			 "name", "queues", "ref", (json_int_t)s.sources);
}

static void get_threads(struct rpc_call *call, json_t *(*one)(uint32_t lcore))
{
	json_t *threads = json_array();

	/* The main loop first: by id. */
	for (uint32_t n = reactor_count(), i = 0; threads && i < n; i++)
		json_array_append_new(threads, one((n - 1 + i) % n));
	rpc_result(call, json_pack("{s:i, s:o}", "tick_rate", TICK_RATE, "threads", threads));
}

static void get_stats(struct rpc_call *call, void *params)
{
	get_threads(call, thread_stats_json);
}

static void get_pollers(struct rpc_call *call, void *params)
{
	get_threads(call, thread_pollers_json);
}

static void get_io_channels(struct rpc_call *call, void *params)
{
	get_threads(call, thread_channels_json);
}

struct set_cpumask {
	uint64_t id;
	char *cpumask;
};

static const struct opts_row set_cpumask_rows[] = {
	{ "id", OPTS_U64, offsetof(struct set_cpumask, id), .required = true,
	  .help = "of thread_get_stats" },
	{ "cpumask", OPTS_STR, offsetof(struct set_cpumask, cpumask), .required = true,
	  .help = "CPUs it may run on: hexadecimal (0x3), or a list ([0-1])" },
};
static const struct opts_table set_cpumask_params = { "thread_set_cpumask", set_cpumask_rows,
						      ARRAY_SIZE(set_cpumask_rows) };

static void set_cpumask(struct rpc_call *call, void *params)
{
	const struct set_cpumask *p = params;
	const uint32_t n = reactor_count();
	struct loop_stats s;
	cpu_set_t set;

	if (!p->id || p->id > n) {
		rpc_error(call, RPC_INVALID_PARAMS, "id: expected 1..%u, got %" PRIu64, n, p->id);
		return;
	}
	if (cpumask_parse(p->cpumask, &set) < 0 || !CPU_COUNT(&set)) {
		rpc_error(call, RPC_INVALID_PARAMS,
			  "cpumask: expected a mask like 0x3 or a list like [0-1], got '%.64s'",
			  p->cpumask);
		return;
	}
	loop_stats_get(reactor(p->id == MAIN_ID ? n - 1 : (uint32_t)p->id - MAIN_ID - 1), &s);
	if (sched_setaffinity(s.tid, sizeof(set), &set) < 0)
		rpc_error(call, RPC_INVALID_PARAMS,
			  "cpumask: expected at least one CPU that this process may use, got "
			  "'%.64s': %s",
			  p->cpumask, strerror(errno));
	else
		rpc_result_true(call);
}

/* ---- the scheduler: queues stay on the loop that they were started on ---- */

struct set_scheduler {
	char *name, *mappings, *isolated_core_mask;
	uint64_t period;
	uint32_t load_limit, core_limit, core_busy, scheduling_core;
};

#define ROW(key, kind, field, lo, hi, dflt, text)                                                  \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct set_scheduler, field),        \
		.min = lo, .max = hi, .def = dflt, .help = text                                    \
	}

static const struct opts_row set_scheduler_rows[] = {
	{ "name", OPTS_STR, offsetof(struct set_scheduler, name), .required = true,
	  .help = "static" },
	ROW("period", OPTS_U64, period, 0, 0, "1000000", "microseconds; no effect"),
	ROW("load_limit", OPTS_U32, load_limit, 0, 255, "20", "no effect"),
	ROW("core_limit", OPTS_U32, core_limit, 0, 255, "80", "no effect"),
	ROW("core_busy", OPTS_U32, core_busy, 0, 255, "95", "no effect"),
	ROW("mappings", OPTS_STR, mappings, 0, 0, NULL, "no effect"),
};
static const struct opts_table set_scheduler_params = { "framework_set_scheduler",
							set_scheduler_rows,
							ARRAY_SIZE(set_scheduler_rows) };

static void set_scheduler(struct rpc_call *call, void *params)
{
	const struct set_scheduler *p = params;

	if (!strcmp(p->name, "static"))
		rpc_result_true(call);
	else
		rpc_error(call, -EINVAL,
			  "name: expected static, got '%.64s': a queue stays on the loop that it "
			  "was started on",
			  p->name);
}

static void get_scheduler(struct rpc_call *call, void *params)
{
	rpc_result(call, json_pack("{s:s, s:i, s:s, s:I}", "scheduler_name", "static",
				   "scheduler_period", 0, "isolated_core_mask", "0x0",
				   "scheduling_core", (json_int_t)reactor_count() - 1));
}

static void get_governor(struct rpc_call *call, void *params)
{
	rpc_result(call, json_object());
}

static const struct opts_row scheduler_options_rows[] = {
	ROW("scheduling_core", OPTS_U32, scheduling_core, 0, 0, NULL, "no effect"),
	ROW("isolated_core_mask", OPTS_STR, isolated_core_mask, 0, 0, NULL, "0x0"),
};
static const struct opts_table scheduler_options_params = { "scheduler_set_options",
							    scheduler_options_rows,
							    ARRAY_SIZE(scheduler_options_rows) };

static void scheduler_set_options(struct rpc_call *call, void *params)
{
	const struct set_scheduler *p = params;
	cpu_set_t set;

	if (p->isolated_core_mask &&
	    (cpumask_parse(p->isolated_core_mask, &set) < 0 || CPU_COUNT(&set)))
		rpc_error(call, -EINVAL,
			  "isolated_core_mask: expected 0x0, got '%.64s': --cores says where the "
			  "data loops run",
			  p->isolated_core_mask);
	else
		rpc_result_true(call);
}

/* ---- involuntary context switches of the loops, told in the log ---- */

#define SWITCHES_LOOPS_MAX 257

static struct {
	struct loop_timer timer;
	bool enabled;
	uint64_t seen[SWITCHES_LOOPS_MAX];
} switches;

static uint64_t switches_of(int tid)
{
	char path[64], line[128];
	uint64_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "nonvoluntary_ctxt_switches: %" SCNu64, &n) == 1)
			break;
	fclose(f);
	return n;
}

static void switches_look(bool tell)
{
	for (uint32_t i = 0; i < reactor_count() && i < SWITCHES_LOOPS_MAX; i++) {
		struct loop_stats s;
		uint64_t now;

		loop_stats_get(reactor(i), &s);
		now = switches_of(s.tid);
		if (tell && now > switches.seen[i])
			log_notice("%s: %" PRIu64 " involuntary context switches in a second",
				   reactor_thread_name(i), now - switches.seen[i]);
		switches.seen[i] = now;
	}
}

static void switches_on_timer(struct loop_timer *t)
{
	switches_look(true);
	loop_timer_start(framework_get()->main_loop, t, loop_clock_ns() + SWITCHES_EVERY_NS);
}

struct monitor {
	bool enabled;
};

static const struct opts_row monitor_rows[] = {
	{ "enabled", OPTS_BOOL, offsetof(struct monitor, enabled),
	  .help = "on or off; not given: only asks" },
};
static const struct opts_table monitor_params = { "framework_monitor_context_switch", monitor_rows,
						  ARRAY_SIZE(monitor_rows) };

static void monitor_context_switch(struct rpc_call *call, void *params)
{
	const struct monitor *p = params;

	if (rpc_given(call, "enabled") && p->enabled != switches.enabled) {
		if (!switches.timer.fn)
			loop_timer_init(&switches.timer, switches_on_timer);
		switches.enabled = p->enabled;
		if (p->enabled) {
			switches_look(false);
			loop_timer_start(framework_get()->main_loop, &switches.timer,
					 loop_clock_ns() + SWITCHES_EVERY_NS);
		} else {
			loop_timer_stop(&switches.timer);
		}
	}
	rpc_result(call, json_pack("{s:b}", "enabled", (int)switches.enabled));
}

/* ---- locks on CPUs ---- */

static void enable_cpumask_locks(struct rpc_call *call, void *params)
{
	rpc_error(call, RPC_INTERNAL_ERROR,
		  "CPUs are not locked: loops sleep when idle and may share them");
}

static void disable_cpumask_locks(struct rpc_call *call, void *params)
{
	rpc_result_true(call);
}

const struct rpc_method m_threads[] = {
	{ "framework_get_reactors", NULL, .flags = RPC_READS, .run = get_reactors,
	  .help = "the loops: data loops in order, then the main loop; times in ns",
	  .result =
		  "{tick_rate, pid, reactors[{lcore, numa_id, tid, busy, idle, in_interrupt, irq, "
		  "sys, usr, lw_threads[{name, id, cpumask, elapsed}], cpu, iterations, sleeps, "
		  "enters, queues}]}" },
	{ "framework_set_scheduler", NULL, &set_scheduler_params, sizeof(struct set_scheduler),
	  RPC_ANYTIME, 0, set_scheduler, "accepts the static scheduler", "true" },
	{ "framework_get_scheduler", NULL, .flags = RPC_READS, .run = get_scheduler,
	  .help = "how queues are spread: at their start",
	  .result = "{scheduler_name, scheduler_period, isolated_core_mask, scheduling_core}" },
	{ "framework_get_governor", NULL, .flags = RPC_READS, .run = get_governor,
	  .help = "the governor of CPU frequencies, of which there is none", .result = "{}" },
	{ "scheduler_set_options", NULL, &scheduler_options_params, sizeof(struct set_scheduler),
	  RPC_STARTUP, 0, scheduler_set_options, "accepts the options of SPDK's scheduler",
	  "true" },
	{ "thread_get_stats", NULL, .flags = RPC_READS, .run = get_stats,
	  .help = "the loops as threads; times in ns",
	  .result = "{tick_rate, threads[{name, id, cpumask, busy, idle, in_interrupt, "
		    "active_pollers_count, timed_pollers_count, paused_pollers_count}]}" },
	{ "thread_get_pollers", NULL, .flags = RPC_READS, .run = get_pollers,
	  .help = "the loop of each thread as its one poller",
	  .result = "{tick_rate, threads[{name, id, active_pollers[{name, id, state, run_count, "
		    "busy_count}], timed_pollers[], paused_pollers[]}]}" },
	{ "thread_get_io_channels", NULL, .flags = RPC_READS, .run = get_io_channels,
	  .help = "how many queues each loop looks at",
	  .result = "{tick_rate, threads[{name, io_channels[{name, ref}]}]}" },
	{ "thread_set_cpumask", NULL, &set_cpumask_params, sizeof(struct set_cpumask), 0,
	  RPC_INVALID_PARAMS, set_cpumask, "where a loop's thread may run", "true" },
	{ "framework_monitor_context_switch", "context_switch_monitor", &monitor_params,
	  sizeof(struct monitor), 0, RPC_INVALID_PARAMS, monitor_context_switch,
	  "logs each second how often loops were interrupted", "{enabled}" },
	{ "framework_enable_cpumask_locks", NULL, .run = enable_cpumask_locks,
	  .help = "fails: CPUs are not locked", .result = "never" },
	{ "framework_disable_cpumask_locks", NULL, .run = disable_cpumask_locks,
	  .help = "nothing is to be done: CPUs are not locked", .result = "true" },
	{ NULL },
};
