/*
 * Delay: a filter that completes reads and writes later than its base does: each by the average
 * latency, each hundredth of its kind on a channel by the 99th percentile's. Other operations pass.
 * Type "delay"; parameters avg-read, p99-read, avg-write, p99-write, in microseconds.
 */
#ifndef BLK_FILTER_DELAY_H
#define BLK_FILTER_DELAY_H

#include <stdint.h>

#include "blk/blk.h"

enum blk_delay {
	BLK_DELAY_AVG_READ,
	BLK_DELAY_P99_READ,
	BLK_DELAY_AVG_WRITE,
	BLK_DELAY_P99_WRITE,
	BLK_DELAY_COUNT
};

/* An hour: more than any time-out of a guest. */
#define BLK_DELAY_MAX_US 3600000000ull

/*
 * For requests that the base completes from now on; those that wait keep their time. -EINVAL: dev
 * is not of this type; -ERANGE: more than BLK_DELAY_MAX_US. Thread: main.
 */
int blk_delay_set(struct blk_dev *dev, enum blk_delay which, uint64_t us, struct err *reterr);
/* 0 if dev is not of this type. Thread: main. */
uint64_t blk_delay_get(const struct blk_dev *dev, enum blk_delay which);

#endif
