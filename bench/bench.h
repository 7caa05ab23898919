/*
 * vhostd-bench: a polled vhost-user front-end that must never be the limit.
 *
 * Every request is prebuilt: header and status share one cache line, data follows elsewhere, the
 * descriptors (or indirect table) are written once. To submit again the client stores a sector
 * number and a ring entry. bench/ring.c has both sides of the ring: the client's, and the bare
 * device loop of --floor, which pops, completes (null) or copies (ram) and nothing else.
 *
 * Two devices: virtio-blk, and with --scsi virtio-scsi, whose request queues follow a control and
 * an event queue that stay empty. Queue i of the bench is ring i of the former, ring i + 2 of the
 * latter.
 *
 * With --nvme (vfio-user) and --nvme-vhost (vhost-user-nvme) queue i is the NVMe queue pair i + 1;
 * a request is a prebuilt submission queue entry.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "fe.h"
#include "nvmedrv.h"
#include "vfufe.h"
#include "vnvmefe.h"

#define BENCH_QD_MAX 1024

enum bench_floor {
	FLOOR_NONE,
	FLOOR_NULL,
	FLOOR_RAM,
	FLOOR_EVENTFD
};

enum bench_nvme {
	NVME_NONE,
	NVME_VFIO,
	NVME_VHOST
};

struct bench_opts {
	const char *socket, *rw, *hold;
	unsigned bs, qd, queues, queue_size, hold_count, hold_queues;
	bool packed, indirect, event_idx, call, json, verify, pingpong, load, random, scsi;
	unsigned scsi_target;
	unsigned write_percent;
	double seconds, warmup_seconds;
	uint64_t count, span;
	int server_pid, cpu, floor_cpu;
	enum bench_floor floor;
	enum bench_nvme nvme;
	bool trapped; /* doorbells by message, and shadow doorbells, though they could be mapped */
	uint64_t seed;
};

/* Log-linear histogram of ticks: 64 steps to each power of two. */
#define HIST_SUB_BITS 6
#define HIST_BUCKETS  ((65 - HIST_SUB_BITS) << HIST_SUB_BITS)

struct hist {
	uint64_t count[HIST_BUCKETS];
	uint64_t total, max;
};

static inline void hist_add(struct hist *h, uint64_t v)
{
	unsigned top = 63u - (unsigned)__builtin_clzll(v | 1);
	unsigned shift = top > HIST_SUB_BITS ? top - HIST_SUB_BITS : 0;

	h->count[(shift << HIST_SUB_BITS) + (v >> shift)]++;
	h->total++;
	if (v > h->max)
		h->max = v;
}

uint64_t hist_percentile(const struct hist *h, double p);

struct slot {
	union {
		struct spec_blk_hdr *hdr;
		struct spec_scsi_req *scsi;
	};
	/* Same cache line as the header: the status byte, or of a SCSI response status and
	 * response. */
	union {
		uint8_t *status;
		uint16_t *scsi_status;
	};
	uint64_t *bytes;
	uint64_t hdr_gpa, bytes_gpa, table_gpa;
	uint64_t sector512;
	struct spec_pdesc pdesc[3]; /* packed template, flags without AVAIL and USED */
	uint64_t start_tick;
	struct spec_nvme_sqe *sqe; /* prebuilt */
	uint16_t nvme_status;
	uint16_t head; /* split */
	bool is_write;
};

struct nvme_pair {
	struct spec_nvme_sqe *sqes, *built;
	struct spec_nvme_cqe *cqes;
	uint32_t *tail_doorbell, *head_doorbell; /* mapped, or of the shadow page */
	uint32_t *tail_event, *head_event;	 /* shadow doorbells: who wants a message */
	uint32_t size, tail, told, head;
	unsigned qid; /* 0: not NVMe */
	bool phase;
	int call_fd;
};

struct bench_queue {
	struct nvme_pair nvme;
	struct fe_vring *vr;
	uint16_t size, mask, descs; /* descriptors a request takes in the ring: 1 or 3 */
	bool packed, event_idx, wrap_avail, wrap_used;
	uint16_t avail_idx, used_idx;
	struct spec_desc *desc;
	struct spec_avail *avail;
	struct spec_used *used;
	uint16_t *avail_event;
	struct spec_pdesc *pdesc;
	struct spec_pevent *driver_event, *device_event;
	struct slot *slot;
	uint16_t qd;
	uint16_t *slot_of_head;
	uint64_t kicks;
};

struct bench_result {
	uint64_t ios, errors, mismatches, kicks;
	double seconds, iops;
	double p50_ns, p90_ns, p99_ns, p999_ns, max_ns, mean_batch;
	double server_cpu_seconds, server_ns_per_io; /* < 0: not known */
	double client_ns_per_io;
};

struct bench {
	struct bench_opts o;
	struct fe fe;
	uint64_t guest_gpa; /* one region: gpa - guest_gpa + guest_host */
	uint8_t *guest_host;
	struct bench_queue q[FE_QUEUE_MAX];
	uint64_t span_blocks, rng, next_block;
	struct hist hist;
	double tick_ns;
	/* --nvme */
	struct vfe vfe;
	struct vnvmefe vnvme;
	struct nvmedrv drv;
	/* --scsi, --nvme */
	uint32_t block_bytes;
	bool cdb16;			  /* beyond what READ(10) can name */
	struct spec_scsi_resp scsi_error; /* the first bad response */
};

/* Where a SCSI response lies behind its request: what is written on success ends with the line. */
#define BENCH_RESP_OFF	52
#define BENCH_HDR_BYTES 192

static inline uint64_t tick_now(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t v;

	__asm__ __volatile__("mrs %0, cntvct_el0" : "=r"(v));
	return v;
#else
#error "no cheap clock known for this machine"
#endif
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield");
#endif
}

/* setup.c */
int bench_rings_setup(struct bench *b);
int bench_connect(struct bench *b);
int bench_local(struct bench *b);
int bench_hold(struct bench *b);
int bench_slot_fill(struct bench *b, struct bench_queue *q, unsigned i, bool is_write);

/* scsi.c: the requests, and what is asked before the run */
void bench_scsi_slot(struct bench *b, struct slot *s);
int bench_scsi_start(struct bench *b, uint64_t *ret_bytes);
void bench_scsi_error(struct bench *b, const struct slot *s);

static inline void bench_scsi_aim(const struct bench *b, struct slot *s)
{
	uint64_t lba = s->sector512 * 512 / b->block_bytes;

	if (b->cdb16) {
		lba = __builtin_bswap64(lba);
		__builtin_memcpy(s->scsi->cdb + 2, &lba, 8);
	} else {
		uint32_t lba32 = __builtin_bswap32((uint32_t)lba);

		__builtin_memcpy(s->scsi->cdb + 2, &lba32, 4);
	}
	*s->scsi_status = 0xffff;
}

/* nvme.c */
int bench_nvme_connect(struct bench *b);
int bench_nvme_hold(struct bench *b);
int bench_nvme_down(struct bench *b);
void bench_nvme_cleanup(struct bench *b);
void nvme_submit(struct bench_queue *q, unsigned slot);
void nvme_publish(struct bench *b, struct bench_queue *q);
unsigned nvme_reap(struct bench *b, struct bench_queue *q, uint16_t *ret_slots, unsigned max);

static inline void bench_nvme_aim(const struct bench *b, struct slot *s)
{
	uint64_t lba = s->sector512 * 512 / b->block_bytes;

	s->sqe->cdw10 = (uint32_t)lba;
	s->sqe->cdw11 = (uint32_t)(lba >> 32);
}

/* client.c */
void bench_run(struct bench *b, double seconds, uint64_t count, struct bench_result *ret);

/* ring.c */
void ring_submit(struct bench_queue *q, unsigned slot);
void ring_publish(struct bench *b, struct bench_queue *q, uint16_t old_avail);
unsigned ring_reap(struct bench *b, struct bench_queue *q, uint16_t *ret_slots, unsigned max);
void ring_call_arm(struct bench_queue *q, bool on);

/* floor.c */
struct floor;
struct floor *floor_start(struct bench *b);
double floor_cpu_seconds(struct floor *f);
void floor_stop(struct floor *f);
double floor_eventfd_ns(double seconds, int cpu, struct hist *h, double tick_ns);

/* cpu.c */
double cpu_tick_ns(void);
double cpu_seconds_of_pid(int pid);
double cpu_pingpong_ns(int cpu_a, int cpu_b);
double cpu_now_seconds(void);
void cpu_pin(int cpu);

#endif
