/*
 * vhostctl help, --help: all from the rows.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/help.h"

static const char usage_head[] =
	"vhostctl: controls a running vhostd.\n"
	"\n"
	"usage: vhostctl [OPTION]... VERB [ARGUMENT]...\n"
	"\n"
	"  -s, --socket PATH   the daemon's management socket; default: $" CLI_SOCKET_ENV ",\n"
	"                      else " CLI_SOCKET_DEFAULT "\n"
	"  -t, --timeout TIME  wait at most so long for an answer (500ms, 5s; 0: for ever),\n"
	"                      default 60s\n"
	"      --json          for programs: the keys stay as they are\n"
	"      --color WHEN    auto, always or never; auto: on a terminal, without $NO_COLOR\n"
	"  -h, --help          of a verb: what it takes\n"
	"  -V, --version\n"
	"\n";

static const char usage_tail[] =
	"\n"
	"exit: 0 done, 1 refused by the daemon, 2 wrong command line, 3 no daemon, 4 no answer in\n"
	"time, 5 an answer that was not understood. vhostctl help VERB tells more.\n";

static void put_text(void *arg, const char *text)
{
	fputs(text, arg);
}

void help_print(FILE *out)
{
	fputs(usage_head, out);
	for (const struct verb *v = verbs; v->name; v++)
		fprintf(out, "  %-16s %s\n", v->name, v->help);
	fputs(usage_tail, out);
}

static void arg_print(const struct arg *row, FILE *out)
{
	char name[64];

	if (row->letter)
		snprintf(name, sizeof(name), "-%c, %s", row->letter, row->name);
	else
		snprintf(name, sizeof(name), "%s%s", row->name[0] == '-' ? "    " : "", row->name);
	fprintf(out, "  %-22s %s", name, row->help);
	for (const char *const *n = row->type == ARG_ENUM ? row->names : NULL; n && *n; n++)
		fprintf(out, "%s%s", n == row->names ? ": " : ", ", *n);
	fputc('\n', out);
}

void help_verb(const struct verb *v, FILE *out)
{
	fprintf(out, "vhostctl %s", v->name);
	args_usage(v->args, put_text, out);
	fprintf(out, "\n\n%s.\n", v->help);
	if (v->args)
		fputc('\n', out);
	for (const struct arg *row = v->args; row && row->name; row++)
		arg_print(row, out);
	if (v->methods[0])
		fprintf(out, "\ncalls:");
	for (uint32_t i = 0; i < CLI_VERB_CALLS_MAX && v->methods[i]; i++)
		fprintf(out, " %s", v->methods[i]);
	if (v->methods[0])
		fputc('\n', out);
}

/* The verbs that begin with these words. */
void help_prefix(int count, char *const *words, FILE *out)
{
	for (const struct verb *v = verbs; v->name; v++)
		if (verb_begins(v, count, words)) {
			fprintf(out, "  vhostctl %s", v->name);
			args_usage(v->args, put_text, out);
			fputc('\n', out);
		}
}

int help_run(struct cli *cli, json_t **ret_result)
{
	static const char *const keys[] = { "verb", "word", "word3" };
	char *words[CLI_VERB_WORDS_MAX];
	const struct verb *v;
	int count = 0, used;

	cli->printed = true;
	*ret_result = json_true();
	while (count < CLI_VERB_WORDS_MAX && cli_given(cli, keys[count])) {
		words[count] = (char *)cli_str(cli, keys[count]);
		count++;
	}
	if (!count) {
		help_print(cli->out);
		return 0;
	}
	v = verb_find(count, words, &used);
	if (v)
		help_verb(v, cli->out);
	else if (verb_prefix_count(count, words))
		help_prefix(count, words, cli->out);
	else
		return err_set(&cli->err, -EINVAL, "%s: unknown verb; vhostctl help lists them",
			       words[0]);
	return 0;
}
