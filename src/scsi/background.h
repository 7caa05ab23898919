/*
 * What goes on after its command has been answered (IMMED): SANITIZE, a flush. Holds the unit and
 * its loop's channel: the unit is closed when the last of them has ended. Runs on the loop of the
 * command's queue, one block request at a time.
 */
#ifndef SCSI_BACKGROUND_H
#define SCSI_BACKGROUND_H

#include "scsi/scsi_impl.h"

struct scsi_background {
	struct scsi_lu *lu;
	struct scsi_loop *sl;
	/* private: */
	struct blk_req req;
	struct iovec iov;
	void (*next)(struct scsi_background *b, enum blk_status status);
};

/* false: no memory, and nothing is held. Thread: owner loop. */
bool scsi_background_start(struct scsi_background *b, const struct scsi_task *t);
/* One block request, bytes; buf NULL: an operation without memory. next comes once, later. */
void scsi_background_io(struct scsi_background *b, enum blk_op op, uint8_t flags,
			uint64_t offset_bytes, void *buf, uint64_t len_bytes,
			void (*next)(struct scsi_background *b, enum blk_status status));
/* Lets go of everything; b's memory is the caller's again. */
void scsi_background_end(struct scsi_background *b);

/*
 * lu.c, when the last reference went: is anything still going on? Then close(lu) comes on this
 * loop when it has ended. Thread: main.
 */
bool scsi_background_defers(struct scsi_lu *lu, void (*close)(struct scsi_lu *lu));

#endif
