/* Parts of bdevs: bdev_split_*, and partitions of a GPT, which bdev_examine finds. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "blk/filter/gpt.h"
#include "blk/filter/part.h"
#include "mgmt/framework.h"
#include "mgmt/m_bdev.h"
#include "mgmt/tables.h"

/* m_bdev.own of a part. */
struct part {
	uint64_t start_bytes;
	bool gpt;
	char type[TEXT_UUID_BYTES], unique[TEXT_UUID_BYTES], name[GPT_NAME_BYTES];
};

static json_int_t start_blocks(const struct bdev *bdev)
{
	const struct part *part = m_bdev_of(bdev)->own;

	return (json_int_t)(part->start_bytes / blk_dev_caps(bdev->dev)->block_bytes);
}

/* A reference of its own; -ENOMEM. params: of the first part; NULL: made along with that. */
static int part_add(const struct bdev_kind *kind, struct bdev *base, const char *name,
		    const char *uuid, const struct part *part, uint64_t bytes, json_t *params,
		    struct err *reterr)
{
	struct m_bdev_make make = {
		.kind = kind,
		.name = name,
		.uuid = uuid,
		.base = base,
		.part = true,
		.params = params ? params : json_object(),
		.own = malloc(sizeof(*part)),
	};
	struct blk_dev *dev;
	int rc = make.own ? 0 : err_set(reterr, -ENOMEM, "out of memory");

	if (rc == 0)
		rc = blk_part_open(base->dev, name, part->start_bytes, bytes, &dev, reterr);
	if (rc < 0) {
		json_decref(make.params);
		free(make.own);
		return rc;
	}
	memcpy(make.own, part, sizeof(*part));
	return m_bdev_add(&make, dev, NULL, reterr);
}

/* ---- split ---- */

struct split {
	char *base;
	uint32_t count;
	uint64_t size_mb;
};

static const struct opts_row split_create_rows[] = {
	{ "base_bdev", OPTS_STR, offsetof(struct split, base),
	  .help = "name or UUID of the bdev to be divided", .required = true },
	{ "split_count", OPTS_U32, offsetof(struct split, count), .help = "into so many parts",
	  .required = true },
	{ .name = "split_size_mb",
	  .type = OPTS_U64,
	  .offset = offsetof(struct split, size_mb),
	  .max = INT64_MAX >> 20,
	  .def = "0",
	  .help = "of so many MiB each; 0: as large as they can be" },
};
static const struct opts_table split_create_table = { "bdev_split_create", split_create_rows,
						      ARRAY_SIZE(split_create_rows) };

/* The same for the same part of the same bdev, so that a disk on it stays what it was. */
static void part_uuid(const struct bdev *base, uint32_t i, char text[TEXT_UUID_BYTES])
{
	uint8_t uuid[16];
	char seed[TEXT_UUID_BYTES + 16];
	uint64_t hash[2];
	size_t len;

	text_uuid(base->uuid, seed);
	len = strlen(seed);
	snprintf(seed + len, sizeof(seed) - len, "/%u", i);
	hash[0] = text_hash(TEXT_HASH_START, seed);
	hash[1] = text_hash(hash[0], seed);
	memcpy(uuid, hash, sizeof(uuid));
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x80); /* RFC 9562, 5.8 */
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
	text_uuid(uuid, text);
}

static bool is_part_of(const struct bdev *bdev, const struct bdev *base,
		       const struct bdev_kind *kind)
{
	return bdev->base == base && m_bdev_of(bdev)->kind == kind;
}

static struct bdev *part_next(struct bdev *prev, const struct bdev *base,
			      const struct bdev_kind *kind)
{
	struct bdev *bdev = bdev_next(prev);

	while (bdev && !is_part_of(bdev, base, kind))
		bdev = bdev_next(bdev);
	return bdev;
}

/* A deletion of all parts of a kind; then either true is answered, or what went wrong. */
struct parts_delete {
	struct rpc_call *call;
	uint32_t left;
	int rc;
	struct err err;
};

static void parts_deleted(void *arg, int rc)
{
	struct parts_delete *d = arg;

	if (rc < 0 && !d->rc) {
		d->rc = rc;
		err_set(&d->err, rc, "base_bdev: a part of it has bdevs on it; delete those first");
	}
	if (--d->left)
		return;
	if (d->rc < 0)
		rpc_fail(d->call, d->rc, &d->err);
	else
		rpc_result_saved(d->call, json_true());
	free(d);
}

/* err: why, or NULL when nothing went wrong. */
static void parts_delete(struct rpc_call *call, struct bdev *base, const struct bdev_kind *kind,
			 const struct err *err)
{
	struct parts_delete *d = calloc(1, sizeof(*d));
	struct bdev *bdev = part_next(NULL, base, kind), *next;

	if (!d) {
		rpc_error(call, RPC_INTERNAL_ERROR, "out of memory");
		return;
	}
	d->call = call;
	d->left = 1;
	if (err) {
		d->rc = err->code;
		d->err = *err;
	}
	for (; bdev; bdev = next) {
		next = part_next(bdev, base, kind);
		d->left++;
		bdev_delete(bdev, parts_deleted, d);
	}
	parts_deleted(d, 0);
}

static int split_add(struct bdev *base, uint32_t i, uint64_t part_bytes, json_t *params,
		     json_t *names, struct err *reterr)
{
	const struct part part = { .start_bytes = i * part_bytes };
	char name[300], uuid[TEXT_UUID_BYTES];
	int rc;

	snprintf(name, sizeof(name), "%sp%u", base->name, i);
	part_uuid(base, i, uuid);
	rc = part_add(&bdev_split, base, name, uuid, &part, part_bytes, params, reterr);
	if (rc == 0)
		json_array_append_new(names, json_string(name));
	return rc;
}

static void split_create(struct rpc_call *call, void *params)
{
	const struct split *p = params;
	struct err err = { 0 };
	uint64_t part_bytes = 0;
	struct bdev *base;
	uint32_t count = 0;
	json_t *names = json_array();
	int rc = m_bdev_find(p->base, NULL, &base, &err);

	if (rc == 0 && base->claimed)
		rc = err_set(&err, base->parts ? -EEXIST : -EPERM,
			     "base_bdev: \"%s\" is %s already", base->name,
			     base->parts ? "divided" : "claimed by a bdev on it");
	if (rc == 0 && !p->count)
		rc = err_set(&err, -EINVAL, "split_count: expected 1..%u, got 0", BLK_SPLIT_MAX);
	if (rc == 0)
		rc = blk_split_plan(base->dev, p->count, p->size_mb << 20, &count, &part_bytes,
				    &err);
	if (rc < 0) {
		json_decref(names);
		rpc_fail(call, rc, &err);
		return;
	}
	for (uint32_t i = 0; rc == 0 && i < count; i++)
		rc = split_add(base, i, part_bytes,
			       i ? NULL : m_bdev_params(call, &split_create_table), names, &err);
	if (rc == 0) {
		rpc_result_saved(call, names);
		return;
	}
	json_decref(names);
	parts_delete(call, base, &bdev_split, &err);
}

struct split_delete {
	char *base;
};

static const struct opts_row split_delete_rows[] = {
	{ "base_bdev", OPTS_STR, offsetof(struct split_delete, base),
	  .help = "name or UUID of the divided bdev", .required = true },
};
static const struct opts_table split_delete_table = { "bdev_split_delete", split_delete_rows,
						      ARRAY_SIZE(split_delete_rows) };

static void split_delete(struct rpc_call *call, void *params)
{
	const struct split_delete *p = params;
	struct err err = { 0 };
	struct bdev *base;
	int rc = m_bdev_find(p->base, NULL, &base, &err);

	if (rc == 0 && !part_next(NULL, base, &bdev_split))
		rc = err_set(&err, -ENOENT, "base_bdev: \"%s\" was not divided", base->name);
	for (struct bdev *b = rc == 0 ? part_next(NULL, base, &bdev_split) : NULL; b;
	     b = part_next(b, base, &bdev_split))
		if (b->claimed)
			rc = err_set(&err, -EBUSY,
				     "base_bdev: a bdev is on its part \"%s\"; delete that first",
				     b->name);
	if (rc < 0)
		rpc_fail(call, rc, &err);
	else
		parts_delete(call, base, &bdev_split, NULL);
}

static void split_describe(const struct bdev *bdev, json_t *driver_specific)
{
	json_object_set_new(driver_specific, "split",
			    json_pack("{s:s, s:I}", "base_bdev", bdev->base->name, "offset_blocks",
				      start_blocks(bdev)));
}

/* ---- GPT ---- */

static uint32_t examining;

/* Calls of bdev_wait_for_examine, until nothing is being examined. */
static struct waiting {
	struct waiting *next;
	struct rpc_call *call;
} * waiting;

/* One look at a bdev. */
struct examination {
	struct blk_dev *handle;
	struct rpc_call *call; /* NULL: a new bdev is looked at on our own */
	char *name;	       /* as bdev_examine was given it */
};

static void examination_end(struct examination *e)
{
	struct waiting *w;

	blk_dev_unref(e->handle);
	free(e->name);
	free(e);
	if (--examining)
		return;
	while ((w = waiting)) {
		waiting = w->next;
		rpc_result_true(w->call);
		free(w);
	}
}

static void partition_add(struct bdev *base, const struct gpt_part *found, const char *examined,
			  bool first)
{
	struct part part = { .start_bytes = found->start_bytes, .gpt = true };
	json_t *params = first ? json_pack("{s:s}", "name", examined) : NULL;
	struct err err = { 0 };
	char name[300];

	text_uuid(found->type, part.type);
	text_uuid(found->unique, part.unique);
	snprintf(part.name, sizeof(part.name), "%s", found->name);
	snprintf(name, sizeof(name), "%sp%u", base->name, found->number);
	/* One that cannot be shown does not take the others away. */
	if (part_add(&bdev_gpt, base, name, part.unique, &part, found->length_bytes, params, &err) <
	    0)
		log_warning("bdev %s: partition %u: %s", base->name, found->number, err.msg);
}

static void on_gpt(void *arg, int rc, const struct gpt_table *table, const struct err *err)
{
	struct examination *e = arg;
	struct bdev *base = bdev_of(e->handle);

	if (rc == 0 && base && !base->claimed)
		for (uint32_t i = 0; i < table->count; i++)
			partition_add(base, &table->parts[i], e->name ? e->name : base->name,
				      !part_next(NULL, base, &bdev_gpt));
	if (!e->call) {
		if (rc < 0 && rc != -ENOENT && base)
			log_warning("bdev %s: %s", base->name, err->msg);
	} else if (!base) {
		rpc_error(e->call, -ENODEV, "name: the bdev was deleted meanwhile");
	} else if (rc < 0 && rc != -ENOENT) {
		rpc_fail(e->call, rc, err);
	} else {
		rpc_result_saved(e->call, json_true());
	}
	examination_end(e);
}

/* Takes the call over when it returns 0. */
static int examine_start(struct bdev *bdev, struct rpc_call *call, const char *name,
			 struct err *reterr)
{
	struct loop *loop = framework_get()->main_loop;
	struct examination *e = calloc(1, sizeof(*e));
	int rc;

	if (!e)
		return err_set(reterr, -ENOMEM, "out of memory");
	e->handle = blk_dev_ref(bdev->dev);
	e->call = call;
	e->name = name ? strdup(name) : NULL;
	examining++;
	rc = blk_gpt_read(bdev->dev, loop, on_gpt, e, reterr);
	if (rc < 0)
		examination_end(e);
	return rc;
}

static void on_event(struct bdev_watcher *watcher, struct bdev *bdev, enum bdev_event event)
{
	if (event == BDEV_ADDED && m_bdev_of(bdev)->kind != &bdev_gpt)
		examine_start(bdev, NULL, NULL, NULL);
}

static bool auto_examine;

void m_bdev_auto_examine_set(bool on)
{
	static struct bdev_watcher watcher = { .fn = on_event };

	if (on && !auto_examine)
		bdev_watch(&watcher);
	else if (!on && auto_examine)
		bdev_unwatch(&watcher);
	auto_examine = on;
}

bool m_bdev_auto_examine(void)
{
	return auto_examine;
}

static const struct opts_table examine_table = M_BDEV_NAME_TABLE("bdev_examine");

static void examine(struct rpc_call *call, void *params)
{
	const struct m_bdev_name *p = params;
	struct err err = { 0 };
	struct bdev *bdev;
	int rc = m_bdev_find(p->name, NULL, &bdev, &err);

	if (rc == 0 && bdev->claimed)
		rc = err_set(&err, -EPERM, "name: \"%s\" is claimed by a bdev on it", bdev->name);
	if (rc == 0)
		rc = examine_start(bdev, call, p->name, &err);
	if (rc < 0)
		rpc_fail(call, rc, &err);
}

static void wait_for_examine(struct rpc_call *call, void *params)
{
	struct waiting *w;

	if (!examining) {
		rpc_result_true(call);
		return;
	}
	w = malloc(sizeof(*w));
	if (!w) {
		rpc_error(call, RPC_INTERNAL_ERROR, "out of memory");
		return;
	}
	w->call = call;
	w->next = waiting;
	waiting = w;
}

static void gpt_describe(const struct bdev *bdev, json_t *driver_specific)
{
	const struct part *part = m_bdev_of(bdev)->own;

	json_object_set_new(driver_specific, "gpt",
			    json_pack("{s:s, s:I, s:s, s:s, s:s}", "base_bdev", bdev->base->name,
				      "offset_blocks", start_blocks(bdev), "partition_type_guid",
				      part->type, "unique_partition_guid", part->unique,
				      "partition_name", part->name));
}

const struct bdev_kind bdev_split = {
	.product = "Split Disk",
	.create = "bdev_split_create",
	.remove = "bdev_split_delete",
	.describe = split_describe,
};
const struct bdev_kind bdev_gpt = {
	.product = "GPT Disk",
	.create = "bdev_examine",
	.remove = "the method that deletes the bdev it is on",
	.describe = gpt_describe,
};

const struct rpc_method m_bdev_part[] = {
	{ "bdev_split_create", "construct_split_vbdev", &split_create_table, sizeof(struct split),
	  RPC_SAVES, 0, split_create, "divides a bdev into parts of the same size",
	  "[name of each part, ...]" },
	{ "bdev_split_delete", "destruct_split_vbdev", &split_delete_table,
	  sizeof(struct split_delete), RPC_SAVES, 0, split_delete,
	  "deletes the parts of a bdev that bdev_split_create made", "true" },
	{ "bdev_examine", NULL, &examine_table, sizeof(struct m_bdev_name), RPC_SAVES, 0, examine,
	  "looks for a GPT on a bdev, and makes a bdev of each partition", "true" },
	{ "bdev_wait_for_examine", NULL, .flags = RPC_READS, .run = wait_for_examine,
	  .help = "answers when no bdev is being examined", .result = "true" },
	{ NULL },
};
