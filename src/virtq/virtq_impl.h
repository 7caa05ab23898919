/*
 * The inside of a virtqueue, shared by the files of this folder only.
 *
 * Who does what: virtq.c is life cycle and the verbs; ring_split.c and ring_packed.c know where
 * the next chain is and how a used one is told; chain.c alone reads descriptors; inflight.c keeps
 * the record that survives us.
 *
 * Two bytes keep the rare things off the fast path: `gate` (is there a reason not simply to pop?)
 * and `extras` (is there more to do for each chain than the ring itself?).
 *
 * Invariants:
 *  1. chains popped and not yet visible as used never outnumber the ring: so the batch and order
 *     arrays, of one entry a ring entry each, cannot overflow whatever the driver does;
 *  2. a slot is busy from pop until its used entry was written;
 *  3. nothing read from shared memory is used as an index before it was copied and checked.
 */
#ifndef VIRTQ_VIRTQ_IMPL_H
#define VIRTQ_VIRTQ_IMPL_H

#include <errno.h>

#include "base/num.h"
#include "virtq/virtq.h"

/* virtio 1.3, 2.7.5 and 2.8.13: descriptor flags, the same in both formats */
#define VQ_DESC_NEXT	 (1u << 0)
#define VQ_DESC_WRITE	 (1u << 1)
#define VQ_DESC_INDIRECT (1u << 2)
#define VQ_DESC_AVAIL	 (1u << 7)
#define VQ_DESC_USED	 (1u << 15)

#define VQ_DESC_BYTES 16

/*
 * Each request comes by: with all it calls, chain.c's walk too, in one piece of code. What is rare
 * is kept out by VQ_RARE, so that it costs the fast path neither registers nor stack checks.
 */
#define VQ_FAST __attribute__((flatten))
#define VQ_RARE __attribute__((noinline, cold))

/* A descriptor as it lies in memory. */
struct vq_desc_raw {
	uint64_t addr; /* le64 */
	uint64_t rest; /* le32 len, then le16 flags, next (split) or id, flags (packed) */
};

struct split_avail {
	uint16_t flags, idx;
	uint16_t ring[]; /* then used_event */
};

struct split_used_elem {
	uint32_t id, len;
};

struct split_used {
	uint16_t flags, idx;
	struct split_used_elem ring[]; /* then avail_event */
};

/* virtio 1.3, 2.8.14: event suppression structure, read and written as one 32-bit word. */
#define PACKED_EVENT_ENABLE  0u
#define PACKED_EVENT_DISABLE 1u
#define PACKED_EVENT_DESC    2u

/* reasons not simply to pop */
#define VQ_GATE_BROKEN	 (1u << 0)
#define VQ_GATE_RESUBMIT (1u << 1) /* chains recorded in flight come first */
#define VQ_GATE_PAUSED	 (1u << 2) /* no piece array left until a chain is given back */

/* more to do for each chain */
#define VQ_EXTRA_INFLIGHT (1u << 0)
#define VQ_EXTRA_ORDER	  (1u << 1)
#define VQ_EXTRA_DIRTY	  (1u << 2) /* what chains write */
#define VQ_EXTRA_LOG_USED (1u << 3) /* what the ring itself writes */

/* arrays of VIRTQ_IOV_MAX pieces per queue, for chains of more than VIRTQ_IOV_SLOT */
#define VQ_POOL_MAX 128u

/* Not a cause of breaking: the chain stays in the ring for later. */
#define CHAIN_PAUSE (-1)

struct vq_resubmit {
	uint64_t counter;
	uint16_t entry; /* split: head; packed: record entry of the head */
};

/*
 * A chain being read. The loops of chain.c keep it in a local whose address goes nowhere, so that
 * it lives in registers; for what is rare they put it into vq->walk and take it back after.
 */
struct chain_walk {
	struct iovec *iov, *at, *end; /* pieces: the first, the next, where room ends */
	struct iovec *in;	      /* the first writable one, NULL: none yet */
	char *tail;		      /* end of the last one, where the next may join it */
	const struct gmem_region *hot;
	uint64_t bytes, out_bytes; /* of all; before `in` */
};

struct virtq {
	/* popping */
	struct vq_desc_raw *desc;
	uint8_t gate, extras;
	bool packed, event_idx, indirect, armed;
	bool started, first_publish, repoll;
	uint8_t avail_wrap, used_wrap; /* packed */
	uint32_t size, mask;	       /* mask: split */
	uint16_t last_avail;	       /* split: free running; packed: position */
	uint16_t avail_seen;	       /* split: the driver's index when last read */
	uint16_t used_idx;	       /* where the next used entry goes, same kinds */
	uint16_t published;	       /* split: what used->idx says */
	char *slots;
	size_t slot_stride_bytes;
	struct gmem *map;
	/* of map: where the last piece was found, and the last indirect table */
	const struct gmem_region *hot, *table_hot;
	uint32_t hint, table_hint;
	uint32_t inflight;

	/* pushing */
	union {
		struct split_avail *avail;
		uint32_t *driver_event;
	};
	union {
		struct split_used *used;
		uint32_t *device_event;
	};
	uint32_t unpublished; /* used entries written and not yet visible */
	uint32_t free_desc;   /* packed: ring entries the driver may make available */
	uint32_t batch_desc;  /* packed: ring entries of the unpublished */
	uint16_t first_used;  /* packed: position of the first unpublished one */
	uint64_t first_rest;  /* packed: its second word, written last */
	struct fifo *publish_fifo;
	struct fifo_node *publish_node;

	/* pieces beyond a slot's own */
	struct iovec *pool; /* mapping of pool_count * VIRTQ_IOV_MAX */
	uint16_t pool_free[VQ_POOL_MAX];
	uint32_t pool_count, pool_free_count;
	struct iovec tmp_iov[VIRTQ_IOV_SLOT]; /* packed: pieces until the id is known */
	struct chain_walk walk;
	struct vq_desc_raw *table_copy; /* indirect table that spans regions */

	/* extras */
	uint16_t *order; /* IN_ORDER: slots in the order of popping */
	uint32_t order_head, order_count;
	struct gdirty *dirty;
	struct gpa log_used_gpa;
	void *record; /* in-flight region */
	uint64_t record_counter;
	uint16_t *batch;     /* record entries of the unpublished, while recording */
	uint16_t *batch_num; /* packed: how many entries each of them has */
	uint32_t batch_count;
	uint16_t *record_next;	       /* packed: our copy of the free list's links */
	uint16_t *record_entry;	       /* packed: record entry of each slot's head */
	uint16_t record_free;	       /* packed: our copy of free_head */
	struct vq_desc_raw *desc_copy; /* packed: the ring entries of the chain being popped */
	struct vq_resubmit *resubmit;
	uint32_t resubmit_count, resubmit_next;

	enum virtq_cause broken;
	uint64_t features;
	struct virtq_stats stats;
	size_t slots_bytes, pool_bytes;
};

static inline struct vq_chain *vq_slot(const struct virtq *vq, uint32_t id)
{
	return (struct vq_chain *)(vq->slots + id * vq->slot_stride_bytes);
}

static inline uint16_t load16(const uint16_t *p)
{
	return le16toh(__atomic_load_n(p, __ATOMIC_RELAXED));
}

static inline uint16_t load16_acquire(const uint16_t *p)
{
	return le16toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
}

static inline void store16(uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, htole16(v), __ATOMIC_RELAXED);
}

static inline void store16_release(uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, htole16(v), __ATOMIC_RELEASE);
}

static inline uint16_t *packed_flags(struct vq_desc_raw *d)
{
	return (uint16_t *)((char *)d + 14);
}

/* Would a driver at `event` want to know that the index went from old to new? 2.7.10 */
static inline bool vq_event_passed(uint16_t event, uint16_t new_idx, uint16_t old_idx)
{
	return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx);
}

/* ---- chain.c ---- */

/*
 * Reads the chain at head into its slot, which is free. NULL: the ring broke, or it has to wait
 * for a piece array (VQ_GATE_PAUSED).
 */
struct vq_chain *chain_take_split(struct virtq *vq, struct vq_chain *chain, uint32_t head);
/* The same from ring[pos] on, in a ring of size entries (ours, or a copy of recorded ones). */
struct vq_chain *chain_take_packed(struct virtq *vq, const struct vq_desc_raw *ring, uint32_t size,
				   uint32_t pos);
/* Gives a pool array back. */
void chain_iov_free(struct virtq *vq, struct iovec *iov);
/* Marks what was written through the `in` side. */
void chain_mark_dirty(struct virtq *vq, struct vq_chain *chain, uint32_t written_bytes);

/* ---- ring_split.c, ring_packed.c ---- */

int split_start(struct virtq *vq, const struct virtq_setup *setup, struct err *reterr);
struct vq_chain *split_pop(struct virtq *vq);
struct vq_chain *split_pop_resubmit(struct virtq *vq);
bool split_publish(struct virtq *vq);
bool split_notify_off(const struct virtq *vq);
bool split_arm(struct virtq *vq);
void split_disarm(struct virtq *vq);

int packed_start(struct virtq *vq, const struct virtq_setup *setup, struct err *reterr);
struct vq_chain *packed_pop(struct virtq *vq);
struct vq_chain *packed_pop_resubmit(struct virtq *vq);
bool packed_publish(struct virtq *vq);
bool packed_notify_off(const struct virtq *vq);
bool packed_arm(struct virtq *vq);
void packed_disarm(struct virtq *vq);

/* Marks the used entry that is written next. */
void split_log_used(struct virtq *vq);
void packed_log_used(struct virtq *vq);

static inline void packed_advance(const struct virtq *vq, uint16_t *pos, uint8_t *wrap,
				  uint32_t count)
{
	uint32_t at = *pos + count;

	if (unlikely(at >= vq->size)) {
		at -= vq->size;
		*wrap ^= 1;
	}
	*pos = (uint16_t)at;
}

/* Writes the next used entry; the driver sees it with the next publish. */
static inline void split_emit(struct virtq *vq, const struct vq_chain *chain,
			      uint32_t written_bytes)
{
	struct split_used_elem *e = &vq->used->ring[vq->used_idx & vq->mask];

	__atomic_store_n(&e->id, htole32(chain->head), __ATOMIC_RELAXED);
	__atomic_store_n(&e->len, htole32(written_bytes), __ATOMIC_RELAXED);
	vq->used_idx++;
}

/* The first one of a batch is kept back: see packed_publish. */
static inline void packed_emit(struct virtq *vq, const struct vq_chain *chain,
			       uint32_t written_bytes)
{
	uint64_t flags = vq->used_wrap * (VQ_DESC_AVAIL | VQ_DESC_USED), rest;
	uint32_t ndesc = chain->ndesc;
	uint16_t at = vq->used_idx;

	if (likely(written_bytes))
		flags |= VQ_DESC_WRITE;
	rest = htole64(flags << 48 | (uint64_t)chain->head << 32 | written_bytes);
	vq->batch_desc += ndesc;
	if (likely(vq->unpublished)) {
		__atomic_store_n(&vq->desc[at].rest, rest, __ATOMIC_RELAXED);
	} else {
		vq->first_used = at;
		vq->first_rest = rest;
	}
	packed_advance(vq, &at, &vq->used_wrap, ndesc);
	vq->used_idx = at;
}

/* The rare half of a pop, for vq->extras. */
void virtq_pop_extras(struct virtq *vq, struct vq_chain *chain);
void virtq_mark_used(struct virtq *vq, uint64_t off, uint64_t len_bytes);

/* ---- inflight.c ---- */

/* Recovers what a predecessor left, or makes the region ours. Sets the ring positions. */
int inflight_start(struct virtq *vq, const struct virtq_setup *setup, struct err *reterr);
void inflight_pop(struct virtq *vq, struct vq_chain *chain);
void inflight_push(struct virtq *vq, struct vq_chain *chain);
/* Around the store that makes a batch visible (before: packed only). */
void inflight_publish_before(struct virtq *vq);
void inflight_publish_after(struct virtq *vq);
/* packed: the recorded descriptors of an entry into vq->desc_copy; how many, 0: bad record */
uint32_t inflight_packed_load(struct virtq *vq, uint16_t entry);

#endif
