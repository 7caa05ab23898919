/*
 * --state FILE: what the management socket has made is there again after a restart.
 *
 * The file is one of calls (replay.h): what framework_get_config writes of all sections, without
 * what the command line and the files of -c make. It is written as a whole (loop/statefile.h)
 * after each change; changes that come while it is written share the next writing. A method that
 * changes something (rpc_result_saved) is answered when a file with its change is on disk.
 *
 * A full disk refuses a change before it is made: room for the next content is kept in FILE.new,
 * and a call for which it does not do waits for more of it, or is an error. When writing fails all
 * the same, the call's error says that the change is in force and not saved; the next change
 * writes it, too. FILE.lock keeps a second daemon away.
 *
 *   OFF --state_begin--> ON --state_stop--> STOPPING --the last writing ends--> OFF
 *
 * Thread: main.
 */
#ifndef MGMT_STATE_H
#define MGMT_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "loop/loop.h"
#include "mgmt/replay.h"
#include "mgmt/rpc.h"

/*
 * Takes the file for this daemon, and reads it: *ret_replay, NULL when there is none yet, is the
 * state's own until state_close. -EBUSY: another daemon has it; others of open and replay_new.
 */
int state_open(const char *path, struct replay **ret_replay, struct err *reterr);
/*
 * Everything was restored: from here changes are saved. given: files whose calls made what is not
 * to be saved; there until state_close.
 */
void state_begin(struct loop *main_loop, struct replay *const *given, uint32_t given_count);
/* What has changed so far is written; later changes are errors. stopped(arg) once, maybe at once.
 * Comes before anything is taken down. Also when it was not begun. */
void state_stop(void (*stopped)(void *arg), void *arg);
void state_close(void);

/* ---- hand-over ---- */

/* The calls of all sections, what files of -c have made included: what a successor runs in place of
 * these files and the state. The caller frees it; NULL: no memory. */
char *state_calls_text(void);
/* -EIO, named: the file is not as it should be, so a successor would not know what it has. */
int state_hand_check(struct err *reterr);
/* Is nothing being written? */
bool state_is_quiet(void);
/*
 * In the successor, before state_begin, everything being there: what the file has and is not there
 * could not be restored by the predecessor, and is kept in the file.
 */
void state_take_over(void);

/*
 * False: the call may run now. True: it is run(call) when there is room for what it may change, or
 * it has been answered with an error.
 */
bool state_admit(struct rpc_call *call, const json_t *params, void (*run)(struct rpc_call *call));

/*
 * Something that lasts has changed without a call: then(arg, saved) once, when it is on disk
 * (at once without --state), or could not be written. Later, if not at once.
 */
void state_changed(void (*then)(void *arg, bool saved), void *arg);

#endif
