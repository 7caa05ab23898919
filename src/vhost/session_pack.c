/*
 * A session in a hand-over: brought to a halt between two messages with all rings STOPPED, written,
 * and made again in the successor. What the front-end told is written as facts; which rings run
 * follows from them, as always. Thread: main.
 */
#include <errno.h>

#include "base/parcel.h"
#include "loop/placement.h"
#include "vhost/session.h"

#define SESSION_TAG	"vses"
#define SESSION_VERSION 1
#define RING_TAG	"ring"
#define RING_VERSION	1
#define RING_ANYWHERE	UINT32_MAX

void session_freeze(struct session *s, bool frozen)
{
	if (s->state == SESSION_CLOSING || s->frozen == frozen)
		return;
	s->frozen = frozen;
	if (frozen)
		talk_freeze(&s->talk, true);
	session_rings_reconcile(s);
	session_advance(s);
	if (!frozen && s->state != SESSION_CLOSING)
		talk_freeze(&s->talk, false);
}

bool session_is_quiet(const struct session *s)
{
	if ((s->state != SESSION_NEGOTIATE && s->state != SESSION_ACTIVE) || s->talk.busy ||
	    s->phase != SESSION_IDLE || s->pending || s->back.stopping)
		return false;
	for (uint32_t i = 0; i < s->ring_count; i++)
		if (s->rings[i].v.state != VRING_STOPPED || s->rings[i].v.cmd != VRING_CMD_NONE)
			return false;
	return true;
}

/* ---- rings ---- */

static uint32_t ring_loop_idx(const struct session *s, const struct session_ring *r)
{
	for (uint32_t i = 0; r->loop && i < s->params.loop_count; i++)
		if (s->params.loops[i] == r->loop)
			return i;
	return RING_ANYWHERE;
}

static void ring_pack(const struct session *s, const struct session_ring *r, struct parcel *p)
{
	struct parcel_section section;

	parcel_section_begin(p, &section, RING_TAG, RING_VERSION);
	parcel_put_u32(p, r->num);
	parcel_put_u32(p, r->have_addr);
	parcel_put_u32(p, r->have_kick);
	parcel_put_u32(p, r->enabled);
	parcel_put_u32(p, r->v.failed);
	parcel_put_u32(p, r->v.drained);
	parcel_put_u32(p, r->v.base);
	parcel_put_u32(p, ring_loop_idx(s, r));
	parcel_put_u32(p, r->addr.flags);
	parcel_put_u64(p, r->addr.desc);
	parcel_put_u64(p, r->addr.used);
	parcel_put_u64(p, r->addr.avail);
	parcel_put_u64(p, r->addr.log);
	parcel_put_fd(p, r->v.kick_fd);
	parcel_put_fd(p, r->v.call_fd);
	parcel_put_fd(p, r->err_fd);
	parcel_section_done(p, &section);
}

/* What SET_VRING_NUM and SET_VRING_BASE would refuse. */
static int ring_check(const struct session *s, const struct session_ring *r, struct err *reterr)
{
	const uint32_t max = MIN(s->vdev->queue_size_max, (uint32_t)VIRTQ_SIZE_MAX);
	const bool packed = s->features & VIRTIO_F_RING_PACKED;

	if (r->num > max)
		return err_set(reterr, -EINVAL,
			       "queue %u: it has %u entries, and at most %u are configured now",
			       r->v.idx, r->num, max);
	if (s->features_set && !packed && r->num && !num_is_pow2(r->num))
		return err_set(reterr, -EINVAL, "queue %u: size: expected a power of two, got %u",
			       r->v.idx, r->num);
	if (s->features_set && !packed && r->v.base > UINT16_MAX)
		return err_set(reterr, -EINVAL, "queue %u: base: expected 0..65535, got %u",
			       r->v.idx, r->v.base);
	return 0;
}

static int ring_unpack(struct session *s, struct session_ring *r, struct parcel *p,
		       struct err *reterr)
{
	struct parcel_section section;
	uint32_t loop;
	int rc = parcel_section_enter(p, &section, RING_TAG, RING_VERSION, reterr);

	if (rc < 0)
		return rc;
	r->num = parcel_take_u32(p);
	r->have_addr = parcel_take_bool(p);
	r->have_kick = parcel_take_bool(p);
	r->enabled = parcel_take_bool(p);
	r->v.failed = parcel_take_bool(p);
	r->v.drained = parcel_take_bool(p);
	r->v.base = parcel_take_u32(p);
	loop = parcel_take_u32(p);
	r->addr.idx = r->v.idx;
	r->addr.flags = parcel_take_count(p, MSG_VRING_F_LOG);
	r->addr.desc = parcel_take_u64(p);
	r->addr.used = parcel_take_u64(p);
	r->addr.avail = parcel_take_u64(p);
	r->addr.log = parcel_take_u64(p);
	vring_fd_set(&r->v.kick_fd, parcel_take_fd(p));
	vring_fd_set(&r->v.call_fd, parcel_take_fd(p));
	r->err_fd = parcel_take_fd(p);
	/* There may be fewer loops now: then it runs anywhere. */
	if (loop < s->params.loop_count)
		r->loop = s->params.loops[loop];
	rc = parcel_section_end(p, &section, RING_TAG, reterr);
	return rc < 0 ? rc : ring_check(s, r, reterr);
}

/* ---- the session ---- */

int session_pack(const struct session *s, struct parcel *p, struct err *reterr)
{
	struct parcel_section section;
	int rc;

	ASSERT(session_is_quiet(s));
	parcel_section_begin(p, &section, SESSION_TAG, SESSION_VERSION);
	parcel_put_u32(p, s->features_set);
	parcel_put_u64(p, s->features);
	parcel_put_u64(p, s->proto_features);
	parcel_put_u32(p, s->status);
	parcel_put_u32(p, s->ring_count);
	for (uint32_t i = 0; i < s->ring_count; i++)
		ring_pack(s, &s->rings[i], p);
	rc = gmem_pack(s->map, p, reterr);
	if (rc == 0)
		rc = gdirty_pack(s->log, p, reterr);
	if (rc == 0)
		rc = inflight_area_pack(&s->inflight, p, reterr);
	if (rc == 0 && s->vdev->ops->pack)
		rc = s->vdev->ops->pack(s->vdev, p, reterr);
	back_channel_pack(&s->back, p);
	conn_pack(&s->talk.conn, p);
	parcel_section_done(p, &section);
	return rc;
}

static int session_features_check(const struct session *s, struct err *reterr)
{
	const uint64_t lost = s->features & ~session_features_offered(s);
	const uint64_t proto_lost = s->proto_features & ~session_proto_features_offered();

	if (lost || proto_lost)
		return err_set(reterr, -EINVAL,
			       "features 0x%llx (protocol features 0x%llx) are in use, and not "
			       "offered as it is configured now",
			       (unsigned long long)lost, (unsigned long long)proto_lost);
	return 0;
}

static int session_facts_unpack(struct session *s, struct parcel *p, struct err *reterr)
{
	uint32_t count;
	int rc;

	s->features_set = parcel_take_bool(p);
	s->features = parcel_take_u64(p);
	s->proto_features = parcel_take_u64(p);
	s->status = (uint8_t)parcel_take_count(p, UINT8_MAX);
	count = parcel_take_u32(p);
	rc = session_features_check(s, reterr);
	if (rc == 0 && !p->failed && count != s->ring_count)
		rc = err_set(reterr, -EINVAL, "queues: it has %u, and %u are configured now", count,
			     s->ring_count);
	for (uint32_t i = 0; i < s->ring_count && rc == 0; i++)
		rc = ring_unpack(s, &s->rings[i], p, reterr);
	if (rc == 0)
		rc = gmem_unpack(p, &s->map, reterr);
	if (rc == 0)
		rc = gdirty_unpack(p, &s->log, reterr);
	if (rc == 0)
		rc = inflight_area_unpack(&s->inflight, p, reterr);
	if (rc == 0 && s->features_set && s->vdev->ops->features_set)
		s->vdev->ops->features_set(s->vdev, s->features);
	if (rc == 0 && s->vdev->ops->unpack)
		rc = s->vdev->ops->unpack(s->vdev, p, reterr);
	return rc;
}

/* The conversation last: from then on it is watched. */
static int session_parts_unpack(struct session *s, struct parcel *p, struct err *reterr)
{
	struct parcel_section section;
	int rc = parcel_section_enter(p, &section, SESSION_TAG, SESSION_VERSION, reterr);
	int back_fd;
	bool owed;

	if (rc == 0)
		rc = session_facts_unpack(s, p, reterr);
	if (rc < 0)
		return rc;
	back_fd = parcel_take_fd(p);
	owed = parcel_take_bool(p);
	rc = talk_unpack(&s->talk, s->params.main_loop, p, s->params.stall_ns, &session_talk_ops,
			 reterr);
	if (rc < 0) {
		vring_fd_set(&back_fd, -1);
		return rc;
	}
	back_channel_restore(&s->back, back_fd, owed);
	for (uint32_t i = 0; i < s->ring_count; i++)
		if (s->rings[i].err_fd >= 0)
			notify_start(&s->rings[i].err_bell, s->params.main_loop,
				     s->rings[i].err_fd);
	session_begin(s);
	return parcel_section_end(p, &section, SESSION_TAG, reterr);
}

int session_unpack(const struct session_params *params, struct vdev *vdev, struct parcel *p,
		   struct session **ret_session, struct err *reterr)
{
	struct session *s;
	int rc = session_make(params, vdev, &s, reterr);

	if (rc < 0)
		return rc;
	rc = session_parts_unpack(s, p, reterr);
	if (rc < 0)
		session_free(s);
	else
		*ret_session = s;
	return rc;
}
