#include "virtq/test_ring.h"

static const uint64_t formats[] = { TR_SPLIT, TR_PACKED };

#define W VQ_DESC_WRITE

/* One chain of these descriptors must break the ring with this cause, in both formats. */
static void expect_cause(uint64_t features, const struct td *d, uint32_t count,
			 enum virtq_cause cause)
{
	for (uint32_t f = 0; f < 2; f++) {
		struct tr t;

		tr_init(&t, features | formats[f], 8);
		tr_start(&t);
		tr_add(&t, 1, d, count);
		tr_expect_broken(&t, cause);
		tr_fini(&t);
	}
}

static void a_read_request_is_two_cursors(void **state)
{
	for (uint32_t f = 0; f < 2; f++) {
		struct vq_chain *c;
		struct tr t;

		tr_init(&t, formats[f], 8);
		tr_start(&t);
		tr_add_read(&t, 2);
		c = virtq_pop(t.vq);
		assert_non_null(c);
		assert_int_equal(c->head, 2);
		assert_int_equal(c->out.left_bytes, 16);
		assert_int_equal(c->out.count, 1);
		assert_ptr_equal(c->out.iov->iov_base, tr_at(&t, TR_DATA + 2 * 0x4000));
		assert_int_equal(c->in.left_bytes, 4097);
		assert_int_equal(c->in.count, 2);
		assert_null(virtq_pop(t.vq));
		tr_fini(&t);
	}
}

static void neighbours_merge_and_empty_descriptors_vanish(void **state)
{
	struct td d[] = { { TR_DATA, 16, 0 },
			  { TR_DATA + 16, 100, 0 },
			  { 0xdead00000000, 0, 0 },
			  { TR_DATA + 116, 10, W },
			  { TR_DATA + 126, 20, W } };

	for (uint32_t f = 0; f < 2; f++) {
		struct vq_chain *c;
		struct tr t;

		tr_init(&t, formats[f], 8);
		tr_start(&t);
		tr_add(&t, 0, d, 5);
		c = virtq_pop(t.vq);
		assert_non_null(c);
		assert_int_equal(c->out.count, 1);
		assert_int_equal(c->out.left_bytes, 116);
		assert_int_equal(c->in.count, 1);
		assert_int_equal(c->in.left_bytes, 30);
		tr_fini(&t);
	}
}

static void a_range_over_two_regions_is_two_pieces(void **state)
{
	struct td d[] = { { TR_BORDER - 100, 300, W } };

	for (uint32_t f = 0; f < 2; f++) {
		struct vq_chain *c;
		struct tr t;

		tr_init(&t, formats[f], 8);
		tr_start(&t);
		tr_add(&t, 0, d, 1);
		c = virtq_pop(t.vq);
		assert_non_null(c);
		assert_int_equal(c->in.left_bytes, 300);
		assert_int_equal(iov_bytes(c->in.iov, c->in.count), 300);
		tr_fini(&t);
	}
}

/* A table of count entries at `at`, of one byte each every 64 bytes. */
static void table_fill(struct tr *t, uint64_t at, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct td d = { TR_DATA + i * 64, 1, W };

		if (t->packed) {
			tr_desc_packed(t, at, i, d, 0);
		} else {
			d.flags |= i + 1 < count ? VQ_DESC_NEXT : 0;
			tr_desc_split(t, at, i, d, (uint16_t)(i + 1));
		}
	}
}

static void an_indirect_table_may_follow_direct_and_span_regions(void **state)
{
	uint64_t table = TR_BORDER - 5 * 16;

	for (uint32_t f = 0; f < 2; f++) {
		struct td d[] = { { TR_DATA + 0x10000, 16, 0 },
				  { table, 10 * 16, VQ_DESC_INDIRECT | W } };
		struct vq_chain *c;
		struct tr t;

		tr_init(&t, formats[f] | VIRTIO_F_INDIRECT_DESC, 8);
		tr_start(&t);
		table_fill(&t, table, 10);
		tr_add(&t, 0, d, 2);
		c = virtq_pop(t.vq);
		assert_non_null(c);
		assert_int_equal(c->out.left_bytes, 16);
		assert_int_equal(c->in.count, 10);
		assert_int_equal(c->in.left_bytes, 10);
		virtq_push(t.vq, c, 10);
		tr_fini(&t);
	}
}

static void a_table_longer_than_the_ring_is_taken_up_to_the_limit(void **state)
{
	for (uint32_t f = 0; f < 2; f++) {
		struct td d[] = { { TR_DATA + 0x100000, VIRTQ_IOV_MAX * 16, VQ_DESC_INDIRECT } };
		struct vq_chain *c;
		struct tr t;

		tr_init(&t, formats[f] | VIRTIO_F_INDIRECT_DESC, 8);
		tr_start(&t);
		table_fill(&t, d->addr, VIRTQ_IOV_MAX);
		tr_add(&t, 0, d, 1);
		c = virtq_pop(t.vq);
		assert_non_null(c);
		assert_int_equal(c->in.count, VIRTQ_IOV_MAX);
		tr_fini(&t);
	}
}

static void too_many_pieces_break(void **state)
{
	/* 1023 entries, then two that cross the border. */
	for (uint32_t f = 0; f < 2; f++) {
		struct td d[] = { { TR_DATA + 0x100000, VIRTQ_IOV_MAX * 16, VQ_DESC_INDIRECT } };
		struct td cross = { TR_BORDER - 1, 2, W };
		struct tr t;

		tr_init(&t, formats[f] | VIRTIO_F_INDIRECT_DESC, 8);
		tr_start(&t);
		table_fill(&t, d->addr, VIRTQ_IOV_MAX);
		if (t.packed)
			tr_desc_packed(&t, d->addr, VIRTQ_IOV_MAX - 1, cross, 0);
		else
			tr_desc_split(&t, d->addr, VIRTQ_IOV_MAX - 1, cross, 0);
		tr_add(&t, 0, d, 1);
		tr_expect_broken(&t, VIRTQ_TOO_MANY);
		tr_fini(&t);
	}
}

static void unmapped_addresses_break(void **state)
{
	struct td past[] = { { TR_END - 10, 11, 0 } };
	struct td wrap[] = { { UINT64_MAX - 10, 100, 0 } };
	struct td table[] = { { TR_END - 16, 32, VQ_DESC_INDIRECT } };

	expect_cause(0, past, 1, VIRTQ_UNMAPPED);
	expect_cause(0, wrap, 1, VIRTQ_UNMAPPED);
	expect_cause(VIRTIO_F_INDIRECT_DESC, table, 1, VIRTQ_UNMAPPED);
}

static void readable_after_writable_breaks(void **state)
{
	struct td d[] = { { TR_DATA, 16, W }, { TR_DATA + 64, 16, 0 } };

	expect_cause(0, d, 2, VIRTQ_ORDER);
}

/* Offsets are from the region that was hit last, and wrap: no pointer may be made of that. */
static void a_descriptor_may_lie_below_the_region_of_the_one_before(void **state)
{
	struct td d[] = { { TR_BORDER + 0x100, 16, 0 }, { TR_DATA, 32, W } };

	for (uint32_t f = 0; f < 2; f++) {
		struct vq_chain *c;
		struct tr t;

		tr_init(&t, formats[f], 8);
		tr_start(&t);
		tr_add(&t, 0, d, 2);
		c = virtq_pop(t.vq);
		assert_non_null(c);
		assert_ptr_equal(c->out.iov->iov_base, tr_at(&t, TR_BORDER + 0x100));
		assert_ptr_equal(c->in.iov->iov_base, tr_at(&t, TR_DATA));
		tr_fini(&t);
	}
}

static void indirect_lies_break(void **state)
{
	struct td ok[] = { { TR_DATA, 16, VQ_DESC_INDIRECT } };
	struct td empty[] = { { TR_DATA, 0, VQ_DESC_INDIRECT } };
	struct td odd[] = { { TR_DATA, 17, VQ_DESC_INDIRECT } };
	struct td big[] = { { TR_DATA, 16 * (VIRTQ_IOV_MAX + 1), VQ_DESC_INDIRECT } };
	struct td more[] = { { TR_DATA, 16, VQ_DESC_INDIRECT }, { TR_DATA, 16, 0 } };

	expect_cause(0, ok, 1, VIRTQ_INDIRECT_OFF);
	expect_cause(VIRTIO_F_INDIRECT_DESC, empty, 1, VIRTQ_INDIRECT_SIZE);
	expect_cause(VIRTIO_F_INDIRECT_DESC, odd, 1, VIRTQ_INDIRECT_SIZE);
	expect_cause(VIRTIO_F_INDIRECT_DESC, big, 1, VIRTQ_INDIRECT_SIZE);
	expect_cause(VIRTIO_F_INDIRECT_DESC, more, 2, VIRTQ_INDIRECT_NESTED);
}

static void a_table_in_a_table_breaks(void **state)
{
	for (uint32_t f = 0; f < 2; f++) {
		struct td inner = { TR_DATA, 16, VQ_DESC_INDIRECT };
		struct td d[] = { { TR_DATA, 16, VQ_DESC_INDIRECT } };
		struct tr t;

		tr_init(&t, formats[f] | VIRTIO_F_INDIRECT_DESC, 8);
		tr_start(&t);
		if (t.packed)
			tr_desc_packed(&t, TR_DATA, 0, inner, 0);
		else
			tr_desc_split(&t, TR_DATA, 0, inner, 0);
		tr_add(&t, 0, d, 1);
		tr_expect_broken(&t, VIRTQ_INDIRECT_NESTED);
		tr_fini(&t);
	}
}

static void a_split_loop_and_a_wild_next_break(void **state)
{
	struct td d = { TR_DATA, 16, VQ_DESC_NEXT };

	for (uint32_t wild = 0; wild < 2; wild++) {
		for (uint32_t indirect = 0; indirect < 2; indirect++) {
			struct td table = { TR_DATA, 2 * 16, VQ_DESC_INDIRECT };
			uint64_t at = indirect ? TR_DATA : TR_DESC;
			struct tr t;

			tr_init(&t, TR_SPLIT | VIRTIO_F_INDIRECT_DESC, 8);
			tr_start(&t);
			tr_desc_split(&t, at, 0, d, 1);
			tr_desc_split(&t, at, 1, d, wild ? 8 : 0);
			if (indirect)
				tr_desc_split(&t, TR_DESC, 0, table, 0);
			tr_add_head(&t, 0);
			tr_expect_broken(&t, wild ? VIRTQ_NEXT_RANGE : VIRTQ_CHAIN_LOOP);
			tr_fini(&t);
		}
	}
}

static void a_packed_chain_without_an_end_breaks(void **state)
{
	struct tr t;

	tr_init(&t, TR_PACKED, 5);
	tr_start(&t);
	for (uint32_t i = 0; i < 5; i++) {
		struct td d = { TR_DATA + i * 64, 1, VQ_DESC_NEXT | VQ_DESC_AVAIL };

		tr_desc_packed(&t, TR_DESC, i, d, 0);
	}
	tr_expect_broken(&t, VIRTQ_CHAIN_LOOP);
	tr_fini(&t);
}

/* The ids of a list's other descriptors may be anything: free, in flight, beyond the ring. */
static void only_the_id_of_the_last_packed_descriptor_counts(void **state)
{
	const uint16_t other[] = { 5, 0, 0xffff };
	struct vq_chain *held, *c;
	struct tr t;

	tr_init(&t, TR_PACKED, 16);
	tr_start(&t);
	tr_add_read(&t, 0);
	held = virtq_pop(t.vq);
	assert_non_null(held);
	for (uint32_t i = 0; i < 3; i++) {
		uint32_t first = t.avail;

		tr_add_read(&t, (uint16_t)(i + 1));
		for (uint32_t n = 0; n < 2; n++)
			((uint16_t *)tr_at(&t, TR_DESC + (first + n) * 16))[6] = other[i];
		c = virtq_pop(t.vq);
		assert_non_null(c);
		assert_int_equal(c->head, i + 1);
		assert_ptr_equal(c->out.iov, c->own);
		assert_int_equal(c->out.count, 1);
		assert_ptr_equal(c->in.iov, c->own + 1);
		assert_int_equal(c->in.count, 2);
		assert_int_equal(iov_bytes(c->in.iov, 2), 4097);
		assert_ptr_equal(c->out.iov->iov_base, tr_at(&t, TR_DATA + (i + 1) * 0x4000));
	}
	assert_ptr_equal(held->out.iov->iov_base, tr_at(&t, TR_DATA));
	assert_int_equal(iov_bytes(held->in.iov, 2), 4097);
	tr_add_read(&t, 4);
	((uint16_t *)tr_at(&t, TR_DESC + (t.avail - 1u) * 16))[6] = 0; /* in flight */
	tr_expect_broken(&t, VIRTQ_HEAD_BUSY);
	tr_fini(&t);
}

static void over_4_gib_breaks(void **state)
{
	const uint32_t count = (1ull << 32) / TR_BORDER + 1;

	for (uint32_t f = 0; f < 2; f++) {
		struct td d[] = { { TR_DATA, count * 16, VQ_DESC_INDIRECT } };
		struct tr t;

		tr_init(&t, formats[f] | VIRTIO_F_INDIRECT_DESC, 8);
		tr_start(&t);
		for (uint32_t extra = 0; extra < 2; extra++) {
			/* the same memory again and again, and 0 or 1 bytes more */
			for (uint32_t i = 0; i < count; i++) {
				struct td x = { 0, i + 1 < count ? TR_BORDER : extra, W };

				if (i + 1 < count && !t.packed)
					x.flags |= VQ_DESC_NEXT;
				if (t.packed)
					tr_desc_packed(&t, TR_DATA, i, x, 0);
				else
					tr_desc_split(&t, TR_DATA, i, x, (uint16_t)(i + 1));
			}
			tr_add(&t, (uint16_t)extra, d, 1);
			if (!extra)
				assert_non_null(virtq_pop(t.vq));
		}
		tr_expect_broken(&t, VIRTQ_LENGTH_WRAP);
		tr_fini(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_read_request_is_two_cursors),
		cmocka_unit_test(neighbours_merge_and_empty_descriptors_vanish),
		cmocka_unit_test(a_range_over_two_regions_is_two_pieces),
		cmocka_unit_test(an_indirect_table_may_follow_direct_and_span_regions),
		cmocka_unit_test(a_table_longer_than_the_ring_is_taken_up_to_the_limit),
		cmocka_unit_test(too_many_pieces_break),
		cmocka_unit_test(unmapped_addresses_break),
		cmocka_unit_test(readable_after_writable_breaks),
		cmocka_unit_test(a_descriptor_may_lie_below_the_region_of_the_one_before),
		cmocka_unit_test(indirect_lies_break),
		cmocka_unit_test(a_table_in_a_table_breaks),
		cmocka_unit_test(a_split_loop_and_a_wild_next_break),
		cmocka_unit_test(a_packed_chain_without_an_end_breaks),
		cmocka_unit_test(only_the_id_of_the_last_packed_descriptor_counts),
		cmocka_unit_test(over_4_gib_breaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
