/*
 * From descriptors to pieces of memory: the only reader of descriptors, for split rings, packed
 * rings and indirect tables of both.
 *
 * Each descriptor is copied once, 16 bytes, and only the copy is looked at. Every step is counted
 * against the table's size. A descriptor of length 0 is legal and gives no piece. Neighbours in
 * our address space become one piece.
 */
#include "virtq/virtq_impl.h"

/* An indirect table may have any alignment: virtio asks for none. */
typedef uint64_t any_u64 __attribute__((aligned(1), may_alias));

static inline struct vq_desc_raw desc_copy(const struct vq_desc_raw *table, uint32_t i)
{
	const volatile any_u64 *p = (const volatile any_u64 *)((const char *)table +
							       (size_t)i * VQ_DESC_BYTES);

	return (struct vq_desc_raw){ .addr = le64toh(p[0]), .rest = le64toh(p[1]) };
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

/* The rest of chain_add: no bytes, several pieces, no room, or not guest memory. */
static __attribute__((noinline)) int chain_add_slow(struct virtq *vq, struct chain_walk *w,
						    struct gpa addr, uint32_t len)
{
	struct iovec scratch[GMEM_REGIONS_MAX];
	uint32_t count;

	if (!len)
		return 0;
	count = gmem_translate(vq->map, addr, len, scratch, GMEM_REGIONS_MAX, &vq->hint);
	if (!count)
		return VIRTQ_UNMAPPED;
	if (vq->hint < vq->map->count)
		vq->hot = &vq->map->regions[vq->hint];
	if (w->count + count > VIRTQ_IOV_MAX)
		return VIRTQ_TOO_MANY;
	if (w->count + count > w->cap) {
		struct iovec *big = pool_take(vq);

		if (!big)
			return CHAIN_PAUSE;
		memcpy(big, w->iov, w->count * sizeof(*big));
		w->iov = big;
		w->cap = VIRTQ_IOV_MAX;
	}
	memcpy(&w->iov[w->count], scratch, count * sizeof(*scratch));
	w->count += count;
	return 0;
}

static inline __attribute__((always_inline)) int chain_add(struct virtq *vq, struct chain_walk *w,
							   uint64_t addr, uint32_t len,
							   uint32_t flags)
{
	const struct gmem_region *r = vq->hot;
	uint32_t at = w->count, first = 0;
	struct iovec *iov = &w->iov[at];
	uint64_t off = addr - r->gpa;
	char *base;

	if (flags & VQ_DESC_WRITE) {
		if (!w->writable) {
			w->writable = true;
			w->in_first = at;
		}
		first = w->in_first;
		w->in_bytes += len;
	} else {
		if (unlikely(w->writable))
			return VIRTQ_ORDER;
		w->out_bytes += len;
	}
	if (unlikely(at == w->cap || !len || !num_range_ok(off, len, r->size_bytes)))
		return chain_add_slow(vq, w, gpa(addr), len);
	base = r->base + off;
	if (at > first && (char *)iov[-1].iov_base + iov[-1].iov_len == base) {
		iov[-1].iov_len += len;
		return 0;
	}
	iov->iov_base = base;
	iov->iov_len = len;
	w->count = at + 1;
	return 0;
}

/* A table in one piece is read in place; one over a border of regions is copied as a whole. */
static const struct vq_desc_raw *indirect_table(struct virtq *vq, struct gpa addr, uint32_t len)
{
	struct iovec pieces[GMEM_REGIONS_MAX];
	uint32_t i, count;
	size_t at = 0;

	count = gmem_translate(vq->map, addr, len, pieces, GMEM_REGIONS_MAX, &vq->table_hint);
	if (!count)
		return NULL;
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

/* virtio 1.3, 2.7.5.3: chained by `next` from entry 0. */
static int indirect_split(struct virtq *vq, struct chain_walk *w, const struct vq_desc_raw *table,
			  uint32_t count)
{
	uint32_t i = 0, steps = 0;

	for (;;) {
		struct vq_desc_raw d = desc_copy(table, i);
		uint32_t flags = (uint16_t)(d.rest >> 32);
		int rc;

		if (unlikely(flags & VQ_DESC_INDIRECT))
			return VIRTQ_INDIRECT_NESTED;
		rc = chain_add(vq, w, d.addr, (uint32_t)d.rest, flags);
		if (unlikely(rc))
			return rc;
		if (!(flags & VQ_DESC_NEXT))
			return 0;
		i = d.rest >> 48;
		if (unlikely(i >= count))
			return VIRTQ_NEXT_RANGE;
		if (unlikely(++steps >= count))
			return VIRTQ_CHAIN_LOOP;
	}
}

/* virtio 1.3, 2.8.7: all entries in sequence; only WRITE means anything. */
static int indirect_packed(struct virtq *vq, struct chain_walk *w, const struct vq_desc_raw *table,
			   uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++) {
		struct vq_desc_raw d = desc_copy(table, i);
		uint32_t flags = d.rest >> 48;
		int rc;

		if (unlikely(flags & VQ_DESC_INDIRECT))
			return VIRTQ_INDIRECT_NESTED;
		rc = chain_add(vq, w, d.addr, (uint32_t)d.rest, flags);
		if (unlikely(rc))
			return rc;
	}
	return 0;
}

/*
 * One indirect table, as the last descriptor of a chain; direct ones may come before it (virtio
 * 1.3, 2.7.5.3.2). The WRITE flag of the referring descriptor is to be ignored. A table may be
 * longer than the ring: Linux drivers do that; VIRTQ_IOV_MAX is the limit instead.
 */
static __attribute__((noinline)) int chain_add_indirect(struct virtq *vq, struct chain_walk *w,
							uint64_t addr, uint32_t len, uint32_t flags)
{
	const struct vq_desc_raw *table;
	struct iovec one;

	if (!vq->indirect)
		return VIRTQ_INDIRECT_OFF;
	if (flags & VQ_DESC_NEXT)
		return VIRTQ_INDIRECT_NESTED;
	if (!len || len % VQ_DESC_BYTES || len / VQ_DESC_BYTES > VIRTQ_IOV_MAX)
		return VIRTQ_INDIRECT_SIZE;
	if (likely(gmem_translate(vq->map, gpa(addr), len, &one, 1, &vq->table_hint) == 1))
		table = one.iov_base;
	else
		table = indirect_table(vq, gpa(addr), len);
	if (!table)
		return VIRTQ_UNMAPPED;
	if (vq->packed)
		return indirect_packed(vq, w, table, len / VQ_DESC_BYTES);
	return indirect_split(vq, w, table, len / VQ_DESC_BYTES);
}

/* virtio 1.3, 2.7.4.2 and 2.8.5: at most 2^32 bytes. */
static inline int chain_end(const struct chain_walk *w)
{
	return unlikely(w->out_bytes + w->in_bytes > 1ull << 32) ? VIRTQ_LENGTH_WRAP : 0;
}

int chain_read_split(struct virtq *vq, struct chain_walk *w, uint32_t head)
{
	uint32_t i = head, steps = 0;

	for (;;) {
		struct vq_desc_raw d = desc_copy(vq->desc, i);
		uint32_t flags = (uint16_t)(d.rest >> 32);
		int rc;

		if (unlikely(flags & VQ_DESC_INDIRECT)) {
			rc = chain_add_indirect(vq, w, d.addr, (uint32_t)d.rest, flags);
			return rc ? rc : chain_end(w);
		}
		rc = chain_add(vq, w, d.addr, (uint32_t)d.rest, flags);
		if (unlikely(rc))
			return rc;
		if (!(flags & VQ_DESC_NEXT))
			return chain_end(w);
		i = d.rest >> 48;
		if (unlikely(i >= vq->size))
			return VIRTQ_NEXT_RANGE;
		if (unlikely(++steps >= vq->size))
			return VIRTQ_CHAIN_LOOP;
	}
}

int chain_read_packed(struct virtq *vq, struct chain_walk *w, const struct vq_desc_raw *ring,
		      uint32_t size, uint32_t pos)
{
	for (;;) {
		struct vq_desc_raw d = desc_copy(ring, pos);
		uint32_t flags = d.rest >> 48;
		int rc;

		if (unlikely(vq->desc_copy && ring == vq->desc))
			vq->desc_copy[w->ndesc] = d;
		if (unlikely(flags & VQ_DESC_INDIRECT))
			rc = chain_add_indirect(vq, w, d.addr, (uint32_t)d.rest, flags);
		else
			rc = chain_add(vq, w, d.addr, (uint32_t)d.rest, flags);
		if (unlikely(rc))
			return rc;
		w->ndesc++;
		if (!(flags & VQ_DESC_NEXT)) {
			/* virtio 1.3, 2.8.6: the id counts in the last descriptor of the list. */
			w->id = d.rest >> 32;
			return chain_end(w);
		}
		if (unlikely(w->ndesc >= size))
			return VIRTQ_CHAIN_LOOP;
		if (++pos == size)
			pos = 0;
	}
}

/*
 * A model may have shortened pieces at their ends (a status byte cut off, a header consumed), and
 * wrote to what it cut off. Then the missing bytes lie beside the pieces: mark that much more on
 * both sides. A page too many is only sent once more.
 */
void chain_mark_dirty(struct virtq *vq, struct vq_chain *chain, uint32_t written_bytes)
{
	const struct iovec *in = chain->iov + chain->in_first;
	uint32_t i, count = chain->iov_count - chain->in_first;
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
