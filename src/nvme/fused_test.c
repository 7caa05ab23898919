/* Compare, and the fused pair Compare and Write, one pair against another. */
#include "nvme/io_rig.h"

static struct nvme_cmd *compare(uint32_t i, uint64_t lba, uint32_t blocks, uint64_t prp1)
{
	return rig_io(i, NVME_IO_COMPARE, lba, blocks, prp1, 0x1000);
}

static enum nvme_status compare_run(struct nvme_cmd *c)
{
	nvme_compare(c);
	return rig_wait(c);
}

/* Commands i and i + 1. */
static struct nvme_cmd *pair(uint32_t i, uint64_t lba, uint32_t blocks, uint64_t old,
			     uint64_t fresh)
{
	struct nvme_cmd *c = compare(i, lba, blocks, old);
	struct nvme_cmd *w = rig_io(i + 1, NVME_IO_WRITE, lba, blocks, fresh, 0x1000);

	c->sqe.flags = NVME_SQE_FUSE_FIRST;
	w->sqe.flags = NVME_SQE_FUSE_SECOND;
	c->fused = w;
	w->fused = c;
	return c;
}

static void expect_pair(struct nvme_cmd *c, enum nvme_status first, enum nvme_status second)
{
	assert_int_equal(rig_wait(c), first);
	assert_int_equal(rig_wait(c + 1), second);
	assert_null(rig->ns.turn_holder);
	assert_true(list_empty(&rig->ns.turn_waiters));
}

static void equal_blocks_compare_and_others_do_not(void **state)
{
	rig_open("");
	rig_fill(0x5000, 4096, 1);
	memcpy(rig_disk() + 8 * 512, rig_host(0x5000), 4096);
	assert_int_equal(compare_run(compare(0, 8, 8, 0x5000)), NVME_SC_SUCCESS);
	assert_int_equal(compare_run(compare(0, 9, 1, 0x5200)), NVME_SC_SUCCESS);
	rig_disk()[16 * 512 - 1]++;
	assert_int_equal(compare_run(compare(0, 8, 8, 0x5000)), NVME_SC_COMPARE_FAILURE);
	assert_int_equal(compare_run(compare(0, 8, 7, 0x5000)), NVME_SC_SUCCESS);
	assert_int_equal(rig->mem.scratch_bytes, 0);
	rig_close();
}

static void long_compares_are_steps(void **state)
{
	rig_open("");
	for (uint64_t i = 0; i < 255; i++)
		rig_put64(0x1000 + i * 8, 0x100000 + (i + 1) * 4096);
	rig_fill(0x100000, MIB, 1);
	memcpy(rig_disk(), rig_host(0x100000), MIB);
	assert_int_equal(compare_run(compare(0, 0, 2048, 0x100000)), NVME_SC_SUCCESS);
	rig_disk()[MIB - 1]++;
	assert_int_equal(compare_run(compare(0, 0, 2048, 0x100000)), NVME_SC_COMPARE_FAILURE);
	rig_close();
}

static void read_error_and_bad_pointer_end_a_compare(void **state)
{
	rig_open(",fail-every=1");
	assert_int_equal(compare_run(compare(0, 0, 8, 0x5000)), NVME_SC_UNRECOVERED_READ_ERROR);
	assert_int_equal(compare_run(compare(0, 0, 8, FAR_GPA)), NVME_SC_DATA_TRANSFER_ERROR);
	assert_int_equal(compare_run(compare(0, 0, 8192, 0x5000)), NVME_SC_INVALID_FIELD);
	rig_close();
}

static void pair_writes_when_the_compare_finds_equal(void **state)
{
	rig_open("");
	rig_fill(0x6000, 4096, 3);
	nvme_compare(pair(0, 8, 8, 0x5000, 0x6000)); /* both zero */
	expect_pair(&rig->cmd[0], NVME_SC_SUCCESS, NVME_SC_SUCCESS);
	assert_memory_equal(rig_disk() + 8 * 512, rig_host(0x6000), 4096);
	nvme_compare(pair(0, 8, 8, 0x5000, 0x7000));
	expect_pair(&rig->cmd[0], NVME_SC_COMPARE_FAILURE, NVME_SC_ABORTED_FAILED_FUSED);
	assert_memory_equal(rig_disk() + 8 * 512, rig_host(0x6000), 4096);
	rig_close();
}

static void halves_that_name_other_blocks_are_refused(void **state)
{
	struct nvme_cmd *c;

	rig_open("");
	c = pair(0, 8, 8, 0x5000, 0x6000);
	c[1].sqe.cdw10 = le32(9);
	nvme_compare(c);
	expect_pair(c, NVME_SC_INVALID_FIELD, NVME_SC_ABORTED_FAILED_FUSED);
	c = pair(0, 8, 8, 0x5000, 0x6000);
	c[1].sqe.cdw12 = le32(3);
	nvme_compare(c);
	expect_pair(c, NVME_SC_INVALID_FIELD, NVME_SC_ABORTED_FAILED_FUSED);
	c = pair(0, 8, 8, 0x5000, 0x6000);
	c[1].nsq = NULL;
	nvme_compare(c);
	expect_pair(c, NVME_SC_INVALID_FIELD, NVME_SC_ABORTED_FAILED_FUSED);
	assert_int_equal(rig_disk()[8 * 512], 0);
	rig_close();
}

static void pair_longer_than_acwu_or_out_of_range_is_refused(void **state)
{
	uint32_t max = (uint32_t)nvme_acwu(&(struct nvme_ns){ .block_shift = 9 }) + 1;

	rig_open("");
	for (uint64_t i = 0; i < 64; i++)
		rig_put64(0x1000 + i * 8, 0x200000 + i * 4096);
	nvme_compare(pair(0, 0, max + 1, 0x5000, 0x6000));
	expect_pair(&rig->cmd[0], NVME_SC_ATOMIC_UNIT_EXCEEDED, NVME_SC_ABORTED_FAILED_FUSED);
	nvme_compare(pair(0, 0, max, 0x5000, 0x6000));
	expect_pair(&rig->cmd[0], NVME_SC_SUCCESS, NVME_SC_SUCCESS);
	nvme_compare(pair(0, 1ull << 40, 8, 0x5000, 0x6000));
	expect_pair(&rig->cmd[0], NVME_SC_LBA_OUT_OF_RANGE, NVME_SC_ABORTED_FAILED_FUSED);
	rig_close();
}

static void failing_pointers_of_either_half_end_the_pair(void **state)
{
	rig_open("");
	nvme_compare(pair(0, 0, 8, FAR_GPA, 0x6000));
	expect_pair(&rig->cmd[0], NVME_SC_DATA_TRANSFER_ERROR, NVME_SC_ABORTED_FAILED_FUSED);
	nvme_compare(pair(0, 0, 8, 0x5000, FAR_GPA));
	expect_pair(&rig->cmd[0], NVME_SC_SUCCESS, NVME_SC_DATA_TRANSFER_ERROR);
	nvme_compare(pair(0, 0, 8, 0x5001, 0x6000));
	expect_pair(&rig->cmd[0], NVME_SC_INVALID_PRP_OFFSET, NVME_SC_ABORTED_FAILED_FUSED);
	rig_close();
}

static void one_pair_at_a_time_and_only_one_wins(void **state)
{
	uint32_t won = 0;

	rig_open(",delay-max-ns=100000");
	for (uint32_t i = 0; i < 16; i++) { /* all: if block 8 is zero, write i + 1 */
		rig_fill(0x10000 + i * 4096, 512, i + 1);
		nvme_compare(pair(2 * i, 8, 1, 0x5000, 0x10000 + i * 4096));
	}
	for (uint32_t i = 0; i < 16; i++) {
		enum nvme_status first = rig_wait(&rig->cmd[2 * i]);
		enum nvme_status second = rig_wait(&rig->cmd[2 * i + 1]);

		if (first == NVME_SC_SUCCESS) {
			won++;
			assert_int_equal(second, NVME_SC_SUCCESS);
			assert_memory_equal(rig_disk() + 8 * 512, rig_host(0x10000 + i * 4096),
					    512);
		} else {
			assert_int_equal(first, NVME_SC_COMPARE_FAILURE);
			assert_int_equal(second, NVME_SC_ABORTED_FAILED_FUSED);
		}
	}
	assert_int_equal(won, 1);
	assert_null(rig->ns.turn_holder);
	rig_close();
}

static void pair_that_waits_for_its_turn_ends_when_the_holder_does(void **state)
{
	rig_open("");
	blk_sim_hold(rig->dev, true);
	nvme_compare(pair(0, 8, 1, 0x5000, 0x6000));
	nvme_compare(pair(2, 8, 1, 0x5000, 0x6000));
	rig_turns();
	assert_ptr_equal(rig->ns.turn_holder, &rig->cmd[1]);
	assert_false(list_empty(&rig->ns.turn_waiters));
	blk_cancel(&rig->cmd[0].blk); /* the holder is aborted */
	assert_int_equal(rig_wait(&rig->cmd[0]), NVME_SC_ABORT_REQUESTED);
	assert_int_equal(rig_wait(&rig->cmd[1]), NVME_SC_ABORTED_FAILED_FUSED);
	rig_turns();
	assert_ptr_equal(rig->ns.turn_holder, &rig->cmd[3]);
	blk_sim_hold(rig->dev, false);
	expect_pair(&rig->cmd[2], NVME_SC_SUCCESS, NVME_SC_SUCCESS);
	rig_close();
}

#define T(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(equal_blocks_compare_and_others_do_not),
		T(long_compares_are_steps),
		T(read_error_and_bad_pointer_end_a_compare),
		T(pair_writes_when_the_compare_finds_equal),
		T(halves_that_name_other_blocks_are_refused),
		T(pair_longer_than_acwu_or_out_of_range_is_refused),
		T(failing_pointers_of_either_half_end_the_pair),
		T(one_pair_at_a_time_and_only_one_wins),
		T(pair_that_waits_for_its_turn_ends_when_the_holder_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
