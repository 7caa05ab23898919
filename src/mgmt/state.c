#include "mgmt/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/check.h"
#include "base/list.h"
#include "base/log.h"
#include "loop/inherit.h"
#include "loop/statefile.h"

/* What a call may add to the file: its parameters, indented, and those that it did not give. */
#define STATE_CALL_TIMES 4
#define STATE_CALL_BYTES 4096
/* Kept beyond what is needed, so that calls need not wait for room. */
#define STATE_SPARE_BYTES 65536

enum state_phase {
	STATE_OFF,
	STATE_ON,
	STATE_STOPPING
};

struct state_call {
	struct list node;
	struct rpc_call *call;
	size_t bytes; /* waiting for room: what it may add */
	void (*run)(struct rpc_call *call);
	json_t *result; /* waiting for the disk */
};

struct state_writing {
	struct statefile_save save; /* first */
	struct list calls;	    /* of which the changes are in it */
};

static struct {
	enum state_phase phase;
	struct loop *loop;
	char *path;
	int lock_fd;
	struct statefile file;
	struct replay *restored;
	struct replay *const *given;
	uint32_t given_count;
	struct list admitting, changed;
	uint32_t writing;		/* how many are under way */
	size_t text_bytes, spare_bytes; /* of the last content; the room for the next */
	size_t pending_bytes;		/* what calls since then may add */
	bool pump_posted;
	struct loop_msg pump_msg;
	void (*stopped)(void *arg);
	void *stopped_arg;
} st = { .lock_fd = -1,
	 .admitting = { &st.admitting, &st.admitting },
	 .changed = { &st.changed, &st.changed } };

/* ---- the content ---- */

/* Is the call one about something that a file of -c has made? */
static bool state_given(const char *method, const json_t *params)
{
	for (uint32_t i = 0; i < st.given_count; i++) {
		const struct replay *r = st.given[i];

		for (uint32_t k = 0; k < r->count; k++)
			if (replay_same_thing(method, params, r->calls[k].method,
					      r->calls[k].params))
				return true;
	}
	return false;
}

static const char *call_method(const json_t *call)
{
	return json_string_value(json_object_get(call, "method"));
}

static bool calls_have(const json_t *calls, const char *method, const json_t *params)
{
	const json_t *call;
	size_t i;

	json_array_foreach((json_t *)calls, i, call)
	{
		if (replay_same_thing(method, params, call_method(call),
				      json_object_get(call, "params")))
			return true;
	}
	return false;
}

/* What could not be restored, and was to be gone on without, stays for the next time. */
static void section_keep(const char *section, const json_t *all, json_t *calls)
{
	for (uint32_t i = 0; st.restored && i < st.restored->count; i++) {
		const struct replay_call *c = &st.restored->calls[i];

		if (!c->failed || strcmp(c->section, section) ||
		    calls_have(all, c->method, c->params))
			continue;
		json_array_append_new(calls, c->params ? json_pack("{s:s, s:O}", "method",
								   c->method, "params", c->params)
						       : json_pack("{s:s}", "method", c->method));
	}
}

static json_t *section_calls(const struct rpc_section *s)
{
	json_t *all = json_array(), *calls = json_array(), *call;
	size_t i;

	s->write(all);
	json_array_foreach(all, i, call)
	{
		if (!state_given(call_method(call), json_object_get(call, "params")))
			json_array_append(calls, call);
	}
	section_keep(s->name, all, calls);
	json_decref(all);
	return calls;
}

static json_t *section_all_calls(const struct rpc_section *s)
{
	json_t *calls = json_array();

	s->write(calls);
	return calls;
}

/* NULL: no memory. */
static char *sections_text(json_t *(*calls)(const struct rpc_section *s))
{
	json_t *list = json_array(), *root;
	bool whole = true;
	char *text = NULL;

	for (uint32_t i = 0; i < rpc_section_count; i++)
		if (rpc_sections[i].write)
			whole &= !json_array_append_new(
				list, json_pack("{s:s, s:o}", "subsystem", rpc_sections[i].name,
						"config", calls(&rpc_sections[i])));
	root = json_pack("{s:o}", "subsystems", list);
	if (root && whole)
		text = json_dumps(root, JSON_INDENT(1));
	json_decref(root);
	return text;
}

/* All of it. */
static char *state_text(void)
{
	return sections_text(section_calls);
}

static void state_write(void *arg, FILE *to)
{
	fprintf(to, "%s\n", (const char *)arg);
}

/* ---- answers ---- */

static const char *state_why(int error)
{
	return error == ESHUTDOWN ? "the daemon is stopping" : strerror(error);
}

static void state_refuse(struct rpc_call *call, int error)
{
	rpc_error(
		call, RPC_INTERNAL_ERROR,
		"--state %.200s: no room for the change: %s; nothing was changed. Make room there "
		"and try again",
		st.path, state_why(error));
}

static void changed_answer(struct state_call *c, bool ok, int error)
{
	if (ok)
		rpc_result(c->call, c->result);
	else
		rpc_error(
			c->call, RPC_INTERNAL_ERROR,
			"--state %.200s: cannot be written: %s; the change is in force, but would "
			"be lost at a restart. The next change that can be written saves it, too",
			st.path, state_why(error));
	if (!ok)
		json_decref(c->result);
	free(c);
}

static struct state_call *state_pop(struct list *calls)
{
	struct list *node = list_pop(calls);

	return node ? list_entry(node, struct state_call, node) : NULL;
}

/* ---- writing ---- */

static void state_pump(void);

static void state_check_stopped(void)
{
	if (st.phase != STATE_STOPPING || st.writing || !list_empty(&st.changed))
		return;
	st.phase = STATE_OFF;
	statefile_spare_remove(&st.file);
	st.stopped(st.stopped_arg);
}

static void writing_done(struct statefile_save *s, bool ok)
{
	struct state_writing *w = container_of(s, struct state_writing, save);
	struct state_call *c;

	st.writing--;
	st.spare_bytes = s->spare_bytes;
	if (ok && s->text_bytes)
		st.text_bytes = s->text_bytes;
	if (!ok && list_empty(&w->calls))
		while ((c = state_pop(&st.admitting)) != NULL) {
			state_refuse(c->call, s->error);
			free(c);
		}
	else if (!ok)
		log_error("--state %s: cannot be written: %s", st.path, strerror(s->error));
	while ((c = state_pop(&w->calls)) != NULL)
		changed_answer(c, ok, s->error);
	free(w);
	state_pump();
	state_check_stopped();
}

static struct state_writing *writing_new(void)
{
	struct state_writing *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	list_init(&w->calls);
	w->save.done = writing_done;
	return w;
}

/* All that has changed so far. False: no memory. */
static bool state_save(void)
{
	struct state_writing *w = writing_new();
	char *text = w ? state_text() : NULL;
	struct state_call *c;

	if (!text) {
		free(w);
		return false;
	}
	while ((c = state_pop(&st.changed)) != NULL)
		list_append(&w->calls, &c->node);
	w->save.spare_bytes = st.phase == STATE_STOPPING
				      ? 0
				      : 2 * st.text_bytes + st.pending_bytes + STATE_SPARE_BYTES;
	st.spare_bytes = 0; /* this writing takes it */
	st.pending_bytes = 0;
	st.writing++;
	statefile_save(&st.file, &w->save, st.loop, state_write, text);
	free(text);
	return true;
}

static size_t state_needs(const struct state_call *c)
{
	return st.text_bytes + st.pending_bytes + c->bytes;
}

static bool spare_more(const struct state_call *c)
{
	struct state_writing *w = writing_new();

	if (!w)
		return false;
	w->save.spare_bytes = state_needs(c);
	st.writing++;
	statefile_spare(&st.file, &w->save, st.loop);
	return true;
}

static void state_pump_later(struct loop_msg *msg)
{
	st.pump_posted = false;
	state_pump();
}

static void pump_post(void)
{
	if (st.pump_posted)
		return;
	st.pump_posted = true;
	st.pump_msg.fn = state_pump_later;
	loop_post(st.loop, &st.pump_msg);
}

/* Whatever can go on now. */
static void state_pump(void)
{
	struct state_call *c;

	if (st.phase != STATE_ON || st.writing)
		return;
	while (!list_empty(&st.admitting)) {
		c = list_entry(st.admitting.next, struct state_call, node);
		if (state_needs(c) > st.spare_bytes)
			break;
		list_remove(&c->node);
		st.pending_bytes += c->bytes;
		c->run(c->call);
		free(c);
	}
	if (!list_empty(&st.changed)) {
		if (state_save())
			return;
		while ((c = state_pop(&st.changed)) != NULL)
			changed_answer(c, false, ENOMEM);
	}
	if (list_empty(&st.admitting))
		return;
	c = list_entry(st.admitting.next, struct state_call, node);
	if (spare_more(c))
		return;
	while ((c = state_pop(&st.admitting)) != NULL) {
		state_refuse(c->call, ENOMEM);
		free(c);
	}
}

/* ---- calls ---- */

bool state_admit(struct rpc_call *call, const json_t *params, void (*run)(struct rpc_call *call))
{
	struct state_call *c;
	size_t bytes;

	if (st.phase != STATE_ON)
		return false;
	bytes = STATE_CALL_TIMES * json_dumpb(params, NULL, 0, JSON_COMPACT) + STATE_CALL_BYTES;
	c = calloc(1, sizeof(*c));
	if (!c) {
		state_refuse(call, ENOMEM);
		return true;
	}
	*c = (struct state_call){ .call = call, .bytes = bytes, .run = run };
	if (!st.writing && list_empty(&st.admitting) && state_needs(c) <= st.spare_bytes) {
		st.pending_bytes += bytes;
		free(c);
		return false;
	}
	list_append(&st.admitting, &c->node);
	pump_post();
	return true;
}

void rpc_result_saved(struct rpc_call *call, json_t *result)
{
	struct state_call *c;

	if (st.phase == STATE_OFF || !result) {
		rpc_result(call, result);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		json_decref(result);
		rpc_result(call, NULL);
		return;
	}
	*c = (struct state_call){ .call = call, .result = result };
	if (st.phase == STATE_STOPPING) {
		changed_answer(c, false, ESHUTDOWN);
		return;
	}
	list_append(&st.changed, &c->node);
	pump_post();
}

/* ---- its life ---- */

static int state_lock(const char *path, struct err *reterr)
{
	char *lock;

	if (asprintf(&lock, "%s.lock", path) < 0)
		return err_set(reterr, -ENOMEM, "out of memory");
	st.lock_fd = inherit_take(lock, NULL);
	if (st.lock_fd < 0)
		st.lock_fd = open(lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (st.lock_fd < 0)
		err_set(reterr, -errno, "--state %s: %s: %s", path, lock, strerror(errno));
	else
		inherit_keep(st.lock_fd, lock, false, NULL);
	free(lock);
	if (st.lock_fd < 0)
		return reterr->code;
	if (flock(st.lock_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	inherit_drop(st.lock_fd, "");
	close(st.lock_fd);
	st.lock_fd = -1;
	return err_set(reterr, -EBUSY, "--state %s: another process has it: give each its own",
		       path);
}

int state_open(const char *path, struct replay **ret_replay, struct err *reterr)
{
	struct jsonfile file;
	int rc = state_lock(path, reterr);

	if (rc < 0)
		return rc;
	*ret_replay = NULL;
	st.path = strdup(path);
	st.file = (struct statefile){ .path = st.path };
	if (!st.path)
		return err_set(reterr, -ENOMEM, "out of memory");
	rc = jsonfile_load(&file, path, reterr);
	if (rc == 0)
		st.text_bytes = strlen(file.text);
	if (rc == 0)
		rc = replay_new(&file, &st.restored, reterr);
	else
		jsonfile_fini(&file);
	*ret_replay = rc == 0 ? st.restored : NULL;
	return rc == -ENOENT ? 0 : rc < 0 ? err_prefix(reterr, rc, "--state") : 0;
}

void state_begin(struct loop *main_loop, struct replay *const *given, uint32_t given_count)
{
	if (!st.path)
		return;
	st.phase = STATE_ON;
	st.loop = main_loop;
	st.given = given;
	st.given_count = given_count;
}

void state_stop(void (*stopped)(void *arg), void *arg)
{
	struct state_call *c;

	if (st.phase == STATE_OFF) {
		stopped(arg);
		return;
	}
	st.phase = STATE_STOPPING;
	st.stopped = stopped;
	st.stopped_arg = arg;
	while ((c = state_pop(&st.admitting)) != NULL) {
		state_refuse(c->call, ESHUTDOWN);
		free(c);
	}
	/* the content is taken now: what is there leaves soon */
	if (!list_empty(&st.changed) && !state_save())
		while ((c = state_pop(&st.changed)) != NULL)
			changed_answer(c, false, ENOMEM);
	state_check_stopped();
}

/* ---- hand-over ---- */

char *state_calls_text(void)
{
	return sections_text(section_all_calls);
}

bool state_is_quiet(void)
{
	return !st.writing && list_empty(&st.changed) && list_empty(&st.admitting);
}

void state_take_over(void)
{
	for (uint32_t i = 0; i < rpc_section_count && st.restored; i++) {
		json_t *all;

		if (!rpc_sections[i].write)
			continue;
		all = section_all_calls(&rpc_sections[i]);
		for (uint32_t k = 0; k < st.restored->count; k++) {
			struct replay_call *c = &st.restored->calls[k];

			if (!strcmp(c->section, rpc_sections[i].name))
				c->failed = !calls_have(all, c->method, c->params);
		}
		json_decref(all);
	}
}

void state_close(void)
{
	replay_free(st.restored);
	free(st.path);
	if (st.lock_fd >= 0) {
		inherit_drop(st.lock_fd, "");
		close(st.lock_fd);
	}
	st.restored = NULL;
	st.path = NULL;
	st.lock_fd = -1;
	st.given_count = 0;
	st.text_bytes = st.spare_bytes = st.pending_bytes = 0;
}
