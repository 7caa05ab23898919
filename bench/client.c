/* The hot loop: reap a batch, refill each slot, publish once. */
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define BATCH_MAX 256

static inline uint64_t next_block(struct bench *b)
{
	if (!b->o.random) {
		uint64_t n = b->next_block++;

		if (b->next_block == b->span_blocks)
			b->next_block = 0;
		return n;
	}
	b->rng ^= b->rng << 13;
	b->rng ^= b->rng >> 7;
	b->rng ^= b->rng << 17;
	return (uint64_t)(((unsigned __int128)b->rng * b->span_blocks) >> 64);
}

static void stamp(struct bench *b, struct slot *s, uint64_t sector)
{
	for (unsigned i = 0; i < b->o.bs / 512; i++)
		s->bytes[i * 64] = (sector + i) ^ 0x9e3779b97f4a7c15ull;
}

static bool stamped(struct bench *b, struct slot *s, uint64_t sector)
{
	for (unsigned i = 0; i < b->o.bs / 512; i++)
		if (s->bytes[i * 64] != ((sector + i) ^ 0x9e3779b97f4a7c15ull))
			return false;
	return true;
}

static inline void submit(struct bench *b, struct bench_queue *q, unsigned i, uint64_t now)
{
	struct slot *s = &q->slot[i];

	s->sector512 = next_block(b) * (b->o.bs / 512);
	if (b->o.nvme) {
		bench_nvme_aim(b, s);
	} else if (b->o.scsi) {
		bench_scsi_aim(b, s);
	} else {
		s->hdr->sector = s->sector512;
		*s->status = 0xff;
	}
	s->start_tick = now;
	if (b->o.verify && s->is_write)
		stamp(b, s, s->sector512);
	ring_submit(q, i);
}

static inline bool failed(struct bench *b, const struct slot *s)
{
	if (b->o.nvme)
		return s->nvme_status;
	return b->o.scsi ? *s->scsi_status != 0 : *s->status != SPEC_BLK_S_OK;
}

static unsigned reap(struct bench *b, struct bench_queue *q, uint16_t *slots,
		     struct bench_result *r)
{
	unsigned n = ring_reap(b, q, slots, BATCH_MAX);
	uint64_t now;

	if (!n)
		return 0;
	now = tick_now();
	for (unsigned i = 0; i < n; i++) {
		struct slot *s = &q->slot[slots[i] % q->qd];

		hist_add(&b->hist, now - s->start_tick);
		if (__builtin_expect(failed(b, s), 0)) {
			r->errors++;
			if (b->o.scsi)
				bench_scsi_error(b, s);
		} else if (b->o.verify && !s->is_write && !stamped(b, s, s->sector512)) {
			r->mismatches++;
		}
	}
	return n;
}

static void wait_call(struct bench *b)
{
	struct pollfd p[FE_QUEUE_MAX];
	uint64_t v;

	for (unsigned i = 0; i < b->o.queues; i++) {
		p[i].fd = b->o.nvme ? b->q[i].nvme.call_fd : b->q[i].vr->call_fd;
		p[i].events = POLLIN;
		p[i].revents = 0;
	}
	poll(p, b->o.queues, 1000);
	for (unsigned i = 0; i < b->o.queues; i++)
		if ((p[i].revents & POLLIN) && read(p[i].fd, &v, sizeof(v)) < 0)
			continue;
}

struct loop {
	uint64_t submitted, limit, batches;
	unsigned in_flight;
	bool stop;
};

static void fill(struct bench *b, struct bench_queue *q, struct loop *l, const uint16_t *slots,
		 unsigned n)
{
	uint16_t old = q->avail_idx;
	uint64_t now = tick_now();
	unsigned i;

	for (i = 0; i < n && l->submitted < l->limit && !l->stop; i++, l->submitted++)
		submit(b, q, slots ? slots[i] % q->qd : i, now);
	l->in_flight += i;
	if (i)
		ring_publish(b, q, old);
}

static bool turn(struct bench *b, struct loop *l, struct bench_result *r)
{
	uint16_t slots[BATCH_MAX];
	bool any = false;

	for (unsigned k = 0; k < b->o.queues; k++) {
		struct bench_queue *q = &b->q[k];
		unsigned n = reap(b, q, slots, r);

		if (!n)
			continue;
		any = true;
		r->ios += n;
		l->in_flight -= n;
		l->batches++;
		if (b->o.call && !b->o.nvme)
			ring_call_arm(q, true);
		fill(b, q, l, slots, n);
	}
	return any;
}

static void report(struct bench *b, struct loop *l, struct bench_result *r)
{
	const struct hist *h = &b->hist;

	r->iops = r->seconds > 0 ? (double)r->ios / r->seconds : 0;
	r->p50_ns = (double)hist_percentile(h, 0.50) * b->tick_ns;
	r->p90_ns = (double)hist_percentile(h, 0.90) * b->tick_ns;
	r->p99_ns = (double)hist_percentile(h, 0.99) * b->tick_ns;
	r->p999_ns = (double)hist_percentile(h, 0.999) * b->tick_ns;
	r->max_ns = (double)h->max * b->tick_ns;
	r->mean_batch = l->batches ? (double)r->ios / (double)l->batches : 0;
	for (unsigned k = 0; k < b->o.queues; k++)
		r->kicks += b->q[k].kicks;
}

/* Runs for seconds, or for exactly count requests when count is not 0; drains before returning. */
void bench_run(struct bench *b, double seconds, uint64_t count, struct bench_result *ret)
{
	struct loop l = { .limit = count ? count : UINT64_MAX };
	uint64_t start = tick_now(), end = UINT64_MAX, quiet = start;
	uint64_t stuck = (uint64_t)(20e9 / b->tick_ns);

	memset(ret, 0, sizeof(*ret));
	memset(&b->hist, 0, sizeof(b->hist));
	ret->server_ns_per_io = ret->server_cpu_seconds = -1;
	if (!count)
		end = start + (uint64_t)(seconds * 1e9 / b->tick_ns);
	for (unsigned k = 0; k < b->o.queues; k++) {
		b->q[k].kicks = 0;
		fill(b, &b->q[k], &l, NULL, b->q[k].qd);
	}
	while (l.in_flight) {
		uint64_t now;

		if (turn(b, &l, ret)) {
			quiet = tick_now();
			l.stop = quiet >= end;
			continue;
		}
		now = tick_now();
		if (now >= end)
			l.stop = true;
		/* A server under valgrind is slow, a dead one is silent. */
		if (now - quiet > stuck) {
			ret->errors += l.in_flight;
			break;
		}
		if (b->o.call)
			wait_call(b);
		else
			cpu_relax();
	}
	ret->seconds = (double)(tick_now() - start) * b->tick_ns / 1e9;
	report(b, &l, ret);
}
