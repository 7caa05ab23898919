/*
 * The data of commands: PRP and SGL to pieces of guest memory. See dptr.c.
 *
 * struct nvme_mem is what one queue knows of the guest's memory; one for each struct nvme_cq (of
 * its loop), and one of the controller for what runs on main. nvme_cmd.mem points at that of the
 * command's queue. An admin command of NVME_PROFILE_VHOST has one with `flat`.
 */
#ifndef NVME_DPTR_H
#define NVME_DPTR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "guest/gdirty.h"
#include "guest/gmem.h"
#include "loop/loop.h"

struct nvme_cmd;
struct nvme_ctrl;

/* A map, and where the last address was in it. hot is never NULL. */
struct nvme_mem_side {
	const struct gmem_region *hot;
	struct gmem *map; /* NULL: none */
	uint32_t hint;
};

struct nvme_mem {
	struct nvme_mem_side to_guest, from_guest;
	struct gdirty *dirty; /* NULL: writes are not logged */
	struct nvme_ctrl *ctrl;
	struct loop *loop;
	struct nvme_mem_side lists; /* PRP lists and SGL segments */
	void *flat;		    /* the data itself, instead of a data pointer; else NULL */
	/* private: */
	void *sink;		 /* what bit buckets throw away */
	struct list free;	 /* struct iov_array */
	uint32_t arrays;	 /* in use */
	struct list waiters;	 /* struct nvme_cmd.wait_node: for an array */
	uint64_t remote_bytes;	 /* in use */
	struct list remote_wait; /* struct nvme_cmd.wait_node: for remote_bytes */
	uint64_t scratch_bytes;	 /* in use */
	struct list scratch_wait;
	struct loop_work work;
	bool work_queued;
};

/* Thread: owner loop, or before the loop knows it. */
void nvme_mem_init(struct nvme_mem *m, struct nvme_ctrl *ctrl, struct loop *loop);
/* No command of it is under way (ASSERT). Those of the maps are the caller's references. */
void nvme_mem_fini(struct nvme_mem *m);
/* No command of it is under way. */
void nvme_mem_maps_set(struct nvme_mem *m, struct gmem *readable, struct gmem *writable,
		       struct gdirty *dirty);

/* Are these bytes, at least one, all in the region? */
static inline bool nvme_region_holds(const struct gmem_region *r, uint64_t off, uint64_t len_bytes)
{
	return off < r->size_bytes && len_bytes - 1 < r->size_bytes - off;
}

/* gmem_translate; 0 when there is no map. */
uint32_t nvme_mem_translate(struct nvme_mem_side *s, uint64_t addr, uint64_t len_bytes,
			    struct iovec *ret_iov, uint32_t max);
/* Copies once. false: some of it is not mapped. */
bool nvme_mem_read(struct nvme_mem_side *s, uint64_t addr, void *to, size_t len_bytes);

/* nvme_cmd.data_bits: what nvme_data_end has to do. */
#define NVME_DATA_ARRAY	  (1u << 0) /* iov is an array of the pool */
#define NVME_DATA_DIRTY	  (1u << 1) /* what was written is to be logged */
#define NVME_DATA_REMOTE  (1u << 2) /* in a bounce buffer: remote.c */
#define NVME_DATA_SCRATCH (1u << 3) /* scratch memory of the queue: scratch.c */
#define NVME_DATA_ON_MAIN (1u << 4) /* it began on main, with what the controller has there */

/*
 * The end of a command's data, when data_bits is not 0: nvme_cmd_end calls it before the completion
 * is posted. success: data to the guest counts. false: nvme_cmd_end comes again, later, with less
 * in data_bits. Thread: that of nvme_data, which a command may have left since (nvme_data_is_here).
 */
bool nvme_data_end(struct nvme_cmd *c, bool success);
/* Whether nvme_data_end may be called: data that began at home ends there. */
bool nvme_data_is_here(const struct nvme_cmd *c);

/* For dptr.c, scratch.c and remote.c: waiters may go on. */
void nvme_mem_work_queue(struct nvme_mem *m);

#endif
