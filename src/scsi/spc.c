/* INQUIRY, REPORT LUNS and what every unit has (SPC-5; START STOP UNIT and PREVENT: SBC-4). */
#include <string.h>

#include "scsi/handlers.h"
#include "scsi/inquiry.h"
#include "scsi/scsi_impl.h"

/* ---- TEST UNIT READY, REQUEST SENSE ---- */

void scsi_test_unit_ready(struct scsi_task *t)
{
	/* what is not ready was stopped at the gate */
	if (t->itl || t->lun == SCSI_WLUN_REPORT_LUNS)
		scsi_task_good(t);
	else
		scsi_task_check(t, SCSI_CAUSE_LU_NOT_SUPPORTED);
}

void scsi_request_sense(struct scsi_task *t)
{
	bool descriptor = t->cdb[1] & 0x01;
	enum scsi_cause cause = SCSI_CAUSE_NONE;
	enum scsi_ua ua = SCSI_UA_COUNT;
	struct sense_extra extra = { 0 };
	uint8_t sense[SCSI_SENSE_MAX], len;

	if (t->itl) {
		pthread_mutex_lock(&task_lu(t)->lock);
		ua = scsi_ua_take(t->itl);
		if (ua == SCSI_UA_COUNT)
			cause = scsi_lu_not_ready(task_lu(t), &extra);
		pthread_mutex_unlock(&task_lu(t)->lock);
	} else if (t->lun != SCSI_WLUN_REPORT_LUNS) {
		cause = SCSI_CAUSE_LU_NOT_SUPPORTED;
	}
	len = ua == SCSI_UA_COUNT ? sense_build(sense, descriptor, cause, &extra)
				  : sense_build_ua(sense, descriptor, ua);
	scsi_task_reply(t, sense, len, t->cdb[4]);
}

/* ---- INQUIRY (SPC-5, 6.6) ---- */

#define INQUIRY_BYTES 96

static void inquiry_lu(const struct scsi_lu *lu, uint8_t *b)
{
	b[1] = lu->removable ? 0x80 : 0; /* RMB */
	/* TPGS: explicit; 3PC; PROTECT */
	b[5] = (uint8_t)(0x20 | 0x08 | (lu->pi_type ? 0x01 : 0));
	memcpy(b + 8, lu->vendor, sizeof(lu->vendor));
	memcpy(b + 16, lu->product, sizeof(lu->product));
	memcpy(b + 32, lu->revision, sizeof(lu->revision));
}

static void inquiry_standard(struct scsi_task *t)
{
	/* SAM-6, SPC-5, SBC-4, and what they are extensions of: SPC-4, SBC-3 */
	static const uint16_t versions[] = { 0x00c0, 0x05c0, 0x0600, 0x0460, 0x04c0 };
	uint8_t b[INQUIRY_BYTES] = { 0 };

	b[0] = scsi_peripheral(t);
	/* SPC-4: initiators that know of no later one take 07h for an error */
	b[2] = 0x06;
	b[3] = 0x12; /* HISUP, RESPONSE DATA FORMAT 2 */
	b[4] = INQUIRY_BYTES - 5;
	b[7] = 0x02; /* CMDQUE */
	memset(b + 8, ' ', 28);
	memcpy(b + 8, "vhostd", 6);
	if (t->itl)
		inquiry_lu(task_lu(t), b);
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++)
		cdb_put16(b + 58 + 2 * i, versions[i]);
	scsi_task_reply(t, b, sizeof(b), cdb_u16(t->cdb + 3));
}

void scsi_inquiry(struct scsi_task *t)
{
	if (t->cdb[1] & 0x02) /* CMDDT, obsolete; the LUN bits of SCSI-2 are not looked at */
		scsi_task_bad_cdb(t, 1, 1);
	else if (t->cdb[1] & 0x01)
		scsi_inquiry_vpd(t);
	else if (t->cdb[2])
		scsi_task_bad_cdb(t, 2, -1);
	else
		inquiry_standard(t);
}

/* ---- REPORT LUNS (SPC-5, 6.35) ---- */

#define LUNS_HEADER_BYTES 8
#define LUNS_ALLOC_MIN	  16

#define LUNS_UNITS	1 /* all but the well known */
#define LUNS_WELL_KNOWN 2

/* SELECT REPORT: what of it is listed, -1: not defined. */
static int luns_select(uint8_t select_report)
{
	switch (select_report) {
	case 0x00:
	case 0x11: /* administrative, and those in no conglomerate: all of ours */
		return LUNS_UNITS;
	case 0x01:
		return LUNS_WELL_KNOWN;
	case 0x02:
		return LUNS_UNITS | LUNS_WELL_KNOWN;
	case 0x10: /* administrative units */
	case 0x12: /* the subsidiary units of an administrative one: we have none */
		return 0;
	default:
		return -1;
	}
}

/* The list tells what changed, for all units of the target (SPC-5, 6.35.1; LUICLR). */
static void luns_ua_clear(const struct scsi_map_entry *entries, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct scsi_itl *itl = entries[i].itl;

		if (!(atomic_load_explicit(&itl->gate, memory_order_acquire) & GATE_UA))
			continue;
		pthread_mutex_lock(&itl->lu->lock);
		scsi_ua_clear(itl, SCSI_UA_LUNS_CHANGED);
		pthread_mutex_unlock(&itl->lu->lock);
	}
}

void scsi_report_luns(struct scsi_task *t)
{
	const struct scsi_map *map =
		atomic_load_explicit(&t->queue->nexus->map, memory_order_acquire);
	uint32_t alloc_len = cdb_u32(t->cdb + 6);
	int select = luns_select(t->cdb[2]);
	const struct scsi_map_entry *entries;
	uint32_t count, listed = 0;
	uint8_t *at;

	if (select < 0) {
		scsi_task_bad_cdb(t, 2, -1);
		return;
	}
	if (alloc_len < LUNS_ALLOC_MIN) {
		scsi_task_bad_cdb(t, 6, -1);
		return;
	}
	count = scsi_map_target(map, t->target, &entries);
	if (!scsi_task_scratch(t, LUNS_HEADER_BYTES + (count + 1) * 8))
		return;
	at = t->buf + LUNS_HEADER_BYTES;
	for (uint32_t i = 0; select & LUNS_UNITS && i < count; i++)
		scsi_lun_encode(entries[i].itl->lun, at + 8 * listed++);
	if (select & LUNS_WELL_KNOWN) {
		at[8 * listed] = 0xc1; /* well known (SAM-6, 4.7.7.5.2), REPORT LUNS */
		at[8 * listed++ + 1] = 0x01;
	}
	cdb_put32(t->buf, 8 * listed);
	luns_ua_clear(entries, count);
	scsi_task_reply(t, t->buf, LUNS_HEADER_BYTES + 8 * listed, alloc_len);
}

/* ---- START STOP UNIT (SBC-4, 5.31), PREVENT ALLOW MEDIUM REMOVAL (SBC-4, 5.15) ---- */

/*
 * POWER CONDITION and its greatest POWER CONDITION MODIFIER. The disk has no power to save: what
 * every medium access would leave at once is left at once. All but START_VALID start the unit.
 */
static int start_modifier_max(uint8_t condition)
{
	switch (condition) {
	case 0x0: /* START_VALID */
	case 0x1: /* ACTIVE */
	case 0x7: /* LU_CONTROL */
		return 0;
	case 0x2: /* IDLE */
		return 2;
	case 0x3: /* STANDBY */
		return 1;
	case 0xa: /* FORCE_IDLE_0 */
		return 2;
	case 0xb: /* FORCE_STANDBY_0 */
		return 1;
	default:
		return -1;
	}
}

#define START_LOEJ 0x02 /* byte 4 */

static void start_stopped_set(struct scsi_lu *lu, bool stopped)
{
	pthread_mutex_lock(&lu->lock);
	lu->stopped = stopped;
	scsi_lu_gates_update(lu);
	pthread_mutex_unlock(&lu->lock);
}

/* The medium of a removable unit goes or comes; the other nexuses hear of a new one. */
static void start_ejected_set(struct scsi_task *t, bool ejected)
{
	struct scsi_lu *lu = task_lu(t);

	pthread_mutex_lock(&lu->lock);
	if (lu->ejected && !ejected)
		scsi_ua_add_others(lu, t->itl, SCSI_UA_MEDIUM_CHANGED);
	lu->ejected = ejected;
	lu->stopped = false;
	scsi_lu_gates_update(lu);
	pthread_mutex_unlock(&lu->lock);
}

static void start_flushed(struct scsi_task *t, enum blk_status status)
{
	if (status != BLK_ST_OK) {
		scsi_task_blk_failed(t, status, 0);
		return;
	}
	if (t->cdb[4] & START_LOEJ)
		start_ejected_set(t, true);
	else
		start_stopped_set(task_lu(t), true);
	scsi_task_good(t);
}

static bool start_removal_prevented(struct scsi_lu *lu)
{
	const struct scsi_itl *itl;
	bool prevented = false;

	pthread_mutex_lock(&lu->lock);
	list_for_each(itl, &lu->itls, node)
		prevented |= itl->prevent_removal;
	pthread_mutex_unlock(&lu->lock);
	return prevented;
}

/* IMMED is honoured by being quick. */
void scsi_start_stop(struct scsi_task *t)
{
	struct scsi_lu *lu = task_lu(t);
	uint8_t condition = t->cdb[4] >> 4;
	bool no_flush = t->cdb[4] & 0x04, loej = t->cdb[4] & START_LOEJ, start = t->cdb[4] & 0x01;
	int modifier_max = start_modifier_max(condition);

	/* to start is allowed (SBC-4, table 13) */
	if ((condition || !start) && scsi_resv_conflict(t))
		return;
	if (modifier_max < 0) {
		scsi_task_bad_cdb(t, 4, 7);
	} else if ((t->cdb[3] & 0x0f) > modifier_max) {
		scsi_task_bad_cdb(t, 3, 3);
	} else if (condition) { /* NO_FLUSH, LOEJ and START are ignored then */
		start_stopped_set(lu, false);
		scsi_task_good(t);
	} else if (loej && start_removal_prevented(lu)) {
		scsi_task_check(t, SCSI_CAUSE_MEDIUM_REMOVAL_PREVENTED);
	} else if (loej && !lu->removable) {
		scsi_task_bad_cdb(t, 4, 1);
	} else if (loej && start) {
		start_ejected_set(t, false);
		scsi_task_good(t);
	} else if (start) {
		start_stopped_set(lu, false);
		scsi_task_good(t);
	} else if (no_flush || !lu->caps->volatile_cache) {
		start_flushed(t, BLK_ST_OK);
	} else {
		scsi_task_io(t, NULL, BLK_FLUSH, 0, 0, 0, NULL, 0, start_flushed);
	}
}

void scsi_prevent_allow(struct scsi_task *t)
{
	uint8_t prevent = t->cdb[4] & 0x03;

	if (prevent && scsi_resv_conflict(t)) /* to allow is allowed (SPC-5, table 73) */
		return;
	if (prevent & 0x02) { /* obsolete */
		scsi_task_bad_cdb(t, 4, 1);
		return;
	}
	pthread_mutex_lock(&task_lu(t)->lock);
	t->itl->prevent_removal = prevent;
	pthread_mutex_unlock(&task_lu(t)->lock);
	scsi_task_good(t);
}
