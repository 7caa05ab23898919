#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/check.h"
#include "base/mpsc.h"

#define PRODUCER_COUNT	   4
#define ITEMS_PER_PRODUCER 20000

struct item {
	struct mpsc_node node;
	uint32_t producer_idx;
	uint32_t seq;
};

struct producer {
	pthread_t thread;
	struct mpsc *queue;
	struct item *items;
};

static void one_producer_is_popped_in_order_and_nodes_can_be_reused(void **state)
{
	struct mpsc_node n[5];
	struct mpsc q;

	mpsc_init(&q);
	assert_false(mpsc_maybe(&q));
	assert_null(mpsc_pop(&q));
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 5; i++)
			mpsc_push(&q, &n[i]);
		for (int i = 0; i < 5; i++) {
			assert_true(mpsc_maybe(&q));
			assert_ptr_equal(mpsc_pop(&q), &n[i]);
		}
		assert_null(mpsc_pop(&q));
		assert_false(mpsc_maybe(&q));
		mpsc_push(&q, &n[0]);
		assert_ptr_equal(mpsc_pop(&q), &n[0]);
		assert_null(mpsc_pop(&q));
	}
}

/* The two halves of mpsc_push, so that the consumer can be put between them. */
static struct mpsc_node *push_swap(struct mpsc *q, struct mpsc_node *n)
{
	atomic_store(&n->next, NULL);
	return atomic_exchange(&q->tail, n);
}

static void push_link(struct mpsc_node *prev, struct mpsc_node *n)
{
	atomic_store(&prev->next, n);
}

static void pop_in_the_gap_of_a_push_to_an_empty_queue_waits_for_the_link(void **state)
{
	struct mpsc_node a, *prev;
	struct mpsc q;

	mpsc_init(&q);
	prev = push_swap(&q, &a);
	assert_null(mpsc_pop(&q));
	assert_true(mpsc_maybe(&q));
	push_link(prev, &a);
	assert_ptr_equal(mpsc_pop(&q), &a);
	assert_null(mpsc_pop(&q));
	assert_false(mpsc_maybe(&q));
}

static void pop_in_the_gap_behind_an_element_loses_and_reorders_nothing(void **state)
{
	struct mpsc_node a, b, c, *prev;
	struct mpsc q;

	mpsc_init(&q);
	mpsc_push(&q, &a);
	prev = push_swap(&q, &b);
	mpsc_push(&q, &c);
	assert_null(mpsc_pop(&q));
	assert_null(mpsc_pop(&q));
	assert_true(mpsc_maybe(&q));
	push_link(prev, &b);
	assert_ptr_equal(mpsc_pop(&q), &a);
	assert_ptr_equal(mpsc_pop(&q), &b);
	assert_ptr_equal(mpsc_pop(&q), &c);
	assert_null(mpsc_pop(&q));
}

static void *producer_main(void *arg)
{
	struct producer *p = arg;

	for (uint32_t i = 0; i < ITEMS_PER_PRODUCER; i++) {
		p->items[i].seq = i;
		mpsc_push(p->queue, &p->items[i].node);
	}
	return NULL;
}

static void many_producers_lose_nothing_and_each_keeps_its_order(void **state)
{
	struct producer producers[PRODUCER_COUNT];
	uint32_t next_seq[PRODUCER_COUNT] = { 0 };
	struct mpsc q;

	mpsc_init(&q);
	for (uint32_t i = 0; i < PRODUCER_COUNT; i++) {
		producers[i].queue = &q;
		producers[i].items = calloc(ITEMS_PER_PRODUCER, sizeof(struct item));
		assert_non_null(producers[i].items);
		for (uint32_t k = 0; k < ITEMS_PER_PRODUCER; k++)
			producers[i].items[k].producer_idx = i;
	}
	for (uint32_t i = 0; i < PRODUCER_COUNT; i++)
		assert_int_equal(
			pthread_create(&producers[i].thread, NULL, producer_main, &producers[i]),
			0);
	for (uint32_t got = 0; got < PRODUCER_COUNT * ITEMS_PER_PRODUCER;) {
		struct mpsc_node *n = mpsc_pop(&q);
		struct item *item;

		if (!n) {
			sched_yield();
			continue;
		}
		item = container_of(n, struct item, node);
		assert_int_equal(item->seq, next_seq[item->producer_idx]++);
		got++;
	}
	assert_null(mpsc_pop(&q));
	assert_false(mpsc_maybe(&q));
	for (uint32_t i = 0; i < PRODUCER_COUNT; i++) {
		pthread_join(producers[i].thread, NULL);
		free(producers[i].items);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_producer_is_popped_in_order_and_nodes_can_be_reused),
		cmocka_unit_test(pop_in_the_gap_of_a_push_to_an_empty_queue_waits_for_the_link),
		cmocka_unit_test(pop_in_the_gap_behind_an_element_loses_and_reorders_nothing),
		cmocka_unit_test(many_producers_lose_nothing_and_each_keeps_its_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
