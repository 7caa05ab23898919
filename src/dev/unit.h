/*
 * Units: the disks that a device shows at places of its own, and that come and go while it runs:
 * the logical units of scsi devices, the namespaces of nvme devices. What is the same for both is
 * in unit.c (one definition), unit_share.c (which of them are one and the same) and unit_open.c
 * (those that are open); what differs is a struct unit_kind, in unit_scsi.c and unit_nvme.c.
 *
 * Logical units that have a `share` name, an image's path or a bdev in common are one, shown in
 * several places: opened once, with the same reservations. Namespaces are one where their subsystem
 * and NSID are. What is said of one unit in several places adds up (the first is the leader, and
 * gets it all); two that say different things of one key are refused.
 */
#ifndef DEV_UNIT_H
#define DEV_UNIT_H

#include <stdint.h>

#include "dev/backend.h"
#include "base/list.h"

struct device;
struct device_def;
struct device_unit;
struct nvme_ns;
struct nvme_subsys;
struct scsi_lu;
struct unit_kind;

/* Where a unit is shown, within its device. */
struct unit_place {
	const struct unit_kind *kind;
	uint32_t number; /* target, NSID */
	uint32_t lun;	 /* scsi only */
};

struct unit_def {
	/* from the table */
	struct unit_place place;
	struct backend_def back;
	char *state;
	/* scsi only */
	char *share, *serial, *wwn, *vendor, *product;
	bool removable;
	uint32_t phys_bytes; /* 0: not given */
	uint16_t rotation_rpm;
	/* nvme only */
	char *uuid, *nguid, *eui64;
	/* from elsewhere */
	uint32_t given;			/* rows of the table that were set: 1 << row */
	struct unit_def *leader;	/* the first unit of a shared one; NULL: this is it */
	const struct device_def *owner; /* who gives it */
	/* parsed by the kind's check */
	uint64_t naa;
	uint8_t uuid_bytes[16], nguid_bytes[16], eui64_bytes[8];
};

struct unit_open;

struct unit_kind {
	const struct opts_table *table;
	uint32_t place_rows;  /* the first ones: where it is shown, not what it is */
	const char *key;      /* on the command line, and in messages: "target" */
	const char *form;     /* of the place: "N[/LUN]" */
	const char *list_key; /* in the JSON file: "targets" */
	const char *noun;     /* "unit" */
	const char *docs;     /* how it is given */
	/* What can be told of the unit alone; fills what is parsed. -EINVAL, not prefixed. */
	int (*check)(struct unit_def *unit, struct err *reterr);

	/* ---- open units (Thread: main) ---- */

	/* The state file's default is for regular files only: their path and this. */
	const char *state_suffix;
	bool state_written; /* and only for such as may be written */
	/* A name for messages. */
	void (*name)(const struct unit_def *unit, const struct device_def *owner, char *buf,
		     size_t size);
	/* Is it open already as this one? */
	bool (*same)(const struct unit_open *open, const struct unit_def *unit,
		     const struct device *dev);
	/* Optional: makes what is shown; blk and state_path are there. */
	int (*open)(struct unit_open *open, const char *name, const struct device *dev,
		    struct err *reterr);
	/* The last one has left; unit_open_on_closed(open) comes once, maybe before this returns.
	 */
	void (*close)(struct unit_open *open);
	int (*attach)(struct device_unit *unit, struct err *reterr);
	/*
	 * done(unit) comes once, maybe before this returns; not when it failed. NULL: closing it is
	 * what takes it away, and nothing can show it in a second place.
	 */
	int (*detach)(struct device_unit *unit, void (*done)(void *unit), struct err *reterr);
};

extern const struct unit_kind unit_scsi, unit_nvme;

#define UNIT_WHERE_MAX 32

/* ---- definitions ---- */

int unit_init(struct unit_def *unit, const struct unit_kind *kind, struct err *reterr);
void unit_fini(struct unit_def *unit);
/* One parameter; value NULL: a bare key. Errors: opts_set's. */
int unit_set(struct unit_def *unit, const char *key, const char *value, struct err *reterr);
/* "PLACE:KEY=VALUE:...". Errors: unit_set's. */
int unit_parse(struct unit_def *unit, const char *text, struct err *reterr);
/* "target 3" or "target 3/1" or "ns 1", for messages. */
const char *unit_where(const struct unit_place *place, char buf[UNIT_WHERE_MAX]);
int unit_place_order(const struct unit_place *a, const struct unit_place *b);
/* Text that the guest sees: 1..max printable ASCII characters; NULL: not given. */
int unit_check_text(const char *key, const char *text, size_t max, struct err *reterr);
/* What can be told of the unit alone. -EINVAL, not prefixed. */
int unit_check(struct unit_def *unit, struct err *reterr);
/* What src was given and dst was not, but its place. dst was initialised. -ENOMEM. */
int unit_copy(struct unit_def *dst, const struct unit_def *src, struct err *reterr);
/*
 * The first row in which the two differ, the place aside; NULL: none. only_given: rows that both
 * were given.
 */
const struct opts_row *unit_differs(const struct unit_def *a, const struct unit_def *b,
				    bool only_given);
const struct unit_def *unit_leader(const struct unit_def *unit);
/*
 * Finds the units of all devices that are one, adds up what is said of them, checks them, and that
 * no serial number, name or state file is that of two. Namespaces that are one are in one place:
 * only the leader is left. -EINVAL, -ENOMEM; both places are named.
 */
int units_resolve(struct device_def *defs, uint32_t def_count, struct err *reterr);

/* ---- open units (Thread: main) ---- */

struct unit_open {
	/* private: */
	struct list node;
	uint32_t refs;	     /* 0: it is being closed */
	struct unit_def def; /* a copy of the leader's */
	char *state_path;    /* NULL: none */
	struct blk_dev *blk;
	struct scsi_lu *lu;
	struct nvme_subsys *subsys;
	struct nvme_ns *ns;
	void (*closed)(void *arg); /* NULL: nobody waits */
	void *closed_arg;
};

/*
 * The unit of a definition, which was resolved: the one that is open already, or a new one. dev
 * tells units of memory apart. Errors: the back-end's, the kind's; -EEXIST: it is open with other
 * parameters; -EAGAIN: it is still being closed, or shown elsewhere and can be so only once.
 */
int unit_open(const struct unit_def *unit, const struct device *dev, struct unit_open **ret_open,
	      struct err *reterr);
/*
 * One place less. The last one closes it, which may take a while: until it is closed the image is
 * in use, and unit_open of the same gives -EAGAIN. closed(arg), unless NULL, comes once after that,
 * maybe before this returns.
 */
void unit_close(struct unit_open *open, void (*closed)(void *arg), void *arg);
/* For the kinds: see unit_kind.close. */
void unit_open_on_closed(void *open);
/* How many are being closed. */
uint32_t units_closing(void);
/* For what else is waited for like a unit that is being closed. */
void units_closing_enter(void);
void units_closing_leave(void);
bool unit_is_closing(const struct unit_def *unit, const struct device *dev);
/* Called each time that one was closed; maybe before unit_close returns. */
void units_on_closed_set(void (*fn)(void));
const struct unit_def *unit_open_def(const struct unit_open *open);
/* What is behind it; NULL: it is being closed. */
struct blk_dev *unit_open_blk(const struct unit_open *open);
int unit_open_rescan(struct unit_open *open, struct err *reterr);

#endif
