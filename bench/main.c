/* Options and output of vhostd-bench; see bench.h and docs/internals/bench.md. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static const char help[] =
	"usage: vhostd-bench --socket PATH [options]   drive a vhost-user-blk server\n"
	"       vhostd-bench --socket PATH --scsi[=TARGET] [options]   vhost-user-scsi, LUN 0\n"
	"       vhostd-bench --socket PATH --nvme [--trapped] [options]   NVMe over vfio-user\n"
	"       vhostd-bench --socket PATH --nvme-vhost [options]   vhost-user-nvme\n"
	"       vhostd-bench --floor null|ram|eventfd  measure the bare loop (also beside "
	"--socket)\n"
	"       vhostd-bench --ping-pong               one-way core-to-core latency\n"
	"       vhostd-bench --hold 'PATH%u' --hold-count N   keep N idle connections\n"
	"  --rw randread|randwrite|read|write|randrw   (randread)\n"
	"  --bs BYTES (4096)  --qd N (32)  --queues N (1)  --queue-size N (fits)  --span BYTES\n"
	"  --packed  --indirect  --event-idx  --call (sleep on the call descriptor)\n"
	"  --seconds S (2)  --warmup S (0.2)  --count N (instead of seconds)  --verify\n"
	"  --server-pid PID (CPU time per request)  --cpu N  --floor-cpu N  --json\n"
	"  --load (the machine is not measured: for tests)\n";

enum {
	O_SOCKET = 256,
	O_RW,
	O_BS,
	O_QD,
	O_QUEUES,
	O_QSIZE,
	O_SPAN,
	O_PACKED,
	O_INDIRECT,
	O_EVENT,
	O_CALL,
	O_SECONDS,
	O_WARMUP,
	O_COUNT,
	O_VERIFY,
	O_PID,
	O_CPU,
	O_FCPU,
	O_JSON,
	O_FLOOR,
	O_PING,
	O_HOLD,
	O_HCOUNT,
	O_HQUEUES,
	O_HELP,
	O_SEED,
	O_SCSI,
	O_NVME,
	O_NVME_VHOST,
	O_TRAPPED,
	O_LOAD,
};

static const struct option longs[] = {
	{ "socket", 1, 0, O_SOCKET },
	{ "rw", 1, 0, O_RW },
	{ "bs", 1, 0, O_BS },
	{ "qd", 1, 0, O_QD },
	{ "queues", 1, 0, O_QUEUES },
	{ "queue-size", 1, 0, O_QSIZE },
	{ "span", 1, 0, O_SPAN },
	{ "size", 1, 0, O_SPAN },
	{ "packed", 0, 0, O_PACKED },
	{ "indirect", 0, 0, O_INDIRECT },
	{ "event-idx", 0, 0, O_EVENT },
	{ "call", 0, 0, O_CALL },
	{ "seconds", 1, 0, O_SECONDS },
	{ "warmup", 1, 0, O_WARMUP },
	{ "count", 1, 0, O_COUNT },
	{ "verify", 0, 0, O_VERIFY },
	{ "server-pid", 1, 0, O_PID },
	{ "cpu", 1, 0, O_CPU },
	{ "floor-cpu", 1, 0, O_FCPU },
	{ "json", 0, 0, O_JSON },
	{ "floor", 1, 0, O_FLOOR },
	{ "ping-pong", 0, 0, O_PING },
	{ "hold", 1, 0, O_HOLD },
	{ "hold-count", 1, 0, O_HCOUNT },
	{ "hold-queues", 1, 0, O_HQUEUES },
	{ "help", 0, 0, O_HELP },
	{ "seed", 1, 0, O_SEED },
	{ "scsi", 2, 0, O_SCSI },
	{ "nvme", 0, 0, O_NVME },
	{ "nvme-vhost", 0, 0, O_NVME_VHOST },
	{ "trapped", 0, 0, O_TRAPPED },
	{ "load", 0, 0, O_LOAD },
	{ 0, 0, 0, 0 },
};

static void bad(const char *name, const char *value, const char *expected)
{
	fprintf(stderr, "vhostd-bench: --%s: expected %s, got %s\n", name, expected, value);
	exit(2);
}

static void set_rw(struct bench_opts *o, const char *rw)
{
	o->rw = rw;
	o->random = !strncmp(rw, "rand", 4);
	o->write_percent = strstr(rw, "write") ? 100 : strstr(rw, "rw") ? 50 : 0;
	if (strcmp(rw, "randread") && strcmp(rw, "randwrite") && strcmp(rw, "read") &&
	    strcmp(rw, "write") && strcmp(rw, "randrw"))
		bad("rw", rw, "randread, randwrite, read, write or randrw");
}

static void set_floor(struct bench_opts *o, const char *name)
{
	if (!strcmp(name, "null"))
		o->floor = FLOOR_NULL;
	else if (!strcmp(name, "ram"))
		o->floor = FLOOR_RAM;
	else if (!strcmp(name, "eventfd"))
		o->floor = FLOOR_EVENTFD;
	else
		bad("floor", name, "null, ram or eventfd");
}

static uint64_t bytes_of(const char *s)
{
	char *end;
	uint64_t v = strtoull(s, &end, 0);

	switch (*end) {
	case 'G':
		v <<= 10;
		/* fall through */
	case 'M':
		v <<= 10;
		/* fall through */
	case 'K':
		v <<= 10;
		break;
	default:
		break;
	}
	return v;
}

static void set_flag(struct bench_opts *o, int c)
{
	o->packed |= c == O_PACKED;
	o->indirect |= c == O_INDIRECT;
	o->event_idx |= c == O_EVENT;
	o->call |= c == O_CALL;
	o->verify |= c == O_VERIFY;
	o->json |= c == O_JSON;
	o->pingpong |= c == O_PING;
	o->load |= c == O_LOAD;
	o->scsi |= c == O_SCSI;
	o->trapped |= c == O_TRAPPED;
	if (c == O_NVME || c == O_NVME_VHOST)
		o->nvme = c == O_NVME ? NVME_VFIO : NVME_VHOST;
}

static void set_number(struct bench_opts *o, int c, const char *s)
{
	uint64_t v = bytes_of(s);

	o->bs = c == O_BS ? (unsigned)v : o->bs;
	o->qd = c == O_QD ? (unsigned)v : o->qd;
	o->queues = c == O_QUEUES ? (unsigned)v : o->queues;
	o->queue_size = c == O_QSIZE ? (unsigned)v : o->queue_size;
	o->span = c == O_SPAN ? v : o->span;
	o->count = c == O_COUNT ? v : o->count;
	o->seed = c == O_SEED ? v | 1 : o->seed;
	o->server_pid = c == O_PID ? (int)v : o->server_pid;
	o->cpu = c == O_CPU ? (int)v : o->cpu;
	o->floor_cpu = c == O_FCPU ? (int)v : o->floor_cpu;
	o->hold_count = c == O_HCOUNT ? (unsigned)v : o->hold_count;
	o->hold_queues = c == O_HQUEUES ? (unsigned)v : o->hold_queues;
	o->scsi_target = c == O_SCSI ? (unsigned)v : o->scsi_target;
	o->scsi |= c == O_SCSI;
	o->seconds = c == O_SECONDS ? strtod(s, NULL) : o->seconds;
	o->warmup_seconds = c == O_WARMUP ? strtod(s, NULL) : o->warmup_seconds;
}

static void parse(struct bench_opts *o, int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		if (c == 'h' || c == O_HELP || c == '?') {
			fputs(help, c == '?' ? stderr : stdout);
			exit(c == '?' ? 2 : 0);
		} else if (c == O_SOCKET)
			o->socket = optarg;
		else if (c == O_HOLD)
			o->hold = optarg;
		else if (c == O_RW)
			set_rw(o, optarg);
		else if (c == O_FLOOR)
			set_floor(o, optarg);
		else if (optarg)
			set_number(o, c, optarg);
		else
			set_flag(o, c);
	}
}

static void check(struct bench_opts *o)
{
	/* Of an NVMe queue one entry stays empty. */
	unsigned need = o->nvme ? o->qd + 1 : o->qd * (o->indirect ? 1 : 3);
	char got[32];

	snprintf(got, sizeof(got), "%u", o->bs);
	if (o->bs < 512 || o->bs % 512 || o->bs > (4u << 20))
		bad("bs", got, "a multiple of 512 up to 4M");
	snprintf(got, sizeof(got), "%u", o->qd);
	if (!o->qd || o->qd > BENCH_QD_MAX)
		bad("qd", got, "1..1024");
	snprintf(got, sizeof(got), "%u", o->queues);
	if (!o->queues || o->queues + (o->scsi ? 2 : 0) > FE_QUEUE_MAX)
		bad("queues", got, o->scsi ? "1..254" : "1..256");
	snprintf(got, sizeof(got), "%u", o->scsi_target);
	if (o->scsi_target > 255)
		bad("scsi", got, "a target, 0..255");
	for (unsigned n = 64; !o->queue_size; n *= 2)
		o->queue_size = n >= need ? n : 0;
	snprintf(got, sizeof(got), "%u", o->queue_size);
	if (o->queue_size < need || o->queue_size > 32768 || (o->queue_size & (o->queue_size - 1)))
		bad("queue-size", got, "a power of two that holds every request");
}

static void print(const struct bench_opts *o, const char *who, const struct bench_result *r)
{
	if (o->json) {
		printf("\"%s\": {\"ios\": %llu, \"errors\": %llu, \"mismatches\": %llu, "
		       "\"kicks\": %llu, \"seconds\": %.4f, \"iops\": %.1f, \"p50_ns\": %.0f, "
		       "\"p90_ns\": %.0f, \"p99_ns\": %.0f, \"p999_ns\": %.0f, \"max_ns\": %.0f, "
		       "\"mean_batch\": %.2f, \"cpu_ns_per_io\": %.2f}",
		       who, (unsigned long long)r->ios, (unsigned long long)r->errors,
		       (unsigned long long)r->mismatches, (unsigned long long)r->kicks, r->seconds,
		       r->iops, r->p50_ns, r->p90_ns, r->p99_ns, r->p999_ns, r->max_ns,
		       r->mean_batch, r->server_ns_per_io);
		return;
	}
	printf("%-8s %.0f IOPS, %llu in %.2f s, errors %llu, mismatches %llu, kicks %llu, "
	       "batch %.1f\n",
	       who, r->iops, (unsigned long long)r->ios, r->seconds, (unsigned long long)r->errors,
	       (unsigned long long)r->mismatches, (unsigned long long)r->kicks, r->mean_batch);
	printf("         latency ns p50 %.0f p90 %.0f p99 %.0f p99.9 %.0f max %.0f\n", r->p50_ns,
	       r->p90_ns, r->p99_ns, r->p999_ns, r->max_ns);
	if (r->server_ns_per_io >= 0)
		printf("         CPU %.1f ns per I/O\n", r->server_ns_per_io);
}

static void prepare(struct bench *b, const struct bench_opts *o, double tick_ns)
{
	memset(b, 0, sizeof(*b));
	b->o = *o;
	b->rng = o->seed;
	b->tick_ns = tick_ns;
	fe_init(&b->fe);
	b->fe.timeout_ms = 60000;
}

static void cleanup(struct bench *b)
{
	for (unsigned i = 0; i < b->o.queues; i++) {
		free(b->q[i].slot);
		free(b->q[i].slot_of_head);
	}
	if (b->o.nvme)
		bench_nvme_cleanup(b);
	else
		fe_fini(&b->fe);
}

static int run_floor(struct bench *b, const struct bench_opts *o, double tick_ns)
{
	struct bench_result r;
	struct floor *f;
	double cpu;

	prepare(b, o, tick_ns);
	b->o.span = o->span ? o->span : 256ull << 20;
	b->o.call = false; /* the floor polls and never notifies */
	b->o.scsi = false; /* and knows block requests only */
	b->o.nvme = NVME_NONE;
	b->span_blocks = b->o.span / o->bs;
	if (bench_local(b) || !(f = floor_start(b))) {
		fprintf(stderr, "vhostd-bench: no memory for the floor\n");
		return 1;
	}
	bench_run(b, o->warmup_seconds, 0, &r);
	cpu = floor_cpu_seconds(f);
	bench_run(b, o->seconds, o->count, &r);
	r.server_cpu_seconds = floor_cpu_seconds(f) - cpu;
	r.server_ns_per_io = r.ios ? r.server_cpu_seconds * 1e9 / (double)r.ios : 0;
	floor_stop(f);
	print(o, "floor", &r);
	cleanup(b);
	return 0;
}

static int run_server(struct bench *b, const struct bench_opts *o, double tick_ns)
{
	struct bench_result r;
	double cpu;
	int rc;

	prepare(b, o, tick_ns);
	rc = bench_connect(b);
	if (rc) {
		fprintf(stderr, "vhostd-bench: %s: %s %s\n", o->socket, strerror(-rc),
			o->nvme ? b->drv.why : b->fe.why);
		return 1;
	}
	b->span_blocks = b->o.span / o->bs;
	if (!o->count && o->warmup_seconds > 0)
		bench_run(b, o->warmup_seconds, 0, &r);
	cpu = o->server_pid ? cpu_seconds_of_pid(o->server_pid) : -1;
	bench_run(b, o->seconds, o->count, &r);
	if (cpu >= 0 && r.ios) {
		r.server_cpu_seconds = cpu_seconds_of_pid(o->server_pid) - cpu;
		r.server_ns_per_io = r.server_cpu_seconds * 1e9 / (double)r.ios;
	}
	print(o, "server", &r);
	if (o->scsi && r.errors)
		fprintf(stderr,
			"vhostd-bench: first error: response %u, status 0x%02x, sense "
			"%02x/%02x/%02x\n",
			b->scsi_error.response, b->scsi_error.status, b->scsi_error.sense[2] & 15,
			b->scsi_error.sense[12], b->scsi_error.sense[13]);
	rc = r.errors || r.mismatches ? 1 : 0;
	if (o->nvme ? bench_nvme_down(b) : fe_down(&b->fe))
		rc = 1;
	cleanup(b);
	return rc;
}

static void print_number(const struct bench_opts *o, const char *name, double ns)
{
	if (o->json)
		printf("\"%s\": %.1f", name, ns);
	else
		printf("%-8s %.1f ns\n", name, ns);
}

int main(int argc, char **argv)
{
	static struct bench b;
	struct bench_opts o = { .bs = 4096,
				.qd = 32,
				.queues = 1,
				.seconds = 2,
				.cpu = -1,
				.floor_cpu = -1,
				.warmup_seconds = 0.2,
				.hold_queues = 4,
				.seed = 88172645463325252ull };
	double tick_ns;
	int rc = 0;

	set_rw(&o, "randread");
	parse(&o, argc, argv);
	check(&o);
	if (!o.socket && !o.floor && !o.pingpong && !o.hold) {
		fputs(help, stderr);
		return 2;
	}
	if (o.hold) {
		b.o = o;
		return bench_hold(&b) ? 1 : 0;
	}
	cpu_pin(o.cpu);
	tick_ns = cpu_tick_ns();
	if (o.json)
		printf("{");
	print_number(&o, "ping_pong_ns", o.load ? 0 : cpu_pingpong_ns(o.cpu, o.floor_cpu));
	if (o.floor) {
		printf(o.json ? ", " : "");
		if (o.floor == FLOOR_EVENTFD)
			print_number(&o, "eventfd_ns",
				     floor_eventfd_ns(o.seconds, o.floor_cpu, &b.hist, tick_ns));
		else
			rc = run_floor(&b, &o, tick_ns);
	}
	if (!rc && o.socket) {
		printf(o.json ? ", " : "");
		fflush(stdout);
		rc = run_server(&b, &o, tick_ns);
	}
	if (o.json)
		printf("}\n");
	return rc;
}
