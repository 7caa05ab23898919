/*
 * Security lessons that other back-ends learnt the hard way (S numbers: THREAT-MODEL.md). A guest
 * or front-end that tries one loses its queue or its session; rig_teardown proves that the server
 * goes on. S14, S22, S23 are about protocols not served here; S3, S12 and S21 are properties of the
 * code that other tests press on (test_quirks.c for S12).
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon.h"

static struct rig *lying_rig(const struct fe_up_opts *o)
{
	struct rig *r = rig_get();

	rig_up(r, o);
	r->q.strict = false;
	return r;
}

/* The ring is broken: told through the err descriptor and the status, and nothing is popped. */
static void expect_broken(struct rig *r)
{
	struct pollfd p = { .fd = r->fe.vring[0].err_fd, .events = POLLIN };
	uint64_t status, times;

	if (poll(&p, 1, 5000) != 1 || read(p.fd, &times, sizeof(times)) != sizeof(times)) {
		daemon_log_show(&r->d);
		fail_msg("the ring is not reported broken");
	}
	assert_ok(fe_get_u64(&r->fe, FE_GET_STATUS, &status));
	assert_int_equal(status & 0x40, 0x40);
	/* Stopping and starting it again heals it. */
	assert_ok(fe_get_vring_base(&r->fe, 0, &(uint32_t){ 0 }));
	drv_reset(&r->q);
	r->q.strict = true;
	assert_ok(fe_vring_start(&r->fe, 0, &(struct fe_up_opts){ 0 }));
	rig_io(r, 0);
}

/* One descriptor (split) that is available. */
static void offer_desc(struct rig *r, uint64_t gpa, uint32_t len, uint16_t flags, uint16_t next)
{
	drv_raw_desc(&r->q, 0, gpa, len, flags, next);
	drv_raw_avail(&r->q, 0);
	drv_raw_avail_idx(&r->q, 1);
	drv_kick(&r->q);
}

/* ---- S1, S7: translation ---- */

static void s1_a_buffer_that_leaves_its_region_breaks_the_ring(void **state)
{
	struct rig *r = lying_rig(NULL);
	uint64_t end = r->fe.region[0].wire.gpa + r->fe.region[0].wire.size_bytes;
	const struct {
		uint64_t gpa;
		uint32_t len;
	} bad[] = { { end - 1, 2 },
		    { end - 16, 17 },
		    { end, 1 },
		    { 0, 16 },
		    { ~0ull, 16 },
		    { ~0ull - 15, 16 },
		    { end - 16, ~0u },
		    { end - 4096, 1u << 31 },
		    { r->fe.region[0].wire.gpa - 1, 16 } };

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		offer_desc(r, bad[i].gpa, bad[i].len, 0, 0);
		expect_broken(r);
		r->q.strict = false;
		assert_ok(fe_get_vring_base(&r->fe, 0, &(uint32_t){ 0 }));
		drv_reset(&r->q);
		assert_ok(fe_vring_start(&r->fe, 0, &(struct fe_up_opts){ 0 }));
	}
}

static void s1_an_indirect_table_is_translated_for_its_whole_length(void **state)
{
	struct rig *r = lying_rig(&(struct fe_up_opts){ .indirect = true });
	uint64_t end = r->fe.region[0].wire.gpa + r->fe.region[0].wire.size_bytes;

	offer_desc(r, end - 16, 32, SPEC_DESC_INDIRECT, 0);
	expect_broken(r);
}

static void s7_lengths_zero_and_odd_do_no_harm(void **state)
{
	static const uint32_t odd[] = { 0, 1, 15, 17, 31 };
	struct rig *r = lying_rig(NULL);
	uint64_t gpa = fe_alloc(&r->fe, 0, 4096, 16);

	for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		for (unsigned k = 0; k < sizeof(odd) / sizeof(odd[0]); k++) {
			drv_raw_desc(&r->q, 0, gpa, odd[i], SPEC_DESC_NEXT, 1);
			drv_raw_desc(&r->q, 1, gpa + 64, odd[k], SPEC_DESC_WRITE, 0);
			drv_raw_avail(&r->q, 0);
			drv_raw_avail_idx(&r->q, 1);
			drv_kick(&r->q);
			assert_ok(fe_get_vring_base(&r->fe, 0, &(uint32_t){ 0 }));
			drv_reset(&r->q);
			assert_ok(fe_vring_start(&r->fe, 0, &(struct fe_up_opts){ 0 }));
		}
	}
	/* Indirect tables of such lengths. */
	rig_drop(r);
	lying_rig(&(struct fe_up_opts){ .indirect = true });
	for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		offer_desc(r, fe_alloc(&r->fe, 0, 64, 16), odd[i], SPEC_DESC_INDIRECT, 0);
		expect_broken(r);
		r->q.strict = false;
		assert_ok(fe_get_vring_base(&r->fe, 0, &(uint32_t){ 0 }));
		drv_reset(&r->q);
		assert_ok(fe_vring_start(&r->fe, 0, &(struct fe_up_opts){ 0 }));
	}
}

/* ---- S2, S4, S18, S20: the walk ---- */

static void s2_a_circular_chain_ends_after_as_many_steps_as_there_are_entries(void **state)
{
	struct rig *r = lying_rig(NULL);
	uint64_t gpa = fe_alloc(&r->fe, 0, 4096, 16);

	drv_raw_desc(&r->q, 1, gpa, 16, SPEC_DESC_NEXT, 0);
	offer_desc(r, gpa, 16, SPEC_DESC_NEXT, 1);
	expect_broken(r);
}

static void s2_a_circular_indirect_table_ends_too(void **state)
{
	struct rig *r = lying_rig(&(struct fe_up_opts){ .indirect = true });
	uint64_t gpa = fe_alloc(&r->fe, 0, 4096, 16);
	struct spec_desc *t = fe_host(&r->fe, gpa, 32);

	t[0] = (struct spec_desc){ gpa, 16, SPEC_DESC_NEXT, 1 };
	t[1] = (struct spec_desc){ gpa, 16, SPEC_DESC_NEXT, 0 };
	offer_desc(r, gpa, 32, SPEC_DESC_INDIRECT, 0);
	expect_broken(r);
}

static void s4_a_packed_buffer_id_is_below_the_size_and_not_in_flight(void **state)
{
	static const uint16_t ids[] = { 128, 129, 0x7fff, 0x8000, 0xffff };

	for (unsigned i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		struct rig *r = lying_rig(&(struct fe_up_opts){ .packed = true });
		uint64_t gpa = fe_alloc(&r->fe, 0, 4096, 16);

		drv_raw_desc(&r->q, 0, gpa, 17, SPEC_PDESC_AVAIL | SPEC_DESC_WRITE, ids[i]);
		drv_kick(&r->q);
		expect_broken(r);
		rig_drop(r);
	}
}

static void s18_a_chain_that_is_no_request_is_given_back(void **state)
{
	struct rig *r = lying_rig(NULL);
	uint64_t gpa = fe_alloc(&r->fe, 0, 4096, 16);
	const struct drv_buf shapes[][2] = {
		{ { gpa, 16, false }, { 0, 0, false } },       /* no room for a status */
		{ { gpa, 1, true }, { 0, 0, false } },	       /* no header */
		{ { gpa, 15, false }, { gpa + 64, 1, true } }, /* a short header */
		{ { gpa, 4096, true }, { 0, 0, false } },      /* device side only */
	};

	for (unsigned i = 0; i < 4; i++) {
		struct drv_used u;

		assert_true(drv_add(&r->q, shapes[i], shapes[i][1].len ? 2 : 1, NULL) >= 0);
		drv_publish(&r->q);
		if (drv_used_wait(&r->q, &u) != 1)
			fail_msg("shape %u was dropped", i);
	}
	rig_io(r, 0);
}

static void s20_an_avail_index_that_jumps_breaks_the_ring(void **state)
{
	static const uint16_t jumps[] = { 129, 1000, 0x8000, 0xffff };
	struct rig *r = lying_rig(NULL);

	for (unsigned i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
		r->q.strict = false;
		drv_raw_avail_idx(&r->q, (uint16_t)(r->q.avail->idx + jumps[i]));
		drv_kick(&r->q);
		expect_broken(r);
	}
}

/* ---- S5, S6, S13, S16, S19: the request ---- */

static void s5_a_header_that_changes_under_way_never_leads_outside_the_disk(void **state)
{
	struct rig *r = lying_rig(NULL);
	struct blkdrv_req req, *done;
	uint8_t status;

	for (unsigned i = 0; i < 2000; i++) {
		struct spec_blk_hdr *hdr;
		uint64_t end = now_us() + 30;

		assert_ok(blkdrv_add(&r->b, &req, SPEC_BLK_IN, 0, NULL, 0, 4096));
		hdr = fe_host(&r->fe, req.base_gpa, sizeof(*hdr));
		drv_publish(&r->q);
		while (now_us() < end) {
			__atomic_store_n(&hdr->sector, ~0ull >> 9, __ATOMIC_RELAXED);
			__atomic_store_n(&hdr->sector, 0, __ATOMIC_RELAXED);
		}
		assert_int_equal(blkdrv_reap(&r->b, &done, &status, true), 1);
		assert_true(status == SPEC_BLK_S_OK || status == SPEC_BLK_S_IOERR);
		blkdrv_put(&r->b, done);
	}
}

static void s13_the_header_may_be_split_over_sixteen_descriptors(void **state)
{
	struct rig *r = rig_get();

	rig_up(r, NULL);
	for (uint32_t piece = 1; piece <= 16; piece++) {
		r->b.layout.head_piece_bytes = piece;
		rig_io(r, piece);
	}
}

static void s15_scsi_passthrough_is_not_implemented(void **state)
{
	struct rig *r = rig_get();
	uint8_t buf[512];

	rig_up(r, NULL);
	assert_false(r->fe.features_offered & 1ull << 7);
	assert_int_equal(blkdrv_do(&r->b, 2, 0, NULL, 0, buf, 512), SPEC_BLK_S_UNSUPP);
}

static void s19_the_used_length_is_what_was_written(void **state)
{
	struct rig *r = rig_get();
	struct blkdrv_req req, *done;
	uint8_t status;
	const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t in, used;
	} c[] = { { SPEC_BLK_IN, 0, 4096, 4097 },
		  { SPEC_BLK_FLUSH, 0, 0, 1 },
		  { SPEC_BLK_IN, 1ull << 40, 4096, 1 },
		  { SPEC_BLK_GET_ID, 0, 20, 21 },
		  { 99, 0, 4096, 1 } };

	rig_up(r, NULL);
	for (unsigned i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		assert_ok(blkdrv_add(&r->b, &req, c[i].type, c[i].sector, NULL, 0, c[i].in));
		drv_publish(&r->q);
		assert_int_equal(blkdrv_reap(&r->b, &done, &status, true), 1);
		assert_int_equal(done->used_bytes, c[i].used);
		blkdrv_put(&r->b, done);
	}
}

/* ---- S8, S9, S10, S26: messages ---- */

static void s8_a_log_whose_size_and_offset_wrap_is_refused(void **state)
{
	static const uint64_t bad[][2] = {
		{ ~0ull, 1 }, { 4096, ~0ull }, { 1ull << 63, 1ull << 63 },
		{ 8192, 0 },  { 4096, 4096 },  { ~0ull - 4095, 4096 },
		{ 0, 0 },
	};
	struct rig *r = rig_get();
	int fd = memfd_create("log", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, 4096), 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct fe_msg m;
		uint64_t v = 0;
		int rc;

		rig_negotiate(r);
		rc = fe_call(&r->fe, FE_SET_LOG_BASE, bad[i], 16, &fd, 1, &m);
		if (!rc) {
			memcpy(&v, m.payload, m.hdr.size_bytes < 8 ? m.hdr.size_bytes : 8);
			fe_msg_close(&m);
			if (m.hdr.size_bytes && !v)
				fail_msg("case %u was accepted", i);
		}
		rig_drop(r);
	}
	close(fd);
}

static void s9_a_32_bit_index_is_checked_before_it_is_narrowed(void **state)
{
	static const uint32_t idx[] = { 0x10000, 0x100000000ull >> 1, 0x10001, 0xffff0000, 256 };
	static const uint32_t req[] = { FE_SET_VRING_NUM, FE_SET_VRING_BASE, FE_GET_VRING_BASE,
					FE_SET_VRING_ENABLE };
	struct rig *r = rig_get();

	for (unsigned i = 0; i < 20; i++) {
		struct fe_wire_state s = { idx[i % 5], 64 };

		rig_negotiate(r);
		rig_refused(r, req[i / 5], 9, &s, sizeof(s), NULL, 0);
		rig_drop(r);
	}
}

static void s10_s26_a_made_up_inflight_area_costs_its_maker_alone(void **state)
{
	struct rig *r = rig_get();

	for (unsigned i = 0; i < 40; i++) {
		struct fe_up_opts o = { .inflight = true, .packed = i & 1 };
		struct fe_inflight *in = &r->fe.inflight;

		rig_negotiate(r);
		assert_ok(fe_get_inflight(&r->fe, 1, 128));
		for (uint64_t k = 0; k < in->wire.mmap_size_bytes; k++)
			in->host[k] = (uint8_t)(i < 20 ? 0xff : (k * 2654435761u * (i + 1)) >> 16);
		in->host[8] = 1; /* version 1 */
		in->host[9] = 0;
		in->host[10] = 128;
		in->host[11] = 0;
		fe_hangup(&r->fe);
		rig_connect(r);
		fe_up(&r->fe, &o); /* may be refused */
		rig_drop(r);
	}
}

static void s10_an_inflight_area_of_wild_sizes_is_refused(void **state)
{
	static const struct fe_wire_inflight bad[] = {
		{ ~0ull, 0, 1, 128, 0 },      { 4096, ~0ull, 1, 128, 0 }, { 4096, 4096, 1, 128, 0 },
		{ 1ull << 40, 0, 1, 128, 0 }, { 4096, 0, 65535, 128, 0 }, { 4096, 0, 1, 65535, 0 },
		{ 0, 0, 1, 128, 0 },	      { 4096, 1, 1, 128, 0 },
	};
	struct rig *r = rig_get();
	int fd = memfd_create("inflight", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, 4096), 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		rig_negotiate(r);
		rig_refused(r, FE_SET_INFLIGHT_FD, 9, &bad[i], 20, &fd, 1);
		rig_drop(r);
	}
	/* An area too small for the ring that is to be recorded in it: never written outside. */
	for (unsigned i = 0; i < 4; i++) {
		struct fe_up_opts o = { .skip = FE_SKIP_START, .packed = i & 1, .queues = 2 };
		struct fe_wire_inflight small = { 64, 0, 2, 128, 0 };

		rig_connect(r);
		assert_ok(fe_up(&r->fe, &(struct fe_up_opts){ .skip = FE_SKIP_START,
							      .inflight = true,
							      .packed = o.packed,
							      .queues = 2 }));
		if (!fe_set(&r->fe, FE_SET_INFLIGHT_FD, &small, 20, &fd, 1))
			fe_vring_start(&r->fe, i / 2, &o);
		rig_drop(r);
	}
	close(fd);
}

/* ---- S11: descriptors and memory ---- */

static void s11_repeated_setting_leaks_no_descriptors(void **state)
{
	struct rig *r = rig_get();
	unsigned before, after = 0;

	rig_up(r, &(struct fe_up_opts){ .inflight = true, .log = true, .back_channel = true });
	before = daemon_fd_count(&r->d);
	for (unsigned i = 0; i < 300; i++) {
		assert_ok(fe_get_inflight(&r->fe, 4, 1024));
		assert_ok(fe_set_inflight(&r->fe));
		assert_ok(fe_set_log(&r->fe, r->fe.log_bytes));
		assert_ok(fe_set_mem_table(&r->fe));
		assert_ok(fe_set_vring_num(&r->fe, 1, 1024));
		assert_ok(fe_set_vring_fd(&r->fe, FE_SET_VRING_CALL, 0, r->fe.vring[0].call_fd));
		assert_ok(fe_set_vring_fd(&r->fe, FE_SET_VRING_KICK, 0, r->fe.vring[0].kick_fd));
		assert_ok(fe_set_vring_fd(&r->fe, FE_SET_VRING_ERR, 0, r->fe.vring[0].err_fd));
		assert_ok(fe_open_back_channel(&r->fe));
	}
	for (uint64_t end = now_us() + 5000000; now_us() < end; pause_us(1000)) {
		after = daemon_fd_count(&r->d);
		if (after <= before)
			break;
	}
	assert_true(after <= before);
	rig_io(r, 0);
}

static void s11_nothing_of_a_session_stays_behind(void **state)
{
	struct rig *r = rig_get();
	unsigned before, after = 0;

	rig_still_serves(r);
	pause_us(100000);
	before = daemon_fd_count(&r->d);
	for (unsigned i = 0; i < 50; i++) {
		rig_up(r, &(struct fe_up_opts){ .queues = 4,
						.inflight = true,
						.log = true,
						.regions = 8,
						.region_bytes = 1 << 20,
						.back_channel = true,
						.packed = i & 1 });
		rig_io(r, 0);
		rig_drop(r);
	}
	for (uint64_t end = now_us() + 5000000; now_us() < end; pause_us(1000)) {
		after = daemon_fd_count(&r->d);
		if (after <= before)
			break;
	}
	assert_true(after <= before);
}

/* ---- S24, S25, S27: the process ---- */

static void s24_nobody_else_may_connect(void **state)
{
	struct rig *r = rig_get();
	struct stat st;

	assert_int_equal(stat(daemon_path(&r->d, "a.sock"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void s27_sigterm_in_the_middle_of_io_ends_cleanly(void **state)
{
	struct rig *r = rig_get();
	static struct blkdrv_req req[32];

	for (unsigned i = 0; i < 12; i++) {
		daemon_image(&r->d, "disk", 8 << 20);
		daemon_start(&r->d, "--device", "blk,socket=@a.sock,file=@disk,num-queues=4", NULL);
		rig_up(r, &(struct fe_up_opts){ .queues = 4, .packed = i & 1 });
		for (unsigned k = 0; k < 32; k++)
			assert_ok(blkdrv_add(&r->b, &req[k], SPEC_BLK_IN, k * 64, NULL, 0, 16384));
		drv_publish(&r->q);
		pause_us(i * 50);
		daemon_stop(&r->d);
		rig_drop(r);
	}
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest lessons[] = {
		T(s1_a_buffer_that_leaves_its_region_breaks_the_ring),
		T(s1_an_indirect_table_is_translated_for_its_whole_length),
		T(s2_a_circular_chain_ends_after_as_many_steps_as_there_are_entries),
		T(s2_a_circular_indirect_table_ends_too),
		T(s4_a_packed_buffer_id_is_below_the_size_and_not_in_flight),
		T(s5_a_header_that_changes_under_way_never_leads_outside_the_disk),
		T(s7_lengths_zero_and_odd_do_no_harm),
		T(s8_a_log_whose_size_and_offset_wrap_is_refused),
		T(s9_a_32_bit_index_is_checked_before_it_is_narrowed),
		T(s10_an_inflight_area_of_wild_sizes_is_refused),
		T(s10_s26_a_made_up_inflight_area_costs_its_maker_alone),
		T(s11_repeated_setting_leaks_no_descriptors),
		T(s11_nothing_of_a_session_stays_behind),
		T(s13_the_header_may_be_split_over_sixteen_descriptors),
		T(s15_scsi_passthrough_is_not_implemented),
		T(s18_a_chain_that_is_no_request_is_given_back),
		T(s19_the_used_length_is_what_was_written),
		T(s20_an_avail_index_that_jumps_breaks_the_ring),
		T(s24_nobody_else_may_connect),
		cmocka_unit_test_setup_teardown(s27_sigterm_in_the_middle_of_io_ends_cleanly,
						rig_own_setup, rig_own_teardown),
	};

	return cmocka_run_group_tests(lessons, rig_group_setup, rig_group_teardown);
}
