/*
 * Target port groups (SPC-5, 5.18): one group with one port. Its state belongs to the unit and is
 * what SET TARGET PORT GROUPS says.
 */
#include "scsi/handlers.h"
#include "scsi/scsi_impl.h"

#define GROUP		   1
#define PORT		   1
#define STATE_STANDBY	   2
#define STATE_SETTABLE	   3 /* active/optimized, non-optimized, standby, unavailable: 0 to 3 */
#define STATUS_BY_SET	   1
#define FORMAT_LENGTH_ONLY 0
#define FORMAT_EXTENDED	   1

/*
 * What standby lets through beyond the commands of every state: LOG SENSE, MODE SENSE and SELECT,
 * PERSISTENT RESERVE IN and OUT (SPC-5, 5.18.2.6).
 */
static bool alua_in_standby(uint8_t opcode)
{
	switch (opcode) {
	case 0x15:
	case 0x1a:
	case 0x4d:
	case 0x55:
	case 0x5a:
	case 0x5e:
	case 0x5f:
		return true;
	default:
		return false;
	}
}

enum scsi_cause scsi_alua_cause(const struct scsi_lu *lu, const struct cdb_row *row)
{
	if (lu->alua_state < STATE_STANDBY || row->flags & CDB_ALUA_ANY)
		return SCSI_CAUSE_NONE;
	if (lu->alua_state != STATE_STANDBY)
		return SCSI_CAUSE_UNAVAILABLE;
	return alua_in_standby(row->opcode) ? SCSI_CAUSE_NONE : SCSI_CAUSE_STANDBY;
}

/* REPORT TARGET PORT GROUPS (SPC-5, 6.39) */
void scsi_report_tpg(struct scsi_task *t)
{
	uint8_t format = t->cdb[1] >> 5;
	uint8_t buf[8 + 12] = { 0 }, *b = buf + 4;
	struct scsi_lu *lu = task_lu(t);

	if (format > FORMAT_EXTENDED) {
		scsi_task_bad_cdb(t, 1, 7);
		return;
	}
	if (format == FORMAT_EXTENDED) {
		b[0] = FORMAT_EXTENDED << 4;
		b += 4; /* IMPLICIT TRANSITION TIME 0: there is none */
	}
	pthread_mutex_lock(&lu->lock);
	b[0] = lu->alua_state;
	b[5] = lu->alua_status;
	pthread_mutex_unlock(&lu->lock);
	b[1] = 0x0f; /* U_SUP, S_SUP, AN_SUP, AO_SUP */
	cdb_put16(b + 2, GROUP);
	b[7] = 1; /* ports */
	cdb_put16(b + 10, PORT);
	b += 12;
	cdb_put32(buf, (uint32_t)(b - buf - 4));
	scsi_task_reply(t, buf, (size_t)(b - buf), cdb_u32(t->cdb + 6));
}

static void alua_set(struct scsi_task *t, uint8_t state)
{
	struct scsi_lu *lu = task_lu(t);

	pthread_mutex_lock(&lu->lock);
	lu->alua_status = STATUS_BY_SET;
	if (lu->alua_state != state) {
		lu->alua_state = state;
		scsi_lu_gates_update(lu);
		scsi_ua_add_others(lu, t->itl, SCSI_UA_ALUA_CHANGED);
		scsi_event_others(lu, t->itl, SCSI_UA_ALUA_CHANGED);
	}
	pthread_mutex_unlock(&lu->lock);
	scsi_task_good(t);
}

/* SET TARGET PORT GROUPS (SPC-5, 6.46) */
void scsi_set_tpg(struct scsi_task *t)
{
	uint32_t len = cdb_u32(t->cdb + 6);
	const uint8_t *b;

	if (!len) { /* no error, and no change */
		scsi_task_good(t);
		return;
	}
	if (len != 4 && len != 8) { /* the group may be named once */
		scsi_task_check(t, SCSI_CAUSE_PARAM_LIST_LENGTH);
		return;
	}
	if (!scsi_task_list(t, len))
		return;
	b = t->buf + 4;
	if (len == 4)
		scsi_task_good(t);
	else if ((b[0] & 0x0f) > STATE_SETTABLE)
		scsi_task_bad_list(t, 4, 3);
	else if (cdb_u16(b + 2) != GROUP)
		scsi_task_bad_list(t, 6, -1);
	else
		alua_set(t, b[0] & 0x0f);
}
