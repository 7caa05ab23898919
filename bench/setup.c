/* Memory, rings and prebuilt requests; connecting, and holding many idle connections. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"

static void fill_split(struct bench *b, struct bench_queue *q, unsigned i,
		       const struct spec_desc chain[3])
{
	uint16_t head = (uint16_t)(i * q->descs);

	q->slot[i].head = head;
	q->slot_of_head[head] = (uint16_t)i;
	if (q->descs == 1) {
		uint64_t gpa = q->slot[i].table_gpa;
		struct spec_desc *t = fe_host(&b->fe, gpa, 64);

		for (unsigned k = 0; k < 3; k++) {
			t[k] = chain[k];
			t[k].next = (uint16_t)(k < 2 ? k + 1 : 0);
		}
		q->desc[head] = (struct spec_desc){ gpa, 48, SPEC_DESC_INDIRECT, 0 };
		return;
	}
	for (unsigned k = 0; k < 3; k++) {
		q->desc[head + k] = chain[k];
		q->desc[head + k].next = (uint16_t)(k < 2 ? head + k + 1 : 0);
	}
}

static void fill_packed(struct bench *b, struct bench_queue *q, unsigned i,
			const struct spec_desc chain[3])
{
	struct spec_pdesc *to = q->slot[i].pdesc;
	uint64_t gpa = 0;

	if (q->descs == 1) {
		gpa = q->slot[i].table_gpa;
		to = fe_host(&b->fe, gpa, 64);
		q->slot[i].pdesc[0] =
			(struct spec_pdesc){ gpa, 48, (uint16_t)i, SPEC_DESC_INDIRECT };
	}
	for (unsigned k = 0; k < 3; k++) {
		to[k] = (struct spec_pdesc){ chain[k].addr, chain[k].len, (uint16_t)i,
					     chain[k].flags };
		if (gpa)
			to[k].flags &= SPEC_DESC_WRITE;
	}
}

static int slot_alloc(struct bench *b, struct slot *s)
{
	s->hdr_gpa = fe_alloc(&b->fe, 0, b->o.scsi ? BENCH_HDR_BYTES : 64, 64);
	s->bytes_gpa = fe_alloc(&b->fe, 0, b->o.bs, b->o.bs >= 4096 ? 4096 : 512);
	s->table_gpa = fe_alloc(&b->fe, 0, 64, 64);
	if (!s->hdr_gpa || !s->bytes_gpa || !s->table_gpa)
		return -ENOMEM;
	s->hdr = fe_host(&b->fe, s->hdr_gpa, 64);
	s->bytes = fe_host(&b->fe, s->bytes_gpa, b->o.bs);
	return 0;
}

/* Header, data, status; SCSI answers before the data-in (virtio 1.3, 5.6.6.1). */
int bench_slot_fill(struct bench *b, struct bench_queue *q, unsigned i, bool is_write)
{
	struct slot *s = &q->slot[i];
	uint32_t hdr_bytes = b->o.scsi ? sizeof(struct spec_scsi_req) : 16;
	uint32_t off = b->o.scsi ? BENCH_RESP_OFF : 16;
	uint32_t status_bytes = b->o.scsi ? sizeof(struct spec_scsi_resp) : 1;
	unsigned at_data = b->o.scsi && !is_write ? 2 : 1;
	struct spec_desc chain[3];
	int rc = s->hdr_gpa ? 0 : slot_alloc(b, s);

	if (rc)
		return rc;
	s->is_write = is_write;
	if (b->o.scsi) {
		bench_scsi_slot(b, s);
	} else {
		s->status = (uint8_t *)s->hdr + off;
		s->hdr->type = is_write ? SPEC_BLK_OUT : SPEC_BLK_IN;
	}
	memset(s->bytes, (int)(i + 1), b->o.bs);
	chain[0] = (struct spec_desc){ s->hdr_gpa, hdr_bytes, 0, 0 };
	chain[at_data] =
		(struct spec_desc){ s->bytes_gpa, b->o.bs, is_write ? 0 : SPEC_DESC_WRITE, 0 };
	chain[3 - at_data] =
		(struct spec_desc){ s->hdr_gpa + off, status_bytes, SPEC_DESC_WRITE, 0 };
	chain[0].flags |= SPEC_DESC_NEXT;
	chain[1].flags |= SPEC_DESC_NEXT;
	if (q->packed)
		fill_packed(b, q, i, chain);
	else
		fill_split(b, q, i, chain);
	return 0;
}

static int setup_queue(struct bench *b, unsigned idx)
{
	struct bench_queue *q = &b->q[idx];
	unsigned ring = idx + (b->o.scsi ? SPEC_SCSI_Q_REQUEST : 0);
	struct fe_vring *vr = &b->fe.vring[ring];
	int rc = fe_vring_place(&b->fe, ring, (uint16_t)b->o.queue_size, b->o.packed);

	if (rc)
		return rc;
	q->vr = vr;
	q->size = vr->size;
	q->mask = (uint16_t)(vr->size - 1);
	q->descs = b->o.indirect ? 1 : 3;
	q->packed = b->o.packed;
	q->event_idx = b->o.event_idx;
	q->wrap_avail = q->wrap_used = true;
	q->desc = fe_host(&b->fe, vr->desc_gpa, 16ull * q->size);
	q->pdesc = (struct spec_pdesc *)q->desc;
	q->avail = fe_host(&b->fe, vr->avail_gpa, 4);
	q->driver_event = (struct spec_pevent *)q->avail;
	q->used = fe_host(&b->fe, vr->used_gpa, 4);
	q->avail_event = fe_host(&b->fe, vr->used_gpa + 4 + 8ull * q->size, 2);
	q->device_event = (struct spec_pevent *)q->used;
	q->qd = (uint16_t)b->o.qd;
	q->slot = calloc(q->qd, sizeof(*q->slot));
	q->slot_of_head = calloc(q->size, sizeof(*q->slot_of_head));
	if (!q->slot || !q->slot_of_head)
		return -ENOMEM;
	for (unsigned i = 0; !rc && i < q->qd; i++)
		rc = bench_slot_fill(b, q, i, i * 100 / q->qd < b->o.write_percent);
	ring_call_arm(q, b->o.call);
	return rc;
}

int bench_rings_setup(struct bench *b)
{
	uint64_t per = b->o.bs + 4096ull + 64 + BENCH_HDR_BYTES + 64;
	uint64_t size = 65536 + b->o.queues * (b->o.qd * per + b->o.queue_size * 32ull + 8192);
	int rc;

	size = (size + (2u << 20) - 1) & ~((2ull << 20) - 1);
	b->guest_gpa = 0x40000000;
	rc = fe_mem_new(&b->fe, b->guest_gpa, 0x7f0000000000ull, size);
	if (rc < 0)
		return rc;
	b->guest_host = b->fe.region[0].host;
	rc = 0;
	for (unsigned i = 0; !rc && b->o.scsi && i < SPEC_SCSI_Q_REQUEST; i++)
		rc = fe_vring_place(&b->fe, i, 16, b->o.packed);
	for (unsigned i = 0; !rc && i < b->o.queues; i++)
		rc = setup_queue(b, i);
	return rc;
}

/* For the floors: the same rings, no server. */
int bench_local(struct bench *b)
{
	return bench_rings_setup(b);
}

static int size_get(struct bench *b, uint64_t *ret_bytes)
{
	struct spec_blk_config config;
	int rc;

	if (b->o.scsi)
		return bench_scsi_start(b, ret_bytes);
	rc = fe_get_config(&b->fe, 0, &config, 60);
	if (!rc)
		*ret_bytes = config.capacity * 512;
	return rc;
}

int bench_connect(struct bench *b)
{
	unsigned first = b->o.scsi ? SPEC_SCSI_Q_REQUEST : 0;
	struct fe_up_opts o = { .features = b->o.scsi ? SPEC_F_VERSION_1 | SPEC_F_PROTOCOL : 0,
				.packed = b->o.packed,
				.event_idx = b->o.event_idx,
				.indirect = b->o.indirect,
				.queues = b->o.queues + first,
				.queue_size = (uint16_t)b->o.queue_size,
				.skip = FE_SKIP_START };
	uint64_t want = (b->o.packed ? SPEC_F_RING_PACKED : 0) |
			(b->o.indirect ? SPEC_F_INDIRECT : 0) |
			(b->o.event_idx ? SPEC_F_EVENT_IDX : 0);
	uint64_t bytes = 0;
	int rc;

	if (b->o.nvme)
		return bench_nvme_connect(b);
	rc = fe_connect(&b->fe, b->o.socket);
	if (!rc)
		rc = bench_rings_setup(b);
	if (!rc)
		rc = fe_up(&b->fe, &o);
	if (rc)
		return rc;
	if ((b->fe.features & want) != want) {
		fprintf(stderr, "vhostd-bench: the server does not offer features 0x%llx\n",
			(unsigned long long)(want & ~b->fe.features));
		return -EOPNOTSUPP;
	}
	o.skip = 0;
	for (unsigned i = 0; !rc && i < b->o.queues + first; i++)
		rc = fe_vring_start(&b->fe, i, &o);
	if (!rc)
		rc = size_get(b, &bytes);
	if (rc)
		return rc;
	if (!b->o.span || b->o.span > bytes)
		b->o.span = bytes;
	return 0;
}

static int hold_one(struct fe *fe, const char *path, unsigned queues, bool scsi)
{
	struct fe_up_opts o = { .features = scsi ? SPEC_F_VERSION_1 | SPEC_F_PROTOCOL : 0,
				.queues = queues,
				.queue_size = 128,
				.region_bytes = 256 << 10,
				.event_idx = true };
	int rc;

	fe_init(fe);
	rc = fe_connect(fe, path);
	return rc ? rc : fe_up(fe, &o);
}

/* Connects to PATTERN with 0..count-1 for its %u, says "holding", and stays until stdin ends. */
int bench_hold(struct bench *b)
{
	struct rlimit lim;
	struct fe *fe = calloc(b->o.hold_count, sizeof(*fe));
	const char *at = strstr(b->o.hold, "%u");
	char c;
	int rc = 0;

	if (b->o.nvme) {
		free(fe);
		return bench_nvme_hold(b);
	}
	if (!getrlimit(RLIMIT_NOFILE, &lim)) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	if (!fe || !at)
		return -EINVAL;
	for (unsigned i = 0; !rc && i < b->o.hold_count; i++) {
		char path[256];

		snprintf(path, sizeof(path), "%.*s%u%s", (int)(at - b->o.hold), b->o.hold, i,
			 at + 2);
		rc = hold_one(&fe[i], path, b->o.hold_queues, b->o.scsi);
		if (rc)
			fprintf(stderr, "vhostd-bench: %s: %s\n", path, strerror(-rc));
	}
	if (!rc) {
		printf("holding %u\n", b->o.hold_count);
		fflush(stdout);
		while (read(STDIN_FILENO, &c, 1) > 0)
			continue;
	}
	for (unsigned i = 0; i < b->o.hold_count; i++)
		if (fe[i].timeout_ms)
			fe_fini(&fe[i]);
	free(fe);
	return rc;
}
