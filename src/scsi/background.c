/* See background.h. */
#include "scsi/background.h"

bool scsi_background_start(struct scsi_background *b, const struct scsi_task *t)
{
	struct scsi_lu *lu = task_lu(t);

	b->sl = scsi_loop_get(t->queue->sl->loop);
	if (!b->sl)
		return false;
	if (!scsi_loop_chan(b->sl, lu)) {
		scsi_loop_put(b->sl);
		return false;
	}
	b->lu = lu;
	pthread_mutex_lock(&lu->lock);
	lu->background_count++;
	pthread_mutex_unlock(&lu->lock);
	return true;
}

static void background_io_done(struct blk_req *req)
{
	struct scsi_background *b = container_of(req, struct scsi_background, req);

	b->next(b, (enum blk_status)req->status);
}

void scsi_background_io(struct scsi_background *b, enum blk_op op, uint8_t flags,
			uint64_t offset_bytes, void *buf, uint64_t len_bytes,
			void (*next)(struct scsi_background *b, enum blk_status status))
{
	b->next = next;
	b->iov = (struct iovec){ .iov_base = buf, .iov_len = buf ? len_bytes : 0 };
	b->req.op = (uint8_t)op;
	b->req.flags = flags;
	b->req.iov = &b->iov;
	b->req.iov_count = buf ? 1 : 0;
	b->req.offset_bytes = offset_bytes;
	b->req.len_bytes = len_bytes;
	b->req.done = background_io_done;
	blk_submit(scsi_loop_chan(b->sl, b->lu), &b->req); /* open since the start */
}

static void background_close(struct loop_msg *msg)
{
	struct scsi_lu *lu = container_of(msg, struct scsi_lu, close_msg);

	lu->close(lu);
}

void scsi_background_end(struct scsi_background *b)
{
	struct scsi_lu *lu = b->lu;
	struct loop *home;

	scsi_loop_put(b->sl);
	pthread_mutex_lock(&lu->lock);
	ASSERT(lu->background_count);
	home = --lu->background_count ? NULL : lu->close_loop;
	if (home) {
		lu->close_msg.fn = background_close;
		loop_post(home, &lu->close_msg);
	}
	pthread_mutex_unlock(&lu->lock);
}

bool scsi_background_defers(struct scsi_lu *lu, void (*close)(struct scsi_lu *lu))
{
	bool defers;

	pthread_mutex_lock(&lu->lock);
	defers = lu->background_count;
	if (defers) {
		lu->close = close;
		lu->close_loop = loop_current();
		ASSERT(lu->close_loop);
	}
	pthread_mutex_unlock(&lu->lock);
	return defers;
}
