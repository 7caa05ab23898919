/*
 * A process that takes over from one of the same program: the other side of handover.h. It was
 * started with HANDOVER_OPTION as the first argument, and has the other end of a socket there.
 *
 * main: successor_begin, before anything else is read or opened; then it starts as always, with
 * what it was given in place of the files of calls (successor_replay), and what was open
 * (loop/inherit.h). When everything is open: successor_ready, then the devices and the servers are
 * made of the parcel, then successor_go. Until that has returned nothing was started, and an error
 * ends the process without a trace (successor_fail).
 * Thread: main.
 */
#ifndef APP_SUCCESSOR_H
#define APP_SUCCESSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "app/args.h"
#include "base/err.h"
#include "base/parcel.h"

/*
 * True: argv is that of a successor; the option is taken out of it. ret_rc: 0, or -errno with
 * reterr when what it was given is not to be understood.
 */
bool successor_begin(int *argc, char ***argv, int *ret_rc, struct err *reterr);
bool successor_active(void);
/* Devices that have an inherited socket are the predecessor's; its removed ones are not made.
 * -ENOMEM. */
int successor_config(struct app_config *cfg, struct err *reterr);
/* The calls that recreate what the predecessor has. Errors: replay_new's. */
int successor_replay(struct replay **ret_replay, struct err *reterr);
/* Everything is open. Waits for the devices, in *ret_parcel: the caller's. */
int successor_ready(struct parcel **ret_parcel, struct err *reterr);
/* Everything is there, at a halt. Waits until the predecessor lets go. */
int successor_go(struct err *reterr);
/* Everything goes on: the predecessor may leave. */
void successor_serves(void);
/* Tells it why; does nothing when this process is no successor. */
void successor_fail(const char *text);

#endif
