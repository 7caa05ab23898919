/* The logical units that are open, each once, however many places show it. Thread: main. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/device.h"
#include "app/unit.h"
#include "base/check.h"
#include "scsi/scsi.h"

struct unit_open {
	struct list node;
	uint32_t refs;	     /* 0: it is being closed */
	struct unit_def def; /* a copy of the leader's */
	char *state_path;    /* NULL: none */
	struct blk_dev *blk;
	struct scsi_lu *lu;
};

static struct list units_open = { &units_open, &units_open };
static uint32_t closing_count;
static void (*on_closed)(void);

/* A unit that is this one, by its share name or its image. */
static struct unit_open *unit_open_find(const struct unit_def *leader)
{
	struct unit_open *open;

	list_for_each(open, &units_open, node) {
		const struct unit_def *def = &open->def;

		if ((leader->share && def->share && !strcmp(leader->share, def->share)) ||
		    (leader->back.file && def->back.file &&
		     !strcmp(leader->back.file, def->back.file)))
			return open;
	}
	return NULL;
}

/* FNV-1a */
static uint64_t unit_hash(uint64_t hash, const char *text)
{
	do
		hash = (hash ^ (unsigned char)*text) * 0x100000001b3ull;
	while (*text++);
	return hash;
}

/*
 * A serial number for a unit that was given none. Guests take two disks of one serial number for
 * two ways to one disk, so it must differ from that of each other vhostd on this host: made of the
 * image's path, or of the socket and the place.
 */
static void unit_serial_make(const struct unit_def *leader, const struct device_def *owner,
			     char ret_serial[17])
{
	uint64_t hash = 0xcbf29ce484222325ull;
	char where[UNIT_WHERE_MAX], *real;

	if (leader->back.file) {
		real = realpath(leader->back.file, NULL);
		hash = unit_hash(hash, real ? real : leader->back.file);
		free(real);
	} else {
		hash = unit_hash(hash, owner->socket ? owner->socket : owner->name);
		hash = unit_hash(hash, unit_where(leader->target, leader->lun, where));
	}
	snprintf(ret_serial, 17, "%016llx", (unsigned long long)hash);
}

/* The default is for regular files only: nothing is to appear in /dev. */
static int unit_state_path(struct unit_open *open, struct err *reterr)
{
	const struct unit_def *def = &open->def;
	struct stat st;
	int n = 0;

	if (def->state && strcmp(def->state, "none") != 0)
		n = asprintf(&open->state_path, "%s", def->state);
	else if (!def->state && def->back.file && stat(def->back.file, &st) == 0 &&
		 S_ISREG(st.st_mode))
		n = asprintf(&open->state_path, "%s.scsi-state", def->back.file);
	if (n >= 0)
		return 0;
	open->state_path = NULL;
	return err_set(reterr, -ENOMEM, "out of memory");
}

/* What is left when there is no logical unit any more. */
static void unit_open_free(struct unit_open *open)
{
	if (open->blk)
		blk_dev_unref(open->blk);
	list_remove(&open->node);
	unit_fini(&open->def);
	free(open->state_path);
	free(open);
}

static void unit_open_on_closed(void *arg)
{
	unit_open_free(arg);
	closing_count--;
	if (on_closed)
		on_closed();
}

static int unit_open_lu_new(struct unit_open *open, const char *name,
			    const struct device_def *owner, struct err *reterr)
{
	const struct unit_def *def = &open->def;
	char serial[17];
	struct scsi_lu_params params = {
		.name = name,
		.serial = def->serial,
		.wwn = def->naa,
		.vendor = def->vendor,
		.product = def->product,
		.read_only = def->back.read_only,
		.rotation_rpm = def->rotation_rpm,
		.removable = def->removable,
		.phys_bytes = def->phys_bytes,
		.closed = unit_open_on_closed,
		.arg = open,
	};
	int rc = backend_open(&def->back, name, &open->blk, reterr);

	if (rc == 0)
		rc = unit_state_path(open, reterr);
	if (rc < 0)
		return rc;
	if (!def->serial) {
		unit_serial_make(def, owner, serial);
		params.serial = serial;
	}
	params.dev = open->blk;
	params.state_path = open->state_path;
	return scsi_lu_new(&params, &open->lu, reterr);
}

static int unit_open_new(const struct unit_def *leader, const struct device_def *owner,
			 struct unit_open **ret_open, struct err *reterr)
{
	struct unit_open *open = calloc(1, sizeof(*open));
	char name[128];
	int rc;

	if (!open)
		return err_set(reterr, -ENOMEM, "out of memory");
	list_init(&open->node);
	if (leader->share)
		snprintf(name, sizeof(name), "%s", leader->share);
	else
		snprintf(name, sizeof(name), "%.96s-%u-%u", owner->name, leader->target,
			 leader->lun);
	rc = unit_init(&open->def, reterr);
	if (rc == 0)
		rc = unit_copy(&open->def, leader, reterr);
	open->def.target = leader->target;
	open->def.lun = leader->lun;
	if (rc == 0)
		rc = unit_open_lu_new(open, name, owner, reterr);
	if (rc < 0) {
		unit_open_free(open);
		return rc;
	}
	open->refs = 1;
	list_append(&units_open, &open->node);
	*ret_open = open;
	return 0;
}

int unit_open(const struct unit_def *unit, const struct device_def *owner,
	      struct unit_open **ret_open, struct err *reterr)
{
	const struct unit_def *leader = unit_leader(unit);
	struct unit_open *open = unit_open_find(leader);
	const struct opts_row *row;
	char old[32], new[32];

	if (!open)
		return unit_open_new(leader, owner, ret_open, reterr);
	if (!open->refs)
		return err_set(reterr, -EAGAIN, "the unit is still being closed");
	row = unit_differs(&open->def, leader, false);
	if (row)
		return err_set(reterr, -EEXIST, "%s: '%.64s', but the unit is open with '%.64s'",
			       row->name, opts_text(row, leader, new, sizeof(new)),
			       opts_text(row, &open->def, old, sizeof(old)));
	open->refs++;
	*ret_open = open;
	return 0;
}

void unit_close(struct unit_open *open)
{
	struct blk_dev *blk = open->blk;

	ASSERT(open->refs);
	if (--open->refs)
		return;
	closing_count++;
	open->blk = NULL;
	blk_dev_unref(blk); /* the logical unit has its own reference */
	scsi_lu_unref(open->lu);
}

uint32_t units_closing(void)
{
	return closing_count;
}

bool unit_is_closing(const struct unit_def *unit)
{
	const struct unit_open *open = closing_count ? unit_open_find(unit_leader(unit)) : NULL;

	return open && !open->refs;
}

void units_on_closed_set(void (*fn)(void))
{
	on_closed = fn;
}

struct scsi_lu *unit_open_lu(const struct unit_open *open)
{
	return open->lu;
}

const struct unit_def *unit_open_def(const struct unit_open *open)
{
	return &open->def;
}

int unit_open_rescan(struct unit_open *open, struct err *reterr)
{
	return blk_dev_rescan(open->blk, reterr);
}
