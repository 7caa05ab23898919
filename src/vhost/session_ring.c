/*
 * The rings of a session: from facts to running, and the messages that tell the facts.
 * Source: vhost-user, "Ring states", "Vring state description" and the SET_VRING_ messages.
 */
#include <errno.h>
#include <unistd.h>

#include "base/check.h"
#include "base/num.h"
#include "sock/fdkind.h"
#include "loop/placement.h"
#include "vhost/session.h"

/* virtio 1.3, 2.7 and 2.8: alignment of the three parts */
#define RING_DESC_ALIGN		 16
#define RING_AVAIL_ALIGN(packed) ((packed) ? 4 : 2)
#define RING_USED_ALIGN		 4

/* Our address of one part of a ring, or NULL with reterr filled. */
static void *session_ring_part(const struct session *s, const char *what, uint64_t addr,
			       uint64_t bytes, uint32_t align, struct err *reterr)
{
	void *p = gmem_uva_to_host(s->map, uva(addr), bytes);

	if (!p)
		err_set(reterr, -EFAULT,
			"%s: %llu bytes at user address 0x%llx are not in guest memory", what,
			(unsigned long long)bytes, (unsigned long long)addr);
	else if ((uintptr_t)p % align) {
		err_set(reterr, -EFAULT, "%s: user address 0x%llx is not a multiple of %u", what,
			(unsigned long long)addr, align);
		p = NULL;
	}
	return p;
}

static int session_ring_setup(const struct session *s, const struct vring *v,
			      struct virtq_setup *setup, struct err *reterr)
{
	bool packed = s->features & VIRTIO_F_RING_PACKED;
	uint64_t desc_bytes, avail_bytes, used_bytes, part_bytes;

	*setup = (struct virtq_setup){
		.features = s->features,
		.size = v->num,
		.base = v->base,
		.base_from_used = !packed,
		.log_used = v->addr.flags & MSG_VRING_F_LOG,
		.log_used_gpa = v->addr.log,
		.map = s->map,
		.dirty = s->features & VHOST_F_LOG_ALL ? s->log : NULL,
		.slot_bytes = s->vdev->ops->slot_bytes,
	};
	virtq_ring_bytes(s->features, v->num, &desc_bytes, &avail_bytes, &used_bytes);
	setup->desc = session_ring_part(s, "descriptor table", v->addr.desc, desc_bytes,
					RING_DESC_ALIGN, reterr);
	if (setup->desc)
		setup->avail = session_ring_part(s, "available ring", v->addr.avail, avail_bytes,
						 RING_AVAIL_ALIGN(packed), reterr);
	if (setup->avail)
		setup->used = session_ring_part(s, "used ring", v->addr.used, used_bytes,
						RING_USED_ALIGN, reterr);
	if (!setup->used ||
	    !gmem_uva_to_gpa(s->map, uva(v->addr.used), used_bytes, &setup->used_gpa))
		return -EFAULT;
	setup->inflight = inflight_area_queue(&s->inflight, v->idx, &part_bytes);
	if (setup->inflight && part_bytes < virtq_inflight_bytes(s->features, v->num)) {
		/* Made for smaller rings: it runs, and what is in flight dies with the process. */
		log_limited(s->limit, LOG_WARNING,
			    "%s: queue %u: in-flight area has %llu bytes for it, too few for %u "
			    "entries: "
			    "not recorded",
			    s->params.name, v->idx, (unsigned long long)part_bytes, v->num);
		setup->inflight = NULL;
	}
	setup->inflight_bytes =
		setup->inflight ? (uint32_t)MIN(part_bytes, (uint64_t)UINT32_MAX) : 0;
	return 0;
}

static void session_ring_fault(struct session *s, struct vring *v, const char *text)
{
	log_limited(s->limit, LOG_WARNING, "%s: queue %u: %s", s->params.name, v->idx, text);
	notify_send(&v->err_bell);
}

static void session_ring_run(struct session *s, struct vring *v)
{
	struct virtq_setup setup;
	struct err err = { 0 };

	if (session_ring_setup(s, v, &setup, &err)) {
		vring_start_failed(v);
		s->ring_failed = true;
		session_ring_fault(s, v, err.msg);
		return;
	}
	s->pending++;
	vring_start(v, placement_take(s->params.loops, s->params.loop_count), &setup);
}

void session_rings_reconcile(struct session *s)
{
	bool may = s->state != SESSION_CLOSING && s->features_set && s->map;

	for (uint32_t i = 0; i < s->ring_count; i++) {
		struct vring *v = &s->rings[i];
		/* A broken ring stays as it is until something else asks for a stop. */
		bool stop = !may || v->hold || !v->enabled || !v->have_kick;

		if (v->cmd != VRING_CMD_NONE)
			continue;
		if (v->state == VRING_STOPPED && may && vring_should_run(v)) {
			session_ring_run(s, v);
		} else if (stop && (v->state == VRING_RUNNING || v->state == VRING_BROKEN)) {
			s->pending++;
			vring_drain(v);
		}
	}
}

static void session_on_ring_done(struct vring *v)
{
	struct session *s = container_of(v->owner, struct session, ring_owner);

	if (v->state == VRING_STOPPED)
		placement_give(v->loop);
	if (v->cmd_map) {
		gmem_unref(v->cmd_map);
		v->cmd_map = NULL;
	}
	if (v->result) {
		s->ring_failed = true;
		session_ring_fault(s, v, v->err.msg);
		v->result = 0;
	}
	ASSERT(s->pending);
	s->pending--;
	session_advance(s);
}

static void session_on_ring_broken(struct vring *v, enum virtq_cause cause)
{
	struct session *s = container_of(v->owner, struct session, ring_owner);

	session_ring_fault(s, v, virtq_cause_text(cause));
}

void session_rings_init(struct session *s)
{
	s->ring_owner = (struct vring_owner){ .main_loop = s->params.main_loop,
					      .vdev = s->vdev,
					      .spin_ns = s->params.spin_ns,
					      .on_done = session_on_ring_done,
					      .on_broken = session_on_ring_broken };
	for (uint32_t i = 0; i < s->ring_count; i++)
		vring_init(&s->rings[i], &s->ring_owner, i);
}

void session_device_reset(struct session *s)
{
	for (uint32_t i = 0; i < s->ring_count; i++) {
		struct vring *v = &s->rings[i];

		vring_forget_kick(v);
		v->enabled = false;
		v->have_addr = false;
		v->base = 0;
	}
	s->status = 0;
	if (s->vdev->ops->reset)
		s->vdev->ops->reset(s->vdev);
}

/* ---- messages ---- */

/* The index in the message's own 32 bits (a 16-bit look at it is how others were broken). */
static int session_ring_find(struct session *s, uint32_t idx, struct vring **ret_ring,
			     struct err *reterr)
{
	if (idx >= s->ring_count)
		return err_set(reterr, -EINVAL, "queue: expected 0..%u, got %u", s->ring_count - 1,
			       idx);
	*ret_ring = &s->rings[idx];
	return 0;
}

int session_handle_SET_VRING_NUM(struct session *s, struct msg *m, struct err *reterr)
{
	uint32_t num = m->state.num, max = MIN(s->vdev->queue_size_max, (uint32_t)VIRTQ_SIZE_MAX);
	struct vring *v;
	int rc = session_ring_find(s, m->state.idx, &v, reterr);

	if (rc)
		return rc;
	if (num == 0 || num > max)
		return err_set(reterr, -EINVAL, "queue %u: size: expected 1..%u, got %u", v->idx,
			       max, num);
	if (s->features_set && !(s->features & VIRTIO_F_RING_PACKED) && !num_is_pow2(num))
		return err_set(reterr, -EINVAL, "queue %u: size: expected a power of two, got %u",
			       v->idx, num);
	v->num = num;
	return 0;
}

int session_handle_SET_VRING_ADDR(struct session *s, struct msg *m, struct err *reterr)
{
	struct vring *v;
	int rc = session_ring_find(s, m->addr.idx, &v, reterr);

	if (rc)
		return rc;
	if (m->addr.flags & ~MSG_VRING_F_LOG)
		return err_set(reterr, -EINVAL, "queue %u: flags: expected 0 or 1, got 0x%x",
			       v->idx, m->addr.flags);
	v->addr = m->addr;
	v->have_addr = true;
	return 0;
}

int session_handle_SET_VRING_BASE(struct session *s, struct msg *m, struct err *reterr)
{
	struct vring *v;
	int rc = session_ring_find(s, m->state.idx, &v, reterr);

	if (rc)
		return rc;
	if (!(s->features & VIRTIO_F_RING_PACKED) && m->state.num > UINT16_MAX)
		return err_set(reterr, -EINVAL, "queue %u: base: expected 0..65535, got %u", v->idx,
			       m->state.num);
	v->base = m->state.num;
	v->failed = false;
	return 0;
}

int session_handle_GET_VRING_BASE(struct session *s, struct msg *m, struct err *reterr)
{
	uint64_t part_bytes;
	struct vring *v;
	int rc = session_ring_find(s, m->state.idx, &v, reterr);

	if (rc)
		return rc;
	vring_forget_kick(v);
	m->state.num = v->base;
	/* The front-end's position counts from here on, a queue reset's 0 too, not the record's. */
	if (v->drained)
		virtq_inflight_forget(inflight_area_queue(&s->inflight, v->idx, &part_bytes));
	v->drained = false;
	return 0;
}

/* The common part of KICK, CALL and ERR: which ring, and which descriptor (-1: none). */
static int session_ring_fd(struct session *s, struct msg *m, const char *what, bool fifo_ok,
			   struct vring **ret_ring, struct err *reterr)
{
	bool nofd = m->u64 & MSG_VRING_NOFD;
	int rc;

	if (m->u64 & ~(MSG_VRING_IDX_MASK | MSG_VRING_NOFD))
		return err_set(reterr, -EINVAL, "value: expected bits 0 to 8 only, got 0x%llx",
			       (unsigned long long)m->u64);
	rc = session_ring_find(s, m->u64 & MSG_VRING_IDX_MASK, ret_ring, reterr);
	if (rc)
		return rc;
	if (nofd != (m->fd_count == 0))
		return err_set(reterr, -EINVAL, "queue %u: bit 8 says %s descriptor, %u came",
			       (*ret_ring)->idx, nofd ? "no" : "one", m->fd_count);
	return nofd ? 0 : fdkind_check_bell(m->fds[0], fifo_ok, what, reterr);
}

int session_handle_SET_VRING_KICK(struct session *s, struct msg *m, struct err *reterr)
{
	struct vring *v;
	int rc = session_ring_fd(s, m, "kick descriptor", false, &v, reterr);

	if (rc)
		return rc;
	vring_forget_kick(v);
	vring_fd_set(&v->kick_fd, msg_fd_take(m, 0));
	v->have_kick = true;
	/* Without the protocol feature there is no SET_VRING_ENABLE: started means enabled. */
	if (s->features_set && !(s->features & VHOST_USER_F_PROTOCOL))
		v->enabled = true;
	return 0;
}

int session_handle_SET_VRING_CALL(struct session *s, struct msg *m, struct err *reterr)
{
	struct vring *v;
	int rc = session_ring_fd(s, m, "call descriptor", true, &v, reterr);

	if (rc)
		return rc;
	if (v->state != VRING_STOPPED)
		s->pending++;
	vring_call_set(v, msg_fd_take(m, 0));
	return 0;
}

static void session_on_err_idle(struct notify *n)
{
	struct vring *v = container_of(n, struct vring, err_bell);
	struct session *s = container_of(v->owner, struct session, ring_owner);

	vring_fd_set(&v->err_fd, v->err_next_fd);
	v->err_next_fd = -1;
	notify_start(n, s->params.main_loop, v->err_fd);
	s->pending--;
	session_advance(s);
}

int session_handle_SET_VRING_ERR(struct session *s, struct msg *m, struct err *reterr)
{
	struct vring *v;
	int rc = session_ring_fd(s, m, "err descriptor", true, &v, reterr);

	if (rc)
		return rc;
	v->err_next_fd = msg_fd_take(m, 0);
	/* One more than is waited for: session_on_err_idle may run inside, and must not go on. */
	s->pending += 2;
	notify_stop(&v->err_bell, 0, session_on_err_idle);
	s->pending--;
	return 0;
}

int session_handle_SET_VRING_ENABLE(struct session *s, struct msg *m, struct err *reterr)
{
	struct vring *v;
	int rc = session_ring_find(s, m->state.idx, &v, reterr);

	if (rc)
		return rc;
	v->enabled = m->state.num != 0; /* a boolean, whatever its value */
	return 0;
}

/* Not offered, so msg_check refuses it; only little-endian could be served anyway. */
int session_handle_SET_VRING_ENDIAN(struct session *s, struct msg *m, struct err *reterr)
{
	return m->state.num ? err_set(reterr, -EINVAL, "only little-endian rings are served") : 0;
}
