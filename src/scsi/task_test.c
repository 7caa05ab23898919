/* Commands from start to end: look-up, gate, READ and WRITE, task management. */
#include "blk/backend/sim.h"
#include "scsi/scsi_rig.h"

static void a_write_is_read_back(void **state)
{
	struct rig *rig = *state;
	uint8_t block[1024];

	memset(block, 0x5a, sizeof(block));
	assert_int_equal(rig_cdb(rig, block, 1024, 0, 0x2a, 0, 0, 0, 0, 9, 0, 0, 2, 0), SCSI_GOOD);
	assert_int_equal(rig->task.out_bytes, 1024);
	assert_int_equal(
		rig_cdb(rig, NULL, 0, 1024, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0),
		SCSI_GOOD);
	assert_memory_equal(rig->in, block, 1024);
}

static void an_unknown_opcode_is_told(void **state)
{
	struct rig *rig = *state;

	rig_cdb(rig, NULL, 0, 0, 0x02, 0, 0, 0, 0, 0);
	rig_assert_sense(rig, SCSI_CAUSE_INVALID_OPCODE);
	rig_cdb(rig, NULL, 0, 8, 0x9e, 0x1e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0);
	rig_assert_field(rig, true, 1);
}

static void naca_is_an_invalid_field(void **state)
{
	struct rig *rig = *state;

	rig_cdb(rig, NULL, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 4);
	rig_assert_field(rig, true, 9);
}

static void a_range_beyond_the_end_names_its_lba(void **state)
{
	struct rig *rig = *state;

	rig_cdb(rig, NULL, 0, 1024, 0x28, 0, 0, 0, 7, 255, 0, 0, 2, 0);
	rig_assert_sense(rig, SCSI_CAUSE_LBA_OUT_OF_RANGE);
	assert_int_equal(cdb_u32(rig->task.sense + 3), 2047);
}

static void less_data_than_the_cdb_tells_is_an_overrun(void **state)
{
	struct rig *rig = *state;
	const uint8_t cdb[10] = { 0x2a, 0, 0, 0, 0, 0, 0, 0, 2, 0 };

	rig_finish(rig, rig_start(rig, cdb, 10, "x", 1, 0));
	assert_int_equal(rig->task.end, SCSI_END_OVERRUN);
}

static void an_unknown_target_and_unit_are_told_apart(void **state)
{
	struct rig *rig = *state;
	const uint8_t tur[6] = { 0 };

	rig->lun_number = 3;
	rig_finish(rig, rig_start(rig, tur, 6, NULL, 0, 0));
	rig_assert_sense(rig, SCSI_CAUSE_LU_NOT_SUPPORTED);
	rig->target = 7;
	rig_finish(rig, rig_start(rig, tur, 6, NULL, 0, 0));
	assert_int_equal(rig->task.end, SCSI_END_BAD_TARGET);
	rig->target = rig->lun_number = 0;
}

static void a_new_nexus_has_a_unit_attention_once(void **state)
{
	struct rig *rig = *state;

	rig->keep_ua = true;
	rig->nexus_idx = rig_nexus_add(rig, "iqn.2026-01.test:b");
	rig_cdb(rig, NULL, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	assert_int_equal(rig->task.status, SCSI_CHECK_CONDITION);
	assert_int_equal(rig->task.sense[2], 6);
	assert_int_equal(rig->task.sense[12], 0x29);
	assert_int_equal(rig_cdb(rig, NULL, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), SCSI_GOOD);
}

static void scratch_beyond_what_a_nexus_may_hold_is_task_set_full(void **state)
{
	struct rig *rig = *state;
	uint8_t block[512] = { 1 };

	atomic_store(&rig->nexus[0]->buf_bytes, SCSI_BUF_MAX_BYTES);
	rig_cdb(rig, block, 512, 0, 0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0);
	assert_int_equal(rig->task.status, SCSI_TASK_SET_FULL);
	assert_int_equal(rig_cdb(rig, NULL, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), SCSI_GOOD);
	atomic_store(&rig->nexus[0]->buf_bytes, 0);
	rig_cdb(rig, block, 512, 0, 0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0);
	assert_int_equal(rig->task.status, SCSI_GOOD);
	assert_int_equal(atomic_load(&rig->nexus[0]->buf_bytes), 0);
}

/* ---- task management ---- */

static bool tmf_ended;

static void tmf_done(struct scsi_tmf *tmf)
{
	tmf_ended = true;
}

static void tmf_begin(struct rig *rig, struct scsi_tmf *tmf, enum scsi_tmf_fn fn, uint64_t tag)
{
	*tmf = (struct scsi_tmf){ .fn = fn, .tag = tag, .done = tmf_done };
	tmf_ended = false;
	scsi_tmf_start(rig->queue[rig->nexus_idx], tmf);
	assert_false(tmf_ended);
}

static struct rig_task *held_read(struct rig *rig)
{
	const uint8_t cdb[10] = { 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0 };
	struct rig_task *rt = rig_start(rig, cdb, 10, NULL, 0, 512);

	for (int i = 0; i < 5; i++)
		rig_turn(rig);
	assert_false(rt->done);
	return rt;
}

static void abort_task_waits_for_the_back_end_and_answers_after_it(void **state)
{
	struct rig *rig = *state;
	struct rig_task *a, *b;
	struct scsi_tmf tmf;

	blk_sim_hold(rig->dev[0], true);
	a = held_read(rig);
	b = held_read(rig);
	tmf_begin(rig, &tmf, SCSI_TMF_QUERY_TASK, (uintptr_t)a);
	while (!tmf_ended)
		rig_turn(rig);
	assert_int_equal(tmf.result, SCSI_TMF_SUCCEEDED);
	tmf_begin(rig, &tmf, SCSI_TMF_ABORT_TASK, (uintptr_t)a);
	for (int i = 0; i < 5; i++)
		rig_turn(rig);
	assert_false(tmf_ended || a->done);
	blk_sim_hold(rig->dev[0], false);
	while (!tmf_ended)
		rig_turn(rig);
	assert_true(a->done);
	assert_int_equal(tmf.result, SCSI_TMF_COMPLETE);
	rig_finish(rig, a);
	assert_int_equal(rig->task.end, SCSI_END_ABORTED);
	rig_finish(rig, b);
	assert_int_equal(rig->task.end, SCSI_END_COMPLETE);
	tmf_begin(rig, &tmf, SCSI_TMF_QUERY_TASK, (uintptr_t)a);
	while (!tmf_ended)
		rig_turn(rig);
	assert_int_equal(tmf.result, SCSI_TMF_COMPLETE);
}

static void a_reset_of_the_unit_ends_the_tasks_of_all_nexuses(void **state)
{
	struct rig *rig = *state;
	struct rig_task *a, *b;
	struct scsi_tmf tmf;

	rig_nexus_add(rig, "iqn.2026-01.test:b");
	blk_sim_hold(rig->dev[0], true);
	a = held_read(rig);
	rig->nexus_idx = 1;
	b = held_read(rig);
	tmf_begin(rig, &tmf, SCSI_TMF_LOGICAL_UNIT_RESET, 0);
	rig_turn(rig);
	blk_sim_hold(rig->dev[0], false);
	while (!tmf_ended)
		rig_turn(rig);
	rig_finish(rig, a);
	assert_int_equal(rig->task.end, SCSI_END_RESET);
	rig_finish(rig, b);
	assert_int_equal(rig->task.end, SCSI_END_RESET);
	rig_cdb(rig, NULL, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	assert_int_equal(rig->task.sense[12], 0x29);
	assert_int_equal(rig->task.sense[13], 0x03);
}

/* ---- limits of the host ---- */

static struct blk_limits *limits;

static int setup_limited(void **state)
{
	const struct blk_qos_limits one = { .rate[BLK_QOS_R_IOPS] = 1 };
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig_init(rig);
	limits = blk_limits_new("host");
	assert_int_equal(blk_limits_set(limits, &one, NULL), 0);
	scsi_host_limits_set(rig->host, limits);
	blk_limits_unref(limits); /* the host has it */
	rig_lu_add(rig, "sim", "size=1M");
	rig_nexus_add(rig, "iqn.2026-01.test:a");
	*state = rig;
	return 0;
}

static void abort_task_does_not_wait_for_limits(void **state)
{
	struct rig *rig = *state;
	struct rig_task *a, *b;
	struct scsi_tmf tmf;

	rig_cdb(rig, NULL, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	a = held_read(rig);
	b = held_read(rig);
	assert_int_equal(blk_limits_waiting(limits), 2);
	tmf_begin(rig, &tmf, SCSI_TMF_ABORT_TASK, (uintptr_t)b);
	while (!tmf_ended)
		rig_turn(rig);
	assert_false(a->done);
	rig_finish(rig, b);
	assert_int_equal(rig->task.end, SCSI_END_ABORTED);
	tmf_begin(rig, &tmf, SCSI_TMF_LOGICAL_UNIT_RESET, 0);
	while (!tmf_ended)
		rig_turn(rig);
	rig_finish(rig, a);
	assert_int_equal(rig->task.end, SCSI_END_RESET);
	assert_int_equal(blk_limits_waiting(limits), 0);
}

static void limits_that_go_let_tasks_go_and_a_queue_that_stops_does_too(void **state)
{
	const struct blk_qos_limits none = { 0 }, one = { .rate[BLK_QOS_R_IOPS] = 1 };
	struct rig *rig = *state;
	struct rig_task *a;

	rig_cdb(rig, NULL, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	a = held_read(rig);
	assert_int_equal(blk_limits_set(limits, &none, NULL), 0);
	rig_finish(rig, a);
	assert_int_equal(rig->task.status, SCSI_GOOD);
	assert_int_equal(rig_cdb(rig, NULL, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), SCSI_GOOD);
	assert_int_equal(blk_limits_set(limits, &one, NULL), 0);
	rig_turn(rig);
	rig_cdb(rig, NULL, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	a = held_read(rig);
	scsi_queue_hurry(rig->queue[0]);
	rig_finish(rig, a);
	assert_int_equal(rig->task.status, SCSI_GOOD);
}

/* ---- hot plug ---- */

static bool detached;

static void on_detached(void *arg)
{
	detached = true;
}

static void a_removed_unit_ends_its_commands_first(void **state)
{
	struct rig *rig = *state;
	struct rig_task *a;
	struct err err;
	uint8_t tur[6] = { 0 };

	blk_sim_hold(rig->dev[0], true);
	a = held_read(rig);
	detached = false;
	assert_int_equal(scsi_host_detach(rig->host, 0, 0, on_detached, NULL, &err), 0);
	rig_turn(rig);
	rig_turn(rig);
	assert_false(detached);
	assert_int_equal(rig->last_event.type, SCSI_EVENT_LUN_REMOVED);
	rig_finish(rig, rig_start(rig, tur, 6, NULL, 0, 0));
	assert_int_equal(rig->task.end, SCSI_END_BAD_TARGET);
	blk_sim_hold(rig->dev[0], false);
	rig_finish(rig, a);
	assert_int_equal(rig->task.status, SCSI_GOOD);
	while (!detached)
		rig_turn(rig);
	assert_int_equal(scsi_host_attach(rig->host, 0, 0, rig->lu[0], &err), 0);
	assert_int_equal(rig->last_event.type, SCSI_EVENT_LUN_ADDED);
	rig_ua_clear_all(rig);
	assert_int_equal(rig_cdb(rig, NULL, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), SCSI_GOOD);
}

static int setup(void **state)
{
	return rig_setup(state, "sim", "size=1M");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_write_is_read_back),
		TEST(an_unknown_opcode_is_told),
		TEST(naca_is_an_invalid_field),
		TEST(a_range_beyond_the_end_names_its_lba),
		TEST(less_data_than_the_cdb_tells_is_an_overrun),
		TEST(an_unknown_target_and_unit_are_told_apart),
		TEST(a_new_nexus_has_a_unit_attention_once),
		TEST(scratch_beyond_what_a_nexus_may_hold_is_task_set_full),
		TEST(abort_task_waits_for_the_back_end_and_answers_after_it),
		TEST(a_reset_of_the_unit_ends_the_tasks_of_all_nexuses),
		TEST(a_removed_unit_ends_its_commands_first),
		cmocka_unit_test_setup_teardown(abort_task_does_not_wait_for_limits, setup_limited,
						rig_teardown),
		cmocka_unit_test_setup_teardown(
			limits_that_go_let_tasks_go_and_a_queue_that_stops_does_too, setup_limited,
			rig_teardown),
	};

	return cmocka_run_group_tests_name("scsi task", tests, NULL, NULL);
}
