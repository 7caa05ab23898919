#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/num.h"
#include "base/opts.h"

static const struct opts_row *opts_row_find(const struct opts_table *t, const char *name)
{
	for (size_t i = 0; i < t->count; i++) {
		if (!strcmp(t->rows[i].name, name))
			return &t->rows[i];
	}
	return NULL;
}

/* Decimal or 0x number; *ret_end points behind it. strtoull alone takes signs and spaces. */
static int opts_parse_number(const char *text, uint64_t *ret_v, const char **ret_end)
{
	int base = !strncasecmp(text, "0x", 2) ? 16 : 10;
	char *end;

	if (!isdigit((unsigned char)*text) || (base == 16 && !isxdigit((unsigned char)text[2])))
		return -EINVAL;
	errno = 0;
	*ret_v = strtoull(text, &end, base);
	*ret_end = end;
	return errno ? -ERANGE : 0;
}

int opts_parse_size(const char *text, uint64_t *ret_bytes)
{
	static const char suffixes[] = "KMGTP";
	const char *end, *s;
	uint64_t v;
	int rc = opts_parse_number(text, &v, &end);

	if (rc)
		return rc;
	if (*end) {
		s = strchr(suffixes, toupper((unsigned char)*end));
		if (!s || end[1])
			return -EINVAL;
		if (!num_mul(v, 1ull << (10 * (s - suffixes + 1)), &v))
			return -ERANGE;
	}
	*ret_bytes = v;
	return 0;
}

static int opts_set_bool(const struct opts_row *r, bool *field, const char *value,
			 struct err *reterr)
{
	static const char *const words[] = { "off", "on", "false", "true", "no", "yes", "0", "1" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (!strcmp(words[i], value)) {
			*field = i & 1;
			return 0;
		}
	}
	return err_set(reterr, -EINVAL, "%s: expected on|off, got '%s'", r->name, value);
}

static int opts_set_enum(const struct opts_row *r, int *field, const char *value,
			 struct err *reterr)
{
	char all[256] = "";
	size_t len = 0;

	for (int i = 0; r->names[i]; i++) {
		if (!strcmp(r->names[i], value)) {
			*field = i;
			return 0;
		}
		if (len < sizeof(all))
			len += snprintf(all + len, sizeof(all) - len, "%s%s", i ? "|" : "",
					r->names[i]);
	}
	return err_set(reterr, -EINVAL, "%s: expected %s, got '%s'", r->name, all, value);
}

static uint64_t opts_type_max(enum opts_type type)
{
	return type == OPTS_U16 ? UINT16_MAX : type == OPTS_U32 ? UINT32_MAX : UINT64_MAX;
}

struct opts_range {
	bool is_signed;
	uint64_t min, max; /* is_signed: of an int64_t */
};

static struct opts_range opts_range(const struct opts_row *r)
{
	const bool own = !r->min && !r->max;

	if (r->type == OPTS_I32)
		return (struct opts_range){ true, own ? (uint64_t)INT32_MIN : r->min,
					    own ? INT32_MAX : r->max };
	return (struct opts_range){ false, r->min,
				    own ? opts_type_max(r->type)
					: MIN(r->max, opts_type_max(r->type)) };
}

const char *opts_limits(const struct opts_row *r, char text[OPTS_LIMITS_TEXT])
{
	const struct opts_range range = opts_range(r);

	snprintf(text, OPTS_LIMITS_TEXT,
		 range.is_signed ? "%" PRId64 "..%" PRId64 : "%" PRIu64 "..%" PRIu64, range.min,
		 range.max);
	return text;
}

static bool opts_in_range(const struct opts_range *range, uint64_t v)
{
	return range->is_signed
		       ? (int64_t)v >= (int64_t)range->min && (int64_t)v <= (int64_t)range->max
		       : v >= range->min && v <= range->max;
}

/* 0; -EINVAL: no number; -ERANGE: none of 64 bits. */
static int opts_row_number(const struct opts_row *r, const char *value, uint64_t *ret_v)
{
	const bool minus = r->type == OPTS_I32 && *value == '-';
	const char *end = "";
	int rc = r->type == OPTS_SIZE ? opts_parse_size(value, ret_v)
				      : opts_parse_number(value + minus, ret_v, &end);

	if (rc || *end)
		return rc ? rc : -EINVAL;
	if (r->type == OPTS_I32 && *ret_v > INT64_MAX)
		return -ERANGE;
	if (minus)
		*ret_v = -*ret_v;
	return 0;
}

static int opts_set_number(const struct opts_row *r, void *field, const char *value,
			   struct err *reterr)
{
	const struct opts_range range = opts_range(r);
	char limits[OPTS_LIMITS_TEXT];
	uint64_t v;
	int rc = opts_row_number(r, value, &v);

	if (rc == -EINVAL)
		return err_set(reterr, -EINVAL, "%s: expected a %s, got '%s'", r->name,
			       r->type == OPTS_SIZE ? "size (number with K, M, G, T or P)"
						    : "number",
			       value);
	if (rc || !opts_in_range(&range, v))
		return err_set(reterr, -ERANGE, "%s: expected %s, got %s", r->name,
			       opts_limits(r, limits), value);
	if (r->type == OPTS_U16)
		*(uint16_t *)field = v;
	else if (r->type == OPTS_U32)
		*(uint32_t *)field = v;
	else if (r->type == OPTS_I32)
		*(int32_t *)field = (int32_t)(int64_t)v;
	else
		*(uint64_t *)field = v;
	return 0;
}

static int opts_set_str(char **field, const char *value, struct err *reterr)
{
	char *copy = strdup(value);

	if (!copy)
		return err_set(reterr, -ENOMEM, "out of memory");
	free(*field);
	*field = copy;
	return 0;
}

static int opts_row_set(const struct opts_row *r, void *obj, const char *value, struct err *reterr)
{
	void *field = (char *)obj + r->offset;

	switch (r->type) {
	case OPTS_STR:
		return opts_set_str(field, value, reterr);
	case OPTS_BOOL:
		return opts_set_bool(r, field, value, reterr);
	case OPTS_ENUM:
		return opts_set_enum(r, field, value, reterr);
	case OPTS_U64:
	case OPTS_U32:
	case OPTS_U16:
	case OPTS_I32:
	case OPTS_SIZE:
		return opts_set_number(r, field, value, reterr);
	case OPTS_JSON:
		return err_set(reterr, -EINVAL, "%s: cannot be given as text", r->name);
	}
	UNREACHABLE();
}

static const size_t opts_field_bytes[] = {
	[OPTS_STR] = sizeof(char *),
	[OPTS_BOOL] = sizeof(bool),
	[OPTS_U64] = sizeof(uint64_t),
	[OPTS_U32] = sizeof(uint32_t),
	[OPTS_U16] = sizeof(uint16_t),
	[OPTS_SIZE] = sizeof(uint64_t),
	[OPTS_ENUM] = sizeof(int),
	[OPTS_I32] = sizeof(int32_t),
	[OPTS_JSON] = 0,
};

int opts_defaults(const struct opts_table *t, void *obj, struct err *reterr)
{
	for (size_t i = 0; i < t->count; i++) {
		const struct opts_row *r = &t->rows[i];
		int rc;

		memset((char *)obj + r->offset, 0, opts_field_bytes[r->type]);
		if (!r->def)
			continue;
		rc = opts_row_set(r, obj, r->def, reterr);
		if (rc)
			return rc;
	}
	return 0;
}

int opts_set(const struct opts_table *t, void *obj, const char *name, const char *value,
	     struct err *reterr)
{
	const struct opts_row *r = opts_row_find(t, name);

	if (!r)
		return err_set(reterr, -ENOENT, "%s: no parameter of %s", name, t->what);
	if (!value && r->type != OPTS_BOOL)
		return err_set(reterr, -EINVAL, "%s: expected %s=value, got no value", name, name);
	return opts_row_set(r, obj, value ? value : "on", reterr);
}

/* Takes one "key[=value]" off *at into word, separators unescaped. */
static void opts_word_take(const char **at, char sep, char *word)
{
	while (**at && **at != sep) {
		if ((*at)[0] == '\\' && (*at)[1] == sep)
			(*at)++;
		*word++ = *(*at)++;
	}
	*word = '\0';
	if (**at == sep)
		(*at)++;
}

int opts_words(const char *text, char sep, opts_word_fn *fn, void *arg, struct err *reterr)
{
	char *word = malloc(strlen(text) + 1);
	int rc = 0;

	if (!word)
		return err_set(reterr, -ENOMEM, "out of memory");
	while (*text && !rc) {
		char *eq;

		opts_word_take(&text, sep, word);
		if (!*word)
			continue;
		eq = strchr(word, '=');
		if (eq)
			*eq = '\0';
		rc = fn(arg, word, eq ? eq + 1 : NULL, reterr);
	}
	free(word);
	return rc;
}

struct opts_target {
	const struct opts_table *table;
	void *obj;
};

static int opts_parse_word(void *arg, const char *name, const char *value, struct err *reterr)
{
	const struct opts_target *t = arg;

	return opts_set(t->table, t->obj, name, value, reterr);
}

int opts_parse(const struct opts_table *t, void *obj, const char *text, struct err *reterr)
{
	struct opts_target target = { .table = t, .obj = obj };

	return opts_words(text, ',', opts_parse_word, &target, reterr);
}

const char *opts_text(const struct opts_row *r, const void *obj, char *buf, size_t size)
{
	const void *field = (const char *)obj + r->offset;

	buf[0] = '\0';
	switch (r->type) {
	case OPTS_STR:
		return *(char *const *)field ? *(char *const *)field : "";
	case OPTS_BOOL:
		return *(const bool *)field ? "on" : "off";
	case OPTS_ENUM:
		return r->names[*(const int *)field];
	case OPTS_U64:
	case OPTS_SIZE:
		snprintf(buf, size, "%" PRIu64, *(const uint64_t *)field);
		return buf;
	case OPTS_U32:
		snprintf(buf, size, "%" PRIu32, *(const uint32_t *)field);
		return buf;
	case OPTS_U16:
		snprintf(buf, size, "%u", *(const uint16_t *)field);
		return buf;
	case OPTS_I32:
		snprintf(buf, size, "%" PRId32, *(const int32_t *)field);
		return buf;
	case OPTS_JSON:
		return "";
	}
	UNREACHABLE();
}

void opts_free(const struct opts_table *t, void *obj)
{
	for (size_t i = 0; i < t->count; i++) {
		char **field = (char **)((char *)obj + t->rows[i].offset);

		if (t->rows[i].type != OPTS_STR)
			continue;
		free(*field);
		*field = NULL;
	}
}
