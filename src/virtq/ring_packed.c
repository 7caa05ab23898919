/*
 * Packed virtqueues: virtio 1.3, 2.8.
 *
 * A batch becomes visible at once although each used descriptor carries its own flags: the driver
 * looks at them in ring order, so the first one is kept back and stored last. Length, id and flags
 * are one aligned word and one store.
 */
#include "virtq/virtq_impl.h"

/*
 * Front-ends that pass the feature through without knowing it (User Mode Linux) give base 0, in
 * which both wrap counters are 0, for a fresh ring, whose counters are 1 (virtio 1.3, 2.8.1). The
 * ring itself tells the two apart: after one round it has USED bits, whether the driver made those
 * descriptors available again or not; a fresh one has none. The first descriptor alone does not
 * tell: it may have been in the middle of a list, and only the first of a list is written.
 */
static void packed_fresh_fix(struct virtq *vq, const struct virtq_setup *setup)
{
	if (setup->base)
		return;
	for (uint32_t i = 0; i < vq->size; i++)
		if (load16(packed_flags(&vq->desc[i])) & VQ_DESC_USED)
			return;
	vq->avail_wrap = vq->used_wrap = 1;
}

int packed_start(struct virtq *vq, const struct virtq_setup *setup, struct err *reterr)
{
	/* vhost-user, "vring descriptor indices for packed virtqueues" */
	vq->last_avail = setup->base & 0x7fff;
	vq->avail_wrap = setup->base >> 15 & 1;
	vq->used_idx = setup->base >> 16 & 0x7fff;
	vq->used_wrap = setup->base >> 31;
	if (vq->last_avail >= vq->size || vq->used_idx >= vq->size)
		return err_set(reterr, -EINVAL,
			       "vring base: expected positions below %u, got %u, %u", vq->size,
			       vq->last_avail, vq->used_idx);
	vq->driver_event = setup->avail;
	vq->device_event = setup->used;
	packed_fresh_fix(vq, setup);
	return 0;
}

static inline bool packed_ready(const struct virtq *vq)
{
	/* acquire: the descriptor is read after its flags; pairs with the driver's barrier before
	 * its store of the head's flags, which it does last */
	uint16_t flags = load16_acquire(packed_flags(&vq->desc[vq->last_avail]));

	return (flags & (VQ_DESC_AVAIL | VQ_DESC_USED)) ==
	       (vq->avail_wrap ? VQ_DESC_AVAIL : VQ_DESC_USED);
}

VQ_FAST struct vq_chain *packed_pop(struct virtq *vq)
{
	struct vq_chain *chain;

	if (!packed_ready(vq))
		return NULL;
	chain = chain_take_packed(vq, vq->desc, vq->size, vq->last_avail);
	if (unlikely(!chain))
		return NULL;
	packed_advance(vq, &vq->last_avail, &vq->avail_wrap, chain->ndesc);
	__builtin_prefetch(&vq->desc[vq->last_avail]);
	if (unlikely(vq->extras))
		virtq_pop_extras(vq, chain);
	return chain;
}

struct vq_chain *packed_pop_resubmit(struct virtq *vq)
{
	uint16_t entry = vq->resubmit[vq->resubmit_next].entry;
	uint32_t count = inflight_packed_load(vq, entry);
	struct vq_chain *chain;

	if (!count) {
		virtq_break(vq, VIRTQ_INFLIGHT_BAD);
		return NULL;
	}
	chain = chain_take_packed(vq, vq->desc_copy, count, 0);
	if (!chain)
		return NULL;
	if (chain->ndesc != count) {
		/* The list ends before its record does: not what was popped. */
		vq->free_desc += chain->ndesc;
		vq->inflight--;
		chain->busy = 0;
		if (chain->iov != chain->own)
			chain_iov_free(vq, chain->iov);
		virtq_break(vq, VIRTQ_INFLIGHT_BAD);
		return NULL;
	}
	vq->record_entry[chain->head] = entry;
	return chain;
}

static void packed_log(struct virtq *vq, const void *at, uint64_t len_bytes)
{
	struct gpa where;

	/* The address for logging of a split ring has no meaning here that front-ends agree on. */
	if (vq->dirty && gmem_host_to_gpa(vq->map, at, &where))
		gdirty_mark(vq->dirty, where, len_bytes);
}

void packed_log_used(struct virtq *vq)
{
	packed_log(vq, &vq->desc[vq->used_idx], VQ_DESC_BYTES);
}

static uint32_t packed_driver_event(const struct virtq *vq)
{
	return le32toh(__atomic_load_n(vq->driver_event, __ATOMIC_RELAXED));
}

bool packed_notify_off(const struct virtq *vq)
{
	return (packed_driver_event(vq) >> 16 & 3) == PACKED_EVENT_DISABLE;
}

static bool packed_wanted(struct virtq *vq, uint32_t batch_desc)
{
	uint32_t event = packed_driver_event(vq);
	uint16_t at = event & 0x7fff;

	switch (event >> 16 & 3) {
	case PACKED_EVENT_DISABLE:
		return false;
	case PACKED_EVENT_DESC:
		if (!vq->event_idx)
			return true;
		/* A position of the round before lies one ring length back. */
		if ((event >> 15 & 1) != vq->used_wrap)
			at -= vq->size;
		return vq_event_passed(at, vq->used_idx, (uint16_t)(vq->used_idx - batch_desc));
	default:
		return true;
	}
}

bool packed_publish(struct virtq *vq)
{
	uint32_t batch_desc = vq->batch_desc;

	if (unlikely(vq->extras & VQ_EXTRA_INFLIGHT))
		inflight_publish_before(vq);
	/* release: all of the batch is there before the first one's flags; pairs with the driver's
	 * barrier between its reads of the flags and of the rest */
	__atomic_store_n(&vq->desc[vq->first_used].rest, vq->first_rest, __ATOMIC_RELEASE);
	if (unlikely(vq->extras & VQ_EXTRA_LOG_USED))
		packed_log(vq, &vq->desc[vq->first_used], VQ_DESC_BYTES);
	if (unlikely(vq->extras & VQ_EXTRA_INFLIGHT))
		inflight_publish_after(vq);
	vq->free_desc += batch_desc;
	vq->batch_desc = 0;
	/* full: flags stored before the wish is read; pairs with the driver's barrier between
	 * storing its event structure and looking at the descriptor again */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return packed_wanted(vq, batch_desc);
}

static void packed_event(struct virtq *vq, uint32_t event)
{
	__atomic_store_n(vq->device_event, htole32(event), __ATOMIC_RELAXED);
	if (unlikely(vq->extras & VQ_EXTRA_LOG_USED))
		packed_log(vq, vq->device_event, 4);
}

bool packed_arm(struct virtq *vq)
{
	if (vq->event_idx)
		packed_event(vq, PACKED_EVENT_DESC << 16 | (uint32_t)vq->avail_wrap << 15 |
					 vq->last_avail);
	else
		packed_event(vq, PACKED_EVENT_ENABLE << 16);
	/* full: wish stored before the flags are read; pairs with the driver's barrier between
	 * storing the head's flags and reading our wish */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !packed_ready(vq);
}

void packed_disarm(struct virtq *vq)
{
	packed_event(vq, PACKED_EVENT_DISABLE << 16);
}
