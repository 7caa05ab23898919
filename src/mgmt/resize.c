#include "mgmt/resize.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/num.h"
#include "blk/filter/swap.h"
#include "dev/devices.h"
#include "loop/job.h"
#include "mgmt/jobs.h"
#include "mgmt/m_bdev.h"

#define STEP_BYTES (64ull << 20)

struct allocation {
	struct list node;
	struct job job; /* a step */
	struct long_job *work;
	struct blk_dev *disk; /* a reference */
	char *name, *unit;    /* as in struct resize_disk */
	uint64_t from_bytes, to_bytes, at_bytes, step_bytes;
	bool may_shrink, cancelled, undoing;
	int rc; /* of the step, or what failed */
	struct err err;
};

static struct list allocations = { &allocations, &allocations };

static bool allocation_runs(const struct blk_dev *disk)
{
	const struct allocation *a;

	list_for_each(a, &allocations, node)
		if (a->disk == disk)
			return true;
	return false;
}

/* ---- is the disk still the one that it was? ---- */

/* Of a disk of a device that is on no bdev: what it got by device_swap. */
static struct blk_dev *disk_behind(struct blk_dev *blk)
{
	return blk && blk_swap_base(blk) ? blk_swap_base(blk) : blk;
}

static const struct blk_dev *disk_now(const struct allocation *a)
{
	const struct bdev *bdev = a->unit ? NULL : bdev_find(a->name);
	const struct device *dev = a->unit ? devices_find(a->name) : NULL;
	struct blk_dev *blk = dev ? device_disk_find(dev, a->unit) : NULL;

	if (blk && bdev_of(blk))
		bdev = bdev_of(blk);
	return bdev ? m_bdev_node(bdev) : disk_behind(blk);
}

/* ---- the work ---- */

static void allocation_let_go(struct allocation *a)
{
	list_remove(&a->node);
	blk_dev_unref(a->disk);
}

static void allocation_free(struct allocation *a)
{
	free(a->name);
	free(a->unit);
	free(a);
}

static void allocation_end(struct allocation *a, int rc)
{
	allocation_let_go(a); /* first: whoever waits for the end may begin another */
	jobs_end(a->work, rc, &a->err);
	allocation_free(a);
}

static void allocation_run(struct job *job)
{
	struct allocation *a = container_of(job, struct allocation, job);

	if (a->undoing)
		blk_dev_allocate_undo(a->disk);
	else
		a->rc = blk_dev_allocate(a->disk, a->at_bytes, a->step_bytes,
					 a->to_bytes - a->at_bytes - a->step_bytes);
}

static void allocation_undo(struct allocation *a, int rc)
{
	a->undoing = true;
	a->rc = rc;
	job_start(&a->job);
}

static int allocation_failed(struct allocation *a, int rc)
{
	if (rc == -EOPNOTSUPP)
		return err_set(
			&a->err, rc,
			"\"%.64s\": it is no regular file, or its file system cannot allocate "
			"space; without allocate it can grow",
			a->name);
	return err_set(
		&a->err, rc,
		"\"%.64s\": no %llu bytes more for it: %s; what was allocated is given back, "
		"and its size stays %llu bytes",
		a->name, (unsigned long long)(a->to_bytes - a->from_bytes), strerror(-rc),
		(unsigned long long)a->from_bytes);
}

/* 0: it may go on. */
static int allocation_look(struct allocation *a)
{
	if (a->rc < 0)
		return allocation_failed(a, a->rc);
	if (a->cancelled)
		return -ECANCELED;
	if (disk_now(a) != a->disk)
		return err_set(&a->err, -ENODEV,
			       "\"%.64s\": it was deleted, or its back-end exchanged, meanwhile",
			       a->name);
	if (blk_dev_caps(a->disk)->size_bytes != a->from_bytes)
		return err_set(&a->err, -ESTALE, "\"%.64s\": it got another size meanwhile",
			       a->name);
	return 0;
}

static void allocation_next(struct allocation *a)
{
	int rc = allocation_look(a);

	if (rc == 0 && a->at_bytes < a->to_bytes) {
		a->step_bytes = MIN(a->to_bytes - a->at_bytes, STEP_BYTES);
		job_start(&a->job);
		return;
	}
	if (rc == 0)
		rc = blk_dev_resize(a->disk, a->to_bytes, a->may_shrink, &a->err);
	if (rc < 0)
		allocation_undo(a, rc);
	else
		allocation_end(a, 0);
}

static void allocation_stepped(struct job *job)
{
	struct allocation *a = container_of(job, struct allocation, job);

	if (a->undoing) {
		allocation_end(a, a->rc);
		return;
	}
	if (a->rc == 0)
		a->at_bytes += a->step_bytes;
	allocation_next(a);
}

static uint64_t allocation_done_bytes(void *arg)
{
	const struct allocation *a = arg;

	return a->at_bytes - a->from_bytes;
}

static void allocation_cancel(void *arg)
{
	struct allocation *a = arg;

	a->cancelled = true;
}

static int allocation_new(const struct resize_disk *disk, const struct resize_how *how,
			  struct allocation **ret_allocation, struct err *reterr)
{
	struct allocation *a = calloc(1, sizeof(*a));
	struct jobs_params params = {
		.kind = JOB_ALLOCATE,
		.name = disk->name,
		.done_bytes = allocation_done_bytes,
		.cancel = allocation_cancel,
		.arg = a,
	};
	int rc;

	if (!a)
		return err_set(reterr, -ENOMEM, "out of memory");
	list_append(&allocations, &a->node);
	a->disk = blk_dev_ref(disk->node);
	a->name = strdup(disk->name);
	a->unit = disk->unit ? strdup(disk->unit) : NULL;
	a->from_bytes = a->at_bytes = blk_dev_caps(disk->node)->size_bytes;
	a->to_bytes = how->new_size;
	a->may_shrink = how->force;
	a->job = (struct job){ .fn = allocation_run, .done = allocation_stepped };
	if (a->to_bytes > a->from_bytes)
		params.total_bytes = a->to_bytes - a->from_bytes;
	rc = a->name && !a->unit == !disk->unit ? jobs_begin(&params, &a->work, reterr)
						: err_set(reterr, -ENOMEM, "out of memory");
	if (rc < 0) {
		allocation_let_go(a);
		allocation_free(a);
	} else {
		*ret_allocation = a;
	}
	return rc;
}

void resize_answer(struct rpc_call *call, const struct resize_disk *what,
		   const struct resize_how *how, void (*resized)(const char *name))
{
	const struct resize_disk behind = { what->unit ? disk_behind(what->node) : what->node,
					    what->name, what->unit };
	const struct resize_disk *disk = &behind;
	struct allocation *a = NULL;
	struct err err = { 0 };
	json_t *answer;
	int rc;

	if (allocation_runs(disk->node))
		rc = err_set(
			&err, -EBUSY,
			"name: space for \"%.64s\" is being allocated; wait for that, or cancel "
			"it: job_get_jobs",
			disk->name);
	else if (how->allocate)
		rc = blk_dev_resize_check(disk->node, how->new_size, how->force, &err);
	else
		rc = blk_dev_resize(disk->node, how->new_size, how->force, &err);
	if (rc == 0 && how->allocate)
		rc = allocation_new(disk, how, &a, &err);
	if (rc < 0) {
		rpc_fail(call, rc, &err);
	} else if (a) {
		answer = jobs_json(a->work);
		allocation_next(a);
		rpc_result(call, answer);
	} else {
		if (resized)
			resized(disk->name);
		rpc_result_saved(call, json_true());
	}
}
