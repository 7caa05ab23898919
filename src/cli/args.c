#include "cli/args.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/check.h"
#include "base/opts.h"

#define KEY_BYTES 64

static bool is_option(const struct arg *row)
{
	return row->name[0] == '-';
}

static bool is_optional(const struct arg *row)
{
	return row->name[0] == '-' || row->name[0] == '[';
}

const char *args_key(const struct arg *row, char *buf)
{
	size_t n = 0;

	for (const char *p = row->name; *p && n < KEY_BYTES - 1; p++)
		if (isalnum((unsigned char)*p) || (n && *p == '-'))
			buf[n++] = (char)tolower((unsigned char)*p);
	buf[n] = '\0';
	return buf;
}

const struct arg *args_option(const struct arg *rows, const char *word, size_t len)
{
	for (const struct arg *row = rows; row && row->name; row++) {
		if (!is_option(row))
			continue;
		if (strlen(row->name) == len && !memcmp(row->name, word, len))
			return row;
		/* "-n", or with its value: "-n3". */
		if (row->letter && len >= 2 && word[0] == '-' && word[1] == row->letter)
			return row;
	}
	return NULL;
}

const struct arg *args_place(const struct arg *rows, uint32_t n)
{
	for (const struct arg *row = rows; row && row->name; row++)
		if (!is_option(row) && n-- == 0)
			return row;
	return NULL;
}

/* ---- values ---- */

static json_t *value_path(const char *text)
{
	char cwd[PATH_MAX];
	char *path;
	json_t *v;

	if (*text == '/' || !getcwd(cwd, sizeof(cwd)))
		return json_string(text);
	if (asprintf(&path, "%s/%s", cwd, text) < 0)
		return NULL;
	v = json_string(path);
	free(path);
	return v;
}

static int number_parse(const char *text, uint64_t *ret_number)
{
	char *end;

	errno = 0;
	*ret_number = strtoull(text, &end, 0);
	return !isdigit((unsigned char)*text) || *end || errno || *ret_number > INT64_MAX ? -EINVAL
											  : 0;
}

/* "500ms", "5s", "2m", "1h", "5": milliseconds. */
static int msec_parse(const char *text, uint64_t *ret_msec)
{
	static const struct {
		const char *suffix;
		double msec;
	} units[] = { { "ms", 1 }, { "s", 1e3 }, { "m", 6e4 }, { "h", 3.6e6 }, { "", 1e3 } };
	char *end;
	double v;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	v = strtod(text, &end);
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(end, units[i].suffix))
			continue;
		if (v * units[i].msec > 1e9)
			return -EINVAL;
		*ret_msec = (uint64_t)(v * units[i].msec);
		return 0;
	}
	return -EINVAL;
}

static int enum_parse(const struct arg *row, const char *text, json_t **ret_value)
{
	for (const char *const *name = row->names; *name; name++) {
		if (!strcasecmp(*name, text)) {
			*ret_value = json_string(*name);
			return 0;
		}
	}
	return -EINVAL;
}

static const char *const type_names[] = {
	[ARG_STR] = "a text of UTF-8",
	[ARG_PATH] = "a path of UTF-8",
	[ARG_U64] = "a number, 0..9223372036854775807",
	[ARG_SIZE] = "a size: a number and K, M, G, T or P",
	[ARG_MSEC] = "a time: 500ms, 5s, 2m, at most 11 days",
	[ARG_FLAG] = "no value",
	[ARG_ENUM] = "one of a list",
	[ARG_JSON] = "JSON",
	[ARG_KEY] = "KEY=VALUE",
};

static int value_refused(const struct arg *row, const char *text, struct err *reterr)
{
	char names[256] = "";
	size_t n = 0;

	for (const char *const *name = row->names; row->type == ARG_ENUM && *name; name++) {
		n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", n ? ", " : "", *name);
		if (n >= sizeof(names))
			break;
	}
	return err_set(reterr, -EINVAL, "%s: expected %s, got '%.80s'", row->name,
		       *names ? names : type_names[row->type], text);
}

static json_t *json_or_string(const char *text)
{
	json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);

	return v ? v : json_string(text);
}

/* A word as its row's type has it; NULL: it is none. */
static json_t *value_parse(const struct arg *row, const char *text)
{
	json_t *v = NULL;
	uint64_t number;

	switch (row->type) {
	case ARG_STR:
		return json_string(text);
	case ARG_PATH:
		return *text ? value_path(text) : NULL;
	case ARG_U64:
		return number_parse(text, &number) ? NULL : json_integer((json_int_t)number);
	case ARG_SIZE:
		if (opts_parse_size(text, &number) || number > INT64_MAX)
			return NULL;
		return json_integer((json_int_t)number);
	case ARG_MSEC:
		return msec_parse(text, &number) ? NULL : json_integer((json_int_t)number);
	case ARG_FLAG:
		return json_true();
	case ARG_ENUM:
		enum_parse(row, text, &v);
		return v;
	case ARG_JSON:
		return json_loads(text, JSON_DECODE_ANY, NULL);
	case ARG_KEY:
		return strchr(text, '=') && *text != '=' ? json_string(text) : NULL;
	}
	return NULL;
}

static int value_set(const struct arg *row, const char *text, json_t *values, struct err *reterr)
{
	char key[KEY_BYTES];
	json_t *v = value_parse(row, text);

	args_key(row, key);
	if (!v)
		return value_refused(row, text, reterr);
	if (row->type == ARG_KEY) {
		const char *is = strchr(text, '=');
		json_t *all = json_object_get(values, key);
		char *name = strndup(text, (size_t)(is - text));

		json_decref(v);
		if (!all) {
			all = json_object();
			json_object_set_new(values, key, all);
		}
		ASSERT(name);
		json_object_set_new(all, name, json_or_string(is + 1));
		free(name);
		return 0;
	}
	if (json_object_get(values, key)) {
		json_decref(v);
		return err_set(reterr, -EINVAL, "%s: given twice", row->name);
	}
	return json_object_set_new(values, key, v) < 0 ? value_refused(row, text, reterr) : 0;
}

/* ---- words ---- */

/* words[*i] is an option; its value may be words[*i + 1]. */
static int option_take(const struct args *args, int count, char *const *words, int *i,
		       struct err *reterr)
{
	json_t *values = args->values;
	const char *word = words[*i];
	const bool is_long = !strncmp(word, "--", 2);
	const size_t len = is_long ? strcspn(word, "=") : strlen(word);
	const char *value =
		is_long ? (word[len] ? word + len + 1 : NULL) : (len > 2 ? word + 2 : NULL);
	const struct arg *row = args_option(args->rows, word, len);

	if (!row && args->more) {
		row = args_option(args->more, word, len);
		values = args->more_values;
	}
	if (!row)
		return err_set(reterr, -EINVAL, "unknown option %.*s", (int)len, word);
	if (row->type == ARG_FLAG) {
		if (value)
			return err_set(reterr, -EINVAL, "%s: takes no value, got '%.80s'",
				       row->name, value);
		return value_set(row, "", values, reterr);
	}
	if (value)
		return value_set(row, value, values, reterr);
	if (*i + 1 >= count)
		return err_set(reterr, -EINVAL, "%s: expected %s behind it", row->name,
			       type_names[row->type]);
	return value_set(row, words[++*i], values, reterr);
}

int args_parse(const struct args *args, int count, char *const *words, struct err *reterr)
{
	const struct arg *rows = args->rows;
	bool options = true;
	uint32_t place = 0;

	for (int i = 0, rc; i < count; i++) {
		const struct arg *row;

		if (options && !strcmp(words[i], "--")) {
			options = false;
			continue;
		}
		if (options && words[i][0] == '-' && words[i][1]) {
			rc = option_take(args, count, words, &i, reterr);
			if (rc < 0)
				return rc;
			continue;
		}
		row = args_place(rows, place++);
		if (!row)
			return err_set(reterr, -EINVAL, "one argument too many: '%.80s'", words[i]);
		rc = value_set(row, words[i], args->values, reterr);
		if (rc < 0)
			return rc;
	}
	for (const struct arg *row; (row = args_place(rows, place)); place++)
		if (!is_optional(row))
			return err_set(reterr, -EINVAL, "%s: must be given: %s", row->name,
				       row->help);
	return 0;
}

json_t *args_params(const struct arg *rows, const json_t *values, uint32_t call)
{
	json_t *params = json_object();
	char key[KEY_BYTES];

	for (const struct arg *row = rows; row && row->name; row++) {
		json_t *v = json_object_get(values, args_key(row, key));

		if (!v || row->call != call)
			continue;
		if (row->type == ARG_KEY)
			json_object_update(params, v);
		else if (row->param)
			json_object_set(params, row->param, v);
	}
	return params;
}

static const char *const type_values[] = {
	[ARG_STR] = "TEXT",  [ARG_PATH] = "PATH", [ARG_U64] = "N",
	[ARG_SIZE] = "SIZE", [ARG_MSEC] = "TIME", [ARG_FLAG] = "",
	[ARG_ENUM] = "NAME", [ARG_JSON] = "JSON", [ARG_KEY] = "KEY=VALUE",
};

void args_usage(const struct arg *rows, void (*put)(void *arg, const char *text), void *put_arg)
{
	char word[128];

	for (const struct arg *row = rows; row && row->name; row++) {
		if (!is_option(row))
			snprintf(word, sizeof(word), " %s", row->name);
		else if (row->type == ARG_FLAG)
			snprintf(word, sizeof(word), " [%s]", row->name);
		else
			snprintf(word, sizeof(word), " [%s %s]", row->name,
				 row->value ? row->value : type_values[row->type]);
		put(put_arg, word);
	}
}
