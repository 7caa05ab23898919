#include "nvme/nvme_rig.h"
#include "nvme/save.h"

/* The state of a controller in the middle of things: events, queues that wrapped. */
static void busy_open(struct rig *rig, void **ret_bytes, size_t *ret_len)
{
	rig_open_ready(rig, "ram", "size=1M");
	for (uint32_t i = 0; i < 70; i++) {
		rig_sqe_rw(rig, NVME_IO_READ, 0, 1);
		assert_status(rig_io(rig, 1), SUCCESS);
	}
	rig_sqe(rig, NVME_ADMIN_SET_FEATURES, 0);
	rig->sqe.cdw10 = le32(NVME_FEAT_ARBITRATION);
	rig->sqe.cdw11 = le32(3);
	assert_status(rig_admin(rig), SUCCESS);
	rig_sqe(rig, NVME_ADMIN_AER, 0);
	rig_write_sqe(rig, 0, &rig->sqe);
	rig_write_sqe(rig, 0, &rig->sqe);
	rig_ring(rig, 0);
	rig_settle(rig);
	rig_quiesce(rig);
	assert_int_equal(nvme_ctrl_save(rig->guest.ctrl, ret_bytes, ret_len), 0);
}

/* Another controller takes the guest over, as on another machine. */
static void move(struct rig *rig, const void *bytes, size_t len)
{
	struct rig_guest *g = &rig->guest;
	struct nvme_ctrl_params params = rig->params;
	struct err err = { 0 };

	nvme_ctrl_free(g->ctrl, rig_freed);
	rig_until(rig, g->freed);
	g->freed = 0;
	params.port = g;
	assert_int_equal(nvme_ctrl_new(rig->subsys, &params, &g->ctrl, &err), 0);
	rig_quiesce(rig);
	if (nvme_ctrl_load(g->ctrl, bytes, len, &err) < 0)
		fail_msg("%s", err.msg);
	nvme_ctrl_maps_set(g->ctrl, g->map, g->map);
	nvme_ctrl_resume(g->ctrl);
}

static void a_guest_goes_on_with_another_controller(void **state)
{
	struct rig rig;
	void *bytes;
	size_t len;

	busy_open(&rig, &bytes, &len);
	/* an event that came too late to be told of, and a command that waits */
	nvme_event(rig.guest.ctrl, NVME_EVENT_ERROR, 3, 1);
	rig_settle(&rig);
	free(bytes);
	assert_int_equal(nvme_ctrl_save(rig.guest.ctrl, &bytes, &len), 0);
	move(&rig, bytes, len);
	free(bytes);
	rig_reap(&rig, 0);
	assert_int_equal(le32_get(rig.cqe.dw0), 0x010300);
	assert_int_equal(rig_reg32(&rig, NVME_REG_CSTS), NVME_CSTS_RDY);
	assert_int_equal(rig_reg64(&rig, NVME_REG_ASQ), rig_sq_gpa(0));
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	assert_status(rig_io(&rig, 1), SUCCESS);
	rig_sqe(&rig, NVME_ADMIN_GET_FEATURES, 0)->cdw10 = le32(NVME_FEAT_ARBITRATION);
	assert_status(rig_admin(&rig), SUCCESS);
	assert_int_equal(le32_get(rig.cqe.dw0), 3);
	/* the second request for events waits there, too */
	nvme_event(rig.guest.ctrl, NVME_EVENT_SMART, 0, 2);
	rig_reap(&rig, 0);
	rig_disable(&rig);
	rig_close(&rig);
}

/* What two controllers say of themselves, less the clock. */
static void assert_same_state(const void *a, const void *b, size_t len)
{
	const size_t clock = offsetof(struct saved, timestamp_ms);

	assert_memory_equal(a, b, clock);
	assert_memory_equal((const char *)a + clock + 8, (const char *)b + clock + 8,
			    len - clock - 8);
}

static void all_that_a_host_can_ask_for_goes_with_it(void **state)
{
	struct nvme_ctrl *ctrl;
	size_t len, again_len;
	void *bytes, *again;
	struct nvme_att *att;
	struct rig rig;

	busy_open(&rig, &bytes, &len);
	free(bytes);
	ctrl = rig.guest.ctrl;
	for (uint16_t i = 0; i < 70; i++)
		nvme_log_error_add(ctrl, &(struct nvme_error_entry){ .lba = i,
								     .sqid = 1,
								     .cid = i,
								     .status = 0x4004,
								     .location = 7,
								     .nsid = 1 });
	nvme_log_ns_changed(ctrl, 1);
	nvme_log_ns_changed(ctrl, 1024);
	ctrl->logs.ana_changes = 5;
	ctrl->logs.critical_warning = 2;
	for (uint32_t i = 0; i < NVME_RESV_LOG_MAX; i++)
		ctrl->resv_log.entries[i].nsid = ctrl->resv_log.entries[i].event = 1;
	ctrl->resv_log.count = 100;
	ctrl->resv_log.first = 60;
	ctrl->resv_log.unread = 9;
	att = nvme_att_find(ctrl, 1);
	att->resv_mask = 0x6;
	att->tler = 33;
	for (uint32_t qid = 0; qid < 2; qid++)
		nvme_cq_is_unread(ctrl->queues.cq[qid]); /* as each look does: heads are seen */
	assert_int_equal(nvme_ctrl_save(ctrl, &bytes, &len), 0);
	move(&rig, bytes, len);
	rig_quiesce(&rig);
	assert_int_equal(nvme_ctrl_save(rig.guest.ctrl, &again, &again_len), 0);
	assert_int_equal(len, again_len);
	assert_same_state(bytes, again, len);
	assert_int_equal(rig.guest.ctrl->resv_log.unread, 9);
	assert_int_equal(rig.guest.ctrl->logs.errors[69 % NVME_ERROR_ENTRIES].cid, 69);
	nvme_ctrl_resume(rig.guest.ctrl);
	free(bytes);
	free(again);
	rig_close(&rig);
}

static void a_controller_keeps_its_identifier_where_it_is_free(void **state)
{
	struct err err = { 0 };
	struct rig_guest g;
	struct rig rig;
	void *bytes;
	size_t len;

	busy_open(&rig, &bytes, &len);
	((uint64_t *)bytes)[offsetof(struct saved, cntlid) / 8] = 9;
	rig.ns->detached = 1ull << 8; /* not for controller 9 */
	move(&rig, bytes, len);
	assert_int_equal(rig.guest.ctrl->cntlid, 9);
	assert_int_equal(rig.subsys->cntlids, 1ull << 8);
	assert_null(nvme_att_find(rig.guest.ctrl, 1));
	/* another one gets what is left */
	rig_guest_open(&rig, &g);
	nvme_ctrl_quiesce(g.ctrl, rig_quiet);
	assert_int_equal(nvme_ctrl_load(g.ctrl, bytes, len, &err), 0);
	assert_int_equal(g.ctrl->cntlid, 1);
	assert_non_null(nvme_att_find(g.ctrl, 1));
	nvme_ctrl_resume(g.ctrl);
	rig_guest_close(&rig, &g);
	free(bytes);
	rig_close(&rig);
}

static void what_may_not_have_been_heard_is_told_again(void **state)
{
	struct rig rig;
	void *bytes;
	size_t len;

	rig_open_ready(&rig, "ram", "size=1M");
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	rig_until(&rig, rig_peek(&rig, 1));
	rig_quiesce(&rig);
	rig_interrupts(&rig, 1);
	assert_int_equal(nvme_ctrl_save(rig.guest.ctrl, &bytes, &len), 0);
	move(&rig, bytes, len);
	nvme_ctrl_vector_fd_set(rig.guest.ctrl, 1, dup(rig.guest.vector_fd[1]));
	nvme_ctrl_msix_enable(rig.guest.ctrl, true);
	rig_until(&rig, rig_interrupts(&rig, 1));
	free(bytes);
	rig_close(&rig);
}

static void a_page_that_the_guest_has_been_writing_to_stays_as_it_is(void **state)
{
	static uint32_t page[NVME_DOORBELLS_BYTES / 4] __attribute__((aligned(4096)));
	struct rig_guest *g;
	struct nvme_ctrl_params params;
	struct err err = { 0 };
	struct rig rig;
	void *bytes;
	size_t len;

	busy_open(&rig, &bytes, &len);
	g = &rig.guest;
	memcpy(page, g->ctrl->queues.doorbells, sizeof(page));
	page[2]++; /* rung while nobody looked */
	nvme_ctrl_free(g->ctrl, rig_freed);
	rig_until(&rig, g->freed);
	g->freed = 0;
	params = rig.params;
	params.port = g;
	params.doorbells_polled = true;
	assert_int_equal(nvme_ctrl_new(rig.subsys, &params, &g->ctrl, &err), 0);
	nvme_ctrl_doorbells_set(g->ctrl, page);
	rig_quiesce(&rig);
	assert_int_equal(nvme_ctrl_load(g->ctrl, bytes, len, &err), 0);
	nvme_ctrl_maps_set(g->ctrl, g->map, g->map);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	rig_write_sqe(&rig, 1, &rig.sqe);
	nvme_ctrl_resume(g->ctrl);
	rig_reap(&rig, 1);
	free(bytes);
	rig_close(&rig);
}

static void a_disabled_controller_is_moved(void **state)
{
	struct rig rig;
	void *bytes;
	size_t len;

	rig_open(&rig, "ram", "size=1M");
	rig_reg32_set(&rig, NVME_REG_AQA, 0x001f001f);
	rig_quiesce(&rig);
	assert_int_equal(nvme_ctrl_save(rig.guest.ctrl, &bytes, &len), 0);
	move(&rig, bytes, len);
	free(bytes);
	assert_int_equal(rig_reg32(&rig, NVME_REG_AQA), 0x001f001f);
	rig_enable(&rig);
	assert_int_equal(rig_reg32(&rig, NVME_REG_CSTS), NVME_CSTS_RDY);
	rig_close(&rig);
}

static void a_controller_in_use_takes_no_state(void **state)
{
	struct err err = { 0 };
	struct rig rig;
	void *bytes;
	size_t len;

	busy_open(&rig, &bytes, &len);
	assert_int_equal(nvme_ctrl_load(rig.guest.ctrl, bytes, len, &err), -EINVAL);
	free(bytes);
	rig_close(&rig);
}

/* Each byte of it is changed, and it is cut at each word: it loads or is refused, no more. */
static void damaged_state_is_refused_or_harmless(void **state)
{
	uint32_t refused = 0;
	struct rig rig;
	uint8_t *copy;
	void *bytes;
	size_t len;

	busy_open(&rig, &bytes, &len);
	copy = malloc(len);
	assert_non_null(copy);
	for (size_t i = 0; i < 2 * len; i++) {
		struct rig_guest g;
		struct err err = { 0 };
		size_t cut = i < len || i % 8 ? len : i - len;

		if (i >= len && i % 8)
			continue;
		memcpy(copy, bytes, len);
		if (i < len)
			copy[i] ^= (uint8_t)(1u << (i % 8)) | (i % 3 ? 0 : 0x80);
		rig_guest_open(&rig, &g);
		nvme_ctrl_quiesce(g.ctrl, rig_quiet);
		if (nvme_ctrl_load(g.ctrl, copy, cut, &err) < 0) {
			assert_true(err.msg[0]);
			assert_true(nvme_ctrl_is_idle(g.ctrl));
			refused++;
		}
		nvme_ctrl_maps_set(g.ctrl, g.map, g.map);
		nvme_ctrl_resume(g.ctrl);
		rig_turn(&rig);
		rig_guest_close(&rig, &g);
	}
	assert_true(refused > len / 4);
	free(copy);
	free(bytes);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_goes_on_with_another_controller),
		cmocka_unit_test(all_that_a_host_can_ask_for_goes_with_it),
		cmocka_unit_test(a_controller_keeps_its_identifier_where_it_is_free),
		cmocka_unit_test(what_may_not_have_been_heard_is_told_again),
		cmocka_unit_test(a_page_that_the_guest_has_been_writing_to_stays_as_it_is),
		cmocka_unit_test(a_disabled_controller_is_moved),
		cmocka_unit_test(a_controller_in_use_takes_no_state),
		cmocka_unit_test(damaged_state_is_refused_or_harmless),
	};

	return cmocka_run_group_tests_name("nvme save", tests, NULL, NULL);
}
