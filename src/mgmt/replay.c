#include "mgmt/replay.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/log.h"
#include "mgmt/params.h"
#include "mgmt/registry.h"
#include "mgmt/rpc.h"

/* The last section whose calls are early: what disks of the command line may refer to. */
#define REPLAY_EARLY_LAST "bdev"

/* ---- a file's form ---- */

static __attribute__((format(printf, 4, 5))) int
replay_fault(const struct replay *r, const char *way, struct err *reterr, const char *fmt, ...)
{
	char text[ERR_MSG_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(reterr, -EINVAL, "%.150s:%u: %s%s%s", r->file.path,
		       jsonfile_line(r->file.text, way), way, *way ? ": " : "", text);
}

static int replay_keys(const struct replay *r, const json_t *obj, const char *way,
		       const char *const *names, struct err *reterr)
{
	const char *key;
	json_t *value;

	if (!json_is_object(obj))
		return replay_fault(r, way, reterr, "expected an object");
	json_object_foreach((json_t *)obj, key, value)
	{
		char at[192];
		bool known = false;

		for (size_t i = 0; names[i]; i++)
			known |= !strcmp(key, names[i]);
		if (known)
			continue;
		snprintf(at, sizeof(at), "%s%s%.64s", way, *way ? "." : "", key);
		return replay_fault(r, at, reterr, "unknown key; expected %s%s%s", names[0],
				    names[1] ? " or " : "", names[1] ? names[1] : "");
	}
	return 0;
}

static int replay_call_add(struct replay *r, const char *section, bool early, const json_t *obj,
			   const char *way, struct err *reterr)
{
	static const char *const keys[] = { "method", "params", NULL };
	const json_t *params = json_object_get(obj, "params");
	const char *method = json_string_value(json_object_get(obj, "method"));
	struct replay_call *more;
	int rc = replay_keys(r, obj, way, keys, reterr);

	if (rc < 0)
		return rc;
	if (!method)
		return replay_fault(r, way, reterr, "method: expected a string");
	if (json_is_null(params))
		params = NULL;
	if (params && !json_is_object(params))
		return replay_fault(r, way, reterr, "params: expected an object");
	more = realloc(r->calls, (r->count + 1) * sizeof(*more));
	if (!more)
		return err_set(reterr, -ENOMEM, "%s: out of memory", r->file.path);
	r->calls = more;
	more += r->count++;
	*more = (struct replay_call){
		.section = section, .method = method, .params = params, .early = early
	};
	snprintf(more->way, sizeof(more->way), "%s", way);
	return 0;
}

/* "config", or a batch of it. */
static int replay_calls(struct replay *r, const char *section, bool early, const json_t *list,
			const char *way, bool batch, struct err *reterr)
{
	json_t *obj;
	size_t i;
	int rc;

	if (!json_is_array(list))
		return replay_fault(r, way, reterr, "expected an array");
	json_array_foreach((json_t *)list, i, obj)
	{
		const json_t *inner = json_is_array(obj) ? obj : json_object_get(obj, "batch");
		char at[96];

		if ((size_t)snprintf(at, sizeof(at), "%s[%zu]%s", way, i,
				     inner && inner != obj ? ".batch" : "") >= sizeof(at))
			return replay_fault(r, way, reterr, "expected fewer calls");
		rc = inner && !batch ? replay_calls(r, section, early, inner, at, true, reterr)
				     : replay_call_add(r, section, early, obj, at, reterr);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The number of the section here; rpc_section_count: none. */
static uint32_t replay_section_index(const char *name)
{
	uint32_t i = 0;

	while (i < rpc_section_count && strcmp(rpc_sections[i].name, name))
		i++;
	return i;
}

static int replay_section(struct replay *r, const json_t *obj, size_t idx, struct err *reterr)
{
	static const char *const keys[] = { "subsystem", "config", NULL };
	const char *name = json_string_value(json_object_get(obj, "subsystem"));
	const json_t *config = json_object_get(obj, "config");
	uint32_t at;
	char way[64];
	int rc;

	snprintf(way, sizeof(way), "subsystems[%zu]", idx);
	rc = replay_keys(r, obj, way, keys, reterr);
	if (rc < 0)
		return rc;
	if (!name)
		return replay_fault(r, way, reterr, "subsystem: expected a string");
	if (!config || json_is_null(config))
		return 0;
	at = replay_section_index(name);
	if (at == rpc_section_count) {
		if (json_array_size(config))
			log_warning("%s:%u: subsystem '%.64s': there is none here; its %zu calls "
				    "are passed over",
				    r->file.path, jsonfile_line(r->file.text, way), name,
				    json_array_size(config));
		return 0;
	}
	snprintf(way, sizeof(way), "subsystems[%zu].config", idx);
	return replay_calls(r, rpc_sections[at].name, at <= replay_section_index(REPLAY_EARLY_LAST),
			    config, way, false, reterr);
}

bool replay_is(const json_t *root)
{
	return json_object_get(root, "subsystems");
}

int replay_new(struct jsonfile *file, struct replay **ret_replay, struct err *reterr)
{
	static const char *const keys[] = { "subsystems", NULL };
	struct replay *r = calloc(1, sizeof(*r));
	const json_t *list = json_object_get(file->root, "subsystems");
	json_t *obj;
	size_t i;
	int rc;

	if (!r) {
		jsonfile_fini(file);
		return err_set(reterr, -ENOMEM, "out of memory");
	}
	r->file = *file;
	*file = (struct jsonfile){ 0 };
	rc = replay_keys(r, r->file.root, "", keys, reterr);
	if (rc == 0 && !json_is_array(list))
		rc = replay_fault(r, "subsystems", reterr, "expected an array");
	if (rc == 0)
		json_array_foreach((json_t *)list, i, obj)
		{
			rc = replay_section(r, obj, i, reterr);
			if (rc < 0)
				break;
		}
	if (rc < 0)
		replay_free(r);
	else
		*ret_replay = r;
	return rc;
}

void replay_free(struct replay *r)
{
	if (!r)
		return;
	jsonfile_fini(&r->file);
	free(r->calls);
	free(r);
}

uint32_t replay_line(const struct replay *r, const struct replay_call *call)
{
	return jsonfile_line(r->file.text, call->way);
}

/* ---- what calls are about ---- */

/* The parameters that name what a call is about; the first that it has. */
static const char *const thing_keys[] = { "ctrlr", "nqn", "name", "base_bdev", "base_name" };

static const char *thing_name(const json_t *params, const char **ret_key)
{
	for (size_t i = 0; i < ARRAY_SIZE(thing_keys); i++) {
		const char *name = json_string_value(json_object_get(params, thing_keys[i]));

		*ret_key = thing_keys[i];
		if (name)
			return name;
	}
	*ret_key = NULL;
	return NULL;
}

/* "bdev", "vhost": a name is one's own in its family only. */
static size_t method_family(const char *method)
{
	return strcspn(method, "_");
}

bool replay_same_thing(const char *method_a, const json_t *params_a, const char *method_b,
		       const json_t *params_b)
{
	const size_t family = method_family(method_a);
	const char *key_a, *key_b;
	const char *a = thing_name(params_a, &key_a), *b = thing_name(params_b, &key_b);

	if (!a || !b)
		return !a && !b && !strcmp(method_a, method_b);
	return family == method_family(method_b) && !strncmp(method_a, method_b, family) &&
	       !strcmp(key_a, key_b) && !strcmp(a, b);
}

/* It makes what it names, and does not change something that is there. */
static bool method_makes(const char *method)
{
	return strstr(method, "_create");
}

/* "device_...": about devices whoever made them, those of the command line, too. */
static bool method_is_for_all(const char *method)
{
	return !strncmp(method, "device_", strlen("device_"));
}

const struct replay_call *replay_find_controller(const struct replay *r, const char *name)
{
	for (uint32_t i = 0; i < r->count; i++) {
		const struct replay_call *c = &r->calls[i];
		const char *key, *thing = thing_name(c->params, &key);

		if (thing && !c->early && !method_is_for_all(c->method) && !strcmp(thing, name))
			return c;
	}
	return NULL;
}

int replay_check_apart(const struct replay *a, const struct replay *b, struct err *reterr)
{
	for (uint32_t i = 0; i < a->count; i++) {
		const struct replay_call *x = &a->calls[i];
		const char *key, *name = thing_name(x->params, &key);

		for (uint32_t k = 0; name && k < b->count; k++) {
			const struct replay_call *y = &b->calls[k];

			if (replay_same_thing(x->method, x->params, y->method, y->params))
				return err_set(reterr, -EEXIST,
					       "%.150s:%u: %s: %s: '%.64s' is also that of "
					       "%.150s:%u; delete it in one of them",
					       a->file.path, replay_line(a, x), x->method, key,
					       name, b->file.path, replay_line(b, y));
		}
	}
	return 0;
}

/* ---- checking ---- */

/* It is about the start, which these calls are a part of, or only tunes what there is none of. */
static bool method_passed_over(const char *method)
{
	static const char *const starts[] = { "framework_start_init", "framework_wait_init",
					      "start_subsystem_init", "wait_subsystem_init" };
	static const char *const ends[] = { "_set_options", "_set_opts", "_set_hotplug" };
	const size_t len = strlen(method);

	for (size_t i = 0; i < ARRAY_SIZE(starts); i++)
		if (!strcmp(method, starts[i]))
			return true;
	if (registry_find(method))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		if (len > strlen(ends[i]) && !strcmp(method + len - strlen(ends[i]), ends[i]))
			return true;
	return false;
}

static int call_fault(const struct replay *r, const struct replay_call *c, const struct err *why,
		      struct err *reterr)
{
	char way[128];

	snprintf(way, sizeof(way), "%s.params", c->way);
	return err_set(reterr, why->code, "%.150s:%u: %s: %.300s", r->file.path,
		       jsonfile_line_of(&r->file, way, why->msg), c->method, why->msg);
}

static int call_check_params(const struct replay_call *c, struct err *reterr)
{
	const struct rpc_method *m = registry_find(c->method);
	const char *file = json_string_value(json_object_get(c->params, "filename"));
	struct stat st;
	void *params;
	int rc = 0;

	if (method_passed_over(c->method))
		return 0;
	if (!m)
		return err_set(reterr, -ENOENT,
			       "there is no such method; rpc_get_methods and --help-rpc list those "
			       "there are");
	if (!m->params)
		return json_object_size(c->params)
			       ? err_set(reterr, -EINVAL, "expected no parameters")
			       : 0;
	params = calloc(1, m->params_bytes ? m->params_bytes : 1);
	if (!params)
		return err_set(reterr, -ENOMEM, "out of memory");
	rc = params_fill(m->params, params, c->params, reterr);
	opts_free(m->params, params);
	free(params);
	if (rc == 0 && file && stat(file, &st) < 0)
		rc = err_set(reterr, -errno, "filename: %.256s: %s", file, strerror(errno));
	return rc;
}

static int call_check_unique(const struct replay *r, uint32_t idx, struct err *reterr)
{
	const struct replay_call *c = &r->calls[idx];
	const char *key, *name = thing_name(c->params, &key);

	for (uint32_t i = 0; name && method_makes(c->method) && i < idx; i++) {
		const struct replay_call *other = &r->calls[i];

		if (method_makes(other->method) &&
		    replay_same_thing(c->method, c->params, other->method, other->params))
			return err_set(reterr, -EEXIST, "%s: '%.64s' is also made on line %u", key,
				       name, replay_line(r, other));
	}
	return 0;
}

int replay_check(const struct replay *r, struct err *reterr)
{
	for (uint32_t i = 0; i < r->count; i++) {
		struct err why = { 0 };
		int rc = call_check_params(&r->calls[i], &why);

		if (rc == 0)
			rc = call_check_unique(r, i, &why);
		if (rc < 0)
			return call_fault(r, &r->calls[i], &why, reterr);
	}
	return 0;
}

/* ---- running ---- */

static struct replay_call *run_call(const struct replay_run *run)
{
	return &run->list[run->at_replay]->calls[run->at_call];
}

/* To the next call that is this run's; false: no more. */
static bool run_seek(struct replay_run *run)
{
	for (; run->at_replay < run->count; run->at_replay++, run->at_call = 0) {
		const struct replay *r = run->list[run->at_replay];

		for (; run->at_call < r->count; run->at_call++) {
			const struct replay_call *c = &r->calls[run->at_call];

			if (c->early != run->early)
				continue;
			if (!method_passed_over(c->method))
				return true;
			log_warning("%s:%u: %s: passed over: it has no effect here", r->file.path,
				    replay_line(r, c), c->method);
		}
	}
	return false;
}

static void run_pump(struct replay_run *run);

static void run_answered(void *arg, int code, const char *text)
{
	struct replay_run *run = arg;
	struct replay_call *c = run_call(run);

	if (code) {
		struct err err, full;

		err_set(&err, -EINVAL, "%s", text);
		call_fault(run->list[run->at_replay], c, &err, &full);
		c->failed = true;
		if (run->ignore)
			log_error("%s; going on without it", full.msg);
		else
			run->rc = err_set(run->reterr, -EINVAL,
					  "%.400s; --json-ignore-init-errors goes on without it",
					  full.msg);
	}
	run->at_call++;
	run->answered = true;
	if (!run->pumping)
		run_pump(run);
}

static void run_pump(struct replay_run *run)
{
	run->pumping = true;
	for (;;) {
		const struct replay_call *c;

		if (run->rc < 0 || !run_seek(run))
			break;
		c = run_call(run);
		run->answered = false;
		rpc_run(c->method, c->params, run_answered, run);
		if (!run->answered) {
			run->pumping = false;
			return; /* run_answered goes on */
		}
	}
	run->done(run, run->rc);
}

void replay_start(struct replay_run *run)
{
	run->at_replay = 0;
	run->at_call = 0;
	run->rc = 0;
	run_pump(run);
}
