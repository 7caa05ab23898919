/*
 * One front-end's connection of vhost-user-nvme: messages to and from an NVMe controller.
 *
 * The front-end (a forked QEMU) has the registers and the admin queue; it passes single admin
 * commands on as messages and waits for the answers. Guest memory, the start, the stop and the
 * interrupt descriptors are messages without an answer, so the next message waits until the
 * controller has done what the one before asked for. There is nothing to negotiate, and no kick:
 * doorbells are words of memory that the queues look at.
 *
 *            nvme_session_new               handler has to wait
 *   LISTEN ------------------> ACTIVE <----------------------------> PARKED
 *      ^                         |       nvme_session_message_end      |
 *      |                         +----------------+--------------------+
 *      |  controller freed, memory released       | nvme_session_close: hang-up, error, stop
 *      +-------------------------------------- CLOSING
 *
 * Invariants
 * 1. One message at a time. Its handler ends it once, now or later (nvme_session_message_end); when
 *    later, the session is PARKED and reads nothing.
 * 2. A handler asks one thing of the controller at a time, and ends when it is done. Closing waits
 *    for that, so the controller is freed with nothing under way.
 * 3. Messages come before the memory table (GET_CAP, Identify): the controller exists from the
 *    start of the session, and runs between START_STOP 1 and 0. Both may come twice.
 * 4. Guest memory and the shadow of BAR 0 change only while the controller is quiesced.
 * 5. Frozen (for a hand-over) nothing is read, and between two messages the controller is quiesced.
 * 6. CLOSING is entered once, ends in nvme_session_params.ended once, and everything is released
 *    then.
 * Thread: main.
 */
#ifndef VHOST_NVME_SESSION_H
#define VHOST_NVME_SESSION_H

#include "nvme/ctrl.h"
#include "vhost/talk.h"
#include "vhost/vhost.h"

#define NVME_SESSION_STATES(X)                                                                     \
	X(LISTEN)                                                                                  \
	X(ACTIVE)                                                                                  \
	X(PARKED)                                                                                  \
	X(CLOSING)

enum nvme_session_state {
#define X(n) NVME_SESSION_##n,
	NVME_SESSION_STATES(X)
#undef X
	NVME_SESSION_STATE_COUNT
};

/* The answer to ADMIN: a completion, and at 64 the data; of Identify's the last 48 bytes stay. */
#define NVME_ANSWER_DATA_OFF	64
#define NVME_ANSWER_WHOLE_BYTES (16 + NVME_IDENTIFY_BYTES)
_Static_assert(NVME_ANSWER_WHOLE_BYTES <= MSG_REPLY_MAX, "answers");

struct nvme_session;
struct parcel;

struct nvme_msg_row {
	struct msg_shape shape;
	/* Ends with nvme_session_message_end. A fault goes to s->err. */
	void (*handle)(struct nvme_session *s, struct msg *m);
};

struct nvme_session {
	struct endpoint_conn endpoint_conn;
	struct vhost_nvme_params params; /* sock.name is the endpoint's */
	struct log_limit *limit;
	void (*ended)(struct nvme_session *s);
	enum nvme_session_state state;
	struct talk talk;

	/* the message under way */
	const struct nvme_msg_row *row;
	uint64_t begin_ns;
	bool ack_wanted;
	bool ctrl_busy; /* the controller was asked for something, and has not done it */
	struct err err;
	uint32_t answer_bytes;
	uint8_t answer[NVME_ANSWER_DATA_OFF + NVME_IDENTIFY_BYTES];

	/* bind_nvme.c */
	struct nvme_ctrl *ctrl;
	struct gmem *map, *bar;
	struct gmem *next; /* of either, while the controller becomes quiet for it */
	struct nvme_sqe sqe;

	/* hand-over */
	bool frozen;
	bool still; /* the controller is quiesced for it */

	uint32_t close_waits;
};

const char *nvme_session_state_name(enum nvme_session_state state);

/*
 * Serves the connected socket fd, which is taken in every case. ended(s) comes once; s is released
 * after it. Errors: -ENOMEM, and nvme_ctrl_new's.
 */
int nvme_session_new(const struct vhost_nvme_params *params, struct log_limit *limit, int fd,
		     void (*ended)(struct nvme_session *s), struct nvme_session **ret_session,
		     struct err *reterr);
/* Ends it, once; reason goes to the log. Never releases the session before it returns. */
void nvme_session_close(struct nvme_session *s, enum log_level level, const char *reason);
/* Closes it when memory that it uses was lost to truncation. */
void nvme_session_check_lost(struct nvme_session *s);

/* Management's: nvme_ctrl_drain and nvme_ctrl_queue_move, while there is a controller. */
void nvme_session_drain(struct nvme_session *s, bool drained);
int nvme_session_queue_move(struct nvme_session *s, uint32_t qid, struct loop *loop,
			    struct err *reterr);

/* ---- hand-over: nvme_session_pack.c; see struct endpoint_ops ---- */

/* True: nothing is read, and the controller is quiesced; false: goes on. */
void nvme_session_freeze(struct nvme_session *s, bool frozen);
bool nvme_session_is_quiet(const struct nvme_session *s);
int nvme_session_pack(const struct nvme_session *s, struct parcel *p, struct err *reterr);
/*
 * In place of nvme_session_new, frozen. Errors: -EPROTO, -EINVAL, those of the parts; named. What
 * is left of it then goes by itself, and ended does not come.
 */
int nvme_session_unpack(const struct vhost_nvme_params *params, struct log_limit *limit,
			void (*ended)(struct nvme_session *s), struct parcel *p,
			struct nvme_session **ret_session, struct err *reterr);

/* For nvme_session_pack.c. A session without a conversation. */
int nvme_session_make(const struct vhost_nvme_params *params, struct log_limit *limit,
		      void (*ended)(struct nvme_session *s), struct nvme_session **ret_session,
		      struct err *reterr);
/* It has its conversation. */
void nvme_session_begin(struct nvme_session *s);
/* Ends one that has not begun. */
void nvme_session_forget(struct nvme_session *s);
extern const struct talk_ops nvme_session_talk_ops;

/* ---- for the handlers ---- */

/*
 * The message under way was handled: rc 0, or -errno with s->err set (refused: a non-zero
 * acknowledgement, or the end of the session when none was asked for). An answer is in s->answer.
 */
void nvme_session_message_end(struct nvme_session *s, int rc);

/* ---- bind_nvme.c ---- */

int nvme_session_bind(struct nvme_session *s, struct err *reterr);
/* The shadow of BAR 0 has them; NULL: it is too small. */
uint32_t *nvme_session_doorbells(const struct gmem *bar);
/* What it asked of the controller is done: what a hand-over waits for may begin. */
void nvme_session_freeze_step(struct nvme_session *s);
/* The controller has done it. false: the session closes, and nothing goes on. */
bool nvme_session_ctrl_done(struct nvme_session *s);
/* nvme_session_unbound(s) comes once, maybe before this returns. */
void nvme_session_unbind(struct nvme_session *s);
void nvme_session_unbound(struct nvme_session *s);

#define MSG(number, name, ...)                                                                     \
	void nvme_session_handle_##name(struct nvme_session *s, struct msg *m);
#include "vhost/nvme_msg.def"
#undef MSG

#endif
