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
#include "base/num.h"
#include "loop/inherit.h"
#include "loop/statefile.h"
#include "mgmt/exchange.h"
#include "mgmt/sections.h"
#include "mgmt/undo.h"

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
	/* or, of a change without a call: */
	void (*then)(void *arg, bool saved);
	void *then_arg;
};

struct state_writing {
	struct statefile_save save; /* first */
	struct list calls;	    /* of which the changes are in it */
	struct state_call *undoing; /* has not been answered */
	bool pumping;
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
	bool checked;			/* the room and the folder, just now */
	bool behind;			/* the last content could not be written */
	bool early;			/* something was changed before state_begin */
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

static bool calls_have(const json_t *calls, const struct replay_call *c)
{
	const json_t *call;
	size_t i;

	json_array_foreach((json_t *)calls, i, call)
	{
		if (replay_same_thing(c->method, c->params, call_method(call),
				      json_object_get(call, "params")))
			return true;
	}
	return false;
}

/* What could not be restored, and was to be gone on without, stays for the next time. */
static void section_keep(const struct rpc_section *s, struct section_out *out)
{
	struct section_out all = { 0 };

	for (uint32_t i = 0; st.restored && i < st.restored->count; i++) {
		const struct replay_call *c = &st.restored->calls[i];
		json_t *call;

		if (!c->failed || strcmp(c->section, s->name))
			continue;
		if (!all.calls) {
			all.calls = json_array();
			s->write(&all);
		}
		if (calls_have(all.calls, c))
			continue;
		call = json_pack("{s:s, s:O*}", "method", c->method, "params", c->params);
		section_call(out, call);
		json_decref(call);
	}
	json_decref(all.calls);
}

/* All of it, a call a line. False: no memory. */
static bool sections_write(FILE *to)
{
	const char *sep = "";
	bool ok = true;

	fputs("{\n \"subsystems\": [", to);
	for (uint32_t i = 0; i < rpc_section_count; i++) {
		const struct rpc_section *s = &rpc_sections[i];
		struct section_out out = { .to = to, .skip = state_given };

		if (!s->write)
			continue;
		fprintf(to, "%s\n  {\"subsystem\": \"%s\", \"config\": [", sep, s->name);
		s->write(&out);
		section_keep(s, &out);
		fputs("\n  ]}", to);
		sep = ",";
		ok &= !out.failed;
	}
	fputs("\n ]\n}\n", to);
	return ok;
}

/* NULL: no memory. */
static char *state_text(void)
{
	char *text = NULL;
	size_t bytes;
	FILE *to = open_memstream(&text, &bytes);
	bool ok;

	if (!to)
		return NULL;
	ok = sections_write(to);
	ok &= !ferror(to);
	ok &= fclose(to) == 0;
	if (ok)
		return text;
	free(text);
	return NULL;
}

static void state_write(void *arg, FILE *to)
{
	fputs(arg, to);
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

static void changed_free(struct state_call *c)
{
	json_decref(c->result);
	free(c);
}

static void changed_fail(struct state_call *c, bool undone, int error)
{
	if (!c->call)
		c->then(c->then_arg, false);
	else
		rpc_error(c->call, RPC_INTERNAL_ERROR, "--state %.200s: cannot be written: %s; %s",
			  st.path, state_why(error),
			  undone ? "the change was undone"
				 : "the change is in force, but would be lost at a restart. The "
				   "next change that can be written saves it, too");
	changed_free(c);
}

static void changed_answer(struct state_call *c)
{
	if (c->call)
		rpc_result(c->call, json_incref(c->result));
	else
		c->then(c->then_arg, true);
	changed_free(c);
}

static struct state_call *state_pop(struct list *calls)
{
	struct list *node = list_pop(calls);

	return node ? list_entry(node, struct state_call, node) : NULL;
}

/* All of calls are answered with an error. */
static void changed_fail_all(struct list *calls, int error)
{
	struct state_call *c;

	while ((c = state_pop(calls)) != NULL)
		changed_fail(c, false, error);
}

static void admitting_refuse_all(int error)
{
	struct state_call *c;

	while ((c = state_pop(&st.admitting)) != NULL) {
		state_refuse(c->call, error);
		free(c);
	}
}

/* ---- writing ---- */

static void state_pump(void);
static bool state_save(void);

static void state_check_stopped(void)
{
	if (st.phase != STATE_STOPPING || st.writing || !list_empty(&st.changed))
		return;
	st.phase = STATE_OFF;
	statefile_spare_remove(&st.file);
	st.stopped(st.stopped_arg);
}

static void writing_end(struct state_writing *w)
{
	free(w);
	st.writing--;
	state_pump();
	state_check_stopped();
}

static void undo_run(struct state_writing *w);

static void undo_done(void *arg, int code, const char *text)
{
	struct state_writing *w = arg;
	struct state_call *c = w->undoing;

	if (code)
		log_error("--state %s: %s could not be undone: %s", st.path, c->call->method->name,
			  text);
	changed_fail(c, code == 0, w->save.error);
	w->undoing = NULL;
	if (!w->pumping)
		undo_run(w);
}

/* Begins to undo it, or answers that it cannot be undone. */
static void undo_start(struct state_writing *w, struct state_call *c)
{
	const struct rpc_call *call = c->call;
	json_t *params = NULL;
	const char *method =
		call ? undo_call(call->method->name, call->params, c->result, &params) : NULL;

	if (!method) {
		changed_fail(c, false, w->save.error);
		return;
	}
	w->undoing = c;
	rpc_run_unsaved(method, params, undo_done, w);
	json_decref(params);
}

/*
 * What could not be written is undone, the last change first; meanwhile nothing else changes. Then
 * the file is tried again: after an error it may have the new content.
 */
static void undo_run(struct state_writing *w)
{
	w->pumping = true;
	while (!list_empty(&w->calls) && st.phase == STATE_ON) {
		struct list *last = w->calls.prev;

		list_remove(last);
		undo_start(w, list_entry(last, struct state_call, node));
		if (w->undoing) {
			w->pumping = false;
			return; /* undo_done goes on */
		}
	}
	changed_fail_all(&w->calls, w->save.error);
	if (st.phase == STATE_ON)
		state_save();
	writing_end(w);
}

static void writing_done(struct statefile_save *s, bool ok)
{
	struct state_writing *w = container_of(s, struct state_writing, save);
	const bool for_room = list_empty(&w->calls);
	struct state_call *c;

	st.spare_bytes = s->spare_bytes;
	st.checked = ok && !s->text_bytes;
	if (ok && s->text_bytes) {
		st.text_bytes = s->text_bytes;
		st.behind = false;
	}
	if (ok) {
		while ((c = state_pop(&w->calls)) != NULL)
			changed_answer(c);
	} else if (for_room) {
		admitting_refuse_all(s->error);
	} else {
		log_error("--state %s: cannot be written: %s", st.path, strerror(s->error));
		st.behind = true;
		undo_run(w);
		return;
	}
	writing_end(w);
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
	w->save.spare_bytes = MAX(state_needs(c), st.spare_bytes);
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

/* Runs the calls that may change something now, in their order. */
static void admitting_run(void)
{
	struct state_call *c;

	while (st.checked && !st.behind && !list_empty(&st.admitting)) {
		c = list_entry(st.admitting.next, struct state_call, node);
		if (state_needs(c) > st.spare_bytes)
			break;
		list_remove(&c->node);
		st.pending_bytes += c->bytes;
		c->run(c->call);
		free(c);
	}
}

/* Whatever can go on now. */
static void state_pump(void)
{
	if (st.phase != STATE_ON || st.writing)
		return;
	admitting_run();
	st.checked = false;
	if (!list_empty(&st.changed)) {
		if (state_save())
			return;
		st.behind = true;
		changed_fail_all(&st.changed, ENOMEM);
	}
	if (list_empty(&st.admitting))
		return;
	/* what could not be written before comes first */
	if (!(st.behind ? state_save()
			: spare_more(list_entry(st.admitting.next, struct state_call, node))))
		admitting_refuse_all(ENOMEM);
}

/* ---- calls ---- */

bool state_admit(struct rpc_call *call, const json_t *params, void (*run)(struct rpc_call *call))
{
	struct state_call *c;

	if (st.phase != STATE_ON)
		return false;
	c = calloc(1, sizeof(*c));
	if (!c) {
		state_refuse(call, ENOMEM);
		return true;
	}
	*c = (struct state_call){ .call = call,
				  .bytes = STATE_CALL_TIMES *
						   json_dumpb(params, NULL, 0, JSON_COMPACT) +
					   STATE_CALL_BYTES,
				  .run = run };
	list_append(&st.admitting, &c->node);
	pump_post();
	return true;
}

/* False: no memory. */
static bool changed_wait(const struct state_call *what)
{
	struct state_call *c = malloc(sizeof(*c));

	if (!c)
		return false;
	*c = *what;
	if (st.phase == STATE_STOPPING) {
		changed_fail(c, false, ESHUTDOWN);
		return true;
	}
	list_append(&st.changed, &c->node);
	pump_post();
	return true;
}

void rpc_result_saved(struct rpc_call *call, json_t *result)
{
	ASSERT(call->method->flags & RPC_SAVES);
	/* before the start of the devices: what a client does then is saved by state_begin */
	if (st.phase == STATE_OFF || call->unsaved || !result) {
		st.early |= st.phase == STATE_OFF && call->ex;
		rpc_result(call, result);
	} else if (!changed_wait(&(struct state_call){ .call = call, .result = result })) {
		json_decref(result);
		rpc_result(call, NULL);
	}
}

void state_changed(void (*then)(void *arg, bool saved), void *arg)
{
	st.early |= st.phase == STATE_OFF;
	if (st.phase == STATE_OFF)
		then(arg, true);
	else if (!changed_wait(&(struct state_call){ .then = then, .then_arg = arg }))
		then(arg, false);
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
	if (st.early && !state_save())
		log_error("--state %s: cannot be written: %s", st.path, strerror(ENOMEM));
}

void state_stop(void (*stopped)(void *arg), void *arg)
{
	if (st.phase == STATE_OFF) {
		stopped(arg);
		return;
	}
	st.phase = STATE_STOPPING;
	st.stopped = stopped;
	st.stopped_arg = arg;
	admitting_refuse_all(ESHUTDOWN);
	/* the content is taken now: what is there leaves soon */
	if ((!list_empty(&st.changed) || st.behind) && !state_save())
		changed_fail_all(&st.changed, ENOMEM);
	state_check_stopped();
}

/* ---- hand-over ---- */

static json_t *section_calls(const struct rpc_section *s)
{
	struct section_out out = { .calls = json_array() };

	s->write(&out);
	return out.calls;
}

char *state_calls_text(void)
{
	json_t *list = json_array(), *root;
	bool whole = true;
	char *text = NULL;

	for (uint32_t i = 0; i < rpc_section_count; i++)
		if (rpc_sections[i].write)
			whole &= !json_array_append_new(
				list, json_pack("{s:s, s:o}", "subsystem", rpc_sections[i].name,
						"config", section_calls(&rpc_sections[i])));
	root = json_pack("{s:o}", "subsystems", list);
	if (root && whole)
		text = json_dumps(root, JSON_INDENT(1));
	json_decref(root);
	return text;
}

int state_hand_check(struct err *reterr)
{
	if (!st.behind)
		return 0;
	return err_set(reterr, -EIO,
		       "--state %.200s: the last change could not be written; make the file "
		       "writable, and change something",
		       st.path);
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
		all = section_calls(&rpc_sections[i]);
		for (uint32_t k = 0; k < st.restored->count; k++) {
			struct replay_call *c = &st.restored->calls[k];

			if (!strcmp(c->section, rpc_sections[i].name))
				c->failed = !calls_have(all, c);
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
