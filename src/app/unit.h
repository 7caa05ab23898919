/*
 * The units of scsi devices: what the command line or the configuration file says of each, which
 * of them are one and the same, and the logical units that are open.
 *
 * Units that have a `share` name or an image's path in common are one logical unit, shown in
 * several places: opened once, with the same reservations. What they say of it adds up (the first
 * is the leader, and gets it all); two that say different things of one key are refused.
 */
#ifndef APP_UNIT_H
#define APP_UNIT_H

#include <stdint.h>

#include "app/backend.h"
#include "base/list.h"

struct device_def;
struct scsi_lu;

struct unit_def {
	/* from the table */
	uint32_t target, lun;
	struct backend_def back;
	char *share, *serial, *wwn, *vendor, *product, *state;
	bool removable;
	uint32_t phys_bytes; /* 0: not given */
	uint16_t rotation_rpm;
	/* from elsewhere */
	uint32_t given;		 /* rows of the table that were set: 1 << row */
	struct unit_def *leader; /* the first unit of a shared one; NULL: this is it */
	uint64_t naa;		 /* wwn, parsed by unit_check */
};

#define UNIT_WHERE_MAX 32

extern const struct opts_table unit_table;

/* ---- definitions ---- */

int unit_init(struct unit_def *unit, struct err *reterr);
void unit_fini(struct unit_def *unit);
/* One parameter; value NULL: a bare key. Errors: opts_set's. */
int unit_set(struct unit_def *unit, const char *key, const char *value, struct err *reterr);
/* "N[/LUN]:KEY=VALUE:...". Errors: unit_set's. */
int unit_parse(struct unit_def *unit, const char *text, struct err *reterr);
/* "target 3" or "target 3/1", for messages. */
const char *unit_where(uint32_t target, uint32_t lun, char buf[UNIT_WHERE_MAX]);
/* What can be told of the unit alone. -EINVAL, not prefixed. */
int unit_check(struct unit_def *unit, struct err *reterr);
/* What src was given and dst was not, but its place. dst was initialised. -ENOMEM. */
int unit_copy(struct unit_def *dst, const struct unit_def *src, struct err *reterr);
/*
 * The first row in which the two differ, target and lun aside; NULL: none. only_given: rows that
 * both were given.
 */
const struct opts_row *unit_differs(const struct unit_def *a, const struct unit_def *b,
				    bool only_given);
const struct unit_def *unit_leader(const struct unit_def *unit);
/*
 * Finds the units of all devices that are one, adds up what is said of them, checks them, and that
 * no serial number, wwn or state file is that of two. -EINVAL, -ENOMEM; both places are named.
 */
int units_resolve(struct device_def *defs, uint32_t def_count, struct err *reterr);

/* ---- open units (Thread: main) ---- */

struct unit_open;

/*
 * The logical unit of a definition, which was resolved: the one that is open already, or a new one.
 * owner and socket tell units of memory apart. Errors: the back-end's, scsi_lu_new's; -EEXIST: it
 * is open with other parameters.
 */
int unit_open(const struct unit_def *unit, const struct device_def *owner,
	      struct unit_open **ret_open, struct err *reterr);
/*
 * One place less. The last one closes it, which may take a while: until it is closed the image is
 * in use, and unit_open of the same gives -EAGAIN.
 */
void unit_close(struct unit_open *open);
/* How many are being closed. */
uint32_t units_closing(void);
bool unit_is_closing(const struct unit_def *unit);
/* Called each time that one was closed; maybe before unit_close returns. */
void units_on_closed_set(void (*fn)(void));
struct scsi_lu *unit_open_lu(const struct unit_open *open);
const struct unit_def *unit_open_def(const struct unit_open *open);
int unit_open_rescan(struct unit_open *open, struct err *reterr);

#endif
