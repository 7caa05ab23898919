/*
 * EXTENDED COPY (SPC-5, 5.17.7 and 6.4): the segments of the list, one after the other.
 *
 * What is wrong with the list as such is told before anything happens, with ILLEGAL REQUEST. What
 * is wrong with a segment is told when its turn comes, with COPY ABORTED, its number in the
 * COMMAND-SPECIFIC INFORMATION field, and a pointer to the field or to the CSCD descriptor.
 */
#include <string.h>

#include "scsi/copy_impl.h"
#include "scsi/handlers.h"

#define SA_LID4 0x01

struct copy_run {
	struct copy_move move; /* first: see copy_impl.h */
	struct copy_plan plan;
	uint32_t segment;
	uint64_t written_bytes; /* by earlier segments */
};

static struct copy_run *runner(struct scsi_task *t)
{
	return (struct copy_run *)t->buf;
}

static const struct copy_segment *segment_now(const struct copy_run *run)
{
	return &run->plan.segments[run->segment];
}

/* ---- the end ---- */

static uint64_t segment_moved(const struct copy_run *run)
{
	/* From the end to the start: nothing counts until all is there (SPC-5, 6.24). */
	const struct copy_move *m = &run->move;

	return m->backwards && m->moved_bytes < m->len_bytes ? 0 : m->moved_bytes;
}

static void copy_fail(struct scsi_task *t, const struct copy_fault *f)
{
	struct copy_run *run = runner(t);
	const struct copy_move *m = &run->move;
	struct sense_extra extra = {
		.has_field = f->has_field,
		.field_bit = f->field_bit,
		.field_byte = f->field_byte,
		.has_specific = true,
		.specific = run->segment,
	};

	if (m->dst_itl && m->moved_bytes) {
		extra.has_info = true;
		extra.info = (m->len_bytes - segment_moved(run)) >> m->dst_itl->lu->block_shift;
	}
	scsi_task_check_extra(t, f->cause, &extra);
}

static bool bad(struct copy_fault *f, enum scsi_cause cause, uint32_t byte)
{
	*f = (struct copy_fault){
		.cause = cause, .has_field = true, .field_bit = -1, .field_byte = (uint16_t)byte
	};
	return false;
}

/* ---- which unit ---- */

#define DESIGNATORS_BYTES 512

/* Is it one of those in the unit's own VPD page 83h? */
static bool designator_is_own(const struct scsi_task *t, const uint8_t *d)
{
	uint8_t own[DESIGNATORS_BYTES];
	size_t len = scsi_designators(t->itl, own, sizeof(own)), at = 0;

	while (at + 4 <= len && at + 4 + own[at + 3] <= len) {
		const uint8_t *o = own + at;

		if ((o[0] & 0x0f) == d[0] && (o[1] & 0x3f) == d[1] && o[3] == d[3] &&
		    !memcmp(o + 4, d + 4, d[3]))
			return true;
		at += 4u + o[3];
	}
	return false;
}

/* An NAA designator of a logical unit, binary. */
static bool designator_is_naa(const uint8_t *d)
{
	return d[0] == 1 && d[1] == 3 && d[3] == 8;
}

static const struct copy_cscd *cscd_of(const struct copy_run *run, uint16_t id)
{
	return id < run->plan.cscd_count ? &run->plan.cscds[id] : NULL;
}

/* CSCD descriptor ID (SPC-5, table 148) to a side. */
static bool side_find(struct scsi_task *t, uint16_t id, uint32_t id_byte, struct copy_side *side,
		      struct copy_fault *f)
{
	const struct copy_cscd *c = cscd_of(runner(t), id);

	*side = (struct copy_side){ .self = id == COPY_CSCD_ID_SELF };
	if (side->self)
		return true;
	if (!c)
		return bad(f, SCSI_CAUSE_COPY_CSCD_UNKNOWN, id_byte);
	if (c->null_device)
		return bad(f, SCSI_CAUSE_COPY_UNREACHABLE, c->field_byte);
	if (c->device_type)
		return bad(f, SCSI_CAUSE_COPY_DEVICE_TYPE, c->field_byte);
	side->self = designator_is_own(t, c->designator);
	if (side->self)
		return true;
	if (!designator_is_naa(c->designator))
		return bad(f, SCSI_CAUSE_COPY_UNREACHABLE, c->field_byte);
	side->wwn = cdb_u64(c->designator + 4);
	side->self = side->wwn == task_lu(t)->wwn;
	return true;
}

/* The unit of a side, and that the descriptor knows its blocks. */
static const struct scsi_lu *side_unit(struct scsi_task *t, const struct copy_side *side,
				       uint16_t id, bool writes, struct copy_fault *f)
{
	const struct copy_cscd *c = cscd_of(runner(t), id);
	const struct scsi_itl *itl = copy_side_open(t, side, writes, f);

	if (!itl && c)
		bad(f, f->cause, c->field_byte);
	if (!itl)
		return NULL;
	if (c && c->block_bytes && c->block_bytes != itl->lu->block_bytes) {
		bad(f, SCSI_CAUSE_COPY_BAD_FIELD, c->field_byte + 29u);
		return NULL;
	}
	return itl->lu;
}

/* ---- how much ---- */

/*
 * A number of bytes that is no whole number of blocks (SPC-5, table 116). Residual data for the
 * next segment (CAT) is not kept: that is refused where a segment follows.
 */
static bool segment_fit(const struct copy_run *run, uint32_t src_block, uint32_t dst_block,
			struct copy_move *m, struct copy_fault *f)
{
	const struct copy_segment *s = segment_now(run);
	const struct copy_cscd *src = cscd_of(run, s->src), *dst = cscd_of(run, s->dst);
	bool src_pad = src && src->pad, dst_pad = dst && dst->pad;
	bool last = run->segment + 1u == run->plan.segment_count;
	uint64_t rest = m->len_bytes & (dst_block - 1);

	if (s->dc)
		rest = m->len_bytes & (src_block - 1);
	if (!rest)
		return true;
	if (s->cat || (s->dc && !src_pad && dst_pad)) {
		if (!last)
			return bad(f, SCSI_CAUSE_COPY_INEXACT, s->field_byte + 1u);
	} else if (!src_pad && !dst_pad) {
		return bad(f, SCSI_CAUSE_COPY_INEXACT, s->field_byte + 1u);
	}
	if (s->dc)
		return true; /* the rest of the source block is not used */
	m->pad = !s->cat && dst_pad;
	if (!m->pad)
		m->len_bytes -= rest;
	return true;
}

static bool side_range(const struct copy_move *m, struct copy_side *side, const struct scsi_lu *lu,
		       uint64_t lba, uint32_t offset_bytes)
{
	uint64_t end = scsi_lu_blocks(lu) << lu->block_shift;

	if (!num_range_ok(lba, 0, scsi_lu_blocks(lu)))
		return false;
	side->at_bytes = (lba << lu->block_shift) + offset_bytes;
	return num_range_ok(side->at_bytes, m->len_bytes, end);
}

/* Fills run->move from the segment whose turn it is. */
static bool segment_prepare(struct scsi_task *t, struct copy_fault *f)
{
	struct copy_run *run = runner(t);
	const struct copy_segment *s = segment_now(run);
	struct copy_move *m = &run->move;
	const struct scsi_lu *src, *dst;

	m->pad = false;
	m->moved_bytes = 0;
	if (!side_find(t, s->src, s->field_byte + 4u, &m->src, f) ||
	    !side_find(t, s->dst, s->field_byte + 6u, &m->dst, f))
		return false;
	src = side_unit(t, &m->src, s->src, false, f);
	dst = src ? side_unit(t, &m->dst, s->dst, true, f) : NULL;
	if (!dst)
		return false;
	if (s->src_offset_bytes >= src->block_bytes)
		return bad(f, SCSI_CAUSE_COPY_BAD_FIELD, s->field_byte + 28u);
	if (s->dst_offset_bytes >= dst->block_bytes)
		return bad(f, SCSI_CAUSE_COPY_BAD_FIELD, s->field_byte + 30u);
	m->len_bytes = s->count;
	if (s->type == COPY_SEGMENT_BLOCKS)
		m->len_bytes <<= s->dc ? dst->block_shift : src->block_shift;
	if (m->len_bytes > COPY_SEGMENT_MAX_BYTES)
		return bad(f, SCSI_CAUSE_COPY_BAD_FIELD,
			   s->field_byte + (s->type == COPY_SEGMENT_BLOCKS ? 10u : 8u));
	if (!side_range(m, &m->src, src, s->src_lba, s->src_offset_bytes))
		return bad(f, SCSI_CAUSE_COPY_ABORTED, s->field_byte + 12u);
	if (s->type == COPY_SEGMENT_BLOCKS &&
	    !segment_fit(run, src->block_bytes, dst->block_bytes, m, f))
		return false;
	if (!side_range(m, &m->dst, dst, s->dst_lba, s->dst_offset_bytes))
		return bad(f, SCSI_CAUSE_COPY_ABORTED, s->field_byte + 20u);
	return true;
}

/* ---- one after the other ---- */

/* Those that move nothing are passed over here. */
static void copy_next(struct scsi_task *t)
{
	struct copy_run *run = runner(t);
	struct copy_fault f;

	for (; run->segment < run->plan.segment_count; run->segment++) {
		copy_lid_segment(t);
		if (!segment_prepare(t, &f)) {
			copy_fail(t, &f);
			return;
		}
		if (run->move.len_bytes) {
			copy_move_start(t);
			return;
		}
	}
	copy_lid_keep(t);
	scsi_task_good(t);
}

static void segment_moved_all(struct scsi_task *t, const struct copy_fault *f)
{
	struct copy_run *run = runner(t);

	copy_lid_wrote(t, run->written_bytes + segment_moved(run), COPY_UNITS_BYTES);
	if (f) {
		struct copy_fault at = *f;
		const struct copy_segment *s = segment_now(run);
		const struct copy_cscd *c = cscd_of(run, f->at_destination ? s->dst : s->src);

		if (c && f->cause != SCSI_CAUSE_COPY_CLEARED)
			bad(&at, f->cause, c->field_byte);
		copy_fail(t, &at);
		return;
	}
	run->written_bytes += run->move.moved_bytes;
	run->segment++;
	copy_next(t);
}

void scsi_extended_copy(struct scsi_task *t)
{
	uint32_t len = cdb_u32(t->cdb + 10);
	struct copy_plan plan;
	struct copy_fault f;

	t->vars[COPY_VAR_LID] = t->vars[COPY_VAR_TOKEN] = 0;
	if (!len) {
		scsi_task_good(t);
		return;
	}
	if (len > COPY_LIST_MAX) {
		scsi_task_check(t, SCSI_CAUSE_PARAM_LIST_LENGTH);
		return;
	}
	if (!scsi_task_list(t, len))
		return;
	if (!copy_list_parse(t->buf, len, (t->cdb[1] & 0x1f) == SA_LID4, &plan, &f)) {
		const struct sense_extra extra = { .has_field = f.has_field,
						   .field_bit = f.field_bit,
						   .field_byte = f.field_byte };

		scsi_task_check_extra(t, f.cause, &extra);
		return;
	}
	if (!copy_lid_start(t, plan.list_id, plan.list_id_usage) ||
	    !copy_move_alloc(t, sizeof(struct copy_run)))
		return;
	runner(t)->plan = plan;
	runner(t)->move.done = segment_moved_all;
	copy_next(t);
}
