/*
 * The protocol as a course of events: start-up and death at each of its steps, what stopping,
 * resetting and changing memory do to I/O under way, config space, status, the dirty log, the
 * in-flight area. One message at a time is test_messages.c's subject.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon.h"

#define BURST 32

static struct blkdrv_req burst_reqs[BURST];

/* BURST writes of 4 KiB from sector 0 on, made visible at once and not waited for. */
static void burst(struct rig *r, uint64_t seed)
{
	uint8_t data[4096];

	for (unsigned i = 0; i < BURST; i++) {
		fill_pattern(data, sizeof(data), seed + i);
		assert_ok(blkdrv_add(&r->b, &burst_reqs[i], SPEC_BLK_OUT, i * 8ull, data,
				     sizeof(data), 0));
	}
	assert_true(drv_publish(&r->q) >= 0);
}

static void reap(struct rig *r, unsigned n)
{
	while (n--) {
		struct blkdrv_req *done;
		uint8_t status;

		if (blkdrv_reap(&r->b, &done, &status, true) != 1)
			fail_msg("%u completions missing: %s %s", n + 1, r->q.why, r->b.why);
		assert_int_equal(status, SPEC_BLK_S_OK);
		blkdrv_put(&r->b, done);
	}
}

static void burst_verify(struct rig *r, uint64_t seed)
{
	uint8_t want[4096], got[4096];

	for (unsigned i = 0; i < BURST; i++) {
		fill_pattern(want, sizeof(want), seed + i);
		assert_ok(blkdrv_read(&r->b, i * 8ull, got, sizeof(got)));
		assert_memory_equal(want, got, sizeof(want));
	}
}

/* ---- start-up ---- */

static void a_front_end_that_dies_after_any_step_is_replaced(void **state)
{
	/* What fe_up() leaves out, step by step less: the front-end dies where it stops. */
	static const unsigned skips[] = {
		~0u,
		~(unsigned)FE_SKIP_OWNER,
		~(unsigned)(FE_SKIP_OWNER | FE_SKIP_NEGOTIATE),
		FE_SKIP_START,
		FE_SKIP_BASE | FE_SKIP_ADDR | FE_SKIP_KICK | FE_SKIP_CALL | FE_SKIP_ERR |
			FE_SKIP_ENABLE,
		FE_SKIP_ADDR | FE_SKIP_KICK | FE_SKIP_CALL | FE_SKIP_ERR | FE_SKIP_ENABLE,
		FE_SKIP_KICK | FE_SKIP_CALL | FE_SKIP_ERR | FE_SKIP_ENABLE,
		FE_SKIP_KICK | FE_SKIP_CALL | FE_SKIP_ENABLE,
		FE_SKIP_KICK | FE_SKIP_ENABLE,
		FE_SKIP_ENABLE,
		0,
	};
	struct rig *r = rig_get();

	for (unsigned i = 0; i < sizeof(skips) / sizeof(skips[0]); i++) {
		struct fe_up_opts o = { .skip = skips[i], .queues = 2, .inflight = true };

		rig_connect(r);
		assert_ok(fe_up(&r->fe, &o));
		rig_drop(r);
		rig_up(r, NULL);
		rig_io(r, i);
		rig_drop(r);
	}
}

static void a_front_end_that_dies_with_io_in_flight_is_replaced(void **state)
{
	struct rig *r = rig_get();

	for (unsigned i = 0; i < 20; i++) {
		rig_up(r, &(struct fe_up_opts){ .packed = i & 1 });
		burst(r, i);
		rig_drop(r);
	}
	rig_up(r, NULL);
	rig_io(r, 0);
}

static void the_second_connection_waits_for_the_first_to_end(void **state)
{
	struct rig *r = rig_get();
	struct fe second;
	uint64_t v;

	rig_up(r, NULL);
	fe_init(&second);
	second.timeout_ms = 200;
	assert_ok(fe_connect(&second, daemon_path(&r->d, "a.sock")));
	assert_int_equal(fe_get_u64(&second, FE_GET_FEATURES, &v), -ETIMEDOUT);
	rig_io(r, 8);
	fe_hangup(&r->fe);
	/* The question sent above waits in the socket and is answered now. */
	struct fe_msg m;

	second.timeout_ms = 5000;
	assert_ok(fe_recv(&second, &m));
	assert_int_equal(m.hdr.req, FE_GET_FEATURES);
	fe_msg_close(&m);
	fe_fini(&second);
}

static void a_reply_is_sent_only_when_asked_for_and_negotiated(void **state)
{
	struct rig *r = rig_get();
	struct fe_msg m;

	rig_connect(r);
	/* REPLY_ACK is not negotiated yet: need_reply means nothing. */
	assert_ok(fe_send(&r->fe, FE_SET_OWNER, FE_FLAG_VERSION | FE_FLAG_NEED_REPLY, NULL, 0, NULL,
			  0));
	assert_ok(fe_negotiate(&r->fe, ~0ull & ~SPEC_F_LOG_ALL, ~0ull));
	assert_ok(fe_call_flags(&r->fe, FE_SET_OWNER, FE_FLAG_VERSION | FE_FLAG_NEED_REPLY, NULL, 0,
				NULL, 0, &m));
	assert_int_equal(m.hdr.size_bytes, 8);
	fe_msg_close(&m);
}

static void features_that_were_not_offered_are_refused(void **state)
{
	struct rig *r = rig_get();

	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t v;

		rig_negotiate(r);
		v = r->fe.features | 1ull << bit;
		if (r->fe.features_offered & 1ull << bit)
			assert_ok(fe_set_u64(&r->fe, FE_SET_FEATURES, v));
		else
			rig_refused(r, FE_SET_FEATURES, 9, &v, sizeof(v), NULL, 0);
		rig_drop(r);
	}
}

static void a_queue_size_beyond_the_limit_or_not_a_power_of_two_is_refused(void **state)
{
	static const uint32_t bad[] = { 0, 3, 100, 1025, 2048, 65536, 65537, 1u << 31, 0xffffffff };
	struct rig *r = rig_get();

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct fe_wire_state s = { 0, bad[i] };

		rig_negotiate(r);
		rig_refused(r, FE_SET_VRING_NUM, 9, &s, sizeof(s), NULL, 0);
		rig_drop(r);
	}
}

/* ---- stopping ---- */

static void get_vring_base_waits_for_io_in_flight(void **state)
{
	struct rig *r = rig_get();

	for (unsigned packed = 0; packed < 2; packed++) {
		uint32_t base;
		struct fe_up_opts o = { .packed = packed };
		unsigned used = 0;
		struct blkdrv_req *done;
		uint8_t status;

		rig_up(r, &o);
		for (unsigned round = 0; round < 50; round++) {
			burst(r, round);
			assert_ok(fe_get_vring_base(&r->fe, 0, &base));
			/* Whatever was taken is finished now, and nothing moves any more. */
			for (used = 0; blkdrv_reap(&r->b, &done, &status, false) == 1; used++)
				blkdrv_put(&r->b, done);
			if (!packed)
				assert_int_equal(base, r->q.used_idx);
			else
				assert_int_equal(base,
						 ((uint32_t)r->q.used_wrap << 15 | r->q.used_idx) *
							 0x10001u);
			pause_us(200);
			assert_int_equal(blkdrv_reap(&r->b, &done, &status, false), 0);
			assert_ok(fe_set_vring_base(&r->fe, 0, base));
			assert_ok(fe_set_vring_fd(&r->fe, FE_SET_VRING_KICK, 0,
						  r->fe.vring[0].kick_fd));
			reap(r, BURST - used);
		}
		burst_verify(r, 49);
		rig_drop(r);
	}
}

static void disabling_stops_a_ring_and_enabling_goes_on(void **state)
{
	struct rig *r = rig_get();
	struct blkdrv_req *done;
	uint8_t status;

	rig_up(r, NULL);
	assert_ok(fe_set_vring_enable(&r->fe, 0, 0));
	burst(r, 1);
	pause_us(20000);
	assert_int_equal(blkdrv_reap(&r->b, &done, &status, false), 0);
	assert_ok(fe_set_vring_enable(&r->fe, 0, 1));
	reap(r, BURST);
	burst_verify(r, 1);
}

static void reset_device_stops_all_and_the_driver_starts_afresh(void **state)
{
	struct rig *r = rig_get();
	static const uint32_t how[] = { FE_RESET_DEVICE, FE_RESET_OWNER };

	for (unsigned i = 0; i < 2; i++) {
		rig_up(r, &(struct fe_up_opts){ .queues = 2 });
		burst(r, i);
		assert_ok(fe_set(&r->fe, how[i], NULL, 0, NULL, 0));
		drv_reset(&r->q);
		assert_ok(fe_set_u64(&r->fe, FE_SET_FEATURES, r->fe.features));
		assert_ok(fe_vring_start(&r->fe, 0, &(struct fe_up_opts){ 0 }));
		rig_io(r, 16);
		rig_drop(r);
	}
}

static void status_is_kept_and_zero_resets(void **state)
{
	struct rig *r = rig_get();
	uint64_t v;

	rig_up(r, NULL);
	for (uint64_t s = 1; s <= 15; s = s * 2 + 1) {
		assert_ok(fe_set_u64(&r->fe, FE_SET_STATUS, s));
		assert_ok(fe_get_u64(&r->fe, FE_GET_STATUS, &v));
		assert_int_equal(v, s);
	}
	rig_io(r, 0);
	assert_ok(fe_set_u64(&r->fe, FE_SET_STATUS, 0));
	assert_ok(fe_get_u64(&r->fe, FE_GET_STATUS, &v));
	assert_int_equal(v, 0);
	drv_reset(&r->q);
	assert_ok(fe_set_u64(&r->fe, FE_SET_FEATURES, r->fe.features));
	assert_ok(fe_vring_start(&r->fe, 0, &(struct fe_up_opts){ 0 }));
	rig_io(r, 0);
}

/* ---- memory ---- */

static void memory_can_change_under_io(void **state)
{
	struct rig *r = rig_get();

	for (unsigned packed = 0; packed < 2; packed++) {
		rig_up(r, &(struct fe_up_opts){ .packed = packed });
		for (unsigned round = 0; round < 6; round++) {
			burst(r, round);
			assert_true(fe_mem_new(&r->fe, 0x80000000ull + round * 0x1000000ull,
					       0x600000000000ull + round * 0x1000000ull,
					       65536) > 0);
			assert_ok(fe_set_mem_table(&r->fe));
			reap(r, BURST);
		}
		burst_verify(r, 5);
		rig_drop(r);
	}
}

static void five_hundred_and_nine_slots_come_and_go_under_io(void **state)
{
	struct rig *r = rig_get();
	struct fe_wire_region *w;
	uint64_t slots;
	struct {
		uint64_t pad;
		struct fe_wire_region region;
	} m = { 0 };

	rig_up(r, &(struct fe_up_opts){ .add_mem_reg = true });
	assert_ok(fe_get_u64(&r->fe, FE_GET_MAX_MEM_SLOTS, &slots));
	assert_int_equal(slots, 509);
	burst(r, 7);
	for (unsigned i = 1; i < 509; i++) {
		assert_true(fe_mem_new(&r->fe, 0x100000000ull + i * 0x4000ull,
				       0x500000000000ull + (600 - i) * 0x8000ull, 0x3000) > 0);
		assert_ok(fe_add_mem_reg(&r->fe, i));
	}
	reap(r, BURST);
	/* One more than there are slots. */
	w = &m.region;
	*w = (struct fe_wire_region){ 1ull << 40, 0x1000, 1ull << 41, 0 };
	assert_true(rig_refused(r, FE_ADD_MEM_REG, 9, &m, sizeof(m), &r->fe.region[1].fd, 1));
	burst(r, 8);
	for (unsigned i = 1; i < 509; i++)
		assert_ok(fe_rem_mem_reg(&r->fe, i));
	reap(r, BURST);
	burst_verify(r, 8);
}

static void regions_that_overlap_wrap_or_exceed_their_file_are_refused(void **state)
{
	static const struct fe_wire_region bad[] = {
		{ 0x40000000, 0x1000, 0x1000, 0 },		/* overlaps the first in guest */
		{ 0x900000000, 0x1000, 0x7f0001400000, 0 },	/* overlaps it in user space */
		{ 0xfffffffffffff000, 0x2000, 0x1000, 0 },	/* wraps */
		{ 0x900000000, 0x2000, 0xfffffffffffff000, 0 }, /* wraps in user space */
		{ 0x900000000, 0, 0x1000, 0 },			/* is empty */
		{ 0x900000000, 0x2000000, 0x1000, 0 },		/* longer than the file */
		{ 0x900000000, 0x1000, 0x1000, 0x2000000 },	/* behind the file */
		{ 0x900000000, 0x1000, 0x1000, 0xfffffffffffff000 }, /* offset plus size wraps */
		{ 0x900000000, 0xfffffffffffff000, 0x1000, 0x1000 },
	};
	struct rig *r = rig_get();

	rig_up(r, NULL);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct {
			uint64_t pad;
			struct fe_wire_region region;
		} m = { .region = bad[i] };

		if (i == 1)
			m.region.uva = r->fe.region[0].wire.uva + 0x1000;
		if (!rig_refused(r, FE_ADD_MEM_REG, 9, &m, sizeof(m), &r->fe.region[0].fd, 1))
			fail_msg("case %u ended the session", i);
	}
	rig_io(r, 0);
}

/* ---- config space ---- */

static void config_answers_256_bytes_with_zeroes_behind_the_fields(void **state)
{
	struct rig *r = rig_get();
	uint8_t all[256], part[60];
	struct spec_blk_config *c = (struct spec_blk_config *)all;

	rig_up(r, NULL);
	assert_ok(fe_get_config(&r->fe, 0, all, sizeof(all)));
	assert_int_equal(c->capacity, (64 << 20) / 512);
	assert_int_equal(c->blk_size, 512);
	assert_int_equal(c->num_queues, 4);
	assert_int_equal(c->size_max, 0);
	for (unsigned i = sizeof(*c); i < sizeof(all); i++)
		assert_int_equal(all[i], 0);
	assert_ok(fe_get_config(&r->fe, 0, part, sizeof(part)));
	assert_memory_equal(all, part, sizeof(part));
	assert_ok(fe_get_config(&r->fe, 196, part, sizeof(part)));
}

static void config_beyond_256_bytes_is_refused(void **state)
{
	static const struct {
		uint32_t off, size;
	} bad[] = { { 0, 257 },	       { 256, 1 },	     { 1, 256 },
		    { 0xffffffff, 1 }, { 0xfffffff0, 0x20 }, { 0, 0 } };
	struct rig *r = rig_get();

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct fe_wire_config c = { .off = bad[i].off, .size_bytes = bad[i].size };
		uint32_t len = 12 + (bad[i].size > 256 ? 256 : bad[i].size);

		rig_negotiate(r);
		rig_refused(r, FE_GET_CONFIG, 1, &c, len, NULL, 0);
		rig_drop(r);
		rig_negotiate(r);
		rig_refused(r, FE_SET_CONFIG, 9, &c, len, NULL, 0);
		rig_drop(r);
	}
}

static void only_the_cache_mode_can_be_written(void **state)
{
	const uint32_t wce = offsetof(struct spec_blk_config, wce);
	struct rig *r = rig_get();
	struct spec_blk_config c;

	rig_up(r, NULL);
	for (unsigned v = 0; v < 2; v++) {
		uint8_t byte = (uint8_t)v;

		assert_ok(fe_set_config(&r->fe, wce, &byte, 1, 0));
		assert_ok(fe_get_config(&r->fe, 0, &c, sizeof(c)));
		assert_int_equal(c.wce, v);
		rig_io(r, v);
	}
	for (uint32_t off = 0; off < 60; off++) {
		struct fe_wire_config w = { .off = off, .size_bytes = 1, .bytes = { 0x77 } };

		if (!rig_refused(r, FE_SET_CONFIG, 9, &w, 13, NULL, 0))
			fail_msg("byte %u ended the session", off);
	}
}

/* ---- dirty log ---- */

static bool dirty(struct rig *r, uint64_t gpa)
{
	return r->fe.log[gpa / 4096 / 8] & 1 << gpa / 4096 % 8;
}

static void the_dirty_log_has_what_the_device_wrote_and_no_more(void **state)
{
	struct rig *r = rig_get();

	for (unsigned packed = 0; packed < 2; packed++) {
		struct fe_up_opts o = { .log = true, .packed = packed };
		struct blkdrv_req rd, wr, *done;
		uint8_t status, zero[8192] = { 0 };

		rig_up(r, &o);
		assert_int_equal(r->fe.vring[0].used_gpa / 4096,
				 (r->fe.vring[0].used_gpa + 4) / 4096);
		/* Two separate allocations, so that pages between them tell reads from writes. */
		assert_ok(blkdrv_add(&r->b, &wr, SPEC_BLK_OUT, 0, zero, sizeof(zero), 0));
		fe_alloc(&r->fe, 0, 16384, 4096);
		assert_ok(blkdrv_add(&r->b, &rd, SPEC_BLK_IN, 0, NULL, 0, sizeof(zero)));
		memset(r->fe.log, 0, r->fe.log_bytes);
		assert_true(drv_publish(&r->q) >= 0);
		assert_int_equal(blkdrv_reap(&r->b, &done, &status, true), 1);
		assert_int_equal(blkdrv_reap(&r->b, &done, &status, true), 1);
		assert_true(dirty(r, rd.data_gpa));
		assert_true(dirty(r, rd.data_gpa + 4095));
		assert_true(dirty(r, rd.data_gpa + 8191));
		assert_true(dirty(r, rd.status_gpa));
		assert_true(dirty(r, wr.status_gpa));
		assert_true(dirty(r, packed ? r->fe.vring[0].desc_gpa : r->fe.vring[0].used_gpa));
		assert_false(dirty(r, wr.data_gpa + 4096));
		assert_false(dirty(r, rd.data_gpa + 40960));
		rig_drop(r);
	}
}

static void without_log_all_nothing_is_logged(void **state)
{
	struct fe_up_opts o = { .log = true, .features_drop = SPEC_F_LOG_ALL };
	struct rig *r = rig_get();

	rig_up(r, &o);
	memset(r->fe.log, 0, r->fe.log_bytes);
	rig_io(r, 0);
	for (uint64_t i = 0; i < r->fe.log_bytes; i++)
		assert_int_equal(r->fe.log[i], 0);
	/* Migration starts: the same ring, logging from now on. */
	assert_ok(fe_set_u64(&r->fe, FE_SET_FEATURES, r->fe.features | SPEC_F_LOG_ALL));
	rig_io(r, 0);
	assert_true(dirty(r, r->fe.vring[0].used_gpa));
}

/* ---- in-flight area ---- */

static void the_inflight_area_has_room_for_what_was_asked(void **state)
{
	struct rig *r = rig_get();

	rig_negotiate(r);
	assert_ok(fe_get_inflight(&r->fe, 4, 1024));
	/* 16 bytes and 16 per descriptor a queue: "Inflight I/O tracking". */
	assert_true(r->fe.inflight.wire.mmap_size_bytes >= 4 * (16 + 16 * 1024));
	assert_true(r->fe.inflight.wire.mmap_size_bytes <= 4 * (16 + 16 * 1024 + 4096));
	for (uint64_t i = 0; i < r->fe.inflight.wire.mmap_size_bytes; i++)
		assert_int_equal(r->fe.inflight.host[i], 0);
}

static void the_inflight_area_can_be_changed_under_io(void **state)
{
	struct rig *r = rig_get();

	rig_up(r, &(struct fe_up_opts){ .inflight = true });
	for (unsigned i = 0; i < 10; i++) {
		burst(r, i);
		assert_ok(fe_get_inflight(&r->fe, 1, 128));
		assert_ok(fe_set_inflight(&r->fe));
		reap(r, BURST);
	}
	burst_verify(r, 9);
}

static void inflight_sizes_out_of_bounds_are_refused(void **state)
{
	static const struct fe_wire_inflight bad[] = {
		{ 0, 0, 0, 128, 0 },	   { 0, 0, 1, 0, 0 },	 { 0, 0, 5, 128, 0 },
		{ 0, 0, 65535, 65535, 0 }, { 0, 0, 1, 1025, 0 },
	};
	struct rig *r = rig_get();

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		rig_negotiate(r);
		rig_refused(r, FE_GET_INFLIGHT_FD, 1, &bad[i], sizeof(bad[i]), NULL, 0);
		rig_drop(r);
	}
}

/* ---- descriptors of a queue ---- */

static void kick_call_and_err_can_be_replaced_under_io(void **state)
{
	static const uint32_t req[] = { FE_SET_VRING_KICK, FE_SET_VRING_CALL, FE_SET_VRING_ERR };
	struct rig *r = rig_get();

	rig_up(r, NULL);
	for (unsigned i = 0; i < 60; i++) {
		struct fe_vring *vr = &r->fe.vring[0];
		int *slot[] = { &vr->kick_fd, &vr->call_fd, &vr->err_fd };
		int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

		burst(r, i);
		assert_ok(fe_set_vring_fd(&r->fe, req[i % 3], 0, fd));
		close(*slot[i % 3]);
		*slot[i % 3] = fd;
		drv_kick(&r->q);
		reap(r, BURST);
	}
	burst_verify(r, 59);
}

static void without_kick_and_call_descriptors_both_sides_poll(void **state)
{
	struct rig *r = rig_get();

	rig_up(r, &(struct fe_up_opts){ .poll_kick = true, .poll_call = true });
	burst(r, 3);
	reap(r, BURST);
	burst_verify(r, 3);
}

static void descriptors_that_are_no_eventfds_are_refused_as_kicks(void **state)
{
	struct rig *r = rig_get();
	int fds[4], sv[2], pp[2];
	uint64_t idx = 0;

	assert_int_equal(pipe(pp), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	fds[0] = pp[0];
	fds[1] = sv[0];
	fds[2] = open("/dev/null", O_RDWR);
	fds[3] = r->d.pid ? open("/proc/self/status", O_RDONLY) : -1;
	for (unsigned i = 0; i < 4; i++) {
		rig_negotiate(r);
		rig_refused(r, FE_SET_VRING_KICK, 9, &idx, sizeof(idx), &fds[i], 1);
		rig_drop(r);
		close(fds[i]);
	}
	close(pp[1]);
	close(sv[1]);
}

static void the_back_channel_can_be_given_twice(void **state)
{
	struct rig *r = rig_get();

	rig_up(r, &(struct fe_up_opts){ .back_channel = true });
	assert_ok(fe_open_back_channel(&r->fe));
	rig_io(r, 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest protocol[] = {
		T(a_front_end_that_dies_after_any_step_is_replaced),
		T(a_front_end_that_dies_with_io_in_flight_is_replaced),
		T(the_second_connection_waits_for_the_first_to_end),
		T(a_reply_is_sent_only_when_asked_for_and_negotiated),
		T(features_that_were_not_offered_are_refused),
		T(a_queue_size_beyond_the_limit_or_not_a_power_of_two_is_refused),
		T(get_vring_base_waits_for_io_in_flight),
		T(disabling_stops_a_ring_and_enabling_goes_on),
		T(reset_device_stops_all_and_the_driver_starts_afresh),
		T(status_is_kept_and_zero_resets),
		T(memory_can_change_under_io),
		T(five_hundred_and_nine_slots_come_and_go_under_io),
		T(regions_that_overlap_wrap_or_exceed_their_file_are_refused),
		T(config_answers_256_bytes_with_zeroes_behind_the_fields),
		T(config_beyond_256_bytes_is_refused),
		T(only_the_cache_mode_can_be_written),
		T(the_dirty_log_has_what_the_device_wrote_and_no_more),
		T(without_log_all_nothing_is_logged),
		T(the_inflight_area_has_room_for_what_was_asked),
		T(the_inflight_area_can_be_changed_under_io),
		T(inflight_sizes_out_of_bounds_are_refused),
		T(kick_call_and_err_can_be_replaced_under_io),
		T(without_kick_and_call_descriptors_both_sides_poll),
		T(descriptors_that_are_no_eventfds_are_refused_as_kicks),
		T(the_back_channel_can_be_given_twice),
	};

	return cmocka_run_group_tests(protocol, rig_group_setup, rig_group_teardown);
}
