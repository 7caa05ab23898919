/*
 * libFuzzer: chains to virtio-scsi, on two ram disks. The ring is legal (fuzz_ring is for the other
 * kind); what its chains say and how they are cut into descriptors is the input's.
 *
 * Input: feature byte (control or request queue, sizes of the configuration space), then chains:
 * how many bytes on either side, where to cut, whether a good LUN is planted, and the bytes of the
 * readable side.
 * Checked: each chain comes back once, with a response that exists and a length that the writable
 * side has; no byte of memory but that side changes.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "blk/blk.h"
#include "loop/job.h"
#include "loop/loop.h"
#include "scsi/scsi.h"
#include "virtio/vdev.h"
#include "virtq/virtq.h"

#define MEM_BYTES  0x20000u
#define RING_SIZE  256u
#define AVAIL_AT   0x1000u
#define USED_AT	   0x1400u
#define DATA_AT	   0x2000u
#define CHAINS_MAX 16u
#define DISK	   "size=1M"
#define HEAD_BYTES 51u
#define RESP_BYTES 108u
#define END_NS	   5000000000ull

#define DESC_NEXT  1u
#define DESC_WRITE 2u

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

enum feature {
	FEATURE_CONTROL = 1, /* the control queue instead of a request queue */
	FEATURE_IN_ORDER = 2,
	FEATURE_SIZES = 4, /* other CDB and sense sizes: two bytes follow */
	FEATURE_BIG_BLOCK = 8,
};

/* One chain as the input describes it. */
struct wish {
	uint8_t cut_out, cut_in, plant, fill_bytes;
	uint16_t out_bytes, in_bytes;
};

struct chain_out {
	uint32_t in_at, in_bytes, out_bytes;
	bool back;
};

static struct loop *loop;
static struct gmem *memory;
static uint8_t *mem, *before;
static struct blk_dev *disks[2];
static struct scsi_host *host;
static bool plain; /* a request queue with the default sizes */
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
	log_set_level(LOG_ERROR);
	ASSERT(!job_threads_start(1, NULL));
}

static void units_make(uint8_t features)
{
	const char *text = features & FEATURE_BIG_BLOCK ? DISK ",block-size=4096" : DISK;

	ASSERT(!scsi_host_new("fuzz", &host, NULL));
	for (uint32_t i = 0; i < 2; i++) {
		struct scsi_lu_params params = { .name = i ? "one" : "zero" };
		struct scsi_lu *lu;

		ASSERT(!blk_dev_open("ram", params.name, text, &disks[i], NULL));
		params.dev = disks[i];
		ASSERT(!scsi_lu_new(&params, &lu, NULL));
		ASSERT(!scsi_host_attach(host, i, 0, lu, NULL));
		scsi_lu_unref(lu);
	}
}

/* Both fields of the configuration space that a driver writes; refused or not. */
static void sizes_set(struct bytes *in)
{
	uint8_t sizes[2];
	uint32_t wire[2];

	bytes_take(in, sizes, sizeof(sizes));
	wire[0] = sizes[0];
	wire[1] = sizes[1];
	vdev->ops->config_write(vdev, 20, wire, sizeof(wire));
}

static void device_start(uint8_t features, struct bytes *in)
{
	const struct vscsi_params params = { .name = "fuzz",
					     .initiator_name = "iqn.fuzz:a",
					     .num_queues = 1,
					     .queue_size_max = RING_SIZE };
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

	units_make(features);
	ASSERT(!vscsi_new(host, &params, &vdev, NULL));
	vdev->ops->features_set(vdev, VIRTIO_F_VERSION_1 | vdev->ops->features(vdev));
	plain = !(features & (FEATURE_CONTROL | FEATURE_SIZES));
	if (features & FEATURE_SIZES)
		sizes_set(in);
	setup.slot_bytes = vdev->ops->slot_bytes;
	if (features & FEATURE_IN_ORDER)
		setup.features |= VIRTIO_F_IN_ORDER;
	vq = virtq_new();
	ASSERT(vq && !virtq_start(vq, &setup, NULL));
	ASSERT(!vdev->ops->queue_start(vdev, features & FEATURE_CONTROL ? 0 : 2, vq, loop, &queue,
				       NULL));
}

static void device_stop(void)
{
	vdev->ops->queue_stop(queue);
	virtq_stop(vq);
	virtq_free(vq);
	vdev->ops->free(vdev);
	scsi_host_unref(host);
	for (unsigned i = 0; i < 2; i++)
		blk_dev_unref(disks[i]);
	loop_run_once(loop, false);
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
	static const uint8_t lun[4] = { 1, 0, 0x40, 0 };
	uint16_t *avail = (uint16_t *)(mem + AVAIL_AT);
	uint32_t head = desc_count, at = data_at, out_bytes, in_bytes;
	struct wish w;
	struct desc *last;
	size_t n;

	if (!bytes_take(in, &w, sizeof(w)) || chain_count == CHAINS_MAX)
		return false;
	out_bytes = MIN(w.out_bytes, MEM_BYTES - data_at);
	in_bytes = MIN(w.in_bytes, MEM_BYTES - data_at - out_bytes);
	if (!(out_bytes + in_bytes) || desc_count + 8 > RING_SIZE)
		return false;
	memset(mem + at, 0, MIN(out_bytes, HEAD_BYTES + 256));
	n = MIN(out_bytes, (size_t)w.fill_bytes);
	bytes_take(in, mem + at, MIN(n, in->left_bytes));
	if (w.plant & 1)
		memcpy(mem + at, lun, MIN(sizeof(lun), out_bytes));
	if (w.plant & 2 && out_bytes > 1)
		mem[at + 1] = w.plant >> 2 & 1;
	descs_put(out_bytes, w.cut_out, 0);
	descs_put(in_bytes, w.cut_in, DESC_WRITE);
	last = (struct desc *)mem + desc_count - 1;
	last->flags &= (uint16_t)~DESC_NEXT;
	chains[head] = (struct chain_out){ at + out_bytes, in_bytes, out_bytes, false };
	avail[2 + chain_count++] = (uint16_t)head;
	avail[1] = (uint16_t)chain_count;
	return true;
}

static void on_serve(struct loop_msg *msg)
{
	struct vq_chain *chain;

	while ((chain = virtq_pop(vq)))
		vdev->ops->on_chain(queue, chain);
	ASSERT(virtq_broken(vq) == VIRTQ_NONE);
}

/* On the loop, as jobs that commands start expect. */
static void serve(void)
{
	uint64_t end_ns = loop_clock_ns() + END_NS;
	struct loop_msg msg = { .fn = on_serve };

	loop_post(loop, &msg);
	do {
		ASSERT(loop_clock_ns() < end_ns);
		loop_run_once(loop, false);
	} while (virtq_inflight(vq));
	loop_run_once(loop, false);
}

/* virtio 1.3, 5.6.6.1: sense length, residual, qualifier, status, response. */
static void response_check(const struct chain_out *c, uint32_t used_bytes)
{
	const uint8_t *resp = mem + c->in_at;
	uint32_t words[2], data_bytes;

	if (c->in_bytes < RESP_BYTES) {
		ASSERT(!used_bytes);
		return;
	}
	memcpy(words, resp, sizeof(words));
	ASSERT(resp[11] <= 12);
	if (c->out_bytes < HEAD_BYTES)
		return;
	data_bytes = c->out_bytes - HEAD_BYTES + c->in_bytes - RESP_BYTES;
	ASSERT(words[0] <= RESP_BYTES - 12);
	ASSERT(words[1] <= data_bytes);
	ASSERT(resp[10] != 2 || words[0]);
	ASSERT(used_bytes >= RESP_BYTES);
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
		if (plain)
			response_check(c, elems[2 * i + 1]);
		c->back = true;
		/* What it was allowed to write is as before, so that the rest can be compared. */
		memcpy(mem + c->in_at, before + c->in_at, c->in_bytes);
	}
	ASSERT(!memcmp(mem + DATA_AT, before + DATA_AT, MEM_BYTES - DATA_AT));
	ASSERT(!memcmp(mem, before, USED_AT));
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	struct bytes left = bytes_of(in, len), sizes;
	uint8_t features;

	if (!memory)
		world_make();
	memset(mem, 0xee, MEM_BYTES);
	memset(mem, 0, DATA_AT);
	memset(chains, 0, sizeof(chains));
	chain_count = desc_count = 0;
	data_at = DATA_AT;
	bytes_take(&left, &features, 1);
	sizes = left;
	if (features & FEATURE_SIZES)
		bytes_take(&left, &(uint16_t){ 0 }, 2);
	while (chain_put(&left))
		;
	memcpy(before, mem, MEM_BYTES);
	device_start(features, &sizes);
	/* queue and channel belong to the loop; nothing asserts its thread but the loop itself */
	serve();
	device_stop();
	used_check();
	return 0;
}
