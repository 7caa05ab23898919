/*
 * SCSI requests on the fake guest driver: virtio 1.3, 5.6.6.
 *
 * A request is header, data-out | response, data-in; the bar is where the device may write. Each
 * of the four parts is cut into descriptors as the layout says; the default is one each. One area
 * of guest memory holds a request, with guard bytes round what the device may write.
 *
 * Everything can be told wrong: the eight LUN bytes and the CDB are the caller's, the sizes of
 * header and response are those negotiated unless req says otherwise, and both data parts may be
 * there at once.
 */
#ifndef TESTS_LIB_SCSIDRV_H
#define TESTS_LIB_SCSIDRV_H

#include "drv.h"

#define SCSIDRV_DATA_MAX  (4u << 20)
#define SCSIDRV_CDB_MAX	  256
#define SCSIDRV_SENSE_MAX 512

struct scsidrv_layout {
	uint32_t head_piece_bytes; /* 0: whole */
	uint32_t out_piece_bytes;
	uint32_t resp_piece_bytes;
	uint32_t in_piece_bytes;
	bool join_out; /* last piece of header and first of data-out share a descriptor */
	bool join_in;  /* the same of response and data-in */
};

/* A command as the caller wants it. */
struct scsidrv_cmd {
	uint8_t lun[8];
	uint64_t id; /* 0: the driver counts */
	const uint8_t *cdb;
	uint32_t cdb_bytes; /* the rest of the field is zeroed */
	const void *out;
	uint32_t out_bytes;
	void *in; /* scsidrv_do() copies data-in here; NULL: nowhere */
	uint32_t in_bytes;
	uint8_t task_attr, prio, crn;
	uint32_t head_cut_bytes; /* so many bytes of the header are left out at its end */
	uint32_t resp_cut_bytes;
	uint32_t pi_out_bytes, pi_in_bytes; /* T10_PI; part of out_bytes and in_bytes */
};

struct scsidrv_req {
	uint64_t base_gpa, out_gpa, resp_gpa, in_gpa;
	uint64_t id;
	uint32_t head_bytes, resp_bytes, out_bytes, in_bytes;
	uint32_t used_bytes;
	bool batched, done;
};

/* What came back. */
struct scsidrv_result {
	uint8_t response; /* 0xff: untouched */
	uint8_t status;
	uint16_t status_qualifier;
	uint32_t residual;
	uint32_t sense_bytes;
	uint8_t sense[SCSIDRV_SENSE_MAX];
	uint32_t used_bytes;
	uint8_t key, asc, ascq; /* of sense, fixed or descriptor format; 0: none */
};

struct scsidrv {
	struct drv *q;
	struct scsidrv_layout layout;
	uint32_t cdb_size, sense_size; /* of the configuration space */
	bool pi;		       /* T10_PI was negotiated: another header */
	uint64_t next_id;
	uint64_t free_gpa[256];
	unsigned free_count;
	uint32_t area_bytes;
	char why[128];
};

/* LUN bytes: virtio 1.3, 5.6.6.1 (peripheral and flat: SAM-6, 4.7.7). */
void scsidrv_lun(uint8_t ret_lun[8], uint32_t target, uint32_t lun); /* flat */
void scsidrv_lun_peripheral(uint8_t ret_lun[8], uint32_t target, uint32_t lun);
void scsidrv_lun_report_luns(uint8_t ret_lun[8]); /* the well-known logical unit */

int scsidrv_init(struct scsidrv *s, struct drv *q, uint32_t data_max_bytes);
/* Not visible before drv_publish(). */
int scsidrv_add(struct scsidrv *s, struct scsidrv_req *r, const struct scsidrv_cmd *cmd);
/* 1 with *ret_r and *ret, 0, or -errno. Strict: guards untouched, used length is what the device
 * wrote (response and data-in less the residual), a response is there. */
int scsidrv_reap(struct scsidrv *s, struct scsidrv_req **ret_r, struct scsidrv_result *ret,
		 bool wait);
void *scsidrv_in(struct scsidrv *s, struct scsidrv_req *r);
void scsidrv_put(struct scsidrv *s, struct scsidrv_req *r);
/* One command from start to end, nothing else in flight. 0 or -errno. */
int scsidrv_do(struct scsidrv *s, const struct scsidrv_cmd *cmd, struct scsidrv_result *ret);

/* READ(16) and WRITE(16) on the LUN; 0: GOOD with no residual, else -EIO with `why`. */
int scsidrv_read(struct scsidrv *s, const uint8_t lun[8], uint64_t lba, uint32_t blocks,
		 uint32_t block_bytes, void *to);
int scsidrv_write(struct scsidrv *s, const uint8_t lun[8], uint64_t lba, uint32_t blocks,
		  uint32_t block_bytes, const void *from);
/* TEST UNIT READY until no unit attention is left; 0 when ready. */
int scsidrv_ready(struct scsidrv *s, const uint8_t lun[8]);

/* ---- control queue ---- */

/* Any readable bytes, any room for the answer: returns the used length or -errno. */
int scsidrv_ctl_raw(struct drv *q, const void *out, uint32_t out_bytes, uint32_t piece_bytes,
		    void *in, uint32_t in_bytes);
/* Returns the response code or -errno. */
int scsidrv_tmf(struct drv *q, uint32_t subtype, const uint8_t lun[8], uint64_t id);
/* type: AN_QUERY or AN_SUBSCRIBE. Returns the response code or -errno. */
int scsidrv_an(struct drv *q, uint32_t type, const uint8_t lun[8], uint32_t wanted,
	       uint32_t *ret_actual);

/* ---- event queue ---- */

/* Posts a buffer of event_bytes (the device writes) made of pieces; visible and kicked. */
int scsidrv_event_post(struct drv *q, uint32_t event_bytes, uint32_t piece_bytes);
/* Waits for an event; 0 or -errno (-ETIMEDOUT). *ret_bytes: the used length. */
int scsidrv_event_wait(struct drv *q, struct spec_scsi_event *ret, uint32_t *ret_bytes);

#endif
