/*
 * file: regular files and block devices through the loop's io_uring. Private to backend/file*.c.
 *
 *   file_open.c   opening, geometry, size
 *   file_lock.c   image locks
 *   file.c        read, write, flush
 *   file_erase.c  discard, write-zeroes, secure erase
 *   file_bufs.c   guest memory as registered buffers
 *
 * Durability: caps say volatile_cache, always: with direct I/O the device's own cache is unknown
 * to us, so every FLUSH reaches fdatasync and every FUA write is RWF_DSYNC. After a failed
 * fdatasync of a buffered file Linux forgets which pages were dirty, and a second one would
 * succeed without having written them: from then on every flush of this node fails.
 */
#ifndef BLK_BACKEND_FILE_H
#define BLK_BACKEND_FILE_H

#include "blk/blk_impl.h"

#define FILE_RETRIES_MAX  1000
#define FILE_PIECE_BYTES  (1u << 30) /* per submission entry; longer ones continue */
#define FILE_ZEROES_BYTES (256u << 10)

enum file_direct {
	FILE_DIRECT_AUTO,
	FILE_DIRECT_ON,
	FILE_DIRECT_OFF
};

struct file_params {
	char *path;
	int direct; /* enum file_direct */
	bool read_only, lock, discard;
	uint64_t block_bytes; /* 0: ask the file */
};

struct file_dev {
	struct blk_dev dev;
	char *path;
	char *kept; /* see loop/inherit.h; NULL: not kept */
	int fd;
	bool opened; /* fd is valid (0 is, too) */
	bool block_device, direct;
	void *zeroes; /* FILE_ZEROES_BYTES, read-only, aligned */
	/* Set once, by whichever loop finds out; read by all (relaxed) */
	bool sync_failed;
	bool no_punch, no_zero_range, no_discard_cmd;
	bool bufs_refused;
};

struct file_buf { /* one registered buffer */
	uintptr_t base;
	size_t len_bytes;
	int slot;
};

struct file_chan {
	struct blk_chan chan;
	int slot;		      /* registered file, -1: none */
	uint32_t buf_count, buf_hint; /* hint: where the last request's memory was */
	struct file_buf *bufs;	      /* by base; a look-up may miss one that overlaps another */
};

/* In req->impl. */
struct file_io {
	struct loop_op op;
	uint64_t done_bytes;
	uint64_t skip_bytes; /* of the current piece of memory */
	uint32_t iov_idx;
	uint16_t retries;
};

static inline struct file_dev *file_dev_of(const struct blk_chan *chan)
{
	return container_of(chan->dev, struct file_dev, dev);
}

static inline struct file_io *file_io_of(struct blk_req *req)
{
	_Static_assert(sizeof(struct file_io) <= sizeof(req->impl), "impl");
	return (struct file_io *)req->impl;
}

static inline struct blk_req *file_req_of(struct loop_op *op)
{
	void *impl = container_of(op, struct file_io, op);

	return container_of(impl, struct blk_req, impl);
}

static inline bool file_flag(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_RELAXED);
}

static inline void file_flag_set(bool *flag)
{
	__atomic_store_n(flag, true, __ATOMIC_RELAXED);
}

/* file.c: an entry of this kind on the file, with the request's op as its completion. */
struct file_entry {
	int opcode;
	const void *addr;
	uint32_t len;
	uint64_t off;
	uint32_t flags;	   /* rw_flags, fsync_flags */
	uint16_t buf_slot; /* of the FIXED opcodes, else 0 */
};
void file_entry_submit(struct blk_req *req, const struct file_entry *entry,
		       void (*done)(struct loop_op *op, int res, uint32_t cqe_flags));
/* Interrupted, or to be tried again, and not too often yet, nor cancelled? */
bool file_should_retry(struct blk_req *req, int res);
/* fdatasync, then complete. */
void file_sync_submit(struct blk_req *req);

/* file_erase.c: DISCARD, WRITE_ZEROES, SECURE_ERASE. */
void file_erase_submit(struct blk_req *req);

/* file_bufs.c */
int file_buffers_set(struct blk_chan *chan, const struct iovec *regions, uint32_t count,
		     struct err *reterr);
void file_buffers_drop(struct file_chan *fc);
/* The registered buffer that holds all of [base, base + len), or NULL. */
const struct file_buf *file_buf_find(struct file_chan *fc, const void *base, size_t len_bytes);

/* file_open.c */
int file_open(struct blk_dev *dev, void *params, struct err *reterr);
void file_close(struct blk_dev *dev);
int file_rescan(struct blk_dev *dev, uint64_t *ret_size_bytes, struct err *reterr);
int file_resize(struct blk_dev *dev, uint64_t size_bytes, struct err *reterr);
int file_allocate(struct blk_dev *dev, uint64_t offset_bytes, uint64_t len_bytes,
		  uint64_t more_bytes);
void file_allocate_undo(struct blk_dev *dev);
int file_map(struct blk_dev *dev, uint64_t offset_bytes, uint64_t end_bytes,
	     uint64_t *ret_end_bytes, bool *ret_mapped);

/*
 * Locks fd against other writers (writer: against everybody). -EBUSY names the holder where it can
 * be found. A file system without locks is not an error. Released when fd is closed.
 */
int file_lock(int fd, const char *path, bool writer, struct err *reterr);
/* Writes "PID 123 (name)" of another process that holds path's file; false: nobody was found. */
bool file_lock_holder(int fd, char *buf, size_t buf_bytes);

#endif
