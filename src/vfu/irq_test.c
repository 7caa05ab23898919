#include "vfu/session_rig.h"

#define SET_FD (VFU_IRQ_DATA_EVENTFD | VFU_IRQ_ACTION_TRIGGER)

static int bell(void)
{
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static uint64_t rung(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof(n)) == (ssize_t)sizeof(n) ? n : 0;
}

static int set_irqs(struct fixture *f, uint32_t flags, uint32_t index, uint32_t start,
		    uint32_t count, const int *fds, uint32_t fd_count)
{
	struct vfu_irq_set set = { sizeof(set), flags, index, start, count };
	struct reply r;
	int rc = call_fds(f, VFU_CMD_DEVICE_SET_IRQS, &set, sizeof(set), fds, fd_count, &r);

	assert_int_equal(r.len, 0);
	return rc;
}

static void the_types_of_interrupts_are_told(void **state)
{
	static const uint32_t want[VFU_IRQS][2] = {
		{ 7, 1 }, { 1, 0 }, { 1, 9 }, { 1, 1 }, { 1, 1 }
	};
	struct fixture *f = *state;
	struct reply r;

	negotiate(f);
	for (uint32_t i = 0; i < VFU_IRQS; i++) {
		struct vfu_irq_info info = { .argsz = 16, .index = i };

		assert_int_equal(call(f, VFU_CMD_DEVICE_GET_IRQ_INFO, &info, 16, &r), 0);
		assert_memory_equal(r.bytes, ((uint32_t[]){ 16, want[i][0], i, want[i][1] }), 16);
	}
	assert_int_equal(call(f, VFU_CMD_DEVICE_GET_IRQ_INFO, (uint32_t[]){ 16, 0, 5, 0 }, 16, &r),
			 -EINVAL);
	assert_int_equal(call(f, VFU_CMD_DEVICE_GET_IRQ_INFO, (uint32_t[]){ 15, 0, 0, 0 }, 16, &r),
			 -EINVAL);
}

static void what_qemu_sends_is_taken(void **state)
{
	struct fixture *f = *state;
	int efd = bell();
	uint64_t one = 1;

	negotiate(f);
	assert_int_equal(set_irqs(f, SET_FD, VFU_IRQ_INTX, 0, 1, &efd, 1), 0);
	assert_true(f->intx_fd >= 0);
	assert_int_equal(
		set_irqs(f, VFU_IRQ_DATA_NONE | VFU_IRQ_ACTION_UNMASK, VFU_IRQ_INTX, 0, 1, NULL, 0),
		0);
	assert_int_equal(f->unmasks, 1);
	assert_int_equal(set_irqs(f, VFU_IRQ_DATA_NONE | VFU_IRQ_ACTION_TRIGGER, VFU_IRQ_INTX, 0, 0,
				  NULL, 0),
			 0);
	assert_int_equal(f->intx_fd, -1);
	assert_int_equal(set_irqs(f, SET_FD, VFU_IRQ_ERR, 0, 1, &efd, 1), 0);
	assert_int_equal(set_irqs(f, SET_FD, VFU_IRQ_REQ, 0, 1, &efd, 1), 0);
	assert_int_equal(set_irqs(f, SET_FD, VFU_IRQ_MSIX, 0, 1, NULL, 0), 0);
	assert_true(f->msix_on);
	assert_int_equal(set_irqs(f, SET_FD, VFU_IRQ_MSIX, 3, 1, &efd, 1), 0);
	assert_int_equal(write(f->vector_fd[3], &one, 8), 8);
	assert_int_equal(rung(efd), 1);
	assert_int_equal(set_irqs(f, VFU_IRQ_DATA_NONE | VFU_IRQ_ACTION_TRIGGER, VFU_IRQ_MSIX, 0, 0,
				  NULL, 0),
			 0);
	assert_int_equal(f->vector_fd[3], -1);
	assert_false(f->msix_on);
	close(efd);
}

static void many_descriptors_come_in_one_message_and_replace_others(void **state)
{
	struct fixture *f = *state;
	int fds[9];

	negotiate(f);
	for (int i = 0; i < 9; i++)
		fds[i] = bell();
	assert_int_equal(set_irqs(f, SET_FD, VFU_IRQ_MSIX, 0, 9, fds, 9), 0);
	assert_int_equal(set_irqs(f, SET_FD, VFU_IRQ_MSIX, 0, 9, fds, 9), 0);
	assert_int_equal(set_irqs(f, SET_FD, VFU_IRQ_MSIX, 2, 2, NULL, 0), 0);
	assert_true(f->vector_fd[1] >= 0);
	assert_int_equal(f->vector_fd[2], -1);
	assert_int_equal(f->vector_fd[3], -1);
	assert_true(f->vector_fd[4] >= 0);
	for (int i = 0; i < 9; i++)
		close(fds[i]);
}

static void the_client_can_trigger_interrupts_itself(void **state)
{
	struct fixture *f = *state;
	struct {
		struct vfu_irq_set set;
		uint8_t bools[9];
	} b = { { 29, VFU_IRQ_DATA_BOOL | VFU_IRQ_ACTION_TRIGGER, VFU_IRQ_MSIX, 0, 9 },
		{ [0] = 1, [8] = 1 } };
	struct reply r;
	int fds[9];
	uint64_t n = 0;

	negotiate(f);
	for (int i = 0; i < 9; i++)
		fds[i] = bell();
	assert_int_equal(set_irqs(f, SET_FD, VFU_IRQ_MSIX, 0, 9, fds, 9), 0);
	assert_int_equal(set_irqs(f, VFU_IRQ_DATA_NONE | VFU_IRQ_ACTION_TRIGGER, VFU_IRQ_MSIX, 4, 2,
				  NULL, 0),
			 0);
	PUMP_UNTIL(f, (n += rung(fds[4]) + rung(fds[5])) == 2);
	assert_int_equal(call(f, VFU_CMD_DEVICE_SET_IRQS, &b, 29, &r), 0);
	n = 0;
	PUMP_UNTIL(f, (n += rung(fds[0]) + rung(fds[8])) == 2);
	for (int i = 0; i < 9; i++) {
		assert_int_equal(rung(fds[i]), 0);
		close(fds[i]);
	}
	/* Without a descriptor: nothing. */
	assert_int_equal(
		set_irqs(f, VFU_IRQ_DATA_NONE | VFU_IRQ_ACTION_TRIGGER, VFU_IRQ_ERR, 0, 1, NULL, 0),
		0);
}

static void a_bell_that_blocks_holds_up_nobody_and_does_not_outlive_the_session(void **state)
{
	struct fixture *f = *state;
	int full = eventfd(0, EFD_CLOEXEC), good = bell(), fds[2] = { full, good };
	uint64_t most = 0xfffffffffffffffeull;

	negotiate(f);
	assert_int_equal(write(full, &most, sizeof(most)), sizeof(most));
	assert_int_equal(set_irqs(f, SET_FD, VFU_IRQ_MSIX, 0, 2, fds, 2), 0);
	assert_int_equal(set_irqs(f, VFU_IRQ_DATA_NONE | VFU_IRQ_ACTION_TRIGGER, VFU_IRQ_MSIX, 0, 2,
				  NULL, 0),
			 0);
	assert_int_equal(config_read(f, 0, 2), 0x1234);
	close(full);
	close(good);
	close(f->peer);
	f->peer = -1;
	PUMP_UNTIL(f, !f->session);
}

static void the_pin_is_masked_and_unmasked(void **state)
{
	struct fixture *f = *state;
	int efd = bell();

	negotiate(f);
	assert_int_equal(set_irqs(f, SET_FD, VFU_IRQ_INTX, 0, 1, &efd, 1), 0);
	assert_int_equal(
		set_irqs(f, VFU_IRQ_DATA_NONE | VFU_IRQ_ACTION_MASK, VFU_IRQ_INTX, 0, 1, NULL, 0),
		0);
	assert_int_equal(f->intx_fd, -1);
	assert_int_equal(
		set_irqs(f, VFU_IRQ_DATA_NONE | VFU_IRQ_ACTION_UNMASK, VFU_IRQ_INTX, 0, 1, NULL, 0),
		0);
	assert_true(f->intx_fd >= 0);
	close(efd);
}

static void wrong_flags_ranges_and_descriptors_are_refused(void **state)
{
	static const struct {
		uint32_t flags, index, start, count, fds;
		int rc;
	} wrong[] = {
		{ 0, 2, 0, 1, 0, -EINVAL },
		{ VFU_IRQ_DATA_NONE, 2, 0, 1, 0, -EINVAL },
		{ VFU_IRQ_ACTION_TRIGGER, 2, 0, 1, 0, -EINVAL },
		{ 0x23, 2, 0, 1, 0, -EINVAL },
		{ 0x39, 2, 0, 1, 0, -EINVAL },
		{ 0x61, 2, 0, 1, 0, -EINVAL },
		{ 0x21, 5, 0, 1, 0, -EINVAL },
		{ 0x21, UINT32_MAX, 0, 0, 0, -EINVAL },
		{ 0x24, 2, 0, 10, 0, -EINVAL },
		{ 0x24, 2, 9, 1, 1, -EINVAL },
		{ 0x24, 2, UINT32_MAX, 2, 1, -EINVAL },
		{ 0x24, 1, 0, 1, 1, -EINVAL },
		{ 0x24, 2, 0, 0, 0, -EINVAL },
		{ 0x21, 2, 1, 0, 0, -EINVAL },
		{ 0x24, 2, 0, 2, 1, -EINVAL },
		{ 0x24, 2, 0, 1, 2, -EINVAL },
		{ 0x21, 2, 0, 1, 1, -EINVAL },
		{ 0x22, 2, 0, 1, 0, -EINVAL }, /* no bytes */
		{ 0x09, 2, 0, 1, 0, -EINVAL },
		{ 0x11, 3, 0, 1, 0, -EINVAL },
		{ 0x0c, 0, 0, 1, 1, -ENOTSUP },
	};
	struct fixture *f = *state;
	int fds[2] = { bell(), bell() };
	int file = memfd_create("no bell", MFD_CLOEXEC);

	negotiate(f);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(set_irqs(f, wrong[i].flags, wrong[i].index, wrong[i].start,
					  wrong[i].count, fds, wrong[i].fds),
				 wrong[i].rc);
	assert_int_equal(set_irqs(f, SET_FD, VFU_IRQ_MSIX, 0, 1, &file, 1), -EINVAL);
	assert_false(f->msix_on);
	close(file);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(the_types_of_interrupts_are_told),
		T(what_qemu_sends_is_taken),
		T(many_descriptors_come_in_one_message_and_replace_others),
		T(the_client_can_trigger_interrupts_itself),
		T(a_bell_that_blocks_holds_up_nobody_and_does_not_outlive_the_session),
		T(the_pin_is_masked_and_unmasked),
		T(wrong_flags_ranges_and_descriptors_are_refused),
#undef T
	};

	return cmocka_run_group_tests_name("irq", tests, NULL, NULL);
}
