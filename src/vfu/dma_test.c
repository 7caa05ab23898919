#include "vfu/session_rig.h"

static void a_map_with_a_descriptor_is_given_to_the_quiet_device(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	assert_int_equal(map_at(f, 0x100000, MEM_BYTES, 3, f->memfd), 0);
	assert_int_equal(f->quiesces, 1);
	assert_int_equal(f->maps_sets, 1);
	assert_int_equal(f->readable->regions[0].gpa, 0x100000);
	assert_int_equal(f->readable->regions[0].uva, 0x100000);
	assert_int_equal(f->writable->count, 1);
	assert_int_equal(pwrite(f->memfd, "x", 1, 5), 1);
	assert_int_equal(*(char *)gmem_gpa_to_host(f->readable, gpa(0x100005), 1), 'x');
}

static void a_map_without_a_descriptor_is_kept_and_the_device_not_asked(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	assert_int_equal(map_at(f, 0xfffc0000, 0x40000, 1, -1), 0);
	assert_int_equal(f->quiesces, 0);
	assert_int_equal(f->session->dma.count, 1);
	assert_int_equal(map_at(f, 0xfffc0000, 0x1000, 1, -1), -EEXIST);
	assert_int_equal(unmap_at(f, 0xfffc0000, 0x40000, 0), 0);
	assert_int_equal(unmap_at(f, 0xfffc0000, 0x40000, 0), -ENOENT);
	assert_int_equal(f->quiesces, 0);
}

static void a_read_only_map_is_not_in_what_may_be_written(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	assert_int_equal(map_at(f, 0, 0x8000, 1, f->memfd), 0);
	assert_null(f->writable);
	assert_int_equal(map_at(f, 0x8000, 0x8000, 3, f->memfd), 0);
	assert_int_equal(f->readable->count, 2);
	assert_int_equal(f->writable->count, 1);
	assert_null(gmem_gpa_to_host(f->writable, gpa(0), 1));
	assert_int_equal(unmap_at(f, 0, 0x8000, 0), 0);
	assert_int_equal(f->readable->count, 1);
	assert_int_equal(f->writable->count, 1);
	assert_int_equal(unmap_at(f, 0x8000, 0x8000, 0), 0);
	assert_int_equal(f->readable->count, 0);
}

static void maps_that_cannot_be_are_refused_with_the_errno_that_says_why(void **state)
{
	struct fixture *f = *state;
	struct vfu_dma_map map = { 31, 3, 0, 0x4000000, 0x1000 };
	struct reply r;
	int ro;
	char path[64];

	negotiate(f);
	assert_int_equal(map_at(f, 0x10000, MEM_BYTES, 3, f->memfd), 0);
	assert_int_equal(map_at(f, 0x10000, MEM_BYTES, 3, f->memfd), -EEXIST);
	assert_int_equal(map_at(f, 0x1ffff, 1, 3, f->memfd), -EEXIST);
	assert_int_equal(map_at(f, 0xffff, 2, 3, f->memfd), -EEXIST);
	assert_int_equal(map_at(f, 0, UINT64_MAX, 3, f->memfd), -EEXIST);
	assert_int_equal(map_at(f, 0x30000, 0, 3, f->memfd), -EINVAL);
	assert_int_equal(map_at(f, UINT64_MAX - 0xfff, 0x1000, 3, f->memfd), -EINVAL);
	assert_int_equal(map_at(f, UINT64_MAX, UINT64_MAX, 3, -1), -EINVAL);
	assert_int_equal(map_at(f, 0x30000, 0x1000, 0, f->memfd), -EINVAL);
	assert_int_equal(map_at(f, 0x30000, MEM_BYTES + 1, 3, f->memfd), -EINVAL);
	assert_int_equal(call(f, VFU_CMD_DMA_MAP, &map, sizeof(map), &r), -EINVAL);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->memfd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(map_at(f, 0x30000, 0x1000, 1, ro), -EINVAL);
	close(ro);
	/* Its neighbours are free, and nothing else was kept. */
	assert_int_equal(map_at(f, 0x20000, 0x1000, 3, f->memfd), 0);
	assert_int_equal(map_at(f, 0xf000, 0x1000, 3, f->memfd), 0);
	assert_int_equal(f->session->dma.count, 3);
	assert_int_equal(f->readable->count, 3);
}

static void an_unmap_must_match_a_map_exactly(void **state)
{
	struct fixture *f = *state;
	struct vfu_dma_unmap unmap = { 24, 0, 0x1000, 0x1000 };
	struct reply r;

	negotiate(f);
	assert_int_equal(map_at(f, 0x1000, 0x1000, 3, f->memfd), 0);
	assert_int_equal(unmap_at(f, 0x1000, 0x800, 0), -ENOENT);
	assert_int_equal(unmap_at(f, 0x1800, 0x800, 0), -ENOENT);
	assert_int_equal(unmap_at(f, 0, 0x2000, 0), -ENOENT);
	assert_int_equal(unmap_at(f, 0x1000, 0x1000, 1), -EINVAL);
	assert_int_equal(unmap_at(f, 0x1000, 0x1000, VFU_UNMAP_ALL), -EINVAL);
	/* A descriptor comes along from SPDK's initiator; the answer is the question. */
	assert_int_equal(call_fds(f, VFU_CMD_DMA_UNMAP, &unmap, sizeof(unmap), &f->memfd, 1, &r),
			 0);
	assert_int_equal(r.len, sizeof(unmap));
	assert_memory_equal(r.bytes, &unmap, sizeof(unmap));
	assert_int_equal(f->session->dma.count, 0);
}

static void an_unmap_is_answered_when_the_device_is_quiet_and_not_before(void **state)
{
	struct fixture *f = *state;
	struct vfu_dma_unmap unmap = { 24, 0, 0, MEM_BYTES };
	struct reply r;
	uint16_t id;

	negotiate(f);
	assert_int_equal(map_at(f, 0, MEM_BYTES, 3, f->memfd), 0);
	PUMP_UNTIL(f, !f->quiet);
	f->hold_quiet = true;
	id = send_msg(f, VFU_CMD_DMA_UNMAP, &unmap, sizeof(unmap));
	is_silent(f);
	assert_int_equal(f->readable->count, 1);
	dev_quiet_now(f);
	assert_int_equal(answer(f, id, VFU_CMD_DMA_UNMAP, &r), 0);
	assert_int_equal(f->readable->count, 0);
}

static void all_maps_can_go_at_once(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	assert_int_equal(unmap_at(f, 0, 0, VFU_UNMAP_ALL), 0);
	assert_int_equal(f->quiesces, 0);
	assert_int_equal(map_at(f, 0, 0x1000, 3, f->memfd), 0);
	assert_int_equal(map_at(f, 0x1000, 0x1000, 1, f->memfd), 0);
	assert_int_equal(map_at(f, 0x2000, 0x1000, 1, -1), 0);
	assert_int_equal(unmap_at(f, 0, 0, VFU_UNMAP_ALL), 0);
	assert_null(f->readable);
	assert_null(f->writable);
	assert_int_equal(f->session->dma.count, 0);
	assert_int_equal(map_at(f, 0, 0x1000, 3, f->memfd), 0);
}

static void as_many_maps_as_were_told_and_no_more(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	for (uint32_t i = 0; i < VFU_MAPS_MAX; i++)
		assert_int_equal(map_at(f, i * 0x2000ull, 0x1000, 3, i % 8 ? -1 : f->memfd), 0);
	assert_int_equal(map_at(f, 0x10000000, 0x1000, 3, -1), -ENOSPC);
	/* From the middle, and in again. */
	assert_int_equal(unmap_at(f, 0x2000 * 100, 0x1000, 0), 0);
	assert_int_equal(map_at(f, 0x2000 * 100, 0x1000, 3, -1), 0);
	for (uint32_t i = 1; i < VFU_MAPS_MAX; i++)
		assert_true(f->session->dma.maps[i - 1].iova < f->session->dma.maps[i].iova);
}

static void memory_that_the_client_cuts_ends_its_session(void **state)
{
	struct fixture *f = *state;
	static int wake_fd = -1;
	struct err err;
	char c;

	if (wake_fd < 0) {
		wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_int_equal(gmem_fault_install(wake_fd, &err), 0);
		f->fds_before++;
	}
	negotiate(f);
	assert_int_equal(map_at(f, 0, MEM_BYTES, 3, f->memfd), 0);
	vfu_session_check_lost(f->session);
	assert_int_not_equal(f->session->state, VFU_SESSION_CLOSING);
	assert_int_equal(ftruncate(f->memfd, 0), 0);
	c = *(volatile char *)gmem_gpa_to_host(f->readable, gpa(0), 1);
	assert_int_equal(c, 0);
	vfu_session_check_lost(f->session);
	PUMP_UNTIL(f, !f->session);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(a_map_with_a_descriptor_is_given_to_the_quiet_device),
		T(a_map_without_a_descriptor_is_kept_and_the_device_not_asked),
		T(a_read_only_map_is_not_in_what_may_be_written),
		T(maps_that_cannot_be_are_refused_with_the_errno_that_says_why),
		T(an_unmap_must_match_a_map_exactly),
		T(an_unmap_is_answered_when_the_device_is_quiet_and_not_before),
		T(all_maps_can_go_at_once),
		T(as_many_maps_as_were_told_and_no_more),
		T(memory_that_the_client_cuts_ends_its_session),
#undef T
	};

	return cmocka_run_group_tests_name("dma", tests, NULL, NULL);
}
