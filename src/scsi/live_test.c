/* A unit's state from one process to another: pack, unpack, and the same answers. */
#include <errno.h>

#include "scsi/copy_rig.h"
#include "scsi/resv_rig.h"

#include "base/text.h"

static struct rig from, to;

static void open_both(const char *params)
{
	rig_init(&from);
	rig_lu_add(&from, "ram", params);
	rig_nexus_add(&from, NAME_A);
	rig_nexus_add(&from, NAME_B);
	rig_init(&to);
	rig_lu_add(&to, "ram", params);
}

static void pack(char **ret_text, size_t *ret_len)
{
	struct err err = { 0 };

	if (scsi_lu_pack(from.lu[0], ret_text, ret_len, &err))
		fail_msg("%s", err.msg);
}

/* The unit of `from` goes over to that of `to`, and then its nexuses. */
static void hand_over(void)
{
	struct err err = { 0 };
	char *text, *again;
	size_t len, again_len;

	pack(&text, &len);
	if (scsi_lu_unpack(to.lu[0], text, len, &err))
		fail_msg("%s\n%s", err.msg, text);
	to.keep_ua = true;
	rig_nexus_add(&to, NAME_A);
	rig_nexus_add(&to, NAME_B);
	assert_true(list_empty(&to.lu[0]->expected));
	/* What it would hand on is what it got. */
	assert_int_equal(scsi_lu_pack(to.lu[0], &again, &again_len, &err), 0);
	assert_string_equal(again, text);
	free(text);
	free(again);
}

static void close_both(void)
{
	rig_close(&from);
	rig_close(&to);
}

static void reservations_go_over_without_aptpl(void **state)
{
	for (uint8_t type = RESV_WE; type <= RESV_EA_AR; type++) {
		if (!resv_type_valid(type))
			continue;
		open_both("size=1M");
		GOOD(pr_register(&from, 0, KEY_A));
		GOOD(pr_register(&from, 1, KEY_B));
		GOOD(pr_out(&from, 1, RESV_SA_RESERVE, type, KEY_B, 0));
		hand_over();
		assert_reserved(&to, type, type >= RESV_WE_AR ? 0 : KEY_B);
		KEYS(&to, KEY_A, KEY_B);
		assert_int_equal(pr_generation(&to), 2);
		GOOD(pr_in(&to, 0, 2, 8));
		assert_int_equal(to.in[3] & 0x01, 0); /* PTPL_A */
		GOOD(do_write(&to, 1));
		assert_int_equal(do_write(&to, 0),
				 resv_type_shared(type) ? SCSI_GOOD : SCSI_RESERVATION_CONFLICT);
		rig_nexus_add(&to, NAME_C);
		CONFLICT(do_write(&to, 2));
		close_both();
	}
}

static void a_nexus_finds_its_unit_attentions_and_no_new_one(void **state)
{
	open_both("size=1M");
	GOOD(do_tur(&from, 0));
	pthread_mutex_lock(&from.lu[0]->lock);
	scsi_ua_add_others(from.lu[0], NULL, SCSI_UA_CAPACITY_CHANGED);
	pthread_mutex_unlock(&from.lu[0]->lock);
	assert_ua(&from, 0, SCSI_UA_CAPACITY_CHANGED);
	hand_over();
	GOOD(do_tur(&to, 0));
	assert_ua(&to, 1, SCSI_UA_CAPACITY_CHANGED);
	/* one that comes anew hears of it */
	rig_nexus_add(&to, NAME_C);
	assert_ua(&to, 2, SCSI_UA_POWER_ON);
	close_both();
}

static void the_reservation_of_spc_2_stays_with_its_nexus(void **state)
{
	open_both("size=1M");
	from.nexus_idx = 0;
	GOOD(rig_cdb(&from, NULL, 0, 0, 0x16, 0, 0, 0, 0, 0));
	hand_over();
	GOOD(do_write(&to, 0));
	CONFLICT(do_write(&to, 1));
	to.nexus_idx = 0;
	GOOD(rig_cdb(&to, NULL, 0, 0, 0x17, 0, 0, 0, 0, 0));
	GOOD(do_write(&to, 1));
	close_both();
}

static void mode_pages_that_are_not_saved_go_over(void **state)
{
	/* MODE SELECT(6) without SP: control page, D_SENSE and SWP */
	static const uint8_t list[16] = { 0,	0,    0, 0, 0x0a, 0x0a, 0x06,
					  0x10, 0x08, 0, 0, 0,	  0xff, 0xff };

	open_both("size=1M");
	from.nexus_idx = 0;
	GOOD(rig_cdb(&from, list, sizeof(list), 0, 0x15, 0x10, 0, 0, sizeof(list), 0));
	hand_over();
	assert_true(to.lu[0]->mode.d_sense);
	assert_int_equal(do_tur(&to, 1), SCSI_CHECK_CONDITION); /* MODE PARAMETERS CHANGED */
	assert_int_equal(to.task.sense[0], 0x72);
	assert_int_equal(do_write(&to, 0), SCSI_CHECK_CONDITION);
	assert_int_equal(to.task.sense[1], 7);
	pthread_mutex_lock(&to.lu[0]->lock);
	scsi_mode_reset(to.lu[0]);
	pthread_mutex_unlock(&to.lu[0]->lock);
	GOOD(do_write(&to, 0));
	close_both();
}

static void a_stopped_unit_in_standby_stays_so(void **state)
{
	open_both("size=1M");
	from.nexus_idx = 0;
	GOOD(rig_cdb(&from, NULL, 0, 0, 0x1b, 0, 0, 0, 0, 0));
	GOOD(rig_cdb(&from, NULL, 0, 0, 0x1e, 0, 0, 0, 1, 0)); /* PREVENT */
	pthread_mutex_lock(&from.lu[0]->lock);
	from.lu[0]->alua_state = 2;
	from.lu[0]->alua_status = 1;
	from.lu[0]->sanitize_failed = from.lu[0]->sanitize_ause = true;
	scsi_lu_gates_update(from.lu[0]);
	pthread_mutex_unlock(&from.lu[0]->lock);
	hand_over();
	assert_true(to.lu[0]->stopped && to.lu[0]->sanitize_failed && to.lu[0]->sanitize_ause);
	assert_int_equal(do_read(&to, 0), SCSI_CHECK_CONDITION);
	rig_assert_sense(&to, SCSI_CAUSE_STANDBY);
	close_both();
}

static uint64_t still_clock_ns(void)
{
	return 1000000000000ull;
}

static void tokens_go_over_with_what_is_left_of_their_time(void **state)
{
	uint8_t list[32] = { [1] = 30, [15] = 16 }, token[COPY_TOKEN_BYTES];

	token_clock_set(still_clock_ns);
	open_both("size=1M");
	from.nexus_idx = 0;
	cdb_put32(list + 4, 100); /* INACTIVITY TIMEOUT */
	cdb_put64(list + 16, 8);
	cdb_put32(list + 24, 4);
	/* POPULATE TOKEN, list identifier 1 */
	GOOD(rig_cdb(&from, list, sizeof(list), 0, 0x83, 0x10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
		     sizeof(list), 0, 0));
	hand_over();
	/* Its result too: RECEIVE ROD TOKEN INFORMATION, on the other side. */
	to.nexus_idx = 0;
	GOOD(rig_cdb(&to, NULL, 0, 2048, 0x84, 0x07, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0));
	assert_int_equal(cdb_u32(to.in + 32), 2 + COPY_TOKEN_BYTES);
	memcpy(token, to.in + 38, sizeof(token));
	assert_int_equal(to.lu[0]->token_count, 1);
	/* a write to its blocks cancels it */
	GOOD(rig_cdb(&to, token, 512, 0, 0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0));
	assert_int_equal(to.lu[0]->token_count, 0);
	close_both();
	token_clock_set(NULL);
}

static void a_copy_that_failed_can_still_be_asked_for(void **state)
{
	static const char line[] = "copy 77 0 0 2 2 1 1 241 12 0 700005 -";
	struct err err = { 0 };
	char text[512];

	open_both("size=1M");
	snprintf(text, sizeof(text),
		 "vhostd-scsi-live 1\nnexus 00000000 0 0 0 0 " NAME_A " host\n%s\nend\n", line);
	assert_int_equal(scsi_lu_unpack(to.lu[0], text, strlen(text), &err), 0);
	rig_nexus_add(&to, NAME_A);
	rig_nexus_add(&to, NAME_B);
	to.nexus_idx = 0;
	/* RECEIVE COPY STATUS (LID4) */
	GOOD(rig_cdb(&to, NULL, 0, 512, 0x84, 0x05, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0));
	assert_int_equal(to.in[5], 2);
	assert_int_equal(to.in[14], 3);
	assert_memory_equal(to.in + 32, "\x70\x00\x05", 3);
	to.nexus_idx = 1;
	assert_int_equal(
		rig_cdb(&to, NULL, 0, 512, 0x84, 0x05, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0),
		SCSI_CHECK_CONDITION);
	close_both();
}

static void what_goes_on_is_not_handed_over(void **state)
{
	struct err err = { 0 };
	char *text;
	size_t len;

	open_both("size=1M");
	from.lu[0]->sanitize_running = true;
	assert_int_equal(scsi_lu_pack(from.lu[0], &text, &len, &err), -EBUSY);
	assert_string_equal(err.msg, "lu0: SANITIZE goes on; hand over when it has ended");
	assert_true(scsi_lu_is_quiet(from.lu[0])); /* nobody waits for hours */
	from.lu[0]->sanitize_running = false;
	from.lu[0]->background_count = 1;
	assert_false(scsi_lu_is_quiet(from.lu[0]));
	assert_int_equal(scsi_lu_pack(from.lu[0], &text, &len, &err), -EBUSY);
	from.lu[0]->background_count = 0;
	close_both();
}

static void a_nexus_that_never_comes_is_forgotten_with_the_unit(void **state)
{
	struct err err = { 0 };
	char *text;
	size_t len;

	open_both("size=1M");
	pack(&text, &len);
	assert_int_equal(scsi_lu_unpack(to.lu[0], text, len, &err), 0);
	assert_false(list_empty(&to.lu[0]->expected));
	/* twice is a mistake */
	assert_int_equal(scsi_lu_unpack(to.lu[0], text, len, &err), -EINVAL);
	free(text);
	close_both();
}

/* ---- text that lies ---- */

static int unpack_text(const char *text, size_t len, struct err *reterr)
{
	int rc;

	rig_init(&to);
	rig_lu_add(&to, "ram", "size=1M");
	rc = scsi_lu_unpack(to.lu[0], text, len, reterr);
	rig_close(&to);
	return rc;
}

static void each_broken_line_is_named(void **state)
{
#define HEAD  "vhostd-scsi-live 1\n"
#define NEXUS "nexus 00000000 0 0 0 0 iqn.a host\n"
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "", "state of lu0: expected 'vhostd-scsi-live 1', got nothing" },
		{ "vhostd-scsi-state 1\nend\n", "line 1: expected 'vhostd-scsi-live 1'" },
		{ HEAD, "expected 'end' after line 1" },
		{ HEAD "hello\nend\n", "line 2: no such line, got 'hello'" },
		{ HEAD "unit 0 0 0 0 0\nend\n", "line 2: expected 'unit STOPPED" },
		{ HEAD "unit 0 0 4 0 0 0\nend\n", "line 2: expected 'unit STOPPED" },
		{ HEAD "unit 2 0 0 0 0 0\nend\n", "line 2: expected 'unit STOPPED" },
		{ HEAD "resv 2 0\nend\n", "line 2: expected 'resv APTPL GENERATION'" },
		{ HEAD "nexus 00000000 0 0 0 0 iqn.a\nend\n", "line 2: expected 'nexus UAS" },
		{ HEAD "nexus 00000000 0 0 256 0 iqn.a h\nend\n", "line 2: expected 'nexus" },
		{ HEAD "nexus 00000000 0 0 0 16384 iqn.a h\nend\n", "line 2: expected 'nexus" },
		{ HEAD "nexus ffffffff 0 0 0 0 iqn.a h\nend\n", "line 2: expected 'nexus UAS" },
		{ HEAD "mode-current 77 00 00\nend\n", "line 2: no mode page of this unit" },
		{ HEAD "copy 77 0 0 2 2 1 1 241 12 0 - -\nend\n", "expected a nexus before it" },
		{ HEAD NEXUS "copy 77 0 0 2 2 1 1 241 12 0 7 -\nend\n", "line 3: expected 'copy" },
		{ HEAD NEXUS "copy 77 0 0 2 2 1 1 241 12 0 - 00\nend\n", "line 3: expected 'copy" },
		{ HEAD NEXUS "copy 77 0 0 2 2 1 1 241 12 4 - -\nend\n", "line 3: expected 'copy" },
		{ HEAD "token 0 1 1 00 0\nend\n", "line 2: expected 'token STATE" },
		{ HEAD "token 4 1 1 00 0\nend\n", "line 2: expected 'token STATE" },
		{ HEAD "token 0 2 1 00 0\nend\n", "line 2: expected 'token STATE" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = { 0 };

		assert_int_equal(unpack_text(cases[i].text, strlen(cases[i].text), &err), -EINVAL);
		if (!strstr(err.msg, cases[i].message))
			fail_msg("'%s' has not '%s'", err.msg, cases[i].message);
	}
}

static void text_cut_anywhere_is_refused(void **state)
{
	struct err err = { 0 };
	char *text;
	size_t len;

	rig_open3(&from);
	GOOD(pr_register(&from, 0, KEY_A));
	GOOD(pr_out(&from, 0, RESV_SA_RESERVE, RESV_WE, KEY_A, 0));
	pack(&text, &len);
	rig_close(&from);
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(unpack_text(text, cut, &err), -EINVAL);
	assert_int_equal(unpack_text(text, len, &err), 0);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reservations_go_over_without_aptpl),
		cmocka_unit_test(a_nexus_finds_its_unit_attentions_and_no_new_one),
		cmocka_unit_test(the_reservation_of_spc_2_stays_with_its_nexus),
		cmocka_unit_test(mode_pages_that_are_not_saved_go_over),
		cmocka_unit_test(a_stopped_unit_in_standby_stays_so),
		cmocka_unit_test(tokens_go_over_with_what_is_left_of_their_time),
		cmocka_unit_test(a_copy_that_failed_can_still_be_asked_for),
		cmocka_unit_test(what_goes_on_is_not_handed_over),
		cmocka_unit_test(a_nexus_that_never_comes_is_forgotten_with_the_unit),
		cmocka_unit_test(each_broken_line_is_named),
		cmocka_unit_test(text_cut_anywhere_is_refused),
	};

	return cmocka_run_group_tests_name("scsi live", tests, NULL, NULL);
}
