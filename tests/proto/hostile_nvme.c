/* The modes that attack an NVMe controller with rings, doorbells and commands; see hostile.h. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hostile_nvme.h"

#define MEMORY	   (4ull << 20)
#define DATA_PAGES 64u

static const uint8_t admin_opcodes[] = { 0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0a,
					 0x0c, 0x0d, 0x15, 0x18, 0x7c, 0x80, 0x84, 0x11, 0xc0 };
static const uint8_t io_opcodes[] = { 0x00, 0x01, 0x02, 0x04, 0x05, 0x08, 0x09, 0x0c,
				      0x0d, 0x0e, 0x11, 0x15, 0x19, 0x79, 0x80 };

/* ---- one guest ---- */

struct fe *nhost_fe(struct nhost *a)
{
	return a->vhost ? &a->fe : &a->v.fe;
}

static bool more_regions(struct nhost *a)
{
	struct fe *fe = &a->v.fe;
	int n = fe_mem_new(fe, NHOST_READONLY, NHOST_READONLY, 65536);

	return n >= 0 && !vfe_region_map(&a->v, (unsigned)n, 1, true) &&
	       !vfe_dma_map(&a->v, NHOST_PAGE, 4096, 0, 3, -1);
}

static bool cut_memory(struct fe *fe)
{
	if (fe_mem_new(fe, NHOST_CUT, 0x7f0000000000, MEMORY) < 0)
		return false;
	hostile_memory_unsealed(fe);
	return true;
}

static bool vfu_up(struct nhost *a, const char *path, const struct nhost_opts *o)
{
	struct vfe_up_opts up = { .region_bytes = MEMORY, .no_fd = o->wild && !hostile_rnd(4) };
	struct nvmedrv_transport tr;

	if (vfe_init(&a->v))
		return false;
	a->v.fe.timeout_ms = o->timeout_ms;
	if ((o->cut && !cut_memory(&a->v.fe)) || fe_connect(&a->v.fe, path) || vfe_up(&a->v, &up) ||
	    (o->wild && !more_regions(a)))
		return false;
	tr = nvme_vfu_transport(&a->v, false);
	return !nvmedrv_init(&a->n, &tr);
}

static bool vhost_up(struct nhost *a, const char *path, const struct nhost_opts *o)
{
	struct nvmedrv_transport tr;

	fe_init(&a->fe);
	a->fe.timeout_ms = o->timeout_ms;
	vnvmefe_init(&a->u, &a->fe);
	if (o->cut ? !cut_memory(&a->fe) : fe_mem_new(&a->fe, 0x100000, 0x7f0000100000, MEMORY) < 0)
		return false;
	a->u.drv = &a->n;
	tr = vnvmefe_transport(&a->u);
	return !fe_connect(&a->fe, path) && !nvmedrv_init(&a->n, &tr);
}

bool nhost_up(struct nhost *a, const char *path, const struct nhost_opts *o)
{
	memset(a, 0, sizeof(*a));
	a->vhost = o->vhost;
	a->up = true;
	if (!(o->vhost ? vhost_up(a, path, o) : vfu_up(a, path, o)))
		return false;
	a->n.strict = false;
	a->n.timeout_ms = o->timeout_ms;
	a->data = nvmedrv_alloc(&a->n, DATA_PAGES * 4096, 4096);
	if (!a->data)
		return false;
	if (o->no_start)
		return true;
	if (nvmedrv_enable(&a->n, NHOST_SIZE))
		return false;
	for (unsigned q = 1; q <= o->queues; q++)
		if (nvmedrv_pair_create(&a->n, q, NHOST_SIZE, 0))
			return false;
	/* Without registers there are no other doorbells. */
	return !(a->vhost || (o->wild && !hostile_rnd(3))) || nvmedrv_dbbuf(&a->n) >= 0;
}

void nhost_down(struct nhost *a)
{
	if (!a->up)
		return;
	a->up = false;
	nvmedrv_fini(&a->n);
	if (a->vhost) {
		vnvmefe_fini(&a->u);
		fe_fini(&a->fe);
	} else {
		vfe_fini(&a->v);
	}
}

bool nhost_swallow(struct nhost *a)
{
	static char buf[65536];
	ssize_t n;

	if (!a->vhost) /* the server's requests, whole */
		return !a->n.tr.idle || !a->n.tr.idle(a->n.tr.t);
	do
		n = recv(a->fe.sock, buf, sizeof(buf), MSG_DONTWAIT);
	while (n > 0);
	return n < 0 && errno == EAGAIN;
}

void nhost_put(struct nhost *a, unsigned qid, const struct spec_nvme_sqe *sqe, bool ring)
{
	struct nvmedrv_sq *sq = &a->n.sq[qid];
	uint32_t old = sq->tail;

	if (!sq->live)
		return;
	sq->ring[sq->tail] = *sqe;
	sq->tail = (sq->tail + 1) % sq->size;
	if (ring)
		nvmedrv_doorbell(&a->n, 2 * qid, old, sq->tail);
}

void nhost_take(struct nhost *a)
{
	for (unsigned qid = 0; qid <= NHOST_QUEUES; qid++) {
		struct nvmedrv_cq *cq = &a->n.cq[qid];
		uint32_t old = cq->head;

		for (uint32_t i = 0; cq->live && i < cq->size; i++) {
			if ((cq->ring[cq->head].status & 1) != cq->phase)
				break;
			cq->head = (cq->head + 1) % cq->size;
			cq->phase ^= !cq->head;
		}
		if (cq->head != old)
			nvmedrv_doorbell(&a->n, 2 * qid + 1, old, cq->head);
	}
}

void nhost_burst(struct nhost *a, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct spec_nvme_sqe sqe =
			nvmedrv_rw_sqe(hostile_rnd(2) ? SPEC_NVME_READ : SPEC_NVME_WRITE, 1,
				       hostile_rnd(1000) * 8ull, 8);

		sqe.prp1 = a->data + hostile_rnd(DATA_PAGES) * 4096ull;
		sqe.cid = (uint16_t)i;
		nhost_put(a, 1 + i % NHOST_QUEUES, &sqe, i + NHOST_QUEUES >= n);
	}
}

/* ---- wild commands ---- */

static uint64_t any_address(struct nhost *a)
{
	const struct nvmedrv *n = &a->n;
	struct fe *fe = nhost_fe(a);
	struct fe_region *r = &fe->region[hostile_rnd(fe->region_count)];

	switch (hostile_rnd(9)) {
	case 0:
		return hostile_value();
	case 1:
		return r->wire.gpa + r->wire.size_bytes - hostile_rnd(5000);
	case 2:
		return n->sq[hostile_rnd(NHOST_QUEUES + 1)].iova + hostile_rnd(4096);
	case 3:
		return n->cq[hostile_rnd(NHOST_QUEUES + 1)].iova + hostile_rnd(1024);
	case 4:
		return hostile_rnd(2) ? NHOST_PAGE : NHOST_READONLY + hostile_rnd(65536);
	case 5:
		return hostile_rnd(2) ? n->shadow_iova : n->eventidx_iova;
	case 6:
		return r->wire.gpa + hostile_rnd((uint32_t)r->wire.size_bytes);
	default:
		return a->data + hostile_rnd(DATA_PAGES) * 4096ull;
	}
}

/* A list of addresses, or of SGL descriptors, somewhere in the data. */
static uint64_t plant_list(struct nhost *a)
{
	uint64_t at = a->data + hostile_rnd(DATA_PAGES - 1) * 4096ull + hostile_rnd(512) * 8ull;
	uint64_t *p = nvmedrv_host(&a->n, at, 4096);

	for (unsigned i = 0; p && i < 64; i++)
		p[i] = any_address(a);
	for (unsigned i = 1; p && i < 64 && hostile_rnd(4); i += 2) /* SGL: length, type */
		p[i] = hostile_rnd(8192) | (uint64_t)hostile_rnd(6) << 60;
	return at;
}

static void wild_pointer(struct nhost *a, struct spec_nvme_sqe *s)
{
	s->prp1 = any_address(a);
	s->prp2 = hostile_rnd(2) ? plant_list(a) : any_address(a);
	if (hostile_rnd(3))
		return;
	s->flags = (uint8_t)(hostile_rnd(4) << 6);
	s->prp2 = (uint64_t)hostile_rnd(6) << 60 | (uint64_t)hostile_rnd(8) << 56 |
		  (hostile_rnd(2) ? hostile_rnd(8192) : (uint32_t)hostile_value());
	if (hostile_rnd(2))
		s->prp1 = plant_list(a);
}

struct spec_nvme_sqe nhost_wild(struct nhost *a, bool admin)
{
	struct spec_nvme_sqe s = { .cid = (uint16_t)hostile_rnd(hostile_rnd(8) ? 64 : 65536) };
	uint32_t *cdw = &s.cdw10;

	s.opcode = admin ? admin_opcodes[hostile_rnd(sizeof(admin_opcodes))]
			 : io_opcodes[hostile_rnd(sizeof(io_opcodes))];
	if (!hostile_rnd(32))
		s.opcode = (uint8_t)hostile_rnd(256);
	s.nsid = hostile_rnd(4) ? hostile_rnd(3) : (uint32_t)hostile_value();
	wild_pointer(a, &s);
	if (!hostile_rnd(8))
		s.flags |= (uint8_t)hostile_rnd(64);
	for (unsigned i = 0; i < 6; i++)
		if (hostile_rnd(2))
			cdw[i] = hostile_rnd(3) ? hostile_rnd(16) : (uint32_t)hostile_value();
	/* Some that get as far as the disk, and some queue numbers that are there. */
	if (!admin && hostile_rnd(2)) {
		s.cdw10 = hostile_rnd(8192);
		s.cdw11 = 0;
	}
	if (admin && s.opcode < 6 && hostile_rnd(2)) {
		s.cdw10 = (hostile_rnd(2) ? NHOST_SIZE - 1 : hostile_rnd(65536)) << 16 |
			  hostile_rnd(NHOST_QUEUES + 2);
		s.cdw11 = hostile_rnd(NHOST_QUEUES + 2) << 16 | hostile_rnd(4);
	}
	return s;
}

static void wild_ring(struct nhost *a)
{
	unsigned qid = hostile_rnd(NHOST_QUEUES + 1);

	for (unsigned i = 0; i < 16; i++) {
		struct spec_nvme_sqe s = nhost_wild(a, !qid);

		nhost_put(a, qid, &s, i == 15 || !hostile_rnd(4));
	}
}

static void wild_doorbell(struct nhost *a)
{
	uint32_t idx = hostile_rnd(4) ? hostile_rnd(2 * NHOST_QUEUES + 2) : hostile_rnd(1024);
	uint32_t value = hostile_rnd(2) ? hostile_rnd(NHOST_SIZE) : (uint32_t)hostile_value();

	nvmedrv_doorbell(&a->n, idx, hostile_rnd(NHOST_SIZE), value);
}

/* Rings, lists and data change while they are looked at. */
static void scribble(struct nhost *a)
{
	for (unsigned i = 0; i < 400; i++) {
		uint64_t at = hostile_rnd(3) ? a->data + hostile_rnd(DATA_PAGES * 512) * 8ull
					     : a->n.sq[hostile_rnd(NHOST_QUEUES + 1)].iova +
						       hostile_rnd(NHOST_SIZE * 8) * 8ull;
		volatile uint64_t *p = nvmedrv_host(&a->n, at, 8);

		if (p)
			*p = hostile_rnd(2) ? any_address(a) : hostile_value();
	}
}

/* Registers: enable bits in any order, queues of the admin pair anywhere, subsystem resets. */
static bool wild_register(struct nhost *a)
{
	static const uint32_t off[] = {
		0x0c, 0x10, 0x14, 0x14, 0x1c, 0x20, 0x24, 0x28, 0x30, 0x38
	};
	uint32_t at = hostile_rnd(8) ? off[hostile_rnd(10)] : hostile_rnd(0x1100);
	uint64_t value = hostile_rnd(2) ? hostile_value() : any_address(a);

	if (at == 0x14)
		value = SPEC_NVME_CC_SIZES | hostile_rnd(2) | hostile_rnd(4) << 14;
	else if (at == 0x20)
		value = hostile_rnd(2) ? SPEC_NVME_NSSR_MAGIC : value;
	return vfe_reg_write(&a->v, at, &value, 1u << hostile_rnd(4)) != -ECONNRESET;
}

/* Back to a controller that runs, with the memory it had. */
static bool again(struct nhost *a)
{
	if (nvmedrv_enable(&a->n, NHOST_SIZE))
		return false;
	for (unsigned q = 1; q <= NHOST_QUEUES; q++)
		if (nvmedrv_pair_create(&a->n, q, NHOST_SIZE, 0))
			return false;
	return true;
}

static bool one_step(struct nhost *a)
{
	switch (hostile_rnd(16)) {
	case 0:
		return wild_register(a);
	case 1:
		return vfe_reset(&a->v) != -ECONNRESET && again(a);
	case 2:
		scribble(a);
		break;
	case 3:
	case 4:
		wild_doorbell(a);
		break;
	case 5:
		return again(a);
	case 6:
	case 7:
		nhost_burst(a, 32);
		break;
	default:
		wild_ring(a);
		scribble(a);
		break;
	}
	nhost_take(a);
	return nhost_swallow(a);
}

static const char *any_path(struct hostile *h)
{
	return hostile_rnd(2) ? h->path : h->other;
}

void hostile_nvme(struct hostile *h)
{
	struct nhost_opts o = { .queues = NHOST_QUEUES, .timeout_ms = 3000, .wild = true };
	static struct nhost a;

	if (nhost_up(&a, any_path(h), &o))
		for (unsigned i = 0; i < 60 && one_step(&a); i++)
			pause_us(hostile_rnd(200));
	nhost_down(&a);
}

/* ---- the admin queue: commands with honest data, as many as it takes ---- */

static struct spec_nvme_sqe admin_flood_one(struct nhost *a)
{
	struct spec_nvme_sqe s = nhost_wild(a, true);

	s.flags = 0;
	s.prp1 = a->data + hostile_rnd(DATA_PAGES / 2) * 4096ull;
	s.prp2 = s.prp1 + 4096;
	switch (s.opcode) {
	case SPEC_NVME_IDENTIFY:
		s.cdw10 = hostile_rnd(32) | hostile_rnd(3) << 16;
		break;
	case SPEC_NVME_GET_LOG:
		s.cdw10 = hostile_rnd(2048) << 16 | hostile_rnd(0x90);
		break;
	case SPEC_NVME_GET_FEATURES:
	case SPEC_NVME_SET_FEATURES:
		s.cdw10 = hostile_rnd(0x90) | hostile_rnd(2) << 31;
		break;
	default:
		break;
	}
	return s;
}

void hostile_nvme_admin(struct hostile *h)
{
	struct nhost_opts o = { .queues = NHOST_QUEUES, .timeout_ms = 3000 };
	static struct nhost a;

	if (nhost_up(&a, any_path(h), &o))
		for (unsigned i = 0; i < 50; i++) {
			for (unsigned k = 0; k < NHOST_SIZE - 1; k++) {
				struct spec_nvme_sqe s = admin_flood_one(&a);

				nhost_put(&a, 0, &s, !hostile_rnd(4) || k == NHOST_SIZE - 2);
			}
			nhost_burst(&a, 16);
			pause_us(hostile_rnd(500));
			if (hostile_rnd(8))
				nhost_take(&a);
			if (!nhost_swallow(&a) || (!hostile_rnd(10) && !again(&a)))
				break;
		}
	nhost_down(&a);
}

/* ---- afterwards ---- */

/* Written and read back; what an attacker may have done to the namespace has a status. */
static bool io_works(struct nhost *a)
{
	uint8_t *p = nvmedrv_host(&a->n, a->data, 8192);
	int rc;

	fill_pattern(p, 4096, 1);
	memset(p + 4096, 0, 4096);
	rc = nvmedrv_rw(&a->n, 1, SPEC_NVME_WRITE, 1, 0, 8, a->data, 512);
	if (rc)
		return rc > 0;
	rc = nvmedrv_rw(&a->n, 1, SPEC_NVME_READ, 1, 0, 8, a->data + 4096, 512);
	return rc ? rc > 0 : !memcmp(p, p + 4096, 4096);
}

bool hostile_nvme_serves(const char *path, bool vhost)
{
	struct nhost_opts o = { .vhost = vhost, .queues = 1, .timeout_ms = 15000 };
	static struct nhost a;
	uint8_t id[4096];
	bool ok = nhost_up(&a, path, &o);

	a.n.strict = true;
	ok = ok && !nvmedrv_identify(&a.n, 1, 0, id) && io_works(&a);
	if (!ok)
		hostile_say("NVMe: %s; %s", a.n.why, nhost_fe(&a)->why);
	nhost_down(&a);
	return ok;
}

bool hostile_nvme_prefill(const char *path, bool vhost, uint64_t bytes)
{
	struct nhost_opts o = { .vhost = vhost, .queues = 1, .timeout_ms = 15000 };
	static struct nhost a;
	bool ok = nhost_up(&a, path, &o);

	for (uint64_t lba = 0; ok && lba < bytes / 512; lba += 8) {
		memset(nvmedrv_host(&a.n, a.data, 4096), 1, 4096);
		ok = nvmedrv_rw(&a.n, 1, SPEC_NVME_WRITE, 1, lba, 8, a.data, 512) >= 0;
	}
	nhost_down(&a);
	return ok;
}
