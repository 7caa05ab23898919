/*
 * Rings on a data loop with a thread of its own: the commands, and what they may race with.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
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
	uint32_t want = f->done + 1;

	if (f->ring.state == VRING_RUNNING) { /* a check failed: which one is told after this */
		vring_drain(&f->ring);
		while (f->done < want)
			loop_run_once(f->main_loop, true);
	}
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

/* ---- coalescing ---- */

static void coalesce(struct fixture *f, uint32_t delay_base_us, uint32_t iops_threshold)
{
	const struct vring_coalescing c = { delay_base_us, iops_threshold };

	vring_owner_coalesce(&f->owner, &c);
	vring_coalesce(&f->ring);
}

static int call_make(struct fixture *f)
{
	int call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	vring_call_set(&f->ring, dup(call), NULL);
	return call;
}

/* Notifications that came, with a wait for the first of at most ms. */
static uint64_t rung(int call, int ms)
{
	struct pollfd p = { .fd = call, .events = POLLIN };
	uint64_t count = 0;

	if (poll(&p, 1, ms) == 1)
		assert_int_equal(read(call, &count, sizeof(count)), sizeof(count));
	return count;
}

/* One after the other, as fast as they end. */
static void requests_run(struct fixture *f, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint16_t want = (uint16_t)(used_idx(f) + 1);

		submit(f, 0);
		while (used_idx(f) != want)
			;
	}
}

/* Until the rate was looked at, and is far above any threshold. */
static void warm_up(struct fixture *f)
{
	uint64_t end_ns = loop_clock_ns() + 3 * VRING_RATE_WINDOW_NS;

	while (loop_clock_ns() < end_ns)
		requests_run(f, 10);
}

static void interrupts_of_a_busy_ring_become_few_and_the_last_one_comes(void **state)
{
	struct fixture *f = *state;
	int call = call_make(f);
	struct queue_stats before, after;
	uint64_t begin_ns, seen, most;

	f->owner.spin_ns = 1000000;
	start(f, 8);
	coalesce(f, 1000, 1);
	warm_up(f);
	vring_stats(&f->ring, &before);
	rung(call, 0);
	begin_ns = loop_clock_ns();
	requests_run(f, 2000);
	vring_stats(&f->ring, &after);
	seen = rung(call, 0);
	/* one at each end of a delay, and at each look */
	most = 2 * (loop_clock_ns() - begin_ns) / VRING_DELAY_MAX_NS + 2;
	assert_in_range(seen, 0, most);
	assert_in_range(after.interrupts - before.interrupts, 0, most);
	assert_int_equal(after.interrupts + after.interrupts_suppressed -
				 (before.interrupts + before.interrupts_suppressed),
			 after.publishes - before.publishes);
	for (uint32_t i = 0; i < 40; i++) {
		requests_run(f, 20);
		rung(call, 0);
		requests_run(f, 1);
		assert_true(rung(call, 5000));
	}
	drain(f);
	close(call);
}

static void below_the_threshold_every_request_is_told_of_at_once(void **state)
{
	struct fixture *f = *state;
	int call = call_make(f);

	coalesce(f, 1000000, 1000000000); /* before it starts */
	start(f, 8);
	assert_true(rung(call, 5000));
	for (uint32_t i = 0; i < 500; i++) {
		requests_run(f, 1);
		assert_int_equal(rung(call, 5000), 1);
	}
	assert_int_equal(f->ring.hold.merged, 0);
	drain(f);
	close(call);
}

static void a_rate_that_falls_ends_the_delay(void **state)
{
	struct fixture *f = *state;
	int call = call_make(f);

	start(f, 8);
	coalesce(f, 1000000, 20);
	warm_up(f);
	assert_true(f->ring.hold.delay_ns > 0);
	rung(call, 100);
	for (uint32_t i = 0; i < 5; i++) {
		uint64_t end_ns = loop_clock_ns() + 100000000; /* 10 a second */

		while (loop_clock_ns() < end_ns)
			loop_run_once(f->main_loop, false);
		requests_run(f, 1);
		assert_true(rung(call, 5000));
	}
	assert_int_equal(f->ring.hold.delay_ns, 0);
	drain(f);
	close(call);
}

static void what_is_held_back_is_told_when_a_ring_stops_and_when_it_is_switched_off(void **state)
{
	struct fixture *f = *state;
	int call = call_make(f);

	for (uint32_t i = 0; i < 20; i++) {
		start(f, 8);
		coalesce(f, 1000000, 1);
		warm_up(f);
		rung(call, 0);
		requests_run(f, 1);
		if (i & 1) {
			drain(f);
			assert_true(rung(call, 0));
			continue;
		}
		coalesce(f, 0, 0);
		assert_true(rung(call, 5000));
		requests_run(f, 1);
		assert_true(rung(call, 5000));
		drain(f);
	}
	close(call);
}

static void a_driver_that_switches_notifications_off_gets_none_that_was_held_back(void **state)
{
	struct fixture *f = *state;
	uint16_t *flags = (uint16_t *)(f->mem + 0x1000);
	int call = call_make(f);

	start(f, 8);
	coalesce(f, 1000000, 1);
	for (uint32_t i = 0; i < 10; i++) {
		warm_up(f);
		requests_run(f, 1);
		__atomic_store_n(flags, 1, __ATOMIC_SEQ_CST);
		rung(call, 0);
		/* what was on its way, and then silence */
		for (uint32_t late = 0; rung(call, 3 * (int)(VRING_DELAY_MAX_NS / 1000000)); late++)
			assert_true(late < 2);
		__atomic_store_n(flags, 0, __ATOMIC_SEQ_CST);
		requests_run(f, 1);
		assert_true(rung(call, 5000));
	}
	drain(f);
	close(call);
}

/* All at the same time: nothing waits for something that was answered. */
static void coalescing_changes_while_requests_complete(void **state)
{
	struct fixture *f = *state;
	int call = call_make(f);

	start(f, 8);
	for (uint32_t i = 0; i < 500; i++) {
		coalesce(f, i % 3 ? 100 : 0, 1 + i % 2);
		requests_run(f, 2);
	}
	rung(call, 0);
	requests_run(f, 1);
	assert_true(rung(call, 5000));
	coalesce(f, 1, 1);
	drain(f);
	assert_false(f->ring.coalesce_posted);
	coalesce(f, 2, 1); /* of one that does not run */
	assert_false(f->ring.coalesce_posted);
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
		T(interrupts_of_a_busy_ring_become_few_and_the_last_one_comes),
		T(below_the_threshold_every_request_is_told_of_at_once),
		T(a_rate_that_falls_ends_the_delay),
		T(what_is_held_back_is_told_when_a_ring_stops_and_when_it_is_switched_off),
		T(a_driver_that_switches_notifications_off_gets_none_that_was_held_back),
		T(coalescing_changes_while_requests_complete),
		cmocka_unit_test(rings_go_to_the_loop_with_the_fewest),
#undef T
	};

	return cmocka_run_group_tests_name("vring", tests, NULL, NULL);
}
