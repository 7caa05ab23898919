/*
 * bdev_get_bdevs, which may wait for one to appear; bdev_set_options, and examination.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "mgmt/m_bdev.h"
#include "mgmt/tables.h"

/* ---- what is told of a bdev ---- */

/* In blocks; what is no more than one says nothing. */
static json_t *blocks(const struct blk_caps *caps, uint32_t bytes)
{
	return json_integer(bytes > caps->block_bytes ? bytes / caps->block_bytes : 0);
}

static json_t *io_types(const struct bdev *bdev)
{
	const struct blk_caps *c = blk_dev_caps(bdev->dev);
	const bool map = blk_dev_can_map(bdev->dev);
	const struct {
		const char *name;
		bool on;
	} all[] = {
		{ "read", true },
		{ "write", !c->read_only },
		{ "unmap", c->discard },
		{ "flush", true },
		{ "reset", true },
		{ "nvme_admin", false },
		{ "nvme_io", false },
		{ "nvme_io_md", false },
		{ "write_zeroes", c->write_zeroes },
		{ "zcopy", false },
		{ "get_zone_info", false },
		{ "zone_management", false },
		{ "zone_append", false },
		{ "compare", false },
		{ "compare_and_write", false },
		{ "abort", true },
		{ "seek_hole", map },
		{ "seek_data", map },
		{ "copy", false },
		{ "nvme_iov_md", false },
		{ "nvme_nssr", false },
		{ "write_uncorrectable", false },
	};
	json_t *types = json_object();

	for (size_t i = 0; types && i < ARRAY_SIZE(all); i++)
		json_object_set_new(types, all[i].name, json_boolean(all[i].on));
	return types;
}

static void pi_describe(const struct blk_caps *caps, json_t *o)
{
	if (!caps->pi_type)
		return;
	json_object_set_new(o, "md_size", json_integer(BLK_PI_BYTES));
	json_object_set_new(o, "md_interleave", json_false());
	json_object_set_new(o, "dif_type", json_integer(caps->pi_type));
	json_object_set_new(o, "dif_is_head_of_md", json_false());
	json_object_set_new(
		o, "enabled_dif_check_types",
		json_pack("{s:b, s:b, s:b}", "reftag", false, "apptag", false, "guard", false));
	json_object_set_new(o, "dif_pi_format", json_integer(0));
}

static json_t *geometry(const struct bdev *bdev)
{
	const struct blk_caps *c = blk_dev_caps(bdev->dev);
	char uuid[TEXT_UUID_BYTES];

	text_uuid(bdev->uuid, uuid);
	return json_pack("{s:s, s:[s], s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:s}", "name",
			 bdev->name, "aliases", uuid, "product_name", bdev->product, "block_size",
			 (json_int_t)c->block_bytes, "num_blocks",
			 (json_int_t)(c->size_bytes / c->block_bytes), "preferred_write_alignment",
			 blocks(c, c->phys_bytes), "preferred_write_granularity",
			 blocks(c, c->phys_bytes), "optimal_write_size", blocks(c, c->opt_io_bytes),
			 "preferred_unmap_alignment", blocks(c, c->discard_align_bytes),
			 "preferred_unmap_granularity", blocks(c, c->discard_align_bytes), "uuid",
			 uuid);
}

static json_t *describe(const struct bdev *bdev)
{
	const struct bdev_kind *kind = m_bdev_of(bdev)->kind;
	json_t *o = geometry(bdev), *driver = json_object();

	if (kind->in_memory)
		json_object_set_new(o, "numa_id", json_integer(-1));
	pi_describe(blk_dev_caps(bdev->dev), o);
	json_object_set_new(o, "assigned_rate_limits", m_bdev_rate_limits(bdev));
	json_object_set_new(o, "claimed", json_boolean(bdev->claimed || bdev->work));
	if (bdev->claimed || bdev->work)
		json_object_set_new(o, "claim_type", json_string("exclusive_write"));
	if (bdev->incomplete)
		json_object_set_new(o, "incomplete", json_string(bdev->incomplete));
	json_object_set_new(o, "zoned", json_false());
	json_object_set_new(o, "supported_io_types", io_types(bdev));
	if (kind->describe)
		kind->describe(bdev, driver);
	json_object_set_new(o, "driver_specific", driver);
	return o;
}

/* ---- bdev_get_bdevs ---- */

struct get_bdevs {
	char *name;
	uint64_t timeout;
};

static const struct opts_row get_bdevs_rows[] = {
	{ "name", OPTS_STR, offsetof(struct get_bdevs, name), .help = "this one only" },
	{ .name = "timeout",
	  .type = OPTS_U64,
	  .offset = offsetof(struct get_bdevs, timeout),
	  .max = 24 * 3600 * 1000,
	  .def = "0",
	  .help = "milliseconds to wait for it to appear" },
};
static const struct opts_table get_bdevs_table = { "bdev_get_bdevs", get_bdevs_rows,
						   ARRAY_SIZE(get_bdevs_rows) };

/* A call that waits for a bdev. */
struct waiter {
	struct bdev_watcher watcher;
	struct loop_timer timer;
	struct rpc_call *call;
	char *name;
};

static void waiter_free(struct waiter *w)
{
	loop_timer_stop(&w->timer);
	bdev_unwatch(&w->watcher);
	free(w->name);
	free(w);
}

static void waiter_on_bdev(struct bdev_watcher *watcher, struct bdev *bdev, enum bdev_event event)
{
	struct waiter *w = container_of(watcher, struct waiter, watcher);

	if (event != BDEV_ADDED || bdev_find(w->name) != bdev)
		return;
	rpc_result(w->call, json_pack("[o]", describe(bdev)));
	waiter_free(w);
}

static void get_fail(struct rpc_call *call, const char *name)
{
	struct err err = { 0 };
	struct bdev *bdev;
	int rc = m_bdev_find(name, NULL, &bdev, &err);

	rpc_fail(call, rc, &err);
}

static void waiter_on_timeout(struct loop_timer *t)
{
	struct waiter *w = container_of(t, struct waiter, timer);

	get_fail(w->call, w->name);
	waiter_free(w);
}

static void waiter_start(struct rpc_call *call, const struct get_bdevs *p)
{
	struct loop *loop = loop_current();
	struct waiter *w = calloc(1, sizeof(*w));
	char *name = strdup(p->name);

	if (!w || !name) {
		free(w);
		free(name);
		rpc_error(call, RPC_INTERNAL_ERROR, "out of memory");
		return;
	}
	w->call = call;
	w->name = name;
	w->watcher.fn = waiter_on_bdev;
	bdev_watch(&w->watcher);
	loop_timer_init(&w->timer, waiter_on_timeout);
	loop_timer_start(loop, &w->timer, loop_now_ns(loop) + p->timeout * 1000000);
}

static void get_bdevs(struct rpc_call *call, void *params)
{
	const struct get_bdevs *p = params;
	const struct bdev *bdev = p->name ? bdev_find(p->name) : NULL;
	json_t *all;

	if (bdev) {
		rpc_result(call, json_pack("[o]", describe(bdev)));
	} else if (p->name && p->timeout && loop_current()) {
		waiter_start(call, p);
	} else if (p->name) {
		get_fail(call, p->name);
	} else {
		all = json_array();
		while (all && (bdev = bdev_next(bdev)))
			json_array_append_new(all, describe(bdev));
		rpc_result(call, all);
	}
}

/* ---- options and examination ---- */

struct options {
	uint32_t pool, cache, small, large;
	bool auto_examine;
};

#define OPTION(key, kind, field, dflt, text)                                                       \
	{                                                                                          \
		.name = key, .type = kind, .offset = offsetof(struct options, field), .def = dflt, \
		.help = text                                                                       \
	}
static const struct opts_row set_options_rows[] = {
	OPTION("bdev_io_pool_size", OPTS_U32, pool, NULL, "no effect"),
	OPTION("bdev_io_cache_size", OPTS_U32, cache, NULL, "no effect"),
	OPTION("bdev_auto_examine", OPTS_BOOL, auto_examine, "false",
	       "look for partitions on each new bdev"),
	OPTION("iobuf_small_cache_size", OPTS_U32, small, NULL, "no effect"),
	OPTION("iobuf_large_cache_size", OPTS_U32, large, NULL, "no effect"),
};
static const struct opts_table set_options_table = { "bdev_set_options", set_options_rows,
						     ARRAY_SIZE(set_options_rows) };

static void set_options(struct rpc_call *call, void *params)
{
	const struct options *p = params;

	if (rpc_given(call, "bdev_auto_examine"))
		m_bdev_auto_examine_set(p->auto_examine);
	rpc_result_saved(call, json_true());
}

const struct rpc_method m_bdev_get[] = {
	{ "bdev_get_bdevs", "get_bdevs", &get_bdevs_table, sizeof(struct get_bdevs), RPC_READS, 0,
	  get_bdevs, "the bdevs, or one of them, with all that is known of them",
	  "[{name, aliases, product_name, block_size, num_blocks, ...}, ...]" },
	{ "bdev_set_options", "set_bdev_options", &set_options_table, sizeof(struct options),
	  RPC_STARTUP | RPC_SAVES, 0, set_options, "options of all bdevs", "true" },
	{ NULL },
};
