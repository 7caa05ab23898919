/* Life cycle of a virtqueue, and the verbs that are the same for both ring formats. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "virtq/virtq_impl.h"

const char *virtq_cause_text(enum virtq_cause cause)
{
	static const char *const text[] = {
#define X(n, s) [VIRTQ_##n] = s,
		VIRTQ_CAUSES(X)
#undef X
	};

	return cause < VIRTQ_CAUSE_COUNT ? text[cause] : "unknown cause";
}

void virtq_ring_bytes(uint64_t features, uint32_t size, uint64_t *ret_desc, uint64_t *ret_avail,
		      uint64_t *ret_used)
{
	bool packed = features & VIRTIO_F_RING_PACKED;
	uint64_t event = features & VIRTIO_F_EVENT_IDX ? 2 : 0;

	*ret_desc = (uint64_t)VQ_DESC_BYTES * size;
	*ret_avail = packed ? 4 : 4 + 2ull * size + event;
	*ret_used = packed ? 4 : 4 + 8ull * size + event;
}

struct virtq *virtq_new(void)
{
	return calloc(1, sizeof(struct virtq));
}

static void virtq_memory_free(struct virtq *vq)
{
	if (vq->slots)
		munmap(vq->slots, vq->slots_bytes);
	if (vq->pool)
		munmap(vq->pool, vq->pool_bytes);
	free(vq->table_copy);
	free(vq->order);
	free(vq->batch);
	free(vq->batch_num);
	free(vq->record_next);
	free(vq->record_entry);
	free(vq->desc_copy);
	free(vq->resubmit);
}

void virtq_free(struct virtq *vq)
{
	if (!vq)
		return;
	virtq_memory_free(vq);
	gmem_unref(vq->map);
	if (vq->dirty)
		gdirty_unref(vq->dirty);
	free(vq);
}

/* Zeroed pages that cost nothing until touched. */
static void *pages_new(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static bool virtq_memory_new(struct virtq *vq, const struct virtq_setup *setup)
{
	uint32_t i;

	vq->slot_stride_bytes = num_round_up(setup->slot_bytes, 64);
	vq->slots_bytes = vq->slot_stride_bytes * vq->size;
	vq->slots = pages_new(vq->slots_bytes);
	vq->pool_count = MIN(vq->size, VQ_POOL_MAX);
	vq->pool_bytes = sizeof(struct iovec) * VIRTQ_IOV_MAX * vq->pool_count;
	vq->pool = pages_new(vq->pool_bytes);
	if (!vq->slots || !vq->pool)
		return false;
	for (i = 0; i < vq->pool_count; i++)
		vq->pool_free[i] = (uint16_t)(vq->pool_count - 1 - i);
	vq->pool_free_count = vq->pool_count;
	if (vq->indirect) {
		vq->table_copy = calloc(VIRTQ_IOV_MAX, VQ_DESC_BYTES);
		if (!vq->table_copy)
			return false;
	}
	if (vq->extras & VQ_EXTRA_ORDER) {
		vq->order = calloc(vq->size, sizeof(*vq->order));
		if (!vq->order)
			return false;
	}
	if (!setup->inflight)
		return true;
	vq->batch = calloc(vq->size, sizeof(*vq->batch));
	vq->batch_num = calloc(vq->size, sizeof(*vq->batch_num));
	vq->resubmit = calloc(vq->size, sizeof(*vq->resubmit));
	if (vq->packed) {
		vq->record_next = calloc(vq->size, sizeof(*vq->record_next));
		vq->record_entry = calloc(vq->size, sizeof(*vq->record_entry));
		vq->desc_copy = calloc(vq->size, sizeof(*vq->desc_copy));
	}
	return vq->batch && vq->batch_num && vq->resubmit &&
	       (!vq->packed || (vq->record_next && vq->record_entry && vq->desc_copy));
}

static int setup_check(const struct virtq_setup *s, struct err *reterr)
{
	bool packed = s->features & VIRTIO_F_RING_PACKED;

	if (!s->size || s->size > VIRTQ_SIZE_MAX)
		return err_set(reterr, -EINVAL, "queue size: expected 1..%u, got %u",
			       VIRTQ_SIZE_MAX, s->size);
	if (!s->desc || !s->avail || !s->used)
		return err_set(reterr, -EINVAL, "ring addresses: not set");
	/* virtio 1.3, 2.7 and 2.8.10.1 */
	if ((uintptr_t)s->desc % 16)
		return err_set(reterr, -EINVAL, "descriptor address: not a multiple of 16");
	if ((uintptr_t)s->avail % (packed ? 4 : 2))
		return err_set(reterr, -EINVAL, "avail address: not a multiple of %u",
			       packed ? 4 : 2);
	if ((uintptr_t)s->used % 4)
		return err_set(reterr, -EINVAL, "used address: not a multiple of 4");
	ASSERT(s->slot_bytes >= sizeof(struct vq_chain));
	return 0;
}

int virtq_start(struct virtq *vq, const struct virtq_setup *setup, struct err *reterr)
{
	struct virtq_stats stats = vq->stats;
	int rc;

	ASSERT(!vq->started);
	rc = setup_check(setup, reterr);
	if (rc)
		return rc;
	gmem_unref(virtq_set_map(vq, NULL));
	if (vq->dirty)
		gdirty_unref(virtq_set_dirty(vq, NULL));
	memset(vq, 0, sizeof(*vq));
	vq->stats = stats;
	vq->features = setup->features;
	vq->size = setup->size;
	vq->packed = setup->features & VIRTIO_F_RING_PACKED;
	vq->event_idx = setup->features & VIRTIO_F_EVENT_IDX;
	vq->indirect = setup->features & VIRTIO_F_INDIRECT_DESC;
	if (setup->features & VIRTIO_F_IN_ORDER)
		vq->extras |= VQ_EXTRA_ORDER;
	vq->desc = setup->desc;
	vq->free_desc = vq->size;
	virtq_set_log_used(vq, setup->log_used, setup->log_used_gpa);
	vq->publish_fifo = setup->publish_fifo;
	vq->publish_node = setup->publish_node;
	vq->first_publish = true;
	rc = virtq_memory_new(vq, setup) ? 0 : err_set(reterr, -ENOMEM, "queue: out of memory");
	if (!rc)
		rc = vq->packed ? packed_start(vq, setup, reterr) : split_start(vq, setup, reterr);
	if (!rc && setup->inflight)
		rc = inflight_start(vq, setup, reterr);
	if (rc) {
		virtq_memory_free(vq);
		memset(vq, 0, sizeof(*vq));
		return rc;
	}
	virtq_set_map(vq, setup->map);
	virtq_set_dirty(vq, setup->dirty);
	vq->started = true;
	virtq_disarm(vq);
	return 0;
}

uint32_t virtq_stop(struct virtq *vq)
{
	uint32_t base = vq->last_avail;

	ASSERT(vq->started && !vq->inflight && !vq->unpublished);
	if (vq->packed)
		base |= (uint32_t)vq->avail_wrap << 15 | (uint32_t)vq->used_idx << 16 |
			(uint32_t)vq->used_wrap << 31;
	virtq_memory_free(vq);
	vq->slots = NULL;
	vq->pool = NULL;
	vq->table_copy = vq->desc_copy = NULL;
	vq->order = vq->batch = vq->batch_num = vq->record_next = vq->record_entry = NULL;
	vq->resubmit = NULL;
	vq->record = NULL;
	vq->started = false;
	return base;
}

struct gmem *virtq_set_map(struct virtq *vq, struct gmem *map)
{
	static const struct gmem_region nowhere;
	struct gmem *old = vq->map;

	vq->hot = vq->table_hot = map && map->count ? map->regions : &nowhere;
	vq->map = map ? gmem_ref(map) : NULL;
	vq->hint = vq->table_hint = 0;
	return old;
}

struct gdirty *virtq_set_dirty(struct virtq *vq, struct gdirty *dirty)
{
	struct gdirty *old = vq->dirty;

	vq->dirty = dirty ? gdirty_ref(dirty) : NULL;
	if (dirty)
		vq->extras |= VQ_EXTRA_DIRTY;
	else
		vq->extras &= ~VQ_EXTRA_DIRTY;
	return old;
}

void virtq_set_log_used(struct virtq *vq, bool on, uint64_t log_used_gpa)
{
	if (on)
		vq->extras |= VQ_EXTRA_LOG_USED;
	else
		vq->extras &= ~VQ_EXTRA_LOG_USED;
	vq->log_used_gpa = gpa(log_used_gpa);
}

void virtq_mark_used(struct virtq *vq, uint64_t off, uint64_t len_bytes)
{
	if (vq->dirty)
		gdirty_mark(vq->dirty, gpa(vq->log_used_gpa.v + off), len_bytes);
}

/* ---- popping ---- */

void virtq_break(struct virtq *vq, enum virtq_cause cause)
{
	if (vq->broken)
		return;
	vq->broken = cause;
	vq->gate |= VQ_GATE_BROKEN;
}

static void order_append(struct virtq *vq, uint16_t head)
{
	uint32_t at = vq->order_head + vq->order_count++;

	vq->order[at >= vq->size ? at - vq->size : at] = head;
}

void virtq_pop_extras(struct virtq *vq, struct vq_chain *chain)
{
	if (vq->extras & VQ_EXTRA_INFLIGHT)
		inflight_pop(vq, chain);
	if (vq->extras & VQ_EXTRA_ORDER)
		order_append(vq, chain->head);
}

static VQ_RARE struct vq_chain *pop_gated(struct virtq *vq)
{
	struct vq_chain *chain;

	if (vq->gate & (VQ_GATE_BROKEN | VQ_GATE_PAUSED))
		return NULL;
	chain = vq->packed ? packed_pop_resubmit(vq) : split_pop_resubmit(vq);
	if (!chain)
		return NULL;
	if (++vq->resubmit_next == vq->resubmit_count)
		vq->gate &= ~VQ_GATE_RESUBMIT;
	if (vq->extras & VQ_EXTRA_ORDER)
		order_append(vq, chain->head);
	return chain;
}

struct vq_chain *virtq_pop(struct virtq *vq)
{
	if (unlikely(vq->gate))
		return pop_gated(vq);
	return vq->packed ? packed_pop(vq) : split_pop(vq);
}

/* ---- pushing ---- */

static inline void push_emit(struct virtq *vq, struct vq_chain *chain, uint32_t written_bytes)
{
	if (vq->packed)
		packed_emit(vq, chain, written_bytes);
	else
		split_emit(vq, chain, written_bytes);
	chain->busy = 0;
	if (!vq->unpublished++ && vq->publish_fifo)
		fifo_push(vq->publish_fifo, vq->publish_node);
}

static void push_recorded(struct virtq *vq, struct vq_chain *chain, uint32_t written_bytes)
{
	if (vq->extras & VQ_EXTRA_INFLIGHT)
		inflight_push(vq, chain);
	if (vq->extras & VQ_EXTRA_LOG_USED) {
		if (vq->packed)
			packed_log_used(vq);
		else
			split_log_used(vq);
	}
	push_emit(vq, chain, written_bytes);
}

/* virtio 1.3, 2.7.9 and 2.8.17: buffers go back in the order they came. */
static void push_in_order(struct virtq *vq, struct vq_chain *chain, uint32_t written_bytes)
{
	chain->done = 1;
	chain->written_bytes = written_bytes;
	while (vq->order_count) {
		struct vq_chain *next = vq_slot(vq, vq->order[vq->order_head]);

		if (!next->done)
			return;
		next->done = 0;
		vq->order_count--;
		if (++vq->order_head == vq->size)
			vq->order_head = 0;
		push_recorded(vq, next, next->written_bytes);
	}
}

static VQ_RARE void push_slow(struct virtq *vq, struct vq_chain *chain, uint32_t written_bytes)
{
	if (vq->extras & VQ_EXTRA_DIRTY)
		chain_mark_dirty(vq, chain, written_bytes);
	if (chain->iov != chain->own) {
		chain_iov_free(vq, chain->iov);
		chain->iov = chain->own;
		if (vq->gate & VQ_GATE_PAUSED) {
			vq->gate &= ~VQ_GATE_PAUSED;
			vq->repoll = true;
		}
	}
	if (vq->extras & VQ_EXTRA_ORDER)
		push_in_order(vq, chain, written_bytes);
	else
		push_recorded(vq, chain, written_bytes);
}

void virtq_push(struct virtq *vq, struct vq_chain *chain, uint32_t written_bytes)
{
	ASSERT(chain->busy);
	vq->inflight--;
	if (unlikely(vq->extras || chain->iov != chain->own))
		push_slow(vq, chain, written_bytes);
	else
		push_emit(vq, chain, written_bytes);
}

bool virtq_publish(struct virtq *vq)
{
	bool notify;

	if (!vq->unpublished)
		return false;
	vq->stats.publishes++;
	vq->stats.chains += vq->unpublished;
	notify = vq->packed ? packed_publish(vq) : split_publish(vq);
	vq->unpublished = 0;
	if (unlikely(vq->first_publish)) {
		/* What the driver asked a predecessor for is not known to us. */
		vq->first_publish = false;
		notify = true;
	}
	if (notify)
		vq->stats.notifies++;
	else
		vq->stats.notifies_suppressed++;
	return notify;
}

bool virtq_notify_off(const struct virtq *vq)
{
	return vq->packed ? packed_notify_off(vq) : split_notify_off(vq);
}

/* ---- being notified ---- */

bool virtq_arm(struct virtq *vq)
{
	bool quiet;

	if (vq->gate & (VQ_GATE_BROKEN | VQ_GATE_PAUSED))
		return true;
	if (vq->gate & VQ_GATE_RESUBMIT)
		return false;
	vq->stats.arms++;
	vq->armed = true;
	quiet = vq->packed ? packed_arm(vq) : split_arm(vq);
	if (!quiet)
		virtq_disarm(vq);
	return quiet;
}

void virtq_disarm(struct virtq *vq)
{
	vq->armed = false;
	if (vq->packed)
		packed_disarm(vq);
	else
		split_disarm(vq);
}

bool virtq_repoll(struct virtq *vq)
{
	bool repoll = vq->repoll;

	vq->repoll = false;
	return repoll;
}

/* ---- asking ---- */

uint32_t virtq_inflight(const struct virtq *vq)
{
	return vq->inflight;
}

uint32_t virtq_resubmits(const struct virtq *vq)
{
	return vq->resubmit_count - vq->resubmit_next;
}

enum virtq_cause virtq_broken(const struct virtq *vq)
{
	return vq->broken;
}

uint32_t virtq_size(const struct virtq *vq)
{
	return vq->size;
}

uint64_t virtq_features(const struct virtq *vq)
{
	return vq->features;
}

const struct gmem *virtq_map(const struct virtq *vq)
{
	return vq->map;
}

void virtq_stats_get(const struct virtq *vq, struct virtq_stats *ret_stats)
{
	*ret_stats = vq->stats;
}

static uint64_t slot_popped_ns(const struct vq_chain *chain)
{
	return __atomic_load_n(&chain->busy, __ATOMIC_ACQUIRE)
		       ? __atomic_load_n(&chain->popped_ns, __ATOMIC_RELAXED)
		       : 0;
}

uint64_t virtq_oldest(const struct virtq *vq)
{
	/* A slot that was just taken still has its last time: the one found is looked at again. */
	for (int tries = 0; tries < 4; tries++) {
		const struct vq_chain *oldest = NULL;
		uint64_t oldest_ns = 0;

		if (!virtq_inflight(vq))
			return 0;
		for (uint32_t id = 0; id < vq->size; id++) {
			uint64_t ns = slot_popped_ns(vq_slot(vq, id));

			if (ns && (!oldest || ns < oldest_ns)) {
				oldest = vq_slot(vq, id);
				oldest_ns = ns;
			}
		}
		if (oldest && slot_popped_ns(oldest) == oldest_ns)
			return oldest_ns;
	}
	return 0;
}
