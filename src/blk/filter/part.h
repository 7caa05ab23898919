/*
 * Part: a range of a node as a node of its own. Type "part"; parameters start and length, in bytes.
 * And split: the even division of a node in parts.
 */
#ifndef BLK_FILTER_PART_H
#define BLK_FILTER_PART_H

#include <stdint.h>

#include "blk/blk.h"

/*
 * blk_dev_open_on("part", ...) with these parameters. length_bytes 0: to the base's end, wherever
 * that moves. -EINVAL: not multiples of the block size; -ERANGE: beyond the base's end.
 * Thread: main.
 */
int blk_part_open(struct blk_dev *base, const char *name, uint64_t start_bytes,
		  uint64_t length_bytes, struct blk_dev **ret_dev, struct err *reterr);

#define BLK_SPLIT_MAX 1024

/*
 * Divides a node in count parts of part_bytes each, beginning at 0; part_bytes 0: as large as they
 * can be; count 0: as many as there is room for. Part i starts at i * *ret_part_bytes. What is
 * asked for and does not fit is refused (-ERANGE), as is one that is not a multiple of the block
 * size, or neither given, or more than BLK_SPLIT_MAX (-EINVAL).
 */
int blk_split_plan(const struct blk_dev *base, uint32_t count, uint64_t part_bytes,
		   uint32_t *ret_count, uint64_t *ret_part_bytes, struct err *reterr);

#endif
