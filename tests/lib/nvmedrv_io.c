/* Data pointers, doorbells, submission and completion; see nvmedrv.h. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "nvmedrv.h"

uint64_t nvmedrv_alloc(struct nvmedrv *d, uint64_t len, uint64_t align)
{
	return d->tr.mem_alloc(d->tr.t, len, align);
}

void *nvmedrv_host(struct nvmedrv *d, uint64_t iova, uint64_t len)
{
	return d->tr.mem_host(d->tr.t, iova, len);
}

/* ---- data pointers ---- */

/* A page for a list of the command that is being built. 0: none. */
static uint64_t list_page(struct nvmedrv *d)
{
	uint64_t page;

	if (d->building_count == NVMEDRV_LISTS)
		return 0;
	if (d->page_count)
		page = d->page[--d->page_count];
	else
		page = nvmedrv_alloc(d, SPEC_NVME_PAGE, SPEC_NVME_PAGE);
	if (page)
		d->building[d->building_count++] = page;
	return page;
}

/* 4.3: the last entry of a list that is not the last points to the next list. */
int nvmedrv_prp_entries(struct nvmedrv *d, struct spec_nvme_sqe *sqe, const uint64_t *entry,
			uint32_t count)
{
	uint64_t page, *list;
	uint32_t room, at = 0;

	sqe->prp1 = entry[0];
	sqe->prp2 = count == 2 ? entry[1] : 0;
	if (count <= 2)
		return 0;
	page = list_page(d);
	if (!page)
		return -ENOMEM;
	sqe->prp2 = page + d->list_offset;
	list = nvmedrv_host(d, sqe->prp2, SPEC_NVME_PAGE - d->list_offset);
	room = (SPEC_NVME_PAGE - d->list_offset) / 8;
	for (uint32_t i = 1; i < count; i++) {
		if (at == room - 1 && i + 1 < count) {
			page = list_page(d);
			if (!page)
				return -ENOMEM;
			list[at] = page;
			list = nvmedrv_host(d, page, SPEC_NVME_PAGE);
			room = SPEC_NVME_PAGE / 8;
			at = 0;
		}
		list[at++] = entry[i];
	}
	return 0;
}

int nvmedrv_prp(struct nvmedrv *d, struct spec_nvme_sqe *sqe, uint64_t iova, uint64_t len)
{
	uint64_t entry[1025];
	uint64_t end = iova + len, at = iova;
	uint32_t count = 0;

	while (at < end || !count) {
		if (count == 1025)
			return -EINVAL;
		entry[count++] = at;
		at = (at & ~(uint64_t)(SPEC_NVME_PAGE - 1)) + SPEC_NVME_PAGE;
	}
	return nvmedrv_prp_entries(d, sqe, entry, count);
}

/* 4.4: one descriptor in the command; more of them are a segment that it points to. */
int nvmedrv_sgl(struct nvmedrv *d, struct spec_nvme_sqe *sqe, const struct spec_nvme_sgl *desc,
		uint32_t count)
{
	struct spec_nvme_sgl link, *link_at = &link;
	uint32_t per = d->sgl_per_segment ? d->sgl_per_segment : count;

	if (count == 1)
		link = desc[0];
	for (uint32_t i = 0; count > 1 && i < count;) {
		bool last = count - i <= per;
		uint32_t n = last ? count - i : per - 1;
		uint64_t page = list_page(d);
		struct spec_nvme_sgl *seg;
		uint32_t bytes = (n + !last) * (uint32_t)sizeof(*seg);

		if (!page || !n || bytes > SPEC_NVME_PAGE - d->list_offset)
			return page ? -EINVAL : -ENOMEM;
		page += d->list_offset;
		seg = nvmedrv_host(d, page, bytes);
		*link_at = (struct spec_nvme_sgl){
			.address = page,
			.length = bytes,
			.type = last ? SPEC_NVME_SGL_LAST : SPEC_NVME_SGL_SEGMENT,
		};
		memcpy(seg, desc + i, n * sizeof(*seg));
		link_at = seg + n;
		i += n;
	}
	memcpy(&sqe->prp1, &link, sizeof(link));
	sqe->flags = (uint8_t)((sqe->flags & 0x3f) | SPEC_NVME_PSDT_SGL);
	return 0;
}

/* ---- doorbells ---- */

static int doorbell_write(struct nvmedrv *d, uint32_t index, uint32_t value)
{
	d->doorbell_writes++;
	if (d->tr.doorbells) {
		__atomic_store_n(&d->tr.doorbells[index], value, __ATOMIC_RELEASE);
		return 0;
	}
	if (d->tr.doorbell)
		return d->tr.doorbell(d->tr.t, index, value);
	return nvmedrv_reg32_set(d, SPEC_NVME_DOORBELL + 4 * index, value);
}

int nvmedrv_doorbell(struct nvmedrv *d, uint32_t index, uint32_t old, uint32_t value)
{
	uint16_t wanted;

	if (!d->shadow || index < 2)
		return doorbell_write(d, index, value);
	__atomic_store_n(&d->shadow[index], value, __ATOMIC_RELEASE);
	/* The device writes EventIdx, then looks at the shadow doorbell once more. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	wanted = (uint16_t)__atomic_load_n(&d->eventidx[index], __ATOMIC_ACQUIRE);
	if ((uint16_t)(value - wanted - 1) < (uint16_t)(value - old))
		return doorbell_write(d, index, value);
	d->doorbell_skips++;
	return 0;
}

int nvmedrv_sq_ring(struct nvmedrv *d, unsigned sqid)
{
	struct nvmedrv_sq *sq = &d->sq[sqid];
	uint32_t old = sq->told_tail;

	sq->told_tail = sq->tail;
	return nvmedrv_doorbell(d, 2 * sqid, old, sq->tail);
}

int nvmedrv_cq_ring(struct nvmedrv *d, unsigned cqid)
{
	struct nvmedrv_cq *cq = &d->cq[cqid];
	uint32_t old = cq->told_head;

	if (old == cq->head)
		return 0;
	cq->told_head = cq->head;
	return nvmedrv_doorbell(d, 2 * cqid + 1, old, cq->head);
}

/* ---- submission ---- */

static int slot_take(struct nvmedrv_sq *sq)
{
	for (uint32_t i = 0; i < sq->slot_count; i++) {
		uint32_t k = sq->next_slot;

		sq->next_slot = k + 1 < sq->slot_count ? k + 1 : 0;
		if (!sq->slot[k].in_flight)
			return (int)k;
	}
	return -ENOSPC;
}

int nvmedrv_submit(struct nvmedrv *d, unsigned sqid, const struct spec_nvme_sqe *sqe, void *tag)
{
	struct nvmedrv_sq *sq = &d->sq[sqid];
	uint32_t next = sq->tail + 1 < sq->size ? sq->tail + 1 : 0;
	struct nvmedrv_slot *s;
	int cid;

	if (next == sq->head)
		return -ENOSPC;
	cid = slot_take(sq);
	if (cid < 0)
		return cid;
	s = &sq->slot[cid];
	s->tag = tag;
	s->in_flight = true;
	s->list_count = (uint8_t)d->building_count;
	memcpy(s->lists, d->building, sizeof(s->lists));
	d->building_count = 0;
	sq->in_flight++;
	sq->ring[sq->tail] = *sqe;
	sq->ring[sq->tail].cid = (uint16_t)cid;
	sq->tail = next;
	return cid;
}

/* ---- completion ---- */

static uint32_t distance(uint32_t from, uint32_t to, uint32_t size)
{
	return to >= from ? to - from : to + size - from;
}

/* 4.6: what every completion must satisfy; a submission queue that was just deleted may still
 * have some. */
static int check(struct nvmedrv *d, unsigned cqid, const struct spec_nvme_cqe *c)
{
	const struct nvmedrv_sq *sq = c->sqid < NVMEDRV_QUEUES ? &d->sq[c->sqid] : NULL;

	if (!sq || !sq->slot || sq->cqid != cqid)
		return nvmedrv_broken(d, "queue %u: completion of submission queue %u", cqid,
				      c->sqid);
	if (c->cid >= sq->slot_count || !sq->slot[c->cid].in_flight)
		return nvmedrv_broken(d, "queue %u: identifier %u of queue %u is not in flight",
				      cqid, c->cid, c->sqid);
	if (c->sqhd >= sq->size)
		return nvmedrv_broken(d, "queue %u: head %u of %u entries", c->sqid, c->sqhd,
				      sq->size);
	if (distance(sq->head, c->sqhd, sq->size) > distance(sq->head, sq->told_tail, sq->size))
		return nvmedrv_broken(d, "queue %u: head %u is not between %u and tail %u", c->sqid,
				      c->sqhd, sq->head, sq->told_tail);
	return 0;
}

static void slot_end(struct nvmedrv *d, struct nvmedrv_sq *sq, struct nvmedrv_slot *s)
{
	if (!s->in_flight)
		return;
	s->in_flight = false;
	sq->in_flight--;
	while (s->list_count) {
		uint64_t page = s->lists[--s->list_count];

		if (d->page_count < NVMEDRV_PAGES)
			d->page[d->page_count++] = page;
	}
}

int nvmedrv_reap(struct nvmedrv *d, unsigned cqid, struct nvmedrv_done *ret)
{
	struct nvmedrv_cq *cq = &d->cq[cqid];
	struct spec_nvme_cqe *e = &cq->ring[cq->head];
	uint16_t status = __atomic_load_n(&e->status, __ATOMIC_ACQUIRE);
	struct nvmedrv_sq *sq;
	int rc;

	if ((status & 1) != cq->phase)
		return 0;
	ret->cqe = *e;
	ret->status = status >> 1 & 0x7ff;
	ret->dnr = status >> 15;
	ret->tag = NULL;
	rc = check(d, cqid, &ret->cqe);
	if (rc && d->strict)
		return rc;
	if (!rc) {
		sq = &d->sq[ret->cqe.sqid];
		sq->head = ret->cqe.sqhd;
		ret->tag = sq->slot[ret->cqe.cid].tag;
		slot_end(d, sq, &sq->slot[ret->cqe.cid]);
	}
	if (++cq->head == cq->size) {
		cq->head = 0;
		cq->phase = !cq->phase;
	}
	if (!d->lazy_head) {
		rc = nvmedrv_cq_ring(d, cqid);
		if (rc)
			return rc;
	}
	return 1;
}

int nvmedrv_idle(struct nvmedrv *d)
{
	return d->tr.idle ? d->tr.idle(d->tr.t) : 0;
}

/* 1: an interrupt; 0: none before the end, -errno. In slices when the device may want more of us.
 */
static int interrupt_wait(struct nvmedrv *d, int fd, int64_t end)
{
	for (;;) {
		int64_t left = end - nvmedrv_now_ms();
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t n;
		int rc;

		if (left <= 0)
			return 0;
		if (d->tr.idle && left > 2)
			left = 2;
		if (poll(&p, 1, (int)left) == 1 && read(fd, &n, 8) == 8) {
			d->interrupts++;
			return 1;
		}
		rc = nvmedrv_idle(d);
		if (rc)
			return rc;
	}
}

static int late(struct nvmedrv *d, unsigned cqid, struct nvmedrv_done *ret)
{
	if (d->cq[cqid].fd >= 0 && d->strict && nvmedrv_reap(d, cqid, ret) == 1)
		return nvmedrv_broken(d, "queue %u: a completion without its interrupt", cqid);
	nvmedrv_broken(d, "queue %u: no completion within %d ms", cqid, d->timeout_ms);
	return -ETIMEDOUT;
}

int nvmedrv_wait(struct nvmedrv *d, unsigned cqid, struct nvmedrv_done *ret)
{
	int64_t end = nvmedrv_now_ms() + d->timeout_ms;
	int fd = d->cq[cqid].fd;

	for (;;) {
		int rc = nvmedrv_reap(d, cqid, ret);

		if (rc)
			return rc < 0 ? rc : 0;
		if (nvmedrv_now_ms() >= end)
			return late(d, cqid, ret);
		if (fd >= 0) {
			rc = interrupt_wait(d, fd, end);
			if (rc == 0)
				return late(d, cqid, ret);
		} else {
			rc = nvmedrv_idle(d);
			nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
		}
		if (rc < 0)
			return rc;
	}
}

/* ---- whole commands ---- */

int nvmedrv_do(struct nvmedrv *d, unsigned sqid, const struct spec_nvme_sqe *sqe,
	       struct nvmedrv_done *ret)
{
	struct nvmedrv_done done;
	int rc = nvmedrv_submit(d, sqid, sqe, &done);

	if (rc < 0)
		return rc;
	rc = nvmedrv_sq_ring(d, sqid);
	if (!rc)
		rc = nvmedrv_wait(d, d->sq[sqid].cqid, &done);
	if (rc)
		return rc;
	if (done.tag != &done)
		return nvmedrv_broken(d, "queue %u: a completion of another command", sqid);
	if (ret)
		*ret = done;
	return done.status;
}

struct spec_nvme_sqe nvmedrv_rw_sqe(uint8_t opcode, uint32_t nsid, uint64_t slba, uint32_t blocks)
{
	return (struct spec_nvme_sqe){ .opcode = opcode,
				       .nsid = nsid,
				       .cdw10 = (uint32_t)slba,
				       .cdw11 = (uint32_t)(slba >> 32),
				       .cdw12 = blocks - 1 };
}

int nvmedrv_rw(struct nvmedrv *d, unsigned sqid, uint8_t opcode, uint32_t nsid, uint64_t slba,
	       uint32_t blocks, uint64_t iova, uint32_t block_bytes)
{
	struct spec_nvme_sqe sqe = nvmedrv_rw_sqe(opcode, nsid, slba, blocks);
	int rc = nvmedrv_prp(d, &sqe, iova, (uint64_t)blocks * block_bytes);

	return rc ? rc : nvmedrv_do(d, sqid, &sqe, NULL);
}
