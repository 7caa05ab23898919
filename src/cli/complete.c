/*
 * Completion: bash asks `vhostctl complete -- WORD...` what may stand where the last word is. What
 * it is told comes from the rows, and names from the daemon, which gets COMPLETE_TIMEOUT_MS: a
 * shell that waits is worse than one that offers nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"

#define COMPLETE_TIMEOUT_MS 1000

/* What bash takes to complete file names itself. */
#define FILES_WORD "<files>"

static const char bash_script[] =
	"# Completion of vhostctl for bash. Printed by `vhostctl completion bash`: either\n"
	"#	source <(vhostctl completion bash)\n"
	"# in ~/.bashrc, or this file in /usr/share/bash-completion/completions.\n"
	"_vhostctl()\n"
	"{\n"
	"	local IFS=$'\\n' line=${COMP_LINE:0:COMP_POINT} word\n"
	"	COMPREPLY=()\n"
	"	for word in $(\"${COMP_WORDS[0]}\" complete -- \"${COMP_WORDS[@]:1:COMP_CWORD}\" "
	"2>/dev/null); do\n"
	"		if [[ $word == '" FILES_WORD "' ]]; then\n"
	"			compopt -o filenames 2>/dev/null\n"
	"			COMPREPLY+=($(compgen -f -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
	"		else\n"
	"			COMPREPLY+=(\"$(printf '%q' \"$word\")\")\n"
	"		fi\n"
	"	done\n"
	"}\n"
	"complete -F _vhostctl vhostctl\n";

int completion_run(struct cli *cli, json_t **ret_result)
{
	fputs(bash_script, cli->out);
	cli->printed = true;
	*ret_result = json_true();
	return 0;
}

struct complete {
	struct cli *cli;
	const char *prefix;
};

static void offer(struct complete *c, const char *word)
{
	if (*word && !strncmp(word, c->prefix, strlen(c->prefix)))
		fprintf(c->cli->out, "%s\n", word);
}

/* The next word of each verb that begins with these. */
static void offer_verbs(struct complete *c, int count, char *const *words)
{
	char last[64] = "";

	for (const struct verb *v = verbs; v->name; v++) {
		const char *p = v->name;
		char word[64];
		size_t len;

		if (!verb_begins(v, count, words))
			continue;
		for (int n = 0; n < count && *p; n++) {
			p += strcspn(p, " ");
			p += *p == ' ';
		}
		len = strcspn(p, " ");
		if (!len || len >= sizeof(word))
			continue;
		memcpy(word, p, len);
		word[len] = '\0';
		if (strcmp(word, last)) /* those that begin alike stand together */
			offer(c, word);
		memcpy(last, word, len + 1);
	}
}

/* ---- names, which the daemon knows ---- */

static void offer_members(struct complete *c, const char *method, const char *key, const char *kind)
{
	json_t *all, *one;
	size_t i;

	if (cli_call(c->cli, method, NULL, &all) < 0)
		return;
	json_array_foreach(all, i, one)
	{
		const json_t *specific = json_object_get(one, "backend_specific");

		if (json_is_string(one))
			offer(c, json_string_value(one));
		else if (!kind || json_object_get(specific, kind) ||
			 !strcmp(member_str(one, "type"), kind))
			offer(c, member_str(one, key));
	}
	json_decref(all);
}

static void offer_jobs(struct complete *c)
{
	json_t *all, *one;
	char id[24];
	size_t i;

	if (cli_call(c->cli, "job_get_jobs", NULL, &all) < 0)
		return;
	json_array_foreach(all, i, one)
	{
		if (!member_true(one, "cancellable"))
			continue;
		snprintf(id, sizeof(id), "%lld", member_int(one, "id"));
		offer(c, id);
	}
	json_decref(all);
}

static void offer_values(struct complete *c, const struct arg *row)
{
	for (const char *const *n = row->type == ARG_ENUM ? row->names : NULL; n && *n; n++)
		offer(c, *n);
	switch (row->offer) {
	case OFFER_NOTHING:
		break;
	case OFFER_FILES:
		fputs(FILES_WORD "\n", c->cli->out);
		break;
	case OFFER_DISKS:
		offer_members(c, "device_get_devices", "name", "blk");
		break;
	case OFFER_SCSI:
		offer_members(c, "device_get_devices", "name", "scsi");
		break;
	case OFFER_NVME:
		offer_members(c, "nvmf_get_subsystems", "nqn", NULL);
		offer_members(c, "vhost_get_controllers", "ctrlr", "namespaces");
		break;
	case OFFER_DEVICES:
		offer_members(c, "device_get_devices", "name", NULL);
		break;
	case OFFER_DISKS_BDEVS:
		offer_members(c, "device_get_devices", "name", "blk");
		offer_members(c, "bdev_get_bdevs", "name", NULL);
		break;
	case OFFER_BDEVS:
		offer_members(c, "bdev_get_bdevs", "name", NULL);
		break;
	case OFFER_METHODS:
		offer_members(c, "rpc_get_methods", "", NULL);
		break;
	case OFFER_JOBS:
		offer_jobs(c);
		break;
	case OFFER_VERBS:
		offer_verbs(c, 0, NULL);
		break;
	}
}

/* ---- where the word stands ---- */

static void offer_options(struct complete *c, const struct arg *rows)
{
	for (const struct arg *row = rows; row && row->name; row++)
		if (row->name[0] == '-')
			offer(c, row->name);
}

/* words: those behind the verb, the last is to be completed. */
static void complete_args(struct complete *c, const struct verb *v, int count, char *const *words)
{
	const struct arg *row;
	uint32_t place = 0;

	for (int i = 0; i + 1 < count; i++) {
		row = words[i][0] == '-' ? args_option(v->args, words[i], strlen(words[i])) : NULL;
		if (!row && words[i][0] == '-')
			row = args_option(options_rows, words[i], strlen(words[i]));
		if (!row && words[i][0] != '-')
			place++;
		if (!row || row->type == ARG_FLAG)
			continue;
		if (i + 2 == count) { /* its value is to be completed */
			offer_values(c, row);
			return;
		}
		i++;
	}
	if (words[count - 1][0] == '-') {
		offer_options(c, v->args);
		offer_options(c, options_rows);
		return;
	}
	row = args_place(v->args, place);
	if (row)
		offer_values(c, row);
	else
		offer_options(c, v->args);
}

/* One set of words for both: bash breaks "--file=x" at '=', which we take as a word of its own. */
static int words_join(int count, char *const *words, char **ret_words)
{
	int n = 0;

	for (int i = 0; i < count; i++)
		if (strcmp(words[i], "=") || i + 1 == count)
			ret_words[n++] = words[i];
	if (n && !strcmp(ret_words[n - 1], "="))
		ret_words[n - 1] = (char *)"";
	return n;
}

int complete_run(struct cli *cli, int count, char *const *words)
{
	char **joined = calloc((size_t)count + 1, sizeof(*joined));
	struct complete c = { .cli = cli };
	const struct verb *v;
	int used, at;

	if (!joined || !count) {
		free(joined);
		return CLI_OK;
	}
	count = words_join(count, words, joined);
	c.prefix = joined[count - 1];
	cli->timeout_ms = COMPLETE_TIMEOUT_MS;
	at = options_skip(cli, count - 1, joined);
	v = at < 0 ? NULL : verb_find(count - 1 - at, joined + at, &used);
	if (at < 0)
		fputs(FILES_WORD "\n", cli->out);
	else if (v)
		complete_args(&c, v, count - at - used, joined + at + used);
	else if (*c.prefix == '-')
		offer_options(&c, options_rows);
	else
		offer_verbs(&c, count - 1 - at, joined + at);
	free(joined);
	return CLI_OK;
}
