#include "nvme/nvme_rig.h"

/* ---- registers ---- */

static void cap_says_what_there_is(void **state)
{
	struct rig rig;
	uint64_t cap;

	rig_open(&rig, "ram", "size=1M");
	cap = rig_reg64(&rig, NVME_REG_CAP);
	assert_int_equal(cap & 0xffff, 4095);	/* MQES */
	assert_int_equal(cap >> 16 & 7, 1);	/* CQR, AMS */
	assert_int_equal(cap >> 24 & 0xff, 60); /* TO */
	assert_int_equal(cap >> 32 & 0xf, 0);	/* DSTRD */
	assert_int_equal(cap >> 36 & 0x1ff, 3); /* NSSRS, CSS: NVM */
	assert_int_equal(cap >> 45, 0);		/* MPSMIN, MPSMAX, PMRS, CMBS */
	assert_int_equal(rig_reg32(&rig, NVME_REG_VS), NVME_VS_1_4);
	rig_close(&rig);
}

static void registers_are_read_in_any_width(void **state)
{
	struct rig rig;
	uint8_t bytes[8];
	uint64_t cap;

	rig_open(&rig, "ram", "size=1M");
	cap = rig_reg64(&rig, NVME_REG_CAP);
	assert_int_equal(rig_reg32(&rig, NVME_REG_CAP + 4), cap >> 32);
	nvme_ctrl_reg_read(rig.guest.ctrl, NVME_REG_VS + 1, bytes, 2);
	assert_int_equal(bytes[0], 4);
	assert_int_equal(bytes[1], 1);
	/* over the border of two registers */
	nvme_ctrl_reg_read(rig.guest.ctrl, NVME_REG_CAP + 6, bytes, 4);
	assert_int_equal(bytes[2], 0);
	assert_int_equal(bytes[3], 4);
	rig_close(&rig);
}

static void reserved_offsets_read_as_zero(void **state)
{
	static const uint32_t offs[] = { 0x18, 0x38, 0x3c, 0x40, 0x48, 0x100, 0xe00, 0xe10, 0xffc };
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	for (size_t i = 0; i < ARRAY_SIZE(offs); i++) {
		rig_reg32_set(&rig, offs[i], 0xffffffff);
		assert_int_equal(rig_reg32(&rig, offs[i]), 0);
	}
	rig_reg32_set(&rig, NVME_BAR0_BYTES - 4, 1);
	assert_int_equal(rig_reg32(&rig, NVME_BAR0_BYTES - 4), 0);
	rig_close(&rig);
}

static void only_writable_bits_are_written(void **state)
{
	struct rig rig;
	uint64_t cap;

	rig_open(&rig, "ram", "size=1M");
	cap = rig_reg64(&rig, NVME_REG_CAP);
	rig_reg64_set(&rig, NVME_REG_CAP, ~cap);
	assert_int_equal(rig_reg64(&rig, NVME_REG_CAP), cap);
	rig_reg32_set(&rig, NVME_REG_VS, 0);
	assert_int_equal(rig_reg32(&rig, NVME_REG_VS), NVME_VS_1_4);
	rig_reg32_set(&rig, NVME_REG_AQA, 0xffffffff);
	assert_int_equal(rig_reg32(&rig, NVME_REG_AQA), 0x0fff0fff);
	rig_reg64_set(&rig, NVME_REG_ASQ, 0xffffffffffffffff);
	assert_int_equal(rig_reg64(&rig, NVME_REG_ASQ), 0xfffffffffffff000);
	rig_close(&rig);
}

static void long_registers_are_written_by_halves_in_any_order(void **state)
{
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	rig_reg32_set(&rig, NVME_REG_ACQ + 4, 0x12);
	rig_reg32_set(&rig, NVME_REG_ACQ, 0x345000);
	assert_int_equal(rig_reg64(&rig, NVME_REG_ACQ), 0x1200345000);
	rig_reg32_set(&rig, NVME_REG_ASQ, 0x678000);
	rig_reg32_set(&rig, NVME_REG_ASQ + 4, 0x9a);
	assert_int_equal(rig_reg64(&rig, NVME_REG_ASQ), 0x9a00678000);
	/* AQA and ASQ are neighbours: one access may not be to both, but must not do harm */
	rig_close(&rig);
}

static void admin_queue_registers_are_fixed_while_enabled(void **state)
{
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	rig_enable(&rig);
	rig_reg32_set(&rig, NVME_REG_AQA, 0);
	rig_reg64_set(&rig, NVME_REG_ASQ, 0);
	assert_int_equal(rig_reg32(&rig, NVME_REG_AQA) & 0xfff, RIG_ADMIN_SIZE - 1);
	assert_int_equal(rig_reg64(&rig, NVME_REG_ASQ), rig_sq_gpa(0));
	rig_close(&rig);
}

static void interrupt_masks_are_set_and_cleared(void **state)
{
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	rig_reg32_set(&rig, NVME_REG_INTMS, 0x0f);
	rig_reg32_set(&rig, NVME_REG_INTMS, 0x10);
	assert_int_equal(rig_reg32(&rig, NVME_REG_INTMS), 0x1f);
	rig_reg32_set(&rig, NVME_REG_INTMC, 0x05);
	assert_int_equal(rig_reg32(&rig, NVME_REG_INTMC), 0x1a);
	assert_int_equal(rig_reg32(&rig, NVME_REG_INTMS), 0x1a);
	rig_close(&rig);
}

/* ---- enabling ---- */

static void enable_with(struct rig *rig, uint32_t cc, uint32_t aqa, uint64_t asq, uint64_t acq,
			uint32_t csts)
{
	rig_reg32_set(rig, NVME_REG_AQA, aqa);
	rig_reg64_set(rig, NVME_REG_ASQ, asq);
	rig_reg64_set(rig, NVME_REG_ACQ, acq);
	rig_reg32_set(rig, NVME_REG_CC, cc);
	rig_settle(rig);
	if (rig_reg32(rig, NVME_REG_CSTS) != csts)
		fail_msg("CC %08x AQA %08x: CSTS %08x, expected %08x", cc, aqa,
			 rig_reg32(rig, NVME_REG_CSTS), csts);
	rig_reg32_set(rig, NVME_REG_CC, 0);
	rig_until(rig, rig_reg32(rig, NVME_REG_CSTS) == 0);
}

static void wrong_settings_make_the_enable_fail(void **state)
{
	const uint32_t aqa = 0x001f001f;
	const uint64_t asq = rig_sq_gpa(0), acq = rig_cq_gpa(0);
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	enable_with(&rig, RIG_CC, aqa, asq, acq, NVME_CSTS_RDY);
	enable_with(&rig, NVME_CC_EN, aqa, asq, acq, NVME_CSTS_RDY);
	enable_with(&rig, RIG_CC | 1 << 4, aqa, asq, acq, NVME_CSTS_CFS);  /* CSS */
	enable_with(&rig, RIG_CC | 1 << 7, aqa, asq, acq, NVME_CSTS_CFS);  /* MPS */
	enable_with(&rig, RIG_CC | 1 << 11, aqa, asq, acq, NVME_CSTS_CFS); /* AMS */
	enable_with(&rig, RIG_CC ^ 1 << 16, aqa, asq, acq, NVME_CSTS_CFS); /* IOSQES */
	enable_with(&rig, RIG_CC ^ 1 << 20, aqa, asq, acq, NVME_CSTS_CFS); /* IOCQES */
	enable_with(&rig, RIG_CC, 0x001f0000, asq, acq, NVME_CSTS_CFS);	   /* ASQS */
	enable_with(&rig, RIG_CC, 0x0000001f, asq, acq, NVME_CSTS_CFS);	   /* ACQS */
	enable_with(&rig, RIG_CC, aqa, RIG_MEM_BYTES, acq, NVME_CSTS_CFS);
	enable_with(&rig, RIG_CC, aqa, asq, RIG_MEM_BYTES, NVME_CSTS_CFS);
	enable_with(&rig, RIG_CC, 0x0fff0fff, RIG_MEM_BYTES - 4096, acq, NVME_CSTS_CFS);
	enable_with(&rig, RIG_CC, aqa, ~0ull, acq, NVME_CSTS_CFS);
	enable_with(&rig, RIG_CC, 0x0fff0fff, asq, acq, NVME_CSTS_RDY);
	rig_close(&rig);
}

static void a_reset_forgets_queues_and_keeps_the_admin_registers(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	rig_disable(&rig);
	assert_true(nvme_ctrl_is_idle(rig.guest.ctrl));
	assert_int_equal(rig_reg64(&rig, NVME_REG_ASQ), rig_sq_gpa(0));
	rig_enable(&rig);
	rig_io_queues(&rig, 1, 64);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	assert_status(rig_io(&rig, 1), SUCCESS);
	nvme_ctrl_reset(rig.guest.ctrl);
	rig_until(&rig, rig_reg32(&rig, NVME_REG_CSTS) == 0);
	assert_int_equal(rig_reg64(&rig, NVME_REG_ASQ), 0);
	assert_int_equal(rig_reg32(&rig, NVME_REG_AQA), 0);
	rig_close(&rig);
}

static void an_enable_while_the_reset_runs_comes_after_it(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "sim", "size=1M");
	blk_sim_hold(rig.dev, true);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	rig_settle(&rig);
	rig_reg32_set(&rig, NVME_REG_CC, 0);
	rig_queue_init(&rig, 0, RIG_ADMIN_SIZE, RIG_ADMIN_SIZE);
	rig_reg32_set(&rig, NVME_REG_CC, RIG_CC);
	blk_sim_hold(rig.dev, false);
	rig_until(&rig, rig.guest.ctrl->state == NVME_READY);
	rig_sqe(&rig, NVME_ADMIN_IDENTIFY, 0)->cdw10 = le32(1);
	assert_status(rig_admin(&rig), SUCCESS);
	rig_close(&rig);
}

static void a_shutdown_ends_with_everything_flushed(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "sim", "size=1M,volatile-cache=on,delay-min-ns=1000000");
	rig_reg32_set(&rig, NVME_REG_CC, RIG_CC | 1 << 14);
	assert_int_equal(rig_reg32(&rig, NVME_REG_CSTS), NVME_CSTS_RDY | NVME_CSTS_SHST(1));
	rig_until(&rig, rig_reg32(&rig, NVME_REG_CSTS) == (NVME_CSTS_RDY | NVME_CSTS_SHST(2)));
	rig_disable(&rig);
	rig_enable(&rig);
	assert_int_equal(rig_reg32(&rig, NVME_REG_CSTS), NVME_CSTS_RDY);
	rig_close(&rig);
}

static void a_reset_may_come_while_a_shutdown_flushes(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "sim", "size=1M,volatile-cache=on,delay-min-ns=1000000");
	rig_reg32_set(&rig, NVME_REG_CC, RIG_CC | 2 << 14);
	rig_until(&rig, rig.guest.ctrl->flushes);
	rig_reg32_set(&rig, NVME_REG_CC, 0);
	rig_until(&rig, rig_reg32(&rig, NVME_REG_CSTS) == 0);
	rig_close(&rig);
}

static void a_subsystem_reset_is_of_all_controllers(void **state)
{
	struct rig rig;
	struct rig_guest other;
	uint8_t csts[4];

	rig_open_ready(&rig, "ram", "size=1M");
	rig_guest_open(&rig, &other);
	rig_reg32_set(&rig, NVME_REG_NSSR, 0x12345678);
	rig_settle(&rig);
	assert_int_equal(rig_reg32(&rig, NVME_REG_CSTS), NVME_CSTS_RDY);
	rig_reg32_set(&rig, NVME_REG_NSSR, NVME_NSSR_VALUE);
	rig_until(&rig, rig_reg32(&rig, NVME_REG_CSTS) == NVME_CSTS_NSSRO);
	nvme_ctrl_reg_read(other.ctrl, NVME_REG_CSTS, csts, 4);
	assert_int_equal(csts[0], NVME_CSTS_NSSRO);
	rig_reg32_set(&rig, NVME_REG_CSTS, NVME_CSTS_NSSRO);
	assert_int_equal(rig_reg32(&rig, NVME_REG_CSTS), 0);
	rig_guest_close(&rig, &other);
	rig_close(&rig);
}

/* ---- under load ---- */

static uint32_t load(struct rig *rig, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		rig_sqe_rw(rig, i % 2 ? NVME_IO_READ : NVME_IO_WRITE, i, 4);
		rig_write_sqe(rig, 1, &rig->sqe);
	}
	rig_ring(rig, 1);
	return count;
}

static void a_thousand_resets_under_load_write_nothing_afterwards(void **state)
{
	struct rig rig;

	rig_open(&rig, "sim", "size=1M,delay-min-ns=1,delay-max-ns=200000,seed=7");
	for (uint32_t round = 0; round < 1000; round++) {
		rig_enable(&rig);
		rig_io_queues(&rig, 1, 64);
		load(&rig, 40);
		for (uint32_t i = 0; i < round % 5; i++)
			rig_turn(&rig);
		if (round % 3 == 0) { /* an event request, and a queue that is on its way out */
			rig_sqe(&rig, NVME_ADMIN_AER, 0);
			rig_write_sqe(&rig, 0, &rig.sqe);
			rig_sqe(&rig, NVME_ADMIN_DELETE_SQ, 0)->cdw10 = le32(1);
			rig_write_sqe(&rig, 0, &rig.sqe);
			rig_ring(&rig, 0);
		}
		rig_disable(&rig);
		memset(rig_mem(&rig, rig_cq_gpa(0)), 0x77, 4096);
		memset(rig_mem(&rig, rig_cq_gpa(1)), 0x77, 4096);
		memset(rig_mem(&rig, RIG_DATA), 0x77, 8192);
		rig_settle(&rig);
		for (uint32_t i = 0; i < 4096; i++) {
			assert_int_equal(*(uint8_t *)rig_mem(&rig, rig_cq_gpa(0) + i), 0x77);
			assert_int_equal(*(uint8_t *)rig_mem(&rig, rig_cq_gpa(1) + i), 0x77);
			assert_int_equal(*(uint8_t *)rig_mem(&rig, RIG_DATA + i), 0x77);
		}
		assert_true(nvme_ctrl_is_idle(rig.guest.ctrl));
	}
	rig_close(&rig);
}

static void deleting_a_queue_under_load_loses_no_completion(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "sim", "size=1M,delay-min-ns=1,delay-max-ns=200000,seed=9");
	for (uint32_t round = 0; round < 50; round++) {
		uint32_t seen = 0, fetched;

		load(&rig, 40);
		for (uint32_t i = 0; i < round % 7; i++)
			rig_turn(&rig);
		assert_status(rig_delete_queue(&rig, NVME_ADMIN_DELETE_SQ, 1), SUCCESS);
		fetched = 0;
		while (rig_peek(&rig, 1)) {
			seen++;
			fetched = le16_get(rig.cqe.sqhd);
		}
		rig_ring_cq(&rig, 1);
		assert_int_equal(seen, fetched);
		rig_settle(&rig);
		assert_false(rig_peek(&rig, 1));
		assert_status(rig_create_sq(&rig, 1, 64, 1), SUCCESS);
	}
	rig_close(&rig);
}

static void a_namespace_is_taken_away_under_load(void **state)
{
	struct rig rig;
	uint32_t ended = 0;

	rig_open_ready(&rig, "sim", "size=1M,delay-min-ns=1,delay-max-ns=200000,seed=3");
	load(&rig, 40);
	rig_turn(&rig);
	rig_ns_remove(&rig);
	while (ended < 40) {
		rig_reap(&rig, 1);
		ended++;
	}
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	assert_status(rig_io(&rig, 1), INVALID_NS);
	rig_ns_add(&rig, "ram", "size=1M");
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	assert_status(rig_io(&rig, 1), SUCCESS);
	rig_close(&rig);
}

static void a_namespace_goes_while_the_controller_is_reset(void **state)
{
	struct rig rig;
	struct blk_dev *dev;

	rig_open_ready(&rig, "sim", "size=1M");
	blk_sim_hold(rig.dev, true);
	load(&rig, 10);
	rig_settle(&rig);
	rig_reg32_set(&rig, NVME_REG_CC, 0);
	dev = rig.dev;
	nvme_ns_remove(rig.ns, rig_removed, &rig);
	rig.ns = NULL;
	blk_sim_hold(dev, false);
	rig_until(&rig, rig.removed);
	rig_until(&rig, rig_reg32(&rig, NVME_REG_CSTS) == 0);
	blk_dev_unref(dev);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cap_says_what_there_is),
		cmocka_unit_test(registers_are_read_in_any_width),
		cmocka_unit_test(reserved_offsets_read_as_zero),
		cmocka_unit_test(only_writable_bits_are_written),
		cmocka_unit_test(long_registers_are_written_by_halves_in_any_order),
		cmocka_unit_test(admin_queue_registers_are_fixed_while_enabled),
		cmocka_unit_test(interrupt_masks_are_set_and_cleared),
		cmocka_unit_test(wrong_settings_make_the_enable_fail),
		cmocka_unit_test(a_reset_forgets_queues_and_keeps_the_admin_registers),
		cmocka_unit_test(an_enable_while_the_reset_runs_comes_after_it),
		cmocka_unit_test(a_shutdown_ends_with_everything_flushed),
		cmocka_unit_test(a_reset_may_come_while_a_shutdown_flushes),
		cmocka_unit_test(a_subsystem_reset_is_of_all_controllers),
		cmocka_unit_test(a_thousand_resets_under_load_write_nothing_afterwards),
		cmocka_unit_test(deleting_a_queue_under_load_loses_no_completion),
		cmocka_unit_test(a_namespace_is_taken_away_under_load),
		cmocka_unit_test(a_namespace_goes_while_the_controller_is_reset),
	};

	return cmocka_run_group_tests_name("nvme ctrl", tests, NULL, NULL);
}
