/* Split virtqueues: virtio 1.3, 2.7. */
#include "virtq/virtq_impl.h"

#define AVAIL_NO_INTERRUPT 1u
#define USED_NO_NOTIFY	   1u

int split_start(struct virtq *vq, const struct virtq_setup *setup, struct err *reterr)
{
	if (!num_is_pow2(vq->size))
		return err_set(reterr, -EINVAL, "queue size: expected a power of two, got %u",
			       vq->size);
	if (setup->base > UINT16_MAX)
		return err_set(reterr, -EINVAL, "vring base: expected 0..65535, got %u",
			       setup->base);
	vq->mask = vq->size - 1;
	vq->avail = setup->avail;
	vq->used = setup->used;
	/* The base says where we read; where we write only the ring itself knows. */
	vq->used_idx = vq->published = load16(&vq->used->idx);
	vq->last_avail = vq->avail_seen = (uint16_t)setup->base;
	return 0;
}

/* Looks at the driver's index again. */
static bool split_refill(struct virtq *vq)
{
	/* acquire: entries and descriptors are read after the index; pairs with the driver's
	 * barrier before its store of avail->idx */
	uint16_t seen = load16_acquire(&vq->avail->idx);

	if (seen == vq->last_avail)
		return false;
	/* Neither more new ones than the ring holds, nor more than are not yet back with it. */
	if (unlikely((uint16_t)(seen - vq->last_avail) > vq->size ||
		     (uint16_t)(seen - vq->published) > vq->size)) {
		virtq_break(vq, VIRTQ_AVAIL_JUMP);
		return false;
	}
	vq->avail_seen = seen;
	return true;
}

static inline struct vq_chain *split_take(struct virtq *vq, uint32_t head)
{
	struct vq_chain *chain;

	if (unlikely(head >= vq->size)) {
		virtq_break(vq, VIRTQ_HEAD_RANGE);
		return NULL;
	}
	chain = vq_slot(vq, head);
	if (unlikely(chain->busy)) {
		virtq_break(vq, VIRTQ_HEAD_BUSY);
		return NULL;
	}
	return chain_take_split(vq, chain, head);
}

VQ_FAST struct vq_chain *split_pop(struct virtq *vq)
{
	uint16_t idx = vq->last_avail, next = (uint16_t)(idx + 1);
	struct vq_chain *chain;

	if (idx == vq->avail_seen && !split_refill(vq))
		return NULL;
	if (next != vq->avail_seen) {
		uint32_t ahead = load16(&vq->avail->ring[next & vq->mask]) & vq->mask;

		__builtin_prefetch(&vq->desc[ahead]);
		__builtin_prefetch(vq_slot(vq, ahead), 1);
	}
	chain = split_take(vq, load16(&vq->avail->ring[idx & vq->mask]));
	if (unlikely(!chain))
		return NULL;
	vq->last_avail = next;
	if (unlikely(vq->extras))
		virtq_pop_extras(vq, chain);
	return chain;
}

struct vq_chain *split_pop_resubmit(struct virtq *vq)
{
	return split_take(vq, vq->resubmit[vq->resubmit_next].entry);
}

void split_log_used(struct virtq *vq)
{
	virtq_mark_used(vq, 4 + 8ull * (vq->used_idx & vq->mask), 8);
}

bool split_publish(struct virtq *vq)
{
	uint16_t old = vq->published;

	vq->published = vq->used_idx;
	/* release: the entries are there before the index; pairs with the driver's barrier between
	 * its reads of used->idx and of the entries */
	store16_release(&vq->used->idx, vq->used_idx);
	if (unlikely(vq->extras & VQ_EXTRA_LOG_USED))
		virtq_mark_used(vq, 0, 4);
	if (unlikely(vq->extras & VQ_EXTRA_INFLIGHT))
		inflight_publish_after(vq);
	/* full: index stored before the wish is read; pairs with the driver's barrier between
	 * storing its wish (used_event, flags) and looking at used->idx again */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!vq->event_idx)
		return !(load16(&vq->avail->flags) & AVAIL_NO_INTERRUPT);
	return vq_event_passed(load16(&vq->avail->ring[vq->size]), vq->used_idx, old);
}

bool split_notify_off(const struct virtq *vq)
{
	/* With EVENT_IDX the flag means nothing (virtio 1.3, 2.7.7.1). */
	return !vq->event_idx && load16(&vq->avail->flags) & AVAIL_NO_INTERRUPT;
}

static void split_avail_event(struct virtq *vq, uint16_t idx)
{
	/* avail_event lies behind the used entries */
	store16((uint16_t *)&vq->used->ring[vq->size], idx);
	if (unlikely(vq->extras & VQ_EXTRA_LOG_USED))
		virtq_mark_used(vq, 4 + 8ull * vq->size, 2);
}

static void split_flags(struct virtq *vq, uint16_t flags)
{
	store16(&vq->used->flags, flags);
	if (unlikely(vq->extras & VQ_EXTRA_LOG_USED))
		virtq_mark_used(vq, 0, 2);
}

bool split_arm(struct virtq *vq)
{
	if (vq->event_idx)
		split_avail_event(vq, vq->last_avail);
	else
		split_flags(vq, 0);
	/* full: wish stored before the index is read; pairs with the driver's barrier between
	 * storing avail->idx and reading our wish */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return load16(&vq->avail->idx) == vq->last_avail;
}

void split_disarm(struct virtq *vq)
{
	/* With EVENT_IDX the flags stay 0 (virtio 1.3, 2.7.10.1), and an event index that was
	 * passed asks for nothing until the indexes come round. */
	if (!vq->event_idx)
		split_flags(vq, USED_NO_NOTIFY);
}
