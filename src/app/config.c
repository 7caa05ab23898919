#include "app/config.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "mgmt/jsonfile.h"
#include "mgmt/replay.h"

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

static int config_set_option(void *cfg, const char *key, const char *value, struct err *reterr)
{
	return app_config_option(cfg, key, value, reterr);
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

static int config_key(struct device_def *def, const char *key, json_t *value, struct err *reterr)
{
	if (def->type->units && !strcmp(key, def->type->units->list_key))
		return config_units(def, value, reterr);
	return config_set(config_set_device, def, key, value, reterr);
}

static int config_device(struct app_config *cfg, const struct jsonfile *f, json_t *obj, size_t idx,
			 struct err *reterr)
{
	const char *type = json_string_value(json_object_get(obj, "type"));
	struct device_def *def;
	char way[32], where[192];
	const char *key;
	json_t *value;
	int rc;

	snprintf(way, sizeof(way), "devices[%zu]", idx);
	snprintf(where, sizeof(where), "%.140s:%u: %s", f->path, jsonfile_line(f->text, way), way);
	if (!json_is_object(obj))
		return err_set(reterr, -EINVAL, "%s: expected an object", where);
	rc = app_config_device_add(cfg, where, &def, reterr);
	if (rc == 0)
		rc = device_def_type_set(def, type ? type : "", reterr);
	if (rc < 0)
		return rc;
	json_object_foreach(obj, key, value)
	{
		struct err why;

		if (!strcmp(key, "type"))
			continue;
		rc = config_key(def, key, value, &why);
		if (rc < 0)
			return err_set(reterr, rc, "%.140s:%u: %s: %.300s", f->path,
				       jsonfile_line_of(f, way, why.msg), way, why.msg);
	}
	return 0;
}

static int config_devices(struct app_config *cfg, const struct jsonfile *f, json_t *value,
			  struct err *reterr)
{
	json_t *obj;
	size_t i;
	int rc;

	json_array_foreach(value, i, obj)
	{
		rc = config_device(cfg, f, obj, i, reterr);
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

static int config_root(struct app_config *cfg, const struct jsonfile *f, const char *key,
		       json_t *value, struct err *reterr)
{
	struct err why;
	int rc = -ENOENT;

	if (!strcmp(key, "devices") && json_is_array(value))
		return config_devices(cfg, f, value, reterr);
	if (!strcmp(key, "devices"))
		rc = err_set(&why, -EINVAL, "devices: expected an array");
	for (size_t i = 0; i < ARRAY_SIZE(config_rows); i++)
		if (!strcmp(key, config_rows[i].key))
			rc = config_rows[i].set(cfg, value, &why);
	if (rc == -ENOENT && !json_is_array(value) && !json_is_object(value))
		rc = config_set(config_set_option, cfg, key, value, &why);
	if (rc == -ENOENT)
		err_set(&why, rc,
			"%.64s: unknown key; expected devices, cores, pin or log-level, an option "
			"of --help-rpc or --help-metrics, or, for calls, subsystems",
			key);
	return rc < 0 ? err_set(reterr, rc, "%.140s:%u: %.300s", f->path,
				jsonfile_line(f->text, key), why.msg)
		      : 0;
}

/* A file of calls: they are run at the start. */
static int config_replay(struct app_config *cfg, struct jsonfile *f, struct err *reterr)
{
	struct replay **more = realloc(cfg->replays, (cfg->replay_count + 1) * sizeof(*more));

	if (!more)
		return err_set(reterr, -ENOMEM, "%s: out of memory", f->path);
	cfg->replays = more;
	for (uint32_t i = 0; i < cfg->replay_count; i++)
		if (!strcmp(more[i]->file.path, f->path))
			return err_set(reterr, -EINVAL, "%s: is named twice", f->path);
	if (replay_new(f, &more[cfg->replay_count], reterr) < 0)
		return reterr->code;
	cfg->replay_count++;
	return 0;
}

int config_read(struct app_config *cfg, const char *path, struct err *reterr)
{
	struct jsonfile f;
	json_t *value;
	const char *key;
	int rc = jsonfile_load(&f, path, reterr);

	if (rc == 0 && replay_is(f.root)) {
		rc = config_replay(cfg, &f, reterr);
	} else if (rc == 0) {
		if (!json_is_object(f.root))
			rc = err_set(reterr, -EINVAL, "%s: expected an object", path);
		json_object_foreach(f.root, key, value)
		{
			rc = config_root(cfg, &f, key, value, reterr);
			if (rc < 0)
				break;
		}
	}
	jsonfile_fini(&f);
	return rc;
}

/* ---- checking without running ---- */

static int check_file(const struct device_def *def, const char *key, const char *file,
		      struct err *reterr)
{
	struct stat st;

	if (!file || stat(file, &st) == 0)
		return 0;
	return err_set(reterr, -errno, "%s: %s: %.256s: %s", def->where, key, file,
		       strerror(errno));
}

/* The folder of its socket must be there. */
static int check_socket(const struct device_def *def, struct err *reterr)
{
	const char *slash = def->socket ? strrchr(def->socket, '/') : NULL;
	char folder[128];
	struct stat st;

	if (!slash || slash == def->socket || (size_t)(slash - def->socket) >= sizeof(folder))
		return 0;
	snprintf(folder, sizeof(folder), "%.*s", (int)(slash - def->socket), def->socket);
	if (stat(folder, &st) == 0 && S_ISDIR(st.st_mode))
		return 0;
	return err_set(reterr, -ENOENT, "%s: socket: %.128s: there is no folder %s", def->where,
		       def->socket, folder);
}

static int check_device(const struct device_def *def, struct err *reterr)
{
	char where[UNIT_WHERE_MAX];
	int rc = check_socket(def, reterr);

	if (rc == 0)
		rc = check_file(def, "file", def->back.file, reterr);
	for (uint32_t i = 0; i < def->unit_count && rc == 0; i++)
		rc = check_file(def, unit_where(&def->units[i].place, where),
				def->units[i].back.file, reterr);
	return rc;
}

static int config_check_all(struct app_config *cfg, const char *path, struct err *reterr)
{
	int rc = config_read(cfg, path, reterr);

	if (rc == 0)
		rc = app_config_check(cfg, reterr);
	for (uint32_t i = 0; i < cfg->device_count && rc == 0; i++)
		rc = check_device(&cfg->devices[i], reterr);
	for (uint32_t i = 0; i < cfg->replay_count && rc == 0; i++)
		rc = replay_check(cfg->replays[i], reterr);
	return rc;
}

int config_check(const char *path, char *ret_text, size_t text_size, struct err *reterr)
{
	struct app_config cfg = { .log_level = LOG_NOTICE };
	int rc = config_check_all(&cfg, path, reterr);

	if (rc == 0)
		snprintf(ret_text, text_size, "%u %s, no fault found",
			 cfg.replay_count ? cfg.replays[0]->count : cfg.device_count,
			 cfg.replay_count ? "calls" : "devices");
	app_config_fini(&cfg);
	return rc;
}
