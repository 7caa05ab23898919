/* What survives a restart: registrations with APTPL, saved mode pages. */
#include "scsi/scsi_impl.h"

int scsi_state_load(struct scsi_lu *lu, struct err *reterr)
{
	return 0;
}

void scsi_state_save(struct scsi_task *t, void (*done)(struct scsi_task *t, bool ok))
{
	done(t, false);
}
