#include "nvme/nvme_rig.h"

struct create_case {
	const char *what;
	uint32_t cdw10, cdw11;
	uint64_t prp1;
	enum nvme_status status;
};

static void creates(struct rig *rig, uint8_t opcode, const struct create_case *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		enum nvme_status status;

		rig_sqe(rig, opcode, 0);
		rig->sqe.cdw10 = le32(cases[i].cdw10);
		rig->sqe.cdw11 = le32(cases[i].cdw11);
		rig->sqe.prp1 = le64(cases[i].prp1);
		status = rig_admin(rig);
		if (status != cases[i].status)
			fail_msg("%s: status %03x, expected %03x", cases[i].what, status,
				 cases[i].status);
	}
}

static void a_completion_queue_is_created_only_as_it_should(void **state)
{
	const uint64_t at = rig_cq_gpa(1);
	const struct create_case cases[] = {
		{ "identifier 0", 0x003f0000, 1, at, NVME_SC_INVALID_QID },
		{ "identifier beyond", 0x003f0009, 1, at, NVME_SC_INVALID_QID },
		{ "size 0", 0x00000001, 1, at, NVME_SC_INVALID_QUEUE_SIZE },
		{ "size beyond MQES", 0x10000001, 1, at, NVME_SC_INVALID_QUEUE_SIZE },
		{ "vector beyond", 0x003f0001, 0x00080003, at, NVME_SC_INVALID_VECTOR },
		{ "not contiguous", 0x003f0001, 2, at, NVME_SC_INVALID_FIELD },
		{ "address in a page", 0x003f0001, 1, at + 8, NVME_SC_INVALID_PRP_OFFSET },
		{ "address outside", 0x003f0001, 1, RIG_MEM_BYTES, NVME_SC_INVALID_FIELD },
		{ "end outside", 0x0fff0001, 1, RIG_MEM_BYTES - 4096, NVME_SC_INVALID_FIELD },
		{ "largest", 0x0fff0001, 0x00070003, at, NVME_SC_SUCCESS },
		{ "again", 0x003f0001, 1, at, NVME_SC_INVALID_QID },
	};
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	rig_enable(&rig);
	creates(&rig, NVME_ADMIN_CREATE_CQ, cases, ARRAY_SIZE(cases));
	rig_close(&rig);
}

static void a_submission_queue_is_created_only_as_it_should(void **state)
{
	const uint64_t at = rig_sq_gpa(1);
	const struct create_case cases[] = {
		{ "identifier 0", 0x003f0000, 0x10001, at, NVME_SC_INVALID_QID },
		{ "identifier beyond", 0x003f0009, 0x10001, at, NVME_SC_INVALID_QID },
		{ "size 0", 0x00000001, 0x10001, at, NVME_SC_INVALID_QUEUE_SIZE },
		{ "size beyond MQES", 0x10000001, 0x10001, at, NVME_SC_INVALID_QUEUE_SIZE },
		{ "completion queue 0", 0x003f0001, 0x00001, at, NVME_SC_INVALID_QID },
		{ "completion queue beyond", 0x003f0001, 0x90001, at, NVME_SC_INVALID_QID },
		{ "no completion queue", 0x003f0001, 0x20001, at, NVME_SC_INVALID_CQ },
		{ "not contiguous", 0x003f0001, 0x10000, at, NVME_SC_INVALID_FIELD },
		{ "address in a page", 0x003f0001, 0x10001, at + 64, NVME_SC_INVALID_PRP_OFFSET },
		{ "address outside", 0x003f0001, 0x10001, RIG_MEM_BYTES, NVME_SC_INVALID_FIELD },
		{ "largest", 0x0fff0001, 0x10001, at, NVME_SC_SUCCESS },
		{ "again", 0x003f0001, 0x10001, at, NVME_SC_INVALID_QID },
	};
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	rig_enable(&rig);
	assert_status(rig_create_cq(&rig, 1, 64, 1), SUCCESS);
	creates(&rig, NVME_ADMIN_CREATE_SQ, cases, ARRAY_SIZE(cases));
	rig_close(&rig);
}

static void entry_sizes_are_needed_for_io_queues(void **state)
{
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	rig_enable(&rig);
	rig_reg32_set(&rig, NVME_REG_CC, NVME_CC_EN);
	assert_status(rig_create_cq(&rig, 1, 64, 1), INVALID_QUEUE_SIZE);
	rig_reg32_set(&rig, NVME_REG_CC, RIG_CC);
	assert_status(rig_create_cq(&rig, 1, 64, 1), SUCCESS);
	rig_close(&rig);
}

static void queues_are_deleted_in_order_and_made_again(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	assert_status(rig_delete_queue(&rig, NVME_ADMIN_DELETE_CQ, 1), INVALID_QUEUE_DELETION);
	assert_status(rig_delete_queue(&rig, NVME_ADMIN_DELETE_SQ, 0), INVALID_QID);
	assert_status(rig_delete_queue(&rig, NVME_ADMIN_DELETE_SQ, 2), INVALID_QID);
	assert_status(rig_delete_queue(&rig, NVME_ADMIN_DELETE_SQ, 0xffff), INVALID_QID);
	assert_status(rig_delete_queue(&rig, NVME_ADMIN_DELETE_CQ, 0), INVALID_QID);
	assert_status(rig_delete_queue(&rig, NVME_ADMIN_DELETE_CQ, 2), INVALID_QID);
	for (uint32_t i = 0; i < 20; i++) {
		rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
		assert_status(rig_io(&rig, 1), SUCCESS);
		assert_int_equal(le16_get(rig.cqe.sqhd), 1);
		assert_status(rig_delete_queue(&rig, NVME_ADMIN_DELETE_SQ, 1), SUCCESS);
		assert_status(rig_delete_queue(&rig, NVME_ADMIN_DELETE_SQ, 1), INVALID_QID);
		assert_status(rig_delete_queue(&rig, NVME_ADMIN_DELETE_CQ, 1), SUCCESS);
		assert_status(rig_delete_queue(&rig, NVME_ADMIN_DELETE_CQ, 1), INVALID_QID);
		rig_io_queues(&rig, 1, 16);
	}
	rig_close(&rig);
}

/* ---- queues that are created twice, over vhost ---- */

static void vhost_admin_done(void *port, const struct nvme_cqe *cqe)
{
	struct rig *rig = container_of((struct rig_guest *)port, struct rig, guest);

	rig->cqe = *cqe;
	rig->front_done = true;
}

static enum nvme_status vhost_admin(struct rig *rig)
{
	rig->front_done = false;
	nvme_ctrl_admin(rig->guest.ctrl, &rig->sqe, NULL, vhost_admin_done);
	rig_until(rig, rig->front_done);
	return rig_status(rig);
}

static enum nvme_status vhost_create_cq(struct rig *rig, uint16_t qid, uint32_t size)
{
	rig_queue_init(rig, qid, rig->guest.q[qid].sq_size, size);
	rig_sqe_create_cq(rig, qid, size, qid);
	return vhost_admin(rig);
}

static enum nvme_status vhost_create_sq(struct rig *rig, uint16_t qid, uint32_t size, uint16_t cqid)
{
	rig->guest.q[qid].sq_size = size;
	rig->guest.q[qid].tail = 0;
	rig->guest.q[qid].cqid = cqid;
	rig_sqe_create_sq(rig, qid, size, cqid);
	return vhost_admin(rig);
}

/* Queues 1 and 2, submitted to; both complete in the completion queue 1. */
static void vhost_open(struct rig *rig, const char *type)
{
	rig_init(rig);
	rig->params.profile = NVME_PROFILE_VHOST;
	rig_ns_add(rig, type, "size=1M");
	rig_guest_open(rig, &rig->guest);
	nvme_ctrl_start(rig->guest.ctrl);
	assert_status(vhost_create_cq(rig, 1, 64), SUCCESS);
	assert_status(vhost_create_sq(rig, 1, 64, 1), SUCCESS);
	assert_status(vhost_create_sq(rig, 2, 64, 1), SUCCESS);
}

static void vhost_reads(struct rig *rig, uint16_t qid)
{
	rig_sqe_rw(rig, NVME_IO_READ, 0, 1);
	assert_status(rig_io(rig, qid), SUCCESS);
}

static void a_submission_queue_created_twice_is_replaced_alone(void **state)
{
	struct rig rig;

	vhost_open(&rig, "ram");
	vhost_reads(&rig, 1);
	vhost_reads(&rig, 2);
	assert_status(vhost_create_sq(&rig, 1, 16, 1), SUCCESS);
	vhost_reads(&rig, 1);
	assert_int_equal(le16_get(rig.cqe.sqhd), 1); /* a new one */
	vhost_reads(&rig, 2);
	assert_int_equal(le16_get(rig.cqe.sqhd), 2); /* the old one */
	assert_true(nvme_ctrl_vector_fd(rig.guest.ctrl, 1) >= 0);
	rig_close(&rig);
}

/* With a command under way on it, which ends without a completion. */
static void a_completion_queue_created_twice_is_replaced_with_what_is_on_it(void **state)
{
	struct rig rig;

	vhost_open(&rig, "sim");
	blk_sim_hold(rig.dev, true);
	rig_sqe_rw(&rig, NVME_IO_FLUSH, 0, 1);
	rig_write_sqe(&rig, 2, &rig.sqe);
	rig_ring(&rig, 2);
	rig_settle(&rig);
	rig_queue_init(&rig, 1, 64, 16);
	rig_sqe_create_cq(&rig, 1, 16, 1);
	rig.front_done = false;
	nvme_ctrl_admin(rig.guest.ctrl, &rig.sqe, NULL, vhost_admin_done);
	rig_settle(&rig);
	blk_sim_hold(rig.dev, false);
	rig_until(&rig, rig.front_done);
	assert_status(rig_status(&rig), SUCCESS);
	assert_null(rig.guest.ctrl->queues.sq[1]);
	assert_null(rig.guest.ctrl->queues.sq[2]);
	assert_int_equal(nvme_ctrl_vector_fd(rig.guest.ctrl, 1), -1);
	assert_false(rig_peek(&rig, 1));
	assert_status(vhost_create_sq(&rig, 2, 16, 1), SUCCESS);
	vhost_reads(&rig, 2);
	rig_close(&rig);
}

static void a_create_that_is_refused_replaces_nothing(void **state)
{
	struct rig rig;

	vhost_open(&rig, "ram");
	rig_sqe_create_cq(&rig, 1, 1, 1);
	assert_status(vhost_admin(&rig), INVALID_QUEUE_SIZE);
	rig_sqe_create_cq(&rig, 1, 64, RIG_VECTORS);
	assert_status(vhost_admin(&rig), INVALID_VECTOR);
	rig_sqe_create_sq(&rig, 1, 64, 3);
	assert_status(vhost_admin(&rig), INVALID_CQ);
	vhost_reads(&rig, 1);
	vhost_reads(&rig, 2);
	assert_true(nvme_ctrl_vector_fd(rig.guest.ctrl, 1) >= 0);
	rig_close(&rig);
}

/* ---- Abort ---- */

static enum nvme_status do_abort(struct rig *rig, uint16_t sqid, uint16_t cid)
{
	rig_sqe(rig, NVME_ADMIN_ABORT, 0);
	rig->sqe.cdw10 = le32(sqid | (uint32_t)cid << 16);
	return rig_admin(rig);
}

static void a_command_is_aborted(void **state)
{
	struct rig rig;
	uint16_t cid;

	rig_open_ready(&rig, "sim", "size=1M,delay-min-ns=5000000000,delay-max-ns=6000000000");
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	cid = rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	rig_settle(&rig);
	assert_status(do_abort(&rig, 1, cid), SUCCESS);
	assert_int_equal(le32_get(rig.cqe.dw0), 0);
	assert_true(rig_peek(&rig, 1)); /* it was there before the end of the Abort */
	assert_status(rig_status(&rig), ABORT_REQUESTED);
	assert_int_equal(le16_get(rig.cqe.cid), cid);
	rig_close(&rig);
}

static void what_is_not_there_is_not_aborted(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	assert_status(do_abort(&rig, 1, 4711), SUCCESS);
	assert_int_equal(le32_get(rig.cqe.dw0), 1);
	assert_status(do_abort(&rig, 5, 1), INVALID_FIELD);
	assert_int_equal(le32_get(rig.cqe.dw0), 1);
	rig_close(&rig);
}

static void a_request_for_events_is_aborted(void **state)
{
	struct rig rig;
	uint16_t cid;

	rig_open_ready(&rig, "ram", "size=1M");
	rig_sqe(&rig, NVME_ADMIN_AER, 0);
	cid = rig_write_sqe(&rig, 0, &rig.sqe);
	rig_ring(&rig, 0);
	rig_settle(&rig);
	rig_sqe(&rig, NVME_ADMIN_ABORT, 0)->cdw10 = le32((uint32_t)cid << 16);
	rig_write_sqe(&rig, 0, &rig.sqe);
	rig_ring(&rig, 0);
	rig_reap(&rig, 0);
	assert_int_equal(le16_get(rig.cqe.cid), cid);
	assert_status(rig_status(&rig), ABORT_REQUESTED);
	rig_reap(&rig, 0);
	assert_status(rig_status(&rig), SUCCESS);
	assert_int_equal(le32_get(rig.cqe.dw0), 0);
	rig_close(&rig);
}

/* The one behind the other: each is there when the other looks. */
static void two_aborts_that_name_each_other_both_end(void **state)
{
	struct rig rig;
	uint16_t cid;

	rig_open_ready(&rig, "ram", "size=1M");
	cid = rig.guest.next_cid;
	for (uint16_t i = 0; i < 2; i++) {
		rig_sqe(&rig, NVME_ADMIN_ABORT, 0)->cdw10 = le32((uint32_t)(cid + !i) << 16);
		rig_write_sqe(&rig, 0, &rig.sqe);
	}
	rig_ring(&rig, 0);
	for (uint16_t i = 0; i < 2; i++) {
		rig_reap(&rig, 0);
		assert_status(rig_status(&rig), SUCCESS);
		assert_int_equal(le32_get(rig.cqe.dw0), 1);
	}
	rig_quiesce(&rig);
	nvme_ctrl_resume(rig.guest.ctrl);
	rig_close(&rig);
}

static void a_request_for_events_behind_its_abort_is_aborted(void **state)
{
	struct rig rig;
	uint16_t cid;

	rig_open_ready(&rig, "ram", "size=1M");
	cid = rig.guest.next_cid;
	rig_sqe(&rig, NVME_ADMIN_ABORT, 0)->cdw10 = le32((uint32_t)(cid + 1) << 16);
	rig_write_sqe(&rig, 0, &rig.sqe);
	rig_sqe(&rig, NVME_ADMIN_AER, 0);
	rig_write_sqe(&rig, 0, &rig.sqe);
	rig_ring(&rig, 0);
	rig_reap(&rig, 0);
	assert_int_equal(le16_get(rig.cqe.cid), (uint16_t)(cid + 1));
	assert_status(rig_status(&rig), ABORT_REQUESTED);
	rig_reap(&rig, 0);
	assert_status(rig_status(&rig), SUCCESS);
	assert_int_equal(le32_get(rig.cqe.dw0), 0);
	rig_close(&rig);
}

static void keep_alives_write(struct rig *rig, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		rig_sqe(rig, NVME_ADMIN_KEEP_ALIVE, 0);
		rig_write_sqe(rig, 0, &rig->sqe);
	}
	rig_ring(rig, 0);
	rig_settle(rig);
}

/* Its own entry and another command's are the last that the guest left room for. */
static void an_abort_does_not_wait_for_the_guest_to_take_completions(void **state)
{
	struct rig rig;
	uint16_t cid;

	rig_open_ready(&rig, "ram", "size=1M");
	keep_alives_write(&rig, RIG_ADMIN_SIZE - 3);
	cid = rig.guest.next_cid;
	rig_sqe(&rig, NVME_ADMIN_ABORT, 0)->cdw10 = le32((uint32_t)(cid + 1) << 16);
	rig_write_sqe(&rig, 0, &rig.sqe);
	rig_sqe(&rig, NVME_ADMIN_AER, 0);
	rig_write_sqe(&rig, 0, &rig.sqe);
	keep_alives_write(&rig, 1);
	rig_quiesce(&rig);
	nvme_ctrl_resume(rig.guest.ctrl);
	for (uint32_t i = 0; i < RIG_ADMIN_SIZE; i++)
		rig_reap(&rig, 0);
	assert_status(rig_status(&rig), ABORT_REQUESTED);
	rig_close(&rig);
}

static void aborts_have_a_limit(void **state)
{
	uint32_t limited = 0, cids[6];
	struct rig rig;

	rig_open_ready(&rig, "sim", "size=1M");
	blk_sim_hold(rig.dev, true);
	for (uint32_t i = 0; i < 6; i++) {
		rig_sqe_rw(&rig, NVME_IO_FLUSH, 0, 1);
		cids[i] = rig_write_sqe(&rig, 1, &rig.sqe);
	}
	rig_ring(&rig, 1);
	rig_settle(&rig);
	for (uint32_t i = 0; i < 6; i++) {
		rig_sqe(&rig, NVME_ADMIN_ABORT, 0)->cdw10 = le32(1 | cids[i] << 16);
		rig_write_sqe(&rig, 0, &rig.sqe);
	}
	rig_ring(&rig, 0);
	rig_settle(&rig);
	blk_sim_hold(rig.dev, false);
	for (uint32_t i = 0; i < 6; i++) {
		rig_reap(&rig, 0);
		limited += rig_status(&rig) == NVME_SC_ABORT_LIMIT;
	}
	assert_int_equal(limited, 2);
	for (uint32_t i = 0; i < 6; i++)
		rig_reap(&rig, 1);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_completion_queue_is_created_only_as_it_should),
		cmocka_unit_test(a_submission_queue_is_created_only_as_it_should),
		cmocka_unit_test(entry_sizes_are_needed_for_io_queues),
		cmocka_unit_test(queues_are_deleted_in_order_and_made_again),
		cmocka_unit_test(a_submission_queue_created_twice_is_replaced_alone),
		cmocka_unit_test(a_completion_queue_created_twice_is_replaced_with_what_is_on_it),
		cmocka_unit_test(a_create_that_is_refused_replaces_nothing),
		cmocka_unit_test(a_command_is_aborted),
		cmocka_unit_test(what_is_not_there_is_not_aborted),
		cmocka_unit_test(a_request_for_events_is_aborted),
		cmocka_unit_test(two_aborts_that_name_each_other_both_end),
		cmocka_unit_test(a_request_for_events_behind_its_abort_is_aborted),
		cmocka_unit_test(an_abort_does_not_wait_for_the_guest_to_take_completions),
		cmocka_unit_test(aborts_have_a_limit),
	};

	return cmocka_run_group_tests_name("nvme qadmin", tests, NULL, NULL);
}
