/* The ram back-end. */
#include "blk/test_disk.h"

#include <errno.h>

static void what_was_written_is_read_back_over_many_pieces(void **state)
{
	char *in = disk_buf(8192, 1), *out = disk_buf(8192, 2);
	struct disk_req r = { 0 };
	struct disk d;

	disk_open(&d, "ram", "size=1M");
	assert_int_equal(disk_do(&d, BLK_WRITE, BLK_FUA, 512, 8192, in), BLK_ST_OK);
	r.iov[0] = (struct iovec){ .iov_base = out, .iov_len = 1 };
	r.iov[1] = (struct iovec){ .iov_base = out + 1, .iov_len = 0 };
	r.iov[2] = (struct iovec){ .iov_base = out + 1, .iov_len = 8191 };
	r.req = (struct blk_req){ .op = BLK_READ,
				  .iov = r.iov,
				  .iov_count = 3,
				  .offset_bytes = 512,
				  .len_bytes = 8192,
				  .done = disk_req_done };
	blk_submit(d.chan, &r.req);
	assert_int_equal(disk_wait(&d, &r), BLK_ST_OK);
	assert_memory_equal(in, out, 8192);
	disk_close(&d);
	free(in);
	free(out);
}

static void check_zeroed(enum blk_op op, uint32_t flags, uint64_t off, uint64_t len)
{
	enum {
		SIZE = 1 << 20
	};
	char *buf = disk_buf(SIZE, 1), *out = disk_buf(SIZE, 2);
	struct disk d;

	disk_open(&d, "ram", "size=1M");
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 0, SIZE, buf), BLK_ST_OK);
	assert_int_equal(disk_do(&d, op, flags, off, len, NULL), BLK_ST_OK);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 0, SIZE, out), BLK_ST_OK);
	memset(buf + off, 0, len);
	assert_memory_equal(buf, out, SIZE);
	disk_close(&d);
	free(buf);
	free(out);
}

static void zeroed_range_reads_as_zeroes_and_its_neighbours_stay(void **state)
{
	static const struct {
		uint64_t off, len;
	} ranges[] = {
		{ 0, 512 },	{ 512, 1024 },	{ 4096, 4096 },
		{ 3584, 1024 }, { 3584, 5120 }, { 512, 262144 },
		{ 0, 1 << 20 }, { 4096, 0 },	{ (1 << 20) - 512, 512 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		check_zeroed(BLK_WRITE_ZEROES, 0, ranges[i].off, ranges[i].len);
		check_zeroed(BLK_WRITE_ZEROES, BLK_UNMAP, ranges[i].off, ranges[i].len);
		check_zeroed(BLK_DISCARD, 0, ranges[i].off, ranges[i].len);
	}
}

static void huge_disk_costs_no_memory_until_written(void **state)
{
	char *buf = disk_buf(4096, 1);
	struct disk d;

	disk_open(&d, "ram", "size=1T");
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, (1ull << 40) - 4096, 4096, buf), BLK_ST_OK);
	disk_close(&d);
	free(buf);
}

static void assert_extent(struct disk *d, uint64_t off, uint64_t end, bool mapped)
{
	uint64_t found_end;
	bool found;

	assert_int_equal(blk_dev_map(d->dev, off, 1 << 20, &found_end, &found), 0);
	assert_int_equal(found_end, end);
	assert_int_equal(found, mapped);
}

static void pages_are_mapped_from_a_write_until_they_are_given_back(void **state)
{
	char *buf = disk_buf(512 << 10, 1);
	uint64_t end;
	bool mapped;
	struct disk d;

	disk_open(&d, "ram", "size=1M");
	assert_extent(&d, 0, 1 << 20, false);
	assert_int_equal(disk_do(&d, BLK_READ, 0, 0, 8192, buf), BLK_ST_OK);
	assert_extent(&d, 512, 1 << 20, false);
	assert_int_equal(disk_do(&d, BLK_WRITE, 0, 8192, 512 << 10, buf), BLK_ST_OK);
	assert_extent(&d, 0, 8192, false);
	assert_extent(&d, 8192, 8192 + (512 << 10), true);
	assert_extent(&d, 8192 + (512 << 10), 1 << 20, false);
	/* a page that is given back in part stays */
	assert_int_equal(disk_do(&d, BLK_DISCARD, 0, 12288 - 512, 300 << 10, NULL), BLK_ST_OK);
	assert_extent(&d, 8192, 12288, true);
	assert_extent(&d, 12288, 12288 - 4096 + (300 << 10), false);
	assert_int_equal(blk_dev_map(d.dev, 512, 512, &end, &mapped), -EINVAL);
	assert_int_equal(blk_dev_map(d.dev, 0, (1 << 20) + 512, &end, &mapped), -EINVAL);
	assert_int_equal(blk_dev_map(d.dev, 1, 512, &end, &mapped), -EINVAL);
	disk_close(&d);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_written_is_read_back_over_many_pieces),
		cmocka_unit_test(zeroed_range_reads_as_zeroes_and_its_neighbours_stay),
		cmocka_unit_test(huge_disk_costs_no_memory_until_written),
		cmocka_unit_test(pages_are_mapped_from_a_write_until_they_are_given_back),
	};

	return cmocka_run_group_tests_name("blk ram", tests, NULL, NULL);
}
