#include "cli/cli.h"
int top_run(struct cli *cli, json_t **ret_result){return 0;}
int stats_run(struct cli *cli, json_t **ret_result){return 0;}
