/* virtio-blk requests, with doubles for the block waist and for the ring's push. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/num.h"
#include "blk/limit.h"
#include "virtio/features.h"
#include "virtio/vdev.h"

#define DISK_BYTES  (1u << 20)
#define SUBMITS_MAX 64
#define PIECES_MAX  1024

static struct {
	struct loop_fifos loop;
	struct blk_caps caps;
	struct blk_listener *listener;
	uint8_t disk[DISK_BYTES];
	struct vdev *vdev;
	void *queue;
	struct vq_chain *chain; /* the one slot */

	/* the double of the waist: what was submitted, and the status of submission n */
	struct blk_req *waiting;
	struct blk_req seen[SUBMITS_MAX];
	uint32_t seen_count;
	enum blk_status answer[SUBMITS_MAX];

	/* the double of the ring */
	uint32_t push_count, pushed_bytes;

	/* what the waist was told to register */
	struct gmem *map;
	struct iovec region;
	uint32_t regions_told;

	/* the driver's memory */
	uint8_t out[8192], in[8192];
	size_t in_len;
	struct iovec out_iov[PIECES_MAX], in_iov[PIECES_MAX];
	uint32_t config_changes;
} t;

/* ---- doubles ---- */

const struct blk_caps *blk_dev_caps(const struct blk_dev *dev)
{
	return &t.caps;
}

struct blk_dev *blk_dev_ref(struct blk_dev *dev)
{
	return dev;
}

void blk_dev_unref(struct blk_dev *dev)
{
}

void blk_dev_listen(struct blk_dev *dev, struct blk_listener *l)
{
	t.listener = l;
}

void blk_dev_unlisten(struct blk_listener *l)
{
	assert_ptr_equal(l, t.listener);
	t.listener = NULL;
}

int blk_way_open(struct blk_way *way, struct blk_dev *dev, struct loop *loop,
		 struct blk_limits *limits, struct err *reterr)
{
	way->chan = way->base = (struct blk_chan *)&t;
	return 0;
}

void blk_way_close(struct blk_way *way)
{
}

void blk_way_hurry(struct blk_way *way, bool on)
{
}

struct blk_limits *blk_limits_ref(struct blk_limits *limits)
{
	return limits;
}

void blk_limits_unref(struct blk_limits *limits)
{
}

int blk_chan_buffers_set(struct blk_chan *chan, const struct iovec *regions, uint32_t count,
			 struct err *reterr)
{
	t.region = regions[0];
	t.regions_told += count;
	return 0;
}

const struct gmem *virtq_map(const struct virtq *vq)
{
	return t.map;
}

void blk_submit(struct blk_chan *chan, struct blk_req *req)
{
	assert_null(t.waiting);
	assert_true(t.seen_count < SUBMITS_MAX);
	t.seen[t.seen_count++] = *req;
	t.waiting = req;
}

void virtq_push(struct virtq *vq, struct vq_chain *chain, uint32_t written_bytes)
{
	assert_ptr_equal(chain, t.chain);
	t.push_count++;
	t.pushed_bytes = written_bytes;
}

static void disk_do(struct blk_req *req)
{
	if (req->op == BLK_READ)
		iov_copy_in(req->iov, req->iov_count, 0, t.disk + req->offset_bytes,
			    req->len_bytes);
	else if (req->op == BLK_WRITE)
		iov_copy_out(req->iov, req->iov_count, 0, t.disk + req->offset_bytes,
			     req->len_bytes);
}

static void run(void)
{
	for (;;) {
		struct fifo_node *n = fifo_pop(&t.loop.done);

		if (n) {
			struct loop_work *work = container_of(n, struct loop_work, node);

			work->fn(work);
		} else if (t.waiting) {
			struct blk_req *req = t.waiting;

			t.waiting = NULL;
			req->status = t.answer[t.seen_count - 1];
			if (req->status == BLK_ST_OK)
				disk_do(req);
			req->done(req);
		} else {
			return;
		}
	}
}

/* ---- fixture ---- */

static void start(uint64_t negotiated, bool read_only)
{
	const struct vblk_params params = { .name = "d0",
					    .serial = "serial-1",
					    .num_queues = 4,
					    .queue_size_max = 1024,
					    .read_only = read_only };
	struct err err = { 0 };

	assert_int_equal(vblk_new((struct blk_dev *)&t, &params, &t.vdev, &err), 0);
	t.vdev->ops->features_set(t.vdev, negotiated);
	assert_int_equal(
		t.vdev->ops->queue_start(t.vdev, 0, NULL, (struct loop *)&t.loop, &t.queue, &err),
		0);
	t.chain = calloc(1, t.vdev->ops->slot_bytes);
}

static void stop(void)
{
	t.vdev->ops->queue_stop(t.queue);
	t.vdev->ops->free(t.vdev);
	assert_null(t.listener);
	free(t.chain);
}

static int setup(void **state)
{
	memset(&t, 0, sizeof(t));
	fifo_init(&t.loop.done);
	fifo_init(&t.loop.publish);
	t.caps = (struct blk_caps){ .size_bytes = DISK_BYTES,
				    .block_bytes = 512,
				    .phys_bytes = 4096,
				    .mem_align = 1,
				    .discard_align_bytes = 4096,
				    .discard = true,
				    .write_zeroes = true,
				    .zeroes_unmap = true,
				    .secure_erase = true };
	for (size_t i = 0; i < DISK_BYTES; i++)
		t.disk[i] = (uint8_t)(i / 512 * 7 + i);
	return 0;
}

static uint32_t cut(struct iovec *iov, uint8_t *base, size_t len, size_t piece)
{
	uint32_t count = 0;

	for (size_t at = 0; at < len; at += piece, count++) {
		assert_true(count < PIECES_MAX);
		iov[count] = (struct iovec){ base + at, MIN(piece, len - at) };
	}
	return count;
}

/* One request from t.out[0, out_len) and t.in[0, in_len), in pieces; checks the common rules. */
static uint8_t request(size_t out_len, size_t in_len, size_t piece)
{
	uint32_t pushes = t.push_count;

	memset(t.in, 0xee, sizeof(t.in));
	memset(t.chain, 0, t.vdev->ops->slot_bytes);
	iov_cur_init(&t.chain->out, t.out_iov, cut(t.out_iov, t.out, out_len, piece), out_len);
	iov_cur_init(&t.chain->in, t.in_iov, cut(t.in_iov, t.in, in_len, piece), in_len);
	t.vdev->ops->on_chain(t.queue, t.chain);
	assert_int_equal(t.push_count, pushes); /* not before on_chain returned */
	run();
	assert_int_equal(t.push_count, pushes + 1);
	assert_int_equal(t.in[in_len], 0xee); /* nothing beyond the end */
	return in_len ? t.in[in_len - 1] : 0xff;
}

static void header(uint32_t type, uint64_t sector512)
{
	const struct virtio_blk_hdr hdr = { .type = le32(type), .sector512 = le64(sector512) };

	memcpy(t.out, &hdr, sizeof(hdr));
}

static void segment(uint32_t idx, uint64_t sector512, uint32_t count, uint32_t flags)
{
	const struct virtio_blk_seg seg = { le64(sector512), le32(count), le32(flags) };

	memcpy(t.out + 16 + idx * 16, &seg, sizeof(seg));
}

#define ALL                                                                                        \
	(VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_CONFIG_WCE | VIRTIO_BLK_F_DISCARD |                     \
	 VIRTIO_BLK_F_WRITE_ZEROES | VIRTIO_BLK_F_SECURE_ERASE)

/* ---- reads and writes ---- */

static const size_t pieces[] = { 1, 3, 8, 15, 16, 17, 19, 511, 512, 513, 4096, 8192 };

static void test_read_works_however_descriptors_split(void **state)
{
	start(ALL, false);
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		size_t len = pieces[i] < 8 ? 512 : 4096;

		header(VIRTIO_BLK_T_IN, 3);
		assert_int_equal(request(16, len + 1, pieces[i]), VIRTIO_BLK_S_OK);
		assert_memory_equal(t.in, t.disk + 3 * 512, len);
		assert_int_equal(t.pushed_bytes, len + 1);
	}
	stop();
}

static void test_write_works_however_descriptors_split(void **state)
{
	start(ALL, false);
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		size_t len = pieces[i] < 8 ? 512 : 4096;

		header(VIRTIO_BLK_T_OUT, i);
		memset(t.out + 16, (int)(0x40 + i), len);
		assert_int_equal(request(16 + len, 1, pieces[i]), VIRTIO_BLK_S_OK);
		assert_memory_equal(t.disk + i * 512, t.out + 16, len);
		assert_int_equal(t.pushed_bytes, 1);
		assert_int_equal(t.seen[t.seen_count - 1].flags, 0);
	}
	stop();
}

static void test_read_and_write_of_nothing_fail(void **state)
{
	start(ALL, false);
	header(VIRTIO_BLK_T_IN, 0);
	assert_int_equal(request(16, 1, 16), VIRTIO_BLK_S_IOERR);
	header(VIRTIO_BLK_T_OUT, 0);
	assert_int_equal(request(16, 1, 16), VIRTIO_BLK_S_IOERR);
	assert_int_equal(t.seen_count, 0);
	assert_int_equal(t.pushed_bytes, 1);
	stop();
}

static void test_sector_that_would_wrap_fails(void **state)
{
	start(ALL, false);
	header(VIRTIO_BLK_T_IN, 1ull << 55);
	assert_int_equal(request(16, 513, 512), VIRTIO_BLK_S_IOERR);
	header(VIRTIO_BLK_T_IN, UINT64_MAX);
	assert_int_equal(request(16, 513, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(t.seen_count, 0);
	stop();
}

static void test_read_only_disk_refuses_what_changes_it(void **state)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_DISCARD,
					  VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_SECURE_ERASE };

	start(ALL, true);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		header(types[i], 0);
		segment(0, 0, 8, 0);
		assert_int_equal(request(16 + (i ? 16 : 512), 1, 512), VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(t.seen_count, 0);
	assert_true(t.vdev->ops->features(t.vdev) & VIRTIO_BLK_F_RO);
	assert_false(t.vdev->ops->features(t.vdev) & VIRTIO_BLK_F_DISCARD);
	stop();
}

static void test_each_failure_of_the_back_end_has_its_status_and_length_1(void **state)
{
	start(ALL, false);
	for (int st = BLK_ST_IOERR; st < BLK_ST_COUNT; st++) {
		uint8_t wire = st == BLK_ST_UNSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;

		t.answer[t.seen_count] = (enum blk_status)st;
		header(VIRTIO_BLK_T_IN, 0);
		assert_int_equal(request(16, 4097, 4096), wire);
		assert_int_equal(t.pushed_bytes, 1);
		assert_int_equal(t.in[0], 0xee);
	}
	stop();
}

/* ---- chains that are too short ---- */

static void test_chain_without_room_for_a_status_comes_back_with_length_0(void **state)
{
	start(ALL, false);
	header(VIRTIO_BLK_T_IN, 0);
	request(16, 0, 16);
	assert_int_equal(t.pushed_bytes, 0);
	request(0, 0, 16);
	assert_int_equal(t.pushed_bytes, 0);
	assert_int_equal(t.seen_count, 0);
	stop();
}

static void test_chain_shorter_than_a_header_fails(void **state)
{
	start(ALL, false);
	header(VIRTIO_BLK_T_IN, 0);
	for (size_t len = 0; len < 16; len++) {
		assert_int_equal(request(len, 513, 5), VIRTIO_BLK_S_IOERR);
		assert_int_equal(t.pushed_bytes, 1);
	}
	assert_int_equal(t.seen_count, 0);
	stop();
}

/* ---- flush, get-id, unknown ---- */

static void test_flush_reaches_the_back_end(void **state)
{
	start(ALL, false);
	header(VIRTIO_BLK_T_FLUSH, 0);
	assert_int_equal(request(16, 1, 16), VIRTIO_BLK_S_OK);
	assert_int_equal(t.seen_count, 1);
	assert_int_equal(t.seen[0].op, BLK_FLUSH);
	t.answer[1] = BLK_ST_GONE;
	assert_int_equal(request(16, 1, 16), VIRTIO_BLK_S_IOERR);
	stop();
}

static void test_get_id_is_padded_and_fits_any_buffer(void **state)
{
	static const char id[20] = "serial-1";

	start(ALL, false);
	header(VIRTIO_BLK_T_GET_ID, 0);
	for (size_t room = 0; room < 30; room++) {
		size_t len = MIN(room, sizeof(id));

		assert_int_equal(request(16, room + 1, 7), VIRTIO_BLK_S_OK);
		assert_memory_equal(t.in, id, len);
		assert_int_equal(t.pushed_bytes, len + 1);
	}
	stop();
}

static void test_unknown_request_types_are_unsupported(void **state)
{
	static const uint32_t types[] = { 2,	      3,	 5,  9,	 VIRTIO_BLK_T_GET_LIFETIME,
					  12,	      15,	 16, 26, 0x80000000,
					  0x80000001, UINT32_MAX };

	start(ALL, false);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		header(types[i], 0);
		assert_int_equal(request(16 + 512, 513, 512), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(t.pushed_bytes, 1);
	}
	assert_int_equal(t.seen_count, 0);
	stop();
}

/* ---- discard, write-zeroes, secure erase ---- */

static void test_all_segments_run_in_order(void **state)
{
	start(ALL, false);
	header(VIRTIO_BLK_T_DISCARD, 0);
	for (uint32_t i = 0; i < 16; i++)
		segment(i, i * 16, i + 1, 0);
	assert_int_equal(request(16 + 16 * 16, 1, 13), VIRTIO_BLK_S_OK);
	assert_int_equal(t.seen_count, 16);
	for (uint32_t i = 0; i < 16; i++) {
		assert_int_equal(t.seen[i].op, BLK_DISCARD);
		assert_int_equal(t.seen[i].offset_bytes, i * 16 * 512);
		assert_int_equal(t.seen[i].len_bytes, (i + 1) * 512);
	}
	assert_int_equal(t.pushed_bytes, 1);
	stop();
}

static void test_a_failed_segment_ends_the_request(void **state)
{
	start(ALL, false);
	header(VIRTIO_BLK_T_SECURE_ERASE, 0);
	for (uint32_t i = 0; i < 3; i++)
		segment(i, i * 16, 8, 0);
	t.answer[1] = BLK_ST_IOERR;
	assert_int_equal(request(16 + 48, 1, 64), VIRTIO_BLK_S_IOERR);
	assert_int_equal(t.seen_count, 2);
	stop();
}

static void test_one_bad_segment_keeps_all_from_running(void **state)
{
	const uint64_t end = DISK_BYTES / 512;
	const struct {
		uint64_t sector512;
		uint32_t count, flags;
		uint8_t status;
	} rows[] = {
		{ 0, 0, 0, VIRTIO_BLK_S_IOERR },
		{ end, 1, 0, VIRTIO_BLK_S_IOERR },
		{ end - 1, 2, 0, VIRTIO_BLK_S_IOERR },
		{ UINT64_MAX, 1, 0, VIRTIO_BLK_S_IOERR },
		{ 1, UINT32_MAX, 0, VIRTIO_BLK_S_IOERR },
		{ 0, 8, 2, VIRTIO_BLK_S_UNSUPP },
		{ 0, 8, 0x80000001, VIRTIO_BLK_S_UNSUPP },
		{ 0, 8, VIRTIO_BLK_SEG_UNMAP, VIRTIO_BLK_S_UNSUPP }, /* write-zeroes only */
	};

	start(ALL, false);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		header(VIRTIO_BLK_T_DISCARD, 0);
		segment(0, 0, 8, 0);
		segment(1, rows[i].sector512, rows[i].count, rows[i].flags);
		assert_int_equal(request(16 + 32, 1, 64), rows[i].status);
	}
	segment(0, end, 8, 0); /* an unknown flag wins over a bad range before it */
	segment(1, 0, 8, 4);
	assert_int_equal(request(16 + 32, 1, 64), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(t.seen_count, 0);
	stop();
}

static void test_segment_list_of_wrong_length_fails(void **state)
{
	static const size_t lens[] = { 0, 1, 15, 17, 33, 17 * 16 };

	start(ALL, false);
	header(VIRTIO_BLK_T_WRITE_ZEROES, 0);
	for (uint32_t i = 0; i < 17; i++)
		segment(i, 0, 1, 0);
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++)
		assert_int_equal(request(16 + lens[i], 1, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(t.seen_count, 0);
	stop();
}

static void test_segment_not_of_whole_blocks_fails(void **state)
{
	t.caps.block_bytes = 4096;
	start(ALL, false);
	header(VIRTIO_BLK_T_DISCARD, 0);
	segment(0, 4, 8, 0);
	assert_int_equal(request(32, 1, 64), VIRTIO_BLK_S_IOERR);
	segment(0, 8, 4, 0);
	assert_int_equal(request(32, 1, 64), VIRTIO_BLK_S_IOERR);
	segment(0, 8, 8, 0);
	assert_int_equal(request(32, 1, 64), VIRTIO_BLK_S_OK);
	stop();
}

static void test_ranges_without_their_feature_are_unsupported(void **state)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES,
					  VIRTIO_BLK_T_SECURE_ERASE };

	start(VIRTIO_BLK_F_FLUSH, false);
	segment(0, 0, 8, 0);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		header(types[i], 0);
		assert_int_equal(request(32, 1, 64), VIRTIO_BLK_S_UNSUPP);
	}
	stop();
}

static void test_unmap_of_write_zeroes_is_passed_on_where_it_can_be(void **state)
{
	start(ALL, false);
	header(VIRTIO_BLK_T_WRITE_ZEROES, 0);
	segment(0, 0, 8, VIRTIO_BLK_SEG_UNMAP);
	segment(1, 8, 8, 0);
	assert_int_equal(request(48, 1, 64), VIRTIO_BLK_S_OK);
	assert_int_equal(t.seen[0].flags, BLK_UNMAP);
	assert_int_equal(t.seen[1].flags, 0);
	t.caps.zeroes_unmap = false;
	assert_int_equal(request(48, 1, 64), VIRTIO_BLK_S_OK);
	assert_int_equal(t.seen[2].flags, 0);
	stop();
}

/* ---- durability ---- */

static uint8_t write_one(void)
{
	header(VIRTIO_BLK_T_OUT, 0);
	return request(16 + 512, 1, 512);
}

static void test_driver_without_flush_gets_durable_writes(void **state)
{
	t.caps.volatile_cache = t.caps.fua = true;
	start(VIRTIO_BLK_F_WRITE_ZEROES, false);
	assert_int_equal(write_one(), VIRTIO_BLK_S_OK);
	assert_int_equal(t.seen_count, 1);
	assert_int_equal(t.seen[0].flags, BLK_FUA);
	header(VIRTIO_BLK_T_WRITE_ZEROES, 0);
	segment(0, 0, 8, VIRTIO_BLK_SEG_UNMAP);
	segment(1, 8, 8, 0);
	assert_int_equal(request(48, 1, 64), VIRTIO_BLK_S_OK);
	assert_int_equal(t.seen[1].flags, BLK_FUA | BLK_UNMAP);
	assert_int_equal(t.seen[2].flags, BLK_FUA);
	stop();
}

static void test_without_fua_a_flush_follows_the_write(void **state)
{
	t.caps.volatile_cache = true;
	start(VIRTIO_BLK_F_WRITE_ZEROES, false);
	assert_int_equal(write_one(), VIRTIO_BLK_S_OK);
	assert_int_equal(t.seen_count, 2);
	assert_int_equal(t.seen[0].flags, 0);
	assert_int_equal(t.seen[1].op, BLK_FLUSH);
	t.answer[3] = BLK_ST_IOERR; /* the flush fails: so did the write */
	assert_int_equal(write_one(), VIRTIO_BLK_S_IOERR);
	t.answer[4] = BLK_ST_IOERR; /* the write fails: no flush */
	assert_int_equal(write_one(), VIRTIO_BLK_S_IOERR);
	assert_int_equal(t.seen_count, 5);
	header(VIRTIO_BLK_T_WRITE_ZEROES, 0); /* one flush after the last segment */
	segment(0, 0, 8, 0);
	segment(1, 8, 8, 0);
	assert_int_equal(request(48, 1, 64), VIRTIO_BLK_S_OK);
	assert_int_equal(t.seen_count, 8);
	assert_int_equal(t.seen[7].op, BLK_FLUSH);
	stop();
}

static void test_driver_turns_the_cache_off_and_on(void **state)
{
	uint8_t config[VDEV_CONFIG_MAX], off = 0, on = 1;

	t.caps.volatile_cache = t.caps.fua = true;
	start(ALL, false);
	t.vdev->ops->config_read(t.vdev, config);
	assert_int_equal(config[32], 1);
	write_one();
	assert_int_equal(t.seen[0].flags, 0);
	assert_int_equal(t.vdev->ops->config_write(t.vdev, 32, &off, 1), 0);
	t.vdev->ops->config_read(t.vdev, config);
	assert_int_equal(config[32], 0);
	write_one();
	assert_int_equal(t.seen[1].flags, BLK_FUA);
	assert_int_equal(t.vdev->ops->config_write(t.vdev, 32, &on, 1), 0);
	write_one();
	assert_int_equal(t.seen[2].flags, 0);
	t.vdev->ops->reset(t.vdev);
	t.vdev->ops->features_set(t.vdev, VIRTIO_BLK_F_CONFIG_WCE);
	t.vdev->ops->config_read(t.vdev, config);
	assert_int_equal(config[32], 0); /* CONFIG_WCE without FLUSH */
	stop();
}

static void test_back_end_without_a_cache_says_so(void **state)
{
	uint8_t config[VDEV_CONFIG_MAX];

	start(0, false);
	t.vdev->ops->config_read(t.vdev, config);
	assert_int_equal(config[32], 0);
	write_one();
	assert_int_equal(t.seen_count, 1);
	assert_int_equal(t.seen[0].flags, 0);
	stop();
}

/* ---- configuration space ---- */

static void test_config_space_has_every_field_at_its_offset(void **state)
{
	uint8_t c[VDEV_CONFIG_MAX], rest[VDEV_CONFIG_MAX] = { 0 };

	t.caps.opt_io_bytes = 65536;
	t.caps.max_discard_bytes = 65536;
	start(ALL, false);
	t.vdev->ops->config_read(t.vdev, c);
	assert_int_equal(*(uint64_t *)(c + 0), DISK_BYTES / 512);
	assert_int_equal(*(uint32_t *)(c + 8), 0);
	assert_int_equal(*(uint32_t *)(c + 12), 126);
	assert_int_equal(*(uint32_t *)(c + 20), 512);
	assert_int_equal(c[24], 3);
	assert_int_equal(*(uint16_t *)(c + 26), 8);
	assert_int_equal(*(uint32_t *)(c + 28), 128);
	assert_int_equal(*(uint16_t *)(c + 34), 4);
	assert_int_equal(*(uint32_t *)(c + 36), 128);
	assert_int_equal(*(uint32_t *)(c + 40), 16);
	assert_int_equal(*(uint32_t *)(c + 44), 8);
	assert_int_equal(*(uint32_t *)(c + 48), 1 << 21);
	assert_int_equal(*(uint32_t *)(c + 52), 16);
	assert_int_equal(c[56], 1);
	assert_int_equal(*(uint32_t *)(c + 64), 16);
	assert_memory_equal(c + 72, rest, VDEV_CONFIG_MAX - 72);
	stop();
}

static void test_only_the_cache_field_can_be_written(void **state)
{
	uint8_t c[VDEV_CONFIG_MAX], two = 2, zero = 0;
	int (*write)(struct vdev * dev, uint32_t off, const void *src, uint32_t len);

	t.caps.volatile_cache = true;
	start(ALL, false);
	write = t.vdev->ops->config_write;
	t.vdev->ops->config_read(t.vdev, c);
	assert_int_equal(write(t.vdev, 0, c, VDEV_CONFIG_MAX), 0); /* as it was */
	assert_int_equal(write(t.vdev, 32, &two, 1), -EINVAL);
	assert_int_equal(write(t.vdev, 31, &zero, 1), -EINVAL);
	assert_int_equal(write(t.vdev, 33, &zero, 1), -EINVAL);
	assert_int_equal(write(t.vdev, 32, &zero, 0), -EINVAL);
	assert_int_equal(write(t.vdev, 256, &zero, 1), -EINVAL);
	assert_int_equal(write(t.vdev, UINT32_MAX, c, 32), -EINVAL);
	c[0] ^= 1;
	assert_int_equal(write(t.vdev, 0, c, VDEV_CONFIG_MAX), -EINVAL);
	stop();
}

static void test_features_follow_the_back_end(void **state)
{
	uint64_t f;

	start(ALL, false);
	f = t.vdev->ops->features(t.vdev);
	assert_int_equal(f & ALL, ALL);
	assert_false(f & (VIRTIO_BLK_F_SIZE_MAX | VIRTIO_BLK_F_RO | VIRTIO_BLK_F_LIFETIME));
	t.caps.discard = t.caps.write_zeroes = t.caps.secure_erase = false;
	f = t.vdev->ops->features(t.vdev);
	assert_int_equal(f & ALL, VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_CONFIG_WCE);
	stop();
}

static void on_config_change(struct vdev *dev, void *front)
{
	t.config_changes++;
}

static void test_resize_is_told_to_the_front(void **state)
{
	start(ALL, false);
	t.listener->resized(t.listener); /* no front yet */
	t.vdev->on_config_change = on_config_change;
	t.listener->resized(t.listener);
	assert_int_equal(t.config_changes, 1);
	stop();
}

static void test_illegal_parameters_are_named(void **state)
{
	struct vblk_params p = { .num_queues = 0, .queue_size_max = 128 };
	struct vdev *vdev;
	struct err err = { 0 };

	assert_int_equal(vblk_new((struct blk_dev *)&t, &p, &vdev, &err), -EINVAL);
	assert_string_equal(err.msg, "num-queues: expected 1..256, got 0");
	p.num_queues = 1;
	p.queue_size_max = 2;
	assert_int_equal(vblk_new((struct blk_dev *)&t, &p, &vdev, &err), -EINVAL);
	p.queue_size_max = 128;
	p.seg_max = 5000;
	assert_int_equal(vblk_new((struct blk_dev *)&t, &p, &vdev, &err), -EINVAL);
	p.seg_max = 0;
	p.size_max = 1;
	assert_int_equal(vblk_new((struct blk_dev *)&t, &p, &vdev, &err), -EINVAL);
}

static void test_guest_memory_is_registered_only_when_asked(void **state)
{
	const struct gmem_region_desc desc = { .gpa = 0x1000, .size_bytes = 0x5000, .uva = 0x7000 };
	int fd = memfd_create("guest", MFD_CLOEXEC);
	struct vblk_params p = { .num_queues = 1, .queue_size_max = 128 };
	struct vdev *vdev;
	struct err err = { 0 };
	void *queue;

	assert_int_equal(ftruncate(fd, 0x5000), 0);
	assert_int_equal(gmem_new(&desc, &fd, 1, &t.map, &err), 0);
	for (uint32_t told = 0; told < 2; told++) {
		p.guest_buffers = told;
		assert_int_equal(vblk_new((struct blk_dev *)&t, &p, &vdev, &err), 0);
		assert_int_equal(
			vdev->ops->queue_start(vdev, 0, NULL, (struct loop *)&t.loop, &queue, &err),
			0);
		assert_int_equal(t.regions_told, told);
		vdev->ops->queue_stop(queue);
		vdev->ops->free(vdev);
	}
	assert_ptr_equal(t.region.iov_base, gmem_gpa_to_host(t.map, gpa(0x1000), 0x5000));
	assert_int_equal(t.region.iov_len, 0x5000);
	gmem_unref(t.map);
	close(fd);
}

#define T(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_read_works_however_descriptors_split),
		T(test_write_works_however_descriptors_split),
		T(test_read_and_write_of_nothing_fail),
		T(test_sector_that_would_wrap_fails),
		T(test_read_only_disk_refuses_what_changes_it),
		T(test_each_failure_of_the_back_end_has_its_status_and_length_1),
		T(test_chain_without_room_for_a_status_comes_back_with_length_0),
		T(test_chain_shorter_than_a_header_fails),
		T(test_flush_reaches_the_back_end),
		T(test_get_id_is_padded_and_fits_any_buffer),
		T(test_unknown_request_types_are_unsupported),
		T(test_all_segments_run_in_order),
		T(test_a_failed_segment_ends_the_request),
		T(test_one_bad_segment_keeps_all_from_running),
		T(test_segment_list_of_wrong_length_fails),
		T(test_segment_not_of_whole_blocks_fails),
		T(test_ranges_without_their_feature_are_unsupported),
		T(test_unmap_of_write_zeroes_is_passed_on_where_it_can_be),
		T(test_driver_without_flush_gets_durable_writes),
		T(test_without_fua_a_flush_follows_the_write),
		T(test_driver_turns_the_cache_off_and_on),
		T(test_back_end_without_a_cache_says_so),
		T(test_config_space_has_every_field_at_its_offset),
		T(test_only_the_cache_field_can_be_written),
		T(test_features_follow_the_back_end),
		T(test_resize_is_told_to_the_front),
		T(test_illegal_parameters_are_named),
		T(test_guest_memory_is_registered_only_when_asked),
	};

	return cmocka_run_group_tests_name("virtio-blk", tests, NULL, NULL);
}
