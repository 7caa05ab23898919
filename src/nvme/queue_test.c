#include "nvme/nvme_rig.h"

static void what_is_written_is_read(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	memset(rig_mem(&rig, RIG_DATA), 0x5a, 4096);
	rig_sqe_rw(&rig, NVME_IO_WRITE, 8, 8);
	assert_status(rig_io(&rig, 1), SUCCESS);
	memset(rig_mem(&rig, RIG_DATA), 0, 4096);
	rig_sqe_rw(&rig, NVME_IO_READ, 8, 8);
	assert_status(rig_io(&rig, 1), SUCCESS);
	assert_int_equal(*(uint8_t *)rig_mem(&rig, RIG_DATA + 4095), 0x5a);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
	};

	return cmocka_run_group_tests_name("nvme queue", tests, NULL, NULL);
}
