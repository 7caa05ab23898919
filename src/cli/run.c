/*
 * From words to an exit code.
 */
#include "cli/run.h"

#include <errno.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/help.h"
#include "cli/options.h"

static int failed(const struct cli *cli, enum cli_exit code)
{
	if (cli->json && code != CLI_USAGE)
		fprintf(stderr, "{\"error\": ");
	if (cli->json && code != CLI_USAGE) {
		json_t *text = json_pack("{s:i, s:s}", "code", cli->conn ? conn_code(cli->conn) : 0,
					 "message", cli->err.msg);

		json_dumpf(text, stderr, 0);
		json_decref(text);
		fprintf(stderr, "}\n");
	} else {
		fprintf(stderr, "vhostctl: %s\n", cli->err.msg);
	}
	return code;
}

/* No verb begins so. */
static int unknown_verb(int count, char *const *words)
{
	int n = count > CLI_VERB_WORDS_MAX ? CLI_VERB_WORDS_MAX : count;

	while (n && !verb_prefix_count(n, words))
		n--;
	if (!n) {
		fprintf(stderr, "vhostctl: %s: unknown verb; vhostctl help lists them\n", words[0]);
		return CLI_USAGE;
	}
	if (n < count)
		fprintf(stderr, "vhostctl: %s: unknown behind %s; there are:\n", words[n],
			words[n - 1]);
	else
		fprintf(stderr, "vhostctl: %s: what? There are:\n", words[n - 1]);
	help_prefix(n, words, stderr);
	return CLI_USAGE;
}

/* What came is printed; what was lost on the way (a full disk, a closed pipe) is an error. */
static int finish(struct cli *cli, const json_t *result)
{
	if (cli->printed)
		;
	else if (cli->json)
		print_json(cli, result);
	else if (cli->verb->print)
		cli->verb->print(cli, result);
	if (fflush(cli->out) || ferror(cli->out)) {
		err_set(&cli->err, -EIO, "standard output: %s", strerror(errno));
		return failed(cli, CLI_REFUSED);
	}
	return CLI_OK;
}

static int verb_run(struct cli *cli, int count, char *const *words)
{
	const struct verb *v = cli->verb;
	const struct args args = { v->args, options_rows, cli->values, cli->options };
	json_t *result = NULL;
	int rc = args_parse(&args, count, words, &cli->err);

	if (rc < 0) {
		fprintf(stderr, "vhostctl: %s: %s; vhostctl help %s\n", v->name, cli->err.msg,
			v->name);
		return CLI_USAGE;
	}
	options_apply(cli);
	rc = v->run ? v->run(cli, &result)
		    : cli_call(cli, v->methods[0], cli_params(cli, 0), &result);
	rc = rc < 0 ? failed(cli, cli_exit_of(rc)) : finish(cli, result);
	json_decref(result);
	return rc;
}

static bool help_asked(int count, char *const *words)
{
	for (int i = 0; i < count && strcmp(words[i], "--"); i++)
		if (!strcmp(words[i], "--help") || !strcmp(words[i], "-h"))
			return true;
	return false;
}

static int dispatch(struct cli *cli, int count, char *const *words)
{
	bool help = false, version = false;
	int used;

	if (options_parse(cli, count, words, &used, &help, &version) < 0) {
		fprintf(stderr, "vhostctl: %s; vhostctl help\n", cli->err.msg);
		return CLI_USAGE;
	}
	words += used;
	count -= used;
	if (version) {
		printf("vhostctl %s\n", VHOSTD_VERSION);
		return CLI_OK;
	}
	if (help || !count) {
		help_print(help ? stdout : stderr);
		return help ? CLI_OK : CLI_USAGE;
	}
	cli->verb = verb_find(count, words, &used);
	if (!cli->verb)
		return unknown_verb(count, words);
	if (help_asked(count - used, words + used)) {
		help_verb(cli->verb, stdout);
		return CLI_OK;
	}
	return verb_run(cli, count - used, words + used);
}

int vhostctl_run(int count, char *const *words)
{
	struct cli cli = { .timeout_ms = CLI_TIMEOUT_MS, .out = stdout };
	int rc;

	cli.options = json_object();
	cli.values = json_object();
	if (count >= 2 && !strcmp(words[0], "complete") && !strcmp(words[1], "--"))
		rc = complete_run(&cli, count - 2, words + 2);
	else
		rc = dispatch(&cli, count, words);
	conn_close(cli.conn);
	json_decref(cli.options);
	json_decref(cli.values);
	return rc;
}
