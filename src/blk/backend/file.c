/* file: read, write and flush. See file.h. */
#include "blk/backend/file.h"

#include <errno.h>
#include <liburing.h>
#include <limits.h>
#include <string.h>

#include "base/num.h"

static const char *const direct_names[] = { "auto", "on", "off", NULL };

static const struct opts_row file_rows[] = {
	{ .name = "path",
	  .type = OPTS_STR,
	  .offset = offsetof(struct file_params, path),
	  .help = "regular file or block device" },
	{ .name = "direct",
	  .type = OPTS_ENUM,
	  .offset = offsetof(struct file_params, direct),
	  .names = direct_names,
	  .def = "auto",
	  .help = "O_DIRECT: on, off, or auto (off where the file system has none)" },
	{ .name = "read-only",
	  .type = OPTS_BOOL,
	  .offset = offsetof(struct file_params, read_only),
	  .def = "off",
	  .help = "open for reading only" },
	{ .name = "block-size",
	  .type = OPTS_SIZE,
	  .offset = offsetof(struct file_params, block_bytes),
	  .min = 0,
	  .max = 65536,
	  .def = "0",
	  .help = "logical block size, 0: what the file needs" },
	{ .name = "lock",
	  .type = OPTS_BOOL,
	  .offset = offsetof(struct file_params, lock),
	  .def = "on",
	  .help = "refuse an image that another process writes" },
	{ .name = "discard",
	  .type = OPTS_BOOL,
	  .offset = offsetof(struct file_params, discard),
	  .def = "on",
	  .help = "offer discard (punch holes) when the file can" },
};
static const struct opts_table file_table = { "file block device", file_rows,
					      ARRAY_SIZE(file_rows) };

void file_entry_submit(struct blk_req *req, const struct file_entry *entry,
		       void (*done)(struct loop_op *op, int res, uint32_t cqe_flags))
{
	struct file_chan *fc = container_of(req->chan, struct file_chan, chan);
	struct io_uring_sqe *sqe = loop_sqe(req->chan->loop);
	bool fixed = fc->slot >= 0;

	io_uring_prep_rw(entry->opcode, sqe, fixed ? fc->slot : file_dev_of(req->chan)->fd,
			 entry->addr, entry->len, entry->off);
	if (fixed)
		sqe->flags |= IOSQE_FIXED_FILE;
	sqe->rw_flags = (int)entry->flags;
	sqe->buf_index = entry->buf_slot;
	file_io_of(req)->op.done = done;
	loop_sqe_set_op(sqe, &file_io_of(req)->op);
	loop_sqe_early(req->chan->loop);
}

bool file_should_retry(struct blk_req *req, int res)
{
	return (res == -EAGAIN || res == -EINTR) && !req->cancelled &&
	       file_io_of(req)->retries++ < FILE_RETRIES_MAX;
}

/* What one entry of a cancelled request ended with: an interrupted one is what was asked for. */
static enum blk_status file_end_status(const struct blk_req *req, int res)
{
	return req->cancelled && res == -EINTR ? BLK_ST_ABORTED : blk_status_from_errno(res);
}

/* ---- read and write ---- */

static void rw_done(struct loop_op *op, int res, uint32_t cqe_flags);

/* One piece of memory, without pinning it when it is in a registered buffer. */
static void rw_entry_fix(struct file_chan *fc, struct file_entry *entry)
{
	const struct file_buf *buf = file_buf_find(fc, entry->addr, entry->len);

	if (!buf)
		return;
	entry->opcode =
		entry->opcode == IORING_OP_WRITE ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
	entry->buf_slot = (uint16_t)buf->slot;
}

/*
 * What is left of the request, or as much of it as one entry takes: many pieces as a vector, or,
 * when only one is left or a transfer ended inside one, that piece alone (so that the caller's
 * vector is never changed).
 */
static void rw_submit(struct blk_req *req)
{
	struct file_chan *fc = container_of(req->chan, struct file_chan, chan);
	struct file_io *io = file_io_of(req);
	const struct iovec *v = req->iov + io->iov_idx;
	uint32_t count = req->iov_count - io->iov_idx;
	bool write = req->op == BLK_WRITE;
	struct file_entry entry = {
		.off = req->offset_bytes + io->done_bytes,
		.flags = write && req->flags & BLK_FUA ? RWF_DSYNC : 0,
	};

	ASSERT(io->iov_idx < req->iov_count);
	if (count == 1 || io->skip_bytes) {
		entry.opcode = write ? IORING_OP_WRITE : IORING_OP_READ;
		entry.addr = (char *)v->iov_base + io->skip_bytes;
		entry.len = (uint32_t)MIN(v->iov_len - io->skip_bytes, (size_t)FILE_PIECE_BYTES);
		if (fc->buf_count)
			rw_entry_fix(fc, &entry);
	} else {
		entry.opcode = write ? IORING_OP_WRITEV : IORING_OP_READV;
		entry.addr = v;
		entry.len = MIN(count, (uint32_t)IOV_MAX);
	}
	file_entry_submit(req, &entry, rw_done);
}

/* Steps over n transferred bytes, and over pieces without length. */
static void rw_advance(struct blk_req *req, uint64_t n)
{
	struct file_io *io = file_io_of(req);

	io->done_bytes += n;
	while (io->iov_idx < req->iov_count &&
	       n >= req->iov[io->iov_idx].iov_len - io->skip_bytes) {
		n -= req->iov[io->iov_idx].iov_len - io->skip_bytes;
		io->skip_bytes = 0;
		io->iov_idx++;
	}
	io->skip_bytes += n;
}

static void rw_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct blk_req *req = file_req_of(op);
	uint64_t left = req->len_bytes - file_io_of(req)->done_bytes;

	if (likely(res > 0 && (uint64_t)res == left)) {
		blk_complete(req, BLK_ST_OK);
		return;
	}
	if (res <= 0 && !file_should_retry(req, res)) {
		/* 0: the file ends before the size that it had */
		blk_complete(req, res ? file_end_status(req, res) : BLK_ST_IOERR);
		return;
	}
	if (req->cancelled) {
		blk_complete(req, BLK_ST_ABORTED);
		return;
	}
	if (res > 0) {
		ASSERT((uint64_t)res < left);
		rw_advance(req, (uint64_t)res);
	}
	rw_submit(req);
}

/* ---- flush ---- */

static void sync_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct blk_req *req = file_req_of(op);
	struct file_dev *file = file_dev_of(req->chan);
	enum blk_status st;

	if (res < 0 && file_should_retry(req, res)) {
		file_sync_submit(req);
		return;
	}
	st = file_end_status(req, res);
	if (st != BLK_ST_OK && st != BLK_ST_ABORTED && !file->direct)
		file_flag_set(&file->sync_failed);
	blk_complete(req, st);
}

void file_sync_submit(struct blk_req *req)
{
	struct file_entry entry = { .opcode = IORING_OP_FSYNC, .flags = IORING_FSYNC_DATASYNC };

	if (file_flag(&file_dev_of(req->chan)->sync_failed)) {
		blk_complete(req, BLK_ST_IOERR);
		return;
	}
	file_entry_submit(req, &entry, sync_done);
}

static void file_submit(struct blk_chan *chan, struct blk_req *req)
{
	*file_io_of(req) = (struct file_io){ 0 };
	switch ((enum blk_op)req->op) {
	case BLK_READ:
	case BLK_WRITE:
		if (!req->len_bytes) {
			blk_complete(req, BLK_ST_OK);
			return;
		}
		rw_advance(req, 0);
		rw_submit(req);
		return;
	case BLK_FLUSH:
		file_sync_submit(req);
		return;
	case BLK_DISCARD:
	case BLK_WRITE_ZEROES:
	case BLK_SECURE_ERASE:
		file_erase_submit(req);
		return;
	case BLK_OP_COUNT:
		break;
	}
	UNREACHABLE();
}

/*
 * What is in the kernel; nothing is found there when a job thread has the request. An entry that
 * reuses this one's address comes behind this in the queue, so it cannot be meant.
 */
static void file_cancel(struct blk_req *req)
{
	loop_op_cancel(req->chan->loop, &file_io_of(req)->op);
}

/* ---- channel ---- */

static int file_chan_open(struct blk_chan *chan, struct err *reterr)
{
	struct file_chan *fc = container_of(chan, struct file_chan, chan);

	/* Without a slot it works all the same, with one look-up more per request. */
	fc->slot = loop_file_register(chan->loop, file_dev_of(chan)->fd);
	return 0;
}

static void file_chan_close(struct blk_chan *chan)
{
	struct file_chan *fc = container_of(chan, struct file_chan, chan);

	file_buffers_drop(fc);
	if (fc->slot >= 0)
		loop_file_unregister(chan->loop, fc->slot);
}

const struct blk_impl blk_file = {
	.type = "file",
	.params = &file_table,
	.params_bytes = sizeof(struct file_params),
	.dev_bytes = sizeof(struct file_dev),
	.chan_bytes = sizeof(struct file_chan),
	.open = file_open,
	.close = file_close,
	.rescan = file_rescan,
	.resize = file_resize,
	.allocate = file_allocate,
	.allocate_undo = file_allocate_undo,
	.map = file_map,
	.chan_open = file_chan_open,
	.chan_close = file_chan_close,
	.buffers_set = file_buffers_set,
	.submit = file_submit,
	.cancel = file_cancel,
};
