#include "vfu/irq.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include "base/check.h"
#include "base/num.h"
#include "base/parcel.h"
#include "sock/fdkind.h"
#include "vfu/session.h"

#define VFU_IRQ_DATA   (VFU_IRQ_DATA_NONE | VFU_IRQ_DATA_BOOL | VFU_IRQ_DATA_EVENTFD)
#define VFU_IRQ_ACTION (VFU_IRQ_ACTION_MASK | VFU_IRQ_ACTION_UNMASK | VFU_IRQ_ACTION_TRIGGER)

static void vfu_irq_on_triggered(struct loop_op *op, int res, uint32_t cqe_flags);

void vfu_irqs_init(struct vfu_irqs *q)
{
	q->trigger.done = vfu_irq_on_triggered;
	q->trigger_fd = -1;
	q->one = 1;
	q->intx_fd = q->err_fd = q->req_fd = -1;
	for (uint32_t i = 0; i < VFU_MSIX_VECTORS_MAX; i++)
		q->msix_fds[i] = -1;
}

/* Takes fd. */
static void vfu_irq_keep(int *slot, int fd)
{
	if (*slot >= 0)
		close(*slot);
	*slot = fd;
}

void vfu_irqs_fini(struct vfu_irqs *q)
{
	vfu_irq_keep(&q->intx_fd, -1);
	vfu_irq_keep(&q->err_fd, -1);
	vfu_irq_keep(&q->req_fd, -1);
	for (uint32_t i = 0; i < VFU_MSIX_VECTORS_MAX; i++)
		vfu_irq_keep(&q->msix_fds[i], -1);
}

static uint32_t vfu_irq_count(const struct vfu_session *s, uint32_t index)
{
	switch (index) {
	case VFU_IRQ_INTX:
	case VFU_IRQ_ERR:
	case VFU_IRQ_REQ:
		return 1;
	case VFU_IRQ_MSIX:
		return s->dev->pci.msix_vectors;
	default:
		return 0;
	}
}

int vfu_handle_DEVICE_GET_IRQ_INFO(struct vfu_session *s, struct vfu_msg *m, struct err *reterr)
{
	struct vfu_irq_info *info = vfu_msg_bytes(m);

	if (info->argsz < sizeof(*info))
		return err_set(reterr, -EINVAL, "argsz: expected at least %zu, got %u",
			       sizeof(*info), info->argsz);
	if (info->index >= VFU_IRQS)
		return err_set(reterr, -EINVAL, "index: expected below %u, got %u", VFU_IRQS,
			       info->index);
	info->argsz = sizeof(*info);
	info->flags = VFU_IRQ_EVENTFD;
	if (info->index == VFU_IRQ_INTX)
		info->flags |= VFU_IRQ_MASKABLE | VFU_IRQ_AUTOMASKED;
	info->count = vfu_irq_count(s, info->index);
	m->reply_bytes = sizeof(*info);
	return 0;
}

/* ---- what a device writes to ---- */

static int vfu_irq_copy(int fd)
{
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

void vfu_irqs_intx_update(struct vfu_session *s)
{
	struct vfu_irqs *q = &s->irqs;
	bool off = q->intx_masked || vfu_config_intx_is_off(&s->pci);

	s->dev->ops->intx_fd_set(s->dev, off ? -1 : vfu_irq_copy(q->intx_fd));
}

/* Takes fd, or -1. */
static void vfu_irq_fd_set(struct vfu_session *s, uint32_t index, uint32_t sub, int fd)
{
	struct vfu_irqs *q = &s->irqs;

	switch (index) {
	case VFU_IRQ_INTX:
		vfu_irq_keep(&q->intx_fd, fd);
		q->intx_masked = false;
		vfu_irqs_intx_update(s);
		break;
	case VFU_IRQ_MSIX:
		vfu_irq_keep(&q->msix_fds[sub], fd);
		s->dev->ops->vector_fd_set(s->dev, sub, vfu_irq_copy(fd));
		break;
	case VFU_IRQ_ERR:
		vfu_irq_keep(&q->err_fd, fd);
		break;
	default:
		vfu_irq_keep(&q->req_fd, fd);
		break;
	}
}

static int vfu_irq_fd(const struct vfu_session *s, uint32_t index, uint32_t sub)
{
	switch (index) {
	case VFU_IRQ_INTX:
		return s->irqs.intx_masked ? -1 : s->irqs.intx_fd;
	case VFU_IRQ_MSIX:
		return s->irqs.msix_fds[sub];
	case VFU_IRQ_ERR:
		return s->irqs.err_fd;
	default:
		return s->irqs.req_fd;
	}
}

static void vfu_irq_msix_enable(struct vfu_session *s, bool on)
{
	if (s->irqs.msix_on == on)
		return;
	s->irqs.msix_on = on;
	s->dev->ops->msix_enable(s->dev, on);
}

static void vfu_irq_disable_all(struct vfu_session *s, uint32_t index)
{
	for (uint32_t sub = 0; sub < vfu_irq_count(s, index); sub++) {
		if (index != VFU_IRQ_MSIX || s->irqs.msix_fds[sub] >= 0)
			vfu_irq_fd_set(s, index, sub, -1);
	}
	if (index == VFU_IRQ_MSIX)
		vfu_irq_msix_enable(s, false);
}

/* ---- DEVICE_SET_IRQS ---- */

/* The next of those that the client triggered. */
static void vfu_irq_trigger_next(struct vfu_session *s)
{
	struct vfu_irqs *q = &s->irqs;

	for (uint32_t i = 0; i < VFU_IRQ_SUBS && !q->trigger_busy; i++) {
		uint32_t sub = i < VFU_MSIX_VECTORS_MAX ? i : 0;
		static const uint32_t others[] = { VFU_IRQ_INTX, VFU_IRQ_ERR, VFU_IRQ_REQ };
		struct io_uring_sqe *sqe;

		if (!q->wanted[i])
			continue;
		q->wanted[i] = false;
		q->trigger_at = i;
		q->trigger_fd = vfu_irq_copy(vfu_irq_fd(
			s, i == sub ? VFU_IRQ_MSIX : others[i - VFU_MSIX_VECTORS_MAX], sub));
		if (q->trigger_fd < 0)
			continue;
		sqe = loop_sqe(s->params.main_loop);
		io_uring_prep_write(sqe, q->trigger_fd, &q->one, sizeof(q->one), 0);
		loop_sqe_set_op(sqe, &q->trigger);
		q->trigger_busy = true;
	}
}

static void vfu_irq_on_triggered(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct vfu_irqs *q = container_of(op, struct vfu_irqs, trigger);
	struct vfu_session *s = container_of(q, struct vfu_session, irqs);

	q->trigger_busy = false;
	close(q->trigger_fd);
	q->trigger_fd = -1;
	if (s->state == VFU_SESSION_CLOSING)
		vfu_session_irqs_stopped(s);
	else
		vfu_irq_trigger_next(s);
}

bool vfu_irqs_stop(struct vfu_session *s)
{
	if (s->irqs.trigger_busy)
		loop_op_cancel(s->params.main_loop, &s->irqs.trigger);
	return !s->irqs.trigger_busy;
}

static void vfu_irq_trigger(struct vfu_session *s, uint32_t index, uint32_t sub)
{
	uint32_t at = index == VFU_IRQ_MSIX   ? sub
		      : index == VFU_IRQ_INTX ? VFU_MSIX_VECTORS_MAX
					      : VFU_MSIX_VECTORS_MAX + 1 + (index == VFU_IRQ_REQ);

	s->irqs.wanted[at] = true;
	vfu_irq_trigger_next(s);
}

static void vfu_irq_mask(struct vfu_session *s, bool on)
{
	struct vfu_irqs *q = &s->irqs;

	if (q->intx_masked != on) {
		q->intx_masked = on;
		vfu_irqs_intx_update(s);
	}
	if (!on)
		s->dev->ops->intx_unmask(s->dev);
}

static int vfu_irq_set_eventfds(struct vfu_session *s, const struct vfu_irq_set *set,
				struct vfu_msg *m, struct err *reterr)
{
	int rc = 0;

	if (set->flags & (VFU_IRQ_ACTION_MASK | VFU_IRQ_ACTION_UNMASK))
		return err_set(reterr, -ENOTSUP, "masking is not told by a descriptor");
	/* None at all takes away those that are there. */
	if (m->fd_count && m->fd_count != set->count)
		return err_set(reterr, -EINVAL, "descriptors: expected none or %u, got %u",
			       set->count, m->fd_count);
	for (uint32_t i = 0; i < m->fd_count && !rc; i++)
		rc = fdkind_check_bell(m->fds[i], false, "interrupt", reterr);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < set->count; i++)
		vfu_irq_fd_set(s, set->index, set->start + i, vfu_msg_fd_take(m, i));
	if (set->index == VFU_IRQ_MSIX)
		vfu_irq_msix_enable(s, true);
	return 0;
}

static int vfu_irq_set_check(const struct vfu_session *s, const struct vfu_irq_set *set,
			     const struct vfu_msg *m, struct err *reterr)
{
	uint32_t data = set->flags & VFU_IRQ_DATA, action = set->flags & VFU_IRQ_ACTION;
	uint32_t bools = data == VFU_IRQ_DATA_BOOL ? set->count : 0;
	uint32_t limit = vfu_irq_count(s, set->index);

	if (set->flags & ~(VFU_IRQ_DATA | VFU_IRQ_ACTION) || __builtin_popcount(data) != 1 ||
	    __builtin_popcount(action) != 1)
		return err_set(reterr, -EINVAL,
			       "flags: expected one of data and one of action, "
			       "got 0x%x",
			       set->flags);
	if (set->index >= VFU_IRQS)
		return err_set(reterr, -EINVAL, "index: expected below %u, got %u", VFU_IRQS,
			       set->index);
	if (!num_range_ok(set->start, set->count, limit))
		return err_set(reterr, -EINVAL, "interrupts %u: %u + %u passes their %u",
			       set->index, set->start, set->count, limit);
	if (!set->count && (data != VFU_IRQ_DATA_NONE || set->start))
		return err_set(reterr, -EINVAL, "count 0 needs no data and start 0");
	if (m->payload - sizeof(*set) < bools || set->argsz < sizeof(*set) + bools)
		return err_set(reterr, -EINVAL, "argsz: expected at least %zu, got %u of %u",
			       sizeof(*set) + bools, set->argsz, m->payload);
	if (m->fd_count && data != VFU_IRQ_DATA_EVENTFD)
		return err_set(reterr, -EINVAL, "descriptors: expected none, got %u", m->fd_count);
	if (action != VFU_IRQ_ACTION_TRIGGER && set->index != VFU_IRQ_INTX)
		return err_set(reterr, -EINVAL, "interrupts %u cannot be masked", set->index);
	return 0;
}

int vfu_handle_DEVICE_SET_IRQS(struct vfu_session *s, struct vfu_msg *m, struct err *reterr)
{
	const struct vfu_irq_set *set = vfu_msg_bytes(m);
	int rc = vfu_irq_set_check(s, set, m, reterr);

	if (rc)
		return rc;
	if (set->flags & VFU_IRQ_DATA_EVENTFD)
		return vfu_irq_set_eventfds(s, set, m, reterr);
	if (!set->count && set->flags & VFU_IRQ_ACTION_TRIGGER)
		vfu_irq_disable_all(s, set->index);
	for (uint32_t i = 0; i < set->count; i++) {
		if (set->flags & VFU_IRQ_DATA_BOOL && !set->bools[i])
			continue;
		if (set->flags & VFU_IRQ_ACTION_TRIGGER)
			vfu_irq_trigger(s, set->index, set->start + i);
		else
			vfu_irq_mask(s, set->flags & VFU_IRQ_ACTION_MASK);
	}
	return 0;
}

/* ---- hand-over ---- */

#define VFU_IRQS_TAG	 "irqs"
#define VFU_IRQS_VERSION 1

void vfu_irqs_pack(const struct vfu_session *s, struct parcel *p)
{
	const struct vfu_irqs *q = &s->irqs;
	struct parcel_section section;

	parcel_section_begin(p, &section, VFU_IRQS_TAG, VFU_IRQS_VERSION);
	parcel_put_u32(p, s->dev->pci.msix_vectors);
	parcel_put_u32(p, q->msix_on);
	parcel_put_u32(p, q->intx_masked);
	parcel_put_fd(p, q->intx_fd);
	parcel_put_fd(p, q->err_fd);
	parcel_put_fd(p, q->req_fd);
	for (uint32_t i = 0; i < s->dev->pci.msix_vectors; i++)
		parcel_put_fd(p, q->msix_fds[i]);
	for (uint32_t i = 0; i < VFU_IRQ_SUBS; i++)
		parcel_put_u32(p, q->wanted[i] || (q->trigger_busy && q->trigger_at == i));
	parcel_section_done(p, &section);
}

/* As DEVICE_SET_IRQS would have it. */
static int vfu_irq_fd_unpack(struct vfu_session *s, uint32_t index, uint32_t sub, struct parcel *p,
			     struct err *reterr)
{
	int fd = parcel_take_fd(p);
	int rc = fd < 0 ? 0 : fdkind_check_bell(fd, false, "interrupt", reterr);

	if (rc < 0)
		close(fd);
	else if (fd >= 0)
		vfu_irq_fd_set(s, index, sub, fd);
	return rc;
}

int vfu_irqs_unpack(struct vfu_session *s, struct parcel *p, struct err *reterr)
{
	const uint32_t vectors = s->dev->pci.msix_vectors;
	struct vfu_irqs *q = &s->irqs;
	struct parcel_section section;
	bool msix_on, masked;
	uint32_t had;
	int rc = parcel_section_enter(p, &section, VFU_IRQS_TAG, VFU_IRQS_VERSION, reterr);

	if (rc < 0)
		return rc;
	had = parcel_take_u32(p);
	if (!p->failed && had != vectors)
		return err_set(reterr, -EINVAL, "vectors: it has %u, and %u are configured now",
			       had, vectors);
	msix_on = parcel_take_bool(p);
	masked = parcel_take_bool(p);
	rc = vfu_irq_fd_unpack(s, VFU_IRQ_INTX, 0, p, reterr);
	if (rc == 0)
		rc = vfu_irq_fd_unpack(s, VFU_IRQ_ERR, 0, p, reterr);
	if (rc == 0)
		rc = vfu_irq_fd_unpack(s, VFU_IRQ_REQ, 0, p, reterr);
	for (uint32_t i = 0; i < vectors && rc == 0; i++)
		rc = vfu_irq_fd_unpack(s, VFU_IRQ_MSIX, i, p, reterr);
	for (uint32_t i = 0; i < VFU_IRQ_SUBS && rc == 0; i++)
		q->wanted[i] = parcel_take_bool(p);
	if (rc == 0)
		rc = parcel_section_end(p, &section, VFU_IRQS_TAG, reterr);
	if (rc < 0)
		return rc;
	q->intx_masked = masked;
	vfu_irqs_intx_update(s);
	vfu_irq_msix_enable(s, msix_on);
	return 0;
}

void vfu_irqs_resume(struct vfu_session *s)
{
	vfu_irq_trigger_next(s);
}
