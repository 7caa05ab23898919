/*
 * What the files of the copy manager share: see copy.h.
 *
 *   copy_list.c   the parameter list of EXTENDED COPY: pure, bytes to struct copy_plan
 *   copy_move.c   moves bytes from one unit to another (or zeroes), in pieces
 *   copy_lid.c    list identifiers: how a copy goes, and what it left
 *   token_table.c ROD tokens
 *
 * A copy is one task (row flag CDB_COPIES). From copy_move_alloc on, t->buf starts with a struct
 * copy_move and ends with the memory for the pieces. While such a task runs, no unit of its nexus
 * is let go (registry.c), so an I_T_L nexus that it found stays; each piece looks it up anew to
 * notice that it was taken away.
 */
#ifndef SCSI_COPY_IMPL_H
#define SCSI_COPY_IMPL_H

#include <stdio.h>

#include "scsi/copy.h"
#include "scsi/scsi_impl.h"

/* task->vars of a copy; cleared by its handler before anything else */
#define COPY_VAR_LID   0 /* struct copy_lid *, 0: none */
#define COPY_VAR_TOKEN 1 /* struct token *, 0: none */

/* What went wrong, and where it stands in the parameter list. */
struct copy_fault {
	enum scsi_cause cause;
	bool has_field;
	int8_t field_bit;
	uint16_t field_byte;
	enum blk_status blk_status; /* a request on the unit's blocks failed; else BLK_ST_OK */
	bool at_destination;
};

/* ---- copy_list.c ---- */

struct copy_cscd {
	uint16_t field_byte; /* of the descriptor in the list */
	bool null_device;    /* NUL (SPC-3, 6.3.6.1) */
	bool pad;
	uint8_t device_type;
	uint8_t designator[4 + 20]; /* as in VPD page 83h: header and designator */
	uint32_t block_bytes;	    /* 0: as the unit says */
};

struct copy_segment {
	uint16_t field_byte;
	uint8_t type;
	bool dc, cat;
	uint16_t src, dst; /* CSCD descriptor IDs */
	uint32_t count;	   /* blocks (type 02h) or bytes */
	uint64_t src_lba, dst_lba;
	uint16_t src_offset_bytes, dst_offset_bytes;
};

#define COPY_SEGMENT_BLOCKS 0x02
#define COPY_SEGMENT_BYTES  0x0a

struct copy_plan {
	uint32_t list_id;
	uint8_t list_id_usage;
	uint16_t cscd_count, segment_count;
	struct copy_cscd cscds[COPY_CSCDS_MAX];
	struct copy_segment segments[COPY_SEGMENTS_MAX];
};

/* LIST ID USAGE (SPC-5, 6.4.3.2) */
#define COPY_LIST_ID_HOLD    0
#define COPY_LIST_ID_DISCARD 2 /* a good result is not kept */
#define COPY_LIST_ID_NONE    3 /* nobody can ask for it */

#define COPY_LIST_MAX (48 + COPY_DESCRIPTORS_MAX_BYTES + 4096) /* more is never looked at */

/* lid4: the list of EXTENDED COPY (LID4). false: *ret_fault. Thread: any. */
bool copy_list_parse(const uint8_t *list, size_t len, bool lid4, struct copy_plan *ret_plan,
		     struct copy_fault *ret_fault);

/* ---- copy_move.c ---- */

struct copy_side {
	bool self;    /* the task's own unit */
	uint64_t wwn; /* otherwise: the designator */
	uint64_t at_bytes;
};

struct copy_move {
	/* filled by the caller */
	struct copy_side src, dst;
	bool zeroes; /* no source */
	bool pad;    /* zeroes after the end, to a whole block of the destination; not kept */
	uint64_t len_bytes;
	/* After each read, NULL: nothing to ask. false: what was read is not to be written. */
	bool (*still_good)(struct scsi_task *t, struct copy_fault *ret_fault);
	/* Once, NULL: all was moved (and is durable where the unit's cache is off). */
	void (*done)(struct scsi_task *t, const struct copy_fault *fault);
	/* result */
	uint64_t moved_bytes; /* written, counted from the start if !backwards */
	/* private */
	bool backwards;
	uint64_t piece_at_bytes;
	uint32_t piece_bytes;
	struct scsi_itl *src_itl, *dst_itl;
	size_t src_buf, dst_buf, pi_buf; /* in t->buf */
};

/* Replaces t->buf: head_bytes of zeroes and the memory for pieces. false: the task ended. */
bool copy_move_alloc(struct scsi_task *t, size_t head_bytes);
/* len_bytes is not 0. */
void copy_move_start(struct scsi_task *t);

static inline struct copy_move *copy_mover(struct scsi_task *t)
{
	return (struct copy_move *)t->buf;
}

/* The unit, if it is there and lets this nexus read or write (gate, write protection). */
struct scsi_itl *copy_side_open(struct scsi_task *t, const struct copy_side *side, bool writes,
				struct copy_fault *ret_fault);

/* ---- copy_lid.c ---- */

struct copy_lid;

/*
 * The copy begins. usage: COPY_LIST_ID_. Results of the identifier's last use are gone.
 * false: the task ended (OPERATION IN PROGRESS, BUSY, INSUFFICIENT RESOURCES).
 */
bool copy_lid_start(struct scsi_task *t, uint32_t list_id, uint8_t usage);
/* How it goes; all Thread: the copy's loop. */
void copy_lid_segment(struct scsi_task *t); /* the next segment is taken up */
/* Written so far; units as in TRANSFER COUNT UNITS, COPY_UNITS_BLOCKS for blocks. */
void copy_lid_wrote(struct scsi_task *t, uint64_t count, uint8_t units);
/* Units were asked to do something: the result is kept from now on, however it ends. */
void copy_lid_keep(struct scsi_task *t);
void copy_lid_token(struct scsi_task *t, const uint8_t token[COPY_TOKEN_BYTES]);
bool copy_lid_aborted(struct scsi_task *t); /* COPY OPERATION ABORT */

/*
 * For a hand-over (live.c): lines `copy ...` of the results that are kept for a nexus, read for one
 * that is expected (any address that stands for it) under key, until it is there or never comes.
 * read: NULL, or why the line is wrong. Thread: main, lu->lock held or nobody else knows the unit.
 */
struct live_itl;
void copy_lid_live_write(const struct scsi_itl *itl, FILE *to);
const char *copy_lid_live_read(const struct scsi_lu *lu, const struct live_itl *expected,
			       uint32_t key, const char *line);
void copy_lid_live_take(const struct live_itl *expected, const struct scsi_nexus *nexus);
void copy_lid_live_drop(const struct live_itl *expected);

#define COPY_UNITS_BYTES  0x00
#define COPY_UNITS_BLOCKS 0xf1

/* ---- token_table.c ---- */

struct token;

struct token_range {
	uint64_t lba;
	uint32_t blocks;
};

struct token_params {
	uint32_t type; /* ROD type that it shows */
	uint32_t timeout_seconds;
	const struct token_range *ranges;
	uint32_t range_count;
};

/* A token of t's unit, in its 512 bytes. NONE, or the cause. */
enum scsi_cause token_new(struct scsi_task *t, const struct token_params *params,
			  uint8_t ret_token[COPY_TOKEN_BYTES]);
/* What a token from outside stands for; a reference until token_put. NONE, or the cause. */
enum scsi_cause token_get(const uint8_t bytes[COPY_TOKEN_BYTES], struct token **ret_token);
void token_put(struct token *tok); /* its inactivity starts now */
void token_delete(struct token *tok);
/* Is it still good (nobody wrote its blocks)? NONE, or the cause. */
enum scsi_cause token_check(struct token *tok);
/* Immutable while referenced. */
const struct token_range *token_ranges(const struct token *tok, uint32_t *ret_count,
				       uint32_t *ret_block_bytes);
uint64_t token_bytes(const struct token *tok);
uint64_t token_wwn(const struct token *tok);
bool token_is_of(const struct token *tok, const struct scsi_lu *lu);
/* A copy is about to write there. */
void token_on_write(struct scsi_lu *lu, uint64_t at_bytes, uint64_t len_bytes);
/* Management tokens (96 bytes each) of a unit; how many there are, whatever max is. */
#define TOKEN_MANAGEMENT_BYTES 96
uint32_t token_list(const struct scsi_lu *lu, uint8_t *buf, uint32_t max);
/* For a hand-over (live.c): lines `token ...` of the unit. read: NULL, or why it is wrong; lu->lock
 * is not held. Thread: main. */
void token_live_write(const struct scsi_lu *lu, FILE *to);
const char *token_live_read(struct scsi_lu *lu, const char *line);
void token_nexus_gone(const struct scsi_nexus *nexus);
/* For tests: another clock; NULL: the usual one. */
void token_clock_set(uint64_t (*now_ns)(void));

#endif
