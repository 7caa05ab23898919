#include "vfu/session_rig.h"

#define PM     0x40u
#define EXP    0x48u
#define MSIX   0x84u
#define VENDOR 0x90u

static void the_header_says_what_the_device_is(void **state)
{
	struct fixture *f = *state;
	uint8_t all[4096];

	negotiate(f);
	assert_int_equal(config_read(f, 0x00, 4), 0x56781234);
	assert_int_equal(config_read(f, 0x08, 4), 0x01080203);
	assert_int_equal(config_read(f, 0x0e, 1), 0);
	assert_int_equal(config_read(f, 0x2c, 4), 0xdef09abc);
	assert_int_equal(config_read(f, 0x06, 2), 0x0010);
	assert_int_equal(config_read(f, 0x3d, 1), 1);
	assert_int_equal(region_read(f, VFU_REGION_CONFIG, 0, all, sizeof(all)), 0);
	for (uint32_t i = 0x100; i < sizeof(all); i++)
		assert_int_equal(all[i], 0);
}

static void the_capabilities_form_a_list(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	assert_int_equal(config_read(f, 0x34, 1), PM);
	assert_int_equal(config_read(f, PM, 2), EXP << 8 | 0x01);
	assert_int_equal(config_read(f, EXP, 2), MSIX << 8 | 0x10);
	assert_int_equal(config_read(f, MSIX, 2), VENDOR << 8 | 0x11);
	assert_int_equal(config_read(f, VENDOR, 2), 0x09);
	assert_int_equal(config_read(f, VENDOR + 2, 1), CAP_BYTES);
	assert_int_equal(config_read(f, VENDOR + 4, 1), 0x42);
	assert_int_equal(config_read(f, MSIX + 2, 2), 8);
	assert_int_equal(config_read(f, MSIX + 4, 4), 4);
	assert_int_equal(config_read(f, MSIX + 8, 4), 0x1004);
	assert_true(config_read(f, EXP + 4, 4) & 1u << 28);
}

static void bars_tell_their_sizes_and_there_is_no_rom(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	for (uint32_t at = 0x10; at <= 0x30; at += 4)
		config_write(f, at, 0xffffffff, 4);
	assert_int_equal(config_read(f, 0x10, 4), ~(BAR_BYTES - 1));
	assert_int_equal(config_read(f, 0x14, 4), 0);
	assert_int_equal(config_read(f, 0x20, 4), ~0x1fffu);
	assert_int_equal(config_read(f, 0x24, 4), 0);
	assert_int_equal(config_read(f, 0x2c, 4), 0xdef09abc);
	assert_int_equal(config_read(f, 0x30, 4), 0);
	config_write(f, 0x10, 0xfebf0000, 4);
	assert_int_equal(config_read(f, 0x10, 4), 0xfebf0000);
}

static void only_writable_bits_change(void **state)
{
	struct fixture *f = *state;
	uint8_t all[4096];

	negotiate(f);
	memset(all, 0xff, sizeof(all));
	all[EXP + 9] = 0x7f; /* no reset */
	assert_int_equal(region_write(f, VFU_REGION_CONFIG, 0, all, sizeof(all)), 0);
	assert_int_equal(config_read(f, 0x00, 4), 0x56781234);
	assert_int_equal(config_read(f, 0x04, 4), 0x00100546);
	assert_int_equal(config_read(f, 0x3c, 2), 0x01ff);
	assert_int_equal(config_read(f, PM + 4, 2), 0x000b);
	assert_int_equal(config_read(f, MSIX + 2, 2), 0xc008);
	assert_int_equal(config_read(f, VENDOR + 4, 4), 0x42);
	assert_int_equal(config_read(f, VENDOR + 8, 4), 0xffffffff);
	assert_int_equal(f->resets, 0);
}

static void a_function_level_reset_resets_and_reads_back_0(void **state)
{
	struct fixture *f = *state;
	struct reply r;
	struct {
		struct vfu_region_io io;
		uint16_t value;
	} w = { { EXP + 8, VFU_REGION_CONFIG, 2 }, 0xa810 };
	uint16_t id;

	negotiate(f);
	config_write(f, 0x3c, 11, 1);
	f->hold_quiet = true;
	id = send_msg(f, VFU_CMD_REGION_WRITE, &w, 18);
	is_silent(f);
	dev_quiet_now(f);
	assert_int_equal(answer(f, id, VFU_CMD_REGION_WRITE, &r), 0);
	assert_int_equal(f->resets, 1);
	assert_int_equal(config_read(f, EXP + 8, 2), 0x2810);
	assert_int_equal(config_read(f, 0x3c, 1), 0);
	f->hold_quiet = false;
	/* The high byte alone does it, too; the low one does not. */
	config_write(f, EXP + 9, 0x80, 1);
	assert_int_equal(f->resets, 2);
	config_write(f, EXP + 8, 0xff, 1);
	assert_int_equal(f->resets, 2);
}

static void the_device_sees_accesses_to_its_own_capability(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	assert_int_equal(config_read(f, VENDOR + 16, 4), 0x77);
	assert_int_equal(f->cap_reads, 1);
	config_read(f, VENDOR - 4, 4);
	assert_int_equal(f->cap_reads, 1);
	config_write(f, VENDOR + 12, 5, 4);
	assert_int_equal(f->cap_writes, 1);
	assert_int_equal(config_read(f, VENDOR + 12, 4), 5);
	config_write(f, VENDOR + CAP_BYTES, 5, 4);
	assert_int_equal(f->cap_writes, 1);
}

static void the_pin_can_be_turned_off_by_the_guest(void **state)
{
	struct fixture *f = *state;
	struct vfu_irq_set set = { 20, VFU_IRQ_DATA_EVENTFD | VFU_IRQ_ACTION_TRIGGER, VFU_IRQ_INTX,
				   0, 1 };
	int efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct reply r;

	negotiate(f);
	assert_int_equal(call_fds(f, VFU_CMD_DEVICE_SET_IRQS, &set, 20, &efd, 1, &r), 0);
	assert_true(f->intx_fd >= 0);
	config_write(f, 4, 0x0400, 2);
	assert_int_equal(f->intx_fd, -1);
	config_write(f, 4, 0x0006, 2);
	assert_true(f->intx_fd >= 0);
	close(efd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(the_header_says_what_the_device_is),
		T(the_capabilities_form_a_list),
		T(bars_tell_their_sizes_and_there_is_no_rom),
		T(only_writable_bits_change),
		T(a_function_level_reset_resets_and_reads_back_0),
		T(the_device_sees_accesses_to_its_own_capability),
		T(the_pin_can_be_turned_off_by_the_guest),
#undef T
	};

	return cmocka_run_group_tests_name("pci", tests, NULL, NULL);
}
