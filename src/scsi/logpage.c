/* LOG SENSE (SPC-5, 6.8 and 7.3). */
#include "scsi/scsi_impl.h"
#include "scsi/handlers.h"

void scsi_log_sense(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}
