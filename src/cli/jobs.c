/*
 * vhostctl jobs, and what begins long work and shows it: disk copy, disk format, disk resize
 * --allocate.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli/backend.h"
#include "cli/jobs.h"
#include "cli/progress.h"

#define FOLLOW_BAR_MS  200
#define FOLLOW_LINE_MS 1000

static volatile sig_atomic_t interrupted;

static void on_signal(int signo)
{
	interrupted = 1;
}

static json_t *id_params(const json_t *job)
{
	return json_pack("{s:I}", "id", member_int(job, "id"));
}

/* The first Ctrl-C asks the daemon to cancel; the second ends us, and the work goes on. */
static int follow_interrupted(struct cli *cli, const json_t *job)
{
	struct err kept = cli->err;

	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	if (!cli->json)
		fprintf(stderr, "%svhostctl: interrupted: job %lld is being cancelled\n",
			isatty(STDERR_FILENO) ? "\n" : "", member_int(job, "id"));
	interrupted = 0;
	if (cli_do(cli, "job_cancel", id_params(job)) == -EREMOTEIO)
		cli->err = kept; /* it has ended meanwhile: how, is told next */
	return 0;
}

static int follow_result(struct cli *cli, const json_t *job)
{
	const char *state = member_str(job, "state");

	if (!strcmp(state, "done"))
		return 0;
	if (!strcmp(state, "cancelled"))
		return err_set(&cli->err, -ECANCELED, "job %lld (%s of %s) was cancelled%s",
			       member_int(job, "id"), member_str(job, "kind"),
			       member_str(job, "name"),
			       strcmp(member_str(job, "kind"), "allocate")
				       ? "; the bdev is incomplete until that is done again"
				       : "; its size is what it was");
	return err_set(&cli->err, -EIO, "job %lld (%s) failed: %s", member_int(job, "id"),
		       member_str(job, "kind"), member_str(job, "error"));
}

static void follow_show(struct cli *cli, struct progress *p, const json_t *job)
{
	if (cli->json && cli_flag(cli, "progress")) {
		json_dumpf(job, cli->out, JSON_COMPACT);
		fputc('\n', cli->out);
		fflush(cli->out);
	} else if (!cli->json && !cli_flag(cli, "quiet")) {
		progress_tell(p, job);
	}
}

int jobs_follow(struct cli *cli, json_t **job)
{
	struct progress p;
	int rc = 0;

	if (cli_flag(cli, "background"))
		return 0;
	progress_init(&p, stderr);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	while (rc == 0 && !strcmp(member_str(*job, "state"), "running")) {
		json_t *params = id_params(*job), *next;

		follow_show(cli, &p, *job);
		json_object_set_new(params, "timeout_ms",
				    json_integer(p.bar ? FOLLOW_BAR_MS : FOLLOW_LINE_MS));
		rc = cli_call(cli, "job_wait", params, &next);
		if (rc < 0)
			break;
		json_decref(*job);
		*job = next;
		if (interrupted)
			rc = follow_interrupted(cli, *job);
	}
	if (rc == 0)
		follow_show(cli, &p, *job);
	progress_end(&p);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	return rc < 0 ? rc : follow_result(cli, *job);
}

int jobs_begin(struct cli *cli, const char *method, json_t *params, json_t **ret_job)
{
	int rc = cli_call(cli, method, params, ret_job);

	if (rc < 0)
		return rc;
	rc = jobs_follow(cli, ret_job);
	/* with --progress the last line is the result */
	cli->printed |= cli->json && cli_flag(cli, "progress") && !cli_flag(cli, "background");
	if (rc < 0) {
		json_decref(*ret_job);
		*ret_job = NULL;
	}
	return rc;
}

/* A disk's bdev, or a bdev, as a member of params. */
static int bdev_param(struct cli *cli, json_t *params, const char *key, const char *name)
{
	json_t *bdev;
	const int rc = name_to_bdev(cli, name, &bdev);

	if (rc == 0)
		json_object_set_new(params, key, bdev);
	return rc;
}

int disk_copy(struct cli *cli, json_t **ret_result)
{
	json_t *params = json_object();
	int rc = bdev_param(cli, params, "src", cli_str(cli, "source"));

	if (rc == 0)
		rc = bdev_param(cli, params, "dst", cli_str(cli, "destination"));
	if (rc < 0) {
		json_decref(params);
		return rc;
	}
	return jobs_begin(cli, "bdev_copy", params, ret_result);
}

int disk_format(struct cli *cli, json_t **ret_result)
{
	json_t *params = json_object();
	const int rc = bdev_param(cli, params, "name", cli_str(cli, "name"));

	if (rc < 0) {
		json_decref(params);
		return rc;
	}
	return jobs_begin(cli, "bdev_format", params, ret_result);
}

int jobs_wait(struct cli *cli, json_t **ret_result)
{
	json_t *params = cli_params(cli, 0);

	json_object_set_new(params, "timeout_ms", json_integer(0));
	return jobs_begin(cli, "job_wait", params, ret_result);
}
