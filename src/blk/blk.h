/*
 * The block waist: every device model submits here, every back-end completes here. Port 2 of the
 * house plan.
 *
 * A `struct blk_dev` is a node of the graph: a back-end, or a filter on another node. It is opened
 * and closed on main. A `struct blk_chan` is one data loop's private way into a node (its own
 * io_uring entries, bounce memory, counters); a model opens one per queue's loop.
 *
 * blk_submit cannot fail: a request always completes exactly once, through req->done, on the
 * channel's loop, never before blk_submit returned. The waist checks the contract on both sides:
 * on the way in range, alignment and capability (a wrong one completes with the status that says
 * so and never reaches the back-end); on the way out exactly-once (ASSERT: our own fault).
 *
 * Durability: a completed FLUSH means that every write completed before it was submitted is on
 * stable storage. BLK_FUA on a write means that this write is, when it completes.
 *
 * Requests are embedded in the caller's per-queue array; nothing is allocated per request.
 */
#ifndef BLK_BLK_H
#define BLK_BLK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "loop/loop.h"

#define BLK_OPS(X)                                                                                 \
	X(READ, "read")                                                                            \
	X(WRITE, "write")                                                                          \
	X(FLUSH, "flush")                                                                          \
	X(DISCARD, "discard") /* contents undefined afterwards (zeroes if caps say so) */          \
	X(WRITE_ZEROES, "write-zeroes") /* BLK_UNMAP: may deallocate */                            \
	X(SECURE_ERASE, "secure-erase")

enum blk_op {
#define X(n, s) BLK_##n,
	BLK_OPS(X)
#undef X
	BLK_OP_COUNT
};

#define BLK_STATUSES(X)                                                                            \
	X(OK, "ok")                                                                                \
	X(IOERR, "I/O error")                                                                      \
	X(UNSUPP, "not supported")                                                                 \
	X(RANGE, "beyond the end")                                                                 \
	X(ALIGN, "not aligned to blocks")                                                          \
	X(READ_ONLY, "read-only")                                                                  \
	X(NO_SPACE, "no space")                                                                    \
	X(ABORTED, "aborted")                                                                      \
	X(GONE, "back-end gone")                                                                   \
	X(NVME, "NVMe status") /* blk_req.nvme_status; an I/O error to others than NVMe hosts */

enum blk_status {
#define X(n, s) BLK_ST_##n,
	BLK_STATUSES(X)
#undef X
	BLK_ST_COUNT
};

const char *blk_op_name(enum blk_op op);
const char *blk_status_name(enum blk_status st);

#define BLK_FUA	  (1u << 0) /* WRITE, WRITE_ZEROES: durable when completed */
#define BLK_UNMAP (1u << 1) /* WRITE_ZEROES: the back-end may deallocate */
#define BLK_PI	  (1u << 2) /* READ, WRITE: req->pi is there (caps.pi_type) */

/*
 * Protection information of one block, as T10 has it (SBC-4, 4.21): guard, application tag and
 * reference tag, big-endian. A back-end stores it unseen; who submits makes and checks it. What was
 * never written, was discarded, or was written without, reads as all ones: "do not check".
 */
#define BLK_PI_BYTES 8

struct blk_dev;
struct blk_chan;

struct blk_req {
	/* filled by the caller; back-end and filters leave these as they are */
	uint8_t op;    /* enum blk_op */
	uint8_t flags; /* BLK_FUA ... */
	uint32_t iov_count;
	struct iovec *iov; /* READ, WRITE; total is len_bytes */
	uint8_t *pi;	   /* with BLK_PI: BLK_PI_BYTES for each block */
	uint64_t offset_bytes;
	uint64_t len_bytes;
	void (*done)(struct blk_req *req);

	/* result */
	uint8_t status; /* enum blk_status, valid in done */

	uint16_t nvme_status; /* with BLK_ST_NVME: status code type << 8 | status code, not 0 */

	/* private: waist */
	bool cancelled; /* blk_cancel was called */
	struct loop_work work;
	struct blk_chan *chan;
	uint64_t start_ns;
	/* private: the back-end's own, e.g. struct loop_op and a cursor */
	uint64_t impl[8];
};

/* What a node is and can. Sizes in bytes. Immutable but for size_bytes (resize). */
struct blk_caps {
	uint64_t size_bytes;
	uint32_t
		block_bytes; /* logical block: offset and length granularity; power of two >= 512 */
	uint32_t phys_bytes; /* physical block, >= block_bytes */
	uint32_t mem_align;  /* memory alignment the back-end needs (the waist bounces), 1: none */
	uint32_t opt_io_bytes;	    /* optimal transfer, 0: unknown */
	uint64_t max_discard_bytes; /* per request, 0: no limit */
	uint64_t max_zeroes_bytes;  /* per request, 0: no limit */
	uint32_t discard_align_bytes;
	uint8_t pi_type; /* protection information is stored: type 1 or 3; 0: it is not */
	bool read_only;
	bool volatile_cache; /* a completed write needs FLUSH or FUA to be durable */
	bool fua, discard, write_zeroes, zeroes_unmap, secure_erase;
};

/* ---- graph (Thread: main) ---- */

/*
 * Opens a back-end by type and parameters ("file", "path=/x,direct=on"). Returns 0 and a node with
 * one reference; -ENOENT unknown type, -EINVAL/-ERANGE bad parameters, -EBUSY locked (reterr says
 * by whom), -EROFS, or open's errno.
 */
int blk_dev_open(const char *type, const char *name, const char *params, struct blk_dev **ret_dev,
		 struct err *reterr);
/*
 * The same for a filter: a node on another, of which it takes a reference of its own. Its size
 * follows the base's. Also -EINVAL: the type stands alone (or, of blk_dev_open, needs a base).
 */
int blk_dev_open_on(const char *type, const char *name, const char *params, struct blk_dev *base,
		    struct blk_dev **ret_dev, struct err *reterr);
struct blk_dev *blk_dev_ref(struct blk_dev *dev);
void blk_dev_unref(struct blk_dev *dev);
const char *blk_dev_name(const struct blk_dev *dev);
/*
 * A successor of this process will open it by this name (see loop/inherit.h); until then, by that
 * of blk_dev_open.
 */
void blk_dev_named(struct blk_dev *dev, const char *name);
const struct blk_caps *blk_dev_caps(const struct blk_dev *dev);

/*
 * What the space at offset_bytes is, up to where that changes or to end_bytes: mapped, or nothing
 * is allocated for it and it reads as zeroes. Blocks in part allocated are mapped; what is told was
 * true at some time during the call. *ret_end_bytes is beyond offset_bytes, both are multiples of
 * the block size. -EOPNOTSUPP: this node does not know, -EINVAL: not a range of it, or lseek's.
 * Thread: job, since it may wait for storage; the caller keeps a reference.
 */
int blk_dev_map(struct blk_dev *dev, uint64_t offset_bytes, uint64_t end_bytes,
		uint64_t *ret_end_bytes, bool *ret_mapped);
/* Does this node have blk_dev_map? Thread: any. */
bool blk_dev_can_map(const struct blk_dev *dev);

/* Re-reads the size of what is behind; listeners are told when it changed. */
int blk_dev_rescan(struct blk_dev *dev, struct err *reterr);
/*
 * Makes what is behind so large, and rescans it. -EOPNOTSUPP: it has its own size (memory, a block
 * device); -EINVAL: not a multiple of the block size, or smaller without may_shrink, since what is
 * beyond the new end is lost; or ftruncate's.
 */
int blk_dev_resize(struct blk_dev *dev, uint64_t size_bytes, bool may_shrink, struct err *reterr);
/* Could it? What blk_dev_resize refuses before it does anything. */
int blk_dev_resize_check(struct blk_dev *dev, uint64_t size_bytes, bool may_shrink,
			 struct err *reterr);
/*
 * Allocates storage for a range, which may lie beyond the end: neither size nor contents change.
 * more_bytes is what is to follow: when there is no room for both nothing is allocated, so that
 * nobody else's room is used up for what cannot come to its end.
 * -EOPNOTSUPP: this node cannot (only regular files can); -ENOSPC, or fallocate's other errors.
 * Thread: job, since it may wait for storage; the caller keeps a reference.
 */
int blk_dev_allocate(struct blk_dev *dev, uint64_t offset_bytes, uint64_t len_bytes,
		     uint64_t more_bytes);
/* Gives back what is allocated beyond the end. Thread: job, as above. */
void blk_dev_allocate_undo(struct blk_dev *dev);
struct blk_listener {
	void (*resized)(struct blk_listener *l);
	struct list node; /* private */
};
void blk_dev_listen(struct blk_dev *dev, struct blk_listener *l);
void blk_dev_unlisten(struct blk_listener *l);
/* The first of dev's whose function is resized; NULL: none. */
struct blk_listener *blk_dev_listener(const struct blk_dev *dev,
				      void (*resized)(struct blk_listener *l));

/* For --help and docs: calls fn for each back-end type with its parameter table. */
struct opts_table;
void blk_types_each(void (*fn)(const char *type, const struct opts_table *params, void *arg),
		    void *arg);

/* ---- data path (Thread: the channel's loop) ---- */

/* Opens this loop's way into dev. Errors: -ENOMEM, -EMFILE. Thread: owner loop. */
int blk_chan_open(struct blk_dev *dev, struct loop *loop, struct blk_chan **ret_chan,
		  struct err *reterr);
/* All its requests have completed (ASSERT). NULL allowed. */
void blk_chan_close(struct blk_chan *chan);

void blk_submit(struct blk_chan *chan, struct blk_req *req);

/*
 * Asks the back-end to end a submitted request soon. It completes exactly once all the same, later,
 * with ABORTED or whatever it came to: one that is too far to be stopped ends as it always would.
 * ABORTED says nothing about how much of a write was done. req: submitted, and done not called yet.
 */
void blk_cancel(struct blk_req *req);

/*
 * Tells the memory that requests will come from, so that a back-end that can (file) registers it
 * with the loop's io_uring and need not pin pages for each request. Replaces what was told before;
 * count 0 ends it, blk_chan_close too. The regions stay mapped, to the same memory, until then;
 * requests may use any other memory as well. A refusal costs speed, nothing else.
 * Returns 0, or -errno for the first refusal of this node (reterr is worth one line in the log),
 * and 0 for those after it. Thread: owner loop.
 */
int blk_chan_buffers_set(struct blk_chan *chan, const struct iovec *regions, uint32_t count,
			 struct err *reterr);

/* ---- counters ---- */

#define BLK_HIST_BUCKETS 40 /* log2 of nanoseconds */

struct blk_stats {
	uint64_t ops[BLK_OP_COUNT], bytes[BLK_OP_COUNT];
	uint64_t hist[BLK_OP_COUNT][BLK_HIST_BUCKETS];
	/* From blk_submit to the end, right to one iteration of the loop; the sum over all.
	 * Shortest and longest: 0 without any. */
	uint64_t latency_ns[BLK_OP_COUNT], min_ns[BLK_OP_COUNT], max_ns[BLK_OP_COUNT];
	/* By operation and cause; those of BLK_OP_COUNT were of no operation that there is. */
	uint64_t errors[BLK_OP_COUNT + 1][BLK_ST_COUNT];
	uint64_t in_flight; /* now */
};

/* Of all operations by cause; BLK_ST_OK: of all causes. Thread: any. */
uint64_t blk_stats_errors(const struct blk_stats *stats, enum blk_status cause);

/*
 * An operation that who would have submitted it refused: counts as one that ended at once, with
 * cause (not BLK_ST_OK). op BLK_OP_COUNT: there is none of that kind. Thread: owner loop.
 */
void blk_chan_count_refused(struct blk_chan *chan, enum blk_op op, enum blk_status cause);

/*
 * Sum over the node's channels, live and closed, since it was opened: no reset changes it, but of
 * min_ns and max_ns. A node that hands its requests on as they are ("swap") tells what its bases
 * did in its place. Thread: main (reads others' counters racily).
 */
void blk_dev_stats(const struct blk_dev *dev, struct blk_stats *ret_stats);

/* The same since the last blk_dev_iostat_reset; each counts one user's view, bdev_get_iostat's. */
void blk_dev_iostat(const struct blk_dev *dev, struct blk_stats *ret_stats);
/* Calls fn for each open channel with its part of blk_dev_iostat. fn opens and closes none. */
void blk_dev_iostat_each(const struct blk_dev *dev,
			 void (*fn)(void *arg, const struct loop *loop,
				    const struct blk_stats *stats),
			 void *arg);
/* Everything, or min_ns and max_ns alone, starts anew; of a "swap" its base's too. */
void blk_dev_iostat_reset(struct blk_dev *dev, bool extremes_only);
/*
 * Both go on from what another process counted of the same disk; not what single channels did. Once
 * only: more calls do nothing. Nodes below it go on for themselves.
 */
void blk_dev_stats_inherit(struct blk_dev *dev, const struct blk_stats *all,
			   const struct blk_stats *iostat);

#endif
