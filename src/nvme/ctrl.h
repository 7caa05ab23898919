/*
 * The NVMe controller as a front sees it (vfio-user, vhost-user-nvme). Port 4 of the house plan.
 *
 * A controller is memory-based and knows no transport. A front makes one for each connection, on a
 * subsystem; gives it the guest's memory, the page of doorbells and the descriptors that interrupts
 * are written to; and passes register accesses, or single admin commands, to it. What the
 * controller needs of the front is struct nvme_port_ops.
 *
 *              CC.EN 1             queues up          CC.SHN
 *   DISABLED ----------> ENABLING ----------> READY ----------> SHUTTING_DOWN ---> SHUTDOWN
 *      ^                    |                   |                     drained         |
 *      |                    v                   v                                     |
 *      |                  FATAL (CSTS.CFS: cannot go on)                              |
 *      +------ drained ------- RESETTING <--- CC.EN 0, reset, from all states --------+
 *
 * Invariants
 *  1. All calls are main's; none waits. What takes time is told by a callback.
 *  2. After a reset, a quiesce or a removal has been answered nothing writes to guest memory.
 *  3. Queues are kept by their guest addresses. With the memory taken away (an unmap while they
 *     exist) they are suspended, and go on when it is back.
 *  4. A guest's lie costs a command (a status), a queue (an event), or the controller (FATAL).
 */
#ifndef NVME_CTRL_H
#define NVME_CTRL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "guest/gdirty.h"
#include "guest/gmem.h"
#include "loop/loop.h"
#include "nvme/spec.h"

#define NVME_QPAIRS_MAX	     256   /* I/O queue pairs; identifiers 1 to 256 */
#define NVME_QUEUE_SIZE_MAX  32768 /* entries */
#define NVME_VECTORS_MAX     128
#define NVME_PCI_VENDOR	     0x1af4
#define NVME_BAR0_BYTES	     0x4000
#define NVME_DOORBELLS_BYTES 0x1000 /* one page at NVME_REG_DOORBELLS: 512 pairs of words */

struct blk_limits;
struct nvme_ctrl;
struct nvme_subsys;

/*
 * A transfer to or from guest memory that has no mapping here, by messages. buf and the struct are
 * the caller's until done, which comes once, on loop.
 */
struct nvme_dma {
	uint64_t iova;
	void *buf;
	uint64_t len_bytes;
	bool to_guest;
	struct loop *loop;
	void (*done)(struct nvme_dma *dma, int rc); /* 0, -EFAULT: not the guest's memory, -EIO */
	/* private: the port's */
	void *owner;
	struct loop_msg msg;
	struct list node;
	uint64_t done_bytes;
	int rc;
};

struct nvme_port_ops {
	/* Optional: without it memory that the maps do not have is not there. Thread: any loop. */
	void (*dma)(void *port, struct nvme_dma *dma);
	/* Optional, with dma: could it reach all of these bytes? Then queues may lie there. Thread:
	 * main. */
	bool (*dma_has)(void *port, uint64_t iova, uint64_t len_bytes, bool to_guest);
	/* Optional: CSTS changed (a reset or a shutdown ended, FATAL). Thread: main. */
	void (*state_changed)(void *port);
};

enum nvme_profile {
	NVME_PROFILE_PCI, /* a whole controller: version 1.4 */
	/*
	 * vhost-user-nvme: the front-end has the registers and the admin queue, and answers from
	 * what it read once: version 1.0, no asynchronous events, at most 128 KiB a command.
	 */
	NVME_PROFILE_VHOST,
};

struct nvme_ctrl_params {
	const char *name; /* for messages; outlives the controller */
	enum nvme_profile profile;
	uint16_t num_queues;	 /* I/O queue pairs, 1 to NVME_QPAIRS_MAX */
	uint32_t queue_size_max; /* entries, 2 to NVME_QUEUE_SIZE_MAX: CAP.MQES + 1 */
	uint16_t vectors;	 /* 1 to NVME_VECTORS_MAX */
	uint16_t pci_vendor;	 /* VID and SSVID of Identify; 0: NVME_PCI_VENDOR */
	uint32_t spin_ns;	 /* struct loop_source.spin_max_ns of the queues */
	/*
	 * Doorbells are written to memory that we only see by looking (a mapped page, or a
	 * front-end without a kick): queues are looked at from time to time when idle. Otherwise
	 * each write reaches nvme_ctrl_reg_write, and queues sleep; shadow doorbells are offered
	 * to make such writes rare.
	 */
	bool doorbells_polled;
	/* NVME_DOORBELLS_BYTES of ours that the guest may write, page-aligned; NULL: no such page
	 * (shadow doorbells, or the controller's own memory). Outlives the controller. */
	uint32_t *doorbells;
	const struct nvme_port_ops *ops;
	void *port;
	struct loop *main_loop;
	struct loop **loops; /* data loops; the array outlives the controller */
	uint32_t loop_count;
	struct blk_limits *limits; /* of its I/O queues; outlives the controller; NULL: none */
};

/* One more controller of the subsystem (a reference is taken), DISABLED. -EINVAL named, -ENOMEM,
 * -ENOSPC: too many. */
int nvme_ctrl_new(struct nvme_subsys *subsys, const struct nvme_ctrl_params *params,
		  struct nvme_ctrl **ret_ctrl, struct err *reterr);
/* Drains and deletes everything; freed(port) comes once, maybe before this returns; the
 * controller is gone then. */
void nvme_ctrl_free(struct nvme_ctrl *ctrl, void (*freed)(void *port));

/* ---- guest memory ---- */

/*
 * Stops the queues and waits until nothing of the guest's memory is used any more; then
 * quiet(port) comes once, maybe before this returns. Ends with nvme_ctrl_resume. One at a time.
 */
void nvme_ctrl_quiesce(struct nvme_ctrl *ctrl, void (*quiet)(void *port));
void nvme_ctrl_resume(struct nvme_ctrl *ctrl);
/*
 * Only when quiesced. readable: all that the guest gave; writable: what we may write, the same map
 * or one less read-only regions. References are taken, those on the old ones given back. NULL:
 * none.
 */
void nvme_ctrl_maps_set(struct nvme_ctrl *ctrl, struct gmem *readable, struct gmem *writable);
/* Only when quiesced. Pages that we write are marked in it; NULL: none. A reference is taken. */
void nvme_ctrl_dirty_set(struct nvme_ctrl *ctrl, struct gdirty *dirty);

/* ---- registers: BAR 0 ---- */

/*
 * len_bytes 1 to 8 anywhere below NVME_BAR0_BYTES; reserved offsets read as 0 and ignore writes. A
 * doorbell is stored in its word, and its queue looks at it.
 */
void nvme_ctrl_reg_read(struct nvme_ctrl *ctrl, uint32_t off, void *buf, uint32_t len_bytes);
void nvme_ctrl_reg_write(struct nvme_ctrl *ctrl, uint32_t off, const void *buf, uint32_t len_bytes);
/*
 * A reset of the function: like CC.EN 0, and registers are as at the start. CSTS.RDY falls when all
 * is drained. Memory and interrupt descriptors stay.
 */
void nvme_ctrl_reset(struct nvme_ctrl *ctrl);
/* Is no queue there, nor one going away? */
bool nvme_ctrl_is_idle(const struct nvme_ctrl *ctrl);

/* ---- interrupts ---- */

/* The descriptor of an MSI-X vector, taken over; -1: none. The old one is closed when no loop
 * writes to it any more. */
void nvme_ctrl_vector_fd_set(struct nvme_ctrl *ctrl, uint32_t vector, int fd);
/* The descriptor of a vector, borrowed; -1: none. */
int nvme_ctrl_vector_fd(const struct nvme_ctrl *ctrl, uint32_t vector);
/* The descriptor of the interrupt pin, used while MSI-X is off. */
void nvme_ctrl_intx_fd_set(struct nvme_ctrl *ctrl, int fd);
void nvme_ctrl_msix_enable(struct nvme_ctrl *ctrl, bool on);
/* The guest ended its interrupt of the pin: again, if completions are still there. */
void nvme_ctrl_intx_unmask(struct nvme_ctrl *ctrl);

/* ---- a front that has registers and admin queue itself (NVME_PROFILE_VHOST) ---- */

/* As after CC.EN 1, without an admin queue. Idempotent. */
void nvme_ctrl_start(struct nvme_ctrl *ctrl);
/* Idempotent; stopped(port) comes once, maybe before this returns. */
void nvme_ctrl_stop(struct nvme_ctrl *ctrl, void (*stopped)(void *port));
/*
 * One admin command (sqe is copied), with data of at most NVME_IDENTIFY_BYTES to or from buf
 * instead of its data pointer. done(port, cqe) comes once, maybe before this returns; one at a
 * time. A valid Create of a queue that is there replaces it, a completion queue with the submission
 * queues on it. The descriptor of a vector goes with its completion queue.
 */
void nvme_ctrl_admin(struct nvme_ctrl *ctrl, const struct nvme_sqe *sqe, void *buf,
		     void (*done)(void *port, const struct nvme_cqe *cqe));
/* The page of doorbells changed (NULL: none); only while stopped or quiesced. */
void nvme_ctrl_doorbells_set(struct nvme_ctrl *ctrl, uint32_t *doorbells);

/* ---- management's hand ---- */

/*
 * No more commands are fetched from I/O queues, those to come too, until it is called with false;
 * those under way end. The admin queue goes on, so that the guest can delete queues, or reset or
 * shut the controller down. nvme_ctrl_queues_visit tells how far it is: QUEUE_DRAINED.
 *
 * To save a controller it is quiesced all the same, for its admin queue: nvme_ctrl_save has then
 * all that was not fetched, in the guest's queues.
 */
void nvme_ctrl_drain(struct nvme_ctrl *ctrl, bool drained);
/*
 * Completion queue qid, with its submission queues, is drained and goes on on loop, one of its
 * loops; also each one of this identifier that is created later. -ERANGE: not an I/O queue's.
 */
int nvme_ctrl_queue_move(struct nvme_ctrl *ctrl, uint32_t qid, struct loop *loop,
			 struct err *reterr);

/* ---- counters ---- */

/* Each completion queue with what is submitted to it. */
struct queue_visitor;
void nvme_ctrl_queues_visit(const struct nvme_ctrl *ctrl, const struct queue_visitor *v);

/* ---- migration and hand-over (only when quiesced) ---- */

/* Is it in no state that only passes by? */
bool nvme_ctrl_is_saveable(const struct nvme_ctrl *ctrl);
/*
 * Everything that the guest can know of the controller, as bytes: malloc'ed, the caller's. -ENOMEM;
 * -ENOSPC: too many completions wait to be written to a guest that does not take them.
 */
int nvme_ctrl_save(struct nvme_ctrl *ctrl, void **ret_bytes, size_t *ret_len);
/*
 * Into a controller that was never enabled. It has the identifier of the other one, if no
 * controller of its subsystem has it. A page given by nvme_ctrl_doorbells_set is the guest's, and
 * stays as it is. -EINVAL, named, -ENOMEM; nothing was changed.
 */
int nvme_ctrl_load(struct nvme_ctrl *ctrl, const void *bytes, size_t len, struct err *reterr);

#endif
