/* A front-end that lies, stalls, or leaves: it costs its own session, and nothing of ours. */
#include "vhost/session_rig.h"

/* ---- lies ---- */

static void features_that_were_not_offered_end_the_session(void **state)
{
	struct fixture *f = *state;
	uint64_t features = FEATURES | VIRTIO_F_ACCESS_PLATFORM;

	tell(f, MSG_SET_FEATURES, &features, 8);
	assert_true(ended(f));
}

static void protocol_features_that_were_not_offered_end_the_session(void **state)
{
	struct fixture *f = *state;
	uint64_t features = 1ull << 21;

	tell(f, MSG_SET_PROTOCOL_FEATURES, &features, 8);
	assert_true(ended(f));
}

static void an_unknown_message_is_refused_or_ends_the_session(void **state)
{
	struct fixture *f = *state;

	negotiate(f, FEATURES);
	assert_int_not_equal(ask(f, 19, &(uint64_t){ 0 }, 8).u64, 0);
	assert_int_not_equal(ask(f, 4711, NULL, 0).u64, 0);
	must(f, MSG_SET_OWNER, NULL, 0);
	tell(f, 4711, NULL, 0);
	assert_true(ended(f));
}

static void a_message_without_its_feature_is_refused(void **state)
{
	struct fixture *f = *state;

	tell(f, MSG_GET_MAX_MEM_SLOTS, NULL, 0);
	assert_true(ended(f));
}

static void a_queue_index_is_checked_in_its_full_width(void **state)
{
	struct fixture *f = *state;
	struct msg_state s = { 0x10000, RING_SIZE };

	negotiate(f, FEATURES);
	assert_int_not_equal(ask(f, MSG_SET_VRING_NUM, &s, 8).u64, 0);
	s.idx = 2;
	assert_int_not_equal(ask(f, MSG_SET_VRING_NUM, &s, 8).u64, 0);
	s = (struct msg_state){ 0, 512 };
	assert_int_not_equal(ask(f, MSG_SET_VRING_NUM, &s, 8).u64, 0);
	s = (struct msg_state){ 0, 6 };
	assert_int_not_equal(ask(f, MSG_SET_VRING_NUM, &s, 8).u64, 0);
	s = (struct msg_state){ 0, 0x10000 };
	assert_int_not_equal(ask(f, MSG_SET_VRING_BASE, &s, 8).u64, 0);
	s = (struct msg_state){ 0xffffffff, 0 };
	tell(f, MSG_GET_VRING_BASE, &s, 8); /* an answer that cannot be given */
	assert_true(ended(f));
}

static void a_memory_table_that_contradicts_itself_is_refused_and_the_old_one_stays(void **state)
{
	struct fixture *f = *state;
	struct msg_mem_table t = mem_table();
	int fds[2] = { f->memfd, f->memfd };

	start(f);
	assert_int_not_equal(ask_fds(f, MSG_SET_MEM_TABLE, &t, 40, fds, 2).u64, 0);
	assert_int_not_equal(ask_fds(f, MSG_SET_MEM_TABLE, &t, 71, fds, 1).u64, 0);
	t.count = 0;
	assert_int_not_equal(ask_fds(f, MSG_SET_MEM_TABLE, &t, 8, fds, 0).u64, 0);
	t.count = 0x10000001;
	assert_int_not_equal(ask_fds(f, MSG_SET_MEM_TABLE, &t, 40, fds, 1).u64, 0);
	t.count = 1;
	t.regions[0].size_bytes = ~0ull;
	assert_int_not_equal(ask_fds(f, MSG_SET_MEM_TABLE, &t, 40, fds, 1).u64, 0);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
}

static void in_flight_sizes_beyond_the_device_are_refused(void **state)
{
	struct fixture *f = *state;
	struct msg_inflight in = { .queue_count = 0xffff, .queue_size = 0xffff };

	negotiate(f, FEATURES);
	tell(f, MSG_GET_INFLIGHT_FD, &in, 20);
	assert_true(ended(f));
}

static void a_broken_ring_rings_its_err_bell_and_the_other_goes_on(void **state)
{
	struct fixture *f = *state;
	struct msg_state ring = { 0, 0 };

	start(f);
	start_ring(f, 1);
	submit_head(f, 0, RING_SIZE + 7);
	PUMP_UNTIL(f, rang(f->err[0]));
	assert_int_equal(f->session->rings[0].v.state, VRING_BROKEN);
	assert_int_equal(ask(f, MSG_GET_STATUS, NULL, 0).u64 & 0x40, 0x40);
	submit(f, 1);
	PUMP_UNTIL(f, used_idx(f, 1) == 1);
	ask(f, MSG_GET_VRING_BASE, &ring, 8);
	assert_int_equal(f->session->rings[0].v.state, VRING_STOPPED);
}

static void a_call_descriptor_that_blocks_holds_up_nobody(void **state)
{
	struct fixture *f = *state;
	int blocking = eventfd(0, EFD_CLOEXEC);

	start(f);
	start_ring(f, 1);
	assert_int_equal(eventfd_write(blocking, 0xfffffffffffffffe), 0);
	must_fd(f, MSG_SET_VRING_CALL, 0, blocking);
	for (int i = 1; i <= 20; i++) {
		submit(f, 0);
		PUMP_UNTIL(f, used_idx(f, 0) == i);
		submit(f, 1);
		PUMP_UNTIL(f, used_idx(f, 1) == i);
	}
	/* Changing it does not wait for it either. */
	must_fd(f, MSG_SET_VRING_CALL, 0, blocking);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 21);
	close(blocking);
}

static void half_a_message_and_silence_end_the_session_in_time(void **state)
{
	struct fixture *f = *state;

	f->session->talk.stall_ns = 30000000;
	assert_int_equal(write(f->peer, "abcdef", 6), 6);
	pump_ms(f, 10);
	assert_non_null(f->session);
	PUMP_UNTIL(f, !f->session);
}

static void questions_without_listening_end_the_session_in_time(void **state)
{
	struct fixture *f = *state;
	struct msg_hdr hdr = { MSG_GET_FEATURES, MSG_VERSION, 0 };

	f->session->talk.stall_ns = 30000000;
	PUMP_UNTIL(f, !f->session ||
			      (send(f->peer, &hdr, sizeof(hdr), MSG_DONTWAIT | MSG_NOSIGNAL), 0));
}

static void leaving_after_each_message_of_a_start_releases_everything(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 10; i++) {
		int step = 0;

		f->frees = 0;
		f->keep = false;
#define STEP(x)                                                                                    \
	do {                                                                                       \
		if (step++ < i)                                                                    \
			x;                                                                         \
	} while (0)
		STEP(negotiate(f, FEATURES));
		STEP(set_memory(f));
		STEP(set_ring(f, 0));
		STEP(must_fd(f, MSG_SET_VRING_CALL, 0, f->call[0]));
		STEP(must_fd(f, MSG_SET_VRING_ERR, 0, f->err[0]));
		STEP(must_state(f, MSG_SET_VRING_ENABLE, 0, 1));
		STEP(must_fd(f, MSG_SET_VRING_KICK, 0, f->kick[0]));
		STEP(f->keep = true);
		STEP(submit(f, 0));
#undef STEP
		pump_ms(f, 5);
		close(f->peer);
		pump_ms(f, 5);
		assert_int_equal(f->session != NULL, f->kept_count != 0);
		give_back(f);
		PUMP_UNTIL(f, !f->session);
		assert_int_equal(f->frees, 1);
		memset(f->mem, 0, MEM_BYTES);
		connect_session(f);
	}
	f->frees = 0;
}

static void a_front_end_that_truncates_its_memory_loses_its_session(void **state)
{
	struct fixture *f = *state;

	start(f);
	session_check_lost(f->session);
	assert_int_equal(f->session->state, SESSION_ACTIVE);
	/* as the fault handler leaves it */
	__atomic_store_n(&f->session->inflight.lost, true, __ATOMIC_RELEASE);
	session_check_lost(f->session);
	PUMP_UNTIL(f, !f->session);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(features_that_were_not_offered_end_the_session),
		T(protocol_features_that_were_not_offered_end_the_session),
		T(an_unknown_message_is_refused_or_ends_the_session),
		T(a_message_without_its_feature_is_refused),
		T(a_queue_index_is_checked_in_its_full_width),
		T(a_memory_table_that_contradicts_itself_is_refused_and_the_old_one_stays),
		T(in_flight_sizes_beyond_the_device_are_refused),
		T(a_broken_ring_rings_its_err_bell_and_the_other_goes_on),
		T(a_call_descriptor_that_blocks_holds_up_nobody),
		T(half_a_message_and_silence_end_the_session_in_time),
		T(questions_without_listening_end_the_session_in_time),
		T(leaving_after_each_message_of_a_start_releases_everything),
		T(a_front_end_that_truncates_its_memory_loses_its_session),
#undef T
	};

	/* As vhost_endpoint_start does: an io_uring write to a pipe without reader raises it. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("session_hostile", tests, NULL, NULL);
}
