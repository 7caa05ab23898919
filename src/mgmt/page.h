/*
 * The status page, and what it reads each second.
 * Thread: any.
 */
#ifndef MGMT_PAGE_H
#define MGMT_PAGE_H

#include <stdio.h>

#include "mgmt/snapshot.h"

/* page.html, made by the build; PAGE_ROWS_MARK stands where the table's rows belong. */
extern const char page_html[];
#define PAGE_ROWS_MARK "<!--rows-->"

/* HTML that works alone: with a script that is run it keeps itself up to date. */
void page_write(const struct snapshot *snap, FILE *out);
/* /status.json; its members are never renamed. -ENOMEM. */
int page_status_write(const struct snapshot *snap, FILE *out);
/* Text in HTML, attributes included. */
void page_write_escaped(FILE *out, const char *text);

#endif
