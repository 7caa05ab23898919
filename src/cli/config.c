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

struct load {
	struct cli *cli;
	const char *path, *subsystem;
	uint32_t done, failed;
};

static int load_call(struct load *l, const json_t *call, size_t index)
{
	const char *method = member_str(call, "method");
	struct cli *cli = l->cli;
	int rc;

	if (!*method)
		return err_set(&cli->err, -EBADMSG,
			       "%s: subsystem %s: config[%zu]: expected {\"method\": ..., "
			       "\"params\": {...}}",
			       l->path, l->subsystem, index);
	rc = cli_do(cli, method, json_incref(json_object_get(call, "params")));
	if (rc == 0) {
		l->done++;
		return 0;
	}
	err_prefix(&cli->err, rc, "%s: subsystem %s: config[%zu]: %s", l->path, l->subsystem, index,
		   method);
	if (rc != -EREMOTEIO || !cli_flag(cli, "keep-going"))
		return rc;
	fprintf(stderr, "vhostctl: %s\n", cli->err.msg);
	l->failed++;
	return 0;
}

static int load_subsystem(struct load *l, const json_t *subsystem)
{
	const json_t *config = json_object_get(subsystem, "config"), *one, *inner;
	size_t i, j;
	int rc;

	l->subsystem = member_str(subsystem, "subsystem");
	json_array_foreach(config, i, one)
	{
		if (!json_is_array(one)) {
			rc = load_call(l, one, i);
			if (rc < 0)
				return rc;
			continue;
		}
		json_array_foreach(one, j, inner)
		{
			rc = load_call(l, inner, i);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

static int load_all(struct load *l, const json_t *config)
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
	rc = load_all(&l, config);
	json_decref(config);
	*ret_result = json_pack("{s:I}", "calls", (json_int_t)l.done);
	return rc;
}
