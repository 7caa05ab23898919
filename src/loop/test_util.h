/*
 * Shared by this room's tests. cmocka wants these headers before its own.
 */
#ifndef LOOP_TEST_UTIL_H
#define LOOP_TEST_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop/loop.h"

/* A kernel or container without io_uring: skip, and say so. */
static inline struct loop *test_loop(const char *name)
{
	struct loop_params params = { .name = name, .cpu = -1, .sq_count = 64 };
	struct loop *loop = NULL;
	struct err err = { 0 };

	if (loop_new(&params, &loop, &err) < 0) {
		print_message("skipped: %s\n", err.msg);
		skip();
	}
	return loop;
}

/* Runs the loop until cond holds; what is waited for wakes it. */
#define test_run_until(loop, cond)                                                                 \
	do {                                                                                       \
		while (!(cond))                                                                    \
			loop_run_once(loop, true);                                                 \
	} while (0)

#endif
