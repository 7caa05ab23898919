#include "dev/backend.h"

#include <errno.h>
#include <stdio.h>

#include "base/num.h"
#include "blk/blk.h"

const char *const backend_direct_names[] = { "auto", "on", "off", NULL };
const char *const backend_pi_names[] = { "0", "1", "3", NULL };

int backend_check(const struct backend_def *back, struct err *reterr)
{
	int count = !!back->file + !!back->null_bytes + !!back->ram_bytes;

	if (count != 1)
		return err_set(reterr, -EINVAL,
			       "expected exactly one of file=, null= and ram=, "
			       "got %d",
			       count);
	if (back->file && !*back->file)
		return err_set(reterr, -EINVAL, "file: expected a path, got ''");
	if (!back->file && back->direct)
		return err_set(reterr, -EINVAL, "direct: only with file=");
	if (!back->ram_bytes && back->pi_type)
		return err_set(reterr, -EINVAL, "pi-type: only with ram=");
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

int backend_open(const struct backend_def *back, const char *name, struct blk_dev **ret_blk,
		 struct err *reterr)
{
	struct backend_text params = { 0 };
	const char *type = backend_params(back, &params);

	if (params.full)
		return err_set(reterr, -ENAMETOOLONG, "file: path too long");
	return blk_dev_open(type, name, params.text, ret_blk, reterr);
}
