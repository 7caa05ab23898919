/* The split virtqueue from the driver's side: virtio 1.3, 2.7. */
#include <errno.h>
#include <string.h>

#include "drv.h"

static uint16_t take_free(struct drv *q)
{
	uint16_t d = q->free_fifo[q->free_head];

	q->free_head = (uint16_t)((q->free_head + 1) % q->size);
	q->free_count--;
	return d;
}

/* First in, first out: with IN_ORDER this yields ring order, as 2.7.9 demands. */
static void give_free(struct drv *q, uint16_t d)
{
	q->free_fifo[(q->free_head + q->free_count) % q->size] = d;
	q->free_count++;
}

static void put_desc(struct drv *q, uint16_t i, struct spec_desc d)
{
	q->desc[i] = d;
	q->desc_copy[i] = d;
	q->next_copy[i] = d.next;
}

static int add_indirect(struct drv *q, const struct drv_buf *bufs, unsigned count)
{
	uint16_t head = q->free_fifo[q->free_head];
	uint64_t gpa = drv_table(q, head, count);
	struct spec_desc *t = gpa ? fe_host(q->fe, gpa, 16ull * count) : NULL;

	if (!t)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++)
		t[i] = (struct spec_desc){
			.addr = bufs[i].gpa,
			.len = bufs[i].len,
			.flags = (uint16_t)((bufs[i].write ? SPEC_DESC_WRITE : 0) |
					    (i + 1 < count ? SPEC_DESC_NEXT : 0)),
			.next = (uint16_t)(i + 1 < count ? i + 1 : 0),
		};
	take_free(q);
	put_desc(q, head, (struct spec_desc){ gpa, 16 * count, SPEC_DESC_INDIRECT, 0 });
	q->slot[head].desc_count = 1;
	return head;
}

static int add_direct(struct drv *q, const struct drv_buf *bufs, unsigned count)
{
	uint16_t head = take_free(q);
	uint16_t at = head;

	for (unsigned i = 0; i < count; i++) {
		bool more = i + 1 < count;
		uint16_t next = more ? take_free(q) : 0;

		put_desc(q, at,
			 (struct spec_desc){
				 .addr = bufs[i].gpa,
				 .len = bufs[i].len,
				 .flags = (uint16_t)((bufs[i].write ? SPEC_DESC_WRITE : 0) |
						     (more ? SPEC_DESC_NEXT : 0)),
				 .next = next });
		at = next;
	}
	q->slot[head].desc_count = (uint16_t)count;
	q->slot[head].table_gpa = 0;
	return head;
}

int drv_split_add(struct drv *q, const struct drv_buf *bufs, unsigned count)
{
	bool table = q->indirect && count > 1;
	int head;

	if (q->free_count < (table ? 1 : count))
		return -ENOSPC;
	head = table ? add_indirect(q, bufs, count) : add_direct(q, bufs, count);
	if (head >= 0)
		drv_raw_avail(q, (uint16_t)head);
	return head;
}

void drv_split_publish(struct drv *q)
{
	q->avail_published = q->avail_idx;
	/* Entries before index: pairs with the device's acquire of avail->idx. */
	__atomic_store_n(&q->avail->idx, q->avail_idx, __ATOMIC_RELEASE);
}

int drv_split_used(struct drv *q, struct drv_used *ret)
{
	uint16_t idx = __atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE);
	uint16_t ahead = (uint16_t)(idx - q->used_idx);
	struct spec_used_elem e;

	if (!ahead)
		return 0;
	if (q->strict && ahead > q->in_flight)
		return drv_broken(q, "used index %u is %u ahead, %u in flight", idx, ahead,
				  q->in_flight);
	e = q->used->ring[q->used_idx % q->size];
	ret->id = e.id;
	ret->len = e.len;
	return 1;
}

int drv_split_release(struct drv *q, uint16_t id)
{
	uint16_t at = id;
	int rc = 0;

	q->used_idx++;
	for (unsigned i = 0; i < q->slot[id].desc_count; i++) {
		if (q->strict && memcmp(&q->desc[at], &q->desc_copy[at], sizeof(q->desc[at])))
			rc = drv_broken(q, "the device changed descriptor %u", at);
		give_free(q, at);
		at = q->next_copy[at];
	}
	return rc;
}
