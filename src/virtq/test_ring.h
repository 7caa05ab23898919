/*
 * For this folder's tests: guest memory, and a driver of a few lines written from virtio 1.3 that
 * can also lie. Two adjacent regions, so that [TR_BORDER - x, TR_BORDER + y) is two pieces.
 */
#ifndef VIRTQ_TEST_RING_H
#define VIRTQ_TEST_RING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <sys/mman.h>
#include <unistd.h>

#include "virtq/virtq_impl.h"

#define TR_BORDER (8u << 20)
#define TR_END	  (TR_BORDER + (1u << 20))
#define TR_DESC	  0x1000u
#define TR_AVAIL  0x100000u
#define TR_USED	  0x180000u
#define TR_DATA	  0x200000u

struct tr {
	struct gmem *map;
	struct virtq *vq;
	struct virtq_setup setup;
	uint32_t size;
	bool packed;
	struct fifo fifo;
	struct fifo_node node;
	uint16_t avail; /* split: free running; packed: position */
	uint8_t wrap;
	void *record;
};

/* One descriptor to be written. */
struct td {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
};

static inline void *tr_at(struct tr *t, uint64_t at)
{
	void *p = gmem_gpa_to_host(t->map, gpa(at), 1);

	assert_non_null(p);
	return p;
}

static inline void tr_start(struct tr *t)
{
	struct err err = { 0 };

	fifo_init(&t->fifo);
	t->vq = virtq_new();
	assert_int_equal(virtq_start(t->vq, &t->setup, &err), 0);
}

static inline void tr_init(struct tr *t, uint64_t features, uint32_t size)
{
	struct gmem_region_desc descs[] = {
		{ .gpa = 0, .size_bytes = TR_BORDER, .uva = 1ull << 40 },
		{ .gpa = TR_BORDER, .size_bytes = TR_END - TR_BORDER, .uva = 2ull << 40 },
	};
	int fds[2] = { memfd_create("a", 0), memfd_create("b", 0) };
	struct err err = { 0 };

	memset(t, 0, sizeof(*t));
	assert_int_equal(ftruncate(fds[0], TR_BORDER), 0);
	assert_int_equal(ftruncate(fds[1], TR_END - TR_BORDER), 0);
	assert_int_equal(gmem_new(descs, fds, 2, &t->map, &err), 0);
	close(fds[0]);
	close(fds[1]);
	t->size = size;
	t->packed = features & VIRTIO_F_RING_PACKED;
	t->wrap = 1;
	t->setup = (struct virtq_setup){
		.features = features,
		.size = size,
		.map = t->map,
		.desc = tr_at(t, TR_DESC),
		.avail = tr_at(t, TR_AVAIL),
		.used = tr_at(t, TR_USED),
		.base = t->packed ? 0x80008000u : 0,
		.slot_bytes = sizeof(struct vq_chain),
		.publish_fifo = &t->fifo,
		.publish_node = &t->node,
	};
}

/* With an in-flight region. */
static inline void tr_record(struct tr *t)
{
	t->setup.inflight_bytes = (uint32_t)virtq_inflight_bytes(t->setup.features, t->size);
	t->record = aligned_alloc(64, t->setup.inflight_bytes);
	assert_non_null(t->record);
	memset(t->record, 0, t->setup.inflight_bytes);
	t->setup.inflight = t->record;
}

/* The process dies: nothing is told to anyone, the memory stays. */
static inline void tr_crash(struct tr *t)
{
	virtq_free(t->vq);
	t->vq = NULL;
}

static inline void tr_fini(struct tr *t)
{
	virtq_free(t->vq);
	gmem_unref(t->map);
	free(t->record);
}

static inline void tr_desc_split(struct tr *t, uint64_t table, uint32_t i, struct td d,
				 uint16_t next)
{
	struct vq_desc_raw raw = { d.addr, (uint64_t)next << 48 | (uint64_t)d.flags << 32 | d.len };

	memcpy(tr_at(t, table + i * 16ull), &raw, 16);
}

static inline void tr_desc_packed(struct tr *t, uint64_t table, uint32_t i, struct td d,
				  uint16_t id)
{
	struct vq_desc_raw raw = { d.addr, (uint64_t)d.flags << 48 | (uint64_t)id << 32 | d.len };

	memcpy(tr_at(t, table + i * 16ull), &raw, 16);
}

static inline struct split_avail *tr_avail(struct tr *t)
{
	return t->setup.avail;
}

static inline struct split_used *tr_used(struct tr *t)
{
	return t->setup.used;
}

static inline void tr_add_head(struct tr *t, uint16_t head)
{
	tr_avail(t)->ring[t->avail++ & (t->size - 1)] = head;
	store16_release(&tr_avail(t)->idx, t->avail);
}

/* Makes a chain available under head / buffer id. NEXT is set on all but the last, or-ed. */
static inline void tr_add(struct tr *t, uint16_t head, const struct td *d, uint32_t count)
{
	uint32_t i, first = t->avail;
	uint16_t head_flags = 0;

	for (i = 0; i < count; i++) {
		struct td x = d[i];

		if (i + 1 < count)
			x.flags |= VQ_DESC_NEXT;
		if (!t->packed) {
			tr_desc_split(t, TR_DESC, head + i, x, (uint16_t)(head + i + 1));
			continue;
		}
		x.flags |= t->wrap ? VQ_DESC_AVAIL : VQ_DESC_USED;
		if (!i) {
			head_flags = x.flags;
			x.flags ^= VQ_DESC_AVAIL | VQ_DESC_USED; /* not yet */
		}
		tr_desc_packed(t, TR_DESC, t->avail, x, head);
		if (++t->avail == t->size) {
			t->avail = 0;
			t->wrap ^= 1;
		}
	}
	if (t->packed)
		store16_release(packed_flags((struct vq_desc_raw *)t->setup.desc + first),
				head_flags);
	else
		tr_add_head(t, head);
}

/* header, 4 KiB to be filled, status */
static inline void tr_add_read(struct tr *t, uint16_t head)
{
	uint64_t at = TR_DATA + (head & 63) * 0x4000ull;
	struct td d[] = { { at, 16, 0 },
			  { at + 0x1000, 4096, VQ_DESC_WRITE },
			  { at + 0x3000, 1, VQ_DESC_WRITE } };

	tr_add(t, head, d, 3);
}

static inline void tr_expect_broken(struct tr *t, enum virtq_cause cause)
{
	assert_null(virtq_pop(t->vq));
	assert_int_equal(virtq_broken(t->vq), cause);
	assert_null(virtq_pop(t->vq));
	assert_true(virtq_arm(t->vq));
}

#define TR_PACKED (VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED)
#define TR_SPLIT  VIRTIO_F_VERSION_1

#endif
