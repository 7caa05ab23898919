/*
 * Third-party copies (SPC-5, 5.17): EXTENDED COPY (copy.c, copy_list.c), ROD tokens (token.c), and
 * the list identifiers by which RECEIVE COPY RESULTS asks after both (copy_lid.c).
 *
 * The limits below are what RECEIVE COPY PARAMETERS and VPD page 8Fh report.
 *
 * RODs are of the type "access upon reference": a token names blocks, not what was in them when
 * it was made; WRITE USING TOKEN reads them then. Writes go past the copy manager without a look,
 * so a point in time type would be a promise that nobody keeps. The other type that is taken is the
 * block device zero token. Every copy runs in the foreground: with IMMED too the status comes when
 * the copy has ended.
 */
#ifndef SCSI_COPY_H
#define SCSI_COPY_H

#include <stdint.h>

struct scsi_nexus;
struct scsi_lu;

/* ---- EXTENDED COPY: parameter data third-party copy descriptor (0004h), (8001h), (0008h) ---- */

#define COPY_CSCDS_MAX		   16
#define COPY_SEGMENTS_MAX	   64
#define COPY_DESCRIPTORS_MAX_BYTES (COPY_CSCDS_MAX * 32u + COPY_SEGMENTS_MAX * 32u)
#define COPY_INLINE_MAX_BYTES	   0
#define COPY_SEGMENT_MAX_BYTES	   (256u << 20)
#define COPY_CONCURRENT_MAX	   64 /* in the process: TOTAL CONCURRENT COPIES */
#define COPY_IDENTIFIED_MAX	   64 /* MAXIMUM (IDENTIFIED) CONCURRENT COPIES */
/* log2 of DATA SEGMENT GRANULARITY, INLINE DATA GRANULARITY, HELD DATA GRANULARITY */
#define COPY_GRANULARITY_LOG2 9
/* Supported descriptors, ascending: segment types 02h and 0Ah, CSCD type E4h. */
#define COPY_DESCRIPTOR_TYPES                                                                      \
	{                                                                                          \
		0x02, 0x0a, 0xe4                                                                   \
	}
/* Supported CSCD descriptor IDs (000Ch): the unit that the command was sent to. */
#define COPY_CSCD_ID_SELF 0xffff

/* ---- tokens: block device ROD token limits (0000h), ROD token features (0106h), (0108h) ---- */

#define COPY_TOKEN_RANGES_MAX	    64	 /* MAXIMUM RANGE DESCRIPTORS */
#define COPY_TOKEN_MAX_SECONDS	    3600 /* MAXIMUM INACTIVITY TIMEOUT */
#define COPY_TOKEN_DEFAULT_SECONDS  60	 /* DEFAULT INACTIVITY TIMEOUT */
#define COPY_TOKEN_MIN_LIFE_SECONDS 0	 /* MINIMUM TOKEN LIFETIME: tokens may be pushed out */
#define COPY_TOKEN_MAX_LIFE_SECONDS 0xffffffffu	 /* MAXIMUM TOKEN LIFETIME: while it is used */
#define COPY_TOKEN_MAX_BYTES	    (256u << 20) /* MAXIMUM TOKEN TRANSFER SIZE, there in blocks */
#define COPY_TOKEN_OPTIMAL_BYTES    (64u << 20)	 /* OPTIMAL TRANSFER COUNT, there in blocks */
#define COPY_REMOTE_TOKENS	    0x0		 /* REMOTE TOKENS: only tokens made here */

/* ROD types (SPC-5, table 127). What they do: TOKEN_IN: WRITE USING TOKEN takes it; TOKEN_OUT:
 * POPULATE TOKEN makes it. */
#define COPY_ROD_UPON_REFERENCE 0x00010000u /* TOKEN_OUT, TOKEN_IN, PREFERENCE INDICATOR 1 */
#define COPY_ROD_ZERO		0xffff0001u /* TOKEN_IN */

#define COPY_TOKEN_BYTES 512

/* ---- life ---- */

/* The nexus is closing, all its tasks have ended: its list identifiers are dropped. Thread: main.
 */
void scsi_copy_nexus_gone(const struct scsi_nexus *nexus);
/* The unit is being freed: tokens of its blocks are revoked. Thread: main. */
void scsi_copy_lu_gone(const struct scsi_lu *lu);

#endif
