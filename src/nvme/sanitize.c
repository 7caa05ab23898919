/*
 * Sanitize: see sanitize.h.
 *
 *   check -> RUNNING, gates -> on disk -> the command ends -> wait for commands under way ->
 *   erase one namespace after the other -> DONE or FAILED, on disk -> gates, event
 *
 * The operation outlives its command and controller. What is on disk changes before the gates do:
 * a restart must never begin anew with what a guest has written since. The namespaces are those
 * that there were at the command; one that is not there any more makes it fail, so that nobody
 * believes its data gone. With no namespace left (the daemon ends) it is left RUNNING, and goes on
 * when there are some again.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "nvme/erase.h"
#include "nvme/names.h"
#include "nvme/nvme_impl.h"

#define SANACT(cdw10)  ((cdw10)&7)
#define SANACT_EXIT    1
#define SANACT_BLOCK   2
#define SANACT_OVER    3
#define SANITIZE_AUSE  (1u << 3)
#define OWPASS(cdw10)  (((cdw10) >> 4) & 0xf)
#define SANITIZE_OIPBP (1u << 8)
#define SANITIZE_NDAS  (1u << 9)

#define SANICAP_BLOCK	 (1u << 1)
#define SANICAP_OVER	 (1u << 2)
#define SANICAP_NODMMAS1 (1u << 30) /* media is not modified after the operation */

#define LOG_STATUS_DONE	   1
#define LOG_STATUS_RUNNING 2
#define LOG_STATUS_FAILED  3
#define LOG_PASSES_SHIFT   3
#define LOG_TIME_UNKNOWN   0xffffffffu

#define EVENT_SANITIZE_COMPLETED 1

struct sanitize_todo {
	struct list node;
	uint32_t nsid;
	uint8_t uuid[16];
};

struct sanitize_run {
	struct nvme_subsys *subsys; /* a reference */
	struct loop_msg msg;
	struct nvme_sweep sweep;
	struct nvme_erase erase;
	uint32_t nsid;			  /* of the one that is erased, or was last */
	uint64_t done_bytes, total_bytes; /* of namespaces, whole */
	enum nvme_sanitize_state end;
};

static enum nvme_sanitize_state state_of(const struct nvme_subsys *subsys)
{
	return (enum nvme_sanitize_state)atomic_load_explicit(&subsys->sanitize.state,
							      memory_order_acquire);
}

static void state_set(struct nvme_subsys *subsys, enum nvme_sanitize_state state)
{
	struct nvme_ns *ns;

	atomic_store_explicit(&subsys->sanitize.state, state, memory_order_release);
	list_for_each(ns, &subsys->namespaces, node)
		nvme_gates_update(ns);
}

/* ---- what is to be done ---- */

void nvme_sanitize_init(struct nvme_sanitize *s)
{
	list_init(&s->todo);
}

void nvme_sanitize_fini(struct nvme_sanitize *s)
{
	struct list *node;

	ASSERT(!s->run);
	while ((node = list_pop(&s->todo)))
		free(list_entry(node, struct sanitize_todo, node));
}

static bool todo_add(struct nvme_sanitize *s, uint32_t nsid, const uint8_t uuid[16])
{
	struct sanitize_todo *todo = calloc(1, sizeof(*todo));

	if (!todo)
		return false;
	todo->nsid = nsid;
	memcpy(todo->uuid, uuid, sizeof(todo->uuid));
	list_append(&s->todo, &todo->node);
	return true;
}

/* NULL: it is done, or was never one of them. */
static struct sanitize_todo *todo_find(const struct nvme_subsys *subsys, const struct nvme_ns *ns)
{
	struct sanitize_todo *todo;

	list_for_each(todo, &subsys->sanitize.todo, node)
		if (todo->nsid == ns->nsid && !memcmp(todo->uuid, ns->uuid, sizeof(ns->uuid)))
			return todo;
	return NULL;
}

/* All that there are. false: no memory. */
static bool todo_fill(struct nvme_subsys *subsys)
{
	const struct nvme_ns *ns;

	nvme_sanitize_fini(&subsys->sanitize);
	list_for_each(ns, &subsys->namespaces, node)
		if (!todo_add(&subsys->sanitize, ns->nsid, ns->uuid))
			return false;
	return true;
}

/* ---- what others ask ---- */

enum nvme_status nvme_sanitize_status(const struct nvme_subsys *subsys)
{
	switch (state_of(subsys)) {
	case NVME_SANITIZE_RUNNING:
		return NVME_SC_SANITIZE_IN_PROGRESS;
	case NVME_SANITIZE_FAILED:
		return NVME_SC_SANITIZE_FAILED;
	case NVME_SANITIZE_NEVER:
	case NVME_SANITIZE_DONE:
	case NVME_SANITIZE_LEFT:
		break;
	}
	return NVME_SC_SUCCESS;
}

enum nvme_status nvme_medium_status(const struct nvme_ns *ns)
{
	if (atomic_load_explicit(&ns->not_ready, memory_order_acquire))
		return NVME_SC_FORMAT_IN_PROGRESS;
	return nvme_sanitize_status(ns->subsys);
}

bool nvme_sanitize_log_allowed(uint8_t log_page)
{
	/* error information, SMART, changed namespaces, reservations, sanitize (base 8.15) */
	return log_page == 0x01 || log_page == 0x02 || log_page == 0x04 ||
	       log_page == NVME_LOG_RESV || log_page == NVME_LOG_SANITIZE;
}

uint32_t nvme_sanitize_cap(const struct nvme_subsys *subsys)
{
	uint32_t cap = SANICAP_OVER | SANICAP_BLOCK | SANICAP_NODMMAS1;
	const struct nvme_ns *ns;

	list_for_each(ns, &subsys->namespaces, node)
		if (!ns->read_only && !nvme_erase_has_native(ns))
			cap &= ~SANICAP_BLOCK;
	return cap;
}

void nvme_sanitize_log(const struct nvme_subsys *subsys, uint8_t ret_page[NVME_SANITIZE_LOG_BYTES])
{
	static const uint8_t statuses[] = {
		[NVME_SANITIZE_NEVER] = 0,
		[NVME_SANITIZE_DONE] = LOG_STATUS_DONE,
		[NVME_SANITIZE_RUNNING] = LOG_STATUS_RUNNING,
		[NVME_SANITIZE_FAILED] = LOG_STATUS_FAILED,
		[NVME_SANITIZE_LEFT] = LOG_STATUS_FAILED,
	};
	const struct nvme_sanitize *s = &subsys->sanitize;
	enum nvme_sanitize_state state = state_of(subsys);
	struct {
		struct le16 progress, status;
		struct le32 cdw10;
		struct le32 times[6]; /* overwrite, block erase, crypto; no-deallocate each */
	} page = {
		.progress = le16(state == NVME_SANITIZE_RUNNING ? s->progress : 0xffff),
		.status = le16((uint16_t)(statuses[state] | s->passes << LOG_PASSES_SHIFT)),
		.cdw10 = le32(s->cdw10),
	};

	for (uint32_t i = 0; i < ARRAY_SIZE(page.times); i++)
		page.times[i] = le32(LOG_TIME_UNKNOWN);
	memset(ret_page, 0, NVME_SANITIZE_LOG_BYTES);
	memcpy(ret_page, &page, sizeof(page));
}

bool nvme_sanitize_progress(const struct nvme_subsys *subsys, uint64_t *ret_done_bytes,
			    uint64_t *ret_total_bytes)
{
	const struct sanitize_run *run = subsys->sanitize.run;

	if (!run || state_of(subsys) != NVME_SANITIZE_RUNNING)
		return false;
	*ret_total_bytes = run->total_bytes;
	*ret_done_bytes = run->total_bytes / 65535 * subsys->sanitize.progress;
	return true;
}

/* ---- the operation ---- */

static void run_next(struct sanitize_run *run);

/* The operation has left the subsystem: nothing of it is under way. */
static void run_free(struct sanitize_run *run)
{
	struct nvme_subsys *subsys = run->subsys;

	subsys->sanitize.run = NULL;
	free(run);
	nvme_subsys_unref(subsys);
}

static void run_saved(void *arg, bool ok)
{
	struct sanitize_run *run = arg;
	struct nvme_subsys *subsys = run->subsys;
	struct nvme_ctrl *ctrl;

	/* What is on disk still says RUNNING: commands may not be let through. */
	state_set(subsys, ok ? run->end : NVME_SANITIZE_FAILED);
	list_for_each(ctrl, &subsys->ctrls, node)
		nvme_event(ctrl, NVME_EVENT_IO, EVENT_SANITIZE_COMPLETED, NVME_LOG_SANITIZE);
	run_free(run);
}

static void run_end(struct sanitize_run *run, enum nvme_sanitize_state end)
{
	run->end = end;
	nvme_subsys_state_save(run->subsys, run_saved, run);
}

static void run_failed(struct sanitize_run *run, const char *what, enum blk_status status)
{
	log_error("%s: sanitize failed: namespace %u: %s: %s", run->subsys->name, run->nsid, what,
		  blk_status_name(status));
	run_end(run, NVME_SANITIZE_FAILED);
}

static void run_progress(struct sanitize_run *run)
{
	const struct nvme_erase *e = &run->erase;
	uint64_t part = e->total_bytes / 65535 * nvme_erase_progress(e);
	uint64_t all = run->total_bytes / 65535 + 1;

	run->subsys->sanitize.progress =
		(uint16_t)MIN((run->done_bytes + part) / all, (uint64_t)65535);
}

static void run_stepped(struct nvme_erase *e)
{
	struct sanitize_run *run = container_of(e, struct sanitize_run, erase);

	run_progress(run);
	e->stop = e->ns->removing;
}

static void run_ns_saved(void *arg, bool ok)
{
	struct sanitize_run *run = arg;

	if (ok)
		run_next(run);
	else
		run_failed(run, "state file", BLK_ST_IOERR);
}

static void run_erased(struct nvme_erase *e, enum blk_status status)
{
	struct sanitize_run *run = container_of(e, struct sanitize_run, erase);
	struct nvme_ns *ns = e->ns;
	struct sanitize_todo *todo = todo_find(run->subsys, ns);

	run->done_bytes += e->total_bytes;
	if (status == BLK_ST_OK) {
		list_remove(&todo->node);
		free(todo);
		nvme_uncor_clear_all(&ns->uncor);
		nvme_ns_state_save(ns, run_ns_saved, run);
	} else if (status == BLK_ST_ABORTED && ns->removing) {
		run_next(run);
	} else {
		run_failed(run, "erase", status);
	}
	nvme_ns_unpin(ns);
}

static void run_passes(struct sanitize_run *run, struct nvme_ns *ns)
{
	const struct nvme_sanitize *s = &run->subsys->sanitize;
	struct nvme_erase *e = &run->erase;

	*e = (struct nvme_erase){ .stepped = run_stepped, .done = run_erased };
	nvme_erase_user_data(e, ns);
	e->keep_allocated = s->cdw10 & SANITIZE_NDAS;
	if (SANACT(s->cdw10) != SANACT_OVER)
		return;
	e->pattern = s->cdw11;
	e->invert = s->cdw10 & SANITIZE_OIPBP;
	e->pass_count = OWPASS(s->cdw10) ? OWPASS(s->cdw10) : NVME_ERASE_PASSES_MAX;
	memset(e->pass_op, BLK_WRITE, e->pass_count);
}

static struct nvme_ns *run_ns_find(const struct sanitize_run *run)
{
	struct nvme_ns *ns;

	list_for_each(ns, &run->subsys->namespaces, node)
		if (todo_find(run->subsys, ns))
			return ns;
	return NULL;
}

static void run_next(struct sanitize_run *run)
{
	struct nvme_subsys *subsys = run->subsys;
	struct nvme_ns *ns = run_ns_find(run);

	if (ns) {
		run->nsid = ns->nsid;
		run_passes(run, ns);
		nvme_ns_pin(ns);
		nvme_erase_start(&run->erase);
	} else if (list_empty(&subsys->namespaces)) {
		run_free(run);
	} else if (!list_empty(&subsys->sanitize.todo)) {
		run->nsid =
			list_entry(subsys->sanitize.todo.next, struct sanitize_todo, node)->nsid;
		run_failed(run, "removed", BLK_ST_GONE);
	} else {
		if (SANACT(subsys->sanitize.cdw10) == SANACT_OVER)
			subsys->sanitize.passes = run->erase.pass_count;
		run_end(run, NVME_SANITIZE_DONE);
	}
}

static void run_swept(struct nvme_sweep *s)
{
	run_next(container_of(s, struct sanitize_run, sweep));
}

static void run_begin(struct loop_msg *msg)
{
	struct sanitize_run *run = container_of(msg, struct sanitize_run, msg);
	const struct nvme_ns *ns;

	run->subsys->sanitize.progress = 0;
	run->subsys->sanitize.passes = 0;
	list_for_each(ns, &run->subsys->namespaces, node)
		if (todo_find(run->subsys, ns))
			run->total_bytes += nvme_ns_blocks(ns) << ns->block_shift;
	run->sweep = (struct nvme_sweep){
		.action = NVME_SWEEP_WAIT,
		.subsys = run->subsys,
		.row_flags = CMD_MEDIUM,
		.done = run_swept,
	};
	if (nvme_sweep_start(&run->sweep) < 0)
		run_failed(run, "start", BLK_ST_IOERR);
}

static struct sanitize_run *run_new(struct nvme_subsys *subsys)
{
	struct sanitize_run *run = calloc(1, sizeof(*run));

	if (!run)
		return NULL;
	run->subsys = nvme_subsys_ref(subsys);
	run->msg.fn = run_begin;
	subsys->sanitize.run = run;
	return run;
}

static bool held;

void nvme_subsys_hold(bool on)
{
	held = on;
}

void nvme_sanitize_resume(struct nvme_subsys *subsys, struct loop *loop)
{
	struct sanitize_run *run;

	if (held || state_of(subsys) != NVME_SANITIZE_RUNNING || subsys->sanitize.run || !loop ||
	    list_empty(&subsys->namespaces))
		return;
	run = run_new(subsys);
	if (run)
		loop_post(loop, &run->msg);
}

/* ---- the command ---- */

static void sanitize_begun(void *arg, bool ok)
{
	struct nvme_cmd *c = arg;
	struct nvme_subsys *subsys = nvme_cmd_ctrl(c)->subsys;
	struct sanitize_run *run = subsys->sanitize.run;

	if (ok) {
		nvme_cmd_end(c, NVME_SC_SUCCESS);
		run_begin(&run->msg);
		return;
	}
	/* It may be on disk all the same, and begin after a restart: nothing is to be written. */
	run_failed(run, "state file", BLK_ST_IOERR);
	nvme_cmd_end(c, NVME_SC_INTERNAL_ERROR);
}

static void sanitize_start(struct nvme_cmd *c)
{
	struct nvme_subsys *subsys = nvme_cmd_ctrl(c)->subsys;

	if (!todo_fill(subsys) || !run_new(subsys)) {
		nvme_cmd_end(c, NVME_SC_INTERNAL_ERROR);
		return;
	}
	subsys->sanitize.cdw10 = nvme_cdw10(c);
	subsys->sanitize.cdw11 = nvme_cdw11(c);
	subsys->sanitize.progress = 0;
	subsys->sanitize.passes = 0;
	state_set(subsys, NVME_SANITIZE_RUNNING);
	nvme_subsys_state_save(subsys, sanitize_begun, c);
}

static void sanitize_left(void *arg, bool ok)
{
	struct nvme_cmd *c = arg;

	nvme_cmd_end(c, ok ? NVME_SC_SUCCESS : NVME_SC_INTERNAL_ERROR);
}

/* base 5.24: no effect when nothing failed. */
static void sanitize_exit(struct nvme_cmd *c)
{
	struct nvme_subsys *subsys = nvme_cmd_ctrl(c)->subsys;

	if (state_of(subsys) != NVME_SANITIZE_FAILED) {
		nvme_cmd_end(c, NVME_SC_SUCCESS);
		return;
	}
	state_set(subsys, NVME_SANITIZE_LEFT);
	nvme_subsys_state_save(subsys, sanitize_left, c);
}

static enum nvme_status sanitize_cdw10_check(const struct nvme_subsys *subsys, uint32_t cdw10)
{
	uint32_t cap = nvme_sanitize_cap(subsys);

	switch (SANACT(cdw10)) {
	case SANACT_EXIT:
		return NVME_SC_SUCCESS;
	case SANACT_BLOCK:
		return cap & SANICAP_BLOCK ? NVME_SC_SUCCESS : NVME_SC_INVALID_FIELD;
	case SANACT_OVER:
		return cap & SANICAP_OVER ? NVME_SC_SUCCESS : NVME_SC_INVALID_FIELD;
	default:
		return NVME_SC_INVALID_FIELD;
	}
}

/*
 * While one runs none may begin. After one without AUSE failed only such a one may (base 8.15,
 * restricted failure mode).
 */
static enum nvme_status sanitize_state_check(const struct nvme_subsys *subsys, uint32_t cdw10)
{
	bool restricted = !(subsys->sanitize.cdw10 & SANITIZE_AUSE);

	if (state_of(subsys) == NVME_SANITIZE_RUNNING || subsys->sanitize.run)
		return NVME_SC_SANITIZE_IN_PROGRESS;
	if (state_of(subsys) == NVME_SANITIZE_FAILED && restricted &&
	    (cdw10 & SANITIZE_AUSE || SANACT(cdw10) == SANACT_EXIT))
		return NVME_SC_SANITIZE_FAILED;
	return NVME_SC_SUCCESS;
}

static enum nvme_status sanitize_ns_check(const struct nvme_ctrl *ctrl)
{
	const struct nvme_ns *ns;

	list_for_each(ns, &ctrl->subsys->namespaces, node) {
		if (atomic_load(&ns->not_ready))
			return NVME_SC_FORMAT_IN_PROGRESS;
		if (nvme_resv_gate(ns, ctrl) & CMD_RESV_WRITE)
			return NVME_SC_RESERVATION_CONFLICT;
		if (ns->read_only || ns->write_protect)
			return NVME_SC_NS_WRITE_PROTECTED;
	}
	return NVME_SC_SUCCESS;
}

void nvme_sanitize(struct nvme_cmd *c)
{
	const struct nvme_ctrl *ctrl = nvme_cmd_ctrl(c);
	uint32_t cdw10 = nvme_cdw10(c);
	enum nvme_status status = sanitize_cdw10_check(ctrl->subsys, cdw10);

	if (status == NVME_SC_SUCCESS)
		status = sanitize_state_check(ctrl->subsys, cdw10);
	if (status == NVME_SC_SUCCESS)
		status = sanitize_ns_check(ctrl);
	if (status != NVME_SC_SUCCESS)
		nvme_cmd_end(c, status);
	else if (SANACT(cdw10) == SANACT_EXIT)
		sanitize_exit(c);
	else
		sanitize_start(c);
}

/*
 * ---- lines of the state file ----
 *
 *   sanitize STATE CDW10 CDW11 PASSES
 *   sanitize-namespace NSID UUID         while it runs: to be done
 */

static const char *const state_words[] = {
	[NVME_SANITIZE_DONE] = "done",
	[NVME_SANITIZE_RUNNING] = "running",
	[NVME_SANITIZE_FAILED] = "failed",
	[NVME_SANITIZE_LEFT] = "left",
};

void nvme_sanitize_state_write(const struct nvme_subsys *subsys, FILE *to)
{
	const struct nvme_sanitize *s = &subsys->sanitize;
	enum nvme_sanitize_state state = state_of(subsys);
	const struct sanitize_todo *todo;
	char text[NVME_UUID_TEXT_BYTES];

	if (s->run && s->run->end != NVME_SANITIZE_NEVER)
		state = s->run->end; /* which is to be on disk first */
	if (state == NVME_SANITIZE_NEVER)
		return;
	fprintf(to, "sanitize %s %08" PRIx32 " %08" PRIx32 " %" PRIu32 "\n", state_words[state],
		s->cdw10, s->cdw11, s->passes);
	list_for_each(todo, &s->todo, node) {
		if (state != NVME_SANITIZE_RUNNING)
			break;
		nvme_uuid_text(todo->uuid, text);
		fprintf(to, "sanitize-namespace %" PRIu32 " %s\n", todo->nsid, text);
	}
}

static const char *todo_read(struct nvme_subsys *subsys, const char *line)
{
	static const char expected[] =
		"expected 'sanitize-namespace NSID UUID', after 'sanitize running'";
	char text[NVME_UUID_TEXT_BYTES];
	uint8_t uuid[16];
	uint32_t nsid;
	int end = 0;

	if (sscanf(line, "%" SCNu32 " %36s%n", &nsid, text, &end) != 2 || !end || line[end] ||
	    !nsid || nsid > NVME_NSID_MAX || !nvme_uuid_read(text, uuid) ||
	    state_of(subsys) != NVME_SANITIZE_RUNNING)
		return expected;
	return todo_add(&subsys->sanitize, nsid, uuid) ? NULL : "out of memory";
}

const char *nvme_sanitize_state_read(struct nvme_subsys *subsys, const char *line, bool *ret_mine)
{
	static const char expected[] =
		"expected 'sanitize done|running|failed|left CDW10 CDW11 PASSES', once";
	struct nvme_sanitize *s = &subsys->sanitize;
	uint32_t cdw10, cdw11, passes;
	char word[8];
	int end = 0;

	*ret_mine = !strncmp(line, "sanitize", 8);
	if (!*ret_mine)
		return NULL;
	if (!strncmp(line, "sanitize-namespace ", 19))
		return todo_read(subsys, line + 19);
	if (strncmp(line, "sanitize ", 9) != 0)
		return "no such line";
	if (sscanf(line + 9, "%7s %8" SCNx32 " %8" SCNx32 " %2" SCNu32 "%n", word, &cdw10, &cdw11,
		   &passes, &end) != 4 ||
	    !end || line[9 + end] || passes > NVME_ERASE_PASSES_MAX ||
	    state_of(subsys) != NVME_SANITIZE_NEVER)
		return expected;
	if (SANACT(cdw10) != SANACT_BLOCK && SANACT(cdw10) != SANACT_OVER)
		return expected;
	for (uint32_t i = NVME_SANITIZE_DONE; i < ARRAY_SIZE(state_words); i++) {
		if (strcmp(word, state_words[i]) != 0)
			continue;
		s->cdw10 = cdw10;
		s->cdw11 = cdw11;
		s->passes = passes;
		atomic_store(&s->state, i);
		return NULL;
	}
	return expected;
}
