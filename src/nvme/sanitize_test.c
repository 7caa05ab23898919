/* Sanitize (base 5.24, 8.15): its passes, its states, and what a restart finds. */
#include "nvme/resv_rig.h"

#define BYTES	  (1u << 20)
#define EXIT	  1
#define BLOCK	  2
#define OVERWRITE 3
#define CRYPTO	  4
#define AUSE	  (1u << 3)
#define PASSES(n) ((uint32_t)(n) << 4)
#define INVERT	  (1u << 8)
#define NDAS	  (1u << 9)

static struct rig r;
static char folder[] = "/tmp/vhostd-nvme-sanitize-XXXXXX", path[64];
static const struct nvme_subsys_params kept = { .name = "s", .state_path = path };

static int folder_make(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/state", folder);
	return 0;
}

static int folder_remove(void **state)
{
	unlink(path);
	return rmdir(folder);
}

static int file_remove(void **state)
{
	unlink(path);
	return 0;
}

static void fill(void)
{
	memset(blk_sim_memory(r.dev), 0x5a, BYTES);
}

static bool is_filled_with(uint32_t word)
{
	const struct le32 *memory = blk_sim_memory(r.dev);

	for (uint32_t i = 0; i < BYTES / 4; i++)
		if (le32_get(memory[i]) != word)
			return false;
	return true;
}

static uint16_t sanitize(uint32_t ctrl, uint32_t cdw10, uint32_t pattern)
{
	return rig_admin(&r, ctrl, NVME_ADMIN_SANITIZE, 0, cdw10, pattern);
}

static void finish(void)
{
	rig_until(&r, !r.subsys->sanitize.run);
}

/* Status of log page 81h: its low three bits, and completed passes. */
static uint32_t status(uint32_t *ret_passes)
{
	uint8_t page[NVME_SANITIZE_LOG_BYTES];

	nvme_sanitize_log(r.subsys, page);
	if (ret_passes)
		*ret_passes = page[2] >> 3;
	assert_int_equal(page[3], 0);
	if ((page[2] & 7) != 2)
		assert_int_equal(page[0] | page[1] << 8, 0xffff);
	return page[2] & 7;
}

static void block_erase_erases_all(void **state)
{
	rig_open(&r, NULL, NULL, NULL);
	assert_int_equal(nvme_sanitize_cap(r.subsys), 1u << 1 | 1u << 2 | 1u << 30);
	assert_int_equal(status(NULL), 0);
	for (uint32_t i = 0; i < 2; i++) {
		fill();
		GOOD(sanitize(0, BLOCK | (i ? NDAS : 0), 0));
		finish();
		assert_true(is_filled_with(0));
		assert_int_equal(status(NULL), 1);
	}
	assert_int_equal(atomic_load(&nvme_att_find(r.ctrl[0], 1)->gate), 0);
	for (uint32_t i = 0; i < RIG_CTRLS; i++) {
		assert_int_equal(r.ctrl[i]->aen.pending_count, 2);
		assert_int_equal(r.ctrl[i]->aen.pending[0], 0x810106);
	}
	rig_shut(&r);
}

static void overwrite_makes_its_passes(void **state)
{
	static const struct {
		uint32_t cdw10, passes;
		bool inverted;
	} cases[] = {
		{ OVERWRITE | PASSES(1), 1, false },
		{ OVERWRITE | PASSES(2), 2, false },
		{ OVERWRITE | PASSES(2) | INVERT, 2, true },
		{ OVERWRITE | PASSES(3) | INVERT, 3, false },
		{ OVERWRITE | PASSES(0), 16, false },
		{ OVERWRITE | PASSES(15) | NDAS, 15, false },
	};
	uint32_t passes;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		rig_open(&r, NULL, NULL, NULL);
		fill();
		GOOD(sanitize(0, cases[i].cdw10, 0x01234567));
		finish();
		assert_true(is_filled_with(cases[i].inverted ? ~0x01234567u : 0x01234567u));
		assert_int_equal(status(&passes), 1);
		assert_int_equal(passes, cases[i].passes);
		rig_shut(&r);
	}
}

static void wrong_actions_are_refused(void **state)
{
	rig_open(&r, NULL, NULL, NULL);
	fill();
	for (uint32_t action = 0; action < 8; action++)
		if (action != BLOCK && action != OVERWRITE && action != EXIT)
			assert_int_equal(sanitize(0, action, 0), NVME_SC_INVALID_FIELD);
	GOOD(sanitize(0, EXIT, 0)); /* nothing failed: no effect */
	assert_int_equal(status(NULL), 0);
	assert_true(is_filled_with(0x5a5a5a5a));
	rig_shut(&r);
}

static void what_must_not_be_written_is_not_sanitized(void **state)
{
	rig_open(&r, NULL, NULL, "size=1M,read-only=on");
	assert_int_equal(sanitize(0, BLOCK, 0), NVME_SC_NS_WRITE_PROTECTED);
	rig_shut(&r);
	rig_open(&r, NULL, NULL, NULL);
	GOOD(rig_keys(&r, 1, NVME_IO_RESV_REGISTER, 0, 0, 1));
	GOOD(rig_keys(&r, 1, NVME_IO_RESV_ACQUIRE, 1 << 8, 1, 0));
	assert_int_equal(sanitize(0, BLOCK, 0), NVME_SC_RESERVATION_CONFLICT);
	atomic_store(&r.ns->not_ready, true);
	assert_int_equal(sanitize(1, BLOCK, 0), NVME_SC_FORMAT_IN_PROGRESS);
	atomic_store(&r.ns->not_ready, false);
	GOOD(sanitize(1, BLOCK, 0));
	finish();
	rig_shut(&r);
}

static void while_it_runs_other_commands_are_refused(void **state)
{
	rig_open(&r, NULL, NULL, NULL);
	fill();
	blk_sim_hold(r.dev, true);
	GOOD(sanitize(0, BLOCK, 0)); /* ends when it has begun */
	assert_int_equal(status(NULL), 2);
	assert_int_equal(atomic_load(&nvme_att_find(r.ctrl[2], 1)->gate), CMD_MEDIUM);
	assert_int_equal(nvme_medium_status(r.ns), NVME_SC_SANITIZE_IN_PROGRESS);
	assert_int_equal(sanitize(1, BLOCK, 0), NVME_SC_SANITIZE_IN_PROGRESS);
	assert_int_equal(sanitize(1, EXIT, 0), NVME_SC_SANITIZE_IN_PROGRESS);
	assert_int_equal(rig_admin(&r, 1, NVME_ADMIN_FORMAT_NVM, 1, 0, 0),
			 NVME_SC_SANITIZE_IN_PROGRESS);
	assert_int_equal(rig_admin(&r, 1, NVME_ADMIN_NS_MANAGEMENT, 1, 1, 0),
			 NVME_SC_SANITIZE_IN_PROGRESS);
	assert_int_equal(rig_keys(&r, 1, NVME_IO_RESV_REGISTER, 0, 0, 1),
			 NVME_SC_SANITIZE_IN_PROGRESS);
	assert_int_equal(rig_io(&r, 1, NVME_IO_RESV_REPORT, 0, 0, NULL, 0),
			 NVME_SC_SANITIZE_IN_PROGRESS);
	blk_sim_hold(r.dev, false);
	finish();
	assert_int_equal(nvme_medium_status(r.ns), NVME_SC_SUCCESS);
	assert_true(is_filled_with(0));
	rig_shut(&r);
}

static void log_pages_that_can_be_read_meanwhile(void **state)
{
	uint32_t allowed = 0;

	for (uint32_t page = 0; page < 256; page++)
		allowed += nvme_sanitize_log_allowed((uint8_t)page);
	assert_int_equal(allowed, 5);
	assert_true(nvme_sanitize_log_allowed(1) && nvme_sanitize_log_allowed(2) &&
		    nvme_sanitize_log_allowed(4) && nvme_sanitize_log_allowed(0x80) &&
		    nvme_sanitize_log_allowed(0x81));
}

/* ---- failures ---- */

static void after_a_failure_without_ause_only_such_a_one_helps(void **state)
{
	rig_open(&r, NULL, NULL, "size=1M,fail-every=2,fail-op=flush");
	GOOD(sanitize(0, OVERWRITE | PASSES(2), 1)); /* write, flush, write, flush: both fail */
	finish();
	assert_int_equal(status(NULL), 3);
	assert_int_equal(nvme_medium_status(r.ns), NVME_SC_SANITIZE_FAILED);
	assert_int_equal(atomic_load(&nvme_att_find(r.ctrl[0], 1)->gate), CMD_MEDIUM);
	assert_int_equal(sanitize(0, EXIT, 0), NVME_SC_SANITIZE_FAILED);
	assert_int_equal(sanitize(0, BLOCK | AUSE, 0), NVME_SC_SANITIZE_FAILED);
	GOOD(sanitize(0, BLOCK, 0));
	finish();
	rig_shut(&r);
}

static void after_a_failure_with_ause_failure_mode_can_be_left(void **state)
{
	rig_open(&r, &kept, NULL, "size=1M,fail-every=1,fail-op=write");
	GOOD(sanitize(0, OVERWRITE | PASSES(1) | AUSE, 1));
	finish();
	assert_int_equal(status(NULL), 3);
	assert_int_equal(nvme_medium_status(r.ns), NVME_SC_SANITIZE_FAILED);
	rig_shut(&r);
	rig_open(&r, &kept, NULL, NULL);
	assert_int_equal(nvme_medium_status(r.ns), NVME_SC_SANITIZE_FAILED);
	GOOD(sanitize(0, EXIT, 0));
	assert_int_equal(status(NULL), 3); /* the last one did fail */
	assert_int_equal(nvme_medium_status(r.ns), NVME_SC_SUCCESS);
	rig_shut(&r);
	rig_open(&r, &kept, NULL, NULL);
	assert_int_equal(nvme_medium_status(r.ns), NVME_SC_SUCCESS);
	GOOD(sanitize(0, BLOCK | AUSE, 0));
	finish();
	assert_int_equal(status(NULL), 1);
	rig_shut(&r);
}

static void a_state_file_that_cannot_be_written_lets_nothing_through(void **state)
{
	static const struct nvme_subsys_params nowhere = { .name = "s",
							   .state_path = "/nonexistent/state" };

	rig_open(&r, &nowhere, NULL, NULL);
	fill();
	assert_int_equal(sanitize(0, BLOCK, 0), NVME_SC_INTERNAL_ERROR);
	finish();
	assert_true(is_filled_with(0x5a5a5a5a));
	assert_int_equal(nvme_medium_status(r.ns), NVME_SC_SANITIZE_FAILED);
	rig_shut(&r);
}

/* ---- restarts and removal ---- */

static void a_restart_goes_on_with_it(void **state)
{
	uint32_t passes;

	rig_open(&r, &kept, NULL, NULL);
	blk_sim_hold(r.dev, true);
	GOOD(sanitize(0, OVERWRITE | PASSES(3), 0xfeedf00d));
	blk_sim_hold(r.dev, false);
	rig_shut(&r); /* its namespace goes first */
	rig_open(&r, &kept, NULL, NULL);
	fill();
	assert_int_equal(nvme_medium_status(r.ns), NVME_SC_SANITIZE_IN_PROGRESS);
	rig_until(&r, r.subsys->sanitize.run);
	finish();
	assert_true(is_filled_with(0xfeedf00d));
	assert_int_equal(status(&passes), 1);
	assert_int_equal(passes, 3);
	rig_shut(&r);
	rig_open(&r, &kept, NULL, NULL);
	fill();
	assert_int_equal(status(&passes), 1);
	for (uint32_t i = 0; i < 20; i++)
		loop_run_once(r.loop, false);
	assert_true(is_filled_with(0x5a5a5a5a)); /* not once more */
	rig_shut(&r);
}

static void a_disk_that_comes_with_the_restart_keeps_its_data(void **state)
{
	struct nvme_ns_params p = { .nsid = 2, .identity = "y" };
	struct nvme_ns *second;
	struct rig_removal removal;
	struct err err;

	rig_open(&r, &kept, NULL, NULL);
	blk_sim_hold(r.dev, true);
	GOOD(sanitize(0, BLOCK, 0));
	blk_sim_hold(r.dev, false);
	rig_shut(&r);
	rig_open(&r, &kept, NULL, NULL);
	assert_int_equal(blk_dev_open("sim", "sim", "size=1M", &p.dev, &err), 0);
	memset(blk_sim_memory(p.dev), 0x77, BYTES);
	assert_int_equal(nvme_ns_add(r.subsys, &p, &second, &err), 0);
	fill();
	rig_until(&r, r.subsys->sanitize.run);
	assert_int_not_equal(atomic_load(&nvme_att_find(r.ctrl[0], 2)->gate), 0);
	finish();
	assert_int_equal(status(NULL), 1);
	assert_true(is_filled_with(0));
	assert_int_equal(*(uint8_t *)blk_sim_memory(p.dev), 0x77);
	rig_remove(&r, &removal, second);
	rig_until(&r, removal.gone);
	rig_shut(&r);
	blk_dev_unref(p.dev);
}

static void a_namespace_that_does_not_come_back_makes_it_fail(void **state)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs("vhostd-nvme-subsys 1\n"
	      "sanitize running 00000002 00000000 0\n"
	      "sanitize-namespace 5 01234567-89ab-4cde-8f01-23456789abcd\n"
	      "end\n",
	      f);
	fclose(f);
	rig_open(&r, &kept, NULL, NULL);
	fill();
	rig_until(&r, r.subsys->sanitize.run);
	finish();
	assert_int_equal(status(NULL), 3);
	assert_true(is_filled_with(0x5a5a5a5a));
	rig_shut(&r);
}

static void a_namespace_removed_meanwhile_makes_it_fail(void **state)
{
	struct nvme_ns_params p = { .nsid = 2, .identity = "y" };
	struct rig_removal removal;
	struct nvme_ns *second;
	struct err err;

	rig_open(&r, NULL, NULL, NULL);
	assert_int_equal(blk_dev_open("ram", "ram", "size=1M", &p.dev, &err), 0);
	assert_int_equal(nvme_ns_add(r.subsys, &p, &second, &err), 0);
	blk_sim_hold(r.dev, true);
	GOOD(sanitize(0, BLOCK, 0));
	rig_remove(&r, &removal, r.ns); /* which is erased first */
	loop_run_once(r.loop, true);
	blk_sim_hold(r.dev, false);
	finish();
	assert_int_equal(status(NULL), 3);
	rig_until(&r, removal.gone);
	r.ns = second;
	rig_shut(&r);
	blk_dev_unref(p.dev);
}

int main(void)
{
#define test(name) cmocka_unit_test_setup(name, file_remove)
	const struct CMUnitTest tests[] = {
		test(block_erase_erases_all),
		test(overwrite_makes_its_passes),
		test(wrong_actions_are_refused),
		test(what_must_not_be_written_is_not_sanitized),
		test(while_it_runs_other_commands_are_refused),
		test(log_pages_that_can_be_read_meanwhile),
		test(after_a_failure_without_ause_only_such_a_one_helps),
		test(after_a_failure_with_ause_failure_mode_can_be_left),
		test(a_state_file_that_cannot_be_written_lets_nothing_through),
		test(a_restart_goes_on_with_it),
		test(a_disk_that_comes_with_the_restart_keeps_its_data),
		test(a_namespace_that_does_not_come_back_makes_it_fail),
		test(a_namespace_removed_meanwhile_makes_it_fail),
	};

	return cmocka_run_group_tests_name("nvme sanitize", tests, folder_make, folder_remove);
}
