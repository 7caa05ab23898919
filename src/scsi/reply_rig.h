/*
 * For the tests of commands that answer from what the unit knows: a unit on the sim back-end at
 * target 3, shown to two initiators, and answers compared with dumps in hexadecimal.
 */
#ifndef SCSI_REPLY_RIG_H
#define SCSI_REPLY_RIG_H

#include <stdio.h>

#include "scsi/scsi_rig.h"

#define REPLY_BYTES (256 * 1024)

/* disk: parameters of sim. lu: dev and name are filled in. Unit attentions are pending. */
static inline void reply_open_lu(struct rig *r, const char *disk, const struct scsi_lu_params *lu)
{
	struct scsi_lu_params p = *lu;
	struct err err = { 0 };

	rig_init(r);
	r->target = 3;
	r->lu_count = 1;
	r->keep_ua = true;
	if (blk_dev_open("sim", "d0", disk, &r->dev[0], &err) < 0)
		fail_msg("%s", err.msg);
	p.dev = r->dev[0];
	p.name = "disk0";
	if (scsi_lu_new(&p, &r->lu[0], &err) < 0 ||
	    scsi_host_attach(r->host, 3, 0, r->lu[0], &err) < 0)
		fail_msg("%s", err.msg);
	rig_nexus_add(r, "iqn.2026-01.test:a");
	rig_nexus_add(r, "iqn.2026-01.test:b");
}

static inline void reply_open(struct rig *r, const char *disk)
{
	const struct scsi_lu_params lu = { .serial = "S123", .rotation_rpm = 1 };

	reply_open_lu(r, disk, &lu);
	rig_ua_clear_all(r);
}

/* A command without data-out. */
#define RUN(r, ...) rig_cdb(r, NULL, 0, REPLY_BYTES, __VA_ARGS__)
/* out: data-out as a string of hexadecimal digits and spaces. */
#define RUN_OUT(r, out, ...)                                                                       \
	do {                                                                                       \
		uint8_t out_[4096];                                                                \
		size_t out_len_ = reply_hex(out, out_, sizeof(out_));                              \
		rig_cdb(r, out_, out_len_, REPLY_BYTES, __VA_ARGS__);                              \
	} while (0)

static inline size_t reply_hex(const char *hex, uint8_t *bytes, size_t size)
{
	size_t len = 0;

	while (*hex) {
		unsigned int byte;

		if (*hex == ' ') {
			hex++;
			continue;
		}
		assert_int_equal(sscanf(hex, "%2x", &byte), 1);
		assert_true(len < size);
		bytes[len++] = (uint8_t)byte;
		hex += 2;
	}
	return len;
}

static inline void assert_good(const struct rig *r)
{
	if (r->task.status == SCSI_CHECK_CONDITION)
		fail_msg("sense %x/%02x/%02x", r->task.sense[2], r->task.sense[12],
			 r->task.sense[13]);
	assert_int_equal(r->task.status, SCSI_GOOD);
}

/* GOOD with exactly these bytes of data-in. */
static inline void assert_dump(const struct rig *r, const char *hex)
{
	uint8_t want[4096];
	size_t len = reply_hex(hex, want, sizeof(want));

	assert_good(r);
	if (r->task.in_bytes != len || memcmp(r->in, want, len)) {
		for (size_t i = 0; i < r->task.in_bytes; i++)
			print_error("%02x%s", r->in[i], i % 16 == 15 ? "\n" : " ");
		fail_msg("another answer of %zu bytes, expected %zu", (size_t)r->task.in_bytes,
			 len);
	}
}

static inline void assert_check(const struct rig *r, uint32_t key, uint32_t asc, uint32_t ascq)
{
	assert_int_equal(r->task.status, SCSI_CHECK_CONDITION);
	assert_int_equal(r->task.sense[0] & 0x7f, 0x70);
	assert_int_equal(r->task.sense[2] & 0x0f, key);
	assert_int_equal(r->task.sense[12], asc);
	assert_int_equal(r->task.sense[13], ascq);
	assert_int_equal(r->task.in_bytes, 0);
}

/* The field pointer (SPC-5, 4.4.2.4.2): bit -1, only the byte. */
static inline void assert_field(const struct rig *r, bool in_cdb, uint32_t byte, int bit)
{
	uint8_t sks = (uint8_t)(0x80 | (in_cdb ? 0x40 : 0) | (bit < 0 ? 0 : 0x08 | bit));

	assert_check(r, 0x5, in_cdb ? 0x24 : 0x26, 0x00);
	assert_int_equal(r->task.sense[15], sks);
	assert_int_equal(cdb_u16(r->task.sense + 16), byte);
}

#define assert_bad_cdb(r, byte, bit)  assert_field(r, true, byte, bit)
#define assert_bad_list(r, byte, bit) assert_field(r, false, byte, bit)

#endif
