#include "mgmt/params.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "mgmt/jsonrpc.h"

/* Whole numbers up to here are exact in a double. */
#define PARAMS_REAL_MAX 9007199254740992.0

static const char *params_wanted(enum opts_type type)
{
	switch (type) {
	case OPTS_STR:
		return "a string";
	case OPTS_BOOL:
		return "true or false";
	case OPTS_U64:
	case OPTS_U32:
	case OPTS_U16:
	case OPTS_I32:
		return "a number";
	case OPTS_SIZE:
		return "a size (a number, or text with K, M, G, T or P)";
	case OPTS_ENUM:
		return "a string";
	case OPTS_JSON:
		return "an array or an object";
	}
	UNREACHABLE();
}

/* The value as it came, cut to what a message has room for. */
static void params_shown(const json_t *value, char *buf, size_t size)
{
	const char *string = json_string_value(value);
	size_t len;

	if (string && *string == JSONRPC_BIG) {
		snprintf(buf, size, "%s", string + 1);
		return;
	}
	len = json_dumpb(value, buf, size - 1, JSON_ENCODE_ANY | JSON_COMPACT);
	buf[len < size ? len : size - 1] = '\0';
	if (len >= size)
		snprintf(buf, size, "%s",
			 json_is_array(value)	 ? "an array"
			 : json_is_object(value) ? "an object"
						 : "a long string");
}

static int params_wrong_type(const struct opts_row *row, const json_t *value, struct err *reterr)
{
	char shown[96];

	params_shown(value, shown, sizeof(shown));
	return err_set(reterr, -EINVAL, "%s: expected %s, got %s", row->name,
		       params_wanted(row->type), shown);
}

static int params_out_of_range(const struct opts_row *row, const char *got, struct err *reterr)
{
	char limits[OPTS_LIMITS_TEXT];

	return err_set(reterr, -ERANGE, "%s: expected %s, got %.40s", row->name,
		       opts_limits(row, limits), got);
}

/* A number as the text that the table takes. */
static int params_number(const struct opts_row *row, const json_t *value, char *buf, size_t size,
			 struct err *reterr)
{
	if (json_is_integer(value)) {
		snprintf(buf, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	} else {
		double real = json_real_value(value);

		snprintf(buf, size, "%.0f", real);
		if (real > PARAMS_REAL_MAX || real < -PARAMS_REAL_MAX)
			return params_out_of_range(row, buf, reterr);
		if (real != (double)(int64_t)real)
			return err_set(reterr, -EINVAL, "%s: expected a whole number, got %g",
				       row->name, real);
	}
	return *buf == '-' && row->type != OPTS_I32 ? params_out_of_range(row, buf, reterr) : 0;
}

static bool params_is_number(enum opts_type type)
{
	return type == OPTS_U64 || type == OPTS_U32 || type == OPTS_U16 || type == OPTS_I32 ||
	       type == OPTS_SIZE;
}

/* The text that opts_set takes for value; in buf when it is made. */
static int params_text(const struct opts_row *row, const json_t *value, char *buf, size_t size,
		       const char **ret_text, struct err *reterr)
{
	const char *string = json_string_value(value);

	*ret_text = buf;
	if (string && *string == JSONRPC_BIG) {
		*ret_text = string + 1;
		if (!params_is_number(row->type))
			return params_wrong_type(row, value, reterr);
		return string[1] == '-' ? params_out_of_range(row, string + 1, reterr) : 0;
	}
	if (params_is_number(row->type) && json_is_number(value))
		return params_number(row, value, buf, size, reterr);
	if (row->type == OPTS_BOOL && json_is_boolean(value)) {
		*ret_text = json_is_true(value) ? "on" : "off";
		return 0;
	}
	if (string && (row->type == OPTS_STR || row->type == OPTS_ENUM || row->type == OPTS_SIZE)) {
		*ret_text = string;
		return 0;
	}
	return params_wrong_type(row, value, reterr);
}

static const struct opts_row *params_row(const struct opts_table *table, const char *name)
{
	for (size_t i = 0; i < table->count; i++)
		if (!strcmp(table->rows[i].name, name))
			return &table->rows[i];
	return NULL;
}

static int params_unknown(const struct opts_table *table, const char *name, struct err *reterr)
{
	char all[320] = "";
	size_t len = 0;

	for (size_t i = 0; i < table->count && len < sizeof(all); i++)
		len += snprintf(all + len, sizeof(all) - len, "%s%s", i ? ", " : "",
				table->rows[i].name);
	return err_set(reterr, -ENOENT, "%.64s: unknown parameter of %s, which takes %s", name,
		       table->what, all);
}

static int params_one(const struct opts_table *table, void *obj, const char *name,
		      const json_t *value, struct err *reterr)
{
	const struct opts_row *row = params_row(table, name);
	char buf[340]; /* the longest double has 309 digits */
	const char *text;
	int rc;

	if (!row)
		return params_unknown(table, name, reterr);
	if (json_is_null(value))
		return 0;
	if (row->type == OPTS_JSON)
		return json_is_array(value) || json_is_object(value)
			       ? 0
			       : params_wrong_type(row, value, reterr);
	rc = params_text(row, value, buf, sizeof(buf), &text, reterr);
	return rc < 0 ? rc : opts_set(table, obj, name, text, reterr);
}

int params_fill(const struct opts_table *table, void *obj, const json_t *given, struct err *reterr)
{
	int rc = opts_defaults(table, obj, reterr);
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)given, name, value)
	{
		if (rc == 0)
			rc = params_one(table, obj, name, value, reterr);
	}
	for (size_t i = 0; i < table->count && rc == 0; i++) {
		const struct opts_row *row = &table->rows[i];

		value = json_object_get(given, row->name);
		if (row->required && (!value || json_is_null(value)))
			rc = err_set(reterr, -EINVAL, "%s: missing: %s needs it (%s)", row->name,
				     table->what, row->help ? row->help : params_wanted(row->type));
	}
	return rc;
}
