/*
 * The bare loops that a server is compared with: the same ring, no protocol, no checks.
 *
 * null and ram run in a second thread on the client's own rings and CPU time is that thread's.
 * They look at each descriptor as a server must (the address of header, data and status comes
 * from the ring), but trust it. eventfd is the round trip between two sleeping processes.
 */
#include <pthread.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

struct floor {
	struct bench *b;
	pthread_t thread;
	clockid_t clock;
	uint8_t *ram;
	bool stop;
	struct floor_queue {
		uint16_t avail_idx, used_idx;
		bool wrap;
	} q[FE_QUEUE_MAX];
};

static inline uint8_t *at(struct floor *f, uint64_t gpa)
{
	return f->b->guest_host + (gpa - f->b->guest_gpa);
}

static inline uint32_t serve(struct floor *f, uint64_t hdr_gpa, uint64_t bytes_gpa, uint32_t len,
			     uint64_t status_gpa)
{
	struct spec_blk_hdr *hdr = (struct spec_blk_hdr *)at(f, hdr_gpa);
	uint32_t type = hdr->type;
	uint64_t off = hdr->sector * 512;

	if (f->ram) {
		if (type == SPEC_BLK_IN)
			memcpy(at(f, bytes_gpa), f->ram + off, len);
		else
			memcpy(f->ram + off, at(f, bytes_gpa), len);
	}
	*at(f, status_gpa) = SPEC_BLK_S_OK;
	return type == SPEC_BLK_IN ? len + 1 : 1;
}

static unsigned split_poll(struct floor *f, struct bench_queue *q, struct floor_queue *fq)
{
	uint16_t idx = __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);
	unsigned n = (uint16_t)(idx - fq->avail_idx);

	for (unsigned i = 0; i < n; i++) {
		uint16_t next = q->avail->ring[(fq->avail_idx + i) & q->mask];

		__builtin_prefetch(&q->desc[next]);
	}
	for (; fq->avail_idx != idx; fq->avail_idx++) {
		uint16_t head = q->avail->ring[fq->avail_idx & q->mask];
		struct spec_desc *d = &q->desc[head];

		if (d->flags & SPEC_DESC_INDIRECT)
			d = (struct spec_desc *)at(f, d->addr);
		q->used->ring[fq->used_idx++ & q->mask] =
			(struct spec_used_elem){ head, serve(f, d[0].addr, d[1].addr, d[1].len,
							     d[2].addr) };
	}
	if (n)
		__atomic_store_n(&q->used->idx, fq->used_idx, __ATOMIC_RELEASE);
	return n;
}

static unsigned packed_poll(struct floor *f, struct bench_queue *q, struct floor_queue *fq)
{
	unsigned n = 0;

	for (;; n++) {
		struct spec_pdesc *d = &q->pdesc[fq->avail_idx], *c[3];
		uint16_t flags = __atomic_load_n(&d->flags, __ATOMIC_ACQUIRE), id = d->id;
		bool avail = flags & SPEC_PDESC_AVAIL, used = flags & SPEC_PDESC_USED;

		if (avail != fq->wrap || used == fq->wrap)
			return n;
		for (unsigned i = 0; i < 3; i++)
			c[i] = flags & SPEC_DESC_INDIRECT
				       ? (struct spec_pdesc *)at(f, d->addr) + i
				       : &q->pdesc[(fq->avail_idx + i) % q->size];
		d->len = serve(f, c[0]->addr, c[1]->addr, c[1]->len, c[2]->addr);
		d->id = id;
		flags = (uint16_t)(SPEC_DESC_WRITE |
				   (fq->wrap ? SPEC_PDESC_AVAIL | SPEC_PDESC_USED : 0));
		__atomic_store_n(&d->flags, flags, __ATOMIC_RELEASE);
		fq->avail_idx = (uint16_t)(fq->avail_idx + q->descs);
		if (fq->avail_idx >= q->size) {
			fq->avail_idx = (uint16_t)(fq->avail_idx - q->size);
			fq->wrap = !fq->wrap;
		}
	}
}

static void *floor_thread(void *arg)
{
	struct floor *f = arg;

	cpu_pin(f->b->o.floor_cpu);
	while (!__atomic_load_n(&f->stop, __ATOMIC_RELAXED)) {
		unsigned n = 0;

		for (unsigned k = 0; k < f->b->o.queues; k++)
			n += f->b->o.packed ? packed_poll(f, &f->b->q[k], &f->q[k])
					    : split_poll(f, &f->b->q[k], &f->q[k]);
		if (!n)
			cpu_relax();
	}
	return NULL;
}

struct floor *floor_start(struct bench *b)
{
	struct floor *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->b = b;
	for (unsigned i = 0; i < b->o.queues; i++)
		f->q[i].wrap = true;
	if (b->o.floor == FLOOR_RAM) {
		f->ram = mmap(NULL, b->o.span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			      -1, 0);
		if (f->ram == MAP_FAILED) {
			free(f);
			return NULL;
		}
		/* Large pages where the kernel has them: a floor must not pay for TLB misses. */
		madvise(f->ram, b->o.span, MADV_HUGEPAGE);
		memset(f->ram, 1, b->o.span);
	}
	if (pthread_create(&f->thread, NULL, floor_thread, f)) {
		free(f);
		return NULL;
	}
	pthread_getcpuclockid(f->thread, &f->clock);
	return f;
}

double floor_cpu_seconds(struct floor *f)
{
	struct timespec ts;

	clock_gettime(f->clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void floor_stop(struct floor *f)
{
	__atomic_store_n(&f->stop, true, __ATOMIC_RELAXED);
	pthread_join(f->thread, NULL);
	if (f->ram)
		munmap(f->ram, f->b->o.span);
	free(f);
}

static void echo(int from, int to, int cpu)
{
	uint64_t v;

	cpu_pin(cpu);
	while (read(from, &v, sizeof(v)) == sizeof(v)) {
		v = 1;
		if (write(to, &v, sizeof(v)) < 0)
			break;
	}
	_exit(0);
}

/* Median round trip; the same poll-then-read that --call does, so that only the server differs. */
double floor_eventfd_ns(double seconds, int cpu, struct hist *h, double tick_ns)
{
	int there = eventfd(0, 0), back = eventfd(0, EFD_NONBLOCK);
	double end = cpu_now_seconds() + seconds;
	pid_t pid = fork();
	uint64_t v;

	if (pid < 0)
		return -1;
	if (!pid)
		echo(there, back, cpu);
	memset(h, 0, sizeof(*h));
	while (cpu_now_seconds() < end) {
		struct pollfd p = { .fd = back, .events = POLLIN };
		uint64_t start = tick_now();

		v = 1;
		if (write(there, &v, sizeof(v)) < 0 || poll(&p, 1, 1000) != 1 ||
		    read(back, &v, sizeof(v)) < 0)
			break;
		hist_add(h, tick_now() - start);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(there);
	close(back);
	return (double)hist_percentile(h, 0.5) * tick_ns;
}
