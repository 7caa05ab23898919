/* The legal course of a session, and the habits of real front-ends. */
#include "vhost/session_rig.h"

/* ---- the normal course ---- */

static void a_request_is_served_and_the_driver_is_notified(void **state)
{
	struct fixture *f = *state;

	start(f);
	assert_int_equal(f->session->state, SESSION_ACTIVE);
	PUMP_UNTIL(f, rang(f->call[0])); /* the one after every start */
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
	PUMP_UNTIL(f, rang(f->call[0]));
	assert_int_equal(f->model_features, FEATURES);
}

static void get_vring_base_stops_the_ring_and_tells_its_position(void **state)
{
	struct fixture *f = *state;
	struct msg_state ring = { 0, 0 };

	start(f);
	for (int i = 1; i <= 3; i++) {
		submit(f, 0);
		PUMP_UNTIL(f, used_idx(f, 0) == i);
	}
	assert_int_equal(ask(f, MSG_GET_VRING_BASE, &ring, 8).state.num, 3);
	assert_int_equal(f->session->rings[0].v.state, VRING_STOPPED);
	submit(f, 0);
	pump_ms(f, 20);
	assert_int_equal(used_idx(f, 0), 3);
	/* It starts at the kick descriptor, at the position where it stopped. */
	must_fd(f, MSG_SET_VRING_KICK, 0, f->kick[0]);
	PUMP_UNTIL(f, used_idx(f, 0) == 4);
}

static void get_vring_base_with_io_in_flight_parks_until_it_is_drained(void **state)
{
	struct fixture *f = *state;
	struct msg_state ring = { 0, 0 };
	struct reply r;

	start(f);
	f->keep = true;
	submit(f, 0);
	PUMP_UNTIL(f, f->kept_count == 1);
	tell(f, MSG_GET_VRING_BASE, &ring, 8);
	PUMP_UNTIL(f, f->session->state == SESSION_PARKED);
	tell(f, MSG_GET_FEATURES, NULL, 0);
	pump_ms(f, 20);
	assert_int_equal(f->session->state, SESSION_PARKED);
	assert_int_equal(f->session->rings[0].v.state, VRING_DRAINING);
	give_back(f);
	PUMP_UNTIL(f, f->session->state == SESSION_ACTIVE);
	assert_int_equal(recv(f->peer, &r.hdr, 12, 0), 12);
	assert_int_equal(recv(f->peer, &r.state, 8, 0), 8);
	assert_int_equal(r.state.num, 1);
	assert_int_equal(used_idx(f, 0), 1);
	assert_true(reply_get(f, &r));
	assert_int_equal(r.hdr.request, MSG_GET_FEATURES);
}

static void a_memory_table_under_io_waits_for_it_and_the_ring_goes_on(void **state)
{
	struct fixture *f = *state;
	struct msg_mem_table t = mem_table();
	struct reply r;

	start(f);
	f->keep = true;
	submit(f, 0);
	PUMP_UNTIL(f, f->kept_count == 1);
	tell_fds(f, MSG_SET_MEM_TABLE, MSG_NEED_REPLY, &t, 40, &f->memfd, 1);
	PUMP_UNTIL(f, f->session->state == SESSION_PARKED);
	give_back(f);
	f->keep = false;
	assert_true(reply_get(f, &r));
	assert_int_equal(r.u64, 0);
	assert_int_equal(f->session->rings[0].v.state, VRING_RUNNING);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 2);
}

static void regions_are_added_to_running_rings_and_taken_away(void **state)
{
	struct fixture *f = *state;
	struct msg_mem_reg reg = { .region = { 1ull << 32, 0x10000, 1ull << 40, 0 } };

	start(f);
	assert_int_equal(ask(f, MSG_GET_MAX_MEM_SLOTS, NULL, 0).u64, 509);
	f->keep = true;
	submit(f, 0);
	PUMP_UNTIL(f, f->kept_count == 1);
	for (int i = 0; i < 508; i++) {
		assert_int_equal(ask_fds(f, MSG_ADD_MEM_REG, &reg, 40, &f->memfd, 1).u64, 0);
		reg.region.gpa += 0x10000;
		reg.region.uva += 0x10000;
	}
	assert_int_not_equal(ask_fds(f, MSG_ADD_MEM_REG, &reg, 40, &f->memfd, 1).u64, 0);
	give_back(f);
	f->keep = false;
	reg.region.gpa -= 0x10000;
	reg.region.uva -= 0x10000;
	/* A descriptor nobody asked for comes along, and is closed. */
	assert_int_equal(ask_fds(f, MSG_REM_MEM_REG, &reg, 40, &f->memfd, 1).u64, 0);
	assert_int_not_equal(ask(f, MSG_REM_MEM_REG, &reg, 40).u64, 0);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 2);
}

static void memory_taken_from_under_a_ring_stops_that_ring_only(void **state)
{
	struct fixture *f = *state;
	struct msg_mem_table t = mem_table();
	struct msg_addr addr = ring_addr(1);

	start(f);
	start_ring(f, 1);
	t.regions[0].size_bytes = RING_OFF(1); /* only ring 0 is inside */
	assert_int_not_equal(ask_fds(f, MSG_SET_MEM_TABLE, &t, 40, &f->memfd, 1).u64, 0);
	assert_int_equal(f->session->rings[0].v.state, VRING_RUNNING);
	assert_int_equal(f->session->rings[1].v.state, VRING_STOPPED);
	PUMP_UNTIL(f, rang(f->err[1]));
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
	set_memory(f);
	must(f, MSG_SET_VRING_ADDR, &addr, sizeof(addr));
	assert_int_equal(f->session->rings[1].v.state, VRING_RUNNING);
}

static void disabling_drains_and_enabling_starts_again(void **state)
{
	struct fixture *f = *state;

	start(f);
	must_state(f, MSG_SET_VRING_ENABLE, 0, 0);
	submit(f, 0);
	pump_ms(f, 10);
	assert_int_equal(used_idx(f, 0), 0);
	must_state(f, MSG_SET_VRING_ENABLE, 0, 0xffff0000); /* a boolean */
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
}

static void a_drained_session_talks_on_and_its_rings_wait(void **state)
{
	struct fixture *f = *state;
	struct msg_state ring = { 0, 0 };

	start(f);
	f->keep = true;
	submit(f, 0);
	PUMP_UNTIL(f, f->kept_count == 1);
	session_drain(f->session, true);
	submit(f, 0);
	pump_ms(f, 10);
	assert_int_equal(f->session->rings[0].v.state, VRING_DRAINING);
	f->keep = false;
	give_back(f);
	PUMP_UNTIL(f, f->session->rings[0].v.state == VRING_STOPPED);
	must_state(f, MSG_SET_VRING_ENABLE, 1, 1);
	set_memory(f);
	pump_ms(f, 10);
	assert_int_equal(f->chains, 1);
	session_drain(f->session, false);
	PUMP_UNTIL(f, used_idx(f, 0) == 2);
	session_drain(f->session, true);
	assert_int_equal(ask(f, MSG_GET_VRING_BASE, &ring, 8).state.num, 2);
}

static void a_moved_ring_goes_on_where_it_was(void **state)
{
	struct fixture *f = *state;
	struct loop *other;
	struct err err = { 0 };

	assert_int_equal(
		loop_new(&(struct loop_params){ .name = "other", .cpu = -1 }, &other, &err), 0);
	start(f);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
	assert_int_equal(session_ring_move(f->session, 2, other, &err), -ERANGE);
	assert_string_equal(err.msg, "queue: expected 0..1, got 2");
	f->keep = true;
	submit(f, 0);
	PUMP_UNTIL(f, f->kept_count == 1);
	assert_int_equal(session_ring_move(f->session, 0, other, &err), 0);
	pump_ms(f, 10);
	assert_ptr_equal(f->session->rings[0].v.loop, f->loop); /* it waits for its chain */
	f->keep = false;
	give_back(f);
	submit(f, 0);
	PUMP_UNTIL(f, (loop_run_once(other, false), used_idx(f, 0) == 3));
	assert_ptr_equal(f->session->rings[0].v.loop, other);
	assert_int_equal(session_ring_move(f->session, 0, f->loop, &err), 0);
	PUMP_UNTIL(f, (loop_run_once(other, false),
		       f->session->rings[0].v.loop == f->loop &&
			       f->session->rings[0].v.cmd == VRING_CMD_NONE));
	loop_free(other);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 4);
}

static void a_packed_ring_is_accepted_and_stopped_again(void **state)
{
	struct fixture *f = *state;
	struct msg_addr addr = ring_addr(0);
	struct msg_state ring = { 0, 0 };

	negotiate(f, FEATURES | VIRTIO_F_RING_PACKED);
	set_memory(f);
	must_state(f, MSG_SET_VRING_NUM, 0, 7); /* packed: any size */
	must_state(f, MSG_SET_VRING_BASE, 0, 0x80008000);
	must(f, MSG_SET_VRING_ADDR, &addr, sizeof(addr));
	must_fd(f, MSG_SET_VRING_KICK, 0, f->kick[0]);
	must_state(f, MSG_SET_VRING_ENABLE, 0, 1);
	assert_int_equal(f->session->rings[0].v.state, VRING_RUNNING);
	assert_int_equal(ask(f, MSG_GET_VRING_BASE, &ring, 8).state.num, 0x80008000);
}

/* ---- quirks of front-ends ---- */

static void without_the_protocol_feature_rings_start_enabled(void **state)
{
	struct fixture *f = *state;
	uint64_t features = 0, idx = 0;
	struct msg_mem_table t = mem_table();
	struct msg_addr addr = ring_addr(0);
	struct msg_state num = { 0, RING_SIZE };

	tell(f, MSG_SET_FEATURES, &features, 8); /* a legacy driver: no VERSION_1 either */
	tell_fds(f, MSG_SET_MEM_TABLE, 0, &t, 40, &f->memfd, 1);
	tell(f, MSG_SET_VRING_NUM, &num, 8);
	tell(f, MSG_SET_VRING_ADDR, &addr, sizeof(addr));
	tell_fds(f, MSG_SET_VRING_KICK, 0, &idx, 8, f->kick, 1);
	tell_fds(f, MSG_SET_VRING_CALL, 0, &idx, 8, f->call, 1);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
}

static void kick_may_come_before_call_and_the_request_is_notified_then(void **state)
{
	struct fixture *f = *state;

	negotiate(f, FEATURES);
	set_memory(f);
	set_ring(f, 0);
	must_state(f, MSG_SET_VRING_ENABLE, 0, 1);
	submit(f, 0);
	must_fd(f, MSG_SET_VRING_KICK, 0, f->kick[0]);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
	assert_false(rang(f->call[0]));
	must_fd(f, MSG_SET_VRING_CALL, 0, f->call[0]);
	PUMP_UNTIL(f, rang(f->call[0]));
}

static void bit_8_of_kick_means_polling_without_a_descriptor(void **state)
{
	struct fixture *f = *state;

	negotiate(f, FEATURES);
	set_memory(f);
	set_ring(f, 0);
	must_u64(f, MSG_SET_VRING_KICK, MSG_VRING_NOFD);
	must_state(f, MSG_SET_VRING_ENABLE, 0, 1);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
	/* and a missing descriptor does not become polling by itself */
	assert_int_not_equal(ask(f, MSG_SET_VRING_KICK, &(uint64_t){ 1 }, 8).u64, 0);
}

static void the_call_descriptor_may_change_while_the_ring_runs(void **state)
{
	struct fixture *f = *state;

	start(f);
	pump_ms(f, 5);
	for (int i = 0; i < 50; i++)
		must_fd(f, MSG_SET_VRING_CALL, 0, f->call[i % 2]);
	while (rang(f->call[0]) || rang(f->call[1]))
		;
	submit(f, 0);
	PUMP_UNTIL(f, rang(f->call[1]));
	assert_int_equal(used_idx(f, 0), 1);
}

static void a_new_call_descriptor_rings_for_what_the_old_one_was_told(void **state)
{
	struct fixture *f = *state;

	start(f);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1 && rang(f->call[0]));
	must_fd(f, MSG_SET_VRING_CALL, 0, f->call[1]);
	PUMP_UNTIL(f, rang(f->call[1]));
}

static void a_pipe_is_good_as_call_but_not_as_kick(void **state)
{
	struct fixture *f = *state;
	uint64_t idx = 0, value;
	int p[2];

	start(f);
	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	must_fd(f, MSG_SET_VRING_CALL, 0, p[1]);
	assert_int_not_equal(ask_fds(f, MSG_SET_VRING_KICK, &idx, 8, p, 1).u64, 0);
	assert_int_not_equal(ask_fds(f, MSG_SET_VRING_CALL, &idx, 8, &f->memfd, 1).u64, 0);
	submit(f, 0);
	PUMP_UNTIL(f, read(p[0], &value, 8) == 8);
	close(p[0]);
	close(p[1]);
}

static void reset_owner_of_older_front_ends_stops_and_resets(void **state)
{
	struct fixture *f = *state;

	start(f);
	must(f, MSG_RESET_OWNER, NULL, 0);
	assert_int_equal(f->resets, 1);
	assert_int_equal(f->session->rings[0].v.state, VRING_STOPPED);
	start_ring(f, 0);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
}

static void reset_device_and_status_zero_reset(void **state)
{
	struct fixture *f = *state;

	start(f);
	must_u64(f, MSG_SET_STATUS, 15);
	assert_int_equal(ask(f, MSG_GET_STATUS, NULL, 0).u64, 15);
	assert_int_equal(f->session->rings[0].v.state, VRING_RUNNING);
	must_u64(f, MSG_SET_STATUS, 0);
	assert_int_equal(f->session->rings[0].v.state, VRING_STOPPED);
	start_ring(f, 0);
	must(f, MSG_RESET_DEVICE, NULL, 0);
	assert_int_equal(f->session->rings[0].v.state, VRING_STOPPED);
	assert_int_equal(f->resets, 2);
}

static void config_is_answered_for_any_range_up_to_256_bytes(void **state)
{
	struct fixture *f = *state;
	struct msg_config c = { 0, 256, 0, { 0 } };
	struct reply r;

	negotiate(f, FEATURES);
	r = ask(f, MSG_GET_CONFIG, &c, 12 + 256);
	assert_int_equal(r.hdr.size, 268);
	assert_int_equal(r.config.bytes[59], 60);
	assert_int_equal(r.config.bytes[60], 0);
	c.offset = 20;
	c.size = 2;
	r = ask(f, MSG_GET_CONFIG, &c, 14);
	assert_int_equal(r.hdr.size, 14);
	assert_int_equal(r.config.bytes[1], 22);
	c.offset = 0xffffffff; /* wraps with the size */
	assert_int_equal(ask(f, MSG_GET_CONFIG, &c, 14).hdr.size, 0);
	c.offset = 255;
	assert_int_equal(ask(f, MSG_GET_CONFIG, &c, 14).hdr.size, 0);
	c.offset = 0;
	assert_int_equal(ask(f, MSG_GET_CONFIG, &c, 13).hdr.size, 0);
	c.offset = 32;
	c.size = 1;
	assert_int_equal(ask(f, MSG_SET_CONFIG, &c, 13).u64, 0);
	c.offset = 0;
	assert_int_not_equal(ask(f, MSG_SET_CONFIG, &c, 13).u64, 0);
}

static void a_config_change_reaches_the_back_end_channel(void **state)
{
	struct fixture *f = *state;
	struct msg_hdr hdr;
	int sv[2];

	negotiate(f, FEATURES);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(ask_fds(f, MSG_SET_BACKEND_REQ_FD, NULL, 0, &sv[1], 1).u64, 0);
	close(sv[1]);
	f->vdev.on_config_change(&f->vdev, f->vdev.front);
	assert_int_equal(recv(sv[0], &hdr, sizeof(hdr), MSG_DONTWAIT), sizeof(hdr));
	assert_int_equal(hdr.request, MSG_BACKEND_CONFIG_CHANGE);
	/* what comes back is read, and its end is no harm */
	assert_int_equal(write(sv[0], "0123456789012345678", 20), 20);
	close(sv[0]);
	pump_ms(f, 10);
	f->vdev.on_config_change(&f->vdev, f->vdev.front);
	assert_int_equal(ask(f, MSG_GET_QUEUE_NUM, NULL, 0).u64, 2);
}

static void the_in_flight_area_is_made_sealed_and_taken_back(void **state)
{
	struct fixture *f = *state;
	struct msg_inflight in = { .queue_count = 2, .queue_size = RING_SIZE };
	struct reply r;

	negotiate(f, FEATURES);
	for (int i = 0; i < 3; i++) { /* asked for twice, and before any ring */
		r = ask(f, MSG_GET_INFLIGHT_FD, &in, 24);
		assert_int_equal(r.hdr.size, 24);
		assert_true(r.fd >= 0);
		assert_true(fcntl(r.fd, F_GET_SEALS) & F_SEAL_SHRINK);
		if (i < 2)
			close(r.fd);
	}
	in = r.inflight;
	for (int i = 0; i < 2; i++)
		assert_int_equal(ask_fds(f, MSG_SET_INFLIGHT_FD, &in, 20, &r.fd, 1).u64, 0);
	set_memory(f);
	start_ring(f, 0);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
	in.mmap_size += 1;
	assert_int_not_equal(ask_fds(f, MSG_SET_INFLIGHT_FD, &in, 20, &r.fd, 1).u64, 0);
	in.mmap_size = ~0ull;
	assert_int_not_equal(ask_fds(f, MSG_SET_INFLIGHT_FD, &in, 20, &r.fd, 1).u64, 0);
	close(r.fd);
}

static void the_dirty_log_is_set_and_answered(void **state)
{
	struct fixture *f = *state;
	struct msg_log log = { 4096, 0 };
	struct reply r;

	start(f);
	tell_fds(f, MSG_SET_LOG_BASE, 0, &log, 16, &f->memfd, 1);
	assert_true(reply_get(f, &r));
	assert_int_equal(r.hdr.size, 8);
	must_u64(f, MSG_SET_FEATURES, FEATURES | VHOST_F_LOG_ALL);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
	log.offset_bytes = ~0ull - 100; /* wraps */
	tell_fds(f, MSG_SET_LOG_BASE, 0, &log, 16, &f->memfd, 1);
	assert_true(ended(f));
}

static void the_message_that_brings_reply_ack_is_acknowledged_when_asked(void **state)
{
	struct fixture *f = *state;

	must_u64(f, MSG_SET_PROTOCOL_FEATURES, VHOST_PF_REPLY_ACK);
}

static void a_ring_should_run_only_with_all_facts(void **state)
{
	struct session_ring r = { .num = 8, .have_addr = true, .have_kick = true, .enabled = true };

	assert_true(session_ring_should_run(&r));
	r.hold = true;
	assert_false(session_ring_should_run(&r));
	r.hold = false;
	r.num = 0;
	assert_false(session_ring_should_run(&r));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(a_request_is_served_and_the_driver_is_notified),
		T(get_vring_base_stops_the_ring_and_tells_its_position),
		T(get_vring_base_with_io_in_flight_parks_until_it_is_drained),
		T(a_memory_table_under_io_waits_for_it_and_the_ring_goes_on),
		T(regions_are_added_to_running_rings_and_taken_away),
		T(memory_taken_from_under_a_ring_stops_that_ring_only),
		T(disabling_drains_and_enabling_starts_again),
		T(a_drained_session_talks_on_and_its_rings_wait),
		T(a_moved_ring_goes_on_where_it_was),
		T(a_packed_ring_is_accepted_and_stopped_again),
		T(without_the_protocol_feature_rings_start_enabled),
		T(kick_may_come_before_call_and_the_request_is_notified_then),
		T(bit_8_of_kick_means_polling_without_a_descriptor),
		T(the_call_descriptor_may_change_while_the_ring_runs),
		T(a_new_call_descriptor_rings_for_what_the_old_one_was_told),
		T(a_pipe_is_good_as_call_but_not_as_kick),
		T(reset_owner_of_older_front_ends_stops_and_resets),
		T(reset_device_and_status_zero_reset),
		T(config_is_answered_for_any_range_up_to_256_bytes),
		T(a_config_change_reaches_the_back_end_channel),
		T(the_in_flight_area_is_made_sealed_and_taken_back),
		T(the_dirty_log_is_set_and_answered),
		T(the_message_that_brings_reply_ack_is_acknowledged_when_asked),
		cmocka_unit_test(a_ring_should_run_only_with_all_facts),
#undef T
	};

	/* As vhost_endpoint_start does: an io_uring write to a pipe without reader raises it. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
