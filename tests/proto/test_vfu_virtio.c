/*
 * virtio devices as PCI functions, on the real binary: what is the transport's own. What is behind
 * it has its tests in test_blk_io.c and test_scsi.c, which run over vfio-user too.
 * Source: virtio 1.3, 2.1, 3.1 and 4.1; vfio-user.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"

#define DISK_BYTES (8u << 20)
#define DISK	   "blk,socket=@a.sock,transport=vfio-user,ram=8M,num-queues=4"
/* Whose requests take their time. */
#define FILE_DISK "blk,socket=@a.sock,transport=vfio-user,file=@disk,num-queues=4"
#define DEPTH	  16
#define PIECE	  4096u

static uint64_t seed;

static uint32_t rnd(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 32) % below;
}

static struct vpcife *pci(void)
{
	return &rig_get()->pci;
}

/* The rig's front-end is one of ours, whatever the environment says. */
static int setup(void **state)
{
	rig_own_setup(state);
	fe_fini(&rig_get()->fe);
	return vpcife_init(pci());
}

/* A new connection, with new memory and rings. */
static void again(struct rig *r, const struct fe_up_opts *o)
{
	rig_drop(r);
	fe_fini(&r->fe);
	assert_ok(vpcife_init(pci()));
	rig_up(r, o);
}

static void start(struct rig *r, const char *device)
{
	daemon_start(&r->d, "--device", device, "--cores", "2", NULL);
	rig_up(r, NULL);
}

static uint64_t get(uint32_t field, uint32_t len)
{
	uint64_t value = 0;

	assert_ok(vpcife_get(pci(), field, len, &value));
	return value;
}

static bool heard(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t n;

	return poll(&p, 1, pci()->v.fe.timeout_ms) == 1 && read(fd, &n, sizeof(n)) == sizeof(n);
}

/* ---- ways to notify and to be notified ---- */

static void the_pin_and_the_isr_status_do_instead_of_vectors(void **state)
{
	struct rig *r = rig_get();
	uint8_t isr;

	r->pci.pin = true;
	start(r, DISK);
	for (unsigned i = 0; i < 100; i++)
		rig_io(r, i * 8);
	assert_ok(vpcife_read(pci(), &r->pci.isr, 0, &isr, 1));
	assert_int_equal(isr, 1);
	assert_ok(vpcife_read(pci(), &r->pci.isr, 0, &isr, 1));
	assert_int_equal(isr, 0);
}

static void notifications_may_be_written_to_a_mapped_page(void **state)
{
	struct rig *r = rig_get();

	start(r, DISK ",notifications=mapped");
	assert_non_null(r->pci.v.bar_map);
	for (unsigned i = 0; i < 100; i++)
		rig_io(r, i * 8);
	pause_us(20000); /* until it is looked at only now and then */
	rig_io(r, 0);
}

static void registers_and_notifications_are_reached_through_configuration_space(void **state)
{
	struct rig *r = rig_get();
	uint32_t value;

	start(r, DISK);
	assert_ok(vpcife_window_read(pci(), &r->pci.common, VPCI_NUM_QUEUES, 2, &value));
	assert_int_equal(value, 4);
	r->pci.window = true;
	for (unsigned i = 0; i < 20; i++) {
		pause_us(1000);
		rig_io(r, i * 8);
	}
}

static void features_of_the_transport_are_negotiated(void **state)
{
	const uint64_t wanted = SPEC_F_VERSION_1 | SPEC_F_NOTIF_DATA | SPEC_F_RING_RESET |
				SPEC_F_ACCESS_PLATFORM | SPEC_F_IN_ORDER | SPEC_F_EVENT_IDX;
	struct rig *r = rig_get();

	daemon_start(&r->d, "--device", DISK, NULL);
	rig_up(r, &(struct fe_up_opts){ .features = wanted });
	assert_int_equal(r->fe.features, wanted);
	rig_io(r, 0);
	again(r, &(struct fe_up_opts){ .features = SPEC_F_VERSION_1 });
	rig_io(r, 0);
	assert_int_equal(vpcife_negotiate(pci(), SPEC_F_EVENT_IDX), -EREMOTEIO);
}

/* ---- resets ---- */

static struct blkdrv_req req[DEPTH];

/* Gives back the memory of those that got no answer. */
static void forget(struct rig *r)
{
	for (unsigned i = 0; i < DEPTH; i++)
		if (req[i].base_gpa)
			blkdrv_put(&r->b, &req[i]);
	memset(req, 0, sizeof(req));
}

/* DEPTH writes, some with answers and some not. */
static void load(struct rig *r)
{
	uint8_t data[PIECE] = { 0 };

	memset(req, 0, sizeof(req));
	for (unsigned i = 0; i < DEPTH; i++) {
		assert_ok(blkdrv_add(&r->b, &req[i], SPEC_BLK_OUT, i * 8, data, PIECE, 0));
	}
	assert_true(drv_publish(&r->q) >= 0);
	pause_us(rnd(100));
}

/* Nothing in the guest's memory changes any more: ones it is, and ones it stays. */
static void nothing_is_written(struct rig *r)
{
	struct fe_region *m = &r->fe.region[0];

	memset(m->host, 0xff, m->wire.size_bytes);
	pause_us(300);
	for (uint64_t i = 0; i < m->wire.size_bytes; i += 8)
		if (*(uint64_t *)(m->host + i) != ~0ull)
			fail_msg("written at %llu after the reset", (unsigned long long)i);
}

static void rings_up(struct rig *r)
{
	forget(r);
	drv_reset(&r->q);
	assert_ok(vpcife_queue_up(pci(), 0, true));
}

static void device_up(struct rig *r)
{
	assert_ok(vpcife_negotiate(pci(), r->fe.features));
	rings_up(r);
	assert_ok(vpcife_driver_ok(pci()));
}

static void by_status(struct rig *r)
{
	assert_ok(vpcife_reset(pci()));
}

static void by_message(struct rig *r)
{
	assert_ok(vfe_reset(&r->pci.v));
}

/* PCI Express: Device Control is 8 bytes into the capability, bit 15 resets. */
static void by_function_level_reset(struct rig *r)
{
	uint32_t at, head, n = 0;

	assert_ok(vfe_cfg_read(&r->pci.v, 0x34, 1, &at));
	for (; at && n < 48; n++) {
		assert_ok(vfe_cfg_read(&r->pci.v, at, 2, &head));
		if ((head & 0xff) == 0x10)
			break;
		at = head >> 8;
	}
	assert_true(at);
	assert_ok(vfe_cfg_write(&r->pci.v, at + 8, 2, 0x8000));
	/* Which clears what enables memory: as after power on. */
	assert_ok(vfe_cfg_write(&r->pci.v, 4, 2, 0x0406));
}

static void (*const resets[])(struct rig *r) = { by_status, by_message, by_function_level_reset };

static void a_reset_under_io_ends_it_and_writes_nothing_after_it(void **state)
{
	struct rig *r = rig_get();
	unsigned fds = 0;

	daemon_image(&r->d, "disk", DISK_BYTES);
	daemon_start(&r->d, "--device", FILE_DISK, "--cores", "2", NULL);
	rig_up(r, &(struct fe_up_opts){ .region_bytes = 2 << 20 });
	for (unsigned i = 0; i < 90; i++) {
		load(r);
		resets[i % 3](r);
		assert_int_equal(get(VPCI_DEVICE_STATUS, 1), 0);
		nothing_is_written(r);
		device_up(r);
		rig_io(r, 0);
		if (i == 9)
			fds = daemon_fd_count(&r->d);
	}
	assert_int_equal(daemon_fd_count(&r->d), fds);
}

static void a_queue_is_reset_under_io_and_works_again(void **state)
{
	struct rig *r = rig_get();

	daemon_image(&r->d, "disk", DISK_BYTES);
	start(r, FILE_DISK);
	again(r, &(struct fe_up_opts){ .features = SPEC_F_VERSION_1 | SPEC_F_RING_RESET });
	for (unsigned i = 0; i < 50; i++) {
		load(r);
		assert_ok(vpcife_queue_reset(pci(), 0));
		rings_up(r);
		rig_io(r, i * 8);
	}
}

static void a_client_may_leave_under_io(void **state)
{
	struct rig *r = rig_get();
	unsigned fds = 0;

	daemon_image(&r->d, "disk", DISK_BYTES);
	start(r, FILE_DISK);
	for (unsigned i = 0; i < 50; i++) {
		again(r, &(struct fe_up_opts){ .packed = i & 1 });
		rig_io(r, 0);
		load(r);
		if (i == 9)
			fds = daemon_fd_count(&r->d);
	}
	assert_int_equal(daemon_fd_count(&r->d), fds);
}

/* ---- memory ---- */

/* All of it, in pieces, as firmware makes QEMU do it. */
static void remap(struct rig *r, uint64_t piece)
{
	struct fe_region *m = &r->fe.region[0];

	assert_ok(vfe_region_unmap(&r->pci.v, 0));
	for (uint64_t at = 0; at < m->wire.size_bytes; at += piece)
		assert_ok(vfe_dma_map(&r->pci.v, m->wire.gpa + at, piece, m->wire.mmap_off + at, 3,
				      m->fd));
	for (uint64_t at = 0; at < m->wire.size_bytes; at += piece)
		assert_ok(vfe_dma_unmap(&r->pci.v, m->wire.gpa + at, piece, 0));
	assert_ok(vfe_region_map(&r->pci.v, 0, 3, true));
}

static void memory_is_unmapped_and_mapped_again_under_io(void **state)
{
	struct rig *r = rig_get();

	daemon_image(&r->d, "disk", DISK_BYTES);
	start(r, FILE_DISK);
	for (unsigned i = 0; i < 60; i++) {
		if (i == 30)
			again(r, &(struct fe_up_opts){ .packed = true });
		load(r);
		remap(r, r->fe.region[0].wire.size_bytes >> i % 3);
		for (unsigned n = 0; n < DEPTH; n++) {
			struct blkdrv_req *done;
			uint8_t status;

			if (blkdrv_reap(&r->b, &done, &status, true) != 1)
				fail_msg("round %u: %s %s", i, r->q.why, r->b.why);
			assert_int_equal(status, 0);
			blkdrv_put(&r->b, done);
		}
		rig_io(r, i * 8);
	}
	assert_false(get(VPCI_DEVICE_STATUS, 1) & VPCI_NEEDS_RESET);
}

static void a_change_of_memory_behind_posted_writes_is_answered(void **state)
{
	struct rig *r = rig_get();

	start(r, DISK);
	for (unsigned i = 0; i < 150; i++) {
		for (unsigned n = 0; n < i % 75; n++)
			assert_ok(vpcife_set(pci(), VPCI_QUEUE_SELECT, 2, n));
		remap(r, r->fe.region[0].wire.size_bytes);
		rig_io(r, 0);
	}
}

/* The same as QEMU sends it: all messages, then all answers. The server finds them all there. */
static void remap_at_once(struct rig *r, unsigned pieces)
{
	struct fe_region *m = &r->fe.region[0];
	uint64_t bytes = m->wire.size_bytes / pieces;
	struct {
		uint32_t argsz, flags;
		uint64_t iova, size;
	} unmap = { sizeof(unmap), 0, m->wire.gpa, m->wire.size_bytes };
	struct vfe_msg msg;
	int id[33];

	kill(r->d.pid, SIGSTOP);
	id[0] = vfe_send(&r->pci.v, VFE_DMA_UNMAP, 0, &unmap, sizeof(unmap), NULL, 0);
	for (unsigned i = 0; i < pieces; i++) {
		struct {
			uint32_t argsz, flags;
			uint64_t offset, iova, size;
		} map = { sizeof(map), 3, m->wire.mmap_off + i * bytes, m->wire.gpa + i * bytes,
			  bytes };

		id[i + 1] = vfe_send(&r->pci.v, VFE_DMA_MAP, 0, &map, sizeof(map), &m->fd, 1);
	}
	kill(r->d.pid, SIGCONT);
	for (unsigned i = 0; i <= pieces; i++) {
		assert_true(id[i] >= 0);
		assert_ok(vfe_answer(&r->pci.v, id[i], i ? VFE_DMA_MAP : VFE_DMA_UNMAP, 24, &msg));
		vfe_msg_close(&msg);
	}
}

/* Back to one map, with nothing in the ring. */
static void remap_to_one(struct rig *r, unsigned pieces)
{
	struct fe_region *m = &r->fe.region[0];
	uint64_t bytes = m->wire.size_bytes / pieces;

	for (unsigned i = 0; i < pieces; i++)
		assert_ok(vfe_dma_unmap(&r->pci.v, m->wire.gpa + i * bytes, bytes, 0));
	assert_ok(vfe_region_map(&r->pci.v, 0, 3, true));
}

/* Between the first message and the last most memory is missing, and requests wait in the ring. */
static void a_change_of_memory_of_many_messages_is_one(void **state)
{
	static struct blkdrv_req many[40];
	struct rig *r = rig_get();

	start(r, DISK);
	again(r, &(struct fe_up_opts){ .queue_size = 128, .region_bytes = 8 << 20 });
	for (unsigned i = 0; i < 30; i++) {
		memset(many, 0, sizeof(many));
		for (unsigned n = 0; n < 40; n++)
			assert_ok(blkdrv_add(&r->b, &many[n], SPEC_BLK_IN, n * 8, NULL, 0, PIECE));
		assert_true(drv_publish(&r->q) >= 0);
		remap_at_once(r, 32);
		for (unsigned n = 0; n < 40; n++) {
			struct blkdrv_req *done;
			uint8_t status;

			if (blkdrv_reap(&r->b, &done, &status, true) != 1)
				fail_msg("round %u: %s %s", i, r->q.why, r->b.why);
			assert_int_equal(status, 0);
			blkdrv_put(&r->b, done);
		}
		remap_to_one(r, 32);
	}
}

static void what_is_read_only_or_without_a_descriptor_is_no_memory_of_a_queue(void **state)
{
	static const struct {
		uint32_t flags;
		bool with_fd;
	} rows[] = { { 1, true }, { 3, false } };
	struct rig *r = rig_get();

	start(r, DISK);
	for (unsigned i = 0; i < 2; i++) {
		assert_ok(vpcife_negotiate(pci(), r->fe.features));
		assert_ok(vfe_region_unmap(&r->pci.v, 0));
		assert_ok(vfe_region_map(&r->pci.v, 0, rows[i].flags, rows[i].with_fd));
		assert_ok(vpcife_set(pci(), VPCI_CONFIG_MSIX_VECTOR, 2, 0));
		rings_up(r);
		assert_ok(vpcife_driver_ok(pci()));
		assert_true(heard(r->pci.v.vector_fd[0]));
		assert_true(get(VPCI_DEVICE_STATUS, 1) & VPCI_NEEDS_RESET);
		assert_ok(vfe_region_unmap(&r->pci.v, 0));
		assert_ok(vfe_region_map(&r->pci.v, 0, 3, true));
		device_up(r);
		rig_io(r, 0);
	}
}

/* ---- faults ---- */

static void a_broken_queue_is_told_and_a_reset_mends_it(void **state)
{
	struct rig *r = rig_get();

	start(r, DISK);
	again(r, &(struct fe_up_opts){ .queues = 2 });
	rig_io(r, 0);
	r->q.strict = false;
	drv_raw_avail(&r->q, 60000);
	drv_raw_avail_idx(&r->q, r->q.avail_idx);
	assert_ok(drv_kick(&r->q) < 0);
	assert_true(heard(r->pci.v.vector_fd[0]));
	assert_true(get(VPCI_DEVICE_STATUS, 1) & VPCI_NEEDS_RESET);
	assert_true(daemon_log_has(&r->d, "queue 0: head or buffer id beyond the queue size"));
	device_up(r);
	rig_io(r, 0);
}

static uint32_t any_value(void)
{
	static const uint32_t some[] = { 0, 1, 2, 4, 8, 0xf, 0x40, 0xff, 0xffff, 0x80000000, ~0u };

	return rnd(2) ? some[rnd(sizeof(some) / sizeof(some[0]))] : rnd(UINT32_MAX);
}

static void any_access_hurts_nobody(void **state)
{
	static const uint32_t lens[] = { 1, 2, 4, 8 };
	struct rig *r = rig_get();

	start(r, DISK);
	for (unsigned i = 0; i < 20000; i++) {
		uint32_t page = rnd(4) * 0x1000u, len = lens[rnd(4)];
		uint32_t off = (page + rnd(rnd(4) ? 0x40 : 0x1000)) / len * len;
		uint64_t value = (uint64_t)any_value() << 32 | any_value();
		uint32_t low;

		if (rnd(4) == 0)
			assert_ok(vfe_region_read(&r->pci.v, 4, off, &value, len));
		else if (rnd(16) == 0)
			vpcife_window_write(pci(), &r->pci.common, off, len & 7, any_value());
		else if (rnd(64) == 0)
			vpcife_window_read(pci(), &r->pci.common, off, len & 7, &low);
		else
			assert_ok(vfe_region_post(&r->pci.v, 4, off, &value, len));
		/* A device that was brought up in between. */
		if (i % 1000 == 999) {
			assert_ok(vfe_vectors_set(&r->pci.v, 5));
			assert_ok(vpcife_set(pci(), VPCI_CONFIG_MSIX_VECTOR, 2, 0));
			device_up(r);
			rig_io(r, 0);
		}
	}
}

/* ---- the configuration ---- */

static void a_resize_is_told_with_a_new_generation(void **state)
{
	struct rig *r = rig_get();
	struct spec_blk_config c;
	uint64_t before;

	daemon_image(&r->d, "disk", DISK_BYTES);
	start(r, "blk,socket=@a.sock,transport=vfio-user,file=@disk");
	before = get(VPCI_CONFIG_GENERATION, 1);
	assert_int_equal(truncate(daemon_path(&r->d, "disk"), 2 * DISK_BYTES), 0);
	assert_int_equal(kill(r->d.pid, SIGHUP), 0);
	assert_true(heard(r->pci.v.vector_fd[0]));
	assert_int_not_equal(get(VPCI_CONFIG_GENERATION, 1), before);
	assert_ok(fe_get_config(&r->fe, 0, &c, sizeof(c)));
	assert_int_equal(c.capacity, 2 * DISK_BYTES / 512);
}

/* ---- migration ---- */

static void a_device_that_was_saved_goes_on_where_it_was(void **state)
{
	static uint8_t data[1 << 20];
	struct rig *r = rig_get();

	start(r, DISK);
	for (unsigned packed = 0; packed < 2; packed++) {
		int len;

		again(r, &(struct fe_up_opts){ .packed = packed, .queues = 2 });
		for (unsigned i = 0; i < 100; i++)
			rig_io(r, i * 8);
		assert_ok(vfe_state_set(&r->pci.v, VFE_STATE_STOP_COPY));
		len = vfe_mig_read(&r->pci.v, data, sizeof(data));
		assert_true(len > 0);
		fe_hangup(&r->fe);
		rig_connect(r);
		assert_ok(vfe_up(&r->pci.v, &(struct vfe_up_opts){ 0 }));
		assert_ok(vfe_state_set(&r->pci.v, VFE_STATE_STOP));
		assert_ok(vfe_state_set(&r->pci.v, VFE_STATE_RESUMING));
		assert_ok(vfe_mig_write(&r->pci.v, data, (uint32_t)len));
		assert_ok(vfe_state_set(&r->pci.v, VFE_STATE_STOP));
		assert_ok(vfe_state_set(&r->pci.v, VFE_STATE_RUNNING));
		assert_int_equal(get(VPCI_DEVICE_STATUS, 1), VPCI_ACKNOWLEDGE | VPCI_DRIVER |
								     VPCI_FEATURES_OK |
								     VPCI_DRIVER_OK);
		for (unsigned i = 0; i < 100; i++)
			rig_io(r, i * 8);
	}
}

/* Writes under way all the while, each with a stamp of its own; and what they left. */
static void handed_over_under_io(struct rig *r)
{
	static uint8_t data[PIECE], back[PIECE];
	uint32_t stamp[DEPTH];

	memset(req, 0, sizeof(req));
	for (unsigned round = 0; round < 10; round++) {
		unsigned left = DEPTH;

		for (unsigned i = 0; i < DEPTH; i++) {
			stamp[i] = rnd(UINT32_MAX);
			fill_pattern(data, PIECE, stamp[i]);
			assert_ok(blkdrv_add(&r->b, &req[i], SPEC_BLK_OUT, i * 8, data, PIECE, 0));
		}
		daemon_hand_over_begin(&r->d);
		pause_us(rnd(20000));
		assert_true(drv_publish(&r->q) >= 0);
		while (r->d.call_fd || left) {
			struct blkdrv_req *q;
			uint8_t status;
			int rc = left ? blkdrv_reap(&r->b, &q, &status, !r->d.call_fd) : 0;

			if (rc < 0)
				fail_msg("%d %s", rc, r->b.why);
			if (rc > 0) {
				assert_int_equal(status, 0);
				blkdrv_put(&r->b, q);
				left--;
			}
			if (r->d.call_fd)
				daemon_hand_over_ended(&r->d);
		}
		for (unsigned i = 0; i < DEPTH; i++) {
			fill_pattern(data, PIECE, stamp[i]);
			assert_ok(blkdrv_read(&r->b, i * 8, back, PIECE));
			assert_memory_equal(back, data, PIECE);
		}
	}
}

static void handed_over_as_the_same_function(void **state)
{
	static const char *const ways[] = { DISK, DISK ",notifications=mapped", FILE_DISK };
	struct rig *r = rig_get();

	seed = now_us();
	daemon_image(&r->d, "disk", DISK_BYTES);
	for (unsigned way = 0; way < 6; way++) {
		if (way)
			daemon_stop(&r->d);
		daemon_start(&r->d, "--device", ways[way % 3], "--cores", "2", "--rpc-socket",
			     "@rpc", NULL);
		again(r, &(struct fe_up_opts){ .packed = way / 3 });
		handed_over_under_io(r);
		assert_int_equal(get(VPCI_DEVICE_STATUS, 1), VPCI_ACKNOWLEDGE | VPCI_DRIVER |
								     VPCI_FEATURES_OK |
								     VPCI_DRIVER_OK);
		/* it can be begun anew, and told of a resize */
		again(r, NULL);
		rig_io(r, 0);
	}
}

struct page_log {
	uint64_t iova, bytes, page_size;
	uint64_t bits[4096 / 64]; /* of 16 MiB */
};

static bool is_dirty(const struct page_log *log, uint64_t gpa)
{
	uint64_t page = (gpa - log->iova) / 4096;

	return log->bits[page / 64] >> page % 64 & 1;
}

static void what_the_device_writes_is_in_the_dirty_log(void **state)
{
	struct rig *r = rig_get();

	start(r, DISK);
	for (unsigned packed = 0; packed < 2; packed++) {
		struct blkdrv_req *done, *back = &req[0];
		uint64_t far;
		uint8_t status;

		again(r, &(struct fe_up_opts){ .packed = packed });
		far = fe_alloc(&r->fe, -1, 3 * 4096, 4096) + 4096;
		struct {
			uint64_t page_size;
			uint32_t ranges, reserved;
			uint64_t iova, bytes;
		} log = { 4096, 1, 0, r->fe.region[0].wire.gpa, 16 << 20 };
		struct page_log ask = { log.iova, log.bytes, 4096, { 0 } }, got = ask;

		memset(req, 0, sizeof(req));
		assert_ok(vfe_feature(&r->pci.v, VFE_FEATURE_SET | VFE_FEATURE_LOG_START, &log,
				      sizeof(log), NULL, 0));
		assert_ok(blkdrv_add(&r->b, back, SPEC_BLK_IN, 0, NULL, 0, PIECE));
		assert_true(drv_publish(&r->q) >= 0);
		assert_int_equal(blkdrv_reap(&r->b, &done, &status, true), 1);
		assert_ok(vfe_feature(&r->pci.v, VFE_FEATURE_GET | VFE_FEATURE_LOG_REPORT, &ask, 24,
				      &got, sizeof(got)));
		assert_true(is_dirty(&got, back->data_gpa));
		assert_true(is_dirty(&got, back->data_gpa + PIECE - 1));
		assert_true(is_dirty(&got, back->status_gpa));
		assert_true(is_dirty(&got, packed ? r->q.vr->desc_gpa : r->q.vr->used_gpa));
		assert_false(is_dirty(&got, far));
		blkdrv_put(&r->b, done);
	}
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, rig_own_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_pin_and_the_isr_status_do_instead_of_vectors),
		T(notifications_may_be_written_to_a_mapped_page),
		T(registers_and_notifications_are_reached_through_configuration_space),
		T(features_of_the_transport_are_negotiated),
		T(a_reset_under_io_ends_it_and_writes_nothing_after_it),
		T(a_queue_is_reset_under_io_and_works_again),
		T(a_client_may_leave_under_io),
		T(memory_is_unmapped_and_mapped_again_under_io),
		T(a_change_of_memory_behind_posted_writes_is_answered),
		T(a_change_of_memory_of_many_messages_is_one),
		T(what_is_read_only_or_without_a_descriptor_is_no_memory_of_a_queue),
		T(a_broken_queue_is_told_and_a_reset_mends_it),
		T(any_access_hurts_nobody),
		T(a_resize_is_told_with_a_new_generation),
		T(a_device_that_was_saved_goes_on_where_it_was),
		T(handed_over_as_the_same_function),
		T(what_the_device_writes_is_in_the_dirty_log),
	};
	const char *s = getenv("PROTO_SEED");

	seed = s ? strtoull(s, NULL, 0) : now_us() * 0x9e3779b97f4a7c15ull;
	fprintf(stderr, "PROTO_SEED=0x%llx\n", (unsigned long long)seed);
	unsetenv("PROTO_TRANSPORT"); /* each test says what it wants */
	return cmocka_run_group_tests_name("vfu_virtio", tests, NULL, NULL);
}
