/*
 * In which phase the daemon is, which decides on the methods that may be called.
 *
 *   STARTUP (--wait-for-rpc) --call_runtime_begin--> RUNTIME
 *
 * Thread: main.
 */
#ifndef MGMT_CALL_H
#define MGMT_CALL_H

#include <stdbool.h>

#include "mgmt/rpc.h"

/* May the method be called in the present phase? */
bool call_allowed(const struct rpc_method *method);
bool call_runtime(void);
void call_runtime_begin(void);

/* From now on (true) calls that change something are refused: a hand-over is under way. */
void call_hold(bool held);
/* How many such calls have not been answered. */
uint32_t call_changing(void);

#endif
