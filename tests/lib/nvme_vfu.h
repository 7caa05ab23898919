/* The fake NVMe driver (nvmedrv.h) over a scripted vfio-user client (vfufe.h). */
#ifndef TESTS_LIB_NVME_VFU_H
#define TESTS_LIB_NVME_VFU_H

#include "nvmedrv.h"
#include "vfufe.h"

/*
 * After vfe_up(). Doorbells are written to BAR 0's mapped page when there is one and trapped is not
 * set, else by messages.
 */
struct nvmedrv_transport nvme_vfu_transport(struct vfe *v, bool trapped);

#endif
