/*
 * A gate counts what is in flight and calls once when it was closed and the count is zero.
 * Thread: the owner's.
 */
#ifndef LOOP_GATE_H
#define LOOP_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"

struct gate {
	uint32_t count;
	bool closed;
	void (*at_zero)(struct gate *g);
};

static inline void gate_enter(struct gate *g)
{
	ASSERT(!g->closed);
	g->count++;
}

static inline void gate_leave(struct gate *g)
{
	ASSERT(g->count);
	if (--g->count == 0 && g->closed)
		g->at_zero(g);
}

/* at_zero may run before this returns. */
static inline void gate_close(struct gate *g, void (*at_zero)(struct gate *g))
{
	ASSERT(!g->closed);
	g->closed = true;
	g->at_zero = at_zero;
	if (!g->count)
		at_zero(g);
}

#endif
