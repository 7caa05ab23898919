/*
 * NVMe queue pairs of the bench: set up by the fake driver (nvmedrv.h), over vfio-user or
 * vhost-user-nvme, and then driven by what is here. An entry is copied as a whole to its place, the
 * batch is told with one doorbell, and completions are taken until the phase tag says no more.
 *
 * Doorbells: the mapped page of BAR 0; or the shadow page, with a message when the server asks for
 * it (EventIdx); or a message each.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "nvme_vfu.h"

#define GUEST_IOVA 0x40000000ull

/* ---- the hot loop ---- */

void nvme_submit(struct bench_queue *q, unsigned slot)
{
	struct nvme_pair *p = &q->nvme;

	p->sqes[p->tail] = *q->slot[slot].sqe;
	if (++p->tail == p->size)
		p->tail = 0;
}

static bool event_wanted(const uint32_t *event, uint32_t old, uint32_t value)
{
	uint16_t wanted;

	/* Pairs with the device's barrier between EventIdx and its last look. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	wanted = (uint16_t)__atomic_load_n(event, __ATOMIC_RELAXED);
	return (uint16_t)(value - wanted - 1) < (uint16_t)(value - old);
}

static void doorbell(struct bench *b, struct bench_queue *q, bool head, uint32_t old,
		     uint32_t value)
{
	struct nvme_pair *p = &q->nvme;
	uint32_t *word = head ? p->head_doorbell : p->tail_doorbell;
	uint32_t *event = head ? p->head_event : p->tail_event;

	if (word)
		__atomic_store_n(word, value, __ATOMIC_RELEASE);
	if (word && (!event || !event_wanted(event, old, value)))
		return;
	q->kicks++;
	if (b->drv.tr.doorbell(b->drv.tr.t, 2 * p->qid + head, value))
		b->o.seconds = 0;
}

void nvme_publish(struct bench *b, struct bench_queue *q)
{
	struct nvme_pair *p = &q->nvme;

	doorbell(b, q, false, p->told, p->tail);
	p->told = p->tail;
}

unsigned nvme_reap(struct bench *b, struct bench_queue *q, uint16_t *ret_slots, unsigned max)
{
	struct nvme_pair *p = &q->nvme;
	uint32_t old = p->head;
	unsigned n = 0;

	while (n < max) {
		struct spec_nvme_cqe *e = &p->cqes[p->head];
		uint16_t status = __atomic_load_n(&e->status, __ATOMIC_ACQUIRE);
		unsigned slot;

		if ((status & 1) != p->phase)
			break;
		slot = e->cid % q->qd;
		q->slot[slot].nvme_status = status >> 1;
		__builtin_prefetch(q->slot[slot].sqe, 1);
		ret_slots[n++] = (uint16_t)slot;
		if (++p->head == p->size) {
			p->head = 0;
			p->phase = !p->phase;
		}
	}
	if (n)
		doorbell(b, q, true, old, p->head);
	return n;
}

/* ---- set-up ---- */

static int broken(struct bench *b, int rc, const char *what)
{
	if (rc > 0)
		nvmedrv_broken(&b->drv, "%s: status 0x%03x", what, (unsigned)rc);
	else if (rc && !b->drv.why[0])
		nvmedrv_broken(&b->drv, "%s", what);
	return rc > 0 ? -EREMOTEIO : rc;
}

static int slot_build(struct bench *b, struct bench_queue *q, unsigned i)
{
	struct slot *s = &q->slot[i];
	uint64_t iova = nvmedrv_alloc(&b->drv, b->o.bs, b->o.bs >= 4096 ? 4096 : 512);
	int rc;

	if (!iova)
		return -ENOMEM;
	s->bytes = nvmedrv_host(&b->drv, iova, b->o.bs);
	s->is_write = i * 100 / q->qd < b->o.write_percent;
	s->sqe = &q->nvme.built[i];
	*s->sqe = nvmedrv_rw_sqe(s->is_write ? SPEC_NVME_WRITE : SPEC_NVME_READ, 1, 0,
				 b->o.bs / b->block_bytes);
	s->sqe->cid = (uint16_t)i;
	memset(s->bytes, (int)(i + 1), b->o.bs);
	rc = nvmedrv_prp(&b->drv, s->sqe, iova, b->o.bs);
	/* Its lists stay. */
	b->drv.building_count = 0;
	return rc;
}

static int pair_start(struct bench *b, unsigned idx)
{
	struct bench_queue *q = &b->q[idx];
	struct nvme_pair *p = &q->nvme;
	unsigned qid = idx + 1;
	int rc = nvmedrv_pair_create(&b->drv, qid, b->o.queue_size, b->o.call ? (int)qid : -1);

	if (rc)
		return broken(b, rc, "creating a queue pair");
	q->qd = (uint16_t)b->o.qd;
	q->slot = calloc(q->qd, sizeof(*q->slot));
	p->built = aligned_alloc(64, q->qd * sizeof(*p->built));
	if (!q->slot || !p->built)
		return -ENOMEM;
	p->qid = qid;
	p->size = b->o.queue_size;
	p->phase = true;
	p->sqes = b->drv.sq[qid].ring;
	p->cqes = b->drv.cq[qid].ring;
	p->call_fd = b->drv.cq[qid].fd;
	for (unsigned i = 0; !rc && i < q->qd; i++)
		rc = slot_build(b, q, i);
	return broken(b, rc, "building requests");
}

static void doorbells_find(struct bench *b, struct bench_queue *q)
{
	struct nvme_pair *p = &q->nvme;
	uint32_t *words = b->drv.shadow ? b->drv.shadow : b->drv.tr.doorbells;

	if (words) {
		p->tail_doorbell = words + 2 * p->qid;
		p->head_doorbell = words + 2 * p->qid + 1;
	}
	/* Without registers the front-end would drop the message. */
	if (b->drv.eventidx && b->o.nvme == NVME_VFIO) {
		p->tail_event = b->drv.eventidx + 2 * p->qid;
		p->head_event = b->drv.eventidx + 2 * p->qid + 1;
	}
}

static uint64_t memory_bytes(const struct bench *b)
{
	uint64_t lists = b->o.bs > 8192 ? 4096ull * (1 + b->o.bs / (2u << 20)) : 0;
	uint64_t pair = b->o.qd * (b->o.bs + 4096 + lists) + b->o.queue_size * 80ull + 16384;
	uint64_t size = (1 << 20) + b->o.queues * pair;

	return (size + (2u << 20) - 1) & ~((2ull << 20) - 1);
}

static int open_vfio(struct bench *b, struct nvmedrv_transport *ret_tr)
{
	struct vfe_up_opts o = { .vectors = b->o.call ? b->o.queues + 1 : 1 };
	int rc = vfe_init(&b->vfe);

	b->vfe.fe.timeout_ms = b->fe.timeout_ms;
	if (!rc)
		rc = fe_connect(&b->vfe.fe, b->o.socket);
	if (!rc)
		rc = fe_mem_new(&b->vfe.fe, GUEST_IOVA, GUEST_IOVA, memory_bytes(b));
	if (rc >= 0)
		rc = vfe_up(&b->vfe, &o);
	*ret_tr = nvme_vfu_transport(&b->vfe, b->o.trapped);
	return rc;
}

static int open_vhost(struct bench *b, struct nvmedrv_transport *ret_tr)
{
	int rc = fe_connect(&b->fe, b->o.socket);

	if (!rc)
		rc = fe_mem_new(&b->fe, GUEST_IOVA, 0x7f0000000000ull, memory_bytes(b));
	vnvmefe_init(&b->vnvme, &b->fe);
	*ret_tr = vnvmefe_transport(&b->vnvme);
	return rc < 0 ? rc : 0;
}

/* Controller and namespace 1: how long a command may be, and how many blocks there are. */
static int identify(struct bench *b, uint64_t *ret_bytes)
{
	uint8_t ctrl[4096], ns[4096];
	uint64_t blocks;
	int rc = nvmedrv_identify(&b->drv, 1, 0, ctrl);

	if (!rc)
		rc = nvmedrv_identify(&b->drv, 0, 1, ns);
	if (rc)
		return broken(b, rc, "Identify");
	memcpy(&blocks, ns, sizeof(blocks));
	b->block_bytes = 1u << ns[128 + 4 * (ns[26] & 15) + 2];
	*ret_bytes = blocks * b->block_bytes;
	if (b->o.bs % b->block_bytes || (ctrl[77] && b->o.bs > 4096ull << ctrl[77])) {
		nvmedrv_broken(&b->drv, "--bs: expected a multiple of %u up to %llu, got %u",
			       b->block_bytes, 4096ull << ctrl[77], b->o.bs);
		return -EINVAL;
	}
	return blocks ? 0 : broken(b, -ENODEV, "namespace 1 is empty");
}

int bench_nvme_connect(struct bench *b)
{
	bool vhost = b->o.nvme == NVME_VHOST;
	struct nvmedrv_transport tr;
	uint64_t bytes = 0;
	int rc = vhost ? open_vhost(b, &tr) : open_vfio(b, &tr);

	if (!rc)
		rc = nvmedrv_init(&b->drv, &tr);
	if (rc)
		return broken(b, rc, vhost ? b->fe.why : b->vfe.fe.why);
	b->drv.timeout_ms = b->fe.timeout_ms;
	rc = broken(b, nvmedrv_enable(&b->drv, 0), "enabling the controller");
	if (!rc)
		rc = identify(b, &bytes);
	for (unsigned i = 0; !rc && i < b->o.queues; i++)
		rc = pair_start(b, i);
	if (!rc && !tr.doorbells)
		rc = broken(b, nvmedrv_dbbuf(&b->drv), "Doorbell Buffer Config");
	for (unsigned i = 0; !rc && i < b->o.queues; i++)
		doorbells_find(b, &b->q[i]);
	if (!rc && (!b->o.span || b->o.span > bytes))
		b->o.span = bytes;
	return rc;
}

int bench_nvme_down(struct bench *b)
{
	return nvmedrv_disable(&b->drv);
}

void bench_nvme_cleanup(struct bench *b)
{
	for (unsigned i = 0; i < b->o.queues; i++)
		free(b->q[i].nvme.built);
	nvmedrv_fini(&b->drv);
	if (b->o.nvme == NVME_VFIO)
		vfe_fini(&b->vfe);
	vnvmefe_fini(&b->vnvme);
	fe_fini(&b->fe);
}

/* One idle controller with its queues, until stdin ends. */
int bench_nvme_hold(struct bench *b)
{
	char path[256], c;
	const char *at = strstr(b->o.hold, "%u");
	int rc;

	snprintf(path, sizeof(path), "%.*s0%s", at ? (int)(at - b->o.hold) : 0, b->o.hold,
		 at ? at + 2 : "");
	b->o.socket = path;
	b->o.queues = b->o.hold_queues;
	fe_init(&b->fe);
	b->fe.timeout_ms = 60000;
	rc = b->o.hold_count == 1 ? bench_nvme_connect(b) : -EINVAL;
	if (rc) {
		fprintf(stderr, "vhostd-bench: %s: %s %s\n", path, strerror(-rc), b->drv.why);
	} else {
		printf("holding 1\n");
		fflush(stdout);
		while (read(STDIN_FILENO, &c, 1) > 0)
			continue;
	}
	for (unsigned i = 0; i < b->o.queues; i++)
		free(b->q[i].slot);
	bench_nvme_cleanup(b);
	return rc;
}
