/* The modes that attack with rings and memory; see hostile.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hostile.h"

static uint64_t seed_state;

void hostile_seed(uint64_t seed)
{
	seed_state = seed ? seed : 1;
}

uint64_t hostile_rnd64(void)
{
	seed_state ^= seed_state << 13;
	seed_state ^= seed_state >> 7;
	seed_state ^= seed_state << 17;
	return seed_state * 0x2545f4914f6cdd1dull;
}

uint32_t hostile_rnd(uint32_t below)
{
	return (uint32_t)(hostile_rnd64() >> 33) % below;
}

uint64_t hostile_value(void)
{
	static const uint64_t extreme[] = {
		0,	    1,		0xff, 0xffff, 0x10000, ~0ull, ~0ull - 1,	1ull << 63,
		0xffffffff, 1ull << 32, 4095, 4096,   32768,   509,   (1ull << 63) - 1, 0x7fff,
		0x40000000, 0x80000000, 256,  255
	};

	switch (hostile_rnd(3)) {
	case 0:
		return extreme[hostile_rnd(sizeof(extreme) / sizeof(extreme[0]))];
	case 1:
		return hostile_rnd(300);
	default:
		return hostile_rnd64() >> hostile_rnd(64);
	}
}

int hostile_any_fd(void)
{
	int sv[2];

	switch (hostile_rnd(5)) {
	case 0:
		return eventfd(0, EFD_CLOEXEC | (hostile_rnd(2) ? EFD_NONBLOCK : 0));
	case 1:
		return memfd_create("any", MFD_CLOEXEC);
	case 2:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case 3:
		if (pipe2(sv, O_CLOEXEC))
			return -1;
		break;
	default:
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
			return -1;
		break;
	}
	close(sv[1]);
	return sv[0];
}

bool hostile_up(struct hostile *h, const struct fe_up_opts *o)
{
	if (h->fe.sock < 0 && fe_connect(&h->fe, h->path))
		return false;
	if (fe_up(&h->fe, o) || !h->fe.vring_count || drv_init(&h->q, &h->fe, 0))
		return false;
	h->has_queue = true;
	h->q.strict = false;
	return !blkdrv_init(&h->b, &h->q, 4096);
}

bool hostile_up_any(struct hostile *h, struct fe_up_opts *o)
{
	o->packed = hostile_rnd(2);
	o->indirect = hostile_rnd(2);
	o->event_idx = hostile_rnd(2);
	o->in_order = hostile_rnd(2);
	o->queue_size = (uint16_t)(4u << hostile_rnd(6));
	o->inflight = hostile_rnd(2);
	return hostile_up(h, o);
}

void hostile_burst(struct hostile *h, unsigned n)
{
	static const uint32_t types[] = { SPEC_BLK_IN, SPEC_BLK_OUT, SPEC_BLK_OUT, SPEC_BLK_FLUSH };
	static uint8_t data[4096];

	for (unsigned i = 0; i < n && i < 16; i++) {
		uint32_t type = types[hostile_rnd(4)];

		if (blkdrv_add(&h->b, &h->req[i], type, hostile_rnd(1000) * 8ull, data,
			       type == SPEC_BLK_OUT ? 4096 : 0, type == SPEC_BLK_IN ? 4096 : 0))
			break;
	}
	drv_publish(&h->q);
}

void hostile_drain(struct hostile *h, unsigned us)
{
	uint64_t end = now_us() + us;
	struct drv_used u;

	do {
		while (drv_used_get(&h->q, &u) == 1)
			;
		pause_us(50);
	} while (h->q.in_flight && now_us() < end);
}

/* ---- ring: descriptors that lie ---- */

static uint64_t any_gpa(struct hostile *h)
{
	struct fe_region *r = &h->fe.region[hostile_rnd(h->fe.region_count)];

	switch (hostile_rnd(6)) {
	case 0:
		return hostile_value();
	case 1:
		return r->wire.gpa + r->wire.size_bytes - hostile_rnd(64);
	case 2:
		return h->q.vr->desc_gpa + hostile_rnd(4096);
	case 3:
		return r->wire.gpa - hostile_rnd(64);
	default:
		return r->wire.gpa + hostile_rnd((uint32_t)r->wire.size_bytes);
	}
}

static uint32_t any_len(void)
{
	static const uint32_t lens[] = {
		0, 1, 15, 16, 17, 512, 4096, 65536, 0xffffffff, 0x80000000
	};

	return hostile_rnd(4) ? lens[hostile_rnd(10)] : (uint32_t)hostile_value();
}

/* A request header somewhere, so that some of the nonsense gets as far as the disk. */
static void plant_header(struct hostile *h, uint64_t gpa)
{
	struct spec_blk_hdr hdr = { hostile_rnd(16), 0,
				    hostile_rnd(2) ? hostile_rnd(9000) : hostile_value() };
	struct spec_scsi_req req = { .lun = { 1, (uint8_t)hostile_rnd(2), 0x40 },
				     .id = hostile_rnd(100) };
	void *to = fe_host(&h->fe, gpa, sizeof(req));

	hostile_cdb(req.cdb);
	if (to && h->kind == HOSTILE_SCSI)
		memcpy(to, &req, sizeof(req)); /* at any alignment */
	else if (to)
		memcpy(to, &hdr, sizeof(hdr));
}

static void lie_split(struct hostile *h)
{
	struct drv *q = &h->q;

	for (uint16_t i = 0; i < q->size; i++) {
		uint64_t gpa = any_gpa(h);
		uint16_t flags = (uint16_t)(hostile_rnd(8) ? hostile_rnd(8) : hostile_rnd(65536));

		if (!hostile_rnd(3))
			plant_header(h, gpa);
		drv_raw_desc(
			q, i, gpa, any_len(), flags,
			(uint16_t)(hostile_rnd(8) ? hostile_rnd(q->size) : hostile_rnd(65536)));
	}
	for (unsigned i = 0; i < q->size; i++)
		q->avail->ring[i] =
			(uint16_t)(hostile_rnd(16) ? hostile_rnd(q->size) : hostile_rnd(65536));
	*q->used_event = (uint16_t)hostile_rnd(65536);
	q->avail->flags = (uint16_t)hostile_rnd(4);
	drv_raw_avail_idx(q, (uint16_t)(q->avail->idx + (hostile_rnd(8) ? hostile_rnd(q->size)
									: hostile_rnd(65536))));
}

static void lie_packed(struct hostile *h)
{
	struct drv *q = &h->q;

	for (uint16_t i = 0; i < q->size; i++) {
		uint64_t gpa = any_gpa(h);
		uint16_t flags = (uint16_t)hostile_rnd(8);

		if (hostile_rnd(3))
			flags |= SPEC_PDESC_AVAIL;
		if (!hostile_rnd(4))
			flags |= SPEC_PDESC_USED;
		if (!hostile_rnd(3))
			plant_header(h, gpa);
		drv_raw_desc(
			q, i, gpa, any_len(), flags,
			(uint16_t)(hostile_rnd(8) ? hostile_rnd(q->size) : hostile_rnd(65536)));
	}
	q->driver_event->off_wrap = (uint16_t)hostile_rnd(65536);
	q->driver_event->flags = (uint16_t)hostile_rnd(5);
}

void hostile_lie(struct hostile *h)
{
	if (h->q.packed)
		lie_packed(h);
	else
		lie_split(h);
	drv_kick(&h->q);
}

static void mode_ring(struct hostile *h)
{
	struct fe_up_opts o = { .queues = 1 + hostile_rnd(2),
				.region_bytes = 1 << 20,
				.regions = 2 };
	uint32_t base;

	if (!hostile_up_any(h, &o))
		return;
	for (unsigned i = 0; i < 30; i++) {
		hostile_lie(h);
		pause_us(hostile_rnd(300));
		if (fe_get_vring_base(&h->fe, 0, &base))
			return;
		drv_reset(&h->q);
		if (fe_vring_start(&h->fe, 0, &o))
			return;
	}
}

/* ---- race: what was right when it was checked ---- */

static void scribble(struct hostile *h, void *at, size_t bytes, unsigned times)
{
	volatile uint16_t *p = at;

	for (unsigned i = 0; i < times; i++)
		p[hostile_rnd((uint32_t)(bytes / 2))] = (uint16_t)hostile_value();
}

static void mode_race(struct hostile *h)
{
	struct fe_up_opts o = { .region_bytes = 4 << 20 };

	if (!hostile_up_any(h, &o))
		return;
	for (unsigned round = 0; round < 20; round++) {
		uint64_t base = h->fe.region[0].wire.gpa;
		void *ring = h->q.packed ? (void *)h->q.pdesc : (void *)h->q.desc;

		hostile_burst(h, 16);
		for (unsigned i = 0; i < 16; i++) {
			scribble(h, ring, 16ull * h->q.size, 8);
			/* Headers, data and indirect tables alike: they are all in the region. */
			scribble(h, fe_host(&h->fe, base, 65536), 65536, 200);
			if (h->req[i].base_gpa)
				plant_header(h, h->req[i].base_gpa);
		}
		drv_kick(&h->q);
		hostile_drain(h, 300);
		drv_reset(&h->q);
		if (fe_get_vring_base(&h->fe, 0, &(uint32_t){ 0 }) || fe_vring_start(&h->fe, 0, &o))
			return;
	}
}

/* ---- gone: leaves at any moment ---- */

static void mode_gone(struct hostile *h)
{
	struct fe_up_opts o = { .queues = 4,
				.skip = hostile_rnd(3) ? 0 : hostile_rnd(2048),
				.region_bytes = 1 << 20,
				.back_channel = hostile_rnd(2) };

	if (hostile_up_any(h, &o)) {
		if (!o.skip)
			hostile_burst(h, 16);
		pause_us(hostile_rnd(200));
	}
	if (h->fe.sock >= 0 && hostile_rnd(2)) {
		uint8_t part[40] = { 2, 0, 0, 0, 1, 0, 0, 0, 8 };

		fe_send_raw(&h->fe, part, 1 + hostile_rnd(19), NULL, 0);
	}
}

/* ---- remap: memory changes under I/O ---- */

static void mode_remap(struct hostile *h)
{
	struct fe_up_opts o = { .regions = 3,
				.region_bytes = 1 << 20,
				.add_mem_reg = hostile_rnd(2) };

	if (!hostile_up_any(h, &o))
		return;
	h->fe.want_ack = hostile_rnd(2);
	for (unsigned i = 0; i < 20; i++) {
		unsigned n = h->fe.region_count;
		int rc;

		hostile_burst(h, 16);
		switch (hostile_rnd(4)) {
		case 0:
			h->fe.region_count = 1 + hostile_rnd(n);
			rc = fe_set_mem_table(&h->fe);
			h->fe.region_count = n;
			break;
		case 1:
			rc = fe_rem_mem_reg(&h->fe, hostile_rnd(n));
			break;
		case 2:
			rc = fe_add_mem_reg(&h->fe, hostile_rnd(n));
			break;
		default:
			rc = fe_set_mem_table(&h->fe);
			break;
		}
		if (rc == -ECONNRESET || rc == -ETIMEDOUT)
			return;
		hostile_drain(h, hostile_rnd(500));
	}
}

/* ---- trunc: memory that goes away ---- */

void hostile_memory_unsealed(struct fe *fe)
{
	struct fe_region *r = &fe->region[fe->region_count - 1];

	munmap(r->host, r->wire.size_bytes);
	close(r->fd);
	r->fd = memfd_create("cut", MFD_CLOEXEC);
	if (ftruncate(r->fd, (off_t)r->wire.size_bytes))
		_exit(3);
	r->host = mmap(NULL, r->wire.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	if (r->host == MAP_FAILED)
		_exit(3);
}

static void mode_trunc(struct hostile *h)
{
	struct fe_up_opts o = { .region_bytes = 1 << 20 };
	uint64_t one = 1;

	if (fe_mem_new(&h->fe, 0x40000000, 0x7f0000000000, 1 << 20) < 0)
		return;
	hostile_memory_unsealed(&h->fe);
	if (!hostile_up_any(h, &o))
		return;
	hostile_burst(h, 16);
	if (hostile_rnd(2))
		pause_us(hostile_rnd(200));
	/* Nothing of it may be touched here from now on. */
	if (ftruncate(h->fe.region[0].fd, hostile_rnd(3) ? 0 : (off_t)(hostile_rnd(256) * 4096ull)))
		return;
	for (unsigned i = 0; i < 3; i++) {
		if (h->fe.vring[0].kick_fd >= 0 && write(h->fe.vring[0].kick_fd, &one, 8) != 8)
			return;
		pause_us(hostile_rnd(300));
	}
	h->fe.timeout_ms = 300;
	fe_get_vring_base(&h->fe, 0, &(uint32_t){ 0 });
	fe_vring_start(&h->fe, 0, &o);
}

/* ---- log: smaller than announced, elsewhere, cut ---- */

static void mode_log(struct hostile *h)
{
	struct fe_up_opts o = { .log = true, .region_bytes = 1 << 20 };
	uint64_t real = 4096ull * (1 + hostile_rnd(8));
	uint64_t payload[2] = { hostile_rnd(2) ? real : hostile_value(),
				hostile_rnd(2) ? 0 : hostile_value() };
	int fd = memfd_create("log", MFD_CLOEXEC);
	struct fe_msg m;

	if (!hostile_up_any(h, &o) || ftruncate(fd, (off_t)real))
		goto out;
	h->fe.timeout_ms = 1000;
	if (!fe_call(&h->fe, FE_SET_LOG_BASE, payload, sizeof(payload), &fd, 1, &m))
		fe_msg_close(&m);
	if (h->fe.vring_count && fe_set_vring_addr(&h->fe, &h->fe.vring[0], 1, hostile_value()))
		goto out;
	hostile_burst(h, 16);
	if (hostile_rnd(2) && ftruncate(fd, 0))
		goto out;
	hostile_drain(h, 500);
out:
	close(fd);
}

/* ---- infl: an in-flight area made up ---- */

static void fill_inflight(struct fe_inflight *in)
{
	uint16_t *p = (uint16_t *)in->host;

	for (uint64_t i = 0; i < in->wire.mmap_size_bytes / 2; i++)
		if (hostile_rnd(3))
			p[i] = (uint16_t)(hostile_rnd(3) ? hostile_rnd(130) : hostile_value());
	if (hostile_rnd(2)) { /* believable: version 1 and the right size */
		p[4] = 1;
		p[5] = (uint16_t)in->wire.queue_size;
	}
}

static void mode_infl(struct hostile *h)
{
	struct fe_up_opts o = { .region_bytes = 1 << 20,
				.inflight = true,
				.packed = hostile_rnd(2) };
	struct fe_wire_inflight wild = { hostile_value(), hostile_value(),
					 (uint16_t)hostile_value(), (uint16_t)hostile_value(), 0 };
	struct fe_inflight *in = &h->fe.inflight;

	o.queue_size = (uint16_t)(4u << hostile_rnd(6));
	if (!hostile_up(h, &o) || !in->host)
		return;
	for (unsigned i = 0; i < 10; i++) {
		hostile_burst(h, 8);
		fill_inflight(in);
		if (fe_get_vring_base(&h->fe, 0, &(uint32_t){ 0 }))
			return;
		fill_inflight(in);
		if (fe_set_inflight(&h->fe) == -ECONNRESET ||
		    fe_vring_start(&h->fe, 0, &o) == -ECONNRESET)
			return;
		drv_kick(&h->q);
		hostile_drain(h, 300);
		drv_reset(&h->q);
	}
	fe_set(&h->fe, FE_SET_INFLIGHT_FD, &wild, sizeof(wild), &in->fd, 1);
}

/* ---- call: descriptors that block ---- */

static int full_fd(int *ret_reader)
{
	uint64_t most = 0xfffffffffffffffeull;
	static char junk[65536];
	int fd, pp[2];

	*ret_reader = -1;
	if (hostile_rnd(2)) {
		fd = eventfd(0, EFD_CLOEXEC);
		return write(fd, &most, sizeof(most)) == sizeof(most) ? fd : -1;
	}
	if (pipe2(pp, O_CLOEXEC | O_NONBLOCK))
		return -1;
	while (write(pp[1], junk, sizeof(junk)) > 0)
		;
	fcntl(pp[1], F_SETFL, 0);
	*ret_reader = pp[0]; /* open while the case lasts, and never read */
	return pp[1];
}

static void mode_call(struct hostile *h)
{
	static const uint32_t req[] = { FE_SET_VRING_CALL, FE_SET_VRING_CALL, FE_SET_VRING_ERR };
	struct fe_up_opts o = { .region_bytes = 1 << 20 };
	uint64_t most = 0xfffffffffffffffeull;

	if (!hostile_up_any(h, &o))
		return;
	h->fe.timeout_ms = 2000;
	for (unsigned i = 0; i < 4; i++) {
		int reader, fd = full_fd(&reader);

		if (fe_set_vring_fd(&h->fe, req[hostile_rnd(3)], 0, fd) == -ECONNRESET)
			i = 4;
		close(fd);
		hostile_burst(h, 16);
		hostile_drain(h, 300);
		if (hostile_rnd(2))
			hostile_lie(h);
		pause_us(hostile_rnd(300));
		if (reader >= 0)
			close(reader);
		if (h->fe.vring[0].kick_fd >= 0 && write(h->fe.vring[0].kick_fd, &most, 8) != 8)
			continue;
	}
	fe_get_vring_base(&h->fe, 0, &(uint32_t){ 0 });
}

const struct hostile_mode hostile_modes[] = {
	{ "ring", mode_ring, HOSTILE_BLK },
	{ "race", mode_race, HOSTILE_BLK },
	{ "gone", mode_gone, HOSTILE_BLK },
	{ "conf", hostile_conf, HOSTILE_BLK },
	{ "stall", hostile_stall, HOSTILE_BLK },
	{ "fds", hostile_fds, HOSTILE_BLK },
	{ "ctl", hostile_ctl, HOSTILE_BLK },
	{ "order", hostile_order, HOSTILE_BLK },
	{ "remap", mode_remap, HOSTILE_BLK },
	{ "trunc", mode_trunc, HOSTILE_BLK },
	{ "log", mode_log, HOSTILE_BLK },
	{ "infl", mode_infl, HOSTILE_BLK },
	{ "call", mode_call, HOSTILE_BLK },
	{ "scsi", hostile_scsi, HOSTILE_SCSI },
	{ "scsi-ring", hostile_scsi_ring, HOSTILE_SCSI },
	{ "nvme", hostile_nvme, HOSTILE_NVME },
	{ "nvme-admin", hostile_nvme_admin, HOSTILE_NVME },
	{ "nvme-msg", hostile_nvme_msg, HOSTILE_NVME },
	{ "nvme-user", hostile_nvme_user, HOSTILE_NVME_VHOST },
};

const unsigned hostile_mode_count = sizeof(hostile_modes) / sizeof(hostile_modes[0]);
