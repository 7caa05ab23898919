/* The packed virtqueue from the driver's side: virtio 1.3, 2.8. */
#include <errno.h>
#include <string.h>

#include "drv.h"

static uint16_t flags_now(bool wrap)
{
	return (uint16_t)(wrap ? SPEC_PDESC_AVAIL : SPEC_PDESC_USED);
}

static void step(struct drv *q, uint16_t *at, bool *wrap, unsigned n)
{
	unsigned next = *at + n;

	if (next >= q->size) {
		next -= q->size;
		*wrap = !*wrap;
	}
	*at = (uint16_t)next;
}

static int fill_table(struct drv *q, uint16_t id, const struct drv_buf *bufs, unsigned count)
{
	uint64_t gpa = drv_table(q, id, count);
	struct spec_pdesc *t = gpa ? fe_host(q->fe, gpa, 16ull * count) : NULL;

	if (!t)
		return -ENOMEM;
	/* In a table only WRITE means something: 2.8.8. */
	for (unsigned i = 0; i < count; i++)
		t[i] = (struct spec_pdesc){ bufs[i].gpa, bufs[i].len, 0,
					    bufs[i].write ? SPEC_DESC_WRITE : 0 };
	return 0;
}

/*
 * Everything but the first descriptor's flags is written at once; those are kept in next_copy[]
 * of their position and stored by drv_packed_publish(), which makes the chain visible.
 */
int drv_packed_add(struct drv *q, const struct drv_buf *bufs, unsigned count)
{
	bool table = q->indirect && count > 1;
	unsigned need = table ? 1 : count;
	uint16_t id = q->free_fifo[q->free_head];
	uint16_t at = q->avail_idx;
	bool wrap = q->avail_wrap;

	if (q->free_count < need)
		return -ENOSPC;
	q->slot[id].table_gpa = 0;
	if (table && fill_table(q, id, bufs, count))
		return -ENOMEM;
	for (unsigned i = 0; i < need; i++) {
		uint16_t f = (uint16_t)(flags_now(wrap) | (i + 1 < need ? SPEC_DESC_NEXT : 0));
		struct spec_pdesc *d = &q->pdesc[at];

		if (table)
			f |= SPEC_DESC_INDIRECT;
		else
			f |= bufs[i].write ? SPEC_DESC_WRITE : 0;
		d->addr = table ? q->slot[id].table_gpa : bufs[i].gpa;
		d->len = table ? 16 * count : bufs[i].len;
		d->id = id;
		q->next_copy[at] = f;
		if (i)
			d->flags = f;
		step(q, &at, &wrap, 1);
	}
	q->desc_copy[q->avail_idx].len = need;
	q->free_head = (uint16_t)((q->free_head + 1) % q->size);
	q->free_fill--;
	q->free_count = (uint16_t)(q->free_count - need);
	q->slot[id].desc_count = (uint16_t)need;
	q->avail_idx = at;
	q->avail_wrap = wrap;
	return id;
}

void drv_packed_publish(struct drv *q)
{
	uint16_t at = q->avail_published;
	unsigned left = q->size;

	while (at != q->avail_idx || (left == q->size && !q->free_count)) {
		unsigned n = q->desc_copy[at].len;

		if (!n || n > left)
			break;
		q->desc_copy[at].len = 0;
		/* Flags last: pairs with the device's acquire of this descriptor's flags. */
		__atomic_store_n(&q->pdesc[at].flags, q->next_copy[at], __ATOMIC_RELEASE);
		left -= n;
		step(q, &at, &q->published_wrap, n);
	}
	q->avail_published = at;
}

/* 2.8.10: kick when the device's offset lies in [old, avail). */
bool drv_packed_kick_wanted(struct drv *q, uint16_t old, bool old_wrap)
{
	uint16_t flags = __atomic_load_n(&q->device_event->flags, __ATOMIC_ACQUIRE) & 3;
	uint16_t where = __atomic_load_n(&q->device_event->off_wrap, __ATOMIC_RELAXED);
	unsigned event, now, was;

	if (flags != SPEC_EVENT_DESC || !q->event_idx)
		return flags != SPEC_EVENT_DISABLE;
	/* Positions on a circle of two laps: offset plus size in the second. */
	event = (where & 0x7fff) + ((where >> 15) ? 0 : q->size);
	now = q->avail_idx + (q->avail_wrap ? 0u : q->size);
	was = old + (old_wrap ? 0u : q->size);
	return (event + 2u * q->size - was) % (2u * q->size) <
	       (now + 2u * q->size - was) % (2u * q->size);
}

int drv_packed_used(struct drv *q, struct drv_used *ret)
{
	struct spec_pdesc *d = &q->pdesc[q->used_idx];
	uint16_t flags = __atomic_load_n(&d->flags, __ATOMIC_ACQUIRE);
	bool avail = flags & SPEC_PDESC_AVAIL;
	bool used = flags & SPEC_PDESC_USED;

	if (avail != used || used != q->used_wrap)
		return 0;
	if (q->strict && !q->in_flight)
		return drv_broken(q, "used descriptor at %u with nothing in flight", q->used_idx);
	ret->id = d->id;
	/* 2.8.6: the length counts only with WRITE set; else nothing was written. */
	ret->len = flags & SPEC_DESC_WRITE ? d->len : 0;
	return 1;
}

void drv_packed_release(struct drv *q, uint16_t id)
{
	unsigned n = q->slot[id].desc_count;

	step(q, &q->used_idx, &q->used_wrap, n);
	q->free_count = (uint16_t)(q->free_count + n);
	q->free_fifo[(q->free_head + q->free_fill) % q->size] = id;
	q->free_fill++;
}
