/*
 * Error: a filter that fails requests when told to. Type "error", no parameters: it passes
 * everything until something is injected.
 *
 * There is one injection for each operation. It concerns the next `num` requests of it, on whatever
 * loops they come, and of these only such as find at least queue_depth others in flight on their
 * channel; then it is used up.
 *
 *   failure  ends as I/O error, the base does not see it
 *   pending  does not end until blk_error_resume or blk_cancel, the base does not see it
 *   corrupt  READ, WRITE: a byte of what is read, or of what is stored, is changed (the writer's
 *            memory is not); requests too short for corrupt_offset are left alone
 *   nomem    waits for a while as if memory were short, then goes its way
 *   nvme     as failure, with a status of NVMe for hosts that speak it
 */
#ifndef BLK_FILTER_ERROR_H
#define BLK_FILTER_ERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "blk/blk.h"

enum blk_error_kind {
	BLK_ERROR_FAILURE,
	BLK_ERROR_PENDING,
	BLK_ERROR_CORRUPT,
	BLK_ERROR_NOMEM,
	BLK_ERROR_NVME,
	BLK_ERROR_KIND_COUNT
};

struct blk_error_injection {
	enum blk_error_kind kind;
	uint32_t op_mask; /* 1 << enum blk_op; BLK_ERROR_ALL */
	uint32_t num;	  /* requests, of each operation; 0: takes the injection back */
	uint32_t queue_depth;
	/* CORRUPT: the byte at this offset of the request is XORed with this value, 1 to 255. */
	uint64_t corrupt_offset;
	uint8_t corrupt_value;
	/* NVME: status code type, 0 to 7, and status code; not both 0, which is success. */
	uint8_t nvme_sct, nvme_sc;
};

#define BLK_ERROR_ALL ((1u << BLK_OP_COUNT) - 1)

/*
 * Replaces what was injected for these operations. -EINVAL: dev is not of this type, no operation,
 * a value of 0, corruption of what carries no bytes, or no NVMe failure. Thread: main.
 */
int blk_error_inject(struct blk_dev *dev, const struct blk_error_injection *injection,
		     struct err *reterr);
/* Takes all injections back; what is pending stays so. */
void blk_error_clear(struct blk_dev *dev);
/*
 * Lets what is pending go on to the base, within a few milliseconds. To be called before the node
 * is taken away, too: nothing else but blk_cancel ends it. Thread: main.
 */
void blk_error_resume(struct blk_dev *dev);

#endif
