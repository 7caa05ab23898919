/*
 * For unit tests: what is written to stderr between capture_begin and capture_end, as text.
 */
#ifndef BASE_CAPTURE_TEST_H
#define BASE_CAPTURE_TEST_H

#include <fcntl.h>
#include <unistd.h>

#include "base/check.h"

struct capture {
	int pipe_fds[2];
	int saved_fd;
};

static inline void capture_begin(struct capture *c)
{
	ASSERT(!pipe2(c->pipe_fds, O_NONBLOCK | O_CLOEXEC));
	c->saved_fd = dup(STDERR_FILENO);
	ASSERT(c->saved_fd >= 0);
	ASSERT(dup2(c->pipe_fds[1], STDERR_FILENO) == STDERR_FILENO);
}

/* At most size - 1 bytes, terminated. */
static inline void capture_end(struct capture *c, char *ret_text, size_t size)
{
	ssize_t n = read(c->pipe_fds[0], ret_text, size - 1);

	ASSERT(dup2(c->saved_fd, STDERR_FILENO) == STDERR_FILENO);
	close(c->saved_fd);
	close(c->pipe_fds[0]);
	close(c->pipe_fds[1]);
	ret_text[n > 0 ? n : 0] = '\0';
}

#endif
