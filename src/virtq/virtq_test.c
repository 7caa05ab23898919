#include "virtq/test_ring.h"

static const uint64_t formats[] = { TR_SPLIT, TR_PACKED };

/* Used entries as the driver sees them; returns how many new ones. */
static uint32_t driver_used(struct tr *t, uint16_t *at, uint8_t *wrap, uint16_t *ret_ids,
			    uint32_t ndesc)
{
	uint32_t count = 0;

	if (!t->packed) {
		while (*at != load16(&tr_used(t)->idx))
			ret_ids[count++] = (uint16_t)tr_used(t)->ring[(*at)++ & (t->size - 1)].id;
		return count;
	}
	for (;;) {
		struct vq_desc_raw *d = (struct vq_desc_raw *)t->setup.desc + *at;
		uint16_t flags = load16_acquire(packed_flags(d));

		if (!!(flags & VQ_DESC_AVAIL) != *wrap || !!(flags & VQ_DESC_USED) != *wrap)
			return count;
		ret_ids[count++] = (uint16_t)(d->rest >> 32);
		*at = (uint16_t)(*at + ndesc);
		if (*at >= t->size) {
			*at = (uint16_t)(*at - t->size);
			*wrap ^= 1;
		}
	}
}

static void round_trips(uint64_t features, uint32_t size, uint32_t rounds)
{
	uint16_t at = 0, ids[64];
	uint8_t wrap = 1;
	struct tr t;

	tr_init(&t, features, size);
	tr_start(&t);
	for (uint32_t r = 0; r < rounds; r++) {
		struct vq_chain *c[2];

		tr_add_read(&t, 0);
		tr_add_read(&t, 3);
		for (uint32_t i = 0; i < 2; i++) {
			c[i] = virtq_pop(t.vq);
			assert_non_null(c[i]);
			assert_int_equal(c[i]->head, i * 3);
		}
		assert_null(virtq_pop(t.vq));
		assert_int_equal(virtq_inflight(t.vq), 2);
		virtq_push(t.vq, c[1], 1);
		virtq_push(t.vq, c[0], 4097);
		assert_int_equal(driver_used(&t, &at, &wrap, ids, 3), 0); /* not before publish */
		virtq_publish(t.vq);
		assert_int_equal(driver_used(&t, &at, &wrap, ids, 3), 2);
		assert_int_equal(ids[0], features & VIRTIO_F_IN_ORDER ? 0 : 3);
		assert_int_equal(virtq_inflight(t.vq), 0);
	}
	assert_int_equal(virtq_broken(t.vq), VIRTQ_NONE);
	if (t.packed) {
		uint32_t pos = rounds * 6 % size, w = !(rounds * 6 / size & 1);

		assert_int_equal(virtq_stop(t.vq), pos | w << 15 | pos << 16 | w << 31);
	} else {
		assert_int_equal(virtq_stop(t.vq), (uint16_t)(rounds * 2));
	}
	tr_fini(&t);
}

static void chains_go_round_and_the_base_is_told(void **state)
{
	for (uint32_t f = 0; f < 2; f++) {
		round_trips(formats[f], 8, 100);
		round_trips(formats[f] | VIRTIO_F_EVENT_IDX, 8, 40000); /* over 65535 */
		round_trips(formats[f], 32768, 100);
	}
	round_trips(TR_PACKED, 7, 100); /* no power of two */
}

static void the_oldest_chain_is_found_among_those_in_flight(void **state)
{
	struct td d = { TR_DATA, 1, VQ_DESC_WRITE };
	struct vq_chain *c[3];
	struct tr t;

	tr_init(&t, formats[0], 8);
	tr_start(&t);
	assert_int_equal(virtq_oldest(t.vq), 0);
	for (uint16_t i = 0; i < 3; i++) {
		tr_add(&t, i, &d, 1);
		c[i] = virtq_pop(t.vq);
		assert_non_null(c[i]);
		c[i]->popped_ns = i == 2 ? 0 : 200 - 100 * i; /* 200, 100, not told */
	}
	assert_int_equal(virtq_oldest(t.vq), 100);
	virtq_push(t.vq, c[1], 1);
	assert_int_equal(virtq_oldest(t.vq), 200);
	virtq_push(t.vq, c[0], 1);
	assert_int_equal(virtq_oldest(t.vq), 0);
	virtq_push(t.vq, c[2], 1);
	virtq_publish(t.vq);
	virtq_stop(t.vq);
	tr_fini(&t);
}

/* One request; then the ring is stopped and started again with the base that it gave. */
static uint32_t packed_one_request(struct tr *t, uint16_t id)
{
	struct td d = { TR_DATA, 1, VQ_DESC_WRITE };
	struct vq_chain *c;

	tr_start(t);
	tr_add(t, id, &d, 1);
	c = virtq_pop(t->vq);
	assert_non_null(c);
	virtq_push(t->vq, c, 1);
	virtq_publish(t->vq);
	assert_null(virtq_pop(t->vq));
	t->setup.base = virtq_stop(t->vq);
	tr_crash(t);
	return t->setup.base;
}

static void packed_base_0_of_a_fresh_ring_means_wrap_counters_of_1(void **state)
{
	struct tr t;

	tr_init(&t, TR_PACKED, 4);
	t.setup.base = 0;
	assert_int_equal(packed_one_request(&t, 0), 0x80018001);
	for (uint16_t i = 1; i < 4; i++)
		packed_one_request(&t, i);
	/* After one round base 0 is the truth, and kept. */
	assert_int_equal(t.setup.base, 0);
	assert_int_equal(packed_one_request(&t, 0), 0x00010001);
	tr_fini(&t);
}

static void in_order_holds_back_what_came_later(void **state)
{
	for (uint32_t f = 0; f < 2; f++)
		round_trips(formats[f] | VIRTIO_F_IN_ORDER, 8, 100);
}

static void a_full_ring_of_32768_is_popped_at_once(void **state)
{
	struct td d = { TR_DATA, 1, VQ_DESC_WRITE };

	for (uint32_t f = 0; f < 2; f++) {
		struct vq_chain *c;
		uint32_t n = 0;
		struct tr t;

		tr_init(&t, formats[f], 32768);
		tr_start(&t);
		for (uint32_t i = 0; i < t.size; i++)
			tr_add(&t, (uint16_t)i, &d, 1);
		while ((c = virtq_pop(t.vq)))
			n++;
		assert_int_equal(n, 32768);
		assert_int_equal(virtq_broken(t.vq), VIRTQ_NONE);
		for (uint32_t i = 0; i < n; i++)
			virtq_push(t.vq, vq_slot(t.vq, i), 1);
		assert_true(virtq_publish(t.vq));
		assert_null(virtq_pop(t.vq));
		tr_fini(&t);
	}
}

static void an_index_jump_breaks(void **state)
{
	struct tr t;

	tr_init(&t, TR_SPLIT, 8);
	tr_start(&t);
	store16(&tr_avail(&t)->idx, 9);
	tr_expect_broken(&t, VIRTQ_AVAIL_JUMP);
	tr_fini(&t);
}

static void packed_entries_given_twice_break(void **state)
{
	struct td d[] = { { TR_DATA, 1, 0 }, { TR_DATA + 64, 1, 0 }, { TR_DATA + 128, 1, 0 } };
	struct tr t;

	tr_init(&t, TR_PACKED, 4);
	tr_start(&t);
	tr_add(&t, 0, d, 3);
	assert_non_null(virtq_pop(t.vq));
	tr_add(&t, 1, d, 2);
	tr_expect_broken(&t, VIRTQ_AVAIL_JUMP);
	tr_fini(&t);
}

static void a_wild_head_or_id_breaks(void **state)
{
	struct td d = { TR_DATA, 1, 0 };

	for (uint32_t f = 0; f < 2; f++) {
		struct tr t;

		tr_init(&t, formats[f], 8);
		tr_start(&t);
		tr_add(&t, 8, &d, 1);
		tr_expect_broken(&t, VIRTQ_HEAD_RANGE);
		tr_fini(&t);
	}
}

static void a_head_or_id_in_flight_breaks_and_what_is_out_still_returns(void **state)
{
	struct td d = { TR_DATA, 1, 0 };

	for (uint32_t f = 0; f < 2; f++) {
		uint16_t at = 0, ids[8];
		struct vq_chain *c;
		uint8_t wrap = 1;
		struct tr t;

		tr_init(&t, formats[f], 8);
		tr_start(&t);
		tr_add(&t, 3, &d, 1);
		tr_add(&t, 3, &d, 1);
		c = virtq_pop(t.vq);
		assert_non_null(c);
		tr_expect_broken(&t, VIRTQ_HEAD_BUSY);
		virtq_push(t.vq, c, 0);
		virtq_publish(t.vq);
		assert_int_equal(driver_used(&t, &at, &wrap, ids, 1), 1);
		virtq_stop(t.vq);
		tr_fini(&t);
	}
}

static void lost_ring_memory_stops_popping(void **state)
{
	struct tr t;

	tr_init(&t, TR_SPLIT, 8);
	tr_start(&t);
	tr_add_read(&t, 0);
	virtq_break(t.vq, VIRTQ_RING_LOST);
	virtq_break(t.vq, VIRTQ_ORDER); /* the first cause stays */
	tr_expect_broken(&t, VIRTQ_RING_LOST);
	assert_string_equal(virtq_cause_text(VIRTQ_RING_LOST), "ring memory was taken away");
	tr_fini(&t);
}

static void the_pool_running_dry_pauses_and_ends_with_a_push(void **state)
{
	struct td d[8];

	for (uint32_t i = 0; i < 8; i++)
		d[i] = (struct td){ TR_DATA + i * 64, 1, 0 };
	for (uint32_t f = 0; f < 2; f++) {
		struct vq_chain *c, *last = NULL;
		uint32_t n = 0;
		struct tr t;

		tr_init(&t, formats[f], 2048);
		tr_start(&t);
		for (uint32_t i = 0; i < VQ_POOL_MAX + 1; i++)
			tr_add(&t, (uint16_t)(i * 8), d, 8);
		for (; (c = virtq_pop(t.vq)); n++)
			last = c;
		assert_int_equal(n, VQ_POOL_MAX);
		assert_int_equal(virtq_broken(t.vq), VIRTQ_NONE);
		assert_true(virtq_arm(t.vq));
		assert_false(virtq_repoll(t.vq));
		virtq_push(t.vq, last, 0);
		virtq_publish(t.vq);
		assert_true(virtq_repoll(t.vq));
		assert_false(virtq_repoll(t.vq));
		assert_non_null(virtq_pop(t.vq));
		tr_fini(&t);
	}
}

static bool one_io_notifies(struct tr *t)
{
	struct td d = { TR_DATA, 1, 0 };
	struct vq_chain *c;

	tr_add(t, 0, &d, 1);
	c = virtq_pop(t->vq);
	assert_non_null(c);
	virtq_push(t->vq, c, 0);
	return virtq_publish(t->vq);
}

static void split_notifications_follow_the_drivers_wish(void **state)
{
	struct tr t;

	tr_init(&t, TR_SPLIT, 8);
	tr_start(&t);
	store16(&tr_avail(&t)->flags, 1);
	assert_true(one_io_notifies(&t)); /* the first one, always */
	assert_false(one_io_notifies(&t));
	store16(&tr_avail(&t)->flags, 0);
	assert_true(one_io_notifies(&t));
	tr_fini(&t);
}

static void split_event_index_works_over_the_wrap(void **state)
{
	struct tr t;

	tr_init(&t, TR_SPLIT | VIRTIO_F_EVENT_IDX, 8);
	t.avail = 65530;
	t.setup.base = 65530;
	store16(&tr_used(&t)->idx, 65530);
	store16(&tr_avail(&t)->idx, 65530);
	tr_start(&t);
	store16(&tr_avail(&t)->ring[8], 65535); /* tell me when 65535 is used */
	assert_true(one_io_notifies(&t));
	for (uint32_t i = 65531; i < 65535; i++)
		assert_false(one_io_notifies(&t));
	assert_true(one_io_notifies(&t)); /* the index is 0 now */
	assert_false(one_io_notifies(&t));
	tr_fini(&t);
}

static void packed_notifications_follow_the_drivers_wish(void **state)
{
	uint32_t *event;
	struct tr t;

	tr_init(&t, TR_PACKED | VIRTIO_F_EVENT_IDX, 4);
	tr_start(&t);
	event = t.setup.avail;
	*event = PACKED_EVENT_DISABLE << 16;
	assert_true(one_io_notifies(&t)); /* position 0, the first one */
	assert_false(one_io_notifies(&t));
	*event = PACKED_EVENT_ENABLE << 16;
	assert_true(one_io_notifies(&t));
	*event = PACKED_EVENT_DESC << 16 | 1; /* position 1 of the next round, wrap 0 */
	assert_false(one_io_notifies(&t));    /* 3 */
	assert_false(one_io_notifies(&t));    /* 0 */
	assert_true(one_io_notifies(&t));     /* 1 */
	assert_false(one_io_notifies(&t));
	*event = PACKED_EVENT_DESC << 16 | 3;
	assert_true(one_io_notifies(&t)); /* 3, and the counter turns over */
	tr_fini(&t);
}

static void notifications_are_off_only_when_the_driver_says_so_now(void **state)
{
	struct tr t;

	for (uint32_t event_idx = 0; event_idx < 2; event_idx++) {
		tr_init(&t, TR_SPLIT | (event_idx ? VIRTIO_F_EVENT_IDX : 0), 8);
		tr_start(&t);
		assert_false(virtq_notify_off(t.vq));
		store16(&tr_avail(&t)->flags, 1);
		assert_int_equal(virtq_notify_off(t.vq), !event_idx);
		tr_fini(&t);
	}
	tr_init(&t, TR_PACKED | VIRTIO_F_EVENT_IDX, 8);
	tr_start(&t);
	assert_false(virtq_notify_off(t.vq));
	*(uint32_t *)t.setup.avail = PACKED_EVENT_DISABLE << 16 | 3;
	assert_true(virtq_notify_off(t.vq));
	*(uint32_t *)t.setup.avail = PACKED_EVENT_DESC << 16 | 3;
	assert_false(virtq_notify_off(t.vq));
	tr_fini(&t);
}

static void arming_asks_and_looks_again(void **state)
{
	for (uint32_t f = 0; f < 2; f++) {
		for (uint32_t event_idx = 0; event_idx < 2; event_idx++) {
			struct vq_chain *c;
			struct tr t;

			tr_init(&t, formats[f] | (event_idx ? VIRTIO_F_EVENT_IDX : 0), 8);
			tr_start(&t);
			assert_true(virtq_arm(t.vq));
			if (t.packed)
				assert_int_equal(*(uint32_t *)t.setup.used >> 16,
						 event_idx ? PACKED_EVENT_DESC
							   : PACKED_EVENT_ENABLE);
			else
				assert_int_equal(tr_used(&t)->flags, 0);
			tr_add_read(&t, 0);
			assert_false(virtq_arm(t.vq));
			if (t.packed)
				assert_int_equal(*(uint32_t *)t.setup.used >> 16,
						 PACKED_EVENT_DISABLE);
			else if (!event_idx)
				assert_int_equal(tr_used(&t)->flags, 1);
			c = virtq_pop(t.vq);
			assert_non_null(c);
			virtq_push(t.vq, c, 0);
			assert_true(virtq_arm(t.vq));
			if (!t.packed && event_idx)
				assert_int_equal(load16((uint16_t *)&tr_used(&t)->ring[8]), 1);
			tr_fini(&t);
		}
	}
}

static void a_bad_set_up_is_refused_by_name(void **state)
{
	struct virtq *vq = virtq_new();
	struct virtq_setup s;
	struct err err;
	struct tr t;

	tr_init(&t, TR_SPLIT, 8);
#define BAD(change, word)                                                                          \
	do {                                                                                       \
		s = t.setup;                                                                       \
		change;                                                                            \
		assert_int_equal(virtq_start(vq, &s, &err), -EINVAL);                              \
		assert_non_null(strstr(err.msg, word));                                            \
	} while (0)
	BAD(s.size = 0, "queue size");
	BAD(s.size = 65536, "queue size");
	BAD(s.size = 12, "power of two");
	BAD(s.base = 65536, "base");
	BAD(s.desc = (char *)s.desc + 8, "descriptor address");
	BAD(s.avail = (char *)s.avail + 1, "avail address");
	BAD(s.used = (char *)s.used + 2, "used address");
	BAD(s.desc = NULL, "addresses");
	BAD((s.inflight = &s, s.inflight_bytes = 64), "in-flight");
	BAD((s.features |= VIRTIO_F_RING_PACKED, s.base = 8), "base");
#undef BAD
	virtq_free(vq);
	tr_fini(&t);
}

static bool dirty_has(const struct gdirty *log, uint64_t at)
{
	return log->map[at / 4096 / 8] & 1u << at / 4096 % 8;
}

static void written_pages_and_used_entries_are_logged(void **state)
{
	for (uint32_t f = 0; f < 2; f++) {
		int fd = memfd_create("log", 0);
		struct gdirty *log;
		struct vq_chain *c;
		struct err err;
		struct tr t;

		assert_int_equal(ftruncate(fd, 4096), 0);
		assert_int_equal(gdirty_new(fd, 4096, 0, &log, &err), 0);
		close(fd);
		tr_init(&t, formats[f], 8);
		t.setup.log_used = true;
		t.setup.log_used_gpa = TR_USED;
		tr_start(&t);
		tr_add_read(&t, 0);
		c = virtq_pop(t.vq);
		assert_null(virtq_set_dirty(t.vq, log));
		virtq_push(t.vq, c, 4096);
		assert_false(dirty_has(log, TR_DATA));
		assert_true(dirty_has(log, TR_DATA + 0x1000));
		assert_false(dirty_has(log, TR_DATA + 0x3000));
		tr_add_read(&t, 1);
		c = virtq_pop(t.vq);
		virtq_push(t.vq, c, 4097);
		assert_true(dirty_has(log, TR_DATA + 0x4000 + 0x3000));
		virtq_publish(t.vq);
		tr_add_read(&t, 0);
		c = virtq_pop(t.vq);
		/* the model cuts the status byte off */
		c->in.iov[1].iov_len = 0;
		virtq_push(t.vq, c, 4097);
		assert_true(dirty_has(log, TR_DATA + 0x1000));
		assert_true(dirty_has(log, TR_DATA + 0x3000));
		virtq_publish(t.vq);
		assert_true(dirty_has(log, t.packed ? TR_DESC : TR_USED));
		assert_false(dirty_has(log, TR_DATA + 0x8000));
		assert_false(dirty_has(log, TR_DATA + 0x6000));
		gdirty_unref(log);
		tr_fini(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chains_go_round_and_the_base_is_told),
		cmocka_unit_test(the_oldest_chain_is_found_among_those_in_flight),
		cmocka_unit_test(packed_base_0_of_a_fresh_ring_means_wrap_counters_of_1),
		cmocka_unit_test(in_order_holds_back_what_came_later),
		cmocka_unit_test(a_full_ring_of_32768_is_popped_at_once),
		cmocka_unit_test(an_index_jump_breaks),
		cmocka_unit_test(packed_entries_given_twice_break),
		cmocka_unit_test(a_wild_head_or_id_breaks),
		cmocka_unit_test(a_head_or_id_in_flight_breaks_and_what_is_out_still_returns),
		cmocka_unit_test(lost_ring_memory_stops_popping),
		cmocka_unit_test(the_pool_running_dry_pauses_and_ends_with_a_push),
		cmocka_unit_test(split_notifications_follow_the_drivers_wish),
		cmocka_unit_test(split_event_index_works_over_the_wrap),
		cmocka_unit_test(packed_notifications_follow_the_drivers_wish),
		cmocka_unit_test(notifications_are_off_only_when_the_driver_says_so_now),
		cmocka_unit_test(arming_asks_and_looks_again),
		cmocka_unit_test(a_bad_set_up_is_refused_by_name),
		cmocka_unit_test(written_pages_and_used_entries_are_logged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
