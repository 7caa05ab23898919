#include "mgmt/jobs.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/ioprio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/list.h"
#include "base/log.h"

#define JOBS_LOOP_NICE	 10
#define JOBS_LOOP_IOPRIO IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7) /* the last of its class */

const char *const job_kind_names[JOB_KIND_COUNT] = {
#define X(n, s) s,
	JOB_KINDS(X)
#undef X
};

static const char *const job_state_names[JOB_STATE_COUNT] = {
#define X(n, s) s,
	JOB_STATES(X)
#undef X
};

struct long_job {
	struct list node;
	uint64_t id, begin_ns, end_ns;
	enum job_kind kind;
	enum job_state state;
	char *name, *source;
	uint64_t done_bytes, total_bytes; /* done: when it has ended */
	bool cancelling;
	char error[ERR_MSG_MAX];
	struct list waiters;
	/* while it runs */
	struct jobs_params params;
};

/* A job_wait under way. */
struct job_waiter {
	struct list node;
	struct rpc_call *call;
	struct long_job *job;
	struct loop_timer timer;
};

static struct {
	struct list all; /* in order of their beginning */
	uint64_t last_id;
	uint32_t running, ended;
	struct loop *loop; /* NULL: nobody needed it yet */
	struct loop_msg nice_msg;
	void (*stopped)(void *arg); /* NULL: it goes on */
	void *stopped_arg;
} jobs = { .all = { &jobs.all, &jobs.all } };

/* ---- what is told ---- */

json_t *jobs_json(const struct long_job *job)
{
	const bool runs = jobs_runs(job);
	const uint64_t end_ns = runs ? loop_clock_ns() : job->end_ns;
	const uint64_t done = runs ? job->params.done_bytes(job->params.arg) : job->done_bytes;
	json_t *o = json_pack("{s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:b}", "id", (json_int_t)job->id,
			      "kind", job_kind_names[job->kind], "name", job->name, "state",
			      job_state_names[job->state], "done_bytes", (json_int_t)done,
			      "total_bytes", (json_int_t)job->total_bytes, "elapsed_ms",
			      (json_int_t)((end_ns - job->begin_ns) / 1000000), "cancellable",
			      runs && !job->cancelling);

	if (o && job->source)
		json_object_set_new(o, "source", json_string(job->source));
	if (o && *job->error)
		json_object_set_new(o, "error", json_string(job->error));
	return o;
}

uint64_t jobs_id(const struct long_job *job)
{
	return job->id;
}

bool jobs_runs(const struct long_job *job)
{
	return job->state == JOB_RUNNING;
}

bool jobs_concerns(const struct long_job *job, const char *name)
{
	return !strcmp(job->name, name) || (job->source && !strcmp(job->source, name));
}

struct long_job *jobs_next(const struct long_job *prev)
{
	struct list *n = prev ? prev->node.next : jobs.all.next;

	return n == &jobs.all ? NULL : list_entry(n, struct long_job, node);
}

struct long_job *jobs_find(uint64_t id)
{
	struct long_job *job;

	list_for_each(job, &jobs.all, node)
		if (job->id == id)
			return job;
	return NULL;
}

void jobs_counts(uint64_t ret_counts[JOB_KIND_COUNT])
{
	const struct long_job *job;

	memset(ret_counts, 0, JOB_KIND_COUNT * sizeof(*ret_counts));
	list_for_each(job, &jobs.all, node)
		ret_counts[job->kind] += jobs_runs(job);
}

static void job_tell(const struct long_job *job, const char *type)
{
	char text[ERR_MSG_MAX];

	snprintf(text, sizeof(text), "%" PRIu64 " %s %s %.300s", job->id, job_kind_names[job->kind],
		 job_state_names[job->state], job->name);
	rpc_notify(type, text);
	log_notice("job %s%s%.150s%s%.200s", text, job->source ? ", from " : "",
		   job->source ? job->source : "", *job->error ? ": " : "", job->error);
}

/* ---- begin and end ---- */

static void job_free(struct long_job *job)
{
	ASSERT(list_empty(&job->waiters));
	list_remove(&job->node);
	free(job->name);
	free(job->source);
	free(job);
}

int jobs_begin(const struct jobs_params *params, struct long_job **ret_job, struct err *reterr)
{
	struct long_job *job;

	if (jobs.stopped)
		return err_set(reterr, -ESHUTDOWN, "the daemon is stopping");
	if (jobs.running == JOBS_RUNNING_MAX)
		return err_set(
			reterr, -EBUSY,
			"%u jobs run already, expected fewer than %u; wait for one, or cancel "
			"it: job_get_jobs",
			jobs.running, JOBS_RUNNING_MAX);
	job = calloc(1, sizeof(*job));
	if (!job)
		return err_set(reterr, -ENOMEM, "out of memory");
	list_init(&job->waiters);
	list_append(&jobs.all, &job->node);
	job->name = strdup(params->name);
	job->source = params->source ? strdup(params->source) : NULL;
	if (!job->name || !job->source != !params->source) {
		job_free(job);
		return err_set(reterr, -ENOMEM, "out of memory");
	}
	job->kind = params->kind;
	job->total_bytes = params->total_bytes;
	job->params = *params;
	job->id = ++jobs.last_id;
	job->begin_ns = loop_clock_ns();
	jobs.running++;
	job_tell(job, "job_begin");
	*ret_job = job;
	return 0;
}

/* Room for one more that has ended. */
static void ended_evict(void)
{
	struct long_job *job;

	if (jobs.ended < JOBS_ENDED_MAX)
		return;
	list_for_each(job, &jobs.all, node)
		if (!jobs_runs(job))
			break;
	jobs.ended--;
	job_free(job);
}

static void waiter_answer(struct job_waiter *w, json_t *answer)
{
	struct rpc_call *call = w->call;

	loop_timer_stop(&w->timer);
	list_remove(&w->node);
	free(w);
	rpc_result(call, answer);
}

/* An answer may begin or end other jobs: job is not looked at behind the first. */
static void waiters_answer(struct long_job *job)
{
	json_t *answer = jobs_json(job);
	struct list waiters;
	struct list *n;

	list_init(&waiters);
	while ((n = list_pop(&job->waiters)) != NULL)
		list_append(&waiters, n);
	while (!list_empty(&waiters))
		waiter_answer(list_entry(waiters.next, struct job_waiter, node),
			      json_incref(answer));
	json_decref(answer);
}

void jobs_end(struct long_job *job, int rc, const struct err *err)
{
	ASSERT(jobs_runs(job));
	ended_evict();
	job->done_bytes = job->params.done_bytes(job->params.arg);
	job->end_ns = loop_clock_ns();
	job->state = rc == 0 ? JOB_DONE : rc == -ECANCELED ? JOB_CANCELLED : JOB_FAILED;
	if (rc < 0 && rc != -ECANCELED)
		snprintf(job->error, sizeof(job->error), "%s", err->msg);
	jobs.running--;
	jobs.ended++;
	job_tell(job, "job_end");
	waiters_answer(job);
	if (jobs.stopped && !jobs.running)
		jobs.stopped(jobs.stopped_arg);
}

void jobs_cancel(struct long_job *job)
{
	if (!jobs_runs(job) || job->cancelling)
		return;
	job->cancelling = true;
	job->params.cancel(job->params.arg);
}

/* ---- waiting ---- */

static void waiter_on_timeout(struct loop_timer *t)
{
	struct job_waiter *w = container_of(t, struct job_waiter, timer);

	waiter_answer(w, jobs_json(w->job));
}

void jobs_wait(struct long_job *job, struct rpc_call *call, uint32_t timeout_ms)
{
	struct loop *loop = loop_current();
	struct job_waiter *w;

	if (!jobs_runs(job) || !timeout_ms || !loop) {
		rpc_result(call, jobs_json(job));
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		rpc_result(call, NULL);
		return;
	}
	w->call = call;
	w->job = job;
	list_append(&job->waiters, &w->node);
	loop_timer_init(&w->timer, waiter_on_timeout);
	loop_timer_start(loop, &w->timer, loop_clock_ns() + timeout_ms * 1000000ull);
}

/* ---- the loop that moves data ---- */

/* Of this thread alone: guests come first at the CPU, and in the scheduler of the storage. */
static void loop_on_begin(struct loop_msg *msg)
{
	if (setpriority(PRIO_PROCESS, 0, JOBS_LOOP_NICE) < 0 ||
	    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, JOBS_LOOP_IOPRIO) < 0)
		log_warning("%s: cannot make its thread a nice one: %s", loop_name(loop_current()),
			    strerror(errno));
}

int jobs_loop(struct loop **ret_loop, struct err *reterr)
{
	const struct loop_params params = { .name = "vhostd-jobs", .cpu = -1 };
	int rc = 0;

	if (!jobs.loop) {
		rc = loop_new(&params, &jobs.loop, reterr);
		if (rc == 0)
			rc = loop_thread_start(jobs.loop, reterr);
		if (rc < 0) {
			loop_free(jobs.loop);
			jobs.loop = NULL;
			return err_prefix(reterr, rc, "the loop of long work");
		}
		jobs.nice_msg.fn = loop_on_begin;
		loop_post(jobs.loop, &jobs.nice_msg);
	}
	*ret_loop = jobs.loop;
	return 0;
}

static struct long_job *job_to_cancel(void)
{
	struct long_job *job;

	list_for_each(job, &jobs.all, node)
		if (jobs_runs(job) && !job->cancelling)
			return job;
	return NULL;
}

void jobs_stop(void (*stopped)(void *arg), void *arg)
{
	struct long_job *job;

	jobs.stopped = stopped;
	jobs.stopped_arg = arg;
	if (!jobs.running) {
		stopped(arg);
		return;
	}
	while ((job = job_to_cancel()) != NULL)
		jobs_cancel(job);
}

void jobs_fini(void)
{
	while (!list_empty(&jobs.all))
		job_free(list_entry(jobs.all.next, struct long_job, node));
	jobs.ended = 0;
	loop_free(jobs.loop);
	jobs.loop = NULL;
}
