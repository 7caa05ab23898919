/*
 * Virtqueues, device side: split and packed (virtio 1.3, 2.7 and 2.8).
 *
 * A device model sees chains: two cursors over guest memory that was translated and bounded once.
 * It never sees a descriptor, a ring format, or an interrupt. The verbs:
 *
 *   virtq_start    from what the front-end told us (addresses, size, base, features)
 *   virtq_pop      next available chain, checked and translated; NULL: none (or the ring broke)
 *   virtq_push     gives a chain back; buffered until
 *   virtq_publish  makes all pushed chains visible at once; returns whether to notify
 *   virtq_arm      asks the driver for notifications; returns false when there is work after all
 *   virtq_disarm   asks it not to send any
 *   virtq_stop     after the last push: returns the position for GET_VRING_BASE
 *
 * Chains live in slots, one per ring entry, that the model sized (its request struct begins with a
 * struct vq_chain). A slot is indexed by the head / buffer id and in use from pop to push, so an
 * id that the driver uses twice is caught here. Pieces beyond the slot's own few come from a small
 * pool per queue; when it is empty, popping pauses until a chain is given back.
 *
 * A lie of the driver (index jump, loop, id out of range or in flight, unmapped address, nested
 * indirect, readable after writable, too many pieces) breaks the ring: virtq_pop returns NULL,
 * vq->broken names the cause, nothing more is popped, chains out may still be pushed.
 *
 * In-flight records (for recovery after a crash) and the dirty log (for migration) are part of the
 * ring code: pop and push record when the front-end asked.
 *
 * Thread: all but virtq_start/stop set-up is the owner loop's. virtq knows no loop: notification is
 * a return value, and a ring that got something to publish puts itself on a FIFO it was given.
 */
#ifndef VIRTQ_VIRTQ_H
#define VIRTQ_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/iov.h"
#include "base/list.h"
#include "base/types.h"
#include "guest/gdirty.h"
#include "guest/gmem.h"

/* virtio 1.3, 6: reserved feature bits, as masks */
#define VIRTIO_F_NOTIFY_ON_EMPTY   (1ull << 24)
#define VHOST_F_LOG_ALL		   (1ull << 26)
#define VIRTIO_F_ANY_LAYOUT	   (1ull << 27)
#define VIRTIO_F_INDIRECT_DESC	   (1ull << 28)
#define VIRTIO_F_EVENT_IDX	   (1ull << 29)
#define VHOST_USER_F_PROTOCOL	   (1ull << 30)
#define VIRTIO_F_VERSION_1	   (1ull << 32)
#define VIRTIO_F_ACCESS_PLATFORM   (1ull << 33)
#define VIRTIO_F_RING_PACKED	   (1ull << 34)
#define VIRTIO_F_IN_ORDER	   (1ull << 35)
#define VIRTIO_F_ORDER_PLATFORM	   (1ull << 36)
#define VIRTIO_F_NOTIFICATION_DATA (1ull << 38)
#define VIRTIO_F_RING_RESET	   (1ull << 40)

#define VIRTQ_SIZE_MAX 32768
#define VIRTQ_IOV_SLOT 4    /* pieces in the slot itself */
#define VIRTQ_IOV_MAX  1024 /* pieces of one chain */

#define VIRTQ_CAUSES(X)                                                                            \
	X(NONE, "not broken")                                                                      \
	X(AVAIL_JUMP, "available index moved by more than the queue size")                         \
	X(HEAD_RANGE, "head or buffer id beyond the queue size")                                   \
	X(HEAD_BUSY, "head or buffer id already in flight")                                        \
	X(NEXT_RANGE, "next descriptor beyond the table")                                          \
	X(CHAIN_LOOP, "chain longer than the table")                                               \
	X(TOO_MANY, "too many memory pieces in one chain")                                         \
	X(UNMAPPED, "descriptor address not in guest memory")                                      \
	X(LENGTH_WRAP, "chain length over 4 GiB")                                                  \
	X(ORDER, "readable descriptor after a writable one")                                       \
	X(INDIRECT_OFF, "indirect descriptor without the feature")                                 \
	X(INDIRECT_NESTED, "indirect descriptor with NEXT, or inside an indirect table")           \
	X(INDIRECT_SIZE, "indirect table empty, too long or not a multiple of 16 bytes")           \
	X(RING_LOST, "ring memory was taken away")                                                 \
	X(INFLIGHT_BAD, "in-flight record is not consistent")

enum virtq_cause {
#define X(n, s) VIRTQ_##n,
	VIRTQ_CAUSES(X)
#undef X
	VIRTQ_CAUSE_COUNT
};

const char *virtq_cause_text(enum virtq_cause cause);

/* First member of a model's request struct. */
struct vq_chain {
	struct iov_cur out; /* driver to device */
	struct iov_cur in;  /* device to driver */
	uint16_t head;	    /* slot index: head (split) or buffer id (packed) */
	/* private: */
	uint16_t ndesc; /* ring entries it took (packed) */
	uint8_t busy;	/* from pop until its used entry is written */
	uint8_t done;	/* IN_ORDER: pushed, waiting for its turn */
	uint32_t written_bytes;
	struct iovec *iov;	       /* slot's own, or from the pool */
	struct iovec *in_iov, *in_end; /* for the dirty log */
	uint64_t in_bytes;
	uint64_t popped_ns; /* who pops says when; 0: not told */
	struct iovec own[VIRTQ_IOV_SLOT];
};

struct virtq_setup {
	uint64_t features;	   /* negotiated */
	uint32_t size;		   /* entries; split: power of two <= 32768; packed: <= 32768 */
	void *desc, *avail, *used; /* host addresses, checked for their whole length;
				      packed: descriptor ring, driver area, device area */
	struct gpa used_gpa;	   /* for the dirty log */
	uint64_t log_used_gpa;	   /* address for logging of the used ring, when log_used (split; a
				      packed ring's own pages are found through the map) */
	bool log_used;
	/* position, as SET_VRING_BASE gives it (split: avail index; packed: see vhost-user) */
	uint32_t base;
	bool base_from_used;  /* split: the used index is re-read from memory at start (always) */
	struct gmem *map;     /* a reference is taken */
	struct gdirty *dirty; /* may be NULL; a reference is taken */
	void *inflight;	      /* this queue's part of the in-flight region, NULL: none */
	uint32_t inflight_bytes;
	size_t slot_bytes; /* of the model's request struct */
	/* where a ring with something to publish puts itself (see struct loop_work) */
	struct fifo *publish_fifo;
	struct fifo_node *publish_node;
};

struct virtq; /* complete in virtq/virtq_impl.h for the inline fast path */

struct virtq *virtq_new(void);
/*
 * Starts on the given memory. Resubmission: chains recorded in flight come out of virtq_pop first,
 * in the order of their counters. Errors: -EINVAL with the field named; -ENOMEM. Allocates the
 * slots (lazily touched). Thread: owner loop.
 */
int virtq_start(struct virtq *vq, const struct virtq_setup *setup, struct err *reterr);
/*
 * All chains pushed (ASSERT) and published. Returns the base as GET_VRING_BASE wants it. The
 * references to map and dirty log stay until virtq_set_map(vq, NULL), virtq_set_dirty(vq, NULL),
 * the next start or virtq_free. When the base was told to the front-end, follow with
 * virtq_inflight_forget (see there); stop only when virtq_resubmits is 0 in that case.
 */
uint32_t virtq_stop(struct virtq *vq);
void virtq_free(struct virtq *vq); /* NULL allowed */

/*
 * New memory map or log while running (NULL: only after virtq_stop for the map; any time for the
 * log). A reference of our own is taken on the new one; the previous one is returned and its
 * reference is the caller's now (NULL when there was none). Chains out keep their translated
 * pieces: the caller keeps the old map until those are back.
 */
struct gmem *virtq_set_map(struct virtq *vq, struct gmem *map);
struct gdirty *virtq_set_dirty(struct virtq *vq, struct gdirty *dirty);
/* SET_VRING_ADDR on a running ring changes only this. */
void virtq_set_log_used(struct virtq *vq, bool on, uint64_t log_used_gpa);

struct vq_chain *virtq_pop(struct virtq *vq);
/* written_bytes: exactly what was written to the `in` side (virtio 1.3, 2.7.8.2). */
void virtq_push(struct virtq *vq, struct vq_chain *chain, uint32_t written_bytes);
/*
 * true: the driver wants a notification for what was published; always so for the first batch
 * after a start. (That a start itself notifies once is the caller's job.)
 */
bool virtq_publish(struct virtq *vq);
/*
 * Has the driver switched notifications off now? One that is due and is left out then is not
 * missed: the driver looks at the ring after it has switched them on again (virtio 1.3, 2.7.7.1 and
 * 2.8.10.1).
 */
bool virtq_notify_off(const struct virtq *vq);
/* Also true (sleeping is safe) when the ring broke, or paused until a chain is given back. */
bool virtq_arm(struct virtq *vq);
void virtq_disarm(struct virtq *vq);
/*
 * true once after a push ended a pause: chains may wait in the ring although no kick will come, so
 * a sleeping source is to be woken. Ask after each virtq_publish.
 */
bool virtq_repoll(struct virtq *vq);

uint32_t virtq_inflight(const struct virtq *vq); /* popped, not yet pushed */
/* Recorded in flight by a predecessor and not popped yet. */
uint32_t virtq_resubmits(const struct virtq *vq);
enum virtq_cause virtq_broken(const struct virtq *vq);
void virtq_break(struct virtq *vq, enum virtq_cause cause);
uint32_t virtq_size(const struct virtq *vq);
uint64_t virtq_features(const struct virtq *vq);
/* The map it uses now; the reference stays the queue's. Thread: owner loop. */
const struct gmem *virtq_map(const struct virtq *vq);

/* Bytes of ring memory for a size: what SET_VRING_ADDR's three addresses must cover. */
void virtq_ring_bytes(uint64_t features, uint32_t size, uint64_t *ret_desc, uint64_t *ret_avail,
		      uint64_t *ret_used);

/* In-flight region: bytes one queue needs (aligned to 64), for GET_INFLIGHT_FD. */
uint64_t virtq_inflight_bytes(uint64_t features, uint32_t size);
/*
 * Makes the region uninitialised: the next start goes by the base alone. Call it after a clean
 * stop whose base the front-end was told (GET_VRING_BASE), so that a queue reset, which starts
 * again from 0, is not overruled by the record. Not after a lost connection: then the front-end's
 * base is old and the record is right. NULL allowed. Thread: any, ring stopped.
 */
void virtq_inflight_forget(void *inflight);

struct virtq_stats {
	uint64_t chains, publishes, notifies, notifies_suppressed, arms;
};
/* Thread: any, while it is started: read racily. */
void virtq_stats_get(const struct virtq *vq, struct virtq_stats *ret_stats);
/* The smallest popped_ns of the chains in flight, 0: none. Thread: as virtq_stats_get. */
uint64_t virtq_oldest(const struct virtq *vq);

#endif
