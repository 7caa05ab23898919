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

#endif
