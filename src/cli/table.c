#include "cli/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/check.h"
#include "base/num.h"

struct cell {
	char *text;
	enum table_colour colour;
};

struct table {
	const char *const *titles;
	uint32_t column_count, row_count, row_space, cell_count; /* cells of the last row */
	struct cell *cells;					 /* column_count a row */
};

struct table *table_new(const char *const *titles)
{
	struct table *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->titles = titles;
	while (titles[t->column_count])
		t->column_count++;
	ASSERT(t->column_count && t->column_count <= TABLE_COLUMNS_MAX);
	return t;
}

void table_free(struct table *t)
{
	if (!t)
		return;
	for (uint32_t i = 0; i < t->row_count * t->column_count; i++)
		free(t->cells[i].text);
	free(t->cells);
	free(t);
}

void table_row(struct table *t)
{
	if (t->row_count == t->row_space) {
		const uint32_t space = MAX(16u, t->row_space * 2);

		t->cells = realloc(t->cells, sizeof(*t->cells) * space * t->column_count);
		ASSERT(t->cells);
		t->row_space = space;
	}
	memset(&t->cells[t->row_count * t->column_count], 0, sizeof(*t->cells) * t->column_count);
	t->row_count++;
	t->cell_count = 0;
}

/* The next character as wcwidth sees it; what is no UTF-8 is a '?' of one byte. */
static int char_width(const char *text, size_t *ret_bytes)
{
	mbstate_t state = { 0 };
	wchar_t c;
	const size_t n = mbrtowc(&c, text, strlen(text), &state);
	int width;

	if (n == 0 || n > 16) {
		*ret_bytes = 1;
		return -1;
	}
	*ret_bytes = n;
	width = wcwidth(c);
	return width;
}

uint32_t table_width(const char *text)
{
	uint32_t width = 0;

	for (size_t n; *text; text += n) {
		const int w = char_width(text, &n);

		width += w < 0 ? 1 : (uint32_t)w;
	}
	return width;
}

static char *printable(const char *text)
{
	char *copy = strdup(text), *to = copy;

	ASSERT(copy);
	for (size_t n; *text; text += n) {
		if (char_width(text, &n) < 0) {
			*to++ = '?';
		} else {
			memcpy(to, text, n);
			to += n;
		}
	}
	*to = '\0';
	return copy;
}

void table_cell_colour(struct table *t, enum table_colour colour, const char *text)
{
	struct cell *cell = &t->cells[(t->row_count - 1) * t->column_count + t->cell_count];

	ASSERT(t->cell_count < t->column_count);
	t->cell_count++;
	cell->text = printable(text && *text ? text : "-");
	cell->colour = colour;
}

void table_cell(struct table *t, const char *text)
{
	table_cell_colour(t, TABLE_PLAIN, text);
}

void table_cellf(struct table *t, const char *fmt, ...)
{
	char *text;
	va_list args;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		text = NULL;
	va_end(args);
	table_cell(t, text);
	free(text);
}

static const char *const colours[] = {
	[TABLE_GOOD] = "32",
	[TABLE_WARN] = "33",
	[TABLE_BAD] = "31",
	[TABLE_DIM] = "2",
};

static void cell_print(FILE *out, const char *text, bool right, bool last, uint32_t width,
		       const char *sequence)
{
	const uint32_t used = table_width(text);
	const int pad = (int)(width > used ? width - used : 0);

	if (right)
		fprintf(out, "%*s", pad, "");
	if (sequence)
		fprintf(out, "\033[%sm%s\033[0m", sequence, text);
	else
		fputs(text, out);
	if (!right && !last)
		fprintf(out, "%*s", pad, "");
	fputs(last ? "\n" : "  ", out);
}

static void widths_get(const struct table *t, uint32_t widths[TABLE_COLUMNS_MAX])
{
	for (uint32_t col = 0; col < t->column_count; col++) {
		widths[col] = table_width(t->titles[col] + (*t->titles[col] == '>'));
		for (uint32_t row = 0; row < t->row_count; row++) {
			const char *text = t->cells[row * t->column_count + col].text;

			widths[col] = MAX(widths[col], text ? table_width(text) : 0);
		}
	}
}

void table_print(const struct table *t, FILE *out, bool colour, const char *none)
{
	uint32_t widths[TABLE_COLUMNS_MAX];

	if (!t->row_count) {
		fprintf(out, "%s\n", none);
		return;
	}
	widths_get(t, widths);
	for (uint32_t col = 0; col < t->column_count; col++) {
		const bool right = *t->titles[col] == '>';

		cell_print(out, t->titles[col] + right, right, col + 1 == t->column_count,
			   widths[col], colour ? "1" : NULL);
	}
	for (uint32_t i = 0; i < t->row_count * t->column_count; i++) {
		const uint32_t col = i % t->column_count;
		const struct cell *cell = &t->cells[i];

		cell_print(out, cell->text ? cell->text : "-", *t->titles[col] == '>',
			   col + 1 == t->column_count, widths[col],
			   colour ? colours[cell->colour] : NULL);
	}
}
