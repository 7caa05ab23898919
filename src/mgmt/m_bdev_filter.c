/* bdevs on bdevs: passthru, delay and error. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "blk/filter/delay.h"
#include "blk/filter/error.h"
#include "mgmt/m_bdev.h"
#include "mgmt/tables.h"

#define ROW(s, key, kind, field, dflt, text)                                                       \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct s, field), .def = dflt,       \
		.help = text                                                                       \
	}
#define NEEDED(s, key, kind, field, text)                                                          \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct s, field), .help = text,      \
		.required = true                                                                   \
	}

int m_bdev_open_on(const char *type, const char *name, const char *params, struct bdev *base,
		   struct blk_dev **ret_dev, struct err *reterr)
{
	if (base->claimed)
		return err_set(reterr, -EPERM,
			       "bdev \"%s\" is claimed by another bdev on it; use that, or delete "
			       "it first",
			       base->name);
	return blk_dev_open_on(type, name, params, base->dev, ret_dev, reterr);
}

/* ---- passthru ---- */

struct passthru {
	char *name, *base, *uuid;
};

static const struct opts_row passthru_create_rows[] = {
	NEEDED(passthru, "name", OPTS_STR, name, "name of the new bdev"),
	NEEDED(passthru, "base_bdev_name", OPTS_STR, base, "the bdev that it is on"),
	ROW(passthru, "uuid", OPTS_STR, uuid, NULL, "UUID; default: random"),
};
static const struct opts_table passthru_create_table = { "bdev_passthru_create",
							 passthru_create_rows,
							 ARRAY_SIZE(passthru_create_rows) };

static void passthru_create(struct rpc_call *call, void *params)
{
	const struct passthru *p = params;
	struct m_bdev_make make = { .kind = &bdev_passthru, .name = p->name, .uuid = p->uuid };
	struct blk_dev *dev;
	struct err err = { 0 };
	int rc = m_bdev_find(p->base, NULL, &make.base, &err);

	if (rc == 0)
		rc = m_bdev_open_on("passthru", p->name, NULL, make.base, &dev, &err);
	if (rc < 0) {
		rpc_fail(call, rc, &err);
		return;
	}
	make.params = m_bdev_params(call, &passthru_create_table);
	m_bdev_add_answer(call, &make, dev);
}

static void passthru_delete(struct rpc_call *call, void *params)
{
	m_bdev_delete_answer(call, ((struct m_bdev_name *)params)->name, &bdev_passthru);
}

static void passthru_describe(const struct bdev *bdev, json_t *driver_specific)
{
	json_object_set_new(
		driver_specific, "passthru",
		json_pack("{s:s, s:s}", "name", bdev->name, "base_bdev_name", bdev->base->name));
}

/* ---- delay ---- */

/* In the order of enum blk_delay. */
static const char *const delay_keys[] = {
	"avg_read_latency",
	"p99_read_latency",
	"avg_write_latency",
	"p99_write_latency",
};
static const char *const delay_types[] = { "avg_read", "p99_read", "avg_write", "p99_write", NULL };

struct delay {
	char *name, *base, *uuid;
	uint64_t us[BLK_DELAY_COUNT];
};

#define LATENCY_ROW(key, which, text)                                                              \
	{                                                                                          \
		.name = key, .type = OPTS_U64, .offset = offsetof(struct delay, us[which]),        \
		.max = BLK_DELAY_MAX_US, .help = text, .required = true                            \
	}
static const struct opts_row delay_create_rows[] = {
	NEEDED(delay, "name", OPTS_STR, name, "name of the new bdev"),
	NEEDED(delay, "base_bdev_name", OPTS_STR, base, "the bdev that it is on"),
	LATENCY_ROW("avg_read_latency", BLK_DELAY_AVG_READ, "added to each read; microseconds"),
	LATENCY_ROW("p99_read_latency", BLK_DELAY_P99_READ,
		    "added to each hundredth read instead; microseconds"),
	LATENCY_ROW("avg_write_latency", BLK_DELAY_AVG_WRITE, "added to each write; microseconds"),
	LATENCY_ROW("p99_write_latency", BLK_DELAY_P99_WRITE,
		    "added to each hundredth write instead; microseconds"),
	ROW(delay, "uuid", OPTS_STR, uuid, NULL, "UUID; default: random"),
};
static const struct opts_table delay_create_table = { "bdev_delay_create", delay_create_rows,
						      ARRAY_SIZE(delay_create_rows) };

static int delay_check(const struct delay *p, struct err *reterr)
{
	for (int i = 0; i < BLK_DELAY_COUNT; i += 2)
		if (p->us[i + 1] < p->us[i])
			return err_set(reterr, -EINVAL, "%s: expected at least %s, %llu, got %llu",
				       delay_keys[i + 1], delay_keys[i],
				       (unsigned long long)p->us[i],
				       (unsigned long long)p->us[i + 1]);
	return 0;
}

static void delay_create(struct rpc_call *call, void *params)
{
	const struct delay *p = params;
	struct m_bdev_make make = { .kind = &bdev_delay, .name = p->name, .uuid = p->uuid };
	struct blk_dev *dev = NULL;
	struct err err = { 0 };
	int rc = delay_check(p, &err);

	if (rc == 0)
		rc = m_bdev_find(p->base, NULL, &make.base, &err);
	if (rc == 0)
		rc = m_bdev_open_on("delay", p->name, NULL, make.base, &dev, &err);
	for (int i = 0; rc == 0 && i < BLK_DELAY_COUNT; i++)
		rc = blk_delay_set(dev, (enum blk_delay)i, p->us[i], &err);
	if (rc < 0) {
		blk_dev_unref(dev);
		rpc_fail(call, rc, &err);
		return;
	}
	make.params = m_bdev_params(call, &delay_create_table);
	m_bdev_add_answer(call, &make, dev);
}

static void delay_delete(struct rpc_call *call, void *params)
{
	m_bdev_delete_answer(call, ((struct m_bdev_name *)params)->name, &bdev_delay);
}

struct delay_update {
	char *name;
	int type;
	uint64_t us;
};

static const struct opts_row delay_update_latency_rows[] = {
	NEEDED(delay_update, "delay_bdev_name", OPTS_STR, name, "name or UUID of a delay bdev"),
	{ .name = "latency_type",
	  .type = OPTS_ENUM,
	  .offset = offsetof(struct delay_update, type),
	  .names = delay_types,
	  .help = "avg_read, p99_read, avg_write or p99_write",
	  .required = true },
	{ .name = "latency_us",
	  .type = OPTS_U64,
	  .offset = offsetof(struct delay_update, us),
	  .max = BLK_DELAY_MAX_US,
	  .help = "microseconds",
	  .required = true },
};
static const struct opts_table delay_update_latency_table = {
	"bdev_delay_update_latency", delay_update_latency_rows,
	ARRAY_SIZE(delay_update_latency_rows)
};

static void delay_update_latency(struct rpc_call *call, void *params)
{
	const struct delay_update *p = params;
	struct err err = { 0 };
	struct bdev *bdev;
	int rc = m_bdev_find(p->name, &bdev_delay, &bdev, &err);

	if (rc == 0)
		rc = blk_delay_set(m_bdev_node(bdev), (enum blk_delay)p->type, p->us, &err);
	if (rc < 0) {
		rpc_fail(call, rc, &err);
		return;
	}
	json_object_set_new(m_bdev_of(bdev)->params, delay_keys[p->type],
			    json_integer((json_int_t)p->us));
	m_bdev_changed(bdev);
	rpc_result_saved(call, json_true());
}

static void delay_describe(const struct bdev *bdev, json_t *driver_specific)
{
	json_t *o = json_pack("{s:s, s:s}", "name", bdev->name, "base_bdev_name", bdev->base->name);

	for (int i = 0; i < BLK_DELAY_COUNT; i++)
		json_object_set_new(o, delay_keys[i],
				    json_integer((json_int_t)blk_delay_get(m_bdev_node(bdev),
									   (enum blk_delay)i)));
	json_object_set_new(driver_specific, "delay", o);
}

/* ---- error ---- */

struct error_create {
	char *base, *uuid;
};

static const struct opts_row error_create_rows[] = {
	NEEDED(error_create, "base_name", OPTS_STR, base,
	       "the bdev that it is on; its own name is EE_ and this"),
	ROW(error_create, "uuid", OPTS_STR, uuid, NULL, "UUID; default: random"),
};
static const struct opts_table error_create_table = { "bdev_error_create", error_create_rows,
						      ARRAY_SIZE(error_create_rows) };

static void error_create(struct rpc_call *call, void *params)
{
	const struct error_create *p = params;
	struct m_bdev_make make = { .kind = &bdev_error, .uuid = p->uuid };
	struct blk_dev *dev;
	char name[512];
	struct err err = { 0 };
	int rc = m_bdev_find(p->base, NULL, &make.base, &err);

	if (rc == 0) {
		snprintf(name, sizeof(name), "EE_%s", make.base->name);
		rc = m_bdev_open_on("error", name, NULL, make.base, &dev, &err);
	}
	if (rc == 0) {
		make.name = name;
		make.params = m_bdev_params(call, &error_create_table);
		rc = m_bdev_add(&make, dev, NULL, &err);
	}
	if (rc < 0)
		rpc_fail(call, rc, &err);
	else
		rpc_result_saved(call, json_true());
}

static void error_delete(struct rpc_call *call, void *params)
{
	m_bdev_delete_answer(call, ((struct m_bdev_name *)params)->name, &bdev_error);
}

static const char *const error_io_types[] = { "clear", "read", "write", "unmap",
					      "flush", "all",  NULL };
static const uint32_t error_masks[] = {
	0, 1u << BLK_READ, 1u << BLK_WRITE, 1u << BLK_DISCARD, 1u << BLK_FLUSH, BLK_ERROR_ALL
};
static const char *const error_types[] = { "failure", "pending",      "corrupt_data",
					   "nomem",   "nvme_failure", NULL };

struct error_inject {
	char *name;
	int io_type, error_type;
	uint32_t num, nvme_sct, nvme_sc;
	uint64_t queue_depth, corrupt_offset;
	uint32_t corrupt_value;
};

static const struct opts_row error_inject_error_rows[] = {
	NEEDED(error_inject, "name", OPTS_STR, name, "name or UUID of an error bdev"),
	{ .name = "io_type",
	  .type = OPTS_ENUM,
	  .offset = offsetof(struct error_inject, io_type),
	  .names = error_io_types,
	  .help = "clear, read, write, unmap, flush or all",
	  .required = true },
	{ .name = "error_type",
	  .type = OPTS_ENUM,
	  .offset = offsetof(struct error_inject, error_type),
	  .names = error_types,
	  .help = "failure, pending, corrupt_data, nomem or nvme_failure",
	  .required = true },
	ROW(error_inject, "num", OPTS_U32, num, "1", "of so many requests"),
	{ .name = "queue_depth",
	  .type = OPTS_U64,
	  .offset = offsetof(struct error_inject, queue_depth),
	  .max = UINT32_MAX,
	  .help = "of requests that find so many others in flight" },
	ROW(error_inject, "corrupt_offset", OPTS_U64, corrupt_offset, NULL,
	    "which byte of the request"),
	{ .name = "corrupt_value",
	  .type = OPTS_U32,
	  .offset = offsetof(struct error_inject, corrupt_value),
	  .max = 255,
	  .help = "what it is XORed with, 1 to 255" },
	{ .name = "nvme_sct",
	  .type = OPTS_U32,
	  .offset = offsetof(struct error_inject, nvme_sct),
	  .max = 7,
	  .def = "0",
	  .help = "of nvme_failure: status code type that an NVMe host is told; others: I/O "
		  "error" },
	{ .name = "nvme_sc",
	  .type = OPTS_U32,
	  .offset = offsetof(struct error_inject, nvme_sc),
	  .max = 255,
	  .def = "0",
	  .help = "of nvme_failure: status code" },
};
static const struct opts_table error_inject_error_table = { "bdev_error_inject_error",
							    error_inject_error_rows,
							    ARRAY_SIZE(error_inject_error_rows) };

static void error_inject_error(struct rpc_call *call, void *params)
{
	const struct error_inject *p = params;
	const struct blk_error_injection injection = {
		.kind = (enum blk_error_kind)p->error_type,
		.op_mask = p->error_type == BLK_ERROR_CORRUPT &&
					   error_masks[p->io_type] == BLK_ERROR_ALL
				   ? 1u << BLK_READ | 1u << BLK_WRITE
				   : error_masks[p->io_type],
		.num = p->num,
		.queue_depth = (uint32_t)p->queue_depth,
		.corrupt_offset = p->corrupt_offset,
		.corrupt_value = (uint8_t)p->corrupt_value,
		.nvme_sct = (uint8_t)p->nvme_sct,
		.nvme_sc = (uint8_t)p->nvme_sc,
	};
	struct err err = { 0 };
	struct bdev *bdev;
	int rc = m_bdev_find(p->name, &bdev_error, &bdev, &err);

	if (rc == 0 && !injection.op_mask)
		blk_error_clear(m_bdev_node(bdev));
	else if (rc == 0)
		rc = blk_error_inject(m_bdev_node(bdev), &injection, &err);
	if (rc < 0)
		rpc_fail(call, rc, &err);
	else
		rpc_result_true(call);
}

static const struct opts_table error_resume_pending_table =
	M_BDEV_NAME_TABLE("bdev_error_resume_pending");

static void error_resume_pending(struct rpc_call *call, void *params)
{
	struct err err = { 0 };
	struct bdev *bdev;
	int rc = m_bdev_find(((struct m_bdev_name *)params)->name, &bdev_error, &bdev, &err);

	if (rc < 0) {
		rpc_fail(call, rc, &err);
		return;
	}
	blk_error_resume(m_bdev_node(bdev));
	rpc_result_true(call);
}

static void error_describe(const struct bdev *bdev, json_t *driver_specific)
{
	json_object_set_new(
		driver_specific, "error_disk",
		json_pack("{s:s, s:s}", "name", bdev->name, "base_bdev", bdev->base->name));
}

/* Nothing else would end what it holds back. */
static void error_leave(struct bdev *bdev)
{
	blk_error_clear(m_bdev_node(bdev));
	blk_error_resume(m_bdev_node(bdev));
}

const struct bdev_kind bdev_passthru = {
	.product = "passthru",
	.create = "bdev_passthru_create",
	.remove = "bdev_passthru_delete",
	.name_key = "name",
	.saves_uuid = true,
	.describe = passthru_describe,
};
const struct bdev_kind bdev_delay = {
	.product = "delay",
	.create = "bdev_delay_create",
	.remove = "bdev_delay_delete",
	.name_key = "name",
	.saves_uuid = true,
	.describe = delay_describe,
};
const struct bdev_kind bdev_error = {
	.product = "Error Injection Disk",
	.create = "bdev_error_create",
	.remove = "bdev_error_delete",
	.saves_uuid = true,
	.describe = error_describe,
	.leave = error_leave,
};

static const struct opts_table passthru_delete_table = M_BDEV_NAME_TABLE("bdev_passthru_delete");
static const struct opts_table delay_delete_table = M_BDEV_NAME_TABLE("bdev_delay_delete");
static const struct opts_table error_delete_table = M_BDEV_NAME_TABLE("bdev_error_delete");

#define METHOD(fn, old, bits, shape, text, answer)                                                 \
	{                                                                                          \
		.name = "bdev_" #fn, .alias = old, .params = &fn##_table,                          \
		.params_bytes = sizeof(struct shape), .flags = bits, .run = fn, .help = text,      \
		.result = answer                                                                   \
	}

const struct rpc_method m_bdev_filter[] = {
	METHOD(passthru_create, "construct_passthru_bdev", RPC_SAVES, passthru,
	       "makes a bdev that does what another does", "name"),
	METHOD(passthru_delete, "delete_passthru_bdev", RPC_SAVES, m_bdev_name,
	       "deletes a passthru bdev", "true"),
	METHOD(delay_create, NULL, RPC_SAVES, delay, "makes a bdev that answers later than another",
	       "name"),
	METHOD(delay_delete, NULL, RPC_SAVES, m_bdev_name, "deletes a delay bdev", "true"),
	METHOD(delay_update_latency, NULL, RPC_SAVES, delay_update,
	       "changes a latency of a delay bdev", "true"),
	METHOD(error_create, "construct_error_bdev", RPC_SAVES, error_create,
	       "makes a bdev that fails requests of another when told to", "true"),
	METHOD(error_delete, "delete_error_bdev", RPC_SAVES, m_bdev_name, "deletes an error bdev",
	       "true"),
	METHOD(error_inject_error, NULL, 0, error_inject,
	       "lets the next requests of an error bdev fail, wait or be corrupted", "true"),
	METHOD(error_resume_pending, NULL, 0, m_bdev_name,
	       "lets what an error bdev holds back go on", "true"),
	{ NULL },
};
