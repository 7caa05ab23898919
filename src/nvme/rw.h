/* What nearly all commands are, at the cost of a few dozen instructions: for rw.c. */
#ifndef NVME_RW_H
#define NVME_RW_H

#include "nvme/nvme_impl.h"

/*
 * The data pointer of a command without FUSE or SGL: PRP1 in one page, or PRP1 and PRP2 in a page
 * each, both in the region where the last address was. Then c->own has the pieces; returns how
 * many, 0: ask nvme_data. len_bytes: at least 1.
 */
static inline __attribute__((always_inline)) uint32_t
nvme_data_quick(struct nvme_cmd *c, const struct nvme_mem_side *s, uint64_t len_bytes)
{
	const struct gmem_region *r = s->hot;
	uint64_t prp1 = le64_get(c->sqe.prp1), prp2, off = prp1 - r->gpa;
	uint64_t first = NVME_PAGE_BYTES - (prp1 & (NVME_PAGE_BYTES - 1));

	if (unlikely(c->sqe.flags | (prp1 & 3)))
		return 0;
	if (likely(len_bytes <= first)) {
		if (unlikely(!nvme_region_holds(r, off, len_bytes)))
			return 0;
		c->own[0] = (struct iovec){ .iov_base = r->base + off, .iov_len = len_bytes };
		return 1;
	}
	prp2 = le64_get(c->sqe.prp2);
	if (unlikely(len_bytes - first > NVME_PAGE_BYTES || prp2 & (NVME_PAGE_BYTES - 1) ||
		     !nvme_region_holds(r, off, first) ||
		     !nvme_region_holds(r, prp2 - r->gpa, len_bytes - first)))
		return 0;
	c->own[0] = (struct iovec){ .iov_base = r->base + off, .iov_len = first };
	if (prp2 == prp1 + first) {
		c->own[0].iov_len = len_bytes;
		return 1;
	}
	c->own[1] = (struct iovec){ .iov_base = r->base + (prp2 - r->gpa),
				    .iov_len = len_bytes - first };
	return 2;
}

/* ---- fields of commands that name blocks (base 6) ---- */

#define NVME_RW_NLB_MASK 0xffffu
#define NVME_RW_PRINFO	 (15u << 26)
#define NVME_RW_FUA	 (1u << 30)
#define NVME_RW_DEAC	 (1u << 25) /* Write Zeroes */

/* Larger than any device's, and no shift of it by a block's size wraps. */
#define NVME_LBA_LIMIT (1ull << 47)

static inline uint64_t nvme_slba(const struct nvme_cmd *c)
{
	return le32_get(c->sqe.cdw10) | (uint64_t)le32_get(c->sqe.cdw11) << 32;
}

static inline uint32_t nvme_cdw12(const struct nvme_cmd *c)
{
	return le32_get(c->sqe.cdw12);
}

static inline uint32_t nvme_nlb(const struct nvme_cmd *c)
{
	return (nvme_cdw12(c) & NVME_RW_NLB_MASK) + 1;
}

/* Is a block of the namespace marked uncorrectable? Only then a command has to look which. */
static inline bool nvme_uncor_gate(const struct nvme_cmd *c)
{
	return unlikely(atomic_load_explicit(&c->nsq->att->gate, memory_order_relaxed) &
			GATE_UNCOR);
}

/*
 * The blocks that the command names: no PRINFO, since no namespace has metadata, and all in the
 * namespace. false: the command has ended.
 */
bool nvme_blocks_ok(struct nvme_cmd *c);
/* Reads of these blocks: true: a block is marked uncorrectable, and the command has ended. */
bool nvme_uncor_stops(struct nvme_cmd *c, uint64_t lba, uint64_t count);

/*
 * What a write to these blocks that has succeeded ends as: marks go, and FUA, or a write cache that
 * is off, is a flush where the back-end has no FUA. Ends the command.
 */
void nvme_written(struct nvme_cmd *c, uint64_t lba, uint64_t count, bool fua);
/* BLK_FUA for it, where the back-end has that. */
uint8_t nvme_write_flags(const struct nvme_cmd *c, bool fua);
/* Ends the command when a step's status is not OK; true: it has ended. */
bool nvme_step_failed(struct nvme_cmd *c, enum blk_status status);

/* Main looks at the namespace's marks: gates and state file. Ends the command with success. */
void nvme_uncor_changed(struct nvme_cmd *c);

#endif
