/* Parameter lists of EXTENDED COPY: each field that can be wrong, by name. */
#include "scsi/copy_rig.h"

static struct copy_list list;
static struct copy_plan plan;
static struct copy_fault fault;

static uint8_t *cscd, *segment;

static void good_list(bool lid4)
{
	copy_list_init(&list, lid4, 7, 0);
	cscd = copy_list_cscd(&list, 0x3000000000000001);
	copy_list_cscd(&list, 0x3000000000000002);
	segment = copy_list_blocks(&list, 0, 1, 8, 100, 200);
}

static bool parse(void)
{
	return copy_list_parse(list.bytes, list.len, list.lid4, &plan, &fault);
}

static void expect(enum scsi_cause cause, int byte, int bit)
{
	assert_false(parse());
	assert_int_equal(fault.cause, cause);
	assert_int_equal(fault.has_field, byte >= 0);
	if (byte < 0)
		return;
	assert_int_equal(fault.field_byte, byte);
	assert_int_equal(fault.field_bit, bit);
}

static void both_forms_give_the_same_plan(void **state)
{
	for (int lid4 = 0; lid4 < 2; lid4++) {
		good_list(lid4);
		copy_list_range(&list, 1, 0, 70000, 513, 1026);
		segment[1] = 0x03;
		assert_true(parse());
		assert_int_equal(plan.list_id, 7);
		assert_int_equal(plan.list_id_usage, 0);
		assert_int_equal(plan.cscd_count, 2);
		assert_int_equal(plan.segment_count, 2);
		assert_int_equal(plan.cscds[1].field_byte, list.header + 32);
		assert_int_equal(cdb_u64(plan.cscds[1].designator + 4), 0x3000000000000002);
		assert_true(plan.segments[0].dc && plan.segments[0].cat);
		assert_int_equal(plan.segments[0].count, 8);
		assert_int_equal(plan.segments[0].dst_lba, 200);
		assert_int_equal(plan.segments[1].count, 70000);
		assert_int_equal(plan.segments[1].src_lba, 1);
		assert_int_equal(plan.segments[1].src_offset_bytes, 1);
		assert_int_equal(plan.segments[1].dst_offset_bytes, 2);
	}
}

static void an_empty_list_is_no_plan_but_no_fault(void **state)
{
	copy_list_init(&list, false, 1, 0);
	assert_true(parse());
	assert_int_equal(plan.segment_count, 0);
}

static void any_cut_of_the_list_is_a_length_error(void **state)
{
	for (int lid4 = 0; lid4 < 2; lid4++) {
		good_list(lid4);
		for (size_t whole = list.len--; list.len > 0; list.len--)
			if (list.len < whole)
				expect(SCSI_CAUSE_PARAM_LIST_LENGTH, -1, 0);
	}
}

static void list_id_usage_01b_is_reserved(void **state)
{
	good_list(false);
	list.bytes[1] = 0x08;
	expect(SCSI_CAUSE_INVALID_FIELD_LIST, 1, 4);
}

static void list_id_usage_11b_wants_identifier_zero(void **state)
{
	good_list(false);
	list.bytes[1] = 0x18;
	expect(SCSI_CAUSE_INVALID_FIELD_LIST, 0, -1);
	list.bytes[0] = 0;
	assert_true(parse());
	good_list(true);
	list.bytes[1] = 0x18;
	expect(SCSI_CAUSE_INVALID_FIELD_LIST, 20, -1);
}

static void fixed_fields_of_the_lid4_header(void **state)
{
	static const struct {
		uint8_t byte, value;
		int bit;
	} cases[] = {
		{ 0, 2, -1 }, { 2, 1, -1 }, { 3, 0x21, -1 }, { 15, 0x02, 1 }, { 16, 0xfe, -1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		good_list(true);
		list.bytes[cases[i].byte] = cases[i].value;
		expect(SCSI_CAUSE_INVALID_FIELD_LIST, cases[i].byte, cases[i].bit);
	}
}

static void a_part_of_a_cscd_descriptor_is_an_invalid_length(void **state)
{
	good_list(false);
	list.bytes[3] -= 1;
	expect(SCSI_CAUSE_INVALID_FIELD_LIST, 2, -1);
}

static void one_cscd_more_than_reported_is_too_many(void **state)
{
	copy_list_init(&list, false, 1, 0);
	for (uint32_t i = 0; i < COPY_CSCDS_MAX; i++)
		copy_list_cscd(&list, i);
	assert_true(parse());
	copy_list_cscd(&list, 99);
	copy_list_blocks(&list, 0, 0, 1, 0, 9);
	expect(SCSI_CAUSE_TOO_MANY_TARGETS, 2, -1);
}

static void one_segment_more_than_reported_is_too_many(void **state)
{
	copy_list_init(&list, false, 1, 0);
	copy_list_cscd(&list, 1);
	for (uint32_t i = 0; i < COPY_SEGMENTS_MAX; i++)
		copy_list_blocks(&list, 0, 0, 1, 0, 9);
	assert_true(parse());
	copy_list_blocks(&list, 0, 0, 1, 0, 9);
	expect(SCSI_CAUSE_TOO_MANY_SEGMENTS, 16 + 32 + COPY_SEGMENTS_MAX * 28, -1);
}

static void descriptors_longer_than_reported_are_a_length_error(void **state)
{
	copy_list_init(&list, false, 1, 0);
	for (uint32_t i = 0; i < COPY_CSCDS_MAX; i++)
		copy_list_cscd(&list, i);
	for (uint32_t i = 0; i <= COPY_SEGMENTS_MAX; i++)
		copy_list_range(&list, 0, 0, 1, 0, 9);
	expect(SCSI_CAUSE_PARAM_LIST_LENGTH, -1, 0);
}

static void inline_data_is_refused(void **state)
{
	good_list(false);
	list.bytes[15] = 1;
	list.len++;
	expect(SCSI_CAUSE_INLINE_DATA, 12, -1);
	good_list(true);
	list.bytes[46] = 1;
	expect(SCSI_CAUSE_INLINE_DATA, 46, -1);
}

static void other_cscd_types_are_unsupported(void **state)
{
	good_list(false);
	cscd[0] = 0xe0;
	expect(SCSI_CAUSE_UNSUPPORTED_TARGET, 16, -1);
}

static void lu_id_type_is_ignored_but_not_a_designator_that_is_too_long(void **state)
{
	good_list(false);
	cscd[1] = 0xc0;
	assert_true(parse());
	good_list(false);
	cscd[7] = 21;
	expect(SCSI_CAUSE_INVALID_FIELD_LIST, 23, -1);
}

static void other_segment_types_are_unsupported_whatever_their_length(void **state)
{
	for (size_t len = 1; len < 40; len++) {
		good_list(false);
		copy_list_more(&list, len)[0] = 0x03;
		expect(SCSI_CAUSE_UNSUPPORTED_SEGMENT, 16 + 64 + 28, -1);
	}
}

static void a_segment_of_another_length_is_an_invalid_field(void **state)
{
	good_list(false);
	segment[3] = 0x1c;
	expect(SCSI_CAUSE_INVALID_FIELD_LIST, 16 + 64 + 2, -1);
}

static void a_cut_segment_is_a_length_error(void **state)
{
	for (size_t len = 1; len < 28; len++) {
		uint8_t *p;

		good_list(false);
		p = copy_list_more(&list, len);
		p[0] = 0x02;
		p[3] = 0x18;
		expect(SCSI_CAUSE_PARAM_LIST_LENGTH, -1, 0);
	}
}

/* Bytes that were changed at random, in memory of just their length: the sanitizer looks on. */
static void spoilt_lists_are_never_read_past_their_end(void **state)
{
	uint32_t x = 20260101, good = 0;

	print_message("seed %u\n", x);
	for (int round = 0; round < 20000; round++) {
		uint8_t *exact;

		good_list(round & 1);
		copy_list_range(&list, 1, 0, 70000, 513, 1026);
		for (int n = round % 5; n >= 0; n--) {
			x = x * 1664525u + 1013904223u;
			list.bytes[(x >> 16) % list.len] = (uint8_t)(x >> 8);
		}
		x = x * 1664525u + 1013904223u;
		if (x >> 30 == 0)
			list.len = (x >> 8) % (list.len + 1);
		exact = malloc(list.len ? list.len : 1);
		memcpy(exact, list.bytes, list.len);
		if (copy_list_parse(exact, list.len, list.lid4, &plan, &fault)) {
			assert_in_range(plan.cscd_count, 0, COPY_CSCDS_MAX);
			assert_in_range(plan.segment_count, 0, COPY_SEGMENTS_MAX);
			good++;
		}
		free(exact);
	}
	assert_in_range(good, 1000, 19000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_forms_give_the_same_plan),
		cmocka_unit_test(an_empty_list_is_no_plan_but_no_fault),
		cmocka_unit_test(any_cut_of_the_list_is_a_length_error),
		cmocka_unit_test(list_id_usage_01b_is_reserved),
		cmocka_unit_test(list_id_usage_11b_wants_identifier_zero),
		cmocka_unit_test(fixed_fields_of_the_lid4_header),
		cmocka_unit_test(a_part_of_a_cscd_descriptor_is_an_invalid_length),
		cmocka_unit_test(one_cscd_more_than_reported_is_too_many),
		cmocka_unit_test(one_segment_more_than_reported_is_too_many),
		cmocka_unit_test(descriptors_longer_than_reported_are_a_length_error),
		cmocka_unit_test(inline_data_is_refused),
		cmocka_unit_test(other_cscd_types_are_unsupported),
		cmocka_unit_test(lu_id_type_is_ignored_but_not_a_designator_that_is_too_long),
		cmocka_unit_test(other_segment_types_are_unsupported_whatever_their_length),
		cmocka_unit_test(a_segment_of_another_length_is_an_invalid_field),
		cmocka_unit_test(a_cut_segment_is_a_length_error),
		cmocka_unit_test(spoilt_lists_are_never_read_past_their_end),
	};

	return cmocka_run_group_tests_name("scsi copy list", tests, NULL, NULL);
}
