/*
 * One fixed ring of the last events per thread, written without locks and dumped on an assert or
 * on SIGUSR2-style request: what happened just before. An event is a name from the table below
 * and two numbers.
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stdint.h>

#define TRACE_EVENTS(X)                                                                            \
	X(SESSION_STATE)                                                                           \
	X(VRING_STATE)                                                                             \
	X(MSG_IN)                                                                                  \
	X(LOOP_SLEEP)                                                                              \
	X(LOOP_WAKE)                                                                               \
	X(RING_BROKEN)                                                                             \
	X(BLK_STATE)

enum trace_event {
#define X(n) TRACE_##n,
	TRACE_EVENTS(X)
#undef X
	TRACE_EVENT_COUNT
};

/* Thread: any; each has its own ring. */
void trace_put(enum trace_event ev, uint64_t a, uint64_t b);
/* Writes this thread's ring, oldest first, to fd. Async-signal-safe. */
void trace_dump(int fd);

#endif
