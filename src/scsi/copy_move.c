/*
 * Moves bytes from one unit to another, piece by piece.
 *
 *   move_step -> (read the destination's first block, if it is kept in part)
 *             -> (read its last block, likewise)
 *             -> read the source -> write -> move_step ... -> flush -> done
 *
 * Invariants
 *  1. A piece is read whole before it is written, and pieces go in the order in which no piece
 *     writes what a later one reads: source and destination may overlap.
 *  2. Pieces end at block boundaries of the destination, but for the ends of the whole.
 *  3. Nothing is submitted on a unit that left the nexus or shut its gate.
 *
 * Protection information is checked where the source has it and made where the destination has it;
 * it is not itself copied: its reference tags are those of the destination.
 */
#include <stdlib.h>
#include <string.h>

#include "scsi/copy_impl.h"
#include "scsi/pi.h"

#define PIECE_BYTES  (448u << 10)
#define BLOCK_MAX    (64u << 10)		     /* larger ones are not copied */
#define AREA_BYTES   (PIECE_BYTES + 2ul * BLOCK_MAX) /* a piece, rounded outwards */
#define PI_BYTES     (AREA_BYTES / 512 * BLK_PI_BYTES)
#define AREA_ALIGN   4096ul	   /* what back-ends want without a bounce */
#define ZEROES_BYTES (64ull << 20) /* a WRITE ZEROES request */

static void move_step(struct scsi_task *t);

/* ---- units ---- */

static bool side_fault(struct copy_fault *f, enum scsi_cause cause, bool writes)
{
	*f = (struct copy_fault){ .cause = cause, .at_destination = writes };
	return false;
}

/* What would have stopped a READ or WRITE of this nexus (SPC-5, 5.17.7.4). */
static bool side_allowed(const struct scsi_itl *itl, bool writes)
{
	uint32_t gate = atomic_load_explicit(&itl->gate, memory_order_acquire);
	const struct scsi_lu *lu = itl->lu;

	if (gate & ((writes ? GATE_RESV_WRITE : GATE_RESV_READ) | GATE_MEDIUM | GATE_ALUA))
		return false;
	if (lu->block_bytes > BLOCK_MAX)
		return false;
	return !writes ||
	       !(lu->read_only || atomic_load_explicit(&lu->mode.swp, memory_order_relaxed));
}

struct scsi_itl *copy_side_open(struct scsi_task *t, const struct copy_side *side, bool writes,
				struct copy_fault *f)
{
	struct scsi_itl *itl = side->self ? t->itl : scsi_nexus_find_wwn(t->queue, side->wwn);

	if (!itl)
		side_fault(f, SCSI_CAUSE_COPY_UNREACHABLE, writes);
	else if (!side_allowed(itl, writes))
		side_fault(f, SCSI_CAUSE_COPY_TARGET_FAILED, writes);
	else
		return itl;
	return NULL;
}

/* ---- memory ---- */

bool copy_move_alloc(struct scsi_task *t, size_t head_bytes)
{
	size_t len = head_bytes + AREA_ALIGN + 2 * AREA_BYTES + PI_BYTES, first;
	uint8_t *buf = scsi_task_buf_fits(t, len) ? calloc(1, len) : NULL;

	if (!buf) {
		scsi_task_check(t, SCSI_CAUSE_INSUFFICIENT_RESOURCES);
		return false;
	}
	if (t->has_buf)
		free(t->buf);
	scsi_task_buf_set(t, buf, len);
	first = num_round_up((uintptr_t)buf + head_bytes, AREA_ALIGN) - (uintptr_t)buf;
	copy_mover(t)->src_buf = first;
	copy_mover(t)->dst_buf = first + AREA_BYTES;
	copy_mover(t)->pi_buf = first + 2 * AREA_BYTES;
	return true;
}

/* ---- the end ---- */

static void move_fail(struct scsi_task *t, const struct copy_fault *f)
{
	copy_mover(t)->done(t, f);
}

/* true: it failed, and was told. */
static bool move_failed(struct scsi_task *t, enum blk_status status, bool at_destination)
{
	struct copy_fault f = { .cause = SCSI_CAUSE_COPY_TARGET_FAILED,
				.blk_status = status,
				.at_destination = at_destination };

	if (status == BLK_ST_OK)
		return false;
	move_fail(t, &f);
	return true;
}

static void move_flushed(struct scsi_task *t, enum blk_status status)
{
	if (!move_failed(t, status, true))
		copy_mover(t)->done(t, NULL);
}

/* The destination's cache is off, and the writes could not carry FUA. */
static void move_end(struct scsi_task *t)
{
	struct scsi_lu *lu = copy_mover(t)->dst_itl->lu;

	if (atomic_load_explicit(&lu->mode.wce, memory_order_relaxed) ||
	    !lu->caps->volatile_cache || lu->caps->fua)
		copy_mover(t)->done(t, NULL);
	else
		scsi_task_io(t, lu, BLK_FLUSH, 0, 0, 0, NULL, 0, move_flushed);
}

/* ---- one piece ---- */

static uint64_t piece_dst(const struct copy_move *m)
{
	return m->dst.at_bytes + m->piece_at_bytes;
}

static uint64_t piece_dst_end(const struct copy_move *m)
{
	return piece_dst(m) + m->piece_bytes;
}

static uint32_t dst_block(const struct copy_move *m)
{
	return m->dst_itl->lu->block_bytes;
}

static bool piece_is_whole(const struct copy_move *m)
{
	return !((piece_dst(m) | m->piece_bytes) & (dst_block(m) - 1));
}

/* ---- protection information ---- */

static struct pi_job piece_pi(struct scsi_task *t, const struct scsi_lu *lu)
{
	return (struct pi_job){ .type = lu->pi_type,
				.block_bytes = lu->block_bytes,
				.lba = t->blk.offset_bytes >> lu->block_shift,
				.blocks = t->blk.len_bytes >> lu->block_shift,
				.iov = &t->iov,
				.iov_count = 1 };
}

/* A request with room for it where the unit stores it. */
static void move_io(struct scsi_task *t, struct scsi_lu *lu, enum blk_op op, uint64_t at_bytes,
		    size_t buf, size_t len,
		    void (*next)(struct scsi_task *t, enum blk_status status))
{
	struct copy_move *m = copy_mover(t);
	uint8_t flags = op == BLK_WRITE ? scsi_write_flags(lu, false) : 0;

	t->blk.pi = t->buf + m->pi_buf;
	if (lu->pi_type && !m->zeroes)
		flags |= BLK_PI;
	if (lu->pi_type && !m->zeroes && op == BLK_WRITE) {
		struct pi_job job;

		t->iov = (struct iovec){ t->buf + buf, len };
		t->blk.offset_bytes = at_bytes;
		t->blk.len_bytes = len;
		job = piece_pi(t, lu);
		pi_generate(&job, t->blk.pi);
	}
	scsi_task_io_buf(t, lu, op, flags, at_bytes, buf, len, next);
}

/* What was just read is what was written once? */
static bool move_pi_good(struct scsi_task *t, const struct scsi_lu *lu)
{
	struct pi_job job = piece_pi(t, lu);
	uint64_t lba;

	return !lu->pi_type ||
	       pi_verify(&job, t->blk.pi, PI_CHECK_GUARD | PI_CHECK_REF, &lba) == SCSI_CAUSE_NONE;
}

static void move_written(struct scsi_task *t, enum blk_status status)
{
	struct copy_move *m = copy_mover(t);

	if (move_failed(t, status, true))
		return;
	/* and those that were made while it was written */
	token_on_write(m->dst_itl->lu, piece_dst(m), m->piece_bytes);
	m->moved_bytes += m->piece_bytes;
	move_step(t);
}

/* from: where the piece's first whole block stands in t->buf. */
static void move_write(struct scsi_task *t, size_t from)
{
	struct copy_move *m = copy_mover(t);
	struct scsi_lu *lu = m->dst_itl->lu;
	uint64_t start = num_round_down(piece_dst(m), dst_block(m));
	uint64_t end = num_round_up(piece_dst_end(m), dst_block(m));

	token_on_write(lu, start, end - start);
	move_io(t, lu, BLK_WRITE, start, from, (size_t)(end - start), move_written);
}

static void move_source_read(struct scsi_task *t, enum blk_status status)
{
	struct copy_move *m = copy_mover(t);
	uint64_t src = m->src.at_bytes + m->piece_at_bytes;
	size_t from = m->src_buf + (size_t)(src & (m->src_itl->lu->block_bytes - 1));
	struct copy_fault f;

	if (status == BLK_ST_OK && !move_pi_good(t, m->src_itl->lu))
		status = BLK_ST_IOERR;
	if (move_failed(t, status, false))
		return;
	if (m->still_good && !m->still_good(t, &f)) {
		move_fail(t, &f);
		return;
	}
	if (piece_is_whole(m)) {
		move_write(t, from);
		return;
	}
	memcpy(t->buf + m->dst_buf + (piece_dst(m) & (dst_block(m) - 1)), t->buf + from,
	       m->piece_bytes);
	move_write(t, m->dst_buf);
}

static void move_source(struct scsi_task *t)
{
	struct copy_move *m = copy_mover(t);
	uint32_t block_bytes = m->src_itl->lu->block_bytes;
	uint64_t start = num_round_down(m->src.at_bytes + m->piece_at_bytes, block_bytes);
	uint64_t end =
		num_round_up(m->src.at_bytes + m->piece_at_bytes + m->piece_bytes, block_bytes);

	move_io(t, m->src_itl->lu, BLK_READ, start, m->src_buf, (size_t)(end - start),
		move_source_read);
}

static void move_tail_read(struct scsi_task *t, enum blk_status status)
{
	if (!move_failed(t, status, true))
		move_source(t);
}

/* The last block, where what follows the piece in it is kept, or made zeroes. */
static void move_tail(struct scsi_task *t)
{
	struct copy_move *m = copy_mover(t);
	uint32_t block_bytes = dst_block(m);
	uint64_t first = num_round_down(piece_dst(m), block_bytes);
	uint64_t last = num_round_down(piece_dst_end(m), block_bytes);
	size_t end = m->dst_buf + (size_t)(piece_dst_end(m) - first);

	if (last == piece_dst_end(m)) {
		move_source(t);
	} else if (m->pad) {
		memset(t->buf + end, 0, (size_t)(last + block_bytes - piece_dst_end(m)));
		move_source(t);
	} else if (last == first && first != piece_dst(m)) {
		move_source(t); /* it is the first block too, and was read */
	} else {
		scsi_task_io_buf(t, m->dst_itl->lu, BLK_READ, 0, last,
				 m->dst_buf + (size_t)(last - first), block_bytes, move_tail_read);
	}
}

static void move_head_read(struct scsi_task *t, enum blk_status status)
{
	if (!move_failed(t, status, true))
		move_tail(t);
}

/* The first block, where what precedes the piece in it is kept. */
static void move_head(struct scsi_task *t)
{
	struct copy_move *m = copy_mover(t);
	uint64_t first = num_round_down(piece_dst(m), dst_block(m));

	if (first == piece_dst(m))
		move_tail(t);
	else
		scsi_task_io_buf(t, m->dst_itl->lu, BLK_READ, 0, first, m->dst_buf, dst_block(m),
				 move_head_read);
}

/* Zeroes are written in whole blocks only; the source area still is what calloc gave. */
static void move_zeroes(struct scsi_task *t)
{
	struct copy_move *m = copy_mover(t);
	struct scsi_lu *lu = m->dst_itl->lu;
	const struct blk_caps *caps = lu->caps;
	uint64_t most =
		caps->max_zeroes_bytes ? MIN(caps->max_zeroes_bytes, ZEROES_BYTES) : ZEROES_BYTES;
	uint8_t flags = scsi_write_flags(lu, false) | (caps->zeroes_unmap ? BLK_UNMAP : 0);

	most = MAX(num_round_down(most, lu->block_bytes), (uint64_t)lu->block_bytes);
	if (!caps->write_zeroes) {
		move_write(t, m->src_buf);
		return;
	}
	m->piece_bytes = (uint32_t)MIN(m->len_bytes - m->moved_bytes, most);
	token_on_write(lu, piece_dst(m), m->piece_bytes);
	scsi_task_io(t, lu, BLK_WRITE_ZEROES, flags, piece_dst(m), m->piece_bytes, NULL, 0,
		     move_written);
}

/* Which bytes are next. */
static void piece_cut(struct copy_move *m)
{
	uint64_t left = m->len_bytes - m->moved_bytes, at, end;

	m->piece_bytes = (uint32_t)MIN(left, (uint64_t)PIECE_BYTES);
	m->piece_at_bytes = m->backwards ? left - m->piece_bytes : m->moved_bytes;
	if (m->piece_bytes == left)
		return;
	if (m->backwards) {
		at = num_round_up(piece_dst(m), dst_block(m));
		m->piece_bytes -= (uint32_t)(at - piece_dst(m));
		m->piece_at_bytes = left - m->piece_bytes;
	} else {
		end = num_round_down(piece_dst_end(m), dst_block(m));
		m->piece_bytes = (uint32_t)(end - piece_dst(m));
	}
}

static void move_step(struct scsi_task *t)
{
	struct copy_move *m = copy_mover(t);
	struct copy_fault f = { .cause = SCSI_CAUSE_COPY_CLEARED };

	if (m->moved_bytes == m->len_bytes) {
		move_end(t);
		return;
	}
	if (copy_lid_aborted(t)) {
		move_fail(t, &f);
		return;
	}
	m->src_itl = m->zeroes ? NULL : copy_side_open(t, &m->src, false, &f);
	m->dst_itl = m->zeroes || m->src_itl ? copy_side_open(t, &m->dst, true, &f) : NULL;
	if (!m->dst_itl) {
		move_fail(t, &f);
		return;
	}
	copy_lid_keep(t);
	piece_cut(m);
	if (m->zeroes)
		move_zeroes(t);
	else
		move_head(t);
}

void copy_move_start(struct scsi_task *t)
{
	struct copy_move *m = copy_mover(t);
	const struct copy_side *src = &m->src, *dst = &m->dst;
	bool same = src->self == dst->self && (src->self || src->wwn == dst->wwn);

	m->moved_bytes = 0;
	m->backwards = same && !m->zeroes && dst->at_bytes > src->at_bytes &&
		       dst->at_bytes - src->at_bytes < m->len_bytes;
	move_step(t);
}
