/* What another room does not have yet. */
#include <errno.h>

#include "nvme/ctrl.h"

__attribute__((weak)) int nvme_ctrl_save(const struct nvme_ctrl *ctrl, void **ret_bytes,
					 size_t *ret_len)
{
	return -ENOTSUP;
}

__attribute__((weak)) int nvme_ctrl_load(struct nvme_ctrl *ctrl, const void *bytes, size_t len,
					 struct err *reterr)
{
	return err_set(reterr, -ENOTSUP, "migration is not there yet");
}
