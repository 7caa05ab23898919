#include "scsi/reply_rig.h"

/* LOG SENSE with cumulative values */
#define LOG(r, page, subpage, pointer)                                                             \
	RUN(r, 0x4d, 0, 0x40 | (page), subpage, 0, 0, pointer, 1, 0, 0)

static void page_00_lists_pages_and_with_ff_subpages(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	LOG(&r, 0x00, 0x00, 0);
	assert_dump(&r, "00 00 0004  00 0d 19 2f");
	LOG(&r, 0x00, 0xff, 0);
	assert_dump(&r, "40 ff 0010  0000 00ff 0d00 0dff 1900 19ff 2f00 2fff");
	rig_close(&r);
}

static void each_page_lists_its_subpages(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	LOG(&r, 0x0d, 0xff, 0);
	assert_dump(&r, "4d ff 0004  0d00 0dff");
	LOG(&r, 0x19, 0xff, 0);
	assert_dump(&r, "59 ff 0004  1900 19ff");
	LOG(&r, 0x2f, 0xff, 0);
	assert_dump(&r, "6f ff 0004  2f00 2fff");
	rig_close(&r);
}

static void page_0d_knows_no_temperature(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	LOG(&r, 0x0d, 0, 0);
	assert_dump(&r, "0d 00 000c  0000 03 02 00ff  0001 03 02 00ff");
	LOG(&r, 0x0d, 0, 1);
	assert_dump(&r, "0d 00 0006  0001 03 02 00ff");
	LOG(&r, 0x0d, 0, 2);
	assert_bad_cdb(&r, 5, -1);
	rig_close(&r);
}

static void page_2f_has_no_exceptions(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	LOG(&r, 0x2f, 0, 0);
	assert_dump(&r, "2f 00 0008  0000 03 04 00 00 ff 00");
	RUN(&r, 0x4d, 0, 0x2f, 0, 0, 0, 0, 0, 4, 0); /* PC is nothing to a list */
	assert_dump(&r, "2f 00 0008");
	rig_close(&r);
}

#define IDLE_AND_INTERVAL                                                                          \
	"0002 03 08 0000000000000000"                                                              \
	"0003 03 08 00000003 00000001"

static void page_19_counts_commands_and_blocks(void **state)
{
	uint8_t blocks[1024] = { 0 };
	struct rig r;

	reply_open(&r, "size=1M");
	rig_cdb(&r, blocks, 1024, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 2, 0);
	assert_good(&r);
	for (int i = 0; i < 3; i++)
		rig_cdb(&r, NULL, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	LOG(&r, 0x19, 0, 0);
	assert_dump(&r, "19 00 005c  0001 03 40"
			"0000000000000003 0000000000000001 0000000000000002 0000000000000003"
			"0000000000000000 0000000000000000 0000000000000000 "
			"0000000000000000" IDLE_AND_INTERVAL);
	LOG(&r, 0x19, 0, 2);
	assert_dump(&r, "19 00 0018" IDLE_AND_INTERVAL);
	LOG(&r, 0x19, 0, 4);
	assert_bad_cdb(&r, 5, -1);
	rig_close(&r);
}

static void log_sense_refuses_what_is_not_there(void **state)
{
	static const uint8_t pages[] = { 0x01, 0x0c, 0x0e, 0x0f, 0x10, 0x3f };
	struct rig r;

	reply_open(&r, "size=1M");
	for (size_t i = 0; i < sizeof(pages); i++) {
		LOG(&r, pages[i], 0, 0);
		assert_bad_cdb(&r, 2, 5);
		LOG(&r, pages[i], 0xff, 0);
		assert_bad_cdb(&r, 2, 5);
	}
	LOG(&r, 0x0d, 0x01, 0);
	assert_bad_cdb(&r, 3, -1);
	LOG(&r, 0x00, 0x00, 1); /* a list of pages has no parameters */
	assert_bad_cdb(&r, 5, -1);
	LOG(&r, 0x0d, 0xff, 1);
	assert_bad_cdb(&r, 5, -1);
	rig_close(&r);
}

static void log_sense_refuses_saving_ppc_and_thresholds(void **state)
{
	static const uint8_t controls[] = { 0x00, 0x80, 0xc0 };
	struct rig r;

	reply_open(&r, "size=1M");
	RUN(&r, 0x4d, 0x01, 0x4d, 0, 0, 0, 0, 1, 0, 0); /* SP */
	assert_bad_cdb(&r, 1, 0);
	RUN(&r, 0x4d, 0x02, 0x4d, 0, 0, 0, 0, 1, 0, 0); /* PPC */
	assert_bad_cdb(&r, 1, 1);
	for (size_t i = 0; i < sizeof(controls); i++) {
		RUN(&r, 0x4d, 0, controls[i] | 0x19, 0, 0, 0, 0, 1, 0, 0);
		assert_bad_cdb(&r, 2, 7);
	}
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(page_00_lists_pages_and_with_ff_subpages),
		cmocka_unit_test(each_page_lists_its_subpages),
		cmocka_unit_test(page_0d_knows_no_temperature),
		cmocka_unit_test(page_2f_has_no_exceptions),
		cmocka_unit_test(page_19_counts_commands_and_blocks),
		cmocka_unit_test(log_sense_refuses_what_is_not_there),
		cmocka_unit_test(log_sense_refuses_saving_ppc_and_thresholds),
	};

	return cmocka_run_group_tests_name("scsi / logpage", tests, NULL, NULL);
}
