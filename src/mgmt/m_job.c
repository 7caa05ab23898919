/*
 * job_*: long work, whoever began it. What methods began is in jobs.c; what guests began (Format
 * NVM, Sanitize) is looked for when somebody asks, has no number, and is not ours to cancel.
 */
#include <string.h>

#include "base/check.h"
#include "dev/devices.h"
#include "mgmt/ctrlr.h"
#include "mgmt/jobs.h"
#include "mgmt/tables.h"

struct job_params {
	uint64_t id;
	char *name;
	uint32_t timeout_ms;
};

static const struct opts_row get_jobs_rows[] = {
	{ "id", OPTS_U64, offsetof(struct job_params, id), .help = "only this one" },
	{ "name", OPTS_STR, offsetof(struct job_params, name),
	  .help = "only what works on this bdev or device, or copies from it" },
};
static const struct opts_table get_jobs_table = { "job_get_jobs", get_jobs_rows,
						  ARRAY_SIZE(get_jobs_rows) };
#define ID_ROW                                                                                     \
	{                                                                                          \
		"id", OPTS_U64, offsetof(struct job_params, id), .help = "its number",             \
								 .required = true                  \
	}
static const struct opts_row cancel_rows[] = { ID_ROW };
static const struct opts_table cancel_table = { "job_cancel", cancel_rows,
						ARRAY_SIZE(cancel_rows) };
static const struct opts_row wait_rows[] = {
	ID_ROW,
	{ "timeout_ms", OPTS_U32, offsetof(struct job_params, timeout_ms), 0, 3600000,
	  .def = "30000", .help = "after this time the answer tells how far it is" },
};
static const struct opts_table wait_table = { "job_wait", wait_rows, ARRAY_SIZE(wait_rows) };

/* NULL: the call was answered. */
static struct long_job *find(struct rpc_call *call, uint64_t id)
{
	struct long_job *job = jobs_find(id);

	if (!job)
		rpc_error(
			call, RPC_INVALID_PARAMS,
			"id: there is no job %llu; job_get_jobs lists those that run, and the last "
			"%u that have ended",
			(unsigned long long)id, JOBS_ENDED_MAX);
	return job;
}

/* ---- what guests began ---- */

struct guests {
	const char *device;
	json_t *list;
};

static void guest_work_json(const char *unit, const struct device_work *work, void *arg)
{
	struct guests *g = arg;
	json_t *o = json_pack("{s:n, s:s, s:o, s:s, s:I, s:I, s:n, s:b}", "id", "kind", work->kind,
			      "name", ctrlr_text(g->device), "state", "running", "done_bytes",
			      (json_int_t)work->done_bytes, "total_bytes",
			      (json_int_t)work->total_bytes, "elapsed_ms", "cancellable", false);

	json_object_set_new(o, "unit", json_string(unit));
	json_array_append_new(g->list, o);
}

static void guests_add(const char *name, json_t *list)
{
	for (const struct device *dev = devices_next(NULL); dev; dev = devices_next(dev)) {
		struct guests g = { .device = dev->def->name, .list = list };

		if (!name || !strcmp(name, g.device))
			device_work_visit(dev, guest_work_json, &g);
	}
}

/* ---- the methods ---- */

static void get_jobs(struct rpc_call *call, void *params)
{
	const struct job_params *p = params;
	const bool one = rpc_given(call, "id");
	json_t *list;

	if (one && !find(call, p->id))
		return;
	list = json_array();
	for (const struct long_job *job = jobs_next(NULL); job; job = jobs_next(job))
		if ((!one || jobs_id(job) == p->id) && (!p->name || jobs_concerns(job, p->name)))
			json_array_append_new(list, jobs_json(job));
	if (!one)
		guests_add(p->name, list);
	rpc_result(call, list);
}

static void cancel(struct rpc_call *call, void *params)
{
	struct long_job *job = find(call, ((const struct job_params *)params)->id);

	if (!job)
		return;
	if (!jobs_runs(job)) {
		rpc_error(call, RPC_INVALID_PARAMS, "id: job %llu has ended; see job_get_jobs",
			  (unsigned long long)jobs_id(job));
		return;
	}
	jobs_cancel(job);
	rpc_result_true(call);
}

static void wait_for(struct rpc_call *call, void *params)
{
	const struct job_params *p = params;
	struct long_job *job = find(call, p->id);

	if (job)
		jobs_wait(job, call, p->timeout_ms);
}

#define METHOD(name, table, flags, fn, help, result)                                               \
	{                                                                                          \
		name, NULL, table, sizeof(struct job_params), flags, RPC_INVALID_PARAMS, fn, help, \
			result                                                                     \
	}

const struct rpc_method m_job[] = {
	METHOD("job_get_jobs", &get_jobs_table, RPC_READS, get_jobs,
	       "long work: what runs, that which guests began too (id null, with a unit), and the "
	       "last 64 that have ended",
	       "[{id, kind, name, source, unit, state (running, done, failed, cancelled), "
	       "done_bytes, total_bytes, elapsed_ms, cancellable, error}]"),
	METHOD("job_cancel", &cancel_table, RPC_ANYTIME, cancel,
	       "asks a job to end soon; job_wait tells when it has, and what it came to", "true"),
	METHOD("job_wait", &wait_table, RPC_READS, wait_for,
	       "answers when a job has ended, or after a time as it is then", "as job_get_jobs"),
	{ NULL },
};
