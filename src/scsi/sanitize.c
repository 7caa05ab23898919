/* SANITIZE (SBC-4, 5.28). */
#include "scsi/scsi_impl.h"
#include "scsi/handlers.h"

void scsi_sanitize(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}
