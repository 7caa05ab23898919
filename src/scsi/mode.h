/*
 * Saved mode pages as lines of text, for the state file (state.c): one line a page,
 * `mode PAGE SUBPAGE HEX`, with the page's bytes after its header in hexadecimal.
 */
#ifndef SCSI_MODE_H
#define SCSI_MODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct scsi_lu;

#define MODE_STATE_BYTES_MAX 1024

/*
 * The saved values of all pages that can change, each line with its newline; what does not fit in
 * size is left out. Returns the length, without the terminating zero that is always there (size >
 * 0). lu->lock is held.
 */
size_t mode_state_write(const struct scsi_lu *lu, char *buf, size_t size);

/*
 * One such line, with or without its newline: takes the changeable bits into the saved and current
 * values. false: it is no such line, or not of a page of this unit; nothing was changed.
 * lu->lock is held, or nobody else knows the unit yet.
 */
bool mode_state_read(struct scsi_lu *lu, const char *line);

/* The same of current values, for a hand-over (live.c): `mode-current PAGE SUBPAGE HEX`, read after
 * the saved ones. */
void mode_live_write(const struct scsi_lu *lu, FILE *to);
bool mode_live_read(struct scsi_lu *lu, const char *line);

#endif
