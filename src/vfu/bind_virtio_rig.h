/*
 * For the tests of virtio over PCI: the device without a session, with the real rings and a model
 * that gives chains back at once or keeps them. One loop is main and data loop, so each test is
 * one thread.
 */
#ifndef VFU_BIND_VIRTIO_RIG_H
#define VFU_BIND_VIRTIO_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vfu/bind_virtio.h"

/* Each test file uses its part of what follows. */
#pragma GCC diagnostic ignored "-Wunused-function"

#define MEM_BYTES (1u << 20)
#define MEM_GPA	  0x100000ull
#define RING_MAX  64
#define QUEUES	  3
#define RING_OFF(i)                                                                                \
	(0x10000u * ((i) + 1)) /* desc, + 0x1000 driver's, + 0x2000 device's, + 0x3000 data */

/* Fields of the common configuration. */
enum {
	DEVICE_FEATURE_SELECT = 0x00,
	DEVICE_FEATURE = 0x04,
	DRIVER_FEATURE_SELECT = 0x08,
	DRIVER_FEATURE = 0x0c,
	CONFIG_MSIX_VECTOR = 0x10,
	NUM_QUEUES = 0x12,
	DEVICE_STATUS = 0x14,
	CONFIG_GENERATION = 0x15,
	QUEUE_SELECT = 0x16,
	QUEUE_SIZE = 0x18,
	QUEUE_MSIX_VECTOR = 0x1a,
	QUEUE_ENABLE = 0x1c,
	QUEUE_NOTIFY_OFF = 0x1e,
	QUEUE_DESC = 0x20,
	QUEUE_DRIVER = 0x28,
	QUEUE_DEVICE = 0x30,
	QUEUE_RESET = 0x3a,
};

#define ACKNOWLEDGE 1u
#define DRIVER	    2u
#define DRIVER_OK   4u
#define FEATURES_OK 8u
#define NEEDS_RESET 0x40u

struct fixture {
	struct loop *loop;
	struct vfu_dev *dev; /* NULL when freed */
	struct vdev vdev;
	struct gmem *map;
	uint8_t *mem;
	int memfd;
	uint32_t quiets, freed;
	bool keep; /* the model keeps chains */
	struct vq_chain *kept[RING_MAX];
	struct virtq *kept_vq;
	uint32_t kept_count, chains, resets, frees, config_writes;
	uint64_t model_features;
};

static struct fixture *fix; /* for callbacks */

/* ---- the device model ---- */

static uint64_t model_features(const struct vdev *vdev)
{
	return 1ull << 9;
}

static void model_features_set(struct vdev *vdev, uint64_t negotiated)
{
	fix->model_features = negotiated;
}

static void model_config_read(const struct vdev *vdev, uint8_t config[VDEV_CONFIG_MAX])
{
	for (int i = 0; i < 60; i++)
		config[i] = (uint8_t)(i + 1);
}

static int model_config_write(struct vdev *vdev, uint32_t off, const void *src, uint32_t len)
{
	if (off != 32 || len != 1)
		return -EINVAL;
	fix->config_writes++;
	return 0;
}

static void model_reset(struct vdev *vdev)
{
	fix->resets++;
}

static void model_free(struct vdev *vdev)
{
	fix->frees++;
}

static int model_queue_start(struct vdev *vdev, uint32_t idx, struct virtq *vq, struct loop *loop,
			     void **ret_queue, struct err *reterr)
{
	*ret_queue = vq;
	return 0;
}

static void model_on_chain(void *queue, struct vq_chain *chain)
{
	fix->chains++;
	if (fix->keep) {
		fix->kept[fix->kept_count++] = chain;
		fix->kept_vq = queue;
	} else {
		virtq_push(queue, chain, 0);
	}
}

static void model_queue_stop(void *queue)
{
}

static const struct vdev_ops model_ops = {
	.type = "test",
	.device_id = 2,
	.slot_bytes = sizeof(struct vq_chain),
	.features = model_features,
	.features_set = model_features_set,
	.config_read = model_config_read,
	.config_write = model_config_write,
	.reset = model_reset,
	.free = model_free,
	.queue_start = model_queue_start,
	.on_chain = model_on_chain,
	.queue_stop = model_queue_stop,
};

static void give_back(struct fixture *f)
{
	for (uint32_t i = 0; i < f->kept_count; i++)
		virtq_push(f->kept_vq, f->kept[i], 0);
	f->kept_count = 0;
}

/* ---- the session's side ---- */

static void on_quiet(void *front)
{
	fix->quiets++;
}

static void on_freed(void *front)
{
	fix->freed++;
	fix->dev = NULL;
}

static void run(struct fixture *f)
{
	for (int i = 0; i < 20; i++)
		loop_run_once(f->loop, false);
}

static void device_new(struct fixture *f, bool mapped)
{
	struct vfu_virtio_params p = { .name = "vm",
				       .packed = true,
				       .mapped_notify = mapped,
				       .main_loop = f->loop,
				       .loops = &f->loop,
				       .loop_count = 1 };
	struct err err = { 0 };

	assert_int_equal(vfu_virtio_new(&p, &f->vdev, &f->dev, &err), 0);
	f->dev->front = f;
	f->dev->quiet = on_quiet;
	f->dev->freed = on_freed;
}

static void quiesce(struct fixture *f)
{
	uint32_t want = f->quiets + 1;

	f->dev->ops->quiesce(f->dev);
	while (f->quiets < want)
		loop_run_once(f->loop, false);
}

static void map_set(struct fixture *f, struct gmem *map)
{
	quiesce(f);
	f->dev->ops->maps_set(f->dev, map, map);
	f->dev->ops->resume(f->dev);
}

static int setup(void **state)
{
	static struct fixture f;
	struct gmem_region_desc desc = { MEM_GPA, MEM_BYTES, MEM_GPA, 0 };
	struct err err;

	f = (struct fixture){ .vdev = { .ops = &model_ops,
					.name = "vm",
					.queue_count_max = QUEUES,
					.queue_size_max = RING_MAX } };
	fix = &f;
	f.memfd = memfd_create("guest", MFD_CLOEXEC);
	if (loop_new(&(struct loop_params){ .name = "test", .cpu = -1 }, &f.loop, &err) ||
	    ftruncate(f.memfd, MEM_BYTES) || gmem_new(&desc, &f.memfd, 1, &f.map, &err))
		return -1;
	f.mem = gmem_gpa_to_host(f.map, gpa(MEM_GPA), MEM_BYTES);
	device_new(&f, false);
	map_set(&f, f.map);
	*state = &f;
	return 0;
}

static void device_free(struct fixture *f)
{
	f->dev->ops->free(f->dev);
	while (f->dev)
		loop_run_once(f->loop, false);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	give_back(f);
	device_free(f);
	gmem_unref(f->map);
	close(f->memfd);
	loop_free(f->loop);
	return f->frees == 1 ? 0 : -1;
}

/* ---- the driver ---- */

static uint64_t bar_get(struct fixture *f, uint32_t off, uint32_t len)
{
	uint64_t v = 0;

	f->dev->ops->bar_read(f->dev, VPCI_BAR, off, &v, len);
	return v;
}

static void bar_set(struct fixture *f, uint32_t off, uint64_t v, uint32_t len)
{
	f->dev->ops->bar_write(f->dev, VPCI_BAR, off, &v, len);
}

static void driver_features_set(struct fixture *f, uint64_t features)
{
	bar_set(f, DRIVER_FEATURE_SELECT, 0, 4);
	bar_set(f, DRIVER_FEATURE, features & UINT32_MAX, 4);
	bar_set(f, DRIVER_FEATURE_SELECT, 1, 4);
	bar_set(f, DRIVER_FEATURE, features >> 32, 4);
}

/* Up to FEATURES_OK; whether it was accepted. */
static bool negotiate(struct fixture *f, uint64_t features)
{
	bar_set(f, DEVICE_STATUS, ACKNOWLEDGE, 1);
	bar_set(f, DEVICE_STATUS, ACKNOWLEDGE | DRIVER, 1);
	driver_features_set(f, features);
	bar_set(f, DEVICE_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK, 1);
	return bar_get(f, DEVICE_STATUS, 1) & FEATURES_OK;
}

static void queue_place(struct fixture *f, uint32_t idx, uint16_t size)
{
	uint64_t at = MEM_GPA + RING_OFF(idx);

	bar_set(f, QUEUE_SELECT, idx, 2);
	bar_set(f, QUEUE_SIZE, size, 2);
	bar_set(f, QUEUE_DESC, at, 4);
	bar_set(f, QUEUE_DESC + 4, at >> 32, 4);
	bar_set(f, QUEUE_DRIVER, at + 0x1000, 8);
	bar_set(f, QUEUE_DEVICE, at + 0x2000, 8);
}

static void queue_up(struct fixture *f, uint32_t idx, uint16_t size)
{
	queue_place(f, idx, size);
	memset(f->mem + RING_OFF(idx), 0, 0x3000);
	bar_set(f, QUEUE_ENABLE, 1, 2);
}

static void driver_ok(struct fixture *f)
{
	bar_set(f, DEVICE_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK, 1);
	run(f);
}

static void up(struct fixture *f)
{
	assert_true(negotiate(f, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET));
	queue_up(f, 0, 8);
	driver_ok(f);
}

/* Makes a chain of one descriptor available. */
static void submit(struct fixture *f, uint32_t idx, uint64_t addr)
{
	uint8_t *ring = f->mem + RING_OFF(idx);
	uint16_t *avail = (uint16_t *)(ring + 0x1000);
	uint16_t head = avail[1] % 8;
	uint32_t len = 16;

	memcpy(ring + 16 * head, &addr, 8);
	memcpy(ring + 16 * head + 8, &len, 4);
	avail[2 + head] = head;
	__atomic_store_n(&avail[1], (uint16_t)(avail[1] + 1), __ATOMIC_SEQ_CST);
}

static void notify(struct fixture *f, uint32_t idx)
{
	bar_set(f, VPCI_NOTIFY + VPCI_NOTIFY_STRIDE * idx, idx, 2);
	run(f);
}

static uint16_t used_idx(const struct fixture *f, uint32_t idx)
{
	return *(uint16_t *)(f->mem + RING_OFF(idx) + 0x2002);
}

/* How often it was written since the last look. */
static uint64_t rings(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static int bell(void)
{
	return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

#endif
