#include "vhost/talk.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

#define TALK_SEND_RETRY_NS 10000000ull

static void talk_update(struct talk *t)
{
	bool sending = conn_sending(&t->conn);
	bool want = !t->busy && !sending && !t->frozen;
	bool stall = !t->frozen && (sending || (!t->busy && conn_mid_message(&t->conn)));

	if (t->ended)
		return;
	if (want != t->reading) {
		if (want)
			loop_watch_resume(&t->watch);
		else
			loop_watch_pause(&t->watch);
		t->reading = want;
	}
	if (stall && !t->stall_running)
		loop_timer_start(t->loop, &t->stall_timer, loop_clock_ns() + t->stall_ns);
	else if (!stall && t->stall_running)
		loop_timer_stop(&t->stall_timer);
	t->stall_running = stall;
}

static void talk_on_stall(struct loop_timer *timer)
{
	struct talk *t = container_of(timer, struct talk, stall_timer);
	char reason[ERR_MSG_MAX];

	t->stall_running = false;
	snprintf(reason, sizeof(reason), "%s within %llu ms",
		 conn_sending(&t->conn) ? "a reply was not taken" : "a message was not finished",
		 (unsigned long long)t->stall_ns / 1000000);
	t->ops->end(t, LOG_WARNING, reason);
}

static void talk_flush(struct talk *t)
{
	int rc = t->frozen ? 0 : conn_flush(&t->conn);
	char reason[ERR_MSG_MAX];

	if (rc == -EAGAIN) {
		loop_timer_start(t->loop, &t->send_timer, loop_clock_ns() + TALK_SEND_RETRY_NS);
	} else if (rc) {
		snprintf(reason, sizeof(reason), "sending a reply: %s", strerror(-rc));
		t->ops->end(t, LOG_WARNING, reason);
	}
}

static void talk_on_send_timer(struct loop_timer *timer)
{
	struct talk *t = container_of(timer, struct talk, send_timer);

	talk_flush(t);
	talk_update(t);
}

void talk_reply(struct talk *t, const struct msg_hdr *hdr, const void *payload, int fd)
{
	conn_reply(&t->conn, hdr, payload, fd);
	talk_flush(t);
}

void talk_ack(struct talk *t, uint64_t value)
{
	struct msg_hdr hdr = { .request = t->conn.msg.hdr.request,
			       .flags = MSG_VERSION | MSG_REPLY,
			       .size = sizeof(value) };

	talk_reply(t, &hdr, &value, -1);
}

void talk_done(struct talk *t)
{
	conn_message_drop(&t->conn);
	t->busy = false;
	talk_update(t);
}

static void talk_on_readable(struct loop_watch *w, uint32_t revents)
{
	struct talk *t = container_of(w, struct talk, watch);
	struct err err = { 0 };

	for (uint32_t n = 0; n < TALK_MESSAGES_MAX; n++) {
		if (!t->reading || t->ended)
			return;
		switch (conn_read(&t->conn, &err)) {
		case CONN_MESSAGE:
			t->busy = true;
			t->ops->message(t);
			break;
		case CONN_AGAIN:
			talk_update(t);
			return;
		case CONN_EOF:
			t->ops->end(t, LOG_INFO, "the front-end left");
			return;
		case CONN_ERROR:
			t->ops->end(t, LOG_WARNING, err.msg);
			return;
		}
		talk_update(t);
	}
}

static void talk_begin(struct talk *t)
{
	t->reading = true;
	loop_timer_init(&t->stall_timer, talk_on_stall);
	loop_timer_init(&t->send_timer, talk_on_send_timer);
	loop_watch_start(t->loop, &t->watch, t->conn.fd, POLLIN, talk_on_readable);
}

void talk_start(struct talk *t, struct loop *loop, int fd, uint64_t stall_ns,
		const struct talk_ops *ops)
{
	*t = (struct talk){ .stall_ns = stall_ns ? stall_ns : TALK_STALL_NS,
			    .ops = ops,
			    .loop = loop };
	conn_init(&t->conn, fd);
	talk_begin(t);
}

int talk_unpack(struct talk *t, struct loop *loop, struct parcel *p, uint64_t stall_ns,
		const struct talk_ops *ops, struct err *reterr)
{
	int rc;

	*t = (struct talk){ .stall_ns = stall_ns ? stall_ns : TALK_STALL_NS,
			    .ops = ops,
			    .loop = loop,
			    .frozen = true };
	rc = conn_unpack(&t->conn, p, reterr);
	if (rc < 0) {
		conn_fini(&t->conn);
		return rc;
	}
	talk_begin(t);
	talk_update(t);
	return 0;
}

void talk_freeze(struct talk *t, bool frozen)
{
	if (t->ended)
		return;
	t->frozen = frozen;
	if (frozen)
		loop_timer_stop(&t->send_timer);
	else if (conn_sending(&t->conn))
		talk_flush(t);
	if (!t->ended)
		talk_update(t);
}

static void talk_on_watch_stopped(struct loop_watch *w)
{
	struct talk *t = container_of(w, struct talk, watch);

	t->stopped(t);
}

void talk_stop(struct talk *t, void (*stopped)(struct talk *talk))
{
	ASSERT(!t->ended);
	t->ended = true;
	t->stopped = stopped;
	msg_fds_close(&t->conn.msg);
	loop_timer_stop(&t->stall_timer);
	loop_timer_stop(&t->send_timer);
	loop_watch_stop(&t->watch, talk_on_watch_stopped);
}
