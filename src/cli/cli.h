/*
 * vhostctl: what the verbs have in common. A verb is a row (verbs.c) with its arguments, the calls
 * that it makes and a printer; one that makes a single call needs no code of its own.
 *
 * Exit codes are part of the interface: scripts tell by them what to do.
 * Thread: the only one.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/args.h"
#include "cli/conn.h"
#include "cli/table.h"

#define CLI_SOCKET_DEFAULT "/var/run/vhostd/rpc.sock"
#define CLI_SOCKET_ENV	   "VHOSTD_RPC_SOCKET"
#define CLI_TIMEOUT_MS	   60000
#define CLI_VERB_CALLS_MAX 10
#define CLI_VERB_WORDS_MAX 3 /* "nvme ns add" */

enum cli_exit {
	CLI_OK,
	CLI_REFUSED,   /* 1: the daemon refused, or a file could not be read or written */
	CLI_USAGE,     /* 2: the command line */
	CLI_NO_DAEMON, /* 3: nobody listens, or it let nobody in, or it went away */
	CLI_TIMEOUT,   /* 4: no answer in time */
	CLI_PROTOCOL,  /* 5: the answer was not understood */
};

struct verb;

struct cli {
	const char *socket;
	uint32_t timeout_ms;
	bool json, colour;
	FILE *out;
	struct conn *conn; /* NULL: not connected yet */
	const struct verb *verb;
	json_t *options, *values; /* args_parse's: in front of the verb, behind it */
	bool printed;		  /* run printed itself: no printer, no JSON */
	struct err err;
};

struct verb {
	const char *name; /* "disk add" */
	const struct arg *args;
	/* The RPC methods; without run, the first is called with the parameters of the rows. */
	const char *methods[CLI_VERB_CALLS_MAX];
	/* 0 and a result (a new reference), or -errno and cli->err; a result is dropped then, NULL
	 * until it is set. Without run: see methods. */
	int (*run)(struct cli *cli, json_t **ret_result);
	/* For people; NULL: says nothing more than that it was done: nothing. */
	void (*print)(struct cli *cli, const json_t *result);
	const char *help;
};

/* NULL-terminated by name, in the order of the help. */
extern const struct verb verbs[];

/* The verb that words begin with; *ret_used: how many of them are its name. NULL: none. */
const struct verb *verb_find(int count, char *const *words, int *ret_used);
/* Does its name begin with these words? */
bool verb_begins(const struct verb *v, int count, char *const *words);
/* How many verbs do. */
uint32_t verb_prefix_count(int count, char *const *words);

/* ---- what a verb uses ---- */

/* Connects at the first call. As conn_call; reterr is cli->err. params: a reference is stolen. */
int cli_call(struct cli *cli, const char *method, json_t *params, json_t **ret_result);
/* The same, and the result is of no interest. */
int cli_do(struct cli *cli, const char *method, json_t *params);
/* The parameters of the verb's call number n, as given on the command line. A new reference. */
json_t *cli_params(const struct cli *cli, uint32_t call);
/* An argument's value; NULL: not given. */
const char *cli_str(const struct cli *cli, const char *key);
bool cli_flag(const struct cli *cli, const char *key);
uint64_t cli_u64(const struct cli *cli, const char *key, uint64_t otherwise);
bool cli_given(const struct cli *cli, const char *key);

/* The code to exit with after rc of a call. */
enum cli_exit cli_exit_of(int rc);

/* ---- small things of JSON ---- */

/* A member's text; "" when it is none. */
const char *member_str(const json_t *object, const char *key);
json_int_t member_int(const json_t *object, const char *key);
bool member_true(const json_t *object, const char *key);
/* {"key": "value"}, a new reference. */
json_t *object_of(const char *key, const char *value);

/* ---- printers: print_*.c ---- */

void print_json(struct cli *cli, const json_t *value);
void print_disks(struct cli *cli, const json_t *result);
void print_disk(struct cli *cli, const json_t *result);
void print_devices(struct cli *cli, const json_t *result);
void print_scsi(struct cli *cli, const json_t *result);
void print_nvme(struct cli *cli, const json_t *result);
void print_bdevs(struct cli *cli, const json_t *result);
void print_bdev(struct cli *cli, const json_t *result);
void print_status(struct cli *cli, const json_t *result);
void print_upgrade(struct cli *cli, const json_t *result);
void print_text(struct cli *cli, const json_t *result);
void print_slow(struct cli *cli, const json_t *result);
void print_job(struct cli *cli, const json_t *result);
void print_jobs(struct cli *cli, const json_t *result);
/* What a resize gave: a bdev, a device, or a job in the background. */
void print_resized(struct cli *cli, const json_t *result);
void print_event(struct cli *cli, const json_t *event);

/* ---- verbs with code of their own ---- */

int disk_add(struct cli *cli, json_t **ret_result);
int disk_list(struct cli *cli, json_t **ret_result);
int disk_show(struct cli *cli, json_t **ret_result);
int disk_resize(struct cli *cli, json_t **ret_result);
int disk_limit(struct cli *cli, json_t **ret_result);
int disk_copy(struct cli *cli, json_t **ret_result);
int disk_format(struct cli *cli, json_t **ret_result);
int disk_swap(struct cli *cli, json_t **ret_result);
int disk_rm(struct cli *cli, json_t **ret_result);
int scsi_add(struct cli *cli, json_t **ret_result);
int scsi_list(struct cli *cli, json_t **ret_result);
int scsi_rm(struct cli *cli, json_t **ret_result);
int scsi_target_add(struct cli *cli, json_t **ret_result);
int scsi_target_rm(struct cli *cli, json_t **ret_result);
int nvme_add(struct cli *cli, json_t **ret_result);
int nvme_rm(struct cli *cli, json_t **ret_result);
int nvme_list(struct cli *cli, json_t **ret_result);
int nvme_ns_add(struct cli *cli, json_t **ret_result);
int nvme_ns_rm(struct cli *cli, json_t **ret_result);
int bdev_add(struct cli *cli, json_t **ret_result);
int bdev_rm(struct cli *cli, json_t **ret_result);
int bdev_resize(struct cli *cli, json_t **ret_result);
int qos_set(struct cli *cli, json_t **ret_result);
int jobs_wait(struct cli *cli, json_t **ret_result);
int status_run(struct cli *cli, json_t **ret_result);
int upgrade_run(struct cli *cli, json_t **ret_result);
int top_run(struct cli *cli, json_t **ret_result);
int stats_run(struct cli *cli, json_t **ret_result);
int slow_run(struct cli *cli, json_t **ret_result);
int events_run(struct cli *cli, json_t **ret_result);
int config_save(struct cli *cli, json_t **ret_result);
int config_load(struct cli *cli, json_t **ret_result);
int log_level_run(struct cli *cli, json_t **ret_result);
int rpc_run_verb(struct cli *cli, json_t **ret_result);
int completion_run(struct cli *cli, json_t **ret_result);
int help_run(struct cli *cli, json_t **ret_result);
/* The words of a line to complete, the last perhaps in part: prints what may stand there. */
int complete_run(struct cli *cli, int count, char *const *words);

#endif
