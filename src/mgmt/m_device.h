/*
 * What the files of the device_* methods share.
 */
#ifndef MGMT_M_DEVICE_H
#define MGMT_M_DEVICE_H

#include <jansson.h>

#include "blk/blk.h"

struct blk_tally;

/*
 * What was done, by operation, those that never were left out: {"read": {ops, bytes, latency_ns,
 * min_ns, max_ns, histogram[], errors{"no space": n}}, ...}; "unknown" has errors only.
 */
json_t *m_device_ops_json(const struct blk_stats *stats);
/* The same of a queue; NULL: it has none. */
json_t *m_device_tally_json(const struct blk_tally *tally);

#endif
