/*
 * Protection information (SBC-4, 4.21): guard, application tag and reference tag of a block.
 * Pure. Thread: any.
 */
#ifndef SCSI_PI_H
#define SCSI_PI_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "scsi/sense.h"

struct pi_job {
	uint8_t type; /* 1, or 3: without reference tag */
	uint32_t block_bytes;
	uint64_t lba; /* of the first block */
	uint64_t blocks;
	const struct iovec *iov; /* their data */
	uint32_t iov_count;
};

/* CRC-16 of T10 (polynomial 8BB7h), going on from crc. */
uint16_t pi_crc(uint16_t crc, const uint8_t *bytes, size_t len);
/* Fills BLK_PI_BYTES for each block: guard, application tag 0, reference tag. */
void pi_generate(const struct pi_job *job, uint8_t *pi);

#define PI_CHECK_GUARD (1u << 0)
#define PI_CHECK_APP                                                                               \
	(1u << 1) /* our application tags are not known: checked is only the escape                \
		   */
#define PI_CHECK_REF (1u << 2)

/*
 * The first thing that is wrong, SCSI_CAUSE_NONE when all is right; *ret_lba is that block. A block
 * with application tag FFFFh (type 3: and reference tag FFFFFFFFh) is not checked.
 */
enum scsi_cause pi_verify(const struct pi_job *job, const uint8_t *pi, uint32_t checks,
			  uint64_t *ret_lba);
/* PI_CHECK_ bits of RDPROTECT or WRPROTECT (SBC-4, tables 63 and 126); false: reserved value. */
bool pi_checks(uint8_t protect, bool write, uint32_t *ret_checks);

#endif
