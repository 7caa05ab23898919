/*
 * Named block devices ("bdevs"), as the management socket makes them: a name, a UUID, and a node of
 * the block graph. Devices and filters refer to them by name or UUID.
 *
 * What a device holds of a bdev is a handle: a node whose back-end can be taken away (requests end
 * as GONE) or exchanged while it is used.
 * Thread: main, all of it.
 */
#ifndef DEV_BDEV_H
#define DEV_BDEV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "blk/blk.h"

struct bdev {
	struct list node; /* in order of creation */
	char *name;
	uint8_t uuid[16];
	const char *product; /* "Malloc disk", "AIO disk": SPDK's product_name */
	struct blk_dev *dev; /* the handle; NULL while it is being deleted */
	struct bdev *base;   /* of a filter or part; NULL: none */
	uint32_t users;	     /* devices that hold it */
	bool claimed;	     /* by a filter or parts: nobody else may write it */
	const char *work;    /* long work has it to itself: "copy"; NULL: none does */
	uint32_t copied;     /* copies from it that are under way */
	char *incomplete;    /* why its contents are not whole: nobody gets it; NULL: they are */
	void *origin;	     /* what recreates it: of m_bdev*.c */
	/* private: */
	void (*origin_free)(void *origin);
	struct blk_dev *handle;
	struct blk_listener listener;
	uint32_t parts; /* that have claimed it */
	bool part;	/* of base */
	bool swapping;
	bool restored;			 /* bdev_names_restored */
	void (*done)(void *arg, int rc); /* of the deletion or exchange under way */
	void *done_arg;
};

struct bdev_params {
	const char *name; /* NULL: made of product: "Malloc0" */
	const char *product;
	const uint8_t *uuid; /* NULL: made at random */
	struct bdev *base;   /* claimed until this one is deleted */
	bool part;	     /* one of several that share the claim on base */
	void *origin;	     /* freed by origin_free */
	void (*origin_free)(void *origin);
};

/* What has happened to a bdev; REMOVED: its deletion begins, its name is not found any more. */
enum bdev_event {
	BDEV_ADDED,
	BDEV_RESIZED,
	BDEV_REMOVED,
};

struct bdev_watcher {
	void (*fn)(struct bdev_watcher *watcher, struct bdev *bdev, enum bdev_event event);
	struct list node; /* private */
};
void bdev_watch(struct bdev_watcher *watcher);
void bdev_unwatch(struct bdev_watcher *watcher);

/* -EINVAL: not a UUID, or all zero. */
int bdev_uuid_parse(const char *text, uint8_t uuid[16], struct err *reterr);

/* Takes the reference on dev, also when it fails; origin only when it succeeds. -EEXIST (name,
 * UUID), -EINVAL (name), -ENOMEM, -EPERM (base is claimed). */
int bdev_add(const struct bdev_params *params, struct blk_dev *dev, struct bdev **ret_bdev,
	     struct err *reterr);
/*
 * Those that there are now are of the last run, whose numbers nobody counts any more: a name that
 * is made later is none of theirs.
 */
void bdev_names_restored(void);
/* By name, or UUID as text. NULL: none. */
struct bdev *bdev_find(const char *name);
/* In order of creation; NULL: no more. prev NULL: the first. */
struct bdev *bdev_next(const struct bdev *prev);
/*
 * Takes it away: requests under way end, later ones end as GONE; devices that have it stay. Then
 * deleted(arg, rc) once, maybe before this returns: 0, or -EBUSY at once (a filter is on it, or its
 * back-end is being exchanged).
 */
void bdev_delete(struct bdev *bdev, void (*deleted)(void *arg, int rc), void *arg);
/*
 * Hot swap: the back-end of bdev is exchanged for next (whose reference is taken over): requests
 * under way end first, those that come meanwhile wait. -EINVAL: another block size, or smaller.
 */
int bdev_swap(struct bdev *bdev, struct blk_dev *next, void (*done)(void *arg, int rc), void *arg,
	      struct err *reterr);
/* What it was made on is no longer below it, and is nobody's claim of it any more. */
void bdev_unbase(struct bdev *bdev);
/*
 * Long work (a copy to it, a format) has bdev to itself until bdev_work_end: no device and no other
 * bdev gets it. It can be deleted: the requests of the work end as GONE then. what: a word that
 * stays. *ret_handle is as bdev_hold gives it. -EBUSY: somebody has it, who is named.
 */
int bdev_work_begin(struct bdev *bdev, const char *what, struct blk_dev **ret_handle,
		    struct err *reterr);
void bdev_work_end(struct blk_dev *handle);
/*
 * Until it is taken back (why NULL) nobody gets bdev but long work, since a part of its contents is
 * not what it is to be. -ENOMEM.
 */
int bdev_incomplete_set(struct bdev *bdev, const char *why, struct err *reterr);
/* May a device or another bdev have it? -EBUSY, -EPERM: the text says why not, and what to do. */
int bdev_usable(const struct bdev *bdev, struct err *reterr);

/* A user's reference on the handle. NULL: it is being deleted. */
struct blk_dev *bdev_hold(struct bdev *bdev);
void bdev_release(struct blk_dev *handle);
/* Which bdev the handle is of; NULL: it was deleted. */
struct bdev *bdev_of(const struct blk_dev *handle);

#endif
