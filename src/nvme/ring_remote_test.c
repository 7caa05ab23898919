/* Queues in memory that no map has; the port's messages are the test's. */
#include <errno.h>

#include "nvme/nvme_rig.h"

static struct {
	bool hold;	  /* transfers wait */
	bool hold_writes; /* those to the guest */
	int rc;		  /* how the others end */
	uint32_t asked;	  /* so far */
	uint32_t to_guest;
	uint64_t least; /* below it nothing is the guest's */
	struct nvme_dma *held[16];
	uint32_t held_count;
	struct rig_guest *guest;
} port;

static void dma_told(struct loop_msg *msg)
{
	struct nvme_dma *dma = container_of(msg, struct nvme_dma, msg);

	dma->done(dma, dma->rc);
}

static void dma_end(struct nvme_dma *dma, int rc)
{
	uint8_t *at = port.guest->mem + dma->iova;

	assert_true(dma->iova + dma->len_bytes <= RIG_MEM_BYTES);
	if (!rc && dma->to_guest)
		memcpy(at, dma->buf, dma->len_bytes);
	else if (!rc)
		memcpy(dma->buf, at, dma->len_bytes);
	dma->rc = rc;
	dma->msg.fn = dma_told;
	loop_post(dma->loop, &dma->msg);
}

static void port_dma(void *arg, struct nvme_dma *dma)
{
	port.asked++;
	port.to_guest += dma->to_guest;
	if (port.hold || (port.hold_writes && dma->to_guest))
		port.held[port.held_count++] = dma;
	else
		dma_end(dma, port.rc);
}

static bool port_dma_has(void *arg, uint64_t iova, uint64_t len_bytes, bool to_guest)
{
	return iova >= port.least && iova + len_bytes <= RIG_MEM_BYTES;
}

static const struct nvme_port_ops port_ops = {
	.state_changed = rig_state_changed,
	.dma = port_dma,
	.dma_has = port_dma_has,
};

static void held_go(int rc)
{
	port.hold = port.hold_writes = false;
	for (uint32_t i = 0; i < port.held_count; i++)
		dma_end(port.held[i], rc);
	port.held_count = 0;
}

/* A guest of which nothing is mapped. */
static void remote_open(struct rig *rig)
{
	memset(&port, 0, sizeof(port));
	rig_init(rig);
	rig->params.ops = &port_ops;
	port.guest = &rig->guest;
	rig_ns_add(rig, "ram", "size=1M");
	rig_guest_open(rig, &rig->guest);
	nvme_ctrl_maps_set(rig->guest.ctrl, NULL, NULL);
}

static void remote_open_ready(struct rig *rig, uint32_t size)
{
	remote_open(rig);
	rig_enable(rig);
	assert_int_equal(rig_reg32(rig, NVME_REG_CSTS), NVME_CSTS_RDY);
	rig_io_queues(rig, 1, size);
}

static void flushes_write(struct rig *rig, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		rig_sqe_rw(rig, NVME_IO_FLUSH, 0, 1);
		rig_write_sqe(rig, 1, &rig->sqe);
	}
	rig_ring(rig, 1);
}

static void commands_go_round_rings_that_are_not_mapped(void **state)
{
	struct rig rig;

	remote_open_ready(&rig, 5);
	rig_interrupts(&rig, 1);
	for (uint32_t turn = 0; turn < 40; turn++) {
		uint8_t *data = rig_mem(&rig, RIG_DATA);

		memset(data, (int)turn, 512);
		rig_sqe_rw(&rig, NVME_IO_WRITE, turn, 1);
		assert_status(rig_io(&rig, 1), SUCCESS);
		memset(data, 0xee, 512);
		rig_sqe_rw(&rig, NVME_IO_READ, turn, 1);
		assert_status(rig_io(&rig, 1), SUCCESS);
		assert_int_equal(data[511], turn);
		assert_true(rig_interrupts(&rig, 1));
	}
	rig_close(&rig);
}

static void several_commands_are_read_at_once_over_the_end_of_the_ring(void **state)
{
	struct rig rig;

	remote_open_ready(&rig, 8);
	for (uint32_t turn = 0; turn < 10; turn++) {
		flushes_write(&rig, 5);
		for (uint32_t i = 0; i < 5; i++) {
			rig_reap(&rig, 1);
			assert_status(rig_status(&rig), SUCCESS);
		}
	}
	rig_close(&rig);
}

static void no_interrupt_comes_before_its_completion_is_written(void **state)
{
	struct rig rig;

	remote_open_ready(&rig, 8);
	rig_interrupts(&rig, 1);
	flushes_write(&rig, 1);
	rig_until(&rig, port.asked && rig.guest.ctrl->queues.sq[1]->head == 1);
	port.hold = true;
	rig_until(&rig, port.held_count || rig_peek(&rig, 1));
	if (port.held_count)
		assert_int_equal(rig_interrupts(&rig, 1), 0);
	held_go(0);
	rig_until(&rig, rig_interrupts(&rig, 1));
	rig_close(&rig);
}

static void a_quiesce_waits_for_transfers_under_way(void **state)
{
	struct rig rig;

	remote_open_ready(&rig, 8);
	port.hold = true;
	flushes_write(&rig, 2);
	rig_until(&rig, port.held_count);
	nvme_ctrl_quiesce(rig.guest.ctrl, rig_quiet);
	rig_settle(&rig);
	assert_int_equal(rig.guest.quiet, 0);
	held_go(0);
	rig_until(&rig, rig.guest.quiet);
	port.asked = 0;
	rig_settle(&rig);
	assert_int_equal(port.asked, 0);
	nvme_ctrl_resume(rig.guest.ctrl);
	rig_reap(&rig, 1);
	rig_reap(&rig, 1);
	rig_close(&rig);
}

static void a_reset_waits_for_transfers_under_way(void **state)
{
	struct rig rig;

	remote_open_ready(&rig, 8);
	port.hold = true;
	flushes_write(&rig, 2);
	rig_until(&rig, port.held_count);
	rig_reg32_set(&rig, NVME_REG_CC, 0);
	rig_settle(&rig);
	assert_true(rig_reg32(&rig, NVME_REG_CSTS) & NVME_CSTS_RDY);
	held_go(0);
	rig_until(&rig, !(rig_reg32(&rig, NVME_REG_CSTS) & NVME_CSTS_RDY));
	rig_enable(&rig);
	rig_io_queues(&rig, 1, 8);
	rig_sqe_rw(&rig, NVME_IO_FLUSH, 0, 1);
	assert_status(rig_io(&rig, 1), SUCCESS);
	rig_close(&rig);
}

static void a_transfer_that_fails_for_a_while_is_made_again(void **state)
{
	struct rig rig;

	remote_open_ready(&rig, 8);
	port.rc = -EFAULT;
	port.asked = 0;
	flushes_write(&rig, 1);
	rig_until(&rig, port.asked > 2);
	port.rc = 0;
	rig_reap(&rig, 1);
	assert_status(rig_status(&rig), SUCCESS);
	rig_close(&rig);
}

static void a_transfer_that_keeps_failing_fails_the_controller(void **state)
{
	struct rig rig;

	remote_open_ready(&rig, 8);
	port.rc = -EIO;
	flushes_write(&rig, 1);
	rig_until(&rig, rig_reg32(&rig, NVME_REG_CSTS) & NVME_CSTS_CFS);
	port.rc = 0;
	rig_disable(&rig);
	rig_enable(&rig);
	rig_io_queues(&rig, 1, 8);
	rig_sqe_rw(&rig, NVME_IO_FLUSH, 0, 1);
	assert_status(rig_io(&rig, 1), SUCCESS);
	rig_close(&rig);
}

/* The client waits for an answer, and its transfers were failed for that. */
static void what_fails_while_quiet_is_made_again_afterwards(void **state)
{
	struct rig rig;

	remote_open_ready(&rig, 8);
	port.hold = true;
	flushes_write(&rig, 1);
	rig_until(&rig, port.held_count);
	nvme_ctrl_quiesce(rig.guest.ctrl, rig_quiet);
	rig_settle(&rig);
	held_go(-EIO);
	rig_until(&rig, rig.guest.quiet);
	nvme_ctrl_resume(rig.guest.ctrl);
	rig_reap(&rig, 1);
	assert_status(rig_status(&rig), SUCCESS);
	rig_close(&rig);
}

static enum queue_state first_state;

static void first_look(const struct queue_stats *stats, void *arg)
{
	if (stats->idx == 1)
		first_state = stats->state;
}

static bool first_is(struct rig *rig, enum queue_state state)
{
	const struct queue_visitor v = { .queue = first_look };

	nvme_ctrl_queues_visit(rig->guest.ctrl, &v);
	return first_state == state;
}

/* What was being read is read; nothing more, also of what could not be. */
static void a_drained_queue_reads_no_entries_and_its_completions_are_written(void **state)
{
	struct rig rig;
	uint32_t asked;

	remote_open_ready(&rig, 16);
	port.hold = true;
	flushes_write(&rig, 2);
	rig_until(&rig, port.held_count);
	nvme_ctrl_drain(rig.guest.ctrl, true);
	rig_settle(&rig);
	assert_true(first_is(&rig, QUEUE_RUNNING));
	held_go(-EIO);
	rig_until(&rig, first_is(&rig, QUEUE_DRAINED));
	asked = port.asked;
	flushes_write(&rig, 1);
	rig_settle(&rig);
	assert_int_equal(port.asked, asked);
	nvme_ctrl_drain(rig.guest.ctrl, false);
	for (uint32_t i = 0; i < 3; i++)
		rig_reap(&rig, 1);
	/* completions that are under way, and wait for their next try */
	flushes_write(&rig, 2);
	rig_until(&rig, port.asked > asked + 2);
	port.rc = -EIO;
	nvme_ctrl_drain(rig.guest.ctrl, true);
	rig_settle(&rig);
	port.rc = 0;
	rig_until(&rig, first_is(&rig, QUEUE_DRAINED));
	nvme_ctrl_drain(rig.guest.ctrl, false);
	rig_reap(&rig, 1);
	rig_reap(&rig, 1);
	rig_close(&rig);
}

static void a_queue_by_messages_moves_to_another_loop(void **state)
{
	const struct loop_params lp = { .name = "other", .cpu = -1, .sq_count = 64 };
	struct err err = { 0 };
	struct rig rig;

	remote_open_ready(&rig, 16);
	assert_int_equal(loop_new(&lp, &rig.other_loop, &err), 0);
	for (uint32_t i = 0; i < 50; i++) {
		flushes_write(&rig, 3);
		for (uint32_t turns = i % 7; turns; turns--)
			rig_turn(&rig);
		nvme_ctrl_queue_move(rig.guest.ctrl, 1, i & 1 ? rig.data_loop : rig.other_loop,
				     &err);
		for (uint32_t n = 0; n < 3; n++) {
			rig_reap(&rig, 1);
			assert_status(rig_status(&rig), SUCCESS);
		}
	}
	rig_close(&rig);
}

static void queues_go_on_when_their_memory_is_mapped_and_when_it_is_not(void **state)
{
	struct rig rig;

	remote_open_ready(&rig, 8);
	for (uint32_t turn = 0; turn < 20; turn++) {
		struct gmem *map = turn & 1 ? NULL : rig.guest.map;

		flushes_write(&rig, 3);
		rig_quiesce(&rig);
		nvme_ctrl_maps_set(rig.guest.ctrl, map, map);
		nvme_ctrl_resume(rig.guest.ctrl);
		for (uint32_t i = 0; i < 3; i++)
			rig_reap(&rig, 1);
	}
	rig_close(&rig);
}

/* Another controller takes the guest over; mapped: it has the guest's memory. */
static void move(struct rig *rig, bool mapped)
{
	struct rig_guest *g = &rig->guest;
	struct nvme_ctrl_params params = rig->params;
	struct err err = { 0 };
	void *bytes;
	size_t len;

	assert_int_equal(nvme_ctrl_save(g->ctrl, &bytes, &len), 0);
	nvme_ctrl_free(g->ctrl, rig_freed);
	rig_until(rig, g->freed);
	g->freed = 0;
	params.port = g;
	assert_int_equal(nvme_ctrl_new(rig->subsys, &params, &g->ctrl, &err), 0);
	for (uint32_t v = 0; v < RIG_VECTORS; v++)
		nvme_ctrl_vector_fd_set(g->ctrl, v, dup(g->vector_fd[v]));
	nvme_ctrl_msix_enable(g->ctrl, true);
	rig_quiesce(rig);
	if (nvme_ctrl_load(g->ctrl, bytes, len, &err) < 0)
		fail_msg("%s", err.msg);
	free(bytes);
	if (mapped)
		nvme_ctrl_maps_set(g->ctrl, g->map, g->map);
	nvme_ctrl_resume(g->ctrl);
}

static void completions_not_yet_written_move_with_their_controller(void **state)
{
	for (uint32_t mapped = 0; mapped < 2; mapped++) {
		struct rig rig;

		remote_open_ready(&rig, 8);
		port.hold_writes = true;
		flushes_write(&rig, 3);
		rig_until(&rig, rig.guest.ctrl->queues.sq[1]->outstanding == 0 &&
					rig.guest.ctrl->queues.cq[1]->tail == 3);
		rig_settle(&rig);
		nvme_ctrl_quiesce(rig.guest.ctrl, rig_quiet);
		rig_settle(&rig);
		held_go(-EIO); /* the client serves nothing, since it waits for an answer */
		rig_until(&rig, rig.guest.quiet);
		rig.guest.quiet = 0;
		assert_false(rig_peek(&rig, 1));
		rig_interrupts(&rig, 1);
		move(&rig, mapped);
		for (uint32_t i = 0; i < 3; i++) {
			rig_reap(&rig, 1);
			assert_status(rig_status(&rig), SUCCESS);
		}
		rig_until(&rig, rig_interrupts(&rig, 1));
		rig_sqe_rw(&rig, NVME_IO_FLUSH, 0, 1);
		assert_status(rig_io(&rig, 1), SUCCESS);
		rig_close(&rig);
	}
}

static void completions_not_yet_written_outlast_memory_that_goes_and_comes(void **state)
{
	struct rig rig;

	remote_open_ready(&rig, 8);
	port.hold_writes = true;
	flushes_write(&rig, 2);
	rig_until(&rig, rig.guest.ctrl->queues.sq[1]->outstanding == 0 &&
				rig.guest.ctrl->queues.cq[1]->tail == 2);
	rig_settle(&rig);
	nvme_ctrl_quiesce(rig.guest.ctrl, rig_quiet);
	rig_settle(&rig);
	held_go(-EIO);
	rig_until(&rig, rig.guest.quiet);
	port.least = RIG_MEM_BYTES;
	nvme_ctrl_maps_set(rig.guest.ctrl, NULL, NULL);
	port.least = 0;
	nvme_ctrl_maps_set(rig.guest.ctrl, NULL, NULL);
	nvme_ctrl_resume(rig.guest.ctrl);
	rig_reap(&rig, 1);
	rig_reap(&rig, 1);
	rig_close(&rig);
}

static void a_tail_out_of_range_is_not_followed(void **state)
{
	struct rig rig;

	remote_open_ready(&rig, 8);
	port.asked = 0;
	rig_reg32_set(&rig, NVME_REG_DOORBELLS + 8, 8);
	rig_settle(&rig);
	assert_int_equal(port.asked, 0);
	rig_sqe_rw(&rig, NVME_IO_FLUSH, 0, 1);
	assert_status(rig_io(&rig, 1), SUCCESS);
	rig_close(&rig);
}

static void a_queue_that_nobody_has_is_refused(void **state)
{
	struct rig rig;

	remote_open(&rig);
	port.least = RIG_MEM_BYTES;
	rig_enable(&rig);
	assert_true(rig_reg32(&rig, NVME_REG_CSTS) & NVME_CSTS_CFS);
	rig_disable(&rig);
	port.least = 0;
	rig_enable(&rig);
	port.least = RIG_MEM_BYTES;
	assert_status(rig_create_cq(&rig, 1, 8, 1), INVALID_FIELD);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_go_round_rings_that_are_not_mapped),
		cmocka_unit_test(a_drained_queue_reads_no_entries_and_its_completions_are_written),
		cmocka_unit_test(a_queue_by_messages_moves_to_another_loop),
		cmocka_unit_test(several_commands_are_read_at_once_over_the_end_of_the_ring),
		cmocka_unit_test(no_interrupt_comes_before_its_completion_is_written),
		cmocka_unit_test(a_quiesce_waits_for_transfers_under_way),
		cmocka_unit_test(a_reset_waits_for_transfers_under_way),
		cmocka_unit_test(a_transfer_that_fails_for_a_while_is_made_again),
		cmocka_unit_test(a_transfer_that_keeps_failing_fails_the_controller),
		cmocka_unit_test(what_fails_while_quiet_is_made_again_afterwards),
		cmocka_unit_test(queues_go_on_when_their_memory_is_mapped_and_when_it_is_not),
		cmocka_unit_test(completions_not_yet_written_move_with_their_controller),
		cmocka_unit_test(completions_not_yet_written_outlast_memory_that_goes_and_comes),
		cmocka_unit_test(a_tail_out_of_range_is_not_followed),
		cmocka_unit_test(a_queue_that_nobody_has_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
