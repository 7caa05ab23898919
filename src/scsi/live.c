/*
 * A hand-over of a unit to another process: what initiators can notice of it, whether it is to
 * survive a restart or not. The text is that of a state file (loop/statefile.h), with the lines of
 * state.c for what both have, and more:
 *
 *   vhostd-scsi-live 1
 *   mode ..., mode-current ...         saved and current mode pages (mode.c)
 *   register ..., reserve ..., resv    registrations, whatever APTPL says (resv_state.c)
 *   unit STOPPED EJECTED ALUA-STATE ALUA-STATUS SANITIZE-FAILED SANITIZE-AUSE
 *   token ...                          ROD tokens (token_table.c)
 *   nexus UAS PREVENT LEGACY TARGET LUN INITIATOR HOST
 *                                      UAS: pending unit attentions, a mask; PREVENT: PREVENT ALLOW
 *                                      MEDIUM REMOVAL; LEGACY: has the reservation of SPC-2
 *   copy ...                           results kept for the nexus above (copy_lid.c)
 *   end
 *
 * A nexus comes when its connection is opened anew, by the same names. Until then what it had is in
 * lu->expected.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scsi/copy_impl.h"
#include "scsi/mode.h"
#include "scsi/resv.h"

#define LIVE_HEAD	 "vhostd-scsi-live 1"
#define LIVE_NEXUSES_MAX 65536 /* of one unit */

/* One I_T_L nexus that is to come. */
struct live_itl {
	struct list node; /* lu->expected */
	uint32_t target, lun, ua_mask;
	bool prevent_removal, legacy;
	char *host; /* in the memory of initiator */
	char initiator[];
};

struct live_reader {
	struct scsi_lu *lu;
	uint32_t count;
	struct live_itl *last; /* whose results follow; NULL: none yet */
	const char *why;
};

/* ---- writing (lu->lock held, but for the lines of tokens and results) ---- */

static void live_write_nexus(const struct scsi_itl *itl, FILE *to)
{
	fprintf(to, "nexus %08" PRIx32 " %d %d %" PRIu32 " %" PRIu32 " ", itl->ua_mask,
		itl->prevent_removal, itl->lu->resv.legacy_holder == itl, itl->target, itl->lun);
	resv_name_write(itl->nexus->name, to);
	fputc(' ', to);
	resv_name_write(itl->nexus->host->name, to);
	fputc('\n', to);
	copy_lid_live_write(itl, to);
}

static void live_write_locked(struct scsi_lu *lu, FILE *to)
{
	char mode[MODE_STATE_BYTES_MAX];
	const struct scsi_itl *itl;

	mode_state_write(lu, mode, sizeof(mode));
	fputs(mode, to);
	mode_live_write(lu, to);
	resv_live_write(lu, to);
	fprintf(to, "unit %d %d %u %u %d %d\n", lu->stopped, lu->ejected, lu->alua_state,
		lu->alua_status, lu->sanitize_failed, lu->sanitize_ause);
	list_for_each(itl, &lu->itls, node)
		live_write_nexus(itl, to);
}

static void live_write(void *arg, FILE *to)
{
	struct scsi_lu *lu = arg;

	pthread_mutex_lock(&lu->lock);
	live_write_locked(lu, to);
	pthread_mutex_unlock(&lu->lock);
	token_live_write(lu, to);
}

static void live_look(struct scsi_lu *lu, bool *ret_sanitize, bool *ret_busy)
{
	pthread_mutex_lock(&lu->lock);
	*ret_sanitize = lu->sanitize_running;
	*ret_busy = lu->background_count || lu->turn_holder;
	pthread_mutex_unlock(&lu->lock);
}

bool scsi_lu_is_quiet(struct scsi_lu *lu)
{
	bool sanitize, busy;

	live_look(lu, &sanitize, &busy);
	return sanitize || !busy;
}

int scsi_lu_hand_check(struct scsi_lu *lu, struct err *reterr)
{
	bool sanitize, busy;

	live_look(lu, &sanitize, &busy);
	if (!sanitize)
		return 0;
	return err_set(reterr, -EBUSY, "%s: SANITIZE goes on; hand over when it has ended",
		       lu->name);
}

int scsi_lu_pack(struct scsi_lu *lu, char **ret_text, size_t *ret_bytes, struct err *reterr)
{
	static const struct statefile file = { .head = LIVE_HEAD };
	int rc = scsi_lu_hand_check(lu, reterr);

	if (rc == 0 && !scsi_lu_is_quiet(lu))
		rc = err_set(reterr, -EBUSY, "%s: a command goes on", lu->name);
	if (rc < 0)
		return rc;
	*ret_text = statefile_text(&file, live_write, lu, ret_bytes);
	return *ret_text ? 0 : err_set(reterr, -ENOMEM, "%s: out of memory", lu->name);
}

/* ---- reading ---- */

static struct live_itl *live_itl_new(const char *initiator, const char *host)
{
	size_t name_bytes = strlen(initiator) + 1, host_bytes = strlen(host) + 1;
	struct live_itl *l = calloc(1, sizeof(*l) + name_bytes + host_bytes);

	if (!l)
		return NULL;
	l->host = l->initiator + name_bytes;
	memcpy(l->initiator, initiator, name_bytes);
	memcpy(l->host, host, host_bytes);
	return l;
}

static const char *live_read_nexus(struct live_reader *r, const char *line)
{
	static const char expected[] =
		"expected 'nexus UAS PREVENT LEGACY TARGET LUN INITIATOR HOST'";
	char initiator[SCSI_NAME_MAX + 1], host[RESV_HOST_NAME_MAX];
	uint32_t ua_mask, prevent, legacy, target, lun;
	struct live_itl *l;
	int end = 0;

	if (sscanf(line,
		   "nexus %8" SCNx32 " %1" SCNu32 " %1" SCNu32 " %5" SCNu32 " %5" SCNu32 " %n",
		   &ua_mask, &prevent, &legacy, &target, &lun, &end) != 5 ||
	    !end || ua_mask >> SCSI_UA_COUNT || prevent > 1 || legacy > 1 ||
	    target >= SCSI_TARGETS_MAX || lun >= SCSI_LUNS_MAX)
		return expected;
	line += end;
	if (!resv_name_read(&line, initiator, sizeof(initiator)) || *line++ != ' ' ||
	    !resv_name_read(&line, host, sizeof(host)) || *line)
		return expected;
	if (r->count++ == LIVE_NEXUSES_MAX)
		return "too many nexuses";
	l = live_itl_new(initiator, host);
	if (!l)
		return "out of memory";
	l->target = target;
	l->lun = lun;
	l->ua_mask = ua_mask;
	l->prevent_removal = prevent;
	l->legacy = legacy;
	list_append(&r->lu->expected, &l->node);
	r->last = l;
	return NULL;
}

static const char *live_read_unit(struct scsi_lu *lu, const char *line)
{
	uint32_t v[6];
	int end = 0;

	if (sscanf(line,
		   "unit %1" SCNu32 " %1" SCNu32 " %1" SCNu32 " %1" SCNu32 " %1" SCNu32 " %1" SCNu32
		   "%n",
		   &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &end) != 6 ||
	    !end || line[end] || (v[0] | v[1] | v[4] | v[5]) > 1 || v[2] > 3 || v[3] > 2)
		return "expected 'unit STOPPED EJECTED ALUA-STATE ALUA-STATUS SANITIZE-FAILED "
		       "SANITIZE-AUSE'";
	lu->stopped = v[0];
	lu->ejected = v[1];
	lu->alua_state = (uint8_t)v[2];
	lu->alua_status = (uint8_t)v[3];
	lu->sanitize_failed = v[4];
	lu->sanitize_ause = v[5];
	return NULL;
}

static const char *live_line(void *arg, char *line)
{
	struct live_reader *r = arg;
	const char *why = NULL;

	if (!strncmp(line, "mode ", 5))
		return mode_state_read(r->lu, line) ? NULL : "no saved mode page of this unit";
	if (!strncmp(line, "mode-current ", 13))
		return mode_live_read(r->lu, line) ? NULL : "no mode page of this unit";
	if (!strncmp(line, "unit ", 5))
		return live_read_unit(r->lu, line);
	if (!strncmp(line, "nexus ", 6))
		return live_read_nexus(r, line);
	if (!strncmp(line, "copy ", 5))
		return r->last ? copy_lid_live_read(r->lu, r->last,
						    r->last->target << 16 | r->last->lun, line)
			       : "expected a nexus before it";
	if (!strncmp(line, "token ", 6))
		return token_live_read(r->lu, line);
	return resv_live_read(r->lu, line, &why) ? NULL : why;
}

int scsi_lu_unpack(struct scsi_lu *lu, const char *text, size_t len_bytes, struct err *reterr)
{
	struct live_reader r = { .lu = lu };
	char name[128];
	int rc;

	if (!list_empty(&lu->itls) || !list_empty(&lu->expected))
		return err_set(reterr, -EINVAL, "%s: the unit is in use", lu->name);
	snprintf(name, sizeof(name), "state of %.96s", lu->name);
	/* What its state file gave is in the text as well. Nobody else knows the unit yet. */
	scsi_resv_fini(lu);
	scsi_mode_init(lu);
	rc = statefile_read(name, LIVE_HEAD, text, len_bytes, live_line, &r, reterr);
	scsi_lu_gates_update(lu);
	return rc;
}

/* ---- those that come ---- */

bool scsi_live_itl_take(struct scsi_itl *itl)
{
	const struct scsi_nexus *n = itl->nexus;
	struct scsi_lu *lu = itl->lu;
	struct live_itl *l;

	list_for_each(l, &lu->expected, node) {
		if (l->target != itl->target || l->lun != itl->lun ||
		    strcmp(l->initiator, n->name) != 0 || strcmp(l->host, n->host->name) != 0)
			continue;
		for (uint32_t ua = 0; ua < SCSI_UA_COUNT; ua++)
			if (l->ua_mask & 1u << ua)
				scsi_ua_add(itl, (enum scsi_ua)ua);
		itl->prevent_removal = l->prevent_removal;
		if (l->legacy) {
			lu->resv.legacy_holder = itl;
			resv_gates_update(lu);
		}
		copy_lid_live_take(l, n);
		list_remove(&l->node);
		free(l);
		return true;
	}
	return false;
}

void scsi_live_fini(struct scsi_lu *lu)
{
	struct list *node;

	while ((node = list_pop(&lu->expected))) {
		struct live_itl *l = list_entry(node, struct live_itl, node);

		copy_lid_live_drop(l);
		free(l);
	}
}
