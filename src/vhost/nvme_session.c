#include "vhost/nvme_session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/trace.h"
#include "guest/gmem.h"

static const struct nvme_msg_row nvme_msg_table[] = {
#define MSG(number, name, size_min, size_max, fd_min, fd_max, reply)                               \
	{ { number, #name, size_min, size_max, fd_min, fd_max, 0, MSG_##reply },                   \
	  nvme_session_handle_##name },
#include "vhost/nvme_msg.def"
#undef MSG
};

static const char *const nvme_session_state_names[] = {
#define X(n) #n,
	NVME_SESSION_STATES(X)
#undef X
};

static const bool nvme_session_moves[NVME_SESSION_STATE_COUNT][NVME_SESSION_STATE_COUNT] = {
	[NVME_SESSION_LISTEN] = { [NVME_SESSION_ACTIVE] = true },
	[NVME_SESSION_ACTIVE] = { [NVME_SESSION_PARKED] = true, [NVME_SESSION_CLOSING] = true },
	[NVME_SESSION_PARKED] = { [NVME_SESSION_ACTIVE] = true, [NVME_SESSION_CLOSING] = true },
	[NVME_SESSION_CLOSING] = { [NVME_SESSION_LISTEN] = true },
};

const char *nvme_session_state_name(enum nvme_session_state state)
{
	return nvme_session_state_names[state];
}

static void nvme_session_state_set(struct nvme_session *s, enum nvme_session_state state)
{
	ASSERT(nvme_session_moves[s->state][state]);
	trace_put(TRACE_SESSION_STATE, s->state, state);
	s->state = state;
}

/* ---- one message ---- */

static const struct nvme_msg_row *nvme_msg_row_find(uint32_t number)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(nvme_msg_table); i++) {
		if (nvme_msg_table[i].shape.number == number)
			return &nvme_msg_table[i];
	}
	return NULL;
}

/* Said so where the front-end listens, else the end. */
static void nvme_session_refuse(struct nvme_session *s)
{
	bool ack = s->ack_wanted && (!s->row || s->row->shape.reply == MSG_ACK);

	if (!ack) {
		nvme_session_close(s, LOG_WARNING, s->err.msg);
		return;
	}
	log_limited(s->limit, LOG_WARNING, "%s: %s", s->params.sock.name, s->err.msg);
	talk_ack(&s->talk, 1);
}

static void nvme_session_answer(struct nvme_session *s)
{
	struct msg_hdr hdr = { .request = s->row->shape.number,
			       .flags = MSG_VERSION | MSG_REPLY,
			       .size = s->answer_bytes };

	talk_reply(&s->talk, &hdr, s->answer, -1);
}

void nvme_session_message_end(struct nvme_session *s, int rc)
{
	uint64_t took_ns = loop_clock_ns() - s->begin_ns;

	if (s->state == NVME_SESSION_PARKED)
		nvme_session_state_set(s, NVME_SESSION_ACTIVE);
	if (rc) {
		err_prefix(&s->err, rc, "%s", s->row->shape.name);
		nvme_session_refuse(s);
	} else if (s->row->shape.reply == MSG_ANSWER) {
		nvme_session_answer(s);
	} else if (s->ack_wanted) {
		talk_ack(&s->talk, 0);
	}
	/* The guest stands still meanwhile. */
	if (took_ns > TALK_SLOW_NS)
		log_limited(s->limit, LOG_WARNING, "%s: %s took %llu ms", s->params.sock.name,
			    s->row->shape.name, (unsigned long long)took_ns / 1000000);
	s->row = NULL;
	talk_done(&s->talk);
	nvme_session_freeze_step(s);
}

static void nvme_session_on_message(struct talk *talk)
{
	struct nvme_session *s = container_of(talk, struct nvme_session, talk);
	struct msg *m = &talk->conn.msg;
	int rc;

	trace_put(TRACE_MSG_IN, m->hdr.request, m->hdr.size);
	s->begin_ns = loop_clock_ns();
	s->err = (struct err){ 0 };
	/* There is no REPLY_ACK to negotiate: who asks for an acknowledgement gets it. */
	s->ack_wanted = m->hdr.flags & MSG_NEED_REPLY;
	s->row = nvme_msg_row_find(m->hdr.request);
	if (!s->row)
		rc = err_set(&s->err, -ENOTSUP, "message %u is not known to vhost-user-nvme",
			     m->hdr.request);
	else
		rc = msg_check(&s->row->shape, m, 0, &s->err);
	if (rc) {
		nvme_session_refuse(s);
		s->row = NULL;
		talk_done(talk);
		return;
	}
	s->row->handle(s, m);
	if (s->row && s->state == NVME_SESSION_ACTIVE)
		nvme_session_state_set(s, NVME_SESSION_PARKED);
}

/* ---- closing ---- */

static void nvme_session_close_step(struct nvme_session *s)
{
	if (--s->close_waits)
		return;
	gmem_unref(s->map);
	gmem_unref(s->bar);
	gmem_unref(s->next);
	conn_fini(&s->talk.conn);
	nvme_session_state_set(s, NVME_SESSION_LISTEN);
	s->ended(s);
	free(s);
}

static void nvme_session_on_talk_stopped(struct talk *talk)
{
	nvme_session_close_step(container_of(talk, struct nvme_session, talk));
}

void nvme_session_unbound(struct nvme_session *s)
{
	nvme_session_close_step(s);
}

void nvme_session_close(struct nvme_session *s, enum log_level level, const char *reason)
{
	if (s->state == NVME_SESSION_CLOSING)
		return;
	log_limited(s->limit, level, "%s: session ends: %s", s->params.sock.name, reason);
	nvme_session_state_set(s, NVME_SESSION_CLOSING);
	/* The end of the conversation, at the earliest, releases the session. */
	s->close_waits = 2;
	talk_stop(&s->talk, nvme_session_on_talk_stopped);
	nvme_session_unbind(s);
}

void nvme_session_check_lost(struct nvme_session *s)
{
	if (s->map && gmem_lost(s->map))
		nvme_session_close(s, LOG_WARNING, "guest memory was truncated by the front-end");
	else if (s->bar && gmem_lost(s->bar))
		nvme_session_close(s, LOG_WARNING, "the shadow BAR was truncated by the front-end");
}

static void nvme_session_on_talk_end(struct talk *talk, enum log_level level, const char *reason)
{
	nvme_session_close(container_of(talk, struct nvme_session, talk), level, reason);
}

const struct talk_ops nvme_session_talk_ops = {
	.message = nvme_session_on_message,
	.end = nvme_session_on_talk_end,
};

int nvme_session_make(const struct vhost_nvme_params *params, struct log_limit *limit,
		      void (*ended)(struct nvme_session *s), struct nvme_session **ret_session,
		      struct err *reterr)
{
	struct nvme_session *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set(reterr, -ENOMEM, "%s: no memory for a session", params->sock.name);
	s->params = *params;
	s->limit = limit;
	s->ended = ended;
	s->talk.conn.fd = s->talk.conn.out_fd = -1;
	rc = nvme_session_bind(s, reterr);
	if (rc)
		free(s);
	else
		*ret_session = s;
	return rc;
}

void nvme_session_begin(struct nvme_session *s)
{
	nvme_session_state_set(s, NVME_SESSION_ACTIVE);
}

static void nvme_session_on_forgotten(struct nvme_session *s)
{
}

void nvme_session_forget(struct nvme_session *s)
{
	s->ended = nvme_session_on_forgotten;
	nvme_session_begin(s);
	nvme_session_state_set(s, NVME_SESSION_CLOSING);
	s->close_waits = 1;
	nvme_session_unbind(s);
}

int nvme_session_new(const struct vhost_nvme_params *params, struct log_limit *limit, int fd,
		     void (*ended)(struct nvme_session *s), struct nvme_session **ret_session,
		     struct err *reterr)
{
	int rc = nvme_session_make(params, limit, ended, ret_session, reterr);

	if (rc) {
		close(fd);
		return rc;
	}
	nvme_session_begin(*ret_session);
	talk_start(&(*ret_session)->talk, params->sock.main_loop, fd, 0, &nvme_session_talk_ops);
	return 0;
}
