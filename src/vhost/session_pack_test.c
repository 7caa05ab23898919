/* A session that goes to a successor: here both are in one process, one after the other. */
#include "base/parcel_rig.h"
#include "sock/fdio.h"
#include "vhost/session_rig.h"

static void halt_and_pack(struct fixture *f, struct parcel *out)
{
	struct err err = { 0 };

	session_freeze(f->session, true);
	PUMP_UNTIL(f, session_is_quiet(f->session));
	parcel_init(out);
	assert_int_equal(session_pack(f->session, out, &err), 0);
	assert_false(out->failed);
}

/* The old one ends as its process does: its descriptors are closed, and nothing else. */
static void old_ends(struct fixture *f)
{
	session_close(f->session, LOG_INFO, "handed over");
	PUMP_UNTIL(f, !f->session);
	f->frees--;
}

static int unpack(struct fixture *f, struct parcel *in, struct session **ret_session,
		  struct err *err)
{
	struct session_params params = f->params;

	params.frozen = true;
	return session_unpack(&params, &f->vdev, in, ret_session, err);
}

static void hand_over(struct fixture *f)
{
	struct parcel out, in;
	struct session *next;
	struct err err = { 0 };

	halt_and_pack(f, &out);
	parcel_arrives(&out, &in);
	old_ends(f);
	assert_int_equal(unpack(f, &in, &next, &err), 0);
	parcel_fini(&in);
	parcel_fini(&out);
	f->session = next;
	assert_true(session_is_quiet(next));
	session_freeze(next, false);
}

static void a_ring_goes_on_where_it_was(void **state)
{
	struct fixture *f = *state;

	start(f);
	for (int i = 1; i <= 5; i++) {
		submit(f, 0);
		PUMP_UNTIL(f, used_idx(f, 0) == i);
	}
	for (int round = 0; round < 3; round++) {
		hand_over(f);
		submit(f, 0);
		PUMP_UNTIL(f, used_idx(f, 0) == 6 + round);
		PUMP_UNTIL(f, rang(f->call[0]));
		assert_int_equal(f->model_features, FEATURES);
	}
}

static void what_was_submitted_meanwhile_is_found(void **state)
{
	struct fixture *f = *state;
	struct parcel out, in;
	struct session *next;
	struct err err = { 0 };

	start(f);
	halt_and_pack(f, &out);
	submit(f, 0);
	pump_ms(f, 20);
	assert_int_equal(used_idx(f, 0), 0);
	parcel_arrives(&out, &in);
	old_ends(f);
	assert_int_equal(unpack(f, &in, &next, &err), 0);
	pump_ms(f, 20);
	assert_int_equal(used_idx(f, 0), 0);
	session_freeze(next, false);
	f->session = next;
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
	parcel_fini(&in);
	parcel_fini(&out);
}

static void requests_under_way_are_waited_for(void **state)
{
	struct fixture *f = *state;

	start(f);
	f->keep = true;
	submit(f, 0);
	PUMP_UNTIL(f, f->kept_count == 1);
	session_freeze(f->session, true);
	pump_ms(f, 20);
	assert_false(session_is_quiet(f->session));
	give_back(f);
	PUMP_UNTIL(f, session_is_quiet(f->session));
	f->keep = false;
	session_freeze(f->session, false);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 2);
}

static void one_that_was_frozen_goes_on_as_if_nothing_had_been(void **state)
{
	struct fixture *f = *state;
	struct parcel out;
	struct reply r;

	start(f);
	halt_and_pack(f, &out);
	parcel_fini(&out);
	submit(f, 0);
	tell(f, MSG_GET_QUEUE_NUM, NULL, 0);
	pump_ms(f, 20);
	assert_int_equal(used_idx(f, 0), 0);
	assert_int_equal(recv(f->peer, &r, sizeof(r), MSG_DONTWAIT), -1);
	session_freeze(f->session, false);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
	assert_true(reply_get(f, &r));
	assert_int_equal(r.u64, 2);
}

static void half_a_message_and_its_descriptor_go_along(void **state)
{
	struct fixture *f = *state;
	struct msg_hdr hdr = { MSG_SET_VRING_CALL, MSG_VERSION | MSG_NEED_REPLY, 8 };
	const uint64_t idx = 0;
	int bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct reply r;

	start(f);
	/* The header alone, with the descriptor. */
	assert_int_equal(fdio_send(f->peer, &hdr, sizeof(hdr), &bell, 1), sizeof(hdr));
	PUMP_UNTIL(f, conn_mid_message(&f->session->talk.conn));
	hand_over(f);
	assert_int_equal(send(f->peer, &idx, sizeof(idx), MSG_NOSIGNAL), sizeof(idx));
	assert_true(reply_get(f, &r));
	assert_int_equal(r.hdr.request, MSG_SET_VRING_CALL);
	assert_int_equal(r.u64, 0);
	submit(f, 0);
	PUMP_UNTIL(f, rang(bell));
	close(bell);
}

static void before_any_message_it_is_handed_over_too(void **state)
{
	struct fixture *f = *state;

	hand_over(f);
	assert_int_equal(f->session->state, SESSION_NEGOTIATE);
	start(f);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
}

static void what_is_in_use_and_not_offered_any_more_is_named(void **state)
{
	struct fixture *f = *state;
	struct parcel out, in;
	struct session *next;
	struct err err = { 0 };

	negotiate(f, FEATURES | VIRTIO_F_RING_PACKED);
	halt_and_pack(f, &out);
	f->params.packed = false;
	parcel_arrives(&out, &in);
	assert_int_equal(unpack(f, &in, &next, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "features 0x400000000 "));
	parcel_fini(&in);
	f->params.packed = true;
	f->vdev.queue_count_max = 1;
	parcel_arrives(&out, &in);
	assert_int_equal(unpack(f, &in, &next, &err), -EINVAL);
	assert_string_equal(err.msg, "queues: it has 2, and 1 are configured now");
	parcel_fini(&in);
	parcel_fini(&out);
	assert_int_equal(f->frees, 2);
	f->frees = 0;
	f->vdev.queue_count_max = 2;
	session_freeze(f->session, false);
}

/* Each byte gets other values; what is accepted all the same must be able to end. */
static void no_bytes_break_the_successor(void **state)
{
	static const uint8_t values[] = { 0, 1, 0x7f, 0xff };
	struct fixture *f = *state;
	struct session *old, *next;
	struct parcel out, in;
	struct err err = { 0 };
	uint32_t refused = 0;

	start(f);
	halt_and_pack(f, &out);
	old = f->session;
	for (size_t at = 0; at < out.len * 4; at++) {
		parcel_arrives(&out, &in);
		if (at % 2)
			in.bytes[at / 4] = values[at % 4];
		else
			in.bytes[at / 4] ^= (uint8_t)(1u << (at % 8));
		if (unpack(f, &in, &next, &err) < 0) {
			assert_true(*err.msg);
			refused++;
		} else {
			f->session = next;
			session_close(next, LOG_INFO, "test");
			PUMP_UNTIL(f, !f->session);
		}
		parcel_fini(&in);
	}
	for (size_t len = 0; len < out.len; len += 3) {
		parcel_arrives_cut(&out, len, &in);
		assert_true(unpack(f, &in, &next, &err) < 0);
		parcel_fini(&in);
	}
	assert_true(refused > out.len / 4);
	f->frees = 0;
	f->session = old;
	parcel_fini(&out);
	session_freeze(old, false);
	submit(f, 0);
	PUMP_UNTIL(f, used_idx(f, 0) == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(a_ring_goes_on_where_it_was),
		T(what_was_submitted_meanwhile_is_found),
		T(requests_under_way_are_waited_for),
		T(one_that_was_frozen_goes_on_as_if_nothing_had_been),
		T(half_a_message_and_its_descriptor_go_along),
		T(before_any_message_it_is_handed_over_too),
		T(what_is_in_use_and_not_offered_any_more_is_named),
		T(no_bytes_break_the_successor),
#undef T
	};

	return cmocka_run_group_tests_name("vhost / session_pack", tests, NULL, NULL);
}
