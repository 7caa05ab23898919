/* See dptr_walk.h. */
#include "nvme/dptr_walk.h"

#include "nvme/limits.h"

#define PAGE_MASK   (NVME_PAGE_BYTES - 1)
#define SGL_SUBTYPE 0x0f

static enum dptr_step walk_fail(struct dptr_walk *w, enum nvme_status status)
{
	w->status = status;
	return DPTR_FAIL;
}

/* The next at most max_bytes of the data. */
static enum dptr_step walk_piece(struct dptr_walk *w, uint64_t addr, uint32_t max_bytes)
{
	w->addr = addr;
	w->len_bytes = MIN(w->left_bytes, max_bytes);
	w->left_bytes -= w->len_bytes;
	return DPTR_PIECE;
}

/* ---- PRP ---- */

/*
 * What is needed of a list that begins at addr, in its page. The last entry of a page is the
 * address of the next list when one entry would not do (base 4.3). Each page gives at least one
 * page of data, but for a first one of a single entry: so their number is bounded.
 */
static enum dptr_step prp_list(struct dptr_walk *w, uint64_t addr)
{
	uint32_t room = (NVME_PAGE_BYTES - (addr & PAGE_MASK)) / sizeof(struct le64);
	uint32_t need = (w->left_bytes + PAGE_MASK) / NVME_PAGE_BYTES;

	w->chained = need > room;
	w->count = MIN(need, room);
	w->i = 0;
	w->addr = addr;
	w->len_bytes = w->count * (uint32_t)sizeof(struct le64);
	return DPTR_READ;
}

static enum dptr_step prp_second(struct dptr_walk *w)
{
	uint64_t prp = w->prp2;

	w->prps = 2;
	if (w->left_bytes > NVME_PAGE_BYTES) {
		if (prp & 7)
			return walk_fail(w, NVME_SC_INVALID_PRP_OFFSET);
		return prp_list(w, prp);
	}
	if (prp & PAGE_MASK)
		return walk_fail(w, NVME_SC_INVALID_PRP_OFFSET);
	return walk_piece(w, prp, NVME_PAGE_BYTES);
}

static inline enum dptr_step prp_next(struct dptr_walk *w)
{
	uint64_t prp;

	if (w->prps == 0) {
		w->prps = 1;
		prp = w->addr;
		if (prp & 3)
			return walk_fail(w, NVME_SC_INVALID_PRP_OFFSET);
		return walk_piece(w, prp, NVME_PAGE_BYTES - (uint32_t)(prp & PAGE_MASK));
	}
	if (w->prps == 1)
		return prp_second(w);
	ASSERT(w->i < w->count);
	prp = le64_get(w->entries.prp[w->i++]);
	if (unlikely(prp & PAGE_MASK))
		return walk_fail(w, NVME_SC_INVALID_PRP_OFFSET);
	if (unlikely(w->chained && w->i == w->count))
		return prp_list(w, prp);
	return walk_piece(w, prp, NVME_PAGE_BYTES);
}

/* ---- SGL ---- */

/* What comes next of the segment, as much as there is room for. */
static enum dptr_step sgl_more(struct dptr_walk *w)
{
	w->i = 0;
	w->count = MIN(w->more_descs, (uint32_t)ARRAY_SIZE(w->entries.sgl));
	w->descs += w->count;
	if (w->descs > NVME_SGL_DESCS_MAX)
		return walk_fail(w, NVME_SC_INVALID_SGL_COUNT);
	w->addr = w->segment;
	w->len_bytes = w->count * (uint32_t)sizeof(struct nvme_sgl_desc);
	w->segment += w->len_bytes;
	w->more_descs -= w->count;
	return DPTR_READ;
}

/* The descriptor of a segment: only the last one of its own, and none in a last segment. */
static enum dptr_step sgl_segment(struct dptr_walk *w, const struct nvme_sgl_desc *d, bool last)
{
	uint64_t addr = le64_get(d->address);
	uint32_t len = le32_get(d->length);

	if (w->last_segment)
		return walk_fail(w, NVME_SC_INVALID_SGL_SEGMENT);
	if (w->i < w->count || w->more_descs)
		return walk_fail(w, NVME_SC_INVALID_SGL_COUNT);
	if (!len || len % sizeof(*d) || addr & 7)
		return walk_fail(w, NVME_SC_INVALID_SGL_SEGMENT);
	if (++w->segments > NVME_SGL_SEGMENTS_MAX)
		return walk_fail(w, NVME_SC_INVALID_SGL_COUNT);
	w->first_segment = false;
	w->last_segment = last;
	w->segment = addr;
	w->more_descs = len / (uint32_t)sizeof(*d);
	return sgl_more(w);
}

/*
 * No descriptor is left and data is: it is too short, unless another segment should have followed.
 * The descriptor in the command is a segment of its own, the last one when it says so.
 */
static enum dptr_step sgl_end(struct dptr_walk *w)
{
	if (w->more_descs)
		return sgl_more(w);
	return walk_fail(w, w->last_segment || w->first_segment ? NVME_SC_INVALID_SGL_LENGTH
								: NVME_SC_INVALID_SGL_SEGMENT);
}

static enum dptr_step sgl_next(struct dptr_walk *w)
{
	while (w->i < w->count) {
		const struct nvme_sgl_desc *d = &w->entries.sgl[w->i++];
		uint32_t len = le32_get(d->length);

		if (d->type & SGL_SUBTYPE)
			return walk_fail(w, NVME_SC_INVALID_SGL_TYPE);
		switch (d->type >> 4) {
		case NVME_SGL_DATA_BLOCK:
			if (len)
				return walk_piece(w, le64_get(d->address), len);
			break;
		case NVME_SGL_BIT_BUCKET:
			if (!len || !w->to_guest) /* no effect on a source (base 4.4) */
				break;
			walk_piece(w, 0, len);
			return DPTR_SKIP;
		case NVME_SGL_SEGMENT:
			return sgl_segment(w, d, false);
		case NVME_SGL_LAST_SEGMENT:
			return sgl_segment(w, d, true);
		default:
			return walk_fail(w, NVME_SC_INVALID_SGL_TYPE);
		}
	}
	return sgl_end(w);
}

/* ---- both ---- */

void dptr_walk_begin(struct dptr_walk *w, const struct nvme_sqe *sqe, uint32_t len_bytes,
		     enum nvme_dir dir)
{
	w->left_bytes = len_bytes;
	w->is_sgl = sqe->flags >> NVME_SQE_PSDT_SHIFT;
	w->to_guest = dir == NVME_TO_GUEST;
	w->i = w->count = 0;
	if (!w->is_sgl) {
		w->prps = 0;
		w->chained = false;
		w->addr = le64_get(sqe->prp1);
		w->prp2 = le64_get(sqe->prp2);
		return;
	}
	w->first_segment = true;
	w->last_segment = false;
	w->more_descs = 0;
	w->segments = w->descs = 0;
	w->entries.sgl[0] = sqe->sgl1;
	w->count = 1;
}

enum dptr_step dptr_walk_next(struct dptr_walk *w)
{
	if (!w->left_bytes)
		return DPTR_DONE;
	return w->is_sgl ? sgl_next(w) : prp_next(w);
}
