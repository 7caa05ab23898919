/*
 * Long work: what takes longer than a call may, is shown with how far it is, can be waited for and
 * cancelled. A method begins it and answers what jobs_json tells of it; job_wait answers when it
 * has ended. Nothing of it outlives the process.
 *
 *   RUNNING --jobs_end--> DONE | FAILED | CANCELLED, listed until JOBS_ENDED_MAX newer ones ended
 *
 * Guests come first: data is moved on a loop of its own, no data loop does anything for it, and its
 * thread is a nice one; storage has a few pieces of each at a time (blk/bulk.h), and so many jobs
 * run at most.
 * Thread: main, all of it.
 */
#ifndef MGMT_JOBS_H
#define MGMT_JOBS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "loop/loop.h"
#include "mgmt/rpc.h"

#define JOBS_RUNNING_MAX 16
#define JOBS_ENDED_MAX	 64

#define JOB_KINDS(X)                                                                               \
	X(COPY, "copy")                                                                            \
	X(FORMAT, "format")                                                                        \
	X(ALLOCATE, "allocate")

enum job_kind {
#define X(n, s) JOB_##n,
	JOB_KINDS(X)
#undef X
	JOB_KIND_COUNT
};

#define JOB_STATES(X)                                                                              \
	X(RUNNING, "running")                                                                      \
	X(DONE, "done")                                                                            \
	X(FAILED, "failed")                                                                        \
	X(CANCELLED, "cancelled")

enum job_state {
#define X(n, s) JOB_##n,
	JOB_STATES(X)
#undef X
	JOB_STATE_COUNT
};

extern const char *const job_kind_names[JOB_KIND_COUNT];

struct jobs_params {
	enum job_kind kind;
	const char *name, *source; /* what it works on; of a copy: from what, else NULL */
	uint64_t total_bytes;
	uint64_t (*done_bytes)(void *arg);
	/* It is to end soon: jobs_end comes all the same, maybe before this returns. Once. */
	void (*cancel)(void *arg);
	void *arg;
};

struct long_job;

/* -EBUSY: so many run already; -ESHUTDOWN: the daemon ends; -ENOMEM. */
int jobs_begin(const struct jobs_params *params, struct long_job **ret_job, struct err *reterr);
/* The last that is asked of params.arg is how much was done. rc: 0 done, -ECANCELED, or it failed
 * for the reason that err tells. job is the registry's own. */
void jobs_end(struct long_job *job, int rc, const struct err *err);
/* A new reference; NULL: no memory. */
json_t *jobs_json(const struct long_job *job);
uint64_t jobs_id(const struct long_job *job);

/* NULL: there is none, or not any more. */
struct long_job *jobs_find(uint64_t id);
/* In order of their beginning; prev NULL: the first. NULL: no more. */
struct long_job *jobs_next(const struct long_job *prev);
/* Does it work on this, or from it? */
bool jobs_concerns(const struct long_job *job, const char *name);
bool jobs_runs(const struct long_job *job);
/* Asks it to end. Nothing happens when it has ended, or was asked. */
void jobs_cancel(struct long_job *job);
/* Answers call with what jobs_json tells, when it has ended, or after timeout_ms as it is then. */
void jobs_wait(struct long_job *job, struct rpc_call *call, uint32_t timeout_ms);
/* How many run, by kind. */
void jobs_counts(uint64_t ret_counts[JOB_KIND_COUNT]);

/* The loop that moves data; begins with the first who asks. Errors: loop_new's. */
int jobs_loop(struct loop **ret_loop, struct err *reterr);

/* Cancels all; stopped(arg) once, maybe at once, when all have ended. No other begins from here. */
void jobs_stop(void (*stopped)(void *arg), void *arg);
/* After that, and after the job threads have stopped. */
void jobs_fini(void);

#endif
