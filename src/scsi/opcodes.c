/* REPORT SUPPORTED OPERATION CODES and TASK MANAGEMENT FUNCTIONS (SPC-5, 6.37 and 6.38). */
#include "scsi/scsi_impl.h"
#include "scsi/handlers.h"

void scsi_report_opcodes(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_report_tmfs(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}
