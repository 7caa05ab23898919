/*
 * bdev_* methods that are the same for all kinds: making, finding, deleting, and the section that
 * recreates them all.
 */
#include "mgmt/m_bdev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "mgmt/sections.h"
#include "mgmt/tables.h"

const struct opts_row m_bdev_name_rows[] = {
	{ "name", OPTS_STR, offsetof(struct m_bdev_name, name), .help = "name or UUID of a bdev",
	  .required = true },
};

/* ---- events ---- */

static void on_event(struct bdev_watcher *watcher, struct bdev *bdev, enum bdev_event event)
{
	static const char *const types[] = {
		[BDEV_ADDED] = "bdev_register",
		[BDEV_RESIZED] = "bdev_resize",
		[BDEV_REMOVED] = "bdev_unregister",
	};

	rpc_notify(types[event], bdev->name);
}

static void events_begin(void)
{
	static struct bdev_watcher watcher = { .fn = on_event };

	if (!watcher.node.next)
		bdev_watch(&watcher);
}

/* ---- making and deleting ---- */

static void m_bdev_free(void *origin)
{
	struct m_bdev *m = origin;

	m_bdev_stat_stop(&m->stat);
	m_bdev_hist_stop(&m->stat);
	section_drop(&m->created);
	section_drop(&m->limited);
	section_drop(&m->marked);
	json_decref(m->params);
	free(m->own);
	free(m);
}

int m_bdev_add(const struct m_bdev_make *make, struct blk_dev *dev, struct bdev **ret_bdev,
	       struct err *reterr)
{
	struct m_bdev *m = calloc(1, sizeof(*m));
	uint8_t uuid[16];
	struct bdev_params params = {
		.name = make->name,
		.product = make->kind->product,
		.uuid = make->uuid ? uuid : NULL,
		.base = make->base,
		.part = make->part,
		.origin = m,
		.origin_free = m_bdev_free,
	};
	int rc = m && make->params ? 0 : err_set(reterr, -ENOMEM, "out of memory");
	struct bdev *bdev;

	events_begin();
	if (m) {
		m->kind = make->kind;
		m->params = make->params;
		m->own = make->own;
	}
	if (rc == 0 && make->uuid)
		rc = bdev_uuid_parse(make->uuid, uuid, reterr);
	if (rc < 0)
		blk_dev_unref(dev);
	else
		rc = bdev_add(&params, dev, &bdev, reterr);
	if (rc == 0) {
		blk_dev_named(dev, bdev->name);
		if (ret_bdev)
			*ret_bdev = bdev;
		return 0;
	}
	if (m) {
		m_bdev_free(m);
	} else {
		json_decref(make->params);
		free(make->own);
	}
	return rc;
}

void m_bdev_add_answer(struct rpc_call *call, const struct m_bdev_make *make, struct blk_dev *dev)
{
	struct err err = { 0 };
	struct bdev *bdev;
	int rc = m_bdev_add(make, dev, &bdev, &err);

	if (rc < 0)
		rpc_fail(call, rc, &err);
	else
		rpc_result_saved(call, json_string(bdev->name));
}

int m_bdev_find(const char *name, const struct bdev_kind *kind, struct bdev **ret_bdev,
		struct err *reterr)
{
	struct bdev *bdev = bdev_find(name);
	const struct bdev_kind *found = bdev ? m_bdev_of(bdev)->kind : NULL;

	if (!bdev)
		return err_set(reterr, -ENODEV,
			       "name: there is no bdev \"%s\"; bdev_get_bdevs lists them", name);
	if (kind && kind != found)
		return err_set(reterr, -ENODEV,
			       "name: \"%s\" is a bdev of another kind (%s); use %s", name,
			       bdev->product, found->remove);
	*ret_bdev = bdev;
	return 0;
}

/* A deletion of a bdev and of those on it, one after another, the uppermost first. */
struct deletion {
	struct rpc_call *call;
	struct bdev *bdev, *now;
};

/* One on which there is none, of those on bdev; bdev itself at last. */
static struct bdev *uppermost(struct bdev *bdev)
{
	struct bdev *b = NULL;

	while ((b = bdev_next(b)))
		if (b->base == bdev)
			return uppermost(b);
	return bdev;
}

static void deletion_next(struct deletion *d);

static void on_deleted(void *arg, int rc)
{
	struct deletion *d = arg;

	if (rc == 0 && d->now != d->bdev) {
		deletion_next(d);
		return;
	}
	if (rc < 0)
		rpc_error(d->call, rc,
			  "name: a back-end is being exchanged, or a bdev deleted; try again");
	else
		rpc_result_saved(d->call, json_true());
	free(d);
}

static void deletion_next(struct deletion *d)
{
	d->now = uppermost(d->bdev);
	if (m_bdev_of(d->now)->kind->leave)
		m_bdev_of(d->now)->kind->leave(d->now);
	bdev_delete(d->now, on_deleted, d);
}

void m_bdev_delete_answer(struct rpc_call *call, const char *name, const struct bdev_kind *kind)
{
	struct deletion *d = calloc(1, sizeof(*d));
	struct err err = { 0 };
	int rc = d ? 0 : err_set(&err, -ENOMEM, "out of memory");

	if (rc == 0)
		rc = m_bdev_find(name, kind, &d->bdev, &err);
	if (rc < 0) {
		free(d);
		rpc_fail(call, rc, &err);
		return;
	}
	d->call = call;
	deletion_next(d);
}

/* ---- what recreates them ---- */

json_t *m_bdev_params(const struct rpc_call *call, const struct opts_table *table)
{
	json_t *params = json_object();

	for (size_t i = 0; params && i < table->count; i++) {
		const char *name = table->rows[i].name;
		const json_t *value = rpc_param(call, name);

		if (value && strcmp(name, "uuid") != 0)
			json_object_set_new(params, name, json_deep_copy(value));
	}
	return params;
}

static void write_one(json_t *calls, const void *obj)
{
	const struct bdev *bdev = obj;
	const struct m_bdev *m = m_bdev_of(bdev);
	json_t *params = json_deep_copy(m->params);
	char uuid[TEXT_UUID_BYTES];

	text_uuid(bdev->uuid, uuid);
	if (m->kind->name_key)
		json_object_set_new(params, m->kind->name_key, json_string(bdev->name));
	if (m->kind->saves_uuid)
		json_object_set_new(params, "uuid", json_string(uuid));
	json_array_append_new(calls,
			      json_pack("{s:s, s:o}", "method", m->kind->create, "params", params));
}

static void write_options(json_t *calls, const void *obj)
{
	json_array_append_new(calls, json_pack("{s:s, s:{s:b}}", "method", "bdev_set_options",
					       "params", "bdev_auto_examine", true));
}

void m_bdev_write(struct section_out *out)
{
	if (m_bdev_auto_examine())
		section_object(out, NULL, 0, write_options, NULL);
	/* Parts but the first are made by the call that made the first: no parameters. */
	for (const struct bdev *bdev = bdev_next(NULL); bdev; bdev = bdev_next(bdev))
		if (json_object_size(m_bdev_of(bdev)->params))
			section_object(out, &m_bdev_of(bdev)->created, 0, write_one, bdev);
	for (const struct bdev *bdev = bdev_next(NULL); bdev; bdev = bdev_next(bdev))
		if (m_bdev_of(bdev)->qos)
			section_object(out, &m_bdev_of(bdev)->limited, 0, m_bdev_qos_write, bdev);
	for (const struct bdev *bdev = bdev_next(NULL); bdev; bdev = bdev_next(bdev))
		if (bdev->incomplete)
			section_object(out, &m_bdev_of(bdev)->marked, 0, m_bdev_incomplete_write,
				       bdev);
}
