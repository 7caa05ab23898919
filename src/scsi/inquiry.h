/* What INQUIRY's two files share: standard data (spc.c), vital product data pages (vpd.c). */
#ifndef SCSI_INQUIRY_H
#define SCSI_INQUIRY_H

#include "scsi/scsi_impl.h"

#define SCSI_WLUN_REPORT_LUNS (SCSI_LUN_WELL_KNOWN + 1) /* SPC-5, 8.2 */

/*
 * PERIPHERAL QUALIFIER and DEVICE TYPE: a disk; 1Eh well known unit; 011b and 1Fh: there is no
 * unit, and cannot be (SPC-5, 6.6.2).
 */
static inline uint8_t scsi_peripheral(const struct scsi_task *t)
{
	if (t->itl)
		return 0x00;
	return t->lun == SCSI_WLUN_REPORT_LUNS ? 0x1e : 0x7f;
}

/* INQUIRY with EVPD 1: ends the task. */
void scsi_inquiry_vpd(struct scsi_task *t);

#endif
