/*
 * What is exchanged below a disk while it is used: bdev_swap, the back-end of a bdev; device_swap,
 * that of a disk of any device, on a bdev or not; bdev_set_qos_limit, a node with limits between a
 * bdev and its back-end, there as long as there are limits.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "blk/filter/swap.h"
#include "mgmt/ctrlr.h"
#include "mgmt/m_bdev.h"
#include "mgmt/qos.h"
#include "mgmt/tables.h"

struct blk_dev *m_bdev_node(const struct bdev *bdev)
{
	const struct m_bdev *m = m_bdev_of(bdev);

	return m->qos ? m->inner : blk_swap_base(bdev->handle);
}

/* A node with limits on another. */
static int qos_open(const struct bdev *bdev, struct blk_dev *node,
		    const struct blk_qos_limits *limits, struct blk_dev **ret_qos,
		    struct err *reterr)
{
	int rc = blk_dev_open_on("qos", bdev->name, NULL, node, ret_qos, reterr);

	if (rc < 0)
		return rc;
	rc = blk_qos_set(*ret_qos, limits, reterr);
	if (rc < 0)
		blk_dev_unref(*ret_qos);
	return rc;
}

/* An exchange under way. */
struct exchange {
	struct rpc_call *call;
	struct bdev *bdev;    /* NULL: of device_swap, a disk that is on none */
	struct blk_dev *disk; /* its handle, or that disk */
	struct bdev *taken;   /* the bdev whose back-end it becomes, or NULL */
	struct blk_dev *qos;  /* what follows as m_bdev.qos, and .inner */
	struct blk_dev *inner;
	/* of bdev_swap */
	const struct bdev_kind *kind;
	json_t *params;
};

static void exchange_free(struct exchange *x)
{
	json_decref(x->params);
	free(x);
}

static void exchange_on_taken(void *arg, int rc)
{
	struct exchange *x = arg;

	rpc_result_saved(x->call, json_true());
	exchange_free(x);
}

/* What the bdev is from now on. */
static void exchange_note(const struct exchange *x)
{
	struct m_bdev *m = m_bdev_of(x->bdev);

	m->qos = x->qos;
	m->inner = x->inner;
	m_bdev_changed(x->bdev);
	if (!x->kind)
		return;
	json_decref(m->params);
	m->params = json_incref(x->params);
	m->kind = x->kind;
	x->bdev->product = x->kind->product;
	if (x->inner)
		blk_dev_named(x->inner, x->bdev->name);
	bdev_unbase(x->bdev);
}

static void exchange_on_done(void *arg, int rc)
{
	struct exchange *x = arg;

	if (x->bdev)
		exchange_note(x);
	if (rc < 0) {
		struct err err = { 0 };

		err_set(&err, rc,
			"%s: a loop could not open the new back-end (%s), requests of "
			"its queues fail",
			blk_dev_name(x->disk), strerror(-rc));
		if (x->taken)
			x->taken->claimed = false;
		rpc_fail(x->call, rc, &err);
		exchange_free(x);
	} else if (x->taken) {
		x->taken->claimed = false;
		bdev_delete(x->taken, exchange_on_taken, x);
	} else {
		exchange_on_taken(x, 0);
	}
}

/*
 * Puts node, with limits if there are any, behind bdev. Takes over node's reference and x, and
 * answers, but not when it returns < 0.
 */
static int exchange_start(struct exchange *x, struct blk_dev *node,
			  const struct blk_qos_limits *limits, struct err *reterr)
{
	struct blk_dev *qos;
	int rc;

	x->inner = node;
	if (limits) {
		rc = qos_open(x->bdev, node, limits, &qos, reterr);
		blk_dev_unref(node); /* qos has its own */
		if (rc < 0)
			goto failed;
		x->qos = node = qos;
	}
	if (x->bdev) {
		rc = bdev_swap(x->bdev, node, exchange_on_done, x, reterr);
	} else {
		rc = blk_swap(x->disk, node, exchange_on_done, x, reterr);
		blk_dev_unref(node);
	}
	if (rc == 0)
		return 0;
failed:
	if (x->taken)
		x->taken->claimed = false;
	exchange_free(x);
	return rc;
}

/* ---- bdev_set_qos_limit ---- */

static const struct opts_row set_qos_limit_rows[] = { QOS_PARAMS("name or UUID of a bdev") };
static const struct opts_table set_qos_limit_table = { "bdev_set_qos_limit", set_qos_limit_rows,
						       ARRAY_SIZE(set_qos_limit_rows) };

static void qos_limits(const struct bdev *bdev, struct blk_qos_limits *ret_limits)
{
	memset(ret_limits, 0, sizeof(*ret_limits));
	if (m_bdev_of(bdev)->qos)
		blk_qos_get(m_bdev_of(bdev)->qos, ret_limits);
}

static void set_qos_limit(struct rpc_call *call, void *params)
{
	const struct qos_params *p = params;
	struct blk_qos_limits limits;
	struct exchange *x = NULL;
	struct err err = { 0 };
	struct bdev *bdev;
	int rc = m_bdev_find(p->name, NULL, &bdev, &err);

	if (rc == 0) {
		qos_limits(bdev, &limits);
		rc = qos_merge(call, p, &limits, &err);
	}
	if (rc == 0 && bdev->swapping) {
		rc = err_set(&err, -EBUSY,
			     "name: the back-end of \"%s\" is being exchanged; try again",
			     bdev->name);
	} else if (rc == 0 && !!m_bdev_of(bdev)->qos == blk_qos_any(&limits)) {
		if (m_bdev_of(bdev)->qos)
			rc = blk_qos_set(m_bdev_of(bdev)->qos, &limits, &err);
		m_bdev_changed(bdev);
		if (rc == 0) {
			rpc_result_saved(call, json_true());
			return;
		}
	} else if (rc == 0) {
		x = calloc(1, sizeof(*x));
		if (!x) {
			rc = err_set(&err, -ENOMEM, "out of memory");
		} else {
			x->call = call;
			x->bdev = bdev;
			x->disk = bdev->handle;
			rc = exchange_start(x, blk_dev_ref(m_bdev_node(bdev)),
					    blk_qos_any(&limits) ? &limits : NULL, &err);
		}
	}
	if (rc < 0)
		rpc_fail(call, rc, &err);
}

json_t *m_bdev_rate_limits(const struct bdev *bdev)
{
	struct blk_qos_limits limits;

	qos_limits(bdev, &limits);
	return qos_json(&limits);
}

void m_bdev_qos_write(json_t *calls, const void *obj)
{
	static const struct blk_qos_limits none;
	const struct bdev *bdev = obj;
	struct blk_qos_limits limits;

	qos_limits(bdev, &limits);
	qos_write(calls, "bdev_set_qos_limit", bdev->name, &none, &limits);
}

/* ---- bdev_swap, device_swap ---- */

struct swap {
	char *name, *unit, *new_bdev, *filename;
	uint32_t block_size;
	bool readonly, fallocate;
};

#define SWAP_ROW(key, kind, field, ...)                                                            \
	{                                                                                          \
		key, kind, offsetof(struct swap, field), __VA_ARGS__                               \
	}
/* What a disk gets. */
#define SWAP_ROWS                                                                                  \
	SWAP_ROW("new_bdev", OPTS_STR, new_bdev,                                                   \
		 .help = "a bdev whose back-end it gets; that bdev is gone then"),                 \
		SWAP_ROW("filename", OPTS_STR, filename,                                           \
			 .help = "or a file or block device that it gets"),                        \
		SWAP_ROW("block_size", OPTS_U32, block_size,                                       \
			 .help = "of filename, as bdev_aio_create has it; default: the disk's"),   \
		SWAP_ROW("readonly", OPTS_BOOL, readonly, .def = "false",                          \
			 .help = "of filename: refuse writes"),                                    \
		SWAP_ROW("fallocate", OPTS_BOOL, fallocate, .def = "true",                         \
			 .help = "of filename, as bdev_aio_create has it")

static const struct opts_row bdev_swap_rows[] = {
	SWAP_ROW("name", OPTS_STR, name, .help = "name or UUID of the bdev that stays",
		 .required = true),
	SWAP_ROWS,
};
static const struct opts_table bdev_swap_table = { "bdev_swap", bdev_swap_rows,
						   ARRAY_SIZE(bdev_swap_rows) };
static const struct opts_row device_swap_rows[] = {
	SWAP_ROW("name", OPTS_STR, name, .help = "the device", .required = true),
	SWAP_ROW("unit", OPTS_STR, unit,
		 .help = "which disk, as device_get_devices tells it: \"3/0\" (target and unit), "
			 "\"2\" (namespace); default: the only one"),
	SWAP_ROWS,
};
static const struct opts_table device_swap_table = { "device_swap", device_swap_rows,
						     ARRAY_SIZE(device_swap_rows) };

static int swap_check(const struct swap *p, const struct bdev *bdev, struct err *reterr)
{
	if (!p->new_bdev == !p->filename)
		return err_set(reterr, -EINVAL, "expected one of new_bdev and filename, got %s",
			       p->filename ? "both" : "none");
	if (!bdev)
		return 0;
	if (bdev->base && bdev->part)
		return err_set(reterr, -EINVAL,
			       "name: \"%s\" is a part of bdev \"%s\", which makes all its parts "
			       "together; exchange what is behind that",
			       bdev->name, bdev->base->name);
	if (bdev->copied)
		return err_set(
			reterr, -EBUSY,
			"name: a copy from \"%s\" is under way; wait for that, or cancel it: "
			"job_get_jobs",
			bdev->name);
	return bdev_usable(bdev, reterr);
}

/* The back-end of a bdev that nobody uses. */
static int swap_take(struct exchange *x, const char *name, struct blk_dev **ret_node,
		     struct err *reterr)
{
	struct bdev *from;
	int rc = m_bdev_find(name, NULL, &from, reterr);

	if (rc < 0)
		return rc;
	if (from == x->bdev || from->base)
		return err_set(reterr, -EINVAL, "new_bdev: expected another bdev, on no other");
	if (bdev_usable(from, reterr) < 0)
		return err_prefix(reterr, -EBUSY, "new_bdev");
	if (from->claimed || from->users || from->swapping)
		return err_set(reterr, -EBUSY,
			       "new_bdev: \"%s\" is used (by %u devices%s); let them go first",
			       from->name, from->users, from->claimed ? ", and bdevs on it" : "");
	*ret_node = blk_dev_ref(m_bdev_node(from));
	from->claimed = true;
	x->taken = from;
	x->kind = m_bdev_of(from)->kind;
	x->params = json_incref(m_bdev_of(from)->params);
	return 0;
}

static int swap_file(struct exchange *x, const struct swap *p, struct blk_dev **ret_node,
		     struct err *reterr)
{
	const uint32_t block = p->block_size ? p->block_size : blk_dev_caps(x->disk)->block_bytes;
	int rc = m_bdev_file_open(p->filename, p->filename, block, p->readonly, p->fallocate,
				  ret_node, reterr);

	if (rc < 0)
		return rc;
	x->kind = &bdev_aio;
	x->params =
		json_pack("{s:s, s:I, s:b, s:b}", "filename", p->filename, "block_size",
			  (json_int_t)block, "readonly", p->readonly, "fallocate", p->fallocate);
	return 0;
}

/* bdev: NULL, or that of disk. Answers. */
static void swap_start(struct rpc_call *call, const struct swap *p, struct bdev *bdev,
		       struct blk_dev *disk)
{
	struct blk_qos_limits limits = { 0 };
	struct blk_dev *node = NULL;
	struct err err = { 0 };
	struct exchange *x = calloc(1, sizeof(*x));
	int rc = x ? 0 : err_set(&err, -ENOMEM, "out of memory");

	if (rc == 0) {
		x->call = call;
		x->bdev = bdev;
		x->disk = disk;
		rc = swap_check(p, bdev, &err);
	}
	if (rc == 0)
		rc = p->new_bdev ? swap_take(x, p->new_bdev, &node, &err)
				 : swap_file(x, p, &node, &err);
	if (rc < 0) {
		free(x);
		rpc_fail(call, rc, &err);
		return;
	}
	if (bdev) {
		qos_limits(bdev, &limits);
		/* or requests that it holds back are waited for */
		if (m_bdev_of(bdev)->kind->leave)
			m_bdev_of(bdev)->kind->leave(bdev);
	}
	rc = exchange_start(x, node, blk_qos_any(&limits) ? &limits : NULL, &err);
	if (rc < 0)
		rpc_fail(call, rc, &err);
}

static void swap(struct rpc_call *call, void *params)
{
	const struct swap *p = params;
	struct err err = { 0 };
	struct bdev *bdev;
	int rc = m_bdev_find(p->name, NULL, &bdev, &err);

	if (rc < 0)
		rpc_fail(call, rc, &err);
	else
		swap_start(call, p, bdev, bdev->handle);
}

static void swap_device(struct rpc_call *call, void *params)
{
	const struct swap *p = params;
	struct err err = { 0 };
	struct device *dev = ctrlr_find("name", p->name, CTRLR_ALL_KINDS, &err);
	struct blk_dev *disk = NULL;
	char unit[32];
	int rc = dev ? ctrlr_disk_find(dev, p->unit, unit, sizeof(unit), &disk, &err) : -ENODEV;

	if (rc < 0)
		rpc_fail(call, rc, &err);
	else
		swap_start(call, p, bdev_of(disk), disk);
}

const struct rpc_method m_bdev_swap[] = {
	{ "bdev_set_qos_limit", "set_bdev_qos_limit", &set_qos_limit_table,
	  sizeof(struct qos_params), RPC_SAVES, 0, set_qos_limit,
	  "limits operations and bytes per second of a bdev; what is not given stays", "true" },
	{ "bdev_swap", NULL, &bdev_swap_table, sizeof(struct swap), RPC_SAVES, 0, swap,
	  "exchanges what is behind a bdev while it is used: requests under way end first, those "
	  "that come meanwhile wait",
	  "true" },
	{ "device_swap", NULL, &device_swap_table, sizeof(struct swap), RPC_SAVES, 0, swap_device,
	  "exchanges what is behind a disk of a device while it is used, whoever made it; a disk "
	  "that is on a bdev keeps it, as after bdev_swap",
	  "true" },
	{ NULL },
};
