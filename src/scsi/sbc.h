/*
 * What the block commands other than READ and WRITE share: steps of bounded memory, comparing with
 * data-out, and erasing a range with whatever the back-end has for it.
 *
 *   sbc.c       capacity and cache           thin.c      UNMAP, GET LBA STATUS
 *   same.c      WRITE SAME                   verify.c    VERIFY, WRITE AND VERIFY
 *   atomic.c    COMPARE AND WRITE, ORWRITE, WRITE ATOMIC
 *   sanitize.c  SANITIZE                     background.c  what outlives its command
 */
#ifndef SCSI_SBC_H
#define SCSI_SBC_H

#include "scsi/scsi_impl.h"

#define SBC_STEP_BYTES (1u << 20) /* scratch of one command */

/* How many of left blocks go into one step with step_bytes of memory: at least one. */
static inline uint64_t sbc_step_blocks(const struct scsi_lu *lu, uint64_t left, uint32_t step_bytes)
{
	return MIN(left, MAX((uint64_t)step_bytes >> lu->block_shift, (uint64_t)1));
}

/*
 * Are the protection bits (7 to 5 of byte 1) zero? Else the task ended: only READ and WRITE check
 * and carry protection information, what these commands write has none.
 */
bool sbc_protect_ok(struct scsi_task *t);

/*
 * Takes len bytes of data-out, which are there, and compares them with `with`. true: the same.
 * Else *ret_off is where the first difference is.
 */
bool sbc_out_equal(struct scsi_task *t, const uint8_t *with, size_t len, size_t *ret_off);
/* Where the two, of len bytes and not the same, differ first. */
size_t sbc_first_difference(const uint8_t *a, const uint8_t *b, size_t len);

/* A step of t->blk ended: t->lba and t->blocks go on behind it. false: it failed, the task ended.
 */
bool sbc_step_ended(struct scsi_task *t, enum blk_status status);

/*
 * Erases t->blocks blocks from t->lba on, which are inside the unit, in steps that the back-end
 * takes; then done(t). A failure ends the task. Changes t->lba and t->blocks; uses t->vars[6, 7].
 */
void sbc_erase(struct scsi_task *t, enum blk_op op, uint8_t flags,
	       void (*done)(struct scsi_task *t));
/* Bytes of one such request, a multiple of the block size. */
uint64_t sbc_erase_step_bytes(const struct scsi_lu *lu, enum blk_op op);

#endif
