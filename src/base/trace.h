/*
 * One fixed ring of the last events per thread, written without locks and dumped on an assert or
 * on SIGUSR2-style request: what happened just before. An event is a name from the table below
 * and two numbers; those of one subject are a group, and each can be turned off.
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stdint.h>

#define TRACE_GROUPS(X)                                                                            \
	X(session)                                                                                 \
	X(vring)                                                                                   \
	X(loop)                                                                                    \
	X(blk)

/* group, event */
#define TRACE_EVENTS(X)                                                                            \
	X(session, SESSION_STATE)                                                                  \
	X(vring, VRING_STATE)                                                                      \
	X(session, MSG_IN)                                                                         \
	X(loop, LOOP_SLEEP)                                                                        \
	X(loop, LOOP_WAKE)                                                                         \
	X(vring, RING_BROKEN)                                                                      \
	X(blk, BLK_STATE)

enum trace_group {
#define X(g) TRACE_GROUP_##g,
	TRACE_GROUPS(X)
#undef X
	TRACE_GROUP_COUNT
};

enum trace_event {
#define X(g, n) TRACE_##n,
	TRACE_EVENTS(X)
#undef X
	TRACE_EVENT_COUNT
};

/* Thread: any; each has its own ring. */
void trace_put(enum trace_event ev, uint64_t a, uint64_t b);

const char *trace_group_name(enum trace_group group);
/* Its events, 1 << enum trace_event. */
uint64_t trace_group_events(enum trace_group group);
/* The events that are recorded, 1 << enum trace_event; all of them at first. Thread: any. */
uint64_t trace_mask(void);
void trace_mask_set(uint64_t mask);
/* What was recorded so far is not dumped any more. Thread: any. */
void trace_clear(void);
/* Writes this thread's ring, oldest first, to fd. Async-signal-safe. */
void trace_dump(int fd);

#endif
