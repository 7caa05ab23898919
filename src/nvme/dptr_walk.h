/*
 * PRP and SGL as they are written (base 4.3, 4.4): what a data pointer says, one step after the
 * other, without touching guest memory itself. Who drives it reads lists for it and translates
 * addresses: dptr.c at once, remote.c by messages.
 */
#ifndef NVME_DPTR_WALK_H
#define NVME_DPTR_WALK_H

#include "nvme/nvme_impl.h"

enum dptr_step {
	DPTR_DONE,  /* all of the data was told */
	DPTR_PIECE, /* the next len_bytes of the data are at addr */
	DPTR_SKIP,  /* the next len_bytes of the data are to be thrown away */
	DPTR_READ,  /* read len_bytes from addr into entries, at most sizeof(entries) */
	DPTR_FAIL,  /* status */
};

struct dptr_walk {
	/* results of a step */
	uint64_t addr;
	uint32_t len_bytes;
	enum nvme_status status;
	/* private: */
	uint32_t left_bytes; /* of the data */
	uint32_t i, count;   /* next, and all, of what is in entries */
	bool is_sgl, to_guest;
	/* PRP: */
	bool chained; /* the last of entries is where the next list is */
	uint8_t prps; /* of the command that were used */
	uint64_t prp2;
	/* SGL: */
	bool last_segment, first_segment;
	uint32_t more_descs; /* of the segment, behind what is in entries */
	uint64_t segment;    /* address of these */
	uint32_t segments, descs;
	union {
		struct le64 prp[NVME_PAGE_BYTES / 8];
		struct nvme_sgl_desc sgl[NVME_PAGE_BYTES / 16];
	} entries;
};

/* len_bytes: at least 1, at most NVME_TRANSFER_MAX. */
void dptr_walk_begin(struct dptr_walk *w, const struct nvme_sqe *sqe, uint32_t len_bytes,
		     enum nvme_dir dir);
enum dptr_step dptr_walk_next(struct dptr_walk *w);

#endif
