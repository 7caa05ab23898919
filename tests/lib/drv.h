/*
 * A fake guest driver: split and packed virtqueues, written from virtio 1.3, 2.7 and 2.8.
 *
 * It has two lives. Strict (the default): drv_add() builds legal chains, drv_publish() makes them
 * visible and kicks when the device asked for it, drv_used_get() takes one completion and checks
 * everything the specification promises (identifier in flight, length within what was writable,
 * descriptors and indirect tables untouched, index not running ahead of what is in flight); a
 * broken promise is -EPROTO with the rule in `why`. Not strict: the same calls without checks, and
 * the raw pointers (desc, avail, used, pdesc, ...) are there to write any lie.
 *
 * IN_ORDER: descriptors are used in ring order, and one used entry may stand for a batch; the
 * driver then hands out each member, `batched` saying that its length was not given.
 */
#ifndef TESTS_LIB_DRV_H
#define TESTS_LIB_DRV_H

#include "fe.h"

#define DRV_CHAIN_MAX 1026

struct drv_buf {
	uint64_t gpa;
	uint32_t len;
	bool write; /* the device writes */
};

struct drv_used {
	uint32_t id;
	uint32_t len;
	void *tag;
	bool batched; /* IN_ORDER: finished by a later entry, len unknown (0) */
};

struct drv_slot {
	void *tag;
	uint64_t writable_bytes;
	uint64_t table_gpa; /* indirect table, 0: none */
	void *table_copy;   /* what we wrote there: the device must not change it */
	uint16_t desc_count;
	uint16_t table_count;
	uint16_t order_next; /* FIFO of chains in flight */
	bool in_flight;
};

struct drv {
	struct fe *fe;
	struct fe_vring *vr;
	uint16_t size;
	bool packed, event_idx, in_order;
	bool indirect; /* put chains of two and more into tables */
	bool strict;
	/* Split. */
	struct spec_desc *desc;
	struct spec_avail *avail;
	struct spec_used *used;
	uint16_t *used_event, *avail_event;
	/* Packed. */
	struct spec_pdesc *pdesc;
	struct spec_pevent *driver_event, *device_event;
	/* Positions: free-running for split, ring offset plus wrap for packed. */
	uint16_t avail_idx, avail_published, used_idx;
	bool avail_wrap, published_wrap, used_wrap;
	uint16_t free_count; /* descriptors */
	uint16_t *free_fifo; /* descriptor (split) or buffer id (packed) numbers */
	uint16_t free_head, free_fill;
	uint16_t *next_copy;	     /* split: our own idea of the links */
	struct spec_desc *desc_copy; /* split: what we wrote */
	struct drv_slot *slot;	     /* [size], by head or buffer id */
	uint16_t order_head, order_tail, in_flight;
	bool in_batch;
	uint16_t batch_end;
	uint32_t batch_len;
	uint64_t *table_gpa; /* [size] indirect tables, made on first use */
	uint64_t kicks;
	char why[128];
};

enum {
	DRV_NO_ORDER = 0xffff
};

/* The queue idx of fe, which fe_up() or fe_vring_place() has placed; formats follow fe->features.
 */
int drv_init(struct drv *q, struct fe *fe, unsigned idx);
void drv_fini(struct drv *q);
/* Starts again from empty rings, after a reset or reconnect without in-flight recovery. */
void drv_reset(struct drv *q);

/* Readable buffers first (2.7.4.2). Returns the head or buffer id, -ENOSPC, -EINVAL. Not visible
 * to the device before drv_publish(). */
int drv_add(struct drv *q, const struct drv_buf *bufs, unsigned count, void *tag);
/* Returns 1 when it kicked, 0 when the device did not want it, -errno. */
int drv_publish(struct drv *q);
int drv_kick(struct drv *q);

/* Returns 1 with *ret, 0 when there is none, -EPROTO. */
int drv_used_get(struct drv *q, struct drv_used *ret);
/* Waits on the call descriptor (or polls when there is none) up to the front-end's timeout_ms. */
int drv_used_wait(struct drv *q, struct drv_used *ret);
void drv_call_enable(struct drv *q, bool on);
/* Takes the count out of the call descriptor: how many notifications were sent. */
uint64_t drv_call_count(struct drv *q);

/* Raw: lies of any kind. */
void drv_raw_desc(struct drv *q, uint16_t i, uint64_t gpa, uint32_t len, uint16_t flags,
		  uint16_t next_or_id);
void drv_raw_avail(struct drv *q, uint16_t head); /* split: next avail entry, not yet visible */
void drv_raw_avail_idx(struct drv *q, uint16_t idx);

/* private: between drv.c, drv_split.c and drv_packed.c */
int drv_split_add(struct drv *q, const struct drv_buf *bufs, unsigned count);
void drv_split_publish(struct drv *q);
int drv_split_used(struct drv *q, struct drv_used *ret);
int drv_split_release(struct drv *q, uint16_t id);
int drv_packed_add(struct drv *q, const struct drv_buf *bufs, unsigned count);
void drv_packed_publish(struct drv *q);
int drv_packed_used(struct drv *q, struct drv_used *ret);
void drv_packed_release(struct drv *q, uint16_t id);
bool drv_packed_kick_wanted(struct drv *q, uint16_t old, bool old_wrap);
int drv_broken(struct drv *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint64_t drv_table(struct drv *q, uint16_t id, unsigned count);

#endif
