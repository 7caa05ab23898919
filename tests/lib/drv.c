/* What split and packed share: slots, order, notification, checks; see drv.h. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "drv.h"

int drv_broken(struct drv *q, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(q->why, sizeof(q->why), fmt, ap);
	va_end(ap);
	return -EPROTO;
}

static int map_ring(struct drv *q)
{
	struct fe_vring *vr = q->vr;
	uint64_t n = q->size;

	if (q->packed) {
		q->pdesc = fe_host(q->fe, vr->desc_gpa, 16 * n);
		q->driver_event = fe_host(q->fe, vr->avail_gpa, 4);
		q->device_event = fe_host(q->fe, vr->used_gpa, 4);
		return q->pdesc && q->driver_event && q->device_event ? 0 : -EFAULT;
	}
	q->desc = fe_host(q->fe, vr->desc_gpa, 16 * n);
	q->avail = fe_host(q->fe, vr->avail_gpa, 6 + 2 * n);
	q->used = fe_host(q->fe, vr->used_gpa, 6 + 8 * n);
	if (!q->desc || !q->avail || !q->used)
		return -EFAULT;
	q->used_event = &q->avail->ring[n];
	q->avail_event = (uint16_t *)&q->used->ring[n];
	return 0;
}

void drv_reset(struct drv *q)
{
	uint64_t n = q->size;

	if (q->packed) {
		memset(q->pdesc, 0, 16 * n);
		memset(q->driver_event, 0, 4);
		memset(q->device_event, 0, 4);
	} else {
		memset(q->desc, 0, 16 * n);
		memset(q->avail, 0, 6 + 2 * n);
		memset(q->used, 0, 6 + 8 * n);
	}
	for (unsigned i = 0; i < n; i++) {
		free(q->slot[i].table_copy);
		q->free_fifo[i] = (uint16_t)i;
	}
	memset(q->slot, 0, n * sizeof(*q->slot));
	q->avail_idx = q->avail_published = q->used_idx = 0;
	q->avail_wrap = q->published_wrap = q->used_wrap = true;
	q->free_count = q->free_fill = q->size;
	q->free_head = 0;
	q->order_head = q->order_tail = DRV_NO_ORDER;
	q->in_flight = 0;
	q->in_batch = false;
	q->why[0] = '\0';
}

int drv_init(struct drv *q, struct fe *fe, unsigned idx)
{
	int rc;

	memset(q, 0, sizeof(*q));
	q->fe = fe;
	q->vr = &fe->vring[idx];
	q->size = q->vr->size;
	q->packed = fe->features & SPEC_F_RING_PACKED;
	q->event_idx = fe->features & SPEC_F_EVENT_IDX;
	q->indirect = fe->features & SPEC_F_INDIRECT;
	q->in_order = fe->features & SPEC_F_IN_ORDER;
	q->strict = true;
	rc = map_ring(q);
	if (rc)
		return rc;
	q->slot = calloc(q->size, sizeof(*q->slot));
	q->free_fifo = calloc(q->size, sizeof(*q->free_fifo));
	q->next_copy = calloc(q->size, sizeof(*q->next_copy));
	q->desc_copy = calloc(q->size, sizeof(*q->desc_copy));
	q->table_gpa = calloc(q->size, sizeof(*q->table_gpa));
	if (!q->slot || !q->free_fifo || !q->next_copy || !q->desc_copy || !q->table_gpa) {
		drv_fini(q);
		return -ENOMEM;
	}
	drv_reset(q);
	return 0;
}

void drv_fini(struct drv *q)
{
	for (unsigned i = 0; q->slot && i < q->size; i++)
		free(q->slot[i].table_copy);
	free(q->slot);
	free(q->free_fifo);
	free(q->next_copy);
	free(q->desc_copy);
	free(q->table_gpa);
	memset(q, 0, sizeof(*q));
}

/* Guest memory for the indirect table of a slot; each slot's grows only. */
uint64_t drv_table(struct drv *q, uint16_t id, unsigned count)
{
	struct drv_slot *s = &q->slot[id];

	if (q->table_gpa[id] && count <= 130)
		return s->table_gpa = q->table_gpa[id];
	s->table_gpa = fe_alloc(q->fe, -1, 16ull * (count < 130 ? 130 : count), 16);
	if (count <= 130)
		q->table_gpa[id] = s->table_gpa;
	return s->table_gpa;
}

int drv_add(struct drv *q, const struct drv_buf *bufs, unsigned count, void *tag)
{
	struct drv_slot *s;
	int id;

	if (!count || count > DRV_CHAIN_MAX)
		return -EINVAL;
	id = q->packed ? drv_packed_add(q, bufs, count) : drv_split_add(q, bufs, count);
	if (id < 0)
		return id;
	s = &q->slot[id];
	s->tag = tag;
	s->in_flight = true;
	s->order_next = DRV_NO_ORDER;
	s->writable_bytes = 0;
	for (unsigned i = 0; i < count; i++)
		s->writable_bytes += bufs[i].write ? bufs[i].len : 0;
	if (s->table_gpa) {
		void *table = fe_host(q->fe, s->table_gpa, 16ull * count);

		s->table_count = (uint16_t)count;
		s->table_copy = realloc(s->table_copy, 16ull * count);
		if (!s->table_copy || !table)
			return -ENOMEM;
		memcpy(s->table_copy, table, 16ull * count);
	}
	if (q->order_tail == DRV_NO_ORDER)
		q->order_head = (uint16_t)id;
	else
		q->slot[q->order_tail].order_next = (uint16_t)id;
	q->order_tail = (uint16_t)id;
	q->in_flight++;
	return id;
}

int drv_kick(struct drv *q)
{
	uint64_t one = 1;

	q->kicks++;
	if (q->fe->transport) {
		int rc = q->fe->transport->kick(q->fe, q->vr);

		return rc ? rc : 1;
	}
	if (q->vr->kick_fd < 0)
		return 0;
	return write(q->vr->kick_fd, &one, sizeof(one)) == sizeof(one) ? 1 : -errno;
}

static bool kick_wanted(struct drv *q, uint16_t old, bool old_wrap)
{
	if (q->packed)
		return drv_packed_kick_wanted(q, old, old_wrap);
	if (q->event_idx) {
		uint16_t event = __atomic_load_n(q->avail_event, __ATOMIC_RELAXED);

		/* virtio 1.3, 2.7.10.1 */
		return (uint16_t)(q->avail_idx - event - 1) < (uint16_t)(q->avail_idx - old);
	}
	return !(__atomic_load_n(&q->used->flags, __ATOMIC_RELAXED) & SPEC_USED_NO_NOTIFY);
}

int drv_publish(struct drv *q)
{
	uint16_t old = q->avail_published;
	bool old_wrap = q->published_wrap;

	if (q->packed)
		drv_packed_publish(q);
	else
		drv_split_publish(q);
	/* Full barrier between making visible and reading the device's wish; its partner is the
	 * device's between writing the wish and looking again. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!kick_wanted(q, old, old_wrap))
		return 0;
	return drv_kick(q);
}

static void order_remove(struct drv *q, uint16_t id)
{
	uint16_t *link = &q->order_head;
	uint16_t prev = DRV_NO_ORDER;

	while (*link != id) {
		prev = *link;
		link = &q->slot[prev].order_next;
	}
	*link = q->slot[id].order_next;
	if (q->order_tail == id)
		q->order_tail = prev;
}

static int check_slot(struct drv *q, const struct drv_used *u)
{
	struct drv_slot *s = &q->slot[u->id];
	void *table;

	if (u->len > s->writable_bytes)
		return drv_broken(q, "used length %u of chain %u, writable %llu", u->len, u->id,
				  (unsigned long long)s->writable_bytes);
	if (!s->table_gpa || !s->table_copy)
		return 0;
	table = fe_host(q->fe, s->table_gpa, 16ull * s->table_count);
	if (table && memcmp(table, s->table_copy, 16ull * s->table_count))
		return drv_broken(q, "the device changed the indirect table of chain %u", u->id);
	return 0;
}

/* Takes the members of an IN_ORDER batch one by one, oldest first. */
static int batch_step(struct drv *q, struct drv_used *ret)
{
	if (q->order_head == DRV_NO_ORDER)
		return drv_broken(q, "IN_ORDER batch ends with a chain not in flight");
	ret->id = q->order_head;
	ret->batched = ret->id != q->batch_end;
	ret->len = ret->batched ? 0 : q->batch_len;
	q->in_batch = ret->batched;
	return 1;
}

int drv_used_get(struct drv *q, struct drv_used *ret)
{
	struct drv_slot *s;
	int rc = 1;

	ret->batched = false;
	if (!q->in_batch) {
		rc = q->packed ? drv_packed_used(q, ret) : drv_split_used(q, ret);
		if (rc <= 0)
			return rc;
		if (ret->id >= q->size || !q->slot[ret->id].in_flight)
			return drv_broken(q, "used entry names chain %u, not in flight", ret->id);
		q->batch_end = (uint16_t)ret->id;
		q->batch_len = ret->len;
	}
	if (q->in_order)
		rc = batch_step(q, ret);
	if (rc > 0 && q->strict)
		rc = check_slot(q, ret) ? -EPROTO : 1;
	if (rc < 0)
		return rc;
	s = &q->slot[ret->id];
	ret->tag = s->tag;
	order_remove(q, (uint16_t)ret->id);
	if (q->packed)
		drv_packed_release(q, (uint16_t)ret->id);
	else
		rc = drv_split_release(q, (uint16_t)ret->id);
	s->in_flight = false;
	q->in_flight--;
	return rc < 0 ? rc : 1;
}

void drv_call_enable(struct drv *q, bool on)
{
	if (q->packed)
		__atomic_store_n(&q->driver_event->flags,
				 on ? SPEC_EVENT_ENABLE : SPEC_EVENT_DISABLE, __ATOMIC_RELAXED);
	else if (q->event_idx)
		__atomic_store_n(q->used_event, on ? q->used_idx : (uint16_t)(q->used_idx - 1),
				 __ATOMIC_RELAXED);
	else
		__atomic_store_n(&q->avail->flags, on ? 0 : SPEC_AVAIL_NO_INTERRUPT,
				 __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

uint64_t drv_call_count(struct drv *q)
{
	uint64_t n = 0;

	if (q->vr->call_fd < 0 || read(q->vr->call_fd, &n, sizeof(n)) != sizeof(n))
		return 0;
	return n;
}

int drv_used_wait(struct drv *q, struct drv_used *ret)
{
	struct timespec start, now;
	int left = q->fe->timeout_ms;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (;;) {
		struct pollfd p = { .fd = q->vr->call_fd, .events = POLLIN };
		int rc;

		drv_call_enable(q, true);
		rc = drv_used_get(q, ret);
		if (rc)
			return rc;
		clock_gettime(CLOCK_MONOTONIC, &now);
		left = q->fe->timeout_ms - (int)((now.tv_sec - start.tv_sec) * 1000 +
						 (now.tv_nsec - start.tv_nsec) / 1000000);
		if (left <= 0)
			return -ETIMEDOUT;
		if (p.fd < 0) {
			nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
			continue;
		}
		if (poll(&p, 1, left) == 1)
			drv_call_count(q);
	}
}

void drv_raw_desc(struct drv *q, uint16_t i, uint64_t gpa, uint32_t len, uint16_t flags,
		  uint16_t next_or_id)
{
	if (q->packed)
		q->pdesc[i % q->size] = (struct spec_pdesc){ gpa, len, next_or_id, flags };
	else
		q->desc[i % q->size] = (struct spec_desc){ gpa, len, flags, next_or_id };
}

void drv_raw_avail(struct drv *q, uint16_t head)
{
	q->avail->ring[q->avail_idx++ % q->size] = head;
}

void drv_raw_avail_idx(struct drv *q, uint16_t idx)
{
	q->avail_idx = q->avail_published = idx;
	__atomic_store_n(&q->avail->idx, idx, __ATOMIC_RELEASE);
}
