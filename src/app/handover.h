/*
 * Hand-over: this process starts its program's file anew, and gives everything that it serves to
 * it; see docs/internals/hand-over.md. This is the side of who gives; successor.h is the other.
 *
 *   IDLE --handover_start--> WAITING --calls have ended--> STARTING --READY--> HALTING
 *     ^                         |                             |                   | all is quiet
 *     |_______________________ handover_fail _________________|___________________|
 *     |                                                                           v
 *     |____________________________ handover_fail ____________________________ PASSING --GO--> exit
 *
 * WAITING   from here no call changes anything; those that were under way end
 * STARTING  the successor runs, and opens what this process has; all is served as always
 * HALTING   front-ends wait: requests under way end
 * PASSING   one function that waits for the successor: nothing else runs on main meanwhile
 *
 * Until GO was sent any failure, and the time running out, leaves this process serving as if
 * nothing had been. Thread: main.
 */
#ifndef APP_HANDOVER_H
#define APP_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "app/args.h"
#include "base/err.h"
#include "loop/loop.h"
#include "mgmt/framework.h"

/* The configuration that this process was started with lives as long as it. */
void handover_init(const struct app_config *cfg, struct loop *main_loop);
/* struct framework.hand_over. */
void handover_start(uint32_t timeout_ms, void (*done)(const struct handed_over *r));
#define HANDOVER_SIGNAL_MS 10000 /* the timeout of one that a signal asks for */
/* Is one under way? Then nothing is to be reconfigured. */
bool handover_active(void);
/* The process is to stop: one under way fails with this reason. */
void handover_abort(const char *reason);

/* The version of what is passed; another is refused by name. Sections have their own. */
#define HANDOVER_TAG	 "vhst"
#define HANDOVER_VERSION 1
#define HANDOVER_ALL_TAG "pass"
/* The first argument of a successor: "--hand-over=FD". */
#define HANDOVER_OPTION "--hand-over="

#endif
