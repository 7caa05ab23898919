/*
 * For the tests of commands that answer from what the unit knows: one unit on the sim back-end,
 * shown to two initiators, commands given as bytes, and answers compared with dumps in hexadecimal.
 */
#ifndef SCSI_REPLY_RIG_H
#define SCSI_REPLY_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "blk/backend/sim.h"
#include "scsi/scsi_impl.h"

#define RIG_IN_BYTES (256 * 1024)

struct rig {
	struct loop *loop;
	struct blk_dev *dev;
	struct scsi_lu *lu;
	struct scsi_host *host;
	struct scsi_nexus *nexus[2];
	struct scsi_queue *queue[2];
	uint32_t events[2];
	/* the command that ran last */
	struct scsi_task t;
	struct iovec in_iov, out_iov;
	struct iov_cur in_cur, out_cur;
	uint8_t *in;
	bool done;
	/* of the next one */
	uint32_t by, target, lun;
};

static inline void rig_on_event(void *arg, const struct scsi_event *event)
{
	(*(uint32_t *)arg)++;
}

static inline void rig_lu_add(struct rig *r, const struct scsi_lu_params *params)
{
	struct scsi_lu_params p = *params;
	struct err err = { 0 };

	p.dev = r->dev;
	p.name = "disk0";
	if (scsi_lu_new(&p, &r->lu, &err) < 0)
		fail_msg("%s", err.msg);
}

static inline void rig_connect(struct rig *r, uint32_t i)
{
	struct err err = { 0 };

	assert_int_equal(scsi_nexus_open(r->host, i ? "iqn.test:b" : "iqn.test:a", rig_on_event,
					 &r->events[i], &r->nexus[i], &err),
			 0);
	assert_int_equal(scsi_queue_open(r->nexus[i], r->loop, &r->queue[i], &err), 0);
}

/* disk: parameters of sim. lu: dev and name are filled in. At target 3, LUN 0. */
static inline void rig_open_lu(struct rig *r, const char *disk, const struct scsi_lu_params *lu)
{
	struct loop_params lp = { .name = "test", .cpu = -1, .sq_count = 64 };
	struct err err = { 0 };

	memset(r, 0, sizeof(*r));
	r->in = malloc(RIG_IN_BYTES);
	r->target = 3;
	assert_non_null(r->in);
	assert_int_equal(loop_new(&lp, &r->loop, &err), 0);
	if (blk_dev_open("sim", "d0", disk, &r->dev, &err) < 0)
		fail_msg("%s", err.msg);
	rig_lu_add(r, lu);
	assert_int_equal(scsi_host_new("host0", &r->host, &err), 0);
	assert_int_equal(scsi_host_attach(r->host, 3, 0, r->lu, &err), 0);
	rig_connect(r, 0);
	rig_connect(r, 1);
}

static inline void rig_close(struct rig *r)
{
	for (int i = 0; i < 2; i++) {
		scsi_queue_close(r->queue[i]);
		scsi_nexus_close(r->nexus[i]);
	}
	scsi_host_unref(r->host);
	scsi_lu_unref(r->lu);
	blk_dev_unref(r->dev);
	loop_free(r->loop);
	free(r->in);
}

static inline void rig_done(struct scsi_task *t)
{
	struct rig *r = container_of(t, struct rig, t);

	assert_false(r->done);
	r->done = true;
}

/* Runs it to its end, with out_len bytes of data-out and room for all data-in. */
static inline void rig_run(struct rig *r, const uint8_t *cdb, size_t cdb_len, const void *out,
			   size_t out_len)
{
	struct scsi_task *t = &r->t;

	memset(t, 0, sizeof(*t));
	memset(r->in, 0xee, RIG_IN_BYTES);
	memcpy(t->cdb, cdb, cdb_len);
	t->target = r->target;
	t->lun = r->lun;
	t->done = rig_done;
	r->in_iov = (struct iovec){ .iov_base = r->in, .iov_len = RIG_IN_BYTES };
	r->out_iov = (struct iovec){ .iov_base = (void *)out, .iov_len = out_len };
	iov_cur_init(&r->in_cur, &r->in_iov, 1, RIG_IN_BYTES);
	iov_cur_init(&r->out_cur, &r->out_iov, out_len ? 1 : 0, out_len);
	t->in = &r->in_cur;
	t->out = &r->out_cur;
	r->done = false;
	scsi_task_start(r->queue[r->by], t);
	while (!r->done)
		loop_run_once(r->loop, true);
}

#define RUN(r, ...)                                                                                \
	rig_run(r, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }),     \
		NULL, 0)
/* out: a string of hexadecimal digits and spaces */
#define RUN_OUT(r, out, ...)                                                                       \
	rig_run_hex(r, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }), \
		    out)

static inline size_t rig_hex(const char *hex, uint8_t *bytes, size_t size)
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

static inline void rig_run_hex(struct rig *r, const uint8_t *cdb, size_t cdb_len, const char *out)
{
	static uint8_t bytes[4096];

	rig_run(r, cdb, cdb_len, bytes, rig_hex(out, bytes, sizeof(bytes)));
}

static inline void assert_good(const struct rig *r)
{
	assert_int_equal(r->t.end, SCSI_END_COMPLETE);
	if (r->t.status == SCSI_CHECK_CONDITION)
		fail_msg("sense %x/%02x/%02x", r->t.sense[2], r->t.sense[12], r->t.sense[13]);
	assert_int_equal(r->t.status, SCSI_GOOD);
}

/* GOOD with exactly these bytes of data-in; what follows them was not touched. */
static inline void assert_dump(const struct rig *r, const char *hex)
{
	static uint8_t want[4096];
	size_t len = rig_hex(hex, want, sizeof(want));

	assert_good(r);
	if (r->t.in_bytes != len || memcmp(r->in, want, len)) {
		for (size_t i = 0; i < r->t.in_bytes; i++)
			print_error("%02x%s", r->in[i], i % 16 == 15 ? "\n" : " ");
		print_error("\n");
		fail_msg("another answer of %zu bytes, expected %zu", (size_t)r->t.in_bytes, len);
	}
	assert_int_equal(r->in[len], 0xee);
}

static inline void assert_check(const struct rig *r, uint32_t key, uint32_t asc, uint32_t ascq)
{
	assert_int_equal(r->t.end, SCSI_END_COMPLETE);
	assert_int_equal(r->t.status, SCSI_CHECK_CONDITION);
	assert_int_equal(r->t.sense[0] & 0x7f, 0x70);
	assert_int_equal(r->t.sense[2] & 0x0f, key);
	assert_int_equal(r->t.sense[12], asc);
	assert_int_equal(r->t.sense[13], ascq);
	assert_int_equal(r->t.in_bytes, 0);
}

/* The field pointer (SPC-5, 4.4.2.4.2): bit -1, only the byte. */
static inline void assert_field(const struct rig *r, bool in_cdb, uint32_t byte, int bit)
{
	uint8_t sks = (uint8_t)(0x80 | (in_cdb ? 0x40 : 0) | (bit < 0 ? 0 : 0x08 | bit));

	assert_check(r, 0x5, in_cdb ? 0x24 : 0x26, 0x00);
	assert_int_equal(r->t.sense[15], sks);
	assert_int_equal(cdb_u16(r->t.sense + 16), byte);
}

#define assert_bad_cdb(r, byte, bit)  assert_field(r, true, byte, bit)
#define assert_bad_list(r, byte, bit) assert_field(r, false, byte, bit)

/* Both initiators have heard of the power on. */
static inline void rig_settle(struct rig *r)
{
	for (r->by = 0; r->by < 2; r->by++) {
		RUN(r, 0x00, 0, 0, 0, 0, 0);
		assert_check(r, 0x6, 0x29, 0x00);
	}
	r->by = 0;
}

static inline void rig_open(struct rig *r, const char *disk)
{
	const struct scsi_lu_params lu = { .serial = "S123", .rotation_rpm = 1 };

	rig_open_lu(r, disk, &lu);
	rig_settle(r);
}

#endif
