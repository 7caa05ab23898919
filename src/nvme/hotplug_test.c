/* What changes under a guest while its queues run: namespaces, access states, protection. */
#include "nvme/nvme_rig.h"

#define NOTICE_NS  0x040002u
#define NOTICE_ANA 0x0c0302u

static uint16_t start(struct rig *rig, uint16_t qid)
{
	uint16_t cid = rig_write_sqe(rig, qid, &rig->sqe);

	rig_ring(rig, qid);
	rig_settle(rig);
	return cid;
}

static enum nvme_status set_feature(struct rig *rig, uint32_t nsid, uint32_t fid, uint32_t value)
{
	rig_sqe(rig, NVME_ADMIN_SET_FEATURES, nsid);
	rig->sqe.cdw10 = le32(fid);
	rig->sqe.cdw11 = le32(value);
	return rig_admin(rig);
}

static enum nvme_status get_log(struct rig *rig, uint32_t lid, uint32_t bytes)
{
	rig_sqe(rig, NVME_ADMIN_GET_LOG_PAGE, 0);
	rig->sqe.cdw10 = le32(lid | (bytes / 4 - 1) << 16);
	return rig_admin(rig);
}

static uint16_t start_aer(struct rig *rig)
{
	rig_sqe(rig, NVME_ADMIN_AER, 0);
	return start(rig, 0);
}

static void assert_event(struct rig *rig, uint16_t cid, uint32_t dw0)
{
	rig_reap(rig, 0);
	assert_int_equal(le16_get(rig->cqe.cid), cid);
	assert_int_equal(rig_status(rig), NVME_SC_SUCCESS);
	assert_int_equal(le32_get(rig->cqe.dw0), dw0);
}

static enum nvme_status read_one(struct rig *rig)
{
	rig_sqe_rw(rig, NVME_IO_READ, 0, 1);
	return rig_io(rig, 1);
}

static struct nvme_ns *ns_add(struct rig *rig, uint32_t nsid, struct blk_dev *dev)
{
	const struct nvme_ns_params p = { .nsid = nsid, .identity = "x", .dev = dev };
	struct nvme_ns *ns;
	struct err err = { 0 };

	if (nvme_ns_add(rig->subsys, &p, &ns, &err) < 0)
		fail_msg("%s", err.msg);
	return ns;
}

static void a_removal_waits_for_the_commands_under_way(void **state)
{
	struct rig rig;
	uint16_t cid;

	rig_open_ready(&rig, "sim", "size=1M");
	blk_sim_hold(rig.dev, true);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	cid = start(&rig, 1);
	nvme_ns_remove(rig.ns, rig_removed, &rig);
	rig_settle(&rig);
	assert_int_equal(rig.removed, 0);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	assert_status(rig_io(&rig, 1), INVALID_NS);
	assert_true(rig_dnr(&rig));
	blk_sim_hold(rig.dev, false);
	rig_reap(&rig, 1);
	assert_int_equal(le16_get(rig.cqe.cid), cid);
	assert_int_equal(rig_status(&rig), NVME_SC_SUCCESS);
	rig_until(&rig, rig.removed);
	rig.ns = ns_add(&rig, 1, rig.dev);
	assert_status(read_one(&rig), SUCCESS);
	rig_close(&rig);
}

static void another_of_its_number_may_come_before_it_is_gone(void **state)
{
	struct blk_dev *dev;
	struct err err = { 0 };
	struct rig rig;

	rig_open_ready(&rig, "sim", "size=1M");
	assert_int_equal(blk_dev_open("sim", "d1", "size=2M", &dev, &err), 0);
	*(uint8_t *)blk_sim_memory(dev) = 0xab;
	assert_status(read_one(&rig), SUCCESS);
	blk_sim_hold(rig.dev, true);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	rig.sqe.prp1 = le64(RIG_DATA + NVME_PAGE_BYTES);
	start(&rig, 1);
	nvme_ns_remove(rig.ns, rig_removed, &rig);
	rig.ns = ns_add(&rig, 1, dev);
	assert_status(read_one(&rig), SUCCESS);
	assert_int_equal(*(uint8_t *)rig_mem(&rig, RIG_DATA), 0xab);
	assert_int_equal(rig.removed, 0);
	blk_sim_hold(rig.dev, false);
	rig_reap(&rig, 1);
	rig_until(&rig, rig.removed);
	rig_sqe_rw(&rig, NVME_IO_READ, 4095, 1);
	assert_status(rig_io(&rig, 1), SUCCESS);
	blk_dev_unref(dev);
	rig_close(&rig);
}

static void a_guest_hears_of_a_new_namespace_and_of_a_resize(void **state)
{
	struct err err = { 0 };
	struct nvme_ns *more;
	struct rig rig;
	uint16_t cid;

	rig_open_ready(&rig, "sim", "size=1M");
	assert_status(get_log(&rig, 0x04, 4096), SUCCESS);
	assert_status(set_feature(&rig, 0, 0x0b, 1u << 8), SUCCESS);
	cid = start_aer(&rig);
	more = ns_add(&rig, 7, rig.dev);
	assert_event(&rig, cid, NOTICE_NS);
	assert_status(get_log(&rig, 0x04, 4096), SUCCESS);
	assert_memory_equal(rig_mem(&rig, RIG_DATA), "\x07\0\0\0\0\0\0\0", 8);
	cid = start_aer(&rig);
	blk_sim_resize(rig.dev, 512 << 10);
	assert_int_equal(blk_dev_rescan(rig.dev, &err), 0);
	assert_event(&rig, cid, NOTICE_NS);
	assert_status(get_log(&rig, 0x04, 4096), SUCCESS);
	assert_memory_equal(rig_mem(&rig, RIG_DATA), "\x01\0\0\0\x07\0\0\0\0\0\0\0", 12);
	rig_sqe_rw(&rig, NVME_IO_READ, 1024, 1);
	assert_status(rig_io(&rig, 1), LBA_OUT_OF_RANGE);
	nvme_ns_remove(more, rig_removed, &rig);
	rig_until(&rig, rig.removed);
	rig_close(&rig);
}

static void requests_for_events_end_with_a_reset_and_come_again(void **state)
{
	struct rig rig;
	uint16_t cid;

	rig_open_ready(&rig, "sim", "size=1M");
	for (int i = 0; i < NVME_AER_MAX; i++)
		start_aer(&rig);
	start_aer(&rig);
	rig_reap(&rig, 0);
	assert_int_equal(rig_status(&rig), NVME_SC_AER_LIMIT);
	rig_disable(&rig);
	assert_false(rig_peek(&rig, 0));
	rig_enable(&rig);
	assert_status(set_feature(&rig, 0, 0x0b, 1u << 8), SUCCESS);
	for (int i = 1; i < NVME_AER_MAX; i++)
		start_aer(&rig);
	cid = start_aer(&rig);
	rig_sqe(&rig, NVME_ADMIN_ABORT, 0);
	rig.sqe.cdw10 = le32((uint32_t)cid << 16);
	start(&rig, 0);
	rig_reap(&rig, 0);
	assert_int_equal(le16_get(rig.cqe.cid), cid);
	assert_int_equal(rig_status(&rig), NVME_SC_ABORT_REQUESTED);
	rig_reap(&rig, 0);
	assert_int_equal(le32_get(rig.cqe.dw0) & 1, 0); /* it was aborted */
	rig_close(&rig);
}

static void an_inaccessible_controller_refuses_io_that_may_be_tried_elsewhere(void **state)
{
	struct rig rig;
	uint16_t cid;

	rig_open_ready(&rig, "sim", "size=1M");
	assert_status(read_one(&rig), SUCCESS);
	assert_status(set_feature(&rig, 0, 0x0b, 1u << 11), SUCCESS);
	cid = start_aer(&rig);
	nvme_ctrl_ana_set(rig.guest.ctrl, NVME_ANA_INACCESSIBLE);
	assert_event(&rig, cid, NOTICE_ANA);
	assert_status(read_one(&rig), ANA_INACCESSIBLE);
	assert_false(rig_dnr(&rig));
	assert_status(get_log(&rig, 0x0c, 4144), SUCCESS); /* over two pages */
	assert_memory_equal(rig_mem(&rig, RIG_DATA + 16), "\x01\0\0\0\x01\0\0\0", 8);
	assert_int_equal(*(uint8_t *)rig_mem(&rig, RIG_DATA + 32), NVME_ANA_INACCESSIBLE);
	nvme_ctrl_ana_set(rig.guest.ctrl, NVME_ANA_CHANGE);
	assert_status(read_one(&rig), ANA_TRANSITION);
	nvme_ctrl_ana_set(rig.guest.ctrl, NVME_ANA_PERSISTENT_LOSS);
	assert_status(read_one(&rig), ANA_PERSISTENT_LOSS);
	nvme_ctrl_ana_set(rig.guest.ctrl, NVME_ANA_NON_OPTIMIZED);
	assert_status(read_one(&rig), SUCCESS);
	rig_close(&rig);
}

static void write_protection_waits_for_the_writes_under_way(void **state)
{
	struct rig rig;
	uint16_t cid;

	rig_open_ready(&rig, "sim", "size=1M");
	blk_sim_hold(rig.dev, true);
	rig_sqe_rw(&rig, NVME_IO_WRITE, 0, 1);
	start(&rig, 1);
	rig_sqe(&rig, NVME_ADMIN_SET_FEATURES, 1);
	rig.sqe.cdw10 = le32(0x84);
	rig.sqe.cdw11 = le32(NVME_WP_UNTIL_POWER_CYCLE);
	cid = start(&rig, 0);
	assert_false(rig_peek(&rig, 0));
	rig_sqe_rw(&rig, NVME_IO_WRITE, 0, 1);
	assert_status(rig_io(&rig, 1), NS_WRITE_PROTECTED);
	assert_true(rig_dnr(&rig));
	blk_sim_hold(rig.dev, false);
	rig_reap(&rig, 1);
	assert_int_equal(rig_status(&rig), NVME_SC_SUCCESS);
	rig_reap(&rig, 0);
	assert_int_equal(le16_get(rig.cqe.cid), cid);
	assert_int_equal(rig_status(&rig), NVME_SC_SUCCESS);
	assert_status(read_one(&rig), SUCCESS);
	rig_close(&rig);
}

static void a_guest_that_does_not_keep_alive_sees_a_fatal_controller(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "sim", "size=1M");
	assert_status(set_feature(&rig, 0, 0x0f, 1000), SUCCESS);
	rig_until(&rig, rig_reg32(&rig, NVME_REG_CSTS) & NVME_CSTS_CFS);
	rig_disable(&rig);
	rig_enable(&rig);
	assert_int_equal(rig_reg32(&rig, NVME_REG_CSTS), NVME_CSTS_RDY);
	rig_close(&rig);
}

static void a_detached_namespace_is_gone_for_one_guest(void **state)
{
	struct rig_guest other;
	struct rig rig;

	rig_open_ready(&rig, "sim", "size=1M");
	rig_guest_open(&rig, &other);
	assert_status(read_one(&rig), SUCCESS);
	assert_int_equal(nvme_ns_detach(rig.ns, other.ctrl, rig_removed, &rig), 0);
	rig_until(&rig, rig.removed);
	assert_status(read_one(&rig), SUCCESS);
	assert_int_equal(nvme_ns_detach(rig.ns, rig.guest.ctrl, rig_removed, &rig), 0);
	assert_status(read_one(&rig), INVALID_NS);
	rig_until(&rig, rig.removed == 2);
	assert_int_equal(nvme_ns_attach(rig.ns, rig.guest.ctrl), 0);
	assert_status(read_one(&rig), SUCCESS);
	rig_guest_close(&rig, &other);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_removal_waits_for_the_commands_under_way),
		cmocka_unit_test(another_of_its_number_may_come_before_it_is_gone),
		cmocka_unit_test(a_guest_hears_of_a_new_namespace_and_of_a_resize),
		cmocka_unit_test(requests_for_events_end_with_a_reset_and_come_again),
		cmocka_unit_test(an_inaccessible_controller_refuses_io_that_may_be_tried_elsewhere),
		cmocka_unit_test(write_protection_waits_for_the_writes_under_way),
		cmocka_unit_test(a_guest_that_does_not_keep_alive_sees_a_fatal_controller),
		cmocka_unit_test(a_detached_namespace_is_gone_for_one_guest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
