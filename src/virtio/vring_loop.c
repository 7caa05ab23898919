/*
 * The data-loop half of a ring: the source that pops chains into the device model, the publish
 * work that shows finished ones to the driver and rings its bell, and the four commands of main.
 */
#include <errno.h>

#include "base/check.h"
#include "base/num.h"
#include "base/trace.h"
#include "virtio/vring.h"

/*
 * Chains popped per poll: what one busy ring may take from the others on its loop. Small, so that
 * the driver has the first answers, and can fill the ring again, while the rest is handled: at a
 * depth of 32 twice 16 gave 1.45x the rate of once 32.
 */
#define VRING_POLL_BUDGET QUEUE_BATCH_MAX
/* How long the last notification of a draining ring may take to be accepted by its descriptor. */
#define VRING_BELL_GRACE_NS 100000000ull

static void vring_answer(struct vring *v, int result)
{
	v->result = result;
	loop_post(v->owner->main_loop, &v->done_msg);
}

/* ---- source ---- */

static void vring_tell_broken(struct vring *v)
{
	if (v->broken_told)
		return;
	v->broken_told = true;
	v->cause = virtq_broken(v->vq);
	trace_put(TRACE_RING_BROKEN, v->idx, v->cause);
	loop_post(v->owner->main_loop, &v->broken_msg);
}

static uint32_t vring_poll(struct loop_source *source)
{
	struct vring *v = container_of(source, struct vring, source);
	void (*on_chain)(void *queue, struct vq_chain *chain) = v->owner->vdev->ops->on_chain;
	uint64_t now_ns = loop_now_ns(v->loop);
	struct vq_chain *chain;
	uint32_t n = 0;

	while (n < VRING_POLL_BUDGET && (chain = virtq_pop(v->vq))) {
		chain->popped_ns = now_ns;
		on_chain(v->queue, chain);
		n++;
	}
	v->counts.polls[n]++;
	if (unlikely(virtq_broken(v->vq) != VIRTQ_NONE))
		vring_tell_broken(v);
	return n;
}

static bool vring_arm(struct loop_source *source)
{
	struct vring *v = container_of(source, struct vring, source);

	/* Nothing is popped from a broken ring any more, whatever its index says. */
	return virtq_broken(v->vq) != VIRTQ_NONE || virtq_arm(v->vq);
}

static void vring_disarm(struct loop_source *source)
{
	struct vring *v = container_of(source, struct vring, source);

	if (virtq_broken(v->vq) == VIRTQ_NONE)
		virtq_disarm(v->vq);
}

static const struct loop_source_ops vring_source_ops = {
	.poll = vring_poll,
	.arm = vring_arm,
	.disarm = vring_disarm,
};

/* ---- a lazy queue: the model pops ---- */

static uint32_t vring_lazy_poll(struct loop_source *source)
{
	struct vring *v = container_of(source, struct vring, source);

	v->lazy_waits = v->owner->vdev->ops->on_lazy(v->queue);
	if (unlikely(virtq_broken(v->vq) != VIRTQ_NONE))
		vring_tell_broken(v);
	return 0;
}

/* Chains that nobody waits for are no reason to stay awake. */
static bool vring_lazy_arm(struct loop_source *source)
{
	struct vring *v = container_of(source, struct vring, source);

	return !v->lazy_waits || vring_arm(source);
}

static const struct loop_source_ops vring_lazy_ops = {
	.poll = vring_lazy_poll,
	.arm = vring_lazy_arm,
	.disarm = vring_disarm,
};

static const struct loop_source_ops *vring_ops(const struct vring *v)
{
	const struct vdev *dev = v->owner->vdev;

	return dev->ops->queue_is_lazy && dev->ops->queue_is_lazy(dev, v->idx) ? &vring_lazy_ops
									       : &vring_source_ops;
}

void vring_loop_wake(struct vring *v)
{
	loop_source_wake(&v->source);
}

void vring_loop_on_wake(struct loop_msg *msg)
{
	struct vring *v = container_of(msg, struct vring, wake_msg);

	/* First, so that a wake during the look is another message. */
	__atomic_store_n(&v->wake_posted, false, __ATOMIC_SEQ_CST);
	v->counts.wakes++;
	if (v->vq)
		loop_source_wake(&v->source);
}

static void vring_bell_ring(struct vring *v)
{
	if (v->isr)
		__atomic_store_n(v->isr, 1, __ATOMIC_RELEASE);
	notify_send(&v->call_bell);
}

/* ---- notifications that are held back: see struct vring_coalescing ---- */

/* Rings, with all that is held back. */
static void vring_bell_now(struct vring *v)
{
	v->hold.merged += v->hold.owed;
	v->hold.owed = false;
	loop_timer_stop(&v->hold.timer);
	vring_bell_ring(v);
}

/* What is held back is due; one that the driver does not want any more is left out. */
static void vring_hold_end(struct vring *v)
{
	struct vring_hold *h = &v->hold;

	loop_timer_stop(&h->timer);
	if (!h->owed)
		return;
	h->owed = false;
	if (virtq_notify_off(v->vq)) {
		h->merged++;
		return;
	}
	h->next_ns = loop_now_ns(v->loop) + h->delay_ns;
	vring_bell_ring(v);
}

static void vring_on_hold_timer(struct loop_timer *t)
{
	vring_hold_end(container_of(t, struct vring, hold.timer));
}

static uint64_t vring_hold_delay_ns(const struct vring_coalescing *c, uint64_t chains, uint64_t ns)
{
	uint64_t rate = MIN(chains, (uint64_t)UINT32_MAX) * 1000000000 / ns;
	uint64_t over = rate > c->iops_threshold ? rate - c->iops_threshold : 0;

	/* over is below 2^39, and the base below 2^20 */
	return MIN(c->delay_base_us * over / c->iops_threshold, VRING_DELAY_MAX_NS / 1000) * 1000;
}

/* Looks at the rate; as in SPDK a notification may go out at each look. */
static void vring_hold_look(struct vring *v, uint64_t now_ns)
{
	struct vring_hold *h = &v->hold;
	struct virtq_stats vs;

	if (now_ns - h->window_ns < VRING_RATE_WINDOW_NS)
		return;
	virtq_stats_get(v->vq, &vs);
	h->delay_ns =
		vring_hold_delay_ns(&h->c, vs.chains - h->window_chains, now_ns - h->window_ns);
	h->window_ns = h->next_ns = now_ns;
	h->window_chains = vs.chains;
}

/* A notification is wanted: now, or when it is due. */
static __attribute__((noinline)) void vring_bell_hold(struct vring *v)
{
	struct vring_hold *h = &v->hold;
	uint64_t now_ns = loop_now_ns(v->loop);

	vring_hold_look(v, now_ns);
	if (now_ns >= h->next_ns) {
		h->next_ns = now_ns + h->delay_ns;
		vring_bell_now(v);
	} else if (h->owed) {
		h->merged++;
	} else {
		h->owed = true;
		loop_timer_start(v->loop, &h->timer, h->next_ns);
	}
}

static void vring_hold_set(struct vring *v)
{
	uint64_t setting = __atomic_load_n(&v->owner->coalescing, __ATOMIC_RELAXED);
	struct vring_hold *h = &v->hold;
	struct virtq_stats vs;

	virtq_stats_get(v->vq, &vs);
	vring_hold_end(v);
	h->c = (struct vring_coalescing){ .delay_base_us = (uint32_t)(setting >> 32),
					  .iops_threshold = (uint32_t)setting };
	h->on = h->c.delay_base_us && h->c.iops_threshold;
	h->delay_ns = h->next_ns = 0;
	h->window_ns = loop_now_ns(v->loop);
	h->window_chains = vs.chains;
}

void vring_loop_on_coalesce(struct loop_msg *msg)
{
	struct vring *v = container_of(msg, struct vring, coalesce_msg);

	__atomic_store_n(&v->coalesce_posted, false, __ATOMIC_SEQ_CST);
	if (v->vq)
		vring_hold_set(v);
}

/* ---- drain ---- */

static void vring_bell_idle(struct notify *n)
{
	struct vring *v = container_of(n, struct vring, call_bell);

	v->draining = false;
	vring_answer(v, 0);
}

/* Every chain was pushed and published, and nothing of the virtq is on a FIFO. */
static void vring_drained(struct vring *v)
{
	vring_hold_end(v);
	v->owner->vdev->ops->queue_stop(v->queue);
	v->queue = NULL;
	v->setup.base = virtq_stop(v->vq);
	virtq_free(v->vq);
	v->vq = NULL;
	notify_stop(&v->call_bell, VRING_BELL_GRACE_NS, vring_bell_idle);
}

static bool vring_is_drained(const struct vring *v)
{
	return v->draining && v->source_stopped && virtq_inflight(v->vq) == 0;
}

static void vring_publish(struct loop_work *work)
{
	struct vring *v = container_of(work, struct vring, publish);

	if (virtq_publish(v->vq)) {
		if (unlikely(v->hold.on))
			vring_bell_hold(v);
		else
			vring_bell_ring(v);
	}
	loop_source_answered(&v->source);
	/* What waited for a piece array gets no kick of its own. */
	if (unlikely(virtq_repoll(v->vq)))
		loop_source_wake(&v->source);
	/* With vring_finish on the FIFO, that one does it: v may be gone after vring_drained. */
	if (unlikely(!v->finish_queued && vring_is_drained(v)))
		vring_drained(v);
}

/* On the publish FIFO behind whatever the virtq put there: see vring_on_source_stopped. */
static void vring_finish(struct loop_work *work)
{
	struct vring *v = container_of(work, struct vring, finish);

	v->finish_queued = false;
	vring_drained(v);
}

static void vring_on_source_stopped(struct loop_source *source)
{
	struct vring *v = container_of(source, struct vring, source);

	v->source_stopped = true;
	/*
	 * The last chain may have been pushed earlier in this iteration, and then the virtq's node
	 * waits on the publish FIFO: it must not be freed before that ran.
	 */
	if (vring_is_drained(v)) {
		v->finish_queued = true;
		fifo_push(&loop_fifos(v->loop)->publish, &v->finish.node);
	}
}

static void vring_cmd_drain(struct vring *v)
{
	if (!v->vq) { /* it never started */
		vring_answer(v, 0);
		return;
	}
	/* What a predecessor left in flight comes first; a chain not popped stays on record. */
	while (virtq_resubmits(v->vq) && vring_poll(&v->source))
		;
	v->on_record = virtq_resubmits(v->vq) && virtq_broken(v->vq) == VIRTQ_NONE;
	v->draining = true;
	if (v->owner->vdev->ops->queue_drain)
		v->owner->vdev->ops->queue_drain(v->queue);
	loop_source_stop(&v->source, vring_on_source_stopped);
}

/* ---- start ---- */

static int vring_queue_start(struct vring *v)
{
	const struct vdev_ops *ops = v->owner->vdev->ops;
	int rc;

	v->setup.publish_fifo = &loop_fifos(v->loop)->publish;
	v->setup.publish_node = &v->publish.node;
	v->vq = virtq_new();
	if (!v->vq)
		return err_set(&v->err, -ENOMEM, "no memory for the queue");
	rc = virtq_start(v->vq, &v->setup, &v->err);
	if (rc)
		goto free_vq;
	rc = ops->queue_start(v->owner->vdev, v->idx, v->vq, v->loop, &v->queue, &v->err);
	if (rc)
		goto stop_vq;
	return 0;
stop_vq:
	virtq_stop(v->vq);
free_vq:
	virtq_free(v->vq);
	v->vq = NULL;
	return rc;
}

static void vring_cmd_start(struct vring *v)
{
	int rc = vring_queue_start(v);

	if (rc) {
		vring_answer(v, rc);
		return;
	}
	v->counts = (struct queue_counts){ 0 };
	v->hold.merged = 0;
	vring_hold_set(v);
	v->draining = v->source_stopped = v->finish_queued = v->broken_told = false;
	v->source = (struct loop_source){ .ops = vring_ops(v),
					  .kick_fd = v->kick_fd,
					  .spin_max_ns = v->owner->spin_ns };
	loop_source_start(v->loop, &v->source);
	/* Requests completed around the last stop may have had no bell: one after every start. */
	notify_start(&v->call_bell, v->loop, v->call_fd);
	vring_bell_ring(v);
	vring_answer(v, 0);
}

/* ---- changes while running ---- */

static void vring_call_swapped(struct notify *n)
{
	struct vring *v = container_of(n, struct vring, call_bell);

	v->isr = v->cmd_isr;
	notify_start(n, v->loop, v->cmd_fd);
	/* The old bell may have been one that nobody hears: QEMU starts rings with such, and gives
	 * the guest's afterwards. */
	vring_bell_now(v);
	vring_answer(v, 0);
}

static void vring_cmd_call(struct vring *v)
{
	if (v->vq) {
		notify_stop(&v->call_bell, 0, vring_call_swapped);
		return;
	}
	v->isr = v->cmd_isr;
	vring_answer(v, 0);
}

static void vring_cmd_map(struct vring *v)
{
	/* The virtq takes a reference of its own, and hands out that on the old map. */
	v->cmd_map = v->vq ? virtq_set_map(v->vq, v->cmd_map) : NULL;
	if (v->vq) {
		loop_source_wake(&v->source);
		vring_bell_now(v);
	}
	vring_answer(v, 0);
}

void vring_loop_init(struct vring *v)
{
	v->publish.fn = vring_publish;
	v->finish.fn = vring_finish;
	loop_timer_init(&v->hold.timer, vring_on_hold_timer);
	notify_init(&v->call_bell);
}

void vring_loop_run(struct loop_msg *msg)
{
	struct vring *v = container_of(msg, struct vring, cmd_msg);

	switch (v->cmd) {
	case VRING_CMD_START:
		vring_cmd_start(v);
		break;
	case VRING_CMD_DRAIN:
		vring_cmd_drain(v);
		break;
	case VRING_CMD_CALL:
		vring_cmd_call(v);
		break;
	case VRING_CMD_MAP:
		vring_cmd_map(v);
		break;
	case VRING_CMD_NONE:
		UNREACHABLE();
	}
}
