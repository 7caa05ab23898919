/* VERIFY and WRITE AND VERIFY. */
#include "scsi/sbc_rig.h"

static const uint8_t verify_opcodes[] = { 0x2f, 0xaf, 0x8f };
static const uint8_t write_verify_opcodes[] = { 0x2e, 0xae, 0x8e };

#define CHECK_NONE 0x00 /* BYTCHK in byte 1 */
#define CHECK_ALL  0x02
#define CHECK_ONE  0x06

static void verify_compares_with_data_out(void **state)
{
	struct rig *rig = *state;
	uint8_t *out = malloc(8 * 512), *m = sbc_memory(rig);

	sbc_fill(m, SIM_BLOCKS * 512, 4);
	for (size_t i = 0; i < ARRAY_SIZE(verify_opcodes); i++) {
		memcpy(out, m + 20 * 512, 8 * 512);
		sbc_assert_good(rig, verify_opcodes[i], CHECK_ALL, 20, 8, out, 8 * 512);
		assert_int_equal(rig->task.out_bytes, 8 * 512);
		out[1000] ^= 1;
		sbc_run(rig, verify_opcodes[i], CHECK_ALL, 20, 8, out, 8 * 512);
		rig_assert_sense(rig, SCSI_CAUSE_MISCOMPARE);
		assert_int_equal(sbc_information(rig), 1000);
	}
	free(out);
}

static void verify_without_byte_check_needs_no_data(void **state)
{
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(verify_opcodes); i++)
		sbc_assert_good(rig, verify_opcodes[i], CHECK_NONE, 0, 64, NULL, 0);
	assert_int_equal(sbc_ops(rig, BLK_READ), 3);
}

static void verify_compares_each_block_with_one(void **state)
{
	struct rig *rig = *state;
	uint8_t block[512], *m = sbc_memory(rig);

	sbc_fill(block, 512, 5);
	for (uint32_t b = 0; b < 10; b++)
		memcpy(m + b * 512, block, 512);
	sbc_assert_good(rig, 0x8f, CHECK_ONE, 0, 10, block, 512);
	m[9 * 512 + 17] ^= 1;
	sbc_run(rig, 0x8f, CHECK_ONE, 0, 10, block, 512);
	rig_assert_sense(rig, SCSI_CAUSE_MISCOMPARE);
	assert_int_equal(sbc_information(rig), 17);
	sbc_run(rig, 0x8f, CHECK_ONE, 0, 10, block, 511);
	assert_int_equal(rig->task.end, SCSI_END_OVERRUN);
}

static void reserved_byte_checks_are_invalid_fields(void **state)
{
	struct rig *rig = *state;
	uint8_t out[512] = { 0 };

	for (size_t i = 0; i < 3; i++) {
		sbc_run(rig, verify_opcodes[i], 0x04, 0, 1, out, 512);
		rig_assert_field(rig, true, 1);
		assert_int_equal(rig->task.sense[15] & 0xf, 0x8 | 2);
		sbc_run(rig, write_verify_opcodes[i], 0x04, 0, 1, out, 512);
		rig_assert_field(rig, true, 1);
		sbc_run(rig, write_verify_opcodes[i], 0x06, 0, 1, out, 512);
		rig_assert_field(rig, true, 1);
	}
}

/* 1600 blocks are more than one step of half a MiB. */
static void a_long_verify_tells_the_offset_in_all_of_data_out(void **state)
{
	struct rig *rig = *state;
	size_t len = 1600 * 512;
	uint8_t *out = malloc(len), *m = sbc_memory(rig);

	sbc_fill(m, SIM_BLOCKS * 512, 6);
	memcpy(out, m, len);
	sbc_assert_good(rig, 0x8f, CHECK_ALL, 0, 1600, out, len);
	assert_int_equal(sbc_ops(rig, BLK_READ), 2);
	out[len - 1] ^= 0x80;
	sbc_run(rig, 0x8f, CHECK_ALL, 0, 1600, out, len);
	rig_assert_sense(rig, SCSI_CAUSE_MISCOMPARE);
	assert_int_equal(sbc_information(rig), len - 1);
	free(out);
}

static void write_and_verify_writes(void **state)
{
	struct rig *rig = *state;
	size_t len = 1600 * 512;
	uint8_t *out = malloc(len), *m = sbc_memory(rig);

	for (size_t i = 0; i < ARRAY_SIZE(write_verify_opcodes); i++) {
		for (uint8_t check = CHECK_NONE; check <= CHECK_ALL; check += CHECK_ALL) {
			sbc_fill(out, len, (uint32_t)(10 + i + check));
			sbc_assert_good(rig, write_verify_opcodes[i], check, 3, 1600, out, len);
			assert_int_equal(rig->task.out_bytes, len);
			assert_memory_equal(m + 3 * 512, out, len);
			assert_true(sbc_all(m, 3 * 512, 0));
		}
	}
	free(out);
}

/* What is on the medium is not what was written: somebody else writes between the two. */
static void write_and_verify_tells_what_came_back_different(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "delay-min-ns=1000000,delay-max-ns=1000000");
	uint8_t out[1024], *m = sbc_memory(rig);
	struct rig_task *rt;

	sbc_fill(out, 1024, 1);
	rt = sbc_start(rig, 0x8e, CHECK_ALL, 0, 2, out, 1024);
	while (memcmp(m, out, 1024))
		rig_turn(rig);
	m[700] ^= 1;
	rig_finish(rig, rt);
	rig_assert_sense(rig, SCSI_CAUSE_MISCOMPARE);
	assert_int_equal(sbc_information(rig), 700);
	sbc_rig_free(rig);
}

static void write_and_verify_is_durable(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "volatile-cache=on");
	uint8_t out[512] = { 1 };
	struct rig_task *rt;

	blk_sim_hold(rig->dev[0], true);
	rt = sbc_start(rig, 0x2e, 0, 0, 1, out, 512);
	assert_int_equal(rt->task.blk.op, BLK_WRITE);
	assert_int_equal(rt->task.blk.flags, BLK_FUA);
	blk_sim_hold(rig->dev[0], false);
	rig_finish(rig, rt);
	assert_int_equal(rig->task.status, SCSI_GOOD);
	sbc_rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		sbc_test(verify_compares_with_data_out),
		sbc_test(verify_without_byte_check_needs_no_data),
		sbc_test(verify_compares_each_block_with_one),
		sbc_test(reserved_byte_checks_are_invalid_fields),
		sbc_test(a_long_verify_tells_the_offset_in_all_of_data_out),
		sbc_test(write_and_verify_writes),
		cmocka_unit_test(write_and_verify_tells_what_came_back_different),
		cmocka_unit_test(write_and_verify_is_durable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
