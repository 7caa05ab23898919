#include "vhost/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/trace.h"

#define SESSION_BELL_GRACE_NS 100000000ull

static const char *const session_state_names[] = {
#define X(n) #n,
	SESSION_STATES(X)
#undef X
};

static const bool session_moves[SESSION_STATE_COUNT][SESSION_STATE_COUNT] = {
	[SESSION_LISTEN] = { [SESSION_NEGOTIATE] = true },
	[SESSION_NEGOTIATE] = { [SESSION_ACTIVE] = true, [SESSION_CLOSING] = true },
	[SESSION_ACTIVE] = { [SESSION_PARKED] = true, [SESSION_CLOSING] = true },
	[SESSION_PARKED] = { [SESSION_ACTIVE] = true, [SESSION_CLOSING] = true },
	[SESSION_CLOSING] = { [SESSION_LISTEN] = true },
};

const char *session_state_name(enum session_state state)
{
	return session_state_names[state];
}

static void session_state_set(struct session *s, enum session_state state)
{
	ASSERT(session_moves[s->state][state]);
	trace_put(TRACE_SESSION_STATE, s->state, state);
	s->state = state;
}

/* ---- one message ---- */

static void session_answer(struct session *s)
{
	struct msg *m = &s->talk.conn.msg;
	int fd = s->answer_fd;

	m->hdr.flags = MSG_VERSION | MSG_REPLY;
	s->answer_fd = -1;
	talk_reply(&s->talk, &m->hdr, m->bytes, fd);
}

/* The message under way is refused: said so where the front-end listens, else the end. */
static void session_refuse(struct session *s)
{
	bool ack = s->ack_wanted && (!s->row || s->row->shape.reply == MSG_ACK);

	if (ack)
		talk_ack(&s->talk, 1);
	if (s->state == SESSION_CLOSING)
		return;
	if (!ack || s->verdict == -EPROTO)
		session_close(s, LOG_WARNING, "%s", s->err.msg);
	else
		log_limited(s->limit, LOG_WARNING, "%s: %s", s->params.name, s->err.msg);
}

static void session_message_end(struct session *s)
{
	uint64_t took_ns = loop_clock_ns() - s->begin_ns;

	if (s->verdict)
		session_refuse(s);
	else if (s->row->shape.reply == MSG_ANSWER)
		session_answer(s);
	else if (s->ack_wanted)
		talk_ack(&s->talk, s->ring_failed);
	if (took_ns > TALK_SLOW_NS)
		log_limited(s->limit, LOG_WARNING, "%s: %s took %llu ms", s->params.name,
			    s->row->shape.name, (unsigned long long)took_ns / 1000000);
	s->phase = SESSION_IDLE;
	s->row = NULL;
	talk_done(&s->talk);
}

static void session_hold(struct session *s)
{
	const struct msg *m = &s->talk.conn.msg;
	uint32_t from = 0, to = s->ring_count;

	switch (s->row->quiet) {
	case MSG_QUIET_NONE:
		return;
	case MSG_QUIET_STATE:
		from = m->state.idx;
		to = from < to ? from + 1 : from;
		break;
	case MSG_QUIET_U64:
		from = m->u64 & MSG_VRING_IDX_MASK;
		to = from < to ? from + 1 : from;
		break;
	case MSG_QUIET_ALL:
		break;
	case MSG_QUIET_IF_ZERO:
		if (m->u64)
			return;
		break;
	}
	for (uint32_t i = from; i < to; i++)
		s->rings[i].hold = true;
}

static void session_release(struct session *s)
{
	for (uint32_t i = 0; i < s->ring_count; i++)
		s->rings[i].hold = false;
}

static void session_close_step(struct session *s);

void session_advance(struct session *s)
{
	if (s->state == SESSION_CLOSING) {
		session_close_step(s);
		return;
	}
	if (s->phase == SESSION_QUIETING && !s->pending) {
		s->phase = SESSION_SETTLING;
		s->verdict = s->row->handle(s, &s->talk.conn.msg, &s->err);
		if (s->verdict)
			err_prefix(&s->err, s->verdict, "%s", s->row->shape.name);
		if (s->state == SESSION_NEGOTIATE && s->features_set)
			session_state_set(s, SESSION_ACTIVE);
		session_release(s);
		session_rings_reconcile(s);
	}
	if (s->pending) {
		if (s->state == SESSION_ACTIVE)
			session_state_set(s, SESSION_PARKED);
	} else {
		if (s->state == SESSION_PARKED)
			session_state_set(s, SESSION_ACTIVE);
		if (s->phase == SESSION_SETTLING)
			session_message_end(s);
	}
}

static void session_on_message(struct talk *talk)
{
	struct session *s = container_of(talk, struct session, talk);
	const struct msg *m = &s->talk.conn.msg;

	trace_put(TRACE_MSG_IN, m->hdr.request, m->hdr.size);
	s->begin_ns = loop_clock_ns();
	s->row = msg_row_find(m->hdr.request);
	s->err = (struct err){ 0 };
	s->ring_failed = false;
	s->ack_wanted = m->hdr.flags & MSG_NEED_REPLY && s->proto_features & VHOST_PF_REPLY_ACK;
	if (!s->row)
		s->verdict =
			err_set(&s->err, -ENOTSUP, "message %u is not known here", m->hdr.request);
	else
		s->verdict = msg_check(&s->row->shape, m, s->proto_features, &s->err);
	if (s->verdict) {
		session_refuse(s);
		s->row = NULL;
		talk_done(&s->talk);
		return;
	}
	s->phase = SESSION_QUIETING;
	session_hold(s);
	session_rings_reconcile(s);
	session_advance(s);
}

/* ---- closing ---- */

void session_free(struct session *s)
{
	session_rings_fini(s);
	free(s->rings);
	session_unbind_vdev(s);
	gdirty_unref(s->log);
	inflight_area_unmap(&s->inflight);
	gmem_unref(s->map);
	conn_fini(&s->talk.conn);
	if (s->answer_fd >= 0)
		close(s->answer_fd);
	if (s->state == SESSION_CLOSING) {
		session_state_set(s, SESSION_LISTEN);
		s->params.ended(s, s->params.arg);
	}
	free(s);
}

static void session_on_bell_idle(struct notify *n)
{
	struct session_ring *r = container_of(n, struct session_ring, err_bell);
	struct session *s = container_of(r->v.owner, struct session, ring_owner);

	vring_fd_set(&r->err_next_fd, -1);
	s->close_waits--;
	session_close_step(s);
}

static void session_on_talk_stopped(struct talk *talk)
{
	struct session *s = container_of(talk, struct session, talk);

	s->close_waits--;
	session_close_step(s);
}

static void session_on_back_stopped(struct back_channel *b)
{
	struct session *s = container_of(b, struct session, back);

	s->close_waits--;
	session_close_step(s);
}

static void session_close_step(struct session *s)
{
	if (s->pending)
		return;
	session_rings_reconcile(s);
	if (s->pending)
		return;
	if (!s->close_bells_stopped) {
		s->close_bells_stopped = true;
		s->close_waits += s->ring_count + 1;
		for (uint32_t i = 0; i < s->ring_count; i++)
			notify_stop(&s->rings[i].err_bell, SESSION_BELL_GRACE_NS,
				    session_on_bell_idle);
		s->close_waits--;
	}
	if (!s->close_waits)
		session_free(s);
}

void session_close(struct session *s, enum log_level level, const char *fmt, ...)
{
	char reason[ERR_MSG_MAX];
	va_list ap;

	if (s->state == SESSION_CLOSING)
		return;
	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	log_limited(s->limit, level, "%s: session ends: %s", s->params.name, reason);
	if (level <= LOG_WARNING)
		endpoint_tell(&s->endpoint_conn, ENDPOINT_ERROR, reason);
	session_state_set(s, SESSION_CLOSING);
	/* The end of the conversation, at the earliest, releases the session. */
	s->close_waits = 2;
	talk_stop(&s->talk, session_on_talk_stopped);
	back_channel_stop(&s->back, session_on_back_stopped);
	session_close_step(s);
}

void session_check_lost(struct session *s)
{
	const char *what = NULL;

	if (s->map && gmem_lost(s->map))
		what = "guest memory";
	else if (s->log && gdirty_lost(s->log))
		what = "the dirty log";
	else if (__atomic_load_n(&s->inflight.lost, __ATOMIC_ACQUIRE))
		what = "the in-flight area";
	if (what)
		session_close(s, LOG_WARNING, "%s was truncated by the front-end", what);
}

/* ---- life ---- */

static void session_on_talk_end(struct talk *talk, enum log_level level, const char *reason)
{
	session_close(container_of(talk, struct session, talk), level, "%s", reason);
}

const struct talk_ops session_talk_ops = {
	.message = session_on_message,
	.end = session_on_talk_end,
};

void session_begin(struct session *s)
{
	session_state_set(s, SESSION_NEGOTIATE);
	if (s->features_set)
		session_state_set(s, SESSION_ACTIVE);
}

int session_make(const struct session_params *params, struct vdev *vdev,
		 struct session **ret_session, struct err *reterr)
{
	struct session *s = calloc(1, sizeof(*s));
	uint32_t count = vdev->queue_count_max;
	int rc = -ENOMEM;

	if (count == 0 || count > MSG_QUEUES_MAX) {
		rc = err_set(reterr, -EINVAL, "%s: queues: expected 1..%u, got %u", params->name,
			     MSG_QUEUES_MAX, count);
		goto fail;
	}
	if (s)
		s->rings = calloc(count, sizeof(*s->rings));
	if (!s || !s->rings) {
		err_set(reterr, rc, "%s: no memory for a session", params->name);
		goto fail;
	}
	s->params = *params;
	s->own_limit = LOG_LIMIT_DEFAULT;
	s->limit = params->limit ? params->limit : &s->own_limit;
	s->answer_fd = -1;
	s->talk.conn.fd = s->talk.conn.out_fd = -1;
	s->drained = params->drained;
	s->frozen = params->frozen;
	s->vdev = vdev;
	s->ring_count = count;
	back_channel_init(&s->back, params->main_loop);
	session_rings_init(s);
	session_bind_vdev(s);
	*ret_session = s;
	return 0;
fail:
	free(s);
	vdev->ops->free(vdev);
	return rc;
}

int session_new(const struct session_params *params, int fd, struct vdev *vdev,
		struct session **ret_session, struct err *reterr)
{
	int rc = session_make(params, vdev, ret_session, reterr);

	if (rc < 0) {
		close(fd);
		return rc;
	}
	session_begin(*ret_session);
	talk_start(&(*ret_session)->talk, params->main_loop, fd, params->stall_ns,
		   &session_talk_ops);
	return 0;
}
