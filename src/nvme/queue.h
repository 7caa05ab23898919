/*
 * The queues of a controller.
 *
 * A completion queue with its submission queues is one source of one loop. Main makes and frees
 * them and says what they are to do, by messages:
 *
 *           nvme_cq_start            nvme_cq_stop
 *     NEW ----------------> RUNNING ---------------> STOPPING ----------> gone (nvme_cq_stopped)
 *                            |   ^                      drained
 *         nvme_cq_quiesce    v   | nvme_cq_resume
 *                           QUIET (told when nothing of the guest's memory is in use)
 *
 * Management's hand (steer.c) is independent of these: a queue that it drained fetches nothing,
 * with all else as it was, and can go to another loop. While it is on its way main keeps what it
 * has to tell it (nvme_cq_post).
 *
 * Invariants
 *  1. The completion queue is never overrun: a command is fetched with a credit, which is a free
 *     entry of the completion queue. What is parked (see nvme_cmd_park) gave its credit back.
 *  2. Every command that was fetched is released exactly once; each release puts the queue on the
 *     publish FIFO, and there, not at the release, is looked at what waits for it to be drained.
 *  3. Between the post of a message that stops a queue and its answer main posts it nothing more.
 *     So all earlier messages ran when the answer comes. Sweeps are the exception: they keep the
 *     queue (refs) until they end.
 *  4. What is under "main" is written by main only while the queue is NEW or QUIET, or is atomic.
 */
#ifndef NVME_QUEUE_H
#define NVME_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/mpsc.h"
#include "loop/loop.h"
#include "loop/notify.h"
#include "loop/queue_stats.h"
#include "nvme/ctrl.h"
#include "nvme/dptr.h"
#include "nvme/spec.h"

/* Commands fetched in one poll: see VRING_POLL_BUDGET in vhost/vring_loop.c. */
#define NVME_POLL_BUDGET QUEUE_BATCH_MAX
/* Commands of one submission queue that are under way at the same time. */
#define NVME_SLOTS_MAX 1024

/* Completions that are written to the ring together. */
#define NVME_CQES_HELD 32

struct nvme_cmd;
struct nvme_cq;
struct nvme_ctrl;
struct nvme_nsq;
struct nvme_ring_remote;
struct nvme_row;

/*
 * nvme_cq.gate: why nothing is fetched, or something is to be done first. Thread: owner loop; main
 * while the queue is NEW or QUIET, when its loop may still look.
 */
#define CQ_QUIET    (1u << 0)
#define CQ_STOPPING (1u << 1)
#define CQ_NO_RING  (1u << 2) /* its memory was taken away */
#define CQ_STUCK    (1u << 3) /* completions of parked commands wait for an entry */
#define CQ_REMOTE   (1u << 4) /* a ring of it is moved by messages: ring_remote.c */
#define CQ_DRAINED  (1u << 5) /* by management: nothing is fetched */
/* Nothing of the guest's memory is looked at, or nothing is fetched from it. */
#define CQ_STILL (CQ_QUIET | CQ_STOPPING | CQ_NO_RING)
#define CQ_HOLD	 (CQ_STILL | CQ_DRAINED)

struct nvme_sq {
	const struct nvme_sqe *ring;
	const uint32_t *tail_word; /* little-endian; &frozen: nothing is fetched */
	uint32_t *event_word;	   /* EventIdx, NULL: none */
	uint32_t head, tail, size;
	uint16_t qid;
	bool deleting;
	atomic_bool lie_posted;
	uint32_t lie;	       /* the last tail out of range, 0: none */
	struct nvme_cmd *free; /* LIFO */
	uint32_t slots_used;   /* those behind were never touched */
	uint32_t slot_count;
	uint32_t outstanding, parked;
	uint32_t frozen;
	struct nvme_cmd *slots;
	size_t slots_bytes;
	struct nvme_ring_remote *remote; /* NULL: none yet */
	struct nvme_cq *cq;
	struct list node; /* cq->sqs */
	struct loop_msg msg, done_msg, lie_msg;

	/* main */
	uint64_t base;
	bool adding, leaving; /* a message is under way */
	struct nvme_cmd *by;  /* the command that creates or deletes it */
};

/*
 *          drain                  all have ended
 *   RUNS ---------> DRAINING -------------------------> DRAINED <---------+
 *    ^                 | called off                     |     |           |
 *    |                 v                                |     |           |
 *    +------------ RELEASING <--------------------------+     +------> LEAVING
 *        answered                    resume                move   its loop let go of it
 */
enum nvme_steer_state {
	NVME_STEER_RUNS,
	NVME_STEER_DRAINING,
	NVME_STEER_DRAINED,
	NVME_STEER_RELEASING,
	NVME_STEER_LEAVING,
};

struct nvme_steer {
	/* main */
	enum nvme_steer_state state;
	struct loop *to;  /* it is to go there; NULL: it stays */
	struct mpsc kept; /* LEAVING: struct loop_msg, for when it has arrived */
	/* owner loop */
	bool drain_wanted, leave_wanted;
	/* msg: drain, leave or arrive; one at a time */
	struct loop_msg msg, done_msg, release_msg, release_done_msg;
};

struct nvme_cq {
	struct loop_source source; /* first */
	struct nvme_cqe *ring;
	uint32_t tail, size, phase;
	uint32_t credits;
	_Atomic uint32_t gate;
	uint32_t unpublished; /* not 0: on the publish FIFO */
	uint32_t held;	      /* entries not yet in the ring, though behind tail */
	struct list sqs;
	const struct nvme_row *const *rows; /* by opcode */
	struct nvme_nsq **nsqs;		    /* [NVME_NSID_MAX + 1] by nsid, NULL: not opened */
	uint64_t epoch;
	struct loop *loop;
	struct nvme_ctrl *ctrl;
	struct loop_work publish;
	const uint32_t *head_word;
	uint32_t *event_word;
	uint32_t head; /* as last seen in head_word */
	uint16_t qid, vector;
	bool ien;
	bool starved;	   /* the slots of a queue were all in use: look again after an end */
	bool settle;	   /* something waits for the end of commands */
	bool quiet_wanted; /* of these */
	bool settle_queued, source_stopped, bell_stopped;
	atomic_bool lie_posted;
	uint32_t lie;	   /* the last head out of range, 0: none */
	struct list stuck; /* struct nvme_cmd.wait_node */
	struct list parts; /* struct nvme_sweep_part.node */
	struct nvme_mem mem;
	struct nvme_ring_remote *remote; /* NULL: none yet */
	struct nvme_irq {
		struct notify bell;
		struct nvme_bell *ref;	     /* whose descriptor the bell has */
		struct nvme_bell *next;	     /* main's, while swapping */
		_Atomic uint32_t coalescing; /* threshold, time << 8; 0: none */
		uint32_t held;		     /* completions that no interrupt told of */
		struct loop_timer timer;
		struct loop_msg msg, done_msg, again_msg;
		atomic_bool again_posted;
		struct nvme_bell *want; /* main */
		bool swapping;		/* main */
		bool moving;		/* owner loop: between two descriptors */
		bool untold; /* it comes from elsewhere: nobody may have heard of the last ones */
		void (*idle)(struct nvme_cq *cq);
	} irq;
	struct loop_msg msg, done_msg, stop_msg, stop_done_msg, quiet_msg, quiet_done_msg,
		resume_msg, wake_msg;
	struct loop_msg lie_msg, bind_msg, bind_done_msg;
	struct loop_work settle_work;
	atomic_bool wake_posted;
	struct nvme_steer steer;
	struct queue_counts counts;
	struct blk_tally *tally; /* what its namespaces were asked to do */

	/* main */
	uint64_t base;
	uint32_t refs; /* sweeps that know it */
	bool starting, stopping;
	bool has_loop; /* counted by placement */
	struct nvme_cmd *by;
	bool dead; /* stopped, and out of queues.cq */

	struct nvme_cqe hold[NVME_CQES_HELD]; /* owner loop */
};

/* Shadow doorbells (base 5.7). */
struct nvme_dbbuf {
	bool on;
	uint64_t shadow_base, event_base;
	uint32_t *shadow, *event; /* NULL: not mapped now */
};

/* Thread: main. */
struct nvme_queues {
	struct nvme_cq *cq[NVME_QPAIRS_MAX + 1];
	struct nvme_sq *sq[NVME_QPAIRS_MAX + 1];
	struct loop *place[NVME_QPAIRS_MAX + 1]; /* where management wants cq[], NULL: anywhere */
	bool drained;				 /* by management, those to come too */
	uint32_t cq_count;			 /* in cq[] */
	uint32_t stopping;			 /* of these */
	uint32_t quiet_left;			 /* answers that a quiesce waits for */
	uint32_t *doorbells;			 /* the page: the port's, or own_doorbells */
	uint32_t *own_doorbells;
	bool doorbells_live; /* the page is one that the guest has been writing to */
	struct nvme_dbbuf dbbuf;
	uint32_t aborts; /* Abort commands under way */
	struct {
		struct nvme_cmd *by;
		void (*then)(struct nvme_cmd *c);
		uint32_t left;
	} rebind;
};

/* ---- queue.c: Thread: main, but where it says otherwise ---- */

/* NULL: no memory. loop is main's for qid 0. */
struct nvme_cq *nvme_cq_new(struct nvme_ctrl *ctrl, uint16_t qid, uint32_t size, uint64_t base,
			    struct loop *loop);
/* Of one that was never started, or is gone. */
void nvme_cq_free(struct nvme_cq *cq);
/* A sweep lets go of it; it is freed when it was stopped meanwhile. */
void nvme_cq_unref(struct nvme_cq *cq);
struct nvme_sq *nvme_sq_new(struct nvme_cq *cq, uint16_t qid, uint32_t size, uint64_t base);
void nvme_sq_free(struct nvme_sq *sq);

/* The end comes in nvme_cq_on_started. */
void nvme_cq_start(struct nvme_cq *cq);
/* In-flight commands are waited for, and end without a completion. */
void nvme_cq_stop(struct nvme_cq *cq);
void nvme_cq_quiesce(struct nvme_cq *cq);
void nvme_cq_resume(struct nvme_cq *cq);
/* The end comes in nvme_sq_on_added, nvme_sq_on_deleted. */
void nvme_sq_add(struct nvme_sq *sq);
void nvme_sq_delete(struct nvme_sq *sq);
/* Looks up its rings and doorbells; for queues that are NEW or QUIET. */
void nvme_cq_bind(struct nvme_cq *cq);
void nvme_sq_bind(struct nvme_sq *sq);
/* Is all that a queue needs in memory that is there? */
bool nvme_cq_is_bound(const struct nvme_cq *cq);
bool nvme_sq_is_bound(const struct nvme_sq *sq);
/* The same on running queues, each on its loop; then(c) comes later. */
void nvme_cqs_rebind(struct nvme_ctrl *ctrl, struct nvme_cmd *c, void (*then)(struct nvme_cmd *c));
/* Its doorbells changed, or were rung. */
void nvme_cq_wake(struct nvme_cq *cq);
/* Runs msg on its loop, behind what was posted before; when it has arrived if it is moving. */
void nvme_cq_post(struct nvme_cq *cq, struct loop_msg *msg);

/* ---- steer.c ---- */

void nvme_steer_init(struct nvme_cq *cq);
/* Before its loop knows it: drained if the controller is. Thread: main. */
void nvme_steer_start(struct nvme_cq *cq);
/* Some loop of those for I/O queue qid, counted by placement. Thread: main. */
struct loop *nvme_steer_place(const struct nvme_ctrl *ctrl, uint16_t qid);
/* Part of nvme_cq_settle, with drained: no command is under way. true: the queue leaves. Thread:
 * owner loop. */
bool nvme_steer_settle(struct nvme_cq *cq, bool drained);

/* What is known of it now; conn is left. */
void nvme_cq_stats(const struct nvme_cq *cq, struct queue_stats *ret_stats);

void nvme_cq_loop_init(struct nvme_cq *cq);
/*
 * Ends what waits for the end of commands, when it can; with nothing on the publish FIFO. true: the
 * queue ends or has ended, and must not be touched. Thread: owner loop.
 */
bool nvme_cq_settle(struct nvme_cq *cq);
/* Settles when it has stopped. Thread: owner loop. */
void nvme_cq_source_stop(struct nvme_cq *cq);
/* What a poll does. Thread: owner loop. */
uint32_t nvme_cq_poll(struct nvme_cq *cq);
/* The namespace as this queue has it, opened if need be; NULL: not attached, or no memory. Thread:
 * owner loop. */
struct nvme_nsq *nvme_nsq_get(struct nvme_cq *cq, uint32_t nsid);
void nvme_nsq_close(struct nvme_nsq *nsq);
/* After a change of the gate: while nothing is fetched, nothing waits for limits. Thread: owner
 * loop. */
void nvme_cq_limits_gate(struct nvme_cq *cq);
/* All of them; each is opened again by the next command that needs it. Thread: owner loop. */
void nvme_nsqs_close(struct nvme_cq *cq);
/* Has the guest not taken all that was posted? Thread: owner loop. */
bool nvme_cq_is_unread(struct nvme_cq *cq);
/* Posts or drops the completion, and releases the command. Thread: owner loop. */
void nvme_cmd_complete(struct nvme_cmd *c);
/* A request for an event that waits, in a queue that is NEW; or that waits for an entry. */
struct nvme_cmd *nvme_cmd_restore(struct nvme_sq *sq, uint16_t cid);
void nvme_cmd_restore_done(struct nvme_cmd *c, uint16_t status);
/* Cancels all that is under way, which ends without a completion. Thread: owner loop. */
void nvme_sq_drop(struct nvme_sq *sq);

/* ---- ctrl.c, qadmin.c: what queues tell. Thread: main ---- */

void nvme_cq_on_started(struct nvme_cq *cq);
void nvme_cq_on_stopped(struct nvme_cq *cq);
void nvme_cq_on_quiet(struct nvme_cq *cq);
void nvme_sq_on_added(struct nvme_sq *sq);
void nvme_sq_on_deleted(struct nvme_sq *sq);
/* The queue of cq->by is gone. */
void nvme_cq_delete_done(struct nvme_cmd *by);

/* ---- doorbell.c ---- */

/* Where the tail of a submission queue, or the head of a completion queue, is looked for. */
const uint32_t *nvme_doorbell_word(const struct nvme_ctrl *ctrl, uint16_t qid, bool is_cq);
uint32_t *nvme_doorbell_event_word(const struct nvme_ctrl *ctrl, uint16_t qid, bool is_cq);
/* The words of a queue that is made are zero. */
void nvme_doorbell_zero(struct nvme_ctrl *ctrl, uint16_t qid, bool is_cq);
/* Register access in the page. */
void nvme_doorbell_write(struct nvme_ctrl *ctrl, uint32_t word_idx, uint32_t value);
/* The memory of shadow doorbells is looked up again: only when quiet. */
void nvme_dbbuf_bind(struct nvme_ctrl *ctrl);
void nvme_dbbuf_drop(struct nvme_ctrl *ctrl);
/* All doorbells are 0: at the enable, and when a page is given. */
void nvme_doorbells_clear(struct nvme_ctrl *ctrl);
/* The page: the port's, or else our own. -ENOMEM. */
int nvme_doorbells_init(struct nvme_ctrl *ctrl);
/* A value out of range: an event, once for each such value. Thread: owner loop. */
void nvme_sq_lie(struct nvme_sq *sq, uint32_t tail);
void nvme_cq_lie(struct nvme_cq *cq, uint32_t head);
void nvme_sq_lie_init(struct nvme_sq *sq);
void nvme_cq_lie_init(struct nvme_cq *cq);

/* ---- irq.c ---- */

/* A descriptor that several queues write to. */
struct nvme_bell;

void nvme_irq_init(struct nvme_cq *cq);
/* Vector and ien are set: what it starts with. Thread: main. */
void nvme_irq_setup(struct nvme_cq *cq);
/* Thread: owner loop. */
void nvme_irq_start(struct nvme_cq *cq);
void nvme_irq_posted(struct nvme_cq *cq, uint32_t count);
/* The queue goes on. */
void nvme_irq_resumed(struct nvme_cq *cq);
/* idle comes when nothing is written any more. */
void nvme_irq_stop(struct nvme_cq *cq, void (*idle)(struct nvme_cq *cq));
/* The same; what is held back is told, and nvme_irq_start may follow on another loop. */
void nvme_irq_leave(struct nvme_cq *cq, void (*idle)(struct nvme_cq *cq));
/* Thread: main. */
void nvme_irq_fini(struct nvme_cq *cq);
/* The descriptor that it should write to may be another one now. */
void nvme_irq_update(struct nvme_cq *cq);
/* INTMS, INTMC. */
void nvme_irq_mask(struct nvme_ctrl *ctrl, uint32_t set, uint32_t clear);
void nvme_irq_ctrl_init(struct nvme_ctrl *ctrl);
void nvme_irq_ctrl_fini(struct nvme_ctrl *ctrl);

/* ---- sweep.c: Thread: owner loop ---- */

void nvme_sweep_cmd_ended(struct nvme_cmd *c);

#endif
