/*
 * file: discard, write-zeroes and secure erase. What a file system or device cannot do is found
 * out by the first request, remembered, and done the next best way:
 *
 *   DISCARD        files: punch a hole.  devices: io_uring command (Linux 6.12), ioctl on a job
 * thread WRITE_ZEROES   UNMAP: punch a hole.  then: zero range.  then: write zeroes SECURE_ERASE
 * devices: ioctl on a job thread
 *
 * fallocate on a block device is the device's own write-zeroes; its PUNCH_HOLE reads as zeroes
 * afterwards, as on files.
 */
#include "blk/backend/file.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "base/num.h"
#include "loop/job.h"

/* linux/blkdev.h, Linux 6.12: start in addr, length in addr3 */
#ifndef BLOCK_URING_CMD_DISCARD
#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)
#endif

#define MODE_PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define MODE_ZERO  (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)

static bool is_unsupported(int res)
{
	return res == -EOPNOTSUPP || res == -ENOSYS || res == -ENOTTY;
}

/* ---- ioctls that block, on a job thread ---- */

struct erase_job {
	struct job job;
	int res;
};
_Static_assert(sizeof(struct erase_job) <= sizeof(((struct blk_req *)0)->impl), "impl");

static struct blk_req *job_req(struct job *job)
{
	void *impl = container_of(job, struct erase_job, job);

	return container_of(impl, struct blk_req, impl);
}

static void job_erase(struct job *job)
{
	struct blk_req *req = job_req(job);
	uint64_t range[2] = { req->offset_bytes, req->len_bytes };
	unsigned long cmd = req->op == BLK_SECURE_ERASE ? BLKSECDISCARD : BLKDISCARD;
	int r = ioctl(file_dev_of(req->chan)->fd, cmd, range);

	container_of(job, struct erase_job, job)->res = r < 0 ? -errno : 0;
}

static void job_erase_done(struct job *job)
{
	blk_complete(job_req(job),
		     blk_status_from_errno(container_of(job, struct erase_job, job)->res));
}

static void job_erase_start(struct blk_req *req)
{
	struct erase_job *ej = (struct erase_job *)req->impl;

	*ej = (struct erase_job){ .job = { .fn = job_erase, .done = job_erase_done } };
	job_start(&ej->job);
}

static void discard_cmd_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct blk_req *req = file_req_of(op);

	if (is_unsupported(res) || res == -EINVAL) {
		file_flag_set(&file_dev_of(req->chan)->no_discard_cmd);
		job_erase_start(req);
		return;
	}
	blk_complete(req, blk_status_from_errno(res));
}

static void discard_cmd_submit(struct blk_req *req)
{
	struct io_uring_sqe *sqe = loop_sqe(req->chan->loop);

	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, file_dev_of(req->chan)->fd, NULL, 0, 0);
	sqe->cmd_op = BLOCK_URING_CMD_DISCARD;
	sqe->addr = req->offset_bytes;
	sqe->addr3 = req->len_bytes;
	file_io_of(req)->op.done = discard_cmd_done;
	loop_sqe_set_op(sqe, &file_io_of(req)->op);
}

/* ---- zeroes by writing them ---- */

static void fill_submit(struct blk_req *req);

static void fill_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct blk_req *req = file_req_of(op);
	struct file_io *io = file_io_of(req);

	if (res <= 0 && !file_should_retry(req, res)) {
		blk_complete(req, res ? blk_status_from_errno(res) : BLK_ST_IOERR);
		return;
	}
	if (res > 0)
		io->done_bytes += (uint64_t)res;
	if (io->done_bytes == req->len_bytes)
		blk_complete(req, BLK_ST_OK);
	else if (req->cancelled)
		blk_complete(req, BLK_ST_ABORTED);
	else
		fill_submit(req);
}

static void fill_submit(struct blk_req *req)
{
	struct file_io *io = file_io_of(req);
	struct file_entry entry = {
		.opcode = IORING_OP_WRITE,
		.addr = file_dev_of(req->chan)->zeroes,
		.len = (uint32_t)MIN(req->len_bytes - io->done_bytes, (uint64_t)FILE_ZEROES_BYTES),
		.off = req->offset_bytes + io->done_bytes,
		.flags = req->flags & BLK_FUA ? RWF_DSYNC : 0,
	};

	file_entry_submit(req, &entry, fill_done);
}

/* ---- fallocate ---- */

static void fallocate_submit(struct blk_req *req, int mode,
			     void (*done)(struct loop_op *op, int res, uint32_t cqe_flags))
{
	/* the length is in addr, the mode in len: io_uring_prep_fallocate(3) */
	struct file_entry entry = {
		.opcode = IORING_OP_FALLOCATE,
		.addr = (const void *)(uintptr_t)req->len_bytes,
		.len = (uint32_t)mode,
		.off = req->offset_bytes,
	};

	file_entry_submit(req, &entry, done);
}

static void discard_submit(struct blk_req *req);
static void zeroes_submit(struct blk_req *req);

static void discard_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct blk_req *req = file_req_of(op);

	if (res < 0 && file_should_retry(req, res)) {
		discard_submit(req);
		return;
	}
	blk_complete(req, blk_status_from_errno(res));
}

static void discard_submit(struct blk_req *req)
{
	struct file_dev *file = file_dev_of(req->chan);

	if (!file->block_device)
		fallocate_submit(req, MODE_PUNCH, discard_done);
	else if (file_flag(&file->no_discard_cmd))
		job_erase_start(req);
	else
		discard_cmd_submit(req);
}

/* One way of zeroing ended: done, the same again, or, when it is unknown here, the next way. */
static void zeroes_end(struct blk_req *req, int res, bool *unsupported)
{
	if (is_unsupported(res)) {
		file_flag_set(unsupported);
		zeroes_submit(req);
	} else if (res < 0 && file_should_retry(req, res)) {
		zeroes_submit(req);
	} else if (res >= 0 && req->flags & BLK_FUA) {
		file_sync_submit(req);
	} else {
		blk_complete(req, blk_status_from_errno(res));
	}
}

static void zeroes_punch_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct blk_req *req = file_req_of(op);

	zeroes_end(req, res, &file_dev_of(req->chan)->no_punch);
}

static void zeroes_range_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct blk_req *req = file_req_of(op);

	zeroes_end(req, res, &file_dev_of(req->chan)->no_zero_range);
}

static void zeroes_submit(struct blk_req *req)
{
	struct file_dev *file = file_dev_of(req->chan);
	bool unmap = req->flags & BLK_UNMAP && file->dev.caps.zeroes_unmap;

	if (unmap && !file_flag(&file->no_punch))
		fallocate_submit(req, MODE_PUNCH, zeroes_punch_done);
	else if (!file_flag(&file->no_zero_range))
		fallocate_submit(req, MODE_ZERO, zeroes_range_done);
	else
		fill_submit(req);
}

void file_erase_submit(struct blk_req *req)
{
	if (!req->len_bytes)
		blk_complete(req, BLK_ST_OK); /* fallocate refuses an empty range */
	else if (req->op == BLK_DISCARD)
		discard_submit(req);
	else if (req->op == BLK_WRITE_ZEROES)
		zeroes_submit(req);
	else
		job_erase_start(req);
}
