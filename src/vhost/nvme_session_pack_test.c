/* A vhost-user-nvme session from one process to another: the front-end notices nothing. */
#include "vhost/nvme_session_rig.h"

#include "base/parcel_rig.h"

static void pack(struct fixture *f, struct parcel *p)
{
	struct err err = { 0 };

	nvme_session_freeze(f->session, true);
	PUMP_UNTIL(f, nvme_session_is_quiet(f->session));
	parcel_init(p);
	if (nvme_session_pack(f->session, p, &err))
		fail_msg("%s", err.msg);
}

/* The old process ends, without a word on the socket. */
static void old_ends(struct fixture *f)
{
	nvme_session_close(f->session, LOG_INFO, "the process ends");
	PUMP_UNTIL(f, !f->session);
	assert_int_equal(ctrl.frees, 1);
}

static int unpack(struct fixture *f, struct parcel *p, struct err *reterr)
{
	struct nvme_session *s;
	int rc = nvme_session_unpack(&f->params, &f->limit, on_ended, p, &s, reterr);

	if (rc == 0)
		f->session = s;
	return rc;
}

/* In the other process, where it goes on. */
static void new_begins(struct fixture *f, struct parcel *came)
{
	struct err err = { 0 };

	if (unpack(f, came, &err))
		fail_msg("%s", err.msg);
	parcel_fini(came);
	assert_string_equal(ctrl.loaded, CTRL_SAVED);
	assert_true(ctrl.quiet && nvme_session_is_quiet(f->session));
	nvme_session_freeze(f->session, false);
	assert_false(ctrl.quiet);
}

static void hand_over(struct fixture *f)
{
	struct parcel sent, came;

	pack(f, &sent);
	parcel_arrives(&sent, &came);
	parcel_fini(&sent);
	old_ends(f);
	new_begins(f, &came);
}

static void set_bar(struct fixture *f)
{
	struct msg_mem_table t = table(0x4000);

	say(f, 85, &t, 40, f->memfd);
}

static void a_front_end_goes_on_with_all_that_it_set_up(void **state)
{
	struct fixture *f = *state;
	int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct nvme_sqe sqe = create_cq(2, 3);
	uint8_t byte = 0;
	uint64_t heard;
	struct reply r;

	set_table(f);
	set_bar(f);
	say_u64(f, 83, 1, -1);
	say_u64(f, 81, 2, bell);
	admin(f, &sqe, &r);
	settle(f);
	ctrl.doorbells[2] = 7;
	hand_over(f);
	/* the same memory, the same doorbells, the same bell */
	assert_int_equal(ctrl.map->count, 1);
	((uint8_t *)gmem_gpa_to_host(ctrl.map, gpa(0), 1))[0] = 99;
	assert_int_equal(pread(f->memfd, &byte, 1, 0), 1);
	assert_int_equal(byte, 99);
	assert_int_equal(ctrl.doorbells[2], 7);
	assert_int_equal(write(ctrl.fd[2], &(uint64_t){ 1 }, 8), 8);
	assert_int_equal(read(bell, &heard, 8), 8);
	settle(f);
	admin(f, &sqe, &r);
	assert_int_equal(ctrl.admins, 1);
	assert_int_equal(ctrl.sqe[0].opcode, NVME_ADMIN_CREATE_CQ);
	close(bell);
}

/* Memory, doorbells, and the eventfd of a queue. */
static void set_up(struct fixture *f, int bell)
{
	set_table(f);
	set_bar(f);
	say_u64(f, 81, 2, bell);
	settle(f);
}

/* What was sent, as version 1 of the section has it: two words more for each queue. */
static void as_version_1(struct parcel *sent, struct parcel *ret_old)
{
	struct parcel_section section;
	size_t at;

	parcel_init(ret_old);
	parcel_section_begin(ret_old, &section, "nvse", 1);
	parcel_put_u32(ret_old, QUEUES);
	at = ret_old->len;
	for (uint32_t i = 0; i < QUEUES; i++)
		parcel_put_u64(ret_old, 1 | 1ull << 32);
	parcel_put(ret_old, sent->bytes + at, sent->len - at);
	ret_old->fds = sent->fds;
	ret_old->fd_count = sent->fd_count;
	sent->fds = NULL;
	sent->fd_count = 0;
	parcel_section_done(ret_old, &section);
}

static void what_version_1_says_of_queues_is_passed_over(void **state)
{
	struct fixture *f = *state;
	int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct parcel sent, old, came;

	set_up(f, bell);
	pack(f, &sent);
	as_version_1(&sent, &old);
	parcel_arrives(&old, &came);
	parcel_fini(&old);
	parcel_fini(&sent);
	old_ends(f);
	new_begins(f, &came);
	assert_int_equal(ctrl.map->count, 1);
	assert_true(ctrl.fd[2] >= 0);
	close(bell);
}

static void a_message_that_is_half_there_is_finished_elsewhere(void **state)
{
	struct fixture *f = *state;
	const struct msg_hdr hdr = { 82, MSG_VERSION, 0 };
	struct reply r;

	for (size_t cut = 1; cut < sizeof(hdr); cut++) {
		assert_int_equal(send(f->peer, &hdr, cut, 0), cut);
		loop_run_once(f->loop, false);
		hand_over(f);
		assert_int_equal(send(f->peer, (const char *)&hdr + cut, sizeof(hdr) - cut, 0),
				 sizeof(hdr) - cut);
		hear(f, &r);
		assert_int_equal(r.u64, CAP);
	}
}

static void it_is_not_quiet_before_its_controller_is(void **state)
{
	struct fixture *f = *state;

	ctrl.later = true;
	set_table(f);
	PUMP_UNTIL(f, f->session->state == NVME_SESSION_PARKED);
	nvme_session_freeze(f->session, true);
	assert_false(nvme_session_is_quiet(f->session));
	done_now(); /* the memory table; then it is asked to be quiet */
	assert_false(nvme_session_is_quiet(f->session));
	done_now();
	assert_true(nvme_session_is_quiet(f->session));
	ctrl.passing_by = true;
	assert_false(nvme_session_is_quiet(f->session));
	ctrl.passing_by = false;
	/* it is not handed over after all */
	nvme_session_freeze(f->session, false);
	assert_false(ctrl.quiet);
	/* and again, given up before it is quiet */
	nvme_session_freeze(f->session, true);
	nvme_session_freeze(f->session, false);
	done_now();
	assert_false(ctrl.quiet);
	ctrl.later = false;
	settle(f);
}

static void a_parcel_that_is_cut_or_lies_is_refused_and_nothing_is_left(void **state)
{
	struct fixture *f = *state;
	int bell = eventfd(0, EFD_CLOEXEC), before;
	struct parcel out, sent, came;
	uint32_t refused = 0;
	struct err err = { 0 };

	set_up(f, bell);
	pack(f, &out);
	parcel_arrives(&out, &sent);
	parcel_fini(&out);
	old_ends(f);
	before = fds_open();
	for (size_t i = 0; i < 2 * sent.len; i++) {
		parcel_arrives_bad(&sent, i, &came);
		if (unpack(f, &came, &err)) {
			refused++;
			assert_true(err.msg[0]);
			assert_int_equal(ctrl.frees, 1);
		} else {
			nvme_session_close(f->session, LOG_INFO, "the end");
			PUMP_UNTIL(f, !f->session);
		}
		parcel_fini(&came);
		loop_run_once(f->loop, false);
		assert_int_equal(fds_open(), before);
	}
	assert_true(refused > sent.len);
	parcel_fini(&sent);
	close(bell);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_front_end_goes_on_with_all_that_it_set_up),
		T(what_version_1_says_of_queues_is_passed_over),
		T(a_message_that_is_half_there_is_finished_elsewhere),
		T(it_is_not_quiet_before_its_controller_is),
		T(a_parcel_that_is_cut_or_lies_is_refused_and_nothing_is_left),
	};

	return cmocka_run_group_tests_name("vhost/nvme_session_pack", tests, NULL, NULL);
}
