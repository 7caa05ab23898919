#include "virtq/test_ring.h"

static const uint64_t formats[] = { TR_SPLIT, TR_PACKED };

/* What of the region these tests look at, by the offsets of the specification. */
static uint8_t *mark(struct tr *t, uint32_t entry)
{
	return (uint8_t *)t->record + (t->packed ? 32 + entry * 32 : 16 + entry * 16);
}

static uint16_t *field(struct tr *t, uint32_t off)
{
	return (uint16_t *)((char *)t->record + off);
}

static void init(struct tr *t, uint32_t f)
{
	tr_init(t, formats[f], 16);
	tr_record(t);
	tr_start(t);
}

static struct vq_chain *pop(struct tr *t, uint16_t head)
{
	struct vq_chain *c = virtq_pop(t->vq);

	assert_non_null(c);
	assert_int_equal(c->head, head);
	assert_int_equal(c->in.left_bytes, 4097);
	return c;
}

static uint16_t used_index(struct tr *t)
{
	return load16(&tr_used(t)->idx);
}

/* New process, same memory, and a base as old as can be. */
static void restart(struct tr *t)
{
	tr_crash(t);
	tr_start(t);
}

static void killed_after_pop_the_chains_come_again_in_order(void **state)
{
	for (uint32_t f = 0; f < 2; f++) {
		struct tr t;

		init(&t, f);
		tr_add_read(&t, 6);
		tr_add_read(&t, 0);
		tr_add_read(&t, 3);
		pop(&t, 6);
		pop(&t, 0);
		restart(&t);
		assert_int_equal(virtq_resubmits(t.vq), 2);
		assert_false(virtq_arm(t.vq));
		pop(&t, 6);
		restart(&t); /* and killed again */
		pop(&t, 6);
		pop(&t, 0);
		assert_int_equal(virtq_resubmits(t.vq), 0);
		pop(&t, 3); /* then what was never popped */
		assert_null(virtq_pop(t.vq));
		assert_int_equal(virtq_broken(t.vq), VIRTQ_NONE);
		tr_fini(&t);
	}
}

static void killed_between_push_and_publish_the_chain_comes_again(void **state)
{
	for (uint32_t f = 0; f < 2; f++) {
		struct tr t;

		init(&t, f);
		tr_add_read(&t, 0);
		tr_add_read(&t, 3);
		virtq_push(t.vq, pop(&t, 0), 1);
		pop(&t, 3);
		restart(&t);
		virtq_push(t.vq, pop(&t, 0), 1);
		virtq_push(t.vq, pop(&t, 3), 1);
		virtq_publish(t.vq);
		restart(&t);
		assert_null(virtq_pop(t.vq));
		tr_fini(&t);
	}
}

static void killed_after_publish_only_the_others_come_again(void **state)
{
	for (uint32_t f = 0; f < 2; f++) {
		struct tr t;

		init(&t, f);
		for (uint32_t round = 0; round < 40; round++) {
			struct vq_chain *a, *b;

			tr_add_read(&t, 0);
			tr_add_read(&t, 3);
			a = pop(&t, 0);
			b = pop(&t, 3);
			virtq_push(t.vq, b, 4097);
			virtq_publish(t.vq);
			restart(&t);
			(void)a;
			virtq_push(t.vq, pop(&t, 0), 4097);
			assert_null(virtq_pop(t.vq));
			virtq_publish(t.vq);
			assert_int_equal(virtq_broken(t.vq), VIRTQ_NONE);
		}
		tr_fini(&t);
	}
}

/*
 * Killed inside publish, at each of its steps: the region and the ring are put together from
 * copies taken before and after. shown: the driver was told; cleared: how many marks were cleared.
 */
static void split_killed_inside_publish_counts_what_was_told(void **state)
{
	for (uint32_t shown = 0; shown < 2; shown++) {
		for (uint32_t cleared = 0; cleared <= 2 * shown; cleared++) {
			struct vq_chain *a, *b;
			struct tr t;

			init(&t, 0);
			tr_add_read(&t, 0);
			tr_add_read(&t, 3);
			tr_add_read(&t, 6);
			a = pop(&t, 0);
			b = pop(&t, 3);
			pop(&t, 6);
			virtq_push(t.vq, a, 1);
			virtq_push(t.vq, b, 1);
			if (shown)
				store16(&tr_used(&t)->idx, 2);
			if (cleared > 0)
				*mark(&t, 0) = 0;
			if (cleared > 1)
				*mark(&t, 3) = 0;
			restart(&t);
			if (!shown) {
				pop(&t, 0);
				pop(&t, 3);
			}
			pop(&t, 6);
			assert_null(virtq_pop(t.vq));
			assert_int_equal(virtq_broken(t.vq), VIRTQ_NONE);
			tr_fini(&t);
		}
	}
}

static void packed_killed_inside_publish_counts_what_was_told(void **state)
{
	for (uint32_t step_no = 0; step_no < 6; step_no++) {
		struct vq_chain *a, *b;
		uint8_t free_word[8], used_word[8];
		struct tr t;

		init(&t, 1);
		tr_add_read(&t, 0);
		tr_add_read(&t, 3);
		tr_add_read(&t, 6);
		a = pop(&t, 0);
		b = pop(&t, 3);
		pop(&t, 6);
		virtq_push(t.vq, a, 1);
		virtq_push(t.vq, b, 1);
		/* 0: nothing, 1: intent written, 2: told, 3, 4: marks, 5: free list */
		memcpy(used_word, field(&t, 16), 8);
		if (step_no > 0)
			inflight_publish_before(t.vq);
		memcpy(free_word, field(&t, 8), 8);
		memcpy(used_word, field(&t, 16), 8);
		if (step_no > 1)
			__atomic_store_n(&t.vq->desc[0].rest, t.vq->first_rest, __ATOMIC_RELEASE);
		if (step_no > 2)
			*mark(&t, 0) = 0;
		if (step_no > 3)
			*mark(&t, 3) = 0;
		if (step_no > 4)
			*field(&t, 14) = *field(&t, 12);
		restart(&t);
		if (step_no < 2) {
			pop(&t, 0);
			pop(&t, 3);
		}
		pop(&t, 6);
		assert_null(virtq_pop(t.vq));
		assert_int_equal(virtq_broken(t.vq), VIRTQ_NONE);
		/* and it goes on from there */
		assert_int_equal(t.vq->used_idx, step_no < 2 ? 0 : 6);
		assert_int_equal(t.vq->last_avail, 9);
		tr_fini(&t);
	}
}

/* A ring that ran elsewhere first: the fresh region must not be read as "0 used". */
static void a_migrated_ring_loses_nothing_to_a_fresh_region(void **state)
{
	struct tr t;

	tr_init(&t, TR_SPLIT, 16);
	tr_record(&t);
	t.avail = 1000;
	t.setup.base = 1000;
	store16(&tr_used(&t)->idx, 1000);
	store16(&tr_avail(&t)->idx, 1000);
	tr_start(&t);
	assert_int_equal(*field(&t, 14), 1000);
	tr_add_read(&t, 0);
	pop(&t, 0);
	restart(&t);
	virtq_push(t.vq, pop(&t, 0), 1);
	virtq_publish(t.vq);
	assert_int_equal(used_index(&t), 1001);
	tr_fini(&t);
}

static void the_record_overrules_an_old_base_until_forgotten(void **state)
{
	for (uint32_t f = 0; f < 2; f++) {
		uint32_t base;
		struct tr t;

		init(&t, f);
		tr_add_read(&t, 0);
		virtq_push(t.vq, pop(&t, 0), 1);
		virtq_publish(t.vq);
		base = virtq_stop(t.vq);
		tr_crash(&t);
		tr_start(&t);
		assert_int_equal(virtq_stop(t.vq), base); /* though the set-up says 0 */
		tr_crash(&t);
		virtq_inflight_forget(t.record);
		tr_start(&t);
		assert_int_equal(virtq_stop(t.vq), t.setup.base);
		tr_fini(&t);
	}
}

static void expect_bad(struct tr *t)
{
	tr_crash(t);
	tr_start(t);
	while (virtq_pop(t->vq))
		;
	assert_int_equal(virtq_broken(t->vq), VIRTQ_INFLIGHT_BAD);
	virtq_break(t->vq, VIRTQ_ORDER);
	tr_fini(t);
}

static void one_in_flight(struct tr *t, uint32_t f)
{
	init(t, f);
	tr_add_read(t, 0);
	pop(t, 0);
}

static void a_split_record_that_lies_breaks(void **state)
{
	struct tr t;

	one_in_flight(&t, 0);
	*field(&t, 10) = 32; /* desc_num */
	expect_bad(&t);
	one_in_flight(&t, 0);
	*field(&t, 14) = 40000; /* used_idx far from the ring's */
	expect_bad(&t);
	one_in_flight(&t, 0);
	*field(&t, 14) = 65535; /* one behind */
	*field(&t, 12) = 16;	/* last_batch_head */
	expect_bad(&t);
}

static void a_packed_record_that_lies_breaks(void **state)
{
	static const struct {
		uint32_t off;
		uint16_t value;
	} lies[] = {
		{ 10, 32 },	    /* desc_num */
		{ 16, 16 },	    /* used_idx */
		{ 18, 60000 },	    /* old_used_idx */
		{ 32 + 6, 0 },	    /* num */
		{ 32 + 6, 17 },	    /* num */
		{ 32 + 6, 2 },	    /* num: shorter than the chain */
		{ 32 + 2, 16 },	    /* next beyond the table */
		{ 32 + 2, 0 },	    /* next to itself */
		{ 32 + 26 - 8, 0 }, /* head's flags: ends too early */
	};

	for (uint32_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct tr t;

		one_in_flight(&t, 1);
		*field(&t, lies[i].off) = lies[i].value;
		if (lies[i].off == 32 + 6 && lies[i].value == 2) {
			tr_crash(&t); /* the list has no end within its record */
			tr_start(&t);
			tr_expect_broken(&t, VIRTQ_CHAIN_LOOP);
			tr_fini(&t);
			continue;
		}
		expect_bad(&t);
	}
}

/* Random lies: whatever is in the region, nothing worse than a broken ring. */
static void random_records_never_do_worse_than_break(void **state)
{
	unsigned int seed = 4711; /* fixed: a failure repeats */

	for (uint32_t i = 0; i < 4000; i++) {
		struct vq_chain *c;
		struct tr t;

		init(&t, i & 1);
		for (uint16_t h = 0; h < 12; h += 3)
			tr_add_read(&t, h);
		virtq_push(t.vq, pop(&t, 0), 1);
		virtq_publish(t.vq);
		pop(&t, 3);
		pop(&t, 6);
		for (uint32_t k = 0; k < 1 + i % 4; k++)
			((uint8_t *)t.record)[10 + (uint32_t)rand_r(&seed) % 200] =
				(uint8_t)rand_r(&seed) & (k & 1 ? 0xff : 0x0f);
		restart(&t);
		while ((c = virtq_pop(t.vq)))
			virtq_push(t.vq, c, 1);
		virtq_publish(t.vq);
		tr_fini(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed_after_pop_the_chains_come_again_in_order),
		cmocka_unit_test(killed_between_push_and_publish_the_chain_comes_again),
		cmocka_unit_test(killed_after_publish_only_the_others_come_again),
		cmocka_unit_test(split_killed_inside_publish_counts_what_was_told),
		cmocka_unit_test(packed_killed_inside_publish_counts_what_was_told),
		cmocka_unit_test(a_migrated_ring_loses_nothing_to_a_fresh_region),
		cmocka_unit_test(the_record_overrules_an_old_base_until_forgotten),
		cmocka_unit_test(a_split_record_that_lies_breaks),
		cmocka_unit_test(a_packed_record_that_lies_breaks),
		cmocka_unit_test(random_records_never_do_worse_than_break),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
