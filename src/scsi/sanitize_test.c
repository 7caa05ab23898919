/* SANITIZE. */
#include "scsi/sbc_rig.h"

#define OVERWRITE	  0x01
#define BLOCK_ERASE	  0x02
#define EXIT_FAILURE_MODE 0x1f
#define IMMED		  0x80
#define AUSE		  0x20

static struct rig_task *sanitize_start(struct rig *rig, uint8_t byte1, const void *list, size_t len)
{
	uint8_t cdb[10] = { 0x48, byte1 };

	cdb_put16(cdb + 7, (uint16_t)len);
	return sbc_start_cdb(rig, cdb, 10, list, len, 0);
}

static uint8_t sanitize(struct rig *rig, uint8_t byte1, const void *list, size_t len)
{
	rig_finish(rig, sanitize_start(rig, byte1, list, len));
	return rig->task.status;
}

static void wait_idle(struct rig *rig)
{
	while (rig->lu[0]->background_count)
		rig_turn(rig);
}

static uint8_t test_unit_ready(struct rig *rig)
{
	return rig_cdb(rig, NULL, 0, 0, 0, 0, 0, 0, 0, 0);
}

static void overwrite_repeats_its_pattern_in_each_block(void **state)
{
	struct rig *rig = *state;
	const uint8_t list[] = { 0x01, 0, 0, 3, 'x', 'y', 'z' };
	uint8_t *m = sbc_memory(rig);

	assert_int_equal(sanitize(rig, OVERWRITE, list, sizeof(list)), SCSI_GOOD);
	for (uint32_t i = 0; i < SIM_BLOCKS * 512; i++)
		assert_int_equal(m[i], "xyz"[i % 512 % 3]);
	assert_int_equal(test_unit_ready(rig), SCSI_GOOD);
	assert_int_equal(sbc_ops(rig, BLK_FLUSH), 1);
}

static void overwrite_takes_a_whole_block(void **state)
{
	struct rig *rig = *state;
	uint8_t list[4 + 512] = { 0x01, 0, 2, 0 };

	sbc_fill(list + 4, 512, 1);
	assert_int_equal(sanitize(rig, OVERWRITE, list, sizeof(list)), SCSI_GOOD);
	for (uint32_t b = 0; b < SIM_BLOCKS; b++)
		assert_memory_equal(sbc_memory(rig) + b * 512, list + 4, 512);
}

static void each_pass_is_inverted_and_durable(void **state)
{
	struct rig *rig = *state;
	const uint8_t list[] = { 0x80 | 4, 0, 0, 1, 0x0f };

	assert_int_equal(sanitize(rig, OVERWRITE, list, sizeof(list)), SCSI_GOOD);
	assert_true(sbc_all(sbc_memory(rig), SIM_BLOCKS * 512, 0xf0)); /* the fourth */
	assert_int_equal(sbc_ops(rig, BLK_WRITE), 4);
	assert_int_equal(sbc_ops(rig, BLK_FLUSH), 4);
}

static void overwrite_checks_its_list(void **state)
{
	struct rig *rig = *state;
	uint8_t list[4 + 512 + 1] = { 0x01, 0, 0, 4 };
	static const struct {
		uint8_t header[4];
		uint16_t field;
	} wrong[] = {
		{ { 0x00, 0, 0, 4 }, 0 }, { { 0x21, 0, 0, 4 }, 0 }, { { 0x41, 0, 0, 4 }, 0 },
		{ { 0x01, 1, 0, 4 }, 1 }, { { 0x01, 0, 0, 0 }, 2 }, { { 0x01, 0, 0, 5 }, 2 },
		{ { 0x01, 0, 2, 1 }, 2 },
	};

	for (size_t len = 0; len <= 4; len++) {
		sanitize(rig, OVERWRITE, list, len);
		rig_assert_field(rig, true, 7);
	}
	sanitize(rig, OVERWRITE, list, sizeof(list));
	rig_assert_field(rig, true, 7);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		memcpy(list, wrong[i].header, 4);
		sanitize(rig, OVERWRITE, list, 8);
		rig_assert_field(rig, false, wrong[i].field);
	}
	rig_finish(rig, sbc_start_cdb(rig, (uint8_t[]){ 0x48, 1, 0, 0, 0, 0, 0, 0, 8, 0 }, 10, list,
				      7, 0));
	assert_int_equal(rig->task.end, SCSI_END_OVERRUN);
	assert_int_equal(rig->lu[0]->background_count, 0);
	assert_int_equal(test_unit_ready(rig), SCSI_GOOD);
}

static void reserved_fields_are_invalid(void **state)
{
	struct rig *rig = *state;

	for (uint8_t sa = BLOCK_ERASE; sa; sa = sa == BLOCK_ERASE ? EXIT_FAILURE_MODE : 0) {
		for (uint32_t i = 2; i < 7; i++) {
			uint8_t cdb[10] = { 0x48, sa };

			cdb[i] = 0x10;
			rig_finish(rig, sbc_start_cdb(rig, cdb, 10, NULL, 0, 0));
			rig_assert_field(rig, true, i);
		}
		sanitize(rig, sa | 0x40, NULL, 0); /* ZNR: no zones */
		rig_assert_field(rig, true, 1);
		sanitize(rig, sa, "12345678", 8);
		rig_assert_field(rig, true, 7);
	}
	sanitize(rig, 0x03, NULL, 0); /* CRYPTO ERASE */
	rig_assert_field(rig, true, 1);
}

static void block_erase_leaves_nothing(void **state)
{
	struct rig *rig = *state;
	uint8_t out[512] = { 1 };
	uint64_t end;
	bool mapped;

	memset(sbc_memory(rig), 0x55, SIM_BLOCKS * 512);
	sbc_assert_good(rig, 0x8a, 0, 5, 1, out, 512);
	assert_int_equal(sanitize(rig, BLOCK_ERASE, NULL, 0), SCSI_GOOD);
	assert_true(sbc_all(sbc_memory(rig), SIM_BLOCKS * 512, 0));
	assert_int_equal(sbc_ops(rig, BLK_SECURE_ERASE), 1);
	assert_int_equal(blk_dev_map(rig->dev[0], 0, SIM_BLOCKS * 512, &end, &mapped), 0);
	assert_false(mapped);
	assert_int_equal(end, SIM_BLOCKS * 512);
}

static void an_immediate_one_goes_on_and_tells_its_progress(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "size=8M");
	const uint8_t list[] = { 0x02, 0, 0, 1, 'q' };
	uint32_t progress;

	assert_false(scsi_lu_sanitize_progress(rig->lu[0], &progress));
	blk_sim_hold(rig->dev[0], true);
	assert_int_equal(sanitize(rig, OVERWRITE | IMMED, list, sizeof(list)), SCSI_GOOD);
	assert_true(scsi_lu_sanitize_progress(rig->lu[0], &progress));
	assert_int_equal(progress, 0);
	test_unit_ready(rig);
	rig_assert_sense(rig, SCSI_CAUSE_SANITIZE_PROGRESS);
	assert_int_equal(rig->task.sense[15] & 0x80, 0x80); /* SKSV */
	sanitize(rig, BLOCK_ERASE, NULL, 0);
	rig_assert_sense(rig, SCSI_CAUSE_SANITIZE_PROGRESS);
	sanitize(rig, EXIT_FAILURE_MODE, NULL, 0);
	rig_assert_sense(rig, SCSI_CAUSE_SANITIZE_PROGRESS);
	blk_sim_hold(rig->dev[0], false);
	while (!(progress = atomic_load(&rig->lu[0]->sanitize_progress)))
		rig_turn(rig);
	assert_true(progress < 65536);
	wait_idle(rig);
	assert_false(scsi_lu_sanitize_progress(rig->lu[0], &progress));
	assert_int_equal(test_unit_ready(rig), SCSI_GOOD);
	assert_true(sbc_all(sbc_memory(rig), 8 << 20, 'q'));
	sbc_rig_free(rig);
}

static void it_waits_for_commands_under_way(void **state)
{
	struct rig *rig = *state;
	struct rig_task *write, *erase;
	uint8_t out[512];

	memset(out, 7, 512);
	blk_sim_hold(rig->dev[0], true);
	write = sbc_start(rig, 0x8a, 0, 5, 1, out, 512);
	erase = sanitize_start(rig, BLOCK_ERASE, NULL, 0);
	for (int i = 0; i < 10; i++)
		rig_turn(rig);
	assert_int_equal(sbc_ops(rig, BLK_SECURE_ERASE), 0);
	assert_false(write->done);
	blk_sim_hold(rig->dev[0], false);
	rig_finish(rig, write);
	assert_int_equal(rig->task.status, SCSI_GOOD);
	rig_finish(rig, erase);
	assert_int_equal(rig->task.status, SCSI_GOOD);
	assert_true(sbc_all(sbc_memory(rig), SIM_BLOCKS * 512, 0));
}

static void one_that_is_aborted_ends_and_the_operation_goes_on(void **state)
{
	struct rig *rig = *state;
	struct rig_task *rt;

	memset(sbc_memory(rig), 0x55, SIM_BLOCKS * 512);
	blk_sim_hold(rig->dev[0], true);
	rt = sanitize_start(rig, BLOCK_ERASE, NULL, 0);
	for (int i = 0; i < 10; i++)
		rig_turn(rig);
	rt->task.abort_end = SCSI_END_ABORTED;
	blk_sim_hold(rig->dev[0], false);
	rig_finish(rig, rt);
	assert_int_equal(rig->task.end, SCSI_END_ABORTED);
	wait_idle(rig);
	assert_true(sbc_all(sbc_memory(rig), SIM_BLOCKS * 512, 0));
	assert_int_equal(test_unit_ready(rig), SCSI_GOOD);
}

static void after_a_failure_the_unit_stays_closed(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "fail-every=1,fail-op=write");
	const uint8_t list[] = { 0x01, 0, 0, 1, 'q' };

	sanitize(rig, OVERWRITE, list, sizeof(list));
	rig_assert_sense(rig, SCSI_CAUSE_SANITIZE_FAILED);
	sbc_run(rig, 0x88, 0, 0, 0, NULL, 0);
	rig_assert_sense(rig, SCSI_CAUSE_SANITIZE_FAILED);
	/* without AUSE it cannot be left but by another one without AUSE */
	sanitize(rig, EXIT_FAILURE_MODE, NULL, 0);
	rig_assert_field(rig, true, 1);
	sanitize(rig, BLOCK_ERASE | AUSE, NULL, 0);
	rig_assert_field(rig, true, 1);
	assert_int_equal(sanitize(rig, BLOCK_ERASE, NULL, 0), SCSI_GOOD);
	assert_int_equal(test_unit_ready(rig), SCSI_GOOD);
	sbc_rig_free(rig);
}

static void a_failure_with_ause_can_be_left(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "fail-every=1,fail-op=write");
	const uint8_t list[] = { 0x01, 0, 0, 1, 'q' };

	sanitize(rig, OVERWRITE | AUSE, list, sizeof(list));
	rig_assert_sense(rig, SCSI_CAUSE_SANITIZE_FAILED);
	test_unit_ready(rig);
	rig_assert_sense(rig, SCSI_CAUSE_SANITIZE_FAILED);
	assert_int_equal(sanitize(rig, EXIT_FAILURE_MODE, NULL, 0), SCSI_GOOD);
	assert_int_equal(test_unit_ready(rig), SCSI_GOOD);
	assert_int_equal(sanitize(rig, EXIT_FAILURE_MODE, NULL, 0),
			 SCSI_GOOD); /* nothing to leave */
	sbc_rig_free(rig);
}

static void a_read_only_unit_is_not_sanitized(void **state)
{
	struct rig *rig = sbc_rig_new("sim", "read-only=on");

	sanitize(rig, BLOCK_ERASE, NULL, 0);
	assert_int_equal(rig->task.status, SCSI_CHECK_CONDITION);
	assert_int_equal(sbc_ops(rig, BLK_SECURE_ERASE), 0);
	sbc_rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		sbc_test(overwrite_repeats_its_pattern_in_each_block),
		sbc_test(overwrite_takes_a_whole_block),
		sbc_test(each_pass_is_inverted_and_durable),
		sbc_test(overwrite_checks_its_list),
		sbc_test(reserved_fields_are_invalid),
		sbc_test(block_erase_leaves_nothing),
		cmocka_unit_test(an_immediate_one_goes_on_and_tells_its_progress),
		sbc_test(it_waits_for_commands_under_way),
		sbc_test(one_that_is_aborted_ends_and_the_operation_goes_on),
		cmocka_unit_test(after_a_failure_the_unit_stays_closed),
		cmocka_unit_test(a_failure_with_ause_can_be_left),
		cmocka_unit_test(a_read_only_unit_is_not_sanitized),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
