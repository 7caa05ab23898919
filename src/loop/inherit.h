/*
 * Open things that a successor must have as they are, since opening them again would not be the
 * same: an image under a lock, a lock file, memory that holds a disk.
 *
 * Who opens one says under which text (inherit_keep); the text tells everything that matters of
 * how it was opened. In a hand-over all of them go along (inherit_pack), and when the successor
 * comes to open the same it looks here first (inherit_take). What nobody took in the end is
 * something that the successor is not configured to have: it must not go on then.
 *
 * Thread: main, all of it.
 */
#ifndef LOOP_INHERIT_H
#define LOOP_INHERIT_H

#include <stdbool.h>

#include "base/err.h"

struct parcel;

/*
 * fd is kept under a text, until inherit_drop. -1: it is there and cannot be handed over. single:
 * no other may have the same text when it is handed over. mark: what else goes along, as it is
 * then; lives as long as fd. NULL: nothing.
 */
void inherit_keep(int fd, const char *text, bool single, const bool *mark);
/* Another text from now on. */
void inherit_rename(int fd, const char *old, const char *text);
/* Before fd is closed; with fd -1 the text says which. */
void inherit_drop(int fd, const char *text);

/* All that are kept. -EOPNOTSUPP, -EEXIST, -ENOMEM; named. */
int inherit_pack(struct parcel *p, struct err *reterr);

/* In the successor. -EPROTO, -ENOMEM; named. */
int inherit_unpack(struct parcel *p, struct err *reterr);
/* What the predecessor had under this text, once for each. Owner: the caller. -1: nothing. ret_mark
 * may be NULL. */
int inherit_take(const char *text, bool *ret_mark);
/* The text of one that nobody took. NULL: all were taken. */
const char *inherit_left(void);
/* Closes those. */
void inherit_fini(void);

#endif
