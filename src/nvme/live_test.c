/* A subsystem's state from one process to another: pack, unpack, and the same answers. */
#include "nvme/names.h"
#include "nvme/nvme_rig.h"

static struct rig from, to;

static void open_both(void)
{
	rig_open(&from, "ram", "size=1M");
	rig_init(&to);
	rig_ns_add(&to, "ram", "size=1M");
}

static struct nvme_registrant *register_host(struct rig *rig, uint64_t key, uint8_t host)
{
	struct nvme_registrant *reg = nvme_resv_add(rig->ns, key);

	assert_non_null(reg);
	memset(reg->host_id, host, host ? 8 : 0);
	if (!host)
		reg->ctrl = rig->guest.ctrl;
	return reg;
}

static void hand_over(void)
{
	struct err err = { 0 };
	char *text, *again;
	size_t len, again_len;

	from.subsys->opened_ns = loop_clock_ns() - 7200000000000ull;
	if (nvme_subsys_pack(from.subsys, &text, &len, &err) ||
	    nvme_subsys_unpack(to.subsys, text, len, &err))
		fail_msg("%s", err.msg);
	assert_true(loop_clock_ns() - to.subsys->opened_ns >= 7200000000000ull);
	assert_int_equal(nvme_subsys_pack(to.subsys, &again, &again_len, &err), 0);
	/* less the age */
	assert_string_equal(strstr(again, "\nns "), strstr(text, "\nns "));
	free(text);
	free(again);
}

/* The controller of `from` goes over to that of `to`. */
static void hand_over_controller(void)
{
	struct err err = { 0 };
	void *bytes;
	size_t len;

	rig_quiesce(&from);
	assert_int_equal(nvme_ctrl_save(from.guest.ctrl, &bytes, &len), 0);
	rig_guest_open(&to, &to.guest);
	rig_quiesce(&to);
	assert_int_equal(nvme_ctrl_load(to.guest.ctrl, bytes, len, &err), 0);
	nvme_ctrl_resume(to.guest.ctrl);
	nvme_ctrl_resume(from.guest.ctrl);
	free(bytes);
}

static void close_both(void)
{
	rig_close(&from);
	rig_close(&to);
}

static void reservations_go_over_without_ptpl(void **state)
{
	struct nvme_registrant *reg;

	for (enum nvme_resv_type type = 1; type < NVME_RESV_TYPE_COUNT; type++) {
		open_both();
		register_host(&from, 0xaaaa, 1);
		reg = register_host(&from, 0xbbbb, 2);
		nvme_resv_take(from.ns, type, reg);
		from.ns->resv.generation = 12;
		hand_over();
		assert_int_equal(to.ns->resv.type, type);
		assert_int_equal(to.ns->resv.generation, 12);
		assert_int_equal(to.ns->resv.registrant_count, 2);
		assert_false(to.ns->resv.ptpl);
		reg = to.ns->resv.holder;
		assert_int_equal(reg ? reg->key : 0, nvme_resv_type_all(type) ? 0 : 0xbbbb);
		close_both();
	}
}

static void a_registrant_without_a_host_identifier_waits_for_its_controller(void **state)
{
	open_both();
	nvme_resv_take(from.ns, NVME_RESV_WRITE_EXCLUSIVE, register_host(&from, 0xcccc, 0));
	nvme_gates_update(from.ns);
	hand_over();
	assert_non_null(to.ns->resv.holder);
	assert_null(to.ns->resv.holder->ctrl);
	hand_over_controller();
	assert_ptr_equal(to.ns->resv.holder->ctrl, to.guest.ctrl);
	assert_int_equal(nvme_resv_gate(to.ns, to.guest.ctrl), 0);
	/* and goes with it */
	rig_guest_close(&to, &to.guest);
	to.guest.ctrl = NULL;
	assert_int_equal(to.ns->resv.registrant_count, 0);
	close_both();
}

static void what_lasts_until_the_daemon_ends_goes_over(void **state)
{
	open_both();
	from.ns->write_protect = NVME_WP_UNTIL_POWER_CYCLE;
	from.ns->detached = 1ull << 5;
	from.ns->resv.ptpl = true;
	assert_true(nvme_uncor_mark(&from.ns->uncor, 7, 3));
	atomic_store(&from.subsys->sanitize.state, NVME_SANITIZE_FAILED);
	from.subsys->sanitize.cdw10 = 2;
	hand_over();
	assert_int_equal(to.ns->write_protect, NVME_WP_UNTIL_POWER_CYCLE);
	assert_int_equal(to.ns->detached, 1ull << 5);
	assert_true(to.ns->resv.ptpl);
	assert_true(nvme_uncor_hits(&to.ns->uncor, 9, 1));
	assert_int_equal(nvme_sanitize_status(to.subsys), NVME_SC_SANITIZE_FAILED);
	/* what a state file said is replaced, not added to */
	from.ns->write_protect = NVME_WP_NONE;
	from.ns->resv.ptpl = false;
	nvme_uncor_clear_all(&from.ns->uncor);
	atomic_store(&from.subsys->sanitize.state, NVME_SANITIZE_NEVER);
	hand_over();
	assert_int_equal(to.ns->write_protect, NVME_WP_NONE);
	assert_false(to.ns->resv.ptpl || nvme_uncor_any(&to.ns->uncor));
	assert_int_equal(nvme_sanitize_status(to.subsys), NVME_SC_SUCCESS);
	close_both();
}

static void what_goes_on_is_not_handed_over(void **state)
{
	struct err err = { 0 };
	char *text;
	size_t len;

	open_both();
	from.ns->pins++;
	assert_false(nvme_subsys_is_quiet(from.subsys));
	assert_int_equal(nvme_subsys_pack(from.subsys, &text, &len, &err), -EBUSY);
	assert_string_equal(err.msg, "s0: namespace 1: a command goes on");
	assert_int_equal(nvme_subsys_hand_check(from.subsys, &err), 0); /* it will end */
	from.ns->pins--;
	atomic_store(&from.subsys->sanitize.state, NVME_SANITIZE_RUNNING);
	assert_true(nvme_subsys_is_quiet(from.subsys)); /* nobody waits for hours */
	assert_int_equal(nvme_subsys_pack(from.subsys, &text, &len, &err), -EBUSY);
	assert_string_equal(err.msg, "s0: Sanitize goes on; hand over when it has ended");
	assert_int_equal(nvme_subsys_hand_check(from.subsys, &err), -EBUSY);
	atomic_store(&from.subsys->sanitize.state, NVME_SANITIZE_NEVER);
	from.ns->managed = true;
	assert_int_equal(nvme_subsys_pack(from.subsys, &text, &len, &err), -EOPNOTSUPP);
	from.ns->managed = false;
	close_both();
}

static void each_broken_line_is_named(void **state)
{
#define HEAD "vhostd-nvme-live 1\n"
#define NS   "ns 1 UUID 0000000000000000 0\n"
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "", "state of s0: expected 'vhostd-nvme-live 1', got nothing" },
		{ "vhostd-nvme-subsys 1\nend\n", "line 1: expected 'vhostd-nvme-live 1'" },
		{ HEAD, "expected 'end' after line 1" },
		{ HEAD "resv 0 0\nend\n", "line 2: no such line before a namespace" },
		{ HEAD "subsystem x\nend\n", "line 2: expected 'subsystem AGE-MS'" },
		{ HEAD "ns 1 x 0 0\nend\n", "line 2: expected 'ns NSID UUID" },
		{ HEAD "ns 1 00000000-0000-0000-0000-000000000000 0 0\nend\n",
		  "line 2: this namespace is not configured now" },
		{ HEAD "ns 2 00000000-0000-0000-0000-000000000000 0 3\nend\n",
		  "line 2: expected 'ns NSID UUID" },
		{ HEAD "sanitize running 00000002 00000000 0\nend\n", "Sanitize goes on" },
		{ HEAD NS "hello\nend\n", "line 3: no such line" },
		{ HEAD NS "resv 2 0\nend\n", "line 3: expected 'resv PTPL GENERATION'" },
		{ HEAD NS "register 00 01\nend\n", "line 3: expected 'register KEY HOST'" },
		{ HEAD NS "register 000000000000aaaa controller-0\nend\n", "line 3: expected" },
		{ HEAD NS "register 000000000000aaaa controller-65\nend\n", "line 3: expected" },
		{ HEAD NS "register 000000000000aaaa controller-1x\nend\n", "line 3: expected" },
		{ HEAD NS "register 000000000000aaaa controller-1\n"
			  "register 000000000000bbbb controller-1\nend\n",
		  "line 4: registered twice" },
		{ HEAD NS "reserve 1 0\nend\n", "line 3: expected 'reserve TYPE" },
		{ HEAD NS "uncorrectable 1 0\nend\n", "line 3: expected 'uncorrectable" },
	};
	char uuid[40];

	open_both();
	nvme_uuid_text(to.ns->uuid, uuid);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *at = strstr(cases[i].text, "UUID");
		struct err err = { 0 };
		char text[512];

		snprintf(text, sizeof(text), "%.*s%s%s",
			 (int)(at ? at - cases[i].text : (long)strlen(cases[i].text)),
			 cases[i].text, at ? uuid : "", at ? at + 4 : "");
		assert_int_equal(nvme_subsys_unpack(to.subsys, text, strlen(text), &err), -EINVAL);
		if (!strstr(err.msg, cases[i].message))
			fail_msg("'%s' has not '%s'", err.msg, cases[i].message);
	}
	close_both();
}

static void text_cut_anywhere_is_refused(void **state)
{
	struct err err = { 0 };
	char *text;
	size_t len;

	open_both();
	nvme_resv_take(from.ns, NVME_RESV_WRITE_EXCLUSIVE, register_host(&from, 0xaaaa, 1));
	assert_int_equal(nvme_subsys_pack(from.subsys, &text, &len, &err), 0);
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(nvme_subsys_unpack(to.subsys, text, cut, &err), -EINVAL);
	assert_int_equal(nvme_subsys_unpack(to.subsys, text, len, &err), 0);
	rig_guest_open(&to, &to.guest);
	assert_int_equal(nvme_subsys_unpack(to.subsys, text, len, &err), -EINVAL);
	assert_string_equal(err.msg, "s0: the subsystem is in use");
	free(text);
	close_both();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reservations_go_over_without_ptpl),
		cmocka_unit_test(a_registrant_without_a_host_identifier_waits_for_its_controller),
		cmocka_unit_test(what_lasts_until_the_daemon_ends_goes_over),
		cmocka_unit_test(what_goes_on_is_not_handed_over),
		cmocka_unit_test(each_broken_line_is_named),
		cmocka_unit_test(text_cut_anywhere_is_refused),
	};

	return cmocka_run_group_tests_name("nvme live", tests, NULL, NULL);
}
