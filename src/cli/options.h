/*
 * The options of every verb, in front of it or behind: -s, -t, --json, --color.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "cli/cli.h"

/* For args_parse: they may also stand behind the verb. */
extern const struct arg options_rows[];
/* What cli->options say goes into cli. */
void options_apply(struct cli *cli);
/* What they say goes into cli; *ret_used: how many words they are. -EINVAL, and cli->err. */
int options_parse(struct cli *cli, int count, char *const *words, int *ret_used, bool *ret_help,
		  bool *ret_version);
/* For completion, which has a timeout of its own: how many words they are, whatever they say;
 * -1: the last wants a value. */
int options_skip(struct cli *cli, int count, char *const *words);

#endif
