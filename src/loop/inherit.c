#include "loop/inherit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/list.h"
#include "base/parcel.h"

#define INHERIT_TAG	"open"
#define INHERIT_VERSION 1

struct inherit {
	struct list node;
	int fd;
	bool single, marked; /* marked: in the successor */
	const bool *mark;
	char *text;
};

static struct list kept = { &kept, &kept }, heirs = { &heirs, &heirs };
static bool no_memory; /* one could not be noted */

static struct inherit *inherit_add(struct list *to, int fd, const char *text)
{
	struct inherit *i = calloc(1, sizeof(*i));

	if (i)
		i->text = strdup(text);
	if (!i || !i->text) {
		free(i);
		return NULL;
	}
	i->fd = fd;
	list_append(to, &i->node);
	return i;
}

static void inherit_remove(struct inherit *i)
{
	list_remove(&i->node);
	free(i->text);
	free(i);
}

static struct inherit *inherit_find(const struct list *in, const char *text)
{
	struct inherit *i;

	list_for_each(i, in, node)
		if (!strcmp(i->text, text))
			return i;
	return NULL;
}

/* ---- in the process that has them ---- */

void inherit_keep(int fd, const char *text, bool single, const bool *mark)
{
	struct inherit *i = inherit_add(&kept, fd, text);

	if (!i) {
		no_memory = true;
		return;
	}
	i->single = single;
	i->mark = mark;
}

static struct inherit *inherit_kept(int fd, const char *text)
{
	struct inherit *i;

	list_for_each(i, &kept, node)
		if (i->fd == fd && (fd >= 0 || !strcmp(i->text, text)))
			return i;
	return NULL;
}

void inherit_rename(int fd, const char *old, const char *text)
{
	struct inherit *i = inherit_kept(fd, old);

	if (!i)
		return;
	inherit_keep(i->fd, text, i->single, i->mark);
	inherit_remove(i);
}

void inherit_drop(int fd, const char *text)
{
	struct inherit *i = inherit_kept(fd, text);

	if (i)
		inherit_remove(i);
}

static int inherit_check(const struct inherit *i, struct err *reterr)
{
	const struct inherit *other;

	if (i->fd < 0)
		return err_set(reterr, -EOPNOTSUPP,
			       "%.200s: there is no descriptor of it (RLIMIT_NOFILE, or "
			       "RLIMIT_FSIZE when it was made): it cannot be handed over",
			       i->text);
	list_for_each(other, &kept, node)
		if (i->single && other != i && !strcmp(other->text, i->text))
			return err_set(reterr, -EEXIST,
				       "%.200s: two disks in memory have this name: the successor "
				       "could not tell them apart",
				       i->text);
	return 0;
}

int inherit_pack(struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	const struct inherit *i;
	uint32_t count = 0;

	if (no_memory)
		return err_set(reterr, -ENOMEM, "open files: there was no memory to note one");
	list_for_each(i, &kept, node) {
		int rc = inherit_check(i, reterr);

		if (rc < 0)
			return rc;
		count++;
	}
	parcel_section_begin(p, &s, INHERIT_TAG, INHERIT_VERSION);
	parcel_put_u32(p, count);
	list_for_each(i, &kept, node) {
		parcel_put_str(p, i->text);
		parcel_put_fd(p, i->fd);
		parcel_put_u32(p, i->mark && __atomic_load_n(i->mark, __ATOMIC_RELAXED));
	}
	parcel_section_done(p, &s);
	return 0;
}

/* ---- in the successor ---- */

static int inherit_one(struct parcel *p, struct err *reterr)
{
	char *text = parcel_take_str(p);
	int fd = parcel_take_fd(p), rc = 0;
	bool marked = parcel_take_bool(p);
	struct inherit *i = NULL;

	if (!text || fd < 0)
		rc = err_set(reterr, -EPROTO, "hand-over: an open file without name or descriptor");
	else if (!(i = inherit_add(&heirs, fd, text)))
		rc = err_set(reterr, -ENOMEM, "out of memory");
	if (i)
		i->marked = marked;
	else if (fd >= 0)
		close(fd);
	free(text);
	return rc;
}

int inherit_unpack(struct parcel *p, struct err *reterr)
{
	struct parcel_section s;
	int rc = parcel_section_enter(p, &s, INHERIT_TAG, INHERIT_VERSION, reterr);
	uint32_t count = rc < 0 ? 0 : parcel_take_u32(p);

	while (rc == 0 && count--)
		rc = inherit_one(p, reterr);
	return rc < 0 ? rc : parcel_section_end(p, &s, INHERIT_TAG, reterr);
}

int inherit_take(const char *text, bool *ret_mark)
{
	struct inherit *i = inherit_find(&heirs, text);
	int fd = i ? i->fd : -1;

	if (ret_mark)
		*ret_mark = i && i->marked;
	if (i)
		inherit_remove(i);
	return fd;
}

const char *inherit_left(void)
{
	return list_empty(&heirs) ? NULL : list_entry(heirs.next, struct inherit, node)->text;
}

void inherit_fini(void)
{
	struct inherit *i, *tmp;

	list_for_each_safe(i, tmp, &heirs, node) {
		close(i->fd);
		inherit_remove(i);
	}
}
