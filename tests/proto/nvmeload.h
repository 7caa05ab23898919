/*
 * Reads and writes at random on several queues of the fake NVMe driver, with an oracle: each block
 * holds the stamp of its last write, and every read is compared.
 *
 * The controller may be reset at any time: commands in flight are then forgotten, and a block whose
 * write was in flight may hold either stamp. Everything the device may write while it runs (data,
 * completion queues) can be filled with a pattern after the reset, and looked at later: nothing
 * may have changed.
 */
#ifndef TESTS_PROTO_NVMELOAD_H
#define TESTS_PROTO_NVMELOAD_H

#include "daemon.h"
#include "nvmedrv.h"

#define NVMELOAD_QUEUES 4
#define NVMELOAD_DEPTH	16
#define NVMELOAD_BLOCKS 4096 /* from block 0 on */
#define NVMELOAD_IO_MAX 32   /* blocks of one command */

struct nvmeload_slot {
	bool busy, is_write;
	unsigned sqid;
	uint32_t lba, blocks;
	uint64_t iova;
	uint8_t *host;
};

struct nvmeload {
	struct nvmedrv *n;
	uint32_t nsid, block_bytes, queues;
	uint64_t rng, next_stamp, done, writes;
	uint64_t stamp[NVMELOAD_BLOCKS], maybe[NVMELOAD_BLOCKS];
	bool busy[NVMELOAD_BLOCKS];
	struct nvmeload_slot slot[NVMELOAD_QUEUES][NVMELOAD_DEPTH];
};

/* Queues 1 to queues are there, or will be. The blocks are zero at the start. */
void nvmeload_init(struct nvmeload *l, struct nvmedrv *n, uint32_t nsid, uint32_t block_bytes,
		   unsigned queues, uint64_t seed);
/* Writes zeroes to all of them: others have written there. Nothing is in flight. */
void nvmeload_zero(struct nvmeload *l);
/* Submits on every queue what is free. */
void nvmeload_fill(struct nvmeload *l);
/* Takes what has completed and checks it; returns how many. Fails the test on a lie. */
unsigned nvmeload_reap(struct nvmeload *l);
/* Until count more commands have completed. */
void nvmeload_run(struct nvmeload *l, uint64_t count);
/* Until nothing is in flight. */
void nvmeload_drain(struct nvmeload *l);
/* The controller was reset. */
void nvmeload_forget(struct nvmeload *l);
/* Fills with a pattern what the device might write; looks whether anything changed. */
void nvmeload_poison(struct nvmeload *l);
void nvmeload_poison_check(struct nvmeload *l);
/* Reads all blocks and compares. */
void nvmeload_verify(struct nvmeload *l);

#endif
