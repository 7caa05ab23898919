/*
 * vhost-user-nvme on the scripted front-end: the messages of the protocol, as QEMU's device sends
 * them, and a transport for the fake driver (nvmedrv.h).
 *
 * Messages 80 to 85 go through fe_send and fe_call as any other; the calls here know what each
 * looks like. Results as fe.h.
 */
#ifndef TESTS_LIB_VNVMEFE_H
#define TESTS_LIB_VNVMEFE_H

#include "fe.h"
#include "nvmedrv.h"

enum vnvmefe_req {
	VNVMEFE_ADMIN = 80,
	VNVMEFE_SET_CQ_CALL = 81,
	VNVMEFE_GET_CAP = 82,
	VNVMEFE_START_STOP = 83,
	VNVMEFE_IO_CMD = 84,
	VNVMEFE_SET_BAR_MR = 85,
};

#define VNVMEFE_IDENTIFY_BYTES 4112 /* command, then what fits of 4096 bytes at 64 */
#define VNVMEFE_NO_FD	       0x100ull

struct vnvmefe {
	struct fe *fe;
	bool old_generation; /* 18.04: doorbells are messages, features answer at 64 */
	bool no_table;	     /* start without SET_MEM_TABLE */
	int bar_fd;	     /* barmem: the shadow of BAR 0; -1: none */
	uint8_t *bar;	     /* mapped here */
	uint64_t bar_bytes;
	struct nvmedrv *drv; /* its doorbells follow the BAR */
};

void vnvmefe_init(struct vnvmefe *v, struct fe *fe);
void vnvmefe_fini(struct vnvmefe *v);
/* The driver's view of it. fe has its memory regions already. */
struct nvmedrv_transport vnvmefe_transport(struct vnvmefe *v);

int vnvmefe_get_cap(struct vnvmefe *v, uint64_t *ret_cap);
/* SET_MEM_TABLE (unless no_table) and START_STOP 1, or START_STOP 0: neither has an answer. */
int vnvmefe_start(struct vnvmefe *v);
int vnvmefe_stop(struct vnvmefe *v);
int vnvmefe_start_stop(struct vnvmefe *v, uint64_t value);
/* One admin command. data: 4096 bytes, or NULL; the last 48 of Identify do not come (0). */
int vnvmefe_admin(struct vnvmefe *v, const struct spec_nvme_sqe *sqe, void *data,
		  struct spec_nvme_cqe *ret_cqe);
/* fd -1: "no descriptor". */
int vnvmefe_cq_call(struct vnvmefe *v, unsigned cqid, int fd);
/* Makes a shadow BAR of bytes and sends SET_BAR_MR. */
int vnvmefe_bar(struct vnvmefe *v, uint64_t bytes);
/* An IO_CMD message: doorbell index (2 * queue, + 1) and value. */
int vnvmefe_io_cmd(struct vnvmefe *v, uint32_t index, uint32_t value);

#endif
