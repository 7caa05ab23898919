/*
 * Intrusive doubly linked list, and an intrusive singly linked FIFO for the data path. No memory
 * of their own; the node lives in the element. Thread: the owner's.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_append(struct list *head, struct list *n)
{
	n->next = head;
	n->prev = head->prev;
	head->prev->next = n;
	head->prev = n;
}

/* Leaves the node initialised, so that a second removal does nothing. */
static inline void list_remove(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

static inline struct list *list_pop(struct list *head)
{
	struct list *n = head->next;

	if (n == head)
		return NULL;
	list_remove(n);
	return n;
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_for_each(pos, head, member)                                                           \
	for (pos = list_entry((head)->next, __typeof__(*pos), member); &pos->member != (head);     \
	     pos = list_entry(pos->member.next, __typeof__(*pos), member))
#define list_for_each_safe(pos, tmp, head, member)                                                 \
	for (pos = list_entry((head)->next, __typeof__(*pos), member),                             \
	    tmp = list_entry(pos->member.next, __typeof__(*pos), member);                          \
	     &pos->member != (head);                                                               \
	     pos = tmp, tmp = list_entry(tmp->member.next, __typeof__(*pos), member))

struct fifo_node {
	struct fifo_node *next;
};

struct fifo {
	struct fifo_node *head;
	struct fifo_node **tail;
};

static inline void fifo_init(struct fifo *f)
{
	f->head = NULL;
	f->tail = &f->head;
}

static inline bool fifo_empty(const struct fifo *f)
{
	return !f->head;
}

static inline void fifo_push(struct fifo *f, struct fifo_node *n)
{
	n->next = NULL;
	*f->tail = n;
	f->tail = &n->next;
}

static inline struct fifo_node *fifo_pop(struct fifo *f)
{
	struct fifo_node *n = f->head;

	if (!n)
		return NULL;
	f->head = n->next;
	if (!f->head)
		f->tail = &f->head;
	return n;
}

/* Takes the whole chain out in one step; the caller walks it by ->next. */
static inline struct fifo_node *fifo_take(struct fifo *f)
{
	struct fifo_node *n = f->head;

	fifo_init(f);
	return n;
}

#endif
