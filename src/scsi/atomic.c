/* COMPARE AND WRITE, ORWRITE, WRITE ATOMIC (SBC-4, 5). */
#include "scsi/scsi_impl.h"
#include "scsi/handlers.h"

void scsi_compare_and_write(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_orwrite(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_write_atomic(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}
