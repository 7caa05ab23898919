/* The data of commands: pieces of guest memory, arrays, the dirty log, and memory by messages. */
#include "nvme/io_rig.h"

#define PAGE NVME_PAGE_BYTES

static struct nvme_cmd *seen; /* the last one whose data came */

static void on_data(struct nvme_cmd *c)
{
	seen = c;
}

static void start(struct nvme_cmd *c, uint64_t len, enum nvme_dir dir)
{
	seen = NULL;
	nvme_data(c, len, dir, on_data);
}

static struct nvme_cmd *prps(uint32_t i, uint64_t prp1, uint64_t prp2)
{
	return rig_io(i, NVME_IO_READ, 0, 1, prp1, prp2);
}

static void expect_fail(struct nvme_cmd *c, uint64_t len, enum nvme_dir dir, enum nvme_status st)
{
	start(c, len, dir);
	assert_null(seen);
	assert_int_equal(rig_wait(c), st);
}

/* What the guest has at addr is what the command reads. */
static void expect_data(struct nvme_cmd *c, uint64_t len)
{
	uint8_t *got = malloc(len);

	start(c, len, NVME_FROM_GUEST);
	assert_ptr_equal(seen, c);
	assert_int_equal(c->data.left_bytes, len);
	assert_true(iov_cur_read_slow(&c->data, got, len));
	for (size_t i = 0; i < len; i++)
		assert_int_equal(got[i], (uint8_t)(i * 7 + i / 251 + 1));
	nvme_cmd_end(c, NVME_SC_SUCCESS);
	free(got);
}

static void neighbours_become_one_piece(void **state)
{
	struct nvme_cmd *c;

	rig_open("");
	for (uint64_t i = 0; i < 16; i++)
		rig_put64(0x1000 + i * 8, 0x20000 + (i + 1) * PAGE);
	rig_fill(0x20000, 17 * PAGE, 1);
	c = prps(0, 0x20000, 0x1000);
	start(c, 17 * PAGE, NVME_FROM_GUEST);
	assert_int_equal(c->iov_count, 1);
	assert_ptr_equal(c->iov, c->own);
	nvme_cmd_end(c, NVME_SC_SUCCESS);
	expect_data(prps(0, 0x20000, 0x1000), 17 * PAGE);
	rig_close();
}

static void more_pieces_than_a_command_has_go_to_an_array_of_the_pool(void **state)
{
	struct nvme_cmd *c;
	char part[2 * PAGE];

	rig_open("");
	for (uint64_t i = 0; i < 16; i++)
		rig_put64(0x1000 + i * 8, 0x40000 + i * 2 * PAGE);
	for (uint64_t i = 0; i < 17; i++) { /* in the order of the data */
		rig_fill(0x100000 + i * PAGE, PAGE, 9);
		for (size_t k = 0; k < PAGE; k++) {
			size_t at = i * PAGE + k;
			uint64_t to = i ? 0x40000 + (i - 1) * 2 * PAGE : 0x20000;

			*rig_host(to + k) = (char)(at * 7 + at / 251 + 1);
		}
	}
	expect_data(prps(0, 0x20000, 0x1000), 17 * PAGE);
	c = prps(0, 0x20000, 0x1000);
	start(c, 17 * PAGE, NVME_TO_GUEST);
	assert_int_equal(c->iov_count, 17);
	assert_int_equal(rig->mem.arrays, 1);
	memset(part, 0x5a, sizeof(part));
	assert_true(iov_cur_skip(&c->data, 16 * PAGE - 1));
	assert_true(iov_cur_write_slow(&c->data, part, 2));
	nvme_cmd_end(c, NVME_SC_SUCCESS);
	assert_int_equal(rig->mem.arrays, 0);
	assert_int_equal(*rig_host(0x40000 + 14 * 2 * PAGE + PAGE - 1), 0x5a);
	assert_int_equal(*rig_host(0x40000 + 15 * 2 * PAGE), 0x5a);
	rig_close();
}

static void data_and_lists_may_lie_over_the_border_of_regions(void **state)
{
	uint64_t list = BORDER_GPA - 16;

	rig_open("");
	rig_fill(BORDER_GPA - 2048, PAGE, 1); /* page with the border in its middle */
	expect_data(prps(0, BORDER_GPA - 2048, 0), PAGE);
	rig_fill(0x20000, 4 * PAGE, 1);
	for (uint64_t i = 0; i < 3; i++) /* the third entry is in the other region */
		rig_put64(list + i * 8, 0x20000 + (i + 1) * PAGE);
	expect_data(prps(0, 0x20000, list), 4 * PAGE);
	rig_close();
}

static void memory_that_is_not_mapped_is_a_data_transfer_error(void **state)
{
	rig_open("");
	expect_fail(prps(0, FAR_GPA, 0), 512, NVME_FROM_GUEST, NVME_SC_DATA_TRANSFER_ERROR);
	expect_fail(prps(0, 0x1000, FAR_GPA), 2 * PAGE, NVME_TO_GUEST, NVME_SC_DATA_TRANSFER_ERROR);
	/* a list, and the end of a page */
	expect_fail(prps(0, 0x1000, FAR_GPA), 4 * PAGE, NVME_TO_GUEST, NVME_SC_DATA_TRANSFER_ERROR);
	expect_fail(prps(0, UINT64_MAX - 511 - 4092, 0), 512, NVME_FROM_GUEST,
		    NVME_SC_DATA_TRANSFER_ERROR);
	rig_close();
}

static void read_only_memory_gives_data_and_lists_and_takes_nothing(void **state)
{
	rig_open("");
	rig_fill(RO_GPA + PAGE, PAGE, 1);
	expect_data(prps(0, RO_GPA + PAGE, 0), PAGE);
	expect_fail(prps(0, RO_GPA + PAGE, 0), PAGE, NVME_TO_GUEST, NVME_SC_DATA_TRANSFER_ERROR);
	for (uint64_t i = 0; i < 2; i++)
		rig_put64(RO_GPA + i * 8, 0x20000 + (i + 1) * PAGE);
	start(prps(0, 0x20000, RO_GPA), 3 * PAGE, NVME_TO_GUEST);
	assert_non_null(seen);
	nvme_cmd_end(seen, NVME_SC_SUCCESS);
	rig_close();
}

static void no_maps_at_all_fail_the_command(void **state)
{
	rig_open("");
	nvme_mem_maps_set(&rig->mem, NULL, NULL, NULL);
	expect_fail(prps(0, 0, 0), 512, NVME_FROM_GUEST, NVME_SC_DATA_TRANSFER_ERROR);
	expect_fail(prps(0, 0x1000, 0x2000), 4 * PAGE, NVME_TO_GUEST, NVME_SC_DATA_TRANSFER_ERROR);
	rig_close();
}

static void longer_than_mdts_is_an_invalid_field(void **state)
{
	rig_open("");
	expect_fail(prps(0, 0x1000, 0), NVME_TRANSFER_MAX + 512, NVME_TO_GUEST,
		    NVME_SC_INVALID_FIELD);
	rig->ctrl.params.profile = NVME_PROFILE_VHOST;
	expect_fail(prps(0, 0x1000, 0), 129 << 10, NVME_TO_GUEST, NVME_SC_INVALID_FIELD);
	rig_close();
}

static struct nvme_cmd *sgl(uint8_t type, uint64_t addr, uint32_t len)
{
	struct nvme_cmd *c = rig_cmd(0, false, NVME_IO_READ);

	c->sqe.flags = 1 << NVME_SQE_PSDT_SHIFT;
	c->sqe.sgl1 = (struct nvme_sgl_desc){ .address = le64(addr),
					      .length = le32(len),
					      .type = (uint8_t)(type << 4) };
	return c;
}

static void sgl_is_for_io_commands_that_offer_it(void **state)
{
	struct nvme_cmd *c;

	rig_open("");
	rig_fill(0x20001, 3 * PAGE, 1);
	expect_data(sgl(NVME_SGL_DATA_BLOCK, 0x20001, 3 * PAGE), 3 * PAGE);
	c = sgl(NVME_SGL_DATA_BLOCK, 0x20001, 3 * PAGE);
	c->sqe.flags = 2 << NVME_SQE_PSDT_SHIFT;
	expect_data(c, 3 * PAGE);
	c = sgl(NVME_SGL_DATA_BLOCK, 0x20001, 3 * PAGE);
	c->sqe.flags = 3 << NVME_SQE_PSDT_SHIFT;
	expect_fail(c, 512, NVME_TO_GUEST, NVME_SC_INVALID_FIELD);
	c = rig_cmd(0, true, NVME_ADMIN_IDENTIFY);
	c->sqe.flags = 1 << NVME_SQE_PSDT_SHIFT;
	expect_fail(c, 512, NVME_TO_GUEST, NVME_SC_INVALID_FIELD);
	rig->ctrl.params.profile = NVME_PROFILE_VHOST;
	expect_fail(sgl(NVME_SGL_DATA_BLOCK, 0x20000, 512), 512, NVME_TO_GUEST,
		    NVME_SC_INVALID_FIELD);
	rig_close();
}

static void desc_put(uint64_t at, uint8_t type, uint64_t addr, uint32_t len)
{
	rig_put64(at, addr);
	rig_put64(at + 8, len | (uint64_t)type << 60);
}

static void bit_bucket_drops_its_part_of_what_is_read(void **state)
{
	struct nvme_cmd *c;
	char buf[4 * PAGE];

	rig_open("");
	desc_put(0x1000, NVME_SGL_DATA_BLOCK, 0x20000, 512);
	desc_put(0x1010, NVME_SGL_BIT_BUCKET, 0, 3 * PAGE);
	desc_put(0x1020, NVME_SGL_DATA_BLOCK, 0x30000, PAGE - 512);
	c = sgl(NVME_SGL_LAST_SEGMENT, 0x1000, 48);
	start(c, 4 * PAGE, NVME_TO_GUEST);
	assert_non_null(seen);
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (char)(i >> 8);
	assert_true(iov_cur_write_slow(&c->data, buf, sizeof(buf)));
	nvme_cmd_end(c, NVME_SC_SUCCESS);
	assert_memory_equal(rig_host(0x20000), buf, 512);
	assert_int_equal(*rig_host(0x20000 + 512), 0);
	assert_memory_equal(rig_host(0x30000), buf + 3 * PAGE + 512, PAGE - 512);
	rig_close();
}

static void more_pieces_than_the_limit_are_refused(void **state)
{
	rig_open("");
	for (uint32_t i = 0; i < NVME_IOV_MAX + 1; i++)
		desc_put(0x100000 + i * 16, NVME_SGL_DATA_BLOCK, 0x20000 + (i & 1) * PAGE, 16);
	expect_fail(sgl(NVME_SGL_LAST_SEGMENT, 0x100000, (NVME_IOV_MAX + 1) * 16),
		    (NVME_IOV_MAX + 1) * 16, NVME_TO_GUEST, NVME_SC_INVALID_SGL_COUNT);
	assert_int_equal(rig->mem.arrays, 0);
	start(sgl(NVME_SGL_LAST_SEGMENT, 0x100000, NVME_IOV_MAX * 16), NVME_IOV_MAX * 16,
	      NVME_TO_GUEST);
	assert_int_equal(seen->iov_count, NVME_IOV_MAX);
	nvme_cmd_end(seen, NVME_SC_SUCCESS);
	rig_close();
}

static uint32_t data_count;

static void on_data_count(struct nvme_cmd *c)
{
	data_count++;
}

static void commands_wait_for_an_array_in_their_order(void **state)
{
	enum {
		COUNT = 70,
		MAX = 64
	};

	rig_open("");
	data_count = 0;
	for (uint64_t i = 0; i < 8; i++)
		rig_put64(0x1000 + i * 8, 0x40000 + i * 2 * PAGE);
	for (uint32_t i = 0; i < COUNT; i++)
		nvme_data(prps(i, 0x20000, 0x1000), 9 * PAGE, NVME_TO_GUEST, on_data_count);
	assert_int_equal(data_count, MAX);
	rig_turns();
	assert_int_equal(data_count, MAX);
	nvme_cmd_end(&rig->cmd[3], NVME_SC_SUCCESS);
	nvme_cmd_end(&rig->cmd[4], NVME_SC_SUCCESS);
	rig_turns();
	assert_int_equal(data_count, MAX + 2);
	assert_int_equal(rig->cmd[MAX + 1].iov_count, 9);
	assert_int_equal(rig->cmd[MAX + 2].iov_count, 0);
	for (uint32_t i = 0; i < COUNT; i++) {
		rig_turns();
		if (!rig_ended(&rig->cmd[i]))
			nvme_cmd_end(&rig->cmd[i], NVME_SC_SUCCESS);
	}
	assert_int_equal(data_count, COUNT);
	rig_close();
}

static void what_reached_the_guest_is_in_the_dirty_log(void **state)
{
	int fd = memfd_create("log", MFD_CLOEXEC);
	struct err err = { 0 };
	struct nvme_cmd *c;
	struct gdirty *log;

	rig_open("");
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_int_equal(gdirty_new(fd, PAGE, 0, &log, &err), 0);
	nvme_mem_maps_set(&rig->mem, rig->readable, rig->writable, log);
	c = prps(0, 0x5000, 0x7000);
	assert_int_equal(nvme_data_quick(c, &rig->mem.to_guest, 2 * PAGE), 0);
	start(c, 2 * PAGE, NVME_TO_GUEST);
	assert_int_equal(log->map[0], 0);
	nvme_cmd_end(c, NVME_SC_SUCCESS);
	assert_int_equal(log->map[0], 1 << 5 | 1 << 7);
	expect_fail(prps(0, 0x1000, FAR_GPA), 2 * PAGE, NVME_TO_GUEST, NVME_SC_DATA_TRANSFER_ERROR);
	start(prps(0, 0x8000, 0), PAGE, NVME_FROM_GUEST);
	nvme_cmd_end(seen, NVME_SC_SUCCESS);
	assert_int_equal(log->map[1], 0);
	nvme_mem_maps_set(&rig->mem, rig->readable, rig->writable, NULL);
	gdirty_unref(log);
	close(fd);
	rig_close();
}

static void quick_path_finds_the_same_as_the_whole_one(void **state)
{
	static const struct {
		uint64_t prp1, prp2;
		uint32_t len;
		bool quick;
	} t[] = {
		{ 0x5000, 0, 4096, true },
		{ 0x5ffc, 0, 4, true },
		{ 0x5200, 0x9000, 4096, true },
		{ 0x5000, 0x6000, 8192, true },
		{ 0x5004, 0x6000, 4096 + 8, true },
		{ 0x5002, 0, 512, false },
		{ 0x5000, 0x6004, 8192, false },
		{ 0x5000, 0x6000, 8196, false },
		{ BORDER_GPA, 0, 512, false },
		{ BORDER_GPA - 256, 0, 512, false },
		{ UINT64_MAX - 4095, 0, 4096, false },
		{ 0x5000, UINT64_MAX - 4095, 8192, false },
	};

	rig_open("");
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct nvme_cmd *c = prps(0, t[i].prp1, t[i].prp2);
		uint32_t count = nvme_data_quick(c, &rig->mem.to_guest, t[i].len);
		struct iovec quick[2] = { c->own[0], c->own[1] };

		assert_int_equal(!!count, t[i].quick);
		if (!count)
			continue;
		start(c, t[i].len, NVME_TO_GUEST);
		assert_int_equal(c->iov_count, count);
		assert_memory_equal(c->iov, quick, count * sizeof(*quick));
		nvme_cmd_end(c, NVME_SC_SUCCESS);
	}
	rig_close();
}

static void data_of_nothing_comes_at_once(void **state)
{
	rig_open("");
	start(prps(0, 3, 5), 0, NVME_TO_GUEST);
	assert_non_null(seen);
	assert_int_equal(seen->data.left_bytes, 0);
	nvme_cmd_end(seen, NVME_SC_SUCCESS);
	rig_close();
}

static void flat_memory_takes_the_place_of_the_data_pointer(void **state)
{
	static uint8_t flat[NVME_IDENTIFY_BYTES];
	struct nvme_cmd *c;

	rig_open("");
	rig->mem.flat = flat;
	c = prps(0, 3, 5);
	start(c, 16, NVME_TO_GUEST);
	assert_true(iov_cur_write_slow(&c->data, "0123456789abcdef", 16));
	nvme_cmd_end(c, NVME_SC_SUCCESS);
	assert_memory_equal(flat, "0123456789abcdef", 16);
	expect_fail(prps(0, 0, 0), sizeof(flat) + 4, NVME_TO_GUEST, NVME_SC_INVALID_FIELD);
	rig_close();
}

static void reply_is_cut_to_what_is_asked_and_filled_with_zeroes(void **state)
{
	struct nvme_cmd *c;

	rig_open("");
	rig_fill(0x5000, 64, 3);
	c = prps(0, 0x5000, 0);
	nvme_cmd_reply(c, "abcdefgh", 8, 16);
	assert_int_equal(rig_wait(c), NVME_SC_SUCCESS);
	assert_memory_equal(rig_host(0x5000), "abcdefgh\0\0\0\0\0\0\0\0", 16);
	rig_fill(0x5000, 64, 3);
	c = prps(0, 0x5000, 0);
	nvme_cmd_reply(c, "abcdefgh", 8, 4);
	assert_int_equal(rig_wait(c), NVME_SC_SUCCESS);
	assert_memory_equal(rig_host(0x5000), "abcd", 4);
	assert_int_not_equal(*rig_host(0x5004), 'e');
	c = prps(0, 0x5000, 0); /* nothing to say: zeroes */
	nvme_cmd_reply(c, "x", 0, 8);
	assert_int_equal(rig_wait(c), NVME_SC_SUCCESS);
	assert_memory_equal(rig_host(0x5000), "\0\0\0\0\0\0\0\0", 8);
	c = prps(0, 0x5000, 0);
	nvme_cmd_reply(c, "x", 1, 0);
	assert_int_equal(rig_wait(c), NVME_SC_SUCCESS);
	c = prps(0, 0x5000, 0); /* from its own scratch memory, or a part of it */
	assert_true(nvme_cmd_scratch(c, 16));
	memcpy(c->buf, "0123456789abcdef", 16);
	nvme_cmd_reply(c, c->buf + 8, 8, 8);
	assert_int_equal(rig_wait(c), NVME_SC_SUCCESS);
	assert_memory_equal(rig_host(0x5000), "89abcdef", 8);
	rig_close();
}

/* ---- memory by messages ---- */

static void dma_on(void)
{
	rig->ops.dma = rig_dma;
}

static void data_from_far_memory_is_fetched_with_its_lists(void **state)
{
	rig_open("");
	dma_on();
	rig_fill(FAR_GPA + 0x1000, PAGE, 1);
	expect_data(prps(0, FAR_GPA + 0x1000, 0), PAGE);
	/* PRP1 mapped, the list far, data on both sides, one page each */
	rig_fill(FAR_GPA + 0x2000, 4 * PAGE, 1);
	for (size_t k = 0; k < PAGE; k++) {
		*rig_host(0x20000 + k) = *rig_host(FAR_GPA + 0x2000 + k);
		*rig_host(0x30000 + k) = *rig_host(FAR_GPA + 0x4000 + k);
	}
	rig_put64(FAR_GPA + 0x10, FAR_GPA + 0x3000);
	rig_put64(FAR_GPA + 0x18, 0x30000);
	rig_put64(FAR_GPA + 0x20, FAR_GPA + 0x5000);
	expect_data(prps(0, 0x20000, FAR_GPA + 0x10), 4 * PAGE);
	assert_int_equal(rig->mem.remote_bytes, 0);
	rig_close();
}

static void data_to_far_memory_is_there_before_the_completion(void **state)
{
	struct nvme_cmd *c;
	char buf[3 * PAGE];

	rig_open("");
	dma_on();
	memset(buf, 0x77, sizeof(buf));
	rig_put64(0x1000, 0x30000);
	rig_put64(0x1008, FAR_GPA + 0x8000);
	c = prps(0, FAR_GPA + 0x5000, 0x1000);
	start(c, sizeof(buf), NVME_TO_GUEST);
	assert_true(iov_cur_write_slow(&c->data, buf, sizeof(buf)));
	assert_int_equal(*rig_host(FAR_GPA + 0x5000), 0);
	nvme_cmd_end(c, NVME_SC_SUCCESS);
	assert_int_equal(rig_wait(c), NVME_SC_SUCCESS);
	assert_memory_equal(rig_host(FAR_GPA + 0x5000), buf, PAGE);
	assert_memory_equal(rig_host(0x30000), buf, PAGE);
	assert_memory_equal(rig_host(FAR_GPA + 0x8000), buf, PAGE);
	/* a command that failed writes nothing */
	c = prps(0, FAR_GPA + 0x6000, 0);
	start(c, PAGE, NVME_TO_GUEST);
	assert_true(iov_cur_write_slow(&c->data, buf, PAGE));
	nvme_cmd_end(c, NVME_SC_INTERNAL_ERROR);
	assert_int_equal(rig_wait(c), NVME_SC_INTERNAL_ERROR);
	assert_int_equal(*rig_host(FAR_GPA + 0x6000), 0);
	rig_close();
}

static void refused_messages_are_data_transfer_errors(void **state)
{
	struct nvme_cmd *c;

	rig_open("");
	dma_on();
	expect_fail(prps(0, FAR_GPA + MIB, 0), 512, NVME_FROM_GUEST, NVME_SC_DATA_TRANSFER_ERROR);
	expect_fail(prps(0, 0x1000, FAR_GPA + MIB), 4 * PAGE, NVME_TO_GUEST,
		    NVME_SC_DATA_TRANSFER_ERROR);
	rig->dma_count = 0;
	rig->dma_fail_at = 2;
	expect_fail(prps(0, FAR_GPA, FAR_GPA + 0x8000), 2 * PAGE, NVME_FROM_GUEST,
		    NVME_SC_DATA_TRANSFER_ERROR);
	/* at the end, after the command has done its work */
	rig->dma_count = 1;
	c = prps(0, FAR_GPA + 0x5000, 0);
	start(c, PAGE, NVME_TO_GUEST);
	nvme_cmd_end(c, NVME_SC_SUCCESS);
	assert_int_equal(rig_wait(c), NVME_SC_DATA_TRANSFER_ERROR);
	/* what a list says is checked all the same */
	rig_put64(FAR_GPA, 0x20004);
	expect_fail(prps(0, 0x1000, FAR_GPA), 4 * PAGE, NVME_TO_GUEST, NVME_SC_INVALID_PRP_OFFSET);
	assert_int_equal(rig->mem.remote_bytes, 0);
	rig_close();
}

static void bounce_buffers_are_bounded_and_commands_wait_for_them(void **state)
{
	uint32_t len = NVME_TRANSFER_MAX;

	rig_open("");
	dma_on();
	data_count = 0;
	for (uint32_t i = 0; i < 512; i++) /* the same far page, again and again */
		rig_put64(0x100000 + i * 8, FAR_GPA);
	for (uint32_t i = 0; i < 4; i++)
		nvme_data(prps(i, 0x2000, 0x100000), len, NVME_TO_GUEST, on_data_count);
	assert_int_equal(data_count, 1);
	for (uint32_t i = 0; i < 4; i++) {
		rig_turns();
		assert_int_equal(data_count, i + 1);
		nvme_cmd_end(&rig->cmd[i], NVME_SC_INTERNAL_ERROR);
	}
	assert_int_equal(rig->mem.remote_bytes, 0);
	rig_close();
}

#define T(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(neighbours_become_one_piece),
		T(more_pieces_than_a_command_has_go_to_an_array_of_the_pool),
		T(data_and_lists_may_lie_over_the_border_of_regions),
		T(memory_that_is_not_mapped_is_a_data_transfer_error),
		T(read_only_memory_gives_data_and_lists_and_takes_nothing),
		T(no_maps_at_all_fail_the_command),
		T(longer_than_mdts_is_an_invalid_field),
		T(sgl_is_for_io_commands_that_offer_it),
		T(bit_bucket_drops_its_part_of_what_is_read),
		T(more_pieces_than_the_limit_are_refused),
		T(commands_wait_for_an_array_in_their_order),
		T(what_reached_the_guest_is_in_the_dirty_log),
		T(quick_path_finds_the_same_as_the_whole_one),
		T(data_of_nothing_comes_at_once),
		T(flat_memory_takes_the_place_of_the_data_pointer),
		T(reply_is_cut_to_what_is_asked_and_filled_with_zeroes),
		T(data_from_far_memory_is_fetched_with_its_lists),
		T(data_to_far_memory_is_there_before_the_completion),
		T(refused_messages_are_data_transfer_errors),
		T(bounce_buffers_are_bounded_and_commands_wait_for_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
