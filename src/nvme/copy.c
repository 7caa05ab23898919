/*
 * Copy (NVM Command Set 1.0, 3.2.2): blocks of up to NVME_COPY_RANGES_MAX ranges, one after the
 * other, to one place. Descriptor format 0. All is checked before it begins; then steps of a read
 * and a write each.
 */
#include "nvme/limits.h"
#include "nvme/rw.h"

#define STEP_BYTES (64u << 10)

struct copy_range {
	struct le64 reserved0;
	struct le64 lba;
	struct le16 blocks; /* 0's based */
	uint8_t reserved18[6];
	struct le32 ilbrt;
	struct le16 lbat, lbatm;
};
_Static_assert(sizeof(struct copy_range) == 32, "NVM 1.0, 3.2.2");

/* nvme_cmd.vars; nvme_written has the last two */
enum {
	V_RANGE, /* of the step under way */
	V_DONE,	 /* blocks of it */
	V_TOTAL, /* blocks of all, and those done of it */
	V_WRITTEN,
};

/* cdw12 */
#define COPY_NR_MASK	  0xffu
#define COPY_FORMAT(dw12) (((dw12) >> 8) & 0xf)
#define COPY_PRINFO	  (15u << 12 | 15u << 26)

static uint32_t copy_count(const struct nvme_cmd *c)
{
	return (nvme_cdw12(c) & COPY_NR_MASK) + 1;
}

static const struct copy_range *copy_range(const struct nvme_cmd *c, uint64_t i)
{
	return (const struct copy_range *)c->buf + i;
}

static uint32_t range_blocks(const struct copy_range *r)
{
	return le16_get(r->blocks) + 1u;
}

static void copy_step(struct nvme_cmd *c);

static void copy_written(struct nvme_cmd *c, enum blk_status status)
{
	uint64_t blocks = c->blk.len_bytes >> c->nsq->block_shift;

	if (nvme_step_failed(c, status))
		return;
	c->vars[V_WRITTEN] += blocks;
	c->vars[V_DONE] += blocks;
	if (c->vars[V_DONE] == range_blocks(copy_range(c, c->vars[V_RANGE]))) {
		c->vars[V_RANGE]++;
		c->vars[V_DONE] = 0;
	}
	if (c->vars[V_WRITTEN] == c->vars[V_TOTAL])
		nvme_written(c, nvme_slba(c), c->vars[V_TOTAL], nvme_cdw12(c) & NVME_RW_FUA);
	else
		copy_step(c);
}

static void copy_read(struct nvme_cmd *c, enum blk_status status)
{
	uint64_t lba = nvme_slba(c) + c->vars[V_WRITTEN];

	if (nvme_step_failed(c, status))
		return;
	nvme_scratch_blk(c, BLK_WRITE, nvme_write_flags(c, nvme_cdw12(c) & NVME_RW_FUA),
			 lba << c->nsq->block_shift, c->data_bytes, c->blk.len_bytes, copy_written);
}

static void copy_step(struct nvme_cmd *c)
{
	const struct copy_range *r = copy_range(c, c->vars[V_RANGE]);
	uint32_t shift = c->nsq->block_shift;
	uint64_t lba = le64_get(r->lba) + c->vars[V_DONE];
	uint64_t n = MIN(range_blocks(r) - c->vars[V_DONE], (uint64_t)STEP_BYTES >> shift);

	if (nvme_uncor_stops(c, lba, n))
		return;
	nvme_scratch_blk(c, BLK_READ, 0, lba << shift, c->data_bytes, n << shift, copy_read);
}

static enum nvme_status copy_check(const struct nvme_cmd *c, uint64_t *ret_blocks)
{
	const struct nvme_ns *ns = c->nsq->ns;
	uint64_t size = nvme_ns_blocks(ns), total = 0;

	for (uint32_t i = 0; i < copy_count(c); i++) {
		const struct copy_range *r = copy_range(c, i);

		if (range_blocks(r) > nvme_mssrl(ns))
			return NVME_SC_COMMAND_SIZE_LIMIT;
		if (!num_range_ok(le64_get(r->lba), range_blocks(r), size))
			return NVME_SC_LBA_OUT_OF_RANGE;
		total += range_blocks(r);
	}
	if (total > nvme_mcl(ns))
		return NVME_SC_COMMAND_SIZE_LIMIT;
	if (!num_range_ok(nvme_slba(c), total, size))
		return NVME_SC_LBA_OUT_OF_RANGE;
	*ret_blocks = total;
	return NVME_SC_SUCCESS;
}

static void copy_list(struct nvme_cmd *c)
{
	enum nvme_status status;

	if (!iov_cur_read(&c->data, c->buf, c->data_bytes))
		UNREACHABLE();
	c->vars[V_RANGE] = c->vars[V_DONE] = c->vars[V_WRITTEN] = 0;
	status = copy_check(c, &c->vars[V_TOTAL]);
	if (status != NVME_SC_SUCCESS)
		nvme_cmd_end(c, status);
	else
		copy_step(c);
}

/* Scratch memory: the list, then what is copied. */
static void copy_data(struct nvme_cmd *c)
{
	nvme_scratch(c, c->data_bytes + STEP_BYTES, copy_list);
}

void nvme_copy(struct nvme_cmd *c)
{
	uint32_t dw12 = nvme_cdw12(c);

	if (dw12 & COPY_PRINFO)
		nvme_cmd_end(c, NVME_SC_INVALID_PROTECTION_INFO);
	else if (COPY_FORMAT(dw12))
		nvme_cmd_end(c, NVME_SC_INVALID_FIELD);
	else if (copy_count(c) > NVME_COPY_RANGES_MAX)
		nvme_cmd_end(c, NVME_SC_COMMAND_SIZE_LIMIT);
	else
		nvme_data(c, copy_count(c) * sizeof(struct copy_range), NVME_FROM_GUEST, copy_data);
}
