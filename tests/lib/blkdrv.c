/* See blkdrv.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blkdrv.h"

#define GUARD_BYTES 64
#define GUARD	    0xa5
#define HEAD_BYTES  64 /* room of the header, guard included */
#define BUFS_MAX    DRV_CHAIN_MAX

/* Area: [header 16][guard 48][data][status 1][guard 63]. */
static uint64_t area_bytes(const struct blkdrv *b)
{
	return HEAD_BYTES + (uint64_t)b->area_bytes + GUARD_BYTES;
}

int blkdrv_init(struct blkdrv *b, struct drv *q, uint32_t data_max_bytes)
{
	memset(b, 0, sizeof(*b));
	b->q = q;
	b->check_len = true;
	b->area_bytes = data_max_bytes ? data_max_bytes : 64 << 10;
	return b->area_bytes > BLKDRV_DATA_MAX ? -E2BIG : 0;
}

static int add_piece(struct drv_buf *bufs, unsigned *n, uint64_t gpa, uint32_t len, bool write,
		     bool join)
{
	if (join && *n && bufs[*n - 1].write == write &&
	    bufs[*n - 1].gpa + bufs[*n - 1].len == gpa) {
		bufs[*n - 1].len += len;
		return 0;
	}
	if (*n == BUFS_MAX)
		return -E2BIG;
	bufs[(*n)++] = (struct drv_buf){ gpa, len, write };
	return 0;
}

static int add_pieces(struct drv_buf *bufs, unsigned *n, uint64_t gpa, uint32_t len, bool write,
		      uint32_t piece, bool join_first)
{
	for (uint32_t at = 0; at < len;) {
		uint32_t step = piece && piece < len - at ? piece : len - at;
		int rc = add_piece(bufs, n, gpa + at, step, write, join_first && !at);

		if (rc)
			return rc;
		at += step;
	}
	return 0;
}

static int place(struct blkdrv *b, struct blkdrv_req *r, uint32_t len, bool head_joined)
{
	uint8_t *host;

	if (len > b->area_bytes)
		return -E2BIG;
	if (b->free_count)
		r->base_gpa = b->free_gpa[--b->free_count];
	else
		r->base_gpa = fe_alloc(b->q->fe, -1, area_bytes(b), 512);
	if (!r->base_gpa)
		return -ENOMEM;
	host = fe_host(b->q->fe, r->base_gpa, area_bytes(b));
	memset(host, GUARD, HEAD_BYTES);
	/* A joined header must lie right before its data. */
	r->data_gpa = r->base_gpa + (head_joined ? sizeof(struct spec_blk_hdr) : HEAD_BYTES);
	r->status_gpa = r->data_gpa + len;
	memset(host + (r->data_gpa - r->base_gpa), 0x5a, len);
	memset(host + (r->status_gpa - r->base_gpa), GUARD, GUARD_BYTES);
	host[r->status_gpa - r->base_gpa] = 0xff;
	return 0;
}

int blkdrv_add(struct blkdrv *b, struct blkdrv_req *r, uint32_t type, uint64_t sector,
	       const void *out, uint32_t out_bytes, uint32_t in_bytes)
{
	struct spec_blk_hdr hdr = { type, 0, sector };
	struct drv_buf bufs[BUFS_MAX];
	uint32_t len = out_bytes ? out_bytes : in_bytes;
	unsigned n = 0;
	int rc;

	memset(r, 0, sizeof(*r));
	rc = place(b, r, len, b->layout.join_head && out_bytes);
	if (rc)
		return rc;
	r->data_bytes = len;
	r->device_writes = !out_bytes;
	memcpy(fe_host(b->q->fe, r->base_gpa, sizeof(hdr)), &hdr, sizeof(hdr));
	if (out_bytes && out)
		memcpy(blkdrv_data(b, r), out, out_bytes);
	rc = add_pieces(bufs, &n, r->base_gpa, sizeof(hdr), false, b->layout.head_piece_bytes,
			false);
	if (!rc)
		rc = add_pieces(bufs, &n, r->data_gpa, len, !out_bytes, b->layout.data_piece_bytes,
				b->layout.join_head);
	if (!rc)
		rc = add_pieces(bufs, &n, r->status_gpa, 1, true, 0, b->layout.join_status);
	if (!rc)
		rc = drv_add(b->q, bufs, n, r);
	if (rc < 0)
		blkdrv_put(b, r);
	return rc < 0 ? rc : 0;
}

void *blkdrv_data(struct blkdrv *b, struct blkdrv_req *r)
{
	return fe_host(b->q->fe, r->data_gpa, r->data_bytes + 1ull);
}

void blkdrv_put(struct blkdrv *b, struct blkdrv_req *r)
{
	if (r->base_gpa && b->free_count < sizeof(b->free_gpa) / sizeof(b->free_gpa[0]))
		b->free_gpa[b->free_count++] = r->base_gpa;
	r->base_gpa = 0;
}

static bool all_guard(const uint8_t *p, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (p[i] != GUARD)
			return false;
	return true;
}

static int check(struct blkdrv *b, struct blkdrv_req *r, uint8_t status)
{
	uint8_t *host = fe_host(b->q->fe, r->base_gpa, area_bytes(b));
	uint32_t head = sizeof(struct spec_blk_hdr);
	uint64_t want = 1 + (r->device_writes ? r->data_bytes : 0);

	if (!all_guard(host + head, r->data_gpa - r->base_gpa - head) ||
	    !all_guard(host + (r->status_gpa - r->base_gpa) + 1, GUARD_BYTES - 1)) {
		snprintf(b->why, sizeof(b->why), "the device wrote outside its buffers");
		return -EPROTO;
	}
	if (b->check_len && !r->batched && status == SPEC_BLK_S_OK && r->used_bytes != want) {
		snprintf(b->why, sizeof(b->why), "used length %u, expected %llu", r->used_bytes,
			 (unsigned long long)want);
		return -EPROTO;
	}
	if (status == 0xff) {
		snprintf(b->why, sizeof(b->why), "completed without a status byte");
		return -EPROTO;
	}
	return 0;
}

int blkdrv_reap(struct blkdrv *b, struct blkdrv_req **ret_r, uint8_t *ret_status, bool wait)
{
	struct drv_used u;
	struct blkdrv_req *r;
	uint8_t *status;
	int rc = wait ? drv_used_wait(b->q, &u) : drv_used_get(b->q, &u);

	if (rc <= 0)
		return rc;
	r = u.tag;
	r->used_bytes = u.len;
	r->batched = u.batched;
	r->done = true;
	status = fe_host(b->q->fe, r->status_gpa, 1);
	*ret_r = r;
	*ret_status = *status;
	if (b->q->strict && check(b, r, *status))
		return -EPROTO;
	return 1;
}

int blkdrv_do(struct blkdrv *b, uint32_t type, uint64_t sector, const void *out, uint32_t out_bytes,
	      void *in, uint32_t in_bytes)
{
	struct blkdrv_req req, *r;
	uint8_t status;
	int rc = blkdrv_add(b, &req, type, sector, out, out_bytes, in_bytes);

	if (rc)
		return rc;
	rc = drv_publish(b->q);
	if (rc < 0)
		return rc;
	rc = blkdrv_reap(b, &r, &status, true);
	if (rc < 0)
		return rc;
	if (in_bytes && in)
		memcpy(in, blkdrv_data(b, r), in_bytes);
	blkdrv_put(b, r);
	return status;
}

int blkdrv_read(struct blkdrv *b, uint64_t sector, void *to, uint32_t len)
{
	return blkdrv_do(b, SPEC_BLK_IN, sector, NULL, 0, to, len);
}

int blkdrv_write(struct blkdrv *b, uint64_t sector, const void *from, uint32_t len)
{
	return blkdrv_do(b, SPEC_BLK_OUT, sector, from, len, NULL, 0);
}

int blkdrv_flush(struct blkdrv *b)
{
	return blkdrv_do(b, SPEC_BLK_FLUSH, 0, NULL, 0, NULL, 0);
}

int blkdrv_get_id(struct blkdrv *b, char ret_id[21])
{
	ret_id[20] = '\0';
	return blkdrv_do(b, SPEC_BLK_GET_ID, 0, NULL, 0, ret_id, 20);
}

int blkdrv_ranges(struct blkdrv *b, uint32_t type, const struct spec_blk_range *ranges,
		  unsigned count)
{
	return blkdrv_do(b, type, 0, ranges, (uint32_t)(count * sizeof(*ranges)), NULL, 0);
}
