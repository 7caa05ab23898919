/*
 * From descriptors to pieces of memory: the only reader of descriptors, for split rings, packed
 * rings and indirect tables of both.
 *
 * Each descriptor is copied once, 16 bytes, and only the copy is looked at. Every step is counted
 * against the table's size. A descriptor of length 0 is legal and gives no piece. Neighbours in
 * our address space become one piece.
 */
#include "virtq/virtq_impl.h"

/* Our copy of a descriptor. */
struct desc {
	uint64_t addr;
	uint32_t len;
	uint32_t high; /* split: flags, then next; packed: id, then flags */
};

/* In desc.high. */
#define SPLIT_FLAG(flag)  (flag)
#define PACKED_FLAG(flag) ((flag) << 16)

/* An indirect table may have any alignment: virtio asks for none. */
typedef uint64_t any_u64 __attribute__((aligned(1), may_alias));
typedef uint32_t any_u32 __attribute__((aligned(1), may_alias));

static inline struct desc desc_copy(const struct vq_desc_raw *table, uint64_t i)
{
	const char *p = (const char *)table + i * VQ_DESC_BYTES;

	return (struct desc){ .addr = le64toh(*(const volatile any_u64 *)p),
			      .len = le32toh(*(const volatile any_u32 *)(p + 8)),
			      .high = le32toh(*(const volatile any_u32 *)(p + 12)) };
}

static inline struct vq_desc_raw desc_raw(struct desc d)
{
	return (struct vq_desc_raw){ .addr = htole64(d.addr),
				     .rest = htole64((uint64_t)d.high << 32 | d.len) };
}

static struct iovec *pool_take(struct virtq *vq)
{
	if (!vq->pool_free_count)
		return NULL;
	return vq->pool + (size_t)vq->pool_free[--vq->pool_free_count] * VIRTQ_IOV_MAX;
}

void chain_iov_free(struct virtq *vq, struct iovec *iov)
{
	vq->pool_free[vq->pool_free_count++] = (uint16_t)((iov - vq->pool) / VIRTQ_IOV_MAX);
}

static inline struct chain_walk walk_begin(struct virtq *vq, struct iovec *own)
{
	return (struct chain_walk){
		.iov = own, .at = own, .end = own + VIRTQ_IOV_SLOT, .hot = vq->hot
	};
}

/* Room for count more pieces, which may move all there are into an array of the pool. */
static int walk_room(struct virtq *vq, struct chain_walk *w, uint32_t count)
{
	struct iovec *big;
	size_t have = (size_t)(w->at - w->iov);

	if (have + count > VIRTQ_IOV_MAX)
		return VIRTQ_TOO_MANY;
	if (count <= (size_t)(w->end - w->at))
		return 0;
	big = pool_take(vq);
	if (!big)
		return CHAIN_PAUSE;
	memcpy(big, w->iov, have * sizeof(*big));
	if (w->in)
		w->in = big + (w->in - w->iov);
	w->iov = big;
	w->at = big + have;
	w->end = big + VIRTQ_IOV_MAX;
	return 0;
}

/* The rest of walk_add, on vq->walk: no bytes, several pieces, no room, or not guest memory. */
static VQ_RARE int walk_add_slow(struct virtq *vq, struct gpa addr, uint32_t len)
{
	struct iovec scratch[GMEM_REGIONS_MAX];
	struct chain_walk *w = &vq->walk;
	uint32_t count;
	int rc;

	if (!len)
		return 0;
	count = gmem_translate(vq->map, addr, len, scratch, GMEM_REGIONS_MAX, &vq->hint);
	if (!count)
		return VIRTQ_UNMAPPED;
	if (vq->hint < vq->map->count)
		w->hot = vq->hot = &vq->map->regions[vq->hint];
	rc = walk_room(vq, w, count);
	if (rc)
		return rc;
	memcpy(w->at, scratch, count * sizeof(*scratch));
	w->at += count;
	w->tail = (char *)w->at[-1].iov_base + w->at[-1].iov_len;
	return 0;
}

/* Are these len bytes, at least one, all in the region? */
static inline bool region_holds(const struct gmem_region *r, uint64_t off, uint32_t len)
{
	uint64_t last;

	return likely(!__builtin_add_overflow(off, len - 1ull, &last)) &&
	       likely(last < r->size_bytes);
}

/* Adds what one descriptor covers. */
static inline __attribute__((always_inline)) int walk_add(struct virtq *vq, struct chain_walk *w,
							  uint64_t addr, uint32_t len, bool write)
{
	uint64_t off = addr - w->hot->gpa;
	char *base;
	int rc;

	if (!write) {
		if (unlikely(w->in))
			return VIRTQ_ORDER;
	} else if (!w->in) {
		w->in = w->at;
		w->out_bytes = w->bytes;
		w->tail = NULL;
	}
	w->bytes += len;
	if (likely(w->at != w->end) && region_holds(w->hot, off, len)) {
		base = w->hot->base + off;
		if (unlikely(base == w->tail)) {
			w->at[-1].iov_len += len;
		} else {
			w->at->iov_base = base;
			w->at->iov_len = len;
			w->at++;
		}
		w->tail = base + len;
		return 0;
	}
	vq->walk = *w;
	rc = walk_add_slow(vq, gpa(addr), len);
	*w = vq->walk;
	return rc;
}

/* A table over a border of regions is copied as a whole. */
static VQ_RARE const struct vq_desc_raw *table_slow(struct virtq *vq, struct gpa addr, uint32_t len)
{
	struct iovec pieces[GMEM_REGIONS_MAX];
	uint32_t i, count;
	size_t at = 0;

	count = gmem_translate(vq->map, addr, len, pieces, GMEM_REGIONS_MAX, &vq->table_hint);
	if (!count)
		return NULL;
	if (vq->table_hint < vq->map->count)
		vq->table_hot = &vq->map->regions[vq->table_hint];
	if (count == 1)
		return pieces->iov_base;
	for (i = 0; i < count; i++) {
		memcpy((char *)vq->table_copy + at, pieces[i].iov_base, pieces[i].iov_len);
		at += pieces[i].iov_len;
	}
	/* The compiler must not go back to the guest's memory for what was copied. */
	__asm__ volatile("" ::: "memory");
	return vq->table_copy;
}

/*
 * One indirect table, as the last descriptor of a chain; direct ones may come before it (virtio
 * 1.3, 2.7.5.3.2). The WRITE flag of the referring descriptor is to be ignored. A table may be
 * longer than the ring: Linux drivers do that; VIRTQ_IOV_MAX is the limit instead. One in a single
 * piece is read in place.
 */
static inline int table_open(struct virtq *vq, uint64_t addr, uint32_t len, bool next,
			     const struct vq_desc_raw **ret_table)
{
	const struct gmem_region *r = vq->table_hot;
	uint64_t off = addr - r->gpa;

	if (unlikely(!vq->indirect | next))
		return vq->indirect ? VIRTQ_INDIRECT_NESTED : VIRTQ_INDIRECT_OFF;
	if (unlikely(!len || len % VQ_DESC_BYTES || len / VQ_DESC_BYTES > VIRTQ_IOV_MAX))
		return VIRTQ_INDIRECT_SIZE;
	if (region_holds(r, off, len)) {
		*ret_table = (const struct vq_desc_raw *)(r->base + off);
		return 0;
	}
	*ret_table = table_slow(vq, gpa(addr), len);
	return *ret_table ? 0 : VIRTQ_UNMAPPED;
}

/* Fills the slot: its two cursors, and what the dirty log has to know. */
static inline int walk_place(struct virtq *vq, const struct chain_walk *w, struct vq_chain *chain)
{
	struct iovec *in = likely(w->in) ? w->in : w->at;
	uint64_t out_bytes = likely(w->in) ? w->out_bytes : w->bytes;
	uint64_t in_bytes = w->bytes - out_bytes;

	/* virtio 1.3, 2.7.4.2 and 2.8.5: at most 2^32 bytes. */
	if (unlikely(w->bytes > 1ull << 32))
		return VIRTQ_LENGTH_WRAP;
	iov_cur_init(&chain->out, w->iov, (uint32_t)(in - w->iov), out_bytes);
	iov_cur_init(&chain->in, in, (uint32_t)(w->at - in), in_bytes);
	chain->iov = w->iov;
	chain->in_iov = in;
	chain->in_end = w->at;
	chain->in_bytes = in_bytes;
	chain->busy = 1;
	return 0;
}

/* Ends a walk without a chain: a cause breaks the ring, CHAIN_PAUSE closes the gate. */
static VQ_RARE struct vq_chain *walk_fail(struct virtq *vq, struct iovec *iov,
					  const struct iovec *own, int rc)
{
	if (iov != own)
		chain_iov_free(vq, iov);
	if (rc == CHAIN_PAUSE)
		vq->gate |= VQ_GATE_PAUSED;
	else
		virtq_break(vq, (enum virtq_cause)rc);
	return NULL;
}

/* Descriptors chained by `next`, those of the ring and those of an indirect table alike. */
struct vq_chain *chain_take_split(struct virtq *vq, struct vq_chain *chain, uint32_t head)
{
	struct chain_walk w = walk_begin(vq, chain->own);
	const struct vq_desc_raw *table = vq->desc;
	uint32_t size = vq->size, left = size; /* left: none is read twice */
	uint64_t i = head;
	bool nested = false;
	int rc;

	for (;;) {
		struct desc d = desc_copy(table, i);

		if (unlikely(d.high & SPLIT_FLAG(VQ_DESC_INDIRECT))) {
			rc = nested ? VIRTQ_INDIRECT_NESTED
				    : table_open(vq, d.addr, d.len,
						 d.high & SPLIT_FLAG(VQ_DESC_NEXT), &table);
			if (unlikely(rc))
				break;
			nested = true;
			size = left = d.len / VQ_DESC_BYTES;
			i = 0;
			continue;
		}
		rc = walk_add(vq, &w, d.addr, d.len, d.high & SPLIT_FLAG(VQ_DESC_WRITE));
		if (unlikely(rc) || !(d.high & SPLIT_FLAG(VQ_DESC_NEXT)))
			break;
		i = d.high >> 16;
		if (unlikely(i >= size)) {
			rc = VIRTQ_NEXT_RANGE;
			break;
		}
		if (unlikely(!--left)) {
			rc = VIRTQ_CHAIN_LOOP;
			break;
		}
	}
	if (likely(!rc))
		rc = walk_place(vq, &w, chain);
	if (unlikely(rc))
		return walk_fail(vq, w.iov, chain->own, rc);
	chain->head = (uint16_t)head;
	vq->inflight++;
	return chain;
}

/* virtio 1.3, 2.8.7: all entries of the table d in sequence; only WRITE means anything. */
static inline __attribute__((always_inline)) int
walk_packed_table(struct virtq *vq, struct chain_walk *w, struct desc d)
{
	const struct vq_desc_raw *table, *end;
	int rc;

	rc = table_open(vq, d.addr, d.len, d.high & PACKED_FLAG(VQ_DESC_NEXT), &table);
	if (unlikely(rc))
		return rc;
	end = table + d.len / VQ_DESC_BYTES;
	do {
		struct desc e = desc_copy(table, 0);

		if (unlikely(e.high & PACKED_FLAG(VQ_DESC_INDIRECT)))
			return VIRTQ_INDIRECT_NESTED;
		rc = walk_add(vq, w, e.addr, e.len, e.high & PACKED_FLAG(VQ_DESC_WRITE));
		if (unlikely(rc))
			return rc;
	} while (++table < end);
	return 0;
}

/* A table after direct descriptors: no driver does that. vq->walk moves. */
static VQ_RARE int walk_packed_late_table(struct virtq *vq, struct desc d)
{
	return walk_packed_table(vq, &vq->walk, d);
}

/* Direct descriptors from *d, which is at pos, up to the last: *d again. */
static inline __attribute__((always_inline)) int
walk_packed_list(struct virtq *vq, struct chain_walk *w, const struct vq_desc_raw *ring,
		 uint32_t size, uint32_t pos, struct vq_desc_raw *record, struct desc *d,
		 uint32_t *left)
{
	const struct vq_desc_raw *at = ring + pos, *end = ring + size;
	int rc;

	for (;;) {
		rc = walk_add(vq, w, d->addr, d->len, d->high & PACKED_FLAG(VQ_DESC_WRITE));
		if (unlikely(rc) || !(d->high & PACKED_FLAG(VQ_DESC_NEXT)))
			return rc;
		if (unlikely(!*left))
			return VIRTQ_CHAIN_LOOP;
		if (++at == end)
			at = ring;
		*d = desc_copy(at, 0);
		if (unlikely(record))
			record[size - *left] = desc_raw(*d);
		(*left)--;
		if (unlikely(d->high & PACKED_FLAG(VQ_DESC_INDIRECT)))
			break;
	}
	vq->walk = *w;
	rc = walk_packed_late_table(vq, *d);
	*w = vq->walk;
	return rc;
}

/* The id that counts is not that of the first descriptor, or its slot is taken: vq->walk moves. */
static VQ_RARE int packed_other_slot(struct virtq *vq, struct iovec *from, uint32_t id)
{
	struct chain_walk *w = &vq->walk;
	struct vq_chain *chain;

	if (id >= vq->size)
		return VIRTQ_HEAD_RANGE;
	chain = vq_slot(vq, id);
	if (chain->busy)
		return VIRTQ_HEAD_BUSY;
	if (w->iov != from) /* in the pool: they can stay */
		return 0;
	memcpy(chain->own, from, (size_t)((char *)w->at - (char *)from));
	w->at = chain->own + (w->at - from);
	if (w->in)
		w->in = chain->own + (w->in - from);
	w->iov = chain->own;
	return 0;
}

/* The slot that a descriptor's id names, NULL when it names none that is free. */
static inline struct vq_chain *packed_slot(struct virtq *vq, uint32_t id)
{
	struct vq_chain *chain;

	if (unlikely(id >= vq->size))
		return NULL;
	chain = vq_slot(vq, id);
	return unlikely(chain->busy) ? NULL : chain;
}

/*
 * The slot is known with the last descriptor only, whose id counts (virtio 1.3, 2.8.6). But
 * drivers give all of a list the same: then the pieces are written where they belong at once.
 */
struct vq_chain *chain_take_packed(struct virtq *vq, const struct vq_desc_raw *ring, uint32_t size,
				   uint32_t pos)
{
	struct desc d = desc_copy(ring, pos);
	uint32_t guess = (uint16_t)d.high, id, ndesc;
	struct vq_chain *chain = packed_slot(vq, guess);
	struct iovec *own = likely(chain) ? chain->own : vq->tmp_iov;
	struct chain_walk w = walk_begin(vq, own);
	struct vq_desc_raw *record = ring == vq->desc ? vq->desc_copy : NULL;
	uint32_t left = size - 1; /* entries that may still be read */
	int rc;

	if (unlikely(record))
		record[0] = desc_raw(d);
	if (d.high & PACKED_FLAG(VQ_DESC_INDIRECT))
		rc = walk_packed_table(vq, &w, d);
	else
		rc = walk_packed_list(vq, &w, ring, size, pos, record, &d, &left);
	if (unlikely(rc))
		return walk_fail(vq, w.iov, own, rc);
	/* Entries the driver did not get back yet cannot be available again. */
	ndesc = size - left;
	if (unlikely(ndesc > vq->free_desc))
		return walk_fail(vq, w.iov, own, VIRTQ_AVAIL_JUMP);
	id = (uint16_t)d.high;
	if (unlikely(!chain) || unlikely(id != guess)) {
		vq->walk = w;
		rc = packed_other_slot(vq, own, id);
		if (rc)
			return walk_fail(vq, w.iov, own, rc);
		w = vq->walk;
		chain = vq_slot(vq, id);
	}
	rc = walk_place(vq, &w, chain);
	if (unlikely(rc))
		return walk_fail(vq, w.iov, chain->own, rc);
	chain->head = (uint16_t)id;
	chain->ndesc = (uint16_t)ndesc;
	vq->free_desc -= ndesc;
	vq->inflight++;
	return chain;
}

/*
 * A model may have shortened pieces at their ends (a status byte cut off, a header consumed), and
 * wrote to what it cut off. Then the missing bytes lie beside the pieces: mark that much more on
 * both sides. A page too many is only sent once more.
 */
void chain_mark_dirty(struct virtq *vq, struct vq_chain *chain, uint32_t written_bytes)
{
	const struct iovec *in = chain->in_iov;
	uint32_t i, count = (uint32_t)(chain->in_end - in);
	uint64_t missing = chain->in_bytes - iov_bytes(in, count);

	if (!written_bytes)
		return;
	if (likely(!missing)) {
		gdirty_mark_iov(vq->dirty, vq->map, in, count, written_bytes);
		return;
	}
	for (i = 0; i < count; i++) {
		struct gpa at;
		uint64_t before;

		/* An element cut down to nothing may point just past its region. */
		if (!gmem_host_to_gpa(vq->map, in[i].iov_base, &at) &&
		    !gmem_host_to_gpa(vq->map, (char *)in[i].iov_base - 1, &at))
			continue;
		before = MIN(missing, at.v);
		gdirty_mark(vq->dirty, gpa(at.v - before), before + in[i].iov_len + missing);
	}
}
