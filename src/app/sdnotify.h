/*
 * The service manager's readiness protocol: one datagram to the socket in NOTIFY_SOCKET.
 */
#ifndef APP_SDNOTIFY_H
#define APP_SDNOTIFY_H

#include "base/err.h"

/*
 * Sends state ("READY=1"). 0 when sent, or when no manager asked; -EINVAL for an address that is
 * neither a path nor abstract; else socket's or sendto's errno. Thread: main.
 * Source: sd_notify(3).
 */
int sdnotify_send(const char *state, struct err *reterr);

#endif
