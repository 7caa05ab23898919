/*
 * Rings a front-end's bell (the call or err descriptor of a ring) without ever waiting for it: one
 * 8-byte write through the loop's io_uring, at most one at a time. A full eventfd or pipe keeps
 * that one write in the kernel and nobody else; further rings of the bell meanwhile become one.
 *
 * A plain write is no alternative: O_NONBLOCK belongs to the description that the front-end shares
 * and may clear at any time.
 * Thread: the owner loop's.
 */
#ifndef LOOP_NOTIFY_H
#define LOOP_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/loop.h"

struct notify {
	struct loop *loop;
	int fd; /* not owned; -1: none */
	/* private: */
	bool busy; /* a write is in the kernel */
	bool owed; /* one more is due: wanted while busy, stopping or without a descriptor */
	struct loop_op op;
	struct loop_timer grace;
	uint64_t one; /* what is written; must outlive the write */
	void (*idle)(struct notify *n);
};

void notify_init(struct notify *n);
/* From now on loop and fd; rings at once when one is owed. */
void notify_start(struct notify *n, struct loop *loop, int fd);
/* Without a descriptor it is owed, and rung when there is one. */
void notify_send(struct notify *n);
/*
 * Lets the write under way finish for at most grace_ns, then cancels it; idle(n) comes once,
 * possibly before this returns, and then fd may be closed. What is owed is kept.
 */
void notify_stop(struct notify *n, uint64_t grace_ns, void (*idle)(struct notify *n));

#endif
