/* The client's side of both ring formats, lean; virtio 1.3, 2.7 and 2.8. */
#include <unistd.h>

#include "bench.h"

static inline uint16_t packed_flags(bool wrap)
{
	return (uint16_t)(wrap ? SPEC_PDESC_AVAIL : SPEC_PDESC_USED);
}

static void packed_step(uint16_t *at, bool *wrap, unsigned n, uint16_t size)
{
	*at = (uint16_t)(*at + n);
	if (*at >= size) {
		*at = (uint16_t)(*at - size);
		*wrap = !*wrap;
	}
}

static void packed_submit(struct bench_queue *q, struct slot *s)
{
	struct spec_pdesc *first = &q->pdesc[q->avail_idx];
	uint16_t first_flags = (uint16_t)(s->pdesc[0].flags | packed_flags(q->wrap_avail));

	first->addr = s->pdesc[0].addr;
	first->len = s->pdesc[0].len;
	first->id = s->pdesc[0].id;
	packed_step(&q->avail_idx, &q->wrap_avail, 1, q->size);
	for (unsigned i = 1; i < q->descs; i++) {
		struct spec_pdesc *d = &q->pdesc[q->avail_idx];

		*d = s->pdesc[i];
		d->flags = (uint16_t)(d->flags | packed_flags(q->wrap_avail));
		packed_step(&q->avail_idx, &q->wrap_avail, 1, q->size);
	}
	/* Pairs with the device's acquire of the first descriptor's flags. */
	__atomic_store_n(&first->flags, first_flags, __ATOMIC_RELEASE);
}

void ring_submit(struct bench_queue *q, unsigned slot)
{
	struct slot *s = &q->slot[slot];

	if (q->nvme.qid)
		nvme_submit(q, slot);
	else if (q->packed)
		packed_submit(q, s);
	else
		q->avail->ring[q->avail_idx++ & q->mask] = s->head;
}

static bool kick_wanted(struct bench_queue *q, uint16_t old)
{
	if (q->packed) {
		uint16_t f = __atomic_load_n(&q->device_event->flags, __ATOMIC_ACQUIRE) & 3;
		uint16_t where = q->device_event->off_wrap;

		/* One kick more than needed does no harm; one less would: test the wide side. */
		if (f == SPEC_EVENT_DESC) {
			unsigned two = 2u * q->size;
			unsigned ev = (where & 0x7fff) + ((where >> 15) ? 0u : q->size);
			unsigned now = q->avail_idx + (q->wrap_avail ? 0u : q->size);
			unsigned back = (now + two - ev) % two;

			return back && back <= q->size;
		}
		return f != SPEC_EVENT_DISABLE;
	}
	if (q->event_idx) {
		uint16_t ev = __atomic_load_n(q->avail_event, __ATOMIC_RELAXED);

		return (uint16_t)(q->avail_idx - ev - 1) < (uint16_t)(q->avail_idx - old);
	}
	return !(__atomic_load_n(&q->used->flags, __ATOMIC_RELAXED) & SPEC_USED_NO_NOTIFY);
}

void ring_publish(struct bench *b, struct bench_queue *q, uint16_t old_avail)
{
	uint64_t one = 1;

	if (q->nvme.qid) {
		nvme_publish(b, q);
		return;
	}
	if (!q->packed)
		__atomic_store_n(&q->avail->idx, q->avail_idx, __ATOMIC_RELEASE);
	if (q->vr->kick_fd < 0)
		return;
	/* Pairs with the device's barrier between asking for kicks and its last look. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!kick_wanted(q, old_avail))
		return;
	q->kicks++;
	if (write(q->vr->kick_fd, &one, sizeof(one)) < 0)
		b->o.seconds = 0;
}

static unsigned packed_reap(struct bench_queue *q, uint16_t *ret_slots, unsigned max)
{
	unsigned n = 0;

	while (n < max) {
		struct spec_pdesc *d = &q->pdesc[q->used_idx];
		uint16_t f = __atomic_load_n(&d->flags, __ATOMIC_ACQUIRE);
		bool avail = f & SPEC_PDESC_AVAIL, used = f & SPEC_PDESC_USED;

		if (avail != used || used != q->wrap_used)
			break;
		ret_slots[n] = d->id;
		__builtin_prefetch(q->slot[d->id % q->qd].hdr, 1);
		n++;
		packed_step(&q->used_idx, &q->wrap_used, q->descs, q->size);
	}
	return n;
}

unsigned ring_reap(struct bench *b, struct bench_queue *q, uint16_t *ret_slots, unsigned max)
{
	uint16_t idx;
	unsigned n;

	if (q->nvme.qid)
		return nvme_reap(b, q, ret_slots, max);
	if (q->packed)
		return packed_reap(q, ret_slots, max);
	idx = __atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE);
	for (n = 0; q->used_idx != idx && n < max; n++, q->used_idx++) {
		ret_slots[n] = q->slot_of_head[q->used->ring[q->used_idx & q->mask].id & q->mask];
		__builtin_prefetch(q->slot[ret_slots[n]].hdr, 1);
	}
	return n;
}

void ring_call_arm(struct bench_queue *q, bool on)
{
	if (q->packed)
		__atomic_store_n(&q->driver_event->flags,
				 on ? SPEC_EVENT_ENABLE : SPEC_EVENT_DISABLE, __ATOMIC_RELAXED);
	else if (q->event_idx)
		__atomic_store_n(&q->avail->ring[q->size],
				 on ? q->used_idx : (uint16_t)(q->used_idx - 1), __ATOMIC_RELAXED);
	else
		q->avail->flags = on ? 0 : SPEC_AVAIL_NO_INTERRUPT;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}
