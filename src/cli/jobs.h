/*
 * Long work, for the verbs that begin some: it is shown until it ends, and Ctrl-C cancels it.
 */
#ifndef CLI_JOBS_H
#define CLI_JOBS_H

#include "cli/cli.h"

/* The options of a verb that begins long work. */
#define ROWS_FOLLOW                                                                                \
	{ "--background", ARG_FLAG, .help = "do not wait: vhostctl jobs shows it" },               \
		{ "--quiet", ARG_FLAG, .help = "do not show how far it is", .letter = 'q' },       \
	{                                                                                          \
		"--progress", ARG_FLAG, .help = "with --json: a line each second, the result last" \
	}

/*
 * Calls a method that begins long work, params stolen, and follows it to its end. Returns 0 and the
 * job as it is then (with --background: as it began); -errno: also when it failed or was cancelled.
 */
int jobs_begin(struct cli *cli, const char *method, json_t *params, json_t **ret_job);
/* The same for a job that runs; *job is replaced by what it is later. */
int jobs_follow(struct cli *cli, json_t **job);

#endif
