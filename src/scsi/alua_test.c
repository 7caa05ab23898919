#include "scsi/reply_rig.h"

#define REPORT(r, format)  RUN(r, 0xa3, (format) << 5 | 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0)
#define SET(r, list, len)  RUN_OUT(r, list, 0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, len, 0, 0)
#define TEST_UNIT_READY(r) RUN(r, 0x00, 0, 0, 0, 0, 0)
#define PORT		   "00 01 0000 0001"

static void the_group_is_reported_in_both_formats(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	REPORT(&r, 0);
	assert_dump(&r, "0000000c  00 0f 0001 00 00" PORT);
	REPORT(&r, 1);
	assert_dump(&r, "00000010  10 00 0000  00 0f 0001 00 00" PORT);
	REPORT(&r, 2);
	assert_bad_cdb(&r, 1, 7);
	REPORT(&r, 7);
	assert_bad_cdb(&r, 1, 7);
	RUN(&r, 0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0);
	assert_dump(&r, "0000000c");
	rig_close(&r);
}

static void each_state_can_be_set_and_lets_through_what_it_should(void **state)
{
	static const struct {
		const char *list, *dump;
		uint8_t ascq; /* of NOT READY, 0: ready */
	} states[] = {
		{ "00000000 01 00 0001", "0000000c  01 0f 0001 00 01" PORT, 0 },
		{ "00000000 02 00 0001", "0000000c  02 0f 0001 00 01" PORT, 0x0b },
		{ "00000000 03 00 0001", "0000000c  03 0f 0001 00 01" PORT, 0x0c },
		{ "00000000 00 00 0001", "0000000c  00 0f 0001 00 01" PORT, 0 },
	};
	struct rig r;

	reply_open(&r, "size=1M");
	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		SET(&r, states[i].list, 8);
		assert_good(&r);
		REPORT(&r, 0);
		assert_dump(&r, states[i].dump);
		RUN(&r, 0x12, 0, 0, 0, 4, 0);
		assert_good(&r);
		TEST_UNIT_READY(&r);
		if (states[i].ascq)
			assert_check(&r, 0x2, 0x04, states[i].ascq);
		else
			assert_good(&r);
	}
	rig_close(&r);
}

static void standby_lets_management_through_and_unavailable_does_not(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	SET(&r, "00000000 02 00 0001", 8);
	RUN(&r, 0x1a, 0, 0x0a, 0, 4, 0);
	assert_good(&r);
	RUN(&r, 0x4d, 0, 0x40, 0, 0, 0, 0, 0, 4, 0);
	assert_good(&r);
	RUN(&r, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	assert_check(&r, 0x2, 0x04, 0x0b);
	SET(&r, "00000000 03 00 0001", 8);
	RUN(&r, 0x1a, 0, 0x0a, 0, 4, 0);
	assert_check(&r, 0x2, 0x04, 0x0c);
	RUN(&r, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0);
	assert_good(&r);
	RUN(&r, 0x03, 0, 0, 0, 18, 0);
	assert_good(&r);
	rig_close(&r);
}

static void a_new_state_is_told_to_the_others(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	SET(&r, "00000000 00 00 0001", 8); /* as it is */
	assert_good(&r);
	assert_int_equal(r.events, 0);
	SET(&r, "00000000 01 00 0001", 8);
	assert_good(&r);
	TEST_UNIT_READY(&r);
	assert_good(&r);
	r.nexus_idx = 1;
	TEST_UNIT_READY(&r);
	assert_check(&r, 0x6, 0x2a, 0x06);
	TEST_UNIT_READY(&r);
	assert_good(&r);
	rig_close(&r);
}

static void wrong_lists_change_nothing(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	SET(&r, "00000000 0e 00 0001", 8); /* offline */
	assert_bad_list(&r, 4, 3);
	SET(&r, "00000000 0f 00 0001", 8); /* transitioning */
	assert_bad_list(&r, 4, 3);
	SET(&r, "00000000 01 00 0000", 8);
	assert_bad_list(&r, 6, -1);
	SET(&r, "00000000 01 00 0002", 8);
	assert_bad_list(&r, 6, -1);
	SET(&r, "00000000 01 00 0001 02 00 0001", 12);
	assert_check(&r, 0x5, 0x1a, 0x00);
	SET(&r, "00000000 01 00 00", 7);
	assert_check(&r, 0x5, 0x1a, 0x00);
	RUN_OUT(&r, "00000000", 0xa4, 0x0a, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0);
	assert_check(&r, 0x5, 0x1a, 0x00);
	SET(&r, "00000000", 4);
	assert_good(&r);
	SET(&r, "", 0);
	assert_good(&r);
	rig_finish(&r, rig_start(&r, (const uint8_t[]){ 0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0 },
				 12, "1234567", 7, 0));
	assert_int_equal(r.task.end, SCSI_END_OVERRUN);
	REPORT(&r, 0);
	assert_dump(&r, "0000000c  00 0f 0001 00 00" PORT);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_group_is_reported_in_both_formats),
		cmocka_unit_test(each_state_can_be_set_and_lets_through_what_it_should),
		cmocka_unit_test(standby_lets_management_through_and_unavailable_does_not),
		cmocka_unit_test(a_new_state_is_told_to_the_others),
		cmocka_unit_test(wrong_lists_change_nothing),
	};

	return cmocka_run_group_tests_name("scsi / alua", tests, NULL, NULL);
}
