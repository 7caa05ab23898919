#include "mgmt/qos.h"

#include <errno.h>

#include "mgmt/ctrlr.h"

/* In the order of enum blk_qos; shift: what the parameter counts. */
static const struct {
	const char *key, *burst_key;
	uint32_t shift;
	bool spdk; /* bdev_get_bdevs tells it always */
} qos_keys[BLK_QOS_COUNT] = {
	[BLK_QOS_RW_IOPS] = { "rw_ios_per_sec", "rw_ios_burst", 0, true },
	[BLK_QOS_R_IOPS] = { "r_ios_per_sec", "r_ios_burst", 0, false },
	[BLK_QOS_W_IOPS] = { "w_ios_per_sec", "w_ios_burst", 0, false },
	[BLK_QOS_RW_BYTES] = { "rw_mbytes_per_sec", "rw_mbytes_burst", 20, true },
	[BLK_QOS_R_BYTES] = { "r_mbytes_per_sec", "r_mbytes_burst", 20, true },
	[BLK_QOS_W_BYTES] = { "w_mbytes_per_sec", "w_mbytes_burst", 20, true },
};

int qos_merge(const struct rpc_call *call, const struct qos_params *p,
	      struct blk_qos_limits *limits, struct err *reterr)
{
	bool any = false;

	for (int i = 0; i < BLK_QOS_COUNT; i++) {
		if (rpc_given(call, qos_keys[i].key)) {
			limits->rate[i] = p->rate[i] << qos_keys[i].shift;
			any = true;
		}
		if (rpc_given(call, qos_keys[i].burst_key)) {
			limits->burst[i] = p->burst[i] << qos_keys[i].shift;
			any = true;
		} else if (!limits->rate[i]) {
			limits->burst[i] = 0;
		}
		if (limits->burst[i] && !limits->rate[i])
			return err_set(reterr, -EINVAL, "%s: expected a limit (%s) with it",
				       qos_keys[i].burst_key, qos_keys[i].key);
	}
	return any ? 0
		   : err_set(reterr, -EINVAL,
			     "no limit is given: rw_ios_per_sec, rw_mbytes_per_sec ...; 0 takes "
			     "one away");
}

/* In the parameter's unit: of bytes, which the command line may give in any number, at least 1. */
static json_t *qos_number(int which, uint64_t value)
{
	const uint32_t shift = qos_keys[which].shift;

	return json_integer((json_int_t)((value + (1ull << shift) - 1) >> shift));
}

json_t *qos_json(const struct blk_qos_limits *limits)
{
	json_t *o = json_object();

	for (int i = 0; o && i < BLK_QOS_COUNT; i++) {
		if (qos_keys[i].spdk || limits->rate[i])
			json_object_set_new(o, qos_keys[i].key, qos_number(i, limits->rate[i]));
		if (limits->burst[i])
			json_object_set_new(o, qos_keys[i].burst_key,
					    qos_number(i, limits->burst[i]));
	}
	return o;
}

void qos_write(json_t *calls, const char *method, const char *name,
	       const struct blk_qos_limits *were, const struct blk_qos_limits *are)
{
	json_t *params = json_object();

	for (int i = 0; i < BLK_QOS_COUNT; i++) {
		if (are->rate[i] != were->rate[i])
			json_object_set_new(params, qos_keys[i].key, qos_number(i, are->rate[i]));
		if (are->burst[i] != were->burst[i])
			json_object_set_new(params, qos_keys[i].burst_key,
					    qos_number(i, are->burst[i]));
	}
	if (!json_object_size(params)) {
		json_decref(params);
		return;
	}
	json_object_set_new(params, "name", ctrlr_text(name));
	ctrlr_write_call(calls, method, params);
}
