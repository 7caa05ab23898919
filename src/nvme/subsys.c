/* NVM subsystems: names, and the identifiers of controllers. See subsys.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "nvme/names.h"
#include "nvme/nvme_impl.h"

#define NQN_MIN_BYTES 11 /* "nqn.yyyy-mm" */

/* base 7.9: printable, begins with "nqn." and a date; what follows is whoever's that names it. */
static int subsys_nqn_check(const char *nqn, struct err *reterr)
{
	size_t len = strlen(nqn);

	if (len > NVME_NQN_MAX || len < NQN_MIN_BYTES)
		return err_set(reterr, -EINVAL, "nqn: expected %d to %d characters, got %zu",
			       NQN_MIN_BYTES, NVME_NQN_MAX, len);
	if (strncmp(nqn, "nqn.", 4) != 0)
		return err_set(reterr, -EINVAL, "nqn: expected to begin with \"nqn.\", got \"%s\"",
			       nqn);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)nqn[i] <= ' ' || nqn[i] == 0x7f)
			return err_set(reterr, -EINVAL, "nqn: character 0x%02x at %zu",
				       (unsigned char)nqn[i], i);
	return 0;
}

static char *subsys_nqn_make(const char *name)
{
	char text[NVME_UUID_TEXT_BYTES], *nqn;
	uint8_t uuid[16];

	nvme_uuid_make(uuid, name);
	nvme_uuid_text(uuid, text);
	return asprintf(&nqn, "nqn.2014-08.org.nvmexpress:uuid:%s", text) < 0 ? NULL : nqn;
}

static int subsys_names(struct nvme_subsys *subsys, const struct nvme_subsys_params *p,
			struct err *reterr)
{
	char serial[NVME_SERIAL_MAX + 1];
	int rc = p->nqn ? subsys_nqn_check(p->nqn, reterr) : 0;

	snprintf(serial, sizeof(serial), "%016llX",
		 (unsigned long long)text_hash(TEXT_HASH_START, p->name));
	if (rc == 0)
		rc = text_pad(subsys->serial, sizeof(subsys->serial), "serial",
			      p->serial ? p->serial : serial, reterr);
	if (rc == 0)
		rc = text_pad(subsys->model, sizeof(subsys->model), "model",
			      p->model ? p->model : "vhostd", reterr);
	if (rc < 0)
		return rc;
	subsys->name = strdup(p->name);
	subsys->nqn = p->nqn ? strdup(p->nqn) : subsys_nqn_make(p->name);
	subsys->state_path = p->state_path ? strdup(p->state_path) : NULL;
	if (!subsys->name || !subsys->nqn || (p->state_path && !subsys->state_path))
		return err_set(reterr, -ENOMEM, "out of memory");
	return nvme_pool_init(subsys, p->pool_path, p->pool_bytes, reterr);
}

static void subsys_free(struct nvme_subsys *subsys)
{
	free(subsys->name);
	free(subsys->nqn);
	free(subsys->state_path);
	nvme_sanitize_fini(&subsys->sanitize);
	nvme_pool_fini(subsys);
	free(subsys);
}

int nvme_subsys_new(const struct nvme_subsys_params *params, struct nvme_subsys **ret_subsys,
		    struct err *reterr)
{
	struct nvme_subsys *subsys = calloc(1, sizeof(*subsys));
	int rc;

	if (!subsys)
		return err_set(reterr, -ENOMEM, "out of memory");
	subsys->refs = 1;
	subsys->opened_ns = loop_clock_ns();
	list_init(&subsys->namespaces);
	list_init(&subsys->ctrls);
	nvme_sanitize_init(&subsys->sanitize);
	list_init(&subsys->pool.files);
	rc = subsys_names(subsys, params, reterr);
	if (rc == 0)
		rc = nvme_subsys_state_load(subsys, reterr);
	if (rc == 0)
		rc = nvme_pool_restore(subsys, reterr);
	if (rc < 0) {
		subsys_free(subsys);
		return rc;
	}
	*ret_subsys = subsys;
	return 0;
}

struct nvme_subsys *nvme_subsys_ref(struct nvme_subsys *subsys)
{
	subsys->refs++;
	return subsys;
}

void nvme_subsys_unref(struct nvme_subsys *subsys)
{
	if (!subsys || --subsys->refs)
		return;
	ASSERT(list_empty(&subsys->namespaces) && list_empty(&subsys->ctrls));
	subsys_free(subsys);
}

static void ctrl_atts_free(struct nvme_att **atts)
{
	for (uint32_t nsid = 1; nsid <= NVME_NSID_MAX; nsid++) {
		if (!atts[nsid])
			continue;
		list_remove(&atts[nsid]->node);
		free(atts[nsid]);
	}
	free(atts);
}

/* Nobody looks yet: no lock, no event. */
static int ctrl_atts_make(struct nvme_ctrl *ctrl)
{
	struct nvme_ns *ns;

	ctrl->atts = calloc(NVME_NSID_MAX + 1, sizeof(struct nvme_att *));
	if (!ctrl->atts)
		return -ENOMEM;
	list_for_each(ns, &ctrl->subsys->namespaces, node) {
		struct nvme_att *att;

		if (ns->detached & 1ull << (ctrl->cntlid - 1))
			continue;
		att = nvme_att_new(ns, ctrl);
		if (!att) {
			ctrl_atts_free(ctrl->atts);
			ctrl->atts = NULL;
			return -ENOMEM;
		}
		ctrl->atts[ns->nsid] = att;
	}
	return 0;
}

int nvme_subsys_join(struct nvme_subsys *subsys, struct nvme_ctrl *ctrl, struct err *reterr)
{
	int bit = __builtin_ffsll((long long)~subsys->cntlids);

	_Static_assert(NVME_CTRLS_MAX == 64, "cntlids is a word");
	if (!bit)
		return err_set(reterr, -ENOSPC, "subsystem %s: expected at most %d controllers",
			       subsys->name, NVME_CTRLS_MAX);
	ctrl->cntlid = (uint16_t)bit;
	ctrl->subsys = subsys;
	ctrl->ana = NVME_ANA_OPTIMIZED;
	ctrl->logs.ana_changes = 1;
	if (ctrl_atts_make(ctrl) < 0) {
		ctrl->subsys = NULL;
		return err_set(reterr, -ENOMEM, "out of memory");
	}
	pthread_mutex_init(&ctrl->lock, NULL);
	subsys->cntlids |= 1ull << (bit - 1);
	list_append(&subsys->ctrls, &ctrl->node);
	nvme_subsys_ref(subsys);
	nvme_sanitize_resume(subsys, ctrl->params.main_loop);
	return 0;
}

int nvme_subsys_rejoin(struct nvme_ctrl *ctrl, uint16_t cntlid, struct err *reterr)
{
	struct nvme_subsys *subsys = ctrl->subsys;
	uint64_t old = 1ull << (ctrl->cntlid - 1), bit = 1ull << (cntlid - 1);
	struct nvme_att **atts = ctrl->atts;
	uint16_t was = ctrl->cntlid;

	if (subsys->cntlids & bit)
		return 0;
	ctrl->cntlid = cntlid;
	if (ctrl_atts_make(ctrl) < 0) {
		ctrl->cntlid = was;
		ctrl->atts = atts;
		return err_set(reterr, -ENOMEM, "out of memory");
	}
	ctrl_atts_free(atts);
	subsys->cntlids = (subsys->cntlids & ~old) | bit;
	return 0;
}

void nvme_subsys_leave(struct nvme_ctrl *ctrl)
{
	struct nvme_subsys *subsys = ctrl->subsys;

	if (!subsys)
		return;
	nvme_resv_reset(ctrl);
	list_remove(&ctrl->node);
	subsys->cntlids &= ~(1ull << (ctrl->cntlid - 1));
	ctrl_atts_free(ctrl->atts);
	ctrl->atts = NULL;
	pthread_mutex_destroy(&ctrl->lock);
	ctrl->subsys = NULL;
	nvme_subsys_unref(subsys);
}
