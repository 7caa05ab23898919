/*
 * What a descriptor from a front-end is allowed to be. A kick is an eventfd; call and err may also
 * be a FIFO or a socket (User Mode Linux passes one end of a socket pair as call). Files and other
 * anonymous inodes are refused: writing them could have effects that are not a bell's.
 */
#ifndef SOCK_FDKIND_H
#define SOCK_FDKIND_H

#include <stdbool.h>

#include "base/err.h"

/* 0; -EINVAL with `what` named. Thread: any. */
int fdkind_check_bell(int fd, bool fifo_ok, const char *what, struct err *reterr);

#endif
