/* What another room does not have yet: devices that need it cannot be started. */
#include <errno.h>

#include "base/check.h"
#include "nvme/ctrl.h"
#include "nvme/subsys.h"

#define ABSENT(result, name, ...)                                                                  \
	__attribute__((weak)) result name(__VA_ARGS__);                                            \
	__attribute__((weak)) result name(__VA_ARGS__)                                             \
	{                                                                                          \
		UNREACHABLE();                                                                     \
	}

struct nvme_cmd;
struct nvme_row;
struct vfu_session;

extern const uint64_t nvme_rows[1];
extern const uint32_t nvme_row_count;
__attribute__((weak)) const uint64_t nvme_rows[1] = { 0 };
__attribute__((weak)) const uint32_t nvme_row_count = 0;

ABSENT(void, nvme_cmd_end, struct nvme_cmd *c, enum nvme_status status)
ABSENT(int, nvme_sweep_start, void *sweep)
ABSENT(void, nvme_ctrl_start, struct nvme_ctrl *ctrl)
ABSENT(void, nvme_ctrl_stop, struct nvme_ctrl *ctrl, void (*stopped)(void *port))
ABSENT(void, nvme_ctrl_admin, struct nvme_ctrl *ctrl, const struct nvme_sqe *sqe, void *buf,
       void (*done)(void *port, const struct nvme_cqe *cqe))
ABSENT(void, nvme_ctrl_doorbells_set, struct nvme_ctrl *ctrl, uint32_t *doorbells)
ABSENT(void, vfu_handle_DEVICE_RESET, void *s, void *m)
ABSENT(struct nvme_ctrl *, nvme_cmd_ctrl, const struct nvme_cmd *c)
ABSENT(uint16_t, nvme_cmd_sqid, const struct nvme_cmd *c)
ABSENT(bool, nvme_row_offered, const struct nvme_ctrl *c, const struct nvme_row *row)
ABSENT(void, nvme_ctrl_dirty_set, struct nvme_ctrl *ctrl, struct gdirty *dirty)
ABSENT(void, nvme_ctrl_free, struct nvme_ctrl *ctrl, void (*freed)(void *port))
ABSENT(void, nvme_ctrl_intx_fd_set, struct nvme_ctrl *ctrl, int fd)
ABSENT(void, nvme_ctrl_intx_unmask, struct nvme_ctrl *ctrl)
ABSENT(bool, nvme_ctrl_is_idle, const struct nvme_ctrl *ctrl)
ABSENT(int, nvme_ctrl_load, struct nvme_ctrl *ctrl, const void *bytes, size_t len,
       struct err *reterr)
ABSENT(void, nvme_ctrl_maps_set, struct nvme_ctrl *c, struct gmem *readable, struct gmem *writable)
ABSENT(void, nvme_ctrl_msix_enable, struct nvme_ctrl *ctrl, bool on)
ABSENT(void, nvme_ctrl_quiesce, struct nvme_ctrl *ctrl, void (*quiet)(void *port))
ABSENT(void, nvme_ctrl_reg_read, struct nvme_ctrl *ctrl, uint32_t off, void *buf, uint32_t len)
ABSENT(void, nvme_ctrl_reg_write, struct nvme_ctrl *ctrl, uint32_t off, const void *buf,
       uint32_t len)
ABSENT(void, nvme_ctrl_reset, struct nvme_ctrl *ctrl)
ABSENT(void, nvme_ctrl_resume, struct nvme_ctrl *ctrl)
ABSENT(int, nvme_ctrl_save, const struct nvme_ctrl *ctrl, void **ret_bytes, size_t *ret_len)
ABSENT(void, nvme_ctrl_vector_fd_set, struct nvme_ctrl *ctrl, uint32_t vector, int fd)

__attribute__((weak)) int nvme_ctrl_new(struct nvme_subsys *subsys,
					const struct nvme_ctrl_params *params,
					struct nvme_ctrl **ret_ctrl, struct err *reterr)
{
	return err_set(reterr, -ENOSYS, "nvme is not there yet");
}
