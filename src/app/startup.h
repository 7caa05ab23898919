/*
 * The daemon's life: from a checked configuration to an exit status.
 */
#ifndef APP_STARTUP_H
#define APP_STARTUP_H

#include "app/args.h"
#include "app/cpus.h"
#include "base/err.h"

/*
 * Opens all back-ends, starts the data loops, then the sockets; serves until SIGTERM, SIGINT, or
 * until every inherited or one-shot connection has ended; then drains and takes everything down.
 * Returns 0, or -errno with reterr when it could not start; nothing is left behind either way.
 * Thread: main, which becomes the main loop's.
 */
int app_run(struct app_config *cfg, const struct cpus *cpus, struct err *reterr);

#endif
