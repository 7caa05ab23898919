/* PRP and SGL as they are written, every shape: the walker with a memory of lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nvme/dptr_walk.h"
#include "nvme/limits.h"

#define MEM_BASE 0x100000ull
#define SKIPPED	 UINT64_MAX

/* Where lists are: MEM_BASE is the first byte. */
static uint8_t mem[256 * NVME_PAGE_BYTES] __attribute__((aligned(4096)));

struct found {
	struct {
		uint64_t addr;
		uint32_t len;
	} piece[2100];
	uint32_t count, reads;
	enum nvme_status status;
};
static struct found found;
static struct nvme_sqe sqe;

static void walk(uint32_t len, enum nvme_dir dir)
{
	static struct dptr_walk w;
	enum dptr_step step;

	memset(&found, 0, sizeof(found));
	memset(&w, 0xa5, sizeof(w));
	dptr_walk_begin(&w, &sqe, len, dir);
	while ((step = dptr_walk_next(&w)) != DPTR_DONE) {
		if (step == DPTR_FAIL) {
			found.status = w.status;
			return;
		}
		if (step == DPTR_READ) {
			assert_in_range(w.len_bytes, 1, sizeof(w.entries));
			assert_in_range(w.addr, MEM_BASE, MEM_BASE + sizeof(mem) - w.len_bytes);
			memcpy(&w.entries, mem + (w.addr - MEM_BASE), w.len_bytes);
			found.reads++;
			continue;
		}
		assert_true(found.count < ARRAY_SIZE(found.piece));
		assert_true(w.len_bytes);
		found.piece[found.count].addr = step == DPTR_SKIP ? SKIPPED : w.addr;
		found.piece[found.count++].len = w.len_bytes;
		assert_true(w.len_bytes <= len);
		len -= w.len_bytes;
	}
	assert_int_equal(len, 0);
}

static void assert_piece(uint32_t i, uint64_t addr, uint32_t len)
{
	assert_true(i < found.count);
	assert_int_equal(found.piece[i].addr, addr);
	assert_int_equal(found.piece[i].len, len);
}

/* ---- PRP ---- */

static void prp(uint64_t prp1, uint64_t prp2)
{
	memset(&sqe, 0, sizeof(sqe));
	sqe.prp1 = le64(prp1);
	sqe.prp2 = le64(prp2);
}

static void list_put(uint64_t addr, uint64_t value)
{
	struct le64 v = le64(value);

	memcpy(mem + (addr - MEM_BASE), &v, sizeof(v));
}

static void one_page_or_part_of_it_needs_prp1_only(void **state)
{
	prp(0x5000, 0xbad);
	walk(4096, NVME_TO_GUEST);
	assert_int_equal(found.count, 1);
	assert_piece(0, 0x5000, 4096);
	prp(0x5ffc, 0xbad);
	walk(4, NVME_TO_GUEST);
	assert_piece(0, 0x5ffc, 4);
}

static void offset_of_prp1_is_a_multiple_of_4(void **state)
{
	for (uint64_t off = 1; off < 4; off++) {
		prp(0x5000 + off, 0);
		walk(512, NVME_TO_GUEST);
		assert_int_equal(found.status, NVME_SC_INVALID_PRP_OFFSET);
	}
}

static void second_page_is_prp2_without_offset(void **state)
{
	prp(0x5800, 0x9000);
	walk(4096, NVME_TO_GUEST);
	assert_piece(0, 0x5800, 2048);
	assert_piece(1, 0x9000, 2048);
	prp(0x5ffc, 0x9000);
	walk(4100, NVME_FROM_GUEST);
	assert_piece(1, 0x9000, 4096);
	prp(0x5000, 0x9004);
	walk(8192, NVME_TO_GUEST);
	assert_int_equal(found.status, NVME_SC_INVALID_PRP_OFFSET);
}

static void list_may_begin_inside_a_page(void **state)
{
	prp(0x5800, MEM_BASE + 0x808);
	for (uint64_t i = 0; i < 3; i++)
		list_put(MEM_BASE + 0x808 + i * 8, 0x10000 + i * 0x2000);
	walk(2048 + 4096 * 2 + 512, NVME_TO_GUEST);
	assert_int_equal(found.count, 4);
	assert_int_equal(found.reads, 1);
	assert_piece(3, 0x14000, 512);
}

static void list_pointer_is_a_multiple_of_8(void **state)
{
	prp(0x5000, MEM_BASE + 4);
	walk(4096 * 3, NVME_TO_GUEST);
	assert_int_equal(found.status, NVME_SC_INVALID_PRP_OFFSET);
	assert_int_equal(found.reads, 0);
}

static void entries_of_lists_have_no_offset(void **state)
{
	prp(0x5000, MEM_BASE);
	list_put(MEM_BASE, 0x10000);
	list_put(MEM_BASE + 8, 0x20004);
	walk(4096 * 3, NVME_TO_GUEST);
	assert_int_equal(found.status, NVME_SC_INVALID_PRP_OFFSET);
}

static void last_entry_of_a_page_chains_when_more_is_needed(void **state)
{
	/* room for two: with two pages left both are data, with three the second is a pointer */
	prp(0x5000, MEM_BASE + 0xff0);
	list_put(MEM_BASE + 0xff0, 0x10000);
	list_put(MEM_BASE + 0xff8, MEM_BASE + 0x3000);
	list_put(MEM_BASE + 0x3000, 0x20000);
	list_put(MEM_BASE + 0x3008, 0x30000);
	walk(4096 * 3, NVME_TO_GUEST);
	assert_int_equal(found.count, 3);
	assert_piece(2, MEM_BASE + 0x3000, 4096);
	walk(4096 * 4, NVME_TO_GUEST);
	assert_int_equal(found.count, 4);
	assert_int_equal(found.reads, 2);
	assert_piece(2, 0x20000, 4096);
	assert_piece(3, 0x30000, 4096);
}

static void pointer_to_the_next_list_has_no_offset(void **state)
{
	prp(0x5000, MEM_BASE + 0xff8); /* the only entry of its page is a pointer already */
	list_put(MEM_BASE + 0xff8, MEM_BASE + 0x1008);
	walk(4096 * 3, NVME_TO_GUEST);
	assert_int_equal(found.status, NVME_SC_INVALID_PRP_OFFSET);
	list_put(MEM_BASE + 0xff8, MEM_BASE + 0x1000);
	list_put(MEM_BASE + 0x1000, 0x10000);
	list_put(MEM_BASE + 0x1008, 0x20000);
	walk(4096 * 3, NVME_TO_GUEST);
	assert_int_equal(found.count, 3);
}

static void longest_transfer_walks_lists_of_whole_pages(void **state)
{
	uint32_t pages = NVME_TRANSFER_MAX / NVME_PAGE_BYTES;

	prp(0x5004, MEM_BASE);
	for (uint32_t i = 0; i < 512; i++)
		list_put(MEM_BASE + i * 8, 0x1000000 + i * 0x2000ull);
	walk(NVME_TRANSFER_MAX, NVME_TO_GUEST); /* one entry more than pages: 512 in the list */
	assert_int_equal(found.count, pages + 1);
	assert_int_equal(found.reads, 1);
	assert_piece(pages, 0x1000000 + 511 * 0x2000, 4);
}

static void list_that_points_at_itself_ends_with_the_data(void **state)
{
	prp(0x5000, MEM_BASE + 0xff8);
	list_put(MEM_BASE + 0xff8, MEM_BASE);
	for (uint32_t i = 0; i < 511; i++)
		list_put(MEM_BASE + i * 8, MEM_BASE);
	walk(NVME_TRANSFER_MAX, NVME_TO_GUEST);
	assert_int_equal(found.status, 0);
	assert_int_equal(found.reads, 2);
}

/* ---- SGL ---- */

static struct nvme_sgl_desc desc(uint8_t type, uint64_t addr, uint32_t len)
{
	return (struct nvme_sgl_desc){ .address = le64(addr),
				       .length = le32(len),
				       .type = (uint8_t)(type << 4) };
}

static void sgl(uint8_t type, uint64_t addr, uint32_t len)
{
	memset(&sqe, 0, sizeof(sqe));
	sqe.flags = 1 << NVME_SQE_PSDT_SHIFT;
	sqe.sgl1 = desc(type, addr, len);
}

static void desc_put(uint64_t addr, uint8_t type, uint64_t data, uint32_t len)
{
	struct nvme_sgl_desc d = desc(type, data, len);

	memcpy(mem + (addr - MEM_BASE), &d, sizeof(d));
}

static void expect_status(uint32_t len, enum nvme_status status)
{
	walk(len, NVME_TO_GUEST);
	assert_int_equal(found.status, status);
}

static void data_block_of_any_alignment_in_the_command(void **state)
{
	sgl(NVME_SGL_DATA_BLOCK, 0x12345, 4096);
	walk(4096, NVME_TO_GUEST);
	assert_piece(0, 0x12345, 4096);
	walk(512, NVME_TO_GUEST); /* longer than the data */
	assert_piece(0, 0x12345, 512);
	expect_status(4097, NVME_SC_INVALID_SGL_LENGTH);
	sgl(NVME_SGL_DATA_BLOCK, 0x12345, 0);
	expect_status(512, NVME_SC_INVALID_SGL_LENGTH);
}

static void last_segment_has_the_data_blocks(void **state)
{
	sgl(NVME_SGL_LAST_SEGMENT, MEM_BASE + 8, 3 * 16);
	desc_put(MEM_BASE + 8, NVME_SGL_DATA_BLOCK, 0x1001, 100);
	desc_put(MEM_BASE + 24, NVME_SGL_DATA_BLOCK, 0x2002, 0); /* no bytes: legal */
	desc_put(MEM_BASE + 40, NVME_SGL_DATA_BLOCK, 0x3003, 412);
	walk(512, NVME_FROM_GUEST);
	assert_int_equal(found.count, 2);
	assert_piece(0, 0x1001, 100);
	assert_piece(1, 0x3003, 412);
	expect_status(513, NVME_SC_INVALID_SGL_LENGTH);
}

static void segments_chain_to_the_last_one(void **state)
{
	sgl(NVME_SGL_SEGMENT, MEM_BASE, 2 * 16);
	desc_put(MEM_BASE, NVME_SGL_DATA_BLOCK, 0x1000, 512);
	desc_put(MEM_BASE + 16, NVME_SGL_SEGMENT, MEM_BASE + 0x1000, 16);
	desc_put(MEM_BASE + 0x1000, NVME_SGL_LAST_SEGMENT, MEM_BASE + 0x2000, 16);
	desc_put(MEM_BASE + 0x2000, NVME_SGL_DATA_BLOCK, 0x3000, 512);
	walk(1024, NVME_TO_GUEST);
	assert_int_equal(found.status, 0);
	assert_int_equal(found.count, 2);
	assert_int_equal(found.reads, 3);
	assert_piece(1, 0x3000, 512);
}

static void segment_descriptor_that_is_not_the_last_is_a_wrong_count(void **state)
{
	sgl(NVME_SGL_SEGMENT, MEM_BASE, 2 * 16);
	desc_put(MEM_BASE, NVME_SGL_LAST_SEGMENT, MEM_BASE + 0x1000, 16);
	desc_put(MEM_BASE + 16, NVME_SGL_DATA_BLOCK, 0x1000, 512);
	expect_status(512, NVME_SC_INVALID_SGL_COUNT);
}

static void segment_in_a_last_segment_or_a_missing_one_is_refused(void **state)
{
	sgl(NVME_SGL_LAST_SEGMENT, MEM_BASE, 16);
	desc_put(MEM_BASE, NVME_SGL_LAST_SEGMENT, MEM_BASE + 0x1000, 16);
	expect_status(512, NVME_SC_INVALID_SGL_SEGMENT);
	desc_put(MEM_BASE, NVME_SGL_SEGMENT, MEM_BASE + 0x1000, 16);
	expect_status(512, NVME_SC_INVALID_SGL_SEGMENT);
	/* not a last one, but nothing follows */
	sgl(NVME_SGL_SEGMENT, MEM_BASE, 16);
	desc_put(MEM_BASE, NVME_SGL_DATA_BLOCK, 0x1000, 100);
	expect_status(512, NVME_SC_INVALID_SGL_SEGMENT);
}

static void length_and_address_of_a_segment_fit_descriptors(void **state)
{
	static const uint32_t lens[] = { 0, 1, 8, 15, 17, 24 };

	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		sgl(NVME_SGL_LAST_SEGMENT, MEM_BASE, lens[i]);
		expect_status(512, NVME_SC_INVALID_SGL_SEGMENT);
		sgl(NVME_SGL_SEGMENT, MEM_BASE, lens[i]);
		expect_status(512, NVME_SC_INVALID_SGL_SEGMENT);
	}
	sgl(NVME_SGL_LAST_SEGMENT, MEM_BASE + 4, 16);
	expect_status(512, NVME_SC_INVALID_SGL_SEGMENT);
}

static void unknown_type_or_subtype_is_named(void **state)
{
	for (uint8_t type = 4; type < 16; type++) {
		sgl(type, 0x1000, 512);
		expect_status(512, NVME_SC_INVALID_SGL_TYPE);
	}
	for (uint8_t subtype = 1; subtype < 16; subtype++) {
		sgl(NVME_SGL_DATA_BLOCK, 0x1000, 512);
		sqe.sgl1.type |= subtype;
		expect_status(512, NVME_SC_INVALID_SGL_TYPE);
	}
}

static void bit_bucket_throws_away_what_is_read_and_is_nothing_for_a_write(void **state)
{
	sgl(NVME_SGL_LAST_SEGMENT, MEM_BASE, 3 * 16);
	desc_put(MEM_BASE, NVME_SGL_DATA_BLOCK, 0x1000, 512);
	desc_put(MEM_BASE + 16, NVME_SGL_BIT_BUCKET, 0, 1024);
	desc_put(MEM_BASE + 32, NVME_SGL_DATA_BLOCK, 0x2000, 512);
	walk(2048, NVME_TO_GUEST);
	assert_int_equal(found.status, 0);
	assert_int_equal(found.count, 3);
	assert_piece(1, SKIPPED, 1024);
	assert_piece(2, 0x2000, 512);
	walk(1024, NVME_FROM_GUEST);
	assert_int_equal(found.status, 0);
	assert_int_equal(found.count, 2);
	assert_piece(1, 0x2000, 512);
	walk(2048, NVME_FROM_GUEST);
	assert_int_equal(found.status, NVME_SC_INVALID_SGL_LENGTH);
}

static void long_segment_is_read_in_parts(void **state)
{
	uint32_t n = 600;

	sgl(NVME_SGL_LAST_SEGMENT, MEM_BASE, n * 16);
	for (uint32_t i = 0; i < n; i++)
		desc_put(MEM_BASE + i * 16, NVME_SGL_DATA_BLOCK, 0x10000 + i * 0x1000ull, 512);
	walk(n * 512, NVME_TO_GUEST);
	assert_int_equal(found.status, 0);
	assert_int_equal(found.count, n);
	assert_int_equal(found.reads, 3);
	assert_piece(n - 1, 0x10000 + (n - 1) * 0x1000ull, 512);
	/* a segment where a part of the read ends, but not the segment */
	sgl(NVME_SGL_SEGMENT, MEM_BASE, n * 16);
	desc_put(MEM_BASE + 255 * 16, NVME_SGL_LAST_SEGMENT, MEM_BASE, 16);
	expect_status(n * 512, NVME_SC_INVALID_SGL_COUNT);
}

static void endless_segments_and_descriptors_are_counted(void **state)
{
	sgl(NVME_SGL_SEGMENT, MEM_BASE, 16);
	desc_put(MEM_BASE, NVME_SGL_SEGMENT, MEM_BASE, 16); /* points at itself */
	expect_status(512, NVME_SC_INVALID_SGL_COUNT);
	assert_int_equal(found.reads, NVME_SGL_SEGMENTS_MAX);
	sgl(NVME_SGL_LAST_SEGMENT, MEM_BASE, 0xfffffff0); /* of no bytes, all of them */
	memset(mem, 0, sizeof(mem));
	expect_status(512, NVME_SC_INVALID_SGL_COUNT);
	assert_in_range(found.reads, 1, NVME_SGL_DESCS_MAX);
}

#define T(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(one_page_or_part_of_it_needs_prp1_only),
		T(offset_of_prp1_is_a_multiple_of_4),
		T(second_page_is_prp2_without_offset),
		T(list_may_begin_inside_a_page),
		T(list_pointer_is_a_multiple_of_8),
		T(entries_of_lists_have_no_offset),
		T(last_entry_of_a_page_chains_when_more_is_needed),
		T(pointer_to_the_next_list_has_no_offset),
		T(longest_transfer_walks_lists_of_whole_pages),
		T(list_that_points_at_itself_ends_with_the_data),
		T(data_block_of_any_alignment_in_the_command),
		T(last_segment_has_the_data_blocks),
		T(segments_chain_to_the_last_one),
		T(segment_descriptor_that_is_not_the_last_is_a_wrong_count),
		T(segment_in_a_last_segment_or_a_missing_one_is_refused),
		T(length_and_address_of_a_segment_fit_descriptors),
		T(unknown_type_or_subtype_is_named),
		T(bit_bucket_throws_away_what_is_read_and_is_nothing_for_a_write),
		T(long_segment_is_read_in_parts),
		T(endless_segments_and_descriptors_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
