#include "nvme/admin_rig.h"
#include "nvme/caps.h"

#define SET(r, fid, value) rig_send(r, NVME_ADMIN_SET_FEATURES, 0, fid, value)
#define GET(r, fid, dw11)  rig_send(r, NVME_ADMIN_GET_FEATURES, 0, fid, dw11)
#define SEL(n)		   ((uint32_t)(n) << 8)

static void a_feature_has(struct rig *r, uint32_t fid, uint32_t dw11, uint32_t dw0)
{
	assert_status(GET(r, fid, dw11), SUCCESS);
	assert_int_equal(r->cmd.c.dw0, dw0);
}

/* fid, default, a value, what is kept of it */
static const struct {
	uint32_t fid, standard, value, kept;
} kept[] = {
	{ 0x01, 6, 0xffffffff, 0xffffff07 }, { 0x02, 0, 0xe0, 0xe0 },
	{ 0x04, NVME_WCTEMP_K, 400, 400 },   { 0x06, 1, 0, 0 },
	{ 0x08, 0, 0x12345678, 0x5678 },     { 0x0a, 0, 1, 1 },
	{ 0x0b, 0, 0xffffffff, 0x9ff },
};

static void values_are_kept_until_a_reset(void **state)
{
	struct rig r;

	rig_open(&r);
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		a_feature_has(&r, kept[i].fid, 0, kept[i].standard);
		assert_status(SET(&r, kept[i].fid, kept[i].value), SUCCESS);
		assert_int_equal(r.cmd.c.dw0, 0);
		a_feature_has(&r, kept[i].fid, 0, kept[i].kept);
		a_feature_has(&r, kept[i].fid | SEL(1), 0, kept[i].standard);
		a_feature_has(&r, kept[i].fid | SEL(2), 0, kept[i].standard);
		a_feature_has(&r, kept[i].fid | SEL(3), 0, 4); /* changeable */
	}
	nvme_features_reset(r.ctrl[0]);
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		a_feature_has(&r, kept[i].fid, 0, kept[i].standard);
	rig_close(&r);
}

static void no_feature_is_saveable(void **state)
{
	static const uint8_t known[] = { 1,    2,    4,	   5,	 6,    7,    8,	   9,
					 0x0a, 0x0b, 0x0e, 0x0f, 0x81, 0x82, 0x83, 0x84 };
	struct rig r;

	rig_open(&r);
	for (uint32_t fid = 0; fid < 256; fid++) {
		bool is_known = memchr(known, (int)fid, sizeof(known));

		assert_int_equal(SET(&r, fid | 1u << 31, 0),
				 is_known ? NVME_SC_FEATURE_NOT_SAVEABLE : NVME_SC_INVALID_FIELD);
		if (is_known) {
			assert_status(GET(&r, fid | SEL(4), 0), INVALID_FIELD);
			assert_status(GET(&r, fid | SEL(7), 0), INVALID_FIELD);
			continue;
		}
		assert_status(SET(&r, fid, 0), INVALID_FIELD);
		for (uint32_t sel = 0; sel < 8; sel++)
			assert_status(GET(&r, fid | SEL(sel), 0), INVALID_FIELD);
	}
	rig_close(&r);
}

static void a_feature_of_the_controller_is_not_of_a_namespace(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(rig_send(&r, NVME_ADMIN_SET_FEATURES, 1, 0x06, 0), FEATURE_NOT_NS_SPECIFIC);
	assert_status(rig_send(&r, NVME_ADMIN_SET_FEATURES, 2, 0x06, 0), INVALID_NS);
	assert_status(rig_send(&r, NVME_ADMIN_SET_FEATURES, NVME_NSID_ALL, 0x06, 0), SUCCESS);
	assert_status(rig_send(&r, NVME_ADMIN_GET_FEATURES, 1, 0x06, 0), SUCCESS);
	assert_int_equal(r.cmd.c.dw0, 0);
	rig_close(&r);
}

static void there_is_one_power_state(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(SET(&r, 0x02, 0), SUCCESS);
	assert_status(SET(&r, 0x02, 1), INVALID_FIELD);
	assert_status(SET(&r, 0x02, 31), INVALID_FIELD);
	rig_close(&r);
}

static void without_its_cache_it_writes_through(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_false(atomic_load(&r.ctrl[0]->write_through));
	assert_status(SET(&r, 0x06, 0), SUCCESS);
	assert_true(atomic_load(&r.ctrl[0]->write_through));
	assert_status(SET(&r, 0x06, 1), SUCCESS);
	assert_false(atomic_load(&r.ctrl[0]->write_through));
	assert_status(SET(&r, 0x06, 0), SUCCESS);
	nvme_features_reset(r.ctrl[0]);
	assert_false(atomic_load(&r.ctrl[0]->write_through));
	rig_close(&r);
}

static void all_queues_are_allocated_whatever_was_asked(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(SET(&r, 0x07, 0x00030003), SUCCESS);
	assert_int_equal(r.cmd.c.dw0, 0x000f000f);
	a_feature_has(&r, 0x07, 0, 0x000f000f);
	a_feature_has(&r, 0x07 | SEL(1), 0, 0x000f000f);
	assert_status(SET(&r, 0x07, 0xfffefffe), SUCCESS);
	assert_status(SET(&r, 0x07, 0x0000ffff), INVALID_FIELD);
	assert_status(SET(&r, 0x07, 0xffff0000), INVALID_FIELD);
	r.ctrl[0]->queues.cq[3] = (void *)&r;
	assert_status(SET(&r, 0x07, 0x00030003), SEQUENCE_ERROR);
	r.ctrl[0]->queues.cq[3] = NULL;
	rig_close(&r);
}

static void coalescing_reaches_the_vectors(void **state)
{
	uint32_t before;
	struct rig r;

	rig_open(&r);
	before = rig_coalescing_changes;
	assert_status(SET(&r, 0x08, 0x0a05), SUCCESS);
	assert_int_equal(r.ctrl[0]->features.value[0x08], 0x0a05);
	assert_status(SET(&r, 0x09, 1u << 16 | 3), SUCCESS);
	assert_int_equal(r.ctrl[0]->features.coalescing_disable[0], 1u << 3);
	assert_int_equal(rig_coalescing_changes, before + 2);
	a_feature_has(&r, 0x09, 3, 1u << 16 | 3);
	a_feature_has(&r, 0x09, 2, 2);
	a_feature_has(&r, 0x09 | SEL(1), 3, 3);
	assert_status(SET(&r, 0x09, 3), SUCCESS);
	a_feature_has(&r, 0x09, 3, 3);
	assert_status(SET(&r, 0x09, RIG_VECTORS), INVALID_FIELD);
	assert_status(GET(&r, 0x09, RIG_VECTORS), INVALID_FIELD);
	assert_status(GET(&r, 0x09, 0xffff), INVALID_FIELD);
	rig_close(&r);
}

/* ---- temperature ---- */

static void thresholds_are_of_the_composite_temperature(void **state)
{
	struct rig r;

	rig_open(&r);
	a_feature_has(&r, 0x04, 1u << 20, 0);
	assert_status(SET(&r, 0x04, 1u << 20 | 273), SUCCESS);
	assert_status(SET(&r, 0x04, 0xfu << 16 | 350), SUCCESS); /* all sensors */
	a_feature_has(&r, 0x04, 1u << 20, 273);
	a_feature_has(&r, 0x04, 0, 350);
	a_feature_has(&r, 0x04 | SEL(1), 1u << 20, 0);
	assert_status(SET(&r, 0x04, 1u << 16 | 350), INVALID_FIELD);
	assert_status(SET(&r, 0x04, 2u << 20 | 350), INVALID_FIELD);
	assert_status(GET(&r, 0x04, 1u << 16), INVALID_FIELD);
	assert_status(GET(&r, 0x04, 0xfu << 16), INVALID_FIELD);
	assert_status(GET(&r, 0x04, 3u << 20), INVALID_FIELD);
	rig_close(&r);
}

static void a_threshold_that_is_crossed_is_an_event(void **state)
{
	struct rig_cmd aer = { 0 };
	struct rig r;

	rig_open(&r);
	assert_status(SET(&r, 0x0b, 0x02), SUCCESS);
	rig_start(&r, &aer, 0, NVME_ADMIN_AER, 0, 0, 0);
	assert_false(aer.ended);
	assert_status(SET(&r, 0x04, NVME_TEMPERATURE_K + 1), SUCCESS);
	assert_false(aer.ended);
	assert_status(SET(&r, 0x04, NVME_TEMPERATURE_K), SUCCESS);
	assert_true(aer.ended);
	assert_int_equal(aer.c.dw0, 0x020101);
	nvme_features_reset(r.ctrl[0]);
	nvme_aen_reset(r.ctrl[0]);
	assert_status(SET(&r, 0x0b, 0x02), SUCCESS);
	rig_start(&r, &aer, 0, NVME_ADMIN_AER, 0, 0, 0);
	assert_false(aer.ended);
	assert_status(SET(&r, 0x04, 1u << 20 | NVME_TEMPERATURE_K), SUCCESS);
	assert_true(aer.ended); /* again, after a reset */
	rig_close(&r);
}

static void a_threshold_that_is_crossed_is_no_event_unless_wanted(void **state)
{
	struct rig_cmd aer = { 0 };
	struct rig r;

	rig_open(&r);
	assert_status(SET(&r, 0x0b, 0xfd), SUCCESS);
	rig_start(&r, &aer, 0, NVME_ADMIN_AER, 0, 0, 0);
	assert_status(SET(&r, 0x04, 1u << 20 | NVME_TEMPERATURE_K), SUCCESS);
	assert_false(aer.ended);
	rig_close(&r);
}

/* ---- timestamp ---- */

static void a_timestamp_goes_on_from_what_was_set(void **state)
{
	uint64_t first, second;
	struct rig r;

	rig_open(&r);
	assert_status(GET(&r, 0x0e, 0), SUCCESS);
	assert_int_equal(r.cmd.reply_bytes, 8);
	assert_in_range(rig_le(&r, 0, 6), 0, 60000); /* since the reset */
	assert_int_equal(r.cmd.buf[6], 0);
	memcpy(r.cmd.buf, "\x00\x10\x20\x30\x40\x01\xff\xff", 8);
	assert_status(SET(&r, 0x0e, 0), SUCCESS);
	assert_status(GET(&r, 0x0e, 0), SUCCESS);
	first = rig_le(&r, 0, 6);
	assert_in_range(first, 0x014030201000, 0x014030201000 + 60000);
	assert_int_equal(r.cmd.buf[6], 2); /* by Set Features */
	assert_int_equal(r.cmd.buf[7], 0);
	assert_status(GET(&r, 0x0e, 0), SUCCESS);
	second = rig_le(&r, 0, 6);
	assert_true(second >= first);
	assert_status(GET(&r, 0x0e | SEL(1), 0), SUCCESS);
	assert_zeroes(&r, 0, 8);
	nvme_features_reset(r.ctrl[0]);
	assert_status(GET(&r, 0x0e, 0), SUCCESS);
	assert_in_range(rig_le(&r, 0, 6), 0, 60000);
	rig_close(&r);
}

/* ---- keep alive ---- */

/* When it ends, from now; 0: it does not run. */
static uint64_t keep_alive_left_ms(struct rig *r)
{
	const struct loop_timer *t = &r->ctrl[0]->features.keep_alive;
	uint64_t now_ns = loop_clock_ns();

	if (list_empty(&t->node))
		return 0;
	return t->due_ns > now_ns ? (t->due_ns - now_ns) / 1000000 : 0;
}

static void without_keep_alive_the_controller_is_fatal(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(SET(&r, 0x0f, 1), SUCCESS);
	a_feature_has(&r, 0x0f, 0, 1000); /* rounded up to KAS */
	while (!rig_fatal)
		loop_run_once(r.loop, true);
	assert_string_equal(rig_fatal, "keep alive timer expired");
	assert_status(rig_send(&r, NVME_ADMIN_GET_LOG_PAGE, 0, 15u << 16 | 1, 0), SUCCESS);
	assert_bytes(&r, 0, "0100000000000000 ffff ffff 3200 ffff");
	rig_close(&r);
}

static void keep_alive_begins_the_time_anew(void **state)
{
	uint64_t before_ns;
	struct rig r;

	rig_open(&r);
	assert_status(SET(&r, 0x0f, 100000), SUCCESS);
	assert_in_range(keep_alive_left_ms(&r), 1, 100000);
	before_ns = r.ctrl[0]->features.keep_alive.due_ns;
	while (loop_clock_ns() + 100000000000 <= before_ns)
		; /* the clock has gone on */
	assert_status(rig_send(&r, NVME_ADMIN_KEEP_ALIVE, 0, 0, 0), SUCCESS);
	assert_true(r.ctrl[0]->features.keep_alive.due_ns > before_ns);
	nvme_features_reset(r.ctrl[0]);
	assert_int_equal(keep_alive_left_ms(&r), 0);
	rig_close(&r);
}

static void a_keep_alive_timer_of_zero_is_off(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(rig_send(&r, NVME_ADMIN_KEEP_ALIVE, 0, 0, 0), SUCCESS);
	assert_int_equal(keep_alive_left_ms(&r), 0);
	assert_status(SET(&r, 0x0f, 1000), SUCCESS);
	assert_status(SET(&r, 0x0f, 0), SUCCESS);
	assert_int_equal(keep_alive_left_ms(&r), 0);
	assert_status(SET(&r, 0x0f, 0xffffffff), SUCCESS);
	a_feature_has(&r, 0x0f, 0, 0xffffffff);
	a_feature_has(&r, 0x0f | SEL(1), 0, 0);
	rig_close(&r);
}

/* ---- host identifier ---- */

static enum nvme_status host_id_set(struct rig *r, uint32_t ctrl, bool extended, uint8_t byte)
{
	memset(r->cmd.buf, byte, 16);
	return rig_send_to(r, ctrl, NVME_ADMIN_SET_FEATURES, 0, 0x81, extended);
}

static void a_host_identifier_has_8_or_16_bytes(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(GET(&r, 0x81, 1), SUCCESS);
	assert_int_equal(r.cmd.reply_bytes, 16);
	assert_zeroes(&r, 0, 16);
	assert_status(host_id_set(&r, 0, true, 0xaa), SUCCESS);
	assert_status(GET(&r, 0x81, 1), SUCCESS);
	assert_bytes(&r, 0, "aaaaaaaaaaaaaaaa aaaaaaaaaaaaaaaa");
	assert_status(host_id_set(&r, 0, false, 0xbb), SUCCESS);
	assert_status(GET(&r, 0x81, 0), SUCCESS);
	assert_int_equal(r.cmd.reply_bytes, 8);
	assert_bytes(&r, 0, "bbbbbbbbbbbbbbbb");
	assert_zeroes(&r, 8, 8);
	assert_status(GET(&r, 0x81 | SEL(1), 1), SUCCESS);
	assert_zeroes(&r, 0, 16);
	a_feature_has(&r, 0x81 | SEL(3), 0, 4);
	nvme_features_reset(r.ctrl[0]);
	assert_status(GET(&r, 0x81, 1), SUCCESS);
	assert_zeroes(&r, 0, 16);
	rig_close(&r);
}

static void host_identifiers_of_a_subsystem_have_one_length(void **state)
{
	struct rig r;

	rig_open(&r);
	assert_status(host_id_set(&r, 0, true, 0xaa), SUCCESS);
	assert_status(host_id_set(&r, 1, false, 0xaa), HOST_ID_INCONSISTENT);
	assert_status(host_id_set(&r, 1, false, 0), SUCCESS); /* none */
	assert_status(host_id_set(&r, 1, true, 0xaa), SUCCESS);
	assert_status(host_id_set(&r, 0, true, 0), SUCCESS);
	assert_status(host_id_set(&r, 0, false, 0xaa), HOST_ID_INCONSISTENT);
	assert_status(host_id_set(&r, 1, true, 0), SUCCESS);
	assert_status(host_id_set(&r, 0, false, 0xaa), SUCCESS);
	rig_close(&r);
}

/* ---- of a namespace ---- */

static enum nvme_status set_ns(struct rig *r, uint32_t nsid, uint32_t fid, uint32_t value)
{
	return rig_send(r, NVME_ADMIN_SET_FEATURES, nsid, fid, value);
}

static enum nvme_status get_ns(struct rig *r, uint32_t nsid, uint32_t fid)
{
	return rig_send(r, NVME_ADMIN_GET_FEATURES, nsid, fid, 0);
}

static void features_of_a_namespace_need_one(void **state)
{
	static const uint8_t fids[] = { 0x05, 0x82, 0x83, 0x84 };
	struct rig r;

	rig_open(&r);
	for (size_t i = 0; i < sizeof(fids); i++) {
		assert_status(set_ns(&r, 0, fids[i], 0), INVALID_NS);
		assert_status(set_ns(&r, 2, fids[i], 0), INVALID_NS);
		assert_status(get_ns(&r, 0, fids[i]), INVALID_NS);
		assert_status(get_ns(&r, 2, fids[i]), INVALID_NS);
		assert_status(get_ns(&r, NVME_NSID_ALL, fids[i]), INVALID_NS);
		assert_status(get_ns(&r, 1, fids[i] | SEL(3)), SUCCESS);
		assert_int_equal(r.cmd.c.dw0, 6);
	}
	rig_close(&r);
}

static void error_recovery_is_kept_for_each_namespace(void **state)
{
	struct rig r;

	rig_open(&r);
	rig_ns_add(&r, 2, "size=1M");
	assert_status(set_ns(&r, 2, 0x05, 100), SUCCESS);
	assert_status(get_ns(&r, 2, 0x05), SUCCESS);
	assert_int_equal(r.cmd.c.dw0, 100);
	assert_status(get_ns(&r, 1, 0x05), SUCCESS);
	assert_int_equal(r.cmd.c.dw0, 0);
	assert_status(set_ns(&r, NVME_NSID_ALL, 0x05, 7), SUCCESS);
	assert_status(get_ns(&r, 1, 0x05), SUCCESS);
	assert_int_equal(r.cmd.c.dw0, 7);
	assert_status(get_ns(&r, 1, 0x05 | SEL(1)), SUCCESS);
	assert_int_equal(r.cmd.c.dw0, 0);
	assert_status(set_ns(&r, 1, 0x05, 1u << 16), INVALID_FIELD); /* DULBE */
	nvme_features_reset(r.ctrl[0]);
	assert_status(get_ns(&r, 2, 0x05), SUCCESS);
	assert_int_equal(r.cmd.c.dw0, 0);
	rig_close(&r);
}

static void features_of_an_inaccessible_namespace_are_too(void **state)
{
	struct rig r;

	rig_open(&r);
	nvme_ctrl_ana_set(r.ctrl[0], NVME_ANA_INACCESSIBLE);
	assert_status(set_ns(&r, 1, 0x05, 1), ANA_INACCESSIBLE);
	assert_status(get_ns(&r, 1, 0x84), ANA_INACCESSIBLE);
	assert_status(SET(&r, 0x06, 0), SUCCESS);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_kept_until_a_reset),
		cmocka_unit_test(no_feature_is_saveable),
		cmocka_unit_test(a_feature_of_the_controller_is_not_of_a_namespace),
		cmocka_unit_test(there_is_one_power_state),
		cmocka_unit_test(without_its_cache_it_writes_through),
		cmocka_unit_test(all_queues_are_allocated_whatever_was_asked),
		cmocka_unit_test(coalescing_reaches_the_vectors),
		cmocka_unit_test(thresholds_are_of_the_composite_temperature),
		cmocka_unit_test(a_threshold_that_is_crossed_is_an_event),
		cmocka_unit_test(a_threshold_that_is_crossed_is_no_event_unless_wanted),
		cmocka_unit_test(a_timestamp_goes_on_from_what_was_set),
		cmocka_unit_test(without_keep_alive_the_controller_is_fatal),
		cmocka_unit_test(keep_alive_begins_the_time_anew),
		cmocka_unit_test(a_keep_alive_timer_of_zero_is_off),
		cmocka_unit_test(a_host_identifier_has_8_or_16_bytes),
		cmocka_unit_test(host_identifiers_of_a_subsystem_have_one_length),
		cmocka_unit_test(features_of_a_namespace_need_one),
		cmocka_unit_test(error_recovery_is_kept_for_each_namespace),
		cmocka_unit_test(features_of_an_inaccessible_namespace_are_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
