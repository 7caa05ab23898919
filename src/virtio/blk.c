/*
 * virtio-blk requests (virtio 1.3, 5.2.6): from a chain to the block waist and back.
 *
 * A request is a header, data and a status byte; where descriptors begin and end means nothing.
 * The header is the first 16 bytes of the driver's side, gathered from any number of pieces and
 * copied once. The status is the last byte of the device's side. What is between is data.
 *
 *   on_chain -> submitted (one blk_req, or one per segment, one after the other)
 *            -> with write-through on a back-end without FUA: a flush
 *            -> vblk_finish: status byte, virtq_push
 *
 * Invariants:
 *  1. Every chain is pushed exactly once, never before on_chain returned: what is decided at once
 *     (errors, GET_ID) goes through the loop's "done" phase like what a back-end completes.
 *  2. A chain without room for a status byte is given back with used length 0, never dropped.
 *  3. The used length is what was written: data + 1, or 1 when the request failed. The failed
 *     read's byte is the last of the buffer and not the first, as the length alone would have it
 *     (2.7.8.2); drivers find the status by position and none derives it from the length.
 *  4. The range of reads and writes is checked by the waist alone. Segments are checked here as
 *     well, because none may run when one of them is bad.
 *
 * Cases the specification leaves open: a read or write of no bytes and a segment of no sectors are
 * IOERR; data beyond what a request needs is ignored; a GET_ID buffer under 20 bytes gets what
 * fits; FLUSH ignores its sector, and is served whether or not the feature was negotiated.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "blk/tally.h"
#include "virtio/blk_impl.h"

struct vblk_queue {
	struct vblk *dev;
	struct virtq *vq;
	struct loop *loop;
	struct blk_way way;
	const struct blk_caps *caps;
	bool read_only;
	bool fua; /* the back-end does it itself */
	uint64_t negotiated;
};

/* A piece of a discard-like request, copied out of the guest. */
struct vblk_seg {
	uint64_t offset_bytes;
	uint32_t len_sectors512;
	uint32_t flags; /* BLK_UNMAP */
};

struct vblk_req {
	struct vq_chain chain; /* first */
	struct blk_req blk;
	struct vblk_queue *queue;
	uint8_t *status;
	struct virtio_blk_hdr hdr; /* a header that had to be gathered */
	uint32_t written_bytes;	   /* on success */
	bool flush_last;	   /* a flush follows the last write */
	uint8_t seg_count, seg_next;
	struct loop_work work; /* what completes without a back-end */
	struct vblk_seg segs[VBLK_SEGS_MAX];
};

/* From here only the copy counts: the compiler must not go back to the guest's memory for it. */
#define vblk_copied(copy) __asm__ volatile("" : "+r"(copy))

_Static_assert(offsetof(struct vblk_req, chain) == 0, "virtq sizes slots by this");

static uint8_t vblk_status_wire(enum blk_status status)
{
	static const uint8_t table[BLK_ST_COUNT] = {
		[BLK_ST_OK] = VIRTIO_BLK_S_OK,		[BLK_ST_IOERR] = VIRTIO_BLK_S_IOERR,
		[BLK_ST_UNSUPP] = VIRTIO_BLK_S_UNSUPP,	[BLK_ST_RANGE] = VIRTIO_BLK_S_IOERR,
		[BLK_ST_ALIGN] = VIRTIO_BLK_S_IOERR,	[BLK_ST_READ_ONLY] = VIRTIO_BLK_S_IOERR,
		[BLK_ST_NO_SPACE] = VIRTIO_BLK_S_IOERR, [BLK_ST_ABORTED] = VIRTIO_BLK_S_IOERR,
		[BLK_ST_GONE] = VIRTIO_BLK_S_IOERR,	[BLK_ST_NVME] = VIRTIO_BLK_S_IOERR,
	};

	ASSERT(status < BLK_ST_COUNT);
	return table[status];
}

static inline void vblk_finish(struct vblk_req *r, enum blk_status status)
{
	struct virtq *vq = r->queue->vq;

	if (likely(status == BLK_ST_OK)) {
		*r->status = VIRTIO_BLK_S_OK;
		virtq_push(vq, &r->chain, r->written_bytes);
	} else {
		*r->status = vblk_status_wire(status);
		virtq_push(vq, &r->chain, 1); /* see invariant 3 */
	}
}

/* ---- what completes without the back-end ---- */

static void vblk_later_finish(struct loop_work *work)
{
	struct vblk_req *r = container_of(work, struct vblk_req, work);

	vblk_finish(r, (enum blk_status)r->blk.status);
}

static void vblk_later_no_status(struct loop_work *work)
{
	struct vblk_req *r = container_of(work, struct vblk_req, work);

	virtq_push(r->queue->vq, &r->chain, 0);
}

static __attribute__((noinline)) void vblk_finish_later(struct vblk_req *r, enum blk_status status)
{
	r->blk.status = status;
	r->work.fn = vblk_later_finish;
	loop_defer(r->queue->loop, &r->work);
}

/* Nothing of it reaches the back-end: counted here. */
static __attribute__((noinline)) void vblk_refuse(struct vblk_req *r, enum blk_op op,
						  enum blk_status status)
{
	blk_chan_count_refused(r->queue->way.base, op, status);
	vblk_finish_later(r, status);
}

/* ---- read and write ---- */

static void vblk_flush_done(struct blk_req *blk)
{
	vblk_finish(container_of(blk, struct vblk_req, blk), (enum blk_status)blk->status);
}

static __attribute__((noinline)) void vblk_flush_submit(struct vblk_req *r)
{
	r->blk.op = BLK_FLUSH;
	r->blk.flags = 0;
	r->blk.iov = NULL;
	r->blk.iov_count = 0;
	r->blk.offset_bytes = 0;
	r->blk.len_bytes = 0;
	r->blk.done = vblk_flush_done;
	blk_submit(r->queue->way.chan, &r->blk);
}

static void vblk_rw_done(struct blk_req *blk)
{
	struct vblk_req *r = container_of(blk, struct vblk_req, blk);

	if (unlikely(r->flush_last && blk->status == BLK_ST_OK))
		vblk_flush_submit(r);
	else
		vblk_finish(r, (enum blk_status)blk->status);
}

/* How a write becomes durable in this moment: by itself, by a flush after it, or later. */
static inline uint8_t vblk_durability(struct vblk_req *r)
{
	const struct vblk_queue *q = r->queue;
	bool through = atomic_load_explicit(&q->dev->write_through, memory_order_relaxed);

	r->flush_last = through && !q->fua;
	return through && q->fua ? BLK_FUA : 0;
}

static inline void vblk_rw_submit(struct vblk_req *r, uint64_t sector512, uint64_t len)
{
	r->blk.offset_bytes = sector512 << VIRTIO_BLK_SECTOR_SHIFT;
	r->blk.len_bytes = len;
	r->blk.done = vblk_rw_done;
	blk_submit(r->queue->way.chan, &r->blk);
}

static inline bool vblk_rw_sane(uint64_t sector512, uint64_t len)
{
	return likely(len) && likely(sector512 <= UINT64_MAX >> VIRTIO_BLK_SECTOR_SHIFT);
}

static inline void vblk_read(struct vblk_req *r, uint64_t sector512)
{
	struct iov_cur *in = &r->chain.in; /* of which nothing was consumed */

	if (!vblk_rw_sane(sector512, in->left_bytes)) {
		vblk_refuse(r, BLK_READ, BLK_ST_IOERR);
		return;
	}
	r->blk.op = BLK_READ;
	r->blk.flags = 0;
	r->flush_last = false;
	r->written_bytes = (uint32_t)in->left_bytes + 1; /* a chain is under 4 GiB: LENGTH_WRAP */
	r->blk.iov = in->iov;
	r->blk.iov_count = in->count;
	vblk_rw_submit(r, sector512, in->left_bytes);
}

static void vblk_write(struct vblk_req *r, uint64_t sector512)
{
	uint64_t len = r->chain.out.left_bytes;

	if (!vblk_rw_sane(sector512, len) || unlikely(r->queue->read_only)) {
		vblk_refuse(r, BLK_WRITE, r->queue->read_only ? BLK_ST_READ_ONLY : BLK_ST_IOERR);
		return;
	}
	r->blk.op = BLK_WRITE;
	r->blk.flags = vblk_durability(r);
	r->written_bytes = 1;
	r->blk.iov_count = iov_cur_rest(&r->chain.out, &r->blk.iov);
	vblk_rw_submit(r, sector512, len);
}

/* ---- discard, write-zeroes, secure erase ---- */

/* One row per request type that carries segments. */
struct vblk_range_type {
	uint32_t type;
	uint64_t feature;
	enum blk_op op;
	uint32_t flags_legal;
};

static const struct vblk_range_type vblk_range_types[] = {
	{ VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_F_DISCARD, BLK_DISCARD, 0 },
	{ VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_F_WRITE_ZEROES, BLK_WRITE_ZEROES,
	  VIRTIO_BLK_SEG_UNMAP },
	{ VIRTIO_BLK_T_SECURE_ERASE, VIRTIO_BLK_F_SECURE_ERASE, BLK_SECURE_ERASE, 0 },
};

/* Copies and checks one segment. Flags first: an unknown one is UNSUPP (5.2.6.2). */
static enum blk_status vblk_seg_read(struct vblk_req *r, const struct vblk_range_type *t,
				     struct vblk_seg *ret_seg)
{
	const struct blk_caps *caps = r->queue->caps;
	uint64_t size = __atomic_load_n(&caps->size_bytes, __ATOMIC_RELAXED);
	uint64_t limit =
		t->op == BLK_WRITE_ZEROES ? caps->max_zeroes_bytes : caps->max_discard_bytes;
	struct virtio_blk_seg wire;
	uint64_t sector512;
	uint32_t count, flags;

	if (!iov_cur_read(&r->chain.out, &wire, sizeof(wire)))
		return BLK_ST_IOERR;
	sector512 = le64_get(wire.sector512);
	count = le32_get(wire.num_sectors512);
	flags = le32_get(wire.flags);
	vblk_copied(sector512);
	vblk_copied(count);
	vblk_copied(flags);
	if (flags & ~t->flags_legal)
		return BLK_ST_UNSUPP;
	if (!count || count > vblk_seg_sectors_max(limit, caps->block_bytes) ||
	    !num_range_ok(sector512, count, size >> VIRTIO_BLK_SECTOR_SHIFT))
		return BLK_ST_RANGE;
	ret_seg->offset_bytes = sector512 << VIRTIO_BLK_SECTOR_SHIFT;
	ret_seg->len_sectors512 = count;
	ret_seg->flags = (flags & VIRTIO_BLK_SEG_UNMAP) && caps->zeroes_unmap ? BLK_UNMAP : 0;
	if ((ret_seg->offset_bytes | (uint64_t)count << VIRTIO_BLK_SECTOR_SHIFT) &
	    (caps->block_bytes - 1))
		return BLK_ST_ALIGN;
	return BLK_ST_OK;
}

/* 5.2.6.2: UNSUPP for an unknown flag in any segment wins over other faults of the request. */
static enum blk_status vblk_segs_read(struct vblk_req *r, const struct vblk_range_type *t)
{
	uint64_t bytes = r->chain.out.left_bytes;
	enum blk_status worst = BLK_ST_OK;

	if (!bytes || bytes % sizeof(struct virtio_blk_seg) ||
	    bytes / sizeof(struct virtio_blk_seg) > VBLK_SEGS_MAX)
		return BLK_ST_IOERR;
	r->seg_count = (uint8_t)(bytes / sizeof(struct virtio_blk_seg));
	r->seg_next = 0;
	for (uint32_t i = 0; i < r->seg_count; i++) {
		enum blk_status st = vblk_seg_read(r, t, &r->segs[i]);

		if (st == BLK_ST_UNSUPP)
			return st;
		if (st != BLK_ST_OK)
			worst = st;
	}
	return worst;
}

static void vblk_seg_submit(struct vblk_req *r);

static void vblk_seg_done(struct blk_req *blk)
{
	struct vblk_req *r = container_of(blk, struct vblk_req, blk);

	if (blk->status != BLK_ST_OK)
		vblk_finish(r, (enum blk_status)blk->status);
	else if (r->seg_next < r->seg_count)
		vblk_seg_submit(r);
	else if (r->flush_last)
		vblk_flush_submit(r);
	else
		vblk_finish(r, BLK_ST_OK);
}

/* blk.op is that of the request; BLK_FUA stays in blk.flags from segment to segment. */
static void vblk_seg_submit(struct vblk_req *r)
{
	const struct vblk_seg *seg = &r->segs[r->seg_next++];

	r->blk.flags = (uint8_t)((r->blk.flags & BLK_FUA) | seg->flags);
	r->blk.iov = NULL;
	r->blk.iov_count = 0;
	r->blk.offset_bytes = seg->offset_bytes;
	r->blk.len_bytes = (uint64_t)seg->len_sectors512 << VIRTIO_BLK_SECTOR_SHIFT;
	r->blk.done = vblk_seg_done;
	blk_submit(r->queue->way.chan, &r->blk);
}

static void vblk_range(struct vblk_req *r, const struct vblk_range_type *t)
{
	struct vblk_queue *q = r->queue;
	enum blk_status st;

	if (q->read_only)
		st = BLK_ST_READ_ONLY;
	else if (!(q->negotiated & t->feature))
		st = BLK_ST_UNSUPP;
	else
		st = vblk_segs_read(r, t);
	if (st != BLK_ST_OK) {
		vblk_refuse(r, t->op, st);
		return;
	}
	r->blk.op = t->op;
	r->blk.flags = vblk_durability(r);
	if (t->op != BLK_WRITE_ZEROES && r->blk.flags) {
		r->blk.flags = 0; /* the waist has FUA for writes only */
		r->flush_last = true;
	}
	r->written_bytes = 1;
	vblk_seg_submit(r);
}

/* ---- the rest ---- */

static void vblk_get_id(struct vblk_req *r)
{
	size_t len = MIN(r->chain.in.left_bytes, (uint64_t)VIRTIO_BLK_ID_BYTES);

	if (len && !iov_cur_write_slow(&r->chain.in, r->queue->dev->serial, len)) {
		vblk_refuse(r, BLK_OP_COUNT, BLK_ST_IOERR);
		return;
	}
	r->written_bytes = (uint32_t)len + 1;
	vblk_finish_later(r, BLK_ST_OK);
}

static __attribute__((noinline)) void vblk_other(struct vblk_req *r, uint32_t type)
{
	switch (type) {
	case VIRTIO_BLK_T_FLUSH:
		r->written_bytes = 1;
		vblk_flush_submit(r);
		return;
	case VIRTIO_BLK_T_GET_ID:
		vblk_get_id(r);
		return;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
	case VIRTIO_BLK_T_SECURE_ERASE:
		for (size_t i = 0; i < ARRAY_SIZE(vblk_range_types); i++)
			if (vblk_range_types[i].type == type)
				vblk_range(r, &vblk_range_types[i]);
		return;
	case VIRTIO_BLK_T_GET_LIFETIME: /* no back-end knows it yet, and it is not offered */
	default:
		vblk_refuse(r, BLK_OP_COUNT, BLK_ST_UNSUPP);
		return;
	}
}

static __attribute__((noinline)) bool vblk_status_split_slow(struct vblk_req *r)
{
	struct iovec tail;

	if (!iov_cur_split_tail(&r->chain.in, 1, &tail, 1))
		return false;
	r->status = tail.iov_base;
	return true;
}

/*
 * Takes the status byte, the last of the device's side, away from the data; false when there is
 * none. The first branch is iov_cur_split_tail for what all drivers do.
 */
static inline bool vblk_status_split(struct vblk_req *r)
{
	struct iov_cur *in = &r->chain.in;
	struct iovec *last = in->iov + in->count - 1;

	if (likely(in->count && last->iov_len)) { /* nothing is consumed yet: no skip_bytes */
		size_t rest = last->iov_len - 1;

		r->status = (uint8_t *)last->iov_base + rest;
		last->iov_len = rest;
		in->left_bytes--;
		if (likely(!rest))
			in->count--;
		return true;
	}
	return vblk_status_split_slow(r);
}

static __attribute__((noinline)) bool vblk_hdr_read_slow(struct vblk_req *r)
{
	return iov_cur_read(&r->chain.out, &r->hdr, sizeof(r->hdr));
}

/* The first branch is what iov_cur_read does for a header in a descriptor of its own. */
static inline bool vblk_hdr_read(struct vblk_req *r, uint32_t *ret_type, uint64_t *ret_sector512)
{
	struct iov_cur *out = &r->chain.out;
	const char *from;
	struct le64 sector512;
	struct le32 type;

	if (unlikely(!out->count || out->iov->iov_len != sizeof(r->hdr))) {
		if (!vblk_hdr_read_slow(r))
			return false;
		from = (const char *)&r->hdr;
	} else {
		from = out->iov->iov_base;
		out->iov++;
		out->count--;
		out->left_bytes -= sizeof(r->hdr);
	}
	memcpy(&type, from + offsetof(struct virtio_blk_hdr, type), sizeof(type));
	memcpy(&sector512, from + offsetof(struct virtio_blk_hdr, sector512), sizeof(sector512));
	*ret_type = le32_get(type);
	*ret_sector512 = le64_get(sector512);
	vblk_copied(*ret_type);
	vblk_copied(*ret_sector512);
	return true;
}

static void vblk_on_chain(void *queue, struct vq_chain *chain)
{
	struct vblk_req *r = container_of(chain, struct vblk_req, chain);
	uint64_t sector512;
	uint32_t type;

	r->queue = queue;
	if (unlikely(!vblk_status_split(r))) {
		r->work.fn = vblk_later_no_status;
		loop_defer(r->queue->loop, &r->work);
		return;
	}
	if (unlikely(!vblk_hdr_read(r, &type, &sector512)))
		vblk_refuse(r, BLK_OP_COUNT, BLK_ST_IOERR);
	else if (type == VIRTIO_BLK_T_IN)
		vblk_read(r, sector512);
	else if (likely(type == VIRTIO_BLK_T_OUT))
		vblk_write(r, sector512);
	else
		vblk_other(r, type);
}

/* ---- life ---- */

/*
 * Whole regions, for as long as the channel is open: the ring is drained before any of them goes.
 * Memory added meanwhile is not among them, and works as it does without.
 */
static void vblk_buffers_set(const struct vblk_queue *q)
{
	struct iovec regions[GMEM_REGIONS_MAX];
	uint32_t count = gmem_regions(virtq_map(q->vq), regions, GMEM_REGIONS_MAX);
	struct err err = { 0 };

	if (blk_chan_buffers_set(q->way.base, regions, count, &err) < 0)
		log_notice("guest-buffers: %s; going on without", err.msg);
}

static int vblk_queue_start(struct vdev *vdev, uint32_t idx, struct virtq *vq, struct loop *loop,
			    void **ret_queue, struct err *reterr)
{
	struct vblk *v = vblk_of(vdev);
	struct vblk_queue *q = calloc(1, sizeof(*q));
	int rc;

	if (!q)
		return err_set(reterr, -ENOMEM, "queue %u: out of memory", idx);
	q->dev = v;
	q->vq = vq;
	q->loop = loop;
	q->caps = blk_dev_caps(v->dev);
	q->read_only = v->read_only;
	q->fua = q->caps->fua;
	q->negotiated = v->negotiated;
	rc = blk_way_open(&q->way, v->dev, loop, v->limits, reterr);
	if (rc < 0) {
		free(q);
		return err_prefix(reterr, rc, "queue %u", idx);
	}
	if (v->guest_buffers)
		vblk_buffers_set(q);
	*ret_queue = q;
	return 0;
}

static void vblk_queue_tally(void *queue, struct blk_tally *tally)
{
	blk_way_tally(&((struct vblk_queue *)queue)->way, tally);
}

static void vblk_queue_stop(void *queue)
{
	struct vblk_queue *q = queue;

	blk_way_close(&q->way);
	free(q);
}

static void vblk_queue_drain(void *queue)
{
	blk_way_hurry(&((struct vblk_queue *)queue)->way, true);
}

static void vblk_free(struct vdev *vdev)
{
	struct vblk *v;

	if (!vdev)
		return;
	v = vblk_of(vdev);
	blk_dev_unlisten(&v->listener);
	blk_dev_unref(v->dev);
	blk_limits_unref(v->limits);
	free(v->name);
	free(v);
}

static void vblk_on_resized(struct blk_listener *l)
{
	struct vblk *v = container_of(l, struct vblk, listener);

	if (v->vdev.on_config_change)
		v->vdev.on_config_change(&v->vdev, v->vdev.front);
}

static const struct vdev_ops vblk_ops = {
	.type = "blk",
	.device_id = 2,
	.slot_bytes = sizeof(struct vblk_req),
	.features = vblk_features,
	.features_set = vblk_features_set,
	.config_read = vblk_config_read,
	.config_write = vblk_config_write,
	.reset = vblk_reset,
	.free = vblk_free,
	.pack = vblk_pack,
	.unpack = vblk_unpack,
	.queue_start = vblk_queue_start,
	.queue_tally = vblk_queue_tally,
	.on_chain = vblk_on_chain,
	.queue_drain = vblk_queue_drain,
	.queue_stop = vblk_queue_stop,
};

static int vblk_params_check(const struct vblk_params *p, struct err *reterr)
{
	if (p->num_queues < 1 || p->num_queues > VBLK_NUM_QUEUES_MAX)
		return err_set(reterr, -EINVAL, "num-queues: expected 1..%d, got %u",
			       VBLK_NUM_QUEUES_MAX, p->num_queues);
	if (p->queue_size_max < VBLK_QUEUE_SIZE_MIN || p->queue_size_max > VIRTQ_SIZE_MAX)
		return err_set(reterr, -EINVAL, "queue-size: expected %d..%d, got %u",
			       VBLK_QUEUE_SIZE_MIN, VIRTQ_SIZE_MAX, p->queue_size_max);
	if (p->seg_max > VIRTQ_IOV_MAX - 2)
		return err_set(reterr, -EINVAL, "seg-max: expected 1..%d, got %u",
			       VIRTQ_IOV_MAX - 2, p->seg_max);
	if (p->size_max && p->size_max < 4096)
		return err_set(reterr, -EINVAL, "size-max: expected at least 4096, got %u",
			       p->size_max);
	return 0;
}

int vblk_new(struct blk_dev *dev, const struct vblk_params *params, struct vdev **ret_vdev,
	     struct err *reterr)
{
	const char *serial = params->serial ? params->serial : "";
	struct vblk *v;
	int rc = vblk_params_check(params, reterr);

	if (rc < 0)
		return rc;
	v = calloc(1, sizeof(*v));
	if (v)
		v->name = strdup(params->name ? params->name : "blk");
	if (!v || !v->name) {
		free(v);
		return err_set(reterr, -ENOMEM, "out of memory");
	}
	memcpy(v->serial, serial, strnlen(serial, sizeof(v->serial)));
	v->dev = blk_dev_ref(dev);
	v->limits = blk_limits_ref(params->limits);
	v->read_only = params->read_only || blk_dev_caps(dev)->read_only;
	v->guest_buffers = params->guest_buffers;
	v->num_queues = params->num_queues;
	v->size_max = params->size_max;
	/* header and status must fit beside the data where there are no indirect descriptors */
	v->seg_max = params->seg_max
			     ? params->seg_max
			     : MIN((uint32_t)VBLK_SEG_MAX_DEFAULT, params->queue_size_max - 2);
	v->vdev.ops = &vblk_ops;
	v->vdev.name = v->name;
	v->vdev.queue_count_max = params->num_queues;
	v->vdev.queue_size_max = params->queue_size_max;
	vblk_reset(&v->vdev);
	v->listener.resized = vblk_on_resized;
	blk_dev_listen(dev, &v->listener);
	*ret_vdev = &v->vdev;
	return 0;
}
