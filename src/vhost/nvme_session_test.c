/* A vhost-user-nvme session: see nvme_session_rig.h. */
#include "vhost/nvme_session_rig.h"

static void capabilities_and_identify_come_before_any_memory(void **state)
{
	struct fixture *f = *state;
	struct nvme_sqe sqe;
	struct reply r;

	settle(f);
	memset(&sqe, 0xa5, sizeof(sqe));
	sqe.opcode = NVME_ADMIN_IDENTIFY;
	sqe.nsid = le32(0);
	sqe.cdw10 = le32(1);
	admin(f, &sqe, &r);
	assert_int_equal(r.hdr.size, 4112);
	for (uint32_t i = 0; i < 4112 - 64; i++)
		assert_int_equal(r.bytes[64 + i], (uint8_t)(i * 7));
	/* Only what the front-end sets was passed on. */
	assert_int_equal(ctrl.sqe[0].flags, 0);
	assert_int_equal(le64_get(ctrl.sqe[0].prp1), 0);
	assert_int_equal(le32_get(ctrl.sqe[0].cdw10), 1);
	assert_int_equal(le32_get(ctrl.sqe[0].cdw11), 0);
}

static void features_answer_as_the_generation_expects(void **state)
{
	struct fixture *f = *state;
	struct nvme_sqe sqe = { .opcode = NVME_ADMIN_SET_FEATURES, .cdw10 = le32(7) };
	struct reply r;
	uint32_t dw0;

	admin(f, &sqe, &r);
	assert_int_equal(r.hdr.size, 16);
	assert_int_equal(le32_get(r.cqe.dw0), 0x30003);
	f->session->params.generation_1804 = true;
	admin(f, &sqe, &r);
	assert_int_equal(r.hdr.size, 4112);
	assert_int_equal(le32_get(r.cqe.dw0), 0x30003);
	memcpy(&dw0, r.bytes + 64, 4);
	assert_int_equal(dw0, 0x30003);
}

static void what_a_front_end_never_passes_on_is_refused_here(void **state)
{
	struct fixture *f = *state;
	static const uint8_t opcodes[] = { 0x02, 0x0c, 0x0d, 0x18, 0x80, 0xff };
	struct nvme_sqe sqe = { 0 };
	struct reply r;

	for (uint32_t i = 0; i < ARRAY_SIZE(opcodes); i++) {
		sqe.opcode = opcodes[i];
		admin(f, &sqe, &r);
		assert_int_equal(r.hdr.size, 16);
		assert_int_equal(le16_get(r.cqe.status), NVME_SC_INVALID_OPCODE << 1 | 0x8000);
	}
	sqe = (struct nvme_sqe){ .opcode = NVME_ADMIN_SET_FEATURES, .cdw10 = le32(0x0e) };
	admin(f, &sqe, &r);
	assert_int_equal(le16_get(r.cqe.status), NVME_SC_INVALID_FIELD << 1 | 0x8000);
	assert_int_equal(ctrl.admins, 0);
}

static void start_and_stop_may_come_twice(void **state)
{
	struct fixture *f = *state;

	set_table(f);
	say_u64(f, 83, 1, -1);
	say_u64(f, 83, 1, -1);
	settle(f);
	assert_true(ctrl.started);
	assert_int_equal(ctrl.maps, 1);
	say_u64(f, 83, 0, -1);
	say_u64(f, 83, 0, -1);
	settle(f);
	assert_false(ctrl.started);
	assert_int_equal(ctrl.stops, 2);
}

static void the_next_message_waits_for_the_stop(void **state)
{
	struct fixture *f = *state;

	ctrl.later = true;
	say_u64(f, 83, 0, -1);
	say_u64(f, 83, 1, -1);
	PUMP_UNTIL(f, ctrl.port_done);
	assert_int_equal(f->session->state, NVME_SESSION_PARKED);
	for (int i = 0; i < 20; i++)
		loop_run_once(f->loop, false);
	assert_int_equal(ctrl.starts, 0);
	done_now();
	ctrl.later = false;
	settle(f);
	assert_int_equal(ctrl.starts, 1);
}

static void the_next_message_waits_for_the_memory(void **state)
{
	struct fixture *f = *state;
	struct reply r;

	ctrl.later = true;
	set_table(f);
	say(f, 82, NULL, 0, -1);
	PUMP_UNTIL(f, ctrl.port_done);
	assert_int_equal(ctrl.maps, 0);
	done_now();
	assert_int_equal(ctrl.maps, 1);
	assert_int_equal(ctrl.resumes, 1);
	hear(f, &r);
	ctrl.later = false;
}

static void vectors_are_completion_queues(void **state)
{
	struct fixture *f = *state;
	struct nvme_sqe sqe = create_cq(3, 17u << 16 | 3);
	struct reply r;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	admin(f, &sqe, &r);
	assert_int_equal(le32_get(ctrl.sqe[0].cdw11), 3u << 16 | 3);
	say_u64(f, 81, 3, fd);
	settle(f);
	assert_true(ctrl.fd[3] >= 0);
	say_u64(f, 81, 3, fd);
	settle(f);
	assert_true(ctrl.fd[3] >= 0);
	say_u64(f, 81, 3 | 0x100, -1);
	settle(f);
	assert_int_equal(ctrl.fd[3], -1);
	say_u64(f, 81, 2, fd);
	say_u64(f, 83, 0, -1);
	settle(f);
	assert_int_equal(ctrl.fd[2], -1);
	close(fd);
}

/* Whether one is there already is the controller's to know: nvme/qadmin.c. */
static void a_queue_created_twice_is_passed_on_twice(void **state)
{
	struct fixture *f = *state;
	struct nvme_sqe cq = create_cq(1, 1), sq = create_sq(1, 1);
	struct reply r;

	for (int i = 0; i < 2; i++) {
		admin(f, &cq, &r);
		admin(f, &sq, &r);
	}
	assert_int_equal(ctrl.sqe_count, 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(ctrl.sqe[i].opcode,
				 i % 2 ? NVME_ADMIN_CREATE_SQ : NVME_ADMIN_CREATE_CQ);
}

static void the_refusal_of_a_queue_is_answered(void **state)
{
	struct fixture *f = *state;
	struct nvme_sqe cq = create_cq(1, 1);
	struct reply r;

	ctrl.status = NVME_SC_INVALID_QUEUE_SIZE;
	admin(f, &cq, &r);
	assert_int_equal(le16_get(r.cqe.status), NVME_SC_INVALID_QUEUE_SIZE << 1);
	ctrl.status = 0;
	admin(f, &cq, &r);
	assert_int_equal(le16_get(r.cqe.status), 0);
	assert_int_equal(ctrl.sqe_count, 2);
}

static void the_shadow_bar_is_the_page_of_doorbells(void **state)
{
	struct fixture *f = *state;
	struct msg_mem_table t = table(0x4000);
	uint32_t *mem = mmap(NULL, 0x4000, PROT_READ | PROT_WRITE, MAP_SHARED, f->memfd, 0);

	t.regions[0].gpa = 0x20000000;
	say(f, 85, &t, 40, f->memfd);
	settle(f);
	assert_non_null(ctrl.doorbells);
	mem[0x1000 / 4 + 2] = 5;
	assert_int_equal(ctrl.doorbells[2], 5);
	/* It survives the stop, with doorbells as at the start. */
	say_u64(f, 83, 0, -1);
	settle(f);
	assert_int_equal(ctrl.doorbells[2], 0);
	munmap(mem, 0x4000);
}

static void doorbells_by_message_are_written_to_the_registers(void **state)
{
	struct fixture *f = *state;
	uint32_t tail[3] = { 1, 2, 9 }, head[3] = { 2, 3, 4 };

	say(f, 84, tail, sizeof(tail), -1);
	settle(f);
	assert_int_equal(ctrl.reg_off, 0x1010);
	assert_int_equal(ctrl.reg_value, 9);
	say(f, 84, head, sizeof(head), -1);
	settle(f);
	assert_int_equal(ctrl.reg_off, 0x101c);
	assert_int_equal(ctrl.reg_value, 4);
}

static void who_asks_for_an_acknowledgement_gets_one(void **state)
{
	struct fixture *f = *state;
	uint64_t one = 1, wrong = 2, cq0 = 0;
	uint32_t io[3] = { 3, 1, 1 }, io_queue[3] = { 1, QUEUES + 1, 1 };
	struct msg_mem_table t = table(0x1000);
	struct reply r;

	say_flags(f, 83, MSG_VERSION | MSG_NEED_REPLY, &one, 8, -1);
	hear(f, &r);
	assert_int_equal(r.u64, 0);
	say_flags(f, 83, MSG_VERSION | MSG_NEED_REPLY, &wrong, 8, -1);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	say_flags(f, 81, MSG_VERSION | MSG_NEED_REPLY, &cq0, 8, -1);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	cq0 = 1;
	say_flags(f, 81, MSG_VERSION | MSG_NEED_REPLY, &cq0, 8, f->memfd);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	cq0 = 0x101;
	say_flags(f, 81, MSG_VERSION | MSG_NEED_REPLY, &cq0, 8, f->memfd);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	say_flags(f, 84, MSG_VERSION | MSG_NEED_REPLY, io, 12, -1);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	say_flags(f, 84, MSG_VERSION | MSG_NEED_REPLY, io_queue, 12, -1);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	say_flags(f, 85, MSG_VERSION | MSG_NEED_REPLY, &t, 40, f->memfd);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	t = table(0x2000);
	t.regions[0].mmap_offset = 8;
	say_flags(f, 85, MSG_VERSION | MSG_NEED_REPLY, &t, 40, f->memfd);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	t.count = 0;
	say_flags(f, 5, MSG_VERSION | MSG_NEED_REPLY, &t, 8, -1);
	hear(f, &r);
	assert_int_not_equal(r.u64, 0);
	settle(f);
}

static void a_wrong_message_ends_the_session(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint32_t request, len;
	} wrong[] = { { 1, 0 },	 { 80, 63 }, { 80, 65 }, { 82, 8 }, { 83, 4 },
		      { 84, 8 }, { 85, 40 }, { 86, 0 },	 { 5, 8 } };
	uint8_t bytes[128] = { 0 };

	for (uint32_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct err err;

		say(f, wrong[i].request, bytes, wrong[i].len, -1);
		expect_end(f);
		hang_up(f);
		assert_int_equal(connect_session(f, &err), 0);
	}
}

static void a_front_end_may_leave_while_the_controller_is_busy(void **state)
{
	struct fixture *f = *state;

	ctrl.later = true;
	say_u64(f, 83, 0, -1);
	PUMP_UNTIL(f, ctrl.port_done);
	nvme_session_close(f->session, LOG_INFO, "the test says so");
	for (int i = 0; i < 20; i++)
		loop_run_once(f->loop, false);
	assert_int_equal(ctrl.frees, 0);
	done_now(); /* the stop */
	assert_int_equal(ctrl.frees, 1);
	assert_non_null(f->session);
	done_now(); /* the controller */
	PUMP_UNTIL(f, !f->session);
}

static void a_front_end_may_leave_during_a_command(void **state)
{
	struct fixture *f = *state;
	struct nvme_sqe sqe = create_cq(1, 1);

	ctrl.later = true;
	say(f, 80, &sqe, sizeof(sqe), -1);
	PUMP_UNTIL(f, ctrl.admin_done);
	nvme_session_close(f->session, LOG_INFO, "the test says so");
	ctrl.later = false;
	admin_end();
	expect_end(f);
}

static void truncated_memory_ends_the_session(void **state)
{
	struct fixture *f = *state;

	set_table(f);
	settle(f);
	nvme_session_check_lost(f->session);
	assert_int_equal(f->session->state, NVME_SESSION_ACTIVE);
	assert_int_equal(gmem_fault_install(-1, NULL), 0);
	assert_int_equal(ftruncate(f->memfd, 0), 0);
	*(volatile char *)gmem_gpa_to_host(f->session->map, (struct gpa){ 0 }, 1);
	nvme_session_check_lost(f->session);
	expect_end(f);
}

static void management_reaches_the_controller_until_it_is_gone(void **state)
{
	struct fixture *f = *state;
	struct err err = { 0 };

	nvme_session_drain(f->session, true);
	assert_true(ctrl.drained);
	assert_int_equal(nvme_session_queue_move(f->session, 1, f->loop, &err), 0);
	assert_ptr_equal(ctrl.moved_to, f->loop);
	assert_int_equal(nvme_session_queue_move(f->session, QUEUES + 1, f->loop, &err), -ERANGE);
	hang_up(f);
	PUMP_UNTIL(f, !f->session);
}

static void no_controller_is_no_session(void **state)
{
	struct fixture *f = *state;
	struct err err;

	hang_up(f);
	PUMP_UNTIL(f, !f->session);
	ctrl.status = 1;
	assert_int_equal(connect_session(f, &err), -ENOSPC);
	ctrl.status = 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(capabilities_and_identify_come_before_any_memory),
		T(features_answer_as_the_generation_expects),
		T(what_a_front_end_never_passes_on_is_refused_here),
		T(start_and_stop_may_come_twice),
		T(the_next_message_waits_for_the_stop),
		T(the_next_message_waits_for_the_memory),
		T(vectors_are_completion_queues),
		T(a_queue_created_twice_is_passed_on_twice),
		T(the_refusal_of_a_queue_is_answered),
		T(the_shadow_bar_is_the_page_of_doorbells),
		T(doorbells_by_message_are_written_to_the_registers),
		T(who_asks_for_an_acknowledgement_gets_one),
		T(a_wrong_message_ends_the_session),
		T(a_front_end_may_leave_while_the_controller_is_busy),
		T(a_front_end_may_leave_during_a_command),
		T(truncated_memory_ends_the_session),
		T(management_reaches_the_controller_until_it_is_gone),
		T(no_controller_is_no_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
