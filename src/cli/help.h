/*
 * The help, printed from the rows of the verbs.
 */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include <stdio.h>

#include "cli/cli.h"

void help_print(FILE *out);
void help_verb(const struct verb *v, FILE *out);
/* One line for each verb that begins with these words. */
void help_prefix(int count, char *const *words, FILE *out);

#endif
