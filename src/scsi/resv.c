/* Persistent reservations (SPC-5, 5.14), RESERVE and RELEASE (SPC-2). */
#include "scsi/scsi_impl.h"
#include "scsi/handlers.h"

void scsi_pr_in(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_pr_out(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_reserve(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_release(struct scsi_task *t)
{
	scsi_task_check(t, SCSI_CAUSE_INVALID_OPCODE);
}

void scsi_resv_init(struct scsi_lu *lu)
{
	list_init(&lu->resv.registrations);
}

void scsi_resv_fini(struct scsi_lu *lu)
{
}

void scsi_resv_attach(struct scsi_itl *itl)
{
}

void scsi_resv_detach(struct scsi_itl *itl)
{
}

void scsi_resv_legacy_release(struct scsi_lu *lu, const struct scsi_itl *holder_or_null)
{
}
