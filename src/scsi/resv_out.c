/*
 * PERSISTENT RESERVE OUT (SPC-5, 6.17): its parameter lists, and the steps after the change.
 *
 *   list read -> list checked -> resv_act (lock) -> tasks of the preempted aborted -> state saved
 *   -> GOOD
 *
 * The change is in force from resv_act on; what follows only delays the status: when GOOD comes
 * the preempted nexuses have nothing in flight, and what is to survive is on disk.
 */
#include "scsi/handlers.h"
#include "scsi/resv.h"

#define LIST_BYTES	24
#define IDS_AT_REGISTER 28 /* after TRANSPORTID PARAMETER DATA LENGTH */
#define IDS_AT_MOVE	24
#define LIST_BYTES_MAX	(512u << 10)
#define ID_PORT		0x05 /* format 0, protocol identifier iSCSI */
#define ID_LEN_MIN	20   /* ADDITIONAL LENGTH (SPC-5, 7.6.4.6) */

/* task->vars */
#define VAR_PENDING 0 /* aborts under way, and one for the command itself */
#define VAR_SAVE    1
#define VAR_FAILED  2 /* no memory for an abort */

/* ---- TransportIDs ---- */

size_t resv_transport_id(const uint8_t *ids, size_t at, size_t end, const char **ret_name)
{
	const uint8_t *id = ids + at;
	size_t len;

	if (end - at < 4 || id[0] != ID_PORT)
		return 0;
	len = cdb_u16(id + 2);
	if (len < ID_LEN_MIN || len % 4 || len > end - at - 4)
		return 0;
	for (size_t i = 0; i < len && i <= SCSI_NAME_MAX; i++) {
		if (id[4 + i])
			continue;
		*ret_name = (const char *)id + 4;
		return i ? 4 + len : 0;
	}
	return 0;
}

/* Each of those in [ids_at, list_len) is one. */
static bool out_ids(struct resv_out *out, size_t ids_at, size_t list_len)
{
	const char *name;
	size_t len;

	out->ids = out->t->buf + ids_at;
	out->ids_at = ids_at;
	out->ids_bytes = list_len - ids_at;
	for (size_t at = 0; at < out->ids_bytes; at += len) {
		len = resv_transport_id(out->ids, at, out->ids_bytes, &name);
		if (len)
			continue;
		scsi_task_bad_list(out->t, (uint32_t)(ids_at + at), -1);
		return false;
	}
	return true;
}

/* ---- lists. false: the task ended ---- */

static bool out_aptpl(struct resv_out *out, uint32_t byte)
{
	out->aptpl = out->t->buf[byte] & 0x01;
	if (!out->aptpl || out->lu->state_path)
		return true;
	scsi_task_bad_list(out->t, byte, 0);
	return false;
}

/* 6.17.4 */
static bool out_list_move(struct resv_out *out, size_t len)
{
	const uint8_t *list = out->t->buf;

	out->unreg = list[17] & 0x02;
	if (!out_aptpl(out, 17))
		return false;
	if (cdb_u16(list + 18) != RESV_PORT) {
		scsi_task_bad_list(out->t, 18, -1);
		return false;
	}
	if (cdb_u32(list + 20) != len - IDS_AT_MOVE || len == IDS_AT_MOVE) {
		scsi_task_bad_list(out->t, 20, -1);
		return false;
	}
	if (!out_ids(out, IDS_AT_MOVE, len))
		return false;
	if (4u + cdb_u16(list + IDS_AT_MOVE + 2) == len - IDS_AT_MOVE)
		return true;
	scsi_task_bad_list(out->t, 20, -1); /* more than one */
	return false;
}

/* 6.17.3 */
static bool out_list_basic(struct resv_out *out, size_t len)
{
	const uint8_t *list = out->t->buf;
	bool registers = out->sa == RESV_SA_REGISTER || out->sa == RESV_SA_REGISTER_IGNORE;

	out->spec_i_pt = list[20] & 0x08;
	out->all_tg_pt = registers && list[20] & 0x04;
	if (out->spec_i_pt && out->sa != RESV_SA_REGISTER) {
		scsi_task_bad_list(out->t, 20, 3);
		return false;
	}
	if (out->spec_i_pt ? len < IDS_AT_REGISTER : len != LIST_BYTES) {
		scsi_task_check(out->t, SCSI_CAUSE_PARAM_LIST_LENGTH);
		return false;
	}
	if (registers && !out_aptpl(out, 20))
		return false;
	if (!out->spec_i_pt)
		return true;
	if (cdb_u32(list + LIST_BYTES) != len - IDS_AT_REGISTER) {
		scsi_task_bad_list(out->t, LIST_BYTES, -1);
		return false;
	}
	return out_ids(out, IDS_AT_REGISTER, len);
}

static bool out_list(struct resv_out *out)
{
	struct scsi_task *t = out->t;
	size_t len = cdb_u32(t->cdb + 5);

	if (len < LIST_BYTES || len > LIST_BYTES_MAX) {
		scsi_task_check(t, SCSI_CAUSE_PARAM_LIST_LENGTH);
		return false;
	}
	if (!scsi_task_list(t, len))
		return false;
	out->key = cdb_u64(t->buf);
	out->sa_key = cdb_u64(t->buf + 8);
	return out->sa == RESV_SA_MOVE ? out_list_move(out, len) : out_list_basic(out, len);
}

/* ---- after the change ---- */

static void out_saved(struct scsi_task *t, bool ok)
{
	if (ok)
		scsi_task_good(t);
	else
		scsi_task_check(t, SCSI_CAUSE_INTERNAL_FAILURE);
}

static void out_abort_done(struct scsi_task *t)
{
	if (--t->vars[VAR_PENDING])
		return;
	if (t->vars[VAR_FAILED])
		scsi_task_check(t, SCSI_CAUSE_INSUFFICIENT_RESOURCES);
	else if (t->vars[VAR_SAVE])
		scsi_state_save(t, out_saved);
	else
		scsi_task_good(t);
}

/*
 * It comes back on this loop, and not before the handler returned. The nexus is only compared with
 * those of tasks: it may be closed meanwhile, and then it has none.
 */
void resv_out_abort(struct resv_out *out, struct scsi_nexus *nexus)
{
	if (scsi_abort_tasks(out->t, nexus, out_abort_done))
		out->t->vars[VAR_PENDING]++;
	else
		out->t->vars[VAR_FAILED] = 1;
}

static void out_end(struct resv_out *out, enum resv_verdict v)
{
	struct scsi_task *t = out->t;

	switch (v) {
	case RESV_DONE:
		out_abort_done(t);
		return;
	case RESV_CONFLICT:
		scsi_task_end_status(t, SCSI_RESERVATION_CONFLICT);
		return;
	case RESV_CAUSE:
		scsi_task_check(t, out->cause);
		return;
	case RESV_BAD_CDB:
		scsi_task_bad_cdb(t, out->field_byte, out->field_bit);
		return;
	case RESV_BAD_LIST:
		scsi_task_bad_list(t, out->field_byte, out->field_bit);
		return;
	}
	UNREACHABLE();
}

void scsi_pr_out(struct scsi_task *t)
{
	struct resv_out out = {
		.t = t,
		.lu = task_lu(t),
		.sa = (enum resv_sa)(t->cdb[1] & 0x1f), /* cdb.def has no others */
		.scope = t->cdb[2] >> 4,
		.type = t->cdb[2] & 0x0f,
	};
	enum resv_verdict v;
	bool persisted;

	if (!out_list(&out))
		return;
	t->vars[VAR_PENDING] = 1;
	t->vars[VAR_FAILED] = 0;
	pthread_mutex_lock(&out.lu->lock);
	persisted = out.lu->resv.aptpl;
	v = resv_act(&out);
	t->vars[VAR_SAVE] = persisted || out.lu->resv.aptpl;
	pthread_mutex_unlock(&out.lu->lock);
	out_end(&out, v);
}
