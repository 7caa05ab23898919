#include "nvme/nvme_rig.h"

static void reads(struct rig *rig, uint16_t qid, uint32_t count)
{
	rig_sqe_rw(rig, NVME_IO_READ, 0, 1);
	for (uint32_t i = 0; i < count; i++)
		rig_write_sqe(rig, qid, &rig->sqe);
	rig_ring(rig, qid);
	rig_settle(rig);
}

static void take_all(struct rig *rig, uint16_t qid)
{
	while (rig_peek(rig, qid))
		;
	rig_ring_cq(rig, qid);
}

static void completions_of_one_turn_are_one_interrupt(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	rig_interrupts(&rig, 1);
	reads(&rig, 1, 10);
	assert_int_equal(rig_interrupts(&rig, 1), 1);
	assert_int_equal(rig_interrupts(&rig, 2), 0);
	rig_close(&rig);
}

static void a_queue_without_interrupts_is_silent(void **state)
{
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	rig_enable(&rig);
	rig_queue_init(&rig, 1, 0, 64);
	rig_sqe(&rig, NVME_ADMIN_CREATE_CQ, 0);
	rig.sqe.prp1 = le64(rig_cq_gpa(1));
	rig.sqe.cdw10 = le32(1 | 63u << 16);
	rig.sqe.cdw11 = le32(1u << 16 | 1);
	assert_status(rig_admin(&rig), SUCCESS);
	assert_status(rig_create_sq(&rig, 1, 64, 1), SUCCESS);
	reads(&rig, 1, 1);
	assert_true(rig_peek(&rig, 1));
	assert_int_equal(rig_interrupts(&rig, 1), 0);
	rig_close(&rig);
}

static void a_vector_may_get_its_descriptor_later_and_another_one(void **state)
{
	struct rig rig;
	int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t n;

	rig_open(&rig, "ram", "size=1M");
	nvme_ctrl_vector_fd_set(rig.guest.ctrl, 1, -1);
	rig_enable(&rig);
	rig_io_queues(&rig, 1, 64);
	reads(&rig, 1, 1);
	assert_int_equal(rig_interrupts(&rig, 1), 0);
	/* what is there already is told of again */
	nvme_ctrl_vector_fd_set(rig.guest.ctrl, 1, dup(other));
	rig_settle(&rig);
	assert_int_equal(read(other, &n, sizeof(n)), sizeof(n));
	take_all(&rig, 1);
	for (uint32_t i = 0; i < 20; i++) {
		nvme_ctrl_vector_fd_set(rig.guest.ctrl, 1, dup(other));
		nvme_ctrl_vector_fd_set(rig.guest.ctrl, 1, dup(other));
		reads(&rig, 1, 3);
		take_all(&rig, 1);
	}
	rig_settle(&rig);
	assert_int_equal(read(other, &n, sizeof(n)), sizeof(n));
	assert_true(n >= 20);
	close(other);
	rig_close(&rig);
}

static void the_pin_is_used_without_msix_and_masked_by_intms(void **state)
{
	struct rig rig;
	int pin = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t n;

	rig_open_ready(&rig, "ram", "size=1M");
	nvme_ctrl_msix_enable(rig.guest.ctrl, false);
	nvme_ctrl_intx_fd_set(rig.guest.ctrl, dup(pin));
	rig_settle(&rig);
	while (read(pin, &n, sizeof(n)) > 0)
		;
	rig_interrupts(&rig, 1);
	reads(&rig, 1, 1);
	assert_int_equal(read(pin, &n, sizeof(n)), sizeof(n));
	assert_int_equal(rig_interrupts(&rig, 1), 0);
	/* not looked at yet: the end of the interrupt raises it again */
	nvme_ctrl_intx_unmask(rig.guest.ctrl);
	rig_settle(&rig);
	assert_int_equal(read(pin, &n, sizeof(n)), sizeof(n));
	take_all(&rig, 1);
	rig_settle(&rig);
	nvme_ctrl_intx_unmask(rig.guest.ctrl);
	rig_settle(&rig);
	assert_int_equal(read(pin, &n, sizeof(n)), -1);
	/* masked, and unmasked */
	rig_reg32_set(&rig, NVME_REG_INTMS, 1);
	reads(&rig, 1, 1);
	assert_int_equal(read(pin, &n, sizeof(n)), -1);
	rig_reg32_set(&rig, NVME_REG_INTMC, 1);
	rig_settle(&rig);
	assert_int_equal(read(pin, &n, sizeof(n)), sizeof(n));
	close(pin);
	rig_close(&rig);
}

static void set_feature(struct rig *rig, uint32_t fid, uint32_t value)
{
	rig_sqe(rig, NVME_ADMIN_SET_FEATURES, 0);
	rig->sqe.cdw10 = le32(fid);
	rig->sqe.cdw11 = le32(value);
	assert_status(rig_admin(rig), SUCCESS);
}

static void coalescing_waits_for_enough_or_for_its_time(void **state)
{
	struct rig rig;
	uint64_t start;

	rig_open_ready(&rig, "ram", "size=1M");
	set_feature(&rig, NVME_FEAT_COALESCING, 7 | 200 << 8); /* 8 completions, 20 ms */
	rig_interrupts(&rig, 1);
	reads(&rig, 1, 7);
	assert_int_equal(rig_interrupts(&rig, 1), 0);
	reads(&rig, 1, 1);
	assert_int_equal(rig_interrupts(&rig, 1), 1);
	start = loop_clock_ns();
	reads(&rig, 1, 1);
	rig_until(&rig, rig_interrupts(&rig, 1));
	assert_true(loop_clock_ns() - start >= 15000000);
	take_all(&rig, 1);
	/* a vector without it, and no time */
	set_feature(&rig, NVME_FEAT_VECTOR, 1 | 1 << 16);
	reads(&rig, 1, 1);
	assert_int_equal(rig_interrupts(&rig, 1), 1);
	set_feature(&rig, NVME_FEAT_VECTOR, 1);
	set_feature(&rig, NVME_FEAT_COALESCING, 7);
	reads(&rig, 1, 1);
	assert_int_equal(rig_interrupts(&rig, 1), 1);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(completions_of_one_turn_are_one_interrupt),
		cmocka_unit_test(a_queue_without_interrupts_is_silent),
		cmocka_unit_test(a_vector_may_get_its_descriptor_later_and_another_one),
		cmocka_unit_test(the_pin_is_used_without_msix_and_masked_by_intms),
		cmocka_unit_test(coalescing_waits_for_enough_or_for_its_time),
	};

	return cmocka_run_group_tests_name("nvme irq", tests, NULL, NULL);
}
