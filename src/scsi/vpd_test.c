#include "scsi/inquiry.h"
#include "scsi/reply_rig.h"

#define VPD(r, page) RUN(r, 0x12, 0x01, page, 0x04, 0x00, 0)

/* The capabilities of a back-end that is less able than sim. */
static struct blk_caps *rig_caps(struct rig *r)
{
	return (struct blk_caps *)r->lu[0]->caps;
}

static void page_00_lists_the_pages_in_order(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	VPD(&r, 0x00);
	assert_dump(&r, "00 00 000b  00 80 83 85 86 87 88 8f b0 b1 b2");
	for (uint32_t i = 1; i < 11; i++) {
		uint8_t page;

		VPD(&r, 0x00);
		page = r.in[4 + i];
		VPD(&r, page);
		assert_good(&r);
		assert_int_equal(r.in[1], page);
		assert_int_equal(cdb_u16(r.in + 2) + 4, r.task.in_bytes);
	}
	rig_close(&r);
}

static void page_00_of_a_unit_that_is_not_there_is_the_only_one(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	r.lun_number = 5;
	VPD(&r, 0x00);
	assert_dump(&r, "7f 00 0001  00");
	VPD(&r, 0x80);
	assert_bad_cdb(&r, 2, -1);
	rig_close(&r);
}

static void pages_of_the_well_known_unit_name_the_target(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	r.lun_number = SCSI_WLUN_REPORT_LUNS;
	VPD(&r, 0x00);
	assert_dump(&r, "1e 00 0002  00 83");
	VPD(&r, 0x83);
	assert_dump(&r, "1e 83 0038"
			"03 18 00 18 6e61612e 33323633 32334332 38333432 44464135 00000000"
			"03 28 00 18 6e61612e 33323633 32333832 38333432 44463338 00000000");
	rig_close(&r);
}

static void page_80_is_the_serial_number(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	VPD(&r, 0x80);
	assert_dump(&r, "00 80 0004  53313233");
	rig_close(&r);
}

static void page_83_names_unit_port_and_target(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	VPD(&r, 0x83);
	assert_dump(&r, "00 83 0080"
			/* unit: NAA locally assigned, T10 vendor identification, name */
			"01 03 00 08 393b6cd23d50df6d"
			"02 01 00 0c 76686f7374642020 53313233"
			"03 08 00 18 6e61612e 33393342 36434432 33443530 44463644 00000000"
			/* port: relative, group, name; target: name */
			"01 14 00 04 00000001"
			"01 15 00 04 00000001"
			"03 18 00 18 6e61612e 33323633 32334332 38333432 44464135 00000000"
			"03 28 00 18 6e61612e 33323633 32333832 38333432 44463338 00000000");
	rig_close(&r);
}

static void page_83_has_the_name_that_was_given(void **state)
{
	const struct scsi_lu_params lu = { .wwn = 0x5000c50012345678 };
	uint8_t few[5];
	struct rig r;

	reply_open_lu(&r, "size=1M", &lu);
	VPD(&r, 0x83);
	assert_good(&r);
	assert_memory_equal(r.in + 4, "\x01\x03\x00\x08\x50\x00\xc5\x00\x12\x34\x56\x78", 12);
	assert_memory_equal(r.in + 4 + 12 + 4, "vhostd  disk0", 13);
	assert_int_equal(scsi_designators(r.queue[0]->nexus->map->entries[0].itl, few, 5), 5);
	assert_memory_equal(few, "\x01\x03\x00\x08\x50", 5);
	rig_close(&r);
}

static void page_83_fits_the_longest_serial_number(void **state)
{
	const struct scsi_lu_params lu = {
		.serial = "0123456789012345678901234567890123456789012345678901234567890123"
	};
	struct rig r;

	reply_open_lu(&r, "size=1M", &lu);
	VPD(&r, 0x83);
	assert_good(&r);
	assert_int_equal(r.task.in_bytes, 4 + 12 + (4 + 72) + 28 + 8 + 8 + 28 + 28);
	VPD(&r, 0x80);
	assert_int_equal(r.task.in_bytes, 4 + 64);
	rig_close(&r);
}

static void page_85_has_no_addresses(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	VPD(&r, 0x85);
	assert_dump(&r, "00 85 0000");
	rig_close(&r);
}

#define ZEROES_16 "00000000 00000000 00000000 00000000"

static void page_86_tells_cache_and_protection(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	VPD(&r, 0x86);
	assert_dump(&r, "00 86 003c  00 01 00 01 08 000000 00000000" ZEROES_16 ZEROES_16 ZEROES_16);
	r.lu[0]->pi_type = 3;
	VPD(&r, 0x86);
	assert_dump(&r, "00 86 003c  27 01 00 01 08 000000 00000000" ZEROES_16 ZEROES_16 ZEROES_16);
	rig_close(&r);
	reply_open(&r, "size=1M,volatile-cache=on");
	VPD(&r, 0x86);
	assert_dump(&r, "00 86 003c  00 01 01 01 08 000000 00000000" ZEROES_16 ZEROES_16 ZEROES_16);
	rig_close(&r);
}

static void page_87_says_that_mode_pages_are_shared(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	VPD(&r, 0x87);
	assert_dump(&r, "00 87 0004  3f ff 0000");
	rig_close(&r);
}

static void page_88_has_the_one_port(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	VPD(&r, 0x88);
	assert_dump(&r, "00 88 0028  0000 0001 0000 0000 0000 001c"
			"03 18 00 18 6e61612e 33323633 32334332 38333432 44464135 00000000");
	rig_close(&r);
}

#define ROD_TYPE_REST ZEROES_16 ZEROES_16 ZEROES_16 "00000000 00000000"

static void page_8f_tells_what_the_copy_manager_can(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	VPD(&r, 0x8f);
	assert_dump(&r, "00 8f 0210"
			/* block device ROD token limits */
			"0000 0020  000000000000 0040 00000e10 0000003c"
			"0000000000080000 0000000000020000"
			/* supported commands */
			"0001 0014  11 83 05 00 01 10 11 1c 84 08 00 01 03 04 05 06 07 08 0000"
			/* parameter data */
			"0004 001c  00000000 0010 0040 00000a00 00000000 000000000000000000000000"
			/* descriptors, CSCD descriptor IDs, copy group */
			"0008 0004  03 02 0a e4"
			"000c 0004  0002 ffff"
			"000d 0014  12 1000 34c3e8ea7ac18a5ab4c3e6ea7ac1b6f4 00"
			/* ROD token features, with those of block devices */
			"0106 005c  00 0000000000000000000000 00000000 ffffffff 00000e10"
			"000000000000000000000000000000000000 0030"
			"00 00 002c 0000 0001 0000000010000000 0000000004000000"
			"0000000004000000 0000000004000000 0000000000000000"
			/* ROD types: point in time (default, change vulnerable, any), zero */
			"0108 0104  0000 0100"
			"00800000 03 00 0002" ROD_TYPE_REST "00800001 03 00 0001" ROD_TYPE_REST
			"0080ffff 01 00 0003" ROD_TYPE_REST "ffff0001 02 00 0000" ROD_TYPE_REST
			/* general copy operations */
			"8001 0020  00000010 00000010 02000000 00 00 0000" ZEROES_16);
	rig_close(&r);
}

static void page_b0_has_the_limits_in_blocks(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	VPD(&r, 0xb0);
	assert_dump(&r, "00 b0 003c  01 ff 0001 ffffffff 00000000 00000000"
			"00100000 00000100 00000001 80000000"
			"0000000000040000 00000800 00000000 00000000 00000000 00000000");
	r.lu[0]->phys_bytes = 4096;
	rig_caps(&r)->opt_io_bytes = 65536;
	rig_caps(&r)->discard_align_bytes = 4096;
	VPD(&r, 0xb0);
	assert_dump(&r, "00 b0 003c  01 ff 0008 ffffffff 00000080 00000000"
			"00100000 00000100 00000008 80000000"
			"0000000000040000 00000800 00000000 00000000 00000000 00000000");
	rig_close(&r);
	reply_open(&r, "size=1M,block-size=4096");
	VPD(&r, 0xb0);
	assert_dump(&r, "00 b0 003c  01 ff 0001 ffffffff 00000000 00000000"
			"00100000 00000100 00000001 80000000"
			"0000000000008000 00000100 00000000 00000000 00000000 00000000");
	rig_close(&r);
}

static void pages_b0_and_b2_promise_no_unmap_without_discard(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	rig_caps(&r)->discard = false;
	VPD(&r, 0xb0);
	assert_dump(&r, "00 b0 003c  01 ff 0001 ffffffff 00000000 00000000" ZEROES_16
			"0000000000040000 00000800 00000000 00000000 00000000 00000000");
	VPD(&r, 0xb2);
	assert_dump(&r, "00 b2 0004  00 00 00 00");
	rig_close(&r);
}

static void page_b1_tells_the_rotation_rate(void **state)
{
	const struct scsi_lu_params lu = { .rotation_rpm = 7200 };
	struct rig r;

	reply_open(&r, "size=1M");
	VPD(&r, 0xb1);
	assert_dump(&r, "00 b1 003c  0001 00 40 0000000000000000" ZEROES_16 ZEROES_16 ZEROES_16);
	rig_close(&r);
	reply_open_lu(&r, "size=1M", &lu);
	VPD(&r, 0xb1);
	assert_dump(&r, "00 b1 003c  1c20 00 40 0000000000000000" ZEROES_16 ZEROES_16 ZEROES_16);
	rig_close(&r);
}

static void page_b2_is_thin_and_reads_zeroes_where_the_back_end_does(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	VPD(&r, 0xb2);
	assert_dump(&r, "00 b2 0004  00 e4 02 00");
	rig_caps(&r)->zeroes_unmap = false;
	VPD(&r, 0xb2);
	assert_dump(&r, "00 b2 0004  00 e0 02 00");
	rig_close(&r);
}

static void a_page_that_is_not_offered_is_an_invalid_field(void **state)
{
	static const uint8_t pages[] = { 0x01, 0x81, 0x84, 0x89, 0xb3, 0xb6, 0xb7, 0xff };
	struct rig r;

	reply_open(&r, "size=1M");
	for (size_t i = 0; i < sizeof(pages); i++) {
		VPD(&r, pages[i]);
		assert_bad_cdb(&r, 2, -1);
	}
	rig_close(&r);
}

static void the_allocation_length_cuts_a_page(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	RUN(&r, 0x12, 0x01, 0x80, 0, 6, 0);
	assert_dump(&r, "00 80 0004  5331");
	RUN(&r, 0x12, 0x01, 0x80, 0, 0, 0);
	assert_dump(&r, "");
	rig_close(&r);
}

static void a_transport_id_is_padded_and_at_least_24_bytes_long(void **state)
{
	char longest[SCSI_NAME_MAX + 1];
	uint8_t id[232], want[64];

	memset(id, 0xee, sizeof(id));
	assert_int_equal(scsi_transport_id("iqn.test:a", id), 24);
	reply_hex("05 00 0014 69716e2e746573743a61 00000000000000000000 ee", want, sizeof(want));
	assert_memory_equal(id, want, 25);
	assert_int_equal(scsi_transport_id("iqn.test:12345678901", id), 28);
	assert_int_equal(id[3], 24);
	memset(longest, 'x', SCSI_NAME_MAX);
	longest[SCSI_NAME_MAX] = '\0';
	assert_int_equal(scsi_transport_id(longest, id), 228);
	assert_int_equal(id[227], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(page_00_lists_the_pages_in_order),
		cmocka_unit_test(page_00_of_a_unit_that_is_not_there_is_the_only_one),
		cmocka_unit_test(pages_of_the_well_known_unit_name_the_target),
		cmocka_unit_test(page_80_is_the_serial_number),
		cmocka_unit_test(page_83_names_unit_port_and_target),
		cmocka_unit_test(page_83_has_the_name_that_was_given),
		cmocka_unit_test(page_83_fits_the_longest_serial_number),
		cmocka_unit_test(page_85_has_no_addresses),
		cmocka_unit_test(page_86_tells_cache_and_protection),
		cmocka_unit_test(page_87_says_that_mode_pages_are_shared),
		cmocka_unit_test(page_88_has_the_one_port),
		cmocka_unit_test(page_8f_tells_what_the_copy_manager_can),
		cmocka_unit_test(page_b0_has_the_limits_in_blocks),
		cmocka_unit_test(pages_b0_and_b2_promise_no_unmap_without_discard),
		cmocka_unit_test(page_b1_tells_the_rotation_rate),
		cmocka_unit_test(page_b2_is_thin_and_reads_zeroes_where_the_back_end_does),
		cmocka_unit_test(a_page_that_is_not_offered_is_an_invalid_field),
		cmocka_unit_test(the_allocation_length_cuts_a_page),
		cmocka_unit_test(a_transport_id_is_padded_and_at_least_24_bytes_long),
	};

	return cmocka_run_group_tests_name("scsi / vpd", tests, NULL, NULL);
}
