/*
 * Rates as lines of text: for the screen of `vhostctl top`, for its --batch, and for `stats`.
 */
#ifndef CLI_VIEW_H
#define CLI_VIEW_H

#include <stdbool.h>
#include <stdio.h>

#include "cli/rates.h"
#include "cli/table.h"

/* One line: devices, IOPS, bandwidth, latency of all. */
void view_summary(const struct rates *r, FILE *out);
/* A line for each loop, with a bar. */
void view_loops(const struct rates *r, FILE *out);
/* The loops as a table. */
void view_loop_table(const struct rates *r, FILE *out, bool colour);
/* A line of titles and one for each device, in order. */
void view_devices(const struct rates *r, FILE *out, bool colour);
/* A line of titles and one for each queue; device NULL: of all. */
void view_queues(const struct rates *r, const char *device, FILE *out, bool colour);
/* A line of titles and one for each operation of each queue, of those that were; as sums. */
void view_queue_operations(const struct rates *r, const char *device, FILE *out, bool colour);
/* A device's operations: rates and percentiles of each. */
void view_operations(const struct rates_device *d, FILE *out, bool colour);
/* NULL: there is none. */
const struct rates_device *view_device_find(const struct rates *r, const char *name);
/* What was done since the start: sums in place of rates. */
void view_totals(const struct rates *r, FILE *out, bool colour);

#endif
