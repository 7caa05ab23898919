#include "scsi/sense.h"

#include <string.h>

#include "base/check.h"
#include "scsi/cdb.h"

#define SENSE_KEY_UNIT_ATTENTION 0x6
#define SENSE_CURRENT_FIXED	 0x70
#define SENSE_CURRENT_DESCRIPTOR 0x72

struct cause_row {
	uint8_t key, asc, ascq;
	const char *text;
};

static const struct cause_row causes[] = {
#define X(n, k, a, q, t) { k, a, q, t },
	SCSI_CAUSES(X)
#undef X
};

static const struct cause_row uas[] = {
#define X(n, a, q, t) { SENSE_KEY_UNIT_ATTENTION, a, q, t },
	SCSI_UAS(X)
#undef X
};

void sense_cause_code(enum scsi_cause cause, uint8_t *ret_key, uint8_t *ret_asc, uint8_t *ret_ascq)
{
	*ret_key = causes[cause].key;
	*ret_asc = causes[cause].asc;
	*ret_ascq = causes[cause].ascq;
}

void sense_ua_code(enum scsi_ua ua, uint8_t *ret_asc, uint8_t *ret_ascq)
{
	*ret_asc = uas[ua].asc;
	*ret_ascq = uas[ua].ascq;
}

/* Sense-key specific bytes (SPC-5, 4.4.2.4); false: there is nothing to tell. */
static bool sense_specific(const struct sense_extra *x, uint8_t sks[3])
{
	memset(sks, 0, 3);
	if (x->has_field) {
		sks[0] = 0x80 | (x->field_in_cdb ? 0x40 : 0);
		if (x->field_bit >= 0)
			sks[0] |= 0x08 | (uint8_t)(x->field_bit & 7);
		cdb_put16(sks + 1, x->field_byte);
	} else if (x->has_progress) {
		sks[0] = 0x80;
		cdb_put16(sks + 1, x->progress);
	}
	return sks[0];
}

/* SPC-5, 4.4.3 */
static uint8_t sense_fixed(uint8_t *buf, const struct cause_row *row, const struct sense_extra *x)
{
	memset(buf, 0, SENSE_FIXED_BYTES);
	buf[0] = SENSE_CURRENT_FIXED;
	if (x->has_info && x->info <= UINT32_MAX) {
		buf[0] |= 0x80;
		cdb_put32(buf + 3, (uint32_t)x->info);
	}
	buf[2] = row->key;
	buf[7] = SENSE_FIXED_BYTES - 8;
	if (x->has_specific)
		cdb_put32(buf + 8, x->specific);
	buf[12] = row->asc;
	buf[13] = row->ascq;
	sense_specific(x, buf + 15);
	return SENSE_FIXED_BYTES;
}

/* SPC-5, 4.4.2 */
static uint8_t sense_descriptor(uint8_t *buf, const struct cause_row *row,
				const struct sense_extra *x)
{
	uint8_t len = 8, sks[3];

	memset(buf, 0, 8);
	buf[0] = SENSE_CURRENT_DESCRIPTOR;
	buf[1] = row->key;
	buf[2] = row->asc;
	buf[3] = row->ascq;
	if (x->has_info) {
		const uint8_t head[4] = { 0x00, 0x0a, 0x80, 0x00 };

		memcpy(buf + len, head, sizeof(head));
		cdb_put64(buf + len + 4, x->info);
		len += 12;
	}
	if (x->has_specific) {
		const uint8_t head[4] = { 0x01, 0x0a, 0x00, 0x00 };

		memcpy(buf + len, head, sizeof(head));
		cdb_put32(buf + len + 4, x->specific);
		cdb_put32(buf + len + 8, 0);
		len += 12;
	}
	if (sense_specific(x, sks)) {
		const uint8_t head[4] = { 0x02, 0x06, 0x00, 0x00 };

		memcpy(buf + len, head, sizeof(head));
		memcpy(buf + len + 4, sks, sizeof(sks));
		buf[len + 7] = 0;
		len += 8;
	}
	buf[7] = len - 8;
	return len;
}

static uint8_t sense_row_build(uint8_t *buf, bool descriptor, const struct cause_row *row,
			       const struct sense_extra *extra)
{
	static const struct sense_extra none;

	if (!extra)
		extra = &none;
	return descriptor ? sense_descriptor(buf, row, extra) : sense_fixed(buf, row, extra);
}

uint8_t sense_build(uint8_t *buf, bool descriptor, enum scsi_cause cause,
		    const struct sense_extra *extra)
{
	return sense_row_build(buf, descriptor, &causes[cause], extra);
}

uint8_t sense_build_ua(uint8_t *buf, bool descriptor, enum scsi_ua ua)
{
	return sense_row_build(buf, descriptor, &uas[ua], NULL);
}
