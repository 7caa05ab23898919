#include "nvme/nvme_rig.h"

static void what_is_written_is_read(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	memset(rig_mem(&rig, RIG_DATA), 0x5a, 4096);
	rig_sqe_rw(&rig, NVME_IO_WRITE, 8, 8);
	assert_status(rig_io(&rig, 1), SUCCESS);
	memset(rig_mem(&rig, RIG_DATA), 0, 4096);
	rig_sqe_rw(&rig, NVME_IO_READ, 8, 8);
	assert_status(rig_io(&rig, 1), SUCCESS);
	assert_int_equal(*(uint8_t *)rig_mem(&rig, RIG_DATA + 4095), 0x5a);
	rig_close(&rig);
}

static void rings_wrap_and_the_phase_turns(void **state)
{
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	rig_enable(&rig);
	rig_io_queues(&rig, 1, 5);
	for (uint32_t i = 0; i < 64; i++) {
		rig_sqe_rw(&rig, NVME_IO_READ, i, 1);
		assert_status(rig_io(&rig, 1), SUCCESS);
		assert_int_equal(le16_get(rig.cqe.sqhd), (i + 1) % 5);
	}
	rig_close(&rig);
}

static void a_queue_of_two_entries_works(void **state)
{
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	rig_enable(&rig);
	rig_io_queues(&rig, 1, 2);
	for (uint32_t i = 0; i < 16; i++) {
		rig_sqe_rw(&rig, NVME_IO_READ, i, 1);
		assert_status(rig_io(&rig, 1), SUCCESS);
	}
	rig_close(&rig);
}

static void a_full_completion_queue_is_not_overrun(void **state)
{
	struct rig rig;
	uint32_t seen = 0;

	rig_open(&rig, "ram", "size=1M");
	rig_enable(&rig);
	assert_status(rig_create_cq(&rig, 1, 4, 1), SUCCESS);
	assert_status(rig_create_sq(&rig, 1, 64, 1), SUCCESS);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	for (uint32_t i = 0; i < 40; i++)
		rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	rig_settle(&rig);
	while (rig_peek(&rig, 1))
		seen++;
	assert_int_equal(seen, 3);
	assert_int_equal(le16_get(rig.cqe.sqhd), 3); /* the rest was not even fetched */
	rig_settle(&rig);
	assert_false(rig_peek(&rig, 1));
	for (; seen < 40; seen++) {
		rig_ring_cq(&rig, 1);
		rig_until(&rig, rig_peek(&rig, 1));
	}
	rig_close(&rig);
}

static void submission_queues_share_a_completion_queue(void **state)
{
	struct rig rig;
	uint32_t per_queue[4] = { 0 };

	rig_open(&rig, "sim", "size=1M");
	rig_enable(&rig);
	assert_status(rig_create_cq(&rig, 1, 16, 1), SUCCESS);
	for (uint16_t qid = 1; qid <= 3; qid++)
		assert_status(rig_create_sq(&rig, qid, 64, 1), SUCCESS);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	for (uint16_t qid = 1; qid <= 3; qid++) {
		for (uint32_t i = 0; i < 30; i++)
			rig_write_sqe(&rig, qid, &rig.sqe);
		rig_ring(&rig, qid);
	}
	for (uint32_t i = 0; i < 90; i++) {
		rig_reap(&rig, 1);
		assert_status(rig_status(&rig), SUCCESS);
		assert_in_range(le16_get(rig.cqe.sqid), 1, 3);
		per_queue[le16_get(rig.cqe.sqid)]++;
		if (i == 60) /* nobody was left behind */
			assert_true(per_queue[1] && per_queue[2] && per_queue[3]);
	}
	for (uint16_t qid = 1; qid <= 3; qid++)
		assert_int_equal(per_queue[qid], 30);
	rig_close(&rig);
}

static void unknown_opcodes_and_namespaces_are_named(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	rig_sqe(&rig, 0x7f, 1);
	assert_status(rig_io(&rig, 1), INVALID_OPCODE);
	assert_true(rig_dnr(&rig));
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1)->nsid = le32(2);
	assert_status(rig_io(&rig, 1), INVALID_NS);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1)->nsid = le32(0);
	assert_status(rig_io(&rig, 1), INVALID_NS);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1)->nsid = le32(NVME_NSID_ALL);
	assert_status(rig_io(&rig, 1), INVALID_NS);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1)->nsid = le32(NVME_NSID_MAX + 1);
	assert_status(rig_io(&rig, 1), INVALID_NS);
	rig_sqe(&rig, 0xff, 0);
	assert_status(rig_admin(&rig), INVALID_OPCODE);
	rig_close(&rig);
}

static void reserved_bits_of_the_flags_are_refused(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	for (uint32_t bit = 2; bit < 6; bit++) {
		rig_sqe_rw(&rig, NVME_IO_READ, 0, 1)->flags = (uint8_t)(1u << bit);
		assert_status(rig_io(&rig, 1), INVALID_FIELD);
	}
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1)->flags = 3 << NVME_SQE_PSDT_SHIFT;
	assert_status(rig_io(&rig, 1), INVALID_FIELD);
	rig_sqe(&rig, NVME_ADMIN_IDENTIFY, 0)->flags = 1 << NVME_SQE_PSDT_SHIFT;
	rig.sqe.cdw10 = le32(1);
	assert_status(rig_admin(&rig), INVALID_FIELD);
	rig_close(&rig);
}

static void halves_of_a_pair_alone_are_aborted(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	rig_sqe_rw(&rig, NVME_IO_COMPARE, 0, 1)->flags = NVME_SQE_FUSE_FIRST;
	assert_status(rig_io(&rig, 1), ABORTED_MISSING_FUSED);
	rig_sqe_rw(&rig, NVME_IO_WRITE, 0, 1)->flags = NVME_SQE_FUSE_SECOND;
	assert_status(rig_io(&rig, 1), ABORTED_MISSING_FUSED);
	rig_sqe_rw(&rig, NVME_IO_COMPARE, 0, 1)->flags = NVME_SQE_FUSE_MASK;
	assert_status(rig_io(&rig, 1), INVALID_FIELD);
	/* the first half, and then something else, which goes on as if alone */
	rig_sqe_rw(&rig, NVME_IO_COMPARE, 0, 1)->flags = NVME_SQE_FUSE_FIRST;
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	rig_reap(&rig, 1);
	assert_status(rig_status(&rig), ABORTED_MISSING_FUSED);
	rig_reap(&rig, 1);
	assert_status(rig_status(&rig), SUCCESS);
	/* roles that the commands do not have */
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1)->flags = NVME_SQE_FUSE_FIRST;
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_sqe_rw(&rig, NVME_IO_WRITE, 0, 1)->flags = NVME_SQE_FUSE_SECOND;
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	rig_reap(&rig, 1);
	assert_status(rig_status(&rig), INVALID_FIELD);
	rig_reap(&rig, 1);
	assert_status(rig_status(&rig), ABORTED_FAILED_FUSED);
	rig_close(&rig);
}

static void a_pair_waits_for_two_entries_of_the_completion_queue(void **state)
{
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	rig_enable(&rig);
	assert_status(rig_create_cq(&rig, 1, 3, 1), SUCCESS);
	assert_status(rig_create_sq(&rig, 1, 16, 1), SUCCESS);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_sqe_rw(&rig, NVME_IO_COMPARE, 0, 1)->flags = NVME_SQE_FUSE_FIRST;
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_sqe_rw(&rig, NVME_IO_WRITE, 0, 1)->flags = NVME_SQE_FUSE_SECOND;
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	rig_until(&rig, rig_peek(&rig, 1));
	rig_settle(&rig);
	assert_false(rig_peek(&rig, 1));
	rig_ring_cq(&rig, 1);
	rig_until(&rig, rig_peek(&rig, 1));
	rig_until(&rig, rig_peek(&rig, 1));
	assert_int_equal(le16_get(rig.cqe.sqhd), 3);
	rig_close(&rig);
}

static void event_requests_do_not_block_a_small_admin_queue(void **state)
{
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	rig_queue_init(&rig, 0, 16, 2);
	rig_reg32_set(&rig, NVME_REG_AQA, 15 | 1 << 16);
	rig_reg64_set(&rig, NVME_REG_ASQ, rig_sq_gpa(0));
	rig_reg64_set(&rig, NVME_REG_ACQ, rig_cq_gpa(0));
	rig_reg32_set(&rig, NVME_REG_CC, RIG_CC);
	for (uint32_t i = 0; i < 4; i++) {
		rig_sqe(&rig, NVME_ADMIN_AER, 0);
		rig_write_sqe(&rig, 0, &rig.sqe);
	}
	rig_ring(&rig, 0);
	rig_settle(&rig);
	rig_sqe(&rig, NVME_ADMIN_IDENTIFY, 0)->cdw10 = le32(1);
	assert_status(rig_admin(&rig), SUCCESS);
	rig_close(&rig);
}

/* One more command than a queue has slots, none of which ends. */
static void more_commands_than_slots_wait_in_the_ring(void **state)
{
	const uint32_t count = NVME_SLOTS_MAX + 10;
	struct rig rig;

	rig_open(&rig, "sim", "size=1M");
	rig_enable(&rig);
	rig_io_queues(&rig, 1, 2048);
	blk_sim_hold(rig.dev, true);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	for (uint32_t i = 0; i < count; i++)
		rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	for (uint32_t i = 0; i < 200; i++)
		rig_turn(&rig);
	blk_sim_hold(rig.dev, false);
	for (uint32_t i = 0; i < count; i++) {
		rig_reap(&rig, 1);
		assert_status(rig_status(&rig), SUCCESS);
	}
	rig_close(&rig);
}

/* ---- quiesce and memory that goes ---- */

static void a_quiesce_waits_for_commands_and_holds_new_ones(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "sim", "size=1M");
	blk_sim_hold(rig.dev, true);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	rig_settle(&rig);
	nvme_ctrl_quiesce(rig.guest.ctrl, rig_quiet);
	rig_settle(&rig);
	assert_int_equal(rig.guest.quiet, 0);
	blk_sim_hold(rig.dev, false);
	rig_until(&rig, rig.guest.quiet);
	rig_reap(&rig, 1);
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	rig_settle(&rig);
	assert_false(rig_peek(&rig, 1));
	nvme_ctrl_resume(rig.guest.ctrl);
	rig_reap(&rig, 1);
	rig_close(&rig);
}

static void event_requests_do_not_keep_a_quiesce_waiting(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	rig_sqe(&rig, NVME_ADMIN_AER, 0);
	rig_write_sqe(&rig, 0, &rig.sqe);
	rig_ring(&rig, 0);
	rig_settle(&rig);
	rig_quiesce(&rig);
	/* an event meanwhile is told of when the memory may be written again */
	nvme_event(rig.guest.ctrl, NVME_EVENT_ERROR, 3, 1);
	rig_settle(&rig);
	assert_false(rig_peek(&rig, 0));
	nvme_ctrl_resume(rig.guest.ctrl);
	rig_reap(&rig, 0);
	assert_int_equal(le32_get(rig.cqe.dw0), 0x010300);
	rig_close(&rig);
}

static void queues_go_on_when_their_memory_is_back(void **state)
{
	struct rig rig;
	struct gmem *again;

	rig_open_ready(&rig, "ram", "size=1M");
	for (uint32_t i = 0; i < 5; i++) {
		rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
		assert_status(rig_io(&rig, 1), SUCCESS);
	}
	rig_quiesce(&rig);
	nvme_ctrl_maps_set(rig.guest.ctrl, NULL, NULL);
	nvme_ctrl_resume(rig.guest.ctrl);
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	rig_settle(&rig);
	assert_false(rig_peek(&rig, 1));
	assert_int_equal(rig_reg32(&rig, NVME_REG_CSTS), NVME_CSTS_RDY);
	rig_quiesce(&rig);
	rig_guest_map(&rig.guest, &again);
	nvme_ctrl_maps_set(rig.guest.ctrl, again, again);
	gmem_unref(again);
	nvme_ctrl_resume(rig.guest.ctrl);
	rig_reap(&rig, 1);
	assert_status(rig_status(&rig), SUCCESS);
	rig_sqe(&rig, NVME_ADMIN_IDENTIFY, 0)->cdw10 = le32(1);
	assert_status(rig_admin(&rig), SUCCESS);
	rig_close(&rig);
}

static void a_quiesce_and_a_reset_at_once_both_end(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "sim", "size=1M");
	blk_sim_hold(rig.dev, true);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	rig_settle(&rig);
	nvme_ctrl_quiesce(rig.guest.ctrl, rig_quiet);
	rig_reg32_set(&rig, NVME_REG_CC, 0);
	blk_sim_hold(rig.dev, false);
	rig_until(&rig, rig.guest.quiet);
	nvme_ctrl_resume(rig.guest.ctrl);
	rig_until(&rig, !rig_reg32(&rig, NVME_REG_CSTS));
	rig_close(&rig);
}

static void a_controller_is_freed_with_commands_under_way(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "sim", "size=1M,delay-min-ns=1000000,delay-max-ns=3000000");
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	for (uint32_t i = 0; i < 40; i++)
		rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	rig_sqe(&rig, NVME_ADMIN_AER, 0);
	rig_write_sqe(&rig, 0, &rig.sqe);
	rig_ring(&rig, 0);
	rig_settle(&rig);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(rings_wrap_and_the_phase_turns),
		cmocka_unit_test(a_queue_of_two_entries_works),
		cmocka_unit_test(a_full_completion_queue_is_not_overrun),
		cmocka_unit_test(submission_queues_share_a_completion_queue),
		cmocka_unit_test(unknown_opcodes_and_namespaces_are_named),
		cmocka_unit_test(reserved_bits_of_the_flags_are_refused),
		cmocka_unit_test(halves_of_a_pair_alone_are_aborted),
		cmocka_unit_test(a_pair_waits_for_two_entries_of_the_completion_queue),
		cmocka_unit_test(event_requests_do_not_block_a_small_admin_queue),
		cmocka_unit_test(more_commands_than_slots_wait_in_the_ring),
		cmocka_unit_test(a_quiesce_waits_for_commands_and_holds_new_ones),
		cmocka_unit_test(event_requests_do_not_keep_a_quiesce_waiting),
		cmocka_unit_test(queues_go_on_when_their_memory_is_back),
		cmocka_unit_test(a_quiesce_and_a_reset_at_once_both_end),
		cmocka_unit_test(a_controller_is_freed_with_commands_under_way),
	};

	return cmocka_run_group_tests_name("nvme queue", tests, NULL, NULL);
}
