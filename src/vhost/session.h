/*
 * One front-end's connection: the vhost-user state machine. It owns the socket, the device model
 * of this connection, the memory map, and the rings.
 *
 *             session_new           SET_FEATURES            rings to wait for
 *   LISTEN ---------------> NEGOTIATE ---------> ACTIVE <----------------------> PARKED
 *      ^                        |                   |          none left            |
 *      |                        +---------+---------+-------------------------------+
 *      |  everything released             | session_close: hang-up, error, stop
 *      +----------------------------- CLOSING
 *
 * Invariants
 * 1. One message at a time. A message first gets the rings that it needs quiet (msg_row.quiet)
 *    drained, then its handler runs (at once, never waiting), then the rings that should run again
 *    are started, then it is answered. When any of this has to wait, the session is PARKED.
 * 2. The socket is read only in NEGOTIATE and ACTIVE, with no message under way and no reply
 *    waiting to be sent.
 * 3. `pending` counts ring commands under way; no fact of a ring changes while it is not zero.
 * 4. Memory, log and in-flight area are changed only by handlers that have all rings quiet, except
 *    for ADD_MEM_REG, whose new map contains the old one.
 * 5. CLOSING is entered once, ends in session_params.ended once, and everything is released then.
 *
 * Moves: NEGOTIATE -> ACTIVE session_handle_SET_FEATURES; ACTIVE <-> PARKED session_advance;
 * any -> CLOSING session_close; CLOSING -> LISTEN session_close_step.
 * Thread: main.
 */
#ifndef VHOST_SESSION_H
#define VHOST_SESSION_H

#include "base/log.h"
#include "guest/gdirty.h"
#include "guest/gmem.h"
#include "sock/endpoint.h"
#include "vhost/back_channel.h"
#include "vhost/inflight_fd.h"
#include "vhost/msg.h"
#include "vhost/talk.h"
#include "virtio/vring.h"

#define SESSION_STATES(X)                                                                          \
	X(LISTEN)                                                                                  \
	X(NEGOTIATE)                                                                               \
	X(ACTIVE)                                                                                  \
	X(PARKED)                                                                                  \
	X(CLOSING)

enum session_state {
#define X(n) SESSION_##n,
	SESSION_STATES(X)
#undef X
	SESSION_STATE_COUNT
};

/* How far the message under way is. */
enum session_phase {
	SESSION_IDLE,
	SESSION_QUIETING,
	SESSION_SETTLING
};

/*
 * One ring of a session. What the front-end told us are facts; whether the ring should run is
 * derived from them after every message (session_rings_reconcile).
 */
struct session_ring {
	struct vring v;
	bool have_addr, have_kick, enabled;
	bool hold;	   /* a message needs it to stand still */
	bool moving;	   /* it is drained, to start on loop */
	struct loop *loop; /* where management wants it; NULL: anywhere */
	uint32_t num;	   /* 0: not told */
	struct msg_addr addr;
	int err_fd;	 /* owned; -1: none */
	int err_next_fd; /* takes err_fd's place when the bell is idle */
	struct notify err_bell;
};

struct session_params {
	const char *name; /* for messages; outlives the session */
	struct loop *main_loop;
	struct loop **loops;
	uint32_t loop_count;
	uint32_t spin_ns;
	bool packed;
	bool drained; /* from the start: see session_drain */
	bool frozen;  /* from the start: session_unpack's */
	struct vring_coalescing coalescing;
	uint64_t stall_ns; /* 0: TALK_STALL_NS */
	/* The endpoint's, so that one who reconnects gets no new budget; NULL: the session's own.
	 */
	struct log_limit *limit;
	/* The session is released after this returns. */
	void (*ended)(struct session *s, void *arg);
	void *arg;
};

struct session {
	struct endpoint_conn endpoint_conn; /* the endpoint's */
	struct session_params params;
	enum session_state state;
	struct log_limit *limit, own_limit;

	struct talk talk;

	/* the message under way */
	const struct msg_row *row;
	enum session_phase phase;
	uint64_t begin_ns;
	bool ack_wanted;  /* need_reply, with REPLY_ACK negotiated before the message */
	bool ring_failed; /* a ring could not be started in consequence of it */
	int verdict;
	struct err err;
	int answer_fd; /* goes with the answer */

	/* what was negotiated and told */
	bool features_set;
	uint64_t features, proto_features;
	uint8_t status;
	struct gmem *map;
	struct gdirty *log;
	struct inflight_area inflight;
	struct back_channel back;

	struct vdev *vdev;
	struct vring_owner ring_owner;
	struct session_ring *rings;
	uint32_t ring_count;
	uint32_t pending;

	bool drained; /* by management */
	bool frozen;  /* for a hand-over: see session_freeze */

	uint32_t close_waits;
	bool close_bells_stopped;
};

const char *session_state_name(enum session_state state);

/*
 * Serves the connected socket fd with vdev. Both are the session's, also when this fails.
 * Errors: -ENOMEM, -EINVAL (the model has no or too many queues).
 */
int session_new(const struct session_params *params, int fd, struct vdev *vdev,
		struct session **ret_session, struct err *reterr);
/* Ends it, once; reason goes to the log. Never releases the session before it returns. */
void session_close(struct session *s, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Closes it when a mapping that it uses was lost to truncation. */
void session_check_lost(struct session *s);

/*
 * Management's: drains all rings, and none starts until it is called with false; the conversation
 * goes on. The rings' states tell how far it is.
 */
void session_drain(struct session *s, bool drained);
/* Drains ring idx and starts it on loop, where it starts from now on. -ERANGE: no such ring. */
int session_ring_move(struct session *s, uint32_t idx, struct loop *loop, struct err *reterr);

/* ---- hand-over: session_pack.c; see struct endpoint_ops ---- */

/* True: nothing is read, and all rings are drained; false: goes on. */
void session_freeze(struct session *s, bool frozen);
bool session_is_quiet(const struct session *s);
int session_pack(const struct session *s, struct parcel *p, struct err *reterr);
/*
 * In place of session_new, frozen. vdev is the session's, also when this fails: -EPROTO, -EINVAL
 * (what was negotiated is not offered now), those of the parts; named.
 */
int session_unpack(const struct session_params *params, struct vdev *vdev, struct parcel *p,
		   struct session **ret_session, struct err *reterr);

/* For session_pack.c: session.c. */
int session_make(const struct session_params *params, struct vdev *vdev,
		 struct session **ret_session, struct err *reterr);
/* What session_make made, before or after it ran: all its parts are idle. */
void session_free(struct session *s);
/* NEGOTIATE, and ACTIVE when features are set. */
void session_begin(struct session *s);
extern const struct talk_ops session_talk_ops;
/* Of all rings, from now on; those that run are told. */
void session_coalesce(struct session *s, const struct vring_coalescing *c);

/* ---- for the handlers: session_ring.c ---- */

/* Starts and drains rings until they are as the facts say; counts commands in s->pending. */
void session_rings_reconcile(struct session *s);
void session_rings_init(struct session *s);
/* All of them STOPPED, with their bells idle. */
void session_rings_fini(struct session *s);
/* Do the facts say that the ring runs? */
bool session_ring_should_run(const struct session_ring *r);
/* Everything the driver set up is forgotten: reset of the device. Rings are quiet. */
void session_device_reset(struct session *s);
/* Goes on with the message under way, or with closing, after something that it waited for. */
void session_advance(struct session *s);

/* ---- bind_virtio.c ---- */

uint64_t session_features_offered(const struct session *s);
uint64_t session_proto_features_offered(void);
void session_bind_vdev(struct session *s);
void session_unbind_vdev(struct session *s);

#endif
