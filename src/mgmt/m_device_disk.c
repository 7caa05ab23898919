/*
 * device_*: what is done to the disks of a device, of whatever kind and origin: limits of all that
 * it may ask of them together.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "mgmt/ctrlr.h"
#include "mgmt/qos.h"
#include "mgmt/sections.h"
#include "mgmt/tables.h"

/* ---- device_set_qos_limit ---- */

static const struct opts_row set_qos_limit_rows[] = { QOS_PARAMS("the device") };
static const struct opts_table set_qos_limit_table = { "device_set_qos_limit", set_qos_limit_rows,
						       ARRAY_SIZE(set_qos_limit_rows) };

static void set_qos_limit(struct rpc_call *call, void *params)
{
	const struct qos_params *p = params;
	struct blk_qos_limits limits;
	struct err err = { 0 };
	struct device *dev = ctrlr_find("name", p->name, CTRLR_ALL_KINDS, &err);
	int rc = dev ? 0 : -ENODEV;

	if (!dev && rpc_is_replayed(call)) {
		/* of the command line, which has changed since */
		log_warning("limits of '%.64s' are forgotten: there is no such device any more",
			    p->name);
		rpc_result_true(call);
		return;
	}
	if (rc == 0 && dev->def->unserved)
		rc = err_set(&err, -EOPNOTSUPP,
			     "name: '%.64s' is a subsystem; limits are its listeners', which "
			     "device_get_devices lists, too",
			     p->name);
	if (rc == 0) {
		limits = *device_limits_get(dev);
		rc = qos_merge(call, p, &limits, &err);
	}
	if (rc == 0)
		rc = device_limits_set(dev, &limits, &err);
	if (rc < 0)
		ctrlr_fail(call, rc, &err);
	else
		rpc_result_saved(call, json_true());
}

static void write_limits(json_t *calls, const void *obj)
{
	const struct device *dev = obj;

	qos_write(calls, "device_set_qos_limit", dev->def->name, &dev->def->limits,
		  device_limits_get(dev));
}

void m_device_disk_write(struct section_out *out)
{
	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev))
		if (memcmp(&dev->def->limits, device_limits_get(dev), sizeof(dev->def->limits)))
			section_object(out, NULL, 0, write_limits, dev);
}

const struct rpc_method m_device_disk[] = {
	{ "device_set_qos_limit", NULL, &set_qos_limit_table, sizeof(struct qos_params), RPC_SAVES,
	  RPC_INVALID_PARAMS, set_qos_limit,
	  "limits operations and bytes per second of a device, over all its disks and queues; what "
	  "is not given stays",
	  "true" },
	{ NULL },
};
