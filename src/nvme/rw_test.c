/* Read, Write, Flush, Write Zeroes, Dataset Management, Verify, Copy, Write Uncorrectable. */
#include "nvme/io_rig.h"

#include "blk/filter/error.h"

#define PAGE   NVME_PAGE_BYTES
#define FUA    NVME_RW_FUA
#define BLOCKS (RIG_DISK_MIB * MIB / 512)

typedef void (*handler)(struct nvme_cmd *c);

static enum nvme_status run(struct nvme_cmd *c, handler fn)
{
	fn(c);
	return rig_wait(c);
}

static enum nvme_status rd(uint64_t lba, uint32_t blocks, uint64_t prp1, uint64_t prp2)
{
	return run(rig_io(0, NVME_IO_READ, lba, blocks, prp1, prp2), nvme_read);
}

static enum nvme_status wr(uint64_t lba, uint32_t blocks, uint64_t prp1, uint64_t prp2)
{
	return run(rig_io(0, NVME_IO_WRITE, lba, blocks, prp1, prp2), nvme_write);
}

static enum nvme_status simple(uint8_t opcode, handler fn, uint64_t lba, uint32_t blocks)
{
	return run(rig_io(0, opcode, lba, blocks, 0, 0), fn);
}

static enum nvme_status uncorrectable(uint64_t lba, uint32_t blocks)
{
	return simple(NVME_IO_WRITE_UNCORRECTABLE, nvme_write_uncorrectable, lba, blocks);
}

static enum nvme_status verify(uint64_t lba, uint32_t blocks)
{
	return simple(NVME_IO_VERIFY, nvme_verify, lba, blocks);
}

static uint64_t ops(enum blk_op op)
{
	struct blk_stats s;

	blk_dev_stats(rig->dev, &s);
	return s.ops[op];
}

/* ---- Read and Write ---- */

static void what_is_written_is_read_back(void **state)
{
	rig_open("");
	rig_fill(0x5000, 2 * PAGE, 1);
	assert_int_equal(wr(8, 16, 0x5000, 0x6000), NVME_SC_SUCCESS);
	assert_memory_equal(rig_disk() + 8 * 512, rig_host(0x5000), 2 * PAGE);
	assert_int_equal(rd(8, 16, 0x20000, 0x31000), NVME_SC_SUCCESS);
	assert_memory_equal(rig_host(0x20000), rig_host(0x5000), PAGE);
	assert_memory_equal(rig_host(0x31000), rig_host(0x6000), PAGE);
	/* one that needs a list */
	rig_put64(0x1000, 0x6000);
	rig_put64(0x1008, 0x5000);
	assert_int_equal(wr(100, 24, 0x5000, 0x1000), NVME_SC_SUCCESS);
	assert_memory_equal(rig_disk() + 100 * 512 + PAGE, rig_host(0x6000), PAGE);
	assert_memory_equal(rig_disk() + 100 * 512 + 2 * PAGE, rig_host(0x5000), PAGE);
	rig_close();
}

static void blocks_beyond_the_end_are_out_of_range(void **state)
{
	static const struct {
		uint64_t lba;
		uint32_t blocks;
	} bad[] = { { BLOCKS, 1 },     { BLOCKS - 1, 2 }, { UINT64_MAX, 1 },	  { UINT64_MAX, 2 },
		    { 1ull << 55, 1 }, { 1ull << 47, 1 }, { UINT64_MAX / 512, 8 } };

	rig_open("");
	assert_int_equal(rd(BLOCKS - 1, 1, 0x5000, 0), NVME_SC_SUCCESS);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t lba = bad[i].lba;
		uint32_t n = bad[i].blocks;

		assert_int_equal(rd(lba, n, 0x5000, 0), NVME_SC_LBA_OUT_OF_RANGE);
		assert_int_equal(wr(lba, n, 0x5000, 0), NVME_SC_LBA_OUT_OF_RANGE);
		assert_int_equal(verify(lba, n), NVME_SC_LBA_OUT_OF_RANGE);
		assert_int_equal(uncorrectable(lba, n), NVME_SC_LBA_OUT_OF_RANGE);
		assert_int_equal(simple(NVME_IO_WRITE_ZEROES, nvme_write_zeroes, lba, n),
				 NVME_SC_LBA_OUT_OF_RANGE);
		assert_int_equal(run(rig_io(0, NVME_IO_COMPARE, lba, n, 0x5000, 0), nvme_compare),
				 NVME_SC_LBA_OUT_OF_RANGE);
	}
	rig_close();
}

static void protection_information_is_refused_without_metadata(void **state)
{
	static const struct {
		uint8_t opcode;
		handler fn;
	} t[] = {
		{ NVME_IO_READ, nvme_read },
		{ NVME_IO_WRITE, nvme_write },
		{ NVME_IO_COMPARE, nvme_compare },
		{ NVME_IO_VERIFY, nvme_verify },
		{ NVME_IO_WRITE_ZEROES, nvme_write_zeroes },
	};

	rig_open("");
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		for (uint32_t bit = 26; bit < 30; bit++) {
			struct nvme_cmd *c = rig_io(0, t[i].opcode, 0, 1, 0x5000, 0);

			c->sqe.cdw12 = le32(1u << bit);
			assert_int_equal(run(c, t[i].fn), NVME_SC_INVALID_PROTECTION_INFO);
		}
	rig_close();
}

static void longer_than_mdts_or_a_bad_pointer_is_refused(void **state)
{
	rig_open("");
	assert_int_equal(rd(0, 4097, 0x5000, 0x1000), NVME_SC_INVALID_FIELD);
	assert_int_equal(wr(0, 4097, 0x5000, 0x1000), NVME_SC_INVALID_FIELD);
	assert_int_equal(rd(0, 1, 0x5001, 0), NVME_SC_INVALID_PRP_OFFSET);
	assert_int_equal(wr(0, 16, 0x5000, 0x6010), NVME_SC_INVALID_PRP_OFFSET);
	assert_int_equal(rd(0, 1, FAR_GPA, 0), NVME_SC_DATA_TRANSFER_ERROR);
	rig_close();
}

static void statuses_of_the_back_end_have_their_names(void **state)
{
	static const struct {
		const char *name;
		uint16_t read, write;
	} t[] = {
		{ "IOERR", NVME_SC_UNRECOVERED_READ_ERROR, NVME_SC_WRITE_FAULT },
		{ "NO_SPACE", NVME_SC_CAPACITY_EXCEEDED, NVME_SC_CAPACITY_EXCEEDED },
		{ "READ_ONLY", NVME_SC_NS_WRITE_PROTECTED, NVME_SC_NS_WRITE_PROTECTED },
		{ "GONE", NVME_SC_INTERNAL_ERROR, NVME_SC_INTERNAL_ERROR },
		{ "ABORTED", NVME_SC_ABORT_REQUESTED, NVME_SC_ABORT_REQUESTED },
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		char params[64];

		snprintf(params, sizeof(params), ",fail-every=1,fail-status=%s", t[i].name);
		rig_open(params);
		assert_int_equal(rd(0, 8, 0x5000, 0), t[i].read);
		assert_int_equal(wr(0, 8, 0x5000, 0), t[i].write);
		assert_int_equal(simple(NVME_IO_FLUSH, nvme_flush, 0, 1), t[i].write);
		assert_int_equal(verify(0, 8), t[i].read);
		rig_close();
	}
}

static void status_of_nvme_is_told_as_the_back_end_has_it(void **state)
{
	struct blk_error_injection in = { .kind = BLK_ERROR_NVME,
					  .op_mask = BLK_ERROR_ALL,
					  .num = 1,
					  .nvme_sct = 3,
					  .nvme_sc = 0x70 };
	struct blk_dev *error;

	rig_open("");
	assert_int_equal(blk_dev_open_on("error", "e", NULL, rig->dev, &error, NULL), 0);
	blk_way_close(&rig->nsq.way);
	assert_int_equal(blk_way_open(&rig->nsq.way, error, rig->loop, NULL, NULL), 0);
	assert_int_equal(blk_error_inject(error, &in, NULL), 0);
	assert_int_equal(rd(0, 8, 0x5000, 0), 0x370);
	assert_int_equal(wr(0, 8, 0x5000, 0), 0x370);
	assert_int_equal(simple(NVME_IO_FLUSH, nvme_flush, 0, 1), 0x370);
	assert_int_equal(rd(0, 8, 0x5000, 0), NVME_SC_SUCCESS);
	assert_int_equal(blk_error_inject(error, &in, NULL), 0);
	assert_int_equal(verify(0, 8), 0x370);
	blk_way_close(&rig->nsq.way);
	assert_int_equal(blk_way_open(&rig->nsq.way, rig->dev, rig->loop, NULL, NULL), 0);
	blk_dev_unref(error);
	rig_close();
}

/* ---- durability ---- */

/* sim has FUA; without it a flush follows. */
static struct blk_caps no_fua;

static void without_fua(void)
{
	no_fua = *rig->nsq.caps;
	no_fua.fua = false;
	no_fua.volatile_cache = true;
	rig->nsq.caps = rig->ns.caps = &no_fua;
}

static void fua_or_write_through_is_a_flush_where_the_back_end_has_no_fua(void **state)
{
	struct nvme_cmd *c;

	rig_open(",volatile-cache=on");
	without_fua();
	assert_int_equal(wr(0, 1, 0x5000, 0), NVME_SC_SUCCESS);
	assert_int_equal(ops(BLK_FLUSH), 0);
	c = rig_io(0, NVME_IO_WRITE, 0, 1, 0x5000, 0);
	c->sqe.cdw12 = le32(FUA);
	assert_int_equal(run(c, nvme_write), NVME_SC_SUCCESS);
	assert_int_equal(c->blk.op, BLK_FLUSH);
	assert_int_equal(ops(BLK_FLUSH), 1);
	atomic_store(&rig->ctrl.write_through, true);
	assert_int_equal(wr(0, 1, 0x5000, 0), NVME_SC_SUCCESS);
	assert_int_equal(ops(BLK_FLUSH), 2);
	assert_int_equal(simple(NVME_IO_WRITE_ZEROES, nvme_write_zeroes, 0, 8), NVME_SC_SUCCESS);
	assert_int_equal(ops(BLK_FLUSH), 3);
	rig_close();
}

static void fua_is_passed_to_a_back_end_that_has_it(void **state)
{
	struct nvme_cmd *c;

	rig_open(",volatile-cache=on");
	c = rig_io(0, NVME_IO_WRITE, 0, 1, 0x5000, 0);
	c->sqe.cdw12 = le32(FUA);
	assert_int_equal(run(c, nvme_write), NVME_SC_SUCCESS);
	assert_int_equal(c->blk.flags, BLK_FUA);
	atomic_store(&rig->ctrl.write_through, true);
	assert_int_equal(wr(0, 1, 0x5000, 0), NVME_SC_SUCCESS);
	assert_int_equal(c->blk.flags, BLK_FUA);
	assert_int_equal(ops(BLK_FLUSH), 0);
	rig_close();
}

static void flush_of_a_namespace_reaches_the_back_end(void **state)
{
	rig_open("");
	assert_int_equal(simple(NVME_IO_FLUSH, nvme_flush, 0, 1), NVME_SC_SUCCESS);
	assert_int_equal(ops(BLK_FLUSH), 1);
	rig_close();
}

static void flush_of_all_reaches_every_namespace(void **state)
{
	struct nvme_cmd *c;

	rig_open("");
	c = rig_cmd(0, false, NVME_IO_FLUSH);
	c->nsid = NVME_NSID_ALL;
	c->nsq = NULL;
	assert_int_equal(run(c, nvme_flush), NVME_SC_SUCCESS);
	assert_int_equal(ops(BLK_FLUSH), 2);
	rig_close();
}

/* ---- Write Zeroes ---- */

static void write_zeroes_zeroes_and_deallocates_when_asked(void **state)
{
	struct nvme_cmd *c;

	rig_open("");
	memset(rig_disk(), 0x55, 1 << 20);
	assert_int_equal(simple(NVME_IO_WRITE_ZEROES, nvme_write_zeroes, 1, 2), NVME_SC_SUCCESS);
	assert_int_equal(rig_disk()[511], 0x55);
	assert_int_equal(rig_disk()[512], 0);
	assert_int_equal(rig_disk()[3 * 512 - 1], 0);
	assert_int_equal(rig_disk()[3 * 512], 0x55);
	c = rig_io(0, NVME_IO_WRITE_ZEROES, 0, 1, 0, 0);
	c->sqe.cdw12 = le32(NVME_RW_DEAC);
	assert_int_equal(run(c, nvme_write_zeroes), NVME_SC_SUCCESS);
	assert_int_equal(c->blk.flags, BLK_UNMAP);
	rig_close();
}

static void long_zeroes_are_split_as_the_back_end_says(void **state)
{
	struct blk_caps caps;

	rig_open("");
	caps = *rig->nsq.caps;
	caps.max_zeroes_bytes = 100 * 512 + 7;
	rig->nsq.caps = &caps;
	memset(rig_disk(), 0x55, 1001 * 512);
	assert_int_equal(simple(NVME_IO_WRITE_ZEROES, nvme_write_zeroes, 0, 1000), NVME_SC_SUCCESS);
	assert_int_equal(ops(BLK_WRITE_ZEROES), 10);
	assert_int_equal(rig_disk()[1000 * 512 - 1], 0);
	assert_int_equal(rig_disk()[1000 * 512], 0x55);
	rig_close();
}

/* ---- Dataset Management ---- */

static void range_put(uint32_t i, uint64_t lba, uint32_t blocks)
{
	rig_put64(0x5000 + i * 16, (uint64_t)blocks << 32 | 0xffff);
	rig_put64(0x5008 + i * 16, lba);
}

static enum nvme_status dsm(uint32_t count, uint32_t dw11)
{
	struct nvme_cmd *c = rig_io(0, NVME_IO_DATASET_MANAGEMENT, 0, 1, 0x5000, 0);

	c->sqe.cdw10 = le32(count - 1);
	c->sqe.cdw11 = le32(dw11);
	return run(c, nvme_dataset_management);
}

static void deallocate_does_all_ranges_also_overlapping_ones(void **state)
{
	rig_open("");
	memset(rig_disk(), 0x55, 1 << 20);
	range_put(0, 10, 4);
	range_put(1, 12, 4);
	range_put(2, 5000, 0); /* nothing: legal */
	range_put(3, 0, 1);
	assert_int_equal(dsm(4, 4), NVME_SC_SUCCESS);
	assert_int_equal(ops(BLK_WRITE_ZEROES), 3);
	assert_int_equal(rig_disk()[0], 0);
	assert_int_equal(rig_disk()[512], 0x55);
	assert_int_equal(rig_disk()[16 * 512 - 1], 0);
	assert_int_equal(rig_disk()[16 * 512], 0x55);
	rig_close();
}

static void all_ranges_are_checked_before_one_is_done(void **state)
{
	rig_open("");
	for (uint32_t i = 0; i < 256; i++)
		range_put(i, i * 8, 8);
	range_put(255, BLOCKS - 7, 8);
	assert_int_equal(dsm(256, 4), NVME_SC_LBA_OUT_OF_RANGE);
	assert_int_equal(ops(BLK_WRITE_ZEROES), 0);
	range_put(255, UINT64_MAX, UINT32_MAX);
	assert_int_equal(dsm(256, 4), NVME_SC_LBA_OUT_OF_RANGE);
	range_put(255, 0, 1);
	assert_int_equal(dsm(256, 4), NVME_SC_SUCCESS);
	assert_int_equal(ops(BLK_WRITE_ZEROES), 256);
	rig_close();
}

static void hints_without_deallocate_do_nothing(void **state)
{
	rig_open("");
	range_put(0, 0, 8);
	assert_int_equal(dsm(1, 3), NVME_SC_SUCCESS);
	assert_int_equal(ops(BLK_DISCARD) + ops(BLK_WRITE_ZEROES), 0);
	rig_close();
}

static void long_ranges_are_split_as_the_back_end_says(void **state)
{
	struct blk_caps caps;

	rig_open("");
	caps = *rig->nsq.caps;
	caps.max_zeroes_bytes = 32 << 10;
	caps.max_discard_bytes = 64 << 10;
	rig->nsq.caps = &caps;
	range_put(0, 0, 1000);
	assert_int_equal(dsm(1, 4), NVME_SC_SUCCESS);
	assert_int_equal(ops(BLK_WRITE_ZEROES), 16);
	caps.zeroes_unmap = false; /* then what was deallocated need not be zero */
	assert_int_equal(dsm(1, 4), NVME_SC_SUCCESS);
	assert_int_equal(ops(BLK_DISCARD), 8);
	caps.discard = false;
	assert_int_equal(dsm(1, 4), NVME_SC_SUCCESS);
	assert_int_equal(ops(BLK_DISCARD), 8);
	rig_close();
}

/* ---- Verify ---- */

static void verify_reads_in_bounded_steps_and_finds_bad_blocks(void **state)
{
	rig_open("");
	assert_int_equal(verify(0, 65536), NVME_SC_SUCCESS);
	assert_int_equal(ops(BLK_READ), 512);
	assert_int_equal(rig->mem.scratch_bytes, 0);
	rig_close();
	rig_open(",fail-every=3");
	assert_int_equal(verify(0, 65536), NVME_SC_UNRECOVERED_READ_ERROR);
	rig_close();
}

static void scratch_memory_is_bounded_and_commands_wait_for_it(void **state)
{
	rig_open("");
	blk_sim_hold(rig->dev, true);
	for (uint32_t i = 0; i < RIG_CMDS; i++)
		nvme_verify(rig_io(i, NVME_IO_VERIFY, 0, 128, 0, 0));
	assert_in_range(rig->mem.scratch_bytes, 1, 4 << 20);
	assert_false(list_empty(&rig->mem.scratch_wait));
	blk_sim_hold(rig->dev, false);
	for (uint32_t i = 0; i < RIG_CMDS; i++)
		assert_int_equal(rig_wait(&rig->cmd[i]), NVME_SC_SUCCESS);
	rig_close();
}

/* ---- Copy ---- */

static void source_put(uint32_t i, uint64_t lba, uint32_t blocks)
{
	memset(rig_host(0x5000 + i * 32), 0, 32);
	rig_put64(0x5008 + i * 32, lba);
	rig_put64(0x5010 + i * 32, blocks - 1);
}

static struct nvme_cmd *copy_cmd(uint64_t to, uint32_t count)
{
	struct nvme_cmd *c = rig_io(0, NVME_IO_COPY, to, 1, 0x5000, 0x6000);

	c->sqe.cdw12 = le32(count - 1);
	return c;
}

static enum nvme_status copy(uint64_t to, uint32_t count)
{
	return run(copy_cmd(to, count), nvme_copy);
}

static void copy_gathers_ranges_in_their_order(void **state)
{
	rig_open("");
	for (size_t i = 0; i < MIB; i++)
		rig_disk()[i] = (char)(i * 7 + i / 251);
	source_put(0, 10, 300); /* more than a step */
	source_put(1, 0, 1);
	source_put(2, 700, 128);
	assert_int_equal(copy(10000, 3), NVME_SC_SUCCESS);
	assert_memory_equal(rig_disk() + 10000 * 512, rig_disk() + 10 * 512, 300 * 512);
	assert_memory_equal(rig_disk() + 10300 * 512, rig_disk(), 512);
	assert_memory_equal(rig_disk() + 10301 * 512, rig_disk() + 700 * 512, 128 * 512);
	assert_int_equal(rig->mem.scratch_bytes, 0);
	rig_close();
}

static void copy_is_checked_whole_before_it_begins(void **state)
{
	struct nvme_cmd *c;

	rig_open("");
	source_put(0, 0, 8);
	source_put(1, BLOCKS - 1, 2);
	assert_int_equal(copy(100, 2), NVME_SC_LBA_OUT_OF_RANGE);
	source_put(1, UINT64_MAX, 1);
	assert_int_equal(copy(100, 2), NVME_SC_LBA_OUT_OF_RANGE);
	source_put(1, 0, 8);
	assert_int_equal(copy(BLOCKS - 15, 2), NVME_SC_LBA_OUT_OF_RANGE);
	assert_int_equal(copy(UINT64_MAX, 2), NVME_SC_LBA_OUT_OF_RANGE);
	source_put(1, 0, 65536);
	assert_int_equal(copy(100, 2), NVME_SC_COMMAND_SIZE_LIMIT); /* MSSRL */
	source_put(0, 0, 40000);
	source_put(1, 0, 40000);
	assert_int_equal(copy(100, 2), NVME_SC_COMMAND_SIZE_LIMIT); /* MCL */
	assert_int_equal(copy(100, NVME_COPY_RANGES_MAX + 1), NVME_SC_COMMAND_SIZE_LIMIT);
	c = copy_cmd(100, 1);
	c->sqe.cdw12 = le32(1 << 8);
	assert_int_equal(run(c, nvme_copy), NVME_SC_INVALID_FIELD); /* format */
	for (uint32_t bit = 12; bit < 30; bit += bit == 15 ? 11 : 1) {
		c = copy_cmd(100, 1);
		c->sqe.cdw12 = le32(1u << bit);
		assert_int_equal(run(c, nvme_copy), NVME_SC_INVALID_PROTECTION_INFO);
	}
	assert_int_equal(ops(BLK_READ) + ops(BLK_WRITE), 0);
	rig_close();
}

/* ---- Write Uncorrectable ---- */

static void marked_blocks_fail_reads_until_they_are_written(void **state)
{
	rig_open("");
	assert_int_equal(uncorrectable(100, 16), NVME_SC_SUCCESS);
	assert_int_equal(rig->saves, 1);
	assert_int_equal(rd(96, 8, 0x5000, 0), NVME_SC_UNRECOVERED_READ_ERROR);
	assert_int_equal(rd(115, 1, 0x5000, 0), NVME_SC_UNRECOVERED_READ_ERROR);
	assert_int_equal(rd(116, 1, 0x5000, 0), NVME_SC_SUCCESS);
	assert_int_equal(rd(99, 1, 0x5000, 0), NVME_SC_SUCCESS);
	assert_int_equal(verify(90, 30), NVME_SC_UNRECOVERED_READ_ERROR);
	assert_int_equal(run(rig_io(0, NVME_IO_COMPARE, 100, 1, 0x5000, 0), nvme_compare),
			 NVME_SC_UNRECOVERED_READ_ERROR);
	source_put(0, 100, 1);
	assert_int_equal(copy(200, 1), NVME_SC_UNRECOVERED_READ_ERROR);
	/* a write elsewhere changes nothing and saves nothing */
	assert_int_equal(wr(0, 8, 0x5000, 0), NVME_SC_SUCCESS);
	assert_int_equal(rig->saves, 1);
	assert_int_equal(wr(100, 8, 0x5000, 0), NVME_SC_SUCCESS);
	assert_int_equal(rig->saves, 2);
	assert_int_equal(rd(100, 8, 0x5000, 0), NVME_SC_SUCCESS);
	assert_int_equal(simple(NVME_IO_WRITE_ZEROES, nvme_write_zeroes, 108, 2), NVME_SC_SUCCESS);
	assert_int_equal(rd(108, 2, 0x5000, 0), NVME_SC_SUCCESS);
	range_put(0, 110, 2);
	assert_int_equal(dsm(1, 4), NVME_SC_SUCCESS);
	assert_int_equal(rd(110, 2, 0x5000, 0), NVME_SC_SUCCESS);
	source_put(0, 0, 4);
	assert_int_equal(copy(112, 1), NVME_SC_SUCCESS);
	assert_int_equal(atomic_load(&rig->att.gate), 0); /* none is left */
	assert_int_equal(verify(90, 30), NVME_SC_SUCCESS);
	rig_close();
}

static void a_write_that_failed_leaves_the_mark(void **state)
{
	rig_open(",fail-every=1,fail-op=write");
	assert_int_equal(uncorrectable(8, 8), NVME_SC_SUCCESS);
	assert_int_equal(wr(8, 8, 0x5000, 0), NVME_SC_WRITE_FAULT);
	assert_int_equal(rd(8, 8, 0x5000, 0), NVME_SC_UNRECOVERED_READ_ERROR);
	rig_close();
}

static void too_many_marks_are_refused(void **state)
{
	rig_open("");
	for (uint32_t i = 0; i < NVME_UNCOR_RANGES_MAX; i++)
		assert_int_equal(uncorrectable(i * 2, 1), NVME_SC_SUCCESS);
	assert_int_equal(uncorrectable(50000, 1), NVME_SC_CAPACITY_EXCEEDED);
	assert_int_equal(rd(50000, 1, 0x5000, 0), NVME_SC_SUCCESS);
	rig_close();
}

static void mark_that_cannot_be_saved_is_an_error(void **state)
{
	rig_open("");
	rig->save_fails = true;
	assert_int_equal(uncorrectable(8, 8), NVME_SC_INTERNAL_ERROR);
	rig_close();
}

#define T(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_is_written_is_read_back),
		T(blocks_beyond_the_end_are_out_of_range),
		T(protection_information_is_refused_without_metadata),
		T(longer_than_mdts_or_a_bad_pointer_is_refused),
		T(statuses_of_the_back_end_have_their_names),
		T(status_of_nvme_is_told_as_the_back_end_has_it),
		T(fua_or_write_through_is_a_flush_where_the_back_end_has_no_fua),
		T(fua_is_passed_to_a_back_end_that_has_it),
		T(flush_of_a_namespace_reaches_the_back_end),
		T(flush_of_all_reaches_every_namespace),
		T(write_zeroes_zeroes_and_deallocates_when_asked),
		T(long_zeroes_are_split_as_the_back_end_says),
		T(deallocate_does_all_ranges_also_overlapping_ones),
		T(all_ranges_are_checked_before_one_is_done),
		T(hints_without_deallocate_do_nothing),
		T(long_ranges_are_split_as_the_back_end_says),
		T(verify_reads_in_bounded_steps_and_finds_bad_blocks),
		T(scratch_memory_is_bounded_and_commands_wait_for_it),
		T(copy_gathers_ranges_in_their_order),
		T(copy_is_checked_whole_before_it_begins),
		T(marked_blocks_fail_reads_until_they_are_written),
		T(a_write_that_failed_leaves_the_mark),
		T(too_many_marks_are_refused),
		T(mark_that_cannot_be_saved_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
