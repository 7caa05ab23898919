/*
 * Bulk work on a whole node: a copy of another one, or zeroes. In pieces of bounded size and
 * number, on one loop, through channels of its own, which are closed when it ends.
 *
 *   blk_bulk_start --message--> its loop: piece, piece ... flush --message--> done, on the caller's
 *
 * Zeroes are written as BLK_WRITE_ZEROES with BLK_UNMAP where the destination has that. Of a source
 * that knows what is allocated, holes are not read; what was read and is zero is not written as
 * data. What is beyond `bytes` of the destination stays as it is.
 *
 * It begins a piece only when another one has ended, so that storage never has more of it than
 * BLK_BULK_PIECES at a time; what a loop without guests is for is its caller's to know.
 */
#ifndef BLK_BULK_H
#define BLK_BULK_H

#include <stdatomic.h>
#include <sys/uio.h>

#include "blk/blk.h"
#include "loop/job.h"

#define BLK_BULK_PIECES	     4
#define BLK_BULK_PIECE_BYTES (512u << 10) /* of what is read or written from memory */
#define BLK_BULK_ZERO_BYTES  (16u << 20)  /* of what the back-end does by itself */

struct blk_bulk;

struct blk_bulk_piece {
	struct blk_req req;
	struct iovec iov;
	struct blk_bulk *bulk;
	uint8_t *buf; /* BLK_BULK_PIECE_BYTES; NULL until data goes through it */
	uint8_t *pi;
	uint64_t offset_bytes, len_bytes, at_bytes; /* at: how much of it is written */
	bool busy, zeroes;
};

struct blk_bulk {
	/* filled by the caller; references of its own, beyond done */
	struct blk_dev *src; /* NULL: zeroes */
	struct blk_dev *dst;
	uint64_t bytes; /* a multiple of the block sizes, at most the sizes of both */
	void (*done)(struct blk_bulk *bulk); /* once, later. Thread: of blk_bulk_start */
	/* to be looked at by any thread */
	_Atomic uint64_t done_bytes;
	/* what came of it, for done. ABORTED: it was stopped */
	enum blk_status status;
	bool read_failed;   /* of the source; else of the destination */
	const char *failed; /* what failed: "read", "flush", "open" */
	uint64_t at_bytes;  /* where */
	/* private: */
	struct loop *loop, *home;
	struct blk_chan *src_chan, *dst_chan;
	struct blk_bulk_piece piece[BLK_BULK_PIECES];
	uint32_t busy, waits; /* waits, of home: the end, and a stop on its way */
	uint64_t next_bytes;  /* where the next piece begins */
	uint64_t known_bytes; /* up to there it is known what the source is */
	bool hole, mapping, no_map, no_zeroes, with_pi, ending;
	int map_rc;
	uint64_t map_end_bytes;
	bool map_mapped;
	struct job map_job;
	struct loop_msg begin_msg, end_msg, stop_msg;
	bool stopping; /* main's; its loop is told by stop_msg */
	bool stopped;  /* its loop's */
};

/* Can it be done? -EINVAL: sizes or blocks do not fit; both are named. Thread: main. */
int blk_bulk_check(const struct blk_dev *src, const struct blk_dev *dst, struct err *reterr);
/* bulk: filled, and zeroed otherwise; the callee's until done. Thread: main. */
void blk_bulk_start(struct blk_bulk *bulk, struct loop *loop);
/* Requests under way are cancelled; done comes all the same. Thread: as blk_bulk_start. */
void blk_bulk_stop(struct blk_bulk *bulk);

#endif
