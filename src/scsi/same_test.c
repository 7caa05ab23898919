/* WRITE SAME. */
#include "scsi/limits.h"
#include "scsi/sbc_rig.h"

static void one_block_is_written_to_all(void **state)
{
	struct rig *rig = *state;
	uint8_t block[512], *m = sbc_memory(rig);
	static const uint8_t opcodes[] = { 0x41, 0x93 };

	for (size_t i = 0; i < ARRAY_SIZE(opcodes); i++) {
		sbc_fill(block, 512, 3 + (uint32_t)i);
		memset(m, 0x55, SIM_BLOCKS * 512);
		sbc_assert_good(rig, opcodes[i], 0, 10, 300, block, 512);
		assert_int_equal(rig->task.out_bytes, 512);
		assert_true(sbc_all(m, 10 * 512, 0x55));
		for (uint32_t b = 10; b < 310; b++)
			assert_memory_equal(m + b * 512, block, 512);
		assert_true(sbc_all(m + 310 * 512, (SIM_BLOCKS - 310) * 512, 0x55));
	}
}

static void a_number_of_blocks_of_zero_is_an_invalid_field(void **state)
{
	struct rig *rig = *state;
	uint8_t block[512] = { 0 };

	sbc_run(rig, 0x41, 0, 5, 0, block, 512);
	rig_assert_field(rig, true, 7);
	sbc_run(rig, 0x93, 0, 5, 0, block, 512);
	rig_assert_field(rig, true, 10);
	sbc_run(rig, 0x93, 0, SIM_BLOCKS + 1, 0, block, 512);
	rig_assert_sense(rig, SCSI_CAUSE_LBA_OUT_OF_RANGE);
}

static void unmap_with_data_that_is_not_zero_writes_it(void **state)
{
	struct rig *rig = *state;
	uint8_t block[512], *m = sbc_memory(rig);

	sbc_fill(block, 512, 3);
	sbc_assert_good(rig, 0x93, 0x08, 1, 4, block, 512);
	for (uint32_t b = 1; b < 5; b++)
		assert_memory_equal(m + b * 512, block, 512);
}

static void zeroes_are_left_to_the_back_end(void **state)
{
	struct rig *rig = *state;
	uint8_t block[512] = { 0 }, *m = sbc_memory(rig);

	memset(m, 0x55, SIM_BLOCKS * 512);
	sbc_assert_good(rig, 0x93, 0, 1, 100, block, 512);
	assert_int_equal(sbc_ops(rig, BLK_WRITE_ZEROES), 1);
	assert_int_equal(sbc_ops(rig, BLK_WRITE), 0);
	assert_true(sbc_all(m + 512, 100 * 512, 0));
	assert_true(sbc_all(m + 101 * 512, 512, 0x55));
	block[511] = 1;
	sbc_assert_good(rig, 0x93, 0, 1, 100, block, 512);
	assert_int_equal(sbc_ops(rig, BLK_WRITE), 1);
}

static void ndob_writes_zeroes_without_data(void **state)
{
	struct rig *rig = *state;
	uint8_t *m = sbc_memory(rig);

	memset(m, 0x55, SIM_BLOCKS * 512);
	sbc_assert_good(rig, 0x93, 0x01, 5, 2, NULL, 0);
	assert_true(sbc_all(m + 5 * 512, 1024, 0));
	assert_int_equal(rig->task.out_bytes, 0);
	sbc_run(rig, 0x41, 0x01, 5, 2, NULL, 0); /* not in this form */
	rig_assert_field(rig, true, 1);
}

static void unmap_deallocates(void **state)
{
	struct rig *rig = *state;
	uint8_t block[512] = { 0 }, *m = sbc_memory(rig);
	uint64_t end;
	bool mapped;

	memset(m, 0x55, SIM_BLOCKS * 512);
	block[0] = 1;
	sbc_assert_good(rig, 0x93, 0, 0, 64, block, 512);
	assert_int_equal(blk_dev_map(rig->dev[0], 0, 64 * 512, &end, &mapped), 0);
	assert_true(mapped);
	block[0] = 0;
	sbc_assert_good(rig, 0x93, 0x08, 0, 64, block, 512);
	assert_int_equal(blk_dev_map(rig->dev[0], 0, 64 * 512, &end, &mapped), 0);
	assert_false(mapped);
	assert_true(sbc_all(m, 64 * 512, 0));
	sbc_assert_good(rig, 0x93, 0x09, 64, 1, NULL, 0);
	assert_true(sbc_all(m + 64 * 512, 512, 0));
	assert_true(sbc_all(m + 65 * 512, 512, 0x55));
}

static void data_out_is_one_block(void **state)
{
	struct rig *rig = *state;
	uint8_t *out = calloc(2, 512);
	static const size_t wrong[] = { 0, 1, 256, 511, 513, 1024 };

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		sbc_run(rig, 0x93, 0, 0, 1, out, wrong[i]);
		rig_assert_sense(rig, SCSI_CAUSE_INVALID_FIELD_CDB);
		sbc_run(rig, 0x41, 0x08, 0, 1, out, wrong[i]);
		rig_assert_sense(rig, SCSI_CAUSE_INVALID_FIELD_CDB);
	}
	free(out);
}

static void anchor_and_the_obsolete_bits_are_invalid_fields(void **state)
{
	struct rig *rig = *state;
	uint8_t block[512] = { 0 };
	static const struct {
		uint8_t byte1, bit;
	} wrong[] = { { 0x10, 4 }, { 0x18, 4 }, { 0x04, 2 }, { 0x02, 1 }, { 0x06, 2 } };

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		sbc_run(rig, 0x41, wrong[i].byte1, 0, 1, block, 512);
		rig_assert_field(rig, true, 1);
		assert_int_equal(rig->task.sense[15] & 0xf, 0x8 | wrong[i].bit);
		sbc_run(rig, 0x93, wrong[i].byte1, 0, 1, block, 512);
		rig_assert_field(rig, true, 1);
	}
}

static void more_blocks_than_the_limit_are_refused(void **state)
{
	struct rig *rig = sbc_rig_new("null", "size=1G");
	uint32_t max = scsi_write_same_blocks_max(rig->lu[0]);
	uint8_t block[512] = { 0 };

	sbc_assert_good(rig, 0x93, 0, 0, max, block, 512);
	sbc_run(rig, 0x93, 0, 0, max + 1, block, 512);
	rig_assert_field(rig, true, 10);
	sbc_run(rig, 0x41, 0, 0, 0, block, 512); /* to the end */
	rig_assert_field(rig, true, 7);
	sbc_rig_free(rig);
}

static void a_long_pattern_goes_in_steps(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "size=4M,delay-max-ns=100000,seed=7");
	uint8_t block[512], *m = sbc_memory(rig);

	sbc_fill(block, 512, 9);
	sbc_assert_good(rig, 0x93, 0, 1, 6000, block, 512);
	assert_int_equal(sbc_ops(rig, BLK_WRITE), 3); /* of 1 MiB at most */
	for (uint32_t b = 1; b < 6001; b++)
		assert_memory_equal(m + b * 512, block, 512);
	assert_true(sbc_all(m, 512, 0));
	assert_true(sbc_all(m + 6001 * 512, 512, 0));
	sbc_rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		sbc_test(one_block_is_written_to_all),
		sbc_test(a_number_of_blocks_of_zero_is_an_invalid_field),
		sbc_test(unmap_with_data_that_is_not_zero_writes_it),
		sbc_test(zeroes_are_left_to_the_back_end),
		sbc_test(ndob_writes_zeroes_without_data),
		sbc_test(unmap_deallocates),
		sbc_test(data_out_is_one_block),
		sbc_test(anchor_and_the_obsolete_bits_are_invalid_fields),
		cmocka_unit_test(more_blocks_than_the_limit_are_refused),
		cmocka_unit_test(a_long_pattern_goes_in_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
