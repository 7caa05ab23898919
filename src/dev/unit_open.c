/* The units that are open, each once, however many places show it. Thread: main. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dev/device.h"
#include "dev/unit.h"
#include "base/check.h"
#include "blk/blk.h"

static struct list units_open = { &units_open, &units_open };
static uint32_t closing_count;
static void (*on_closed)(void);

static struct unit_open *unit_open_find(const struct unit_def *leader, const struct device *dev)
{
	struct unit_open *open;

	list_for_each(open, &units_open, node) {
		if (open->def.place.kind == leader->place.kind &&
		    leader->place.kind->same(open, leader, dev))
			return open;
	}
	return NULL;
}

/* The default is for regular files only: nothing is to appear in /dev. */
static int unit_state_path(struct unit_open *open, struct err *reterr)
{
	const struct unit_def *def = &open->def;
	struct stat st;
	int n = 0;

	if (def->state && strcmp(def->state, "none") != 0)
		n = asprintf(&open->state_path, "%s", def->state);
	else if (!def->state && def->back.file &&
		 !(def->back.read_only && def->place.kind->state_written) &&
		 stat(def->back.file, &st) == 0 && S_ISREG(st.st_mode))
		n = asprintf(&open->state_path, "%s%s", def->back.file,
			     def->place.kind->state_suffix);
	if (n >= 0)
		return 0;
	open->state_path = NULL;
	return err_set(reterr, -ENOMEM, "out of memory");
}

void units_closing_enter(void)
{
	closing_count++;
}

void units_closing_leave(void)
{
	closing_count--;
	if (on_closed)
		on_closed();
}

/* What is left when nothing shows it any more. */
static void unit_open_free(struct unit_open *open)
{
	backend_close(open->blk);
	list_remove(&open->node);
	unit_fini(&open->def);
	free(open->state_path);
	free(open);
}

void unit_open_on_closed(void *arg)
{
	struct unit_open *open = arg;
	void (*closed)(void *arg) = open->closed;
	void *closed_arg = open->closed_arg;

	unit_open_free(open);
	units_closing_leave();
	if (closed)
		closed(closed_arg);
}

static int unit_open_new(const struct unit_def *leader, const struct device *dev,
			 struct unit_open **ret_open, struct err *reterr)
{
	const struct unit_kind *kind = leader->place.kind;
	struct unit_open *open = calloc(1, sizeof(*open));
	char name[128];
	int rc;

	if (!open)
		return err_set(reterr, -ENOMEM, "out of memory");
	list_init(&open->node);
	kind->name(leader, dev->def, name, sizeof(name));
	rc = unit_init(&open->def, kind, reterr);
	if (rc == 0)
		rc = unit_copy(&open->def, leader, reterr);
	open->def.place = leader->place;
	if (rc == 0)
		rc = backend_open(&open->def.back, name, &open->blk, reterr);
	if (rc == 0)
		rc = unit_state_path(open, reterr);
	if (rc == 0)
		rc = kind->open(open, name, dev, reterr);
	if (rc < 0) {
		unit_open_free(open);
		return rc;
	}
	open->refs = 1;
	list_append(&units_open, &open->node);
	*ret_open = open;
	return 0;
}

int unit_open(const struct unit_def *unit, const struct device *dev, struct unit_open **ret_open,
	      struct err *reterr)
{
	const struct unit_def *leader = unit_leader(unit);
	struct unit_open *open = unit_open_find(leader, dev);
	const struct opts_row *row;
	char old[32], new[32];

	if (!open)
		return unit_open_new(leader, dev, ret_open, reterr);
	if (!open->refs || !leader->place.kind->detach)
		return err_set(reterr, -EAGAIN, "the %s is still being closed",
			       leader->place.kind->noun);
	row = unit_differs(&open->def, leader, false);
	if (row)
		return err_set(reterr, -EEXIST, "%s: '%.64s', but the unit is open with '%.64s'",
			       row->name, opts_text(row, leader, new, sizeof(new)),
			       opts_text(row, &open->def, old, sizeof(old)));
	open->refs++;
	*ret_open = open;
	return 0;
}

void unit_close(struct unit_open *open, void (*closed)(void *arg), void *arg)
{
	ASSERT(open->refs);
	if (--open->refs) {
		if (closed)
			closed(arg);
		return;
	}
	open->closed = closed;
	open->closed_arg = arg;
	units_closing_enter();
	open->def.place.kind->close(open);
}

uint32_t units_closing(void)
{
	return closing_count;
}

bool unit_is_closing(const struct unit_def *unit, const struct device *dev)
{
	const struct unit_open *open =
		closing_count ? unit_open_find(unit_leader(unit), dev) : NULL;

	return open && !open->refs;
}

void units_on_closed_set(void (*fn)(void))
{
	on_closed = fn;
}

const struct unit_def *unit_open_def(const struct unit_open *open)
{
	return &open->def;
}

int unit_open_rescan(struct unit_open *open, struct err *reterr)
{
	return blk_dev_rescan(open->blk, reterr);
}

struct blk_dev *unit_open_blk(const struct unit_open *open)
{
	return open->blk;
}
