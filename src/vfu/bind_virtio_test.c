/*
 * virtio over PCI: registers, status, queues, interrupts, and what a session asks of the device.
 * Source: virtio 1.3, 2.1, 3.1 and 4.1.
 */
#include "vfu/bind_virtio_rig.h"

/* ---- the common configuration ---- */

static void features_are_offered_in_two_halves_and_nothing_beyond(void **state)
{
	struct fixture *f = *state;
	uint64_t all = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
		       VIRTIO_F_IN_ORDER | VIRTIO_F_NOTIFICATION_DATA | VIRTIO_F_RING_RESET |
		       VIRTIO_F_ACCESS_PLATFORM | VIRTIO_F_RING_PACKED | 1ull << 9;

	assert_int_equal(bar_get(f, DEVICE_FEATURE, 4), all & UINT32_MAX);
	bar_set(f, DEVICE_FEATURE_SELECT, 1, 4);
	assert_int_equal(bar_get(f, DEVICE_FEATURE_SELECT, 4), 1);
	assert_int_equal(bar_get(f, DEVICE_FEATURE, 4), all >> 32);
	bar_set(f, DEVICE_FEATURE_SELECT, 2, 4);
	assert_int_equal(bar_get(f, DEVICE_FEATURE, 4), 0);
	bar_set(f, DRIVER_FEATURE_SELECT, 2, 4);
	bar_set(f, DRIVER_FEATURE, UINT32_MAX, 4);
	assert_int_equal(bar_get(f, DRIVER_FEATURE, 4), 0);
	assert_true(negotiate(f, all));
	assert_int_equal(f->model_features, all);
}

static void features_that_were_not_offered_or_lack_version_1_are_refused(void **state)
{
	struct fixture *f = *state;

	assert_false(negotiate(f, VIRTIO_F_VERSION_1 | 1ull << 50));
	assert_false(negotiate(f, VIRTIO_F_EVENT_IDX));
	/* no DRIVER_OK without FEATURES_OK */
	bar_set(f, DEVICE_STATUS, ACKNOWLEDGE | DRIVER | DRIVER_OK, 1);
	assert_int_equal(bar_get(f, DEVICE_STATUS, 1), ACKNOWLEDGE | DRIVER);
	assert_true(negotiate(f, VIRTIO_F_VERSION_1));
	/* and none are taken after it */
	bar_set(f, DRIVER_FEATURE_SELECT, 0, 4);
	bar_set(f, DRIVER_FEATURE, VIRTIO_F_EVENT_IDX, 4);
	assert_int_equal(bar_get(f, DRIVER_FEATURE, 4), 0);
}

static void queue_registers_belong_to_the_selected_queue(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(bar_get(f, NUM_QUEUES, 2), QUEUES);
	for (uint32_t i = 0; i < QUEUES; i++) {
		bar_set(f, QUEUE_SELECT, i, 2);
		assert_int_equal(bar_get(f, QUEUE_SIZE, 2), RING_MAX);
		assert_int_equal(bar_get(f, QUEUE_NOTIFY_OFF, 2), i);
		bar_set(f, QUEUE_DESC, 0x1111111122222220 + i * 16, 8);
	}
	bar_set(f, QUEUE_SELECT, 1, 2);
	assert_int_equal(bar_get(f, QUEUE_DESC, 8), 0x1111111122222230);
	assert_int_equal(bar_get(f, QUEUE_DESC + 4, 4), 0x11111111);
	bar_set(f, QUEUE_SELECT, QUEUES, 2);
	assert_int_equal(bar_get(f, QUEUE_SELECT, 2), QUEUES);
	assert_int_equal(bar_get(f, QUEUE_SIZE, 2), 0);
	assert_int_equal(bar_get(f, QUEUE_MSIX_VECTOR, 2), VPCI_NO_VECTOR);
	for (uint32_t off = QUEUE_SIZE; off < VPCI_COMMON_BYTES; off += 2)
		bar_set(f, off, 1, 2);
	bar_set(f, QUEUE_DESC, 1, 8);
	assert_int_equal(bar_get(f, QUEUE_ENABLE, 2), 0);
}

static void sizes_beyond_the_limit_and_changes_of_an_enabled_queue_are_not_taken(void **state)
{
	struct fixture *f = *state;

	bar_set(f, QUEUE_SIZE, RING_MAX + 1, 2);
	assert_int_equal(bar_get(f, QUEUE_SIZE, 2), RING_MAX);
	bar_set(f, QUEUE_SIZE, 0, 2);
	assert_int_equal(bar_get(f, QUEUE_SIZE, 2), RING_MAX);
	bar_set(f, QUEUE_SIZE, 16, 2);
	bar_set(f, QUEUE_ENABLE, 1, 2);
	bar_set(f, QUEUE_SIZE, 8, 2);
	bar_set(f, QUEUE_DESC, 0x1000, 8);
	bar_set(f, QUEUE_DRIVER, 0x1000, 8);
	bar_set(f, QUEUE_DEVICE, 0x1000, 8);
	bar_set(f, QUEUE_ENABLE, 0, 2);
	assert_int_equal(bar_get(f, QUEUE_SIZE, 2), 16);
	assert_int_equal(bar_get(f, QUEUE_DESC, 8), 0);
	assert_int_equal(bar_get(f, QUEUE_DRIVER, 8), 0);
	assert_int_equal(bar_get(f, QUEUE_DEVICE, 8), 0);
	assert_int_equal(bar_get(f, QUEUE_ENABLE, 2), 1);
}

static void accesses_of_another_width_read_the_bytes_and_write_nothing(void **state)
{
	struct fixture *f = *state;

	bar_set(f, QUEUE_SIZE, 16, 2);
	assert_int_equal(bar_get(f, QUEUE_SELECT, 4), 16 << 16);
	assert_int_equal(bar_get(f, QUEUE_SIZE, 1), 16);
	bar_set(f, QUEUE_SIZE, 32, 1);
	bar_set(f, QUEUE_SELECT, 0x00200001, 4);
	bar_set(f, QUEUE_DESC + 2, 1, 2);
	assert_int_equal(bar_get(f, QUEUE_SIZE, 2), 16);
	assert_int_equal(bar_get(f, QUEUE_SELECT, 2), 0);
	assert_int_equal(bar_get(f, QUEUE_DESC, 8), 0);
	/* reserved, between the structures, and of other BARs */
	assert_int_equal(bar_get(f, 0x38, 8), 0);
	assert_int_equal(bar_get(f, 0x800, 8), 0);
	assert_int_equal(bar_get(f, VPCI_NOTIFY, 4), 0);
	bar_set(f, 0x800, 1, 8);
	f->dev->ops->bar_write(f->dev, 0, QUEUE_SELECT, "\1", 2);
	assert_int_equal(bar_get(f, QUEUE_SELECT, 2), 0);
}

static void vectors_that_are_not_there_read_back_as_none(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->dev->pci.msix_vectors, QUEUES + 1);
	bar_set(f, QUEUE_MSIX_VECTOR, QUEUES, 2);
	assert_int_equal(bar_get(f, QUEUE_MSIX_VECTOR, 2), QUEUES);
	bar_set(f, QUEUE_MSIX_VECTOR, QUEUES + 1, 2);
	assert_int_equal(bar_get(f, QUEUE_MSIX_VECTOR, 2), VPCI_NO_VECTOR);
	bar_set(f, CONFIG_MSIX_VECTOR, 500, 2);
	assert_int_equal(bar_get(f, CONFIG_MSIX_VECTOR, 2), VPCI_NO_VECTOR);
}

static void the_models_configuration_is_read_and_written(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(bar_get(f, VPCI_CONFIG, 8), 0x0807060504030201);
	assert_int_equal(bar_get(f, VPCI_CONFIG + 60, 4), 0);
	assert_int_equal(bar_get(f, VPCI_CONFIG + VDEV_CONFIG_MAX, 8), 0);
	bar_set(f, VPCI_CONFIG + 32, 1, 1);
	assert_int_equal(f->config_writes, 1);
	bar_set(f, VPCI_CONFIG + 33, 1, 1);
	bar_set(f, VPCI_CONFIG + VDEV_CONFIG_MAX, 1, 1);
	assert_int_equal(f->config_writes, 1);
}

/* ---- capabilities ---- */

static void each_structure_has_a_capability(void **state)
{
	struct fixture *f = *state;
	const struct vfu_pci *pci = &f->dev->pci;
	static const uint8_t types[] = { 1, 2, 3, 4, 5 };

	assert_int_equal(pci->vendor, 0x1af4);
	assert_int_equal(pci->device, 0x1042);
	assert_int_equal(pci->revision, 1);
	assert_int_equal(pci->class_code, 0x010000);
	assert_int_equal(pci->cap_count, 5);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(pci->caps[i].bytes[3], types[i]);
	assert_int_equal(pci->caps[0].bytes[4], VPCI_BAR);
	assert_int_equal(pci->caps[1].len_bytes, 20);
	assert_int_equal(pci->caps[1].bytes[16], VPCI_NOTIFY_STRIDE);
	assert_int_equal(pci->bars[VPCI_BAR].map_bytes, 0);
}

static void the_window_in_configuration_space_reaches_the_bar(void **state)
{
	struct fixture *f = *state;
	uint8_t cap[20] = { 0x09, 0, 20, 5, VPCI_BAR, 0, 0, 0, NUM_QUEUES, 0, 0, 0, 2 };

	f->dev->ops->cap_read(f->dev, 4, cap, 16, 4);
	assert_int_equal(cap[16], QUEUES);
	cap[8] = QUEUE_SELECT;
	cap[16] = 2;
	f->dev->ops->cap_write(f->dev, 4, cap, 12, 4); /* its length only */
	assert_int_equal(bar_get(f, QUEUE_SELECT, 2), 0);
	f->dev->ops->cap_write(f->dev, 4, cap, 16, 2);
	assert_int_equal(bar_get(f, QUEUE_SELECT, 2), 2);
	/* beyond the BAR, of a wrong length, not aligned, another BAR, another capability */
	cap[16] = 1;
	cap[9] = 0x40;
	f->dev->ops->cap_write(f->dev, 4, cap, 16, 4);
	cap[9] = 0;
	cap[12] = 3;
	f->dev->ops->cap_write(f->dev, 4, cap, 16, 4);
	cap[12] = 4;
	f->dev->ops->cap_write(f->dev, 4, cap, 16, 4);
	cap[12] = 2;
	cap[4] = VPCI_MSIX_BAR;
	f->dev->ops->cap_write(f->dev, 4, cap, 16, 4);
	cap[4] = VPCI_BAR;
	f->dev->ops->cap_write(f->dev, 3, cap, 16, 4);
	assert_int_equal(bar_get(f, QUEUE_SELECT, 2), 2);
}

/* ---- queues ---- */

static void a_queue_runs_from_driver_ok_on_and_is_woken_by_notifications(void **state)
{
	struct fixture *f = *state;

	assert_true(negotiate(f, VIRTIO_F_VERSION_1));
	queue_up(f, 0, 8);
	submit(f, 0, MEM_GPA + 0x3000);
	run(f);
	assert_int_equal(f->chains, 0); /* 2.1.2: nothing is consumed before DRIVER_OK */
	driver_ok(f);
	assert_int_equal(used_idx(f, 0), 1);
	submit(f, 0, MEM_GPA + 0x3000);
	run(f);
	assert_int_equal(used_idx(f, 0), 1);
	bar_set(f, VPCI_NOTIFY + VPCI_NOTIFY_STRIDE * QUEUES, 0, 2); /* not a queue */
	bar_set(f, VPCI_NOTIFY + 2, 0, 2);
	run(f);
	assert_int_equal(used_idx(f, 0), 1);
	notify(f, 0);
	assert_int_equal(used_idx(f, 0), 2);
	/* one that is enabled later */
	queue_up(f, 2, 8);
	submit(f, 2, MEM_GPA + 0x3000);
	notify(f, 2);
	assert_int_equal(used_idx(f, 2), 1);
}

static void a_mapped_page_of_notifications_is_looked_after_without_messages(void **state)
{
	struct fixture *f = *state;

	device_free(f);
	f->frees = 0;
	device_new(f, true);
	assert_int_equal(f->dev->pci.bars[VPCI_BAR].map_offset, VPCI_NOTIFY);
	assert_int_equal(f->dev->pci.bars[VPCI_BAR].map_bytes, 0x1000);
	assert_true(f->dev->pci.bars[VPCI_BAR].map_fd >= 0);
	map_set(f, f->map);
	up(f);
	run(f);
	submit(f, 0, MEM_GPA + 0x3000);
	while (used_idx(f, 0) != 1)
		loop_run_once(f->loop, true);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0); /* a message is good as well */
	assert_int_equal(used_idx(f, 0), 2);
}

static void a_packed_ring_starts_with_its_wrap_counters_at_1(void **state)
{
	struct fixture *f = *state;
	uint64_t addr = MEM_GPA + 0x3000;
	uint32_t len = 16;
	uint16_t flags = 1 << 7; /* AVAIL */

	assert_true(negotiate(f, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED));
	queue_up(f, 0, 7); /* any size */
	memcpy(f->mem + RING_OFF(0), &addr, 8);
	memcpy(f->mem + RING_OFF(0) + 8, &len, 4);
	memcpy(f->mem + RING_OFF(0) + 14, &flags, 2);
	driver_ok(f);
	assert_int_equal(f->chains, 1);
	memcpy(&flags, f->mem + RING_OFF(0) + 14, 2);
	assert_int_equal(flags & (1 << 7 | 1 << 15), 1 << 7 | 1 << 15);
}

static void a_queue_outside_memory_or_of_a_wrong_size_needs_a_reset(void **state)
{
	struct fixture *f = *state;
	int fd = bell();

	f->dev->ops->intx_fd_set(f->dev, dup(fd));
	assert_true(negotiate(f, VIRTIO_F_VERSION_1));
	queue_up(f, 0, 7);
	driver_ok(f);
	assert_true(bar_get(f, DEVICE_STATUS, 1) & NEEDS_RESET);
	assert_int_equal(rings(fd), 1);
	assert_int_equal(bar_get(f, VPCI_ISR, 1), 2);
	bar_set(f, DEVICE_STATUS, 0, 1);
	run(f);
	assert_true(negotiate(f, VIRTIO_F_VERSION_1));
	queue_place(f, 0, 8);
	bar_set(f, QUEUE_DEVICE, MEM_GPA + MEM_BYTES - 64, 8); /* its end is outside */
	bar_set(f, QUEUE_ENABLE, 1, 2);
	driver_ok(f);
	assert_true(bar_get(f, DEVICE_STATUS, 1) & NEEDS_RESET);
	bar_set(f, DEVICE_STATUS, 0, 1);
	run(f);
	up(f);
	assert_false(bar_get(f, DEVICE_STATUS, 1) & NEEDS_RESET);
	close(fd);
}

static void a_broken_queue_needs_a_reset_and_works_after_it(void **state)
{
	struct fixture *f = *state;

	up(f);
	submit(f, 0, 0xdead0000); /* not in memory */
	notify(f, 0);
	assert_int_equal(bar_get(f, DEVICE_STATUS, 1),
			 ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | NEEDS_RESET);
	bar_set(f, DEVICE_STATUS, 0, 1);
	run(f);
	assert_int_equal(bar_get(f, DEVICE_STATUS, 1), 0);
	up(f);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	assert_int_equal(used_idx(f, 0), 1);
}

static void a_reset_reads_as_not_done_until_the_queues_are_drained(void **state)
{
	struct fixture *f = *state;

	f->keep = true;
	up(f);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	assert_int_equal(f->kept_count, 1);
	bar_set(f, DEVICE_STATUS, 0, 1);
	run(f);
	assert_int_not_equal(bar_get(f, DEVICE_STATUS, 1), 0);
	assert_int_equal(f->resets, 0);
	give_back(f);
	run(f);
	assert_int_equal(bar_get(f, DEVICE_STATUS, 1), 0);
	assert_int_equal(f->resets, 1);
	assert_int_equal(bar_get(f, QUEUE_ENABLE, 2), 0);
	assert_int_equal(bar_get(f, QUEUE_SIZE, 2), RING_MAX);
}

static void a_driver_that_does_not_wait_for_its_reset_is_served(void **state)
{
	struct fixture *f = *state;

	f->keep = true;
	up(f);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	bar_set(f, DEVICE_STATUS, 0, 1);
	f->model_features = 0;
	up(f);
	assert_int_equal(f->model_features, 0);
	f->keep = false;
	give_back(f);
	memset(f->mem + RING_OFF(0), 0, 0x3000);
	submit(f, 0, MEM_GPA + 0x3000);
	run(f);
	assert_int_equal(f->resets, 1);
	assert_int_equal(f->model_features, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET);
	assert_int_equal(f->chains, 2);
}

static void a_queue_is_reset_alone_and_enabled_again(void **state)
{
	struct fixture *f = *state;

	f->keep = true;
	up(f);
	queue_up(f, 1, 8);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	bar_set(f, QUEUE_SELECT, 0, 2);
	bar_set(f, QUEUE_RESET, 1, 2);
	run(f);
	assert_int_equal(bar_get(f, QUEUE_RESET, 2), 1);
	bar_set(f, QUEUE_ENABLE, 1, 2); /* too early */
	assert_int_equal(bar_get(f, QUEUE_ENABLE, 2), 0);
	give_back(f);
	run(f);
	assert_int_equal(bar_get(f, QUEUE_RESET, 2), 0);
	assert_int_equal(bar_get(f, QUEUE_SIZE, 2), RING_MAX);
	f->keep = false;
	queue_up(f, 0, 8);
	submit(f, 0, MEM_GPA + 0x3000);
	submit(f, 1, MEM_GPA + 0x3000);
	notify(f, 0);
	notify(f, 1);
	assert_int_equal(used_idx(f, 0), 1);
	assert_int_equal(used_idx(f, 1), 1);
	assert_int_equal(f->resets, 0);
}

static void queue_reset_does_nothing_unless_it_was_negotiated(void **state)
{
	struct fixture *f = *state;

	assert_true(negotiate(f, VIRTIO_F_VERSION_1));
	queue_up(f, 0, 8);
	driver_ok(f);
	bar_set(f, QUEUE_RESET, 1, 2);
	assert_int_equal(bar_get(f, QUEUE_ENABLE, 2), 1);
}

/* ---- interrupts ---- */

static void the_pin_and_the_isr_status_tell_of_queues_and_configuration(void **state)
{
	struct fixture *f = *state;
	int fd = bell();

	f->dev->ops->intx_fd_set(f->dev, dup(fd));
	f->vdev.on_config_change(&f->vdev, f->vdev.front); /* before DRIVER_OK: nothing */
	run(f);
	assert_int_equal(rings(fd), 0);
	up(f);
	rings(fd);
	bar_get(f, VPCI_ISR, 1);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	assert_int_equal(rings(fd), 1);
	f->dev->ops->intx_unmask(f->dev); /* still there: again */
	run(f);
	assert_int_equal(rings(fd), 1);
	assert_int_equal(bar_get(f, VPCI_ISR, 1), 1);
	assert_int_equal(bar_get(f, VPCI_ISR, 1), 0);
	f->dev->ops->intx_unmask(f->dev);
	run(f);
	assert_int_equal(rings(fd), 0);
	f->vdev.on_config_change(&f->vdev, f->vdev.front);
	run(f);
	assert_int_equal(rings(fd), 1);
	assert_int_equal(bar_get(f, VPCI_ISR, 4), 2);
	close(fd);
}

static void with_msix_each_queue_has_its_vector_whenever_the_descriptors_come(void **state)
{
	struct fixture *f = *state;
	int pin = bell(), v0 = bell(), v1 = bell(), v2 = bell();

	f->dev->ops->intx_fd_set(f->dev, dup(pin));
	f->dev->ops->msix_enable(f->dev, true);
	f->dev->ops->vector_fd_set(f->dev, 0, dup(v0));
	bar_set(f, CONFIG_MSIX_VECTOR, 0, 2);
	bar_set(f, QUEUE_MSIX_VECTOR, 1, 2);
	up(f);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	f->dev->ops->vector_fd_set(f->dev, 1, dup(v1)); /* after the queue, and its completion */
	run(f);
	assert_true(rings(v1) > 0);
	f->dev->ops->vector_fd_set(f->dev, 1, dup(v2));
	f->dev->ops->vector_fd_set(f->dev, 1, dup(v1));
	f->dev->ops->vector_fd_set(f->dev, 1, dup(v2)); /* several in one command's time */
	run(f);
	rings(v1);
	rings(v2);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	assert_int_equal(rings(v1), 0);
	assert_int_equal(rings(v2), 1);
	f->vdev.on_config_change(&f->vdev, f->vdev.front);
	run(f);
	assert_int_equal(rings(v0), 1);
	assert_int_equal(rings(pin), 0);
	assert_int_equal(bar_get(f, VPCI_ISR, 1), 0);
	f->dev->ops->msix_enable(f->dev, false);
	run(f);
	rings(pin);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	assert_int_equal(rings(pin), 1);
	assert_int_equal(bar_get(f, VPCI_ISR, 1), 1);
	close(pin);
	close(v0);
	close(v1);
	close(v2);
}

static void a_configuration_change_changes_the_generation(void **state)
{
	struct fixture *f = *state;
	uint64_t before = bar_get(f, CONFIG_GENERATION, 1);

	f->vdev.on_config_change(&f->vdev, f->vdev.front);
	assert_int_not_equal(bar_get(f, CONFIG_GENERATION, 1), before);
}

/* ---- what a session asks ---- */

static void quiet_waits_for_chains_and_queues_go_on_where_they_stopped(void **state)
{
	struct fixture *f = *state;

	f->keep = true;
	up(f);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	f->quiets = 0;
	f->dev->ops->quiesce(f->dev);
	run(f);
	assert_int_equal(f->quiets, 0);
	give_back(f);
	run(f);
	assert_int_equal(f->quiets, 1);
	f->keep = false;
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	assert_int_equal(f->chains, 1);
	f->dev->ops->resume(f->dev);
	run(f);
	assert_int_equal(f->chains, 2);
	assert_int_equal(used_idx(f, 0), 2);
}

static void run_both(struct fixture *f, struct loop *other)
{
	for (int i = 0; i < 20; i++) {
		loop_run_once(f->loop, false);
		loop_run_once(other, false);
	}
}

static void management_drains_queues_and_moves_one_to_another_loop(void **state)
{
	struct fixture *f = *state;
	struct err err = { 0 };
	struct loop *other;

	assert_int_equal(
		loop_new(&(struct loop_params){ .name = "other", .cpu = -1 }, &other, &err), 0);
	f->keep = true;
	up(f);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	f->dev->ops->queues_drain(f->dev, true);
	run(f);
	give_back(f);
	run(f);
	f->keep = false;
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	assert_int_equal(f->chains, 1);
	quiesce(f); /* nothing runs: told at once */
	f->dev->ops->resume(f->dev);
	run(f);
	assert_int_equal(f->chains, 1);
	f->dev->ops->queues_drain(f->dev, false);
	run(f);
	assert_int_equal(used_idx(f, 0), 2);

	assert_int_equal(f->dev->ops->queue_move(f->dev, QUEUES, other, &err), -ERANGE);
	assert_string_equal(err.msg, "queue: expected 0..2, got 3");
	assert_int_equal(f->dev->ops->queue_move(f->dev, 0, other, &err), 0);
	run_both(f, other);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	assert_int_equal(f->chains, 2);
	run_both(f, other);
	assert_int_equal(used_idx(f, 0), 3);
	assert_int_equal(f->dev->ops->queue_move(f->dev, 0, f->loop, &err), 0);
	run_both(f, other);
	loop_free(other);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	run(f);
	assert_int_equal(used_idx(f, 0), 4);
}

static void memory_that_goes_and_comes_back_does_not_hurt_a_running_queue(void **state)
{
	struct fixture *f = *state;

	up(f);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	map_set(f, NULL);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	assert_int_equal(f->chains, 1);
	assert_false(bar_get(f, DEVICE_STATUS, 1) & NEEDS_RESET);
	map_set(f, f->map);
	run(f);
	assert_int_equal(used_idx(f, 0), 2);
}

static void memory_that_goes_before_the_first_start_is_no_lie(void **state)
{
	struct fixture *f = *state;

	quiesce(f);
	up(f); /* DRIVER_OK, while nothing may run */
	submit(f, 0, MEM_GPA + 0x3000);
	f->dev->ops->maps_set(f->dev, NULL, NULL);
	f->dev->ops->resume(f->dev);
	run(f);
	assert_false(bar_get(f, DEVICE_STATUS, 1) & NEEDS_RESET);
	map_set(f, f->map);
	run(f);
	assert_int_equal(used_idx(f, 0), 1);
}

static void a_reset_by_the_session_is_done_at_once(void **state)
{
	struct fixture *f = *state;

	up(f);
	quiesce(f);
	f->dev->ops->reset(f->dev);
	assert_int_equal(bar_get(f, DEVICE_STATUS, 1), 0);
	assert_int_equal(f->resets, 1);
	f->dev->ops->resume(f->dev);
	up(f);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	assert_int_equal(used_idx(f, 0), 1);
}

static void a_device_is_freed_at_any_moment(void **state)
{
	struct fixture *f = *state;
	int fd = bell();

	f->dev->ops->intx_fd_set(f->dev, dup(fd));
	f->keep = true;
	up(f);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	f->quiets = 0;
	f->dev->ops->quiesce(f->dev);
	f->dev->ops->free(f->dev); /* no quiet() any more */
	run(f);
	assert_int_equal(f->freed, 0);
	give_back(f);
	run(f);
	assert_int_equal(f->freed, 1);
	assert_int_equal(f->quiets, 0);
	f->frees = 0;
	device_new(f, false);
	close(fd);
}

static void too_many_queues_are_refused(void **state)
{
	struct fixture *f = *state;
	struct vdev many = f->vdev;
	struct vfu_virtio_params p = {
		.name = "vm", .main_loop = f->loop, .loops = &f->loop, .loop_count = 1
	};
	struct vfu_dev *dev;
	struct err err = { 0 };

	many.queue_count_max = VPCI_QUEUES_MAX + 1;
	assert_int_equal(vfu_virtio_new(&p, &many, &dev, &err), -EINVAL);
	assert_string_equal(err.msg, "vm: queues: expected 1..1024, got 1025");
	assert_int_equal(f->frees, 1);
	f->frees = 0;
}

/* ---- migration ---- */

static void a_saved_device_goes_on_in_another(void **state)
{
	struct fixture *f = *state;
	struct err err = { 0 };
	void *bytes;
	size_t len;

	up(f);
	submit(f, 0, MEM_GPA + 0x3000);
	notify(f, 0);
	quiesce(f);
	submit(f, 0, MEM_GPA + 0x3000);
	assert_int_equal(f->dev->ops->save(f->dev, &bytes, &len), 0);
	device_free(f);
	f->frees = 0;
	device_new(f, false);
	quiesce(f);
	f->dev->ops->maps_set(f->dev, f->map, f->map);
	assert_int_equal(f->dev->ops->load(f->dev, bytes, len, &err), 0);
	free(bytes);
	assert_int_equal(bar_get(f, DEVICE_STATUS, 1),
			 ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
	f->dev->ops->resume(f->dev);
	run(f);
	assert_int_equal(used_idx(f, 0), 2);
}

static void a_state_that_cannot_be_is_refused_and_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct err err = { 0 };
	uint8_t *bytes;
	void *saved;
	size_t len;

	up(f);
	quiesce(f);
	assert_int_equal(f->dev->ops->save(f->dev, &saved, &len), 0);
	bytes = saved;
	f->dev->ops->reset(f->dev);
	assert_int_equal(f->dev->ops->load(f->dev, bytes, len - 1, &err), -EINVAL);
	assert_int_equal(f->dev->ops->load(f->dev, bytes, 3, &err), -EINVAL);
	for (uint32_t at = 0; at < 12; at += 4) { /* version, queues, device */
		bytes[at] ^= 0x40;
		assert_int_equal(f->dev->ops->load(f->dev, bytes, len, &err), -EINVAL);
		bytes[at] ^= 0x40;
	}
	bytes[31] ^= 0x80; /* a feature that is not offered */
	assert_int_equal(f->dev->ops->load(f->dev, bytes, len, &err), -EINVAL);
	bytes[31] ^= 0x80;
	bytes[len - 40 + 1] = 0x70; /* the last queue's size */
	assert_int_equal(f->dev->ops->load(f->dev, bytes, len, &err), -EINVAL);
	assert_int_equal(bar_get(f, DEVICE_STATUS, 1), 0);
	free(saved);
	f->dev->ops->resume(f->dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(features_are_offered_in_two_halves_and_nothing_beyond),
		T(features_that_were_not_offered_or_lack_version_1_are_refused),
		T(queue_registers_belong_to_the_selected_queue),
		T(sizes_beyond_the_limit_and_changes_of_an_enabled_queue_are_not_taken),
		T(accesses_of_another_width_read_the_bytes_and_write_nothing),
		T(vectors_that_are_not_there_read_back_as_none),
		T(the_models_configuration_is_read_and_written),
		T(each_structure_has_a_capability),
		T(the_window_in_configuration_space_reaches_the_bar),
		T(a_queue_runs_from_driver_ok_on_and_is_woken_by_notifications),
		T(a_mapped_page_of_notifications_is_looked_after_without_messages),
		T(a_packed_ring_starts_with_its_wrap_counters_at_1),
		T(a_queue_outside_memory_or_of_a_wrong_size_needs_a_reset),
		T(a_broken_queue_needs_a_reset_and_works_after_it),
		T(a_reset_reads_as_not_done_until_the_queues_are_drained),
		T(a_driver_that_does_not_wait_for_its_reset_is_served),
		T(a_queue_is_reset_alone_and_enabled_again),
		T(queue_reset_does_nothing_unless_it_was_negotiated),
		T(the_pin_and_the_isr_status_tell_of_queues_and_configuration),
		T(with_msix_each_queue_has_its_vector_whenever_the_descriptors_come),
		T(a_configuration_change_changes_the_generation),
		T(quiet_waits_for_chains_and_queues_go_on_where_they_stopped),
		T(management_drains_queues_and_moves_one_to_another_loop),
		T(memory_that_goes_and_comes_back_does_not_hurt_a_running_queue),
		T(memory_that_goes_before_the_first_start_is_no_lie),
		T(a_reset_by_the_session_is_done_at_once),
		T(a_device_is_freed_at_any_moment),
		T(too_many_queues_are_refused),
		T(a_saved_device_goes_on_in_another),
		T(a_state_that_cannot_be_is_refused_and_changes_nothing),
#undef T
	};

	return cmocka_run_group_tests_name("bind_virtio", tests, NULL, NULL);
}
