/*
 * vhostctl config: what SPDK's rpc.py does as save_config and load_config, in the same format:
 * {"subsystems": [{"subsystem": NAME, "config": [{"method": M, "params": {...}}]}]}, where an
 * array in place of a call is a batch of them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

/* ---- save ---- */

static int config_fetch(struct cli *cli, json_t **ret_config)
{
	json_t *names, *one, *list = json_array();
	size_t i;
	int rc = cli_call(cli, "framework_get_subsystems", NULL, &names);

	if (rc < 0) {
		json_decref(list);
		return rc;
	}
	json_array_foreach(names, i, one)
	{
		const char *name = member_str(one, "subsystem");
		json_t *calls;

		rc = cli_call(cli, "framework_get_config", object_of("name", name), &calls);
		if (rc < 0)
			break;
		json_array_append_new(list,
				      json_pack("{s:s, s:o}", "subsystem", name, "config", calls));
	}
	json_decref(names);
	*ret_config = json_pack("{s:o}", "subsystems", list);
	if (rc < 0)
		json_decref(*ret_config);
	return rc;
}

/* Writes, syncs, and only then gives it its name. */
static int config_write(struct cli *cli, const json_t *config, const char *path)
{
	char *made;
	FILE *f;
	int fd, rc = 0;

	if (asprintf(&made, "%s.XXXXXX", path) < 0)
		return err_set(&cli->err, -ENOMEM, "out of memory");
	fd = mkstemp(made);
	f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f) {
		rc = err_set(&cli->err, -errno, "%s: %s", made, strerror(errno));
		free(made);
		return rc == -EINVAL ? -EIO : rc;
	}
	if (json_dumpf(config, f, JSON_INDENT(2)) < 0 || fputc('\n', f) < 0 || fflush(f) ||
	    fsync(fd) || rename(made, path))
		rc = err_set(&cli->err, -EIO, "%s: %s: what was there is untouched", path,
			     strerror(errno));
	fclose(f);
	if (rc < 0)
		unlink(made);
	free(made);
	return rc;
}

int config_save(struct cli *cli, json_t **ret_result)
{
	const char *path = cli_str(cli, "file");
	json_t *config;
	int rc = config_fetch(cli, &config);

	if (rc < 0)
		return rc;
	cli->printed = true;
	if (path) {
		rc = config_write(cli, config, path);
	} else {
		json_dumpf(config, cli->out, JSON_INDENT(2));
		fputc('\n', cli->out);
	}
	json_decref(config);
	*ret_result = json_true();
	return rc;
}

/* ---- load ---- */

#define CODE_INVALID_STATE (-1) /* SPDK's: not before, or not after, framework_start_init */

struct load {
	struct cli *cli;
	const char *path;
	json_t *later; /* calls that cannot be made yet, or any more: [subsystem, index, call] */
	uint32_t done, failed;
};

static int load_call(struct load *l, const char *subsystem, size_t index, json_t *call)
{
	const char *method = member_str(call, "method");
	struct cli *cli = l->cli;
	int rc;

	if (!*method)
		return err_set(&cli->err, -EBADMSG,
			       "%s: subsystem %s: config[%zu]: expected {\"method\": ..., "
			       "\"params\": {...}}",
			       l->path, subsystem, index);
	rc = cli_do(cli, method, json_incref(json_object_get(call, "params")));
	if (rc == 0) {
		l->done++;
		return 0;
	}
	if (rc == -EREMOTEIO && conn_code(cli->conn) == CODE_INVALID_STATE) {
		json_array_append_new(l->later,
				      json_pack("[s, I, O]", subsystem, (json_int_t)index, call));
		return 0;
	}
	err_prefix(&cli->err, rc, "%s: subsystem %s: config[%zu]: %s", l->path, subsystem, index,
		   method);
	if (rc != -EREMOTEIO || !cli_flag(cli, "keep-going"))
		return rc;
	fprintf(stderr, "vhostctl: %s\n", cli->err.msg);
	l->failed++;
	return 0;
}

static int load_subsystem(struct load *l, const json_t *subsystem)
{
	const char *name = member_str(subsystem, "subsystem");
	json_t *config = json_object_get(subsystem, "config"), *one, *inner;
	size_t i, j;
	int rc;

	json_array_foreach(config, i, one)
	{
		if (!json_is_array(one)) {
			rc = load_call(l, name, i, one);
			if (rc < 0)
				return rc;
			continue;
		}
		json_array_foreach(one, j, inner)
		{
			rc = load_call(l, name, i, inner);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

static int load_subsystems(struct load *l, const json_t *config)
{
	const json_t *subsystems = json_object_get(config, "subsystems"), *one;
	size_t i;
	int rc;

	if (!json_is_array(subsystems))
		return err_set(&l->cli->err, -EBADMSG,
			       "%s: expected {\"subsystems\": [...]}, as `vhostctl config save` "
			       "writes it",
			       l->path);
	json_array_foreach(subsystems, i, one)
	{
		rc = load_subsystem(l, one);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* A daemon that waits (--wait-for-rpc) starts now, and then the rest can be called. */
static int load_later(struct load *l)
{
	json_t *later = l->later, *one;
	size_t i;
	int rc = 0;

	if (cli_do(l->cli, "framework_start_init", NULL) < 0)
		return conn_code(l->cli->conn) == CODE_INVALID_STATE ? 0 : -EREMOTEIO;
	l->later = json_array();
	json_array_foreach(later, i, one)
	{
		if (rc == 0)
			rc = load_call(l, json_string_value(json_array_get(one, 0)),
				       (size_t)json_integer_value(json_array_get(one, 1)),
				       json_array_get(one, 2));
	}
	json_decref(later);
	return rc;
}

/* What sets up a daemon before it starts says nothing that a running one could still do. */
static void load_skipped(const struct load *l)
{
	const json_t *one;
	size_t i;

	json_array_foreach(l->later, i, one) fprintf(
		stderr, "vhostctl: %s: skipped %s: only before the start (--wait-for-rpc)\n",
		l->path, member_str(json_array_get(one, 2), "method"));
}

static int load_all(struct load *l, const json_t *config)
{
	int rc = load_subsystems(l, config);

	if (rc == 0 && json_array_size(l->later))
		rc = load_later(l);
	if (rc < 0)
		return rc;
	load_skipped(l);
	if (l->failed)
		return err_set(&l->cli->err, -EREMOTEIO, "%s: %u calls failed, %u were done",
			       l->path, l->failed, l->done);
	return 0;
}

int config_load(struct cli *cli, json_t **ret_result)
{
	const char *path = cli_str(cli, "file");
	struct load l = { .cli = cli, .path = path ? path : "standard input" };
	json_error_t detail;
	FILE *f = path ? fopen(path, "re") : stdin;
	json_t *config;
	int rc;

	if (!f)
		return err_set(&cli->err, -ENOENT, "%s: %s", path, strerror(errno));
	config = json_loadf(f, JSON_REJECT_DUPLICATES, &detail);
	if (path)
		fclose(f);
	if (!config)
		return err_set(&cli->err, -EBADMSG, "%s: line %d, column %d: %s", l.path,
			       detail.line, detail.column, detail.text);
	l.later = json_array();
	rc = load_all(&l, config);
	json_decref(l.later);
	json_decref(config);
	*ret_result = json_pack("{s:I}", "calls", (json_int_t)l.done);
	return rc;
}
