/* Format NVM (base 5.23): what it erases, what it refuses, and what others see meanwhile. */
#include "nvme/resv_rig.h"

#define SES(n) ((uint32_t)(n) << 9)
#define BYTES  (1u << 20)

static struct rig r;
static const struct rig_sqe erase = {
	.admin = true, .opcode = NVME_ADMIN_FORMAT_NVM, .nsid = 1, .cdw10 = SES(1)
};

static void fill(void)
{
	memset(blk_sim_memory(r.dev), 0x5a, BYTES);
}

static bool is_filled_with(uint8_t byte)
{
	const uint8_t *memory = blk_sim_memory(r.dev);

	for (uint32_t i = 0; i < BYTES; i++)
		if (memory[i] != byte)
			return false;
	return true;
}

static uint16_t format(uint32_t ctrl, uint32_t nsid, uint32_t cdw10)
{
	return rig_admin(&r, ctrl, NVME_ADMIN_FORMAT_NVM, nsid, cdw10, 0);
}

static void user_data_is_erased(void **state)
{
	for (uint32_t ses = 0; ses <= 1; ses++) {
		rig_open(&r, NULL, NULL, NULL);
		fill();
		GOOD(format(0, ses ? 1 : NVME_NSID_ALL, SES(ses)));
		assert_true(is_filled_with(0));
		assert_int_equal(nvme_format_progress(r.ns), 0x80);
		assert_int_equal(atomic_load(&nvme_att_find(r.ctrl[0], 1)->gate), 0);
		rig_shut(&r);
	}
}

static void wrong_formats_are_refused(void **state)
{
	static const struct {
		uint32_t nsid, cdw10, status;
	} cases[] = {
		{ 1, 1, NVME_SC_INVALID_FORMAT },
		{ 1, 15, NVME_SC_INVALID_FORMAT },
		{ 1, 1u << 12, NVME_SC_INVALID_FORMAT },
		{ 1, 1u << 5, NVME_SC_INVALID_FORMAT }, /* protection information */
		{ 1, SES(2), NVME_SC_INVALID_FIELD },	/* no cryptographic erase */
		{ 1, SES(7), NVME_SC_INVALID_FIELD },
		{ 0, 0, NVME_SC_INVALID_NS },
		{ 2, 0, NVME_SC_INVALID_NS },
		{ 5000, 0, NVME_SC_INVALID_NS },
	};

	rig_open(&r, NULL, NULL, NULL);
	fill();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(format(0, cases[i].nsid, cases[i].cdw10), cases[i].status);
	assert_true(is_filled_with(0x5a));
	rig_shut(&r);
}

static void a_read_only_namespace_is_refused(void **state)
{
	rig_open(&r, NULL, NULL, "size=1M,read-only=on");
	fill();
	assert_int_equal(format(0, 1, SES(1)), NVME_SC_NS_WRITE_PROTECTED);
	assert_int_equal(format(0, NVME_NSID_ALL, 0), NVME_SC_NS_WRITE_PROTECTED);
	rig_shut(&r);
	rig_open(&r, NULL, NULL, NULL);
	r.ns->write_protect = NVME_WP_PROTECTED;
	assert_int_equal(format(0, 1, SES(1)), NVME_SC_NS_WRITE_PROTECTED);
	rig_shut(&r);
}

static void a_reservation_of_another_conflicts(void **state)
{
	rig_open(&r, NULL, NULL, NULL);
	GOOD(rig_keys(&r, 1, NVME_IO_RESV_REGISTER, 0, 0, 1));
	GOOD(rig_keys(&r, 1, NVME_IO_RESV_ACQUIRE, 1 << 8, 1, 0));
	assert_int_equal(format(0, 1, 0), NVME_SC_RESERVATION_CONFLICT);
	assert_int_equal(format(0, NVME_NSID_ALL, 0), NVME_SC_RESERVATION_CONFLICT);
	GOOD(format(1, 1, 0));
	rig_shut(&r);
}

static void others_find_it_not_ready_and_are_told_at_the_end(void **state)
{
	struct rig_cmd *c;

	rig_open(&r, NULL, NULL, NULL);
	fill();
	blk_sim_hold(r.dev, true);
	c = rig_start(&r, 0, &erase);
	rig_until(&r, atomic_load(&r.ns->not_ready));
	for (uint32_t i = 0; i < RIG_CTRLS; i++)
		assert_int_equal(atomic_load(&nvme_att_find(r.ctrl[i], 1)->gate), CMD_MEDIUM);
	assert_int_equal(nvme_medium_status(r.ns), NVME_SC_FORMAT_IN_PROGRESS);
	assert_int_equal(nvme_format_progress(r.ns), 0x80 | 99);
	assert_int_equal(format(1, 1, 0), NVME_SC_FORMAT_IN_PROGRESS);
	assert_false(c->ended);
	blk_sim_hold(r.dev, false);
	GOOD(rig_wait(&r, c));
	assert_true(is_filled_with(0));
	assert_int_equal(nvme_medium_status(r.ns), NVME_SC_SUCCESS);
	assert_int_equal(r.ctrl[0]->logs.changed_ns[0], 0);
	assert_int_equal(r.ctrl[1]->logs.changed_ns[0], 1 << 1);
	rig_shut(&r);
}

static void it_waits_for_commands_under_way(void **state)
{
	struct rig_cmd *c;

	rig_open(&r, NULL, NULL, NULL);
	fill();
	r.hold_sweeps = true;
	c = rig_start(&r, 0, &erase);
	rig_until(&r, r.held_count);
	assert_int_equal(r.held[0]->action, NVME_SWEEP_WAIT);
	assert_ptr_equal(r.held[0]->ns, r.ns);
	assert_true(is_filled_with(0x5a));
	r.hold_sweeps = false;
	loop_post(r.loop, &r.held[0]->msg);
	GOOD(rig_wait(&r, c));
	assert_true(is_filled_with(0));
	rig_shut(&r);
}

static void an_error_of_the_back_end_ends_it(void **state)
{
	static const struct {
		const char *params;
		uint32_t ses;
	} cases[] = {
		{ "size=1M,fail-every=1,fail-op=secure-erase", 1 },
		{ "size=1M,fail-every=2,fail-op=flush", 1 },
		{ "size=1M,fail-every=3,fail-op=write-zeroes", 1 },
		{ "size=1M,fail-every=1,fail-op=discard", 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		rig_open(&r, NULL, NULL, cases[i].params);
		assert_int_not_equal(format(0, 1, SES(cases[i].ses)), NVME_SC_SUCCESS);
		assert_int_equal(atomic_load(&nvme_att_find(r.ctrl[0], 1)->gate), 0);
		rig_shut(&r);
	}
}

static void removing_the_namespace_ends_it(void **state)
{
	struct rig_removal removal;
	struct rig_cmd *c;

	rig_open(&r, NULL, NULL, NULL);
	blk_sim_hold(r.dev, true);
	c = rig_start(&r, 0, &erase);
	rig_until(&r, atomic_load(&r.ns->not_ready));
	rig_remove(&r, &removal, r.ns);
	r.ns = NULL;
	for (uint32_t i = 0; i < 10; i++)
		loop_run_once(r.loop, true);
	assert_false(removal.gone);
	blk_sim_hold(r.dev, false);
	assert_int_not_equal(rig_wait(&r, c), NVME_SC_SUCCESS);
	rig_until(&r, removal.gone);
	rig_shut(&r);
}

static void an_abort_ends_it_at_the_next_step(void **state)
{
	struct rig_cmd *c;

	rig_open(&r, NULL, NULL, NULL);
	blk_sim_hold(r.dev, true);
	c = rig_start(&r, 0, &erase);
	rig_until(&r, atomic_load(&r.ns->not_ready));
	c->c.abort_status = NVME_SC_ABORT_REQUESTED;
	c->c.abort = 1;
	blk_sim_hold(r.dev, false);
	assert_int_equal(rig_wait(&r, c), NVME_SC_ABORT_REQUESTED);
	assert_int_equal(nvme_medium_status(r.ns), NVME_SC_SUCCESS);
	rig_shut(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(user_data_is_erased),
		cmocka_unit_test(wrong_formats_are_refused),
		cmocka_unit_test(a_read_only_namespace_is_refused),
		cmocka_unit_test(a_reservation_of_another_conflicts),
		cmocka_unit_test(others_find_it_not_ready_and_are_told_at_the_end),
		cmocka_unit_test(it_waits_for_commands_under_way),
		cmocka_unit_test(an_error_of_the_back_end_ends_it),
		cmocka_unit_test(removing_the_namespace_ends_it),
		cmocka_unit_test(an_abort_ends_it_at_the_next_step),
	};

	return cmocka_run_group_tests_name("nvme format", tests, NULL, NULL);
}
