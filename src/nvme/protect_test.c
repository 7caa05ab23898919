#include <unistd.h>

#include "loop/job.h"
#include "nvme/admin_rig.h"

#define SET(r, nsid, state) rig_send(r, NVME_ADMIN_SET_FEATURES, nsid, 0x84, state)

static char state_path[64];

static void open_with_state(struct rig *r)
{
	rig_open(r);
	r->state_path = state_path;
	rig_ns_add(r, 2, "size=1M,volatile-cache=on");
}

static void assert_state(struct rig *r, uint32_t nsid, uint32_t want)
{
	assert_status(rig_send(r, NVME_ADMIN_GET_FEATURES, nsid, 0x84, 0), SUCCESS);
	assert_int_equal(r->cmd.c.dw0, want);
}

static void a_protected_namespace_stops_the_writes_of_all(void **state)
{
	struct blk_stats stats = { 0 };
	struct rig r;

	open_with_state(&r);
	assert_status(SET(&r, 2, 1), SUCCESS);
	for (uint32_t i = 0; i < RIG_CTRLS; i++)
		assert_int_equal(r.ctrl[i]->atts[2]->gate, CMD_WRITES);
	/* those under way were waited for, and flushed */
	assert_ptr_equal(rig_last_sweep.ns, r.ns[2]);
	assert_null(rig_last_sweep.ctrl);
	assert_int_equal(rig_last_sweep.action, NVME_SWEEP_WAIT);
	assert_int_equal(rig_last_sweep.row_flags, CMD_WRITES);
	blk_dev_stats(r.ns[2]->dev, &stats);
	assert_int_equal(stats.ops[BLK_FLUSH], 1);
	assert_state(&r, 2, 1);
	assert_status(rig_send(&r, NVME_ADMIN_IDENTIFY, 2, 0, 0), SUCCESS);
	assert_bytes(&r, 99, "01");
	nvme_features_reset(r.ctrl[0]); /* it is the namespace's, not the controller's */
	assert_state(&r, 2, 1);
	assert_status(SET(&r, 2, 0), SUCCESS);
	assert_int_equal(r.ctrl[0]->atts[2]->gate, 0);
	rig_close(&r);
}

static void protection_survives_a_restart(void **state)
{
	struct rig r;

	open_with_state(&r);
	assert_status(SET(&r, 2, 1), SUCCESS);
	rig_close(&r);
	open_with_state(&r);
	assert_state(&r, 2, 1);
	assert_int_equal(r.ctrl[0]->atts[2]->gate, CMD_WRITES);
	assert_status(SET(&r, 2, 0), SUCCESS);
	rig_close(&r);
	open_with_state(&r);
	assert_state(&r, 2, 0);
	rig_close(&r);
}

static void protection_until_power_cycle_stays_until_then(void **state)
{
	struct rig r;

	open_with_state(&r);
	assert_status(SET(&r, 2, 2), SUCCESS);
	assert_status(SET(&r, 2, 0), FEATURE_NOT_CHANGEABLE);
	assert_status(SET(&r, 2, 1), FEATURE_NOT_CHANGEABLE);
	assert_status(SET(&r, 2, 2), SUCCESS);
	assert_status(SET(&r, NVME_NSID_ALL, 0), FEATURE_NOT_CHANGEABLE);
	rig_close(&r);
	open_with_state(&r);
	assert_state(&r, 2, 0);
	rig_close(&r);
}

static void what_would_not_survive_is_not_promised(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(SET(&r, 1, 1), FEATURE_NOT_CHANGEABLE);
	assert_status(SET(&r, 1, 2), SUCCESS);
	rig_close(&r);
}

static void permanent_protection_is_not_offered(void **state)
{
	struct rig r;

	open_with_state(&r);
	for (uint32_t value = 3; value < 8; value++)
		assert_status(SET(&r, 2, value), INVALID_FIELD);
	assert_status(SET(&r, 0, 1), INVALID_NS);
	assert_status(SET(&r, 3, 1), INVALID_NS);
	rig_close(&r);
}

static void all_namespaces_are_protected_at_once(void **state)
{
	struct rig r;

	open_with_state(&r);
	assert_status(SET(&r, NVME_NSID_ALL, 2), SUCCESS);
	assert_state(&r, 1, 2);
	assert_state(&r, 2, 2);
	rig_close(&r);
}

static void a_failed_flush_is_told(void **state)
{
	struct rig r;

	rig_open(&r);
	r.state_path = state_path;
	rig_ns_add(&r, 3, "size=1M,volatile-cache=on,fail-every=1,fail-op=flush");
	assert_status(SET(&r, 3, 1), INTERNAL_ERROR);
	assert_state(&r, 3, 1); /* it is protected all the same */
	rig_close(&r);
}

static void a_wrong_line_of_the_state_file_is_named(void **state)
{
	struct nvme_ns ns = { 0 };
	bool mine;

	assert_null(nvme_protect_state_read(&ns, "ptpl 1", &mine));
	assert_false(mine);
	assert_string_equal(nvme_protect_state_read(&ns, "write-protect 2", &mine),
			    "expected 'write-protect 1'");
	assert_true(mine);
	assert_int_equal(ns.write_protect, NVME_WP_NONE);
	assert_null(nvme_protect_state_read(&ns, "write-protect 1", &mine));
	assert_int_equal(ns.write_protect, NVME_WP_PROTECTED);
}

static int start_jobs(void **state)
{
	struct err err;

	return job_threads_start(1, &err);
}

static int stop_jobs(void **state)
{
	job_threads_stop();
	return 0;
}

static int remove_state(void **state)
{
	unlink(state_path);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(a_protected_namespace_stops_the_writes_of_all,
					  remove_state),
		cmocka_unit_test_teardown(protection_survives_a_restart, remove_state),
		cmocka_unit_test_teardown(protection_until_power_cycle_stays_until_then,
					  remove_state),
		cmocka_unit_test_teardown(what_would_not_survive_is_not_promised, remove_state),
		cmocka_unit_test_teardown(permanent_protection_is_not_offered, remove_state),
		cmocka_unit_test_teardown(all_namespaces_are_protected_at_once, remove_state),
		cmocka_unit_test_teardown(a_failed_flush_is_told, remove_state),
		cmocka_unit_test_teardown(a_wrong_line_of_the_state_file_is_named, remove_state),
	};

	snprintf(state_path, sizeof(state_path), "/tmp/nvme-protect-%d", getpid());
	return cmocka_run_group_tests(tests, start_jobs, stop_jobs);
}
