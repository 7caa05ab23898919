/* Target port groups (SPC-5, 5.18). */
#include "scsi/scsi_impl.h"
#include "scsi/handlers.h"

void scsi_report_tpg(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_set_tpg(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}
