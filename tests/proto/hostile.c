/*
 * hostile MODE SECONDS [SEED]: one vhostd with two disks. One is attacked for so many seconds, on
 * the other a neighbour writes, reads back and compares all the time. Afterwards the server must
 * live, serve both, hold no more descriptors and memory than before, have said little, and exit 0
 * on SIGTERM; the neighbour must never have waited for a second. Both disks share one data loop.
 */
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hostile.h"

#ifdef __SANITIZE_ADDRESS__
#define GROWTH_KIB (48u << 10) /* the sanitizer keeps what was freed */
#else
#define GROWTH_KIB (8u << 10)
#endif

#define ATTACKED_MIB 4u
#define SLOW_US	     1000000u
#define LOG_LINE_MAX 400

struct neighbour {
	char path[400];
	bool scsi;
	pthread_t thread;
	atomic_bool stop;
	uint64_t ios, max_us, over_100ms;
	char failed[256];
};

/* The neighbour's disk: block requests, or SCSI commands to LUN 0. */
struct disk {
	struct fe fe;
	struct drv q;
	struct blkdrv b;
	struct hostile_lun l;
	bool scsi;
};

static int disk_read(struct disk *k, uint64_t block, void *to)
{
	return k->scsi ? scsidrv_read(&k->l.s, k->l.lun, block * 8, 8, 512, to)
		       : blkdrv_read(&k->b, block * 8, to, 4096);
}

static int disk_write(struct disk *k, uint64_t block, const void *from)
{
	return k->scsi ? scsidrv_write(&k->l.s, k->l.lun, block * 8, 8, 512, from)
		       : blkdrv_write(&k->b, block * 8, from, 4096);
}

static int disk_failed(struct neighbour *n, struct disk *k, const char *what)
{
	return snprintf(n->failed, sizeof(n->failed), "%s: %s %s", what,
			k->scsi ? k->l.q.why : k->q.why, k->scsi ? k->l.s.why : k->b.why);
}

static int neighbour_io(struct neighbour *n, struct disk *k, uint8_t *shadow)
{
	static uint64_t turn;
	uint64_t block = turn * 7 % 256, begin = now_us(), took;
	uint8_t *want = shadow + block * 4096, got[4096];

	if (turn++ & 1) {
		fill_pattern(want, 4096, turn);
		if (disk_write(k, block, want))
			return disk_failed(n, k, "write");
	}
	if (disk_read(k, block, got))
		return disk_failed(n, k, "read");
	if (memcmp(want, got, 4096))
		return snprintf(n->failed, sizeof(n->failed), "wrong data in block %llu",
				(unsigned long long)block);
	took = now_us() - begin;
	n->max_us = took > n->max_us ? took : n->max_us;
	n->over_100ms += took > 100000;
	n->ios++;
	return 0;
}

static int disk_up(struct neighbour *n, struct disk *k)
{
	int rc;

	k->scsi = n->scsi;
	if (n->scsi)
		return hostile_lun_up(&k->l, n->path, 10000) && !scsidrv_ready(&k->l.s, k->l.lun)
			       ? 0
			       : -1;
	fe_init(&k->fe);
	k->fe.timeout_ms = 10000;
	rc = fe_connect(&k->fe, n->path);
	if (!rc)
		rc = fe_up(&k->fe, &(struct fe_up_opts){ .event_idx = true, .indirect = true });
	if (!rc)
		rc = drv_init(&k->q, &k->fe, 0);
	return rc ? rc : blkdrv_init(&k->b, &k->q, 4096);
}

static void *neighbour_main(void *arg)
{
	static uint8_t shadow[256 * 4096];
	struct neighbour *n = arg;
	static struct disk k;
	int rc = disk_up(n, &k);

	if (rc)
		snprintf(n->failed, sizeof(n->failed), "start: %d %s", rc,
			 k.scsi ? k.l.fe.why : k.fe.why);
	while (!rc && !n->stop) {
		rc = neighbour_io(n, &k, shadow);
		pause_us(200);
	}
	if (k.scsi) {
		hostile_lun_down(&k.l);
	} else {
		drv_fini(&k.q);
		fe_fini(&k.fe);
	}
	return NULL;
}

static void one_case(struct hostile *h, const struct hostile_mode *m)
{
	fe_init(&h->fe);
	h->has_queue = false;
	m->run(h);
	if (h->has_queue)
		drv_fini(&h->q);
	fe_fini(&h->fe);
}

static bool still_serves(struct hostile *h)
{
	uint8_t out[4096], in[4096];
	bool ok;

	if (h->kind == HOSTILE_SCSI)
		return hostile_lun_serves(h->path);
	if (h->kind != HOSTILE_BLK)
		return hostile_nvme_serves(h->path, h->kind == HOSTILE_NVME_VHOST) &&
		       hostile_nvme_serves(h->other, h->kind == HOSTILE_NVME_VHOST);
	fe_init(&h->fe);
	h->fe.timeout_ms = 15000;
	ok = hostile_up(h, &(struct fe_up_opts){ 0 });
	fill_pattern(out, sizeof(out), 1);
	ok = ok && !blkdrv_write(&h->b, 0, out, 4096) && !blkdrv_read(&h->b, 0, in, 4096) &&
	     !memcmp(out, in, 4096);
	if (h->has_queue)
		drv_fini(&h->q);
	h->has_queue = false;
	fe_fini(&h->fe);
	return ok;
}

/* Writes all of the attacked RAM disk once: what it holds from then on is no growth. */
static bool prefill(struct hostile *h)
{
	static uint8_t data[4096] = { 1 };
	bool ok;

	if (h->kind == HOSTILE_SCSI)
		return hostile_lun_prefill(h->path, ATTACKED_MIB << 20);
	if (h->kind != HOSTILE_BLK)
		return hostile_nvme_prefill(h->path, h->kind == HOSTILE_NVME_VHOST,
					    ATTACKED_MIB << 20) &&
		       hostile_nvme_prefill(h->other, h->kind == HOSTILE_NVME_VHOST,
					    ATTACKED_MIB << 20);
	fe_init(&h->fe);
	ok = hostile_up(h, &(struct fe_up_opts){ 0 });
	for (uint64_t sector = 0; ok && sector < ATTACKED_MIB * 2048; sector += 8)
		ok = !blkdrv_write(&h->b, sector, data, sizeof(data));
	if (h->has_queue)
		drv_fini(&h->q);
	h->has_queue = false;
	fe_fini(&h->fe);
	return ok;
}

static unsigned log_lines(struct daemon *d)
{
	FILE *f = fopen(daemon_path(d, "log"), "r");
	unsigned n = 0;
	int c;

	while (f && (c = getc(f)) != EOF)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

static int complain(struct daemon *d, const char *what, uint64_t got, uint64_t limit)
{
	fprintf(stderr, "FAILED: %s: %llu, limit %llu\n", what, (unsigned long long)got,
		(unsigned long long)limit);
	daemon_log_show(d);
	return 1;
}

void hostile_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

struct marks {
	unsigned fds;
	unsigned long rss_kib;
};

static int judge(struct daemon *d, struct neighbour *n, struct hostile *h, const struct marks *base)
{
	unsigned fds;
	unsigned long rss;
	int bad = 0;

	if (!daemon_alive(d))
		return complain(d, "the server is dead", 0, 0);
	if (!still_serves(h))
		bad |= complain(d, "the attacked disk is not served any more", 0, 0);
	fds = daemon_fd_settled(d, base->fds);
	rss = daemon_rss_kib(d);
	n->stop = true;
	pthread_join(n->thread, NULL);
	printf("neighbour: %llu round trips, slowest %.1f ms, %llu over 100 ms; descriptors %u -> "
	       "%u; "
	       "memory %lu -> %lu KiB; %u log lines\n",
	       (unsigned long long)n->ios, (double)n->max_us / 1000,
	       (unsigned long long)n->over_100ms, base->fds, fds, base->rss_kib, rss, log_lines(d));
	if (n->failed[0]) {
		fprintf(stderr, "neighbour: %s\n", n->failed);
		bad |= complain(d, "the neighbour failed after so many round trips", n->ios, 0);
	}
	if (n->max_us > SLOW_US)
		bad |= complain(d, "the neighbour waited, us", n->max_us, SLOW_US);
	if (fds > base->fds)
		bad |= complain(d, "descriptors", fds, base->fds);
	if (rss > base->rss_kib + GROWTH_KIB)
		bad |= complain(d, "memory, KiB", rss, base->rss_kib + GROWTH_KIB);
	if (log_lines(d) > LOG_LINE_MAX)
		bad |= complain(d, "log lines", log_lines(d), LOG_LINE_MAX);
	return bad;
}

/* SIGTERM, without cmocka round it. */
static int end_daemon(struct daemon *d)
{
	int bad = daemon_end(d);

	if (bad)
		complain(d, "the end after SIGTERM, wait status", (uint64_t)bad, 0);
	if (daemon_log_check(d))
		bad = complain(d, "a report in the log", 1, 0);
	daemon_fini(d);
	return bad;
}

static void start(struct daemon *d, enum hostile_kind kind)
{
	static const char disk[] = "blk,socket=@n.sock,ram=8M,name=neighbour";

	switch (kind) {
	case HOSTILE_BLK:
		daemon_start(d, "--cores", "1", "--device",
			     "blk,socket=@a.sock,ram=4M,num-queues=4,name=attacked", "--device",
			     disk, NULL);
		break;
	case HOSTILE_SCSI:
		daemon_start(d, "--cores", "1", "--device",
			     "scsi,socket=@a.sock,target=0:ram=4M,target=1:ram=4M,name=attacked",
			     "--device", "scsi,socket=@n.sock,target=0:ram=8M,name=neighbour",
			     NULL);
		break;
	case HOSTILE_NVME:
		daemon_start(d, "--cores", "1", "--device",
			     "nvme,socket=@a.sock,doorbells=mapped,num-queues=4,ns=1:ram=4M",
			     "--device",
			     "nvme,socket=@b.sock,num-queues=4,ns=1:ram=4M,ns=2:null=1G",
			     "--device", disk, NULL);
		break;
	case HOSTILE_NVME_VHOST:
		daemon_start(d, "--cores", "1", "--device",
			     "nvme,socket=@a.sock,transport=vhost-user,num-queues=4,ns=1:ram=4M",
			     "--device",
			     "nvme,socket=@b.sock,transport=vhost-user,num-queues=4,ns=1:ram=4M",
			     "--device", disk, NULL);
		break;
	}
}

static int run(const struct hostile_mode *m, double seconds)
{
	struct neighbour *n = calloc(1, sizeof(*n));
	struct hostile *h = calloc(1, sizeof(*h));
	struct daemon d;
	struct marks base;
	uint64_t cases = 0, end;
	int bad;

	setenv("ASAN_OPTIONS", "quarantine_size_mb=2:malloc_context_size=10", 0);
	daemon_init(&d);
	h->kind = m->kind;
	n->scsi = m->kind == HOSTILE_SCSI;
	start(&d, m->kind);
	snprintf(n->path, sizeof(n->path), "%s", daemon_path(&d, "n.sock"));
	h->path = strdup(daemon_path(&d, "a.sock"));
	h->other = strdup(daemon_path(&d, "b.sock"));
	pthread_create(&n->thread, NULL, neighbour_main, n);
	if (!prefill(h))
		return complain(&d, "the disk to attack cannot be written", 0, 0);
	/* Warm: what one session of each kind leaves behind is no growth. */
	for (unsigned i = 0; i < 3; i++)
		one_case(h, m);
	pause_us(200000);
	base = (struct marks){ daemon_fd_count(&d), daemon_rss_kib(&d) };
	end = now_us() + (uint64_t)(seconds * 1e6);
	while (now_us() < end && daemon_alive(&d) && !n->failed[0]) {
		one_case(h, m);
		cases++;
	}
	printf("%s: %llu cases; ", m->name, (unsigned long long)cases);
	fflush(stdout);
	bad = judge(&d, n, h, &base);
	bad |= d.pid ? end_daemon(&d) : 1;
	free((char *)(uintptr_t)h->path);
	free((char *)(uintptr_t)h->other);
	free(h);
	free(n);
	return bad;
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 0) : now_us() * 0x9e3779b97f4a7c15ull;

	signal(SIGPIPE, SIG_IGN);
	for (unsigned i = 0; argc > 2 && i < hostile_mode_count; i++) {
		if (strcmp(argv[1], hostile_modes[i].name))
			continue;
		printf("hostile %s, seed 0x%llx\n", argv[1], (unsigned long long)seed);
		fflush(stdout);
		hostile_seed(seed);
		return run(&hostile_modes[i], strtod(argv[2], NULL)) ? 1 : 0;
	}
	fprintf(stderr, "usage: hostile MODE SECONDS [SEED]; modes:");
	for (unsigned i = 0; i < hostile_mode_count; i++)
		fprintf(stderr, " %s", hostile_modes[i].name);
	fprintf(stderr, "\n");
	return 2;
}
