#include "blk/backend/sim.h"
#include "nvme/admin_rig.h"

static void changed_list(struct rig *r, uint32_t ctrl, const char *hex)
{
	assert_status(rig_send_to(r, ctrl, NVME_ADMIN_GET_LOG_PAGE, 0, 1023u << 16 | 0x04, 0),
		      SUCCESS);
	assert_bytes(r, 0, hex);
}

/* ---- subsystems ---- */

static void subsys_fails(const struct nvme_subsys_params *p, const char *message)
{
	struct nvme_subsys *subsys;
	struct err err = { 0 };

	assert_int_equal(nvme_subsys_new(p, &subsys, &err), -EINVAL);
	assert_string_equal(err.msg, message);
}

static void names_of_a_subsystem_are_checked(void **state)
{
	char nqn[256] = "nqn.2026-01.test:";
	struct nvme_subsys_params p = { .name = "s" };

	memset(nqn + strlen(nqn), 'x', 224 - strlen(nqn));
	p.nqn = nqn;
	subsys_fails(&p, "nqn: expected 11 to 223 characters, got 224");
	p.nqn = "nqn.2026-0";
	subsys_fails(&p, "nqn: expected 11 to 223 characters, got 10");
	p.nqn = "iqn.2026-01.test:s";
	subsys_fails(&p, "nqn: expected to begin with \"nqn.\", got \"iqn.2026-01.test:s\"");
	p.nqn = "nqn.2026-01.test: s";
	subsys_fails(&p, "nqn: character 0x20 at 17");
	p.nqn = NULL;
	p.serial = "012345678901234567890";
	subsys_fails(&p, "serial: expected at most 20 characters, got 21");
	p.serial = "\x01";
	subsys_fails(&p, "serial: expected printable ASCII, got byte 0x01");
	p.serial = NULL;
	p.model = "0123456789012345678901234567890123456789x";
	subsys_fails(&p, "model: expected at most 40 characters, got 41");
}

static void names_that_are_not_given_are_made_of_the_name(void **state)
{
	const struct nvme_subsys_params p = { .name = "/run/vhostd/nvme0.sock" };
	struct nvme_subsys *subsys, *same;
	struct err err = { 0 };

	assert_int_equal(nvme_subsys_new(&p, &subsys, &err), 0);
	assert_int_equal(nvme_subsys_new(&p, &same, &err), 0);
	assert_int_equal(strncmp(subsys->nqn, "nqn.2014-08.org.nvmexpress:uuid:", 32), 0);
	assert_int_equal(strlen(subsys->nqn), 32 + 36);
	assert_int_equal(subsys->nqn[32 + 14], '8'); /* version */
	assert_string_equal(subsys->nqn, same->nqn);
	assert_memory_equal(subsys->serial, same->serial, NVME_SERIAL_MAX);
	assert_memory_equal(subsys->serial + 16, "    ", 4);
	nvme_subsys_unref(subsys);
	nvme_subsys_unref(same);
	nvme_subsys_unref(NULL);
}

static void a_subsystem_has_64_controllers(void **state)
{
	static struct nvme_ctrl *ctrls[NVME_CTRLS_MAX];
	struct nvme_ctrl *more;
	struct err err = { 0 };
	struct rig r;

	rig_open(&r);
	for (uint32_t i = RIG_CTRLS; i < NVME_CTRLS_MAX; i++) {
		ctrls[i] = rig_ctrl_new(&r, NVME_PROFILE_PCI);
		assert_int_equal(ctrls[i]->cntlid, i + 1);
	}
	more = calloc(1, sizeof(*more));
	assert_int_equal(nvme_subsys_join(r.subsys, more, &err), -ENOSPC);
	assert_string_equal(err.msg, "subsystem s0: expected at most 64 controllers");
	nvme_subsys_leave(more); /* has not joined */
	free(more);
	for (uint32_t i = RIG_CTRLS; i < NVME_CTRLS_MAX; i++)
		rig_ctrl_free(ctrls[i]);
	rig_close(&r);
}

/* ---- namespaces ---- */

static void a_namespace_that_cannot_be_added(void **state)
{
	struct nvme_ns_params p = { .nsid = 1, .identity = "x" };
	struct nvme_ns *ns;
	struct err err = { 0 };
	struct rig r;

	rig_open(&r);
	p.dev = r.ns[1]->dev;
	assert_int_equal(nvme_ns_add(r.subsys, &p, &ns, &err), -EEXIST);
	assert_string_equal(err.msg, "namespace 1 is there already");
	p.nsid = 0;
	assert_int_equal(nvme_ns_add(r.subsys, &p, &ns, &err), -ERANGE);
	assert_string_equal(err.msg, "namespace: expected 1 to 1024, got 0");
	p.nsid = 1025;
	assert_int_equal(nvme_ns_add(r.subsys, &p, &ns, &err), -ERANGE);
	rig_close(&r);
}

static void a_namespace_is_shown_to_all_now_and_later(void **state)
{
	struct nvme_ctrl *later;
	struct rig r;

	rig_open(&r);
	rig_ns_add(&r, 4, "size=1M");
	assert_int_equal(nvme_ns_nsid(r.ns[4]), 4);
	for (uint32_t i = 0; i < RIG_CTRLS; i++) {
		assert_ptr_equal(nvme_att_find(r.ctrl[i], 4)->ns, r.ns[4]);
		changed_list(&r, i, "01000000 04000000 00000000");
		changed_list(&r, i, "00000000"); /* read once */
	}
	later = rig_ctrl_new(&r, NVME_PROFILE_PCI);
	assert_ptr_equal(nvme_att_find(later, 4)->ns, r.ns[4]);
	rig_ctrl_free(later);
	assert_null(nvme_att_find(r.ctrl[0], 0));
	assert_null(nvme_att_find(r.ctrl[0], 1025));
	rig_close(&r);
}

static void names_that_are_given_are_used(void **state)
{
	struct nvme_ns_params p = {
		.nsid = 2,
		.identity = "x",
		.uuid = (const uint8_t *)"0123456789abcdef",
		.nguid = (const uint8_t *)"fedcba9876543210",
		.eui64 = (const uint8_t *)"eui64678",
	};
	struct err err = { 0 };
	struct rig r;

	rig_open(&r);
	p.dev = r.ns[1]->dev;
	assert_int_equal(nvme_ns_add(r.subsys, &p, &r.ns[2], &err), 0);
	assert_memory_equal(r.ns[2]->uuid, "0123456789abcdef", 16);
	assert_memory_equal(r.ns[2]->nguid, "fedcba9876543210", 16);
	assert_memory_equal(r.ns[2]->eui64, "eui64678", 8);
	rig_close(&r);
}

static void a_removed_namespace_is_gone_at_once_and_its_node_later(void **state)
{
	struct rig r;

	rig_open(&r);
	changed_list(&r, 0, "01000000");
	nvme_ns_remove(r.ns[1], rig_removed, &r);
	r.ns[1] = NULL;
	assert_null(nvme_ns_find(r.subsys, 1));
	assert_null(nvme_att_find(r.ctrl[0], 1));
	assert_int_equal(r.removed, 0);
	changed_list(&r, 0, "01000000 00000000");
	rig_ns_add(&r, 1, "size=2M"); /* another one of this number */
	while (!r.removed)
		loop_run_once(r.loop, true);
	assert_status(rig_send(&r, NVME_ADMIN_IDENTIFY, 1, 0, 0), SUCCESS);
	assert_int_equal(rig_le(&r, 0, 8), 4096);
	rig_close(&r);
}

static void a_subsystem_lives_until_its_last_namespace_is_gone(void **state)
{
	struct rig r;

	rig_open(&r);
	nvme_ns_remove(r.ns[1], rig_removed, &r);
	r.ns[1] = NULL;
	for (uint32_t i = 0; i < RIG_CTRLS; i++)
		rig_ctrl_free(r.ctrl[i]);
	nvme_subsys_unref(r.subsys);
	while (!r.removed)
		loop_run_once(r.loop, true);
	loop_free(r.loop);
}

static void a_resize_is_told(void **state)
{
	struct err err = { 0 };
	struct rig r;

	rig_open(&r);
	changed_list(&r, 0, "01000000");
	blk_sim_resize(r.ns[1]->dev, 512 << 10);
	assert_int_equal(blk_dev_rescan(r.ns[1]->dev, &err), 0);
	changed_list(&r, 0, "01000000 00000000");
	assert_status(rig_send(&r, NVME_ADMIN_IDENTIFY, 1, 0, 0), SUCCESS);
	assert_int_equal(rig_le(&r, 0, 8), 1024);
	rig_close(&r);
}

static void detached(void *arg)
{
	*(bool *)arg = true;
}

static void a_detached_namespace_stays_so_for_the_next_controller(void **state)
{
	bool done = false;
	struct rig r;

	rig_open(&r);
	assert_int_equal(nvme_ns_detach(r.ns[1], r.ctrl[0], detached, &done), 0);
	assert_null(nvme_att_find(r.ctrl[0], 1));
	assert_non_null(nvme_att_find(r.ctrl[1], 1));
	while (!done)
		loop_run_once(r.loop, true);
	rig_ctrl_free(r.ctrl[0]);
	r.ctrl[0] = rig_ctrl_new(&r, NVME_PROFILE_PCI);
	assert_null(nvme_att_find(r.ctrl[0], 1));
	assert_int_equal(nvme_ns_attach(r.ns[1], r.ctrl[0]), 0);
	changed_list(&r, 0, "01000000");
	rig_ctrl_free(r.ctrl[0]);
	r.ctrl[0] = rig_ctrl_new(&r, NVME_PROFILE_PCI);
	assert_non_null(nvme_att_find(r.ctrl[0], 1));
	rig_close(&r);
}

/* ---- gates ---- */

static void gates_follow_what_is_out_of_the_ordinary(void **state)
{
	static const struct {
		enum nvme_ana state;
		uint32_t gate;
		enum nvme_status status;
	} states[] = {
		{ NVME_ANA_NON_OPTIMIZED, 0, NVME_SC_SUCCESS },
		{ NVME_ANA_INACCESSIBLE, GATE_ANA, NVME_SC_ANA_INACCESSIBLE },
		{ NVME_ANA_PERSISTENT_LOSS, GATE_ANA, NVME_SC_ANA_PERSISTENT_LOSS },
		{ NVME_ANA_CHANGE, GATE_ANA, NVME_SC_ANA_TRANSITION },
		{ NVME_ANA_OPTIMIZED, 0, NVME_SC_SUCCESS },
	};
	struct rig r;

	rig_open(&r);
	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		nvme_ctrl_ana_set(r.ctrl[0], states[i].state);
		assert_int_equal(nvme_att_find(r.ctrl[0], 1)->gate, states[i].gate);
		assert_int_equal(nvme_att_find(r.ctrl[1], 1)->gate, 0);
		assert_int_equal(nvme_ana_status(r.ctrl[0]), states[i].status);
	}
	r.ns[1]->read_only = true;
	nvme_gates_update(r.ns[1]);
	assert_int_equal(nvme_att_find(r.ctrl[0], 1)->gate, CMD_WRITES);
	r.ns[1]->read_only = false;
	r.ns[1]->not_ready = true;
	nvme_gates_update(r.ns[1]);
	assert_int_equal(nvme_att_find(r.ctrl[1], 1)->gate, CMD_MEDIUM);
	r.ns[1]->not_ready = false;
	nvme_gates_update(r.ns[1]);
	assert_int_equal(nvme_att_find(r.ctrl[1], 1)->gate, 0);
	rig_close(&r);
}

static void an_inaccessible_namespace_has_no_utilization(void **state)
{
	struct rig r;

	rig_open(&r);
	nvme_ctrl_ana_set(r.ctrl[0], NVME_ANA_INACCESSIBLE);
	assert_status(rig_send(&r, NVME_ADMIN_IDENTIFY, 1, 0, 0), SUCCESS);
	assert_int_equal(rig_le(&r, 0, 8), 2048);
	assert_int_equal(rig_le(&r, 16, 8), 0);
	assert_status(rig_send_to(&r, 1, NVME_ADMIN_IDENTIFY, 1, 0, 0), SUCCESS);
	assert_int_equal(rig_le(&r, 16, 8), 2048);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_of_a_subsystem_are_checked),
		cmocka_unit_test(names_that_are_not_given_are_made_of_the_name),
		cmocka_unit_test(a_subsystem_has_64_controllers),
		cmocka_unit_test(a_namespace_that_cannot_be_added),
		cmocka_unit_test(a_namespace_is_shown_to_all_now_and_later),
		cmocka_unit_test(names_that_are_given_are_used),
		cmocka_unit_test(a_removed_namespace_is_gone_at_once_and_its_node_later),
		cmocka_unit_test(a_subsystem_lives_until_its_last_namespace_is_gone),
		cmocka_unit_test(a_resize_is_told),
		cmocka_unit_test(a_detached_namespace_stays_so_for_the_next_controller),
		cmocka_unit_test(gates_follow_what_is_out_of_the_ordinary),
		cmocka_unit_test(an_inaccessible_namespace_has_no_utilization),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
