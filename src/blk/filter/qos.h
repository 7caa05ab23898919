/*
 * QoS: a filter that lets requests wait so that limits per second are kept, over all loops of the
 * node together. Type "qos"; parameters rw-iops, r-iops, w-iops, rw-bytes, r-bytes, w-bytes (per
 * second) and the same with "-burst".
 *
 * A limit of 0 is none. Discards, zeroing and erasing count as writes for operations and have no
 * bytes; FLUSH is never held. A burst is what an idle node saves up and may then use at once, on
 * top of the rate; without one it saves 20 ms' worth, or one operation. An operation larger than
 * what is there goes when anything is there, and those after it wait for what it took too much.
 *
 * Without any limit the node only forwards. Who wants that to cost nothing puts it in when a limit
 * is set and takes it out after the last (blk_swap).
 */
#ifndef BLK_FILTER_QOS_H
#define BLK_FILTER_QOS_H

#include <stdint.h>

#include "blk/blk.h"

enum blk_qos {
	BLK_QOS_RW_IOPS,
	BLK_QOS_R_IOPS,
	BLK_QOS_W_IOPS,
	BLK_QOS_RW_BYTES,
	BLK_QOS_R_BYTES,
	BLK_QOS_W_BYTES,
	BLK_QOS_COUNT
};

/* More than any device does. */
#define BLK_QOS_MAX (1ull << 40)

struct blk_qos_limits {
	uint64_t rate[BLK_QOS_COUNT];  /* per second; 0: none */
	uint64_t burst[BLK_QOS_COUNT]; /* on top; 0: none */
};

/*
 * Replaces all limits while it runs; what waits goes by the new ones within 10 ms. -EINVAL: dev is
 * not of this type, or a burst without its rate; -ERANGE: more than BLK_QOS_MAX. Thread: main.
 */
int blk_qos_set(struct blk_dev *dev, const struct blk_qos_limits *limits, struct err *reterr);
/* All 0 if dev is not of this type. Thread: main. */
void blk_qos_get(const struct blk_dev *dev, struct blk_qos_limits *ret_limits);

#endif
