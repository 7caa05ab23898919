/*
 * What the files of this room share. Nobody outside includes it.
 *
 *   ctrl.c      the controller's life: enable, disable, shutdown, quiesce, reset
 *   regs.c      registers, as a table                  doorbell.c shadow doorbells
 *   queue.c     one loop's queues: fetch, post, poll   qlife.c    from when main makes them to free
 *   qadmin.c    create and delete queues, Abort        save.c     state as bytes, for migration
 *   load.c      and back                               live.c     namespaces, to another process
 *   irq.c       vectors, coalescing, the pin           sweep.c    over all queues of a subsystem
 *   cmd.c       one command from start to end          cmd.def    opcodes: one row a command
 *   dptr.c      PRP and SGL to pieces of memory        remote.c   memory by messages
 *   dptr_walk.c PRP and SGL as they are written        uncor.c    blocks marked uncorrectable
 *   ring_remote.c  queues by messages
 *   rw.c        Read, Write, Flush                     fused.c    Compare, Compare and Write
 *   io.c        Write Zeroes, Dataset Management, Verify, Write Uncorrectable
 *   copy.c      Copy                                   scratch.c  memory for some of these
 *   subsys.c    subsystems, controllers of it          ns.c       namespaces, hot plug
 *   identify.c  feature.c  logpage.c  aen.c  ana.c     what the admin queue asks
 *   resv.c      reservations: state, gates, events     resv_cmd.c  resv_report.c
 *   format.c    sanitize.c  nsmgmt.c                   erase.c    what format and sanitize do
 *   state.c     what survives a restart                steer.c    drain and move, by management
 *
 * Threads. Main owns controllers, subsystems, namespaces, features, logs, reservations and the
 * admin queue. A completion queue with its submission queues (struct nvme_cq) belongs to one loop,
 * and so do the commands of these. A command that needs what main owns is passed there and back
 * (nvme_cmd_to_main, nvme_cmd_end from anywhere). What data loops read of main's is atomic or
 * constant.
 *
 * A handler (nvme_row.run) ends its command exactly once, now or later, with nvme_cmd_end. It runs
 * on the loop of the command's queue; admin commands run on main.
 *
 * The gate of an attachment (a namespace at a controller) says whether anything out of the ordinary
 * must be looked at before a command may run: it has the bits of nvme_row.flags, so that
 * `row->flags & gate` is the whole test. Main writes it.
 */
#ifndef NVME_NVME_IMPL_H
#define NVME_NVME_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/check.h"
#include "base/iov.h"
#include "base/list.h"
#include "base/log.h"
#include "base/num.h"
#include "blk/blk.h"
#include "blk/limit.h"
#include "loop/loop.h"
#include "loop/notify.h"
#include "loop/statefile.h"
#include "nvme/ctrl.h"
#include "nvme/spec.h"
#include "nvme/subsys.h"

#define NVME_IOV_OWN	  4
#define NVME_MDTS	  9 /* 2 MiB in pages of 4 KiB */
#define NVME_VHOST_MDTS	  5
#define NVME_TRANSFER_MAX (NVME_PAGE_BYTES << NVME_MDTS)
#define NVME_IOV_MAX	  1024
#define NVME_ABORT_MAX	  4 /* ACL 3 */

/* nvme_row.flags; the first few are also bits of the gate */
#define CMD_RESV_READ	(1u << 0) /* conflicts where reading does */
#define CMD_RESV_WRITE	(1u << 1) /* conflicts where writing does */
#define CMD_MEDIUM	(1u << 2) /* not while formatted or sanitized; gate: so it is */
#define CMD_WRITES	(1u << 3) /* gate: write-protected, or blocks marked uncorrectable */
#define CMD_NS		(1u << 4) /* NSID names an attached namespace */
#define CMD_NS_ALL	(1u << 5) /* or is NVME_NSID_ALL */
#define CMD_FUSE_FIRST	(1u << 6)
#define CMD_FUSE_SECOND (1u << 7)
#define GATE_ANA	(1u << 30) /* not accessible by this controller: stops all I/O commands */
#define GATE_UNCOR	(1u << 31) /* some block is marked uncorrectable: reads look */

/* Commands supported and effects (base 5.14.1.5) */
#define EFFECT_CSUPP  (1u << 0)
#define EFFECT_LBCC   (1u << 1)
#define EFFECT_NCC    (1u << 2)
#define EFFECT_NIC    (1u << 3)
#define EFFECT_CCC    (1u << 4)
#define EFFECT_CSE(x) ((uint32_t)(x) << 16)

struct nvme_cmd;
struct nvme_cq;
struct nvme_sq;

struct nvme_row {
	uint8_t opcode;
	bool admin;
	const char *name;
	void (*run)(struct nvme_cmd *c);
	uint32_t flags, effects;
};

extern const struct nvme_row nvme_rows[];
extern const uint32_t nvme_row_count;
/* Does this controller offer the command? Log page 05h and dispatch ask. Thread: any. */
bool nvme_row_offered(const struct nvme_ctrl *ctrl, const struct nvme_row *row);

#define ADMIN(op, run, flags, effects) void run(struct nvme_cmd *c);
#define IO(op, run, flags, effects)    void run(struct nvme_cmd *c);
#include "nvme/cmd.def"
#undef ADMIN
#undef IO

/* ---- one command ---- */

enum nvme_dir {
	NVME_DIR_NONE,
	NVME_TO_GUEST,
	NVME_FROM_GUEST
};

/* nvme_cmd.abort. Thread: home. */
#define NVME_ABORT_ASKED 1
#define NVME_ABORT_DROP	 2 /* ends without a completion */

/* nvme_cmd.extra. Thread: who has the command. */
#define NVME_CMD_ON_MAIN (1u << 0) /* passed to main, from another loop */
#define NVME_CMD_PARKED                                                                            \
	(1u << 1)		 /* holds nothing of the guest's memory, nor an entry of its cq    \
				  */
#define NVME_CMD_FRONT (1u << 2) /* nvme_ctrl_admin */
#define NVME_CMD_STUCK (1u << 3) /* has ended, and waits for an entry of its cq; home's */

struct nvme_cmd {
	struct nvme_sqe sqe; /* a private copy */
	const struct nvme_row *row;
	struct nvme_sq *sq;
	struct nvme_nsq *nsq; /* NULL: no namespace, or all (admin commands look up their own) */
	uint32_t nsid;
	uint16_t cid;
	uint16_t status; /* enum nvme_status, valid at the end */
	bool busy;	 /* from fetch to completion */
	uint64_t fetched_ns;
	uint32_t dw0, dw1;    /* of the completion; 0 at the start */
	struct nvme_mem *mem; /* of its queue; constant */

	/*
	 * Eight bytes, all zero at the end of an ordinary command. While main has the command its
	 * home may ask for its abort, or sweep: what is written then, and what the other side looks
	 * at, is atomic.
	 */
	union {
		struct {
			uint8_t abort;	   /* NVME_ABORT_; asked: ends as abort_status */
			uint8_t swept;	   /* a sweep waits for its end */
			uint8_t exclusive; /* half of a fused pair under way: nvme_fused_end */
			uint8_t has_buf;   /* buf is to be freed */
			uint16_t abort_status;
			uint8_t data_bits; /* NVME_DATA_: nvme_data_end has something to do */
			uint8_t extra;	   /* NVME_CMD_ */
		};
		uint64_t unusual;
	};

	/* data: valid in `next` of nvme_data */
	struct iov_cur data;
	struct iovec *iov; /* own, or of the pool */
	uint32_t iov_count;
	enum nvme_dir dir;
	uint64_t data_bytes;

	struct blk_req blk;
	void (*next)(struct nvme_cmd *c);
	void (*blk_next)(struct nvme_cmd *c, enum blk_status status);
	uint64_t epoch; /* of its cq when it started: see sweep.c */
	struct nvme_cmd *free_next;
	struct loop_work work;
	struct loop_msg msg;
	void (*pass)(struct nvme_cmd *c); /* msg: what runs there */
	/*
	 * The other half, or NULL. Both were checked (queue, gate); run of the first is called,
	 * which sees to the end of both.
	 */
	struct nvme_cmd *fused;
	struct list wait_node;
	uint8_t *buf; /* scratch of a multi-step command */
	size_t buf_bytes;
	struct nvme_remote *remote; /* remote.c */
	uint64_t vars[8];	    /* a multi-step command's own */
	struct iovec own[NVME_IOV_OWN];
};

/* ---- cmd.c ---- */

/*
 * Ends it; DNR is added as the status table says. Thread: the queue's loop, or main for a command
 * that was passed there.
 */
void nvme_cmd_end(struct nvme_cmd *c, enum nvme_status status);
/* Runs fn on main, later; the command goes on there. */
void nvme_cmd_to_main(struct nvme_cmd *c, void (*fn)(struct nvme_cmd *c));
/* Back on the queue's loop. */
void nvme_cmd_to_home(struct nvme_cmd *c, void (*fn)(struct nvme_cmd *c));
/* The status that the end of a block request of a command means for it. */
enum nvme_status nvme_blk_status(const struct blk_req *req, enum blk_status status);
/* Zeroed scratch memory, freed at the end; false: it has ended (INTERNAL_ERROR). */
bool nvme_cmd_scratch(struct nvme_cmd *c, size_t len);
/* Frees it early; there may be none. */
void nvme_cmd_scratch_free(struct nvme_cmd *c);
bool nvme_status_dnr(enum nvme_status status);
/* Why a command does not run, though its namespace (c->nsq) is there; SUCCESS: it does. */
enum nvme_status nvme_gate_status(const struct nvme_cmd *c, uint32_t gate);
/* The controller whose queue it is from. */
struct nvme_ctrl *nvme_cmd_ctrl(const struct nvme_cmd *c);
uint16_t nvme_cmd_sqid(const struct nvme_cmd *c);
const char *nvme_status_text(enum nvme_status status);

/*
 * The data of the command: len_bytes by its data pointer. next(c) comes, maybe before this returns,
 * with c->data set; or the command has ended. Data to the guest reaches it before the completion
 * does. Once for each command; for data to the guest, its pieces are not cut. Thread: the command's
 * (main for one passed there, which then ends on main).
 */
void nvme_data(struct nvme_cmd *c, uint64_t len_bytes, enum nvme_dir dir,
	       void (*next)(struct nvme_cmd *c));
/*
 * Scratch memory of a command on a data loop, not zeroed: c->buf of len_bytes, until the end.
 * next(c) comes, maybe before this returns; or the command has ended. It takes its data first.
 */
void nvme_scratch(struct nvme_cmd *c, size_t len_bytes, void (*next)(struct nvme_cmd *c));
/* nvme_cmd_blk, a READ or WRITE with len_bytes of it from buf_off on. */
void nvme_scratch_blk(struct nvme_cmd *c, enum blk_op op, uint8_t flags, uint64_t offset_bytes,
		      size_t buf_off, size_t len_bytes,
		      void (*blk_next)(struct nvme_cmd *c, enum blk_status status));
/* For dptr.c: its end, and one that waits goes on if there is room (false: none does). */
void nvme_scratch_end(struct nvme_cmd *c);
bool nvme_scratch_wake(struct nvme_mem *m);

/*
 * Ends an admin command with what it answers: the first alloc_bytes of from, the rest of these
 * zero. from is copied before this returns.
 */
void nvme_cmd_reply(struct nvme_cmd *c, const void *from, size_t len, size_t alloc_bytes);

/* One block request on the command's namespace; blk_next comes once, later, on the command's loop.
 */
void nvme_cmd_blk(struct nvme_cmd *c, enum blk_op op, uint8_t flags, uint64_t offset_bytes,
		  uint64_t len_bytes, struct iovec *iov, uint32_t iov_count,
		  void (*blk_next)(struct nvme_cmd *c, enum blk_status status));

/*
 * Of a fused pair one half ends; nvme_cmd_end calls it when c->exclusive, success: with status 0.
 * With the first half it runs the second, or ends it when the first has failed; with the second it
 * gives back the pair's turn on its namespace (fused.c).
 */
void nvme_fused_end(struct nvme_cmd *c, bool success);

static inline uint32_t nvme_cdw10(const struct nvme_cmd *c)
{
	return le32_get(c->sqe.cdw10);
}

static inline uint32_t nvme_cdw11(const struct nvme_cmd *c)
{
	return le32_get(c->sqe.cdw11);
}

/* ---- among queue.c and cmd.c ---- */

/* The ways of commands that are not ordinary. */
void nvme_cmd_start_slow(struct nvme_cmd *c);
void nvme_cmd_start_gated(struct nvme_cmd *c, uint32_t gate);
void nvme_cmd_start_fused(struct nvme_cmd *first, struct nvme_cmd *second);
void nvme_cmd_end_slow(struct nvme_cmd *c);
/*
 * It holds nothing of the guest's memory from here to its end, and may take long: neither a quiesce
 * nor the other commands of the queue wait for it. Thread: home.
 */
void nvme_cmd_park(struct nvme_cmd *c);

/* ---- queues: queue.c ---- */

/* A namespace as one completion queue's loop has it. */
struct nvme_nsq {
	struct nvme_att *att;
	struct nvme_ns *ns;
	struct blk_way way;
	const struct blk_caps *caps;
	uint32_t block_shift;
};

/* ---- the controller ---- */

#define NVME_STATES(X)                                                                             \
	X(DISABLED)                                                                                \
	X(ENABLING)                                                                                \
	X(READY)                                                                                   \
	X(RESETTING)                                                                               \
	X(SHUTTING_DOWN)                                                                           \
	X(SHUTDOWN)                                                                                \
	X(FATAL)

enum nvme_state {
#define X(n) NVME_##n,
	NVME_STATES(X)
#undef X
	NVME_STATE_COUNT
};

#include "nvme/aen.h"
#include "nvme/dptr.h"
#include "nvme/feature.h"
#include "nvme/format.h"
#include "nvme/logpage.h"
#include "nvme/nsmgmt.h"
#include "nvme/protect.h"
#include "nvme/queue.h"
#include "nvme/resv.h"
#include "nvme/sanitize.h"
#include "nvme/state.h"
#include "nvme/uncor.h"

/* Interrupts of a controller: irq.c. Thread: main; masked: any. */
struct nvme_irqs {
	struct nvme_bell *vector[NVME_VECTORS_MAX], *pin;
	bool msix;
	atomic_bool masked; /* the pin, by INTMS */
	atomic_bool by_pin;
};

/* The admin queue of a front that has it itself: one command, in a queue of its own. */
struct nvme_front {
	struct nvme_cq *cq;
	struct nvme_sq *sq;
	void (*done)(void *port, const struct nvme_cqe *cqe);
};

struct nvme_ctrl {
	struct nvme_ctrl_params params;
	struct nvme_subsys *subsys;
	struct list node; /* subsys->ctrls */
	uint16_t cntlid;
	enum nvme_state state;
	uint32_t cc, csts, aqa, intm;
	uint64_t asq, acq;

	struct gmem *readable, *writable;
	struct gdirty *dirty;
	struct nvme_mem mem; /* for what runs on main */

	struct nvme_queues queues; /* queue.h */
	struct nvme_irqs irqs;
	const struct nvme_row *io_rows[256], *admin_rows[256]; /* those offered, by opcode */
	atomic_size_t scratch_bytes;			       /* nvme_cmd_scratch */
	struct nvme_front front;			       /* nvme_ctrl_admin */
	uint32_t flushes;				       /* of a shutdown, under way */
	bool nssro;
	bool quiet; /* from nvme_ctrl_quiesce to nvme_ctrl_resume */
	/* what a front waits for */
	void (*quiet_fn)(void *port), (*stopped_fn)(void *port), (*freed_fn)(void *port);
	struct loop_work free_work;
	struct log_limit log_limit;
	struct nvme_features features;
	struct nvme_aen aen;
	struct nvme_logs logs;
	struct nvme_resv_log resv_log;
	atomic_bool write_through; /* feature 06h: the write cache is off */
	enum nvme_ana ana; /* main writes it with __atomic_store_n; loops ask nvme_ana_status */

	/* atts, which loops look up once for each namespace; logs.errors */
	pthread_mutex_t lock;
	struct nvme_att **atts; /* [NVME_NSID_MAX + 1] by nsid, NULL: not attached */
};

/* A namespace at a controller. Made and freed on main; loops hold it by their struct nvme_nsq. */
struct nvme_att {
	_Atomic uint32_t gate;
	struct nvme_ns *ns;
	struct nvme_ctrl *ctrl;
	struct list node;   /* ns->atts */
	uint32_t resv_mask; /* feature 82h: events of reservations that are not wanted */
	uint16_t tler;	    /* feature 05h: kept for the guest */
};

struct nvme_ns {
	struct list node; /* subsys->namespaces, by nsid */
	struct nvme_subsys *subsys;
	uint32_t nsid;
	struct blk_dev *dev;
	const struct blk_caps *caps;
	struct blk_listener listener;
	uint32_t block_bytes, block_shift;
	uint8_t uuid[16], nguid[16], eui64[8];
	bool read_only;
	uint8_t write_protect; /* feature 84h: enum nvme_write_protect */
	bool managed;	       /* created by Namespace Management */
	bool exclusive;	       /* of one controller at a time: NMIC bit 0 is clear */
	uint64_t detached; /* bit CNTLID - 1: the guest wants it so, of controllers to come too */
	atomic_bool not_ready; /* Format NVM runs */
	char *state_path;
	struct statefile state; /* state.c */
	struct list atts;
	struct nvme_resv resv;
	struct nvme_formatting formatting; /* format.c */
	struct nvme_uncor uncor;	   /* has a lock of its own: loops look */
	/* turns of compare and write (io.c): */
	pthread_mutex_t lock;
	struct list turn_waiters;
	struct nvme_cmd *turn_holder;
	/*
	 * What works on it beyond its queues' commands: Format NVM, Sanitize, saves. The end of a
	 * removal waits until nobody does (nvme_ns_unpin calls unpinned); what is long looks at
	 * removing.
	 */
	uint32_t pins;
	bool removing;
	void (*unpinned)(struct nvme_ns *ns);
	struct ns_closing *closing; /* ns.c: the removal that waits */
};

/* Thread: main. */
static inline void nvme_ns_pin(struct nvme_ns *ns)
{
	ns->pins++;
}

/* Calls unpinned, once, when it was set and this was the last pin. */
static inline void nvme_ns_unpin(struct nvme_ns *ns)
{
	void (*unpinned)(struct nvme_ns * ns) = ns->unpinned;

	ASSERT(ns->pins);
	if (--ns->pins || !unpinned)
		return;
	ns->unpinned = NULL;
	unpinned(ns);
}

struct nvme_subsys {
	uint32_t refs;
	char *name, *nqn, *state_path;
	char serial[NVME_SERIAL_MAX], model[NVME_MODEL_MAX]; /* padded with spaces */
	struct list namespaces, ctrls;
	uint64_t cntlids;	/* in use: bit CNTLID - 1 */
	uint64_t opened_ns;	/* loop_clock_ns: power on hours */
	struct statefile state; /* state.c */
	struct nvme_sanitize sanitize;
	struct nvme_pool pool; /* nsmgmt.c */
};

static inline uint64_t nvme_ns_blocks(const struct nvme_ns *ns)
{
	return __atomic_load_n(&ns->caps->size_bytes, __ATOMIC_RELAXED) >> ns->block_shift;
}

static inline bool nvme_ns_write_protected(const struct nvme_ns *ns)
{
	return ns->read_only || __atomic_load_n(&ns->write_protect, __ATOMIC_RELAXED);
}

/* ---- subsys.c, ns.c, identify.c, ana.c (Thread: main) ---- */

/*
 * Gives a controller its identifier, a place in the subsystem (a reference is taken) and its
 * attachments: subsys, cntlid, node, lock, ana and atts of it are filled. params come first.
 * -ENOMEM, -ENOSPC: NVME_CTRLS_MAX are there.
 */
int nvme_subsys_join(struct nvme_subsys *subsys, struct nvme_ctrl *ctrl, struct err *reterr);
/*
 * Of one that never had a queue: takes this identifier, and the attachments that go with it, unless
 * another controller has it. -ENOMEM: nothing was changed.
 */
int nvme_subsys_rejoin(struct nvme_ctrl *ctrl, uint16_t cntlid, struct err *reterr);
/* The end of it, when no queue is left. Idempotent; does nothing to one that has not joined. */
void nvme_subsys_leave(struct nvme_ctrl *ctrl);

/* NULL: no such namespace in the subsystem. */
struct nvme_ns *nvme_ns_find(const struct nvme_subsys *subsys, uint32_t nsid);
/* NULL: not attached. */
struct nvme_att *nvme_att_find(const struct nvme_ctrl *ctrl, uint32_t nsid);
/* nvme_ns_add, but not shown to the controllers whose bit CNTLID - 1 is in detached. */
int nvme_ns_new(struct nvme_subsys *subsys, const struct nvme_ns_params *params, uint64_t detached,
		struct nvme_ns **ret_ns, struct err *reterr);
/* Not yet shown; NULL: no memory. For subsys.c. */
struct nvme_att *nvme_att_new(struct nvme_ns *ns, struct nvme_ctrl *ctrl);
/* -EEXIST: attached already; -ENOMEM. The guest gets the event. */
int nvme_ns_attach(struct nvme_ns *ns, struct nvme_ctrl *ctrl);
/* done(arg) when no queue uses it any more. -ENOENT: not attached; -ENOMEM. */
int nvme_ns_detach(struct nvme_ns *ns, struct nvme_ctrl *ctrl, void (*done)(void *arg), void *arg);
/* What Identify says of it has changed: controllers that have it get the event. */
void nvme_ns_changed(struct nvme_ns *ns);
/* Makes the gates of the namespace's attachments anew: reservations, ANA, format, sanitize. */
void nvme_gates_update(struct nvme_ns *ns);
/* FR: what Identify and the firmware slots say, padded. */
void nvme_firmware_revision(char fr[8]);
/* Why GATE_ANA is closed; SUCCESS: it is not. Thread: any. */
enum nvme_status nvme_ana_status(const struct nvme_ctrl *ctrl);

/* ---- ctrl.c, irq.c, for features (Thread: main) ---- */

/* It cannot go on: CSTS.CFS; why is for the log. */
void nvme_ctrl_fatal(struct nvme_ctrl *ctrl, const char *why);
/* features.value[8] or coalescing_disable changed. */
void nvme_irq_coalescing_changed(struct nvme_ctrl *ctrl);

void nvme_ctrl_rows_init(struct nvme_ctrl *ctrl);
/* A command of nvme_ctrl_admin ended. */
void nvme_ctrl_on_admin_done(struct nvme_ctrl *ctrl, const struct nvme_cqe *cqe);
/* No queue is left. */
void nvme_ctrl_on_drained(struct nvme_ctrl *ctrl);
/* CC.EN: 0 to 1 and 1 to 0; CC.SHN. */
void nvme_ctrl_enable(struct nvme_ctrl *ctrl);
void nvme_ctrl_disable(struct nvme_ctrl *ctrl);
void nvme_ctrl_shutdown(struct nvme_ctrl *ctrl);
uint64_t nvme_ctrl_cap(const struct nvme_ctrl *ctrl);
void nvme_ctrl_flush(struct nvme_ctrl *ctrl);
bool nvme_ctrl_is_running(const struct nvme_ctrl *ctrl);
/* Memory or doorbells changed, while all queues are quiet. */
void nvme_ctrl_bind(struct nvme_ctrl *ctrl);
/* A reset of the subsystem: CSTS.NSSRO of all its controllers. */
void nvme_subsys_reset(struct nvme_subsys *subsys);
const char *nvme_state_name(enum nvme_state state);

/* ---- sweep.c: over the commands of all queues (Thread: main) ---- */

enum nvme_sweep_action {
	NVME_SWEEP_WAIT,  /* for the end of those that match */
	NVME_SWEEP_ABORT, /* and they end as abort_status */
	NVME_SWEEP_DROP,  /* wait, then close the channels of ns at ctrl (which nobody finds any
			     more) */
};

struct nvme_sweep {
	/* filled by the caller; what is NULL or 0 matches all */
	enum nvme_sweep_action action;
	struct nvme_subsys *subsys; /* needed */
	struct nvme_ctrl *ctrl;
	struct nvme_ns *ns;
	uint32_t row_flags;
	bool has_id;
	uint16_t sqid, cid;   /* with has_id */
	struct nvme_cmd *but; /* not this one */
	enum nvme_status abort_status;
	void (*done)(struct nvme_sweep *s); /* Thread: main, later */
	/* result */
	atomic_uint found;
	/* private: */
	atomic_uint pending;
	struct loop_msg msg;
	struct nvme_sweep_part *parts;
	uint32_t part_count;
	struct loop *main_loop;
};

/* -ENOMEM: nothing comes. */
int nvme_sweep_start(struct nvme_sweep *s);

#endif
