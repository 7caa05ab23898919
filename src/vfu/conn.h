/*
 * One vfio-user socket. Non-blocking throughout; messages may arrive byte by byte or many at a
 * time, and descriptors with any byte of theirs.
 *
 * One thing is sent at a time: an answer, or a request of ours. While it waits the session reads
 * nothing, so that a client that only asks and never listens costs one buffer.
 * Thread: main.
 */
#ifndef VFU_CONN_H
#define VFU_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "vfu/msg.h"

struct parcel;

struct vfu_conn {
	int fd;		    /* owned */
	struct vfu_msg msg; /* the one that is coming, or came */
	/* private: */
	size_t hdr_have, payload_have;
	struct vfu_msg out; /* its buffer is sent; fds[0] goes with the first byte */
	size_t out_bytes, out_done;
};

enum vfu_conn_read {
	VFU_CONN_MESSAGE, /* conn->msg is whole; vfu_conn_message_drop when handled */
	VFU_CONN_AGAIN,	  /* nothing more for now */
	VFU_CONN_EOF,	  /* the client is gone, between two messages */
	VFU_CONN_ERROR,	  /* reterr says what */
};

/* Takes fd and makes it non-blocking. */
void vfu_conn_init(struct vfu_conn *c, int fd);
/* Closes and frees everything. Any number of times. */
void vfu_conn_fini(struct vfu_conn *c);
enum vfu_conn_read vfu_conn_read(struct vfu_conn *c, struct err *reterr);
/* Has a message begun and not ended? */
bool vfu_conn_mid_message(const struct vfu_conn *c);
/* The whole message in c->msg was handled, or moved elsewhere. */
void vfu_conn_message_drop(struct vfu_conn *c);

/*
 * Sends hdr and the first hdr->size - 16 bytes of m's payload, with m->reply_fd if there is one.
 * m's buffer is taken, and m gets another in exchange. Nothing may be waiting (ASSERT).
 */
void vfu_conn_send(struct vfu_conn *c, const struct vfu_hdr *hdr, struct vfu_msg *m);
/* Sends what waits. 0: all gone; -EAGAIN: later; another: the connection's error. */
int vfu_conn_flush(struct vfu_conn *c);
/*
 * Hand-over: the socket, what came of a message that is not whole, and what waits to be sent, less
 * a descriptor of it, which the caller sees to (c->out.reply_fd). No whole message is there. In the
 * successor c is initialized by it, in every case. -EPROTO, -ENOMEM, named.
 */
void vfu_conn_pack(const struct vfu_conn *c, struct parcel *p);
int vfu_conn_unpack(struct vfu_conn *c, struct parcel *p, struct err *reterr);
/* A message, whole or in parts: the first hdr_have and payload_have bytes. m is empty before, and
 * the caller's to give up. */
void vfu_msg_pack(const struct vfu_msg *m, size_t hdr_have, size_t payload_have, struct parcel *p);
int vfu_msg_unpack(struct vfu_msg *m, size_t *ret_hdr_have, size_t *ret_payload_have,
		   struct parcel *p, struct err *reterr);
static inline bool vfu_conn_sending(const struct vfu_conn *c)
{
	return c->out_done < c->out_bytes;
}

#endif
