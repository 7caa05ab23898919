/* Registers, queues, the admin queue and its commands; see nvmedrv.h. */
#include "nvmedrv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* The tag of an Asynchronous Event Request, which has nobody who waits for it. */
static char aer_tag;

int nvmedrv_broken(struct nvmedrv *d, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(d->why, sizeof(d->why), fmt, ap);
	va_end(ap);
	return -EPROTO;
}

int64_t nvmedrv_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static bool has_registers(const struct nvmedrv *d)
{
	return d->tr.reg_read;
}

int nvmedrv_init(struct nvmedrv *d, const struct nvmedrv_transport *tr)
{
	memset(d, 0, sizeof(*d));
	d->tr = *tr;
	d->strict = true;
	d->timeout_ms = 10000;
	for (unsigned i = 0; i < NVMEDRV_QUEUES; i++)
		d->cq[i].fd = -1;
	d->buf_iova = nvmedrv_alloc(d, 4ull * SPEC_NVME_PAGE, SPEC_NVME_PAGE);
	d->buf = d->buf_iova ? nvmedrv_host(d, d->buf_iova, 4ull * SPEC_NVME_PAGE) : NULL;
	return d->buf ? 0 : -ENOMEM;
}

static void cq_fd_drop(struct nvmedrv_cq *cq)
{
	if (cq->own_fd && cq->fd >= 0)
		close(cq->fd);
	cq->fd = -1;
	cq->own_fd = false;
}

void nvmedrv_forget(struct nvmedrv *d)
{
	for (unsigned i = 0; i < NVMEDRV_QUEUES; i++) {
		struct nvmedrv_sq *sq = &d->sq[i];

		cq_fd_drop(&d->cq[i]);
		d->cq[i].live = false;
		for (uint32_t k = 0; sq->slot && k < sq->slot_count; k++) {
			struct nvmedrv_slot *s = &sq->slot[k];

			while (s->list_count && d->page_count < NVMEDRV_PAGES)
				d->page[d->page_count++] = s->lists[--s->list_count];
		}
		free(sq->slot);
		sq->slot = NULL;
		sq->live = false;
		sq->in_flight = 0;
	}
	d->shadow = d->eventidx = NULL;
	d->event_count = d->aer_in_flight = 0;
}

void nvmedrv_fini(struct nvmedrv *d)
{
	nvmedrv_forget(d);
}

/* ---- registers ---- */

int nvmedrv_reg32(struct nvmedrv *d, uint32_t off, uint32_t *ret_v)
{
	return d->tr.reg_read(d->tr.t, off, ret_v, 4);
}

int nvmedrv_reg32_set(struct nvmedrv *d, uint32_t off, uint32_t v)
{
	return d->tr.reg_write(d->tr.t, off, &v, 4);
}

int nvmedrv_reg64(struct nvmedrv *d, uint32_t off, uint64_t *ret_v)
{
	return d->tr.reg_read(d->tr.t, off, ret_v, 8);
}

int nvmedrv_reg64_set(struct nvmedrv *d, uint32_t off, uint64_t v)
{
	return d->tr.reg_write(d->tr.t, off, &v, 8);
}

int nvmedrv_csts_wait(struct nvmedrv *d, uint32_t mask, uint32_t value)
{
	int64_t end = nvmedrv_now_ms() + d->timeout_ms;
	uint32_t csts;

	for (;;) {
		int rc = nvmedrv_reg32(d, SPEC_NVME_CSTS, &csts);

		if (rc)
			return rc;
		if ((csts & mask) == value)
			return 0;
		if (csts & SPEC_NVME_CFS && !(mask & SPEC_NVME_CFS))
			return -EIO;
		if (nvmedrv_now_ms() >= end) {
			nvmedrv_broken(d, "CSTS is 0x%x, not 0x%x of 0x%x", csts, value, mask);
			return -ETIMEDOUT;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	}
}

/* ---- queue memory ---- */

/* Contiguous and page aligned (PC 1); what a queue had before is used again when it is enough. */
static void *queue_memory(struct nvmedrv *d, uint64_t *iova, uint64_t *room, uint64_t bytes)
{
	void *p;

	if (*room < bytes) {
		uint64_t fresh = nvmedrv_alloc(d, bytes, SPEC_NVME_PAGE);

		if (!fresh)
			return NULL;
		*iova = fresh;
		*room = bytes;
	}
	p = nvmedrv_host(d, *iova, bytes);
	if (p)
		memset(p, 0, bytes);
	return p;
}

static int cq_place(struct nvmedrv *d, unsigned qid, uint32_t size)
{
	struct nvmedrv_cq *cq = &d->cq[qid];

	cq->ring = queue_memory(d, &cq->iova, &cq->room_bytes,
				(uint64_t)size * sizeof(struct spec_nvme_cqe));
	if (!cq->ring)
		return -ENOMEM;
	cq->size = size;
	cq->head = cq->told_head = 0;
	cq->phase = true;
	return 0;
}

static int sq_place(struct nvmedrv *d, unsigned qid, uint32_t size, unsigned cqid)
{
	struct nvmedrv_sq *sq = &d->sq[qid];

	sq->ring = queue_memory(d, &sq->iova, &sq->room_bytes,
				(uint64_t)size * sizeof(struct spec_nvme_sqe));
	free(sq->slot);
	sq->slot_count = size < 65536 ? size : 65535;
	sq->slot = calloc(sq->slot_count, sizeof(*sq->slot));
	if (!sq->ring || !sq->slot)
		return -ENOMEM;
	sq->cqid = (uint16_t)cqid;
	sq->size = size;
	sq->tail = sq->told_tail = sq->head = sq->in_flight = sq->next_slot = 0;
	return 0;
}

/* ---- life ---- */

static int enable_registers(struct nvmedrv *d, uint32_t size)
{
	int rc = nvmedrv_reg64(d, SPEC_NVME_CAP, &d->cap);

	if (!rc)
		rc = nvmedrv_reg32_set(d, SPEC_NVME_CC, 0);
	if (!rc)
		rc = nvmedrv_csts_wait(d, SPEC_NVME_RDY, 0);
	if (!rc)
		rc = cq_place(d, 0, size);
	if (!rc)
		rc = sq_place(d, 0, size, 0);
	if (!rc)
		rc = nvmedrv_reg32_set(d, SPEC_NVME_AQA, (size - 1) << 16 | (size - 1));
	if (!rc)
		rc = nvmedrv_reg64_set(d, SPEC_NVME_ASQ, d->sq[0].iova);
	if (!rc)
		rc = nvmedrv_reg64_set(d, SPEC_NVME_ACQ, d->cq[0].iova);
	if (!rc)
		rc = nvmedrv_reg32_set(d, SPEC_NVME_CC, SPEC_NVME_CC_SIZES | SPEC_NVME_CC_EN);
	if (!rc)
		rc = nvmedrv_csts_wait(d, SPEC_NVME_RDY, SPEC_NVME_RDY);
	if (rc)
		return rc;
	d->cq[0].live = d->sq[0].live = true;
	d->cq[0].fd = d->tr.vector_fd ? d->tr.vector_fd(d->tr.t, 0) : -1;
	return 0;
}

int nvmedrv_enable(struct nvmedrv *d, uint32_t admin_size)
{
	nvmedrv_forget(d);
	d->why[0] = '\0';
	if (!has_registers(d))
		return d->tr.start(d->tr.t);
	return enable_registers(d, admin_size ? admin_size : NVMEDRV_ADMIN_SIZE);
}

int nvmedrv_disable(struct nvmedrv *d)
{
	int rc;

	if (!has_registers(d)) {
		rc = d->tr.stop(d->tr.t);
	} else {
		rc = nvmedrv_reg32_set(d, SPEC_NVME_CC, 0);
		if (!rc)
			rc = nvmedrv_csts_wait(d, SPEC_NVME_RDY | SPEC_NVME_CFS, 0);
	}
	nvmedrv_forget(d);
	return rc;
}

int nvmedrv_shutdown(struct nvmedrv *d, bool abrupt)
{
	uint32_t cc;
	int rc;

	if (!has_registers(d))
		return d->tr.stop(d->tr.t);
	rc = nvmedrv_reg32(d, SPEC_NVME_CC, &cc);
	if (!rc)
		rc = nvmedrv_reg32_set(d, SPEC_NVME_CC,
				       (cc & ~SPEC_NVME_CC_SHN) | (abrupt ? SPEC_NVME_CC_ABRUPT
									  : SPEC_NVME_CC_NORMAL));
	return rc ? rc : nvmedrv_csts_wait(d, SPEC_NVME_SHST, SPEC_NVME_SHST_DONE);
}

/* ---- admin commands ---- */

static void event_keep(struct nvmedrv *d, uint32_t dw0)
{
	if (d->event_count < NVMEDRV_EVENTS)
		d->events[d->event_count++] = dw0;
}

/* The completion of identifier cid; events on the way are kept. */
static int admin_wait(struct nvmedrv *d, const void *tag, struct nvmedrv_done *ret)
{
	for (;;) {
		int rc = nvmedrv_wait(d, 0, ret);

		if (rc)
			return rc;
		if (ret->tag == tag)
			return 0;
		if (ret->tag != &aer_tag)
			return nvmedrv_broken(d, "a completion of another admin command");
		d->aer_in_flight--;
		if (ret->status)
			return ret->status;
		event_keep(d, ret->cqe.dw0);
	}
}

static int admin_by_queue(struct nvmedrv *d, struct spec_nvme_sqe sqe, void *data, uint32_t len,
			  bool to_device, struct spec_nvme_cqe *ret_cqe)
{
	struct nvmedrv_done done;
	int rc;

	if (len > 4 * SPEC_NVME_PAGE)
		return -EINVAL;
	if (data) {
		if (to_device)
			memcpy(d->buf, data, len);
		else
			memset(d->buf, 0xa5, len);
		rc = nvmedrv_prp(d, &sqe, d->buf_iova, len);
		if (rc)
			return rc;
	}
	rc = nvmedrv_submit(d, 0, &sqe, &done);
	if (rc < 0)
		return rc;
	rc = nvmedrv_sq_ring(d, 0);
	if (!rc)
		rc = admin_wait(d, &done, &done);
	if (rc)
		return rc;
	if (data && !to_device)
		memcpy(data, d->buf, len);
	if (ret_cqe)
		*ret_cqe = done.cqe;
	return done.status;
}

int nvmedrv_admin(struct nvmedrv *d, const struct spec_nvme_sqe *sqe, void *data, uint32_t len,
		  bool to_device, struct spec_nvme_cqe *ret_cqe)
{
	struct spec_nvme_cqe cqe;
	int rc;

	if (has_registers(d))
		return admin_by_queue(d, *sqe, data, len, to_device, ret_cqe);
	rc = d->tr.admin(d->tr.t, sqe, data, &cqe);
	if (rc)
		return rc;
	if (ret_cqe)
		*ret_cqe = cqe;
	return cqe.status >> 1 & 0x7ff;
}

int nvmedrv_identify(struct nvmedrv *d, uint8_t cns, uint32_t nsid, void *ret_4096)
{
	struct spec_nvme_sqe sqe = { .opcode = SPEC_NVME_IDENTIFY, .nsid = nsid, .cdw10 = cns };

	return nvmedrv_admin(d, &sqe, ret_4096, 4096, false, NULL);
}

int nvmedrv_get_log(struct nvmedrv *d, uint8_t lid, uint32_t nsid, void *ret, uint32_t len)
{
	uint32_t dwords = len / 4 - 1;
	struct spec_nvme_sqe sqe = { .opcode = SPEC_NVME_GET_LOG,
				     .nsid = nsid,
				     .cdw10 = (dwords & 0xffff) << 16 | lid,
				     .cdw11 = dwords >> 16 };

	return nvmedrv_admin(d, &sqe, ret, len, false, NULL);
}

static int feature(struct nvmedrv *d, struct spec_nvme_sqe sqe, void *data, uint32_t len,
		   bool to_device, uint32_t *ret_dw0)
{
	struct spec_nvme_cqe cqe = { 0 };
	int rc = nvmedrv_admin(d, &sqe, data, len, to_device, &cqe);

	if (ret_dw0)
		*ret_dw0 = cqe.dw0;
	return rc;
}

int nvmedrv_get_feature(struct nvmedrv *d, uint32_t cdw10, uint32_t cdw11, uint32_t nsid, void *ret,
			uint32_t len, uint32_t *ret_dw0)
{
	struct spec_nvme_sqe sqe = {
		.opcode = SPEC_NVME_GET_FEATURES, .nsid = nsid, .cdw10 = cdw10, .cdw11 = cdw11
	};

	return feature(d, sqe, ret, len, false, ret_dw0);
}

int nvmedrv_set_feature(struct nvmedrv *d, uint32_t cdw10, uint32_t cdw11, uint32_t nsid,
			void *data, uint32_t len, uint32_t *ret_dw0)
{
	struct spec_nvme_sqe sqe = {
		.opcode = SPEC_NVME_SET_FEATURES, .nsid = nsid, .cdw10 = cdw10, .cdw11 = cdw11
	};

	return feature(d, sqe, data, len, true, ret_dw0);
}

int nvmedrv_abort(struct nvmedrv *d, uint16_t sqid, uint16_t cid, uint32_t *ret_dw0)
{
	struct spec_nvme_sqe sqe = { .opcode = SPEC_NVME_ABORT,
				     .cdw10 = (uint32_t)cid << 16 | sqid };

	return feature(d, sqe, NULL, 0, false, ret_dw0);
}

/* vhost-user-nvme has an eventfd of each queue; otherwise it is the vector's. */
static int cq_call(struct nvmedrv *d, unsigned qid, int vector)
{
	struct nvmedrv_cq *cq = &d->cq[qid];

	if (vector < 0)
		return 0;
	if (!d->tr.cq_call) {
		cq->fd = d->tr.vector_fd ? d->tr.vector_fd(d->tr.t, (unsigned)vector) : -1;
		return 0;
	}
	cq->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (cq->fd < 0)
		return -errno;
	cq->own_fd = true;
	return d->tr.cq_call(d->tr.t, qid, cq->fd);
}

int nvmedrv_cq_create(struct nvmedrv *d, unsigned qid, uint32_t size, int vector)
{
	struct spec_nvme_sqe sqe = { .opcode = SPEC_NVME_CREATE_CQ,
				     .cdw10 = (size - 1) << 16 | qid,
				     .cdw11 = 1 };
	int rc = cq_place(d, qid, size);

	if (rc)
		return rc;
	cq_fd_drop(&d->cq[qid]);
	if (vector >= 0)
		sqe.cdw11 |= 2 | (uint32_t)vector << 16;
	sqe.prp1 = d->cq[qid].iova;
	rc = nvmedrv_admin(d, &sqe, NULL, 0, false, NULL);
	if (!rc)
		rc = cq_call(d, qid, vector);
	d->cq[qid].live = !rc;
	return rc;
}

int nvmedrv_sq_create(struct nvmedrv *d, unsigned qid, uint32_t size, unsigned cqid)
{
	struct spec_nvme_sqe sqe = { .opcode = SPEC_NVME_CREATE_SQ,
				     .cdw10 = (size - 1) << 16 | qid,
				     .cdw11 = (uint32_t)cqid << 16 | 1 };
	int rc = sq_place(d, qid, size, cqid);

	if (rc)
		return rc;
	sqe.prp1 = d->sq[qid].iova;
	rc = nvmedrv_admin(d, &sqe, NULL, 0, false, NULL);
	d->sq[qid].live = !rc;
	return rc;
}

int nvmedrv_pair_create(struct nvmedrv *d, unsigned qid, uint32_t size, int vector)
{
	int rc = nvmedrv_cq_create(d, qid, size, vector);

	return rc ? rc : nvmedrv_sq_create(d, qid, size, qid);
}

int nvmedrv_cq_delete(struct nvmedrv *d, unsigned qid)
{
	struct spec_nvme_sqe sqe = { .opcode = SPEC_NVME_DELETE_CQ, .cdw10 = qid };
	int rc = nvmedrv_admin(d, &sqe, NULL, 0, false, NULL);

	if (!rc) {
		d->cq[qid].live = false;
		cq_fd_drop(&d->cq[qid]);
	}
	return rc;
}

/* Completions of its commands may still lie in the completion queue: the entry stays until the
 * identifier is used again. */
int nvmedrv_sq_delete(struct nvmedrv *d, unsigned qid)
{
	struct spec_nvme_sqe sqe = { .opcode = SPEC_NVME_DELETE_SQ, .cdw10 = qid };

	return nvmedrv_admin(d, &sqe, NULL, 0, false, NULL);
}

/* 5.7: both pages are ours and zeroed; the device goes on from the doorbells as they are. */
int nvmedrv_dbbuf(struct nvmedrv *d)
{
	struct spec_nvme_sqe sqe = { .opcode = SPEC_NVME_DBBUF };
	int rc;

	if (!d->shadow_iova) {
		d->shadow_iova = nvmedrv_alloc(d, SPEC_NVME_PAGE, SPEC_NVME_PAGE);
		d->eventidx_iova = nvmedrv_alloc(d, SPEC_NVME_PAGE, SPEC_NVME_PAGE);
	}
	if (!d->shadow_iova || !d->eventidx_iova)
		return -ENOMEM;
	sqe.prp1 = d->shadow_iova;
	sqe.prp2 = d->eventidx_iova;
	memset(nvmedrv_host(d, sqe.prp1, SPEC_NVME_PAGE), 0, SPEC_NVME_PAGE);
	memset(nvmedrv_host(d, sqe.prp2, SPEC_NVME_PAGE), 0, SPEC_NVME_PAGE);
	rc = nvmedrv_admin(d, &sqe, NULL, 0, false, NULL);
	if (!rc) {
		d->shadow = nvmedrv_host(d, d->shadow_iova, SPEC_NVME_PAGE);
		d->eventidx = nvmedrv_host(d, d->eventidx_iova, SPEC_NVME_PAGE);
	}
	return rc;
}

int nvmedrv_aer(struct nvmedrv *d)
{
	struct spec_nvme_sqe sqe = { .opcode = SPEC_NVME_AER };
	int rc = nvmedrv_submit(d, 0, &sqe, &aer_tag);

	if (rc < 0)
		return rc;
	d->aer_in_flight++;
	return nvmedrv_sq_ring(d, 0);
}

int nvmedrv_event_wait(struct nvmedrv *d, uint32_t *ret_dw0)
{
	struct nvmedrv_done done;

	while (!d->event_count) {
		int rc = nvmedrv_wait(d, 0, &done);

		if (rc)
			return rc;
		if (done.tag != &aer_tag)
			return nvmedrv_broken(d, "a completion that is not an event");
		d->aer_in_flight--;
		if (done.status)
			return done.status;
		event_keep(d, done.cqe.dw0);
	}
	*ret_dw0 = d->events[0];
	memmove(d->events, d->events + 1, --d->event_count * sizeof(d->events[0]));
	return 0;
}
