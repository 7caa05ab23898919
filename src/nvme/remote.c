/*
 * Memory that the maps lack: a front without descriptors of the guest's memory offers messages
 * (nvme_port_ops.dma). The data of such a command is in a bounce buffer. Slow, but whole: lists
 * and data may be partly mapped, and what is mapped is copied.
 *
 *   walk: pieces of guest memory, lists read by messages --> data from the guest: into the buffer
 *   --> c->next --> nvme_cmd_end --> data to the guest: out of the buffer --> nvme_cmd_end again
 *
 * One message at a time for each command. REMOTE_BYTES_MAX for each queue: more commands wait.
 */
#include "nvme/remote.h"

#include <stdlib.h>
#include <string.h>

#include "nvme/dptr_walk.h"

#define REMOTE_BYTES_MAX (2 * NVME_TRANSFER_MAX)

struct extent {
	uint64_t addr;
	uint32_t len_bytes;
	bool skip; /* thrown away */
};

struct nvme_remote {
	struct nvme_cmd *c;
	struct nvme_mem *m;
	struct nvme_dma dma;
	void (*resume)(struct nvme_remote *r);
	uint64_t charge_bytes;
	uint8_t *buf; /* all of the data */
	uint32_t i;   /* the extent that is moved */
	uint64_t done_bytes;
	uint32_t count;
	struct dptr_walk walk;
	struct extent extents[NVME_IOV_MAX];
};

static uint64_t remote_charge(const struct nvme_cmd *c)
{
	return sizeof(struct nvme_remote) + c->data_bytes;
}

static void remote_free(struct nvme_remote *r)
{
	r->m->remote_bytes -= r->charge_bytes;
	if (!list_empty(&r->m->remote_wait))
		nvme_mem_work_queue(r->m);
	r->c->remote = NULL;
	r->c->data_bits &= (uint8_t)~NVME_DATA_REMOTE;
	free(r->buf);
	free(r);
}

static void remote_fail(struct nvme_remote *r, enum nvme_status status)
{
	struct nvme_cmd *c = r->c;

	remote_free(r);
	nvme_cmd_end(c, status);
}

/* ---- messages ---- */

static void dma_done(struct nvme_dma *dma, int rc)
{
	struct nvme_remote *r = container_of(dma, struct nvme_remote, dma);

	if (rc < 0)
		remote_fail(r, NVME_SC_DATA_TRANSFER_ERROR);
	else
		r->resume(r);
}

static void dma_start(struct nvme_remote *r, uint64_t addr, void *buf, uint64_t len_bytes,
		      bool to_guest, void (*resume)(struct nvme_remote *r))
{
	const struct nvme_ctrl_params *p = &r->m->ctrl->params;

	r->resume = resume;
	r->dma = (struct nvme_dma){ .iova = addr,
				    .buf = buf,
				    .len_bytes = len_bytes,
				    .to_guest = to_guest,
				    .loop = r->m->loop,
				    .done = dma_done };
	p->ops->dma(p->port, &r->dma);
}

/* ---- moving the data ---- */

/* false: this extent is not all mapped. */
static bool extent_copy(struct nvme_remote *r, const struct extent *e)
{
	struct iovec pieces[GMEM_REGIONS_MAX];
	struct nvme_mem *m = r->m;
	bool out = r->c->dir == NVME_TO_GUEST;
	struct nvme_mem_side *s = out ? &m->to_guest : &m->from_guest;
	uint32_t count = nvme_mem_translate(s, e->addr, e->len_bytes, pieces, ARRAY_SIZE(pieces));

	if (!count)
		return false;
	if (out) {
		iov_copy_in(pieces, count, 0, r->buf + r->done_bytes, e->len_bytes);
		if (m->dirty)
			gdirty_mark_iov(m->dirty, s->map, pieces, count, e->len_bytes);
	} else {
		iov_copy_out(pieces, count, 0, r->buf + r->done_bytes, e->len_bytes);
	}
	return true;
}

/* All extents, from the one that is due; false: a message is under way, then resume is called. */
static bool remote_move(struct nvme_remote *r, void (*resume)(struct nvme_remote *r))
{
	while (r->i < r->count) {
		const struct extent *e = &r->extents[r->i++];
		uint64_t at = r->done_bytes;

		if (e->skip || extent_copy(r, e)) {
			r->done_bytes += e->len_bytes;
			continue;
		}
		r->done_bytes += e->len_bytes;
		dma_start(r, e->addr, r->buf + at, e->len_bytes, r->c->dir == NVME_TO_GUEST,
			  resume);
		return false;
	}
	return true;
}

/* ---- the start: where the data is, and data from the guest ---- */

static void remote_ready(struct nvme_remote *r)
{
	struct nvme_cmd *c = r->c;

	r->i = 0;
	r->done_bytes = 0;
	c->own[0] = (struct iovec){ .iov_base = r->buf, .iov_len = c->data_bytes };
	c->iov = c->own;
	c->iov_count = 1;
	iov_cur_init(&c->data, c->iov, 1, c->data_bytes);
	c->next(c);
}

static void remote_fetch(struct nvme_remote *r)
{
	if (remote_move(r, remote_fetch))
		remote_ready(r);
}

static bool extent_add(struct nvme_remote *r, bool skip)
{
	const struct dptr_walk *w = &r->walk;
	struct extent *last = r->count ? &r->extents[r->count - 1] : NULL;

	if (last && last->skip == skip && (skip || last->addr + last->len_bytes == w->addr)) {
		last->len_bytes += w->len_bytes;
		return true;
	}
	if (r->count == NVME_IOV_MAX)
		return false;
	r->extents[r->count++] =
		(struct extent){ .addr = w->addr, .len_bytes = w->len_bytes, .skip = skip };
	return true;
}

static void remote_walk(struct nvme_remote *r)
{
	struct dptr_walk *w = &r->walk;

	for (;;) {
		enum dptr_step step = dptr_walk_next(w);

		switch (step) {
		case DPTR_DONE:
			if (r->c->dir == NVME_FROM_GUEST)
				remote_fetch(r);
			else
				remote_ready(r);
			return;
		case DPTR_PIECE:
		case DPTR_SKIP:
			if (!extent_add(r, step == DPTR_SKIP)) {
				remote_fail(r, NVME_SC_INVALID_SGL_COUNT);
				return;
			}
			break;
		case DPTR_READ:
			if (nvme_mem_read(&r->m->lists, w->addr, &w->entries, w->len_bytes))
				break;
			dma_start(r, w->addr, &w->entries, w->len_bytes, false, remote_walk);
			return;
		case DPTR_FAIL:
			remote_fail(r, w->status);
			return;
		}
	}
}

static void remote_begin(struct nvme_cmd *c, struct nvme_mem *m)
{
	struct nvme_remote *r = malloc(sizeof(*r));
	uint8_t *buf = calloc(1, c->data_bytes); /* nothing of ours reaches the guest */

	if (!r || !buf) {
		free(r);
		free(buf);
		nvme_cmd_end(c, NVME_SC_INTERNAL_ERROR);
		return;
	}
	r->c = c;
	r->m = m;
	r->buf = buf;
	r->count = r->i = 0;
	r->done_bytes = 0;
	r->charge_bytes = remote_charge(c);
	m->remote_bytes += r->charge_bytes;
	c->remote = r;
	c->data_bits |= NVME_DATA_REMOTE;
	dptr_walk_begin(&r->walk, &c->sqe, (uint32_t)c->data_bytes, c->dir);
	remote_walk(r);
}

static bool remote_room(const struct nvme_mem *m, const struct nvme_cmd *c)
{
	return m->remote_bytes + remote_charge(c) <= REMOTE_BYTES_MAX;
}

void nvme_remote_start(struct nvme_cmd *c, struct nvme_mem *m)
{
	if (list_empty(&m->remote_wait) && remote_room(m, c))
		remote_begin(c, m);
	else
		list_append(&m->remote_wait, &c->wait_node);
}

bool nvme_remote_wake(struct nvme_mem *m)
{
	struct nvme_cmd *c;

	if (list_empty(&m->remote_wait))
		return false;
	c = list_entry(m->remote_wait.next, struct nvme_cmd, wait_node);
	if (!remote_room(m, c))
		return false;
	list_remove(&c->wait_node);
	nvme_mem_work_queue(m); /* maybe the next one, too */
	remote_begin(c, m);
	return true;
}

/* ---- the end: data to the guest ---- */

static void remote_send(struct nvme_remote *r)
{
	struct nvme_cmd *c = r->c;

	if (!remote_move(r, remote_send))
		return;
	remote_free(r);
	nvme_cmd_end(c, NVME_SC_SUCCESS);
}

bool nvme_remote_end(struct nvme_cmd *c, struct nvme_mem *m, bool success)
{
	struct nvme_remote *r = c->remote;

	if (success && c->dir == NVME_TO_GUEST && !remote_move(r, remote_send))
		return false;
	remote_free(r);
	return true;
}
