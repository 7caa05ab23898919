/* POPULATE TOKEN and WRITE USING TOKEN (SBC-4, 5.21 and 5.53). */
#include "scsi/scsi_impl.h"
#include "scsi/handlers.h"

void scsi_populate_token(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_write_using_token(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_receive_rod_token(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_report_all_tokens(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}
