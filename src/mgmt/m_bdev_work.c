/*
 * bdev_copy and bdev_format: long work on all of a bdev, which it has to itself meanwhile.
 *
 * What is half done is presented to nobody: before the first byte is written the bdev is marked as
 * incomplete, and that is on disk (--state); the mark goes, on disk first, when all is done and
 * flushed. So a copy that failed, was cancelled, or ended with the process leaves a bdev that no
 * device gets, until it is copied to or formatted again, or bdev_set_incomplete says otherwise.
 *
 *   call -> claims, mark --on disk--> answer, blk_bulk --done--> mark taken away --on disk--> the
 * end
 *
 * A source is not copied while somebody may write to it: its devices are drained, or it is
 * read-only. What was written all the same (a device was resumed) is seen by its counters, and the
 * copy fails.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "blk/bulk.h"
#include "dev/devices.h"
#include "mgmt/jobs.h"
#include "mgmt/m_bdev.h"
#include "mgmt/sections.h"
#include "mgmt/state.h"
#include "mgmt/tables.h"

struct bdev_work {
	struct blk_bulk bulk;
	struct loop *loop;
	struct long_job *job;
	struct rpc_call *call;
	struct blk_dev *src, *dst; /* handles; src NULL: a format */
	char *src_name, *dst_name;
	char *before; /* why dst was incomplete, or NULL */
	bool claimed; /* dst: bdev_work_end */
	bool cancelled, begun;
	bool src_fixed; /* nobody can write to it */
	uint64_t src_changes, src_bytes;
	int rc; /* what jobs_end is told */
	struct err err;
};

int m_bdev_incomplete_set(struct bdev *bdev, const char *why, struct err *reterr)
{
	section_drop(&m_bdev_of(bdev)->marked);
	return bdev_incomplete_set(bdev, why, reterr);
}

/* ---- the source ---- */

struct user_look {
	const struct blk_dev *handle;
	bool found;
};

static void user_look(const char *unit, const struct blk_dev *blk, void *arg)
{
	struct user_look *look = arg;

	look->found |= blk == look->handle;
}

static bool device_has(const struct device *dev, const struct blk_dev *handle)
{
	struct user_look look = { .handle = handle };

	device_disks_visit(dev, user_look, &look);
	return look.found;
}

/* Of a device that has a disk, and those that show it with it: controllers of its subsystem. */
static const struct device *device_writer(const struct device *holder)
{
	for (struct device *dev = devices_next(NULL); dev; dev = devices_next(dev))
		if ((dev == holder || (dev->subsys && dev->subsys == holder->subsys)) &&
		    !dev->def->back.read_only && !device_is_drained(dev))
			return dev;
	return NULL;
}

/* A device that may write to it now; NULL: none. */
static const struct device *source_writer(const struct blk_dev *handle)
{
	const struct device *writer = NULL;

	for (struct device *dev = devices_next(NULL); dev && !writer; dev = devices_next(dev))
		if (device_has(dev, handle))
			writer = device_writer(dev);
	return writer;
}

/* May it be copied now? */
static int source_check(const struct bdev *bdev, struct err *reterr)
{
	const struct device *writer;
	int rc = bdev_usable(bdev, reterr);

	if (rc < 0)
		return err_prefix(reterr, rc, "src");
	if (bdev->swapping)
		return err_set(reterr, -EBUSY,
			       "src: the back-end of \"%s\" is being exchanged; try again",
			       bdev->name);
	if (blk_dev_caps(bdev->dev)->read_only)
		return 0;
	if (bdev->claimed)
		return err_set(
			reterr, -EBUSY,
			"src: \"%s\" is claimed by another bdev on it, which may write to it; "
			"copy that, or delete it first",
			bdev->name);
	writer = source_writer(bdev->dev);
	if (writer)
		return err_set(reterr, -EBUSY,
			       "src: the device '%.64s' may write to \"%.64s\"; device_drain it "
			       "first, and device_resume it after the copy",
			       writer->def->name, bdev->name);
	return 0;
}

/* How often it was written to; what is under way is a running writer's. */
static uint64_t source_changes(const struct blk_dev *handle)
{
	struct blk_stats s;

	blk_dev_stats(handle, &s);
	return s.ops[BLK_WRITE] + s.ops[BLK_WRITE_ZEROES] + s.ops[BLK_DISCARD] +
	       s.ops[BLK_SECURE_ERASE];
}

/* Is it still what it was when the copy began? */
static int source_recheck(const struct bdev_work *w, struct err *reterr)
{
	if (!w->src)
		return 0;
	if (blk_dev_caps(w->src)->size_bytes != w->src_bytes)
		return err_set(reterr, -ESTALE,
			       "src: \"%.64s\" got another size meanwhile; copy it again",
			       w->src_name);
	if (!w->src_fixed && (source_changes(w->src) != w->src_changes || source_writer(w->src)))
		return err_set(
			reterr, -ESTALE,
			"src: \"%.64s\" was written to meanwhile: a device of it was resumed or "
			"added; drain it and copy it again",
			w->src_name);
	return 0;
}

/* ---- the end ---- */

static void work_let_go(struct bdev_work *w)
{
	struct bdev *src = w->src ? bdev_of(w->src) : NULL;

	if (src)
		src->copied--;
	if (w->src)
		bdev_release(w->src);
	if (w->claimed)
		bdev_work_end(w->dst);
}

static void work_free(struct bdev_work *w)
{
	free(w->src_name);
	free(w->dst_name);
	free(w->before);
	free(w);
}

static void work_end(struct bdev_work *w)
{
	work_let_go(w); /* first: whoever waits for the end finds the bdevs free */
	jobs_end(w->job, w->rc, &w->err);
	work_free(w);
}

static void work_on_unmarked(void *arg, bool saved)
{
	struct bdev_work *w = arg;

	if (!saved)
		w->rc = err_set(
			&w->err, -EIO,
			"\"%.64s\": all was written, but the state could not be: it would be "
			"incomplete after a restart",
			w->dst_name);
	work_end(w);
}

static uint64_t work_done_bytes(void *arg)
{
	struct bdev_work *w = arg;

	return atomic_load_explicit(&w->bulk.done_bytes, memory_order_relaxed);
}

static int work_result(const struct bdev_work *w, struct err *reterr)
{
	const struct blk_bulk *b = &w->bulk;

	if (b->status == BLK_ST_OK)
		return source_recheck(w, reterr);
	if (w->cancelled)
		return -ECANCELED;
	return err_set(reterr, -EIO, "%s \"%.64s\": %s at byte %llu: %s",
		       b->read_failed ? "src:"
		       : w->src	      ? "dst:"
				      : "name:",
		       b->read_failed ? w->src_name : w->dst_name, b->failed,
		       (unsigned long long)b->at_bytes,
		       b->status == BLK_ST_GONE ? "it was deleted meanwhile"
						: blk_status_name(b->status));
}

static void work_on_done(struct blk_bulk *bulk)
{
	struct bdev_work *w = container_of(bulk, struct bdev_work, bulk);
	struct bdev *dst = bdev_of(w->dst);

	w->rc = work_result(w, &w->err);
	if (w->rc < 0 || !dst) {
		work_end(w);
		return;
	}
	m_bdev_incomplete_set(dst, NULL, NULL);
	state_changed(work_on_unmarked, w);
}

static void work_cancel(void *arg)
{
	struct bdev_work *w = arg;

	w->cancelled = true;
	if (w->begun)
		blk_bulk_stop(&w->bulk);
}

/* ---- the beginning ---- */

/* The mark is not on disk: nothing is begun. */
static void work_unsaved(struct bdev_work *w)
{
	struct bdev *dst = bdev_of(w->dst);
	struct rpc_call *call = w->call;
	struct err err;

	if (dst)
		m_bdev_incomplete_set(dst, w->before, NULL);
	w->rc = err_set(&w->err, -EIO, "\"%.64s\": the state cannot be written; nothing was begun",
			w->dst_name);
	err = w->err;
	work_end(w);
	rpc_fail(call, -EIO, &err);
}

/* From here bytes may change. */
static void work_on_marked(void *arg, bool saved)
{
	struct bdev_work *w = arg;

	if (!saved) {
		work_unsaved(w);
		return;
	}
	w->begun = true;
	w->bulk.src = w->src;
	w->bulk.dst = w->dst;
	w->bulk.bytes = w->src ? w->src_bytes : blk_dev_caps(w->dst)->size_bytes;
	w->bulk.done = work_on_done;
	w->src_changes = w->src ? source_changes(w->src) : 0;
	blk_bulk_start(&w->bulk, w->loop);
	if (w->cancelled)
		blk_bulk_stop(&w->bulk);
	rpc_result(w->call, jobs_json(w->job));
}

static int work_job_begin(struct bdev_work *w, enum job_kind kind, struct bdev *dst,
			  struct err *reterr)
{
	const struct jobs_params params = {
		.kind = kind,
		.name = w->dst_name,
		.source = w->src_name,
		.total_bytes = w->src ? w->src_bytes : blk_dev_caps(w->dst)->size_bytes,
		.done_bytes = work_done_bytes,
		.cancel = work_cancel,
		.arg = w,
	};
	char why[ERR_MSG_MAX];
	int rc;

	w->before = dst->incomplete ? strdup(dst->incomplete) : NULL;
	snprintf(why, sizeof(why), "%s%s%.255s", job_kind_names[kind], w->src ? " of " : "",
		 w->src ? w->src_name : "");
	rc = m_bdev_incomplete_set(dst, why, reterr);
	if (rc == 0)
		rc = jobs_begin(&params, &w->job, reterr);
	if (rc < 0)
		m_bdev_incomplete_set(dst, w->before, NULL);
	return rc;
}

static int work_source(struct bdev_work *w, struct bdev *src, const struct bdev *dst,
		       struct err *reterr)
{
	int rc = src == dst ? err_set(reterr, -EINVAL, "dst: expected another bdev than src")
			    : source_check(src, reterr);

	if (rc == 0)
		rc = blk_bulk_check(src->dev, dst->dev, reterr);
	if (rc < 0)
		return rc;
	w->src_name = strdup(src->name);
	if (!w->src_name)
		return err_set(reterr, -ENOMEM, "out of memory");
	w->src = bdev_hold(src);
	src->copied++;
	w->src_fixed = blk_dev_caps(src->dev)->read_only;
	w->src_bytes = blk_dev_caps(src->dev)->size_bytes;
	return 0;
}

static int work_prepare(struct bdev_work *w, enum job_kind kind, struct bdev *src, struct bdev *dst,
			struct err *reterr)
{
	int rc = src ? work_source(w, src, dst, reterr) : 0;

	if (rc == 0 && blk_dev_caps(dst->dev)->read_only)
		rc = err_set(reterr, -EROFS, "name: \"%s\" is read-only", dst->name);
	if (rc == 0 && !(w->dst_name = strdup(dst->name)))
		rc = err_set(reterr, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = jobs_loop(&w->loop, reterr);
	if (rc < 0)
		return rc;
	rc = bdev_work_begin(dst, job_kind_names[kind], &w->dst, reterr);
	if (rc < 0)
		return err_prefix(reterr, rc, src ? "dst" : "name");
	w->claimed = true;
	return work_job_begin(w, kind, dst, reterr);
}

static void work_begin(struct rpc_call *call, enum job_kind kind, struct bdev *src,
		       struct bdev *dst)
{
	struct bdev_work *w = calloc(1, sizeof(*w));
	struct err err = { 0 };
	int rc =
		w ? work_prepare(w, kind, src, dst, &err) : err_set(&err, -ENOMEM, "out of memory");

	if (rc < 0) {
		if (w) {
			work_let_go(w);
			work_free(w);
		}
		rpc_fail(call, rc, &err);
		return;
	}
	w->call = call;
	state_changed(work_on_marked, w);
}

/* ---- the methods ---- */

struct copy {
	char *src, *dst;
};

static const struct opts_row copy_rows[] = {
	{ "src", OPTS_STR, offsetof(struct copy, src),
	  .help = "name or UUID of a bdev that nobody may write to: its devices are drained, or it "
		  "is read-only",
	  .required = true },
	{ "dst", OPTS_STR, offsetof(struct copy, dst),
	  .help = "name or UUID of a bdev that nobody uses, at least as large", .required = true },
};
static const struct opts_table copy_table = { "bdev_copy", copy_rows, ARRAY_SIZE(copy_rows) };

static void copy(struct rpc_call *call, void *params)
{
	const struct copy *p = params;
	struct bdev *src, *dst;
	struct err err = { 0 };
	int rc = m_bdev_find(p->src, NULL, &src, &err);

	if (rc == 0)
		rc = m_bdev_find(p->dst, NULL, &dst, &err);
	if (rc < 0)
		rpc_fail(call, rc, &err);
	else
		work_begin(call, JOB_COPY, src, dst);
}

static void format(struct rpc_call *call, void *params)
{
	struct err err = { 0 };
	struct bdev *bdev;
	int rc = m_bdev_find(((struct m_bdev_name *)params)->name, NULL, &bdev, &err);

	if (rc < 0)
		rpc_fail(call, rc, &err);
	else
		work_begin(call, JOB_FORMAT, NULL, bdev);
}

struct set_incomplete {
	char *name, *reason;
	bool incomplete;
};

static const struct opts_row set_incomplete_rows[] = {
	{ "name", OPTS_STR, offsetof(struct set_incomplete, name), .help = "name or UUID of a bdev",
	  .required = true },
	{ "incomplete", OPTS_BOOL, offsetof(struct set_incomplete, incomplete), .def = "false",
	  .help = "true: devices and other bdevs do not get it; false: it is taken as it is" },
	{ "reason", OPTS_STR, offsetof(struct set_incomplete, reason), .def = "work on it",
	  .help = "what did not come to its end, for messages" },
};
static const struct opts_table set_incomplete_table = { "bdev_set_incomplete", set_incomplete_rows,
							ARRAY_SIZE(set_incomplete_rows) };

static void set_incomplete(struct rpc_call *call, void *params)
{
	const struct set_incomplete *p = params;
	struct err err = { 0 };
	struct bdev *bdev;
	int rc = m_bdev_find(p->name, NULL, &bdev, &err);

	if (rc == 0 && bdev->work)
		rc = err_prefix(&err, bdev_usable(bdev, &err), "name");
	else if (rc == 0 && p->incomplete && (bdev->users || bdev->claimed))
		rc = err_set(&err, -EBUSY, "name: \"%s\" is used; let that go first", bdev->name);
	if (rc == 0)
		rc = m_bdev_incomplete_set(bdev, p->incomplete ? p->reason : NULL, &err);
	if (rc < 0)
		rpc_fail(call, rc, &err);
	else
		rpc_result_saved(call, json_true());
}

void m_bdev_incomplete_write(json_t *calls, const void *obj)
{
	const struct bdev *bdev = obj;

	json_array_append_new(calls, json_pack("{s:s, s:{s:s, s:b, s:s}}", "method",
					       "bdev_set_incomplete", "params", "name", bdev->name,
					       "incomplete", true, "reason", bdev->incomplete));
}

#define JOB_RESULT                                                                                 \
	"{id, kind, name, source, state, done_bytes, total_bytes, elapsed_ms, cancellable}: see "  \
	"job_wait"
static const struct opts_table format_table = M_BDEV_NAME_TABLE("bdev_format");

const struct rpc_method m_bdev_work[] = {
	{ "bdev_copy", NULL, &copy_table, sizeof(struct copy), RPC_SAVES, 0, copy,
	  "begins to copy all of a bdev to another, which is incomplete until that is done; what "
	  "is "
	  "zero becomes a hole where it can",
	  JOB_RESULT },
	{ "bdev_format", NULL, &format_table, sizeof(struct m_bdev_name), RPC_SAVES, 0, format,
	  "begins to write zeroes to all of a bdev that nobody uses, which is incomplete until "
	  "that "
	  "is done; its space is given back where it can",
	  JOB_RESULT },
	{ "bdev_set_incomplete", NULL, &set_incomplete_table, sizeof(struct set_incomplete),
	  RPC_SAVES, 0, set_incomplete,
	  "says whether the contents of a bdev are whole: a copy or a format that did not come to "
	  "its end leaves one that devices do not get",
	  "true" },
	{ NULL },
};
