/*
 * Unix sockets by path: a listening one that we create and later remove, or a connection to one.
 * Thread: main.
 */
#ifndef SOCK_LISTEN_H
#define SOCK_LISTEN_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* The socket file as we created it: what is there later under that name may be another's. */
struct listen_file {
	char *path; /* owned; NULL: none */
	dev_t dev;
	ino_t ino;
};

/*
 * Creates the socket file with permissions `mode` and listens. A stale socket file (nobody
 * listens) is replaced. Errors: -EADDRINUSE (a live server, or not a socket), -ENAMETOOLONG, and
 * bind's and listen's; nothing is left behind.
 */
int listen_open(const char *path, mode_t mode, struct listen_file *ret_file, int *ret_fd,
		struct err *reterr);
/*
 * A listening socket of another process, which is ours from now on: who connects sees our process
 * behind it (SO_PEERCRED), and not that one's, which may have ended.
 */
void listen_again(int fd);
/* Removes the file if it is still the one that we created. */
void listen_file_remove(struct listen_file *file);
/* A connected, non-blocking socket. -EAGAIN: the server's backlog is full. */
int listen_connect(const char *path, int *ret_fd, struct err *reterr);

#endif
