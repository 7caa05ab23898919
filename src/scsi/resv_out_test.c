/* Parameter lists of PERSISTENT RESERVE OUT: each wrong field by name, and those with names. */
#include "scsi/resv_rig.h"

static struct rig r;

/* A TransportID; its length. */
static size_t id_put(uint8_t *to, const char *name)
{
	return scsi_transport_id(name, to);
}

/* REGISTER with SPEC_I_PT; its length. */
static size_t list_spec(uint8_t *list, uint64_t sa_key, uint8_t flags, const char *const *names,
			size_t count)
{
	size_t len = 28;

	pr_list(list, 0, sa_key, LIST_SPEC_I_PT | flags);
	for (size_t i = 0; i < count; i++)
		len += id_put(list + len, names[i]);
	cdb_put32(list + 24, (uint32_t)(len - 28));
	return len;
}

/* REGISTER AND MOVE; its length. */
static size_t list_move(uint8_t *list, uint64_t key, uint64_t sa_key, uint8_t flags,
			const char *name)
{
	size_t len;

	memset(list, 0, 24);
	cdb_put64(list, key);
	cdb_put64(list + 8, sa_key);
	list[17] = flags;
	cdb_put16(list + 18, 1);
	len = id_put(list + 24, name);
	cdb_put32(list + 20, (uint32_t)len);
	return 24 + len;
}

#define MOVE_UNREG 0x02
#define MOVE_APTPL 0x01

/* ---- lengths ---- */

static void the_list_has_24_bytes(void **state)
{
	static const size_t wrong[] = { 0, 1, 8, 23, 25, 28, 48, 600 << 10 };
	uint8_t *list = calloc(1, 600 << 10);

	rig_open3(&r);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		pr_list(list, 0, KEY_A, 0);
		pr_out_list(&r, 0, RESV_SA_REGISTER, 0, list, wrong[i]);
		rig_assert_sense(&r, SCSI_CAUSE_PARAM_LIST_LENGTH);
		pr_out_list(&r, 0, RESV_SA_CLEAR, 0, list, wrong[i]);
		rig_assert_sense(&r, SCSI_CAUSE_PARAM_LIST_LENGTH);
	}
	KEYS(&r);
	rig_close(&r);
	free(list);
}

static void a_list_that_is_not_there_is_an_overrun(void **state)
{
	const uint8_t cdb[10] = { 0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0 };
	uint8_t list[23] = { 0 };

	rig_open3(&r);
	rig_finish(&r, rig_start(&r, cdb, sizeof(cdb), list, sizeof(list), 0));
	assert_int_equal(r.task.end, SCSI_END_OVERRUN);
	rig_close(&r);
}

/* ---- fields ---- */

static void scope_and_type_are_checked_after_the_key(void **state)
{
	static const uint8_t sas[] = { RESV_SA_RESERVE, RESV_SA_RELEASE };

	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	for (size_t i = 0; i < ARRAY_SIZE(sas); i++) {
		CONFLICT(pr_out(&r, 0, sas[i], 0x10 | RESV_WE, KEY_B, 0));
		pr_out(&r, 0, sas[i], 0x10 | RESV_WE, KEY_A, 0);
		rig_assert_field(&r, true, 2);
		assert_int_equal(r.task.sense[15] & 0xf, 8 | 7);
		for (uint8_t type = 0; type < 16; type++) {
			if (resv_type_valid(type))
				continue;
			pr_out(&r, 0, sas[i], type, KEY_A, 0);
			rig_assert_field(&r, true, 2);
			assert_int_equal(r.task.sense[15] & 0xf, 8 | 3);
		}
	}
	assert_reserved(&r, 0, 0);
	rig_close(&r);
}

static void preempt_of_a_reservation_checks_scope_and_type(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	pr_out(&r, 1, RESV_SA_PREEMPT, 0x20 | RESV_WE, KEY_B, KEY_A);
	rig_assert_field(&r, true, 2);
	pr_out(&r, 1, RESV_SA_PREEMPT, 2, KEY_B, KEY_A);
	rig_assert_field(&r, true, 2);
	KEYS(&r, KEY_A, KEY_B);
	rig_close(&r);
}

static void preempt_needs_a_key(void **state)
{
	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	pr_out(&r, 0, RESV_SA_PREEMPT, RESV_WE, KEY_A, 0);
	rig_assert_field(&r, false, 8);
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	pr_out(&r, 0, RESV_SA_PREEMPT, RESV_WE, KEY_A, 0);
	rig_assert_field(&r, false, 8);
	CONFLICT(pr_out(&r, 0, RESV_SA_PREEMPT, RESV_WE, KEY_A, KEY_C));
	rig_close(&r);
}

static void service_actions_that_are_none_are_refused(void **state)
{
	rig_open3(&r);
	for (uint8_t sa = RESV_SA_COUNT; sa < 32; sa++) {
		pr_out(&r, 0, sa, 0, 0, KEY_A);
		rig_assert_field(&r, true, 1);
	}
	for (uint8_t sa = 4; sa < 32; sa++) {
		pr_in(&r, 0, sa, 64);
		rig_assert_field(&r, true, 1);
	}
	rig_close(&r);
}

static void aptpl_needs_a_state_file(void **state)
{
	uint8_t list[256];

	rig_open3(&r);
	pr_list(list, 0, KEY_A, LIST_APTPL);
	pr_out_list(&r, 0, RESV_SA_REGISTER, 0, list, 24);
	rig_assert_field(&r, false, 20);
	assert_int_equal(r.task.sense[15] & 0xf, 8 | 0);
	pr_out_list(&r, 0, RESV_SA_REGISTER_IGNORE, 0, list, 24);
	rig_assert_field(&r, false, 20);
	pr_out_list(&r, 0, RESV_SA_MOVE, 0, list,
		    list_move(list, KEY_A, KEY_B, MOVE_APTPL, NAME_B));
	rig_assert_field(&r, false, 17);
	/* the others do not look at it */
	GOOD(pr_register(&r, 0, KEY_A));
	pr_list(list, KEY_A, 0, LIST_APTPL);
	GOOD(pr_out_list(&r, 0, RESV_SA_RESERVE, RESV_WE, list, 24));
	rig_close(&r);
}

/* ---- SPEC_I_PT ---- */

static void names_are_registered_with_the_same_key(void **state)
{
	static const char *const names[] = { NAME_B, "iqn.2026-01.test:later" };
	uint8_t list[256];
	size_t len;

	rig_open3(&r);
	len = list_spec(list, KEY_A, 0, names, 2);
	GOOD(pr_out_list(&r, 0, RESV_SA_REGISTER, 0, list, len));
	assert_int_equal(pr_generation(&r), 1);
	KEYS(&r, KEY_A, KEY_A, KEY_A);
	GOOD(pr_out(&r, 1, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	GOOD(pr_out(&r, 1, RESV_SA_REGISTER, 0, KEY_A, 0));
	rig_nexus_add(&r, names[1]); /* it is registered when it comes */
	GOOD(pr_out(&r, 3, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	rig_close(&r);
}

static void spec_i_pt_is_for_register_of_a_new_one(void **state)
{
	static const char *const names[] = { NAME_B };
	uint8_t list[256];
	size_t len;

	rig_open3(&r);
	len = list_spec(list, KEY_A, 0, names, 1);
	for (uint8_t sa = RESV_SA_RESERVE; sa < RESV_SA_MOVE; sa++) {
		pr_out_list(&r, 0, sa, RESV_WE, list, len);
		rig_assert_field(&r, false, 20);
		assert_int_equal(r.task.sense[15] & 0xf, 8 | 3);
	}
	GOOD(pr_register(&r, 0, KEY_A));
	cdb_put64(list, KEY_A);
	pr_out_list(&r, 0, RESV_SA_REGISTER, 0, list, len);
	rig_assert_field(&r, false, 20);
	KEYS(&r, KEY_A);
	rig_close(&r);
}

static void a_wrong_name_registers_nobody(void **state)
{
	static const char *const taken[] = { NAME_B, NAME_C }, *const own[] = { NAME_B, NAME_A };
	uint8_t list[256];
	size_t len;

	rig_open3(&r);
	GOOD(pr_register(&r, 2, KEY_C));
	len = list_spec(list, KEY_A, 0, taken, 2);
	CONFLICT(pr_out_list(&r, 0, RESV_SA_REGISTER, 0, list, len));
	len = list_spec(list, KEY_A, 0, own, 2);
	pr_out_list(&r, 0, RESV_SA_REGISTER, 0, list, len);
	rig_assert_field(&r, false, 28 + 24);
	KEYS(&r, KEY_C);
	assert_int_equal(pr_generation(&r), 1);
	rig_close(&r);
}

static void each_part_of_a_transport_id_is_checked(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
		const char *what;
	} cases[] = {
		{ 28, 0x45, "format 1" },
		{ 28, 0x00, "Fibre Channel" },
		{ 28 + 3, 16, "shorter than 20" },
		{ 28 + 3, 22, "no multiple of 4" },
		{ 28 + 3, 24, "longer than the list" },
		{ 28 + 2, 0xff, "much longer than the list" },
		{ 28 + 4, 0, "no name" },
		{ 28 + 23, 'x', "not terminated" },
	};
	static const char *const names[] = { "iqn.2026-01.test:12" };
	uint8_t list[256];
	size_t len;

	rig_open3(&r);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		print_message("  %s\n", cases[i].what);
		len = list_spec(list, KEY_A, 0, names, 1);
		assert_int_equal(len, 28 + 24);
		list[cases[i].at] = cases[i].value;
		pr_out_list(&r, 0, RESV_SA_REGISTER, 0, list, len);
		rig_assert_field(&r, false, 28);
	}
	len = list_spec(list, KEY_A, 0, names, 1);
	list[27]--;
	pr_out_list(&r, 0, RESV_SA_REGISTER, 0, list, len);
	rig_assert_field(&r, false, 24);
	pr_out_list(&r, 0, RESV_SA_REGISTER, 0, list, 27);
	rig_assert_sense(&r, SCSI_CAUSE_PARAM_LIST_LENGTH);
	KEYS(&r);
	rig_close(&r);
}

static void a_name_may_be_too_long(void **state)
{
	char name[SCSI_NAME_MAX + 2];
	const char *found;
	uint8_t id[300] = { 0x05, 0, 0, 228 };

	memset(name, 'n', sizeof(name));
	memcpy(id + 4, name, SCSI_NAME_MAX);
	assert_int_equal(resv_transport_id(id, 0, sizeof(id), &found), 232);
	memcpy(id + 4, name, SCSI_NAME_MAX + 1);
	assert_int_equal(resv_transport_id(id, 0, sizeof(id), &found), 0);
	for (size_t end = 0; end < 232; end++)
		assert_int_equal(resv_transport_id(id, 0, end, &found), 0);
}

static void too_many_names_are_too_many_registrations(void **state)
{
	uint8_t *list = calloc(1, 64 << 10);
	char name[32];
	size_t len = 28;

	rig_open3(&r);
	pr_list(list, 0, KEY_A, LIST_SPEC_I_PT);
	for (int i = 0; i < RESV_REGISTRATIONS_MAX; i++) {
		snprintf(name, sizeof(name), "iqn.2026-01.more:%d", i);
		len += id_put(list + len, name);
	}
	cdb_put32(list + 24, (uint32_t)(len - 28));
	pr_out_list(&r, 0, RESV_SA_REGISTER, 0, list, len);
	rig_assert_sense(&r, SCSI_CAUSE_REGISTRATION_RESOURCES);
	KEYS(&r);
	rig_close(&r);
	free(list);
}

/* ---- ALL_TG_PT: the same unit on a second host ---- */

struct port {
	struct scsi_host *host;
	struct scsi_nexus *nexus;
	struct scsi_queue *queue;
};

static void port_open(struct port *p, const char *host, const char *initiator)
{
	struct err err = { 0 };

	assert_int_equal(scsi_host_new(host, &p->host, &err), 0);
	assert_int_equal(scsi_host_attach(p->host, 0, 0, r.lu[0], &err), 0);
	assert_int_equal(scsi_nexus_open(p->host, initiator, rig_on_event, &r, &p->nexus, &err), 0);
	assert_int_equal(scsi_queue_open(p->nexus, r.loop, &p->queue, &err), 0);
	rig_ua_clear_all(&r);
}

static void port_close(struct port *p)
{
	scsi_queue_close(p->queue);
	scsi_nexus_close(p->nexus);
	scsi_host_unref(p->host);
}

/* The commands of nexus 3 come on this port. */
static void port_use(struct port *p)
{
	r.nexus[3] = p->nexus;
	r.queue[3] = p->queue;
}

static void each_port_has_its_own_registration(void **state)
{
	struct port port;

	rig_open3(&r);
	port_open(&port, "other", NAME_A);
	port_use(&port);
	GOOD(pr_register(&r, 0, KEY_A));
	CONFLICT(pr_out(&r, 3, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	GOOD(pr_register(&r, 3, KEY_B));
	KEYS(&r, KEY_A, KEY_B);
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	CONFLICT(do_write(&r, 3));
	port_close(&port);
	rig_close(&r);
}

static void all_ports_are_registered_also_those_that_come_later(void **state)
{
	struct port port, later;
	uint8_t list[24];

	rig_open3(&r);
	port_open(&port, "other", NAME_A);
	pr_list(list, 0, KEY_A, LIST_ALL_TG_PT);
	GOOD(pr_out_list(&r, 0, RESV_SA_REGISTER, 0, list, 24));
	KEYS(&r, KEY_A, KEY_A);
	port_open(&later, "later", NAME_A);
	KEYS(&r, KEY_A, KEY_A, KEY_A);
	port_use(&later);
	GOOD(pr_out(&r, 3, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	GOOD(pr_out(&r, 3, RESV_SA_REGISTER, 0, KEY_A, KEY_C)); /* this one only */
	KEYS(&r, KEY_A, KEY_A, KEY_C);
	pr_list(list, KEY_A, KEY_B, LIST_ALL_TG_PT);
	GOOD(pr_out_list(&r, 0, RESV_SA_REGISTER, 0, list, 24));
	KEYS(&r, KEY_B, KEY_B, KEY_C);
	pr_list(list, KEY_B, 0, LIST_ALL_TG_PT);
	GOOD(pr_out_list(&r, 0, RESV_SA_REGISTER, 0, list, 24));
	KEYS(&r, KEY_C);
	port_close(&later);
	port_open(&later, "latest", NAME_A); /* not any more */
	KEYS(&r, KEY_C);
	port_close(&later);
	port_close(&port);
	rig_close(&r);
}

static void a_port_that_is_registered_already_is_a_conflict(void **state)
{
	struct port port;
	uint8_t list[24];

	rig_open3(&r);
	port_open(&port, "other", NAME_A);
	port_use(&port);
	GOOD(pr_register(&r, 3, KEY_C));
	pr_list(list, 0, KEY_A, LIST_ALL_TG_PT);
	CONFLICT(pr_out_list(&r, 0, RESV_SA_REGISTER, 0, list, 24));
	r.nexus_idx = 0;
	KEYS(&r, KEY_C);
	GOOD(pr_out_list(&r, 0, RESV_SA_REGISTER_IGNORE, 0, list, 24));
	KEYS(&r, KEY_A, KEY_A);
	port_close(&port);
	rig_close(&r);
}

/* ---- REGISTER AND MOVE ---- */

static void move_registers_and_moves(void **state)
{
	uint8_t list[256];
	size_t len;

	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	len = list_move(list, KEY_A, KEY_B, 0, NAME_B);
	GOOD(pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, len));
	KEYS(&r, KEY_A, KEY_B);
	assert_reserved(&r, RESV_WE, KEY_B);
	assert_int_equal(pr_generation(&r), 2);
	GOOD(do_tur(&r, 0));
	GOOD(do_tur(&r, 1));
	GOOD(do_write(&r, 1));
	CONFLICT(do_write(&r, 0));
	rig_close(&r);
}

static void move_can_unregister_the_source_and_changes_the_key_of_the_destination(void **state)
{
	uint8_t list[256];
	size_t len;

	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_EA_RO, KEY_A, 0));
	len = list_move(list, KEY_A, KEY_C, MOVE_UNREG, NAME_B);
	GOOD(pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, len));
	KEYS(&r, KEY_C);
	GOOD(do_tur(&r, 1));
	assert_reserved(&r, RESV_EA_RO, KEY_C);
	CONFLICT(do_read(&r, 0));
	rig_close(&r);
}

static void move_reaches_who_is_on_another_host(void **state)
{
	struct port port;
	uint8_t list[256];
	size_t len;

	rig_open3(&r);
	port_open(&port, "other", "iqn.2026-01.test:far");
	port_use(&port);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	len = list_move(list, KEY_A, KEY_C, 0, "iqn.2026-01.test:far");
	GOOD(pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, len));
	GOOD(do_write(&r, 3));
	CONFLICT(do_write(&r, 0));
	port_close(&port);
	rig_close(&r);
}

static void move_is_for_the_holder_of_one(void **state)
{
	uint8_t list[256];
	size_t len = list_move(list, KEY_A, KEY_C, 0, NAME_C);

	rig_open3(&r);
	CONFLICT(pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, len));
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_register(&r, 1, KEY_B));
	pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, len); /* there is no reservation */
	rig_assert_field(&r, true, 1);
	GOOD(pr_out(&r, 1, RESV_SA_RESERVE, RESV_WE, KEY_B, 0));
	pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, len);
	rig_assert_field(&r, true, 1);
	GOOD(pr_out(&r, 1, RESV_SA_RELEASE, RESV_WE, KEY_B, 0));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE_AR, KEY_A, 0));
	CONFLICT(pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, len));
	cdb_put64(list, KEY_B);
	CONFLICT(pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, len));
	rig_close(&r);
}

static void each_field_of_move_is_checked(void **state)
{
	uint8_t list[256];
	size_t len;

	rig_open3(&r);
	GOOD(pr_register(&r, 0, KEY_A));
	GOOD(pr_out(&r, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	len = list_move(list, KEY_A, 0, 0, NAME_B);
	pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, len);
	rig_assert_field(&r, false, 8);
	len = list_move(list, KEY_A, KEY_B, 0, NAME_B);
	list[19] = 2;
	pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, len);
	rig_assert_field(&r, false, 18);
	len = list_move(list, KEY_A, KEY_B, 0, NAME_B);
	list[23] += 4;
	pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, len);
	rig_assert_field(&r, false, 20);
	pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, 24);
	rig_assert_field(&r, false, 20);
	pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, 23);
	rig_assert_sense(&r, SCSI_CAUSE_PARAM_LIST_LENGTH);
	len = list_move(list, KEY_A, KEY_B, 0, NAME_B);
	list[24] = 0x06;
	pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, len);
	rig_assert_field(&r, false, 24);
	len = list_move(list, KEY_A, KEY_B, 0, NAME_B); /* two names */
	len += id_put(list + len, NAME_C);
	cdb_put32(list + 20, (uint32_t)(len - 24));
	pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, len);
	rig_assert_field(&r, false, 20);
	len = list_move(list, KEY_A, KEY_B, 0, NAME_A); /* itself */
	pr_out_list(&r, 0, RESV_SA_MOVE, 0, list, len);
	rig_assert_field(&r, false, 24);
	KEYS(&r, KEY_A);
	assert_reserved(&r, RESV_WE, KEY_A);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_list_has_24_bytes),
		cmocka_unit_test(a_list_that_is_not_there_is_an_overrun),
		cmocka_unit_test(scope_and_type_are_checked_after_the_key),
		cmocka_unit_test(preempt_of_a_reservation_checks_scope_and_type),
		cmocka_unit_test(preempt_needs_a_key),
		cmocka_unit_test(service_actions_that_are_none_are_refused),
		cmocka_unit_test(aptpl_needs_a_state_file),
		cmocka_unit_test(names_are_registered_with_the_same_key),
		cmocka_unit_test(spec_i_pt_is_for_register_of_a_new_one),
		cmocka_unit_test(a_wrong_name_registers_nobody),
		cmocka_unit_test(each_part_of_a_transport_id_is_checked),
		cmocka_unit_test(a_name_may_be_too_long),
		cmocka_unit_test(too_many_names_are_too_many_registrations),
		cmocka_unit_test(each_port_has_its_own_registration),
		cmocka_unit_test(all_ports_are_registered_also_those_that_come_later),
		cmocka_unit_test(a_port_that_is_registered_already_is_a_conflict),
		cmocka_unit_test(move_registers_and_moves),
		cmocka_unit_test(
			move_can_unregister_the_source_and_changes_the_key_of_the_destination),
		cmocka_unit_test(move_reaches_who_is_on_another_host),
		cmocka_unit_test(move_is_for_the_holder_of_one),
		cmocka_unit_test(each_field_of_move_is_checked),
	};

	return cmocka_run_group_tests_name("scsi resv out", tests, NULL, NULL);
}
