/*
 * One client's connection: the vfio-user state machine. It owns the socket, the device of this
 * connection, the maps of the guest's memory, and everything of a PCI function that is not the
 * device's own (dev.h).
 *
 *           vfu_session_new            VERSION                 device to wait for
 *   LISTEN ---------------> NEGOTIATE ---------> ACTIVE <----------------------> PARKED
 *      ^                        |                   |           it is quiet         |
 *      |                        +---------+---------+-------------------------------+
 *      |  everything released             | vfu_session_close: hang-up, error, stop
 *      +----------------------------- CLOSING
 *
 * Invariants
 * 1. One command at a time. It first gets the device quiesced if it needs that (msg_row.quiet),
 *    then its handler runs (at once, never waiting), then a reset that it asked for, then it is
 *    answered. When any of this has to wait, the session is PARKED.
 * 2. Commands are read only in NEGOTIATE and ACTIVE, with none under way and nothing waiting to be
 *    sent. While PARKED the socket is read only when answers to requests of ours are due, and
 *    commands that come before them are kept, at most VFU_BACKLOG_MAX and VFU_BACKLOG_BYTES.
 * 3. A device that was quiesced for a change of memory is resumed VFU_RESUME_DELAY_NS after the
 * last one: a client sends all unmaps and maps of one change together, and between them memory of
 *    queues and of what they point to is missing.
 * 4. While the migration state is not RUNNING or PRE_COPY the device stays quiesced.
 * 5. Maps, dirty log, reset, saving and loading happen only while the device is quiesced.
 * 6. CLOSING is entered once, ends in vfu_session_params.ended once, and everything is released
 *    then.
 * 7. Frozen (for a hand-over) the device is quiesced, and no command begins. When the one under way
 *    has ended, and no transfer by messages is there, the socket is left alone.
 *
 * Moves: NEGOTIATE -> ACTIVE vfu_handle_VERSION (by vfu_session_step); ACTIVE <-> PARKED
 * vfu_session_step; any -> CLOSING vfu_session_close; CLOSING -> LISTEN vfu_session_close_step.
 * Thread: main.
 */
#ifndef VFU_SESSION_H
#define VFU_SESSION_H

#include "base/list.h"
#include "base/log.h"
#include "guest/gmem.h"
#include "loop/loop.h"
#include "sock/endpoint.h"
#include "vfu/conn.h"
#include "vfu/dev.h"
#include "vfu/dma.h"
#include "vfu/irq.h"
#include "vfu/migr.h"
#include "vfu/msg.h"
#include "vfu/pci.h"
#include "vfu/remote.h"

#define VFU_SESSION_STATES(X)                                                                      \
	X(LISTEN)                                                                                  \
	X(NEGOTIATE)                                                                               \
	X(ACTIVE)                                                                                  \
	X(PARKED)                                                                                  \
	X(CLOSING)

enum vfu_session_state {
#define X(n) VFU_SESSION_##n,
	VFU_SESSION_STATES(X)
#undef X
	VFU_SESSION_STATE_COUNT
};

/* How far the command under way is. */
enum vfu_session_phase {
	VFU_PHASE_IDLE,
	VFU_PHASE_QUIETING,  /* the handler needs a quiet device */
	VFU_PHASE_RESETTING, /* it ran, and asked for a reset */
};

enum vfu_dev_state {
	VFU_DEV_RUNNING,
	VFU_DEV_QUIESCING,
	VFU_DEV_QUIESCED,
};

/* A message that began must end within this time; an answer must be taken within it. */
#define VFU_SESSION_STALL_NS 10000000000ull
#define VFU_SESSION_SLOW_NS  500000000ull
/* Clients give up after 5 s: transfers by messages, which they may not serve before they got their
 * answer, are failed after this time. */
#define VFU_QUIESCE_GRACE_NS 1000000000ull
#define VFU_RESUME_DELAY_NS  2000000ull
#define VFU_MESSAGES_MAX     32 /* handled in a row before others get their turn */
#define VFU_BACKLOG_MAX	     64
/* In a hand-over: writes that want no answer come before the answers that it waits for. */
#define VFU_BACKLOG_FROZEN_MAX 4096
#define VFU_BACKLOG_BYTES      0x200000u

struct parcel;

struct vfu_session_params {
	const char *name; /* for messages; outlives the session */
	struct loop *main_loop;
	uint64_t stall_ns;	 /* 0: VFU_SESSION_STALL_NS */
	uint64_t grace_ns;	 /* 0: VFU_QUIESCE_GRACE_NS */
	struct log_limit *limit; /* the endpoint's; NULL: the session's own */
	/* The session is released after this returns. */
	void (*ended)(struct vfu_session *s, void *arg);
	void *arg;
};

struct vfu_session {
	struct endpoint_conn endpoint_conn; /* the endpoint's */
	struct vfu_session_params params;
	enum vfu_session_state state;
	struct log_limit *limit, own_limit;

	struct vfu_conn conn;
	struct loop_watch watch;
	bool reading;
	struct loop_timer stall_timer; /* a message began, or something waits to be sent */
	bool stall_running;
	struct loop_timer send_timer, grace_timer, resume_timer;
	bool resume_later; /* memory was changed: the timer runs */
	bool frozen;	   /* for a hand-over: see vfu_session_freeze */

	/* the command under way, and those after it */
	struct vfu_msg cur;
	const struct vfu_row *row;
	enum vfu_session_phase phase;
	uint64_t begin_ns;
	bool stepping, reset_wanted;
	int verdict;
	struct err err;
	struct list backlog; /* struct vfu_msg */
	uint32_t backlog_count;
	size_t backlog_bytes;

	/* what the client told in VERSION */
	bool negotiated;
	uint32_t peer_fds_max, peer_xfer_max;

	struct vfu_dev *dev;
	enum vfu_dev_state dev_state;
	struct vfu_space pci;
	struct vfu_dma dma;
	struct vfu_irqs irqs;
	struct vfu_migr migr;
	struct vfu_remote remote;

	bool watching; /* watch was started */
	uint32_t close_waits;
};

const char *vfu_session_state_name(enum vfu_session_state state);

/*
 * Serves the connected socket fd with dev. Both are the session's, also when this fails.
 * Errors: -ENOMEM, -EINVAL (what the device says of itself cannot be).
 */
int vfu_session_new(const struct vfu_session_params *params, int fd, struct vfu_dev *dev,
		    struct vfu_session **ret_session, struct err *reterr);
/* Ends it, once; reason goes to the log. Never releases the session before it returns. */
void vfu_session_close(struct vfu_session *s, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Closes it when a mapping that it uses was lost to truncation. */
void vfu_session_check_lost(struct vfu_session *s);

/* ---- hand-over: session_pack.c; see struct endpoint_ops ---- */

/* True: no command begins, and the device is quiesced; false: goes on. */
void vfu_session_freeze(struct vfu_session *s, bool frozen);
bool vfu_session_is_quiet(const struct vfu_session *s);
int vfu_session_pack(const struct vfu_session *s, struct parcel *p, struct err *reterr);
/*
 * In place of vfu_session_new, frozen. dev is the session's, also when this fails: -EPROTO, -EINVAL
 * (the function is another one now), those of the parts; named. What is left of it then goes
 * by itself, and params->ended does not come.
 */
int vfu_session_unpack(const struct vfu_session_params *params, struct vfu_dev *dev,
		       struct parcel *p, struct vfu_session **ret_session, struct err *reterr);

/* ---- for the files of this room ---- */

/* For session_pack.c. A session without a conversation; dev is its own, also when this fails. */
int vfu_session_make(const struct vfu_session_params *params, struct vfu_dev *dev,
		     struct vfu_session **ret_session, struct err *reterr);
/* It has its socket: NEGOTIATE, or ACTIVE when the version was negotiated. */
void vfu_session_open(struct vfu_session *s);
/* Ends one that has not begun. */
void vfu_session_forget(struct vfu_session *s);
/* Begins to quiesce the device, if it runs. */
void vfu_session_quiesce(struct vfu_session *s);
/* What can be done now is done; waits for the rest. */
void vfu_session_run(struct vfu_session *s);
void vfu_session_flush(struct vfu_session *s);

/* The session of a device: for what a device wants of it (vfu_remote_start). */
static inline struct vfu_session *vfu_session_of(struct vfu_dev *dev)
{
	return dev->front;
}
/* irq.c: the write that was under way when the session began to close has ended. */
void vfu_session_irqs_stopped(struct vfu_session *s);
/* After the command under way has been handled the device is reset, before the answer. */
void vfu_session_reset_wanted(struct vfu_session *s);
/* Sends a message of ours; nothing may be waiting to be sent. See vfu_conn_send. */
void vfu_session_send(struct vfu_session *s, const struct vfu_hdr *hdr, struct vfu_msg *m);
/* dma.c: memory changed, and more changes may follow at once. */
void vfu_session_memory_changed(struct vfu_session *s);
/* remote.c: something can be sent, or answers are due or not due any more. */
void vfu_session_remote_changed(struct vfu_session *s);

#endif
