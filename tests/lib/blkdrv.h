/*
 * Block requests on the fake guest driver: virtio 1.3, 5.2.6.
 *
 * One request is header, data, status, cut into descriptors as the layout says; the default is one
 * descriptor each. Data lives in guest memory (fe_alloc), so that any address can be named.
 */
#ifndef TESTS_LIB_BLKDRV_H
#define TESTS_LIB_BLKDRV_H

#include "drv.h"

#define BLKDRV_DATA_MAX (4u << 20)

struct blkdrv_layout {
	uint32_t head_piece_bytes; /* header in pieces of this size; 0: whole */
	uint32_t data_piece_bytes; /* 0: whole */
	bool join_head;		   /* last header piece and first data piece share one descriptor
				      (device-readable data only) */
	bool join_status;	   /* last data piece and status share one (device-writable only) */
};

struct blkdrv_req {
	uint64_t base_gpa; /* header at base, data after it, status behind: one allocation */
	uint64_t data_gpa;
	uint64_t status_gpa;
	uint32_t data_bytes;
	uint32_t used_bytes; /* the length the device reported */
	bool device_writes;
	bool batched;
	bool done;
};

struct blkdrv {
	struct drv *q;
	struct blkdrv_layout layout;
	bool check_len; /* strict: used length is data plus status for reads, 1 for the rest */
	uint64_t free_gpa[64];
	unsigned free_count;
	uint32_t area_bytes; /* largest data of one request, guards included elsewhere */
	char why[128];
};

int blkdrv_init(struct blkdrv *b, struct drv *q, uint32_t data_max_bytes);

/* Adds one request (not yet visible: drv_publish). Data of a write is copied from `out`. */
int blkdrv_add(struct blkdrv *b, struct blkdrv_req *r, uint32_t type, uint64_t sector,
	       const void *out, uint32_t out_bytes, uint32_t in_bytes);
/* Takes the next completion; 1, 0 or -errno. The status byte is in *ret_status, 0xff: untouched.
 * Strict checks: used length, guard bytes round the data and the status. */
int blkdrv_reap(struct blkdrv *b, struct blkdrv_req **ret_r, uint8_t *ret_status, bool wait);
void *blkdrv_data(struct blkdrv *b, struct blkdrv_req *r);
void blkdrv_put(struct blkdrv *b, struct blkdrv_req *r);

/* One request from start to end, nothing else in flight. Returns the status byte or -errno. */
int blkdrv_do(struct blkdrv *b, uint32_t type, uint64_t sector, const void *out, uint32_t out_bytes,
	      void *in, uint32_t in_bytes);
int blkdrv_read(struct blkdrv *b, uint64_t sector, void *to, uint32_t len);
int blkdrv_write(struct blkdrv *b, uint64_t sector, const void *from, uint32_t len);
int blkdrv_flush(struct blkdrv *b);
int blkdrv_get_id(struct blkdrv *b, char ret_id[21]);
/* type: DISCARD, WRITE_ZEROES or SECURE_ERASE. */
int blkdrv_ranges(struct blkdrv *b, uint32_t type, const struct spec_blk_range *ranges,
		  unsigned count);

#endif
