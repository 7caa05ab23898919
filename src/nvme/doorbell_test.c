#include "nvme/nvme_rig.h"

#define SHADOW 0x1800000u
#define EVENT  0x1801000u

static uint32_t *word(struct rig *rig, uint32_t page, uint32_t idx)
{
	return (uint32_t *)rig_mem(rig, page) + idx;
}

static enum nvme_status dbbuf(struct rig *rig, uint64_t shadow, uint64_t event)
{
	rig_sqe(rig, NVME_ADMIN_DOORBELL_BUFFER_CONFIG, 0);
	rig->sqe.prp1 = le64(shadow);
	rig->sqe.prp2 = le64(event);
	return rig_admin(rig);
}

/* A guest's doorbell (Linux nvme_dbbuf_update_and_check_event): does it trap? */
static bool shadow_ring(struct rig *rig, uint16_t qid)
{
	uint16_t tail = (uint16_t)rig->guest.q[qid].tail, event;
	uint32_t *w = word(rig, SHADOW, 2u * qid);
	uint16_t old = (uint16_t)__atomic_load_n(w, __ATOMIC_RELAXED);

	__atomic_store_n(w, tail, __ATOMIC_SEQ_CST);
	event = (uint16_t)__atomic_load_n(word(rig, EVENT, 2u * qid), __ATOMIC_SEQ_CST);
	if ((uint16_t)(tail - event - 1) >= (uint16_t)(tail - old))
		return false;
	rig_ring(rig, qid);
	return true;
}

static void shadow_reap(struct rig *rig, uint16_t qid)
{
	rig_until(rig, rig_peek(rig, qid));
	*word(rig, SHADOW, 2u * qid + 1) = rig->guest.q[qid].cq_head;
	assert_status(rig_status(rig), SUCCESS);
}

static void an_idle_queue_is_rung_and_a_busy_one_is_not(void **state)
{
	uint32_t traps = 0;
	struct rig rig;

	rig_init(&rig);
	rig.params.spin_ns = 1000000000;
	rig_ns_add(&rig, "ram", "size=1M");
	rig_guest_open(&rig, &rig.guest);
	rig_enable(&rig);
	assert_status(dbbuf(&rig, SHADOW, EVENT), SUCCESS);
	rig_io_queues(&rig, 1, 16);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	for (uint32_t i = 0; i < 100; i++) {
		rig_write_sqe(&rig, 1, &rig.sqe);
		traps += shadow_ring(&rig, 1);
		shadow_reap(&rig, 1);
	}
	assert_true(traps <= 1); /* it is looked at all the time */
	rig_close(&rig);
}

static void each_doorbell_of_a_sleeping_queue_traps(void **state)
{
	struct rig rig;

	rig_open(&rig, "ram", "size=1M"); /* no spinning: asleep as soon as there is nothing */
	rig_enable(&rig);
	assert_status(dbbuf(&rig, SHADOW, EVENT), SUCCESS);
	rig_io_queues(&rig, 1, 16);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	for (uint32_t i = 0; i < 100; i++) {
		rig_settle(&rig);
		rig_write_sqe(&rig, 1, &rig.sqe);
		assert_true(shadow_ring(&rig, 1));
		shadow_reap(&rig, 1);
	}
	rig_close(&rig);
}

static void queues_that_are_there_go_over_to_the_shadow(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	for (uint32_t i = 0; i < 5; i++) {
		rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
		assert_status(rig_io(&rig, 1), SUCCESS);
	}
	assert_status(dbbuf(&rig, SHADOW, EVENT), SUCCESS);
	assert_int_equal(*word(&rig, SHADOW, 2), 5);
	assert_int_equal(*word(&rig, SHADOW, 3), 5);
	rig_settle(&rig);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	rig_write_sqe(&rig, 1, &rig.sqe);
	shadow_ring(&rig, 1);
	shadow_reap(&rig, 1);
	/* a reset drops them */
	rig_disable(&rig);
	rig_enable(&rig);
	rig_io_queues(&rig, 1, 16);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	assert_status(rig_io(&rig, 1), SUCCESS);
	rig_close(&rig);
}

static void shadow_pages_that_go_away_suspend_the_queues(void **state)
{
	struct rig rig;
	struct gmem *again;

	rig_open_ready(&rig, "ram", "size=1M");
	assert_status(dbbuf(&rig, SHADOW, EVENT), SUCCESS);
	rig_quiesce(&rig);
	nvme_ctrl_maps_set(rig.guest.ctrl, NULL, NULL);
	nvme_ctrl_resume(rig.guest.ctrl);
	rig_settle(&rig);
	rig_quiesce(&rig);
	rig_guest_map(&rig.guest, &again);
	nvme_ctrl_maps_set(rig.guest.ctrl, again, again);
	gmem_unref(again);
	nvme_ctrl_resume(rig.guest.ctrl);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	rig_write_sqe(&rig, 1, &rig.sqe);
	rig_settle(&rig);
	shadow_ring(&rig, 1);
	shadow_reap(&rig, 1);
	rig_close(&rig);
}

static void wrong_shadow_pages_are_refused(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	assert_status(dbbuf(&rig, SHADOW + 8, EVENT), INVALID_PRP_OFFSET);
	assert_status(dbbuf(&rig, SHADOW, EVENT + 8), INVALID_PRP_OFFSET);
	assert_status(dbbuf(&rig, SHADOW, SHADOW), INVALID_FIELD);
	assert_status(dbbuf(&rig, RIG_MEM_BYTES, EVENT), INVALID_FIELD);
	assert_status(dbbuf(&rig, SHADOW, RIG_MEM_BYTES), INVALID_FIELD);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	assert_status(rig_io(&rig, 1), SUCCESS);
	rig_close(&rig);
}

static void polled_doorbells_are_found_without_a_write(void **state)
{
	static uint32_t page[NVME_DOORBELLS_BYTES / 4] __attribute__((aligned(4096)));
	struct rig rig;

	rig_init(&rig);
	rig.params.doorbells_polled = true;
	rig.params.doorbells = page;
	rig_ns_add(&rig, "ram", "size=1M");
	rig_guest_open(&rig, &rig.guest);
	rig_enable(&rig);
	rig_io_queues(&rig, 1, 16);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	for (uint32_t i = 0; i < 40; i++) {
		rig_write_sqe(&rig, 1, &rig.sqe);
		__atomic_store_n(&page[2], rig.guest.q[1].tail, __ATOMIC_RELEASE);
		rig_until(&rig, rig_peek(&rig, 1));
		__atomic_store_n(&page[3], rig.guest.q[1].cq_head, __ATOMIC_RELEASE);
	}
	assert_status(dbbuf(&rig, SHADOW, EVENT), INVALID_OPCODE);
	rig_close(&rig);
}

static void lies_are_told_of_once(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	rig_sqe(&rig, NVME_ADMIN_AER, 0);
	rig_write_sqe(&rig, 0, &rig.sqe);
	rig_write_sqe(&rig, 0, &rig.sqe);
	rig_ring(&rig, 0);
	rig_settle(&rig);
	rig_reg32_set(&rig, NVME_REG_DOORBELLS + 8, 64); /* the tail of a queue of 64 */
	rig_reap(&rig, 0);
	assert_int_equal(le32_get(rig.cqe.dw0), 0x010100);
	rig_reg32_set(&rig, NVME_REG_DOORBELLS + 12, 5);    /* a head beyond what was posted */
	rig_reg32_set(&rig, NVME_REG_DOORBELLS + 8 * 7, 1); /* no such queue */
	rig_settle(&rig);
	assert_false(rig_peek(&rig, 0)); /* errors are masked until their log page is read */
	/* the queue is none the worse for it */
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	assert_status(rig_io(&rig, 1), SUCCESS);
	rig_close(&rig);
}

static void a_doorbell_of_no_queue_is_told_of(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	rig_sqe(&rig, NVME_ADMIN_AER, 0);
	rig_write_sqe(&rig, 0, &rig.sqe);
	rig_ring(&rig, 0);
	rig_settle(&rig);
	rig_reg32_set(&rig, NVME_REG_DOORBELLS + 8 * 7, 1);
	rig_reap(&rig, 0);
	assert_int_equal(le32_get(rig.cqe.dw0), 0x010000);
	rig_reg32_set(&rig, NVME_REG_DOORBELLS + NVME_DOORBELLS_BYTES - 4, 1);
	rig_reg32_set(&rig, NVME_REG_DOORBELLS + NVME_DOORBELLS_BYTES, 1);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_idle_queue_is_rung_and_a_busy_one_is_not),
		cmocka_unit_test(each_doorbell_of_a_sleeping_queue_traps),
		cmocka_unit_test(queues_that_are_there_go_over_to_the_shadow),
		cmocka_unit_test(shadow_pages_that_go_away_suspend_the_queues),
		cmocka_unit_test(wrong_shadow_pages_are_refused),
		cmocka_unit_test(polled_doorbells_are_found_without_a_write),
		cmocka_unit_test(lies_are_told_of_once),
		cmocka_unit_test(a_doorbell_of_no_queue_is_told_of),
	};

	return cmocka_run_group_tests_name("nvme doorbell", tests, NULL, NULL);
}
