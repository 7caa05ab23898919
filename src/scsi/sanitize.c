/*
 * SANITIZE (SBC-4, 4.11, 5.28): rewrites or erases the whole unit, beyond the life of its command.
 *
 *   check -> gate closed -> wait for commands under way -> pass, flush, pass, flush ... -> gate
 * open | failed: gate stays closed
 *
 * The operation goes on whatever happens to the command and its nexus (SBC-4, 4.11.2): a command
 * without IMMED that is aborted ends, and the operation stays.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "scsi/background.h"
#include "scsi/handlers.h"
#include "scsi/limits.h"
#include "scsi/sbc.h"

#define SA_OVERWRITE	0x01
#define SA_BLOCK_ERASE	0x02
#define SA_EXIT_FAILURE 0x1f

#define SANITIZE_IMMED 0x80 /* byte 1 */
#define SANITIZE_ZNR   0x40 /* of zoned units only */
#define SANITIZE_AUSE  0x20

#define LIST_HEADER_BYTES 4
#define LIST_INVERT	  0x80 /* byte 0 of the list */
#define LIST_TEST	  0x60
#define LIST_COUNT	  0x1f

#define PASSES_MAX 32

struct sanitize {
	struct scsi_background bg;
	struct sweep sweep;
	struct scsi_task *task; /* waits for the end; NULL: was answered */
	bool immed;
	uint64_t done_blocks, blocks; /* of the pass */
	uint32_t pass, pass_count;
	uint8_t pass_op[PASSES_MAX]; /* enum blk_op */
	bool invert;
	uint8_t *buf; /* a step of the pattern */
	uint64_t buf_bytes;
};

static void sanitize_free(struct sanitize *s)
{
	free(s->buf);
	free(s);
}

bool scsi_lu_sanitize_progress(struct scsi_lu *lu, uint32_t *ret_progress)
{
	bool running;

	pthread_mutex_lock(&lu->lock);
	running = lu->sanitize_running;
	pthread_mutex_unlock(&lu->lock);
	*ret_progress = atomic_load_explicit(&lu->sanitize_progress, memory_order_relaxed);
	return running;
}

/* ---- the operation ---- */

static void sanitize_step(struct sanitize *s);

static void sanitize_finish(struct sanitize *s, bool ok)
{
	struct scsi_lu *lu = s->bg.lu;
	struct scsi_task *t = s->task;

	pthread_mutex_lock(&lu->lock);
	lu->sanitize_running = false;
	lu->sanitize_failed = !ok;
	scsi_lu_gates_update(lu);
	pthread_mutex_unlock(&lu->lock);
	scsi_background_end(&s->bg);
	sanitize_free(s);
	if (t && ok)
		scsi_task_good(t);
	else if (t)
		scsi_task_check(t, SCSI_CAUSE_SANITIZE_FAILED);
}

static void sanitize_failed(struct sanitize *s, const char *what, enum blk_status status)
{
	log_error("%s: sanitize failed: %s: %s", s->bg.lu->name, what, blk_status_name(status));
	sanitize_finish(s, false);
}

/* Whoever waits is let go when it was aborted; nothing else stops. */
static void sanitize_task_look(struct sanitize *s)
{
	struct scsi_task *t = s->task;

	if (!t || !t->abort_end)
		return;
	s->task = NULL;
	scsi_task_good(t); /* ends as aborted */
}

static void sanitize_progress(struct sanitize *s)
{
	uint64_t part = s->done_blocks * 65535 / MAX(s->blocks, (uint64_t)1);
	uint64_t progress = (s->pass * (uint64_t)65535 + part) / s->pass_count;

	atomic_store_explicit(&s->bg.lu->sanitize_progress, (uint32_t)progress,
			      memory_order_relaxed);
}

static void sanitize_flushed(struct scsi_background *b, enum blk_status status)
{
	struct sanitize *s = container_of(b, struct sanitize, bg);

	if (status != BLK_ST_OK) {
		sanitize_failed(s, "flush", status);
		return;
	}
	for (uint64_t i = 0; s->invert && i < s->buf_bytes; i++)
		s->buf[i] = (uint8_t)~s->buf[i];
	s->done_blocks = 0;
	s->pass++;
	if (s->pass == s->pass_count)
		sanitize_finish(s, true);
	else
		sanitize_step(s);
}

static void sanitize_stepped(struct scsi_background *b, enum blk_status status)
{
	struct sanitize *s = container_of(b, struct sanitize, bg);

	sanitize_task_look(s);
	if (status != BLK_ST_OK) {
		sanitize_failed(s, blk_op_name((enum blk_op)s->pass_op[s->pass]), status);
		return;
	}
	s->done_blocks += b->req.len_bytes >> b->lu->block_shift;
	sanitize_progress(s);
	sanitize_step(s);
}

/* Each pass is made durable, so that the next one does not only replace it in a cache. */
static void sanitize_step(struct sanitize *s)
{
	const struct scsi_lu *lu = s->bg.lu;
	enum blk_op op = (enum blk_op)s->pass_op[s->pass];
	uint64_t max = op == BLK_WRITE ? s->buf_bytes : sbc_erase_step_bytes(lu, op);
	uint64_t left = (s->blocks - s->done_blocks) << lu->block_shift;

	if (!left)
		scsi_background_io(&s->bg, BLK_FLUSH, 0, 0, NULL, 0, sanitize_flushed);
	else
		scsi_background_io(&s->bg, op, op == BLK_WRITE_ZEROES ? BLK_UNMAP : 0,
				   s->done_blocks << lu->block_shift,
				   op == BLK_WRITE ? s->buf : NULL, MIN(left, max),
				   sanitize_stepped);
}

/* No command is under way on the unit any more. */
static void sanitize_swept(struct sweep *sweep)
{
	struct sanitize *s = container_of(sweep, struct sanitize, sweep);
	struct scsi_task *t = s->task;

	if (s->immed) {
		s->task = NULL;
		scsi_task_good(t);
	}
	sanitize_step(s);
}

/* ---- the command ---- */

/* OVERWRITE: count, inversion and pattern, whose step is made here. false: the task ended. */
static bool sanitize_overwrite(struct scsi_task *t, struct sanitize *s)
{
	const struct scsi_lu *lu = task_lu(t);
	uint32_t len = cdb_u16(t->cdb + 7), pattern_bytes;
	const uint8_t *list;

	if (len <= LIST_HEADER_BYTES || len > lu->block_bytes + LIST_HEADER_BYTES) {
		scsi_task_bad_cdb(t, 7, -1);
		return false;
	}
	if (!scsi_task_list(t, len))
		return false;
	list = t->buf;
	pattern_bytes = cdb_u16(list + 2);
	if (list[0] & LIST_TEST) {
		scsi_task_bad_list(t, 0, 6);
	} else if (!(list[0] & LIST_COUNT)) {
		scsi_task_bad_list(t, 0, 4);
	} else if (list[1]) {
		scsi_task_bad_list(t, 1, -1);
	} else if (!pattern_bytes || pattern_bytes > len - LIST_HEADER_BYTES) {
		scsi_task_bad_list(t, 2, -1);
	} else {
		s->pass_count = list[0] & LIST_COUNT;
		s->invert = list[0] & LIST_INVERT;
		memset(s->pass_op, BLK_WRITE, s->pass_count);
		s->buf_bytes = MAX(SBC_STEP_BYTES, lu->block_bytes);
		s->buf = malloc(s->buf_bytes);
		if (!s->buf) {
			scsi_task_check(t, SCSI_CAUSE_INSUFFICIENT_RESOURCES);
			return false;
		}
		/* It begins anew in each block, whether its length divides that or not. */
		for (uint64_t i = 0; i < s->buf_bytes; i++)
			s->buf[i] = list[LIST_HEADER_BYTES +
					 (i & (lu->block_bytes - 1)) % pattern_bytes];
		return true;
	}
	return false;
}

/* BLOCK ERASE leaves blocks unmapped: they must read as what LBPRZ says. */
static bool sanitize_block_erase(struct scsi_task *t, struct sanitize *s)
{
	const struct blk_caps *caps = task_lu(t)->caps;

	if (cdb_u16(t->cdb + 7)) {
		scsi_task_bad_cdb(t, 7, -1);
		return false;
	}
	if (caps->secure_erase)
		s->pass_op[s->pass_count++] = BLK_SECURE_ERASE;
	if (caps->write_zeroes)
		s->pass_op[s->pass_count++] = BLK_WRITE_ZEROES;
	return true;
}

/*
 * What may be asked for while or after another one runs (SBC-4, 4.11.3): nothing; after a failure
 * without AUSE only a SANITIZE without it. The lock is held. true: go on.
 */
static bool sanitize_may(const struct scsi_task *t, enum scsi_cause *ret_cause,
			 struct sense_extra *ret_extra)
{
	struct scsi_lu *lu = task_lu(t);
	bool ause = t->cdb[1] & SANITIZE_AUSE;

	*ret_cause = SCSI_CAUSE_NONE;
	if (lu->sanitize_running || (lu->stopped && !lu->sanitize_failed)) {
		*ret_cause = scsi_lu_not_ready(lu, ret_extra);
	} else if (lu->sanitize_failed && !lu->sanitize_ause && ause) {
		*ret_cause = SCSI_CAUSE_INVALID_FIELD_CDB;
		*ret_extra = (struct sense_extra){
			.has_field = true, .field_in_cdb = true, .field_byte = 1, .field_bit = 5
		};
	}
	return *ret_cause == SCSI_CAUSE_NONE;
}

static bool sanitize_begin(struct scsi_task *t)
{
	struct scsi_lu *lu = task_lu(t);
	struct sense_extra extra = { 0 };
	enum scsi_cause cause;
	bool may;

	pthread_mutex_lock(&lu->lock);
	may = sanitize_may(t, &cause, &extra);
	if (may) {
		lu->sanitize_running = true;
		lu->sanitize_failed = false;
		lu->sanitize_ause = t->cdb[1] & SANITIZE_AUSE;
		atomic_store(&lu->sanitize_progress, 0);
		scsi_lu_gates_update(lu);
	}
	pthread_mutex_unlock(&lu->lock);
	if (!may)
		scsi_task_check_extra(t, cause, &extra);
	return may;
}

static void sanitize_start(struct scsi_task *t, struct sanitize *s)
{
	if (!scsi_background_start(&s->bg, t)) {
		sanitize_free(s);
		scsi_task_check(t, SCSI_CAUSE_INSUFFICIENT_RESOURCES);
		return;
	}
	if (!sanitize_begin(t)) {
		scsi_background_end(&s->bg);
		sanitize_free(s);
		return;
	}
	s->task = t;
	s->immed = t->cdb[1] & SANITIZE_IMMED;
	s->blocks = scsi_lu_blocks(s->bg.lu);
	s->sweep.action = SWEEP_WAIT;
	s->sweep.lu = s->bg.lu;
	s->sweep.but = t;
	s->sweep.target = UINT32_MAX;
	s->sweep.done = sanitize_swept;
	if (!sweep_start(&s->sweep))
		sanitize_failed(s, "start", BLK_ST_ABORTED);
}

/* SBC-4, 4.11.4: as if it had not failed; after a failure without AUSE that is not allowed. */
static void sanitize_exit_failure(struct scsi_task *t)
{
	struct scsi_lu *lu = task_lu(t);
	struct sense_extra extra = { 0 };
	enum scsi_cause cause = SCSI_CAUSE_NONE;
	bool bad_sa = false;

	pthread_mutex_lock(&lu->lock);
	if (lu->sanitize_running)
		cause = scsi_lu_not_ready(lu, &extra);
	else if (lu->sanitize_failed && !lu->sanitize_ause)
		bad_sa = true;
	else
		lu->sanitize_failed = false;
	scsi_lu_gates_update(lu);
	pthread_mutex_unlock(&lu->lock);
	if (bad_sa)
		scsi_task_bad_cdb(t, 1, 4);
	else if (cause != SCSI_CAUSE_NONE)
		scsi_task_check_extra(t, cause, &extra);
	else
		scsi_task_good(t);
}

static bool sanitize_cdb_ok(struct scsi_task *t)
{
	if (t->cdb[1] & SANITIZE_ZNR) {
		scsi_task_bad_cdb(t, 1, 6);
		return false;
	}
	for (uint32_t i = 2; i < 7; i++) {
		if (!t->cdb[i])
			continue;
		scsi_task_bad_cdb(t, i, -1);
		return false;
	}
	return true;
}

void scsi_sanitize(struct scsi_task *t)
{
	struct sanitize *s;
	uint32_t sa = t->cdb[1] & 0x1f;
	bool ready;

	if (!sanitize_cdb_ok(t))
		return;
	if (sa == SA_EXIT_FAILURE) {
		if (cdb_u16(t->cdb + 7))
			scsi_task_bad_cdb(t, 7, -1);
		else
			sanitize_exit_failure(t);
		return;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		scsi_task_check(t, SCSI_CAUSE_INSUFFICIENT_RESOURCES);
		return;
	}
	ready = sa == SA_OVERWRITE ? sanitize_overwrite(t, s) : sanitize_block_erase(t, s);
	if (ready)
		sanitize_start(t, s);
	else
		sanitize_free(s);
}
