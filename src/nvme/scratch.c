/*
 * Scratch memory of commands on data loops: what Compare, Verify, Copy and lists need. Bounded for
 * each queue: then commands wait until another one ends. One that has its scratch memory waits for
 * nothing that another waiter holds: it took its data first.
 */
#include <stdlib.h>

#include "nvme/nvme_impl.h"

#define SCRATCH_BYTES_MAX   (4u << 20)
#define SCRATCH_ALIGN_BYTES 4096

/* Behind the memory itself: what the back-end is told of it. */
static struct iovec *scratch_iov(const struct nvme_cmd *c)
{
	return (struct iovec *)(c->buf + num_round_up(c->buf_bytes, 16));
}

static size_t scratch_size(const struct nvme_cmd *c)
{
	return num_round_up(c->buf_bytes + 16 + sizeof(struct iovec), SCRATCH_ALIGN_BYTES);
}

static bool scratch_room(const struct nvme_cmd *c)
{
	return !c->mem->scratch_bytes ||
	       c->mem->scratch_bytes + scratch_size(c) <= SCRATCH_BYTES_MAX;
}

static void scratch_begin(struct nvme_cmd *c)
{
	c->buf = aligned_alloc(SCRATCH_ALIGN_BYTES, scratch_size(c));
	if (!c->buf) {
		nvme_cmd_end(c, NVME_SC_INTERNAL_ERROR);
		return;
	}
	c->data_bits |= NVME_DATA_SCRATCH;
	c->mem->scratch_bytes += scratch_size(c);
	c->next(c);
}

void nvme_scratch(struct nvme_cmd *c, size_t len_bytes, void (*next)(struct nvme_cmd *c))
{
	ASSERT(!c->buf);
	c->buf_bytes = len_bytes;
	c->next = next;
	if (list_empty(&c->mem->scratch_wait) && scratch_room(c))
		scratch_begin(c);
	else
		list_append(&c->mem->scratch_wait, &c->wait_node);
}

void nvme_scratch_blk(struct nvme_cmd *c, enum blk_op op, uint8_t flags, uint64_t offset_bytes,
		      size_t buf_off, size_t len_bytes,
		      void (*blk_next)(struct nvme_cmd *c, enum blk_status status))
{
	struct iovec *iov = scratch_iov(c);

	ASSERT(buf_off + len_bytes <= c->buf_bytes);
	*iov = (struct iovec){ .iov_base = c->buf + buf_off, .iov_len = len_bytes };
	nvme_cmd_blk(c, op, flags, offset_bytes, len_bytes, iov, 1, blk_next);
}

void nvme_scratch_end(struct nvme_cmd *c)
{
	c->mem->scratch_bytes -= scratch_size(c);
	free(c->buf);
	c->buf = NULL;
	if (!list_empty(&c->mem->scratch_wait))
		nvme_mem_work_queue(c->mem);
}

bool nvme_scratch_wake(struct nvme_mem *m)
{
	struct nvme_cmd *c;

	if (list_empty(&m->scratch_wait))
		return false;
	c = list_entry(m->scratch_wait.next, struct nvme_cmd, wait_node);
	if (!scratch_room(c))
		return false;
	list_remove(&c->wait_node);
	nvme_mem_work_queue(m); /* maybe the next one, too */
	scratch_begin(c);
	return true;
}
