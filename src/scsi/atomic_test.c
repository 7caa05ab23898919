/* COMPARE AND WRITE, ORWRITE, WRITE ATOMIC. */
#include <stdio.h>

#include "scsi/limits.h"
#include "scsi/sbc_rig.h"

/* Data-out of COMPARE AND WRITE: blocks of `compare`, then as many of `write`. */
static uint8_t *caw_out(uint32_t blocks, uint8_t compare, uint8_t write)
{
	uint8_t *out = malloc(1024 * blocks);

	memset(out, compare, 512 * blocks);
	memset(out + 512 * blocks, write, 512 * blocks);
	return out;
}

static void caw_writes_what_compares_equal(void **state)
{
	struct rig *rig = *state;
	uint8_t *m = sbc_memory(rig);

	for (uint32_t blocks = 1; blocks <= SCSI_CAW_BLOCKS_MAX; blocks += 127) {
		uint8_t *out = caw_out(blocks, 'A', 'B');

		memset(m, 'A', SIM_BLOCKS * 512);
		sbc_assert_good(rig, 0x89, 0, 7, blocks, out, 1024 * blocks);
		assert_int_equal(rig->task.out_bytes, 1024 * blocks);
		assert_true(sbc_all(m, 7 * 512, 'A'));
		assert_true(sbc_all(m + 7 * 512, blocks * 512, 'B'));
		assert_true(sbc_all(m + (7 + blocks) * 512, 512, 'A'));
		free(out);
	}
}

static void caw_writes_nothing_where_one_byte_differs(void **state)
{
	struct rig *rig = *state;
	uint8_t *m = sbc_memory(rig), *out = caw_out(10, 'A', 'B');

	memset(m, 'A', SIM_BLOCKS * 512);
	out[10 * 512 - 27] = 'C';
	sbc_run(rig, 0x89, 0, 0, 10, out, 10240);
	rig_assert_sense(rig, SCSI_CAUSE_MISCOMPARE);
	assert_int_equal(sbc_information(rig), 10 * 512 - 27);
	assert_true(sbc_all(m, SIM_BLOCKS * 512, 'A'));
	assert_int_equal(sbc_ops(rig, BLK_WRITE), 0);
	free(out);
}

/* All of it is compared before the first block is written, also over several steps. */
static void caw_of_large_blocks_compares_all_steps_first(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "size=4M,block-size=64K");
	size_t half = 24 * 65536;
	uint8_t *out = calloc(2, half), *m = sbc_memory(rig);

	memset(out + half, 1, half);
	m[half - 1] = 9;
	sbc_run(rig, 0x89, 0, 0, 24, out, 2 * half);
	rig_assert_sense(rig, SCSI_CAUSE_MISCOMPARE);
	assert_int_equal(sbc_information(rig), half - 1);
	assert_int_equal(sbc_ops(rig, BLK_READ), 2);
	assert_true(sbc_all(m, half - 1, 0));
	m[half - 1] = 0;
	sbc_assert_good(rig, 0x89, 0, 0, 24, out, 2 * half);
	assert_true(sbc_all(m, half, 1));
	free(out);
	sbc_rig_free(rig);
}

static void caw_refuses_data_out_of_another_length(void **state)
{
	struct rig *rig = *state;
	uint8_t *out = caw_out(4, 0, 1);
	static const size_t wrong[] = { 0, 512, 2047, 2049, 4096 };

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		sbc_run(rig, 0x89, 0, 0, 2, out, wrong[i]);
		rig_assert_field(rig, true, 13);
	}
	assert_true(sbc_all(sbc_memory(rig), 4096, 0));
	free(out);
}

/*
 * Two initiators swap the same block from 0 to a value of their own, their requests in every order
 * that the seed gives: one does it, the other one sees its value.
 */
static void two_caws_on_different_queues_exclude_each_other(void **state)
{
	for (uint32_t seed = 1; seed <= 40; seed++) {
		char params[64];
		uint8_t *out[2] = { caw_out(1, 0, 'a'), caw_out(1, 0, 'b') };
		struct rig_task *rt[2];
		struct rig *rig;
		uint32_t good = 0;

		snprintf(params, sizeof(params), "delay-max-ns=200000,seed=%u", seed);
		rig = sbc_rig_new("sim", params);
		rig_nexus_add(rig, "iqn.2026-01.test:b");
		blk_sim_hold(rig->dev[0], true);
		for (uint32_t i = 0; i < 2; i++) {
			rig->nexus_idx = i;
			rt[i] = sbc_start(rig, 0x89, 0, 3, 1, out[i], 1024);
		}
		blk_sim_hold(rig->dev[0], false);
		for (uint32_t i = 0; i < 2; i++) {
			rig_finish(rig, rt[i]);
			if (rig->task.status != SCSI_GOOD) {
				rig_assert_sense(rig, SCSI_CAUSE_MISCOMPARE);
				continue;
			}
			good++;
			assert_true(sbc_all(sbc_memory(rig) + 3 * 512, 512, i ? 'b' : 'a'));
		}
		assert_int_equal(good, 1);
		assert_null(rig->lu[0]->turn_holder);
		sbc_rig_free(rig);
		free(out[0]);
		free(out[1]);
	}
}

static void a_failed_one_gives_up_its_turn(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "fail-every=1,fail-op=write");
	uint8_t *out = caw_out(1, 0, 1);
	struct rig_task *first, *second;

	blk_sim_hold(rig->dev[0], true);
	first = sbc_start(rig, 0x89, 0, 3, 1, out, 1024);
	second = sbc_start(rig, 0x8b, 0, 3, 1, out, 512);
	blk_sim_hold(rig->dev[0], false);
	rig_finish(rig, first);
	rig_assert_sense(rig, SCSI_CAUSE_WRITE_ERROR);
	rig_finish(rig, second);
	rig_assert_sense(rig, SCSI_CAUSE_WRITE_ERROR);
	assert_null(rig->lu[0]->turn_holder);
	free(out);
	sbc_rig_free(rig);
}

static void orwrite_sets_bits(void **state)
{
	struct rig *rig = *state;
	size_t len = 2040 * 512;
	uint8_t *out = malloc(len), *m = sbc_memory(rig);

	memset(m, 0x0f, SIM_BLOCKS * 512);
	memset(out, 0x55, len);
	sbc_assert_good(rig, 0x8b, 0, 3, 2040, out, len);
	assert_int_equal(rig->task.out_bytes, len);
	assert_true(sbc_all(m, 3 * 512, 0x0f));
	assert_true(sbc_all(m + 3 * 512, len, 0x5f));
	assert_true(sbc_all(m + 2043 * 512, 5 * 512, 0x0f));
	free(out);
}

static void two_orwrites_lose_no_bit(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "delay-max-ns=200000,seed=3");
	struct rig_task *rt[8];
	uint8_t out[512];

	blk_sim_hold(rig->dev[0], true);
	for (uint32_t i = 0; i < 8; i++) {
		memset(out, 1 << i, 512);
		rt[i] = sbc_start(rig, 0x8b, 0, 1, 1, out, 512);
	}
	blk_sim_hold(rig->dev[0], false);
	for (uint32_t i = 0; i < 8; i++)
		rig_finish(rig, rt[i]);
	assert_true(sbc_all(sbc_memory(rig) + 512, 512, 0xff));
	sbc_rig_free(rig);
}

/* ---- WRITE ATOMIC: its length is in bytes 12 and 13, where the other forms have its low half ----
 */

static void write_atomic_is_one_request(void **state)
{
	struct rig *rig = *state;
	uint32_t blocks = 1000;
	uint8_t *out = malloc(blocks * 512), *m = sbc_memory(rig);

	sbc_fill(out, blocks * 512, 2);
	sbc_assert_good(rig, 0x9c, 0, 8, blocks, out, blocks * 512);
	assert_int_equal(rig->task.out_bytes, blocks * 512);
	assert_memory_equal(m + 8 * 512, out, blocks * 512);
	assert_int_equal(sbc_ops(rig, BLK_WRITE), 1);
	free(out);
}

static void write_atomic_has_a_limit_and_no_boundary(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "size=4M");
	uint32_t max = scsi_atomic_blocks_max(rig->lu[0]);
	uint8_t *out = calloc(max + 1, 512);

	sbc_assert_good(rig, 0x9c, 0, 0, max, out, max * 512);
	sbc_run(rig, 0x9c, 0, 0, max + 1, out, (max + 1) * 512);
	rig_assert_field(rig, true, 12);
	sbc_run(rig, 0x9c, 0, 0, 1 << 16 | 2, out, 1024); /* ATOMIC BOUNDARY 1 */
	rig_assert_field(rig, true, 10);
	free(out);
	sbc_rig_free(rig);
}

static void they_are_durable_where_asked_for(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "volatile-cache=on");
	uint8_t *out = caw_out(1, 0, 0);

	for (uint8_t byte1 = 0; byte1 <= SCSI_RW_FUA; byte1 += SCSI_RW_FUA) {
		struct rig_task *rt;

		blk_sim_hold(rig->dev[0], true);
		rt = sbc_start(rig, 0x9c, byte1, 0, 1, out, 512);
		assert_int_equal(rt->task.blk.flags, byte1 ? BLK_FUA : 0);
		blk_sim_hold(rig->dev[0], false);
		rig_finish(rig, rt);
		assert_int_equal(rig->task.status, SCSI_GOOD);
	}
	free(out);
	sbc_rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		sbc_test(caw_writes_what_compares_equal),
		sbc_test(caw_writes_nothing_where_one_byte_differs),
		cmocka_unit_test(caw_of_large_blocks_compares_all_steps_first),
		sbc_test(caw_refuses_data_out_of_another_length),
		cmocka_unit_test(two_caws_on_different_queues_exclude_each_other),
		cmocka_unit_test(a_failed_one_gives_up_its_turn),
		sbc_test(orwrite_sets_bits),
		cmocka_unit_test(two_orwrites_lose_no_bit),
		sbc_test(write_atomic_is_one_request),
		cmocka_unit_test(write_atomic_has_a_limit_and_no_boundary),
		cmocka_unit_test(they_are_durable_where_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
