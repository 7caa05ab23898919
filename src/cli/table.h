/*
 * A table for people: columns as wide as their widest cell, two spaces between, titles above. What
 * comes from elsewhere cannot talk to the terminal: control characters are shown as '?'.
 */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 20

enum table_colour {
	TABLE_PLAIN,
	TABLE_GOOD, /* green */
	TABLE_WARN, /* yellow */
	TABLE_BAD,  /* red */
	TABLE_DIM,
};

struct table;

/* titles: "NAME" to the left, ">IOPS" to the right; NULL-terminated, borrowed. NULL: no memory. */
struct table *table_new(const char *const *titles);
void table_free(struct table *t);
void table_row(struct table *t);
/* The next cell of the row, a copy. NULL or "": "-". Beyond the last column: ASSERT. */
void table_cell(struct table *t, const char *text);
void table_cell_colour(struct table *t, enum table_colour colour, const char *text);
void table_cellf(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Titles only when there are rows, else the line `none`. colour: with ANSI sequences. */
void table_print(const struct table *t, FILE *out, bool colour, const char *none);

/* Columns that the text takes on a terminal: UTF-8, one each but for combining and wide ones. */
uint32_t table_width(const char *text);

#endif
