/*
 * libFuzzer: ring memory, descriptors and the start of a virtqueue from the input; everything that
 * can be popped is popped, pushed and published, in several rounds with memory changed in between.
 * Checked: every piece lies in guest memory, the cursors agree with their pieces, never more
 * chains out than the ring has entries, in-flight recovery from any region.
 *
 *   clang -fsanitize=fuzzer,address -g -O1 -D_GNU_SOURCE -DVHOSTD_DEBUG=1 -Isrc \
 *       tests/fuzz/fuzz_ring.c src/virtq/{chain,inflight,ring_packed,ring_split,virtq}.c \
 *       src/guest/{gdirty,gmem,gmem_fault,gmem_mapping}.c \
 *       src/base/{check,err,iov,log,trace}.c -lpthread
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "virtq/virtq.h"

#define REGION	  0x10000u
#define REGIONS	  2u
#define RECORD_AT 0x8000u /* in the second region: it changes under us, too */

struct fuzz_head {
	uint8_t features, size, rounds, order;
	uint32_t base;
};

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

static struct gmem *memory;
static uint8_t *host[REGIONS];

static void memory_make(void)
{
	struct gmem_region_desc descs[REGIONS];
	int fds[REGIONS];
	uint32_t i;

	for (i = 0; i < REGIONS; i++) {
		fds[i] = memfd_create("fuzz", 0);
		ASSERT(fds[i] >= 0 && !ftruncate(fds[i], REGION));
		descs[i] = (struct gmem_region_desc){ .gpa = (uint64_t)i * REGION,
						      .size_bytes = REGION,
						      .uva = (uint64_t)(i + 1) << 32 };
	}
	ASSERT(!gmem_new(descs, fds, REGIONS, &memory, NULL));
	for (i = 0; i < REGIONS; i++)
		host[i] = gmem_gpa_to_host(memory, gpa((uint64_t)i * REGION), REGION);
}

static void pieces_check(const struct iov_cur *c)
{
	uint64_t total = 0;
	uint32_t i, r;

	ASSERT(c->count <= VIRTQ_IOV_MAX);
	for (i = 0; i < c->count; i++) {
		const uint8_t *p = c->iov[i].iov_base;
		bool inside = false;

		for (r = 0; r < REGIONS; r++)
			inside |= p >= host[r] && p < host[r] + REGION;
		/* merging may join regions that happen to be neighbours here */
		ASSERT(inside && c->iov[i].iov_len && c->iov[i].iov_len <= REGIONS * REGION);
		total += c->iov[i].iov_len;
	}
	ASSERT(total == c->left_bytes);
}

/* Runs of input go where they say: u16 place (of 8 bytes), u8 length, bytes. */
static void memory_write(struct bytes *b)
{
	uint8_t head[3], data[256];

	while (bytes_take(b, head, sizeof(head))) {
		uint32_t at = (uint32_t)(head[0] | head[1] << 8) * 2 % (REGIONS * REGION);
		uint32_t i, n = MIN((uint32_t)head[2], (uint32_t)b->left_bytes);

		if (!n)
			return; /* the end of a round */
		bytes_take(b, data, n);
		for (i = 0; i < n; i++, at++)
			host[at / REGION % REGIONS][at % REGION] = data[i];
	}
}

static void setup_from(struct virtq_setup *s, const struct fuzz_head *h)
{
	*s = (struct virtq_setup){ .map = memory, .slot_bytes = sizeof(struct vq_chain) };
	if (h->features & 1)
		s->features |= VIRTIO_F_RING_PACKED;
	if (h->features & 2)
		s->features |= VIRTIO_F_EVENT_IDX;
	if (h->features & 4)
		s->features |= VIRTIO_F_INDIRECT_DESC;
	if (h->features & 8)
		s->features |= VIRTIO_F_IN_ORDER;
	s->size = h->features & 1 ? h->size % 64 + 1 : 1u << h->size % 7;
	s->base = h->base;
	s->desc = host[0];
	s->avail = host[0] + 0x400;
	s->used = host[0] + 0x800;
	if (h->features & 16) {
		s->inflight = host[1] + RECORD_AT;
		s->inflight_bytes = (uint32_t)virtq_inflight_bytes(s->features, s->size);
	}
}

static void chain_push(struct virtq *vq, struct vq_chain *c)
{
	pieces_check(&c->in);
	virtq_push(vq, c, (uint32_t)MIN(c->in.left_bytes, (uint64_t)UINT32_MAX));
}

static void round_run(struct virtq *vq, uint32_t size, uint8_t order)
{
	struct vq_chain *out[64], *c;
	uint32_t n = 0;

	while ((c = virtq_pop(vq))) {
		ASSERT(n < size && c->head < size);
		pieces_check(&c->out);
		pieces_check(&c->in);
		out[n++] = c;
	}
	ASSERT(virtq_inflight(vq) == n);
	while (n) {
		uint32_t i = order % n;

		chain_push(vq, out[i]);
		out[i] = out[--n];
		if (order & 64)
			virtq_publish(vq);
	}
	virtq_publish(vq);
	if (!virtq_arm(vq))
		virtq_disarm(vq);
	virtq_repoll(vq);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	struct bytes b = bytes_of(in, len);
	struct virtq_setup setup;
	struct fuzz_head h;
	struct virtq *vq;
	uint32_t i;

	if (!memory)
		memory_make();
	if (!bytes_take(&b, &h, sizeof(h)))
		return 0;
	for (i = 0; i < REGIONS; i++)
		memset(host[i], 0, REGION);
	memory_write(&b);
	setup_from(&setup, &h);
	vq = virtq_new();
	ASSERT(vq);
	if (!virtq_start(vq, &setup, NULL)) {
		for (i = 0; i < 1u + h.rounds % 4; i++) {
			round_run(vq, setup.size, h.order);
			memory_write(&b);
		}
		virtq_stop(vq);
	}
	virtq_free(vq);
	return 0;
}
