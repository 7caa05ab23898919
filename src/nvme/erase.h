/*
 * Passes over a whole namespace, for Format NVM and Sanitize: in bounded steps, on a channel of its
 * own on main's loop, each pass made durable before the next begins. The namespace is pinned and
 * its commands have ended. Thread: main.
 */
#ifndef NVME_ERASE_H
#define NVME_ERASE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "blk/blk.h"

struct nvme_ns;

#define NVME_ERASE_PASSES_MAX 16

struct nvme_erase {
	/* filled by nvme_erase_user_data and the like, or by the caller */
	struct nvme_ns *ns;
	uint8_t pass_op[NVME_ERASE_PASSES_MAX]; /* enum blk_op */
	uint32_t pass_count;
	bool keep_allocated; /* zeroes are written, not deallocated */
	uint32_t pattern;    /* of BLK_WRITE, little-endian */
	bool invert;	     /* the pattern, between passes */
	/* A step has ended. It may set stop: then the end is BLK_ST_ABORTED. */
	void (*stepped)(struct nvme_erase *e);
	void (*done)(struct nvme_erase *e, enum blk_status status); /* later, once */
	bool stop;
	/* to be looked at */
	uint32_t pass; /* completed */
	uint64_t done_bytes, total_bytes;
	/* private: */
	struct blk_chan *chan;
	struct blk_req req;
	struct iovec iov;
	void *buf;
	struct loop_msg msg;
	enum blk_status status;
};

/* The passes after which no user data can be read. keep_allocated is the caller's. */
void nvme_erase_user_data(struct nvme_erase *e, struct nvme_ns *ns);
/* Can its back-end erase without writing a pattern? */
bool nvme_erase_has_native(const struct nvme_ns *ns);
/* done comes once, later. */
void nvme_erase_start(struct nvme_erase *e);
/* How far it is, of 65535. */
uint16_t nvme_erase_progress(const struct nvme_erase *e);

#endif
