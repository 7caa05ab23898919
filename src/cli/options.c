#include "cli/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const whens[] = { "auto", "always", "never", NULL };

const struct arg options_rows[] = {
	{ "--socket", ARG_STR, .help = "of the daemon", .letter = 's', .offer = OFFER_FILES },
	{ "--timeout", ARG_MSEC, .help = "of each call", .letter = 't' },
	{ "--json", ARG_FLAG, .help = "for programs" },
	{ "--color", ARG_ENUM, .help = "when", .names = whens },
	{ "--help", ARG_FLAG, .help = "help", .letter = 'h' },
	{ "--version", ARG_FLAG, .help = "version", .letter = 'V' },
	{ NULL },
};

/* How many words are options and their values; more than count: the last wants a value. */
static int options_count(int count, char *const *words)
{
	int n = 0;

	while (n < count && words[n][0] == '-' && words[n][1]) {
		const char *word = words[n];
		const struct arg *row = args_option(options_rows, word, strcspn(word, "="));
		const bool has_value = word[1] == '-' ? strchr(word, '=') != NULL : word[2] != '\0';

		n += row && row->type != ARG_FLAG && !has_value ? 2 : 1;
	}
	return n;
}

static bool colour_wanted(const char *when)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	if (!strcmp(when, "auto"))
		return isatty(STDOUT_FILENO) && !(no && *no) && !(term && !strcmp(term, "dumb"));
	return !strcmp(when, "always");
}

void options_apply(struct cli *cli)
{
	const json_t *values = cli->options;
	const char *socket = json_string_value(json_object_get(values, "socket"));
	const char *env = getenv(CLI_SOCKET_ENV);
	const char *when = json_string_value(json_object_get(values, "color"));
	const json_t *timeout = json_object_get(values, "timeout");

	if (socket)
		cli->socket = socket;
	else
		cli->socket = env && *env ? env : CLI_SOCKET_DEFAULT;
	if (timeout)
		cli->timeout_ms = (uint32_t)json_integer_value(timeout);
	cli->json = json_is_true(json_object_get(values, "json"));
	cli->colour = colour_wanted(when ? when : "auto");
}

int options_parse(struct cli *cli, int count, char *const *words, int *ret_used, bool *ret_help,
		  bool *ret_version)
{
	const struct args args = { .rows = options_rows, .values = cli->options };
	int rc;

	*ret_used = options_count(count, words);
	if (*ret_used > count)
		*ret_used = count;
	rc = args_parse(&args, *ret_used, words, &cli->err);
	if (rc < 0)
		return rc;
	options_apply(cli);
	*ret_help = json_is_true(json_object_get(cli->options, "help"));
	*ret_version = json_is_true(json_object_get(cli->options, "version"));
	return 0;
}

int options_skip(struct cli *cli, int count, char *const *words)
{
	const int n = options_count(count, words);
	const uint32_t timeout_ms = cli->timeout_ms;
	int used;
	bool help, version;

	if (n > count)
		return -1;
	options_parse(cli, n, words, &used, &help, &version);
	cli->timeout_ms = timeout_ms;
	return n;
}
