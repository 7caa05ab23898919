/*
 * A hand-over of a subsystem's namespaces to another process: what hosts can notice of them,
 * whether it is to survive a restart or not. The text is that of a state file (loop/statefile.h),
 * with the lines of state.c for what both have:
 *
 *   vhostd-nvme-live 1
 *   subsystem AGE-MS                          power on hours
 *   sanitize ...                              the last one (sanitize.c)
 *   ns NSID UUID DETACHED WRITE-PROTECT       each namespace; DETACHED: from these controllers, a
 *                                             mask; and what follows is its
 *   resv ..., register ..., reserve ...       (resv_state.c)
 *   uncorrectable ...                         (uncor.c)
 *   end
 *
 * Controllers are of connections, which hand them over themselves (save.c).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nvme/names.h"
#include "nvme/nvme_impl.h"

#define LIVE_HEAD "vhostd-nvme-live 1"

struct live_reader {
	struct nvme_subsys *subsys;
	struct nvme_ns *ns; /* whose lines follow; NULL: none yet */
};

/* ---- writing ---- */

static void live_write_ns(struct nvme_ns *ns, FILE *to)
{
	char uuid[NVME_UUID_TEXT_BYTES];

	nvme_uuid_text(ns->uuid, uuid);
	fprintf(to, "ns %" PRIu32 " %s %016" PRIx64 " %u\n", ns->nsid, uuid, ns->detached,
		ns->write_protect);
	nvme_resv_live_write(ns, to);
	nvme_uncor_state_write(&ns->uncor, to);
}

static void live_write(void *arg, FILE *to)
{
	struct nvme_subsys *subsys = arg;
	struct nvme_ns *ns;

	fprintf(to, "subsystem %" PRIu64 "\n", (loop_clock_ns() - subsys->opened_ns) / 1000000);
	nvme_sanitize_state_write(subsys, to);
	list_for_each(ns, &subsys->namespaces, node)
		live_write_ns(ns, to);
}

static bool live_sanitizes(const struct nvme_subsys *subsys)
{
	return subsys->sanitize.run || nvme_sanitize_status(subsys) == NVME_SC_SANITIZE_IN_PROGRESS;
}

static const struct nvme_ns *live_busy(const struct nvme_subsys *subsys)
{
	const struct nvme_ns *ns;

	list_for_each(ns, &subsys->namespaces, node)
		if (ns->pins || atomic_load(&ns->not_ready) || ns->turn_holder)
			return ns;
	return NULL;
}

bool nvme_subsys_is_quiet(const struct nvme_subsys *subsys)
{
	return live_sanitizes(subsys) || !live_busy(subsys);
}

int nvme_subsys_hand_check(const struct nvme_subsys *subsys, struct err *reterr)
{
	const struct nvme_ns *ns;

	if (live_sanitizes(subsys))
		return err_set(reterr, -EBUSY, "%s: Sanitize goes on; hand over when it has ended",
			       subsys->name);
	list_for_each(ns, &subsys->namespaces, node)
		if (ns->managed && !subsys->state_path)
			return err_set(reterr, -EOPNOTSUPP,
				       "%s: namespace %u: created by a guest, and without a state "
				       "file (state=FILE) nobody else could know it",
				       subsys->name, ns->nsid);
	return 0;
}

static int live_check(const struct nvme_subsys *subsys, struct err *reterr)
{
	const struct nvme_ns *ns = live_busy(subsys);
	int rc = nvme_subsys_hand_check(subsys, reterr);

	if (rc == 0 && ns)
		rc = err_set(reterr, -EBUSY, "%s: namespace %u: a command goes on", subsys->name,
			     ns->nsid);
	return rc;
}

int nvme_subsys_pack(struct nvme_subsys *subsys, char **ret_text, size_t *ret_bytes,
		     struct err *reterr)
{
	static const struct statefile file = { .head = LIVE_HEAD };
	int rc = live_check(subsys, reterr);

	if (rc < 0)
		return rc;
	*ret_text = statefile_text(&file, live_write, subsys, ret_bytes);
	return *ret_text ? 0 : err_set(reterr, -ENOMEM, "%s: out of memory", subsys->name);
}

/* ---- reading ---- */

static const char *live_read_subsys(struct nvme_subsys *subsys, const char *line)
{
	uint64_t age_ms;
	int end = 0;

	if (sscanf(line, "subsystem %14" SCNu64 "%n", &age_ms, &end) != 1 || !end || line[end])
		return "expected 'subsystem AGE-MS'";
	subsys->opened_ns = loop_clock_ns() - age_ms * 1000000;
	return NULL;
}

static const char *live_read_ns(struct live_reader *r, const char *line)
{
	uint64_t detached;
	uint32_t nsid, protect;
	uint8_t uuid[16];
	char text[NVME_UUID_TEXT_BYTES];
	int end = 0;

	if (sscanf(line, "ns %4" SCNu32 " %36s %16" SCNx64 " %1" SCNu32 "%n", &nsid, text,
		   &detached, &protect, &end) != 4 ||
	    !end || line[end] || !nvme_uuid_read(text, uuid) || protect > NVME_WP_UNTIL_POWER_CYCLE)
		return "expected 'ns NSID UUID DETACHED WRITE-PROTECT'";
	r->ns = nvme_ns_find(r->subsys, nsid);
	if (!r->ns || memcmp(r->ns->uuid, uuid, sizeof(uuid)) != 0)
		return "this namespace is not configured now";
	r->ns->detached = detached;
	r->ns->write_protect = (uint8_t)protect;
	return NULL;
}

static const char *live_line(void *arg, char *line)
{
	struct live_reader *r = arg;
	const char *why;
	bool mine;

	if (!strncmp(line, "subsystem ", 10))
		return live_read_subsys(r->subsys, line);
	if (!strncmp(line, "ns ", 3))
		return live_read_ns(r, line);
	why = nvme_sanitize_state_read(r->subsys, line, &mine);
	if (mine)
		return why;
	if (!r->ns)
		return "no such line before a namespace";
	if (!strncmp(line, "uncorrectable ", 14))
		return nvme_uncor_state_read(&r->ns->uncor, line)
			       ? NULL
			       : "expected 'uncorrectable LBA COUNT'";
	why = nvme_resv_live_read(r->ns, line, &mine);
	return mine ? why : "no such line";
}

/* What state files gave, which is in the text as well. */
static void live_forget(struct nvme_subsys *subsys)
{
	struct nvme_ns *ns;

	nvme_sanitize_fini(&subsys->sanitize);
	atomic_store(&subsys->sanitize.state, NVME_SANITIZE_NEVER);
	list_for_each(ns, &subsys->namespaces, node) {
		nvme_resv_fini(ns);
		ns->resv.ptpl = false;
		ns->write_protect = NVME_WP_NONE;
		ns->detached = 0;
		nvme_uncor_clear_all(&ns->uncor);
	}
}

int nvme_subsys_unpack(struct nvme_subsys *subsys, const char *text, size_t len_bytes,
		       struct err *reterr)
{
	struct live_reader r = { .subsys = subsys };
	char name[128];
	int rc;

	if (!list_empty(&subsys->ctrls) || subsys->sanitize.run)
		return err_set(reterr, -EINVAL, "%s: the subsystem is in use", subsys->name);
	snprintf(name, sizeof(name), "state of %.96s", subsys->name);
	live_forget(subsys);
	rc = statefile_read(name, LIVE_HEAD, text, len_bytes, live_line, &r, reterr);
	if (rc == 0 && live_sanitizes(subsys))
		rc = err_set(reterr, -EINVAL, "%s: Sanitize goes on: it cannot be handed over",
			     name);
	return rc;
}
