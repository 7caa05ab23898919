/* Mode pages (SPC-5, 7.5; SBC-4, 6.5). */
#include "scsi/scsi_impl.h"
#include "scsi/handlers.h"

void scsi_mode_select(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_mode_sense(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_mode_init(struct scsi_lu *lu)
{
}

void scsi_mode_reset(struct scsi_lu *lu)
{
}
