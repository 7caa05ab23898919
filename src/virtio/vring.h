/*
 * One ring on its data loop: what every front needs between "this ring should run now" and chains
 * in the device model. A front decides on main; what it wants done is a command to the ring's
 * loop, and an answer back.
 *
 *            vring_start              vring_drain
 *   STOPPED ------------> RUNNING ----------------> DRAINING ---> STOPPED
 *                            |                        ^      drained (vring_on_done)
 *                            +------> BROKEN ---------+
 *             a lie of the driver,        vring_drain
 *             or a start that failed
 *
 * Invariants
 * 1. At most one command is under way per ring (cmd != VRING_CMD_NONE); the front changes
 *    nothing of the ring meanwhile.
 * 2. Between a START and the answer to a DRAIN the fields below "loop side" belong to the data
 *    loop; main touches nothing of them.
 * 3. DRAIN is answered when the source is stopped, every chain was pushed and published, the
 *    model's queue is stopped, the virtq is gone and the kernel holds no write on the call
 *    descriptor: then descriptors may be closed and memory unmapped. No wake is on its way to the
 * loop any more.
 * 4. A broken ring tells main once per start, and before the answer to the DRAIN that follows.
 * 5. A notification that coalescing holds back is sent at its time, or before the ring stops.
 * 6. base is the ring's position again after a DRAIN, so that a later START can go on there.
 */
#ifndef VIRTIO_VRING_H
#define VIRTIO_VRING_H

#include "loop/loop.h"
#include "loop/notify.h"
#include "loop/queue_stats.h"
#include "virtio/coalescing.h"
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

/* What all rings of one device share. */
struct vring_owner {
	struct loop *main_loop;
	struct vdev *vdev;
	uint32_t spin_ns;
	uint64_t coalescing; /* private: vring_owner_coalesce */
	/* A command ended: v->result, v->err. Thread: main. */
	void (*on_done)(struct vring *v);
	/* The ring broke while running; v->cause. Thread: main. */
	void (*on_broken)(struct vring *v, enum virtq_cause cause);
};

struct vring {
	const struct vring_owner *owner;
	uint32_t idx;

	/* main's */
	bool failed;  /* broke or could not start; until the front says that it is set up anew */
	bool drained; /* ran and was drained, with all that it had popped or found on record */
	uint32_t base;
	/* The front's to set while STOPPED; descriptors are owned. */
	int kick_fd; /* eventfd, or one of LOOP_KICK_ */
	int call_fd; /* -1: the ring interrupts nobody */
	/*
	 * Set to 1 before the bell is rung: the interrupt status that a transport shows the driver.
	 * NULL: there is none. Atomic, and the front's.
	 */
	uint32_t *isr;

	enum vring_state state;

	/* the command under way */
	enum vring_cmd cmd;
	struct loop *loop;
	struct virtq_setup setup;
	struct gmem *cmd_map; /* MAP: the new one; in the answer, the old one */
	int cmd_fd;	      /* CALL: the new descriptor */
	uint32_t *cmd_isr;    /* CALL: the new isr */
	int result;
	bool on_record; /* answer to DRAIN: chains of a predecessor were left in the in-flight area
			 */
	struct err err;
	struct loop_msg cmd_msg, done_msg, broken_msg, wake_msg, coalesce_msg;
	/* atomic: from main's post until the loop looks */
	bool wake_posted, coalesce_posted;
	enum virtq_cause cause;

	/* loop side */
	struct loop_source source;
	struct loop_work publish, finish;
	struct notify call_bell;
	struct virtq *vq;
	void *queue;
	bool draining, source_stopped, finish_queued, broken_told;
	bool lazy_waits; /* a lazy queue's model waits for chains */
	struct vring_hold {
		bool on;
		struct vring_coalescing c;
		uint64_t delay_ns;	/* between two notifications, at the last rate */
		uint64_t next_ns;	/* none before */
		uint64_t window_ns;	/* when the rate was last looked at */
		uint64_t window_chains; /* published until then */
		bool owed;		/* one is held back */
		uint64_t merged;	/* wanted, and not sent by themselves */
		struct loop_timer timer;
	} hold;
	struct queue_counts counts;
};

const char *vring_state_name(enum vring_state state);

/* Everything below: Thread main. */

void vring_init(struct vring *v, const struct vring_owner *owner, uint32_t idx);
/* STOPPED, no command (ASSERT). Closes its descriptors. */
void vring_fini(struct vring *v);
/* Replaces an owned descriptor. */
void vring_fd_set(int *slot, int fd);

/* Where the driver placed the three parts of a ring (virtio 1.3, 2.6; packed: 2.8). */
struct vring_place {
	uint64_t desc, driver, device;
	bool user_addresses; /* the front-end's (uva), otherwise the guest's (gpa) */
};

/*
 * Fills the addresses of setup, whose features, size and map are given. Errors: -EFAULT, named: a
 * part is not in guest memory for its whole length, or not aligned (2.7, 2.8.10.1).
 */
int vring_place_setup(const struct vring_place *place, struct virtq_setup *setup,
		      struct err *reterr);

/* STOPPED to RUNNING. setup is copied; its pointers live until the ring is STOPPED again. */
void vring_start(struct vring *v, struct loop *loop, const struct virtq_setup *setup);
/* A start that could not even be tried. STOPPED stays; failed is set. */
void vring_start_failed(struct vring *v);
/* RUNNING or BROKEN to DRAINING. */
void vring_drain(struct vring *v);
/*
 * A new call descriptor (-1: none), taken over, and what goes with it. A command only when the
 * ring runs.
 */
void vring_call_set(struct vring *v, int fd, uint32_t *isr);
/* In place of a kick (LOOP_KICK_WAKE): the driver notified the ring. Does nothing if it is not
 * RUNNING: a start looks anyway. */
void vring_wake(struct vring *v);
/*
 * A new map for a running ring; the caller keeps its reference until the answer, in which the
 * ring's reference on the old map comes back (cmd_map, may be NULL).
 */
void vring_map_set(struct vring *v, struct gmem *map);

/* For its rings that start from now on. */
void vring_owner_coalesce(struct vring_owner *owner, const struct vring_coalescing *c);
/* The owner's is another one now: also for this ring, if it runs. */
void vring_coalesce(struct vring *v);

/* What is known of the ring now; conn is left. */
void vring_stats(const struct vring *v, struct queue_stats *ret_stats);

/* vring_loop.c: runs v->cmd on its data loop and posts done_msg. Thread: owner loop. */
void vring_loop_init(struct vring *v);
void vring_loop_run(struct loop_msg *msg);
/* The messages of vring_wake and vring_coalesce. Thread: owner loop. */
void vring_loop_on_wake(struct loop_msg *msg);
void vring_loop_on_coalesce(struct loop_msg *msg);
/* Looks at a running ring soon, kicked or not. Thread: owner loop. */
void vring_loop_wake(struct vring *v);

#endif
