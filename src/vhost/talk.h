/*
 * The conversation of a session: its socket on main's loop. Whole messages go to ops->message, one
 * at a time; nothing is read while one is being handled or a reply waits to be sent. A message that
 * began must end, and a reply must be taken, within stall_ns.
 *
 *   reading --- message ---> busy --- talk_done ---> reading;  any --- talk_stop ---> stopped
 *
 * What the session does with messages is its own; see session.h and nvme_session.h.
 * Thread: main.
 */
#ifndef VHOST_TALK_H
#define VHOST_TALK_H

#include "base/log.h"
#include "loop/loop.h"
#include "vhost/conn.h"

#define TALK_STALL_NS	  10000000000ull
#define TALK_SLOW_NS	  500000000ull /* a message that took longer is worth a line */
#define TALK_MESSAGES_MAX 16	       /* handled in a row before others get their turn */

struct talk;

struct talk_ops {
	/* talk->conn.msg is whole. Ends with talk_done, now or later. */
	void (*message)(struct talk *talk);
	/* It cannot go on: hang-up, stall, error. talk_stop follows, now or later. */
	void (*end)(struct talk *talk, enum log_level level, const char *reason);
};

struct talk {
	struct conn conn;
	uint64_t stall_ns;
	/* private: */
	const struct talk_ops *ops;
	struct loop *loop;
	struct loop_watch watch;
	bool busy, reading, ended, stall_running, frozen;
	struct loop_timer stall_timer; /* a message began, or a reply waits */
	struct loop_timer send_timer;
	void (*stopped)(struct talk *talk);
};

/* Takes fd. stall_ns 0: TALK_STALL_NS. */
void talk_start(struct talk *talk, struct loop *loop, int fd, uint64_t stall_ns,
		const struct talk_ops *ops);
/* In place of talk_start, frozen: of what conn_pack wrote. -EPROTO, named: nothing is left of it.
 */
int talk_unpack(struct talk *talk, struct loop *loop, struct parcel *p, uint64_t stall_ns,
		const struct talk_ops *ops, struct err *reterr);
/* True: nothing is read and nothing sent; what has come to a message stays. */
void talk_freeze(struct talk *talk, bool frozen);
/* As conn_reply, and sends what it can. May call ops->end. */
void talk_reply(struct talk *talk, const struct msg_hdr *hdr, const void *payload, int fd);
/* The answer to a message that is a statement. */
void talk_ack(struct talk *talk, uint64_t value);
/* The message was handled: its descriptors are closed, the next may come. */
void talk_done(struct talk *talk);
/* No callback comes any more but stopped(talk), once, later; then conn_fini. */
void talk_stop(struct talk *talk, void (*stopped)(struct talk *talk));

#endif
