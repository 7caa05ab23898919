/*
 * Habits of front-ends seen in the field: each was a bug report against some back-end once.
 * The names say what the front-end does; all of it must simply work.
 */
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon.h"

/* ---- firmware ---- */

static void seabios_does_not_align_the_header(void **state)
{
	struct rig *r = rig_get();

	for (unsigned shift = 1; shift < 16; shift++) {
		struct spec_blk_hdr hdr = { SPEC_BLK_OUT, 0, shift };
		uint64_t gpa;
		struct drv_buf bufs[3];
		struct drv_used u;
		uint8_t *p;

		rig_up(r, NULL);
		gpa = fe_alloc(&r->fe, 0, 8192, 4096);
		p = fe_host(&r->fe, gpa, 8192);
		memcpy(p + shift, &hdr, sizeof(hdr));
		fill_pattern(p + 1024 + shift, 512, shift);
		bufs[0] = (struct drv_buf){ gpa + shift, 16, false };
		bufs[1] = (struct drv_buf){ gpa + 1024 + shift, 512, false };
		bufs[2] = (struct drv_buf){ gpa + 4096 + shift, 1, true };
		assert_true(drv_add(&r->q, bufs, 3, NULL) >= 0);
		assert_true(drv_publish(&r->q) >= 0);
		assert_int_equal(drv_used_wait(&r->q, &u), 1);
		assert_int_equal(p[4096 + shift], SPEC_BLK_S_OK);
		uint8_t back[512];

		assert_ok(blkdrv_read(&r->b, shift, back, 512));
		assert_memory_equal(back, p + 1024 + shift, 512);
		rig_drop(r);
	}
}

static void firmware_leaves_queues_half_set_up_and_the_kernel_starts_again(void **state)
{
	struct rig *r = rig_get();
	struct fe_up_opts half = { .queues = 3, .skip = FE_SKIP_KICK | FE_SKIP_ENABLE };

	for (unsigned i = 0; i < 2; i++) {
		/* Queue 0 runs, 1 and 2 have size and address and nothing else. */
		rig_up(r, &half);
		assert_ok(fe_vring_start(&r->fe, 0, &(struct fe_up_opts){ 0 }));
		rig_io(r, 0);
		/* The next stage resets as old or new front-ends do, and uses all four. */
		assert_ok(fe_down(&r->fe));
		if (i)
			assert_ok(fe_set(&r->fe, FE_RESET_OWNER, NULL, 0, NULL, 0));
		drv_reset(&r->q);
		assert_ok(fe_set_u64(&r->fe, FE_SET_FEATURES, r->fe.features));
		for (unsigned k = 0; k < 3; k++)
			assert_ok(fe_vring_start(&r->fe, k, &(struct fe_up_opts){ 0 }));
		rig_io(r, 8);
		rig_drop(r);
	}
}

static void firmware_acknowledges_event_idx_and_never_writes_it(void **state)
{
	struct rig *r = rig_get();
	struct blkdrv_req req, *done;
	uint8_t status;

	rig_up(r, &(struct fe_up_opts){ .event_idx = true, .poll_call = true });
	for (unsigned i = 0; i < 300; i++) {
		assert_ok(blkdrv_add(&r->b, &req, SPEC_BLK_IN, 0, NULL, 0, 512));
		drv_publish(&r->q);
		drv_kick(&r->q); /* and kicks each time, asked or not */
		while (blkdrv_reap(&r->b, &done, &status, false) != 1)
			pause_us(20);
		assert_int_equal(status, SPEC_BLK_S_OK);
		blkdrv_put(&r->b, done);
	}
}

/* ---- messages ---- */

static void kick_and_call_have_the_index_in_8_bits_and_no_fd_in_bit_8(void **state)
{
	struct rig *r = rig_get();
	uint64_t v = 2 | FE_VRING_NO_FD;
	int fd = eventfd(0, EFD_NONBLOCK);

	rig_up(r, &(struct fe_up_opts){ .queues = 4 });
	assert_ok(fe_set(&r->fe, FE_SET_VRING_KICK, &v, sizeof(v), NULL, 0));
	assert_ok(fe_set(&r->fe, FE_SET_VRING_CALL, &v, sizeof(v), NULL, 0));
	assert_ok(fe_set(&r->fe, FE_SET_VRING_ERR, &v, sizeof(v), NULL, 0));
	/* The bit and a descriptor contradict each other. */
	assert_true(rig_refused(r, FE_SET_VRING_CALL, 9, &v, sizeof(v), &fd, 1));
	close(fd);
	rig_io(r, 0);
}

static void enable_counts_any_number_but_zero_as_yes(void **state)
{
	static const uint32_t yes[] = { 1, 2, 0x100, 0x10000, 0x80000000, 0xffffffff };
	struct rig *r = rig_get();

	rig_up(r, NULL);
	for (unsigned i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		assert_ok(fe_set_vring_enable(&r->fe, 0, 0));
		assert_ok(fe_set_vring_enable(&r->fe, 0, yes[i]));
		rig_io(r, i);
	}
}

static void without_protocol_features_rings_start_enabled(void **state)
{
	struct fe_up_opts o = { .features_drop = SPEC_F_PROTOCOL, .skip = FE_SKIP_ENABLE };
	struct rig *r = rig_get();

	rig_up(r, &o);
	rig_io(r, 0);
}

static void set_features_comes_after_the_kick(void **state)
{
	struct rig *r = rig_get();
	uint64_t features;

	for (unsigned proto = 0; proto < 2; proto++) {
		rig_connect(r);
		assert_ok(fe_set(&r->fe, FE_SET_OWNER, NULL, 0, NULL, 0));
		assert_ok(fe_get_u64(&r->fe, FE_GET_FEATURES, &features));
		r->fe.features_offered = features;
		r->fe.features = SPEC_F_VERSION_1 | (proto ? SPEC_F_PROTOCOL : 0);
		assert_true(fe_mem_new(&r->fe, 0x40000000, 0x7f0000000000, 8 << 20) >= 0);
		assert_ok(fe_set_mem_table(&r->fe));
		assert_ok(fe_vring_place(&r->fe, 0, 128, false));
		assert_ok(fe_vring_start(&r->fe, 0, &(struct fe_up_opts){ 0 }));
		assert_ok(fe_set_u64(&r->fe, FE_SET_FEATURES, r->fe.features));
		assert_ok(drv_init(&r->q, &r->fe, 0));
		assert_ok(blkdrv_init(&r->b, &r->q, 0));
		r->has_queue = true;
		rig_io(r, 0);
		rig_drop(r);
	}
}

static void old_qemu_resets_with_reset_owner(void **state)
{
	struct rig *r = rig_get();

	rig_up(r, NULL);
	for (unsigned i = 0; i < 5; i++) {
		rig_io(r, i);
		assert_ok(fe_set(&r->fe, FE_RESET_OWNER, NULL, 0, NULL, 0));
		drv_reset(&r->q);
		assert_ok(fe_set(&r->fe, FE_SET_OWNER, NULL, 0, NULL, 0));
		assert_ok(fe_set_u64(&r->fe, FE_SET_FEATURES, r->fe.features));
		assert_ok(fe_vring_start(&r->fe, 0, &(struct fe_up_opts){ 0 }));
	}
}

static void the_used_index_is_read_again_from_memory_at_start(void **state)
{
	struct rig *r = rig_get();

	rig_up(r, NULL);
	for (unsigned i = 0; i < 300; i++)
		rig_io(r, i);
	/* A monitor whose back-end went away takes the base from the used ring, as QEMU does. */
	for (unsigned i = 0; i < 3; i++) {
		fe_hangup(&r->fe);
		rig_connect(r);
		assert_ok(fe_up(&r->fe, &(struct fe_up_opts){ .skip = FE_SKIP_START }));
		assert_ok(fe_set_vring_base(&r->fe, 0, r->q.used->idx));
		assert_ok(fe_vring_start(&r->fe, 0, &(struct fe_up_opts){ .skip = FE_SKIP_BASE }));
		rig_io(r, i);
	}
}

static void inflight_is_set_up_twice_as_by_qemu_2_12(void **state)
{
	struct rig *r = rig_get();

	rig_up(r, &(struct fe_up_opts){ .inflight = true });
	for (unsigned i = 0; i < 3; i++) {
		assert_ok(fe_get_inflight(&r->fe, 1, 128));
		assert_ok(fe_set_inflight(&r->fe));
		assert_ok(fe_set_inflight(&r->fe));
		rig_io(r, i);
	}
}

static void inflight_is_set_before_any_ring_exists(void **state)
{
	struct rig *r = rig_get();

	rig_connect(r);
	assert_ok(fe_set(&r->fe, FE_SET_OWNER, NULL, 0, NULL, 0));
	/* Protocol features only: the ring format is not even negotiated. */
	assert_ok(fe_get_u64(&r->fe, FE_GET_PROTOCOL_FEATURES, &r->fe.proto_offered));
	assert_ok(fe_set_u64(&r->fe, FE_SET_PROTOCOL_FEATURES, r->fe.proto_offered));
	r->fe.proto = r->fe.proto_offered;
	assert_ok(fe_get_inflight(&r->fe, 4, 128));
	assert_ok(fe_set_inflight(&r->fe));
	for (unsigned packed = 0; packed < 2; packed++) {
		rig_up(r, &(struct fe_up_opts){ .packed = packed, .inflight = true });
		rig_io(r, 0);
		rig_drop(r);
		rig_connect(r);
	}
}

static void packed_is_passed_through_by_a_front_end_that_starts_split_bases(void **state)
{
	struct rig *r = rig_get();

	/* Base 0 says wrap counters of 0, but a fresh ring's are 1: User Mode Linux does this. */
	rig_up(r, &(struct fe_up_opts){ .packed = true, .skip = FE_SKIP_BASE | FE_SKIP_KICK });
	assert_ok(fe_set_vring_base(&r->fe, 0, 0));
	r->fe.vring[0].kick_fd = eventfd(0, EFD_NONBLOCK);
	assert_ok(fe_set_vring_fd(&r->fe, FE_SET_VRING_KICK, 0, r->fe.vring[0].kick_fd));
	for (unsigned i = 0; i < 100; i++)
		rig_io(r, i * 8);
}

static void one_queue_for_each_vcpu_of_a_large_guest(void **state)
{
	struct rig *r = rig_get();
	uint64_t n;

	/* The default must be enough for QEMU 5.2 and later, which ask for as many as vCPUs. */
	daemon_start(&r->d, "--device", "blk,socket=@a.sock,null=1M", NULL);
	rig_negotiate(r);
	assert_ok(fe_get_u64(&r->fe, FE_GET_QUEUE_NUM, &n));
	assert_true(n >= 64);
	rig_drop(r);
	daemon_stop(&r->d);
	daemon_start(&r->d, "--device", "blk,socket=@a.sock,null=1M,num-queues=256", NULL);
	rig_up(r, &(struct fe_up_opts){ .queues = 256, .region_bytes = 64 << 20 });
	assert_ok(blkdrv_flush(&r->b));
	assert_ok(fe_down(&r->fe));
}

static void spdks_initiator_asks_for_256_bytes_of_config(void **state)
{
	struct rig *r = rig_get();
	uint8_t all[256];

	rig_negotiate(r);
	assert_ok(fe_get_config(&r->fe, 0, all, sizeof(all)));
	/* And would cut requests into sectors if SIZE_MAX came with 0. */
	assert_false(r->fe.features_offered & SPEC_BLK_F_SIZE_MAX);
}

static void libblkio_finds_what_it_insists_on(void **state)
{
	const uint64_t need = SPEC_PF_REPLY_ACK | SPEC_PF_CONFIG | SPEC_PF_MEM_SLOTS;
	struct rig *r = rig_get();

	rig_negotiate(r);
	assert_int_equal(r->fe.proto & need, need);
}

/* ---- lost notifications ---- */

static void wait_ios(struct rig *r, struct blkdrv_req *req, unsigned n)
{
	struct blkdrv_req *done;
	uint8_t status;

	for (unsigned i = 0; i < n; i++) {
		if (blkdrv_reap(&r->b, &done, &status, true) != 1)
			fail_msg("completion %u of %u never came", i, n);
		blkdrv_put(&r->b, done);
	}
	(void)req;
}

static void a_request_published_without_kick_before_start_is_found(void **state)
{
	struct rig *r = rig_get();
	struct blkdrv_req req;

	rig_up(r, &(struct fe_up_opts){ .skip = FE_SKIP_KICK | FE_SKIP_ENABLE | FE_SKIP_CALL });
	assert_ok(blkdrv_add(&r->b, &req, SPEC_BLK_FLUSH, 0, NULL, 0, 0));
	drv_publish(&r->q);
	assert_ok(fe_vring_start(
		&r->fe, 0,
		&(struct fe_up_opts){ .skip = FE_SKIP_NUM | FE_SKIP_BASE | FE_SKIP_ADDR }));
	wait_ios(r, &req, 1);
}

static void a_kick_between_registered_and_enabled_is_not_swallowed(void **state)
{
	struct rig *r = rig_get();
	struct blkdrv_req req;

	for (unsigned i = 0; i < 20; i++) {
		rig_up(r, &(struct fe_up_opts){ .skip = FE_SKIP_ENABLE });
		assert_ok(blkdrv_add(&r->b, &req, SPEC_BLK_FLUSH, 0, NULL, 0, 0));
		drv_publish(&r->q);
		drv_kick(&r->q);
		pause_us(i * 100);
		assert_ok(fe_set_vring_enable(&r->fe, 0, 1));
		wait_ios(r, &req, 1);
		rig_drop(r);
	}
}

static void kick_before_call_is_signalled_when_the_call_comes(void **state)
{
	struct rig *r = rig_get();
	struct fe_vring *vr = &r->fe.vring[0];
	struct blkdrv_req req;

	rig_up(r, &(struct fe_up_opts){ .skip = FE_SKIP_CALL });
	assert_ok(blkdrv_add(&r->b, &req, SPEC_BLK_FLUSH, 0, NULL, 0, 0));
	drv_publish(&r->q);
	pause_us(20000); /* long done, and nobody to tell */
	vr->call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_ok(fe_set_vring_fd(&r->fe, FE_SET_VRING_CALL, 0, vr->call_fd));
	struct pollfd p = { .fd = vr->call_fd, .events = POLLIN };

	assert_int_equal(poll(&p, 1, 5000), 1);
	wait_ios(r, &req, 1);
}

static void each_start_interrupts_once(void **state)
{
	struct rig *r = rig_get();
	struct pollfd p;

	for (unsigned packed = 0; packed < 2; packed++) {
		rig_up(r, &(struct fe_up_opts){ .packed = packed });
		p = (struct pollfd){ .fd = r->fe.vring[0].call_fd, .events = POLLIN };
		assert_int_equal(poll(&p, 1, 5000), 1);
		rig_drop(r);
	}
}

static void io_goes_on_after_memory_hotplug_without_a_kick(void **state)
{
	struct rig *r = rig_get();
	struct blkdrv_req req;

	rig_up(r, &(struct fe_up_opts){ .event_idx = true });
	for (unsigned i = 0; i < 20; i++) {
		assert_true(fe_mem_new(&r->fe, 0x200000000ull + i * 0x10000,
				       0x600000000000ull + i * 0x10000, 4096) > 0);
		assert_ok(blkdrv_add(&r->b, &req, SPEC_BLK_FLUSH, 0, NULL, 0, 0));
		drv_publish(&r->q);
		assert_ok(i % 2 && i < 8 ? fe_set_mem_table(&r->fe)
					 : fe_add_mem_reg(&r->fe, r->fe.region_count - 1));
		wait_ios(r, &req, 1);
	}
}

/* Thousands of single requests with suppression on both sides: one lost wake-up hangs here. */
static void no_wakeup_is_lost_at_the_edge_of_sleep(void **state)
{
	struct rig *r = rig_get();

	for (unsigned how = 0; how < 4; how++) {
		struct fe_up_opts o = { .packed = how & 1, .event_idx = how & 2 };
		struct blkdrv_req req;

		rig_up(r, &o);
		for (unsigned i = 0; i < 1500; i++) {
			assert_ok(blkdrv_add(&r->b, &req, SPEC_BLK_FLUSH, 0, NULL, 0, 0));
			drv_publish(&r->q);
			wait_ios(r, &req, 1);
			/* Round the server's spin of 50 us. */
			for (uint64_t end = now_us() + i % 75; now_us() < end;)
				;
		}
		rig_drop(r);
	}
}

static void reconnecting_in_a_hurry_always_finds_a_listener(void **state)
{
	struct rig *r = rig_get();
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	strncpy(sa.sun_path, daemon_path(&r->d, "a.sock"), sizeof(sa.sun_path) - 1);
	for (unsigned i = 0; i < 300; i++) {
		int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		/* Not one refusal, not even while the last session ends. */
		assert_int_equal(connect(s, (struct sockaddr *)&sa, sizeof(sa)), 0);
		close(s);
	}
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest quirks[] = {
		T(seabios_does_not_align_the_header),
		T(firmware_leaves_queues_half_set_up_and_the_kernel_starts_again),
		T(firmware_acknowledges_event_idx_and_never_writes_it),
		T(kick_and_call_have_the_index_in_8_bits_and_no_fd_in_bit_8),
		T(enable_counts_any_number_but_zero_as_yes),
		T(without_protocol_features_rings_start_enabled),
		T(set_features_comes_after_the_kick),
		T(old_qemu_resets_with_reset_owner),
		T(the_used_index_is_read_again_from_memory_at_start),
		T(inflight_is_set_up_twice_as_by_qemu_2_12),
		T(inflight_is_set_before_any_ring_exists),
		T(packed_is_passed_through_by_a_front_end_that_starts_split_bases),
		cmocka_unit_test_setup_teardown(one_queue_for_each_vcpu_of_a_large_guest,
						rig_own_setup, rig_own_teardown),
		T(spdks_initiator_asks_for_256_bytes_of_config),
		T(libblkio_finds_what_it_insists_on),
		T(a_request_published_without_kick_before_start_is_found),
		T(a_kick_between_registered_and_enabled_is_not_swallowed),
		T(kick_before_call_is_signalled_when_the_call_comes),
		T(each_start_interrupts_once),
		T(io_goes_on_after_memory_hotplug_without_a_kick),
		T(no_wakeup_is_lost_at_the_edge_of_sleep),
		T(reconnecting_in_a_hurry_always_finds_a_listener),
	};

	return cmocka_run_group_tests(quirks, rig_group_setup, rig_group_teardown);
}
