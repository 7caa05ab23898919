/* See vnvmefe.h. */
#include "vnvmefe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void vnvmefe_init(struct vnvmefe *v, struct fe *fe)
{
	*v = (struct vnvmefe){ .fe = fe, .bar_fd = -1 };
	/* The device negotiates nothing, so nothing is acknowledged. */
	fe->want_ack = false;
}

void vnvmefe_fini(struct vnvmefe *v)
{
	if (v->bar)
		munmap(v->bar, v->bar_bytes);
	if (v->bar_fd >= 0)
		close(v->bar_fd);
	v->bar = NULL;
	v->bar_fd = -1;
}

int vnvmefe_get_cap(struct vnvmefe *v, uint64_t *ret_cap)
{
	return fe_get_u64(v->fe, VNVMEFE_GET_CAP, ret_cap);
}

int vnvmefe_start_stop(struct vnvmefe *v, uint64_t value)
{
	return fe_send(v->fe, VNVMEFE_START_STOP, FE_FLAG_VERSION, &value, sizeof(value), NULL, 0);
}

int vnvmefe_start(struct vnvmefe *v)
{
	int rc = v->no_table ? 0 : fe_set_mem_table(v->fe);

	return rc ? rc : vnvmefe_start_stop(v, 1);
}

int vnvmefe_stop(struct vnvmefe *v)
{
	uint64_t cap;
	int rc = vnvmefe_start_stop(v, 0);

	/* Stop has no answer, but the next message waits for its end. */
	return rc ? rc : vnvmefe_get_cap(v, &cap);
}

static bool is_feature(const struct spec_nvme_sqe *sqe)
{
	return sqe->opcode == SPEC_NVME_GET_FEATURES || sqe->opcode == SPEC_NVME_SET_FEATURES;
}

int vnvmefe_admin(struct vnvmefe *v, const struct spec_nvme_sqe *sqe, void *data,
		  struct spec_nvme_cqe *ret_cqe)
{
	bool has_data = sqe->opcode == SPEC_NVME_IDENTIFY || (v->old_generation && is_feature(sqe));
	uint32_t want = has_data ? VNVMEFE_IDENTIFY_BYTES : sizeof(*ret_cqe);
	struct fe_msg m;
	int rc = fe_call(v->fe, VNVMEFE_ADMIN, sqe, sizeof(*sqe), NULL, 0, &m);

	if (rc)
		return rc;
	fe_msg_close(&m);
	if (m.hdr.size_bytes != want) {
		snprintf(v->fe->why, sizeof(v->fe->why), "admin %02xh: %u bytes, expected %u",
			 sqe->opcode, m.hdr.size_bytes, want);
		return -EPROTO;
	}
	memcpy(ret_cqe, m.payload, sizeof(*ret_cqe));
	if (v->old_generation && is_feature(sqe))
		memcpy(&ret_cqe->dw0, m.payload + 64, sizeof(ret_cqe->dw0));
	else if (has_data && data) {
		memset(data, 0, 4096);
		memcpy(data, m.payload + 64, VNVMEFE_IDENTIFY_BYTES - 64);
	}
	return 0;
}

int vnvmefe_cq_call(struct vnvmefe *v, unsigned cqid, int fd)
{
	uint64_t value = cqid | (fd < 0 ? VNVMEFE_NO_FD : 0);

	return fe_send(v->fe, VNVMEFE_SET_CQ_CALL, FE_FLAG_VERSION, &value, sizeof(value), &fd,
		       fd >= 0);
}

int vnvmefe_bar(struct vnvmefe *v, uint64_t bytes)
{
	struct {
		uint32_t count, pad;
		struct fe_wire_region region;
	} m = { .count = 1, .region = { .gpa = 0x20000000, .size_bytes = bytes } };

	vnvmefe_fini(v);
	v->bar_fd = memfd_create("bar0", MFD_CLOEXEC);
	if (v->bar_fd < 0 || ftruncate(v->bar_fd, (off_t)bytes))
		return -errno;
	v->bar = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->bar_fd, 0);
	if (v->bar == MAP_FAILED) {
		v->bar = NULL;
		return -ENOMEM;
	}
	v->bar_bytes = bytes;
	m.region.uva = (uintptr_t)v->bar;
	if (v->drv)
		v->drv->tr.doorbells = (uint32_t *)(v->bar + SPEC_NVME_DOORBELL);
	return fe_send(v->fe, VNVMEFE_SET_BAR_MR, FE_FLAG_VERSION, &m, sizeof(m), &v->bar_fd, 1);
}

int vnvmefe_io_cmd(struct vnvmefe *v, uint32_t index, uint32_t value)
{
	uint32_t m[3] = { index & 1 ? 2 : 1, index / 2, value };

	return fe_send(v->fe, VNVMEFE_IO_CMD, FE_FLAG_VERSION, m, sizeof(m), NULL, 0);
}

/* ---- the driver's transport ---- */

static int tr_start(void *t)
{
	return vnvmefe_start(t);
}

static int tr_stop(void *t)
{
	return vnvmefe_stop(t);
}

static int tr_admin(void *t, const struct spec_nvme_sqe *sqe, void *data,
		    struct spec_nvme_cqe *ret_cqe)
{
	return vnvmefe_admin(t, sqe, data, ret_cqe);
}

static int tr_cq_call(void *t, unsigned cqid, int fd)
{
	return vnvmefe_cq_call(t, cqid, fd);
}

/* Newer generations lose the write: QEMU's device drops it. */
static int tr_doorbell(void *t, uint32_t index, uint32_t value)
{
	struct vnvmefe *v = t;

	return v->old_generation ? vnvmefe_io_cmd(v, index, value) : 0;
}

static uint64_t tr_alloc(void *t, uint64_t len, uint64_t align)
{
	struct vnvmefe *v = t;

	return fe_alloc(v->fe, -1, len, align);
}

static void *tr_host(void *t, uint64_t iova, uint64_t len)
{
	struct vnvmefe *v = t;

	return fe_host(v->fe, iova, len);
}

struct nvmedrv_transport vnvmefe_transport(struct vnvmefe *v)
{
	return (struct nvmedrv_transport){
		.name = "vhost-user-nvme",
		.t = v,
		.doorbells = v->bar ? (uint32_t *)(v->bar + SPEC_NVME_DOORBELL) : NULL,
		.doorbell = tr_doorbell,
		.mem_alloc = tr_alloc,
		.mem_host = tr_host,
		.start = tr_start,
		.stop = tr_stop,
		.admin = tr_admin,
		.cq_call = tr_cq_call,
	};
}
