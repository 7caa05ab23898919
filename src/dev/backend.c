#include "dev/backend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/text.h"
#include "blk/blk.h"
#include "dev/bdev.h"

const char *const backend_direct_names[] = { "auto", "on", "off", NULL };
const char *const backend_pi_names[] = { "0", "1", "3", NULL };

int backend_check(const struct backend_def *back, struct err *reterr)
{
	int count = !!back->file + !!back->null_bytes + !!back->ram_bytes + !!back->bdev;

	if (count != 1)
		return err_set(reterr, -EINVAL,
			       "expected exactly one of file=, null=, ram= and bdev=, "
			       "got %d",
			       count);
	if (back->file && !*back->file)
		return err_set(reterr, -EINVAL, "file: expected a path, got ''");
	if (!back->file && back->direct)
		return err_set(reterr, -EINVAL, "direct: only with file=");
	if (!back->ram_bytes && back->pi_type)
		return err_set(reterr, -EINVAL, "pi-type: only with ram=");
	if (back->bdev && back->block_bytes)
		return err_set(reterr, -EINVAL, "block-size: a bdev has its own");
	if (back->block_bytes && !num_is_pow2(back->block_bytes))
		return err_set(reterr, -EINVAL, "block-size: expected a power of two, got %u",
			       back->block_bytes);
	return 0;
}

/* Parameters as text for a back-end's own table; fails once, at the end. */
struct backend_text {
	char text[8192];
	size_t len;
	bool full;
};

static void backend_text_add(struct backend_text *t, const char *key, const char *value)
{
	int n = snprintf(t->text + t->len, sizeof(t->text) - t->len, "%s%s=", t->len ? "," : "",
			 key);

	t->len += (size_t)n;
	for (; *value && t->len < sizeof(t->text) - 128; value++) {
		if (*value == ',')
			t->text[t->len++] = '\\';
		t->text[t->len++] = *value;
	}
	t->text[t->len] = '\0';
	if (*value)
		t->full = true;
}

static const char *backend_params(const struct backend_def *back, struct backend_text *t)
{
	uint64_t size = back->null_bytes + back->ram_bytes; /* one of them is 0 */
	char number[32];

	if (back->block_bytes) {
		snprintf(number, sizeof(number), "%u", back->block_bytes);
		backend_text_add(t, "block-size", number);
	}
	if (!back->file) {
		snprintf(number, sizeof(number), "%llu", (unsigned long long)size);
		backend_text_add(t, "size", number);
		if (back->pi_type)
			backend_text_add(t, "pi-type", backend_pi_names[back->pi_type]);
		return back->null_bytes ? "null" : "ram";
	}
	backend_text_add(t, "direct", backend_direct_names[back->direct]);
	backend_text_add(t, "lock", back->lock ? "on" : "off");
	backend_text_add(t, "discard", back->discard ? "on" : "off");
	backend_text_add(t, "read-only", back->read_only ? "on" : "off");
	/* the path last: one that ends in a backslash must not escape a comma of ours */
	backend_text_add(t, "path", back->file);
	return "file";
}

static int backend_open_bdev(const struct backend_def *back, struct blk_dev **ret_blk,
			     struct err *reterr)
{
	struct bdev *bdev = bdev_find(back->bdev);

	if (!bdev)
		return err_set(reterr, -ENODEV,
			       "bdev: there is none named \"%s\"; bdev_get_bdevs lists them",
			       back->bdev);
	if (bdev_usable(bdev, reterr) < 0)
		return err_prefix(reterr, -EBUSY, "bdev");
	if (bdev->claimed && !back->read_only)
		return err_set(reterr, -EPERM,
			       "bdev: \"%s\" is claimed by a bdev on it; use that one, or "
			       "read-only=on",
			       bdev->name);
	*ret_blk = bdev_hold(bdev);
	return 0;
}

int backend_open(const struct backend_def *back, const char *name, struct blk_dev **ret_blk,
		 struct err *reterr)
{
	struct backend_text params = { 0 };
	const char *type;

	if (back->bdev)
		return backend_open_bdev(back, ret_blk, reterr);
	type = backend_params(back, &params);
	if (params.full)
		return err_set(reterr, -ENAMETOOLONG, "file: path too long");
	return blk_dev_open(type, name, params.text, ret_blk, reterr);
}

void backend_close(struct blk_dev *blk)
{
	if (blk)
		bdev_release(blk);
}

char *backend_identity(const struct backend_def *back)
{
	const struct bdev *bdev = back->bdev ? bdev_find(back->bdev) : NULL;
	char text[TEXT_UUID_BYTES], *real;

	if (back->file) {
		real = realpath(back->file, NULL);
		return real ? real : strdup(back->file);
	}
	if (!bdev)
		return NULL;
	text_uuid(bdev->uuid, text);
	return strdup(text);
}
