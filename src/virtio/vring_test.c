/*
 * Rings on a data loop with a thread of its own: the commands, and what they may race with.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loop/placement.h"
#include "virtio/vring.h"

#define MEM_BYTES 0x10000

struct fixture {
	struct loop *main_loop, *data_loop;
	struct vring_owner owner;
	struct vdev vdev;
	struct vring ring;
	struct gmem *map;
	uint8_t *mem;
	uint32_t done, broken;
	int kick;
};

static struct fixture *fix;

static int model_queue_start(struct vdev *dev, uint32_t idx, struct virtq *vq, struct loop *loop,
			     void **ret_queue, struct err *reterr)
{
	*ret_queue = vq;
	return 0;
}

static void model_on_chain(void *queue, struct vq_chain *chain)
{
	virtq_push(queue, chain, 0);
}

static void model_queue_stop(void *queue)
{
}

static const struct vdev_ops model_ops = {
	.slot_bytes = sizeof(struct vq_chain),
	.queue_start = model_queue_start,
	.on_chain = model_on_chain,
	.queue_stop = model_queue_stop,
};

static void on_done(struct vring *v)
{
	fix->done++;
}

static void on_broken(struct vring *v, enum virtq_cause cause)
{
	fix->broken++;
}

static int setup(void **state)
{
	static struct fixture f;
	struct gmem_region_desc desc = { 0, MEM_BYTES, 0x1000000, 0 };
	int memfd = memfd_create("guest", MFD_CLOEXEC);
	struct err err;

	f = (struct fixture){ .vdev = { .ops = &model_ops } };
	fix = &f;
	if (loop_new(&(struct loop_params){ .name = "main", .cpu = -1 }, &f.main_loop, &err) ||
	    loop_new(&(struct loop_params){ .name = "data", .cpu = -1 }, &f.data_loop, &err) ||
	    loop_thread_start(f.data_loop, &err) || ftruncate(memfd, MEM_BYTES) ||
	    gmem_new(&desc, &memfd, 1, &f.map, &err))
		return -1;
	close(memfd);
	f.mem = gmem_gpa_to_host(f.map, gpa(0), MEM_BYTES);
	f.owner = (struct vring_owner){ .main_loop = f.main_loop,
					.vdev = &f.vdev,
					.on_done = on_done,
					.on_broken = on_broken };
	vring_init(&f.ring, &f.owner, 0);
	f.kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	f.ring.kick_fd = dup(f.kick);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vring_fini(&f->ring);
	gmem_unref(f->map);
	close(f->kick);
	loop_free(f->data_loop);
	loop_free(f->main_loop);
	return 0;
}

static void wait_done(struct fixture *f, uint32_t count)
{
	while (f->done < count)
		loop_run_once(f->main_loop, true);
}

static void start(struct fixture *f, uint32_t size)
{
	struct virtq_setup s = { .features = VIRTIO_F_VERSION_1,
				 .size = size,
				 .desc = f->mem,
				 .avail = f->mem + 0x1000,
				 .used = f->mem + 0x2000,
				 .used_gpa = gpa(0x2000),
				 .base = f->ring.base,
				 .base_from_used = true,
				 .map = f->map,
				 .slot_bytes = sizeof(struct vq_chain) };
	uint32_t want = f->done + 1;

	vring_start(&f->ring, f->data_loop, &s);
	assert_int_equal(f->ring.state, VRING_RUNNING);
	wait_done(f, want);
}

static void drain(struct fixture *f)
{
	uint32_t want = f->done + 1;

	vring_drain(&f->ring);
	wait_done(f, want);
	assert_int_equal(f->ring.state, VRING_STOPPED);
}

static void submit(struct fixture *f, uint16_t head)
{
	uint16_t *avail = (uint16_t *)(f->mem + 0x1000);
	uint64_t addr = 0x3000;
	uint32_t len = 16;

	memcpy(f->mem, &addr, 8);
	memcpy(f->mem + 8, &len, 4);
	avail[2 + avail[1] % 8] = head;
	__atomic_store_n(&avail[1], (uint16_t)(avail[1] + 1), __ATOMIC_SEQ_CST);
	eventfd_write(f->kick, 1);
}

static uint16_t used_idx(const struct fixture *f)
{
	return __atomic_load_n((uint16_t *)(f->mem + 0x2002), __ATOMIC_SEQ_CST);
}

static void a_ring_runs_on_its_loop_and_goes_on_where_it_stopped(void **state)
{
	struct fixture *f = *state;

	for (uint16_t i = 1; i <= 200; i++) {
		start(f, 8);
		submit(f, 0);
		while (used_idx(f) != i)
			;
		drain(f);
		assert_int_equal(f->ring.base, i);
	}
}

static void call_descriptors_change_while_requests_complete(void **state)
{
	struct fixture *f = *state;
	uint16_t i = 0;

	start(f, 8);
	for (; i < 500; i++) {
		uint32_t want = f->done + 1;

		submit(f, 0);
		vring_call_set(&f->ring, eventfd(0, EFD_CLOEXEC | (i % 2 ? EFD_NONBLOCK : 0)),
			       NULL);
		wait_done(f, want);
		while (used_idx(f) != (uint16_t)(i + 1))
			;
	}
	drain(f);
}

static void a_start_that_fails_is_told_and_can_be_stopped(void **state)
{
	struct fixture *f = *state;

	start(f, 7); /* not a power of two */
	assert_int_not_equal(f->ring.result, 0);
	assert_true(f->ring.err.msg[0]);
	assert_int_equal(f->ring.state, VRING_BROKEN);
	drain(f);
	assert_true(f->ring.failed);
}

static void a_lie_of_the_driver_breaks_the_ring_and_is_told_before_the_stop_ends(void **state)
{
	struct fixture *f = *state;

	start(f, 8);
	submit(f, 4711);
	while (!f->broken)
		loop_run_once(f->main_loop, true);
	assert_int_equal(f->ring.state, VRING_BROKEN);
	assert_int_equal(f->ring.cause, VIRTQ_HEAD_RANGE);
	drain(f);
	assert_int_equal(f->broken, 1);
}

static void a_ring_without_a_kick_descriptor_runs_when_it_is_woken(void **state)
{
	struct fixture *f = *state;

	vring_fd_set(&f->ring.kick_fd, LOOP_KICK_WAKE);
	start(f, 8);
	for (uint16_t i = 1; i <= 200; i++) {
		submit(f, 0);
		vring_wake(&f->ring);
		vring_wake(&f->ring);
		while (used_idx(f) != i)
			;
	}
	/* One on its way when the ring is drained has come before the answer. */
	vring_wake(&f->ring);
	drain(f);
	assert_false(f->ring.wake_posted);
	vring_wake(&f->ring);
	assert_false(f->ring.wake_posted);
	assert_int_equal(f->ring.base, 200);
}

static void a_ring_without_interrupts_completes_and_drains(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->ring.call_fd, -1);
	start(f, 8);
	submit(f, 0);
	while (used_idx(f) != 1)
		;
	drain(f);
}

static void the_interrupt_status_is_set_when_the_bell_is_heard(void **state)
{
	struct fixture *f = *state;
	int call = eventfd(0, EFD_CLOEXEC);
	uint32_t isr = 0, want;
	uint64_t value;

	vring_call_set(&f->ring, dup(call), &isr);
	start(f, 8);
	assert_int_equal(read(call, &value, sizeof(value)), sizeof(value));
	assert_int_equal(__atomic_exchange_n(&isr, 0, __ATOMIC_ACQUIRE), 1);
	submit(f, 0);
	assert_int_equal(read(call, &value, sizeof(value)), sizeof(value));
	assert_int_equal(__atomic_exchange_n(&isr, 0, __ATOMIC_ACQUIRE), 1);
	want = f->done + 1;
	vring_call_set(&f->ring, dup(call), NULL); /* as when MSI-X takes the pin's place */
	wait_done(f, want);
	assert_int_equal(read(call, &value, sizeof(value)), sizeof(value));
	assert_int_equal(isr, 0);
	drain(f);
	close(call);
}

static void rings_go_to_the_loop_with_the_fewest(void **state)
{
	struct loop *loops[3] = { (struct loop *)1, (struct loop *)2, (struct loop *)3 };
	uint32_t count[4] = { 0 };
	struct loop *one;

	for (int i = 0; i < 9; i++)
		count[(uintptr_t)placement_take(loops, 3)]++;
	assert_int_equal(count[1], 3);
	assert_int_equal(count[2], 3);
	placement_give(loops[1]);
	one = placement_take(loops, 3);
	assert_ptr_equal(one, loops[1]);
	for (int i = 0; i < 9; i++)
		placement_give(loops[i % 3]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(a_ring_runs_on_its_loop_and_goes_on_where_it_stopped),
		T(call_descriptors_change_while_requests_complete),
		T(a_start_that_fails_is_told_and_can_be_stopped),
		T(a_lie_of_the_driver_breaks_the_ring_and_is_told_before_the_stop_ends),
		T(a_ring_without_a_kick_descriptor_runs_when_it_is_woken),
		T(a_ring_without_interrupts_completes_and_drains),
		T(the_interrupt_status_is_set_when_the_bell_is_heard),
		cmocka_unit_test(rings_go_to_the_loop_with_the_fewest),
#undef T
	};

	return cmocka_run_group_tests_name("vring", tests, NULL, NULL);
}
