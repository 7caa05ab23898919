/* The modes that attack a SCSI device: wild commands, and all its rings; see hostile.h. */
#include <errno.h>
#include <string.h>

#include "hostile.h"

#define REQUEST_QUEUES 2
#define BURST	       16

static const uint8_t opcodes[] = { 0x00, 0x03, 0x08, 0x0a, 0x12, 0x15, 0x16, 0x17, 0x1a, 0x1b,
				   0x1e, 0x25, 0x28, 0x2a, 0x2e, 0x2f, 0x34, 0x35, 0x41, 0x42,
				   0x48, 0x4d, 0x55, 0x56, 0x57, 0x5a, 0x5e, 0x5f, 0x83, 0x84,
				   0x88, 0x89, 0x8a, 0x8b, 0x8e, 0x8f, 0x90, 0x91, 0x93, 0x9c,
				   0x9e, 0xa0, 0xa3, 0xa4, 0xa8, 0xaa, 0xae, 0xaf, 0x7f };

static void put_number(uint8_t *to, unsigned bytes, uint64_t v)
{
	for (unsigned i = 0; i < bytes; i++)
		to[i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
}

void hostile_cdb(uint8_t cdb[SPEC_SCSI_CDB_SIZE])
{
	static const uint8_t widths[] = { 1, 2, 4, 8 };
	unsigned fields = hostile_rnd(6);

	memset(cdb, 0, SPEC_SCSI_CDB_SIZE);
	cdb[0] =
		hostile_rnd(16) ? opcodes[hostile_rnd(sizeof(opcodes))] : (uint8_t)hostile_rnd(256);
	if (hostile_rnd(3))
		cdb[1] = (uint8_t)hostile_rnd(32); /* a service action, or a few flags */
	for (unsigned i = 0; i < fields; i++) {
		unsigned width = widths[hostile_rnd(4)];

		put_number(cdb + 1 + hostile_rnd(SPEC_SCSI_CDB_SIZE - width), width,
			   hostile_value());
	}
	/* Now and then a length that fits, in the place where 10 and 16 byte forms have it. */
	if (!hostile_rnd(3))
		put_number(cdb + 7, 2, 1 + hostile_rnd(8));
	else if (!hostile_rnd(3))
		put_number(cdb + 10, 4, 1 + hostile_rnd(4096));
}

/* ---- a connection to one unit ---- */

bool hostile_lun_up(struct hostile_lun *l, const char *path, int timeout_ms)
{
	struct fe_up_opts o = { .features = SPEC_F_VERSION_1 | SPEC_F_PROTOCOL,
				.queues = SPEC_SCSI_Q_REQUEST + 1,
				.event_idx = true,
				.indirect = true };

	fe_init(&l->fe);
	l->fe.timeout_ms = timeout_ms;
	scsidrv_lun(l->lun, 0, 0);
	return !fe_connect(&l->fe, path) && !fe_up(&l->fe, &o) &&
	       !drv_init(&l->q, &l->fe, SPEC_SCSI_Q_REQUEST) && !scsidrv_init(&l->s, &l->q, 4096);
}

void hostile_lun_down(struct hostile_lun *l)
{
	drv_fini(&l->q);
	fe_fini(&l->fe);
}

static bool inquiry_answers(struct hostile_lun *l)
{
	static const uint8_t cdb[6] = { 0x12, 0, 0, 0, 36, 0 };
	struct scsidrv_cmd c = { .cdb = cdb, .cdb_bytes = 6, .in_bytes = 36 };
	struct scsidrv_result res;

	memcpy(c.lun, l->lun, 8);
	return !scsidrv_do(&l->s, &c, &res) && !res.response && !res.status;
}

bool hostile_lun_serves(const char *path)
{
	static struct hostile_lun l;
	uint8_t out[4096], in[4096];
	bool ok = hostile_lun_up(&l, path, 15000) && inquiry_answers(&l);

	fill_pattern(out, sizeof(out), 1);
	if (ok && !scsidrv_ready(&l.s, l.lun) && !scsidrv_write(&l.s, l.lun, 0, 8, 512, out))
		ok = !scsidrv_read(&l.s, l.lun, 0, 8, 512, in) && !memcmp(out, in, sizeof(out));
	hostile_lun_down(&l);
	return ok;
}

bool hostile_lun_prefill(const char *path, uint64_t bytes)
{
	static const uint8_t data[4096] = { 1 };
	static struct hostile_lun l;
	bool ok = hostile_lun_up(&l, path, 15000);

	for (uint8_t target = 0; ok && target < 2; target++) {
		scsidrv_lun(l.lun, target, 0);
		scsidrv_ready(&l.s, l.lun);
		/* The warm-up may have left it reserved or stopped: then it stays as it is. */
		for (uint64_t lba = 0; lba < bytes / 512; lba += 8)
			if (scsidrv_write(&l.s, l.lun, lba, 8, 512, data))
				break;
	}
	hostile_lun_down(&l);
	return ok;
}

/* ---- scsi: wild commands, lying lengths ---- */

struct attack {
	struct drv ctl, ev, q[REQUEST_QUEUES];
	struct scsidrv s[REQUEST_QUEUES];
	struct scsidrv_req req[REQUEST_QUEUES][BURST];
};

static bool attack_up(struct hostile *h, struct attack *a, struct fe_up_opts *o)
{
	memset(a, 0, sizeof(*a));
	o->features = SPEC_F_VERSION_1 | SPEC_F_PROTOCOL | hostile_rnd(16);
	o->queues = SPEC_SCSI_Q_REQUEST + REQUEST_QUEUES;
	o->region_bytes = 8 << 20;
	o->packed = hostile_rnd(2);
	o->indirect = hostile_rnd(2);
	o->event_idx = hostile_rnd(2);
	o->in_order = hostile_rnd(2);
	o->inflight = hostile_rnd(2);
	o->queue_size = 256;
	if (fe_connect(&h->fe, h->path) || fe_up(&h->fe, o) ||
	    drv_init(&a->ctl, &h->fe, SPEC_SCSI_Q_CONTROL) ||
	    drv_init(&a->ev, &h->fe, SPEC_SCSI_Q_EVENT))
		return false;
	a->ctl.strict = a->ev.strict = false;
	for (unsigned i = 0; i < REQUEST_QUEUES; i++) {
		if (drv_init(&a->q[i], &h->fe, SPEC_SCSI_Q_REQUEST + i) ||
		    scsidrv_init(&a->s[i], &a->q[i], 8192))
			return false;
		a->q[i].strict = false;
		a->s[i].pi = h->fe.features & SPEC_SCSI_F_T10_PI;
	}
	return true;
}

static void attack_down(struct attack *a)
{
	drv_fini(&a->ctl);
	drv_fini(&a->ev);
	for (unsigned i = 0; i < REQUEST_QUEUES; i++)
		drv_fini(&a->q[i]);
}

static void wild_layout(struct scsidrv *s)
{
	static const uint32_t pieces[] = { 0, 0, 0, 1, 7, 12, 19, 51, 108, 512, 1000 };

	s->layout.head_piece_bytes = pieces[hostile_rnd(9)];
	s->layout.resp_piece_bytes = pieces[hostile_rnd(9)];
	s->layout.out_piece_bytes = hostile_rnd(4) ? 0 : 64 + hostile_rnd(500);
	s->layout.in_piece_bytes = hostile_rnd(4) ? 0 : 64 + hostile_rnd(500);
	s->layout.join_out = hostile_rnd(2);
	s->layout.join_in = hostile_rnd(2);
}

static void wild_lun(uint8_t lun[8])
{
	scsidrv_lun(lun, hostile_rnd(2), hostile_rnd(8) ? 0 : hostile_rnd(16384));
	if (!hostile_rnd(16))
		lun[hostile_rnd(8)] = (uint8_t)hostile_rnd(256);
}

static void wild_command(struct attack *a, unsigned queue, unsigned slot)
{
	static uint8_t data[8192];
	uint8_t cdb[SPEC_SCSI_CDB_SIZE];
	struct scsidrv_cmd c = { .cdb = cdb,
				 .cdb_bytes = sizeof(cdb),
				 .id = hostile_rnd(64),
				 .out = data,
				 .task_attr = (uint8_t)hostile_rnd(6),
				 .pi_out_bytes = (uint32_t)hostile_value(),
				 .pi_in_bytes = (uint32_t)hostile_value() };

	hostile_cdb(cdb);
	wild_lun(c.lun);
	wild_layout(&a->s[queue]);
	for (unsigned i = 0; i < 64; i++)
		data[i] = (uint8_t)(hostile_rnd(2) ? 0 : hostile_rnd(256));
	if (hostile_rnd(2))
		put_number(data, 2, hostile_rnd(64)); /* a believable length, as lists have */
	if (hostile_rnd(2))
		c.out_bytes = hostile_rnd(3) ? hostile_rnd(17) * 512 : hostile_rnd(100);
	if (!c.out_bytes || !hostile_rnd(8))
		c.in_bytes = hostile_rnd(3) ? hostile_rnd(17) * 512 : hostile_rnd(300);
	if (!hostile_rnd(16))
		c.head_cut_bytes = hostile_rnd(60);
	if (!hostile_rnd(16))
		c.resp_cut_bytes = hostile_rnd(109);
	scsidrv_add(&a->s[queue], &a->req[queue][slot], &c);
}

/* Readable and writable bytes of any number on the control or event queue, not waited for. */
static void wild_post(struct hostile *h, struct drv *q, uint32_t out_bytes, uint32_t in_bytes)
{
	uint64_t gpa = fe_alloc(&h->fe, -1, out_bytes + in_bytes + 64, 8);
	struct spec_scsi_tmf tmf = { .type = hostile_rnd(4), .subtype = hostile_rnd(10) };
	struct drv_buf bufs[2];
	unsigned n = 0;

	if (!gpa)
		return;
	tmf.id = hostile_rnd(64);
	wild_lun(tmf.lun);
	memcpy(fe_host(&h->fe, gpa, out_bytes + 1ull), &tmf,
	       out_bytes < sizeof(tmf) ? out_bytes : sizeof(tmf));
	if (out_bytes)
		bufs[n++] = (struct drv_buf){ gpa, out_bytes, false };
	if (in_bytes)
		bufs[n++] = (struct drv_buf){ gpa + out_bytes, in_bytes, true };
	if (n && drv_add(q, bufs, n, NULL) >= 0)
		drv_publish(q);
}

static void take_all(struct attack *a, unsigned us)
{
	uint64_t end = now_us() + us;
	struct drv_used u;

	do {
		while (drv_used_get(&a->ctl, &u) == 1 || drv_used_get(&a->ev, &u) == 1)
			;
		for (unsigned i = 0; i < REQUEST_QUEUES; i++)
			while (drv_used_get(&a->q[i], &u) == 1)
				scsidrv_put(&a->s[i], u.tag);
		pause_us(50);
	} while ((a->q[0].in_flight || a->q[1].in_flight) && now_us() < end);
}

void hostile_scsi(struct hostile *h)
{
	static struct attack a;
	struct fe_up_opts o = { 0 };
	uint32_t size;

	if (!attack_up(h, &a, &o))
		goto out;
	for (unsigned round = 0; round < 30; round++) {
		for (unsigned i = 0; i < REQUEST_QUEUES; i++) {
			if (a.q[i].in_flight)
				continue; /* its memory is in use */
			for (unsigned k = 0; k < BURST; k++)
				wild_command(&a, i, k);
			if (drv_publish(&a.q[i]) < 0)
				goto out;
		}
		for (unsigned k = hostile_rnd(4); k-- > 0;)
			wild_post(h, &a.ctl, hostile_rnd(3) ? 24 : hostile_rnd(40),
				  hostile_rnd(3) ? 1 : hostile_rnd(10));
		if (!hostile_rnd(3))
			wild_post(h, &a.ev, hostile_rnd(4) ? 0 : 8, hostile_rnd(40));
		if (!hostile_rnd(10)) {
			size = (uint32_t)hostile_value();
			if (fe_set_config(&h->fe, 20 + 4 * hostile_rnd(2), &size, 4, 0) ==
			    -ECONNRESET)
				goto out;
		}
		take_all(&a, hostile_rnd(2000));
	}
out:
	attack_down(&a);
}

/* ---- scsi-ring: nonsense on the control, event and request rings ---- */

void hostile_scsi_ring(struct hostile *h)
{
	struct fe_up_opts o = { .features = SPEC_F_VERSION_1 | SPEC_F_PROTOCOL | 6,
				.queues = SPEC_SCSI_Q_REQUEST + 1,
				.region_bytes = 1 << 20,
				.regions = 2,
				.packed = hostile_rnd(2),
				.indirect = hostile_rnd(2),
				.event_idx = hostile_rnd(2),
				.queue_size = (uint16_t)(4u << hostile_rnd(6)) };
	uint32_t base;

	if (fe_connect(&h->fe, h->path) || fe_up(&h->fe, &o))
		return;
	for (unsigned i = 0; i < 30; i++) {
		unsigned ring = hostile_rnd(SPEC_SCSI_Q_REQUEST + 1);

		if (drv_init(&h->q, &h->fe, ring))
			return;
		h->has_queue = true;
		h->q.strict = false;
		hostile_lie(h);
		pause_us(hostile_rnd(300));
		if (fe_get_vring_base(&h->fe, ring, &base))
			return;
		drv_reset(&h->q);
		drv_fini(&h->q);
		h->has_queue = false;
		if (fe_vring_start(&h->fe, ring, &o))
			return;
	}
}
