#include "scsi/reply_rig.h"

#define OPCODES(r, options, opcode, sa)                                                            \
	RUN(r, 0xa3, 0x0c, options, opcode, (sa) >> 8, (sa)&0xff, 0, 0, 0x40, 0, 0, 0)

static struct blk_caps *rig_caps(struct rig *r)
{
	return (struct blk_caps *)r->lu[0]->caps;
}

static void all_commands_are_listed_with_length_and_service_action(void **state)
{
	struct rig r;
	const uint8_t *b;

	reply_open(&r, "size=1M");
	OPCODES(&r, 0x00, 0, 0);
	assert_good(&r);
	assert_int_equal(r.task.in_bytes, 4 + 8 * cdb_row_count);
	assert_int_equal(cdb_u32(r.in), r.task.in_bytes - 4);
	b = r.in + 4;
	for (size_t i = 0; i < cdb_row_count; i++, b += 8) {
		bool has_sa = cdb_rows[i].sa != CDB_NO_SA;

		assert_int_equal(b[0], cdb_rows[i].opcode);
		assert_int_equal(cdb_u16(b + 2), has_sa ? cdb_rows[i].sa : 0);
		assert_int_equal(b[5], has_sa);
		assert_int_equal(cdb_u16(b + 6), cdb_rows[i].len_bytes);
	}
	rig_close(&r);
}

static void all_commands_have_timeouts_when_asked(void **state)
{
	struct rig r;
	const uint8_t *b;

	reply_open(&r, "size=1M");
	OPCODES(&r, 0x80, 0, 0);
	assert_good(&r);
	assert_int_equal(r.task.in_bytes, 4 + 20 * cdb_row_count);
	assert_int_equal(cdb_u32(r.in), r.task.in_bytes - 4);
	b = r.in + 4;
	for (size_t i = 0; i < cdb_row_count; i++, b += 20) {
		assert_int_equal(b[5] & 0x02, 0x02);
		assert_memory_equal(b + 8, "\x00\x0a\0\0\0\0\0\0\0\0\0\0", 12);
	}
	rig_close(&r);
}

static void one_command_by_its_opcode(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	OPCODES(&r, 0x01, 0x12, 0x7777); /* the service action is not looked at */
	assert_dump(&r, "00 03 0006  12 01 ff ff ff 04");
	OPCODES(&r, 0x81, 0x00, 0);
	assert_dump(&r, "00 83 0006  00 00 00 00 00 04  000a 00 00 00000000 00000000");
	OPCODES(&r, 0x01, 0xc0, 0);
	assert_dump(&r, "00 01 0000");
	OPCODES(&r, 0x01, 0xa3, 0);
	assert_bad_cdb(&r, 2, 2);
	rig_close(&r);
}

static void one_command_by_its_service_action(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	OPCODES(&r, 0x02, 0xa3, 0x0d);
	assert_dump(&r, "00 03 000c  a3 0d 80 00 00 00 ff ff ff ff 00 04");
	OPCODES(&r, 0x02, 0xa3, 0x1f);
	assert_dump(&r, "00 01 0000");
	OPCODES(&r, 0x02, 0xa3, 0x10d);
	assert_dump(&r, "00 01 0000");
	OPCODES(&r, 0x82, 0xc0, 0x0d);
	assert_dump(&r, "00 01 0000");
	OPCODES(&r, 0x02, 0x12, 0);
	assert_bad_cdb(&r, 2, 2);
	rig_close(&r);
}

static void one_command_by_either(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	OPCODES(&r, 0x03, 0xa3, 0x0a);
	assert_dump(&r, "00 03 000c  a3 ea 00 00 00 00 ff ff ff ff 00 04");
	OPCODES(&r, 0x03, 0x12, 0);
	assert_dump(&r, "00 03 0006  12 01 ff ff ff 04");
	OPCODES(&r, 0x03, 0x12, 1);
	assert_dump(&r, "00 01 0000");
	OPCODES(&r, 0x03, 0xa3, 0x1f);
	assert_dump(&r, "00 01 0000");
	rig_close(&r);
}

static void every_listed_command_can_be_asked_for_alone(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	for (size_t i = 0; i < cdb_row_count; i++) {
		const struct cdb_row *row = &cdb_rows[i];
		bool has_sa = row->sa != CDB_NO_SA;
		uint16_t sa = has_sa ? (uint16_t)row->sa : 0;

		OPCODES(&r, has_sa ? 0x02 : 0x01, row->opcode, sa);
		assert_good(&r);
		assert_int_equal(r.in[1], 3);
		assert_int_equal(r.task.in_bytes, 4 + row->len_bytes);
		assert_int_equal(r.in[4], row->opcode);
		if (has_sa)
			assert_int_equal(r.in[5] & 0x1f, sa);
	}
	rig_close(&r);
}

static void what_the_back_end_cannot_is_not_listed(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	rig_caps(&r)->discard = false;
	rig_caps(&r)->write_zeroes = false;
	rig_caps(&r)->secure_erase = false;
	OPCODES(&r, 0x01, 0x42, 0);
	assert_dump(&r, "00 01 0000");
	OPCODES(&r, 0x02, 0x48, 0x01);
	assert_dump(&r, "00 01 0000");
	OPCODES(&r, 0x00, 0, 0);
	assert_good(&r);
	for (size_t i = 4; i < r.task.in_bytes; i += 8) {
		assert_int_not_equal(r.in[i], 0x42);
		assert_int_not_equal(r.in[i], 0x48);
	}
	rig_close(&r);
}

static void other_reporting_options_are_refused_and_answers_cut(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	for (uint8_t options = 4; options < 8; options++) {
		OPCODES(&r, options, 0, 0);
		assert_bad_cdb(&r, 2, 2);
	}
	RUN(&r, 0xa3, 0x0c, 0x01, 0x12, 0, 0, 0, 0, 0, 5, 0, 0);
	assert_dump(&r, "00 03 0006  12");
	RUN(&r, 0xa3, 0x0c, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0);
	assert_dump(&r, "");
	rig_close(&r);
}

static void all_task_management_functions_are_reported(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	RUN(&r, 0xa3, 0x0d, 0x00, 0, 0, 0, 0, 0, 1, 0, 0, 0);
	assert_dump(&r, "fc 07 00 00");
	RUN(&r, 0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0);
	assert_dump(&r, "fc 07 00 0c  00000000 00000000 00000000");
	RUN(&r, 0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 4, 0, 0);
	assert_dump(&r, "fc 07 00 0c");
	RUN(&r, 0xa3, 0x0d, 0x00, 0, 0, 0, 0, 0, 0, 3, 0, 0);
	assert_bad_cdb(&r, 6, -1);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_commands_are_listed_with_length_and_service_action),
		cmocka_unit_test(all_commands_have_timeouts_when_asked),
		cmocka_unit_test(one_command_by_its_opcode),
		cmocka_unit_test(one_command_by_its_service_action),
		cmocka_unit_test(one_command_by_either),
		cmocka_unit_test(every_listed_command_can_be_asked_for_alone),
		cmocka_unit_test(what_the_back_end_cannot_is_not_listed),
		cmocka_unit_test(other_reporting_options_are_refused_and_answers_cut),
		cmocka_unit_test(all_task_management_functions_are_reported),
	};

	return cmocka_run_group_tests_name("scsi / opcodes", tests, NULL, NULL);
}
