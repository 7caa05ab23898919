/*
 * POPULATE TOKEN and WRITE USING TOKEN (SBC-4, 5.21 and 5.53), REPORT ALL ROD TOKENS (SPC-5, 6.35).
 */
#include <stdlib.h>
#include <string.h>

#include "scsi/copy_impl.h"
#include "scsi/handlers.h"

#define RANGE_BYTES 16
#define RANGES_MAX  COPY_TOKEN_RANGES_MAX

/* Parameter lists: POPULATE TOKEN's and WRITE USING TOKEN's. */
#define POPULATE_RANGES	  14 /* BLOCK DEVICE RANGE DESCRIPTOR LENGTH */
#define POPULATE_DATA_MIN 30
#define USE_TOKEN	  16
#define USE_RANGES	  534
#define USE_DATA_MIN	  550

struct ranges {
	uint32_t count;
	uint64_t blocks;
	struct token_range at[RANGES_MAX];
};

/* ---- range descriptors (SBC-4, 5.21.3) ---- */

static bool ranges_overlap(const struct token_range *a, const struct token_range *b)
{
	return a->lba < b->lba + b->blocks && b->lba < a->lba + a->blocks;
}

/* The one in p, as the next of r. */
static bool range_add(struct scsi_task *t, struct ranges *r, const uint8_t *p, uint32_t list_byte)
{
	struct token_range *new = &r->at[r->count];

	*new = (struct token_range){ .lba = cdb_u64(p), .blocks = cdb_u32(p + 8) };
	if (!scsi_task_range(t, new->lba, new->blocks))
		return false;
	for (uint32_t i = 0; new->blocks &&i < r->count; i++) {
		if (!r->at[i].blocks || !ranges_overlap(&r->at[i], new))
			continue;
		scsi_task_bad_list(t, list_byte, -1);
		return false;
	}
	r->count++;
	r->blocks += new->blocks;
	if (r->blocks <= COPY_TOKEN_MAX_BYTES >> task_lu(t)->block_shift)
		return true;
	scsi_task_bad_list(t, list_byte + 8, -1);
	return false;
}

/*
 * The descriptors after the two bytes of their length at `at`; what the list cuts off is ignored.
 * false: the task ended.
 */
static bool ranges_parse(struct scsi_task *t, size_t list_len, uint32_t at, struct ranges *r)
{
	uint32_t len = cdb_u16(t->buf + at), count;

	memset(r, 0, sizeof(*r));
	if (len < RANGE_BYTES) {
		scsi_task_bad_list(t, at, -1);
		return false;
	}
	at += 2;
	count = (uint32_t)MIN((size_t)len, list_len - at) / RANGE_BYTES;
	if (count > RANGES_MAX) {
		scsi_task_check(t, SCSI_CAUSE_TOO_MANY_SEGMENTS);
		return false;
	}
	if (!count) {
		scsi_task_check(t, SCSI_CAUSE_PARAM_LIST_LENGTH);
		return false;
	}
	for (uint32_t i = 0; i < count; i++, at += RANGE_BYTES)
		if (!range_add(t, r, t->buf + at, at))
			return false;
	return true;
}

/* Takes the parameter list into t->buf. 0: the task ended. least: the bytes before the ranges. */
static size_t list_take(struct scsi_task *t, size_t least)
{
	size_t len = MIN(cdb_u32(t->cdb + 10), (uint32_t)(least + UINT16_MAX));

	t->vars[COPY_VAR_LID] = t->vars[COPY_VAR_TOKEN] = 0;
	if (!len) {
		scsi_task_good(t);
		return 0;
	}
	if (len < least) {
		scsi_task_check(t, SCSI_CAUSE_PARAM_LIST_LENGTH);
		return 0;
	}
	return scsi_task_list(t, len) ? len : 0;
}

/* ---- POPULATE TOKEN ---- */

static const struct {
	uint32_t type, shown;
} rod_types[] = {
	{ COPY_ROD_PIT_DEFAULT, COPY_ROD_PIT_DEFAULT },
	{ COPY_ROD_PIT_VULNERABLE, COPY_ROD_PIT_VULNERABLE },
	{ COPY_ROD_PIT_ANY, COPY_ROD_PIT_VULNERABLE },
};

/* INACTIVITY TIMEOUT and ROD TYPE. false: the task ended. */
static bool populate_parse(struct scsi_task *t, struct token_params *p)
{
	const uint8_t *list = t->buf;
	bool type_valid = list[2] & 0x02;

	if (cdb_u16(list) < POPULATE_DATA_MIN) {
		scsi_task_bad_list(t, 0, -1);
		return false;
	}
	p->timeout_seconds = cdb_u32(list + 4);
	if (p->timeout_seconds > COPY_TOKEN_MAX_SECONDS) {
		scsi_task_bad_list(t, 4, -1);
		return false;
	}
	if (!p->timeout_seconds)
		p->timeout_seconds = COPY_TOKEN_DEFAULT_SECONDS;
	p->type = type_valid ? 0 : COPY_ROD_PIT_DEFAULT;
	for (size_t i = 0; type_valid && i < ARRAY_SIZE(rod_types); i++)
		if (rod_types[i].type == cdb_u32(list + 8))
			p->type = rod_types[i].shown;
	if (!p->type)
		scsi_task_bad_list(t, 8, -1);
	return p->type;
}

/* A token that is made, until no write is under way any more that it could not be told of. */
struct populate {
	struct sweep sweep;
	struct scsi_task *task;
	uint64_t blocks;
	uint8_t token[COPY_TOKEN_BYTES];
};

static void populate_settled(struct sweep *sweep)
{
	struct populate *p = container_of(sweep, struct populate, sweep);
	struct scsi_task *t = p->task;

	copy_lid_keep(t);
	copy_lid_token(t, p->token);
	copy_lid_wrote(t, p->blocks, COPY_UNITS_BLOCKS);
	free(p);
	scsi_task_good(t);
}

/* Writes that passed the gate before the token shut it. No write waits for a POPULATE TOKEN. */
static bool populate_wait(struct populate *p)
{
	p->sweep.action = SWEEP_WAIT;
	p->sweep.lu = task_lu(p->task);
	p->sweep.row_flags = CDB_WRITES;
	p->sweep.done = populate_settled;
	return sweep_start(&p->sweep);
}

void scsi_populate_token(struct scsi_task *t)
{
	size_t len = list_take(t, POPULATE_RANGES + 2);
	struct token_params params = { 0 };
	struct populate *p;
	enum scsi_cause cause;
	struct ranges ranges;

	if (!len || !populate_parse(t, &params) ||
	    !ranges_parse(t, len, POPULATE_RANGES, &ranges) ||
	    !copy_lid_start(t, cdb_u32(t->cdb + 6), COPY_LIST_ID_HOLD))
		return;
	p = calloc(1, sizeof(*p));
	if (!p) {
		scsi_task_check(t, SCSI_CAUSE_INSUFFICIENT_RESOURCES);
		return;
	}
	p->task = t;
	p->blocks = ranges.blocks;
	params.ranges = ranges.at;
	params.range_count = ranges.count;
	cause = token_new(t, &params, p->token);
	if (cause == SCSI_CAUSE_NONE && populate_wait(p))
		return;
	free(p);
	scsi_task_check(t, cause == SCSI_CAUSE_NONE ? SCSI_CAUSE_INSUFFICIENT_RESOURCES : cause);
}

/* ---- WRITE USING TOKEN ---- */

/*
 * Source and destination are both a row of ranges; a move ends where one of the two ends. All is
 * counted in bytes: the units' blocks may differ.
 */
struct use_run {
	struct copy_move move; /* first: see copy_impl.h */
	struct token *token;   /* NULL: the zero token */
	bool delete;
	struct ranges dst;
	uint32_t dst_idx, src_idx;
	uint64_t dst_done_bytes, src_done_bytes; /* of the range that is under way */
	uint64_t want_bytes, have_bytes;	 /* asked for; what the token has of it */
	uint64_t moved_bytes;
};

static struct use_run *user(struct scsi_task *t)
{
	return (struct use_run *)t->buf;
}

static uint64_t moved_blocks(struct scsi_task *t)
{
	const struct use_run *run = user(t);
	const struct scsi_lu *lu = task_lu(t);
	uint64_t moved_bytes = run->moved_bytes;

	if (moved_bytes == run->have_bytes) /* the last block was filled up */
		moved_bytes = num_round_up(moved_bytes, lu->block_bytes);
	return moved_bytes >> lu->block_shift;
}

/* Less was written than was asked for (SBC-4, 4.28.2). */
static void use_underrun(struct scsi_task *t)
{
	uint64_t count = moved_blocks(t);

	scsi_task_check_info(t, count ? SCSI_CAUSE_COPY_UNDERRUN : SCSI_CAUSE_TOKEN_UNDERRUN,
			     count);
}

static void use_failed(struct scsi_task *t, const struct copy_fault *f)
{
	const struct use_run *run = user(t);
	const struct copy_move *m = &run->move;

	if (f->at_destination && f->blk_status != BLK_ST_OK)
		scsi_task_blk_failed(t, f->blk_status,
				     (m->dst.at_bytes + m->moved_bytes) >> task_lu(t)->block_shift);
	else if (f->cause == SCSI_CAUSE_COPY_CLEARED || (!run->moved_bytes && !f->blk_status))
		scsi_task_check(t, f->cause);
	else
		use_underrun(t);
}

static void use_end(struct scsi_task *t)
{
	struct use_run *run = user(t);

	if (run->delete &&run->token)
		token_delete(run->token);
	if (run->have_bytes < run->want_bytes &&
	    moved_blocks(t) < run->want_bytes >> task_lu(t)->block_shift)
		use_underrun(t);
	else
		scsi_task_good(t);
}

static uint64_t range_bytes(const struct token_range *range, uint64_t block_bytes)
{
	return range->blocks * block_bytes;
}

/* Puts the next move together; false: there is none. */
static bool use_cut(struct scsi_task *t)
{
	struct use_run *run = user(t);
	uint64_t dst_block = task_lu(t)->block_bytes, left = run->have_bytes - run->moved_bytes;
	struct copy_move *m = &run->move;
	const struct token_range *src, *dst;
	uint32_t src_count, src_block;

	if (!left)
		return false;
	while (run->dst_done_bytes == range_bytes(&run->dst.at[run->dst_idx], dst_block)) {
		run->dst_idx++;
		run->dst_done_bytes = 0;
	}
	dst = &run->dst.at[run->dst_idx];
	m->dst.at_bytes = dst->lba * dst_block + run->dst_done_bytes;
	m->len_bytes = MIN(left, range_bytes(dst, dst_block) - run->dst_done_bytes);
	if (m->zeroes)
		return true;
	src = token_ranges(run->token, &src_count, &src_block);
	while (run->src_done_bytes >= range_bytes(&src[run->src_idx], src_block))
		run->src_done_bytes -= range_bytes(&src[run->src_idx++], src_block);
	src += run->src_idx;
	m->src.at_bytes = src->lba * src_block + run->src_done_bytes;
	m->len_bytes = MIN(m->len_bytes, range_bytes(src, src_block) - run->src_done_bytes);
	m->pad = m->len_bytes == left && run->have_bytes < run->want_bytes;
	return true;
}

static void use_next(struct scsi_task *t)
{
	if (use_cut(t))
		copy_move_start(t);
	else
		use_end(t);
}

static void use_moved(struct scsi_task *t, const struct copy_fault *f)
{
	struct use_run *run = user(t);
	const struct copy_move *m = &run->move;
	uint64_t moved = m->backwards && m->moved_bytes < m->len_bytes ? 0 : m->moved_bytes;

	run->moved_bytes += moved;
	run->dst_done_bytes += moved;
	run->src_done_bytes += moved;
	copy_lid_wrote(t, moved_blocks(t), COPY_UNITS_BLOCKS);
	if (f)
		use_failed(t, f);
	else
		use_next(t);
}

static bool use_still_good(struct scsi_task *t, struct copy_fault *f)
{
	*f = (struct copy_fault){ .cause = token_check(user(t)->token) };
	return f->cause == SCSI_CAUSE_NONE;
}

/* The token's unit must be one of this nexus. */
static bool use_source_find(struct scsi_task *t, const struct token *tok, struct copy_side *side)
{
	const struct scsi_itl *itl;

	*side = (struct copy_side){ .self = token_is_of(tok, task_lu(t)), .wwn = token_wwn(tok) };
	if (side->self)
		return true;
	itl = scsi_nexus_find_wwn(t->queue, side->wwn);
	return itl && token_is_of(tok, itl->lu);
}

static bool token_is_zero(const uint8_t *bytes)
{
	return cdb_u32(bytes) == COPY_ROD_ZERO && cdb_u16(bytes + 6) == COPY_TOKEN_BYTES - 8;
}

/* ROD TOKEN and OFFSET INTO ROD. false: the task ended. */
static bool use_token_take(struct scsi_task *t, struct use_run *run)
{
	uint64_t offset = cdb_u64(t->buf + 8), offset_bytes;
	enum scsi_cause cause;

	run->move.zeroes = token_is_zero(t->buf + USE_TOKEN);
	run->have_bytes = UINT64_MAX;
	if (run->move.zeroes)
		return true;
	cause = token_get(t->buf + USE_TOKEN, &run->token);
	if (cause == SCSI_CAUSE_NONE) {
		t->vars[COPY_VAR_TOKEN] = (uintptr_t)run->token;
		if (!use_source_find(t, run->token, &run->move.src))
			cause = SCSI_CAUSE_TOKEN_REMOTE_USAGE;
	}
	if (cause != SCSI_CAUSE_NONE) {
		scsi_task_check(t, cause);
		return false;
	}
	if (!num_mul(offset, task_lu(t)->block_bytes, &offset_bytes) ||
	    offset_bytes >= token_bytes(run->token)) {
		scsi_task_bad_list(t, 8, -1);
		return false;
	}
	run->src_done_bytes = offset_bytes;
	run->have_bytes = token_bytes(run->token) - offset_bytes;
	return true;
}

static bool use_lengths_ok(struct scsi_task *t)
{
	uint32_t data_len = cdb_u16(t->buf);

	if (data_len >= USE_DATA_MIN &&
	    data_len == (uint32_t)cdb_u16(t->buf + USE_RANGES) + USE_RANGES)
		return true;
	scsi_task_bad_list(t, 0, -1);
	return false;
}

/* What is going to be written does not cancel the token itself? */
static bool use_targets_clear(struct scsi_task *t, const struct use_run *run)
{
	struct scsi_lu *lu = task_lu(t);
	enum scsi_cause cause = SCSI_CAUSE_NONE;

	for (uint32_t i = 0; i < run->dst.count; i++)
		token_on_write(lu, run->dst.at[i].lba << lu->block_shift,
			       range_bytes(&run->dst.at[i], lu->block_bytes));
	if (run->token)
		cause = token_check(run->token);
	if (cause != SCSI_CAUSE_NONE)
		scsi_task_check(t, cause);
	return cause == SCSI_CAUSE_NONE;
}

void scsi_write_using_token(struct scsi_task *t)
{
	struct use_run run = { .move = { .dst.self = true, .done = use_moved } };
	size_t len = list_take(t, USE_RANGES + 2);
	struct copy_move *m;

	if (!len || !use_lengths_ok(t) || !use_token_take(t, &run) ||
	    !ranges_parse(t, len, USE_RANGES, &run.dst) || !use_targets_clear(t, &run) ||
	    !copy_lid_start(t, cdb_u32(t->cdb + 6), COPY_LIST_ID_HOLD))
		return;
	run.delete = t->buf[2] & 0x02;
	run.want_bytes = run.dst.blocks << task_lu(t)->block_shift;
	run.have_bytes = MIN(run.have_bytes, run.want_bytes);
	run.move.still_good = run.token ? use_still_good : NULL;
	if (!copy_move_alloc(t, sizeof(run)))
		return;
	m = copy_mover(t);
	run.move.src_buf = m->src_buf;
	run.move.dst_buf = m->dst_buf;
	run.move.pi_buf = m->pi_buf;
	*user(t) = run;
	copy_lid_keep(t);
	copy_lid_wrote(t, 0, COPY_UNITS_BLOCKS);
	use_next(t);
}

/* ---- writes of other commands ---- */

/* Commands whose blocks stand in their parameter list, or are all blocks. */
static const uint8_t whole_unit[] = { 0x42 /* UNMAP */, 0x48 /* SANITIZE */ };

void scsi_token_on_write(const struct scsi_task *t)
{
	struct scsi_lu *lu = task_lu(t);
	uint64_t lba, blocks, all = scsi_lu_blocks(lu);

	if (t->row->flags & CDB_COPIES)
		return; /* looks at each piece */
	cdb_lba_get(t->cdb, t->row->len_bytes, &lba, &blocks);
	if (memchr(whole_unit, t->cdb[0], sizeof(whole_unit))) {
		lba = 0;
		blocks = all;
	}
	if (lba >= all)
		return;
	if (!blocks || blocks > all - lba)
		blocks = all - lba; /* WRITE SAME of 0 blocks: to the end */
	token_on_write(lu, lba << lu->block_shift, blocks << lu->block_shift);
}

/* ---- REPORT ALL ROD TOKENS ---- */

void scsi_report_all_tokens(struct scsi_task *t)
{
	const struct scsi_lu *lu = task_lu(t);
	uint32_t max = token_list(lu, NULL, 0), count;

	if (!scsi_task_scratch(t, 8 + (size_t)max * TOKEN_MANAGEMENT_BYTES))
		return;
	count = MIN(token_list(lu, t->buf + 8, max), max);
	cdb_put32(t->buf, 4 + count * TOKEN_MANAGEMENT_BYTES);
	scsi_task_reply(t, t->buf, 8 + (size_t)count * TOKEN_MANAGEMENT_BYTES,
			cdb_u32(t->cdb + 10));
}
