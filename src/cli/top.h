/*
 * `vhostctl top`: what the screen and --batch have in common.
 */
#ifndef CLI_TOP_H
#define CLI_TOP_H

#include "cli/cli.h"
#include "cli/rates.h"

struct top {
	struct cli *cli;
	uint64_t interval_ms;
	uint64_t count; /* of rounds */
	enum rates_sort by;
	bool queues;	      /* not devices */
	char *device;	      /* only its queues, and its operations; NULL: all */
	json_t *now, *before; /* device_get_stats' answers */
	struct rates *rates;
};

/* Asks once more: rates are between this and the last time. As cli_call. */
int top_sample(struct top *top);
/* The full screen, until `q` or top->count. As cli_call; -ENOTTY: no terminal. */
int screen_run(struct top *top);

#endif
