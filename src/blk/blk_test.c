/* The waist, the graph, the bounce filter and the sim back-end. */
#include "blk/test_disk.h"

#include <errno.h>

#include "blk/backend/sim.h"

static char page[65536] __attribute__((aligned(4096)));

static void request_completes_after_submit_returned_and_once(void **state)
{
	struct disk_req r;
	struct disk d;

	disk_open(&d, "null", "size=1M");
	disk_start(&d, &r, BLK_READ, 0, 0, 4096, page); /* asserts that it is not done yet */
	assert_int_equal(disk_wait(&d, &r), BLK_ST_OK);
	disk_close(&d);
}

static void range_beyond_the_end_is_refused(void **state)
{
	struct disk d;

	disk_open(&d, "null", "size=1M");
	assert_int_equal(disk_do(&d, BLK_READ, 0, (1u << 20) - 512, 512, page), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 1u << 20, 512, page), BLK_ST_RANGE);
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, (1u << 20) - 512, 1024, page), BLK_ST_RANGE);
	assert_int_equal(disk_do(&d, BLK_DISCARD, 0, (1u << 20) - 512, 1024, NULL), BLK_ST_RANGE);
	/* offset + length wraps to a small number */
	assert_int_equal(disk_do(&d, BLK_READ, 0, UINT64_MAX - 511, 1024, page), BLK_ST_RANGE);
	assert_int_equal(disk_do(&d, BLK_WRITE_ZEROES, 0, 1024, UINT64_MAX - 511, NULL),
			 BLK_ST_RANGE);
	disk_close(&d);
}

static void misaligned_offset_or_length_is_refused(void **state)
{
	struct disk d;

	disk_open(&d, "null", "size=1M,block-size=4096");
	assert_int_equal(disk_do(&d, BLK_READ, 0, 512, 4096, page), BLK_ST_ALIGN);
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 4096, 512, page), BLK_ST_ALIGN);
	assert_int_equal(disk_do(&d, BLK_DISCARD, 0, 4096, 512, NULL), BLK_ST_ALIGN);
	disk_close(&d);
}

static void read_only_node_refuses_everything_that_writes(void **state)
{
	struct disk d;

	disk_open(&d, "sim", "read-only=on");
	assert_int_equal(disk_do(&d, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_FLUSH, 0, 0, 0, NULL), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 0, 512, page), BLK_ST_READ_ONLY);
	assert_int_equal(disk_do(&d, BLK_DISCARD, 0, 0, 512, NULL), BLK_ST_READ_ONLY);
	assert_int_equal(disk_do(&d, BLK_WRITE_ZEROES, 0, 0, 512, NULL), BLK_ST_READ_ONLY);
	disk_close(&d);
}

static void unknown_op_flag_or_missing_capability_is_unsupported(void **state)
{
	struct disk d;

	disk_open(&d, "ram", "size=128M");
	assert_int_equal(disk_do(&d, (enum blk_op)200, 0, 0, 512, page), BLK_ST_UNSUPP);
	assert_int_equal(disk_do(&d, BLK_OP_COUNT, 0, 0, 512, page), BLK_ST_UNSUPP);
	assert_int_equal(disk_do(&d, BLK_SECURE_ERASE, 0, 0, 512, NULL), BLK_ST_UNSUPP);
	assert_int_equal(disk_do(&d, BLK_WRITE, 0x80, 0, 512, page), BLK_ST_UNSUPP);
	/* over the limit that the caps announce */
	assert_int_equal(disk_do(&d, BLK_DISCARD, 0, 0, 128u << 20, NULL), BLK_ST_UNSUPP);
	disk_close(&d);
}

static void flush_ignores_offset_and_length(void **state)
{
	struct disk d;

	disk_open(&d, "null", "size=1M");
	assert_int_equal(disk_do(&d, BLK_FLUSH, 0, 7, UINT64_MAX, NULL), BLK_ST_OK);
	disk_close(&d);
}

static void complete_twice(void)
{
	struct disk_req r;
	struct disk d;

	disk_open(&d, "null", "size=1M");
	disk_start(&d, &r, BLK_READ, 0, 0, 512, page);
	blk_complete(&r.req, BLK_ST_OK);
}

static void second_completion_is_our_fault_and_asserts(void **state)
{
	assert_aborts(complete_twice);
}

static void close_in_flight(void)
{
	struct disk_req r;
	struct disk d;

	disk_open(&d, "null", "size=1M");
	disk_start(&d, &r, BLK_READ, 0, 0, 512, page);
	blk_chan_close(d.chan);
}

static void close_with_requests_in_flight_asserts(void **state)
{
	assert_aborts(close_in_flight);
}

static void stats_count_requests_bytes_errors_and_latencies(void **state)
{
	struct blk_stats s;
	struct disk d;

	disk_open(&d, "sim", "delay-min-ns=100000,delay-max-ns=100000");
	for (int i = 0; i < 3; i++)
		disk_do(&d, BLK_READ, 0, 0, 1024, page);
	disk_do(&d, BLK_WRITE, 0, 0, 512, page);
	disk_do(&d, BLK_READ, 0, 1u << 30, 512, page);
	blk_dev_stats(d.dev, &s);
	assert_int_equal(s.ops[BLK_READ], 4);
	assert_int_equal(s.bytes[BLK_READ], 3 * 1024);
	assert_int_equal(s.ops[BLK_WRITE], 1);
	assert_int_equal(s.bytes[BLK_WRITE], 512);
	assert_int_equal(blk_stats_errors(&s, BLK_ST_RANGE), 1);
	assert_int_equal(s.errors[BLK_READ][BLK_ST_OK], 0);
	/* 100 us is between 2^16 and 2^17 ns; what was delayed cannot be in a lower bucket */
	for (int i = 0; i < 16; i++)
		assert_int_equal(s.hist[BLK_WRITE][i], 0);

	/* what a closed channel counted stays */
	blk_chan_close(d.chan);
	assert_int_equal(blk_chan_open(d.dev, d.loop, &d.chan, NULL), 0);
	blk_dev_stats(d.dev, &s);
	assert_int_equal(s.ops[BLK_READ], 4);
	disk_close(&d);
}

static void misaligned_memory_goes_through_aligned_buffers(void **state)
{
	struct disk d;
	size_t len = 600 << 10; /* several steps */
	char *buf = disk_buf(len + 8, 1), *copy;

	disk_open(&d, "sim", "mem-align=512");
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 512, len, buf + 3), BLK_ST_OK);
	assert_memory_equal((char *)blk_sim_memory(d.dev) + 512, buf + 3, len);
	copy = disk_buf(len + 8, 2);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 512, len, copy + 5), BLK_ST_OK);
	assert_memory_equal(copy + 5, buf + 3, len);
	disk_close(&d);
	free(buf);
	free(copy);
}

static void memory_cut_at_odd_places_goes_through_aligned_buffers(void **state)
{
	struct disk_req r = { 0 };
	struct disk d;
	char *buf = disk_buf(4096, 3);

	disk_open(&d, "sim", "mem-align=512");
	r.iov[0] = (struct iovec){ .iov_base = buf, .iov_len = 100 };
	r.iov[1] = (struct iovec){ .iov_base = buf + 512, .iov_len = 924 };
	r.req = (struct blk_req){ .op = BLK_WRITE,
				  .iov = r.iov,
				  .iov_count = 2,
				  .len_bytes = 1024,
				  .done = disk_req_done };
	blk_submit(d.chan, &r.req);
	assert_int_equal(disk_wait(&d, &r), BLK_ST_OK);
	assert_memory_equal(blk_sim_memory(d.dev), buf, 100);
	assert_memory_equal((char *)blk_sim_memory(d.dev) + 100, buf + 512, 924);
	disk_close(&d);
	free(buf);
}

static void more_misaligned_requests_than_buffers_wait_in_order(void **state)
{
	enum {
		COUNT = 64
	};
	struct disk_req *r = calloc(COUNT, sizeof(*r));
	char *buf = disk_buf(COUNT * 512 + 8, 4);
	struct disk d;

	disk_open(&d, "sim", "mem-align=512");
	for (int i = 0; i < COUNT; i++)
		disk_start(&d, &r[i], BLK_WRITE, 0, (uint64_t)i * 512, 512, buf + 1 + i * 512);
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(disk_wait(&d, &r[i]), BLK_ST_OK);
	for (int i = 1; i < COUNT; i++)
		assert_true(r[i].nth > r[i - 1].nth);
	assert_memory_equal(blk_sim_memory(d.dev), buf + 1, COUNT * 512);
	disk_close(&d);
	free(buf);
	free(r);
}

static void failure_of_one_step_fails_the_bounced_request(void **state)
{
	char *buf = disk_buf((600 << 10) + 8, 5);
	struct disk d;

	disk_open(&d, "sim", "mem-align=512,fail-every=2,fail-status=NO_SPACE");
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 0, 600 << 10, buf + 1), BLK_ST_NO_SPACE);
	disk_close(&d);
	free(buf);
}

static void order_of(const char *params, uint32_t *ret_order, int count)
{
	struct disk_req r[32];
	struct disk d;

	disk_completions = 0;
	disk_open(&d, "sim", params);
	for (int i = 0; i < count; i++)
		disk_start(&d, &r[i], BLK_READ, 0, 0, 512, page);
	for (int i = 0; i < count; i++) {
		disk_wait(&d, &r[i]);
	}
	for (int i = 0; i < count; i++)
		ret_order[i] = r[i].nth;
	disk_close(&d);
}

static void sim_completes_in_an_order_that_its_seed_fixes(void **state)
{
	uint32_t a[32], b[32], c[32];

	order_of("seed=7,delay-max-ns=20000000", a, 32);
	order_of("seed=7,delay-max-ns=20000000", b, 32);
	order_of("seed=8,delay-max-ns=20000000", c, 32);
	assert_memory_equal(a, b, sizeof(a));
	assert_memory_not_equal(a, c, sizeof(a));
}

static void sim_fails_each_nth_request_of_the_kind(void **state)
{
	struct disk d;

	disk_open(&d, "sim", "fail-every=2,fail-op=write,fail-status=GONE");
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 0, 512, page), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 0, 512, page), BLK_ST_GONE);
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 0, 512, page), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 0, 512, page), BLK_ST_OK);
	disk_close(&d);
}

static void sim_holds_requests_until_released(void **state)
{
	struct disk_req r;
	struct disk d;

	disk_open(&d, "sim", "");
	blk_sim_hold(d.dev, true);
	disk_start(&d, &r, BLK_READ, 0, 0, 512, page);
	for (int i = 0; i < 20; i++)
		loop_run_once(d.loop, true);
	assert_false(r.done);
	blk_sim_hold(d.dev, false);
	assert_int_equal(disk_wait(&d, &r), BLK_ST_OK);
	disk_close(&d);
}

static void cancelled_request_completes_once_as_aborted(void **state)
{
	struct disk_req r, other;
	struct disk d;

	disk_open(&d, "sim", "");
	blk_sim_hold(d.dev, true);
	memset(page, 0x5a, 512);
	disk_start(&d, &r, BLK_WRITE, 0, 0, 512, page);
	disk_start(&d, &other, BLK_WRITE, 0, 512, 512, page);
	blk_cancel(&r.req);
	assert_false(r.done); /* not before it returned */
	blk_cancel(&r.req);
	assert_int_equal(disk_wait(&d, &r), BLK_ST_ABORTED);
	assert_false(other.done);
	blk_sim_hold(d.dev, false);
	assert_int_equal(disk_wait(&d, &other), BLK_ST_OK);
	assert_true(disk_all_zero(blk_sim_memory(d.dev), 512));
	/* the same memory again: nothing of the cancel is left */
	memset(&r.done, 0, sizeof(r.done));
	blk_submit(d.chan, &r.req);
	assert_int_equal(disk_wait(&d, &r), BLK_ST_OK);
	disk_close(&d);
}

static void cancel_of_what_has_completed_changes_nothing(void **state)
{
	struct disk_req r;
	struct disk d;

	disk_open(&d, "null", "size=1M"); /* completed; done is called in a later phase */
	disk_start(&d, &r, BLK_READ, 0, 0, 512, page);
	blk_cancel(&r.req);
	assert_int_equal(disk_wait(&d, &r), BLK_ST_OK);
	disk_close(&d);
}

static void bounced_requests_are_cancelled_in_their_buffer_and_in_the_queue(void **state)
{
	char *buf = disk_buf(8 * 512 + 8, 6);
	struct disk_req r[8];
	struct disk d;

	disk_open(&d, "sim", "mem-align=512");
	blk_sim_hold(d.dev, true);
	for (int i = 0; i < 8; i++)
		disk_start(&d, &r[i], BLK_WRITE, 0, (uint64_t)i * 512, 512, buf + 1 + i * 512);
	blk_cancel(&r[6].req); /* waits for a buffer: 4 have one */
	blk_cancel(&r[1].req);
	assert_int_equal(disk_wait(&d, &r[6]), BLK_ST_ABORTED);
	assert_int_equal(disk_wait(&d, &r[1]), BLK_ST_ABORTED);
	blk_sim_hold(d.dev, false);
	for (int i = 0; i < 8; i++)
		assert_int_equal(disk_wait(&d, &r[i]),
				 i == 6 || i == 1 ? BLK_ST_ABORTED : BLK_ST_OK);
	disk_close(&d);
	free(buf);
}

static int resizes;

static void on_resized(struct blk_listener *l)
{
	resizes++;
}

static void rescan_tells_listeners_and_moves_the_end_for_open_channels(void **state)
{
	struct blk_listener l = { .resized = on_resized };
	struct disk d;

	resizes = 0;
	disk_open(&d, "sim", "size=1M");
	blk_dev_listen(d.dev, &l);
	assert_int_equal(blk_dev_rescan(d.dev, NULL), 0);
	assert_int_equal(resizes, 0);
	blk_sim_resize(d.dev, 512 << 10);
	assert_int_equal(blk_dev_rescan(d.dev, NULL), 0);
	assert_int_equal(resizes, 1);
	assert_int_equal(blk_dev_caps(d.dev)->size_bytes, 512 << 10);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 512 << 10, 512, page), BLK_ST_RANGE);
	blk_sim_resize(d.dev, 1000);
	assert_int_equal(blk_dev_rescan(d.dev, NULL), -EINVAL);
	assert_int_equal(resizes, 1);
	blk_dev_unlisten(&l);
	disk_close(&d);
}

static void wrong_type_or_parameter_is_named(void **state)
{
	struct blk_dev *dev;
	struct err err = { 0 };

	assert_int_equal(blk_dev_open("floppy", "d0", "", &dev, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "floppy"));
	assert_int_equal(blk_dev_open("null", "d0", "colour=red", &dev, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "colour"));
	assert_int_equal(blk_dev_open("null", "d0", "block-size=1000", &dev, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "1000"));
	assert_int_equal(blk_dev_open("null", "d0", "size=1000", &dev, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "1000"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_completes_after_submit_returned_and_once),
		cmocka_unit_test(range_beyond_the_end_is_refused),
		cmocka_unit_test(misaligned_offset_or_length_is_refused),
		cmocka_unit_test(read_only_node_refuses_everything_that_writes),
		cmocka_unit_test(unknown_op_flag_or_missing_capability_is_unsupported),
		cmocka_unit_test(flush_ignores_offset_and_length),
		cmocka_unit_test(second_completion_is_our_fault_and_asserts),
		cmocka_unit_test(close_with_requests_in_flight_asserts),
		cmocka_unit_test(stats_count_requests_bytes_errors_and_latencies),
		cmocka_unit_test(misaligned_memory_goes_through_aligned_buffers),
		cmocka_unit_test(memory_cut_at_odd_places_goes_through_aligned_buffers),
		cmocka_unit_test(more_misaligned_requests_than_buffers_wait_in_order),
		cmocka_unit_test(failure_of_one_step_fails_the_bounced_request),
		cmocka_unit_test(sim_completes_in_an_order_that_its_seed_fixes),
		cmocka_unit_test(sim_fails_each_nth_request_of_the_kind),
		cmocka_unit_test(sim_holds_requests_until_released),
		cmocka_unit_test(cancelled_request_completes_once_as_aborted),
		cmocka_unit_test(cancel_of_what_has_completed_changes_nothing),
		cmocka_unit_test(bounced_requests_are_cancelled_in_their_buffer_and_in_the_queue),
		cmocka_unit_test(rescan_tells_listeners_and_moves_the_end_for_open_channels),
		cmocka_unit_test(wrong_type_or_parameter_is_named),
	};

	return cmocka_run_group_tests_name("blk waist", tests, NULL, NULL);
}
