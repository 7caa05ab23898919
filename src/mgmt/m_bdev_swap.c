/*
 * What is exchanged below a bdev while it is used: bdev_swap, its back-end; bdev_set_qos_limit, a
 * node with limits between it and its back-end, there as long as there are limits.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "blk/filter/qos.h"
#include "blk/filter/swap.h"
#include "mgmt/m_bdev.h"
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
	struct bdev *bdev, *taken; /* taken: the bdev whose back-end it becomes, or NULL */
	struct blk_dev *qos;	   /* what follows as m_bdev.qos, and .inner */
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

static void exchange_on_done(void *arg, int rc)
{
	struct exchange *x = arg;
	struct m_bdev *m = m_bdev_of(x->bdev);

	m->qos = x->qos;
	m->inner = x->inner;
	if (x->kind) {
		json_decref(m->params);
		m->params = json_incref(x->params);
		m->kind = x->kind;
		x->bdev->product = x->kind->product;
		if (x->inner)
			blk_dev_named(x->inner, x->bdev->name);
	}
	m_bdev_changed(x->bdev);
	if (rc < 0) {
		struct err err = { 0 };

		err_set(&err, rc,
			"%s: a loop could not open the new back-end (%s), requests of "
			"its queues fail",
			x->bdev->name, strerror(-rc));
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
	rc = bdev_swap(x->bdev, node, exchange_on_done, x, reterr);
	if (rc == 0)
		return 0;
failed:
	if (x->taken)
		x->taken->claimed = false;
	exchange_free(x);
	return rc;
}

/* ---- bdev_set_qos_limit ---- */

/* In the order of enum blk_qos; factor: what the parameter counts. */
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

struct set_qos {
	char *name;
	uint64_t rate[BLK_QOS_COUNT], burst[BLK_QOS_COUNT];
};

#define QOS_ROW(key, field, shift, text)                                                           \
	{                                                                                          \
		.name = key, .type = OPTS_U64, .offset = offsetof(struct set_qos, field),          \
		.max = BLK_QOS_MAX >> (shift), .help = text                                        \
	}
#define QOS_IOS(dir, which, what)                                                                  \
	QOS_ROW(dir "_ios_per_sec", rate[which], 0, what " a second; 0: no limit"),                \
		QOS_ROW(dir "_ios_burst", burst[which], 0,                                         \
			"what may be saved up while idle, in operations")
#define QOS_BYTES(dir, which, what)                                                                \
	QOS_ROW(dir "_mbytes_per_sec", rate[which], 20, "MiB " what " a second; 0: no limit"),     \
		QOS_ROW(dir "_mbytes_burst", burst[which], 20,                                     \
			"what may be saved up while idle, in MiB")

static const struct opts_row set_qos_limit_rows[] = {
	{ "name", OPTS_STR, offsetof(struct set_qos, name), .help = "name or UUID of a bdev",
	  .required = true },
	QOS_IOS("rw", BLK_QOS_RW_IOPS, "reads and writes"),
	QOS_IOS("r", BLK_QOS_R_IOPS, "reads"),
	QOS_IOS("w", BLK_QOS_W_IOPS, "writes"),
	QOS_BYTES("rw", BLK_QOS_RW_BYTES, "read and written"),
	QOS_BYTES("r", BLK_QOS_R_BYTES, "read"),
	QOS_BYTES("w", BLK_QOS_W_BYTES, "written"),
};
static const struct opts_table set_qos_limit_table = { "bdev_set_qos_limit", set_qos_limit_rows,
						       ARRAY_SIZE(set_qos_limit_rows) };

static void qos_limits(const struct bdev *bdev, struct blk_qos_limits *ret_limits)
{
	memset(ret_limits, 0, sizeof(*ret_limits));
	if (m_bdev_of(bdev)->qos)
		blk_qos_get(m_bdev_of(bdev)->qos, ret_limits);
}

static bool qos_any(const struct blk_qos_limits *limits)
{
	for (int i = 0; i < BLK_QOS_COUNT; i++)
		if (limits->rate[i])
			return true;
	return false;
}

/* What is given replaces what was; a limit of 0 has no burst. -EINVAL: nothing is given. */
static int qos_merge(struct rpc_call *call, const struct set_qos *p, struct blk_qos_limits *limits,
		     struct err *reterr)
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

static void set_qos_limit(struct rpc_call *call, void *params)
{
	const struct set_qos *p = params;
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
	} else if (rc == 0 && !!m_bdev_of(bdev)->qos == qos_any(&limits)) {
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
			rc = exchange_start(x, blk_dev_ref(m_bdev_node(bdev)),
					    qos_any(&limits) ? &limits : NULL, &err);
		}
	}
	if (rc < 0)
		rpc_fail(call, rc, &err);
}

json_t *m_bdev_rate_limits(const struct bdev *bdev)
{
	json_t *o = json_object();
	struct blk_qos_limits limits;

	qos_limits(bdev, &limits);
	for (int i = 0; o && i < BLK_QOS_COUNT; i++) {
		const uint32_t shift = qos_keys[i].shift;

		if (qos_keys[i].spdk || limits.rate[i])
			json_object_set_new(o, qos_keys[i].key,
					    json_integer((json_int_t)(limits.rate[i] >> shift)));
		if (limits.burst[i])
			json_object_set_new(o, qos_keys[i].burst_key,
					    json_integer((json_int_t)(limits.burst[i] >> shift)));
	}
	return o;
}

void m_bdev_qos_write(json_t *calls, const void *obj)
{
	const struct bdev *bdev = obj;
	json_t *params = m_bdev_rate_limits(bdev);

	json_object_set_new(params, "name", json_string(bdev->name));
	json_array_append_new(
		calls, json_pack("{s:s, s:o}", "method", "bdev_set_qos_limit", "params", params));
}

/* ---- bdev_swap ---- */

struct swap {
	char *name, *new_bdev, *filename;
	uint32_t block_size;
	bool readonly, fallocate;
};

static const struct opts_row bdev_swap_rows[] = {
	{ "name", OPTS_STR, offsetof(struct swap, name),
	  .help = "name or UUID of the bdev that stays", .required = true },
	{ "new_bdev", OPTS_STR, offsetof(struct swap, new_bdev),
	  .help = "a bdev whose back-end it gets; that bdev is gone then" },
	{ "filename", OPTS_STR, offsetof(struct swap, filename),
	  .help = "or a file or block device that it gets" },
	{ "block_size", OPTS_U32, offsetof(struct swap, block_size),
	  .help = "of filename, as bdev_aio_create has it; default: the bdev's" },
	{ "readonly", OPTS_BOOL, offsetof(struct swap, readonly), .def = "false",
	  .help = "of filename: refuse writes" },
	{ "fallocate", OPTS_BOOL, offsetof(struct swap, fallocate), .def = "true",
	  .help = "of filename, as bdev_aio_create has it" },
};
static const struct opts_table bdev_swap_table = { "bdev_swap", bdev_swap_rows,
						   ARRAY_SIZE(bdev_swap_rows) };

static int swap_check(const struct swap *p, const struct bdev *bdev, struct err *reterr)
{
	if (!p->new_bdev == !p->filename)
		return err_set(reterr, -EINVAL, "expected one of new_bdev and filename, got %s",
			       p->filename ? "both" : "none");
	if (bdev->base)
		return err_set(reterr, -EINVAL,
			       "name: \"%s\" is on bdev \"%s\"; exchange what is behind that",
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
	const uint32_t block =
		p->block_size ? p->block_size : blk_dev_caps(x->bdev->dev)->block_bytes;
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

static void swap(struct rpc_call *call, void *params)
{
	const struct swap *p = params;
	struct blk_qos_limits limits;
	struct blk_dev *node = NULL;
	struct err err = { 0 };
	struct exchange *x = calloc(1, sizeof(*x));
	int rc = x ? 0 : err_set(&err, -ENOMEM, "out of memory");

	if (rc == 0)
		rc = m_bdev_find(p->name, NULL, &x->bdev, &err);
	if (rc == 0)
		rc = swap_check(p, x->bdev, &err);
	if (rc == 0)
		rc = p->new_bdev ? swap_take(x, p->new_bdev, &node, &err)
				 : swap_file(x, p, &node, &err);
	if (rc < 0) {
		free(x);
		rpc_fail(call, rc, &err);
		return;
	}
	x->call = call;
	qos_limits(x->bdev, &limits);
	rc = exchange_start(x, node, qos_any(&limits) ? &limits : NULL, &err);
	if (rc < 0)
		rpc_fail(call, rc, &err);
}

const struct rpc_method m_bdev_swap[] = {
	{ "bdev_set_qos_limit", "set_bdev_qos_limit", &set_qos_limit_table, sizeof(struct set_qos),
	  RPC_SAVES, 0, set_qos_limit,
	  "limits operations and bytes per second of a bdev; what is not given stays", "true" },
	{ "bdev_swap", NULL, &bdev_swap_table, sizeof(struct swap), RPC_SAVES, 0, swap,
	  "exchanges what is behind a bdev while it is used: requests under way end first, those "
	  "that come meanwhile wait",
	  "true" },
	{ NULL },
};
