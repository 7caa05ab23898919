#include "scsi/pi.h"

#include <pthread.h>

#include "base/num.h"
#include "blk/blk.h"
#include "scsi/cdb.h"

#define PI_POLYNOMIAL 0x8bb7u
#define PI_APP_ESCAPE 0xffffu
#define PI_REF_ESCAPE 0xffffffffu

static uint16_t crc_table[256];

static void crc_table_fill(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i << 8;

		for (int bit = 0; bit < 8; bit++)
			c = c & 0x8000 ? c << 1 ^ PI_POLYNOMIAL : c << 1;
		crc_table[i] = (uint16_t)c;
	}
}

uint16_t pi_crc(uint16_t crc, const uint8_t *bytes, size_t len)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, crc_table_fill);
	for (size_t i = 0; i < len; i++)
		crc = (uint16_t)(crc << 8 ^ crc_table[(crc >> 8 ^ bytes[i]) & 0xff]);
	return crc;
}

/* Where in the data the next block begins. */
struct pi_walk {
	const struct iovec *iov;
	size_t skip_bytes;
};

static uint16_t walk_guard(struct pi_walk *w, uint32_t block_bytes)
{
	uint16_t crc = 0;

	while (block_bytes) {
		size_t len = MIN(w->iov->iov_len - w->skip_bytes, (size_t)block_bytes);

		crc = pi_crc(crc, (const uint8_t *)w->iov->iov_base + w->skip_bytes, len);
		block_bytes -= (uint32_t)len;
		w->skip_bytes += len;
		if (w->skip_bytes == w->iov->iov_len) {
			w->iov++;
			w->skip_bytes = 0;
		}
	}
	return crc;
}

void pi_generate(const struct pi_job *job, uint8_t *pi)
{
	struct pi_walk w = { .iov = job->iov };

	for (uint64_t i = 0; i < job->blocks; i++, pi += BLK_PI_BYTES) {
		cdb_put16(pi, walk_guard(&w, job->block_bytes));
		cdb_put16(pi + 2, 0);
		cdb_put32(pi + 4, job->type == 1 ? (uint32_t)(job->lba + i) : 0);
	}
}

static bool pi_is_escape(const struct pi_job *job, const uint8_t *pi)
{
	return cdb_u16(pi + 2) == PI_APP_ESCAPE &&
	       (job->type == 1 || cdb_u32(pi + 4) == PI_REF_ESCAPE);
}

enum scsi_cause pi_verify(const struct pi_job *job, const uint8_t *pi, uint32_t checks,
			  uint64_t *ret_lba)
{
	struct pi_walk w = { .iov = job->iov };

	for (uint64_t i = 0; i < job->blocks; i++, pi += BLK_PI_BYTES) {
		uint16_t guard = walk_guard(&w, job->block_bytes);

		*ret_lba = job->lba + i;
		if (pi_is_escape(job, pi))
			continue;
		if (checks & PI_CHECK_GUARD && cdb_u16(pi) != guard)
			return SCSI_CAUSE_GUARD_CHECK;
		if (checks & PI_CHECK_REF && job->type == 1 &&
		    cdb_u32(pi + 4) != (uint32_t)(job->lba + i))
			return SCSI_CAUSE_REF_TAG_CHECK;
	}
	return SCSI_CAUSE_NONE;
}

bool pi_checks(uint8_t protect, bool write, uint32_t *ret_checks)
{
	static const uint8_t table[] = {
		[0] = PI_CHECK_GUARD | PI_CHECK_APP | PI_CHECK_REF,
		[1] = PI_CHECK_GUARD | PI_CHECK_APP | PI_CHECK_REF,
		[2] = PI_CHECK_APP | PI_CHECK_REF,
		[3] = 0,
		[4] = PI_CHECK_GUARD,
		[5] = PI_CHECK_GUARD | PI_CHECK_APP | PI_CHECK_REF,
	};

	if (protect >= ARRAY_SIZE(table))
		return false;
	*ret_checks = table[protect];
	return true;
}
