/* See scsidrv.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "scsidrv.h"

#define GUARD	    0xa5
#define GUARD_BYTES 64
#define HEAD_ROOM   (64 + SCSIDRV_CDB_MAX)   /* header and guard */
#define RESP_ROOM   (64 + SCSIDRV_SENSE_MAX) /* response and guard */
#define RESP_BYTES  12			     /* before sense */
#define BUFS_MAX    DRV_CHAIN_MAX

/*
 * Area: [header][guard][data-out][guard][response][guard][data-in][guard]; a joined part lies
 * right behind the one that it is joined to, the guard after both.
 */
static uint64_t area_bytes(const struct scsidrv *s)
{
	return HEAD_ROOM + RESP_ROOM + 2ull * s->area_bytes + 4 * GUARD_BYTES;
}

void scsidrv_lun(uint8_t ret_lun[8], uint32_t target, uint32_t lun)
{
	memset(ret_lun, 0, 8);
	ret_lun[0] = 1;
	ret_lun[1] = (uint8_t)target;
	ret_lun[2] = (uint8_t)(0x40 | lun >> 8);
	ret_lun[3] = (uint8_t)lun;
}

void scsidrv_lun_peripheral(uint8_t ret_lun[8], uint32_t target, uint32_t lun)
{
	scsidrv_lun(ret_lun, target, lun);
	ret_lun[2] = 0;
}

void scsidrv_lun_report_luns(uint8_t ret_lun[8])
{
	memset(ret_lun, 0, 8);
	ret_lun[0] = 0xc1;
	ret_lun[1] = 0x01;
}

int scsidrv_init(struct scsidrv *s, struct drv *q, uint32_t data_max_bytes)
{
	memset(s, 0, sizeof(*s));
	s->q = q;
	s->cdb_size = SPEC_SCSI_CDB_SIZE;
	s->sense_size = SPEC_SCSI_SENSE_SIZE;
	s->next_id = (uint64_t)q->vr->idx << 32 | 1; /* unique among all queues */
	s->area_bytes = data_max_bytes ? data_max_bytes : 64 << 10;
	return s->area_bytes > SCSIDRV_DATA_MAX ? -E2BIG : 0;
}

/* ---- building ---- */

struct chain {
	struct drv_buf buf[BUFS_MAX];
	unsigned count;
};

static int chain_part(struct chain *c, uint64_t gpa, uint32_t len, bool write, uint32_t piece,
		      bool join)
{
	for (uint32_t at = 0; at < len;) {
		uint32_t step = piece && piece < len - at ? piece : len - at;
		struct drv_buf *last = c->count ? &c->buf[c->count - 1] : NULL;

		if (!at && join && last && last->write == write && last->gpa + last->len == gpa)
			last->len += step;
		else if (c->count == BUFS_MAX)
			return -E2BIG;
		else
			c->buf[c->count++] = (struct drv_buf){ gpa + at, step, write };
		at += step;
	}
	return 0;
}

static uint32_t head_size(const struct scsidrv *s)
{
	return 19 + s->cdb_size + (s->pi ? 8 : 0);
}

static int place(struct scsidrv *s, struct scsidrv_req *r, const struct scsidrv_cmd *c)
{
	uint8_t *host;

	if (c->out_bytes > s->area_bytes || c->in_bytes > s->area_bytes ||
	    head_size(s) > HEAD_ROOM - GUARD_BYTES + 32 || s->sense_size > SCSIDRV_SENSE_MAX)
		return -E2BIG;
	if (s->free_count)
		r->base_gpa = s->free_gpa[--s->free_count];
	else
		r->base_gpa = fe_alloc(s->q->fe, -1, area_bytes(s), 64);
	if (!r->base_gpa)
		return -ENOMEM;
	r->head_bytes = head_size(s) -
			(c->head_cut_bytes < head_size(s) ? c->head_cut_bytes : head_size(s));
	r->resp_bytes = RESP_BYTES + s->sense_size;
	r->resp_bytes -= c->resp_cut_bytes < r->resp_bytes ? c->resp_cut_bytes : r->resp_bytes;
	r->out_bytes = c->out_bytes;
	r->in_bytes = c->in_bytes;
	r->out_gpa = r->base_gpa + r->head_bytes + (s->layout.join_out ? 0 : GUARD_BYTES);
	r->resp_gpa = (r->out_gpa + r->out_bytes + GUARD_BYTES + 3) & ~3ull;
	r->in_gpa = r->resp_gpa + r->resp_bytes + (s->layout.join_in ? 0 : GUARD_BYTES);
	host = fe_host(s->q->fe, r->base_gpa, area_bytes(s));
	memset(host, GUARD, r->in_gpa - r->base_gpa);
	memset(host + (r->resp_gpa - r->base_gpa), 0xff, r->resp_bytes);
	memset(host + (r->in_gpa - r->base_gpa), 0x5a, r->in_bytes);
	memset(host + (r->in_gpa - r->base_gpa) + r->in_bytes, GUARD, GUARD_BYTES);
	return 0;
}

static void write_head(struct scsidrv *s, struct scsidrv_req *r, const struct scsidrv_cmd *c)
{
	uint8_t head[64 + SCSIDRV_CDB_MAX] = { 0 };
	uint32_t at = 19, n = c->cdb_bytes < s->cdb_size ? c->cdb_bytes : s->cdb_size;

	r->id = c->id ? c->id : s->next_id++;
	memcpy(head, c->lun, 8);
	memcpy(head + 8, &r->id, 8);
	head[16] = c->task_attr;
	head[17] = c->prio;
	head[18] = c->crn;
	if (s->pi) {
		memcpy(head + 19, &c->pi_out_bytes, 4);
		memcpy(head + 23, &c->pi_in_bytes, 4);
		at = 27;
	}
	if (n)
		memcpy(head + at, c->cdb, n);
	memcpy(fe_host(s->q->fe, r->base_gpa, sizeof(head)), head, r->head_bytes);
}

int scsidrv_add(struct scsidrv *s, struct scsidrv_req *r, const struct scsidrv_cmd *c)
{
	struct chain chain;
	int rc;

	memset(r, 0, sizeof(*r));
	rc = place(s, r, c);
	if (rc)
		return rc;
	write_head(s, r, c);
	if (c->out_bytes && c->out)
		memcpy(fe_host(s->q->fe, r->out_gpa, c->out_bytes), c->out, c->out_bytes);
	chain.count = 0;
	rc = chain_part(&chain, r->base_gpa, r->head_bytes, false, s->layout.head_piece_bytes,
			false);
	if (!rc)
		rc = chain_part(&chain, r->out_gpa, r->out_bytes, false, s->layout.out_piece_bytes,
				s->layout.join_out);
	if (!rc)
		rc = chain_part(&chain, r->resp_gpa, r->resp_bytes, true,
				s->layout.resp_piece_bytes, false);
	if (!rc)
		rc = chain_part(&chain, r->in_gpa, r->in_bytes, true, s->layout.in_piece_bytes,
				s->layout.join_in);
	if (!rc)
		rc = drv_add(s->q, chain.buf, chain.count, r);
	if (rc < 0)
		scsidrv_put(s, r);
	return rc < 0 ? rc : 0;
}

void *scsidrv_in(struct scsidrv *s, struct scsidrv_req *r)
{
	return fe_host(s->q->fe, r->in_gpa, r->in_bytes + 1ull);
}

void scsidrv_put(struct scsidrv *s, struct scsidrv_req *r)
{
	if (r->base_gpa && s->free_count < sizeof(s->free_gpa) / sizeof(s->free_gpa[0]))
		s->free_gpa[s->free_count++] = r->base_gpa;
	r->base_gpa = 0;
}

/* ---- completion ---- */

static bool all_guard(struct scsidrv *s, uint64_t from, uint64_t to)
{
	const uint8_t *p = from < to ? fe_host(s->q->fe, from, to - from) : NULL;

	for (uint64_t i = 0; p && i < to - from; i++)
		if (p[i] != GUARD)
			return false;
	return true;
}

static int broken(struct scsidrv *s, const char *what, uint64_t got, uint64_t want)
{
	snprintf(s->why, sizeof(s->why), "%s: %llu, expected %llu", what, (unsigned long long)got,
		 (unsigned long long)want);
	return -EPROTO;
}

static int check_length(struct scsidrv *s, struct scsidrv_req *r, const struct scsidrv_result *res)
{
	uint64_t full = (uint64_t)r->resp_bytes + r->in_bytes;
	uint64_t want = full;

	if (r->batched || r->resp_bytes < RESP_BYTES + s->sense_size)
		return 0;
	if (res->sense_bytes > s->sense_size)
		return broken(s, "sense length", res->sense_bytes, s->sense_size);
	/* With both parts the residual cannot be told apart; without data-in it is data-out's. */
	if (r->in_bytes && !r->out_bytes && res->residual <= r->in_bytes)
		want -= res->residual;
	if (r->in_bytes && r->out_bytes)
		return res->used_bytes > full ? broken(s, "used length", res->used_bytes, full) : 0;
	/* An error may leave the data-in, and the rest of sense, unwritten. */
	if (res->used_bytes > want)
		return broken(s, "used length", res->used_bytes, want);
	if (!res->status && !res->response && res->used_bytes < want - s->sense_size)
		return broken(s, "used length", res->used_bytes, want);
	return 0;
}

static int check(struct scsidrv *s, struct scsidrv_req *r, const struct scsidrv_result *res)
{
	uint64_t out_end = r->out_gpa + r->out_bytes, in_end = r->in_gpa + r->in_bytes;
	uint64_t head_end = r->base_gpa + r->head_bytes;
	uint64_t resp_end = r->resp_gpa + r->resp_bytes;

	if (!all_guard(s, head_end, r->out_gpa) || !all_guard(s, out_end, r->resp_gpa) ||
	    !all_guard(s, resp_end, r->in_gpa) || !all_guard(s, in_end, in_end + GUARD_BYTES)) {
		snprintf(s->why, sizeof(s->why), "the device wrote outside its buffers");
		return -EPROTO;
	}
	if (res->response == 0xff && r->resp_bytes == RESP_BYTES + s->sense_size) {
		snprintf(s->why, sizeof(s->why), "completed without a response");
		return -EPROTO;
	}
	return check_length(s, r, res);
}

/* SPC-5, 4.4: 70h and 71h fixed, 72h and 73h descriptors. */
static void sense_decode(struct scsidrv_result *res)
{
	const uint8_t *p = res->sense;

	if (res->sense_bytes >= 14 && (p[0] & 0x7e) == 0x70) {
		res->key = p[2] & 15;
		res->asc = p[12];
		res->ascq = p[13];
	} else if (res->sense_bytes >= 8 && (p[0] & 0x7e) == 0x72) {
		res->key = p[1] & 15;
		res->asc = p[2];
		res->ascq = p[3];
	}
}

static void result_get(struct scsidrv *s, struct scsidrv_req *r, struct scsidrv_result *ret)
{
	uint8_t resp[RESP_BYTES + SCSIDRV_SENSE_MAX];
	uint32_t room;

	memset(resp, 0xff, sizeof(resp));
	memset(ret, 0, sizeof(*ret));
	if (r->resp_bytes)
		memcpy(resp, fe_host(s->q->fe, r->resp_gpa, r->resp_bytes), r->resp_bytes);
	memcpy(&ret->sense_bytes, resp, 4);
	memcpy(&ret->residual, resp + 4, 4);
	memcpy(&ret->status_qualifier, resp + 8, 2);
	ret->status = resp[10];
	ret->response = resp[11];
	ret->used_bytes = r->used_bytes;
	room = r->resp_bytes > RESP_BYTES ? r->resp_bytes - RESP_BYTES : 0;
	memcpy(ret->sense, resp + RESP_BYTES, ret->sense_bytes < room ? ret->sense_bytes : room);
	if (ret->response != 0xff && ret->sense_bytes <= room)
		sense_decode(ret);
}

int scsidrv_reap(struct scsidrv *s, struct scsidrv_req **ret_r, struct scsidrv_result *ret,
		 bool wait)
{
	struct drv_used u;
	int rc = wait ? drv_used_wait(s->q, &u) : drv_used_get(s->q, &u);
	struct scsidrv_req *r;

	if (rc <= 0)
		return rc;
	r = u.tag;
	r->used_bytes = u.len;
	r->batched = u.batched;
	r->done = true;
	*ret_r = r;
	result_get(s, r, ret);
	return s->q->strict && check(s, r, ret) ? -EPROTO : 1;
}

int scsidrv_do(struct scsidrv *s, const struct scsidrv_cmd *cmd, struct scsidrv_result *ret)
{
	struct scsidrv_req req, *r;
	int rc = scsidrv_add(s, &req, cmd);

	if (rc)
		return rc;
	rc = drv_publish(s->q);
	if (rc < 0)
		return rc;
	rc = scsidrv_reap(s, &r, ret, true);
	if (rc < 0)
		return rc;
	if (cmd->in && cmd->in_bytes)
		memcpy(cmd->in, scsidrv_in(s, r), cmd->in_bytes);
	scsidrv_put(s, r);
	return 0;
}

/* ---- commands ---- */

static int judge(struct scsidrv *s, const char *what, int rc, const struct scsidrv_result *res)
{
	if (rc)
		return rc;
	if (!res->response && !res->status && !res->residual)
		return 0;
	snprintf(s->why, sizeof(s->why),
		 "%s: response %u, status 0x%02x, sense %x/%02x/%02x, residual %u", what,
		 res->response, res->status, res->key, res->asc, res->ascq, res->residual);
	return -EIO;
}

static void rw16(uint8_t cdb[16], uint8_t opcode, uint64_t lba, uint32_t blocks)
{
	memset(cdb, 0, 16);
	cdb[0] = opcode;
	for (unsigned i = 0; i < 8; i++)
		cdb[2 + i] = (uint8_t)(lba >> (56 - 8 * i));
	for (unsigned i = 0; i < 4; i++)
		cdb[10 + i] = (uint8_t)(blocks >> (24 - 8 * i));
}

int scsidrv_read(struct scsidrv *s, const uint8_t lun[8], uint64_t lba, uint32_t blocks,
		 uint32_t block_bytes, void *to)
{
	struct scsidrv_result res;
	uint8_t cdb[16];
	struct scsidrv_cmd c = {
		.cdb = cdb, .cdb_bytes = 16, .in = to, .in_bytes = blocks * block_bytes
	};

	memcpy(c.lun, lun, 8);
	rw16(cdb, 0x88, lba, blocks);
	return judge(s, "READ(16)", scsidrv_do(s, &c, &res), &res);
}

int scsidrv_write(struct scsidrv *s, const uint8_t lun[8], uint64_t lba, uint32_t blocks,
		  uint32_t block_bytes, const void *from)
{
	struct scsidrv_result res;
	uint8_t cdb[16];
	struct scsidrv_cmd c = {
		.cdb = cdb, .cdb_bytes = 16, .out = from, .out_bytes = blocks * block_bytes
	};

	memcpy(c.lun, lun, 8);
	rw16(cdb, 0x8a, lba, blocks);
	return judge(s, "WRITE(16)", scsidrv_do(s, &c, &res), &res);
}

int scsidrv_ready(struct scsidrv *s, const uint8_t lun[8])
{
	static const uint8_t cdb[6];
	struct scsidrv_cmd c = { .cdb = cdb, .cdb_bytes = 6 };
	struct scsidrv_result res = { 0 };
	int rc = 0;

	memcpy(c.lun, lun, 8);
	for (unsigned i = 0; i < 16; i++) {
		rc = scsidrv_do(s, &c, &res);
		if (rc || res.response || res.status != 2 || res.key != 6)
			break;
	}
	return judge(s, "TEST UNIT READY", rc, &res);
}

/* ---- control and event queue ---- */

int scsidrv_ctl_raw(struct drv *q, const void *out, uint32_t out_bytes, uint32_t piece_bytes,
		    void *in, uint32_t in_bytes)
{
	uint64_t gpa = fe_alloc(q->fe, -1, out_bytes + in_bytes + 3 * GUARD_BYTES, 64);
	uint64_t in_gpa = gpa + ((out_bytes + 7u) & ~7u) + GUARD_BYTES;
	struct chain chain = { .count = 0 };
	struct drv_used u;
	int rc;

	if (!gpa)
		return -ENOMEM;
	if (out_bytes)
		memcpy(fe_host(q->fe, gpa, out_bytes), out, out_bytes);
	memset(fe_host(q->fe, in_gpa, in_bytes + 1ull), 0xff, in_bytes + 1ull);
	rc = chain_part(&chain, gpa, out_bytes, false, piece_bytes, false);
	if (!rc)
		rc = chain_part(&chain, in_gpa, in_bytes, true, piece_bytes, false);
	if (!rc)
		rc = drv_add(q, chain.buf, chain.count, NULL);
	if (rc >= 0)
		rc = drv_publish(q);
	if (rc >= 0)
		rc = drv_used_wait(q, &u);
	if (rc < 0)
		return rc;
	if (in_bytes)
		memcpy(in, fe_host(q->fe, in_gpa, in_bytes), in_bytes);
	return (int)u.len;
}

int scsidrv_tmf(struct drv *q, uint32_t subtype, const uint8_t lun[8], uint64_t id)
{
	struct spec_scsi_tmf tmf = { .type = SPEC_SCSI_T_TMF, .subtype = subtype, .id = id };
	uint8_t response = 0xff;
	int rc;

	memcpy(tmf.lun, lun, 8);
	rc = scsidrv_ctl_raw(q, &tmf, sizeof(tmf), 0, &response, 1);
	if (rc < 0)
		return rc;
	return rc == 1 ? response : -EPROTO;
}

int scsidrv_an(struct drv *q, uint32_t type, const uint8_t lun[8], uint32_t wanted,
	       uint32_t *ret_actual)
{
	struct spec_scsi_an an = { .type = type, .event_requested = wanted };
	struct spec_scsi_an_resp resp;
	int rc;

	memcpy(an.lun, lun, 8);
	rc = scsidrv_ctl_raw(q, &an, sizeof(an), 0, &resp, sizeof(resp));
	if (rc < 0)
		return rc;
	*ret_actual = resp.event_actual;
	return rc == sizeof(resp) ? resp.response : -EPROTO;
}

int scsidrv_event_post(struct drv *q, uint32_t event_bytes, uint32_t piece_bytes)
{
	uint64_t gpa = fe_alloc(q->fe, -1, event_bytes + GUARD_BYTES, 64);
	struct chain chain = { .count = 0 };
	int rc;

	if (!gpa)
		return -ENOMEM;
	memset(fe_host(q->fe, gpa, event_bytes + GUARD_BYTES), GUARD, event_bytes + GUARD_BYTES);
	rc = chain_part(&chain, gpa, event_bytes, true, piece_bytes, false);
	if (!rc)
		rc = drv_add(q, chain.buf, chain.count, (void *)(uintptr_t)gpa);
	if (rc >= 0)
		rc = drv_publish(q);
	return rc < 0 ? rc : 0;
}

int scsidrv_event_wait(struct drv *q, struct spec_scsi_event *ret, uint32_t *ret_bytes)
{
	struct drv_used u;
	int rc = drv_used_wait(q, &u);
	uint32_t n;

	if (rc < 0)
		return rc;
	n = u.len < sizeof(*ret) ? u.len : (uint32_t)sizeof(*ret);
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, fe_host(q->fe, (uintptr_t)u.tag, sizeof(*ret)), n);
	if (ret_bytes)
		*ret_bytes = u.len;
	return 0;
}
