/* Reservations: who may do what, what each service action does, and who is told. */
#include "blk/backend/sim.h"
#include "scsi/resv_rig.h"

static struct rig r;

static const uint8_t types[] = {
	RESV_WE, RESV_EA, RESV_WE_RO, RESV_EA_RO, RESV_WE_AR, RESV_EA_AR,
};

static bool type_exclusive(uint8_t type)
{
	return type == RESV_EA || type == RESV_EA_RO || type == RESV_EA_AR;
}

/* ---- who may do what ---- */

static void each_type_stops_what_it_says(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		uint8_t type = types[i];
		bool shared = type >= RESV_WE_RO, exclusive = type_exclusive(type);

		GOOD(pr_out(&r, 0, RESV_SA_RESERVE, type, KEY_A, 0));
		/* holder, registrant, nobody */
		GOOD(do_read(&r, 0));
		GOOD(do_write(&r, 0));
		assert_int_equal(do_read(&r, 1),
				 exclusive && !shared ? SCSI_RESERVATION_CONFLICT : SCSI_GOOD);
		assert_int_equal(do_write(&r, 1), shared ? SCSI_GOOD : SCSI_RESERVATION_CONFLICT);
		assert_int_equal(do_read(&r, 2), exclusive ? SCSI_RESERVATION_CONFLICT : SCSI_GOOD);
		CONFLICT(do_write(&r, 2));
		GOOD(do_tur(&r, 2));
		GOOD(pr_in(&r, 2, 0, 256));
		GOOD(pr_out(&r, 0, RESV_SA_RELEASE, type, KEY_A, 0));
		GOOD(do_write(&r, 2));
		rig_ua_clear_all(&r);
	}
	rig_close(&r);
}

static void reports_of_commands_conflict_with_exclusive_access(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_EA, KEY_A, 0));
	r.nexus_idx = 1;
	CONFLICT(rig_cdb(&r, NULL, 0, 64, 0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0));
	CONFLICT(rig_cdb(&r, NULL, 0, 4, 0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0));
	GOOD(rig_cdb(&r, NULL, 0, 36, 0x12, 0, 0, 0, 36, 0));
	rig_close(&r);
}

static void to_start_and_to_allow_removal_is_not_stopped(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	r.nexus_idx = 1;
	GOOD(rig_cdb(&r, NULL, 0, 0, 0x1b, 0, 0, 0, 0x01, 0));
	CONFLICT(rig_cdb(&r, NULL, 0, 0, 0x1b, 0, 0, 0, 0x00, 0));
	CONFLICT(rig_cdb(&r, NULL, 0, 0, 0x1b, 0, 0, 0, 0x11, 0));
	GOOD(rig_cdb(&r, NULL, 0, 0, 0x1e, 0, 0, 0, 0, 0));
	CONFLICT(rig_cdb(&r, NULL, 0, 0, 0x1e, 0, 0, 0, 1, 0));
	rig_close(&r);
}

static void a_nexus_that_comes_later_is_stopped_too(void **state)
{
	rig_open(&r, "ram", "size=1M");
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	rig_nexus_add(&r, NAME_B);
	CONFLICT(do_write(&r, 1));
	rig_close(&r);
}

static void registration_and_reservation_outlive_the_connection(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_EA, KEY_A, 0));
	rig_reconnect(&r, 0, NAME_A);
	CONFLICT(do_read(&r, 1));
	GOOD(do_write(&r, 0));
	GOOD(pr_out(&r, 0, RESV_SA_RELEASE, RESV_EA, KEY_A, 0));
	GOOD(do_read(&r, 1));
	rig_close(&r);
}

static void a_reset_of_the_unit_keeps_them(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	pthread_mutex_lock(&r.lu[0]->lock);
	scsi_lu_reset(r.lu[0], NULL);
	pthread_mutex_unlock(&r.lu[0]->lock);
	rig_ua_clear_all(&r);
	CONFLICT(do_write(&r, 1));
	assert_reserved(&r, RESV_WE, KEY_A);
	rig_close(&r);
}

/* ---- PERSISTENT RESERVE IN ---- */

static void read_keys_is_cut_but_tells_the_whole_length(void **state)
{
	rig_open3(&r);
	KEYS(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	KEYS(&r, KEY_A, KEY_B);
	GOOD(pr_in(&r, 0, 0, 8));
	assert_int_equal(r.task.in_bytes, 8);
	assert_int_equal(cdb_u32(r.in + 4), 16);
	GOOD(pr_in(&r, 0, 0, 0));
	assert_int_equal(r.task.in_bytes, 0);
	rig_close(&r);
}

static void the_key_of_all_registrants_is_zero(void **state)
{
	rig_open3(&r);
	assert_reserved(&r, 0, 0);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE_AR, KEY_A, 0));
	assert_reserved(&r, RESV_WE_AR, 0);
	rig_close(&r);
}

static void capabilities_name_all_types(void **state)
{
	rig_open3(&r);
	GOOD(pr_in(&r, 0, 2, 256));
	assert_int_equal(r.task.in_bytes, 8);
	assert_memory_equal(r.in, "\x00\x08\x1c\xb0\xea\x01\x00\x00", 8);
	rig_close(&r);
}

static void full_status_has_names_and_the_holder(void **state)
{
	static const uint8_t id[24] = "\x05\0\0\x14iqn.2026-01.test:";
	const size_t at = 8, len = 24 + 24;

	rig_open3(&r);
	GOOD(pr_in(&r, 0, 3, 512));
	assert_int_equal(r.task.in_bytes, 8);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	GOOD(pr_out(&r, 1, RESV_SA_RESERVE, RESV_EA_RO, KEY_B, 0));
	GOOD(pr_in(&r, 2, 3, 512));
	assert_int_equal(cdb_u32(r.in), 2);
	assert_int_equal(cdb_u32(r.in + 4), 2 * len);
	assert_true(cdb_u64(r.in + at) == KEY_A);
	assert_int_equal(r.in[at + 12], 0);
	assert_int_equal(r.in[at + 13], 0);
	assert_int_equal(cdb_u16(r.in + at + 18), 1);
	assert_int_equal(cdb_u32(r.in + at + 20), 24);
	assert_memory_equal(r.in + at + 24, id, 4 + 17);
	assert_int_equal(r.in[at + 24 + 4 + 17], 'a');
	assert_true(cdb_u64(r.in + at + len) == KEY_B);
	assert_int_equal(r.in[at + len + 12], 1);
	assert_int_equal(r.in[at + len + 13], RESV_EA_RO);
	rig_close(&r);
}

/* ---- REGISTER ---- */

static void register_changes_and_removes_the_key(void **state)
{
	rig_open3(&r);
	CONFLICT(pr_out(&r, 0, RESV_SA_REGISTER, 0, KEY_A, KEY_A));
	GOOD(pr_out(&r, 0, RESV_SA_REGISTER, 0, 0, 0)); /* nothing */
	assert_int_equal(pr_generation(&r), 0);
	GOOD(pr_register(&r, 0, KEY_A));
	assert_int_equal(pr_generation(&r), 1);
	CONFLICT(pr_register(&r, 0, KEY_B));
	GOOD(pr_out(&r, 0, RESV_SA_REGISTER, 0, KEY_A, KEY_B));
	KEYS(&r, KEY_B);
	GOOD(pr_out(&r, 0, RESV_SA_REGISTER, 0, KEY_B, 0));
	KEYS(&r);
	assert_int_equal(pr_generation(&r), 3);
	rig_close(&r);
}

static void register_and_ignore_needs_no_key(void **state)
{
	rig_open3(&r);
	GOOD(pr_out(&r, 0, RESV_SA_REGISTER_IGNORE, 0, 0x1234, KEY_A));
	GOOD(pr_out(&r, 0, RESV_SA_REGISTER_IGNORE, 0, 0x1234, KEY_B));
	KEYS(&r, KEY_B);
	GOOD(pr_out(&r, 0, RESV_SA_REGISTER_IGNORE, 0, 0, 0));
	KEYS(&r);
	assert_int_equal(pr_generation(&r), 3);
	GOOD(pr_out(&r, 0, RESV_SA_REGISTER_IGNORE, 0, 0, 0));
	assert_int_equal(pr_generation(&r), 3);
	rig_close(&r);
}

static void the_holder_that_unregisters_gives_up_its_reservation(void **state)
{
	for (size_t i = 0; i < 4; i++) { /* not those of all registrants */
		rig_open3(&r);
		GOOD(pr_register(&r, 0, KEY_A));
		GOOD(pr_register(&r, 1, KEY_B));
		GOOD(pr_out(&r, 0, RESV_SA_RESERVE, types[i], KEY_A, 0));
		GOOD(pr_out(&r, 0, RESV_SA_REGISTER, 0, KEY_A, 0));
		GOOD(do_tur(&r, 0));
		if (types[i] >= RESV_WE_RO)
			assert_ua(&r, 1, SCSI_UA_RESV_RELEASED);
		GOOD(do_tur(&r, 1));
		assert_reserved(&r, 0, 0);
		GOOD(do_write(&r, 2));
		rig_close(&r);
	}
}

static void all_registrants_hold_it_to_the_last(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_EA_AR, KEY_A, 0));
	GOOD(pr_out(&r, 1, RESV_SA_RESERVE, RESV_EA_AR, KEY_B, 0));
	CONFLICT(pr_out(&r, 1, RESV_SA_RESERVE, RESV_WE_AR, KEY_B, 0));
	GOOD(pr_out(&r, 0, RESV_SA_REGISTER, 0, KEY_A, 0));
	GOOD(do_tur(&r, 1));
	assert_reserved(&r, RESV_EA_AR, 0);
	CONFLICT(do_read(&r, 0));
	GOOD(pr_register(&r, 2, KEY_C)); /* a new one holds it as well */
	GOOD(do_write(&r, 2));
	GOOD(pr_in(&r, 2, 3, 512));
	assert_int_equal(r.in[8 + 12], 1);
	assert_int_equal(r.in[8 + 48 + 12], 1);
	GOOD(pr_out(&r, 2, RESV_SA_REGISTER, 0, KEY_C, 0));
	GOOD(pr_out(&r, 1, RESV_SA_REGISTER, 0, KEY_B, 0));
	assert_reserved(&r, 0, 0);
	GOOD(do_write(&r, 0));
	rig_close(&r);
}

static void the_table_of_registrations_ends(void **state)
{
	char name[32];

	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	pthread_mutex_lock(&r.lu[0]->lock);
	for (uint32_t i = 1; i < RESV_REGISTRATIONS_MAX; i++) {
		snprintf(name, sizeof(name), "iqn.2026-01.more:%u", i);
		assert_non_null(resv_add(r.lu[0], name, "host", i));
	}
	pthread_mutex_unlock(&r.lu[0]->lock);
	pr_register(&r, 1, KEY_B);
	rig_assert_sense(&r, SCSI_CAUSE_REGISTRATION_RESOURCES);
	GOOD(pr_in(&r, 1, 3, 65535));
	assert_int_equal(r.task.in_bytes, 8 + cdb_u32(r.in + 4));
	assert_true(r.task.in_bytes > 1024 * 48);
	GOOD(pr_out(&r, 0, RESV_SA_REGISTER, 0, KEY_A, 0));
	GOOD(pr_register(&r, 1, KEY_B));
	rig_close(&r);
}

/* ---- RESERVE, RELEASE, CLEAR ---- */

static void reserve_needs_the_right_key_and_no_other_holder(void **state)
{
	rig_open3(&r);
	CONFLICT(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	CONFLICT(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, 0, 0));
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	CONFLICT(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_B, 0));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	CONFLICT(pr_out(&r, 0, RESV_SA_RESERVE, RESV_EA, KEY_A, 0));
	CONFLICT(pr_out(&r, 1, RESV_SA_RESERVE, RESV_WE, KEY_B, 0));
	assert_int_equal(pr_generation(&r), 2);
	rig_close(&r);
}

static void release_is_for_the_holder(void **state)
{
	rig_open3(&r);
	CONFLICT(pr_out(&r, 0, RESV_SA_RELEASE, RESV_WE, KEY_A, 0));
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	GOOD(pr_out(&r, 0, RESV_SA_RELEASE, RESV_WE, KEY_A, 0));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	GOOD(pr_out(&r, 1, RESV_SA_RELEASE, RESV_WE, KEY_B, 0));
	assert_reserved(&r, RESV_WE, KEY_A);
	pr_out(&r, 0, RESV_SA_RELEASE, RESV_EA, KEY_A, 0);
	rig_assert_sense(&r, SCSI_CAUSE_INVALID_RELEASE);
	GOOD(pr_out(&r, 0, RESV_SA_RELEASE, RESV_WE, KEY_A, 0));
	assert_reserved(&r, 0, 0);
	GOOD(do_tur(&r, 1));
	rig_close(&r);
}

static void release_of_a_shared_one_is_told_to_registrants(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	for (size_t i = 2; i < ARRAY_SIZE(types); i++) {
		GOOD(pr_out(&r, 0, RESV_SA_RESERVE, types[i], KEY_A, 0));
		GOOD(pr_out(&r, 0, RESV_SA_RELEASE, types[i], KEY_A, 0));
		GOOD(do_tur(&r, 0));
		assert_ua(&r, 1, SCSI_UA_RESV_RELEASED);
		GOOD(do_tur(&r, 2));
	}
	rig_close(&r);
}

static void clear_removes_all_and_tells_the_others(void **state)
{
	rig_open3(&r);
	CONFLICT(pr_out(&r, 0, RESV_SA_CLEAR, 0, KEY_A, 0));
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	GOOD(pr_out(&r, 1, RESV_SA_RESERVE, RESV_EA, KEY_B, 0));
	GOOD(pr_out(&r, 0, RESV_SA_CLEAR, 0, KEY_A, 0));
	GOOD(do_tur(&r, 0));
	assert_ua(&r, 1, SCSI_UA_RESV_PREEMPTED);
	GOOD(do_tur(&r, 2));
	KEYS(&r);
	assert_reserved(&r, 0, 0);
	assert_int_equal(pr_generation(&r), 3);
	GOOD(do_write(&r, 2));
	rig_close(&r);
}

/* ---- PREEMPT ---- */

static void preempt_takes_the_reservation_over(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	GOOD(pr_register(&r, 2, KEY_C));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	GOOD(pr_out(&r, 1, RESV_SA_PREEMPT, RESV_EA, KEY_B, KEY_A));
	GOOD(do_tur(&r, 1));
	assert_ua(&r, 0, SCSI_UA_REGISTRATIONS_PREEMPTED);
	assert_ua(&r, 2, SCSI_UA_RESV_RELEASED); /* the type changed */
	KEYS(&r, KEY_B, KEY_C);
	assert_reserved(&r, RESV_EA, KEY_B);
	assert_int_equal(pr_generation(&r), 4);
	CONFLICT(do_read(&r, 0));
	GOOD(do_write(&r, 1));
	rig_close(&r);
}

static void preempt_with_the_same_type_is_not_told_to_others(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	GOOD(pr_register(&r, 2, KEY_C));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE_RO, KEY_A, 0));
	GOOD(pr_out(&r, 1, RESV_SA_PREEMPT, RESV_WE_RO, KEY_B, KEY_A));
	GOOD(do_tur(&r, 2));
	assert_ua(&r, 0, SCSI_UA_REGISTRATIONS_PREEMPTED);
	rig_close(&r);
}

static void the_holder_preempts_itself_to_change_the_type(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	GOOD(pr_out(&r, 0, RESV_SA_PREEMPT, RESV_EA_RO, KEY_A, KEY_A));
	KEYS(&r, KEY_A, KEY_B);
	assert_reserved(&r, RESV_EA_RO, KEY_A);
	assert_ua(&r, 1, SCSI_UA_RESV_RELEASED);
	rig_close(&r);
}

static void preempt_of_a_registration_leaves_the_reservation(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	GOOD(pr_register(&r, 2, KEY_C));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE_RO, KEY_A, 0));
	/* the type does not matter then */
	GOOD(pr_out(&r, 1, RESV_SA_PREEMPT, 0, KEY_B, KEY_C));
	assert_ua(&r, 2, SCSI_UA_REGISTRATIONS_PREEMPTED);
	GOOD(do_tur(&r, 0));
	assert_reserved(&r, RESV_WE_RO, KEY_A);
	KEYS(&r, KEY_A, KEY_B);
	CONFLICT(do_write(&r, 2));
	CONFLICT(pr_out(&r, 1, RESV_SA_PREEMPT, RESV_WE_RO, KEY_B, KEY_C));
	rig_close(&r);
}

static void preempt_without_a_reservation_removes_registrations(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	GOOD(pr_out(&r, 1, RESV_SA_PREEMPT, RESV_EA, KEY_B, KEY_A));
	assert_ua(&r, 0, SCSI_UA_REGISTRATIONS_PREEMPTED);
	GOOD(do_tur(&r, 1));
	KEYS(&r, KEY_B);
	assert_reserved(&r, 0, 0);
	assert_int_equal(pr_generation(&r), 3);
	GOOD(pr_out(&r, 1, RESV_SA_PREEMPT, RESV_EA, KEY_B, KEY_B)); /* its own as well */
	KEYS(&r);
	rig_close(&r);
}

static void all_registrants_are_preempted_by_key_zero(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	GOOD(pr_register(&r, 2, KEY_C));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE_AR, KEY_A, 0));
	GOOD(pr_out(&r, 1, RESV_SA_PREEMPT, RESV_WE_AR, KEY_B, KEY_A));
	assert_ua(&r, 0, SCSI_UA_REGISTRATIONS_PREEMPTED);
	assert_reserved(&r, RESV_WE_AR, 0);
	GOOD(pr_out(&r, 1, RESV_SA_PREEMPT, RESV_EA, KEY_B, 0));
	assert_ua(&r, 2, SCSI_UA_REGISTRATIONS_PREEMPTED);
	r.nexus_idx = 1;
	assert_reserved(&r, RESV_EA, KEY_B);
	KEYS(&r, KEY_B);
	rig_close(&r);
}

static void several_nexuses_with_one_key_are_preempted_together(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_A));
	GOOD(pr_register(&r, 2, KEY_C));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	GOOD(pr_out(&r, 2, RESV_SA_PREEMPT, RESV_WE, KEY_C, KEY_A));
	assert_ua(&r, 0, SCSI_UA_REGISTRATIONS_PREEMPTED);
	assert_ua(&r, 1, SCSI_UA_REGISTRATIONS_PREEMPTED);
	KEYS(&r, KEY_C);
	rig_close(&r);
}

/* ---- PREEMPT AND ABORT ---- */

static struct rig_task *write_start(uint32_t nexus)
{
	static const uint8_t cdb[10] = { 0x2a, [8] = 1 }, block[512];

	r.nexus_idx = nexus;
	return rig_start(&r, cdb, sizeof(cdb), block, sizeof(block), 0);
}

static void preempt_and_abort_ends_the_tasks_of_the_preempted(void **state)
{
	struct rig_task *lost, *kept, *out;
	uint8_t list[24];

	rig_open(&r, "sim", "size=1M");
	rig_nexus_add(&r, NAME_B);
	rig_nexus_add(&r, NAME_C);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	GOOD(pr_register(&r, 2, KEY_C));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE_RO, KEY_A, 0));
	blk_sim_hold(r.dev[0], true);
	lost = write_start(0);
	kept = write_start(2);
	pr_list(list, KEY_B, KEY_A, 0);
	out = pr_out_start(&r, 1, RESV_SA_PREEMPT_ABORT, RESV_WE_RO, list, sizeof(list));
	for (int i = 0; i < 5; i++)
		rig_turn(&r);
	assert_false(out->done); /* its memory is still in use */
	CONFLICT(do_write(&r, 0));
	blk_sim_hold(r.dev[0], false);
	rig_finish(&r, lost);
	assert_int_equal(r.task.end, SCSI_END_ABORTED);
	rig_finish(&r, kept);
	assert_int_equal(r.task.end, SCSI_END_COMPLETE);
	assert_int_equal(r.task.status, SCSI_GOOD);
	rig_finish(&r, out);
	GOOD(r.task.status);
	assert_ua(&r, 0, SCSI_UA_REGISTRATIONS_PREEMPTED);
	r.nexus_idx = 1;
	assert_reserved(&r, RESV_WE_RO, KEY_B);
	KEYS(&r, KEY_B, KEY_C);
	rig_close(&r);
}

static void aborted_tasks_of_others_say_so_with_tas(void **state)
{
	struct rig_task *lost, *out;
	uint8_t list[24];

	rig_open(&r, "sim", "size=1M");
	rig_nexus_add(&r, NAME_B);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	atomic_store(&r.lu[0]->mode.tas, true);
	blk_sim_hold(r.dev[0], true);
	lost = write_start(0);
	pr_list(list, KEY_B, KEY_A, 0);
	out = pr_out_start(&r, 1, RESV_SA_PREEMPT_ABORT, 0, list, sizeof(list));
	for (int i = 0; i < 3; i++)
		rig_turn(&r);
	blk_sim_hold(r.dev[0], false);
	rig_finish(&r, lost);
	assert_int_equal(r.task.end, SCSI_END_COMPLETE);
	assert_int_equal(r.task.status, SCSI_TASK_ABORTED);
	rig_finish(&r, out);
	GOOD(r.task.status);
	rig_close(&r);
}

static void two_that_preempt_and_abort_do_not_wait_for_each_other(void **state)
{
	struct rig_task *held, *first, *again, *second;
	uint8_t list[24];

	rig_open(&r, "sim", "size=1M");
	rig_nexus_add(&r, NAME_B);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	blk_sim_hold(r.dev[0], true);
	held = write_start(0);
	pr_list(list, KEY_B, KEY_A, 0);
	first = pr_out_start(&r, 1, RESV_SA_PREEMPT_ABORT, 0, list, sizeof(list));
	/* before the first one's aborts have begun on the loop */
	rig_ua_clear_all(&r);
	pr_list(list, 0, KEY_A, 0);
	again = pr_out_start(&r, 0, RESV_SA_REGISTER, 0, list, sizeof(list));
	pr_list(list, KEY_A, KEY_B, 0);
	second = pr_out_start(&r, 0, RESV_SA_PREEMPT_ABORT, 0, list, sizeof(list));
	for (int i = 0; i < 3; i++)
		rig_turn(&r);
	blk_sim_hold(r.dev[0], false);
	rig_finish(&r, again);
	GOOD(r.task.status);
	rig_finish(&r, second);
	GOOD(r.task.status);
	rig_finish(&r, held);
	rig_finish(&r, first);
	assert_int_equal(r.task.end, SCSI_END_COMPLETE);
	GOOD(r.task.status);
	rig_close(&r);
}

/* ---- RESERVE(6), RELEASE(6) and their 10-byte forms ---- */

static uint8_t legacy(uint32_t nexus, uint8_t opcode, uint8_t byte1)
{
	r.nexus_idx = nexus;
	if (opcode < 0x20)
		return rig_cdb(&r, NULL, 0, 0, opcode, byte1, 0, 0, 0, 0);
	return rig_cdb(&r, NULL, 0, 0, opcode, byte1, 0, 0, 0, 0, 0, 0, 0, 0);
}

static void reserve_6_and_10_exclude_the_others(void **state)
{
	static const uint8_t forms[][2] = { { 0x16, 0x17 }, { 0x56, 0x57 } };

	rig_open3(&r);
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		GOOD(legacy(0, forms[i][0], 0));
		GOOD(legacy(0, forms[i][0], 0));
		CONFLICT(legacy(1, forms[i][0], 0));
		GOOD(legacy(1, forms[i][1], 0)); /* no error, does nothing */
		CONFLICT(do_read(&r, 1));
		CONFLICT(do_write(&r, 1));
		CONFLICT(do_tur(&r, 1));
		CONFLICT(rig_cdb(&r, NULL, 0, 192, 0x1a, 0, 0x3f, 0, 192, 0));
		GOOD(rig_cdb(&r, NULL, 0, 36, 0x12, 0, 0, 0, 36, 0));
		GOOD(rig_cdb(&r, NULL, 0, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0));
		GOOD(do_write(&r, 0));
		GOOD(do_tur(&r, 0));
		GOOD(legacy(0, forms[i][1], 0));
		GOOD(do_write(&r, 1));
		GOOD(do_tur(&r, 1));
	}
	rig_close(&r);
}

static void reserve_ends_with_a_reset_and_with_the_connection(void **state)
{
	rig_open3(&r);
	GOOD(legacy(0, 0x16, 0));
	pthread_mutex_lock(&r.lu[0]->lock);
	scsi_lu_reset(r.lu[0], NULL);
	pthread_mutex_unlock(&r.lu[0]->lock);
	rig_ua_clear_all(&r);
	GOOD(legacy(1, 0x16, 0));
	CONFLICT(do_tur(&r, 0));
	rig_reconnect(&r, 1, NAME_B);
	GOOD(do_tur(&r, 0));
	GOOD(legacy(0, 0x16, 0));
	rig_close(&r);
}

static void reserve_and_persistent_reservations_exclude_each_other(void **state)
{
	rig_open3(&r);
	GOOD(legacy(0, 0x16, 0));
	CONFLICT(pr_in(&r, 0, 0, 64));
	CONFLICT(pr_in(&r, 1, 0, 64));
	CONFLICT(pr_register(&r, 0, KEY_A));
	CONFLICT(pr_register(&r, 1, KEY_B));
	GOOD(legacy(0, 0x17, 0));
	GOOD(pr_register(&r, 0, KEY_A));
	CONFLICT(legacy(0, 0x16, 0));
	CONFLICT(legacy(1, 0x16, 0));
	CONFLICT(legacy(1, 0x17, 0));
	rig_close(&r);
}

static void reserve_of_who_passes_the_reservation_is_good_and_does_nothing(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	GOOD(legacy(0, 0x16, 0));
	GOOD(legacy(0, 0x17, 0));
	CONFLICT(legacy(1, 0x16, 0));
	assert_null(r.lu[0]->resv.legacy_holder);
	assert_reserved(&r, RESV_WE, KEY_A);
	GOOD(pr_out(&r, 0, RESV_SA_PREEMPT, RESV_EA_RO, KEY_A, KEY_A));
	rig_ua_clear_all(&r);
	GOOD(legacy(1, 0x16, 0));
	GOOD(legacy(1, 0x17, 0));
	CONFLICT(legacy(2, 0x16, 0));
	CONFLICT(legacy(2, 0x17, 0));
	rig_close(&r);
}

static void third_parties_and_extents_are_invalid_fields(void **state)
{
	static const struct {
		uint8_t opcode, byte1, bit;
	} cases[] = {
		{ 0x16, 0x10, 4 }, { 0x16, 0x01, 0 }, { 0x17, 0x10, 4 }, { 0x56, 0x10, 4 },
		{ 0x56, 0x02, 1 }, { 0x56, 0x01, 0 }, { 0x57, 0x10, 4 }, { 0x57, 0x02, 1 },
	};

	rig_open3(&r);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		legacy(0, cases[i].opcode, cases[i].byte1);
		rig_assert_field(&r, true, 1);
		assert_int_equal(r.task.sense[15] & 0xf, 8 | cases[i].bit);
	}
	assert_null(r.lu[0]->resv.legacy_holder);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_type_stops_what_it_says),
		cmocka_unit_test(reports_of_commands_conflict_with_exclusive_access),
		cmocka_unit_test(to_start_and_to_allow_removal_is_not_stopped),
		cmocka_unit_test(a_nexus_that_comes_later_is_stopped_too),
		cmocka_unit_test(registration_and_reservation_outlive_the_connection),
		cmocka_unit_test(a_reset_of_the_unit_keeps_them),
		cmocka_unit_test(read_keys_is_cut_but_tells_the_whole_length),
		cmocka_unit_test(the_key_of_all_registrants_is_zero),
		cmocka_unit_test(capabilities_name_all_types),
		cmocka_unit_test(full_status_has_names_and_the_holder),
		cmocka_unit_test(register_changes_and_removes_the_key),
		cmocka_unit_test(register_and_ignore_needs_no_key),
		cmocka_unit_test(the_holder_that_unregisters_gives_up_its_reservation),
		cmocka_unit_test(all_registrants_hold_it_to_the_last),
		cmocka_unit_test(the_table_of_registrations_ends),
		cmocka_unit_test(reserve_needs_the_right_key_and_no_other_holder),
		cmocka_unit_test(release_is_for_the_holder),
		cmocka_unit_test(release_of_a_shared_one_is_told_to_registrants),
		cmocka_unit_test(clear_removes_all_and_tells_the_others),
		cmocka_unit_test(preempt_takes_the_reservation_over),
		cmocka_unit_test(preempt_with_the_same_type_is_not_told_to_others),
		cmocka_unit_test(the_holder_preempts_itself_to_change_the_type),
		cmocka_unit_test(preempt_of_a_registration_leaves_the_reservation),
		cmocka_unit_test(preempt_without_a_reservation_removes_registrations),
		cmocka_unit_test(all_registrants_are_preempted_by_key_zero),
		cmocka_unit_test(several_nexuses_with_one_key_are_preempted_together),
		cmocka_unit_test(preempt_and_abort_ends_the_tasks_of_the_preempted),
		cmocka_unit_test(aborted_tasks_of_others_say_so_with_tas),
		cmocka_unit_test(two_that_preempt_and_abort_do_not_wait_for_each_other),
		cmocka_unit_test(reserve_6_and_10_exclude_the_others),
		cmocka_unit_test(reserve_ends_with_a_reset_and_with_the_connection),
		cmocka_unit_test(reserve_and_persistent_reservations_exclude_each_other),
		cmocka_unit_test(reserve_of_who_passes_the_reservation_is_good_and_does_nothing),
		cmocka_unit_test(third_parties_and_extents_are_invalid_fields),
	};

	return cmocka_run_group_tests_name("scsi resv", tests, NULL, NULL);
}
