/*
 * A fake NVMe guest driver, written from NVM Express 1.4 (3: registers, 4: queues, PRP and SGL,
 * 5.7: shadow doorbells).
 *
 * It stands on a transport (struct nvmedrv_transport): vfio-user, where it has the registers and
 * the admin queue itself, or vhost-user-nvme, where the front-end has both and commands of the
 * admin queue are messages.
 *
 * Two lives, as drv.h. Strict (the default): every completion is checked against what the
 * specification promises (phase tag, submission queue of this completion queue, identifier in
 * flight, head within what was submitted); a broken promise is -EPROTO with the rule in `why`. Not
 * strict: no checks; and raw rings, raw entries and raw data pointers can be written at any time.
 *
 * Results of commands: the status (status code type << 8 | status code, SPEC_NVME_), 0 is success;
 * or -errno: -ETIMEDOUT, -EPROTO, -ENOSPC (no room), -ENOMEM (guest memory is used up), -EIO
 * (CSTS.CFS), and what the transport gives.
 *
 * Memory of queues is kept over resets and used again; no wait is without limit (timeout_ms).
 */
#ifndef TESTS_LIB_NVMEDRV_H
#define TESTS_LIB_NVMEDRV_H

#include "nvmespec.h"

#define NVMEDRV_QUEUES	   257 /* identifiers 0 (admin) to 256 */
#define NVMEDRV_LISTS	   16  /* pages of PRP lists or SGL segments of a command */
#define NVMEDRV_PAGES	   4096
#define NVMEDRV_EVENTS	   64
#define NVMEDRV_ADMIN_SIZE 32

/* Callbacks take t; results are 0 or -errno unless said. */
struct nvmedrv_transport {
	const char *name;
	void *t;
	/* Registers of BAR 0, len 4 or 8. NULL: the front-end has them. */
	int (*reg_read)(void *t, uint32_t off, void *buf, uint32_t len);
	int (*reg_write)(void *t, uint32_t off, const void *buf, uint32_t len);
	/* Words of the doorbells (index 2 * queue, + 1: completion queue) that the device looks
	 * at; NULL: written by doorbell(). May change at start. */
	uint32_t *doorbells;
	/* Optional: a doorbell that is trapped. Default: reg_write of it. */
	int (*doorbell)(void *t, uint32_t index, uint32_t value);
	/* Guest memory: its address, 0: full. */
	uint64_t (*mem_alloc)(void *t, uint64_t len, uint64_t align);
	/* Here; NULL: not whole in one region. */
	void *(*mem_host)(void *t, uint64_t iova, uint64_t len);
	/* The eventfd that vector v signals (already given to the device), the transport's. */
	int (*vector_fd)(void *t, unsigned vector);
	/* Optional: what is to be done now and then while a completion is waited for. */
	int (*idle)(void *t);

	/* Without registers: */
	int (*start)(void *t);
	int (*stop)(void *t);
	/* One admin command with its data (4096 bytes, from the device), or NULL. */
	int (*admin)(void *t, const struct spec_nvme_sqe *sqe, void *data,
		     struct spec_nvme_cqe *ret_cqe);
	/* The eventfd of a completion queue, after its creation; it stays the driver's. */
	int (*cq_call)(void *t, unsigned cqid, int fd);
};

struct nvmedrv_slot {
	void *tag;
	uint64_t lists[NVMEDRV_LISTS];
	uint8_t list_count;
	bool in_flight;
};

struct nvmedrv_cq {
	bool live, phase, own_fd;
	uint32_t size, head;
	int fd; /* -1: no interrupt, polled */
	uint64_t iova, room_bytes;
	struct spec_nvme_cqe *ring;
	uint32_t told_head;
};

struct nvmedrv_sq {
	bool live;
	uint16_t cqid;
	uint32_t size, tail, told_tail, head; /* head: as the last completion says */
	uint32_t in_flight, slot_count;
	uint64_t iova, room_bytes;
	struct spec_nvme_sqe *ring;
	struct nvmedrv_slot *slot; /* [slot_count], by command identifier */
	uint32_t next_slot;
};

struct nvmedrv_done {
	struct spec_nvme_cqe cqe;
	uint16_t status; /* without phase, DNR and More */
	bool dnr;
	void *tag;
};

struct nvmedrv {
	struct nvmedrv_transport tr;
	bool strict;
	bool lazy_head;	      /* completion queue heads are told by nvmedrv_cq_ring only */
	uint32_t list_offset; /* of the first list or segment in its page; a multiple of 8 (16) */
	uint32_t sgl_per_segment; /* descriptors in a segment, 0: all in one */
	int timeout_ms;
	uint64_t cap;
	struct nvmedrv_cq cq[NVMEDRV_QUEUES];
	struct nvmedrv_sq sq[NVMEDRV_QUEUES];
	/* shadow doorbells, 5.7; NULL: not used */
	uint32_t *shadow, *eventidx;
	uint64_t shadow_iova, eventidx_iova;
	uint64_t doorbell_writes, doorbell_skips, interrupts;
	uint64_t buf_iova; /* data of admin commands: 4 pages */
	uint8_t *buf;
	uint64_t page[NVMEDRV_PAGES]; /* free pages for lists */
	uint32_t page_count;
	uint64_t building[NVMEDRV_LISTS];
	uint32_t building_count;
	uint32_t events[NVMEDRV_EVENTS]; /* DW0 of asynchronous events not yet taken */
	uint32_t event_count, aer_in_flight;
	char why[160];
};

int nvmedrv_init(struct nvmedrv *d, const struct nvmedrv_transport *tr);
/* Frees what is here; nothing is sent. */
void nvmedrv_fini(struct nvmedrv *d);

/* ---- the controller ---- */

/* From CC.EN 0 to CSTS.RDY 1 (3.1.5, 7.6.1) with an admin queue of admin_size entries (0: default);
 * without registers: start. */
int nvmedrv_enable(struct nvmedrv *d, uint32_t admin_size);
/* CC.EN 0 and CSTS.RDY 0; without registers: stop. All queues are forgotten. */
int nvmedrv_disable(struct nvmedrv *d);
int nvmedrv_shutdown(struct nvmedrv *d, bool abrupt);
/* What is known of queues here; commands in flight are forgotten. */
void nvmedrv_forget(struct nvmedrv *d);
int nvmedrv_csts_wait(struct nvmedrv *d, uint32_t mask, uint32_t value);
int nvmedrv_reg32(struct nvmedrv *d, uint32_t off, uint32_t *ret_v);
int nvmedrv_reg32_set(struct nvmedrv *d, uint32_t off, uint32_t v);
int nvmedrv_reg64(struct nvmedrv *d, uint32_t off, uint64_t *ret_v);
int nvmedrv_reg64_set(struct nvmedrv *d, uint32_t off, uint64_t v);

/* ---- admin commands: from start to end ---- */

/* data: len bytes (at most 16 KiB) to or from the device by PRP; NULL: prp1 and prp2 as they are.
 * ret_cqe may be NULL. */
int nvmedrv_admin(struct nvmedrv *d, const struct spec_nvme_sqe *sqe, void *data, uint32_t len,
		  bool to_device, struct spec_nvme_cqe *ret_cqe);
int nvmedrv_identify(struct nvmedrv *d, uint8_t cns, uint32_t nsid, void *ret_4096);
int nvmedrv_get_log(struct nvmedrv *d, uint8_t lid, uint32_t nsid, void *ret, uint32_t len);
int nvmedrv_get_feature(struct nvmedrv *d, uint32_t cdw10, uint32_t cdw11, uint32_t nsid, void *ret,
			uint32_t len, uint32_t *ret_dw0);
int nvmedrv_set_feature(struct nvmedrv *d, uint32_t cdw10, uint32_t cdw11, uint32_t nsid,
			void *data, uint32_t len, uint32_t *ret_dw0);
int nvmedrv_abort(struct nvmedrv *d, uint16_t sqid, uint16_t cid, uint32_t *ret_dw0);
/* vector -1: no interrupts. */
int nvmedrv_cq_create(struct nvmedrv *d, unsigned qid, uint32_t size, int vector);
int nvmedrv_sq_create(struct nvmedrv *d, unsigned qid, uint32_t size, unsigned cqid);
int nvmedrv_cq_delete(struct nvmedrv *d, unsigned qid);
int nvmedrv_sq_delete(struct nvmedrv *d, unsigned qid);
/* Completion and submission queue with the same identifier. */
int nvmedrv_pair_create(struct nvmedrv *d, unsigned qid, uint32_t size, int vector);
int nvmedrv_dbbuf(struct nvmedrv *d);
/* One Asynchronous Event Request more. */
int nvmedrv_aer(struct nvmedrv *d);
/* Waits for an event: DW0. */
int nvmedrv_event_wait(struct nvmedrv *d, uint32_t *ret_dw0);

/* ---- data pointers: nvmedrv_io.c ---- */

/* Guest memory for data; 0: full. */
uint64_t nvmedrv_alloc(struct nvmedrv *d, uint64_t len, uint64_t align);
void *nvmedrv_host(struct nvmedrv *d, uint64_t iova, uint64_t len);
/* PRP entries for [iova, iova + len); lists come from d's pages, and go back there when the next
 * submitted command ends. 0, -ENOMEM. */
int nvmedrv_prp(struct nvmedrv *d, struct spec_nvme_sqe *sqe, uint64_t iova, uint64_t len);
/* The same for pages anywhere: entry[0] may have an offset. */
int nvmedrv_prp_entries(struct nvmedrv *d, struct spec_nvme_sqe *sqe, const uint64_t *entry,
			uint32_t count);
/* SGL of these descriptors (data blocks and bit buckets; type is the caller's). */
int nvmedrv_sgl(struct nvmedrv *d, struct spec_nvme_sqe *sqe, const struct spec_nvme_sgl *desc,
		uint32_t count);

/* ---- I/O ---- */

/* Puts it in the ring with an identifier of its own, returned; -ENOSPC. Not visible before
 * nvmedrv_sq_ring. */
int nvmedrv_submit(struct nvmedrv *d, unsigned sqid, const struct spec_nvme_sqe *sqe, void *tag);
int nvmedrv_sq_ring(struct nvmedrv *d, unsigned sqid);
int nvmedrv_cq_ring(struct nvmedrv *d, unsigned cqid);
/* Writes a doorbell as a driver does: shadow page and EventIdx when configured. */
int nvmedrv_doorbell(struct nvmedrv *d, uint32_t index, uint32_t old, uint32_t value);
/* 1 with *ret, 0: none is there, -EPROTO. */
int nvmedrv_reap(struct nvmedrv *d, unsigned cqid, struct nvmedrv_done *ret);
/* For who reaps in a loop of its own. */
int nvmedrv_idle(struct nvmedrv *d);
/* Waits for its interrupt (or polls when it has none). 0 with *ret; a completion that comes without
 * its interrupt is -EPROTO. */
int nvmedrv_wait(struct nvmedrv *d, unsigned cqid, struct nvmedrv_done *ret);
/* One command, nothing else in flight: its status. */
int nvmedrv_do(struct nvmedrv *d, unsigned sqid, const struct spec_nvme_sqe *sqe,
	       struct nvmedrv_done *ret);
/* Read, Write, Compare of blocks blocks with PRP at iova. */
int nvmedrv_rw(struct nvmedrv *d, unsigned sqid, uint8_t opcode, uint32_t nsid, uint64_t slba,
	       uint32_t blocks, uint64_t iova, uint32_t block_bytes);
struct spec_nvme_sqe nvmedrv_rw_sqe(uint8_t opcode, uint32_t nsid, uint64_t slba, uint32_t blocks);

/* private: between the files */
int nvmedrv_broken(struct nvmedrv *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int64_t nvmedrv_now_ms(void);

#endif
