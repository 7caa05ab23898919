/*
 * Intrusive queue of many producers and one consumer, without locks: a producer swaps the tail and
 * then links; the consumer may see the gap between the two and reports it as "empty for now".
 */
#ifndef BASE_MPSC_H
#define BASE_MPSC_H

#include <stdatomic.h>
#include <stdbool.h>

struct mpsc_node {
	_Atomic(struct mpsc_node *) next;
};

struct mpsc {
	_Atomic(struct mpsc_node *) tail; /* producers */
	struct mpsc_node *head;		  /* consumer */
	struct mpsc_node stub;
};

void mpsc_init(struct mpsc *q);
/* Thread: any. Memory written before the push is visible to who pops it. */
void mpsc_push(struct mpsc *q, struct mpsc_node *n);
/* Thread: consumer. NULL: empty, or a producer stands between swap and link (it will signal). */
struct mpsc_node *mpsc_pop(struct mpsc *q);
/* Thread: consumer. May there be something? */
bool mpsc_maybe(struct mpsc *q);

#endif
