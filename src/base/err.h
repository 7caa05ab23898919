/*
 * Error detail for the control plane: a negative errno is the return value, and the sentence that
 * names the thing, the value and the limit is filled where the fact is known, prefixed on the way
 * up and reported once at the top.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>

#define ERR_MSG_MAX 512

struct err {
	int code; /* negative errno, 0: none */
	char msg[ERR_MSG_MAX];
};

/* Fills e (may be NULL) and returns code, so that `return err_set(e, -EINVAL, ...)` reads well. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "text: " in front of the message; returns e's code. e may be NULL (returns code given). */
int err_prefix(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
