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

#include <stdbool.h>
#include <stdint.h>

#include "blk/blk.h"

/* X(name, the parameter's word, what it counts, and what else is given) */
#define BLK_QOS_LIMITS(X, ...)                                                                     \
	X(RW_IOPS, "rw-iops", "operations", ##__VA_ARGS__)                                         \
	X(R_IOPS, "r-iops", "reads", ##__VA_ARGS__)                                                \
	X(W_IOPS, "w-iops", "writes", ##__VA_ARGS__)                                               \
	X(RW_BYTES, "rw-bytes", "bytes", ##__VA_ARGS__)                                            \
	X(R_BYTES, "r-bytes", "bytes read", ##__VA_ARGS__)                                         \
	X(W_BYTES, "w-bytes", "bytes written", ##__VA_ARGS__)

enum blk_qos {
#define X(n, key, unit) BLK_QOS_##n,
	BLK_QOS_LIMITS(X)
#undef X
	BLK_QOS_COUNT
};

/* More than any device does. */
#define BLK_QOS_MAX (1ull << 40)

struct blk_qos_limits {
	uint64_t rate[BLK_QOS_COUNT];  /* per second; 0: none */
	uint64_t burst[BLK_QOS_COUNT]; /* on top; 0: none */
};

static inline bool blk_qos_any(const struct blk_qos_limits *limits)
{
	for (int i = 0; i < BLK_QOS_COUNT; i++)
		if (limits->rate[i])
			return true;
	return false;
}

#define BLK_QOS_ROW(key, at, text)                                                                 \
	{ .name = key,                                                                             \
	  .type = OPTS_SIZE,                                                                       \
	  .offset = at,                                                                            \
	  .max = BLK_QOS_MAX,                                                                      \
	  .def = "0",                                                                              \
	  .help = text },
#define BLK_QOS_PAIR(n, key, unit, s, at)                                                          \
	BLK_QOS_ROW(key, offsetof(struct s, at.rate[BLK_QOS_##n]), unit " a second; 0: no limit")  \
	BLK_QOS_ROW(key "-burst", offsetof(struct s, at.burst[BLK_QOS_##n]),                       \
		    unit " that are saved up while idle, on top of the limit")
/* Rows of a parameter table (base/opts.h) for the struct blk_qos_limits `at` in struct `s`. */
#define BLK_QOS_ROWS(s, at) BLK_QOS_LIMITS(BLK_QOS_PAIR, s, at)

/* -EINVAL: a burst without its rate; -ERANGE: more than BLK_QOS_MAX; the parameter is named. */
int blk_qos_check(const struct blk_qos_limits *limits, struct err *reterr);

/*
 * Replaces all limits while it runs; what waits goes by the new ones within 10 ms. -EINVAL: dev is
 * not of this type; blk_qos_check's. Thread: main.
 */
int blk_qos_set(struct blk_dev *dev, const struct blk_qos_limits *limits, struct err *reterr);
/* All 0 if dev is not of this type. Thread: main. */
void blk_qos_get(const struct blk_dev *dev, struct blk_qos_limits *ret_limits);

#endif
