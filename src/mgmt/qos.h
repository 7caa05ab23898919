/*
 * The parameters of methods that set limits, for a bdev (m_bdev_swap.c) and for a device
 * (m_device_disk.c): SPDK's names, and bursts.
 * Thread: main.
 */
#ifndef MGMT_QOS_H
#define MGMT_QOS_H

#include <jansson.h>
#include <stddef.h>

#include "blk/filter/qos.h"
#include "mgmt/rpc.h"

/* What a method's table fills; name is what is limited. */
struct qos_params {
	char *name;
	uint64_t rate[BLK_QOS_COUNT], burst[BLK_QOS_COUNT]; /* as given: operations, or MiB */
};

#define QOS_PARAM(key, field, shift, text)                                                         \
	{                                                                                          \
		.name = key, .type = OPTS_U64, .offset = offsetof(struct qos_params, field),       \
		.max = BLK_QOS_MAX >> (shift), .help = text                                        \
	}
#define QOS_IOS(dir, which, what)                                                                  \
	QOS_PARAM(dir "_ios_per_sec", rate[which], 0, what " a second; 0: no limit"),              \
		QOS_PARAM(dir "_ios_burst", burst[which], 0,                                       \
			  "what may be saved up while idle, in operations")
#define QOS_BYTES(dir, which, what)                                                                \
	QOS_PARAM(dir "_mbytes_per_sec", rate[which], 20, "MiB " what " a second; 0: no limit"),   \
		QOS_PARAM(dir "_mbytes_burst", burst[which], 20,                                   \
			  "what may be saved up while idle, in MiB")

/* The rows of such a table; of_what is for the name. */
#define QOS_PARAMS(of_what)                                                                        \
	{ "name", OPTS_STR, offsetof(struct qos_params, name), .help = of_what,                    \
	  .required = true },                                                                      \
		QOS_IOS("rw", BLK_QOS_RW_IOPS, "reads and writes"),                                \
		QOS_IOS("r", BLK_QOS_R_IOPS, "reads"), QOS_IOS("w", BLK_QOS_W_IOPS, "writes"),     \
		QOS_BYTES("rw", BLK_QOS_RW_BYTES, "read and written"),                             \
		QOS_BYTES("r", BLK_QOS_R_BYTES, "read"),                                           \
		QOS_BYTES("w", BLK_QOS_W_BYTES, "written")

/* What the call gives replaces what was; a limit of 0 has no burst. -EINVAL: nothing is given, or
 * a burst without its limit. */
int qos_merge(const struct rpc_call *call, const struct qos_params *p,
	      struct blk_qos_limits *limits, struct err *reterr);
/* SPDK's assigned_rate_limits: its own keys always, others where there is something. */
json_t *qos_json(const struct blk_qos_limits *limits);
/* Appends the call that makes `were` become `are`; nothing if they are the same. */
void qos_write(json_t *calls, const char *method, const char *name,
	       const struct blk_qos_limits *were, const struct blk_qos_limits *are);

#endif
