/*
 * vhost_* and virtio_blk_*: controllers that front-ends reach over vhost-user. The NVMe ones are
 * made in m_nvme.c, and told, deleted and tuned here as the others.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "mgmt/ctrlr.h"
#include "mgmt/sections.h"
#include "mgmt/tables.h"

#define VHOST_KINDS	(1u << CTRLR_BLK | 1u << CTRLR_SCSI | 1u << CTRLR_NVME)
#define BLK_TRANSPORT	"vhost_user_blk"
#define SCSI_TARGET_MAX 255

#define ROW(s, key, kind, field, need, text)                                                       \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct s, field), .required = need,  \
		.help = text                                                                       \
	}
#define CTRLR_ROW(s)   ROW(s, "ctrlr", OPTS_STR, ctrlr, true, "name of the controller")
#define CPUMASK_ROW(s) ROW(s, "cpumask", OPTS_STR, cpumask, false, "data loops that it may use")

/* ---- creation ---- */

struct create {
	char *ctrlr, *dev_name, *cpumask, *transport, *serial;
	bool readonly, packed_ring, delay;
	uint64_t num_queues, queue_size;
};

#define QUEUES_ROW                                                                                 \
	{                                                                                          \
		"num_queues", OPTS_U64, offsetof(struct create, num_queues), 1, 256,               \
			.help = "most request queues; default 64"                                  \
	}
#define QUEUE_SIZE_ROW                                                                             \
	{                                                                                          \
		"queue_size", OPTS_U64, offsetof(struct create, queue_size), 4, 32768,             \
			.help = "most entries of a queue; default 1024"                            \
	}

static const struct opts_row create_blk_rows[] = {
	CTRLR_ROW(create),
	ROW(create, "dev_name", OPTS_STR, dev_name, true, "its bdev, by name or UUID"),
	CPUMASK_ROW(create),
	ROW(create, "readonly", OPTS_BOOL, readonly, false, "refuse writes"),
	ROW(create, "packed_ring", OPTS_BOOL, packed_ring, false,
	    "offer packed rings; default: true"),
	ROW(create, "transport", OPTS_STR, transport, false, "only " BLK_TRANSPORT),
	ROW(create, "serial", OPTS_STR, serial, false,
	    "serial number, at most 20 bytes; default: the controller's name"),
	QUEUES_ROW,
	QUEUE_SIZE_ROW,
};
static const struct opts_table create_blk_params = { "vhost_create_blk_controller", create_blk_rows,
						     ARRAY_SIZE(create_blk_rows) };

static const struct opts_row create_scsi_rows[] = {
	CTRLR_ROW(create),
	CPUMASK_ROW(create),
	ROW(create, "delay", OPTS_BOOL, delay, false,
	    "no socket before vhost_start_scsi_controller"),
	QUEUES_ROW,
	QUEUE_SIZE_ROW,
};
static const struct opts_table create_scsi_params = { "vhost_create_scsi_controller",
						      create_scsi_rows,
						      ARRAY_SIZE(create_scsi_rows) };

static int create_queues(struct ctrlr_new *new, const struct create *p, struct err *reterr)
{
	int rc = ctrlr_set_socket(new, NULL, p->ctrlr, reterr);

	if (rc == 0 && p->num_queues)
		rc = ctrlr_set_number(new, "num-queues", p->num_queues, reterr);
	if (rc == 0 && p->queue_size)
		rc = ctrlr_set_number(new, "queue-size", p->queue_size, reterr);
	return rc;
}

static int create_blk_fill(struct ctrlr_new *new, const struct rpc_call *call,
			   const struct create *p, struct err *reterr)
{
	int rc = create_queues(new, p, reterr);

	if (rc == 0)
		rc = ctrlr_set(new, "bdev", p->dev_name, reterr);
	if (rc == 0)
		rc = ctrlr_set(new, "serial", p->serial, reterr);
	if (rc == 0 && p->readonly)
		rc = ctrlr_set(new, "read-only", "on", reterr);
	if (rc == 0 && rpc_given(call, "packed_ring"))
		rc = ctrlr_set(new, "packed", p->packed_ring ? "on" : "off", reterr);
	return rc;
}

/* Adds what was begun, unless rc says that it failed, and answers. */
static void create_end(struct rpc_call *call, struct ctrlr_new *new, bool start, int rc,
		       struct err *err)
{
	struct device *dev;

	if (rc == 0)
		rc = ctrlr_add(new, start, &dev, err);
	ctrlr_drop(new);
	if (rc < 0)
		ctrlr_fail(call, rc, err);
	else
		rpc_result_saved(call, json_true());
}

static void create_blk(struct rpc_call *call, void *params)
{
	const struct create *p = params;
	struct ctrlr_new new = { 0 };
	struct err err = { 0 };
	int rc = 0;

	if (p->transport && strcmp(p->transport, BLK_TRANSPORT) != 0)
		rc = err_set(&err, -EINVAL, "transport: expected " BLK_TRANSPORT ", got '%.64s'",
			     p->transport);
	if (rc == 0)
		rc = ctrlr_begin(CTRLR_BLK, "blk", p->ctrlr, p->cpumask, &new, &err);
	if (rc == 0)
		rc = create_blk_fill(&new, call, p, &err);
	create_end(call, &new, true, rc, &err);
}

static void create_scsi(struct rpc_call *call, void *params)
{
	const struct create *p = params;
	struct ctrlr_new new = { 0 };
	struct err err = { 0 };
	int rc = ctrlr_begin(CTRLR_SCSI, "scsi", p->ctrlr, p->cpumask, &new, &err);

	if (rc == 0)
		rc = create_queues(&new, p, &err);
	create_end(call, &new, !p->delay, rc, &err);
}

/* ---- methods of one controller ---- */

struct one {
	char *ctrlr, *bdev_name;
	int32_t scsi_target_num;
	uint32_t delay_base_us, iops_threshold;
};

static const struct opts_row one_rows[] = { CTRLR_ROW(one) };
static const struct opts_table start_params = { "vhost_start_scsi_controller", one_rows, 1 };
static const struct opts_table delete_params = { "vhost_delete_controller", one_rows, 1 };

#define TARGET_ROW(least, text)                                                                    \
	{                                                                                          \
		"scsi_target_num", OPTS_I32, offsetof(struct one, scsi_target_num), least,         \
			SCSI_TARGET_MAX, .help = text, .required = true                            \
	}

static const struct opts_row add_target_rows[] = {
	CTRLR_ROW(one),
	TARGET_ROW((uint64_t)-1, "where it is shown; -1: the first that is free"),
	ROW(one, "bdev_name", OPTS_STR, bdev_name, true, "its bdev, by name or UUID"),
};
static const struct opts_table add_target_params = { "vhost_scsi_controller_add_target",
						     add_target_rows, ARRAY_SIZE(add_target_rows) };
static const struct opts_row remove_target_rows[] = { CTRLR_ROW(one),
						      TARGET_ROW(0, "of the target") };
static const struct opts_table remove_target_params = { "vhost_scsi_controller_remove_target",
							remove_target_rows,
							ARRAY_SIZE(remove_target_rows) };

static const struct opts_row coalescing_rows[] = {
	CTRLR_ROW(one),
	{ "delay_base_us", OPTS_U32, offsetof(struct one, delay_base_us), 0,
	  VRING_DELAY_BASE_MAX_US,
	  .help = "after a notification the next one waits for this time, times by how much of "
		  "iops_threshold the rate is above it; 0: off",
	  .required = true },
	ROW(one, "iops_threshold", OPTS_U32, iops_threshold, true,
	    "requests a second of a queue: at or below it no notification waits; 1 at least"),
};
static const struct opts_table coalescing_params = { "vhost_controller_set_coalescing",
						     coalescing_rows, ARRAY_SIZE(coalescing_rows) };

/* NULL: the call was answered. */
static struct device *one_find(struct rpc_call *call, const struct one *p, uint32_t kinds)
{
	struct err err = { 0 };
	struct device *dev = ctrlr_find("ctrlr", p->ctrlr, kinds, &err);

	if (!dev)
		ctrlr_fail(call, -ENODEV, &err);
	return dev;
}

static void start_scsi(struct rpc_call *call, void *params)
{
	struct device *dev = one_find(call, params, 1u << CTRLR_SCSI);
	struct err err = { 0 };
	int rc;

	if (!dev)
		return;
	if (dev->ep)
		rc = err_set(&err, -EALREADY, "%s: is started", dev->def->name);
	else
		rc = devices_start(dev, &err);
	ctrlr_changed(dev);
	if (rc < 0)
		ctrlr_fail(call, rc, &err);
	else
		rpc_result_saved(call, json_true());
}

static void delete_ctrlr(struct rpc_call *call, void *params)
{
	struct device *dev = one_find(call, params, VHOST_KINDS);

	if (dev)
		ctrlr_delete(call, dev);
}

static void add_target(struct rpc_call *call, void *params)
{
	const struct one *p = params;
	struct device *dev = one_find(call, p, 1u << CTRLR_SCSI);
	struct ctrlr_unit unit = { .number = (uint32_t)p->scsi_target_num, .bdev = p->bdev_name };
	struct err err = { 0 };
	int rc = 0;

	if (!dev)
		return;
	if (p->scsi_target_num < 0)
		unit.number = ctrlr_unit_free_number(dev, 0);
	if (unit.number > SCSI_TARGET_MAX)
		rc = err_set(&err, -ENOSPC, "scsi_target_num: all of 0..%d are in use",
			     SCSI_TARGET_MAX);
	if (rc == 0)
		rc = ctrlr_unit_add(dev, &unit, &err);
	if (rc < 0)
		ctrlr_fail(call, rc, &err);
	else
		rpc_result_saved(call, json_integer(unit.number));
}

static void remove_target(struct rpc_call *call, void *params)
{
	const struct one *p = params;
	struct device *dev = one_find(call, p, 1u << CTRLR_SCSI);

	if (dev)
		ctrlr_unit_remove(call, dev, (uint32_t)p->scsi_target_num);
}

static void set_coalescing(struct rpc_call *call, void *params)
{
	const struct one *p = params;
	const struct vring_coalescing c = { .delay_base_us = p->delay_base_us,
					    .iops_threshold = p->iops_threshold };
	struct device *dev = one_find(call, p, VHOST_KINDS | VFU_KINDS);
	struct err err = { 0 };
	int rc;

	if (!dev)
		return;
	rc = device_coalesce(dev, &c, &err);
	if (rc < 0) {
		ctrlr_fail(call, rc, &err);
		return;
	}
	if (ctrlr_of(dev)) {
		ctrlr_of(dev)->coalescing = true;
		ctrlr_changed(dev);
	}
	rpc_result_saved(call, json_true());
}

/* ---- what there is ---- */

struct get {
	char *name;
};

static const struct opts_row get_rows[] = {
	ROW(get, "name", OPTS_STR, name, false, "only this one; default: all"),
};
static const struct opts_table get_params = { "vhost_get_controllers", get_rows, 1 };
static const struct opts_table transports_params = { "virtio_blk_get_transports", get_rows, 1 };
static const struct opts_row transport_rows[] = {
	ROW(get, "name", OPTS_STR, name, true, "of the transport"),
};
static const struct opts_table transport_params = { "virtio_blk_create_transport", transport_rows,
						    1 };

static json_t *namespaces_json(struct device *dev)
{
	json_t *list = json_array();
	const struct device_unit *unit;

	list_for_each(unit, &dev->units, node)
		if (!unit->leaving)
			json_array_append_new(list, json_pack("{s:i, s:o}", "nsid",
							      (int)unit->place.number, "bdev",
							      ctrlr_text(ctrlr_unit_bdev(unit))));
	return list;
}

static json_t *backend_json(struct device *dev)
{
	switch (ctrlr_kind(dev)) {
	case CTRLR_BLK:
		return json_pack("{s:{s:b, s:o, s:s}}", "block", "readonly",
				 (int)dev->def->back.read_only, "bdev",
				 ctrlr_text(ctrlr_blk_bdev(dev)), "transport", BLK_TRANSPORT);
	case CTRLR_SCSI:
		return json_pack("{s:o}", "scsi", ctrlr_targets_json(dev));
	case CTRLR_NVME:
	case CTRLR_VFU_BLK:
	case CTRLR_VFU_SCSI:
	case CTRLR_NVMF:
	case CTRLR_NVMF_LISTENER:
		return json_pack("{s:o}", "namespaces", namespaces_json(dev));
	}
	UNREACHABLE();
}

static json_t *ctrlr_json(struct device *dev)
{
	const struct vring_coalescing *c = &dev->coalescing;
	const bool set = c->delay_base_us || c->iops_threshold;
	char mask[80];

	return json_pack("{s:o, s:s, s:I, s:I, s:o, s:o, s:o}", "ctrlr", ctrlr_text(dev->def->name),
			 "cpumask", devices_mask_text(dev, mask, sizeof(mask)), "delay_base_us",
			 (json_int_t)c->delay_base_us, "iops_threshold",
			 (json_int_t)(set ? c->iops_threshold : CTRLR_IOPS_THRESHOLD), "socket",
			 ctrlr_text(dev->def->socket), "sessions", ctrlr_sessions_json(dev),
			 "backend_specific", backend_json(dev));
}

static void get_controllers(struct rpc_call *call, void *params)
{
	const struct get *p = params;
	json_t *list = json_array();
	struct err err = { 0 };
	struct device *dev;

	if (p->name) {
		dev = ctrlr_find("name", p->name, VHOST_KINDS, &err);
		if (!dev) {
			json_decref(list);
			ctrlr_fail(call, -ENODEV, &err);
			return;
		}
		json_array_append_new(list, ctrlr_json(dev));
	}
	for (dev = p->name ? NULL : devices_next(NULL); dev; dev = devices_next(dev))
		if (VHOST_KINDS & 1u << ctrlr_kind(dev))
			json_array_append_new(list, ctrlr_json(dev));
	rpc_result(call, list);
}

static void get_transports(struct rpc_call *call, void *params)
{
	const struct get *p = params;
	struct err err = { 0 };

	if (p->name && strcmp(p->name, BLK_TRANSPORT) != 0) {
		err_set(&err, -ENODEV, "name: expected " BLK_TRANSPORT ", got '%.64s'", p->name);
		ctrlr_fail(call, -ENODEV, &err);
		return;
	}
	rpc_result(call, json_pack("[{s:s}]", "name", BLK_TRANSPORT));
}

static void create_transport(struct rpc_call *call, void *params)
{
	const struct get *p = params;
	const bool ours = !strcmp(p->name, BLK_TRANSPORT);
	const int rc = ours ? -EEXIST : -EINVAL;
	struct err err = { 0 };

	if (ours)
		err_set(&err, rc, "name: " BLK_TRANSPORT " is always there");
	else
		err_set(&err, rc,
			"name: expected " BLK_TRANSPORT ", got '%.64s'; for vfio-user see "
			"vfu_virtio_create_blk_endpoint",
			p->name);
	ctrlr_fail(call, rc, &err);
}

static void get_scsi_devices(struct rpc_call *call, void *params)
{
	json_t *list = json_array();

	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev)) {
		json_t *targets, *target;
		size_t i;

		if (dev->def->type != &device_scsi)
			continue;
		targets = ctrlr_targets_json(dev);
		json_array_foreach(targets, i, target)
		{
			json_array_append_new(list,
					      json_pack("{s:i, s:O, s:o}", "id",
							(int)json_array_size(list), "device_name",
							json_object_get(target, "target_name"),
							"ctrlr", ctrlr_text(dev->def->name)));
		}
		json_decref(targets);
	}
	rpc_result(call, list);
}

/* ---- what recreates them: what has lost its bdev is left out ---- */

static void write_queues(json_t *params, const struct device *dev)
{
	ctrlr_write_given(params, "num_queues", dev, "num-queues");
	ctrlr_write_given(params, "queue_size", dev, "queue-size");
}

static void write_blk(json_t *calls, const void *obj)
{
	const struct device *dev = obj;
	json_t *params;

	if (!ctrlr_blk_bdev(dev))
		return;
	params = json_pack("{s:o, s:o, s:o, s:b, s:s}", "ctrlr", ctrlr_text(dev->def->name),
			   "dev_name", ctrlr_text(dev->def->back.bdev), "cpumask",
			   ctrlr_text(ctrlr_of(dev)->cpumask), "readonly",
			   (int)dev->def->back.read_only, "transport", BLK_TRANSPORT);
	ctrlr_write_given(params, "packed_ring", dev, "packed");
	ctrlr_write_given(params, "serial", dev, "serial");
	write_queues(params, dev);
	ctrlr_write_call(calls, "vhost_create_blk_controller", params);
	ctrlr_write_coalescing(calls, dev);
}

void m_vhost_blk_write(struct section_out *out)
{
	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev))
		if (ctrlr_of(dev) && ctrlr_of(dev)->kind == CTRLR_BLK)
			ctrlr_write(out, dev, write_blk);
}

static void write_targets(json_t *calls, const struct device *dev)
{
	const struct device_unit *unit;

	list_for_each(unit, &dev->units, node) {
		const char *bdev = unit_open_def(unit->open)->back.bdev;

		if (!unit->leaving && ctrlr_unit_bdev(unit))
			ctrlr_write_call(calls, "vhost_scsi_controller_add_target",
					 json_pack("{s:o, s:i, s:o}", "ctrlr",
						   ctrlr_text(dev->def->name), "scsi_target_num",
						   (int)unit->place.number, "bdev_name",
						   ctrlr_text(bdev)));
	}
}

/* Delayed, so that front-ends find all its targets. */
static void write_scsi(json_t *calls, const void *obj)
{
	const struct device *dev = obj;
	json_t *params = json_pack("{s:o, s:o, s:b}", "ctrlr", ctrlr_text(dev->def->name),
				   "cpumask", ctrlr_text(ctrlr_of(dev)->cpumask), "delay", 1);

	write_queues(params, dev);
	ctrlr_write_call(calls, "vhost_create_scsi_controller", params);
	write_targets(calls, dev);
	ctrlr_write_coalescing(calls, dev);
	if (dev->ep)
		ctrlr_write_call(calls, "vhost_start_scsi_controller",
				 json_pack("{s:o}", "ctrlr", ctrlr_text(dev->def->name)));
}

void m_vhost_scsi_write(struct section_out *out)
{
	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev))
		if (ctrlr_of(dev) && ctrlr_of(dev)->kind == CTRLR_SCSI)
			ctrlr_write(out, dev, write_scsi);
}

const struct rpc_method m_vhost[] = {
	{ "vhost_create_blk_controller", "construct_vhost_blk_controller", &create_blk_params,
	  sizeof(struct create), RPC_SAVES, RPC_INVALID_PARAMS, create_blk,
	  "makes a virtio-blk controller; its socket is DIR/ctrlr (--socket-dir)", "true" },
	{ "vhost_create_scsi_controller", "construct_vhost_scsi_controller", &create_scsi_params,
	  sizeof(struct create), RPC_SAVES, RPC_INVALID_PARAMS, create_scsi,
	  "makes a virtio-scsi controller without targets", "true" },
	{ "vhost_start_scsi_controller", NULL, &start_params, sizeof(struct one), RPC_SAVES,
	  RPC_INVALID_PARAMS, start_scsi, "makes the socket of one that was made with delay",
	  "true" },
	{ "vhost_scsi_controller_add_target", "add_vhost_scsi_lun", &add_target_params,
	  sizeof(struct one), RPC_SAVES, RPC_INVALID_PARAMS, add_target,
	  "shows a bdev as unit 0 of a target, also to guests that run", "the target's number" },
	{ "vhost_scsi_controller_remove_target", "remove_vhost_scsi_target", &remove_target_params,
	  sizeof(struct one), RPC_SAVES, RPC_INVALID_PARAMS, remove_target,
	  "takes a target away; answers when its commands have ended", "true" },
	{ "vhost_delete_controller", "remove_vhost_controller", &delete_params, sizeof(struct one),
	  RPC_SAVES, RPC_INVALID_PARAMS, delete_ctrlr,
	  "ends its sessions after the requests under way, and removes it", "true" },
	{ "vhost_controller_set_coalescing", "set_vhost_controller_coalescing", &coalescing_params,
	  sizeof(struct one), RPC_SAVES, RPC_INVALID_PARAMS, set_coalescing,
	  "holds notifications of busy virtqueues back, for at most 10 ms; also of a vfio-user "
	  "endpoint, and of a controller of the command line, which does not keep it",
	  "true" },
	{ "vhost_get_controllers", "get_vhost_controllers", &get_params, sizeof(struct get),
	  RPC_READS, RPC_INTERNAL_ERROR, get_controllers,
	  "controllers over vhost-user, those of the command line, too",
	  "[{ctrlr, cpumask, delay_base_us, iops_threshold, socket, sessions[{vid, id, name, "
	  "started, max_queues, inflight_task_cnt, state}], backend_specific{block{readonly, "
	  "bdev, transport} or scsi[{scsi_dev_num, id, target_name, luns[{id, bdev_name}]}] or "
	  "namespaces[{nsid, bdev}]}}]" },
	{ "virtio_blk_create_transport", NULL, &transport_params, sizeof(struct get), 0,
	  RPC_INVALID_PARAMS, create_transport, "fails: the one transport is always there",
	  "never" },
	{ "virtio_blk_get_transports", NULL, &transports_params, sizeof(struct get), RPC_READS,
	  RPC_INVALID_PARAMS, get_transports, "transports of virtio-blk controllers", "[{name}]" },
	{ "scsi_get_devices", "get_scsi_devices", .flags = RPC_READS, .run = get_scsi_devices,
	  .help = "all targets", .result = "[{id, device_name, ctrlr}]" },
	{ NULL },
};
