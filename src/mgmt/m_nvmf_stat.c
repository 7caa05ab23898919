/*
 * nvmf_*: the one target, and what is counted of its controllers. A data loop is what SPDK calls a
 * poll group.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "loop/queue_stats.h"
#include "mgmt/framework.h"
#include "mgmt/m_nvmf.h"
#include "mgmt/tables.h"
#include "nvme/subsys.h"

#define TARGET_NAME "nvmf_tgt"
#define TICK_RATE   1000000000 /* times are in ns */

struct stat_params {
	char *nqn, *tgt_name, *name, *mask;
	uint32_t number;
	bool flag;
};

#define ROW(key, kind, field, need, text)                                                          \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct stat_params, field),          \
		.required = need, .help = text                                                     \
	}
#define TARGET_ROW ROW("tgt_name", OPTS_STR, tgt_name, false, "accepted: there is one target")

static const struct opts_row qpairs_rows[] = {
	ROW("nqn", OPTS_STR, nqn, true, "name of the subsystem"),
	TARGET_ROW,
};
static const struct opts_table qpairs_params = { "nvmf_subsystem_get_qpairs", qpairs_rows,
						 ARRAY_SIZE(qpairs_rows) };
static const struct opts_row stats_rows[] = { TARGET_ROW };
static const struct opts_table stats_params = { "nvmf_get_stats", stats_rows,
						ARRAY_SIZE(stats_rows) };
static const struct opts_row create_rows[] = {
	ROW("name", OPTS_STR, name, true, "of the target"),
	ROW("max_subsystems", OPTS_U32, number, false, "not used"),
	ROW("discovery_filter", OPTS_STR, mask, false, "not used"),
};
static const struct opts_table create_params = { "nvmf_create_target", create_rows,
						 ARRAY_SIZE(create_rows) };
static const struct opts_row delete_rows[] = {
	ROW("name", OPTS_STR, name, true, "of the target"),
};
static const struct opts_table delete_params = { "nvmf_delete_target", delete_rows,
						 ARRAY_SIZE(delete_rows) };
static const struct opts_row max_rows[] = {
	ROW("max_subsystems", OPTS_U32, number, true, "accepted: there is no limit but memory"),
};
static const struct opts_table max_params = { "nvmf_set_max_subsystems", max_rows,
					      ARRAY_SIZE(max_rows) };
static const struct opts_row config_rows[] = {
	ROW("poll_groups_mask", OPTS_STR, mask, false, "accepted, without effect"),
	ROW("discovery_filter", OPTS_STR, mask, false, "accepted: there is no discovery"),
	{ .name = "admin_cmd_passthru",
	  .type = OPTS_JSON,
	  .help = "accepted: bdevs are no NVMe devices" },
	{ .name = "dhchap_digests", .type = OPTS_JSON, .help = "accepted: of networks" },
	{ .name = "dhchap_dhgroups", .type = OPTS_JSON, .help = "accepted: of networks" },
};
static const struct opts_table config_params = { "nvmf_set_config", config_rows,
						 ARRAY_SIZE(config_rows) };

/* ---- queue pairs ---- */

struct qpairs {
	json_t *list;
	const struct device *listener;
};

uint16_t nvmf_cntlid(const struct device *listener)
{
	return listener->subsys ? nvme_subsys_cntlid(listener->subsys, listener->def->name) : 0;
}

/* SPDK's words. */
static const char *const qpair_states[QUEUE_STATE_COUNT] = {
	[QUEUE_STOPPED] = "uninitialized", [QUEUE_CHANGING] = "connecting",
	[QUEUE_RUNNING] = "enabled",	   [QUEUE_QUIET] = "enabled",
	[QUEUE_DRAINED] = "enabled",	   [QUEUE_BROKEN] = "error",
};

static void qpairs_on_queue(const struct queue_stats *queue, void *arg)
{
	const struct qpairs *q = arg;

	json_array_append_new(
		q->list,
		json_pack("{s:i, s:i, s:s, s:s, s:s, s:o}", "cntlid", (int)nvmf_cntlid(q->listener),
			  "qid", (int)queue->idx, "state", qpair_states[queue->state], "thread",
			  queue->loop ? queue->loop : "", "hostnqn", "", "listen_address",
			  nvmf_address_json(ctrlr_of(q->listener)->traddr)));
}

static void get_qpairs(struct rpc_call *call, void *params)
{
	const struct stat_params *p = params;
	struct device *dev = nvmf_subsystem_of(call, p->nqn);
	struct qpairs q;

	if (!dev)
		return;
	q.list = json_array();
	for (struct device *l = nvmf_listener_next(dev, NULL); l; l = nvmf_listener_next(dev, l)) {
		q.listener = l;
		device_queues_visit(l, qpairs_on_queue, &q);
	}
	rpc_result(call, q.list);
}

/* ---- poll groups ---- */

struct group {
	const char *loop;
	uint64_t admin, io, pending, completed;
};

static void group_on_queue(const struct queue_stats *queue, void *arg)
{
	struct group *g = arg;

	if (!queue->loop || strcmp(queue->loop, g->loop) != 0)
		return;
	if (queue->idx)
		g->io++;
	else
		g->admin++;
	g->pending += queue->in_flight;
	g->completed += queue->requests;
}

/* What has gone is not counted any more: counters are the queues'. */
static json_t *group_json(const struct loop *loop)
{
	struct group g = { .loop = loop_name(loop) };

	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev))
		if (ctrlr_kind(dev) == CTRLR_NVMF_LISTENER)
			device_queues_visit(dev, group_on_queue, &g);
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:[{s:s}]}", "name", g.loop,
			 "admin_qpairs", (json_int_t)g.admin, "io_qpairs", (json_int_t)g.io,
			 "current_admin_qpairs", (json_int_t)g.admin, "current_io_qpairs",
			 (json_int_t)g.io, "pending_bdev_io", (json_int_t)g.pending,
			 "completed_nvme_io", (json_int_t)g.completed, "transports", "trtype",
			 NVMF_TRTYPE);
}

static void get_stats(struct rpc_call *call, void *params)
{
	const struct framework *f = framework_get();
	json_t *groups = json_array();

	for (uint32_t i = 0; i < *f->loop_count; i++)
		json_array_append_new(groups, group_json(f->loops[i]));
	/* admin queues are the main loop's */
	json_array_append_new(groups, group_json(f->main_loop));
	rpc_result(call, json_pack("{s:i, s:o}", "tick_rate", TICK_RATE, "poll_groups", groups));
}

/* ---- the target ---- */

static void get_targets(struct rpc_call *call, void *params)
{
	rpc_result(call, json_pack("[s]", TARGET_NAME));
}

static void one_target(struct rpc_call *call, void *params)
{
	const struct stat_params *p = params;
	struct err err;

	err_set(&err, -EPERM,
		"name: expected no call of this: " TARGET_NAME
		" is the one target, and always there; got '%.64s'",
		p->name);
	ctrlr_fail(call, -EPERM, &err);
}

static void accept(struct rpc_call *call, void *params)
{
	rpc_result_true(call);
}

#define METHOD(name, table, flags, fn, help, result)                                               \
	{                                                                                          \
		name, NULL, table, sizeof(struct stat_params), flags, RPC_INVALID_PARAMS, fn,      \
			help, result                                                               \
	}

const struct rpc_method m_nvmf_stat[] = {
	METHOD("nvmf_subsystem_get_qpairs", &qpairs_params, RPC_READS, get_qpairs,
	       "the queues of its clients",
	       "[{cntlid, qid, state, thread, hostnqn, listen_address{trtype, adrfam, traddr, "
	       "trsvcid}}]"),
	METHOD("nvmf_get_stats", &stats_params, RPC_READS, get_stats,
	       "the queues of each loop, now, and what they have done",
	       "{tick_rate, poll_groups[{name, admin_qpairs, io_qpairs, current_admin_qpairs, "
	       "current_io_qpairs, pending_bdev_io, completed_nvme_io, transports[{trtype}]}]}"),
	{ "nvmf_get_targets", .flags = RPC_READS, .run = get_targets, .help = "the one target",
	  .result = "[\"" TARGET_NAME "\"]" },
	METHOD("nvmf_create_target", &create_params, 0, one_target, "fails: there is one target",
	       "never"),
	METHOD("nvmf_delete_target", &delete_params, 0, one_target, "fails: there is one target",
	       "never"),
	METHOD("nvmf_set_max_subsystems", &max_params, RPC_STARTUP, accept,
	       "accepts SPDK's limit; there is none", "true"),
	METHOD("nvmf_set_config", &config_params, RPC_STARTUP, accept,
	       "accepts SPDK's options of its target", "true"),
	{ NULL },
};
