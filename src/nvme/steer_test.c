#include "nvme/nvme_rig.h"

#define SHADOW 0x1800000u
#define EVENT  0x1801000u

/* ---- looking at queues ---- */

struct look {
	uint32_t qid;
	struct queue_stats stats;
	bool found;
};

static void look_at(const struct queue_stats *stats, void *arg)
{
	struct look *look = arg;

	if (stats->idx != look->qid)
		return;
	look->stats = *stats;
	look->found = true;
}

static enum queue_state queue_state(struct rig *rig, uint32_t qid)
{
	struct look look = { .qid = qid };
	const struct queue_visitor v = { .queue = look_at, .arg = &look };

	nvme_ctrl_queues_visit(rig->guest.ctrl, &v);
	return look.found ? look.stats.state : QUEUE_STOPPED;
}

static bool queue_is_on(struct rig *rig, uint32_t qid, const struct loop *loop)
{
	struct look look = { .qid = qid };
	const struct queue_visitor v = { .queue = look_at, .arg = &look };

	nvme_ctrl_queues_visit(rig->guest.ctrl, &v);
	return look.found && look.stats.loop && !strcmp(look.stats.loop, loop_name(loop));
}

static void queue_moves(struct rig *rig, uint32_t qid, struct loop *loop)
{
	struct err err = { 0 };

	assert_int_equal(nvme_ctrl_queue_move(rig->guest.ctrl, qid, loop, &err), 0);
	rig_until(rig, queue_is_on(rig, qid, loop) && queue_state(rig, qid) == QUEUE_RUNNING);
}

static void drain(struct rig *rig)
{
	nvme_ctrl_drain(rig->guest.ctrl, true);
	rig_until(rig, queue_state(rig, 1) == QUEUE_DRAINED);
}

static void other_loop_make(struct rig *rig)
{
	const struct loop_params lp = { .name = "other", .cpu = -1, .sq_count = 64 };
	struct err err = { 0 };

	assert_int_equal(loop_new(&lp, &rig->other_loop, &err), 0);
}

static void reads_write(struct rig *rig, uint16_t qid, uint32_t count)
{
	rig_sqe_rw(rig, NVME_IO_READ, 0, 1);
	for (uint32_t i = 0; i < count; i++)
		rig_write_sqe(rig, qid, &rig->sqe);
	rig_ring(rig, qid);
}

/* ---- drained ---- */

static void a_drained_controller_ends_what_is_under_way_and_fetches_no_more(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "sim", "size=1M");
	blk_sim_hold(rig.dev, true);
	reads_write(&rig, 1, 3);
	rig_settle(&rig);
	nvme_ctrl_drain(rig.guest.ctrl, true);
	rig_settle(&rig);
	assert_int_equal(queue_state(&rig, 1), QUEUE_RUNNING); /* three are under way */
	reads_write(&rig, 1, 5);
	rig_settle(&rig);
	blk_sim_hold(rig.dev, false);
	rig_until(&rig, queue_state(&rig, 1) == QUEUE_DRAINED);
	for (uint32_t i = 0; i < 3; i++)
		rig_reap(&rig, 1);
	assert_int_equal(le16_get(rig.cqe.sqhd), 3);
	rig_settle(&rig);
	assert_false(rig_peek(&rig, 1));
	nvme_ctrl_drain(rig.guest.ctrl, false);
	for (uint32_t i = 0; i < 5; i++)
		rig_reap(&rig, 1);
	assert_int_equal(le16_get(rig.cqe.sqhd), 8);
	rig_until(&rig, queue_state(&rig, 1) == QUEUE_RUNNING);
	rig_close(&rig);
}

static void a_drain_is_called_off_before_it_has_ended(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "sim", "size=1M");
	blk_sim_hold(rig.dev, true);
	reads_write(&rig, 1, 1);
	rig_settle(&rig);
	for (uint32_t i = 0; i < 20; i++) {
		nvme_ctrl_drain(rig.guest.ctrl, true);
		for (uint32_t turns = i % 4; turns; turns--)
			rig_turn(&rig);
		nvme_ctrl_drain(rig.guest.ctrl, false);
		for (uint32_t turns = i % 3; turns; turns--)
			rig_turn(&rig);
	}
	rig_settle(&rig);
	reads_write(&rig, 1, 4);
	blk_sim_hold(rig.dev, false);
	for (uint32_t i = 0; i < 5; i++)
		rig_reap(&rig, 1);
	nvme_ctrl_drain(rig.guest.ctrl, true);
	nvme_ctrl_drain(rig.guest.ctrl, false);
	nvme_ctrl_drain(rig.guest.ctrl, true);
	rig_until(&rig, queue_state(&rig, 1) == QUEUE_DRAINED);
	rig_settle(&rig);
	assert_int_equal(queue_state(&rig, 1), QUEUE_DRAINED);
	rig_close(&rig);
}

static void requests_for_events_do_not_count_and_the_admin_queue_goes_on(void **state)
{
	struct look look = { .qid = 0 };
	const struct queue_visitor v = { .queue = look_at, .arg = &look };
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	rig_sqe(&rig, NVME_ADMIN_AER, 0);
	rig_write_sqe(&rig, 0, &rig.sqe);
	rig_ring(&rig, 0);
	rig_settle(&rig);
	drain(&rig);
	nvme_ctrl_queues_visit(rig.guest.ctrl, &v);
	assert_int_equal(look.stats.in_flight, 0);
	rig_sqe(&rig, NVME_ADMIN_IDENTIFY, 0)->cdw10 = le32(1);
	assert_status(rig_admin(&rig), SUCCESS);
	nvme_event(rig.guest.ctrl, NVME_EVENT_ERROR, 3, 1);
	rig_reap(&rig, 0);
	assert_int_equal(le32_get(rig.cqe.dw0), 0x010300);
	rig_close(&rig);
}

static void queues_made_while_drained_wait_as_well(void **state)
{
	struct rig rig;

	rig_open(&rig, "ram", "size=1M");
	nvme_ctrl_drain(rig.guest.ctrl, true);
	rig_enable(&rig);
	rig_io_queues(&rig, 1, 16);
	rig_io_queues(&rig, 2, 16);
	assert_int_equal(queue_state(&rig, 2), QUEUE_DRAINED);
	reads_write(&rig, 2, 4);
	rig_settle(&rig);
	assert_false(rig_peek(&rig, 2));
	nvme_ctrl_drain(rig.guest.ctrl, false);
	for (uint32_t i = 0; i < 4; i++)
		rig_reap(&rig, 2);
	rig_close(&rig);
}

static void a_drained_queue_is_deleted_and_its_controller_reset_and_shut_down(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	rig_io_queues(&rig, 2, 16);
	drain(&rig);
	reads_write(&rig, 1, 4);
	reads_write(&rig, 2, 4);
	assert_status(rig_delete_queue(&rig, NVME_ADMIN_DELETE_SQ, 2), SUCCESS);
	assert_status(rig_delete_queue(&rig, NVME_ADMIN_DELETE_CQ, 2), SUCCESS);
	rig_disable(&rig);
	rig_enable(&rig);
	rig_io_queues(&rig, 1, 16);
	reads_write(&rig, 1, 4);
	rig_reg32_set(&rig, NVME_REG_CC, RIG_CC | 1u << 14);
	rig_until(&rig, (rig_reg32(&rig, NVME_REG_CSTS) & 0xc) == NVME_CSTS_SHST(2));
	nvme_ctrl_reset(rig.guest.ctrl);
	rig_until(&rig, !rig_reg32(&rig, NVME_REG_CSTS));
	nvme_ctrl_drain(rig.guest.ctrl, false);
	rig_enable(&rig);
	rig_io_queues(&rig, 1, 16);
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	assert_status(rig_io(&rig, 1), SUCCESS);
	drain(&rig);
	reads_write(&rig, 1, 4);
	rig_close(&rig); /* drained, with commands in the ring */
}

static void a_drained_controller_is_quiesced_saved_and_taken_over(void **state)
{
	struct rig rig;
	struct rig_guest *g = &rig.guest;
	struct nvme_ctrl_params params;
	struct err err = { 0 };
	void *bytes;
	size_t len;

	rig_open_ready(&rig, "ram", "size=1M");
	rig_sqe_rw(&rig, NVME_IO_READ, 0, 1);
	for (uint32_t i = 0; i < 70; i++)
		assert_status(rig_io(&rig, 1), SUCCESS);
	drain(&rig);
	reads_write(&rig, 1, 7);
	rig_quiesce(&rig);
	assert_int_equal(queue_state(&rig, 1), QUEUE_DRAINED);
	assert_int_equal(nvme_ctrl_save(g->ctrl, &bytes, &len), 0);
	nvme_ctrl_free(g->ctrl, rig_freed);
	rig_until(&rig, g->freed);
	g->freed = 0;
	params = rig.params;
	params.port = g;
	assert_int_equal(nvme_ctrl_new(rig.subsys, &params, &g->ctrl, &err), 0);
	nvme_ctrl_drain(g->ctrl, true);
	rig_quiesce(&rig);
	if (nvme_ctrl_load(g->ctrl, bytes, len, &err) < 0)
		fail_msg("%s", err.msg);
	free(bytes);
	nvme_ctrl_maps_set(g->ctrl, g->map, g->map);
	nvme_ctrl_resume(g->ctrl);
	rig_settle(&rig);
	assert_int_equal(queue_state(&rig, 1), QUEUE_DRAINED);
	assert_false(rig_peek(&rig, 1));
	nvme_ctrl_drain(g->ctrl, false);
	for (uint32_t i = 0; i < 7; i++)
		rig_reap(&rig, 1);
	rig_close(&rig);
}

static void a_quiesce_and_a_drain_end_in_any_order(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "sim", "size=1M");
	for (uint32_t i = 0; i < 4; i++) {
		blk_sim_hold(rig.dev, true);
		reads_write(&rig, 1, 1);
		rig_settle(&rig);
		if (i & 1)
			nvme_ctrl_drain(rig.guest.ctrl, true);
		nvme_ctrl_quiesce(rig.guest.ctrl, rig_quiet);
		if (!(i & 1))
			nvme_ctrl_drain(rig.guest.ctrl, true);
		rig_settle(&rig);
		assert_int_equal(rig.guest.quiet, i);
		blk_sim_hold(rig.dev, false);
		rig_until(&rig, rig.guest.quiet == i + 1);
		rig_until(&rig, queue_state(&rig, 1) == QUEUE_DRAINED);
		rig_reap(&rig, 1);
		reads_write(&rig, 1, 1);
		if (i & 2)
			nvme_ctrl_drain(rig.guest.ctrl, false);
		nvme_ctrl_resume(rig.guest.ctrl);
		if (!(i & 2)) {
			rig_settle(&rig);
			assert_false(rig_peek(&rig, 1));
			nvme_ctrl_drain(rig.guest.ctrl, false);
		}
		rig_reap(&rig, 1);
	}
	rig_close(&rig);
}

static void completions_that_a_guest_has_not_taken_are_told_of_while_drained(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	nvme_ctrl_msix_enable(rig.guest.ctrl, false);
	nvme_ctrl_intx_fd_set(rig.guest.ctrl, dup(rig.guest.vector_fd[0]));
	rig_interrupts(&rig, 0);
	reads_write(&rig, 1, 1);
	assert_true(rig_interrupts(&rig, 0));
	drain(&rig);
	nvme_ctrl_intx_unmask(rig.guest.ctrl);
	assert_true(rig_interrupts(&rig, 0));
	rig_reap(&rig, 1);
	rig_close(&rig);
}

/* ---- moved ---- */

static void a_queue_goes_on_on_another_loop_and_comes_back(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	other_loop_make(&rig);
	rig_io_queues(&rig, 2, 16);
	for (uint32_t i = 0; i < 20; i++) {
		queue_moves(&rig, 1, i & 1 ? rig.data_loop : rig.other_loop);
		assert_true(queue_is_on(&rig, 2, rig.data_loop));
		rig_interrupts(&rig, 1);
		memset(rig_mem(&rig, RIG_DATA), (int)i, 512);
		rig_sqe_rw(&rig, NVME_IO_WRITE, i, 1);
		assert_status(rig_io(&rig, 1), SUCCESS);
		assert_int_equal(rig_interrupts(&rig, 1), 1);
		memset(rig_mem(&rig, RIG_DATA), 0xee, 512);
		rig_sqe_rw(&rig, NVME_IO_READ, i, 1);
		assert_status(rig_io(&rig, 2), SUCCESS);
		assert_int_equal(*(uint8_t *)rig_mem(&rig, RIG_DATA), i);
	}
	rig_close(&rig);
}

static void only_io_queues_are_moved(void **state)
{
	struct rig rig;
	struct err err = { 0 };

	rig_open_ready(&rig, "ram", "size=1M");
	assert_int_equal(nvme_ctrl_queue_move(rig.guest.ctrl, 0, rig.data_loop, &err), -ERANGE);
	assert_string_equal(err.msg,
			    "queue: expected 1..8, the identifier of a completion queue, got 0");
	assert_int_equal(nvme_ctrl_queue_move(rig.guest.ctrl, RIG_QUEUES + 1, rig.data_loop, &err),
			 -ERANGE);
	rig_close(&rig);
}

static void a_queue_stays_where_it_was_put_over_resets(void **state)
{
	struct rig rig;
	struct err err = { 0 };

	rig_open_ready(&rig, "ram", "size=1M");
	other_loop_make(&rig);
	queue_moves(&rig, 1, rig.other_loop);
	/* one that is not there yet */
	assert_int_equal(nvme_ctrl_queue_move(rig.guest.ctrl, 2, rig.other_loop, &err), 0);
	rig_disable(&rig);
	rig_enable(&rig);
	for (uint16_t qid = 1; qid <= 3; qid++)
		rig_io_queues(&rig, qid, 16);
	assert_true(queue_is_on(&rig, 1, rig.other_loop));
	assert_true(queue_is_on(&rig, 2, rig.other_loop));
	assert_true(queue_is_on(&rig, 3, rig.data_loop));
	rig_close(&rig);
}

static void a_move_waits_for_commands_and_is_called_off_by_one_back(void **state)
{
	struct rig rig;
	struct err err = { 0 };

	rig_open_ready(&rig, "sim", "size=1M");
	other_loop_make(&rig);
	blk_sim_hold(rig.dev, true);
	reads_write(&rig, 1, 2);
	rig_settle(&rig);
	nvme_ctrl_queue_move(rig.guest.ctrl, 1, rig.other_loop, &err);
	rig_settle(&rig);
	assert_true(queue_is_on(&rig, 1, rig.data_loop));
	nvme_ctrl_queue_move(rig.guest.ctrl, 1, rig.data_loop, &err);
	rig_settle(&rig);
	reads_write(&rig, 1, 2);
	rig_settle(&rig);
	nvme_ctrl_queue_move(rig.guest.ctrl, 1, rig.other_loop, &err);
	reads_write(&rig, 1, 2);
	rig_settle(&rig);
	blk_sim_hold(rig.dev, false);
	for (uint32_t i = 0; i < 6; i++)
		rig_reap(&rig, 1);
	assert_true(queue_is_on(&rig, 1, rig.other_loop));
	rig_close(&rig);
}

/* At each step of a move: what main wants meanwhile reaches the queue where it then is. */
static void a_queue_that_is_on_its_way_is_found_by_all(void **state)
{
	struct rig rig;
	struct err err = { 0 };

	rig_open_ready(&rig, "ram", "size=1M");
	other_loop_make(&rig);
	for (uint32_t i = 0; i < 60; i++) {
		uint32_t quiet = rig.guest.quiet;

		nvme_ctrl_queue_move(rig.guest.ctrl, 1, i & 1 ? rig.data_loop : rig.other_loop,
				     &err);
		for (uint32_t turns = i % 6; turns; turns--)
			rig_turn(&rig);
		switch (i % 5) {
		case 0: /* memory, and with it the rings */
			nvme_ctrl_quiesce(rig.guest.ctrl, rig_quiet);
			rig_until(&rig, rig.guest.quiet == quiet + 1);
			nvme_ctrl_maps_set(rig.guest.ctrl, rig.guest.map, rig.guest.map);
			nvme_ctrl_resume(rig.guest.ctrl);
			break;
		case 1: /* a submission queue more */
			assert_status(rig_create_sq(&rig, 2, 16, 1), SUCCESS);
			reads_write(&rig, 2, 3);
			for (uint32_t n = 0; n < 3; n++)
				rig_reap(&rig, 1);
			assert_status(rig_delete_queue(&rig, NVME_ADMIN_DELETE_SQ, 2), SUCCESS);
			break;
		case 2: /* another descriptor */
			nvme_ctrl_vector_fd_set(rig.guest.ctrl, 1, dup(rig.guest.vector_fd[1]));
			break;
		case 3: /* a sweep */
			rig_sqe(&rig, NVME_ADMIN_ABORT, 0)->cdw10 = le32(0xffff0001);
			assert_status(rig_admin(&rig), SUCCESS);
			assert_int_equal(le32_get(rig.cqe.dw0), 1);
			break;
		case 4: /* the end */
			rig_disable(&rig);
			rig_enable(&rig);
			rig_io_queues(&rig, 1, 64);
			break;
		}
		rig_interrupts(&rig, 1);
		reads_write(&rig, 1, 2);
		rig_reap(&rig, 1);
		rig_reap(&rig, 1);
		assert_true(rig_interrupts(&rig, 1));
	}
	nvme_ctrl_queue_move(rig.guest.ctrl, 1, rig.data_loop, &err);
	nvme_ctrl_queue_move(rig.guest.ctrl, 1, rig.other_loop, &err);
	rig_close(&rig);
}

static void a_drained_queue_is_moved_and_stays_drained(void **state)
{
	struct rig rig;
	struct err err = { 0 };

	rig_open_ready(&rig, "ram", "size=1M");
	other_loop_make(&rig);
	drain(&rig);
	reads_write(&rig, 1, 2);
	nvme_ctrl_queue_move(rig.guest.ctrl, 1, rig.other_loop, &err);
	rig_until(&rig, queue_is_on(&rig, 1, rig.other_loop));
	rig_settle(&rig);
	assert_int_equal(queue_state(&rig, 1), QUEUE_DRAINED);
	assert_false(rig_peek(&rig, 1));
	nvme_ctrl_drain(rig.guest.ctrl, false);
	rig_reap(&rig, 1);
	rig_reap(&rig, 1);
	rig_close(&rig);
}

static void completions_that_are_held_back_are_told_before_a_queue_leaves(void **state)
{
	struct rig rig;

	rig_open_ready(&rig, "ram", "size=1M");
	other_loop_make(&rig);
	rig_sqe(&rig, NVME_ADMIN_SET_FEATURES, 0)->cdw10 = le32(NVME_FEAT_COALESCING);
	rig.sqe.cdw11 = le32(255 << 8 | 50); /* 25 ms, 51 completions */
	assert_status(rig_admin(&rig), SUCCESS);
	rig_interrupts(&rig, 1);
	reads_write(&rig, 1, 2);
	rig_reap(&rig, 1);
	rig_reap(&rig, 1);
	assert_int_equal(rig_interrupts(&rig, 1), 0);
	queue_moves(&rig, 1, rig.other_loop);
	assert_int_equal(rig_interrupts(&rig, 1), 1);
	rig_close(&rig);
}

/* ---- under load: every doorbell, with an oracle ---- */

enum bells {
	BELLS_TRAPPED,
	BELLS_POLLED,
	BELLS_SHADOW,
};

struct load {
	struct rig rig;
	enum bells bells;
	uint32_t page[NVME_DOORBELLS_BYTES / 4] __attribute__((aligned(4096)));
	uint32_t rng, busy, done;
	uint8_t slot_stamp[64];
	uint16_t slot_cid[64];
	bool slot_busy[64], slot_write[64];
};

static uint32_t load_random(struct load *l)
{
	l->rng = l->rng * 1664525 + 1013904223;
	return l->rng >> 8;
}

static void load_ring(struct load *l, uint32_t idx, uint32_t old, uint32_t value)
{
	uint32_t *shadow = (uint32_t *)rig_mem(&l->rig, SHADOW) + idx;
	uint16_t event;

	if (l->bells == BELLS_POLLED) {
		__atomic_store_n(&l->page[idx], value, __ATOMIC_RELEASE);
		return;
	}
	if (l->bells == BELLS_SHADOW) {
		__atomic_store_n(shadow, value, __ATOMIC_SEQ_CST);
		event = (uint16_t)__atomic_load_n((uint32_t *)rig_mem(&l->rig, EVENT) + idx,
						  __ATOMIC_SEQ_CST);
		if ((uint16_t)(value - event - 1) >= (uint16_t)(value - old))
			return;
	}
	rig_reg32_set(&l->rig, NVME_REG_DOORBELLS + 4 * idx, value);
}

/* Each slot has a block and a page of its own: a write, or a read that is compared. */
static void load_fill(struct load *l, uint32_t max)
{
	struct rig *rig = &l->rig;
	uint32_t old = rig->guest.q[1].tail;

	for (uint32_t i = 0; i < 62 && max; i++) {
		if (l->slot_busy[i])
			continue;
		max--;
		l->slot_write[i] = load_random(l) & 1;
		rig_sqe_rw(rig, l->slot_write[i] ? NVME_IO_WRITE : NVME_IO_READ, i, 1);
		rig->sqe.prp1 = le64(RIG_DATA + i * NVME_PAGE_BYTES);
		if (l->slot_write[i])
			l->slot_stamp[i]++;
		memset(rig_mem(rig, RIG_DATA + i * NVME_PAGE_BYTES),
		       l->slot_write[i] ? l->slot_stamp[i] : 0xee, 512);
		l->slot_cid[i] = rig_write_sqe(rig, 1, &rig->sqe);
		l->slot_busy[i] = true;
		l->busy++;
	}
	if (old != rig->guest.q[1].tail)
		load_ring(l, 2, old, rig->guest.q[1].tail);
}

static uint32_t load_reap(struct load *l)
{
	struct rig *rig = &l->rig;
	uint32_t old = rig->guest.q[1].cq_head, n = 0;

	while (rig_peek(rig, 1)) {
		uint32_t i = 0;

		assert_status(rig_status(rig), SUCCESS);
		while (i < 62 && !(l->slot_busy[i] && l->slot_cid[i] == le16_get(rig->cqe.cid)))
			i++;
		assert_true(i < 62); /* it is under way, and ended once */
		if (!l->slot_write[i])
			assert_int_equal(
				*(uint8_t *)rig_mem(rig, RIG_DATA + i * NVME_PAGE_BYTES + 511),
				l->slot_stamp[i]);
		l->slot_busy[i] = false;
		l->busy--;
		n++;
	}
	l->done += n;
	if (n)
		load_ring(l, 3, old, rig->guest.q[1].cq_head);
	return n;
}

static void load_open(struct load *l, enum bells bells)
{
	struct rig *rig = &l->rig;

	memset(l, 0, sizeof(*l));
	l->bells = bells;
	l->rng = 1 + (uint32_t)bells;
	rig_init(rig);
	other_loop_make(rig);
	rig->params.doorbells_polled = bells == BELLS_POLLED;
	rig->params.doorbells = bells == BELLS_POLLED ? l->page : NULL;
	rig_ns_add(rig, "sim", "size=1M,delay-min-ns=1000,delay-max-ns=200000");
	rig_guest_open(rig, &rig->guest);
	rig_enable(rig);
	if (bells == BELLS_SHADOW) {
		rig_sqe(rig, NVME_ADMIN_DOORBELL_BUFFER_CONFIG, 0);
		rig->sqe.prp1 = le64(SHADOW);
		rig->sqe.prp2 = le64(EVENT);
		assert_status(rig_admin(rig), SUCCESS);
	}
	rig_io_queues(rig, 1, 64);
}

static void load_moves(enum bells bells)
{
	static struct load l;
	struct err err = { 0 };

	load_open(&l, bells);
	for (uint32_t i = 0; i < 1000; i++) {
		struct loop *to = i & 1 ? l.rig.data_loop : l.rig.other_loop;

		nvme_ctrl_queue_move(l.rig.guest.ctrl, 1, to, &err);
		while (!(queue_is_on(&l.rig, 1, to) && queue_state(&l.rig, 1) == QUEUE_RUNNING)) {
			load_fill(&l, load_random(&l) % 8);
			rig_turn(&l.rig);
			load_reap(&l);
		}
		load_fill(&l, load_random(&l) % 32);
		for (uint32_t turns = load_random(&l) % 8; turns; turns--)
			rig_turn(&l.rig);
	}
	rig_until(&l.rig, (load_reap(&l), !l.busy));
	assert_true(l.done > 1000);
	/* and the interrupt of the last one */
	rig_interrupts(&l.rig, 1);
	load_fill(&l, 1);
	rig_until(&l.rig, load_reap(&l));
	assert_true(rig_interrupts(&l.rig, 1));
	rig_close(&l.rig);
}

static void a_queue_moves_a_thousand_times_under_load_with_trapped_doorbells(void **state)
{
	load_moves(BELLS_TRAPPED);
}

static void a_queue_moves_a_thousand_times_under_load_with_mapped_doorbells(void **state)
{
	load_moves(BELLS_POLLED);
}

static void a_queue_moves_a_thousand_times_under_load_with_shadow_doorbells(void **state)
{
	load_moves(BELLS_SHADOW);
}

static void load_drains(enum bells bells)
{
	static struct load l;

	load_open(&l, bells);
	for (uint32_t i = 0; i < 100; i++) {
		uint32_t left;

		load_fill(&l, 40);
		for (uint32_t turns = load_random(&l) % 8; turns; turns--)
			rig_turn(&l.rig);
		nvme_ctrl_drain(l.rig.guest.ctrl, true);
		while (queue_state(&l.rig, 1) != QUEUE_DRAINED)
			rig_turn(&l.rig);
		load_reap(&l);
		load_fill(&l, 20);
		left = l.busy;
		rig_settle(&l.rig);
		assert_int_equal(load_reap(&l), 0);
		nvme_ctrl_drain(l.rig.guest.ctrl, false);
		rig_until(&l.rig, (load_reap(&l), !l.busy));
		assert_true(left);
	}
	rig_close(&l.rig);
}

static void
a_drained_controller_completes_nothing_until_resumed_whatever_its_doorbells(void **state)
{
	load_drains(BELLS_TRAPPED);
	load_drains(BELLS_POLLED);
	load_drains(BELLS_SHADOW);
}

/* ---- fused pairs ---- */

/* Pairs whose halves come with the same doorbell, and wait for room: neither is left behind. */
static void fused_pairs_move_whole(void **state)
{
	struct rig rig;
	struct err err = { 0 };

	rig_open_ready(&rig, "sim", "size=1M,delay-min-ns=1000,delay-max-ns=100000");
	other_loop_make(&rig);
	for (uint32_t i = 0; i < 100; i++) {
		for (uint32_t pair = 0; pair < 6; pair++) {
			rig_sqe_rw(&rig, NVME_IO_COMPARE, 0, 1)->flags = NVME_SQE_FUSE_FIRST;
			rig_write_sqe(&rig, 1, &rig.sqe);
			rig_sqe_rw(&rig, NVME_IO_WRITE, 0, 1)->flags = NVME_SQE_FUSE_SECOND;
			rig_write_sqe(&rig, 1, &rig.sqe);
		}
		rig_ring(&rig, 1);
		for (uint32_t turns = i % 5; turns; turns--)
			rig_turn(&rig);
		nvme_ctrl_queue_move(rig.guest.ctrl, 1, i & 1 ? rig.data_loop : rig.other_loop,
				     &err);
		for (uint32_t n = 0; n < 12; n++) {
			rig_reap(&rig, 1);
			assert_status(rig_status(&rig), SUCCESS);
		}
	}
	rig_close(&rig);
}

#define T(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_drained_controller_ends_what_is_under_way_and_fetches_no_more),
		T(a_drain_is_called_off_before_it_has_ended),
		T(requests_for_events_do_not_count_and_the_admin_queue_goes_on),
		T(queues_made_while_drained_wait_as_well),
		T(a_drained_queue_is_deleted_and_its_controller_reset_and_shut_down),
		T(a_drained_controller_is_quiesced_saved_and_taken_over),
		T(a_quiesce_and_a_drain_end_in_any_order),
		T(completions_that_a_guest_has_not_taken_are_told_of_while_drained),
		T(a_queue_goes_on_on_another_loop_and_comes_back),
		T(only_io_queues_are_moved),
		T(a_queue_stays_where_it_was_put_over_resets),
		T(a_move_waits_for_commands_and_is_called_off_by_one_back),
		T(a_queue_that_is_on_its_way_is_found_by_all),
		T(a_drained_queue_is_moved_and_stays_drained),
		T(completions_that_are_held_back_are_told_before_a_queue_leaves),
		T(a_queue_moves_a_thousand_times_under_load_with_trapped_doorbells),
		T(a_queue_moves_a_thousand_times_under_load_with_mapped_doorbells),
		T(a_queue_moves_a_thousand_times_under_load_with_shadow_doorbells),
		T(a_drained_controller_completes_nothing_until_resumed_whatever_its_doorbells),
		T(fused_pairs_move_whole),
	};

	return cmocka_run_group_tests_name("nvme steer", tests, NULL, NULL);
}
