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

bool session_ring_should_run(const struct session_ring *r)
{
	return r->num && r->have_addr && r->have_kick && r->enabled && !r->v.failed && !r->hold &&
	       !r->moving;
}

/* Forgets that the ring was started (GET_VRING_BASE, reset): kick descriptor closed. */
static void session_ring_forget_kick(struct session_ring *r)
{
	r->have_kick = false;
	r->v.failed = false;
	vring_fd_set(&r->v.kick_fd, -1);
}

static int session_ring_setup(const struct session *s, const struct session_ring *r,
			      struct virtq_setup *setup, struct err *reterr)
{
	bool packed = s->features & VIRTIO_F_RING_PACKED;
	struct vring_place place = { .desc = r->addr.desc,
				     .driver = r->addr.avail,
				     .device = r->addr.used,
				     .user_addresses = true };
	uint64_t part_bytes;
	int rc;

	*setup = (struct virtq_setup){
		.features = s->features,
		.size = r->num,
		.base = r->v.base,
		.base_from_used = !packed,
		.log_used = r->addr.flags & MSG_VRING_F_LOG,
		.log_used_gpa = r->addr.log,
		.map = s->map,
		.dirty = s->features & VHOST_F_LOG_ALL ? s->log : NULL,
		.slot_bytes = s->vdev->ops->slot_bytes,
	};
	rc = vring_place_setup(&place, setup, reterr);
	if (rc)
		return rc;
	setup->inflight = inflight_area_queue(&s->inflight, r->v.idx, &part_bytes);
	if (setup->inflight && part_bytes < virtq_inflight_bytes(s->features, r->num)) {
		/* Made for smaller rings: it runs, and what is in flight dies with the process. */
		log_limited(s->limit, LOG_WARNING,
			    "%s: queue %u: in-flight area has %llu bytes for it, too few for %u "
			    "entries: "
			    "not recorded",
			    s->params.name, r->v.idx, (unsigned long long)part_bytes, r->num);
		setup->inflight = NULL;
	}
	setup->inflight_bytes =
		setup->inflight ? (uint32_t)MIN(part_bytes, (uint64_t)UINT32_MAX) : 0;
	return 0;
}

static void session_ring_fault(struct session *s, struct session_ring *r, const char *text)
{
	log_limited(s->limit, LOG_WARNING, "%s: queue %u: %s", s->params.name, r->v.idx, text);
	endpoint_tell(&s->endpoint_conn, ENDPOINT_ERROR, text);
	notify_send(&r->err_bell);
}

static void session_ring_run(struct session *s, struct session_ring *r)
{
	struct virtq_setup setup;
	struct err err = { 0 };

	if (session_ring_setup(s, r, &setup, &err)) {
		vring_start_failed(&r->v);
		s->ring_failed = true;
		session_ring_fault(s, r, err.msg);
		return;
	}
	s->pending++;
	vring_start(&r->v,
		    r->loop ? placement_take(&r->loop, 1)
			    : placement_take(s->params.loops, s->params.loop_count),
		    &setup);
}

void session_rings_reconcile(struct session *s)
{
	bool may = s->state != SESSION_CLOSING && s->features_set && s->map && !s->drained &&
		   !s->frozen;

	for (uint32_t i = 0; i < s->ring_count; i++) {
		struct session_ring *r = &s->rings[i];
		/* A broken ring stays as it is until something else asks for a stop. */
		bool stop = !may || r->hold || r->moving || !r->enabled || !r->have_kick;

		if (r->v.cmd != VRING_CMD_NONE)
			continue;
		if (r->v.state == VRING_STOPPED)
			r->moving = false;
		if (r->v.state == VRING_STOPPED && may && session_ring_should_run(r)) {
			session_ring_run(s, r);
		} else if (stop && (r->v.state == VRING_RUNNING || r->v.state == VRING_BROKEN)) {
			s->pending++;
			vring_drain(&r->v);
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
		session_ring_fault(s, container_of(v, struct session_ring, v), v->err.msg);
		v->result = 0;
	}
	ASSERT(s->pending);
	s->pending--;
	if (container_of(v, struct session_ring, v)->moving)
		session_rings_reconcile(s);
	session_advance(s);
}

void session_drain(struct session *s, bool drained)
{
	s->drained = drained;
	session_rings_reconcile(s);
	if (s->state != SESSION_CLOSING)
		session_advance(s);
}

int session_ring_move(struct session *s, uint32_t idx, struct loop *loop, struct err *reterr)
{
	if (idx >= s->ring_count)
		return err_set(reterr, -ERANGE, "queue: expected 0..%u, got %u", s->ring_count - 1,
			       idx);
	s->rings[idx].loop = loop;
	if (s->rings[idx].v.loop == loop || s->state == SESSION_CLOSING)
		return 0;
	s->rings[idx].moving = true;
	session_rings_reconcile(s);
	session_advance(s);
	return 0;
}

void session_coalesce(struct session *s, const struct vring_coalescing *c)
{
	vring_owner_coalesce(&s->ring_owner, c);
	for (uint32_t i = 0; i < s->ring_count; i++)
		vring_coalesce(&s->rings[i].v);
}

static void session_on_ring_broken(struct vring *v, enum virtq_cause cause)
{
	struct session *s = container_of(v->owner, struct session, ring_owner);

	session_ring_fault(s, container_of(v, struct session_ring, v), virtq_cause_text(cause));
}

static void session_ring_init(struct session_ring *r, const struct vring_owner *owner, uint32_t idx)
{
	*r = (struct session_ring){ .err_fd = -1, .err_next_fd = -1 };
	vring_init(&r->v, owner, idx);
	notify_init(&r->err_bell);
}

void session_rings_init(struct session *s)
{
	s->ring_owner = (struct vring_owner){ .main_loop = s->params.main_loop,
					      .vdev = s->vdev,
					      .spin_ns = s->params.spin_ns,
					      .on_done = session_on_ring_done,
					      .on_broken = session_on_ring_broken };
	vring_owner_coalesce(&s->ring_owner, &s->params.coalescing);
	for (uint32_t i = 0; i < s->ring_count; i++)
		session_ring_init(&s->rings[i], &s->ring_owner, i);
}

void session_rings_fini(struct session *s)
{
	for (uint32_t i = 0; i < s->ring_count; i++) {
		struct session_ring *r = &s->rings[i];

		ASSERT(!r->err_bell.busy);
		vring_fini(&r->v);
		vring_fd_set(&r->err_fd, -1);
	}
}

void session_device_reset(struct session *s)
{
	for (uint32_t i = 0; i < s->ring_count; i++) {
		struct session_ring *r = &s->rings[i];

		session_ring_forget_kick(r);
		r->enabled = false;
		r->have_addr = false;
		r->v.base = 0;
	}
	s->status = 0;
	if (s->vdev->ops->reset)
		s->vdev->ops->reset(s->vdev);
}

/* ---- messages ---- */

/* The index in the message's own 32 bits (a 16-bit look at it is how others were broken). */
static int session_ring_find(struct session *s, uint32_t idx, struct session_ring **ret_ring,
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
	struct session_ring *r;
	int rc = session_ring_find(s, m->state.idx, &r, reterr);

	if (rc)
		return rc;
	if (num == 0 || num > max)
		return err_set(reterr, -EINVAL, "queue %u: size: expected 1..%u, got %u", r->v.idx,
			       max, num);
	if (s->features_set && !(s->features & VIRTIO_F_RING_PACKED) && !num_is_pow2(num))
		return err_set(reterr, -EINVAL, "queue %u: size: expected a power of two, got %u",
			       r->v.idx, num);
	r->num = num;
	return 0;
}

int session_handle_SET_VRING_ADDR(struct session *s, struct msg *m, struct err *reterr)
{
	struct session_ring *r;
	int rc = session_ring_find(s, m->addr.idx, &r, reterr);

	if (rc)
		return rc;
	if (m->addr.flags & ~MSG_VRING_F_LOG)
		return err_set(reterr, -EINVAL, "queue %u: flags: expected 0 or 1, got 0x%x",
			       r->v.idx, m->addr.flags);
	r->addr = m->addr;
	r->have_addr = true;
	return 0;
}

int session_handle_SET_VRING_BASE(struct session *s, struct msg *m, struct err *reterr)
{
	struct session_ring *r;
	int rc = session_ring_find(s, m->state.idx, &r, reterr);

	if (rc)
		return rc;
	if (!(s->features & VIRTIO_F_RING_PACKED) && m->state.num > UINT16_MAX)
		return err_set(reterr, -EINVAL, "queue %u: base: expected 0..65535, got %u",
			       r->v.idx, m->state.num);
	r->v.base = m->state.num;
	r->v.failed = false;
	return 0;
}

int session_handle_GET_VRING_BASE(struct session *s, struct msg *m, struct err *reterr)
{
	uint64_t part_bytes;
	struct session_ring *r;
	int rc = session_ring_find(s, m->state.idx, &r, reterr);

	if (rc)
		return rc;
	session_ring_forget_kick(r);
	m->state.num = r->v.base;
	/* The front-end's position counts from here on, a queue reset's 0 too, not the record's. */
	if (r->v.drained)
		virtq_inflight_forget(inflight_area_queue(&s->inflight, r->v.idx, &part_bytes));
	r->v.drained = false;
	return 0;
}

/* The common part of KICK, CALL and ERR: which ring, and which descriptor (-1: none). */
static int session_ring_fd(struct session *s, struct msg *m, const char *what, bool fifo_ok,
			   struct session_ring **ret_ring, struct err *reterr)
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
			       (*ret_ring)->v.idx, nofd ? "no" : "one", m->fd_count);
	return nofd ? 0 : fdkind_check_bell(m->fds[0], fifo_ok, what, reterr);
}

int session_handle_SET_VRING_KICK(struct session *s, struct msg *m, struct err *reterr)
{
	struct session_ring *r;
	int rc = session_ring_fd(s, m, "kick descriptor", false, &r, reterr);

	if (rc)
		return rc;
	session_ring_forget_kick(r);
	vring_fd_set(&r->v.kick_fd, msg_fd_take(m, 0));
	r->have_kick = true;
	/* Without the protocol feature there is no SET_VRING_ENABLE: started means enabled. */
	if (s->features_set && !(s->features & VHOST_USER_F_PROTOCOL))
		r->enabled = true;
	return 0;
}

int session_handle_SET_VRING_CALL(struct session *s, struct msg *m, struct err *reterr)
{
	struct session_ring *r;
	int rc = session_ring_fd(s, m, "call descriptor", true, &r, reterr);

	if (rc)
		return rc;
	if (r->v.state != VRING_STOPPED)
		s->pending++;
	vring_call_set(&r->v, msg_fd_take(m, 0), NULL);
	return 0;
}

static void session_on_err_idle(struct notify *n)
{
	struct session_ring *r = container_of(n, struct session_ring, err_bell);
	struct session *s = container_of(r->v.owner, struct session, ring_owner);

	vring_fd_set(&r->err_fd, r->err_next_fd);
	r->err_next_fd = -1;
	notify_start(n, s->params.main_loop, r->err_fd);
	s->pending--;
	session_advance(s);
}

int session_handle_SET_VRING_ERR(struct session *s, struct msg *m, struct err *reterr)
{
	struct session_ring *r;
	int rc = session_ring_fd(s, m, "err descriptor", true, &r, reterr);

	if (rc)
		return rc;
	r->err_next_fd = msg_fd_take(m, 0);
	/* One more than is waited for: session_on_err_idle may run inside, and must not go on. */
	s->pending += 2;
	notify_stop(&r->err_bell, 0, session_on_err_idle);
	s->pending--;
	return 0;
}

int session_handle_SET_VRING_ENABLE(struct session *s, struct msg *m, struct err *reterr)
{
	struct session_ring *r;
	int rc = session_ring_find(s, m->state.idx, &r, reterr);

	if (rc)
		return rc;
	r->enabled = m->state.num != 0; /* a boolean, whatever its value */
	return 0;
}

/* Not offered, so msg_check refuses it; only little-endian could be served anyway. */
int session_handle_SET_VRING_ENDIAN(struct session *s, struct msg *m, struct err *reterr)
{
	return m->state.num ? err_set(reterr, -EINVAL, "only little-endian rings are served") : 0;
}
