#include "app/config.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* A JSON value as the text that a parameter table takes; false: not a string, number or boolean. */
static bool config_text(const json_t *value, char *buf, size_t size, const char **ret_text)
{
	*ret_text = buf;
	switch (json_typeof(value)) {
	case JSON_STRING:
		*ret_text = json_string_value(value);
		return true;
	case JSON_INTEGER:
		snprintf(buf, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		return true;
	case JSON_TRUE:
		*ret_text = "on";
		return true;
	case JSON_FALSE:
		*ret_text = "off";
		return true;
	case JSON_OBJECT:
	case JSON_ARRAY:
	case JSON_REAL:
	case JSON_NULL:
		break;
	}
	return false;
}

/* Sets one parameter of a device, or of a unit, from a JSON value. */
typedef int config_set_fn(void *obj, const char *key, const char *value, struct err *reterr);

static int config_set(config_set_fn *set, void *obj, const char *key, const json_t *value,
		      struct err *reterr)
{
	const char *text;
	char buf[32];

	if (!config_text(value, buf, sizeof(buf), &text))
		return err_set(reterr, -EINVAL, "%.64s: expected a string, a number or true/false",
			       key);
	return set(obj, key, text, reterr);
}

static int config_set_unit(void *unit, const char *key, const char *value, struct err *reterr)
{
	return unit_set(unit, key, value, reterr);
}

static int config_set_device(void *obj, const char *key, const char *value, struct err *reterr)
{
	return device_def_set(obj, key, value, reterr);
}

static int config_unit(struct device_def *def, json_t *obj, struct err *reterr)
{
	const struct opts_row *place = &def->type->units->table->rows[0];
	struct unit_def *unit;
	const char *key;
	json_t *value;
	int rc;

	if (!json_is_object(obj))
		return err_set(reterr, -EINVAL, "expected an object");
	if (!json_object_get(obj, place->name))
		return err_set(reterr, -EINVAL, "%s: expected %llu..%llu, got none", place->name,
			       (unsigned long long)place->min, (unsigned long long)place->max);
	rc = device_unit_add(def, &unit, reterr);
	json_object_foreach(obj, key, value)
	{
		if (rc == 0)
			rc = config_set(config_set_unit, unit, key, value, reterr);
	}
	return rc;
}

static int config_units(struct device_def *def, json_t *value, struct err *reterr)
{
	const char *list = def->type->units->list_key;
	json_t *obj;
	size_t i;
	int rc;

	if (!json_is_array(value))
		return err_set(reterr, -EINVAL, "%s: expected an array", list);
	json_array_foreach(value, i, obj)
	{
		rc = config_unit(def, obj, reterr);
		if (rc < 0)
			return err_prefix(reterr, rc, "%s[%zu]", list, i);
	}
	return 0;
}

static int config_device(struct app_config *cfg, json_t *obj, const char *where, struct err *reterr)
{
	const char *type = json_string_value(json_object_get(obj, "type"));
	struct device_def *def;
	const char *key;
	json_t *value;
	int rc;

	if (!json_is_object(obj))
		return err_set(reterr, -EINVAL, "%s: expected an object", where);
	rc = app_config_device_add(cfg, where, &def, reterr);
	if (rc == 0)
		rc = device_def_type_set(def, type ? type : "", reterr);
	if (rc < 0)
		return rc;
	json_object_foreach(obj, key, value)
	{
		if (!strcmp(key, "type"))
			continue;
		if (def->type->units && !strcmp(key, def->type->units->list_key))
			rc = config_units(def, value, reterr);
		else
			rc = config_set(config_set_device, def, key, value, reterr);
		if (rc < 0)
			return err_prefix(reterr, rc, "%s", where);
	}
	return 0;
}

static int config_devices(struct app_config *cfg, json_t *value, const char *path,
			  struct err *reterr)
{
	char where[192];
	json_t *obj;
	size_t i;
	int rc;

	if (!json_is_array(value))
		return err_set(reterr, -EINVAL, "devices: expected an array");
	json_array_foreach(value, i, obj)
	{
		snprintf(where, sizeof(where), "%.150s: devices[%zu]", path, i);
		rc = config_device(cfg, obj, where, reterr);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int config_cores(struct app_config *cfg, json_t *value, struct err *reterr)
{
	const char *text;
	char buf[32];

	if (!(json_is_string(value) || json_is_integer(value)) ||
	    !config_text(value, buf, sizeof(buf), &text))
		return err_set(reterr, -EINVAL,
			       "cores: expected a number or a list like \"0-3,6\"");
	free(cfg->cores);
	cfg->cores = strdup(text);
	return cfg->cores ? 0 : err_set(reterr, -ENOMEM, "out of memory");
}

static int config_pin(struct app_config *cfg, json_t *value, struct err *reterr)
{
	if (!json_is_boolean(value))
		return err_set(reterr, -EINVAL, "pin: expected true or false");
	cfg->pin = json_is_true(value);
	return 0;
}

static int config_log_level(struct app_config *cfg, json_t *value, struct err *reterr)
{
	const char *text = json_string_value(value);

	if (!text || !log_level_parse(text, &cfg->log_level))
		return err_set(reterr, -EINVAL,
			       "log-level: expected error, warning, notice, info or "
			       "debug, got '%.64s'",
			       text ? text : "(not a string)");
	return 0;
}

static const struct {
	const char *key;
	int (*set)(struct app_config *cfg, json_t *value, struct err *reterr);
} config_rows[] = {
	{ "cores", config_cores },
	{ "pin", config_pin },
	{ "log-level", config_log_level },
};

static int config_key(struct app_config *cfg, const char *path, const char *key, json_t *value,
		      struct err *reterr)
{
	int rc = -ENOENT;

	if (!strcmp(key, "devices")) {
		rc = config_devices(cfg, value, path, reterr);
		/* a device's own message begins with the path already */
		return rc < 0 && !json_is_array(value) ? err_prefix(reterr, rc, "%s", path) : rc;
	}
	for (size_t i = 0; i < ARRAY_SIZE(config_rows); i++)
		if (!strcmp(key, config_rows[i].key))
			rc = config_rows[i].set(cfg, value, reterr);
	if (rc == -ENOENT)
		err_set(reterr, rc, "%.64s: unknown key; expected devices, cores, pin or log-level",
			key);
	return rc < 0 ? err_prefix(reterr, rc, "%s", path) : 0;
}

int config_read(struct app_config *cfg, const char *path, struct err *reterr)
{
	json_error_t at;
	json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &at);
	json_t *value;
	const char *key;
	int rc = 0;

	if (!root && json_error_code(&at) == json_error_cannot_open_file)
		return err_set(reterr, -ENOENT, "%s: cannot read: %s", path, strerror(errno));
	if (!root)
		return err_set(reterr, -EINVAL, "%s:%d:%d: %s", path, at.line, at.column, at.text);
	if (!json_is_object(root))
		rc = err_set(reterr, -EINVAL, "%s: expected an object", path);
	json_object_foreach(root, key, value)
	{
		rc = config_key(cfg, path, key, value, reterr);
		if (rc < 0)
			break;
	}
	json_decref(root);
	return rc;
}
