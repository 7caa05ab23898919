/*
 * The limits of commands that the Block Limits page (SBC-4, 6.6.4) reports and the handlers keep.
 * One place, so that the page and the handler cannot differ. Units: logical blocks.
 */
#ifndef SCSI_LIMITS_H
#define SCSI_LIMITS_H

#include "scsi/scsi_impl.h"

/*
 * MAXIMUM TRANSFER LENGTH: what the CDB can say. Not 0 ("not reported"), because no atomic write
 * may be longer than it.
 */
#define SCSI_TRANSFER_BLOCKS_MAX UINT32_MAX
#define SCSI_PI_BLOCKS_MAX	 8192 /* with protection information, which is held in memory */

static inline uint32_t scsi_transfer_blocks_max(const struct scsi_lu *lu)
{
	return lu->pi_type ? SCSI_PI_BLOCKS_MAX : SCSI_TRANSFER_BLOCKS_MAX;
}

/* COMPARE AND WRITE: one byte in the CDB. */
#define SCSI_CAW_BLOCKS_MAX 255
/* UNMAP: descriptors of one list, and blocks of one command. */
#define SCSI_UNMAP_DESCRIPTORS_MAX 256
#define SCSI_UNMAP_BLOCKS_MAX	   (1024 * 1024)
/* WRITE SAME: a number of blocks of 0 does not mean "to the end" (WSNZ 1). */
#define SCSI_WRITE_SAME_BYTES_MAX (128 * 1024 * 1024)
#define SCSI_WSNZ		  1
/* WRITE ATOMIC (16): one request to the back-end. */
#define SCSI_ATOMIC_BYTES_MAX (1024 * 1024)

static inline uint32_t scsi_write_same_blocks_max(const struct scsi_lu *lu)
{
	return SCSI_WRITE_SAME_BYTES_MAX >> lu->block_shift;
}

static inline uint32_t scsi_atomic_blocks_max(const struct scsi_lu *lu)
{
	return SCSI_ATOMIC_BYTES_MAX >> lu->block_shift;
}

/* Do unmapped blocks read as zeroes? LBPRZ, here and in READ CAPACITY (16). */
static inline bool scsi_lu_lbprz(const struct scsi_lu *lu)
{
	return lu->caps->discard && lu->caps->zeroes_unmap;
}

#endif
