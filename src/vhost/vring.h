/*
 * One ring of a session. What the front-end told us are facts; whether the ring should run is
 * derived from them after every message, and the difference is a command to the ring's data loop.
 *
 *            vring_start              vring_drain
 *   STOPPED ------------> RUNNING ----------------> DRAINING ---> STOPPED
 *                            |                        ^      drained (vring_on_done)
 *                            +------> BROKEN ---------+
 *             a lie of the driver,        vring_drain
 *             or a start that failed
 *
 * Invariants
 * 1. At most one command is under way per ring (cmd != VRING_CMD_NONE); the session handles no
 *    message meanwhile (it is PARKED), so facts do not change under a command.
 * 2. Between a START and the answer to a DRAIN the fields below "loop side" belong to the data
 *    loop; main touches nothing of them.
 * 3. DRAIN is answered when the source is stopped, every chain was pushed and published, the
 *    model's queue is stopped, the virtq is gone and the kernel holds no write on the call
 *    descriptor: then descriptors may be closed and memory unmapped.
 * 4. A broken ring tells main once per start, and before the answer to the DRAIN that follows.
 * 5. Facts hold the ring's position again after a DRAIN (base), so a later START goes on there.
 */
#ifndef VHOST_VRING_H
#define VHOST_VRING_H

#include "loop/loop.h"
#include "vhost/msg.h"
#include "loop/notify.h"
#include "virtio/vdev.h"
#include "virtq/virtq.h"

#define VRING_STATES(X)                                                                            \
	X(STOPPED)                                                                                 \
	X(RUNNING)                                                                                 \
	X(DRAINING)                                                                                \
	X(BROKEN)

enum vring_state {
#define X(n) VRING_##n,
	VRING_STATES(X)
#undef X
	VRING_STATE_COUNT
};

enum vring_cmd {
	VRING_CMD_NONE,
	VRING_CMD_START,
	VRING_CMD_DRAIN,
	VRING_CMD_CALL,
	VRING_CMD_MAP
};

struct vring;

/* What all rings of a session share. */
struct vring_owner {
	struct loop *main_loop;
	struct vdev *vdev;
	uint32_t spin_ns;
	/* A command ended: v->result, v->err. Thread: main. */
	void (*on_done)(struct vring *v);
	/* The ring broke while running; v->cause. Thread: main. */
	void (*on_broken)(struct vring *v, enum virtq_cause cause);
};

struct vring {
	const struct vring_owner *owner;
	uint32_t idx;

	/* facts (main) */
	bool have_addr, have_kick, enabled;
	bool failed;  /* broke or could not start; until the front-end sets it up anew */
	bool hold;    /* a message needs it to stand still */
	bool drained; /* ran and was drained, with all that it had popped or found on record */
	uint32_t num; /* 0: not told */
	uint32_t base;
	struct msg_addr addr;
	int kick_fd, call_fd, err_fd; /* owned; -1: none */
	int err_next_fd;	      /* takes err_fd's place when the bell is idle */

	enum vring_state state;
	struct notify err_bell; /* on main */

	/* the command under way */
	enum vring_cmd cmd;
	struct loop *loop;
	struct virtq_setup setup;
	struct gmem *cmd_map; /* MAP: the new one; in the answer, the old one */
	int cmd_fd;	      /* CALL: the new descriptor */
	int result;
	bool on_record; /* answer to DRAIN: chains of a predecessor were left in the in-flight area
			 */
	struct err err;
	struct loop_msg cmd_msg, done_msg, broken_msg;
	enum virtq_cause cause;

	/* loop side */
	struct loop_source source;
	struct loop_work publish, finish;
	struct notify call_bell;
	struct virtq *vq;
	void *queue;
	bool draining, source_stopped, finish_queued, broken_told;
	bool lazy_waits; /* a lazy queue's model waits for chains */
};

const char *vring_state_name(enum vring_state state);

/* Everything below: Thread main. */

void vring_init(struct vring *v, const struct vring_owner *owner, uint32_t idx);
/* STOPPED, no command, err bell idle (ASSERT). Closes its descriptors. */
void vring_fini(struct vring *v);
/* Do the facts say that the ring runs? */
bool vring_should_run(const struct vring *v);
/* Forgets that the ring was started (GET_VRING_BASE, reset): kick descriptor closed. */
void vring_forget_kick(struct vring *v);
/* Replaces an owned descriptor fact. */
void vring_fd_set(int *slot, int fd);

/* STOPPED to RUNNING. setup is copied; its pointers live until the ring is STOPPED again. */
void vring_start(struct vring *v, struct loop *loop, const struct virtq_setup *setup);
/* A start that could not even be tried. STOPPED stays; failed is set. */
void vring_start_failed(struct vring *v);
/* RUNNING or BROKEN to DRAINING. */
void vring_drain(struct vring *v);
/* A new call descriptor (-1: none), taken over. A command only when the ring runs. */
void vring_call_set(struct vring *v, int fd);
/*
 * A new map for a running ring; the caller keeps its reference until the answer, in which the
 * ring's reference on the old map comes back (cmd_map, may be NULL).
 */
void vring_map_set(struct vring *v, struct gmem *map);

/* vring_loop.c: runs v->cmd on its data loop and posts done_msg. Thread: owner loop. */
void vring_loop_init(struct vring *v);
void vring_loop_run(struct loop_msg *msg);
/* Looks at a running ring soon, kicked or not. Thread: owner loop. */
void vring_loop_wake(struct vring *v);

#endif
