/* vfu_*: virtio devices that clients reach over vfio-user. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "mgmt/ctrlr.h"
#include "mgmt/sections.h"
#include "mgmt/tables.h"

/* The folder of sockets; NULL: --socket-dir. */
static char *base_path;

struct vfu {
	char *name, *path, *bdev_name, *cpumask, *fsdev_name, *tag;
	uint32_t num_queues, qsize, scsi_target_num;
	bool packed_ring;
};

#define VFU_ROW(key, kind, field, need, text)                                                      \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct vfu, field),                  \
		.required = need, .help = text                                                     \
	}
#define NAME_ROW VFU_ROW("name", OPTS_STR, name, true, "of the endpoint, and of its socket's file")
#define TARGET_ROW                                                                                 \
	{                                                                                          \
		"scsi_target_num", OPTS_U32, offsetof(struct vfu, scsi_target_num), 0, 255,        \
			.required = true, .help = "where it is shown"                              \
	}
#define COMMON_ROWS(queues, queues_max, dflt)                                                      \
	VFU_ROW("cpumask", OPTS_STR, cpumask, false, "data loops that it may use"),                \
		{ queues,     OPTS_U32,	   offsetof(struct vfu, num_queues), 1,                    \
		  queues_max, .def = dflt, .help = "most request queues" },                        \
		{ "qsize", OPTS_U32,	 offsetof(struct vfu, qsize),	   4,                      \
		  32768,   .def = "128", .help = "most entries of a queue" },                      \
		VFU_ROW("packed_ring", OPTS_BOOL, packed_ring, false, "offer packed rings")

static const struct opts_row base_rows[] = {
	VFU_ROW("path", OPTS_STR, path, true, "folder of the sockets of endpoints made later"),
};
static const struct opts_table base_params = { "vfu_tgt_set_base_path", base_rows, 1 };
static const struct opts_row blk_rows[] = {
	NAME_ROW,
	VFU_ROW("bdev_name", OPTS_STR, bdev_name, true, "its bdev, by name or UUID"),
	COMMON_ROWS("num_queues", 256, "64"),
};
static const struct opts_table blk_params = { "vfu_virtio_create_blk_endpoint", blk_rows,
					      ARRAY_SIZE(blk_rows) };
static const struct opts_row scsi_rows[] = {
	NAME_ROW,
	COMMON_ROWS("num_io_queues", 253, "62"),
};
static const struct opts_table scsi_params = { "vfu_virtio_create_scsi_endpoint", scsi_rows,
					       ARRAY_SIZE(scsi_rows) };
static const struct opts_row fs_rows[] = {
	NAME_ROW,
	VFU_ROW("fsdev_name", OPTS_STR, fsdev_name, true, "not used"),
	VFU_ROW("tag", OPTS_STR, tag, true, "not used"),
	COMMON_ROWS("num_queues", 256, "64"),
};
static const struct opts_table fs_params = { "vfu_virtio_create_fs_endpoint", fs_rows,
					     ARRAY_SIZE(fs_rows) };
static const struct opts_row name_rows[] = { NAME_ROW };
static const struct opts_table delete_params = { "vfu_virtio_delete_endpoint", name_rows, 1 };
static const struct opts_row add_rows[] = {
	NAME_ROW,
	TARGET_ROW,
	VFU_ROW("bdev_name", OPTS_STR, bdev_name, true, "its bdev, by name or UUID"),
};
static const struct opts_table add_params = { "vfu_virtio_scsi_add_target", add_rows,
					      ARRAY_SIZE(add_rows) };
static const struct opts_row remove_rows[] = { NAME_ROW, TARGET_ROW };
static const struct opts_table remove_params = { "vfu_virtio_scsi_remove_target", remove_rows,
						 ARRAY_SIZE(remove_rows) };

static void set_base_path(struct rpc_call *call, void *params)
{
	const struct vfu *p = params;
	struct err err = { 0 };
	char *path;

	if (*p->path != '/') {
		err_set(&err, -EINVAL, "path: expected an absolute path, got '%.64s'", p->path);
		ctrlr_fail(call, -EINVAL, &err);
		return;
	}
	path = strdup(p->path);
	if (!path) {
		rpc_error(call, RPC_INTERNAL_ERROR, "out of memory");
		return;
	}
	free(base_path);
	base_path = path;
	rpc_result_saved(call, json_true());
}

static int create_fill(struct ctrlr_new *new, const struct vfu *p, struct err *reterr)
{
	int rc = ctrlr_set_socket(new, base_path, p->name, reterr);

	if (rc == 0)
		rc = ctrlr_set(new, "transport", "vfio-user", reterr);
	/* as SPDK, whose initiator rings no other bell */
	if (rc == 0)
		rc = ctrlr_set(new, "notifications", "mapped", reterr);
	if (rc == 0)
		rc = ctrlr_set(new, "bdev", p->bdev_name, reterr);
	if (rc == 0)
		rc = ctrlr_set_number(new, "num-queues", p->num_queues, reterr);
	if (rc == 0)
		rc = ctrlr_set_number(new, "queue-size", p->qsize, reterr);
	if (rc == 0)
		rc = ctrlr_set(new, "packed", p->packed_ring ? "on" : "off", reterr);
	return rc;
}

static void create(struct rpc_call *call, const struct vfu *p, enum ctrlr_kind kind,
		   const char *type)
{
	struct ctrlr_new new = { 0 };
	struct err err = { 0 };
	struct device *dev;
	int rc = ctrlr_begin(kind, type, p->name, p->cpumask, &new, &err);

	if (rc == 0)
		rc = create_fill(&new, p, &err);
	if (rc == 0)
		rc = ctrlr_add(&new, true, &dev, &err);
	ctrlr_drop(&new);
	if (rc < 0)
		ctrlr_fail(call, rc, &err);
	else
		rpc_result_saved(call, json_true());
}

static void create_blk(struct rpc_call *call, void *params)
{
	create(call, params, CTRLR_VFU_BLK, "blk");
}

static void create_scsi(struct rpc_call *call, void *params)
{
	create(call, params, CTRLR_VFU_SCSI, "scsi");
}

static void create_fs(struct rpc_call *call, void *params)
{
	struct err err = { 0 };

	err_set(&err, -EOPNOTSUPP,
		"this daemon serves disks, no file systems: for those there is "
		"virtiofsd");
	ctrlr_fail(call, -EOPNOTSUPP, &err);
}

/* NULL: the call was answered. */
static struct device *find(struct rpc_call *call, const struct vfu *p, uint32_t kinds)
{
	struct err err = { 0 };
	struct device *dev = ctrlr_find("name", p->name, kinds, &err);

	if (!dev)
		ctrlr_fail(call, -ENODEV, &err);
	return dev;
}

static void delete_endpoint(struct rpc_call *call, void *params)
{
	struct device *dev = find(call, params, VFU_KINDS);

	if (dev)
		ctrlr_delete(call, dev);
}

static void add_target(struct rpc_call *call, void *params)
{
	const struct vfu *p = params;
	struct device *dev = find(call, p, 1u << CTRLR_VFU_SCSI);
	const struct ctrlr_unit unit = { .number = p->scsi_target_num, .bdev = p->bdev_name };
	struct err err = { 0 };
	int rc;

	if (!dev)
		return;
	rc = ctrlr_unit_add(dev, &unit, &err);
	if (rc < 0)
		ctrlr_fail(call, rc, &err);
	else
		rpc_result_saved(call, json_true());
}

static void remove_target(struct rpc_call *call, void *params)
{
	const struct vfu *p = params;
	struct device *dev = find(call, p, 1u << CTRLR_VFU_SCSI);

	if (dev)
		ctrlr_unit_remove(call, dev, p->scsi_target_num);
}

/* ---- what recreates them ---- */

static void write_base(json_t *calls, const void *path)
{
	ctrlr_write_call(calls, "vfu_tgt_set_base_path",
			 json_pack("{s:o}", "path", ctrlr_text(path)));
}

static void write_one(json_t *calls, const void *obj)
{
	const struct device *dev = obj;
	const bool blk = ctrlr_of(dev)->kind == CTRLR_VFU_BLK;
	const struct device_def *def = dev->def;
	const struct device_unit *unit;

	if (blk && !ctrlr_blk_bdev(dev)) /* it is gone */
		return;
	ctrlr_write_call(calls,
			 blk ? "vfu_virtio_create_blk_endpoint" : "vfu_virtio_create_scsi_endpoint",
			 json_pack("{s:o, s:o, s:o, s:i, s:i, s:b}", "name", ctrlr_text(def->name),
				   "bdev_name", ctrlr_text(def->back.bdev), "cpumask",
				   ctrlr_text(ctrlr_of(dev)->cpumask),
				   blk ? "num_queues" : "num_io_queues", (int)def->num_queues,
				   "qsize", (int)def->queue_size, "packed_ring", (int)def->packed));
	list_for_each(unit, &dev->units, node) {
		if (unit->leaving || !ctrlr_unit_bdev(unit)) /* it is gone */
			continue;
		ctrlr_write_call(calls, "vfu_virtio_scsi_add_target",
				 json_pack("{s:o, s:i, s:o}", "name", ctrlr_text(def->name),
					   "scsi_target_num", (int)unit->place.number, "bdev_name",
					   ctrlr_text(unit_open_def(unit->open)->back.bdev)));
	}
	ctrlr_write_coalescing(calls, dev);
}

/* The folder of each, and at the end the one that is set now. */
void m_vfu_write(struct section_out *out)
{
	char dir[256] = "";

	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev)) {
		const struct ctrlr *c = ctrlr_of(dev);
		const char *path = dev->def->socket;
		size_t len;

		if (!c || !(VFU_KINDS & 1u << c->kind))
			continue;
		len = (size_t)(strrchr(path, '/') - path);
		if (strncmp(dir, path, len) != 0 || dir[len]) {
			memcpy(dir, path, len);
			dir[len] = '\0';
			section_object(out, NULL, 0, write_base, dir);
		}
		ctrlr_write(out, dev, write_one);
	}
	if (base_path && strcmp(dir, base_path) != 0)
		section_object(out, NULL, 0, write_base, base_path);
}

const struct rpc_method m_vfu[] = {
	{ "vfu_tgt_set_base_path", NULL, &base_params, sizeof(struct vfu), RPC_ANYTIME | RPC_SAVES,
	  RPC_INVALID_PARAMS, set_base_path, "where sockets of vfio-user endpoints are made",
	  "true" },
	{ "vfu_virtio_create_blk_endpoint", NULL, &blk_params, sizeof(struct vfu), RPC_SAVES,
	  RPC_INVALID_PARAMS, create_blk, "makes a virtio-blk PCI function; socket: BASE/name",
	  "true" },
	{ "vfu_virtio_create_scsi_endpoint", NULL, &scsi_params, sizeof(struct vfu), RPC_SAVES,
	  RPC_INVALID_PARAMS, create_scsi, "makes a virtio-scsi PCI function without targets",
	  "true" },
	{ "vfu_virtio_create_fs_endpoint", NULL, &fs_params, sizeof(struct vfu), 0,
	  RPC_INVALID_PARAMS, create_fs, "fails: there are no file systems", "never" },
	{ "vfu_virtio_scsi_add_target", NULL, &add_params, sizeof(struct vfu), RPC_SAVES,
	  RPC_INVALID_PARAMS, add_target, "shows a bdev as unit 0 of a target", "true" },
	{ "vfu_virtio_scsi_remove_target", NULL, &remove_params, sizeof(struct vfu), RPC_SAVES,
	  RPC_INVALID_PARAMS, remove_target, "takes a target away", "true" },
	{ "vfu_virtio_delete_endpoint", NULL, &delete_params, sizeof(struct vfu), RPC_SAVES,
	  RPC_INVALID_PARAMS, delete_endpoint, "ends its session and removes it", "true" },
	{ NULL },
};
