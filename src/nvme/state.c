/* See state.h. */
#include <stdlib.h>
#include <string.h>

#include "nvme/nvme_impl.h"

struct state_save {
	struct statefile_save save;
	struct loop_msg msg; /* when there is nothing to save */
	struct nvme_ns *ns;
	struct nvme_subsys *subsys;
	void (*done)(void *arg, bool ok);
	void *arg;
};

static void save_end(struct state_save *s, bool ok)
{
	struct state_save ended = *s;

	free(s);
	ended.done(ended.arg, ok);
	if (ended.ns)
		nvme_ns_unpin(ended.ns);
	if (ended.subsys)
		nvme_subsys_unref(ended.subsys);
}

static void save_done(struct statefile_save *save, bool ok)
{
	struct state_save *s = container_of(save, struct state_save, save);

	if (!ok)
		log_error("state file %s: it could not be written",
			  s->ns ? s->ns->state_path : s->subsys->state_path);
	save_end(s, ok);
}

static void save_nothing(struct loop_msg *msg)
{
	save_end(container_of(msg, struct state_save, msg), true);
}

static void save_start(struct state_save *s, struct statefile *file,
		       void (*write)(void *arg, FILE *to), void *arg)
{
	struct loop *loop = loop_current();

	ASSERT(loop);
	if (file->path) {
		s->save.done = save_done;
		statefile_save(file, &s->save, loop, write, arg);
	} else {
		s->msg.fn = save_nothing;
		loop_post(loop, &s->msg);
	}
}

/* ---- of a namespace ---- */

static void ns_write(void *arg, FILE *to)
{
	struct nvme_ns *ns = arg;

	nvme_resv_state_write(ns, to);
	nvme_protect_state_write(ns, to);
	nvme_uncor_state_write(&ns->uncor, to);
}

static const char *ns_line(void *arg, char *line)
{
	struct nvme_ns *ns = arg;
	const char *why;
	bool mine;

	if (strncmp(line, "uncorrectable ", 14) == 0)
		return nvme_uncor_state_read(&ns->uncor, line)
			       ? NULL
			       : "expected 'uncorrectable LBA COUNT'";
	why = nvme_resv_state_read(arg, line, &mine);
	if (!mine)
		why = nvme_protect_state_read(arg, line, &mine);
	return mine ? why : "no such line";
}

void nvme_ns_state_save(struct nvme_ns *ns, void (*done)(void *arg, bool ok), void *arg)
{
	struct state_save *s = calloc(1, sizeof(*s));

	if (!s) {
		done(arg, false);
		return;
	}
	*s = (struct state_save){ .ns = ns, .done = done, .arg = arg };
	nvme_ns_pin(ns);
	save_start(s, &ns->state, ns_write, ns);
}

int nvme_ns_state_load(struct nvme_ns *ns, struct err *reterr)
{
	ns->state = (struct statefile){ .path = ns->state_path, .head = "vhostd-nvme-ns 1" };
	return ns->state_path ? statefile_load(&ns->state, ns_line, ns, reterr) : 0;
}

/* ---- of a subsystem ---- */

static void subsys_write(void *arg, FILE *to)
{
	nvme_sanitize_state_write(arg, to);
	nvme_pool_state_write(arg, to);
}

static const char *subsys_line(void *arg, char *line)
{
	const char *why;
	bool mine;

	why = nvme_sanitize_state_read(arg, line, &mine);
	if (!mine)
		why = nvme_pool_state_read(arg, line, &mine);
	return mine ? why : "no such line";
}

void nvme_subsys_state_save(struct nvme_subsys *subsys, void (*done)(void *arg, bool ok), void *arg)
{
	struct state_save *s = calloc(1, sizeof(*s));

	if (!s) {
		done(arg, false);
		return;
	}
	*s = (struct state_save){ .subsys = nvme_subsys_ref(subsys), .done = done, .arg = arg };
	save_start(s, &subsys->state, subsys_write, subsys);
}

int nvme_subsys_state_load(struct nvme_subsys *subsys, struct err *reterr)
{
	subsys->state =
		(struct statefile){ .path = subsys->state_path, .head = "vhostd-nvme-subsys 1" };
	return subsys->state_path ? statefile_load(&subsys->state, subsys_line, subsys, reterr) : 0;
}
