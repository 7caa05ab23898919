/* See bdev.h. The handle is a node of type "swap" on the bdev's own. */
#include "dev/bdev.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/check.h"
#include "base/text.h"
#include "blk/filter/swap.h"

#define BDEV_NAME_MAX 255

static struct list bdevs = { &bdevs, &bdevs };
static struct list watchers = { &watchers, &watchers };

void bdev_watch(struct bdev_watcher *watcher)
{
	list_append(&watchers, &watcher->node);
}

void bdev_unwatch(struct bdev_watcher *watcher)
{
	list_remove(&watcher->node);
}

static void bdev_tell(struct bdev *bdev, enum bdev_event event)
{
	struct bdev_watcher *w, *next;

	list_for_each_safe(w, next, &watchers, node)
		w->fn(w, bdev, event);
}

/* ---- names ---- */

static bool name_is_uuid(const struct bdev *bdev, const char *name)
{
	char text[TEXT_UUID_BYTES];

	text_uuid(bdev->uuid, text);
	return !strcasecmp(text, name);
}

/* Those that are being deleted too: their names are still in use. */
static struct bdev *bdev_known(const char *name)
{
	struct bdev *bdev;

	list_for_each(bdev, &bdevs, node)
		if (!strcmp(bdev->name, name) || name_is_uuid(bdev, name))
			return bdev;
	return NULL;
}

struct bdev *bdev_find(const char *name)
{
	struct bdev *bdev = bdev_known(name);

	return bdev && bdev->dev ? bdev : NULL;
}

struct bdev *bdev_next(const struct bdev *prev)
{
	struct list *n = prev ? prev->node.next : bdevs.next;

	for (; n != &bdevs; n = n->next) {
		struct bdev *bdev = list_entry(n, struct bdev, node);

		if (bdev->dev)
			return bdev;
	}
	return NULL;
}

int bdev_uuid_parse(const char *text, uint8_t uuid[16], struct err *reterr)
{
	uint8_t seen = 0;
	int digits = 0;

	for (const char *c = text; *c && digits < 33; c++) {
		const char *hex = "0123456789abcdef", *at = strchr(hex, tolower((uint8_t)*c));

		if (*c == '-' &&
		    (c - text == 8 || c - text == 13 || c - text == 18 || c - text == 23))
			continue;
		if (!at)
			break;
		if (digits < 32) {
			uuid[digits / 2] = (uint8_t)(digits & 1 ? uuid[digits / 2] | (at - hex)
								: (at - hex) << 4);
			seen |= uuid[digits / 2];
		}
		digits++;
	}
	if (digits == 32 && strlen(text) == 36 && seen)
		return 0;
	return err_set(reterr, -EINVAL,
		       "uuid: expected 8-4-4-4-12 hex digits, not all 0, got '%.64s'", text);
}

/* RFC 9562, 5.4 */
static int uuid_random(uint8_t uuid[16])
{
	if (getrandom(uuid, 16, 0) != 16)
		return -errno;
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
	return 0;
}

static int name_check(const char *name, struct err *reterr)
{
	size_t len = strlen(name);

	if (!len || len > BDEV_NAME_MAX)
		return err_set(reterr, -EINVAL, "name: expected 1 to %d bytes, got %zu",
			       BDEV_NAME_MAX, len);
	for (const char *c = name; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return err_set(reterr, -EINVAL,
				       "name: expected printable characters, got byte 0x%02x",
				       (unsigned char)*c);
	if (bdev_known(name))
		return err_set(reterr, -EEXIST,
			       "bdev \"%s\" exists; choose another name, or delete it first", name);
	return 0;
}

/*
 * "Malloc disk": the next of Malloc0, Malloc1 ... A number is given once, also to no avail: a
 * client that gave the name itself gets an error, as from SPDK.
 */
static int name_make(const char *product, char **ret_name, struct err *reterr)
{
	static struct {
		char prefix[16];
		uint32_t next;
	} made[8];
	size_t i, len = strcspn(product, " ");
	const struct bdev *known;

	for (i = 0; made[i].prefix[0] && strncmp(made[i].prefix, product, len) != 0;)
		ASSERT(++i < ARRAY_SIZE(made));
	snprintf(made[i].prefix, sizeof(made[i].prefix), "%.*s", (int)len, product);
	do {
		free(*ret_name);
		if (asprintf(ret_name, "%s%u", made[i].prefix, made[i].next++) < 0) {
			*ret_name = NULL;
			return err_set(reterr, -ENOMEM, "out of memory");
		}
		known = bdev_known(*ret_name);
	} while (known && known->restored);
	return 0;
}

void bdev_names_restored(void)
{
	struct bdev *bdev;

	list_for_each(bdev, &bdevs, node)
		bdev->restored = true;
}

/* ---- claims ---- */

int bdev_usable(const struct bdev *bdev, struct err *reterr)
{
	if (bdev->work)
		return err_set(reterr, -EBUSY,
			       "bdev \"%s\": a %s to it is under way; wait for that, or cancel it: "
			       "job_get_jobs",
			       bdev->name, bdev->work);
	if (bdev->incomplete)
		return err_set(reterr, -EPERM,
			       "bdev \"%s\" is not whole: a %.64s did not come to its end; begin "
			       "that again, or bdev_set_incomplete takes it as it is",
			       bdev->name, bdev->incomplete);
	return 0;
}

int bdev_work_begin(struct bdev *bdev, const char *what, struct blk_dev **ret_handle,
		    struct err *reterr)
{
	if (bdev->work)
		return bdev_usable(bdev, reterr);
	if (bdev->claimed || bdev->users || bdev->swapping)
		return err_set(reterr, -EBUSY,
			       "bdev \"%s\" is used (by %u devices or copies%s%s); let them go "
			       "first",
			       bdev->name, bdev->users, bdev->claimed ? ", by bdevs on it" : "",
			       bdev->swapping ? ", its back-end is being exchanged" : "");
	*ret_handle = bdev_hold(bdev);
	ASSERT(*ret_handle); /* who has a bdev has one that is not being deleted */
	bdev->work = what;
	return 0;
}

void bdev_work_end(struct blk_dev *handle)
{
	struct bdev *bdev = bdev_of(handle);

	if (bdev)
		bdev->work = NULL;
	bdev_release(handle);
}

int bdev_incomplete_set(struct bdev *bdev, const char *why, struct err *reterr)
{
	char *copy = why ? strdup(why) : NULL;

	if (why && !copy)
		return err_set(reterr, -ENOMEM, "out of memory");
	free(bdev->incomplete);
	bdev->incomplete = copy;
	return 0;
}

static int claim_check(const struct bdev *base, bool part, struct err *reterr)
{
	int rc = base ? bdev_usable(base, reterr) : 0;

	if (rc < 0)
		return rc;
	if (!base || !base->claimed || (part && base->parts))
		return 0;
	return err_set(reterr, -EPERM,
		       "bdev \"%s\" is claimed by another bdev on it; use that, or delete it first",
		       base->name);
}

static void claim(struct bdev *base, bool part)
{
	base->claimed = true;
	base->parts += part;
}

static void unclaim(struct bdev *base, bool part)
{
	base->parts -= part;
	base->claimed = base->parts > 0;
}

/* ---- life ---- */

static void bdev_free(struct bdev *bdev)
{
	if (bdev->handle) {
		blk_dev_unlisten(&bdev->listener);
		blk_dev_unref(bdev->handle);
	}
	if (bdev->origin_free)
		bdev->origin_free(bdev->origin);
	free(bdev->incomplete);
	free(bdev->name);
	free(bdev);
}

static void bdev_on_resized(struct blk_listener *l)
{
	bdev_tell(container_of(l, struct bdev, listener), BDEV_RESIZED);
}

static int bdev_fill(struct bdev *bdev, const struct bdev_params *p, struct blk_dev *dev,
		     struct err *reterr)
{
	char uuid[TEXT_UUID_BYTES];
	int rc = 0;

	if (!p->name)
		rc = name_make(p->product, &bdev->name, reterr);
	else if (!(bdev->name = strdup(p->name)))
		rc = err_set(reterr, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = name_check(bdev->name, reterr);
	if (rc < 0)
		return rc;
	if (p->uuid)
		memcpy(bdev->uuid, p->uuid, sizeof(bdev->uuid));
	else if (uuid_random(bdev->uuid) < 0)
		return err_set(reterr, -EIO, "no random numbers for a UUID");
	text_uuid(bdev->uuid, uuid);
	if (bdev_known(uuid))
		return err_set(reterr, -EEXIST, "uuid: %s is that of bdev \"%s\"", uuid,
			       bdev_known(uuid)->name);
	rc = claim_check(p->base, p->part, reterr);
	if (rc < 0)
		return rc;
	return blk_dev_open_on("swap", bdev->name, NULL, dev, &bdev->handle, reterr);
}

int bdev_add(const struct bdev_params *params, struct blk_dev *dev, struct bdev **ret_bdev,
	     struct err *reterr)
{
	struct bdev *bdev = calloc(1, sizeof(*bdev));
	int rc = bdev ? bdev_fill(bdev, params, dev, reterr)
		      : err_set(reterr, -ENOMEM, "out of memory");

	blk_dev_unref(dev);
	if (rc < 0) {
		if (bdev)
			bdev_free(bdev);
		return rc;
	}
	bdev->product = params->product;
	bdev->origin = params->origin;
	bdev->origin_free = params->origin_free;
	bdev->base = params->base;
	bdev->part = params->part;
	if (bdev->base)
		claim(bdev->base, bdev->part);
	bdev->dev = bdev->handle;
	bdev->listener.resized = bdev_on_resized;
	blk_dev_listen(bdev->handle, &bdev->listener);
	list_append(&bdevs, &bdev->node);
	if (ret_bdev)
		*ret_bdev = bdev;
	bdev_tell(bdev, BDEV_ADDED);
	return 0;
}

static void bdev_on_taken_away(void *arg, int rc)
{
	struct bdev *bdev = arg;
	void (*deleted)(void *arg, int rc) = bdev->done;
	void *deleted_arg = bdev->done_arg;

	if (bdev->base)
		unclaim(bdev->base, bdev->part);
	list_remove(&bdev->node);
	bdev_free(bdev);
	deleted(deleted_arg, 0);
}

void bdev_delete(struct bdev *bdev, void (*deleted)(void *arg, int rc), void *arg)
{
	if (bdev->claimed || bdev->swapping) {
		deleted(arg, -EBUSY);
		return;
	}
	ASSERT(bdev->dev);
	bdev->dev = NULL;
	bdev->done = deleted;
	bdev->done_arg = arg;
	bdev_tell(bdev, BDEV_REMOVED);
	ASSERT(blk_swap(bdev->handle, NULL, bdev_on_taken_away, bdev, NULL) == 0);
}

static void bdev_on_swapped(void *arg, int rc)
{
	struct bdev *bdev = arg;

	bdev->swapping = false;
	bdev->done(bdev->done_arg, rc);
}

int bdev_swap(struct bdev *bdev, struct blk_dev *next, void (*done)(void *arg, int rc), void *arg,
	      struct err *reterr)
{
	int rc;

	if (bdev->swapping) {
		rc = err_set(reterr, -EBUSY,
			     "bdev \"%s\": its back-end is being exchanged; try again when that "
			     "is done",
			     bdev->name);
	} else {
		bdev->swapping = true;
		bdev->done = done;
		bdev->done_arg = arg;
		rc = blk_swap(bdev->handle, next, bdev_on_swapped, bdev, reterr);
		if (rc < 0)
			bdev->swapping = false;
	}
	blk_dev_unref(next);
	return rc;
}

void bdev_unbase(struct bdev *bdev)
{
	if (bdev->base)
		unclaim(bdev->base, bdev->part);
	bdev->base = NULL;
	bdev->part = false;
}

/* ---- users ---- */

struct blk_dev *bdev_hold(struct bdev *bdev)
{
	if (!bdev->dev)
		return NULL;
	bdev->users++;
	return blk_dev_ref(bdev->dev);
}

struct bdev *bdev_of(const struct blk_dev *handle)
{
	struct blk_listener *l = handle ? blk_dev_listener(handle, bdev_on_resized) : NULL;
	struct bdev *bdev = l ? container_of(l, struct bdev, listener) : NULL;

	return bdev && bdev->dev ? bdev : NULL;
}

void bdev_release(struct blk_dev *handle)
{
	struct bdev *bdev = bdev_of(handle);

	if (bdev) {
		ASSERT(bdev->users);
		bdev->users--;
	}
	blk_dev_unref(handle);
}
