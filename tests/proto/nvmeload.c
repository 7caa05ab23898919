/* See nvmeload.h. */
#include "nvmeload.h"

#include <errno.h>
#include <string.h>

static uint64_t draw(struct nvmeload *l, uint64_t below)
{
	l->rng ^= l->rng << 13;
	l->rng ^= l->rng >> 7;
	l->rng ^= l->rng << 17;
	return (l->rng >> 11) % below;
}

static uint32_t io_bytes(const struct nvmeload *l)
{
	return NVMELOAD_IO_MAX * l->block_bytes;
}

void nvmeload_init(struct nvmeload *l, struct nvmedrv *n, uint32_t nsid, uint32_t block_bytes,
		   unsigned queues, uint64_t seed)
{
	memset(l, 0, sizeof(*l));
	l->n = n;
	l->nsid = nsid;
	l->block_bytes = block_bytes;
	l->queues = queues;
	l->rng = seed | 1;
	l->next_stamp = 1;
	for (unsigned q = 0; q < queues; q++) {
		for (unsigned i = 0; i < NVMELOAD_DEPTH; i++) {
			struct nvmeload_slot *s = &l->slot[q][i];

			/* At an offset, so that lists are needed for more than a page. */
			s->iova = nvmedrv_alloc(n, io_bytes(l) + 4096, 4096);
			if (!s->iova)
				fail_msg("guest memory is used up");
			s->iova += 512;
			s->host = nvmedrv_host(n, s->iova, io_bytes(l));
			s->sqid = q + 1;
		}
	}
}

void nvmeload_zero(struct nvmeload *l)
{
	struct nvmeload_slot *s = &l->slot[0][0];

	memset(s->host, 0, io_bytes(l));
	for (uint32_t lba = 0; lba < NVMELOAD_BLOCKS; lba += NVMELOAD_IO_MAX) {
		int rc = nvmedrv_rw(l->n, s->sqid, SPEC_NVME_WRITE, l->nsid, lba, NVMELOAD_IO_MAX,
				    s->iova, l->block_bytes);

		if (rc)
			fail_msg("write at %u: %d %s", lba, rc, l->n->why);
	}
}

static uint64_t word(const struct nvmeload *l, uint64_t stamp, uint32_t lba)
{
	return stamp ? stamp * 0x9e3779b97f4a7c15ull ^ lba : 0;
}

static void put_block(const struct nvmeload *l, uint8_t *at, uint64_t stamp, uint32_t lba)
{
	uint64_t w = word(l, stamp, lba);

	for (uint32_t i = 0; i < l->block_bytes; i += 8)
		memcpy(at + i, &w, 8);
}

static bool is_block(const struct nvmeload *l, const uint8_t *at, uint64_t stamp, uint32_t lba)
{
	uint64_t w = word(l, stamp, lba);

	for (uint32_t i = 0; i < l->block_bytes; i += 8) {
		if (memcmp(at + i, &w, 8))
			return false;
	}
	return true;
}

/*
 * Blocks that no other command in flight touches. Those that may hold either of two stamps are
 * read before they are written again.
 */
static bool choose(struct nvmeload *l, struct nvmeload_slot *s)
{
	s->blocks = 1 + (uint32_t)draw(l, NVMELOAD_IO_MAX);
	s->lba = (uint32_t)draw(l, NVMELOAD_BLOCKS - s->blocks);
	s->is_write = draw(l, 2);
	for (uint32_t i = 0; i < s->blocks; i++) {
		if (l->busy[s->lba + i])
			return false;
		if (l->maybe[s->lba + i] != l->stamp[s->lba + i])
			s->is_write = false;
	}
	return true;
}

static int submit(struct nvmeload *l, struct nvmeload_slot *s)
{
	struct spec_nvme_sqe sqe;
	int rc;

	sqe = nvmedrv_rw_sqe(s->is_write ? SPEC_NVME_WRITE : SPEC_NVME_READ, l->nsid, s->lba,
			     s->blocks);
	rc = nvmedrv_prp(l->n, &sqe, s->iova, (uint64_t)s->blocks * l->block_bytes);
	if (!rc)
		rc = nvmedrv_submit(l->n, s->sqid, &sqe, s);
	if (rc < 0)
		return rc;
	s->busy = true;
	for (uint32_t i = 0; i < s->blocks; i++) {
		uint8_t *at = s->host + (uint64_t)i * l->block_bytes;

		l->busy[s->lba + i] = true;
		if (s->is_write) {
			l->maybe[s->lba + i] = l->next_stamp;
			put_block(l, at, l->next_stamp++, s->lba + i);
		} else {
			memset(at, 0xee, l->block_bytes);
		}
	}
	return 0;
}

void nvmeload_fill(struct nvmeload *l)
{
	for (unsigned q = 0; q < l->queues; q++) {
		bool any = false;

		for (unsigned i = 0; i < NVMELOAD_DEPTH; i++) {
			struct nvmeload_slot *s = &l->slot[q][i];
			int rc;

			if (s->busy || !choose(l, s))
				continue;
			rc = submit(l, s);
			if (rc == -ENOSPC)
				break;
			if (rc)
				fail_msg("submit: %d %s", rc, l->n->why);
			any = true;
		}
		if (any)
			assert_ok(nvmedrv_sq_ring(l->n, q + 1));
	}
}

static void check_read(struct nvmeload *l, const struct nvmeload_slot *s)
{
	for (uint32_t i = 0; i < s->blocks; i++) {
		const uint8_t *at = s->host + (uint64_t)i * l->block_bytes;
		uint32_t lba = s->lba + i;

		if (is_block(l, at, l->stamp[lba], lba))
			l->maybe[lba] = l->stamp[lba];
		else if (is_block(l, at, l->maybe[lba], lba))
			l->stamp[lba] = l->maybe[lba];
		else
			fail_msg("block %u: neither stamp %llu nor %llu", lba,
				 (unsigned long long)l->stamp[lba],
				 (unsigned long long)l->maybe[lba]);
	}
}

static void complete(struct nvmeload *l, const struct nvmedrv_done *done)
{
	struct nvmeload_slot *s = done->tag;

	if (done->status)
		fail_msg("%s of %u blocks at %u: status 0x%03x", s->is_write ? "write" : "read",
			 s->blocks, s->lba, done->status);
	s->busy = false;
	l->done++;
	l->writes += s->is_write;
	if (!s->is_write)
		check_read(l, s);
	for (uint32_t i = 0; i < s->blocks; i++) {
		l->busy[s->lba + i] = false;
		if (s->is_write)
			l->stamp[s->lba + i] = l->maybe[s->lba + i];
	}
}

unsigned nvmeload_reap(struct nvmeload *l)
{
	struct nvmedrv_done done;
	unsigned count = 0;

	for (unsigned q = 1; q <= l->queues; q++) {
		int rc;

		/* Queues may share a completion queue: it is looked at once for each. */
		while ((rc = nvmedrv_reap(l->n, l->n->sq[q].cqid, &done)) == 1) {
			complete(l, &done);
			count++;
		}
		if (rc < 0)
			fail_msg("queue %u: %d %s", q, rc, l->n->why);
	}
	return count;
}

static void patience(const struct nvmeload *l, int64_t start_ms)
{
	if (nvmedrv_now_ms() - start_ms > l->n->timeout_ms)
		fail_msg("no completion within %d ms, %llu so far", l->n->timeout_ms,
			 (unsigned long long)l->done);
}

static void rest(struct nvmeload *l)
{
	int rc = nvmedrv_idle(l->n);

	if (rc)
		fail_msg("idle: %d %s", rc, l->n->why);
	pause_us(20);
}

void nvmeload_run(struct nvmeload *l, uint64_t count)
{
	uint64_t end = l->done + count;
	int64_t last = nvmedrv_now_ms();

	while (l->done < end) {
		nvmeload_fill(l);
		if (nvmeload_reap(l))
			last = nvmedrv_now_ms();
		else
			rest(l);
		patience(l, last);
	}
}

static bool in_flight(const struct nvmeload *l)
{
	for (unsigned q = 0; q < l->queues; q++)
		for (unsigned i = 0; i < NVMELOAD_DEPTH; i++)
			if (l->slot[q][i].busy)
				return true;
	return false;
}

void nvmeload_drain(struct nvmeload *l)
{
	int64_t last = nvmedrv_now_ms();

	while (in_flight(l)) {
		if (nvmeload_reap(l))
			last = nvmedrv_now_ms();
		else
			rest(l);
		patience(l, last);
	}
}

void nvmeload_forget(struct nvmeload *l)
{
	for (unsigned q = 0; q < l->queues; q++)
		for (unsigned i = 0; i < NVMELOAD_DEPTH; i++)
			l->slot[q][i].busy = false;
	memset(l->busy, 0, sizeof(l->busy));
}

/* ---- what may not change after a reset ---- */

#define POISON 0x5b

typedef void range_fn(uint8_t *at, uint64_t len, const char *what, unsigned which);

static void ranges(struct nvmeload *l, range_fn *fn)
{
	for (unsigned q = 0; q < l->queues; q++)
		for (unsigned i = 0; i < NVMELOAD_DEPTH; i++)
			fn(l->slot[q][i].host, io_bytes(l), "data of queue", q + 1);
	for (unsigned q = 1; q <= l->queues; q++) {
		const struct nvmedrv_cq *cq = &l->n->cq[q];

		if (cq->room_bytes)
			fn(nvmedrv_host(l->n, cq->iova, cq->room_bytes), cq->room_bytes,
			   "completion queue", q);
	}
}

static void range_fill(uint8_t *at, uint64_t len, const char *what, unsigned which)
{
	memset(at, POISON, len);
}

static void range_check(uint8_t *at, uint64_t len, const char *what, unsigned which)
{
	for (uint64_t i = 0; i < len; i++) {
		if (at[i] != POISON)
			fail_msg("%s %u: byte %llu was written after the reset", what, which,
				 (unsigned long long)i);
	}
}

void nvmeload_poison(struct nvmeload *l)
{
	ranges(l, range_fill);
}

void nvmeload_poison_check(struct nvmeload *l)
{
	ranges(l, range_check);
}

void nvmeload_verify(struct nvmeload *l)
{
	struct nvmeload_slot *s = &l->slot[0][0];

	nvmeload_drain(l);
	s->blocks = NVMELOAD_IO_MAX;
	for (s->lba = 0; s->lba < NVMELOAD_BLOCKS; s->lba += s->blocks) {
		int rc = nvmedrv_rw(l->n, s->sqid, SPEC_NVME_READ, l->nsid, s->lba, s->blocks,
				    s->iova, l->block_bytes);

		if (rc)
			fail_msg("read at %u: %d %s", s->lba, rc, l->n->why);
		check_read(l, s);
	}
}
