/*
 * Files of calls, as SPDK's save_config writes them, and as --state does:
 *
 *   { "subsystems": [ { "subsystem": "bdev",
 *                       "config": [ { "method": "bdev_null_create", "params": { ... } }, ... ] } ]
 * }
 *
 * An element of "config" may be {"batch": [calls]}, or an array of calls, too: they run one after
 * another as the others do. A section that is not known here (SPDK has many) is told and passed
 * over, and so is a method that only tunes what there is none of ("..._set_options"), or is about
 * the start. Thread: main.
 */
#ifndef MGMT_REPLAY_H
#define MGMT_REPLAY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "mgmt/jsonfile.h"

struct replay_call {
	const char *section, *method; /* of the file's values, as params is */
	const json_t *params;	      /* NULL: none */
	char way[96];		      /* to it, from the root: "subsystems[0].config[2]" */
	bool early;		      /* of "bdev", and of what comes before it */
	bool failed;
};

struct replay {
	struct jsonfile file;
	struct replay_call *calls;
	uint32_t count;
};

/* Is it a file of calls? */
bool replay_is(const json_t *root);
/*
 * Takes the contents of file over, also when it fails. Its form is checked here; what is passed
 * over is told in the log. Errors name file, line and key: -EINVAL, -ENOMEM.
 */
int replay_new(struct jsonfile *file, struct replay **ret_replay, struct err *reterr);
void replay_free(struct replay *r);
/* On which line of its file a call begins. */
uint32_t replay_line(const struct replay *r, const struct replay_call *call);

/*
 * Would the calls succeed, as far as can be told without running them: methods and parameters,
 * names that are made twice, files that must exist. The first fault is told, with its line.
 */
int replay_check(const struct replay *r, struct err *reterr);
/* -EEXIST: a makes something whose name b has; both are named. */
int replay_check_apart(const struct replay *a, const struct replay *b, struct err *reterr);
/* The call that makes or changes the controller of that name; NULL: none. */
const struct replay_call *replay_find_controller(const struct replay *r, const char *name);

/* Does it make or change the same thing as the other one? Both: {"method", "params"}. */
bool replay_same_thing(const char *method_a, const json_t *params_a, const char *method_b,
		       const json_t *params_b);

struct replay_run {
	struct replay *const *list;
	uint32_t count;
	bool early;	    /* the early calls, or the others */
	bool ignore;	    /* a call that fails is told, and the others go on */
	struct err *reterr; /* names file, line and method */
	void (*done)(struct replay_run *run, int rc); /* once, maybe before replay_start returns */
	/* private: */
	uint32_t at_replay, at_call;
	int rc;
	bool pumping, answered;
};

/* Runs the calls of all in the list one after another. */
void replay_start(struct replay_run *run);

#endif
