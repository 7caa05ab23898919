/*
 * What the files of this room share. Nobody outside includes it.
 *
 *   cdb.c cdb.def   opcodes: one row a command          sense.c   causes and unit attentions
 *   task.c          one command from start to end        host.c    targets, nexuses, hot plug
 *   lu.c            units, gates, unit attentions, turns tmf.c     task management
 *   rw.c            READ and WRITE                       sbc.c     the other block commands
 *   sbc.h           the files of the block commands, and what they share
 *   sanitize.c      SANITIZE                             spc.c     INQUIRY and what every unit has
 *   vpd.c           vital product data pages             mode.c    mode pages
 *   logpage.c       LOG SENSE                            opcodes.c REPORT SUPPORTED OPERATION CODES
 * ... alua.c          target port groups                   resv.h    persistent reservations
 *   state.c         what survives a restart              copy.c    EXTENDED COPY
 *   live.c          what another process goes on with    limit.c   limits of a host
 *   token.c         POPULATE TOKEN, WRITE USING TOKEN
 *
 * A handler (cdb_row.run) ends its task exactly once, now or later, with one of the scsi_task_
 * calls below. Handlers run on the loop of the task's queue.
 *
 * The gate of an I_T_L nexus says whether anything out of the ordinary must be looked at before a
 * command of this nexus may run on this unit. It has the bits of cdb_row.flags, so that
 * `row->flags & gate` is the whole test of a READ; GATE_UA stops what has not CDB_NO_UA.
 * It is written under lu->lock, and read without it: a command that started before a change is
 * ordered before it (SAM-6, 4.11).
 */
#ifndef SCSI_SCSI_IMPL_H
#define SCSI_SCSI_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/check.h"
#include "base/list.h"
#include "base/num.h"
#include "blk/limit.h"
#include "loop/job.h"
#include "loop/statefile.h"
#include "scsi/cdb.h"
#include "scsi/scsi.h"
#include "scsi/sense.h"

#define GATE_RESV_READ	((uint32_t)CDB_RESV_READ) /* reservation conflict for these */
#define GATE_RESV_WRITE ((uint32_t)CDB_RESV_WRITE)
#define GATE_LEGACY	((uint32_t)CDB_LEGACY) /* of RESERVE(6) only */
#define GATE_WRITES	((uint32_t)CDB_WRITES) /* write-protected, or tokens to cancel (copy.h) */
#define GATE_MEDIUM	((uint32_t)CDB_MEDIUM) /* not ready: stopped, sanitize */
#define GATE_ALUA	(1u << 30)	       /* not active: stops all but CDB_ALUA_ANY */
#define GATE_UA		(1u << 31)

#define SCSI_LUS_MAX 65536 /* in the process */

/* ---- the unit ---- */

/* mode.c: page contents that can change. Under lu->lock, but for the two atomics. */
struct scsi_mode {
	uint8_t current[256], saved[256]; /* all pages, laid out by mode.c's table */
	atomic_bool d_sense;		  /* control page: descriptor format sense data */
	atomic_bool wce;		  /* caching page: write-back cache enabled */
	atomic_bool swp;		  /* control page: software write protect */
	atomic_bool tas;		  /* control page: TASK ABORTED status */
};

/* resv.c. Under lu->lock. */
struct scsi_resv {
	struct list registrations; /* struct resv_reg of resv.c */
	uint32_t registration_count;
	uint32_t generation;
	uint8_t type;		 /* 0: no persistent reservation */
	bool all_registrants;	 /* type 7 or 8: every registrant holds it */
	struct resv_reg *holder; /* NULL with all_registrants */
	bool aptpl;
	struct scsi_itl *legacy_holder; /* RESERVE(6) and (10) */
};

struct scsi_lu {
	atomic_uint refs;
	uint32_t idx; /* of this unit in the loops' channel tables */
	struct blk_dev *dev;
	const struct blk_caps *caps; /* size_bytes: scsi_lu_blocks */
	struct blk_listener listener;
	void (*closed)(void *arg); /* of the params; NULL until it is made */
	void *closed_arg;
	uint32_t block_bytes, block_shift;
	bool read_only;
	char *name, *serial, *state_path;
	uint64_t wwn;
	char vendor[8], product[16], revision[4]; /* padded with spaces, not terminated */
	uint16_t rotation_rpm;
	bool removable;
	uint32_t phys_bytes; /* at least block_bytes */
	uint8_t pi_type;     /* 0: no protection information */

	pthread_mutex_t lock;
	/* under lock: */
	struct list itls;
	struct scsi_mode mode;
	struct scsi_resv resv;
	bool stopped;	      /* START STOP UNIT */
	bool ejected;	      /* its LOEJ, of a removable medium */
	uint32_t token_count; /* that can still be cancelled: token_table.c */
	uint8_t alua_state;   /* 0 active/optimized, 1 non-optimized, 2 standby, 3 unavailable */
	uint8_t alua_status;  /* 0 none, 1 by SET TARGET PORT GROUPS, 2 implicit */
	struct list turn_waiters;
	struct scsi_task *turn_holder;
	struct statefile state; /* state.c */
	struct list expected;	/* struct live_itl of live.c */
	/* sanitize.c */
	bool sanitize_running, sanitize_failed, sanitize_ause;
	_Atomic uint32_t sanitize_progress; /* of 65536 */
	/* background.c: what outlives its command, and the close that waits for it */
	uint32_t background_count;
	struct loop *close_loop;
	struct loop_msg close_msg;
	void (*close)(struct scsi_lu *lu);
};

/* One I_T_L nexus. */
struct scsi_itl {
	_Atomic uint32_t gate;
	struct scsi_lu *lu; /* a reference */
	struct scsi_nexus *nexus;
	uint32_t target, lun;
	/* under lu->lock: */
	struct list node;     /* lu->itls */
	uint32_t ua_mask;     /* 1 << enum scsi_ua */
	bool prevent_removal; /* PREVENT ALLOW MEDIUM REMOVAL */
	struct resv_reg *reg; /* its registration, NULL: not registered */
};

struct scsi_host {
	atomic_uint refs;
	char *name;
	struct blk_limits *limits; /* constant while there are queues; NULL: none */
	/* Thread: main */
	struct list luns; /* struct host_lun of host.c */
	struct list nexuses;
};

/* What a nexus sees: immutable, replaced as a whole. */
struct scsi_map {
	uint64_t generation; /* unique */
	uint32_t count;
	struct scsi_map_entry {
		uint32_t key; /* scsi_map_key */
		struct scsi_itl *itl;
	} entries[]; /* by key: REPORT LUNS of a target is a run of them */
};

static inline uint32_t scsi_map_key(uint32_t target, uint32_t lun)
{
	return target << 20 | lun;
}

struct scsi_nexus {
	struct list node; /* host->nexuses */
	struct scsi_host *host;
	char *name; /* of the initiator port */
	void (*on_event)(void *arg, const struct scsi_event *event);
	void *arg;
	struct scsi_map *_Atomic map;
	atomic_uint queue_count;
	atomic_size_t buf_bytes; /* scratch of its commands: SCSI_BUF_MAX_BYTES */
};

/* Channels by lu->idx; NULL: not opened. Thread: owner loop. */
struct scsi_chans {
	struct blk_chan **at;
	uint32_t count;
};

/* What this room keeps on one data loop. Thread: owner loop, but for refs and node. */
struct scsi_loop {
	struct scsi_chans chans; /* of what goes on in the background, without a queue */
	struct list queues;
	struct list limited; /* struct scsi_queue with limits */
	struct list tasks;   /* in flight, of all hosts */
	struct list waiters; /* struct sweep_part: what waits for tasks to end */
	uint64_t epoch;	     /* counts sweeps that had to wait */
	struct loop *loop;
	uint32_t refs;	  /* queues and sweep parts; under the registry's lock */
	struct list node; /* in the registry */
};

struct scsi_queue {
	struct scsi_nexus *nexus;
	struct scsi_loop *sl;
	struct scsi_chans chans; /* a queue's own: they count what it does */
	struct blk_tally *tally; /* NULL: none */
	struct list node;	 /* sl->queues */
	bool carries_pi;
	/* the last look-up */
	uint32_t last_key;
	uint64_t last_generation;
	struct scsi_itl *last_itl;
	/* of last_itl's unit; NULL: not asked for yet, or it has protection information */
	struct blk_chan *last_chan;
	/* limit.c */
	bool limited, hurry;
	struct scsi_chans before; /* while limited: those before chans, as they are used */
	struct list limited_node; /* sl->limited */
	struct blk_limit_member member;
};

/* ---- lu.c ---- */

static inline uint64_t scsi_lu_blocks(const struct scsi_lu *lu)
{
	return __atomic_load_n(&lu->caps->size_bytes, __ATOMIC_RELAXED) >> lu->block_shift;
}

/* lu->lock is held (ASSERT where it can be told). One more unit attention for itl; the gate
 * follows.
 */
void scsi_ua_add(struct scsi_itl *itl, enum scsi_ua ua);
/* For all nexuses of the unit but one (NULL: all). Lock held. */
void scsi_ua_add_others(struct scsi_lu *lu, const struct scsi_itl *but, enum scsi_ua ua);
void scsi_ua_clear(struct scsi_itl *itl, enum scsi_ua ua);
/* Takes the first pending one, SCSI_UA_COUNT: none. Lock held. */
enum scsi_ua scsi_ua_take(struct scsi_itl *itl);
/* Sets and clears bits of the gate. Lock held. */
void scsi_gate_set(struct scsi_itl *itl, uint32_t mask, bool on);
/* Tells the other nexuses' transports (CHANGE): lock held. */
void scsi_event_others(struct scsi_lu *lu, const struct scsi_itl *but, enum scsi_ua ua);
/* GATE_MEDIUM, GATE_ALUA and GATE_WRITES of all nexuses, from the fields above. Held. */
void scsi_lu_gates_update(struct scsi_lu *lu);
/* The cause behind GATE_MEDIUM and its sense extra. Lock held. */
enum scsi_cause scsi_lu_not_ready(struct scsi_lu *lu, struct sense_extra *ret_extra);
/*
 * The unit's turn: one command at a time among those that ask for it (COMPARE AND WRITE, ORWRITE,
 * WRITE ATOMIC, and what rewrites the whole unit). turn(task) runs on the task's loop, perhaps
 * before this returns; the end of the task gives it up.
 */
void scsi_turn_take(struct scsi_task *task, void (*turn)(struct scsi_task *task));
/* task.c, when a task ends. */
void scsi_turn_give(struct scsi_task *task);
/* LUs reset (TMF): reservations of RESERVE(6), prevent, unit attentions, mode to saved. Held. */
void scsi_lu_reset(struct scsi_lu *lu, const struct scsi_itl *by);

/* ---- registry.c: loops, and sweeps over them ---- */

/* References to this thread's scsi_loop. NULL: no memory. Thread: owner loop. */
struct scsi_loop *scsi_loop_get(struct loop *loop);
void scsi_loop_put(struct scsi_loop *sl);
/* The unit's channel of the loop itself; NULL: no memory. Thread: owner loop. */
struct blk_chan *scsi_loop_chan(struct scsi_loop *sl, struct scsi_lu *lu);
struct blk_chan *scsi_queue_disk_open(struct scsi_queue *queue, struct scsi_lu *lu);
void scsi_chans_close(struct scsi_chans *chans);

/* The queue's channel of the unit's disk, behind limits; NULL: no memory. */
static inline struct blk_chan *scsi_queue_disk(struct scsi_queue *queue, struct scsi_lu *lu)
{
	if (likely(lu->idx < queue->chans.count && queue->chans.at[lu->idx]))
		return queue->chans.at[lu->idx];
	return scsi_queue_disk_open(queue, lu);
}
/* Where the unit's channel is in c; NULL: no memory. */
struct blk_chan **scsi_chans_at(struct scsi_chans *c, const struct scsi_lu *lu);

/* ---- limit.c (Thread: owner loop) ---- */

/* -ENOMEM */
int scsi_queue_limits_open(struct scsi_queue *q);
void scsi_queue_limits_close(struct scsi_queue *q);
/* Of all queues of sl: lu is about to go from it. */
void scsi_limits_drop(struct scsi_loop *sl, const struct scsi_lu *lu);
struct blk_chan *scsi_queue_chan_limited(struct scsi_queue *q, struct scsi_lu *lu);

/* The unit's channel for commands of this queue; NULL: no memory. */
static inline struct blk_chan *scsi_queue_chan(struct scsi_queue *q, struct scsi_lu *lu)
{
	return unlikely(q->limited) ? scsi_queue_chan_limited(q, lu) : scsi_queue_disk(q, lu);
}

/*
 * A sweep goes once over the tasks that are in flight on all loops, those that match are aborted or
 * found, and done(sweep) comes on the loop that started it when all of them have ended (not with
 * SWEEP_FIND). A criterion that is NULL (tag: not has_tag) matches everything. A sweep that matches
 * nothing is a grace period: every loop has been through its mailbox.
 */
enum sweep_action {
	SWEEP_FIND,
	SWEEP_WAIT,
	SWEEP_ABORT,
	SWEEP_CLOSE_CHAN
};

struct sweep {
	enum sweep_action action;
	const struct scsi_lu *lu;
	const struct scsi_itl *itl;
	const struct scsi_nexus *nexus;
	const struct scsi_task *but;
	uint32_t target; /* with nexus; UINT32_MAX: any */
	bool has_tag;
	uint64_t tag;
	uint16_t row_flags;	 /* any of these flags; 0: whatever they are */
	enum scsi_end abort_end; /* SWEEP_ABORT */
	/* the nexus whose tasks end so; those of others end with TASK ABORTED status where TAS says
	 * so; NULL: all end so */
	const struct scsi_nexus *own;
	void (*done)(struct sweep *sweep);
	/* result */
	_Atomic bool found;
	/* private: */
	atomic_uint pending;
	struct loop *home;
	struct loop_msg msg;
	struct sweep_part *parts;
};

/* false: no memory, done does not come. Thread: a loop. */
bool sweep_start(struct sweep *sweep);
/* Does anything run on data loops? If not, a sweep is not needed. Thread: main. */
bool scsi_loops_any(void);
void sweep_task_ended(struct scsi_task *t); /* of a task that is swept */

/* ---- host.c ---- */

/* The unit behind (target, lun), NULL: there is none. Thread: owner loop. */
struct scsi_itl *scsi_itl_find_slow(struct scsi_queue *queue, uint32_t target, uint32_t lun);

static inline struct scsi_itl *scsi_itl_find(struct scsi_queue *queue, uint32_t target,
					     uint32_t lun)
{
	const struct scsi_map *map = atomic_load_explicit(&queue->nexus->map, memory_order_acquire);

	if (likely(queue->last_key == scsi_map_key(target, lun) &&
		   queue->last_generation == map->generation)) /* no key of an invalid LUN */
		return queue->last_itl;
	return scsi_itl_find_slow(queue, target, lun);
}

bool scsi_target_exists(struct scsi_queue *queue, uint32_t target);
/* The entries of one target, in order of their LUNs; the count. */
uint32_t scsi_map_target(const struct scsi_map *map, uint32_t target,
			 const struct scsi_map_entry **ret_first);

/* ---- task.c: how handlers end a task ---- */

static inline struct scsi_lu *task_lu(const struct scsi_task *t)
{
	return t->itl->lu;
}

void scsi_task_finish_slow(struct scsi_task *t);

/* The end of every task, for task.c and rw.c. Not while starting. */
static inline void scsi_task_finish_usual(struct scsi_task *t)
{
	t->node.prev->next = t->node.next;
	t->node.next->prev = t->node.prev;
	t->done(t);
}

static inline void scsi_task_finish(struct scsi_task *t)
{
	if (likely(!t->unusual))
		scsi_task_finish_usual(t);
	else
		scsi_task_finish_slow(t);
}

void scsi_task_good(struct scsi_task *t);
void scsi_task_end_status(struct scsi_task *t, enum scsi_status status);
void scsi_task_end_as(struct scsi_task *t, enum scsi_end end);
void scsi_task_check(struct scsi_task *t, enum scsi_cause cause);
void scsi_task_check_extra(struct scsi_task *t, enum scsi_cause cause,
			   const struct sense_extra *extra);
void scsi_task_check_info(struct scsi_task *t, enum scsi_cause cause, uint64_t info);
/* INVALID FIELD IN CDB; bit: the most significant wrong one, -1: the whole byte. */
void scsi_task_bad_cdb(struct scsi_task *t, uint32_t byte, int bit);
/* INVALID FIELD IN PARAMETER LIST. */
void scsi_task_bad_list(struct scsi_task *t, uint32_t byte, int bit);
/* The sense of a failed block request on this unit, at block lba. */
void scsi_task_blk_failed(struct scsi_task *t, enum blk_status status, uint64_t lba);
/* GOOD with min(len, alloc_len) bytes of data-in (less when the transport's buffer is smaller). */
void scsi_task_reply(struct scsi_task *t, const void *from, size_t len, size_t alloc_len);
/*
 * Takes len bytes of data-out into t->buf. false: they are not there, and the task ended with
 * OVERRUN; or there is no memory, and it ended with INSUFFICIENT RESOURCES.
 */
bool scsi_task_list(struct scsi_task *t, size_t len);
/* Zeroed scratch in t->buf, freed when the task ends. false: as above. */
bool scsi_task_scratch(struct scsi_task *t, size_t len);
/*
 * Scratch that the commands of one nexus may hold at a time: an initiator with deep queues must not
 * make us grow with them. More ends with TASK SET FULL, and is sent again.
 */
#define SCSI_BUF_MAX_BYTES (64u << 20)
bool scsi_task_buf_fits(const struct scsi_task *t, size_t len);
/* buf (malloc) of len bytes becomes t->buf, in place of an older one that is gone, and is freed
 * when the task ends; NULL allowed. */
void scsi_task_buf_set(struct scsi_task *t, uint8_t *buf, size_t len);

/* lba + blocks inside the unit? Else it ended with LBA OUT OF RANGE (INFORMATION: the first LBA).
 */
bool scsi_task_range(struct scsi_task *t, uint64_t lba, uint64_t blocks);
/*
 * One block request; next(t, status) when it is done, unless the task was aborted meanwhile: then
 * it ends instead. `on` another unit than the task's own: NULL for its own. Bytes, not blocks.
 */
void scsi_task_io(struct scsi_task *t, struct scsi_lu *on, enum blk_op op, uint8_t flags,
		  uint64_t offset_bytes, uint64_t len_bytes, struct iovec *iov, uint32_t iov_count,
		  void (*next)(struct scsi_task *t, enum blk_status status));
/*
 * The same with t->buf as memory, from buf_off.
 */
void scsi_task_io_buf(struct scsi_task *t, struct scsi_lu *on, enum blk_op op, uint8_t flags,
		      uint64_t offset_bytes, size_t buf_off, size_t len_bytes,
		      void (*next)(struct scsi_task *t, enum blk_status status));
/* BLK_FUA where the unit's cache is off or fua is set; the flush that must follow where the
 * back-end has no FUA is the caller's: see scsi_task_durable. */
uint8_t scsi_write_flags(const struct scsi_lu *lu, bool fua);
/*
 * After the last write of a command that must be durable (FUA, or WCE off): a FLUSH where the
 * back-end has no FUA, then GOOD.
 */
void scsi_task_durable(struct scsi_task *t, bool fua);
/* Does this unit have the command? (CDB_MAP, CDB_SANITIZE) */
bool scsi_row_offered(const struct scsi_lu *lu, const struct cdb_row *row);
/* alua.c: why the access state stops it; SCSI_CAUSE_NONE: it does not. Lock held. */
enum scsi_cause scsi_alua_cause(const struct scsi_lu *lu, const struct cdb_row *row);

/* rw.c and rw_pi.c: byte 1 of all forms but the 6-byte ones. */
#define SCSI_RW_FUA	0x08
#define SCSI_RW_PROTECT 0xe0
/* A READ or WRITE of t->blocks at t->lba (checked, not 0) on a unit with protection information. */
void scsi_rw_pi(struct scsi_task *t, enum blk_op op);

/* host.c: the nexus' unit with this NAA designator, NULL. Thread: owner loop. */
struct scsi_itl *scsi_nexus_find_wwn(struct scsi_queue *queue, uint64_t wwn);
/*
 * Aborts every task of itl's unit that is in flight on any loop, or only those of one nexus;
 * done(arg) once, on the calling loop, when all have ended. But the calling task. For PREEMPT AND
 * ABORT and the like. Returns false when there is no memory (done does not come).
 */
bool scsi_abort_tasks(struct scsi_task *by, struct scsi_nexus *nexus_or_null,
		      void (*done)(struct scsi_task *by));

/* ---- mode.c, resv.c, alua.c, state.c: life ---- */

void scsi_mode_init(struct scsi_lu *lu);  /* defaults, from caps */
void scsi_mode_reset(struct scsi_lu *lu); /* current = saved; lock held */
void scsi_resv_init(struct scsi_lu *lu);
void scsi_resv_fini(struct scsi_lu *lu);
/* A nexus came or went: finds its registration by name, sets its gate. Lock held. */
void scsi_resv_attach(struct scsi_itl *itl);
void scsi_resv_detach(struct scsi_itl *itl);
/* For what conflicts, as a write does, in some of its forms only: true, and it ended. */
bool scsi_resv_conflict(struct scsi_task *t);
/* The legacy reservation ends with a reset or the nexus. Lock held. */
void scsi_resv_legacy_release(struct scsi_lu *lu, const struct scsi_itl *holder_or_null);
/* Reads lu->state_path (may be missing): registrations with APTPL, saved pages. Thread: main. */
int scsi_state_load(struct scsi_lu *lu, struct err *reterr);
/*
 * Writes it anew, durably, off the loop; then done(t, ok) on the task's loop. The content is
 * taken under lu->lock before this returns. ok false: nothing was changed on disk.
 */
void scsi_state_save(struct scsi_task *t, void (*done)(struct scsi_task *t, bool ok));
/* resv.c and mode.c write and read their part as lines of text: see state.c. */
/*
 * live.c: a new I_T_L nexus, in lu->itls, goes on with what another process knew of it. false: it
 * is a new one. Lock held.
 */
bool scsi_live_itl_take(struct scsi_itl *itl);
/* Those that never came. */
void scsi_live_fini(struct scsi_lu *lu);

/* ---- vpd.c: designators, also for copy.c ---- */

/* NAA designator of the unit in 8 bytes, big-endian. */
void scsi_lu_naa(const struct scsi_lu *lu, uint8_t ret_naa[8]);
/* Identification page designators of a nexus' unit (VPD 83h body); returns the length. */
size_t scsi_designators(const struct scsi_itl *itl, uint8_t *buf, size_t size);
/* Our TransportID (iSCSI initiator port, format 0) for a name; returns its length, <= 232. */
size_t scsi_transport_id(const char *initiator_name, uint8_t *buf);

#endif
