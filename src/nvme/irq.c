/*
 * Interrupts: from vectors, and the pin, to the descriptors that a front gave for them.
 *
 * A queue with interrupts has a bell on its own loop (loop/notify.h), which writes to the
 * descriptor of its vector or, while MSI-X is off, of the pin. Descriptors are shared by queues and
 * counted: main says which one a queue is to write to (nvme_irq_update), the queue lets go of the
 * old one when the kernel has, and the last one closes it.
 *
 *   posted --> coalescing? --> pin masked? --> bell
 *
 * Coalescing (base 5.21.1.8): completions are held back until there are enough, or until the oldest
 * is old enough. The pin is a level that we can only raise by a write: who unmasks it, or has
 * handled it, makes each queue look whether completions are still there.
 */
#include <stdlib.h>
#include <unistd.h>

#include "nvme/nvme_impl.h"

#define COALESCING_UNIT_NS 100000ull
/* How long the last interrupt of a queue that ends may take to be accepted. */
#define BELL_GRACE_NS 100000000ull

struct nvme_bell {
	atomic_uint refs;
	int fd;
};

/* Takes fd over; NULL: none, or no memory. */
static struct nvme_bell *bell_new(int fd)
{
	struct nvme_bell *b = fd >= 0 ? malloc(sizeof(*b)) : NULL;

	if (!b) {
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	atomic_init(&b->refs, 1);
	b->fd = fd;
	return b;
}

static struct nvme_bell *bell_ref(struct nvme_bell *b)
{
	if (b)
		atomic_fetch_add(&b->refs, 1);
	return b;
}

/* Thread: any. */
static void bell_unref(struct nvme_bell *b)
{
	if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	close(b->fd);
	free(b);
}

static int bell_fd(const struct nvme_bell *b)
{
	return b ? b->fd : -1;
}

/* ---- on the queue's loop ---- */

static void irq_raise(struct nvme_cq *cq)
{
	struct nvme_irqs *irqs = &cq->ctrl->irqs;

	cq->irq.held = 0;
	if (unlikely(atomic_load_explicit(&irqs->masked, memory_order_relaxed)) &&
	    atomic_load_explicit(&irqs->by_pin, memory_order_relaxed))
		return; /* nvme_irq_mask makes it look again */
	cq->counts.interrupts++;
	if (likely(cq->irq.ref))
		notify_send(&cq->irq.bell);
}

static void irq_on_timer(struct loop_timer *t)
{
	struct nvme_cq *cq = container_of(t, struct nvme_cq, irq.timer);

	if (cq->irq.held)
		irq_raise(cq);
}

static void irq_hold(struct nvme_cq *cq, uint32_t count, uint32_t coalescing)
{
	uint32_t threshold = (coalescing & 0xff) + 1, time = coalescing >> 8;
	bool first = !cq->irq.held;

	cq->irq.held += count;
	if (cq->irq.held >= threshold)
		irq_raise(cq);
	else if (first)
		loop_timer_start(cq->loop, &cq->irq.timer,
				 loop_now_ns(cq->loop) + time * COALESCING_UNIT_NS);
}

void nvme_irq_posted(struct nvme_cq *cq, uint32_t count)
{
	uint32_t coalescing = atomic_load_explicit(&cq->irq.coalescing, memory_order_relaxed);

	if (unlikely(coalescing))
		irq_hold(cq, count, coalescing);
	else
		irq_raise(cq);
}

/* Unmasked: does the guest still have completions to look at? */
static void irq_run_again(struct loop_msg *msg)
{
	struct nvme_cq *cq = container_of(msg, struct nvme_cq, irq.again_msg);

	atomic_store(&cq->irq.again_posted, false);
	if (!(cq->gate & CQ_STILL) && nvme_cq_is_unread(cq))
		irq_raise(cq);
}

static void irq_idle(struct notify *n)
{
	struct nvme_cq *cq = container_of(n, struct nvme_cq, irq.bell);

	cq->irq.idle(cq);
}

static void irq_swapped(struct notify *n)
{
	struct nvme_cq *cq = container_of(n, struct nvme_cq, irq.bell);

	bell_unref(cq->irq.ref);
	cq->irq.ref = cq->irq.next;
	cq->irq.next = NULL;
	cq->irq.moving = false;
	notify_start(n, cq->loop, bell_fd(cq->irq.ref));
	/* What was told to the old one may have been heard by nobody. */
	if (cq->irq.ref && !(cq->gate & CQ_STILL) && nvme_cq_is_unread(cq))
		irq_raise(cq);
	loop_post(cq->ctrl->params.main_loop, &cq->irq.done_msg);
	if (cq->irq.idle)
		notify_stop(n, BELL_GRACE_NS, irq_idle);
}

static void irq_run_swap(struct loop_msg *msg)
{
	struct nvme_cq *cq = container_of(msg, struct nvme_cq, irq.msg);

	cq->irq.moving = true;
	notify_stop(&cq->irq.bell, 0, irq_swapped);
}

void nvme_irq_start(struct nvme_cq *cq)
{
	cq->irq.idle = NULL;
	notify_start(&cq->irq.bell, cq->loop, bell_fd(cq->irq.ref));
}

void nvme_irq_resumed(struct nvme_cq *cq)
{
	if (cq->gate & CQ_STILL)
		return;
	cq->irq.untold = false;
	if (nvme_cq_is_unread(cq))
		irq_raise(cq);
}

void nvme_irq_stop(struct nvme_cq *cq, void (*idle)(struct nvme_cq *cq))
{
	loop_timer_stop(&cq->irq.timer);
	cq->irq.idle = idle;
	if (!cq->irq.moving) /* else irq_swapped does it */
		notify_stop(&cq->irq.bell, BELL_GRACE_NS, irq_idle);
}

void nvme_irq_leave(struct nvme_cq *cq, void (*idle)(struct nvme_cq *cq))
{
	if (cq->irq.held)
		irq_raise(cq);
	nvme_irq_stop(cq, idle);
}

/* ---- main ---- */

static struct nvme_bell *irq_wanted(const struct nvme_cq *cq)
{
	const struct nvme_irqs *irqs = &cq->ctrl->irqs;

	if (!cq->ien)
		return NULL;
	return irqs->msix ? irqs->vector[cq->vector] : irqs->pin;
}

static uint32_t irq_coalescing(const struct nvme_cq *cq)
{
	const struct nvme_features *f = &cq->ctrl->features;
	uint32_t value = f->value[NVME_FEAT_COALESCING] & 0xffff;
	bool off = f->coalescing_disable[cq->vector / 64] >> (cq->vector % 64) & 1;

	/* not for the admin queue; a time of 0 is no delay (base 5.21.1.8) */
	return off || !cq->qid || !(value >> 8) ? 0 : value;
}

static void irq_swap_done(struct loop_msg *msg)
{
	struct nvme_cq *cq = container_of(msg, struct nvme_cq, irq.done_msg);

	cq->irq.swapping = false;
	nvme_irq_update(cq);
}

void nvme_irq_init(struct nvme_cq *cq)
{
	notify_init(&cq->irq.bell);
	loop_timer_init(&cq->irq.timer, irq_on_timer);
	cq->irq.again_msg.fn = irq_run_again;
	cq->irq.msg.fn = irq_run_swap;
	cq->irq.done_msg.fn = irq_swap_done;
}

void nvme_irq_setup(struct nvme_cq *cq)
{
	cq->irq.want = irq_wanted(cq);
	cq->irq.ref = bell_ref(cq->irq.want);
	atomic_store(&cq->irq.coalescing, irq_coalescing(cq));
}

void nvme_irq_fini(struct nvme_cq *cq)
{
	bell_unref(cq->irq.ref);
}

void nvme_irq_update(struct nvme_cq *cq)
{
	struct nvme_bell *want = irq_wanted(cq);

	atomic_store(&cq->irq.coalescing, irq_coalescing(cq));
	if (cq->stopping || cq->irq.swapping || cq->irq.want == want)
		return;
	cq->irq.want = want;
	cq->irq.next = bell_ref(want);
	cq->irq.swapping = true;
	nvme_cq_post(cq, &cq->irq.msg);
}

static void irqs_update(struct nvme_ctrl *ctrl)
{
	for (uint32_t qid = 0; qid <= NVME_QPAIRS_MAX; qid++)
		if (ctrl->queues.cq[qid])
			nvme_irq_update(ctrl->queues.cq[qid]);
}

void nvme_irq_coalescing_changed(struct nvme_ctrl *ctrl)
{
	irqs_update(ctrl);
}

static void irqs_again(struct nvme_ctrl *ctrl)
{
	for (uint32_t qid = 0; qid <= NVME_QPAIRS_MAX; qid++) {
		struct nvme_cq *cq = ctrl->queues.cq[qid];

		if (cq && cq->ien && !cq->stopping && !cq->starting &&
		    !atomic_exchange(&cq->irq.again_posted, true))
			nvme_cq_post(cq, &cq->irq.again_msg);
	}
}

void nvme_irq_mask(struct nvme_ctrl *ctrl, uint32_t set, uint32_t clear)
{
	bool was = ctrl->intm & 1;

	ctrl->intm = (ctrl->intm | set) & ~clear;
	atomic_store(&ctrl->irqs.masked, ctrl->intm & 1);
	if (was && !(ctrl->intm & 1))
		irqs_again(ctrl);
}

void nvme_irq_ctrl_init(struct nvme_ctrl *ctrl)
{
	atomic_store(&ctrl->irqs.by_pin, true);
}

void nvme_irq_ctrl_fini(struct nvme_ctrl *ctrl)
{
	for (uint32_t i = 0; i < NVME_VECTORS_MAX; i++)
		bell_unref(ctrl->irqs.vector[i]);
	bell_unref(ctrl->irqs.pin);
}

/* The address of a bell is what irq.want is compared by: the old one goes after the look. */
static void bell_replace(struct nvme_ctrl *ctrl, struct nvme_bell **slot, int fd)
{
	struct nvme_bell *old = *slot;

	*slot = bell_new(fd);
	irqs_update(ctrl);
	bell_unref(old);
}

void nvme_ctrl_vector_fd_set(struct nvme_ctrl *ctrl, uint32_t vector, int fd)
{
	ASSERT(vector < NVME_VECTORS_MAX);
	bell_replace(ctrl, &ctrl->irqs.vector[vector], fd);
}

int nvme_ctrl_vector_fd(const struct nvme_ctrl *ctrl, uint32_t vector)
{
	return bell_fd(ctrl->irqs.vector[vector]);
}

void nvme_ctrl_intx_fd_set(struct nvme_ctrl *ctrl, int fd)
{
	bell_replace(ctrl, &ctrl->irqs.pin, fd);
}

void nvme_ctrl_msix_enable(struct nvme_ctrl *ctrl, bool on)
{
	ctrl->irqs.msix = on;
	atomic_store(&ctrl->irqs.by_pin, !on);
	irqs_update(ctrl);
}

void nvme_ctrl_intx_unmask(struct nvme_ctrl *ctrl)
{
	if (!ctrl->irqs.msix)
		irqs_again(ctrl);
}
