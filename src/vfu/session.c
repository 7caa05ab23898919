#include "vfu/session.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/trace.h"

#define VFU_SEND_RETRY_NS 10000000ull

static const char *const vfu_session_state_names[] = {
#define X(n) #n,
	VFU_SESSION_STATES(X)
#undef X
};

static const bool vfu_session_moves[VFU_SESSION_STATE_COUNT][VFU_SESSION_STATE_COUNT] = {
	[VFU_SESSION_LISTEN] = { [VFU_SESSION_NEGOTIATE] = true },
	[VFU_SESSION_NEGOTIATE] = { [VFU_SESSION_ACTIVE] = true, [VFU_SESSION_CLOSING] = true },
	[VFU_SESSION_ACTIVE] = { [VFU_SESSION_PARKED] = true, [VFU_SESSION_CLOSING] = true },
	[VFU_SESSION_PARKED] = { [VFU_SESSION_ACTIVE] = true, [VFU_SESSION_CLOSING] = true },
	[VFU_SESSION_CLOSING] = { [VFU_SESSION_LISTEN] = true },
};

const char *vfu_session_state_name(enum vfu_session_state state)
{
	return vfu_session_state_names[state];
}

static void vfu_session_state_set(struct vfu_session *s, enum vfu_session_state state)
{
	ASSERT(vfu_session_moves[s->state][state]);
	trace_put(TRACE_SESSION_STATE, s->state, state);
	s->state = state;
}

/* ---- reading: allowed or not, and for how long ---- */

static bool vfu_session_backlog_has_room(const struct vfu_session *s)
{
	uint32_t max = s->frozen ? VFU_BACKLOG_FROZEN_MAX : VFU_BACKLOG_MAX;

	return s->backlog_count < max && s->backlog_bytes < VFU_BACKLOG_BYTES;
}

/* Invariants 2 and 7. */
static bool vfu_session_may_read(const struct vfu_session *s)
{
	if (s->state == VFU_SESSION_CLOSING || vfu_conn_sending(&s->conn))
		return false;
	if (s->frozen)
		return vfu_remote_is_busy(&s->remote) && vfu_session_backlog_has_room(s);
	return s->phase == VFU_PHASE_IDLE ||
	       (s->remote.out_count && vfu_session_backlog_has_room(s));
}

static void vfu_session_reading_update(struct vfu_session *s)
{
	bool want = vfu_session_may_read(s);
	bool stall = !s->frozen && (vfu_conn_sending(&s->conn) ||
				    (s->phase == VFU_PHASE_IDLE && vfu_conn_mid_message(&s->conn)));

	if (s->state == VFU_SESSION_CLOSING)
		return;
	if (want != s->reading) {
		if (want)
			loop_watch_resume(&s->watch);
		else
			loop_watch_pause(&s->watch);
		s->reading = want;
	}
	if (stall && !s->stall_running)
		loop_timer_start(s->params.main_loop, &s->stall_timer,
				 loop_clock_ns() + s->params.stall_ns);
	else if (!stall && s->stall_running)
		loop_timer_stop(&s->stall_timer);
	s->stall_running = stall;
}

static void vfu_session_on_stall(struct loop_timer *t)
{
	struct vfu_session *s = container_of(t, struct vfu_session, stall_timer);

	s->stall_running = false;
	vfu_session_close(s, LOG_WARNING, "%s within %llu ms",
			  vfu_conn_sending(&s->conn) ? "an answer was not taken"
						     : "a message was not finished",
			  (unsigned long long)s->params.stall_ns / 1000000);
}

/* What waits stays when nothing else is waited for: it is handed over. */
void vfu_session_flush(struct vfu_session *s)
{
	int rc = s->frozen && vfu_session_is_quiet(s) ? 0 : vfu_conn_flush(&s->conn);

	if (rc == -EAGAIN)
		loop_timer_start(s->params.main_loop, &s->send_timer,
				 loop_clock_ns() + VFU_SEND_RETRY_NS);
	else if (rc)
		vfu_session_close(s, LOG_WARNING, "sending: %s", strerror(-rc));
}

static void vfu_session_on_send_timer(struct loop_timer *t)
{
	struct vfu_session *s = container_of(t, struct vfu_session, send_timer);

	vfu_session_flush(s);
	vfu_session_run(s);
}

/* ---- the device stands still, or not ---- */

void vfu_session_quiesce(struct vfu_session *s)
{
	if (s->dev_state != VFU_DEV_RUNNING)
		return;
	s->dev_state = VFU_DEV_QUIESCING;
	loop_timer_start(s->params.main_loop, &s->grace_timer,
			 loop_clock_ns() + s->params.grace_ns);
	s->dev->ops->quiesce(s->dev);
}

/* True when it does; else the session is PARKED until it does. */
static bool vfu_session_quiet(struct vfu_session *s)
{
	vfu_session_quiesce(s);
	if (s->dev_state == VFU_DEV_QUIESCED) {
		if (s->state == VFU_SESSION_PARKED)
			vfu_session_state_set(s, VFU_SESSION_ACTIVE);
		return true;
	}
	if (s->state == VFU_SESSION_ACTIVE)
		vfu_session_state_set(s, VFU_SESSION_PARKED);
	return false;
}

static void vfu_session_on_quiet(void *front)
{
	struct vfu_session *s = front;

	if (s->state == VFU_SESSION_CLOSING)
		return;
	ASSERT(s->dev_state == VFU_DEV_QUIESCING);
	s->dev_state = VFU_DEV_QUIESCED;
	loop_timer_stop(&s->grace_timer);
	vfu_session_run(s);
}

/*
 * The client waits for an answer, and perhaps serves no request of ours before it has it. When only
 * a hand-over waits, the client does serve them: that may take as long as it takes.
 */
static void vfu_session_on_grace(struct loop_timer *t)
{
	struct vfu_session *s = container_of(t, struct vfu_session, grace_timer);

	if (s->dev_state != VFU_DEV_QUIESCING)
		return;
	if (vfu_remote_is_busy(&s->remote) && s->phase != VFU_PHASE_IDLE) {
		log_limited(s->limit, LOG_WARNING,
			    "%s: transfers by messages were not served within %llu ms while %s "
			    "waits",
			    s->params.name, (unsigned long long)s->params.grace_ns / 1000000,
			    s->row ? s->row->name : "nothing");
		vfu_remote_fail(s, s->remote.failing);
	}
	/* More of them may begin. */
	loop_timer_start(s->params.main_loop, &s->grace_timer,
			 loop_clock_ns() + s->params.grace_ns);
}

/* Nothing more is there to be read, or others get their turn: invariants 3, 4 and 7. */
static void vfu_session_settle(struct vfu_session *s)
{
	if (s->dev_state != VFU_DEV_QUIESCED || s->frozen || s->resume_later ||
	    vfu_migr_is_stopped(&s->migr))
		return;
	s->dev_state = VFU_DEV_RUNNING;
	s->dev->ops->resume(s->dev);
}

void vfu_session_memory_changed(struct vfu_session *s)
{
	s->resume_later = true;
	loop_timer_start(s->params.main_loop, &s->resume_timer,
			 loop_clock_ns() + VFU_RESUME_DELAY_NS);
}

static void vfu_session_on_resume_timer(struct loop_timer *t)
{
	struct vfu_session *s = container_of(t, struct vfu_session, resume_timer);

	if (s->frozen) /* begins anew when it goes on */
		return;
	s->resume_later = false;
	if (s->phase == VFU_PHASE_IDLE)
		vfu_session_settle(s);
}

void vfu_session_reset_wanted(struct vfu_session *s)
{
	s->reset_wanted = true;
}

int vfu_handle_DEVICE_RESET(struct vfu_session *s, struct vfu_msg *m, struct err *reterr)
{
	vfu_session_reset_wanted(s);
	return 0;
}

static void vfu_session_reset(struct vfu_session *s)
{
	vfu_remote_fail(s, false);
	s->reset_wanted = false;
	s->dev->ops->reset(s->dev);
	vfu_space_reset(&s->pci);
	vfu_irqs_intx_update(s);
	vfu_migr_reset(&s->migr);
}

/* ---- one command ---- */

static void vfu_session_answer(struct vfu_session *s)
{
	struct vfu_msg *m = &s->cur;
	struct vfu_hdr hdr = { .id = m->hdr.id,
			       .command = m->hdr.command,
			       .size = VFU_HDR_BYTES,
			       .flags = VFU_TYPE_REPLY };

	if (m->hdr.flags & VFU_NO_REPLY)
		return;
	if (s->verdict) {
		hdr.flags |= VFU_ERROR;
		hdr.error = (uint32_t)-s->verdict;
		m->reply_fd = -1;
	} else {
		hdr.size += m->reply_bytes;
	}
	vfu_conn_send(&s->conn, &hdr, m);
	vfu_session_flush(s);
}

static void vfu_session_command_end(struct vfu_session *s)
{
	uint64_t took_ns = loop_clock_ns() - s->begin_ns;

	if (s->verdict)
		log_limited(s->limit, LOG_WARNING, "%s: %s", s->params.name, s->err.msg);
	if (took_ns > VFU_SESSION_SLOW_NS)
		log_limited(s->limit, LOG_WARNING, "%s: %s took %llu ms", s->params.name,
			    s->row ? s->row->name : "a message",
			    (unsigned long long)took_ns / 1000000);
	vfu_session_answer(s);
	vfu_msg_drop(&s->cur);
	s->phase = VFU_PHASE_IDLE;
	s->row = NULL;
}

static void vfu_session_handle(struct vfu_session *s)
{
	s->verdict = s->row->handle(s, &s->cur, &s->err);
	if (s->verdict)
		err_prefix(&s->err, s->verdict, "%s", s->row->name);
	if (s->state == VFU_SESSION_NEGOTIATE && s->negotiated)
		vfu_session_state_set(s, VFU_SESSION_ACTIVE);
	if (s->reset_wanted) {
		/* What they were for is not wanted any more. */
		vfu_remote_fail(s, true);
		s->phase = VFU_PHASE_RESETTING;
	} else {
		vfu_session_command_end(s);
	}
}

static bool vfu_session_wants_quiet(const struct vfu_session *s)
{
	const struct vfu_msg *m = &s->cur;
	const struct vfu_dma_unmap *unmap;

	switch (s->row->quiet) {
	case VFU_QUIET_NONE:
		return false;
	case VFU_QUIET_FD:
		return m->fd_count;
	case VFU_QUIET_UNMAP:
		unmap = vfu_msg_bytes(m);
		return vfu_dma_unmap_is_felt(&s->dma, unmap->flags, unmap->iova, unmap->size);
	case VFU_QUIET_FEATURE: {
		const struct vfu_feature *f = vfu_msg_bytes(m);

		return f->flags & VFU_FEATURE_SET && !(f->flags & VFU_FEATURE_PROBE);
	}
	}
	return false;
}

/* The command in s->cur. */
static void vfu_session_begin(struct vfu_session *s)
{
	struct vfu_msg *m = &s->cur;

	trace_put(TRACE_MSG_IN, m->hdr.command, m->payload);
	s->begin_ns = loop_clock_ns();
	s->err = (struct err){ 0 };
	s->verdict = 0;
	m->reply_bytes = 0;
	m->reply_fd = -1;
	s->row = vfu_row_find(m->hdr.command);
	if (!s->row)
		s->verdict =
			err_set(&s->err, -ENOTSUP, "command %u is not known here", m->hdr.command);
	else if (s->state == VFU_SESSION_NEGOTIATE && s->row->number != VFU_CMD_VERSION)
		s->verdict = err_set(&s->err, -EINVAL, "%s: expected VERSION first", s->row->name);
	else
		s->verdict = vfu_msg_check(s->row, m, &s->err);
	if (s->verdict)
		vfu_session_command_end(s);
	else if (vfu_session_wants_quiet(s))
		s->phase = VFU_PHASE_QUIETING;
	else
		vfu_session_handle(s);
}

/* The command under way goes on, if what it waits for is there. */
static bool vfu_session_advance(struct vfu_session *s)
{
	if (!vfu_session_quiet(s))
		return false;
	if (s->phase == VFU_PHASE_QUIETING) {
		vfu_session_handle(s);
	} else {
		vfu_session_reset(s);
		vfu_session_command_end(s);
	}
	return true;
}

/* ---- messages in ---- */

/* The message leaves from; into gets it, and from the other's buffer. */
static void vfu_msg_move(struct vfu_msg *into, struct vfu_msg *from)
{
	struct vfu_msg old = *into;

	*into = *from;
	from->buf = old.buf;
	from->capacity = old.capacity;
	from->fd_count = 0;
}

static void vfu_session_backlog_put(struct vfu_session *s)
{
	struct vfu_msg *m = calloc(1, sizeof(*m));

	if (!m) {
		vfu_session_close(s, LOG_WARNING, "no memory for a message");
		return;
	}
	vfu_msg_move(m, &s->conn.msg);
	list_append(&s->backlog, &m->node);
	s->backlog_count++;
	s->backlog_bytes += m->payload;
}

static bool vfu_session_backlog_take(struct vfu_session *s)
{
	struct list *n = list_pop(&s->backlog);
	struct vfu_msg *m;

	if (!n)
		return false;
	m = list_entry(n, struct vfu_msg, node);
	s->backlog_count--;
	s->backlog_bytes -= m->payload;
	vfu_msg_move(&s->cur, m);
	vfu_msg_fini(m);
	free(m);
	return true;
}

static void vfu_session_message(struct vfu_session *s)
{
	struct vfu_msg *m = &s->conn.msg;
	struct err err = { 0 };

	switch (m->hdr.flags & VFU_TYPE_MASK) {
	case VFU_TYPE_COMMAND:
		if (s->phase != VFU_PHASE_IDLE || s->frozen) {
			vfu_session_backlog_put(s);
		} else {
			vfu_msg_move(&s->cur, m);
			vfu_session_begin(s);
		}
		break;
	case VFU_TYPE_REPLY:
		if (vfu_remote_on_reply(s, m, &err))
			vfu_session_close(s, LOG_WARNING, "%s", err.msg);
		break;
	default:
		vfu_session_close(s, LOG_WARNING, "command %u: type: expected 0 or 1, got %u",
				  m->hdr.command, m->hdr.flags & VFU_TYPE_MASK);
		break;
	}
	if (s->state != VFU_SESSION_CLOSING)
		vfu_conn_message_drop(&s->conn);
}

/* Reads and handles one message; false when there is none. */
static bool vfu_session_read(struct vfu_session *s)
{
	struct err err = { 0 };

	switch (vfu_conn_read(&s->conn, &err)) {
	case VFU_CONN_MESSAGE:
		vfu_session_message(s);
		return true;
	case VFU_CONN_AGAIN:
		break;
	case VFU_CONN_EOF:
		vfu_session_close(s, LOG_INFO, "the client left");
		break;
	case VFU_CONN_ERROR:
		vfu_session_close(s, LOG_WARNING, "%s", err.msg);
		break;
	}
	return false;
}

/* One thing that can be done; false when there is none. */
static bool vfu_session_turn(struct vfu_session *s)
{
	if (s->state == VFU_SESSION_CLOSING)
		return false;
	if (s->phase != VFU_PHASE_IDLE && !vfu_conn_sending(&s->conn) && vfu_session_advance(s))
		return true;
	vfu_remote_pump(s);
	if (!vfu_session_may_read(s))
		return false;
	if (s->phase == VFU_PHASE_IDLE && !s->frozen && vfu_session_backlog_take(s)) {
		vfu_session_begin(s);
		return true;
	}
	return vfu_session_read(s);
}

void vfu_session_run(struct vfu_session *s)
{
	if (s->stepping || s->state == VFU_SESSION_CLOSING)
		return;
	s->stepping = true;
	/* A command that has begun waits for nobody's turn: nobody would call again. */
	for (uint32_t n = 0; n < VFU_MESSAGES_MAX || s->backlog_count || s->phase != VFU_PHASE_IDLE;
	     n++) {
		if (!vfu_session_turn(s))
			break;
	}
	s->stepping = false;
	if (s->state != VFU_SESSION_CLOSING && s->phase == VFU_PHASE_IDLE)
		vfu_session_settle(s);
	vfu_session_reading_update(s);
}

void vfu_session_send(struct vfu_session *s, const struct vfu_hdr *hdr, struct vfu_msg *m)
{
	vfu_conn_send(&s->conn, hdr, m);
	vfu_session_flush(s);
}

void vfu_session_remote_changed(struct vfu_session *s)
{
	vfu_session_run(s);
}

static void vfu_session_on_readable(struct loop_watch *w, uint32_t revents)
{
	struct vfu_session *s = container_of(w, struct vfu_session, watch);

	if (s->reading)
		vfu_session_run(s);
}

/* ---- closing ---- */

static void vfu_session_free(struct vfu_session *s)
{
	vfu_conn_fini(&s->conn);
	vfu_msg_fini(&s->cur);
	while (vfu_session_backlog_take(s))
		vfu_msg_fini(&s->cur);
	vfu_dma_fini(&s->dma);
	vfu_irqs_fini(&s->irqs);
	vfu_migr_fini(&s->migr);
	vfu_remote_fini(&s->remote);
}

static void vfu_session_close_step(struct vfu_session *s)
{
	if (--s->close_waits)
		return;
	vfu_session_free(s);
	vfu_session_state_set(s, VFU_SESSION_LISTEN);
	s->params.ended(s, s->params.arg);
	free(s);
}

static void vfu_session_on_watch_stopped(struct loop_watch *w)
{
	vfu_session_close_step(container_of(w, struct vfu_session, watch));
}

void vfu_session_irqs_stopped(struct vfu_session *s)
{
	vfu_session_close_step(s);
}

static void vfu_session_on_freed(void *front)
{
	struct vfu_session *s = front;

	s->dev = NULL; /* what still waits is visited all the same */
	vfu_session_close_step(s);
}

/* s may be gone after it, unless its socket is watched. */
static void vfu_session_release(struct vfu_session *s)
{
	vfu_session_state_set(s, VFU_SESSION_CLOSING);
	loop_timer_stop(&s->stall_timer);
	loop_timer_stop(&s->send_timer);
	loop_timer_stop(&s->grace_timer);
	loop_timer_stop(&s->resume_timer);
	/* The watch's own callback, at the earliest, releases the session. */
	s->close_waits = 1 + s->watching + !vfu_irqs_stop(s);
	if (s->watching)
		loop_watch_stop(&s->watch, vfu_session_on_watch_stopped);
	vfu_remote_fail(s, true);
	s->dev->ops->free(s->dev);
}

void vfu_session_forget(struct vfu_session *s)
{
	vfu_session_state_set(s, VFU_SESSION_NEGOTIATE);
	vfu_session_release(s);
}

void vfu_session_close(struct vfu_session *s, enum log_level level, const char *fmt, ...)
{
	char reason[ERR_MSG_MAX];
	va_list ap;

	if (s->state == VFU_SESSION_CLOSING)
		return;
	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	log_limited(s->limit, level, "%s: session ends: %s", s->params.name, reason);
	if (level <= LOG_WARNING)
		endpoint_tell(&s->endpoint_conn, ENDPOINT_ERROR, reason);
	vfu_session_release(s);
}

void vfu_session_check_lost(struct vfu_session *s)
{
	if (s->state != VFU_SESSION_CLOSING && vfu_dma_lost(&s->dma))
		vfu_session_close(s, LOG_WARNING, "guest memory was truncated by the client");
}

/* ---- life ---- */

static void vfu_session_nobody(void *front)
{
}

static void vfu_session_init(struct vfu_session *s, const struct vfu_session_params *params,
			     struct vfu_dev *dev)
{
	s->params = *params;
	if (!s->params.stall_ns)
		s->params.stall_ns = VFU_SESSION_STALL_NS;
	if (!s->params.grace_ns)
		s->params.grace_ns = VFU_QUIESCE_GRACE_NS;
	s->own_limit = LOG_LIMIT_DEFAULT;
	s->limit = params->limit ? params->limit : &s->own_limit;
	s->dev = dev;
	s->cur.reply_fd = -1;
	s->conn.fd = -1;
	s->peer_fds_max = 1;
	s->peer_xfer_max = VFU_XFER_MAX;
	list_init(&s->backlog);
	loop_timer_init(&s->stall_timer, vfu_session_on_stall);
	loop_timer_init(&s->send_timer, vfu_session_on_send_timer);
	loop_timer_init(&s->grace_timer, vfu_session_on_grace);
	loop_timer_init(&s->resume_timer, vfu_session_on_resume_timer);
	vfu_irqs_init(&s->irqs);
	vfu_migr_init(&s->migr);
	vfu_remote_init(&s->remote);
}

int vfu_session_make(const struct vfu_session_params *params, struct vfu_dev *dev,
		     struct vfu_session **ret_session, struct err *reterr)
{
	struct vfu_session *s = calloc(1, sizeof(*s));
	int rc = s ? 0 : err_set(reterr, -ENOMEM, "no memory for a session");

	if (!rc)
		rc = vfu_space_init(&s->pci, dev, reterr);
	if (!rc)
		rc = vfu_dma_init(&s->dma, reterr);
	if (rc)
		goto fail;
	vfu_session_init(s, params, dev);
	dev->front = s;
	dev->quiet = vfu_session_on_quiet;
	dev->freed = vfu_session_on_freed;
	*ret_session = s;
	return 0;
fail:
	free(s);
	dev->quiet = dev->freed = vfu_session_nobody;
	dev->ops->free(dev);
	return err_prefix(reterr, rc, "%s", params->name);
}

void vfu_session_open(struct vfu_session *s)
{
	vfu_session_state_set(s, VFU_SESSION_NEGOTIATE);
	if (s->negotiated)
		vfu_session_state_set(s, VFU_SESSION_ACTIVE);
	s->reading = s->watching = true;
	loop_watch_start(s->params.main_loop, &s->watch, s->conn.fd, POLLIN,
			 vfu_session_on_readable);
}

int vfu_session_new(const struct vfu_session_params *params, int fd, struct vfu_dev *dev,
		    struct vfu_session **ret_session, struct err *reterr)
{
	int rc = vfu_session_make(params, dev, ret_session, reterr);

	if (rc) {
		close(fd);
		return rc;
	}
	vfu_conn_init(&(*ret_session)->conn, fd);
	vfu_session_open(*ret_session);
	return 0;
}
