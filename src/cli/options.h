/*
 * The options in front of the verb: -s, -t, --json, --color.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "cli/cli.h"

/* What they say goes into cli; *ret_used: how many words they are. -EINVAL, and cli->err. */
int options_parse(struct cli *cli, int count, char *const *words, int *ret_used, bool *ret_help,
		  bool *ret_version);
/* For completion: how many words they are, whatever they say; -1: the last wants a value. */
int options_skip(struct cli *cli, int count, char *const *words);
void options_each(void *arg, void (*fn)(void *arg, const char *name));

#endif
