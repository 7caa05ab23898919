/*
 * vhostctl as a function: main is nothing else.
 */
#ifndef CLI_RUN_H
#define CLI_RUN_H

/* Returns enum cli_exit. words: without the program's name. */
int vhostctl_run(int count, char *const *words);

#endif
