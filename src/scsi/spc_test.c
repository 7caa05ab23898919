#include "scsi/inquiry.h"
#include "scsi/reply_rig.h"

#define TEST_UNIT_READY(r) RUN(r, 0x00, 0, 0, 0, 0, 0)

static void rig_ua(struct rig *r, enum scsi_ua ua)
{
	pthread_mutex_lock(&r->lu[0]->lock);
	scsi_ua_add_others(r->lu[0], NULL, ua);
	pthread_mutex_unlock(&r->lu[0]->lock);
}

/* ---- TEST UNIT READY ---- */

static void test_unit_ready_of_a_stopped_unit_is_not_ready(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	TEST_UNIT_READY(&r);
	assert_dump(&r, "");
	RUN(&r, 0x1b, 0, 0, 0, 0x00, 0);
	assert_good(&r);
	TEST_UNIT_READY(&r);
	assert_check(&r, 0x2, 0x04, 0x02);
	rig_close(&r);
}

static void test_unit_ready_of_no_unit_is_not_supported(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	r.lun_number = 1;
	TEST_UNIT_READY(&r);
	assert_check(&r, 0x5, 0x25, 0x00);
	r.lun_number = SCSI_WLUN_REPORT_LUNS;
	TEST_UNIT_READY(&r);
	assert_good(&r);
	r.target = 4;
	rig_finish(&r, rig_start(&r, (const uint8_t[6]){ 0 }, 6, NULL, 0, 0));
	assert_int_equal(r.task.end, SCSI_END_BAD_TARGET);
	rig_close(&r);
}

/* ---- REQUEST SENSE ---- */

static void request_sense_has_nothing_to_tell_in_both_formats(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	RUN(&r, 0x03, 0x00, 0, 0, 252, 0);
	assert_dump(&r, "70 00 00 00000000 0a 00000000 00 00 00 000000");
	RUN(&r, 0x03, 0x01, 0, 0, 252, 0);
	assert_dump(&r, "72 00 00 00 00000000");
	RUN(&r, 0x03, 0x00, 0, 0, 4, 0);
	assert_dump(&r, "70 00 00 00");
	RUN(&r, 0x03, 0x00, 0, 0, 0, 0);
	assert_dump(&r, "");
	rig_close(&r);
}

static void request_sense_takes_the_pending_unit_attention(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	rig_ua(&r, SCSI_UA_MODE_CHANGED);
	rig_ua(&r, SCSI_UA_CAPACITY_CHANGED);
	RUN(&r, 0x03, 0x00, 0, 0, 252, 0);
	assert_dump(&r, "70 00 06 00000000 0a 00000000 2a 09 00 000000");
	RUN(&r, 0x03, 0x01, 0, 0, 252, 0);
	assert_dump(&r, "72 06 2a 01 00000000");
	TEST_UNIT_READY(&r);
	assert_good(&r);
	rig_close(&r);
}

static void request_sense_tells_what_is_not_ready(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	RUN(&r, 0x1b, 0, 0, 0, 0x00, 0);
	RUN(&r, 0x03, 0x00, 0, 0, 252, 0);
	assert_dump(&r, "70 00 02 00000000 0a 00000000 04 02 00 000000");
	rig_close(&r);
}

static void request_sense_tells_how_far_sanitize_is(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	r.lu[0]->sanitize_running = true;
	r.lu[0]->sanitize_progress = 0x1234;
	RUN(&r, 0x03, 0x00, 0, 0, 252, 0);
	assert_dump(&r, "70 00 02 00000000 0a 00000000 04 1b 00 80 1234");
	r.lu[0]->sanitize_running = false;
	rig_close(&r);
}

static void request_sense_of_no_unit_says_so(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	r.lun_number = 1;
	RUN(&r, 0x03, 0x00, 0, 0, 252, 0);
	assert_dump(&r, "70 00 05 00000000 0a 00000000 25 00 00 000000");
	r.lun_number = SCSI_WLUN_REPORT_LUNS;
	RUN(&r, 0x03, 0x00, 0, 0, 252, 0);
	assert_dump(&r, "70 00 00 00000000 0a 00000000 00 00 00 000000");
	rig_close(&r);
}

/* ---- INQUIRY ---- */

#define VERSIONS                                                                                   \
	"00c0 05c0 0600 0460 04c0 0000 0000 0000"                                                  \
	"00000000 00000000 00000000 00000000 00000000 0000"
#define NO_VENDOR_BYTES "00000000 00000000 00000000 00000000 00000000 0000"

static void inquiry_has_the_names_that_were_given(void **state)
{
	const struct scsi_lu_params lu = { .vendor = "ACME",
					   .product = "sixteen letters!",
					   .revision = "9.1" };
	struct rig r;

	reply_open_lu(&r, "size=1M", &lu);
	RUN(&r, 0x12, 0, 0, 0x01, 0x00, 0);
	assert_dump(&r, "00 00 06 12 5b 28 00 02"
			"41434d4520202020 7369787465656e206c65747465727321 392e3120" NO_VENDOR_BYTES
				VERSIONS);
	r.lu[0]->pi_type = 1;
	RUN(&r, 0x12, 0, 0, 0x00, 0x06, 0);
	assert_dump(&r, "00 00 06 12 5b 29");
	rig_close(&r);
}

static void inquiry_of_no_unit_says_that_there_can_be_none(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	r.lun_number = 16383;
	RUN(&r, 0x12, 0, 0, 0, 96, 0);
	assert_dump(&r, "7f 00 06 12 5b 00 00 02"
			"76686f7374642020 20202020202020202020202020202020 20202020" NO_VENDOR_BYTES
				VERSIONS);
	r.lun_number = SCSI_LUN_NONE;
	RUN(&r, 0x12, 0, 0, 0, 1, 0);
	assert_dump(&r, "7f");
	r.lun_number = SCSI_WLUN_REPORT_LUNS;
	RUN(&r, 0x12, 0, 0, 0, 1, 0);
	assert_dump(&r, "1e");
	rig_close(&r);
}

static void inquiry_leaves_unit_attentions_pending(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	rig_ua(&r, SCSI_UA_CAPACITY_CHANGED);
	RUN(&r, 0x12, 0, 0, 0, 96, 0);
	assert_good(&r);
	TEST_UNIT_READY(&r);
	assert_check(&r, 0x6, 0x2a, 0x09);
	rig_close(&r);
}

static void inquiry_of_every_allocation_length_is_cut(void **state)
{
	uint8_t whole[96];
	struct rig r;

	reply_open(&r, "size=1M");
	RUN(&r, 0x12, 0, 0, 0, 255, 0);
	memcpy(whole, r.in, sizeof(whole));
	for (uint32_t len = 0; len <= 256; len++) {
		RUN(&r, 0x12, 0, 0, (uint8_t)(len >> 8), (uint8_t)len, 0);
		assert_good(&r);
		assert_int_equal(r.task.in_bytes, MIN(len, 96u));
		assert_memory_equal(r.in, whole, r.task.in_bytes);
	}
	rig_close(&r);
}

static void inquiry_refuses_a_page_code_without_evpd_and_cmddt(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	RUN(&r, 0x12, 0, 0x83, 0, 96, 0);
	assert_bad_cdb(&r, 2, -1);
	RUN(&r, 0x12, 0x02, 0, 0, 96, 0);
	assert_bad_cdb(&r, 1, 1);
	RUN(&r, 0x12, 0x20, 0, 0, 1, 0); /* a LUN, where SCSI-2 had it */
	assert_dump(&r, "00");
	rig_close(&r);
}

/* ---- REPORT LUNS ---- */

#define REPORT_LUNS(r, select, alloc) RUN(r, 0xa0, 0, select, 0, 0, 0, 0, 0, 0x10, alloc, 0, 0)

static void report_luns_selects_units_and_the_well_known_one(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	REPORT_LUNS(&r, 0x00, 0);
	assert_dump(&r, "00000008 00000000  0000000000000000");
	REPORT_LUNS(&r, 0x01, 0);
	assert_dump(&r, "00000008 00000000  c101000000000000");
	REPORT_LUNS(&r, 0x02, 0);
	assert_dump(&r, "00000010 00000000  0000000000000000 c101000000000000");
	REPORT_LUNS(&r, 0x10, 0);
	assert_dump(&r, "00000000 00000000");
	REPORT_LUNS(&r, 0x11, 0);
	assert_dump(&r, "00000008 00000000  0000000000000000");
	REPORT_LUNS(&r, 0x12, 0);
	assert_dump(&r, "00000000 00000000");
	rig_close(&r);
}

static void report_luns_refuses_other_selections_and_short_allocations(void **state)
{
	static const uint8_t wrong[] = { 0x03, 0x0f, 0x13, 0xf8, 0xff };
	struct rig r;

	reply_open(&r, "size=1M");
	for (size_t i = 0; i < sizeof(wrong); i++) {
		REPORT_LUNS(&r, wrong[i], 0);
		assert_bad_cdb(&r, 2, -1);
	}
	RUN(&r, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 15, 0, 0);
	assert_bad_cdb(&r, 6, -1);
	RUN(&r, 0xa0, 0, 2, 0, 0, 0, 0, 0, 0, 16, 0, 0);
	assert_dump(&r, "00000010 00000000  0000000000000000");
	rig_close(&r);
}

static void report_luns_is_answered_where_no_unit_is(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	r.lun_number = 7;
	REPORT_LUNS(&r, 0x00, 0);
	assert_dump(&r, "00000008 00000000  0000000000000000");
	r.lun_number = SCSI_WLUN_REPORT_LUNS;
	REPORT_LUNS(&r, 0x00, 0);
	assert_dump(&r, "00000008 00000000  0000000000000000");
	rig_close(&r);
}

struct attach {
	struct loop_work work;
	struct rig *rig;
	uint32_t lun;
	bool done;
};

static void attach_work(struct loop_work *work)
{
	struct attach *a = container_of(work, struct attach, work);
	struct err err = { 0 };

	if (scsi_host_attach(a->rig->host, 3, a->lun, a->rig->lu[0], &err) < 0)
		fail_msg("%s", err.msg);
	a->done = true;
}

/* The same unit under one more number, while it runs. */
static void rig_attach(struct rig *r, uint32_t lun)
{
	struct attach a = { .work.fn = attach_work, .rig = r, .lun = lun };

	loop_defer(r->loop, &a.work);
	while (!a.done)
		rig_turn(r);
	rig_turn(r);
}

static void report_luns_uses_flat_addresses_above_255(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	rig_attach(&r, 255);
	rig_attach(&r, 16383);
	rig_attach(&r, 256);
	REPORT_LUNS(&r, 0x00, 0);
	assert_dump(&r, "00000020 00000000  0000000000000000 00ff000000000000"
			"4100000000000000 7fff000000000000");
	rig_close(&r);
}

static void report_luns_clears_its_unit_attention_and_no_other(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	rig_ua(&r, SCSI_UA_CAPACITY_CHANGED);
	rig_attach(&r, 1);
	REPORT_LUNS(&r, 0x00, 0);
	assert_good(&r);
	TEST_UNIT_READY(&r);
	assert_check(&r, 0x6, 0x2a, 0x09);
	TEST_UNIT_READY(&r);
	assert_good(&r);
	r.nexus_idx = 1; /* it did not ask */
	TEST_UNIT_READY(&r);
	assert_check(&r, 0x6, 0x3f, 0x0e);
	rig_close(&r);
}

/* ---- START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL ---- */

static void start_stop_stops_and_starts_for_all(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	RUN(&r, 0x1b, 0x01, 0, 0, 0x00, 0); /* IMMED */
	assert_good(&r);
	r.nexus_idx = 1;
	TEST_UNIT_READY(&r);
	assert_check(&r, 0x2, 0x04, 0x02);
	RUN(&r, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	assert_check(&r, 0x2, 0x04, 0x02);
	RUN(&r, 0x1b, 0, 0, 0, 0x01, 0);
	assert_good(&r);
	r.nexus_idx = 0;
	TEST_UNIT_READY(&r);
	assert_good(&r);
	rig_close(&r);
}

static void start_stop_writes_the_cache_out_before_it_stops(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M,volatile-cache=on,fail-every=1,fail-op=flush");
	RUN(&r, 0x1b, 0, 0, 0, 0x00, 0);
	assert_check(&r, 0x3, 0x0c, 0x00);
	TEST_UNIT_READY(&r);
	assert_good(&r);
	RUN(&r, 0x1b, 0, 0, 0, 0x04, 0); /* NO_FLUSH */
	assert_good(&r);
	TEST_UNIT_READY(&r);
	assert_check(&r, 0x2, 0x04, 0x02);
	rig_close(&r);
	reply_open(&r, "size=1M,volatile-cache=on");
	RUN(&r, 0x1b, 0, 0, 0, 0x00, 0);
	assert_good(&r);
	TEST_UNIT_READY(&r);
	assert_check(&r, 0x2, 0x04, 0x02);
	rig_close(&r);
}

static void start_stop_power_conditions_start_the_unit(void **state)
{
	static const uint8_t good[][2] = { { 0, 0x10 }, { 0, 0x20 }, { 2, 0x20 }, { 1, 0x30 },
					   { 0, 0x70 }, { 2, 0xa0 }, { 1, 0xb0 }, { 0, 0x16 } };
	struct rig r;

	reply_open(&r, "size=1M");
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		RUN(&r, 0x1b, 0, 0, 0, 0x00, 0);
		RUN(&r, 0x1b, 0, 0, good[i][0], good[i][1], 0);
		assert_good(&r);
		TEST_UNIT_READY(&r);
		assert_good(&r);
	}
	rig_close(&r);
}

static void start_stop_refuses_undefined_conditions_and_modifiers(void **state)
{
	static const uint8_t conditions[] = { 0x40, 0x50, 0x60, 0x80, 0x90, 0xc0, 0xf0 };
	static const uint8_t modifiers[][2] = { { 1, 0x01 }, { 1, 0x10 }, { 3, 0x20 }, { 2, 0x30 },
						{ 1, 0x70 }, { 3, 0xa0 }, { 2, 0xb0 } };
	struct rig r;

	reply_open(&r, "size=1M");
	for (size_t i = 0; i < sizeof(conditions); i++) {
		RUN(&r, 0x1b, 0, 0, 0, conditions[i], 0);
		assert_bad_cdb(&r, 4, 7);
	}
	for (size_t i = 0; i < ARRAY_SIZE(modifiers); i++) {
		RUN(&r, 0x1b, 0, 0, modifiers[i][0], modifiers[i][1], 0);
		assert_bad_cdb(&r, 3, 3);
	}
	rig_close(&r);
}

static void start_stop_ejects_no_medium_that_is_prevented_or_fixed(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	RUN(&r, 0x1b, 0, 0, 0, 0x02, 0);
	assert_bad_cdb(&r, 4, 1);
	r.nexus_idx = 1;
	RUN(&r, 0x1e, 0, 0, 0, 0x01, 0);
	assert_good(&r);
	r.nexus_idx = 0;
	RUN(&r, 0x1b, 0, 0, 0, 0x02, 0);
	assert_check(&r, 0x5, 0x53, 0x02);
	r.nexus_idx = 1;
	RUN(&r, 0x1e, 0, 0, 0, 0x00, 0);
	assert_good(&r);
	RUN(&r, 0x1b, 0, 0, 0, 0x03, 0);
	assert_bad_cdb(&r, 4, 1);
	rig_close(&r);
}

static void prevent_allow_refuses_what_is_obsolete(void **state)
{
	struct rig r;

	reply_open(&r, "size=1M");
	RUN(&r, 0x1e, 0, 0, 0, 0x02, 0);
	assert_bad_cdb(&r, 4, 1);
	RUN(&r, 0x1e, 0, 0, 0, 0x03, 0);
	assert_bad_cdb(&r, 4, 1);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unit_ready_of_a_stopped_unit_is_not_ready),
		cmocka_unit_test(test_unit_ready_of_no_unit_is_not_supported),
		cmocka_unit_test(request_sense_has_nothing_to_tell_in_both_formats),
		cmocka_unit_test(request_sense_takes_the_pending_unit_attention),
		cmocka_unit_test(request_sense_tells_what_is_not_ready),
		cmocka_unit_test(request_sense_tells_how_far_sanitize_is),
		cmocka_unit_test(request_sense_of_no_unit_says_so),
		cmocka_unit_test(inquiry_has_the_names_that_were_given),
		cmocka_unit_test(inquiry_of_no_unit_says_that_there_can_be_none),
		cmocka_unit_test(inquiry_leaves_unit_attentions_pending),
		cmocka_unit_test(inquiry_of_every_allocation_length_is_cut),
		cmocka_unit_test(inquiry_refuses_a_page_code_without_evpd_and_cmddt),
		cmocka_unit_test(report_luns_selects_units_and_the_well_known_one),
		cmocka_unit_test(report_luns_refuses_other_selections_and_short_allocations),
		cmocka_unit_test(report_luns_is_answered_where_no_unit_is),
		cmocka_unit_test(report_luns_uses_flat_addresses_above_255),
		cmocka_unit_test(report_luns_clears_its_unit_attention_and_no_other),
		cmocka_unit_test(start_stop_stops_and_starts_for_all),
		cmocka_unit_test(start_stop_writes_the_cache_out_before_it_stops),
		cmocka_unit_test(start_stop_power_conditions_start_the_unit),
		cmocka_unit_test(start_stop_refuses_undefined_conditions_and_modifiers),
		cmocka_unit_test(start_stop_ejects_no_medium_that_is_prevented_or_fixed),
		cmocka_unit_test(prevent_allow_refuses_what_is_obsolete),
	};

	return cmocka_run_group_tests_name("scsi / spc", tests, NULL, NULL);
}
