/*
 * Metrics as text: one table has each metric's name, type, unit, labels, help, and where in a
 * snapshot it is; the text, docs/metrics.md and the checks of the dashboard are made of it.
 *
 * Two formats: OpenMetrics 1.0 (types info and stateset, units, an end), and the older text format
 * of Prometheus 0.0.4 for who asks for text/plain. Names and values are the same.
 * Thread: any.
 */
#ifndef MGMT_METRICS_H
#define MGMT_METRICS_H

#include <stdbool.h>
#include <stdio.h>

#include "mgmt/snapshot.h"

enum metrics_format {
	METRICS_OPENMETRICS,
	METRICS_PROMETHEUS,
};

/* What a Content-Type says of it. */
extern const char *const metrics_content_types[];

/* The one that an Accept header asks for; NULL: none was sent. */
enum metrics_format metrics_format_accepted(const char *accept);
void metrics_write(const struct snapshot *snap, enum metrics_format format, FILE *out);
/* A label's value, escaped. */
void metrics_write_escaped(FILE *out, const char *value);
/* Prints docs/metrics.md on stdout. */
void metrics_docs_print(void);

#endif
