/* SCSI requests of the bench: virtio 1.3, 5.6.6.1; SBC-4. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench.h"

#define ATTEMPTS_MAX 16 /* unit attentions that may be pending at the start */

static struct spec_scsi_resp *resp_of(const struct slot *s)
{
	return (struct spec_scsi_resp *)((uint8_t *)s->scsi + BENCH_RESP_OFF);
}

static void put32(uint8_t *to, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(to, &v, sizeof(v));
}

static uint64_t get_be(const uint8_t *from, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | from[i];
	return v;
}

/* READ or WRITE of one request; the address comes with each submission. */
void bench_scsi_slot(struct bench *b, struct slot *s)
{
	uint32_t blocks = b->block_bytes ? b->o.bs / b->block_bytes : 0;
	uint8_t *cdb = s->scsi->cdb;

	s->scsi_status = (uint16_t *)((uint8_t *)s->scsi + BENCH_RESP_OFF +
				      offsetof(struct spec_scsi_resp, status));
	memset(s->scsi, 0, BENCH_HDR_BYTES);
	s->scsi->lun[0] = 1;
	s->scsi->lun[1] = (uint8_t)b->o.scsi_target;
	s->scsi->id = (uintptr_t)s;
	if (b->cdb16) {
		cdb[0] = s->is_write ? 0x8a : 0x88;
		put32(cdb + 10, blocks);
	} else {
		cdb[0] = s->is_write ? 0x2a : 0x28;
		cdb[7] = (uint8_t)(blocks >> 8);
		cdb[8] = (uint8_t)blocks;
	}
}

void bench_scsi_error(struct bench *b, const struct slot *s)
{
	if (!b->scsi_error.status && !b->scsi_error.response)
		memcpy(&b->scsi_error, resp_of(s), sizeof(b->scsi_error));
}

/* One command alone on the first queue, in slot 0. Returns 0, 1 when it should be sent again. */
static int command(struct bench *b, const uint8_t *cdb, size_t cdb_bytes)
{
	uint64_t start = tick_now(), limit = (uint64_t)(20e9 / b->tick_ns);
	struct bench_queue *q = &b->q[0];
	const struct spec_scsi_resp *resp = resp_of(&q->slot[0]);
	uint16_t old = q->avail_idx, done;

	memset(q->slot[0].scsi->cdb, 0, SPEC_SCSI_CDB_SIZE);
	memcpy(q->slot[0].scsi->cdb, cdb, cdb_bytes);
	*q->slot[0].scsi_status = 0xffff;
	ring_submit(q, 0);
	ring_publish(b, q, old);
	while (!ring_reap(b, q, &done, 1)) {
		if (tick_now() - start > limit)
			return -ETIMEDOUT;
		cpu_relax();
	}
	if (!resp->response && !resp->status)
		return 0;
	if (!resp->response && resp->status == 2 && (resp->sense[2] & 15) == 6)
		return 1;
	snprintf(b->fe.why, sizeof(b->fe.why),
		 "target %u: command 0x%02x: response %u, status 0x%02x, sense %02x/%02x/%02x",
		 b->o.scsi_target, cdb[0], resp->response, resp->status, resp->sense[2] & 15,
		 resp->sense[12], resp->sense[13]);
	return -EREMOTEIO;
}

static int command_until_good(struct bench *b, const uint8_t *cdb, size_t cdb_bytes)
{
	int rc = 1;

	for (unsigned i = 0; rc == 1 && i < ATTEMPTS_MAX; i++)
		rc = command(b, cdb, cdb_bytes);
	return rc > 0 ? -EREMOTEIO : rc;
}

/* Takes unit attentions, asks the capacity, and builds every slot anew for the unit's blocks. */
int bench_scsi_start(struct bench *b, uint64_t *ret_bytes)
{
	static const uint8_t ready[6] = { 0x00 };
	static const uint8_t capacity[16] = { [0] = 0x9e, [1] = 0x10, [13] = 32 };
	const uint8_t *reply = (const uint8_t *)b->q[0].slot[0].bytes;
	uint64_t blocks;
	int rc = bench_slot_fill(b, &b->q[0], 0, false);

	if (!rc)
		rc = command_until_good(b, ready, sizeof(ready));
	if (!rc)
		rc = command_until_good(b, capacity, sizeof(capacity));
	if (rc)
		return rc;
	blocks = get_be(reply, 8) + 1;
	b->block_bytes = (uint32_t)get_be(reply + 8, 4);
	if (!b->block_bytes || b->o.bs % b->block_bytes) {
		snprintf(b->fe.why, sizeof(b->fe.why), "--bs: expected a multiple of %u, got %u",
			 b->block_bytes, b->o.bs);
		return -EINVAL;
	}
	b->cdb16 = blocks > UINT32_MAX || b->o.bs / b->block_bytes > UINT16_MAX;
	*ret_bytes = blocks * b->block_bytes;
	for (unsigned k = 0; !rc && k < b->o.queues; k++)
		for (unsigned i = 0; !rc && i < b->q[k].qd; i++)
			rc = bench_slot_fill(b, &b->q[k], i,
					     i * 100 / b->q[k].qd < b->o.write_percent);
	return rc;
}
