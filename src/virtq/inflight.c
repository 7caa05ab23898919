/*
 * The record of chains in flight, kept in memory that outlives us: vhost-user, "Inflight I/O
 * tracking".
 *
 * A process that dies leaves its stores in program order, so between steps only the compiler has
 * to be held back (step()). What is found at start was in the front-end's hands: every index and
 * count is checked, every walk is bounded, and a record that contradicts itself breaks the ring
 * with INFLIGHT_BAD. While we run, nothing is read from the region; our copies count.
 *
 * Where the next available chain is, after recovery: the ring entry of every chain was taken
 * either by one that is used (all before the used index) or by one in flight. So it is the used
 * index plus what is in flight (split: chains, packed: their ring entries), and the base that the
 * front-end remembers does not matter: after a crash it is as old as the last clean stop.
 *
 * A fresh region (version 0) takes its used index from the ring at once. A ring that migrated here
 * is not at 0, and comparing it with 0 later would clear an entry that is still in flight.
 */
#include <stdlib.h>

#include "virtq/virtq_impl.h"

#define RECORD_VERSION 1

/* Native byte order, as the region never leaves the host. */
struct split_entry {
	uint8_t inflight, pad[5];
	uint16_t next;
	uint64_t counter;
};

struct split_record {
	uint64_t features;
	uint16_t version, desc_num, last_batch_head, used_idx;
	struct split_entry desc[];
};

struct packed_entry {
	uint8_t inflight, pad;
	uint16_t next, last, num;
	uint64_t counter;
	uint16_t id, flags;
	uint32_t len;
	uint64_t addr;
};

/* Each of these two groups of fields changes as one 8-byte store: a crash never splits them. */
union packed_free {
	struct {
		uint16_t version, desc_num, free_head, old_free_head;
	};
	uint64_t word;
};

union packed_used {
	struct {
		uint16_t used_idx, old_used_idx;
		uint8_t used_wrap, old_used_wrap, pad[2];
	};
	uint64_t word;
};

struct packed_record {
	uint64_t features;
	union packed_free free;
	union packed_used used;
	uint8_t pad[8];
	struct packed_entry desc[];
};

_Static_assert(sizeof(struct split_record) == 16, "as the specification has it");
_Static_assert(sizeof(struct split_entry) == 16, "as the specification has it");
_Static_assert(sizeof(struct packed_record) == 32, "as the specification has it");
_Static_assert(sizeof(struct packed_entry) == 32, "as the specification has it");

static inline void step(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

uint64_t virtq_inflight_bytes(uint64_t features, uint32_t size)
{
	uint64_t bytes;

	if (features & VIRTIO_F_RING_PACKED)
		bytes = sizeof(struct packed_record) + (uint64_t)size * sizeof(struct packed_entry);
	else
		bytes = sizeof(struct split_record) + (uint64_t)size * sizeof(struct split_entry);
	return num_round_up(bytes, 64);
}

void virtq_inflight_forget(void *inflight)
{
	struct split_record *r = inflight; /* both formats begin alike */

	if (r)
		r->version = 0;
}

static int by_counter(const void *a, const void *b)
{
	const struct vq_resubmit *x = a, *y = b;

	return x->counter < y->counter ? -1 : x->counter > y->counter;
}

static void resubmit_add(struct virtq *vq, uint16_t entry, uint64_t counter)
{
	vq->resubmit[vq->resubmit_count++] = (struct vq_resubmit){ counter, entry };
	if (counter >= vq->record_counter)
		vq->record_counter = counter + 1;
}

static void resubmit_ready(struct virtq *vq)
{
	if (!vq->resubmit_count)
		return;
	qsort(vq->resubmit, vq->resubmit_count, sizeof(*vq->resubmit), by_counter);
	vq->gate |= VQ_GATE_RESUBMIT;
}

/* ---- split ---- */

static void split_init(struct virtq *vq)
{
	struct split_record *r = vq->record;
	uint32_t i;

	r->version = 0;
	step();
	for (i = 0; i < vq->size; i++)
		if (r->desc[i].inflight)
			r->desc[i].inflight = 0;
	r->features = 0;
	r->desc_num = (uint16_t)vq->size;
	r->last_batch_head = 0;
	r->used_idx = vq->used_idx;
	step();
	r->version = RECORD_VERSION;
}

/* The batch whose index was stored but whose marks may not have been cleared. */
static bool split_clear_batch(struct virtq *vq, struct split_record *r)
{
	uint16_t left = (uint16_t)(vq->used_idx - r->used_idx), i = r->last_batch_head;

	if (left > vq->size)
		return false;
	for (; left; left--) {
		if (i >= vq->size)
			return false;
		r->desc[i].inflight = 0;
		i = *(volatile uint16_t *)&r->desc[i].next;
	}
	return true;
}

static uint32_t split_marked(const struct virtq *vq, const struct split_record *r)
{
	uint32_t i, count = 0;

	for (i = 0; i < vq->size; i++)
		count += r->desc[i].inflight == 1;
	return count;
}

static bool split_recover(struct virtq *vq)
{
	struct split_record *r = vq->record;
	uint32_t i;

	if (r->version != RECORD_VERSION) {
		split_init(vq);
		return true;
	}
	if (split_marked(vq, r)) {
		if (r->desc_num != (uint16_t)vq->size || !split_clear_batch(vq, r))
			return false;
		for (i = 0; i < vq->size; i++)
			if (*(volatile uint8_t *)&r->desc[i].inflight == 1)
				resubmit_add(vq, (uint16_t)i, r->desc[i].counter);
		step();
		r->used_idx = vq->used_idx;
	} else {
		split_init(vq);
	}
	vq->last_avail = vq->avail_seen = (uint16_t)(vq->used_idx + vq->resubmit_count);
	return true;
}

/* ---- packed ---- */

static void packed_store(struct virtq *vq, uint16_t old_idx, uint8_t old_wrap)
{
	struct packed_record *r = vq->record;
	union packed_used u = { .used_idx = vq->used_idx,
				.old_used_idx = old_idx,
				.used_wrap = vq->used_wrap,
				.old_used_wrap = old_wrap };

	__atomic_store_n(&r->used.word, u.word, __ATOMIC_RELAXED);
	step();
}

static void packed_store_free(struct virtq *vq)
{
	struct packed_record *r = vq->record;
	union packed_free f = { .version = RECORD_VERSION,
				.desc_num = (uint16_t)vq->size,
				.free_head = vq->record_free,
				.old_free_head = vq->record_free };

	__atomic_store_n(&r->free.word, f.word, __ATOMIC_RELAXED);
	step();
}

/* All entries that `taken` does not name become the free list, which ends with `size`. */
static void packed_free_list(struct virtq *vq, const uint8_t *taken)
{
	struct packed_record *r = vq->record;
	uint16_t next = (uint16_t)vq->size;
	uint32_t i;

	for (i = vq->size; i-- > 0;) {
		if (taken && taken[i])
			continue;
		r->desc[i].inflight = 0;
		r->desc[i].next = vq->record_next[i] = next;
		next = (uint16_t)i;
	}
	vq->record_free = next;
}

static void packed_init(struct virtq *vq)
{
	struct packed_record *r = vq->record;

	r->free.version = 0;
	step();
	packed_free_list(vq, NULL);
	r->features = 0;
	packed_store(vq, vq->used_idx, vq->used_wrap);
	packed_store_free(vq);
}

/* Was the batch that was being told when we died seen by the driver? Then it counts. */
static bool packed_settle(struct virtq *vq, const union packed_used *u, const union packed_free *f,
			  uint16_t *ret_free)
{
	bool told = false;

	if (u->used_idx >= vq->size || u->old_used_idx >= vq->size)
		return false;
	if (u->used_idx != u->old_used_idx || (u->used_wrap & 1) != (u->old_used_wrap & 1)) {
		uint16_t flags = load16_acquire(packed_flags(&vq->desc[u->old_used_idx]));
		uint8_t wrap = u->old_used_wrap & 1;

		told = !!(flags & VQ_DESC_AVAIL) != wrap || !!(flags & VQ_DESC_USED) == wrap;
	}
	vq->used_idx = told ? u->used_idx : u->old_used_idx;
	vq->used_wrap = (told ? u->used_wrap : u->old_used_wrap) & 1;
	*ret_free = told ? f->free_head : f->old_free_head;
	return true;
}

/* Marks an in-flight chain's entries as taken, copies its links; 0: not a proper list. */
static uint32_t packed_claim(struct virtq *vq, uint16_t head, uint8_t *taken)
{
	struct packed_record *r = vq->record;
	uint32_t num = r->desc[head].num, n;
	uint16_t i = head;

	if (!num || num > vq->size)
		return 0;
	for (n = 0; n < num; n++) {
		if (i >= vq->size || taken[i])
			return 0;
		taken[i] = 1;
		vq->record_next[i] = *(volatile uint16_t *)&r->desc[i].next;
		i = vq->record_next[i];
	}
	return num;
}

static bool packed_collect(struct virtq *vq, uint8_t *taken)
{
	struct packed_record *r = vq->record;
	uint32_t i, num, total = 0;

	for (i = 0; i < vq->size; i++) {
		if (*(volatile uint8_t *)&r->desc[i].inflight != 1)
			continue;
		num = packed_claim(vq, (uint16_t)i, taken);
		total += num;
		if (!num || total > vq->size)
			return false;
		resubmit_add(vq, (uint16_t)i, r->desc[i].counter);
	}
	vq->last_avail = vq->used_idx;
	vq->avail_wrap = vq->used_wrap;
	packed_advance(vq, &vq->last_avail, &vq->avail_wrap, total);
	return true;
}

static bool packed_recover(struct virtq *vq)
{
	struct packed_record *r = vq->record;
	union packed_free f = { .word = __atomic_load_n(&r->free.word, __ATOMIC_RELAXED) };
	union packed_used u = { .word = __atomic_load_n(&r->used.word, __ATOMIC_RELAXED) };
	uint8_t *taken;
	uint32_t steps;
	uint16_t i;
	bool ok;

	if (f.version != RECORD_VERSION) {
		packed_init(vq);
		return true;
	}
	if (f.desc_num != (uint16_t)vq->size || !packed_settle(vq, &u, &f, &i))
		return false;
	/* What is on the free list is not in flight, whatever its mark says. */
	for (steps = 0; i < vq->size && steps < vq->size; steps++) {
		r->desc[i].inflight = 0;
		i = *(volatile uint16_t *)&r->desc[i].next;
	}
	taken = calloc(vq->size, 1);
	if (!taken)
		return false;
	ok = packed_collect(vq, taken);
	if (ok) {
		packed_free_list(vq, taken);
		packed_store(vq, vq->used_idx, vq->used_wrap);
		packed_store_free(vq);
	}
	free(taken);
	return ok;
}

uint32_t inflight_packed_load(struct virtq *vq, uint16_t entry)
{
	const struct packed_record *r = vq->record;
	uint32_t n, num = *(const volatile uint16_t *)&r->desc[entry].num;
	uint16_t i = entry;

	if (num > vq->size)
		return 0;
	for (n = 0; n < num; n++) {
		const volatile struct packed_entry *e = &r->desc[i];

		if (i >= vq->size)
			return 0;
		vq->desc_copy[n].addr = htole64(e->addr);
		vq->desc_copy[n].rest =
			htole64((uint64_t)e->flags << 48 | (uint64_t)e->id << 32 | e->len);
		i = vq->record_next[i];
	}
	return num;
}

static void packed_pop_record(struct virtq *vq, struct vq_chain *chain)
{
	struct packed_record *r = vq->record;
	uint16_t head = vq->record_free, i = head, last = head;
	uint32_t n;

	/* Never empty here: free_desc bounds what is out, and both count ring entries. */
	for (n = 0; n < chain->ndesc; n++) {
		const struct vq_desc_raw *d = &vq->desc_copy[n];
		struct packed_entry *e = &r->desc[i];

		e->addr = d->addr;
		e->len = (uint32_t)d->rest;
		e->id = (uint16_t)(d->rest >> 32);
		e->flags = (uint16_t)(d->rest >> 48);
		last = i;
		i = vq->record_next[i];
	}
	r->desc[head].num = chain->ndesc;
	r->desc[head].last = last;
	r->desc[head].counter = vq->record_counter++;
	vq->record_entry[chain->head] = head;
	vq->record_free = i;
	step();
	r->desc[head].inflight = 1;
	step();
	packed_store_free(vq);
}

/* Freed entries go back in one batch, so that a roll-back finds the old list untouched. */
void inflight_publish_before(struct virtq *vq)
{
	struct packed_record *r = vq->record;
	uint16_t old_idx = vq->first_used, old_free = vq->record_free;
	uint8_t old_wrap = vq->used_wrap ^ (vq->first_used + vq->batch_desc >= vq->size);
	union packed_free f = { .version = RECORD_VERSION, .desc_num = (uint16_t)vq->size };
	uint32_t n;

	for (n = 0; n < vq->batch_count; n++) {
		uint16_t head = vq->batch[n], last = head, i;

		for (i = vq->batch_num[n]; i > 1; i--)
			last = vq->record_next[last];
		r->desc[last].next = vq->record_next[last] = vq->record_free;
		vq->record_free = head;
	}
	f.free_head = vq->record_free;
	f.old_free_head = old_free;
	step();
	__atomic_store_n(&r->free.word, f.word, __ATOMIC_RELAXED);
	step();
	packed_store(vq, old_idx, old_wrap);
}

/* ---- both ---- */

int inflight_start(struct virtq *vq, const struct virtq_setup *setup, struct err *reterr)
{
	uint64_t need = virtq_inflight_bytes(vq->features, vq->size);
	bool ok;

	if (setup->inflight_bytes < need || (uintptr_t)setup->inflight % 8)
		return err_set(reterr, -EINVAL,
			       "in-flight region: expected %llu aligned bytes, got %u",
			       (unsigned long long)need, setup->inflight_bytes);
	vq->record = setup->inflight;
	vq->record_counter = 0;
	vq->resubmit_count = vq->resubmit_next = 0;
	vq->extras |= VQ_EXTRA_INFLIGHT;
	ok = vq->packed ? packed_recover(vq) : split_recover(vq);
	if (ok)
		resubmit_ready(vq);
	else
		virtq_break(vq, VIRTQ_INFLIGHT_BAD);
	return 0;
}

void inflight_pop(struct virtq *vq, struct vq_chain *chain)
{
	struct split_record *r = vq->record;

	if (vq->packed) {
		packed_pop_record(vq, chain);
		return;
	}
	r->desc[chain->head].counter = vq->record_counter++;
	step();
	r->desc[chain->head].inflight = 1;
	step();
}

void inflight_push(struct virtq *vq, struct vq_chain *chain)
{
	struct split_record *r = vq->record;

	if (vq->packed) {
		vq->batch_num[vq->batch_count] = chain->ndesc;
		vq->batch[vq->batch_count++] = vq->record_entry[chain->head];
		return;
	}
	vq->batch[vq->batch_count++] = chain->head;
	r->desc[chain->head].next = r->last_batch_head;
	step();
	r->last_batch_head = chain->head;
	step();
}

void inflight_publish_after(struct virtq *vq)
{
	struct split_record *s = vq->record;
	struct packed_record *p = vq->record;
	uint32_t n;

	step();
	for (n = 0; n < vq->batch_count; n++) {
		if (vq->packed)
			p->desc[vq->batch[n]].inflight = 0;
		else
			s->desc[vq->batch[n]].inflight = 0;
	}
	step();
	vq->batch_count = 0;
	if (vq->packed) {
		packed_store_free(vq);
		packed_store(vq, vq->used_idx, vq->used_wrap);
	} else {
		s->used_idx = vq->used_idx;
	}
}
