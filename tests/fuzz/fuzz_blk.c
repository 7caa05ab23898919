/*
 * libFuzzer: requests to virtio-blk, on a ram disk. The ring is legal (fuzz_ring is for the other
 * kind), what its chains say and how they are cut into descriptors is the input's.
 *
 * Input: feature byte, then requests: type, sector, how many bytes of header and of device-writable
 * space, where to cut, and the bytes of the readable side.
 * Checked: each chain comes back once, with a status that exists and a length that the writable
 * side has; no byte of memory but that side changes.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "blk/blk.h"
#include "loop/loop.h"
#include "virtio/vdev.h"
#include "virtq/virtq.h"

#define MEM_BYTES  0x20000u
#define RING_SIZE  256u
#define AVAIL_AT   0x1000u
#define USED_AT	   0x1400u
#define DATA_AT	   0x2000u
#define CHAINS_MAX 16u
#define DISK	   "size=1M"
#define TURNS_MAX  10000

#define DESC_NEXT  1u
#define DESC_WRITE 2u

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/* One request as the input describes it. */
struct wish {
	uint8_t type, cut_out, cut_in, flags;
	uint32_t sector512;
	uint16_t out_bytes, in_bytes;
};

struct chain_out {
	uint32_t in_at, in_bytes;
	bool back;
};

static struct loop *loop;
static struct gmem *memory;
static uint8_t *mem, *before;
static struct blk_dev *disk;
static struct vdev *vdev;
static struct virtq *vq;
static void *queue;
static struct loop_work publish;
static struct chain_out chains[RING_SIZE]; /* by head */
static uint32_t chain_count, desc_count, data_at;

static void on_publish(struct loop_work *work)
{
	virtq_publish(vq);
}

static void world_make(void)
{
	struct gmem_region_desc desc = { .size_bytes = MEM_BYTES, .uva = 1ull << 32 };
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	ASSERT(fd >= 0 && !ftruncate(fd, MEM_BYTES));
	ASSERT(!gmem_new(&desc, &fd, 1, &memory, NULL));
	close(fd);
	mem = gmem_gpa_to_host(memory, gpa(0), MEM_BYTES);
	before = malloc(MEM_BYTES);
	ASSERT(before);
	ASSERT(!loop_new(&(struct loop_params){ .name = "fuzz", .cpu = -1 }, &loop, NULL));
	publish.fn = on_publish;
}

static void device_start(uint8_t features)
{
	static const char *const backends[] = { "ram", "null", "ram" };
	static const char *const sizes[] = { DISK, DISK, DISK ",block-size=4096" };
	const struct vblk_params params = { .serial = "fuzz",
					    .num_queues = 1,
					    .queue_size_max = RING_SIZE,
					    .read_only = features & 8 };
	struct virtq_setup setup = {
		.features = VIRTIO_F_VERSION_1,
		.size = RING_SIZE,
		.map = memory,
		.desc = mem,
		.avail = mem + AVAIL_AT,
		.used = mem + USED_AT,
		.publish_fifo = &loop_fifos(loop)->publish,
		.publish_node = &publish.node,
	};
	uint64_t offered;

	ASSERT(!blk_dev_open(backends[(features & 3) % 3], "fuzz", sizes[(features & 3) % 3], &disk,
			     NULL));
	ASSERT(!vblk_new(disk, &params, &vdev, NULL));
	offered = vdev->ops->features(vdev);
	if (features & 4)
		offered &= ~(1ull << 9); /* no FLUSH: write-through */
	vdev->ops->features_set(vdev, VIRTIO_F_VERSION_1 | offered);
	setup.slot_bytes = vdev->ops->slot_bytes;
	if (features & 16)
		setup.features |= VIRTIO_F_IN_ORDER;
	vq = virtq_new();
	ASSERT(vq && !virtq_start(vq, &setup, NULL));
	ASSERT(!vdev->ops->queue_start(vdev, 0, vq, loop, &queue, NULL));
}

static void device_stop(void)
{
	vdev->ops->queue_stop(queue);
	virtq_stop(vq);
	virtq_free(vq);
	vdev->ops->free(vdev);
	blk_dev_unref(disk);
}

/* One side of a chain as one to four descriptors; the last one's flags keep NEXT for now. */
static void descs_put(uint32_t bytes, uint8_t cut, uint16_t flags)
{
	struct desc *table = (struct desc *)mem;
	uint32_t parts = 1 + (cut & 3);

	while (bytes && desc_count < RING_SIZE) {
		uint32_t n = parts > 1 ? 1 + (cut >> 2) * parts : bytes;
		struct desc *d = &table[desc_count];

		n = MIN(n, bytes);
		parts -= parts > 1;
		*d = (struct desc){ data_at, n, flags | DESC_NEXT, (uint16_t)++desc_count };
		data_at += n;
		bytes -= n;
	}
}

static bool chain_put(struct bytes *in)
{
	uint16_t *avail = (uint16_t *)(mem + AVAIL_AT);
	struct virtio_hdr {
		uint32_t type, reserved;
		uint64_t sector512;
	} hdr;
	uint32_t head = desc_count, at = data_at, out_bytes, in_bytes;
	struct wish w;
	struct desc *last;

	if (!bytes_take(in, &w, sizeof(w)) || chain_count == CHAINS_MAX)
		return false;
	out_bytes = MIN(w.out_bytes, MEM_BYTES - data_at);
	in_bytes = MIN(w.in_bytes, MEM_BYTES - data_at - out_bytes);
	if (!(out_bytes + in_bytes) || desc_count + 8 > RING_SIZE)
		return false;
	hdr = (struct virtio_hdr){ .type = w.type, .sector512 = w.sector512 };
	if (w.flags & 1)
		hdr.sector512 |= 0xffffffffull << 32;
	if (w.flags & 2)
		hdr.type |= 0x80000000u;
	memcpy(mem + at, &hdr, MIN(sizeof(hdr), out_bytes));
	if (out_bytes > sizeof(hdr)) {
		size_t n = MIN(out_bytes - sizeof(hdr), in->left_bytes);

		n = MIN(n, 64u);
		bytes_take(in, mem + at + sizeof(hdr), n);
	}
	descs_put(out_bytes, w.cut_out, 0);
	descs_put(in_bytes, w.cut_in, DESC_WRITE);
	last = (struct desc *)mem + desc_count - 1;
	last->flags &= (uint16_t)~DESC_NEXT;
	chains[head] = (struct chain_out){ at + out_bytes, in_bytes, false };
	avail[2 + chain_count++] = (uint16_t)head;
	avail[1] = (uint16_t)chain_count;
	return true;
}

static void serve(void)
{
	struct vq_chain *chain;
	uint32_t turns = 0;

	while ((chain = virtq_pop(vq)))
		vdev->ops->on_chain(queue, chain);
	ASSERT(virtq_broken(vq) == VIRTQ_NONE);
	while (virtq_inflight(vq)) {
		ASSERT(turns++ < TURNS_MAX);
		loop_run_once(loop, false);
	}
	loop_run_once(loop, false);
}

static void used_check(void)
{
	const uint16_t *used = (const uint16_t *)(mem + USED_AT);
	const uint32_t *elems = (const uint32_t *)(mem + USED_AT + 4);

	ASSERT(used[1] == chain_count);
	for (uint32_t i = 0; i < chain_count; i++) {
		struct chain_out *c = &chains[elems[2 * i]];

		ASSERT(elems[2 * i] < RING_SIZE && !c->back);
		ASSERT(elems[2 * i + 1] <= c->in_bytes);
		ASSERT(!c->in_bytes || mem[c->in_at + c->in_bytes - 1] <= 2);
		c->back = true;
		/* What it was allowed to write is as before, so that the rest can be compared. */
		memcpy(mem + c->in_at, before + c->in_at, c->in_bytes);
	}
	ASSERT(!memcmp(mem + DATA_AT, before + DATA_AT, MEM_BYTES - DATA_AT));
	ASSERT(!memcmp(mem, before, USED_AT));
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	struct bytes left = bytes_of(in, len);
	uint8_t features;

	if (!memory)
		world_make();
	memset(mem, 0xee, MEM_BYTES);
	memset(mem, 0, DATA_AT);
	memset(chains, 0, sizeof(chains));
	chain_count = desc_count = 0;
	data_at = DATA_AT;
	bytes_take(&left, &features, 1);
	while (chain_put(&left))
		;
	memcpy(before, mem, MEM_BYTES);
	device_start(features);
	/* queue and channel belong to the loop; nothing asserts its thread but the loop itself */
	serve();
	device_stop();
	used_check();
	return 0;
}
