#include <stddef.h>

#include "base/mpsc.h"

void mpsc_init(struct mpsc *q)
{
	atomic_init(&q->stub.next, NULL);
	atomic_init(&q->tail, &q->stub);
	q->head = &q->stub;
}

void mpsc_push(struct mpsc *q, struct mpsc_node *n)
{
	struct mpsc_node *prev;

	atomic_store_explicit(&n->next, NULL, memory_order_relaxed);
	prev = atomic_exchange_explicit(&q->tail, n, memory_order_acq_rel);
	/* Release: pairs with the acquire load of next in mpsc_pop. */
	atomic_store_explicit(&prev->next, n, memory_order_release);
}

struct mpsc_node *mpsc_pop(struct mpsc *q)
{
	struct mpsc_node *head = q->head;
	struct mpsc_node *next = atomic_load_explicit(&head->next, memory_order_acquire);

	if (head == &q->stub) {
		if (!next)
			return NULL;
		q->head = head = next;
		next = atomic_load_explicit(&head->next, memory_order_acquire);
	}
	if (next) {
		q->head = next;
		return head;
	}
	if (head != atomic_load_explicit(&q->tail, memory_order_acquire))
		return NULL; /* a producer stands between swap and link */
	/* head is the last one: the stub goes behind it so that head can leave. */
	mpsc_push(q, &q->stub);
	next = atomic_load_explicit(&head->next, memory_order_acquire);
	if (!next)
		return NULL;
	q->head = next;
	return head;
}

bool mpsc_maybe(struct mpsc *q)
{
	return q->head != &q->stub ||
	       atomic_load_explicit(&q->tail, memory_order_acquire) != &q->stub;
}
