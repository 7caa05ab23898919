/* EXTENDED COPY and RECEIVE COPY RESULTS (SPC-5, 5.17). */
#include "scsi/copy.h"
#include "scsi/scsi_impl.h"
#include "scsi/handlers.h"

void scsi_extended_copy(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_copy_abort(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_receive_copy(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_copy_nexus_gone(const struct scsi_nexus *nexus)
{
}
