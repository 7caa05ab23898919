/*
 * One vhost-user socket: messages in, one reply out at a time. Non-blocking throughout; a message
 * may arrive byte by byte, and its descriptors with any of them (by the book: the first).
 *
 * Descriptors of a message are taken with close-on-exec, counted, and belong to the struct msg;
 * more than MSG_FDS_MAX, or a truncated control message, is an error and none is kept.
 *
 * At most one reply waits to be sent. While it does, the session reads nothing, so that a
 * front-end that only asks and never listens costs one buffer.
 * Thread: main.
 */
#ifndef VHOST_CONN_H
#define VHOST_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "vhost/msg.h"

struct parcel;

struct conn {
	int fd; /* owned */
	struct msg msg;
	/* private: */
	size_t hdr_have, payload_have;
	uint8_t out[MSG_HDR_BYTES + MSG_REPLY_MAX];
	size_t out_bytes, out_done;
	int out_fd; /* goes with the first byte, closed then; -1: none */
};

enum conn_read {
	CONN_MESSAGE, /* conn->msg is whole; conn_message_drop when handled */
	CONN_AGAIN,   /* nothing more for now */
	CONN_EOF,     /* the front-end is gone, between two messages */
	CONN_ERROR,   /* reterr says what */
};

/* Takes fd and makes it non-blocking. */
void conn_init(struct conn *c, int fd);
/* Closes the socket and all descriptors of the current message. Any number of times. */
void conn_fini(struct conn *c);
enum conn_read conn_read(struct conn *c, struct err *reterr);
/* Has a message begun and not ended? */
bool conn_mid_message(const struct conn *c);

/* The whole message in c->msg was handled: its descriptors are closed, its header is forgotten. */
void conn_message_drop(struct conn *c);

/*
 * Queues hdr and payload (at most MSG_REPLY_MAX bytes); fd, or -1, is consumed in every
 * case. Nothing may be waiting (ASSERT: the session does not read meanwhile).
 */
void conn_reply(struct conn *c, const struct msg_hdr *hdr, const void *payload, int fd);
/* Sends what waits. 0: all gone; -EAGAIN: later; another: the connection's error. */
int conn_flush(struct conn *c);
/*
 * Hand-over: the socket, what came of a message that is not whole, and what waits to be sent. No
 * whole message is there. In the successor c is initialized by it, in every case. -EPROTO, named.
 */
void conn_pack(const struct conn *c, struct parcel *p);
int conn_unpack(struct conn *c, struct parcel *p, struct err *reterr);
static inline bool conn_sending(const struct conn *c)
{
	return c->out_done < c->out_bytes;
}

#endif
