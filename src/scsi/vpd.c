/* Vital product data pages (SPC-5, 7.7; SBC-4, 6.6). */
#include "scsi/scsi_impl.h"

void scsi_lu_naa(const struct scsi_lu *lu, uint8_t ret_naa[8])
{
	cdb_put64(ret_naa, lu->wwn);
}

size_t scsi_designators(const struct scsi_itl *itl, uint8_t *buf, size_t size)
{
	return 0;
}

size_t scsi_transport_id(const char *initiator_name, uint8_t *buf)
{
	return 0;
}
