/*
 * Reservations, Format NVM and Sanitize with real queues: what the commands of other hosts get, and
 * how those under way end.
 */
#include "nvme/nvme_rig.h"

#define KEY_A  0xaaaaull
#define KEY_B  0xbbbbull
#define BLOCKS 8

static struct rig rig;
static struct rig_guest other; /* the guest that does not speak now */

/* The other guest speaks from here on. */
static void turn_to_other(void)
{
	struct rig_guest now = rig.guest;

	rig.guest = other;
	other = now;
}

static void host_id_set(uint8_t byte)
{
	memset(rig_mem(&rig, RIG_DATA), 0, 16);
	memset(rig_mem(&rig, RIG_DATA), byte, 8);
	rig_sqe(&rig, NVME_ADMIN_SET_FEATURES, 0)->cdw10 = le32(NVME_FEAT_HOST_ID);
	assert_status(rig_admin(&rig), SUCCESS);
}

/* Two guests of two hosts, A speaks. */
static void open_two(const char *disk)
{
	rig_open_ready(&rig, "sim", disk);
	host_id_set(0x0a);
	rig_guest_open(&rig, &other);
	turn_to_other();
	rig_enable(&rig);
	rig_io_queues(&rig, 1, 64);
	host_id_set(0x0b);
	turn_to_other();
}

static void close_two(void)
{
	/* The controllers know their guests by address. */
	uint32_t freed = rig.guest.freed;

	nvme_ctrl_free(other.ctrl, rig_freed);
	rig_until(&rig, other.freed + rig.guest.freed != freed);
	rig.guest.freed = other.freed = 0;
	gmem_unref(other.map);
	munmap(other.mem, RIG_MEM_BYTES);
	close(other.mem_fd);
	for (uint32_t v = 0; v < RIG_VECTORS; v++)
		close(other.vector_fd[v]);
	nvme_ctrl_free(rig.guest.ctrl, rig_freed);
	rig_until(&rig, other.freed + rig.guest.freed);
	gmem_unref(rig.guest.map);
	munmap(rig.guest.mem, RIG_MEM_BYTES);
	close(rig.guest.mem_fd);
	for (uint32_t v = 0; v < RIG_VECTORS; v++)
		close(rig.guest.vector_fd[v]);
	rig.guest.ctrl = NULL;
	rig_close(&rig);
}

/* ---- commands ---- */

static void resv_sqe(uint8_t opcode, uint32_t cdw10, uint64_t crkey, uint64_t key)
{
	struct le64 keys[2] = { le64(crkey), le64(key) };

	memcpy(rig_mem(&rig, RIG_DATA), keys, sizeof(keys));
	rig_sqe(&rig, opcode, 1)->cdw10 = le32(cdw10);
}

static enum nvme_status resv(uint8_t opcode, uint32_t cdw10, uint64_t crkey, uint64_t key)
{
	resv_sqe(opcode, cdw10, crkey, key);
	return rig_io(&rig, 1);
}

static void a_acquires(enum nvme_resv_type type)
{
	assert_status(resv(NVME_IO_RESV_REGISTER, 0, 0, KEY_A), SUCCESS);
	assert_status(resv(NVME_IO_RESV_ACQUIRE, (uint32_t)type << 8, KEY_A, 0), SUCCESS);
}

static enum nvme_status rw(uint8_t opcode)
{
	rig_sqe_rw(&rig, opcode, 0, BLOCKS);
	return rig_io(&rig, 1);
}

/* A range of one, deallocated. */
static enum nvme_status deallocate(void)
{
	struct {
		struct le32 attributes, blocks;
		struct le64 lba;
	} range = { .blocks = le32(BLOCKS) };

	memcpy(rig_mem(&rig, RIG_DATA), &range, sizeof(range));
	rig_sqe(&rig, NVME_IO_DATASET_MANAGEMENT, 1)->cdw11 = le32(1u << 2);
	return rig_io(&rig, 1);
}

static enum nvme_status flush(void)
{
	rig_sqe(&rig, NVME_IO_FLUSH, 1);
	return rig_io(&rig, 1);
}

static void each_command(enum nvme_status reads, enum nvme_status writes)
{
	assert_int_equal(rw(NVME_IO_READ), reads);
	assert_int_equal(rw(NVME_IO_COMPARE), reads);
	assert_int_equal(rw(NVME_IO_VERIFY), reads);
	assert_int_equal(rw(NVME_IO_WRITE), writes);
	assert_int_equal(rw(NVME_IO_WRITE_ZEROES), writes);
	assert_int_equal(deallocate(), writes);
	assert_int_equal(flush(), writes);
}

static void format_sqe(void)
{
	rig_sqe(&rig, NVME_ADMIN_FORMAT_NVM, 1)->cdw10 = le32(1u << 9);
}

/* ---- reservations ---- */

static void other_hosts_get_reservation_conflict(void **state)
{
	static const struct {
		enum nvme_resv_type type;
		enum nvme_status reads, registered_reads, registered_writes;
	} cases[] = {
		{ NVME_RESV_WRITE_EXCLUSIVE, NVME_SC_SUCCESS, NVME_SC_SUCCESS,
		  NVME_SC_RESERVATION_CONFLICT },
		{ NVME_RESV_EXCLUSIVE_ACCESS, NVME_SC_RESERVATION_CONFLICT,
		  NVME_SC_RESERVATION_CONFLICT, NVME_SC_RESERVATION_CONFLICT },
		{ NVME_RESV_WRITE_EXCLUSIVE_REG, NVME_SC_SUCCESS, NVME_SC_SUCCESS,
		  NVME_SC_SUCCESS },
		{ NVME_RESV_EXCLUSIVE_ACCESS_REG, NVME_SC_RESERVATION_CONFLICT, NVME_SC_SUCCESS,
		  NVME_SC_SUCCESS },
		{ NVME_RESV_WRITE_EXCLUSIVE_ALL, NVME_SC_SUCCESS, NVME_SC_SUCCESS,
		  NVME_SC_SUCCESS },
		{ NVME_RESV_EXCLUSIVE_ACCESS_ALL, NVME_SC_RESERVATION_CONFLICT, NVME_SC_SUCCESS,
		  NVME_SC_SUCCESS },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		open_two("size=1M");
		a_acquires(cases[i].type);
		turn_to_other();
		each_command(cases[i].reads, NVME_SC_RESERVATION_CONFLICT);
		assert_true(rig_dnr(&rig));
		assert_status(resv(NVME_IO_RESV_REGISTER, 0, 0, KEY_B), SUCCESS);
		each_command(cases[i].registered_reads, cases[i].registered_writes);
		turn_to_other();
		memset(rig_mem(&rig, RIG_DATA), 0, NVME_PAGE_BYTES);
		each_command(NVME_SC_SUCCESS, NVME_SC_SUCCESS);
		close_two();
	}
}

static void preempt_and_abort_ends_what_the_other_host_has_under_way(void **state)
{
	open_two("size=1M");
	a_acquires(NVME_RESV_WRITE_EXCLUSIVE);
	blk_sim_hold(rig.dev, true);
	for (uint32_t i = 0; i < 3; i++) {
		rig_sqe_rw(&rig, NVME_IO_WRITE, i * BLOCKS, BLOCKS);
		rig_write_sqe(&rig, 1, &rig.sqe);
	}
	rig_ring(&rig, 1);
	rig_settle(&rig);
	turn_to_other();
	assert_status(resv(NVME_IO_RESV_REGISTER, 0, 0, KEY_B), SUCCESS);
	resv_sqe(NVME_IO_RESV_ACQUIRE, 2 | NVME_RESV_EXCLUSIVE_ACCESS << 8, KEY_B, KEY_A);
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	rig_settle(&rig);
	blk_sim_hold(rig.dev, false);
	rig_reap(&rig, 1);
	assert_status(rig_status(&rig), SUCCESS);
	turn_to_other();
	for (uint32_t i = 0; i < 3; i++) {
		/* they ended before it did */
		assert_true(rig_peek(&rig, 1));
		assert_status(rig_status(&rig), ABORTED_PREEMPTED);
		assert_false(rig_dnr(&rig));
	}
	rig_ring_cq(&rig, 1);
	assert_status(rw(NVME_IO_READ), RESERVATION_CONFLICT);
	rig_sqe(&rig, NVME_ADMIN_GET_LOG_PAGE, 0)->cdw10 = le32(NVME_LOG_RESV | 15u << 16);
	assert_status(rig_admin(&rig), SUCCESS);
	assert_int_equal(*((uint8_t *)rig_mem(&rig, RIG_DATA) + 8), 1);
	close_two();
}

static void two_hosts_that_preempt_each_other_do_not_wait_for_ever(void **state)
{
	enum nvme_status first, second;

	open_two("size=1M,delay-min-ns=100000,delay-max-ns=200000");
	assert_status(resv(NVME_IO_RESV_REGISTER, 0, 0, KEY_A), SUCCESS);
	turn_to_other();
	assert_status(resv(NVME_IO_RESV_REGISTER, 0, 0, KEY_B), SUCCESS);
	resv_sqe(NVME_IO_RESV_ACQUIRE, 2 | 1 << 8, KEY_B, KEY_A);
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	turn_to_other();
	resv_sqe(NVME_IO_RESV_ACQUIRE, 2 | 1 << 8, KEY_A, KEY_B);
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	rig_reap(&rig, 1);
	first = rig_status(&rig);
	turn_to_other();
	rig_reap(&rig, 1);
	second = rig_status(&rig);
	/* One of them was no registrant any more. */
	assert_true((first == NVME_SC_SUCCESS) != (second == NVME_SC_SUCCESS));
	close_two();
}

static void the_report_reaches_the_guest(void **state)
{
	uint8_t *data;

	open_two("size=1M");
	a_acquires(NVME_RESV_WRITE_EXCLUSIVE_REG);
	data = rig_mem(&rig, RIG_DATA);
	memset(data, 0xee, 64);
	rig_sqe(&rig, NVME_IO_RESV_REPORT, 1)->cdw10 = le32(11);
	assert_status(rig_io(&rig, 1), SUCCESS);
	assert_int_equal(data[4], NVME_RESV_WRITE_EXCLUSIVE_REG);
	assert_int_equal(data[5], 1);
	assert_int_equal(data[24], rig.guest.ctrl->cntlid);
	assert_int_equal(data[26], 1);
	assert_int_equal(data[32], 0x0a);
	assert_int_equal(data[40], 0xaa);
	assert_int_equal(data[48], 0xee);
	close_two();
}

static void a_reset_ends_what_was_registered_without_identifier(void **state)
{
	rig_open_ready(&rig, "sim", "size=1M");
	a_acquires(NVME_RESV_WRITE_EXCLUSIVE);
	assert_int_equal(rig.ns->resv.registrant_count, 1);
	rig_disable(&rig);
	assert_int_equal(rig.ns->resv.registrant_count, 0);
	assert_int_equal(rig.ns->resv.type, NVME_RESV_NONE);
	rig_close(&rig);
}

/* ---- Format NVM and Sanitize ---- */

static void format_waits_for_commands_and_refuses_new_ones(void **state)
{
	open_two("size=1M");
	memset(rig_mem(&rig, RIG_DATA), 0x5a, BLOCKS * 512);
	blk_sim_hold(rig.dev, true);
	rig_sqe_rw(&rig, NVME_IO_WRITE, 0, BLOCKS);
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_ring(&rig, 1);
	rig_settle(&rig);
	turn_to_other();
	format_sqe();
	rig_write_sqe(&rig, 0, &rig.sqe);
	rig_ring(&rig, 0);
	rig_until(&rig, atomic_load(&rig.ns->not_ready));
	each_command(NVME_SC_FORMAT_IN_PROGRESS, NVME_SC_FORMAT_IN_PROGRESS);
	assert_false(rig_dnr(&rig));
	assert_false(rig_peek(&rig, 0));
	blk_sim_hold(rig.dev, false);
	rig_reap(&rig, 0);
	assert_status(rig_status(&rig), SUCCESS);
	assert_int_equal(*(uint8_t *)blk_sim_memory(rig.dev), 0);
	turn_to_other();
	assert_true(rig_peek(&rig, 1)); /* the write came before */
	assert_status(rig_status(&rig), SUCCESS);
	rig_ring_cq(&rig, 1);
	each_command(NVME_SC_SUCCESS, NVME_SC_SUCCESS);
	close_two();
}

static void a_reset_ends_a_format(void **state)
{
	open_two("size=1M");
	blk_sim_hold(rig.dev, true);
	format_sqe();
	rig_write_sqe(&rig, 0, &rig.sqe);
	rig_ring(&rig, 0);
	rig_until(&rig, atomic_load(&rig.ns->not_ready));
	rig_settle(&rig);
	rig_reg32_set(&rig, NVME_REG_CC, 0);
	rig_settle(&rig);
	blk_sim_hold(rig.dev, false);
	rig_until(&rig, !(rig_reg32(&rig, NVME_REG_CSTS) & NVME_CSTS_RDY));
	assert_false(atomic_load(&rig.ns->not_ready));
	turn_to_other();
	assert_status(rw(NVME_IO_READ), SUCCESS);
	close_two();
}

static void while_sanitize_runs_io_is_refused_and_its_end_is_told(void **state)
{
	open_two("size=1M");
	rig_sqe(&rig, NVME_ADMIN_AER, 0);
	rig_write_sqe(&rig, 0, &rig.sqe);
	rig_ring(&rig, 0);
	rig_settle(&rig);
	blk_sim_hold(rig.dev, true);
	turn_to_other();
	rig_sqe(&rig, NVME_ADMIN_SANITIZE, 0)->cdw10 = le32(2);
	assert_status(rig_admin(&rig), SUCCESS);
	each_command(NVME_SC_SANITIZE_IN_PROGRESS, NVME_SC_SANITIZE_IN_PROGRESS);
	assert_status(resv(NVME_IO_RESV_REGISTER, 0, 0, KEY_B), SANITIZE_IN_PROGRESS);
	format_sqe();
	assert_status(rig_admin(&rig), SANITIZE_IN_PROGRESS);
	rig_sqe(&rig, NVME_ADMIN_GET_LOG_PAGE, 0)->cdw10 = le32(NVME_LOG_SANITIZE | 127u << 16);
	assert_status(rig_admin(&rig), SUCCESS);
	assert_int_equal(*((uint8_t *)rig_mem(&rig, RIG_DATA) + 2), 2);
	rig_sqe(&rig, NVME_ADMIN_GET_LOG_PAGE, 0)->cdw10 = le32(0x03 | 127u << 16);
	assert_status(rig_admin(&rig), SANITIZE_IN_PROGRESS);
	blk_sim_hold(rig.dev, false);
	turn_to_other();
	rig_reap(&rig, 0); /* the event */
	assert_int_equal(le32_get(rig.cqe.dw0), 0x810106);
	rig_until(&rig, !rig.subsys->sanitize.run);
	each_command(NVME_SC_SUCCESS, NVME_SC_SUCCESS);
	close_two();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_hosts_get_reservation_conflict),
		cmocka_unit_test(preempt_and_abort_ends_what_the_other_host_has_under_way),
		cmocka_unit_test(two_hosts_that_preempt_each_other_do_not_wait_for_ever),
		cmocka_unit_test(the_report_reaches_the_guest),
		cmocka_unit_test(a_reset_ends_what_was_registered_without_identifier),
		cmocka_unit_test(format_waits_for_commands_and_refuses_new_ones),
		cmocka_unit_test(a_reset_ends_a_format),
		cmocka_unit_test(while_sanitize_runs_io_is_refused_and_its_end_is_told),
	};

	return cmocka_run_group_tests_name("nvme resv queue", tests, NULL, NULL);
}
