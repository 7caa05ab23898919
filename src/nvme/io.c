/*
 * Write Zeroes, Dataset Management, Verify, Write Uncorrectable (base 6.7, 6.13 to 6.16). Long ones
 * are steps, one after the other, as the back-end's limits say.
 */
#include "base/types.h"
#include "nvme/limits.h"
#include "nvme/rw.h"

#define VERIFY_STEP_BYTES (64u << 10)

/* nvme_cmd.vars; nvme_written has the last two */
enum {
	V_LBA,	/* what is next */
	V_LEFT, /* blocks */
	V_STEP, /* blocks of the step under way */
	V_ITEM,
	V_CHANGED,
};

/* Blocks of a step, when limit_bytes (0: none) is what one request may have. */
static uint64_t step_blocks(const struct nvme_cmd *c, uint64_t limit_bytes)
{
	uint64_t max = limit_bytes >> c->nsq->block_shift;

	return max ? MIN(c->vars[V_LEFT], max) : c->vars[V_LEFT];
}

/* The next step of a command without data. */
static void step_submit(struct nvme_cmd *c, enum blk_op op, uint8_t flags, uint64_t limit_bytes,
			void (*done)(struct nvme_cmd *c, enum blk_status status))
{
	uint32_t shift = c->nsq->block_shift;

	c->vars[V_STEP] = step_blocks(c, limit_bytes);
	nvme_cmd_blk(c, op, flags, c->vars[V_LBA] << shift, c->vars[V_STEP] << shift, NULL, 0,
		     done);
}

static void step_over(struct nvme_cmd *c)
{
	c->vars[V_LBA] += c->vars[V_STEP];
	c->vars[V_LEFT] -= c->vars[V_STEP];
}

static void blocks_begin(struct nvme_cmd *c)
{
	c->vars[V_LBA] = nvme_slba(c);
	c->vars[V_LEFT] = nvme_nlb(c);
}

/* ---- Write Zeroes ---- */

static void zeroes_done(struct nvme_cmd *c, enum blk_status status);

/* DEAC asks for deallocation, and what was deallocated reads as zeroes where caps say so. */
static void zeroes_step(struct nvme_cmd *c)
{
	const struct blk_caps *caps = c->nsq->caps;
	uint32_t dw12 = nvme_cdw12(c);
	uint8_t flags = nvme_write_flags(c, dw12 & NVME_RW_FUA);

	if (dw12 & NVME_RW_DEAC && caps->zeroes_unmap)
		flags |= BLK_UNMAP;
	step_submit(c, BLK_WRITE_ZEROES, flags, caps->max_zeroes_bytes, zeroes_done);
}

static void zeroes_done(struct nvme_cmd *c, enum blk_status status)
{
	if (nvme_step_failed(c, status))
		return;
	step_over(c);
	if (c->vars[V_LEFT])
		zeroes_step(c);
	else
		nvme_written(c, nvme_slba(c), nvme_nlb(c), nvme_cdw12(c) & NVME_RW_FUA);
}

void nvme_write_zeroes(struct nvme_cmd *c)
{
	if (!nvme_blocks_ok(c))
		return;
	blocks_begin(c);
	zeroes_step(c);
}

/* ---- Verify ---- */

static void verify_read(struct nvme_cmd *c, enum blk_status status);

/* Read, and thrown away: the back-ends have no other way to find out. */
static void verify_step(struct nvme_cmd *c)
{
	uint32_t shift = c->nsq->block_shift;

	c->vars[V_STEP] = step_blocks(c, VERIFY_STEP_BYTES);
	nvme_scratch_blk(c, BLK_READ, 0, c->vars[V_LBA] << shift, 0, c->vars[V_STEP] << shift,
			 verify_read);
}

static void verify_read(struct nvme_cmd *c, enum blk_status status)
{
	if (nvme_step_failed(c, status))
		return;
	step_over(c);
	if (c->vars[V_LEFT])
		verify_step(c);
	else
		nvme_cmd_end(c, NVME_SC_SUCCESS);
}

void nvme_verify(struct nvme_cmd *c)
{
	uint64_t len = (uint64_t)nvme_nlb(c) << c->nsq->block_shift;

	if (!nvme_blocks_ok(c) || nvme_uncor_stops(c, nvme_slba(c), nvme_nlb(c)))
		return;
	blocks_begin(c);
	nvme_scratch(c, MIN(len, (uint64_t)VERIFY_STEP_BYTES), verify_step);
}

/* ---- Write Uncorrectable ---- */

void nvme_write_uncorrectable(struct nvme_cmd *c)
{
	if (!nvme_blocks_ok(c))
		return;
	if (nvme_uncor_mark(&c->nsq->ns->uncor, nvme_slba(c), nvme_nlb(c)))
		nvme_uncor_changed(c);
	else
		nvme_cmd_end(c, NVME_SC_CAPACITY_EXCEEDED);
}

/* ---- Dataset Management ---- */

#define DSM_NR_MASK 0xffu
#define DSM_AD	    (1u << 2)

struct dsm_range {
	struct le32 attributes; /* hints, all of them */
	struct le32 blocks;
	struct le64 lba;
};
_Static_assert(sizeof(struct dsm_range) == 16, "base 6.7");

static uint32_t dsm_count(const struct nvme_cmd *c)
{
	return (nvme_cdw10(c) & DSM_NR_MASK) + 1;
}

static const struct dsm_range *dsm_ranges(const struct nvme_cmd *c)
{
	return (const struct dsm_range *)c->buf;
}

static void dsm_step(struct nvme_cmd *c);

/* The next range that is not empty. */
static void dsm_next(struct nvme_cmd *c)
{
	while (c->vars[V_ITEM] < dsm_count(c)) {
		const struct dsm_range *r = &dsm_ranges(c)[c->vars[V_ITEM]++];

		c->vars[V_LBA] = le64_get(r->lba);
		c->vars[V_LEFT] = le32_get(r->blocks);
		if (!c->vars[V_LEFT])
			continue;
		dsm_step(c);
		return;
	}
	if (c->vars[V_CHANGED])
		nvme_uncor_changed(c);
	else
		nvme_cmd_end(c, NVME_SC_SUCCESS);
}

static void dsm_done(struct nvme_cmd *c, enum blk_status status)
{
	bool changed = false;

	if (nvme_step_failed(c, status))
		return;
	if (nvme_uncor_gate(c)) {
		/* no room to cut a mark in two: what stays marked is deallocated all the same */
		nvme_uncor_clear(&c->nsq->ns->uncor, c->vars[V_LBA], c->vars[V_STEP], &changed);
		c->vars[V_CHANGED] |= changed;
	}
	step_over(c);
	if (c->vars[V_LEFT])
		dsm_step(c);
	else
		dsm_next(c);
}

static void dsm_step(struct nvme_cmd *c)
{
	const struct blk_caps *caps = c->nsq->caps;

	if (nvme_deallocated_is_zero(caps))
		step_submit(c, BLK_WRITE_ZEROES, BLK_UNMAP, caps->max_zeroes_bytes, dsm_done);
	else
		step_submit(c, BLK_DISCARD, 0, caps->max_discard_bytes, dsm_done);
}

/* All are checked before the first is done. */
static void dsm_list(struct nvme_cmd *c)
{
	uint64_t blocks = nvme_ns_blocks(c->nsq->ns);

	if (!iov_cur_read(&c->data, c->buf, c->data_bytes))
		UNREACHABLE();
	for (uint32_t i = 0; i < dsm_count(c); i++) {
		const struct dsm_range *r = &dsm_ranges(c)[i];

		if (!num_range_ok(le64_get(r->lba), le32_get(r->blocks), blocks)) {
			nvme_cmd_end(c, NVME_SC_LBA_OUT_OF_RANGE);
			return;
		}
	}
	c->vars[V_ITEM] = c->vars[V_CHANGED] = 0;
	if (nvme_cdw11(c) & DSM_AD && c->nsq->caps->discard)
		dsm_next(c);
	else
		nvme_cmd_end(c, NVME_SC_SUCCESS); /* advice, which is free to be ignored */
}

static void dsm_data(struct nvme_cmd *c)
{
	nvme_scratch(c, c->data_bytes, dsm_list);
}

void nvme_dataset_management(struct nvme_cmd *c)
{
	nvme_data(c, dsm_count(c) * sizeof(struct dsm_range), NVME_FROM_GUEST, dsm_data);
}
