/*
 * A controller's state as bytes, for migration and hand-over: what the guest can know of it.
 *
 * struct saved has all of it as plain numbers; saved_xfer passes over it field by field, to write
 * or to read, so that the two cannot differ. All fields are 8 bytes, little-endian. What is read
 * comes from outside: it is checked whole (load.c) before anything of the controller changes.
 *
 * Queues are quiet, so that no command is under way but those that are parked: requests for events,
 * of which the identifiers are saved.
 */
#ifndef NVME_SAVE_H
#define NVME_SAVE_H

#include "nvme/nvme_impl.h"

#define SAVE_MAGIC   0x4c5254434d564eull /* "NVMCTRL" */
#define SAVE_VERSION 2

struct saved_cq {
	uint64_t qid, size, base, vector, ien, head, tail, phase, word;
	uint64_t unwritten; /* behind tail: in cqe, not yet in the guest's memory */
};

struct saved_sq {
	uint64_t qid, cqid, size, base, head, word;
};

/* A request for an event: with done, its completion waits for an entry of the queue. */
struct saved_aer {
	uint64_t cid, done, status, dw0;
};

struct saved_cqe {
	uint64_t word[2];
};

struct saved_error {
	uint64_t count, lba, sqid, cid, status, location, nsid;
};

struct saved_resv_event {
	uint64_t count, nsid, event;
};

/* Of an attachment, where it is not as at the start. */
struct saved_att {
	uint64_t nsid, resv_mask, tler;
};

struct saved {
	uint64_t magic, version;
	uint64_t profile, num_queues, queue_size_max, vectors;
	uint64_t cntlid;
	uint64_t state, cc, csts, aqa, asq, acq, intm, nssro;
	uint64_t dbbuf_on, shadow_base, event_base;
	uint64_t write_through, value[32], under_temperature_k;
	uint64_t coalescing_disable[NVME_VECTORS_MAX / 64];
	uint64_t host_id[2], host_id_extended, timestamp_ms, timestamp_set;
	uint64_t masked, masked_log[NVME_EVENT_TYPES];
	uint64_t pending_count, pending[NVME_EVENT_PENDING_MAX];
	uint64_t error_total, changed_ns[NVME_NSID_MAX / 64 + 1], ana_changes, critical_warning;
	uint64_t resv_total;
	/* the counts of what follows */
	uint64_t aer_count, cq_count, sq_count, error_count, resv_count, att_count, cqe_count;
	struct saved_aer aer[NVME_AER_MAX];
	struct saved_cq cq[NVME_QPAIRS_MAX + 1];
	struct saved_sq sq[NVME_QPAIRS_MAX + 1];
	struct saved_error error[NVME_ERROR_ENTRIES];	 /* oldest first */
	struct saved_resv_event resv[NVME_RESV_LOG_MAX]; /* oldest first */
	struct saved_att att[NVME_NSID_MAX];
	struct saved_cqe *cqe; /* of the queues in their order; malloc'ed */
};

/* Completions that are not in the guest's memory, of all queues: more are no state of ours. */
#define SAVED_CQES_MAX 65536u

/* ---- save.c ---- */

struct xfer {
	uint8_t *at, *end;
	bool reading, failed;
};

/* Reading: cqe is allocated. */
void saved_xfer(struct xfer *x, struct saved *s);
/* NULL allowed. */
void saved_free(struct saved *s);

#endif
