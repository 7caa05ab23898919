/* See bulk.h. */
#include "blk/bulk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/num.h"

/* So much that is zero is not written as data; a multiple of every block size. */
#define GRANULE_BYTES 65536u
#define BUF_ALIGN     4096u

static void bulk_pump(struct blk_bulk *b);

/* ---- the end ---- */

static void bulk_on_home(struct blk_bulk *b)
{
	ASSERT(b->waits);
	if (--b->waits == 0)
		b->done(b);
}

static void bulk_on_end(struct loop_msg *msg)
{
	bulk_on_home(container_of(msg, struct blk_bulk, end_msg));
}

static void bulk_close(struct blk_bulk *b)
{
	blk_chan_close(b->src_chan);
	blk_chan_close(b->dst_chan);
	b->src_chan = b->dst_chan = NULL;
	for (uint32_t i = 0; i < BLK_BULK_PIECES; i++) {
		free(b->piece[i].buf);
		free(b->piece[i].pi);
	}
	b->ending = true;
	b->end_msg.fn = bulk_on_end;
	loop_post(b->home, &b->end_msg);
}

/* The first failure counts, and nothing new begins after it. */
static void bulk_fail(struct blk_bulk *b, enum blk_status status, const char *what, bool reading,
		      uint64_t at_bytes)
{
	if (b->status != BLK_ST_OK)
		return;
	b->status = status;
	b->failed = what;
	b->read_failed = reading;
	b->at_bytes = at_bytes;
}

static void bulk_flushed(struct blk_req *req)
{
	struct blk_bulk_piece *p = container_of(req, struct blk_bulk_piece, req);

	p->bulk->busy--;
	p->busy = false;
	if (req->status != BLK_ST_OK)
		bulk_fail(p->bulk, (enum blk_status)req->status, "flush", false, p->bulk->bytes);
	bulk_close(p->bulk);
}

static void bulk_flush(struct blk_bulk *b)
{
	struct blk_bulk_piece *p = &b->piece[0];

	p->busy = true;
	b->busy++;
	b->ending = true;
	p->req.op = BLK_FLUSH;
	p->req.flags = 0;
	p->req.iov_count = 0;
	p->req.offset_bytes = p->req.len_bytes = 0;
	p->req.done = bulk_flushed;
	blk_submit(b->dst_chan, &p->req);
}

/* ---- a piece ---- */

static void piece_write(struct blk_bulk_piece *p);

static void piece_end(struct blk_bulk_piece *p)
{
	struct blk_bulk *b = p->bulk;

	p->busy = false;
	b->busy--;
	bulk_pump(b);
}

static void piece_submit(struct blk_bulk_piece *p, struct blk_chan *chan, enum blk_op op,
			 uint64_t at_bytes, uint64_t len_bytes, void (*done)(struct blk_req *req))
{
	const struct blk_bulk *b = p->bulk;
	const bool data = op == BLK_READ || op == BLK_WRITE;
	const bool pi = data && b->with_pi && !p->zeroes;

	p->iov = (struct iovec){ .iov_base = p->zeroes ? p->buf : p->buf + at_bytes,
				 .iov_len = len_bytes };
	p->req.op = (uint8_t)op;
	p->req.flags = pi ? BLK_PI : data ? 0 : BLK_UNMAP;
	p->req.iov = &p->iov;
	p->req.iov_count = data;
	p->req.pi = pi ? p->pi + at_bytes / blk_dev_caps(b->dst)->block_bytes * BLK_PI_BYTES : NULL;
	p->req.offset_bytes = p->offset_bytes + at_bytes;
	p->req.len_bytes = len_bytes;
	p->req.done = done;
	blk_submit(chan, &p->req);
}

static void piece_written(struct blk_req *req)
{
	struct blk_bulk_piece *p = container_of(req, struct blk_bulk_piece, req);
	struct blk_bulk *b = p->bulk;

	if (req->status == BLK_ST_UNSUPP && req->op == BLK_WRITE_ZEROES) {
		b->no_zeroes = true; /* what is behind it was exchanged for one that cannot */
		piece_write(p);
		return;
	}
	if (req->status != BLK_ST_OK)
		bulk_fail(b, (enum blk_status)req->status, blk_op_name((enum blk_op)req->op), false,
			  req->offset_bytes);
	p->at_bytes += req->len_bytes;
	if (b->status == BLK_ST_OK)
		atomic_fetch_add_explicit(&b->done_bytes, req->len_bytes, memory_order_relaxed);
	if (p->at_bytes < p->len_bytes && b->status == BLK_ST_OK && !b->stopped)
		piece_write(p);
	else
		piece_end(p);
}

static bool is_zero(const uint8_t *buf, uint64_t len)
{
	return !buf[0] && !memcmp(buf, buf + 1, len - 1);
}

/* How much from at_bytes on is alike: all zero, or none of it. */
static uint64_t piece_run(const struct blk_bulk_piece *p, bool *ret_zero)
{
	uint64_t at = p->at_bytes, n = MIN(p->len_bytes - at, (uint64_t)GRANULE_BYTES);

	*ret_zero = is_zero(p->buf + at, n);
	for (at += n; at < p->len_bytes; at += n) {
		n = MIN(p->len_bytes - at, (uint64_t)GRANULE_BYTES);
		if (is_zero(p->buf + at, n) != *ret_zero)
			break;
	}
	return at - p->at_bytes;
}

static bool piece_buf_make(struct blk_bulk_piece *p)
{
	const struct blk_bulk *b = p->bulk;

	if (!p->buf)
		p->buf = aligned_alloc(BUF_ALIGN, BLK_BULK_PIECE_BYTES);
	if (!p->pi && b->with_pi)
		p->pi = malloc(BLK_BULK_PIECE_BYTES / blk_dev_caps(b->dst)->block_bytes *
			       BLK_PI_BYTES);
	return p->buf && (p->pi || !b->with_pi);
}

static void piece_fail_memory(struct blk_bulk_piece *p)
{
	bulk_fail(p->bulk, BLK_ST_IOERR, "memory", false, p->offset_bytes);
	piece_end(p);
}

/* The next part of what is to be written. */
static void piece_write(struct blk_bulk_piece *p)
{
	struct blk_bulk *b = p->bulk;
	const struct blk_caps *caps = blk_dev_caps(b->dst);
	uint64_t n = p->len_bytes - p->at_bytes, max = caps->max_zeroes_bytes;
	bool zero = p->zeroes;

	if (!p->zeroes && !b->no_zeroes && !b->with_pi)
		n = piece_run(p, &zero);
	if (zero && !b->no_zeroes) {
		n = max ? MIN(n, MAX(num_round_down(max, caps->block_bytes),
				     (uint64_t)caps->block_bytes))
			: n;
		piece_submit(p, b->dst_chan, BLK_WRITE_ZEROES, p->at_bytes, n, piece_written);
		return;
	}
	if (p->zeroes) {
		if (!piece_buf_make(p)) {
			piece_fail_memory(p);
			return;
		}
		n = MIN(n, (uint64_t)BLK_BULK_PIECE_BYTES);
		memset(p->buf, 0, n);
	}
	piece_submit(p, b->dst_chan, BLK_WRITE, p->at_bytes, n, piece_written);
}

static void piece_read(struct blk_req *req)
{
	struct blk_bulk_piece *p = container_of(req, struct blk_bulk_piece, req);
	struct blk_bulk *b = p->bulk;

	if (req->status != BLK_ST_OK)
		bulk_fail(b, (enum blk_status)req->status, "read", true, req->offset_bytes);
	if (b->status == BLK_ST_OK && !b->stopped)
		piece_write(p);
	else
		piece_end(p);
}

static void piece_start(struct blk_bulk_piece *p)
{
	struct blk_bulk *b = p->bulk;
	const uint64_t end = b->src ? b->known_bytes : b->bytes;

	p->zeroes = !b->src || b->hole;
	p->offset_bytes = b->next_bytes;
	p->at_bytes = 0;
	p->len_bytes = MIN(end - b->next_bytes,
			   (uint64_t)(p->zeroes ? BLK_BULK_ZERO_BYTES : BLK_BULK_PIECE_BYTES));
	b->next_bytes += p->len_bytes;
	p->busy = true;
	b->busy++;
	if (p->zeroes)
		piece_write(p);
	else if (piece_buf_make(p))
		piece_submit(p, b->src_chan, BLK_READ, 0, p->len_bytes, piece_read);
	else
		piece_fail_memory(p);
}

/* ---- what the source is ---- */

/*
 * A hole that is worth it, or what is to be read: as much as a piece, small holes in between with
 * it, or each of them would cost a turn of a job.
 */
static void bulk_map_run(struct job *job)
{
	struct blk_bulk *b = container_of(job, struct blk_bulk, map_job);
	uint64_t at = b->next_bytes, end;
	bool mapped;

	b->map_mapped = true;
	do {
		b->map_rc = blk_dev_map(b->src, at, b->bytes, &end, &mapped);
		if (b->map_rc < 0)
			return;
		if (!mapped && end - at >= GRANULE_BYTES) {
			b->map_mapped = at != b->next_bytes;
			break;
		}
		at = end;
	} while (at < b->bytes && at - b->next_bytes < BLK_BULK_PIECE_BYTES);
	b->map_end_bytes = b->map_mapped ? at : end;
}

/* A hole is told in blocks of the source; what is left of one of the destination's is read. */
static void bulk_map_done(struct job *job)
{
	struct blk_bulk *b = container_of(job, struct blk_bulk, map_job);
	const uint64_t block =
		MAX(blk_dev_caps(b->dst)->block_bytes, blk_dev_caps(b->src)->block_bytes);
	uint64_t end;

	b->mapping = false;
	b->hole = b->map_rc == 0 && !b->map_mapped;
	end = b->hole ? num_round_down(b->map_end_bytes, block)
		      : num_round_up(b->map_end_bytes, block);
	if (b->hole && end <= b->next_bytes) {
		b->hole = false;
		end = b->next_bytes + block;
	}
	b->no_map = b->map_rc < 0;
	b->known_bytes = b->no_map ? b->bytes : MIN(end, b->bytes);
	bulk_pump(b);
}

static void bulk_map_start(struct blk_bulk *b)
{
	b->mapping = true;
	b->map_job = (struct job){ .fn = bulk_map_run, .done = bulk_map_done };
	job_start(&b->map_job);
}

/* ---- the whole ---- */

/* Whatever can go on now; when nothing can and nothing is under way, that was all. */
static void bulk_pump(struct blk_bulk *b)
{
	if (b->ending)
		return;
	for (uint32_t i = 0; i < BLK_BULK_PIECES; i++) {
		if (b->mapping || b->stopped || b->status != BLK_ST_OK || b->next_bytes == b->bytes)
			break;
		if (b->src && b->next_bytes == b->known_bytes)
			bulk_map_start(b);
		else if (!b->piece[i].busy)
			piece_start(&b->piece[i]);
	}
	if (b->busy || b->mapping || b->ending)
		return;
	if (b->stopped)
		bulk_fail(b, BLK_ST_ABORTED, "stop", false, b->next_bytes);
	if (b->status == BLK_ST_OK)
		bulk_flush(b);
	else
		bulk_close(b);
}

static void bulk_begin(struct loop_msg *msg)
{
	struct blk_bulk *b = container_of(msg, struct blk_bulk, begin_msg);

	if (b->src && blk_chan_open(b->src, b->loop, &b->src_chan, NULL) < 0)
		bulk_fail(b, BLK_ST_IOERR, "open", true, 0);
	else if (blk_chan_open(b->dst, b->loop, &b->dst_chan, NULL) < 0)
		bulk_fail(b, BLK_ST_IOERR, "open", false, 0);
	bulk_pump(b);
}

int blk_bulk_check(const struct blk_dev *src, const struct blk_dev *dst, struct err *reterr)
{
	const struct blk_caps *from = blk_dev_caps(src), *to = blk_dev_caps(dst);

	if (to->read_only)
		return err_set(reterr, -EROFS, "%s is read-only", blk_dev_name(dst));
	if (to->size_bytes < from->size_bytes)
		return err_set(reterr, -EINVAL, "%s has %llu bytes, expected at least %s's, %llu",
			       blk_dev_name(dst), (unsigned long long)to->size_bytes,
			       blk_dev_name(src), (unsigned long long)from->size_bytes);
	if (from->size_bytes % to->block_bytes)
		return err_set(reterr, -EINVAL,
			       "%s's size, %llu bytes, is not a multiple of %s's block size, %u",
			       blk_dev_name(src), (unsigned long long)from->size_bytes,
			       blk_dev_name(dst), to->block_bytes);
	if (from->pi_type && (from->pi_type != to->pi_type || from->block_bytes != to->block_bytes))
		return err_set(
			reterr, -EINVAL,
			"%s has protection information of type %u for blocks of %u bytes, %s "
			"type %u (0: none) for blocks of %u: it would be lost",
			blk_dev_name(src), from->pi_type, from->block_bytes, blk_dev_name(dst),
			to->pi_type, to->block_bytes);
	return 0;
}

void blk_bulk_start(struct blk_bulk *b, struct loop *loop)
{
	b->loop = loop;
	b->home = loop_current();
	ASSERT(b->home && !b->waits);
	b->waits = 1;
	b->status = BLK_ST_OK;
	b->no_zeroes = !blk_dev_caps(b->dst)->write_zeroes;
	b->with_pi = b->src && blk_dev_caps(b->src)->pi_type;
	b->no_map = b->src && !blk_dev_can_map(b->src);
	b->known_bytes = b->no_map ? b->bytes : 0;
	for (uint32_t i = 0; i < BLK_BULK_PIECES; i++)
		b->piece[i].bulk = b;
	b->begin_msg.fn = bulk_begin;
	loop_post(loop, &b->begin_msg);
}

/* ---- stop: to its loop, and back ---- */

static void bulk_on_stopped(struct loop_msg *msg)
{
	bulk_on_home(container_of(msg, struct blk_bulk, stop_msg));
}

static void bulk_on_stop(struct loop_msg *msg)
{
	struct blk_bulk *b = container_of(msg, struct blk_bulk, stop_msg);

	b->stopped = true;
	for (uint32_t i = 0; i < BLK_BULK_PIECES; i++)
		if (b->piece[i].busy)
			blk_cancel(&b->piece[i].req);
	b->stop_msg.fn = bulk_on_stopped;
	loop_post(b->home, &b->stop_msg);
}

void blk_bulk_stop(struct blk_bulk *b)
{
	if (b->stopping)
		return;
	b->stopping = true;
	b->waits++;
	b->stop_msg.fn = bulk_on_stop;
	loop_post(b->loop, &b->stop_msg);
}
