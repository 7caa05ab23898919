#include "vfu/session_rig.h"

static int region_info(struct fixture *f, uint32_t index, uint32_t argsz, struct reply *r)
{
	struct vfu_region_info info = { .argsz = argsz, .index = index };

	return call(f, VFU_CMD_DEVICE_GET_REGION_INFO, &info, sizeof(info), r);
}

static void the_regions_are_the_bars_the_configuration_and_nothing_else(void **state)
{
	static const uint64_t sizes[VFU_REGIONS] = { BAR_BYTES, 0, 0, 0, 0x2000, 0, 0, 0x1000, 0 };
	struct fixture *f = *state;
	struct reply r;

	negotiate(f);
	for (uint32_t i = 0; i < VFU_REGIONS; i++) {
		const struct vfu_region_info *info = (void *)r.bytes;

		assert_int_equal(region_info(f, i, 32, &r), 0);
		assert_int_equal(r.len, 32);
		assert_int_equal(info->argsz, 32);
		assert_int_equal(info->index, i);
		assert_int_equal(info->size, sizes[i]);
		assert_int_equal(info->flags, sizes[i] ? 3 : 0);
	}
	assert_int_equal(region_info(f, VFU_REGIONS, 32, &r), -EINVAL);
	assert_int_equal(region_info(f, UINT32_MAX, 32, &r), -EINVAL);
	assert_int_equal(region_info(f, 0, 31, &r), -EINVAL);
}

static void a_mappable_area_is_told_in_two_steps(void **state)
{
	struct fixture *f = *state;
	struct reply r;
	const struct vfu_region_info *info = (void *)r.bytes;
	const struct vfu_region_sparse *sparse = (void *)(r.bytes + 32);

	negotiate(f);
	f->dev.pci.bars[0].map_fd = f->memfd;
	f->dev.pci.bars[0].map_offset = 0x1000;
	f->dev.pci.bars[0].map_bytes = 0x1000;
	assert_int_equal(region_info(f, 0, 32, &r), 0);
	assert_int_equal(r.len, 32);
	assert_int_equal(info->argsz, 64);
	assert_int_equal(info->flags, 7);
	assert_int_equal(r.fd_count, 0);
	assert_int_equal(region_info(f, 0, 63, &r), 0);
	assert_int_equal(r.len, 32);
	assert_int_equal(region_info(f, 0, 64, &r), 0);
	assert_int_equal(r.len, 64);
	assert_int_equal(info->flags, 15);
	assert_int_equal(info->cap_offset, 32);
	assert_int_equal(sparse->id, 1);
	assert_int_equal(sparse->version, 1);
	assert_int_equal(sparse->next, 0);
	assert_int_equal(sparse->nr_areas, 1);
	assert_int_equal(sparse->offset, 0x1000);
	assert_int_equal(sparse->size, 0x1000);
	assert_int_equal(r.fd_count, 1);
	assert_int_equal(pwrite(f->memfd, "D", 1, 77), 1);
	assert_int_equal(pread(r.fds[0], r.bytes, 1, 77), 1);
	assert_int_equal(r.bytes[0], 'D');
	fds_close(&r);
}

static void spdk_s_large_question_is_answered(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[4064] = { 0 };
	struct reply r;

	negotiate(f);
	f->dev.pci.bars[0].map_fd = f->memfd;
	f->dev.pci.bars[0].map_bytes = 0x1000;
	*(uint32_t *)bytes = sizeof(bytes);
	assert_int_equal(call(f, VFU_CMD_DEVICE_GET_REGION_INFO, bytes, sizeof(bytes), &r), 0);
	assert_int_equal(r.len, 64);
	assert_int_equal(r.fd_count, 1);
	fds_close(&r);
}

static void no_region_has_io_descriptors(void **state)
{
	struct fixture *f = *state;
	struct reply r;

	negotiate(f);
	assert_int_equal(
		call(f, VFU_CMD_DEVICE_GET_REGION_IO_FDS, (uint32_t[]){ 16, 0, 0, 0 }, 16, &r),
		-ENOTSUP);
}

static void accesses_reach_the_device_aligned_and_of_at_most_8_bytes(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[64], back[64];

	negotiate(f);
	for (uint32_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i + 1);
	assert_int_equal(region_write(f, 0, 8, bytes, 8), 0);
	assert_int_equal(f->writes, 1);
	assert_int_equal(f->last_len, 8);
	assert_int_equal(region_write(f, 0, 0x14, bytes, 4), 0);
	assert_int_equal(f->last_len, 4);
	f->writes = 0;
	assert_int_equal(region_write(f, 0, 3, bytes, 64), 0);
	assert_int_equal(f->writes, 1 + 1 + 7 + 2); /* 3: 1, 4: 4, 8 to 63: 8 each, 64: 2, 66: 1 */
	assert_int_equal(region_read(f, 0, 3, back, 64), 0);
	assert_memory_equal(bytes, back, 64);
	assert_int_equal(region_read(f, 0, 0, back, 0), 0);
	assert_int_equal(region_write(f, 0, BAR_BYTES, back, 0), 0);
}

static void accesses_outside_a_region_are_refused(void **state)
{
	static const struct {
		uint32_t region;
		uint64_t off;
		uint32_t len;
	} wrong[] = {
		{ 0, BAR_BYTES, 1 },
		{ 0, BAR_BYTES - 3, 4 },
		{ 0, UINT64_MAX, 2 },
		{ 0, UINT64_MAX - 3, 8 },
		{ 1, 0, 4 },
		{ 4, 0x2000, 4 },
		{ VFU_REGION_ROM, 0, 4 },
		{ VFU_REGION_CONFIG, 4096, 1 },
		{ VFU_REGION_CONFIG, 4093, 4 },
		{ VFU_REGION_VGA, 0, 1 },
		{ VFU_REGIONS, 0, 1 },
		{ UINT32_MAX, 0, 1 },
		{ 0, 0, 4096 * 4 + 1 },
		{ 0, 0, UINT32_MAX },
	};
	struct fixture *f = *state;
	struct {
		struct vfu_region_io io;
		uint8_t bytes[8];
	} w = { 0 };
	struct reply r;

	negotiate(f);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		w.io = (struct vfu_region_io){ wrong[i].off, wrong[i].region, wrong[i].len };
		assert_int_equal(call(f, VFU_CMD_REGION_READ, &w, 16, &r), -EINVAL);
		if (wrong[i].len <= 8)
			assert_int_equal(call(f, VFU_CMD_REGION_WRITE, &w, 16 + wrong[i].len, &r),
					 -EINVAL);
	}
	/* More or less data than told. */
	w.io = (struct vfu_region_io){ 0, 0, 4 };
	assert_int_equal(call(f, VFU_CMD_REGION_WRITE, &w, 16 + 3, &r), -EINVAL);
	assert_int_equal(call(f, VFU_CMD_REGION_WRITE, &w, 16 + 5, &r), -EINVAL);
	assert_int_equal(f->reads + f->writes, 0);
}

static void several_writes_come_in_one_message(void **state)
{
	struct fixture *f = *state;
	struct {
		uint64_t count;
		struct vfu_write w[3];
	} m = { 3, { { 0x1000, 0, 4, { 1 } }, { 0x1008, 0, 8, { 2 } }, { 4, 7, 2, { 6, 4 } } } };
	struct reply r;

	negotiate(f);
	assert_int_equal(call(f, VFU_CMD_REGION_WRITE_MULTI, &m, sizeof(m), &r), 0);
	assert_int_equal(r.len, 8);
	assert_int_equal(r.bytes[0], 3);
	assert_int_equal(f->bar[0x1000], 1);
	assert_int_equal(f->bar[0x1008], 2);
	assert_int_equal(config_read(f, 4, 2), 0x406);
	/* Up to the wrong one. */
	m.w[1].count = 9;
	assert_int_equal(call(f, VFU_CMD_REGION_WRITE_MULTI, &m, sizeof(m), &r), 0);
	assert_int_equal(r.bytes[0], 1);
	m.w[0].offset = BAR_BYTES;
	assert_int_equal(call(f, VFU_CMD_REGION_WRITE_MULTI, &m, sizeof(m), &r), -EINVAL);
	m.count = 2;
	assert_int_equal(call(f, VFU_CMD_REGION_WRITE_MULTI, &m, sizeof(m), &r), -EINVAL);
	m.count = 1ull << 61;
	assert_int_equal(call(f, VFU_CMD_REGION_WRITE_MULTI, &m, 8, &r), -EINVAL);
	m.count = 0;
	assert_int_equal(call(f, VFU_CMD_REGION_WRITE_MULTI, &m, 8, &r), 0);
}

static void the_msix_table_is_memory_and_pending_bits_are_zero(void **state)
{
	struct fixture *f = *state;
	uint32_t v = 0xfee00000;

	negotiate(f);
	assert_int_equal(region_write(f, 4, 16, &v, 4), 0);
	v = 0;
	assert_int_equal(region_read(f, 4, 16, &v, 4), 0);
	assert_int_equal(v, 0xfee00000);
	assert_int_equal(region_read(f, 4, 8 * 16 + 12, &v, 4), 0);
	assert_int_equal(v, 1);
	assert_int_equal(region_read(f, 4, 9 * 16 + 12, &v, 4), 0);
	assert_int_equal(v, 0);
	v = 0xff;
	assert_int_equal(region_write(f, 4, 9 * 16, &v, 4), 0);
	assert_int_equal(region_write(f, 4, 0x1000, &v, 4), 0);
	assert_int_equal(region_read(f, 4, 0x1000, &v, 4), 0);
	assert_int_equal(v, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(the_regions_are_the_bars_the_configuration_and_nothing_else),
		T(a_mappable_area_is_told_in_two_steps),
		T(spdk_s_large_question_is_answered),
		T(no_region_has_io_descriptors),
		T(accesses_reach_the_device_aligned_and_of_at_most_8_bytes),
		T(accesses_outside_a_region_are_refused),
		T(several_writes_come_in_one_message),
		T(the_msix_table_is_memory_and_pending_bits_are_zero),
#undef T
	};

	return cmocka_run_group_tests_name("region", tests, NULL, NULL);
}
