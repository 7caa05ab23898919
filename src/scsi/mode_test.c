#include "scsi/mode.h"
#include "scsi/reply_rig.h"

/* MODE SENSE (10): PC and page, subpage, without block descriptors */
#define SENSE(r, page, subpage) RUN(r, 0x5a, 0x08, page, subpage, 0, 0, 0, 1, 0, 0)

#define CHANGEABLE 0x40
#define DEFAULT	   0x80
#define SAVED	   0xc0

#define PAGE_01	  "01 0a c0 00 00000000 00000000"
#define PAGE_02	  "02 0e 0000 00000000 00000000 00000000"
#define PAGE_08	  "08 12 04 00 00000000 00000000 00000000 00000000"
#define PAGE_0A	  "0a 0a 02 10 00 00 0000 ffff 0000"
#define PAGE_0A01 "4a 01 001c 00000000 00000000 00000000 00000000 00000000 00000000 00000000"
#define PAGE_1C	  "1c 0a 08 00 00000000 00000000"
/* MODE SELECT (6): header without block descriptor */
#define HEADER_6 "00 00 00 00"

#define SELECT_6(r, list, len) RUN_OUT(r, list, 0x15, 0x10, 0, 0, len, 0)

/* ---- MODE SENSE ---- */

static void each_page_has_its_default_values(void **state)
{
	static const struct {
		uint8_t page, subpage;
		const char *dump;
	} pages[] = {
		{ 0x01, 0, "0012 00 10 00 00 0000" PAGE_01 },
		{ 0x02, 0, "0016 00 10 00 00 0000" PAGE_02 },
		{ 0x08, 0, "001a 00 10 00 00 0000" PAGE_08 },
		{ 0x0a, 0, "0012 00 10 00 00 0000" PAGE_0A },
		{ 0x0a, 1, "0026 00 10 00 00 0000" PAGE_0A01 },
		{ 0x1c, 0, "0012 00 10 00 00 0000" PAGE_1C },
	};
	struct rig r;

	reply_open(&r, "size=1M,volatile-cache=on");
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		SENSE(&r, pages[i].page, pages[i].subpage);
		assert_dump(&r, pages[i].dump);
		SENSE(&r, DEFAULT | pages[i].page, pages[i].subpage);
		assert_dump(&r, pages[i].dump);
	}
	rig_close(&r);
}

static void each_page_tells_its_changeable_bits(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M,volatile-cache=on");
	SENSE(&r, CHANGEABLE | 0x3f, 0xff);
	assert_dump(&r,
		    "006e 00 10 00 00 0000"
		    "01 0a 00 00 00000000 00000000"
		    "02 0e 0000 00000000 00000000 00000000"
		    "08 12 04 00 00000000 00000000 00000000 00000000"
		    "0a 0a 04 00 08 40 0000 0000 0000" PAGE_0A01 "1c 0a 00 00 00000000 00000000");
	rig_close(&r);
	reply_open(&r, "size=1M");
	SENSE(&r, CHANGEABLE | 0x08, 0);
	assert_dump(&r, "001a 00 10 00 00 0000"
			"08 12 00 00 00000000 00000000 00000000 00000000");
	rig_close(&r);
}

static void all_pages_come_with_or_without_subpages(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M,volatile-cache=on");
	SENSE(&r, 0x3f, 0x00);
	assert_dump(&r, "004e 00 10 00 00 0000" PAGE_01 PAGE_02 PAGE_08 PAGE_0A PAGE_1C);
	SENSE(&r, 0x3f, 0xff);
	assert_dump(&r, "006e 00 10 00 00 0000" PAGE_01 PAGE_02 PAGE_08 PAGE_0A PAGE_0A01 PAGE_1C);
	SENSE(&r, 0x0a, 0xff);
	assert_dump(&r, "0032 00 10 00 00 0000" PAGE_0A PAGE_0A01);
	rig_close(&r);
}

static void block_descriptors_are_short_long_or_disabled(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	RUN(&r, 0x1a, 0, 0x1c, 0, 255, 0);
	assert_dump(&r, "17 00 10 08  00000800 00 000200" PAGE_1C);
	RUN(&r, 0x1a, 0x08, 0x1c, 0, 255, 0);
	assert_dump(&r, "0f 00 10 00" PAGE_1C);
	RUN(&r, 0x5a, 0, 0x1c, 0, 0, 0, 0, 1, 0, 0);
	assert_dump(&r, "001a 00 10 00 00 0008  00000800 00 000200" PAGE_1C);
	RUN(&r, 0x5a, 0x10, 0x1c, 0, 0, 0, 0, 1, 0, 0); /* LLBAA */
	assert_dump(&r, "0022 00 10 01 00 0010  0000000000000800 00000000 00000200" PAGE_1C);
	RUN(&r, 0x5a, 0x18, 0x1c, 0, 0, 0, 0, 1, 0, 0);
	assert_dump(&r, "0012 00 10 00 00 0000" PAGE_1C);
	RUN(&r, 0x1a, 0x08, 0x1c, 0, 6, 0);
	assert_dump(&r, "0f 00 10 00  1c 0a");
	rig_close(&r);
}

static void a_capacity_of_more_than_32_bits_is_all_ones(void **state)
{
	struct rig r;
	uint64_t *size;

	reply_open(&r, "size=1M");
	size = (uint64_t *)&r.lu[0]->caps->size_bytes;
	*size = 1ull << 45;
	RUN(&r, 0x1a, 0, 0x1c, 0, 12, 0);
	assert_dump(&r, "17 00 10 08  ffffffff 00 000200");
	RUN(&r, 0x5a, 0x10, 0x1c, 0, 0, 0, 0, 0, 24, 0);
	assert_dump(&r, "0022 00 10 01 00 0010  0000001000000000 00000000 00000200");
	*size = 1 << 20;
	rig_close(&r);
}

static void a_read_only_unit_says_so_in_the_header(void **state)
{
	const struct scsi_lu_params lu = { .read_only = true };
	struct rig r;

	reply_open_lu(&r, "size=1M", &lu);
	rig_ua_clear_all(&r);
	RUN(&r, 0x1a, 0x08, 0x1c, 0, 255, 0);
	assert_dump(&r, "0f 00 90 00" PAGE_1C);
	rig_close(&r);
}

static void the_owner_of_application_tags_is_told_with_protection(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	r.lu[0]->pi_type = 1;
	SENSE(&r, DEFAULT | 0x0a, 0);
	assert_dump(&r, "0012 00 10 00 00 0000"
			"0a 0a 02 10 00 80 0000 ffff 0000");
	rig_close(&r);
}

static void mode_sense_refuses_unknown_pages_and_subpages(void **state)
{
	static const uint8_t pages[] = { 0x00, 0x03, 0x07, 0x0b, 0x1a, 0x3e };
	struct rig r;

	reply_open(&r, "size=1M");
	for (size_t i = 0; i < sizeof(pages); i++) {
		SENSE(&r, pages[i], 0);
		assert_bad_cdb(&r, 2, 5);
		SENSE(&r, pages[i], 0xff);
		assert_bad_cdb(&r, 2, 5);
	}
	SENSE(&r, 0x0a, 0x02);
	assert_bad_cdb(&r, 3, -1);
	SENSE(&r, 0x3f, 0x01);
	assert_bad_cdb(&r, 3, -1);
	rig_close(&r);
}

static void saved_values_need_a_state_file(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	SENSE(&r, SAVED | 0x0a, 0);
	assert_check(&r, 0x5, 0x39, 0x00);
	rig_close(&r);
}

static void values_that_cannot_be_written_are_not_saved(void **state)
{
	const struct scsi_lu_params lu = { .state_path = "/nonexistent/state" };
	struct err err;
	struct rig r;

	assert_int_equal(job_threads_start(1, &err), 0);
	reply_open_lu(&r, "size=1M", &lu);
	rig_ua_clear_all(&r);
	RUN_OUT(&r, HEADER_6 "8a 0a 06 10 00 00 0000 ffff 0000", 0x15, 0x11, 0, 0, 16, 0);
	assert_int_equal(r.task.status, SCSI_CHECK_CONDITION);
	assert_memory_equal(r.task.sense, "\x72\x04\x44\x00", 4); /* D_SENSE is in force */
	SENSE(&r, 0x0a, 0);
	assert_dump(&r, "0012 00 10 00 00 0000"
			"8a 0a 06 10 00 00 0000 ffff 0000");
	SENSE(&r, SAVED | 0x0a, 0);
	assert_dump(&r, "0012 00 10 00 00 0000"
			"8a 0a 02 10 00 00 0000 ffff 0000");
	job_threads_stop(); /* before the loop that a job wakes */
	rig_close(&r);
}

/* ---- MODE SELECT ---- */

static void d_sense_changes_the_format_of_sense_data(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	SELECT_6(&r, HEADER_6 "0a 0a 06 10 00 00 0000 ffff 0000", 16);
	assert_good(&r);
	SENSE(&r, 0x0a, 0);
	assert_dump(&r, "0012 00 10 00 00 0000"
			"0a 0a 06 10 00 00 0000 ffff 0000");
	RUN(&r, 0x12, 0, 0x83, 0, 96, 0);
	assert_int_equal(r.task.status, SCSI_CHECK_CONDITION);
	assert_int_equal(r.task.sense[0], 0x72);
	assert_memory_equal(r.task.sense + 1, "\x05\x24\x00", 3);
	rig_close(&r);
}

static void swp_protects_and_tas_is_published(void **state)
{
	const uint8_t block[512] = { 0 };
	struct rig r;

	reply_open(&r, "size=1M");
	SELECT_6(&r, HEADER_6 "0a 0a 02 10 08 40 0000 ffff 0000", 16);
	assert_good(&r);
	assert_true(r.lu[0]->mode.tas);
	rig_cdb(&r, block, 512, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	assert_check(&r, 0x7, 0x27, 0x00);
	RUN(&r, 0x1a, 0x08, 0x0a, 0, 4, 0);
	assert_dump(&r, "0f 00 90 00");
	SELECT_6(&r, HEADER_6 "0a 0a 02 10 00 00 0000 ffff 0000", 16);
	assert_good(&r);
	assert_false(r.lu[0]->mode.tas);
	rig_cdb(&r, block, 512, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	assert_good(&r);
	rig_close(&r);
}

static void wce_off_flushes_what_is_in_the_cache(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M,volatile-cache=on,fail-every=1,fail-op=flush");
	assert_true(r.lu[0]->mode.wce);
	SELECT_6(&r, HEADER_6 "08 12 00 00 00000000 00000000 00000000 00000000", 24);
	assert_check(&r, 0x3, 0x0c, 0x00);
	rig_close(&r);
	reply_open(&r, "size=1M,volatile-cache=on");
	SELECT_6(&r, HEADER_6 "08 12 00 00 00000000 00000000 00000000 00000000", 24);
	assert_good(&r);
	assert_false(r.lu[0]->mode.wce);
	SELECT_6(&r, HEADER_6 "08 12 04 00 00000000 00000000 00000000 00000000", 24);
	assert_good(&r);
	assert_true(r.lu[0]->mode.wce);
	rig_close(&r);
}

static void wce_cannot_be_set_without_a_cache(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	assert_false(r.lu[0]->mode.wce);
	SELECT_6(&r, HEADER_6 "08 12 04 00 00000000 00000000 00000000 00000000", 24);
	assert_bad_list(&r, 6, 2);
	rig_close(&r);
}

static void a_change_is_told_to_the_others_and_no_change_is_not(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	SELECT_6(&r, HEADER_6 PAGE_0A, 16);
	assert_good(&r);
	assert_int_equal(r.events, 0);
	SELECT_6(&r, HEADER_6 "0a 0a 02 10 08 00 0000 ffff 0000", 16);
	assert_good(&r);
	assert_int_equal(r.events, 1);
	assert_int_equal(r.last_event.type, SCSI_EVENT_PARAM_CHANGED);
	assert_int_equal(r.last_event.asc, 0x2a);
	assert_int_equal(r.last_event.ascq, 0x01);
	RUN(&r, 0x00, 0, 0, 0, 0, 0);
	assert_good(&r);
	r.nexus_idx = 1;
	RUN(&r, 0x00, 0, 0, 0, 0, 0);
	assert_check(&r, 0x6, 0x2a, 0x01);
	RUN(&r, 0x00, 0, 0, 0, 0, 0);
	assert_good(&r);
	rig_close(&r);
}

static void one_list_may_change_several_pages(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M,volatile-cache=on");
	RUN_OUT(&r,
		"0000 00 00 00 00 0008 00000800 00 000200" PAGE_01
		"08 12 00 00 00000000 00000000 00000000 00000000"
		"0a 0a 06 10 00 00 0000 ffff 0000" PAGE_0A01 PAGE_1C,
		0x55, 0x10, 0, 0, 0, 0, 0, 0, 16 + 12 + 20 + 12 + 32 + 12, 0);
	assert_good(&r);
	assert_false(r.lu[0]->mode.wce);
	assert_true(r.lu[0]->mode.d_sense);
	rig_close(&r);
}

static void an_error_in_a_later_page_changes_nothing(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	SELECT_6(&r,
		 HEADER_6 "0a 0a 06 10 00 00 0000 ffff 0000"
			  "1c 0a 00 00 00000000 00000000",
		 28);
	assert_bad_list(&r, 18, 3);
	assert_false(r.lu[0]->mode.d_sense);
	assert_int_equal(r.events, 0);
	rig_close(&r);
}

static void block_descriptors_may_only_say_what_is(void **state)
{
	static const char *const good[] = { "00000800 00 000200", "00000000 00 000200",
					    "ffffffff 00 000200" };
	struct rig r;

	reply_open(&r, "size=1M");
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		char list[64];

		snprintf(list, sizeof(list), "00 00 00 08 %s", good[i]);
		SELECT_6(&r, list, 12);
		assert_good(&r);
	}
	SELECT_6(&r, "00 00 00 08 000007ff 00 000200", 12);
	assert_bad_list(&r, 4, -1);
	SELECT_6(&r, "00 00 00 08 00000800 00 001000", 12);
	assert_bad_list(&r, 9, -1);
	SELECT_6(&r, "00 00 00 10 00000000 00000800 00000000 00000200", 20);
	assert_bad_list(&r, 3, -1);
	RUN_OUT(&r, "0000 00 00 01 00 0010 0000000000000800 00000000 00000200", 0x55, 0x10, 0, 0, 0,
		0, 0, 0, 24, 0);
	assert_good(&r);
	RUN_OUT(&r, "0000 00 00 01 00 0010 0000000000000801 00000000 00000200", 0x55, 0x10, 0, 0, 0,
		0, 0, 0, 24, 0);
	assert_bad_list(&r, 8, -1);
	RUN_OUT(&r, "0000 00 00 01 00 0010 0000000000000800 00000000 00000100", 0x55, 0x10, 0, 0, 0,
		0, 0, 0, 24, 0);
	assert_bad_list(&r, 20, -1);
	RUN_OUT(&r, "0000 00 00 01 00 0008 00000800 00 000200", 0x55, 0x10, 0, 0, 0, 0, 0, 0, 16,
		0);
	assert_bad_list(&r, 6, -1);
	rig_close(&r);
}

static void mode_select_refuses_wrong_fields_of_the_list(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	SELECT_6(&r, "00 01 00 00" PAGE_0A, 16); /* MEDIUM TYPE */
	assert_bad_list(&r, 1, -1);
	SELECT_6(&r, HEADER_6 "03 0a 00000000 00000000 0000", 16); /* no such page */
	assert_bad_list(&r, 4, 5);
	SELECT_6(&r, HEADER_6 "4a 02 0000", 8); /* no such subpage */
	assert_bad_list(&r, 4, 5);
	SELECT_6(&r, HEADER_6 "4a 00 000a", 8); /* no subpage format there */
	assert_bad_list(&r, 4, 5);
	SELECT_6(&r, HEADER_6 "0a 09 02 10 00 00 0000 ffff 00", 15); /* PAGE LENGTH */
	assert_bad_list(&r, 5, -1);
	SELECT_6(&r, HEADER_6 "4a 01 001b 00000000", 12);
	assert_bad_list(&r, 6, -1);
	SELECT_6(&r, HEADER_6 "0a 0a 03 10 00 00 0000 ffff 0000", 16); /* RLEC */
	assert_bad_list(&r, 6, 0);
	SELECT_6(&r, HEADER_6 "0a 0a 02 00 00 00 0000 ffff 0000", 16); /* QAM */
	assert_bad_list(&r, 7, 4);
	SELECT_6(&r, HEADER_6 "0a 0a 02 10 00 00 0000 7fff 0000", 16); /* BUSY TIMEOUT */
	assert_bad_list(&r, 12, 7);
	rig_close(&r);
}

static void mode_select_refuses_cut_lists(void **state)
{
	static const uint8_t lens[] = { 1, 3, 5, 7, 15, 17, 20 };
	struct rig r;

	reply_open(&r, "size=1M");
	for (size_t i = 0; i < sizeof(lens); i++) {
		SELECT_6(&r, HEADER_6 PAGE_0A "4a 01 001c", lens[i]);
		assert_check(&r, 0x5, 0x1a, 0x00);
	}
	SELECT_6(&r, "00 00 00 08 00000800", 8);
	assert_check(&r, 0x5, 0x1a, 0x00);
	RUN_OUT(&r, "0000 00 00 00 00 00", 0x55, 0x10, 0, 0, 0, 0, 0, 0, 7, 0);
	assert_check(&r, 0x5, 0x1a, 0x00);
	rig_finish(&r,
		   rig_start(&r, (const uint8_t[]){ 0x15, 0x10, 0, 0, 16, 0 }, 6, "\0\0\0", 4, 0));
	assert_int_equal(r.task.end, SCSI_END_OVERRUN);
	rig_close(&r);
}

static void mode_select_of_nothing_is_no_error(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	RUN(&r, 0x15, 0x00, 0, 0, 0, 0);
	assert_good(&r);
	RUN(&r, 0x55, 0x10, 0, 0, 0, 0, 0, 0, 0, 0);
	assert_good(&r);
	SELECT_6(&r, HEADER_6, 4);
	assert_good(&r);
	rig_close(&r);
}

static void rtd_reverts_to_the_defaults(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	SELECT_6(&r, HEADER_6 "0a 0a 02 10 08 40 0000 ffff 0000", 16);
	RUN(&r, 0x15, 0x12, 0, 0, 0, 0);
	assert_good(&r);
	assert_false(r.lu[0]->mode.swp);
	assert_false(r.lu[0]->mode.tas);
	assert_int_equal(r.events, 2);
	RUN_OUT(&r, HEADER_6, 0x15, 0x12, 0, 0, 4, 0);
	assert_bad_cdb(&r, 1, 1);
	rig_close(&r);
}

static void mode_select_refuses_other_formats_and_saving_without_a_file(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	RUN_OUT(&r, HEADER_6, 0x15, 0x00, 0, 0, 4, 0); /* PF */
	assert_bad_cdb(&r, 1, 4);
	RUN_OUT(&r, HEADER_6, 0x15, 0x11, 0, 0, 4, 0); /* SP */
	assert_bad_cdb(&r, 1, 0);
	rig_close(&r);
}

/* ---- reset, state file ---- */

static void a_reset_brings_the_saved_values_back(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	SELECT_6(&r, HEADER_6 "0a 0a 02 10 08 00 0000 ffff 0000", 16);
	pthread_mutex_lock(&r.lu[0]->lock);
	scsi_mode_reset(r.lu[0]);
	pthread_mutex_unlock(&r.lu[0]->lock);
	assert_false(r.lu[0]->mode.swp);
	SENSE(&r, 0x0a, 0);
	assert_dump(&r, "0012 00 10 00 00 0000" PAGE_0A);
	rig_close(&r);
}

static void saved_pages_are_lines_that_are_read_back(void **state)
{
	char text[MODE_STATE_BYTES_MAX], few[60];
	struct rig r;
	size_t len;

	reply_open(&r, "size=1M,volatile-cache=on");
	len = mode_state_write(r.lu[0], text, sizeof(text));
	assert_int_equal(len, strlen(text));
	assert_string_equal(text, "mode 08 00 040000000000000000000000000000000000\n"
				  "mode 0a 00 021000000000ffff0000\n");
	assert_int_equal(mode_state_write(r.lu[0], few, 40), 32);
	assert_string_equal(few, "mode 0a 00 021000000000ffff0000\n");
	assert_true(mode_state_read(r.lu[0], "mode 0a 00 061008400000ffff0000\n"));
	assert_true(r.lu[0]->mode.d_sense);
	assert_true(r.lu[0]->mode.swp);
	assert_true(r.lu[0]->mode.tas);
	assert_true(mode_state_read(r.lu[0], "mode 08 00 000000000000000000000000000000000000"));
	assert_false(r.lu[0]->mode.wce);
	mode_state_write(r.lu[0], text, sizeof(text));
	assert_string_equal(text, "mode 08 00 000000000000000000000000000000000000\n"
				  "mode 0a 00 061008400000ffff0000\n");
	rig_close(&r);
}

static void what_cannot_change_is_not_taken_from_a_line(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	assert_true(mode_state_read(r.lu[0], "mode 0a 00 ffffffffffffffffffff"));
	assert_true(mode_state_read(r.lu[0], "mode 08 00 ffffffffffffffffffffffffffffffffffff"));
	SENSE(&r, 0x3f, 0x00);
	assert_memory_equal(r.in + 8 + 12 + 16, "\x08\x12\x00\x00", 4);
	assert_memory_equal(r.in + 8 + 12 + 16 + 20, "\x0a\x0a\x06\x10\x08\x40\x00\x00", 8);
	rig_close(&r);
}

static void lines_that_are_no_pages_are_refused(void **state)
{
	static const char *const lines[] = {
		"",
		"mode",
		"mode 0a",
		"mode 0a 00 ",
		"mode 0a 00 0610084000000000000",
		"mode 0a 00 061008400000ffff000000",
		"mode 0a 00 0610084000000000000g",
		"mode 0b 00 061008400000ffff0000",
		"reservation 0a 00 061008400000ffff0000",
	};
	struct rig r;

	reply_open(&r, "size=1M");
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		assert_false(mode_state_read(r.lu[0], lines[i]));
	SENSE(&r, 0x0a, 0);
	assert_dump(&r, "0012 00 10 00 00 0000" PAGE_0A);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_page_has_its_default_values),
		cmocka_unit_test(each_page_tells_its_changeable_bits),
		cmocka_unit_test(all_pages_come_with_or_without_subpages),
		cmocka_unit_test(block_descriptors_are_short_long_or_disabled),
		cmocka_unit_test(a_capacity_of_more_than_32_bits_is_all_ones),
		cmocka_unit_test(a_read_only_unit_says_so_in_the_header),
		cmocka_unit_test(the_owner_of_application_tags_is_told_with_protection),
		cmocka_unit_test(mode_sense_refuses_unknown_pages_and_subpages),
		cmocka_unit_test(saved_values_need_a_state_file),
		cmocka_unit_test(values_that_cannot_be_written_are_not_saved),
		cmocka_unit_test(d_sense_changes_the_format_of_sense_data),
		cmocka_unit_test(swp_protects_and_tas_is_published),
		cmocka_unit_test(wce_off_flushes_what_is_in_the_cache),
		cmocka_unit_test(wce_cannot_be_set_without_a_cache),
		cmocka_unit_test(a_change_is_told_to_the_others_and_no_change_is_not),
		cmocka_unit_test(one_list_may_change_several_pages),
		cmocka_unit_test(an_error_in_a_later_page_changes_nothing),
		cmocka_unit_test(block_descriptors_may_only_say_what_is),
		cmocka_unit_test(mode_select_refuses_wrong_fields_of_the_list),
		cmocka_unit_test(mode_select_refuses_cut_lists),
		cmocka_unit_test(mode_select_of_nothing_is_no_error),
		cmocka_unit_test(rtd_reverts_to_the_defaults),
		cmocka_unit_test(mode_select_refuses_other_formats_and_saving_without_a_file),
		cmocka_unit_test(a_reset_brings_the_saved_values_back),
		cmocka_unit_test(saved_pages_are_lines_that_are_read_back),
		cmocka_unit_test(what_cannot_change_is_not_taken_from_a_line),
		cmocka_unit_test(lines_that_are_no_pages_are_refused),
	};

	return cmocka_run_group_tests_name("scsi / mode", tests, NULL, NULL);
}
