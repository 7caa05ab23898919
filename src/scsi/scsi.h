/*
 * A SCSI device server that knows no transport: logical units on block nodes (SPC-5, SBC-4, SAM-6).
 *
 *   scsi_lu      a logical unit: a block node with its identity and all its state that initiators
 *                share (mode pages, reservations, ALUA). May be attached to several hosts.
 *   scsi_host    the targets and LUNs that one device shows: (target, LUN) -> scsi_lu
 *   scsi_nexus   one initiator port's relation with all targets of a host (the I_T nexus). One a
 *                connection. For each logical unit it has an I_T_L nexus: unit attentions and gate.
 *   scsi_queue   one transport queue on one data loop
 *   scsi_task    one command, embedded in the transport's request
 *
 * A transport decodes its frame into a task and calls scsi_task_start; the task completes exactly
 * once through task->done, on the queue's loop, never before scsi_task_start returned.
 *
 * Threads: hosts, units and nexuses are made and released on main. Commands run on their queue's
 * loop. What initiators share is under the unit's mutex, held for a few microseconds and never
 * across I/O; a READ or WRITE takes no lock: everything that could stop it is summed up in one
 * atomic word of its I_T_L nexus (the gate).
 */
#ifndef SCSI_SCSI_H
#define SCSI_SCSI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/iov.h"
#include "base/list.h"
#include "blk/blk.h"

#define SCSI_CDB_MAX	 32
#define SCSI_SENSE_MAX	 96
#define SCSI_TARGETS_MAX 256
#define SCSI_LUNS_MAX	 16384 /* of one target: what flat addressing can name (SAM-6, 4.7.7.3) */
#define SCSI_NAME_MAX	 223   /* iSCSI name, the form of our TransportIDs (SPC-5, 7.6.4.6) */

struct blk_limits;
struct scsi_lu;
struct scsi_host;
struct scsi_nexus;
struct scsi_queue;
struct scsi_itl;
struct blk_tally;
struct cdb_row;
struct loop;

/* ---- logical units (Thread: main) ---- */

struct scsi_lu_params {
	const char *name;     /* for messages */
	struct blk_dev *dev;  /* a reference is taken */
	const char *serial;   /* unit serial number; NULL: name. At most 64 printable characters */
	uint64_t wwn;	      /* NAA designator; 0: locally assigned (3h), from the serial number */
	const char *vendor;   /* at most 8; NULL: "vhostd" */
	const char *product;  /* at most 16; NULL: "disk" */
	const char *revision; /* at most 4; NULL: from the version */
	bool read_only;
	bool removable;		/* the medium can be ejected (START STOP UNIT) and loaded again */
	uint32_t phys_bytes;	/* physical block told, power of two; 0: the back-end's */
	uint16_t rotation_rpm;	/* 0: not reported, 1: non-rotating (default of the callers) */
	const char *state_path; /* file for APTPL and saved mode pages; NULL: none is offered */
	/*
	 * Optional: the unit is gone and has given its node back, which may take a while after the
	 * last reference went. Thread: main.
	 */
	void (*closed)(void *arg);
	void *arg;
};

/* Errors: -EINVAL with the parameter named; -ENOMEM; what reading state_path gives. */
int scsi_lu_new(const struct scsi_lu_params *params, struct scsi_lu **ret_lu, struct err *reterr);
struct scsi_lu *scsi_lu_ref(struct scsi_lu *lu);
void scsi_lu_unref(struct scsi_lu *lu); /* NULL allowed */

/*
 * A hand-over: what initiators can notice of the unit, whether it is to survive a restart or not,
 * as text that another process gives its own unit (live.c). Only with no command under way.
 *
 * pack: malloc'ed, the caller's. -EBUSY, named: something goes on beyond its command (SANITIZE);
 * -ENOMEM. unpack: into a unit that no nexus has seen, before any nexus of the other process is
 * opened anew: each of these then goes on with its own. Text that is no such one is -EINVAL,
 * -EFBIG, named, and leaves the unit half changed. Unit attentions and results of commands go with
 * the nexus of the same host and initiator name.
 */
/* Of these errors those that will not pass soon. */
int scsi_lu_hand_check(struct scsi_lu *lu, struct err *reterr);
bool scsi_lu_is_quiet(struct scsi_lu *lu); /* false: what goes on will end soon */
int scsi_lu_pack(struct scsi_lu *lu, char **ret_text, size_t *ret_bytes, struct err *reterr);
int scsi_lu_unpack(struct scsi_lu *lu, const char *text, size_t len_bytes, struct err *reterr);
/* How far a SANITIZE is, of 65536; false: none runs. */
bool scsi_lu_sanitize_progress(struct scsi_lu *lu, uint32_t *ret_progress);

/* ---- hosts (Thread: main) ---- */

int scsi_host_new(const char *name, struct scsi_host **ret_host, struct err *reterr);
/* Limits for all that its initiators ask (a reference is taken); before the first nexus. */
void scsi_host_limits_set(struct scsi_host *host, struct blk_limits *limits);
struct scsi_host *scsi_host_ref(struct scsi_host *host);
void scsi_host_unref(struct scsi_host *host);
/*
 * Shows lu at (target, lun), also while nexuses are open: they get an event and a unit attention.
 * Errors: -EEXIST, -ERANGE, -ENOMEM. A reference is taken.
 */
int scsi_host_attach(struct scsi_host *host, uint32_t target, uint32_t lun, struct scsi_lu *lu,
		     struct err *reterr);
/*
 * Takes it away: new commands find no logical unit; those under way end first; then detached(arg)
 * comes once, from main's loop (or before this returns when no nexus is open). -ENOENT.
 */
int scsi_host_detach(struct scsi_host *host, uint32_t target, uint32_t lun,
		     void (*detached)(void *arg), void *arg, struct err *reterr);
uint32_t scsi_host_target_max(const struct scsi_host *host);
uint32_t scsi_host_lun_max(const struct scsi_host *host);
/* Does a unit of it store protection information? */
bool scsi_host_has_pi(const struct scsi_host *host);

/* ---- nexus ---- */

#define SCSI_EVENTS(X)                                                                             \
	X(LUN_ADDED)	 /* (target, lun) can be scanned */                                        \
	X(LUN_REMOVED)	 /* (target, lun) is gone */                                               \
	X(PARAM_CHANGED) /* asc and ascq say what: capacity, mode parameters */

enum scsi_event_type {
#define X(n) SCSI_EVENT_##n,
	SCSI_EVENTS(X)
#undef X
};

struct scsi_event {
	enum scsi_event_type type;
	uint32_t target, lun;
	uint8_t asc, ascq;
};

/*
 * initiator_name: names the initiator port; reservations and registrations belong to it and
 * outlive the nexus. Two open nexuses of one host must differ (-EEXIST).
 * on_event: Thread: any, with locks held: it may only post. Thread: main.
 */
int scsi_nexus_open(struct scsi_host *host, const char *initiator_name,
		    void (*on_event)(void *arg, const struct scsi_event *event), void *arg,
		    struct scsi_nexus **ret_nexus, struct err *reterr);
/* All its queues are closed (ASSERT). Thread: main. */
void scsi_nexus_close(struct scsi_nexus *nexus);

/* Thread: owner loop. Errors: -ENOMEM. */
int scsi_queue_open(struct scsi_nexus *nexus, struct loop *loop, struct scsi_queue **ret_queue,
		    struct err *reterr);
/* What its tasks have their units' disks do counts for tally, too. Before the first task. */
void scsi_queue_tally(struct scsi_queue *queue, struct blk_tally *tally);
/* Its tasks' pi_out and pi_in are valid from here on. */
void scsi_queue_carries_pi(struct scsi_queue *queue);
/* It is to be closed: nothing waits for limits any more. */
void scsi_queue_hurry(struct scsi_queue *queue);
/* All its tasks are done (ASSERT). */
void scsi_queue_close(struct scsi_queue *queue);

/* ---- tasks (Thread: owner loop) ---- */

/* How a task ended; only COMPLETE has a status. */
#define SCSI_ENDS(X)                                                                               \
	X(COMPLETE)                                                                                \
	X(OVERRUN)    /* the data-out that the CDB tells is not there */                           \
	X(BAD_TARGET) /* no such target */                                                         \
	X(ABORTED)    /* by a task management function or PREEMPT AND ABORT */                     \
	X(RESET)      /* by a reset of the logical unit or the nexus */

enum scsi_end {
#define X(n) SCSI_END_##n,
	SCSI_ENDS(X)
#undef X
	SCSI_END_COUNT
};

/* SAM-6, 5.3.1 */
enum scsi_status {
	SCSI_GOOD = 0x00,
	SCSI_CHECK_CONDITION = 0x02,
	SCSI_CONDITION_MET = 0x04,
	SCSI_BUSY = 0x08,
	SCSI_RESERVATION_CONFLICT = 0x18,
	SCSI_TASK_SET_FULL = 0x28,
	SCSI_TASK_ABORTED = 0x40,
};

struct scsi_task {
	/* filled by the transport */
	uint32_t target;
	uint32_t lun; /* SCSI_LUN_NONE: none that can be named; SCSI_LUN_WELL_KNOWN + n */
	uint64_t tag;
	uint8_t cdb[SCSI_CDB_MAX]; /* a private copy */
	struct iov_cur *out, *in;  /* data only; consumed */
	void (*done)(struct scsi_task *task);

	/* Eight bytes that are all zero at the end of an ordinary command: unusual tests them. */
	union {
		struct {
			/* result, valid in done */
			uint8_t end;	   /* enum scsi_end */
			uint8_t status;	   /* enum scsi_status */
			uint8_t sense_len; /* 0: none */
			/* private: */
			bool starting;
			bool exclusive : 1;    /* holds, or waits for, the unit's turn */
			bool abort_status : 1; /* TAS: ends with TASK ABORTED instead */
			bool has_buf : 1;
			bool swept : 1;	   /* a sweep waits for its end */
			uint8_t abort_end; /* enum scsi_end it will end with, 0: not aborted */
		};
		uint64_t unusual;
	};
	uint64_t in_bytes;  /* result: written to `in`, from its start */
	uint64_t out_bytes; /* result: taken from `out` */

	/* private: see scsi_impl.h. First what a READ needs, on few cache lines. */
	const struct cdb_row *row;
	struct scsi_queue *queue;
	struct scsi_itl *itl;
	struct list node; /* in flight on its loop */
	uint64_t epoch;	  /* of its loop when it started: see registry.c */
	uint64_t lba;
	struct blk_req blk;

	uint8_t sense[SCSI_SENSE_MAX]; /* result */
	/* filled by the transport with scsi_queue_carries_pi: beside the data; NULL: none */
	struct iov_cur *pi_out, *pi_in;
	struct loop_work work; /* what completes at once */
	struct loop_msg msg;   /* its turn came, from another loop */
	struct list wait_node; /* waits for its turn */
	void (*next)(struct scsi_task *task, enum blk_status status);
	void (*turn)(struct scsi_task *task);
	uint8_t *buf; /* scratch, freed at the end */
	uint32_t buf_bytes;
	uint64_t blocks, done_blocks;
	uint64_t vars[8]; /* a multi-step command's own */
	struct iovec iov;
};

#define SCSI_LUN_NONE	    UINT32_MAX
#define SCSI_LUN_WELL_KNOWN 0x10000u /* + the number, e.g. 1: REPORT LUNS */

/*
 * The LUN in the first two bytes: peripheral (bus 0), flat, or well known; the other bytes must be
 * zero (SAM-6, 4.7). SCSI_LUN_NONE for anything else.
 */
uint32_t scsi_lun_decode(const uint8_t lun[8]);
/* Peripheral addressing below 256, else flat. */
void scsi_lun_encode(uint32_t lun, uint8_t ret_lun[8]);

void scsi_task_start(struct scsi_queue *queue, struct scsi_task *task);

/* ---- task management (SAM-6, 7) ---- */

#define SCSI_TMFS(X)                                                                               \
	X(ABORT_TASK)                                                                              \
	X(ABORT_TASK_SET)                                                                          \
	X(CLEAR_ACA)                                                                               \
	X(CLEAR_TASK_SET)                                                                          \
	X(I_T_NEXUS_RESET)                                                                         \
	X(LOGICAL_UNIT_RESET)                                                                      \
	X(QUERY_TASK)                                                                              \
	X(QUERY_TASK_SET)                                                                          \
	X(QUERY_ASYNC_EVENT)

enum scsi_tmf_fn {
#define X(n) SCSI_TMF_##n,
	SCSI_TMFS(X)
#undef X
	SCSI_TMF_COUNT
};

/* SAM-6, 7.1: service responses */
enum scsi_tmf_result {
	SCSI_TMF_COMPLETE,
	SCSI_TMF_SUCCEEDED, /* QUERY: yes */
	SCSI_TMF_REJECTED,
	SCSI_TMF_BAD_TARGET,
	SCSI_TMF_BAD_LUN,
};

struct scsi_tmf {
	enum scsi_tmf_fn fn;
	uint32_t target, lun;
	uint64_t tag; /* ABORT_TASK, QUERY_TASK */
	void (*done)(struct scsi_tmf *tmf);
	enum scsi_tmf_result result;
	uint32_t async_event; /* QUERY_ASYNC_EVENT: additional response information */
	/* private: */
	struct scsi_queue *queue;
	struct scsi_itl *itl;
	struct loop_work work;
	void *sweep;
};

/* Aborted tasks have ended, and were reported, when done comes. Once, on queue's loop, later. */
void scsi_tmf_start(struct scsi_queue *queue, struct scsi_tmf *tmf);

#endif
