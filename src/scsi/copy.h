/*
 * Third-party copies (SPC-5, 5.17): EXTENDED COPY (copy.c, copy_list.c, copy_move.c), ROD tokens
 * (token.c, token_table.c), and the list identifiers by which RECEIVE COPY RESULTS asks after both
 * (copy_lid.c). The limits below are what RECEIVE COPY PARAMETERS and VPD page 8Fh report.
 *
 * POPULATE TOKEN makes point in time tokens and no others (SBC-4, 5.21). Nothing is copied then: a
 * token names blocks, and the first command that writes one of them cancels it, so what it gives is
 * what was there when it was made, or nothing ("change vulnerable", SPC-5, 5.17.6.2.3.3). Writers
 * find out through the gate of their I_T_L nexus, so that a unit without tokens pays nothing; those
 * that had passed it are waited for. Writes that do not come through scsi/ are not seen.
 *
 * Every copy runs in the foreground: with IMMED too the status comes when the copy has ended.
 */
#ifndef SCSI_COPY_H
#define SCSI_COPY_H

#include <stdint.h>

struct scsi_lu;
struct scsi_nexus;
struct scsi_task;

/* ---- EXTENDED COPY: third-party copy descriptors 0004h, 0008h, 000Ch and 8001h ---- */

#define COPY_CSCDS_MAX		   16
#define COPY_SEGMENTS_MAX	   64
#define COPY_DESCRIPTORS_MAX_BYTES (COPY_CSCDS_MAX * 32u + COPY_SEGMENTS_MAX * 32u)
#define COPY_INLINE_MAX_BYTES	   0
#define COPY_SEGMENT_MAX_BYTES	   (32u << 20)
#define COPY_CONCURRENT_MAX	   16 /* of one nexus: TOTAL CONCURRENT COPIES */
#define COPY_IDENTIFIED_MAX	   16 /* MAXIMUM (IDENTIFIED) CONCURRENT COPIES */
#define COPY_GRANULARITY_LOG2	   0  /* of segments, inline and held data: bytes */
/* Supported descriptors, ascending: segment types 02h and 0Ah, CSCD type E4h. */
#define COPY_DESCRIPTOR_TYPES                                                                      \
	{                                                                                          \
		0x02, 0x0a, 0xe4                                                                   \
	}
/* The one supported CSCD descriptor ID above 07FFh: the unit that the command was sent to. */
#define COPY_CSCD_ID_SELF 0xffff

/* ---- tokens: third-party copy descriptors 0000h, 0106h and 0108h ---- */

#define COPY_TOKEN_BYTES	    512
#define COPY_TOKEN_RANGES_MAX	    64	 /* MAXIMUM RANGE DESCRIPTORS */
#define COPY_TOKEN_MAX_SECONDS	    3600 /* MAXIMUM INACTIVITY TIMEOUT */
#define COPY_TOKEN_DEFAULT_SECONDS  60	 /* DEFAULT INACTIVITY TIMEOUT */
#define COPY_TOKEN_MIN_LIFE_SECONDS 0	 /* MINIMUM TOKEN LIFETIME: they may be cancelled */
#define COPY_TOKEN_MAX_LIFE_SECONDS                                                                \
	0xffffffffu			      /* MAXIMUM TOKEN LIFETIME: as long as it is used     \
					       */
#define COPY_TOKEN_MAX_BYTES	 (256u << 20) /* MAXIMUM TOKEN TRANSFER SIZE, there in blocks */
#define COPY_TOKEN_OPTIMAL_BYTES (64u << 20)  /* OPTIMAL TRANSFER COUNT, there in blocks */
#define COPY_REMOTE_TOKENS	 0x0	      /* REMOTE TOKENS: only those made here */

/* ROD types (SPC-5, 5.17.6.2): value, flags (TOKEN_OUT 01h: POPULATE TOKEN makes it, TOKEN_IN 02h:
 * WRITE USING TOKEN takes it), PREFERENCE INDICATOR. "Any" is answered with "change vulnerable". */
#define COPY_ROD_PIT_DEFAULT	0x00800000u
#define COPY_ROD_PIT_VULNERABLE 0x00800001u
#define COPY_ROD_PIT_ANY	0x0080ffffu
#define COPY_ROD_ZERO		0xffff0001u
#define COPY_ROD_TYPES(X)                                                                          \
	X(COPY_ROD_PIT_DEFAULT, 0x03, 2)                                                           \
	X(COPY_ROD_PIT_VULNERABLE, 0x03, 1)                                                        \
	X(COPY_ROD_PIT_ANY, 0x01, 3)                                                               \
	X(COPY_ROD_ZERO, 0x02, 0)

/* ---- life ---- */

/* The nexus closes, all its tasks have ended: its list identifiers go. Thread: main. */
void scsi_copy_nexus_gone(const struct scsi_nexus *nexus);
/* The unit is about to be freed: its tokens go. Thread: main. */
void scsi_copy_lu_gone(const struct scsi_lu *lu);
/* The unit was reset: results that are kept for its list identifiers go. Thread: any; lu->lock
 * held. */
void scsi_copy_lu_reset(const struct scsi_lu *lu);

/* ---- from task.c (Thread: owner loop) ---- */

/* A task of a row with CDB_COPIES is about to be freed. */
void scsi_copy_ended(struct scsi_task *task);
/* GATE_WRITES stopped a command that writes: cancels the tokens of the blocks that it names. */
void scsi_token_on_write(const struct scsi_task *task);

#endif
