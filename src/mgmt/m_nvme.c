/*
 * vhost_create_nvme_controller and what goes with it: NVMe over vhost-user, as SPDK had it from
 * 18.04 to 19.04. vhost_get_controllers and vhost_delete_controller are for these, too.
 */
#include <errno.h>

#include "base/check.h"
#include "mgmt/ctrlr.h"
#include "mgmt/sections.h"
#include "mgmt/tables.h"

#define IO_QUEUES_MAX 127 /* SPDK's: 31 */
#define NSID_MAX      1024

struct nvme {
	char *ctrlr, *cpumask, *bdev_name;
	uint32_t io_queues, nsid;
};

#define NVME_CTRLR_ROW                                                                             \
	{                                                                                          \
		"ctrlr", OPTS_STR, offsetof(struct nvme, ctrlr), .required = true,                 \
								 .help = "name of the controller"  \
	}

static const struct opts_row create_rows[] = {
	NVME_CTRLR_ROW,
	{ "io_queues", OPTS_U32, offsetof(struct nvme, io_queues), 1, IO_QUEUES_MAX,
	  .required = true, .help = "most I/O queue pairs" },
	{ "cpumask", OPTS_STR, offsetof(struct nvme, cpumask),
	  .help = "data loops that it may use" },
};
static const struct opts_table create_params = { "vhost_create_nvme_controller", create_rows,
						 ARRAY_SIZE(create_rows) };
static const struct opts_row add_ns_rows[] = {
	NVME_CTRLR_ROW,
	{ "bdev_name", OPTS_STR, offsetof(struct nvme, bdev_name), .required = true,
	  .help = "its bdev, by name or UUID" },
	{ "nsid", OPTS_U32, offsetof(struct nvme, nsid), 1, NSID_MAX,
	  .help = "its identifier; default: the lowest that is free" },
};
static const struct opts_table add_ns_params = { "vhost_nvme_controller_add_ns", add_ns_rows,
						 ARRAY_SIZE(add_ns_rows) };
static const struct opts_row remove_ns_rows[] = {
	NVME_CTRLR_ROW,
	{ "nsid", OPTS_U32, offsetof(struct nvme, nsid), 1, NSID_MAX, .required = true,
	  .help = "its identifier" },
};
static const struct opts_table remove_ns_params = { "vhost_nvme_controller_remove_ns",
						    remove_ns_rows, ARRAY_SIZE(remove_ns_rows) };

static void create(struct rpc_call *call, void *params)
{
	const struct nvme *p = params;
	struct ctrlr_new new = { 0 };
	struct err err = { 0 };
	struct device *dev;
	int rc = ctrlr_begin(CTRLR_NVME, "nvme", p->ctrlr, p->cpumask, &new, &err);

	if (rc == 0)
		rc = ctrlr_set_socket(&new, NULL, p->ctrlr, &err);
	if (rc == 0)
		rc = ctrlr_set(&new, "transport", "vhost-user", &err);
	if (rc == 0)
		rc = ctrlr_set_number(&new, "num-queues", p->io_queues, &err);
	if (rc == 0)
		rc = ctrlr_add(&new, true, &dev, &err);
	ctrlr_drop(&new);
	if (rc < 0)
		ctrlr_fail(call, rc, &err);
	else
		rpc_result_saved(call, json_true());
}

/* NULL: the call was answered. */
static struct device *find(struct rpc_call *call, const struct nvme *p)
{
	struct err err = { 0 };
	struct device *dev = ctrlr_find("ctrlr", p->ctrlr, 1u << CTRLR_NVME, &err);

	if (!dev)
		ctrlr_fail(call, -ENODEV, &err);
	return dev;
}

static void add_ns(struct rpc_call *call, void *params)
{
	const struct nvme *p = params;
	struct device *dev = find(call, p);
	struct ctrlr_unit unit = { .number = p->nsid, .bdev = p->bdev_name };
	struct err err = { 0 };
	int rc;

	if (!dev)
		return;
	if (!unit.number)
		unit.number = ctrlr_unit_free_number(dev, 1);
	rc = ctrlr_unit_add(dev, &unit, &err);
	if (rc < 0)
		ctrlr_fail(call, rc, &err);
	else
		rpc_result_saved(call, json_true());
}

static void remove_ns(struct rpc_call *call, void *params)
{
	const struct nvme *p = params;
	struct device *dev = find(call, p);

	if (dev)
		ctrlr_unit_remove(call, dev, p->nsid);
}

static void write_one(json_t *calls, const void *obj)
{
	const struct device *dev = obj;
	const struct device_unit *unit;

	ctrlr_write_call(calls, "vhost_create_nvme_controller",
			 json_pack("{s:o, s:i, s:o}", "ctrlr", ctrlr_text(dev->def->name),
				   "io_queues", (int)dev->def->num_queues, "cpumask",
				   ctrlr_text(ctrlr_of(dev)->cpumask)));
	list_for_each(unit, &dev->units, node) {
		if (unit->leaving || !ctrlr_unit_bdev(unit)) /* it is gone */
			continue;
		ctrlr_write_call(calls, "vhost_nvme_controller_add_ns",
				 json_pack("{s:o, s:o, s:i}", "ctrlr", ctrlr_text(dev->def->name),
					   "bdev_name",
					   ctrlr_text(unit_open_def(unit->open)->back.bdev), "nsid",
					   (int)unit->place.number));
	}
}

void m_nvme_write(struct section_out *out)
{
	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev))
		if (ctrlr_of(dev) && ctrlr_of(dev)->kind == CTRLR_NVME)
			ctrlr_write(out, dev, write_one);
}

const struct rpc_method m_nvme[] = {
	{ "vhost_create_nvme_controller", "construct_vhost_nvme_controller", &create_params,
	  sizeof(struct nvme), RPC_SAVES, RPC_INVALID_PARAMS, create,
	  "makes an NVMe controller that QEMU's vhost-user-nvme reaches", "true" },
	{ "vhost_nvme_controller_add_ns", "add_vhost_nvme_ns", &add_ns_params, sizeof(struct nvme),
	  RPC_SAVES, RPC_INVALID_PARAMS, add_ns, "shows a bdev as a namespace", "true" },
	{ "vhost_nvme_controller_remove_ns", NULL, &remove_ns_params, sizeof(struct nvme),
	  RPC_SAVES, RPC_INVALID_PARAMS, remove_ns, "takes a namespace away", "true" },
	{ NULL },
};
