/*
 * From data pointers to pieces of guest memory: the twin of virtq/chain.c. dptr_walk.c says what
 * PRP entries and SGL descriptors mean; here they are copied, once, and addresses translated.
 *
 *   nvme_data_quick  one or two pages in the command: in the header, for rw.c
 *   nvme_data        everything, on the command's thread
 *   remote.c         from here when a byte is not mapped and the port has messages for it
 *
 * Pieces that are neighbours in our address space become one. The first few are in the command;
 * more go to an array of the queue's pool. No more than IOV_ARRAYS_MAX arrays are in use by a
 * queue: then a command waits until another one ends. The second half of a fused pair does not
 * wait, since it would wait for what the first halves of others hold.
 */
#include "nvme/dptr_walk.h"

#include <stdlib.h>
#include <string.h>

#include "nvme/limits.h"
#include "nvme/remote.h"

#define IOV_ARRAYS_MAX 64
#define SINK_BYTES     (64u << 10)

struct iov_array {
	struct list node; /* in the pool */
	struct iovec iov[NVME_IOV_MAX];
};

/* What a map without regions looks like. */
static const struct gmem_region no_region;

/* ---- what a queue knows of memory ---- */

static void side_set(struct nvme_mem_side *s, struct gmem *map)
{
	s->map = map;
	s->hint = 0;
	s->hot = map ? &map->regions[0] : &no_region;
}

static void mem_work(struct loop_work *work);

void nvme_mem_init(struct nvme_mem *m, struct nvme_ctrl *ctrl, struct loop *loop)
{
	*m = (struct nvme_mem){ .ctrl = ctrl, .loop = loop, .work.fn = mem_work };
	list_init(&m->free);
	list_init(&m->waiters);
	list_init(&m->remote_wait);
	list_init(&m->scratch_wait);
	nvme_mem_maps_set(m, NULL, NULL, NULL);
}

void nvme_mem_fini(struct nvme_mem *m)
{
	struct iov_array *a, *next;

	ASSERT(!m->arrays && !m->remote_bytes && !m->scratch_bytes && !m->work_queued);
	list_for_each_safe(a, next, &m->free, node)
		free(a);
	free(m->sink);
}

void nvme_mem_maps_set(struct nvme_mem *m, struct gmem *readable, struct gmem *writable,
		       struct gdirty *dirty)
{
	side_set(&m->from_guest, readable);
	side_set(&m->lists, readable);
	side_set(&m->to_guest, writable);
	m->dirty = dirty;
	/* nvme_data_quick does not know the log: it finds nothing then */
	if (dirty)
		m->to_guest.hot = &no_region;
}

/* That of the queue, or, for data that began on main, that of the controller. */
static struct nvme_mem *data_mem(const struct nvme_cmd *c)
{
	return c->data_bits & NVME_DATA_ON_MAIN ? &c->mem->ctrl->mem : c->mem;
}

uint32_t nvme_mem_translate(struct nvme_mem_side *s, uint64_t addr, uint64_t len_bytes,
			    struct iovec *ret_iov, uint32_t max)
{
	return s->map ? gmem_translate(s->map, gpa(addr), len_bytes, ret_iov, max, &s->hint) : 0;
}

bool nvme_mem_read(struct nvme_mem_side *s, uint64_t addr, void *to, size_t len_bytes)
{
	struct iovec pieces[GMEM_REGIONS_MAX];
	uint32_t count = nvme_mem_translate(s, addr, len_bytes, pieces, ARRAY_SIZE(pieces));

	if (!count)
		return false;
	iov_copy_out(pieces, count, 0, to, len_bytes);
	/* The compiler must not go back to the guest's memory for what was copied. */
	__asm__ volatile("" ::: "memory");
	return true;
}

/* ---- arrays ---- */

static struct iovec *array_take(struct nvme_mem *m)
{
	struct iov_array *a;

	if (!list_empty(&m->free)) {
		a = list_entry(m->free.next, struct iov_array, node);
		list_remove(&a->node);
	} else {
		a = malloc(sizeof(*a));
		if (!a)
			return NULL;
	}
	m->arrays++;
	return a->iov;
}

void nvme_mem_work_queue(struct nvme_mem *m)
{
	if (m->work_queued)
		return;
	m->work_queued = true;
	loop_defer(m->loop, &m->work);
}

static void array_give(struct nvme_mem *m, struct iovec *iov)
{
	struct iov_array *a = container_of(iov, struct iov_array, iov[0]);

	m->arrays--;
	if (m->arrays < IOV_ARRAYS_MAX)
		list_append(&m->free, &a->node);
	else
		free(a);
	if (!list_empty(&m->waiters))
		nvme_mem_work_queue(m);
}

/* ---- pieces ---- */

struct pieces {
	struct nvme_mem *m;
	struct nvme_cmd *c;
	struct iovec *iov, *at, *end;
	char *tail; /* where the last one ends */
};

/* Not a status of the specification: the walk cannot end now. */
enum {
	WALK_WAIT = -1,	  /* for an array */
	WALK_REMOTE = -2, /* memory that the maps lack */
};

static bool second_half(const struct nvme_cmd *c)
{
	return c->exclusive && c->row->flags & CMD_FUSE_SECOND;
}

/* Room for count more, which may move all there are into an array. */
static int pieces_room(struct pieces *p, uint32_t count)
{
	size_t have = (size_t)(p->at - p->iov);
	struct iovec *big;

	if (count <= (size_t)(p->end - p->at))
		return 0;
	if (have + count > NVME_IOV_MAX)
		return NVME_SC_INVALID_SGL_COUNT;
	if (p->m->arrays >= IOV_ARRAYS_MAX && !second_half(p->c))
		return WALK_WAIT;
	big = array_take(p->m);
	if (!big)
		return NVME_SC_INTERNAL_ERROR;
	p->c->data_bits |= NVME_DATA_ARRAY;
	memcpy(big, p->iov, have * sizeof(*big));
	p->iov = p->c->iov = big;
	p->at = big + have;
	p->end = big + NVME_IOV_MAX;
	return 0;
}

static int pieces_add_one(struct pieces *p, void *base, size_t len)
{
	int rc;

	if ((char *)base == p->tail) {
		p->at[-1].iov_len += len;
	} else {
		rc = pieces_room(p, 1);
		if (unlikely(rc))
			return rc;
		*p->at++ = (struct iovec){ .iov_base = base, .iov_len = len };
	}
	p->tail = (char *)base + len;
	return 0;
}

static __attribute__((noinline)) int pieces_add_slow(struct pieces *p, struct nvme_mem_side *s,
						     uint64_t addr, uint32_t len)
{
	struct iovec scratch[GMEM_REGIONS_MAX];
	uint32_t count = nvme_mem_translate(s, addr, len, scratch, ARRAY_SIZE(scratch));
	int rc = 0;

	if (!count)
		return p->m->ctrl->params.ops->dma ? WALK_REMOTE : NVME_SC_DATA_TRANSFER_ERROR;
	if (!(s == &p->m->to_guest && p->m->dirty))
		s->hot = &s->map->regions[s->hint];
	for (uint32_t i = 0; i < count && !rc; i++)
		rc = pieces_add_one(p, scratch[i].iov_base, scratch[i].iov_len);
	return rc;
}

static inline int pieces_add(struct pieces *p, struct nvme_mem_side *s, uint64_t addr, uint32_t len)
{
	uint64_t off = addr - s->hot->gpa;

	if (likely(nvme_region_holds(s->hot, off, len)))
		return pieces_add_one(p, s->hot->base + off, len);
	return pieces_add_slow(p, s, addr, len);
}

/* What a bit bucket throws away goes to memory of the queue that nobody reads. */
static int pieces_add_sink(struct pieces *p, uint32_t len)
{
	struct nvme_mem *m = p->m;
	int rc = 0;

	if (!m->sink)
		m->sink = malloc(SINK_BYTES);
	if (!m->sink)
		return NVME_SC_INTERNAL_ERROR;
	p->tail = NULL;
	for (uint32_t part; len && !rc; len -= part) {
		part = MIN(len, SINK_BYTES);
		rc = pieces_add_one(p, m->sink, part);
		p->tail = NULL;
	}
	return rc;
}

/* ---- the walk ---- */

static int data_walk(struct nvme_cmd *c, struct nvme_mem *m, struct pieces *p)
{
	struct nvme_mem_side *s = c->dir == NVME_TO_GUEST ? &m->to_guest : &m->from_guest;
	struct dptr_walk w;
	int rc = 0;

	dptr_walk_begin(&w, &c->sqe, (uint32_t)c->data_bytes, c->dir);
	while (!rc) {
		switch (dptr_walk_next(&w)) {
		case DPTR_DONE:
			return 0;
		case DPTR_PIECE:
			rc = pieces_add(p, s, w.addr, w.len_bytes);
			break;
		case DPTR_SKIP:
			rc = pieces_add_sink(p, w.len_bytes);
			break;
		case DPTR_READ:
			if (!nvme_mem_read(&m->lists, w.addr, &w.entries, w.len_bytes))
				rc = m->ctrl->params.ops->dma ? WALK_REMOTE
							      : NVME_SC_DATA_TRANSFER_ERROR;
			break;
		case DPTR_FAIL:
			rc = w.status;
			break;
		}
	}
	return rc;
}

/* Gives the array back; what the data pointer said is to be found out again. */
static void data_drop(struct nvme_cmd *c, struct nvme_mem *m)
{
	if (c->data_bits & NVME_DATA_ARRAY)
		array_give(m, c->iov);
	c->data_bits &= (uint8_t)~NVME_DATA_ARRAY;
	c->iov = c->own;
	c->iov_count = 0;
}

static void data_start(struct nvme_cmd *c, struct nvme_mem *m)
{
	struct pieces p = { .m = m, .c = c, .iov = c->own, .at = c->own };
	int rc;

	p.end = c->own + NVME_IOV_OWN;
	c->iov = c->own;
	rc = data_walk(c, m, &p);
	if (unlikely(rc)) {
		data_drop(c, m);
		if (rc == WALK_WAIT)
			list_append(&m->waiters, &c->wait_node);
		else if (rc == WALK_REMOTE)
			nvme_remote_start(c, m);
		else
			nvme_cmd_end(c, (enum nvme_status)rc);
		return;
	}
	c->iov_count = (uint32_t)(p.at - p.iov);
	if (unlikely(m->dirty) && c->dir == NVME_TO_GUEST)
		c->data_bits |= NVME_DATA_DIRTY;
	iov_cur_init(&c->data, c->iov, c->iov_count, c->data_bytes);
	c->next(c);
}

static bool array_wake(struct nvme_mem *m)
{
	struct nvme_cmd *c;

	if (list_empty(&m->waiters) || m->arrays >= IOV_ARRAYS_MAX)
		return false;
	c = list_entry(m->waiters.next, struct nvme_cmd, wait_node);
	list_remove(&c->wait_node);
	nvme_mem_work_queue(m); /* maybe the next one, too */
	data_start(c, m);
	return true;
}

/* Something that commands wait for is there again: one goes on each time. */
static void mem_work(struct loop_work *work)
{
	struct nvme_mem *m = container_of(work, struct nvme_mem, work);

	m->work_queued = false;
	if (!array_wake(m) && !nvme_scratch_wake(m))
		nvme_remote_wake(m);
}

/* NVME_PROFILE_VHOST: an admin command's data is in our memory. */
static void data_flat(struct nvme_cmd *c, struct nvme_mem *m)
{
	if (c->data_bytes > NVME_IDENTIFY_BYTES) {
		nvme_cmd_end(c, NVME_SC_INVALID_FIELD);
		return;
	}
	c->own[0] = (struct iovec){ .iov_base = m->flat, .iov_len = c->data_bytes };
	c->iov = c->own;
	c->iov_count = 1;
	iov_cur_init(&c->data, c->iov, 1, c->data_bytes);
	c->next(c);
}

void nvme_data(struct nvme_cmd *c, uint64_t len_bytes, enum nvme_dir dir,
	       void (*next)(struct nvme_cmd *c))
{
	uint8_t psdt = c->sqe.flags >> NVME_SQE_PSDT_SHIFT;
	struct nvme_mem *m;

	ASSERT(dir != NVME_DIR_NONE && !c->data_bits);
	if (unlikely(c->extra & NVME_CMD_ON_MAIN))
		c->data_bits = NVME_DATA_ON_MAIN;
	m = data_mem(c);
	c->next = next;
	c->dir = dir;
	c->data_bytes = len_bytes;
	if (unlikely(!len_bytes)) {
		iov_cur_init(&c->data, c->own, 0, 0);
		next(c);
	} else if (unlikely(m->flat)) {
		data_flat(c, m);
	} else if (len_bytes > nvme_transfer_max(m->ctrl) ||
		   /* admin commands have PRP only (base 4.2); no SGL where none is offered */
		   (psdt && (psdt == 3 || c->row->admin ||
			     m->ctrl->params.profile == NVME_PROFILE_VHOST))) {
		nvme_cmd_end(c, NVME_SC_INVALID_FIELD);
	} else {
		data_start(c, m);
	}
}

bool nvme_data_is_here(const struct nvme_cmd *c)
{
	return !(c->extra & NVME_CMD_ON_MAIN) || c->data_bits & NVME_DATA_ON_MAIN;
}

bool nvme_data_end(struct nvme_cmd *c, bool success)
{
	struct nvme_mem *m = data_mem(c);

	ASSERT(nvme_data_is_here(c));
	if (c->data_bits & NVME_DATA_REMOTE && !nvme_remote_end(c, m, success))
		return false;
	if (c->data_bits & NVME_DATA_SCRATCH)
		nvme_scratch_end(c);
	if (c->data_bits & NVME_DATA_DIRTY)
		gdirty_mark_iov(m->dirty, m->to_guest.map, c->iov, c->iov_count, c->data_bytes);
	if (c->data_bits & NVME_DATA_ARRAY)
		array_give(m, c->iov);
	c->data_bits = 0;
	return true;
}

/* ---- what an admin command answers ---- */

static void reply_data(struct nvme_cmd *c)
{
	size_t len = MIN(c->vars[7], c->data.left_bytes);

	if (!iov_cur_write_slow(&c->data, c->buf, len) ||
	    !iov_cur_zero(&c->data, c->data.left_bytes))
		UNREACHABLE();
	nvme_cmd_end(c, NVME_SC_SUCCESS);
}

void nvme_cmd_reply(struct nvme_cmd *c, const void *from, size_t len, size_t alloc_bytes)
{
	len = MIN(len, alloc_bytes);
	if (!len) {
		from = "";
		len = alloc_bytes ? 1 : 0;
	}
	if (!alloc_bytes) {
		nvme_cmd_end(c, NVME_SC_SUCCESS);
		return;
	}
	/* a copy, since where it goes may be known late: lists by messages */
	if (c->has_buf && from >= (void *)c->buf && from < (void *)(c->buf + c->buf_bytes)) {
		memmove(c->buf, from, len);
	} else {
		if (!nvme_cmd_scratch(c, len))
			return;
		memcpy(c->buf, from, len);
	}
	c->vars[7] = len;
	nvme_data(c, alloc_bytes, NVME_TO_GUEST, reply_data);
}
