#include "blk/backend/sim.h"
#include "nvme/admin_rig.h"

#define NOTICE_NS  0x040002u
#define NOTICE_ANA 0x0c0302u

static void aer(struct rig *r, struct rig_cmd *rc, uint16_t cid)
{
	memset(rc, 0, sizeof(*rc));
	rig_start(r, rc, 0, NVME_ADMIN_AER, 0, 0, 0);
	rc->c.cid = cid;
}

static void wants(struct rig *r, uint32_t events)
{
	assert_status(rig_send(r, NVME_ADMIN_SET_FEATURES, 0, 0x0b, events), SUCCESS);
	nvme_aen_reset(r->ctrl[0]);
}

static void reads(struct rig *r, uint32_t lid)
{
	assert_status(rig_send(r, NVME_ADMIN_GET_LOG_PAGE, 0, 1023u << 16 | lid, 0), SUCCESS);
}

static void assert_event(const struct rig_cmd *rc, uint32_t dw0)
{
	assert_true(rc->ended);
	assert_int_equal(rc->c.status, NVME_SC_SUCCESS);
	assert_int_equal(rc->c.dw0, dw0);
}

static void an_event_ends_the_request_that_waits(void **state)
{
	struct rig_cmd a;
	struct rig r;

	rig_open(&r);
	wants(&r, 1u << 8);
	aer(&r, &a, 1);
	assert_false(a.ended);
	rig_ns_add(&r, 2, "size=1M");
	assert_event(&a, NOTICE_NS);
	rig_close(&r);
}

static void an_event_waits_for_a_request(void **state)
{
	struct rig_cmd a;
	struct rig r;

	rig_open(&r);
	wants(&r, 1u << 8);
	rig_ns_add(&r, 2, "size=1M");
	aer(&r, &a, 1);
	assert_event(&a, NOTICE_NS);
	rig_close(&r);
}

static void nobody_hears_of_what_he_does_not_want(void **state)
{
	struct rig_cmd a;
	struct rig r;

	rig_open(&r);
	wants(&r, 0);
	aer(&r, &a, 1);
	rig_ns_add(&r, 2, "size=1M");
	nvme_ctrl_ana_set(r.ctrl[0], NVME_ANA_INACCESSIBLE);
	assert_false(a.ended);
	assert_int_equal(r.ctrl[0]->aen.pending_count, 0);
	nvme_event(r.ctrl[0], NVME_EVENT_ERROR, 1, 0x01); /* these cannot be switched off */
	assert_event(&a, 0x010100);
	rig_close(&r);
}

static void a_type_is_masked_until_its_log_page_was_read(void **state)
{
	struct rig_cmd a, b;
	struct rig r;

	rig_open(&r);
	wants(&r, 1u << 8 | 1u << 11);
	aer(&r, &a, 1);
	rig_ns_add(&r, 2, "size=1M");
	assert_event(&a, NOTICE_NS);
	aer(&r, &b, 2);
	rig_ns_add(&r, 3, "size=1M");
	nvme_ctrl_ana_set(r.ctrl[0], NVME_ANA_NON_OPTIMIZED);
	assert_false(b.ended); /* both are notices */
	nvme_event(r.ctrl[0], NVME_EVENT_IO, 0, 0x80);
	assert_event(&b, 0x800006); /* this is none */
	aer(&r, &b, 2);
	reads(&r, 0x0c | 1u << 15); /* retained */
	reads(&r, 0x04 | 1u << 15);
	assert_false(b.ended);
	reads(&r, 0x04);
	assert_event(&b, NOTICE_ANA);
	assert_int_equal(r.ctrl[0]->aen.pending_count, 0); /* the list had told of 3 */
	rig_close(&r);
}

static void what_waits_for_a_page_is_dropped_when_it_is_read(void **state)
{
	struct rig_cmd a, b;
	struct rig r;

	rig_open(&r);
	wants(&r, 1u << 8 | 1u << 11);
	rig_ns_add(&r, 2, "size=1M");
	nvme_ctrl_ana_set(r.ctrl[0], NVME_ANA_NON_OPTIMIZED);
	reads(&r, 0x0c);
	aer(&r, &a, 1);
	assert_event(&a, NOTICE_NS);
	aer(&r, &b, 2);
	reads(&r, 0x04);
	assert_false(b.ended);
	rig_close(&r);
}

static void the_same_event_waits_once(void **state)
{
	struct rig r;

	rig_open(&r);
	wants(&r, 1u << 8);
	for (uint32_t i = 0; i < 5; i++)
		nvme_ns_changed(r.ns[1]);
	assert_int_equal(r.ctrl[0]->aen.pending_count, 1);
	for (uint32_t i = 0; i < 256; i++)
		nvme_event(r.ctrl[0], NVME_EVENT_IO, (uint8_t)i, 0x80);
	assert_int_equal(r.ctrl[0]->aen.pending_count, NVME_EVENT_PENDING_MAX);
	rig_close(&r);
}

static void at_most_four_requests_wait(void **state)
{
	struct rig_cmd a[5];
	struct rig r;

	rig_open(&r);
	wants(&r, 1u << 8);
	for (uint16_t i = 0; i < 5; i++)
		aer(&r, &a[i], i);
	assert_false(a[0].ended || a[3].ended);
	assert_true(a[4].ended);
	assert_int_equal(a[4].c.status, NVME_SC_AER_LIMIT);
	nvme_ns_changed(r.ns[1]);
	assert_event(&a[0], NOTICE_NS);
	assert_false(a[1].ended);
	aer(&r, &a[4], 4);
	assert_false(a[4].ended);
	rig_close(&r);
}

static void abort_ends_the_request_of_that_identifier(void **state)
{
	struct rig_cmd a[3];
	struct rig r;

	rig_open(&r);
	for (uint16_t i = 0; i < 3; i++)
		aer(&r, &a[i], i);
	assert_false(nvme_aen_abort(r.ctrl[0], 7));
	assert_true(nvme_aen_abort(r.ctrl[0], 1));
	assert_true(a[1].ended);
	assert_int_equal(a[1].c.status, NVME_SC_ABORT_REQUESTED);
	assert_false(nvme_aen_abort(r.ctrl[0], 1));
	assert_false(nvme_aen_abort(r.ctrl[1], 0));
	assert_false(a[0].ended || a[2].ended);
	nvme_event(r.ctrl[0], NVME_EVENT_ERROR, 0, 0x01);
	assert_event(&a[0], 0x010000);
	rig_close(&r);
}

static void a_reset_forgets_requests_and_events(void **state)
{
	struct rig_cmd a, b;
	struct rig r;

	rig_open(&r);
	wants(&r, 1u << 8);
	aer(&r, &a, 1);
	nvme_aen_reset(r.ctrl[0]);
	assert_false(a.ended);
	nvme_ns_changed(r.ns[1]);
	assert_false(a.ended);
	nvme_aen_reset(r.ctrl[0]);
	aer(&r, &b, 2);
	assert_false(b.ended);
	rig_close(&r);
}

static void over_vhost_there_are_no_events(void **state)
{
	struct rig r;

	rig_open_as(&r, NVME_PROFILE_VHOST);
	nvme_event(r.ctrl[0], NVME_EVENT_ERROR, 0, 0x01);
	assert_int_equal(r.ctrl[0]->aen.pending_count, 0);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_event_ends_the_request_that_waits),
		cmocka_unit_test(an_event_waits_for_a_request),
		cmocka_unit_test(nobody_hears_of_what_he_does_not_want),
		cmocka_unit_test(a_type_is_masked_until_its_log_page_was_read),
		cmocka_unit_test(what_waits_for_a_page_is_dropped_when_it_is_read),
		cmocka_unit_test(the_same_event_waits_once),
		cmocka_unit_test(at_most_four_requests_wait),
		cmocka_unit_test(abort_ends_the_request_of_that_identifier),
		cmocka_unit_test(a_reset_forgets_requests_and_events),
		cmocka_unit_test(over_vhost_there_are_no_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
